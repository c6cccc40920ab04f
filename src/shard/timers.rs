//! A coarse timer wheel: one deadline for each connection, O(1) to set, move and cancel.
//!
//! A deadline lies in the bucket of its tick modulo the wheel's size; one beyond the wheel's
//! horizon is met again on every turn until it is due. Buckets are doubly linked through one array
//! of nodes that the connections' indices name, so that a connection costs 12 bytes and no
//! allocation.

/// Time in ticks of [`TICK_MS`] since the shard's start.
pub type Tick = u32;

/// One tick in milliseconds.
pub const TICK_MS: u64 = 100;

#[derive(Clone, Copy)]
struct Node {
    previous: u32,
    next: u32,
    deadline: Tick,
}

/// The deadlines of one shard.
pub struct Wheel {
    nodes: Vec<Node>,
    /// First node of each bucket.
    buckets: Vec<u32>,
    /// One bit for each bucket with a node.
    occupied: [u64; BUCKETS / 64],
    /// All ticks up to this one have been looked at.
    now: Tick,
}

impl Wheel {
    /// A wheel for indices below `capacity`, of which only those in use cost memory.
    pub fn new(capacity: usize) -> Self {
        Self {
            nodes: Vec::with_capacity(capacity),
            buckets: vec![NONE; BUCKETS],
            occupied: [0; BUCKETS / 64],
            now: 0,
        }
    }

    /// Sets or moves the deadline of `index`; one in the past is due with the next tick.
    pub fn schedule(&mut self, index: u32, deadline: Tick) {
        self.cancel(index);
        let place = index as usize;
        if place >= self.nodes.len() {
            self.nodes.resize(place + 1, Node { previous: NONE, next: NONE, deadline: UNSET });
        }
        let deadline = deadline.max(self.now.saturating_add(1));
        let bucket = deadline as usize % BUCKETS;
        let next = self.buckets[bucket];
        self.nodes[place] = Node { previous: NONE, next, deadline };
        if next != NONE {
            self.nodes[next as usize].previous = index;
        }
        self.buckets[bucket] = index;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
    }

    /// Forgets the deadline of `index`, if it has one.
    pub fn cancel(&mut self, index: u32) {
        let Some(&Node { previous, next, deadline }) = self.nodes.get(index as usize) else {
            return;
        };
        if deadline == UNSET {
            return;
        }
        self.nodes[index as usize].deadline = UNSET;
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
            return;
        }
        let bucket = deadline as usize % BUCKETS;
        self.buckets[bucket] = next;
        if next == NONE {
            self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        }
    }

    /// Whether `index` has a deadline that has not passed.
    pub fn is_scheduled(&self, index: u32) -> bool {
        self.deadline_of(index).is_some()
    }

    /// The deadline of `index`, if it has one that has not passed.
    pub fn deadline_of(&self, index: u32) -> Option<Tick> {
        let node = self.nodes.get(index as usize)?;
        (node.deadline != UNSET).then_some(node.deadline)
    }

    /// Moves on to `now` and hands over the indices whose deadlines have passed.
    pub fn advance(&mut self, now: Tick, mut expired: impl FnMut(u32)) {
        // After a turn every bucket has been looked at, however far the clock has jumped.
        let ticks = now.saturating_sub(self.now).min(BUCKETS as u32);
        let first = now - ticks;
        self.now = self.now.max(now);
        for tick in first + 1..=first + ticks {
            let mut index = self.buckets[tick as usize % BUCKETS];
            while index != NONE {
                let Node { next, deadline, .. } = self.nodes[index as usize];
                if deadline <= now {
                    self.cancel(index);
                    expired(index);
                }
                index = next;
            }
        }
    }

    /// The next tick at which `advance` may find something; `None` when nothing is scheduled.
    pub fn next_tick(&self) -> Option<Tick> {
        let start = self.now as usize + 1;
        let words = BUCKETS / 64;
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            }
            if bits != 0 {
                let bucket = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (bucket + BUCKETS - start % BUCKETS) % BUCKETS;
                return Some((start + ahead) as Tick);
            }
        }
        None
    }
}

/// Buckets of the wheel: 102.4 s until its first turn ends.
const BUCKETS: usize = 1024;
const NONE: u32 = u32::MAX;
const UNSET: Tick = Tick::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Schedule(u32, u32),
        Cancel(u32),
        Advance(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u32..20, 0u32..3000).prop_map(|(index, ahead)| Step::Schedule(index, ahead)),
            (0u32..20).prop_map(Step::Cancel),
            prop_oneof![1u32..40, 1u32..4000].prop_map(Step::Advance),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(steps in steps()) {
            let mut wheel = Wheel::new(4);
            let mut model: BTreeMap<u32, Tick> = BTreeMap::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Schedule(index, ahead) => {
                        wheel.schedule(index, now + ahead);
                        model.insert(index, (now + ahead).max(now + 1));
                        prop_assert_eq!(wheel.deadline_of(index), model.get(&index).copied());
                    }
                    Step::Cancel(index) => {
                        wheel.cancel(index);
                        model.remove(&index);
                    }
                    Step::Advance(ticks) => {
                        if let Some(earliest) = model.values().min() {
                            let next = wheel.next_tick().expect("something is scheduled");
                            prop_assert!(next > now && next <= *earliest);
                        } else {
                            prop_assert_eq!(wheel.next_tick(), None);
                        }
                        now += ticks;
                        let mut expired = Vec::new();
                        wheel.advance(now, |index| expired.push(index));
                        expired.sort_unstable();
                        let due = |(_, deadline): &(&u32, &Tick)| **deadline <= now;
                        let expected: Vec<u32> =
                            model.iter().filter(due).map(|(index, _)| *index).collect();
                        prop_assert_eq!(&expired, &expected);
                        model.retain(|_, deadline| *deadline > now);
                    }
                }
            }
        }
    }
}
