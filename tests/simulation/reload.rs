//! Settings that change while connections are open: each connection meets them, however quiet it
//! is, and nothing else happens to it.

use std::time::Duration;

use ringwire::config::{CompressionMode, Config};
use ringwire::identity::Trust;

use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, CLOSE, RSV1};
use crate::network::SocketId;
use crate::story::Story;

const SECOND: Duration = Duration::from_secs(1);

/// Puts changed settings in force.
fn change(story: &Story, change: impl FnOnce(&mut Config)) {
    let mut config = story.shared.in_force.current().config.clone();
    change(&mut config);
    story.shared.in_force.replace(config, Trust::default(), None);
}

/// A server on which nothing ever happens to a silent connection.
fn patient() -> Story {
    Story::new(1, |config, _| {
        config.limits.idle_timeout = None;
        config.limits.ping_interval = None;
    })
}

fn has_closed(story: &mut Story, socket: SocketId, decoder: &mut Decoder) -> bool {
    let items = story.read(socket, decoder);
    items.iter().any(|item| matches!(item, Item::Control { opcode: CLOSE, .. }))
}

/// A connection is still open after so many seconds more, and closed after so many.
fn assert_closed_between(
    story: &mut Story,
    (socket, mut decoder): (SocketId, Decoder),
    open_s: u32,
    closed_s: u32,
) {
    story.pass(SECOND * open_s);
    assert!(!has_closed(story, socket, &mut decoder));
    story.pass(SECOND * (closed_s - open_s));
    assert!(has_closed(story, socket, &mut decoder));
}

/// Connections without any deadline were never looked at again.
#[test]
fn a_new_idle_timeout_ends_all_who_were_silent_before() {
    let mut story = patient();
    let mut peers: Vec<_> = (0..9).map(|_| story.open(0, "/echo")).collect();
    story.pass(SECOND * 600);
    change(&story, |config| config.limits.idle_timeout = Some(SECOND * 10));
    story.pass(SECOND);
    for (socket, decoder) in &mut peers {
        assert!(has_closed(&mut story, *socket, decoder), "silent for ten minutes");
    }
}

/// Nobody knows how long there has been no message before it was limited.
#[test]
fn a_new_limit_of_silence_between_messages_counts_from_the_change() {
    let mut story = patient();
    let (socket, decoder) = story.open(0, "/echo");
    story.pass(SECOND * 600);
    change(&story, |config| config.limits.message_idle_timeout = Some(SECOND * 10));
    assert_closed_between(&mut story, (socket, decoder), 9, 11);
}

/// What was noted while there was a limit says nothing after a time without one.
#[test]
fn a_limit_that_was_lifted_for_a_while_counts_anew() {
    let mut story = patient();
    let limit = |limit| move |config: &mut Config| config.limits.message_idle_timeout = limit;
    change(&story, limit(Some(SECOND * 10)));
    let (socket, decoder) = story.open(0, "/echo");
    story.pass(SECOND * 5);
    change(&story, limit(None));
    story.pass(SECOND * 60);
    change(&story, limit(Some(SECOND * 10)));
    assert_closed_between(&mut story, (socket, decoder), 9, 11);
}

/// Deadlines that were set before do not act any more.
#[test]
fn whoever_is_given_more_time_has_it() {
    let mut story = Story::new(1, |config, _| {
        config.limits.idle_timeout = Some(SECOND * 10);
        config.limits.ping_interval = None;
    });
    let (socket, decoder) = story.open(0, "/echo");
    story.pass(SECOND * 9);
    change(&story, |config| config.limits.idle_timeout = Some(SECOND * 60));
    assert_closed_between(&mut story, (socket, decoder), 45, 61);
}

/// A limit of messages holds from the next message on, compressed or not.
#[test]
fn the_next_message_meets_a_new_limit() {
    for is_compressed in [false, true] {
        let mut story = Story::new(1, |config, _| {
            config.compression.mode = CompressionMode::Shared;
        });
        let (socket, mut decoder) = match is_compressed {
            true => story.open_with_offer(0, "/echo", "permessage-deflate"),
            false => story.open(0, "/echo"),
        };
        let send = |story: &mut Story| match is_compressed {
            true => story.send(socket, RSV1 | BINARY, &frames::deflated(&[7; 2000])),
            false => story.send(socket, BINARY, &[7; 2000]),
        };
        send(&mut story);
        let echo = Item::Message { opcode: BINARY, payload: vec![7; 2000] };
        assert_eq!(story.read_all(0, socket, &mut decoder), [echo]);
        change(&story, |config| config.limits.message_bytes = 1999);
        send(&mut story);
        let items = story.read_all(0, socket, &mut decoder);
        let [Item::Control { opcode: CLOSE, payload }] = &items[..] else { panic!("{items:?}") };
        assert_eq!(payload[..2], 1009_u16.to_be_bytes());
    }
}

/// Who may connect changes for those who come from then on, with accepts of another kind.
#[test]
fn limits_by_address_begin_and_end_while_the_server_runs() {
    const ADDRESS: &str = "192.0.2.7";
    let mut story = Story::new(2, |_, _| {});
    let open = |story: &mut Story| -> usize {
        let sockets: Vec<_> = (0..6).map(|turn| story.connect_from(ADDRESS, turn % 2)).collect();
        story.pass(SECOND);
        let is_open = |socket: &&SocketId| !story.is_reset(**socket);
        let count = sockets.iter().filter(is_open).count();
        sockets.into_iter().for_each(|socket| story.reset(socket));
        story.pass(SECOND);
        count
    };
    assert_eq!(open(&mut story), 6);
    change(&story, |config| config.peers.connections_per_address = Some(2));
    story.pass(SECOND);
    assert_eq!(open(&mut story), 2);
    change(&story, |config| config.peers.connections_per_address = Some(4));
    assert_eq!(open(&mut story), 4);
    change(&story, |config| {
        config.peers.connections_per_address = None;
        config.peers.deny_networks = vec!["192.0.2.0/24".parse().expect("a network")];
    });
    assert_eq!(open(&mut story), 0);
    change(&story, |config| config.peers.deny_networks.clear());
    story.pass(SECOND);
    assert_eq!(open(&mut story), 6);
    assert_eq!(story.counted_for(ADDRESS), 0);
    assert_eq!(story.shared.admission.counted(), 0);
}
