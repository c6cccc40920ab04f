//! Every rule of RFC 6455 sections 5 to 8 that a client can break, with the close code it gets.

use super::client::{KEY, close, message, open, request, served};
use super::harness::{Harness, Sending};
use crate::config::{BroadcastAccess, Limits, MessageTypes};
use crate::http::Refusal;
use crate::websocket::Initiator;
use crate::wire::close::CloseCode;
use crate::wire::header::OpCode;

const PATHS: [&str; 2] = ["/echo", "/broadcast/t"];

/// Checks that `script` fails with `code`, at once and byte by byte, in both modes, and that what
/// comes after it is not looked at.
fn fails(script: &[u8], code: CloseCode) {
    fails_with(script, code, |_| {});
}

fn fails_with(script: &[u8], code: CloseCode, prepare: impl Fn(&mut Harness)) {
    for path in PATHS {
        for chunk_bytes in [1, script.len()] {
            let mut harness = Harness::open(path, Sending::Eager);
            prepare(&mut harness);
            script.chunks(chunk_bytes).for_each(|chunk| harness.feed(chunk));
            harness.feed(&message(OpCode::Text, b"too late"));
            harness.feed(&message(OpCode::Ping, b"too late"));
            let transcript = harness.transcript();
            assert_eq!(transcript.close_code(), Some(code), "{path} {script:x?}");
            assert_eq!(harness.closed, Some((Initiator::Local, code)), "{path} {script:x?}");
            assert!(harness.finished && harness.stage.is_ended(), "{path} {script:x?}");
            assert!(transcript.controls.is_empty() && harness.published.is_empty());
        }
    }
}

/// Checks that `script` is an ordinary one, and what the echo makes of it.
fn echoes(script: &[u8], expected: &[(OpCode, &[u8])]) {
    let mut harness = Harness::open("/echo", Sending::Eager);
    harness.feed(script);
    let transcript = harness.transcript();
    let expected: Vec<_> = expected.iter().map(|(op, payload)| (*op, payload.to_vec())).collect();
    assert_eq!(transcript.messages, expected, "{script:x?}");
    assert_eq!(transcript.close, None, "{script:x?}");
}

/// A masked frame from its first two bytes on, for what no encoder would write.
fn raw(head: &[u8], payload: &[u8]) -> Vec<u8> {
    let masked = payload.iter().enumerate().map(|(index, byte)| byte ^ KEY.0[index % 4]);
    [head, &KEY.0, &masked.collect::<Vec<_>>()].concat()
}

#[test]
fn section_5_1_clients_mask() {
    for opcode in [OpCode::Text, OpCode::Binary, OpCode::Ping, OpCode::Pong, OpCode::Close] {
        fails(&served(true, opcode, b""), CloseCode::PROTOCOL_ERROR);
    }
}

#[test]
fn section_5_2_reserved_bits_and_opcodes() {
    for bits in [0x40, 0x20, 0x10, 0x70] {
        for opcode in [0x1, 0x2, 0x8, 0x9, 0xa] {
            fails(&raw(&[0x80 | bits | opcode, 0x80], b""), CloseCode::PROTOCOL_ERROR);
        }
    }
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        fails(&raw(&[0x80 | opcode, 0x80], b""), CloseCode::PROTOCOL_ERROR);
    }
}

#[test]
fn section_5_2_lengths_are_minimal_and_below_two_to_the_63() {
    for length in [0, 1, 125] {
        fails(&raw(&[0x82, 0xfe, 0, length], b""), CloseCode::PROTOCOL_ERROR);
        let long = [0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, length];
        fails(&raw(&long, b""), CloseCode::PROTOCOL_ERROR);
    }
    fails(&raw(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], b""), CloseCode::PROTOCOL_ERROR);
    fails(&raw(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0], b""), CloseCode::PROTOCOL_ERROR);
    for bytes in [0, 1, 125, 126, 127, 0xffff, 0x1_0000] {
        let payload = vec![b'x'; bytes];
        echoes(&message(OpCode::Text, &payload), &[(OpCode::Text, &payload)]);
        echoes(&message(OpCode::Binary, &payload), &[(OpCode::Binary, &payload)]);
    }
}

#[test]
fn section_5_4_fragments_make_one_message() {
    let (text, binary) = (OpCode::Text, OpCode::Binary);
    let rest = [open(OpCode::Continuation, b""), message(OpCode::Continuation, b"c")].concat();
    echoes(&[open(text, b"ab"), rest.clone()].concat(), &[(text, b"abc")]);
    echoes(&[open(binary, b"ab"), rest].concat(), &[(binary, b"abc")]);
    let empty = [open(text, b""), message(OpCode::Continuation, b"")].concat();
    echoes(&empty, &[(text, b"")]);

    let stray = CloseCode::PROTOCOL_ERROR;
    fails(&message(OpCode::Continuation, b"x"), stray);
    fails(&open(OpCode::Continuation, b"x"), stray);
    for (first, second) in [(text, text), (binary, binary), (text, binary), (binary, text)] {
        fails(&[open(first, b"x"), message(second, b"y")].concat(), stray);
        fails(&[open(first, b"x"), open(second, b"y")].concat(), stray);
    }
    let whole = [open(text, b"x"), message(OpCode::Continuation, b"y")].concat();
    fails_after_message(&[whole, message(OpCode::Continuation, b"z")].concat(), stray);
}

/// As [`fails`], where a message is complete before.
fn fails_after_message(script: &[u8], code: CloseCode) {
    let mut harness = Harness::open("/echo", Sending::Eager);
    harness.feed(script);
    let transcript = harness.transcript();
    assert_eq!((transcript.close_code(), transcript.messages.len()), (Some(code), 1));
}

#[test]
fn section_5_5_control_frames_are_short_and_whole() {
    for opcode in [OpCode::Ping, OpCode::Pong, OpCode::Close] {
        fails(&open(opcode, b""), CloseCode::PROTOCOL_ERROR);
        fails(&message(opcode, &[b'x'; 126]), CloseCode::PROTOCOL_ERROR);
        fails(&message(opcode, &[b'x'; 70_000]), CloseCode::PROTOCOL_ERROR);
    }
}

#[test]
fn section_5_5_1_close_is_answered_with_its_code() {
    let codes = (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]);
    for code in codes.map(CloseCode) {
        for path in PATHS {
            let mut harness = Harness::open(path, Sending::Eager);
            harness.feed(&close(code, "reason \u{20ac}".as_bytes()));
            assert_eq!(harness.transcript().close, Some(code.0.to_be_bytes().to_vec()));
            assert_eq!(harness.closed, Some((Initiator::Remote, code)));
            assert!(harness.finished && harness.stage.is_ended());
        }
    }
    let mut harness = Harness::open("/echo", Sending::Eager);
    harness.feed(&message(OpCode::Close, b""));
    assert_eq!(harness.transcript().close, Some(Vec::new()));
    assert_eq!(harness.closed, Some((Initiator::Remote, CloseCode::NO_STATUS)));

    let mut longest = CloseCode::NORMAL.0.to_be_bytes().to_vec();
    longest.resize(125, b'x');
    let mut harness = Harness::open("/echo", Sending::Eager);
    harness.feed(&message(OpCode::Close, &longest));
    assert_eq!(harness.transcript().close_code(), Some(CloseCode::NORMAL));
}

#[test]
fn section_7_4_codes_that_may_not_be_sent() {
    fails(&message(OpCode::Close, b"\x03"), CloseCode::PROTOCOL_ERROR);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        fails(&close(CloseCode(code), b""), CloseCode::PROTOCOL_ERROR);
    }
    fails(&close(CloseCode::NORMAL, b"\xce\xba\xe1\xbd"), CloseCode::INVALID_PAYLOAD);
}

#[test]
fn section_5_5_2_pings_are_answered_between_fragments() {
    for path in PATHS {
        let mut harness = Harness::open(path, Sending::Eager);
        harness.feed(&open(OpCode::Text, b"a"));
        harness.feed(&message(OpCode::Ping, &[0xff; 125]));
        harness.feed(&[message(OpCode::Ping, b""), message(OpCode::Pong, b"unasked")].concat());
        harness.feed(&message(OpCode::Continuation, b"b"));
        let pongs = harness.transcript().controls;
        assert!(pongs.iter().all(|pong| pong.opcode == OpCode::Pong && pong.fin));
        let payloads: Vec<_> = pongs.into_iter().map(|pong| pong.payload).collect();
        assert_eq!(payloads, [vec![0xff; 125], Vec::new()]);
        assert_eq!(harness.messages, 1);
    }
}

#[test]
fn section_8_1_text_is_utf_8() {
    let code = CloseCode::INVALID_PAYLOAD;
    for bad in [&b"\xff"[..], b"abc\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        fails(&message(OpCode::Text, bad), code);
        let (head, tail) = bad.split_at(bad.len() / 2);
        fails(&[open(OpCode::Text, head), message(OpCode::Continuation, tail)].concat(), code);
        echoes(&message(OpCode::Binary, bad), &[(OpCode::Binary, bad)]);
    }
    let euro = "\u{20ac}".as_bytes();
    let split = [open(OpCode::Text, &euro[..1]), message(OpCode::Continuation, &euro[1..])];
    echoes(&split.concat(), &[(OpCode::Text, euro)]);
}

#[test]
fn section_8_1_text_fails_at_its_first_bad_byte() {
    let whole = message(OpCode::Text, b"good \xf4\x90 and never more than that");
    for path in PATHS {
        let mut harness = Harness::open(path, Sending::Eager);
        harness.feed(&whole[..12]);
        assert!(harness.stage.is_open(), "f4 may begin a character");
        harness.feed(&whole[12..13]);
        assert_eq!(harness.transcript().close_code(), Some(CloseCode::INVALID_PAYLOAD));
    }
}

#[test]
fn limits_of_messages_hold_before_their_payload_comes() {
    let limited = |harness: &mut Harness| {
        harness.limits = Limits { message_bytes: 10, message_fragments: 3, ..Limits::default() };
    };
    let (too_big, too_many) = (CloseCode::MESSAGE_TOO_BIG, CloseCode::POLICY_VIOLATION);
    for opcode in [OpCode::Text, OpCode::Binary] {
        fails_with(&message(opcode, b"01234567890")[..6], too_big, limited);
        let claim = [opcode as u8 | 0x80, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        fails_with(&raw(&claim, b""), too_big, limited);
        let rest = message(OpCode::Continuation, b"67890");
        fails_with(&[open(opcode, b"012345"), rest].concat(), too_big, limited);
        let more = open(OpCode::Continuation, b"");
        let four = [open(opcode, b"x"), more.clone(), more.clone(), more].concat();
        fails_with(&four, too_many, limited);
    }
}

#[test]
fn message_types_that_are_not_accepted() {
    let code = CloseCode::UNSUPPORTED_DATA;
    for (accepted, other) in
        [(MessageTypes::Text, OpCode::Binary), (MessageTypes::Binary, OpCode::Text)]
    {
        let only = |harness: &mut Harness| harness.message_types = accepted;
        fails_with(&message(other, b"x"), code, only);
        fails_with(&open(other, b"x"), code, only);
    }
}

#[test]
fn control_frames_are_counted_by_the_second() {
    let mut harness = Harness::open("/echo", Sending::Eager);
    harness.limits.control_frames_per_second = 3;
    let ping = message(OpCode::Ping, b"");
    for now_s in [0, 1, u16::MAX, 0] {
        harness.now_s = now_s;
        (0..3).for_each(|_| harness.feed(&ping));
        assert!(harness.stage.is_open());
    }
    harness.feed(&message(OpCode::Pong, b""));
    let transcript = harness.transcript();
    assert_eq!(transcript.close_code(), Some(CloseCode::POLICY_VIOLATION));
    assert_eq!(transcript.controls.len(), 12);
}

#[test]
fn who_may_only_subscribe_must_not_send_messages() {
    let scripts = [
        message(OpCode::Text, b"a"),
        message(OpCode::Binary, b""),
        open(OpCode::Text, b"the first part"),
    ];
    for script in scripts {
        for chunk_bytes in [1, script.len()] {
            let mut harness = Harness::new(Sending::Eager);
            harness.policy.permissions.broadcast = BroadcastAccess::Post;
            harness.feed(&request("/broadcast/t"));
            assert!(harness.stage.is_open());
            harness.feed(&message(OpCode::Ping, b"allowed"));
            script.chunks(chunk_bytes).for_each(|chunk| harness.feed(chunk));
            let transcript = harness.transcript();
            assert_eq!(transcript.close_code(), Some(CloseCode::POLICY_VIOLATION));
            let reason = transcript.close.expect("a close frame").split_off(2);
            assert_eq!(reason, b"publishing is not allowed here");
            assert_eq!(transcript.controls.len(), 1);
            assert!(harness.finished && harness.published.is_empty() && harness.messages == 0);
        }
    }
}

#[test]
fn who_may_only_subscribe_is_let_in_and_closes_in_order() {
    let mut harness = Harness::new(Sending::Eager);
    harness.policy.permissions.broadcast = BroadcastAccess::Post;
    harness.feed(&request("/broadcast/t"));
    harness.feed(&close(CloseCode(1000), b"bye"));
    assert_eq!(harness.closed, Some((Initiator::Remote, CloseCode(1000))));
    let mut echo = Harness::new(Sending::Eager);
    echo.policy.permissions.broadcast = BroadcastAccess::None;
    echo.feed(&request("/echo"));
    echo.feed(&message(OpCode::Text, b"an echo is no topic"));
    assert_eq!((echo.messages, echo.closed), (1, None));
    let mut refused = Harness::new(Sending::Eager);
    refused.policy.permissions.broadcast = BroadcastAccess::None;
    refused.feed(&request("/broadcast/t"));
    assert_eq!(refused.refused, [Refusal::Forbidden]);
}
