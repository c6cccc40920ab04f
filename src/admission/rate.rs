//! So many in a second, as many at once: the generic cell rate algorithm (ITU-T I.371), which keeps
//! one number, the moment at which the next would be due if all came evenly.

use std::time::Duration;

#[cfg(ringwire_loom)]
use loom::sync;
#[cfg(not(ringwire_loom))]
use std::sync;

use sync::atomic::{AtomicU64, Ordering};

/// How many in a second; time is counted in what one of them takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate(u32);

impl Rate {
    pub(super) fn per_second(count: u32) -> Self {
        Self(count)
    }

    /// The time since the start of the process, in steps of one event each.
    pub(super) fn steps(self, now: Duration) -> u64 {
        let steps = now.as_nanos().saturating_mul(u128::from(self.0)) / NANOSECONDS;
        u64::try_from(steps).unwrap_or(u64::MAX)
    }

    /// Whether one more may come when the next is due so many steps from now: a second's worth may
    /// come at once.
    pub(super) fn has_room(self, ahead: u64) -> bool {
        ahead < u64::from(self.0)
    }

    /// When the next is due behind one that comes `now` and was due then; nothing if that is one
    /// too many. Both in nanoseconds since the start of the process.
    fn next_due(self, due_ns: u64, now: Duration) -> Option<u64> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let each_ns = NANOSECONDS as u64 / u64::from(self.0);
        let next_ns = due_ns.max(now_ns).saturating_add(each_ns);
        (next_ns - now_ns <= NANOSECONDS as u64).then_some(next_ns)
    }
}

/// What all shards together have let come, at a rate that may change.
#[derive(Debug, Default)]
pub(super) struct RateLimiter {
    /// When the next is due, in nanoseconds since the start of the process.
    due_ns: AtomicU64,
}

impl RateLimiter {
    /// Whether one that comes `now` would be counted, if no other comes in between.
    pub(super) fn has_room(&self, rate: Rate, now: Duration) -> bool {
        // No partner: what another thread counts meanwhile is seen when this one counts.
        rate.next_due(self.due_ns.load(Ordering::Relaxed), now).is_some()
    }

    /// Counts one that comes `now`; false when it is one too many, and then it does not count.
    pub(super) fn admit(&self, rate: Rate, now: Duration) -> bool {
        // No partner: nothing is published along with the number.
        let counted = self
            .due_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| rate.next_due(due, now));
        counted.is_ok()
    }
}

const NANOSECONDS: u128 = 1_000_000_000;

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_seconds_worth_may_come_at_once_and_then_one_in_each_step() {
        let (limiter, rate) = (RateLimiter::default(), Rate::per_second(4));
        let admitted = |ms| limiter.admit(rate, Duration::from_millis(ms));
        assert_eq!((0..9).filter(|_| admitted(10_000)).count(), 4);
        assert!(!admitted(10_249));
        assert!(admitted(10_250) && !admitted(10_250));
        assert!(admitted(10_999) && admitted(10_999) && !admitted(10_999));
        // Whoever was quiet for long may not come more often than a second's worth.
        assert_eq!((0..9).filter(|_| admitted(99_000)).count(), 4);
        // A shard whose clock was read a little earlier takes nothing from the others.
        assert!(!admitted(98_000));
        // Another rate holds from its first moment on, whatever came before.
        let admits = |rate, ms| limiter.admit(Rate::per_second(rate), Duration::from_millis(ms));
        assert_eq!((0..2000).filter(|_| admits(1000, 200_000)).count(), 1000);
        assert!(!admits(1, 200_500) && admits(1, 201_000) && !admits(1, 201_999));
    }

    proptest! {
        #[test]
        fn no_span_of_time_has_more_than_its_share(
            per_second in 1..50_u32,
            gaps_ms in prop::collection::vec(0..400_u64, 1..200),
        ) {
            let (limiter, rate) = (RateLimiter::default(), Rate::per_second(per_second));
            let mut now_ms = 0;
            let mut admitted_ms = Vec::new();
            for gap_ms in gaps_ms {
                now_ms += gap_ms;
                if limiter.admit(rate, Duration::from_millis(now_ms)) {
                    admitted_ms.push(now_ms);
                }
            }
            for (first, from_ms) in admitted_ms.iter().enumerate() {
                for (last, to_ms) in admitted_ms.iter().enumerate().skip(first) {
                    let most = u64::from(per_second) * (1000 + to_ms - from_ms) / 1000 + 1;
                    prop_assert!((last - first) as u64 <= most);
                }
            }
        }
    }
}
