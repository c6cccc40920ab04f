//! What was published to a connection too recently to say anything about its reader.

/// Memory of what was published to the connection recently: in the latest generation in which
/// something was, and in the one before.
#[derive(Debug, Default)]
pub(super) struct Recent {
    generation: u32,
    latest_bytes: usize,
    previous_bytes: usize,
}

impl Recent {
    /// Takes note of what is published now.
    pub(super) fn add(&mut self, bytes: usize, generation: u32) {
        (self.latest_bytes, self.previous_bytes) = match generation.wrapping_sub(self.generation) {
            0 => (self.latest_bytes + bytes, self.previous_bytes),
            1 => (bytes, self.latest_bytes),
            _ => (bytes, 0),
        };
        self.generation = generation;
    }

    /// Memory of what counts as recent in this `generation`.
    pub(super) fn bytes(&self, generation: u32) -> usize {
        match generation.wrapping_sub(self.generation) {
            0 => self.latest_bytes + self.previous_bytes,
            1 => self.latest_bytes,
            _ => 0,
        }
    }

    /// Takes note that so many of the newest bytes are gone.
    pub(super) fn forget(&mut self, bytes: usize) {
        let of_latest = bytes.min(self.latest_bytes);
        self.latest_bytes -= of_latest;
        self.previous_bytes = self.previous_bytes.saturating_sub(bytes - of_latest);
    }
}
