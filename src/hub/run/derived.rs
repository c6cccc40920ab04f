//! What becomes of messages in topics that are derived from others.

use std::sync::Arc;

use super::Run;
use crate::realtime::filter::{Filter, Tags};
use crate::realtime::protocol::push_by_pattern;
use crate::realtime::topic;
use crate::wire::message::{DataMessage, MessageKind, SharedMessage};

/// What a topic gets of what is published to the one that it is derived from.
#[derive(Clone, Debug)]
pub enum Derivation {
    /// What passes a filter.
    Filter(Arc<Filter>),
    /// All of it, under the name of a pattern that its channel matches.
    Pattern(Arc<str>),
}

impl Derivation {
    /// What the topic `name` gets of others; nothing where it is not derived.
    pub fn of(name: &str) -> Option<Self> {
        if let Some(pattern) = topic::pattern_of(name) {
            return Some(Self::Pattern(pattern.into()));
        }
        let (_, filter) = topic::filter_of(name)?;
        Some(Self::Filter(Arc::new(Filter::read(filter)?)))
    }

    /// What becomes of a message, if anything does.
    pub fn derive(&self, message: &SharedMessage, tags: Option<&Tags>) -> Option<SharedMessage> {
        match self {
            Self::Filter(filter) => {
                let passes = filter.matches(tags.unwrap_or(&NO_TAGS));
                passes.then(|| message.clone())
            }
            Self::Pattern(pattern) => {
                let push = push_by_pattern(message.payload(), pattern);
                debug_assert!(push.is_some(), "what is published to a channel is a push");
                Some(DataMessage::new(MessageKind::Text, &push?).into_shared())
            }
        }
    }

    /// What that takes for so many messages of so many bytes together, in bytes that could be
    /// copied meanwhile.
    fn cost_bytes(&self, messages: usize, bytes: usize) -> usize {
        match self {
            Self::Filter(filter) => messages * filter.text().len(),
            Self::Pattern(_) => 2 * bytes,
        }
    }
}

/// How the messages of a run are to be derived.
#[derive(Debug)]
pub(super) struct Underived {
    derivation: Derivation,
    /// What is said of each of them.
    tags: Vec<Option<Arc<Tags>>>,
}

impl Run {
    /// Has the message that was added last be derived before anybody gets it. All of a run are
    /// derived in the same way, when the first encoding is made of it.
    pub fn derive_last(&mut self, derivation: &Derivation, tags: Option<&Arc<Tags>>) {
        let underived = self.underived.get_or_insert_with(|| {
            Box::new(Underived { derivation: derivation.clone(), tags: Vec::new() })
        });
        underived.tags.push(tags.cloned());
        debug_assert_eq!(underived.tags.len(), 1 + self.more.len(), "all of them are derived");
    }

    /// Whether it has no messages, because none has become of those that it had.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Makes of the messages what is to become of them; false where that has to wait for the next
    /// tick.
    pub(super) fn derive(&mut self, bytes_left: &mut usize) -> bool {
        if self.underived.is_none() {
            return true;
        }
        if *bytes_left == 0 {
            return false;
        }
        let Some(underived) = self.underived.take() else { return true };
        let Underived { derivation, tags } = *underived;
        let cost_bytes = derivation.cost_bytes(tags.len(), self.bytes);
        *bytes_left = bytes_left.saturating_sub(cost_bytes);
        let mut places = Vec::with_capacity(tags.len());
        let mut derived = Vec::new();
        for (message, tags) in self.messages().zip(&tags) {
            let message = derivation.derive(message, tags.as_deref());
            places.push(message.as_ref().map(|_| derived.len() as u32));
            derived.extend(message);
        }
        // They are in order, and stay so.
        self.skips.retain_mut(|skip| {
            let place = places.get(skip.place as usize).copied().flatten();
            skip.place = place.unwrap_or_default();
            place.is_some()
        });
        self.is_derived = true;
        self.bytes = derived.iter().map(SharedMessage::frame_bytes).sum();
        let mut derived = derived.into_iter();
        match derived.next() {
            Some(first) => self.first = first,
            None => self.is_empty = true,
        }
        self.more = derived.collect();
        true
    }
}

static NO_TAGS: Tags = Tags::new();
