//! What a client has to say about the server: everything it gets is what it was owed, every end has
//! its reason, and at rest nothing is owed.

use ringwire::config::SlowConsumer;

use crate::client::{Client, Context};
use crate::control::ORDERED;
use crate::decoder::Item;
use crate::frames::{self, CLOSE, PING, PONG};
use crate::network::{End, Network};
use crate::plan::{Reading, Service};
use crate::trace::trace;

impl Client {
    /// Takes something whole from the server.
    pub fn take(&mut self, item: Item, context: &Context) {
        let number = self.number;
        let is_web_socket = !matches!(item, Item::Response { .. });
        assert!(
            !is_web_socket || self.close_received.is_none(),
            "client {number}: {item:?} after close"
        );
        match item {
            Item::Response { status, closes } => self.take_response(status, closes, context),
            Item::Message { opcode, payload } if self.plan.is_member() => {
                let (publisher, number, owed) = self.owed(&payload, context);
                assert!(owed == (opcode, payload), "client {number}: altered message");
                self.take_publication(publisher, number, context);
            }
            // It says no more than that the response goes on.
            Item::Line(line) if line.is_empty() => {}
            Item::Line(line) => {
                let (publisher, number, owed) = self.owed(&line, context);
                assert_eq!(frames::line(&owed), Some(line), "client {number}: altered line");
                self.take_publication(publisher, number, context);
            }
            Item::LastChunk => self.take_last_chunk(context),
            Item::Message { opcode, payload } => {
                let echo = self.echoes.pop_front();
                let same = echo.as_ref().is_some_and(|echo| *echo == (opcode, payload.clone()));
                let got = (opcode, payload.len());
                let owed = echo.map(|(opcode, payload)| (opcode, payload.len()));
                assert!(
                    same || self.violation == Some(0),
                    "client {number}: got {got:?}, not {owed:?}"
                );
            }
            Item::Control { opcode: PING, payload } => {
                let is_closing = self.close_sent.is_some() || self.violation.is_some();
                if !is_closing && !self.has_finished {
                    let pong = frames::frame(&mut self.rng, true, PONG, &payload);
                    self.queue(&pong);
                }
            }
            Item::Control { opcode: PONG, payload } => {
                let pong = self.pongs.pop_front();
                let same = pong.is_some_and(|pong| pong == payload);
                assert!(
                    same || self.violation == Some(0),
                    "client {number}: a pong without its ping"
                );
            }
            Item::Control { opcode, payload } => {
                assert_eq!(opcode, CLOSE, "the decoder passes no other");
                self.take_close(payload, context);
            }
        }
    }

    fn take_response(&mut self, status: u16, closes: bool, context: &Context) {
        trace!("client {}: response {status}", self.number);
        let expected = self.statuses.pop_front();
        let handshake_ms =
            context.shared.in_force.current().config.limits.handshake_timeout.as_millis() as u64;
        let is_overdue =
            context.has_jumped || context.now_ms + TICK_MS >= self.connected_ms + handshake_ms;
        let is_draining = context.draining_since.is_some();
        let origin = &context.origins[self.number];
        let asks_for_more = expected == Some(101) || self.plan.is_stream();
        let may_be_judged = context.is_judged() && (asks_for_more || expected == Some(202));
        let is_understood = match (status, expected) {
            (status, Some(expected)) if status == expected => true,
            (status, Some(_)) if asks_for_more && origin.may_get(status, context) => true,
            (401 | 403 | 503, Some(_)) if may_be_judged => true,
            // What was asked for too early, behind a stream that is refused.
            (200, None) if self.plan.is_stream() && self.gives_up => true,
            (503, Some(200)) if self.plan.is_stream() => {
                is_draining || context.may_be_full || context.is_pressed()
            }
            (503, Some(101)) => {
                // Those with tokens take turns, and may not come to theirs in time.
                let is_put_off = is_overdue && context.config_at_start.asks_who_somebody_is();
                is_draining || is_put_off || context.may_be_full || context.is_pressed()
            }
            (503, Some(202)) => is_draining || context.is_pressed(),
            (429, Some(202)) => context.config_at_start.limits.topic_rate.is_some(),
            (503, Some(200)) => is_draining,
            (408, _) => is_overdue,
            _ => {
                self.violation.is_some()
                    || matches!(self.plan.service, Service::Noise | Service::Loris)
            }
        };
        assert!(is_understood, "client {}: {status} for {expected:?}", self.number);
        let is_stream = self.plan.is_stream() && status == 200 && !self.gives_up;
        self.upgraded = status == 101 || is_stream;
        let is_unwelcome = origin.is_unwelcome(&context.config_at_start);
        assert!(!self.upgraded || !is_unwelcome, "client {}: let in", self.number);
        self.accepted += u32::from(status == 202);
        if closes && !is_stream {
            self.is_refused = true;
            self.statuses.clear();
        } else if asks_for_more && !self.upgraded {
            self.give_up();
        }
    }

    /// Who published a message, which of its messages it is, and what that must be.
    fn owed(&self, payload: &[u8], context: &Context) -> (usize, u32, (u8, Vec<u8>)) {
        let (publisher, number) = frames::origin(payload);
        (publisher, number, context.publication(publisher, number))
    }

    fn take_publication(&mut self, publisher: usize, number: u32, context: &Context) {
        let (topic, exclude_self) = match self.plan.service {
            Service::Topic { topic, exclude_self } => (topic, exclude_self),
            Service::Stream { topic, .. } => (topic, false),
            _ => panic!("client {}: a message and no topic", self.number),
        };
        assert_eq!(context.topics[publisher], Some(topic), "client {}: not its topic", self.number);
        assert!(!exclude_self || publisher != self.number, "client {}: its own", self.number);
        let (count, latest) = self.received.entry(publisher).or_insert((0, number));
        assert!(*count == 0 || *latest < number, "client {}: {number} after {latest}", self.number);
        (*count, *latest) = (*count + 1, number);
    }

    /// The stream is complete: the client, or the server for a reason of its own, ends it.
    fn take_last_chunk(&mut self, context: &Context) {
        trace!("client {}: last chunk", self.number);
        let is_understood = self.may_stream_end(context);
        assert!(is_understood, "client {}: the last chunk for no reason", self.number);
        self.close_received = Some(Vec::new());
    }

    /// Whether there is a reason to end a stream in good order.
    fn may_stream_end(&self, context: &Context) -> bool {
        let effective = context.shared.in_force.current();
        let has_lifetime = effective.config.limits.lifetime.is_some();
        let is_slow = self.plan.reading == Reading::Slow;
        let is_stopping = context.draining_since.is_some() || context.may_be_ordered_away;
        let may_be_replaced = context.origins[self.number].may_be_replaced(context);
        let is_closed = is_stopping || may_be_replaced;
        self.has_finished || has_lifetime || is_slow || is_closed || context.has_jumped
    }

    fn take_close(&mut self, payload: Vec<u8>, context: &Context) {
        trace!("client {}: close {payload:?}", self.number);
        let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        let is_answer =
            self.close_sent.as_ref().is_some_and(|sent| sent.get(..2) == payload.get(..2));
        let is_verdict = self.violation.is_some_and(|owed| owed == 0 || Some(owed) == code);
        if is_answer || is_verdict && self.violation != Some(0) {
            // The server had to deal with all that came before.
            self.check_nothing_is_owed();
        }
        let effective = context.shared.in_force.current();
        let config = &effective.config;
        let limits = &config.limits;
        let idle_ms = limits.idle_timeout.map(|timeout| timeout.as_millis() as u64);
        let is_idle = idle_ms.is_some_and(|ms| context.now_ms + TICK_MS >= self.written_ms + ms);
        let is_understood = match code {
            Some(1001) => {
                let has_lifetime = limits.lifetime.is_some();
                has_lifetime || is_idle || context.has_jumped || context.draining_since.is_some()
            }
            Some(1013) => {
                let is_member = self.plan.is_member();
                let is_slow = config.slow_consumer == SlowConsumer::Disconnect && is_member;
                is_slow || context.was_short_of_memory
            }
            Some(4001) => context.origins[self.number].may_be_replaced(context),
            Some(1012 | ORDERED) => context.may_be_ordered_away,
            _ => false,
        };
        assert!(
            is_answer || is_verdict || is_understood,
            "client {}: close {code:?} after {:?} and {:?}",
            self.number,
            self.close_sent,
            self.violation,
        );
        self.was_closed = !is_answer && !is_verdict;
        self.close_received = Some(payload.clone());
        if self.close_sent.is_none() && self.violation.is_none() && !self.has_finished {
            self.close(payload, context.now_ms);
        }
    }

    /// The connection has ended: rightly so?
    pub fn judge(&mut self, end: End, context: &Context) {
        if !self.plan.is_well_behaved() {
            return;
        }
        let effective = context.shared.in_force.current();
        let limits = &effective.config.limits;
        let now_ms = context.now_ms + TICK_MS;
        let close_ms = limits.close_timeout.as_millis() as u64;
        let is_overdue = self.ending_ms.is_some_and(|since| now_ms >= since + close_ms);
        // A drain ends with its window, and each close that it begins with the deadline of a close.
        let window_ms =
            (context.shared.in_force.current().config.drain.as_millis() as u64).min(close_ms);
        let drained = context.draining_since.is_some_and(|since| now_ms >= since + window_ms)
            || context.draining_since.is_some() && !self.upgraded;
        let handshake_ms = limits.handshake_timeout.as_millis() as u64;
        let is_late = !self.upgraded && now_ms >= self.connected_ms + handshake_ms;
        let is_slow = self.plan.reading == Reading::Slow;
        let had_no_room = (context.may_be_full || context.was_overloaded) && !self.upgraded;
        let lifetime_ms = limits.lifetime.map(|lifetime| lifetime.as_millis() as u64 + close_ms);
        let is_old = lifetime_ms.is_some_and(|ms| now_ms >= self.connected_ms + ms);
        // The close frame came behind a message that took longer than both deadlines of a close.
        let is_stuck = self.within_since_ms.is_some_and(|since| now_ms >= since + 2 * close_ms);
        if is_overdue
            || is_stuck
            || drained
            || is_late
            || is_slow
            || had_no_room
            || is_old
            || context.has_jumped
            || context.was_short_of_memory
            || !self.upgraded && context.origins[self.number].may_be_refused(context)
        {
            return;
        }
        let number = self.number;
        assert_eq!(end, End::Finished, "client {number}: reset for no reason");
        assert_ne!(self.was_told_end, Some(false), "client {number}: TLS ends without a word");
        if self.plan.is_stream() && !self.is_refused && !self.gives_up {
            return self.judge_stream(context);
        }
        if self.close_received.is_none() && !self.is_refused {
            assert!(self.has_finished, "client {number}: no close frame");
            self.check_nothing_is_owed();
        }
    }

    /// A stream has ended: behind a whole line, and with the last chunk unless it was cut off.
    fn judge_stream(&self, context: &Context) {
        let number = self.number;
        assert!(!self.decoder.is_within(), "client {number}: cut within a line");
        let is_bare = matches!(self.plan.service, Service::Stream { version: "1.0", .. });
        let policy = context.shared.in_force.current().config.slow_consumer;
        let is_told = self.close_received.is_some() || is_bare && self.may_stream_end(context);
        let may_be_cut = policy == SlowConsumer::Disconnect;
        assert!(is_told || may_be_cut, "client {number}: no last chunk");
    }

    /// Everything has come to rest: nothing that needs no timer may be outstanding.
    pub fn check_rest(&self, network: &Network) {
        let Some(socket) = self.socket else { return };
        let was_accepted = network.sockets[socket].consumed > 0;
        if self.is_gone() || !self.plan.is_well_behaved() || !was_accepted {
            return;
        }
        let number = self.number;
        assert!(self.out.is_empty(), "client {number}: {} bytes are not read", self.out.len());
        assert!(!self.has_finished, "client {number}: no answer to its FIN");
        assert!(self.close_sent.is_none(), "client {number}: no end after its close");
        if self.was_closed && self.violation.is_some() {
            // The violation met a server that was closing already, and waits for our answer.
            return;
        }
        assert!(self.violation.is_none(), "client {number}: no end after its violation");
        assert!(!self.is_refused, "client {number}: no end after its refusal");
        self.check_nothing_is_owed();
    }

    fn check_nothing_is_owed(&self) {
        let number = self.number;
        assert!(self.statuses.is_empty(), "client {number}: {:?} do not come", self.statuses);
        assert!(self.echoes.is_empty(), "client {number}: {} echoes are lost", self.echoes.len());
        assert!(self.pongs.is_empty(), "client {number}: {} pongs are lost", self.pongs.len());
    }
}

/// Deadlines have this resolution.
const TICK_MS: u64 = 100;
