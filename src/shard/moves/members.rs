//! Members of topics on their way: their topics are held for them before they leave.
//!
//! ```text
//! shard that has it                              shard that gets it
//! goes on with it ------------- Hold ----------> holds its topics
//! ends its requests; reads <--- Held ----------- how far it had read by then
//! as far; hands it over
//! takes it out of its topics -- Traveller -----> reads as far as it has got messages;
//!                                                makes it a member, with what it has
//!                                                not got of what was held
//! ```
//!
//! Why none misses a message or gets one twice: see `hub/topics/holds.rs`. Until the socket has
//! been handed over the member stays what it was, and if that fails, only the hold has to be
//! released.

use std::time::Duration;

use super::{ARRIVAL_TIMEOUT, Departure, Leaving, Moves, PendingKey, Place, Ticket};
use crate::hub::run::Run;
use crate::hub::topics::{HoldId, Subscription};
use crate::io::{Io, Key};
use crate::shard::connections::Marks;
use crate::shard::deliver::{count_delivered, queue_alone};
use crate::shard::mail::Letter;
use crate::shard::timers::Tick;
use crate::shard::{RunState, Shard, ticks_in};

/// What the shard is asked that is to get a member.
pub struct Question {
    ticket: Ticket,
    subscriptions: Vec<Subscription>,
    key: PendingKey,
    answer: Place<Letter>,
}

/// What a member has been until it left.
pub(super) struct Membership {
    subscriptions: Vec<Subscription>,
    /// How many messages of each shard it has got, or was not to get, by number.
    positions: Box<[u64]>,
}

/// A member that goes on as it was until its topics are held.
pub(super) struct Asking {
    departure: Departure,
}

/// What is held for a member that is to come.
pub(super) struct Holding {
    ticket: Ticket,
    hold: HoldId,
    deadline: Tick,
}

impl Leaving {
    /// Whether this shard, which has read so far in the rings of the others, has to read further.
    pub(super) fn must_wait(&self, positions: &[u64]) -> bool {
        let from = self.departure.ticket.from as usize;
        let held_from = self.held_from.iter().flat_map(|held_from| held_from.iter().enumerate());
        held_from.zip(positions).any(|((of, held_from), read)| of != from && read < held_from)
    }
}

impl Membership {
    /// Whether the shard `own`, which has read so far in the rings of the others, has not read all
    /// that the member has got.
    pub(super) fn is_ahead_of(&self, positions: &[u64], own: usize) -> bool {
        let mut others = self.positions.iter().zip(positions).enumerate();
        others.any(|(of, (got, read))| of != own && got > read)
    }
}

impl Moves {
    fn take_holding(&mut self, ticket: Ticket) -> Option<HoldId> {
        let place = self.holding.iter().position(|holding| holding.ticket == ticket)?;
        Some(self.holding.swap_remove(place).hold)
    }
}

impl<I: Io> Shard<I> {
    /// How many messages of each participant this shard has taken in, by number; of its own those
    /// that the others were to get.
    pub(in crate::shard) fn positions(&self) -> Box<[u64]> {
        let mut positions = self.endpoint.positions();
        positions[self.number] = self.topics.published();
        positions
    }

    /// Asks the shard that a member is to go to; false when that cannot be now.
    pub(super) fn ask_to_hold(&mut self, departure: Departure) -> bool {
        let Ok(answer) = self.endpoint.take_place(self.number, 0) else { return false };
        let to = departure.place.receiver();
        let Ok(place) = self.endpoint.take_place(to, 0) else { return false };
        let subscriptions = self.topics.subscriptions(departure.key.index);
        let ticket = departure.ticket;
        let deadline = self.now + ticks_in(ANSWER_TIMEOUT);
        let Ok(key) = self.moves.asking.insert(Asking { departure }, deadline) else {
            debug_assert!(false, "there is room for as many as may leave");
            return false;
        };
        let question = Question { ticket, subscriptions, key, answer };
        self.endpoint.post(place, Letter::Hold(Box::new(question)));
        true
    }

    /// Another shard asks.
    pub(in crate::shard) fn hold(&mut self, question: Question) {
        let Question { ticket, subscriptions, key, answer } = question;
        let mut positions = None;
        if self.run_state == RunState::Serving {
            let hold = self.topics.hold(&subscriptions);
            let deadline = self.served + ticks_in(ARRIVAL_TIMEOUT);
            self.moves.holding.push(Holding { ticket, hold, deadline });
            positions = Some(self.positions());
        }
        self.endpoint.post(answer, Letter::Held(key, positions));
    }

    /// The topics of a member are held, and it can leave if it still may.
    pub(in crate::shard) fn held(&mut self, key: PendingKey, positions: Option<Box<[u64]>>) {
        let Some(Asking { departure }) = self.moves.asking.end(key) else { return };
        let connection = self.connections.get(departure.key);
        let may_leave =
            self.run_state == RunState::Serving && connection.is_some_and(|it| it.may_move());
        match positions {
            Some(positions) if may_leave => self.begin_to_leave(departure, Some(positions)),
            _ => self.stay_a_member(departure),
        }
    }

    fn stay_a_member(&mut self, departure: Departure) {
        self.endpoint.post(departure.place, Letter::Stays(departure.ticket));
    }

    /// Gives up the moves for which no answer has come in time.
    pub(super) fn expire_questions(&mut self) {
        for Asking { departure } in self.moves.asking.expire(self.now) {
            self.stay_a_member(departure);
        }
    }

    /// Takes a connection out of its topics, with what it has not got of what was published to
    /// them, and out of the line of those who wait to publish.
    pub(super) fn take_out(&mut self, key: Key) -> Option<Membership> {
        self.leave_topic_line(key.index);
        let Self { topics, connections, codec, shared, number, generation, .. } = self;
        let connection = connections.get_mut(key)?;
        if !connection.has(Marks::SUBSCRIBED) {
            return None;
        }
        let (codec, generation, mut messages) = (codec.get_mut(), generation.number(), 0);
        let subscriptions = topics.take_out(key.index, |run| {
            messages += queue_alone(run, key.index, connection, codec, generation);
        });
        count_delivered(messages, shared.stats.shard(*number));
        Some(Membership { subscriptions, positions: self.positions() })
    }

    /// Makes a connection that has come a member of its topics; false if it has missed something.
    pub(super) fn settle_in(
        &mut self,
        key: Key,
        ticket: Ticket,
        membership: Option<Membership>,
    ) -> bool {
        let hold = self.moves.take_holding(ticket);
        let Some(Membership { subscriptions, positions }) = membership else {
            hold.into_iter().for_each(|hold| self.topics.release(hold));
            return true;
        };
        let Some(hold) = hold else {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.unmark(Marks::SUBSCRIBED);
            }
            return false;
        };
        let position_of = |shard: Option<usize>| positions[shard.unwrap_or(self.number)];
        let messages = self.topics.settle_in(key.index, &subscriptions, hold, position_of);
        let mut runs: Vec<Run> = Vec::new();
        for message in messages {
            match runs.last_mut().filter(|run| run.takes(&message)) {
                Some(run) => run.join(message, None),
                None => runs.push(Run::new(message, None)),
            }
        }
        let Self { connections, codec, shared, number, generation, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return true };
        let (codec, generation) = (codec.get_mut(), generation.number());
        let messages = runs
            .iter_mut()
            .map(|run| queue_alone(run, key.index, connection, codec, generation))
            .sum();
        count_delivered(messages, shared.stats.shard(*number));
        true
    }

    /// A member for which topics are held does not come.
    pub(in crate::shard) fn release_hold(&mut self, ticket: Ticket) {
        if let Some(hold) = self.moves.take_holding(ticket) {
            self.topics.release(hold);
        }
    }

    /// Releases what is held for members that do not come in time.
    pub(super) fn expire_holds(&mut self) {
        let served = self.served;
        let overdue = |holding: &mut Holding| holding.deadline <= served;
        for Holding { hold, .. } in self.moves.holding.extract_if(.., overdue) {
            self.topics.release(hold);
        }
    }
}

/// How long the other shard may take to answer: nothing waits for it meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
