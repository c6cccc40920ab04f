//! What a run does, checked and with every default filled in.

use std::time::Duration;

use super::arguments::{Arguments, Close, ContentName, LoadName, ProtocolName, WorkloadName};
use super::channels::Channels;
use super::content;
use super::sources::Sources;
use super::target::Target;
use super::values::SizeMix;
use super::way::Way;
use crate::wire::header::OpCode;

/// Why a combination of options makes no run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// An option that is wrong, or does not go with others.
    #[error("--{option}: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The server has no address.
    #[error("{0}")]
    Unreachable(String),
}

impl PlanError {
    /// An option that is wrong, and why.
    pub fn of(option: &'static str, reason: &str) -> Self {
        Self::Option { option, reason: reason.to_owned() }
    }
}

/// What a search for the highest rate is to find, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The latency that 99 of 100 messages must keep.
    pub p99: Duration,
    /// Searches.
    pub rounds: u32,
    /// Most rates tried in all of them.
    pub trials: u32,
}

impl Goal {
    /// The goal, if it is a search that `arguments` ask for.
    ///
    /// # Errors
    /// When the latency is missing.
    pub fn new(arguments: &Arguments) -> Result<Option<Self>, PlanError> {
        if arguments.workload != WorkloadName::Capacity {
            return Ok(None);
        }
        let Some(p99) = arguments.p99 else {
            let reason = "capacity needs the latency that must hold, such as --p99 10ms";
            return Err(PlanError::of("p99", reason));
        };
        let rounds = arguments.repeat.unwrap_or(3);
        Ok(Some(Self { p99, rounds, trials: arguments.trials.unwrap_or(100) }))
    }
}

/// A run. For a search it is that of its first rate, and names the workload of all of them.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// How connections get there, and what they ask it for.
    pub way: Way,
    /// What connections do.
    pub workload: WorkloadName,
    /// The channels that they are clients of, if that is their protocol.
    pub channels: Option<Channels>,
    /// All connections.
    pub connections: u32,
    /// Of these, the first ones that publish; the others subscribe.
    pub publishers: u32,
    /// Topics.
    pub topics: u32,
    /// Percent of the subscribers that stop reading.
    pub slow_percent: u32,
    /// Payload sizes.
    pub sizes: SizeMix,
    /// Text instead of binary.
    pub text: bool,
    /// What messages are filled with.
    pub content: ContentName,
    /// Whether the content of answers is taken as it is.
    pub unchecked: bool,
    /// Messages on their way per connection.
    pub in_flight: u32,
    /// Messages sent together.
    pub burst: u32,
    /// Messages per second, step by step; empty is as fast as answers come.
    pub rates: Vec<u32>,
    /// Whether dropped connections wait before they come back.
    pub backoff: bool,
    /// Times that all connections drop.
    pub rounds: u32,
    /// How connections end.
    pub close: Close,
    /// Whether quiet connections wait on a poll.
    pub park: bool,
    /// Whether threads look for completions all the time instead of waiting for them.
    pub busy_poll: bool,
    /// Measured time of each step.
    pub duration: Duration,
    /// Time before it that does not count.
    pub warmup: Duration,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Threads asked for.
    pub threads: u32,
    /// Cores asked for.
    pub cores: Vec<usize>,
    /// Source addresses.
    pub sources: Sources,
}

impl Plan {
    /// Fills in the defaults of the workload.
    ///
    /// # Errors
    /// Options that the workload does not have, or that contradict each other.
    pub fn new(arguments: &Arguments) -> Result<Self, PlanError> {
        use WorkloadName::{Broadcast, Capacity, Connect, Echo, Idle, Rate, Slow, Storm};
        let (asked, workload) = (arguments.workload, effective_workload(arguments));
        refuse_foreign_options(arguments)?;
        let is_broadcast = matches!(workload, Broadcast | Slow);
        let channels = Channels::new(arguments, workload)?;
        let misses = channels.as_ref().is_some_and(|channels| channels.missed > 0);
        let publishers = match is_broadcast {
            true => arguments.publishers.unwrap_or(1),
            // Somebody publishes what the others miss.
            false => u32::from(misses),
        };
        let connections = match workload {
            Broadcast | Slow => publishers + arguments.subscribers.unwrap_or(100),
            Connect => arguments.connections.unwrap_or(32),
            Storm | Idle => publishers + arguments.connections.unwrap_or(1000),
            Echo | Rate | Capacity => arguments.connections.unwrap_or(100),
        };
        let burst = arguments.burst.unwrap_or(1);
        let is_at_once = workload == Connect && arguments.close == Some(Close::None);
        let warmup = arguments.warmup.unwrap_or(WARMUP);
        let way = Way::new(arguments)?;
        let plan = Self {
            workload,
            connections,
            publishers,
            topics: arguments.topics.unwrap_or(1),
            slow_percent: arguments.slow_share.unwrap_or(10),
            sizes: sizes(arguments),
            text: arguments.text
                || arguments.content == ContentName::Json
                || arguments.protocol == ProtocolName::Centrifugo,
            content: arguments.content,
            unchecked: arguments.unchecked,
            in_flight: arguments.in_flight.unwrap_or(burst),
            burst,
            rates: rates(arguments),
            backoff: arguments.backoff,
            rounds: arguments.rounds.unwrap_or(1),
            close: arguments.close.unwrap_or(match asked {
                // Each rate has its connections: ports that wait would run out.
                Storm | Capacity => Close::Reset,
                _ => Close::Handshake,
            }),
            park: arguments.park || workload == Idle,
            busy_poll: arguments.busy_poll,
            duration: arguments.duration.unwrap_or(match asked {
                Capacity => Duration::from_secs(1),
                Storm if arguments.backoff => Duration::from_secs(60),
                Idle => Duration::from_secs(10),
                // The latest moment, not the usual one: it ends when all are back.
                Storm => Duration::from_secs(30),
                _ => Duration::from_secs(3),
            }),
            warmup: if is_at_once { Duration::ZERO } else { warmup },
            timeout: arguments.timeout,
            threads: arguments.threads.min(connections),
            cores: arguments.cores.clone(),
            sources: sources(arguments, &way, connections),
            target: arguments.url.clone(),
            channels,
            way,
        };
        plan.check()?;
        Ok(plan)
    }

    /// Measured parts of the same duration: steps of the rate, or without and with slow readers.
    pub fn steps(&self) -> usize {
        if self.workload == WorkloadName::Slow { 2 } else { self.rates.len().max(1) }
    }

    /// The whole measured time.
    pub fn measured(&self) -> Duration {
        self.duration.saturating_mul(self.steps() as u32)
    }

    /// Intervals of the measured time, the same number for each step.
    pub fn intervals(&self) -> usize {
        self.steps() * INTERVALS.div_ceil(self.steps()).max(INTERVALS_OF_STEP_LEAST)
    }

    /// Whether the connections open one by one as part of the workload, not before it.
    pub fn connects_while_measured(&self) -> bool {
        self.workload == WorkloadName::Connect
    }

    /// Whether this connection is a subscriber that will stop reading.
    pub fn is_slow(&self, id: u32) -> bool {
        if self.workload != WorkloadName::Slow {
            return false;
        }
        let Some(place) = id.checked_sub(self.publishers).map(u64::from) else { return false };
        let share = u64::from(self.slow_percent);
        (place + 1) * share / 100 != place * share / 100
    }

    fn check(&self) -> Result<(), PlanError> {
        let refused = |option, reason: String| Err(PlanError::Option { option, reason });
        if self.in_flight < self.burst {
            return refused("in-flight", format!("at least the burst of {}", self.burst));
        }
        let has_paths = self.channels.is_none();
        if has_paths && self.topics > 1 && !self.target.names_topic() {
            return refused("topics", "more than one needs {topic} in the URL's path".to_owned());
        }
        if has_paths && self.publishers > 0 && self.topics > self.publishers {
            return refused("topics", format!("at most the {} publishers", self.publishers));
        }
        let opcode = if self.text { OpCode::Text } else { OpCode::Binary };
        let needed = content::stamp_bytes(opcode);
        if self.publishers > 0 && self.sizes.least() < needed {
            let reason = format!("at least {needed}, or loss could not be told");
            return refused("size", reason);
        }
        if self.unchecked && self.publishers > 1 {
            return refused("unchecked", "only one publisher, or whose is whose?".to_owned());
        }
        if self.close == Close::None && self.workload != WorkloadName::Connect {
            return refused("close", "none is for the workload connect".to_owned());
        }
        if self.duration.is_zero() || self.timeout.is_zero() {
            return refused("duration", "more than nothing, like --timeout".to_owned());
        }
        Ok(())
    }
}

fn sizes(arguments: &Arguments) -> SizeMix {
    let (text, bytes) = match arguments.workload {
        // Less would fit the kernel's buffers, and nobody would notice who does not read.
        WorkloadName::Slow => ("16KiB", 16 << 10),
        _ => ("20", 20),
    };
    let default = || SizeMix { text: text.to_owned(), parts: vec![(bytes, 1)] };
    arguments.size.clone().unwrap_or_else(default)
}

fn rates(arguments: &Arguments) -> Vec<u32> {
    match arguments.workload {
        WorkloadName::Capacity if arguments.rate.is_empty() => vec![1000],
        WorkloadName::Rate if arguments.rate.is_empty() => vec![10_000],
        WorkloadName::Slow if arguments.rate.is_empty() => vec![100],
        _ => arguments.rate.clone(),
    }
}

fn sources(arguments: &Arguments, way: &Way, connections: u32) -> Sources {
    if let Some(sources) = &arguments.source {
        return sources.clone();
    }
    if !way.is_ipv4_loopback() {
        return Sources::default();
    }
    // Closing leaves ports behind that cannot be used again for a while.
    use WorkloadName::{Capacity, Connect, Storm};
    let churns = matches!(arguments.workload, Capacity | Connect | Storm);
    Sources::loopback(connections.saturating_add(if churns { PORTS_OF_CHURN } else { 0 }))
}

/// What the connections of each run do, also where it is a search that is asked for.
fn effective_workload(arguments: &Arguments) -> WorkloadName {
    match (arguments.workload, arguments.load) {
        (WorkloadName::Capacity, Some(LoadName::Broadcast)) => WorkloadName::Broadcast,
        (WorkloadName::Capacity, _) => WorkloadName::Rate,
        (workload, _) => workload,
    }
}

/// An option is refused where it would have no effect.
fn refuse_foreign_options(arguments: &Arguments) -> Result<(), PlanError> {
    use WorkloadName::{Broadcast, Capacity, Connect, Echo, Idle, Rate, Slow, Storm};
    let effective = effective_workload(arguments);
    let all_but_broadcasts: &[_] = &[Echo, Rate, Connect, Storm, Idle];
    let messages: &[_] = &[Echo, Rate, Broadcast, Slow];
    let broadcasts: &[_] = &[Broadcast, Slow];
    let all: &[_] = &[Echo, Rate, Broadcast, Slow, Connect, Storm, Idle, Capacity];
    let topics = match arguments.protocol {
        ProtocolName::Websocket => broadcasts,
        ProtocolName::Centrifugo => all,
    };
    let all_but_capacity: &[_] = &[Echo, Rate, Broadcast, Connect, Storm, Idle, Slow];
    let table: [(&'static str, bool, &[WorkloadName]); 23] = [
        ("connections", arguments.connections.is_some(), all_but_broadcasts),
        ("size", arguments.size.is_some(), messages),
        ("text", arguments.text, messages),
        ("content", arguments.content != ContentName::Random, messages),
        ("compression", arguments.compression, messages),
        ("in-flight", arguments.in_flight.is_some(), &[Echo]),
        ("burst", arguments.burst.is_some(), &[Echo, Broadcast, Slow]),
        ("rate", !arguments.rate.is_empty(), &[Rate, Broadcast, Slow, Connect]),
        ("publishers", arguments.publishers.is_some(), broadcasts),
        ("subscribers", arguments.subscribers.is_some(), broadcasts),
        ("topics", arguments.topics.is_some(), topics),
        ("slow-share", arguments.slow_share.is_some(), &[Slow]),
        ("rounds", arguments.rounds.is_some(), &[Storm]),
        ("backoff", arguments.backoff, &[Storm]),
        ("p99", arguments.p99.is_some(), &[Capacity]),
        ("workload", arguments.load.is_some(), &[Capacity]),
        ("repeat", arguments.repeat.is_some(), &[Capacity]),
        ("trials", arguments.trials.is_some(), &[Capacity]),
        ("allow-failures", arguments.allow_failures, all_but_capacity),
        ("park", arguments.park, &[Broadcast, Idle]),
        ("busy-poll", arguments.busy_poll, &[Rate]),
        ("unchecked", arguments.unchecked, &[Echo, Rate, Broadcast]),
        ("allow-loss", arguments.allow_loss, broadcasts),
    ];
    for (option, is_given, workloads) in table {
        // A search passes on what shapes its runs, and nothing that would excuse a server.
        let passes_on = !option.starts_with("allow-") && workloads.contains(&effective);
        if is_given && !workloads.contains(&arguments.workload) && !passes_on {
            let names = workloads.iter().map(|name| format!("{name:?}").to_lowercase());
            let reason = format!("only for {}", names.collect::<Vec<_>>().join(", "));
            return Err(PlanError::Option { option, reason });
        }
    }
    let stays_open = arguments.close == Some(Close::None);
    let reason = match arguments.workload {
        Connect if stays_open && !arguments.rate.is_empty() => {
            "not with --close none, as places must become free"
        }
        _ if arguments.rate.len() <= 1 => return Ok(()),
        Slow => "one rate, because there are two parts already",
        Capacity => "one rate, where the search begins",
        _ => return Ok(()),
    };
    Err(PlanError::of("rate", reason))
}

const WARMUP: Duration = Duration::from_millis(500);
/// Intervals that the measured time is cut into, about.
const INTERVALS: usize = 60;
const INTERVALS_OF_STEP_LEAST: usize = 10;
/// Further ports that closed connections keep for a while.
const PORTS_OF_CHURN: u32 = 300_000;

#[cfg(test)]
pub(super) mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    pub fn plan(line: &str) -> Result<Plan, String> {
        let command = Arguments::augment_args(Command::new("bench"));
        let matches = command
            .try_get_matches_from(format!("bench {line}").split_whitespace())
            .map_err(|error| error.to_string())?;
        let arguments = Arguments::from_arg_matches(&matches).map_err(|error| error.to_string())?;
        let goal = Goal::new(&arguments).map_err(|error| error.to_string())?;
        let plan = Plan::new(&arguments).map_err(|error| error.to_string())?;
        assert_eq!(goal.is_some(), arguments.workload == WorkloadName::Capacity);
        Ok(plan)
    }

    #[test]
    fn a_url_alone_is_the_canonical_workload() {
        let plan = plan("ws://127.0.0.1:7071/").expect("valid");
        assert_eq!((plan.workload, plan.connections, plan.threads), (WorkloadName::Echo, 100, 1));
        assert_eq!((plan.sizes.cycle(), plan.text, plan.in_flight), (vec![20], false, 1));
        assert_eq!((plan.steps(), plan.intervals()), (1, 60));
    }

    #[test]
    fn steps_have_the_same_intervals() {
        let plan = plan("ws://127.0.0.1:1 rate --rate 10,20,30,40,50,60,70").expect("valid");
        assert_eq!((plan.steps(), plan.intervals() % plan.steps()), (7, 0));
    }

    #[test]
    fn a_search_runs_the_workload_that_it_names() {
        let echo = plan("ws://127.0.0.1:1/ capacity --p99 5ms").expect("valid");
        assert_eq!((echo.workload, &*echo.rates), (WorkloadName::Rate, &[1000][..]));
        assert_eq!((echo.close, echo.publishers), (Close::Reset, 0));
        let line = "capacity --p99 5ms --workload broadcast --subscribers 7 --rate 3";
        let broadcast = plan(&format!("ws://127.0.0.1:1/ {line}")).expect("valid");
        assert_eq!((broadcast.workload, &*broadcast.rates), (WorkloadName::Broadcast, &[3][..]));
        assert_eq!((broadcast.connections, broadcast.publishers), (8, 1));
    }

    #[test]
    fn options_without_effect_are_refused() {
        for (line, part) in [
            ("echo --rate 5", "--rate: only for rate, broadcast, slow, connect"),
            ("connect --rate 5 --close none", "--rate: "),
            ("echo --in-flight 2 --burst 3", "--in-flight: at least the burst of 3"),
            ("broadcast --connections 5", "--connections: only for echo"),
            ("broadcast --size 14", "--size: at least 15"),
            ("broadcast --size 19 --text", "--size: at least 20"),
            ("broadcast --topics 2 --publishers 2", "--topics: more than one needs {topic}"),
            ("echo --close none", "--close: none is for"),
            ("idle --compression", "--compression: only for echo, rate, broadcast, slow"),
            ("connect --content json", "--content: only for echo"),
            ("slow --rate 1,2", "--rate: one rate"),
            ("echo --backoff", "--backoff: only for storm"),
            ("echo --p99 5ms", "--p99: only for capacity"),
            ("rate --trials 5", "--trials: only for capacity"),
            ("capacity", "--p99: capacity needs"),
            ("capacity --p99 5ms --rate 1,2", "--rate: one rate, where"),
            ("capacity --p99 5ms --subscribers 5", "--subscribers: only for broadcast"),
            ("capacity --p99 5ms --in-flight 5", "--in-flight: only for echo"),
            ("capacity --p99 5ms --allow-failures", "--allow-failures: only for echo"),
            (
                "capacity --p99 5ms --workload broadcast --allow-loss",
                "--allow-loss: only for broadcast, slow",
            ),
            (
                "capacity --p99 5ms --workload broadcast --connections 5",
                "--connections: only for echo",
            ),
            ("echo --duration 0s", "--duration"),
        ] {
            let said = plan(&format!("ws://127.0.0.1:1/ {line}")).expect_err(line);
            assert!(said.contains(part), "{line}: {said}");
        }
        let said = plan("ws+unix:/a:/ echo --source 127.0.0.1").expect_err("no IPv4");
        assert!(said.contains("--source"), "{said}");
    }
}
