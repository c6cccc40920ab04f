//! How many connections each address has, and how fast they come: a table of fixed size that all
//! shards share, without locks.
//!
//! An address belongs to one bucket, which is a cache line, and has one entry there for as long as
//! it has connections or came a moment ago. An entry is one word:
//!
//! ```text
//! 63          40 39            24 23                   0
//! +-------------+----------------+---------------------+
//! |     tag     |  connections   |  when one more is   |
//! |             |                |  due, in steps      |
//! +-------------+----------------+---------------------+
//! ```
//!
//! Bucket and tag are a keyed hash, so nobody can choose addresses that share them. What no longer
//! says anything makes room for others; where all entries of a bucket have connections, a further
//! address is let in and not counted: a table that is filled by some must not keep out the rest.
//!
//! # Why an address has one entry
//!
//! Two shards may both find none and make one, in two places, as one of these became free in
//! between. So a new entry counts nothing; whoever has made one looks again, and an entry counts
//! its first connection only when no other of its tag is left. Of two, the one in the lower place
//! stays unless the other counts already, and the other is emptied before. Whoever was about to
//! count in that one fails, because its word has changed, and looks again.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

#[cfg(ringwire_loom)]
use loom::sync;
#[cfg(not(ringwire_loom))]
use std::sync;

use sync::atomic::{AtomicU64, Ordering, fence};

use super::rate::Rate;
use super::{Admitted, Denial};
use crate::config::Peers;

/// The connections of all addresses.
#[derive(Debug)]
pub(super) struct AddressTable {
    hasher: RandomState,
    buckets: Box<[Bucket]>,
    /// Tells one empty place from the same when it was empty before.
    emptied: AtomicU64,
}

/// What an address may have. It may change while connections are counted: those that began when they
/// were not limited do not count, and a moment of another rate is forgotten within a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressLimits {
    connections_most: Option<u16>,
    rate: Option<Rate>,
    /// Bits of an IPv6 address that count.
    ipv6_prefix: u8,
}

/// Where a connection is counted. To be given back, once.
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
    connections: u16,
    due: u32,
}

impl AddressLimits {
    /// What the configuration says; nothing if it limits nobody.
    pub(super) fn new(peers: &Peers) -> Option<Self> {
        let limits = Self::of(peers);
        (limits.connections_most.is_some() || limits.rate.is_some()).then_some(limits)
    }

    fn of(peers: &Peers) -> Self {
        Self {
            connections_most: peers.connections_per_address,
            rate: peers.connection_rate_per_address.map(Rate::per_second),
            ipv6_prefix: peers.limit_ipv6_prefix,
        }
    }

    /// How many steps from now the next connection of an entry is due. What is further ahead than
    /// it can be is of long ago: the count of steps wraps.
    fn ahead(self, entry: Entry, now: u32) -> u32 {
        let ahead = entry.due.wrapping_sub(now) & STEPS_MASK;
        match self.rate {
            Some(rate) if ahead == 0 || rate.has_room(u64::from(ahead) - 1) => ahead,
            _ => 0,
        }
    }
}

impl AddressTable {
    /// A table that counts `capacity` connections of as many addresses with very few exceptions.
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

    /// Counts a connection of `address` that begins `now`, unless it is one too many.
    pub(super) fn admit(
        &self,
        limits: AddressLimits,
        address: IpAddr,
        now: Duration,
    ) -> Result<Admitted, Denial> {
        let (bucket, tag) = self.place(address, limits.ipv6_prefix);
        let places = &self.buckets[bucket as usize].0;
        let now = limits.rate.map_or(0, |rate| rate.steps(now) as u32 & STEPS_MASK);
        loop {
            let words = look(places);
            let entries = words.map(Entry::from);
            let is_own = |place: &usize| entries[*place].tag == tag.get();
            let own = || (0..BUCKET_PLACES).filter(is_own);
            let counts = own().find(|place| entries[*place].connections > 0);
            let Some(chosen) = counts.or_else(|| own().next()) else {
                if !self.make_entry(limits, places, &words, tag, now) {
                    return Ok(Admitted { counted: None, is_untracked: true });
                }
                continue;
            };
            if !own()
                .filter(|place| *place != chosen && entries[*place].connections == 0)
                .all(|place| self.empty(&places[place], words[place]))
            {
                continue;
            }
            let connections: u32 = own().map(|place| u32::from(entries[place].connections)).sum();
            let ahead = own().map(|place| limits.ahead(entries[place], now)).max().unwrap_or(0);
            if limits.connections_most.is_some_and(|most| connections >= u32::from(most)) {
                return Err(Denial::AddressConnections);
            }
            if limits.rate.is_some_and(|rate| !rate.has_room(ahead.into())) {
                return Err(Denial::AddressRate);
            }
            // Where connections are not limited they are not counted, as they might be too many.
            let is_counted = limits.connections_most.is_some();
            let grown = Entry {
                tag: tag.get(),
                connections: entries[chosen].connections + u16::from(is_counted),
                due: now.wrapping_add(ahead + u32::from(limits.rate.is_some())) & STEPS_MASK,
            };
            if exchange(&places[chosen], words[chosen], grown.word()) {
                let counted = is_counted.then_some(Counted { bucket, tag });
                return Ok(Admitted { counted, is_untracked: false });
            }
        }
    }

    /// A connection has ended.
    pub(super) fn release(&self, counted: Counted) {
        let Counted { bucket, tag } = counted;
        let places = &self.buckets[bucket as usize].0;
        loop {
            let words = look(places);
            let found = words.iter().zip(places).find_map(|(word, place)| {
                let entry = Entry::from(*word);
                (entry.tag == tag.get() && entry.connections > 0).then_some((place, entry))
            });
            let Some((place, entry)) = found else {
                debug_assert!(false, "what was counted has an entry");
                return;
            };
            let fewer = Entry { connections: entry.connections - 1, ..entry };
            if exchange(place, entry.word(), fewer.word()) {
                return;
            }
        }
    }

    /// Connections that are counted for an address.
    pub(super) fn counted_for(&self, limits: AddressLimits, address: IpAddr) -> u32 {
        let (bucket, tag) = self.place(address, limits.ipv6_prefix);
        let words = look(&self.buckets[bucket as usize].0);
        let own = words.map(Entry::from).into_iter().filter(|entry| entry.tag == tag.get());
        own.map(|entry| u32::from(entry.connections)).sum()
    }

    /// Connections that are counted.
    pub(super) fn counted(&self) -> u64 {
        let words = self.buckets.iter().flat_map(|bucket| look(&bucket.0));
        words.map(|word| u64::from(Entry::from(word).connections)).sum()
    }

    /// The bucket and the tag of an address, of which so many bits count if it is one of IPv6.
    fn place(&self, address: IpAddr, ipv6_prefix: u8) -> (u32, NonZeroU32) {
        let hash = match address.to_canonical() {
            IpAddr::V4(address) => self.hasher.hash_one(address),
            IpAddr::V6(address) => {
                let kept = u128::MAX << (128 - u32::from(ipv6_prefix));
                self.hasher.hash_one(address.to_bits() & kept)
            }
        };
        // There are at most 2^19 buckets, and the tag is of other bits.
        let bucket = hash as usize & (self.buckets.len() - 1);
        let tag = NonZeroU32::new((hash >> 40) as u32).unwrap_or(NonZeroU32::MIN);
        (bucket as u32, tag)
    }

    /// Makes an entry that counts nothing yet, in an empty place or instead of the one that matters
    /// least; false when all matter. Whether it is there is seen by looking again.
    fn make_entry(
        &self,
        limits: AddressLimits,
        places: &[AtomicU64; BUCKET_PLACES],
        words: &[u64; BUCKET_PLACES],
        tag: NonZeroU32,
        now: u32,
    ) -> bool {
        let weight = |place: &usize| {
            let entry = Entry::from(words[*place]);
            if entry.tag == 0 { 0 } else { limits.ahead(entry, now) + 1 }
        };
        let is_free = |place: &usize| Entry::from(words[*place]).connections == 0;
        let Some(place) = (0..BUCKET_PLACES).filter(is_free).min_by_key(weight) else {
            return false;
        };
        let entry = Entry { tag: tag.get(), connections: 0, due: now };
        exchange(&places[place], words[place], entry.word());
        true
    }

    /// Empties a place, if it still has this word.
    fn empty(&self, place: &AtomicU64, word: u64) -> bool {
        // No partner: the number has to be another one each time, and nothing else.
        let times = self.emptied.fetch_add(1, Ordering::Relaxed);
        let empty = Entry { tag: 0, connections: 0, due: times as u32 & STEPS_MASK };
        exchange(place, word, empty.word())
    }
}

impl From<u64> for Entry {
    fn from(word: u64) -> Self {
        Self {
            tag: (word >> 40) as u32,
            connections: (word >> 24) as u16,
            due: word as u32 & STEPS_MASK,
        }
    }
}

impl Entry {
    fn word(self) -> u64 {
        u64::from(self.tag) << 40 | u64::from(self.connections) << 24 | u64::from(self.due)
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
/// A mebibyte, which is enough for 2^16 addresses.
const BUCKETS_LEAST: usize = if cfg!(ringwire_loom) { 1 } else { 1 << 14 };
/// 32 MiB; the hash has no more bits for them beside the tag.
const BUCKETS_MOST: usize = 1 << 19;
/// Steps wrap here.
const STEPS_MASK: u32 = (1 << 24) - 1;

/// A table whose limits stay.
#[cfg(test)]
struct Limited {
    table: AddressTable,
    limits: AddressLimits,
}

#[cfg(test)]
impl Limited {
    fn new(peers: &Peers, buckets: usize) -> Self {
        let limits = AddressLimits::of(peers);
        Self { table: AddressTable::with_buckets(buckets), limits }
    }

    fn admit(&self, address: IpAddr, now: Duration) -> Result<Admitted, Denial> {
        self.table.admit(self.limits, address, now)
    }

    fn release(&self, counted: Counted) {
        self.table.release(counted);
    }

    fn counted_for(&self, address: IpAddr) -> u32 {
        self.table.counted_for(self.limits, address)
    }

    fn counted(&self) -> u64 {
        self.table.counted()
    }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests;

/// Every interleaving, in a bucket with two places.
///
/// Run by `RUSTFLAGS="--cfg ringwire_loom" cargo test --release --lib addresses`.
#[cfg(all(test, ringwire_loom))]
mod loom_tests {
    use std::net::Ipv4Addr;

    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    fn check(most: u16, scenario: impl Fn(Arc<Limited>) + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || {
            let peers = Peers { connections_per_address: Some(most), ..Peers::default() };
            scenario(Arc::new(Limited::new(&peers, 1)));
        });
    }

    fn admit(table: &Limited, last: u8) -> Result<Admitted, Denial> {
        table.admit(Ipv4Addr::new(192, 0, 2, last).into(), Duration::ZERO)
    }

    fn count(table: &Limited, last: u8) -> u32 {
        table.counted_for(Ipv4Addr::new(192, 0, 2, last).into())
    }

    #[test]
    fn of_two_first_connections_of_an_address_one_gets_the_last_place() {
        check(1, |table| {
            // One place becomes free, of two, while they come.
            let other = admit(&table, 1).unwrap().counted.unwrap();
            let tables = [table.clone(), table.clone()];
            let [leaving, coming] = tables;
            let leaving = thread::spawn(move || leaving.release(other));
            let coming = thread::spawn(move || admit(&coming, 2).is_ok());
            let was_admitted = admit(&table, 2).is_ok();
            leaving.join().unwrap();
            assert!(coming.join().unwrap() != was_admitted);
            assert_eq!((count(&table, 1), count(&table, 2)), (0, 1));
        });
    }

    #[test]
    fn what_ends_makes_room_and_is_not_lost() {
        check(2, |table| {
            let first = admit(&table, 1).unwrap().counted.unwrap();
            let others = table.clone();
            let ending = thread::spawn(move || others.release(first));
            let second = admit(&table, 1).unwrap().counted.unwrap();
            ending.join().unwrap();
            assert_eq!(count(&table, 1), 1);
            table.release(second);
            assert_eq!(table.counted(), 0);
        });
    }
}
