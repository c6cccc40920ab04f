//! One TLS connection, in either role.

use std::io::{BufRead, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, HandshakeKind, ProtocolVersion,
    ServerConfig, ServerConnection,
};

/// Why a TLS connection has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Client and server have no version, suite, signature or protocol in common.
    Incompatible,
    /// The certificate of the peer is missing or not valid.
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
    /// A handshake that has ended with them.
    pub handshake: Option<Handshake>,
    /// Whether the peer has said that it sends no more.
    pub is_ended: bool,
    /// Why nothing more can come of this connection.
    pub failure: Option<Failure>,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    rustls: Box<Connection>,
    error: Option<Error>,
    has_closed: bool,
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
        let mut session = Self::over(ClientConnection::new(config, name)?.into());
        session.take_sealed(sealed);
        Ok(session)
    }

    fn over(mut rustls: Connection) -> Self {
        // Whoever calls takes out at once what goes in, and bounds that.
        rustls.set_buffer_limit(None);
        Self { rustls: Box::new(rustls), error: None, has_closed: false }
    }

    /// Whether nothing of the application may be sent yet.
    pub fn is_handshaking(&self) -> bool {
        self.rustls.is_handshaking()
    }

    /// Takes what the peer has sent: appends what it means to `opened`, and what has to be answered
    /// to `sealed`. After a failure or the peer's end nothing is taken any more.
    pub fn receive(
        &mut self,
        mut input: &[u8],
        opened: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> Received {
        let mut received = Received::default();
        let was_handshaking = self.is_handshaking();
        while !input.is_empty() && self.error.is_none() {
            match self.rustls.read_tls(&mut input) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) => {
                    debug_assert!(false, "what was opened has been taken out");
                    break;
                }
            }
            match self.rustls.process_new_packets() {
                Ok(state) => received.is_ended = state.peer_has_closed(),
                Err(error) => {
                    received.failure = Some(Failure::of(&error));
                    self.error = Some(error);
                }
            }
            self.take_opened(opened);
        }
        self.take_sealed(sealed);
        if was_handshaking && !self.is_handshaking() && self.error.is_none() {
            received.handshake = Some(Handshake {
                is_latest: self.rustls.protocol_version() == Some(ProtocolVersion::TLSv1_3),
                is_resumed: self.rustls.handshake_kind() == Some(HandshakeKind::Resumed),
            });
        }
        received
    }

    /// What has failed, in the words of the library.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// The suite that protects what is sent, by its name in the registry, once it is known.
    pub fn suite(&self) -> Option<&'static str> {
        self.rustls.negotiated_cipher_suite()?.suite().as_str()
    }

    /// Appends the records that carry `bytes` to `sealed`. Not to be called within a handshake or
    /// behind the end.
    pub fn seal(&mut self, bytes: &[u8], sealed: &mut Vec<u8>) {
        debug_assert!(!self.is_handshaking() && !self.has_closed, "between handshake and end");
        let is_taken = self.rustls.writer().write_all(bytes);
        debug_assert!(is_taken.is_ok(), "its buffer has no limit");
        self.take_sealed(sealed);
    }

    /// Says that nothing more will be sent (RFC 8446 section 6.1), once, and unless the peer knows
    /// of a failure.
    pub fn close(&mut self, sealed: &mut Vec<u8>) {
        if !self.has_closed && self.error.is_none() {
            self.rustls.send_close_notify();
            self.take_sealed(sealed);
        }
        self.has_closed = true;
    }

    /// Whether [`close`](Self::close) has been called.
    pub fn has_closed(&self) -> bool {
        self.has_closed
    }

    fn take_opened(&mut self, opened: &mut Vec<u8>) {
        let mut reader = self.rustls.reader();
        while let Ok(chunk) = reader.fill_buf()
            && !chunk.is_empty()
        {
            opened.extend_from_slice(chunk);
            let length = chunk.len();
            reader.consume(length);
        }
    }

    fn take_sealed(&mut self, sealed: &mut Vec<u8>) {
        while self.rustls.wants_write() {
            let is_written = self.rustls.write_tls(sealed);
            debug_assert!(is_written.is_ok(), "a vector takes everything");
        }
    }
}

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
