//! Which request gets what: the one place that knows all routes and the order of the checks.

use super::handshake;
use super::origin;
use super::page;
use super::publish::Upload;
use super::refusal::{Refusal, Refused};
use super::request::{Head, Method};
use super::response::Response;
use super::route::{self, Endpoint, Resolved, Route, Target};
use super::stream::Stream;
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
    Stream(Stream),
    /// The body of a message is to be received.
    Receive(Upload),
}

/// Decides in the order in which a person looks for a mistake: path, host, method, protocol,
/// handshake, origin, subprotocol, and whether there is room only for what is otherwise right.
pub(super) fn decide(
    head: &Head<'_>,
    policy: &Policy,
    serving: Serving,
) -> Result<Decision, Refused> {
    let Resolved { target, query, authority } = route::resolve(head.target, &policy.mounts)?;
    let host = authority.or(head.host);
    // Who asks for health, such as Kubernetes, may know an address alone.
    if target != Target::Health {
        check_host(host, policy)?;
    }
    match (&target, head.method) {
        (_, Method::Get | Method::Head) => {}
        (Target::WebSocket(Endpoint::Broadcast { topic, .. }), Method::Post) => {
            let upload = Upload::accept(head, topic.clone(), host, policy, serving)?;
            return Ok(Decision::Receive(upload));
        }
        (Target::WebSocket(Endpoint::Broadcast { .. }), Method::Options) => {
            let origin = origin::check(&head.origin, host, policy)?;
            return Ok(Decision::Serve(origin.preflight(BROADCAST_METHODS)));
        }
        (Target::WebSocket(Endpoint::Broadcast { .. }), Method::Other) => {
            let detail = "Only GET, HEAD, OPTIONS and POST are allowed here.";
            return Err(Refused::method(detail, BROADCAST_METHODS));
        }
        (_, Method::Post | Method::Options | Method::Other) => {
            return Err(Refused::method("Only GET and HEAD are allowed here.", "GET, HEAD"));
        }
    }
    // An HTTP/1.0 client cannot switch protocols, so its Upgrade is ignored (RFC 9110 section 7.8).
    let upgrades = head.upgrade_websocket && head.http_11 && head.method == Method::Get;
    let endpoint = match target {
        Target::Health => return Ok(Decision::Serve(health(serving))),
        Target::WebSocket(endpoint) if upgrades => endpoint,
        Target::WebSocket(Endpoint::Root) => return Ok(Decision::Serve(page::response())),
        Target::WebSocket(Endpoint::Broadcast { topic, .. }) => {
            let stream = Stream::accept(head, topic, query, host, policy, serving)?;
            return Ok(match head.method {
                Method::Head => Decision::Serve(stream.response),
                _ => Decision::Stream(stream),
            });
        }
        Target::WebSocket(Endpoint::Echo) => {
            let detail = "This is a WebSocket route; connect with ws:// over HTTP/1.1.";
            return Err(Refused::new(Refusal::UpgradeRequired, detail));
        }
    };
    let route = endpoint.route(query, policy.root, &policy.permissions)?;
    let (response, compression) = handshake::accept(head, host, policy, &route)?;
    match serving.refused() {
        None => Ok(Decision::Upgrade { route, response, compression }),
        Some(refused) => Err(refused),
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

/// What a broadcast path takes.
const BROADCAST_METHODS: &str = "GET, HEAD, OPTIONS, POST";
