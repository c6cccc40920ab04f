//! The opening handshake and the plain HTTP around it: every refusal, every way to split bytes.

use std::fs;

use crate::SHARD_COUNTS;
use crate::peer::{FIN, PING, PONG, Peer, Response, SAMPLE_ACCEPT, TEXT, frame, upgrade_request};
use crate::server::{Server, socket_path, wait_until};

#[test]
fn the_sample_handshake_of_the_rfc_is_answered_as_it_says() {
    let server = Server::start(1, &[]);
    for path in ["/", "/echo", "/broadcast", "/broadcast/topic", "/echo?unknown=key"] {
        let response = answer(&server, &upgrade_request(path, ""));
        assert_eq!(response.status, 101, "{path}");
        assert_eq!(response.header("sec-websocket-accept"), Some(SAMPLE_ACCEPT));
        let lower = |name| response.header(name).map(str::to_ascii_lowercase);
        assert_eq!(lower("upgrade").as_deref(), Some("websocket"));
        assert_eq!(lower("connection").as_deref(), Some("upgrade"));
        assert_eq!(response.header("sec-websocket-protocol"), None);
        assert_eq!(response.header("sec-websocket-extensions"), None);
    }
    server.stop();
}

#[test]
fn names_are_case_insensitive_and_connection_is_a_list() {
    let server = Server::start(1, &[]);
    let variants = [
        ("Upgrade: websocket", "UPGRADE: WebSocket"),
        ("Connection: Upgrade", "connection: keep-alive, UPGRADE"),
        ("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
        ("Sec-WebSocket-Key:", "sec-websocket-KEY:  "),
        ("Host: localhost", "hOsT: localhost:1234"),
    ];
    for (from, to) in variants {
        let response = answer(&server, &edited(from, to));
        assert_eq!(response.status, 101, "{to}");
    }
    server.stop();
}

#[test]
fn every_refusal_has_its_status_and_its_headers() {
    let server = Server::start(1, &["--allow-origin", "https://example.org,*.example.net"]);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases = [
        (400, "no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        (400, "a frame at once", frame(FIN | TEXT, b"hello")),
        (400, "no Host", edited("Host: localhost\r\n", "")),
        (400, "two Hosts", edited("Host: localhost\r\n", "Host: a\r\nHost: b\r\n")),
        (400, "no key", edited(key, "")),
        (400, "a key of 15 bytes", edited("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j")),
        (
            400,
            "a key that is no base64",
            edited("dGhlIHNhbXBsZSBub25jZQ==", "!!!!IHNhbXBsZSBub25jZQ=="),
        ),
        (400, "two keys", edited(key, &key.repeat(2))),
        (400, "a bad value", upgrade_request("/broadcast/a?exclude_self=maybe", "")),
        (403, "a foreign origin", upgrade_request("/echo", "Origin: https://evil.example\r\n")),
        (403, "another scheme", upgrade_request("/echo", "Origin: http://example.org\r\n")),
        (403, "the bare domain", upgrade_request("/echo", "Origin: https://example.net\r\n")),
        (403, "a longer name", upgrade_request("/echo", "Origin: https://x.notexample.net\r\n")),
        (403, "an opaque origin", upgrade_request("/echo", "Origin: null\r\n")),
        (404, "another path", upgrade_request("/nowhere", "")),
        (404, "a plain GET of another path", edited_get("/favicon.ico", "")),
        (405, "POST", b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_vec()),
        (405, "DELETE", b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (414, "a long request line", edited_get(&format!("/{}", "p".repeat(10_000)), "")),
        (431, "a large head", edited_get("/", &format!("X: {}\r\n", "v".repeat(10_000)))),
        (431, "65 headers", edited_get("/", &"X: y\r\n".repeat(64))),
        (426, "another version", edited("Version: 13", "Version: 8")),
        (426, "no version", edited("Sec-WebSocket-Version: 13\r\n", "")),
        (426, "no upgrade", edited_get("/echo", "")),
    ];
    for (status, what, request) in &cases {
        let response = answer(&server, request);
        assert_eq!(response.status, *status, "{what}");
        assert!(!response.body.is_empty(), "{what}: a text says why");
        let content = response.header("content-type").expect("a type");
        assert!(content.starts_with("text/plain"), "{what}: {content}");
    }
    let version = answer(&server, &edited("Version: 13", "Version: 8"));
    assert_eq!(version.header("sec-websocket-version"), Some("13"));
    let plain = answer(&server, &edited_get("/echo", ""));
    assert_eq!(plain.header("upgrade"), Some("websocket"));
    let method = answer(&server, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert!(method.header("allow").expect("Allow").contains("GET"));
    assert!(server.stats().connections_refused() >= cases.len() as u64);
    server.stop();
}

#[test]
fn allowed_origins_and_clients_without_one_are_welcome() {
    let server = Server::start(1, &["--allow-origin", "https://example.org,*.example.net"]);
    for origin in ["https://example.org", "https://EXAMPLE.org", "http://a.b.example.net:8080"] {
        let request = upgrade_request("/echo", &format!("Origin: {origin}\r\n"));
        assert_eq!(answer(&server, &request).status, 101, "{origin}");
    }
    assert_eq!(answer(&server, &upgrade_request("/echo", "")).status, 101);
    server.stop();
}

#[test]
fn the_page_of_the_server_itself_may_connect_when_there_is_a_list() {
    let server = Server::start(1, &["--allow-origin", "https://example.org"]);
    let own = format!("localhost:{}", server.address().port());
    let ask = |host: &str, origin: &str| {
        let request = String::from_utf8(upgrade_request("/echo", "")).expect("ASCII");
        let fields = format!("Host: {host}\r\nOrigin: {origin}\r\n");
        let request = request.replacen("Host: localhost\r\n", &fields, 1);
        answer(&server, request.as_bytes()).status
    };
    assert_eq!(ask(&own, &format!("http://{own}")), 101);
    // Behind a proxy that speaks TLS.
    assert_eq!(ask("chat.example.net", "https://chat.example.net"), 101);
    assert_eq!(ask(&own, "http://localhost"), 403, "another port");
    assert_eq!(ask(&own, "http://evil.example"), 403);
    server.stop();
}

#[test]
fn only_allowed_hosts_are_answered() {
    let server = Server::start(1, &["--allow-host", "localhost,*.example.org,[::1]:9"]);
    let ask = |path: &str, host: &str| {
        let request = String::from_utf8(upgrade_request(path, "")).expect("ASCII");
        let request = request.replacen("Host: localhost\r\n", &format!("Host: {host}\r\n"), 1);
        answer(&server, request.as_bytes()).status
    };
    for host in ["localhost", "LOCALHOST:7071", "a.example.org", "[::1]:9"] {
        assert_eq!(ask("/echo", host), 101, "{host}");
    }
    for host in ["evil.example", "example.org", "[::1]", "[::1]:10", "localhost.evil.example"] {
        assert_eq!(ask("/echo", host), 421, "{host}");
    }
    assert_eq!(ask("http://evil.example/echo", "localhost"), 421);
    let plain = |path, host| {
        answer(&server, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).status
    };
    assert_eq!((plain("/echo", "10.0.0.1"), plain("/", "10.0.0.1")), (421, 421));
    assert_eq!(plain("/healthz", "10.0.0.1"), 200, "who asks for health may know no name");
    assert_eq!(plain("/", "localhost"), 200);
    assert_eq!(server.stats().refused("misdirected"), 8);
    server.stop();
}

#[test]
fn a_required_subprotocol_is_required() {
    let flags = ["--subprotocol", "chat,v2.chat", "--subprotocol-required", "true"];
    let server = Server::start(1, &flags);
    let ask = |lines: &str| answer(&server, &upgrade_request("/echo", lines));
    let chosen = ask("Sec-WebSocket-Protocol: mqtt, v2.chat\r\n");
    assert_eq!((chosen.status, chosen.header("sec-websocket-protocol")), (101, Some("v2.chat")));
    for lines in ["", "Sec-WebSocket-Protocol: mqtt\r\n", "Sec-WebSocket-Protocol: CHAT\r\n"] {
        let refused = ask(lines);
        assert_eq!(refused.status, 400, "{lines}");
        assert!(String::from_utf8_lossy(&refused.body).contains("Sec-WebSocket-Protocol"));
    }
    server.stop();
}

#[test]
fn the_first_subprotocol_of_the_client_that_we_speak_is_chosen() {
    let server = Server::start(1, &["--subprotocol", "chat,v2.chat"]);
    let cases = [
        ("Sec-WebSocket-Protocol: v2.chat, chat\r\n", Some("v2.chat")),
        ("Sec-WebSocket-Protocol: mqtt, chat\r\n", Some("chat")),
        ("Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol: v2.chat\r\n", Some("v2.chat")),
        ("Sec-WebSocket-Protocol: mqtt\r\n", None),
        ("", None),
    ];
    for (lines, chosen) in cases {
        let response = answer(&server, &upgrade_request("/echo", lines));
        assert_eq!(response.status, 101);
        assert_eq!(response.header("sec-websocket-protocol"), chosen, "{lines}");
    }
    server.stop();
}

#[test]
fn over_the_connection_limit_upgrades_get_503_and_when_there_is_room_they_do_not() {
    let server = Server::start(1, &["--max-connections", "4"]);
    let mut members: Vec<_> = (0..4).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    // Refused with an answer, or without one where not even the head is read.
    let mut late = Peer::connect(server.address());
    late.send_unheard(&upgrade_request("/echo", ""));
    let response = late.read_response();
    assert_eq!(response.status, 503);
    assert!(response.header("retry-after").is_some());
    drop(late);
    drop(members.pop());
    wait_until("there is room again", || {
        let mut peer = Peer::connect(server.address());
        peer.send_unheard(&upgrade_request("/echo", ""));
        peer.read_response().status == 101
    });
    server.stop();
}

#[test]
fn a_request_split_anywhere_is_the_same_request() {
    let server = Server::start(1, &[]);
    let request = upgrade_request("/echo", "X-Padding: some more bytes\r\n");
    let mut byte_by_byte = Peer::connect(server.address());
    for byte in &request {
        byte_by_byte.send(&[*byte]);
    }
    assert_eq!(byte_by_byte.read_response().status, 101);
    for split in (1..request.len()).step_by(7) {
        let mut peer = Peer::connect(server.address());
        peer.send(&request[..split]);
        // An answer on another connection: the server has had its chance to see the first part.
        assert_eq!(Peer::connect(server.address()).get("/healthz").status, 200);
        peer.send(&request[split..]);
        assert_eq!(peer.read_response().status, 101, "split at {split}");
    }
    server.stop();
}

#[test]
fn frames_sent_with_the_request_are_not_lost() {
    let server = Server::start(2, &[]);
    let frames = [frame(FIN | TEXT, b"early"), frame(FIN | PING, b"p"), frame(FIN | TEXT, b"bird")];
    let request = [upgrade_request("/echo", ""), frames.concat()].concat();
    for cut in [request.len(), request.len() - 1, request.len() - 4, request.len() - 20] {
        let mut peer = Peer::connect(server.address());
        peer.send(&request[..cut]);
        assert_eq!(peer.read_response().status, 101);
        peer.send(&request[cut..]);
        let mut answers: Vec<_> = (0..3).map(|_| peer.read_frame()).collect();
        answers.retain(|answer| answer.opcode != PONG);
        let texts: Vec<_> = answers.iter().map(|answer| &answer.payload[..]).collect();
        assert_eq!(texts, [&b"early"[..], b"bird"], "cut at {cut}");
    }
    server.stop();
}

#[test]
fn plain_connections_make_room_for_websockets_within_the_limit() {
    for shards in SHARD_COUNTS {
        let flags = ["--max-connections", "4", "--handshake-timeout", "1h"];
        let server = Server::start(shards, &flags);
        let mut plain: Vec<_> = (0..8)
            .map(|_| {
                let mut peer = Peer::connect(server.address());
                assert_eq!(peer.get("/healthz").status, 200);
                peer
            })
            .collect();
        let _websockets: Vec<_> =
            (0..4).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
        for peer in &mut plain {
            peer.expect_end();
        }
        server.stop();
    }
}

#[test]
fn plain_requests_are_kept_alive_and_may_be_pipelined() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::connect(server.address());
    for _ in 0..3 {
        let page = peer.get("/");
        assert_eq!(page.status, 200);
        assert!(page.header("content-type").expect("a type").starts_with("text/html"));
        assert!(String::from_utf8_lossy(&page.body).contains("ringwire") || !page.body.is_empty());
        let health = peer.get("/healthz");
        assert_eq!((health.status, health.body.trim_ascii()), (200, &b"ok"[..]));
        assert_eq!(peer.get("/stats").status, 404, "it is for the admin listener");
    }
    let requests = [edited_get("/healthz", ""), edited_get("/nowhere", "").to_vec()].concat();
    peer.send(&[requests, upgrade_request("/echo", ""), frame(FIN | TEXT, b"after")].concat());
    for status in [200, 404, 101] {
        assert_eq!(peer.read_response().status, status);
    }
    peer.expect(TEXT, b"after");
    server.stop();
}

#[test]
fn connections_close_when_a_request_says_so() {
    let server = Server::start(1, &[]);
    let requests = [
        edited_get("/healthz", "Connection: close\r\n"),
        b"GET /healthz HTTP/1.0\r\nHost: a\r\n\r\n".to_vec(),
    ];
    for request in requests {
        let mut peer = Peer::connect(server.address());
        peer.send(&request);
        let response = peer.read_response();
        assert_eq!(response.status, 200);
        peer.expect_end_or_reset();
    }
    let mut head = Peer::connect(server.address());
    head.send(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut head.writer(), &mut bytes).expect("an answer and the end");
    let text = String::from_utf8(bytes).expect("ASCII");
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"), "{text}");
    server.stop();
}

#[test]
fn ipv6_and_several_listeners_serve_alike() {
    let server = Server::start_on(&["127.0.0.1:0", "[::1]:0"], 2, &[]);
    assert_eq!(server.addresses().len(), 2);
    assert!(server.addresses().iter().any(|address| address.is_ipv6()));
    let mut first = Peer::upgrade(server.addresses()[0], "/broadcast/both");
    let mut second = Peer::upgrade(server.addresses()[1], "/broadcast/both");
    first.send_frame(TEXT, b"across");
    first.expect(TEXT, b"across");
    second.expect(TEXT, b"across");
    server.stop();
}

#[test]
fn a_unix_socket_serves_and_is_gone_afterwards() {
    for shards in crate::SHARD_COUNTS {
        let path = socket_path("listener");
        let listener = format!("unix:{}", path.display());
        let server = Server::start_on(&["127.0.0.1:0", &listener], shards, &[]);
        let mut peers = Vec::new();
        wait_until("the Unix socket accepts", || {
            peers.extend(Peer::connect_unix(&path).ok());
            peers.len() == 8
        });
        for peer in peers {
            let mut peer = peer.upgraded("/echo");
            peer.send_frame(TEXT, b"local");
            peer.expect(TEXT, b"local");
        }
        server.stop();
        assert!(fs::symlink_metadata(&path).is_err(), "the socket file is removed");
    }
}

/// Sends a request on a connection of its own and reads the answer.
fn answer(server: &Server, request: &[u8]) -> Response {
    let mut peer = Peer::connect(server.address());
    peer.send_unheard(request);
    peer.read_response()
}

/// The sample upgrade request of `/echo` with one part replaced.
fn edited(from: &str, to: &str) -> Vec<u8> {
    let request = String::from_utf8(upgrade_request("/echo", "")).expect("ASCII");
    assert!(request.contains(from), "{from} is in the request");
    request.replacen(from, to, 1).into_bytes()
}

fn edited_get(path: &str, lines: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
}
