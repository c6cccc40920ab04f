//! The files that settings name of what is trusted, read whenever the settings are: keys that
//! tokens are verified with, and a list of what is revoked.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::config::Config;
use crate::identity::{KeyFault, Keys, RevocationFault, Revocations, Trust};

/// Why it is not known what to trust.
#[derive(Debug, Error)]
#[error("file {} ({flag}): it {reason}", path.display())]
pub struct TrustFileError {
    flag: &'static str,
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("has more than {FILE_BYTES_MOST} bytes")]
    TooLong,
    #[error("is not UTF-8")]
    NoText,
    #[error(transparent)]
    Key(#[from] KeyFault),
    #[error(transparent)]
    Revocation(#[from] RevocationFault),
}

/// Reads what is trusted: from all files, or nothing.
///
/// # Errors
/// The first file that cannot be read, or says nothing that can be understood.
pub fn read_trust(config: &Config) -> Result<Trust, TrustFileError> {
    let settings = &config.identity;
    let mut keys = Keys::default();
    for file in &settings.jwt_keys {
        let key = read(file.path()).and_then(|text| Ok(keys.add(file, &text, settings)?));
        key.map_err(error("--jwt-key", file.path()))?;
    }
    let mut revocations = Revocations::default();
    if let Some(file) = &settings.revoked {
        let text = read(file.path())
            .and_then(|text| String::from_utf8(text).map_err(|_| Reason::NoText))
            .and_then(|text| Ok(Revocations::parse(&text)?));
        revocations = text.map_err(error("--revoked", file.path()))?;
    }
    Ok(Trust { keys: Arc::new(keys), revocations: Arc::new(revocations), ..Trust::default() })
}

fn error(flag: &'static str, path: &Path) -> impl Fn(Reason) -> TrustFileError {
    move |reason| TrustFileError { flag, path: path.to_owned(), reason }
}

fn read(path: &Path) -> Result<Vec<u8>, Reason> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MOST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MOST {
        return Err(Reason::TooLong);
    }
    Ok(text)
}

/// More than any of these files has, and a bound for what is no file, such as a device.
const FILE_BYTES_MOST: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        read_trust(&config).expect_err("nothing to trust").to_string()
    }

    #[test]
    fn errors_name_the_file_and_the_fault() {
        let of_key = |name: &str| {
            error(|config| config.identity.jwt_keys = vec![name.parse().expect("a file")])
        };
        let said = of_key("/nowhere/key.pem");
        assert!(said.starts_with("file /nowhere/key.pem (--jwt-key): it cannot be"), "{said}");
        assert!(of_key("hs256:/dev/zero").ends_with("bytes"));
        assert!(of_key("./Cargo.toml").contains("neither a public key in PEM nor a JWK set"));
        assert!(of_key("./tests/keys/rsa.private.pem").contains("has a private key"));
        let said = error(|config| {
            config.identity.revoked = Some("./Cargo.toml".parse().expect("a file"));
        });
        assert!(said.contains("(--revoked): it has a line 1 that is neither"), "{said}");
    }
}
