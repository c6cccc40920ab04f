//! Peers that send what nobody asked for, in numbers: answered or cut, and forgotten.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;

use crate::peer::{BINARY, CONTINUATION, FIN, PING, PONG, Peer, TEXT, frame, upgrade_request};
use crate::server::{Server, Stats, wait_until};

#[test]
fn unfinished_requests_keep_nobody_from_being_served() {
    let server = Server::start(2, &["--handshake-timeout", "2s", "--close-timeout", "60s"]);
    let idle = server.stats().connections_open();
    let request = upgrade_request("/echo", "");
    let mut loris: Vec<_> = (0..1000)
        .map(|number| {
            let mut peer = Peer::connect(server.address());
            peer.send(&request[..1 + number % (request.len() - 1)]);
            peer
        })
        .collect();
    for _ in 0..100 {
        let mut good = Peer::upgrade(server.address(), "/echo");
        good.send_frame(TEXT, b"served");
        good.expect(TEXT, b"served");
    }
    for peer in &mut loris {
        assert_eq!(peer.read_response().status, 408);
    }
    drop(loris);
    leaves_nothing(server, idle);
}

#[test]
fn garbage_and_tls_hellos_are_answered_with_a_refusal() {
    let server = Server::start(2, &[]);
    let idle = server.stats().connections_open();
    // A record header, a ClientHello of TLS 1.2 and the beginning of its random part.
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0x5a; 506]].concat();
    let mut random = fastrand::Rng::with_seed(1);
    let before = server.stats().connections_refused();
    for number in 0..400 {
        let garbage: Vec<u8> = (0..9000).map(|_| random.u8(..)).collect();
        let mut peer = Peer::connect(server.address());
        peer.send_unheard(if number % 2 == 0 { &hello } else { &garbage });
        assert!(matches!(peer.read_response().status, 400 | 414 | 431));
    }
    assert_eq!(server.stats().connections_refused() - before, 400);
    leaves_nothing(server, idle);
}

#[test]
fn floods_of_pings_and_of_headers_are_cut() {
    let server = Server::start(2, &[]);
    let idle = server.stats().connections_open();
    let pings = frame(FIN | PING, &[b'x'; 125]).repeat(5000);
    for _ in 0..10 {
        let mut peer = Peer::upgrade(server.address(), "/echo");
        peer.send_unheard(&pings);
        assert_eq!(peer.read_close().0, 1008);
        let mut peer = Peer::connect(server.address());
        peer.send(b"GET /echo HTTP/1.1\r\nHost: a\r\n");
        peer.send_unheard(&b"A: b\r\n".repeat(10_000));
        assert_eq!(peer.read_response().status, 431);
    }
    leaves_nothing(server, idle);
}

#[test]
fn resets_within_a_frame_leave_nothing_behind() {
    let server = Server::start(2, &[]);
    let idle = server.stats().connections_open();
    let half = &frame(FIN | BINARY, &[b'x'; 4000])[..2000];
    for number in 0..1000 {
        let path = if number % 2 == 0 { "/echo" } else { "/broadcast/half" };
        let mut peer = Peer::upgrade(server.address(), path);
        peer.send(half);
        peer.reset();
    }
    leaves_nothing(server, idle);
}

#[test]
fn a_server_that_was_stopped_goes_on_where_it_was() {
    let server = Server::start(2, &[]);
    let mut peers: Vec<_> = (0..20).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    server.signal("STOP");
    // The kernel accepts for a stopped server, and keeps what is sent.
    let mut newcomer = Peer::connect(server.address());
    newcomer.send(&upgrade_request("/echo", ""));
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.send_frame(TEXT, format!("while stopped {number}").as_bytes());
    }
    server.signal("CONT");
    assert_eq!(newcomer.read_response().status, 101);
    for (number, peer) in peers.iter_mut().enumerate() {
        peer.expect(TEXT, format!("while stopped {number}").as_bytes());
    }
    newcomer.send_frame(TEXT, b"served");
    newcomer.expect(TEXT, b"served");
    server.stop();
}

#[test]
fn memory_that_small_messages_fill_is_given_to_no_more_of_them() {
    // Each may queue 64 MiB. Upwards of 85 % no message is begun; how much came in before that was
    // seen decides whether somebody has to go.
    let mut flood = frame(FIN | CONTINUATION, b"");
    flood.extend(frame(FIN | TEXT, &[b'x'; 60_000]).repeat(1200));
    let is_short =
        |stats: &Stats| stats.memory_pressure() != "calm" || stats.connections_shed() > 0;
    fill_memory(flood, "memory is short", is_short);
}

#[test]
fn clients_that_fill_memory_are_shed_and_the_server_lives() {
    // Below 95 % a message that has begun is let in, and together these are more than the limit.
    let flood = frame(FIN | CONTINUATION, &[b'x'; 15 << 20]);
    fill_memory(flood, "somebody is shed", |stats| stats.connections_shed() > 0);
}

#[test]
fn memory_that_peers_filled_goes_back_to_the_kernel_when_they_leave() {
    let server = Server::start(2, &[]);
    let before = server.resident_bytes();
    let message = frame(FIN | TEXT, &[b'x'; 15 << 20]);
    let peers: Vec<_> = (0..12)
        .map(|_| {
            let mut peer = Peer::upgrade(server.address(), "/echo");
            peer.send(&message[..message.len() - 1]);
            peer
        })
        .collect();
    wait_until("memory is filled", || server.resident_bytes() > before + (100 << 20));
    drop(peers);
    // Nobody comes meanwhile, so nothing is allocated that would bring the allocator to it.
    wait_until("memory is back", || server.resident_bytes() < before + (4 << 20));
    server.stop();
}

#[test]
fn memory_that_peers_filled_goes_back_to_the_kernel_when_they_read() {
    const MESSAGES: usize = 400;
    let server = Server::start(2, &["--max-backlog", "64MiB"]);
    let before = server.resident_bytes();
    let payload = [b'x'; 60_000];
    let flood = frame(FIN | TEXT, &payload).repeat(MESSAGES);
    let mut peers: Vec<_> = (0..4)
        .map(|_| {
            let mut peer = Peer::upgrade(server.address(), "/echo");
            peer.send(&flood);
            peer
        })
        .collect();
    wait_until("memory is filled", || server.resident_bytes() > before + (16 << 20));
    for peer in &mut peers {
        for _ in 0..MESSAGES {
            peer.expect(TEXT, &payload);
        }
    }
    wait_until("memory is back", || server.resident_bytes() < before + (4 << 20));
    drop(peers);
    server.stop();
}

#[test]
fn memory_is_watched_again_after_it_could_not_be_measured() {
    let server = Server::start(1, &["--max-memory", "64MiB"]);
    server.allow_descriptors(3);
    wait_until("it was noticed", || server.output().contains("memory cannot be measured"));
    server.allow_descriptors(1024);
    let message = frame(FIN | TEXT, &[b'x'; 15 << 20]);
    let mut peers: Vec<_> = (0..8).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    for peer in &mut peers {
        peer.send_unheard(&message[..message.len() - 1]);
    }
    let readiness = || server.ask_admin("/readyz").expect("it answers");
    let told = "\r\n\r\nshort of memory: ";
    wait_until("memory is short", || readiness().contains(told));
    drop(peers);
    wait_until("memory is calm", || readiness().ends_with("\r\n\r\nready\n"));
    server.stop();
}

/// Sixteen clients have all begun a message when each sends this, and they read nothing more.
fn fill_memory(flood: Vec<u8>, what: &str, is_full: impl Fn(&Stats) -> bool) {
    let flags = ["--max-memory", "192MiB", "--max-backlog", "64MiB", "--close-timeout", "1s"];
    let server = Server::start(2, &flags);
    let idle = server.stats().connections_open();
    let flood = Arc::new(flood);
    let peers: Vec<_> = (0..16)
        .map(|_| {
            let mut peer = Peer::connect_narrow(server.address()).upgraded("/echo");
            peer.send(&frame(TEXT, b"begun"));
            peer.send_frame(PING, b"");
            peer.expect(PONG, b"");
            peer
        })
        .collect();
    let senders: Vec<_> = peers
        .into_iter()
        .map(|peer| {
            let (mut writer, flood) = (peer.writer(), flood.clone());
            // The server may end the connection before all is sent.
            (peer, thread::spawn(move || writer.write_all(&flood)))
        })
        .collect();
    wait_until(what, || is_full(&server.stats()));
    wait_until("somebody is refused or memory is calm", || {
        let mut peer = Peer::connect(server.address());
        peer.send(&upgrade_request("/echo", ""));
        let response = peer.read_response();
        assert!(matches!(response.status, 101 | 503), "{response:?}");
        response.status == 101 || response.header("retry-after").is_some()
    });
    assert!(server.resident_bytes() < 256 << 20, "{} bytes", server.resident_bytes());
    for (peer, sender) in senders {
        let _ = peer.writer().shutdown(Shutdown::Both);
        let _ = sender.join().expect("no panic");
    }
    wait_until("memory is calm", || server.stats().memory_pressure() == "calm");
    leaves_nothing(server, idle);
}

/// All are gone, everything has been counted, and the next one is served.
fn leaves_nothing(server: Server, idle: u64) {
    wait_until("all are gone", || server.stats().connections_open() == idle);
    let stats = server.stats();
    assert_eq!(stats.upgrades(), stats.websockets_open() + stats.closes_of_all());
    let mut newcomer = Peer::upgrade(server.address(), "/echo");
    newcomer.send_frame(TEXT, b"served");
    newcomer.expect(TEXT, b"served");
    drop(newcomer);
    server.stop();
}
