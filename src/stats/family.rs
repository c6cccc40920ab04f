//! The counters as families of samples, in the terms of the exposition formats of Prometheus and
//! OpenMetrics: a name, what it means, and a value for each set of labels.

use std::time::Duration;

use super::histogram::Counts;
use super::{CLOSE_CODES, POLICIES, ROWS, ShardStats, Stats, code_name};
use crate::http::Refusal;
use crate::websocket::Initiator;

/// What kind of number a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It never falls while the process runs.
    Counter,
    /// It rises and falls.
    Gauge,
    /// How often something took how long.
    Histogram,
    /// Labels alone.
    Info,
}

/// In what something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// In what a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    Bytes,
    Microseconds,
}

impl Counted {
    /// In what it is told, and how much of that it is.
    fn told(self) -> (Unit, f64) {
        match self {
            Self::Bytes => (Unit::Bytes, 1.0),
            Self::Microseconds => (Unit::Seconds, 1e-6),
        }
    }
}

/// Samples that mean the same of different things.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, without prefix, unit and suffix.
    pub name: &'static str,
    /// What it means, in a sentence.
    pub help: &'static str,
    /// What kind its samples are of.
    pub kind: Kind,
    /// In what they are counted.
    pub unit: Option<Unit>,
    /// The samples, each with other labels.
    pub samples: Vec<Sample>,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names and values of what tells it from others of its family.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: Value,
}

/// What a sample says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// What a histogram has counted.
    Counts(Counts),
}

impl Family {
    /// A family without samples.
    pub fn new(name: &'static str, kind: Kind, unit: Option<Unit>, help: &'static str) -> Self {
        Self { name, help, kind, unit, samples: Vec::new() }
    }

    /// A family of counters that are told apart by a reason.
    pub fn by_reason<const N: usize>(
        name: &'static str,
        help: &'static str,
        counts: [(&'static str, u64); N],
    ) -> Self {
        let family = Self::new(name, Kind::Counter, None, help);
        counts.into_iter().fold(family, |family, (reason, count)| {
            family.with([("reason", reason.to_owned())], count as f64)
        })
    }

    /// The same with one more number.
    #[must_use]
    pub fn with<const N: usize>(mut self, labels: [(&'static str, String); N], value: f64) -> Self {
        self.samples.push(Sample { labels: labels.into(), value: Value::Number(value) });
        self
    }

    /// The same with what one more histogram has counted.
    #[must_use]
    pub fn with_counts(mut self, labels: Vec<(&'static str, String)>, counts: Counts) -> Self {
        self.samples.push(Sample { labels, value: Value::Counts(counts) });
        self
    }
}

impl Stats {
    /// Everything that the shards have counted so far.
    pub fn families(&self) -> Vec<Family> {
        let mut families = self.plain();
        families.extend([self.refused(), self.dropped(), self.closes()]);
        families.extend(self.durations());
        families.extend(self.peaks(self.start.elapsed()));
        families
    }

    fn sum(&self, count: impl Fn(&ShardStats) -> u64) -> f64 {
        self.shards.iter().fold(0, |sum: u64, shard| sum.wrapping_add(count(shard))) as f64
    }

    fn plain(&self) -> Vec<Family> {
        let shards: Vec<_> = self.shards.iter().map(ShardStats::plain).collect();
        let mut families: Vec<Family> = Vec::new();
        for (place, row) in ROWS.iter().enumerate() {
            let (unit, factor) = row.counted.map(Counted::told).unzip();
            let sample = |labels, count| sample(labels, count, factor.unwrap_or(1.0));
            let labels = || row.labels.iter().map(|&(name, value)| (name, value.to_owned()));
            let of_shards = shards.iter().map(|shard| shard[place]);
            let samples: Vec<_> = match row.is_by_shard {
                true => (0..)
                    .zip(of_shards)
                    .map(|(shard, count)| {
                        sample(labels().chain([shard_label(shard)]).collect(), count)
                    })
                    .collect(),
                false => {
                    let sum = of_shards.fold(0, u64::wrapping_add);
                    vec![sample(labels().collect(), sum)]
                }
            };
            match families.last_mut().filter(|family| family.name == row.family) {
                Some(family) => family.samples.extend(samples),
                None => families.push(Family {
                    samples,
                    ..Family::new(row.family, row.kind, unit, row.help.trim_start())
                }),
            }
        }
        families
    }

    fn refused(&self) -> Family {
        let help = "Requests that were refused, by reason.";
        let family = Family::new("requests_refused", Kind::Counter, None, help);
        (0..).zip(Refusal::ALL).fold(family, |family, (place, reason): (usize, _)| {
            let count = self.sum(|shard| shard.refused.0[place].value());
            family.with([("reason", reason.name().to_owned())], count)
        })
    }

    fn dropped(&self) -> Family {
        let help = "Messages that were kept from slow consumers, by the policy that did it.";
        let family = Family::new("messages_dropped", Kind::Counter, None, help);
        (0..).zip(POLICIES).fold(family, |family, (place, (_, name)): (usize, _)| {
            let count = self.sum(|shard| shard.dropped[place].value());
            family.with([("policy", name.to_owned())], count)
        })
    }

    fn closes(&self) -> Family {
        let help = "WebSockets that ended, by who ended them and close code.";
        let mut family = Family::new("closes", Kind::Counter, None, help);
        for (initiator, name) in Initiator::ALL.map(Initiator::name).into_iter().enumerate() {
            for place in 0..=CLOSE_CODES.len() {
                let count = self.sum(|shard| shard.closes[initiator][place].value());
                let labels = [("initiator", name.to_owned()), ("code", code_name(place))];
                family = family.with(labels, count);
            }
        }
        family
    }

    fn durations(&self) -> [Family; 4] {
        let family = |name, help| Family::new(name, Kind::Histogram, Some(Unit::Seconds), help);
        let of_all = |counts: &dyn Fn(&ShardStats) -> Counts| {
            let shards = self.shards.iter().map(counts);
            shards.reduce(|sum, counts| sum.plus(&counts)).unwrap_or_default()
        };
        let ticks = family("tick_duration", "Time that turns of the event loop took.");
        let by_shard = (0..).zip(&self.shards).fold(ticks, |ticks, (shard, stats)| {
            ticks.with_counts(vec![shard_label(shard)], stats.tick_duration.counts())
        });
        [
            by_shard,
            family(
                "delivery_duration",
                "Time from a message's arrival until the kernel had it for its last subscriber; of \
                 each tick that which waited longest.",
            )
            .with_counts(Vec::new(), of_all(&|shard| shard.delivery_duration.counts())),
            family("ping_round_trip", "Time from a ping to its pong.")
                .with_counts(Vec::new(), of_all(&|shard| shard.ping_round_trip.counts())),
            family("websocket_duration", "Time for which WebSockets that ended were open.")
                .with_counts(Vec::new(), of_all(&|shard| shard.websocket_duration.counts())),
        ]
    }

    fn peaks(&self, now: Duration) -> [Family; 2] {
        let peak = |peak: &dyn Fn(&ShardStats) -> u64, present: &dyn Fn(&ShardStats) -> u64| {
            self.sum(|shard| peak(shard).max(present(shard)))
        };
        [
            Family::new(
                "connections_peak",
                Kind::Gauge,
                None,
                "The most connections of the last minute: those of each shard, added up.",
            )
            .with(
                [],
                peak(&|it| it.connections_peak.greatest(now), &|it| it.connections_open.value()),
            ),
            Family::new(
                "backlog_peak",
                Kind::Gauge,
                Some(Unit::Bytes),
                "The most bytes that waited for peers in the last minute: those of each shard, \
                 added up.",
            )
            .with([], peak(&|it| it.backlog_peak.greatest(now), &|it| it.backlog_bytes.value())),
        ]
    }
}

fn sample(labels: Vec<(&'static str, String)>, count: u64, factor: f64) -> Sample {
    Sample { labels, value: Value::Number(count as f64 * factor) }
}

fn shard_label(shard: usize) -> (&'static str, String) {
    ("shard", shard.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Label;
    use crate::wire::close::CloseCode;

    fn value(families: &[Family], name: &str, labels: &[(&'static str, &str)]) -> Value {
        let family = families.iter().find(|family| family.name == name).expect(name);
        let has = |sample: &Sample| {
            let own = sample.labels.iter().map(|(name, value)| (*name, value.as_str()));
            own.eq(labels.iter().copied())
        };
        family.samples.iter().find(|sample| has(sample)).expect("labels").value
    }

    #[test]
    fn what_was_counted_is_told_by_shard_or_added_up() {
        let stats = Stats::new(2);
        stats.shard(0).bytes_in.add(3);
        stats.shard(1).bytes_in.add(4);
        stats.shard(0).wakes.add(3);
        stats.shard(1).wakes.add(4);
        stats.shard(1).standing_delay_us.set(1500);
        stats.shard(1).deliveries.add(9);
        stats.shard(0).close(Initiator::Remote, CloseCode(4321));
        stats.shard(1).close(Initiator::Remote, CloseCode(4321));
        stats.shard(0).ping_round_trip.observe(70);
        stats.shard(1).ping_round_trip.observe(70);
        let families = stats.families();
        let number = |name, labels: &[_]| match value(&families, name, labels) {
            Value::Number(number) => number,
            Value::Counts(counts) => counts.count() as f64,
        };
        assert_eq!(number("received", &[("shard", "1")]), 4.0);
        assert_eq!(number("standing_delay", &[("shard", "1")]), 0.0015);
        assert_eq!(number("wakes", &[]), 7.0);
        assert_eq!(number("messages_sent", &[("service", "broadcast")]), 9.0);
        assert_eq!(number("closes", &[("initiator", "remote"), ("code", "other")]), 2.0);
        assert_eq!(number("ping_round_trip", &[]), 2.0);
    }

    #[test]
    fn names_and_labels_are_told_once_and_help_is_a_sentence() {
        let mut names = BTreeSet::new();
        for family in Stats::new(3).families() {
            assert!(names.insert(family.name), "{} is in two places", family.name);
            let help = family.help;
            assert!(help.starts_with(char::is_uppercase) && help.ends_with('.'), "{help}");
            let mut labels = BTreeSet::new();
            for sample in &family.samples {
                assert!(labels.insert(sample.labels.clone()), "{} twice", family.name);
                let is_taken = |(name, _): &(&str, String)| Label::TAKEN.contains(name);
                assert!(sample.labels.iter().all(is_taken), "{:?}", sample.labels);
                assert_eq!(sample.labels.len(), family.samples[0].labels.len(), "{}", family.name);
            }
        }
    }
}
