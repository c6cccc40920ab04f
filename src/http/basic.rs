//! The password of a request (RFC 7617), where passwords are taken.

use super::bearer;
use super::policy::Policy;
use super::refusal::{Refusal, Refused};
use super::request::Head;
use crate::identity::Login;

/// The user and the password that a request shows; nothing for one that shows none.
///
/// # Errors
/// They are not written as they must be, or there is a token as well: whoever puts one beside
/// another's must not choose which is looked at.
pub(super) fn login(
    head: &Head<'_>,
    query: &str,
    policy: &Policy,
) -> Result<Option<Login>, Refused> {
    if !policy.checks_passwords {
        return Ok(None);
    }
    let Some(encoded) = bearer::authorization(head, SCHEME)? else { return Ok(None) };
    if policy.verifies_tokens && bearer::is_shown(head, query, policy)? {
        let detail = "There are a password and a token.";
        return Err(Refused::new(Refusal::BadRequest, detail));
    }
    let login = Login::decode(encoded);
    let detail = "The user and the password are not those of anybody.";
    login.map(Some).ok_or_else(|| Refused::new(Refusal::Unidentified, detail))
}

const SCHEME: &[u8] = b"Basic";
/// How somebody is asked for a password.
pub(super) const CHALLENGE: &str = "Basic realm=\"ringwire\", charset=\"UTF-8\"";

#[cfg(test)]
mod tests;
