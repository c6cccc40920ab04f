//! Encoded frames that many connections send: made once, never changed, shared by reference.

use std::rc::Rc;
use std::sync::Arc;

/// A run of whole frames for the subscribers of one topic.
#[derive(Debug)]
pub struct Frames {
    bytes: Bytes,
    messages: u32,
    last_offset: u32,
}

/// Neighbouring messages of a run of frames, for a subscriber that does not get all of the run.
#[derive(Debug)]
pub struct Excerpt {
    /// The run of frames.
    pub frames: Rc<Frames>,
    /// Where among its bytes the excerpt starts.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// Messages in the excerpt.
    pub messages: u32,
    /// Whether this is the first excerpt of the run for its subscriber: the memory of the run is
    /// counted once.
    pub is_first: bool,
}

impl Excerpt {
    /// The frames of its messages.
    pub fn bytes(&self) -> &[u8] {
        &self.frames.bytes()[self.start as usize..self.end as usize]
    }

    /// Bytes of memory that it takes, with those of its run if it is the first of that.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + if self.is_first { self.frames.held_bytes() } else { 0 }
    }
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

    /// Bytes of memory that the run takes, with what the allocator adds.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.bytes {
                Bytes::One(frame) => frame.capacity() + SHARED_FRAME_BYTES,
                Bytes::Joined(joined) => joined.capacity() + REFERENCES_BYTES,
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

/// The counts of references beside what is counted, and what the allocator rounds up.
const REFERENCES_BYTES: usize = 32;
/// The same of a frame that shards share, which is a vector of its own.
const SHARED_FRAME_BYTES: usize = 2 * REFERENCES_BYTES + size_of::<Vec<u8>>();

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
