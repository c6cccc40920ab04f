//! What is published here, on its way to another process that serves the same topics for a while:
//! the server that succeeds this one, or that this one succeeds.
//!
//! Shards hand it a copy of what they publish and never wait for it: what does not fit is lost, and
//! counted, as is what has not been sent when the other process listens no more. What one shard
//! publishes stays in its order. While nobody listens, it costs each publication the look at a
//! flag.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::topics::Publication;

/// The shards' end.
#[derive(Debug)]
pub struct Relay {
    is_on: AtomicBool,
    /// Bytes that have been handed over, and are neither sent nor lost.
    waiting_bytes: AtomicUsize,
    lost: AtomicU64,
    publications: UnboundedSender<Publication>,
    /// The other end, until it is taken.
    receiver: Mutex<Option<UnboundedReceiver<Publication>>>,
}

impl Relay {
    pub(super) fn new() -> Self {
        let (publications, receiver) = unbounded_channel();
        Self {
            is_on: AtomicBool::new(false),
            waiting_bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            publications,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// The end from which publications are taken; there is one.
    pub fn take_receiver(&self) -> Option<UnboundedReceiver<Publication>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether another process wants what is published.
    pub fn is_on(&self) -> bool {
        // Acquire, partner: the Release in `set_on`. Whoever publishes because of what a client
        // of the other process has said sees it on: it was before that process had clients.
        self.is_on.load(Ordering::Acquire)
    }

    /// Says whether another process wants what is published.
    pub fn set_on(&self, is_on: bool) {
        // Release, partner: the Acquire in `is_on`.
        self.is_on.store(is_on, Ordering::Release);
    }

    /// Hands over a publication. It is lost when too much waits, or nobody listens any more.
    pub fn pass(&self, publication: &Publication) {
        // Relaxed: a bound, which some shards together may pass by a message each.
        if self.waiting_bytes.load(Ordering::Relaxed) >= WAITING_BYTES_MAX {
            return self.count_lost();
        }
        self.waiting_bytes.fetch_add(bytes_of(publication), Ordering::Relaxed);
        if self.publications.send(publication.clone()).is_err() {
            self.lose(publication);
        }
    }

    /// A publication is on its way.
    pub fn sent(&self, publication: &Publication) {
        // Relaxed: a bound, as in `pass`.
        self.waiting_bytes.fetch_sub(bytes_of(publication), Ordering::Relaxed);
    }

    /// A publication that was handed over is given up.
    pub fn lose(&self, publication: &Publication) {
        self.sent(publication);
        self.count_lost();
    }

    /// How many have been lost since the start.
    pub fn lost(&self) -> u64 {
        // Relaxed: nothing is published along with a counter.
        self.lost.load(Ordering::Relaxed)
    }

    fn count_lost(&self) {
        // Relaxed, as in `lost`.
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether all that was handed over is on its way or lost.
    pub fn is_settled(&self) -> bool {
        // Relaxed: the shards have ended, and their joins order what they have added.
        self.waiting_bytes.load(Ordering::Relaxed) == 0
    }
}

/// What a publication counts for while it waits.
fn bytes_of(publication: &Publication) -> usize {
    size_of::<Publication>() + publication.topic.len() + publication.message.frame_bytes()
}

/// Bytes that wait from which publications are lost: as many as one endpoint of the mesh may have
/// outstanding. A lone message may be larger.
const WAITING_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{DataMessage, MessageKind};

    fn publication(bytes: usize) -> Publication {
        let message = DataMessage::new(MessageKind::Binary, &vec![0; bytes]).into_shared();
        Publication { topic: "topic".into(), message, tags: None, at_us: 0 }
    }

    #[test]
    fn what_does_not_fit_or_is_given_up_is_lost_and_what_has_left_makes_room() {
        let relay = Relay::new();
        let mut receiver = relay.take_receiver().unwrap();
        assert!(relay.take_receiver().is_none() && relay.is_settled());
        let large = publication(WAITING_BYTES_MAX + 1);
        relay.pass(&large);
        assert_eq!(relay.lost(), 0);
        relay.pass(&publication(0));
        assert!(relay.lost() == 1 && !relay.is_settled());
        relay.sent(&receiver.try_recv().unwrap());
        assert!(relay.is_settled());
        relay.pass(&publication(0));
        relay.lose(&receiver.try_recv().unwrap());
        assert!(relay.lost() == 2 && relay.is_settled());
        drop(receiver);
        relay.pass(&publication(0));
        assert!(relay.lost() == 3 && relay.is_settled());
    }
}
