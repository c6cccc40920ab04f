//! Tokens and time: a connection ends with its token wherever it is then, and a crowd that brings
//! tokens takes turns.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use ringwire::config::Config;
use ringwire::identity::{Keys, Revocations, Trust};
use serde_json::json;

use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, CLOSE};
use crate::network::SocketId;
use crate::story::Story;

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// Shards that ask for tokens, which may be in the query.
fn guarded(shards: usize) -> Story {
    let story = Story::new(shards, |config, _| {
        config.identity.jwt_keys = vec!["hs256:/secret".parse().expect("a file")];
        config.identity.jwt_query = true;
        config.limits.idle_timeout = None;
        config.limits.ping_interval = None;
    });
    let config = story.shared.in_force.current().config.clone();
    let trust = trust(&config);
    story.shared.in_force.replace(config, trust, None);
    story
}

/// Trusts the one key that these settings have.
pub fn trust(config: &Config) -> Trust {
    let mut keys = Keys::default();
    keys.add(&config.identity.jwt_keys[0], SECRET, &config.identity).expect("a secret");
    Trust { keys: Arc::new(keys), ..Trust::default() }
}

/// A token that this key has signed.
pub fn token(claims: &serde_json::Value) -> String {
    let key = EncodingKey::from_secret(SECRET).expect("a secret");
    encode(&Header::default(), claims, &key).expect("a token")
}

/// A path with a token that holds for so many seconds from the beginning of the story on.
fn path(story: &Story, holds_s: u64) -> String {
    // Five seconds are added for clocks that differ.
    let expires_s = story.shared.stats.started_at().as_secs() + holds_s - 5;
    let claims = json!({ "sub": "alice", "jti": holds_s.to_string(), "exp": expires_s,
        "ringwire": { "subscribe": ["a"], "publish": ["a"] } });
    format!("/broadcast/a?access_token={}", token(&claims))
}

fn is_open(story: &mut Story, socket: SocketId, decoder: &mut Decoder) -> bool {
    let items = story.read(socket, decoder);
    let expired = [&3000_u16.to_be_bytes()[..], b"token expired"].concat();
    let close = Item::Control { opcode: CLOSE, payload: expired };
    assert!(items.iter().all(|item| *item == close), "{items:?}");
    items.is_empty()
}

#[test]
fn a_silent_connection_ends_with_its_token() {
    let mut story = guarded(1);
    let short = path(&story, 20);
    let (socket, mut decoder) = story.open(0, &short);
    let (stream, mut lines) = (story.connect(0), Decoder::default());
    let request = frames::stream(0, "1.1");
    let target = short.replace("access_token", "mode=stream&access_token");
    let request = String::from_utf8(request).expect("text");
    let (_, rest) = request.split_once(" HTTP").expect("a version");
    story.write(stream, format!("GET {target} HTTP{rest}").as_bytes());
    story.settle(0);
    let items = story.read(stream, &mut lines);
    assert!(matches!(items[..], [Item::Response { status: 200, .. }]), "{items:?}");
    story.pass(Duration::from_secs(18));
    assert!(is_open(&mut story, socket, &mut decoder));
    assert_eq!(story.counter("streams_open"), 1);
    story.pass(Duration::from_secs(3));
    assert!(!is_open(&mut story, socket, &mut decoder));
    assert_eq!(story.counter("tokens_outlived"), 2, "the stream as well");
}

#[test]
fn a_token_goes_along_when_its_connection_moves() {
    let mut story = guarded(2);
    let short = path(&story, 20);
    let (socket, mut decoder) = story.open(0, &short);
    let key = story.shards[0].connections().keys()[0];
    assert!(story.shards[0].move_to(key, 1));
    story.pass(Duration::from_secs(10));
    assert_eq!(story.shards[1].connections().len(), 1, "it has moved");
    // Whoever takes its place has another token.
    let long = path(&story, 40);
    let (other, mut other_decoder) = story.open(0, &long);
    story.pass(Duration::from_secs(8));
    assert!(is_open(&mut story, socket, &mut decoder));
    story.pass(Duration::from_secs(3));
    assert!(!is_open(&mut story, socket, &mut decoder));
    story.pass(Duration::from_secs(10));
    assert!(is_open(&mut story, other, &mut other_decoder));
    story.pass(Duration::from_secs(11));
    assert!(!is_open(&mut story, other, &mut other_decoder));
}

/// Whoever comes to the place of somebody whose token has expired is not closed for that.
#[test]
fn a_place_keeps_nothing_of_who_was_there() {
    let mut story = guarded(1);
    let short = path(&story, 20);
    let (first, _) = story.open(0, &short);
    story.reset(first);
    story.settle(0);
    let mut config = story.shared.in_force.current().config.clone();
    config.identity = Default::default();
    story.shared.in_force.replace(config, Trust::default(), None);
    let (second, mut decoder) = story.open(0, "/echo");
    story.pass(Duration::from_secs(60));
    assert!(is_open(&mut story, second, &mut decoder));
}

/// Revokes by a list, as a file or a request does.
fn revoke(story: &Story, list: &str) {
    let current = story.shared.in_force.current();
    let revocations = Arc::new(Revocations::parse(list).expect("a list"));
    let trust = Trust { revocations, ..current.trust.clone() };
    story.shared.in_force.replace(current.config.clone(), trust, None);
}

/// The close that comes, if one has come.
fn close_of(story: &mut Story, socket: SocketId, decoder: &mut Decoder) -> Option<Vec<u8>> {
    story.read(socket, decoder).into_iter().find_map(|item| match item {
        Item::Control { opcode: CLOSE, payload } => Some(payload),
        _ => None,
    })
}

#[test]
fn whoever_is_revoked_is_closed_wherever_that_is() {
    let mut story = guarded(2);
    let revoked = [&3000_u16.to_be_bytes()[..], b"token revoked"].concat();
    // More than are looked at in a tick, on both shards.
    let mut peers = Vec::new();
    for number in 0..10 {
        let path = path(&story, 1000 + number);
        peers.push((number, story.open(number as usize % 2, &path)));
    }
    // Settings that change in each tick do not keep anybody from being looked at.
    for _ in 0..20 {
        revoke(&story, "token 1003\ntoken 1008\nuser bob");
        assert!(story.tick(0) && story.tick(1));
    }
    for (number, (socket, decoder)) in &mut peers {
        let expected = [3, 8].contains(number).then(|| revoked.clone());
        assert_eq!(close_of(&mut story, *socket, decoder), expected, "{number}");
    }
    assert_eq!(story.counter("connections_revoked"), 2);
    // One that is on its way meanwhile is closed where it arrives, and one whose end has begun
    // before it leaves is not closed again.
    let echo = path(&story, 2000).replace("/broadcast/a", "/echo");
    story.open(0, &echo);
    let keys = story.shards[0].connections().keys();
    let (first, last) = (keys[0], keys[keys.len() - 1]);
    assert!(story.shards[0].move_to(last, 1) && story.shards[0].move_to(first, 1));
    (0..5).for_each(|_| assert!(story.tick(0)));
    revoke(&story, "user alice");
    story.pass(Duration::from_secs(1));
    assert_eq!(story.counter("connections_moved"), 2);
    assert_eq!(story.counter("connections_revoked"), 11);
    let path = path(&story, 1000);
    let (socket, mut decoder) = (story.connect(0), Decoder::default());
    let upgrade = frames::upgrade(&mut story.rng, &path);
    story.write(socket, &upgrade);
    story.settle(0);
    let items = story.read(socket, &mut decoder);
    assert!(matches!(items[..], [Item::Response { status: 401, .. }]), "{items:?}");
    assert_eq!(story.counter("tokens_revoked"), 1);
}

/// One that is about to leave when it is its turn to be looked at, and that stays after all as its
/// peer does not read, is closed as well.
#[test]
fn whoever_is_revoked_and_does_not_leave_after_all_is_closed() {
    let mut story = guarded(2);
    let mut config = story.shared.in_force.current().config.clone();
    config.limits.backlog_bytes = 1 << 20;
    let trust = trust(&config);
    story.shared.in_force.replace(config, trust, None);
    let path = path(&story, 1000).replace("/broadcast/a", "/echo");
    let (socket, mut decoder) = story.open(0, &path);
    (0..4).for_each(|_| story.send(socket, BINARY, &[0; 3000]));
    story.settle(0);
    let key = story.shards[0].connections().keys()[0];
    assert!(story.shards[0].move_to(key, 1));
    assert!(story.tick(0));
    revoke(&story, "user alice");
    story.pass(Duration::from_secs(1));
    assert_eq!(story.counter("connections_moved"), 0);
    let last = story.read_all(0, socket, &mut decoder).pop();
    assert!(matches!(last, Some(Item::Control { opcode: CLOSE, .. })), "it is closed");
    assert_eq!(story.counter("connections_revoked"), 1);
}

/// Only so many tokens are verified in a tick; who is connected is served in each.
#[test]
fn a_crowd_with_tokens_takes_turns() {
    const CROWD: usize = 12;
    let mut story = guarded(1);
    let long = path(&story, 1000);
    let (bystander, mut decoder) = story.open(0, &long);
    let upgrade = frames::upgrade(&mut story.rng, &long);
    let crowd: Vec<_> = (0..CROWD).map(|_| story.connect(0)).collect();
    story.settle(0);
    crowd.iter().for_each(|&socket| story.write(socket, &upgrade));
    let mut open = vec![story.counter("websockets_open")];
    for _ in 0..4 * CROWD {
        story.send(bystander, BINARY, b"meanwhile");
        story.tick(0);
        open.push(story.counter("websockets_open"));
    }
    assert_eq!(open.last(), Some(&(CROWD as u64 + 1)), "all are let in");
    assert!(open.windows(2).all(|pair| pair[1] - pair[0] <= 1), "one in each tick: {open:?}");
    assert!(story.counter("requests_deferred") > 0);
    let heard = story.read_all(0, bystander, &mut decoder).len();
    assert!(heard >= 4 * CROWD - 1, "{heard} of {}", 4 * CROWD);
}
