//! Freed memory goes back to the kernel, also when nobody comes any more. The allocator keeps what
//! was freed for who may want it next, and looks at it again only when something is allocated: a
//! shard that has become quiet would stay as big as it ever was.

use super::Shard;
use super::timers::Tick;
use crate::io::Io;
use crate::memory::allocator;

/// What was freed since memory was last given back, and when to do so again.
pub(super) struct Trim {
    freed_bytes: usize,
    due: Option<Tick>,
    /// Ticks that this shard lets others go ahead: the allocator lets only one thread at a time
    /// give back and turns the others away.
    turn: Tick,
}

impl Trim {
    /// For the shard of this number.
    pub(super) fn new(number: usize) -> Self {
        Self { freed_bytes: 0, due: None, turn: number as Tick % TURNS }
    }

    /// Takes note that about so many bytes are freed.
    pub(super) fn note_freed(&mut self, bytes: usize, now: Tick) {
        self.freed_bytes = self.freed_bytes.saturating_add(bytes);
        if self.freed_bytes >= WORTH_TRIMMING_BYTES && self.due.is_none() {
            self.due = Some(now + TRIM_AFTER + self.turn);
        }
    }

    /// When to give back what was freed; `None` while it is not enough.
    pub(super) fn due(&self) -> Option<Tick> {
        self.due
    }
}

impl<I: Io> Shard<I> {
    /// Gives back what was freed, when that is due.
    pub(super) fn trim_when_due(&mut self) {
        if self.trim.due.is_some_and(|due| due <= self.now) {
            (self.trim.freed_bytes, self.trim.due) = (0, None);
            allocator::collect();
        }
    }
}

/// What a busy shard frees it takes again soon, and it costs page faults to have given it back.
const WORTH_TRIMMING_BYTES: usize = 256 << 10;
/// For how long freed memory is kept at least: a second.
const TRIM_AFTER: Tick = 10;
const TURNS: Tick = 10;
