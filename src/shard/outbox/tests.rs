//! The outbox driven as a connection drives it: sends complete short, frames arrive in parts,
//! control frames come between them, and policies drop messages. What leaves must be what a peer
//! can read: every frame whole, in order, and control frames between frames alone.

mod parts;

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::wire::header::control_frame;
use parts::{Kind, Part, bytes_of, copied};

/// What happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    /// A part of a frame; until one ends it, nothing else may be pushed.
    Part {
        kind: Kind,
        len: usize,
        ends_frame: bool,
    },
    /// A run of messages, or some of them, published so many generations later.
    Publish {
        kind: Kind,
        len: usize,
        generations: u32,
    },
    Control {
        len: usize,
    },
    Take,
    /// The send in flight completes, with this part of 255 taken.
    Complete {
        part: u8,
    },
    DropOldest {
        held_bytes: usize,
    },
    DropNewest {
        held_bytes: usize,
    },
    DropAll,
    DropUnsent,
    Detach,
    /// To another shard.
    Move,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![Just(Kind::Buffer), Just(Kind::Owned)];
    let published = prop_oneof![
        (1_u32..4).prop_map(|messages| Kind::Shared { messages }),
        (1_u32..4).prop_map(|messages| Kind::Excerpt { messages }),
    ];
    let len = || 4_usize..60;
    let step = prop_oneof![
        6 => (kind, len(), prop::bool::weighted(0.7))
            .prop_map(|(kind, len, ends_frame)| Step::Part { kind, len, ends_frame }),
        6 => (published, len(), 0_u32..3)
            .prop_map(|(kind, len, generations)| Step::Publish { kind, len, generations }),
        3 => len().prop_map(|len| Step::Control { len }),
        3 => Just(Step::Take),
        3 => prop_oneof![Just(u8::MAX), Just(0), any::<u8>()]
            .prop_map(|part| Step::Complete { part }),
        2 => (0_usize..1000).prop_map(|held_bytes| Step::DropOldest { held_bytes }),
        2 => (0_usize..1000).prop_map(|held_bytes| Step::DropNewest { held_bytes }),
        1 => Just(Step::DropAll),
        1 => Just(Step::DropUnsent),
        1 => Just(Step::Detach),
        1 => Just(Step::Move),
    ];
    prop::collection::vec(step, 0..250)
}

/// An outbox and the connection around it.
#[derive(Default)]
struct Driver {
    outbox: Outbox,
    in_flight: Option<Outgoing>,
    /// Whether the frame pushed last lacks its end.
    is_open: bool,
    generation: u32,
    /// Data parts that were pushed, by their number, and messages in each.
    pushed: Vec<u64>,
    /// What was published, when, and what it holds.
    published: Vec<(u16, u32, usize)>,
    controls_pushed: u16,
    /// All that the peer got.
    sent: Vec<u8>,
    /// Messages dropped and told of.
    dropped: u64,
    lent: Vec<Part>,
    buffers_lent: BTreeSet<u16>,
}

impl Driver {
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Part { kind, len, ends_frame } => {
                self.is_open = !ends_frame;
                let segment = self.part(kind, len, ends_frame);
                self.outbox.push(segment);
            }
            Step::Publish { kind, len, generations } if !self.is_open => {
                self.generation += generations;
                let segment = self.part(kind, len, true);
                let id = self.pushed.len() as u16 - 1;
                self.published.push((id, self.generation, segment.held_bytes()));
                self.outbox.push_published(segment, self.generation);
            }
            Step::Control { len } if !self.is_open => {
                let id = self.controls_pushed;
                self.controls_pushed += 1;
                let part = Part { is_control: true, ends_frame: true, id, len };
                self.outbox.push_control(part.segment(Kind::Control));
            }
            Step::Take if self.in_flight.is_none() => {
                self.detach_unless_lent();
                self.in_flight = self.outbox.take();
            }
            Step::Complete { part } => self.complete(part),
            Step::DropOldest { held_bytes } => {
                self.dropped += self.outbox.drop_oldest(held_bytes);
                self.check_dropped_to(held_bytes);
            }
            Step::DropNewest { held_bytes } if !self.is_open => {
                self.dropped += self.outbox.drop_newest(held_bytes);
                let last = self.waiting_in_queue().last();
                if last.is_none_or(|last| last.messages() > 0) {
                    self.check_dropped_to(held_bytes);
                }
            }
            Step::DropAll => {
                self.dropped += self.outbox.drop_all();
                assert!(self.waiting_in_queue().all(|segment| segment.messages() == 0));
            }
            // A frame of which only a part is queued must not lose it.
            Step::DropUnsent if !self.is_open => {
                let Self { outbox, buffers_lent, .. } = self;
                // What is not published is dropped without being counted.
                self.dropped += outbox.drop_unsent(|slice| {
                    assert!(buffers_lent.remove(&slice.buffer()), "released twice");
                });
            }
            Step::Detach => self.detach(),
            Step::Move if self.in_flight.is_none() => self.move_to_another_shard(),
            Step::Publish { .. }
            | Step::Control { .. }
            | Step::Take
            | Step::DropNewest { .. }
            | Step::DropUnsent
            | Step::Move => {}
        }
        self.check();
    }

    /// No more waits than was asked for, unless it is what no policy may drop.
    fn check_dropped_to(&self, held_bytes: usize) {
        let held: usize = self.waiting().map(Segment::held_bytes).sum();
        let has_droppable = self.waiting_in_queue().any(|segment| segment.messages() > 0);
        assert!(held <= held_bytes || !has_droppable || self.outbox.behind.is_none());
    }

    fn part(&mut self, kind: Kind, len: usize, ends_frame: bool) -> Segment {
        let id = self.pushed.len() as u16;
        let part = Part { is_control: false, ends_frame, id, len };
        let segment = part.segment(kind);
        self.pushed.push(segment.messages().into());
        if kind == Kind::Buffer {
            self.lent.push(part);
            self.buffers_lent.insert(id);
        }
        segment
    }

    /// A connection copies its receive buffers before anything else may be in flight.
    fn detach_unless_lent(&mut self) {
        if self.pushed.len().is_multiple_of(2) {
            self.detach();
        }
    }

    fn detach(&mut self) {
        let Self { outbox, buffers_lent, lent, .. } = self;
        outbox.detach(|segment| copied(&segment, lent, buffers_lent));
    }

    fn move_to_another_shard(&mut self) {
        self.detach();
        let bytes = self.outbox.bytes();
        let luggage = self.outbox.pack();
        assert!(self.outbox.is_empty() && self.outbox.behind.is_none());
        self.outbox = Outbox::unpack(luggage, self.generation);
        assert_eq!(self.outbox.bytes(), bytes);
        // All of it counts as recent there.
        let held = self.waiting().map(Segment::held_bytes).sum();
        self.published.push((u16::MAX, self.generation, held));
    }

    fn complete(&mut self, part: u8) {
        let Some(outgoing) = self.in_flight.take() else { return };
        let segments = match &outgoing {
            Outgoing::One(segment) => std::slice::from_ref(segment),
            Outgoing::Many(segments) => segments,
        };
        let bytes: Vec<u8> =
            segments.iter().flat_map(|segment| bytes_of(segment, &self.lent)).collect();
        assert_eq!(bytes.len(), outgoing.len());
        let sent = bytes.len() * usize::from(part) / usize::from(u8::MAX);
        self.sent.extend(&bytes[..sent]);
        if sent == bytes.len() {
            for segment in segments {
                if let Segment::Buffer { slice, .. } = segment {
                    assert!(self.buffers_lent.remove(&slice.buffer()), "released twice");
                }
            }
            return self.outbox.sent_whole();
        }
        // No receive buffer is left in the queue behind a send that comes back.
        self.detach();
        let Self { outbox, lent, buffers_lent, .. } = self;
        let buffers = std::cell::RefCell::new(buffers_lent);
        outbox.sent_in_part(
            outgoing,
            sent,
            |segment| copied(&segment, lent, &mut buffers.borrow_mut()),
            |slice| assert!(buffers.borrow_mut().remove(&slice.buffer()), "released twice"),
        );
    }

    fn waiting(&self) -> impl Iterator<Item = &Segment> {
        let behind = self.outbox.behind.iter();
        let behind = behind.flat_map(|behind| behind.committed.iter().chain(&behind.controls));
        self.outbox.first.iter().chain(behind).chain(self.waiting_in_queue())
    }

    fn waiting_in_queue(&self) -> impl Iterator<Item = &Segment> {
        self.outbox.behind.iter().flat_map(|behind| &behind.queue)
    }

    /// The sums are what they should be.
    fn check(&self) {
        let outbox = &self.outbox;
        let bytes: usize = self.waiting().map(Segment::len).sum();
        let held: usize = self.waiting().map(Segment::held_bytes).sum();
        assert_eq!(outbox.is_empty(), bytes == 0);
        let in_flight = outbox.behind.as_ref().map_or((0, 0), |behind| {
            assert!(outbox.first.is_none(), "everything waits in one place");
            assert_eq!((behind.bytes, behind.held_bytes), (bytes, held));
            (behind.in_flight_bytes, behind.in_flight_held_bytes)
        });
        assert_eq!(
            (outbox.bytes(), outbox.held_bytes()),
            (bytes + in_flight.0, held + in_flight.1)
        );
        if self.in_flight.is_none() {
            assert_eq!(in_flight, (0, 0));
        }
        let lent = self.waiting_in_queue().filter(|s| matches!(s, Segment::Buffer { .. })).count();
        assert_eq!(outbox.behind.as_ref().map_or(0, |behind| behind.lent), lent);
        self.check_lag();
    }

    /// What was published in this generation or the one before is never lag.
    fn check_lag(&self) {
        let recent: usize = self
            .published
            .iter()
            .filter(|(_, generation, _)| generation + 1 >= self.generation)
            .map(|(_, _, held)| held)
            .sum();
        let held: usize = self.waiting().map(Segment::held_bytes).sum();
        let lag = self.outbox.lag_bytes(self.generation);
        assert!(lag >= held.saturating_sub(recent + LONE_BYTES) || self.outbox.behind.is_none());
        assert!(lag <= held);
    }

    /// Sends everything, and checks what the peer got.
    fn finish(mut self, may_lose_data: bool) {
        if self.is_open {
            self.step(&Step::Part { kind: Kind::Owned, len: 5, ends_frame: true });
        }
        while self.in_flight.is_some() || !self.outbox.is_empty() {
            self.step(&Step::Take);
            self.step(&Step::Complete { part: u8::MAX });
        }
        assert!(self.outbox.behind.as_ref().is_none_or(|behind| behind.bytes == 0));
        assert!(self.buffers_lent.is_empty(), "a buffer was lost");
        let (mut next_data, mut next_control, mut lost) = (0, 0, 0);
        let mut is_frame_open = false;
        for part in Part::decode_all(&self.sent) {
            if part.is_control {
                assert!(!is_frame_open, "a control frame within a frame");
                assert_eq!(part.id, next_control, "control frames keep their order");
                next_control += 1;
                continue;
            }
            assert!(part.id >= next_data, "data keeps its order");
            assert!(part.id == next_data || !is_frame_open, "a part of a frame is lost");
            for id in next_data..part.id {
                let messages = self.pushed[usize::from(id)];
                assert!(messages > 0 || may_lose_data, "part {id} is lost");
                lost += messages;
            }
            next_data = part.id + 1;
            is_frame_open = !part.ends_frame;
        }
        assert!(!is_frame_open, "a frame lacks its end");
        let behind = &self.pushed[usize::from(next_data)..];
        assert!(may_lose_data || behind.iter().all(|messages| *messages > 0), "the end is lost");
        lost += behind.iter().sum::<u64>();
        assert_eq!(lost, self.dropped, "what is lost is counted");
        assert_eq!(next_control, self.controls_pushed, "every control frame is sent");
    }
}

/// What may count as recent although nobody knows how long it has lain inline.
const LONE_BYTES: usize = 1000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_peer_gets_every_frame_whole_and_in_order(steps in steps()) {
        let mut driver = Driver::default();
        steps.iter().for_each(|step| driver.step(step));
        driver.finish(steps.iter().any(|step| matches!(step, Step::DropUnsent)));
    }

    #[test]
    fn clearing_gives_every_receive_buffer_back_once(steps in steps()) {
        let mut driver = Driver::default();
        steps.iter().for_each(|step| driver.step(step));
        let Driver { mut outbox, in_flight, mut buffers_lent, .. } = driver;
        outbox.clear(|slice| assert!(buffers_lent.remove(&slice.buffer()), "released twice"));
        prop_assert!(outbox.is_empty() && outbox.bytes() == 0 && outbox.take().is_none());
        let in_flight = in_flight.into_iter().flat_map(|outgoing| match outgoing {
            Outgoing::One(segment) => vec![segment],
            Outgoing::Many(segments) => segments,
        });
        for segment in in_flight {
            if let Segment::Buffer { slice, .. } = segment {
                prop_assert!(buffers_lent.remove(&slice.buffer()));
            }
        }
        prop_assert!(buffers_lent.is_empty(), "a buffer was lost");
    }
}

fn message(id: u16) -> Segment {
    let part = Part { is_control: false, ends_frame: true, id, len: 10 };
    part.segment(Kind::Shared { messages: 1 })
}

#[test]
fn messages_go_from_the_end_that_is_asked_for() {
    let held = message(0).held_bytes();
    for (bytes, oldest, left) in [
        (4 * held, true, 0..4),
        (2 * held, true, 2..4),
        (2 * held - 1, true, 3..4),
        (0, true, 4..4),
        (2 * held, false, 0..2),
        (2 * held - 1, false, 0..1),
    ] {
        let mut outbox = Outbox::default();
        (0..4).for_each(|id| outbox.push_published(message(id), 7));
        let dropped = if oldest { outbox.drop_oldest(bytes) } else { outbox.drop_newest(bytes) };
        assert_eq!(dropped as usize, 4 - left.len());
        let ids: Vec<u16> = match outbox.take() {
            Some(Outgoing::Many(segments)) => {
                segments.iter().map(|s| Part::decode_all(&bytes_of(s, &[]))[0].id).collect()
            }
            Some(Outgoing::One(segment)) => vec![Part::decode_all(&bytes_of(&segment, &[]))[0].id],
            None => Vec::new(),
        };
        assert_eq!(ids, left.collect::<Vec<_>>());
    }
}

/// What is left when the newest are dropped is old: it does not become recent again.
#[test]
fn what_stays_when_the_newest_go_is_lag() {
    let held = message(0).held_bytes();
    let mut outbox = Outbox::default();
    (0..3).for_each(|id| outbox.push_published(message(id), 7));
    (3..9).for_each(|id| outbox.push_published(message(id), 9));
    assert_eq!(outbox.lag_bytes(9), 3 * held);
    assert_eq!(outbox.drop_newest(3 * held), 6);
    assert_eq!(outbox.lag_bytes(9), 3 * held);
}

#[test]
fn what_was_published_recently_is_no_lag() {
    let held = message(0).held_bytes();
    let mut outbox = Outbox::default();
    (0..4).for_each(|id| outbox.push_published(message(id), 7));
    for (generation, lag) in [(7, 0), (8, 0), (9, 4 * held), (20, 4 * held)] {
        assert_eq!(outbox.lag_bytes(generation), lag, "{generation}");
    }
    outbox.push_published(message(4), 9);
    assert_eq!(outbox.lag_bytes(9), 4 * held);
    assert_eq!(outbox.lag_bytes(11), 5 * held);
}

/// Half a million tiny messages take what the allocator needs for them, and no more than 1.5 times
/// what is counted.
#[test]
fn small_pieces_are_joined_and_counted_at_what_they_take() {
    let mut outbox = Outbox::default();
    for _ in 0..100_000 {
        outbox.push(Segment::owned(vec![0x82, 0], true));
    }
    let behind = outbox.behind.as_ref().expect("it is behind");
    assert!(behind.queue.len() <= 2 * 200_000 / JOINED_BYTES_MAX + 2, "they are joined");
    assert_eq!(outbox.bytes(), 200_000);
    assert!((200_000..300_000).contains(&outbox.held_bytes()), "{}", outbox.held_bytes());
}

#[test]
fn a_send_takes_no_more_than_it_may() {
    let mut outbox = Outbox::default();
    let large = || Segment::owned(vec![0x82; 300_000], true);
    (0..10).for_each(|_| outbox.push(large()));
    let Some(Outgoing::Many(segments)) = outbox.take() else { panic!("several") };
    assert_eq!(segments.len(), SEND_BYTES_MAX.div_ceil(300_000));
}

#[test]
fn pongs_to_a_peer_that_does_not_read_replace_each_other_at_last() {
    let pong = |id: u32| control_frame(OpCode::Pong, &id.to_be_bytes());
    let mut outbox = Outbox::default();
    outbox.push(Segment::owned(vec![0; 50], true));
    let sending = outbox.take().expect("something");
    for id in 0..3 * CONTROLS_MAX as u32 {
        outbox.push_control(Segment::control(pong(id)));
    }
    let ping = control_frame(OpCode::Ping, b"");
    outbox.push_control(Segment::control(ping.clone()));
    outbox.push_control(Segment::control(pong(7)));
    outbox.sent_in_part(sending, 10, |segment| segment, |_| {});
    let last = 3 * CONTROLS_MAX as u32 - 1;
    let kept = (0..CONTROLS_MAX as u32 - 1).chain([last]).map(pong).chain([ping, pong(7)]);
    let expected: Vec<u8> = std::iter::once(vec![0; 40]).chain(kept).flatten().collect();
    assert_eq!(outbox.bytes(), expected.len());
    let mut left = Vec::new();
    while let Some(outgoing) = outbox.take() {
        let segments = match &outgoing {
            Outgoing::One(segment) => std::slice::from_ref(segment),
            Outgoing::Many(segments) => segments,
        };
        left.extend(segments.iter().flat_map(|segment| bytes_of(segment, &[])));
        outbox.sent_whole();
    }
    assert!(left == expected);
}
