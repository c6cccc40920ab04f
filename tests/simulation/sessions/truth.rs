//! What all clients together have learned of channels: every publication has one place, and is the
//! same for everybody.

use std::collections::BTreeMap;

use ringwire::realtime::protocol::Publication;

/// How far somebody has got in a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub epoch: String,
    pub offset: u64,
}

/// What is known of all channels.
#[derive(Default)]
pub struct Truth {
    streams: BTreeMap<(String, String), Stream>,
    /// Where each publication of a channel is.
    places: BTreeMap<(String, Vec<u8>), (String, u64)>,
    /// Publications of each channel that were answered, and all that were sent.
    published: BTreeMap<String, (u64, u64)>,
}

/// What is known of a channel within an epoch.
#[derive(Default)]
struct Stream {
    publications: BTreeMap<u64, Vec<u8>>,
    head: u64,
}

impl Truth {
    /// Somebody has seen a publication.
    pub fn see(&mut self, channel: &str, epoch: &str, publication: &Publication) {
        let Publication { offset, data, .. } = publication;
        self.reach(channel, epoch, *offset);
        let stream = self.streams.entry((channel.into(), epoch.into())).or_default();
        let known = stream.publications.entry(*offset).or_insert_with(|| data.clone());
        assert_eq!(known, data, "{channel} at {offset} is not the same for all");
        let place = (epoch.to_owned(), *offset);
        let known = self.places.entry((channel.into(), data.clone())).or_insert(place.clone());
        assert_eq!(*known, place, "a publication of {channel} is there twice");
    }

    /// Somebody has been told that a channel has come so far.
    pub fn reach(&mut self, channel: &str, epoch: &str, offset: u64) {
        let stream = self.streams.entry((channel.into(), epoch.into())).or_default();
        stream.head = stream.head.max(offset);
    }

    /// How far a channel has come within an epoch, as far as anybody knows.
    pub fn head(&self, channel: &str, epoch: &str) -> u64 {
        self.streams.get(&(channel.into(), epoch.into())).map_or(0, |stream| stream.head)
    }

    /// Somebody sends a publication.
    pub fn send(&mut self, channel: &str) {
        self.published.entry(channel.into()).or_default().1 += 1;
    }

    /// One of those has been answered.
    pub fn accept(&mut self, channel: &str) {
        self.published.entry(channel.into()).or_default().0 += 1;
    }

    /// Where nothing is forgotten, a channel has come as far as publications were accepted, and no
    /// further than some were sent. Told at rest of a channel that has a subscriber.
    pub fn check_published(&self, channel: &str) {
        let (accepted, sent) = self.published.get(channel).copied().unwrap_or_default();
        let streams = self.streams.iter().filter(|((name, _), _)| name == channel);
        let heads: Vec<u64> = streams.map(|(_, stream)| stream.head).collect();
        assert!(heads.len() <= 1, "{channel} has begun anew");
        let head = heads.into_iter().sum();
        assert!((accepted..=sent).contains(&head), "{channel}: {accepted}..={sent} but {head}");
    }
}
