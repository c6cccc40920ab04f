//! The closing handshake in both directions, and connections that end without one.

use crate::peer::{CLOSE, FIN, PING, PONG, Peer, TEXT, frame};
use crate::server::{Server, wait_until};

#[test]
fn every_valid_code_of_the_peer_is_echoed_and_then_the_connection_ends() {
    let server = Server::start(1, &[]);
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    for code in codes.into_iter().chain([3000, 3999, 4000, 4999]) {
        for reason in ["", "because", &"r".repeat(123)] {
            let mut peer = Peer::upgrade(server.address(), "/echo");
            let payload = [&u16::to_be_bytes(code)[..], reason.as_bytes()].concat();
            peer.send_frame(CLOSE, &payload);
            assert_eq!(peer.read_close().0, code);
            peer.expect_end();
        }
    }
    assert_eq!(server.stats().closes("remote", 1003), 3);
    server.stop();
}

#[test]
fn a_close_without_a_code_is_answered_without_one() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    peer.send_frame(CLOSE, b"");
    assert_eq!(peer.read_frame().payload, b"");
    peer.expect_end();
    server.stop();
}

#[test]
fn messages_before_the_close_are_answered_and_those_after_it_are_not() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let before = [frame(FIN | TEXT, b"one"), frame(FIN | TEXT, b"two")].concat();
    let close = frame(FIN | CLOSE, &1000_u16.to_be_bytes());
    let after = [frame(FIN | TEXT, b"three"), frame(FIN | PING, b"four")].concat();
    peer.send(&[before, close, after].concat());
    peer.expect(TEXT, b"one");
    peer.expect(TEXT, b"two");
    let answer = peer.read_frame();
    assert_eq!((answer.opcode, &answer.payload[..]), (CLOSE, &1000_u16.to_be_bytes()[..]));
    peer.expect_end_or_reset();
    server.stop();
}

#[test]
fn streams_end_although_the_process_has_no_descriptor_free() {
    let server = Server::start(1, &[]);
    server.allow_descriptors(3);
    for _ in 0..3 {
        let mut peer = Peer::upgrade(server.address(), "/echo");
        peer.send_close(1000);
        assert_eq!(peer.read_close().0, 1000);
        peer.expect_end();
    }
    server.allow_descriptors(1000);
    server.stop();
}

#[test]
fn a_close_inside_a_fragmented_message_is_answered() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    peer.send(&frame(TEXT, b"never finished"));
    peer.send_close(1001);
    assert_eq!(peer.read_close().0, 1001);
    peer.expect_end();
    server.stop();
}

#[test]
fn after_our_close_the_server_waits_for_the_answer_and_ends_with_fin() {
    let server = Server::start(1, &["--close-timeout", "60s"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    peer.send(&frame(FIN | 3, b""));
    assert_eq!(peer.read_close().0, 1002);
    peer.send_close(1002);
    peer.expect_end();
    server.stop();
}

#[test]
fn a_peer_that_never_answers_the_close_is_cut() {
    let server = Server::start(1, &["--close-timeout", "1s"]);
    let idle = server.stats().connections_open();
    // The reset throws away what has not been read by then, so the counters tell what was sent.
    let mut silent = Peer::upgrade(server.address(), "/echo");
    silent.send(&frame(FIN | 3, b""));
    wait_until("the silent peer is cut", || server.stats().connections_open() == idle);
    assert_eq!(server.stats().closes("local", 1002), 1);
    // One that goes on with data is no better than one that is silent.
    let mut deaf = Peer::upgrade(server.address(), "/echo");
    deaf.send(&frame(FIN | 3, b""));
    wait_until("the deaf peer is cut", || {
        deaf.send_unheard(&frame(FIN | TEXT, b"still talking"));
        server.stats().connections_open() == idle
    });
    assert_eq!(server.stats().closes("local", 1002), 2);
    drop((silent, deaf));
    server.stop();
}

#[test]
fn a_peer_that_answers_but_never_closes_its_socket_is_cut() {
    let server = Server::start(1, &["--close-timeout", "1s"]);
    let idle = server.stats().connections_open();
    let mut peer = Peer::upgrade(server.address(), "/echo");
    peer.send_close(1000);
    // It may be cut before this thread has read the answer, so the counters tell.
    wait_until("the server lets go", || server.stats().connections_open() == idle);
    assert_eq!(server.stats().closes("remote", 1000), 1);
    drop(peer);
    server.stop();
}

#[test]
fn a_peer_that_only_shuts_down_writing_still_gets_its_answers() {
    let server = Server::start(1, &[]);
    let idle = server.stats().connections_open();
    let mut peer = Peer::upgrade(server.address(), "/echo");
    peer.send_frame(TEXT, b"last words");
    peer.send_frame(PING, b"p");
    peer.shut_down_writing();
    let mut answers = Vec::new();
    while let Some(answer) = peer.try_read_frame() {
        answers.push((answer.opcode, answer.payload));
    }
    assert!(answers.contains(&(TEXT, b"last words".to_vec())), "{answers:?}");
    assert!(answers.contains(&(PONG, b"p".to_vec())), "{answers:?}");
    wait_until("the server lets go", || server.stats().connections_open() == idle);
    server.stop();
}

#[test]
fn connections_that_vanish_leave_nothing_behind() {
    let server = Server::start(2, &[]);
    let idle = server.stats().connections_open();
    for round in 0..200 {
        let path = if round % 2 == 0 { "/echo" } else { "/broadcast/gone" };
        let mut peer = Peer::upgrade(server.address(), path);
        match round % 4 {
            0 => peer.reset(),
            1 => drop(peer),
            2 => {
                peer.send(&frame(FIN | TEXT, &[b'x'; 4000])[..2000]);
                peer.reset();
            }
            _ => {
                peer.send_frame(TEXT, &[b'x'; 4000]);
                drop(peer);
            }
        }
    }
    wait_until("all are gone", || server.stats().connections_open() == idle);
    server.stop();
}
