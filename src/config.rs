//! The effective configuration: every setting resolved, validated and ready to use.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error;

use crate::limits;

mod admin;
mod authority;
mod broadcast;
mod host;
mod origin;
mod subprotocol;

pub use admin::Admin;
pub use authority::Authority;
pub use broadcast::BroadcastAccess;
pub use host::{HostPattern, HostPatternError};
pub use origin::{Origin, OriginPattern, OriginPatternError};
pub use subprotocol::{Subprotocol, SubprotocolError};

/// Where a listener accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address, IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix stream socket, written `unix:PATH`.
    Unix(PathBuf),
}

/// What an upgrade of `/` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Root {
    /// Every message returns to its sender.
    Echo,
    /// Every message goes to all connections of the topic `default`.
    Broadcast,
}

/// Which message types a connection may send; others are closed with 1003 (RFC 6455 section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MessageTypes {
    /// Text and binary.
    Any,
    /// Text alone.
    Text,
    /// Binary alone.
    Binary,
}

/// How messages are compressed (RFC 7692) for peers that offer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompressionMode {
    /// Not at all: offers are ignored.
    Off,
    /// Each message by itself, with one compressor for all connections of a shard.
    Shared,
    /// With reference to earlier messages, and memory for each connection that does so.
    Dedicated,
}

/// How messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Whether, and whether messages may refer to earlier ones.
    pub mode: CompressionMode,
    /// 0 (stored) to 9 (smallest).
    pub level: u8,
    /// The largest window of the server, in bits of its size: 9 to 15.
    pub window_bits: u8,
    /// Payload bytes below which a message is sent plain.
    pub threshold_bytes: usize,
}

/// What happens to a subscriber whose backlog is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SlowConsumer {
    /// Close with 1013 and a reason.
    Disconnect,
    /// Keep the backlog, drop the arriving message.
    DropNewest,
    /// Drop the oldest queued messages to make room.
    DropOldest,
    /// Drop the whole queue and keep the arriving message alone.
    Latest,
}

/// Bounds on what one peer may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open WebSockets of the whole process; `None` is what the descriptor tables hold.
    pub connections: Option<usize>,
    /// Bytes of a request head, request line included.
    pub request_head_bytes: usize,
    /// Header fields of a request head.
    pub request_headers: usize,
    /// Payload bytes of a message, over all its fragments.
    pub message_bytes: u32,
    /// Frames of a message.
    pub message_fragments: u32,
    /// Ping, pong and close frames in one second.
    pub control_frames_per_second: u32,
    /// From accept to the complete request head.
    pub handshake_timeout: Duration,
    /// Without a byte from the peer. `None` is never.
    pub idle_timeout: Option<Duration>,
    /// Silence of the peer, or towards it, after which a ping is sent; half of the idle timeout at
    /// the most. `None` leaves it at that half.
    pub ping_interval: Option<Duration>,
    /// Without a data message in either direction. `None` is never.
    pub message_idle_timeout: Option<Duration>,
    /// From the beginning of a message that arrives in pieces to its end. `None` is unbounded.
    pub message_timeout: Option<Duration>,
    /// From our close frame to the peer's, and from our FIN to the peer's; it begins anew whenever
    /// the peer reads some of what is left for it.
    pub close_timeout: Duration,
    /// From the upgrade; `None` is unbounded.
    pub lifetime: Option<Duration>,
    /// Memory that may wait for one connection that does not read. What was published to it less
    /// than 100 ms ago does not count: nobody reads a burst faster than that.
    pub backlog_bytes: usize,
    /// Resident bytes of the process, short of which it refuses and sheds; `None` leaves that to
    /// the limits of its control groups.
    pub memory_bytes: Option<u64>,
}

/// How a shard uses its io_uring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Event loops, one thread each.
    pub shards: usize,
    /// Whether shard threads are pinned to cores, round robin.
    pub pin: bool,
    /// Whether the soft `RLIMIT_NOFILE` is raised to the hard one at the start.
    pub raise_nofile: bool,
    /// Receive buffers of a shard, a power of two up to 32,768.
    pub receive_buffers: u16,
    /// Bytes of one receive buffer.
    pub receive_buffer_bytes: u32,
    /// Without traffic for this long, a connection waits on a one-shot poll; `None` is never.
    pub park_after: Option<Duration>,
    /// Microseconds for which completions are gathered before a shard wakes for them, which saves
    /// CPU time at the price of that much latency; `None` wakes it for each.
    pub batch_wait_us: Option<u32>,
    /// Slots of a shard's broadcast ring, a power of two.
    pub broadcast_ring_slots: usize,
    /// Optional kernel abilities not to use even when present, by the names that
    /// [`limits::DISABLEABLE_ABILITIES`] lists and the start line prints.
    pub disabled_abilities: Vec<String>,
}

/// The least severe log lines that are written; see RFC 5424 section 6.2.1 for the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What ends the program.
    Error,
    /// Also what an operator should look at.
    Warn,
    /// Also start, stop and drain.
    Info,
    /// Also what helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Human,
    /// One JSON object per line.
    Json,
}

/// What is logged to standard error, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logs {
    /// Lines less severe than this are not written.
    pub level: LogLevel,
    /// How a line is written.
    pub format: LogFormat,
}

/// Everything `ringwire serve` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Listeners, at least one.
    pub listen: Vec<ListenAddress>,
    /// Where the process tells of itself and is told to stop.
    pub admin: Admin,
    /// What `/` means to an upgrade.
    pub root: Root,
    /// Who may use the topics of `/broadcast/{topic}`.
    pub broadcast_access: BroadcastAccess,
    /// Hosts answered for: exact, with or without a port, or `*.example.org`; empty is all.
    pub allow_host: Vec<HostPattern>,
    /// Allowed origins: exact (`https://example.org`) or `*.example.org`; empty allows all.
    pub allow_origin: Vec<OriginPattern>,
    /// Subprotocols spoken.
    pub subprotocols: Vec<Subprotocol>,
    /// Whether an upgrade must offer one of them.
    pub subprotocol_required: bool,
    /// Message types accepted.
    pub message_types: MessageTypes,
    /// Compression.
    pub compression: Compression,
    /// Policy for slow consumers.
    pub slow_consumer: SlowConsumer,
    /// Bounds on peers.
    pub limits: Limits,
    /// The event loops.
    pub engine: Engine,
    /// Window over which a stop closes the connections.
    pub drain: Duration,
    /// The log.
    pub logs: Logs,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS.default,
            request_head_bytes: limits::REQUEST_HEAD_BYTES.default,
            request_headers: limits::REQUEST_HEADERS.default,
            message_bytes: limits::MESSAGE_BYTES.default,
            message_fragments: limits::MESSAGE_FRAGMENTS.default,
            control_frames_per_second: limits::CONTROL_FRAMES_PER_SECOND.default,
            handshake_timeout: limits::HANDSHAKE_TIMEOUT.default,
            idle_timeout: limits::IDLE_TIMEOUT.default,
            ping_interval: limits::PING_INTERVAL.default,
            message_idle_timeout: limits::MESSAGE_IDLE_TIMEOUT.default,
            message_timeout: limits::MESSAGE_TIMEOUT.default,
            close_timeout: limits::CLOSE_TIMEOUT.default,
            lifetime: limits::LIFETIME.default,
            backlog_bytes: limits::BACKLOG_BYTES.default,
            memory_bytes: limits::MEMORY_BYTES.default,
        }
    }
}

impl Default for Compression {
    /// Off: an echo in place costs some 30 ns a message, compression a thousand times that.
    fn default() -> Self {
        Self {
            mode: CompressionMode::Off,
            level: limits::COMPRESSION_LEVEL.default,
            window_bits: limits::COMPRESSION_WINDOW_BITS.default,
            threshold_bytes: limits::COMPRESSION_THRESHOLD_BYTES.default,
        }
    }
}

impl Default for Engine {
    /// One shard for each core this process may run on.
    fn default() -> Self {
        Self {
            shards: available_cores().clamp(limits::SHARDS.least, limits::SHARDS.most),
            pin: true,
            raise_nofile: true,
            receive_buffers: limits::RECEIVE_BUFFERS.default,
            receive_buffer_bytes: limits::RECEIVE_BUFFER_BYTES.default,
            park_after: limits::PARK_AFTER.default,
            batch_wait_us: limits::BATCH_WAIT_US.default,
            broadcast_ring_slots: limits::BROADCAST_RING_SLOTS.default,
            disabled_abilities: Vec::new(),
        }
    }
}

impl Default for Config {
    /// What `ringwire` runs with when nothing is set.
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 7071)))],
            admin: Admin::default(),
            root: Root::Echo,
            broadcast_access: BroadcastAccess::Full,
            allow_host: Vec::new(),
            allow_origin: Vec::new(),
            subprotocols: Vec::new(),
            subprotocol_required: false,
            message_types: MessageTypes::Any,
            compression: Compression::default(),
            slow_consumer: SlowConsumer::Disconnect,
            limits: Limits::default(),
            engine: Engine::default(),
            drain: limits::DRAIN.default,
            logs: Logs { level: LogLevel::Info, format: LogFormat::Human },
        }
    }
}

/// A text that is no listen address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("neither IP:PORT nor unix:PATH")]
pub struct ListenAddressError;

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    /// Reads `IP:PORT`, `[IPv6]:PORT` or `unix:PATH`. Names are refused: what they resolve to may
    /// change between two starts.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if is_socket_path(path) => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(ListenAddressError),
            None => text.parse().map(Self::Tcp).map_err(|_| ListenAddressError),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

fn is_socket_path(path: &str) -> bool {
    !path.is_empty() && path.len() <= limits::UNIX_PATH_BYTES_MOST && !path.contains('\0')
}

fn available_cores() -> usize {
    thread::available_parallelism().map_or(limits::SHARDS.default, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_were_written() {
        for text in ["127.0.0.1:7071", "[::1]:7071", "0.0.0.0:0", "unix:/run/ringwire.sock"] {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn names_and_half_addresses_are_refused() {
        let long = format!("unix:/{}", "x".repeat(limits::UNIX_PATH_BYTES_MOST));
        for text in ["localhost:7071", "127.0.0.1", "::1:7071", ":7071", "unix:", "", &long] {
            assert_eq!(text.parse::<ListenAddress>(), Err(ListenAddressError), "{text}");
        }
    }
}
