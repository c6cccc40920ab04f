//! The topics of one shard: who listens, and what has been published since the last delivery.
//!
//! Everything published to a topic within one tick is joined into runs of frames, so that a
//! subscriber gets one send for a burst. Joining and leaving cost O(1): members lie in a dense list
//! and know their place in it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use super::interest::{Interest, InterestSlot};
use super::run::Run;

/// One message on its way to the subscribers of a topic.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The encoded frame.
    pub frame: Arc<Vec<u8>>,
}

/// Where a message goes that was published.
#[derive(Clone, Debug)]
pub enum Published {
    /// Its publisher belongs to no topic.
    Nowhere,
    /// To members of this shard alone.
    Here,
    /// To members of other shards as well, who need this.
    Everywhere(Publication),
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    members: Vec<u32>,
    pending: Vec<Run>,
    pending_bytes: usize,
    /// Where the interest of all shards in it is counted.
    interest: InterestSlot,
}

#[derive(Clone, Copy, Debug)]
struct Membership {
    topic: u32,
    place: u32,
    exclude_self: bool,
}

/// Whether what is pending for a topic has been delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// All of it.
    Done,
    /// Nothing yet: it comes again with the next [`Topics::drain`].
    Later,
}

/// The topics of one shard. Members are named by their connection's index.
#[derive(Debug)]
pub struct Topics {
    by_name: HashMap<Arc<str>, u32>,
    topics: Slab<Topic>,
    memberships: Vec<Option<Membership>>,
    /// Topics with something pending, those that wait longest first.
    dirty: VecDeque<u32>,
    /// Bytes of all that is pending.
    pending_bytes: usize,
    interest: Interest,
}

impl Topics {
    /// None yet, on a shard with this view of the interest of all.
    pub fn new(interest: Interest) -> Self {
        Self {
            by_name: HashMap::new(),
            topics: Slab::new(),
            memberships: Vec::new(),
            dirty: VecDeque::new(),
            pending_bytes: 0,
            interest,
        }
    }

    /// Bytes published that have not been delivered.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Makes `member` a subscriber of the topic `name`, leaving its former one.
    pub fn join(&mut self, member: u32, name: &str, exclude_self: bool) {
        self.leave(member);
        let topic = match self.by_name.get(name) {
            Some(&topic) => topic,
            None => {
                let name: Arc<str> = name.into();
                let topic = self.topics.insert(Topic {
                    interest: self.interest.add(&name),
                    name: name.clone(),
                    members: Vec::new(),
                    pending: Vec::new(),
                    pending_bytes: 0,
                }) as u32;
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
            self.interest.remove(topic.interest);
            self.pending_bytes -= topic.pending_bytes;
        }
    }

    /// Publishes a frame of `member` to its topic, if it has one, and returns what other shards
    /// need of it: nothing where none of them has a member.
    pub fn publish(&mut self, member: u32, frame: Vec<u8>) -> Published {
        let membership = self.memberships.get(member as usize).copied().flatten();
        let Some(Membership { topic, exclude_self, .. }) = membership else {
            return Published::Nowhere;
        };
        let frame = Arc::new(frame);
        self.append(topic, &frame, exclude_self.then_some(member));
        let Topic { name, interest, .. } = &self.topics[topic as usize];
        match self.interest.is_wanted_elsewhere(*interest) {
            true => Published::Everywhere(Publication { topic: name.clone(), frame }),
            false => Published::Here,
        }
    }

    /// Takes a publication of another shard.
    pub fn receive(&mut self, publication: &Publication) {
        if let Some(&topic) = self.by_name.get(&publication.topic) {
            self.append(topic, &publication.frame, None);
        }
    }

    /// Hands over everything pending, topic by topic, with the members to deliver it to.
    pub fn drain(&mut self, mut deliver: impl FnMut(&[u32], &mut [Run]) -> Delivery) {
        for _ in 0..self.dirty.len() {
            let Some(number) = self.dirty.pop_front() else { return };
            // A topic may have been left by all its members, and its place taken by another.
            let Some(topic) = self.topics.get_mut(number as usize) else { continue };
            if topic.pending.is_empty() {
                continue;
            }
            match deliver(&topic.members, &mut topic.pending) {
                Delivery::Done => {
                    topic.pending.clear();
                    self.pending_bytes -= std::mem::take(&mut topic.pending_bytes);
                }
                Delivery::Later => self.dirty.push_back(number),
            }
        }
    }

    /// Whether something is pending.
    pub fn has_pending(&self) -> bool {
        !self.dirty.is_empty()
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
            self.dirty.push_back(index);
        }
        topic.pending_bytes += frame.len();
        self.pending_bytes += frame.len();
        let joins = topic.pending.last_mut().is_some_and(|run| run.join(frame, skip));
        if !joins {
            topic.pending.push(Run::new(frame.clone(), skip));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::interest::InterestTable;
    use super::super::run::{JOINED_BYTES_MAX, Share};
    use super::*;
    use crate::wire::frames::Excerpt;

    fn alone() -> Topics {
        Topics::new(Interest::new(InterestTable::new(1)))
    }

    fn drained(topics: &mut Topics) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        topics.drain(|members, runs| {
            for run in runs {
                run.prepare();
                for &member in members {
                    let bytes = match run.share_of(member, None) {
                        Share::Whole(frames) => frames.bytes().to_vec(),
                        Share::Others(excerpts) => {
                            excerpts.iter().flat_map(Excerpt::bytes).copied().collect()
                        }
                    };
                    all.push((member, bytes));
                }
            }
            Delivery::Done
        });
        all
    }

    fn publish(topics: &mut Topics, member: u32, frame: &[u8]) -> Published {
        topics.publish(member, frame.to_vec())
    }

    #[test]
    fn a_tick_of_messages_is_one_run() {
        let mut topics = alone();
        topics.join(1, "a", false);
        topics.join(2, "a", true);
        topics.join(3, "b", false);
        publish(&mut topics, 1, b"x");
        publish(&mut topics, 2, b"yy");
        publish(&mut topics, 2, b"z");
        assert_eq!(topics.pending_bytes(), 4);
        assert_eq!(drained(&mut topics), [(1, b"xyyz".to_vec()), (2, b"x".to_vec())]);
        assert!(drained(&mut topics).is_empty());
        assert_eq!(topics.pending_bytes(), 0);
    }

    #[test]
    fn big_messages_are_not_copied_together() {
        let mut topics = alone();
        topics.join(1, "a", false);
        topics.publish(1, vec![1; JOINED_BYTES_MAX]);
        topics.publish(1, vec![2; 10]);
        topics.publish(1, vec![3; 10]);
        let mut lengths = Vec::new();
        topics.drain(|_, runs| {
            let frames = runs.iter().map(|run| run.frames(None));
            lengths.extend(frames.map(|frames| (frames.bytes().len(), frames.messages())));
            Delivery::Done
        });
        assert_eq!(lengths, [(JOINED_BYTES_MAX, 1), (20, 2)]);
    }

    #[test]
    fn a_topic_ends_with_its_last_member() {
        let [mut topics, mut others] = two_shards();
        others.join(1, "a", false);
        for member in 0..5 {
            topics.join(member, "a", false);
        }
        let Published::Everywhere(publication) = publish(&mut topics, 4, b"x") else {
            panic!("somebody is elsewhere")
        };
        for member in [2, 0, 4, 1, 3, 3] {
            topics.leave(member);
        }
        assert!(topics.is_empty() && drained(&mut topics).is_empty());
        assert_eq!(topics.pending_bytes(), 0);
        assert!(matches!(publish(&mut topics, 2, b"y"), Published::Nowhere));
        topics.receive(&publication);
        topics.join(9, "b", false);
        topics.receive(&publication);
        assert!(drained(&mut topics).is_empty());
        assert_eq!(topics.len(), 1);
    }

    #[test]
    fn what_nobody_wants_elsewhere_stays_here() {
        let [mut topics, mut others] = two_shards();
        topics.join(1, "a", false);
        assert!(matches!(publish(&mut topics, 1, b"x"), Published::Here));
        others.join(7, "a", false);
        assert!(matches!(publish(&mut topics, 1, b"x"), Published::Everywhere(_)));
        others.join(7, "b", false);
        assert!(matches!(publish(&mut topics, 1, b"x"), Published::Here));
    }

    #[test]
    fn a_topic_that_could_not_be_delivered_comes_again_behind_the_others() {
        let mut topics = alone();
        topics.join(1, "a", false);
        topics.join(2, "b", false);
        publish(&mut topics, 1, b"x");
        publish(&mut topics, 2, b"y");
        topics.drain(|members, _| if members == [1] { Delivery::Later } else { Delivery::Done });
        assert!(topics.has_pending());
        publish(&mut topics, 2, b"z");
        assert_eq!(drained(&mut topics), [(1, b"x".to_vec()), (2, b"z".to_vec())]);
        assert!(!topics.has_pending());
    }

    fn two_shards() -> [Topics; 2] {
        let table = InterestTable::new(2);
        [table.clone(), table].map(|table| Topics::new(Interest::new(table)))
    }
}
