//! `POST /broadcast/{topic}`: one request, one message for the members.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::SHARD_COUNTS;
use crate::peer::{BINARY, Peer, Response, TEXT, upgrade_request};
use crate::server::Server;

fn post(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /broadcast/news HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    [head.as_bytes(), b"\r\n", body].concat()
}

/// A request whose body comes in chunks of so many bytes.
fn post_chunked(body: &[u8], chunk_bytes: usize) -> Vec<u8> {
    let mut chunks = Vec::new();
    for chunk in body.chunks(chunk_bytes) {
        chunks.extend(format!("{:X}\r\n", chunk.len()).into_bytes());
        chunks.extend([chunk, b"\r\n"].concat());
    }
    post("Transfer-Encoding: chunked", &[&chunks[..], b"0\r\n\r\n"].concat())
}

fn ask(peer: &mut Peer, request: &[u8]) -> Response {
    peer.send(request);
    peer.read_response()
}

#[test]
fn members_on_every_shard_get_what_is_posted_in_order() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &[]);
        let mut members: Vec<_> =
            (0..3 * shards).map(|_| Peer::upgrade(server.address(), "/broadcast/news")).collect();
        let mut other = Peer::upgrade(server.address(), "/broadcast/other");
        let mut publisher = Peer::connect(server.address());
        let large: Vec<u8> = (0..300_000).map(|place: u32| place as u8).collect();
        let text = "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 6";
        for request in [
            post(text, "h\u{e9}llo".as_bytes()),
            post("Content-Length: 3", b"\0\x01\xff"),
            post_chunked(&large, 7000),
            post_chunked(b"by single bytes", 1),
            post("Content-Type: application/json", b""),
        ] {
            let response = ask(&mut publisher, &request);
            assert_eq!((response.status, response.header("connection")), (202, Some("keep-alive")));
        }
        for member in &mut members {
            member.expect(TEXT, "h\u{e9}llo".as_bytes());
            member.expect(BINARY, b"\0\x01\xff");
            member.expect(BINARY, &large);
            member.expect(BINARY, b"by single bytes");
            member.expect(TEXT, b"");
        }
        other.send_frame(TEXT, b"own");
        other.expect(TEXT, b"own");
        let stats = server.stats();
        assert_eq!((stats.broadcasts(), stats.messages_in()), (6, 6));
        // A topic that nobody has joined takes messages as well.
        let nobody = b"POST /broadcast/empty HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(ask(&mut publisher, nobody).status, 202);
        server.stop();
    }
}

#[test]
fn access_decides_who_publishes() {
    let server = Server::start(2, &["--broadcast-access", "post"]);
    let mut members: Vec<_> =
        (0..4).map(|_| Peer::upgrade(server.address(), "/broadcast/news")).collect();
    let mut publisher = Peer::connect(server.address());
    assert_eq!(ask(&mut publisher, &post("Content-Length: 1", b"1")).status, 202);
    members.iter_mut().for_each(|member| member.expect(BINARY, b"1"));
    members[0].send_frame(TEXT, b"not news");
    assert_eq!(members[0].read_close(), (1008, "publishing is not allowed here".to_owned()));
    members[0].expect_end_or_reset();
    assert_eq!(ask(&mut publisher, &post("Content-Length: 1", b"2")).status, 202);
    members[1..].iter_mut().for_each(|member| member.expect(BINARY, b"2"));
    server.stop();

    let server = Server::start(1, &["--broadcast-access", "none"]);
    let upgrade = upgrade_request("/broadcast/news", "");
    for request in [upgrade, post("Content-Length: 1", b"1")] {
        let mut peer = Peer::connect(server.address());
        assert_eq!(ask(&mut peer, &request).status, 403);
    }
    let mut echo = Peer::upgrade(server.address(), "/echo");
    echo.send_frame(TEXT, b"an echo is no topic");
    echo.expect(TEXT, b"an echo is no topic");
    server.stop();
}

#[test]
fn publishers_that_fill_the_rings_wait_and_lose_nothing() {
    const PUBLISHERS: usize = 8;
    const MESSAGES: usize = 200;
    for shards in [2, 5] {
        let flags = ["--broadcast-ring", "16", "--max-backlog", "64MiB"];
        let server = Server::start(shards, &flags);
        let mut members: Vec<_> =
            (0..shards).map(|_| Peer::upgrade(server.address(), "/broadcast/news")).collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| {
                let mut peer = Peer::connect(server.address());
                let mut writer = peer.writer();
                thread::spawn(move || {
                    let writing = thread::spawn(move || {
                        for message in 0..MESSAGES {
                            let mut body = vec![number as u8, message as u8];
                            body.resize(2000, b'x');
                            writer.write_all(&post("Content-Length: 2000", &body)).expect("read");
                        }
                    });
                    for _ in 0..MESSAGES {
                        assert_eq!(peer.read_response().status, 202);
                    }
                    writing.join().expect("all is written");
                })
            })
            .collect();
        for member in &mut members {
            let mut next = [0; PUBLISHERS];
            for _ in 0..PUBLISHERS * MESSAGES {
                let payload = member.read_frame().payload;
                let (number, message) = (usize::from(payload[0]), payload[1]);
                assert_eq!((payload.len(), message), (2000, next[number]), "of {number}");
                next[number] += 1;
            }
        }
        publishers.into_iter().for_each(|publisher| publisher.join().expect("all is accepted"));
        server.stop();
    }
}

#[test]
fn a_body_kept_back_is_asked_for() {
    let server = Server::start(1, &[]);
    let mut member = Peer::upgrade(server.address(), "/broadcast/news");
    let mut publisher = Peer::connect(server.address());
    let head = post("Expect: 100-continue\r\nContent-Length: 4", b"");
    assert_eq!(ask(&mut publisher, &head).status, 100);
    assert_eq!(ask(&mut publisher, b"body").status, 202);
    member.expect(BINARY, b"body");
    server.stop();
}

#[test]
fn what_is_too_large_or_of_another_type_is_refused() {
    let server = Server::start(1, &["--max-message", "1000", "--message-types", "text"]);
    let text = "Content-Type: text/plain\r\n";
    let long = [b'x'; 1001];
    for (request, status) in [
        (post(&format!("{text}Content-Length: 1001"), b""), 413),
        (post_chunked(&long, 100), 415),
        (post(&format!("{text}Content-Encoding: gzip\r\nContent-Length: 1"), b"x"), 415),
        (post("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1", b"x"), 415),
        (post(&format!("{text}Content-Length: 2"), b"\xc3\x28"), 400),
        (post(&format!("{text}Transfer-Encoding: chunked\r\nContent-Length: 1"), b"x"), 400),
        (post(&format!("{text}Transfer-Encoding: gzip, chunked"), b""), 501),
        (post(&format!("{text}Expect: more\r\nContent-Length: 1"), b"x"), 417),
    ] {
        let response = ask(&mut Peer::connect(server.address()), &request);
        assert_eq!(response.status, status, "{}", request.escape_ascii());
        assert_eq!(response.header("connection"), Some("close"), "a body was not read");
    }
    // A chunk that would pass the limit is refused before it has come.
    let mut peer = Peer::connect(server.address());
    let begun = [b"3e8\r\n", &long[..1000], b"\r\n1\r\n"].concat();
    peer.send(&post(&format!("{text}Transfer-Encoding: chunked"), &begun));
    assert_eq!(peer.read_response().status, 413);
    server.stop();
}

#[test]
fn a_page_of_a_foreign_origin_publishes_nothing() {
    let server = Server::start(1, &["--allow-origin", "https://a.org"]);
    let mut member = Peer::upgrade(server.address(), "/broadcast/news");
    for (origin, status) in [("https://evil.example", 403), ("https://a.org", 202)] {
        let request = post(&format!("Origin: {origin}\r\nContent-Length: 6"), b"origin");
        let response = ask(&mut Peer::connect(server.address()), &request);
        assert_eq!(response.status, status);
        let reader = response.header("access-control-allow-origin");
        assert_eq!(reader, (status == 202).then_some(origin));
    }
    member.expect(BINARY, b"origin");
    assert_eq!(server.stats().broadcasts(), 1);
    server.stop();
}

#[test]
fn a_body_that_drips_is_bounded_by_the_time_for_a_message() {
    let flags = ["--message-timeout", "1s", "--handshake-timeout", "1h"];
    let server = Server::start(1, &flags);
    let mut peer = Peer::connect(server.address());
    let mut writer = peer.writer();
    let drip = thread::spawn(move || {
        let head = post("Content-Length: 100000", b"");
        writer.write_all(&head).expect("the head is read");
        while writer.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(peer.read_response().status, 408);
    drop(peer);
    drip.join().expect("the server gave up");
    server.stop();
}

#[test]
fn a_body_may_take_longer_than_a_request() {
    let server = Server::start(1, &["--handshake-timeout", "300ms"]);
    let mut peer = Peer::connect(server.address());
    peer.send(&post("Content-Length: 2", b"h"));
    // Longer than the request alone would have had, however long that may be on this machine.
    thread::sleep(Duration::from_millis(900));
    assert_eq!(ask(&mut peer, b"i").status, 202);
    server.stop();
}

#[test]
fn a_body_that_has_begun_is_waited_for_when_the_server_drains() {
    let mut server = Server::start(1, &["--drain", "1h"]);
    let mut peer = Peer::connect(server.address());
    let begun = post("Content-Length: 2", b"h");
    peer.send(&begun);
    let has_arrived = || server.stats().bytes_in() == begun.len() as u64;
    crate::server::wait_until("it has arrived", has_arrived);
    server.signal("TERM");
    crate::server::wait_until("the server drains", || {
        server.ask("/healthz").is_none_or(|answer| answer.starts_with("HTTP/1.1 503 "))
    });
    let response = ask(&mut peer, b"i");
    assert_eq!((response.status, response.header("connection")), (202, Some("close")));
    assert!(server.wait().success());
}

/// A body that has begun when the request before is answered must not hide the connection.
#[test]
fn a_publisher_that_pipelines_is_kept_alive_like_others() {
    let server = Server::start(1, &["--max-connections", "1"]);
    let mut publisher = Peer::connect(server.address());
    let (whole, begun) = (post("Content-Length: 2", b"hi"), post("Content-Length: 2", b"h"));
    assert_eq!(ask(&mut publisher, &[whole, begun].concat()).status, 202);
    assert_eq!(server.stats().plain_kept_alive(), 1);
    assert_eq!(ask(&mut publisher, b"i").status, 202);
    // It gives way to a WebSocket, for which there would be no room beside it.
    let _member = Peer::upgrade(server.address(), "/broadcast/news");
    publisher.expect_end_or_reset();
    server.stop();
}
