//! The API by which applications publish to channels and ask about them: `cent` of PyPI against it,
//! and requests of our own.

use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use crate::SHARD_COUNTS;
use crate::foreign_clients::{expect_success_with, program, tools};
use crate::peer::Peer;
use crate::server::Server;

/// A server with the API, whose key is [`KEY`], and anonymous clients.
fn server(shards: usize) -> Server {
    server_with(shards, &[])
}

fn server_with(shards: usize, further: &[&str]) -> Server {
    let keys = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("api-keys-{:?}.txt", thread::current().id()));
    fs::write(&keys, format!("# for tests\n{KEY}\n")).expect("the directory for test files");
    let keys = keys.to_str().expect("a text");
    let kept = "kept:,history_size=10,history_ttl=60s,presence,join_leave,force_recovery,\
                allow_subscribe_for_client,allow_subscribe_for_anonymous";
    let flags = [
        "--realtime",
        "true",
        "--client-allow-anonymous",
        "true",
        "--api-key",
        keys,
        "--channels",
        "allow_subscribe_for_client,allow_subscribe_for_anonymous",
        "--namespace",
        kept,
    ];
    Server::start(shards, &[&flags[..], further].concat())
}

#[test]
fn an_application_rules_over_channels_with_cent() {
    let Some(tools) = tools() else { return };
    for shards in SHARD_COUNTS {
        let server = server(shards);
        let mut command = Command::new(tools.join("python/bin/python"));
        command.arg(program("python_api.py"));
        command.args(["127.0.0.1", &server.address().port().to_string(), KEY]);
        expect_success_with(command, server, &format!("{shards} shards"));
    }
}

/// A connection is used again, and what is called in one piece is answered in its order.
#[test]
fn calls_follow_each_other_on_one_connection() {
    for shards in SHARD_COUNTS {
        let server = server(shards);
        let mut peer = Peer::connect(server.address());
        let publish = |number: usize| {
            let body = format!(r#"{{"channel":"kept:a","data":{number}}}"#);
            let head = format!(
                "POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nContent-Length: {}",
                body.len()
            );
            format!("{head}\r\n\r\n{body}")
        };
        let calls: String = (1..=50).map(publish).collect();
        peer.send(calls.as_bytes());
        for number in 1..=50 {
            let response = peer.read_response();
            let body = String::from_utf8(response.body).expect("a text");
            let expected = format!(r#"{{"result":{{"offset":{number},"epoch":""#);
            assert!(body.starts_with(&expected), "{number}: {body}");
        }
        server.stop();
    }
}

/// What applications call is where nobody else comes, and the other way round.
#[test]
fn the_api_may_have_listeners_of_its_own() {
    for shards in SHARD_COUNTS {
        let server = server_with(shards, &["--api", "127.0.0.1:0"]);
        let body = r#"{"channel":"kept:a","data":1}"#;
        let head = format!("Host: a\r\nX-API-Key: {KEY}\r\nContent-Length: {}", body.len());
        let mut application = Peer::connect(server.api());
        for (first_line, expected) in [
            ("POST /api/publish", 200),
            ("POST /api/publish?a=b", 200),
            ("GET /api/publish", 405),
            ("GET /healthz", 200),
            ("GET /", 404),
            ("POST /broadcast/a", 404),
            ("GET /broadcast/a?mode=stream", 404),
            ("POST /nowhere", 404),
        ] {
            application.send(format!("{first_line} HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes());
            let response = application.read_response();
            assert_eq!(response.status, expected, "{first_line}");
            // Bodies that nobody wants end the connection.
            if response.status != 200 || first_line.starts_with("GET") {
                application = Peer::connect(server.api());
            }
        }
        for path in ["/", "/echo", "/broadcast/a", "/connection/websocket"] {
            let mut client = Peer::connect(server.api());
            client.send(
                format!(
                    "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                )
                .as_bytes(),
            );
            assert_eq!(client.read_response().status, 404, "{path}");
        }
        let mut client = Peer::connect(server.address());
        client.send(format!("POST /api/publish HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes());
        assert_eq!(client.read_response().status, 404, "the API is elsewhere");
        server.stop();
    }
}

#[test]
fn without_keys_there_is_no_api() {
    let server = Server::start(1, &["--realtime", "true", "--client-allow-anonymous", "true"]);
    let mut peer = Peer::connect(server.address());
    peer.send(b"POST /api/info HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(peer.read_response().status, 404);
    server.stop();
}

const KEY: &str = "a-key-for-tests";
