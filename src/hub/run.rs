//! What is published to a topic until it is delivered, and as every kind of subscriber gets it.
//!
//! An encoding is made once for all subscribers that want it, when the first of them is met.

use std::rc::Rc;

use crate::wire::deflate::Deflater;
use crate::wire::deflate::codec::{Codec, compressed_frame};
use crate::wire::frames::{Excerpt, Frames, SHARED_FRAME_BYTES, copied};
use crate::wire::message::SharedMessage;

/// How a kind of subscriber gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As frames of a server.
    Plain,
    /// As compressed frames that stand for themselves, for a [class of windows].
    ///
    /// [class of windows]: crate::wire::deflate::codec::window_class
    Compressed(usize),
}

/// Messages for all members of a topic, but for those who asked not to get their own.
#[derive(Debug)]
pub struct Run {
    first: SharedMessage,
    more: Vec<SharedMessage>,
    /// Bytes of the plain frames.
    bytes: usize,
    /// Members that published part of it and want it left out.
    skips: Vec<Skip>,
    plain: Option<Rc<Frames>>,
    compressed: Vec<Compressed>,
    compressing: Vec<Compressing>,
}

/// A message that its publisher does not get.
#[derive(Debug)]
struct Skip {
    member: u32,
    /// The number of the message in its run.
    place: u32,
}

/// The messages for a class of windows.
#[derive(Debug)]
struct Compressed {
    class: usize,
    frames: Rc<Frames>,
}

/// A large message that is compressed over several ticks.
#[derive(Debug)]
struct Compressing {
    class: usize,
    deflater: Box<Deflater>,
    at: usize,
    packed: Vec<u8>,
}

/// What may still be encoded in this tick.
#[derive(Debug)]
pub struct EncodingBudget {
    /// Bytes to be compressed.
    pub compressed_bytes: usize,
    /// Bytes to be copied together.
    pub joined_bytes: usize,
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
    /// What a message takes beside its frame.
    pub const MESSAGE_BYTES: usize = size_of::<SharedMessage>() + SHARED_FRAME_BYTES;
    /// What it takes to know that a member is to be left out.
    pub const SKIP_BYTES: usize = size_of::<Skip>();

    /// A run of one message, which `skip` does not get.
    pub fn new(message: SharedMessage, skip: Option<u32>) -> Self {
        let mut run = Self {
            bytes: message.frame_bytes(),
            first: message,
            more: Vec::new(),
            skips: Vec::new(),
            plain: None,
            compressed: Vec::new(),
            compressing: Vec::new(),
        };
        run.skip(skip);
        run
    }

    /// Whether a message can be [joined](Self::join): the run would not become too long, and no
    /// encoding has been made of it.
    pub fn takes(&self, message: &SharedMessage) -> bool {
        self.bytes + message.frame_bytes() <= JOINED_BYTES_MAX
            && self.plain.is_none()
            && self.compressed.is_empty()
            && self.compressing.is_empty()
    }

    /// Appends a message, which `skip` does not get.
    pub fn join(&mut self, message: SharedMessage, skip: Option<u32>) {
        debug_assert!(self.takes(&message));
        self.bytes += message.frame_bytes();
        if self.more.is_empty() {
            self.more.reserve(BURST_LEAST);
        }
        self.more.push(message);
        self.skip(skip);
    }

    fn skip(&mut self, member: Option<u32>) {
        if let Some(member) = member {
            self.skips.push(Skip { member, place: self.more.len() as u32 });
        }
    }

    /// Leaves nothing out for `member`.
    pub fn forget(&mut self, member: u32) {
        self.skips.retain(|skip| skip.member != member);
    }

    /// Leaves out `member` for all messages that are here.
    pub fn skip_all(&mut self, member: u32) {
        let places = 0..=self.more.len() as u32;
        self.skips.extend(places.map(|place| Skip { member, place }));
    }

    /// Bytes of the plain frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Memory that its plain frames take, as far as they have been made.
    pub fn held_bytes(&self) -> usize {
        self.plain.as_ref().map_or(self.bytes, |frames| frames.held_bytes())
    }

    /// Orders what is left out, for [`share_of`](Self::share_of).
    pub fn prepare(&mut self) {
        self.skips.sort_by_key(|skip| (skip.member, skip.place));
    }

    /// Makes an encoding, unless it is there. Takes from the budget what that costs; false when it
    /// does not suffice, and this has to go on later.
    pub fn encode(
        &mut self,
        encoding: Encoding,
        codec: &mut Codec,
        budget: &mut EncodingBudget,
    ) -> bool {
        if self.encoded(encoding).is_some() {
            return true;
        }
        match encoding {
            Encoding::Plain => self.join_frames(&mut budget.joined_bytes),
            Encoding::Compressed(_) if budget.compressed_bytes == 0 => false,
            Encoding::Compressed(class) if self.bytes > JOINED_BYTES_MAX => {
                self.compress_large(class, codec, &mut budget.compressed_bytes)
            }
            Encoding::Compressed(class) => {
                budget.compressed_bytes = budget.compressed_bytes.saturating_sub(self.bytes);
                self.compress(class, codec);
                true
            }
        }
    }

    /// One message is the frame that it lies in; several are copied, so that one send carries them.
    fn join_frames(&mut self, bytes_left: &mut usize) -> bool {
        if self.more.is_empty() {
            self.plain = Some(Rc::new(Frames::one(self.first.frame().clone())));
            return true;
        }
        if *bytes_left == 0 {
            return false;
        }
        *bytes_left = bytes_left.saturating_sub(self.bytes);
        let mut bytes = Vec::with_capacity(self.bytes);
        let mut ends = Vec::with_capacity(1 + self.more.len());
        self.messages().for_each(|message| {
            bytes.extend_from_slice(message.frame());
            ends.push(bytes.len() as u32);
        });
        self.plain = Some(Rc::new(Frames::joined(bytes, ends)));
        true
    }

    fn compress(&mut self, class: usize, codec: &mut Codec) {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(1 + self.more.len());
        for message in self.messages() {
            let opcode = message.kind().opcode();
            match codec.frame_of_class(class, opcode, message.payload()) {
                Some(compressed) => bytes.extend_from_slice(&compressed),
                None => bytes.extend_from_slice(message.frame()),
            }
            ends.push(bytes.len() as u32);
        }
        let frames = Rc::new(Frames::joined(bytes, ends));
        self.compressed.push(Compressed { class, frames });
    }

    /// The same for a run that is one large message.
    fn compress_large(&mut self, class: usize, codec: &mut Codec, bytes_left: &mut usize) -> bool {
        debug_assert!(self.more.is_empty(), "nothing is joined to a large message");
        let payload = self.first.payload();
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
        let frames = match packed.len() < payload.len() {
            true => {
                let frame = compressed_frame(self.first.kind().opcode(), &packed);
                let ends = vec![frame.len() as u32];
                Frames::joined(frame, ends)
            }
            false => Frames::one(self.first.frame().clone()),
        };
        self.compressed.push(Compressed { class, frames: Rc::new(frames) });
        true
    }

    fn messages(&self) -> impl Iterator<Item = &SharedMessage> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// An encoding that has been made.
    pub fn encoded(&self, encoding: Encoding) -> Option<&Rc<Frames>> {
        match encoding {
            Encoding::Plain => self.plain.as_ref(),
            Encoding::Compressed(class) => {
                let found = self.compressed.iter().find(|compressed| compressed.class == class);
                found.map(|compressed| &compressed.frames)
            }
        }
    }

    /// What `member` gets, in an encoding of this run.
    pub fn share_of<'a>(&self, member: u32, frames: &'a Rc<Frames>) -> Share<'a> {
        let first = self.skips.partition_point(|skip| skip.member < member);
        let own = self.skips[first..].iter().take_while(|skip| skip.member == member);
        let own = own.map(|skip| skip.place);
        if own.clone().next().is_none() {
            return Share::Whole(frames);
        }
        let mut excerpts: Vec<Excerpt> = Vec::new();
        let mut next = 0;
        for place in own.chain([frames.messages()]) {
            if place > next {
                excerpts.push(Excerpt::of(frames, next..place, excerpts.is_empty()));
            }
            next = place + 1;
        }
        let bytes: usize = excerpts.iter().map(|excerpt| excerpt.bytes().len()).sum();
        if excerpts.len() * EXCERPT_BYTES > bytes && !excerpts.is_empty() {
            excerpts = vec![copied(&excerpts)];
        }
        Share::Others(excerpts)
    }
}

/// The latest message of a share, for a member that wants no other; `None` when the share is empty.
pub fn latest(share: &Share<'_>) -> Option<Excerpt> {
    match share {
        Share::Whole(frames) => {
            let last = frames.messages() - 1;
            Some(Excerpt::of(frames, last..last + 1, true))
        }
        Share::Others(excerpts) => excerpts.last().map(Excerpt::latest),
    }
}

/// Messages that there is room for as soon as there are two.
const BURST_LEAST: usize = 15;
/// What an excerpt takes: many small ones would take more than a copy of what they name.
const EXCERPT_BYTES: usize = 96;
/// Messages are joined into runs of at most this: below it, one more send costs more than the copy.
pub(super) const JOINED_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::deflate::Inflater;
    use crate::wire::deflate::codec::{Settings, window_class};
    use crate::wire::header::{Header, RSV1, Role};
    use crate::wire::message::{DataMessage, MessageKind};

    const MEMBER: u32 = 7;

    fn message(payload: &[u8]) -> SharedMessage {
        DataMessage::new(MessageKind::Binary, payload).into_shared()
    }

    fn budget() -> EncodingBudget {
        EncodingBudget { compressed_bytes: usize::MAX, joined_bytes: usize::MAX }
    }

    fn codec(level: u8) -> Codec {
        Codec::new(Settings { level, threshold_bytes: 100, message_bytes_max: 1 << 20 })
    }

    /// A run of these messages, each with who does not get it, that has been encoded in plain.
    fn run<'a>(messages: impl IntoIterator<Item = (&'a [u8], Option<u32>)>) -> Run {
        let mut messages = messages.into_iter();
        let (first, skip) = messages.next().expect("one at least");
        let mut run = Run::new(message(first), skip);
        for (payload, skip) in messages {
            assert!(run.takes(&message(payload)));
            run.join(message(payload), skip);
        }
        run.prepare();
        assert!(run.encode(Encoding::Plain, &mut codec(1), &mut budget()));
        run
    }

    fn share_of(run: &Run, member: u32, encoding: Encoding) -> Share<'_> {
        run.share_of(member, run.encoded(encoding).expect("made before"))
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

    /// A thousand members that publish to each other in one tick share the run.
    #[test]
    fn members_that_publish_in_the_same_tick_do_not_get_a_copy_each() {
        let run = run((0..1000).map(|member| (&[b'x'; 60][..], Some(member))));
        let frames = run.encoded(Encoding::Plain).expect("made");
        for member in 0..1000 {
            let Share::Others(segments) = run.share_of(member, frames) else { panic!("its own") };
            assert!(segments.len() <= 2);
            assert!(segments.iter().all(|excerpt| Rc::ptr_eq(&excerpt.frames, frames)));
            assert_eq!(segments.iter().map(|excerpt| excerpt.messages).sum::<u32>(), 999);
        }
        assert!(matches!(run.share_of(1000, frames), Share::Whole(_)));
    }

    #[test]
    fn one_message_is_shared_with_the_other_shards() {
        let message = message(b"alone");
        let mut run = Run::new(message.clone(), None);
        let mut none = EncodingBudget { compressed_bytes: 0, joined_bytes: 0 };
        assert!(run.encode(Encoding::Plain, &mut codec(1), &mut none));
        let frames = run.encoded(Encoding::Plain).expect("made");
        assert_eq!(frames.bytes().as_ptr(), message.frame().as_ptr(), "nothing is copied");
    }

    #[test]
    fn what_would_take_too_long_is_joined_later() {
        let mut run = Run::new(message(&[1; 1000]), None);
        run.join(message(&[2; 1000]), None);
        let mut left = EncodingBudget { compressed_bytes: 1, joined_bytes: 0 };
        assert!(!run.encode(Encoding::Plain, &mut codec(1), &mut left));
        assert!(run.takes(&message(b"x")));
        left.joined_bytes = 1;
        assert!(run.encode(Encoding::Plain, &mut codec(1), &mut left));
        assert_eq!((left.joined_bytes, left.compressed_bytes), (0, 1));
        assert!(run.encode(Encoding::Plain, &mut codec(1), &mut left), "it is there");
        assert!(!run.takes(&message(b"x")), "a run that is encoded is not changed");
    }

    #[test]
    fn many_small_gaps_become_a_copy_that_takes_less() {
        let run = run((0..2000).map(|place| (&b""[..], (place % 2 == 0).then_some(7))));
        let Share::Others(segments) = share_of(&run, 7, Encoding::Plain) else {
            panic!("half of it")
        };
        assert_eq!(
            (segments.len(), segments[0].messages, segments[0].bytes().len()),
            (1, 1000, 2000)
        );
    }

    #[test]
    fn nothing_is_left_of_a_run_that_is_all_its_own() {
        let run = run([(&b"a"[..], Some(7)), (b"b", Some(7))]);
        let Share::Others(segments) = share_of(&run, 7, Encoding::Plain) else { panic!("its own") };
        assert!(segments.is_empty());
        assert!(latest(&Share::Others(segments)).is_none());
    }

    #[test]
    fn a_large_message_is_compressed_step_by_step() {
        let mut codec = codec(2);
        let payload: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8).collect();
        let mut run = Run::new(message(&payload), None);
        let mut steps = 0;
        for encoding in [3, 6].map(Encoding::Compressed) {
            loop {
                steps += 1;
                let mut budget = EncodingBudget { compressed_bytes: 40_000, joined_bytes: 0 };
                if run.encode(encoding, &mut codec, &mut budget) {
                    break;
                }
                assert_eq!(budget.compressed_bytes, 0);
            }
            let frames = run.encoded(encoding).expect("made");
            assert_eq!(read(frames.bytes()), [(payload.clone(), true)]);
        }
        assert_eq!(steps, 2 * 300_000_usize.div_ceil(40_000));
        assert_eq!(codec.compressed, 2);
    }

    #[test]
    fn each_class_gets_the_same_messages_and_is_compressed_once() {
        let mut codec = codec(6);
        let payloads = [vec![b'a'; 500], b"short".to_vec(), vec![b'b'; 300], vec![b'c'; 900]];
        let skips = [Some(MEMBER), None, Some(MEMBER), Some(MEMBER + 1)];
        let mut run = run(payloads.iter().map(Vec::as_slice).zip(skips));
        for bits in [15, 9, 8, 15] {
            let encoding = Encoding::Compressed(window_class(bits));
            assert!(run.encode(encoding, &mut codec, &mut budget()));
        }
        assert_eq!(codec.compressed, 2 * 3, "8 and 9 are one class");
        let plain: Vec<_> = payloads.iter().map(|payload| (payload.clone(), false)).collect();
        let packed: Vec<_> = payloads.iter().map(|p| (p.clone(), p.len() >= 100)).collect();
        let classes = [8, 9, 15].map(|bits| Encoding::Compressed(window_class(bits)));
        let encodings = classes.map(|class| (class, &packed)).into_iter();
        for (encoding, expected) in encodings.chain([(Encoding::Plain, &plain)]) {
            let frames = run.encoded(encoding).expect("made");
            assert_eq!((read(frames.bytes()), frames.messages()), (expected.clone(), 4));
            assert!(matches!(run.share_of(MEMBER + 2, frames), Share::Whole(_)));
            let others = |member| shared_bytes(run.share_of(member, frames));
            let expected_others = [&expected[1..2], &expected[3..]].concat();
            assert_eq!((read(&others(MEMBER).0), others(MEMBER).1), (expected_others, 2));
            assert_eq!(read(&others(MEMBER + 1).0), expected[..3]);
            for (member, last) in [(MEMBER, 3), (MEMBER + 1, 2), (MEMBER + 2, 3)] {
                let latest = latest(&run.share_of(member, frames)).expect("a message");
                assert_eq!(
                    (read(latest.bytes()), latest.messages),
                    (vec![expected[last].clone()], 1)
                );
            }
        }
    }
}
