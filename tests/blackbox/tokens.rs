//! Who may do what: tokens in every place, what they grant, and when they do not hold any more.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::SHARD_COUNTS;
use crate::foreign_clients::{expect_success_with, program, tools};
use crate::peer::{BINARY, Peer, Response, TEXT, upgrade_request};
use crate::server::{Server, socket_path, wait_until};

const PUBLIC_KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.pem");
const OTHER_PUBLIC_KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed25519.pem");

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_ec_pem(include_bytes!("../keys/p256.private.pem"));
    encode(&Header::new(Algorithm::ES256), claims, &key.expect("a key")).expect("a token")
}

fn sign_with_other(claims: &Value) -> String {
    let key = EncodingKey::from_ed_pem(include_bytes!("../keys/ed25519.private.pem"));
    encode(&Header::new(Algorithm::EdDSA), claims, &key.expect("a key")).expect("a token")
}

/// Claims that hold for as long as any test takes.
fn claims(subscribe: &[&str], publish: &[&str]) -> Value {
    let grants = json!({ "subscribe": subscribe, "publish": publish });
    json!({ "sub": "alice", "jti": "t1", "exp": now_s() + 3600, "ringwire": grants })
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn upgrade(server: &Server, path: &str, fields: &str) -> (Peer, Response) {
    Peer::try_upgrade(server.address(), path, fields)
}

fn status(server: &Server, path: &str, fields: &str) -> u16 {
    upgrade(server, path, fields).1.status
}

fn post(server: &Server, topic: &str, fields: &str) -> u16 {
    Peer::post(server.address(), topic, fields)
}

/// A key file that changes, and goes with the test.
struct KeyFile(PathBuf);

impl KeyFile {
    fn new(name: &str, copy_of: &str) -> Self {
        let file = Self(socket_path(name).with_extension("pem"));
        file.become_copy_of(copy_of);
        file
    }

    fn become_copy_of(&self, path: &str) {
        fs::write(&self.0, fs::read(path).expect("a file")).expect("the file can be written");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn tokens_grant_what_they_say_on_every_shard() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--jwt-key", PUBLIC_KEY]);
        let reader = bearer(&sign(&claims(&["news.*"], &[])));
        let writer = bearer(&sign(&claims(&[], &["news.*"])));
        let both = bearer(&sign(&claims(&["news.*", "chat:**"], &["chat:**"])));
        for _ in 0..2 * shards {
            let (mut member, response) = upgrade(&server, "/broadcast/news.sport", &reader);
            assert_eq!(response.status, 101);
            assert_eq!(post(&server, "news.sport", &writer), 202);
            member.expect(BINARY, b"x");
            let (mut talker, response) = upgrade(&server, "/broadcast/chat:a.b", &both);
            assert_eq!(response.status, 101);
            talker.send_frame(TEXT, b"hello");
            talker.expect(TEXT, b"hello");
        }
        for (path, fields, expected) in [
            ("/broadcast/news.sport", "", 401),
            ("/echo", "", 401),
            ("/", "", 401),
            ("/echo", reader.as_str(), 101),
            ("/broadcast/other", &reader, 403),
            ("/broadcast/news.sport", &writer, 403),
            ("/broadcast/news.sport/x", &reader, 404),
            ("/broadcast/news.sport", "Authorization: Bearer a.b.c\r\n", 401),
        ] {
            assert_eq!(status(&server, path, fields), expected, "{path} {fields}");
        }
        assert_eq!(post(&server, "news.sport", &reader), 403);
        assert_eq!(post(&server, "news.sport", ""), 401);
        assert_eq!(Peer::connect(server.address()).get("/healthz").status, 200);
        assert_eq!(Peer::connect(server.address()).get("/").status, 200, "a page does nothing");
        let stats = server.stats();
        assert_eq!((stats.refused("unidentified"), stats.refused("not_granted")), (4, 3));
        assert_eq!(stats.refused("invalid_token"), 1);
        server.stop();
    }
}

#[test]
fn whoever_may_only_listen_and_speaks_is_closed() {
    let server = Server::start(1, &["--jwt-key", PUBLIC_KEY]);
    let (mut peer, _) = upgrade(&server, "/broadcast/a", &bearer(&sign(&claims(&["a"], &[]))));
    peer.send_frame(TEXT, b"hello");
    assert_eq!(peer.read_close(), (1008, "publishing is not allowed here".to_owned()));
    let metrics = server.ask_admin("/metrics").expect("an answer");
    assert!(metrics.contains("\nringwire_unauthorized_messages_total 1"), "{metrics}");
    server.stop();
}

#[test]
fn what_is_wrong_with_a_token_is_counted_and_not_told() {
    let flags = ["--jwt-key", PUBLIC_KEY, "--jwt-issuer", "us", "--jwt-audience", "here"];
    let server = Server::start(2, &flags);
    let good = || {
        let mut claims = claims(&["a"], &[]);
        (claims["iss"], claims["aud"]) = (json!("us"), json!(["here", "there"]));
        claims
    };
    let with = |claim: &str, value: Value| {
        let mut claims = good();
        claims[claim] = value;
        sign(&claims)
    };
    assert_eq!(status(&server, "/broadcast/a", &bearer(&sign(&good()))), 101);
    let mut forged = sign(&good());
    forged.replace_range(forged.len() - 4.., "AAAA");
    let bodies: Vec<_> = [
        ("malformed", "no.token".to_owned()),
        ("unknown_key", sign_with_other(&good())),
        ("signature", forged),
        ("expired", with("exp", json!(now_s() - 6))),
        ("not_yet_valid", with("nbf", json!(now_s() + 3600))),
        ("issuer", with("iss", json!("them"))),
        ("audience", with("aud", json!("there"))),
        ("claims", with("ringwire", json!(["a"]))),
    ]
    .into_iter()
    .map(|(reason, token)| {
        let (_, response) = upgrade(&server, "/broadcast/a", &bearer(&token));
        assert_eq!(response.status, 401, "{reason}");
        let challenge = "Bearer realm=\"ringwire\", error=\"invalid_token\"";
        assert_eq!(response.header("www-authenticate"), Some(challenge), "{reason}");
        let metrics = server.ask_admin("/metrics").expect("an answer");
        let line = format!("\nringwire_tokens_refused_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&line), "{reason}: {metrics}");
        response.body
    })
    .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "all are told the same");
    server.stop();
}

#[test]
fn tokens_are_taken_from_where_browsers_can_put_them_and_appear_nowhere() {
    let log = socket_path("tokens").with_extension("log");
    let flags = [
        "--jwt-key",
        PUBLIC_KEY,
        "--jwt-cookie",
        "token",
        "--jwt-query",
        "true",
        "--allow-origin",
        "https://a.org",
        "--subprotocol",
        "chat",
        "--log-level",
        "trace",
        "--access-log",
        log.to_str().expect("UTF-8"),
    ];
    let server = Server::start(2, &flags);
    let token = sign(&claims(&["a"], &[]));
    let origin = "Origin: https://a.org\r\n";
    let offered = format!("{origin}Sec-WebSocket-Protocol: chat, ringwire.bearer.{token}\r\n");
    let in_query = format!("/broadcast/a?access_token={token}");
    for (path, fields, expected) in [
        ("/broadcast/a", offered.clone(), 101),
        ("/broadcast/a", format!("{origin}Cookie: a=b; token={token}\r\n"), 101),
        ("/broadcast/a", format!("Origin: https://evil.org\r\nCookie: token={token}\r\n"), 403),
        (&in_query, String::new(), 101),
        (&in_query, bearer("an.other.one"), 400),
        ("/broadcast/a", offered.replace("chat, ", ""), 400),
        ("/broadcast/b", offered, 403),
        ("/broadcast/b", bearer(&token[1..]), 401),
    ] {
        let (_, response) = upgrade(&server, path, &fields);
        assert_eq!(response.status, expected, "{path} {fields}: {response:?}");
        let told = |text: &str| text.contains(&token[1..token.len() / 2]);
        assert!(!response.headers.iter().any(|(_, value)| told(value)));
        assert!(!told(&String::from_utf8_lossy(&response.body)));
    }
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    wait_until("all visits are logged", || lines().lines().count() >= 8);
    assert!(lines().contains("\"user\":\"alice\""), "{}", lines());
    wait_until("an end is told of", || {
        server.ask_admin("/closed").is_some_and(|told| told.contains("\"user\":\"alice\""))
    });
    let (_peer, _) = upgrade(&server, "/broadcast/a", &bearer(&token));
    let told = server.ask_admin("/connections").expect("told");
    assert!(told.contains("\"user\":\"alice\""), "{told}");
    for text in [lines(), server.output(), server.ask_admin("/connections").expect("told")] {
        assert!(!text.contains(&token[1..token.len() / 2]), "{text}");
        assert!(!text.contains("access_token"), "{text}");
    }
    let _ = fs::remove_file(&log);
    server.stop();
}

#[test]
fn those_without_a_token_may_do_what_all_may() {
    let flags = [
        "--jwt-key",
        PUBLIC_KEY,
        "--anonymous-subscribe",
        "public/**,wall",
        "--anonymous-publish",
        "wall",
    ];
    let server = Server::start(2, &flags);
    let token = bearer(&sign(&claims(&["a"], &["public/*"])));
    for (path, without, with) in [
        ("/broadcast/public%2Fa%2Fb", 101, 101),
        ("/broadcast/a", 401, 101),
        ("/broadcast/b", 401, 403),
        ("/echo", 101, 101),
    ] {
        assert_eq!(status(&server, path, ""), without, "{path}");
        assert_eq!(status(&server, path, &token), with, "{path}");
    }
    let (mut peer, _) = upgrade(&server, "/broadcast/wall", "");
    peer.send_frame(TEXT, b"hello");
    peer.expect(TEXT, b"hello");
    assert_eq!(post(&server, "public%2Fa", ""), 401);
    assert_eq!(post(&server, "public%2Fa", &token), 202);
    server.stop();
}

/// Upgrades with a token that holds for five more seconds, again if that took as long.
fn short_lived(server: &Server, path: &str, fields: &str) -> Peer {
    loop {
        let mut claims = claims(&["a"], &["a"]);
        claims["exp"] = json!(now_s());
        let fields = format!("{}{fields}", bearer(&sign(&claims)));
        let (peer, response) = upgrade(server, path, &fields);
        if response.status != 401 {
            assert_eq!(response.status, 101);
            return peer;
        }
    }
}

#[test]
fn connections_end_with_their_token() {
    let server = Server::start(2, &["--jwt-key", PUBLIC_KEY, "--park-after", "1s"]);
    let mut peers: Vec<_> = ["/broadcast/a", "/echo", "/broadcast/a", "/echo"]
        .map(|path| short_lived(&server, path, ""))
        .into_iter()
        .collect();
    let token = bearer(&sign(&claims(&["a"], &[])));
    let (mut lasting, _) = upgrade(&server, "/broadcast/a", &token);
    peers[0].send_frame(TEXT, b"in time");
    lasting.expect(TEXT, b"in time");
    for peer in &mut peers {
        let close = loop {
            let frame = peer.read_frame();
            if frame.opcode == crate::peer::CLOSE {
                break frame.payload;
            }
        };
        assert_eq!(close, [&3000_u16.to_be_bytes()[..], b"token expired"].concat());
    }
    lasting.send_frame(crate::peer::PING, b"still here");
    lasting.expect(crate::peer::PONG, b"still here");
    let stats = server.stats();
    assert_eq!(stats.closes("local", 3000), 4);
    server.stop();
}

#[test]
fn connections_outlive_their_token_where_they_may() {
    let server = Server::start(1, &["--jwt-key", PUBLIC_KEY, "--jwt-keep-open", "true"]);
    let mut peer = short_lived(&server, "/echo", "");
    let mut claims = claims(&["a"], &["a"]);
    claims["exp"] = json!(now_s());
    let token = bearer(&sign(&claims));
    wait_until("such a token is expired", || status(&server, "/echo", &token) == 401);
    peer.send_frame(TEXT, b"still here");
    peer.expect(TEXT, b"still here");
    server.stop();
}

#[test]
fn keys_are_read_again_all_or_none() {
    let file = KeyFile::new("keys-reload", PUBLIC_KEY);
    let server = Server::start(2, &["--jwt-key", file.path()]);
    let (before, after) =
        (bearer(&sign(&claims(&[], &[]))), bearer(&sign_with_other(&claims(&[], &[]))));
    let is_let_in = |fields: &str| status(&server, "/echo", fields) == 101;
    assert!(is_let_in(&before) && !is_let_in(&after));
    fs::write(&file.0, "no key").expect("the file can be written");
    server.signal("HUP");
    wait_until("the log tells", || server.output().contains("settings stay as they are"));
    assert!(server.output().contains(file.path()), "the file is named");
    assert!(is_let_in(&before));
    file.become_copy_of(OTHER_PUBLIC_KEY);
    server.signal("HUP");
    wait_until("the new key holds", || is_let_in(&after));
    assert!(!is_let_in(&before));
    wait_until("the log tells", || server.output().contains("changed=\"jwt-key\""));
    server.stop();
}

fn ask_to_revoke(server: &Server, body: &str) -> u16 {
    let mut admin = Peer::connect(server.admin());
    let head = "POST /revoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    admin.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    admin.read_response().status
}

#[test]
fn whoever_is_revoked_is_closed_and_stays_out() {
    for shards in SHARD_COUNTS {
        let list = KeyFile::new(&format!("revoked-{shards}"), "/dev/null");
        let flags = ["--jwt-key", PUBLIC_KEY, "--revoked", list.path()];
        let server = Server::start(shards, &flags);
        let token = |user: &str, id: &str| {
            let mut claims = claims(&["a"], &["a"]);
            (claims["sub"], claims["jti"]) = (json!(user), json!(id));
            bearer(&sign(&claims))
        };
        let open = |fields: &str| {
            let (peer, response) = upgrade(&server, "/broadcast/a", fields);
            assert_eq!(response.status, 101);
            peer
        };
        let (alice, bob, carol) = (token("alice", "1"), token("bob", "2"), token("carol", "3"));
        let mut of_alice: Vec<_> = (0..3).map(|_| open(&alice)).collect();
        let (mut of_bob, mut of_carol) = (open(&bob), open(&carol));
        let revoked = (3000, "token revoked".to_owned());
        assert_eq!(ask_to_revoke(&server, r#"{"user":"alice"}"#), 202);
        of_alice.iter_mut().for_each(|peer| assert_eq!(peer.read_close(), revoked));
        assert_eq!(fs::read_to_string(&list.0).expect("a list"), "user alice\n");
        fs::write(&list.0, "# lost\ntoken 2\n").expect("the file can be written");
        server.signal("HUP");
        assert_eq!(of_bob.read_close(), revoked);
        for (fields, expected) in [(&alice, 401), (&bob, 401), (&carol, 101)] {
            assert_eq!(status(&server, "/broadcast/a", fields), expected, "{fields}");
        }
        of_carol.send_frame(TEXT, b"still here");
        of_carol.expect(TEXT, b"still here");
        // What a request has revoked stays so when the list is read again.
        fs::write(&list.0, "").expect("the file can be written");
        server.signal("HUP");
        wait_until("the list is empty", || status(&server, "/broadcast/a", &bob) == 101);
        assert_eq!(status(&server, "/broadcast/a", &alice), 401);
        for (body, expected) in
            [("{}", 400), (r#"{"user":"a","token":"b"}"#, 400), (r#"{"user":""}"#, 400)]
        {
            assert_eq!(ask_to_revoke(&server, body), expected, "{body}");
        }
        server.stop();
    }
    let server = Server::start(1, &[]);
    assert_eq!(ask_to_revoke(&server, r#"{"user":"alice"}"#), 409);
    server.stop();
}

/// What requests revoke is in the list, so that the next process knows it.
#[test]
fn what_is_revoked_by_request_outlives_the_process() {
    let list = KeyFile::new("revoked-for-good", "/dev/null");
    fs::write(&list.0, "# no end of the line\ntoken 1").expect("the file can be written");
    let flags = ["--jwt-key", PUBLIC_KEY, "--revoked", list.path()];
    let token = |user: &str| {
        let mut claims = claims(&["a"], &["a"]);
        claims["sub"] = json!(user);
        bearer(&sign(&claims))
    };
    let server = Server::start(1, &flags);
    let two = [r#"{"user":"alice"}"#, r#"{"token":"1"}"#, r#"{"user":"alice"}"#];
    assert!(two.iter().all(|body| ask_to_revoke(&server, body) == 202));
    let written = fs::read_to_string(&list.0).expect("a list");
    assert_eq!(written, "# no end of the line\ntoken 1\nuser alice\n");
    // What no line can say is revoked, and so is what finds a list that cannot be added to.
    assert_eq!(ask_to_revoke(&server, r#"{"user":"a\nb"}"#), 500);
    fs::write(&list.0, "nonsense\n").expect("the file can be written");
    assert_eq!(ask_to_revoke(&server, r#"{"user":"bob"}"#), 500);
    assert_eq!(status(&server, "/broadcast/a", &token("bob")), 401);
    assert_eq!(fs::read_to_string(&list.0).expect("a list"), "nonsense\n");
    server.stop();

    fs::write(&list.0, written).expect("the file can be written");
    let server = Server::start(1, &flags);
    for (user, expected) in [("alice", 401), ("bob", 101)] {
        assert_eq!(status(&server, "/broadcast/a", &token(user)), expected, "{user}");
    }
    server.stop();
}

/// Answers requests for keys on loopback, one after the other, with what is there at the time.
struct KeyServer {
    url: String,
    answer: Arc<Mutex<String>>,
    requests: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/keys.json", listener.local_addr().expect("bound"));
        let (answer, requests) = (Arc::new(Mutex::default()), Arc::new(AtomicUsize::new(0)));
        let server = Self { url, answer, requests };
        let (answer, requests) = (server.answer.clone(), server.requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                    line.clear();
                }
                requests.fetch_add(1, Ordering::Relaxed);
                let answer: String = String::clone(&answer.lock().expect("no panic"));
                let _ = reader.get_mut().write_all(answer.as_bytes());
            }
        });
        server
    }

    /// Answers with the public key of these tests, by this name, from now on.
    fn serve_key(&self, id: &str) {
        let private = EncodingKey::from_ec_pem(include_bytes!("../keys/p256.private.pem"));
        let jwk = Jwk::from_encoding_key(&private.expect("a key"), Algorithm::ES256);
        let mut jwk = serde_json::to_value(jwk.expect("a public key")).expect("JSON");
        jwk["kid"] = json!(id);
        let body = json!({ "keys": [jwk] }).to_string();
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nConnection: close\r\n";
        self.answer_with(&format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
    }

    fn answer_with(&self, answer: &str) {
        *self.answer.lock().expect("no panic") = answer.to_owned();
    }
}

#[test]
fn keys_are_fetched_and_the_server_is_not_ready_before() {
    let keys = KeyServer::start();
    keys.answer_with("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let flags = ["--jwt-jwks", &keys.url, "--jwt-issuer", "us", "--jwt-audience", "here"];
    let server = Server::start(2, &flags);
    let named = |id: &str| {
        let mut claims = claims(&["a"], &[]);
        (claims["iss"], claims["aud"]) = (json!("us"), json!("here"));
        let key = EncodingKey::from_ec_pem(include_bytes!("../keys/p256.private.pem"));
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
        bearer(&encode(&header, &claims, &key.expect("a key")).expect("a token"))
    };
    let readiness = || Peer::connect(server.admin()).get("/readyz");
    wait_until("it has been asked", || keys.requests.load(Ordering::Relaxed) > 0);
    assert_eq!(status(&server, "/broadcast/a", &named("1")), 401);
    let not_ready = readiness();
    assert_eq!(not_ready.status, 503);
    assert!(String::from_utf8_lossy(&not_ready.body).contains(&keys.url));
    keys.serve_key("1");
    wait_until("it is ready", || readiness().status == 200);
    assert_eq!(status(&server, "/broadcast/a", &named("1")), 101);
    // What is no set changes nothing; it is not asked for again so soon.
    let requests = keys.requests.load(Ordering::Relaxed);
    keys.answer_with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    assert_eq!(status(&server, "/broadcast/a", &named("2")), 401);
    server.signal("HUP");
    wait_until("the log tells", || server.output().contains("settings reloaded"));
    assert_eq!(status(&server, "/broadcast/a", &named("1")), 101, "the keys stay");
    assert_eq!(keys.requests.load(Ordering::Relaxed), requests);
    let metrics = server.ask_admin("/metrics").expect("an answer");
    assert!(metrics.contains("ringwire_key_set_fetches_total{reason=\"fetched\"} 1"), "{metrics}");
    server.stop();
}

/// A library that nobody here wrote makes the tokens, and another one shows them.
#[test]
fn tokens_of_pyjwt() {
    let Some(tools) = tools() else { return };
    let secret = KeyFile::new("pyjwt", "/dev/null");
    fs::write(&secret.0, [b'x'; 64]).expect("the file can be written");
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys");
    let secrets = ["hs256", "hs384", "hs512"].map(|name| format!("{name}:{}", secret.path()));
    let rsa = ["rs256", "rs384", "rs512", "ps256", "ps384", "ps512"]
        .map(|name| format!("{name}:{keys}/rsa.pem"));
    let others = ["p256", "p384", "ed25519"].map(|name| format!("{keys}/{name}.pem"));
    let files = [&secrets[..], &rsa, &others].concat();
    let mut flags: Vec<_> = files.iter().flat_map(|file| ["--jwt-key", file]).collect();
    flags.extend(["--jwt-cookie", "token", "--jwt-query", "true", "--subprotocol", "chat"]);
    flags.extend(["--allow-origin", "https://a.org"]);
    let server = Server::start(2, &flags);
    let mut python = Command::new(tools.join("python/bin/python"));
    python.arg(program("python_tokens.py")).args([&server.url(""), keys, secret.path()]);
    expect_success_with(python, server, "tokens");
}

/// A browser cannot set a header of a WebSocket's request, nor see the status of the answer.
#[test]
fn tokens_in_chromium() {
    let Some(tools) = tools() else { return };
    let flags = [
        "--jwt-key",
        PUBLIC_KEY,
        "--jwt-cookie",
        "token",
        "--subprotocol",
        "chat",
        "--allow-origin",
        "https://a.org",
        "--refuse-with",
        "close",
    ];
    let server = Server::start(2, &flags);
    let mut node = Command::new("node");
    node.env("NODE_PATH", tools.join("node/node_modules"));
    node.arg(program("chromium_tokens.js"));
    node.args([&server.url(""), &sign(&claims(&["news.*"], &["news.*"]))]);
    expect_success_with(node, server, "tokens");
}

#[test]
fn a_crowd_with_tokens_is_let_in_by_and_by() {
    let server = Server::start(1, &["--jwt-key", PUBLIC_KEY]);
    let mut bystander = upgrade(&server, "/echo", &bearer(&sign(&claims(&[], &[])))).0;
    let request = upgrade_request("/echo", &bearer(&sign(&claims(&[], &[]))));
    let mut crowd: Vec<_> = (0..200).map(|_| Peer::connect(server.address())).collect();
    crowd.iter_mut().for_each(|peer| peer.send(&request));
    bystander.send_frame(TEXT, b"meanwhile");
    bystander.expect(TEXT, b"meanwhile");
    for peer in &mut crowd {
        assert_eq!(peer.read_response().status, 101);
    }
    server.stop();
}

#[test]
fn a_server_that_could_not_ask_for_tokens_does_not_start() {
    let secret = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.private.pem");
    for (flags, status, names) in [
        (&["--jwt-key", "/nowhere/key.pem"][..], 1, "/nowhere/key.pem"),
        (&["--jwt-key", secret], 1, "private key"),
        (&["--jwt-key", PUBLIC_KEY, "--jwt-cookie", "token"], 2, "--allow-origin"),
        (&["--anonymous-subscribe", "a"], 2, "--jwt-key"),
        (&["--jwt-key", "rs25:/key.pem"], 2, "hs256:"),
        (&["--jwt-jwks", "http://127.0.0.1:1/"], 2, "--jwt-audience"),
        (&["--jwt-jwks", "ftp://a.org/keys"], 2, "https://HOST"),
        (&["--basic-users", "/nowhere/users"], 1, "/nowhere/users"),
        (&["--basic-users", "./Cargo.toml"], 1, "line 1"),
        (&["--auth-url", "https://a.org"], 2, "https://HOST"),
        (&["--auth-forward-header", "X-Key"], 2, "--auth-url"),
        (&["--auth-url", "http://a.org/", "--auth-forward-header", "Host"], 2, "X-Api-Key"),
        (&["--auth-url", "http://a.org/", "--jwt-query", "true"], 2, "--jwt-key"),
        (&["--auth-url", "https://a.org/", "--auth-ca", "/nowhere/ca.pem"], 1, "/nowhere/ca.pem"),
    ] {
        let output = Server::command().args(flags).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{flags:?}: {said}");
        assert!(said.contains(names), "{flags:?}: {said}");
    }
}
