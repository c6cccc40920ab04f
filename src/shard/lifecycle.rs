//! From accept to the free slot: arming receives, orderly ends and abrupt ones.

use super::connections::{Marks, gauge_of};
use super::ending::Ending;
use super::overload::Level;
use super::rates::Due;
use super::requests::Requests;
use super::shed::held_bytes;
use super::timers::Tick;
use super::{RunState, Shard, ticks_in};
use crate::config::PeerAddress;
use crate::connection::{Stream, Upgraded};
use crate::http::Route;
use crate::io::{Errno, Io, Key, Slot};
use crate::websocket::{Initiator, WebSocket};
use crate::wire::close::CloseCode;

impl<I: Io> Shard<I> {
    /// A listener accepted a connection, or ran out of slots or memory.
    pub(super) fn accepted(
        &mut self,
        listener: u32,
        result: Result<Slot, Errno>,
        address: Option<PeerAddress>,
        more: bool,
    ) {
        if !more {
            self.accept_ended(listener);
        }
        match result {
            Ok(slot) => {
                let key = self.connections.insert(slot, self.served);
                self.stats().connections_accepted.add(1);
                self.stats().connections_open.add(1);
                self.note_connections();
                let limits = &self.effective.config.limits;
                let deadline = self.now + ticks_in(limits.handshake_timeout);
                self.wheel.schedule(key.index, deadline);
                // Nothing of who was in its place before.
                self.lifetimes.set(key.index, None);
                self.rates.set_due(key.index, Due::default());
                self.note_listener(key, listener);
                self.arrived(key, listener, address);
                self.settle(key);
                self.keep_slots_free();
            }
            Err(libc::ECANCELED) => {}
            Err(_) => self.stats().accepts_failed.add(1),
        }
        if self.has_successor {
            return self.stop_listening();
        }
        if more || matches!(self.run_state, RunState::Ending | RunState::Stopped) {
            return;
        }
        if result.is_ok() && !self.is_ahead() && self.overload.level() < Level::NoAccepts {
            return self.accept(listener);
        }
        // Out of something, or the turn of others: again when a slot is free, or a little later.
        self.listeners_waiting.push(listener);
        self.accept_again_at = self.now + 1;
    }

    /// Whether this shard has so many more connections than the others that it must let them go
    /// first where all accept from one queue: a shard that runs would empty a queue that fills
    /// quickly before the others are awake.
    fn is_ahead(&self) -> bool {
        let shards = self.effective.config.engine.shards as u64;
        let fair = self.shared.stats.connections_open() + CONNECTIONS_AHEAD_MOST * shards;
        self.connections.len() as u64 * shards > fair
    }

    /// Arms whatever the connection should wait for, ends what it should not, and closes it when
    /// there is nothing more to wait for.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match connection.ending {
            Ending::Open => {}
            Ending::Finishing | Ending::Finished => return self.settle_finishing(key),
            Ending::Leaving => return self.settle_leaving(key),
            Ending::Doomed | Ending::ShutDown => return self.settle_doomed(key),
        }
        self.settle_receive(key);
    }

    /// Ends the sending side when everything has been sent, and the connection when the peer has
    /// ended its own as well.
    fn settle_finishing(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let slot = connection.slot();
        if !connection.has_output() {
            if connection.has(Marks::PEER_FINISHED) {
                return self.doom(key, false);
            }
            let is_unfinished = connection.ending == Ending::Finishing;
            if is_unfinished && !connection.requests.contains(Requests::FINISH) {
                connection.ending.send_end();
                connection.requests.begin(Requests::FINISH);
                self.io.finish(key, slot);
                self.schedule_close(key);
            }
        }
        self.settle_receive(key);
    }

    /// Ends the requests that wait for the peer, then closes the slot.
    fn settle_doomed(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (slot, requests) = (connection.slot(), connection.requests);
        let waits_for_peer =
            requests.intersects(Requests::RECEIVE | Requests::POLL | Requests::SEND);
        if !requests.is_any_under_way() {
            connection.requests.begin(Requests::CLOSE);
            self.io.close(key, slot);
        } else if waits_for_peer && connection.ending == Ending::Doomed {
            connection.ending.shut_down();
            connection.requests.begin(Requests::SHUTDOWN);
            self.io.shutdown(key, slot);
        }
    }

    fn settle_receive(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (slot, requests) = (connection.slot(), connection.requests);
        if requests.contains(Requests::RECEIVE) {
            let is_unwanted = connection.waits_for.is_some() || connection.has(Marks::PARKED);
            if is_unwanted && !requests.contains(Requests::RECEIVE_CANCELLED) {
                connection.requests.begin(Requests::RECEIVE_CANCELLED);
                self.io.cancel_receive(key);
            }
        } else if !connection.may_receive() {
            // It is armed otherwise, or must not be, or will be.
        } else if connection.has(Marks::PARKED) {
            connection.requests.begin(Requests::POLL);
            self.io.poll(key, slot);
        } else if connection.has(Marks::HEAVY) && !self.starved.is_empty() {
            // Others wait for a buffer, and this one has had its share.
            self.await_buffer(key, false);
        } else {
            connection.requests.begin(Requests::RECEIVE);
            self.io.receive(key, slot);
        }
    }

    /// A request was answered with an upgrade: the connection is a WebSocket now.
    pub(super) fn upgraded(&mut self, key: Key, Upgraded { route, was_kept_alive }: Upgraded) {
        self.admit(key, was_kept_alive);
        self.stats().upgrade(&route);
        let route = match route {
            Route::SockJs(route) => *route,
            route => route,
        };
        if let Route::Broadcast { topic, exclude_self, .. } = route {
            self.join(key, &topic, exclude_self);
        } else if let Route::Session { kind, fields } = route {
            self.begin_session(key, kind, fields);
        }
        self.stats().websockets_open.add(1);
        self.schedule_open(key);
    }

    /// Takes note that a connection stays from now on: it is a WebSocket or a stream.
    pub(super) fn admit(&mut self, key: Key, was_kept_alive: bool) {
        if was_kept_alive {
            self.stats().plain_kept_alive.subtract(1);
        }
        self.measures.opened(key.index, self.now);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.last_active = self.served;
        let is_stream = connection.stage.stream().is_some();
        if let Some(check) = self.times.silence_check(is_stream) {
            connection.note_look(check, self.now, key.index);
        }
        let lifetime = self.effective.config.limits.lifetime;
        self.lifetimes.set(key.index, lifetime.map(|lifetime| self.now + ticks_in(lifetime)));
        self.wanted.note(key.index, self.served);
        self.send_to_successor(key);
    }

    /// Makes a connection a member of the topic `name`.
    pub(super) fn join(&mut self, key: Key, name: &str, exclude_self: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.mark(Marks::SUBSCRIBED);
        let joined = self.topics.join(key.index, name, exclude_self);
        debug_assert!(joined.is_ok(), "a connection of /broadcast joins one topic");
    }

    /// Ends the sending side once what is queued has left.
    pub(super) fn finish(&mut self, key: Key) {
        self.keep_no_longer(key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.ending.finish();
        // TLS says that it ends.
        connection.set_mark(Marks::SEALED, connection.has(Marks::SECURED));
        self.schedule_close(key);
        self.mark_dirty(key);
    }

    /// Gives up on a connection: nothing more is sent, and its slot is closed as soon as nothing is
    /// under way. With `reset` the peer gets an RST instead of a FIN.
    pub(super) fn doom(&mut self, key: Key, reset: bool) {
        self.abort_session_of(key);
        self.keep_no_longer(key);
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.ending.is_over() {
            return self.give_up_leaving(key, reset);
        }
        if connection.owes_close() {
            let (initiator, reason) = match reset {
                true => (Initiator::Local, "reset"),
                false => (Initiator::Remote, "connection lost"),
            };
            // While what waits for it is still there to be told of.
            self.note_close(key, initiator, CloseCode::ABNORMAL, reason);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        // Nothing more is compressed for it; what else it holds goes with its slot.
        let freed_bytes = held_bytes(connection) + connection.release_deflater();
        self.trim.note_freed(freed_bytes, self.now);
        connection.ending.doom();
        self.pending_input.forget(key.index);
        let slot = connection.slot();
        let io = &mut self.io;
        connection.outbox.clear(|slice| io.release(slice));
        if reset && io.arm_reset(key, slot) {
            connection.requests.begin(Requests::RESET);
        }
        self.wheel.cancel(key.index);
        let stats = self.shared.stats.shard(self.number);
        if let Some(gauge) = gauge_of(&connection.stage, stats) {
            gauge.subtract(1);
        }
        self.unsubscribe(key);
        self.peers.give_up_seat(key.index);
        self.settle(key);
    }

    /// A shutdown or a socket option completed; whether it worked does not matter.
    pub(super) fn request_ended(&mut self, key: Key, request: Requests) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.requests.end(request);
            self.settle(key);
        }
    }

    /// The slot is free: the connection is gone.
    pub(super) fn slot_closed(&mut self, key: Key) {
        self.note_connections();
        if self.connections.remove(key).is_none() {
            return;
        }
        self.unread.remove(&key.index);
        self.secured.take(key.index);
        self.inquiries.judgement_of(key);
        self.forget_call(key);
        self.forget_peer(key.index);
        self.leave_topic_line(key.index);
        self.stats().connections_open.subtract(1);
        self.accept_again();
    }

    /// The peer has the close timeout to do its part, from the last time that it was seen to read;
    /// no message is delivered to it any more.
    pub(super) fn schedule_close(&mut self, key: Key) {
        self.unsubscribe(key);
        self.peers.give_up_seat(key.index);
        let served = self.served;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.last_active = served;
        }
        self.wheel.schedule(key.index, self.now + self.close_look());
    }

    /// How often a peer that is being closed is looked at: twice within the close timeout.
    pub(super) fn close_look(&self) -> Tick {
        ticks_in(self.effective.config.limits.close_timeout / 2)
    }

    /// A peer that is being closed has to be looked at: it may have read something that only the
    /// kernel knows of, because a send completes only when there is much room again.
    pub(super) fn look_at_closing(&mut self, key: Key) {
        let (now, served, look) = (self.now, self.served, self.close_look());
        let Some(connection) = self.connections.get_mut(key) else { return };
        let silence = served.saturating_sub(connection.last_active);
        if silence < look {
            self.wheel.schedule(key.index, now + look - silence);
        } else {
            self.measure(key);
        }
    }

    /// Asks the kernel what a peer has not taken yet.
    pub(super) fn measure(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.requests.contains(Requests::MEASURE)
        {
            connection.requests.begin(Requests::MEASURE);
            self.io.measure(key, connection.slot());
        }
    }

    /// The kernel tells what a peer that is being closed, or that is silent, has not taken yet.
    pub(super) fn measured(&mut self, key: Key, unread_bytes: Option<u32>) {
        let (now, served, look) = (self.now, self.served, self.close_look());
        let timeout = ticks_in(self.effective.config.limits.close_timeout);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.requests.end(Requests::MEASURE);
        if connection.ending.is_over() {
            return self.settle(key);
        }
        if connection.stage.stream().is_some_and(Stream::is_open) {
            self.measured_stream(key, unread_bytes);
            return self.settle(key);
        }
        let before = unread_bytes.and_then(|bytes| self.unread.insert(key.index, bytes));
        let has_read = before.zip(unread_bytes).is_some_and(|(before, now)| now < before);
        if has_read {
            connection.last_active = served;
        }
        let silence = served.saturating_sub(connection.last_active);
        if silence < timeout {
            let left = look.min(timeout - silence);
            self.wheel.schedule(key.index, now + left.max(1));
            return self.settle(key);
        }
        let is_ending = connection.ending.is_finishing();
        if is_ending || connection.stage.websocket().is_some_and(WebSocket::has_pending_close) {
            // The peer neither reads what is left for it nor ends its frame or its side.
            self.doom(key, true);
        } else {
            // No close frame came back: our FIN, and a last chance.
            self.finish(key);
        }
        self.settle(key);
    }

    fn unsubscribe(&mut self, key: Key) {
        self.end_session(key);
        if let Some(connection) = self.connections.get_mut(key)
            && connection.has(Marks::SUBSCRIBED)
        {
            connection.unmark(Marks::SUBSCRIBED);
            self.topics.leave_all(key.index);
        }
    }

    /// Begins the end of a WebSocket or of a stream.
    pub(super) fn close(&mut self, key: Key, code: CloseCode, reason: &str) {
        let code = self.code_for_session(key, code);
        self.command(key, |connection, output| connection.stage.close(code, reason, output));
        self.schedule_close(key);
        self.resume_what_is_closing(key);
    }

    /// Accepts again on the listeners that wait for it, unless there is too much to do.
    pub(super) fn accept_again(&mut self) {
        if self.overload.level() == Level::NoAccepts {
            return;
        }
        for listener in std::mem::take(&mut self.listeners_waiting) {
            self.accept(listener);
        }
    }
}

/// How many connections a shard may have more than the mean of all and still accept at once.
const CONNECTIONS_AHEAD_MOST: u64 = 4;
