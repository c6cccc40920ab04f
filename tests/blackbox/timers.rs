//! The deadlines: handshake, idle with a ping before it, lifetime. Only their order is tested, for
//! how long they take is the machine's affair.

use crate::peer::{CLOSE, PING, PONG, Peer, TEXT, close_payload, upgrade_request};
use crate::server::Server;

#[test]
fn a_request_that_is_never_complete_is_answered_with_408() {
    let server = Server::start(1, &["--handshake-timeout", "500ms"]);
    let request = upgrade_request("/echo", "");
    for sent in [0, 1, 20, request.len() - 1] {
        let mut peer = Peer::connect(server.address());
        peer.send(&request[..sent]);
        let response = peer.read_response();
        assert_eq!(response.status, 408, "after {sent} bytes");
        assert_eq!(response.header("connection"), Some("close"));
        peer.expect_end_or_reset();
    }
    assert!(server.stats().connections_refused() >= 4);
    server.stop();
}

#[test]
fn a_request_that_drips_is_bounded_by_the_same_deadline() {
    let server = Server::start(1, &["--handshake-timeout", "500ms"]);
    let mut peer = Peer::connect(server.address());
    let mut writer = peer.writer();
    let drip = std::thread::spawn(move || {
        use std::io::Write;
        let endless = b"GET /echo HTTP/1.1\r\nHost: a\r\nX: ".iter().chain([b'x'].iter().cycle());
        for byte in endless.take(1000) {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("1,000 bytes dripped in and the server never gave up");
    });
    assert_eq!(peer.read_response().status, 408);
    drop(peer);
    drip.join().expect("the server gave up");
    server.stop();
}

#[test]
fn an_idle_peer_is_pinged_and_one_that_answers_stays() {
    let server = Server::start(1, &["--idle-timeout", "1s"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    for _ in 0..4 {
        let ping = peer.read_frame();
        assert_eq!(ping.opcode, PING);
        peer.send_frame(PONG, &ping.payload);
    }
    peer.send_frame(TEXT, b"alive");
    loop {
        let answer = peer.read_frame();
        if answer.opcode != PING {
            assert_eq!((answer.opcode, &answer.payload[..]), (TEXT, &b"alive"[..]));
            break;
        }
        peer.send_frame(PONG, &answer.payload);
    }
    server.stop();
}

#[test]
fn an_idle_peer_that_never_answers_is_pinged_and_then_closed() {
    let server = Server::start(1, &["--idle-timeout", "1s", "--close-timeout", "1s"]);
    let mut peer = Peer::upgrade(server.address(), "/broadcast/idle");
    assert_eq!(peer.read_frame().opcode, PING);
    let close = peer.read_frame();
    assert_eq!(close.opcode, CLOSE);
    assert_eq!(close_payload(&close.payload).0, IDLE_CODE);
    peer.expect_end_or_reset();
    server.stop();
}

#[test]
fn a_parked_connection_wakes_up_for_data_and_for_broadcasts() {
    let server = Server::start(2, &["--park-after", "100ms", "--idle-timeout", "600ms"]);
    let mut echo = Peer::upgrade(server.address(), "/echo");
    let mut member = Peer::upgrade(server.address(), "/broadcast/parked");
    for round in 0..3_u8 {
        // The ping of the idle timer says that both have been silent for longer than park-after.
        for peer in [&mut echo, &mut member] {
            let ping = peer.read_frame();
            assert_eq!(ping.opcode, PING);
            peer.send_frame(PONG, &ping.payload);
        }
        for peer in [&mut echo, &mut member] {
            peer.send_frame(TEXT, &[b'a' + round]);
            loop {
                let answer = peer.read_frame();
                if answer.opcode != PING {
                    assert_eq!(answer.payload, [b'a' + round]);
                    break;
                }
                peer.send_frame(PONG, &answer.payload);
            }
        }
    }
    server.stop();
}

#[test]
fn a_busy_connection_ends_with_its_lifetime() {
    let server = Server::start(1, &["--lifetime", "1s"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let mut echoed = 0;
    let code = loop {
        peer.send_unheard(&crate::peer::frame(crate::peer::FIN | TEXT, b"busy"));
        let answer = peer.read_frame();
        if answer.opcode == CLOSE {
            break close_payload(&answer.payload).0;
        }
        assert_eq!((answer.opcode, &answer.payload[..]), (TEXT, &b"busy"[..]));
        echoed += 1;
    };
    assert!(echoed > 0, "the lifetime begins with the upgrade");
    assert_eq!(code, LIFETIME_CODE);
    server.stop();
}

/// A peer that is silent for too long: the server goes away from it.
const IDLE_CODE: u16 = 1001;
const LIFETIME_CODE: u16 = 1001;
