//! The files of keys that settings name, read whenever the settings are.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use thiserror::Error;

use crate::config::Config;
use crate::identity::{KeyFault, Keys};

/// Why there are no keys.
#[derive(Debug, Error)]
#[error("key file {} (--jwt-key): it {reason}", path.display())]
pub struct KeyFileError {
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug, Error)]
enum Reason {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("has more than {FILE_BYTES_MOST} bytes")]
    TooLong,
    #[error(transparent)]
    Fault(#[from] KeyFault),
}

/// Reads the keys that tokens are verified with: those of all files, or none.
///
/// # Errors
/// The first file that cannot be read, or gives no key.
pub fn read_keys(config: &Config) -> Result<Keys, KeyFileError> {
    let mut keys = Keys::default();
    for file in &config.identity.jwt_keys {
        let add = |keys: &mut Keys| -> Result<(), Reason> {
            let mut text = Vec::new();
            File::open(file.path())?.take(FILE_BYTES_MOST + 1).read_to_end(&mut text)?;
            if text.len() as u64 > FILE_BYTES_MOST {
                return Err(Reason::TooLong);
            }
            Ok(keys.add(file, &text, &config.identity)?)
        };
        add(&mut keys).map_err(|reason| KeyFileError { path: file.path().to_owned(), reason })?;
    }
    Ok(keys)
}

/// More than any set of keys has, and a bound for what is no file, such as a device.
const FILE_BYTES_MOST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str) -> String {
        let mut config = Config::default();
        config.identity.jwt_keys = vec![name.parse().expect("a file")];
        read_keys(&config).expect_err("no key").to_string()
    }

    #[test]
    fn errors_name_the_file_and_the_fault() {
        let said = error("/nowhere/key.pem");
        assert!(said.starts_with("key file /nowhere/key.pem (--jwt-key): it cannot be"), "{said}");
        assert!(error("hs256:/dev/zero").ends_with("it has more than 1048576 bytes"));
        assert!(error("./Cargo.toml").contains("neither a public key in PEM nor a JWK set"));
        assert!(error("./tests/keys/rsa.private.pem").contains("has a private key"));
    }
}
