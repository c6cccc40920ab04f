//! The effective configuration: every setting resolved, validated and ready to use.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where a listener accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address, IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix stream socket, written `unix:PATH`.
    Unix(PathBuf),
}

/// What an upgrade of `/` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Every message returns to its sender.
    Echo,
    /// Every message goes to all connections of the topic `default`.
    Broadcast,
}

/// Which message types a connection may send; others are closed with 1003 (RFC 6455 section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageTypes {
    /// Text and binary.
    Any,
    /// Text alone.
    Text,
    /// Binary alone.
    Binary,
}

/// What happens to a subscriber whose backlog is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of the whole process; `None` is what the descriptor tables hold.
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
    /// Without a byte from the peer; a ping is sent after half of it. `None` is never.
    pub idle_timeout: Option<Duration>,
    /// From our close frame to the peer's, and from our FIN to the peer's.
    pub close_timeout: Duration,
    /// From the upgrade; `None` is unbounded.
    pub lifetime: Option<Duration>,
    /// Bytes queued for one connection that the kernel has not taken yet.
    pub backlog_bytes: usize,
}

/// How a shard uses its io_uring.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Event loops, one thread each.
    pub shards: usize,
    /// Whether shard threads are pinned to cores, round robin.
    pub pin: bool,
    /// Receive buffers of a shard, a power of two up to 32,768.
    pub receive_buffers: u16,
    /// Bytes of one receive buffer.
    pub receive_buffer_bytes: u32,
    /// Without traffic for this long, a connection waits on a one-shot poll; `None` is never.
    pub park_after: Option<Duration>,
    /// Slots of a shard's broadcast ring, a power of two.
    pub broadcast_ring_slots: usize,
    /// Optional kernel abilities not to use even when present, by name as the start line prints them.
    pub disabled_abilities: Vec<String>,
}

/// Everything `ringwire serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listeners, at least one.
    pub listen: Vec<ListenAddress>,
    /// What `/` means to an upgrade.
    pub root: Root,
    /// Allowed origins: exact (`https://example.org`) or `*.example.org`; empty allows all.
    pub allow_origin: Vec<String>,
    /// Subprotocols spoken.
    pub subprotocols: Vec<String>,
    /// Message types accepted.
    pub message_types: MessageTypes,
    /// Policy for slow consumers.
    pub slow_consumer: SlowConsumer,
    /// Bounds on peers.
    pub limits: Limits,
    /// The event loops.
    pub engine: Engine,
    /// Window over which a stop closes the connections.
    pub drain: Duration,
}
