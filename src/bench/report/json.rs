//! Everything about a run as one JSON object.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{Verdict, counted_seconds, counts_handshakes};
use crate::bench::environment;
use crate::bench::failure::Failures;
use crate::bench::plan::Plan;
use crate::bench::record::{Interval, Record, Tls};
use crate::bench::run::{Run, ServerSamples, Step};

/// All results of a run as one object.
pub fn render(run: &Run, verdict: Verdict, warnings: &[String]) -> Value {
    let record = &run.record;
    let total = record.sum(0..record.intervals.len());
    let seconds = counted_seconds(run);
    json!({
        "verdict": match verdict {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Interrupted { .. } => "interrupted",
        },
        "warnings": warnings,
        "started_unix_ms": run.started_unix_ms,
        "parameters": parameters(&run.plan),
        "environment": {
            "generator": environment::describe(),
            "server": run.server.map(|server| environment::describe_process(server.pid)),
            "kernel_abilities": run.abilities.to_string(),
        },
        "connect": {
            "connections_open": run.connected,
            "seconds": run.connect_seconds,
        },
        "throughput": throughput(run, &total, seconds),
        "latency_ns": latency(&total.latency),
        "lateness_ns": (!record.lateness.is_empty()).then(|| latency(&record.lateness)),
        "steps": steps(run),
        "intervals": intervals(run),
        "counters": record.counters,
        "failures": failures(&run.record.failures),
        "tls": run.plan.way.client.is_some().then(|| tls(&record.tls)),
        "storm": (!record.rounds.is_empty()).then(|| storm(record)),
        "server": run.server.map(|server| server_usage(run, &server)),
        "generator_threads": run.threads.iter().map(|thread| json!({
            "core": thread.core,
            "cpu_share": thread.share.map(|share| share.ran),
            "waited_share": thread.share.map(|share| share.waited),
        })).collect::<Vec<_>>(),
    })
}

/// Processor time and memory of the server, for each of what it did.
pub struct ServerUsage {
    /// Processor microseconds for each message received (or handshake) while measuring.
    pub cpu_us_per_message: Option<f64>,
    /// Cores' worth of processor time.
    pub cpu_share: f64,
    /// Context switches for each message.
    pub switches_per_message: Option<f64>,
    /// Resident bytes for each connection, beyond those before the first one.
    pub resident_bytes_per_connection: Option<f64>,
    /// Slab bytes of the whole system for each connection: both ends, if both are on it.
    pub system_slab_bytes_per_connection: Option<f64>,
}

impl ServerUsage {
    /// From the samples of a run.
    pub fn new(run: &Run, samples: &ServerSamples) -> Self {
        let record = &run.record;
        let messages: u64 = record.intervals.iter().map(|part| part.messages).sum();
        let per = |amount: u64, of: u64| (of > 0).then(|| amount as f64 / of as f64);
        let (from, until) = (&samples.from, &samples.until);
        let cpu_ns = until.cpu_ns.saturating_sub(from.cpu_ns);
        let switches = (until.voluntary_switches + until.involuntary_switches)
            .saturating_sub(from.voluntary_switches + from.involuntary_switches);
        let (before, open) = (&samples.before, &samples.connected);
        let grown = |before: u64, after: u64| per(after.saturating_sub(before), run.connected);
        Self {
            cpu_us_per_message: per(cpu_ns, messages).map(|ns| ns / 1e3),
            cpu_share: cpu_ns as f64 / 1e9 / counted_seconds(run).max(1e-9),
            switches_per_message: per(switches, messages),
            resident_bytes_per_connection: grown(before.resident_bytes, open.resident_bytes),
            system_slab_bytes_per_connection: grown(
                before.system_slab_bytes,
                open.system_slab_bytes,
            ),
        }
    }
}

fn parameters(plan: &Plan) -> Value {
    json!({
        "url": plan.target.url,
        "workload": format!("{:?}", plan.workload).to_lowercase(),
        "connections": plan.connections,
        "publishers": plan.publishers,
        "subscribers": if plan.publishers > 0 { plan.connections - plan.publishers } else { 0 },
        "topics": plan.topics,
        "protocol": if plan.channels.is_some() { "centrifugo" } else { "websocket" },
        "subscriptions": plan.channels.as_ref().map(|channels| channels.subscriptions),
        "missed": plan.channels.as_ref().map(|channels| channels.missed),
        "slow_percent": plan.slow_percent,
        "size": plan.sizes.text,
        "text": plan.text,
        "in_flight": plan.in_flight,
        "burst": plan.burst,
        "rates": plan.rates,
        "rounds": plan.rounds,
        "backoff": plan.backoff,
        "close": format!("{:?}", plan.close).to_lowercase(),
        "park": plan.park,
        "busy_poll": plan.busy_poll,
        "threads": plan.threads,
        "cores": plan.cores,
        "source_addresses": plan.sources.count(),
        "duration_ms": plan.duration.as_millis() as u64,
        "warmup_ms": plan.warmup.as_millis() as u64,
        "timeout_ms": plan.timeout.as_millis() as u64,
    })
}

fn throughput(run: &Run, total: &Interval, seconds: f64) -> Value {
    let per_second = |amount: u64| amount as f64 / seconds.max(1e-9);
    json!({
        "unit": if counts_handshakes(run) { "handshakes" } else { "messages" },
        "count": total.messages,
        "seconds": seconds,
        "per_second": per_second(total.messages),
        "payload_bytes_per_second": per_second(total.bytes),
    })
}

/// The usual percentiles and the whole curve.
fn latency(histogram: &Histogram<u64>) -> Value {
    let at = |quantile| histogram.value_at_quantile(quantile);
    let curve: Vec<_> = histogram
        .iter_quantiles(5)
        .map(|point| json!([point.quantile_iterated_to(), point.value_iterated_to()]))
        .collect();
    json!({
        "count": histogram.len(),
        "min": histogram.min(),
        "mean": histogram.mean(),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p999": at(0.999),
        "p9999": at(0.9999),
        "max": histogram.max(),
        "curve": curve,
    })
}

fn steps(run: &Run) -> Vec<Value> {
    let last = run.plan.rates.len().saturating_sub(1);
    let step = |step: Step| {
        json!({
            "rate": run.plan.rates.get(step.number.min(last)),
            "per_second": step.sum.messages as f64 / step.seconds,
            "latency_ns": latency(&step.sum.latency),
        })
    };
    if run.plan.steps() < 2 { Vec::new() } else { run.steps().into_iter().map(step).collect() }
}

fn intervals(run: &Run) -> Value {
    let parts = run.intervals().iter().map(|part| {
        json!({
            "messages": part.messages,
            "bytes": part.bytes,
            "p50_ns": part.latency.value_at_quantile(0.5),
            "p99_ns": part.latency.value_at_quantile(0.99),
            "max_ns": part.latency.max(),
        })
    });
    json!({
        "seconds_each": run.record.interval_ns() as f64 / 1e9,
        "parts": parts.collect::<Vec<_>>(),
    })
}

fn tls(tls: &Tls) -> Value {
    json!({
        "full_handshakes": tls.full,
        "resumptions": tls.resumed,
        "suites": tls.suites,
        "connect_ns": latency(&tls.connect_time),
        "handshake_ns": latency(&tls.handshake_time),
        "upgrade_ns": latency(&tls.upgrade_time),
    })
}

fn storm(record: &Record) -> Value {
    let rounds = record.rounds.iter().map(|round| {
        json!({
            "dropped": round.dropped,
            "back": round.back,
            "seconds_until_all_back": round.seconds_until_all_back(),
        })
    });
    json!({
        "rounds": rounds.collect::<Vec<_>>(),
        "connections_by_attempts": record.attempts,
        "failed_attempts": failures(&record.failed_attempts),
    })
}

fn failures(failures: &Failures) -> Value {
    let kinds = failures.by_frequency().into_iter().map(|(phase, error, kind)| {
        json!({
            "phase": phase.to_string(),
            "error": error,
            "count": kind.count,
            "first_connection": kind.first_connection,
        })
    });
    json!({ "total": failures.total(), "kinds": kinds.collect::<Vec<_>>() })
}

fn server_usage(run: &Run, samples: &ServerSamples) -> Value {
    let usage = ServerUsage::new(run, samples);
    json!({
        "cpu_us_per_message": usage.cpu_us_per_message,
        "cpu_share": usage.cpu_share,
        "context_switches_per_message": usage.switches_per_message,
        "resident_bytes_per_connection": usage.resident_bytes_per_connection,
        "system_slab_bytes_per_connection": usage.system_slab_bytes_per_connection,
        "samples": {
            "before": samples.before,
            "connected": samples.connected,
            "from": samples.from,
            "until": samples.until,
        },
    })
}
