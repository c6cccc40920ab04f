//! Topics that get what is published to others, or part of it.
//!
//! Nobody joins what they are derived from, their *source*. Their interest counts under its name,
//! so that it is sent to all shards on which something is derived of it; there each publication is
//! put to all of these, and what becomes of it there is found out when that is delivered
//! ([`Run::derive_last`](crate::hub::run::Run::derive_last)), once for all members.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Origin, Publication, Topic, Topics};
use crate::hub::interest::{Fullness, Interest, InterestSlot};
pub(super) use crate::hub::run::Derivation;
use crate::realtime::filter::Tags;
use crate::wire::message::SharedMessage;

/// The topics of a shard that are derived from others.
#[derive(Debug)]
pub(super) struct Derived {
    by_source: HashMap<Box<str>, Vec<u32>>,
    /// Where all of them are counted, whatever their source is.
    all: InterestSlot,
}

impl Derived {
    pub(super) fn new(interest: &Interest) -> Self {
        Self { by_source: HashMap::new(), all: interest.slot_of(ALL) }
    }
}

impl Topics {
    /// Whether there is any derived topic, here or on another shard. Where there is none, nothing
    /// has to be published to sources.
    pub fn has_derived(&self) -> bool {
        !self.derived.by_source.is_empty() || self.interest.is_wanted_elsewhere(self.derived.all)
    }

    /// Publishes a message to all topics that are derived from this one, with what is said of it
    /// to filters; returns what other shards need of it.
    pub fn publish_to_derived(
        &mut self,
        source: &str,
        message: &SharedMessage,
        tags: Option<&Arc<Tags>>,
    ) -> Option<Publication> {
        let is_wanted = self.interest.is_wanted_elsewhere(self.interest.slot_of(source));
        let position = is_wanted.then_some(self.published);
        let publication = self.publication(source.into(), message.clone(), tags.cloned());
        self.append_derived(&publication, Origin { shard: None, position });
        self.published += u64::from(is_wanted);
        is_wanted.then_some(publication)
    }

    /// How full the topics are that are derived from this one, at the most, here or elsewhere.
    pub fn fullness_of_derived(&self, source: &str) -> Fullness {
        self.interest.fullness_anywhere(self.interest.slot_of(source))
    }

    /// Puts something to all topics that are derived from where it was published.
    pub(super) fn append_derived(&mut self, publication: &Publication, origin: Origin) {
        let Publication { topic, message, tags, at_us } = publication;
        let derived = self.derived.by_source.get(&**topic).map_or(0, Vec::len);
        for place in 0..derived {
            let index = self.derived.by_source[&**topic][place];
            self.append(index, message.clone(), tags.as_ref(), None, origin, *at_us);
        }
    }

    /// A topic has begun that is derived from this one.
    pub(super) fn begin_derived(&mut self, source: &str, topic: u32) {
        self.interest.add(ALL);
        self.derived.by_source.entry(source.into()).or_default().push(topic);
    }

    /// A topic has ended, which may have been derived.
    pub(super) fn end_derived(&mut self, ended: &Topic, number: u32) {
        let Some(derivation) = &ended.derivation else { return };
        let source = derivation.source(&ended.name);
        self.interest.remove(self.derived.all);
        if let Some(of_source) = self.derived.by_source.get_mut(source) {
            of_source.retain(|topic| *topic != number);
            if of_source.is_empty() {
                self.derived.by_source.remove(source);
            }
        }
    }
}

/// What all derived topics are counted as together. No topic has this name.
const ALL: &str = "\u{0}";

#[cfg(test)]
mod tests;
