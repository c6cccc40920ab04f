//! How short memory is: measured on the control thread, heeded by every shard.
//!
//! Memory is judged by what the process really holds, not by adding up what it should hold: the
//! resident set against `--max-memory`, and the usage of each limited control group against its
//! limit. From [`REFUSE_PERCENT`] on new WebSockets are refused, from [`SHED_PERCENT`] on shards
//! close the connections that hold the most, until less than [`SHED_UNTIL_PERCENT`] is used.

pub mod allocator;
mod cgroup;
mod meter;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;

pub use meter::{Meter, NothingSpare, Usage, require_spare};

/// How short memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is enough.
    #[default]
    Calm,
    /// New WebSockets are refused; those that are open are served.
    Refuse,
    /// The limit is near: connections that hold the most memory are closed.
    Shed,
}

impl Pressure {
    /// The pressure that follows this one when `usage` is measured. It falls later than it rises,
    /// so that it does not flutter.
    #[must_use]
    pub fn after(self, usage: Usage) -> Self {
        if usage.reaches(SHED_PERCENT) || self == Self::Shed && usage.reaches(SHED_UNTIL_PERCENT) {
            Self::Shed
        } else if usage.reaches(REFUSE_PERCENT)
            || self > Self::Calm && usage.reaches(REFUSE_UNTIL_PERCENT)
        {
            Self::Refuse
        } else {
            Self::Calm
        }
    }

    /// The pressure as `/stats` prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Refuse => "refuse",
            Self::Shed => "shed",
        }
    }
}

/// What was told last; it differs from the one before when there is something to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signal(u64);

impl Signal {
    /// How short memory is.
    pub fn pressure(self) -> Pressure {
        match self.0 & PRESSURE_MASK {
            0 => Pressure::Calm,
            1 => Pressure::Refuse,
            _ => Pressure::Shed,
        }
    }

    fn next(self, pressure: Pressure) -> Self {
        Self((self.0 | PRESSURE_MASK).wrapping_add(1) | pressure as u64)
    }
}

/// What one thread measures and all shards read.
///
/// Every access is relaxed: each number stands for itself, nothing is published along with it, and
/// a shard that sees one of them late is told again with the next measurement.
#[derive(Debug, Default)]
pub struct Memory {
    signal: AtomicU64,
    used_bytes: AtomicU64,
    limit_bytes: AtomicU64,
    has_refused_long: AtomicBool,
    /// A shard has freed much.
    freed: Notify,
}

impl Memory {
    /// Has the control thread give back to the kernel what the shards have freed.
    pub fn give_back(&self) {
        self.freed.notify_one();
    }

    /// Waits until a shard wants that.
    pub async fn is_to_be_given_back(&self) {
        self.freed.notified().await;
    }

    /// Takes a measurement; true when shards must be woken, because the pressure has changed or
    /// more is to be shed. Only one thread may call this.
    pub fn tell(&self, usage: Usage) -> bool {
        self.tell_after(usage, false)
    }

    /// The same when WebSockets have been refused for too long: whoever holds the most makes room
    /// for those who are refused, until there is enough for all.
    pub fn tell_of_standing_refusal(&self, usage: Usage) -> bool {
        self.tell_after(usage, true)
    }

    fn tell_after(&self, usage: Usage, has_refused_long: bool) -> bool {
        self.used_bytes.store(usage.used_bytes, Ordering::Relaxed);
        self.limit_bytes.store(usage.limit_bytes, Ordering::Relaxed);
        self.has_refused_long.store(has_refused_long, Ordering::Relaxed);
        let signal = self.signal();
        let pressure = match signal.pressure().after(usage) {
            Pressure::Refuse if has_refused_long => Pressure::Shed,
            pressure => pressure,
        };
        let is_news = pressure != signal.pressure() || pressure == Pressure::Shed;
        if is_news {
            self.signal.store(signal.next(pressure).0, Ordering::Relaxed);
        }
        is_news
    }

    /// Asks the shards to give back what they have freed and keep, whatever the pressure; they must
    /// be woken. Only the thread that measures may call this.
    pub fn remind(&self) {
        let signal = self.signal();
        self.signal.store(signal.next(signal.pressure()).0, Ordering::Relaxed);
    }

    /// What was told last.
    pub fn signal(&self) -> Signal {
        Signal(self.signal.load(Ordering::Relaxed))
    }

    /// Bytes to be given back until shedding may end.
    pub fn excess_bytes(&self) -> u64 {
        let usage = self.usage();
        let percent = match self.has_refused_long.load(Ordering::Relaxed) {
            true => REFUSE_UNTIL_PERCENT,
            false => SHED_UNTIL_PERCENT,
        };
        // A byte less than that is enough.
        (usage.used_bytes + 1).saturating_sub(usage.limit_bytes / 100 * percent)
    }

    /// The measurement told last; zero of zero when there is no limit and nothing is measured.
    pub fn usage(&self) -> Usage {
        Usage {
            used_bytes: self.used_bytes.load(Ordering::Relaxed),
            limit_bytes: self.limit_bytes.load(Ordering::Relaxed),
        }
    }

    /// The pressure and what it rests on, as JSON; without a limit there are no numbers.
    pub fn to_json(&self) -> Value {
        let Usage { used_bytes, limit_bytes } = self.usage();
        let number = |number: u64| (limit_bytes > 0).then_some(number);
        json!({
            "pressure": self.signal().pressure().name(),
            "used_bytes": number(used_bytes),
            "limit_bytes": number(limit_bytes),
        })
    }
}

/// Part of the limit from which new WebSockets are refused, and below which they are welcome again.
const REFUSE_PERCENT: u64 = 85;
const REFUSE_UNTIL_PERCENT: u64 = 80;
/// Part of the limit from which connections are shed, and below which that ends.
const SHED_PERCENT: u64 = 95;
const SHED_UNTIL_PERCENT: u64 = 90;
/// The bits of a signal that tell the pressure; those above count the signals.
const PRESSURE_MASK: u64 = 0b11;

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(used_bytes: u64) -> Usage {
        Usage { used_bytes, limit_bytes: 1000 }
    }

    #[test]
    fn pressure_rises_at_once_and_falls_a_little_later() {
        let mut pressure = Pressure::Calm;
        let mut seen = Vec::new();
        for used in [0, 849, 850, 800, 799, 849, 950, 900, 899, 850, 800, 799, 2000, 0] {
            pressure = pressure.after(usage(used));
            seen.push(pressure);
        }
        use Pressure::{Calm, Refuse, Shed};
        let expected = [
            Calm, Calm, Refuse, Refuse, Calm, Calm, Shed, Shed, Refuse, Refuse, Refuse, Calm, Shed,
            Calm,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn shards_hear_of_changes_and_of_every_round_of_shedding() {
        let memory = Memory::default();
        let mut last = memory.signal();
        for (used, is_news) in
            [(1, false), (860, true), (870, false), (960, true), (960, true), (1, true), (1, false)]
        {
            assert_eq!(memory.tell(usage(used)), is_news, "{used}");
            assert_eq!(memory.signal() != last, is_news, "{used}");
            last = memory.signal();
        }
        assert_eq!(last.pressure(), Pressure::Calm);
        memory.remind();
        assert_ne!(memory.signal(), last);
        assert_eq!(memory.signal().pressure(), Pressure::Calm);
    }

    #[test]
    fn what_is_to_be_given_back_ends_shedding() {
        let memory = Memory::default();
        memory.tell(usage(980));
        assert_eq!(memory.excess_bytes(), 81);
        memory.tell(usage(980 - 81));
        assert_eq!(memory.signal().pressure(), Pressure::Refuse);
        assert_eq!(memory.excess_bytes(), 0);
    }

    #[test]
    fn a_standing_refusal_sheds_until_nobody_has_to_be_refused() {
        let memory = Memory::default();
        memory.tell(usage(870));
        assert_eq!(memory.signal().pressure(), Pressure::Refuse);
        assert!(memory.tell_of_standing_refusal(usage(870)));
        assert_eq!((memory.signal().pressure(), memory.excess_bytes()), (Pressure::Shed, 71));
        assert!(memory.tell_of_standing_refusal(usage(840)), "each round of it is news");
        assert_eq!((memory.signal().pressure(), memory.excess_bytes()), (Pressure::Shed, 41));
        memory.tell(usage(799));
        assert_eq!(memory.signal().pressure(), Pressure::Calm);
    }

    #[test]
    fn without_a_limit_there_are_no_numbers() {
        let memory = Memory::default();
        let told = json!({ "pressure": "calm", "used_bytes": null, "limit_bytes": null });
        assert_eq!(memory.to_json(), told);
        memory.tell(usage(960));
        let told = json!({ "pressure": "shed", "used_bytes": 960, "limit_bytes": 1000 });
        assert_eq!(memory.to_json(), told);
    }
}
