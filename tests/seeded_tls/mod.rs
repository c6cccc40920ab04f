//! TLS whose bytes follow from a seed: the library's handshakes and ciphers, but with random numbers
//! that a test chooses, and a key exchange that keeps nothing secret.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fastrand::Rng;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup, aws_lc_rs,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, Error, NamedGroup, RootCertStore, ServerConfig, SupportedCipherSuite,
    SupportedProtocolVersion,
};

thread_local! {
    static RNG: RefCell<Rng> = const { RefCell::new(Rng::with_seed(0)) };
}

/// From here on all that is random on this thread follows from `seed`.
pub fn seed(seed: u64) {
    RNG.set(Rng::with_seed(seed));
}

/// A client and a server that trust each other, speak one version, and agree on the suite whose name
/// has this part.
pub fn configs(
    version: &'static SupportedProtocolVersion,
    suite: &str,
) -> (ClientConfig, ServerConfig) {
    let mut provider = CryptoProvider {
        kx_groups: vec![&OpenExchange],
        secure_random: &Seeded,
        ..aws_lc_rs::default_provider()
    };
    let name = |it: &SupportedCipherSuite| format!("{:?}", it.suite());
    provider.cipher_suites.retain(|it| name(it).contains(suite));
    let provider = Arc::new(provider);
    let Identity { certificate, key } = &*IDENTITY;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("an authority");
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_webpki_verifier(verifier.build().expect("an authority"))
        .with_no_client_auth();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.clone_key())
        .expect("a pair");
    (client.time_provider, server.time_provider) = (Arc::new(Standing), Arc::new(Standing));
    (client, server)
}

/// Whom the client asks for.
pub fn name() -> ServerName<'static> {
    ServerName::try_from(HOST).expect("a name")
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// Ed25519, as its signatures have nothing random.
static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let key = KeyPair::from_pem(include_str!("../keys/ed25519.private.pem")).expect("a key");
    let params = CertificateParams::new([HOST.to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("signed by itself").der().clone();
    Identity { certificate, key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) }
});

#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        RNG.with_borrow_mut(|rng| rng.fill(bytes));
        Ok(())
    }
}

/// Both send a number, and share what differs between them.
#[derive(Debug)]
struct OpenExchange;

impl SupportedKxGroup for OpenExchange {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut number = [0; NUMBER_BYTES];
        RNG.with_borrow_mut(|rng| rng.fill(&mut number));
        Ok(Box::new(Number(number)))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Number([u8; NUMBER_BYTES]);

impl ActiveKeyExchange for Number {
    fn complete(self: Box<Self>, other: &[u8]) -> Result<SharedSecret, Error> {
        if other.len() != NUMBER_BYTES {
            return Err(rustls::PeerMisbehaved::InvalidKeyShare.into());
        }
        let shared = self.0.iter().zip(other).map(|(own, other)| own ^ other);
        Ok(shared.collect::<Vec<_>>().into())
    }

    fn pub_key(&self) -> &[u8] {
        &self.0
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// It is always the same moment.
#[derive(Debug)]
struct Standing;

impl TimeProvider for Standing {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000)))
    }
}

const HOST: &str = "localhost";
/// As X25519 has.
const NUMBER_BYTES: usize = 32;
