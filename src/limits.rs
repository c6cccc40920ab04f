//! Defaults of all bounded settings and the values they may take, in one place, with the relations
//! between them that the rest of the program relies on checked by the compiler.

use std::time::Duration;

/// The values a setting may take, both ends included, and the one it has when nobody sets it.
#[derive(Clone, Copy, Debug)]
pub struct Bound<T, D = T> {
    /// The value when nobody sets one.
    pub default: D,
    /// The least allowed value.
    pub least: T,
    /// The greatest allowed value.
    pub most: T,
}

/// Event loops; the default stands in where the number of available cores cannot be read.
pub const SHARDS: Bound<usize> = Bound { default: 1, least: 1, most: 1024 };

/// Receive buffers of a shard, a power of two (`IORING_REGISTER_PBUF_RING` takes up to 32,768).
///
/// The kernel fills them in turn, so all of them together should fit the second-level cache beside
/// everything else: with 32 of 64 KiB, which fill one of 2 MiB, bursts of small messages cost 7 %
/// more.
pub const RECEIVE_BUFFERS: Bound<u16> = Bound { default: 8, least: 1, most: 1 << 15 };

/// Bytes of one receive buffer, a power of two.
pub const RECEIVE_BUFFER_BYTES: Bound<u32> =
    Bound { default: 64 * KIB as u32, least: 4 * KIB as u32, most: 16 * MIB as u32 };

/// Bytes that all receive buffers of one shard may take together.
pub const RECEIVE_MEMORY_BYTES_MOST: u64 = 4 * GIB;

/// Slots of a shard's broadcast ring, a power of two.
pub const BROADCAST_RING_SLOTS: Bound<usize> = Bound { default: 1024, least: 2, most: 1 << 20 };

/// Quiet time after which a connection is parked.
pub const PARK_AFTER: Bound<Duration, Option<Duration>> =
    Bound { default: Some(seconds(5)), least: milliseconds(10), most: days(1) };

/// Microseconds that a shard gathers completions before it acts on them.
pub const BATCH_WAIT_US: Bound<u32, Option<u32>> =
    Bound { default: None, least: 10, most: 100_000 };

/// Open WebSockets and streams of the whole process.
pub const CONNECTIONS: Bound<usize, Option<usize>> =
    Bound { default: None, least: 1, most: 100_000_000 };

/// Silence after which a connection is closed when there is too much to do.
pub const SHED_IDLE: Bound<Duration, Option<Duration>> =
    Bound { default: None, least: seconds(1), most: days(1) };

/// Open connections of one address, which are counted in 16 bits.
pub const CONNECTIONS_PER_ADDRESS: Bound<u16, Option<u16>> =
    Bound { default: None, least: 1, most: u16::MAX };

/// Open WebSockets and streams of one user.
pub const CONNECTIONS_PER_USER: Bound<u16, Option<u16>> =
    Bound { default: None, least: 1, most: u16::MAX };

/// Connections that begin in one second.
pub const CONNECTION_RATE: Bound<u32, Option<u32>> =
    Bound { default: None, least: 1, most: 1_000_000 };

/// The same of one address.
pub const CONNECTION_RATE_PER_ADDRESS: Bound<u32, Option<u32>> =
    Bound { default: None, least: 1, most: 10_000 };

/// Bits of an IPv6 address that tell one client from another: a customer of a provider has 64 bits
/// to choose addresses from, or more (RFC 6177 section 2).
pub const LIMIT_IPV6_PREFIX: Bound<u8> = Bound { default: 64, least: 32, most: 128 };

/// Bytes of a request head.
pub const REQUEST_HEAD_BYTES: Bound<usize> =
    Bound { default: 8 * KIB as usize, least: 256, most: MIB as usize };

/// Header fields of a request head.
pub const REQUEST_HEADERS: Bound<usize> = Bound { default: 64, least: 8, most: 1024 };

/// Payload bytes of a message.
pub const MESSAGE_BYTES: Bound<u32> =
    Bound { default: 16 * MIB as u32, least: 1, most: GIB as u32 };

/// Frames of a message.
pub const MESSAGE_FRAGMENTS: Bound<u32> = Bound { default: 131_072, least: 1, most: 1 << 30 };

/// How hard messages are compressed: 0 stores them, 9 makes them smallest.
pub const COMPRESSION_LEVEL: Bound<u8> = Bound { default: 2, least: 0, most: 9 };

/// How far back compressed messages refer, in bits; zlib has no smaller window for raw streams.
pub const COMPRESSION_WINDOW_BITS: Bound<u8> = Bound { default: 15, least: 9, most: 15 };

/// Payload bytes below which a message is sent plain.
pub const COMPRESSION_THRESHOLD_BYTES: Bound<usize> =
    Bound { default: 128, least: 0, most: GIB as usize };

/// Control frames in one second.
pub const CONTROL_FRAMES_PER_SECOND: Bound<u32> = Bound { default: 1000, least: 1, most: 60_000 };

/// Members of a topic, which are counted in 16 bits.
pub const TOPIC_MEMBERS: Bound<u16, Option<u16>> =
    Bound { default: None, least: 1, most: u16::MAX };

/// Topics of the whole process that have members.
pub const TOPICS: Bound<usize, Option<usize>> =
    Bound { default: None, least: 1, most: 100_000_000 };

/// Messages that are published to one topic in one second, which are counted in 24 bits.
pub const TOPIC_RATE: Bound<u32, Option<u32>> = Bound { default: None, least: 1, most: 10_000 };

/// Data messages of a connection in one second.
pub const MESSAGE_RATE: Bound<u32, Option<u32>> =
    Bound { default: None, least: 1, most: 10_000_000 };

/// Bytes of a connection in one second. What has been received is taken, so with less the bytes of
/// one receive buffer would hold it up for minutes.
pub const BYTE_RATE: Bound<u64, Option<u64>> = Bound { default: None, least: KIB, most: 4 * GIB };

/// From accept to the complete request head.
pub const HANDSHAKE_TIMEOUT: Bound<Duration> =
    Bound { default: seconds(10), least: milliseconds(100), most: hours(1) };

/// From a question to whoever knows who somebody is to the answer.
pub const AUTH_TIMEOUT: Bound<Duration> =
    Bound { default: seconds(3), least: milliseconds(10), most: seconds(60) };

/// Connections to whoever is asked that.
pub const AUTH_CONNECTIONS: Bound<usize> = Bound { default: 32, least: 1, most: 1024 };

/// From a question about a client of channels to the answer.
pub const HOOK_TIMEOUT: Bound<Duration> =
    Bound { default: seconds(1), least: milliseconds(10), most: seconds(60) };

/// Connections to whoever is asked that.
pub const HOOK_CONNECTIONS: Bound<usize> = Bound { default: 64, least: 1, most: 1024 };

/// Time without a byte from the peer.
pub const IDLE_TIMEOUT: Bound<Duration, Option<Duration>> =
    Bound { default: Some(seconds(120)), least: milliseconds(100), most: days(7) };

/// From our close frame to the peer's.
pub const CLOSE_TIMEOUT: Bound<Duration> =
    Bound { default: seconds(5), least: milliseconds(100), most: hours(1) };

/// From the upgrade to the close.
pub const LIFETIME: Bound<Duration, Option<Duration>> =
    Bound { default: None, least: milliseconds(100), most: days(365) };

/// Silence in either direction after which a ping goes out.
pub const PING_INTERVAL: Bound<Duration, Option<Duration>> =
    Bound { default: Some(seconds(45)), least: milliseconds(200), most: days(1) };

/// Without a data message in either direction.
pub const MESSAGE_IDLE_TIMEOUT: Bound<Duration, Option<Duration>> =
    Bound { default: None, least: milliseconds(200), most: days(365) };

/// From the first byte of a message to its last.
pub const MESSAGE_TIMEOUT: Bound<Duration, Option<Duration>> =
    Bound { default: Some(seconds(300)), least: seconds(1), most: hours(12) };

/// Topics that one connection may have joined at the same time.
pub const SUBSCRIPTIONS_MOST: usize = 256;

/// Bytes queued for one connection.
pub const BACKLOG_BYTES: Bound<usize> =
    Bound { default: MIB as usize, least: 4 * KIB as usize, most: 4 * GIB as usize };

/// Resident bytes of the process.
pub const MEMORY_BYTES: Bound<u64, Option<u64>> =
    Bound { default: None, least: 16 * MIB, most: 16 * 1024 * GIB };

/// Bytes received and sent that somebody pays for.
pub const TRAFFIC_BUDGET_BYTES: Bound<u64, Option<u64>> =
    Bound { default: None, least: 1, most: 1 << 60 };

/// Publications that are kept of a channel.
pub const HISTORY_SIZE: Bound<u32> = Bound { default: 0, least: 0, most: 1_000_000 };

/// For how long they are kept behind the newest of them.
pub const HISTORY_TTL: Bound<Duration> =
    Bound { default: Duration::ZERO, least: Duration::ZERO, most: days(365) };

/// For how long it is known behind the last use of a channel how far its offsets have come.
pub const HISTORY_META_TTL: Bound<Duration> =
    Bound { default: days(30), least: seconds(1), most: days(2 * 365) };

/// Bytes of the histories of all channels together.
pub const HISTORY_MEMORY_BYTES: Bound<u64> =
    Bound { default: 256 * MIB, least: MIB, most: 1024 * GIB };

/// Publications of one answer, about what was missed or about the history.
pub const ANSWERED_PUBLICATIONS: Bound<u32> = Bound { default: 300, least: 1, most: 100_000 };

/// Channels that one connection may have subscribed to at the same time.
pub const CLIENT_CHANNELS: Bound<u16> =
    Bound { default: 128, least: 1, most: (SUBSCRIPTIONS_MOST / TOPICS_OF_CHANNEL) as u16 };

/// Topics by which a subscriber gets what there is in a channel: publications, and who comes and
/// goes.
pub const TOPICS_OF_CHANNEL: usize = 2;

/// Bytes of the name of a channel.
pub const CHANNEL_BYTES: Bound<u16> =
    Bound { default: 255, least: 1, most: TOPIC_BYTES_MOST as u16 };

/// Time from one ping of the protocol of channels to the next, which clients are told in seconds.
pub const CLIENT_PING_INTERVAL: Bound<Duration> =
    Bound { default: seconds(25), least: seconds(1), most: hours(1) };

/// Time for the answer to such a ping.
pub const CLIENT_PONG_TIMEOUT: Bound<Duration> =
    Bound { default: seconds(8), least: milliseconds(100), most: hours(1) };

/// Time for the first command of a client of channels.
pub const CLIENT_STALE_CLOSE_DELAY: Bound<Duration> =
    Bound { default: seconds(10), least: milliseconds(100), most: hours(1) };

/// Time for a new token when one of a client, or of its subscription, has expired.
pub const CLIENT_EXPIRED_CLOSE_DELAY: Bound<Duration> =
    Bound { default: seconds(25), least: Duration::ZERO, most: days(1) };

/// Bytes of frames of SockJS behind which a response that goes on ends: scripts cut the text of a
/// response anew for each of its parts.
pub const SOCKJS_RESPONSE_BYTES: Bound<usize> =
    Bound { default: 128 * KIB as usize, least: 1, most: GIB as usize };

/// Time after which a response of SockJS is told that its session is there.
pub const SOCKJS_HEARTBEAT: Bound<Duration> =
    Bound { default: seconds(25), least: milliseconds(100), most: hours(1) };

/// Time for which a session of SockJS waits for its client.
pub const SOCKJS_DISCONNECT_DELAY: Bound<Duration> =
    Bound { default: seconds(5), least: milliseconds(100), most: hours(1) };

/// Codes with which an application closes a WebSocket (RFC 6455 section 7.4.2).
pub const CLOSE_CODE: Bound<u16> = Bound { default: 3000, least: 3000, most: 4999 };

/// Labels that all metrics of a server may carry.
pub const LABELS_MOST: usize = 16;

/// For how long browsers are to come by TLS alone (RFC 6797); a year and more is what lists of
/// sites that are never asked otherwise demand.
pub const STRICT_TRANSPORT: Bound<Duration, Option<Duration>> =
    Bound { default: None, least: seconds(1), most: hours(2 * 365 * 24) };

/// Window over which a stop closes the connections.
pub const DRAIN: Bound<Duration> =
    Bound { default: seconds(10), least: Duration::ZERO, most: hours(1) };

/// Connections that may wait to be accepted on a listener.
pub const LISTEN_BACKLOG: Bound<u16> = Bound { default: 65_535, least: 1, most: 65_535 };

/// Bytes of a topic.
pub const TOPIC_BYTES_MOST: usize = 255;

/// Longest path of a Unix socket: `sun_path` holds 108 bytes with the terminator, see unix(7).
pub const UNIX_PATH_BYTES_MOST: usize = 107;

/// Longest name of a socket of the service manager: `FDNAME_MAX` of systemd, sd_listen_fds(3).
pub const DESCRIPTOR_NAME_BYTES_MOST: usize = 255;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn hours(count: u64) -> Duration {
    seconds(count * 3600)
}

const fn days(count: u64) -> Duration {
    hours(count * 24)
}

macro_rules! assert_ordered {
    ($($bound:ident),+ $(,)?) => {
        $(const _: () = assert!(
            $bound.least <= $bound.default && $bound.default <= $bound.most,
            concat!(stringify!($bound), ": the default is out of its range"),
        );)+
    };
}

assert_ordered!(
    SHARDS,
    LISTEN_BACKLOG,
    RECEIVE_BUFFERS,
    RECEIVE_BUFFER_BYTES,
    BROADCAST_RING_SLOTS,
    REQUEST_HEAD_BYTES,
    REQUEST_HEADERS,
    MESSAGE_BYTES,
    MESSAGE_FRAGMENTS,
    COMPRESSION_LEVEL,
    COMPRESSION_WINDOW_BITS,
    COMPRESSION_THRESHOLD_BYTES,
    CONTROL_FRAMES_PER_SECOND,
    LIMIT_IPV6_PREFIX,
    BACKLOG_BYTES,
    AUTH_CONNECTIONS,
    HOOK_CONNECTIONS,
    HISTORY_SIZE,
    HISTORY_MEMORY_BYTES,
    ANSWERED_PUBLICATIONS,
    CLIENT_CHANNELS,
    CHANNEL_BYTES,
    SOCKJS_RESPONSE_BYTES,
    CLOSE_CODE,
);

macro_rules! assert_powers_of_two {
    ($($bound:ident),+ $(,)?) => {
        $(const _: () = assert!(
            $bound.least.is_power_of_two()
                && $bound.default.is_power_of_two()
                && $bound.most.is_power_of_two(),
            concat!(stringify!($bound), ": not a power of two"),
        );)+
    };
}

assert_powers_of_two!(RECEIVE_BUFFERS, RECEIVE_BUFFER_BYTES, BROADCAST_RING_SLOTS);

// The answer to one full receive buffer fits the backlog.
const _: () = assert!(RECEIVE_BUFFER_BYTES.default as usize <= BACKLOG_BYTES.default);
const _: () = assert!(
    RECEIVE_BUFFERS.default as u64 * RECEIVE_BUFFER_BYTES.default as u64
        <= RECEIVE_MEMORY_BYTES_MOST
);
// The shortest request head that opens a WebSocket has about 150 bytes and five header fields.
const _: () = assert!(REQUEST_HEAD_BYTES.least >= 256 && REQUEST_HEADERS.least >= 5);
// Both are counted in 16 bits for channels.
const _: () = assert!(SUBSCRIPTIONS_MOST <= u16::MAX as usize);
const _: () = assert!(TOPIC_BYTES_MOST <= u16::MAX as usize);
// A message and its frame header are counted in 32 bits.
const _: () = assert!(MESSAGE_BYTES.most <= u32::MAX - 14);
