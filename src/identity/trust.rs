//! All that decides whether a token is believed.

use std::sync::Arc;

use super::keys::Keys;
use super::revocations::Revocations;
use super::token::{TokenFault, Verdict};

/// The keys that are trusted, and what they have signed and does not hold any more.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The keys of files.
    pub keys: Arc<Keys>,
    /// Those that were fetched.
    pub fetched_keys: Arc<Keys>,
    /// Tokens and users that are revoked.
    pub revocations: Arc<Revocations>,
}

impl Trust {
    /// Verifies a token at a time, which is told in seconds since 1970.
    pub fn verify(&self, token: &str, now_s: u64) -> Verdict {
        let mut verdict = self.keys.verify(token, now_s);
        let is_of_none =
            matches!(verdict.result, Err(TokenFault::UnknownKey | TokenFault::Signature));
        if is_of_none && !self.fetched_keys.is_empty() {
            let Verdict { result, cost } = self.fetched_keys.verify(token, now_s);
            verdict.cost += cost;
            if result != Err(TokenFault::UnknownKey) {
                verdict.result = result;
            }
        }
        match &verdict.result {
            Ok(credentials) if self.revocations.contain(&credentials.identity) => {
                Verdict { result: Err(TokenFault::Revoked), ..verdict }
            }
            _ => verdict,
        }
    }
}
