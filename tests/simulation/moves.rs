//! Connections that go on with another shard: the crossings that chance rarely brings about, and
//! what travels along.

use std::time::Duration;

use ringwire::io::Key;

use crate::decoder::Item;
use crate::frames::{self, BINARY, CLOSE};
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

#[test]
fn whoever_is_in_the_middle_of_something_stays() {
    let mut story = Story::new(2, |_, _| ());
    let socket = story.connect(0);
    story.settle(0);
    let key = keys(&story, 0)[0];
    assert!(!story.shards[0].move_to(key, 1), "a request has not been answered");
    story.reset(socket);
    story.settle(0);
    story.open(0, "/broadcast/a");
    let key = keys(&story, 0)[0];
    assert!(!story.shards[0].move_to(key, 1), "it is a member of a topic");
    let (socket, _) = story.open(1, "/echo");
    let key = keys(&story, 1)[0];
    assert!(!story.shards[1].move_to(key, 1), "it is there");
    let frame = frames::frame(&mut story.rng, true, BINARY, &[7; 100]);
    story.write(socket, &frame[..50]);
    story.settle(1);
    assert!(!story.shards[1].move_to(key, 0), "half a frame has been sent back");
}
