//! What is published to a topic until it is delivered, and as every kind of subscriber gets it.
//!
//! An encoding is made once for all subscribers that want it, when the first of them is met.

mod derived;
mod lines;
mod pushes;
mod sockjs;

use std::rc::Rc;

use crate::sockjs::transport::Form;
use crate::wire::deflate::Deflater;
use crate::wire::deflate::codec::{Codec, compressed_frame};
use crate::wire::frames::{Excerpt, Frames, SHARED_FRAME_BYTES, copied};
use crate::wire::line::LineFraming;
use crate::wire::message::SharedMessage;
pub use derived::Derivation;
use derived::Underived;
use lines::Lines;
use sockjs::SockJsFrames;

/// How a kind of subscriber gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As frames of a server.
    Plain,
    /// As compressed frames that stand for themselves, for a [class of windows].
    ///
    /// [class of windows]: crate::wire::deflate::codec::window_class
    Compressed(usize),
    /// As lines of a streamed response; messages that are no line are left out.
    Lines(LineFraming),
    /// As binary frames of client sessions.
    BinaryPushes,
    /// As frames of SockJS, or parts of those; binary messages are left out.
    SockJs(Form),
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
    lines: Vec<Lines>,
    binary_pushes: Option<Rc<Frames>>,
    /// Whether they are pushes of differences.
    are_deltas: bool,
    /// How the messages are to be derived, as long as they are not.
    underived: Option<Box<Underived>>,
    /// Whether there has been such a thing, after which nothing is joined.
    is_derived: bool,
    /// Whether nothing has come of it, and `first` is not meant.
    is_empty: bool,
    sockjs: Vec<SockJsFrames>,
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
    /// Bytes to be copied: together, or as lines.
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

    /// The same as neighbouring messages.
    pub fn into_excerpts(self) -> Vec<Excerpt> {
        match self {
            Self::Whole(frames) => vec![Excerpt::of(frames, 0..frames.messages(), true)],
            Self::Others(excerpts) => excerpts,
        }
    }

    /// Bytes that are sent of it.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Whole(frames) => frames.bytes().len(),
            Self::Others(excerpts) => excerpts.iter().map(|excerpt| excerpt.bytes().len()).sum(),
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
            lines: Vec::new(),
            binary_pushes: None,
            are_deltas: false,
            underived: None,
            is_derived: false,
            is_empty: false,
            sockjs: Vec::new(),
        };
        run.skip(skip);
        run
    }

    /// Says that all of its messages are pushes of differences, or of what came in full among them.
    pub fn set_are_deltas(&mut self) {
        self.are_deltas = true;
    }

    /// Whether a message can be [joined](Self::join): the run would not become too long, and no
    /// encoding has been made of it.
    pub fn takes(&self, message: &SharedMessage) -> bool {
        self.bytes + message.frame_bytes() <= JOINED_BYTES_MAX
            && self.plain.is_none()
            && self.compressed.is_empty()
            && self.compressing.is_empty()
            && self.lines.is_empty()
            && self.binary_pushes.is_none()
            && !self.is_derived
            && self.sockjs.is_empty()
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
        let places = 0..self.messages_len();
        self.skips.extend(places.map(|place| Skip { member, place }));
    }

    /// Bytes of the plain frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Messages that it has.
    pub fn messages_len(&self) -> u32 {
        u32::from(!self.is_empty) + self.more.len() as u32
    }

    /// How many of them are not left out for a member.
    pub fn messages_for(&self, member: u32) -> u32 {
        let left_out = self.skips.iter().filter(|skip| skip.member == member).count();
        self.messages_len() - left_out as u32
    }

    /// Each of them, in order.
    pub fn each(&self) -> impl Iterator<Item = &SharedMessage> {
        std::iter::once(&self.first).chain(&self.more)
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
        if !self.derive(&mut budget.joined_bytes) {
            return false;
        }
        match encoding {
            Encoding::Plain => self.join_frames(&mut budget.joined_bytes),
            Encoding::Compressed(_) if budget.compressed_bytes == 0 => false,
            Encoding::Compressed(class) if self.bytes > JOINED_BYTES_MAX => {
                self.compress_large(class, codec, &mut budget.compressed_bytes)
            }
            Encoding::Lines(framing) => self.make_lines(framing, &mut budget.joined_bytes),
            Encoding::BinaryPushes | Encoding::SockJs(_) if budget.joined_bytes == 0 => false,
            Encoding::SockJs(form) => {
                budget.joined_bytes = budget.joined_bytes.saturating_sub(self.bytes);
                let frames = SockJsFrames::new(form, self.messages());
                self.sockjs.push(frames);
                true
            }
            Encoding::BinaryPushes => {
                budget.joined_bytes = budget.joined_bytes.saturating_sub(self.bytes);
                self.binary_pushes = Some(pushes::binary(self.messages(), self.are_deltas));
                true
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
        if self.is_empty {
            self.plain = Some(Rc::new(Frames::joined(Vec::new(), Vec::new())));
            return true;
        }
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

    fn make_lines(&mut self, framing: LineFraming, bytes_left: &mut usize) -> bool {
        let Self { first, more, lines, is_empty, .. } = self;
        let begun = lines.iter().position(|lines| lines.framing == framing);
        let place = begun.unwrap_or_else(|| {
            lines.push(Lines::new(framing));
            lines.len() - 1
        });
        let first = (!*is_empty).then_some(&*first);
        lines[place].add(first.into_iter().chain(&*more), bytes_left)
    }

    fn messages(&self) -> impl Iterator<Item = &SharedMessage> {
        (!self.is_empty).then_some(&self.first).into_iter().chain(&self.more)
    }

    /// An encoding that has been made.
    pub fn encoded(&self, encoding: Encoding) -> Option<&Rc<Frames>> {
        match encoding {
            Encoding::Plain => self.plain.as_ref(),
            Encoding::Compressed(class) => {
                let found = self.compressed.iter().find(|compressed| compressed.class == class);
                found.map(|compressed| &compressed.frames)
            }
            Encoding::Lines(framing) => {
                self.lines.iter().find(|lines| lines.framing == framing).and_then(Lines::frames)
            }
            Encoding::BinaryPushes => self.binary_pushes.as_ref(),
            Encoding::SockJs(form) => {
                self.sockjs.iter().find(|it| it.form == form).map(|it| &it.frames)
            }
        }
    }

    /// What `member` gets, in an encoding of this run. One that gets lines publishes nothing, so
    /// it gets all.
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
mod tests;
