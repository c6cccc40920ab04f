//! What the server shows and asks for: certificates, their keys, authorities for clients, keys of
//! tickets. All of it is read and checked at once, so that what is wrong changes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier, danger::ClientCertVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};
use thiserror::Error;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::secrets::Capture;
use super::tickets::{TicketKeysError, Tickets};
use crate::bounded_file::{self, Unread};
use crate::config::{ClientAuthentication, FilePath, Tls, TlsVersion};

/// What TLS listeners need, as it was read.
#[derive(Debug)]
pub struct Certificates {
    server: Arc<ServerConfig>,
    expirations: Vec<Expiration>,
    files: Vec<Stamp>,
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiration {
    /// Where the certificate is.
    pub file: PathBuf,
    /// Seconds since 1970.
    pub not_after_s: i64,
}

impl Expiration {
    /// Whole days until then; negative behind it.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        (self.not_after_s - seconds_of(now)).div_euclid(DAY_S)
    }
}

/// Seconds since 1970.
fn seconds_of(now: SystemTime) -> i64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// Why they cannot be used.
#[derive(Debug, Error)]
pub enum CertificatesError {
    /// A file cannot be read.
    #[error("{file} {error}", file = .file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        error: Unread,
    },
    /// A file has something else than what is looked for.
    #[error("{file} has no {wanted} in PEM{hint}", file = .file.display())]
    Missing {
        /// Which.
        file: PathBuf,
        /// What is looked for.
        wanted: &'static str,
        /// What may help.
        hint: &'static str,
    },
    /// A file is PEM that is broken.
    #[error("{file} is broken: {error}", file = .file.display())]
    Broken {
        /// Which.
        file: PathBuf,
        /// How.
        error: String,
    },
    /// A key belongs to another certificate.
    #[error(
        "the key {key} does not fit the certificate {certificate} ({error}): the --tls-key in the \
         same place as a --tls-cert has to be its own",
        key = .key.display(), certificate = .certificate.display()
    )]
    Mismatch {
        /// Where the certificate is.
        certificate: PathBuf,
        /// Where the key is.
        key: PathBuf,
        /// What does not fit.
        error: rustls::Error,
    },
    /// A certificate has ended.
    #[error(
        "the certificate {file} is valid until {until} and no longer: renew it",
        file = .file.display()
    )]
    Expired {
        /// Which.
        file: PathBuf,
        /// When it ended.
        until: String,
    },
    /// Authorities or revocation lists for clients that cannot be used.
    #[error("--tls-client-ca or --tls-crl cannot be used: {0}")]
    Clients(VerifierBuilderError),
    /// Keys of tickets that are none.
    #[error("--tls-ticket-keys {file}: {error}", file = .file.display())]
    TicketKeys {
        /// Where they are.
        file: PathBuf,
        /// What is wrong.
        error: TicketKeysError,
    },
    /// What is to be the name of a server is none.
    #[error("{name:?} is neither a name of a host nor an address")]
    Name {
        /// What was given.
        name: String,
    },
    /// The library refuses, which is not known to happen.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// What tells that a file has been replaced or written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    file: PathBuf,
    state: Option<(u64, u64, u64, i64, i64)>,
}

impl Stamp {
    fn of(file: &Path) -> Self {
        let state = fs::metadata(file)
            .ok()
            .map(|it| (it.dev(), it.ino(), it.size(), it.mtime(), it.mtime_nsec()));
        Self { file: file.to_owned(), state }
    }
}

impl Certificates {
    /// Reads what `settings` name. Nothing where there is no certificate.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(settings: &Tls, now: SystemTime) -> Result<Option<Self>, CertificatesError> {
        if settings.certificates.is_empty() {
            return Ok(None);
        }
        let now_s = seconds_of(now);
        // Before they are read: what changes meanwhile is noticed later.
        let files = files(settings).map(|file| Stamp::of(file.path())).collect();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (mut choices, mut expirations) = (Vec::new(), Vec::new());
        for (certificate, key) in settings.certificates.iter().zip(&settings.keys) {
            let (choice, not_after_s) =
                load_pair(certificate.path(), key.path(), now_s, &provider)?;
            choices.push(choice);
            expirations.push(Expiration { file: certificate.path().to_owned(), not_after_s });
        }
        let versions = match settings.min {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12][..],
            TlsVersion::V1_3 => &[&version::TLS13][..],
        };
        let verifier = client_verifier(settings, &provider)?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(Choices(choices)));
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.ticketer = match &settings.ticket_keys {
            Some(file) => Arc::new(ticket_keys(file.path())?),
            None => aws_lc_rs::Ticketer::new()?,
        };
        // A client that keeps one connection comes back once.
        server.send_tls13_tickets = 1;
        Ok(Some(Self { expirations, files, ..Self::from(server) }))
    }

    /// What sessions are begun with.
    pub fn server(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    /// When each certificate ends.
    pub fn expirations(&self) -> &[Expiration] {
        &self.expirations
    }

    /// Whether a file has been written or replaced since it was read.
    pub fn have_changed(&self) -> bool {
        self.files.iter().any(|stamp| *stamp != Stamp::of(&stamp.file))
    }
}

impl From<ServerConfig> for Certificates {
    /// What is shown and asked for as the library has it: in no files that could change.
    fn from(mut server: ServerConfig) -> Self {
        // Behind a handshake of TLS 1.3 the records are ours.
        (server.enable_secret_extraction, server.key_log) = (true, Arc::new(Capture));
        Self { server: Arc::new(server), expirations: Vec::new(), files: Vec::new() }
    }
}

fn files(settings: &Tls) -> impl Iterator<Item = &FilePath> {
    let Tls { certificates, keys, client_authorities, revoked, ticket_keys, .. } = settings;
    let single = client_authorities.iter().chain(ticket_keys);
    certificates.iter().chain(keys).chain(revoked).chain(single)
}

/// A certificate with its key, and when it ends.
fn load_pair(
    certificate: &Path,
    key: &Path,
    now_s: i64,
    provider: &CryptoProvider,
) -> Result<(Choice, i64), CertificatesError> {
    let chain = read_all::<CertificateDer<'static>>(certificate, "certificate", KEY_HINT)?;
    let (names, not_after_s) = look_at(&chain[0], certificate, now_s)?;
    let text = read(key)?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => CertificatesError::Missing {
            file: key.to_owned(),
            wanted: "private key",
            hint: ": PKCS #8, PKCS #1 and SEC1 are read, without a passphrase",
        },
        error => broken(key, &error),
    })?;
    let mismatch = |error| CertificatesError::Mismatch {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        error,
    };
    let certified = CertifiedKey::from_der(chain, private, provider).map_err(mismatch)?;
    warn_of_readers(key, "the private key");
    Ok((Choice { names, certified: Arc::new(certified) }, not_after_s))
}

/// The names of a certificate that has not ended, and when it does.
fn look_at(
    certificate: &CertificateDer<'_>,
    file: &Path,
    now_s: i64,
) -> Result<(Vec<String>, i64), CertificatesError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| broken(file, &error))?;
    let until = parsed.validity().not_after;
    if until.timestamp() < now_s {
        let (file, until) = (file.to_owned(), until.to_string());
        return Err(CertificatesError::Expired { file, until });
    }
    let alternatives = parsed.subject_alternative_name().map_err(|error| broken(file, &error))?;
    let names = alternatives.into_iter().flat_map(|it| &it.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok((names.collect(), until.timestamp()))
}

fn client_verifier(
    settings: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, CertificatesError> {
    let Some(file) = &settings.client_authorities else {
        return Ok(WebPkiClientVerifier::no_client_auth());
    };
    let roots = authorities(file.path())?;
    let mut lists = Vec::new();
    for file in &settings.revoked {
        let wanted = "revocation list";
        lists.extend(read_all::<CertificateRevocationListDer<'static>>(file.path(), wanted, "")?);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    // An authority without a list has revoked nothing.
    let builder = builder.with_crls(lists).allow_unknown_revocation_status();
    let builder = match settings.client_authentication {
        ClientAuthentication::Require => builder,
        ClientAuthentication::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(CertificatesError::Clients)
}

/// Whoever may have issued the certificates of peers.
pub(super) fn authorities(file: &Path) -> Result<RootCertStore, CertificatesError> {
    let mut roots = RootCertStore::empty();
    for authority in read_all(file, "certificate", "")? {
        roots.add(authority).map_err(|error| broken(file, &error))?;
    }
    Ok(roots)
}

fn ticket_keys(file: &Path) -> Result<Tickets, CertificatesError> {
    warn_of_readers(file, "the keys of tickets");
    let text = String::from_utf8_lossy(&read(file)?).into_owned();
    let error = |error| CertificatesError::TicketKeys { file: file.to_owned(), error };
    Tickets::parse(&zeroize::Zeroizing::new(text)).map_err(error)
}

fn read(file: &Path) -> Result<zeroize::Zeroizing<Vec<u8>>, CertificatesError> {
    bounded_file::read(file)
        .map_err(|error| CertificatesError::Read { file: file.to_owned(), error })
}

/// Tells the log of a secret that is none.
fn warn_of_readers(file: &Path, secret: &str) {
    if fs::metadata(file).is_ok_and(|it| it.mode() & OTHERS_MAY_READ != 0) {
        tracing::warn!(file = %file.display(), "everybody on this machine may read {secret}");
    }
}

/// All sections of one kind, of which there is at least one.
fn read_all<T: PemObject>(
    file: &Path,
    wanted: &'static str,
    hint: &'static str,
) -> Result<Vec<T>, CertificatesError> {
    let text = read(file)?;
    let items = T::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|error| broken(file, &error))?;
    match items.is_empty() {
        true => Err(CertificatesError::Missing { file: file.to_owned(), wanted, hint }),
        false => Ok(items),
    }
}

fn broken(file: &Path, error: &dyn std::fmt::Display) -> CertificatesError {
    CertificatesError::Broken { file: file.to_owned(), error: error.to_string() }
}

/// Certificates to choose from, the first of which is for those who ask for none of the names.
#[derive(Debug)]
struct Choices(Vec<Choice>);

#[derive(Debug)]
struct Choice {
    names: Vec<String>,
    certified: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Choices {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let is_usable = |choice: &&Choice| choice.certified.key.choose_scheme(schemes).is_some();
        let is_asked_for =
            |choice: &&Choice| hello.server_name().is_some_and(|name| choice.covers(name));
        let mut usable = self.0.iter().filter(is_usable);
        // One that is not usable has the library tell why.
        let choice = usable.clone().find(is_asked_for).or_else(|| usable.next());
        choice.or(self.0.first()).map(|choice| choice.certified.clone())
    }
}

impl Choice {
    /// Whether the certificate is for `name`, exactly or by a wildcard for its first label (RFC
    /// 9525 section 6.3).
    fn covers(&self, name: &str) -> bool {
        self.names.iter().any(|covered| match covered.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(first, rest)| {
                !first.is_empty() && rest.eq_ignore_ascii_case(parent)
            }),
            None => covered.eq_ignore_ascii_case(name),
        })
    }
}

/// The bit of a file's mode by which everybody may read it.
const OTHERS_MAY_READ: u32 = 0o004;
const DAY_S: i64 = 24 * 60 * 60;
const KEY_HINT: &str = ": a key goes to --tls-key";
