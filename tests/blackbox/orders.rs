//! What the admin listener has shards do with their connections: to see them, to close some, to
//! send some away. Whoever is concerned is told the code and the reason, and nobody else notices.

use std::collections::HashSet;
use std::thread;

use serde_json::{Value, json};

use crate::admin::{HOST, JSON, ask, text};
use crate::peer::{Peer, Response, TEXT};
use crate::process::hang;
use crate::server::{Server, wait_until};

fn post(server: &Server, path: &str, body: &Value) -> Response {
    ask(server.admin(), &format!("POST {path}"), &[HOST, JSON], &body.to_string())
}

/// The answer to a request that changes something, which is JSON whatever it says.
fn call(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let response = post(server, path, body);
    assert_eq!(response.header("content-type"), Some("application/json"));
    (response.status, serde_json::from_slice(&response.body).expect("JSON"))
}

fn list(server: &Server, query: &str) -> (Vec<Value>, Option<String>) {
    let response = ask(server.admin(), &format!("GET /connections{query}"), &[HOST], "");
    assert_eq!(response.status, 200, "{query}: {}", text(&response));
    let page: Value = serde_json::from_slice(&response.body).expect("JSON");
    let connections = page["connections"].as_array().expect("an array").clone();
    (connections, page["next"].as_str().map(str::to_owned))
}

/// Peers at these paths in turn, until every shard has at least `least`.
fn peers(server: &Server, shards: usize, least: u64, paths: &[&str]) -> Vec<(Peer, String)> {
    let mut peers = Vec::new();
    let has_enough = || server.stats().shards().iter().all(|it| it.websockets_open() >= least);
    while peers.len() < paths.len() * least as usize * shards || !has_enough() {
        let path = paths[peers.len() % paths.len()];
        peers.push((Peer::upgrade(server.address(), path), path.to_owned()));
    }
    peers
}

fn echo(peer: &mut Peer, payload: &[u8]) {
    peer.send_frame(TEXT, payload);
    peer.expect(TEXT, payload);
}

#[test]
fn the_members_of_a_topic_are_closed_on_every_shard_and_nobody_else() {
    for shards in [1, 2] {
        let server = Server::start(shards, &["--mount", "/chat=broadcast,topic=lobby"]);
        let paths = ["/broadcast/lobby", "/chat", "/broadcast/other", "/echo"];
        let mut peers = peers(&server, shards, 8, &paths);
        let is_member = |path: &str| ["/broadcast/lobby", "/chat"].contains(&path);
        let members = peers.iter().filter(|(_, path)| is_member(path)).count() as u64;
        let order = json!({ "topic": "lobby", "code": 4001, "reason": "closed for today" });
        let (status, answer) = call(&server, "/topics/close", &order);
        assert_eq!((status, &answer["closing"]), (200, &members.into()), "{answer}");
        let parts = answer["shards"].as_array().expect("a part for each shard");
        let sum: u64 = parts.iter().map(|part| part["closing"].as_u64().expect("a count")).sum();
        assert_eq!((parts.len(), sum), (shards, members));
        for (peer, path) in &mut peers {
            if is_member(path) {
                assert_eq!(peer.read_close(), (4001, "closed for today".to_owned()), "{path}");
            } else if path == "/echo" {
                echo(peer, b"still here");
            }
        }
        peers.retain(|(_, path)| !is_member(path));
        let mut others = peers.iter_mut().filter(|(_, path)| path == "/broadcast/other");
        let (publisher, _) = others.next().expect("several");
        publisher.send_frame(TEXT, b"to others");
        publisher.expect(TEXT, b"to others");
        others.for_each(|(other, _)| other.expect(TEXT, b"to others"));
        // Nobody is left, and who comes again is welcome.
        wait_until("all are gone", || server.stats().websockets_open() == peers.len() as u64);
        let (_, answer) = call(&server, "/topics/close", &order);
        assert_eq!(answer["closing"], 0);
        let mut again = Peer::upgrade(server.address(), "/chat");
        echo(&mut again, b"back");
        server.stop();
    }
}

#[test]
fn connections_are_found_page_by_page_and_closed_by_id() {
    for shards in [1, 2] {
        let server = Server::start(shards, &[]);
        let mut peers = peers(&server, shards, 8, &["/echo", "/broadcast/a%20b"]);
        let (all, next) = list(&server, "?limit=1000");
        assert_eq!((all.len(), next), (peers.len(), None));
        let id = |connection: &Value| connection["id"].as_str().expect("an id").to_owned();
        let ids: HashSet<_> = all.iter().map(id).collect();
        assert_eq!(ids.len(), peers.len(), "each has an id of its own");
        let (mut paged, mut query) = (Vec::new(), "?limit=5".to_owned());
        loop {
            let (page, next) = list(&server, &query);
            assert!(page.len() == 5 || next.is_none(), "{}", page.len());
            paged.extend(page.iter().map(id));
            let Some(next) = next else { break };
            query = format!("?limit=5&after={next}");
        }
        assert_eq!(paged, all.iter().map(id).collect::<Vec<_>>());
        let by_shard = (0..shards).map(|shard| list(&server, &format!("?shard={shard}")).0.len());
        assert_eq!(by_shard.sum::<usize>(), peers.len());
        for connection in &all {
            let is_member = connection["service"] == "broadcast";
            let topics = if is_member { json!(["a b"]) } else { json!([]) };
            assert_eq!(connection["topics"], topics);
            assert_eq!(
                (&connection["protocol"], &connection["state"]),
                (&json!("websocket"), &json!("open"))
            );
            assert_eq!(
                (&connection["waits_for"], &connection["backlog_bytes"]),
                (&Value::Null, &json!(0))
            );
            assert!(connection["silent_ms"].is_u64() && connection["shard"].is_u64());
        }
        // One is closed; which of the peers it was tells the peer.
        let victim = id(all.iter().find(|it| it["service"] == "echo").expect("there are some"));
        let order = json!({ "id": victim, "code": 1008 });
        assert_eq!(call(&server, "/connections/close", &order), (200, json!({ "closing": 1 })));
        wait_until("it is closed", || server.stats().closes("local", 1008) == 1);
        let mut closed = 0;
        for (peer, _) in peers.iter_mut().filter(|(_, path)| path == "/echo") {
            peer.send_frame(TEXT, b"you?");
            let frame = peer.read_frame();
            closed += usize::from(frame.opcode == crate::peer::CLOSE);
            assert!(frame.opcode == TEXT || frame.payload == 1008_u16.to_be_bytes(), "{frame:?}");
        }
        assert_eq!(closed, 1);
        // Its id names nothing any more, or something that ends.
        wait_until("it is gone", || call(&server, "/connections/close", &order).0 == 404);
        let (_, answer) = call(&server, "/connections/close", &order);
        assert!(answer["error"].as_str().expect("words").contains(&victim), "{answer}");
        server.stop();
    }
}

fn top(server: &Server, query: &str) -> (u16, Value) {
    let response = ask(server.admin(), &format!("GET /top?{query}"), &[HOST], "");
    (response.status, serde_json::from_slice(&response.body).expect("JSON"))
}

#[test]
fn whoever_takes_the_most_is_found() {
    let server = Server::start(2, &["--top", "true", "--peer-addresses", "true"]);
    let mut quiet = Peer::upgrade(server.address(), "/broadcast/news");
    let mut busy = Peer::upgrade(server.address(), "/broadcast/news");
    for _ in 0..20 {
        busy.send_frame(TEXT, &[b'x'; 10_000]);
        busy.expect(TEXT, &[b'x'; 10_000]);
        quiet.expect(TEXT, &[b'x'; 10_000]);
    }
    let (status, told) = top(&server, "by=bytes&limit=1");
    assert_eq!((status, &told["by"], &told["of"]), (200, &json!("bytes"), &json!("connections")));
    let entry = &told["entries"][0];
    assert!(entry["bytes"].as_u64().is_some_and(|bytes| bytes >= 200_000), "{told}");
    assert_eq!((&entry["topic"], &entry["address"]), (&json!("news"), &json!("127.0.0.1")));
    let order = json!({ "id": entry["connection"], "code": 4000 });
    let (status, told) = top(&server, "by=messages&of=topics");
    assert_eq!(status, 200);
    assert_eq!(
        (&told["entries"][0]["topic"], &told["entries"][0]["error"]),
        (&json!("news"), &json!(0))
    );
    let (_, told) = top(&server, "by=bytes&of=shards");
    assert_eq!(told["entries"].as_array().map(Vec::len), Some(2));
    assert_eq!(top(&server, "by=idle").0, 200);
    let (status, told) = top(&server, "by=idle&of=topics");
    assert!(status == 400 && told["error"].as_str().is_some_and(|it| it.contains("by is bytes")));
    // What is told names the connection that may be closed.
    assert_eq!(call(&server, "/connections/close", &order).0, 200);
    assert_eq!(busy.read_close().0, 4000);
    server.stop();
    let server = Server::start(1, &[]);
    let (status, told) = top(&server, "by=messages");
    assert!(status == 409 && told["error"].as_str().is_some_and(|it| it.contains("--top")));
    assert_eq!(top(&server, "by=backlog&of=shards").0, 200);
    server.stop();
}

#[test]
fn connections_are_sent_away_and_the_others_stay() {
    for shards in [1, 2] {
        let server = Server::start(shards, &[]);
        let mut peers = peers(&server, shards, 6, &["/echo"]);
        let away = peers.len() as u64 / 2;
        let order = json!({ "count": away, "seconds": 1 });
        let (status, answer) = call(&server, "/connections/release", &order);
        assert_eq!((status, &answer["releasing"]), (202, &away.into()), "{answer}");
        wait_until("they are sent away", || server.stats().connections_released() == away);
        assert_eq!(server.stats().closes("local", 1012), away);
        let mut told = 0;
        for (peer, _) in &mut peers {
            peer.send_frame(TEXT, b"still here?");
            let frame = peer.read_frame();
            if frame.opcode == TEXT {
                continue;
            }
            let reason = [&1012_u16.to_be_bytes()[..], b"please connect again"].concat();
            assert_eq!(frame.payload, reason);
            told += 1;
        }
        assert_eq!(told, away);
        server.stop();
    }
}

#[test]
fn a_release_ends_before_the_next_begins() {
    let server = Server::start(1, &[]);
    let _peers = peers(&server, 1, 4, &["/echo"]);
    let order = json!({ "count": 2, "seconds": 3600 });
    assert_eq!(call(&server, "/connections/release", &order).0, 202);
    let (status, answer) = call(&server, "/connections/release", &order);
    assert_eq!(status, 409);
    let told = "shard 0 is sending connections away already; try again when those are gone";
    assert_eq!(answer["error"], told);
    server.stop();
}

#[test]
fn what_cannot_be_ordered_is_refused_with_the_reason() {
    let server = Server::start(2, &[]);
    let long = "x".repeat(124);
    let close = |code: Value| json!({ "topic": "a", "code": code });
    let cases: [(&str, Value, u16, &str); 17] = [
        ("/topics/close", json!({}), 400, "missing field `topic`"),
        ("/topics/close", json!({ "topic": "a" }), 400, "missing field `code`"),
        ("/topics/close", json!({ "topics": "a", "code": 1000 }), 400, "`topic`, `code`, `reason`"),
        ("/topics/close", json!({ "topic": "", "code": 1000 }), 400, "The topic is empty"),
        ("/topics/close", close(json!(999)), 400, "code is 999, and a server closes with 1000 to"),
        ("/topics/close", close(json!(1005)), 400, "code is 1005"),
        ("/topics/close", close(json!(1010)), 400, "code is 1010"),
        ("/topics/close", close(json!(5000)), 400, "code is 5000"),
        ("/topics/close", close(json!(70_000)), 400, "expected u16"),
        ("/topics/close", close(json!("1000")), 400, "expected u16"),
        (
            "/topics/close",
            json!({ "topic": "a", "code": 1000, "reason": long }),
            400,
            "reason has 124 bytes, and a close frame holds 123",
        ),
        ("/connections/close", json!({ "id": "0-1", "code": 1000 }), 400, "such as 1-204-7"),
        ("/connections/close", json!({ "id": "9-1-1", "code": 1000 }), 404, "There is no shard 9"),
        ("/connections/close", json!({ "id": "0-1-1", "code": 1000 }), 404, "no connection 0-1-1"),
        ("/connections/release", json!({ "count": 0 }), 400, "count is 0, and is at least 1"),
        ("/connections/release", json!({ "count": 1, "seconds": 3601 }), 400, "at most 3600"),
        ("/connections/release", json!({ "count": -1 }), 400, "expected u64"),
    ];
    for (path, body, status, told) in cases {
        let (was, answer) = call(&server, path, &body);
        let error = answer["error"].as_str().expect("words");
        assert!(was == status && error.contains(told), "{path} {body}: {was} {error}");
        // Nor do web pages have a say.
        let foreign = [HOST, JSON, "Origin: https://evil.example"];
        let response = ask(server.admin(), &format!("POST {path}"), &foreign, &body.to_string());
        assert_eq!(response.status, 403, "{path}");
    }
    for (query, told) in [
        ("?limit=0", "limit is a number from 1 to 1000"),
        ("?limit=1001", "limit is a number from 1 to 1000"),
        ("?shard=2", "shard is a number from 0 to 1"),
        ("?after=1", "after names no connection"),
        ("?all=1", "all is unknown; there are limit, after, shard and user"),
    ] {
        let response = ask(server.admin(), &format!("GET /connections{query}"), &[HOST], "");
        assert!(response.status == 400 && text(&response).contains(told), "{}", text(&response));
    }
    assert_eq!(server.stats().closes_of_all(), 0);
    server.stop();
}

#[test]
fn a_shard_that_hangs_holds_up_nobody_and_does_nothing_late() {
    let server = Server::start(2, &[]);
    let mut peers = peers(&server, 2, 4, &["/broadcast/a"]);
    let open: Vec<_> = server.stats().shards().iter().map(|it| it.websockets_open()).collect();
    let hung = hang(&server, 1);
    let order = json!({ "topic": "a", "code": 4001 });
    let (status, answer) = call(&server, "/topics/close", &order);
    let told = "shard 1 has not answered for 10 s; what it has not done by now is left";
    assert_eq!((status, &answer["error"]), (504, &told.into()), "{answer}");
    assert_eq!(answer["closing"], open[0], "the other has done it");
    assert_eq!(answer["shards"][1], json!({ "shard": 1, "error": told }));
    list(&server, "?shard=0");
    // One order is enough for whoever does not answer. Further calls end as well, and no more of
    // them wait than may.
    let mut answers = thread::scope(|scope| {
        let call = || ask(server.admin(), "GET /connections", &[HOST], "");
        let calls: Vec<_> = (0..9).map(|_| scope.spawn(call)).collect();
        let answers = calls.into_iter().map(|call| call.join().expect("it is answered"));
        answers.map(|answer| (answer.status, text(&answer).to_owned())).collect::<Vec<_>>()
    });
    answers.sort_unstable();
    let late = json!({ "error": told }).to_string();
    let many = json!({ "error": "8 calls wait for shards already; try again." }).to_string();
    let expected = [vec![(503, many)], vec![(504, late); 8]].concat();
    assert_eq!(answers, expected);
    drop(hung);
    wait_until("it answers again", || {
        ask(server.admin(), "GET /connections?shard=1", &[HOST], "").status == 200
    });
    let left = |server: &Server| server.stats().shards()[1].websockets_open();
    assert_eq!(left(&server), open[1], "what was withdrawn is not done later");
    let (status, answer) = call(&server, "/topics/close", &order);
    assert_eq!((status, &answer["closing"]), (200, &open[1].into()));
    for (peer, _) in &mut peers {
        assert_eq!(peer.read_close(), (4001, String::new()));
    }
    server.stop();
}

#[test]
fn a_server_that_drains_takes_no_orders() {
    let server = Server::start(2, &["--drain", "20s"]);
    let mut peers = peers(&server, 2, 4, &["/broadcast/a"]);
    assert_eq!(post(&server, "/drain", &json!({})).status, 202);
    let order = json!({ "topic": "a", "code": 4001 });
    wait_until("both shards drain", || {
        let (status, answer) = call(&server, "/topics/close", &order);
        let error = answer["error"].as_str().unwrap_or_default();
        status == 503 && error.contains("shard 0 ") && error.contains("shard 1 ")
    });
    drop(peers.drain(..));
    drop(server);
}
