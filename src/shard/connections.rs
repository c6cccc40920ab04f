//! The connections of one shard: 64 bytes each, in a slab that costs what is in use.

use bitflags::bitflags;
use slab::Slab;

use super::ending::Ending;
use super::outbox::Outbox;
use super::pause::WaitsFor;
use super::requests::Requests;
use super::timers::Tick;
use super::times::SilenceCheck;
use super::{seconds, ticks_of_seconds};
use crate::connection::Stage;
use crate::io::{Key, SLOTS_MAX, Slot};
use crate::stats::{Counter, ShardStats};
use crate::websocket::WebSocket;

bitflags! {
    /// What else is to be known of a connection. The bits of its slot are left free: both lie in
    /// one word.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Marks: u32 {
        /// Waits for its turn to send at the end of the tick.
        const DIRTY = 1 << 20;
        /// Something has been sent since silence was last looked for.
        const HAS_SENT = 1 << 21;
        /// The peer's FIN is in.
        const PEER_FINISHED = 1 << 22;
        /// Waits, or is about to wait, on a poll instead of a receive.
        const PARKED = 1 << 23;
        /// Belongs to a topic.
        const SUBSCRIBED = 1 << 24;
        /// Listed among those that wait for a receive buffer.
        const STARVED = 1 << 25;
        /// The last send was short: the next succeeds only when the peer has read.
        const BACKED_UP = 1 << 26;
        /// The last receive brought much: it waits in the lines of those who send much.
        const HEAVY = 1 << 27;
        /// Silence was last looked for in a round with an odd number.
        const ODD_ROUND = 1 << 28;
        /// Speaks TLS.
        const SECURED = 1 << 29;
        /// TLS has something to send, or to say before the end.
        const SEALED = 1 << 30;
        /// Came by a listener that sends everybody elsewhere.
        const REDIRECTED = 1 << 31;
        /// What goes along when it moves to another shard.
        const TRAVEL = 0b1111 << 21 | 0b11 << 26 | 0b111 << 29;
    }
}

const _: () = assert!(Marks::all().bits() & (SLOTS_MAX - 1) == 0, "a slot has the bits below");

/// The gauge that counts what a connection has become.
pub(super) fn gauge_of<'s>(stage: &Stage, stats: &'s ShardStats) -> Option<&'s Counter> {
    match stage {
        Stage::Preamble(_) | Stage::Http(_) => None,
        Stage::WebSocket(_) => Some(&stats.websockets_open),
        Stage::Stream(_) => Some(&stats.streams_open),
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Its direct descriptor, and [`Marks`] above.
    slot_and_marks: u32,
    /// Tells it from former tenants of its place.
    generation: u32,
    /// What the kernel has been asked for.
    pub requests: Requests,
    /// What its input waits for, if it does.
    pub waits_for: Option<WaitsFor>,
    /// How far its end has come.
    pub ending: Ending,
    /// When the peer was last heard of, or seen to read, in time that the shard was there to see.
    pub last_active: Tick,
    /// The protocol that it speaks.
    pub stage: Stage,
    /// What waits to be sent.
    pub outbox: Outbox,
}

const _: () = assert!(size_of::<Connection>() <= 64);

impl Connection {
    /// Its direct descriptor.
    pub fn slot(&self) -> Slot {
        self.slot_and_marks & (SLOTS_MAX - 1)
    }

    /// All its marks.
    pub fn marks(&self) -> Marks {
        Marks::from_bits_truncate(self.slot_and_marks)
    }

    /// Whether it has one of these marks.
    pub fn has(&self, marks: Marks) -> bool {
        self.marks().intersects(marks)
    }

    /// Gives it these marks.
    pub fn mark(&mut self, marks: Marks) {
        self.slot_and_marks |= marks.bits();
    }

    /// Takes these marks from it.
    pub fn unmark(&mut self, marks: Marks) {
        self.slot_and_marks &= !marks.bits();
    }

    /// Gives it these marks or takes them from it.
    pub fn set_mark(&mut self, marks: Marks, is_set: bool) {
        match is_set {
            true => self.mark(marks),
            false => self.unmark(marks),
        }
    }

    /// Whether a receive or poll may be started: none is under way, and input is wanted.
    pub fn may_receive(&self) -> bool {
        !self.requests.intersects(Requests::RECEIVE | Requests::POLL)
            && self.waits_for.is_none()
            && !self.has(Marks::PEER_FINISHED | Marks::STARVED)
            && !self.ending.is_over()
    }

    /// Whether it can move, as far as it knows: unless it is being closed, or has been. Streams
    /// stay, as luggage does not tell what framing they have, and so does whoever waits for an
    /// answer that comes to this shard.
    pub(super) fn may_move(&self) -> bool {
        self.ending == Ending::Open
            && !self.stage.is_ended()
            && self.stage.stream().is_none()
            && !self.stage.is_of_session()
            && !matches!(self.waits_for, Some(WaitsFor::Judgement | WaitsFor::Home))
    }

    /// Whether messages of its peer may be on their way to other shards.
    pub(super) fn may_publish(&self) -> bool {
        self.stage.websocket().is_none() || self.has(Marks::SUBSCRIBED)
    }

    /// Whether its input waits, or waits for a buffer.
    pub fn is_held_up(&self) -> bool {
        self.waits_for.is_some() || self.has(Marks::STARVED)
    }

    /// Whether a request has arrived that waits for those before it, or for what others say of it.
    pub fn is_put_off(&self) -> bool {
        use WaitsFor::{Handshake, Home, Judgement, Owner, Request};
        matches!(self.waits_for, Some(Request | Handshake | Judgement | Owner | Home))
    }

    /// Whether something is queued for the peer, or being sent.
    pub fn has_output(&self) -> bool {
        self.requests.contains(Requests::SEND) || !self.outbox.is_empty() || self.has(Marks::SEALED)
    }

    /// Whether it is a WebSocket whose end is still to be counted. That happens once: when the
    /// WebSocket tells its end or, if that comes first, when the end of the connection begins.
    pub fn owes_close(&self) -> bool {
        self.stage.owes_close() && !self.ending.has_begun()
    }

    /// How long ago the message began that has not ended.
    pub fn message_age(&self, now: Tick) -> Option<Tick> {
        let age_s = self.stage.websocket()?.message_age_s(seconds(now))?;
        Some(ticks_of_seconds(age_s))
    }

    /// Ticks until silence is to be looked for: none once a round has begun in which it was not.
    pub(super) fn look_left(&self, check: SilenceCheck, now: Tick, index: u32) -> Tick {
        let is_odd = check.round(now, index) % 2 == 1;
        if self.has(Marks::ODD_ROUND) == is_odd { check.left(now, index) } else { 0 }
    }

    /// Silence is looked for again when another round has begun.
    pub(super) fn note_look(&mut self, check: SilenceCheck, now: Tick, index: u32) {
        self.set_mark(Marks::ODD_ROUND, check.round(now, index) % 2 == 1);
    }

    /// Gives back what compresses its messages, and tells how many bytes that was.
    pub fn release_deflater(&mut self) -> usize {
        self.stage.websocket_mut().map_or(0, WebSocket::release_deflater)
    }
}

/// The connections of one shard, by index.
pub struct Connections {
    slab: Slab<Connection>,
    next_generation: u32,
    places: usize,
}

impl Connections {
    /// Room for `capacity` connections: address space, of which only used entries cost memory.
    pub fn new(capacity: usize) -> Self {
        Self { slab: Slab::with_capacity(capacity), next_generation: 0, places: 0 }
    }

    /// Adds a fresh connection.
    pub fn insert(&mut self, slot: Slot, now: Tick) -> Key {
        let generation = self.next_generation;
        self.next_generation = (generation + 1) % Key::GENERATIONS;
        debug_assert!(slot < SLOTS_MAX, "a slot of the largest table");
        let index = self.slab.insert(Connection {
            slot_and_marks: slot,
            generation,
            requests: Requests::empty(),
            waits_for: None,
            ending: Ending::Open,
            last_active: now,
            stage: Stage::default(),
            outbox: Outbox::default(),
        });
        self.places = self.places.max(index + 1);
        Key { index: index as u32, generation }
    }

    /// The connection named by a completion, unless that tenant is gone.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Connection> {
        let connection = self.slab.get_mut(key.index as usize)?;
        (connection.generation == key.generation).then_some(connection)
    }

    /// The same, to be looked at.
    pub fn get(&self, key: Key) -> Option<&Connection> {
        let connection = self.slab.get(key.index as usize)?;
        (connection.generation == key.generation).then_some(connection)
    }

    /// The connection at `index`, with its key.
    pub fn at(&mut self, index: u32) -> Option<(Key, &mut Connection)> {
        let connection = self.slab.get_mut(index as usize)?;
        Some((Key { index, generation: connection.generation }, connection))
    }

    /// Forgets a connection whose slot is free.
    pub fn remove(&mut self, key: Key) -> Option<Connection> {
        self.get_mut(key)?;
        self.slab.try_remove(key.index as usize)
    }

    /// The keys of all connections.
    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// All connections, with their keys.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Connection)> {
        self.slab.iter().map(|(index, connection)| {
            (Key { index: index as u32, generation: connection.generation }, connection)
        })
    }

    /// All connections, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slab.iter_mut().map(|(_, connection)| connection)
    }

    /// Places that are or were in use: all indices lie below.
    pub fn places(&self) -> usize {
        self.places
    }

    /// Connections that hold a slot.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether no connection holds a slot.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}
