//! The calls that concern connections: to see them, to close some, to send some away.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Refused, body, value};
use super::connection_id::ConnectionId;
use super::routes::Desk;
use crate::config::Topic;
use crate::shard::orders::{Errand, Farewell, Listed, Outcome};
use crate::wire::close::{CloseCode, REASON_BYTES_MAX};

/// What is to be listed.
#[derive(Debug, PartialEq, Eq)]
struct Selection {
    limit: usize,
    /// Those behind this one in the order of shards and places.
    after: Option<ConnectionId>,
    /// Those of one shard alone.
    shard: Option<usize>,
    /// Those of one user alone.
    user: Option<Arc<str>>,
}

/// A page of the connections.
pub(super) async fn list(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Refused> {
    let Selection { limit, after, shard, user } =
        selection(&uri, desk.calls.shards()).map_err(Refused::bad)?;
    let call = desk.calls.begin()?;
    let last_shard = shard.unwrap_or(desk.calls.shards() - 1);
    let first = (shard.unwrap_or_default(), 0);
    let behind = after.map(|id| (id.shard, id.key.index.saturating_add(1)));
    let (mut shard, mut from) = behind.unwrap_or(first).max(first);
    let (mut connections, mut last) = (Vec::new(), None);
    while shard <= last_shard && connections.len() < limit {
        let most = limit - connections.len();
        let errand = Errand::List { from, most, user: user.clone() };
        let outcome = call.ask(shard, errand).await?;
        let Outcome::Connections { connections: listed, next } = outcome else {
            debug_assert!(false, "an errand has the outcome of its kind");
            break;
        };
        last = listed.last().map(|it| ConnectionId { shard, key: it.key }).or(last);
        connections.extend(listed.iter().map(|listed| described(shard, listed)));
        (shard, from) = next.map_or((shard + 1, 0), |next| (shard, next));
    }
    // Nothing may be left behind the last one, but only the next page would tell.
    let next = last.filter(|_| shard <= last_shard).map(|id| id.to_string());
    Ok(value(StatusCode::OK, &json!({ "connections": connections, "next": next })))
}

/// What a query asks for.
///
/// # Errors
/// What is wrong with it.
fn selection(uri: &Uri, shards: usize) -> Result<Selection, String> {
    let mut selection = Selection { limit: LIMIT_DEFAULT, after: None, shard: None, user: None };
    let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| format!("The query cannot be read: {error}."))?;
    for (name, text) in parameters {
        let number = || text.parse::<usize>().ok();
        match &*name {
            "limit" => {
                let limit = number().filter(|limit| (1..=LIMIT_MOST).contains(limit));
                selection.limit =
                    limit.ok_or_else(|| format!("limit is a number from 1 to {LIMIT_MOST}."))?;
            }
            "after" => {
                let id =
                    text.parse().map_err(|error| format!("after names no connection: {error}."));
                selection.after = Some(id?);
            }
            "shard" => {
                let shard = number().filter(|shard| *shard < shards);
                let most = shards - 1;
                selection.shard =
                    Some(shard.ok_or_else(|| format!("shard is a number from 0 to {most}."))?);
            }
            "user" => selection.user = Some(text.into()),
            _ => {
                return Err(format!("{name} is unknown; there are limit, after, shard and user."));
            }
        }
    }
    Ok(selection)
}

fn described(shard: usize, listed: &Listed) -> Value {
    let Listed { key, address, user, state, service, topics, waits_for, .. } = listed;
    let topics: Vec<_> = topics.iter().map(|topic| &**topic).collect();
    json!({
        "id": ConnectionId { shard, key: *key }.to_string(),
        "shard": shard,
        "address": address,
        "user": user,
        "protocol": if service.is_some() { "websocket" } else { "http" },
        "service": service,
        "topics": topics,
        "state": state,
        "waits_for": waits_for,
        "backlog_bytes": listed.backlog_bytes,
        "silent_ms": listed.silent.as_millis() as u64,
    })
}

/// Closes one connection.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    id: String,
    code: u16,
    #[serde(default)]
    reason: String,
}

/// Closes the connection that the request names.
pub(super) async fn close(
    State(desk): State<Arc<Desk>>,
    request: Request,
) -> Result<Response, Refused> {
    let Close { id, code, reason } = body(request).await?;
    let unknown = |text: String| Refused::new(StatusCode::NOT_FOUND, text);
    let ConnectionId { shard, key } =
        id.parse().map_err(|error| Refused::bad(format!("id: {error}.")))?;
    let farewell = farewell(code, reason)?;
    if shard >= desk.calls.shards() {
        return Err(unknown(format!("There is no shard {shard}.")));
    }
    let outcome = desk.calls.begin()?.ask(shard, Errand::Close { key, farewell }).await?;
    match outcome {
        Outcome::Closing(count) => {
            tracing::info!(id, code, "a connection is closed by request");
            Ok(value(StatusCode::OK, &json!({ "closing": count })))
        }
        Outcome::NotOpen => Err(Refused::new(
            StatusCode::CONFLICT,
            format!("Connection {id} is no open WebSocket: it is a request, or ends already."),
        )),
        Outcome::Moving => Err(Refused::new(
            StatusCode::CONFLICT,
            format!("Connection {id} moves to another shard, where it gets another id."),
        )),
        _ => Err(unknown(format!(
            "There is no connection {id}: it has ended, or moved to another shard and got another \
             id; GET /connections tells."
        ))),
    }
}

/// Closes the members of a topic.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseTopic {
    topic: String,
    code: u16,
    #[serde(default)]
    reason: String,
}

/// Closes the WebSockets that are members of the topic which the request names.
pub(super) async fn close_topic(
    State(desk): State<Arc<Desk>>,
    request: Request,
) -> Result<Response, Refused> {
    let CloseTopic { topic, code, reason } = body(request).await?;
    Topic::check(&topic).map_err(|error| Refused::bad(error.detail()))?;
    let farewell = farewell(code, reason)?;
    let call = desk.calls.begin()?;
    let errand = Errand::CloseTopic { topic: topic.clone(), farewell };
    let errands = (0..desk.calls.shards()).map(|shard| (shard, errand.clone()));
    let (count, response) = call.sum(errands, StatusCode::OK, "closing").await;
    tracing::info!(topic, code, count, "the members of a topic are closed by request");
    Ok(response)
}

/// Sends connections away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    count: u64,
    #[serde(default = "window_default")]
    seconds: u64,
}

fn window_default() -> u64 {
    WINDOW_SECONDS_DEFAULT
}

/// Sends as many connections away as the request says, those that have been silent for the longest.
pub(super) async fn release(
    State(desk): State<Arc<Desk>>,
    request: Request,
) -> Result<Response, Refused> {
    let Release { count, seconds } = body(request).await?;
    if count == 0 {
        return Err(Refused::bad("count is 0, and is at least 1."));
    }
    if seconds > WINDOW_SECONDS_MOST {
        return Err(Refused::bad(format!(
            "seconds is {seconds}, and at most {WINDOW_SECONDS_MOST}."
        )));
    }
    let call = desk.calls.begin()?;
    let shares = shares(count, &desk.standing.websockets_open());
    let (window, random) = (Duration::from_secs(seconds), RandomState::new());
    let errands = shares.into_iter().enumerate().filter(|(_, count)| *count > 0);
    let errands = errands.map(|(shard, count)| {
        let (count, seed) = (count as usize, random.hash_one(shard));
        (shard, Errand::Release { count, window, seed })
    });
    let (count, response) = call.sum(errands, StatusCode::ACCEPTED, "releasing").await;
    tracing::info!(count, seconds, "connections are sent away by request");
    Ok(response)
}

/// How many of `count` connections each shard gives up, of those that it has.
fn shares(count: u64, open: &[u64]) -> Vec<u64> {
    let total: u64 = open.iter().sum();
    let count = count.min(total);
    let mut before = 0;
    let mut shares = Vec::with_capacity(open.len());
    for open in open {
        // Between the shares of all up to here and of all before it: so they sum up to `count`.
        let share = |open: u64| {
            u64::try_from(u128::from(open) * u128::from(count) / u128::from(total.max(1)))
        };
        let (from, to) = (share(before), share(before + open));
        shares.push(to.unwrap_or_default() - from.unwrap_or_default());
        before += open;
    }
    shares
}

/// What closed connections are told.
///
/// # Errors
/// The refusal of what a close frame cannot say.
fn farewell(code: u16, reason: String) -> Result<Farewell, Refused> {
    if !CloseCode(code).may_be_sent_by_server() {
        return Err(Refused::bad(format!(
            "code is {code}, and a server closes with 1000 to 1003, 1007 to 1009, 1011 to 1014 or \
             3000 to 4999 (RFC 6455 section 7.4)."
        )));
    }
    if reason.len() > REASON_BYTES_MAX {
        return Err(Refused::bad(format!(
            "reason has {} bytes, and a close frame holds {REASON_BYTES_MAX}.",
            reason.len()
        )));
    }
    Ok(Farewell { code: CloseCode(code), reason })
}

/// Connections of a page, if the query says nothing, and at the most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MOST: usize = 1000;
/// Seconds within which connections are sent away, if the request says nothing, and at the most.
const WINDOW_SECONDS_DEFAULT: u64 = 10;
const WINDOW_SECONDS_MOST: u64 = 3600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Key;
    use proptest::prelude::*;

    #[test]
    fn a_query_is_read_and_what_is_wrong_with_it_is_named() {
        let all = |query| selection(&format!("/connections?{query}").parse().expect("a URI"), 2);
        let selection = Selection { limit: 100, after: None, shard: None, user: None };
        assert_eq!(all(""), Ok(selection));
        let user = Some("a|b c".into());
        let selection = Selection { limit: 100, after: None, shard: None, user };
        assert_eq!(all("&user=a%7Cb+c&"), Ok(selection));
        let after = ConnectionId { shard: 1, key: Key { index: 2, generation: 3 } };
        let selection = Selection { limit: 7, after: Some(after), shard: Some(1), user: None };
        assert_eq!(all("limit=7&after=1-2-3&shard=1"), Ok(selection));
        for (query, told) in [
            ("limit=0", "limit is a number from 1 to 1000."),
            ("limit=1001", "limit is a number from 1 to 1000."),
            ("limit", "limit is a number from 1 to 1000."),
            ("shard=2", "shard is a number from 0 to 1."),
            ("page=2", "page is unknown; there are limit, after, shard and user."),
        ] {
            assert_eq!(all(query), Err(told.to_owned()), "{query}");
        }
        assert!(all("after=x").is_err_and(|told| told.starts_with("after names no connection")));
    }

    proptest! {
        #[test]
        fn shares_are_even_and_sum_up(
            count in 1..5000u64,
            open in prop::collection::vec(0..1000u64, 1..9),
        ) {
            let total: u64 = open.iter().sum();
            let shares = shares(count, &open);
            prop_assert_eq!(shares.iter().sum::<u64>(), count.min(total));
            for (share, open) in shares.into_iter().zip(open) {
                let even = open * count.min(total) / total.max(1);
                prop_assert!(share <= open && share.abs_diff(even) <= 1, "{} of {}", share, open);
            }
        }
    }
}
