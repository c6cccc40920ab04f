//! Requests about which somebody is asked: they wait, and each wait has one end.

use std::sync::Arc;
use std::time::Duration;

use ringwire::identity::{
    Credentials, Denial, Grants, Identity, Judgement, NEVER_S, Revocations, Trust, UserGrants,
};
use ringwire::shard::Shard;
use ringwire::shard::inquiries::{Consultation, INQUIRIES_MOST};
use ringwire::shard::pause::WaitsFor;

use crate::control::consent;
use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY};
use crate::kernel::Kernel;
use crate::network::SocketId;
use crate::story::Story;

/// Whether a request waits for somebody to say whether it is granted.
pub fn is_waiting(shard: &Shard<Kernel>) -> bool {
    let mut connections = shard.connections().iter();
    connections.any(|(_, connection)| connection.waits_for == Some(WaitsFor::Judgement))
}

/// Shards that ask somebody about every request.
fn guarded(shards: usize) -> Story {
    Story::new(shards, |config, _| {
        config.backend.url = Some("http://backend/".parse().expect("a URL"));
        config.limits.idle_timeout = None;
        config.limits.ping_interval = None;
    })
}

/// A connection that has asked for something.
fn ask(story: &mut Story, request: &[u8]) -> (SocketId, Decoder) {
    let socket = story.connect(0);
    story.write(socket, request);
    story.settle(0);
    (socket, Decoder::default())
}

fn upgrade(story: &mut Story) -> Vec<u8> {
    frames::upgrade(&mut story.rng, "/echo")
}

/// What the shards want asked since they were last listened to.
fn heard(story: &mut Story) -> Vec<Consultation> {
    story.control.hear();
    std::mem::take(story.control.consultations())
}

fn statuses(story: &mut Story, socket: SocketId, decoder: &mut Decoder) -> Vec<u16> {
    let items = story.read(socket, decoder).into_iter();
    let statuses = items.map(|item| match item {
        Item::Response { status, .. } => status,
        item => panic!("{item:?}"),
    });
    statuses.collect()
}

#[test]
fn a_request_waits_for_its_judgement_and_nothing_else_does() {
    let mut story = guarded(1);
    let mut request = upgrade(&mut story);
    request.extend(frames::frame(&mut story.rng, true, BINARY, b"early"));
    let (socket, mut decoder) = ask(&mut story, &request);
    let page = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let (other, mut other_decoder) = ask(&mut story, page);
    assert_eq!(statuses(&mut story, other, &mut other_decoder), [200]);
    // What it sends meanwhile stays in the network.
    story.send(socket, BINARY, b"later");
    let before = story.consumed(socket);
    story.settle(0);
    assert!(story.consumed(socket) - before <= 4096);
    assert!(story.read(socket, &mut decoder).is_empty(), "nobody has said anything");
    let mut asked = heard(&mut story);
    assert_eq!(asked.len(), 1);
    story.control.answer(asked.remove(0), consent());
    let items = story.read_all(0, socket, &mut decoder);
    let message = |payload: &[u8]| Item::Message { opcode: BINARY, payload: payload.into() };
    let response = Item::Response { status: 101, closes: false };
    assert_eq!(items, [response, message(b"early"), message(b"later")]);
}

#[test]
fn more_requests_than_are_asked_about_at_a_time_take_turns() {
    const CROWD: usize = 7;
    let mut story = guarded(1);
    let request = upgrade(&mut story);
    let mut crowd: Vec<_> = (0..CROWD).map(|_| ask(&mut story, &request)).collect();
    let mut asked = 0;
    while story.counter("websockets_open") < CROWD as u64 {
        let consultations = heard(&mut story);
        assert!((1..=INQUIRIES_MOST).contains(&consultations.len()));
        asked += consultations.len();
        for consultation in consultations {
            story.control.answer(consultation, consent());
        }
        story.settle(0);
    }
    assert_eq!(asked, CROWD, "nobody is asked twice");
    for (socket, decoder) in &mut crowd {
        assert_eq!(statuses(&mut story, *socket, decoder), [101]);
    }
}

#[test]
fn an_answer_that_comes_too_late_meets_nobody() {
    let mut story = guarded(1);
    let request = upgrade(&mut story);
    let (socket, mut decoder) = ask(&mut story, &request);
    let mut late = heard(&mut story);
    story.pass(Duration::from_secs(4));
    assert_eq!(statuses(&mut story, socket, &mut decoder), [503]);
    assert_eq!(story.refused("unjudged"), 1);
    story.reset(socket);
    // Somebody else has its place.
    let (second, mut second_decoder) = ask(&mut story, &request);
    story.control.answer(late.remove(0), consent());
    story.settle(0);
    assert!(story.read(second, &mut second_decoder).is_empty());
    let denial = Judgement::Denied(Denial { is_forbidden: true, challenge: None });
    let mut asked = heard(&mut story);
    story.control.answer(asked.remove(0), denial);
    story.settle(0);
    assert_eq!(statuses(&mut story, second, &mut second_decoder), [403]);
    assert_eq!(story.counter("websockets_open"), 0);
}

#[test]
fn whoever_waits_for_too_long_in_the_line_is_refused_and_forgotten() {
    let mut story = guarded(1);
    let request = upgrade(&mut story);
    let mut crowd: Vec<_> = (0..6).map(|_| ask(&mut story, &request)).collect();
    // Nobody ever answers, and all places stay taken.
    let mut kept = Vec::new();
    let mut told = Vec::new();
    for _ in 0..11 {
        story.pass(Duration::from_secs(1));
        story.settle(0);
        kept.extend(heard(&mut story));
        for (socket, decoder) in &mut crowd {
            told.extend(statuses(&mut story, *socket, decoder));
        }
    }
    assert_eq!(told, [503; 6]);
    assert_eq!(story.refused("unjudged"), 6);
    for (socket, _) in crowd {
        story.reset(socket);
    }
    story.pass(Duration::from_secs(6));
    assert_eq!(story.counter("connections_open"), 0);
    // As soon as there are places again, others are asked about.
    kept.clear();
    let (socket, mut decoder) = ask(&mut story, &request);
    let mut asked = heard(&mut story);
    story.control.answer(asked.remove(0), consent());
    story.settle(0);
    assert_eq!(statuses(&mut story, socket, &mut decoder), [101]);
}

#[test]
fn whoever_waits_stays_on_its_shard_and_is_told_when_the_server_stops() {
    let mut story = guarded(2);
    let request = upgrade(&mut story);
    let (socket, mut decoder) = ask(&mut story, &request);
    let key = story.shards[0].connections().keys()[0];
    assert!(!story.shards[0].move_to(key, 1));
    let mut asked = heard(&mut story);
    story.drain();
    story.settle(0);
    story.control.answer(asked.remove(0), consent());
    story.settle(0);
    assert_eq!(statuses(&mut story, socket, &mut decoder), [503]);
    assert_eq!(story.refused("draining"), 1);
}

/// Passwords are asked about in the same way, and what is known of their users is added.
#[test]
fn a_password_waits_to_be_checked_and_its_user_may_do_what_a_list_grants() {
    let mut story = Story::new(1, |config, _| {
        config.identity.basic_users = Some("/users".parse().expect("a file"));
        config.limits.idle_timeout = None;
        config.limits.ping_interval = None;
    });
    let user_grants = Arc::new(UserGrants::parse("publish a u").expect("a list"));
    let config = story.shared.in_force.current().config.clone();
    story.shared.in_force.replace(config, Trust { user_grants, ..Trust::default() }, None);
    // `u:p`
    let post = |topic: &str| {
        format!(
            "POST /broadcast/{topic} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic dTpw\r\n\
             Content-Length: 1\r\n\r\nx"
        )
    };
    let (socket, mut decoder) = ask(&mut story, (post("a") + &post("b")).as_bytes());
    let user = Identity { user: Some("u".into()), token_id: None, expires_s: NEVER_S };
    let known = Credentials { identity: user, grants: Grants::default() };
    let known = Judgement::Allowed(known);
    for (judgement, status) in [(known.clone(), 202), (known, 403)] {
        let mut asked = heard(&mut story);
        assert_eq!(asked.len(), 1);
        let login = asked[0].inquiry.login.as_ref().expect("a password");
        assert_eq!((login.user(), login.password()), ("u", "p"));
        story.control.answer(asked.remove(0), judgement);
        story.settle(0);
        assert_eq!(statuses(&mut story, socket, &mut decoder), [status]);
    }
}

/// What has been said of one request is not taken for the next of the same connection.
#[test]
fn each_request_of_a_connection_has_its_own_judgement() {
    let mut story = guarded(1);
    let post = b"POST /broadcast/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    let both = [&post[..], post].concat();
    let (socket, mut decoder) = ask(&mut story, &both);
    let mut asked = heard(&mut story);
    assert_eq!(asked.len(), 1);
    story.control.answer(asked.remove(0), consent());
    story.settle(0);
    assert_eq!(statuses(&mut story, socket, &mut decoder), [202]);
    let mut asked = heard(&mut story);
    story.control.answer(asked.remove(0), Judgement::Unknown);
    story.settle(0);
    assert_eq!(statuses(&mut story, socket, &mut decoder), [503]);
    assert_eq!(story.counter("inquiries"), 2);
}

/// A user who is revoked while somebody is asked about them is not let in.
#[test]
fn a_judgement_of_somebody_who_is_revoked_does_not_hold() {
    let mut story = guarded(1);
    let request = upgrade(&mut story);
    let (socket, mut decoder) = ask(&mut story, &request);
    let mut asked = heard(&mut story);
    let revocations = Arc::new(Revocations::parse("user u").expect("a list"));
    let config = story.shared.in_force.current().config.clone();
    story.shared.in_force.replace(config, Trust { revocations, ..Trust::default() }, None);
    story.control.answer(asked.remove(0), consent());
    story.settle(0);
    assert_eq!(statuses(&mut story, socket, &mut decoder), [401]);
    assert_eq!(story.counter("tokens_revoked"), 1);
}

/// Whom the one who is asked has named counts as that user.
#[test]
fn connections_of_users_are_bounded_whoever_has_named_them() {
    let mut story = guarded(1);
    let mut config = story.shared.in_force.current().config.clone();
    config.identity.connections_per_user = Some(1);
    story.shared.in_force.replace(config, Trust::default(), None);
    story.settle(0);
    let request = upgrade(&mut story);
    let mut decoders = Vec::new();
    for _ in 0..2 {
        let (socket, mut decoder) = ask(&mut story, &request);
        let mut asked = heard(&mut story);
        story.control.answer(asked.remove(0), consent());
        story.settle(0);
        assert_eq!(statuses(&mut story, socket, &mut decoder), [101]);
        decoders.push(decoder);
    }
    assert_eq!(story.shared.admission.seated("u"), 1);
    assert_eq!(story.counter("connections_replaced"), 1);
}
