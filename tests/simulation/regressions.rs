//! Failures that seeds have found, each as the shortest story that shows it.

use std::time::Duration;

use fastrand::Rng;
use ringwire::config::SlowConsumer;

use crate::contract::Kind;
use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, CLOSE, PING, PONG, TEXT};
use crate::story::Story;

/// What deadlines are rounded to.
const TICK: Duration = Duration::from_millis(100);

fn message(opcode: u8, payload: &[u8]) -> Item {
    Item::Message { opcode, payload: payload.to_vec() }
}

/// The send in flight was the last request of a connection that had been given up: nobody closed it.
#[test]
fn a_send_that_fails_last_frees_the_slot() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, _) = story.open(0, "/echo");
    story.shards[0].io().hold(Kind::Send);
    story.send(socket, BINARY, b"x");
    story.settle(0);
    story.reset(socket);
    story.settle(0);
    story.shards[0].io().let_go();
    story.settle(0);
    assert_eq!(story.counter("connections_open"), 0);
}

/// A pong went into the middle of a frame whose first part had been reflected.
#[test]
fn a_pong_waits_for_the_end_of_a_reflected_frame() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, mut decoder) = story.open(0, "/echo");
    let frame = frames::frame(&mut story.rng, true, BINARY, b"in two parts");
    story.write(socket, &frame[..10]);
    story.settle(0);
    let ping = frames::frame(&mut story.rng, true, PING, b"?");
    story.write(socket, &[&frame[10..], &ping].concat());
    story.settle(0);
    let pong = Item::Control { opcode: PONG, payload: b"?".to_vec() };
    assert_eq!(story.read(socket, &mut decoder), [message(BINARY, b"in two parts"), pong]);
}

/// A receive buffer was queued behind more segments than one send takes, and waited for a peer that
/// does not read.
#[test]
fn no_receive_buffer_waits_for_a_peer() {
    let mut story = Story::new(1, |config, chaos| {
        config.limits.backlog_bytes = 1 << 20;
        chaos.buffer_bytes = 64;
    });
    let (socket, _) = story.open(0, "/echo");
    story.shards[0].io().hold(Kind::Send);
    for _ in 0..100 {
        story.send(socket, TEXT, &[b'x'; 50]);
        story.settle(0);
    }
    let io = story.shards[0].io();
    io.let_go();
    io.progress();
    story.send(socket, TEXT, b"last");
    story.settle(0);
}

/// A peer that read again was received from only when everything for it had left.
#[test]
fn a_paused_peer_is_received_from_as_soon_as_it_has_read_enough() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, mut decoder) = story.open(0, "/echo");
    for _ in 0..11 {
        story.send(socket, TEXT, &[b'x'; 1000]);
        story.settle(0);
    }
    assert_eq!(story.counter("receives_paused"), 1);
    for _ in 0..10 {
        story.read(socket, &mut decoder);
        story.settle(0);
    }
    assert_eq!(story.counter("messages_in"), 11);
}

/// Giving up on a connection whose FIN was being sent made a second request of the same kind.
#[test]
fn a_connection_whose_fin_is_being_sent_can_be_given_up() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, _) = story.open(0, "/echo");
    story.shards[0].io().hold(Kind::Finish);
    story.shards[0].io().hold(Kind::Shutdown);
    story.send(socket, CLOSE, b"");
    story.settle(0);
    story.pass(story.shared.in_force.current().config.limits.close_timeout * 2);
    story.shards[0].io().let_go();
    story.settle(0);
    assert_eq!(story.counter("connections_open"), 0);
}

/// The close frame waits for the end of a reflected frame: for ever, when that did not come.
#[test]
fn a_peer_silent_within_a_frame_is_cut_off() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, _) = story.open(0, "/echo");
    let frame = frames::frame(&mut story.rng, true, BINARY, b"never ends");
    story.write(socket, &frame[..9]);
    story.settle(0);
    let effective = story.shared.in_force.current();
    let limits = &effective.config.limits;
    let time = limits.idle_timeout.expect("by default") + limits.close_timeout * 3;
    story.pass(time);
    assert_eq!(story.counter("connections_open"), 0);
}

/// What a publisher had sent before its FIN was lost while the broadcast ring was full.
#[test]
fn a_fin_does_not_overtake_publications_that_wait_for_room() {
    let mut story = Story::new(2, |_, _| {});
    let (publisher, _) = story.open(0, "/broadcast/a");
    let (subscriber, mut decoder) = story.open(1, "/broadcast/a");
    let numbers = [&b"1"[..], b"2", b"3", b"4", b"5", b"6"];
    for number in &numbers[..4] {
        story.send(publisher, TEXT, number);
    }
    story.settle(0);
    for number in &numbers[4..] {
        story.send(publisher, TEXT, number);
    }
    story.network.borrow_mut().sockets[publisher].client_finish();
    story.progress(0, 2);
    for _ in 0..10 {
        story.settle(0);
        story.settle(1);
    }
    let expected = numbers.map(|number| message(TEXT, number));
    assert_eq!(story.read(subscriber, &mut decoder), expected);
    assert_eq!(story.counter("connections_open"), 1);
}

/// Pipelined requests were answered on a connection that had been given up, and upgraded it.
#[test]
fn a_given_up_connection_answers_no_more_requests() {
    let mut story = Story::new(1, |_, chaos| chaos.late = 100);
    let socket = story.connect(0);
    let upgrade = frames::upgrade(&mut story.rng, "/echo");
    let request = frames::REQUESTS[2].0;
    story.write(socket, request.as_bytes());
    while story.shards[0].io().late.is_empty() {
        story.tick(0);
    }
    let late = std::mem::take(&mut story.shards[0].io().late);
    story.write(socket, &[request.repeat(20).as_bytes(), &upgrade].concat());
    story.reset(socket);
    story.progress(0, 2);
    story.tick(0);
    story.shards[0].io().late.extend(late);
    story.settle(0);
    assert_eq!(story.counter("upgrades"), 0);
    assert_eq!(story.counter("connections_open"), 0);
}

/// A shard that accepted while it ended always had one more connection to close.
#[test]
fn a_flood_of_connections_does_not_keep_a_shard_from_ending() {
    let mut story = Story::new(1, |_, _| {});
    story.settle(0);
    story.drain();
    let mut turns = 0;
    loop {
        story.connect(0);
        if !story.tick(0) {
            break;
        }
        turns += 1;
        assert!(turns < 100, "still accepting");
    }
    assert_eq!(story.counter("connections_open"), 0);
}

/// A pong went ahead of the response that had not left yet, and so ahead of the upgrade.
#[test]
fn a_pong_does_not_overtake_the_upgrade() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, mut decoder) = (story.connect(0), Decoder::default());
    let requests = [frames::REQUESTS[2].0.as_bytes(), &frames::upgrade(&mut story.rng, "/echo")];
    let ping = frames::frame(&mut story.rng, true, PING, b"early");
    story.write(socket, &[&requests.concat(), &ping[..]].concat());
    story.settle(0);
    let responses = [200, 101].map(|status| Item::Response { status, closes: false });
    let pong = Item::Control { opcode: PONG, payload: b"early".to_vec() };
    let [first, second] = responses;
    assert_eq!(story.read(socket, &mut decoder), [first, second, pong]);
}

/// Behind a short send, a pong overtook the pong before it.
#[test]
fn pongs_keep_their_order_behind_a_short_send() {
    let mut story = Story::new(1, |config, _| config.limits.backlog_bytes = 1 << 20);
    let (socket, mut decoder) = story.open(0, "/echo");
    let io = story.shards[0].io();
    io.hold(Kind::Send);
    story.send(socket, TEXT, &[b'a'; 10]);
    story.settle(0);
    for _ in 0..3 {
        story.send(socket, TEXT, &[b'b'; 3000]);
        story.settle(0);
    }
    // The first send leaves; the second, of three messages, is in flight.
    story.shards[0].io().let_go();
    story.progress(0, 1);
    story.shards[0].io().hold(Kind::Send);
    story.settle(0);
    story.send(socket, PING, b"1");
    story.settle(0);
    // It finds room for one of the three.
    story.shards[0].io().let_go();
    story.progress(0, 1);
    story.shards[0].io().hold(Kind::Send);
    story.send(socket, PING, b"2");
    story.settle(0);
    story.shards[0].io().let_go();
    let mut pongs = Vec::new();
    for _ in 0..5 {
        let items = story.read(socket, &mut decoder).into_iter();
        pongs.extend(items.filter(|item| matches!(item, Item::Control { .. })));
        story.settle(0);
    }
    let expected =
        [b"1", b"2"].map(|payload| Item::Control { opcode: PONG, payload: payload.to_vec() });
    assert_eq!(pongs, expected);
}

/// An idle connection was told the end, and then upgraded.
#[test]
fn a_request_after_the_idle_deadline_is_not_answered() {
    let mut story = Story::new(1, |_, _| {});
    let socket = story.connect(0);
    story.write(socket, frames::REQUESTS[2].0.as_bytes());
    story.settle(0);
    story.shards[0].io().hold(Kind::Finish);
    story.pass(story.shared.in_force.current().config.limits.handshake_timeout + TICK * 2);
    let upgrade = frames::upgrade(&mut story.rng, "/echo");
    story.write(socket, &upgrade);
    story.settle(0);
    assert_eq!(story.counter("upgrades"), 0);
}

/// A publisher that does not read what its topic sends it paused for the full ring, was taken for
/// one that waits for its peer, and never published again.
#[test]
fn a_publisher_that_does_not_read_goes_on_when_the_ring_has_room() {
    let mut story = Story::new(2, |config, _| {
        config.slow_consumer = SlowConsumer::DropNewest;
    });
    let (publisher, _) = story.open(0, "/broadcast/a");
    let (subscriber, mut received) = story.open(1, "/broadcast/a");
    let numbers: Vec<_> = (0..200).map(|number| vec![number; 100]).collect();
    for numbers in numbers.chunks(10) {
        numbers.iter().for_each(|number| story.send(publisher, BINARY, number));
        story.settle(0);
    }
    let mut items = Vec::new();
    for _ in 0..100 {
        items.extend(story.read_all(1, subscriber, &mut received));
        story.settle(0);
    }
    let expected: Vec<_> = numbers.iter().map(|number| message(BINARY, number)).collect();
    assert!(items == expected, "{} of {}", items.len(), expected.len());
    assert!(story.counter("ring_full") > 0, "it had to wait for the ring");
}

/// A publisher paused for the full ring, but had made room itself by the end of its message.
#[test]
fn a_publisher_that_empties_the_overflow_itself_goes_on() {
    let mut story = Story::new(2, |_, _| {});
    let (publisher, _) = story.open(0, "/broadcast/a?exclude_self=true");
    let (other, _) = story.open(0, "/broadcast/b");
    let (subscriber, mut received) = story.open(1, "/broadcast/a");
    let fragment =
        |fin, opcode, payload: &[u8]| frames::frame(&mut Rng::with_seed(3), fin, opcode, payload);
    story.write(publisher, &fragment(false, TEXT, b"one "));
    story.settle(0);
    (0..3).for_each(|_| story.send(other, TEXT, b"fills the ring"));
    story.settle(0);
    story.settle(1);
    let rest = [fragment(true, 0, b"message"), fragment(true, TEXT, b"next")].concat();
    story.write(publisher, &rest);
    story.progress(0, 1);
    story.tick(0);
    let mut items = Vec::new();
    for _ in 0..3 {
        items.extend(story.read_all(1, subscriber, &mut received));
        story.settle(0);
    }
    assert_eq!(items, [message(TEXT, b"one message"), message(TEXT, b"next")]);
}

/// With its table full, a shard accepted again at once, over and over, and lost each connection.
#[test]
fn a_full_shard_does_not_spin_on_accepts() {
    let mut story = Story::new(1, |_, chaos| chaos.slots = 2);
    let sockets: Vec<_> = (0..6).map(|_| story.connect(0)).collect();
    story.settle(0);
    assert_eq!(story.counter("accepts_failed"), 1);
    story.reset(sockets[0]);
    story.settle(0);
    assert_eq!(story.counter("connections_accepted"), 3);
}

/// A peer was cut off as idle while it took a large message, slowly.
#[test]
fn a_peer_that_takes_what_waits_for_it_is_not_idle() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, mut decoder) = story.open(0, "/echo");
    let large = [b'x'; 60_000];
    story.send(socket, BINARY, &large);
    let mut items = Vec::new();
    for _ in 0..16 {
        story.pass(Duration::from_secs(10));
        items.extend(story.read(socket, &mut decoder));
    }
    assert_eq!(items, [message(BINARY, &large)]);
}

/// A peer that had finished and was still reading its echoes was reset when the drain began.
#[test]
fn a_drain_leaves_a_finishing_peer_its_time() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, mut decoder) = story.open(0, "/echo");
    story.shards[0].io().hold(Kind::Send);
    story.send(socket, TEXT, b"last words");
    story.network.borrow_mut().sockets[socket].client_finish();
    story.settle(0);
    story.drain();
    story.pass(Duration::from_millis(500));
    story.shards[0].io().let_go();
    story.settle(0);
    assert_eq!(story.read(socket, &mut decoder), [message(TEXT, b"last words")]);
}

/// A shard that spins announces no sleep, so nobody wakes it; it must come by itself upon messages of
/// others, room in its ring, and deadlines.
#[test]
fn a_shard_that_spins_never_sleeps_and_misses_nothing() {
    let mut story = Story::new(2, |config, _| {
        config.engine.busy_poll = true;
        config.limits.idle_timeout = Some(Duration::from_secs(5));
    });
    let (publisher, _) = story.open(0, "/broadcast/a?exclude_self=true");
    let (member, mut decoder) = story.open(1, "/broadcast/a");
    // More than the two slots of the ring, so that the publisher has to wait for room.
    for _ in 0..6 {
        story.send(publisher, TEXT, b"across");
        story.settle(0);
    }
    for _ in 0..20 {
        for shard in 0..2 {
            story.tick(shard);
            assert_eq!(story.shards[shard].io().wait(), Some(Duration::ZERO));
        }
    }
    assert_eq!(story.read(member, &mut decoder), [(); 6].map(|()| message(TEXT, b"across")));
    assert!(story.counter("ring_full") > 0, "it had to wait for the ring");
    assert_eq!(story.counter("wakes"), 0);

    story.pass(Duration::from_secs(20));
    assert!(story.shards.iter().all(|shard| shard.connections().keys().is_empty()));
    assert_eq!(story.counter("wakes"), 0);
}

/// A peer that does not read kept its shard waking with every tick of the timers.
#[test]
fn a_paused_peer_lets_its_shard_sleep() {
    let mut story = Story::new(1, |config, _| {
        config.engine.park_after = Some(Duration::from_secs(5));
        config.limits.idle_timeout = None;
    });
    let (socket, _) = story.open(0, "/echo");
    for _ in 0..12 {
        story.send(socket, TEXT, &[b'x'; 1000]);
        story.settle(0);
    }
    story.pass(Duration::from_secs(6));
    let wait = story.shards[0].io().wait().expect("a deadline");
    assert!(wait > Duration::from_secs(1), "{wait:?}");
}

/// The first round in which silence is looked for began with any other deadline, for every second
/// place, and the ping came as much too early.
#[test]
fn nobody_is_pinged_before_its_peer_was_silent_for_long_enough() {
    let mut story = Story::new(1, |config, _| {
        config.engine.park_after = Some(Duration::from_secs(1));
        config.limits.ping_interval = Some(Duration::from_secs(40));
        config.limits.idle_timeout = Some(Duration::from_secs(200));
    });
    let mut peers: Vec<_> = (0..8).map(|_| story.open(0, "/echo")).collect();
    let pings = |story: &mut Story, peers: &mut [(usize, Decoder)]| -> Vec<usize> {
        let count = |(socket, decoder): &mut (usize, Decoder)| story.read(*socket, decoder).len();
        peers.iter_mut().map(count).collect()
    };
    story.pass(Duration::from_secs(19));
    assert_eq!(pings(&mut story, &mut peers), [0; 8]);
    story.pass(Duration::from_secs(22));
    assert_eq!(pings(&mut story, &mut peers), [1; 8]);
}
