//! What is published to a topic until it is delivered, as every kind of subscriber gets it.
//!
//! Subscribers with compression get the same messages as compressed frames that stand for
//! themselves, made once for all whose windows are alike, when the first of them is met.

use std::rc::Rc;
use std::sync::Arc;

use crate::wire::deflate::Deflater;
use crate::wire::deflate::codec::{Codec, compressed_frame};
use crate::wire::frames::{Excerpt, Frames};
use crate::wire::header::{Header, RSV1, Role};

/// Frames for all members of a topic, but for those who asked not to get their own.
#[derive(Debug)]
pub struct Run {
    plain: Rc<Frames>,
    /// Members that published part of it and want it left out.
    skips: Vec<Skip>,
    compressed: Vec<Compressed>,
    compressing: Vec<Compressing>,
}

/// A message that its publisher does not get.
#[derive(Debug)]
struct Skip {
    member: u32,
    /// The number of the message in its run.
    place: u32,
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

/// A large message that is compressed over several ticks.
#[derive(Debug)]
struct Compressing {
    class: usize,
    deflater: Box<Deflater>,
    at: usize,
    packed: Vec<u8>,
}

/// What one member gets of a run.
#[derive(Debug)]
pub enum Share<'a> {
    /// All of it.
    Whole(&'a Rc<Frames>),
    /// What others published, as neighbouring messages or as a copy, whichever takes less memory;
    /// in order, and nothing if all was its own.
    Others(Vec<Excerpt>),
}

impl Share<'_> {
    /// How many messages it is.
    pub fn messages(&self) -> u64 {
        match self {
            Self::Whole(frames) => frames.messages().into(),
            Self::Others(excerpts) => {
                excerpts.iter().map(|excerpt| u64::from(excerpt.messages)).sum()
            }
        }
    }

    /// Memory that it takes.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Whole(frames) => frames.held_bytes(),
            Self::Others(excerpts) => excerpts.iter().map(Excerpt::held_bytes).sum(),
        }
    }
}

impl Run {
    /// What it takes to know that a member is to be left out.
    pub const SKIP_BYTES: usize = size_of::<Skip>();

    /// A run of one message, which `skip` does not get.
    pub fn new(frame: Arc<Vec<u8>>, skip: Option<u32>) -> Self {
        let plain = Rc::new(Frames::one(frame));
        let mut run =
            Self { plain, skips: Vec::new(), compressed: Vec::new(), compressing: Vec::new() };
        run.skip(skip);
        run
    }

    /// Appends a message, which `skip` does not get; false when the run would become too long, or
    /// is being delivered.
    pub fn join(&mut self, frame: &[u8], skip: Option<u32>) -> bool {
        let fits = self.plain.bytes().len() + frame.len() <= JOINED_BYTES_MAX;
        let is_fresh = self.compressed.is_empty() && self.compressing.is_empty();
        let Some(frames) = Rc::get_mut(&mut self.plain).filter(|_| fits && is_fresh) else {
            return false;
        };
        frames.join(frame);
        self.skip(skip);
        true
    }

    fn skip(&mut self, member: Option<u32>) {
        if let Some(member) = member {
            let place = self.plain.messages() - 1;
            let (start, end) = (self.plain.last_offset(), self.plain.bytes().len() as u32);
            self.skips.push(Skip { member, place, start, end });
        }
    }

    /// Leaves nothing out for `member`.
    pub fn forget(&mut self, member: u32) {
        self.skips.retain(|skip| skip.member != member);
    }

    /// Bytes of the plain frames.
    pub fn bytes(&self) -> usize {
        self.plain.bytes().len()
    }

    /// Orders what is left out, for [`share_of`](Self::share_of).
    pub fn prepare(&mut self) {
        self.skips.sort_by_key(|skip| (skip.member, skip.place));
    }

    /// Makes the compressed frames for a class of windows, unless they are there. Takes from
    /// `bytes_left` what it compresses; false when that does not suffice, and it has to go on
    /// later.
    pub fn compress(&mut self, class: usize, codec: &mut Codec, bytes_left: &mut usize) -> bool {
        if self.compressed_for(Some(class)).is_some() {
            return true;
        }
        if *bytes_left == 0 {
            return false;
        }
        if self.bytes() > JOINED_BYTES_MAX {
            return self.compress_large(class, codec, bytes_left);
        }
        *bytes_left = bytes_left.saturating_sub(self.bytes());
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
        true
    }

    /// The same for a run that is one large message.
    fn compress_large(&mut self, class: usize, codec: &mut Codec, bytes_left: &mut usize) -> bool {
        let plain = self.plain.clone();
        let Ok(Some((header, start))) = Header::decode(plain.bytes(), Role::Client, 0) else {
            debug_assert!(false, "a run is made of frames");
            return true;
        };
        let payload = &plain.bytes()[start..];
        let begun = self.compressing.iter().position(|begun| begun.class == class);
        let mut compressing = match begun {
            Some(place) => self.compressing.swap_remove(place),
            None => {
                let deflater = codec.lend_deflater(class);
                Compressing { class, deflater, at: 0, packed: Vec::new() }
            }
        };
        let Compressing { deflater, at, packed, .. } = &mut compressing;
        let before = *at;
        let is_whole = deflater.step(payload, at, *bytes_left, packed);
        *bytes_left -= (*at - before).min(*bytes_left);
        if !is_whole {
            self.compressing.push(compressing);
            return false;
        }
        let Compressing { deflater, packed, .. } = compressing;
        codec.return_deflater(class, deflater);
        codec.compressed += 1;
        let bytes = match packed.len() < payload.len() {
            true => compressed_frame(header.opcode, &packed),
            false => plain.bytes().to_vec(),
        };
        let ends = vec![bytes.len() as u32];
        let frames = Rc::new(Frames::joined(bytes, 1, 0));
        self.compressed.push(Compressed { class, frames, ends });
        true
    }

    /// What subscribers get: the plain frames, or those compressed for a class of windows before.
    pub fn frames(&self, class: Option<usize>) -> &Rc<Frames> {
        self.compressed_for(class).map_or(&self.plain, |compressed| &compressed.frames)
    }

    /// What `member` gets, of the frames for a class of windows.
    pub fn share_of(&self, member: u32, class: Option<usize>) -> Share<'_> {
        let frames = self.frames(class);
        if self.skips.is_empty() {
            return Share::Whole(frames);
        }
        let first = self.skips.partition_point(|skip| skip.member < member);
        let own = self.skips[first..].iter().take_while(|skip| skip.member == member);
        let mut excerpts = Vec::new();
        let (mut start, mut place, mut bytes) = (0, 0, 0);
        let ends = self.compressed_for(class).map(|compressed| &compressed.ends);
        let end_of_run = (frames.bytes().len() as u32, frames.messages());
        let cuts = own.map(|skip| match ends {
            None => ((skip.start, skip.place), skip.end),
            Some(ends) => {
                let start = skip.place.checked_sub(1).map_or(0, |before| ends[before as usize]);
                ((start, skip.place), ends[skip.place as usize])
            }
        });
        let mut has_own = false;
        for ((end, next), resume) in cuts.chain([(end_of_run, end_of_run.0)]) {
            if end > start {
                let (frames, messages) = (frames.clone(), next - place);
                let is_first = excerpts.is_empty();
                excerpts.push(Excerpt { frames, start, end, messages, is_first });
                bytes += (end - start) as usize;
            }
            has_own |= resume > end;
            (start, place) = (resume, next + 1);
        }
        if !has_own {
            return Share::Whole(frames);
        }
        if excerpts.len() * EXCERPT_BYTES > bytes {
            return Share::Others(copied(&excerpts, bytes).into_iter().collect());
        }
        Share::Others(excerpts)
    }

    fn compressed_for(&self, class: Option<usize>) -> Option<&Compressed> {
        self.compressed.iter().find(|compressed| Some(compressed.class) == class)
    }
}

/// The messages of all excerpts as frames of their own; `None` when there are none.
fn copied(excerpts: &[Excerpt], bytes: usize) -> Option<Excerpt> {
    let mut copy = Vec::with_capacity(bytes);
    excerpts.iter().for_each(|excerpt| copy.extend_from_slice(excerpt.bytes()));
    let messages = excerpts.iter().map(|excerpt| excerpt.messages).sum();
    let (end, last_offset) = (copy.len() as u32, last_message(&copy));
    let frames = Rc::new(Frames::joined(copy, messages, last_offset));
    (messages > 0).then_some(Excerpt { frames, start: 0, end, messages, is_first: true })
}

/// The latest message of a share, for a member that wants no other; `None` when the share is empty.
pub fn latest(share: Share<'_>) -> Option<Excerpt> {
    let (frames, start, end) = match share {
        Share::Whole(frames) => (frames.clone(), frames.last_offset(), frames.bytes().len() as u32),
        Share::Others(mut excerpts) => {
            let excerpt = excerpts.pop()?;
            let start = excerpt.start + last_message(excerpt.bytes());
            (excerpt.frames, start, excerpt.end)
        }
    };
    Some(Excerpt { frames, start, end, messages: 1, is_first: true })
}

/// Where the last of several frames starts.
fn last_message(bytes: &[u8]) -> u32 {
    let (mut start, mut next) = (0, 0);
    while let Ok(Some((header, header_bytes))) = Header::decode(&bytes[next..], Role::Client, RSV1)
    {
        start = next;
        next += header_bytes + header.payload_bytes as usize;
    }
    start as u32
}

/// What an excerpt takes: many small ones would take more than a copy of what they name.
const EXCERPT_BYTES: usize = 96;
/// Messages are joined into runs of at most this: below it, one more send costs more than the copy.
pub(super) const JOINED_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::deflate::Inflater;
    use crate::wire::deflate::codec::{Settings, window_class};
    use crate::wire::header::{HEADER_BYTES_MAX, OpCode};

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

    /// What a member gets that published part of the run, and how many messages that is.
    fn shared_bytes(share: Share<'_>) -> (Vec<u8>, u32) {
        let Share::Others(excerpts) = share else { panic!("it published part of it") };
        let messages = excerpts.iter().map(|excerpt| excerpt.messages).sum();
        (excerpts.iter().flat_map(Excerpt::bytes).copied().collect(), messages)
    }

    fn others_plain(run: &Run, member: u32) -> Vec<u8> {
        shared_bytes(run.share_of(member, None)).0
    }

    /// A thousand members that publish to each other in one tick share the run.
    #[test]
    fn members_that_publish_in_the_same_tick_do_not_get_a_copy_each() {
        let payload = [b'x'; 60];
        let mut run = Run::new(Arc::new(frame(&payload)), Some(0));
        assert!((1..1000).all(|member| run.join(&frame(&payload), Some(member))));
        run.prepare();
        for member in 0..1000 {
            let Share::Others(segments) = run.share_of(member, None) else { panic!("its own") };
            assert!(segments.len() <= 2);
            assert!(segments.iter().all(|excerpt| Rc::ptr_eq(&excerpt.frames, run.frames(None))));
            assert_eq!(segments.iter().map(|excerpt| excerpt.messages).sum::<u32>(), 999);
        }
        assert!(matches!(run.share_of(1000, None), Share::Whole(_)));
    }

    #[test]
    fn many_small_gaps_become_a_copy_that_takes_less() {
        let mut run = Run::new(Arc::new(frame(b"")), Some(7));
        for message in 1..2000 {
            assert!(run.join(&frame(b""), (message % 2 == 0).then_some(7)));
        }
        run.prepare();
        let Share::Others(segments) = run.share_of(7, None) else { panic!("half of it") };
        assert_eq!(
            (segments.len(), segments[0].messages, segments[0].bytes().len()),
            (1, 1000, 2000)
        );
    }

    #[test]
    fn nothing_is_left_of_a_run_that_is_all_its_own() {
        let mut run = Run::new(Arc::new(frame(b"a")), Some(7));
        assert!(run.join(&frame(b"b"), Some(7)));
        run.prepare();
        let Share::Others(segments) = run.share_of(7, None) else { panic!("its own") };
        assert!(segments.is_empty());
    }

    #[test]
    fn a_large_message_is_compressed_step_by_step() {
        let settings = Settings { level: 2, threshold_bytes: 100, message_bytes_max: 1 << 20 };
        let mut codec = Codec::new(settings);
        let payload: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8).collect();
        let mut run = Run::new(Arc::new(frame(&payload)), None);
        let mut steps = 0;
        for class in [3, 6] {
            loop {
                steps += 1;
                let mut bytes_left = 40_000;
                if run.compress(class, &mut codec, &mut bytes_left) {
                    break;
                }
                assert_eq!(bytes_left, 0);
            }
            assert_eq!(read(run.frames(Some(class)).bytes()), [(payload.clone(), true)]);
        }
        assert_eq!(steps, 2 * 300_000_usize.div_ceil(40_000));
        assert_eq!(codec.compressed, 2);
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
        run.prepare();
        for bits in [15, 9, 8, 15] {
            assert!(run.compress(window_class(bits), &mut codec, &mut usize::MAX.clone()));
        }
        assert_eq!(codec.compressed, 2 * 3, "8 and 9 are one class");
        assert!(Rc::ptr_eq(run.frames(None), &plain));
        let expected: Vec<_> = payloads.iter().map(|p| (p.clone(), p.len() >= 100)).collect();
        for class in [8, 9, 15].map(|bits| Some(window_class(bits))) {
            let frames = run.frames(class);
            assert_eq!(read(frames.bytes()), expected);
            assert_eq!(read(&frames.bytes()[frames.last_offset() as usize..]), expected[3..]);
            assert_eq!(frames.messages(), 4);
            assert!(matches!(run.share_of(MEMBER + 2, class), Share::Whole(_)));
            let others = |member| shared_bytes(run.share_of(member, class));
            let expected_others = [&expected[1..2], &expected[3..]].concat();
            assert_eq!((read(&others(MEMBER).0), others(MEMBER).1), (expected_others, 2));
            assert_eq!(read(&others(MEMBER + 1).0), expected[..3]);
            let last = |member| latest(run.share_of(member, class)).expect("a message");
            assert_eq!(read(last(MEMBER).bytes()), expected[3..]);
            assert_eq!(read(last(MEMBER + 1).bytes()), expected[2..3]);
            assert_eq!(last(MEMBER + 1).messages, 1);
        }
        assert_eq!(others_plain(&run, MEMBER), [frame(&payloads[1]), frame(&payloads[3])].concat());
        assert!(!run.join(&frame(b"x"), None), "a run that is held is not changed");
    }
}
