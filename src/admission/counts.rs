//! How many there are of each kind, such as connections of an address or members of a topic, and
//! how fast they come: a table of fixed size that all shards share, without locks.
//!
//! What is counted by is a key. It belongs to one bucket, which is a cache line, and has one entry
//! there for as long as something counts for it or came a moment ago. An entry is one word:
//!
//! ```text
//! 63          40 39            24 23                   0
//! +-------------+----------------+---------------------+
//! |     tag     |     count      |  when one more is   |
//! |             |                |  due, in steps      |
//! +-------------+----------------+---------------------+
//! ```
//!
//! Bucket and tag are a keyed hash, so nobody can choose keys that share them. What no longer says
//! anything makes room for others; where something counts for all entries of a bucket, a further
//! key is let in and not counted: a table that is filled by some must not keep out the rest.
//!
//! # Why a key has one entry
//!
//! Two shards may both find none and make one, in two places, as one of these became free in
//! between. So a new entry counts nothing; whoever has made one looks again, and an entry counts
//! its first only when no other of its tag is left. Of two, the one in the lower place
//! stays unless the other counts already, and the other is emptied before. Whoever was about to
//! count in that one fails, because its word has changed, and looks again.

use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

#[cfg(ringwire_loom)]
use loom::sync;
#[cfg(not(ringwire_loom))]
use std::sync;

use sync::atomic::{AtomicU64, Ordering, fence};

use super::rate::{Rate, nanoseconds};

/// The counts of all keys.
#[derive(Debug)]
pub(super) struct Counts {
    hasher: RandomState,
    buckets: Box<[Bucket]>,
    /// Tells one empty place from the same when it was empty before.
    emptied: AtomicU64,
}

/// What each key may have. It may change while something counts: what began when there was no limit
/// does not count, and a moment of another rate is forgotten within two seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// At the same time. Where that is not limited nothing is counted, as it might be too many.
    pub(super) count_most: Option<u16>,
    /// In one second.
    pub(super) rate: Option<Rate>,
}

impl Limits {
    /// How many steps from now the next of an entry is due. What is further ahead than it can be is
    /// of long ago: the count of steps wraps. It can be a second's worth, and somewhat more for
    /// a shard whose clock was read earlier.
    fn ahead(self, entry: Entry, now: u32) -> u32 {
        let ahead = entry.due.wrapping_sub(now) & STEPS_MASK;
        match self.rate {
            Some(rate) if u64::from(ahead) <= 2 * rate.count() => ahead,
            _ => 0,
        }
    }
}

/// Which limit one more would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Count,
    Rate,
    /// It would be the first of its key, and those may not begin.
    Begin,
}

/// What there is of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// How many count for it; 16 bits.
    pub(super) count: u32,
    /// When one more is due, in steps from now.
    pub(super) ahead: u32,
}

/// One more that may be.
#[derive(Debug)]
pub(super) struct Entered {
    /// Where it is counted, if it is.
    pub(super) counted: Option<Counted>,
    /// Whether it is the first of its key that counts at the moment.
    pub(super) is_first: bool,
    /// Whether it should be counted and found no place, as others fill the table.
    pub(super) is_untracked: bool,
}

/// Where something is counted. To be given back, once.
#[derive(Debug)]
pub struct Counted {
    bucket: u32,
    tag: NonZeroU32,
}

#[derive(Debug)]
#[repr(align(64))]
struct Bucket([AtomicU64; BUCKET_PLACES]);

/// The word of an entry, taken apart; without a tag it is an empty place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u32,
    count: u16,
    due: u32,
}

impl Counts {
    /// A table that counts `capacity` of as many keys with very few exceptions.
    pub(super) fn new(capacity: usize) -> Self {
        let buckets = (capacity / 2).next_power_of_two().clamp(BUCKETS_LEAST, BUCKETS_MOST);
        Self::with_buckets(buckets)
    }

    fn with_buckets(buckets: usize) -> Self {
        let bucket = |_| Bucket(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            hasher: RandomState::new(),
            buckets: (0..buckets).map(bucket).collect(),
            emptied: AtomicU64::new(0),
        }
    }

    /// Counts one more of `key` that comes `now`, unless it is one too many, or the first where
    /// that may not be.
    pub(super) fn enter(
        &self,
        limits: Limits,
        key: &(impl Hash + ?Sized),
        now: Duration,
        may_begin: bool,
    ) -> Result<Entered, Excess> {
        let Limits { count_most, rate } = limits;
        let is_counted = count_most.is_some();
        let decide = |Standing { count, ahead }| {
            if count == 0 && !may_begin {
                return Err(Excess::Begin);
            }
            if count_most.is_some_and(|most| count >= u32::from(most)) {
                return Err(Excess::Count);
            }
            if rate.is_some_and(|rate| !rate.has_room(ahead.into())) {
                return Err(Excess::Rate);
            }
            let count = count + u32::from(is_counted);
            let ahead = ahead + u32::from(rate.is_some());
            Ok((Standing { count, ahead }, is_counted && count == 1))
        };
        let changed = self.change(limits, key, nanoseconds(now), decide)?;
        Ok(match changed {
            Some((counted, is_first)) => {
                Entered { counted: is_counted.then_some(counted), is_first, is_untracked: false }
            }
            None => Entered { counted: None, is_first: false, is_untracked: true },
        })
    }

    /// Gives `key` the standing that follows from the one that it has at `now_ns`, together with
    /// what that means for whoever asks. Nothing where others fill the table; an error changes
    /// nothing either. Of what counts no more than one may be taken away, by whoever has it.
    pub(super) fn change<T, E>(
        &self,
        limits: Limits,
        key: &(impl Hash + ?Sized),
        now_ns: u64,
        decide: impl Fn(Standing) -> Result<(Standing, T), E>,
    ) -> Result<Option<(Counted, T)>, E> {
        let (bucket, tag) = self.place(key);
        let places = &self.buckets[bucket as usize].0;
        let now = limits.rate.map_or(0, |rate| rate.steps(now_ns) as u32 & STEPS_MASK);
        loop {
            let words = look(places);
            let entries = words.map(Entry::from);
            let is_own = |place: &usize| entries[*place].tag == tag.get();
            let own = || (0..BUCKET_PLACES).filter(is_own);
            let counts = own().find(|place| entries[*place].count > 0);
            let Some(chosen) = counts.or_else(|| own().next()) else {
                decide(Standing::default())?;
                if !self.make_entry(limits, places, &words, tag, now) {
                    return Ok(None);
                }
                continue;
            };
            if !own()
                .filter(|place| *place != chosen && entries[*place].count == 0)
                .all(|place| self.empty(&places[place], words[place]))
            {
                continue;
            }
            let count: u32 = own().map(|place| u32::from(entries[place].count)).sum();
            let ahead = own().map(|place| limits.ahead(entries[place], now)).max().unwrap_or(0);
            let (after, outcome) = decide(Standing { count, ahead })?;
            let entry = Entry {
                tag: tag.get(),
                count: (u32::from(entries[chosen].count) + after.count - count) as u16,
                due: now.wrapping_add(after.ahead) & STEPS_MASK,
            };
            if exchange(&places[chosen], words[chosen], entry.word()) {
                return Ok(Some((Counted { bucket, tag }, outcome)));
            }
        }
    }

    /// What was counted is no more; whether it was the last of its key.
    pub(super) fn release(&self, counted: Counted) -> bool {
        let Counted { bucket, tag } = counted;
        let places = &self.buckets[bucket as usize].0;
        loop {
            let words = look(places);
            let found = words.iter().zip(places).find_map(|(word, place)| {
                let entry = Entry::from(*word);
                (entry.tag == tag.get() && entry.count > 0).then_some((place, entry))
            });
            let Some((place, entry)) = found else {
                debug_assert!(false, "what was counted has an entry");
                return false;
            };
            let fewer = Entry { count: entry.count - 1, ..entry };
            if exchange(place, entry.word(), fewer.word()) {
                return fewer.count == 0;
            }
        }
    }

    /// How many count for a key.
    pub(super) fn counted_for(&self, key: &(impl Hash + ?Sized)) -> u32 {
        let (bucket, tag) = self.place(key);
        let words = look(&self.buckets[bucket as usize].0);
        let own = words.map(Entry::from).into_iter().filter(|entry| entry.tag == tag.get());
        own.map(|entry| u32::from(entry.count)).sum()
    }

    /// How many count for all keys.
    pub(super) fn counted(&self) -> u64 {
        let words = self.buckets.iter().flat_map(|bucket| look(&bucket.0));
        words.map(|word| u64::from(Entry::from(word).count)).sum()
    }

    /// The bucket and the tag of a key.
    fn place(&self, key: &(impl Hash + ?Sized)) -> (u32, NonZeroU32) {
        let hash = self.hasher.hash_one(key);
        // There are at most 2^19 buckets, and the tag is of other bits.
        let bucket = hash as usize & (self.buckets.len() - 1);
        let tag = NonZeroU32::new((hash >> 40) as u32).unwrap_or(NonZeroU32::MIN);
        (bucket as u32, tag)
    }

    /// Makes an entry that counts nothing yet, in an empty place or instead of the one that matters
    /// least; false when all matter. Whether it is there is seen by looking again.
    fn make_entry(
        &self,
        limits: Limits,
        places: &[AtomicU64; BUCKET_PLACES],
        words: &[u64; BUCKET_PLACES],
        tag: NonZeroU32,
        now: u32,
    ) -> bool {
        let weight = |place: &usize| {
            let entry = Entry::from(words[*place]);
            if entry.tag == 0 { 0 } else { limits.ahead(entry, now) + 1 }
        };
        let is_free = |place: &usize| Entry::from(words[*place]).count == 0;
        let Some(place) = (0..BUCKET_PLACES).filter(is_free).min_by_key(weight) else {
            return false;
        };
        let entry = Entry { tag: tag.get(), count: 0, due: now };
        exchange(&places[place], words[place], entry.word());
        true
    }

    /// Empties a place, if it still has this word.
    fn empty(&self, place: &AtomicU64, word: u64) -> bool {
        // No partner: the number has to be another one each time, and nothing else.
        let times = self.emptied.fetch_add(1, Ordering::Relaxed);
        let empty = Entry { tag: 0, count: 0, due: times as u32 & STEPS_MASK };
        exchange(place, word, empty.word())
    }
}

impl From<u64> for Entry {
    fn from(word: u64) -> Self {
        Self { tag: (word >> 40) as u32, count: (word >> 24) as u16, due: word as u32 & STEPS_MASK }
    }
}

impl Entry {
    fn word(self) -> u64 {
        u64::from(self.tag) << 40 | u64::from(self.count) << 24 | u64::from(self.due)
    }
}

/// What the places of a bucket have, as far as it is known by now.
fn look(places: &[AtomicU64; BUCKET_PLACES]) -> [u64; BUCKET_PLACES] {
    // Partner: the same fence of another thread. Of two that have each made an entry and look
    // again, the later sees that of the earlier.
    fence(Ordering::SeqCst);
    // Partner: the exchange that wrote the word; nothing is published along with it.
    std::array::from_fn(|place| places[place].load(Ordering::Relaxed))
}

/// Replaces a word unless it has changed since it was looked at.
fn exchange(place: &AtomicU64, before: u64, after: u64) -> bool {
    // Partner: the look of another thread, ordered by its fence.
    place.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// Entries of a bucket. Few where every interleaving is tried.
const BUCKET_PLACES: usize = if cfg!(ringwire_loom) { 2 } else { 8 };
/// A mebibyte, which is enough for 2^16 keys.
const BUCKETS_LEAST: usize = if cfg!(ringwire_loom) { 1 } else { 1 << 14 };
/// 32 MiB; the hash has no more bits for them beside the tag.
const BUCKETS_MOST: usize = 1 << 19;
/// Steps wrap here.
const STEPS_MASK: u32 = (1 << 24) - 1;

/// A table whose limits stay.
#[cfg(test)]
struct Limited {
    counts: Counts,
    limits: Limits,
}

#[cfg(test)]
impl Limited {
    fn new(limits: Limits, buckets: usize) -> Self {
        Self { counts: Counts::with_buckets(buckets), limits }
    }

    fn enter(
        &self,
        key: &(impl Hash + ?Sized),
        now: Duration,
        may_begin: bool,
    ) -> Result<Entered, Excess> {
        self.counts.enter(self.limits, key, now, may_begin)
    }
}

#[cfg(test)]
impl std::ops::Deref for Limited {
    type Target = Counts;

    fn deref(&self) -> &Counts {
        &self.counts
    }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests;

/// Every interleaving, in a bucket with two places.
///
/// Run by `RUSTFLAGS="--cfg ringwire_loom" cargo test --release --lib counts`.
#[cfg(all(test, ringwire_loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn check(most: u16, scenario: impl Fn(Arc<Limited>) + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let limits = Limits { count_most: Some(most), rate: None };
            scenario(Arc::new(Limited::new(limits, 1)));
        });
    }

    fn enter(table: &Limited, key: u8) -> Result<Entered, Excess> {
        table.enter(&key, Duration::ZERO, true)
    }

    fn count(table: &Limited, key: u8) -> u32 {
        table.counted_for(&key)
    }

    #[test]
    fn of_two_that_are_the_first_of_a_key_one_gets_the_last_place() {
        check(1, |table| {
            // One place becomes free, of two, while they come.
            let other = enter(&table, 1).unwrap().counted.unwrap();
            let tables = [table.clone(), table.clone()];
            let [leaving, coming] = tables;
            let leaving = thread::spawn(move || leaving.release(other));
            let coming = thread::spawn(move || enter(&coming, 2).is_ok());
            let was_admitted = enter(&table, 2).is_ok();
            leaving.join().unwrap();
            assert!(coming.join().unwrap() != was_admitted);
            assert_eq!((count(&table, 1), count(&table, 2)), (0, 1));
        });
    }

    #[test]
    fn what_ends_makes_room_and_is_not_lost() {
        check(2, |table| {
            let first = enter(&table, 1).unwrap().counted.unwrap();
            let others = table.clone();
            let ending = thread::spawn(move || others.release(first));
            let second = enter(&table, 1).unwrap().counted.unwrap();
            ending.join().unwrap();
            assert_eq!(count(&table, 1), 1);
            table.release(second);
            assert_eq!(table.counted(), 0);
        });
    }
}
