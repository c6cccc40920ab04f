//! Requests in pieces, several at once, and frames in the same input as the upgrade.

use super::client::{RESPONSE, message, request, served};
use super::harness::{Harness, PING, Sending};
use crate::http::{Refusal, Route};
use crate::wire::close::CloseCode;
use crate::wire::header::OpCode;

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

/// An upgrade and frames right behind it, and what is sent for them.
fn upgrade_with_frames() -> (Vec<u8>, Vec<u8>) {
    let large = vec![7; 300];
    let frames = [
        message(OpCode::Text, b"first"),
        message(OpCode::Binary, &large),
        message(OpCode::Text, b"last"),
    ];
    let answers = [
        served(true, OpCode::Text, b"first"),
        served(true, OpCode::Binary, &large),
        served(true, OpCode::Text, b"last"),
    ];
    let input = [&request("/echo")[..], &frames.concat()].concat();
    (input, [RESPONSE, &answers.concat()].concat())
}

#[test]
fn a_request_split_at_every_byte_loses_nothing() {
    let (input, expected) = upgrade_with_frames();
    for split in 0..=input.len() {
        let mut harness = Harness::new(Sending::Eager);
        harness.feed(&input[..split]);
        harness.feed(&input[split..]);
        assert_eq!(harness.sent(), expected, "{split}");
        assert_eq!(harness.upgraded, Some(Route::Echo), "{split}");
        assert!(harness.websocket().owns_nothing(), "{split}");
    }
}

#[test]
fn a_request_in_single_bytes_loses_nothing() {
    let (input, expected) = upgrade_with_frames();
    let mut harness = Harness::new(Sending::Eager);
    for (place, byte) in input.iter().enumerate() {
        let is_within = place > 0 && harness.stage.is_request();
        assert_eq!(harness.stage.has_partial_request(), is_within);
        harness.feed(&[*byte]);
    }
    assert_eq!(harness.sent(), expected);
}

#[test]
fn publications_may_come_with_the_upgrade() {
    let frames = message(OpCode::Text, b"at once");
    let input = [request("/broadcast/t?exclude_self=true"), frames].concat();
    for split in 0..=input.len() {
        let mut harness = Harness::new(Sending::Eager);
        harness.feed(&input[..split]);
        harness.feed(&input[split..]);
        let route = Route::Broadcast { topic: "t".into(), may_publish: true, exclude_self: true };
        assert_eq!(harness.upgraded, Some(route), "{split}");
        assert_eq!(harness.published, [served(true, OpCode::Text, b"at once")], "{split}");
        assert_eq!(harness.sent(), RESPONSE, "{split}");
    }
}

#[test]
fn nothing_goes_ahead_of_the_response() {
    let frames = [message(OpCode::Text, b"early"), message(OpCode::Ping, b"p")].concat();
    let input = [HEALTH, &request("/echo"), &frames].concat();
    for sending in [Sending::Eager, Sending::Lazy] {
        for split in 0..=input.len() {
            let mut harness = Harness::new(sending);
            harness.feed(&input[..split]);
            harness.feed(&input[split..]);
            harness.ping();
            let sent = harness.sent();
            assert!(sent.starts_with(b"HTTP/1.1 200 OK\r\n"), "{split}");
            let upgraded = sent.windows(RESPONSE.len()).position(|window| window == RESPONSE);
            let frames = &sent[upgraded.expect("the response is whole") + RESPONSE.len()..];
            let mut expected = [
                served(true, OpCode::Text, b"early"),
                served(true, OpCode::Pong, b"p"),
                served(true, OpCode::Ping, PING),
            ]
            .concat();
            let mut actual = frames.to_vec();
            expected.sort_unstable();
            actual.sort_unstable();
            assert_eq!(actual, expected, "{split}");
        }
    }
}

#[test]
fn plain_requests_may_come_before_the_upgrade_and_together() {
    let (upgrade, expected) = upgrade_with_frames();
    let mut once = Harness::new(Sending::Eager);
    once.feed(HEALTH);
    let answer = once.sent();
    let input = [HEALTH, HEALTH, &upgrade].concat();
    for split in 0..=input.len() {
        let mut harness = Harness::new(Sending::Eager);
        harness.feed(&input[..split]);
        harness.feed(&input[split..]);
        assert_eq!(harness.sent(), [&answer[..], &answer, &expected].concat(), "{split}");
    }
}

#[test]
fn many_pipelined_requests_wait_for_the_peer_to_read() {
    let (upgrade, expected) = upgrade_with_frames();
    let input = [&HEALTH.repeat(50)[..], &upgrade].concat();
    let mut once = Harness::new(Sending::Eager);
    once.feed(HEALTH);
    let all = [&once.sent().repeat(50)[..], &expected].concat();
    // Whole, and with the first request carried over.
    for split in [0, 10] {
        let mut harness = Harness::new(Sending::Eager);
        harness.feed(&input[..split]);
        harness.feed(&input[split..]);
        let mut pauses = 0;
        while harness.paused {
            assert!(harness.stage.is_request() && harness.has_stash());
            pauses += 1;
            harness.resume();
        }
        assert_eq!(harness.sent(), all);
        assert_eq!(pauses, 3);
        assert_eq!(harness.stage.held_bytes(), 0);
    }
}

#[test]
fn a_refused_request_ends_the_connection_or_lets_it_try_again() {
    let mut harness = Harness::new(Sending::Eager);
    harness.feed(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(harness.sent().starts_with(b"HTTP/1.1 404 "));
    assert!(!harness.finished && harness.stage.is_request());
    harness.feed(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(harness.refused, [Refusal::NotFound, Refusal::MissingHost]);
    assert!(harness.finished && harness.stage.is_ended());
    let sent = harness.sent();
    harness.feed(&request("/echo"));
    assert_eq!(harness.sent(), sent);
}

#[test]
fn a_request_that_never_ends_is_refused_at_its_limit() {
    let mut harness = Harness::new(Sending::Eager);
    harness.feed(b"GET / HTTP/1.1\r\n");
    for _ in 0..1024 {
        harness.feed(b"x");
    }
    assert!(harness.finished);
    assert_eq!(harness.refused.len(), 1);
    assert_eq!(harness.stage.held_bytes(), 0);
}

#[test]
fn a_late_request_is_refused_and_a_late_websocket_is_not() {
    let mut harness = Harness::new(Sending::Eager);
    harness.feed(b"GET /echo HTTP/1.1\r\n");
    harness.command(|stage, output| stage.time_out_request(false, 7, output));
    assert!(harness.sent().starts_with(b"HTTP/1.1 408 "));
    assert!(harness.finished && harness.refused == [Refusal::Timeout]);

    let mut harness = Harness::open("/echo", Sending::Eager);
    harness.command(|stage, output| stage.time_out_request(false, 7, output));
    assert!(harness.stage.is_open() && harness.sent().is_empty());
}

#[test]
fn closing_before_the_upgrade_just_ends() {
    let mut harness = Harness::new(Sending::Eager);
    harness.command(|stage, output| stage.close(CloseCode::GOING_AWAY, "", output));
    assert!(harness.finished && harness.stage.is_ended() && harness.sent().is_empty());
}
