//! Connections that go on with another shard: the socket by `MSG_RING`, everything else by mail.
//!
//! ```text
//! shard that has it                              shard that gets it
//! takes a place for the letter and one for its
//! answer; ends the receive or the poll; lets
//! the send end; keeps what still arrives
//! hand_over ------------------- socket --------> Adopted: waits for the letter
//! HandedOver: closes its slot;
//! the move is pending --------- Traveller -----> goes on with both
//! no longer pending <---------- Arrived -------
//! ```
//!
//! Until the socket is handed over the connection can stay: then it goes on where it was, with what
//! has arrived meanwhile. From then on its state has one owner at a time, so nothing is lost or
//! done twice. While it moves the first shard holds it as `Ending::Leaving`, so that nothing else
//! is begun with it.
//!
//! What goes along is all that the connection is in the middle of: requests and messages in pieces,
//! input that waits, and what is queued for its peer, as far as a letter may hold it. A send that
//! is in flight ends before the socket is handed over; if its peer does not read, the connection
//! stays. So does one whose end has begun (`Ending`): it has its deadline here, and is gone soon.
//!
//! What one shard publishes reaches each other shard in its order, but what two publish may
//! overtake each other. So whoever may have published leaves only when every shard has read what
//! this one had published by then: its messages keep their order wherever it goes on.
//!
//! What members of topics need besides is in `moves/members.rs`.

mod arrival;
mod members;

use std::time::Duration;

use arrival::{ARRIVAL_TIMEOUT, Arriving, Half};
pub use members::Question;
use members::{Asking, Holding, Membership};

use super::connections::{Connection, Marks};
use super::mail::Letter;
use super::outbox::luggage::Luggage;
use super::pause::WaitsFor;
use super::peers::Peer;
use super::pending::{Pending, PendingKey};
use super::rates::Due;
use super::receive::SHARE_MOST;
use super::requests::Requests;
use super::secure::Secure;
use super::send::detached;
use super::timers::Tick;
use super::{RunState, Shard, seconds, ticks_in};
use crate::connection;
use crate::hub::inbox::Place;
use crate::hub::mesh::LETTER_BYTES_MAX;
use crate::hub::topics::Subscription;
use crate::io::{BufferSlice, Errno, Io, Key, Ticket};
use crate::websocket::WebSocket;

/// All of a connection but its socket.
pub struct Traveller {
    ticket: Ticket,
    protocol: connection::Stage,
    peer: Peer,
    secure: Option<Box<Secure>>,
    marks: Marks,
    /// What has arrived and is not used yet.
    input: Vec<u8>,
    /// What waits to be sent.
    luggage: Luggage,
    /// Ticks since the connection was opened.
    age: Tick,
    /// Ticks since the peer was last heard of, and since its last message.
    silence: Tick,
    message_silence: Tick,
    /// When it may send more, by the clock of all shards.
    due: Due,
    /// Ticks until the connection reaches its maximum lifetime.
    lifetime_left: Option<Tick>,
    /// Ticks until the deadline that it had, of which a request knows nothing itself.
    deadline_left: Tick,
    /// The clock that the WebSocket has counted by.
    now_s: u16,
    /// Messages that policies kept from it.
    dropped: u64,
    membership: Option<Membership>,
    move_key: PendingKey,
    answer: Place<Letter>,
}

/// The moves of one shard, both ways.
pub(super) struct Moves {
    /// Members of topics that are to leave as soon as these are held for them.
    asking: Pending<Asking>,
    leaving: Vec<Leaving>,
    /// Connections that have left and not arrived, as far as this shard knows.
    pending: Pending<Departed>,
    arriving: Vec<Arriving>,
    /// What is held for members that are to come.
    holding: Vec<Holding>,
    next_serial: u32,
    /// When a shard that ends does so whatever is on its way to it.
    end_by: Option<Tick>,
}

/// What has been taken for a move.
struct Departure {
    key: Key,
    ticket: Ticket,
    /// For the letter, and what that may hold.
    place: Place<Letter>,
    letter_bytes_most: usize,
    answer: Place<Letter>,
}

/// A connection that has not left yet.
struct Leaving {
    departure: Departure,
    stash: Vec<u8>,
    /// The deadline that it had.
    deadline: Option<Tick>,
    /// When it stays after all, unless its socket is being handed over then.
    stay_at: Tick,
    /// How far the others have to read this shard's ring before.
    published: u64,
    /// How far this shard has to read, because from there on its topics are held for it.
    held_from: Option<Box<[u64]>>,
    /// Whether that is what it waits for.
    awaits_readers: bool,
    is_poll_cancelled: bool,
    /// Whether it has been given up while its socket was handed over, and then whether with a
    /// reset.
    given_up: Option<bool>,
}

/// A connection that has left.
struct Departed {
    /// The shard that it went to.
    to: usize,
    /// Whether it still counts as an open WebSocket here.
    is_web_socket: bool,
}

impl Moves {
    pub(super) fn new() -> Self {
        Self {
            asking: Pending::new(MOVES_MOST),
            leaving: Vec::new(),
            pending: Pending::new(MOVES_MOST),
            arriving: Vec::new(),
            holding: Vec::new(),
            next_serial: 0,
            end_by: None,
        }
    }

    /// Connections on their way from this shard.
    pub(super) fn under_way(&self) -> usize {
        self.asking.len() + self.leaving.len() + self.pending.len()
    }

    /// Whether as many connections are on their way from this shard as may be.
    fn is_full(&self) -> bool {
        self.under_way() >= MOVES_MOST
    }

    /// Whether no connection is on its way from or to this shard, as far as it knows.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way() == 0 && self.arriving.is_empty() && self.holding.is_empty()
    }

    /// Sees to it that a shard that ends does not wait for ever for what others have begun.
    pub(super) fn end_by(&mut self, now: Tick) {
        self.end_by = Some(now + ticks_in(ARRIVAL_TIMEOUT));
    }

    /// When to look at the deadlines at the latest: each tick while one half waits for the other.
    pub(super) fn next_tick(&self, now: Tick) -> Option<Tick> {
        let awaits_others = !self.arriving.is_empty() || !self.holding.is_empty();
        let leaving = self.leaving.iter().map(|leaving| leaving.stay_at.max(now + 1));
        let pending = [self.asking.next_tick(), self.pending.next_tick()].into_iter().flatten();
        leaving.chain(awaits_others.then_some(now + 1)).chain(pending).min()
    }

    /// Whether one waits for nothing but other shards, which tell nobody when they have read.
    pub(super) fn awaits_readers(&self) -> bool {
        self.leaving.iter().any(|leaving| leaving.awaits_readers)
    }

    fn leaving(&mut self, key: Key) -> Option<&mut Leaving> {
        self.leaving.iter_mut().find(|leaving| leaving.departure.key == key)
    }

    fn take_leaving(&mut self, key: Key) -> Option<Leaving> {
        let place = self.leaving.iter().position(|leaving| leaving.departure.key == key)?;
        Some(self.leaving.swap_remove(place))
    }

    fn take_arriving(&mut self, ticket: Ticket) -> Option<Half> {
        let place = self.arriving.iter().position(|arriving| arriving.ticket == ticket)?;
        Some(self.arriving.swap_remove(place).half)
    }
}

impl<I: Io> Shard<I> {
    /// Begins to move a connection to the shard `to`. False when that cannot be now: the connection
    /// is being closed, more waits for it than a letter may hold, too many are on their way, or the
    /// kernel cannot.
    pub fn move_to(&mut self, key: Key, to: usize) -> bool {
        let may_leave = self.run_state == RunState::Serving && self.io.can_hand_over();
        if !may_leave || to == self.number || self.moves.is_full() {
            return false;
        }
        let connection = self.connections.get(key);
        let Some(connection) = connection.filter(|connection| self.may_move(key, connection))
        else {
            return false;
        };
        let is_member = connection.has(Marks::SUBSCRIBED);
        let room_bytes = if is_member { MEMBER_ROOM_BYTES } else { 0 };
        let letter_bytes = self.letter_bytes(key, connection) + room_bytes;
        let Ok(bytes) = u32::try_from(letter_bytes) else { return false };
        let Ok(answer) = self.endpoint.take_place(self.number, 0) else { return false };
        let Ok(place) = self.endpoint.take_place(to, bytes) else { return false };
        self.moves.next_serial = self.moves.next_serial.wrapping_add(1);
        let ticket = Ticket { from: self.number as u32, serial: self.moves.next_serial };
        let letter_bytes_most = letter_bytes + STASH_BYTES_MOST;
        let departure = Departure { key, ticket, place, answer, letter_bytes_most };
        if is_member {
            return self.ask_to_hold(departure);
        }
        self.begin_to_leave(departure, None);
        true
    }

    /// Ends what is under way for a connection that is to move.
    fn begin_to_leave(&mut self, departure: Departure, held_from: Option<Box<[u64]>>) {
        let key = departure.key;
        self.moves.leaving.push(Leaving {
            departure,
            stash: Vec::new(),
            deadline: self.wheel.deadline_of(key.index),
            stay_at: self.now + ticks_in(LEAVING_TIMEOUT),
            published: self.topics.published(),
            held_from,
            awaits_readers: false,
            is_poll_cancelled: false,
            given_up: None,
        });
        self.wheel.cancel(key.index);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.release_deflater();
        connection.ending.leave();
        let io = &mut self.io;
        connection.outbox.detach(|segment| detached(io, segment));
        self.settle(key);
    }

    /// Whether a connection can move, should there be a place for the letter.
    pub(super) fn may_move(&self, key: Key, connection: &Connection) -> bool {
        connection.may_move()
            && !self.is_shaking_hands(key)
            && !self.sessions.contains(key.index)
            && self.letter_bytes(key, connection) <= LETTER_BYTES_MAX as usize
    }

    /// What a letter would have to hold for a connection to move now.
    fn letter_bytes(&self, key: Key, connection: &Connection) -> usize {
        size_of::<Traveller>()
            + connection.stage.held_bytes()
            + connection.stage.websocket().map_or(0, WebSocket::busy_deflater_bytes)
            + connection.outbox.held_bytes()
            + self.pending_input.bytes(key.index)
            + self.secured.held_bytes(key.index)
            + match self.topics.of(key.index).count() {
                0 => 0,
                topics => {
                    let positions = self.effective.config.engine.shards + 1;
                    topics * size_of::<Subscription>() + positions * size_of::<u64>()
                }
            }
    }

    /// Goes on with a connection that is to move.
    pub(super) fn settle_leaving(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        let letter_bytes = self.letter_bytes(key, connection);
        let may_publish = connection.may_publish();
        let positions = self.positions();
        let (leaving, connection) = (self.moves.leaving(key), self.connections.get_mut(key));
        let Some((leaving, connection)) = leaving.zip(connection) else {
            debug_assert!(false, "whoever leaves is listed");
            return;
        };
        let (requests, slot) = (connection.requests, connection.slot());
        leaving.awaits_readers = false;
        if requests.contains(Requests::RECEIVE) && !requests.contains(Requests::RECEIVE_CANCELLED) {
            connection.requests.begin(Requests::RECEIVE_CANCELLED);
            self.io.cancel_receive(key);
        } else if requests.contains(Requests::POLL) && !leaving.is_poll_cancelled {
            leaving.is_poll_cancelled = true;
            self.io.cancel_poll(key);
        } else if requests.is_any_under_way() {
            // It goes on when that has ended.
        } else if letter_bytes + leaving.stash.len() > leaving.departure.letter_bytes_most {
            // Too much has come meanwhile, from its peer or for it.
            self.stay(key);
        } else if leaving.must_wait(&positions)
            || may_publish && !self.endpoint.is_read_up_to(leaving.published)
        {
            leaving.awaits_readers = true;
        } else {
            let (ticket, to) = (leaving.departure.ticket, leaving.departure.place.receiver());
            connection.requests.begin(Requests::HAND_OVER);
            self.io.hand_over(key, slot, to, ticket);
        }
    }

    /// Goes on with those who wait for other shards, and gives up the moves that take too long: a
    /// peer that does not read holds up its send.
    pub(super) fn continue_leaving(&mut self) {
        if self.moves.under_way() == 0 {
            return;
        }
        self.expire_questions();
        let now = self.now;
        for place in (0..self.moves.leaving.len()).rev() {
            let Some(leaving) = self.moves.leaving.get(place) else { continue };
            let (key, is_late) = (leaving.departure.key, leaving.stay_at <= now);
            if leaving.awaits_readers {
                self.settle(key);
            }
            if is_late && !self.is_handing_over(key) {
                self.stay(key);
            }
        }
    }

    fn is_handing_over(&self, key: Key) -> bool {
        self.connections.get(key).is_some_and(|it| it.requests.contains(Requests::HAND_OVER))
    }

    /// Keeps what still arrives for a connection that is to move.
    pub(super) fn keep_for_move(&mut self, key: Key, slice: BufferSlice) {
        if self.moves.leaving(key).is_none() {
            return self.io.release(slice);
        }
        let bytes = self.opened(key, slice);
        if let Some(leaving) = self.moves.leaving(key) {
            leaving.stash.extend_from_slice(&bytes);
        }
    }

    /// A connection that is to move shall end instead: here, unless its socket is on its way.
    pub(super) fn give_up_leaving(&mut self, key: Key, reset: bool) {
        if let Some(leaving) = self.moves.leaving(key) {
            leaving.given_up.get_or_insert(reset);
            if !self.is_handing_over(key) {
                self.stay(key);
            }
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
                    if let Some(leaving) = self.moves.leaving(key) {
                        leaving.given_up.get_or_insert(false);
                    }
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
        let Leaving { departure, stash, deadline, .. } = leaving;
        let Departure { ticket, place, answer, .. } = departure;
        let (now, served) = (self.now, self.served);
        let membership = self.take_out(key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_web_socket = connection.stage.websocket().is_some();
        if connection.stage.is_kept_alive() {
            self.shared.stats.shard(self.number).plain_kept_alive.subtract(1);
        }
        let departed = Departed { to: place.receiver(), is_web_socket };
        let Ok(move_key) = self.moves.pending.insert(departed, now + ticks_in(ARRIVAL_TIMEOUT))
        else {
            debug_assert!(false, "there is room for as many as may leave");
            return;
        };
        let (mut input, start) = self.pending_input.take(key.index);
        input.drain(..start);
        input.extend_from_slice(&stash);
        let traveller = Traveller {
            ticket,
            protocol: std::mem::take(&mut connection.stage),
            peer: self.peers.take(key.index),
            secure: self.secured.take(key.index),
            marks: connection.marks() & Marks::TRAVEL,
            input,
            luggage: connection.outbox.pack(),
            age: self.measures.age(key.index, now),
            silence: served.saturating_sub(connection.last_active),
            message_silence: self.wanted.silence(key.index, served),
            due: self.rates.due(key.index),
            lifetime_left: self.lifetimes.end_of(key.index).map(|end| end.saturating_sub(now)),
            deadline_left: deadline.map_or(0, |deadline| deadline.saturating_sub(now)),
            now_s: seconds(now),
            dropped: self.ledger.of(key),
            membership,
            move_key,
            answer,
        };
        // Without its state it is no WebSocket: nobody counts its end here, where it counts as open
        // until it has arrived.
        connection.ending.doom();
        self.wheel.cancel(key.index);
        self.endpoint.post(place, Letter::Traveller(Box::new(traveller)));
        self.settle(key);
    }

    /// Goes on with a connection that does not move after all, unless it has been given up.
    fn stay(&mut self, key: Key) {
        let Some(leaving) = self.moves.take_leaving(key) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.ending.stay();
        self.pending_input.append(key.index, &leaving.stash);
        if leaving.held_from.is_some() {
            let Departure { ticket, place, .. } = leaving.departure;
            self.endpoint.post(place, Letter::Stays(ticket));
        }
        match leaving.given_up {
            Some(reset) => self.doom(key, reset),
            None => self.go_on(key, leaving.deadline.unwrap_or(self.now)),
        }
    }

    /// Lets a connection go on, here or after a move, with what has arrived meanwhile; a request
    /// with the `deadline` that it had.
    fn go_on(&mut self, key: Key, deadline: Tick) {
        // Nothing of this is looked at on the way.
        self.close_if_revoked(key);
        self.keep_to_user_limit(key);
        let Some(connection) = self.connections.get(key) else { return };
        if connection.stage.is_request() {
            self.wheel.schedule(key.index, deadline);
        } else if connection.stage.is_closing() {
            self.wheel.schedule(key.index, self.now + self.close_look());
        } else if self.run_state == RunState::Serving {
            self.schedule_open(key);
        } else {
            // It missed its moment within the drain window.
            self.wheel.schedule(key.index, self.now + 1);
        }
        let Some(connection) = self.connections.get(key) else { return };
        let is_listed = connection.waits_for.is_some_and(|reason| reason != WaitsFor::Peer);
        if connection.has_output() {
            self.mark_dirty(key);
        }
        match is_listed {
            // Its turn will come.
            true => self.settle(key),
            false => self.resume(key, SHARE_MOST),
        }
    }

    /// Whether a connection is on its way from here, or may be on its way to here.
    pub(super) fn is_moving(&self) -> bool {
        let is_overdue = self.moves.end_by.is_some_and(|end_by| self.now >= end_by);
        !self.moves.is_empty() || !self.endpoint.is_inbox_quiet() && !is_overdue
    }
}

/// Connections on their way from one shard at a time. Few in debug builds, so that tests see all
/// places taken.
const MOVES_MOST: usize = if cfg!(debug_assertions) { 4 } else { 32 };
/// Bytes that may come for a connection while its requests end: what goes along in the letter
/// beyond what its place was taken for.
const STASH_BYTES_MOST: usize = 4096;
/// What may be published to a member while it leaves, which is not sent any more.
const MEMBER_ROOM_BYTES: usize = 16 << 10;
/// How long the requests of a connection may take to end, and the other shards to read what it has
/// published: so long nothing is sent to it, nor taken of it.
const LEAVING_TIMEOUT: Duration = Duration::from_millis(200);
