//! TLS: what is said within is what is said without, and what is wrong with it ends one connection.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use crate::authority::Authority;
use crate::moves::{many_have_moved, uneven_peers};
use crate::peer::{BINARY, CONTINUATION, FIN, PING, PONG, Peer, TEXT, frame, upgrade_request};
use crate::server::{Server, wait_until};
use crate::{HANG, SHARD_COUNTS};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

pub type TlsPeer = Peer<StreamOwned<ClientConnection, TcpStream>>;

impl Authority {
    /// A server with a listener for TLS, and one without behind it.
    pub fn serve(&self, shards: usize, flags: &[&str]) -> Server {
        self.issue("server", &["localhost", "127.0.0.1"]);
        let own = self.flags("server");
        let all: Vec<_> = own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
        Server::start_on(&["127.0.0.1:0,tls", "127.0.0.1:0"], shards, &all)
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    pub fn roots(&self) -> RootCertStore {
        let certificate = CertificateDer::from_pem_file(self.path("ca.pem")).expect("a file");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("an authority");
        roots
    }

    /// Connects, and upgrades on a path that starts with a slash.
    pub fn upgrade(&self, server: &Server, path: &str) -> TlsPeer {
        self.connect(server.address(), &VERSIONS).upgraded(path)
    }

    fn connect(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsPeer {
        connect(address, Arc::new(self.client(versions)), "localhost")
    }
}

pub fn connect(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> TlsPeer {
    let stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(HANG)).expect("SO_RCVTIMEO");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let name = ServerName::try_from(name.to_owned()).expect("a name of a host");
    let session = ClientConnection::new(config, name).expect("a session");
    Peer::over(StreamOwned::new(session, stream))
}

/// What a whole exchange of bytes with the server ends in.
fn outcome(peer: &mut TlsPeer) -> io::Result<usize> {
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    peer.stream().write_all(request)?;
    peer.stream().read(&mut [0; 1024])
}

#[test]
fn messages_of_all_sizes_come_back_in_both_versions() {
    let authority = Authority::new("tls-echo");
    for (shards, version) in SHARD_COUNTS.into_iter().flat_map(|n| VERSIONS.map(|v| (n, v))) {
        let server = authority.serve(shards, &["--max-message", "4MiB"]);
        let mut peer = authority.connect(server.address(), &[version]).upgraded("/echo");
        for size in [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_536, 300_000, 3 << 20] {
            let payload: Vec<u8> = (0..size).map(|place: usize| (place * 7 + size) as u8).collect();
            echo_while_writing(&mut peer, &payload);
        }
        let burst: Vec<u8> =
            (0..500).flat_map(|n: u32| frame(FIN | TEXT, n.to_string().as_bytes())).collect();
        peer.send(&burst);
        (0..500).for_each(|n: u32| peer.expect(TEXT, n.to_string().as_bytes()));
        peer.send_close(1000);
        assert_eq!(peer.read_close().0, 1000);
        // Reads as the end only if that was said within TLS.
        peer.expect_end();
        server.stop();
    }
}

/// Sends a message that may be larger than what the sockets hold, as a fragment after the other,
/// and reads each as it comes back.
fn echo_while_writing(peer: &mut TlsPeer, payload: &[u8]) {
    let parts: Vec<_> = payload.chunks(64 << 10).collect();
    let Some((last, before)) = parts.split_last() else {
        peer.send_frame(BINARY, b"");
        return peer.expect(BINARY, b"");
    };
    let mut returned = Vec::new();
    for (number, part) in before.iter().enumerate() {
        peer.send(&frame(if number == 0 { BINARY } else { CONTINUATION }, part));
        while returned.len() < (number + 1) * (64 << 10) {
            returned.extend(peer.read_frame().payload);
        }
    }
    peer.send(&frame(FIN | if before.is_empty() { BINARY } else { CONTINUATION }, last));
    while returned.len() < payload.len() {
        returned.extend(peer.read_frame().payload);
    }
    assert!(returned == payload, "{} bytes", payload.len());
}

#[test]
fn a_topic_has_members_with_and_without_tls() {
    let authority = Authority::new("tls-topic");
    for shards in SHARD_COUNTS {
        let server = authority.serve(shards, &[]);
        let mut secured: Vec<_> =
            (0..7).map(|_| authority.upgrade(&server, "/broadcast/a")).collect();
        let plain_address = server.addresses()[1];
        let mut plain: Vec<_> =
            (0..7).map(|_| Peer::upgrade(plain_address, "/broadcast/a")).collect();
        for number in 0..200_u32 {
            let text = format!("{number} {}", "x".repeat(number as usize * 10));
            match number % 2 {
                0 => secured[3].send_frame(TEXT, text.as_bytes()),
                _ => plain[3].send_frame(TEXT, text.as_bytes()),
            }
            secured.iter_mut().for_each(|peer| peer.expect(TEXT, text.as_bytes()));
            plain.iter_mut().for_each(|peer| peer.expect(TEXT, text.as_bytes()));
        }
        server.stop();
    }
}

/// Records may be cut anywhere by the network, and messages anywhere by records.
#[test]
fn whatever_cuts_there_are_the_stream_is_the_same() {
    let authority = Authority::new("tls-cuts");
    let server = authority.serve(1, &[]);
    for version in VERSIONS {
        let mut peer = authority.connect(server.address(), &[version]).upgraded("/echo");
        let text = "cut anywhere".repeat(20);
        let bytes = frame(FIN | TEXT, text.as_bytes());
        for record_bytes in [1, 2, 7, 100] {
            // Records of this size, gathered and then sent in pieces of another.
            let stream = peer.stream();
            let mut sealed = Vec::new();
            for part in bytes.chunks(record_bytes) {
                stream.conn.writer().write_all(part).expect("within its buffer");
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut sealed).expect("a vector");
                }
            }
            for piece in sealed.chunks(record_bytes + 13) {
                stream.sock.write_all(piece).expect("the server reads");
            }
            peer.expect(TEXT, text.as_bytes());
        }
    }
    server.stop();
}

#[test]
fn whoever_speaks_no_tls_is_told_and_counted() {
    let authority = Authority::new("tls-garbage");
    let server = authority.serve(1, &[]);
    let inputs: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        &[0x16, 3, 1, 0xff, 0xff, 0],
        &[0; 64],
        &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0],
    ];
    for input in inputs {
        let mut stream = TcpStream::connect(server.address()).expect("the server accepts");
        stream.set_read_timeout(Some(HANG)).expect("SO_RCVTIMEO");
        stream.write_all(input).expect("the server reads");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer.first(), Some(&ALERT), "{input:?}: {answer:?}");
    }
    let stats = server.stats();
    assert_eq!(stats.of("tls_protocol_broken"), inputs.len() as u64);
    // Version 1.2 alone, where 1.3 is the least.
    server.stop();
    let server = authority.serve(1, &["--tls-min", "1.3"]);
    assert!(outcome(&mut authority.connect(server.address(), &[&TLS12])).is_err());
    assert!(outcome(&mut authority.connect(server.address(), &[&TLS13])).is_ok());
    assert_eq!(server.stats().of("tls_incompatible"), 1);
    server.stop();
}

/// The type of a record that says what is wrong.
const ALERT: u8 = 21;

#[test]
fn a_record_that_was_changed_on_the_way_ends_its_connection_alone() {
    let authority = Authority::new("tls-changed");
    let server = authority.serve(1, &[]);
    let mut bystander = authority.upgrade(&server, "/echo");
    for version in VERSIONS {
        let mut peer = authority.connect(server.address(), &[version]).upgraded("/echo");
        let stream = peer.stream();
        stream.conn.writer().write_all(&frame(FIN | TEXT, b"changed")).expect("its buffer");
        let mut sealed = Vec::new();
        stream.conn.write_tls(&mut sealed).expect("a vector");
        *sealed.last_mut().expect("a record") ^= 1;
        stream.sock.write_all(&sealed).expect("the server reads");
        assert!(stream.read(&mut [0; 64]).is_err(), "an alert");
        bystander.send_frame(TEXT, b"as before");
        bystander.expect(TEXT, b"as before");
    }
    wait_until("both are counted", || server.stats().closes("remote", 1006) == 2);
    assert_eq!(server.stats().of("tls_decryption_failed"), 2);
    server.stop();
}

#[test]
fn an_end_is_said_within_tls_and_one_that_is_not_is_an_end_as_well() {
    let authority = Authority::new("tls-end");
    let server = authority.serve(1, &[]);
    for version in VERSIONS {
        let mut polite = authority.connect(server.address(), &[version]).upgraded("/echo");
        polite.stream().conn.send_close_notify();
        polite.stream().flush().expect("the server reads");
        polite.expect_end();
        let mut rude = authority.connect(server.address(), &[version]).upgraded("/echo");
        rude.stream().sock.shutdown(Shutdown::Write).expect("still connected");
        rude.expect_end();
        // Before a handshake there is nothing to say.
        let silent = TcpStream::connect(server.address()).expect("the server accepts");
        silent.shutdown(Shutdown::Write).expect("still connected");
        assert_eq!((&silent).read(&mut [0; 1]).expect("an end"), 0);
    }
    wait_until("all are gone", || server.stats().websockets_open() == 0);
    server.stop();
}

#[test]
fn pings_are_answered_and_close_codes_told() {
    let authority = Authority::new("tls-codes");
    let server = authority.serve(2, &["--max-message", "1KiB"]);
    let mut peer = authority.upgrade(&server, "/echo");
    peer.send_frame(PING, b"there?");
    peer.expect(PONG, b"there?");
    peer.send_frame(TEXT, &[b'x'; 2000]);
    assert_eq!(peer.read_close().0, 1009);
    let mut peer = authority.upgrade(&server, "/echo");
    server.signal("TERM");
    assert_eq!(peer.read_close().0, 1001);
}

#[test]
fn clients_get_the_certificate_for_the_name_that_they_ask_for() {
    let authority = Authority::new("tls-names");
    authority.issue("first", &["localhost"]);
    authority.issue("other", &["other.example.org", "*.wild.example.org"]);
    let flags = [authority.flags("first"), authority.flags("other")].concat();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let server = Server::start_on(&["127.0.0.1:0,tls"], 1, &flags);
    let config = Arc::new(authority.client(&VERSIONS));
    for (name, is_covered) in [
        ("localhost", true),
        ("other.example.org", true),
        ("OTHER.example.org", true),
        ("a.wild.example.org", true),
        ("a.b.wild.example.org", false),
        ("wild.example.org", false),
    ] {
        let result = outcome(&mut connect(server.address(), config.clone(), name));
        assert_eq!(result.is_ok(), is_covered, "{name}: {result:?}");
    }
    server.stop();
}

#[test]
fn a_session_goes_on_with_another_server_that_has_the_keys() {
    let authority = Authority::new("tls-tickets");
    let (keys, other) = (authority.path("tickets"), authority.path("others"));
    fs::write(&keys, format!("{}\n", "ab".repeat(32))).expect("a file");
    fs::write(&other, format!("{}\n{}\n", "cd".repeat(32), "ab".repeat(32))).expect("a file");
    let first = authority.serve(1, &["--tls-ticket-keys", &keys]);
    let second = authority.serve(1, &["--tls-ticket-keys", &other]);
    let stranger = authority.serve(1, &[]);
    for version in VERSIONS {
        let config = Arc::new(authority.client(&[version]));
        let kind = |server: &Server| {
            let mut peer = connect(server.address(), config.clone(), "localhost");
            outcome(&mut peer).expect("served");
            peer.stream().conn.handshake_kind()
        };
        let full = [Some(HandshakeKind::Full), Some(HandshakeKind::FullWithHelloRetryRequest)];
        assert!(full.contains(&kind(&first)));
        assert_eq!(kind(&second), Some(HandshakeKind::Resumed));
        assert!(full.contains(&kind(&stranger)));
    }
    let resumed = second.stats();
    assert_eq!((resumed.of("tls_1_3_resumptions"), resumed.of("tls_1_2_resumptions")), (1, 1));
    for server in [first, second, stranger] {
        server.stop();
    }
}

#[test]
fn whoever_comes_by_http_is_sent_to_https() {
    let authority = Authority::new("tls-redirect");
    let takeover = authority.path("takeover.sock");
    let redirecting = ["--redirect-http", "127.0.0.1:0", "--takeover", &takeover];
    for shards in SHARD_COUNTS {
        let mut server = authority.serve(shards, &redirecting);
        let (secure, plain) = (server.address(), server.redirecting());
        let ask = |request: &str| {
            let mut stream = TcpStream::connect(plain).expect("the server accepts");
            stream.set_read_timeout(Some(HANG)).expect("SO_RCVTIMEO");
            stream.write_all(request.as_bytes()).expect("taken");
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        };
        let field = "Connection: close\r\n\r\n";
        let sent = ask(&format!("GET /chat?a=b HTTP/1.1\r\nHost: localhost:80\r\n{field}"));
        assert!(sent.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{sent}");
        let location = format!("\r\nLocation: https://localhost:{}/chat?a=b\r\n", secure.port());
        assert!(sent.contains(&location), "{location}: {sent}");
        let mut kept = TcpStream::connect(plain).expect("the server accepts");
        kept.set_read_timeout(Some(HANG)).expect("SO_RCVTIMEO");
        // One connection may ask several times, for a WebSocket too.
        for _ in 0..2 {
            kept.write_all(&upgrade_request("/echo", "")).expect("taken");
            let mut answer = Vec::new();
            while !answer.ends_with(b"https.\n") {
                let mut byte = [0];
                kept.read_exact(&mut byte).expect("the rest of the answer");
                answer.push(byte[0]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 308 "));
        }
        assert!(ask(&format!("GET / HTTP/1.0\r\n{field}")).starts_with("HTTP/1.1 400 "));
        let health = ask(&format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{field}"));
        assert!(health.ends_with("ok\n"), "{health}");
        // A successor has the same.
        let successor = authority.serve(shards, &redirecting);
        assert_eq!((successor.address(), successor.redirecting()), (secure, plain));
        assert!(server.wait().success(), "{}", server.output());
        assert!(ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}")).contains(" 308 "));
        successor.stop();
    }
}

#[test]
fn clients_show_certificates_where_they_are_asked_to() {
    let authority = Authority::new("tls-clients");
    let foreign = Authority::new("tls-strangers");
    let ca = authority.path("ca.pem");
    for (mode, without) in [("require", false), ("optional", true)] {
        let server = authority.serve(1, &["--tls-client-ca", &ca, "--tls-client-auth", mode]);
        let with = |issuer: &Authority| {
            issuer.issue("client", &["client"]);
            let certificate = CertificateDer::from_pem_file(issuer.path("client.pem"));
            let certificate = certificate.expect("a file");
            let key = PrivateKeyDer::from_pem_file(issuer.path("client.key")).expect("a file");
            let config = ClientConfig::builder()
                .with_root_certificates(authority.roots())
                .with_client_auth_cert(vec![certificate], key)
                .expect("a key of its own");
            outcome(&mut connect(server.address(), Arc::new(config), "localhost"))
        };
        let anonymous = outcome(&mut authority.connect(server.address(), &VERSIONS));
        assert_eq!(anonymous.is_ok(), without, "{mode}: {anonymous:?}");
        assert!(with(&authority).is_ok(), "{mode}");
        assert!(with(&foreign).is_err(), "{mode}");
        let refused = server.stats().of("tls_certificate_refused");
        assert_eq!(refused, 1 + u64::from(!without), "{mode}");
        server.stop();
    }
}

#[test]
fn certificates_are_renewed_while_connections_go_on() {
    let authority = Authority::new("tls-renewal");
    let server = authority.serve(2, &[]);
    let shown = || {
        let mut peer = authority.connect(server.address(), &VERSIONS);
        outcome(&mut peer).expect("served");
        peer.stream().conn.peer_certificates().expect("shown")[0].clone()
    };
    let mut peer = authority.upgrade(&server, "/echo");
    let before = shown();
    // One file alone does not fit, and nothing changes.
    let certificate = Path::new(&authority.path("server.pem")).to_owned();
    let (key, kept) = (authority.path("server.key"), fs::read(&certificate).expect("a file"));
    fs::write(&certificate, "no certificate").expect("a file");
    server.signal("HUP");
    wait_until("it is told", || server.output().contains("has no certificate in PEM"));
    assert_eq!(shown(), before);
    fs::write(&certificate, kept).expect("a file");
    authority.issue("server", &["localhost"]);
    assert!(Path::new(&key).exists());
    server.signal("HUP");
    wait_until("the new one is shown", || shown() != before);
    let second = shown();
    let metrics = server.ask_admin("/metrics").expect("told");
    assert!(metrics.contains("ringwire_tls_certificate_not_after_timestamp_seconds{certificate="));
    // Nobody has to say so.
    authority.issue("server", &["localhost"]);
    wait_until("a change is noticed", || shown() != second);
    peer.send_frame(TEXT, b"as before");
    peer.expect(TEXT, b"as before");
    server.stop();
}

#[test]
fn what_is_wrong_with_files_is_told_at_the_start() {
    let authority = Authority::new("tls-files");
    for name in ["a", "b"] {
        authority.issue(name, &["localhost"]);
    }
    fs::write(authority.path("empty"), "").expect("a file");
    symlink("/dev/zero", authority.path("endless")).expect("a link");
    let path = |name: &str| authority.path(name);
    let pair = |certificate: &str, key: &str| {
        ["--tls-cert", &path(certificate), "--tls-key", &path(key)].map(str::to_owned).to_vec()
    };
    let with_empty =
        |flag: &str| [pair("a.pem", "a.key"), vec![flag.into(), path("empty")]].concat();
    let cases = [
        (pair("a.pem", "b.key"), "does not fit"),
        (pair("none", "b.key"), "cannot be read"),
        (pair("endless", "b.key"), "has more than"),
        (pair("a.key", "a.key"), "has no certificate"),
        (pair("a.pem", "a.pem"), "has no private key"),
        (vec!["--tls-cert".to_owned(), path("a.pem")], "one --tls-key for each --tls-cert"),
        (Vec::new(), "name one with --tls-cert"),
        (with_empty("--tls-crl"), "--tls-client-ca"),
        (with_empty("--tls-client-ca"), "has no certificate"),
        (with_empty("--tls-ticket-keys"), "openssl rand -hex 32"),
    ];
    for (flags, expected) in cases {
        let output = Server::command()
            .args(["--listen", "127.0.0.1:0,tls", "--shards", "1"])
            .args(&flags)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{flags:?}: {said}");
    }
    let flags = pair("a.pem", "a.key");
    let server = Server::start(1, &flags.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(server.output().contains("no listener has the option tls"));
    server.stop();
}

#[test]
fn connections_move_to_other_shards_within_messages_and_records() {
    let authority = Authority::new("tls-moves");
    for version in VERSIONS {
        let server = authority.serve(2, &["--park-after", "200ms"]);
        let mut peers = uneven_peers(&server, || {
            authority.connect(server.address(), &[version]).upgraded("/echo")
        });
        // Every second is in the middle of a message and of a record.
        let mut rests = Vec::new();
        for peer in peers.iter_mut().skip(1).step_by(2) {
            let stream = peer.stream();
            let mut sealed = Vec::new();
            let bytes = frame(FIN | TEXT, b"begun here, ended there");
            for part in bytes.chunks(11) {
                stream.conn.writer().write_all(part).expect("within its buffer");
                stream.conn.write_tls(&mut sealed).expect("a vector");
            }
            let rest = sealed.split_off(sealed.len() / 2);
            stream.sock.write_all(&sealed).expect("the server reads");
            rests.push(rest);
        }
        wait_until("the shards have about as many", || {
            // A shard that has nothing to do is left alone.
            peers[0].send_frame(TEXT, b"anything");
            peers[0].expect(TEXT, b"anything");
            many_have_moved(&server)
        });
        for (peer, rest) in peers.iter_mut().skip(1).step_by(2).zip(rests) {
            peer.stream().sock.write_all(&rest).expect("the server reads");
            peer.expect(TEXT, b"begun here, ended there");
        }
        for peer in &mut peers {
            peer.send_frame(TEXT, b"and this");
            peer.expect(TEXT, b"and this");
            peer.send_close(1000);
            assert_eq!(peer.read_close().0, 1000);
            peer.expect_end();
        }
        server.stop();
    }
}

/// What a member does not read waits where the policy finds it, but for one send.
#[test]
fn a_member_that_does_not_read_is_cut_off_by_its_policy() {
    let authority = Authority::new("tls-slow");
    let server = authority.serve(1, &["--max-backlog", "256KiB"]);
    let mut slow = authority.upgrade(&server, "/broadcast/a");
    let mut other = authority.upgrade(&server, "/broadcast/a");
    let payload = vec![b'x'; 60_000];
    while server.stats().dropped("disconnect") == 0 {
        other.send_frame(BINARY, &payload);
        other.expect(BINARY, &payload);
    }
    // What it reads now is whole messages, and then why it was cut off.
    assert_eq!(slow.read_close(), (1013, "slow consumer: backlog limit reached".to_owned()));
    server.stop();
}

/// A record that does not come to its end is no sign of life.
#[test]
fn a_record_that_comes_a_byte_at_a_time_keeps_nobody_alive() {
    let authority = Authority::new("tls-dribble");
    let server = authority.serve(1, &["--ping-interval", "500ms", "--idle-timeout", "1s"]);
    let mut peer = authority.upgrade(&server, "/echo");
    let stream = peer.stream();
    let mut sealed = Vec::new();
    stream.conn.writer().write_all(&frame(FIN | TEXT, &[b'x'; 10_000])).expect("its buffer");
    stream.conn.write_tls(&mut sealed).expect("a vector");
    let mut bytes = sealed.iter();
    wait_until("it is given up", || {
        // It may be gone already.
        let _ = bytes.next().map(|byte| stream.sock.write_all(&[*byte]));
        server.stats().websockets_open() == 0
    });
    assert!(bytes.next().is_some(), "the record has not ended");
    server.stop();
}

#[test]
fn browsers_are_told_to_come_by_tls_alone_where_that_is_wanted() {
    let authority = Authority::new("tls-hsts");
    let server = authority.serve(1, &["--tls-hsts", "365d"]);
    let name = "strict-transport-security";
    for (path, status) in [("/healthz", 200), ("/nowhere", 404), ("/echo", 426)] {
        let response = authority.connect(server.address(), &VERSIONS).get(path);
        assert_eq!((response.status, response.header(name)), (status, Some("max-age=31536000")));
        let response = Peer::connect(server.addresses()[1]).get(path);
        assert_eq!((response.status, response.header(name)), (status, None));
    }
    let mut peer = authority.connect(server.address(), &VERSIONS);
    peer.send(&upgrade_request("/echo", ""));
    let response = peer.read_response();
    assert_eq!((response.status, response.header(name)), (101, Some("max-age=31536000")));
    server.stop();
}

/// As without TLS: whoever is closed has to read and to answer, not to go on sending.
#[test]
fn whoever_goes_on_sending_is_closed_all_the_same() {
    let authority = Authority::new("tls-goes-on");
    let server = authority.serve(1, &["--lifetime", "1s", "--close-timeout", "1s"]);
    let mut peer = authority.upgrade(&server, "/echo");
    wait_until("the server gives it up", || {
        peer.send_unheard(&frame(FIN | TEXT, b"more"));
        let _ = peer.stream().flush();
        server.stats().connections_open() == 0
    });
    server.stop();
}

/// A message of the handshake in records of one byte each is more than it is worth.
#[test]
fn a_hello_in_crumbs_is_refused() {
    let authority = Authority::new("tls-crumbs");
    let server = authority.serve(1, &[]);
    let mut stream = TcpStream::connect(server.address()).expect("the server accepts");
    stream.set_read_timeout(Some(HANG)).expect("SO_RCVTIMEO");
    // A ClientHello of 64 KiB, or what says that it is one.
    let mut crumbs = Vec::new();
    for byte in [1, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat_n(0, 40_000)) {
        crumbs.extend([22, 3, 1, 0, 1, byte]);
    }
    // It may be gone before it has sent all.
    let _ = stream.write_all(&crumbs);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    wait_until("it is counted", || server.stats().of("tls_protocol_broken") == 1);
    server.stop();
}
