//! The outbox against a plain queue, driven as a connection drives it: sends complete short, frames
//! arrive in parts, control frames come between them, and policies drop messages.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::wire::frames::Frames;
use crate::wire::header::control_frame;

/// A segment as the plain queue sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    /// Counts data and control frames each from zero, in the order in which they were pushed.
    id: u16,
    /// Bytes sent of it.
    offset: usize,
    /// Bytes left of it.
    len: usize,
    ends_frame: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Buffer,
    Owned,
    Shared { messages: u32 },
    Control,
}

impl Entry {
    fn read(segment: &Segment) -> Self {
        let (kind, id, offset) = match segment {
            Segment::Buffer { slice, .. } => (Kind::Buffer, slice.buffer(), slice.start() as usize),
            Segment::Shared { frames, offset } => {
                let messages = frames.messages();
                (Kind::Shared { messages }, id_in(frames.bytes()), *offset as usize)
            }
            Segment::Owned { bytes, offset, control, .. } => {
                let kind = if *control { Kind::Control } else { Kind::Owned };
                (kind, id_in(bytes), *offset as usize)
            }
        };
        Self { kind, id, offset, len: segment.len(), ends_frame: segment.ends_frame() }
    }

    fn segment(&self) -> Segment {
        let bytes = bytes_with(self.id, self.len);
        match self.kind {
            Kind::Buffer => {
                let slice = BufferSlice::simulated(self.id, 0, self.len as u32);
                Segment::Buffer { slice, ends_frame: self.ends_frame }
            }
            Kind::Owned => Segment::owned(bytes, self.ends_frame),
            Kind::Control => Segment::control(bytes),
            Kind::Shared { messages } => {
                let mut frames = Frames::one(Arc::new(bytes));
                (1..messages).for_each(|_| frames.join(b""));
                Segment::Shared { frames: Rc::new(frames), offset: 0 }
            }
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared { .. })
    }

    fn messages(&self) -> u64 {
        match self.kind {
            Kind::Shared { messages } if self.offset == 0 => messages.into(),
            Kind::Shared { .. } => 1,
            _ => 0,
        }
    }
}

fn bytes_with(id: u16, len: usize) -> Vec<u8> {
    let mut bytes = id.to_le_bytes().to_vec();
    bytes.resize(len, 0);
    bytes
}

fn id_in(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(*bytes.first_chunk().expect("no segment is that short"))
}

/// The copy of a receive buffer's bytes that may wait as long as it takes.
fn copied(segment: &Segment) -> Segment {
    let entry = Entry { kind: Kind::Owned, ..Entry::read(segment) };
    let whole = Entry { len: entry.offset + entry.len, ..entry.clone() };
    let mut copy = whole.segment();
    copy.advance(entry.offset);
    copy
}

/// What happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    /// A part of a frame; until one ends it, nothing else may be pushed.
    Part {
        kind: Kind,
        len: usize,
        ends_frame: bool,
    },
    /// A run of messages.
    Share {
        messages: u32,
        len: usize,
    },
    Control {
        len: usize,
    },
    Take,
    /// The send in flight completes, with this part of 255 taken.
    Complete {
        part: u8,
    },
    Drop {
        bytes: usize,
    },
    Detach,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![Just(Kind::Buffer), Just(Kind::Owned)];
    let len = || 2_usize..60;
    let step = prop_oneof![
        6 => (kind, len(), prop::bool::weighted(0.7))
            .prop_map(|(kind, len, ends_frame)| Step::Part { kind, len, ends_frame }),
        6 => (1_u32..4, len()).prop_map(|(messages, len)| Step::Share { messages, len }),
        3 => len().prop_map(|len| Step::Control { len }),
        3 => Just(Step::Take),
        3 => prop_oneof![Just(u8::MAX), any::<u8>()].prop_map(|part| Step::Complete { part }),
        2 => (0_usize..400).prop_map(|bytes| Step::Drop { bytes }),
        1 => Just(Step::Detach),
    ];
    prop::collection::vec(step, 0..250)
}

/// An outbox, the plain queue beside it, and the connection around both.
#[derive(Default)]
struct Driver {
    outbox: Outbox,
    waiting: VecDeque<Entry>,
    in_flight: Option<(Outgoing, Vec<Entry>)>,
    mid_frame: bool,
    /// Whether the frame pushed last lacks its end.
    is_open: bool,
    data_pushed: u16,
    controls_pushed: u16,
    /// Entries in the order in which they left, some of them in several parts.
    sent: Vec<Entry>,
    dropped: BTreeSet<u16>,
    buffers_lent: BTreeSet<u16>,
}

impl Driver {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Part { kind, len, ends_frame } => {
                self.push(kind, len, ends_frame);
                self.is_open = !ends_frame;
            }
            Step::Share { messages, len } if !self.is_open => {
                self.push(Kind::Shared { messages }, len, true);
            }
            Step::Control { len } if !self.is_open => self.push_control(len),
            Step::Take => self.take(),
            Step::Complete { part } => self.complete(part),
            Step::Drop { bytes } => self.drop_messages(bytes),
            Step::Detach => self.detach(),
            Step::Share { .. } | Step::Control { .. } => {}
        }
        self.check();
    }

    fn push(&mut self, kind: Kind, len: usize, ends_frame: bool) {
        let entry = Entry { kind, id: self.data_pushed, offset: 0, len, ends_frame };
        self.data_pushed += 1;
        if kind == Kind::Buffer {
            self.buffers_lent.insert(entry.id);
        }
        self.outbox.push(entry.segment());
        self.waiting.push_back(entry);
    }

    fn push_control(&mut self, len: usize) {
        let id = self.controls_pushed;
        self.controls_pushed += 1;
        let entry = Entry { kind: Kind::Control, id, offset: 0, len, ends_frame: true };
        self.outbox.push_control(entry.segment(), self.mid_frame);
        self.expect_control(entry);
    }

    fn expect_control(&mut self, entry: Entry) {
        let mut place = 0;
        if self.mid_frame {
            while !self.waiting[place].ends_frame {
                place += 1;
            }
            place += 1;
        }
        while self.waiting.get(place).is_some_and(|entry| entry.kind == Kind::Control) {
            place += 1;
        }
        self.waiting.insert(place, entry);
    }

    fn take(&mut self) {
        if self.in_flight.is_some() {
            return;
        }
        let count = self.waiting.len().min(VECTORS_MAX);
        let entries: Vec<_> = self.waiting.drain(..count).collect();
        let outgoing = self.outbox.take();
        assert_eq!(outgoing.is_none(), entries.is_empty());
        let Some(outgoing) = outgoing else { return };
        assert_eq!(matches!(outgoing, Outgoing::Many(_)), entries.len() > 1);
        self.mid_frame = !outgoing.ends_frame();
        self.in_flight = Some((outgoing, entries));
    }

    fn complete(&mut self, part: u8) {
        let Some((outgoing, entries)) = self.in_flight.take() else { return };
        let segments = match outgoing {
            Outgoing::One(segment) => vec![segment],
            Outgoing::Many(segments) => segments,
        };
        assert_eq!(segments.iter().map(Entry::read).collect::<Vec<_>>(), entries);
        let bytes: usize = segments.iter().map(Segment::len).sum();
        let mut sent = bytes * usize::from(part) / usize::from(u8::MAX);
        self.mid_frame |= sent < bytes;
        let mut leftover = Vec::new();
        for mut segment in segments {
            let taken = sent.min(segment.len());
            sent -= taken;
            if taken > 0 {
                self.sent.push(Entry { len: taken, ..Entry::read(&segment) });
            }
            segment.advance(taken);
            if segment.is_empty() {
                self.give_back(&segment);
            } else {
                leftover.push(segment);
            }
        }
        if !leftover.is_empty() {
            let waiting = std::mem::take(&mut self.waiting).into_iter();
            let (controls, data): (Vec<_>, Vec<_>) =
                waiting.partition(|entry| entry.kind == Kind::Control);
            self.waiting = leftover.iter().map(Entry::read).chain(data).collect();
            controls.into_iter().for_each(|entry| self.expect_control(entry));
        }
        self.outbox.complete(leftover.into_iter());
    }

    fn drop_messages(&mut self, bytes: usize) {
        let mut excess = self.bytes().saturating_sub(bytes);
        let (mut kept, mut messages) = (VecDeque::new(), 0);
        for (place, entry) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let stays = place == 0 && self.mid_frame;
            if excess > 0 && entry.is_shared() && !stays {
                excess = excess.saturating_sub(entry.len);
                messages += entry.messages();
                self.dropped.insert(entry.id);
            } else {
                kept.push_back(entry);
            }
        }
        self.waiting = kept;
        assert_eq!(self.outbox.drop_messages(bytes, self.mid_frame), messages);
    }

    fn detach(&mut self) {
        let Self { outbox, buffers_lent, .. } = self;
        outbox.detach(|segment| match &segment {
            Segment::Buffer { slice, .. } => {
                assert!(buffers_lent.remove(&slice.buffer()), "released twice");
                copied(&segment)
            }
            _ => segment,
        });
        for entry in self.waiting.iter_mut().filter(|entry| entry.kind == Kind::Buffer) {
            entry.kind = Kind::Owned;
        }
    }

    fn give_back(&mut self, segment: &Segment) {
        if let Segment::Buffer { slice, .. } = segment {
            assert!(self.buffers_lent.remove(&slice.buffer()), "released twice");
        }
    }

    /// What waits, and what a vectored send in flight carries.
    fn bytes(&self) -> usize {
        let in_flight = match &self.in_flight {
            Some((outgoing @ Outgoing::Many(_), _)) => outgoing.len(),
            _ => 0,
        };
        in_flight + self.waiting.iter().map(|entry| entry.len).sum::<usize>()
    }

    fn check(&self) {
        let queue = self.outbox.rest.iter().flat_map(|rest| &rest.queue);
        let waiting: VecDeque<_> = self.outbox.first.iter().chain(queue).map(Entry::read).collect();
        assert_eq!(waiting, self.waiting);
        assert!(self.outbox.first.is_some() || waiting.is_empty(), "the inline place comes first");
        assert_eq!(self.outbox.is_empty(), self.waiting.is_empty());
        assert_eq!(self.outbox.bytes(), self.bytes());
    }

    /// Sends everything, and checks what the peer got.
    fn finish(mut self) {
        if self.is_open {
            self.step(&Step::Part { kind: Kind::Owned, len: 2, ends_frame: true });
        }
        while self.in_flight.is_some() || !self.waiting.is_empty() {
            self.step(&Step::Take);
            self.step(&Step::Complete { part: u8::MAX });
        }
        assert!(self.outbox.rest.is_none(), "a connection that caught up owns no queue");
        assert!(self.buffers_lent.is_empty(), "a buffer was lost");

        let (mut next_data, mut next_control) = (0, 0);
        let mut parts = self.sent.iter().peekable();
        let mut is_frame_open = false;
        while let Some(entry) = parts.next() {
            let mut end = entry.len;
            assert_eq!(entry.offset, 0, "starts with its first byte");
            while let Some(more) =
                parts.next_if(|more| more.id == entry.id && more.offset == end && end > 0)
            {
                end += more.len;
            }
            if entry.kind == Kind::Control {
                assert!(!is_frame_open, "a control frame within a frame");
                assert_eq!(entry.id, next_control, "control frames keep their order");
                next_control += 1;
                continue;
            }
            while self.dropped.contains(&next_data) {
                assert!(!is_frame_open, "a part of a frame was dropped");
                next_data += 1;
            }
            assert_eq!(entry.id, next_data, "nothing is lost, doubled or moved");
            next_data += 1;
            is_frame_open = !entry.ends_frame;
        }
        let dropped_last = (next_data..self.data_pushed).all(|id| self.dropped.contains(&id));
        assert!(dropped_last && next_control == self.controls_pushed, "everything was sent");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_outbox_is_a_queue(steps in steps()) {
        let mut driver = Driver::default();
        steps.iter().for_each(|step| driver.step(step));
        driver.finish();
    }

    #[test]
    fn clearing_gives_every_receive_buffer_back_once(steps in steps()) {
        let mut driver = Driver::default();
        steps.iter().for_each(|step| driver.step(step));
        let Driver { mut outbox, in_flight, mut buffers_lent, .. } = driver;
        outbox.clear(|slice| assert!(buffers_lent.remove(&slice.buffer()), "released twice"));
        prop_assert!(outbox.is_empty() && outbox.bytes() == 0 && outbox.take().is_none());
        let in_flight = in_flight.into_iter().flat_map(|(_, entries)| entries);
        for entry in in_flight.filter(|entry| entry.kind == Kind::Buffer) {
            prop_assert!(buffers_lent.remove(&entry.id));
        }
        prop_assert!(buffers_lent.is_empty(), "a buffer was lost");
    }
}

#[test]
fn the_oldest_messages_go_first_and_all_of_them_when_none_may_wait() {
    let filled = || {
        let mut outbox = Outbox::default();
        for id in 0..4 {
            let kind = Kind::Shared { messages: 1 };
            outbox.push(Entry { kind, id, offset: 0, len: 10, ends_frame: true }.segment());
        }
        outbox
    };
    let ids = |outbox: &mut Outbox| match outbox.take() {
        Some(Outgoing::One(segment)) => vec![Entry::read(&segment).id],
        Some(Outgoing::Many(segments)) => segments.iter().map(|s| Entry::read(s).id).collect(),
        None => Vec::new(),
    };
    for (bytes, mid_frame, left) in [
        (40, false, &[0, 1, 2, 3][..]),
        (39, false, &[1, 2, 3]),
        (20, false, &[2, 3]),
        (0, false, &[]),
        (20, true, &[0, 3]),
        (0, true, &[0]),
    ] {
        let mut outbox = filled();
        assert_eq!(outbox.drop_messages(bytes, mid_frame), 4 - left.len() as u64);
        assert_eq!(ids(&mut outbox), left, "{bytes} {mid_frame}");
    }
}

#[test]
fn pongs_to_a_peer_that_does_not_read_replace_each_other_at_last() {
    let pong = |id: u32| control_frame(OpCode::Pong, &id.to_be_bytes());
    let mut outbox = Outbox::default();
    outbox.push(Segment::owned(vec![0; 50], true));
    for id in 0..3 * CONTROLS_MAX as u32 {
        outbox.push_control(Segment::control(pong(id)), true);
    }
    let ping = control_frame(OpCode::Ping, b"");
    outbox.push_control(Segment::control(ping.clone()), true);
    outbox.push_control(Segment::control(pong(7)), true);
    let last = 3 * CONTROLS_MAX as u32 - 1;
    let kept = (0..CONTROLS_MAX as u32 - 1).chain([last]).map(pong).chain([ping, pong(7)]);
    let expected: Vec<u8> = std::iter::once(vec![0; 50]).chain(kept).flatten().collect();
    assert_eq!(outbox.bytes(), expected.len());
    let mut left = Vec::new();
    while let Some(outgoing) = outbox.take() {
        let segments = match outgoing {
            Outgoing::One(segment) => vec![segment],
            Outgoing::Many(segments) => segments,
        };
        for segment in segments {
            let Segment::Owned { bytes, .. } = segment else { panic!("all of them are owned") };
            left.extend(*bytes);
        }
        outbox.complete(std::iter::empty());
    }
    assert!(left == expected);
}
