//! What waits for an answer from elsewhere: each entry ends exactly once, by its answer or by its
//! deadline, and its key makes an answer that comes later harmless.

use slab::Slab;

use super::timers::{Tick, Wheel};

/// Names what waits for an answer; another tenant of the same place has another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingKey {
    index: u32,
    generation: u32,
}

/// A bounded number of entries, each with a deadline.
pub struct Pending<V> {
    entries: Slab<(u32, V)>,
    next_generation: u32,
    deadlines: Wheel,
    most: usize,
}

impl<V> Pending<V> {
    /// Room for so many entries.
    pub fn new(most: usize) -> Self {
        Self {
            entries: Slab::with_capacity(most),
            next_generation: 0,
            deadlines: Wheel::new(most),
            most,
        }
    }

    /// Takes in what waits until `deadline` at the most.
    ///
    /// # Errors
    /// Hands it back when there is no room.
    pub fn insert(&mut self, value: V, deadline: Tick) -> Result<PendingKey, V> {
        if self.entries.len() >= self.most {
            return Err(value);
        }
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let index = self.entries.insert((generation, value)) as u32;
        self.deadlines.schedule(index, deadline);
        Ok(PendingKey { index, generation })
    }

    /// Ends an entry, because its answer has come; nothing if it has ended before.
    pub fn end(&mut self, key: PendingKey) -> Option<V> {
        let (generation, _) = self.entries.get(key.index as usize)?;
        if *generation != key.generation {
            return None;
        }
        self.deadlines.cancel(key.index);
        self.entries.try_remove(key.index as usize).map(|(_, value)| value)
    }

    /// Ends all entries whose deadlines have passed.
    pub fn expire(&mut self, now: Tick) -> Vec<V> {
        let Self { entries, deadlines, .. } = self;
        let mut expired = Vec::new();
        deadlines.advance(now, |index| {
            expired.extend(entries.try_remove(index as usize).map(|(_, value)| value));
        });
        expired
    }

    /// The next tick at which [`expire`](Self::expire) may find something.
    pub fn next_tick(&self) -> Option<Tick> {
        self.deadlines.next_tick()
    }

    /// Those that have not ended, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, (_, value))| value)
    }

    /// Entries that have not ended.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether all have ended.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_late_answer_meets_nobody() {
        let mut pending = Pending::new(1);
        let first = pending.insert('a', 5).unwrap();
        assert_eq!(pending.insert('b', 5), Err('b'), "there is no room");
        assert_eq!(pending.expire(4), []);
        assert_eq!(pending.expire(5), ['a']);
        assert_eq!(pending.end(first), None, "its deadline was first");
        let second = pending.insert('c', 9).unwrap();
        assert_eq!(pending.end(first), None, "another has its place");
        assert_eq!(pending.end(second), Some('c'));
        assert_eq!((pending.end(second), pending.expire(100), pending.len()), (None, vec![], 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Tick),
        End(usize),
        Advance(Tick),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..2000u32).prop_map(Step::Insert),
            (0..40usize).prop_map(Step::End),
            (1..900u32).prop_map(Step::Advance),
        ]
    }

    proptest! {
        /// The naive model is a list of all keys ever given and whether each has ended.
        #[test]
        fn each_entry_ends_once(steps in prop::collection::vec(step(), 0..100)) {
            const MOST: usize = 5;
            let mut pending = Pending::new(MOST);
            let mut model: Vec<(PendingKey, Tick, bool)> = Vec::new();
            let mut now = 0;
            for step in steps {
                let open = model.iter().filter(|(_, _, is_open)| *is_open).count();
                prop_assert_eq!(pending.len(), open);
                match step {
                    Step::Insert(after) => match pending.insert(model.len(), now + after) {
                        Ok(key) => model.push((key, now + after, true)),
                        Err(_) => prop_assert_eq!(open, MOST),
                    },
                    Step::End(number) => {
                        let Some((key, _, is_open)) = model.get_mut(number) else { continue };
                        let is_open = std::mem::take(is_open);
                        prop_assert_eq!(pending.end(*key), is_open.then_some(number));
                    }
                    Step::Advance(ticks) => {
                        now += ticks;
                        let mut expired = pending.expire(now);
                        expired.sort_unstable();
                        let mut due = Vec::new();
                        for (number, (_, deadline, is_open)) in model.iter_mut().enumerate() {
                            if *is_open && *deadline <= now {
                                *is_open = false;
                                due.push(number);
                            }
                        }
                        prop_assert_eq!(expired, due);
                    }
                }
                let next = model.iter().filter(|entry| entry.2).map(|entry| entry.1).min();
                let is_early = |tick| next.is_some_and(|next| tick <= next);
                prop_assert!(pending.next_tick().is_none_or(is_early));
            }
        }
    }
}
