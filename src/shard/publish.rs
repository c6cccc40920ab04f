//! Publishing: what connections and applications publish goes to the topics of this shard, to the
//! other shards by the broadcast ring, and to another process while there is one.

use std::sync::Arc;

use super::Shard;
use crate::hub::Message;
use crate::hub::topics::{Publication, TopicId};
use crate::io::{Io, Key};
use crate::realtime::filter::Tags;
use crate::realtime::topic;
use crate::wire::message::{DataMessage, SharedMessage};

impl<I: Io> Shard<I> {
    /// The topic of a connection of `/broadcast`, which has joined no other.
    pub(super) fn broadcast_topic(&self, key: Key) -> Option<TopicId> {
        self.topics.of(key.index).next()
    }

    /// The name of a topic, or of the channel that it belongs to, as people know it.
    pub(super) fn topic_named(&self, topic: TopicId) -> Option<Arc<str>> {
        let name = self.topics.name(topic)?;
        Some(match topic::shown(&name) {
            shown if shown.len() == name.len() => name,
            shown => shown.into(),
        })
    }

    /// The same of the latest that a connection has joined.
    pub(super) fn topic_shown(&self, key: Key) -> Option<Arc<str>> {
        self.topics.of(key.index).next().and_then(|topic| self.topic_named(topic))
    }

    /// Publishes a message of a connection to its topic: to this shard at the end of the tick, to
    /// the others by the ring.
    pub(super) fn publish(&mut self, key: Key, message: DataMessage) {
        self.publish_as(key.index, message);
    }

    /// The same of any member of a topic, which has joined no other.
    pub(super) fn publish_as(&mut self, member: u32, message: DataMessage) {
        let Some(topic) = self.topics.of(member).next() else { return };
        let publication = self.topics.publish(topic, Some(member), message);
        self.pass_on(publication);
    }

    /// Publishes a message to the topic `name`, which need not have a member anywhere. A caller
    /// that is to be bounded looks at [`Topics::fullness_by_name`] before.
    ///
    /// [`Topics::fullness_by_name`]: crate::hub::topics::Topics::fullness_by_name
    pub fn publish_by_name(&mut self, name: &str, message: DataMessage) {
        let publication = self.topics.publish_by_name(name, message);
        self.pass_on(publication);
    }

    /// Publishes a message to what is derived from a topic, with what filters are told of it.
    pub(super) fn publish_to_derived(
        &mut self,
        source: &str,
        message: &SharedMessage,
        tags: Option<&Arc<Tags>>,
    ) {
        let publication = self.topics.publish_to_derived(source, message, tags);
        self.send_to_others(publication);
    }

    /// Gives the other shards, and another process, what they need of something published.
    fn pass_on(&mut self, publication: Option<Publication>) {
        self.send_to_others(publication);
        self.stats().broadcasts.add(1);
    }

    fn send_to_others(&mut self, publication: Option<Publication>) {
        if let Some(publication) = publication {
            let relay = self.shared.interest.relay();
            // Each process has channels of its own: their offsets mean nothing elsewhere.
            if relay.is_on() && !topic::is_of_channel(&publication.topic) {
                relay.pass(&publication);
            }
            self.overflow.push_back(publication);
            debug_assert_eq!(
                self.topics.published(),
                self.endpoint.position() + self.overflow.len() as u64,
                "topics count what goes to the ring"
            );
            self.drain_overflow();
        }
    }

    /// Takes what other shards have published, as much of each as a tick may.
    pub(super) fn handle_messages(&mut self) {
        let mut departure = None;
        let topics = &mut self.topics;
        let others = self.effective.config.engine.shards.saturating_sub(1).max(1);
        let share_bytes = (INTAKE_BYTES_MAX / others).max(INTAKE_BYTES_LEAST);
        let (mut from, mut taken_bytes) = (usize::MAX, 0);
        self.endpoint.drain(MESSAGES_PER_TICK, |sender, position, message| {
            if from != sender {
                (from, taken_bytes) = (sender, 0);
            }
            match message {
                Message::Publish(publication) => {
                    topics.receive(publication, sender, position);
                    taken_bytes += publication.message.frame_bytes();
                }
                Message::Drain(why) => departure = Some(*why),
            }
            taken_bytes < share_bytes && topics.pending_bytes() < PENDING_BYTES_MOST
        });
        if let Some(departure) = departure {
            self.depart(departure);
        }
    }

    /// Lets what was published enter the broadcast ring as far as that has room.
    pub(super) fn drain_overflow(&mut self) {
        while let Some(publication) = self.overflow.pop_front() {
            let bytes = publication.message.frame_bytes();
            if let Err(Message::Publish(publication)) =
                self.endpoint.publish(Message::Publish(publication), bytes)
            {
                self.overflow.push_front(publication);
                return;
            }
        }
    }
}

/// Bytes taken from all other shards in one tick, about; the rings hold back what is left.
const INTAKE_BYTES_MAX: usize = 4 << 20;
/// Bytes taken from each of them at least, about.
const INTAKE_BYTES_LEAST: usize = 64 << 10;
/// Bytes published and not yet delivered from which hardly anything is taken from other shards:
/// their publishers are told of a full topic long before.
const PENDING_BYTES_MOST: usize = 64 << 20;
/// Messages taken from each other shard in one tick, so that none starves this shard's own peers.
const MESSAGES_PER_TICK: usize = 256;
