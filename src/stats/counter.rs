//! The numbers that a shard counts: written by its thread alone, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread counts and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts `amount` more; only the owning shard may call this.
    pub fn add(&self, amount: u64) {
        // No partner: nothing is published along with a counter.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Takes `amount` back; for gauges.
    pub fn subtract(&self, amount: u64) {
        self.add(amount.wrapping_neg());
    }

    /// Replaces the value; for gauges.
    pub fn set(&self, value: u64) {
        // No partner, as above.
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
