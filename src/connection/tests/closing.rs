//! The closing handshake from this side, and that nothing ever follows a close frame.

use super::client::{close, message, open, served};
use super::harness::{Harness, Sending};
use crate::websocket::Initiator;
use crate::wire::close::CloseCode;
use crate::wire::header::{OpCode, close_frame};

fn shut(harness: &mut Harness) {
    harness.command(|stage, output| stage.close(CloseCode::GOING_AWAY, "stop", output));
}

#[test]
fn we_close_the_peer_answers_and_we_finish() {
    for path in ["/echo", "/broadcast/t"] {
        let mut harness = Harness::open(path, Sending::Eager);
        shut(&mut harness);
        assert_eq!(harness.sent(), close_frame(CloseCode::GOING_AWAY, "stop"));
        assert_eq!(harness.closed, Some((Initiator::Local, CloseCode::GOING_AWAY)));
        assert!(harness.stage.is_closing() && !harness.stage.is_open() && !harness.finished);
        shut(&mut harness);
        harness.feed(&close(CloseCode::NORMAL, b"whatever"));
        assert!(harness.finished && harness.stage.is_ended());
        assert_eq!(harness.sent(), close_frame(CloseCode::GOING_AWAY, "stop"));
    }
}

#[test]
fn what_the_peer_sent_before_it_saw_our_close_is_skipped() {
    let script = [
        message(OpCode::Text, b"text"),
        message(OpCode::Binary, &[1; 200]),
        message(OpCode::Ping, b"ping"),
        open(OpCode::Text, b"not \xff text"),
        message(OpCode::Continuation, b""),
        open(OpCode::Binary, b""),
        message(OpCode::Continuation, &[2; 200]),
        close(CloseCode::NORMAL, b""),
        message(OpCode::Text, b"never looked at"),
    ]
    .concat();
    for path in ["/echo", "/broadcast/t"] {
        for split in 0..script.len() {
            let mut harness = Harness::open(path, Sending::Eager);
            shut(&mut harness);
            harness.feed(&script[..split]);
            harness.feed(&script[split..]);
            assert_eq!(harness.sent(), close_frame(CloseCode::GOING_AWAY, "stop"), "{split}");
            assert!(harness.published.is_empty() && harness.messages == 0, "{split}");
            assert!(harness.stage.is_ended() && harness.websocket().owns_nothing(), "{split}");
        }
    }
}

#[test]
fn a_violation_after_our_close_ends_without_a_second_one() {
    for bad in [&[0xff_u8, 0xff][..], &message(OpCode::Continuation, b"x"), b"\x88\x00"] {
        let mut harness = Harness::open("/echo", Sending::Eager);
        shut(&mut harness);
        harness.feed(bad);
        assert_eq!(harness.sent(), close_frame(CloseCode::GOING_AWAY, "stop"));
        assert!(harness.stage.is_ended() && harness.finished);
        assert_eq!(harness.closed, Some((Initiator::Local, CloseCode::GOING_AWAY)));
    }
}

#[test]
fn a_close_waits_for_the_end_of_the_frame_being_reflected() {
    let payload = [9; 200];
    let frame = message(OpCode::Binary, &payload);
    let expected = served(true, OpCode::Binary, &payload);
    for split in 8..frame.len() {
        let mut harness = Harness::open("/echo", Sending::Eager);
        harness.feed(&frame[..split]);
        shut(&mut harness);
        harness.ping();
        assert_eq!(harness.closed, None);
        // Its deadline runs from now on, however long the peer keeps the frame open.
        assert!(harness.stage.is_closing() && !harness.stage.is_open());
        let rest = [&frame[split..], &message(OpCode::Text, b"skipped")].concat();
        harness.feed(&rest);
        let close = close_frame(CloseCode::GOING_AWAY, "stop");
        assert_eq!(harness.sent(), [&expected[..], &close].concat(), "{split}");
        assert_eq!(harness.closed, Some((Initiator::Local, CloseCode::GOING_AWAY)));
        assert!(harness.stage.is_closing());
    }
}

#[test]
fn a_close_between_reflected_fragments_goes_at_once() {
    let mut harness = Harness::open("/echo", Sending::Eager);
    harness.feed(&open(OpCode::Binary, b"first"));
    shut(&mut harness);
    harness.feed(&message(OpCode::Continuation, b"second"));
    let expected = served(false, OpCode::Binary, b"first");
    let close = close_frame(CloseCode::GOING_AWAY, "stop");
    assert_eq!(harness.sent(), [expected, close].concat());
    harness.feed(&message(OpCode::Close, b""));
    assert!(harness.stage.is_ended());
}

#[test]
fn a_close_within_an_assembled_message_drops_it() {
    let frame = message(OpCode::Text, b"never delivered");
    for path in ["/echo", "/broadcast/t"] {
        let mut harness = Harness::open(path, Sending::Eager);
        harness.feed(&frame[..9]);
        shut(&mut harness);
        harness.feed(&frame[9..]);
        assert_eq!(harness.sent(), close_frame(CloseCode::GOING_AWAY, "stop"));
        assert!(harness.published.is_empty() && harness.websocket().owns_nothing());
        harness.feed(&message(OpCode::Close, b""));
        assert!(harness.stage.is_ended() && harness.finished);
    }
}

#[test]
fn a_peer_that_closes_within_a_message_leaves_nothing_behind() {
    for path in ["/echo", "/broadcast/t"] {
        let mut harness = Harness::open(path, Sending::Eager);
        harness.feed(&open(OpCode::Text, &[b'x'; 1000]));
        harness.feed(&close(CloseCode::NORMAL, b""));
        assert!(harness.stage.is_ended() && harness.websocket().owns_nothing());
    }
}

#[test]
fn nothing_follows_the_answer_to_a_close() {
    for path in ["/echo", "/broadcast/t"] {
        let mut harness = Harness::open(path, Sending::Eager);
        let after = [message(OpCode::Text, b"x"), message(OpCode::Ping, b"x")].concat();
        harness.feed(&[close(CloseCode::NORMAL, b""), after.clone()].concat());
        harness.feed(&after);
        shut(&mut harness);
        harness.ping();
        assert_eq!(harness.sent(), close_frame(CloseCode::NORMAL, ""));
        assert!(harness.published.is_empty());
    }
}
