//! Members that read more slowly than is published, and want of each key the latest message alone.
//!
//! One that is set aside leaves its topic, which from then on keeps the latest message of each key,
//! once for all who are aside. When it has read what it was sent, it gets those that have come
//! since in their order, and is a member again. Nobody else waits for it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use super::Topics;
use crate::config::JsonPointer;
use crate::hub::run::Run;
use crate::realtime::pointed::{Pointed, pointed_at};
use crate::wire::message::SharedMessage;

/// A member that is set aside, until it [comes back](Topics::come_back) or is
/// [given up](Topics::give_up).
#[derive(Debug)]
#[must_use = "the topic stays until it ends"]
pub struct Aside {
    topic: u32,
    /// The first message that it has not got.
    since: u64,
}

/// There are more keys than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "there are more keys than {KEYS_MOST}, or their messages take more than {BYTES_MOST} bytes"
)]
pub struct TooManyKeys;

/// The latest messages of a topic, since somebody was set aside.
#[derive(Debug)]
pub(super) struct Latest {
    key_from: Option<JsonPointer>,
    places: HashMap<Box<str>, u64>,
    messages: BTreeMap<u64, (Box<str>, SharedMessage)>,
    /// The place of the next message.
    next: u64,
    bytes: usize,
    /// How many are aside.
    members: usize,
    is_overfull: bool,
}

impl Latest {
    fn new(key_from: Option<&JsonPointer>) -> Self {
        Self {
            key_from: key_from.cloned(),
            places: HashMap::new(),
            messages: BTreeMap::new(),
            next: 0,
            bytes: 0,
            members: 0,
            is_overfull: false,
        }
    }

    /// A message is published.
    pub(super) fn note(&mut self, message: &SharedMessage) {
        let place = self.next;
        self.next += 1;
        if self.is_overfull {
            return;
        }
        let key = key_of(message.payload(), self.key_from.as_ref());
        let before = self.places.insert(key.clone(), place);
        if let Some((key, before)) = before.and_then(|it| self.messages.remove(&it)) {
            self.bytes -= held_bytes(&key, &before);
        }
        self.bytes += held_bytes(&key, message);
        self.messages.insert(place, (key, message.clone()));
        let keys = self.messages.len();
        if keys > KEYS_MOST || self.bytes > BYTES_MOST && keys > 1 {
            self.is_overfull = true;
            (self.places, self.messages) = (HashMap::new(), BTreeMap::new());
        }
    }
}

impl Topics {
    /// Takes a member out of a topic, of which the latest messages are kept for it; their keys are
    /// where `key_from` points within the data of a publication, or in its tag `key`. Nothing if it
    /// is no member.
    pub fn set_aside(
        &mut self,
        member: u32,
        name: &str,
        key_from: Option<&JsonPointer>,
    ) -> Option<Aside> {
        let index = self.by_name.get(name).copied()?;
        let number = self.subscription(member, index)?;
        let place = self.subscriptions.place(number);
        let topic = &mut self.topics[index as usize];
        let (waiting, others) = match &topic.round {
            Some(round) if (round.next..round.end).contains(&place) => (&round.runs[..], &[][..]),
            Some(round) => (&[][..], &round.runs[..]),
            None => (&[][..], &[][..]),
        };
        let latest = topic.latest.get_or_insert_with(|| {
            // Those who are set aside later may not have got what this one has.
            let mut latest = Latest::new(key_from);
            let runs = others.iter().chain(waiting).chain(&topic.pending);
            runs.flat_map(Run::each).for_each(|message| latest.note(message));
            Box::new(latest)
        });
        // The first of them may be left out for it, as it has got those when it came back.
        let missed = waiting.iter().chain(&topic.pending);
        let missed: u64 = missed.map(|run| u64::from(run.messages_for(member))).sum();
        let since = latest.next - missed;
        latest.members += 1;
        self.end_subscription(member, number, index);
        Some(Aside { topic: index, since })
    }

    /// What somebody gets who was set aside of what it has missed, in order: one message, and more
    /// as long as that is not more than so many bytes. With all of it, it is a member again;
    /// otherwise it stays aside.
    ///
    /// # Errors
    /// Nobody knows any more what it has missed; it is no member.
    pub fn come_back(
        &mut self,
        member: u32,
        aside: Aside,
        bytes_most: usize,
    ) -> Result<(Vec<SharedMessage>, Option<Aside>), TooManyKeys> {
        let topic = &self.topics[aside.topic as usize];
        let Some(latest) = topic.latest.as_ref().filter(|latest| !latest.is_overfull) else {
            self.give_up(aside);
            return Err(TooManyKeys);
        };
        let (mut missed, mut bytes) = (Vec::new(), 0);
        for (&place, (_, message)) in latest.messages.range(aside.since..) {
            bytes += message.frame_bytes();
            if bytes > bytes_most && !missed.is_empty() {
                return Ok((missed, Some(Aside { since: place, ..aside })));
            }
            missed.push(message.clone());
        }
        let name = topic.name.clone();
        let joined = self.join(member, &name, false);
        debug_assert!(joined.is_ok(), "it has joined as many before");
        // All that is pending is among the latest, or older than one of them.
        let topic = &mut self.topics[aside.topic as usize];
        topic.pending.iter_mut().for_each(|run| run.skip_all(member));
        self.give_up(aside);
        Ok((missed, None))
    }

    /// Ends what is kept for somebody who was set aside and does not come back.
    pub fn give_up(&mut self, aside: Aside) {
        let topic = &mut self.topics[aside.topic as usize];
        if let Some(latest) = &mut topic.latest {
            latest.members -= 1;
            topic.latest.take_if(|latest| latest.members == 0);
        }
        self.end_if_unwanted(aside.topic);
    }
}

/// The key of a publication, as it is pushed in JSON. Those without one have the same.
fn key_of(push: &[u8], key_from: Option<&JsonPointer>) -> Box<str> {
    let publication = ["push", "pub"].map(Cow::Borrowed).into_iter();
    let pointed = match key_from {
        Some(pointer) => {
            let data = publication.chain([Cow::Borrowed("data")]);
            pointed_at(push, data.chain(pointer.steps()))
        }
        None => pointed_at(push, publication.chain(["tags", "key"].map(Cow::Borrowed))),
    };
    match pointed {
        Some(Pointed::Text(text)) => format!("\"{}", text.0).into(),
        Some(Pointed::Number(number)) => number.into(),
        None => Box::default(),
    }
}

/// Memory that is kept for a key.
fn held_bytes(key: &str, message: &SharedMessage) -> usize {
    size_of::<(u64, Box<str>)>() * 4 + 2 * key.len() + message.frame_bytes() + Run::MESSAGE_BYTES
}

/// Keys of a topic of which the latest messages are kept.
const KEYS_MOST: usize = 4096;
/// Memory that those of a topic take, unless it is a single one.
const BYTES_MOST: usize = 8 << 20;

#[cfg(test)]
mod tests;
