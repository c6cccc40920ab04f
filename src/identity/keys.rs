//! The keys that are trusted, each with the one algorithm that its tokens are signed with.

use serde::Deserialize;
use thiserror::Error;

use super::token::Key;
use crate::config::{Identity as Settings, KeyFile, TokenAlgorithm, TokenName};

/// All that tokens are compared with.
#[derive(Debug, Default, PartialEq)]
pub struct Keys {
    pub(super) keys: Vec<Key>,
}

/// Why a file gives no key. Says nothing of what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyFault {
    /// Neither a key in PEM nor a JWK set, and not said to be a secret.
    #[error(
        "is neither a public key in PEM nor a JWK set; a secret needs its algorithm before it, \
         such as hs256:FILE"
    )]
    Unknown,
    /// A key that should not be there.
    #[error("has a private key: the server needs the public one alone")]
    Private,
    /// A file of another kind behind the algorithm of a secret.
    #[error("has a key in PEM or a JWK set and is said to be a secret")]
    NoSecret,
    /// A secret that can be guessed (RFC 7518 section 3.2).
    #[error("has a secret of {bytes} bytes: allowed are at least {least}")]
    ShortSecret {
        /// How many it has.
        bytes: usize,
        /// As many as the hash.
        least: usize,
    },
    /// A key of RSA that can be broken (RFC 7518 section 3.3).
    #[error("has an RSA key of less than 2048 bits")]
    ShortRsa,
    /// A key that cannot be read.
    #[error("has a key that cannot be read, or of a kind that is not known")]
    Unreadable,
    /// An algorithm that the key is not made for.
    #[error("has a key that is not made for {}", .0.name())]
    Unsuitable(TokenAlgorithm),
    /// An algorithm beside a set, in which each key has its own.
    #[error("has a JWK set, in which each key says its algorithm itself")]
    AlgorithmOfSet,
    /// Something else than a set.
    #[error("is no JWK set")]
    NoSet,
    /// A set without any key that could verify a token.
    #[error("has a JWK set without a key for signatures that is understood")]
    EmptySet,
    /// More keys than anybody needs.
    #[error("has one key too many: allowed are {KEYS_MOST} in all files together")]
    TooMany,
}

impl Keys {
    /// Adds what is in a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add(
        &mut self,
        file: &KeyFile,
        text: &[u8],
        settings: &Settings,
    ) -> Result<(), KeyFault> {
        let issuer = settings.jwt_issuer.as_ref();
        let audiences = &settings.jwt_audiences;
        let is_pem = text.trim_ascii_start().starts_with(b"-----BEGIN ");
        let set = serde_json::from_slice::<Set>(text).ok();
        let of_secret = file.algorithm().filter(|it| secret_bytes_least(*it).is_some());
        match (of_secret, is_pem, set) {
            (Some(_), true, _) | (Some(_), _, Some(_)) => Err(KeyFault::NoSecret),
            (Some(algorithm), false, None) => {
                self.push(Key::secret(without_line_end(text), algorithm)?, issuer, audiences)
            }
            (None, true, _) => self.push(Key::pem(text, file.algorithm())?, issuer, audiences),
            (None, false, Some(_)) if file.algorithm().is_some() => Err(KeyFault::AlgorithmOfSet),
            (None, false, Some(set)) => self.add_set(set, issuer, audiences),
            (None, false, None) => Err(KeyFault::Unknown),
        }
    }

    /// Adds what was fetched, which can only be a JWK set.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add_fetched(&mut self, text: &[u8], settings: &Settings) -> Result<(), KeyFault> {
        let set = serde_json::from_slice(text).map_err(|_| KeyFault::NoSet)?;
        self.add_set(set, settings.jwt_issuer.as_ref(), &settings.jwt_audiences)
    }

    /// Adds the keys of a JWK set (RFC 7517 section 5) that can verify signatures; those of kinds
    /// that are not known are left out, as the standard asks for.
    fn add_set(
        &mut self,
        set: Set,
        issuer: Option<&TokenName>,
        audiences: &[TokenName],
    ) -> Result<(), KeyFault> {
        let before = self.keys.len();
        for value in set.keys {
            if let Some(key) = Key::jwk(value)? {
                self.push(key, issuer, audiences)?;
            }
        }
        if self.keys.len() > before { Ok(()) } else { Err(KeyFault::EmptySet) }
    }

    fn push(
        &mut self,
        key: Key,
        issuer: Option<&TokenName>,
        audiences: &[TokenName],
    ) -> Result<(), KeyFault> {
        if self.keys.len() >= KEYS_MOST {
            return Err(KeyFault::TooMany);
        }
        self.keys.push(key.demanding(issuer, audiences));
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none, so that no token is valid.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

/// The fewest bytes of a secret, where the algorithm has one: as many as the hash (RFC 7518 section
/// 3.2).
pub(super) fn secret_bytes_least(algorithm: TokenAlgorithm) -> Option<usize> {
    match algorithm {
        TokenAlgorithm::Hs256 => Some(32),
        TokenAlgorithm::Hs384 => Some(48),
        TokenAlgorithm::Hs512 => Some(64),
        _ => None,
    }
}

/// Editors and shells end a file of text with one, and nobody means it; what is no text may end so
/// by chance.
fn without_line_end(secret: &[u8]) -> &[u8] {
    if str::from_utf8(secret).is_err() {
        return secret;
    }
    let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
    secret.strip_suffix(b"\r").unwrap_or(secret)
}

/// Keys of all files together.
const KEYS_MOST: usize = 64;
