//! What one thread measured, and the sum of all of them.
//!
//! The measured time is cut into intervals, each with its own histogram: the total is their sum, a
//! step of a stepped rate is the sum of some of them, and the log and the plot show them all.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::failure::Failures;
use super::schedule::Moments;
use crate::tls::session::Handshake;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of the whole run, warm-up included.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl AddAssign for Counters {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Handshakes completed.
    handshakes,
    /// Data messages queued for sending.
    messages_sent,
    /// Data messages received, by publishers too.
    messages_received,
    /// Of these, compressed ones.
    messages_compressed,
    /// Their payload bytes, inflated.
    bytes_received,
    /// Data messages that came back to connections that publish.
    messages_to_publishers,
    /// Messages that were to be delivered, to subscribers that were to read them.
    deliveries_expected,
    /// The same for connections that publish, where the server sends them any: their own messages
    /// and those of other publishers are told apart.
    copies_expected,
    /// Messages that never came, to publishers too.
    lost,
    /// Messages that came again.
    duplicated,
    /// Messages that came after a later one of the same publisher.
    reordered,
    /// Publications whose offset was not the next one of their channel, but a later one.
    offset_gaps,
    /// Publications whose offset had come before.
    offsets_repeated,
    /// Publications that clients got by recovery.
    recovered,
    /// Bursts that were not delivered to all subscribers in time.
    bursts_stalled,
    /// Messages without an answer at the end.
    unanswered,
    /// Pings of the server answered.
    pings_answered,
    /// Connections open when the measurement ended.
    open_at_end,
    /// Connections that the server had cut when they stopped reading.
    slow_cut,
    /// Connections closed with a close frame in both directions and the end of the stream.
    closed_cleanly,
    /// Connections that were reset, or did not finish closing in time.
    closed_otherwise,
}

/// What one part of the measured time saw.
#[derive(Clone, Debug)]
pub struct Interval {
    /// What throughput counts.
    pub messages: u64,
    /// Payload bytes of these.
    pub bytes: u64,
    /// Nanoseconds.
    pub latency: Histogram<u64>,
}

impl Interval {
    fn new() -> Self {
        Self { messages: 0, bytes: 0, latency: histogram() }
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        // Histograms that resize take whatever another one holds.
        let _ = self.latency.add(&other.latency);
    }
}

/// Connections that were dropped together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// How many were dropped.
    pub dropped: u64,
    /// Of these, who came back.
    pub back: u64,
    /// The longest time until one of them was back, in nanoseconds.
    pub longest_ns: u64,
}

impl Round {
    /// Seconds until all were back, if they are.
    pub fn seconds_until_all_back(&self) -> Option<f64> {
        (self.back == self.dropped).then_some(self.longest_ns as f64 / 1e9)
    }
}

/// What TLS took in the whole run, warm-up included.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Handshakes that began with nothing.
    pub full: u64,
    /// Those that went on with an earlier session.
    pub resumed: u64,
    /// Suites agreed on, and how often.
    pub suites: BTreeMap<&'static str, u64>,
    /// Nanoseconds until TLS began: of the connect, and of the way through a proxy.
    pub connect_time: Histogram<u64>,
    /// Nanoseconds from the first byte to the last key.
    pub handshake_time: Histogram<u64>,
    /// Nanoseconds from there to the server's response.
    pub upgrade_time: Histogram<u64>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            full: 0,
            resumed: 0,
            suites: BTreeMap::new(),
            connect_time: histogram(),
            handshake_time: histogram(),
            upgrade_time: histogram(),
        }
    }
}

impl Tls {
    /// Takes note of a connection on which TLS begins.
    pub fn connected(&mut self, took_ns: u64) {
        // Histograms that grow take every value.
        let _ = self.connect_time.record(took_ns);
    }

    /// Takes note of a handshake that has led to `suite`.
    pub fn secured(&mut self, handshake: Handshake, suite: Option<&'static str>, took_ns: u64) {
        match handshake.is_resumed {
            true => self.resumed += 1,
            false => self.full += 1,
        }
        *self.suites.entry(suite.unwrap_or("unnamed")).or_default() += 1;
        let _ = self.handshake_time.record(took_ns);
    }

    /// Takes note of the upgrade of a connection with TLS.
    pub fn upgraded(&mut self, took_ns: u64) {
        let _ = self.upgrade_time.record(took_ns);
    }

    fn merge(&mut self, other: Self) {
        self.full += other.full;
        self.resumed += other.resumed;
        for (suite, count) in other.suites {
            *self.suites.entry(suite).or_default() += count;
        }
        let _ = self.connect_time.add(&other.connect_time);
        let _ = self.handshake_time.add(&other.handshake_time);
        let _ = self.upgrade_time.add(&other.upgrade_time);
    }
}

/// What one thread, or all of them, measured.
#[derive(Clone, Debug)]
pub struct Record {
    from_ns: u64,
    until_ns: u64,
    interval_ns: u64,
    /// The measured time in equal parts.
    pub intervals: Vec<Interval>,
    /// Counts.
    pub counters: Counters,
    /// How late the generator itself sent, in nanoseconds; open loop only.
    pub lateness: Histogram<u64>,
    /// Failures.
    pub failures: Failures,
    /// Attempts to come back that failed, where clients back off and try again.
    pub failed_attempts: Failures,
    /// Connections that came back at their first attempt, their second, and so on; the last place
    /// has those that took more.
    pub attempts: Vec<u64>,
    /// Each round in which all connections were dropped.
    pub rounds: Vec<Round>,
    /// What TLS took.
    pub tls: Tls,
    /// When the last event was counted, in nanoseconds of the run.
    pub last_ns: u64,
}

impl Record {
    /// A record of this many intervals; nothing is counted before [`Record::start`].
    pub fn new(intervals: usize) -> Self {
        Self {
            from_ns: u64::MAX,
            until_ns: u64::MAX,
            interval_ns: 1,
            intervals: (0..intervals).map(|_| Interval::new()).collect(),
            counters: Counters::default(),
            lateness: histogram(),
            failures: Failures::default(),
            failed_attempts: Failures::default(),
            attempts: Vec::new(),
            rounds: Vec::new(),
            tls: Tls::default(),
            last_ns: 0,
        }
    }

    /// Says which time counts.
    pub fn start(&mut self, moments: Moments) {
        self.from_ns = moments.from_ns;
        self.until_ns = moments.until_ns;
        let measured_ns = moments.until_ns.saturating_sub(moments.from_ns);
        self.interval_ns = measured_ns.div_ceil(self.intervals.len().max(1) as u64).max(1);
    }

    /// Says that the measured time ends earlier, or begins earlier because it ends.
    pub fn end(&mut self, moments: Moments) {
        self.from_ns = moments.from_ns;
        self.until_ns = moments.until_ns;
    }

    /// Nanoseconds of one interval.
    pub fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// Counts a message sent at `sent_ns` and answered at `at_ns`.
    pub fn message(&mut self, sent_ns: u64, at_ns: u64, bytes: usize) {
        self.count(at_ns, bytes);
        self.wait(sent_ns, at_ns);
    }

    /// Counts the wait from `sent_ns` to `at_ns` if any of it lies in the measured time. A closed
    /// loop sends nothing while it waits, so a server that stalls over the beginning or the end of
    /// the measured time shows in this one latency or in none.
    pub fn wait(&mut self, sent_ns: u64, at_ns: u64) {
        if at_ns >= self.from_ns {
            self.latency(sent_ns.max(self.from_ns), at_ns.saturating_sub(sent_ns));
        }
    }

    /// Counts a message at `at_ns`.
    pub fn count(&mut self, at_ns: u64, bytes: usize) {
        if let Some(interval) = self.interval(at_ns) {
            interval.messages += 1;
            interval.bytes += bytes as u64;
            self.last_ns = self.last_ns.max(at_ns);
        }
    }

    /// Counts a latency in the interval of `at_ns`, when the message was due.
    pub fn latency(&mut self, at_ns: u64, latency_ns: u64) {
        if let Some(interval) = self.interval(at_ns) {
            // A histogram that grows takes every value.
            let _ = interval.latency.record(latency_ns);
        }
    }

    /// Counts how late a message was sent that was due at `at_ns`.
    pub fn lateness(&mut self, at_ns: u64, late_ns: u64) {
        if (self.from_ns..self.until_ns).contains(&at_ns) {
            let _ = self.lateness.record(late_ns);
        }
    }

    /// Counts a connection that was dropped in a round.
    pub fn dropped(&mut self, round: u32) {
        self.round(round).dropped += 1;
    }

    /// Counts a connection that was dropped in a round and came back after `absent_ns`, at its
    /// `attempts`th attempt.
    pub fn came_back(&mut self, round: u32, attempts: u32, absent_ns: u64) {
        let place = (attempts.max(1) as usize).min(ATTEMPTS_MOST) - 1;
        self.attempts.resize(self.attempts.len().max(place + 1), 0);
        self.attempts[place] += 1;
        let round = self.round(round);
        round.back += 1;
        round.longest_ns = round.longest_ns.max(absent_ns);
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: Self) {
        self.from_ns = self.from_ns.min(other.from_ns);
        self.until_ns = self.until_ns.min(other.until_ns);
        self.interval_ns = self.interval_ns.max(other.interval_ns);
        for (own, other) in self.intervals.iter_mut().zip(&other.intervals) {
            own.merge(other);
        }
        self.counters += other.counters;
        self.tls.merge(other.tls);
        let _ = self.lateness.add(&other.lateness);
        self.failures.merge(other.failures);
        self.failed_attempts.merge(other.failed_attempts);
        self.attempts.resize(self.attempts.len().max(other.attempts.len()), 0);
        for (own, other) in self.attempts.iter_mut().zip(other.attempts) {
            *own += other;
        }
        self.rounds.resize(self.rounds.len().max(other.rounds.len()), Round::default());
        for (own, other) in self.rounds.iter_mut().zip(other.rounds) {
            own.dropped += other.dropped;
            own.back += other.back;
            own.longest_ns = own.longest_ns.max(other.longest_ns);
        }
        self.last_ns = self.last_ns.max(other.last_ns);
    }

    /// The sum of some intervals.
    pub fn sum(&self, range: Range<usize>) -> Interval {
        let mut sum = Interval::new();
        for interval in self.intervals.get(range).unwrap_or_default() {
            sum.merge(interval);
        }
        sum
    }

    /// Seconds from the beginning of the measurement to the last event counted.
    pub fn seconds_to_last(&self) -> f64 {
        self.last_ns.saturating_sub(self.from_ns) as f64 / 1e9
    }

    fn round(&mut self, round: u32) -> &mut Round {
        let count = self.rounds.len().max(round as usize + 1);
        self.rounds.resize(count, Round::default());
        &mut self.rounds[round as usize]
    }

    fn interval(&mut self, at_ns: u64) -> Option<&mut Interval> {
        if at_ns >= self.until_ns {
            return None;
        }
        let place = at_ns.checked_sub(self.from_ns)? / self.interval_ns;
        self.intervals.get_mut(place as usize)
    }
}

/// Attempts that are told apart.
const ATTEMPTS_MOST: usize = 32;

/// Nanoseconds with three significant digits; grows with what it holds.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("0 to 5 digits are allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::new(4);
        record.start(Moments { begin_ns: 0, from_ns: 100, until_ns: 500 });
        record
    }

    #[test]
    fn only_the_measured_time_counts() {
        let mut record = record();
        for at_ns in [0, 99, 100, 199, 200, 499, 500, 1000] {
            record.count(at_ns, 20);
            record.latency(at_ns, 7);
        }
        let messages: Vec<_> = record.intervals.iter().map(|part| part.messages).collect();
        assert_eq!(messages, [2, 1, 0, 1]);
        let sum = record.sum(0..4);
        assert_eq!((sum.messages, sum.bytes, sum.latency.max()), (4, 80, 7));
        assert_eq!(record.last_ns, 499);
    }

    #[test]
    fn a_wait_counts_when_it_reaches_into_the_measured_time() {
        for (sent_ns, at_ns, is_counted) in [
            (10, 99, false),
            (10, 100, true),
            (10, 700, true),
            (100, 100, true),
            (499, 2000, true),
            (500, 501, false),
        ] {
            let mut record = record();
            record.message(sent_ns, at_ns, 20);
            let sum = record.sum(0..4);
            assert_eq!(sum.latency.len(), u64::from(is_counted), "{sent_ns} to {at_ns}");
            assert_eq!(sum.latency.max(), if is_counted { at_ns - sent_ns } else { 0 });
            assert_eq!(sum.messages, u64::from((100..500).contains(&at_ns)));
        }
    }

    #[test]
    fn threads_add_up() {
        let (mut one, mut other) = (record(), record());
        one.message(100, 105, 1);
        other.message(150, 1_000_000_150, 2);
        other.counters.lost = 3;
        one.dropped(0);
        one.came_back(0, 1, 20);
        other.dropped(0);
        other.dropped(1);
        other.came_back(0, 1000, 30);
        one.merge(other);
        assert_eq!(one.intervals[0].messages, 1);
        assert!(one.sum(0..1).latency.max() >= 1_000_000_000);
        assert_eq!(one.counters.lost, 3);
        assert_eq!((one.attempts.len(), one.attempts.iter().sum::<u64>()), (ATTEMPTS_MOST, 2));
        assert_eq!(one.rounds[0], Round { dropped: 2, back: 2, longest_ns: 30 });
        assert_eq!(one.rounds[0].seconds_until_all_back(), Some(3e-8));
        assert_eq!(one.rounds[1].seconds_until_all_back(), None);
    }
}
