//! Sessions of SockJS that have no WebSocket: what they have to say, and to whom.
//!
//! ```text
//! request --owner elsewhere--> the connection moves there, with what has come
//!    |
//!    +--> session --frames--> the response to a request that waits, or goes on
//!            ^
//!            +-- messages of its topic, and what its client sends
//! ```
//!
//! A session is on the shard that a keyed hash of its place and its name says. A request that comes
//! to another shard moves there with its connection, where it is looked at anew: so whether one has
//! gone before the next came is decided on one ring. It is a member of its topic by a number behind
//! those of the connections.
//!
//! The connection of a request that waits, or of a response that goes on, stays one of HTTP, whose
//! next deadline is the next heartbeat. When it ends before its response, so does the session: what
//! was on its way is lost, and the client has to know. Without a request the session waits for the
//! next for as long as its mount says.
//!
//! What a session is sent waits within it when nobody is there, or nobody reads, as much as may
//! wait for a connection.

mod deliver;
mod moving;
mod websockets;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use slab::Slab;

use super::connections::{Connection, Marks};
use super::pause::WaitsFor;
use super::requests::Requests;
use super::timers::Tick;
use super::{RunState, Shard, ticks_in};
use crate::admission::Membership;
use crate::http::{Reception, Route, Serving, SessionAnswer, SessionKey, SessionRequest, Wish};
use crate::io::{Io, Key};
use crate::sockjs::frame;
use crate::sockjs::session::{Served, Session};
use crate::sockjs::transport::Transport;
use crate::wire::close::CloseCode;
use crate::wire::line::LineFraming;
use crate::wire::message::{DataMessage, MessageKind};
pub(super) use deliver::Way;
pub(super) use moving::Moving;

/// The sessions of a shard.
pub(super) struct SockJsSessions {
    /// The number of the first as a member of topics.
    first_member: u32,
    places: HashMap<SessionKey, u32>,
    sessions: Slab<Entry>,
    /// Those whose connections wait for frames, by the index of these.
    receivers: HashMap<u32, (Key, u32)>,
    /// When to look whether a session waits for its client too long, once for each.
    expiring: BinaryHeap<Reverse<(Tick, u32, SessionKey)>>,
    /// Sessions that have got something for those who wait.
    ready: Vec<u32>,
    /// Connections whose responses have as many bytes as they may.
    sated: Vec<(Key, Transport, LineFraming)>,
    moving: Moving,
}

/// A session.
struct Entry {
    key: SessionKey,
    session: Session<Key>,
    /// How its receiver is answered, or was.
    transport: Transport,
    framing: LineFraming,
    heartbeat: Tick,
    disconnect_delay: Tick,
    /// When it has waited for its client too long, unless that is there.
    expires_at: Tick,
    membership: Option<Membership>,
}

impl SockJsSessions {
    /// None yet, on a shard with so many slots.
    pub(super) fn new(slots: u32) -> Self {
        Self {
            first_member: slots,
            places: HashMap::new(),
            sessions: Slab::new(),
            receivers: HashMap::new(),
            expiring: BinaryHeap::new(),
            ready: Vec::new(),
            sated: Vec::new(),
            moving: Moving::default(),
        }
    }

    /// When there is something to do next, whatever happens.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        self.expiring.peek().map(|Reverse((tick, ..))| *tick)
    }

    /// Whether a connection is to move and waits for a place: nobody tells when there is one.
    pub(super) fn awaits_place(&self) -> bool {
        self.moving.has_waiting()
    }

    /// The session whose frames the connection gets.
    fn received_by(&self, key: Key) -> Option<u32> {
        let (receiver, place) = self.receivers.get(&key.index)?;
        (*receiver == key).then_some(*place)
    }
}

impl<I: Io> Shard<I> {
    /// A request wants something of a session that is here.
    pub(super) fn ask_session(&mut self, key: Key, request: SessionRequest) {
        let SessionRequest { session, route, wish } = request;
        match wish {
            Wish::Receive(reception) => self.receive_for_session(key, session, &route, &reception),
            Wish::Send(messages) => {
                let answer = match self.sockjs.places.get(&session).copied() {
                    Some(place) => {
                        self.take_for_session(place, &route, messages);
                        SessionAnswer::Sent
                    }
                    None => SessionAnswer::Unknown,
                };
                self.answer_for_session(key, answer);
            }
        }
    }

    fn receive_for_session(
        &mut self,
        key: Key,
        session: SessionKey,
        route: &Route,
        reception: &Reception,
    ) {
        let Reception { transport, framing, .. } = *reception;
        let known = self.sockjs.places.get(&session).copied();
        let begun = known.map_or_else(|| self.begin_sockjs(session, route, reception), Ok);
        let place = match begun {
            Ok(place) => place,
            Err(answer) => return self.answer_for_session(key, answer),
        };
        let Some(entry) = self.sockjs.sessions.get_mut(place as usize) else { return };
        if !entry.session.attach(key, transport, reception.response_bytes) {
            let frame = frame::of_close(BUSY_CODE, BUSY_REASON);
            let served = Served { frames: vec![frame], ends: true };
            return self.say_frames(key, transport, framing, served);
        }
        (entry.transport, entry.framing) = (transport, framing);
        let heartbeat = self.now + entry.heartbeat;
        self.sockjs.receivers.insert(key.index, (key, place));
        self.wheel.schedule(key.index, heartbeat);
        self.serve_session(place);
        if let Some((code, reason)) = route.closes() {
            self.close_sockjs(place, code, reason);
        }
        if transport.is_streaming()
            && let Some(connection) = self.connections.get_mut(key)
            && connection.stage.is_of_session()
        {
            // The head is not kept back until there is a frame.
            self.say_frames(key, transport, framing, Served::default());
        }
    }

    /// Begins a session, unless none may begin.
    fn begin_sockjs(
        &mut self,
        key: SessionKey,
        route: &Route,
        reception: &Reception,
    ) -> Result<u32, SessionAnswer<'static>> {
        let serving = match self.run_state {
            RunState::Serving => self.serving(),
            _ => Serving::Draining,
        };
        if serving != Serving::Open {
            return Err(SessionAnswer::NotServed(serving));
        }
        let mut membership = None;
        if let Route::Broadcast { topic, .. } = route {
            let joined = self.shared.admission.join(&self.effective.admission, topic);
            let joined = joined.map_err(SessionAnswer::NoMember)?;
            self.stats().members_untracked.add(joined.is_untracked.into());
            membership = joined.membership;
        }
        let disconnect_delay = ticks_in(reception.disconnect_delay);
        let place = self.sockjs.sessions.insert(Entry {
            key,
            session: Session::new(),
            transport: reception.transport,
            framing: reception.framing,
            heartbeat: ticks_in(reception.heartbeat),
            disconnect_delay,
            expires_at: self.now + disconnect_delay,
            membership,
        }) as u32;
        self.sockjs.places.insert(key, place);
        self.sockjs.expiring.push(Reverse((self.now + disconnect_delay, place, key)));
        if let Route::Broadcast { topic, exclude_self, .. } = route {
            let member = self.sockjs.first_member + place;
            let joined = self.topics.join(member, topic, *exclude_self);
            debug_assert!(joined.is_ok(), "a session joins one topic");
        }
        self.stats().sockjs_sessions_open.add(1);
        self.stats().sockjs_sessions_begun.add(1);
        Ok(place)
    }

    /// Takes what the client of a session has sent.
    fn take_for_session(&mut self, place: u32, route: &Route, messages: Vec<String>) {
        let count = messages.len() as u64;
        let Some(entry) = self.sockjs.sessions.get(place as usize) else { return };
        if entry.session.is_closed() {
            return;
        }
        match route {
            Route::Broadcast { .. } => {
                self.stats().broadcast_messages_in.add(count);
                let member = self.sockjs.first_member + place;
                for message in messages {
                    let message = DataMessage::new(MessageKind::Text, message.as_bytes());
                    self.publish_as(member, message);
                }
            }
            _ => {
                self.stats().echo_messages_in.add(count);
                self.stats().echo_messages_out.add(count);
                for message in messages {
                    let mut literal = String::new();
                    frame::push_literal(&message, &mut literal);
                    self.queue_for_session(place, &literal);
                    // A stream has each in a part of its own.
                    self.serve_session(place);
                }
            }
        }
    }

    /// Queues a message for a session, which ends if more waits for it than may.
    fn queue_for_session(&mut self, place: u32, literal: &str) {
        let bytes_most = self.backlog_bytes();
        let Some(entry) = self.sockjs.sessions.get_mut(place as usize) else { return };
        if entry.session.push(literal, bytes_most).is_err() {
            entry.session.drop_all();
            self.close_sockjs(place, SLOW_CODE, SLOW_REASON);
        }
    }

    /// Tells whoever waits for a session what that has to say.
    fn serve_session(&mut self, place: u32) {
        let backlog_bytes = self.backlog_bytes();
        let Some(entry) = self.sockjs.sessions.get_mut(place as usize) else { return };
        let Some(key) = entry.session.receiver() else { return };
        let is_behind =
            |connection: &Connection| connection.outbox.held_bytes() > backlog_bytes / 2;
        if self.connections.get(key).is_some_and(is_behind) {
            // It goes on when its peer has read.
            return;
        }
        let served = entry.session.serve();
        self.tell(key, place, served);
    }

    /// Sends what a session has said, whose receiver is gone if it was the last.
    fn tell(&mut self, key: Key, place: u32, served: Served) {
        let Some(entry) = self.sockjs.sessions.get(place as usize) else { return };
        let (transport, framing) = (entry.transport, entry.framing);
        if served.ends {
            self.detach(key);
        }
        if !served.frames.is_empty() {
            self.say_frames(key, transport, framing, served);
        }
    }

    /// Sends frames to the receiver of a session.
    fn say_frames(&mut self, key: Key, transport: Transport, framing: LineFraming, served: Served) {
        let Served { frames, ends } = served;
        if !transport.is_streaming() {
            debug_assert!(frames.len() == 1 && ends, "a poll gets one frame");
            if let Some(frame) = frames.first() {
                self.answer_for_session(key, SessionAnswer::Frame(frame));
            }
            return;
        }
        let last = ends.then(|| framing.last());
        self.command(key, |connection, output| {
            let parts = frames.iter().map(|frame| transport.part(frame, framing));
            connection.stage.send_parts(parts, last, output);
        });
    }

    fn answer_for_session(&mut self, key: Key, answer: SessionAnswer<'_>) {
        let retry_after_s = self.peers.retry_after.next_s();
        let mut early = Vec::new();
        self.command(key, |connection, output| {
            early = connection.stage.answer_session(answer, retry_after_s, output);
        });
        if !early.is_empty()
            && let Some(connection) = self.connections.get(key)
        {
            let is_waiting = connection.waits_for.is_some();
            let (later, start) = self.pending_input.take(key.index);
            early.extend_from_slice(&later[start..]);
            self.pending_input.put_back(key.index, early, 0);
            if !is_waiting && !connection.ending.is_over() {
                self.pause(key, WaitsFor::Turn);
            }
        }
    }

    /// The session has no receiver any more, and waits for the next.
    fn detach(&mut self, key: Key) {
        let Some((_, place)) = self.sockjs.receivers.remove(&key.index) else { return };
        if let Some(entry) = self.sockjs.sessions.get_mut(place as usize) {
            entry.session.detach();
            entry.expires_at = self.now + entry.disconnect_delay;
        }
    }

    /// Ends a session from here: each receiver is told so until nobody comes any more.
    fn close_sockjs(&mut self, place: u32, code: u16, reason: &str) {
        let Some(entry) = self.sockjs.sessions.get_mut(place as usize) else { return };
        entry.session.close(code, reason);
        // No message concerns it any more.
        self.leave_topics(place);
        self.serve_session(place);
    }

    fn leave_topics(&mut self, place: u32) {
        self.topics.leave_all(self.sockjs.first_member + place);
        if let Some(entry) = self.sockjs.sessions.get_mut(place as usize)
            && let Some(membership) = entry.membership.take()
        {
            self.shared.admission.leave(membership);
        }
    }

    /// Forgets a session.
    fn end_sockjs(&mut self, place: u32) {
        self.leave_topics(place);
        let Some(entry) = self.sockjs.sessions.try_remove(place as usize) else { return };
        self.sockjs.places.remove(&entry.key);
        if let Some(receiver) = entry.session.receiver() {
            self.sockjs.receivers.remove(&receiver.index);
        }
        self.stats().sockjs_sessions_open.subtract(1);
    }

    /// A connection ends, or its peer sends no more: if it has got frames of a session, nobody
    /// knows which have arrived, and that ends as well.
    pub(super) fn abort_session_of(&mut self, key: Key) {
        if let Some(place) = self.sockjs.received_by(key) {
            self.end_sockjs(place);
        }
    }

    /// A peer that gets frames reads too slowly: its session ends.
    pub(super) fn cut_off_session_of(&mut self, key: Key) -> bool {
        let Some(place) = self.sockjs.received_by(key) else { return false };
        self.drop_backlog(key);
        self.close_sockjs(place, SLOW_CODE, SLOW_REASON);
        true
    }

    /// A send to the peer has ended: goes on if its session has more to say than was to wait.
    pub(super) fn go_on_for_session(&mut self, key: Key) {
        if let Some(place) = self.sockjs.received_by(key)
            && self.sockjs.sessions.get(place as usize).is_some_and(|it| it.session.has_to_say())
        {
            self.serve_session(place);
        }
    }

    /// The moment for a heartbeat, if the connection gets frames of a session. A peer that has
    /// taken nothing since the last is gone.
    pub(super) fn beat_for_session(&mut self, key: Key) -> bool {
        let Some(place) = self.sockjs.received_by(key) else { return false };
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let takes_nothing =
            connection.requests.contains(Requests::SEND) && !connection.has(Marks::HAS_SENT);
        connection.unmark(Marks::HAS_SENT);
        if takes_nothing {
            self.doom(key, true);
            return true;
        }
        let Some(entry) = self.sockjs.sessions.get_mut(place as usize) else { return false };
        let heartbeat = entry.heartbeat;
        let served = entry.session.beat();
        self.wheel.schedule(key.index, self.now + heartbeat);
        self.tell(key, place, served);
        true
    }

    /// What there is to do in each tick.
    pub(super) fn go_on_with_sockjs(&mut self) {
        self.move_to_owners();
        for _ in 0..EXPIRED_PER_TICK {
            let due = self.sockjs.expiring.peek().filter(|Reverse((tick, ..))| *tick <= self.now);
            if due.is_none() {
                return;
            }
            let Some(Reverse((_, place, key))) = self.sockjs.expiring.pop() else { return };
            let Some(entry) = self.sockjs.sessions.get(place as usize) else { continue };
            if entry.key != key {
                continue;
            }
            let is_there = entry.session.receiver().is_some();
            let next = if is_there { self.now + entry.disconnect_delay } else { entry.expires_at };
            match next > self.now {
                true => self.sockjs.expiring.push(Reverse((next, place, key))),
                false => self.end_sockjs(place),
            }
        }
    }

    /// The server stops: all are told so, and those who have been are over.
    pub(super) fn drain_sockjs(&mut self) {
        let code = match self.has_successor {
            true => CloseCode::SERVICE_RESTART,
            false => CloseCode::GOING_AWAY,
        };
        let places: Vec<_> = self.sockjs.sessions.iter().map(|(place, _)| place as u32).collect();
        for place in places {
            let entry = self.sockjs.sessions.get(place as usize);
            let is_there = entry.is_some_and(|it| it.session.receiver().is_some());
            self.close_sockjs(place, code.0, "server is stopping");
            if is_there {
                self.end_sockjs(place);
            }
        }
    }

    /// The same if the peer sends no more.
    pub(super) fn abort_session_of_finished(&mut self, key: Key) {
        if self.connections.get(key).is_some_and(|it| it.has(Marks::PEER_FINISHED)) {
            self.abort_session_of(key);
        }
    }
}

/// What a second receiver is told.
const BUSY_CODE: u16 = 2010;
const BUSY_REASON: &str = "Another connection still open";
/// What whoever reads too slowly is told.
const SLOW_CODE: u16 = CloseCode::TRY_AGAIN_LATER.0;
const SLOW_REASON: &str = "slow consumer: backlog limit reached";
/// Sessions that are forgotten in one tick.
const EXPIRED_PER_TICK: usize = 256;
