//! Requests about which somebody is asked, and what becomes of them.

use std::cell::{Cell, RefCell};

use crate::config::Config;
use crate::http::{Answer, Conditions, Exchange, Policy, Refusal, Route, Serving};
use crate::identity::{Credentials, Denial, Grants, Identity, Inquiry, Judgement, NEVER_S};

const UPGRADE: &str = "Host: a:81\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn policy(change: impl FnOnce(&mut Config)) -> Policy {
    let mut config = Config::default();
    config.backend.url = Some("http://backend/".parse().unwrap());
    config.backend.fields = vec!["X-Key".parse().unwrap()];
    change(&mut config);
    Policy::new(&config)
}

fn upgrade(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{UPGRADE}{fields}\r\n")
}

fn allowed(subscribe: &str, publish: &str) -> Judgement {
    let patterns = |text: &str| text.split_whitespace().map(|it| it.parse().unwrap()).collect();
    let grants = Grants { subscribe: patterns(subscribe), publish: patterns(publish) };
    let identity = Identity { user: None, token_id: None, expires_s: NEVER_S };
    Judgement::Allowed(Credentials { identity, grants })
}

/// What is asked about a request, and the exchange that waits; the request may come in parts.
fn asked(policy: &Policy, parts: &[&str]) -> (Exchange, Inquiry) {
    let mut exchange = Exchange::default();
    let refuse_all = |_: &str| -> Result<(), crate::admission::JoinDenial> {
        panic!("nobody joins who has not been judged")
    };
    let conditions =
        Conditions { join: &refuse_all, ..Conditions::unlimited(policy, Serving::Open) };
    let (last, others) = parts.split_last().expect("a part");
    for part in others {
        assert_eq!(exchange.receive(part.as_bytes(), &conditions), Answer::Incomplete);
    }
    match exchange.receive(last.as_bytes(), &conditions) {
        Answer::Ask { consumed, inquiry } => {
            let end = last.find("\r\n\r\n").map_or(last.len(), |at| at + 4);
            assert_eq!(consumed, end, "the head and no more");
            assert!(exchange.awaits_judgement() && exchange.can_go_on());
            (exchange, *inquiry)
        }
        answer => panic!("{answer:?}"),
    }
}

/// What is answered when somebody has said this, and `rest` follows the head.
fn answer_to(policy: &Policy, request: &str, said: Judgement, rest: &[u8]) -> Answer {
    let (mut exchange, _) = asked(policy, &[request]);
    let said = Cell::new(Some(said));
    let judge = || said.take();
    let conditions = Conditions { judge: &judge, ..Conditions::unlimited(policy, Serving::Open) };
    let answer = exchange.receive(rest, &conditions);
    assert!(!exchange.awaits_judgement());
    answer
}

fn refusal(answer: Answer) -> (Refusal, String) {
    match answer {
        Answer::Respond { response, refusal: Some(refusal), .. } => {
            (refusal, String::from_utf8_lossy(&response).into_owned())
        }
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn what_is_asked_is_what_the_request_says() {
    let policy = policy(|_| ());
    let fields =
        "Cookie: a=b\r\nX-KEY:  1 \r\ncookie: c\r\nX-Other: no\r\nAuthorization: Basic x\r\n";
    let request = upgrade("/broadcast/a?access_token=t", fields);
    let (_, inquiry) = asked(&policy, &[&request]);
    let told: Vec<_> = inquiry.fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(
        told,
        [("cookie", &b"a=b"[..]), ("x-key", b"1"), ("cookie", b"c"), ("authorization", b"Basic x"),]
    );
    assert_eq!((&*inquiry.method, &*inquiry.target), ("GET", "/broadcast/a?access_token=t"));
    assert_eq!(inquiry.host.as_deref(), Some("a:81"));
    assert!(inquiry.held_bytes() > 60);
    // However it comes, and in whichever form.
    for at in 1..request.len() {
        assert_eq!(asked(&policy, &[&request[..at], &request[at..]]).1, inquiry, "{at}");
    }
    let absolute = upgrade("http://a:81/broadcast/a?access_token=t", fields);
    assert_eq!(asked(&policy, &[&absolute]).1, inquiry);
}

#[test]
fn the_answer_decides() {
    let policy = policy(|_| ());
    let request = upgrade("/broadcast/news", "");
    let route = |judgement| match answer_to(&policy, &request, judgement, b"") {
        Answer::Upgrade {
            consumed: 0, route: Route::Broadcast { topic, may_publish, .. }, ..
        } => {
            assert_eq!(&*topic, "news");
            may_publish
        }
        answer => panic!("{answer:?}"),
    };
    assert!(route(allowed("**", "**")));
    assert!(!route(allowed("news", "other")));
    let refused = |judgement| refusal(answer_to(&policy, &request, judgement, b""));
    assert_eq!(refused(allowed("other", "news")).0, Refusal::NotGranted);
    let denied = |is_forbidden, challenge: Option<&str>| {
        refused(Judgement::Denied(Denial { is_forbidden, challenge: challenge.map(Box::from) }))
    };
    let (refusal, response) = denied(false, Some("Basic realm=\"b\""));
    assert_eq!(refusal, Refusal::Unidentified);
    assert!(response.contains("\r\nWWW-Authenticate: Basic realm=\"b\"\r\n"), "{response}");
    assert!(denied(false, None).1.contains("\r\nWWW-Authenticate: Bearer realm=\"ringwire\"\r\n"));
    let (refusal, response) = denied(true, None);
    assert_eq!(refusal, Refusal::Denied);
    assert!(response.starts_with("HTTP/1.1 403 ") && !response.contains("WWW-Authenticate"));
    let (refusal, response) = refused(Judgement::Unknown);
    assert_eq!(refusal, Refusal::Unjudged);
    assert!(response.contains("\r\nRetry-After: "), "{response}");
}

#[test]
fn bodies_and_streams_wait_for_the_answer_as_well() {
    let policy = policy(|_| ());
    let post = "POST /broadcast/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
    let answer = answer_to(&policy, post, allowed("", "a"), b"hi");
    assert!(matches!(answer, Answer::Publish { consumed: 2, keep_alive: true, .. }), "{answer:?}");
    let answer = answer_to(&policy, post, allowed("a", ""), b"hi");
    assert!(matches!(answer, Answer::Respond { consumed: 0, keep_alive: false, .. }));
    let expects = post.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let answer = answer_to(&policy, &expects, allowed("", "a"), b"");
    assert!(matches!(answer, Answer::Continue { consumed: 0, .. }), "{answer:?}");
    for (method, streams) in [("GET", true), ("HEAD", false)] {
        let request = format!("{method} /broadcast/a?mode=stream HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = answer_to(&policy, &request, allowed("a", ""), b"");
        assert_eq!(matches!(answer, Answer::Stream { consumed: 0, .. }), streams, "{answer:?}");
        let answer = answer_to(&policy, &request, allowed("", "a"), b"");
        assert_eq!(refusal(answer).0, Refusal::NotGranted);
    }
}

#[test]
fn nobody_is_asked_about_what_is_refused_or_served_anyhow() {
    let policy = policy(|config| config.allow_origin = vec!["https://a.org".parse().unwrap()]);
    let answer = |serving, request: &str| {
        let conditions = Conditions::unlimited(&policy, serving);
        Exchange::default().receive(request.as_bytes(), &conditions)
    };
    for (serving, request, status) in [
        (Serving::Open, upgrade("/nowhere", ""), "404"),
        (Serving::Open, upgrade("/broadcast/a", "Origin: https://evil.org\r\n"), "403"),
        (Serving::Open, upgrade("/broadcast/a?exclude_self=maybe", ""), "400"),
        (Serving::Full, upgrade("/broadcast/a", ""), "503"),
        (Serving::Draining, upgrade("/broadcast/a", ""), "503"),
        (Serving::Open, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "200"),
        (Serving::Open, "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "200"),
    ] {
        match answer(serving, &request) {
            Answer::Respond { response, .. } => {
                assert_eq!(&response[9..12], status.as_bytes(), "{request}");
            }
            answer => panic!("{request}: {answer:?}"),
        }
    }
}

#[test]
fn tokens_are_looked_at_here_where_there_are_keys() {
    let with_keys = policy(|config| config.identity.jwt_keys = vec!["/key".parse().unwrap()]);
    let seen = RefCell::new(Vec::new());
    let verify = |token: Option<&str>| {
        seen.borrow_mut().push(token.map(str::to_owned));
        (token == Some("good")).then(Grants::all)
    };
    let answer = |token: &str| {
        let request = upgrade("/echo", &format!("Authorization: {token}\r\n"));
        let unlimited = Conditions::unlimited(&with_keys, Serving::Open);
        let conditions = Conditions { verify: &verify, ..unlimited };
        Exchange::default().receive(request.as_bytes(), &conditions)
    };
    assert!(matches!(answer("Bearer good"), Answer::Upgrade { .. }));
    assert_eq!(refusal(answer("Bearer bad")).0, Refusal::InvalidToken);
    assert!(matches!(answer("Basic x"), Answer::Ask { .. }), "it is no token");
    let tokens: Vec<_> = seen.take();
    // Without one it is asked whether a certificate says who it is.
    assert_eq!(tokens, [Some("good".to_owned()), Some("bad".to_owned()), None]);
    // Without keys it is for whoever is asked.
    let (_, inquiry) = asked(&policy(|_| ()), &[&upgrade("/echo", "Authorization: Bearer x\r\n")]);
    assert_eq!(&*inquiry.fields[0].1, b"Bearer x");
}

#[test]
fn an_answer_is_for_the_request_that_has_waited() {
    let policy = policy(|_| ());
    let request = upgrade("/broadcast/a", "");
    // Something is there to be taken, but not for a request that nobody was asked about.
    let judge = || panic!("nothing was asked");
    let conditions = Conditions { judge: &judge, ..Conditions::unlimited(&policy, Serving::Open) };
    let answer = Exchange::default().receive(request.as_bytes(), &conditions);
    assert!(matches!(answer, Answer::Ask { .. }));
    // Without an answer it is asked about once more.
    let (mut exchange, first) = asked(&policy, &[&request]);
    let answer = exchange.receive(b"", &Conditions::unlimited(&policy, Serving::Open));
    assert_eq!(answer, Answer::Ask { consumed: 0, inquiry: first.into() });
    // Settings that ask nobody let it go on.
    let nobody = Policy::new(&Config::default());
    let answer = exchange.receive(b"", &Conditions::unlimited(&nobody, Serving::Open));
    assert!(matches!(answer, Answer::Upgrade { consumed: 0, .. }), "{answer:?}");
    let (mut exchange, _) = asked(&policy, &[&request]);
    let (refusal, response) = exchange.time_out(true, 5);
    assert_eq!((refusal, &response[9..12]), (Refusal::Unjudged, &b"503"[..]));
    assert!(exchange.is_ended() && !exchange.awaits_judgement());
}
