//! The log of the channels whose home is this shard: it gives publications their order, keeps the
//! last of them, and alone decides whether what comes after a position is all there.
//!
//! Nothing here knows sockets, clocks or threads: the time is told, and never goes back. Memory is
//! bounded: where there is too little, the streams that have not been used for longest are
//! forgotten, and begin with another epoch when somebody asks for them again, so that nobody takes
//! for complete what is not.

mod epoch;
mod hand_over;
mod keys;
mod recency;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use slab::Slab;

use super::publication::Publication;
pub use epoch::Epoch;
use epoch::Epochs;
pub use hand_over::Part;
use hand_over::Telling;
use keys::IdempotencyKeys;
pub use keys::KeyRecord;
use recency::Recency;
use stream::Stream;

/// How much a channel keeps, by its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRules {
    /// Publications that are kept, the last ones; with 0 the channel has no history.
    pub size: usize,
    /// All of them are dropped so long after the last was published; with 0 the channel has no
    /// history.
    pub ttl_ms: u64,
    /// Epoch and offset are forgotten when the channel was not used for so long.
    pub meta_ttl_ms: u64,
}

impl HistoryRules {
    /// Whether anything is kept.
    pub fn has_history(&self) -> bool {
        self.size > 0 && self.ttl_ms > 0
    }
}

/// A place in a stream, as a client tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// The last publication that it has got; 0 for the beginning.
    pub offset: u64,
    /// The epoch, or nothing where the client knows none.
    pub epoch: &'a str,
}

/// The end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The offset of the last publication; 0 before the first.
    pub offset: u64,
    /// Which life of the stream that is of.
    pub epoch: Epoch,
}

/// What a publisher asks for beside the publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions<'a> {
    /// A publication of this channel with the same key within 5 minutes is the same one.
    pub idempotency_key: Option<&'a str>,
    /// Whatever has a version that is not greater than the last is ignored; 0 for none. Only
    /// channels with history remember it.
    pub version: u64,
    /// Versions are compared to those of the same epoch; others replace what was there.
    pub version_epoch: &'a str,
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its offset; that of the first where it was a repeat, and 0 without history.
    pub offset: u64,
    /// The epoch of that; [`Epoch::NONE`] without history.
    pub epoch: Epoch,
    /// The publication with its offset, to be delivered; nothing where it was ignored, because it
    /// was a repeat or its version was old.
    pub publication: Option<Arc<Publication>>,
    /// The one that subscribers got before it, for deltas, if that is still known.
    pub previous: Option<Arc<Publication>>,
}

impl Appended {
    /// Whether it is to be delivered.
    pub fn is_new(&self) -> bool {
        self.publication.is_some()
    }

    fn ignored(head: Head) -> Self {
        Self { offset: head.offset, epoch: head.epoch, publication: None, previous: None }
    }
}

/// The log is [sealed](Log::seal): whoever publishes has to try it again, elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log is sealed")]
pub struct Sealed;

/// What is asked for by the history command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest<'a> {
    /// Where to go on; nothing for the beginning or, in reverse, for the end.
    pub since: Option<Position<'a>>,
    /// Publications at most: none with 0, as many as possible where it is negative.
    pub limit: i64,
    /// Whether the newest come first, and then those before the position.
    pub is_reverse: bool,
}

/// What the history command gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// In the order that was asked for.
    pub publications: Vec<Arc<Publication>>,
    /// The offset of the last publication of the stream.
    pub offset: u64,
    /// The epoch of the stream.
    pub epoch: Epoch,
}

/// Why the history command gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// In reverse from the very beginning: the error 107 of the protocol.
    #[error("bad request")]
    BadRequest,
    /// The position is of another epoch: the error 112 of the protocol.
    #[error("unrecoverable position")]
    Unrecoverable,
}

/// What a client wants that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryMode {
    /// All that it has missed.
    Stream,
    /// The newest publication.
    Cache,
}

/// What a client gets that comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whether that is all that it has asked for.
    pub is_recovered: bool,
    /// In their order; nothing where it is not recovered.
    pub publications: Vec<Arc<Publication>>,
    /// What its position is before it counts the publications.
    pub offset: u64,
    /// The epoch of the stream.
    pub epoch: Epoch,
}

/// A stream, for another process to go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// The channel that it is of.
    pub channel: Arc<str>,
    /// Its end.
    pub head: Head,
    /// What is kept of it.
    pub publications: Vec<Arc<Publication>>,
    /// How long the publications are still to be kept.
    pub list_left_ms: u64,
    /// How long epoch and offset are still to be kept, unless it is used.
    pub left_ms: u64,
    /// The version that the last publication told; 0 for none.
    pub version: u64,
    /// The epoch of that version.
    pub version_epoch: Box<str>,
    /// Whether subscribers have got something since that is not kept.
    pub is_passed: bool,
}

/// The streams of many channels.
#[derive(Debug)]
pub struct Log {
    streams: Slab<Stream>,
    places: HashMap<Arc<str>, u32>,
    recency: Recency,
    /// When to look at which stream; each stands here once.
    looks: BTreeSet<(u64, u32)>,
    keys: IdempotencyKeys,
    epochs: Epochs,
    streams_bytes: usize,
    memory_bytes_max: usize,
    /// How far it has been told to another process, while it is sealed.
    sealed: Option<Telling>,
}

impl Log {
    /// An empty log, which takes no more memory than `memory_bytes_max`, beside what the stream
    /// takes that is in use. Equal seeds make equal epochs: a process needs one of its own.
    pub fn new(memory_bytes_max: usize, seed: u64) -> Self {
        Self {
            streams: Slab::new(),
            places: HashMap::new(),
            recency: Recency::new(),
            looks: BTreeSet::new(),
            keys: IdempotencyKeys::new(memory_bytes_max / KEYS_SHARE),
            epochs: Epochs::new(seed),
            streams_bytes: 0,
            memory_bytes_max,
            sealed: None,
        }
    }

    /// Publishes to a channel; the offset of `entry` is set here. Where the channel has no history,
    /// only an idempotency key is remembered, and the publication has the offset 0.
    ///
    /// # Errors
    ///
    /// The log is sealed.
    pub fn append(
        &mut self,
        channel: &Arc<str>,
        entry: Publication,
        rules: &HistoryRules,
        now_ms: u64,
        options: AppendOptions<'_>,
    ) -> Result<Appended, Sealed> {
        if self.sealed.is_some() {
            return Err(Sealed);
        }
        let key = options.idempotency_key;
        if let Some(head) = key.and_then(|key| self.keys.find(channel, key, now_ms)) {
            return Ok(Appended::ignored(head));
        }
        let appended = if rules.has_history() {
            self.append_kept(channel, entry, rules, now_ms, options)
        } else {
            self.pass(channel, entry)
        };
        if let Some(key) = key {
            let head = Head { offset: appended.offset, epoch: appended.epoch };
            self.keys.remember(channel, key, head, now_ms);
        }
        Ok(appended)
    }

    fn append_kept(
        &mut self,
        channel: &Arc<str>,
        entry: Publication,
        rules: &HistoryRules,
        now_ms: u64,
        options: AppendOptions<'_>,
    ) -> Appended {
        let AppendOptions { version, version_epoch, .. } = options;
        let place = self.used(channel, rules, now_ms);
        let appended = self.change(place, |stream| {
            if stream.has_version(version, version_epoch) {
                return Appended::ignored(stream.head());
            }
            stream.set_version(version, version_epoch);
            let (publication, previous) = stream.push(entry, rules, now_ms);
            let Head { offset, epoch } = stream.head();
            Appended { offset, epoch, publication: Some(publication), previous }
        });
        self.make_room(place);
        appended
    }

    /// A publication that is not kept.
    fn pass(&mut self, channel: &str, entry: Publication) -> Appended {
        if let Some(place) = self.places.get(channel) {
            self.streams[*place as usize].pass();
        }
        let publication = Some(Arc::new(Publication { offset: 0, ..entry }));
        Appended { offset: 0, epoch: Epoch::NONE, publication, previous: None }
    }

    /// What the history command gets, up to `publications_max`; a stream that is not there begins.
    /// A position past the end of the stream gets nothing.
    ///
    /// # Errors
    ///
    /// The position is of another epoch, or the beginning in reverse.
    pub fn read(
        &mut self,
        channel: &Arc<str>,
        request: ReadRequest<'_>,
        publications_max: usize,
        rules: &HistoryRules,
        now_ms: u64,
    ) -> Result<History, ReadError> {
        let ReadRequest { since, limit, is_reverse } = request;
        if is_reverse && since.is_some_and(|since| since.offset == 0) {
            return Err(ReadError::BadRequest);
        }
        let limit = usize::try_from(limit).map_or(publications_max, |it| it.min(publications_max));
        let place = self.used(channel, rules, now_ms);
        self.make_room(place);
        let stream = &self.streams[place as usize];
        let Head { offset, epoch } = stream.head();
        let publications = stream.read(since, limit, is_reverse)?;
        Ok(History { publications, offset, epoch })
    }

    /// What a client gets that comes back: all that it has missed, if that is no more than
    /// `publications_max` and all there, or nothing of it. A stream that is not there begins.
    pub fn recover(
        &mut self,
        channel: &Arc<str>,
        since: Position<'_>,
        publications_max: usize,
        mode: RecoveryMode,
        rules: &HistoryRules,
        now_ms: u64,
    ) -> Recovered {
        let place = self.used(channel, rules, now_ms);
        self.make_room(place);
        self.streams[place as usize].recover(since, publications_max, mode)
    }

    /// Somebody is about to get what comes next who has not got the end of the stream: it cannot be
    /// told as a difference.
    pub fn tell_next_in_full(&mut self, channel: &str) {
        if let Some(place) = self.places.get(channel) {
            self.streams[*place as usize].pass();
        }
    }

    /// Where the stream of a channel ends; one that is not there begins.
    pub fn position(&mut self, channel: &Arc<str>, rules: &HistoryRules, now_ms: u64) -> Head {
        let place = self.used(channel, rules, now_ms);
        self.make_room(place);
        self.streams[place as usize].head()
    }

    /// Drops what is kept of a channel, but for its position; false if it has no stream.
    pub fn remove_history(&mut self, channel: &str) -> bool {
        let Some(place) = self.places.get(channel).copied() else {
            return false;
        };
        self.change(place, Stream::clear);
        true
    }

    /// Drops what has come to its end, as far as that takes no more than `budget` steps: one for a
    /// stream, a publication or a key. Returns what is left of the budget: nothing, if there may be
    /// more to do. What has ended is told to nobody, even while it is still here. A sealed log
    /// stays as it is.
    pub fn advance(&mut self, now_ms: u64, budget: usize) -> usize {
        if self.sealed.is_some() {
            return budget;
        }
        let mut left = self.keys.expire(now_ms, budget);
        while left > 0
            && let Some((look_ms, place)) = self.looks.first().copied()
            && look_ms <= now_ms
        {
            left -= 1;
            if self.streams[place as usize].is_over(now_ms) {
                self.forget(place);
                continue;
            }
            let dropped = self.change(place, |stream| stream.settle(now_ms));
            left = left.saturating_sub(dropped);
            self.look_at(place, self.streams[place as usize].next_end_ms());
        }
        left
    }

    /// When there is something for [`advance`](Self::advance) to do, at the earliest.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let look_ms = self.looks.first().map(|(look_ms, _)| *look_ms);
        [look_ms, self.keys.next_end_ms()].into_iter().flatten().min()
    }

    /// Memory that all takes, estimated, as if nothing was shared.
    pub fn held_bytes(&self) -> usize {
        self.streams_bytes + self.keys.held_bytes()
    }

    /// Streams that are there.
    pub fn streams_len(&self) -> usize {
        self.streams.len()
    }

    /// The stream of a channel, which is used: it begins if it is not there or over.
    fn used(&mut self, channel: &Arc<str>, rules: &HistoryRules, now_ms: u64) -> u32 {
        let mut found = self.places.get(channel).copied();
        if let Some(place) = found.filter(|place| self.streams[*place as usize].is_over(now_ms)) {
            self.forget(place);
            found = None;
        }
        let place = found.unwrap_or_else(|| {
            let stream = Stream::new(channel.clone(), self.epochs.draw());
            self.enter(stream)
        });
        if self.sealed.is_none() {
            self.recency.touch(place);
        }
        self.change(place, |stream| {
            stream.settle(now_ms);
            stream.renew(rules, now_ms);
        });
        place
    }

    fn enter(&mut self, stream: Stream) -> u32 {
        let end_ms = stream.next_end_ms();
        self.streams_bytes += stream.held_bytes();
        let channel = stream.channel().clone();
        let place = self.streams.insert(stream) as u32;
        self.places.insert(channel, place);
        self.recency.insert(place);
        self.look_at(place, end_ms);
        place
    }

    fn forget(&mut self, place: u32) {
        if let Some(telling) = &mut self.sealed {
            telling.forget(place, &self.recency);
        }
        let stream = self.streams.remove(place as usize);
        self.streams_bytes -= stream.held_bytes();
        self.places.remove(stream.channel());
        self.recency.remove(place);
        self.looks.remove(&(stream.look_ms, place));
    }

    /// Everything that changes what a stream takes, or when it ends, goes through here.
    fn change<T>(&mut self, place: u32, act: impl FnOnce(&mut Stream) -> T) -> T {
        let stream = &mut self.streams[place as usize];
        let bytes_before = stream.held_bytes();
        let result = act(stream);
        self.streams_bytes = self.streams_bytes - bytes_before + stream.held_bytes();
        // An end that moves away is found when it is looked at; so a busy stream costs nothing.
        let end_ms = stream.next_end_ms();
        if end_ms < stream.look_ms {
            self.look_at(place, end_ms);
        }
        result
    }

    fn look_at(&mut self, place: u32, look_ms: u64) {
        let stream = &mut self.streams[place as usize];
        self.looks.remove(&(stream.look_ms, place));
        stream.look_ms = look_ms;
        self.looks.insert((look_ms, place));
    }

    /// Forgets streams until the memory suffices, the least recently used first; of the one in use,
    /// which is the last, only publications.
    fn make_room(&mut self, place: u32) {
        while self.held_bytes() > self.memory_bytes_max {
            match self.recency.oldest() {
                Some(oldest) if oldest != place => self.forget(oldest),
                _ if self.change(place, Stream::trim) => {}
                _ => break,
            }
        }
    }
}

/// Idempotency keys take no more than this part of the memory.
const KEYS_SHARE: usize = 8;
