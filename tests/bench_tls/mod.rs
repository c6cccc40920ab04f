//! The way to a server: TLS, further fields of requests, proxies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use super::authority::Authority;
use super::bench_peers::{Fault, Server, broken};
use super::{SHORT, bench, count, measure, passes};

#[test]
fn every_workload_runs_over_tls() {
    let authority = Authority::new("bench-workloads");
    let server = Server::secured(&authority, &["--shards", "2", "--compression", "shared"]);
    let ca = format!("--ca {}", authority.path("ca.pem"));
    for (path, line) in [
        ("echo", "echo --connections 4 --size 20:70,1KiB:30,100KiB:1 --in-flight 8 --burst 4"),
        ("echo", "echo --connections 2 --size 1MiB --text --threads 2"),
        ("echo", "echo --connections 2 --tls-version 1.2 --compression --content json"),
        ("echo", "rate --connections 4 --rate 200"),
        ("broadcast/{topic}", "broadcast --publishers 2 --topics 2 --subscribers 6 --burst 8"),
        ("broadcast/a", "slow --subscribers 4 --size 1KiB"),
        ("echo", "idle --connections 5"),
        ("echo", "connect --connections 4"),
        ("echo", "storm --connections 10 --rounds 2"),
    ] {
        let json = passes(&format!("{}/{path}", server.url), &format!("{line} {ca} {SHORT}"));
        let tls = &json["tls"];
        let handshakes = count(&json, "/counters/handshakes");
        assert!(handshakes > 0, "{line}: {json:#}");
        assert_eq!(count(tls, "/full_handshakes"), handshakes, "{line}: {json:#}");
        assert_eq!(count(tls, "/resumptions"), 0, "{line}");
        for part in ["connect_ns", "handshake_ns", "upgrade_ns"] {
            assert_eq!(count(tls, &format!("/{part}/count")), handshakes, "{line}: {part}");
            assert!(count(tls, &format!("/{part}/min")) > 0, "{line}: {part}");
        }
        let suite = match line.contains("1.2") {
            true => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            false => "TLS13_AES_128_GCM_SHA256",
        };
        assert_eq!(count(tls, &format!("/suites/{suite}")), handshakes, "{line}: {json:#}");
    }
    let plain = Server::ringwire(&[]);
    assert_eq!(passes(&plain.url, SHORT)["tls"], Value::Null);
}

#[test]
fn all_go_on_with_their_sessions_where_that_is_asked_for() {
    let authority = Authority::new("bench-resume");
    let server = Server::secured(&authority, &[]);
    for version in ["1.3", "1.2"] {
        let line = format!("storm --connections 20 --resume --insecure --tls-version {version}");
        let json = passes(&server.url, &format!("{line} {SHORT}"));
        // Each has a ticket by the time at which all drop.
        assert_eq!(count(&json, "/tls/resumptions"), 20, "{json:#}");
        assert_eq!(count(&json, "/tls/full_handshakes"), 20, "{json:#}");
    }
}

#[test]
fn a_server_that_is_not_to_be_trusted_fails_the_run() {
    let authority = Authority::new("bench-trust");
    let stranger = Authority::new("bench-stranger");
    let server = Server::secured(&authority, &[]);
    let (own, foreign) = (authority.path("ca.pem"), stranger.path("ca.pem"));
    for (line, part) in [
        (format!("--ca {foreign}"), "invalid peer certificate"),
        (format!("--ca {own} --server-name other.example.org"), "not valid for name"),
    ] {
        let (code, json) = measure(&server.url, &format!("--connections 3 {line} {SHORT}"));
        let failure = &json["failures"]["kinds"][0];
        assert_eq!((code, &failure["phase"]), (Some(1), &"tls".into()), "{json:#}");
        assert_eq!(failure["count"], 3);
        assert!(failure["error"].as_str().expect("text").contains(part), "{failure}");
    }
    for line in ["--server-name localhost", "--server-name 127.0.0.1"] {
        passes(&server.url, &format!("--connections 1 --ca {own} {line} {SHORT}"));
    }
    let said = bench(&server.url, "--connections 1");
    assert_eq!(said.status.code(), Some(2), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("--insecure"), "{said:?}");
}

#[test]
fn what_is_no_tls_fails_in_its_phase() {
    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let (address, _) = answering(answer);
        let line = format!("--connections 2 --insecure {SHORT}");
        let (code, json) = measure(&format!("wss://{address}/"), &line);
        let failure = &json["failures"]["kinds"][0];
        assert_eq!((code, &failure["phase"]), (Some(1), &"tls".into()), "{json:#}");
    }
}

#[test]
fn requests_say_what_they_are_told_to() {
    let (address, asked) = answering("HTTP/1.1 401 Unauthorized\r\n\r\n");
    let url = format!("ws://{address}/");
    let line = "--connections 1 --header X-Trial:1 --header Cookie:a=b --token abc.d \
                --subprotocol one --subprotocol two --duration 100ms";
    let (code, json) = measure(&url, line);
    assert_eq!(code, Some(1));
    let error = json["failures"]["kinds"][0]["error"].as_str().expect("text");
    assert!(error.contains("status 401"), "{error}");
    let request = asked.recv().expect("a request");
    for field in [
        "X-Trial: 1",
        "Cookie: a=b",
        "Authorization: Bearer abc.d",
        "Sec-WebSocket-Protocol: one, two",
    ] {
        assert!(request.contains(&format!("\r\n{field}\r\n")), "{field}: {request}");
    }
    let server = Server::ringwire(&["--subprotocol", "chat", "--subprotocol-required", "true"]);
    passes(&server.url, &format!("--connections 2 --subprotocol chat {SHORT}"));
    let (code, _) = measure(&server.url, &format!("--connections 2 {SHORT}"));
    assert_eq!(code, Some(1));
}

#[test]
fn a_proxy_leads_to_servers_with_and_without_tls() {
    let authority = Authority::new("bench-proxy");
    let secured = Server::secured(&authority, &[]);
    let plain = broken(Fault::None);
    let proxy = proxy();
    for url in [&secured.url, &plain] {
        let insecure = if url.starts_with("wss") { "--insecure" } else { "" };
        let line = format!("--proxy http://me:secret@{proxy} {insecure} {SHORT}");
        let json = passes(url, &format!("echo --connections 3 --size 1KiB {line}"));
        assert!(count(&json, "/throughput/count") > 0, "{json:#}");
        assert!(!json.to_string().contains("secret"), "results are passed on: {json:#}");
    }
    for (credentials, url, part) in [
        ("me:wrong@", &*plain, "status 407"),
        ("", &*plain, "status 407"),
        ("me:secret@", "ws://127.0.0.1:9/", "status 502"),
    ] {
        let line = format!("--connections 1 --proxy http://{credentials}{proxy} {SHORT}");
        let (code, json) = measure(url, &line);
        let failure = &json["failures"]["kinds"][0];
        assert_eq!((code, &failure["phase"]), (Some(1), &"proxy".into()), "{json:#}");
        assert!(failure["error"].as_str().expect("text").contains(part), "{failure}");
    }
}

/// A server that gives everybody the same answer and ends, and tells what each has said first.
fn answering(answer: &'static str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut said = [0; 4096];
            let length = stream.read(&mut said).unwrap_or(0);
            let _ = tell.send(String::from_utf8_lossy(&said[..length]).into_owned());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, told)
}

/// A proxy for the user `me` with the password `secret`.
fn proxy() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            thread::spawn(move || tunnel(stream));
        }
    });
    address
}

fn tunnel(mut client: TcpStream) {
    // The client says nothing more before it has an answer.
    let mut lines = BufReader::new(client.try_clone().expect("a copy")).lines();
    let head: Vec<String> =
        lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let asked = head.first().and_then(|line| line.strip_prefix("CONNECT ")?.split(' ').next());
    let is_known = head.iter().any(|line| line == "Proxy-Authorization: Basic bWU6c2VjcmV0");
    let server = asked.filter(|_| is_known).map(TcpStream::connect);
    let answer = match &server {
        None => "407 Proxy Authentication Required",
        Some(Err(_)) => "502 Bad Gateway",
        Some(Ok(_)) => "200 Connection established",
    };
    let _ = write!(client, "HTTP/1.1 {answer}\r\n\r\n");
    let Some(Ok(mut server)) = server else { return };
    let (mut upward, mut downward) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut upward, &mut server);
        let _ = server.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut downward, &mut client);
    let _ = client.shutdown(Shutdown::Write);
}
