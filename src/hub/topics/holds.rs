//! Members that move from one shard to another, so that none of them misses a message or gets one
//! twice.
//!
//! Each shard is elsewhere in the broadcast rings. Before a member comes, its new shard *holds* its
//! topics: it counts as interested, and keeps what it appends to them, each message with where it
//! was published and how many its shard had sent before. Its old shard goes on to deliver. It lets
//! the member go when it has read as far in every ring as the new one had when the hold began, and
//! notes how far it has read: all before that the member has got there, and all from there on is
//! held here. When the new shard has read as far as that as well, the member joins, and gets what
//! it has not got of what was held.
//!
//! What the hold takes is bounded as what waits for a delivery is: publishers wait when it is much.

use std::sync::Arc;

use super::subscriptions::Number;
use super::{Origin, Topics};
use crate::hub::run::Run;
use crate::realtime::filter::Tags;
use crate::wire::message::SharedMessage;

/// What a member has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Whether the member does not want what it publishes itself.
    pub exclude_self: bool,
}

/// Names a hold until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldId(u32);

/// What has been published to the topics of a member that is on its way.
#[derive(Debug)]
pub(super) struct Hold {
    topics: Vec<u32>,
    messages: Vec<Held>,
}

#[derive(Debug)]
pub(super) struct Held {
    topic: u32,
    message: SharedMessage,
    origin: Origin,
}

impl Topics {
    /// What a member has joined.
    pub fn subscriptions(&self, member: u32) -> Vec<Subscription> {
        let joined = self.subscriptions.of(member);
        joined.map(|(number, topic)| self.subscription_of(number, topic)).collect()
    }

    fn subscription_of(&self, number: Number, topic: u32) -> Subscription {
        let topic = self.topics[topic as usize].name.clone();
        Subscription { topic, exclude_self: self.subscriptions.excludes_self(number) }
    }

    /// Takes a member out of all that it has joined, and tells what that was. What it has not got
    /// yet is shown to `deliver`, in order.
    pub fn take_out(
        &mut self,
        member: u32,
        mut deliver: impl FnMut(&mut Run),
    ) -> Vec<Subscription> {
        let mut taken = Vec::new();
        loop {
            let Some((number, index)) = self.subscriptions.of(member).next() else { break };
            let place = self.subscriptions.place(number);
            let topic = &mut self.topics[index as usize];
            if let Some(round) = &mut topic.round
                && (round.next..round.end).contains(&place)
            {
                round.runs.iter_mut().for_each(&mut deliver);
            }
            for run in &mut topic.pending {
                run.prepare();
                deliver(run);
            }
            taken.push(self.subscription_of(number, index));
            self.end_subscription(member, number, index);
        }
        taken
    }

    /// Begins to keep what is published to these topics.
    pub fn hold(&mut self, subscriptions: &[Subscription]) -> HoldId {
        let topics: Vec<_> = subscriptions
            .iter()
            .map(|subscription| match self.by_name.get(&subscription.topic) {
                Some(&topic) => topic,
                None => self.begin(&subscription.topic),
            })
            .collect();
        let hold = Hold { topics, messages: Vec::new() };
        let id = HoldId(self.holds.insert(hold) as u32);
        for &topic in &self.holds[id.0 as usize].topics {
            self.topics[topic as usize].holds.push(id);
        }
        id
    }

    /// How many have begun and not ended.
    pub fn holds(&self) -> usize {
        self.holds.len()
    }

    pub(super) fn hold_message(
        &mut self,
        index: u32,
        message: &SharedMessage,
        tags: Option<&Arc<Tags>>,
        origin: Origin,
    ) {
        let topic = &mut self.topics[index as usize];
        let derived = match &topic.derivation {
            Some(derivation) => derivation.derive(message, tags.map(|it| &**it)),
            None => Some(message.clone()),
        };
        let Some(message) = derived else { return };
        for hold in &topic.holds {
            let held = Held { topic: index, message: message.clone(), origin };
            topic.held_bytes += held.bytes();
            self.holds[hold.0 as usize].messages.push(held);
        }
    }

    /// Makes `member` a subscriber of what has been held for it, and returns the messages that it
    /// has not got yet: on each shard those from so many on as `positions` says, which is asked
    /// with `None` for this one.
    pub fn settle_in(
        &mut self,
        member: u32,
        subscriptions: &[Subscription],
        hold: HoldId,
        positions: impl Fn(Option<usize>) -> u64,
    ) -> Vec<SharedMessage> {
        let held_topics = &self.holds[hold.0 as usize].topics;
        debug_assert_eq!(held_topics.len(), subscriptions.len(), "all of them are held");
        // In the order in which they were joined.
        for Subscription { topic, exclude_self } in subscriptions.iter().rev() {
            let joined = self.join(member, topic, *exclude_self);
            debug_assert!(joined.is_ok(), "it has joined as many before");
            if let Some(&topic) = self.by_name.get(topic) {
                // All that is pending has been held as well, or is older.
                self.topics[topic as usize].pending.iter_mut().for_each(|run| run.skip_all(member));
            }
        }
        let held = self.end_hold(hold).into_iter();
        let is_new = |held: &Held| {
            held.origin.position.is_none_or(|position| position >= positions(held.origin.shard))
        };
        held.filter(is_new).map(|held| held.message).collect()
    }

    /// Ends a hold whose member does not come.
    pub fn release(&mut self, hold: HoldId) {
        self.end_hold(hold);
    }

    fn end_hold(&mut self, id: HoldId) -> Vec<Held> {
        let Hold { topics, messages } = self.holds.remove(id.0 as usize);
        for held in &messages {
            self.topics[held.topic as usize].held_bytes -= held.bytes();
        }
        for topic in topics {
            self.topics[topic as usize].holds.retain(|hold| *hold != id);
            self.tell_fullness(topic);
            self.end_if_unwanted(topic);
        }
        messages
    }
}

impl Held {
    /// Memory that it takes, as far as nobody else has the message.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.message.frame_bytes() + Run::MESSAGE_BYTES
    }
}

#[cfg(test)]
mod tests;
