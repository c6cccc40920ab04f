//! What all event loops have published, as numbers of frames: the frames are all alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The frames that go to everybody, counted by each event loop for the others.
#[derive(Clone)]
pub struct Published {
    own: usize,
    by_shard: Arc<[AtomicU64]>,
    /// What has been seen of the others.
    seen: u64,
}

impl Published {
    /// Nothing, by so many event loops.
    pub fn new(shards: usize) -> Self {
        Self { own: 0, by_shard: (0..shards).map(|_| AtomicU64::new(0)).collect(), seen: 0 }
    }

    /// The same as one of them sees it.
    pub fn for_shard(&self, own: usize) -> Self {
        Self { own, ..self.clone() }
    }

    /// Counts frames of this event loop.
    pub fn publish(&self, frames: u32) {
        // Pairs with the load in `take`: the wake-up that follows finds the frames.
        self.by_shard[self.own].fetch_add(frames.into(), Ordering::Release);
    }

    /// Frames of the others since the last call.
    pub fn take(&mut self) -> u32 {
        let others = self.by_shard.iter().enumerate().filter(|(shard, _)| *shard != self.own);
        // Pairs with `publish`.
        let all: u64 = others.map(|(_, frames)| frames.load(Ordering::Acquire)).sum();
        let new = all - self.seen;
        self.seen = all;
        u32::try_from(new).unwrap_or(u32::MAX)
    }

    /// The other event loops.
    pub fn others(&self) -> impl Iterator<Item = usize> {
        let own = self.own;
        (0..self.by_shard.len()).filter(move |shard| *shard != own)
    }
}
