//! The command line of `ringwire bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum, ValueHint};

use super::proxy::Proxy;
use super::report::STANDARD_OUTPUT;
use super::sources::Sources;
use super::target::Target;
use super::values::{
    SizeMix, parse_bearer, parse_duration, parse_field, parse_latency, parse_percent,
    parse_subprotocol,
};
use crate::config::TlsVersion;

/// What the connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WorkloadName {
    /// Send, wait for the echo, send again
    Echo,
    /// Send at a fixed or stepped rate, whether echoes come or not
    Rate,
    /// Publish to topics and check what each subscriber gets
    Broadcast,
    /// Open and close connections
    Connect,
    /// Drop all connections at once and reconnect them
    Storm,
    /// Hold connections and answer pings
    Idle,
    /// Broadcast, then let some subscribers stop reading
    Slow,
    /// Find the highest rate at which the latency holds and nothing is lost
    Capacity,
}

/// The load whose highest rate is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoadName {
    /// Messages and their echoes
    Echo,
    /// Messages published to topics
    Broadcast,
}

/// What messages are filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ContentName {
    /// Bytes without order, which nothing compresses
    Random,
    /// Readings as JSON, which compress as such messages do; always text
    Json,
}

/// What WebSockets carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolName {
    /// Messages, as they are
    Websocket,
    /// The Centrifugo client protocol v2, in JSON
    Centrifugo,
}

/// How connections are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Close {
    /// Close frames in both directions, then the end of the stream
    Handshake,
    /// Reset, without a close frame
    Reset,
    /// Stay open until the run ends (workload connect only)
    None,
}

/// The arguments of `ringwire bench`.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Server: ws://host:port/path, wss://host:port/path or ws+unix:PATH:/route; {topic} in the
    /// path stands for the number of a topic
    #[arg(value_name = "URL", value_hint = ValueHint::Url)]
    pub url: Target,

    /// What the connections do
    #[arg(value_enum, default_value = "echo")]
    pub workload: WorkloadName,

    /// What WebSockets carry. Clients of centrifugo publish to channels and wait for the
    /// acknowledgement (echo, rate), or subscribe, and their offsets are checked (broadcast, storm,
    /// connect, idle); a storm has them recover what was published while they were away
    #[arg(long, value_enum, value_name = "NAME", help_heading = LOAD, default_value = "websocket")]
    pub protocol: ProtocolName,

    /// Connections [default: 100; connect 32, storm and idle 1000]
    #[arg(long, value_name = "N", help_heading = LOAD,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub connections: Option<u32>,

    /// Payload bytes of a message, or sizes with weights: 20:70,1KiB:30 [default: 20;
    /// slow 16KiB]
    #[arg(long, value_name = "SIZES", help_heading = LOAD, value_parser = SizeMix::parse)]
    pub size: Option<SizeMix>,

    /// Send text instead of binary messages
    #[arg(long, help_heading = LOAD)]
    pub text: bool,

    /// What messages say after their stamp
    #[arg(long, value_enum, value_name = "KIND", help_heading = LOAD, default_value = "random")]
    pub content: ContentName,

    /// Offer permessage-deflate without context takeover, send compressed messages, and inflate
    /// and check what comes back; a server that declines fails the run
    #[arg(long, help_heading = LOAD)]
    pub compression: bool,

    /// Messages on their way per connection (echo) [default: 1, or the burst]
    #[arg(long, value_name = "N", help_heading = LOAD,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: Option<u32>,

    /// Messages sent together (echo, broadcast, slow) [default: 1]
    #[arg(long, value_name = "N", help_heading = LOAD,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub burst: Option<u32>,

    /// Messages per second of all connections together, or handshakes (connect), or several steps
    /// of the same duration each: 10000,20000; where the search begins (capacity) [default: rate
    /// 10000, slow 100, capacity 1000, broadcast and connect as fast as the server goes]
    #[arg(long, value_name = "RATES", help_heading = LOAD, value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub rate: Vec<u32>,

    /// Connections that publish (broadcast, slow) [default: 1]
    #[arg(long, value_name = "N", help_heading = LOAD,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub publishers: Option<u32>,

    /// Connections that subscribe (broadcast, slow) [default: 100]
    #[arg(long, value_name = "N", help_heading = LOAD,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub subscribers: Option<u32>,

    /// Topics that publishers and subscribers are spread over; more than one needs {topic} in the
    /// URL (broadcast, slow), or with centrifugo in the name of the channel [default: 1]
    #[arg(long, value_name = "N", help_heading = LOAD,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub topics: Option<u32>,

    /// Name of the channel, {topic} being the number of a topic (centrifugo) [default:
    /// bench{topic}]
    #[arg(long, value_name = "NAME", help_heading = LOAD)]
    pub channel: Option<String>,

    /// Channels of each client that subscribes, of all --topics (centrifugo) [default: 1]
    #[arg(long, value_name = "N", help_heading = LOAD,
        value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub subscriptions: Option<u32>,

    /// Publications to each channel while all are away, which clients recover when they come back
    /// (storm with centrifugo) [default: 10]
    #[arg(long, value_name = "N", help_heading = LOAD,
        value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub missed: Option<u32>,

    /// Share of the subscribers that stop reading in the second half (slow) [default: 10%]
    #[arg(long, value_name = "PERCENT", help_heading = LOAD, value_parser = parse_percent)]
    pub slow_share: Option<u32>,

    /// Times that all connections drop (storm) [default: 1]
    #[arg(long, value_name = "N", help_heading = LOAD,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,

    /// Reconnect as well-behaved clients do: after 1 s, doubled to at most 16 s with each attempt
    /// that failed, and up to 3 s at random (storm); failed attempts do not fail the run
    #[arg(long, help_heading = LOAD)]
    pub backoff: bool,

    /// Latency that 99 of 100 messages must keep, from the moment each was due: 500us, 10ms
    /// (capacity)
    #[arg(long, value_name = "TIME", help_heading = LOAD, value_parser = parse_latency)]
    pub p99: Option<Duration>,

    /// The load whose highest rate is to be found (capacity) [default: echo]
    #[arg(long = "workload", id = "load", value_enum, value_name = "LOAD", help_heading = LOAD)]
    pub load: Option<LoadName>,

    /// Searches, each from the ramp to the confirmation; their median is the result (capacity)
    /// [default: 3]
    #[arg(long, value_name = "N", help_heading = RUN,
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub repeat: Option<u32>,

    /// Most rates tried in all (capacity) [default: 100]
    #[arg(long, value_name = "N", help_heading = RUN,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub trials: Option<u32>,

    /// How connections are ended [default: handshake; storm and capacity reset]
    #[arg(long, value_enum, value_name = "HOW", help_heading = LOAD)]
    pub close: Option<Close>,

    /// Let quiet connections wait on a poll instead of a receive, which costs the kernel less
    /// memory and each message more time (broadcast); idle connections always do
    #[arg(long, help_heading = LOAD)]
    pub park: bool,

    /// Never sleep, so that a message leaves at the moment it is due and no echo waits for a core
    /// to wake up: for latencies, on cores that nothing else needs (rate)
    #[arg(long, help_heading = RUN)]
    pub busy_poll: bool,

    /// Time that is measured, of each step where there are several [default: 3s; idle 10s;
    /// capacity 1s for each rate tried, and three times that to confirm one; storm, at most, 30s,
    /// with --backoff 60s]
    #[arg(long, value_name = "TIME", help_heading = RUN, value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// Time before it that does not count [default: 500ms]
    #[arg(long, value_name = "TIME", help_heading = RUN, value_parser = parse_duration)]
    pub warmup: Option<Duration>,

    /// Longest wait for a handshake, an answer, a delivery or a close
    #[arg(long, value_name = "TIME", help_heading = RUN, default_value = "10s",
        value_parser = parse_duration)]
    pub timeout: Duration,

    /// Threads; more are started when the connections need more descriptor tables
    #[arg(long, value_name = "N", help_heading = RUN, default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,

    /// Cores that the threads are pinned to, in turn [default: the last ones]
    #[arg(long, value_name = "CORES", help_heading = RUN, value_delimiter = ',')]
    pub cores: Vec<usize>,

    /// Source addresses, which connections take in turn: 127.0.0.1-127.0.0.9,10.0.0.7 [default:
    /// the kernel's choice, and on loopback as many as the connections need]
    #[arg(long, value_name = "ADDRESSES", help_heading = RUN, value_parser = Sources::parse)]
    pub source: Option<Sources>,

    /// Process of the server on this machine, to sample its processor time and memory
    #[arg(long, value_name = "PID", help_heading = RUN)]
    pub server_pid: Option<u32>,

    /// Certificates, in PEM, of whoever has issued the server's (wss)
    #[arg(long, value_name = "FILE", help_heading = WAY, value_hint = ValueHint::FilePath,
        conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,

    /// Take whichever certificate the server shows (wss)
    #[arg(long, help_heading = WAY)]
    pub insecure: bool,

    /// Name that the server is asked for by SNI and must have a certificate for (wss) [default:
    /// the host of the URL]
    #[arg(long, value_name = "NAME", help_heading = WAY)]
    pub server_name: Option<String>,

    /// The only version of TLS to speak (wss) [default: 1.3, or 1.2 if the server has no other]
    #[arg(long, value_enum, value_name = "VERSION", help_heading = WAY)]
    pub tls_version: Option<TlsVersion>,

    /// Go on with earlier TLS sessions, where the server gives tickets (wss); else each handshake
    /// is a full one
    #[arg(long, help_heading = WAY)]
    pub resume: bool,

    /// Further field of each request, 'Name: value'; may be repeated
    #[arg(long, value_name = "FIELD", help_heading = WAY, value_parser = parse_field)]
    pub header: Vec<String>,

    /// Bearer token of each request (RFC 6750); with centrifugo that of each client's connect
    #[arg(long, value_name = "TOKEN", help_heading = WAY, value_parser = parse_bearer)]
    pub token: Option<String>,

    /// Subprotocol to offer, of which the server has to choose one; may be repeated
    #[arg(long, value_name = "NAME", help_heading = WAY, value_parser = parse_subprotocol)]
    pub subprotocol: Vec<String>,

    /// Proxy to connect through by CONNECT: http://HOST:PORT or http://USER:PASSWORD@HOST:PORT
    #[arg(long, value_name = "URL", help_heading = WAY, value_hint = ValueHint::Url)]
    pub proxy: Option<Proxy>,

    /// Succeed although messages were lost, duplicated or reordered (broadcast, slow)
    #[arg(long, help_heading = RUN)]
    pub allow_loss: bool,

    /// Count answers of the right length without comparing their content, for servers whose
    /// answers mean nothing, such as the bare floor (echo, rate; broadcast with one publisher)
    #[arg(long, help_heading = RUN)]
    pub unchecked: bool,

    /// Succeed although connections failed
    #[arg(long, help_heading = RUN)]
    pub allow_failures: bool,

    /// Write everything as one JSON object, to standard output instead of the table without FILE;
    /// put it last, or write --json=-, so that no other argument is taken for FILE
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, num_args = 0..=1,
        default_missing_value = STANDARD_OUTPUT, value_hint = ValueHint::FilePath,
        value_parser = PathBufValueParser::new().try_map(json_output))]
    pub json: Option<PathBuf>,

    /// Write the latencies of each interval as an HdrHistogram log
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, value_hint = ValueHint::FilePath,
        value_parser = PathBufValueParser::new().try_map(file_output))]
    pub hdr: Option<PathBuf>,

    /// Draw latency percentiles and throughput over time: FILE.svg or FILE.png
    #[arg(long, value_name = "FILE", help_heading = OUTPUT, value_hint = ValueHint::FilePath,
        value_parser = PathBufValueParser::new().try_map(file_output))]
    pub plot: Option<PathBuf>,
}

/// Refuses what is an argument of its own and was taken for the file of the option before it.
fn json_output(path: PathBuf) -> Result<PathBuf, String> {
    let Some(name) = path.to_str() else { return Ok(path) };
    let is_url = name.contains("://") || name.to_ascii_lowercase().starts_with("ws+unix:");
    if !is_url && WorkloadName::from_str(name, true).is_err() {
        return Ok(path);
    }
    let what = if is_url { "a URL" } else { "a workload" };
    Err(format!(
        "this is {what}, not a file: name the file first, or put the option last; --json=- is \
         standard output, ./{name} is a file of this name"
    ))
}

fn file_output(path: PathBuf) -> Result<PathBuf, String> {
    match path.as_os_str() == STANDARD_OUTPUT {
        true => Err("a file: only --json can go to standard output".to_owned()),
        false => json_output(path),
    }
}

const LOAD: &str = "Load";
const WAY: &str = "Way to the server";
const RUN: &str = "Run";
const OUTPUT: &str = "Output";
