//! All that decides whether a token is believed.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::Grants;
use super::api_keys::ApiKeys;
use super::claims::Claims;
use super::keys::Keys;
use super::passwords::Passwords;
use super::revocations::Revocations;
use super::token::{Credentials, Identity, TokenFault, Verdict, credentials};
use super::user_grants::UserGrants;

/// The keys that are trusted, and what they have signed and does not hold any more.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The keys of files.
    pub keys: Arc<Keys>,
    /// Those that were fetched.
    pub fetched_keys: Arc<Keys>,
    /// Tokens and users that are revoked.
    pub revocations: Arc<Revocations>,
    /// What shows who somebody is who has a password.
    pub passwords: Arc<Passwords>,
    /// What users may do beside what their tokens grant.
    pub user_grants: Arc<UserGrants>,
    /// The keys of applications.
    pub api_keys: Arc<ApiKeys>,
}

impl Trust {
    /// Verifies a token at a time, which is told in seconds since 1970.
    pub fn verify(&self, token: &str, now_s: u64) -> Verdict {
        let Verdict { result, cost } = self.claims::<Claims>(token);
        let credentials = result.and_then(|claims| credentials(claims, now_s));
        Verdict { result: credentials.and_then(|it| self.granting(it)), cost }
    }

    /// What a token claims that a key has signed, for the right issuer and audience where those are
    /// demanded. Whoever asks looks at its times ([`lasts_until`](super::lasts_until)), and whether
    /// it is revoked.
    pub fn claims<C: DeserializeOwned>(&self, token: &str) -> Verdict<C> {
        let mut verdict = self.keys.claims(token);
        let is_of_none =
            matches!(verdict.result, Err(TokenFault::UnknownKey | TokenFault::Signature));
        if is_of_none && !self.fetched_keys.is_empty() {
            let Verdict { result, cost } = self.fetched_keys.claims(token);
            verdict.cost += cost;
            if !matches!(result, Err(TokenFault::UnknownKey)) {
                verdict.result = result;
            }
        }
        verdict
    }

    /// Whom a certificate names, that was verified when the client connected, and what that one may
    /// do at a time in seconds since 1970.
    pub fn vouch(&self, identity: &Identity, now_s: u64) -> Verdict {
        let is_over = now_s >= identity.expires_s;
        let credentials = Credentials { identity: identity.clone(), grants: Grants::default() };
        let result = if is_over { Err(TokenFault::Expired) } else { self.granting(credentials) };
        Verdict { result, cost: 0 }
    }

    /// The same credentials with what the list grants to the user beside.
    ///
    /// # Errors
    /// They are revoked.
    pub fn granting(&self, credentials: Credentials) -> Result<Credentials, TokenFault> {
        let Credentials { identity, mut grants } = credentials;
        if self.revocations.contain(&identity) {
            return Err(TokenFault::Revoked);
        }
        self.user_grants.add_to(&mut grants, identity.user.as_deref());
        Ok(Credentials { identity, grants })
    }
}
