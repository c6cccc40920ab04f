//! Letters of one shard to another: what they say, and who acts on each.

use super::Shard;
use super::moves::Traveller;
use super::pending::PendingKey;
use crate::io::Io;

/// What one shard tells another.
pub enum Letter {
    /// A connection whose socket is, or will be, there.
    Traveller(Box<Traveller>),
    /// It goes on there.
    Arrived(PendingKey),
}

impl<I: Io> Shard<I> {
    /// Takes letters, as many as a tick may.
    pub(super) fn handle_mail(&mut self) {
        for _ in 0..LETTERS_PER_TICK {
            match self.endpoint.next_letter() {
                Some(Letter::Traveller(traveller)) => self.take_traveller(traveller),
                Some(Letter::Arrived(move_key)) => self.has_arrived(move_key),
                None => return,
            }
        }
    }
}

/// Letters taken in one tick: each may bring the input of a few receive buffers.
const LETTERS_PER_TICK: usize = 32;
