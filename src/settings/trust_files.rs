//! The files that settings name of what is trusted, read whenever the settings are: keys that
//! tokens are verified with, and lists of what is revoked, of what users may do, and of passwords.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::bounded_file::{self, Unread};
use crate::config::{Config, FilePath};
use crate::identity::{
    ApiKeyFault, ApiKeys, KeyFault, Keys, PasswordFault, Passwords, RevocationFault, Revocations,
    Trust, UserGrantFault, UserGrants,
};

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
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error("is not UTF-8")]
    NoText,
    #[error(transparent)]
    Key(#[from] KeyFault),
    #[error(transparent)]
    Revocation(#[from] RevocationFault),
    #[error(transparent)]
    UserGrant(#[from] UserGrantFault),
    #[error(transparent)]
    Password(#[from] PasswordFault),
    #[error(transparent)]
    ApiKey(#[from] ApiKeyFault),
}

/// Reads what is trusted: from all files, or nothing.
///
/// # Errors
/// The first file that cannot be read, or says nothing that can be understood.
pub fn read_trust(config: &Config) -> Result<Trust, TrustFileError> {
    let settings = &config.identity;
    let mut keys = Keys::default();
    for file in &settings.jwt_keys {
        let text = bounded_file::read(file.path()).map_err(Reason::from);
        let key = text.and_then(|text| Ok(keys.add(file, &text, settings)?));
        key.map_err(error("--jwt-key", file.path()))?;
    }
    let revocations = read_list("--revoked", &settings.revoked, Revocations::parse)?;
    let user_grants = read_list("--user-grants", &settings.user_grants, UserGrants::parse)?;
    let passwords = read_list("--basic-users", &settings.basic_users, Passwords::parse)?;
    let api_keys = read_list("--api-key", &config.realtime.api_key, ApiKeys::parse)?;
    Ok(Trust {
        api_keys: Arc::new(api_keys),
        keys: Arc::new(keys),
        revocations: Arc::new(revocations),
        user_grants: Arc::new(user_grants),
        passwords: Arc::new(passwords),
        ..Trust::default()
    })
}

/// Reads a list of lines, if there is one.
fn read_list<T: Default, F: Into<Reason>>(
    flag: &'static str,
    file: &Option<FilePath>,
    parse: fn(&str) -> Result<T, F>,
) -> Result<T, TrustFileError> {
    let Some(file) = file else { return Ok(T::default()) };
    let read = || {
        let text = bounded_file::read(file.path())?;
        let text = std::str::from_utf8(&text).map_err(|_| Reason::NoText)?;
        parse(text).map_err(Into::into)
    };
    read().map_err(error(flag, file.path()))
}

fn error(flag: &'static str, path: &Path) -> impl Fn(Reason) -> TrustFileError {
    move |reason| TrustFileError { flag, path: path.to_owned(), reason }
}

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
        let said = error(|config| {
            config.identity.user_grants = Some("./Cargo.toml".parse().expect("a file"));
        });
        assert!(said.contains("(--user-grants): it has a line 1 that is neither"), "{said}");
        let said = error(|config| {
            config.identity.basic_users = Some("./Cargo.toml".parse().expect("a file"));
        });
        assert!(said.contains("(--basic-users): it has a line 1 that is not"), "{said}");
    }
}
