//! Connections whose input waits, each for exactly one thing that will let it go on.
//!
//! | waits for | flag | who lets it go on |
//! |---|---|---|
//! | memory | [`Flags::AWAITS_MEMORY`] | the measurement that finds enough |
//! | room in the broadcast ring | [`Flags::AWAITS_RING`] | the tick that finds some, in turn |
//! | its peer to read | [`Flags::AWAITS_PEER`] | the send that leaves little enough |
//! | its turn | [`Flags::AWAITS_TURN`] | the next tick, as far as it reaches |
//!
//! Whoever goes on and finds that it has to wait again waits at the end of its list, perhaps for
//! something else than before.

use super::Shard;
use super::connections::{Connection, Flags};
use super::receive::SHARE_MOST;
use crate::hub::interest::Fullness;
use crate::io::{Io, Key};
use crate::websocket::Pause;

impl<I: Io> Shard<I> {
    /// What the messages of a connection have to wait for; nothing if they may begin.
    pub(super) fn obstacle(&self, key: Key, connection: &Connection) -> Option<Flags> {
        let takes_memory = connection.stage.is_open() || connection.stage.has_upload();
        if self.is_short_of_memory && takes_memory {
            return Some(Flags::AWAITS_MEMORY);
        }
        if !connection.flags.contains(Flags::SUBSCRIBED) {
            let is_behind = connection.outbox.held_bytes() > self.backlog_bytes();
            return is_behind.then_some(Flags::AWAITS_PEER);
        }
        // What a subscriber does not read is the business of the policy for slow consumers, and
        // must not keep it from publishing.
        if !self.overflow.is_empty() {
            Some(Flags::AWAITS_RING)
        } else {
            let topic = self.broadcast_topic(key)?;
            let is_too_full = self.topics.fullness(topic) >= connection.too_full();
            is_too_full.then_some(Flags::AWAITS_TURN)
        }
    }

    /// Why a WebSocket that paused has to wait, having found this `obstacle` before.
    pub(super) fn reason_to_wait(
        &mut self,
        key: Key,
        pause: Pause,
        obstacle: Option<Flags>,
    ) -> Flags {
        let Some(connection) = self.connections.get_mut(key) else { return Flags::AWAITS_TURN };
        let is_blocked = connection.stage.blocked_topic().is_some();
        let sends = connection.flags.contains(Flags::SENDING) || !connection.outbox.is_empty();
        match (pause, obstacle) {
            (Pause::Room, Some(obstacle)) => obstacle,
            (Pause::Room, None) if is_blocked && !self.overflow.is_empty() => Flags::AWAITS_RING,
            (Pause::Room, None) if is_blocked => Flags::AWAITS_TURN,
            (Pause::Room, None) if sends => Flags::AWAITS_PEER,
            (Pause::Room | Pause::Turn, _) => Flags::AWAITS_TURN,
        }
    }

    /// Stops taking input of a connection, for one `reason`.
    pub(super) fn pause(&mut self, key: Key, reason: Flags) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        debug_assert!(!connection.flags.intersects(Flags::AWAITS), "waits once");
        connection.flags.insert(reason);
        let is_heavy = connection.flags.contains(Flags::HEAVY);
        let stats = self.shared.stats.shard(self.number);
        match reason {
            Flags::AWAITS_MEMORY => {
                self.waiting_for_memory.push(key);
                stats.receives_paused.add(1);
            }
            Flags::AWAITS_RING => {
                self.waiting_for_ring.push(key, is_heavy);
                stats.ring_full.add(1);
            }
            Flags::AWAITS_TURN => {
                self.waiting_for_turn.push(key, is_heavy);
                self.held_back += usize::from(self.is_held_back(key));
                stats.turns_deferred.add(1);
            }
            _ => {
                debug_assert_eq!(reason, Flags::AWAITS_PEER);
                debug_assert!(
                    connection.flags.contains(Flags::SENDING) || !connection.outbox.is_empty(),
                    "a send will end the wait"
                );
                stats.receives_paused.add(1);
            }
        }
    }

    /// Whether a connection waits for nothing but another shard, on which its topic is full.
    fn is_held_back(&self, key: Key) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        if let Some(topic) = connection.stage.blocked_topic() {
            return self.topics.is_full_elsewhere_alone_by_name(topic);
        }
        connection.flags.contains(Flags::HEAVY)
            && self
                .broadcast_topic(key)
                .is_some_and(|topic| self.topics.is_full_elsewhere_alone(topic))
    }

    /// Lets those go on whose turn it is, as far as this tick's budget reaches, but at least one.
    pub(super) fn resume_whose_turn_it_is(&mut self) {
        let mut line = std::mem::take(&mut self.waiting_for_turn);
        self.held_back = 0;
        while let Some(key) = line.pop() {
            self.resume_if(key, Flags::AWAITS_TURN, SHARE_MOST);
            if self.turn.is_spent() {
                break;
            }
        }
        // Those who wait again wait behind those who have not had their turn.
        line.append(&mut self.waiting_for_turn);
        self.waiting_for_turn = line;
    }

    /// Lets those go on who wait for the broadcast ring, one after the other for as long as it has
    /// room: each takes no more than its share before the next.
    pub(super) fn resume_for_ring(&mut self) {
        self.drain_overflow();
        let mut line = std::mem::take(&mut self.waiting_for_ring);
        while self.overflow.is_empty()
            && let Some(key) = line.pop()
        {
            self.resume_if(key, Flags::AWAITS_RING, RING_SHARE);
            if self.turn.is_spent() {
                break;
            }
        }
        line.append(&mut self.waiting_for_ring);
        self.waiting_for_ring = line;
    }

    /// A close frame has been queued: the peer's answer is let in however short memory is.
    pub(super) fn resume_what_is_closing(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.flags.contains(Flags::AWAITS_MEMORY) && !connection.stage.is_open() {
            connection.flags.remove(Flags::AWAITS);
            self.pause(key, Flags::AWAITS_TURN);
        }
    }

    /// Lets all go on who waited for memory.
    pub(super) fn resume_for_memory(&mut self) {
        for key in std::mem::take(&mut self.waiting_for_memory) {
            self.resume_if(key, Flags::AWAITS_MEMORY, SHARE_MOST);
        }
    }

    /// A send has completed: lets the connection go on if its peer has read enough.
    pub(super) fn resume_for_peer(&mut self, key: Key) -> bool {
        let low_water_bytes = self.backlog_bytes() / 2;
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let has_read_enough = connection.flags.contains(Flags::AWAITS_PEER)
            && connection.outbox.held_bytes() <= low_water_bytes;
        has_read_enough && self.resume_if(key, Flags::AWAITS_PEER, SHARE_MOST)
    }

    /// Whether somebody can go on without anything having to happen before.
    pub(super) fn has_work_left(&self) -> bool {
        let can_enter_ring = self.overflow.is_empty() && !self.waiting_for_ring.is_empty();
        can_enter_ring
            || self.waiting_for_turn.len() > self.held_back
            || !self.dirty.is_empty()
            || !self.expired.is_empty()
            || self.topics.has_pending()
    }

    /// Whether input of a connection waits until that goes on.
    pub fn has_pending_input(&self, key: Key) -> bool {
        self.pending_input.contains(key.index)
    }

    /// The lists of those who wait, each with the flag of its members.
    pub fn waiting_lists(&self) -> [(Flags, Vec<Key>); 4] {
        [
            (Flags::AWAITS_RING, self.waiting_for_ring.keys()),
            (Flags::AWAITS_MEMORY, self.waiting_for_memory.clone()),
            (Flags::AWAITS_TURN, self.waiting_for_turn.keys()),
            (Flags::STARVED, self.starved.keys()),
        ]
    }

    /// Lets a connection go on, unless it has been told to already.
    fn resume_if(&mut self, key: Key, reason: Flags, share: usize) -> bool {
        let waits = self.connections.get_mut(key).is_some_and(|it| it.flags.contains(reason));
        if waits {
            self.resume(key, share);
        }
        waits
    }
}

impl Connection {
    /// How full a topic must be for this publisher to wait. Whoever sends little adds little, and
    /// is held up later than those who send much.
    pub(super) fn too_full(&self) -> Fullness {
        match self.flags.contains(Flags::HEAVY) {
            true => Fullness::Full,
            false => Fullness::VeryFull,
        }
    }
}

/// What a publisher may do before the next that waits for the broadcast ring, in units of a budget:
/// some hundred small messages, so that whoever has few does not wait long.
const RING_SHARE: usize = 64 << 10;
