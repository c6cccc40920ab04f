//! How much may be published to a topic in a second: each member that sends something takes a few
//! messages of what its topic has left, and gives back what it has not begun.
//!
//! What a message takes is taken when it begins, so its end never waits: a member in the middle of
//! one goes on up to there. Where nothing is left a member waits as for its own rates, with a place
//! in the line of its topic that all shards share ([`crate::admission`]).

use std::collections::HashMap;
use std::sync::Arc;

use super::Shard;
use super::pause::WaitsFor;
use crate::admission::{Allowance, Place, Rate, nanoseconds};
use crate::io::{Io, Key};
use crate::websocket::PUBLISHED_COST;

/// Those of a shard who wait for the rate of their topic, by their index.
#[derive(Debug, Default)]
pub(super) struct TopicLine(HashMap<u32, Waiting>);

#[derive(Debug)]
struct Waiting {
    at_ns: u64,
    place: Option<Place>,
}

impl TopicLine {
    /// When the connection at `index` may ask again, if it waits; in nanoseconds since the start of
    /// the process.
    pub(super) fn at_ns(&self, index: u32) -> Option<u64> {
        self.0.get(&index).map(|waiting| waiting.at_ns)
    }
}

/// What a member has taken of its topic.
pub(super) struct TopicShare {
    topic: Arc<str>,
    rate: Rate,
    messages: u32,
    is_untracked: bool,
    /// Whether the end of a message is still to come, which has been taken for.
    had_begun: bool,
}

impl TopicShare {
    /// What messages have to wait for, if they may not begin.
    pub(super) fn obstacle(&self) -> Option<WaitsFor> {
        (self.messages == 0).then_some(WaitsFor::Rate)
    }

    /// Units of a budget in which no more messages can begin. Where none may, it bounds nothing.
    pub(super) fn units_most(&self) -> u32 {
        (self.messages * PUBLISHED_COST as u32).wrapping_sub(1)
    }
}

impl<I: Io> Shard<I> {
    /// Takes what a member may publish to its topic now; nothing where that is not limited.
    pub(super) fn take_of_topic(&mut self, key: Key) -> Option<TopicShare> {
        let rate = self.effective.admission.topic_rate()?;
        let connection = self.connections.get(key)?;
        let websocket = connection.stage.websocket().filter(|it| it.is_open() && it.may_publish());
        let had_begun = websocket?.has_begun_message();
        let topic = self.topics.name(self.broadcast_topic(key)?)?;
        let now = self.attendance.returned;
        let line = &mut self.rates.topic_line.0;
        let mut share = TopicShare { topic, rate, messages: 0, is_untracked: false, had_begun };
        if line.get(&key.index).is_some_and(|waiting| waiting.at_ns > nanoseconds(now)) {
            return Some(share);
        }
        let place = line.remove(&key.index).and_then(|waiting| waiting.place);
        match self.shared.admission.take(rate, &share.topic, now, MESSAGES_MOST, place) {
            Allowance::Now { messages, is_untracked } => {
                (share.messages, share.is_untracked) = (messages, is_untracked);
            }
            Allowance::Later { at_ns, place } => {
                line.insert(key.index, Waiting { at_ns, place });
            }
        }
        Some(share)
    }

    /// A member has published so many `messages`, and goes on unless there is a `reason` to wait.
    pub(super) fn settle_with_topic(
        &mut self,
        key: Key,
        share: &TopicShare,
        messages: u32,
        reason: Option<WaitsFor>,
    ) {
        let websocket = self.connections.get(key).and_then(|it| it.stage.websocket());
        let has_begun = websocket.is_some_and(|it| it.has_begun_message());
        let begun = (messages + u32::from(has_begun)).saturating_sub(share.had_begun.into());
        debug_assert!(begun <= share.messages, "no more begins than was taken");
        let unused = share.messages.saturating_sub(begun);
        if share.is_untracked {
            self.stats().publications_untracked.add(begun.into());
        } else if unused > 0 {
            let now = self.attendance.returned;
            self.shared.admission.give_back(share.rate, &share.topic, now, unused);
        }
        if reason != Some(WaitsFor::Rate) {
            // It has come to the end of what it had to say.
            self.leave_topic_line(key.index);
        }
    }

    /// The connection at `index` does not wait for the rate of its topic any more.
    pub(super) fn leave_topic_line(&mut self, index: u32) {
        if let Some(Waiting { place: Some(place), .. }) = self.rates.topic_line.0.remove(&index) {
            self.shared.admission.leave_line(place);
        }
    }
}

/// Messages that a member takes at once: few, so that others find some left.
const MESSAGES_MOST: u32 = 16;
