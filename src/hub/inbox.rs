//! Lock-free bounded inbox: letters of many senders to one receiver, in places that are taken
//! before anything is sent.
//!
//! Whoever wants to send takes a [`Place`] first and may fail; whoever has one can send at any
//! time and cannot. So a request that holds a place in the inbox of its sender carries the place
//! of its answer along, and no answer is ever refused: two full inboxes cannot wait for each
//! other. Nobody waits here at all. A place that is dropped unused is free again.
//!
//! Positions are 64-bit sequence numbers that never wrap; the slot of a position is its low bits.
//! Why two never meet in one slot:
//!
//! 1. A sender claims a position by `fetch_add` of `tail`, so no two write one position.
//! 2. As many places are taken as there are slots, at the most, and the place of a letter is given
//!    back after the letter has been taken out. Letters are taken out in the order of their
//!    positions. So of the letters at `position - slots ..= position` the first has been taken out
//!    when the last place for them was taken.
//! 3. Giving back is a Release, taking a place is an Acquire, and claiming is both: the sender that
//!    took that last place knows that the slot is empty, and so does everybody who claims a later
//!    position, the one of `position` among them.
//! 4. The receiver touches a slot only when its `ready` says that the letter of the receiver's
//!    position is in it, a Release by the sender and an Acquire by the receiver.
#![allow(unsafe_code)]

#[cfg(ringwire_loom)]
use loom::sync;
#[cfg(not(ringwire_loom))]
use std::sync;

use sync::Arc;
use sync::atomic::{AtomicU64, Ordering};

use super::ring::{CachePadded, UnsafeCell};

/// The receiving end of an inbox.
///
/// Dropping it closes the inbox, and drops the letters that are in it.
pub struct Inbox<L> {
    shared: Arc<Shared<L>>,
    /// The position of the next letter.
    head: u64,
}

/// The sending end of an inbox, one for each who may send.
pub struct Address<L> {
    shared: Arc<Shared<L>>,
}

/// Room for one letter in an inbox, whatever else is sent there; free again when it is dropped.
#[must_use = "a place that is dropped is free again"]
pub struct Place<L> {
    shared: Arc<Shared<L>>,
    /// Whose inbox it is.
    receiver: usize,
    /// What it was taken for; nothing once it has been filled.
    bytes: Option<u32>,
}

/// Why no place could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// All are taken, or the letters hold too many bytes: later there may be one.
    Full,
    /// The receiver takes no letters any more.
    Closed,
}

/// Makes an inbox of the participant `receiver`, for as many letters as there are `slots` (rounded
/// up to a power of two, at most 65,535), which together hold at most `bytes`.
pub(super) fn inbox<L: Send>(receiver: usize, slots: usize, bytes: u32) -> (Inbox<L>, Address<L>) {
    let slots = slots.next_power_of_two();
    debug_assert!(slots as u64 <= PLACES);
    let shared = Arc::new(Shared {
        slots: (0..slots).map(|_| Slot::empty()).collect(),
        receiver,
        bytes_max: bytes,
        tail: CachePadded(AtomicU64::new(0)),
        taken: CachePadded(AtomicU64::new(0)),
    });
    (Inbox { shared: shared.clone(), head: 0 }, Address { shared })
}

impl<L> Clone for Address<L> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<L: Send> Address<L> {
    /// Takes a place for a letter that holds so many `bytes` beside itself.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn take_place(&self, bytes: u32) -> Result<Place<L>, NoPlace> {
        let Shared { slots, receiver, bytes_max, taken, .. } = &*self.shared;
        // Acquire pairs with the Release in `Shared::give_back`: the slots of the letters whose
        // places were given back are empty.
        let result = taken.fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
            let places = taken % (PLACES + 1);
            let held_bytes = (taken & !CLOSED) >> BYTES_SHIFT;
            let fits = taken & CLOSED == 0
                && places < slots.len() as u64
                && held_bytes + u64::from(bytes) <= u64::from(*bytes_max);
            fits.then(|| taken + one_place(bytes))
        });
        match result {
            Ok(_) => {
                Ok(Place { shared: self.shared.clone(), receiver: *receiver, bytes: Some(bytes) })
            }
            Err(taken) if taken & CLOSED != 0 => Err(NoPlace::Closed),
            Err(_) => Err(NoPlace::Full),
        }
    }
}

impl<L> Place<L> {
    /// The participant whose inbox it is.
    pub fn receiver(&self) -> usize {
        self.receiver
    }
}

impl<L: Send> Place<L> {
    /// Puts a letter into this place. The receiver finds it there; waking it is up to the caller.
    pub(super) fn fill(mut self, letter: L) {
        // Its receiver gives the place back with the letter.
        let bytes = self.bytes.take().unwrap_or(0);
        // Acquire and Release: see rule 3 in the file's head; the partners are the other claims.
        let position = self.shared.tail.fetch_add(1, Ordering::AcqRel);
        let slot = self.shared.slot(position);
        slot.letter.with_mut(|place| {
            // SAFETY: rules 1 to 3: nobody else writes this position, the letter that was in the
            // slot before has been taken out, which happened before the claim above, and the
            // receiver does not look before `ready` is stored below.
            unsafe { *place = Some((letter, bytes)) }
        });
        // Release pairs with the Acquire load of `ready` in `Inbox::next`: the letter is there.
        slot.ready.store(position + 1, Ordering::Release);
    }
}

impl<L> Drop for Place<L> {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes {
            self.shared.give_back(bytes);
        }
    }
}

impl<L> Inbox<L> {
    /// Takes out the next letter.
    ///
    /// A sender that is held up between claiming a position and filling it hides the letters
    /// behind for that long; it wakes the receiver when it is done.
    pub(super) fn next(&mut self) -> Option<L> {
        let slot = self.shared.slot(self.head);
        // Acquire pairs with the Release store in `Place::fill`.
        if slot.ready.load(Ordering::Acquire) != self.head + 1 {
            return None;
        }
        let content = slot.letter.with_mut(|place| {
            // SAFETY: rule 4: the letter of this position is there, and rule 2: nobody writes to
            // the slot before its place is given back below.
            unsafe { (*place).take() }
        });
        self.head += 1;
        let (letter, bytes) = content?;
        self.shared.give_back(bytes);
        Some(letter)
    }

    /// Whether there is a letter to take out.
    pub(super) fn has_letter(&self) -> bool {
        // Relaxed: reads no letter. Whoever blocks on the answer puts a SeqCst fence before (see
        // `mesh`).
        self.shared.slot(self.head).ready.load(Ordering::Relaxed) == self.head + 1
    }

    /// Gives no more places away; those that are taken can still be filled.
    pub(super) fn close(&self) {
        // Relaxed: publishes nothing.
        self.shared.taken.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Whether no place is taken: nothing has been sent that was not taken out, and when the inbox
    /// is closed, nothing ever will be.
    pub(super) fn is_quiet(&self) -> bool {
        // Acquire pairs with the Release in `give_back`: whoever gave a place back was done before.
        self.shared.taken.load(Ordering::Acquire) & !CLOSED == 0
    }
}

impl<L> Drop for Inbox<L> {
    fn drop(&mut self) {
        self.close();
        // Letters may hold places of other inboxes, which must not wait for this one to be freed.
        while self.next().is_some() {}
    }
}

/// What the ends share. Letters left in it are dropped with it, by the last end to go.
struct Shared<L> {
    slots: Box<[Slot<L>]>,
    receiver: usize,
    bytes_max: u32,
    /// The next position to claim.
    tail: CachePadded<AtomicU64>,
    /// The places that are taken, the bytes of their letters above, and [`CLOSED`].
    taken: CachePadded<AtomicU64>,
}

struct Slot<L> {
    /// One more than the position of the last letter that was put here.
    ready: AtomicU64,
    /// The letter and the bytes that its place was taken for.
    letter: UnsafeCell<Option<(L, u32)>>,
}

// SAFETY: the letters are the only part that is not Sync by itself; the rules in the file's head
// keep senders and the receiver apart. A letter goes from one thread to another and is never
// shared, hence `L: Send`.
unsafe impl<L: Send> Sync for Shared<L> {}

impl<L> Shared<L> {
    fn slot(&self, position: u64) -> &Slot<L> {
        // Masking keeps the index below the power-of-two length.
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    fn give_back(&self, bytes: u32) {
        // Release pairs with the Acquire in `Address::take_place` and in `is_quiet`.
        self.taken.fetch_sub(one_place(bytes), Ordering::Release);
    }
}

impl<L> Slot<L> {
    fn empty() -> Self {
        Self { ready: AtomicU64::new(0), letter: UnsafeCell::new(None) }
    }
}

/// What a place adds to `taken`.
fn one_place(bytes: u32) -> u64 {
    1 + (u64::from(bytes) << BYTES_SHIFT)
}

/// Memory that an inbox of so many slots takes while it is empty, in bytes.
#[cfg(all(test, not(ringwire_loom)))]
pub(super) fn inbox_bytes<L>(slots: usize) -> usize {
    slots * size_of::<Slot<L>>() + size_of::<Shared<L>>()
}

/// Above the count of places, which is at most `PLACES`, `taken` counts bytes.
const BYTES_SHIFT: u32 = 16;
const PLACES: u64 = (1 << BYTES_SHIFT) - 1;
/// The bit of `taken` that says that nobody receives any more.
const CLOSED: u64 = 1 << 63;

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use std::collections::VecDeque;
    use std::thread;

    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Take(u32),
        Drop(usize),
        Fill(usize),
        Next,
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..40u32).prop_map(Step::Take),
            2 => (0..9usize).prop_map(Step::Drop),
            8 => (0..9usize).prop_map(Step::Fill),
            8 => Just(Step::Next),
            1 => Just(Step::Close),
        ]
    }

    proptest! {
        /// The naive model is a queue of letters and a list of places.
        #[test]
        fn behaves_like_a_queue_with_places(
            slots in 1..9usize,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let token = Arc::new(());
            let (mut inbox, address) = inbox(3, slots, 100);
            let (mut places, mut queue, mut is_closed, mut serial) =
                (Vec::new(), VecDeque::new(), false, 0);
            for step in steps {
                let held = |places: &Vec<(Place<_>, u32)>, queue: &VecDeque<(i32, u32)>| -> u32 {
                    let waiting = queue.iter().map(|(_, bytes)| *bytes);
                    places.iter().map(|(_, bytes)| *bytes).chain(waiting).sum()
                };
                match step {
                    Step::Take(bytes) => {
                        let has_place = places.len() + queue.len() < slots.next_power_of_two()
                            && held(&places, &queue) + bytes <= 100;
                        match address.take_place(bytes) {
                            Ok(place) => {
                                prop_assert!(has_place && !is_closed);
                                prop_assert_eq!(place.receiver(), 3);
                                places.push((place, bytes));
                            }
                            Err(NoPlace::Full) => prop_assert!(!has_place && !is_closed),
                            Err(NoPlace::Closed) => prop_assert!(is_closed),
                        }
                    }
                    Step::Drop(place) if place < places.len() => {
                        drop(places.swap_remove(place));
                    }
                    Step::Fill(place) if place < places.len() => {
                        let (place, bytes) = places.swap_remove(place);
                        place.fill((serial, token.clone()));
                        queue.push_back((serial, bytes));
                        serial += 1;
                    }
                    Step::Drop(_) | Step::Fill(_) => {}
                    Step::Next => {
                        prop_assert_eq!(inbox.has_letter(), !queue.is_empty());
                        let letter = inbox.next().map(|(serial, _)| serial);
                        prop_assert_eq!(letter, queue.pop_front().map(|(serial, _)| serial));
                    }
                    Step::Close => {
                        inbox.close();
                        is_closed = true;
                    }
                }
                prop_assert_eq!(inbox.is_quiet(), places.is_empty() && queue.is_empty());
                prop_assert_eq!(Arc::strong_count(&token) - 1, queue.len());
            }
            drop(inbox);
            prop_assert_eq!(Arc::strong_count(&token), 1, "its letters go with it");
        }
    }

    #[test]
    fn letters_of_many_senders_arrive_once_and_in_the_order_of_each() {
        const LETTERS: usize = 5_000;
        const SENDERS: usize = 3;
        let (mut inbox, address) = inbox(0, 4, 1 << 20);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let address = address.clone();
                scope.spawn(move || {
                    for number in 0..LETTERS {
                        let place = loop {
                            match address.take_place(1) {
                                Ok(place) => break place,
                                Err(_) => thread::yield_now(),
                            }
                        };
                        place.fill(Box::new((sender, number)));
                    }
                });
            }
            let mut next = [0; SENDERS];
            while next.iter().sum::<usize>() < SENDERS * LETTERS {
                let Some(letter) = inbox.next() else {
                    thread::yield_now();
                    continue;
                };
                let (sender, number) = *letter;
                assert_eq!(number, next[sender]);
                next[sender] += 1;
            }
        });
        assert!(inbox.is_quiet() && inbox.next().is_none());
    }
}

/// Run by `RUSTFLAGS="--cfg ringwire_loom" cargo test --release --lib hub::`.
#[cfg(all(test, ringwire_loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    fn check(scenario: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(scenario);
    }

    /// Two senders and two slots, one of which a third party holds for long and fills at the end:
    /// so a position is claimed by one who took its place many letters ago.
    #[test]
    fn every_letter_arrives_once() {
        check(|| {
            let (mut inbox, address) = inbox(0, 2, 100);
            let early = address.take_place(1).ok().unwrap();
            let sending = thread::spawn(move || {
                let mut sent = 0;
                for letter in 0..2 {
                    if let Ok(place) = address.take_place(1) {
                        place.fill(letter);
                        sent += 1;
                    }
                }
                sent
            });
            let filling = thread::spawn(move || early.fill(9));
            let mut received: Vec<_> = (0..2).filter_map(|_| inbox.next()).collect();
            let sent = sending.join().unwrap();
            filling.join().unwrap();
            received.extend(std::iter::from_fn(|| inbox.next()));
            assert_eq!(received.len(), sent + 1);
            assert_eq!(received.iter().filter(|letter| **letter == 9).count(), 1);
            assert!(inbox.is_quiet());
        });
    }

    #[test]
    fn a_closed_inbox_is_quiet_once_its_places_are_used() {
        check(|| {
            let (mut inbox, address) = inbox(0, 2, 100);
            let sending = thread::spawn(move || match address.take_place(1) {
                Ok(place) => {
                    place.fill(1);
                    true
                }
                Err(_) => false,
            });
            inbox.close();
            let mut received = 0;
            if inbox.is_quiet() {
                assert!(!sending.join().unwrap(), "nothing is sent any more");
            } else {
                assert!(sending.join().unwrap(), "a taken place is used");
                received += usize::from(inbox.next().is_some());
                assert_eq!(received, 1);
            }
        });
    }
}
