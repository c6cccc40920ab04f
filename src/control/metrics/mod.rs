//! What a monitoring system asks for: all counters and what else is known of the server and its
//! process, in the formats of Prometheus and of OpenMetrics.

mod format;
pub(super) mod process;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Registry};

pub(super) use format::Format;

use super::standing::Standing;
use crate::VERSION;
use crate::logging;
use crate::memory::Usage;
use crate::output::ACCESS_LOG;
use crate::stats::family::{Family, Kind, Unit, Value};

/// What is told, and how it is asked for.
pub(super) struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// What `standing` knows, under the labels of the configuration.
    pub(super) fn new(standing: Arc<Standing>) -> Self {
        let labels = standing.shared.in_force.current().config.metrics.labels.clone();
        let labels = labels.into_iter().map(|label| {
            let (name, value) = label.into_parts();
            (Cow::Owned(name), Cow::Owned(value))
        });
        let mut registry = Registry::with_labels(labels);
        registry.register_collector(Box::new(Told(process::families)));
        let server = registry.sub_registry_with_prefix(PREFIX);
        server.register_collector(Box::new(Told(move || {
            let mut families = standing.shared.stats.families();
            families.extend(of_server(&standing));
            families.extend(process::shards());
            families
        })));
        Self { registry }
    }

    /// Everything as it is now.
    pub(super) fn text(&self, format: Format) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = format.encode(&mut text, &self.registry);
        text
    }
}

/// Families that are made when they are asked for.
struct Told<F>(F);

impl<F> fmt::Debug for Told<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Told").finish_non_exhaustive()
    }
}

impl<F: Fn() -> Vec<Family> + Send + Sync + 'static> Collector for Told<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in self.0() {
            let unit = family.unit.map(|unit| match unit {
                Unit::Bytes => registry::Unit::Bytes,
                Unit::Seconds => registry::Unit::Seconds,
            });
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            for sample in &family.samples {
                let labels = sample.labels.as_slice();
                if family.kind == Kind::Info {
                    metric.encode_info(&labels)?;
                } else if labels.is_empty() {
                    encode(&mut metric, family.kind, sample.value)?;
                } else {
                    encode(&mut metric.encode_family(&labels)?, family.kind, sample.value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode(metric: &mut MetricEncoder<'_>, kind: Kind, value: Value) -> fmt::Result {
    match value {
        Value::Number(number) if kind == Kind::Counter => {
            metric.encode_counter::<NoLabelSet, _, f64>(&number, None)
        }
        Value::Number(number) => metric.encode_gauge(&number),
        Value::Counts(counts) => {
            let buckets: Vec<_> = counts.buckets().collect();
            let (sum, count) = (counts.sum_seconds(), counts.count());
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
    }
}

/// What is known of the server beside what its shards count.
fn of_server(standing: &Standing) -> Vec<Family> {
    let shared = &standing.shared;
    let (settings, shards) = (shared.in_force.current(), 0..shared.stats.shards());
    let config = &settings.config;
    let gauge = |name, help| Family::new(name, Kind::Gauge, None, help);
    let bytes = |name, help| Family::new(name, Kind::Gauge, Some(Unit::Bytes), help);
    let capacity = shared.capacity();
    let websockets = (capacity * shards.len()).min(config.limits.connections.unwrap_or(usize::MAX));
    let slots = gauge("connection_slots", "Connections that a shard can hold.");
    let slots = shards
        .fold(slots, |family, shard| family.with([("shard", shard.to_string())], capacity as f64));
    let Usage { used_bytes, limit_bytes } = shared.memory.usage();
    let (stuck, failed) = standing.ailing_shards();
    let mut families = vec![
        Family::new("build", Kind::Info, None, "The version of the program.")
            .with([("version", VERSION.to_owned())], 1.0),
        gauge("websockets_limit", "WebSockets that may be open at the same time.")
            .with([], websockets as f64),
        slots,
        gauge("draining", "1 while the server drains.").with([], standing.is_draining().into()),
        gauge("shards_ailing", "Shards that do not tick, and those whose event loop has failed.")
            .with([("ailment", "stuck".into())], stuck as f64)
            .with([("ailment", "failed".into())], failed as f64),
        gauge("memory_pressure", "0: enough; 1: upgrades are refused; 2: connections are closed.")
            .with([], f64::from(shared.memory.signal().pressure() as u8)),
        bytes("traffic", "Bytes received and sent since the start.")
            .with([], shared.stats.traffic_bytes() as f64),
        Family::new(
            "log_lines",
            Kind::Counter,
            None,
            "Warnings and errors of the log, whether or not it shows them.",
        )
        .with([("level", "warn".into())], logging::warnings() as f64)
        .with([("level", "error".into())], logging::errors() as f64),
        Family::new("relay_lost", Kind::Counter, None, RELAY_LOST)
            .with([], shared.interest.relay().lost() as f64),
        Family::new("access_log_lost", Kind::Counter, None, "Lines that the access log has lost.")
            .with([], ACCESS_LOG.lost() as f64),
    ];
    let (fetched, failed) = standing.fetches();
    let help = "Sets of keys that were fetched, and those that could not be, by --jwt-jwks.";
    let counts = [("fetched", fetched), ("failed", failed)];
    let fetches = Family::by_reason("key_set_fetches", help, counts);
    if config.identity.jwt_jwks.is_some() {
        families.push(fetches);
    }
    if config.backend.url.is_some() {
        families.extend(standing.consulted.families());
    }
    if config.hooks.has_some() {
        families.extend(standing.hooks.families());
        families.push(standing.states.family());
    }
    if config.identity.basic_users.is_some() {
        families.extend(standing.logins.families());
    }
    if let Some(budget_bytes) = config.metrics.traffic_budget_bytes {
        let help = "Bytes that may be received and sent, by --traffic-budget.";
        families.push(bytes("traffic_budget", help).with([], budget_bytes as f64));
    }
    if let Some(certificates) = &settings.certificates {
        let help = "When each certificate ends, since 1970.";
        let name = "tls_certificate_not_after_timestamp";
        let family = Family::new(name, Kind::Gauge, Some(Unit::Seconds), help);
        families.push(certificates.expirations().iter().fold(family, |family, it| {
            let file = it.file.display().to_string();
            family.with([("certificate", file)], it.not_after_s as f64)
        }));
    }
    if limit_bytes > 0 {
        let help = "Memory in use, as measured against the limit that is closest.";
        families.push(bytes("memory_used", help).with([], used_bytes as f64));
        let help = "That limit: --max-memory, or that of a control group.";
        families.push(bytes("memory_limit", help).with([], limit_bytes as f64));
    }
    families
}

const RELAY_LOST: &str = "Messages that did not reach the other server during a restart, as too \
                          much waited for it or it ended.";
/// What all names begin with, but those that every process has.
const PREFIX: &str = "ringwire";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::admission::Admission;
    use crate::config::{Config, Label};
    use crate::hub::interest::InterestTable;
    use crate::identity::Trust;
    use crate::memory::Memory;
    use crate::settings::Layers;
    use crate::shard::in_force::InForce;
    use crate::shard::{Heirs, Shared};
    use crate::stats::Stats;

    fn standing() -> Arc<Standing> {
        let mut config = Config::default();
        config.metrics.traffic_budget_bytes = Some(5);
        config.metrics.labels = vec!["region=a\"\\b".parse().unwrap()];
        let memory = Memory::default();
        memory.tell(Usage { used_bytes: 90, limit_bytes: 100 });
        let shared = Shared {
            admission: Admission::new(100),
            in_force: InForce::new(config, Trust::default(), None),
            stats: Stats::new(2),
            memory,
            seed: 0,
            interest: InterestTable::new(2),
            slots: 1000,
            secure_port: 443,
            heirs: Heirs::default(),
        };
        Arc::new(Standing::new(Arc::default(), Arc::new(shared), Layers::default()))
    }

    #[test]
    fn no_label_of_the_server_is_one_that_may_be_added() {
        let standing = standing();
        let mut names = BTreeSet::new();
        for family in of_server(&standing).into_iter().chain(process::shards()) {
            assert!(names.insert(family.name), "{} is there twice", family.name);
            assert!(family.help.ends_with('.'), "{}", family.help);
            let labels = family.samples.iter().flat_map(|sample| &sample.labels);
            labels.for_each(|(name, _)| assert!(Label::TAKEN.contains(name), "{name}"));
        }
    }

    #[test]
    fn what_the_server_knows_is_told_in_both_formats() {
        let metrics = Metrics::new(standing());
        let text = metrics.text(Format::Text);
        for line in [
            "# TYPE ringwire_build_info gauge",
            "ringwire_memory_pressure{region=\"a\\\"\\\\b\"} 1.0",
            "ringwire_memory_limit_bytes{region=\"a\\\"\\\\b\"} 100.0",
            "ringwire_traffic_budget_bytes{region=\"a\\\"\\\\b\"} 5.0",
            "ringwire_connection_slots{region=\"a\\\"\\\\b\",shard=\"1\"} 936.0",
            "ringwire_websockets_limit{region=\"a\\\"\\\\b\"} 1872.0",
            "# TYPE ringwire_received_bytes_total counter",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
        }
        let open = metrics.text(Format::OpenMetrics);
        assert!(open.ends_with("# EOF\n"));
        assert!(open.contains("# UNIT ringwire_received_bytes bytes\n"), "{open}");
        assert_eq!(open.lines().filter(|line| line.starts_with("# TYPE")).count(), {
            text.lines().filter(|line| line.starts_with("# TYPE")).count()
        });
    }
}
