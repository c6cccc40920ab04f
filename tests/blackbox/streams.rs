//! `GET /broadcast/{topic}?mode=stream`: the messages of a topic as lines of one response.

use crate::SHARD_COUNTS;
use crate::peer::{BINARY, Peer, Response, TEXT};
use crate::server::{Server, wait_until};

/// Asks for a stream with further complete header lines.
fn request(path: &str, lines: &str) -> String {
    format!("GET {path}?mode=stream HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

fn ask(peer: &mut Peer, request: &str) -> Response {
    peer.send(request.as_bytes());
    peer.read_response()
}

/// A stream whose head says what it must.
fn stream(peer: Peer, path: &str) -> Peer {
    let mut peer = peer;
    let response = ask(&mut peer, &request(path, ""));
    assert_eq!(response.status, 200);
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    peer
}

/// The next line that says something; `None` at the last chunk.
fn read_line(peer: &mut Peer) -> Option<String> {
    loop {
        let chunk = peer.read_chunk().expect("a chunk, not the end of the connection");
        match chunk.strip_suffix(b"\n") {
            Some([]) => {}
            Some(line) => return Some(String::from_utf8(line.to_vec()).expect("UTF-8")),
            None => {
                assert!(chunk.is_empty(), "a chunk is a line");
                return None;
            }
        }
    }
}

#[test]
fn streams_on_every_shard_get_texts_as_lines_in_order() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--mount", "/rooms/{topic}=broadcast"]);
        let connect = || Peer::connect(server.address());
        let mut streams: Vec<_> =
            (0..2 * shards).map(|_| stream(connect(), "/broadcast/news")).collect();
        streams.push(stream(connect(), "/rooms/news"));
        assert_eq!(server.stats().streams_open(), streams.len() as u64);
        let mut publisher = Peer::upgrade(server.address(), "/broadcast/news");
        let long = "x".repeat(300_000);
        publisher.send_frame(BINARY, b"binary");
        publisher.send_frame(TEXT, b"several\nlines");
        for number in 0..500 {
            publisher.send_frame(TEXT, format!("{number} h\u{e9}llo").as_bytes());
        }
        publisher.send_frame(TEXT, long.as_bytes());
        for stream in &mut streams {
            for number in 0..500 {
                assert_eq!(read_line(stream), Some(format!("{number} h\u{e9}llo")));
            }
            assert_eq!(read_line(stream).as_deref(), Some(&*long));
        }
        assert_eq!(server.stats().lines_left_out(), 2 * streams.len() as u64);
        server.stop();
        for stream in &mut streams {
            assert_eq!(read_line(stream), None, "a server that stops completes the response");
            stream.expect_end();
        }
    }
}

#[test]
fn streams_count_end_and_give_way_as_websockets_do() {
    let server = Server::start(2, &["--max-connections", "2"]);
    let first = stream(Peer::connect(server.address()), "/broadcast/news");
    let _second = Peer::upgrade(server.address(), "/echo");
    let mut refused = Peer::connect(server.address());
    assert_eq!(ask(&mut refused, &request("/broadcast/news", "")).status, 503);
    drop(first);
    wait_until("its end is counted", || server.stats().streams_open() == 0);
    stream(Peer::connect(server.address()), "/broadcast/news");
    server.stop();
    let server = Server::start(1, &["--lifetime", "1s"]);
    let mut old = stream(Peer::connect(server.address()), "/broadcast/news");
    assert_eq!(read_line(&mut old), None, "its life ends in good order");
    old.expect_end();
    assert_eq!(server.stats().closes("local", 1001), 1);
    server.stop();
}

#[test]
fn a_stream_that_is_not_read_is_cut_off_and_one_that_is_goes_on() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--max-backlog", "256KiB", "--close-timeout", "60s"]);
        let mut slow = stream(Peer::connect_narrow(server.address()), "/broadcast/news");
        let mut healthy = stream(Peer::connect(server.address()), "/broadcast/news");
        let mut publisher = Peer::upgrade(server.address(), "/broadcast/news?exclude_self=true");
        let mut published = 0;
        while server.stats().closes("local", 1013) == 0 {
            assert!(published < 16_000, "nobody is ever cut off");
            for _ in 0..20 {
                let text = format!("{published} {}", "x".repeat(16_000));
                publisher.send_frame(TEXT, text.as_bytes());
                assert_eq!(read_line(&mut healthy).as_deref(), Some(&*text));
                published += 1;
            }
        }
        let mut next = 0;
        while let Some(chunk) = slow.read_chunk() {
            let line = std::str::from_utf8(&chunk).expect("UTF-8");
            assert!(line.starts_with(&format!("{next} ")) && line.len() > 16_000, "{line:.20}");
            next += 1;
        }
        assert!(next < published, "and no last chunk: the response is not complete");
        publisher.send_frame(TEXT, b"on");
        assert_eq!(read_line(&mut healthy).as_deref(), Some("on"));
        assert!(server.stats().dropped("disconnect") > 0);
        server.stop();
    }
}

#[test]
fn pages_of_allowed_origins_may_read_streams() {
    let server = Server::start(1, &["--allow-origin", "https://a.org"]);
    for (origin, status) in [("https://evil.example", 403), ("https://a.org", 200)] {
        let mut peer = Peer::connect(server.address());
        let lines = format!("Origin: {origin}\r\n");
        let response = ask(&mut peer, &request("/broadcast/news", &lines));
        assert_eq!(response.status, status);
        let reader = response.header("access-control-allow-origin");
        assert_eq!(reader, (status == 200).then_some(origin));
        let asked = format!(
            "OPTIONS /broadcast/news HTTP/1.1\r\nHost: localhost\r\n{lines}\
             Access-Control-Request-Method: POST\r\n\r\n"
        );
        let response = ask(&mut Peer::connect(server.address()), &asked);
        assert_eq!(response.status, if status == 200 { 204 } else { 403 });
        let methods = response.header("access-control-allow-methods");
        assert_eq!(methods, (status == 200).then_some("GET, HEAD, OPTIONS, POST"));
    }
    server.stop();
}

#[test]
fn who_may_not_join_may_not_stream_and_modes_are_named() {
    let server = Server::start(1, &["--broadcast-access", "post"]);
    let mut reader = stream(Peer::connect(server.address()), "/broadcast/news");
    let mut peer = Peer::connect(server.address());
    let post = "POST /broadcast/news HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n\
        Content-Length: 5\r\n\r\nhello";
    assert_eq!(ask(&mut peer, post).status, 202);
    assert_eq!(read_line(&mut reader).as_deref(), Some("hello"));
    for (target, status, hint) in [
        ("/broadcast/news", 426, "?mode=stream"),
        ("/broadcast/news?mode=lines", 400, "stream"),
        ("/broadcast/news?mode=%", 400, "%25"),
    ] {
        let response = Peer::connect(server.address()).get(target);
        let body = String::from_utf8(response.body).expect("text");
        assert!(response.status == status && body.contains(hint), "{target}: {body}");
    }
    server.stop();
    let server = Server::start(1, &["--broadcast-access", "none"]);
    let mut peer = Peer::connect(server.address());
    assert_eq!(ask(&mut peer, &request("/broadcast/news", "")).status, 403);
    server.stop();
}
