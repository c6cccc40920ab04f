//! Which topics somebody subscribes to on another shard, so that nothing else enters the broadcast
//! rings, and which of them are behind there, so that their publishers wait.
//!
//! A table of counters that all shards share: each topic that has members on a shard counts once
//! for that shard, in the slot that its name hashes to. What a shard finds there beyond its own
//! count is the interest of others. Two topics that share a slot cost a message that nobody wanted,
//! or a wait for each other, and nothing is ever missed: a shard counts a topic before it answers
//! the upgrade of its first member, so whoever publishes because that member is there finds it
//! counted.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::relay::Relay;

/// The counters that all shards share.
#[derive(Debug)]
pub struct InterestTable {
    /// Keyed, so that no peer can choose names that share a slot.
    hasher: RandomState,
    slots: Box<[AtomicU32]>,
    /// How many topics of the same hash have much pending, each on one shard; those that have
    /// [very much](Fullness::VeryFull) count in the upper half as well.
    full: Box<[AtomicU32]>,
    /// The way to another process, which may have members of every topic.
    relay: Relay,
}

/// One shard's view of the table.
#[derive(Debug)]
pub struct Interest {
    table: Arc<InterestTable>,
    /// What this shard has counted, slot by slot.
    own: Vec<u32>,
    /// The same of topics that have much pending.
    own_full: Vec<u32>,
}

/// How much a topic has pending on a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fullness {
    /// Less than its share.
    HasRoom,
    /// So much that those who send much have to wait.
    Full,
    /// So much that everybody has to.
    VeryFull,
}

impl Fullness {
    /// What a topic adds to the counter of its slot.
    fn count(self) -> u32 {
        match self {
            Self::HasRoom => 0,
            Self::Full => 1,
            Self::VeryFull => 1 | VERY_FULL,
        }
    }

    /// What such a counter says.
    fn of(count: u32) -> Self {
        match count {
            0 => Self::HasRoom,
            1..VERY_FULL => Self::Full,
            VERY_FULL.. => Self::VeryFull,
        }
    }
}

/// Where the topics of a hash are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterestSlot(u32);

impl InterestTable {
    /// Counters for this many shards.
    pub fn new(shards: usize) -> Arc<Self> {
        // A lone shard has nobody to tell.
        let slots = if shards > 1 { SLOTS } else { 1 };
        let zeros = || (0..slots).map(|_| AtomicU32::new(0)).collect();
        let (hasher, relay) = (RandomState::new(), Relay::new());
        Arc::new(Self { hasher, slots: zeros(), full: zeros(), relay })
    }

    /// The way to another process that serves the same topics.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }
}

impl Interest {
    /// The view of a shard that has counted nothing yet.
    pub fn new(table: Arc<InterestTable>) -> Self {
        let (own, own_full) = (vec![0; table.slots.len()], vec![0; table.slots.len()]);
        Self { table, own, own_full }
    }

    /// Counts a topic that got its first member on this shard.
    pub fn add(&mut self, topic: &str) -> InterestSlot {
        let InterestSlot(slot) = self.slot_of(topic);
        self.own[slot as usize] += 1;
        // Release, partner: the Acquire load in `is_wanted_elsewhere`. What orders the two is the
        // way of the upgrade's answer and of the message it brings about, through the kernel.
        self.table.slots[slot as usize].fetch_add(1, Ordering::Release);
        InterestSlot(slot)
    }

    /// Where a topic is counted, whether or not it has a member here.
    pub fn slot_of(&self, topic: &str) -> InterestSlot {
        InterestSlot((self.table.hasher.hash_one(topic) as usize % self.own.len()) as u32)
    }

    /// Takes back the count of a topic that has lost its last member on this shard.
    pub fn remove(&mut self, InterestSlot(slot): InterestSlot) {
        self.own[slot as usize] -= 1;
        // Relaxed: one message too many does no harm.
        self.table.slots[slot as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether another shard, or process, may have members of the topics that are counted here.
    pub fn is_wanted_elsewhere(&self, InterestSlot(slot): InterestSlot) -> bool {
        // Acquire, partner: the Release in `add`.
        let all = self.table.slots[slot as usize].load(Ordering::Acquire);
        all > self.own[slot as usize] || self.table.relay.is_on()
    }

    /// Tells the other shards how full a topic is now on this one, that was `before`.
    pub fn set_fullness(
        &mut self,
        InterestSlot(slot): InterestSlot,
        before: Fullness,
        now: Fullness,
    ) {
        let change = now.count().wrapping_sub(before.count());
        let own = &mut self.own_full[slot as usize];
        *own = own.wrapping_add(change);
        // Relaxed, as the load in `fullness_elsewhere`: who learns of it late publishes a little
        // more, or waits a tick longer.
        self.table.full[slot as usize].fetch_add(change, Ordering::Relaxed);
    }

    /// How full the topics that are counted here are on any shard, at the most.
    pub fn fullness_anywhere(&self, InterestSlot(slot): InterestSlot) -> Fullness {
        // Relaxed: see `set_fullness`.
        Fullness::of(self.table.full[slot as usize].load(Ordering::Relaxed))
    }

    /// The same of other shards alone.
    pub fn fullness_elsewhere(&self, InterestSlot(slot): InterestSlot) -> Fullness {
        // Relaxed: see `set_fullness`.
        let all = self.table.full[slot as usize].load(Ordering::Relaxed);
        Fullness::of(all.wrapping_sub(self.own_full[slot as usize]))
    }
}

/// One in the upper half of a counter.
const VERY_FULL: u32 = 1 << 16;
/// Counters: few topics share one as long as there are some ten thousand; half a megabyte, and half
/// as much for each shard, of which only what is used is ever touched.
const SLOTS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_is_that_of_others() {
        let table = InterestTable::new(2);
        let (mut one, mut other) = (Interest::new(table.clone()), Interest::new(table));
        let here = one.add("a");
        assert!(!one.is_wanted_elsewhere(here));
        let there = other.add("a");
        assert_eq!(here, there);
        assert!(one.is_wanted_elsewhere(here) && other.is_wanted_elsewhere(there));
        one.remove(here);
        assert!(one.is_wanted_elsewhere(here) && !other.is_wanted_elsewhere(there));
        other.remove(there);
        assert!(!one.is_wanted_elsewhere(here));
    }

    #[test]
    fn a_topic_that_is_full_holds_back_publishers_elsewhere() {
        use Fullness::{Full, HasRoom, VeryFull};
        let table = InterestTable::new(2);
        let (mut one, mut other) = (Interest::new(table.clone()), Interest::new(table));
        let slot = one.add("a");
        assert_eq!(slot, other.add("a"));
        for (before, now) in [(HasRoom, Full), (Full, VeryFull), (VeryFull, HasRoom)] {
            one.set_fullness(slot, before, now);
            assert_eq!(one.fullness_elsewhere(slot), HasRoom, "it is full here");
            assert_eq!(other.fullness_elsewhere(slot), now);
            assert_eq!((one.fullness_anywhere(slot), other.fullness_anywhere(slot)), (now, now));
        }
        one.set_fullness(slot, HasRoom, Full);
        other.set_fullness(slot, HasRoom, VeryFull);
        assert_eq!(
            (one.fullness_elsewhere(slot), other.fullness_elsewhere(slot)),
            (VeryFull, Full)
        );
    }

    #[test]
    fn topics_that_share_a_slot_are_told_apart_by_their_number() {
        let mut alone = Interest::new(InterestTable::new(1));
        let (first, second) = (alone.add("a"), alone.add("b"));
        assert_eq!(first, second, "a lone shard has one slot");
        assert!(!alone.is_wanted_elsewhere(first));
        alone.remove(first);
        assert!(!alone.is_wanted_elsewhere(second));
    }
}
