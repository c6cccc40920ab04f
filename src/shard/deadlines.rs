//! The deadlines of connections: which there are, when each passes, and what is done then.
//!
//! A connection lies in the timer wheel once, at the tick of the deadline that is next. One that
//! ends, or waits for a request, has that one alone. An open WebSocket or stream has several. They
//! are worked out of what is known of it, so that no message has to move them; the wheel is early
//! rather than late, and when it finds that nothing has passed, the connection is put in again.

use std::time::Duration;

use super::connections::{Connection, Marks};
use super::measure::ping_payload;
use super::pause::WaitsFor;
use super::requests::Requests;
use super::timers::{TICK_MS, Tick};
use super::{RunState, Shard};
use crate::io::{Io, Key};
use crate::wire::close::CloseCode;

/// What a connection has to do, or to have done, by a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    /// The peer of one that is being closed has to do its part.
    Close,
    /// A request has to be here, or another one.
    Request,
    /// It is closed at this moment of the drain window.
    Drain,
    /// It has lasted as long as it may.
    Lifetime,
    /// The token of its peer has expired.
    Token,
    /// Something is due in its session.
    Session,
    /// A data message has to have gone one way or the other.
    AnyMessage,
    /// The message that has begun has to be whole.
    WholeMessage,
    /// The peer has to have been heard of.
    Idle,
    /// It has been silent for long enough to give back what it can do without.
    Park,
    /// Silence is looked for, which a ping or an empty line is to break.
    Silence,
}

/// Those of an open WebSocket or stream. What ends it comes first when several have passed.
const OF_OPEN: [Deadline; 8] = [
    Deadline::Lifetime,
    Deadline::Token,
    Deadline::Session,
    Deadline::AnyMessage,
    Deadline::WholeMessage,
    Deadline::Idle,
    Deadline::Park,
    Deadline::Silence,
];

impl<I: Io> Shard<I> {
    /// How long the next submit may wait for a completion.
    pub(super) fn wait(&mut self, now: Duration) -> Option<Duration> {
        if self.effective.config.engine.busy_poll {
            // Nobody has to wake a shard that does not announce its sleep: each tick looks for
            // messages, room and deadlines. What else `prepare_sleep` does is done here.
            self.endpoint.reclaim();
            return Some(Duration::ZERO);
        }
        let must_look_again =
            !self.starved.is_empty() || self.has_work_left() || self.to_reschedule.is_some();
        if must_look_again || !self.endpoint.prepare_sleep() {
            return Some(Duration::ZERO);
        }
        let awaits_room = self.peers.unseated.awaits_room();
        let awaits_room = awaits_room || self.sockjs.awaits_place();
        if self.held_back > 0 || self.moves.awaits_readers() || awaits_room {
            // Nobody tells when another shard has delivered a topic, or read what was published:
            // it is looked for.
            return Some(HELD_BACK_LOOK);
        }
        let looks_each_tick = !self.listeners_waiting.is_empty()
            || self.run_state != RunState::Serving
            || self.overload.is_active()
            || self.limit_to_keep().is_some();
        let next = match looks_each_tick {
            true => Some(self.now + 1),
            false => {
                let moves = self.moves.next_tick(self.now);
                let deadlines = [self.wheel.next_tick(), self.rates.next_tick()];
                let answers = [moves, self.inquiries.next_tick(), self.sessions.next_tick()];
                let others = [self.trim.due(), self.orders.next_tick(), self.sockjs.next_tick()];
                deadlines.into_iter().chain(answers).chain(others).flatten().min()
            }
        };
        let until = Duration::from_millis(u64::from(next?) * TICK_MS);
        // Never zero: the deadline is a tick ahead, and a wait of nothing would spin until then.
        Some(until.saturating_sub(now).max(Duration::from_millis(1)))
    }

    /// Puts an open WebSocket or stream into the wheel for the next of its deadlines.
    pub(super) fn schedule_open(&mut self, key: Key) {
        if self.run_state != RunState::Serving {
            // It has its moment within the drain window.
            return;
        }
        let Some(connection) = self.connections.get(key) else { return };
        let left = OF_OPEN.into_iter().filter_map(|it| self.ticks_left(key, connection, it)).min();
        if let Some(left) = left {
            self.wheel.schedule(key.index, self.now + left);
        }
    }

    /// A message has begun that takes memory until it is whole: it has to be, some time.
    pub(super) fn expect_end_of_message(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        if connection.stage.has_upload() {
            self.expect_end_of_upload(key);
        } else if connection.stage.is_open() && self.times.message_timeout.is_some() {
            self.schedule_open(key);
        }
    }

    /// Ticks until a deadline of an open WebSocket or stream passes, none when it has; nothing
    /// where there is no such deadline.
    fn ticks_left(&self, key: Key, connection: &Connection, deadline: Deadline) -> Option<Tick> {
        let (now, served, times) = (self.now, self.served, &self.times);
        let message_age = connection.message_age(now);
        let silence = served.saturating_sub(connection.last_active);
        let is_stream = connection.stage.stream().is_some();
        let is_over_rate = connection.waits_for == Some(WaitsFor::Rate);
        match deadline {
            Deadline::Lifetime => {
                self.lifetimes.end_of(key.index).map(|end| end.saturating_sub(now))
            }
            // Its tokens can be exchanged, and its pings are those of its protocol, whose answers
            // show that it is there.
            Deadline::Token | Deadline::Idle | Deadline::Silence
                if self.sessions.contains(key.index) =>
            {
                None
            }
            Deadline::Token => self.token_left(key),
            Deadline::Session => self.session_left(key),
            // It is not listened to: from when it goes on its silence counts anew.
            Deadline::AnyMessage | Deadline::Idle if is_over_rate => None,
            Deadline::AnyMessage if message_age.is_some() => None,
            Deadline::AnyMessage => self.wanted.left(key.index, served),
            Deadline::WholeMessage => {
                let most = times.message_timeout?;
                message_age.map(|age| most.saturating_sub(age))
            }
            // The peer of a stream says nothing: its silence is looked for in rounds.
            Deadline::Idle | Deadline::Park if is_stream => None,
            Deadline::Idle => times.idle_timeout.map(|timeout| timeout.saturating_sub(silence)),
            Deadline::Park if connection.has(Marks::PARKED) => None,
            // Whoever waits is not parked; whether it still does is seen later.
            Deadline::Park if connection.is_held_up() => times.park_after,
            Deadline::Park => times.park_after.map(|after| after.saturating_sub(silence)),
            Deadline::Silence => {
                let check = times.silence_check(is_stream);
                check.map(|check| connection.look_left(check, now, key.index))
            }
            Deadline::Close | Deadline::Request | Deadline::Drain => {
                debug_assert!(false, "no deadline of an open connection");
                None
            }
        }
    }

    /// The deadline that a connection is to be looked at for, if one has passed.
    fn passed(&self, key: Key, connection: &Connection) -> Option<Deadline> {
        if connection.ending.is_finishing() || connection.stage.is_closing() {
            Some(Deadline::Close)
        } else if connection.stage.is_request() {
            Some(Deadline::Request)
        } else if self.run_state != RunState::Serving {
            Some(Deadline::Drain)
        } else {
            OF_OPEN.into_iter().find(|it| self.ticks_left(key, connection, *it) == Some(0))
        }
    }

    /// Acts on every deadline that has passed.
    pub(super) fn advance_timers(&mut self) {
        if self.now >= self.accept_again_at {
            self.accept_again();
        }
        match self.run_state {
            RunState::Draining { deadline } => self.check_drained(deadline),
            RunState::Ending => self.end_connections(),
            RunState::Serving | RunState::Stopped => {}
        }
        self.expire_moves();
        self.wheel.advance(self.now, |index| self.expired.push_back(index));
        for _ in 0..EXPIRED_PER_TICK {
            let Some(index) = self.expired.pop_front() else {
                // What a crowd took is given back.
                return self.expired.shrink_to(EXPIRED_PER_TICK);
            };
            // Some have got another deadline while they waited for this.
            if !self.wheel.is_scheduled(index)
                && let Some((key, _)) = self.connections.at(index)
            {
                self.deadline_passed(key);
            }
        }
    }

    /// Does what is to be done with a connection that the wheel has handed over.
    fn deadline_passed(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        if connection.ending.is_over() {
            // It is closed as soon as nothing is under way.
            return self.settle(key);
        }
        match self.passed(key, connection) {
            None => self.schedule_open(key),
            Some(Deadline::Close) => self.look_at_closing(key),
            Some(Deadline::Request) => self.request_timed_out(key),
            Some(Deadline::Drain) => match self.has_successor {
                true => self.close(key, CloseCode::SERVICE_RESTART, "service restart"),
                false => self.close(key, CloseCode::GOING_AWAY, "server is stopping"),
            },
            Some(Deadline::Lifetime) => {
                self.close(key, CloseCode::GOING_AWAY, "maximum lifetime reached");
            }
            Some(Deadline::Token) => self.close_expired(key),
            Some(Deadline::Session) => self.session_due(key),
            Some(Deadline::AnyMessage) => {
                self.close(key, CloseCode::GOING_AWAY, "no message for too long");
            }
            Some(Deadline::WholeMessage) => {
                self.close(key, CloseCode::POLICY_VIOLATION, "message not ended in time");
            }
            Some(Deadline::Idle) => self.look_before_idle_close(key),
            Some(Deadline::Park) => {
                self.park(key);
                self.schedule_open(key);
            }
            Some(Deadline::Silence) if connection.stage.stream().is_some() => {
                self.look_at_stream(key);
            }
            Some(Deadline::Silence) => {
                self.ping_if_silent(key);
                self.schedule_open(key);
            }
        }
        self.settle(key);
    }

    /// A silent connection gives back what it can do without, and waits by a poll.
    pub(super) fn park(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        debug_assert!(!connection.has(Marks::PARKED), "once");
        connection.mark(Marks::PARKED);
        connection.release_deflater();
        self.secured.rest(key.index);
        self.shared.stats.shard(self.number).parked.add(1);
    }

    fn request_timed_out(&mut self, key: Key) {
        if self.beat_for_session(key) {
            return;
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_put_off = connection.is_put_off();
        let is_idle = connection.stage.is_kept_alive()
            && !connection.stage.has_partial_request()
            && !is_put_off;
        let retry_after_s = self.peers.retry_after.next_s();
        self.command(key, |connection, output| match is_idle {
            true => connection.stage.close(CloseCode::GOING_AWAY, "", output),
            false => connection.stage.time_out_request(is_put_off, retry_after_s, output),
        });
    }

    /// Sends a ping when nothing has come from the peer, or nothing gone to it, since silence was
    /// last looked for: a proxy in between may wait for either.
    fn ping_if_silent(&mut self, key: Key) {
        let (now, served) = (self.now, self.served);
        let Some(check) = self.times.ping_check else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.note_look(check, now, key.index);
        let silence = served.saturating_sub(connection.last_active);
        let has_sent = connection.has(Marks::HAS_SENT);
        connection.unmark(Marks::HAS_SENT);
        if !has_sent && connection.has(Marks::PARKED) {
            self.secured.rest(key.index);
        }
        // Behind a send that waits for the peer a ping would wait as well.
        let is_stuck = connection.requests.contains(Requests::SEND);
        // Whoever does not answer is asked once within the time, not at every look.
        let is_silent = silence / check.period % 2 == 1;
        if (!has_sent || is_silent) && !is_stuck {
            let payload = ping_payload(self.clock());
            let mut is_sent = false;
            self.command(key, |connection, output| {
                if let Some(websocket) = connection.stage.websocket_mut() {
                    is_sent = websocket.ping(&payload, &mut output.websocket);
                }
            });
            self.stats().pings_out.add(is_sent.into());
        }
    }

    /// The peer has been silent for too long, as far as this shard has read: asks the kernel
    /// whether there is more, before it is closed for that.
    fn look_before_idle_close(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.waits_for == Some(WaitsFor::Peer) {
            // It has not read for as long, and is not received from for that: what it has sent
            // says nothing.
            return self.close(key, CloseCode::GOING_AWAY, "idle timeout");
        }
        if !connection.requests.contains(Requests::LOOK) {
            connection.requests.begin(Requests::LOOK);
            self.io.look(key, connection.slot());
        }
    }

    /// The kernel tells whether there is something to receive from a silent peer.
    pub(super) fn looked(&mut self, key: Key, has_input: bool) {
        let served = self.served;
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.requests.end(Requests::LOOK);
        let is_open = connection.stage.is_open() && !connection.ending.is_over();
        let silence = served.saturating_sub(connection.last_active);
        let is_idle = self.times.idle_timeout.is_some_and(|timeout| silence >= timeout);
        if is_open && is_idle && !has_input {
            self.close(key, CloseCode::GOING_AWAY, "idle timeout");
        } else if is_open {
            // It is heard of as soon as its turn to be received comes.
            connection.last_active = served;
            self.schedule_open(key);
        }
        self.settle(key);
    }
}

/// Deadlines that are acted on in one tick: those of a crowd pass together. Few in debug builds, so
/// that tests see some wait.
const EXPIRED_PER_TICK: usize = if cfg!(debug_assertions) { 4 } else { 256 };
/// How often those who are held back for the sake of another shard, or wait for it, try again.
const HELD_BACK_LOOK: Duration = Duration::from_millis(1);
