//! Encryption: what the server shows, what it speaks, and what clients have to show.

use std::time::Duration;

use clap::ValueEnum;

use super::file_path::FilePath;
use super::form::{choice, duration, parsed};
use super::setting::{list, one, settings};
use crate::limits;

/// The least version of TLS that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), with forward secrecy and authenticated encryption alone.
    #[value(name = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[value(name = "1.3")]
    V1_3,
}

/// Whether clients have to show a certificate, where one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientAuthentication {
    /// Whoever shows none is turned away.
    Require,
    /// Whoever shows one that is not valid is turned away.
    Optional,
}

settings! {
    /// Encryption, of listeners with the option `tls`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Tls at (|config| &mut config.tls) {
        under Tls {
            /// Certificates with their chains, each the partner of the key in the same place.
            pub certificates: Vec<FilePath> = Vec::new(),
                as list(parsed(FilePath::GRAMMAR)).default_in_words("none"),
                named "tls-cert" "FILE",
                help "Certificate in PEM, with its chain behind it, for listeners with the option \
                      tls; clients get the first that fits the name they ask for, or else the \
                      first; may be repeated",
                live;

            /// Their private keys.
            pub keys: Vec<FilePath> = Vec::new(),
                as list(parsed(FilePath::GRAMMAR)).default_in_words("none"),
                named "tls-key" "FILE",
                help "Private key in PEM of the --tls-cert in the same place; may be repeated",
                live;

            /// The least version spoken.
            pub min: TlsVersion = TlsVersion::V1_2,
                as one(choice()),
                named "tls-min" "VERSION",
                help "The least version of TLS spoken",
                live;

            /// Who may have issued the certificates of clients; `None` asks for none.
            pub client_authorities: Option<FilePath> = None,
                as one(parsed(FilePath::GRAMMAR).or_off()),
                named "tls-client-ca" "FILE",
                help "Ask clients for a certificate issued by one of these, in PEM",
                live;

            /// Whether they have to show one.
            pub client_authentication: ClientAuthentication = ClientAuthentication::Require,
                as one(choice()),
                named "tls-client-auth" "WHETHER",
                help "Whether a client must have a certificate where --tls-client-ca asks for one",
                live;

            /// Which of those have been revoked.
            pub revoked: Vec<FilePath> = Vec::new(),
                as list(parsed(FilePath::GRAMMAR)).default_in_words("none"),
                named "tls-crl" "FILE",
                help "Turn away clients whose certificates are in this revocation list, in PEM; \
                      may be repeated",
                live;

            /// Keys of session tickets; `None` makes some up that are gone with the process.
            pub ticket_keys: Option<FilePath> = None,
                as one(parsed(FilePath::GRAMMAR).or_off()),
                named "tls-ticket-keys" "FILE",
                help "Keys for session tickets, 64 hex digits a line: the first makes new tickets, \
                      all are accepted; so servers resume each other's sessions, and off resumes \
                      only what this process has begun",
                live;

            /// For how long browsers are to come by TLS alone (RFC 6797).
            pub strict_transport: Option<Duration> = limits::STRICT_TRANSPORT.default,
                as one(duration(&limits::STRICT_TRANSPORT).or_off()),
                named "tls-hsts" "TIME",
                help "Tell browsers to come by TLS alone for this long (Strict-Transport-Security)",
                live;
        }
    }
}
