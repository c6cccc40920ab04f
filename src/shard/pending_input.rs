//! Input that connections have to wait with, until they may go on.

use std::collections::HashMap;

use crate::io::BufferSlice;

/// Where input lies.
pub(super) enum Input {
    Buffer(BufferSlice),
    /// In memory of its own, from this place on.
    Owned(Vec<u8>, usize),
}

/// What was received from connections that pause, by their index.
///
/// Only they have an entry, so whoever does not wait costs nothing here.
#[derive(Debug, Default)]
pub(super) struct PendingInput {
    by_index: HashMap<u32, Pending>,
}

#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    /// How much of it has been used.
    start: usize,
}

impl PendingInput {
    /// Keeps input behind what waits already.
    pub(super) fn append(&mut self, index: u32, input: &[u8]) {
        if !input.is_empty() {
            let empty = || Pending { bytes: Vec::new(), start: 0 };
            self.by_index.entry(index).or_insert_with(empty).bytes.extend_from_slice(input);
        }
    }

    /// Keeps again what was taken, but for what comes before `start`.
    pub(super) fn put_back(&mut self, index: u32, bytes: Vec<u8>, start: usize) {
        if start < bytes.len() {
            let before = self.by_index.insert(index, Pending { bytes, start });
            debug_assert!(before.is_none(), "it was taken");
        }
    }

    /// Takes out what waits, and where in it that starts.
    pub(super) fn take(&mut self, index: u32) -> (Vec<u8>, usize) {
        let pending = self.by_index.remove(&index);
        pending.map_or((Vec::new(), 0), |pending| (pending.bytes, pending.start))
    }

    /// Drops what waits.
    pub(super) fn forget(&mut self, index: u32) {
        self.by_index.remove(&index);
        if self.by_index.is_empty() {
            // What a crowd took is given back.
            self.by_index.shrink_to(KEPT);
        }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self, index: u32) -> usize {
        self.by_index.get(&index).map_or(0, |pending| pending.bytes.len() - pending.start)
    }

    /// Whether something waits.
    pub(super) fn contains(&self, index: u32) -> bool {
        self.by_index.contains_key(&index)
    }
}

/// Entries that there is room for however few wait.
const KEPT: usize = 64;
