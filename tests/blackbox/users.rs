//! Users who have more connections than one may, on any shard.

use std::fs;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, HandshakeKind};
use serde_json::json;

use crate::SHARD_COUNTS;
use crate::authority::Authority;
use crate::peer::{Peer, Response, TEXT, upgrade_request};
use crate::server::{Server, socket_path, wait_until};
use crate::tls::{TlsPeer, connect};

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

/// A server whose users may have so many connections.
fn start(shards: usize, most: &str, more: &[&str]) -> Server {
    let file = socket_path(&format!("secret-{shards}-{most}-{}", more.len()));
    fs::write(&file, SECRET).expect("the file can be written");
    let key = format!("hs256:{}", file.to_str().expect("UTF-8"));
    let flags = [&["--jwt-key", &key, "--connections-per-user", most][..], more].concat();
    let server = Server::start(shards, &flags);
    let _ = fs::remove_file(file);
    server
}

fn token(user: Option<&str>) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({ "sub": user, "exp": now_s + 3600, "ringwire": { "subscribe": ["a"] } });
    let key = EncodingKey::from_secret(SECRET).expect("a secret");
    format!(
        "Authorization: Bearer {}\r\n",
        encode(&Header::default(), &claims, &key).expect("a token")
    )
}

fn upgrade(server: &Server, user: Option<&str>) -> (Peer, Response) {
    Peer::try_upgrade(server.address(), "/echo", &token(user))
}

fn open(server: &Server, user: Option<&str>) -> Peer {
    let (peer, response) = upgrade(server, user);
    assert_eq!(response.status, 101);
    peer
}

fn replaced() -> (u16, String) {
    (4001, "replaced by another connection of the user".to_owned())
}

#[test]
fn the_newest_connection_of_a_user_closes_the_oldest() {
    for shards in SHARD_COUNTS {
        let server = start(shards, "2", &[]);
        let mut open_now: Vec<Peer> = Vec::new();
        for _ in 0..4 * shards {
            open_now.push(open(&server, Some("a|b")));
            if open_now.len() > 2 {
                assert_eq!(open_now.remove(0).read_close(), replaced());
            }
        }
        let mut others = [Some("bob"), None, None, None].map(|user| open(&server, user));
        for peer in open_now.iter_mut().chain(&mut others) {
            peer.send_frame(TEXT, b"still here");
            peer.expect(TEXT, b"still here");
        }
        let listed = server.ask_admin("/connections?user=a%7Cb").expect("an answer");
        assert_eq!(listed.matches("\"a|b\"").count(), 2, "{listed}");
        assert!(!listed.contains("bob"), "{listed}");
        let replaced = 4 * shards as u64 - 2;
        assert_eq!(server.stats().of("connections_replaced"), replaced);
        server.stop();
    }
}

#[test]
fn a_stream_takes_the_place_of_a_websocket_and_the_other_way_round() {
    let server = start(2, "1", &[]);
    let mut web_socket = open(&server, Some("alice"));
    let mut stream = Peer::connect(server.address());
    let fields = token(Some("alice"));
    let request = format!("GET /broadcast/a?mode=stream HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    stream.send(request.as_bytes());
    assert_eq!(web_socket.read_close(), replaced());
    open(&server, Some("alice"));
    wait_until("the stream ends", || server.stats().of("connections_replaced") == 2);
    server.stop();
}

#[test]
fn whoever_would_be_one_too_many_is_refused_where_the_oldest_stay() {
    for shards in SHARD_COUNTS {
        let server = start(shards, "1", &["--user-limit", "oldest"]);
        let mut first = open(&server, Some("alice"));
        for _ in 0..2 * shards {
            let (_, response) = upgrade(&server, Some("alice"));
            assert_eq!(response.status, 429);
            assert!(response.header("retry-after").is_some());
        }
        assert_eq!(server.stats().refused("user_connections"), 2 * shards as u64);
        first.send_close(1000);
        wait_until("the place is free", || upgrade(&server, Some("alice")).1.status == 101);
        server.stop();
    }
    let flags = ["--user-limit", "oldest", "--refuse-with", "close"];
    let server = start(1, "1", &flags);
    let _first = open(&server, Some("alice"));
    let (code, reason) = open(&server, Some("alice")).read_close();
    assert_eq!(code, 1013, "{reason}");
    assert!(reason.starts_with("Your user has as many connections as one may"), "{reason}");
    server.stop();
}

/// What a client is that has a certificate for a host of this name.
fn holder(authority: &Authority, name: &str) -> Arc<ClientConfig> {
    authority.issue(name, &[name]);
    let certificate = CertificateDer::from_pem_file(authority.path(&format!("{name}.pem")));
    let key = PrivateKeyDer::from_pem_file(authority.path(&format!("{name}.key")));
    let config = ClientConfig::builder()
        .with_root_certificates(authority.roots())
        .with_client_auth_cert(vec![certificate.expect("a file")], key.expect("a file"));
    Arc::new(config.expect("a key of its own"))
}

fn ask_as(server: &Server, client: &Arc<ClientConfig>, path: &str) -> (TlsPeer, u16) {
    let mut peer = connect(server.address(), client.clone(), "localhost");
    peer.send(&upgrade_request(path, ""));
    let status = peer.read_response().status;
    (peer, status)
}

#[test]
fn certificates_say_who_somebody_is() {
    let authority = Authority::new("users-certificates");
    let grants = authority.path("grants");
    let list = "# who may do what\nsubscribe all *\nsubscribe a ann.example.org\n";
    fs::write(&grants, list).expect("the file can be written");
    for shards in [1, 2] {
        let ca = authority.path("ca.pem");
        let flags = [
            &["--tls-client-ca", &ca, "--tls-client-auth", "optional"][..],
            &["--tls-client-user", "dns", "--user-grants", &grants],
            &["--connections-per-user", "1"],
        ];
        let server = authority.serve(shards, &flags.concat());
        let (ann, bob) = (holder(&authority, "Ann.example.org"), holder(&authority, "bob.test"));
        let (mut first, status) = ask_as(&server, &ann, "/broadcast/a");
        assert_eq!(status, 101);
        let listed = server.ask_admin("/connections?user=ann.example.org").expect("an answer");
        assert_eq!(listed.matches("ann.example.org").count(), 1, "{listed}");
        for (path, expected) in [("/broadcast/all", 101), ("/echo", 101), ("/broadcast/a", 403)] {
            assert_eq!(ask_as(&server, &bob, path).1, expected, "{path}");
        }
        // Who shows none may do nothing here, by either listener.
        let mut nobody = Peer::connect(server.addresses()[1]);
        nobody.send(&upgrade_request("/broadcast/all", ""));
        assert_eq!(nobody.read_response().status, 401);
        // A session that goes on is still that of the same client.
        let (mut second, status) = ask_as(&server, &ann, "/broadcast/all");
        assert_eq!(status, 101);
        assert_eq!(second.stream().conn.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(first.read_close(), replaced());
        // Users of certificates are revoked as others are.
        let mut admin = Peer::connect(server.admin());
        let body = r#"{"user":"ann.example.org"}"#;
        let head = "POST /revoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        admin.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        assert_eq!(admin.read_response().status, 202);
        assert_eq!(second.read_close(), (3000, "token revoked".to_owned()));
        assert_eq!(ask_as(&server, &ann, "/broadcast/all").1, 401);
        server.stop();
    }
}
