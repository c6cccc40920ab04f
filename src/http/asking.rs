//! What a request may do: as its token says or, where it has none, as somebody says who is asked.
//!
//! Who is asked answers some time later. So the request is decided on twice: at first as if
//! everything was granted, which finds out whether it is worth asking, and again with the answer.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use super::basic;
use super::bearer;
use super::conditions::Conditions;
use super::policy::Policy;
use super::refusal::{Refusal, Refused};
use super::request::Head;
use crate::config::Authority;
use crate::identity::{Grants, HeadFields, Inquiry, Judgement, Login};

/// What is known of whoever has sent a request.
#[derive(Default)]
pub(super) struct Asking {
    /// The password that they have shown, once that was looked for.
    login: RefCell<Option<Login>>,
    /// What has been said of them, until it is looked at.
    judgement: Cell<Option<Judgement>>,
    /// Whether somebody is to be asked.
    must_ask: Cell<bool>,
}

impl Asking {
    /// Nothing is known but what has been said, if something was.
    pub(super) fn with(judgement: Option<Judgement>) -> Self {
        Self { judgement: Cell::new(judgement), ..Self::default() }
    }

    /// Whether somebody is to be asked, so that everything was taken for granted.
    pub(super) fn must_ask(&self) -> bool {
        self.must_ask.get()
    }

    /// What is asked about a password, if that is what the request shows.
    pub(super) fn about_password(&self) -> Option<Inquiry> {
        let login = self.login.take()?;
        Some(Inquiry { login: Some(login), ..Inquiry::default() })
    }

    /// What is granted to a request; nothing where it has shown nothing and nobody is asked.
    ///
    /// # Errors
    /// What it has shown is not valid, or it is not granted by whoever was asked.
    pub(super) fn grants(
        &self,
        head: &Head<'_>,
        query: &str,
        conditions: &Conditions<'_>,
    ) -> Result<Option<Grants>, Refused> {
        let policy = conditions.policy;
        let login = basic::login(head, query, policy)?;
        let has_login = login.is_some();
        let is_asked = has_login || policy.asks_with.is_some();
        self.login.replace(login);
        if policy.verifies_tokens && !has_login {
            let granted = bearer::grants(head, query, conditions)?;
            if granted.is_some() {
                return Ok(granted);
            }
        }
        match self.judgement.take().filter(|_| is_asked) {
            None => {
                // Without a password the certificate of the client may have said who that is.
                let granted = (conditions.verify)(None).filter(|_| !has_login);
                let must_ask = granted.is_none() && is_asked;
                self.must_ask.set(must_ask);
                Ok(if must_ask { Some(Grants::all()) } else { granted })
            }
            Some(Judgement::Allowed(credentials)) => Ok(Some(credentials.grants)),
            Some(Judgement::Denied(denial)) => Err(Refused::judged(denial)),
            Some(Judgement::Unknown) => Err(Refused::new(Refusal::Unjudged, UNJUDGED)),
        }
    }
}

/// What is asked about a request that is well-formed and shows no password.
pub(super) fn inquiry(
    head: &[u8],
    host: Option<Authority<'_>>,
    client: Option<IpAddr>,
    policy: &Policy,
) -> Inquiry {
    let mut headers = vec![httparse::EMPTY_HEADER; policy.request_headers];
    let request = parsed(head, &mut headers);
    let named = policy.asks_with.as_deref().unwrap_or_default();
    let is_told =
        |name: &str| ALWAYS_TOLD.contains(&name) || named.iter().any(|field| field.text() == name);
    Inquiry {
        method: request.method.unwrap_or_default().into(),
        target: without_authority(request.path.unwrap_or_default()).into(),
        host: host.map(|Authority { host, port }| match port {
            Some(port) => format!("{host}:{port}").into(),
            None => host.into(),
        }),
        client,
        is_secure: false,
        fields: fields(&request, is_told),
        login: None,
    }
}

/// Fields of a well-formed request for a client session that backends are told.
pub(super) fn session_fields(head: &[u8], policy: &Policy) -> HeadFields {
    if policy.session_fields.is_empty() {
        return HeadFields::default();
    }
    let mut headers = vec![httparse::EMPTY_HEADER; policy.request_headers];
    let is_told = |name: &str| policy.session_fields.iter().any(|field| field.text() == name);
    fields(&parsed(head, &mut headers), is_told).into()
}

fn parsed<'h, 'b>(
    head: &'b [u8],
    headers: &'h mut [httparse::Header<'b>],
) -> httparse::Request<'h, 'b> {
    let mut request = httparse::Request::new(headers);
    let is_whole = request.parse(head).is_ok_and(|status| status.is_complete());
    debug_assert!(is_whole, "it was read before");
    request
}

fn fields(
    request: &httparse::Request<'_, '_>,
    is_told: impl Fn(&str) -> bool,
) -> Vec<(Box<str>, Box<[u8]>)> {
    let fields = request.headers.iter().filter_map(|header| {
        let name = header.name.to_ascii_lowercase();
        is_told(&name).then(|| (name.into(), header.value.trim_ascii().into()))
    });
    fields.collect()
}

/// The path and the query of a target, which may be a whole URI (RFC 9112 section 3.2.2).
fn without_authority(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    rest.find(['/', '?']).map_or("/", |at| &rest[at..])
}

/// Fields by which somebody shows who they are, or which page has them do so.
const ALWAYS_TOLD: [&str; 4] = ["authorization", "cookie", "origin", "sec-websocket-protocol"];
/// What those are told who can be told neither yes nor no.
pub(super) const UNJUDGED: &str = "Who may do this cannot be found out at the moment.";

#[cfg(test)]
mod tests;
