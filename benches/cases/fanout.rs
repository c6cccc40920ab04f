//! The broadcast ring between shards, and the outbox of a subscriber.
//!
//! The ring is measured on one thread: what two cores add is the traffic of their caches, which the
//! workloads of `scripts/compare` show and neither a clock nor a count of instructions shows here.

use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use ringwire::hub::ring::ring;
use ringwire::hub::run::{Encoding, EncodingBudget, Run};
use ringwire::io::{BufferSlice, Segment};
use ringwire::shard::outbox::Outbox;
use ringwire::wire::deflate::codec::{Codec, Settings};
use ringwire::wire::frames::Frames;
use ringwire::wire::message::{DataMessage, MessageKind};

use super::{Case, Prepared};

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = (1..=8).map(broadcast_ring).collect();
    cases.push(join_frames());
    cases.push(outbox("outbox/one", 1, |_| shared(&frames())));
    cases.push(outbox("outbox/shared-x16", 16, |_| shared(&frames())));
    cases.push(outbox("outbox/received-x16", 16, received));
    cases.push(outbox_with_control());
    cases.push(outbox_after_short_send());
    cases
}

/// One producer publishes a batch that every reader drains.
fn broadcast_ring(readers: usize) -> Case {
    let name = format!("broadcast-ring/1-to-{readers}");
    Case::new(name, BATCH * readers, move || {
        let (mut producer, mut readers) = ring::<Arc<Vec<u8>>>(SLOTS, readers);
        let frame = Arc::new(vec![b'.'; FRAME_BYTES]);
        Box::new(move || {
            for _ in 0..BATCH {
                assert!(producer.push(black_box(&frame).clone()).is_ok());
            }
            for reader in &mut readers {
                let drained = reader.drain(BATCH, |_, frame| {
                    black_box(frame);
                    true
                });
                assert_eq!(drained, BATCH);
            }
        })
    })
}

/// Joins the messages of one tick into one run.
fn join_frames() -> Case {
    Case::new(format!("join-frames/{FRAME_BYTES}B-x16"), 16, || {
        let payload = vec![b'.'; FRAME_BYTES - 2];
        let message = DataMessage::new(MessageKind::Binary, &payload).into_shared();
        let settings = Settings { level: 1, threshold_bytes: 128, message_bytes_max: 1 << 20 };
        let mut codec = Codec::new(settings);
        Box::new(move || {
            let mut run = Run::new(black_box(&message).clone(), None);
            for _ in 1..16 {
                run.join(black_box(&message).clone(), None);
            }
            let mut budget = EncodingBudget { compressed_bytes: 0, joined_bytes: 1 << 20 };
            assert!(run.encode(Encoding::Plain, &mut codec, &mut budget));
            black_box(run);
        })
    })
}

/// Queues segments and takes them as one send, again and again.
fn outbox(name: &str, count: usize, segment: fn(usize) -> Segment) -> Case {
    Case::new(name, count * ROUNDS, move || {
        let mut outbox = Outbox::default();
        let segments = (0..ROUNDS * count).map(segment).collect::<Vec<_>>();
        let mut segments = segments.into_iter();
        Box::new(move || {
            while segments.len() > 0 {
                for segment in segments.by_ref().take(count) {
                    outbox.push(segment);
                }
                black_box(outbox.take());
                outbox.sent_whole();
            }
        })
    })
}

/// A pong that goes ahead of sixteen queued messages.
fn outbox_with_control() -> Case {
    Case::new("outbox/control-ahead-of-16", 1, || -> Prepared {
        let mut outbox = filled(16);
        let mut pong = Some(Segment::control(vec![0x8a, 0]));
        Box::new(move || {
            if let Some(pong) = pong.take() {
                outbox.push_control(black_box(pong));
            }
            black_box(&outbox);
        })
    })
}

/// A vectored send of which the kernel took half.
fn outbox_after_short_send() -> Case {
    Case::new("outbox/short-send-of-16", 16, || -> Prepared {
        let mut outbox = filled(16);
        Box::new(move || {
            if let Some(outgoing) = outbox.take() {
                outbox.sent_in_part(outgoing, 8 * FRAME_BYTES, |segment| segment, |_| {});
            }
            black_box(&outbox);
        })
    })
}

fn filled(count: usize) -> Outbox {
    let mut outbox = Outbox::default();
    (0..count).for_each(|_| outbox.push(shared(&frames())));
    outbox
}

fn frames() -> Rc<Frames> {
    Rc::new(Frames::one(Arc::new(vec![b'.'; FRAME_BYTES])))
}

fn shared(frames: &Rc<Frames>) -> Segment {
    Segment::Shared { frames: frames.clone(), offset: 0 }
}

fn received(place: usize) -> Segment {
    let start = (place * FRAME_BYTES) as u32;
    let slice = BufferSlice::simulated(0, start, FRAME_BYTES as u32);
    Segment::Buffer { slice, ends_frame: true }
}

const SLOTS: usize = 1024;
const BATCH: usize = 64;
const FRAME_BYTES: usize = 22;
const ROUNDS: usize = 16;
