//! Connections that go on with another shard: the socket by `MSG_RING`, everything else by mail.
//!
//! ```text
//! shard that has it                              shard that gets it
//! takes a place for the letter and one for its
//! answer; ends the receive or the poll; keeps
//! what still arrives
//! hand_over ------------------- socket --------> Adopted: waits for the letter
//! HandedOver: closes its slot;
//! the move is pending --------- Traveller -----> goes on with both
//! no longer pending <---------- Arrived -------
//! ```
//!
//! Until the socket is handed over the connection can stay: then it goes on where it was, with what
//! has arrived meanwhile. From then on its state has one owner at a time, so nothing is lost or
//! done twice. While it moves the first shard holds it as [`Ending::Leaving`], so that nothing else
//! is begun with it.
//!
//! What is not moved: whoever is not an open WebSocket, is being sent something, waits for
//! something, or is a member of a topic, because each shard is elsewhere in the broadcast rings: it
//! would miss messages, or get some twice.

use std::time::Duration;

use super::connections::{Connection, Marks};
use super::ending::Ending;
use super::mail::Letter;
use super::pending::{Pending, PendingKey};
use super::receive::SHARE_MOST;
use super::requests::Requests;
use super::timers::Tick;
use super::{RunState, Shard, seconds, ticks_in};
use crate::connection;
use crate::hub::inbox::Place;
use crate::io::{BufferSlice, Errno, Io, Key, Slot, Ticket};
use crate::websocket::{Initiator, WebSocket};
use crate::wire::close::CloseCode;

/// All of a connection but its socket.
pub struct Traveller {
    ticket: Ticket,
    protocol: connection::Stage,
    marks: Marks,
    /// What has arrived and is not used yet.
    stash: Vec<u8>,
    /// Ticks since the connection was opened.
    age: Tick,
    /// Ticks since the peer was last heard of, and since its last message.
    silence: Tick,
    message_silence: Tick,
    /// Ticks until the connection reaches its maximum lifetime.
    lifetime_left: Option<Tick>,
    /// The clock that the WebSocket has counted by.
    now_s: u16,
    move_key: PendingKey,
    answer: Place<Letter>,
}

/// The moves of one shard, both ways.
pub(super) struct Moves {
    leaving: Vec<Leaving>,
    /// Connections that have left and not arrived, as far as this shard knows; the number of the
    /// shard that they went to. They still count as open here.
    pending: Pending<usize>,
    arriving: Vec<Arriving>,
    next_serial: u32,
    /// When a shard that ends does so whatever is on its way to it.
    end_by: Option<Tick>,
}

/// A connection that has not left yet.
struct Leaving {
    key: Key,
    ticket: Ticket,
    place: Place<Letter>,
    answer: Place<Letter>,
    stash: Vec<u8>,
    is_poll_cancelled: bool,
    /// Whether it has been given up meanwhile, and then whether with a reset.
    given_up: Option<bool>,
}

/// One of the two halves of a connection that is to go on here.
struct Arriving {
    ticket: Ticket,
    /// When the other half must be there.
    deadline: Tick,
    half: Half,
}

enum Half {
    Socket(Slot),
    State(Box<Traveller>),
}

impl Moves {
    pub(super) fn new() -> Self {
        Self {
            leaving: Vec::new(),
            pending: Pending::new(MOVES_MOST),
            arriving: Vec::new(),
            next_serial: 0,
            end_by: None,
        }
    }

    /// Connections on their way from this shard.
    pub(super) fn under_way(&self) -> usize {
        self.leaving.len() + self.pending.len()
    }

    /// Whether no connection is on its way from or to this shard, as far as it knows.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way() == 0 && self.arriving.is_empty()
    }

    /// Sees to it that a shard that ends does not wait for ever for what others have begun.
    pub(super) fn end_by(&mut self, now: Tick) {
        self.end_by = Some(now + ticks_in(ARRIVAL_TIMEOUT));
    }

    /// When to look at the deadlines at the latest: each tick while one half waits for the other.
    pub(super) fn next_tick(&self, now: Tick) -> Option<Tick> {
        let arriving = (!self.arriving.is_empty()).then_some(now + 1);
        arriving.into_iter().chain(self.pending.next_tick()).min()
    }

    fn leaving(&mut self, key: Key) -> Option<&mut Leaving> {
        self.leaving.iter_mut().find(|leaving| leaving.key == key)
    }

    fn take_leaving(&mut self, key: Key) -> Option<Leaving> {
        let place = self.leaving.iter().position(|leaving| leaving.key == key)?;
        Some(self.leaving.swap_remove(place))
    }

    fn take_arriving(&mut self, ticket: Ticket) -> Option<Half> {
        let place = self.arriving.iter().position(|arriving| arriving.ticket == ticket)?;
        Some(self.arriving.swap_remove(place).half)
    }
}

impl<I: Io> Shard<I> {
    /// Begins to move a connection to the shard `to`. False when that cannot be now: the connection
    /// is in the middle of something, too many are on their way, or the kernel cannot.
    pub fn move_to(&mut self, key: Key, to: usize) -> bool {
        let is_full = self.moves.under_way() >= MOVES_MOST;
        let may_leave = self.run_state == RunState::Serving && self.io.can_hand_over();
        if !may_leave || to == self.number || is_full {
            return false;
        }
        let Some(connection) = self.connections.get_mut(key).filter(|it| it.may_move()) else {
            return false;
        };
        connection.release_deflater();
        let bytes = size_of::<Traveller>() + connection.stage.held_bytes();
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        let Ok(answer) = self.endpoint.take_place(self.number, 0) else { return false };
        let Ok(place) = self.endpoint.take_place(to, bytes) else { return false };
        connection.ending.leave();
        self.wheel.cancel(key.index);
        self.moves.next_serial = self.moves.next_serial.wrapping_add(1);
        let ticket = Ticket { from: self.number as u32, serial: self.moves.next_serial };
        self.moves.leaving.push(Leaving {
            key,
            ticket,
            place,
            answer,
            stash: Vec::new(),
            is_poll_cancelled: false,
            given_up: None,
        });
        self.settle(key);
        true
    }

    /// Goes on with a connection that is to move.
    pub(super) fn settle_leaving(&mut self, key: Key) {
        let (leaving, connection) = (self.moves.leaving(key), self.connections.get_mut(key));
        let Some((leaving, connection)) = leaving.zip(connection) else {
            debug_assert!(false, "whoever leaves is listed");
            return;
        };
        let (requests, slot) = (connection.requests, connection.slot());
        if requests.contains(Requests::RECEIVE) && !requests.contains(Requests::RECEIVE_CANCELLED) {
            connection.requests.begin(Requests::RECEIVE_CANCELLED);
            self.io.cancel_receive(key);
        } else if requests.contains(Requests::POLL) && !leaving.is_poll_cancelled {
            leaving.is_poll_cancelled = true;
            self.io.cancel_poll(key);
        } else if requests.is_any_under_way() {
            // It goes on when that has ended.
        } else if leaving.given_up.is_some() || leaving.stash.len() > STASH_BYTES_MOST {
            // Whoever has sent so much meanwhile is not idle after all.
            self.stay(key);
        } else {
            let (ticket, to) = (leaving.ticket, leaving.place.receiver());
            connection.requests.begin(Requests::HAND_OVER);
            self.io.hand_over(key, slot, to, ticket);
        }
    }

    /// Keeps what still arrives for a connection that is to move.
    pub(super) fn keep_for_move(&mut self, key: Key, slice: BufferSlice) {
        if let Some(leaving) = self.moves.leaving(key) {
            leaving.stash.extend_from_slice(self.io.bytes(&slice));
        }
        self.io.release(slice);
    }

    /// A connection that is to move shall end instead.
    pub(super) fn give_up_leaving(&mut self, key: Key, reset: bool) {
        if let Some(leaving) = self.moves.leaving(key) {
            leaving.given_up.get_or_insert(reset);
        }
    }

    /// The socket has been handed over, or could not be.
    pub(super) fn handed_over(&mut self, key: Key, result: Result<(), Errno>) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.requests.end(Requests::HAND_OVER);
        }
        match result {
            Ok(()) => self.send_off(key),
            Err(errno) => {
                tracing::debug!(shard = self.number, errno, "a connection stays: not handed over");
                if errno == libc::EOVERFLOW {
                    // The other ring has the socket and was not told, for want of memory. Shut
                    // down, the stream ends for whoever else holds it.
                    self.give_up_leaving(key, false);
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.requests.begin(Requests::SHUTDOWN);
                        self.io.shutdown(key, connection.slot());
                    }
                }
                self.stay(key);
            }
        }
    }

    /// Sends the state after the socket.
    fn send_off(&mut self, key: Key) {
        let Some(leaving) = self.moves.take_leaving(key) else { return };
        let Leaving { ticket, place, answer, stash, .. } = leaving;
        let (now, served) = (self.now, self.served);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let deadline = now + ticks_in(ARRIVAL_TIMEOUT);
        let Ok(move_key) = self.moves.pending.insert(place.receiver(), deadline) else {
            debug_assert!(false, "there is room for as many as may leave");
            return;
        };
        let traveller = Traveller {
            ticket,
            protocol: std::mem::take(&mut connection.stage),
            marks: connection.marks() & Marks::TRAVEL,
            stash,
            age: self.measures.age(key.index, now),
            silence: served.saturating_sub(connection.last_active),
            message_silence: self.wanted.silence(key.index, served),
            lifetime_left: self.lifetimes.end_of(key.index).map(|end| end.saturating_sub(now)),
            now_s: seconds(now),
            move_key,
            answer,
        };
        // Without its state it is no WebSocket: nobody counts its end here, where it counts as open
        // until it has arrived.
        connection.ending.doom();
        self.endpoint.post(place, Letter::Traveller(Box::new(traveller)));
        self.settle(key);
    }

    /// Goes on with a connection that does not move after all, unless it has been given up.
    fn stay(&mut self, key: Key) {
        let Some(leaving) = self.moves.take_leaving(key) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.ending.stay();
        self.pending_input.append(key.index, &leaving.stash);
        match leaving.given_up {
            Some(reset) => self.doom(key, reset),
            None => self.go_on(key),
        }
    }

    /// Lets a connection go on, here or after a move, with what has arrived meanwhile.
    fn go_on(&mut self, key: Key) {
        match self.run_state {
            RunState::Serving => self.schedule_open(key),
            // It missed its moment within the drain window.
            RunState::Draining { .. } | RunState::Ending | RunState::Stopped => {
                self.wheel.schedule(key.index, self.now + 1);
            }
        }
        self.resume(key, SHARE_MOST);
    }

    /// Another shard has handed over a socket.
    pub(super) fn adopted(&mut self, ticket: Ticket, slot: Slot) {
        match self.moves.take_arriving(ticket) {
            Some(Half::State(traveller)) => self.arrive(slot, *traveller),
            Some(Half::Socket(_)) => debug_assert!(false, "a socket is handed over once"),
            None => self.await_half(ticket, Half::Socket(slot)),
        }
    }

    /// Another shard has sent the state of a connection.
    pub(super) fn take_traveller(&mut self, traveller: Box<Traveller>) {
        match self.moves.take_arriving(traveller.ticket) {
            Some(Half::Socket(slot)) => self.arrive(slot, *traveller),
            _ => self.await_half(traveller.ticket, Half::State(traveller)),
        }
    }

    /// A connection that has left goes on elsewhere.
    pub(super) fn has_arrived(&mut self, move_key: PendingKey) {
        if self.moves.pending.end(move_key).is_some() {
            self.stats().websockets_open.subtract(1);
            self.note_arrival(true);
        }
    }

    fn await_half(&mut self, ticket: Ticket, half: Half) {
        // In time that this shard was there: a machine that stops must not part the two halves.
        let deadline = self.served + ticks_in(ARRIVAL_TIMEOUT);
        self.moves.arriving.push(Arriving { ticket, deadline, half });
    }

    /// Both halves are here: the connection goes on.
    fn arrive(&mut self, slot: Slot, traveller: Traveller) {
        let Traveller { mut protocol, stash, marks, lifetime_left, answer, .. } = traveller;
        let (now, served) = (self.now, self.served);
        if let Some(websocket) = protocol.websocket_mut() {
            websocket.set_clock_forward(seconds(now).wrapping_sub(traveller.now_s));
        }
        let key = self.connections.insert(slot, served.saturating_sub(traveller.silence));
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.stage = protocol;
        connection.mark(marks);
        self.pending_input.append(key.index, &stash);
        if let Some(check) = self.times.ping_check {
            // The rounds of this place are others: its silence is looked for in the next.
            connection.set_mark(Marks::ODD_ROUND, check.round(now, key.index) % 2 == 1);
        }
        self.wanted.note(key.index, served.saturating_sub(traveller.message_silence));
        self.lifetimes.set(key.index, lifetime_left.map(|left| now + left));
        self.measures.opened(key.index, now.saturating_sub(traveller.age));
        self.note_connections();
        let stats = self.stats();
        stats.connections_open.add(1);
        stats.websockets_open.add(1);
        stats.connections_moved.add(1);
        self.endpoint.post(answer, Letter::Arrived(traveller.move_key));
        self.go_on(key);
        self.keep_slots_free();
    }

    /// Forgets the connections that were to go on here, and tells how many those are.
    pub(super) fn forget_arriving(&mut self) -> usize {
        let is_state = |arriving: &Arriving| matches!(arriving.half, Half::State(_));
        let states = self.moves.arriving.drain(..).filter(is_state).count();
        let letters = std::iter::from_fn(|| self.endpoint.next_letter());
        states + letters.filter(|letter| matches!(letter, Letter::Traveller(_))).count()
    }

    /// Whether a connection is on its way from here, or may be on its way to here.
    pub(super) fn is_moving(&self) -> bool {
        let is_overdue = self.moves.end_by.is_some_and(|end_by| self.now >= end_by);
        !self.moves.is_empty() || !self.endpoint.is_inbox_quiet() && !is_overdue
    }

    /// Acts on the deadlines of moves. Only the failure of a shard brings them about.
    pub(super) fn expire_moves(&mut self) {
        if self.moves.is_empty() {
            return;
        }
        for to in self.moves.pending.expire(self.now) {
            tracing::warn!(from = self.number, to, "a connection was moved and did not arrive");
            self.stats().websockets_open.subtract(1);
            self.note_arrival(false);
        }
        let served = self.served;
        let (overdue, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.moves.arriving)
            .into_iter()
            .partition(|arriving| arriving.deadline <= served);
        self.moves.arriving = left;
        for Arriving { half, .. } in overdue {
            match half {
                // A state without its socket can only be forgotten: that is the connection's end.
                Half::State(_) => self.stats().close(Initiator::Local, CloseCode::ABNORMAL),
                Half::Socket(slot) => {
                    let key = self.connections.insert(slot, self.served);
                    self.stats().connections_open.add(1);
                    self.doom(key, true);
                }
            }
        }
    }
}

impl Connection {
    /// Whether it can move as it is: a WebSocket that is open, between two sends, and waits for
    /// its peer alone.
    pub(super) fn may_move(&self) -> bool {
        let requests = Requests::SEND | Requests::LOOK | Requests::MEASURE | Requests::FINISH;
        let marks = Marks::STARVED | Marks::DIRTY | Marks::PEER_FINISHED | Marks::SUBSCRIBED;
        self.stage.is_open()
            && self.ending == Ending::Open
            && self.waits_for.is_none()
            && !self.requests.intersects(requests)
            && !self.has(marks)
            && !self.stage.websocket().is_some_and(WebSocket::is_recoding)
            && self.outbox.is_empty()
            && !self.outbox.is_mid_frame()
    }
}

/// Connections on their way from one shard at a time. Few in debug builds, so that tests see all
/// places taken.
const MOVES_MOST: usize = if cfg!(debug_assertions) { 4 } else { 32 };
/// Bytes that may arrive for a connection while its receive is ended: what goes along in the letter
/// beyond what its place was taken for.
const STASH_BYTES_MOST: usize = 4096;
/// How long a connection may be on its way.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);
