//! One TLS connection, in either role.

use std::io::{BufRead, Write};
use std::ops::Range;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, ConnectionTrafficSecrets, Error, HandshakeKind,
    ProtocolVersion, ServerConfig, ServerConnection,
};

use super::keys::{Keys, Suite};
use super::records::{Opened, RECORDS_MOST, Records};
use super::secrets::{Capture, Secrets};

/// Why a TLS connection has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Client and server have no version, suite, signature or protocol in common.
    Incompatible,
    /// The certificate of the client is missing or not valid.
    Certificate,
    /// The peer has said that something is wrong on its side.
    Alert,
    /// A record was not protected by the key that both have agreed on.
    Decryption,
    /// What came is no TLS, or breaks its rules.
    Protocol,
}

/// What a handshake has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Whether it is TLS 1.3.
    pub is_latest: bool,
    /// Whether it has gone on with an earlier session.
    pub is_resumed: bool,
}

/// What came of bytes that were received.
#[derive(Debug, Default)]
pub struct Received {
    /// Where in the input what the records carry lies now, one behind the other.
    pub opened: Range<usize>,
    /// A handshake that has ended with them.
    pub handshake: Option<Handshake>,
    /// The certificate of the client, in DER, if it has shown one that is valid.
    pub client: Option<Vec<u8>>,
    /// Whether the peer has said that it sends no more.
    pub is_ended: bool,
    /// Why nothing more can come of this connection.
    pub failure: Option<Failure>,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    protocol: Protocol,
    /// What has failed, as far as the library knows it.
    error: Option<Box<Error>>,
    has_failed: bool,
    has_ended: bool,
    has_closed: bool,
}

/// Who has the records.
#[derive(Debug)]
enum Protocol {
    /// rustls, until a handshake has shown what comes behind it.
    Handshake(Box<Handshaking>),
    /// rustls, for all of TLS 1.2, and for clients.
    Rustls(Box<Connection>),
    /// This program, for servers that speak TLS 1.3.
    Records(Records),
    /// Nobody: the handshake has led to nothing.
    Over,
}

/// A handshake, which is given one record at a time: what comes behind it is not rustls'.
struct Handshaking {
    rustls: Connection,
    secrets: Option<Box<Secrets>>,
    /// The head of the record that has begun, and how much of that is here.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    /// Bytes of its body that are still to come.
    body_left: usize,
}

impl Session {
    /// A session that waits for the client to begin.
    ///
    /// # Errors
    /// None is known for a configuration that was accepted once.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self::over(ServerConnection::new(config)?.into()))
    }

    /// A session with a server of this name, which it begins: what is to be sent for that is
    /// appended to `sealed`.
    ///
    /// # Errors
    /// None is known for a configuration that was accepted once.
    pub fn begin(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        sealed: &mut Vec<u8>,
    ) -> Result<Self, Error> {
        let mut rustls = ClientConnection::new(config, name)?.into();
        take_sealed(&mut rustls, sealed);
        Ok(Self::over(rustls))
    }

    fn over(mut rustls: Connection) -> Self {
        // Whoever calls takes out at once what goes in, and bounds that.
        rustls.set_buffer_limit(None);
        let handshaking =
            Handshaking { rustls, secrets: None, head: [0; 5], head_bytes: 0, body_left: 0 };
        let protocol = Protocol::Handshake(Box::new(handshaking));
        Self { protocol, error: None, has_failed: false, has_ended: false, has_closed: false }
    }

    /// Whether nothing of the application may be sent yet.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.protocol, Protocol::Handshake(_))
    }

    /// Takes what the peer has sent. What it means is appended to `opened` and, behind that, lies
    /// in a range of the input; what has to be answered is appended to `sealed`. After a failure or
    /// the peer's end nothing is taken any more.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        opened: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> Received {
        let mut received = Received::default();
        if self.has_failed || self.has_ended {
            return received;
        }
        let mut start = 0;
        if let Protocol::Handshake(handshaking) = &mut self.protocol {
            start = handshaking.receive(input, sealed, &mut received, &mut self.error);
            if received.handshake.is_some() {
                self.go_on_behind_handshake(&mut received);
            }
        }
        if received.failure.is_none() && start < input.len() {
            match &mut self.protocol {
                Protocol::Handshake(_) | Protocol::Over => {}
                Protocol::Rustls(rustls) => {
                    receive(rustls, &input[start..], opened, &mut received, &mut self.error);
                    take_sealed(rustls, sealed);
                }
                Protocol::Records(records) => {
                    let Opened { range, is_ended, failure } =
                        records.open(&mut input[start..], opened, sealed);
                    received.opened = start + range.start..start + range.end;
                    (received.is_ended, received.failure) = (is_ended, failure);
                }
            }
        }
        self.has_failed = received.failure.is_some();
        self.has_ended = received.is_ended;
        received
    }

    fn go_on_behind_handshake(&mut self, received: &mut Received) {
        match std::mem::replace(&mut self.protocol, Protocol::Over) {
            Protocol::Handshake(handshaking) => match handshaking.end() {
                Ok(protocol) => self.protocol = protocol,
                Err(failure) => received.failure = Some(failure),
            },
            protocol => self.protocol = protocol,
        }
    }

    /// What has failed, in the words of the library, as far as it knows of that.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_deref()
    }

    /// The suite that protects what is sent, by its name in the registry, once it is known.
    pub fn suite(&self) -> Option<&'static str> {
        let rustls = match &self.protocol {
            Protocol::Handshake(handshaking) => &handshaking.rustls,
            Protocol::Rustls(rustls) => rustls,
            Protocol::Records(records) => return Some(records.suite()),
            Protocol::Over => return None,
        };
        rustls.negotiated_cipher_suite()?.suite().as_str()
    }

    /// Appends the records that carry `bytes` to `sealed`. Not to be called within a handshake or
    /// behind the end.
    pub fn seal(&mut self, bytes: &[u8], sealed: &mut Vec<u8>) {
        debug_assert!(!self.has_closed, "nothing comes behind the end");
        match &mut self.protocol {
            Protocol::Handshake(_) | Protocol::Over => {
                debug_assert!(false, "nothing comes before its end");
            }
            Protocol::Rustls(rustls) => {
                let is_taken = rustls.writer().write_all(bytes);
                debug_assert!(is_taken.is_ok(), "its buffer has no limit");
                take_sealed(rustls, sealed);
            }
            Protocol::Records(records) => records.seal(bytes, sealed),
        }
    }

    /// Says that nothing more will be sent (RFC 8446 section 6.1), once, and unless the peer knows
    /// of a failure.
    pub fn close(&mut self, sealed: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_closed, true) || self.has_failed {
            return;
        }
        match &mut self.protocol {
            Protocol::Handshake(handshaking) => {
                handshaking.rustls.send_close_notify();
                take_sealed(&mut handshaking.rustls, sealed);
            }
            Protocol::Rustls(rustls) => {
                rustls.send_close_notify();
                take_sealed(rustls, sealed);
            }
            Protocol::Records(records) => records.close(sealed),
            Protocol::Over => {}
        }
    }

    /// Whether [`close`](Self::close) has been called.
    pub fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Bytes of memory that an incomplete record takes, as far as they are known.
    pub fn held_bytes(&self) -> usize {
        match &self.protocol {
            Protocol::Records(records) => records.held_bytes(),
            Protocol::Handshake(_) | Protocol::Rustls(_) | Protocol::Over => 0,
        }
    }

    /// Forgets what can be made again.
    pub fn rest(&mut self) {
        if let Protocol::Records(records) = &mut self.protocol {
            records.rest();
        }
    }

    /// The same of one that has just been sent something, and may be sent more.
    pub fn rest_after_send(&mut self) {
        if let Protocol::Records(records) = &mut self.protocol {
            records.rest_after_send();
        }
    }
}

impl Handshaking {
    /// Goes on with the handshake, as far as that reaches; tells how much it was.
    fn receive(
        &mut self,
        input: &[u8],
        sealed: &mut Vec<u8>,
        received: &mut Received,
        error: &mut Option<Box<Error>>,
    ) -> usize {
        let (mut start, mut opened) = (0, Vec::new());
        while start < input.len() && received.failure.is_none() && self.rustls.is_handshaking() {
            let end = start + self.part_of_record(&input[start..]);
            receive(&mut self.rustls, &input[start..end], &mut opened, received, error);
            debug_assert!(opened.is_empty(), "the application speaks behind the handshake");
            self.secrets = Capture::take().or_else(|| self.secrets.take());
            start = end;
        }
        take_sealed(&mut self.rustls, sealed);
        if received.failure.is_none() && !self.rustls.is_handshaking() {
            received.handshake = Some(Handshake {
                is_latest: self.rustls.protocol_version() == Some(ProtocolVersion::TLSv1_3),
                is_resumed: self.rustls.handshake_kind() == Some(HandshakeKind::Resumed),
            });
            if let Connection::Server(rustls) = &self.rustls {
                let chain = rustls.peer_certificates();
                received.client = chain.and_then(|it| it.first()).map(|own| own.to_vec());
            }
        }
        start
    }

    /// How much of the input belongs to the record that has begun, or begins with it.
    fn part_of_record(&mut self, input: &[u8]) -> usize {
        let mut taken = 0;
        if self.body_left == 0 {
            let missing = &mut self.head[self.head_bytes..];
            taken = missing.len().min(input.len());
            missing[..taken].copy_from_slice(&input[..taken]);
            self.head_bytes += taken;
            if self.head_bytes < HEAD_BYTES {
                return taken;
            }
            let [_, _, _, high, low] = self.head;
            self.body_left = u16::from_be_bytes([high, low]).into();
            self.head_bytes = 0;
        }
        let body = self.body_left.min(input.len() - taken);
        self.body_left -= body;
        taken + body
    }

    /// What goes on behind the handshake.
    fn end(self) -> Result<Protocol, Failure> {
        let suite = self.rustls.negotiated_cipher_suite().and_then(|it| Suite::of(it.suite()));
        let (suite, rustls) = match (suite, self.rustls) {
            (Some(suite), Connection::Server(rustls)) => (suite, rustls),
            (_, rustls) => return Ok(Protocol::Rustls(Box::new(rustls))),
        };
        let told = "rustls tells the secrets of TLS 1.3";
        let Some((secrets, extracted)) = self.secrets.zip(rustls.dangerous_extract_secrets().ok())
        else {
            debug_assert!(false, "{told}");
            return Err(Failure::Protocol);
        };
        let Secrets { client, server } = &*secrets;
        let [(received, receive), (sent, send)] = [&extracted.rx, &extracted.tx];
        if !fits(suite, client, receive) || !fits(suite, server, send) {
            debug_assert!(false, "{told}");
            return Err(Failure::Protocol);
        }
        let numbers = [*received, *sent];
        Ok(Protocol::Records(Records::new(suite, [client, server], numbers, RECORDS_MOST)))
    }
}

/// Whether what rustls would protect records with follows from `secret`.
fn fits(suite: Suite, secret: &[u8], keys: &ConnectionTrafficSecrets) -> bool {
    match keys {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => {
            secret.len() == suite.secret_bytes()
                && Keys::new(suite, secret).are(suite, key.as_ref(), iv.as_ref())
        }
        _ => false,
    }
}

/// Gives rustls what has arrived, and takes out what that means.
fn receive(
    rustls: &mut Connection,
    mut input: &[u8],
    opened: &mut Vec<u8>,
    received: &mut Received,
    failed: &mut Option<Box<Error>>,
) {
    while !input.is_empty() && received.failure.is_none() && !received.is_ended {
        if rustls.read_tls(&mut input).is_err() {
            // What was opened has been taken out, so it is a message in more records than there is
            // room for.
            received.failure = Some(Failure::Protocol);
            return;
        }
        match rustls.process_new_packets() {
            Ok(state) => received.is_ended = state.peer_has_closed(),
            Err(error) => {
                received.failure = Some(Failure::of(&error));
                *failed = Some(Box::new(error));
            }
        }
        let mut reader = rustls.reader();
        while let Ok(chunk) = reader.fill_buf()
            && !chunk.is_empty()
        {
            opened.extend_from_slice(chunk);
            let length = chunk.len();
            reader.consume(length);
        }
    }
}

fn take_sealed(rustls: &mut Connection, sealed: &mut Vec<u8>) {
    while rustls.wants_write() {
        let is_written = rustls.write_tls(sealed);
        debug_assert!(is_written.is_ok(), "a vector takes everything");
    }
}

impl std::fmt::Debug for Handshaking {
    /// Tells no secrets.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Handshaking").finish_non_exhaustive()
    }
}

/// Bytes before the body of a record.
const HEAD_BYTES: usize = 5;

impl Failure {
    fn of(error: &Error) -> Self {
        match error {
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible,
            Error::NoCertificatesPresented
            | Error::InvalidCertificate(_)
            | Error::UnsupportedNameType
            | Error::InvalidCertRevocationList(_) => Self::Certificate,
            Error::AlertReceived(_) => Self::Alert,
            Error::DecryptError => Self::Decryption,
            _ => Self::Protocol,
        }
    }
}

#[cfg(test)]
mod tests;
