//! The topics of one shard: who listens, and what has been published since the last delivery.
//!
//! Everything published to a topic within one tick is joined into runs of frames, so that a
//! subscriber gets one send for a burst. Joining and leaving cost O(1): members lie in a dense list
//! and know their place in it.

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

use super::run::Run;

/// One message on its way to the subscribers of a topic.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The encoded frame.
    pub frame: Arc<Vec<u8>>,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    members: Vec<u32>,
    pending: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Membership {
    topic: u32,
    place: u32,
    exclude_self: bool,
}

/// The topics of one shard. Members are named by their connection's index.
#[derive(Debug, Default)]
pub struct Topics {
    by_name: HashMap<Arc<str>, u32>,
    topics: Slab<Topic>,
    memberships: Vec<Option<Membership>>,
    /// Topics with something pending.
    dirty: Vec<u32>,
}

impl Topics {
    /// Makes `member` a subscriber of the topic `name`, leaving its former one.
    pub fn join(&mut self, member: u32, name: &str, exclude_self: bool) {
        self.leave(member);
        let topic = match self.by_name.get(name) {
            Some(&topic) => topic,
            None => {
                let name: Arc<str> = name.into();
                let empty = Topic { name: name.clone(), members: Vec::new(), pending: Vec::new() };
                let topic = self.topics.insert(empty) as u32;
                self.by_name.insert(name, topic);
                topic
            }
        };
        let members = &mut self.topics[topic as usize].members;
        let place = members.len() as u32;
        members.push(member);
        let index = member as usize;
        if index >= self.memberships.len() {
            self.memberships.resize(index + 1, None);
        }
        self.memberships[index] = Some(Membership { topic, place, exclude_self });
    }

    /// Ends the subscription of `member`, if it has one; an empty topic is forgotten.
    pub fn leave(&mut self, member: u32) {
        let Some(Membership { topic, place, .. }) =
            self.memberships.get_mut(member as usize).and_then(Option::take)
        else {
            return;
        };
        let left = &mut self.topics[topic as usize];
        left.members.swap_remove(place as usize);
        if let Some(&moved) = left.members.get(place as usize)
            && let Some(membership) = &mut self.memberships[moved as usize]
        {
            membership.place = place;
        }
        if left.members.is_empty() {
            let topic = self.topics.remove(topic as usize);
            self.by_name.remove(&topic.name);
        }
    }

    /// Publishes a frame of `member` to its topic, and returns what other shards need of it.
    pub fn publish(&mut self, member: u32, frame: Vec<u8>) -> Option<Publication> {
        let membership = (*self.memberships.get(member as usize)?)?;
        let topic = self.topics[membership.topic as usize].name.clone();
        let frame = Arc::new(frame);
        let skip = membership.exclude_self.then_some(member);
        self.append(membership.topic, &frame, skip);
        Some(Publication { topic, frame })
    }

    /// Takes a publication of another shard.
    pub fn receive(&mut self, publication: &Publication) {
        if let Some(&topic) = self.by_name.get(&publication.topic) {
            self.append(topic, &publication.frame, None);
        }
    }

    /// Hands over everything pending, topic by topic, with the members to deliver it to.
    pub fn drain(&mut self, mut deliver: impl FnMut(&[u32], &mut [Run])) {
        for topic in self.dirty.drain(..) {
            // A topic may have been left by all its members, and its place taken by another.
            if let Some(topic) = self.topics.get_mut(topic as usize)
                && !topic.pending.is_empty()
            {
                deliver(&topic.members, &mut std::mem::take(&mut topic.pending));
            }
        }
    }

    /// Topics with at least one subscriber here.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether nobody subscribes to anything here.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    fn append(&mut self, index: u32, frame: &Arc<Vec<u8>>, skip: Option<u32>) {
        let topic = &mut self.topics[index as usize];
        if topic.pending.is_empty() {
            self.dirty.push(index);
        }
        let joins = topic.pending.last_mut().is_some_and(|run| run.join(frame, skip));
        if !joins {
            topic.pending.push(Run::new(frame.clone(), skip));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::JOINED_BYTES_MAX;
    use super::*;

    fn drained(topics: &mut Topics) -> Vec<(Vec<u32>, Vec<u8>)> {
        let mut all = Vec::new();
        topics.drain(|members, runs| {
            for run in runs {
                for &member in members {
                    let bytes = match run.excerpt(member, None) {
                        Some((bytes, _)) => bytes,
                        None => run.frames(None).bytes().to_vec(),
                    };
                    all.push((vec![member], bytes));
                }
            }
        });
        all
    }

    #[test]
    fn a_tick_of_messages_is_one_run() {
        let mut topics = Topics::default();
        topics.join(1, "a", false);
        topics.join(2, "a", true);
        topics.join(3, "b", false);
        topics.publish(1, b"x".to_vec()).unwrap();
        topics.publish(2, b"yy".to_vec()).unwrap();
        topics.publish(2, b"z".to_vec()).unwrap();
        assert_eq!(drained(&mut topics), [(vec![1], b"xyyz".to_vec()), (vec![2], b"x".to_vec())]);
        assert!(drained(&mut topics).is_empty());
    }

    #[test]
    fn big_messages_are_not_copied_together() {
        let mut topics = Topics::default();
        topics.join(1, "a", false);
        topics.publish(1, vec![1; JOINED_BYTES_MAX]).unwrap();
        topics.publish(1, vec![2; 10]).unwrap();
        topics.publish(1, vec![3; 10]).unwrap();
        let mut lengths = Vec::new();
        topics.drain(|_, runs| {
            let frames = runs.iter().map(|run| run.frames(None));
            lengths.extend(frames.map(|frames| (frames.bytes().len(), frames.messages())));
        });
        assert_eq!(lengths, [(JOINED_BYTES_MAX, 1), (20, 2)]);
    }

    #[test]
    fn a_topic_ends_with_its_last_member() {
        let mut topics = Topics::default();
        for member in 0..5 {
            topics.join(member, "a", false);
        }
        let publication = topics.publish(4, b"x".to_vec()).unwrap();
        for member in [2, 0, 4, 1, 3, 3] {
            topics.leave(member);
        }
        assert!(topics.is_empty() && drained(&mut topics).is_empty());
        assert!(topics.publish(2, b"y".to_vec()).is_none());
        topics.receive(&publication);
        topics.join(9, "b", false);
        topics.receive(&publication);
        assert!(drained(&mut topics).is_empty());
        assert_eq!(topics.len(), 1);
    }
}
