//! What a server holds, and what to configure for it.

use serde_json::{Value, json};

use super::json::{self, ServerUsage};
use super::table::{Table, number, time};
use super::{Report, Verdict};
use crate::bench::arguments::Arguments;
use crate::bench::capacity::Capacity;
use crate::bench::plan::Plan;
use crate::wire::header::Header;

impl Report {
    /// Sums up a search.
    pub fn of_capacity(arguments: &Arguments, capacity: &Capacity) -> Self {
        let verdict = match capacity.run.signal {
            Some(signal) => Verdict::Interrupted { signal },
            None if capacity.rates.is_empty() => Verdict::Failed,
            None => super::verdict(arguments, &capacity.run),
        };
        let warnings = warnings(capacity);
        let limits = capacity.rate().map(|rate| Limits::new(capacity, rate));
        let mut json = json::render(&capacity.run, verdict, &warnings);
        json["capacity"] = as_json(capacity, limits.as_ref());
        json["parameters"]["workload"] = "capacity".into();
        let table = as_table(capacity, limits.as_ref());
        Self { json, table, warnings, verdict }
    }
}

/// What a server that is to hold this load must allow, and should not be asked to exceed.
struct Limits {
    rate: u32,
    connections: u32,
    /// Messages per second of one connection that sends.
    per_sender: f64,
    /// Deliveries per second; broadcasts only.
    deliveries: Option<f64>,
    /// Messages per second (deliveries, of broadcasts) for each core that the server used.
    per_core: Option<f64>,
    /// What one second of the load queues for a subscriber that pauses; broadcasts only.
    backlog_bytes: Option<u64>,
}

impl Limits {
    fn new(capacity: &Capacity, rate: u32) -> Self {
        let run = &capacity.run;
        let plan = &*run.plan;
        let is_broadcast = plan.publishers > 0;
        let senders = if is_broadcast { plan.publishers } else { plan.connections };
        let topics = f64::from(plan.topics);
        let subscribers = f64::from(plan.connections - plan.publishers);
        let deliveries = f64::from(rate) * subscribers / topics;
        let usage = run.server.as_ref().map(|samples| ServerUsage::new(run, samples).cpu_share);
        // The processor time is that of the run that is shown, whose rate it goes with.
        let shown = run.plan.rates.first().copied().map_or(0.0, f64::from);
        let amplified = if is_broadcast { subscribers / topics } else { 1.0 };
        Self {
            rate,
            connections: plan.connections,
            per_sender: f64::from(rate) / f64::from(senders),
            deliveries: is_broadcast.then_some(deliveries),
            per_core: usage.filter(|share| *share > 0.0).map(|share| shown * amplified / share),
            backlog_bytes: is_broadcast.then(|| {
                let per_topic = (f64::from(rate) / topics).ceil() as u64;
                per_topic * mean_frame_bytes(plan)
            }),
        }
    }
}

/// Bytes of a frame that the server sends, on average of the sizes; compression makes it less.
fn mean_frame_bytes(plan: &Plan) -> u64 {
    let sizes = plan.sizes.cycle();
    let frame = |&size: &u32| {
        let size = u64::from(size);
        size + Header::encoded_bytes(size, false) as u64
    };
    sizes.iter().map(frame).sum::<u64>().div_ceil(sizes.len().max(1) as u64)
}

fn warnings(capacity: &Capacity) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(outcome) = capacity.generator_limit() {
        let rate = number(outcome.trial.rate.into());
        for warning in &outcome.generator {
            warnings.push(format!("AT {rate}/s {warning} The server's capacity may be higher."));
        }
    }
    if let Some(signal) = capacity.run.signal {
        warnings.push(format!("{}: the search is not complete.", super::interrupted(signal)));
    } else if !capacity.is_complete {
        warnings.push(format!(
            "NOT COMPLETE: {} of {} rounds within {} trials; raise --trials, or begin nearer with \
             --rate.",
            capacity.rates.len(),
            capacity.goal.rounds,
            capacity.outcomes.len()
        ));
    }
    warnings
}

fn as_table(capacity: &Capacity, limits: Option<&Limits>) -> String {
    let mut table = Table::default();
    let plan = &capacity.run.plan;
    let roles = match plan.publishers {
        0 => format!("echo, {} connections", plan.connections),
        publishers => format!(
            "broadcast, {publishers} publishers, {} subscribers, {} topics",
            plan.connections - publishers,
            plan.topics
        ),
    };
    let (size, kind) = (plan.sizes.with_unit(), if plan.text { "text" } else { "binary" });
    let threads = capacity.run.threads.len();
    let url = &plan.target.url;
    table.text = format!("capacity: {roles}, {size} {kind}, {threads} thread(s), {url}\n\n");
    let limit = format!("p99 within {:?}, nothing lost", capacity.goal.p99);
    match limits {
        None => table.row("capacity", &format!("no rate was confirmed with {limit}")),
        Some(limits) => {
            let rate = number(limits.rate.into());
            table.row("capacity", &format!("{rate} messages/s with {limit}"));
            if let Some(deliveries) = limits.deliveries {
                table.row("", &format!("{} deliveries/s", number(deliveries)));
            }
            let of = |rate: Option<&u32>| number(rate.copied().unwrap_or(0).into());
            let (least, most) = (of(capacity.rates.first()), of(capacity.rates.last()));
            let rounds = capacity.rates.len();
            table.row("spread", &format!("{least} to {most}/s in {rounds} round(s)"));
        }
    }
    table.blank();
    for outcome in &capacity.outcomes {
        let verdict = outcome.reason.as_deref().unwrap_or("holds");
        let confirms = if outcome.trial.confirms { " (confirmation)" } else { "" };
        let rate = format!("at {}/s", number(outcome.trial.rate.into()));
        table.row(&rate, &format!("p99 {:<10} {verdict}{confirms}", time(outcome.p99_ns)));
    }
    if let Some(limits) = limits {
        table.blank();
        configure(&mut table, limits);
    }
    table.server(&capacity.run);
    table.generator(&capacity.run);
    table.text
}

fn configure(table: &mut Table, limits: &Limits) {
    let rate = number(limits.rate.into());
    table.row("to configure", "for this server and messages like these:");
    let line = format!(
        "{rate} messages/s in all: no option of a Ringwire server bounds it, so bound it where \
         messages are made or in front of the server"
    );
    table.row("rate", &line);
    if let Some(per_core) = limits.per_core {
        table.row("", &format!("{} messages/s for each core in use", number(per_core)));
    }
    let line = format!(
        "{} held, {:.1} messages/s from each that sends; with other clients, {rate} divided by \
         what one sends in a second",
        limits.connections, limits.per_sender
    );
    table.row("--max-connections", &line);
    if let Some(bytes) = limits.backlog_bytes {
        let line = format!("{bytes} B for a subscriber that may pause for 1 s at this load");
        table.row("--max-backlog", &line);
    }
}

fn as_json(capacity: &Capacity, limits: Option<&Limits>) -> Value {
    let trials = capacity.outcomes.iter().map(|outcome| {
        json!({
            "rate": outcome.trial.rate,
            "confirms": outcome.trial.confirms,
            "seconds": outcome.seconds,
            "p99_ns": outcome.p99_ns,
            "holds": outcome.reason.is_none(),
            "reason": outcome.reason,
            "generator": outcome.generator,
        })
    });
    json!({
        "p99_limit_ns": capacity.goal.p99.as_nanos() as u64,
        "rate": capacity.rate(),
        "rates": capacity.rates,
        "is_complete": capacity.is_complete,
        "generator_limited": capacity.generator_limit().is_some(),
        "limits": limits.map(|limits| json!({
            "messages_per_second": limits.rate,
            "messages_per_second_per_core": limits.per_core,
            "messages_per_second_per_sender": limits.per_sender,
            "deliveries_per_second": limits.deliveries,
            "max_connections": limits.connections,
            "max_backlog_bytes": limits.backlog_bytes,
        })),
        "trials": trials.collect::<Vec<_>>(),
    })
}
