//! What a client needs of the ring: sockets it made itself, and their connecting.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::opcode;
use io_uring::types::Fixed;
use socket2::{SockAddr, Socket};

use super::ring::Ring;
use super::token::{Key, Token, Verb};
use super::{Errno, Slot, socket_option};

/// Peers to connect to, and connects that completed.
#[derive(Default)]
pub(super) struct Connects {
    /// Boxed: requests point to them, so they stay in their place as long as the ring.
    #[expect(clippy::vec_box, reason = "the addresses must not move while requests name them")]
    peers: Vec<Box<SockAddr>>,
    completed: VecDeque<(Key, Result<(), Errno>)>,
}

impl Connects {
    /// Keeps the result of a connect for [`Ring::next_connected`].
    pub(super) fn complete(&mut self, key: Key, result: Result<(), Errno>) {
        self.completed.push_back((key, result));
    }
}

impl Ring {
    /// Takes a peer to connect to and returns the number by which [`Ring::connect`] names it.
    pub fn add_peer(&mut self, peer: SockAddr) -> usize {
        self.connects.peers.push(Box::new(peer));
        self.connects.peers.len() - 1
    }

    /// Puts `socket` into a free slot of the table of registered files and closes its descriptor,
    /// so that it does not count against `RLIMIT_NOFILE` any more (kernel 5.5).
    ///
    /// # Errors
    /// What `IORING_REGISTER_FILES_UPDATE` answers; `EINVAL` when the table has no such slot.
    pub fn adopt(&mut self, slot: Slot, socket: OwnedFd) -> io::Result<()> {
        self.submitter().register_files_update(slot, &[socket.as_raw_fd()]).map(|_| ())
    }

    /// Connects the socket in `slot`; [`Ring::next_connected`] tells the result (kernel 5.5).
    ///
    /// # Panics
    /// `peer` is not a number that [`Ring::add_peer`] returned.
    pub fn connect(&mut self, key: Key, slot: Slot, peer: usize) {
        let peer = &self.connects.peers[peer];
        let entry = opcode::Connect::new(Fixed(slot), peer.as_ptr().cast(), peer.len()).build();
        self.push(entry.user_data(Token::new(Verb::Connect, key).to_bits()));
    }

    /// Ends a connect, which then completes with `ECANCELED`.
    pub fn cancel_connect(&mut self, key: Key) {
        self.cancel(Token::new(Verb::Connect, key));
    }

    /// The next connect that completed, once [`super::Io::next_event`] has no more events.
    pub fn next_connected(&mut self) -> Option<(Key, Result<(), Errno>)> {
        self.connects.completed.pop_front()
    }
}

/// Gives `socket` a source address, and leaves the choice of its port to the connect, which knows
/// the whole pair: so the ports of a source are there for each destination again
/// (`IP_BIND_ADDRESS_NO_PORT`, kernel 4.2).
///
/// # Errors
/// When the address is not one of this machine.
pub fn bind_source(socket: &Socket, source: Ipv4Addr) -> io::Result<()> {
    socket_option::set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    socket.bind(&SockAddr::from(SocketAddrV4::new(source, 0)))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::io::probe::Abilities;
    use crate::io::{Io, RingOptions};

    fn connect_to(address: std::net::SocketAddr) -> Result<(), Errno> {
        let options = RingOptions {
            abilities: Abilities::default(),
            slots: 4,
            receive_buffers: 1,
            receive_buffer_bytes: 4096,
            batch_wait_us: None,
        };
        let mut ring = Ring::new(&options).expect("io_uring is what this crate is for");
        let peer = ring.add_peer(address.into());
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        ring.adopt(3, socket.expect("a socket").into()).expect("slot 3 is free");
        let key = Key { index: 3, generation: 9 };
        ring.connect(key, 3, peer);
        loop {
            ring.submit(Some(Duration::from_secs(1))).expect("a tick");
            assert!(ring.next_event().is_none());
            if let Some((found, result)) = ring.next_connected() {
                assert_eq!(found, key);
                return result;
            }
        }
    }

    #[test]
    fn an_adopted_socket_connects_or_tells_why_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        assert_eq!(connect_to(address), Ok(()));
        listener.accept().expect("the connection");
        drop(listener);
        assert_eq!(connect_to(address), Err(libc::ECONNREFUSED));
    }
}
