//! Users who have more connections than one may: who stays, wherever the others are.

use std::time::Duration;

use fastrand::Rng;
use ringwire::config::{Config, UserLimit};
use ringwire::identity::Trust;
use serde_json::json;

use crate::client::{Client, Context};
use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, CLOSE};
use crate::identity::{token, trust};
use crate::network::SocketId;
use crate::story::Story;

/// Draws a limit, for users who show who they are; nobody has to.
pub fn settings(rng: &mut Rng, config: &mut Config) {
    if rng.u8(..4) > 0 {
        return;
    }
    ask_for_tokens(config);
    let everything = || vec!["**".parse().expect("a pattern")];
    config.identity.anonymous_subscribe = everything();
    config.identity.anonymous_publish = everything();
    config.identity.connections_per_user = Some(rng.u16(1..4));
    config.identity.user_limit = if rng.bool() { UserLimit::Newest } else { UserLimit::Oldest };
}

/// What these settings trust.
pub fn trusted(config: &Config) -> Trust {
    if config.identity.has_keys() { trust(config) } else { Trust::default() }
}

/// Draws who a client is, if users are limited.
pub fn draw(rng: &mut Rng, config: &Config) -> Option<u8> {
    let user = rng.u8(..3);
    config.identity.connections_per_user.filter(|_| user < 2).map(|_| user)
}

/// The field of a request that says so.
pub fn field(user: u8) -> String {
    let claims = json!({ "sub": name(user), "exp": u32::MAX });
    format!("Authorization: Bearer {}\r\n", token(&claims))
}

/// No user counts more often than one may.
pub fn check_limits(context: &Context) {
    let Some(most) = context.config_at_start.identity.connections_per_user else { return };
    for user in 0..2 {
        let seated = context.shared.admission.seated(&name(user));
        assert!(seated <= usize::from(most), "user {user} counts {seated} times, at most {most}");
    }
}

/// At rest nobody is open who does not count.
pub fn check_rest(clients: &[Client], context: &Context) {
    if context.config_at_start.identity.connections_per_user.is_none() {
        return;
    }
    for user in 0..2 {
        let is_open = |client: &&Client| {
            let is_of_it = context.origins[client.number].user == Some(user);
            is_of_it && client.is_open() && !client.is_gone() && client.plan.is_well_behaved()
        };
        let open = clients.iter().filter(is_open).count();
        let seated = context.shared.admission.seated(&name(user));
        assert!(open <= seated, "user {user} is connected {open} times and counts {seated} times");
    }
}

fn ask_for_tokens(config: &mut Config) {
    config.identity.jwt_keys = vec!["hs256:/secret".parse().expect("a file")];
}

fn name(user: u8) -> String {
    format!("u{user}")
}

/// Shards on which each user may have so many connections.
fn limited(shards: usize, most: u16, stays: UserLimit) -> Story {
    let story = Story::new(shards, |config, _| {
        ask_for_tokens(config);
        config.limits.idle_timeout = None;
        config.limits.ping_interval = None;
        config.limits.backlog_bytes = 1 << 20;
    });
    set_limit(&story, Some(most), stays);
    story
}

fn set_limit(story: &Story, most: Option<u16>, stays: UserLimit) {
    let mut config = story.shared.in_force.current().config.clone();
    (config.identity.connections_per_user, config.identity.user_limit) = (most, stays);
    let trust = trust(&config);
    story.shared.in_force.replace(config, trust, None);
}

fn settle(story: &mut Story) {
    for _ in 0..30 {
        (0..story.shards.len()).for_each(|shard| {
            story.tick(shard);
        });
    }
}

/// Asks for an echo as this user; tells the status.
fn come(story: &mut Story, shard: usize, user: u8) -> (SocketId, Decoder, u16) {
    let (socket, mut decoder) = (story.connect(shard), Decoder::default());
    let upgrade = String::from_utf8(frames::upgrade(&mut story.rng, "/echo")).expect("text");
    let (line, fields) = upgrade.split_once("\r\n").expect("a line");
    story.write(socket, format!("{line}\r\n{}{fields}", field(user)).as_bytes());
    settle(story);
    match story.read(socket, &mut decoder).first() {
        Some(Item::Response { status, .. }) => (socket, decoder, *status),
        other => panic!("{other:?}"),
    }
}

fn code_of(item: &Item) -> Option<u16> {
    match item {
        Item::Control { opcode: CLOSE, payload } => {
            payload.first_chunk().map(|code| u16::from_be_bytes(*code))
        }
        _ => None,
    }
}

/// What each peer was closed with, if it was.
fn codes(story: &mut Story, peers: &mut [(SocketId, Decoder, u16)]) -> Vec<Option<u16>> {
    let read = |(socket, decoder, _): &mut (SocketId, Decoder, u16)| {
        story.read(*socket, decoder).iter().find_map(code_of)
    };
    peers.iter_mut().map(read).collect()
}

const REPLACED: Option<u16> = Some(4001);

#[test]
fn the_newest_stays_wherever_the_others_are() {
    let mut story = limited(2, 1, UserLimit::Newest);
    let mut peers: Vec<_> = [0, 1, 0, 0].map(|shard| come(&mut story, shard, 0)).into();
    peers.push(come(&mut story, 1, 1));
    assert!(peers.iter().all(|peer| peer.2 == 101));
    let closed = codes(&mut story, &mut peers);
    assert_eq!(closed, [REPLACED, REPLACED, REPLACED, None, None]);
    assert_eq!(story.counter("connections_replaced"), 3);
    assert_eq!(story.shared.admission.users_and_seats(), (2, 2));
    peers.iter().for_each(|peer| story.reset(peer.0));
    settle(&mut story);
    assert_eq!(story.shared.admission.users_and_seats(), (0, 0));
}

#[test]
fn the_oldest_stay_until_they_go() {
    let mut story = limited(2, 2, UserLimit::Oldest);
    let first = come(&mut story, 0, 0);
    assert_eq!(come(&mut story, 1, 0).2, 101);
    assert_eq!(come(&mut story, 1, 0).2, 429);
    assert_eq!(come(&mut story, 1, 1).2, 101);
    assert_eq!(story.refused("user_connections"), 1);
    // Its seat is free when its end has begun, not only when that is over.
    story.send(first.0, CLOSE, &1000_u16.to_be_bytes());
    settle(&mut story);
    assert_eq!(story.counter("connections_open"), 4, "the refused is kept, the first lingers");
    assert_eq!(come(&mut story, 0, 0).2, 101);
    assert_eq!(story.counter("connections_replaced"), 0);
}

/// Whoever loses the seat on the way between two shards hears of it where it arrives, or where it
/// stays after all.
#[test]
fn whoever_is_replaced_while_it_moves_is_closed() {
    for stays in [false, true] {
        let mut story = limited(3, 1, UserLimit::Newest);
        let mut first = come(&mut story, 0, 0);
        if stays {
            // Its peer does not read, so its send does not end.
            (0..4).for_each(|_| story.send(first.0, BINARY, &[0; 3000]));
            story.settle(0);
        }
        let key = story.shards[0].connections().keys()[0];
        assert!(story.shards[0].move_to(key, 1));
        (0..5).for_each(|_| assert!(story.tick(0)));
        let (socket, mut decoder) = (story.connect(2), Decoder::default());
        let upgrade = String::from_utf8(frames::upgrade(&mut story.rng, "/echo")).expect("text");
        let (line, fields) = upgrade.split_once("\r\n").expect("a line");
        story.write(socket, format!("{line}\r\n{}{fields}", field(0)).as_bytes());
        for _ in 0..20 {
            story.tick(2);
            story.tick(0);
        }
        let items = story.read(socket, &mut decoder);
        assert!(matches!(items[..], [Item::Response { status: 101, .. }]), "{items:?}");
        story.pass(Duration::from_secs(1));
        assert_eq!(story.counter("connections_moved"), u64::from(!stays));
        let items = story.read_all(if stays { 0 } else { 1 }, first.0, &mut first.1);
        assert_eq!(items.last().and_then(code_of), REPLACED, "{stays}");
        assert_eq!(story.shared.admission.users_and_seats(), (1, 1));
    }
}

/// A seat goes along with a connection that moves, and is found there.
#[test]
fn a_connection_that_has_moved_is_replaced_where_it_is() {
    let mut story = limited(2, 1, UserLimit::Newest);
    let mut peers = vec![come(&mut story, 0, 0)];
    let key = story.shards[0].connections().keys()[0];
    assert!(story.shards[0].move_to(key, 1));
    settle(&mut story);
    assert_eq!(story.counter("connections_moved"), 1);
    peers.push(come(&mut story, 0, 0));
    assert_eq!(codes(&mut story, &mut peers), [REPLACED, None]);
}

#[test]
fn a_reload_counts_those_who_are_there() {
    for (stays, expected) in [
        (UserLimit::Newest, [REPLACED, REPLACED, None]),
        (UserLimit::Oldest, [None, REPLACED, REPLACED]),
    ] {
        let mut story = limited(2, 9, stays);
        set_limit(&story, None, stays);
        let mut peers = Vec::new();
        for shard in [0, 1, 0] {
            peers.push(come(&mut story, shard, 0));
            story.pass(Duration::from_secs(1));
        }
        assert_eq!(story.shared.admission.users_and_seats(), (0, 0));
        set_limit(&story, Some(1), stays);
        settle(&mut story);
        assert_eq!(codes(&mut story, &mut peers), expected);
        set_limit(&story, None, stays);
        settle(&mut story);
        assert_eq!(story.shared.admission.users_and_seats(), (0, 0));
    }
}

/// More lose their seats than a tick closes and a letter tells of, to a shard that has no room for
/// letters meanwhile.
#[test]
fn a_crowd_is_replaced_by_one() {
    let mut story = limited(2, 10, UserLimit::Newest);
    let mut peers: Vec<_> = (0..10).map(|_| come(&mut story, 0, 0)).collect();
    set_limit(&story, Some(1), UserLimit::Newest);
    let (socket, mut decoder) = (story.connect(1), Decoder::default());
    let upgrade = String::from_utf8(frames::upgrade(&mut story.rng, "/echo")).expect("text");
    let (line, fields) = upgrade.split_once("\r\n").expect("a line");
    story.write(socket, format!("{line}\r\n{}{fields}", field(0)).as_bytes());
    (0..50).for_each(|_| assert!(story.tick(1)));
    let items = story.read(socket, &mut decoder);
    assert!(matches!(items[..], [Item::Response { status: 101, .. }]), "{items:?}");
    assert_eq!(codes(&mut story, &mut peers), [None; 10], "their shard has not come round");
    settle(&mut story);
    assert_eq!(codes(&mut story, &mut peers), [REPLACED; 10]);
    assert_eq!(story.counter("connections_replaced"), 10);
}
