//! What a client trusts, offers and remembers.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, Error, NamedGroup, RootCertStore,
    SignatureScheme, version,
};

use super::certificates::{CertificatesError, authorities};
use super::session::Session;
use crate::config::TlsVersion;

/// Which servers are what they say.
#[derive(Clone, Copy, Debug)]
pub enum Verification<'a> {
    /// Those with a certificate for their name, issued by one of the authorities in this file.
    IssuedBy(&'a Path),
    /// Whichever answers. Its certificate has to be that of its key, and may be anything else.
    Anybody,
}

/// What sessions with one server are begun with.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// A client of the server that is called `name`, a name of a host or an address, and speaks
    /// `version`, or whichever it prefers. Each of its handshakes is a full one.
    ///
    /// # Errors
    /// What cannot be read, or that `name` is none.
    pub fn new(
        verification: Verification<'_>,
        name: &str,
        version: Option<TlsVersion>,
    ) -> Result<Self, CertificatesError> {
        let refused = |_| CertificatesError::Name { name: name.to_owned() };
        let name = ServerName::try_from(name.to_owned()).map_err(refused)?;
        let provider = Arc::new(provider());
        let versions = match version {
            None => &[&version::TLS13, &version::TLS12][..],
            Some(TlsVersion::V1_3) => &[&version::TLS13],
            Some(TlsVersion::V1_2) => &[&version::TLS12],
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)?;
        let builder = match verification {
            Verification::IssuedBy(file) => builder.with_root_certificates(authorities(file)?),
            Verification::Anybody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            }
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config: Arc::new(config), name })
    }

    /// The same client, which goes on with earlier sessions of its own and remembers up to `most`.
    pub fn resuming(&self, most: usize) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        let remembered = Mutex::new(Remembered::default());
        config.resumption = Resumption::store(Arc::new(Sessions { most, remembered }));
        Self { config: Arc::new(config), name: self.name.clone() }
    }

    /// A session that begins: what is to be sent first is appended to `sealed`.
    ///
    /// # Errors
    /// None is known.
    pub fn begin(&self, sealed: &mut Vec<u8>) -> Result<Session, Error> {
        Session::begin(self.config.clone(), self.name.clone(), sealed)
    }
}

/// What requests to other servers are sent with, in HTTP/1.1: to those that one of the authorities
/// in a file has issued a certificate to, or one of those that the system trusts.
///
/// # Errors
/// What cannot be read.
pub fn for_requests(file: Option<&Path>) -> Result<Arc<ClientConfig>, CertificatesError> {
    let roots = match file {
        Some(file) => authorities(file)?,
        None => {
            let mut roots = RootCertStore::empty();
            // What the system cannot read it does not trust either.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The library's suites, those with a key of 128 bits before others: servers that have no opinion
/// choose the first.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !FIRST.contains(&suite.suite()));
    provider
}

const FIRST: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// Takes every certificate, but sees that the server has its key, which costs what it always does.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Earlier sessions with the one server that a [`Client`] has. The library's own store keeps eight
/// of them, so of many connections that come back together most would begin anew.
#[derive(Debug)]
struct Sessions {
    most: usize,
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    group: Option<NamedGroup>,
    /// A session of TLS 1.2 is gone on with as often as one likes.
    shared: Option<Tls12ClientSessionValue>,
    /// Tickets of TLS 1.3 are for one use (RFC 8446 appendix C.4).
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        // Whoever panicked has left it whole: each change is a single one.
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _server: ServerName<'static>, group: NamedGroup) {
        self.remembered().group = Some(group);
    }

    fn kx_hint(&self, _server: &ServerName<'_>) -> Option<NamedGroup> {
        self.remembered().group
    }

    fn set_tls12_session(&self, _server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.remembered().shared = Some(session);
    }

    fn tls12_session(&self, _server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.remembered().shared.clone()
    }

    fn remove_tls12_session(&self, _server: &ServerName<'static>) {
        self.remembered().shared = None;
    }

    fn insert_tls13_ticket(&self, _server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut remembered = self.remembered();
        remembered.tickets.push_back(ticket);
        if remembered.tickets.len() > self.most {
            remembered.tickets.pop_front();
        }
    }

    fn take_tls13_ticket(&self, _server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.remembered().tickets.pop_back()
    }
}
