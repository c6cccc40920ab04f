//! The deadlines: handshake, idle with a ping before it, lifetime. Only their order is tested, for
//! how long they take is the machine's affair. What the test itself has to do in time, it has many
//! seconds for.

use crate::SHARD_COUNTS;
use crate::peer::{
    BINARY, CLOSE, FIN, PING, PONG, Peer, TEXT, close_payload, frame, header, upgrade_request,
};
use crate::server::{Server, wait_until};

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
    // A ping after 10 s, and as long again for the answer, however busy the machine is.
    let server = Server::start(1, &["--idle-timeout", "20s"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    // Had the first answer not counted, the second frame would be a close.
    for _ in 0..2 {
        let ping = peer.read_frame();
        assert_eq!(ping.opcode, PING);
        peer.send_frame(PONG, &ping.payload);
    }
    peer.send_frame(TEXT, b"alive");
    peer.expect(TEXT, b"alive");
    server.stop();
}

#[test]
fn an_idle_peer_that_never_answers_is_pinged_and_then_closed() {
    let server = Server::start(1, &["--idle-timeout", "1s", "--close-timeout", "60s"]);
    let mut peer = Peer::upgrade(server.address(), "/broadcast/idle");
    assert_eq!(peer.read_frame().opcode, PING);
    // It may be asked again until then.
    let close = std::iter::repeat_with(|| peer.read_frame()).find(|frame| frame.opcode != PING);
    let close = close.expect("frames come until one is no ping");
    assert_eq!(close.opcode, CLOSE);
    assert_eq!(close_payload(&close.payload).0, IDLE_CODE);
    peer.send_close(IDLE_CODE);
    peer.expect_end();
    server.stop();
}

#[test]
fn a_parked_connection_wakes_up_for_data_and_for_broadcasts() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--park-after", "100ms"]);
        let mut echo = Peer::upgrade(server.address(), "/echo");
        let mut member = Peer::upgrade(server.address(), "/broadcast/parked");
        let mut publisher = Peer::upgrade(server.address(), "/broadcast/parked?exclude_self=true");
        for round in 1..=3 {
            // Once the member, who never sends anything, and the others after each message.
            wait_until("all are parked", || server.stats().parked() > 2 * round);
            let message = [b'a' + round as u8];
            echo.send_frame(TEXT, &message);
            echo.expect(TEXT, &message);
            publisher.send_frame(TEXT, &message);
            member.expect(TEXT, &message);
        }
        server.stop();
    }
}

#[test]
fn a_busy_connection_ends_with_its_lifetime() {
    let server = Server::start(1, &["--lifetime", "1s", "--close-timeout", "60s"]);
    let mut peer = Peer::connect(server.address());
    let busy = frame(FIN | TEXT, b"busy");
    // The first message comes with the request, so there is time for it on any machine.
    peer.send(&[upgrade_request("/echo", ""), busy.clone()].concat());
    assert_eq!(peer.read_response().status, 101);
    peer.expect(TEXT, b"busy");
    let code = loop {
        peer.send(&busy);
        let answer = peer.read_frame();
        if answer.opcode == CLOSE {
            break close_payload(&answer.payload).0;
        }
        assert_eq!((answer.opcode, &answer.payload[..]), (TEXT, &b"busy"[..]));
    };
    assert_eq!(code, LIFETIME_CODE);
    server.stop();
}

/// What goes back part by part cannot be interrupted by a close frame: the connection ends.
#[test]
fn a_frame_that_drips_evades_neither_the_lifetime_nor_the_time_for_a_message() {
    for option in ["--lifetime", "--message-timeout"] {
        let server = Server::start(1, &[option, "1s", "--close-timeout", "500ms"]);
        let mut peer = Peer::upgrade(server.address(), "/echo");
        peer.send(&header(FIN | BINARY, 1 << 20));
        let mut writer = peer.writer();
        let drip = std::thread::spawn(move || {
            use std::io::Write;
            // Twenty seconds, should nobody end it.
            (0..1000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(20));
                writer.write_all(b"x").is_err()
            })
        });
        assert!(drip.join().expect("a thread that writes"), "{option} is evaded");
        server.stop();
    }
}

#[test]
fn a_long_request_is_no_silence_of_the_connection() {
    let server = Server::start(1, &["--idle-timeout", "2s", "--close-timeout", "60s"]);
    let mut peer = Peer::connect(server.address());
    for _ in 0..6 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(peer.get("/healthz").status, 200);
    }
    let mut peer = peer.upgraded("/echo");
    // Were it idle since it connected, it would be closed before it is pinged.
    assert_eq!(peer.read_frame().opcode, PING);
    server.stop();
}

/// A peer that is silent for too long: the server goes away from it.
const IDLE_CODE: u16 = 1001;
const LIFETIME_CODE: u16 = 1001;
