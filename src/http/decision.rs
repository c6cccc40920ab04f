//! Which request gets what: the one place that knows all routes and the order of the checks.

use super::handshake;
use super::page;
use super::refusal::{Refusal, Refused};
use super::request::{Head, Method};
use super::response::Response;
use super::route::{self, Endpoint, Resolved, Route, Target};
use super::{Policy, Serving};
use crate::config::Authority;
use crate::wire::deflate::negotiation::Agreement;

/// What becomes of a request that is not refused.
pub(super) enum Decision {
    Upgrade {
        route: Route,
        /// The 101 response.
        response: Vec<u8>,
        compression: Option<Agreement>,
    },
    Serve(Response),
}

/// Decides in the order in which a person looks for a mistake: path, host, method, protocol,
/// handshake, origin, subprotocol, and whether there is room only for what is otherwise right.
pub(super) fn decide(
    head: &Head<'_>,
    policy: &Policy,
    serving: Serving,
    stats: &dyn Fn() -> String,
) -> Result<Decision, Refused> {
    let Resolved { target, query, authority } = route::resolve(head.target)?;
    let host = authority.or(head.host);
    // Who asks for health, such as Kubernetes, may know an address alone.
    if target != Target::Health {
        check_host(host, policy)?;
    }
    if head.method == Method::Other {
        let detail = "Only GET and HEAD are allowed here.";
        return Err(Refused::new(Refusal::MethodNotAllowed, detail));
    }
    // An HTTP/1.0 client cannot switch protocols, so its Upgrade is ignored (RFC 9110 section 7.8).
    let upgrades = head.upgrade_websocket && head.http_11 && head.method == Method::Get;
    let endpoint = match target {
        Target::Health => return Ok(Decision::Serve(health(serving))),
        Target::Stats => {
            return Ok(Decision::Serve(Response::new(200, "application/json", stats())));
        }
        Target::WebSocket(endpoint) if upgrades => endpoint,
        Target::WebSocket(Endpoint::Root) => return Ok(Decision::Serve(page::response())),
        Target::WebSocket(Endpoint::Echo | Endpoint::Broadcast(_)) => {
            let detail = "This is a WebSocket route; connect with ws:// over HTTP/1.1.";
            return Err(Refused::new(Refusal::UpgradeRequired, detail));
        }
    };
    let route = endpoint.route(query, policy.root)?;
    let (response, compression) = handshake::accept(head, host, policy, &route)?;
    match serving {
        Serving::Open => Ok(Decision::Upgrade { route, response, compression }),
        Serving::Full => Err(Refused::new(Refusal::Full, "The server is full.")),
        Serving::ShortOfMemory => {
            Err(Refused::new(Refusal::ShortOfMemory, "The server is short of memory."))
        }
        Serving::Draining => Err(Refused::new(Refusal::Draining, "The server is stopping.")),
    }
}

fn check_host(host: Option<Authority<'_>>, policy: &Policy) -> Result<(), Refused> {
    let is_allowed = |host| policy.allow_host.iter().any(|pattern| pattern.matches(host));
    if policy.allow_host.is_empty() || host.is_some_and(is_allowed) {
        return Ok(());
    }
    Err(Refused::new(Refusal::Misdirected, "This host is not served here."))
}

/// What a load balancer asks; a full server is a healthy one.
fn health(serving: Serving) -> Response {
    match serving {
        Serving::Open | Serving::Full | Serving::ShortOfMemory => Response::text(200, "ok\n"),
        Serving::Draining => Response::text(503, "draining\n").retry_later(),
    }
}
