//! The topics of one shard: who listens, and what has been published since the last delivery.
//!
//! A connection may join any number of topics, up to a limit, and publish to any, joined or not.
//! Everything published to a topic between two deliveries is joined into runs, so that a subscriber
//! gets one send for a burst. A delivery to many members takes several ticks, a
//! [`Round`]; what is published meanwhile waits for the next. Joining and leaving take the same
//! time however many members a topic has: members lie in a dense list and know their place in it.

mod derived;
mod fullness;
mod holds;
mod latest;
mod publication;
mod subscriptions;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use slab::Slab;
use thiserror::Error;

use super::interest::{Fullness, Interest, InterestSlot};
use super::run::Run;
use crate::limits::SUBSCRIPTIONS_MOST;
use crate::realtime::filter::Tags;
use crate::realtime::topic;
use crate::wire::message::{DataMessage, SharedMessage};
use derived::{Derivation, Derived};
use holds::Hold;
pub use holds::{HoldId, Subscription};
use latest::Latest;
pub use latest::{Aside, TooManyKeys};
use publication::Origin;
pub use publication::Publication;
use subscriptions::{Number, Subscriptions};

/// Names a topic of this shard for as long as a member that it was asked of has joined it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicId(u32);

/// The connection has joined [`SUBSCRIPTIONS_MOST`] topics already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a connection joins {SUBSCRIPTIONS_MOST} topics at most")]
pub struct TooManySubscriptions;

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// Tells it from those that had its place before.
    serial: u64,
    members: Vec<u32>,
    /// Their subscriptions, in the same order.
    subscriptions: Vec<Number>,
    /// What is being delivered, to members one after the other.
    round: Option<Box<Round>>,
    /// What has been published since.
    pending: Vec<Run>,
    /// When the first of that came.
    pending_since_us: u32,
    /// Bytes of both.
    pending_bytes: usize,
    /// Those for whom messages are kept that are on their way to join, and bytes of these messages.
    holds: Vec<HoldId>,
    held_bytes: usize,
    /// What is kept for those who are set aside, while somebody is.
    latest: Option<Box<Latest>>,
    /// Where the interest of all shards in it is counted, or in what it is derived from.
    interest: InterestSlot,
    /// How it becomes of something else, if it does.
    derivation: Option<Box<Derivation>>,
    /// What the other shards have been told of it.
    fullness: Fullness,
}

/// A delivery that has begun. Members before `next` have been served, those from there to `end`
/// have not, and those behind `end` came later and wait for the next round.
#[derive(Debug)]
struct Round {
    runs: Vec<Run>,
    since_us: u32,
    bytes: usize,
    next: u32,
    end: u32,
}

/// What a tick has done for a topic.
struct Delivered {
    /// How many members were served.
    members: usize,
    /// How many bytes of what was published everybody has got now.
    bytes: usize,
    /// When the first of that came.
    since_us: Option<u32>,
}

/// The topics of one shard. Members are named by their connection's index.
#[derive(Debug)]
pub struct Topics {
    by_name: HashMap<Arc<str>, u32>,
    topics: Slab<Topic>,
    subscriptions: Subscriptions,
    derived: Derived,
    next_serial: u64,
    /// Topics with something pending and their serial numbers, those that wait longest first.
    dirty: VecDeque<(u32, u64)>,
    /// Bytes of all that is pending.
    pending_bytes: usize,
    interest: Interest,
    /// How many messages other shards were to get of those that were published here.
    published: u64,
    holds: Slab<Hold>,
    clock_us: u32,
}

impl Topics {
    /// None yet, on a shard with this view of the interest of all.
    pub fn new(interest: Interest) -> Self {
        Self {
            by_name: HashMap::new(),
            topics: Slab::new(),
            subscriptions: Subscriptions::new(),
            derived: Derived::new(&interest),
            next_serial: 0,
            dirty: VecDeque::new(),
            pending_bytes: 0,
            interest,
            published: 0,
            holds: Slab::new(),
            clock_us: 0,
        }
    }

    /// Tells the time, in microseconds on a clock that all shards share and that may wrap.
    pub fn set_clock(&mut self, now_us: u32) {
        self.clock_us = now_us;
    }

    /// Memory of what was published and has not been delivered to all.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// The topics that `member` has joined, the latest first.
    pub fn of(&self, member: u32) -> impl Iterator<Item = TopicId> {
        self.subscriptions.of(member).map(|(_, topic)| TopicId(topic))
    }

    /// The name of a topic.
    pub fn name(&self, TopicId(topic): TopicId) -> Option<Arc<str>> {
        self.topics.get(topic as usize).map(|topic| topic.name.clone())
    }

    /// The names of all topics with members here, and how many these are.
    pub fn names_and_members(&self) -> impl Iterator<Item = (Arc<str>, usize)> {
        self.topics.iter().map(|(_, topic)| (topic.name.clone(), topic.members.len()))
    }

    /// Whether `member` has joined the topic `name`.
    pub fn is_member(&self, member: u32, name: &str) -> bool {
        let topic = self.by_name.get(name);
        topic.is_some_and(|&topic| self.subscription(member, topic).is_some())
    }

    /// Makes `member` a subscriber of the topic `name`; with `exclude_self` it does not get what it
    /// publishes there itself. One that has joined already only changes that.
    ///
    /// # Errors
    /// It has joined as many others as it may.
    pub fn join(
        &mut self,
        member: u32,
        name: &str,
        exclude_self: bool,
    ) -> Result<TopicId, TooManySubscriptions> {
        let topic = self.by_name.get(name).copied();
        let joined = topic.and_then(|topic| Some((topic, self.subscription(member, topic)?)));
        if let Some((topic, number)) = joined {
            self.subscriptions.set_excludes_self(number, exclude_self);
            return Ok(TopicId(topic));
        }
        if self.subscriptions.of(member).count() >= SUBSCRIPTIONS_MOST {
            return Err(TooManySubscriptions);
        }
        let topic = topic.unwrap_or_else(|| self.begin(name));
        let joined = &mut self.topics[topic as usize];
        // What a former member of this number left out does not concern this one.
        joined.pending.iter_mut().for_each(|run| run.forget(member));
        let number = self.subscriptions.add(member, topic, joined.members.len() as u32);
        self.subscriptions.set_excludes_self(number, exclude_self);
        joined.members.push(member);
        joined.subscriptions.push(number);
        Ok(TopicId(topic))
    }

    /// A topic that gets its first member.
    fn begin(&mut self, name: &str) -> u32 {
        let derivation = Derivation::of(name).map(Box::new);
        let interest = match &derivation {
            Some(_) => self.interest.add(topic::interest_name(name)),
            None => self.interest.add(name),
        };
        let name: Arc<str> = name.into();
        self.next_serial += 1;
        let topic = self.topics.insert(Topic {
            interest,
            derivation,
            name: name.clone(),
            serial: self.next_serial,
            members: Vec::new(),
            subscriptions: Vec::new(),
            round: None,
            pending: Vec::new(),
            pending_since_us: 0,
            pending_bytes: 0,
            holds: Vec::new(),
            held_bytes: 0,
            latest: None,
            fullness: Fullness::HasRoom,
        }) as u32;
        self.by_name.insert(name, topic);
        self.begin_derived(topic);
        topic
    }

    /// Ends the subscription of `member` to a topic, if it has one; an empty topic is forgotten.
    pub fn leave(&mut self, member: u32, TopicId(topic): TopicId) {
        if let Some(number) = self.subscription(member, topic) {
            self.end_subscription(member, number, topic);
        }
    }

    /// The same by the topic's name.
    pub fn leave_by_name(&mut self, member: u32, name: &str) {
        if let Some(&topic) = self.by_name.get(name) {
            self.leave(member, TopicId(topic));
        }
    }

    /// Ends all subscriptions of `member`.
    pub fn leave_all(&mut self, member: u32) {
        loop {
            let Some((number, topic)) = self.subscriptions.of(member).next() else { return };
            self.end_subscription(member, number, topic);
        }
    }

    fn end_subscription(&mut self, member: u32, number: Number, topic: u32) {
        let place = self.subscriptions.remove(member, number);
        let left = &mut self.topics[topic as usize];
        left.remove(place, |moved, place| self.subscriptions.set_place(moved, place));
        self.end_if_unwanted(topic);
    }

    /// Forgets a topic that nobody here wants any more.
    fn end_if_unwanted(&mut self, topic: u32) {
        let left = &self.topics[topic as usize];
        if left.members.is_empty() && left.holds.is_empty() && left.latest.is_none() {
            let number = topic;
            let topic = self.topics.remove(number as usize);
            self.by_name.remove(&topic.name);
            self.end_derived(&topic, number);
            self.interest.set_fullness(topic.interest, topic.fullness, Fullness::HasRoom);
            self.interest.remove(topic.interest);
            self.pending_bytes -= topic.pending_bytes;
        }
    }

    /// The subscription of `member` to a topic, if it has joined that.
    fn subscription(&self, member: u32, topic: u32) -> Option<Number> {
        let mut subscriptions = self.subscriptions.of(member);
        subscriptions.find(|(_, joined)| *joined == topic).map(|(number, _)| number)
    }

    /// Publishes a message to a topic, and returns what other shards need of it: nothing where none
    /// of them has a member. A `publisher` that has joined it with `exclude_self` is left out.
    pub fn publish(
        &mut self,
        TopicId(topic): TopicId,
        publisher: Option<u32>,
        message: DataMessage,
    ) -> Option<Publication> {
        let skip = publisher.filter(|&publisher| {
            let subscription = self.subscription(publisher, topic);
            subscription.is_some_and(|number| self.subscriptions.excludes_self(number))
        });
        let message = message.into_shared();
        let Topic { name, interest, .. } = self.topics.get(topic as usize)?;
        let publication = self
            .interest
            .is_wanted_elsewhere(*interest)
            .then(|| self.publication(name.clone(), message.clone(), None));
        let position = publication.as_ref().map(|_| self.published);
        self.published += u64::from(publication.is_some());
        let origin = Origin { shard: None, position };
        self.append(topic, message, None, skip, origin, self.clock_us);
        publication
    }

    /// The same by the topic's name, which need not have a member here.
    pub fn publish_by_name(&mut self, name: &str, message: DataMessage) -> Option<Publication> {
        if let Some(&topic) = self.by_name.get(name) {
            return self.publish(TopicId(topic), None, message);
        }
        let is_wanted = self.interest.is_wanted_elsewhere(self.interest.slot_of(name));
        self.published += u64::from(is_wanted);
        is_wanted.then(|| self.publication(name.into(), message.into_shared(), None))
    }

    fn publication(
        &self,
        topic: Arc<str>,
        message: SharedMessage,
        tags: Option<Arc<Tags>>,
    ) -> Publication {
        Publication { topic, message, tags, at_us: self.clock_us }
    }

    /// Takes a publication of another `shard`, before which it has sent so many.
    pub fn receive(&mut self, publication: &Publication, shard: usize, position: u64) {
        let origin = Origin { shard: Some(shard), position: Some(position) };
        let Publication { topic, message, at_us, .. } = publication;
        match self.by_name.get(topic) {
            Some(&topic) => self.append(topic, message.clone(), None, None, origin, *at_us),
            None => self.append_derived(publication, origin),
        }
    }

    /// How many messages this shard has published that others were to get.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Hands over what is pending, topic by topic, with the members that have not got it yet.
    /// `deliver` returns how many of them it has served, in their order; the others, and what is
    /// published meanwhile, come again with the next call. Returns for how many microseconds that
    /// had waited which waited longest of what all members have got now.
    pub fn drain(&mut self, mut deliver: impl FnMut(&[u32], &mut [Run]) -> usize) -> Option<u32> {
        let (mut served, mut waited_us) = (Vec::new(), None);
        for _ in 0..self.dirty.len() {
            let Some(entry @ (number, serial)) = self.dirty.pop_front() else { break };
            // A topic may have been left by all its members, and its place taken by another.
            let topic = self.topics.get_mut(number as usize);
            let Some(topic) = topic.filter(|topic| topic.serial == serial) else { continue };
            let Delivered { members, bytes, since_us } = topic.deliver(&mut deliver);
            waited_us = waited_us.max(since_us.map(|since| self.clock_us.wrapping_sub(since)));
            topic.pending_bytes -= bytes;
            self.pending_bytes -= bytes;
            if topic.round.is_some() || !topic.pending.is_empty() {
                match members {
                    0 => self.dirty.push_back(entry),
                    _ => served.push(entry),
                }
            }
            self.tell_fullness(number);
        }
        // Whoever has had something comes after all who have not, and the first, who may have had
        // most of what a tick can give, after all others.
        if !served.is_empty() {
            served.rotate_left(1);
        }
        self.dirty.extend(served);
        waited_us
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

    fn append(
        &mut self,
        index: u32,
        message: SharedMessage,
        tags: Option<&Arc<Tags>>,
        skip: Option<u32>,
        origin: Origin,
        at_us: u32,
    ) {
        if !self.topics[index as usize].holds.is_empty() {
            self.hold_message(index, &message, tags, origin);
        }
        let topic = &mut self.topics[index as usize];
        if let Some(latest) = &mut topic.latest {
            latest.note(&message);
        }
        if topic.round.is_none() && topic.pending.is_empty() {
            self.dirty.push_back((index, topic.serial));
        }
        let skip_bytes = skip.map_or(0, |_| Run::SKIP_BYTES);
        let bytes = message.frame_bytes() + Run::MESSAGE_BYTES + skip_bytes;
        topic.pending_bytes += bytes;
        self.pending_bytes += bytes;
        match topic.pending.last_mut().filter(|run| run.takes(&message)) {
            Some(run) => run.join(message, skip),
            None => {
                if topic.pending.is_empty() {
                    topic.pending_since_us = at_us;
                }
                let mut run = Run::new(message, skip);
                if topic::is_of_deltas(&topic.name) {
                    run.set_are_deltas();
                }
                topic.pending.push(run);
            }
        }
        if let (Some(derivation), Some(run)) = (&topic.derivation, topic.pending.last_mut()) {
            run.derive_last(derivation, tags);
        }
        if topic.pending_bytes + topic.held_bytes >= fullness::PENDING_BYTES_LEAST {
            self.tell_fullness(index);
        }
    }
}

impl Topic {
    /// Begins a round with what is pending or goes on with the one that has begun.
    fn deliver(&mut self, deliver: &mut impl FnMut(&[u32], &mut [Run]) -> usize) -> Delivered {
        let Some(round) = &mut self.round else {
            for run in &mut self.pending {
                run.prepare();
            }
            let served = deliver(&self.members, &mut self.pending);
            if served == self.members.len() {
                self.pending.clear();
                let since_us = Some(self.pending_since_us);
                return Delivered { members: served, bytes: self.pending_bytes, since_us };
            }
            if served > 0 {
                self.round = Some(Box::new(Round {
                    runs: std::mem::take(&mut self.pending),
                    since_us: self.pending_since_us,
                    bytes: self.pending_bytes,
                    next: served as u32,
                    end: self.members.len() as u32,
                }));
            }
            return Delivered { members: served, bytes: 0, since_us: None };
        };
        let waiting = &self.members[round.next as usize..round.end as usize];
        let served = deliver(waiting, &mut round.runs);
        round.next += served as u32;
        debug_assert!(round.next <= round.end, "nobody is served twice");
        if round.next < round.end {
            return Delivered { members: served, bytes: 0, since_us: None };
        }
        let (bytes, since_us) = (round.bytes, Some(round.since_us));
        self.round = None;
        Delivered { members: served, bytes, since_us }
    }

    /// Takes out the member at `place`, and tells of each that takes another place: those who have
    /// been served in a round, those who have not, and those who came later stay what they are.
    fn remove(&mut self, mut place: u32, mut moved: impl FnMut(Number, u32)) {
        if let Some(round) = &mut self.round {
            for boundary in [&mut round.next, &mut round.end] {
                if place < *boundary {
                    *boundary -= 1;
                    self.members.swap(place as usize, *boundary as usize);
                    self.subscriptions.swap(place as usize, *boundary as usize);
                    moved(self.subscriptions[place as usize], place);
                    place = *boundary;
                }
            }
        }
        self.members.swap_remove(place as usize);
        self.subscriptions.swap_remove(place as usize);
        if let Some(&number) = self.subscriptions.get(place as usize) {
            moved(number, place);
        }
    }
}

#[cfg(test)]
mod tests;
