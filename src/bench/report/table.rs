//! The results for a person.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::json::ServerUsage;
use super::{counted_seconds, counts_handshakes};
use crate::bench::arguments::WorkloadName;
use crate::bench::failure::Failures;
use crate::bench::record::Tls;
use crate::bench::run::{Run, Step};

/// Two headline numbers, then whatever the run has to tell.
pub fn render(run: &Run) -> String {
    let mut table = Table::default();
    let record = &run.record;
    let total = record.sum(0..record.intervals.len());
    let seconds = counted_seconds(run).max(1e-9);
    let unit = if counts_handshakes(run) { "handshakes" } else { "messages" };
    table.title(run);
    if run.plan.workload == WorkloadName::Idle {
        let held = format!("{} of {}", record.counters.open_at_end, run.plan.connections);
        table.row("connections held", &format!("{held} for {seconds:.1} s"));
    } else {
        let per_second = number(total.messages as f64 / seconds);
        table.row("throughput", &format!("{per_second} {unit}/s"));
        let latency = format!(
            "p50 {}   p99 {}",
            time(total.latency.value_at_quantile(0.5)),
            time(total.latency.value_at_quantile(0.99))
        );
        table.row("latency", &latency);
        table.blank();
        table.percentiles("latency", &total.latency);
    }
    table.steps(run);
    table.broadcast(run);
    table.storm(run);
    table.connections(run);
    table.server(run);
    table.generator(run);
    table.failures(run);
    table.text
}

/// Lines of a name and what there is to say.
#[derive(Default)]
pub struct Table {
    /// All lines.
    pub text: String,
}

impl Table {
    /// A line; an empty name goes on with the last one.
    pub fn row(&mut self, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{name:<NAME_WIDTH$} {value}");
    }

    /// A line without anything.
    pub fn blank(&mut self) {
        self.text.push('\n');
    }

    fn title(&mut self, run: &Run) {
        let plan = &run.plan;
        let name = format!("{:?}", plan.workload).to_lowercase();
        let size = plan.sizes.with_unit();
        let kind = if plan.text { "text" } else { "binary" };
        let load = match plan.workload {
            WorkloadName::Echo => {
                format!("{size} {kind}, {} in flight", plan.in_flight)
            }
            WorkloadName::Rate | WorkloadName::Capacity => {
                format!("{size} {kind}, {:?} messages/s", plan.rates)
            }
            WorkloadName::Broadcast | WorkloadName::Slow => format!(
                "{} publishers, {} topics, {size} {kind}, bursts of {}",
                plan.publishers, plan.topics, plan.burst
            ),
            WorkloadName::Connect | WorkloadName::Storm => {
                let backoff = if plan.backoff { ", backoff" } else { "" };
                format!("close: {}{backoff}", format!("{:?}", plan.close).to_lowercase())
            }
            WorkloadName::Idle => "parked".to_owned(),
        };
        let protocol = plan.channels.as_ref().map_or(String::new(), |channels| {
            format!("centrifugo, {} subscriptions each, ", channels.subscriptions)
        });
        let _ = writeln!(
            self.text,
            "{name}: {protocol}{} connections, {load}, {} thread(s), {}\n",
            plan.connections,
            run.threads.len(),
            plan.target.url
        );
    }

    fn percentiles(&mut self, name: &str, histogram: &Histogram<u64>) {
        let at = |quantile| time(histogram.value_at_quantile(quantile));
        let line = format!(
            "min {}  p90 {}  p99.9 {}  p99.99 {}  max {}  mean {}",
            time(histogram.min()),
            at(0.9),
            at(0.999),
            at(0.9999),
            time(histogram.max()),
            time(histogram.mean() as u64)
        );
        self.row(&format!("{name} in detail"), &line);
    }

    fn steps(&mut self, run: &Run) {
        if run.plan.steps() < 2 {
            return;
        }
        for Step { number, sum, seconds } in run.steps() {
            let name = match run.plan.workload {
                WorkloadName::Slow if number == 0 => "all read".to_owned(),
                WorkloadName::Slow => format!("{} % do not read", run.plan.slow_percent),
                _ => format!("at {}/s", run.plan.rates.get(number).copied().unwrap_or(0)),
            };
            let per_second = sum.messages as f64 / seconds;
            let at = |quantile| time(sum.latency.value_at_quantile(quantile));
            let line = format!(
                "{:>12}/s   p50 {}  p99 {}  p99.9 {}  max {}",
                self::number(per_second),
                at(0.5),
                at(0.99),
                at(0.999),
                time(sum.latency.max())
            );
            self.row(&name, &line);
        }
    }

    fn broadcast(&mut self, run: &Run) {
        let counters = &run.record.counters;
        if run.plan.publishers > 0 {
            let line = format!(
                "{} expected, {} lost, {} duplicated, {} reordered, {} bursts stalled",
                counters.deliveries_expected,
                counters.lost,
                counters.duplicated,
                counters.reordered,
                counters.bursts_stalled
            );
            self.row("deliveries", &line);
            if counters.copies_expected > 0 {
                let line = format!("{} to publishers expected as well", counters.copies_expected);
                self.row("", &line);
            }
        }
        if run.plan.channels.is_some() {
            let line = format!(
                "{} left out, {} repeated, {} recovered",
                counters.offset_gaps, counters.offsets_repeated, counters.recovered
            );
            self.row("offsets", &line);
        }
        if run.plan.workload == WorkloadName::Slow {
            self.row("slow readers", &format!("{} cut by the server", counters.slow_cut));
        }
        if !run.record.lateness.is_empty() {
            let at = |quantile| time(run.record.lateness.value_at_quantile(quantile));
            self.row("sent late by", &format!("p50 {}  p99 {}", at(0.5), at(0.99)));
        }
    }

    fn storm(&mut self, run: &Run) {
        for (number, round) in (1..).zip(&run.record.rounds) {
            let name = format!("round {number}");
            let when = match round.seconds_until_all_back() {
                Some(seconds) => format!("all {} back after {seconds:.2} s", round.back),
                None => format!("{} of {} back", round.back, round.dropped),
            };
            self.row(&name, &when);
        }
        let tried = (1..).zip(&run.record.attempts).filter(|(_, count)| **count > 0);
        let tried: Vec<_> = tried.map(|(tries, count)| format!("{tries}: {count}")).collect();
        if !tried.is_empty() {
            self.row("back at attempt", &tried.join("  "));
        }
        self.kinds("failed attempt", &run.record.failed_attempts);
    }

    fn connections(&mut self, run: &Run) {
        let counters = &run.record.counters;
        if !run.plan.connects_while_measured() {
            let rate = run.connected as f64 / run.connect_seconds.max(1e-9);
            let line = format!(
                "{} opened in {:.2} s, {}/s",
                run.connected,
                run.connect_seconds,
                number(rate)
            );
            self.row("connections", &line);
        }
        self.tls(run);
        let line = format!(
            "{} open at the end, {} closed cleanly, {} otherwise, {} pings answered",
            counters.open_at_end,
            counters.closed_cleanly,
            counters.closed_otherwise,
            counters.pings_answered
        );
        self.row("", &line);
    }

    fn tls(&mut self, run: &Run) {
        if run.plan.way.client.is_none() {
            return;
        }
        let Tls { full, resumed, suites, connect_time, handshake_time, upgrade_time } =
            &run.record.tls;
        let counts = [format!("{full} full handshakes"), format!("{resumed} resumed")];
        let suites = suites.keys().map(|suite| (*suite).to_owned());
        self.row("TLS", &counts.into_iter().chain(suites).collect::<Vec<_>>().join(", "));
        for (name, histogram) in
            [("connect", connect_time), ("TLS", handshake_time), ("upgrade", upgrade_time)]
        {
            let at = |quantile| time(histogram.value_at_quantile(quantile));
            self.row("", &format!("{name} took p50 {}  p99 {}", at(0.5), at(0.99)));
        }
    }

    /// What the server used, if its process was named.
    pub fn server(&mut self, run: &Run) {
        let Some(samples) = &run.server else { return };
        let usage = ServerUsage::new(run, samples);
        let unit = if counts_handshakes(run) { "handshake" } else { "message" };
        let or_none = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let cpu = format!(
            "{} us per {unit}, {:.0} % of a core, {} context switches per {unit}",
            or_none(usage.cpu_us_per_message, 3),
            usage.cpu_share * 100.0,
            or_none(usage.switches_per_message, 4)
        );
        self.row("server CPU", &cpu);
        let memory = format!(
            "{} bytes resident per connection, {:.1} MiB in all; kernel slab of this machine {} \
             bytes per connection",
            or_none(usage.resident_bytes_per_connection, 0),
            samples.until.resident_bytes as f64 / f64::from(1 << 20),
            or_none(usage.system_slab_bytes_per_connection, 0)
        );
        self.row("server memory", &memory);
    }

    /// What the generator's threads used.
    pub fn generator(&mut self, run: &Run) {
        let shares: Vec<_> = run
            .threads
            .iter()
            .filter_map(|thread| {
                let core = thread.core.map_or("?".to_owned(), |core| core.to_string());
                thread.share.map(|share| format!("core {core}: {:.0} %", share.ran * 100.0))
            })
            .take(THREADS_SHOWN)
            .collect();
        if !shares.is_empty() {
            self.row("generator CPU", &shares.join(", "));
        }
    }

    fn kinds(&mut self, name: &str, failures: &Failures) {
        for (phase, error, kind) in failures.by_frequency().into_iter().take(KINDS_SHOWN) {
            let first = kind.first_connection;
            let line = format!("{} x connection {first}, {phase}: {error}", kind.count);
            self.row(name, &line);
        }
    }

    fn failures(&mut self, run: &Run) {
        self.kinds("failure", &run.record.failures);
        if run.connected == 0 && !run.plan.connects_while_measured() {
            self.row("failure", "no connection could be opened");
        }
    }
}

/// Nanoseconds in the unit that suits them.
pub fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} us", nanoseconds as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.2} s", nanoseconds as f64 / 1e9),
    }
}

/// A count with its thousands set off.
pub fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const NAME_WIDTH: usize = 18;
const THREADS_SHOWN: usize = 8;
const KINDS_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!(number(999.0), "999");
        assert_eq!(time(950), "950 ns");
        assert_eq!(time(12_345), "12.3 us");
        assert_eq!(time(7_890_000), "7.89 ms");
        assert_eq!(time(3_000_000_000), "3.00 s");
    }
}
