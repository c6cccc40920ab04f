//! Who takes the most at the moment: connections and topics by bytes or messages, by what waits for
//! them, or by their silence.
//!
//! Traffic is told by a sketch of bounded size ([`HeavyHitters`]), which whoever receives or sends
//! is charged to, once for each receive, send and delivery; and only when that is wanted. Two
//! windows take turns, so that what was long ago does not count. Backlog and silence need no
//! memory: a walk looks at each connection.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::config::{AccessLog, PeerAddress};
use crate::io::{Io, Key};
use crate::limits::TOPIC_BYTES_MOST;
use crate::shard::Shard;
use crate::shard::timers::{TICK_MS, Tick};
use crate::stats::heavy_hitters::HeavyHitters;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// Bytes received and sent of late.
    Bytes,
    /// Messages received and sent of late.
    Messages,
    /// Memory of what waits to be sent.
    Backlog,
    /// How long nothing has been heard of the peer.
    Idle,
}

/// Of whom it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// Single connections.
    #[default]
    Connections,
    /// Topics: what the connections take that are members.
    Topics,
    /// The shard as a whole.
    Shards,
}

/// Which way something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

/// Bytes and messages, received or sent or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
}

/// Who takes the most on one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranking {
    /// Those who take the most, first the one that takes more than all others.
    pub entries: Vec<Ranked>,
    /// By how much what is told of each may be too low.
    pub shortfall: u64,
    /// What whoever is not among `entries` can have taken at the most, but for the shortfall.
    pub unlisted_most: u64,
    /// What all have taken, if traffic is charged.
    pub traffic: Option<Traffic>,
    /// What waits for all, if that was looked at.
    pub backlog_bytes: u64,
    /// The time within which the traffic was charged, if traffic is told.
    pub window: Option<Duration>,
}

/// One of those who take the most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranked {
    /// The connection, unless it is of topics that is told.
    pub key: Option<Key>,
    /// The topic, or one that the connection is a member of.
    pub topic: Option<Arc<str>>,
    /// The address of the connection's peer, if it is known.
    pub address: Option<PeerAddress>,
    /// What it has received and sent of late, if that is charged.
    pub traffic: Option<Traffic>,
    /// Memory of what waits to be sent to it.
    pub backlog_bytes: u64,
    /// How long nothing has been heard of the connection's peer.
    pub silent: Duration,
}

/// What a walk has found so far.
pub(super) struct Search {
    subject: Subject,
    measure: Measure,
    most: usize,
    /// The one that takes the least of those that take the most is on top.
    connections: BinaryHeap<Reverse<Candidate>>,
    topics: HeavyHitters<Arc<str>>,
    backlog_bytes: u64,
    /// The greatest amount that found no place among `connections`.
    unlisted_most: u64,
}

/// A connection by what it takes. The index tells those apart that take the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    amount: u64,
    index: u32,
    generation: u32,
}

/// Traffic of late, by whoever it was.
#[derive(Debug)]
pub(in crate::shard) struct Charges {
    present: Window,
    before: Window,
}

#[derive(Debug)]
struct Window {
    began: Duration,
    connections: Sketch<Key>,
    topics: Sketch<Arc<str>>,
}

#[derive(Debug)]
struct Sketch<K> {
    bytes: HeavyHitters<K>,
    messages: HeavyHitters<K>,
}

impl Charges {
    /// Nothing has been charged yet.
    pub(in crate::shard) fn new(now: Duration) -> Self {
        Self { present: Window::new(now), before: Window::new(now) }
    }

    fn charge(&mut self, now: Duration, key: Key, topic: Option<Arc<str>>, traffic: Traffic) {
        self.turn(now);
        self.present.connections.add(key, traffic);
        if let Some(topic) = topic {
            self.present.topics.add(topic, traffic);
        }
    }

    /// Begins another window when the present one has lasted for as long as it may.
    fn turn(&mut self, now: Duration) {
        if now < self.present.began + WINDOW {
            return;
        }
        let last = std::mem::replace(&mut self.present, Window::new(now));
        // What nobody has been charged for a whole window is of long ago.
        let is_recent = now < last.began + 2 * WINDOW;
        self.before = if is_recent { last } else { Window::new(now) };
    }

    /// The greatest by `measure`, and what nobody knows of the others.
    fn greatest<K: Clone + Eq + Hash>(
        &self,
        sketch: impl Fn(&Window) -> &Sketch<K>,
        measure: Measure,
        most: usize,
    ) -> (Vec<(K, Traffic)>, Unknown) {
        let sketches = [sketch(&self.present), sketch(&self.before)];
        let items: HashSet<&K> = sketches.iter().flat_map(|it| it.by(measure).items()).collect();
        let traffic = |item| Traffic {
            bytes: sketches.iter().map(|it| it.bytes.of(item)).sum(),
            messages: sketches.iter().map(|it| it.messages.of(item)).sum(),
        };
        let mut greatest: Vec<_> =
            items.into_iter().map(|item| (item.clone(), traffic(item))).collect();
        greatest.sort_unstable_by_key(|(_, traffic)| Reverse(traffic.by(measure)));
        let unlisted_most = greatest.get(most).map_or(0, |(_, traffic)| traffic.by(measure));
        greatest.truncate(most);
        let shortfall = sketches.iter().map(|it| it.by(measure).shortfall()).sum();
        (greatest, Unknown { shortfall, unlisted_most })
    }

    fn of(&self, key: &Key) -> Traffic {
        let of = |measure| {
            let windows = [&self.present, &self.before];
            windows.iter().map(|window| window.connections.by(measure).of(key)).sum()
        };
        Traffic { bytes: of(Measure::Bytes), messages: of(Measure::Messages) }
    }

    fn total(&self) -> Traffic {
        let of = |window: &Window| window.connections.total();
        let (present, before) = (of(&self.present), of(&self.before));
        Traffic {
            bytes: present.bytes + before.bytes,
            messages: present.messages + before.messages,
        }
    }
}

/// What a sketch does not tell.
struct Unknown {
    shortfall: u64,
    unlisted_most: u64,
}

impl Window {
    fn new(began: Duration) -> Self {
        Self { began, connections: Sketch::new(), topics: Sketch::new() }
    }
}

impl<K: Clone + Eq + Hash> Sketch<K> {
    fn new() -> Self {
        Self { bytes: HeavyHitters::new(COUNTERS), messages: HeavyHitters::new(COUNTERS) }
    }

    fn add(&mut self, item: K, traffic: Traffic) {
        // Mostly one of the two is nothing.
        self.messages.add(item.clone(), traffic.messages);
        self.bytes.add(item, traffic.bytes);
    }

    fn by(&self, measure: Measure) -> &HeavyHitters<K> {
        if measure == Measure::Messages { &self.messages } else { &self.bytes }
    }

    fn total(&self) -> Traffic {
        Traffic { bytes: self.bytes.total(), messages: self.messages.total() }
    }
}

impl Traffic {
    fn by(&self, measure: Measure) -> u64 {
        if measure == Measure::Messages { self.messages } else { self.bytes }
    }
}

impl Search {
    pub(super) fn new(measure: Measure, subject: Subject, most: usize) -> Self {
        Self {
            subject,
            measure,
            most: most.min(TOP_MOST),
            connections: BinaryHeap::new(),
            topics: HeavyHitters::new(COUNTERS),
            backlog_bytes: 0,
            unlisted_most: 0,
        }
    }

    fn consider(&mut self, Key { index, generation }: Key, amount: u64) {
        self.connections.push(Reverse(Candidate { amount, index, generation }));
        if self.connections.len() > self.most
            && let Some(Reverse(least)) = self.connections.pop()
        {
            self.unlisted_most = self.unlisted_most.max(least.amount);
        }
    }
}

impl<I: Io> Shard<I> {
    /// Whether connections are charged with what they receive and send.
    pub(in crate::shard) fn is_charging(&self) -> bool {
        self.measures.charges.is_some() || self.effective.config.logs.access != AccessLog::Off
    }

    /// Charges a connection, and the topic that it is a member of, with what it has received or
    /// sent.
    pub(in crate::shard) fn charge(&mut self, key: Key, direction: Direction, traffic: Traffic) {
        if let Some(visit) = self.peers.visit_mut(key.index) {
            visit.charge(direction, traffic);
        }
        if self.measures.charges.is_none() {
            return;
        }
        let topic = self.topic_shown(key);
        let now = self.clock();
        if let Some(charges) = &mut self.measures.charges {
            charges.charge(now, key, topic, traffic);
        }
    }

    /// Who has been charged the most.
    pub(super) fn most_charged(
        &mut self,
        measure: Measure,
        subject: Subject,
        most: usize,
    ) -> Outcome {
        let now = self.clock();
        let Some(charges) = &mut self.measures.charges else { return Outcome::NotCharged };
        charges.turn(now);
        let Some(charges) = &self.measures.charges else { return Outcome::NotCharged };
        let most = most.min(TOP_MOST);
        let (entries, unknown) = match subject {
            Subject::Connections => {
                let (keys, unknown) = charges.greatest(|it| &it.connections, measure, most);
                (keys.into_iter().filter_map(|(key, _)| self.ranked(key)).collect(), unknown)
            }
            Subject::Topics => {
                let (names, unknown) = charges.greatest(|it| &it.topics, measure, most);
                let ranked = |(topic, traffic)| Ranked {
                    topic: Some(topic),
                    traffic: Some(traffic),
                    ..Ranked::default()
                };
                (names.into_iter().map(ranked).collect(), unknown)
            }
            Subject::Shards => (Vec::new(), Unknown { shortfall: 0, unlisted_most: 0 }),
        };
        Outcome::Top(Ranking {
            entries,
            shortfall: unknown.shortfall,
            unlisted_most: unknown.unlisted_most,
            traffic: Some(charges.total()),
            backlog_bytes: 0,
            window: Some(now.saturating_sub(charges.before.began)),
        })
    }

    /// Looks at one connection for the sake of a search.
    pub(super) fn search(&self, key: Key, search: &mut Search) {
        let Some(connection) = self.connections.get(key) else { return };
        let backlog_bytes = connection.outbox.held_bytes() as u64;
        search.backlog_bytes += backlog_bytes;
        let amount = match search.measure {
            Measure::Idle => self.silence_ms(connection.last_active),
            Measure::Backlog | Measure::Bytes | Measure::Messages => backlog_bytes,
        };
        match search.subject {
            Subject::Connections if amount > 0 => search.consider(key, amount),
            Subject::Topics => {
                let topic = self.topic_shown(key);
                topic.into_iter().for_each(|topic| search.topics.add(topic, amount));
            }
            Subject::Connections | Subject::Shards => {}
        }
    }

    /// What a search has found.
    pub(super) fn found(&self, search: Search) -> Ranking {
        let Search { topics, most, backlog_bytes, mut unlisted_most, .. } = search;
        // The greatest is the last of those in reverse, and so the first here.
        let candidates = search.connections.into_sorted_vec().into_iter();
        let keys = candidates.map(|Reverse(it)| Key { index: it.index, generation: it.generation });
        let mut entries: Vec<_> = keys.filter_map(|key| self.ranked(key)).collect();
        let mut names: Vec<_> = topics.items().map(|name| (topics.of(name), name)).collect();
        names.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        unlisted_most = names.get(most).map_or(unlisted_most, |(bytes, _)| *bytes);
        entries.extend(names.into_iter().take(most).map(|(backlog_bytes, name)| Ranked {
            topic: Some(name.clone()),
            backlog_bytes,
            ..Ranked::default()
        }));
        Ranking {
            entries,
            shortfall: topics.shortfall(),
            unlisted_most,
            traffic: None,
            backlog_bytes,
            window: None,
        }
    }

    fn ranked(&self, key: Key) -> Option<Ranked> {
        let connection = self.connections.get(key)?;
        let charged = self.measures.charges.as_ref();
        Some(Ranked {
            key: Some(key),
            topic: self.topic_shown(key),
            address: self.peers.address(key.index),
            traffic: charged.map(|charges| charges.of(&key)),
            backlog_bytes: connection.outbox.held_bytes() as u64,
            silent: Duration::from_millis(self.silence_ms(connection.last_active)),
        })
    }

    fn silence_ms(&self, last_active: Tick) -> u64 {
        u64::from(self.served.saturating_sub(last_active)) * TICK_MS
    }
}

/// How many of those who take the most a shard tells.
pub const TOP_MOST: usize = 40;
const _: () = assert!(
    TOP_MOST * (size_of::<Ranked>() + TOPIC_BYTES_MOST) + size_of::<Ranking>()
        <= super::OUTCOME_BYTES as usize
);
/// Counters of each sketch: whoever takes more than a 256th is told of. All of a shard take some
/// 100 KB, where traffic is charged.
const COUNTERS: usize = 256;
/// For how long a window is charged: traffic that is told is of as long at least, and of no more
/// than twice as long.
const WINDOW: Duration = Duration::from_secs(5);
