//! How much topics have pending, for which their publishers wait, on this shard and on others.

use super::{Topic, TopicId, Topics};
use crate::hub::interest::Fullness;

impl Topics {
    /// How full a topic is, here or on another shard.
    pub fn fullness(&self, TopicId(topic): TopicId) -> Fullness {
        self.topics.get(topic as usize).map_or(Fullness::HasRoom, |topic| {
            let here = self.fullness_of(topic);
            here.max(self.interest.fullness_elsewhere(topic.interest))
        })
    }

    /// The same of the topic `name`, whether or not it has a member here.
    pub fn fullness_by_name(&self, name: &str) -> Fullness {
        match self.by_name.get(name) {
            Some(&topic) => self.fullness(TopicId(topic)),
            None => self.interest.fullness_elsewhere(self.interest.slot_of(name)),
        }
    }

    /// Whether a topic is full on another shard, and not here.
    pub fn is_full_elsewhere_alone(&self, TopicId(topic): TopicId) -> bool {
        self.topics.get(topic as usize).is_some_and(|topic| {
            self.fullness_of(topic) == Fullness::HasRoom
                && self.interest.fullness_elsewhere(topic.interest) > Fullness::HasRoom
        })
    }

    /// The same of the topic `name`, whether or not it has a member here.
    pub fn is_full_elsewhere_alone_by_name(&self, name: &str) -> bool {
        match self.by_name.get(name) {
            Some(&topic) => self.is_full_elsewhere_alone(TopicId(topic)),
            None => self.fullness_by_name(name) > Fullness::HasRoom,
        }
    }

    fn fullness_of(&self, topic: &Topic) -> Fullness {
        let most = PENDING_BYTES_MAX / self.dirty.len().max(1);
        let share_bytes = match self.pending_bytes < TOTAL_BYTES_MAX {
            true => most.max(PENDING_BYTES_LEAST),
            false => most.min(PENDING_BYTES_LEAST),
        };
        match topic.pending_bytes + topic.held_bytes {
            bytes if bytes >= VERY_FULL_SHARES * share_bytes => Fullness::VeryFull,
            bytes if bytes >= share_bytes => Fullness::Full,
            _ => Fullness::HasRoom,
        }
    }

    /// Tells the other shards how full a topic is, if that has changed.
    pub(super) fn tell_fullness(&mut self, index: u32) {
        let now = self.fullness_of(&self.topics[index as usize]);
        let topic = &mut self.topics[index as usize];
        if now != topic.fullness {
            self.interest.set_fullness(topic.interest, topic.fullness, now);
            topic.fullness = now;
        }
    }
}

/// Memory of what is published and not yet delivered to all, of all topics together, about. Little
/// in debug builds, so that tests see publishers wait.
pub(super) const PENDING_BYTES_MAX: usize = if cfg!(debug_assertions) { 8 << 10 } else { 4 << 20 };
/// Bytes that each topic may have, however many there are, until all together have
/// [`TOTAL_BYTES_MAX`].
pub(super) const PENDING_BYTES_LEAST: usize = PENDING_BYTES_MAX / 64;
/// Bytes of all topics together from which each has its share of [`PENDING_BYTES_MAX`] alone.
const TOTAL_BYTES_MAX: usize = 4 * PENDING_BYTES_MAX;
/// How many times its share a topic has when even those wait who send little.
pub(super) const VERY_FULL_SHARES: usize = 4;
