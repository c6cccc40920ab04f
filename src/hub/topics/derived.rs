//! Topics that get what is published to others, or part of it.
//!
//! Nobody joins what they are derived from, their *source*. Their interest counts under
//! [a name](topic::interest_name) that follows from that of the source, so that it is sent to all
//! shards on which something may be derived of it; there each publication is put to all topics that
//! are, and what becomes of it there is found out when that is delivered
//! ([`Run::derive_last`](crate::hub::run::Run::derive_last)), once for all members.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Origin, Publication, Topic, Topics};
use crate::hub::interest::{Fullness, Interest, InterestSlot};
pub(super) use crate::hub::run::Derivation;
use crate::realtime::filter::Tags;
use crate::realtime::patterns::Patterns;
use crate::realtime::topic;
use crate::wire::message::SharedMessage;

/// The topics of a shard that are derived from others.
#[derive(Debug)]
pub(super) struct Derived {
    /// Those of filters, by what they are derived from.
    by_source: HashMap<Box<str>, Vec<u32>>,
    /// Those of patterns, by where their interest counts.
    by_pattern: HashMap<Box<str>, Patterns>,
    /// Where all of them are counted, whatever their source is.
    all: InterestSlot,
}

impl Derived {
    pub(super) fn new(interest: &Interest) -> Self {
        let all = interest.slot_of(ALL);
        Self { by_source: HashMap::new(), by_pattern: HashMap::new(), all }
    }
}

impl Topics {
    /// Whether there is any derived topic, here or on another shard. Where there is none, nothing
    /// has to be published to sources.
    pub fn has_derived(&self) -> bool {
        let Derived { by_source, by_pattern, all } = &self.derived;
        let is_here = !by_source.is_empty() || !by_pattern.is_empty();
        is_here || self.interest.is_wanted_elsewhere(*all)
    }

    /// Publishes a message to all topics that are derived from this one, with what is said of it
    /// to filters; returns what other shards need of it.
    pub fn publish_to_derived(
        &mut self,
        source: &str,
        message: &SharedMessage,
        tags: Option<&Arc<Tags>>,
    ) -> Option<Publication> {
        let slot = self.interest.slot_of(topic::interest_name(source));
        let is_wanted = self.interest.is_wanted_elsewhere(slot);
        let position = is_wanted.then_some(self.published);
        let publication = self.publication(source.into(), message.clone(), tags.cloned());
        self.append_derived(&publication, Origin { shard: None, position });
        self.published += u64::from(is_wanted);
        is_wanted.then_some(publication)
    }

    /// How full the topics are that are derived from this one, at the most, here or elsewhere.
    pub fn fullness_of_derived(&self, source: &str) -> Fullness {
        let slot = self.interest.slot_of(topic::interest_name(source));
        self.interest.fullness_anywhere(slot)
    }

    /// Puts something to all topics that are derived from where it was published.
    pub(super) fn append_derived(&mut self, publication: &Publication, origin: Origin) {
        let Publication { topic, message, tags, at_us } = publication;
        if let Some(channel) = topic::matched_channel(topic) {
            let patterns = self.derived.by_pattern.get_mut(topic::interest_name(topic));
            for index in patterns.map(|it| it.matching(channel)).unwrap_or_default() {
                self.append(index, message.clone(), None, None, origin, *at_us);
            }
            return;
        }
        let derived = self.derived.by_source.get(&**topic).map_or(0, Vec::len);
        for place in 0..derived {
            let index = self.derived.by_source[&**topic][place];
            self.append(index, message.clone(), tags.as_ref(), None, origin, *at_us);
        }
    }

    /// Whether there may be a topic of this pattern here, if there is none.
    pub fn has_room_for_pattern(&self, pattern: &str) -> bool {
        let name = topic::matched(pattern);
        let patterns = self.derived.by_pattern.get(topic::interest_name(&name));
        self.by_name.contains_key(&*name) || patterns.is_none_or(|it| it.has_room_for(pattern))
    }

    /// A topic has begun, which may be derived.
    pub(super) fn begin_derived(&mut self, number: u32) {
        let Topic { name, derivation, .. } = &self.topics[number as usize];
        let source = || topic::interest_name(name).into();
        match derivation.as_deref() {
            None => return,
            Some(Derivation::Filter(_)) => {
                self.derived.by_source.entry(source()).or_default().push(number);
            }
            Some(Derivation::Pattern(pattern)) => {
                self.derived.by_pattern.entry(source()).or_default().insert(pattern, number);
            }
        }
        self.interest.add(ALL);
    }

    /// A topic has ended, which may have been derived.
    pub(super) fn end_derived(&mut self, ended: &Topic, number: u32) {
        let Derived { by_source, by_pattern, all } = &mut self.derived;
        let source = topic::interest_name(&ended.name);
        match ended.derivation.as_deref() {
            None => return,
            Some(Derivation::Filter(_)) => {
                if let Some(of_source) = by_source.get_mut(source) {
                    of_source.retain(|topic| *topic != number);
                    if of_source.is_empty() {
                        by_source.remove(source);
                    }
                }
            }
            Some(Derivation::Pattern(pattern)) => {
                if let Some(patterns) = by_pattern.get_mut(source) {
                    patterns.remove(pattern);
                    if patterns.is_empty() {
                        by_pattern.remove(source);
                    }
                }
            }
        }
        self.interest.remove(*all);
    }
}

/// What all derived topics are counted as together. No topic has this name.
const ALL: &str = "\u{0}";

#[cfg(test)]
mod tests;
