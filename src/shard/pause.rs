//! Connections whose input waits, each for exactly one thing that will let it go on.
//!
//! | waits for | who lets it go on |
//! |---|---|
//! | [`WaitsFor::Memory`] | the measurement that finds enough |
//! | [`WaitsFor::Ring`] | the tick that finds some room, in turn |
//! | [`WaitsFor::Peer`] | the send that leaves little enough |
//! | [`WaitsFor::Turn`] | the next tick, as far as it reaches |
//! | [`WaitsFor::Rate`] | the tick from which on it may send more, which gives it its turn |
//! | [`WaitsFor::Request`] | the next tick, in the order in which requests came |
//! | [`WaitsFor::Handshake`] | the same, for handshakes of TLS |
//! | [`WaitsFor::Judgement`] | the answer of whoever is asked, or the lack of it |
//! | [`WaitsFor::Owner`] | the shard that its connection moves to, or the lack of a way there |
//! | [`WaitsFor::Home`] | the answer of the home of a channel or of a hook, or the lack of it |
//!
//! Whoever goes on and finds that it has to wait again waits at the end of its list, perhaps for
//! something else than before.

use super::Shard;
use super::connections::{Connection, Marks};
use super::receive::SHARE_MOST;
use crate::hub::interest::Fullness;
use crate::io::{Io, Key};
use crate::websocket::Pause;

/// What the input of a connection may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Memory, of which the process has too little.
    Memory,
    /// Room in the broadcast ring.
    Ring,
    /// Its peer, to read what it is sent.
    Peer,
    /// Its turn: it has had its share of a tick, or its topic has too much pending.
    Turn,
    /// The moment from which on its rates, or that of its topic, allow more.
    Rate,
    /// Requests before its own, of a shard that has too much to do.
    Request,
    /// Handshakes of TLS before its own.
    Handshake,
    /// Somebody to say whether its request is granted.
    Judgement,
    /// To go on with the shard that has the session its request is for.
    Owner,
    /// The answer to a command of its session.
    Home,
}

impl<I: Io> Shard<I> {
    /// What the messages of a connection have to wait for; nothing if they may begin.
    pub(super) fn obstacle(&self, key: Key, connection: &Connection) -> Option<WaitsFor> {
        let takes_memory = connection.stage.is_open_websocket() || connection.stage.has_upload();
        if self.is_short_of_memory && takes_memory {
            return Some(WaitsFor::Memory);
        }
        if !connection.has(Marks::SUBSCRIBED) {
            if let Some(obstacle) = self.obstacle_of_session(key) {
                return Some(obstacle);
            }
            let is_behind = connection.outbox.held_bytes() > self.backlog_bytes();
            return is_behind.then_some(WaitsFor::Peer);
        }
        // What a subscriber does not read is the business of the policy for slow consumers, and
        // must not keep it from publishing.
        if !self.overflow.is_empty() {
            Some(WaitsFor::Ring)
        } else {
            let topic = self.broadcast_topic(key)?;
            let is_too_full = self.topics.fullness(topic) >= connection.too_full();
            is_too_full.then_some(WaitsFor::Turn)
        }
    }

    /// Why a WebSocket that paused has to wait, having found this `obstacle` before.
    pub(super) fn reason_to_wait(
        &mut self,
        key: Key,
        pause: Pause,
        obstacle: Option<WaitsFor>,
    ) -> WaitsFor {
        let Some(connection) = self.connections.get_mut(key) else { return WaitsFor::Turn };
        let is_blocked = connection.stage.blocked_topic().is_some();
        match (pause, obstacle) {
            (Pause::Room, Some(obstacle)) => obstacle,
            (Pause::Room, None) if is_blocked && !self.overflow.is_empty() => WaitsFor::Ring,
            (Pause::Room, None) if is_blocked => WaitsFor::Turn,
            (Pause::Room, None) if connection.has_output() => WaitsFor::Peer,
            (Pause::Room | Pause::Turn, _) => WaitsFor::Turn,
            (Pause::Judgement, _) => WaitsFor::Judgement,
            (Pause::Owner, _) => WaitsFor::Owner,
            (Pause::Call, _) => WaitsFor::Home,
        }
    }

    /// Stops taking input of a connection, for one `reason`.
    pub(super) fn pause(&mut self, key: Key, reason: WaitsFor) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        debug_assert_eq!(connection.waits_for, None, "waits for one thing");
        connection.waits_for = Some(reason);
        let is_heavy = connection.has(Marks::HEAVY);
        let stats = self.shared.stats.shard(self.number);
        match reason {
            WaitsFor::Memory => {
                self.waiting_for_memory.push(key);
                stats.receives_paused.add(1);
            }
            WaitsFor::Ring => {
                self.waiting_for_ring.push(key, is_heavy);
                stats.ring_full.add(1);
            }
            WaitsFor::Turn => {
                self.waiting_for_turn.push(key, is_heavy);
                self.held_back += usize::from(self.is_held_back(key));
                stats.turns_deferred.add(1);
            }
            WaitsFor::Rate => self.await_rate(key),
            WaitsFor::Request => self.await_request_turn(key),
            WaitsFor::Handshake => self.await_handshake_turn(key),
            WaitsFor::Judgement => self.await_judgement(key),
            WaitsFor::Owner => self.await_owner(key),
            WaitsFor::Home => self.begin_call(key),
            WaitsFor::Peer => {
                debug_assert!(connection.has_output(), "a send will end the wait");
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
        connection.has(Marks::HEAVY)
            && self
                .broadcast_topic(key)
                .is_some_and(|topic| self.topics.is_full_elsewhere_alone(topic))
    }

    /// Lets those go on whose turn it is, as far as this tick's budget reaches, but at least one.
    pub(super) fn resume_whose_turn_it_is(&mut self) {
        let mut line = std::mem::take(&mut self.waiting_for_turn);
        self.held_back = 0;
        while let Some(key) = line.pop() {
            self.resume_if(key, WaitsFor::Turn, SHARE_MOST);
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
            self.resume_if(key, WaitsFor::Ring, RING_SHARE);
            if self.turn.is_spent() {
                break;
            }
        }
        line.append(&mut self.waiting_for_ring);
        self.waiting_for_ring = line;
    }

    /// A close frame has been queued: the peer's answer is let in however short memory is, however
    /// much has been sent, and whatever its session was to be answered.
    pub(super) fn resume_what_is_closing(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let may_end = matches!(
            connection.waits_for,
            Some(WaitsFor::Memory | WaitsFor::Rate | WaitsFor::Home)
        );
        if may_end && !connection.stage.is_open() {
            connection.waits_for = None;
            self.pause(key, WaitsFor::Turn);
        }
    }

    /// Lets all go on who waited for memory.
    pub(super) fn resume_for_memory(&mut self) {
        for key in std::mem::take(&mut self.waiting_for_memory) {
            self.resume_if(key, WaitsFor::Memory, SHARE_MOST);
        }
    }

    /// A send has completed: lets the connection go on if its peer has read enough.
    pub(super) fn resume_for_peer(&mut self, key: Key) -> bool {
        let low_water_bytes = self.backlog_bytes() / 2;
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let has_read_enough = connection.waits_for == Some(WaitsFor::Peer)
            && connection.outbox.held_bytes() <= low_water_bytes;
        has_read_enough && self.resume_if(key, WaitsFor::Peer, SHARE_MOST)
    }

    /// Whether somebody can go on without anything having to happen before.
    pub(super) fn has_work_left(&self) -> bool {
        let can_enter_ring = self.overflow.is_empty() && !self.waiting_for_ring.is_empty();
        can_enter_ring
            || self.waiting_for_turn.len() > self.held_back
            || self.overload.has_waiting()
            || self.secured.has_waiting()
            || self.inquiries.has_work()
            || self.sessions.has_work()
            || !self.dirty.is_empty()
            || !self.expired.is_empty()
            || self.orders.has_work(self.now)
            || self.peers.unseated.has_own()
            || self.topics.has_pending()
    }

    /// Whether input of a connection waits until that goes on.
    pub fn has_pending_input(&self, key: Key) -> bool {
        self.pending_input.contains(key.index)
    }

    /// The lists of those who wait, each with what its members wait for.
    pub fn waiting_lists(&self) -> [(WaitsFor, Vec<Key>); 9] {
        [
            (WaitsFor::Ring, self.waiting_for_ring.keys()),
            (WaitsFor::Memory, self.waiting_for_memory.clone()),
            (WaitsFor::Turn, self.waiting_for_turn.keys()),
            (WaitsFor::Rate, self.waiting_for_rate()),
            (WaitsFor::Request, self.overload.waiting()),
            (WaitsFor::Handshake, self.secured.waiting()),
            (WaitsFor::Judgement, self.waiting_for_judgement()),
            (WaitsFor::Home, self.waiting_for_home()),
            (WaitsFor::Owner, self.waiting_for_owners()),
        ]
    }

    /// Those who wait for a receive buffer.
    pub fn starved(&self) -> Vec<Key> {
        self.starved.keys()
    }

    /// Lets a connection go on, unless it has been told to already.
    pub(super) fn resume_if(&mut self, key: Key, reason: WaitsFor, share: usize) -> bool {
        let waits = self.connections.get_mut(key).is_some_and(|it| it.waits_for == Some(reason));
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
        match self.has(Marks::HEAVY) {
            true => Fullness::Full,
            false => Fullness::VeryFull,
        }
    }
}

/// What a publisher may do before the next that waits for the broadcast ring, in units of a budget:
/// some hundred small messages, so that whoever has few does not wait long.
const RING_SHARE: usize = 64 << 10;
