//! Who may connect, how many and how fast, and whose word on that is taken.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::SHARD_COUNTS;
use crate::foreign_clients::{program, tools};
use crate::peer::{CLOSE, Peer, TEXT, close_payload, upgrade_request};
use crate::server::{Server, socket_path, wait_until};

const PROXY: &str = "127.0.0.2";
const CLIENT: &str = "127.0.0.3";
const OTHER: &str = "127.0.0.4";

/// Connects from an address of this machine.
fn connect_from(source: &str, server: SocketAddr) -> Peer {
    let source: IpAddr = source.parse().expect("an address");
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(source, 0).into()).expect("all of 127.0.0.0/8 is here");
    socket.connect(&server.into()).expect("the server accepts");
    Peer::with_stream(socket.into())
}

/// The status that an upgrade of a fresh connection gets, with these fields; `None` is none.
fn upgrade_from(source: &str, server: &Server, fields: &str) -> (Option<u16>, Peer) {
    let mut peer = connect_from(source, server.address());
    peer.send_unheard(&upgrade_request("/echo", fields));
    let status = match peer.is_turned_away() {
        true => None,
        false => Some(peer.read_response().status),
    };
    (status, peer)
}

fn forwarded_for(list: &str) -> String {
    format!("X-Forwarded-For: {list}\r\n")
}

#[test]
fn an_address_has_exactly_as_many_connections_as_it_may() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--max-connections-per-address", "10"]);
        let address = server.address();
        let open = |_| {
            thread::spawn(move || {
                let mut peer = connect_from(CLIENT, address);
                peer.send_unheard(&upgrade_request("/echo", ""));
                (!peer.is_turned_away()).then_some(peer)
            })
        };
        let threads: Vec<_> = (0..40).map(open).collect();
        let mut peers: Vec<_> =
            threads.into_iter().filter_map(|it| it.join().expect("no panic")).collect();
        assert_eq!(peers.len(), 10, "{shards} shards");
        assert_eq!(server.stats().refused("address_connections"), 30);
        assert!(upgrade_from(OTHER, &server, "").0.is_some());
        // Whoever goes makes room for one.
        peers.pop();
        wait_until("it is gone", || server.stats().connections_open() == 9);
        let (status, _peer) = upgrade_from(CLIENT, &server, "");
        assert_eq!(status, Some(101));
        assert_eq!(upgrade_from(CLIENT, &server, "").0, None);
        server.stop();
    }
}

#[test]
fn connections_come_at_no_higher_rate_than_they_may() {
    let flags = ["--connection-rate", "1000", "--connection-rate-per-address", "1"];
    let server = Server::start(2, &flags);
    assert_eq!(upgrade_from(CLIENT, &server, "").0, Some(101));
    wait_until("it comes too fast", || upgrade_from(CLIENT, &server, "").0.is_none());
    assert!(server.stats().refused("address_rate") > 0);
    assert_eq!(upgrade_from(OTHER, &server, "").0, Some(101));
    wait_until("a second has passed", || {
        thread::sleep(Duration::from_millis(200));
        upgrade_from(CLIENT, &server, "").0 == Some(101)
    });
    server.stop();
}

#[test]
fn networks_are_allowed_and_denied() {
    let flags =
        ["--allow-network", "127.0.0.0/29", "--deny-network", CLIENT, "--trusted-proxy", PROXY];
    let server = Server::start(2, &flags);
    for (source, expected) in
        [(OTHER, Some(101)), (CLIENT, None), ("127.0.0.8", None), (PROXY, Some(101))]
    {
        assert_eq!(upgrade_from(source, &server, "").0, expected, "{source}");
    }
    for (client, expected) in [(OTHER, 101), (CLIENT, 403), ("127.0.0.8", 403)] {
        let (status, _) = upgrade_from(PROXY, &server, &forwarded_for(client));
        assert_eq!(status, Some(expected), "{client}");
        // Only a proxy is believed.
        assert_eq!(upgrade_from(OTHER, &server, &forwarded_for(client)).0, Some(101));
    }
    assert_eq!(server.stats().refused("network_denied"), 4);
    let mut peer = connect_from(PROXY, server.address());
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", forwarded_for(CLIENT));
    peer.send(request.as_bytes());
    assert_eq!(peer.read_response().status, 403);
    assert_eq!(peer.get("/healthz").status, 200, "the proxy asks for itself again");
    server.stop();
}

#[test]
fn whoever_runs_the_server_sees_whose_connections_they_are() {
    let server = Server::start(2, &["--peer-addresses", "true", "--trusted-proxy", PROXY]);
    let ask = |path: &str| {
        let body = Peer::connect(server.admin()).get(path).body;
        serde_json::from_slice::<Value>(&body).expect("JSON")
    };
    let (status, peer) = upgrade_from(OTHER, &server, "");
    assert_eq!(status, Some(101));
    let (status, mut forwarded) = upgrade_from(PROXY, &server, &forwarded_for(CLIENT));
    assert_eq!(status, Some(101));
    let page = ask("/connections");
    let connections = page["connections"].as_array().expect("an array").iter();
    let addresses: HashSet<_> = connections.map(|it| it["address"].as_str()).collect();
    assert_eq!(addresses, HashSet::from([Some(OTHER), Some(CLIENT)]));
    forwarded.send_close(4321);
    forwarded.read_close();
    drop(peer);
    wait_until("both have gone", || server.stats().websockets_open() == 0);
    for (address, code) in [(OTHER, 1006), (CLIENT, 4321)] {
        let closed = &ask(&format!("/closed?address={address}"))["closed"];
        assert_eq!(closed.as_array().map(Vec::len), Some(1), "{closed}");
        assert_eq!((&closed[0]["address"], &closed[0]["code"]), (&json!(address), &json!(code)));
    }
    server.stop();
}

#[test]
fn the_client_behind_trusted_proxies_is_limited() {
    for (header, fields) in [
        (
            "x-forwarded-for",
            "X-Forwarded-For: 127.0.0.9, 127.0.0.3:81\r\nX-Forwarded-For: 10.0.0.1\r\n",
        ),
        (
            "forwarded",
            "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=\", for=127.0.0.3;proto=http, for=10.0.0.1\r\n",
        ),
    ] {
        let flags = [
            "--trusted-proxy",
            &format!("{PROXY},10.0.0.0/8"),
            "--forwarded-header",
            header,
            "--max-connections-per-address",
            "2",
        ];
        let server = Server::start(2, &flags);
        let mut peers = Vec::new();
        for _ in 0..2 {
            let (status, peer) = upgrade_from(PROXY, &server, fields);
            assert_eq!(status, Some(101));
            peers.push(peer);
        }
        let mut peer = connect_from(PROXY, server.address());
        peer.send(&upgrade_request("/echo", fields));
        let refused = peer.read_response();
        assert_eq!(refused.status, 429);
        let retry_after = refused.header("retry-after").expect("it may come back");
        assert!((5..=30).contains(&retry_after.parse::<u32>().expect("seconds")));
        // The connection is the proxy's, and others may use it.
        peer.send(&upgrade_request("/echo", ""));
        assert_eq!(peer.read_response().status, 101);
        // Its own connections count for the same address.
        assert_eq!(upgrade_from(CLIENT, &server, "").0, None);
        assert_eq!(server.stats().refused("address_connections"), 2);
        drop(peers);
        wait_until("there is room", || upgrade_from(PROXY, &server, fields).0 == Some(101));
        server.stop();
    }
}

#[test]
fn proxy_headers_of_both_versions_are_taken_where_they_are_expected() {
    let v1 = format!("PROXY TCP4 {CLIENT} {PROXY} 4711 80\r\n").into_bytes();
    let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f".to_vec();
    v2.extend([127, 0, 0, 3, 127, 0, 0, 2, 0, 1, 0, 2, 0x20, 0, 0]);
    for header in [v1, v2] {
        let flags = ["--trusted-proxy", PROXY, "--max-connections-per-address", "1"];
        let server = Server::start_on(&["127.0.0.1:0,proxy"], 2, &flags);
        let mut peer = connect_from(PROXY, server.address());
        for byte in [&header[..], &upgrade_request("/echo", "")].concat() {
            peer.send(&[byte]);
        }
        assert_eq!(peer.read_response().status, 101);
        peer.send_frame(TEXT, b"hello");
        peer.expect(TEXT, b"hello");
        let mut second = connect_from(PROXY, server.address());
        second.send_unheard(&[&header[..], &upgrade_request("/echo", "")].concat());
        assert!(second.is_turned_away());
        // The proxy's own connections are exempt.
        for _ in 0..3 {
            let mut own = connect_from(PROXY, server.address());
            own.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(own.read_response().status, 200);
        }
        // No header, from whom it is expected; and a header from somebody else.
        let mut bare = connect_from(PROXY, server.address());
        bare.send_unheard(&upgrade_request("/echo", ""));
        assert!(bare.is_turned_away());
        let mut other = connect_from(OTHER, server.address());
        other.send_unheard(&[&header[..], &upgrade_request("/echo", "")].concat());
        assert!(other.is_turned_away());
        let stats = server.stats();
        let reasons = ["address_connections", "proxy_header", "untrusted_proxy"];
        assert_eq!(reasons.map(|reason| stats.refused(reason)), [1, 1, 1]);
        server.stop();
    }
}

#[test]
fn a_proxy_header_has_the_time_of_a_handshake() {
    let flags = ["--trusted-proxy", PROXY, "--handshake-timeout", "200ms"];
    let server = Server::start_on(&["127.0.0.1:0,proxy"], 1, &flags);
    let mut peer = connect_from(PROXY, server.address());
    peer.send(b"PROXY ");
    peer.expect_end_or_reset();
    assert_eq!(server.stats().refused("proxy_header"), 1);
    server.stop();
}

#[test]
fn a_proxy_on_this_machine_is_trusted_by_its_socket() {
    let path = socket_path("trusted-proxy");
    let listener = format!("unix:{}", path.display());
    let flags = ["--trusted-proxy", "unix", "--max-connections-per-address", "1"];
    let server = Server::start_on(&["127.0.0.1:0", &listener], 2, &flags);
    let mut statuses = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = Peer::connect_unix(&path).expect("the server accepts");
        peer.send(&upgrade_request("/echo", &forwarded_for("2001:db8::1, 192.0.2.1")));
        statuses.push(peer.read_response().status);
        peers.push(peer);
    }
    assert_eq!(statuses, [101, 429, 429]);
    server.stop();
}

/// By a Unix socket comes this process, which has one user.
#[test]
fn a_proxy_on_this_machine_is_trusted_by_its_user() {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let (mine, anothers) = (format!("unix:uid={user}"), format!("unix:uid={}", user + 1));
    let my_group = format!("unix:gid={group}");
    for (trusted, expected) in [
        (&mine, [101, 429, 429]),
        (&my_group, [101, 429, 429]),
        // Its header counts for nothing, and by a socket there is no address to count.
        (&anothers, [101, 101, 101]),
    ] {
        let path = socket_path("trusted-user");
        let listener = format!("unix:{}", path.display());
        let flags = ["--trusted-proxy", trusted, "--max-connections-per-address", "1"];
        let server = Server::start_on(&["127.0.0.1:0", &listener], 2, &flags);
        let mut peers = Vec::new();
        let statuses = [(); 3].map(|()| {
            let mut peer = Peer::connect_unix(&path).expect("the server accepts");
            peer.send(&upgrade_request("/echo", &forwarded_for(CLIENT)));
            let status = peer.read_response().status;
            peers.push(peer);
            status
        });
        assert_eq!(statuses, expected, "{trusted}");
        server.stop();
    }
}

#[test]
fn diagnostics_tell_the_user_of_a_unix_socket() {
    let path = socket_path("told-user");
    let listener = format!("unix:{}", path.display());
    let server = Server::start_on(&["127.0.0.1:0", &listener], 1, &["--peer-addresses", "true"]);
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let told = format!("unix:uid={user},gid={group}");
    let ask = |path: &str| {
        let body = Peer::connect(server.admin()).get(path).body;
        serde_json::from_slice::<Value>(&body).expect("JSON")
    };
    let peer = Peer::connect_unix(&path).expect("it listens").upgraded("/echo");
    assert_eq!(ask("/connections")["connections"][0]["address"], json!(told));
    let another = Peer::upgrade(server.address(), "/echo");
    drop((peer, another));
    wait_until("both have gone", || server.stats().websockets_open() == 0);
    let closed = &ask(&format!("/closed?address={told}"))["closed"];
    assert_eq!(closed.as_array().map(Vec::len), Some(1), "{closed}");
    server.stop();
}

#[test]
fn whoever_is_refused_may_be_told_by_a_close() {
    for (flags, sentence) in [
        (&["--max-connections", "1"][..], "The server is full; come back in "),
        (
            &["--trusted-proxy", PROXY, "--max-connections-per-address", "1"],
            "Your address has as many connections as it may; come back in ",
        ),
    ] {
        let flags = [flags, &["--refuse-with", "close"]].concat();
        let server = Server::start(1, &flags);
        let fields = forwarded_for(CLIENT);
        let (status, _first) = upgrade_from(PROXY, &server, &fields);
        assert_eq!(status, Some(101));
        let (status, mut refused) = upgrade_from(PROXY, &server, &fields);
        assert_eq!(status, Some(101));
        let frame = refused.read_frame();
        assert_eq!(frame.opcode, CLOSE);
        let (code, reason) = close_payload(&frame.payload);
        let seconds = reason.strip_prefix(sentence).and_then(|rest| rest.strip_suffix(" s"));
        let seconds: u32 = seconds.expect(&reason).parse().expect("a number");
        assert!(code == 1013 && (5..=30).contains(&seconds), "{code} {reason}");
        refused.send_close(1013);
        refused.expect_end();
        let stats = server.stats();
        assert_eq!((stats.websockets_open(), stats.upgrades()), (1, 1));
        assert_eq!(stats.connections_refused(), 1);
        server.stop();
    }
}

#[test]
fn python_websockets_sees_why_it_is_refused() {
    let Some(tools) = tools() else { return };
    let server = Server::start(2, &["--max-connections", "1", "--refuse-with", "close"]);
    let _first = Peer::upgrade(server.address(), "/echo");
    let output = Command::new(tools.join("python/bin/python"))
        .arg(program("python_refused.py"))
        .arg(server.url("/echo"))
        .output()
        .expect("the interpreter that scripts/test has installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.stop();
}

/// HAProxy, which wrote the specification, tells the server who has connected to it.
#[test]
fn haproxy_tells_who_connects() {
    if tools().is_none() || Command::new("haproxy").arg("-v").output().is_err() {
        return;
    }
    for way in ["send-proxy", "send-proxy-v2"] {
        let flags = ["--trusted-proxy", "127.0.0.1", "--max-connections-per-address", "1"];
        let server = Server::start_on(&["127.0.0.1:0,proxy"], 2, &flags);
        let path = socket_path(way);
        let (front, config) = (path.with_extension("sock"), path.with_extension("cfg"));
        let text = format!(
            "defaults\n mode tcp\n retries 0\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n\
             listen ws\n bind unix@{} accept-proxy\n server ringwire {} {way}\n",
            front.display(),
            server.address(),
        );
        fs::write(&config, text).expect("the directory for test files");
        let _proxy = Proxy::start(&config);
        // Who connects by a Unix socket says by a header of its own whose connection it passes on.
        let connect = || {
            let mut peer = None;
            wait_until("HAProxy listens", || {
                peer = Peer::connect_unix(&front).ok();
                peer.is_some()
            });
            let mut peer = peer.expect("connected");
            peer.send(format!("PROXY TCP4 {CLIENT} {PROXY} 1 2\r\n").as_bytes());
            peer.send_unheard(&upgrade_request("/echo", ""));
            peer
        };
        let mut first = connect();
        assert_eq!(first.read_response().status, 101, "{way}");
        connect().expect_end_or_reset();
        assert_eq!(server.stats().refused("address_connections"), 1, "{way}");
        fs::remove_file(&config).expect("written above");
        server.stop();
    }
}

/// A HAProxy that must not outlive its test.
struct Proxy(Child);

impl Proxy {
    fn start(config: &Path) -> Self {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config).stdin(Stdio::null());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("HAProxy starts"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
