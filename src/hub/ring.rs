//! Lock-free bounded single-producer broadcast ring: the only memory that shards share.
//!
//! Every reader sees every value, in order, at its own cursor. A slot is reused only when all
//! readers have passed it, so nothing is overwritten unread; a full ring hands the value back
//! instead, and the publisher slows down.
//!
//! Positions are 64-bit sequence numbers that never wrap (584 years at one value a nanosecond);
//! the slot of a position is its low bits. Three rules make the slots safe to share:
//!
//! 1. Only the producer writes slots, and only at positions in `tail .. slowest cursor +
//!    capacity` or, to drop what was read, below the slowest cursor.
//! 2. A reader touches only `its cursor .. tail`, so the two never meet in one slot.
//! 3. `tail` moves by Release after the slot is written and is read by Acquire before the slot is
//!    read; a cursor moves by Release after the slots were read and is read by Acquire before
//!    they are written.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Deref;

#[cfg(ringwire_loom)]
pub(super) use loom::cell::UnsafeCell;
#[cfg(ringwire_loom)]
use loom::sync;
#[cfg(not(ringwire_loom))]
use std::sync;

use sync::Arc;
use sync::atomic::{AtomicU64, Ordering};

/// The writing end of a ring made by [`ring`]; one thread at a time, by `&mut self`.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// The next position to write; `shared.tail` is its published copy.
    tail: u64,
    /// The slowest cursor when last looked at, and with it the first position whose value is
    /// still in the ring. Stale means too low, never too high: the ring may seem fuller than it
    /// is.
    reclaimed: u64,
    not_sync: PhantomData<Cell<()>>,
}

impl<T: Send + Sync> Producer<T> {
    /// Appends `value` for every reader. Without readers (a single shard) it is dropped at once.
    ///
    /// Looks at the readers' cursors only when the ring seems full, and then drops what all have
    /// read.
    ///
    /// # Errors
    /// Hands `value` back when the ring is full: the slowest reader is a whole capacity behind.
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.shared.cursors.is_empty() {
            return Ok(());
        }
        if self.room() == 0 {
            self.reclaim();
            if self.room() == 0 {
                return Err(value);
            }
        }
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: rule 1: `room() > 0`, so every reader has passed the slot's former
            // position, seen by an Acquire load of its cursor, and none reads this one before
            // `tail` is stored below.
            unsafe { *slot = Some(value) }
        });
        self.tail += 1;
        // Release pairs with the Acquire load of `tail` in `Reader::drain`: the slot is written
        // before.
        self.shared.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Drops every value that all readers have passed, and returns how many are still in the ring.
    ///
    /// Without it a value stays until its slot is needed: call it before going idle, so that a
    /// quiet ring does not pin large messages.
    pub fn reclaim(&mut self) -> usize {
        let slowest = self.shared.slowest(self.tail);
        while self.reclaimed < slowest {
            let position = self.reclaimed;
            self.reclaimed += 1;
            let read = self.shared.slot(position).with_mut(|slot| {
                // SAFETY: rule 1: every reader has passed `position`, seen by an Acquire load of
                // its cursor in `slowest`, and the slot has not been written since: `room()`
                // counts from `reclaimed`, which was not beyond `position` until now.
                unsafe { (*slot).take() }
            });
            drop(read);
        }
        distance(self.reclaimed, self.tail)
    }

    /// The position of the next value.
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Whether every reader has passed all values before `position`, or is gone.
    pub fn is_read_up_to(&self, position: u64) -> bool {
        self.shared.slowest(position) >= position
    }

    /// How many values surely still fit; a lower bound, because the cursors it rests on may be
    /// stale.
    pub fn room(&self) -> usize {
        self.shared.capacity() - distance(self.reclaimed, self.tail)
    }

    /// Whether the next [`push`](Self::push) will succeed; looks at the cursors when it seems not.
    pub fn has_room(&self) -> bool {
        self.room() > 0 || self.shared.has_room(self.tail)
    }
}

/// One reading end of a ring made by [`ring`]; one thread at a time, by `&mut self`.
///
/// Dropping it frees whatever it had not read: it no longer holds the ring back.
pub struct Reader<T> {
    shared: Arc<Shared<T>>,
    /// Which of `shared.cursors` is this reader's.
    index: usize,
    /// The next position to read; `shared.cursors[index]` is its published copy.
    cursor: u64,
    not_sync: PhantomData<Cell<()>>,
}

impl<T: Send + Sync> Reader<T> {
    /// Shows the next values, at most `limit`, to `visit` in order and each with its position,
    /// until it returns false, and returns how many.
    ///
    /// The cursor is published once for the whole batch. Should `visit` panic, the batch is not
    /// consumed and a later call shows it again.
    pub fn drain(&mut self, limit: usize, mut visit: impl FnMut(u64, &T) -> bool) -> usize {
        // Acquire pairs with the Release store of `tail` in `Producer::push`: the slots below it
        // are written.
        let tail = self.shared.tail.load(Ordering::Acquire);
        let count = distance(self.cursor, tail).min(limit);
        if count == 0 {
            return 0;
        }
        let mut end = self.cursor;
        let mut goes_on = true;
        while goes_on && end < self.cursor + count as u64 {
            self.shared.slot(end).with(|slot| {
                // SAFETY: rule 2: `cursor <= end < tail`; the producer neither overwrites
                // nor drops it before this reader's cursor, stored below, has passed it, and
                // others only read it.
                if let Some(value) = unsafe { &*slot } {
                    goes_on = visit(end, value);
                }
            });
            end += 1;
        }
        let count = distance(self.cursor, end);
        self.cursor = end;
        // Release pairs with the Acquire loads of cursors in `Shared::slowest`: reading is over
        // before.
        self.shared.cursors[self.index].store(end, Ordering::Release);
        count
    }

    /// The position of the next value to read.
    pub fn position(&self) -> u64 {
        self.cursor
    }

    /// Whether there is something to drain.
    pub fn has_values(&self) -> bool {
        // Relaxed: reads no slot. Whoever blocks on the answer puts a SeqCst fence before (see
        // `mesh`).
        self.shared.tail.load(Ordering::Relaxed) != self.cursor
    }

    /// Whether the producer of this ring can push, as far as this thread can see.
    pub fn ring_has_room(&self) -> bool {
        // Relaxed: writes no slot. A stale `tail` is too low, and errs towards room.
        self.shared.has_room(self.shared.tail.load(Ordering::Relaxed))
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        // Release pairs with the Acquire loads of cursors in `Shared::slowest`: reading is over
        // before.
        self.shared.cursors[self.index].store(INFINITELY_FAR, Ordering::Release);
    }
}

/// Makes a ring of `slots` values, rounded up to a power of two, with that many `readers`.
///
/// # Panics
/// When memory for the slots cannot be allocated.
pub fn ring<T: Send + Sync>(slots: usize, readers: usize) -> (Producer<T>, Vec<Reader<T>>) {
    let capacity = slots.checked_next_power_of_two().expect("a ring's slots must fit in memory");
    let shared = Arc::new(Shared {
        slots: (0..capacity).map(|_| UnsafeCell::new(None)).collect(),
        tail: CachePadded(AtomicU64::new(0)),
        cursors: (0..readers).map(|_| CachePadded(AtomicU64::new(0))).collect(),
    });
    let readers = (0..readers)
        .map(|index| Reader { shared: shared.clone(), index, cursor: 0, not_sync: PhantomData })
        .collect();
    (Producer { shared, tail: 0, reclaimed: 0, not_sync: PhantomData }, readers)
}

/// A value alone in its cache lines, so that writing it does not slow down readers of a neighbour.
///
/// 128 bytes, because x86-64 prefetches lines in pairs.
#[repr(align(128))]
pub(super) struct CachePadded<V>(pub(super) V);

impl<V> Deref for CachePadded<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.0
    }
}

/// What the ends share. Values left in the slots are dropped with it, by the last end to go.
struct Shared<T> {
    slots: Box<[UnsafeCell<Option<T>>]>,
    /// The next position to write; stored by the producer alone.
    tail: CachePadded<AtomicU64>,
    /// Each reader's next position to read; stored by that reader alone.
    cursors: Box<[CachePadded<AtomicU64>]>,
}

// SAFETY: the slots are the only part that is not Sync by itself; the rules in the file's head
// keep a writer and a reader apart. Readers on several threads hold `&T` at once, hence `T:
// Sync`; a value is dropped on another thread than the one that made it, hence `T: Send`.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn capacity(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, position: u64) -> &UnsafeCell<Option<T>> {
        // Masking keeps the index below the power-of-two length; the truncation drops masked bits
        // only.
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    /// The lowest cursor, at most `tail`: readers that are gone, or none at all, hold nothing back.
    fn slowest(&self, tail: u64) -> u64 {
        // Acquire pairs with the Release stores of cursors in `Reader::drain` and `Reader::drop`.
        let cursors = self.cursors.iter().map(|cursor| cursor.load(Ordering::Acquire));
        cursors.fold(tail, u64::min)
    }

    fn has_room(&self, tail: u64) -> bool {
        distance(self.slowest(tail), tail) < self.capacity()
    }
}

/// The standard cell with the access-by-closure interface of loom's, which checks the accesses.
#[cfg(not(ringwire_loom))]
pub(super) struct UnsafeCell<V>(std::cell::UnsafeCell<V>);

#[cfg(not(ringwire_loom))]
impl<V> UnsafeCell<V> {
    pub(super) fn new(value: V) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(super) fn with<R>(&self, access: impl FnOnce(*const V) -> R) -> R {
        access(self.0.get())
    }

    pub(super) fn with_mut<R>(&self, access: impl FnOnce(*mut V) -> R) -> R {
        access(self.0.get())
    }
}

/// How many positions lie in `from..to`.
fn distance(from: u64, to: u64) -> usize {
    (to - from) as usize
}

/// The cursor of a reader that is gone.
const INFINITELY_FAR: u64 = u64::MAX;

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Drain(usize, usize),
        DropReader(usize),
        Reclaim,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::Push),
            8 => (0..4usize, 0..6usize).prop_map(|(reader, limit)| Step::Drain(reader, limit)),
            1 => (0..4usize).prop_map(Step::DropReader),
            2 => Just(Step::Reclaim),
        ]
    }

    proptest! {
        /// The naive model is the length of a log and, for each reader, how much of it was read.
        #[test]
        fn behaves_like_a_log_with_cursors(
            slots in 0..9usize,
            reader_count in 0..4usize,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let token = Arc::new(());
            let (mut producer, readers) = ring(slots, reader_count);
            let mut readers: Vec<_> = readers.into_iter().map(|reader| Some((reader, 0))).collect();
            let mut length = 0;
            for step in steps {
                let slowest = readers.iter().flatten().map(|(_, read)| *read).min();
                let unread = length - slowest.unwrap_or(length);
                let has_room = unread < slots.next_power_of_two();
                prop_assert_eq!(producer.has_room(), has_room);
                match step {
                    Step::Push => {
                        let pushed = producer.push((length, token.clone()));
                        prop_assert_eq!(pushed.is_ok(), has_room);
                        length += usize::from(has_room);
                    }
                    Step::Drain(reader, limit) => {
                        if let Some(Some((reader, read))) = readers.get_mut(reader) {
                            prop_assert_eq!(reader.has_values(), *read < length);
                            prop_assert_eq!(reader.ring_has_room(), has_room);
                            let start = *read;
                            let mut seen = Vec::new();
                            *read += reader.drain(limit, |_, (value, _)| {
                                seen.push(*value);
                                true
                            });
                            prop_assert_eq!(*read, length.min(start + limit));
                            prop_assert_eq!(seen, (start..*read).collect::<Vec<_>>());
                        }
                    }
                    Step::DropReader(reader) => drop(readers.get_mut(reader).map(Option::take)),
                    Step::Reclaim => {
                        prop_assert_eq!(producer.reclaim(), unread);
                        prop_assert_eq!(Arc::strong_count(&token) - 1, unread);
                    }
                }
            }
            drop((producer, readers));
            prop_assert_eq!(Arc::strong_count(&token), 1);
        }
    }

    #[test]
    fn without_readers_a_value_is_dropped_at_once() {
        let token = Arc::new(());
        let (mut producer, _) = ring(4, 0);
        assert_eq!(producer.push(token.clone()), Ok(()));
        assert_eq!(Arc::strong_count(&token), 1);
    }

    #[test]
    fn threads_see_every_value_in_order() {
        const VALUES: usize = 20_000;
        let (mut producer, readers) = ring(64, 3);
        thread::scope(|scope| {
            for (index, mut reader) in readers.into_iter().enumerate() {
                scope.spawn(move || {
                    // The last reader leaves early and must not hold the others up.
                    let end = if index == 2 { VALUES / 2 } else { VALUES };
                    let mut next = 0;
                    while next < end {
                        reader.drain(index * 20 + 1, |_, value: &Arc<usize>| {
                            assert_eq!(**value, next);
                            next += 1;
                            true
                        });
                        thread::yield_now();
                    }
                });
            }
            for value in 0..VALUES {
                let mut pushed = producer.push(Arc::new(value));
                while let Err(value) = pushed {
                    thread::yield_now();
                    pushed = producer.push(value);
                }
            }
        });
        assert_eq!(producer.reclaim(), 0);
    }
}

/// Run by `RUSTFLAGS="--cfg ringwire_loom" cargo test --release --lib ring`.
#[cfg(all(test, ringwire_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    /// Two slots and two readers that drain `limits` beside the pushes; one may leave then.
    fn check(limits: [&'static [usize]; 2], first_leaves: bool, pushes: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let token = std::sync::Arc::new(());
            let (mut producer, readers) = ring(2, 2);
            let drains = readers.into_iter().zip(limits).enumerate();
            let threads: Vec<_> = drains
                .map(|(index, (mut reader, limits))| {
                    thread::spawn(move || {
                        let mut seen = Vec::new();
                        for limit in limits {
                            reader.drain(*limit, |_, (value, _)| {
                                seen.push(*value);
                                true
                            });
                        }
                        ((index == 1 || !first_leaves).then_some(reader), seen)
                    })
                })
                .collect();
            let mut accepted = 0;
            for _ in 0..pushes {
                accepted += usize::from(producer.push((accepted, token.clone())).is_ok());
            }
            for thread in threads {
                let (reader, mut seen) = thread.join().unwrap();
                if let Some(mut reader) = reader {
                    reader.drain(2, |_, (value, _)| {
                        seen.push(*value);
                        true
                    });
                    assert_eq!(seen.len(), accepted);
                }
                assert!(seen.iter().copied().eq(0..seen.len()));
            }
            drop(producer);
            assert_eq!(std::sync::Arc::strong_count(&token), 1);
        });
    }

    #[test]
    fn two_readers_see_every_value() {
        check([&[1, 1], &[2]], false, 4);
    }

    #[test]
    fn a_reader_that_leaves_holds_nothing_back() {
        check([&[1], &[2]], true, 4);
    }
}
