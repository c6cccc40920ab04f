//! Accepts: those that go on by themselves, and those that tell who has connected.
//!
//! A multishot accept cannot tell the address of a peer, and a direct descriptor is none that
//! `getpeername(2)` takes. So where addresses are wanted each accept is for one connection and has
//! memory for its address, and several wait at a time.
//!
//! Who is at the other end of a Unix socket is told by `getsockopt(2)`, which takes no direct
//! descriptor either. So such a connection is accepted into a descriptor of the process, asked, and
//! then moved to a slot (`IORING_OP_FILES_UPDATE` that chooses it, kernel 6.0).
#![allow(unsafe_code)]

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use io_uring::types::{DestinationSlot, Fd};
use io_uring::{opcode, squeue};
use rustix::net::sockopt;
use slab::Slab;

use super::listener::ListeningSocket;
use super::token::{Key, Token, Verb};
use super::{Errno, Slot, check};
use crate::config::{Credentials, PeerAddress};

/// The accepts of one ring that have memory which the kernel writes to.
#[derive(Default)]
pub(super) struct Accepts {
    /// Boxed: requests point to them, so they stay in their place until those complete.
    addressed: Slab<Box<Addressed>>,
    /// Connections by Unix sockets that have found no free slot yet.
    slotless: Vec<Slotless>,
}

/// One accept that tells an address.
struct Addressed {
    listener: u32,
    step: Step,
}

/// What an accept that tells an address waits for.
enum Step {
    /// A connection that is accepted into a slot, and its address.
    Slot(SocketAddress),
    /// One that is accepted into a descriptor.
    Descriptor,
    /// A slot for one that is in a descriptor.
    Move {
        connection: Slotless,
        /// The descriptor, in whose place the kernel writes the slot.
        place: RawFd,
    },
}

/// A connection that is in a descriptor of the process, and will be in a slot.
struct Slotless {
    listener: u32,
    socket: OwnedFd,
    address: Option<PeerAddress>,
}

/// What a completion has brought.
pub(super) enum Outcome {
    /// The end of an accept, with the address of the peer where it was asked for and it has one.
    Accepted(Result<Slot, Errno>, Option<PeerAddress>),
    /// This request is to be made next.
    Next(squeue::Entry),
}

/// As much of a `sockaddr` as tells an address of IPv4 or IPv6, and the length that the kernel
/// reads and writes.
#[repr(align(8))]
struct SocketAddress {
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
        if let Some(at) = self.slotless.iter().position(|it| it.listener == listener) {
            let connection = self.slotless.swap_remove(at);
            return self.find_slot(connection);
        }
        let descriptor = Fd(socket.descriptor.as_raw_fd());
        let step = match socket.is_unix {
            true => Step::Descriptor,
            false => Step::Slot(SocketAddress::default()),
        };
        self.begin(listener, step, descriptor)
    }

    /// The request that puts a connection into a slot which the kernel chooses.
    fn find_slot(&mut self, connection: Slotless) -> squeue::Entry {
        let (listener, place) = (connection.listener, connection.socket.as_raw_fd());
        self.begin(listener, Step::Move { connection, place }, Fd(place))
    }

    /// Keeps a step, and makes the request that completes it, of this descriptor.
    fn begin(&mut self, listener: u32, step: Step, descriptor: Fd) -> squeue::Entry {
        let vacant = self.addressed.vacant_entry();
        let key = Key { index: listener, generation: vacant.key() as u32 + 1 };
        let accept = vacant.insert(Box::new(Addressed { listener, step }));
        let request = match &mut accept.step {
            Step::Slot(SocketAddress { bytes, len }) => {
                opcode::Accept::new(descriptor, bytes.as_mut_ptr().cast(), len)
                    .file_index(Some(DestinationSlot::auto_target()))
                    .flags(libc::SOCK_NONBLOCK)
                    .build()
            }
            Step::Descriptor => opcode::Accept::new(descriptor, ptr::null_mut(), ptr::null_mut())
                .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)
                .build(),
            Step::Move { place, .. } => {
                opcode::FilesUpdate::new(place, 1).offset(FILE_INDEX_ALLOC).build()
            }
        };
        request.user_data(Token::new(Verb::Accept, key).to_bits())
    }

    /// The tokens of all accepts on `listener` that may be under way.
    pub(super) fn tokens(&self, listener: u32) -> Vec<Token> {
        let of_listener = self.addressed.iter().filter(|(_, accept)| accept.listener == listener);
        let generations = of_listener.map(|(place, _)| place as u32 + 1);
        let token = |generation| Token::new(Verb::Accept, Key { index: listener, generation });
        std::iter::once(0).chain(generations).map(token).collect()
    }

    /// A request of an accept has completed.
    pub(super) fn complete(&mut self, key: Key, result: i32) -> Outcome {
        let slot = check(result).map(|slot| slot as Slot);
        let Some(place) = key.generation.checked_sub(1) else {
            return Outcome::Accepted(slot, None);
        };
        let accept = self.addressed.try_remove(place as usize);
        debug_assert!(accept.is_some(), "it completes once");
        match (accept.map(|accept| accept.step), check(result)) {
            (Some(Step::Slot(address)), _) => Outcome::Accepted(slot, address.address()),
            (Some(Step::Descriptor), Ok(_)) => {
                // SAFETY: the kernel has just made this descriptor for us, and told nobody else.
                let socket = unsafe { OwnedFd::from_raw_fd(result) };
                let address = credentials(&socket).map(PeerAddress::Unix);
                Outcome::Next(self.find_slot(Slotless { listener: key.index, socket, address }))
            }
            (Some(Step::Move { connection, place }), Ok(_)) => {
                // The slot has a reference of its own to the socket.
                Outcome::Accepted(Ok(place as Slot), connection.address)
            }
            (Some(Step::Move { connection, .. }), Err(error)) => {
                // It is tried again when there is room for another accept.
                self.slotless.push(connection);
                Outcome::Accepted(Err(error), None)
            }
            (Some(Step::Descriptor) | None, _) => Outcome::Accepted(slot, None),
        }
    }
}

/// Who has connected by a Unix socket (unix(7), `SO_PEERCRED`).
fn credentials(socket: &OwnedFd) -> Option<Credentials> {
    let peer = sockopt::socket_peercred(socket).ok()?;
    Some(Credentials { user_id: peer.uid.as_raw(), group_id: peer.gid.as_raw() })
}

impl Default for SocketAddress {
    fn default() -> Self {
        Self { bytes: [0; _], len: size_of::<libc::sockaddr_in6>() as libc::socklen_t }
    }
}

impl SocketAddress {
    fn address(&self) -> Option<PeerAddress> {
        let family = libc::sa_family_t::from_ne_bytes(*self.bytes.first_chunk()?);
        match libc::c_int::from(family) {
            libc::AF_INET => {
                let octets: &[u8; 4] = self.bytes[INET_OFFSET..].first_chunk()?;
                Some(IpAddr::from(Ipv4Addr::from(*octets)).into())
            }
            libc::AF_INET6 => {
                let octets: &[u8; 16] = self.bytes[INET6_OFFSET..].first_chunk()?;
                Some(IpAddr::from(Ipv6Addr::from(*octets)).into())
            }
            _ => None,
        }
    }
}

const INET_OFFSET: usize = offset_of!(libc::sockaddr_in, sin_addr);
const INET6_OFFSET: usize = offset_of!(libc::sockaddr_in6, sin6_addr);
/// `IORING_FILE_INDEX_ALLOC`: the kernel is to choose the slot.
const FILE_INDEX_ALLOC: i32 = -1;
