//! How long well-behaved clients wait before they reconnect.
//!
//! RFC 6455 section 7.2.3 wants a random wait before the first attempt and longer ones after each
//! that failed, or all who were cut off at once would come back at once, again and again.

use std::hash::{BuildHasher, RandomState};

/// The waits of one thread's connections.
#[derive(Debug, Default)]
pub struct Backoff {
    random: RandomState,
    waits: u64,
}

impl Backoff {
    /// The wait before the next attempt, in nanoseconds: 1 s, doubled to at most 16 s with each
    /// attempt that failed, and up to 3 s at random.
    pub fn wait_ns(&mut self, failed_attempts: u32) -> u64 {
        self.waits += 1;
        let random_ns = self.random.hash_one(self.waits) % RANDOM_NS;
        (FIRST_NS << failed_attempts.min(DOUBLINGS_MOST)) + random_ns
    }
}

const FIRST_NS: u64 = 1_000_000_000;
const DOUBLINGS_MOST: u32 = 4;
const RANDOM_NS: u64 = 3_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread() {
        let mut backoff = Backoff::default();
        for (failed_attempts, seconds) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 16)] {
            let least_ns = seconds * 1_000_000_000;
            let waits: Vec<_> = (0..1000).map(|_| backoff.wait_ns(failed_attempts)).collect();
            assert!(waits.iter().all(|wait| (least_ns..least_ns + RANDOM_NS).contains(wait)));
            // Of 1000 random waits some are early and some are late.
            assert!(waits.iter().any(|&wait| wait < least_ns + RANDOM_NS / 4));
            assert!(waits.iter().any(|&wait| wait > least_ns + RANDOM_NS / 4 * 3));
        }
        assert!((16..19).contains(&(backoff.wait_ns(u32::MAX) / 1_000_000_000)));
    }
}
