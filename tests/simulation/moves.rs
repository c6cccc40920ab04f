//! Connections that go on with another shard: the crossings that chance rarely brings about, and
//! what travels along.

use std::time::Duration;

use ringwire::config::CompressionMode;
use ringwire::io::Key;
use ringwire::wire::message::{DataMessage, MessageKind};

use crate::contract::Kind;
use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, CLOSE, PING, PONG, TEXT};
use crate::story::Story;

/// The connections that a shard has.
fn keys(story: &Story, shard: usize) -> Vec<Key> {
    story.shards[shard].connections().keys()
}

fn settle(story: &mut Story) {
    for _ in 0..50 {
        for shard in 0..story.shards.len() {
            story.tick(shard);
        }
    }
}

/// All fill the inboxes of the others, again and again. Whoever needed a place for its answer only
/// when it answers would wait for the other to read, and the other for it.
#[test]
fn shards_that_fill_each_others_inboxes_still_answer() {
    const SHARDS: usize = 3;
    let mut story = Story::new(SHARDS, |_, _| ());
    let mut peers = Vec::new();
    for number in 0..24 {
        peers.push(story.open(number % SHARDS, "/echo"));
    }
    let mut before = 0;
    for round in 0..1000 {
        for shard in 0..SHARDS {
            for (number, key) in keys(&story, shard).into_iter().enumerate() {
                let to = (shard + 1 + (number + round) % (SHARDS - 1)) % SHARDS;
                let _ = story.shards[shard].move_to(key, to);
            }
            story.tick(shard);
        }
        if round % 50 == 49 {
            let moved = story.counter("connections_moved");
            assert!(moved > before, "nothing moves any more in round {round}");
            before = moved;
        }
    }
    settle(&mut story);
    assert_eq!((story.counter("websockets_open"), story.counter("connections_open")), (24, 24));
    for (socket, decoder) in &mut peers {
        story.send(*socket, BINARY, b"still here");
        settle(&mut story);
        let echo = Item::Message { opcode: BINARY, payload: b"still here".to_vec() };
        assert_eq!(story.read(*socket, decoder), [echo]);
    }
}

#[test]
fn half_a_message_and_the_end_of_its_life_go_along() {
    let mut story = Story::new(2, |config, _| {
        config.limits.lifetime = Some(Duration::from_secs(10));
    });
    let (socket, mut decoder) = story.open(0, "/echo");
    let frame = frames::frame(&mut story.rng, true, BINARY, b"in two parts");
    // A header is not passed on before something follows it.
    let (first, rest) = frame.split_at(3);
    story.write(socket, first);
    story.pass(Duration::from_secs(6));
    let key = keys(&story, 0)[0];
    assert!(story.shards[0].move_to(key, 1));
    story.write(socket, rest);
    settle(&mut story);
    assert_eq!((keys(&story, 0).len(), keys(&story, 1).len()), (0, 1));
    let echo = Item::Message { opcode: BINARY, payload: b"in two parts".to_vec() };
    assert_eq!(story.read(socket, &mut decoder), [echo]);
    story.pass(Duration::from_secs(3));
    assert_eq!(story.read(socket, &mut decoder), []);
    story.pass(Duration::from_secs(2));
    let items = story.read(socket, &mut decoder);
    assert!(matches!(&items[..], [Item::Control { opcode: CLOSE, .. }]), "{items:?}");
}

/// Begins to move the only connection of a shard.
fn begin_move(story: &mut Story, from: usize, to: usize) {
    let key = keys(story, from)[0];
    assert!(story.shards[from].move_to(key, to), "it may move");
}

/// Moves it.
fn move_only(story: &mut Story, from: usize, to: usize) {
    begin_move(story, from, to);
    settle(story);
    assert_eq!((keys(story, from).len(), keys(story, to).len()), (0, 1));
}

/// A page and a message to publish, cut anywhere: the answers are the same.
#[test]
fn requests_go_along_wherever_they_are_cut() {
    const REQUESTS: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n\
        POST /broadcast/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let mut story = Story::new(3, |_, _| ());
    let (member, mut reads) = story.open(2, "/broadcast/a");
    for cut in (0..REQUESTS.len()).step_by(5) {
        let (socket, mut decoder) = (story.connect(0), Decoder::default());
        [false, false].into_iter().for_each(|head| decoder.expect_response(head));
        let (first, rest) = REQUESTS.split_at(cut);
        story.write(socket, first);
        settle(&mut story);
        move_only(&mut story, 0, 1);
        story.write(socket, rest);
        settle(&mut story);
        let kept = story.counter("plain_kept_alive");
        assert_eq!(kept, 1, "it is kept for further requests on one shard");
        let answers = [200, 202].map(|status| Item::Response { status, closes: false });
        assert_eq!(story.read(socket, &mut decoder), answers, "cut at {cut}");
        let hello = Item::Message { opcode: BINARY, payload: b"hello".to_vec() };
        assert_eq!(story.read(member, &mut reads), [hello]);
        story.reset(socket);
        settle(&mut story);
    }
}

#[test]
fn a_request_has_no_more_time_because_it_moves() {
    let mut story = Story::new(2, |config, _| {
        config.limits.handshake_timeout = Duration::from_secs(10);
    });
    let (socket, mut decoder) = (story.connect(0), Decoder::default());
    story.write(socket, b"GET / HTTP/1.1\r\nHost:");
    story.pass(Duration::from_secs(6));
    move_only(&mut story, 0, 1);
    story.pass(Duration::from_secs(3));
    assert_eq!(story.read(socket, &mut decoder), []);
    story.pass(Duration::from_secs(2));
    let timeout = Item::Response { status: 408, closes: true };
    assert_eq!(story.read(socket, &mut decoder), [timeout]);
}

/// The ring is full, so what is posted waits. Where it goes on nobody overtakes it, and it overtakes
/// nobody: not even what its own shard has published for it before.
#[test]
fn a_message_that_waits_to_be_published_keeps_its_place() {
    let mut story = Story::new(3, |_, _| ());
    let mut members = [1, 2].map(|shard| story.open(shard, "/broadcast/a"));
    let (socket, mut decoder) = (story.connect(0), Decoder::default());
    let mut expected = Vec::new();
    for number in b'0'..b'8' {
        let head = "POST /broadcast/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
        story.write(socket, &[head.as_bytes(), &[number]].concat());
        expected.push(Item::Message { opcode: BINARY, payload: vec![number] });
        story.tick(0);
        story.tick(0);
    }
    assert!(story.read(socket, &mut decoder).len() < 8, "the ring takes no more");
    begin_move(&mut story, 0, 1);
    for _ in 0..10 {
        // Shard 2 reads last of all.
        story.tick(0);
        story.tick(1);
    }
    assert_eq!(keys(&story, 0).len(), 1, "it leaves when all have read what it has published");
    settle(&mut story);
    assert_eq!(keys(&story, 0).len(), 0);
    for (socket, decoder) in &mut members {
        assert_eq!(story.read(*socket, decoder), expected);
    }
}

#[test]
fn half_a_frame_that_is_sent_back_goes_on_and_so_does_the_close_behind_it() {
    let mut story = Story::new(2, |config, _| {
        config.limits.lifetime = Some(Duration::from_secs(10));
    });
    let (socket, mut decoder) = story.open(0, "/echo");
    let frame = frames::frame(&mut story.rng, true, BINARY, &[7; 100]);
    story.write(socket, &frame[..50]);
    story.settle(0);
    move_only(&mut story, 0, 1);
    story.write(socket, &frame[50..60]);
    story.pass(Duration::from_secs(11));
    // Its close waits for the end of the frame.
    move_only(&mut story, 1, 0);
    story.write(socket, &frame[60..]);
    settle(&mut story);
    let items = story.read(socket, &mut decoder);
    let echo = Item::Message { opcode: BINARY, payload: vec![7; 100] };
    assert!(matches!(&items[..], [first, Item::Control { opcode: CLOSE, .. }] if *first == echo));
    // It is moved once more while it waits for the answer.
    move_only(&mut story, 0, 1);
    story.send(socket, CLOSE, &1001_u16.to_be_bytes());
    story.network.borrow_mut().sockets[socket].client_finish();
    settle(&mut story);
    assert_eq!((keys(&story, 1).len(), story.counter("websockets_open")), (0, 0));
    assert_eq!(story.shared.stats.to_json()["closes"]["local"]["1001"], 1);
}

/// A peer that reads little has some of it in its send, which has to end before, and some behind.
#[test]
fn what_is_queued_goes_along_in_its_order() {
    let mut story = Story::new(2, |config, _| config.limits.backlog_bytes = 1 << 20);
    let (socket, mut decoder) = story.open(0, "/echo");
    let mut expected = Vec::new();
    for number in 0..40 {
        let payload = vec![number; 1000];
        story.send(socket, BINARY, &payload);
        story.send(socket, PING, &[number]);
        story.settle(0);
        expected.push(Item::Message { opcode: BINARY, payload });
        expected.push(Item::Control { opcode: PONG, payload: vec![number] });
    }
    begin_move(&mut story, 0, 1);
    settle(&mut story);
    assert_eq!(keys(&story, 0).len(), 1, "its send waits for it");
    let mut items = story.read(socket, &mut decoder);
    settle(&mut story);
    assert_eq!((keys(&story, 0).len(), keys(&story, 1).len()), (0, 1));
    for _ in 0..30 {
        settle(&mut story);
        items.extend(story.read(socket, &mut decoder));
    }
    let of = |items: &[Item], wanted: u8| -> Vec<u8> {
        let payloads = items.iter().filter_map(|item| match item {
            Item::Message { opcode, payload } | Item::Control { opcode, payload } => {
                (*opcode == wanted).then(|| payload[0])
            }
            Item::Response { .. } | Item::Line(_) | Item::LastChunk => None,
        });
        payloads.collect()
    };
    for opcode in [BINARY, PONG] {
        assert_eq!(of(&items, opcode), of(&expected, opcode));
    }
    assert_eq!(items.len(), expected.len());
}

#[test]
fn a_peer_that_does_not_read_stays_and_loses_nothing() {
    let mut story = Story::new(2, |config, _| config.limits.backlog_bytes = 1 << 20);
    let (socket, mut decoder) = story.open(0, "/echo");
    let echo = |number| Item::Message { opcode: BINARY, payload: vec![number; 3000] };
    (0..4).for_each(|number| story.send(socket, BINARY, &[number; 3000]));
    story.settle(0);
    begin_move(&mut story, 0, 1);
    story.send(socket, BINARY, &[4; 3000]);
    story.pass(Duration::from_secs(1));
    assert_eq!((keys(&story, 0).len(), story.counter("connections_moved")), (1, 0));
    let items = story.read_all(0, socket, &mut decoder);
    assert_eq!(items, [0, 1, 2, 3, 4].map(echo));
}

#[test]
fn whoever_has_more_than_a_letter_may_hold_stays_until_it_has_less() {
    let mut story = Story::new(2, |_, _| ());
    let (socket, mut decoder) = story.open(0, "/echo");
    let text = vec![b'x'; 400_000];
    let frame = frames::frame(&mut story.rng, true, TEXT, &text);
    story.write(socket, &frame[..350_000]);
    story.settle(0);
    let key = keys(&story, 0)[0];
    assert!(!story.shards[0].move_to(key, 1), "most of a text is here");
    story.write(socket, &frame[350_000..]);
    let mut items = Vec::new();
    for _ in 0..20 {
        items.extend(story.read_all(0, socket, &mut decoder));
    }
    assert_eq!(items, [Item::Message { opcode: TEXT, payload: text }]);
    move_only(&mut story, 0, 1);
}

/// Messages of members and of others, from every shard and in every tick, while two members move:
/// each gets all of them once, in the order of each publisher.
#[test]
fn members_of_a_busy_topic_move_and_miss_nothing() {
    const SHARDS: usize = 3;
    const ROUNDS: u8 = 120;
    let mut story = Story::new(SHARDS, |config, _| {
        config.limits.backlog_bytes = 1 << 20;
        config.compression.mode = CompressionMode::Shared;
        config.compression.threshold_bytes = 0;
    });
    let offer = "permessage-deflate; server_no_context_takeover";
    let mut members = [
        story.open(0, "/broadcast/a"),
        story.open_with_offer(1, "/broadcast/a?exclude_self=true", offer),
        story.open(2, "/broadcast/a"),
    ];
    for round in 0..ROUNDS {
        for (number, (socket, _)) in members.iter().enumerate() {
            let message = DataMessage::new(MessageKind::Text, &[b'x', number as u8, round]);
            story.shards[number].publish_by_name("a", message);
            story.send(*socket, TEXT, &[b'm', number as u8, round]);
        }
        for shard in 0..SHARDS {
            for key in keys(&story, shard) {
                let to = (shard + 1 + usize::from(round) % (SHARDS - 1)) % SHARDS;
                let _ = story.shards[shard].move_to(key, to);
            }
            // One shard is behind the others.
            if shard != usize::from(round / 3) % SHARDS {
                story.tick(shard);
            }
        }
    }
    settle(&mut story);
    let moved = story.counter("connections_moved");
    assert!(moved >= 10, "they move: {moved} times");
    for (number, (socket, decoder)) in members.iter_mut().enumerate() {
        let mut items = Vec::new();
        for _ in 0..20 {
            items.extend(story.read(*socket, decoder));
            settle(&mut story);
        }
        for publisher in [b'x', b'm'] {
            for of in 0..SHARDS as u8 {
                let rounds = items.iter().filter_map(|item| match item {
                    Item::Message { payload, .. } if payload[..2] == [publisher, of] => {
                        Some(payload[2])
                    }
                    _ => None,
                });
                let is_own = (publisher, usize::from(of)) == (b'm', number);
                let owed = if is_own && number == 1 { 0 } else { ROUNDS };
                let expected: Vec<u8> = (0..owed).collect();
                assert_eq!(rounds.collect::<Vec<_>>(), expected, "{number} of {publisher} {of}");
            }
        }
    }
}

/// The shard that has a member hangs for longer than its topics are held where it is to go: what it
/// has missed nobody knows, so it is told to come again.
#[test]
fn a_member_that_comes_too_late_is_told_to_come_again() {
    let mut story = Story::new(2, |_, _| ());
    let (socket, mut decoder) = story.open(0, "/broadcast/a");
    begin_move(&mut story, 0, 1);
    story.tick(0);
    for _ in 0..60 {
        story.network.borrow_mut().now_ms += 100;
        story.tick(1);
    }
    settle(&mut story);
    let items = story.read(socket, &mut decoder);
    let code = 1013_u16.to_be_bytes();
    assert!(
        matches!(&items[..], [Item::Control { opcode: CLOSE, payload }] if payload[..2] == code),
        "{items:?}"
    );
    assert_eq!(story.counter("connections_moved"), 1);
}

#[test]
fn whoever_is_being_closed_stays() {
    let mut story = Story::new(2, |_, _| ());
    let (socket, _) = story.open(0, "/echo");
    story.send(socket, CLOSE, b"");
    story.shards[0].io().hold(Kind::Finish);
    story.settle(0);
    let key = keys(&story, 0)[0];
    assert!(!story.shards[0].move_to(key, 1), "its end is on its way");
}
