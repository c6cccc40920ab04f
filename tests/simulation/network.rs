//! The network between model clients and simulated kernels: bounded queues of bytes in both
//! directions, and the ends that TCP knows.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use ringwire::config::PeerAddress;
use ringwire::io::{Key, Ticket};

use crate::secure::SecureEnd;

/// A connection, by its place in the network.
pub type SocketId = usize;

/// Everything between clients and kernels.
#[derive(Default)]
pub struct Network {
    pub sockets: Vec<Socket>,
    /// Connections that wait to be accepted, for each shard.
    pub backlogs: Vec<VecDeque<SocketId>>,
    /// Wake-ups on their way to each shard, and, the last, to the control thread.
    pub wakes: Vec<u32>,
    /// Sockets on their way to each shard.
    pub handed_over: Vec<VecDeque<HandOver>>,
    /// What became of those that each shard has handed over.
    pub handed_over_results: Vec<Vec<(Key, Result<(), i32>)>>,
    /// Milliseconds since the start.
    pub now_ms: u64,
}

/// A socket on its way from one shard to another.
pub struct HandOver {
    pub from: usize,
    pub key: Key,
    pub ticket: Ticket,
    pub socket: SocketId,
}

/// How one end of a connection ends its sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN, after all that was sent.
    Finished,
    /// RST.
    Reset,
}

/// What a client gets when it reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Bytes(Vec<u8>),
    Nothing,
    End(End),
}

/// One connection, both ends.
pub struct Socket {
    /// The address that the server sees.
    pub address: PeerAddress,
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// Bytes that fit on the way to the server.
    to_server_capacity: usize,
    /// Bytes that fit on the way to the client.
    to_client_capacity: usize,
    client_end: Option<End>,
    server_end: Option<End>,
    /// Whether the server asked not to receive any more.
    server_reads_no_more: bool,
    /// Slots of the server that hold it.
    holders: u32,
    /// How many others had held it before the one that was the last to get it.
    holders_before: u32,
    /// Whether that one is closed.
    is_left: bool,
    /// Whether the last of them is closed.
    server_closed: bool,
    /// Whether the reset was reported: errors of a socket are told once.
    reset_reported: bool,
    /// Whether closing resets the peer.
    pub lingers_not: bool,
    /// Bytes that the server has received.
    pub consumed: u64,
    /// Bytes that the server has sent.
    pub produced: u64,
    /// What lies between the client and the bytes, by TLS.
    secure: Option<Box<SecureEnd>>,
}

impl Network {
    /// A network of `shards` servers that listen at one address.
    pub fn new(shards: usize) -> Self {
        Self {
            backlogs: vec![VecDeque::new(); shards],
            wakes: vec![0; shards + 1],
            handed_over: (0..shards).map(|_| VecDeque::new()).collect(),
            handed_over_results: vec![Vec::new(); shards],
            ..Self::default()
        }
    }

    /// Connects a client to a shard.
    pub fn connect(&mut self, shard: usize, capacities: (usize, usize)) -> SocketId {
        self.connect_from(ADDRESS, shard, capacities)
    }

    /// Connects a client with this address to a shard.
    pub fn connect_from(
        &mut self,
        address: PeerAddress,
        shard: usize,
        capacities: (usize, usize),
    ) -> SocketId {
        self.sockets.push(Socket {
            address,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            to_server_capacity: capacities.0,
            to_client_capacity: capacities.1,
            client_end: None,
            server_end: None,
            server_reads_no_more: false,
            holders: 1,
            holders_before: 0,
            is_left: false,
            server_closed: false,
            reset_reported: false,
            lingers_not: false,
            consumed: 0,
            produced: 0,
            secure: None,
        });
        let socket = self.sockets.len() - 1;
        self.backlogs[shard].push_back(socket);
        socket
    }

    /// A listener is gone: whoever waited for it is reset.
    pub fn close_listener(&mut self, shard: usize) {
        for socket in std::mem::take(&mut self.backlogs[shard]) {
            self.sockets[socket].server_end = Some(End::Reset);
            self.sockets[socket].server_closed = true;
        }
    }
}

/// The client's side.
impl Socket {
    /// The client speaks TLS from here on.
    pub fn secure(&mut self, end: SecureEnd) {
        self.secure = Some(Box::new(end));
    }

    /// Does something with the client's end of TLS, if it has one.
    pub fn with_secure<T>(
        &mut self,
        act: impl FnOnce(&mut SecureEnd, &mut Self) -> T,
    ) -> Option<T> {
        let mut end = self.secure.take()?;
        let result = act(&mut end, self);
        self.secure = Some(end);
        Some(result)
    }

    /// Lets TLS go on by itself, if there is any; whether it did.
    pub fn pump(&mut self) -> bool {
        self.with_secure(SecureEnd::pump).unwrap_or(false)
    }

    /// Bytes of the client that the server has received whole.
    pub fn consumed_by_application(&self) -> u64 {
        let consumed = self.consumed;
        self.secure.as_ref().map_or(consumed, |end| end.opened_of(consumed))
    }

    /// Sends as much of `bytes` as fits.
    pub fn client_write(&mut self, bytes: &[u8]) -> usize {
        let written = self.with_secure(|end, socket| end.write(socket, bytes));
        written.unwrap_or_else(|| self.write_raw(bytes))
    }

    /// Sends as much of `bytes` as fits, as they are.
    pub fn write_raw(&mut self, bytes: &[u8]) -> usize {
        if self.server_closed {
            // The answer to data for a closed socket is RST.
            self.server_end = Some(End::Reset);
            return bytes.len();
        }
        let room = self.to_server_capacity.saturating_sub(self.to_server.len());
        let count = bytes.len().min(room);
        self.to_server.extend(&bytes[..count]);
        count
    }

    /// Receives at most `count` bytes.
    pub fn client_read(&mut self, count: usize) -> Read {
        let read = self.with_secure(|end, socket| end.read(socket, count));
        read.unwrap_or_else(|| self.read_raw(count))
    }

    /// Receives at most `count` bytes, as they are.
    pub fn read_raw(&mut self, count: usize) -> Read {
        if !self.to_client.is_empty() {
            let count = count.min(self.to_client.len());
            return Read::Bytes(self.to_client.drain(..count).collect());
        }
        self.server_end.map_or(Read::Nothing, Read::End)
    }

    /// Sends FIN, behind all that was sent.
    pub fn client_finish(&mut self) {
        let has_finished = self.with_secure(|end, socket| end.finish(socket));
        has_finished.unwrap_or_else(|| self.finish_raw());
    }

    /// Sends FIN at once.
    pub fn finish_raw(&mut self) {
        self.client_end.get_or_insert(End::Finished);
    }

    /// Sends RST, which may overtake what is on its way.
    pub fn client_reset(&mut self, overtakes: bool) {
        self.client_end = Some(End::Reset);
        if overtakes {
            self.to_server.clear();
        }
    }
}

/// The server's side.
impl Socket {
    /// Bytes to receive.
    pub fn readable(&self) -> usize {
        self.to_server.len()
    }

    /// What ends the stream behind the readable bytes.
    pub fn read_end(&self) -> Option<End> {
        match self.client_end {
            Some(End::Reset) if !self.reset_reported => Some(End::Reset),
            Some(_) => Some(End::Finished),
            None if self.server_reads_no_more => Some(End::Finished),
            None => None,
        }
    }

    /// Receives into `bytes`, all of which are readable.
    pub fn receive(&mut self, bytes: &mut [u8]) {
        let count = bytes.len();
        for (to, from) in bytes.iter_mut().zip(self.to_server.drain(..count)) {
            *to = from;
        }
        self.consumed += count as u64;
    }

    /// Takes note that the reset has been reported.
    pub fn report_reset(&mut self) {
        self.reset_reported = true;
    }

    /// Whether the server has closed it.
    pub fn is_closed(&self) -> bool {
        self.server_closed
    }

    /// Bytes that were sent and that the peer has not read.
    pub fn unread(&self) -> usize {
        self.to_client.len()
    }

    /// Bytes that may be sent now.
    pub fn writable(&self) -> usize {
        self.to_client_capacity.saturating_sub(self.to_client.len())
    }

    /// What a send fails with.
    pub fn write_error(&mut self) -> Option<i32> {
        if self.server_end.is_some() {
            return Some(libc::EPIPE);
        }
        match self.client_end {
            Some(End::Reset) if !std::mem::replace(&mut self.reset_reported, true) => {
                Some(libc::ECONNRESET)
            }
            Some(End::Reset) => Some(libc::EPIPE),
            _ => None,
        }
    }

    /// Whether a send would fail.
    pub fn is_broken(&self) -> bool {
        self.server_end.is_some() || self.client_end == Some(End::Reset)
    }

    /// Whether the server's sending side has ended.
    pub fn has_finished(&self) -> bool {
        self.server_end.is_some()
    }

    /// Sends bytes, all of which fit.
    pub fn send(&mut self, bytes: impl Iterator<Item = u8>) {
        let before = self.to_client.len();
        self.to_client.extend(bytes);
        self.produced += (self.to_client.len() - before) as u64;
    }

    /// Shuts down the sending side.
    pub fn finish(&mut self) {
        self.server_end.get_or_insert(End::Finished);
    }

    /// Shuts down both directions.
    pub fn shut_down(&mut self) {
        self.finish();
        self.server_reads_no_more = true;
    }

    /// Another slot holds it as well; tells how many have before.
    pub fn share(&mut self) -> u32 {
        self.holders += 1;
        self.holders_before += 1;
        self.is_left = false;
        self.holders_before
    }

    /// The slot is closed that so many have held it before.
    pub fn leave(&mut self, holders_before: u32) {
        self.is_left |= holders_before == self.holders_before;
    }

    /// Whether the shard has closed it that was the last to get it; one that it came from may hold
    /// it a little longer.
    pub fn is_left(&self) -> bool {
        self.is_left
    }

    /// Closes a slot. With the last one the connection ends; with `overtakes`, an RST loses what is
    /// on its way to the client.
    pub fn server_close(&mut self, overtakes: bool) {
        self.holders -= 1;
        if self.holders > 0 {
            return;
        }
        self.server_closed = true;
        if !self.lingers_not && self.to_server.is_empty() {
            self.server_end.get_or_insert(End::Finished);
            return;
        }
        self.server_end = Some(End::Reset);
        if overtakes {
            self.to_client.clear();
        }
    }
}

/// Whoever has no other address.
const ADDRESS: PeerAddress = PeerAddress::Ip(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
