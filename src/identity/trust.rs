//! All that decides whether a token is believed.

use std::sync::Arc;

use super::keys::Keys;
use super::revocations::Revocations;
use super::token::{TokenFault, Verdict};

/// The keys that are trusted, and what they have signed and does not hold any more.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The keys.
    pub keys: Arc<Keys>,
    /// Tokens and users that are revoked.
    pub revocations: Arc<Revocations>,
}

impl Trust {
    /// Verifies a token at a time, which is told in seconds since 1970.
    pub fn verify(&self, token: &str, now_s: u64) -> Verdict {
        let verdict = self.keys.verify(token, now_s);
        match &verdict.result {
            Ok(credentials) if self.revocations.contain(&credentials.identity) => {
                Verdict { result: Err(TokenFault::Revoked), ..verdict }
            }
            _ => verdict,
        }
    }
}
