//! What TLS 1.3 costs an echo: by our records, by rustls alone, and by the bare cipher of both.

use std::hint::black_box;
use std::io::{Read, Write};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ringwire::config::{FilePath, Tls};
use ringwire::tls::{Certificates, Session};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::{Case, Prepared, pattern, size_name};

pub(super) fn cases() -> Vec<Case> {
    let certificates = Arc::new(TestCertificates::new());
    let mut cases = Vec::new();
    for bytes in [26, 1 << 10, 16 << 10] {
        let case = |subject: &str, prepare: Box<dyn Fn() -> Prepared>| {
            let name = format!("{subject}/echo-{}", size_name(bytes));
            Case::new(name, ECHOES, prepare).through(ECHOES * bytes)
        };
        let (ours, theirs) = (certificates.clone(), certificates.clone());
        cases.push(case("tls", Box::new(move || ours.echo_by_session(bytes))));
        cases.push(case("tls-rustls", Box::new(move || theirs.echo_by_rustls(bytes))));
        cases.push(case("tls-cipher", Box::new(move || echo_by_cipher(bytes))));
    }
    cases
}

/// A certificate for `localhost`, and who trusts it.
struct TestCertificates {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl TestCertificates {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        let directory = std::env::temp_dir().join(format!("ringwire-tls-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let write = |name: &str, text: String| -> FilePath {
            let path = directory.join(name);
            std::fs::write(&path, text).expect("a file");
            path.to_str().and_then(|path| path.parse().ok()).expect("a path")
        };
        let certificates = vec![write("cert.pem", made.cert.pem())];
        let keys = vec![write("key.pem", made.signing_key.serialize_pem())];
        let settings = Tls { certificates, keys, ..Tls::default() };
        let now = std::time::SystemTime::now();
        let certificates = Certificates::load(&settings, now).expect("valid").expect("there");
        std::fs::remove_dir_all(&directory).expect("made above");
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes());
        roots.add(certificate.expect("a certificate")).expect("an authority");
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // The suite that browsers prefer.
        provider.cipher_suites.sort_by_key(|it| !format!("{:?}", it.suite()).contains("AES_128"));
        let client = ClientConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server: certificates.server().clone(), client: Arc::new(client) }
    }

    /// A client that has shaken hands with what `answer` stands for.
    fn client(&self, mut answer: impl FnMut(&mut [u8], &mut Vec<u8>)) -> ClientConnection {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(self.client.clone(), name).expect("a client");
        client.set_buffer_limit(None);
        while client.wants_write() {
            let (mut bytes, mut answered) = (Vec::new(), Vec::new());
            client.write_tls(&mut bytes).expect("a vector");
            answer(&mut bytes, &mut answered);
            let mut rest = &answered[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).expect("a slice");
                client.process_new_packets().expect("what a client takes");
            }
        }
        client
    }

    fn echo_by_session(&self, bytes: usize) -> Prepared {
        let mut session = Session::new(self.server.clone()).expect("a session");
        let (mut opened, mut sealed) = (Vec::new(), Vec::with_capacity(2 * bytes + 100));
        let mut client = self.client(|bytes, answer| {
            session.receive(bytes, &mut opened, answer);
        });
        let mut records = records(&mut client, bytes);
        Box::new(move || {
            for record in &mut records {
                let range = session.receive(record, &mut opened, &mut sealed).opened;
                session.seal(&record[range], &mut sealed);
                black_box(&sealed);
                sealed.clear();
            }
        })
    }

    fn echo_by_rustls(&self, bytes: usize) -> Prepared {
        let mut server = ServerConnection::new(self.server.clone()).expect("a session");
        let mut sealed = Vec::with_capacity(2 * bytes + 100);
        let mut client = self.client(|bytes, answer| {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).expect("a slice");
                server.process_new_packets().expect("a client");
            }
            while server.wants_write() {
                server.write_tls(answer).expect("a vector");
            }
        });
        let records = records(&mut client, bytes);
        let mut opened = vec![0; bytes];
        Box::new(move || {
            for record in &records {
                let mut rest = &record[..];
                while !rest.is_empty() {
                    server.read_tls(&mut rest).expect("a slice");
                    server.process_new_packets().expect("a record");
                }
                server.reader().read_exact(&mut opened).expect("a whole record");
                server.writer().write_all(&opened).expect("its buffer");
                while server.wants_write() {
                    server.write_tls(&mut sealed).expect("a vector");
                }
                black_box(&sealed);
                sealed.clear();
            }
        })
    }
}

/// Records with so many bytes each.
fn records(client: &mut ClientConnection, bytes: usize) -> Vec<Vec<u8>> {
    let payload = pattern(bytes);
    let seal = |_| {
        client.writer().write_all(&payload).expect("no limit");
        let mut record = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut record).expect("a vector");
        }
        record
    };
    (0..ECHOES).map(seal).collect()
}

fn echo_by_cipher(bytes: usize) -> Prepared {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("its length"));
    let nonce = |number: usize| {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&(number as u64).to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    };
    let aad = [23, 3, 3, 0, 0];
    let mut records: Vec<_> = (0..ECHOES)
        .map(|number| {
            let mut record = pattern(bytes);
            key.seal_in_place_append_tag(nonce(number), Aad::from(aad), &mut record)
                .expect("seals");
            record
        })
        .collect();
    Box::new(move || {
        for (number, record) in records.iter_mut().enumerate() {
            let opened = key.open_in_place(nonce(number), Aad::from(aad), record).expect("ours");
            let tag = key
                .seal_in_place_separate_tag(nonce(ECHOES + number), Aad::from(aad), opened)
                .expect("seals");
            let _ = black_box(tag);
        }
    })
}

/// Echoes of one run.
const ECHOES: usize = 64;
