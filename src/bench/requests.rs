//! Requests of one thread's connections: what completes, and what is to be asked for next.
//!
//! Each connection has at most one request of each kind. Whatever its state and marks want is asked
//! for in one place, [`Lane::adjust`], and its slot is freed in one place, [`Lane::wind_up`], when
//! the last request has ended.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::arguments::Close;
use super::failure::Fault;
use super::lane::Lane;
use super::links::{Connection, Flags, State};
use super::plan::Plan;
use super::workload::Workload;
use crate::io::{BufferSlice, Errno, Io, Key, Outgoing, bind_source};

impl<W: Workload> Lane<W> {
    pub(super) fn open(&mut self, index: u32) {
        if self.links.connections[index as usize].state != State::Free {
            return;
        }
        self.links.set_state(index, State::Connecting);
        let key = self.links.key(index);
        let connection = &mut self.links.connections[index as usize];
        if !connection.flags.contains(Flags::TRIES_NEXT) {
            connection.address = self.address;
        }
        connection.flags.remove(Flags::TRIES_NEXT);
        let address = usize::from(connection.address);
        let socket = socket(&self.shared.plan, address, self.links.id(index));
        match socket.and_then(|socket| self.ring.adopt(index, socket)) {
            Ok(()) => {
                self.links.connections[index as usize].flags.insert(Flags::CONNECTING);
                self.ring.connect(key, index, self.peers[address]);
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                self.connect_failed(index, &Fault::Io(errno));
            }
        }
    }

    /// Goes on with the server's next address; after the last one, the connection has failed.
    pub(super) fn connect_failed(&mut self, index: u32, fault: &Fault) {
        let connection = &mut self.links.connections[index as usize];
        let next = connection.address + 1;
        if usize::from(next) < self.peers.len() && !self.is_closing {
            connection.address = next;
            connection.flags.insert(Flags::TRIES_NEXT);
            self.links.drop_connection(index);
        } else {
            // The server may have come back at another address.
            self.address = 0;
            self.links.fail(index, fault);
        }
    }

    pub(super) fn connected(&mut self, key: Key, result: Result<(), Errno>) {
        let Some(connection) = self.links.live(key) else { return };
        connection.flags.remove(Flags::CONNECTING);
        match result {
            _ if connection.state == State::Ending => {}
            Ok(()) => {
                connection.flags.insert(Flags::RECEIVING);
                self.address = connection.address;
                self.ring.receive(key, key.index);
                match &self.shared.plan.way.tunnel {
                    Some(request) => {
                        self.links.go_on(key.index, State::Tunneling);
                        self.links.out(key.index).extend_from_slice(request);
                    }
                    None => self.links.introduce(&self.shared.handshake, key.index),
                }
            }
            Err(errno) => self.connect_failed(key.index, &Fault::Io(errno)),
        }
        self.wind_up(key.index);
    }

    pub(super) fn received(
        &mut self,
        key: Key,
        result: Result<Option<BufferSlice>, Errno>,
        more: bool,
    ) {
        let Some(connection) = self.links.live(key) else {
            if let Ok(Some(slice)) = result {
                self.ring.release(slice);
            }
            return;
        };
        if !more {
            connection.flags.remove(Flags::RECEIVING | Flags::CANCELLING);
        }
        match result {
            Ok(Some(slice)) => {
                let bytes = self.ring.bytes(&slice);
                let (workload, shared) = (&mut self.workload, &*self.shared);
                let arrived = self.links.arrived(workload, shared, key.index, bytes);
                self.ring.release(slice);
                if !matches!(arrived, Ok(false)) && self.links.is_secured(key.index) {
                    // What TLS has to say of an end leaves before it.
                    self.flush(key.index);
                }
                match arrived {
                    Ok(false) => {}
                    Ok(true) => self.links.end_of_stream(&self.workload, key.index),
                    Err(fault) => self.links.fault(&self.workload, key.index, &fault),
                }
            }
            Ok(None) => self.links.end_of_stream(&self.workload, key.index),
            Err(libc::ENOBUFS) => {
                self.starved.push(key.index);
                return;
            }
            Err(libc::ECANCELED) => {}
            Err(errno) => self.links.fault(&self.workload, key.index, &Fault::Io(errno)),
        }
        self.adjust(key.index);
    }

    pub(super) fn sent(&mut self, key: Key, result: Result<usize, Errno>, mut outgoing: Outgoing) {
        let Some(connection) = self.links.live(key) else {
            return self.links.recycle(outgoing);
        };
        connection.flags.remove(Flags::SENDING);
        match result {
            Ok(bytes) if bytes < outgoing.len() && connection.state != State::Ending => {
                advance(&mut outgoing, bytes);
                connection.flags.insert(Flags::SENDING);
                self.ring.send(key, key.index, outgoing);
            }
            Ok(_) => {
                self.links.recycle(outgoing);
                self.flush(key.index);
            }
            Err(errno) => {
                self.links.recycle(outgoing);
                let reads = Flags::RECEIVING | Flags::POLLING;
                let connection = &self.links.connections[key.index as usize];
                // What the server said last is still to be received, and tells more.
                if !connection.flags.intersects(reads) {
                    self.links.fault(&self.workload, key.index, &Fault::Io(errno));
                }
            }
        }
        self.wind_up(key.index);
    }

    pub(super) fn request_ended(&mut self, key: Key, request: Flags) {
        if let Some(connection) = self.links.live(key) {
            connection.flags.remove(request);
            let is_readable = request == Flags::POLLING;
            if is_readable && connection.state != State::Ending {
                connection.flags.insert(Flags::RECEIVING);
                self.ring.receive(key, key.index);
            }
            self.wind_up(key.index);
        }
    }

    pub(super) fn freed(&mut self, key: Key) {
        let Some(connection) = self.links.live(key) else { return };
        let kept = Flags::SETTLED | Flags::TRIES_NEXT | Flags::BACKS_OFF;
        let flags = connection.flags & kept;
        let generation = (connection.generation + 1) % Key::GENERATIONS;
        let address = connection.address;
        *connection = Connection { generation, flags, address, ..Default::default() };
        self.links.occupied -= 1;
        self.links.forget_session(key.index);
        match flags.contains(Flags::TRIES_NEXT) {
            _ if self.is_closing => {}
            true => self.links.to_open.push_front(key.index),
            false => self.workload.closed(&mut self.links, key.index),
        }
    }

    /// Makes a connection's requests what its state and marks want.
    pub(super) fn adjust(&mut self, index: u32) {
        let key = self.links.key(index);
        let connection = &mut self.links.connections[index as usize];
        let flags = connection.flags;
        match connection.state {
            State::Ending => return self.wind_up(index),
            State::Free | State::Connecting => return,
            _ => {}
        }
        let is_parked = flags.contains(Flags::PARKED) && connection.state == State::Open;
        let wants_quiet = is_parked || flags.contains(Flags::PAUSED);
        if flags.contains(Flags::RECEIVING) {
            if wants_quiet && !flags.contains(Flags::CANCELLING) {
                connection.flags.insert(Flags::CANCELLING);
                self.ring.cancel_receive(key);
            }
        } else if flags.contains(Flags::PAUSED) || flags.contains(Flags::POLLING) {
        } else if is_parked {
            connection.flags.insert(Flags::POLLING);
            self.ring.poll(key, index);
        } else {
            connection.flags.insert(Flags::RECEIVING);
            self.ring.receive(key, index);
        }
    }

    /// Ends the requests of a connection that was given up, and frees its slot after the last.
    pub(super) fn wind_up(&mut self, index: u32) {
        let key = self.links.key(index);
        let connection = &mut self.links.connections[index as usize];
        if connection.state != State::Ending || connection.flags.contains(Flags::FREEING) {
            return;
        }
        let flags = connection.flags;
        if !flags.contains(Flags::WOUND_UP) {
            connection.flags.insert(Flags::WOUND_UP);
            if flags.contains(Flags::CONNECTING) {
                self.ring.cancel_connect(key);
            }
            if flags.contains(Flags::RECEIVING) && !flags.contains(Flags::CANCELLING) {
                self.ring.cancel_receive(key);
            }
            if flags.contains(Flags::POLLING) {
                self.ring.cancel_poll(key);
            }
            if flags.contains(Flags::SENDING) {
                connection.flags.insert(Flags::SHUTTING_DOWN);
                self.ring.shutdown(key, index);
            }
        }
        if !connection.flags.intersects(Flags::REQUESTS) {
            connection.flags.insert(Flags::FREEING);
            self.ring.close(key, index);
        }
    }

    pub(super) fn flush(&mut self, index: u32) {
        let key = self.links.key(index);
        let connection = &mut self.links.connections[index as usize];
        if connection.flags.contains(Flags::SENDING) || connection.state == State::Ending {
            return;
        }
        connection.flags.remove(Flags::DIRTY);
        if let Some(outgoing) = self.links.next_outgoing(index) {
            self.links.connections[index as usize].flags.insert(Flags::SENDING);
            self.ring.send(key, index, outgoing);
        }
    }
}

/// A blocking socket: the ring waits by itself, and would not for a non-blocking one.
fn socket(plan: &Plan, address: usize, id: u32) -> io::Result<OwnedFd> {
    let address = &plan.way.addresses[address];
    let socket = Socket::new(address.domain(), Type::STREAM.cloexec(), None)?;
    if address.domain() == Domain::UNIX {
        return Ok(socket.into());
    }
    socket.set_tcp_nodelay(true)?;
    if plan.close == Close::Reset {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    if plan.is_slow(id) {
        // With the default buffer the kernel would absorb megabytes, and the peer not look slow.
        socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
    }
    if let Some(source) = plan.sources.of(id).filter(|_| address.is_ipv4()) {
        bind_source(&socket, source)?;
    }
    Ok(socket.into())
}

/// Drops the first bytes of what a send took in part.
fn advance(outgoing: &mut Outgoing, mut sent: usize) {
    match outgoing {
        Outgoing::One(segment) => segment.advance(sent),
        Outgoing::Many(segments) => {
            let mut whole = 0;
            while let Some(segment) = segments.get_mut(whole).filter(|_| sent > 0) {
                let bytes = segment.len().min(sent);
                segment.advance(bytes);
                sent -= bytes;
                whole += usize::from(segment.is_empty());
            }
            segments.drain(..whole);
        }
    }
}

/// What the kernel receives for a subscriber that will stop reading.
const SLOW_BUFFER_BYTES: usize = 16 << 10;
