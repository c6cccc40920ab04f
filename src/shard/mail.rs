//! Letters to a shard, and from it to the control thread: what they say, and who acts on each.

use std::sync::Arc;

use super::Shard;
use super::inquiries::Consultation;
use super::moves::{Question, Traveller};
use super::orders::{Order, Outcome};
use super::pending::PendingKey;
use super::sessions::{Answered, Ask, ChannelStates, HookCall, Rule};
use crate::identity::Judgement;
use crate::io::{Io, Key, Ticket};
use crate::realtime::hooks::Answer;

/// What one shard tells another, and what the control thread and a shard tell each other.
pub enum Letter {
    /// A connection whose socket is, or will be, there.
    Traveller(Box<Traveller>),
    /// It goes on there.
    Arrived(PendingKey),
    /// A member of topics is to come: what it has joined shall be held for it.
    Hold(Box<Question>),
    /// That is done, with how far that shard has read by then; not if it takes nobody.
    Held(PendingKey, Option<Box<[u64]>>),
    /// The member does not come after all.
    Stays(Ticket),
    /// These connections have lost their seats to others of their users.
    Unseated(Vec<Key>),
    /// The control thread wants something done.
    Order(Box<Order>),
    /// What has become of an order.
    Outcome(PendingKey, Box<Outcome>),
    /// The control thread is to ask somebody about a request.
    Consultation(Box<Consultation>),
    /// What that one has said.
    Judgement(PendingKey, Box<Judgement>),
    /// Something for the home of a channel.
    Ask(Box<Ask>),
    /// What that has answered.
    Answered(PendingKey, Box<Answered>),
    /// The control thread is to ask a backend about a session.
    HookCall(Box<HookCall>),
    /// What backends have answered.
    HookAnswers(Vec<(PendingKey, Answer)>),
    /// The control thread is to tell a backend what has happened to channels.
    ChannelStates(Box<ChannelStates>),
    /// What an application wants done with sessions.
    Rule(Arc<Rule>),
}

impl<I: Io> Shard<I> {
    /// Takes letters, as many as a tick may.
    pub(super) fn handle_mail(&mut self) {
        for _ in 0..LETTERS_PER_TICK {
            match self.endpoint.next_letter() {
                Some(Letter::Traveller(traveller)) => self.take_traveller(traveller),
                Some(Letter::Arrived(move_key)) => self.has_arrived(move_key),
                Some(Letter::Hold(question)) => self.hold(*question),
                Some(Letter::Held(key, positions)) => self.held(key, positions),
                Some(Letter::Stays(ticket)) => self.release_hold(ticket),
                Some(Letter::Unseated(keys)) => self.peers.unseated.note(keys),
                Some(Letter::Order(order)) => self.take_order(*order),
                Some(Letter::Judgement(key, judgement)) => self.take_judgement(key, *judgement),
                Some(Letter::Ask(ask)) => self.take_ask(*ask),
                Some(Letter::Answered(asked, answered)) => self.take_answer(asked, *answered),
                Some(Letter::Rule(rule)) => self.follow_rule(&rule),
                Some(Letter::HookAnswers(answers)) => self.take_hook_answers(answers),
                Some(
                    Letter::Outcome(..)
                    | Letter::Consultation(_)
                    | Letter::HookCall(_)
                    | Letter::ChannelStates(_),
                ) => {
                    debug_assert!(false, "a shard orders nothing, and knows nobody to ask");
                }
                None => return,
            }
        }
    }
}

/// Letters taken in one tick: each may bring the input of a few receive buffers.
const LETTERS_PER_TICK: usize = 32;
