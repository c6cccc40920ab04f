//! The connections of one shard: 64 bytes each, in a slab that costs what is in use.

use bitflags::bitflags;
use slab::Slab;

use super::outbox::Outbox;
use super::timers::Tick;
use super::{seconds, ticks_of_seconds};
use crate::connection::Stage;
use crate::io::{Key, Slot};
use crate::websocket::WebSocket;

bitflags! {
    /// Which requests are under way, and what is to become of the connection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// A multishot receive is armed.
        const RECEIVING = 1;
        /// It has been asked to end.
        const RECEIVE_CANCELLED = 1 << 1;
        /// A one-shot poll is armed.
        const POLLING = 1 << 2;
        /// A send is in flight.
        const SENDING = 1 << 3;
        /// Both directions are being shut down.
        const SHUTTING_DOWN = 1 << 4;
        /// The reset option is being set.
        const ARMING_RESET = 1 << 5;
        /// The slot is being closed.
        const CLOSING_SLOT = 1 << 6;
        /// The sending side is being shut down, behind the last send or alone.
        const ENDING_STREAM = 1 << 7;
        /// What has arrived is being looked for.
        const LOOKING = 1 << 30;
        /// What the peer has not taken yet is being asked for.
        const MEASURING = 1 << 31;
        /// Any request that must end before the slot may be closed.
        const UNDER_WAY = 0b1111_1101 | 1 << 14 | 1 << 30 | 1 << 31;

        /// Waits for its turn to send at the end of the tick.
        const DIRTY = 1 << 8;
        /// Something has been sent since silence was last looked for.
        const HAS_SENT = 1 << 9;
        /// After what is queued, no more will be sent.
        const FINISHING = 1 << 10;
        /// Our FIN is out, or follows the send in flight.
        const FINISHED = 1 << 11;
        /// The peer's FIN is in.
        const PEER_FINISHED = 1 << 12;
        /// To be closed here as soon as nothing is under way: given up, or on its way to another
        /// shard (`shard/moves.rs`).
        const DOOMED = 1 << 13;
        /// The socket is on its way to another shard.
        const HANDING_OVER = 1 << 14;
        /// Waits for room in the broadcast ring.
        const AWAITS_RING = 1 << 15;
        /// Waits, or is about to wait, on a poll instead of a receive.
        const PARKED = 1 << 16;
        /// Waits for memory.
        const AWAITS_MEMORY = 1 << 17;
        /// Was upgraded, and counts as an open WebSocket.
        const WEBSOCKET = 1 << 18;
        /// Belongs to a topic.
        const SUBSCRIBED = 1 << 19;
        /// Its end has been counted.
        const CLOSE_COUNTED = 1 << 21;
        /// Listed among those that wait for a receive buffer.
        const STARVED = 1 << 22;
        /// Both directions have been, or are being, shut down.
        const SHUT_DOWN = 1 << 23;
        /// The last send was short: the next succeeds only when the peer has read.
        const BACKED_UP = 1 << 24;
        /// Has had its share of a tick, and waits for the next.
        const AWAITS_TURN = 1 << 25;
        /// Waits for its peer to read.
        const AWAITS_PEER = 1 << 26;
        /// No input is taken of a connection that waits for one of these, and never for two.
        const AWAITS = 1 << 15 | 1 << 17 | 1 << 25 | 1 << 26;
        /// What goes along when it moves to another shard.
        const TRAVEL = 1 << 9 | 1 << 12 | 1 << 16 | 1 << 18 | 1 << 27;
        /// The last receive brought much: it waits in the lines of those who send much.
        const HEAVY = 1 << 27;
        /// Silence was last looked for in a round with an odd number.
        const ODD_ROUND = 1 << 29;
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// Its direct descriptor.
    pub slot: Slot,
    /// Tells it from former tenants of its place.
    pub generation: u32,
    /// What is under way.
    pub flags: Flags,
    /// When the peer was last heard of, or seen to read, in time that the shard was there to see.
    pub last_active: Tick,
    /// The protocol that it speaks.
    pub stage: Stage,
    /// What waits to be sent.
    pub outbox: Outbox,
}

const _: () = assert!(size_of::<Connection>() <= 64);

impl Connection {
    /// Whether a receive or poll may be started: none is under way, and input is wanted.
    pub fn may_receive(&self) -> bool {
        let obstacles = Flags::RECEIVING
            | Flags::POLLING
            | Flags::AWAITS
            | Flags::PEER_FINISHED
            | Flags::STARVED
            | Flags::DOOMED;
        !self.flags.intersects(obstacles)
    }

    /// How long ago the message began that has not ended.
    pub fn message_age(&self, now: Tick) -> Option<Tick> {
        let age_s = self.stage.websocket()?.message_age_s(seconds(now))?;
        Some(ticks_of_seconds(age_s))
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
        let index = self.slab.insert(Connection {
            slot,
            generation,
            flags: Flags::empty(),
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
