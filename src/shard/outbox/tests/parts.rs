//! Parts of frames that tell what they are, as segments of every kind.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::io::{BufferSlice, Segment};
use crate::wire::frames::{Excerpt, Frames};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Buffer,
    Owned,
    Shared { messages: u32 },
    Excerpt { messages: u32 },
    Control,
}

/// One part of a frame, a run or a control frame as it travels: a head that tells what it is, and
/// filler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) is_control: bool,
    pub(super) ends_frame: bool,
    pub(super) id: u16,
    pub(super) len: usize,
}

impl Part {
    pub(super) fn encode(self) -> Vec<u8> {
        let flags = u8::from(self.is_control) << 1 | u8::from(self.ends_frame);
        let id = self.id.to_le_bytes();
        let mut bytes = vec![flags, id[0], id[1], self.len as u8];
        bytes.resize(self.len, 0xee);
        bytes
    }

    /// All parts in the bytes that a peer got.
    pub(super) fn decode_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut parts = Vec::new();
        while let [flags, low, high, len, ..] = *bytes {
            let id = u16::from_le_bytes([low, high]);
            let (is_control, ends_frame) = (flags & 2 != 0, flags & 1 != 0);
            let part = Self { is_control, ends_frame, id, len: len.into() };
            assert_eq!(bytes[..part.len], part.encode(), "a part is cut");
            parts.push(part);
            bytes = &bytes[part.len..];
        }
        assert!(bytes.is_empty(), "a part is cut");
        parts
    }

    pub(super) fn segment(self, kind: Kind) -> Segment {
        let bytes = self.encode();
        match kind {
            Kind::Buffer => {
                let slice = BufferSlice::simulated(self.id, 0, self.len as u32);
                Segment::Buffer { slice, ends_frame: self.ends_frame }
            }
            Kind::Owned => Segment::owned(bytes, self.ends_frame),
            Kind::Control => Segment::control(bytes),
            Kind::Shared { messages } => {
                let ends = vec![bytes.len() as u32; messages as usize];
                Segment::Shared { frames: Rc::new(Frames::joined(bytes, ends)), offset: 0 }
            }
            Kind::Excerpt { messages } => {
                let (start, end) = (3, 3 + self.len as u32);
                let around = [b"...", &bytes[..], b"..."].concat();
                let mut ends = vec![end; messages as usize];
                ends.insert(0, start);
                ends.push(around.len() as u32);
                let frames = Rc::new(Frames::joined(around, ends));
                Segment::Excerpt(Box::new(Excerpt { frames, start, end, messages, is_first: true }))
            }
        }
    }
}

/// The bytes of a segment; a receive buffer's are known by its number.
pub(super) fn bytes_of(segment: &Segment, lent: &[Part]) -> Vec<u8> {
    match segment {
        Segment::Buffer { slice, .. } => {
            let part = lent.iter().find(|part| part.id == slice.buffer()).expect("was lent");
            part.encode()[slice.start() as usize..].to_vec()
        }
        Segment::Shared { frames, offset } => frames.bytes()[*offset as usize..].to_vec(),
        Segment::Excerpt(excerpt) => excerpt.bytes().to_vec(),
        Segment::Owned { bytes, offset, .. } => bytes[*offset as usize..].to_vec(),
    }
}

/// The copy of a receive buffer's bytes that may wait as long as it takes.
pub(super) fn copied(
    segment: &Segment,
    lent: &[Part],
    buffers_lent: &mut BTreeSet<u16>,
) -> Segment {
    match segment {
        Segment::Buffer { slice, ends_frame } => {
            assert!(buffers_lent.remove(&slice.buffer()), "released twice");
            Segment::owned(bytes_of(segment, lent), *ends_frame)
        }
        Segment::Shared { frames, offset } => {
            Segment::Shared { frames: frames.clone(), offset: *offset }
        }
        Segment::Excerpt(excerpt) => {
            let Excerpt { frames, start, end, messages, is_first } = &**excerpt;
            let (frames, messages) = (frames.clone(), *messages);
            let (start, end, is_first) = (*start, *end, *is_first);
            Segment::Excerpt(Box::new(Excerpt { frames, start, end, messages, is_first }))
        }
        Segment::Owned { bytes, offset, ends_frame, control } => Segment::Owned {
            bytes: bytes.clone(),
            offset: *offset,
            ends_frame: *ends_frame,
            control: *control,
        },
    }
}
