//! What a connection sends, and who owns it while the kernel reads it.
//!
//! A send hands its [`Outgoing`] over to the ring and gets it back with the completion: memory in
//! flight has one owner, so nothing the rest of the program does can free it under the kernel.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::rc::Rc;

use slab::Slab;

use super::buffers::{BufferSlice, ReceiveBuffers};
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

    /// The bytes left to send, unless they lie in a receive buffer.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Buffer { .. } => None,
            Self::Shared { frames, offset } => Some(&frames.bytes()[*offset as usize..]),
            Self::Excerpt(excerpt) => Some(excerpt.bytes()),
            Self::Owned { bytes, offset, .. } => Some(&bytes[*offset as usize..]),
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
            Self::Owned { bytes, .. } => Self::owned_held_bytes(bytes.capacity()),
        }
    }

    /// The same for bytes of this connection alone, in a vector of this capacity.
    pub fn owned_held_bytes(capacity: usize) -> usize {
        SEGMENT_BYTES + OWNED_BYTES + capacity
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
    /// All segments, in order.
    pub fn segments(&self) -> &[Segment] {
        match self {
            Self::One(segment) => std::slice::from_ref(segment),
            Self::Many(segments) => segments,
        }
    }

    /// Bytes in all segments.
    pub fn len(&self) -> usize {
        self.segments().iter().map(Segment::len).sum()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that stay taken while this is in flight.
    pub fn held_bytes(&self) -> usize {
        self.segments().iter().map(Segment::held_bytes).sum()
    }

    /// Whether a receive buffer is among the segments: such a send must not wait for the peer.
    pub fn holds_buffer(&self) -> bool {
        self.segments().iter().any(|segment| matches!(segment, Segment::Buffer { .. }))
    }

    /// Whether a frame ends with the last byte.
    pub fn ends_frame(&self) -> bool {
        self.segments().last().is_none_or(Segment::ends_frame)
    }
}

/// Bytes of one send, at most: the kernel copies them while nobody else is served, and what is in
/// flight cannot be dropped. What is beyond is left over as if the peer had not taken it.
pub const SEND_BYTES_MAX: usize = 512 << 10;
/// What a segment takes in a queue that doubles when it is full.
const SEGMENT_BYTES: usize = 2 * size_of::<Segment>();
/// What a vector takes beside its content: itself, and what the allocator rounds up.
const OWNED_BYTES: usize = 48;

/// Where the unsent bytes of `segment` are.
pub(super) fn address(buffers: &ReceiveBuffers, segment: &Segment) -> (*const u8, usize) {
    let pointer = match segment {
        Segment::Buffer { slice, .. } => buffers.pointer(slice).cast_const(),
        segment => segment.bytes().unwrap_or_default().as_ptr(),
    };
    (pointer, segment.len())
}

/// One send that the kernel has not completed.
pub(super) struct Sending {
    pub(super) key: Key,
    pub(super) outgoing: Outgoing,
    /// What the request of a `Many` points to.
    pub(super) vectors: Option<Vectors>,
}

/// The message header and vectors that a vectored send points to, at an address that stays.
///
/// A raw pointer: moving a box, or a reference to it, asserts that nobody else uses what it points
/// to, and the kernel does.
pub(super) struct Vectors(NonNull<Message>);

struct Message {
    header: libc::msghdr,
    vectors: Vec<libc::iovec>,
}

/// Sends that the kernel has not completed, by the index in their token.
#[derive(Default)]
pub(super) struct InFlight {
    sends: Slab<Sending>,
    spare_vectors: Vec<Vectors>,
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

    /// Vectors to be filled, used before if there are any.
    pub(super) fn vectors(&mut self) -> Vectors {
        self.spare_vectors.pop().unwrap_or_else(Vectors::new)
    }

    /// Sends in flight.
    pub(super) fn len(&self) -> usize {
        self.sends.len()
    }
}

impl Vectors {
    fn new() -> Self {
        let header = libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: std::ptr::null_mut(),
            msg_iovlen: 0,
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        let message = Box::new(Message { header, vectors: Vec::new() });
        Self(NonNull::from(Box::leak(message)))
    }

    /// Takes `vectors` in place of those before, and returns the header that names them. It is
    /// valid until the next call, and as long as this value.
    pub(super) fn fill(
        &mut self,
        vectors: impl Iterator<Item = libc::iovec>,
    ) -> *const libc::msghdr {
        // SAFETY: the message was allocated by `new` and is freed by `drop` alone; no request
        // points to it, because its vectors are filled before they are sent.
        let message = unsafe { self.0.as_mut() };
        message.vectors.clear();
        message.vectors.extend(vectors);
        message.header.msg_iov = message.vectors.as_mut_ptr();
        message.header.msg_iovlen = message.vectors.len();
        // SAFETY: as above; the pointer is made from the one that is kept, not from the reference,
        // so it outlives the reference.
        unsafe { &raw const (*self.0.as_ptr()).header }
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        // SAFETY: it came from a box in `new`, and this is the only value that names it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Vectors kept for the next vectored send: enough for a fan-out of bursts, 256 KiB at the most.
const SPARE_VECTORS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_stays_valid_while_its_vectors_move() {
        let mut in_flight = InFlight::default();
        let bytes = *b"moved";
        for count in [1, 1000, 3] {
            let mut vectors = in_flight.vectors();
            let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: 5 };
            let header = vectors.fill((0..count).map(|_| vector));
            let key = Key { index: 1, generation: 2 };
            let outgoing = Outgoing::Many(Vec::new());
            let index = in_flight.insert(Sending { key, outgoing, vectors: Some(vectors) });
            // SAFETY: the vectors are kept by `in_flight` and filled no more.
            let named = unsafe {
                let header = &*header;
                std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen)
            };
            assert_eq!(named.len(), count);
            assert!(named.iter().all(|named| named.iov_base == vector.iov_base));
            assert_eq!(in_flight.remove(index).map(|(key, _)| key.generation), Some(2));
            assert_eq!((in_flight.len(), in_flight.spare_vectors.len()), (0, 1));
        }
    }
}
