//! Counters: each shard writes its own, whoever asks sums them up.
//!
//! A counter has a single writer, so counting is a plain load and store; readers may see a shard in
//! the middle of a tick, but never a torn number.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};

use crate::config::SlowConsumer;
use crate::http::Refusal;
use crate::websocket::Initiator;
use crate::wire::close::CloseCode;

/// A number that one thread counts and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `amount` more; only the owning shard may call this.
    pub fn add(&self, amount: u64) {
        // No partner: nothing is published along with a counter.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Takes `amount` back; for gauges.
    pub fn subtract(&self, amount: u64) {
        self.add(amount.wrapping_neg());
    }

    /// The present value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! shard_stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one shard.
        #[derive(Debug, Default)]
        pub struct ShardStats {
            $($(#[$doc])* pub $name: Counter,)*
            refused: [Counter; Refusal::ALL.len()],
            dropped: [Counter; POLICIES.len()],
            closes: [[Counter; CLOSE_CODES.len() + 1]; INITIATORS.len()],
        }

        /// The names of the plain counters, as `/stats` prints them.
        const NAMES: &[&str] = &[$(stringify!($name),)*];

        impl ShardStats {
            fn plain(&self) -> [u64; NAMES.len()] {
                [$(self.$name.value(),)*]
            }
        }
    };
}

shard_stats! {
    /// Gauge: connections that hold a slot.
    connections_open,
    /// Gauge: connections that were upgraded and have not ended.
    websockets_open,
    /// Gauge: responses that go on, as streams of topics.
    streams_open,
    /// Gauge: plain HTTP connections that are kept for another request.
    plain_kept_alive,
    /// Connections accepted.
    connections_accepted,
    /// Connections taken over from other shards, which had more than their share.
    connections_moved,
    /// Handshakes completed.
    upgrades,
    /// Streams of topics that have begun.
    streams_begun,
    /// Accepts that failed because the table of registered files was full or memory short.
    accepts_failed,
    /// Connections that were let in without counting for their address, because many others fill
    /// the table of those.
    addresses_untracked,
    /// Data messages received whole.
    messages_in,
    /// Data messages queued for their peers: echoes and deliveries. What a policy drops later is
    /// counted as dropped as well.
    messages_out,
    /// Bytes received.
    bytes_in,
    /// Bytes the kernel took.
    bytes_out,
    /// Messages published to topics.
    broadcasts,
    /// Messages queued for subscribers.
    deliveries,
    /// Messages left out for subscribers that get lines, because they are none: binary, or with a
    /// line break inside.
    lines_left_out,
    /// Messages compressed: for one connection, or once for all subscribers of a kind.
    compressions,
    /// Compressed messages received.
    inflations,
    /// Receives that found no receive buffer and were started again.
    buffers_exhausted,
    /// Times a publisher had to pause because the broadcast ring was full.
    ring_full,
    /// Times a connection's receiving paused because it does not read what it is sent, or because
    /// memory was short.
    receives_paused,
    /// Times a connection had had its share of a tick, and went on in a later one.
    turns_deferred,
    /// Connections closed or reset because memory was short and they held much of it.
    connections_shed,
    /// Connections closed because whoever runs the server wanted their clients to connect again.
    connections_released,
    /// Times an idle connection was parked on a one-shot poll.
    parked,
    /// Wake-ups sent to other shards.
    wakes,
    /// Turns of the event loop.
    ticks,
    /// Completions handled; divided by the ticks, completions per tick.
    completions,
}

impl ShardStats {
    /// Counts a refused request.
    pub fn refuse(&self, reason: Refusal) {
        let place = Refusal::ALL.iter().position(|&other| other == reason);
        if let Some(counter) = place.and_then(|place| self.refused.get(place)) {
            counter.add(1);
        }
    }

    /// Counts messages that a policy kept from a slow consumer.
    pub fn drop_messages(&self, policy: SlowConsumer, messages: u64) {
        if let Some(place) = POLICIES.iter().position(|&(other, _)| other == policy) {
            self.dropped[place].add(messages);
        }
    }

    /// WebSockets and streams that are open.
    pub fn websockets_and_streams_open(&self) -> u64 {
        self.websockets_open.value() + self.streams_open.value()
    }

    /// Takes back what the gauges say: nothing is open any more.
    pub fn clear_gauges(&self) {
        let open = [&self.connections_open, &self.websockets_open, &self.streams_open];
        for gauge in open.into_iter().chain([&self.plain_kept_alive]) {
            gauge.subtract(gauge.value());
        }
    }

    /// Counts the end of a WebSocket, or of a stream, by who ended it and how.
    pub fn close(&self, initiator: Initiator, code: CloseCode) {
        let place = CLOSE_CODES.iter().position(|&known| known == code.0);
        let initiator = INITIATORS.iter().position(|&(other, _)| other == initiator);
        if let Some(initiator) = initiator {
            self.closes[initiator][place.unwrap_or(CLOSE_CODES.len())].add(1);
        }
    }
}

/// The counters of all shards.
#[derive(Debug)]
pub struct Stats {
    shards: Vec<ShardStats>,
}

impl Stats {
    /// Counters for this many shards, all zero.
    pub fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| ShardStats::default()).collect() }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The counters of one shard.
    pub fn shard(&self, index: usize) -> &ShardStats {
        &self.shards[index]
    }

    /// WebSockets open in the whole process.
    pub fn websockets_open(&self) -> u64 {
        self.shards.iter().map(|shard| shard.websockets_open.value()).sum()
    }

    /// WebSockets and streams open in the whole process, which `--max-connections` limits.
    pub fn websockets_and_streams_open(&self) -> u64 {
        self.shards.iter().map(ShardStats::websockets_and_streams_open).sum()
    }

    /// Plain connections that are kept for another request, of all shards.
    pub fn plain_kept_alive(&self) -> u64 {
        self.shards.iter().map(|shard| shard.plain_kept_alive.value()).sum()
    }

    /// Connections that hold a slot, of all shards.
    pub fn connections_open(&self) -> u64 {
        self.shards.iter().map(|shard| shard.connections_open.value()).sum()
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
    for (place, name) in NAMES.iter().enumerate() {
        object.insert((*name).into(), json!(sum(&|shard| shard.plain()[place])));
    }
    let mut by_reason = Map::new();
    for (place, reason) in Refusal::ALL.iter().enumerate() {
        by_reason.insert(reason.name().into(), json!(sum(&|shard| shard.refused[place].value())));
    }
    object.insert("connections_refused".into(), by_reason.into());
    let mut by_policy = Map::new();
    for (place, (_, name)) in POLICIES.iter().enumerate() {
        by_policy.insert((*name).into(), json!(sum(&|shard| shard.dropped[place].value())));
    }
    object.insert("dropped".into(), by_policy.into());
    let mut by_initiator = Map::new();
    for (initiator, (_, name)) in INITIATORS.iter().enumerate() {
        let mut by_code = Map::new();
        for place in 0..=CLOSE_CODES.len() {
            let count = sum(&|shard| shard.closes[initiator][place].value());
            let code = CLOSE_CODES.get(place).map_or("other".into(), ToString::to_string);
            if count > 0 {
                by_code.insert(code, json!(count));
            }
        }
        by_initiator.insert((*name).into(), by_code.into());
    }
    object.insert("closes".into(), by_initiator.into());
    object
}

/// Close codes with a counter of their own; the others, among them 3000 to 4999, share one.
const CLOSE_CODES: [u16; 13] =
    [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013];

const INITIATORS: [(Initiator, &str); 2] =
    [(Initiator::Local, "local"), (Initiator::Remote, "remote")];

const POLICIES: [(SlowConsumer, &str); 4] = [
    (SlowConsumer::Disconnect, "disconnect"),
    (SlowConsumer::DropNewest, "drop_newest"),
    (SlowConsumer::DropOldest, "drop_oldest"),
    (SlowConsumer::Latest, "latest"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_the_sum_of_the_shards() {
        let stats = Stats::new(2);
        stats.shard(0).messages_in.add(3);
        stats.shard(1).messages_in.add(4);
        stats.shard(1).connections_open.add(2);
        stats.shard(1).connections_open.subtract(1);
        stats.shard(0).refuse(Refusal::NotFound);
        stats.shard(1).drop_messages(SlowConsumer::Latest, 9);
        stats.shard(0).close(Initiator::Remote, CloseCode(1001));
        stats.shard(1).close(Initiator::Remote, CloseCode(4321));
        let json = stats.to_json();
        assert_eq!(json["messages_in"], 7);
        assert_eq!(json["connections_open"], 1);
        assert_eq!(json["connections_refused"]["not_found"], 1);
        assert_eq!(json["dropped"]["latest"], 9);
        assert_eq!(json["closes"]["remote"], json!({ "1001": 1, "other": 1 }));
        assert_eq!(json["shards"][1]["messages_in"], 4);
    }
}
