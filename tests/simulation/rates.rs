//! Connections that send more than they may: they wait, or are closed, and lose nothing.

use std::time::Duration;

use fastrand::Rng;
use ringwire::config::{Config, Limits, OnRate};
use ringwire::identity::Trust;
use ringwire::shard::Shard;
use ringwire::shard::pause::WaitsFor;

use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, CLOSE, PING, PONG, TEXT};
use crate::kernel::Kernel;
use crate::network::SocketId;
use crate::story::Story;

/// Draws rates for the server.
pub fn settings(rng: &mut Rng, config: &mut Config) {
    if rng.u8(..4) > 0 {
        return;
    }
    let limits = &mut config.limits;
    if rng.u8(..3) > 0 {
        limits.message_rate = Some(rng.u32(1..100));
    }
    if rng.u8(..3) > 0 {
        limits.byte_rate = Some(rng.u64(1024..32 << 10));
    }
    if rng.bool() {
        limits.topic_rate = Some(rng.u32(2..100));
    }
}

/// Whether a connection waits for the moment at which it may send more.
pub fn is_waiting(shard: &Shard<Kernel>) -> bool {
    shard.connections().iter().any(|(_, it)| it.waits_for == Some(WaitsFor::Rate))
}

fn story(shards: usize, change: impl FnOnce(&mut Limits)) -> Story {
    Story::new(shards, |config, chaos| {
        config.limits.backlog_bytes = 1 << 20;
        config.limits.ping_interval = None;
        change(&mut config.limits);
        chaos.slots = 64;
    })
}

/// Messages that come by the end of each tenth of a second.
fn echoes(story: &mut Story, (socket, decoder): &mut (SocketId, Decoder), tenths: u32) -> Vec<u32> {
    let mut counts = Vec::new();
    for _ in 0..tenths {
        story.pass(Duration::from_millis(100));
        let mut count = 0;
        // What is on its way to the client may be no more than some of it.
        for _ in 0..5 {
            (0..story.shards.len()).for_each(|shard| story.settle(shard));
            let items = story.read(*socket, decoder);
            count += items.iter().filter(|item| matches!(item, Item::Message { .. })).count();
        }
        counts.push(count as u32);
    }
    counts
}

fn assert_no_second_has_more(counts: &[u32], most: u32) {
    for (first, _) in counts.iter().enumerate() {
        let mut sum = 0;
        for (tenths, count) in counts[first..].iter().enumerate() {
            sum += count;
            let allowed = most + most * tenths as u32 / 10 + 1;
            assert!(sum <= allowed, "{sum} messages in {tenths} tenths, {allowed} are allowed");
        }
    }
}

fn close_code(items: &[Item]) -> Option<u16> {
    items.iter().find_map(|item| match item {
        Item::Control { opcode: CLOSE, payload } => {
            payload.first_chunk().map(|code| u16::from_be_bytes(*code))
        }
        _ => None,
    })
}

#[test]
fn whoever_sends_more_messages_than_it_may_gets_all_of_them_back_in_time() {
    for (path, bytes) in [("/echo", 5), ("/echo", 600), ("/broadcast/rates", 5)] {
        let mut story = story(1, |limits| limits.message_rate = Some(20));
        let mut peer = story.open(0, path);
        let payload = vec![b'x'; bytes];
        (0..100).for_each(|_| story.send(peer.0, TEXT, &payload));
        let counts = echoes(&mut story, &mut peer, 45);
        assert_eq!(counts[0], 20, "a second's worth at once");
        assert_no_second_has_more(&counts, 20);
        assert_eq!(counts.iter().sum::<u32>(), 100, "nothing is lost");
        assert!(story.counter("rate_pauses") > 0);
    }
}

#[test]
fn bytes_are_limited_as_well_and_what_is_begun_is_owed() {
    let mut story = story(1, |limits| limits.byte_rate = Some(4096));
    let mut peer = story.open(0, "/echo");
    story.pass(Duration::from_secs(2));
    // A frame has a header of eight bytes.
    (0..40).for_each(|_| story.send(peer.0, BINARY, &[7; 504]));
    let counts = echoes(&mut story, &mut peer, 50);
    assert_eq!(counts.iter().sum::<u32>(), 40);
    // It is read by buffers of eight messages, and each is taken whole.
    assert!((8..=9).contains(&counts[0]), "{counts:?}");
    assert!(counts[..30].iter().sum::<u32>() < 40, "{counts:?}");
}

#[test]
fn a_ping_waits_no_longer_than_a_message_would_and_a_close_is_answered() {
    let mut story = story(1, |limits| limits.message_rate = Some(1));
    let (socket, mut decoder) = story.open(0, "/echo");
    (0..3).for_each(|_| story.send(socket, TEXT, b"x"));
    story.send(socket, PING, b"p");
    let close = frames::frame(&mut story.rng, true, CLOSE, &1000_u16.to_be_bytes());
    story.write(socket, &close);
    story.pass(Duration::from_secs(4));
    let items = story.read_all(0, socket, &mut decoder);
    let pong = Item::Control { opcode: PONG, payload: b"p".to_vec() };
    assert!(items.contains(&pong), "{items:?}");
    assert_eq!(close_code(&items), Some(1000));
}

#[test]
fn whoever_waits_is_not_idle_and_is_closed_when_the_server_stops() {
    let mut story = story(1, |limits| {
        limits.byte_rate = Some(1024);
        limits.idle_timeout = Some(Duration::from_secs(1));
        limits.message_idle_timeout = Some(Duration::from_secs(1));
    });
    let (socket, mut decoder) = story.open(0, "/echo");
    story.send(socket, BINARY, &[7; 4000]);
    story.settle(0);
    // What is behind waits for three seconds.
    story.send(socket, BINARY, &[8; 1000]);
    story.pass(Duration::from_secs(2));
    assert!(is_waiting(&story.shards[0]));
    let items = story.read_all(0, socket, &mut decoder);
    assert_eq!(close_code(&items), None, "{items:?}");
    story.drain();
    story.settle(0);
    let code = (0..110).find_map(|_| {
        story.pass(Duration::from_millis(100));
        close_code(&story.read(socket, &mut decoder))
    });
    assert_eq!(code, Some(1001));
}

#[test]
fn whoever_is_to_be_closed_for_it_gets_1008_and_no_more_than_its_share() {
    for (messages, code) in [(5, None), (6, Some(1008))] {
        let mut story = story(1, |limits| {
            limits.message_rate = Some(5);
            limits.on_rate = OnRate::Close;
        });
        let (socket, mut decoder) = story.open(0, "/echo");
        (0..messages).for_each(|_| story.send(socket, TEXT, b"xyz"));
        story.send(socket, PING, b"");
        let items = story.read_all(0, socket, &mut decoder);
        assert_eq!(close_code(&items), code, "{items:?}");
        assert_eq!(story.counter("rate_closes"), u64::from(code.is_some()));
        assert_eq!(story.counter("rate_pauses"), 0);
    }
}

#[test]
fn what_was_sent_counts_on_with_another_shard() {
    let mut story = story(2, |limits| limits.message_rate = Some(10));
    let mut peer = story.open(0, "/echo");
    (0..40).for_each(|_| story.send(peer.0, TEXT, b"x"));
    let mut counts = echoes(&mut story, &mut peer, 3);
    let key = story.shards[0].connections().keys()[0];
    assert!(story.shards[0].move_to(key, 1));
    counts.extend(echoes(&mut story, &mut peer, 35));
    assert_eq!(story.counter("connections_moved"), 1);
    assert_no_second_has_more(&counts, 10);
    assert_eq!(counts.iter().sum::<u32>(), 40);
}

#[test]
fn other_rates_hold_at_once_for_those_who_wait() {
    let mut story = story(1, |limits| limits.message_rate = Some(1));
    let mut peer = story.open(0, "/echo");
    (0..100).for_each(|_| story.send(peer.0, TEXT, b"x"));
    assert_eq!(echoes(&mut story, &mut peer, 1), [1]);
    let mut config = story.shared.in_force.current().config.clone();
    config.limits.message_rate = None;
    story.shared.in_force.replace(config, Trust::default(), None);
    assert_eq!(echoes(&mut story, &mut peer, 1), [99]);
}

/// What each of the members that publish has got through by the end of each tenth of a second, as
/// one that only reads sees it.
fn heard(story: &mut Story, reader: &mut (SocketId, Decoder), tenths: u32) -> Vec<[u32; 2]> {
    let mut counts = Vec::new();
    for _ in 0..tenths {
        story.pass(Duration::from_millis(100));
        let mut count = [0; 2];
        for _ in 0..5 {
            (0..story.shards.len()).for_each(|shard| story.settle(shard));
            for item in story.read(reader.0, &mut reader.1) {
                if let Item::Message { payload, .. } = item {
                    count[usize::from(payload[0] - b'0')] += 1;
                }
            }
        }
        counts.push(count);
    }
    counts
}

#[test]
fn a_topic_gets_no_more_than_it_may_of_all_shards_together_and_of_each_member_its_share() {
    let mut story = story(2, |limits| limits.topic_rate = Some(20));
    let mut reader = story.open(0, "/broadcast/0?exclude_self=true");
    let busy = story.open(0, "/broadcast/0?exclude_self=true");
    let calm = story.open(1, "/broadcast/0?exclude_self=true");
    (0..150).for_each(|_| story.send(busy.0, TEXT, b"0"));
    let mut counts = heard(&mut story, &mut reader, 5);
    assert!(counts.iter().map(|count| count[0]).sum::<u32>() >= 20, "{counts:?}");
    // Whoever comes later, with less to say, waits for its turn and not until the first has ended.
    (0..20).for_each(|_| story.send(calm.0, TEXT, b"1"));
    let of_both = heard(&mut story, &mut reader, 20);
    let sum = |counts: &[[u32; 2]], member: usize| -> u32 {
        counts.iter().map(|count| count[member]).sum()
    };
    assert!(sum(&of_both, 1) >= 15 && sum(&of_both, 0) >= 15, "{of_both:?}");
    counts.extend(of_both);
    counts.extend(heard(&mut story, &mut reader, 70));
    let totals: Vec<u32> = counts.iter().map(|count| count[0] + count[1]).collect();
    assert_no_second_has_more(&totals, 20);
    assert_eq!((sum(&counts, 0), sum(&counts, 1)), (150, 20), "nothing is lost");
    assert!(story.counter("topic_rate_pauses") > 0 && story.counter("rate_pauses") == 0);
    assert_eq!(story.shared.admission.waiting_to_publish(), 0);
}

#[test]
fn what_comes_with_an_upgrade_counts_for_the_topic_and_what_is_posted_too_often_gets_429() {
    let mut story = story(1, |limits| limits.topic_rate = Some(3));
    let mut reader = story.open(0, "/broadcast/0");
    let socket = story.connect(0);
    let mut bytes = frames::upgrade(&mut story.rng, "/broadcast/0");
    (0..9).for_each(|_| bytes.extend(frames::frame(&mut story.rng, true, TEXT, b"0")));
    story.write(socket, &bytes);
    assert_eq!(heard(&mut story, &mut reader, 1), [[3, 0]]);
    let (poster, mut answers) = (story.connect(0), Decoder::default());
    for status in [429, 202] {
        let post = frames::post(&mut story.rng, 0, &(1, b"1".to_vec()));
        story.write(poster, &post);
        story.settle(0);
        let closes = false;
        assert_eq!(story.read(poster, &mut answers), [Item::Response { status, closes }]);
        // All that waits has gone by then.
        story.pass(Duration::from_secs(4));
    }
    assert_eq!(story.refused("topic_rate"), 1);
}

/// Those who wait take their places along to no other shard, and leave none behind.
#[test]
fn whoever_moves_or_ends_or_meets_another_rate_waits_no_longer_where_it_did() {
    let mut story = story(2, |limits| limits.topic_rate = Some(1));
    let mut reader = story.open(1, "/broadcast/0?exclude_self=true");
    let [moves, ends, stays] = [0; 3].map(|shard| story.open(shard, "/broadcast/0").0);
    for socket in [moves, ends, stays] {
        (0..3).for_each(|_| story.send(socket, TEXT, b"0"));
    }
    assert_eq!(heard(&mut story, &mut reader, 1), [[1, 0]]);
    assert_eq!(story.shared.admission.waiting_to_publish(), 3);
    let keys = story.shards[0].connections().keys();
    story.reset(ends);
    assert!(story.shards[0].move_to(keys[0], 1));
    heard(&mut story, &mut reader, 3);
    assert_eq!(story.counter("connections_moved"), 1);
    // Of one that is not read from, nobody knows that its peer is gone.
    assert_eq!(story.shared.admission.waiting_to_publish(), 3);
    let mut config = story.shared.in_force.current().config.clone();
    config.limits.topic_rate = None;
    story.shared.in_force.replace(config, Trust::default(), None);
    let counts = heard(&mut story, &mut reader, 3);
    assert!(counts.iter().map(|count| count[0]).sum::<u32>() >= 5, "{counts:?}");
    assert_eq!(story.shared.admission.waiting_to_publish(), 0);
}

/// A long message that comes in many pieces takes its turn once, whatever others publish.
#[test]
fn what_has_begun_goes_on_however_much_is_published() {
    let mut story = story(1, |limits| limits.topic_rate = Some(2));
    let mut reader = story.open(0, "/broadcast/0?exclude_self=true");
    let [long, busy] = [0; 2].map(|shard| story.open(shard, "/broadcast/0").0);
    let message = frames::frame(&mut story.rng, true, TEXT, &[b"1", &[b'x'; 5000][..]].concat());
    let (head, rest) = message.split_at(100);
    story.write(long, head);
    story.settle(0);
    (0..20).for_each(|_| story.send(busy, TEXT, b"0"));
    assert_eq!(heard(&mut story, &mut reader, 1), [[1, 0]]);
    for piece in rest.chunks(500) {
        story.write(long, piece);
        story.settle(0);
    }
    assert_eq!(heard(&mut story, &mut reader, 1)[0][1], 1);
}
