//! Requests with tokens in all places, and what they are answered.

use std::cell::RefCell;

use crate::config::{Config, RefuseWith};
use crate::http::{Answer, Conditions, Exchange, Policy, Refusal, Route, Serving};
use crate::identity::Grants;

const UPGRADE: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const GOOD: &str = "good.to.ken";

/// A policy that asks for tokens and takes them from everywhere.
fn policy(change: impl FnOnce(&mut Config)) -> Policy {
    let mut config = Config::default();
    config.identity.jwt_keys = vec!["/key".parse().unwrap()];
    config.identity.jwt_cookie = Some("token".parse().unwrap());
    config.identity.jwt_query = true;
    config.allow_origin = vec!["https://a.org".parse().unwrap()];
    config.subprotocols = vec!["chat".parse().unwrap()];
    change(&mut config);
    Policy::new(&config)
}

/// The answer, and the tokens that were to be verified.
fn ask(policy: &Policy, request: &str) -> (Answer, Vec<Option<String>>) {
    let seen = RefCell::new(Vec::new());
    let granted = Grants {
        subscribe: vec!["news.*".parse().unwrap()],
        publish: vec!["wall".parse().unwrap()],
    };
    let verify = |token: Option<&str>| {
        seen.borrow_mut().push(token.map(str::to_owned));
        (token == Some(GOOD)).then(|| granted.clone())
    };
    let conditions = Conditions { verify: &verify, ..Conditions::unlimited(policy, Serving::Open) };
    let answer = Exchange::default().receive(request.as_bytes(), &conditions);
    (answer, seen.into_inner())
}

fn upgrade(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\n{UPGRADE}{fields}\r\n")
}

fn refused(policy: &Policy, request: &str) -> (Refusal, String) {
    match ask(policy, request).0 {
        Answer::Respond { response, refusal: Some(refusal), .. } => {
            (refusal, String::from_utf8_lossy(&response).into_owned())
        }
        answer => panic!("{request}: {answer:?}"),
    }
}

#[test]
fn without_a_token_the_certificate_says_what_is_granted() {
    let policy = policy(|_| ());
    let granted = || Grants { subscribe: vec!["a".parse().unwrap()], ..Grants::default() };
    let verify = |token: Option<&str>| token.is_none().then(granted);
    let conditions =
        Conditions { verify: &verify, ..Conditions::unlimited(&policy, Serving::Open) };
    for (target, fields, expected) in [
        ("/broadcast/a", "", None),
        ("/broadcast/b", "", Some(Refusal::NotGranted)),
        ("/broadcast/a", "Authorization: Bearer other\r\n", Some(Refusal::InvalidToken)),
    ] {
        let request = upgrade(target, fields);
        let refusal = match Exchange::default().receive(request.as_bytes(), &conditions) {
            Answer::Respond { refusal, .. } => refusal,
            _ => None,
        };
        assert_eq!(refusal, expected, "{target} {fields}");
    }
}

#[test]
fn a_token_may_be_in_four_places() {
    let policy = policy(|_| ());
    for (target, fields) in [
        ("/broadcast/news.a", format!("Authorization: Bearer {GOOD}\r\n")),
        ("/broadcast/news.a", format!("authorization: bearer   {GOOD} \r\n")),
        ("/broadcast/news.a", format!("Sec-WebSocket-Protocol: chat, ringwire.bearer.{GOOD}\r\n")),
        ("/broadcast/news.a", format!("Cookie: a=b; token={GOOD}; c=d\r\n")),
        ("/broadcast/news.a", format!("Cookie: a=b\r\nCookie: token=\"{GOOD}\"\r\n")),
        ("/broadcast/news.a?x=y&access_token=good%2Eto.ken", String::new()),
        // Twice the same is one.
        (
            "/broadcast/news.a?access_token=good.to.ken",
            format!("Cookie: token={GOOD}\r\nAuthorization: Bearer {GOOD}\r\n"),
        ),
        ("/echo", format!("Authorization: Bearer {GOOD}\r\n")),
    ] {
        let (answer, seen) = ask(&policy, &upgrade(target, &fields));
        let Answer::Upgrade { response, route, .. } = answer else {
            panic!("{target} {fields}: {answer:?}")
        };
        assert_eq!(seen, [Some(GOOD.to_owned())], "{target} {fields}");
        let response = String::from_utf8(response).unwrap();
        assert!(!response.contains(GOOD), "it is not repeated: {response}");
        if let Route::Broadcast { may_publish, .. } = route {
            assert!(!may_publish, "that is not granted");
        }
    }
}

#[test]
fn what_is_no_token_or_in_no_place_is_not_looked_at() {
    let closed = policy(|config| {
        config.identity.jwt_cookie = None;
        config.identity.jwt_query = false;
    });
    for (target, fields) in [
        ("/echo", "Authorization: Basic good.to.ken\r\n"),
        ("/echo", "Authorization: Bearergood.to.ken\r\n"),
        ("/echo", "Cookie: token=good.to.ken\r\n"),
        ("/echo?access_token=good.to.ken", ""),
        ("/echo", "Sec-WebSocket-Protocol: chat, ringwire.other\r\n"),
    ] {
        let (answer, seen) = ask(&closed, &upgrade(target, fields));
        assert_eq!(seen, [None], "{target} {fields}: {answer:?}");
    }
    let (_, seen) = ask(&policy(|_| ()), &upgrade("/echo", "Cookie: atoken=x; Token=y; token\r\n"));
    assert_eq!(seen, [None]);
    // Where nobody is asked for one, nothing is verified, and nobody refused for it.
    let open = Policy::new(&Config::default());
    let fields = "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\
                  Sec-WebSocket-Protocol: ringwire.bearer.c\r\n";
    let (answer, seen) = ask(&open, &upgrade("/echo?access_token=d", fields));
    assert!(matches!(answer, Answer::Upgrade { .. }) && seen.is_empty(), "{answer:?}");
}

#[test]
fn two_tokens_that_differ_are_refused_unseen() {
    let policy = policy(|_| ());
    for (target, fields) in [
        ("/echo", "Authorization: Bearer a\r\nCookie: token=b\r\n"),
        ("/echo", "Cookie: token=a; token=b\r\n"),
        ("/echo?access_token=a&access_token=b", ""),
        ("/echo?access_token=a", "Sec-WebSocket-Protocol: chat, ringwire.bearer.b\r\n"),
        ("/echo", "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n"),
    ] {
        let (answer, seen) = ask(&policy, &upgrade(target, fields));
        let Answer::Respond { refusal, .. } = answer else { panic!("{answer:?}") };
        assert_eq!((refusal, seen), (Some(Refusal::BadRequest), Vec::new()), "{target} {fields}");
    }
}

#[test]
fn answers_say_what_is_missing_and_not_why() {
    let policy = policy(|_| ());
    let realm = "WWW-Authenticate: Bearer realm=\"ringwire\"";
    for (target, fields, status, refusal, challenge) in [
        ("/broadcast/news.a", "", 401, Refusal::Unidentified, realm.to_owned()),
        ("/echo", "", 401, Refusal::Unidentified, realm.to_owned()),
        (
            "/echo",
            "Authorization: Bearer bad\r\n",
            401,
            Refusal::InvalidToken,
            format!("{realm}, error=\"invalid_token\""),
        ),
        (
            "/echo",
            "Authorization: Bearer\r\n",
            401,
            Refusal::InvalidToken,
            format!("{realm}, error=\"invalid_token\""),
        ),
        (
            "/broadcast/other",
            "Authorization: Bearer good.to.ken\r\n",
            403,
            Refusal::NotGranted,
            format!("{realm}, error=\"insufficient_scope\""),
        ),
        (
            // Who may only publish does so by POST.
            "/broadcast/wall",
            "Authorization: Bearer good.to.ken\r\n",
            403,
            Refusal::NotGranted,
            format!("{realm}, error=\"insufficient_scope\""),
        ),
    ] {
        for request in [
            upgrade(target, fields),
            format!("GET {target}?mode=stream HTTP/1.1\r\nHost: a\r\n{fields}\r\n"),
            format!("HEAD {target}?mode=stream HTTP/1.1\r\nHost: a\r\n{fields}\r\n"),
        ] {
            if target == "/echo" && !request.contains("Upgrade") {
                continue;
            }
            let (found, response) = refused(&policy, &request);
            assert_eq!(found, refusal, "{request}");
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{response}");
            assert!(response.contains(&format!("\r\n{challenge}\r\n")), "{response}");
            assert!(response.contains("\r\nConnection: keep-alive\r\n"), "{response}");
        }
    }
}

#[test]
fn posts_and_streams_are_judged_as_upgrades_are() {
    let policy = policy(|config| {
        config.identity.anonymous_subscribe = vec!["public".parse().unwrap()];
    });
    let token = "Authorization: Bearer good.to.ken\r\n";
    let post = |topic: &str, fields: &str| {
        format!("POST /broadcast/{topic} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{fields}\r\nx")
    };
    let stream = |topic: &str, fields: &str| {
        format!("GET /broadcast/{topic}?mode=stream HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    };
    for (request, refusal) in [
        (post("wall", token), None),
        (post("wall", ""), Some(Refusal::Unidentified)),
        (post("news.a", token), Some(Refusal::NotGranted)),
        (stream("news.a", token), None),
        (stream("news.a", ""), Some(Refusal::Unidentified)),
        (stream("wall", token), Some(Refusal::NotGranted)),
        (stream("public", ""), None),
        (stream("public", token), None),
        (upgrade("/echo", ""), None),
    ] {
        let found = match ask(&policy, &request).0 {
            Answer::Respond { refusal, .. } => refusal,
            Answer::Publish { .. } | Answer::Stream { .. } | Answer::Upgrade { .. } => None,
            answer => panic!("{request}: {answer:?}"),
        };
        assert_eq!(found, refusal, "{request}");
    }
}

#[test]
fn a_token_beside_no_subprotocol_is_told_to_have_one() {
    let request = upgrade("/echo", "Sec-WebSocket-Protocol: ringwire.bearer.good.to.ken\r\n");
    let (refusal, response) = refused(&policy(|_| ()), &request);
    assert_eq!(refusal, Refusal::NoSubprotocol);
    assert!(response.contains("beside the token"), "{response}");
}

#[test]
fn scripts_see_by_a_close_what_they_cannot_see_by_a_status() {
    let policy = policy(|config| config.peers.refuse_with = RefuseWith::Close);
    for (target, fields, code, reason) in [
        ("/broadcast/news.a", "", 3000_u16, "This takes a token"),
        ("/echo", "Authorization: Bearer bad\r\n", 3000, "The token is not valid"),
        (
            "/broadcast/other",
            "Authorization: Bearer good.to.ken\r\n",
            3003,
            "The token does not grant this",
        ),
    ] {
        let (_, response) = refused(&policy, &upgrade(target, fields));
        assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
        assert!(response.ends_with(reason), "{response}");
        let Answer::Respond { response, keep_alive, .. } = ask(&policy, &upgrade(target, fields)).0
        else {
            panic!("refused")
        };
        let frame = &response[response.len() - reason.len() - 4..];
        assert_eq!(frame[..2], [0x88, reason.len() as u8 + 2]);
        assert_eq!((&frame[2..4], keep_alive), (&code.to_be_bytes()[..], false));
        // What is no handshake gets a status as ever.
        let plain = format!("GET {target}?mode=stream HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert!(refused(&policy, &plain).1.starts_with("HTTP/1.1 4"));
    }
}

#[test]
fn pages_learn_that_their_user_has_to_show_who_that_is() {
    let policy = policy(|_| ());
    let stream = |origin: &str| {
        let fields = format!("Host: a\r\nOrigin: {origin}\r\n");
        refused(&policy, &format!("GET /broadcast/t?mode=stream HTTP/1.1\r\n{fields}\r\n")).1
    };
    let told = stream("https://a.org");
    assert!(told.starts_with("HTTP/1.1 401 "), "{told}");
    assert!(told.contains("Access-Control-Allow-Origin: https://a.org\r\n"), "{told}");
    assert!(told.contains("Access-Control-Allow-Credentials: true\r\n"), "{told}");
    assert!(!stream("https://b.org").contains("Access-Control"));
}

#[test]
fn nothing_is_verified_for_whoever_is_refused_anyhow() {
    let policy = policy(|_| ());
    let verify = |_: Option<&str>| -> Option<Grants> { panic!("it takes time that is not there") };
    let token = "Authorization: Bearer good.to.ken\r\n";
    let post = format!("POST /broadcast/t HTTP/1.1\r\nHost: a\r\n{token}\r\n");
    for (serving, refusal) in [
        (Serving::Overloaded, Refusal::Overloaded),
        (Serving::ShortOfMemory, Refusal::ShortOfMemory),
        (Serving::Draining, Refusal::Draining),
    ] {
        for request in [&upgrade("/echo", token), &post] {
            let conditions =
                Conditions { verify: &verify, ..Conditions::unlimited(&policy, serving) };
            let answer = Exchange::default().receive(request.as_bytes(), &conditions);
            let Answer::Respond { refusal: found, .. } = answer else { panic!("{answer:?}") };
            assert_eq!(found, Some(refusal), "{request}");
        }
    }
}
