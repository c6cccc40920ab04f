//! Files of the keys that tokens are verified with, and what else a token must say.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use thiserror::Error;

/// How a token is signed (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum TokenAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA with the curve P-256.
    Es256,
    /// ECDSA with the curve P-384.
    Es384,
    /// Ed25519.
    Eddsa,
}

impl TokenAlgorithm {
    /// Its name as it is written before a file, in lower case.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A file of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    algorithm: Option<TokenAlgorithm>,
    path: PathBuf,
}

impl KeyFile {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a path that begins with / or ./, of a public key in PEM or \
         of a JWK set, if need be with an algorithm before it such as rs512:/key.pem, and always \
         so for a secret: hs256:/secret";

    /// How tokens of its key are signed, where that is said beside it.
    pub fn algorithm(&self) -> Option<TokenAlgorithm> {
        self.algorithm
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The text names no file of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", KeyFile::GRAMMAR)]
pub struct KeyFileError;

impl FromStr for KeyFile {
    type Err = KeyFileError;

    /// Reads a path, or an algorithm, a colon and a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, path) = match text.split_once(':') {
            Some((name, path)) if !is_path(text) => {
                let algorithm = TokenAlgorithm::from_str(name, true).map_err(|_| KeyFileError)?;
                (Some(algorithm), path)
            }
            _ => (None, text),
        };
        match is_path(path) {
            true => Ok(Self { algorithm, path: path.into() }),
            false => Err(KeyFileError),
        }
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(algorithm) = self.algorithm {
            write!(formatter, "{}:", algorithm.name())?;
        }
        self.path.display().fmt(formatter)
    }
}

/// One that begins so that `rs25:/key.pem` is a slip and no file.
fn is_path(text: &str) -> bool {
    (text.starts_with('/') || text.starts_with("./")) && !text.contains('\0')
}

/// What a token may call its issuer, or those it is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenName(Box<str>);

impl TokenName {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "1 to 255 characters of ASCII without spaces";

    /// The name.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The text is no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", TokenName::GRAMMAR)]
pub struct TokenNameError;

impl FromStr for TokenName {
    type Err = TokenNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        match is_visible && (1..=255).contains(&text.len()) {
            true => Ok(Self(text.into())),
            false => Err(TokenNameError),
        }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The name of a cookie: a token of HTTP (RFC 6265 section 4.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName(Box<str>);

impl CookieName {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str =
        "the name of a cookie, of letters, digits and !#$%&'*+-.^_`|~";

    /// The name.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The text is no name of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", CookieName::GRAMMAR)]
pub struct CookieNameError;

impl FromStr for CookieName {
    type Err = CookieNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        match !text.is_empty() && text.bytes().all(is_token) {
            true => Ok(Self(text.into())),
            false => Err(CookieNameError),
        }
    }
}

impl fmt::Display for CookieName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for (text, shown) in [
            ("/etc/keys.json", "/etc/keys.json"),
            ("./key.pem", "./key.pem"),
            ("HS256:/run/secret", "hs256:/run/secret"),
            ("eddsa:./a:b", "eddsa:./a:b"),
            ("/a:b", "/a:b"),
        ] {
            assert_eq!(text.parse::<KeyFile>().expect(text).to_string(), shown);
        }
        for text in ["", "key.pem", "rs25:/key.pem", "hs256:", "hs256:secret", "none:/a", "/a\0"] {
            assert_eq!(text.parse::<KeyFile>(), Err(KeyFileError), "{text:?}");
        }
    }

    #[test]
    fn names_are_short_and_visible() {
        assert_eq!("https://a.org/".parse::<TokenName>().unwrap().text(), "https://a.org/");
        for text in ["", "a b", "caf\u{e9}", &"a".repeat(256)] {
            assert_eq!(text.parse::<TokenName>(), Err(TokenNameError), "{text:?}");
        }
        assert_eq!("__Host-token".parse::<CookieName>().unwrap().text(), "__Host-token");
        for text in ["", "a=b", "a;", "a b"] {
            assert_eq!(text.parse::<CookieName>(), Err(CookieNameError), "{text:?}");
        }
    }
}
