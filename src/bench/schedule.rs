//! What the threads of a run share: one clock, the moments at which its parts begin and end, and
//! how far each thread has come.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The part of a run that a moment lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Connections are being opened.
    Connecting,
    /// The workload runs, but does not count yet.
    Warmup,
    /// The workload runs and counts.
    Measuring,
    /// Nothing new is begun.
    Finished,
}

/// The moments of a run, in nanoseconds of its clock.
#[derive(Debug)]
pub struct Schedule {
    epoch: Instant,
    begin_ns: AtomicU64,
    from_ns: AtomicU64,
    until_ns: AtomicU64,
    may_close: AtomicBool,
    is_interrupted: AtomicBool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            begin_ns: AtomicU64::new(u64::MAX),
            from_ns: AtomicU64::new(u64::MAX),
            until_ns: AtomicU64::new(u64::MAX),
            may_close: AtomicBool::new(false),
            is_interrupted: AtomicBool::new(false),
        }
    }
}

impl Schedule {
    /// The time since the run's start.
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Fixes all moments: the workload begins now.
    pub fn begin(&self, warmup: Duration, measured: Duration) {
        let begin = self.now_ns();
        let from = begin + warmup.as_nanos() as u64;
        self.until_ns.store(from + measured.as_nanos() as u64, Ordering::Relaxed);
        self.from_ns.store(from, Ordering::Relaxed);
        // Partner: the load in `moments`. Who sees the beginning sees the other moments as well.
        self.begin_ns.store(begin, Ordering::Release);
    }

    /// Beginning of the warm-up, of the measurement, and its end; `None` while connecting.
    pub fn moments(&self) -> Option<Moments> {
        // Partner: the store in `begin`.
        let begin_ns = self.begin_ns.load(Ordering::Acquire);
        let from_ns = self.from_ns.load(Ordering::Relaxed);
        let until_ns = self.until_ns.load(Ordering::Relaxed);
        (begin_ns != u64::MAX).then_some(Moments { begin_ns, from_ns, until_ns })
    }

    /// Ends the run early: a little later than now, so that all threads learn of the end before it
    /// comes.
    pub fn interrupt(&self) {
        let until_ns = self.until_ns.load(Ordering::Relaxed);
        if until_ns != u64::MAX {
            let until_ns = until_ns.min(self.now_ns() + NOTICE_NS);
            let from_ns = self.from_ns.load(Ordering::Relaxed).min(until_ns);
            self.from_ns.store(from_ns, Ordering::Relaxed);
            self.until_ns.store(until_ns, Ordering::Relaxed);
        }
        // Partner: the load in `is_interrupted`. Who sees it sees the new moments as well.
        self.is_interrupted.store(true, Ordering::Release);
    }

    /// Whether the run ends early.
    pub fn is_interrupted(&self) -> bool {
        // Partner: the store in `interrupt`.
        self.is_interrupted.load(Ordering::Acquire)
    }

    /// Lets the threads close their connections: whatever was to be sampled has been.
    pub fn allow_close(&self) {
        // No partner: nothing is published along with it.
        self.may_close.store(true, Ordering::Relaxed);
    }

    /// Whether connections may be closed.
    pub fn may_close(&self) -> bool {
        self.may_close.load(Ordering::Relaxed)
    }
}

/// The moments of a run, in nanoseconds of its clock.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// The workload begins.
    pub begin_ns: u64,
    /// What happens from here on counts.
    pub from_ns: u64,
    /// What happens from here on does not.
    pub until_ns: u64,
}

impl Moments {
    /// The stage at `now_ns`.
    pub fn stage(&self, now_ns: u64) -> Stage {
        match now_ns {
            now if now < self.from_ns => Stage::Warmup,
            now if now < self.until_ns => Stage::Measuring,
            _ => Stage::Finished,
        }
    }

    /// The next moment after `now_ns`.
    pub fn next(&self, now_ns: u64) -> Option<u64> {
        [self.from_ns, self.until_ns].into_iter().find(|&moment| moment > now_ns)
    }
}

/// Longer than a thread waits for its next event.
const NOTICE_NS: u64 = 150_000_000;

/// How far one thread has come; it alone writes.
#[derive(Debug, Default)]
pub struct Progress {
    /// Messages received (or handshakes done, where these are what counts).
    pub messages: AtomicU64,
    /// Connections open now.
    pub open: AtomicU32,
    /// Connections whose first attempt has ended, well or not.
    pub settled: AtomicU32,
    /// Failures so far.
    pub failures: AtomicU64,
    /// The workload has nothing left to do.
    pub is_done: AtomicBool,
    /// The thread has ended or is about to.
    pub has_ended: AtomicBool,
}

/// Sums of all threads' progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages received.
    pub messages: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections whose first attempt has ended.
    pub settled: u64,
    /// Failures so far.
    pub failures: u64,
}

impl Totals {
    /// The sums over all threads.
    pub fn of(all: &[Progress]) -> Self {
        all.iter().fold(Self::default(), |sum, one| Self {
            messages: sum.messages + one.messages.load(Ordering::Relaxed),
            open: sum.open + u64::from(one.open.load(Ordering::Relaxed)),
            settled: sum.settled + u64::from(one.settled.load(Ordering::Relaxed)),
            failures: sum.failures + one.failures.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other() {
        let schedule = Schedule::default();
        assert!(schedule.moments().is_none());
        schedule.begin(Duration::from_secs(1), Duration::from_secs(2));
        let moments = schedule.moments().expect("begun");
        let from = moments.begin_ns + 1_000_000_000;
        assert_eq!(moments.stage(moments.begin_ns), Stage::Warmup);
        assert_eq!(moments.stage(from), Stage::Measuring);
        assert_eq!(moments.stage(from + 2_000_000_000), Stage::Finished);
        assert_eq!(moments.next(0), Some(from));
        assert_eq!(moments.next(from), Some(from + 2_000_000_000));
        assert_eq!(moments.next(moments.until_ns), None);
    }

    #[test]
    fn an_interruption_brings_the_end_nearer() {
        let schedule = Schedule::default();
        schedule.begin(Duration::ZERO, Duration::from_secs(1000));
        let before = schedule.moments().expect("begun");
        schedule.interrupt();
        let after = schedule.moments().expect("begun");
        assert!(schedule.is_interrupted());
        assert_eq!((after.begin_ns, after.from_ns), (before.begin_ns, before.from_ns));
        assert!(after.from_ns < after.until_ns && after.until_ns < before.until_ns);
        // In the warm-up, nothing has been measured.
        let schedule = Schedule::default();
        schedule.begin(Duration::from_secs(1000), Duration::from_secs(1000));
        schedule.interrupt();
        let after = schedule.moments().expect("begun");
        assert_eq!(after.from_ns, after.until_ns);
        // Before the beginning there is no end to bring nearer.
        let schedule = Schedule::default();
        schedule.interrupt();
        assert!(schedule.is_interrupted() && schedule.moments().is_none());
    }
}
