//! One subscription of a model client, and what must hold for what it gets.

use std::collections::{BTreeMap, BTreeSet};

use ringwire::realtime::protocol::{Publication, StreamPosition, SubscribeResult};

use super::truth::{Position, Truth};

/// A channel that a client has subscribed to.
#[derive(Default)]
pub struct Subscription {
    /// How far it has got, where publications have offsets.
    pub position: Option<Position>,
    /// The latest of each publisher's publications, where they have none.
    latest: BTreeMap<(usize, u32), u32>,
    /// Of whom it has heard, and whether the latest was that they came.
    pub heard: BTreeMap<String, bool>,
    /// Who was there at the last rest, if it was there itself.
    pub at_rest: Option<BTreeSet<String>>,
}

impl Subscription {
    /// What the reply to its beginning says, given where it was to go on.
    pub fn new(
        channel: &str,
        result: &SubscribeResult,
        since: Option<&StreamPosition>,
        truth: &mut Truth,
    ) -> Self {
        if !has_history(channel) {
            assert!(!result.positioned && !result.recovered && result.publications.is_empty());
            return Self::default();
        }
        assert!(result.positioned && result.recoverable, "{channel}: {result:?}");
        assert_eq!(result.was_recovering, since.is_some());
        let mut position = Position { epoch: result.epoch.clone(), offset: result.offset };
        if let Some(since) = since.filter(|_| result.recovered) {
            assert_eq!(since.epoch, result.epoch, "{channel} is recovered in another epoch");
            position.offset = since.offset;
            for publication in &result.publications {
                assert_eq!(publication.offset, position.offset + 1, "{channel}: recovered");
                truth.see(channel, &position.epoch, publication);
                position.offset = publication.offset;
            }
            let told = since.offset..=position.offset;
            assert!(told.contains(&result.offset), "{channel}: {} in {told:?}", result.offset);
        } else {
            assert!(!result.recovered && result.publications.is_empty(), "nothing was asked for");
        }
        truth.reach(channel, &position.epoch, position.offset);
        Self { position: Some(position), ..Self::default() }
    }

    /// A publication has come.
    pub fn take(&mut self, channel: &str, publication: &Publication, truth: &mut Truth) {
        let Some(position) = &mut self.position else {
            assert_eq!(publication.offset, 0, "{channel} has no history");
            let (publisher, visit, number) = origin(&publication.data);
            let latest = self.latest.insert((publisher, visit), number);
            let is_later = latest.is_none_or(|latest| number > latest);
            assert!(is_later, "{channel}: {number} of {publisher} behind {latest:?}");
            return;
        };
        if publication.offset == 1 && publication.epoch != position.epoch {
            assert!(!publication.epoch.is_empty(), "{channel}: the first tells the epoch");
            *position = Position { epoch: publication.epoch.clone(), offset: 0 };
        }
        let expected = position.offset + 1;
        assert_eq!(publication.offset, expected, "{channel}: a gap or a double");
        truth.see(channel, &position.epoch, publication);
        position.offset = publication.offset;
    }

    /// Somebody has come or gone.
    pub fn hear(&mut self, channel: &str, client: &str, is_there: bool) {
        assert!(hears_of_others(channel), "{channel} tells nothing of others");
        let before = self.heard.insert(client.to_owned(), is_there);
        assert_ne!(before, Some(is_there), "{channel}: {client} is told twice");
    }
}

/// Whether publications of a channel have offsets.
pub fn has_history(channel: &str) -> bool {
    !channel.starts_with("plain:")
}

/// Whether it is known who is in a channel, and told.
pub fn hears_of_others(channel: &str) -> bool {
    channel.starts_with("full:")
}

/// The content of a publication.
pub fn content(publisher: usize, visit: u32, number: u32, filler: usize) -> Vec<u8> {
    format!("\"{publisher}.{visit}.{number}.{}\"", "x".repeat(filler)).into_bytes()
}

/// Who has published something in which visit, and which of its publications it is.
fn origin(content: &[u8]) -> (usize, u32, u32) {
    let text = std::str::from_utf8(content).expect("JSON").trim_matches('"');
    let mut numbers = text.split('.').map_while(|part| part.parse().ok());
    let mut number = || numbers.next().expect("three numbers");
    (number() as usize, number(), number())
}

/// All that there are; what holds for them is in their names.
pub const CHANNELS: [&str; 5] = ["plain:a", "kept:a", "kept:b", "full:a", "full:b"];
