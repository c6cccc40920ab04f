//! What a connection sends, and who owns it while the kernel reads it.
//!
//! A send hands its [`Outgoing`] over to the ring and gets it back with the completion: memory in
//! flight has one owner, so nothing the rest of the program does can free it under the kernel.

use std::rc::Rc;

use slab::Slab;

use super::buffers::BufferSlice;
use super::token::Key;
use crate::wire::frames::{Excerpt, Frames};

/// A run of bytes to send.
#[derive(Debug)]
pub enum Segment {
    /// Part of a receive buffer, rewritten in place.
    Buffer {
        /// The bytes.
        slice: BufferSlice,
        /// Whether a frame ends with the last byte.
        ends_frame: bool,
    },
    /// Frames that other connections send as well.
    Shared {
        /// The run of frames.
        frames: Rc<Frames>,
        /// Bytes of it to skip.
        offset: u32,
    },
    /// Some of the messages of a run of frames: boxed, because few subscribers need it.
    Excerpt(Box<Excerpt>),
    /// Bytes of this connection alone.
    Owned {
        /// The bytes; boxed to keep a segment at 16 bytes.
        bytes: Box<Vec<u8>>,
        /// Bytes to skip.
        offset: u32,
        /// Whether a frame ends with the last byte.
        ends_frame: bool,
        /// Whether this is a control frame or a response, which no policy may drop.
        control: bool,
    },
}

const _: () = assert!(size_of::<Segment>() == 16 && size_of::<Option<Segment>>() == 16);

impl Segment {
    /// Bytes of this connection alone.
    pub fn owned(bytes: Vec<u8>, ends_frame: bool) -> Self {
        Self::Owned { bytes: Box::new(bytes), offset: 0, ends_frame, control: false }
    }

    /// A control frame, or a response.
    pub fn control(frame: Vec<u8>) -> Self {
        Self::Owned { bytes: Box::new(frame), offset: 0, ends_frame: true, control: true }
    }

    /// Bytes left to send.
    pub fn len(&self) -> usize {
        match self {
            Self::Buffer { slice, .. } => slice.len() as usize,
            Self::Shared { frames, offset } => frames.bytes().len() - *offset as usize,
            Self::Excerpt(excerpt) => excerpt.bytes().len(),
            Self::Owned { bytes, offset, .. } => bytes.len() - *offset as usize,
        }
    }

    /// Whether nothing is left to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a frame ends with the last byte.
    pub fn ends_frame(&self) -> bool {
        match self {
            Self::Buffer { ends_frame, .. } | Self::Owned { ends_frame, .. } => *ends_frame,
            Self::Shared { .. } | Self::Excerpt(_) => true,
        }
    }

    /// Bytes of memory that stay taken while this waits: what it says, what the allocator adds, and
    /// for what is shared the whole of it, because its last owner may be the one that waits.
    pub fn held_bytes(&self) -> usize {
        match self {
            // A receive buffer is given back within the tick.
            Self::Buffer { .. } => 0,
            Self::Shared { frames, .. } => SEGMENT_BYTES + frames.held_bytes(),
            Self::Excerpt(excerpt) => SEGMENT_BYTES + excerpt.held_bytes(),
            Self::Owned { bytes, .. } => SEGMENT_BYTES + OWNED_BYTES + bytes.capacity(),
        }
    }

    /// Published messages in this, which a policy may drop as long as none of it has been sent.
    pub fn messages(&self) -> u32 {
        match self {
            Self::Shared { frames, .. } => frames.messages(),
            Self::Excerpt(excerpt) => excerpt.messages,
            Self::Buffer { .. } | Self::Owned { .. } => 0,
        }
    }

    /// Drops the first `bytes`, which have been sent.
    pub fn advance(&mut self, sent: usize) {
        debug_assert!(sent <= self.len());
        match self {
            Self::Buffer { slice, .. } => slice.advance(sent as u32),
            Self::Shared { offset, .. } | Self::Owned { offset, .. } => *offset += sent as u32,
            Self::Excerpt(excerpt) => excerpt.start += sent as u32,
        }
    }
}

/// The payload of one send request.
#[derive(Debug)]
pub enum Outgoing {
    /// One run of bytes.
    One(Segment),
    /// Several, sent as one vectored request.
    Many(Vec<Segment>),
}

impl Outgoing {
    /// Bytes in all segments.
    pub fn len(&self) -> usize {
        match self {
            Self::One(segment) => segment.len(),
            Self::Many(segments) => segments.iter().map(Segment::len).sum(),
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that stay taken while this is in flight.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::One(segment) => segment.held_bytes(),
            Self::Many(segments) => segments.iter().map(Segment::held_bytes).sum(),
        }
    }

    /// Whether a receive buffer is among the segments: such a send must not wait for the peer.
    pub fn holds_buffer(&self) -> bool {
        let holds = |segment: &Segment| matches!(segment, Segment::Buffer { .. });
        match self {
            Self::One(segment) => holds(segment),
            Self::Many(segments) => segments.iter().any(holds),
        }
    }

    /// Whether a frame ends with the last byte.
    pub fn ends_frame(&self) -> bool {
        match self {
            Self::One(segment) => segment.ends_frame(),
            Self::Many(segments) => segments.last().is_none_or(Segment::ends_frame),
        }
    }
}

/// What a segment takes in a queue that doubles when it is full.
const SEGMENT_BYTES: usize = 2 * size_of::<Segment>();
/// What a vector takes beside its content: itself, and what the allocator rounds up.
const OWNED_BYTES: usize = 48;

/// One send that the kernel has not completed.
pub(super) struct Sending {
    pub(super) key: Key,
    pub(super) outgoing: Outgoing,
    /// Keeps the vectors of a `Many` at a fixed address.
    pub(super) vectors: Option<Box<Vectors>>,
}

/// The message header and vectors that a vectored send points to.
pub(super) struct Vectors {
    pub(super) header: libc::msghdr,
    pub(super) vectors: Vec<libc::iovec>,
}

/// Sends that the kernel has not completed, by the index in their token.
#[derive(Default)]
pub(super) struct InFlight {
    sends: Slab<Sending>,
    #[expect(clippy::vec_box, reason = "the boxes are what is kept for the next send")]
    spare_vectors: Vec<Box<Vectors>>,
}

impl InFlight {
    /// Takes ownership of a send until it completes.
    pub(super) fn insert(&mut self, sending: Sending) -> u32 {
        self.sends.insert(sending) as u32
    }

    /// Gives back a completed send.
    pub(super) fn remove(&mut self, index: u32) -> Option<(Key, Outgoing)> {
        let sending = self.sends.try_remove(index as usize)?;
        if let Some(vectors) = sending.vectors
            && self.spare_vectors.len() < SPARE_VECTORS_MAX
        {
            self.spare_vectors.push(vectors);
        }
        Some((sending.key, sending.outgoing))
    }

    /// An empty set of vectors, used before if there is one.
    pub(super) fn vectors(&mut self) -> Box<Vectors> {
        let mut vectors = self.spare_vectors.pop().unwrap_or_else(Vectors::boxed);
        vectors.vectors.clear();
        vectors
    }

    /// Sends in flight.
    pub(super) fn len(&self) -> usize {
        self.sends.len()
    }
}

impl Vectors {
    fn boxed() -> Box<Self> {
        let header = libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: std::ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        Box::new(Self { header, vectors: Vec::new() })
    }
}

/// Vectors kept for the next vectored send: enough for a fan-out of bursts, 256 KiB at the most.
const SPARE_VECTORS_MAX: usize = 1024;
