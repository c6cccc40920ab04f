//! Greedy peers and bystanders: whoever waits is served within a stated number of ticks, no peer
//! takes more than a stated number of bytes of one, and nobody who reads loses anything.

use std::time::Duration;

use ringwire::config::{CompressionMode, SlowConsumer};

use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, CLOSE, TEXT};
use crate::network::SocketId;
use crate::story::Story;

/// Ticks that a bystander's message may take on its way to the server and back. When receive
/// buffers are short it waits for its turn as well: two ticks (one to receive, one to send) for as
/// many greedy peers as get a buffer in one.
const TICKS_MOST: usize = 6;
/// Bytes that take several ticks to be compressed.
const LARGE: usize = 99_000;
const BUFFERS: u16 = 8;
const BUFFER_BYTES: u32 = 4096;

fn story(shards: usize) -> Story {
    Story::new(shards, |config, chaos| {
        config.limits.backlog_bytes = 1 << 20;
        config.limits.message_bytes = 1 << 20;
        config.engine.receive_buffer_bytes = BUFFER_BYTES;
        config.engine.broadcast_ring_slots = 64;
        (chaos.buffers, chaos.buffer_bytes, chaos.slots) = (BUFFERS, BUFFER_BYTES, 128);
        chaos.incremental = true;
    })
}

/// Peers that always have more to send.
struct Greedy {
    sockets: Vec<SocketId>,
    decoders: Vec<Decoder>,
    burst: Vec<u8>,
    reads: bool,
}

impl Greedy {
    fn new(
        story: &mut Story,
        count: usize,
        path: impl Fn(usize) -> String,
        burst: Vec<u8>,
    ) -> Self {
        let (sockets, decoders) = (0..count).map(|number| story.open(0, &path(number))).unzip();
        Self { sockets, decoders, burst, reads: true }
    }

    /// Fills the way to the server again, and reads what came.
    fn step(&mut self, story: &mut Story) {
        for (&socket, decoder) in self.sockets.iter().zip(&mut self.decoders) {
            if story.waiting(socket) < self.burst.len() {
                story.write(socket, &self.burst);
            }
            if self.reads {
                let _ = story.read(socket, decoder);
            }
        }
    }
}

/// Bystanders send a message each in turn; every one comes back soon, and no greedy peer has more
/// than its share of any tick.
fn check(story: &mut Story, greedy: &mut Greedy) {
    let shards = story.shards.len();
    let mut bystanders: Vec<_> = (0..3).map(|_| story.open(0, "/echo")).collect();
    let most = TICKS_MOST + 2 * greedy.sockets.len().div_ceil(usize::from(BUFFERS) * 3 / 4);
    let share = usize::from(BUFFERS) * BUFFER_BYTES as usize;
    for _ in 0..20 {
        greedy.step(story);
        (0..shards).for_each(|shard| {
            story.tick(shard);
        });
    }
    for round in 0..12 {
        let count = bystanders.len();
        let (socket, decoder) = &mut bystanders[round % count];
        let payload = [b'a' + round as u8; 20];
        story.send(*socket, TEXT, &payload);
        let mut ticks = 0;
        loop {
            greedy.step(story);
            let before: Vec<_> =
                greedy.sockets.iter().map(|&socket| story.consumed(socket)).collect();
            for shard in 0..shards {
                story.tick(shard);
            }
            for (&socket, before) in greedy.sockets.iter().zip(before) {
                let taken = story.consumed(socket) - before;
                assert!(taken <= share as u64, "{taken} bytes of one peer in a tick");
            }
            ticks += 1;
            let items = story.read(*socket, decoder);
            if !items.is_empty() {
                assert_eq!(items, [Item::Message { opcode: TEXT, payload: payload.to_vec() }]);
                break;
            }
            assert!(ticks < most, "a bystander waits for {ticks} ticks");
        }
    }
}

fn repeated(frame: &[u8], bytes: usize) -> Vec<u8> {
    frame.repeat(bytes / frame.len() + 1)
}

#[test]
fn echoes_in_bulk_do_not_hold_up_others() {
    for count in [1, 8, 64] {
        let mut story = story(1);
        let frame = frames::frame(&mut story.rng, true, BINARY, &[b'x'; 1000]);
        let mut greedy =
            Greedy::new(&mut story, count, |_| "/echo".to_owned(), repeated(&frame, 60_000));
        check(&mut story, &mut greedy);
    }
}

#[test]
fn tiny_frames_do_not_hold_up_others() {
    for (count, path) in [1, 8, 64].into_iter().flat_map(|count| [(count, "/echo"), (count, "/")]) {
        let mut story = story(1);
        let frame = frames::frame(&mut story.rng, true, BINARY, b"");
        let mut greedy =
            Greedy::new(&mut story, count, |_| path.to_owned(), repeated(&frame, 60_000));
        check(&mut story, &mut greedy);
    }
}

#[test]
fn publishers_do_not_hold_up_others() {
    for (count, shards) in [1, 8, 64].into_iter().flat_map(|count| [(count, 1), (count, 2)]) {
        let mut story = story(shards);
        let frame = frames::frame(&mut story.rng, true, BINARY, b"");
        let alone = |number| format!("/broadcast/{number}?exclude_self=true");
        let mut greedy = Greedy::new(&mut story, count, alone, repeated(&frame, 60_000));
        check(&mut story, &mut greedy);
        assert_eq!(story.counter("ring_full"), 0, "nobody else wants what they publish");
    }
}

#[test]
fn publishers_to_others_do_not_hold_up_others() {
    for count in [1, 8, 64] {
        let mut story = story(2);
        let (reader, mut decoder) = story.open(1, "/broadcast/a");
        let frame = frames::frame(&mut story.rng, true, BINARY, &[b'x'; 100]);
        let path = |_| "/broadcast/a?exclude_self=true".to_owned();
        let mut greedy = Greedy::new(&mut story, count, path, repeated(&frame, 60_000));
        check(&mut story, &mut greedy);
        assert!(!story.read(reader, &mut decoder).is_empty());
    }
}

#[test]
fn whoever_never_reads_does_not_hold_up_others() {
    for count in [1, 8, 64] {
        let mut story = story(1);
        let frame = frames::frame(&mut story.rng, true, BINARY, &[b'x'; 1000]);
        let mut greedy =
            Greedy::new(&mut story, count, |_| "/echo".to_owned(), repeated(&frame, 60_000));
        greedy.reads = false;
        check(&mut story, &mut greedy);
    }
}

/// A message that inflates for long goes on in later ticks, and so do several.
#[test]
fn messages_that_inflate_for_long_do_not_hold_up_others() {
    for count in [1, 8] {
        let mut story = Story::new(1, |config, _| {
            config.compression.mode = CompressionMode::Shared;
            config.limits.message_bytes = 1 << 20;
            config.limits.backlog_bytes = 4 << 20;
        });
        let greedy: Vec<_> =
            (0..count).map(|_| story.open_with_offer(0, "/echo", "permessage-deflate")).collect();
        let (bystander, mut decoder) = story.open(0, "/echo");
        for (socket, _) in &greedy {
            let packed = frames::deflated(&[b'x'; LARGE]);
            let mut frame = frames::frame(&mut story.rng, true, BINARY, &packed);
            frame[0] |= frames::RSV1;
            story.write(*socket, &frame);
        }
        for _ in 0..50 {
            story.send(bystander, TEXT, b"soon");
            let ticks = (1..).find(|_| {
                story.tick(0);
                !story.read(bystander, &mut decoder).is_empty()
            });
            assert!(ticks <= Some(TICKS_MOST), "a bystander waits for {ticks:?} ticks");
        }
        assert!(story.counter("turns_deferred") > 0, "the messages take several ticks");
        for (socket, mut decoder) in greedy {
            let mut items = Vec::new();
            while items.is_empty() {
                items = story.read_all(0, socket, &mut decoder);
            }
            let payload = vec![b'x'; LARGE];
            assert!(items == [Item::Message { opcode: BINARY, payload }], "it comes back");
        }
    }
}

/// Bursts that are much more than what may wait, to a subscriber that reads all the time through a
/// narrow socket.
#[test]
fn nobody_who_reads_loses_anything() {
    let policies = [
        SlowConsumer::Disconnect,
        SlowConsumer::DropNewest,
        SlowConsumer::DropOldest,
        SlowConsumer::Latest,
    ];
    for policy in policies {
        for (shards, compresses) in [(1, false), (2, false), (5, false), (1, true), (2, true)] {
            let mut story = Story::new(shards, |config, _| {
                config.slow_consumer = policy;
                config.limits.backlog_bytes = 4096;
                config.engine.broadcast_ring_slots = 64;
                if compresses {
                    config.compression.mode = CompressionMode::Shared;
                    config.compression.threshold_bytes = 0;
                }
            });
            let shard = shards - 1;
            let (subscriber, mut decoder) = match compresses {
                true => story.open_with_offer(shard, "/broadcast/a", "permessage-deflate"),
                false => story.open(shard, "/broadcast/a"),
            };
            let mut publishers: Vec<_> = (0..shards)
                .map(|shard| story.open(shard, "/broadcast/a?exclude_self=true"))
                .collect();
            let mut received = Vec::new();
            let mut sent = Vec::new();
            for turn in 0..2 * shards {
                let publisher = publishers[turn % shards].0;
                for number in 0..60_u8 {
                    let payload = vec![number.wrapping_mul(turn as u8 + 3); 1000];
                    story.send(publisher, BINARY, &payload);
                    sent.push(payload);
                }
                // It reads in each tick, and is far behind all the same.
                for _ in 0..100 {
                    (0..shards).for_each(|shard| {
                        story.tick(shard);
                    });
                    received.extend(story.read(subscriber, &mut decoder));
                    for (publisher, decoder) in &mut publishers {
                        story.read(*publisher, decoder);
                    }
                }
                story.pass(Duration::from_millis(300));
                for _ in 0..10 {
                    for _ in 0..100 {
                        (0..shards).for_each(|shard| {
                            story.tick(shard);
                        });
                    }
                    received.extend(story.read_all(shard, subscriber, &mut decoder));
                }
            }
            let is_close = |item: &Item| matches!(item, Item::Control { opcode: CLOSE, .. });
            let close = received.iter().find(|item| is_close(item));
            assert_eq!(
                close,
                None,
                "{policy:?} with {shards}, {compresses}: cut off, {} of {}",
                received.len(),
                sent.len()
            );
            assert_eq!(received.len(), sent.len(), "{policy:?} with {shards}, {compresses}");
        }
    }
}
