//! Ends the sending side of a connection while it is still received from.
//!
//! The kernel always hands `IORING_OP_SHUTDOWN` to a worker thread (`REQ_F_FORCE_ASYNC`), which
//! costs two context switches. `shutdown(2)` would not, but it needs a descriptor of the process,
//! which a direct descriptor is not. So the ring installs one for the moment
//! (`IORING_OP_FIXED_FD_INSTALL`, kernel 6.8), and it is closed again behind the shutdown.
#![allow(unsafe_code)]

use std::net::Shutdown;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::{opcode, squeue, types::Fixed};
use slab::Slab;
use socket2::Socket;

use super::Slot;
use super::check;
use super::token::{Key, Token, Verb};

/// The half-closes of one ring.
pub(super) struct HalfCloses {
    may_install: bool,
    installing: Slab<HalfClose>,
}

/// One half-close that is under way.
struct HalfClose {
    key: Key,
    slot: Slot,
}

/// What became of an installation.
pub(super) enum Installed {
    /// The half-close is over; it was left out when the send before it was not whole.
    Ended(Key),
    /// No descriptor was free: this request does the same without one.
    Instead(squeue::Entry),
}

impl HalfCloses {
    /// None yet; with `may_install` descriptors may be installed.
    pub(super) fn new(may_install: bool) -> Self {
        Self { may_install, installing: Slab::new() }
    }

    /// The request that ends the sending side of `slot`, or brings that about when it completes.
    pub(super) fn begin(&mut self, key: Key, slot: Slot) -> squeue::Entry {
        if !self.may_install || self.installing.len() >= INSTALLED_MAX {
            return shutdown(key, slot);
        }
        let index = self.installing.insert(HalfClose { key, slot });
        // Flags of 0 mean O_CLOEXEC.
        let install = opcode::FixedFdInstall::new(Fixed(slot), 0).build();
        install.user_data(Token::indexed(Verb::Install, index as u32).to_bits())
    }

    /// An installation completed with `result`.
    pub(super) fn installed(&mut self, index: u32, result: i32) -> Option<Installed> {
        let HalfClose { key, slot } = self.installing.try_remove(index as usize)?;
        match check(result) {
            Ok(_) => {
                // SAFETY: the kernel has just installed this descriptor for us, and told nobody
                // else.
                let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(result) });
                // It fails when the peer has reset the connection, which the next receive tells.
                let _ = socket.shutdown(Shutdown::Write);
            }
            Err(libc::ECANCELED) => {}
            Err(_) => return Some(Installed::Instead(shutdown(key, slot))),
        }
        Some(Installed::Ended(key))
    }
}

fn shutdown(key: Key, slot: Slot) -> squeue::Entry {
    let entry = opcode::Shutdown::new(Fixed(slot), libc::SHUT_WR).build();
    entry.user_data(Token::new(Verb::Finish, key).to_bits())
}

/// Descriptors of the process that the half-closes of a ring may take at a time, so that enough are
/// left for everything else under a soft limit of 1,024.
pub(super) const INSTALLED_MAX: usize = 64;
