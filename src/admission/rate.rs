//! So many in a second, as many at once: the generic cell rate algorithm (ITU-T I.371), which keeps
//! one number, the moment at which the next would be due if all came evenly.

use std::time::Duration;

#[cfg(ringwire_loom)]
use loom::sync;
#[cfg(not(ringwire_loom))]
use std::sync;

use sync::atomic::{AtomicU64, Ordering};

/// How many in a second, and as many at once. Moments are in nanoseconds since the start of the
/// process: they mean the same on every shard and at every rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// So many in a second, which is at least one.
    pub fn per_second(count: impl Into<u64>) -> Self {
        let count = count.into();
        debug_assert!(count > 0, "what is never due is no rate");
        Self(count)
    }

    /// How many that is in a second.
    pub fn count(self) -> u64 {
        self.0
    }

    /// How many more may come now.
    pub fn room(self, due_ns: u64, now_ns: u64) -> u64 {
        let left_ns = SECOND_NS.saturating_sub(due_ns.saturating_sub(now_ns));
        (u128::from(left_ns) * u128::from(self.0) / u128::from(SECOND_NS)) as u64
    }

    /// Counts so many that come now.
    pub fn charge(self, due_ns: &mut u64, now_ns: u64, count: u64) {
        *due_ns = (*due_ns).max(now_ns).saturating_add(self.span_ns(count));
    }

    /// Whether more than a second's worth has come at once. What rounding has added is none of it:
    /// no more than a nanosecond for each of those that a second has.
    pub fn is_exceeded(self, due_ns: u64, now_ns: u64) -> bool {
        let rounding_ns = self.0.min(self.span_ns(1) / 2);
        due_ns.saturating_sub(now_ns) > SECOND_NS + rounding_ns
    }

    /// From when on one may come.
    pub fn next_ns(self, due_ns: u64) -> u64 {
        due_ns.saturating_add(self.span_ns(1)).saturating_sub(SECOND_NS)
    }

    /// How long so many take. Rounded up, so that there is never room for too many.
    pub fn span_ns(self, count: u64) -> u64 {
        let span_ns = (u128::from(count) * u128::from(SECOND_NS)).div_ceil(self.0.into());
        u64::try_from(span_ns).unwrap_or(u64::MAX)
    }

    /// A moment in steps of one event each.
    pub(super) fn steps(self, now_ns: u64) -> u64 {
        (u128::from(now_ns) * u128::from(self.0) / u128::from(SECOND_NS)) as u64
    }

    /// Whether one more may come when the next is due so many steps from now.
    pub(super) fn has_room(self, ahead: u64) -> bool {
        ahead < self.0
    }

    /// When the next is due behind one that comes now; nothing if that is one too many.
    fn next_due(self, mut due_ns: u64, now_ns: u64) -> Option<u64> {
        self.charge(&mut due_ns, now_ns, 1);
        (!self.is_exceeded(due_ns, now_ns)).then_some(due_ns)
    }
}

/// A time since the start of the process as it is counted here.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
        rate.next_due(self.due_ns.load(Ordering::Relaxed), nanoseconds(now)).is_some()
    }

    /// Counts one that comes `now`; false when it is one too many, and then it does not count.
    pub(super) fn admit(&self, rate: Rate, now: Duration) -> bool {
        let next = |due_ns| rate.next_due(due_ns, nanoseconds(now));
        // No partner: nothing is published along with the number.
        self.due_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

const SECOND_NS: u64 = 1_000_000_000;

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_seconds_worth_may_come_at_once_and_then_one_in_each_step() {
        let (limiter, rate) = (RateLimiter::default(), Rate::per_second(4_u32));
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
        let admits =
            |rate: u64, ms| limiter.admit(Rate::per_second(rate), Duration::from_millis(ms));
        assert_eq!((0..2000).filter(|_| admits(1000, 200_000)).count(), 1000);
        assert!(!admits(1, 200_500) && admits(1, 201_000) && !admits(1, 201_999));
    }

    proptest! {
        #[test]
        fn no_span_has_more_of_what_is_charged_behind(
            per_second in 1..2000_u64,
            gaps_ns in prop::collection::vec(0..SECOND_NS, 1..60),
        ) {
            let rate = Rate::per_second(per_second);
            let (mut due_ns, mut now_ns, mut taken) = (0, 0, Vec::new());
            for gap_ns in gaps_ns {
                now_ns += gap_ns;
                let count = rate.room(due_ns, now_ns);
                rate.charge(&mut due_ns, now_ns, count);
                prop_assert!(rate.next_ns(due_ns) <= now_ns + rate.span_ns(1));
                prop_assert!(rate.room(due_ns, rate.next_ns(due_ns).max(now_ns)) <= 1);
                taken.push((now_ns, count));
            }
            for first in 0..taken.len() {
                let span_ns = now_ns - taken[first].0;
                let count: u64 = taken[first..].iter().map(|(_, count)| count).sum();
                let most = u128::from(per_second) * u128::from(SECOND_NS + span_ns);
                prop_assert!(u128::from(count) * u128::from(SECOND_NS) <= most);
            }
        }

        #[test]
        fn no_span_of_time_has_more_than_its_share(
            per_second in 1..50_u64,
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
                    let most = per_second * (1000 + to_ms - from_ms) / 1000 + 1;
                    prop_assert!((last - first) as u64 <= most);
                }
            }
        }
    }
}
