//! Idempotency keys: what was published a moment ago, and is not to be published again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Head;

/// Keys of all channels, each remembered for [`LIFETIME_MS`] with the result of its publication.
/// Where there is no room, the oldest go first.
#[derive(Debug)]
pub(super) struct IdempotencyKeys {
    by_name: HashMap<Arc<str>, Kept>,
    /// In the order in which they end. What was remembered anew since stands here twice, and only
    /// the later one counts.
    ends: VecDeque<(u64, Arc<str>)>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    head: Head,
    end_ms: u64,
}

/// A key that is remembered, for another process to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// The channel that it belongs to.
    pub channel: Box<str>,
    /// What the publisher called its publication.
    pub key: Box<str>,
    /// The position that the publication got.
    pub head: Head,
    /// For how long it is still to be remembered.
    pub left_ms: u64,
}

impl IdempotencyKeys {
    /// None yet.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { by_name: HashMap::new(), ends: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// The result of the publication of this key, if it is remembered.
    pub(super) fn find(&self, channel: &str, key: &str, now_ms: u64) -> Option<Head> {
        if self.by_name.is_empty() {
            return None;
        }
        let kept = self.by_name.get(name(channel, key).as_str())?;
        (kept.end_ms > now_ms).then_some(kept.head)
    }

    /// Remembers a key, from now on, with the result of its publication.
    pub(super) fn remember(&mut self, channel: &str, key: &str, head: Head, now_ms: u64) {
        self.insert(channel, key, Kept { head, end_ms: now_ms.saturating_add(LIFETIME_MS) });
        // Two for each that comes, so that they become fewer where nothing else makes time for it.
        self.expire(now_ms, 2);
    }

    fn insert(&mut self, channel: &str, key: &str, kept: Kept) {
        let name: Arc<str> = name(channel, key).into();
        self.bytes += entry_bytes(&name);
        self.by_name.insert(name.clone(), kept);
        self.ends.push_back((kept.end_ms, name));
        while self.ends.len() > KEYS_MAX || self.bytes > self.bytes_max {
            if !self.forget_oldest() {
                break;
            }
        }
    }

    /// Forgets keys whose time is over, up to `budget`; returns what is left of that.
    pub(super) fn expire(&mut self, now_ms: u64, budget: usize) -> usize {
        let mut left = budget;
        while left > 0 && self.next_end_ms().is_some_and(|end_ms| end_ms <= now_ms) {
            self.forget_oldest();
            left -= 1;
        }
        left
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((end_ms, name)) = self.ends.pop_front() else {
            return false;
        };
        self.bytes -= entry_bytes(&name);
        if self.by_name.get(&name).is_some_and(|kept| kept.end_ms == end_ms) {
            self.by_name.remove(&name);
        }
        true
    }

    /// When the next one ends.
    pub(super) fn next_end_ms(&self) -> Option<u64> {
        self.ends.front().map(|(end_ms, _)| *end_ms)
    }

    /// Memory that they take, estimated.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Those that are remembered of so many places from one on, the oldest first.
    pub(super) fn records(
        &self,
        from: usize,
        places: usize,
        now_ms: u64,
    ) -> impl Iterator<Item = KeyRecord> {
        self.ends.iter().skip(from).take(places).filter_map(move |(end_ms, name)| {
            let kept = self.by_name.get(name)?;
            if kept.end_ms != *end_ms || kept.end_ms <= now_ms {
                return None;
            }
            let (channel_bytes, texts) = name.split_once(':')?;
            let (channel, key) = texts.split_at_checked(channel_bytes.parse().ok()?)?;
            let left_ms = kept.end_ms - now_ms;
            Some(KeyRecord { channel: channel.into(), key: key.into(), head: kept.head, left_ms })
        })
    }

    /// Places of keys, some of which stand there no more.
    pub(super) fn places(&self) -> usize {
        self.ends.len()
    }

    /// Goes on with a key of another process, unless it is known here.
    pub(super) fn import(&mut self, record: &KeyRecord, now_ms: u64) {
        if self.find(&record.channel, &record.key, now_ms).is_some() {
            return;
        }
        let end_ms = now_ms.saturating_add(record.left_ms.min(LIFETIME_MS));
        self.insert(&record.channel, &record.key, Kept { head: record.head, end_ms });
    }
}

/// The key with its channel, whose length keeps apart what only looks the same when it is joined.
fn name(channel: &str, key: &str) -> String {
    format!("{}:{channel}{key}", channel.len())
}

fn entry_bytes(name: &str) -> usize {
    name.len() + ENTRY_BYTES
}

/// How long a key is remembered: what the protocol's HTTP API promises.
pub(super) const LIFETIME_MS: u64 = 5 * 60 * 1000;
/// Keys at a time, of all channels.
const KEYS_MAX: usize = 1 << 20;
/// What a key takes beside its text: in the map, which may be half empty, and in the queue.
const ENTRY_BYTES: usize = 2 * (size_of::<Kept>() + 16) + 24 + 24;

#[cfg(test)]
mod tests {
    use super::super::Epoch;
    use super::*;

    fn head(offset: u64) -> Head {
        Head { offset, epoch: Epoch::NONE }
    }

    #[test]
    fn keys_end_and_the_oldest_go_first() {
        let mut keys = IdempotencyKeys::new(1000);
        keys.remember("ab", "c", head(1), 0);
        assert_eq!(keys.find("ab", "c", LIFETIME_MS - 1), Some(head(1)));
        assert_eq!(keys.find("a", "bc", 0), None);
        assert_eq!(keys.find("ab", "c", LIFETIME_MS), None);
        // Anew, while the old one still stands in the queue.
        keys.remember("ab", "c", head(2), LIFETIME_MS);
        assert_eq!((keys.ends.len(), keys.by_name.len()), (1, 1));
        assert_eq!(keys.find("ab", "c", LIFETIME_MS), Some(head(2)));
        for number in 0..100 {
            keys.remember("x", &number.to_string(), head(number), LIFETIME_MS);
            assert!(keys.held_bytes() <= 1000);
        }
        assert_eq!(keys.find("ab", "c", LIFETIME_MS), None);
        assert_eq!(keys.find("x", "99", LIFETIME_MS), Some(head(99)));
        assert_eq!(keys.expire(2 * LIFETIME_MS, 1), 0);
        keys.expire(2 * LIFETIME_MS, 1000);
        assert_eq!((keys.held_bytes(), keys.by_name.len(), keys.next_end_ms()), (0, 0, None));
    }

    #[test]
    fn another_process_goes_on_with_them() {
        let mut keys = IdempotencyKeys::new(1 << 20);
        keys.remember("a:b", "1:2", head(3), 50);
        keys.remember("", "", head(4), 60);
        let mut other = IdempotencyKeys::new(1 << 20);
        keys.records(0, 9, 100).for_each(|record| other.import(&record, 7));
        assert_eq!(other.find("a:b", "1:2", 7 + LIFETIME_MS - 51), Some(head(3)));
        assert_eq!(other.find("a:b", "1:2", 7 + LIFETIME_MS - 50), None);
        assert_eq!(other.find("", "", 7), Some(head(4)));
        assert_eq!(other.records(0, 9, 7).count(), 2);
        assert_eq!((other.records(1, 1, 7).count(), other.records(2, 9, 7).count()), (1, 0));
    }
}
