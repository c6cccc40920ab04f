//! Clients by TLS: the library's, between what a model client says and the bytes on the network,
//! which are sealed, cut and kept back as the seed has it.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use fastrand::Rng;
use ringwire::config::Config;
use ringwire::tls::Certificates;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, Error};

use crate::network::{Read, Socket};

#[path = "../seeded_tls/mod.rs"]
mod seeded_tls;

/// Both ends' settings of one run.
#[derive(Clone)]
pub struct Security {
    client: Arc<ClientConfig>,
    pub certificates: Arc<Certificates>,
}

impl Security {
    /// What a run with a listener that speaks TLS takes place with: from here on whatever is random
    /// about it on this thread follows from `seed`. Nothing for other runs.
    pub fn draw(seed: u64, config: &Config) -> Option<Self> {
        if !config.listen[0].tls {
            return None;
        }
        seeded_tls::seed(seed);
        let (version, suite) = match seed % 5 {
            0 => (&TLS12, "ECDHE"),
            1 => (&TLS13, "AES_256"),
            2 => (&TLS13, "CHACHA20"),
            _ => (&TLS13, "AES_128"),
        };
        let (client, server) = seeded_tls::configs(version, suite);
        let certificates = Arc::new(Certificates::from(server));
        Some(Self { client: Arc::new(client), certificates })
    }

    /// The end of a client that has something to say before TLS, and does with the rest what `rng`
    /// has it do.
    pub fn client(&self, before: Vec<u8>, mut rng: Rng) -> SecureEnd {
        let rustls = ClientConnection::new(self.client.clone(), seeded_tls::name());
        let mut rustls = rustls.expect("a client");
        // What it has not said yet is bounded by what calls it.
        rustls.set_buffer_limit(None);
        SecureEnd {
            rustls,
            out: before.into(),
            put_out: 0,
            opened: VecDeque::new(),
            written: 0,
            places: VecDeque::new(),
            says_goodbye: rng.bool(),
            updates_left: if rng.bool() { 8 } else { 0 },
            stalls_behind: None,
            finishes: false,
            is_deaf: false,
            has_broken_in: false,
            rng,
        }
    }
}

/// The end of one client.
pub struct SecureEnd {
    rustls: ClientConnection,
    /// Sealed bytes that have found no room yet, and how many have.
    out: VecDeque<u8>,
    put_out: u64,
    /// What was opened and not read yet.
    opened: VecDeque<u8>,
    /// Bytes that were to be sealed, and for some of those places where the records end.
    written: u64,
    places: VecDeque<(u64, u64)>,
    /// Whether it says that it ends before it does.
    says_goodbye: bool,
    /// How often it still may take another key.
    updates_left: u8,
    /// Behind how many bytes it says nothing more, half a record perhaps.
    stalls_behind: Option<u64>,
    finishes: bool,
    /// It speaks no TLS at all, and does not understand answers.
    is_deaf: bool,
    /// Whether something that is no record is among those.
    has_broken_in: bool,
    rng: Rng,
}

impl SecureEnd {
    /// One that says nothing of TLS.
    pub fn deafen(&mut self) {
        self.is_deaf = true;
    }

    /// From here on no more than so many bytes go out, which may end within a record; or all.
    pub fn hold_back_behind(&mut self, bytes: Option<u64>) {
        self.stalls_behind = bytes.map(|bytes| self.put_out + bytes);
    }

    /// Bytes that are no record, whatever was announced.
    pub fn break_in(&mut self, bytes: &[u8]) {
        self.out.extend(bytes);
        self.has_broken_in = true;
    }

    /// Whether the server may end without saying so: it has said so, or cannot yet.
    pub fn was_told_end(&mut self) -> bool {
        let is_done = self.is_deaf || self.has_broken_in || self.rustls.is_handshaking();
        is_done || self.rustls.process_new_packets().is_ok_and(|it| it.peer_has_closed())
    }

    /// Bytes of the application in the first `consumed` bytes on the network.
    pub fn opened_of(&self, consumed: u64) -> u64 {
        let places = self.places.iter().take_while(|(_, end)| *end <= consumed);
        places.last().map_or(0, |(written, _)| *written)
    }

    /// Lets go out what there is room for, and goes on with the handshake. Whether that was
    /// anything.
    pub fn pump(&mut self, socket: &mut Socket) -> bool {
        let mut is_active = false;
        if self.rustls.is_handshaking()
            && !self.is_deaf
            && let Read::Bytes(bytes) = socket.read_raw(usize::MAX)
        {
            self.take(&bytes);
            is_active = true;
        }
        self.collect();
        is_active | self.put_out(socket)
    }

    fn put_out(&mut self, socket: &mut Socket) -> bool {
        let stalled = self.stalls_behind.map_or(u64::MAX, |it| it.saturating_sub(self.put_out));
        let most = self.out.len().min(usize::try_from(stalled).unwrap_or(usize::MAX));
        let bytes: Vec<u8> = self.out.range(..most).copied().collect();
        let count = if bytes.is_empty() { 0 } else { socket.write_raw(&bytes) };
        self.out.drain(..count);
        self.put_out += count as u64;
        if self.finishes && self.out.is_empty() {
            socket.finish_raw();
            self.finishes = false;
            return true;
        }
        count > 0
    }

    /// Seals what the client says, if all before it has gone out.
    pub fn write(&mut self, socket: &mut Socket, bytes: &[u8]) -> usize {
        self.pump(socket);
        if !self.out.is_empty() {
            return 0;
        }
        if self.is_deaf {
            self.out.extend(bytes);
        } else if self.rustls.is_handshaking() {
            return 0;
        } else {
            if self.updates_left > 0 && self.rng.u8(..8) == 0 {
                // Not there before TLS 1.3.
                self.updates_left -= 1;
                let _ = self.rustls.refresh_traffic_keys();
            }
            self.rustls.writer().write_all(bytes).expect("its buffer has no limit");
            self.collect();
        }
        self.written += bytes.len() as u64;
        self.places.push_back((self.written, self.put_out + self.out.len() as u64));
        self.put_out(socket);
        bytes.len()
    }

    /// Opens what the server has said, as far as the client reads.
    pub fn read(&mut self, socket: &mut Socket, count: usize) -> Read {
        self.pump(socket);
        if self.opened.is_empty() {
            match socket.read_raw(count) {
                Read::Bytes(bytes) => self.take(&bytes),
                other => return other,
            }
            self.collect();
        }
        // Nothing, where a record has only begun.
        let count = count.min(self.opened.len());
        Read::Bytes(self.opened.drain(..count).collect())
    }

    /// Ends what the client says, once that has gone out.
    pub fn finish(&mut self, socket: &mut Socket) {
        if self.says_goodbye && !self.is_deaf {
            // Whoever gives up within a handshake may be told that this is wrong.
            self.has_broken_in |= self.rustls.is_handshaking();
            self.rustls.send_close_notify();
            self.collect();
        }
        self.finishes = true;
        self.put_out(socket);
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_deaf {
            self.rustls.read_tls(&mut bytes).expect("room for a record");
            let result = self.rustls.process_new_packets();
            let mut opened = Vec::new();
            let _ = self.rustls.reader().read_to_end(&mut opened);
            self.opened.extend(opened);
            match result {
                Ok(_) => {}
                Err(Error::AlertReceived(_)) if self.has_broken_in => self.is_deaf = true,
                Err(error) => panic!("the server breaks TLS: {error}"),
            }
        }
    }

    fn collect(&mut self) {
        let mut bytes = Vec::new();
        while self.rustls.wants_write() && !self.is_deaf {
            self.rustls.write_tls(&mut bytes).expect("a vector");
        }
        self.out.extend(bytes);
    }
}
