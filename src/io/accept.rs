//! Accepts: those that go on by themselves, and those that tell who has connected.
//!
//! A multishot accept cannot tell the address of a peer, and a direct descriptor is none that
//! `getpeername(2)` takes. So where addresses are wanted each accept is for one connection and has
//! memory for its address, and several wait at a time.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::ptr;

use io_uring::types::{DestinationSlot, Fd};
use io_uring::{opcode, squeue};
use slab::Slab;

use super::listener::ListeningSocket;
use super::token::{Key, Token, Verb};

/// The accepts of one ring that have memory which the kernel writes to.
#[derive(Default)]
pub(super) struct Accepts {
    /// Boxed: requests point to them, so they stay in their place until those complete.
    addressed: Slab<Box<Addressed>>,
}

/// One accept that tells an address.
struct Addressed {
    listener: u32,
    peer: PeerAddress,
}

/// As much of a `sockaddr` as tells an address of IPv4 or IPv6, and the length that the kernel
/// reads and writes.
#[repr(align(8))]
struct PeerAddress {
    bytes: [u8; size_of::<libc::sockaddr_in6>()],
    len: libc::socklen_t,
}

impl Accepts {
    /// Accepts that have not completed.
    pub(super) fn len(&self) -> usize {
        self.addressed.len()
    }

    /// The request that accepts from `socket`: again and again, or once where other shards accept
    /// from the same queue. A connection wakes the first who waits for one. One accept at a time
    /// puts this ring behind all others after each; a multishot accept stays first for ever.
    pub(super) fn unaddressed(listener: u32, socket: &ListeningSocket) -> squeue::Entry {
        let descriptor = Fd(socket.descriptor.as_raw_fd());
        let entry = match socket.is_shared {
            true => opcode::Accept::new(descriptor, ptr::null_mut(), ptr::null_mut())
                .file_index(Some(DestinationSlot::auto_target()))
                .flags(libc::SOCK_NONBLOCK)
                .build(),
            false => opcode::AcceptMulti::new(descriptor)
                .allocate_file_index(true)
                .flags(libc::SOCK_NONBLOCK)
                .build(),
        };
        entry.user_data(Token::indexed(Verb::Accept, listener).to_bits())
    }

    /// The request that accepts once, and tells who has connected.
    pub(super) fn addressed(&mut self, listener: u32, socket: &ListeningSocket) -> squeue::Entry {
        let peer = PeerAddress { bytes: [0; _], len: size_of::<libc::sockaddr_in6>() as u32 };
        let entry = self.addressed.vacant_entry();
        let key = Key { index: listener, generation: entry.key() as u32 + 1 };
        let Addressed { peer: PeerAddress { bytes, len }, .. } =
            &mut **entry.insert(Box::new(Addressed { listener, peer }));
        opcode::Accept::new(Fd(socket.descriptor.as_raw_fd()), bytes.as_mut_ptr().cast(), len)
            .file_index(Some(DestinationSlot::auto_target()))
            .flags(libc::SOCK_NONBLOCK)
            .build()
            .user_data(Token::new(Verb::Accept, key).to_bits())
    }

    /// The tokens of all accepts on `listener` that may be under way.
    pub(super) fn tokens(&self, listener: u32) -> Vec<Token> {
        let of_listener = self.addressed.iter().filter(|(_, accept)| accept.listener == listener);
        let generations = of_listener.map(|(place, _)| place as u32 + 1);
        let token = |generation| Token::new(Verb::Accept, Key { index: listener, generation });
        std::iter::once(0).chain(generations).map(token).collect()
    }

    /// An accept has completed: the address of the peer, where it was asked for and it has one.
    pub(super) fn complete(&mut self, key: Key) -> Option<IpAddr> {
        let place = key.generation.checked_sub(1)?;
        let accept = self.addressed.try_remove(place as usize);
        debug_assert!(accept.is_some(), "it completes once");
        accept?.peer.address()
    }
}

impl PeerAddress {
    fn address(&self) -> Option<IpAddr> {
        let family = libc::sa_family_t::from_ne_bytes(*self.bytes.first_chunk()?);
        match libc::c_int::from(family) {
            libc::AF_INET => {
                let octets: &[u8; 4] = self.bytes[INET_OFFSET..].first_chunk()?;
                Some(Ipv4Addr::from(*octets).into())
            }
            libc::AF_INET6 => {
                let octets: &[u8; 16] = self.bytes[INET6_OFFSET..].first_chunk()?;
                Some(Ipv6Addr::from(*octets).into())
            }
            _ => None,
        }
    }
}

const INET_OFFSET: usize = offset_of!(libc::sockaddr_in, sin_addr);
const INET6_OFFSET: usize = offset_of!(libc::sockaddr_in6, sin6_addr);
