//! Connections that are sent away, so that their clients connect again, elsewhere perhaps: those
//! whose peers have been silent for the longest, each at a moment of its own.

use std::collections::BinaryHeap;
use std::time::Duration;

use super::timers::{TICK_MS, Tick};
use crate::io::Key;

/// The connections with the longest silence among those that were considered.
pub(super) struct Idlest {
    most: usize,
    /// The one that was last heard of is on top.
    heap: BinaryHeap<Candidate>,
}

/// A connection, by when its peer was last heard of. The index tells those of one moment apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    last_active: Tick,
    index: u32,
    generation: u32,
}

/// Connections that are being sent away.
pub(super) struct Release {
    /// Those that are left, the next one last.
    left: Vec<Candidate>,
    moments: Moments,
    /// When it is the turn of the next.
    next_at: Tick,
}

/// Moments within a window, in their order, as if each had been drawn by itself.
struct Moments {
    random: u64,
    /// Moments that have not been drawn.
    left: usize,
    /// The last moment, and the end of the window; in ticks.
    last: f64,
    end: f64,
}

impl Idlest {
    /// None yet, of so many at the most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, heap: BinaryHeap::new() }
    }

    /// Takes in a connection, if it is among those with the longest silence.
    pub(super) fn consider(&mut self, last_active: Tick, key: Key) {
        let Key { index, generation } = key;
        self.heap.push(Candidate { last_active, index, generation });
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

impl Release {
    /// Sends these away within a window that begins `now`, at moments drawn from `seed`.
    pub(super) fn new(idlest: Idlest, now: Tick, window: Duration, seed: u64) -> Self {
        // In no order: to sort very many would take long.
        let left = idlest.heap.into_vec();
        let mut moments = Moments::new(now, window, left.len(), seed);
        let next_at = moments.next();
        Self { left, moments, next_at }
    }

    /// The next one whose moment has come; it may have ended meanwhile.
    pub(super) fn next(&mut self, now: Tick) -> Option<Key> {
        if self.next_at > now {
            return None;
        }
        let Candidate { index, generation, .. } = self.left.pop()?;
        self.next_at = self.moments.next();
        Some(Key { index, generation })
    }

    /// When it is the turn of the next.
    pub(super) fn next_tick(&self) -> Tick {
        self.next_at
    }

    /// Whether none is left.
    pub(super) fn is_over(&self) -> bool {
        self.left.is_empty()
    }
}

impl Moments {
    fn new(now: Tick, window: Duration, count: usize, seed: u64) -> Self {
        let window = window.as_secs_f64() * 1000.0 / TICK_MS as f64;
        let last = f64::from(now);
        Self { random: seed, left: count, last, end: last + window }
    }

    /// The next moment; the end of the window when there is none.
    fn next(&mut self) -> Tick {
        if self.left == 0 {
            return self.end as Tick;
        }
        // The first of `left` moments that are drawn evenly from what is left of the window.
        let step = 1.0 - self.draw().powf(1.0 / self.left as f64);
        self.last += (self.end - self.last) * step;
        self.left -= 1;
        self.last as Tick
    }

    /// A number from 0 to 1, by SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom
    /// number generators", 2014).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // The upper 53 bits are as many as a double holds.
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(index: usize) -> Key {
        Key { index: index as u32, generation: 7 }
    }

    proptest! {
        /// The naive model sorts all of them.
        #[test]
        fn the_idlest_go_and_all_within_the_window(
            silences in prop::collection::vec(0..50u32, 0..60),
            most in 0..70usize,
            window_ms in 0..20_000u64,
            seed: u64,
        ) {
            let mut idlest = Idlest::new(most);
            for (index, last_active) in silences.iter().enumerate() {
                idlest.consider(*last_active, key(index));
            }
            let mut expected: Vec<_> = silences.iter().copied().zip(0..silences.len()).collect();
            expected.sort_unstable();
            expected.truncate(most);
            prop_assert_eq!(idlest.len(), expected.len());
            let begin = 1000;
            let window = Duration::from_millis(window_ms);
            let mut release = Release::new(idlest, begin, window, seed);
            let end = begin + (window_ms / TICK_MS) as Tick;
            let mut released = Vec::new();
            for now in begin..=end {
                while let Some(key) = release.next(now) {
                    released.push(key);
                }
                prop_assert!(release.is_over() || release.next_tick() > now);
            }
            prop_assert!(release.is_over());
            let mut expected: Vec<_> = expected.into_iter().map(|(_, index)| index).collect();
            expected.sort_unstable();
            released.sort_unstable_by_key(|key| key.index);
            let expected: Vec<_> = expected.into_iter().map(key).collect();
            prop_assert_eq!(released, expected);
        }
    }

    #[test]
    fn moments_are_spread_over_the_window() {
        const COUNT: usize = 10_000;
        let mut moments = Moments::new(500, Duration::from_secs(100), COUNT, 3);
        let mut tenths = [0; 10];
        for _ in 0..COUNT {
            tenths[(moments.next() as usize - 500) / 100] += 1;
        }
        // Of 10,000 that are drawn evenly, between 900 and 1,100 fall into each tenth.
        assert!(tenths.iter().all(|count| (900..1100).contains(count)), "{tenths:?}");
        let draw = |seed| {
            let mut moments = Moments::new(0, Duration::from_secs(100), 5, seed);
            (0..5).map(|_| moments.next()).collect::<Vec<_>>()
        };
        assert_ne!(draw(1), draw(2), "each release has moments of its own");
    }
}
