//! The HTTP side of a listener: from the bytes of a fresh or kept-alive connection to a decision.
//!
//! Nothing here knows a socket or a clock. The caller hands what it received to the connection's
//! [`Exchange`] and sends the response; pipelined requests are answered one at a time, in order.

mod asked;
mod asking;
mod basic;
mod bearer;
mod body;
pub mod call;
mod conditions;
mod decision;
mod exchange;
mod forwarded;
mod handshake;
mod origin;
mod page;
mod policy;
mod publish;
mod query;
mod redirect;
mod refusal;
mod request;
mod response;
mod route;
mod sockjs;
mod stream;

pub use asked::Asked;
pub use call::Called;
pub use conditions::Conditions;
pub use exchange::Exchange;
pub use policy::{Policy, Serving};
pub use publish::Posted;
pub use redirect::HTTPS_PORT;
pub use refusal::{Refusal, RetryAfter};
pub use route::Route;
pub use sockjs::{Answered, Reception, SessionAnswer, SessionKey, SessionRequest, Wish};

use crate::identity::Inquiry;
use crate::wire::deflate::negotiation::Agreement;
use crate::wire::line::LineFraming;

/// What to do with the bytes received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Receive more; never when [`Policy::request_head_bytes`] of a head or more are there.
    Incomplete,
    /// All of a message is here, and it may not be published yet: ask again later.
    Blocked {
        /// Bytes of the request.
        consumed: usize,
    },
    /// Ask somebody whether all of this is granted, and go on when that one has answered.
    Ask {
        /// Bytes of the request head.
        consumed: usize,
        /// What is to be asked.
        inquiry: Box<Inquiry>,
    },
    /// Send the response, and receive the body that the client keeps back until then.
    Continue {
        /// Bytes of the request head.
        consumed: usize,
        /// The 100 response.
        response: Vec<u8>,
    },
    /// Publish a message, send the response and go on or close.
    Publish {
        /// Bytes of the request.
        consumed: usize,
        /// The message.
        posted: Posted,
        /// The whole response.
        response: Vec<u8>,
        /// Whether another request may follow; otherwise close after the response.
        keep_alive: bool,
    },
    /// Do what is called, and then send the response that [`Exchange::finish_call`] makes.
    Call {
        /// Bytes of the request.
        consumed: usize,
        /// What is called.
        called: Box<Called>,
    },
    /// Go on with another shard, which has the session that the request is for.
    Elsewhere {
        /// Bytes of the request head.
        consumed: usize,
        /// The shard.
        shard: usize,
    },
    /// Do what is wanted of a session, and then send what [`Exchange::answer_session`] makes; or
    /// what [`Exchange::begin_stream`] does, and frames behind.
    Session {
        /// Bytes of the request.
        consumed: usize,
        /// What is wanted.
        request: Box<SessionRequest>,
    },
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
    /// Send the response, and then the messages of a topic for as long as both ends like.
    Stream {
        /// Bytes of the request; those after it mean nothing.
        consumed: usize,
        /// The topic's name, which [`Permissions::authorize`] has let pass.
        ///
        /// [`Permissions::authorize`]: crate::authorization::Permissions::authorize
        topic: Box<str>,
        /// The head of the response.
        response: Vec<u8>,
        /// How the messages are framed.
        framing: LineFraming,
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

impl Answer {
    /// The same answer without the first `bytes`, which came before.
    fn without(mut self, bytes: usize) -> Self {
        match &mut self {
            Self::Upgrade { consumed, .. }
            | Self::Stream { consumed, .. }
            | Self::Respond { consumed, .. } => {
                debug_assert!(*consumed >= bytes, "what came before was incomplete");
                *consumed -= bytes;
            }
            _ => debug_assert!(false, "only a head is kept"),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use proptest::prelude::*;

    const UPGRADE: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn policy() -> Policy {
        Policy {
            allow_origin: vec!["https://a.org".parse().unwrap()],
            subprotocols: vec!["chat".parse().unwrap()],
            message_bytes: 100,
            request_head_bytes: 1024,
            request_headers: 16,
            ..Policy::new(&Config::default())
        }
    }

    fn answer(input: &[u8], policy: &Policy, serving: Serving) -> Answer {
        let conditions = Conditions::unlimited(policy, serving);
        Exchange::default().receive(input, &conditions)
    }

    fn ask(input: &[u8], serving: Serving) -> Answer {
        answer(input, &policy(), serving)
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
            assert_eq!(
                route,
                Route::Broadcast { topic: "x".into(), may_publish: true, exclude_self: true }
            );
            assert!(response.starts_with(b"HTTP/1.1 101 ") && response.ends_with(b"=\r\n\r\n"));
        }
    }

    #[test]
    fn served_requests() {
        for (line, media_type, body) in [
            ("GET /", "text/html; charset=utf-8", "</html>\n"),
            ("GET /healthz", "text/plain; charset=utf-8", "\r\n\r\nok\n"),
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
        check("GET /stats", Refusal::NotFound, "");
        check("POST /x", Refusal::NotFound, "");
        check("POST /echo", Refusal::MethodNotAllowed, "Allow: GET, HEAD\r\n");
        check("get /", Refusal::MethodNotAllowed, "Allow: GET, HEAD\r\n");
        check("OPTIONS /echo", Refusal::MethodNotAllowed, "Allow: GET, HEAD\r\n");
        let methods = "Allow: GET, HEAD, OPTIONS, POST\r\n";
        check("PUT /broadcast/t", Refusal::MethodNotAllowed, methods);
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
        check("/broadcast?a=%", "", "", Refusal::BadRequest, "%25");
    }

    #[test]
    fn hosts_are_checked_when_there_is_a_list() {
        let policy = Policy { allow_host: vec!["a.org".parse().unwrap()], ..policy() };
        let ask = |line: &str, host: &str| {
            let text = format!("{line}\r\n{host}\r\n");
            match answer(text.as_bytes(), &policy, Serving::Open) {
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
            ("GET /echo HTTP/1.1", "Host: b.a.org\r\n"),
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
        let (refusal, response) = Exchange::default().time_out(false, 7);
        let text = String::from_utf8(response).unwrap();
        assert_eq!(refusal, Refusal::Timeout);
        assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
        assert!(text.contains("Connection: close\r\n"));
    }

    /// Bytes that get past the first checks more often than random ones do.
    fn requests() -> impl Strategy<Value = Vec<u8>> {
        let path = "(http://a)?/(echo|broadcast/|healthz|)(%|%4|\\?|\\PC){0,20}";
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
            let mut config = Config::default();
            config.backend.url = (limit % 2 == 1).then(|| "http://a/".parse().unwrap());
            let asking = Policy::new(&config);
            let policy = Policy {
                request_head_bytes: limit,
                request_headers,
                asks_with: asking.asks_with,
                permissions: asking.permissions,
                ..policy()
            };
            match answer(&input, &policy, Serving::Open) {
                Answer::Incomplete => prop_assert!(input.len() < limit),
                Answer::Blocked { consumed }
                | Answer::Ask { consumed, .. }
                | Answer::Continue { consumed, .. }
                | Answer::Publish { consumed, .. }
                | Answer::Call { consumed, .. }
                | Answer::Elsewhere { consumed, .. }
                | Answer::Session { consumed, .. }
                | Answer::Upgrade { consumed, .. }
                | Answer::Stream { consumed, .. }
                | Answer::Respond { consumed, .. } => prop_assert!(consumed <= input.len()),
            }
        }
    }
}
