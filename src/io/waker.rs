//! Wakes shards from a thread that runs no shard: a ring that only sends messages.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use io_uring::types::Fd;
use io_uring::{IoUring, opcode};

use super::ring::MESSAGE;
use super::token::{Key, Token, Verb};

/// A small ring for `MSG_RING` (kernel 5.18).
pub struct Waker {
    ring: IoUring,
    participants: Vec<RawFd>,
}

impl Waker {
    /// A waker of the shards with these rings, by their place in the mesh.
    ///
    /// # Errors
    /// When no ring can be set up.
    pub fn new(participants: Vec<RawFd>) -> io::Result<Self> {
        Ok(Self { ring: IoUring::new(2)?, participants })
    }

    /// Wakes one shard; one that has ended needs no waking.
    pub fn wake(&mut self, participant: usize) {
        let Some(&descriptor) = self.participants.get(participant) else { return };
        let message = Token::new(Verb::Wake, Key { index: 0, generation: MESSAGE }).to_bits();
        let entry = opcode::MsgRingData::new(Fd(descriptor), 0, message, None).build();
        // SAFETY: the request points to no memory.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_ok() {
            let _ = self.ring.submit_and_wait(1);
        }
        self.ring.completion().for_each(drop);
    }
}
