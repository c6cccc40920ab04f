//! Bounds on what one peer may cost.

use std::time::Duration;

use clap::ValueEnum;

use super::form::{boolean, choice, count, duration, size};
use super::setting::{one, settings};
use crate::limits;

/// What becomes of a connection that exceeds a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnRate {
    /// It is not read from until it may go on.
    Pause,
    /// It is closed with 1008.
    Close,
}

settings! {
    /// Bounds on what one peer may cost.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Limits at (|config| &mut config.limits) {
        under Limits {
            /// Open WebSockets and streams of the whole process; `None` is what the descriptor
            /// tables hold.
            pub connections: Option<usize> = limits::CONNECTIONS.default,
                as one(count(&limits::CONNECTIONS).or_off()),
                named "max-connections" "COUNT",
                help "Open WebSockets and streams of the whole process; more are answered 503",
                live;

            /// Bytes of a request head, request line included.
            pub request_head_bytes: usize = limits::REQUEST_HEAD_BYTES.default,
                as one(size(&limits::REQUEST_HEAD_BYTES)),
                named "max-request-head" "SIZE",
                help "Size of a request line with its headers; longer ones are answered 414 or 431",
                live;

            /// Header fields of a request head.
            pub request_headers: usize = limits::REQUEST_HEADERS.default,
                as one(count(&limits::REQUEST_HEADERS)),
                named "max-request-headers" "COUNT",
                help "Header fields of a request; more are answered 431",
                live;

            /// Payload bytes of a message, over all its fragments.
            pub message_bytes: u32 = limits::MESSAGE_BYTES.default,
                as one(size(&limits::MESSAGE_BYTES)),
                named "max-message" "SIZE",
                help "Payload of a message over all its fragments; longer ones close with 1009",
                live;

            /// Frames of a message.
            pub message_fragments: u32 = limits::MESSAGE_FRAGMENTS.default,
                as one(count(&limits::MESSAGE_FRAGMENTS)),
                named "max-fragments" "COUNT",
                help "Fragments of a message; more close with 1008",
                live;

            /// Ping, pong and close frames in one second.
            pub control_frames_per_second: u32 = limits::CONTROL_FRAMES_PER_SECOND.default,
                as one(count(&limits::CONTROL_FRAMES_PER_SECOND)),
                named "max-control-rate" "COUNT",
                help "Control frames of a connection per second; more close with 1008",
                live;

            /// Data messages of a connection in one second. `None` is unbounded.
            pub message_rate: Option<u32> = limits::MESSAGE_RATE.default,
                as one(count(&limits::MESSAGE_RATE).or_off()),
                named "message-rate" "COUNT",
                help "Data messages of a connection per second; a second's worth may come at once",
                live;

            /// Bytes of a WebSocket in one second, headers of frames included. `None` is unbounded.
            pub byte_rate: Option<u64> = limits::BYTE_RATE.default,
                as one(size(&limits::BYTE_RATE).or_off()),
                named "byte-rate" "SIZE",
                help "Bytes received from a connection per second; a second's worth may come at \
                      once",
                live;

            /// What becomes of whoever sends more.
            pub on_rate: OnRate = OnRate::Pause,
                as one(choice()),
                named "on-rate" "ACTION",
                help "What becomes of a connection that exceeds a rate: it is not read from until \
                      it may go on, or closed with 1008",
                live;

            /// Members of one topic on all shards. `None` is unbounded.
            pub topic_members: Option<u16> = limits::TOPIC_MEMBERS.default,
                as one(count(&limits::TOPIC_MEMBERS).or_off()),
                named "max-topic-members" "COUNT",
                help "WebSockets and streams that belong to one topic; more are answered 503",
                live;

            /// Messages published to one topic in one second, on all shards. `None` is unbounded.
            pub topic_rate: Option<u32> = limits::TOPIC_RATE.default,
                as one(count(&limits::TOPIC_RATE).or_off()),
                named "topic-rate" "COUNT",
                help "Messages published to one topic per second; WebSockets wait, requests are \
                      answered 429",
                live;

            /// Topics of the whole process that have members. `None` is unbounded.
            pub topics: Option<usize> = limits::TOPICS.default,
                as one(count(&limits::TOPICS).or_off()),
                named "max-topics" "COUNT",
                help "Topics that have members; whoever would begin one more is answered 503",
                live;

            /// Resident bytes of the process, short of which it refuses and sheds; `None` leaves
            /// that to the limits of its control groups.
            pub memory_bytes: Option<u64> = limits::MEMORY_BYTES.default,
                as one(size(&limits::MEMORY_BYTES).or_off()),
                named "max-memory" "SIZE",
                help "Resident memory: refuse with 503 from 85 % on, shed with 1013 from 95 % on",
                live;

            /// Whether requests wait, upgrades are refused and accepting pauses while there is too
            /// much to do.
            pub shed: bool = true,
                as one(boolean()),
                named "shed" "BOOLEAN",
                help "Put off handshakes, refuse upgrades with 503 and stop to accept, in this \
                      order, while what arrives waits for more than 5 ms",
                live;

            /// Without a data message in either direction, for which a WebSocket is closed when
            /// there is too much to do. `None` is never.
            pub shed_idle: Option<Duration> = limits::SHED_IDLE.default,
                as one(duration(&limits::SHED_IDLE).or_off()),
                named "shed-idle" "TIME",
                help "When even that does not help, close WebSockets without a message for this \
                      long with 1013",
                live;

            /// From accept to the complete request head.
            pub handshake_timeout: Duration = limits::HANDSHAKE_TIMEOUT.default,
                as one(duration(&limits::HANDSHAKE_TIMEOUT)),
                named "handshake-timeout" "TIME",
                help "From accept to the complete request; later ones are answered 408",
                live;

            /// Without a byte from the peer or, of a stream, without one that it takes. `None` is
            /// never.
            pub idle_timeout: Option<Duration> = limits::IDLE_TIMEOUT.default,
                as one(duration(&limits::IDLE_TIMEOUT).or_off()),
                named "idle-timeout" "TIME",
                help "Close when the peer is silent for this long; it has been pinged before",
                live;

            /// From our close frame to the peer's, and from our FIN to the peer's; it begins anew
            /// whenever the peer reads some of what is left for it.
            pub close_timeout: Duration = limits::CLOSE_TIMEOUT.default,
                as one(duration(&limits::CLOSE_TIMEOUT)),
                named "close-timeout" "TIME",
                help "Wait this long, from when it was last seen to read, for the peer's half of \
                      a close",
                live;

            /// Silence of the peer, or towards it, after which a ping is sent; half of the idle
            /// timeout at the most. `None` leaves it at that half.
            pub ping_interval: Option<Duration> = limits::PING_INTERVAL.default,
                as one(duration(&limits::PING_INTERVAL).or_off()),
                named "ping-interval" "TIME",
                help "Ping after this long without a byte in one of the directions (at most half \
                      of --idle-timeout)",
                live;

            /// Without a data message in either direction. `None` is never.
            pub message_idle_timeout: Option<Duration> = limits::MESSAGE_IDLE_TIMEOUT.default,
                as one(duration(&limits::MESSAGE_IDLE_TIMEOUT).or_off()),
                named "message-idle-timeout" "TIME",
                help "Close a connection after this long without a data message in either \
                      direction",
                live;

            /// From the beginning of a message that arrives in pieces to its end. `None` is
            /// unbounded.
            pub message_timeout: Option<Duration> = limits::MESSAGE_TIMEOUT.default,
                as one(duration(&limits::MESSAGE_TIMEOUT).or_off()),
                named "message-timeout" "TIME",
                help "Time from the beginning of a message to its end, if that does not come at \
                      once; later closes with 1008",
                live;

            /// From the upgrade; `None` is unbounded.
            pub lifetime: Option<Duration> = limits::LIFETIME.default,
                as one(duration(&limits::LIFETIME).or_off()),
                named "lifetime" "TIME",
                help "Close a connection this long after it opened",
                live;
        }
        under SlowConsumers {
            /// Memory that may wait for one connection that does not read. What was published to
            /// it less than 100 ms ago does not count: nobody reads a burst faster than that.
            pub backlog_bytes: usize = limits::BACKLOG_BYTES.default,
                as one(size(&limits::BACKLOG_BYTES)),
                named "max-backlog" "SIZE",
                help "Bytes queued for a connection that does not read",
                live;
        }
    }
}
