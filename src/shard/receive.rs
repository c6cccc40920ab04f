//! Bytes from a peer: to its WebSocket, and what the WebSocket makes of them to outbox and hub.

use std::cell::{Cell, RefCell};

use super::connections::{Connection, Marks};
use super::orders::top::{Direction, Traffic};
use super::pause::WaitsFor;
use super::peers::Tokens;
use super::pending_input::Input;
use super::requests::Requests;
use super::topic_rate::TopicShare;
use super::{Shard, seconds, secure};
use crate::config::{MessageTypes, PeerAddress};
use crate::connection::{Output, Rules};
use crate::http::{Conditions, Posted, Serving};
use crate::io::{BufferSlice, Errno, Io, Key, Segment};
use crate::realtime::api::{is_key, presented_key};
use crate::websocket::{self, Budget, Closed, Heard, Initiator, Piece};
use crate::wire::close::CloseCode;

impl<I: Io> Shard<I> {
    /// A receive brought bytes, the end of the stream, or an error.
    pub(super) fn received(
        &mut self,
        key: Key,
        result: Result<Option<BufferSlice>, Errno>,
        more: bool,
    ) {
        let served = self.served;
        let Some(connection) = self.connections.get_mut(key) else {
            if let Ok(Some(slice)) = result {
                self.io.release(slice);
            }
            return;
        };
        if !more {
            connection.requests.end(Requests::RECEIVE | Requests::RECEIVE_CANCELLED);
        }
        match result {
            Ok(Some(slice)) => {
                // Whoever is closed has to read and to answer, not to go on sending; and a request
                // has a deadline of its own.
                if connection.stage.is_open_websocket() && !connection.has(Marks::SECURED) {
                    connection.last_active = served;
                }
                connection.unmark(Marks::PARKED);
                let buffer_bytes = self.effective.config.engine.receive_buffer_bytes;
                connection.set_mark(Marks::HEAVY, slice.len() >= buffer_bytes / 2);
                let is_over = connection.ending.is_over();
                let bytes = u64::from(slice.len());
                self.stats().bytes_in.add(bytes);
                self.charge(key, Direction::Received, Traffic { bytes, messages: 0 });
                match is_over {
                    true => self.keep_for_move(key, slice),
                    false => self.feed_received(key, Input::Buffer(slice), SHARE_MOST),
                }
            }
            Ok(None) => self.peer_finished(key),
            Err(libc::ECANCELED) => {}
            Err(libc::ENOBUFS) => self.found_no_buffer(key),
            Err(_) => self.doom(key, false),
        }
        self.settle(key);
    }

    /// A parked connection has something to receive.
    pub(super) fn readable(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.requests.end(Requests::POLL);
            connection.unmark(Marks::PARKED);
            if connection.stage.is_open() && !connection.ending.is_over() {
                self.schedule_open(key);
            }
            self.settle(key);
        }
    }

    /// Lets a WebSocket that paused go on, for no more than a `share` of the tick.
    pub(super) fn resume(&mut self, key: Key, share: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.waits_for = None;
        if connection.ending.is_over() {
            return self.settle(key);
        }
        if self.sessions.contains(key.index) {
            self.go_on_with_session(key);
            if self.connections.get(key).is_none_or(|it| it.waits_for.is_some()) {
                return;
            }
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let can_go_on = connection.stage.can_go_on();
        let (pending, start) = self.pending_input.take(key.index);
        let has_input = start < pending.len();
        let input = Input::Owned(pending, start);
        if self.is_shaking_hands(key) {
            // It was kept as it had arrived.
            self.feed_secured(key, input, share);
        } else if has_input || can_go_on {
            self.feed(key, input, share);
        }
        self.end_of_input(key);
        self.settle(key);
    }

    /// Lets the connection take what the network has brought.
    fn feed_received(&mut self, key: Key, input: Input, share: usize) {
        let is_secured = self.connections.get(key).is_some_and(|it| it.has(Marks::SECURED));
        match is_secured {
            true => self.feed_secured(key, input, share),
            false => self.feed(key, input, share),
        }
    }

    /// Lets the connection take the input as far as its `share` of the tick reaches, and does what
    /// it wants done.
    fn feed(&mut self, key: Key, mut input: Input, share: usize) {
        self.take_in(key, &mut input, share);
        self.release(input);
    }

    pub(super) fn take_in(&mut self, key: Key, input: &mut Input, share_most: usize) {
        let Some(connection) = self.connections.get(key) else { return };
        let (mut serving, mut retry_after_s, mut is_logged) = (Serving::Open, 0, false);
        if connection.waits_for.is_some() {
            // What arrives meanwhile goes behind what has not been used.
            return self.keep_input(key, input, 0);
        }
        if connection.stage.is_request() {
            if !self.may_take_request() {
                self.keep_input(key, input, 0);
                return self.pause(key, WaitsFor::Request);
            }
            if self.take_preamble(key, input) {
                return;
            }
            // The counters of all shards are asked only for a request.
            (serving, retry_after_s) = (self.serving(), self.peers.retry_after.next_s());
            is_logged = self.is_logged(key);
        }
        let Some(connection) = self.connections.get(key) else { return };
        let was_request = connection.stage.is_request();
        let obstacle = self.obstacle(key, connection);
        let units_most = self.units_most(key.index, connection);
        let waits_for = match obstacle {
            Some(WaitsFor::Memory) => Some(WaitsFor::Memory),
            _ => (units_most == 0).then_some(WaitsFor::Rate),
        };
        if let Some(waits_for) = waits_for {
            self.keep_input(key, input, 0);
            return self.pause(key, waits_for);
        }
        let too_full = connection.too_full();
        let redirects_to = connection.has(Marks::REDIRECTED).then_some(self.shared.secure_port);
        let share = if obstacle.is_none() { self.take_of_topic(key) } else { None };
        let obstacle = obstacle.or_else(|| share.as_ref().and_then(TopicShare::obstacle));
        let units_most = units_most.min(share.as_ref().map_or(u32::MAX, TopicShare::units_most));
        let (admitted, joined) = (RefCell::new(None), RefCell::new(None));
        let (asked, tokens) = (RefCell::new(None), RefCell::new(Tokens::default()));
        let judgement = Cell::new(self.inquiries.judgement_of(key));
        let note = |it| drop(asked.replace(Some(Box::new(it))));
        let (admission, admission_rules) = (&self.shared.admission, &self.effective.admission);
        let (at, time) = (self.whereabouts(key), self.attendance.returned);
        let certified = self.peers.certified(key.index, &self.effective.config);
        let (trust, stats) = (&self.effective.trust, &self.shared.stats);
        let shard_stats = stats.shard(self.number);
        let owner = self.owner_of_sessions();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let bytes = match input {
            Input::Buffer(slice) => self.io.bytes(slice),
            Input::Owned(bytes, start) => &mut bytes[*start..],
        };
        let units = self.turn.left().clamp(SHARE_LEAST, share_most) as u32;
        let budget = Budget::new(units.min(units_most));
        let before = budget.left();
        let rules = Rules {
            websocket: websocket::Rules {
                limits: &self.effective.config.limits,
                message_types: match self.sessions.contains(key.index) {
                    // Its encoding says what its messages are.
                    true => MessageTypes::Any,
                    false => self.effective.config.message_types,
                },
                now_s: seconds(self.now),
                codec: &self.codec,
                may_begin: obstacle.is_none(),
                budget: &budget,
            },
            http: Conditions {
                policy: &self.effective.policy,
                serving,
                may_publish: &|topic| {
                    self.overflow.is_empty() && self.topics.fullness_by_name(topic) < too_full
                },
                take: &|topic| {
                    let Some(rate) = admission_rules.topic_rate() else { return Ok(()) };
                    let is_untracked = admission.take_one(rate, topic, time)?;
                    shard_stats.publications_untracked.add(is_untracked.into());
                    Ok(())
                },
                is_trusted_proxy: self.peers.is_proxy(key.index),
                admit: &|address| {
                    let it =
                        admission.admit(admission_rules, address.map(PeerAddress::Ip), time)?;
                    let before = admitted.replace(Some((address, it)));
                    debug_assert!(before.is_none(), "a connection is upgraded once");
                    Ok(())
                },
                join: &|topic| {
                    let before = joined.replace(Some(admission.join(admission_rules, topic)?));
                    debug_assert!(before.is_none(), "a connection joins once");
                    Ok(())
                },
                reserve: &|| tokens.borrow_mut().reserve(admission, admission_rules, at, time),
                verify: &|token| {
                    let (now_s, costs) = (stats.seconds_of_day(time), (shard_stats, &budget));
                    tokens.borrow_mut().verify(token, certified, trust, now_s, costs)
                },
                judge: &|| Some(tokens.borrow_mut().heed(judgement.take()?, trust, shard_stats)),
                may_call: &|field, authorization, query| {
                    let presented = presented_key(field, authorization, query);
                    presented.is_some_and(|key| is_key(key, trust.api_keys.keys()))
                },
                owner: &owner,
                redirects_to,
                retry_after_s,
                note: if is_logged { Some(&note) } else { None },
            },
            goes_on_after_upgrade: admission_rules.topic_rate().is_none(),
        };
        let mut output = std::mem::take(&mut self.output);
        (output.inquiry, output.called, output.owner) = (None, None, None);
        let consumed = connection.stage.receive(bytes, &rules, &mut output);
        self.turn.spend(before - budget.left());
        if was_request {
            let has_become = output.upgraded.is_some() || output.streamed.is_some();
            self.note_tokens(key, tokens.into_inner(), has_become);
        }
        let pause = output.websocket.paused.take();
        output.asked = asked.into_inner();
        if let Some((client, admitted)) = admitted.into_inner() {
            self.peers.set_address(key.index, client.map(PeerAddress::Ip));
            self.note_admitted(key, admitted);
        }
        self.inquiries.put_back(key, judgement.into_inner());
        let messages = output.websocket.messages;
        if let Some(joined) = joined.into_inner() {
            let is_member = output.upgraded.is_some() || output.streamed.is_some();
            self.note_joined(key, joined, is_member);
        }
        self.apply(key, input, &mut output);
        self.output = output;
        if !was_request {
            self.charge_rates(key, messages, consumed);
        }
        let reason = pause.map(|pause| self.reason_to_wait(key, pause, obstacle));
        if let Some(share) = share {
            self.settle_with_topic(key, &share, messages, reason);
        }
        if let Some(reason) = reason {
            self.keep_input(key, input, consumed);
            // A session may wait already for what its last command needs.
            if self.connections.get(key).is_some_and(|it| it.waits_for.is_none()) {
                self.pause(key, reason);
            }
        }
    }

    /// Keeps what follows the first `consumed` bytes of the input.
    pub(super) fn keep_input(&mut self, key: Key, input: &mut Input, consumed: usize) {
        match input {
            Input::Owned(bytes, start) if self.pending_input.contains(key.index) => {
                self.pending_input.append(key.index, &bytes[*start + consumed..]);
            }
            Input::Buffer(slice) => {
                self.pending_input.append(key.index, &self.io.bytes(slice)[consumed..]);
            }
            Input::Owned(bytes, start) => {
                self.pending_input.put_back(key.index, std::mem::take(bytes), *start + consumed);
            }
        }
    }

    pub(super) fn release(&mut self, input: Input) {
        if let Input::Buffer(slice) = input {
            self.io.release(slice);
        }
    }

    /// Lets a connection act on its own, and does what it wants done.
    pub(super) fn command(&mut self, key: Key, act: impl FnOnce(&mut Connection, &mut Output)) {
        let mut output = std::mem::take(&mut self.output);
        if let Some(connection) = self.connections.get_mut(key) {
            act(connection, &mut output);
            self.apply(key, &Input::Owned(Vec::new(), 0), &mut output);
        }
        self.output = output;
    }

    fn apply(&mut self, key: Key, input: &Input, output: &mut Output) {
        let stats = self.shared.stats.shard(self.number);
        let asked = output.asked.take();
        if let Some(reason) = output.refused.take() {
            stats.refuse(reason);
            self.log_refusal(key, reason, asked.as_deref());
        }
        let websocket = &mut output.websocket;
        let messages = std::mem::take(&mut websocket.messages);
        if messages > 0 {
            self.wanted.note(key.index, self.served);
        }
        let (is_sockjs, is_echo) = self.speaks_sockjs(key);
        let published = websocket.published.len() + output.posted.len();
        let published = if is_echo { 0 } else { published as u32 };
        debug_assert!(published <= messages, "what is published has been received");
        stats.echo_messages_in.add((messages - published).into());
        stats.unauthorized_messages.add(std::mem::take(&mut websocket.is_unauthorized).into());
        let reflected = std::mem::take(&mut websocket.reflected_messages);
        stats.echo_messages_out.add(reflected.into());
        if let Some(upgraded) = output.upgraded.take() {
            self.upgraded(key, upgraded);
            self.begin_visit(key, asked);
        } else if let Some(streamed) = output.streamed.take() {
            self.streamed(key, &streamed);
            self.begin_visit(key, asked);
        }
        let closed = websocket.closed.take();
        if let Some(Closed { initiator, code, reason }) = &closed
            && self.connections.get(key).is_some_and(|it| !it.ending.has_begun())
        {
            // While nothing of ours waits behind what the peer has not read.
            self.note_close(key, *initiator, *code, reason);
        }
        self.queue_pieces(key, input, &mut websocket.pieces);
        if std::mem::take(&mut output.answered) {
            self.keep_for_next_request(key);
        }
        for (direction, messages) in [(Direction::Received, messages), (Direction::Sent, reflected)]
        {
            if messages > 0 {
                self.charge(key, direction, Traffic { bytes: 0, messages: messages.into() });
            }
        }
        if published > 0 {
            self.stats().broadcast_messages_in.add(published.into());
        }
        let is_session = self.sessions.contains(key.index);
        for message in websocket.published.drain(..) {
            match is_session {
                true => self.converse(key, &message),
                false if is_sockjs => self.take_sockjs_frame(key, &message),
                false => self.publish(key, message),
            }
        }
        if let Some(request) = output.requested.take() {
            self.ask_session(key, *request);
        }
        for Posted { topic, message } in output.posted.drain(..) {
            self.publish_by_name(&topic, message);
        }
        if websocket.heard != Heard::default() {
            self.heard(std::mem::take(&mut websocket.heard));
        }
        if closed.is_some() {
            self.schedule_close(key);
        }
        if std::mem::take(&mut websocket.finish) {
            self.finish(key);
        }
        if std::mem::take(&mut websocket.message_began) {
            self.expect_end_of_message(key);
        }
    }

    fn queue_pieces(&mut self, key: Key, input: &Input, pieces: &mut Vec<Piece>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if pieces.is_empty() {
            return;
        }
        // A receive buffer may only wait for a send that cannot wait itself; see `flush`.
        let may_lend = !connection.requests.contains(Requests::SEND);
        for piece in pieces.drain(..) {
            match piece {
                Piece::Control(frame) => {
                    connection.outbox.push_control(Segment::control(frame));
                }
                Piece::Response(mut bytes) => {
                    if connection.has(Marks::SECURED) {
                        secure::add_fields(&mut bytes, &self.effective.config.tls);
                    }
                    connection.outbox.push(Segment::control(bytes));
                }
                Piece::Owned { bytes, ends_frame } => {
                    connection.outbox.push(Segment::owned(bytes, ends_frame));
                }
                Piece::Reflected { range, ends_frame } => {
                    let segment = match input {
                        Input::Buffer(slice) => {
                            let part = self.io.split(slice, range);
                            let lent = Segment::Buffer { slice: part, ends_frame };
                            if may_lend { lent } else { super::send::detached(&mut self.io, lent) }
                        }
                        Input::Owned(bytes, start) => {
                            Segment::owned(bytes[*start..][range].to_vec(), ends_frame)
                        }
                    };
                    connection.outbox.push(segment);
                }
            }
        }
        self.mark_dirty(key);
    }

    /// The peer will send no more.
    fn peer_finished(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.mark(Marks::PEER_FINISHED);
        self.end_of_input(key);
    }

    /// Ends our side as well, once the WebSocket has taken everything that came before the FIN, or
    /// when nothing can come of what else arrives.
    pub(super) fn end_of_input(&mut self, key: Key) {
        if self.end_failed_session(key) {
            return;
        }
        self.abort_session_of_finished(key);
        if let Some(connection) = self.connections.get_mut(key)
            && connection.has(Marks::PEER_FINISHED)
            && !connection.ending.is_over()
            && connection.waits_for.is_none()
        {
            if connection.stage.stream().is_some() {
                return self.end_stream_by_peer(key);
            }
            if connection.owes_close() {
                let reason = "the stream ended without a close frame";
                self.note_close(key, Initiator::Remote, CloseCode::ABNORMAL, reason);
            }
            self.finish(key);
        }
    }

    /// Lists a connection among those that wait for a receive buffer. Whoever was to get one in the
    /// last tick, and found none, is still the first.
    pub(super) fn await_buffer(&mut self, key: Key, was_granted: bool) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.has(Marks::STARVED)
        {
            connection.mark(Marks::STARVED);
            let is_heavy = connection.has(Marks::HEAVY);
            match was_granted {
                true => self.starved.push_front(key, is_heavy),
                false => self.starved.push(key, is_heavy),
            }
        }
    }

    fn found_no_buffer(&mut self, key: Key) {
        self.stats().buffers_exhausted.add(1);
        self.await_buffer(key, self.granted.contains(&key));
    }

    /// Starts receives that found no buffer, no more than there are buffers for and each for one of
    /// them: a receive that goes on could take them all.
    pub(super) fn feed_starved(&mut self) {
        let waiting = self.starved.len();
        self.granted.clear();
        if waiting == 0 {
            return;
        }
        // Some are left for those who have waited for nothing yet.
        let free = self.io.free_receive_buffers();
        let grants = waiting.min((free - free / 4).max(1));
        for _ in 0..grants {
            let Some(key) = self.starved.pop() else { return };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.unmark(Marks::STARVED);
            self.granted.push(key);
            let is_due = connection.may_receive() && !connection.has(Marks::PARKED);
            if is_due && waiting > 1 {
                connection.requests.begin(Requests::RECEIVE);
                self.io.receive_once(key, connection.slot());
            }
            self.settle(key);
        }
    }
}

/// What one connection may do in a tick when there is little else to do, in units of a [`Budget`]:
/// a tenth of a millisecond.
pub(super) const SHARE_MOST: usize = 512 << 10;
/// What it may do however much there is to do: some tens of messages, so that whoever sends few is
/// served at once.
const SHARE_LEAST: usize = 16 << 10;
