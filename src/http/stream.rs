//! A topic as a response that goes on for as long as its client listens.

use super::Policy;
use super::body::Framing;
use super::origin;
use super::query::Query;
use super::refusal::{Refusal, Refused};
use super::request::Head;
use super::response::Response;
use super::route::{authorize, exclude_self};
use crate::authorization::Action;
use crate::config::Authority;
use crate::identity::Grants;
use crate::wire::line::LineFraming;

/// What begins the stream of a topic.
pub(super) struct Stream {
    /// Its name, which [`Permissions::authorize`] has let pass.
    ///
    /// [`Permissions::authorize`]: crate::authorization::Permissions::authorize
    pub(super) topic: Box<str>,
    /// The head of the response.
    pub(super) response: Response,
    pub(super) framing: LineFraming,
}

impl Stream {
    /// Decides about a GET of a `topic` that asks for no upgrade, or the HEAD for it, in the order
    /// in which a person looks for a mistake: topic, query, body, origin, and whether the server
    /// has `refused` it for want of room.
    pub(super) fn accept(
        head: &Head<'_>,
        topic: Box<str>,
        query: &str,
        host: Option<Authority<'_>>,
        policy: &Policy,
        granted: Option<&Grants>,
        refused: impl FnOnce() -> Option<Refused>,
    ) -> Result<Self, Refused> {
        authorize(&policy.permissions, &topic, Action::Subscribe, granted)?;
        let query = Query::parse(query)?;
        match query.get("mode").as_deref() {
            Some("stream") => {}
            Some(_) => {
                let detail = "The mode can only be stream; a WebSocket needs none.";
                return Err(Refused::new(Refusal::BadRequest, detail));
            }
            None => {
                let detail = "Connect with ws:// over HTTP/1.1, or get messages as lines of a \
                     response with ?mode=stream.";
                return Err(Refused::new(Refusal::UpgradeRequired, detail));
            }
        }
        // Nobody publishes here, but what is no value is a mistake.
        exclude_self(query)?;
        if head.body != Framing::Absent {
            let detail = "A request for a stream has no body.";
            return Err(Refused::new(Refusal::BadRequest, detail));
        }
        let origin = origin::check(&head.origin, host, policy)?;
        if let Some(refused) = refused() {
            return Err(refused.readable_by(&origin));
        }
        let framing = if head.http_11 { LineFraming::Chunked } else { LineFraming::Bare };
        // Proxies keep back what they take for the beginning of a whole response; nginx heeds this.
        let response = Response::endless(TEXT, framing).header("X-Accel-Buffering", "no");
        Ok(Self { topic, response: origin.may_read(response), framing })
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::admission::Denial;
    use crate::authorization::Permissions;
    use crate::config::{BroadcastAccess, Config};
    use crate::http::{Answer, Conditions, Exchange, Serving};

    const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn policy() -> Policy {
        let allow_origin = vec!["https://a.org".parse().unwrap()];
        Policy { allow_origin, ..Policy::new(&Config::default()) }
    }

    fn answer(request: &str, policy: &Policy, serving: Serving) -> Answer {
        let conditions = Conditions::unlimited(policy, serving);
        Exchange::default().receive(request.as_bytes(), &conditions)
    }

    fn ask(line: &str, fields: &str) -> Answer {
        let request = format!("{line}\r\nHost: a\r\n{fields}\r\n");
        answer(&request, &policy(), Serving::Open)
    }

    fn refused(answer: Answer) -> (Refusal, String) {
        let Answer::Respond { response, refusal: Some(refusal), .. } = answer else {
            panic!("{answer:?}")
        };
        (refusal, String::from_utf8(response).unwrap())
    }

    #[test]
    fn a_stream_begins_with_a_head_of_its_own() {
        for (version, framing) in [("1.1", LineFraming::Chunked), ("1.0", LineFraming::Bare)] {
            let target = "/broadcast/caf%C3%A9?x=y&mode=stre%61m";
            let fields = "Host: a\r\nOrigin: https://a.org\r\nConnection: keep-alive\r\n";
            let request = format!("GET {target} HTTP/{version}\r\n{fields}\r\n");
            let answer = answer(&format!("{request}GET /"), &policy(), Serving::Open);
            let Answer::Stream { consumed, topic, response, framing: found } = answer else {
                panic!("{answer:?}")
            };
            assert_eq!((consumed, &*topic, found), (request.len(), "caf\u{e9}", framing));
            let response = String::from_utf8(response).unwrap();
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
            for field in [
                "Content-Type: text/plain; charset=utf-8",
                "Cache-Control: no-store",
                "X-Content-Type-Options: nosniff",
                "X-Accel-Buffering: no",
                "Connection: close",
                "Access-Control-Allow-Origin: https://a.org",
            ] {
                assert!(response.contains(&format!("\r\n{field}\r\n")), "{response}");
            }
            assert!(response.ends_with("\r\n\r\n") && !response.contains("Content-Length"));
            assert_eq!(
                response.contains("\r\nTransfer-Encoding: chunked\r\n"),
                framing == LineFraming::Chunked
            );
        }
    }

    #[test]
    fn head_tells_the_same_and_joins_nothing() {
        let answer = ask("HEAD /broadcast/t?mode=stream HTTP/1.1", "");
        let Answer::Respond { response, keep_alive: true, refusal: None, .. } = answer else {
            panic!("{answer:?}")
        };
        let response = String::from_utf8(response).unwrap();
        assert!(response.contains("\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n"));
        assert!(response.ends_with("\r\n\r\n"));
    }

    #[test]
    fn what_is_no_stream_is_refused_with_what_to_do() {
        for (line, fields, refusal, hint) in [
            ("GET /broadcast/t", "", Refusal::UpgradeRequired, "?mode=stream"),
            ("HEAD /broadcast/t?a=b", "", Refusal::UpgradeRequired, "Upgrade: websocket\r\n"),
            ("GET /broadcast?mode=", "", Refusal::BadRequest, "can only be stream"),
            ("GET /broadcast?mode=sse", "", Refusal::BadRequest, "can only be stream"),
            ("GET /broadcast/t?mode=stream&a=%", "", Refusal::BadRequest, "%25"),
            ("GET /broadcast/t?mode=stream&exclude_self=1", "", Refusal::BadRequest, "true or"),
            ("GET /broadcast/%00?mode=stream", "", Refusal::BadRequest, "Connection: close"),
            ("GET /broadcast?mode=stream", "Content-Length: 1\r\n", Refusal::BadRequest, "body"),
            ("GET /broadcast?mode=stream", "Origin: null\r\n", Refusal::Forbidden, "origin"),
            ("GET /echo?mode=stream", "", Refusal::UpgradeRequired, "ws://"),
        ] {
            let (reason, response) = refused(ask(&format!("{line} HTTP/1.1"), fields));
            assert_eq!(reason, refusal, "{line}");
            let is_head = line.starts_with("HEAD");
            assert!(is_head || response.contains(hint), "{line}: {response}");
        }
    }

    #[test]
    fn who_may_join_may_stream() {
        for (broadcast, is_allowed) in [
            (BroadcastAccess::Full, true),
            (BroadcastAccess::Post, true),
            (BroadcastAccess::None, false),
        ] {
            let policy =
                Policy { permissions: Permissions { broadcast, anonymous: None }, ..policy() };
            let request = "GET /broadcast?mode=stream HTTP/1.1\r\nHost: a\r\n\r\n";
            let answer = answer(request, &policy, Serving::Open);
            assert_eq!(matches!(answer, Answer::Stream { .. }), is_allowed, "{answer:?}");
            assert!(is_allowed || refused(answer).0 == Refusal::Forbidden);
        }
    }

    #[test]
    fn a_stream_needs_the_room_of_a_websocket() {
        for (serving, refusal) in [
            (Serving::Full, Refusal::Full),
            (Serving::ShortOfMemory, Refusal::ShortOfMemory),
            (Serving::Draining, Refusal::Draining),
        ] {
            let fields = "Host: a\r\nOrigin: https://a.org\r\n";
            let request = format!("GET /broadcast?mode=stream HTTP/1.1\r\n{fields}\r\n");
            let (reason, response) = refused(answer(&request, &policy(), serving));
            assert_eq!(reason, refusal);
            assert!(response.contains("\r\nAccess-Control-Allow-Origin: https://a.org\r\n"));
        }
    }

    /// A HEAD only asks, and counts for nothing.
    #[test]
    fn the_client_of_a_proxy_is_let_in_once_or_refused_readably() {
        let (asked, policy) = (Cell::new(0), policy());
        let admit = |_| {
            asked.set(asked.get() + 1);
            Err(Denial::AddressConnections)
        };
        let unlimited = Conditions::unlimited(&policy, Serving::Open);
        let conditions = Conditions { is_trusted_proxy: true, admit: &admit, ..unlimited };
        let ask = |method: &str| {
            let fields = "Host: a\r\nOrigin: https://a.org\r\n";
            let request = format!("{method} /broadcast?mode=stream HTTP/1.1\r\n{fields}\r\n");
            Exchange::default().receive(request.as_bytes(), &conditions)
        };
        assert!(matches!(ask("HEAD"), Answer::Respond { refusal: None, .. }));
        assert_eq!(asked.get(), 0);
        let (_, response) = refused(ask("GET"));
        assert!(response.starts_with("HTTP/1.1 429 "), "{response}");
        assert!(response.contains("\r\nAccess-Control-Allow-Origin: https://a.org\r\n"));
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn an_upgrade_is_one_whatever_the_mode() {
        let answer = ask("GET /broadcast/t?mode=stream HTTP/1.1", UPGRADE);
        assert!(matches!(answer, Answer::Upgrade { .. }), "{answer:?}");
    }
}
