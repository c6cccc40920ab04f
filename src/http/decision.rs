//! Which request gets what: the one place that knows all routes and the order of the checks.

use std::net::IpAddr;

use super::asking::Asking;
use super::call;
use super::conditions::Conditions;
use super::forwarded;
use super::handshake;
use super::origin;
use super::page;
use super::publish::Upload;
use super::redirect;
use super::refusal::{Refusal, Refused};
use super::request::{Head, Method};
use super::response::Response;
use super::route::{self, Endpoint, Resolved, Route, Target};
use super::sockjs::{self, Responding, SessionRequest};
use super::stream::Stream;
use super::{Policy, Serving};
use crate::admission::Denial;
use crate::config::{Authority, RefuseWith};
use crate::wire::deflate::negotiation::Agreement;
use crate::wire::header::close_frame;

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
    /// A session is to decide, and this is how that is answered.
    Session(Box<SessionRequest>, Responding),
    /// Another shard is to go on with it.
    Elsewhere(usize),
    /// Somebody is to be asked whether it is granted, for the client that a proxy tells of.
    Ask(Option<IpAddr>),
    /// An upgrade is refused in a way that scripts in browsers can see.
    Close {
        /// The 101 response, and a close frame.
        response: Vec<u8>,
        refusal: Refusal,
    },
}

/// Decides about a request of which so much is known, of a connection that perhaps may call the
/// API, and nothing else.
pub(super) fn decide(
    head: &Head<'_>,
    conditions: &Conditions<'_>,
    asking: &Asking,
    is_for_calls: bool,
) -> Result<Decision, Refused> {
    let policy = conditions.policy;
    let decision = decide_once(head, conditions, asking, is_for_calls);
    match decision.map_err(|refused| refused.challenged_by(policy))? {
        decision @ Decision::Close { .. } => Ok(decision),
        _ if asking.must_ask() => Ok(Decision::Ask(client(head, conditions))),
        decision => Ok(decision),
    }
}

/// The client for whom a trusted proxy asks, if one does.
fn client(head: &Head<'_>, conditions: &Conditions<'_>) -> Option<IpAddr> {
    let policy = conditions.policy;
    match conditions.is_trusted_proxy {
        true => forwarded::client(head, policy.forwarded_header, &policy.access),
        false => None,
    }
}

/// Decides in the order in which a person looks for a mistake: path, host, method, protocol,
/// handshake, origin, subprotocol, and whether there is room only for what is otherwise right.
fn decide_once(
    head: &Head<'_>,
    conditions: &Conditions<'_>,
    asking: &Asking,
    is_for_calls: bool,
) -> Result<Decision, Refused> {
    let Conditions { policy, serving, is_trusted_proxy, retry_after_s, .. } = *conditions;
    if let Some(port) = conditions.redirects_to
        && let Some(response) = redirect::response(head, port, policy)?
    {
        return Ok(Decision::Serve(response));
    }
    let has_api = is_for_calls || policy.has_api;
    let Resolved { target, query, authority } =
        route::resolve(head.target, &policy.mounts, policy.has_channels, has_api)?;
    if is_for_calls && !matches!(target, Target::Api(_) | Target::Health) {
        let detail = "Not found. Here are POST /api, POST /api/{method} and /healthz alone.";
        return Err(Refused::new(Refusal::NotFound, detail));
    }
    let host = authority.or(head.host);
    // Who asks for health, such as Kubernetes, may know an address alone.
    if target != Target::Health {
        check_host(host, policy)?;
    }
    let client = client(head, conditions);
    if !policy.access.allows(client) {
        return Err(Refused::denied(Denial::Network));
    }
    let granted = || match policy.permissions.depend_on_identity() {
        true => asking.grants(head, query, conditions),
        false => Ok(None),
    };
    // A page may know that it has to show who its user is.
    let readable = |refused: Refused| match origin::check(&head.origin, host, policy) {
        Ok(origin) if refused.refusal.depends_on_identity() => refused.readable_by(&origin),
        _ => refused,
    };
    // An HTTP/1.0 client cannot switch protocols, so its Upgrade is ignored (RFC 9110 section 7.8).
    let upgrades = head.upgrade_websocket && head.http_11 && head.method == Method::Get;
    let target = match target {
        Target::SockJs(below) => match below.upgraded(policy).filter(|_| upgrades) {
            Some(endpoint) => Target::WebSocket(endpoint),
            None => {
                let (below, granted) = (&below, &granted);
                let request = sockjs::Request { below, head, query, host, conditions, granted };
                return request.decide().map_err(readable);
            }
        },
        target => target,
    };
    match (&target, head.method) {
        (Target::Api(method), Method::Post) => {
            return call::accept(head, method.clone(), query, conditions).map(Decision::Receive);
        }
        (Target::Api(_), _) => return Err(Refused::method("Only POST is allowed here.", "POST")),
        (_, Method::Get | Method::Head) => {}
        (Target::WebSocket(Endpoint::Broadcast { topic, .. }), Method::Post) => {
            let upload = granted().and_then(|granted| {
                Upload::accept(head, topic.clone(), host, policy, serving, granted.as_ref())
            });
            return Ok(Decision::Receive(upload.map_err(readable)?));
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
    // Whoever is let in counts from then on, so this is asked last.
    let not_admitted = |topic: Option<&str>| {
        if asking.must_ask() {
            return serving.refused();
        }
        let no_member = || topic.and_then(|topic| (conditions.join)(topic).err());
        let denied = || if is_trusted_proxy { (conditions.admit)(client).err() } else { None };
        serving
            .refused()
            .or_else(|| no_member().map(Refused::no_member))
            .or_else(|| (conditions.reserve)().err().map(Refused::denied))
            .or_else(|| denied().map(Refused::denied))
    };
    let endpoint = match target {
        Target::Health => return Ok(Decision::Serve(health(serving, retry_after_s))),
        Target::Api(_) => {
            debug_assert!(false, "a call is received, and nothing else");
            return Err(Refused::method("Only POST is allowed here.", "POST"));
        }
        Target::WebSocket(endpoint) if upgrades => endpoint,
        Target::WebSocket(Endpoint::Root) => return Ok(Decision::Serve(page::response())),
        Target::WebSocket(Endpoint::Broadcast { topic, .. }) => {
            // What a HEAD asks about does not begin.
            let is_head = head.method == Method::Head;
            let name = topic.clone();
            let refused = || if is_head { serving.refused() } else { not_admitted(Some(&name)) };
            let stream = granted().and_then(|granted| {
                Stream::accept(head, topic, query, host, policy, granted.as_ref(), refused)
            });
            let stream = stream.map_err(readable)?;
            return Ok(match is_head {
                true => Decision::Serve(stream.response),
                false => Decision::Stream(stream),
            });
        }
        Target::SockJs(_) => {
            debug_assert!(false, "what upgrades to nothing has been decided about");
            return Err(Refused::new(Refusal::NotFound, "There is nothing here."));
        }
        Target::WebSocket(_) => {
            let detail = "This is a WebSocket route; connect with ws:// over HTTP/1.1.";
            return Err(Refused::new(Refusal::UpgradeRequired, detail));
        }
    };
    let routed = match endpoint {
        // Its first command says who asks.
        Endpoint::Session => route::session(query, handshake::session_subprotocol(head)),
        endpoint => granted().and_then(|granted| {
            endpoint.route(query, policy.root, &policy.permissions, granted.as_ref())
        }),
    };
    let closes = |refused: &Refused| {
        refused.refusal.close_code().filter(|_| policy.refuse_with == RefuseWith::Close)
    };
    let (route, refused) = match routed {
        Ok(route) => (route, None),
        // What the handshake says of a route does not matter to whoever is closed at once.
        Err(refused) if closes(&refused).is_some() => (Route::Echo, Some(refused)),
        Err(refused) => return Err(refused),
    };
    let (mut response, compression) = handshake::accept(head, host, policy, &route)?;
    let topic = match &route {
        Route::SockJs(route) => route.topic(),
        route => route.topic(),
    };
    let Some(refused) = refused.or_else(|| not_admitted(topic)) else {
        return Ok(Decision::Upgrade { route, response, compression });
    };
    let Some(code) = closes(&refused) else { return Err(refused) };
    response.extend(close_frame(code, &refused.reason(retry_after_s)));
    Ok(Decision::Close { response, refusal: refused.refusal })
}

pub(super) fn check_host(host: Option<Authority<'_>>, policy: &Policy) -> Result<(), Refused> {
    let is_allowed = |host| policy.allow_host.iter().any(|pattern| pattern.matches(host));
    if policy.allow_host.is_empty() || host.is_some_and(is_allowed) {
        return Ok(());
    }
    Err(Refused::new(Refusal::Misdirected, "This host is not served here."))
}

/// What a load balancer asks; a full server is a healthy one.
fn health(serving: Serving, retry_after_s: u8) -> Response {
    match serving {
        Serving::Open | Serving::Full | Serving::ShortOfMemory | Serving::Overloaded => {
            Response::text(200, "ok\n")
        }
        Serving::Draining => Response::text(503, "draining\n").retry_later(retry_after_s),
    }
}

/// What a broadcast path takes.
const BROADCAST_METHODS: &str = "GET, HEAD, OPTIONS, POST";
