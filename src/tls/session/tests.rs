//! Against a client that is not ours, rustls', at every segmentation.

use std::io::Read;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;
use crate::tls::Certificates;

/// Both configurations, for one version and one suite.
fn configs(
    version: &'static SupportedProtocolVersion,
    suite: Option<&str>,
) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if let Some(suite) = suite {
        let name = |it: &rustls::SupportedCipherSuite| format!("{:?}", it.suite());
        provider.cipher_suites.retain(|it| name(it).contains(suite));
    }
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("an authority");
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from(key))
        .expect("a pair");
    (Arc::new(client), Certificates::from(server).server().clone())
}

/// A client and our end of its connection.
struct Both {
    client: ClientConnection,
    server: Session,
    /// What each has been told by the other.
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    is_ended: bool,
    handshakes: Vec<Handshake>,
}

impl Both {
    fn new((client, server): &(Arc<ClientConfig>, Arc<ServerConfig>)) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        Self {
            client: ClientConnection::new(client.clone(), name).expect("a client"),
            server: Session::new(server.clone()).expect("a server"),
            to_client: Vec::new(),
            to_server: Vec::new(),
            is_ended: false,
            handshakes: Vec::new(),
        }
    }

    /// Carries bytes both ways in pieces, until both are silent; what the client asks is echoed.
    fn run(&mut self, piece_bytes: usize) {
        let mut sealed = Vec::new();
        loop {
            let mut bytes = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut bytes).expect("a vector");
            }
            if bytes.is_empty() && sealed.is_empty() {
                return;
            }
            for piece in bytes.chunks_mut(piece_bytes) {
                let mut opened = Vec::new();
                let received = self.server.receive(piece, &mut opened, &mut sealed);
                assert_eq!(received.failure, None);
                opened.extend_from_slice(&piece[received.opened.clone()]);
                self.is_ended |= received.is_ended;
                self.handshakes.extend(received.handshake);
                if !opened.is_empty() {
                    self.server.seal(&opened, &mut sealed);
                    self.to_server.extend(opened);
                }
            }
            for mut piece in std::mem::take(&mut sealed).chunks(piece_bytes) {
                while !piece.is_empty() {
                    self.client.read_tls(&mut piece).expect("a slice");
                    self.client.process_new_packets().expect("what a client takes");
                    let _ = self.client.reader().read_to_end(&mut self.to_client);
                }
            }
        }
    }
}

#[test]
fn every_segmentation_leads_to_the_same() {
    let cases = [
        (&TLS13, Some("AES_128"), true),
        (&TLS13, Some("AES_256"), true),
        (&TLS13, Some("CHACHA20"), true),
        (&TLS12, None, false),
    ];
    for (version, suite, is_latest) in cases {
        let configs = configs(version, suite);
        for (round, piece_bytes) in [1, 2, 5, 6, 7, 100, 1 << 20].into_iter().enumerate() {
            let mut both = Both::new(&configs);
            // What is written before the handshake has ended comes with its last record.
            both.client.writer().write_all(b"first").expect("its buffer");
            both.run(piece_bytes);
            let is_resumed = round > 0;
            assert_eq!(both.handshakes, [Handshake { is_latest, is_resumed }], "{version:?}");
            assert!(matches!(both.server.protocol, Protocol::Records(_)) == is_latest);
            let message: Vec<u8> = (0..50_000_u32).map(|place| place as u8).collect();
            both.client.writer().write_all(&message).expect("its buffer");
            both.run(piece_bytes.max(50));
            let expected = [&b"first"[..], &message].concat();
            assert!(both.to_server == expected && both.to_client == expected);
            both.client.send_close_notify();
            both.run(piece_bytes);
            assert!(both.is_ended);
            let mut sealed = Vec::new();
            both.server.close(&mut sealed);
            both.client.read_tls(&mut &sealed[..]).expect("a slice");
            assert!(both.client.process_new_packets().expect("its end").peer_has_closed());
        }
    }
}

#[test]
fn keys_change_as_a_client_of_another_make_expects() {
    for suite in ["AES_128", "AES_256", "CHACHA20"] {
        let mut both = Both::new(&configs(&TLS13, Some(suite)));
        both.run(1 << 20);
        match &mut both.server.protocol {
            Protocol::Records(records) => records.limit(3),
            _ => panic!("TLS 1.3"),
        }
        let mut expected = Vec::new();
        for number in 0..100_u8 {
            if number % 5 == 0 {
                both.client.refresh_traffic_keys().expect("TLS 1.3");
            }
            if number % 9 == 0 {
                both.server.rest();
            }
            both.client.writer().write_all(&[number; 100]).expect("its buffer");
            expected.extend([number; 100]);
            both.run(33);
            assert!(both.to_client == expected, "{number}");
        }
    }
}

#[test]
fn many_handshakes_on_one_thread_keep_their_secrets_apart() {
    let configs = configs(&TLS13, None);
    let mut all: Vec<_> = (0..10).map(|_| Both::new(&configs)).collect();
    // Each goes one step before any goes the next.
    for step in 0..6 {
        for both in &mut all {
            let mut bytes = Vec::new();
            while both.client.wants_write() {
                both.client.write_tls(&mut bytes).expect("a vector");
            }
            let (mut opened, mut sealed) = (Vec::new(), Vec::new());
            let received = both.server.receive(&mut bytes, &mut opened, &mut sealed);
            assert_eq!(received.failure, None, "step {step}");
            let mut sealed = &sealed[..];
            while !sealed.is_empty() {
                both.client.read_tls(&mut sealed).expect("a slice");
                both.client.process_new_packets().expect("what a client takes");
            }
        }
    }
    for both in &mut all {
        both.client.writer().write_all(b"apart").expect("its buffer");
        both.run(10);
        assert_eq!(both.to_client, b"apart");
    }
}
