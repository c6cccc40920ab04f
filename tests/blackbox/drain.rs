//! Stopping: readiness, queued data, close 1001 to all, exit status; and the signals around it.

use std::process::Command;
use std::thread;

use crate::SHARD_COUNTS;
use crate::peer::{CLOSE, Peer, TEXT, close_payload, frame};
use crate::server::{Server, wait_until};

#[test]
fn every_connection_gets_1001_and_the_process_ends_with_0() {
    for (shards, signal) in SHARD_COUNTS.into_iter().zip(["TERM", "INT", "HUP"]) {
        // These tests may run where the terminal's end is ignored, as below nohup.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(Server::command().get_program());
        Server::set_environment(&mut command);
        let flags = ["--drain", "1s", "--close-timeout", "60s"];
        let mut server = Server::start_as(command, &["127.0.0.1:0"], shards, &flags);
        let mut peers: Vec<_> = (0..50)
            .map(|number| {
                let path = if number % 2 == 0 { "/echo" } else { "/broadcast/drain" };
                Peer::upgrade(server.address(), path)
            })
            .collect();
        let closing: Vec<_> = peers
            .drain(..)
            .map(|mut peer| {
                thread::spawn(move || {
                    let (code, _) = peer.read_close();
                    peer.send_close(code);
                    peer.expect_end();
                    code
                })
            })
            .collect();
        server.signal(signal);
        for peer in closing {
            assert_eq!(peer.join().expect("a clean close"), 1001);
        }
        assert!(server.wait().success(), "{}", server.output());
    }
}

#[test]
fn readiness_turns_503_and_new_upgrades_are_refused_on_connections_already_open() {
    let server = Server::start(1, &["--drain", "1h", "--close-timeout", "1h"]);
    let mut plain = Peer::connect(server.address());
    let healthy = plain.get("/healthz");
    assert_eq!((healthy.status, healthy.header("retry-after")), (200, None));
    // One that keeps the server from ending at once.
    let _member = Peer::upgrade(server.address(), "/echo");
    server.signal("TERM");
    let mut draining = plain.get("/healthz");
    while draining.status == 200 {
        draining = plain.get("/healthz");
    }
    assert_eq!(draining.status, 503);
    assert!(draining.header("retry-after").is_some());
}

#[test]
fn queued_data_is_delivered_before_the_close() {
    let mut server =
        Server::start(2, &["--drain", "1s", "--close-timeout", "60s", "--max-backlog", "32MiB"]);
    let mut reader = Peer::connect_narrow(server.address()).upgraded("/broadcast/queue");
    let mut publisher = Peer::upgrade(server.address(), "/broadcast/queue");
    for number in 0..QUEUED {
        let payload = sized(number);
        publisher.send_frame(TEXT, &payload);
        // The publisher has it back, so the reader's shard has it or has yet to take it.
        publisher.expect(TEXT, &payload);
    }
    wait_until("the reader's shard has taken all", || {
        server.stats().deliveries() == 2 * QUEUED as u64
    });
    server.signal("TERM");
    assert_eq!(publisher.read_close().0, 1001);
    publisher.send_close(1001);
    for number in 0..QUEUED {
        reader.expect(TEXT, &sized(number));
    }
    let close = reader.read_frame();
    assert_eq!((close.opcode, close_payload(&close.payload).0), (CLOSE, 1001));
    reader.send_close(1001);
    assert!(server.wait().success());
}

#[test]
fn a_hang_up_that_was_ignored_from_the_beginning_is_ignored() {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(Server::command().get_program());
    let server = Server::start_as(command, &["127.0.0.1:0"], 1, &[]);
    server.signal("HUP");
    // Whatever the signal would do is done before what follows it.
    for count in 1..=3 {
        server.signal("USR1");
        wait_until("the counters are printed", || {
            server.output().matches("connections_open").count() >= count
        });
    }
    assert_eq!(Peer::connect(server.address()).get("/healthz").status, 200);
    assert!(!server.output().contains("SIGHUP"), "{}", server.output());
    server.stop();
}

#[test]
fn answers_to_plain_requests_are_delivered_before_the_end() {
    let mut server = Server::start(1, &["--drain", "1h", "--max-backlog", "32MiB"]);
    let page_bytes = Peer::connect(server.address()).get("/").body.len();
    let requests = QUEUED_BYTES / page_bytes;
    let mut reader = Peer::connect_narrow(server.address());
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    reader.send(&request.repeat(requests));
    wait_until("all requests have arrived", || {
        server.stats().bytes_in() >= (requests * request.len()) as u64
    });
    server.signal("TERM");
    // No answer: it has ended already, because the kernel has taken all that is queued.
    wait_until("the server drains", || {
        server.ask("/healthz").is_none_or(|answer| answer.starts_with("HTTP/1.1 503 "))
    });
    // Whole answers all of them; the last says that requests behind it are not answered any more.
    let mut is_last = false;
    while !is_last {
        let response = reader.read_response();
        assert_eq!((response.status, response.body.len()), (200, page_bytes));
        is_last = response.header("connection") == Some("close");
    }
    assert!(server.wait().success());
}

#[test]
fn a_drain_without_a_window_says_goodbye_as_well() {
    let mut server = Server::start(1, &["--drain", "0ms"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    server.signal("TERM");
    assert_eq!(peer.read_close().0, 1001);
    assert!(server.wait().success());
}

/// A message in pieces has a deadline of its own, which must not take the place of the drain's.
#[test]
fn a_peer_in_the_middle_of_a_message_is_told_in_time() {
    let mut server = Server::start(1, &["--drain", "3s", "--close-timeout", "60s"]);
    let mut plain = Peer::connect(server.address());
    let mut peers: Vec<_> =
        (0..4).map(|_| Peer::upgrade(server.address(), "/broadcast/pieces")).collect();
    server.signal("TERM");
    while plain.get("/healthz").status == 200 {}
    for peer in &mut peers {
        peer.send(&frame(TEXT, b"begun, and never ended"));
    }
    for peer in &mut peers {
        assert_eq!(peer.read_close().0, 1001);
        peer.send_close(1001);
    }
    assert!(server.wait().success());
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut server = Server::start(1, &["--drain", "1h", "--close-timeout", "1h"]);
    let mut plain = Peer::connect(server.address());
    let _silent: Vec<_> = (0..5).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    server.signal("TERM");
    while plain.get("/healthz").status == 200 {}
    server.signal("TERM");
    server.wait();
}

#[test]
fn a_server_without_connections_ends_at_once() {
    for shards in SHARD_COUNTS {
        Server::start(shards, &["--drain", "1h"]).stop();
    }
}

#[test]
fn sigusr1_prints_the_counters_and_changes_nothing() {
    let server = Server::start(2, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let before = server.output().len();
    server.signal("USR1");
    wait_until("the counters are printed", || {
        let output = server.output();
        output[before..].contains("connections_open") && output[before..].contains("messages_in")
    });
    peer.send(&frame(crate::peer::FIN | TEXT, b"still serving"));
    peer.expect(TEXT, b"still serving");
    server.stop();
}

fn sized(number: usize) -> Vec<u8> {
    let mut payload = format!("{number:>6}").into_bytes();
    payload.resize(8192, b'.');
    payload
}

/// More than the kernel takes for a socket (4 MiB), less than the backlog may hold.
const QUEUED_BYTES: usize = 8 << 20;
/// Of 8 KiB each: more than the kernel takes for a socket (4 MiB), less than the backlog may hold.
const QUEUED: usize = 1000;
