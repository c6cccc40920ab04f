//! A backend that says who may do what: what it is asked, what its answers mean, and what happens
//! when it gives none.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, thread};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::SHARD_COUNTS;
use crate::authority::Authority;
use crate::peer::{BINARY, Peer, Response, TEXT, upgrade_request};
use crate::server::{Server, socket_path, wait_until};

/// What the backend was asked: the line, and the fields by their names in lower case.
type Asked = (String, HashMap<String, String>);

/// A backend that answers by the `X-Want` of the request, which is passed on.
struct Backend {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    fn start() -> Self {
        Self::start_with(None)
    }

    /// The same, by TLS.
    fn start_with(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/check?x=1", listener.local_addr().expect("bound"));
        let backend = Self { url, asked: Arc::default(), connections: Arc::default() };
        let (asked, connections) = (backend.asked.clone(), backend.connections.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::Relaxed);
                let (asked, tls) = (asked.clone(), tls.clone());
                thread::spawn(move || match tls {
                    None => serve(stream, &asked),
                    Some(tls) => {
                        let session = ServerConnection::new(tls).expect("a session");
                        serve(StreamOwned::new(session, stream), &asked);
                    }
                });
            }
        });
        backend
    }

    fn flags(&self) -> [&str; 4] {
        ["--auth-url", &self.url, "--auth-forward-header", "X-Want"]
    }

    fn last(&self) -> Asked {
        self.asked.lock().expect("no panic").last().expect("it was asked").clone()
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }
}

fn serve(stream: impl Read + Write, asked: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => lines.push(line.trim_end().to_owned()),
            }
        }
        let fields: HashMap<_, _> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let want = fields.get("x-want").cloned().unwrap_or_default();
        asked.lock().expect("no panic").push((lines[0].clone(), fields));
        let _ = reader.get_mut().write_all(answer(&want).as_bytes());
        if want == "hang-up" {
            return;
        }
    }
}

/// What a server shows that has the certificate of an authority.
fn tls(authority: &Authority) -> Arc<ServerConfig> {
    let certificates = CertificateDer::pem_file_iter(authority.path("server.pem"));
    let certificates = certificates.expect("a file").map(|it| it.expect("a certificate"));
    let key = PrivateKeyDer::from_pem_file(authority.path("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(certificates.collect(), key)
        .expect("a key of its certificate");
    Arc::new(config)
}

fn answer(want: &str) -> String {
    let whole = |status: &str, fields: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
    };
    let json = "Content-Type: application/json\r\n";
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    match want {
        "everything" => whole("204", "", ""),
        "fields" => {
            let fields = "X-Ringwire-User: bob\r\nX-Ringwire-Subscribe: news.*, wall\r\n";
            whole("200", fields, "ignored")
        }
        "json" => {
            let grants = r#"{"subscribe":["**"],"publish":["wall"]}"#;
            whole("200", json, &format!(r#"{{"sub":"carol","ringwire":{grants}}}"#))
        }
        "soon" => whole("200", json, &format!(r#"{{"sub":"dan","exp":{}}}"#, now_s + 2)),
        "nonsense" => whole("200", json, "<html>"),
        "basic" => whole("401", "WWW-Authenticate: Basic realm=\"backend\"\r\n", "who?"),
        "forbid" => whole("403", "", "no"),
        "move" => whole("302", "Location: /login\r\n", ""),
        "error" => whole("500", "", "oh"),
        "hang" | "hang-up" => String::new(),
        _ => whole("401", "", ""),
    }
}

fn upgrade(server: &Server, path: &str, want: &str) -> (Peer, Response) {
    Peer::try_upgrade(server.address(), path, &format!("X-Want: {want}\r\n"))
}

fn status(server: &Server, path: &str, want: &str) -> u16 {
    upgrade(server, path, want).1.status
}

fn post(server: &Server, topic: &str, want: &str) -> u16 {
    Peer::post(server.address(), topic, &format!("X-Want: {want}\r\n"))
}

fn metric(server: &Server, line: &str) -> bool {
    let metrics = server.ask_admin("/metrics").expect("an answer");
    metrics.lines().any(|other| other.starts_with(line))
}

#[test]
fn a_backend_says_who_may_do_what_on_every_shard() {
    for shards in SHARD_COUNTS {
        let backend = Backend::start();
        let server = Server::start(shards, &backend.flags());
        for _ in 0..2 * shards {
            let (mut member, response) = upgrade(&server, "/broadcast/wall", "fields");
            assert_eq!(response.status, 101);
            assert_eq!(post(&server, "wall", "json"), 202);
            member.expect(BINARY, b"x");
            let (mut talker, response) = upgrade(&server, "/broadcast/any", "everything");
            assert_eq!(response.status, 101);
            talker.send_frame(TEXT, b"hello");
            talker.expect(TEXT, b"hello");
        }
        for (path, want, expected) in [
            ("/echo", "everything", 101),
            ("/echo", "fields", 101),
            ("/broadcast/news.a", "fields", 101),
            ("/broadcast/other", "fields", 403),
            ("/broadcast/other", "json", 101),
            ("/broadcast/a", "forbid", 403),
            ("/broadcast/a", "basic", 401),
            ("/broadcast/a", "nothing", 401),
            ("/nowhere", "everything", 404),
        ] {
            assert_eq!(status(&server, path, want), expected, "{path} {want}");
        }
        assert_eq!(post(&server, "wall", "fields"), 403);
        let (_, denied) = upgrade(&server, "/echo", "basic");
        assert_eq!(denied.header("www-authenticate"), Some("Basic realm=\"backend\""));
        let (mut reader, _) = upgrade(&server, "/broadcast/wall", "fields");
        reader.send_frame(TEXT, b"hello");
        assert_eq!(reader.read_close().0, 1008, "only reading was granted");
        let before = backend.asked();
        assert_eq!(Peer::connect(server.address()).get("/healthz").status, 200);
        assert_eq!(status(&server, "/nowhere", "everything"), 404);
        assert_eq!(backend.asked(), before, "it is not asked about what anybody may");
        let stats = server.stats();
        assert_eq!((stats.refused("denied"), stats.refused("unidentified")), (1, 3));
        // One after the other by as few connections as shards ask at the same time.
        assert!(backend.connections.load(Ordering::Relaxed) <= 2, "connections are kept");
        server.stop();
    }
}

#[test]
fn the_backend_is_told_what_it_needs_and_its_user_is_shown() {
    let backend = Backend::start();
    let server = Server::start(2, &backend.flags());
    let mut peer = Peer::connect(server.address());
    let fields = "X-Want: fields\r\nCookie: session=1\r\nAuthorization: Token t\r\n\
        Origin: http://localhost\r\nX-Forwarded-For: 203.0.113.9\r\nX-Other: no\r\n";
    peer.send(&upgrade_request("/broadcast/wall?access_token=q", fields));
    assert_eq!(peer.read_response().status, 101);
    let (line, told) = backend.last();
    assert_eq!(line, "GET /check?x=1 HTTP/1.1");
    for (name, value) in [
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-uri", "/broadcast/wall?access_token=q"),
        ("x-forwarded-for", "127.0.0.1"),
        ("cookie", "session=1"),
        ("authorization", "Token t"),
        ("origin", "http://localhost"),
        ("x-want", "fields"),
    ] {
        assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!told.contains_key("x-other") && !told.contains_key("upgrade"));
    let connections = server.ask_admin("/connections").expect("told");
    assert!(connections.contains("\"user\":\"bob\""), "{connections}");
    server.stop();
}

#[test]
fn a_backend_that_says_nothing_lets_nobody_in() {
    let backend = Backend::start();
    let flags = [&backend.flags()[..], &["--auth-timeout", "300ms"]].concat();
    let server = Server::start(2, &flags);
    for want in ["error", "move", "nonsense", "hang-up", "hang"] {
        let (_, response) = upgrade(&server, "/echo", want);
        assert_eq!(response.status, 503, "{want}");
        let after: u8 = response.header("retry-after").and_then(|it| it.parse().ok()).expect(want);
        assert!((5..=30).contains(&after));
    }
    assert_eq!(server.stats().refused("unjudged"), 5);
    assert_eq!(status(&server, "/echo", "everything"), 101, "others are let in as before");
    for line in [
        "ringwire_auth_requests_total{reason=\"allowed\"} 1",
        "ringwire_auth_requests_total{reason=\"denied\"} 0",
        "ringwire_auth_requests_total{reason=\"failed\"} 4",
        "ringwire_auth_requests_total{reason=\"late\"} 1",
        "ringwire_auth_request_duration_seconds_count 6",
    ] {
        assert!(metric(&server, line), "{line}");
    }
    assert!(server.output().contains("nobody is let in"));
    server.stop();
    // Nobody is there at all.
    let nowhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", nowhere.local_addr().expect("bound"));
    drop(nowhere);
    let server = Server::start(1, &["--auth-url", &url]);
    assert_eq!(status(&server, "/echo", "everything"), 503);
    server.stop();
}

#[test]
fn a_crowd_is_asked_about_by_few_connections_while_others_are_served() {
    let backend = Backend::start();
    let flags = [&backend.flags()[..], &["--auth-connections", "3"]].concat();
    let server = Server::start(2, &flags);
    let mut bystander = upgrade(&server, "/echo", "everything").0;
    let request = upgrade_request("/echo", "X-Want: everything\r\n");
    let mut crowd: Vec<_> = (0..200).map(|_| Peer::connect(server.address())).collect();
    crowd.iter_mut().for_each(|peer| peer.send(&request));
    bystander.send_frame(TEXT, b"meanwhile");
    bystander.expect(TEXT, b"meanwhile");
    for peer in &mut crowd {
        assert_eq!(peer.read_response().status, 101);
    }
    assert_eq!(backend.asked(), 201);
    assert!(backend.connections.load(Ordering::Relaxed) <= 3);
    server.stop();
}

#[test]
fn connections_end_when_the_backend_has_said_so_and_when_their_user_is_revoked() {
    let backend = Backend::start();
    let server = Server::start(2, &backend.flags());
    let (mut short, _) = upgrade(&server, "/broadcast/a", "soon");
    let (mut lasting, _) = upgrade(&server, "/echo", "fields");
    assert_eq!(short.read_close(), (3000, "token expired".to_owned()));
    let mut admin = Peer::connect(server.admin());
    let body = r#"{"user":"bob"}"#;
    let head = "POST /revoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    admin.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    assert_eq!(admin.read_response().status, 202);
    assert_eq!(lasting.read_close(), (3000, "token revoked".to_owned()));
    assert_eq!(status(&server, "/echo", "fields"), 401);
    server.stop();
}

/// The backend may be asked by TLS, if its certificate is one that is believed.
#[test]
fn a_backend_by_https_has_to_show_a_certificate() {
    let authority = Authority::new("judgements");
    authority.issue("server", &["localhost"]);
    let backend = Backend::start_with(Some(tls(&authority)));
    let url = backend.url.replace("http://127.0.0.1", "https://localhost");
    let believed = authority.path("ca.pem");
    let flags = ["--auth-url", &url, "--auth-forward-header", "X-Want", "--auth-ca", &believed];
    let server = Server::start(1, &flags);
    assert_eq!(status(&server, "/echo", "fields"), 101);
    assert_eq!(status(&server, "/echo", "basic"), 401);
    server.stop();
    // The system does not know the authority of this test.
    let server = Server::start(1, &flags[..4]);
    assert_eq!(status(&server, "/echo", "fields"), 503);
    wait_until("the log says why", || server.output().contains("nobody is let in"));
    server.stop();
}

/// Whoever is asked may change while the server runs.
#[test]
fn another_backend_is_asked_after_a_reload() {
    let (first, second) = (Backend::start(), Backend::start());
    let file = socket_path("judgements").with_extension("toml");
    let settings = |url: &str| {
        let text = format!("auth-url = \"{url}\"\nauth-forward-header = [\"X-Want\"]\n");
        fs::write(&file, text).expect("the file can be written");
    };
    settings(&first.url);
    let server = Server::start(2, &["--config", file.to_str().expect("UTF-8")]);
    assert_eq!(status(&server, "/echo", "everything"), 101);
    settings(&second.url);
    server.signal("HUP");
    wait_until("the log tells", || server.output().contains("settings reloaded"));
    assert_eq!(status(&server, "/echo", "everything"), 101);
    assert_eq!((first.asked(), second.asked()), (1, 1));
    let _ = fs::remove_file(&file);
    server.stop();
}
