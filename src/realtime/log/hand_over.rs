//! The log on its way to another process: sealed here, told part by part, and gone on with there.

use super::recency::Recency;
use super::stream::Stream;
use super::{KeyRecord, Log, StreamRecord};

/// Some of what a sealed log keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Streams, the least recently used first.
    pub streams: Vec<StreamRecord>,
    /// Idempotency keys, the oldest first.
    pub keys: Vec<KeyRecord>,
    /// Whether this was the rest.
    pub is_last: bool,
}

/// How far a log has been told.
#[derive(Debug)]
pub(super) struct Telling {
    /// The place of the stream that comes next. None leaves its place in the order of use meanwhile
    /// but by being forgotten, and a new one comes last.
    stream: Option<u32>,
    /// The place of the key that comes next.
    key: usize,
}

impl Telling {
    /// The stream at a place is about to be forgotten.
    pub(super) fn forget(&mut self, place: u32, recency: &Recency) {
        if self.stream == Some(place) {
            self.stream = recency.newer(place);
        }
    }
}

impl Log {
    /// Nothing is published any more, as another process takes over; what is there can be read, and
    /// told from its beginning on.
    pub fn seal(&mut self) {
        self.sealed = Some(Telling { stream: self.recency.oldest(), key: 0 });
    }

    /// The other process does not take over.
    pub fn unseal(&mut self) {
        self.sealed = None;
    }

    /// The next part of what another process is to go on with: one stream or key, and more as long
    /// as that does not take more than so many bytes. Nothing of a log that is not sealed.
    pub fn next_part(&mut self, bytes_most: usize, now_ms: u64) -> Part {
        let mut part = Part::default();
        let Some(telling) = &mut self.sealed else { return Part { is_last: true, ..part } };
        let mut bytes = 0;
        while bytes <= bytes_most
            && let Some(place) = telling.stream
        {
            telling.stream = self.recency.newer(place);
            let stream = &self.streams[place as usize];
            bytes += stream.held_bytes();
            if !stream.is_over(now_ms) {
                part.streams.push(stream.record(now_ms));
            }
        }
        let least = usize::from(bytes == 0);
        let places = bytes_most.saturating_sub(bytes).div_ceil(KEY_BYTES).max(least);
        part.keys = self.keys.records(telling.key, places, now_ms).collect();
        telling.key += places;
        part.is_last = telling.stream.is_none() && telling.key >= self.keys.places();
        part
    }

    /// Goes on with a stream of another process, as the one used last. False if the channel has a
    /// stream already, which stays.
    pub fn import(&mut self, record: StreamRecord, now_ms: u64) -> bool {
        if self.places.contains_key(&record.channel) {
            return false;
        }
        let place = self.enter(Stream::from_record(record, now_ms));
        self.make_room(place);
        true
    }

    /// Goes on with an idempotency key of another process.
    pub fn import_key(&mut self, record: &KeyRecord, now_ms: u64) {
        self.keys.import(record, now_ms);
    }
}

/// What a key counts, about, on its way.
const KEY_BYTES: usize = 128;
