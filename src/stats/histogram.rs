//! How often something took how long: a histogram with fixed buckets, each a counter.

use super::Counter;

/// Durations in buckets whose bounds are powers of two, in microseconds: the first goes up to
/// `1 << LEAST_LOG2`, each of the others twice as far as the one before, the last to infinity. A
/// duration costs three additions and no search.
#[derive(Debug, Default)]
pub struct Histogram<const LEAST_LOG2: u32> {
    buckets: [Counter; BUCKETS],
    sum_us: Counter,
}

impl<const LEAST_LOG2: u32> Histogram<LEAST_LOG2> {
    /// Counts a duration of so many microseconds; only the owning shard may call this.
    pub fn observe(&self, duration_us: u64) {
        // The power of two that is not below it.
        let log2 = u64::BITS - duration_us.saturating_sub(1).leading_zeros();
        let place = log2.saturating_sub(LEAST_LOG2) as usize;
        self.buckets[place.min(BUCKETS - 1)].add(1);
        self.sum_us.add(duration_us);
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { least_log2: LEAST_LOG2, ..Counts::default() };
        for (count, bucket) in counts.buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.value();
        }
        counts.sum_us = self.sum_us.value();
        counts
    }
}

/// What a histogram has counted, or several alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    least_log2: u32,
    buckets: [u64; BUCKETS],
    sum_us: u64,
}

impl Counts {
    /// These and others of the same bounds.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        debug_assert_eq!(self.least_log2, other.least_log2, "these have other bounds");
        for (count, more) in self.buckets.iter_mut().zip(other.buckets) {
            *count += more;
        }
        self.sum_us += other.sum_us;
        self
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All durations together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }

    /// The upper bound of each bucket in seconds, and how many durations lie in it and in none
    /// before.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        self.buckets.iter().enumerate().map(|(place, &count)| {
            let bound_us = match place + 1 < BUCKETS {
                true => (1_u64 << (self.least_log2 + place as u32)) as f64,
                false => f64::INFINITY,
            };
            (bound_us / 1e6, count)
        })
    }
}

/// With the one that has no upper bound: 23 powers of two, a range of eight million.
const BUCKETS: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_lies_in_the_first_bucket_that_reaches_it() {
        for (duration_us, bound_us) in [
            (0, 16.0),
            (1, 16.0),
            (16, 16.0),
            (17, 32.0),
            (32, 32.0),
            (33, 64.0),
            ((16 << 22) - 1, f64::from(16 << 22)),
            (16 << 22, f64::from(16 << 22)),
            ((16 << 22) + 1, f64::INFINITY),
            (u64::MAX, f64::INFINITY),
        ] {
            let histogram = Histogram::<4>::default();
            histogram.observe(duration_us);
            let counts = histogram.counts();
            let (bound, _) = counts.buckets().find(|(_, count)| *count > 0).unwrap();
            assert_eq!((bound, counts.count()), (bound_us / 1e6, 1), "{duration_us}");
        }
    }

    #[test]
    fn counts_add_up() {
        let (one, other) = (Histogram::<0>::default(), Histogram::<0>::default());
        one.observe(2);
        one.observe(1_000_000);
        other.observe(2);
        let all = one.counts().plus(&other.counts());
        assert_eq!((all.count(), all.sum_seconds()), (3, 1.000_004));
        let filled: Vec<_> = all.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(2e-6, 2), (f64::from(1 << 20) / 1e6, 1)]);
    }
}
