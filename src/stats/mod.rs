//! Counters: each shard writes its own, whoever asks sums them up.
//!
//! A counter has a single writer, so counting is a plain load and store; readers may see a shard in
//! the middle of a tick, but never a torn number. Each is declared in one line, from which its
//! field, its key in `/stats` and its name in `/metrics` are made.

pub mod close_records;
mod counter;
pub mod family;
pub mod heavy_hitters;
pub mod histogram;
pub mod peak;
mod refused;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::config::SlowConsumer;
use crate::http::{Refusal, Route};
use crate::websocket::Initiator;
use crate::wire::close::CloseCode;
use close_records::CloseRecords;
pub use counter::Counter;
use family::{Counted, Kind};
pub use histogram::Histogram;
use peak::Peak;
use refused::Refused;

/// A time in seconds with three digits behind the point, as JSON tells it.
pub fn in_seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

/// How a counter is told of.
struct Row {
    /// Its key in `/stats`.
    key: &'static str,
    kind: Kind,
    /// Its family in `/metrics`, without prefix, unit and suffix. Rows of one family stand
    /// together and differ by their labels.
    family: &'static str,
    counted: Option<Counted>,
    labels: &'static [(&'static str, &'static str)],
    /// Whether each shard is told of, because they may differ.
    is_by_shard: bool,
    /// What it means; the first row of a family speaks for all.
    help: &'static str,
}

/// Declares the counters of a shard: what it means, then
/// `key: Kind "family" [in Unit] [{"label" = "value", ...}] [by shard]`.
macro_rules! shard_stats {
    ($(
        $(#[doc = $help:literal])+
        $name:ident: $kind:ident $family:literal
            $(in $unit:ident)? $({$($label:literal = $value:literal),+})? $(by $shard:ident)?,
    )*) => {
        /// The counters of one shard.
        #[derive(Debug, Default)]
        pub struct ShardStats {
            $($(#[doc = $help])+ pub $name: Counter,)*
            refused: Refused,
            dropped: [Counter; POLICIES.len()],
            closes: [[Counter; CLOSE_CODES.len() + 1]; Initiator::ALL.len()],
            /// How long ticks took, in powers of two from a microsecond on.
            pub tick_duration: Histogram<0>,
            /// From the tick that read a message from its publisher to the end of the one that
            /// gave it to the kernel for the last subscriber of this shard, at most one a tick:
            /// that which waited longest; in powers of two from 16 us on.
            pub delivery_duration: Histogram<4>,
            /// From a ping to its pong, in powers of two from 64 us on.
            pub ping_round_trip: Histogram<6>,
            /// From the upgrade to the end, in powers of two from 1.05 s on.
            pub websocket_duration: Histogram<20>,
            /// The most connections that held a slot.
            pub connections_peak: Peak,
            /// The most bytes that waited for all peers together.
            pub backlog_peak: Peak,
            /// The last ends of WebSockets.
            pub close_records: CloseRecords,
        }

        /// What is told of the plain counters, in their order.
        const ROWS: &[Row] = &[$(Row {
            key: stringify!($name),
            kind: Kind::$kind,
            family: $family,
            counted: match <[Counted]>::first(&[$(Counted::$unit)?]) {
                Some(&counted) => Some(counted),
                None => None,
            },
            labels: &[$($(($label, $value)),+)?],
            is_by_shard: !<[&str]>::is_empty(&[$(stringify!($shard))?]),
            help: concat!($($help),+),
        },)*];

        impl ShardStats {
            fn plain(&self) -> [u64; ROWS.len()] {
                [$(self.$name.value(),)*]
            }
        }
    };
}

shard_stats! {
    /// Connections that hold a slot.
    connections_open: Gauge "connections" by shard,
    /// Connections that were upgraded and have not ended.
    websockets_open: Gauge "websockets" by shard,
    /// Responses that go on, as streams of topics.
    streams_open: Gauge "streams" by shard,
    /// Plain HTTP connections that are kept for another request.
    plain_kept_alive: Gauge "plain_connections_kept",
    /// Connections accepted.
    connections_accepted: Counter "connections_accepted" by shard,
    /// Connections taken over from other shards, which had more than their share.
    connections_moved: Counter "connections_moved",
    /// Streams of topics that have begun.
    streams_begun: Counter "streams_begun",
    /// Connections closed because whoever runs the server wanted their clients to connect again.
    connections_released: Counter "connections_released",
    /// Connections that were let in without counting for their address, because many others fill
    /// the table of those.
    addresses_untracked: Counter "addresses_untracked",
    /// Members of topics that were let in without counting for theirs, because many others fill the
    /// table of those.
    members_untracked: Counter "members_untracked",
    /// Messages published without counting for the rate of their topic, because many others fill
    /// the table of those.
    publications_untracked: Counter "publications_untracked",
    /// Handshakes of TLS completed, by version and by whether they went on with an earlier session.
    tls_1_3_handshakes: Counter "tls_handshakes" {"version" = "1.3", "kind" = "full"},
    /// The same, for a session that was begun before.
    tls_1_3_resumptions: Counter "tls_handshakes" {"version" = "1.3", "kind" = "resumed"},
    /// The same of TLS 1.2.
    tls_1_2_handshakes: Counter "tls_handshakes" {"version" = "1.2", "kind" = "full"},
    /// The same, for a session that was begun before.
    tls_1_2_resumptions: Counter "tls_handshakes" {"version" = "1.2", "kind" = "resumed"},
    /// Handshakes of TLS that waited, because a tick takes no more than a few.
    tls_handshakes_deferred: Counter "tls_handshakes_deferred",
    /// Connections that TLS has ended, by what was wrong: no version, suite, signature or protocol
    /// that both have.
    tls_incompatible: Counter "tls_failures" {"reason" = "incompatible"},
    /// The certificate of the client, or that it had none.
    tls_certificate_refused: Counter "tls_failures" {"reason" = "certificate"},
    /// Something on the side of the client, as it has said.
    tls_alerts: Counter "tls_failures" {"reason" = "alert"},
    /// A record that does not fit the keys.
    tls_decryption_failed: Counter "tls_failures" {"reason" = "decryption"},
    /// Something that is no TLS, or breaks its rules.
    tls_protocol_broken: Counter "tls_failures" {"reason" = "protocol"},
    /// Handshakes completed, by service.
    echo_upgrades: Counter "upgrades" {"service" = "echo"},
    /// The same of topics.
    broadcast_upgrades: Counter "upgrades" {"service" = "broadcast"},
    /// The same of client sessions.
    session_upgrades: Counter "upgrades" {"service" = "channels"},
    /// The same of those who are closed at once.
    close_upgrades: Counter "upgrades" {"service" = "close"},
    /// Sessions of SockJS that have no WebSocket.
    sockjs_sessions_open: Gauge "sockjs_sessions" by shard,
    /// Such sessions that have begun.
    sockjs_sessions_begun: Counter "sockjs_sessions_begun",
    /// Calls of the API.
    api_calls: Counter "api_calls",
    /// Subscriptions set aside until the latest values are read.
    sessions_set_aside: Counter "sessions_set_aside",
    /// Accepts that wait for connections.
    accepts_waiting: Gauge "accepts_waiting" by shard,
    /// Accepts that failed because the table of registered files was full or memory short.
    accepts_failed: Counter "accepts_failed",
    /// Data messages received whole, by service.
    echo_messages_in: Counter "messages_received" {"service" = "echo"},
    /// The same for topics, from WebSockets and from requests.
    broadcast_messages_in: Counter "messages_received" {"service" = "broadcast"},
    /// Data messages queued for their peers, by service; what is dropped later counts as well.
    echo_messages_out: Counter "messages_sent" {"service" = "echo"},
    /// The same for subscribers of topics, each of whom counts.
    deliveries: Counter "messages_sent" {"service" = "broadcast"},
    /// Bytes received.
    bytes_in: Counter "received" in Bytes by shard,
    /// Bytes the kernel took.
    bytes_out: Counter "sent" in Bytes by shard,
    /// Messages published to topics, by WebSockets and by requests.
    broadcasts: Counter "messages_published",
    /// Messages left out for subscribers that get lines, because they are none: binary, or with a
    /// line break inside.
    lines_left_out: Counter "lines_left_out",
    /// Messages compressed: for one connection, or once for all subscribers of a kind.
    compressions: Counter "messages_compressed",
    /// Compressed messages received.
    inflations: Counter "messages_inflated",
    /// Pings sent.
    pings_out: Counter "pings_sent",
    /// Pings received.
    pings_in: Counter "pings_received",
    /// Pongs received, whether or not they answer a ping.
    pongs_in: Counter "pongs_received",
    /// Receives that found no receive buffer and were started again.
    buffers_exhausted: Counter "receive_buffers_exhausted",
    /// Times a publisher had to pause because the broadcast ring was full.
    ring_full: Counter "ring_full",
    /// Times a connection's receiving paused because it does not read what it is sent, or because
    /// memory was short.
    receives_paused: Counter "receives_paused",
    /// Times a connection had had its share of a tick, and went on in a later one.
    turns_deferred: Counter "turns_deferred",
    /// Times a connection was not read from for a while because it had sent more than its rates
    /// allow.
    rate_pauses: Counter "rate_pauses",
    /// Times a connection was not read from for a while because more is published to its topic than
    /// that may get.
    topic_rate_pauses: Counter "topic_rate_pauses",
    /// Connections closed because they had sent more than their rates allow.
    rate_closes: Counter "rate_closes",
    /// Tokens that were not valid, by what was wrong with them.
    tokens_malformed: Counter "tokens_refused" {"reason" = "malformed"},
    /// The same: no key has its algorithm and the name of its key.
    tokens_unknown_key: Counter "tokens_refused" {"reason" = "unknown_key"},
    /// The same: the key has not signed it.
    tokens_signature: Counter "tokens_refused" {"reason" = "signature"},
    /// The same: it was valid before.
    tokens_expired: Counter "tokens_refused" {"reason" = "expired"},
    /// The same: it will be valid later.
    tokens_not_yet_valid: Counter "tokens_refused" {"reason" = "not_yet_valid"},
    /// The same: of another issuer, or of none.
    tokens_issuer: Counter "tokens_refused" {"reason" = "issuer"},
    /// The same: for somebody else.
    tokens_audience: Counter "tokens_refused" {"reason" = "audience"},
    /// The same: a claim is missing, or is none.
    tokens_claims: Counter "tokens_refused" {"reason" = "claims"},
    /// The same: it is revoked, or its user is.
    tokens_revoked: Counter "tokens_refused" {"reason" = "revoked"},
    /// Connections closed because their token had expired.
    tokens_outlived: Counter "tokens_outlived",
    /// Connections closed because their token had been revoked.
    connections_revoked: Counter "connections_revoked",
    /// Connections closed because their user had more than one may, and others stay.
    connections_replaced: Counter "connections_replaced",
    /// WebSockets closed because they sent a message and may only subscribe.
    unauthorized_messages: Counter "unauthorized_messages",
    /// Connections closed or reset because memory was short and they held much of it.
    connections_shed: Counter "connections_shed",
    /// Idle connections closed because there was too much to do.
    idle_connections_shed: Counter "idle_connections_shed",
    /// Requests that had to wait for others because there was too much to do.
    requests_deferred: Counter "requests_deferred",
    /// Requests about which somebody else was asked.
    inquiries: Counter "inquiries",
    /// What hooks were to be asked about clients of channels and had no turn, or were too late for.
    hooks_given_up: Counter "hooks_given_up",
    /// Times accepting was paused because there was too much to do.
    accepting_paused: Counter "accepting_paused",
    /// How long what arrived had to wait at the least, in the last 100 ms in which it did.
    standing_delay_us: Gauge "standing_delay" in Microseconds by shard,
    /// How much is left undone because there is too much to do: nothing, requests beyond a few in
    /// each tick, upgrades, accepting.
    overload_level: Gauge "overload_level" by shard,
    /// Times an idle connection was parked on a one-shot poll.
    parked: Counter "connections_parked",
    /// Connections for which something waits that the kernel has not taken, when last looked at.
    backlogged: Gauge "connections_backlogged" by shard,
    /// Bytes that wait for these connections, when last looked at.
    backlog_bytes: Gauge "backlog" in Bytes by shard,
    /// Wake-ups sent to other shards.
    wakes: Counter "wakes",
    /// Turns of the event loop.
    ticks: Counter "ticks" by shard,
    /// Completions handled; divided by the ticks, completions per tick.
    completions: Counter "completions" by shard,
}

impl ShardStats {
    /// Data messages received whole, of all services.
    pub fn messages_in(&self) -> u64 {
        self.echo_messages_in.value() + self.broadcast_messages_in.value()
    }

    /// Data messages queued for their peers, of all services.
    pub fn messages_out(&self) -> u64 {
        self.echo_messages_out.value() + self.deliveries.value()
    }

    /// Handshakes completed, of all services.
    pub fn upgrades(&self) -> u64 {
        self.echo_upgrades.value()
            + self.broadcast_upgrades.value()
            + self.session_upgrades.value()
            + self.close_upgrades.value()
    }

    /// Takes back what the gauges of connections say: nothing is open or accepted any more.
    pub fn clear_gauges(&self) {
        let open = [&self.connections_open, &self.websockets_open, &self.streams_open];
        let others = [&self.plain_kept_alive, &self.accepts_waiting, &self.sockjs_sessions_open];
        for gauge in open.into_iter().chain(others) {
            gauge.subtract(gauge.value());
        }
    }

    /// Counts a handshake.
    pub fn upgrade(&self, route: &Route) {
        match route {
            Route::Echo => self.echo_upgrades.add(1),
            Route::Broadcast { .. } => self.broadcast_upgrades.add(1),
            Route::Session { .. } => self.session_upgrades.add(1),
            Route::Close { .. } => self.close_upgrades.add(1),
            Route::SockJs(route) => self.upgrade(route),
        }
    }

    /// Counts a refused request.
    pub fn refuse(&self, reason: Refusal) {
        let place = Refusal::ALL.iter().position(|&other| other == reason);
        if let Some(counter) = place.and_then(|place| self.refused.0.get(place)) {
            counter.add(1);
        }
    }

    /// Counts messages that a policy kept from a slow consumer.
    pub fn drop_messages(&self, policy: SlowConsumer, messages: u64) {
        if let Some(place) = POLICIES.iter().position(|&(other, _)| other == policy) {
            self.dropped[place].add(messages);
        }
    }

    /// WebSockets and streams that are open, and sessions of SockJS, which count as such.
    pub fn websockets_and_streams_open(&self) -> u64 {
        self.websockets_open.value() + self.streams_open.value() + self.sockjs_sessions_open.value()
    }

    /// Counts the end of a WebSocket, or of a stream, by who ended it and how.
    pub fn close(&self, initiator: Initiator, code: CloseCode) {
        let place = CLOSE_CODES.iter().position(|&known| known == code.0);
        let initiator = Initiator::ALL.iter().position(|&other| other == initiator);
        if let Some(initiator) = initiator {
            self.closes[initiator][place.unwrap_or(CLOSE_CODES.len())].add(1);
        }
    }
}

/// The counters of all shards.
#[derive(Debug)]
pub struct Stats {
    start: Instant,
    /// Milliseconds from 1970 to `start`.
    started_at_ms: AtomicU64,
    shards: Vec<ShardStats>,
}

impl Stats {
    /// Counters for this many shards, all zero; the clocks of the shards begin now.
    pub fn new(shards: usize) -> Self {
        let of_a_shard =
            || ShardStats { close_records: CloseRecords::new(shards), ..ShardStats::default() };
        let shards = (0..shards).map(|_| of_a_shard()).collect();
        let stats = Self { start: Instant::now(), started_at_ms: AtomicU64::new(0), shards };
        stats.look_at_clock();
        stats
    }

    /// The counters of one shard.
    pub fn shard(&self, index: usize) -> &ShardStats {
        &self.shards[index]
    }

    /// The counters of all shards, in their order.
    pub fn of_shards(&self) -> &[ShardStats] {
        &self.shards
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// When the clocks of the shards began: all tell the time since then.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// The same as a time since 1970, by the clock of the day as it was last looked at.
    pub fn started_at(&self) -> Duration {
        // No partner: it stands for itself.
        Duration::from_millis(self.started_at_ms.load(Ordering::Relaxed))
    }

    /// The time of day in seconds since 1970, so long after the start.
    pub fn seconds_of_day(&self, since_start: Duration) -> u64 {
        (self.started_at() + since_start).as_secs()
    }

    /// Looks at the clock of the day, which may have been set since: what tells a time of day, and
    /// tokens, go by that.
    pub fn look_at_clock(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_at = now.saturating_sub(self.start.elapsed());
        self.started_at_ms.store(started_at.as_millis() as u64, Ordering::Relaxed);
    }

    /// WebSockets and streams open in the whole process, which `--max-connections` limits.
    pub fn websockets_and_streams_open(&self) -> u64 {
        self.shards.iter().map(ShardStats::websockets_and_streams_open).sum()
    }

    /// WebSockets open in the whole process.
    pub fn websockets_open(&self) -> u64 {
        self.shards.iter().map(|shard| shard.websockets_open.value()).sum()
    }

    /// Plain connections that are kept for another request, of all shards.
    pub fn plain_kept_alive(&self) -> u64 {
        self.shards.iter().map(|shard| shard.plain_kept_alive.value()).sum()
    }

    /// Connections that hold a slot, of all shards.
    pub fn connections_open(&self) -> u64 {
        self.shards.iter().map(|shard| shard.connections_open.value()).sum()
    }

    /// Bytes received and sent, of all shards.
    pub fn traffic_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes_in.value() + shard.bytes_out.value()).sum()
    }

    /// Totals, and the same for each shard, as JSON.
    pub fn to_json(&self) -> Value {
        let all: Vec<&ShardStats> = self.shards.iter().collect();
        let mut totals = render(&all);
        totals.insert("shards".into(), all.iter().map(|shard| render(&[shard])).collect());
        Value::Object(totals)
    }
}

fn render(shards: &[&ShardStats]) -> Map<String, Value> {
    let sum = |count: &dyn Fn(&ShardStats) -> u64| -> u64 {
        shards.iter().fold(0, |total, shard| total.wrapping_add(count(shard)))
    };
    let mut object = Map::new();
    for (place, row) in ROWS.iter().enumerate() {
        object.insert(row.key.into(), json!(sum(&|shard| shard.plain()[place])));
    }
    object.insert("messages_in".into(), json!(sum(&ShardStats::messages_in)));
    object.insert("messages_out".into(), json!(sum(&ShardStats::messages_out)));
    object.insert("upgrades".into(), json!(sum(&ShardStats::upgrades)));
    let mut by_reason = Map::new();
    for (place, reason) in Refusal::ALL.iter().enumerate() {
        by_reason.insert(reason.name().into(), json!(sum(&|shard| shard.refused.0[place].value())));
    }
    object.insert("connections_refused".into(), by_reason.into());
    let mut by_policy = Map::new();
    for (place, (_, name)) in POLICIES.iter().enumerate() {
        by_policy.insert((*name).into(), json!(sum(&|shard| shard.dropped[place].value())));
    }
    object.insert("dropped".into(), by_policy.into());
    let mut by_initiator = Map::new();
    for (initiator, name) in Initiator::ALL.map(Initiator::name).into_iter().enumerate() {
        let mut by_code = Map::new();
        for place in 0..=CLOSE_CODES.len() {
            let count = sum(&|shard| shard.closes[initiator][place].value());
            if count > 0 {
                by_code.insert(code_name(place), json!(count));
            }
        }
        by_initiator.insert(name.into(), by_code.into());
    }
    object.insert("closes".into(), by_initiator.into());
    object
}

/// The close code that is counted at this place.
fn code_name(place: usize) -> String {
    CLOSE_CODES.get(place).map_or("other".into(), ToString::to_string)
}

/// Close codes with a counter of their own; the others, among them most from 3000 on, share one.
const CLOSE_CODES: [u16; 15] =
    [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3003];

const POLICIES: [(SlowConsumer, &str); 4] = [
    (SlowConsumer::Disconnect, "disconnect"),
    (SlowConsumer::DropNewest, "drop_newest"),
    (SlowConsumer::DropOldest, "drop_oldest"),
    (SlowConsumer::Latest, "latest"),
];

#[cfg(test)]
mod tests;
