//! From accept to the free slot: arming receives, deadlines, orderly ends and abrupt ones.

use super::connections::Flags;
use super::shed::held_bytes;
use super::timers::Tick;
use super::{Shard, Stage, ticks_in};
use crate::io::{Errno, Io, Key, Slot};
use crate::session::Initiator;
use crate::wire::close::CloseCode;

impl<I: Io> Shard<I> {
    /// A listener accepted a connection, or ran out of slots or memory.
    pub(super) fn accepted(&mut self, listener: u32, result: Result<Slot, Errno>, more: bool) {
        match result {
            Ok(slot) => {
                let key = self.connections.insert(slot, self.now);
                self.stats().connections_accepted.add(1);
                self.stats().connections_open.add(1);
                let limits = &self.shared.config.limits;
                let deadline = self.now + ticks_in(limits.handshake_timeout);
                self.wheel.schedule(key.index, deadline);
                self.settle(key);
            }
            Err(libc::ECANCELED) => {}
            Err(_) => self.stats().accepts_failed.add(1),
        }
        if more || matches!(self.stage, Stage::Ending | Stage::Stopped) {
            return;
        }
        match result {
            Ok(_) => self.io.accept(listener),
            // Out of something: again when a slot is free, or a little later.
            Err(_) => {
                self.listeners_waiting.push(listener);
                self.accept_again_at = self.now + 1;
            }
        }
    }

    /// Arms whatever the connection should wait for, ends what it should not, and closes it when
    /// there is nothing more to wait for.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (slot, flags) = (connection.slot, connection.flags);
        if flags.contains(Flags::DOOMED) {
            return self.settle_doomed(key);
        }
        let is_drained = connection.outbox.is_empty() && !flags.contains(Flags::SENDING);
        if flags.contains(Flags::FINISHING) && is_drained {
            if flags.contains(Flags::PEER_FINISHED) {
                return self.doom(key, false);
            }
            if !flags.intersects(Flags::FINISHED | Flags::ENDING_STREAM) {
                connection.flags.insert(Flags::FINISHED | Flags::ENDING_STREAM);
                self.io.finish(key, slot);
                self.schedule_close(key);
            }
        }
        self.settle_receive(key);
    }

    /// Ends the requests that wait for the peer, then closes the slot.
    fn settle_doomed(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (slot, flags) = (connection.slot, connection.flags);
        let waits_for_peer = flags.intersects(Flags::RECEIVING | Flags::POLLING | Flags::SENDING);
        if !flags.intersects(Flags::UNDER_WAY) {
            connection.flags.insert(Flags::CLOSING_SLOT);
            self.io.close(key, slot);
        } else if waits_for_peer && !flags.intersects(Flags::SHUTTING_DOWN | Flags::SHUT_DOWN) {
            connection.flags.insert(Flags::SHUTTING_DOWN | Flags::SHUT_DOWN);
            self.io.shutdown(key, slot);
        }
    }

    fn settle_receive(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (slot, flags) = (connection.slot, connection.flags);
        let waits_otherwise = flags.intersects(Flags::PAUSED | Flags::PARKED);
        if flags.contains(Flags::RECEIVING) {
            if waits_otherwise && !flags.contains(Flags::RECEIVE_CANCELLED) {
                connection.flags.insert(Flags::RECEIVE_CANCELLED);
                self.io.cancel_receive(key);
            }
        } else if flags
            .intersects(Flags::POLLING | Flags::PAUSED | Flags::PEER_FINISHED | Flags::STARVED)
        {
            // Nothing to arm: it is armed, or must not be, or will be.
        } else if flags.contains(Flags::PARKED) {
            connection.flags.insert(Flags::POLLING);
            self.io.poll(key, slot);
        } else {
            connection.flags.insert(Flags::RECEIVING);
            self.io.receive(key, slot);
        }
    }

    /// Ends the sending side once what is queued has left.
    pub(super) fn finish(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.flags.insert(Flags::FINISHING);
        self.schedule_close(key);
        self.mark_dirty(key);
    }

    /// Gives up on a connection: nothing more is sent, and its slot is closed as soon as nothing is
    /// under way. With `reset` the peer gets an RST instead of a FIN.
    pub(super) fn doom(&mut self, key: Key, reset: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.flags.contains(Flags::DOOMED) {
            return;
        }
        // Nothing more is compressed for it; what else it holds goes with its slot.
        let freed_bytes = held_bytes(connection) + connection.session.release_deflater();
        self.trim.note_freed(freed_bytes, self.now);
        connection.flags.insert(Flags::DOOMED);
        let (slot, flags) = (connection.slot, connection.flags);
        let io = &mut self.io;
        connection.outbox.clear(|slice| io.release(slice));
        if reset && io.arm_reset(key, slot) {
            connection.flags.insert(Flags::ARMING_RESET);
        }
        self.wheel.cancel(key.index);
        if flags.contains(Flags::WEBSOCKET) {
            let initiator = if reset { Initiator::Local } else { Initiator::Remote };
            self.count_close(key, initiator, CloseCode::ABNORMAL);
            self.stats().websockets_open.subtract(1);
        }
        self.unsubscribe(key);
        self.settle(key);
    }

    /// A shutdown or a socket option completed; whether it worked does not matter.
    pub(super) fn request_ended(&mut self, key: Key, request: Flags) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.flags.remove(request);
            self.settle(key);
        }
    }

    /// The slot is free: the connection is gone.
    pub(super) fn slot_closed(&mut self, key: Key) {
        if self.connections.remove(key).is_none() {
            return;
        }
        self.stats().connections_open.subtract(1);
        self.accept_again();
    }

    /// Counts the end of a WebSocket, once.
    pub(super) fn count_close(&mut self, key: Key, initiator: Initiator, code: CloseCode) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.flags.contains(Flags::WEBSOCKET)
            && !connection.flags.contains(Flags::CLOSE_COUNTED)
        {
            connection.flags.insert(Flags::CLOSE_COUNTED);
            self.stats().close(initiator, code);
        }
    }

    /// The peer has the close timeout to do its part; no message is delivered to it any more.
    pub(super) fn schedule_close(&mut self, key: Key) {
        self.unsubscribe(key);
        let deadline = self.now + ticks_in(self.shared.config.limits.close_timeout);
        self.wheel.schedule(key.index, deadline);
    }

    fn unsubscribe(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.flags.contains(Flags::SUBSCRIBED)
        {
            connection.flags.remove(Flags::SUBSCRIBED);
            self.topics.leave(key.index);
        }
    }

    /// Sets the deadline of an open WebSocket: to park it, ping it, or end it.
    pub(super) fn schedule_open(&mut self, key: Key) {
        let limits = &self.shared.config.limits;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (flags, active) = (connection.flags, connection.last_active);
        // A paused connection is not parked; whether it still pauses is seen later.
        let since = if flags.intersects(Flags::PAUSED) { self.now } else { active };
        let park = match flags.contains(Flags::PARKED) {
            true => None,
            false => self.shared.config.engine.park_after.map(|after| since + ticks_in(after)),
        };
        let idle = limits.idle_timeout.map(|timeout| match flags.contains(Flags::PINGED) {
            true => active + ticks_in(timeout),
            false => active + ticks_in(timeout / 2),
        });
        let lifetime = self.lifetimes.end_of(key.index);
        if let Some(deadline) = [park, idle, lifetime].into_iter().flatten().min() {
            self.wheel.schedule(key.index, deadline);
        }
    }

    /// Acts on every deadline that has passed.
    pub(super) fn advance_timers(&mut self) {
        if self.now >= self.accept_again_at {
            self.accept_again();
        }
        match self.stage {
            Stage::Draining { deadline } => self.check_drained(deadline),
            Stage::Ending => self.end_connections(),
            Stage::Serving | Stage::Stopped => {}
        }
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.advance(self.now, &mut expired);
        for index in expired.drain(..) {
            if let Some((key, _)) = self.connections.at(index) {
                self.deadline_passed(key);
            }
        }
        self.expired = expired;
    }

    fn deadline_passed(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let flags = connection.flags;
        let is_stuck = connection.session.has_pending_close();
        if is_stuck || flags.intersects(Flags::FINISHING | Flags::DOOMED) {
            // The peer neither reads what is left for it nor ends its frame or its side.
            self.doom(key, true);
        } else if connection.session.is_closing() {
            // No close frame came back: our FIN, and a last chance.
            self.finish(key);
        } else if connection.session.is_request() {
            self.request_timed_out(key);
        } else if self.stage != Stage::Serving {
            self.close(key, CloseCode::GOING_AWAY, "server is stopping");
        } else {
            self.open_deadline_passed(key);
        }
        self.settle(key);
    }

    fn request_timed_out(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_idle =
            connection.flags.contains(Flags::ANSWERED) && !connection.session.has_partial_request();
        self.command(key, |connection, output| match is_idle {
            true => connection.session.close(CloseCode::GOING_AWAY, "", output),
            false => connection.session.time_out_request(output),
        });
    }

    fn open_deadline_passed(&mut self, key: Key) {
        let now = self.now;
        let limits = &self.shared.config.limits;
        let idle_timeout = limits.idle_timeout.map(ticks_in);
        let ping_after = limits.idle_timeout.map(|timeout| ticks_in(timeout / 2));
        let park_after = self.shared.config.engine.park_after.map(ticks_in);
        if self.lifetimes.end_of(key.index).is_some_and(|end| end <= now) {
            return self.close(key, CloseCode::GOING_AWAY, "maximum lifetime reached");
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let idle = now.saturating_sub(connection.last_active);
        let has_passed = |limit: Option<Tick>| limit.is_some_and(|limit| idle >= limit);
        if has_passed(idle_timeout) {
            return self.close(key, CloseCode::GOING_AWAY, "idle timeout");
        }
        if has_passed(park_after) && !connection.flags.intersects(Flags::PARKED | Flags::PAUSED) {
            connection.flags.insert(Flags::PARKED);
            connection.session.release_deflater();
            self.stats().parked.add(1);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        if has_passed(ping_after) && !connection.flags.contains(Flags::PINGED) {
            connection.flags.insert(Flags::PINGED);
            self.command(key, |connection, output| connection.session.ping(output));
        }
        self.schedule_open(key);
    }

    /// Begins the closing handshake.
    fn close(&mut self, key: Key, code: CloseCode, reason: &str) {
        self.schedule_close(key);
        self.command(key, |connection, output| connection.session.close(code, reason, output));
    }

    fn accept_again(&mut self) {
        for listener in std::mem::take(&mut self.listeners_waiting) {
            self.io.accept(listener);
        }
    }
}

/// When connections reach their maximum lifetime; costs nothing when there is none.
#[derive(Default)]
pub(super) struct Lifetimes {
    ends: Vec<Tick>,
}

impl Lifetimes {
    /// Sets the end of the connection at `index`.
    pub(super) fn set(&mut self, index: u32, end: Tick) {
        let place = index as usize;
        if place >= self.ends.len() {
            self.ends.resize(place + 1, Tick::MAX);
        }
        self.ends[place] = end;
    }

    /// The end of the connection at `index`, if there is one.
    pub(super) fn end_of(&self, index: u32) -> Option<Tick> {
        self.ends.get(index as usize).copied()
    }
}
