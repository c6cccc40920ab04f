//! The HTTP side of a listener: from the bytes of a fresh or kept-alive connection to a decision.
//!
//! Nothing here knows a socket or a clock. The caller hands what it received to the connection's
//! [`Exchange`] and sends the response; pipelined requests are answered one at a time, in order.

mod decision;
mod exchange;
mod handshake;
mod page;
mod policy;
mod refusal;
mod request;
mod response;
mod route;

pub use exchange::Exchange;
pub use policy::{Policy, Serving};
pub use refusal::Refusal;
pub use route::Route;

use decision::Decision;
use refusal::Refused;
use request::{Head, Method};

use crate::wire::deflate::negotiation::Agreement;

/// What to do with the bytes received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Receive more; never when [`Policy::request_head_bytes`] or more are there.
    Incomplete,
    /// Send the response and speak WebSocket from then on.
    Upgrade {
        /// Bytes of the request; those after it are frames.
        consumed: usize,
        /// What the connection is for.
        route: Route,
        /// The 101 response.
        response: Vec<u8>,
        /// What was agreed on compression, if anything was.
        compression: Option<Agreement>,
    },
    /// Send the response and go on or close.
    Respond {
        /// Bytes of the request; those after it are the next one, or meaningless without
        /// `keep_alive`.
        consumed: usize,
        /// The whole response.
        response: Vec<u8>,
        /// Whether another request may follow; otherwise close after the response.
        keep_alive: bool,
        /// Why the request was refused, for the counters; `None` when it was served.
        refusal: Option<Refusal>,
    },
}

/// Decides about the request at the start of `input`.
///
/// `stats` is called when the counters are asked for and returns them as JSON. Every input gets an
/// answer, and how the bytes were split on their way does not change it.
pub fn answer(
    input: &[u8],
    policy: &Policy,
    serving: Serving,
    stats: &dyn Fn() -> String,
) -> Answer {
    let parsed = Head::parse(input, policy.request_head_bytes, policy.request_headers);
    let (head, consumed) = match parsed {
        Ok(Some(complete)) => complete,
        Ok(None) => return Answer::Incomplete,
        Err(refused) => {
            let response = refused.response().encode(false, false);
            let refusal = Some(refused.refusal);
            return Answer::Respond { consumed: input.len(), response, keep_alive: false, refusal };
        }
    };
    let (response, refusal) = match decision::decide(&head, policy, serving, stats) {
        Ok(Decision::Upgrade { route, response, compression }) => {
            return Answer::Upgrade { consumed, route, response, compression };
        }
        Ok(Decision::Serve(response)) => (response, None),
        Err(refused) => (refused.response(), Some(refused.refusal)),
    };
    // A server that has no room or wants to stop does not keep connections for requests that may
    // never come.
    let keep_alive = head.keep_alive
        && serving == Serving::Open
        && refusal.is_none_or(Refusal::allows_keep_alive);
    let response = response.encode(keep_alive, head.method == Method::Head);
    Answer::Respond { consumed, response, keep_alive, refusal }
}

/// The response to a client whose request did not arrive in time: 408, and the connection closes
/// (RFC 9110 section 15.5.9).
pub fn timeout_response() -> Vec<u8> {
    let detail = "The request did not arrive in time.";
    Refused::new(Refusal::Timeout, detail).response().encode(false, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Root;
    use proptest::prelude::*;

    const UPGRADE: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn policy() -> Policy {
        Policy {
            root: Root::Echo,
            allow_host: Vec::new(),
            allow_origin: vec!["https://a.org".parse().unwrap()],
            subprotocols: vec!["chat".parse().unwrap()],
            subprotocol_required: false,
            compression: None,
            request_head_bytes: 1024,
            request_headers: 16,
        }
    }

    fn ask(input: &[u8], serving: Serving) -> Answer {
        answer(input, &policy(), serving, &|| "{\"open\":7}".to_owned())
    }

    /// A plain response: its text, whether the connection stays, and the refusal.
    fn respond(input: &str, serving: Serving) -> (String, bool, Option<Refusal>) {
        match ask(input.as_bytes(), serving) {
            Answer::Respond { consumed, response, keep_alive, refusal } => {
                let text = String::from_utf8(response).unwrap();
                let option = if keep_alive { "keep-alive\r\n" } else { "close\r\n" };
                assert_eq!(consumed, input.len());
                assert!(
                    text.contains("\r\nContent-Length: ") && text.contains("\r\nContent-Type: ")
                );
                assert!(text.split_once("\r\nConnection: ").unwrap().1.contains(option), "{text}");
                (text, keep_alive, refusal)
            }
            other => panic!("{input}: {other:?}"),
        }
    }

    fn plain(line: &str) -> (String, bool, Option<Refusal>) {
        respond(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), Serving::Open)
    }

    #[test]
    fn every_prefix_is_incomplete_and_the_rest_are_frames() {
        let text = format!("GET /broadcast/x?exclude_self=true HTTP/1.1\r\n{UPGRADE}");
        for length in 0..text.len() {
            assert_eq!(ask(&text.as_bytes()[..length], Serving::Open), Answer::Incomplete);
        }
        let with_frames = [text.as_bytes(), b"\x81\x80\0\0\0\0"].concat();
        for input in [text.as_bytes(), &with_frames] {
            let Answer::Upgrade { consumed, route, response, compression } =
                ask(input, Serving::Open)
            else {
                panic!("no upgrade");
            };
            assert_eq!(compression, None);
            assert_eq!(consumed, text.len());
            assert_eq!(route, Route::Broadcast { topic: "x".into(), exclude_self: true });
            assert!(response.starts_with(b"HTTP/1.1 101 ") && response.ends_with(b"=\r\n\r\n"));
        }
    }

    #[test]
    fn served_requests() {
        for (line, media_type, body) in [
            ("GET /", "text/html; charset=utf-8", "</html>\n"),
            ("GET /healthz", "text/plain; charset=utf-8", "\r\n\r\nok\n"),
            ("GET /stats", "application/json", "\r\n\r\n{\"open\":7}"),
        ] {
            let (get, keep_alive, refusal) = plain(line);
            assert!(get.starts_with("HTTP/1.1 200 OK\r\n") && get.ends_with(body), "{get}");
            assert!(get.contains(&format!("Content-Type: {media_type}\r\n")));
            assert!(keep_alive && refusal.is_none());
            let (head, ..) = plain(&line.replace("GET", "HEAD"));
            assert!(head.ends_with("\r\n\r\n") && get.starts_with(&head));
        }
    }

    /// Checks status, reason and persistence of a refusal, and that the response contains `field`.
    fn refused(request: &str, refusal: Refusal, field: &str) {
        let (text, keep_alive, actual) = respond(request, Serving::Open);
        let status = format!("HTTP/1.1 {} ", refusal.status());
        assert!(text.starts_with(&status) && text.contains(field), "{text}");
        assert_eq!(actual, Some(refusal), "{request}");
        assert_eq!(keep_alive, refusal.allows_keep_alive(), "{request}");
    }

    #[test]
    fn refusals_of_plain_requests() {
        let check = |line: &str, refusal, field| {
            refused(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), refusal, field);
        };
        check("GET /x", Refusal::NotFound, "Connection: keep-alive\r\n");
        check("POST /x", Refusal::NotFound, "");
        check("POST /echo", Refusal::MethodNotAllowed, "Allow: GET, HEAD\r\n");
        check("get /", Refusal::MethodNotAllowed, "Allow: GET, HEAD\r\n");
        check("GET /echo", Refusal::UpgradeRequired, "Upgrade: websocket\r\n");
        check("GET /echo", Refusal::UpgradeRequired, "Connection: Upgrade, keep-alive\r\n");
        check("HEAD /broadcast/t", Refusal::UpgradeRequired, "Upgrade: websocket\r\n");
        check("GET /broadcast/%00", Refusal::BadRequest, "Connection: close\r\n");
    }

    #[test]
    fn refusals_of_upgrades() {
        let check = |path: &str, from: &str, to: &str, refusal, field| {
            let fields = UPGRADE.replace(from, to);
            refused(&format!("GET {path} HTTP/1.1\r\n{fields}"), refusal, field);
        };
        let version = Refusal::VersionUnsupported;
        check("/x", "", "", Refusal::NotFound, "");
        check("/echo", "13", "7", version, "Sec-WebSocket-Version: 13\r\n");
        check("/echo", "13", "7", version, "Upgrade: websocket\r\n");
        check("/echo", "==", "=", Refusal::BadKey, "");
        check("/echo", "Host: a\r\n", "", Refusal::MissingHost, "");
        check("/", "Connection: Upgrade", "X: y", Refusal::BadRequest, "");
        check("/", "Host", "Origin: https://b.org\r\nHost", Refusal::Forbidden, "");
        check("/broadcast?exclude_self=x", "", "", Refusal::BadRequest, "");
    }

    #[test]
    fn hosts_are_checked_when_there_is_a_list() {
        let policy = Policy { allow_host: vec!["a.org".parse().unwrap()], ..policy() };
        let ask = |line: &str, host: &str| {
            let text = format!("{line}\r\n{host}\r\n");
            match answer(text.as_bytes(), &policy, Serving::Open, &String::new) {
                Answer::Respond { refusal, .. } => refusal,
                other => panic!("{text}: {other:?}"),
            }
        };
        for (line, host) in [
            ("GET / HTTP/1.1", "Host: A.org:7071\r\n"),
            ("GET http://a.org/ HTTP/1.1", "Host: evil.net\r\n"),
            ("GET /healthz HTTP/1.1", "Host: 10.0.0.1\r\n"),
        ] {
            assert_eq!(ask(line, host), None, "{line} {host}");
        }
        for (line, host) in [
            ("GET / HTTP/1.1", "Host: evil.net\r\n"),
            ("GET /stats HTTP/1.1", "Host: b.a.org\r\n"),
            ("POST /echo HTTP/1.1", "Host: evil.net\r\n"),
            ("GET http://evil.net/ HTTP/1.1", "Host: a.org\r\n"),
            ("GET / HTTP/1.0", ""),
        ] {
            assert_eq!(ask(line, host), Some(Refusal::Misdirected), "{line} {host}");
        }
    }

    #[test]
    fn upgrade_is_ignored_where_it_cannot_be() {
        for line in ["GET / HTTP/1.0", "HEAD / HTTP/1.1", "GET /healthz HTTP/1.1"] {
            let (text, _, refusal) = respond(&format!("{line}\r\n{UPGRADE}"), Serving::Open);
            assert!(text.starts_with("HTTP/1.1 200 ") && refusal.is_none(), "{text}");
        }
    }

    #[test]
    fn full_and_draining() {
        let upgrade = format!("GET /echo HTTP/1.1\r\n{UPGRADE}");
        let health = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        for (serving, refusal) in [
            (Serving::Full, Refusal::Full),
            (Serving::ShortOfMemory, Refusal::ShortOfMemory),
            (Serving::Draining, Refusal::Draining),
        ] {
            let (text, keep_alive, actual) = respond(&upgrade, serving);
            assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("Retry-After: "), "{text}");
            assert_eq!((keep_alive, actual), (false, Some(refusal)));
        }
        for serving in [Serving::Full, Serving::ShortOfMemory] {
            let (text, keep_alive, _) = respond(health, serving);
            assert!(text.ends_with("\r\n\r\nok\n") && !keep_alive);
        }
        let (text, keep_alive, refusal) = respond(health, Serving::Draining);
        assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("Retry-After: "), "{text}");
        assert!(text.ends_with("\r\n\r\ndraining\n") && !keep_alive && refusal.is_none());
    }

    #[test]
    fn a_body_is_never_taken_for_the_next_request() {
        let text = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n";
        let (_, keep_alive, refusal) = respond(text, Serving::Open);
        assert_eq!((keep_alive, refusal), (false, Some(Refusal::MethodNotAllowed)));
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let text =
            b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /x";
        let (mut rest, mut served) = (&text[..], 0);
        while let Answer::Respond { consumed, keep_alive: true, .. } = ask(rest, Serving::Open) {
            rest = &rest[consumed..];
            served += 1;
        }
        assert_eq!((rest, served), (&b"GET /x"[..], 2));
    }

    #[test]
    fn the_timeout_response_closes() {
        let text = String::from_utf8(timeout_response()).unwrap();
        assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
        assert!(text.contains("Connection: close\r\n"));
    }

    /// Bytes that get past the first checks more often than random ones do.
    fn requests() -> impl Strategy<Value = Vec<u8>> {
        let path = "(http://a)?/(echo|broadcast/|stats|)(%|%4|\\?|\\PC){0,20}";
        let fields = prop::sample::select(vec![UPGRADE, "Host: a\r\n", "Host: a\r\n\r\n"]);
        (path, fields, any::<Vec<u8>>()).prop_map(|(path, fields, rest)| {
            let head = format!("GET {path} HTTP/1.1\r\n{fields}");
            [head.as_bytes(), &rest].concat()
        })
    }

    proptest! {
        #[test]
        fn no_input_panics_or_is_consumed_beyond_its_end(
            input in prop_oneof![any::<Vec<u8>>(), requests()],
            limit in 0_usize..512,
        ) {
            let request_headers = limit % 80;
            let policy = Policy { request_head_bytes: limit, request_headers, ..policy() };
            match answer(&input, &policy, Serving::Open, &String::new) {
                Answer::Incomplete => prop_assert!(input.len() < limit),
                Answer::Upgrade { consumed, .. } | Answer::Respond { consumed, .. } => {
                    prop_assert!(consumed <= input.len());
                }
            }
        }
    }
}
