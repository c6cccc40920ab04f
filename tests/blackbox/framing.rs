//! Every violation of RFC 6455 sections 5 to 8 fails the connection at once and with its own code.

use crate::peer::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, Peer, TEXT, frame, header};
use crate::server::Server;

#[test]
fn protocol_violations_are_closed_with_1002() {
    let mut cases = vec![
        ("an unmasked frame", vec![FIN | TEXT, 1, b'a']),
        ("an unmasked ping", vec![FIN | PING, 0]),
        ("RSV1", frame(FIN | 0x40 | TEXT, b"a")),
        ("RSV2", frame(FIN | 0x20 | TEXT, b"a")),
        ("RSV3", frame(FIN | 0x10 | TEXT, b"a")),
        ("RSV1 of a control frame", frame(FIN | 0x40 | PING, b"")),
        ("a ping of 126 bytes", frame(FIN | PING, &[0; 126])),
        ("a pong of 126 bytes", frame(FIN | PONG, &[0; 126])),
        ("a close of 126 bytes", frame(FIN | CLOSE, &[3; 126])),
        ("a fragmented ping", frame(PING, b"")),
        ("a fragmented pong", frame(PONG, b"")),
        ("a fragmented close", frame(CLOSE, b"")),
        ("125 in two bytes", [&[FIN | BINARY, 0xfe, 0, 125], &[0; 4 + 125][..]].concat()),
        (
            "125 in eight bytes",
            [&[FIN | BINARY, 0xff, 0, 0, 0, 0, 0, 0, 0, 125], &[0; 4][..]].concat(),
        ),
        ("65535 in eight bytes", vec![FIN | BINARY, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        ("the length's top bit", vec![FIN | BINARY, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ("a continuation of nothing", frame(CONTINUATION, b"a")),
        ("a last continuation of nothing", frame(FIN | CONTINUATION, b"a")),
        ("text inside text", [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat()),
        ("binary inside text", [frame(TEXT, b"a"), frame(BINARY, b"b")].concat()),
        ("a close of one byte", frame(FIN | CLOSE, &[3])),
    ];
    for opcode in (0x3..=0x7).chain(0xb..=0xf) {
        cases.push(("a reserved opcode", frame(FIN | opcode, b"")));
        cases.push(("the first byte alone with a reserved opcode", vec![FIN | opcode]));
    }
    let server = Server::start(1, &[]);
    for (what, bytes) in &cases {
        expect_close(&server, what, bytes, 1002);
    }
    assert_eq!(server.stats().closes("local", 1002), cases.len() as u64);
    server.stop();
}

#[test]
fn close_codes_that_may_not_be_sent_are_closed_with_1002() {
    let server = Server::start(1, &[]);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        let bytes = frame(FIN | CLOSE, &code.to_be_bytes());
        expect_close(&server, &format!("close code {code}"), &bytes, 1002);
    }
    server.stop();
}

#[test]
fn invalid_utf8_is_closed_with_1007_as_soon_as_it_shows() {
    let euro = "\u{20ac}".as_bytes();
    let cases = [
        ("a lone continuation byte", frame(FIN | TEXT, b"a\x80")),
        ("an overlong form", frame(FIN | TEXT, b"\xc0\xaf")),
        ("a surrogate", frame(FIN | TEXT, b"\xed\xa0\x80")),
        ("above U+10FFFF", frame(FIN | TEXT, b"\xf4\x90\x80\x80")),
        ("an incomplete character at the end", frame(FIN | TEXT, &euro[..2])),
        ("a fragment, the message still open", frame(TEXT, b"good\xffbad")),
        (
            "a character broken by the next fragment",
            [frame(TEXT, &euro[..2]), frame(CONTINUATION, b"a")].concat(),
        ),
        (
            "an incomplete character at the end of the last fragment",
            [frame(TEXT, b"ok"), frame(FIN | CONTINUATION, &euro[..1])].concat(),
        ),
        ("a close reason", frame(FIN | CLOSE, b"\x03\xe8\xff")),
    ];
    let server = Server::start(1, &[]);
    for (what, bytes) in &cases {
        expect_close(&server, what, bytes, 1007);
    }
    // 9,000 bytes are announced; the bad one is among the first.
    let whole = frame(FIN | TEXT, &[&[b'a'; 100], &[0xff][..], &[b'a'; 8899]].concat());
    expect_close(&server, "the first part of a frame", &whole[..8 + 101], 1007);
    server.stop();
}

#[test]
fn what_looks_unusual_but_is_right_is_served() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let euro = "\u{20ac}".as_bytes();
    for (first, part) in [(TEXT, &euro[..1]), (CONTINUATION, &euro[1..2])] {
        peer.send(&frame(first, part));
        peer.send_frame(PING, b"between");
        peer.expect(PONG, b"between");
    }
    peer.send(&frame(FIN | CONTINUATION, &euro[2..]));
    peer.expect(TEXT, euro);
    // A binary message keeps its fragments on the way back.
    peer.send(&[frame(BINARY, b""), frame(CONTINUATION, b""), frame(FIN, b"")].concat());
    for (fin, opcode) in [(false, BINARY), (false, CONTINUATION), (true, CONTINUATION)] {
        let part = peer.read_frame();
        assert_eq!((part.fin, part.opcode, &part.payload[..]), (fin, opcode, &b""[..]));
    }
    peer.send_frame(PONG, b"nobody asked");
    peer.send_frame(BINARY, b"\xff is fine here");
    peer.expect(BINARY, b"\xff is fine here");
    peer.send_frame(PING, &[b'p'; 125]);
    peer.expect(PONG, &[b'p'; 125]);
    server.stop();
}

#[test]
fn messages_over_the_limit_are_closed_with_1009_before_they_arrive() {
    let server = Server::start(1, &["--max-message", "1KiB"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    peer.send_frame(BINARY, &[1; 1024]);
    peer.expect(BINARY, &[1; 1024]);
    drop(peer);
    expect_close(&server, "a header that announces 1025", &header(FIN | BINARY, 1025), 1009);
    expect_close(&server, "a header that announces 4 EiB", &header(FIN | TEXT, 1 << 62), 1009);
    let parts = [frame(BINARY, &[1; 1000]), header(FIN | CONTINUATION, 25)].concat();
    expect_close(&server, "fragments of 1025", &parts, 1009);
    assert_eq!(server.stats().closes("local", 1009), 3);
    server.stop();
}

#[test]
fn too_many_fragments_and_too_many_control_frames_are_closed_with_1008() {
    let server = Server::start(1, &["--max-fragments", "8", "--max-control-rate", "20"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let mut eight = frame(TEXT, b"1");
    (2..8).for_each(|_| eight.extend(frame(CONTINUATION, b"n")));
    peer.send(&[&eight[..], &frame(FIN | CONTINUATION, b"8")].concat());
    peer.expect(TEXT, b"1nnnnnn8");
    drop(peer);
    let nine = [&eight[..], &frame(CONTINUATION, b"8"), &frame(FIN | CONTINUATION, b"9")].concat();
    expect_close(&server, "nine fragments", &nine, 1008);
    // In one write: however the second falls, far more than 20 are in one.
    expect_close(&server, "500 pings", &frame(FIN | PING, b"").repeat(500), 1008);
    server.stop();
}

#[test]
fn message_types_that_are_not_accepted_are_closed_with_1003() {
    for (accepted, right, wrong) in [("text", TEXT, BINARY), ("binary", BINARY, TEXT)] {
        let server = Server::start(1, &["--message-types", accepted]);
        let mut peer = Peer::upgrade(server.address(), "/echo");
        peer.send_frame(right, b"yes");
        peer.expect(right, b"yes");
        drop(peer);
        expect_close(&server, accepted, &frame(FIN | wrong, b"no"), 1003);
        server.stop();
    }
}

#[test]
fn what_came_before_the_violation_is_answered_first() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let bytes = [frame(FIN | TEXT, b"good"), frame(FIN | PING, b"p"), frame(FIN | 3, b"")].concat();
    peer.send(&bytes);
    let (mut echoed, mut ponged) = (false, false);
    let code = loop {
        let answer = peer.read_frame();
        match answer.opcode {
            TEXT => echoed = answer.payload == b"good",
            PONG => ponged = answer.payload == b"p",
            _ => break crate::peer::close_payload(&answer.payload).0,
        }
    };
    assert_eq!((echoed, ponged, code), (true, true, 1002));
    server.stop();
}

/// Sends bytes on a new connection and expects the close frame and then the end.
fn expect_close(server: &Server, what: &str, bytes: &[u8], expected: u16) {
    let mut peer = Peer::upgrade(server.address(), "/echo");
    peer.send(bytes);
    let (code, reason) = peer.read_close();
    assert_eq!(code, expected, "{what}: {reason}");
    assert!(reason.len() <= 123, "{what}: the reason fits a control frame");
    peer.send_unheard(&frame(FIN | CLOSE, &code.to_be_bytes()));
    peer.expect_end_or_reset();
}
