//! The last ends of WebSockets, one by one, for whoever asks what has happened.
//!
//! Each shard keeps its share of the last [`CLOSE_RECORDS_MOST`]. It never waits for somebody who
//! reads them: what it cannot add at once it adds with the next end, or a tenth of a second later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::PeerAddress;
use crate::websocket::Initiator;
use crate::wire::close::CloseCode;

/// How a WebSocket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseRecord {
    /// When its end began, since the start of the shards.
    pub at: Duration,
    /// The topic that it was a member of; none for an echo.
    pub topic: Option<Arc<str>>,
    /// The address of its peer, if it was known.
    pub address: Option<PeerAddress>,
    /// The user whose token it had, if that named one.
    pub user: Option<Box<str>>,
    /// The path that it was upgraded at, if it is in the access log.
    pub path: Option<Box<str>>,
    /// Bytes received and sent, if they were counted.
    pub bytes: Option<(u64, u64)>,
    /// The close code, or one that stands for there being none (RFC 6455 section 7.1.5).
    pub code: CloseCode,
    /// The reason that the close frame gave, or what has happened where there was none.
    pub reason: Box<str>,
    /// Who ended it.
    pub initiator: Initiator,
    /// For how long it was open.
    pub age: Duration,
    /// Bytes that waited for the peer.
    pub backlog_bytes: usize,
}

/// The last ends of one shard, oldest first.
#[derive(Debug, Default)]
pub struct CloseRecords {
    most: usize,
    last: Mutex<VecDeque<Arc<CloseRecord>>>,
}

impl CloseRecords {
    /// For one of so many shards.
    pub fn new(shards: usize) -> Self {
        Self { most: CLOSE_RECORDS_MOST.div_ceil(shards.max(1)), last: Mutex::default() }
    }

    /// Adds the ends in `waiting`, oldest first, if nobody is reading at this moment; otherwise
    /// they go on waiting, the last of them. Only the owning shard may call this.
    pub fn add(&self, waiting: &mut VecDeque<Arc<CloseRecord>>) {
        let forget = |close_records: &mut VecDeque<_>| {
            close_records.drain(..close_records.len().saturating_sub(self.most));
        };
        match self.last.try_lock() {
            Ok(mut last) => {
                last.extend(waiting.drain(..));
                forget(&mut last);
            }
            Err(_) => forget(waiting),
        }
    }

    /// The last ends, oldest first.
    pub fn last(&self) -> Vec<Arc<CloseRecord>> {
        // No panic leaves it half changed.
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().cloned().collect()
    }
}

/// Ends that all shards keep together: at most some 5 MB, as an end with the longest topic and the
/// longest reason takes half a kilobyte.
pub const CLOSE_RECORDS_MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(code: u16) -> Arc<CloseRecord> {
        Arc::new(CloseRecord {
            at: Duration::ZERO,
            topic: None,
            address: None,
            user: None,
            path: None,
            bytes: None,
            code: CloseCode(code),
            reason: "".into(),
            initiator: Initiator::Remote,
            age: Duration::ZERO,
            backlog_bytes: 0,
        })
    }

    #[test]
    fn the_last_are_kept_and_nobody_waits_for_a_reader() {
        let close_records = CloseRecords { most: 3, ..CloseRecords::default() };
        let codes = || close_records.last().iter().map(|it| it.code.0).collect::<Vec<_>>();
        let mut waiting = VecDeque::new();
        for code in 1..=2 {
            waiting.push_back(record(code));
            close_records.add(&mut waiting);
        }
        assert_eq!((codes(), waiting.len()), (vec![1, 2], 0));
        let reader = close_records.last.lock().unwrap();
        for code in 3..=7 {
            waiting.push_back(record(code));
            close_records.add(&mut waiting);
        }
        assert_eq!(waiting.len(), 3);
        drop(reader);
        close_records.add(&mut waiting);
        assert_eq!((codes(), waiting.len()), (vec![5, 6, 7], 0));
    }

    #[test]
    fn an_end_takes_little() {
        assert!(size_of::<CloseRecord>() <= 160);
    }
}
