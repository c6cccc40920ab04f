//! Requests that show a password, and what others are told where one would do.

use std::cell::Cell;

use super::CHALLENGE;
use crate::config::Config;
use crate::http::{Answer, Conditions, Exchange, Policy, Refusal, Serving};
use crate::identity::{Credentials, Denial, Grants, Identity, Inquiry, Judgement, NEVER_S};

/// `ann:secret`.
const ANN: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";

fn policy(change: impl FnOnce(&mut Config)) -> Policy {
    let mut config = Config::default();
    config.identity.basic_users = Some("/users".parse().unwrap());
    change(&mut config);
    Policy::new(&config)
}

fn with_keys(config: &mut Config) {
    config.identity.jwt_keys = vec!["/key".parse().unwrap()];
}

fn with_backend(config: &mut Config) {
    config.backend.url = Some("http://backend/".parse().unwrap());
}

fn stream(query: &str, fields: &str) -> String {
    format!("GET /broadcast/a?mode=stream{query} HTTP/1.1\r\nHost: a.org\r\n{fields}\r\n")
}

/// What is answered to a request about which this is said, if it is asked about.
fn answer(policy: &Policy, request: &str, said: Option<Judgement>) -> Answer {
    let mut exchange = Exchange::default();
    let open = Conditions::unlimited(policy, Serving::Open);
    let verify = |token: Option<&str>| (token == Some("good")).then(Grants::all);
    let conditions = Conditions { verify: &verify, ..open };
    let said = Cell::new(said);
    let judge = || said.take();
    match exchange.receive(request.as_bytes(), &conditions) {
        Answer::Ask { .. } => exchange.receive(b"", &Conditions { judge: &judge, ..conditions }),
        answer => answer,
    }
}

fn asked(policy: &Policy, request: &str) -> Inquiry {
    match answer(policy, request, None) {
        Answer::Ask { inquiry, .. } => *inquiry,
        answer => panic!("{answer:?}"),
    }
}

fn refusal(answer: Answer) -> (Refusal, String) {
    match answer {
        Answer::Respond { response, refusal: Some(refusal), .. } => {
            (refusal, String::from_utf8(response).unwrap())
        }
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn a_password_is_asked_about_and_nothing_else_of_its_request() {
    let fields = format!("Cookie: a=b\r\n{}", ANN.replace("Basic", "bASIC "));
    for change in [|_: &mut Config| (), with_keys, with_backend] {
        let inquiry = asked(&policy(change), &stream("", &fields));
        let login = inquiry.login.clone().expect("a password");
        assert_eq!((login.user(), login.password()), ("ann", "secret"));
        assert_eq!(Inquiry { login: None, ..inquiry }, Inquiry::default());
    }
    // What shows none is for the backend, if there is one; and so is a password without a list.
    assert_eq!(asked(&policy(with_backend), &stream("", "")).login, None);
    let no_list = policy(|config| {
        with_backend(config);
        config.identity.basic_users = None;
    });
    let inquiry = asked(&no_list, &stream("", ANN));
    assert_eq!((inquiry.login, &*inquiry.fields[0].1), (None, &b"Basic YW5uOnNlY3JldA=="[..]));
}

#[test]
fn the_answer_says_what_the_user_may_do() {
    let said = |topic: &str| {
        let grants = Grants { subscribe: vec![topic.parse().unwrap()], ..Grants::default() };
        let identity = Identity { user: Some("ann".into()), token_id: None, expires_s: NEVER_S };
        Some(Judgement::Allowed(Credentials { identity, grants }))
    };
    let policy = policy(with_keys);
    let answer = |judgement| answer(&policy, &stream("", ANN), judgement);
    assert!(matches!(answer(said("a")), Answer::Stream { .. }));
    assert_eq!(refusal(answer(said("b"))).0, Refusal::NotGranted);
    assert_eq!(refusal(answer(Some(Judgement::Unknown))).0, Refusal::Unjudged);
    let denied = Judgement::Denied(Denial::default());
    assert_eq!(refusal(answer(Some(denied))).0, Refusal::Unidentified);
}

#[test]
fn whoever_could_show_a_password_is_told_so() {
    let bearer = "Bearer realm=\"ringwire\"";
    let challenge = |policy: &Policy, fields: &str| {
        let (_, response) = refusal(answer(policy, &stream("", fields), None));
        assert!(response.starts_with("HTTP/1.1 401 "), "{response}");
        let mut lines = response.lines().filter_map(|it| it.strip_prefix("WWW-Authenticate: "));
        let line = lines.next().expect("a challenge").to_owned();
        assert_eq!(lines.next(), None);
        line
    };
    assert_eq!(challenge(&policy(|_| ()), ""), CHALLENGE);
    assert_eq!(challenge(&policy(|_| ()), "Authorization: Bearer x\r\n"), CHALLENGE);
    assert_eq!(challenge(&policy(with_keys), ""), format!("{bearer}, {CHALLENGE}"));
    let invalid = format!("{bearer}, error=\"invalid_token\", {CHALLENGE}");
    assert_eq!(challenge(&policy(with_keys), "Authorization: Bearer x\r\n"), invalid);
    for wrong in ["", "%", "bm9ib2R5", "OnNlY3JldA=="] {
        let fields = format!("Authorization: Basic {wrong}\r\n");
        assert_eq!(challenge(&policy(|_| ()), &fields), CHALLENGE, "{wrong}");
    }
    // What a backend says stays what it is.
    let denial = Denial { is_forbidden: false, challenge: Some("Digest a".into()) };
    let said = Some(Judgement::Denied(denial));
    let (_, response) = refusal(answer(&policy(with_backend), &stream("", ""), said));
    assert!(response.contains("\r\nWWW-Authenticate: Digest a\r\n"), "{response}");
}

#[test]
fn a_password_beside_another_or_a_token_is_refused() {
    let with_all = policy(|config| {
        with_keys(config);
        config.identity.jwt_query = true;
        config.identity.jwt_cookie = Some("t".parse().unwrap());
    });
    for (query, fields) in [
        ("&access_token=good", ANN.to_owned()),
        ("", format!("{ANN}Cookie: t=good\r\n")),
        ("", format!("{ANN}Sec-WebSocket-Protocol: ringwire.bearer.bad\r\n")),
        ("", ANN.repeat(2)),
        ("", format!("{ANN}Authorization: Bearer good\r\n")),
    ] {
        let (refusal, _) = refusal(answer(&with_all, &stream(query, &fields), None));
        assert_eq!(refusal, Refusal::BadRequest, "{query} {fields}");
    }
    let good = "Authorization: Bearer good\r\n";
    assert!(matches!(answer(&with_all, &stream("", good), None), Answer::Stream { .. }));
}

/// A browser that was told a password adds it to whatever any page asks for.
#[test]
fn pages_of_others_cannot_use_the_password_of_a_visitor() {
    let from = |origin: &str| stream("", &format!("Origin: https://{origin}\r\n{ANN}"));
    let closed = policy(|_| ());
    assert_eq!(refusal(answer(&closed, &from("evil.org"), None)).0, Refusal::Forbidden);
    assert!(asked(&closed, &stream("", &format!("Origin: http://a.org\r\n{ANN}"))).login.is_some());
    let open = policy(|config| config.allow_origin = vec!["https://b.org".parse().unwrap()]);
    assert_eq!(refusal(answer(&open, &from("evil.org"), None)).0, Refusal::Forbidden);
    assert!(asked(&open, &from("b.org")).login.is_some());
}
