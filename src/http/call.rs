//! A call of the HTTP API: what its head must say. Its body is read as that of a message is, and
//! what comes of it is said later, by whoever does it.

use super::body::{Body, Framing};
use super::publish::{Upload, expects_continue};
use super::query::Query;
use super::refusal::{Refusal, Refused};
use super::request::{Field, Head};
use super::response::Response;
use super::{Conditions, Serving};

/// A call whose body is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// What it calls; `None` where the body says it.
    pub method: Option<Box<str>>,
    /// The parameters.
    pub body: Vec<u8>,
    /// Whether the status is to tell errors.
    pub is_transport_mode: bool,
}

/// What the head of a call says beside its body.
#[derive(Debug)]
pub(super) struct CallHead {
    pub(super) method: Option<Box<str>>,
    pub(super) is_transport_mode: bool,
}

/// Decides about the head of a call: whether who calls has a key, and whether the server takes
/// anything.
pub(super) fn accept(
    head: &Head<'_>,
    method: Option<Box<str>>,
    query: &str,
    conditions: &Conditions<'_>,
) -> Result<Upload, Refused> {
    let query = Query::parse(query)?.get("api_key");
    let (field, authorization) = (once(&head.api_key), once(&head.authorization));
    if !(conditions.may_call)(field, authorization, query.as_deref()) {
        return Err(Refused::new(Refusal::NoApiKey, "This takes a key of the API."));
    }
    let expects_continue = expects_continue(head)?;
    if let Some(refused) = conditions.serving.refused_body() {
        return Err(refused);
    }
    if head.body == Framing::Absent && method.is_none() {
        return Err(Refused::new(Refusal::BadRequest, "A call has a body."));
    }
    let body = Body::new(head.body, 0, conditions.policy.message_bytes)?;
    let is_transport_mode = matches!(head.error_mode, Field::Once(mode) if mode == b"transport");
    let keep_alive = head.keep_alive && conditions.serving == Serving::Open;
    Ok(Upload::of_call(CallHead { method, is_transport_mode }, body, expects_continue, keep_alive))
}

fn once<'a>(field: &Field<'a>) -> Option<&'a [u8]> {
    match field {
        Field::Once(value) => Some(value),
        Field::Absent | Field::Repeated => None,
    }
}

/// The response to a call, with what came of it.
pub(super) fn response(status: u16, body: String, keep_alive: bool) -> Vec<u8> {
    Response::json(status, body).encode(keep_alive, false)
}
