//! SockJS: what its protocol says of requests, responses, frames and sessions.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::SHARD_COUNTS;
use crate::peer::{Peer, Response, TEXT};
use crate::server::{Server, wait_until};

/// The mounts of the official suite, below `/sockjs`.
fn serve(shards: usize, flags: &[&str]) -> Server {
    let config = ["--config", "tests/config/sockjs-protocol.toml"];
    Server::start(shards, &[&config, flags].concat())
}

/// Takes the place of what is built in, for tests of a machine that may be slow.
const PATIENT: &str = "/sockjs/broadcast/{topic}=broadcast,sockjs=true,disconnect_delay=1m";

/// The path of a session that nobody has.
fn session(base: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{base}/000/s{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn ask_with(peer: &mut Peer, method: &str, path: &str, fields: &str, body: &str) -> Response {
    let length = match (method, body) {
        ("POST", body) => format!("Content-Length: {}\r\n", body.len()),
        _ => String::new(),
    };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}{fields}\r\n");
    peer.send(format!("{head}{body}").as_bytes());
    peer.read_response()
}

fn ask(server: &Server, method: &str, path: &str, body: &str) -> Response {
    ask_with(&mut Peer::connect(server.address()), method, path, "", body)
}

fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).expect("UTF-8")
}

/// A poll, and what it is answered.
fn poll(server: &Server, session: &str) -> String {
    let response = ask(server, "POST", &format!("{session}/xhr"), "");
    assert_eq!(response.status, 200);
    text(&response).to_owned()
}

fn send(server: &Server, session: &str, body: &str) -> u16 {
    ask(server, "POST", &format!("{session}/xhr_send"), body).status
}

/// A response that goes on, behind its prelude.
fn stream(server: &Server, method: &str, path: &str) -> Peer {
    let mut peer = Peer::connect(server.address());
    let response = ask_with(&mut peer, method, path, "", "");
    assert_eq!((response.status, response.header("transfer-encoding")), (200, Some("chunked")));
    assert!(!chunk(&mut peer).is_empty(), "a prelude");
    peer
}

/// The next part of a response that goes on; nothing at its end.
fn chunk(peer: &mut Peer) -> String {
    let chunk = peer.read_chunk().expect("a chunk, not the end of the connection");
    String::from_utf8(chunk).expect("UTF-8")
}

#[test]
fn what_there_is_below_a_base() {
    let server = serve(2, &[]);
    let base = "/sockjs/echo";
    for (path, status) in [
        (String::new(), 200),
        ("/".to_owned(), 200),
        ("/iframe.html".to_owned(), 200),
        ("/iframe-0.1.2abc-dirty.2144.html?t=qw".to_owned(), 200),
        ("/info?t=1".to_owned(), 200),
        ("//".to_owned(), 404),
        ("/a".to_owned(), 404),
        ("/a/a/".to_owned(), 404),
        ("/IFRAME.HTML".to_owned(), 404),
        ("/iframe.htm".to_owned(), 404),
        ("/a./a/eventsource".to_owned(), 404),
        ("//a/eventsource".to_owned(), 404),
        ("/0/0/websocket".to_owned(), 400),
        ("/0/0/xhr".to_owned(), 405),
        ("/0/0/xhr_send".to_owned(), 405),
    ] {
        let response = ask(&server, "GET", &format!("{base}{path}"), "");
        assert_eq!(response.status, status, "{path}");
        if status == 405 {
            assert_eq!(response.header("content-type"), None);
            assert!(response.header("allow").is_some() && response.body.is_empty());
        }
    }
    let greeting = ask(&server, "GET", base, "");
    assert_eq!(text(&greeting), "Welcome to SockJS!\n");
    let page = ask(&server, "GET", "/sockjs/close/iframe.html", "");
    assert!(text(&page).contains("<script src=\"https://cdn.jsdelivr.net/npm/sockjs-client@1/"));
    let page = ask(&server, "GET", &format!("{base}/iframe.html"), "");
    assert!(text(&page).contains("<script src=\"/sockjs.min.js\">"));
    let tag = page.header("etag").expect("a tag").to_owned();
    let fields = format!("If-None-Match: {tag}\r\n");
    let mut peer = Peer::connect(server.address());
    let path = format!("{base}/iframe-1.html");
    peer.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes());
    let known = peer.read_response();
    assert_eq!((known.status, known.header("content-type")), (304, None));
    let info = |path: &str| {
        let response = ask(&server, "GET", &format!("{path}/info"), "");
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
        serde_json::from_slice::<serde_json::Value>(&response.body).expect("JSON")
    };
    let (first, second) = (info(base), info(base));
    assert_eq!((&first["websocket"], &first["origins"][0]), (&true.into(), &"*:*".into()));
    assert_ne!(first["entropy"], second["entropy"]);
    assert_eq!(info("/sockjs/disabled_websocket_echo")["websocket"], false);
    assert_eq!(info("/sockjs/cookie_needed_echo")["cookie_needed"], true);
    server.stop();
}

#[test]
fn pages_of_all_origins_may_ask_and_fields_come_back_as_they_were() {
    let server = serve(2, &[]);
    let mut peer = Peer::connect(server.address());
    let path = session("/sockjs/cookie_needed_echo") + "/xhr";
    let fields = "Origin: http://a.org\r\nCookie: a=b; JSESSIONID=abc\r\n";
    let response = ask_with(&mut peer, "POST", &path, fields, "");
    for (name, value) in [
        ("access-control-allow-origin", "http://a.org"),
        ("access-control-allow-credentials", "true"),
        ("cache-control", "no-store, no-cache, no-transform, must-revalidate, max-age=0"),
        ("content-type", "application/javascript; charset=UTF-8"),
        ("set-cookie", "JSESSIONID=abc; path=/"),
        ("vary", "Origin"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    let fields = "Origin: null\r\nAccess-Control-Request-Headers: x-a, x-b\r\n";
    let response = ask_with(&mut peer, "OPTIONS", &path, fields, "");
    assert_eq!(response.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "null"),
        ("access-control-allow-methods", "POST, OPTIONS"),
        ("access-control-allow-headers", "x-a, x-b"),
        ("cache-control", "public, max-age=31536000"),
        ("set-cookie", "JSESSIONID=dummy; path=/"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    // Nothing that a peer sends becomes a field of its own.
    let fields = "Origin: http://a.org\u{1}\r\nCookie: JSESSIONID=a\"b\r\n";
    let response = ask_with(&mut peer, "POST", &session("/sockjs/echo"), fields, "");
    assert_eq!(response.header("set-cookie"), None);
    server.stop();
}

#[test]
fn a_list_of_origins_holds_for_all_that_is_asked() {
    let server = serve(2, &["--allow-origin", "https://a.org"]);
    let base = "/sockjs/echo";
    let mut peer = Peer::connect(server.address());
    for (method, path) in [
        ("GET", format!("{base}/info")),
        ("OPTIONS", format!("{base}/info")),
        ("POST", session(base) + "/xhr"),
        ("POST", session(base) + "/xhr_send"),
        ("GET", session(base) + "/eventsource"),
    ] {
        let response = ask_with(&mut peer, method, &path, "Origin: https://b.org\r\n", "");
        assert_eq!(response.status, 403, "{method} {path}");
        assert_eq!(response.header("access-control-allow-origin"), None);
    }
    let fields = "Origin: https://a.org\r\n";
    let response = ask_with(&mut peer, "POST", &(session(base) + "/xhr"), fields, "");
    assert_eq!((response.status, text(&response)), (200, "o\n"));
    // Of these nobody tells whose page asks.
    for path in ["/iframe.html", "/0/a/jsonp?c=a", "/0/a/htmlfile?c=a"] {
        assert_eq!(ask(&server, "GET", &format!("{base}{path}"), "").status, 404, "{path}");
    }
    server.stop();
}

#[test]
fn polls_get_one_frame_each() {
    for shards in SHARD_COUNTS {
        let server = serve(shards, &[]);
        let echo = session("/sockjs/echo");
        assert_eq!(poll(&server, &echo), "o\n");
        assert_eq!(send(&server, &echo, "[\"a\",\"b\"]"), 204);
        assert_eq!(send(&server, &echo, "[\"\\u0000\u{fffe}</script>\"]"), 204);
        assert_eq!(send(&server, &echo, "[]"), 204);
        assert_eq!(poll(&server, &echo), "a[\"a\",\"b\",\"\\u0000\\ufffe</script>\"]\n");
        // The name of the server does not matter, but the base does.
        let other = echo.replace("/000/", "/999/");
        assert_eq!(send(&server, &other, "[\"x\"]"), 204);
        let elsewhere = echo.replace("/echo/", "/disabled_websocket_echo/");
        assert_eq!(send(&server, &elsewhere, "[\"x\"]"), 404);
        assert_eq!(poll(&server, &echo), "a[\"x\"]\n");
        for (body, said) in [
            ("", "Payload expected."),
            ("{}", "Payload expected."),
            ("[\"a", "Broken JSON encoding."),
        ] {
            let response = ask(&server, "POST", &format!("{echo}/xhr_send"), body);
            assert_eq!((response.status, text(&response)), (500, said), "{body}");
        }
        // One poll waits until there is something, and no other may meanwhile.
        let path = format!("{echo}/xhr");
        let mut polls = [(); 2].map(|()| Peer::connect(server.address()));
        for peer in &mut polls {
            peer.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        }
        wait_until("one is turned away", || polls.iter().any(Peer::has_input));
        let [first, second] = &mut polls;
        let (waits, late) = if first.has_input() { (second, first) } else { (first, second) };
        let busy = "c[2010,\"Another connection still open\"]\n";
        assert_eq!(text(&late.read_response()), busy);
        assert_eq!(send(&server, &echo, "[\"y\"]"), 204);
        assert_eq!(text(&waits.read_response()), "a[\"y\"]\n");
        server.stop();
    }
}

#[test]
fn connections_are_kept_between_requests_of_sessions_on_all_shards() {
    for shards in SHARD_COUNTS {
        let server = serve(shards, &[]);
        let mut peer = Peer::connect(server.address());
        for _ in 0..20 {
            let echo = session("/sockjs/echo");
            let poll = ask_with(&mut peer, "POST", &format!("{echo}/xhr"), "", "");
            assert_eq!(text(&poll), "o\n");
            let sent = ask_with(&mut peer, "POST", &format!("{echo}/xhr_send"), "", "[\"a\"]");
            assert_eq!(sent.status, 204);
            let poll = ask_with(&mut peer, "POST", &format!("{echo}/xhr"), "", "");
            assert_eq!(text(&poll), "a[\"a\"]\n");
            assert_eq!(peer.get("/healthz").status, 200);
        }
        // What is sent behind a poll that waits is answered behind it.
        let echo = session("/sockjs/echo");
        assert_eq!(poll(&server, &echo), "o\n");
        let request = format!("POST {echo}/xhr HTTP/1.1\r\nHost: a\r\n\r\n");
        peer.send(format!("{request}GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        wait_until("the poll waits", || send(&server, &echo, "[\"late\"]") == 204);
        assert_eq!(text(&peer.read_response()), "a[\"late\"]\n");
        assert_eq!(text(&peer.read_response()), "ok\n");
        server.stop();
    }
}

#[test]
fn streams_have_a_chunk_for_each_frame_and_end_at_their_limit() {
    for shards in SHARD_COUNTS {
        let server = serve(shards, &[]);
        for (method, transport, before, after) in
            [("POST", "xhr_streaming", "", "\n"), ("GET", "eventsource", "data: ", "\r\n\r\n")]
        {
            let echo = session("/sockjs/echo");
            let mut peer = stream(&server, method, &format!("{echo}/{transport}"));
            assert_eq!(chunk(&mut peer), format!("{before}o{after}"));
            let long = "x".repeat(128);
            for _ in 0..31 {
                assert_eq!(send(&server, &echo, &format!("[\"{long}\"]")), 204);
                assert_eq!(chunk(&mut peer), format!("{before}a[\"{long}\"]{after}"));
                if transport == "eventsource" {
                    break;
                }
            }
            if transport == "eventsource" {
                let long = "%".repeat(4096);
                assert_eq!(send(&server, &echo, &format!("[\"{long}\"]")), 204);
                let escaped = "%25".repeat(4096);
                assert_eq!(chunk(&mut peer), format!("data: a[\"{escaped}\"]\r\n\r\n"));
            }
            assert_eq!(chunk(&mut peer), "", "it has had enough");
            assert_eq!(send(&server, &echo, "[\"next\"]"), 204);
            assert_eq!(poll(&server, &echo), "a[\"next\"]\n", "the session goes on");
        }
        let echo = session("/sockjs/echo");
        let mut page = stream(&server, "GET", &format!("{echo}/htmlfile?c=%63allback"));
        assert_eq!(chunk(&mut page), "<script>\np(\"o\");\n</script>\r\n");
        assert_eq!(send(&server, &echo, "[\"</script>\"]"), 204);
        let script = "<script>\np(\"a[\\\"\\u003c/script>\\\"]\");\n</script>\r\n";
        assert_eq!(chunk(&mut page), script, "nothing leads out of it");
        server.stop();
    }
}

#[test]
fn scripts_call_a_function_with_a_plain_name() {
    let server = serve(2, &[]);
    let echo = session("/sockjs/echo");
    let get = |path: &str| ask(&server, "GET", path, "");
    let response = get(&format!("{echo}/jsonp?c=%63b"));
    assert_eq!(text(&response), "/**/cb(\"o\");\r\n");
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    let mut peer = Peer::connect(server.address());
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let path = format!("{echo}/jsonp_send");
    for (fields, body, status, said) in [
        (form, "d=%5B%22a%2Bb+c%22%5D", 200, "ok"),
        ("Content-Type: text/plain\r\n", "[\"%61bc\"]", 200, "ok"),
        (form, "", 500, "Payload expected."),
        (form, "d=", 500, "Payload expected."),
        (form, "p=p", 500, "Payload expected."),
        (form, "d=%5B", 500, "Broken JSON encoding."),
    ] {
        let response = ask_with(&mut peer, "POST", &path, fields, body);
        assert_eq!((response.status, text(&response)), (status, said), "{body}");
    }
    let response = get(&format!("{echo}/jsonp?callback=a.b-c_1"));
    let expected = "/**/a.b-c_1(\"a[\\\"a+b c\\\",\\\"%61bc\\\"]\");\r\n";
    assert_eq!(text(&response), expected);
    for query in ["", "?c=", "?c=%20", "?c=*", "?c=abc(", "?c=abc%28", "?c=%"] {
        for transport in ["jsonp", "htmlfile"] {
            let response = get(&format!("{}/{transport}{query}", session("/sockjs/echo")));
            assert_eq!(response.status, 500, "{query}");
            assert!(text(&response).contains("\"callback\" parameter"), "{query}");
        }
    }
    server.stop();
}

#[test]
fn a_session_that_is_closed_says_so_to_everybody_who_comes() {
    for shards in SHARD_COUNTS {
        let server = serve(shards, &[]);
        let closed = session("/sockjs/close");
        assert_eq!(poll(&server, &closed), "o\n");
        for _ in 0..2 {
            assert_eq!(poll(&server, &closed), "c[3000,\"Go away!\"]\n");
        }
        assert_eq!(send(&server, &closed, "[\"a\"]"), 204, "and takes what nobody gets");
        let mut peer = stream(&server, "POST", &(session("/sockjs/close") + "/xhr_streaming"));
        assert_eq!(chunk(&mut peer), "o\n");
        assert_eq!(chunk(&mut peer), "c[3000,\"Go away!\"]\n");
        assert_eq!(chunk(&mut peer), "");
        peer.expect_end();
        let mut raw = Peer::upgrade(server.address(), "/sockjs/close/websocket");
        assert_eq!(raw.read_close(), (3000, "Go away!".to_owned()));
        server.stop();
    }
}

#[test]
fn a_session_dies_with_the_response_that_is_broken_off_and_when_nobody_comes() {
    for shards in SHARD_COUNTS {
        let mount = "/s=echo,sockjs=true,disconnect_delay=300ms";
        let server = Server::start(shards, &["--mount", mount]);
        let echo = session("/s");
        let path = format!("{echo}/xhr_streaming");
        let mut first = stream(&server, "POST", &path);
        assert_eq!(chunk(&mut first), "o\n");
        let mut second = stream(&server, "POST", &path);
        assert_eq!(chunk(&mut second), "c[2010,\"Another connection still open\"]\n");
        assert_eq!(chunk(&mut second), "");
        assert_eq!(send(&server, &echo, "[\"a\"]"), 204);
        assert_eq!(chunk(&mut first), "a[\"a\"]\n", "the first is undisturbed");
        drop(first);
        wait_until("its session ends", || server.stats().of("sockjs_sessions_open") == 0);
        assert_eq!(send(&server, &echo, "[\"a\"]"), 404);
        let quiet = session("/s");
        let begun = Instant::now();
        assert_eq!(poll(&server, &quiet), "o\n");
        wait_until("it has waited", || server.stats().of("sockjs_sessions_open") == 0);
        assert!(begun.elapsed() >= Duration::from_millis(200), "not before its time");
        assert_eq!(poll(&server, &quiet), "o\n", "another begins");
        server.stop();
    }
}

#[test]
fn silence_is_broken_by_heartbeats() {
    let server = Server::start(2, &["--mount", "/s=echo,sockjs=true,heartbeat=200ms"]);
    let echo = session("/s");
    let mut peer = stream(&server, "POST", &format!("{echo}/xhr_streaming"));
    assert_eq!(chunk(&mut peer), "o\n");
    for _ in 0..3 {
        assert_eq!(chunk(&mut peer), "h\n");
    }
    let polled = session("/s");
    assert_eq!([poll(&server, &polled), poll(&server, &polled)], ["o\n", "h\n"]);
    server.stop();
}

#[test]
fn websockets_carry_frames_or_none() {
    for shards in SHARD_COUNTS {
        let server = serve(shards, &[]);
        let upgrade = |path: &str| Peer::upgrade(server.address(), path);
        let mut peer = upgrade("/sockjs/echo/000/same/websocket");
        let mut other = upgrade("/sockjs/echo/000/same/websocket");
        for peer in [&mut peer, &mut other] {
            peer.expect(TEXT, b"o");
        }
        for frame in ["", "[]", "[\"a\",\"b\"]", "\"c\""] {
            peer.send_frame(TEXT, frame.as_bytes());
        }
        for frame in ["a[\"a\"]", "a[\"b\"]", "a[\"c\"]"] {
            peer.expect(TEXT, frame.as_bytes());
        }
        other.send_frame(TEXT, b"[\"broken");
        assert_eq!(other.read_close().0, 1007);
        other.expect_end();
        let mut raw = upgrade("/sockjs/echo/websocket");
        raw.send_frame(TEXT, b"plain");
        raw.expect(TEXT, b"plain");
        let mut closed = upgrade("/sockjs/close/0/0/websocket");
        closed.expect(TEXT, b"o");
        closed.expect(TEXT, b"c[3000,\"Go away!\"]");
        assert_eq!(closed.read_close().0, 3000);
        let off = "/sockjs/disabled_websocket_echo/0/0/websocket";
        assert_eq!(Peer::try_upgrade(server.address(), off, "").1.status, 404);
        server.stop();
    }
}

#[test]
fn members_of_a_topic_hear_each_other_whatever_they_speak() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--mount", PATIENT]);
        let base = "/sockjs/broadcast/room";
        let mut plain = Peer::upgrade(server.address(), "/broadcast/room");
        let mut framed = Peer::upgrade(server.address(), &format!("{base}/0/0/websocket"));
        framed.expect(TEXT, b"o");
        let polled = session(base);
        assert_eq!(poll(&server, &polled), "o\n");
        let streamed = session(base);
        let mut peers = Vec::new();
        for (method, transport) in [("POST", "xhr_streaming"), ("GET", "eventsource")] {
            let path = format!("{streamed}-{transport}/{transport}");
            let mut peer = stream(&server, method, &path);
            assert!(chunk(&mut peer).contains('o'));
            peers.push(peer);
        }
        wait_until("all are there", || server.stats().of("sockjs_sessions_open") == 3);
        let mut waiting = Peer::connect(server.address());
        let path = format!("{polled}/xhr");
        waiting.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(send(&server, &polled, "[\"from a session\"]"), 204);
        plain.expect(TEXT, b"from a session");
        framed.expect(TEXT, b"a[\"from a session\"]");
        assert_eq!(chunk(&mut peers[0]), "a[\"from a session\"]\n");
        assert_eq!(chunk(&mut peers[1]), "data: a[\"from a session\"]\r\n\r\n");
        assert_eq!(text(&waiting.read_response()), "a[\"from a session\"]\n");
        plain.send_frame(TEXT, "caf\u{e9} \u{2028}".as_bytes());
        plain.expect(TEXT, "caf\u{e9} \u{2028}".as_bytes());
        let frame = "a[\"caf\u{e9} \\u2028\"]";
        framed.expect(TEXT, frame.as_bytes());
        assert_eq!(chunk(&mut peers[0]), format!("{frame}\n"));
        assert_eq!(chunk(&mut peers[1]), format!("data: {frame}\r\n\r\n"));
        assert_eq!(poll(&server, &polled), format!("{frame}\n"));
        framed.send_frame(TEXT, b"[\"1\",\"2\"]");
        for text in [&b"1"[..], b"2"] {
            plain.expect(TEXT, text);
        }
        server.stop();
    }
}

#[test]
fn sessions_are_counted_bounded_and_ended_by_a_drain() {
    let limits =
        ["--max-connections", "2", "--max-backlog", "4KiB", "--receive-buffer-size", "4KiB"];
    let server = Server::start(1, &[&limits[..], &["--mount", PATIENT]].concat());
    let base = "/sockjs/broadcast/room";
    let (first, second) = (session(base), session(base));
    assert_eq!([poll(&server, &first), poll(&server, &second)], ["o\n", "o\n"]);
    let refused = ask(&server, "POST", &(session(base) + "/xhr"), "");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    let long = "x".repeat(3000);
    for _ in 0..3 {
        assert_eq!(send(&server, &first, &format!("[\"{long}\"]")), 204);
    }
    let slow = "c[1013,\"slow consumer: backlog limit reached\"]\n";
    wait_until("one that does not come is cut off", || poll(&server, &second) == slow);
    server.stop();
    let mut server = Server::start(1, &["--drain", "2s"]);
    let mut peer = stream(&server, "POST", &(session(base) + "/xhr_streaming"));
    assert_eq!(chunk(&mut peer), "o\n");
    server.signal("TERM");
    assert_eq!(chunk(&mut peer), "c[1001,\"server is stopping\"]\n");
    assert_eq!(chunk(&mut peer), "");
    peer.expect_end();
    assert!(server.wait().success());
}
