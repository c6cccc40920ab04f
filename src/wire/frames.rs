//! Encoded frames that many connections send: made once, never changed, shared by reference.

use std::sync::Arc;

/// A run of whole frames for the subscribers of one topic.
#[derive(Debug)]
pub struct Frames {
    bytes: Bytes,
    messages: u32,
    last_offset: u32,
}

#[derive(Debug)]
enum Bytes {
    One(Arc<Vec<u8>>),
    Joined(Vec<u8>),
}

impl Frames {
    /// One message, shared with the other shards.
    pub fn one(frame: Arc<Vec<u8>>) -> Self {
        Self { bytes: Bytes::One(frame), messages: 1, last_offset: 0 }
    }

    /// Messages that lie one after the other in `bytes`; `last_offset` is where the last starts.
    pub fn joined(bytes: Vec<u8>, messages: u32, last_offset: u32) -> Self {
        Self { bytes: Bytes::Joined(bytes), messages, last_offset }
    }

    /// Appends a message; the run becomes a copy of its parts, so that one send carries them all.
    pub fn join(&mut self, frame: &[u8]) {
        if let Bytes::One(first) = &self.bytes {
            let mut joined = Vec::with_capacity((first.len() + frame.len()).next_power_of_two());
            joined.extend_from_slice(first);
            self.bytes = Bytes::Joined(joined);
        }
        if let Bytes::Joined(joined) = &mut self.bytes {
            self.last_offset = joined.len() as u32;
            joined.extend_from_slice(frame);
        }
        self.messages += 1;
    }

    /// The encoded frames.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::One(frame) => frame,
            Bytes::Joined(joined) => joined,
        }
    }

    /// Messages in the run.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Where the last message starts.
    pub fn last_offset(&self) -> u32 {
        self.last_offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_keeps_order_and_knows_the_last() {
        let mut frames = Frames::one(Arc::new(b"one".to_vec()));
        assert_eq!((frames.bytes(), frames.messages(), frames.last_offset()), (&b"one"[..], 1, 0));
        frames.join(b"three");
        frames.join(b"x");
        assert_eq!(frames.bytes(), b"onethreex");
        assert_eq!((frames.messages(), frames.last_offset()), (3, 8));
    }
}
