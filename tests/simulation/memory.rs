//! Short memory as a shard sees it: who is refused, who goes, who waits, and that all goes on
//! afterwards.

use fastrand::Rng;
use ringwire::memory::Usage;

use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, CLOSE, TEXT};
use crate::network::SocketId;
use crate::story::Story;

fn story() -> Story {
    Story::new(1, |config, _| config.limits.message_bytes = 1 << 20)
}

/// A story with somebody who holds 90,000 bytes, and with somebody else on the same route.
fn story_with_holder() -> (Story, SocketId, Decoder) {
    let mut story = story();
    let (holder, _) = story.open(0, "/echo");
    let (other, decoder) = story.open(0, "/echo");
    begin_message(&mut story, holder, 90_000);
    (story, other, decoder)
}

fn tell(story: &mut Story, used_bytes: u64) {
    story.shared.memory.tell(Usage { used_bytes, limit_bytes: 1_000_000 });
    story.settle(0);
}

fn text(payload: &[u8]) -> Item {
    Item::Message { opcode: TEXT, payload: payload.to_vec() }
}

/// Sends the beginning of a text message, which the server has to keep.
fn begin_message(story: &mut Story, socket: SocketId, bytes: usize) {
    let frame = frames::frame(&mut story.rng, false, TEXT, &vec![b'x'; bytes]);
    for part in frame.chunks(4096) {
        story.write(socket, part);
        story.settle(0);
    }
}

fn closed_as_short(items: &[Item]) -> bool {
    items.iter().any(|item| {
        matches!(item, Item::Control { opcode: CLOSE, payload } if payload[..2] == [0x03, 0xf5])
    })
}

#[test]
fn upgrades_are_refused_and_those_who_are_here_are_served() {
    let mut story = story();
    let (open, mut decoder) = story.open(0, "/echo");
    tell(&mut story, 850_000);
    let refused = story.connect(0);
    let upgrade = frames::upgrade(&mut story.rng, "/echo");
    story.write(refused, &upgrade);
    story.settle(0);
    let answer = story.read(refused, &mut Decoder::default());
    assert_eq!(answer, [Item::Response { status: 503, closes: true }]);
    assert_eq!(story.shared.stats.to_json()["connections_refused"]["short_of_memory"], 1);
    story.send(open, TEXT, b"served");
    story.settle(0);
    assert_eq!(story.read(open, &mut decoder), [text(b"served")]);
    tell(&mut story, 100_000);
    story.open(0, "/echo");
}

#[test]
fn those_who_hold_the_most_go_first_and_no_more_than_needed() {
    let mut story = story();
    let (small, mut small_decoder) = story.open(0, "/echo");
    let (large, mut large_decoder) = story.open(0, "/echo");
    let (tiny, mut tiny_decoder) = story.open(0, "/echo");
    begin_message(&mut story, small, 30_000);
    begin_message(&mut story, large, 90_000);
    begin_message(&mut story, tiny, 1000);
    tell(&mut story, 950_000);
    assert!(closed_as_short(&story.read(large, &mut large_decoder)));
    assert_eq!(story.counter("connections_shed"), 1);
    assert_eq!(story.shared.stats.to_json()["closes"]["local"]["1013"], 1);
    assert!(story.read(small, &mut small_decoder).is_empty());
    tell(&mut story, 950_000);
    assert!(closed_as_short(&story.read(small, &mut small_decoder)));
    tell(&mut story, 950_000);
    assert_eq!(story.counter("connections_shed"), 2, "a thousand bytes are not worth it");
    assert!(story.read(tiny, &mut tiny_decoder).is_empty());
}

#[test]
fn many_who_hold_little_go_when_together_they_hold_too_much() {
    let mut story = story();
    for _ in 0..20 {
        let (socket, _) = story.open(0, "/echo");
        begin_message(&mut story, socket, 4000);
    }
    tell(&mut story, 950_000);
    assert_eq!(story.counter("connections_shed"), 13, "they hold the 50,000 bytes too many");
}

#[test]
fn input_that_waits_for_memory_makes_nobody_a_holder() {
    let (mut story, reader, mut decoder) = story_with_holder();
    let frame = frames::frame(&mut story.rng, true, BINARY, &[b'x'; 6000]);
    story.write(reader, &frame[..3000]);
    story.settle(0);
    assert!(story.read(reader, &mut decoder).is_empty(), "half a frame");
    tell(&mut story, 960_000);
    story.write(reader, &frame[3000..]);
    story.settle(0);
    tell(&mut story, 960_000);
    let echo = Item::Message { opcode: BINARY, payload: vec![b'x'; 6000] };
    assert_eq!(story.read_all(0, reader, &mut decoder), [echo]);
    assert_eq!(story.counter("connections_shed"), 1, "the holder alone");
}

#[test]
fn messages_wait_while_somebody_holds_much_and_no_longer() {
    let (mut story, other, mut decoder) = story_with_holder();
    tell(&mut story, 999_000);
    story.send(other, TEXT, b"waits");
    story.settle(0);
    assert!(story.read(other, &mut decoder).is_empty());
    // Nobody is left who holds anything, so waiting would not help.
    tell(&mut story, 999_000);
    assert_eq!(story.read_all(0, other, &mut decoder), [text(b"waits")]);
    story.send(other, TEXT, b"goes on");
    assert_eq!(story.read_all(0, other, &mut decoder), [text(b"goes on")]);
}

#[test]
fn a_message_that_had_begun_waits_as_well_and_is_echoed_whole() {
    let (mut story, other, mut decoder) = story_with_holder();
    begin_message(&mut story, other, 1000);
    tell(&mut story, 999_000);
    let rest = frames::frame(&mut story.rng, true, 0, b"end");
    let next = frames::frame(&mut story.rng, true, TEXT, b"next");
    story.write(other, &[rest, next].concat());
    assert!(story.read_all(0, other, &mut decoder).is_empty());
    tell(&mut story, 100_000);
    let whole = [&[b'x'; 1000][..], b"end"].concat();
    assert_eq!(story.read_all(0, other, &mut decoder), [text(&whole), text(b"next")]);
}

#[test]
fn whoever_does_not_read_is_reset_when_being_told_did_not_help() {
    let mut story = story();
    let (socket, _) = story.open(0, "/echo");
    // More than fits between server and client, in one frame that is under way.
    story.write(socket, &frames::frame(&mut fastrand::Rng::new(), true, TEXT, &[b'x'; 100_000]));
    story.settle(0);
    tell(&mut story, 960_000);
    assert_eq!(story.counter("connections_shed"), 1);
    assert_eq!(story.counter("connections_open"), 1, "the frame under way may still leave");
    tell(&mut story, 960_000);
    assert_eq!(story.counter("connections_open"), 0);
}

#[test]
fn a_frame_that_is_reflected_is_not_cut_short_by_a_close() {
    let mut story = story();
    let (socket, mut decoder) = story.open(0, "/echo");
    let frame = frames::frame(&mut story.rng, true, BINARY, &[b'x'; 200_000]);
    // Half of it comes back as far as there is room; the rest of that half waits in memory.
    for part in frame[..100_000].chunks(4096) {
        story.write(socket, part);
        story.settle(0);
    }
    tell(&mut story, 960_000);
    assert!(!closed_as_short(&story.read_all(0, socket, &mut decoder)));
    assert_eq!(story.counter("connections_open"), 0);
}

/// A client that sends small messages, cut anywhere, and reads now and then.
struct Sender {
    socket: SocketId,
    decoder: Decoder,
    unsent: Vec<u8>,
    expected: Vec<Item>,
    read: Vec<Item>,
}

impl Sender {
    fn open(story: &mut Story) -> Self {
        let (socket, decoder) = story.open(0, "/echo");
        let (mut unsent, mut expected) = (Vec::new(), Vec::new());
        for number in 0..10 {
            let opcode = if story.rng.bool() { TEXT } else { BINARY };
            let payload = vec![b'a' + number; story.rng.usize(..400)];
            let (begin, rest) = payload.split_at(story.rng.usize(..=payload.len()));
            unsent.extend(frames::frame(&mut story.rng, false, opcode, begin));
            unsent.extend(frames::frame(&mut story.rng, true, 0, rest));
            expected.push(Item::Message { opcode, payload });
        }
        Self { socket, decoder, unsent, expected, read: Vec::new() }
    }
}

#[test]
fn whoever_holds_little_loses_nothing_however_memory_changes() {
    for seed in 0..100 {
        let mut story = story();
        story.rng = Rng::with_seed(seed);
        let mut senders: Vec<_> = (0..4).map(|_| Sender::open(&mut story)).collect();
        let mut used_bytes = 0;
        while senders.iter().any(|sender| !sender.unsent.is_empty()) {
            let sender = &mut senders[story.rng.usize(..4)];
            match story.rng.u8(..8) {
                0 if used_bytes == 0 && story.counter("connections_open") < 20 => {
                    // One holds all that is to be given back, so nobody else has to go.
                    let (holder, _) = story.open(0, "/echo");
                    begin_message(&mut story, holder, 60_000);
                    used_bytes = 950_000;
                    story.shared.memory.tell(Usage { used_bytes, limit_bytes: 1_000_000 });
                }
                0 | 1 => {
                    used_bytes = [0, 870_000][story.rng.usize(..2)];
                    story.shared.memory.tell(Usage { used_bytes, limit_bytes: 1_000_000 });
                }
                2 => {
                    sender.read.extend(story.read(sender.socket, &mut sender.decoder));
                }
                3..6 => {
                    let bytes = story.rng.usize(..=sender.unsent.len().min(300));
                    let part: Vec<_> = sender.unsent.drain(..bytes).collect();
                    story.write(sender.socket, &part);
                }
                _ => {
                    story.tick(0);
                }
            }
        }
        tell(&mut story, 0);
        for sender in &mut senders {
            sender.read.extend(story.read_all(0, sender.socket, &mut sender.decoder));
            assert!(sender.read == sender.expected, "seed {seed}");
        }
    }
}
