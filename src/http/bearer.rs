//! The token of a request, wherever it is, and what it grants.
//!
//! Scripts in browsers can set no header of a WebSocket's request but its subprotocols, so a token
//! may be among those, and in a cookie or in the query where that is allowed. It is never repeated
//! to anybody.

use std::borrow::Cow;

use super::conditions::Conditions;
use super::policy::Policy;
use super::query::Query;
use super::refusal::{Refusal, Refused};
use super::request::{Field, Head, elements};
use crate::identity::Grants;

/// What the token of a request grants, once it is found to be valid; nothing for a request without
/// one.
///
/// # Errors
/// There is too much to do, or a token is not valid, or there are two that differ: whoever puts one
/// beside another's (RFC 6750 section 2) must not choose which is looked at.
pub(super) fn grants(
    head: &Head<'_>,
    query: &str,
    conditions: &Conditions<'_>,
) -> Result<Option<Grants>, Refused> {
    let mut tokens = tokens(head, query, conditions.policy)?.into_iter();
    let token = tokens.next();
    if tokens.any(|other| Some(&other) != token.as_ref()) {
        let detail = "There are two tokens, which differ.";
        return Err(Refused::new(Refusal::BadRequest, detail));
    }
    let Some(token) = token else { return Ok(None) };
    // What is refused whoever asks is not worth the time that it takes to verify a token. A full
    // server still publishes.
    if let Some(refused) = conditions.serving.refused_body() {
        return Err(refused);
    }
    match (conditions.verify)(Some(&token)) {
        None => Err(Refused::new(Refusal::InvalidToken, "The token is not valid.")),
        granted => Ok(granted),
    }
}

/// Whether a request has a token.
///
/// # Errors
/// It cannot be understood.
pub(super) fn is_shown(head: &Head<'_>, query: &str, policy: &Policy) -> Result<bool, Refused> {
    Ok(!tokens(head, query, policy)?.is_empty())
}

/// Whether a token is among the subprotocols.
pub(super) fn is_offered(head: &Head<'_>) -> bool {
    offered(head).next().is_some()
}

/// All tokens of a request. What is no text is none that is valid, and stays a token.
fn tokens<'h>(
    head: &Head<'h>,
    query: &'h str,
    policy: &Policy,
) -> Result<Vec<Cow<'h, str>>, Refused> {
    let in_field = authorization(head, SCHEME)?;
    let name = policy.token_cookie.as_ref();
    let in_cookies = name.into_iter().flat_map(|name| cookies(head, name.text()));
    let mut tokens: Vec<_> = in_field
        .into_iter()
        .chain(offered(head))
        .chain(in_cookies)
        .map(String::from_utf8_lossy)
        .collect();
    if policy.token_in_query {
        tokens.extend(Query::parse(query)?.all(PARAMETER));
    }
    Ok(tokens)
}

/// What `Authorization` says by a scheme (RFC 9110 section 11.6.2), such as the token of `Bearer`
/// (RFC 6750 section 2.1); nothing by others.
///
/// # Errors
/// The field is there more than once.
pub(super) fn authorization<'h>(
    head: &Head<'h>,
    scheme: &[u8],
) -> Result<Option<&'h [u8]>, Refused> {
    let value = match head.authorization {
        Field::Absent => return Ok(None),
        Field::Once(value) => value,
        Field::Repeated => {
            let detail = "The Authorization header appears more than once.";
            return Err(Refused::new(Refusal::BadRequest, detail));
        }
    };
    Ok(value.split_at_checked(scheme.len()).and_then(|(name, rest)| {
        let is_it = name.eq_ignore_ascii_case(scheme) && rest.first().is_none_or(|it| *it == b' ');
        is_it.then(|| rest.trim_ascii())
    }))
}

fn offered<'h>(head: &Head<'h>) -> impl Iterator<Item = &'h [u8]> {
    let elements = head.protocols.iter().flat_map(|list| elements(list));
    elements.filter_map(|element| element.strip_prefix(SUBPROTOCOL))
}

/// The values of a cookie (RFC 6265 section 4.2.1), perhaps in quotes.
fn cookies<'h>(head: &Head<'h>, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let pairs = head.cookies.iter().flat_map(|list| list.split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let unquoted = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\""));
        Some(unquoted.unwrap_or(value))
    })
}

const SCHEME: &[u8] = b"Bearer";
/// What a subprotocol begins with that is a token: tokens of HTTP have all characters of a JWT.
const SUBPROTOCOL: &[u8] = b"ringwire.bearer.";
/// RFC 6750 section 2.3.
const PARAMETER: &str = "access_token";

#[cfg(test)]
mod tests;
