//! How many messages policies kept from each subscriber. Debug builds know it, so that a simulation
//! can demand that what is missing is exactly what was counted; release builds keep nothing.

use crate::io::Key;

/// The messages dropped, by subscriber.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    #[cfg(debug_assertions)]
    dropped: std::collections::HashMap<Key, u64>,
}

impl Ledger {
    /// Takes note of messages that `key` does not get.
    #[cfg_attr(not(debug_assertions), expect(clippy::unused_self, reason = "nothing is kept"))]
    pub(super) fn dropped(&mut self, key: Key, messages: u64) {
        #[cfg(debug_assertions)]
        if messages > 0 {
            *self.dropped.entry(key).or_default() += messages;
        }
        #[cfg(not(debug_assertions))]
        let _ = (key, messages);
    }

    /// The messages that `key` did not get.
    #[cfg_attr(not(debug_assertions), expect(clippy::unused_self, reason = "nothing is kept"))]
    pub(super) fn of(&self, key: Key) -> u64 {
        #[cfg(debug_assertions)]
        return self.dropped.get(&key).copied().unwrap_or(0);
        #[cfg(not(debug_assertions))]
        {
            let _ = key;
            0
        }
    }
}
