//! What is published to a topic within a tick, as every kind of subscriber gets it.
//!
//! Subscribers with compression get the same messages as compressed frames that stand for
//! themselves, made once for all whose windows are alike, when the first of them is met.

use std::rc::Rc;
use std::sync::Arc;

use crate::wire::deflate::codec::Codec;
use crate::wire::frames::Frames;
use crate::wire::header::{Header, Role};

/// Frames for all members of a topic, but for those who asked not to get their own.
#[derive(Debug)]
pub struct Run {
    plain: Rc<Frames>,
    /// Members that published part of it and want it left out.
    skips: Vec<Skip>,
    compressed: Vec<Compressed>,
}

/// A message that its publisher does not get.
#[derive(Debug)]
struct Skip {
    member: u32,
    /// The number of the message in its run.
    place: usize,
    /// Where it starts and ends among the plain frames.
    start: u32,
    end: u32,
}

/// The same messages for a class of windows, see [`window_class`].
///
/// [`window_class`]: crate::wire::deflate::codec::window_class
#[derive(Debug)]
struct Compressed {
    class: usize,
    frames: Rc<Frames>,
    /// Where each message ends.
    ends: Vec<u32>,
}

impl Run {
    /// A run of one message, which `skip` does not get.
    pub fn new(frame: Arc<Vec<u8>>, skip: Option<u32>) -> Self {
        let plain = Rc::new(Frames::one(frame));
        let mut run = Self { plain, skips: Vec::new(), compressed: Vec::new() };
        run.skip(skip);
        run
    }

    /// Appends a message, which `skip` does not get; false when the run would become too long, or
    /// is being delivered.
    pub fn join(&mut self, frame: &[u8], skip: Option<u32>) -> bool {
        let fits = self.plain.bytes().len() + frame.len() <= JOINED_BYTES_MAX;
        let Some(frames) = Rc::get_mut(&mut self.plain).filter(|_| fits) else { return false };
        frames.join(frame);
        self.skip(skip);
        true
    }

    fn skip(&mut self, member: Option<u32>) {
        if let Some(member) = member {
            let place = self.plain.messages() as usize - 1;
            let (start, end) = (self.plain.last_offset(), self.plain.bytes().len() as u32);
            self.skips.push(Skip { member, place, start, end });
        }
    }

    /// Makes the compressed frames for a class of windows, unless they are there.
    pub fn compress(&mut self, class: usize, codec: &mut Codec) {
        if self.compressed_for(Some(class)).is_some() {
            return;
        }
        let (mut bytes, mut ends, mut last_offset) = (Vec::new(), Vec::new(), 0);
        let mut rest = self.plain.bytes();
        while let Ok(Some((header, start))) = Header::decode(rest, Role::Client, 0) {
            let (frame, next) = rest.split_at(start + header.payload_bytes as usize);
            rest = next;
            last_offset = bytes.len() as u32;
            match codec.frame_of_class(class, header.opcode, &frame[start..]) {
                Some(compressed) => bytes.extend_from_slice(&compressed),
                None => bytes.extend_from_slice(frame),
            }
            ends.push(bytes.len() as u32);
        }
        let frames = Rc::new(Frames::joined(bytes, self.plain.messages(), last_offset));
        self.compressed.push(Compressed { class, frames, ends });
    }

    /// What subscribers get: the plain frames, or those compressed for a class of windows before.
    pub fn frames(&self, class: Option<usize>) -> &Rc<Frames> {
        self.compressed_for(class).map_or(&self.plain, |compressed| &compressed.frames)
    }

    /// What `member` gets: `None` is all of it, otherwise its own copy and the messages in that.
    pub fn excerpt(&self, member: u32, class: Option<usize>) -> Option<(Vec<u8>, u32)> {
        let mut own = self.skips.iter().filter(|skip| skip.member == member).peekable();
        own.peek()?;
        let compressed = self.compressed_for(class);
        let frames = self.frames(class);
        let (mut excerpt, mut from, mut messages) = (Vec::new(), 0, frames.messages());
        for skip in own {
            let (start, end) = match compressed {
                None => (skip.start, skip.end),
                Some(Compressed { ends, .. }) => match skip.place.checked_sub(1) {
                    None => (0, ends[0]),
                    Some(before) => (ends[before], ends[skip.place]),
                },
            };
            excerpt.extend_from_slice(&frames.bytes()[from..start as usize]);
            from = end as usize;
            messages -= 1;
        }
        excerpt.extend_from_slice(&frames.bytes()[from..]);
        Some((excerpt, messages))
    }

    fn compressed_for(&self, class: Option<usize>) -> Option<&Compressed> {
        self.compressed.iter().find(|compressed| Some(compressed.class) == class)
    }
}

/// Messages are joined into runs of at most this: below it, one more send costs more than the copy.
pub(super) const JOINED_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::deflate::Inflater;
    use crate::wire::deflate::codec::{Settings, window_class};
    use crate::wire::header::{HEADER_BYTES_MAX, OpCode, RSV1};

    const MEMBER: u32 = 7;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut encoded = [0; HEADER_BYTES_MAX];
        let bytes = Header::message(OpCode::Binary, payload.len() as u64).encode(&mut encoded);
        [&encoded[..bytes], payload].concat()
    }

    /// Each message, and whether it came compressed.
    fn read(mut bytes: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut messages = Vec::new();
        while let Some((header, start)) = Header::decode(bytes, Role::Client, RSV1).unwrap() {
            let (frame, rest) = bytes.split_at(start + header.payload_bytes as usize);
            bytes = rest;
            let mut message = frame[start..].to_vec();
            if header.rsv == RSV1 {
                message.clear();
                Inflater::default().lone_message(&frame[start..], 1 << 20, &mut message).unwrap();
            }
            messages.push((message, header.rsv == RSV1));
        }
        messages
    }

    #[test]
    fn each_class_gets_the_same_messages_and_is_compressed_once() {
        let settings = Settings { level: 6, threshold_bytes: 100, message_bytes_max: 1 << 20 };
        let mut codec = Codec::new(settings);
        let payloads = [vec![b'a'; 500], b"short".to_vec(), vec![b'b'; 300], vec![b'c'; 900]];
        let mut run = Run::new(Arc::new(frame(&payloads[0])), Some(MEMBER));
        assert!(run.join(&frame(&payloads[1]), None));
        assert!(run.join(&frame(&payloads[2]), Some(MEMBER)));
        assert!(run.join(&frame(&payloads[3]), Some(MEMBER + 1)));
        let plain = run.frames(None).clone();
        for bits in [15, 9, 8, 15] {
            run.compress(window_class(bits), &mut codec);
        }
        assert_eq!(codec.compressed, 2 * 3, "8 and 9 are one class");
        assert!(Rc::ptr_eq(run.frames(None), &plain));
        let expected: Vec<_> = payloads.iter().map(|p| (p.clone(), p.len() >= 100)).collect();
        for class in [8, 9, 15].map(|bits| Some(window_class(bits))) {
            let frames = run.frames(class);
            assert_eq!(read(frames.bytes()), expected);
            assert_eq!(read(&frames.bytes()[frames.last_offset() as usize..]), expected[3..]);
            assert_eq!(frames.messages(), 4);
            assert_eq!(run.excerpt(MEMBER + 2, class), None);
            let (own, messages) = run.excerpt(MEMBER, class).unwrap();
            assert_eq!(read(&own), [&expected[1..2], &expected[3..]].concat());
            assert_eq!(messages, 2);
            assert_eq!(read(&run.excerpt(MEMBER + 1, class).unwrap().0), expected[..3]);
        }
        let (own, _) = run.excerpt(MEMBER, None).unwrap();
        assert_eq!(own, [frame(&payloads[1]), frame(&payloads[3])].concat());
        assert!(!run.join(&frame(b"x"), None), "a run that is held is not changed");
    }
}
