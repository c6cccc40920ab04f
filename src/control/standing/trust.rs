//! What is trusted beside what the settings and their files say: what requests have revoked, and
//! keys that were fetched.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use super::Standing;
use crate::bounded_file;
use crate::config::{Config, HttpUrl};
use crate::identity::{KeyFault, Keys, RevocationFault, Revocations, Revoked, Trust};
use crate::settings::{ReloadError, read_trust};
use crate::tls::client;

/// What has been learned since the start.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// What requests have revoked.
    revoked: Mutex<Revocations>,
    /// The last set of keys that was fetched, and from where.
    key_set: Mutex<Option<(HttpUrl, Vec<u8>)>>,
    fetched: AtomicU64,
    not_fetched: AtomicU64,
}

/// Why something is not revoked, or not for good.
#[derive(Debug, Error)]
pub(in crate::control) enum RevokeError {
    /// It cannot be, and nothing has changed.
    #[error(transparent)]
    Fault(#[from] RevocationFault),
    /// It is until the process ends, as the list cannot be written.
    #[error("{}: {error}", file.display())]
    Unwritten { file: PathBuf, error: io::Error },
}

impl Standing {
    /// What is trusted by settings that are to be in force.
    ///
    /// # Errors
    /// A file that they name cannot be used, or what was fetched by them.
    pub(super) fn trust_by(&self, config: &Config) -> Result<Trust, ReloadError> {
        let unfit = |error: String| ReloadError::Unfit(error);
        let mut trust = read_trust(config).map_err(|error| unfit(error.to_string()))?;
        if let Some(file) = &config.backend.authorities {
            client::for_requests(Some(file.path())).map_err(|error| unfit(error.to_string()))?;
        }
        trust.revocations = Arc::new(self.revoked_beside(&trust.revocations));
        if let Some((url, text)) = &*self.key_set()
            && config.identity.jwt_jwks.as_ref() == Some(url)
        {
            let mut keys = Keys::default();
            keys.add_fetched(text, &config.identity)
                .map_err(|fault| unfit(format!("{url}: it {fault}")))?;
            trust.fetched_keys = Arc::new(keys);
        }
        Ok(trust)
    }

    /// Revokes a token, or all of a user: no such token is believed from now on, and connections
    /// that had one are closed, wherever they are. A line of `--revoked FILE` says so to whoever
    /// serves after this process.
    ///
    /// # Errors
    /// A name that no token can have, or no room for more. If the file cannot be written, it is
    /// revoked until the process ends.
    pub(in crate::control) fn revoke(&self, what: Revoked) -> Result<(), RevokeError> {
        self.revoked().add(what.clone())?;
        let current = self.shared.in_force.current();
        let revocations = Arc::new(self.revoked_beside(&current.trust.revocations));
        self.put_trust_in_force(Trust { revocations, ..current.trust.clone() });
        match &current.config.identity.revoked {
            Some(file) => write_down(&what, file.path())
                .map_err(|error| RevokeError::Unwritten { file: file.path().into(), error }),
            None => Ok(()),
        }
    }

    /// Whether it makes a difference who somebody is.
    pub(in crate::control) fn asks_who_somebody_is(&self) -> bool {
        self.shared.in_force.current().config.asks_who_somebody_is()
    }

    /// Where keys are to be fetched from, if they are.
    pub(in crate::control) fn key_set_url(&self) -> Option<HttpUrl> {
        self.shared.in_force.current().config.identity.jwt_jwks.clone()
    }

    /// How many tokens have named a key that is not known.
    pub(in crate::control) fn unknown_keys(&self) -> u64 {
        self.shared.stats.of_shards().iter().map(|shard| shard.tokens_unknown_key.value()).sum()
    }

    /// Puts a set of keys in force that was fetched, in the place of the one before; nothing where
    /// other settings have come meanwhile.
    ///
    /// # Errors
    /// What is wrong with it, and nothing has changed.
    pub(in crate::control) fn use_key_set(
        &self,
        url: &HttpUrl,
        text: Vec<u8>,
    ) -> Result<(), KeyFault> {
        let current = self.shared.in_force.current();
        let identity = &current.config.identity;
        if identity.jwt_jwks.as_ref() != Some(url) {
            return Ok(());
        }
        let mut keys = Keys::default();
        keys.add_fetched(&text, identity)?;
        *self.key_set() = Some((url.clone(), text));
        // Relaxed: it stands for itself, as the other.
        self.learned.fetched.fetch_add(1, Ordering::Relaxed);
        if keys != *current.trust.fetched_keys {
            tracing::info!(%url, keys = keys.len(), "keys fetched");
            self.put_trust_in_force(Trust {
                fetched_keys: Arc::new(keys),
                ..current.trust.clone()
            });
        }
        Ok(())
    }

    /// Counts a set of keys that could not be fetched, or used.
    pub(in crate::control) fn note_failed_fetch(&self) {
        self.learned.not_fetched.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets of keys that were fetched, and those that could not be.
    pub(in crate::control) fn fetches(&self) -> (u64, u64) {
        let Learned { fetched, not_fetched, .. } = &self.learned;
        (fetched.load(Ordering::Relaxed), not_fetched.load(Ordering::Relaxed))
    }

    /// Why whoever shows a token might be refused.
    pub(super) fn lack_of_keys(&self) -> Option<String> {
        let settings = self.shared.in_force.current();
        let url = settings.config.identity.jwt_jwks.as_ref()?;
        settings.trust.fetched_keys.is_empty().then(|| format!("no keys from {url} yet"))
    }

    fn put_trust_in_force(&self, trust: Trust) {
        self.put_files_in_force(trust, self.shared.in_force.current().certificates.clone());
    }

    /// A list, and what requests have revoked.
    fn revoked_beside(&self, list: &Revocations) -> Revocations {
        let mut revocations = list.clone();
        revocations.extend(&self.revoked());
        revocations
    }

    fn revoked(&self) -> MutexGuard<'_, Revocations> {
        // No panic leaves it half changed.
        self.learned.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key_set(&self) -> MutexGuard<'_, Option<(HttpUrl, Vec<u8>)>> {
        // No panic leaves it half changed.
        self.learned.key_set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to a list what is revoked, unless the list has it.
fn write_down(revoked: &Revoked, list: &Path) -> io::Result<()> {
    let unfit = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let line = revoked.line().ok_or_else(|| unfit("no line can have this name".into()))?;
    let bytes = bounded_file::read(list).map_err(|error| unfit(format!("it {error}")))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unfit("it is no UTF-8".into()))?;
    let mut listed = Revocations::parse(text).map_err(|fault| unfit(format!("it {fault}")))?;
    if listed.list(revoked) {
        return Ok(());
    }
    listed.add(revoked.clone()).map_err(|fault| unfit(format!("it {fault}")))?;
    let is_begun = !text.is_empty() && !text.ends_with('\n');
    let mut file = OpenOptions::new().append(true).open(list)?;
    file.write_all(format!("{}{line}\n", if is_begun { "\n" } else { "" }).as_bytes())?;
    file.sync_data()
}
