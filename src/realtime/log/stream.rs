//! The stream of one channel: what was published last, and what may be said of it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{
    Epoch, Head, HistoryRules, Position, ReadError, Recovered, RecoveryMode, StreamRecord,
};
use crate::realtime::publication::Publication;

/// The last publications of a channel, and the position of the last one ever.
#[derive(Debug)]
pub(super) struct Stream {
    channel: Arc<str>,
    epoch: Epoch,
    /// The offset of the last publication; 0 before the first.
    top: u64,
    /// Offsets grow by one, and the last is the top.
    list: VecDeque<Arc<Publication>>,
    list_bytes: usize,
    /// When the list is dropped; without meaning where it is empty.
    list_end_ms: u64,
    /// When the stream is forgotten.
    end_ms: u64,
    /// Of the application, for its own order; 0 where it has told none.
    version: u64,
    version_epoch: Box<str>,
    /// Whether subscribers have seen something since that is not in the list.
    is_passed: bool,
    /// When the log looks at it, which may be before there is something to do.
    pub(super) look_ms: u64,
}

impl Stream {
    pub(super) fn new(channel: Arc<str>, epoch: Epoch) -> Self {
        Self {
            channel,
            epoch,
            top: 0,
            list: VecDeque::new(),
            list_bytes: 0,
            list_end_ms: 0,
            end_ms: u64::MAX,
            version: 0,
            version_epoch: Box::default(),
            is_passed: false,
            look_ms: u64::MAX,
        }
    }

    pub(super) fn channel(&self) -> &Arc<str> {
        &self.channel
    }

    pub(super) fn head(&self) -> Head {
        Head { offset: self.top, epoch: self.epoch }
    }

    /// Memory that it takes, with what the log keeps for each stream.
    pub(super) fn held_bytes(&self) -> usize {
        let texts = self.channel.len() + self.version_epoch.len();
        STREAM_BYTES + texts + self.list_bytes + self.list.len() * ENTRY_BYTES
    }

    /// When something ends: the list, or all of it.
    pub(super) fn next_end_ms(&self) -> u64 {
        if self.list.is_empty() { self.end_ms } else { self.end_ms.min(self.list_end_ms) }
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.end_ms <= now_ms
    }

    /// It is used, and lives on.
    pub(super) fn renew(&mut self, rules: &HistoryRules, now_ms: u64) {
        self.end_ms = now_ms.saturating_add(rules.meta_ttl_ms);
    }

    /// Drops the list if its time is over; returns how many publications that were.
    pub(super) fn settle(&mut self, now_ms: u64) -> usize {
        if self.list.is_empty() || self.list_end_ms > now_ms {
            return 0;
        }
        self.clear()
    }

    /// Drops the list; returns how many publications that were.
    pub(super) fn clear(&mut self) -> usize {
        let publications = self.list.len();
        self.list = VecDeque::new();
        self.list_bytes = 0;
        publications
    }

    /// Whether a version is older than what is there, or the same.
    pub(super) fn has_version(&self, version: u64, version_epoch: &str) -> bool {
        version > 0 && version <= self.version && *self.version_epoch == *version_epoch
    }

    /// Remembers a version, if one is told.
    pub(super) fn set_version(&mut self, version: u64, version_epoch: &str) {
        if version > 0 {
            self.version = version;
            if *self.version_epoch != *version_epoch {
                self.version_epoch = version_epoch.into();
            }
        }
    }

    /// Subscribers get something that is not kept: what comes next cannot be told to them as a
    /// difference to the end of the list.
    pub(super) fn pass(&mut self) {
        self.is_passed = true;
    }

    /// Appends a publication. Returns it with its offset, and what subscribers got before it, as
    /// far as that is known.
    pub(super) fn push(
        &mut self,
        mut publication: Publication,
        rules: &HistoryRules,
        now_ms: u64,
    ) -> (Arc<Publication>, Option<Arc<Publication>>) {
        let is_passed = std::mem::take(&mut self.is_passed);
        let previous = self.list.back().filter(|_| !is_passed).cloned();
        self.top += 1;
        publication.offset = self.top;
        let publication = Arc::new(publication);
        self.list_bytes += publication.held_bytes();
        self.list.push_back(publication.clone());
        self.list_end_ms = now_ms.saturating_add(rules.ttl_ms);
        while self.list.len() > rules.size {
            self.trim();
        }
        (publication, previous)
    }

    /// Drops the oldest publication; false if there is none.
    pub(super) fn trim(&mut self) -> bool {
        let Some(oldest) = self.list.pop_front() else {
            return false;
        };
        self.list_bytes -= oldest.held_bytes();
        true
    }

    /// What the history command gets: see [`Log::read`](super::Log::read).
    pub(super) fn read(
        &self,
        since: Option<Position<'_>>,
        limit: usize,
        is_reverse: bool,
    ) -> Result<Vec<Arc<Publication>>, ReadError> {
        let known = since.filter(|since| !since.epoch.is_empty());
        if known.is_some_and(|since| since.epoch != self.epoch.as_str()) {
            return Err(ReadError::Unrecoverable);
        }
        let publications = match since {
            // A position that no publication has reached yet: there is nothing to go on from.
            Some(since) if since.offset > self.top => Vec::new(),
            None if is_reverse => self.list.iter().rev().take(limit).cloned().collect(),
            Some(since) if is_reverse => {
                let before = self.list.iter().take(self.place_of(since.offset));
                before.rev().take(limit).cloned().collect()
            }
            _ => self.after(since.map_or(0, |since| since.offset), limit),
        };
        Ok(publications)
    }

    /// What a client gets that comes back: see [`Log::recover`](super::Log::recover).
    pub(super) fn recover(
        &self,
        since: Position<'_>,
        publications_max: usize,
        mode: RecoveryMode,
    ) -> Recovered {
        let recovered = match mode {
            RecoveryMode::Stream => self.recover_stream(since, publications_max),
            RecoveryMode::Cache => self.recover_cache(since),
        };
        recovered.unwrap_or_else(|| Recovered {
            is_recovered: false,
            publications: Vec::new(),
            offset: self.top,
            epoch: self.epoch,
        })
    }

    fn recover_stream(&self, since: Position<'_>, publications_max: usize) -> Option<Recovered> {
        if !since.epoch.is_empty() && since.epoch != self.epoch.as_str() {
            return None;
        }
        let publications = self.after(since.offset, publications_max);
        let is_whole = match (publications.first(), publications.last()) {
            (Some(first), Some(last)) => {
                since.offset.checked_add(1) == Some(first.offset) && last.offset == self.top
            }
            _ => since.offset == self.top,
        };
        // The offset is that of the request: by the publications the client advances itself.
        is_whole.then_some(Recovered {
            is_recovered: true,
            publications,
            offset: since.offset,
            epoch: self.epoch,
        })
    }

    fn recover_cache(&self, since: Position<'_>) -> Option<Recovered> {
        let has_top = since.offset == self.top && since.epoch == self.epoch.as_str();
        let newest = self.list.back().filter(|newest| newest.offset == self.top);
        let publications = match newest {
            _ if has_top => Vec::new(),
            Some(newest) => vec![newest.clone()],
            None => return None,
        };
        Some(Recovered { is_recovered: true, publications, offset: self.top, epoch: self.epoch })
    }

    /// The first of the publications whose offset is greater.
    fn after(&self, offset: u64, limit: usize) -> Vec<Arc<Publication>> {
        let begin = offset.checked_add(1).map_or(self.list.len(), |next| self.place_of(next));
        self.list.iter().skip(begin).take(limit).cloned().collect()
    }

    /// How many publications of the list have a smaller offset.
    fn place_of(&self, offset: u64) -> usize {
        self.list.partition_point(|publication| publication.offset < offset)
    }

    /// All that another process needs to go on with it.
    pub(super) fn record(&self, now_ms: u64) -> StreamRecord {
        let is_kept = self.list_end_ms > now_ms;
        StreamRecord {
            channel: self.channel.clone(),
            head: self.head(),
            publications: self.list.iter().filter(|_| is_kept).cloned().collect(),
            list_left_ms: self.list_end_ms.saturating_sub(now_ms),
            left_ms: self.end_ms.saturating_sub(now_ms),
            version: self.version,
            version_epoch: self.version_epoch.clone(),
            is_passed: self.is_passed,
        }
    }

    /// Goes on with the stream of another process. Publications that are not the end of it, without
    /// a gap, are left out.
    pub(super) fn from_record(record: StreamRecord, now_ms: u64) -> Self {
        let mut expected = record.head.offset;
        let kept = record.publications.into_iter().rev().take_while(|publication| {
            let is_next = expected > 0 && publication.offset == expected;
            expected = expected.saturating_sub(1);
            is_next
        });
        let mut list: VecDeque<_> = kept.collect();
        list.make_contiguous().reverse();
        Self {
            list_bytes: list.iter().map(|publication| publication.held_bytes()).sum(),
            list,
            top: record.head.offset,
            list_end_ms: now_ms.saturating_add(record.list_left_ms),
            end_ms: now_ms.saturating_add(record.left_ms),
            version: record.version,
            version_epoch: record.version_epoch,
            is_passed: record.is_passed,
            ..Self::new(record.channel, record.head.epoch)
        }
    }
}

/// What the log keeps for a stream beside its texts: the stream, its place among the names, which
/// may be half empty, among the deadlines and in the order of use.
const STREAM_BYTES: usize = size_of::<Stream>() + 2 * 32 + 32 + 8 + 16;
/// What a publication takes in the list, which may be half empty.
const ENTRY_BYTES: usize = 2 * size_of::<Arc<Publication>>();
