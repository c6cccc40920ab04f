//! What is left of each resource, and when it is used up if its use goes on growing as it has in
//! the last minutes.
//!
//! The control thread takes a sample every few seconds and keeps as many as a few minutes have; a
//! line is laid through them when somebody asks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::metrics::process;
use crate::memory::Usage;
use crate::shard::Shared;

/// How the use of each resource has gone of late.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    trends: BTreeMap<String, Trend>,
    /// CPU time of each shard when the last sample was taken, and when that was.
    spent: Vec<(usize, f64)>,
    spent_at: Duration,
    /// The share of its core that each shard has used between the last two samples.
    shares: Vec<(usize, f64)>,
}

/// One resource as it is now.
struct Resource {
    name: String,
    used: f64,
    limit: f64,
}

/// The last samples of one number.
#[derive(Debug, Default)]
struct Trend {
    /// Seconds, and the value.
    samples: VecDeque<(f64, f64)>,
}

impl Capacity {
    /// Takes a sample at this time since the start.
    pub(super) fn sample(&mut self, now: Duration, shared: &Shared) {
        self.measure_processor(now);
        for Resource { name, used, .. } in self.resources(shared) {
            self.trends.entry(name).or_default().add(now.as_secs_f64(), used);
        }
    }

    /// What is left of each resource, as JSON.
    pub(super) fn report(&self, shared: &Shared) -> Value {
        let resources = self.resources(shared).into_iter().map(|Resource { name, used, limit }| {
            let growth = self.trends.get(&name).and_then(Trend::growth_per_second);
            let left = (limit - used).max(0.0);
            json!({
                "name": name,
                "used": used,
                "limit": limit,
                "left": left,
                "growth_per_second": growth,
                "used_up_in_seconds": growth.filter(|growth| *growth > 0.0).map(|it| left / it),
            })
        });
        json!({ "resources": resources.collect::<Vec<_>>() })
    }

    fn measure_processor(&mut self, now: Duration) {
        // Without what cannot be read nothing is told of it.
        let spent = process::shard_times().unwrap_or_default();
        let seconds = now.saturating_sub(self.spent_at).as_secs_f64();
        let share = |(shard, now): &(usize, f64)| {
            let (_, before) = self.spent.iter().find(|(other, _)| other == shard)?;
            (seconds > 0.0).then_some((*shard, (now - before) / seconds))
        };
        self.shares = spent.iter().filter_map(share).collect();
        self.shares.sort_unstable_by_key(|(shard, _)| *shard);
        (self.spent, self.spent_at) = (spent, now);
    }

    fn resources(&self, shared: &Shared) -> Vec<Resource> {
        let resource = |name: &str, used: u64, limit: u64| Resource {
            name: name.to_owned(),
            used: used as f64,
            limit: limit as f64,
        };
        let settings = shared.in_force.current();
        let config = &settings.config;
        let stats = &shared.stats;
        let capacity = shared.capacity() as u64;
        let slots = capacity * stats.shards() as u64;
        let connections = config.limits.connections.map_or(slots, |most| slots.min(most as u64));
        // The first shard whose slots are all taken refuses, whatever the others have left.
        let fullest = stats.of_shards().iter().map(|shard| shard.connections_open.value()).max();
        let mut resources = vec![
            resource("connections", stats.websockets_and_streams_open(), connections),
            resource("slots_of_fullest_shard", fullest.unwrap_or_default(), capacity),
        ];
        let Usage { used_bytes, limit_bytes } = shared.memory.usage();
        if limit_bytes > 0 {
            resources.push(resource("memory_bytes", used_bytes, limit_bytes));
        }
        if let Some(budget_bytes) = config.metrics.traffic_budget_bytes {
            resources.push(resource("traffic_bytes", stats.traffic_bytes(), budget_bytes));
        }
        resources.extend(self.shares.iter().map(|(shard, share)| Resource {
            name: format!("processor_of_shard_{shard}"),
            used: *share,
            limit: 1.0,
        }));
        resources
    }
}

impl Trend {
    fn add(&mut self, second: f64, value: f64) {
        if self.samples.len() == SAMPLES_MOST {
            self.samples.pop_front();
        }
        self.samples.push_back((second, value));
    }

    /// The slope of the line that is closest to the samples (least squares); unknown before there
    /// are samples of two times.
    fn growth_per_second(&self) -> Option<f64> {
        let count = self.samples.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| self.samples.iter().map(of).sum::<f64>() / count;
        let (mean_second, mean_value) = (mean(|it| it.0), mean(|it| it.1));
        let (mut covariance, mut variance) = (0.0, 0.0);
        for (second, value) in &self.samples {
            covariance += (second - mean_second) * (value - mean_value);
            variance += (second - mean_second) * (second - mean_second);
        }
        (variance > 0.0).then(|| covariance / variance)
    }
}

/// Between two samples.
pub(super) const SAMPLE_PERIOD: Duration = Duration::from_secs(5);
/// Samples that are kept: of five minutes.
const SAMPLES_MOST: usize = 60;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::admission::Admission;
    use crate::config::Config;
    use crate::hub::interest::InterestTable;
    use crate::identity::Trust;
    use crate::memory::Memory;
    use crate::shard::Heirs;
    use crate::shard::in_force::InForce;
    use crate::stats::Stats;

    fn growth(samples: impl IntoIterator<Item = (f64, f64)>) -> Option<f64> {
        let mut trend = Trend::default();
        samples.into_iter().for_each(|(second, value)| trend.add(second, value));
        trend.growth_per_second()
    }

    proptest! {
        #[test]
        fn a_line_is_found_again(slope in -1e6..1e6f64, from in 0.0..1e9f64, count in 2..60) {
            let at = |second: f64| (second, from + slope * second);
            let line = (0..count).map(|number| at(5.0 * f64::from(number)));
            let found = growth(line).unwrap();
            prop_assert!((found - slope).abs() <= 1e-6 * (1.0 + from + slope.abs()), "{}", found);
        }
    }

    #[test]
    fn growth_is_unknown_at_first_and_forgets_what_was_long_ago() {
        assert_eq!(growth([]), None);
        assert_eq!(growth([(3.0, 1.0)]), None);
        assert_eq!(growth([(3.0, 1.0), (3.0, 2.0)]), None);
        assert_eq!(growth([(0.0, 1.0), (1.0, 2.0), (2.0, 1.0)]), Some(0.0));
        let before = (0..500).map(|it| (f64::from(it), f64::from(it) * 1000.0));
        let after = (500..500 + SAMPLES_MOST as i32).map(|it| (f64::from(it), 7.0));
        assert_eq!(growth(before.chain(after)), Some(0.0));
    }

    #[test]
    fn what_is_left_and_when_it_is_used_up_is_told() {
        let mut config = Config::default();
        config.limits.connections = Some(50);
        config.metrics.traffic_budget_bytes = Some(1000);
        let shared = Shared {
            admission: Admission::new(100),
            in_force: InForce::new(config, Trust::default(), None),
            stats: Stats::new(2),
            memory: Memory::default(),
            seed: 0,
            interest: InterestTable::new(2),
            slots: 1000,
            secure_port: 443,
            heirs: Heirs::default(),
        };
        let mut capacity = Capacity::default();
        for second in 0..3 {
            capacity.sample(Duration::from_secs(second), &shared);
            shared.stats.shard(0).websockets_open.add(5);
            shared.stats.shard(1).connections_open.add(1);
        }
        shared.stats.shard(0).websockets_open.add(5);
        let report = capacity.report(&shared);
        let resources = report["resources"].as_array().unwrap();
        let told = |name: &str| resources.iter().find(|it| it["name"] == name).unwrap().clone();
        let expected = json!({
            "name": "connections", "used": 20.0, "limit": 50.0, "left": 30.0,
            "growth_per_second": 5.0, "used_up_in_seconds": 6.0,
        });
        assert_eq!(told("connections"), expected);
        assert_eq!(told("slots_of_fullest_shard")["used"], 3.0);
        let expected = json!({
            "name": "traffic_bytes", "used": 0.0, "limit": 1000.0, "left": 1000.0,
            "growth_per_second": 0.0, "used_up_in_seconds": null,
        });
        assert_eq!(told("traffic_bytes"), expected);
        assert!(!report.to_string().contains("memory"), "it has no limit");
    }
}
