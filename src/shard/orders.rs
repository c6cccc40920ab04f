//! What the control thread orders a shard to do with its connections: to close some, to tell of
//! them, to send some away.
//!
//! An order that concerns many is a walk over the places of the shard's table, so many in a tick,
//! and ends with one answer. The control thread waits for that before it sends the next, so that a
//! shard has one order at a time, and one that hangs holds one place of the control thread's inbox.
//! An order whose sender has given up on it is withdrawn: what was not done by then is left.

pub mod top;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::connections::{Connection, Marks};
use super::ending::Ending;
use super::mail::Letter;
use super::pause::WaitsFor;
use super::pending::PendingKey;
use super::release::{Idlest, Release};
use super::sessions::Handing;
use super::timers::{TICK_MS, Tick};
use super::{RunState, Shard};
use crate::config::PeerAddress;
use crate::hub::inbox::Place;
use crate::identity::NAME_BYTES_MOST;
use crate::io::{Io, Key};
use crate::limits::TOPIC_BYTES_MOST;
use crate::realtime::log::Part;
use crate::wire::close::CloseCode;
use top::{Measure, Ranking, Search, Subject};

/// One order, with the place of its answer.
pub struct Order {
    /// What is to be done.
    pub errand: Errand,
    /// By which the control thread knows the answer.
    pub key: PendingKey,
    /// Where the answer goes; it was taken for [`OUTCOME_BYTES`].
    pub answer: Place<Letter>,
    /// Set by the sender when it waits no more.
    pub withdrawn: Arc<AtomicBool>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Errand {
    /// Closes the open WebSockets that are members of a topic.
    CloseTopic {
        /// The topic.
        topic: String,
        /// What they are told.
        farewell: Farewell,
    },
    /// Closes one open WebSocket.
    Close {
        /// Which.
        key: Key,
        /// What it is told.
        farewell: Farewell,
    },
    /// Tells of connections.
    List {
        /// The place to begin with.
        from: u32,
        /// Of how many, at the most.
        most: usize,
        /// Of this user's alone.
        user: Option<Arc<str>>,
    },
    /// Tells who takes the most.
    Top {
        /// Of what.
        measure: Measure,
        /// Who may be told of.
        subject: Subject,
        /// How many, at the most.
        most: usize,
    },
    /// Closes open WebSockets with 1012 (service restart), those whose peers have been silent for
    /// the longest, each at a moment of its own within the window.
    Release {
        /// How many.
        count: usize,
        /// The window.
        window: Duration,
        /// What the moments are drawn from.
        seed: u64,
    },
    /// Has to do with handing over what is kept of channels.
    Histories(Handing),
}

impl Errand {
    /// Memory that it holds beside itself.
    pub fn held_bytes(&self) -> u32 {
        let bytes = match self {
            Self::CloseTopic { topic, farewell } => topic.len() + farewell.reason.len(),
            Self::Close { farewell, .. } => farewell.reason.len(),
            Self::List { user, .. } => user.as_ref().map_or(0, |user| user.len()),
            Self::Top { .. } | Self::Release { .. } | Self::Histories(_) => 0,
        };
        bytes as u32
    }
}

/// What the peers of connections that are closed by an order are told.
#[derive(Clone, Debug)]
pub struct Farewell {
    /// Of the close frame.
    pub code: CloseCode,
    /// The same.
    pub reason: String,
}

/// What has become of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many connections are being closed, or will be.
    Closing(u64),
    /// There is no such connection on this shard.
    Unknown,
    /// The connection is no open WebSocket.
    NotOpen,
    /// The connection is on its way to another shard, where it will have another name.
    Moving,
    /// The connections that were asked for, in the order of their places.
    Connections {
        /// What is known of each.
        connections: Vec<Listed>,
        /// The place to go on with, unless there is no further one.
        next: Option<u32>,
    },
    /// Those who take the most.
    Top(Ranking),
    /// Nobody is charged with what it takes, by `--top`.
    NotCharged,
    /// Connections are being sent away already, until those are gone.
    Releasing,
    /// The shard drains, and closes all of them anyhow.
    Draining,
    /// The order was withdrawn before it was done.
    Withdrawn,
    /// What is kept of channels, or some of it; what was published is shared, and counts where it
    /// is kept.
    Histories(Box<Part>),
}

/// What is told of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name within the shard.
    pub key: Key,
    /// The address of its peer, if it is known.
    pub address: Option<PeerAddress>,
    /// The user whose token it has shown, if that names one.
    pub user: Option<Box<str>>,
    /// What it is at.
    pub state: &'static str,
    /// What its messages are for, once it is a WebSocket.
    pub service: Option<&'static str>,
    /// What it is a member of, the latest first; [`TOPICS_LISTED`] at the most.
    pub topics: Vec<Arc<str>>,
    /// What its input waits for.
    pub waits_for: Option<&'static str>,
    /// Memory of what waits to be sent to it.
    pub backlog_bytes: usize,
    /// How long ago its peer was last heard of, or seen to read.
    pub silent: Duration,
}

/// The orders of one shard.
#[derive(Default)]
pub(super) struct Orders {
    walk: Option<Walk>,
    release: Option<Release>,
}

/// An order that concerns many, and how far it has come.
struct Walk {
    order: Order,
    /// The next place to look at.
    next_index: u32,
    /// Places beyond were taken since the walk began.
    end_index: u32,
    found: Found,
}

/// What a walk has brought so far.
enum Found {
    Closed(u64),
    Listed {
        connections: Vec<Listed>,
        /// Memory that they take.
        bytes: usize,
    },
    Idlest(Idlest),
    Top(Search),
}

impl Order {
    fn is_withdrawn(&self) -> bool {
        // Relaxed: nothing is published along with it, and one look more or less does no harm.
        self.withdrawn.load(Ordering::Relaxed)
    }
}

impl Orders {
    /// Gives up on what has not been done, as all connections are closed now.
    pub(super) fn stop_releasing(&mut self) {
        self.release = None;
    }

    /// Whether there is something to do at once.
    pub(super) fn has_work(&self, now: Tick) -> bool {
        let is_due = |release: &Release| release.next_tick() <= now;
        self.walk.is_some() || self.release.as_ref().is_some_and(is_due)
    }

    /// When there is something to do next.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        self.release.as_ref().map(Release::next_tick)
    }
}

impl<I: Io> Shard<I> {
    /// Takes an order; what concerns one connection is done at once.
    pub(super) fn take_order(&mut self, order: Order) {
        debug_assert!(self.orders.walk.is_none(), "an answer is waited for before the next order");
        let found = match &order.errand {
            &Errand::Histories(handing) => {
                let part = match order.is_withdrawn() {
                    false => self.hand_over_histories(handing),
                    true => return self.answer(order, Outcome::Withdrawn),
                };
                return self.answer(order, Outcome::Histories(Box::new(part)));
            }
            Errand::Close { key, farewell } => {
                let outcome = match self.run_state == RunState::Serving && !order.is_withdrawn() {
                    true => self.close_one(*key, farewell),
                    false => self.outcome_of_none(),
                };
                return self.answer(order, outcome);
            }
            Errand::Release { .. } if self.orders.release.is_some() => {
                return self.answer(order, Outcome::Releasing);
            }
            Errand::Release { count, .. } => Found::Idlest(Idlest::new(*count)),
            &Errand::Top {
                measure: measure @ (Measure::Bytes | Measure::Messages),
                subject,
                most,
            } => {
                let outcome = self.most_charged(measure, subject, most);
                return self.answer(order, outcome);
            }
            &Errand::Top { measure, subject, most } => {
                Found::Top(Search::new(measure, subject, most))
            }
            Errand::CloseTopic { .. } => Found::Closed(0),
            Errand::List { .. } => Found::Listed { connections: Vec::new(), bytes: 0 },
        };
        let from = match order.errand {
            Errand::List { from, .. } => from,
            _ => 0,
        };
        let end_index = self.connections.places() as u32;
        self.orders.walk = Some(Walk { order, next_index: from, end_index, found });
    }

    /// Goes on with the order there is, and sends those away whose moment has come; both as far as
    /// a tick may.
    pub(super) fn follow_orders(&mut self) {
        if let Some(walk) = self.orders.walk.take() {
            self.go_on_walking(walk);
        }
        let Some(mut release) = self.orders.release.take() else { return };
        for _ in 0..CLOSED_PER_TICK {
            let Some(key) = release.next(self.now) else { break };
            if self.close_by_order(key, CloseCode::SERVICE_RESTART, RELEASED) {
                self.stats().connections_released.add(1);
            }
        }
        self.orders.release = Some(release).filter(|release| !release.is_over());
    }

    fn go_on_walking(&mut self, mut walk: Walk) {
        if walk.order.is_withdrawn() || self.run_state != RunState::Serving {
            let outcome = self.outcome_of_none();
            return self.answer(walk.order, outcome);
        }
        let mut closed = 0;
        for _ in 0..PLACES_PER_TICK {
            if walk.next_index >= walk.end_index || walk.is_full() {
                return self.end_walk(walk);
            }
            let index = walk.next_index;
            walk.next_index += 1;
            let Some((key, _)) = self.connections.at(index) else { continue };
            closed += usize::from(self.visit(key, &walk.order.errand, &mut walk.found));
            if closed == CLOSED_PER_TICK {
                break;
            }
        }
        self.orders.walk = Some(walk);
    }

    /// Does what an errand wants with one connection; whether that is being closed.
    fn visit(&mut self, key: Key, errand: &Errand, found: &mut Found) -> bool {
        match (found, errand) {
            (Found::Closed(count), Errand::CloseTopic { topic, farewell }) => {
                let is_member = self.topics.is_member(key.index, topic);
                let is_closed =
                    is_member && self.close_by_order(key, farewell.code, &farewell.reason);
                *count += u64::from(is_closed);
                return is_closed;
            }
            (Found::Listed { connections, bytes }, Errand::List { user, .. }) => {
                let is_wanted = user.is_none() || user.as_deref() == self.peers.user(key.index);
                if is_wanted && let Some(listed) = self.listed(key) {
                    *bytes += listed.bytes();
                    connections.push(listed);
                }
            }
            (Found::Idlest(idlest), Errand::Release { .. }) => {
                if let Some(connection) = self.connections.get(key).filter(|it| it.can_be_closed())
                {
                    idlest.consider(connection.last_active, key);
                }
            }
            (Found::Top(search), Errand::Top { .. }) => self.search(key, search),
            _ => debug_assert!(false, "a walk gathers what its errand wants"),
        }
        false
    }

    fn end_walk(&mut self, walk: Walk) {
        let outcome = match walk.found {
            Found::Closed(count) => Outcome::Closing(count),
            Found::Listed { connections, .. } => {
                let next = (walk.next_index < walk.end_index).then_some(walk.next_index);
                Outcome::Connections { connections, next }
            }
            Found::Top(search) => Outcome::Top(self.found(search)),
            Found::Idlest(idlest) => {
                let count = idlest.len() as u64;
                if let Errand::Release { window, seed, .. } = walk.order.errand {
                    let release = Release::new(idlest, self.now, window, seed);
                    self.orders.release = Some(release).filter(|release| !release.is_over());
                }
                Outcome::Closing(count)
            }
        };
        self.answer(walk.order, outcome);
    }

    fn answer(&mut self, order: Order, outcome: Outcome) {
        self.endpoint.post(order.answer, Letter::Outcome(order.key, Box::new(outcome)));
    }

    /// The answer to an order of which nothing more is done.
    fn outcome_of_none(&self) -> Outcome {
        match self.run_state {
            RunState::Serving => Outcome::Withdrawn,
            RunState::Draining { .. } | RunState::Ending | RunState::Stopped => Outcome::Draining,
        }
    }

    fn close_one(&mut self, key: Key, farewell: &Farewell) -> Outcome {
        match self.connections.get(key).map(|connection| connection.ending) {
            None => Outcome::Unknown,
            Some(Ending::Leaving) => Outcome::Moving,
            Some(_) if self.close_by_order(key, farewell.code, &farewell.reason) => {
                Outcome::Closing(1)
            }
            Some(_) => Outcome::NotOpen,
        }
    }

    /// Begins the closing handshake, if the connection is an open WebSocket; whether it is.
    fn close_by_order(&mut self, key: Key, code: CloseCode, reason: &str) -> bool {
        let can_be_closed = self.connections.get(key).is_some_and(Connection::can_be_closed);
        if can_be_closed {
            self.close(key, code, reason);
            self.settle(key);
        }
        can_be_closed
    }

    fn listed(&self, key: Key) -> Option<Listed> {
        let connection = self.connections.get(key)?;
        let topics = self.topics.of(key.index).take(TOPICS_LISTED);
        let silence = self.served.saturating_sub(connection.last_active);
        Some(Listed {
            key,
            address: self.peers.address(key.index),
            user: self.peers.user(key.index).map(Box::from),
            state: connection.state(),
            service: connection.stage.websocket().map(|websocket| websocket.service()),
            topics: topics.filter_map(|topic| self.topic_named(topic)).collect(),
            waits_for: connection.hold_up(),
            backlog_bytes: connection.outbox.held_bytes(),
            silent: Duration::from_millis(u64::from(silence) * TICK_MS),
        })
    }
}

impl Walk {
    /// Whether an answer holds no more.
    fn is_full(&self) -> bool {
        match (&self.found, &self.order.errand) {
            (Found::Listed { connections, bytes }, &Errand::List { most, .. }) => {
                connections.len() >= most || bytes + Listed::BYTES_MOST > OUTCOME_BYTES as usize
            }
            _ => false,
        }
    }
}

impl Listed {
    /// Memory that it takes; names of topics count, although they are shared.
    fn bytes(&self) -> usize {
        let topic_bytes = self.topics.iter().map(|topic| topic.len() + size_of::<Arc<str>>());
        let user_bytes = self.user.as_ref().map_or(0, |user| user.len());
        size_of::<Self>() + user_bytes + topic_bytes.sum::<usize>()
    }

    /// The most that [`bytes`](Self::bytes) can be.
    const BYTES_MOST: usize = size_of::<Self>()
        + NAME_BYTES_MOST
        + TOPICS_LISTED * (TOPIC_BYTES_MOST + size_of::<Arc<str>>());
}

impl Connection {
    /// Whether it is an open WebSocket that nobody has begun to end.
    pub(super) fn can_be_closed(&self) -> bool {
        self.stage.is_open() && self.ending == Ending::Open
    }

    /// What it is at, for whoever runs the server.
    fn state(&self) -> &'static str {
        match self.ending {
            Ending::Leaving => "moving",
            Ending::Finishing | Ending::Finished | Ending::Doomed | Ending::ShutDown => "ending",
            Ending::Open if self.stage.is_closing() => "closing",
            Ending::Open if self.stage.is_open() => "open",
            Ending::Open => "request",
        }
    }

    /// What its input waits for, for the same.
    fn hold_up(&self) -> Option<&'static str> {
        match self.waits_for {
            Some(WaitsFor::Memory) => Some("memory"),
            Some(WaitsFor::Ring) => Some("broadcast ring"),
            Some(WaitsFor::Peer) => Some("peer to read"),
            Some(WaitsFor::Turn) => Some("turn"),
            Some(WaitsFor::Rate) => Some("its rate"),
            Some(WaitsFor::Request) => Some("turn to be let in"),
            Some(WaitsFor::Handshake) => Some("turn to shake hands"),
            Some(WaitsFor::Judgement) => Some("whether its request is granted"),
            Some(WaitsFor::Owner) => Some("the shard of its session"),
            Some(WaitsFor::Home) => Some("the home of a channel"),
            None => self.has(Marks::STARVED).then_some("receive buffer"),
        }
    }
}

/// Bytes that the place of an answer is taken for.
pub const OUTCOME_BYTES: u32 = 16 << 10;
/// Topics that are told of one connection.
pub const TOPICS_LISTED: usize = 8;
/// What those are told who are sent away.
const RELEASED: &str = "please connect again";
/// Places that a walk looks at in one tick: some 100 us at the most. Few in debug builds, so that
/// tests see it take several ticks.
const PLACES_PER_TICK: usize = if cfg!(debug_assertions) { 3 } else { 1024 };
/// Connections that are closed by order in one tick: about a millisecond.
const CLOSED_PER_TICK: usize = if cfg!(debug_assertions) { 2 } else { 128 };
