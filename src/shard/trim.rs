//! Asks for freed memory to be given back to the kernel. The allocator keeps freed pages for later
//! use and looks at them again only when something is allocated, so a shard that has become quiet
//! would stay as big as it ever was. Giving back much takes long, so the control thread does it.

use super::Shard;
use super::timers::Tick;
use crate::io::Io;
use crate::memory::allocator;

/// What was freed since memory was last given back, and when to do so again.
pub(super) struct Trim {
    freed_bytes: usize,
    due: Option<Tick>,
    /// Ticks that this shard lets others go ahead, so that what is given back comes bit by bit.
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
            allocator::release();
            self.shared.memory.give_back();
        }
    }
}

/// What a busy shard frees it takes again soon, and it costs page faults to have given it back.
const WORTH_TRIMMING_BYTES: usize = 64 << 10;
/// For how long freed memory is kept at least: a second.
const TRIM_AFTER: Tick = 10;
const TURNS: Tick = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_kept_and_much_is_given_back_a_second_after_it_became_much() {
        let mut trim = Trim::new(0);
        trim.note_freed(WORTH_TRIMMING_BYTES - 1, 5);
        assert_eq!(trim.due(), None);
        trim.note_freed(1, 7);
        assert_eq!(trim.due(), Some(7 + TRIM_AFTER));
        // A shard that always frees something must not put it off for ever.
        trim.note_freed(usize::MAX, 9);
        assert_eq!(trim.due(), Some(7 + TRIM_AFTER));
    }

    #[test]
    fn shards_that_freed_at_once_take_turns() {
        let dues = [0, 1, 11].map(|number| {
            let mut trim = Trim::new(number);
            trim.note_freed(WORTH_TRIMMING_BYTES, 0);
            trim.due()
        });
        assert_eq!(dues, [Some(10), Some(11), Some(11)]);
    }
}
