//! Connections that come from another shard: each in two halves, its socket and its state.

use std::time::Duration;

use super::{Departed, PendingKey, Traveller};
use crate::io::{Io, Slot, Ticket};
use crate::shard::connections::gauge_of;
use crate::shard::mail::Letter;
use crate::shard::measure::SHARD_FAILED;
use crate::shard::outbox::Outbox;
use crate::shard::timers::Tick;
use crate::shard::{Shard, seconds, ticks_in};
use crate::websocket::Initiator;
use crate::wire::close::CloseCode;

/// One of the two halves of a connection that is to go on here.
pub(super) struct Arriving {
    pub(super) ticket: Ticket,
    /// When the other half must be there.
    deadline: Tick,
    pub(super) half: Half,
}

pub(super) enum Half {
    Socket(Slot),
    State(Box<Traveller>),
    /// Both are there, and this shard has to read on before a member can join.
    Both(Slot, Box<Traveller>),
}

impl<I: Io> Shard<I> {
    /// Another shard has handed over a socket.
    pub(in crate::shard) fn adopted(&mut self, ticket: Ticket, slot: Slot) {
        match self.moves.take_arriving(ticket) {
            Some(Half::State(traveller)) => self.meet(slot, traveller),
            Some(_) => debug_assert!(false, "a socket is handed over once"),
            None => self.await_half(ticket, Half::Socket(slot)),
        }
    }

    /// Another shard has sent the state of a connection.
    pub(in crate::shard) fn take_traveller(&mut self, traveller: Box<Traveller>) {
        match self.moves.take_arriving(traveller.ticket) {
            Some(Half::Socket(slot)) => self.meet(slot, traveller),
            _ => self.await_half(traveller.ticket, Half::State(traveller)),
        }
    }

    /// A connection that has left goes on elsewhere.
    pub(in crate::shard) fn has_arrived(&mut self, move_key: PendingKey) {
        if let Some(departed) = self.moves.pending.end(move_key) {
            self.count_out(&departed);
            self.note_arrival(true);
        }
    }

    fn count_out(&self, departed: &Departed) {
        if departed.is_web_socket {
            self.stats().websockets_open.subtract(1);
        }
    }

    fn await_half(&mut self, ticket: Ticket, half: Half) {
        // In time that this shard was there: a machine that stops must not part the two halves.
        let deadline = self.served + ticks_in(ARRIVAL_TIMEOUT);
        self.moves.arriving.push(Arriving { ticket, deadline, half });
    }

    /// Both halves are here.
    fn meet(&mut self, slot: Slot, traveller: Box<Traveller>) {
        match self.is_behind(&traveller) {
            true => self.await_half(traveller.ticket, Half::Both(slot, traveller)),
            false => self.arrive(slot, *traveller),
        }
    }

    fn is_behind(&self, traveller: &Traveller) -> bool {
        let membership = traveller.membership.as_ref();
        membership.is_some_and(|membership| membership.is_ahead_of(&self.positions(), self.number))
    }

    /// Goes on with those for whom this shard has read enough meanwhile.
    pub(in crate::shard) fn continue_arriving(&mut self) {
        let is_ready = |half: &Half| match half {
            Half::Both(_, traveller) => !self.is_behind(traveller),
            Half::Socket(_) | Half::State(_) => false,
        };
        let ready = self.moves.arriving.iter().filter(|arriving| is_ready(&arriving.half));
        let tickets: Vec<_> = ready.map(|arriving| arriving.ticket).collect();
        for ticket in tickets {
            if let Some(Half::Both(slot, traveller)) = self.moves.take_arriving(ticket) {
                self.arrive(slot, *traveller);
            }
        }
    }

    /// The connection goes on.
    fn arrive(&mut self, slot: Slot, traveller: Traveller) {
        let Traveller { mut protocol, marks, input, luggage, answer, .. } = traveller;
        let (now, served) = (self.now, self.served);
        if let Some(websocket) = protocol.websocket_mut() {
            websocket.set_clock_forward(seconds(now).wrapping_sub(traveller.now_s));
        }
        let key = self.connections.insert(slot, served.saturating_sub(traveller.silence));
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_kept_alive = protocol.is_kept_alive();
        connection.stage = protocol;
        connection.mark(marks);
        connection.outbox = Outbox::unpack(luggage, self.generation.number());
        if let Some(check) = self.times.ping_check {
            // The rounds of this place are others: its silence is looked for in the next.
            connection.note_look(check, now, key.index);
        }
        self.pending_input.append(key.index, &input);
        self.ledger.dropped(key, traveller.dropped);
        self.wanted.note(key.index, served.saturating_sub(traveller.message_silence));
        self.rates.set_due(key.index, traveller.due);
        self.lifetimes.set(key.index, traveller.lifetime_left.map(|left| now + left));
        self.peers.put(key.index, traveller.peer);
        self.secured.put(key.index, traveller.secure);
        self.measures.opened(key.index, now.saturating_sub(traveller.age));
        self.note_connections();
        let stats = self.shared.stats.shard(self.number);
        stats.connections_open.add(1);
        stats.connections_moved.add(1);
        if let Some(gauge) = self.connections.get(key).and_then(|it| gauge_of(&it.stage, stats)) {
            gauge.add(1);
        }
        if is_kept_alive {
            self.list_kept_alive(key);
        }
        self.endpoint.post(answer, Letter::Arrived(traveller.move_key));
        if !self.settle_in(key, traveller.ticket, traveller.membership) {
            self.close(key, CloseCode::TRY_AGAIN_LATER, "messages were missed");
        }
        self.go_on(key, now + traveller.deadline_left);
        self.keep_slots_free();
    }

    /// Forgets the connections that were to go on here, and tells how many WebSockets are among
    /// them whose end is still to be counted.
    pub(in crate::shard) fn forget_arriving(&mut self) -> usize {
        let halves = self.moves.arriving.drain(..).map(|arriving| arriving.half);
        let travellers = halves.filter_map(|half| match half {
            Half::State(traveller) | Half::Both(_, traveller) => Some(traveller),
            Half::Socket(_) => None,
        });
        let mut travellers: Vec<_> = travellers.collect();
        travellers.extend(std::iter::from_fn(|| self.endpoint.next_letter()).filter_map(
            |letter| match letter {
                Letter::Traveller(traveller) => Some(traveller),
                _ => None,
            },
        ));
        let owing = travellers.iter().filter(|it| it.protocol.owes_close()).count();
        for mut traveller in travellers {
            if traveller.protocol.owes_close() {
                traveller.peer.end_visit(Initiator::Local, CloseCode::ABNORMAL, SHARD_FAILED);
            }
            self.part_with(traveller.peer);
        }
        owing
    }

    /// Acts on the deadlines of moves that have left their shard. Only the failure of a shard
    /// brings them about.
    pub(in crate::shard) fn expire_moves(&mut self) {
        if self.moves.is_empty() {
            return;
        }
        for departed in self.moves.pending.expire(self.now) {
            let (from, to) = (self.number, departed.to);
            tracing::warn!(from, to, "a connection was moved and did not arrive");
            self.count_out(&departed);
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
                Half::State(traveller) => {
                    if traveller.protocol.owes_close() {
                        self.stats().close(Initiator::Local, CloseCode::ABNORMAL);
                    }
                    traveller.peer.release(&self.shared.admission);
                }
                // What it waits for does not come: the shard has failed that published it.
                Half::Both(slot, traveller) => self.arrive(slot, *traveller),
                Half::Socket(slot) => {
                    let key = self.connections.insert(slot, self.served);
                    self.stats().connections_open.add(1);
                    self.doom(key, true);
                }
            }
        }
        self.expire_holds();
    }
}

/// How long a connection may be on its way.
pub(super) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(5);
