//! Encoded frames, or lines, that many connections send: made once, never changed, shared by
//! reference.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// A run of whole frames for the subscribers of one topic.
#[derive(Clone, Debug)]
pub struct Frames(Bytes);

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
    /// The messages at these places.
    pub fn of(frames: &Rc<Frames>, places: Range<u32>, is_first: bool) -> Self {
        let (start, end) = (frames.start_of(places.start), frames.start_of(places.end));
        let messages = places.end - places.start;
        Self { frames: frames.clone(), start, end, messages, is_first }
    }

    /// The last of its messages alone.
    pub fn latest(&self) -> Self {
        let last = self.frames.place_at(self.end - 1);
        Self::of(&self.frames, last..last + 1, true)
    }

    /// Its messages, of which nothing has been sent, in a run that nobody on this thread shares.
    pub fn into_frames(self) -> Frames {
        let Self { frames, start, end, .. } = &self;
        if (*start, *end as usize) == (0, frames.bytes().len()) {
            return Rc::unwrap_or_clone(self.frames);
        }
        joined(&[self])
    }

    /// The frames of its messages.
    pub fn bytes(&self) -> &[u8] {
        &self.frames.bytes()[self.start as usize..self.end as usize]
    }

    /// The frame of each of its messages.
    pub fn each(&self) -> impl Iterator<Item = &[u8]> {
        let first = if self.messages == 0 { 0 } else { self.frames.place_at(self.start) };
        (first..first + self.messages).map(|place| {
            let (start, end) = (self.frames.start_of(place), self.frames.start_of(place + 1));
            &self.frames.bytes()[start as usize..end as usize]
        })
    }

    /// Bytes of memory that it takes, with those of its run if it is the first of that.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>() + if self.is_first { self.frames.held_bytes() } else { 0 }
    }
}

/// The messages of all excerpts, in a run of their own.
pub fn copied(excerpts: &[Excerpt]) -> Excerpt {
    let frames = joined(excerpts);
    let messages = frames.messages();
    Excerpt::of(&Rc::new(frames), 0..messages, true)
}

/// A copy of the messages of all excerpts, of which nothing has been sent.
fn joined(excerpts: &[Excerpt]) -> Frames {
    let mut bytes = Vec::with_capacity(excerpts.iter().map(|it| it.bytes().len()).sum());
    let mut ends = Vec::with_capacity(excerpts.iter().map(|it| it.messages as usize).sum());
    for Excerpt { frames, start, end, messages, .. } in excerpts {
        let (shift, first) = (bytes.len() as u32, frames.place_at(*start));
        let places = first + 1..=first + messages;
        ends.extend(places.map(|place| frames.start_of(place) - start + shift));
        bytes.extend_from_slice(&frames.bytes()[*start as usize..*end as usize]);
    }
    Frames::joined(bytes, ends)
}

#[derive(Clone, Debug)]
enum Bytes {
    One(Arc<Vec<u8>>),
    /// Several, and where each ends.
    Joined(Vec<u8>, Vec<u32>),
}

impl Frames {
    /// One message, shared with the other shards.
    pub fn one(frame: Arc<Vec<u8>>) -> Self {
        Self(Bytes::One(frame))
    }

    /// Messages that lie one after the other in `bytes`; `ends` is where each of them ends.
    pub fn joined(bytes: Vec<u8>, ends: Vec<u32>) -> Self {
        debug_assert_eq!(ends.last().copied().unwrap_or(0) as usize, bytes.len());
        Self(Bytes::Joined(bytes, ends))
    }

    /// The encoded frames.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::One(frame) => frame,
            Bytes::Joined(joined, _) => joined,
        }
    }

    /// Bytes of memory that the run takes, with what the allocator adds.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Bytes::One(frame) => frame.capacity() + SHARED_FRAME_BYTES,
                Bytes::Joined(joined, ends) => {
                    let ends_bytes = size_of_val(&ends[..]);
                    joined.capacity() + ends_bytes + 2 * REFERENCES_BYTES
                }
            }
    }

    /// Messages in the run.
    pub fn messages(&self) -> u32 {
        match &self.0 {
            Bytes::One(_) => 1,
            Bytes::Joined(_, ends) => ends.len() as u32,
        }
    }

    /// Where the message at `place` starts; the end of the run for the place behind the last.
    pub fn start_of(&self, place: u32) -> u32 {
        match (&self.0, place) {
            (_, 0) => 0,
            (Bytes::One(frame), _) => frame.len() as u32,
            (Bytes::Joined(_, ends), _) => ends[place as usize - 1],
        }
    }

    /// The place of the message that lies at `offset`.
    fn place_at(&self, offset: u32) -> u32 {
        match &self.0 {
            Bytes::One(_) => 0,
            Bytes::Joined(_, ends) => ends.partition_point(|&end| end <= offset) as u32,
        }
    }
}

/// The counts of references beside what is counted, and what the allocator rounds up.
const REFERENCES_BYTES: usize = 32;
/// The same of a frame that shards share, which is a vector of its own.
pub const SHARED_FRAME_BYTES: usize = 2 * REFERENCES_BYTES + size_of::<Vec<u8>>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_knows_its_messages() {
        let one = Frames::one(Arc::new(b"one".to_vec()));
        assert_eq!((one.bytes(), one.messages()), (&b"one"[..], 1));
        assert_eq!([0, 1].map(|place| one.start_of(place)), [0, 3]);
        let three = Frames::joined(b"onethreex".to_vec(), vec![3, 8, 9]);
        assert_eq!(three.messages(), 3);
        assert_eq!([0, 1, 2, 3].map(|place| three.start_of(place)), [0, 3, 8, 9]);
    }

    #[test]
    fn neighbours_become_a_run_of_their_own() {
        let frames = Rc::new(Frames::joined(b"onethreextwo".to_vec(), vec![3, 8, 9, 12]));
        let excerpt = |from, to| Excerpt::of(&frames, from..to, true);
        assert_eq!(excerpt(1, 3).bytes(), b"threex");
        assert_eq!(excerpt(1, 3).each().collect::<Vec<_>>(), [&b"three"[..], b"x"]);
        assert_eq!(excerpt(0, 0).each().count(), 0);
        assert_eq!(excerpt(0, 4).latest().bytes(), b"two");
        assert_eq!(excerpt(1, 3).latest().bytes(), b"x");
        assert_eq!(excerpt(1, 2).latest().bytes(), b"three");
        let copy = copied(&[excerpt(0, 1), excerpt(2, 4)]);
        assert_eq!((copy.bytes(), copy.messages), (&b"onextwo"[..], 3));
        assert_eq!([0, 1, 2, 3].map(|place| copy.frames.start_of(place)), [0, 3, 4, 7]);
        let [all, some] = [(0, 4), (1, 3)].map(|(from, to)| excerpt(from, to).into_frames());
        assert_eq!((all.bytes(), all.messages()), (frames.bytes(), 4));
        assert_eq!((some.bytes(), some.messages()), (&b"threex"[..], 2));
    }
}
