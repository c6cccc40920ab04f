//! Tokens of clients, and everything that can be wrong with them.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::Identity as Settings;
use crate::identity::{Keys, Revocations};

const NOW_S: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of 32 bytes, no fewer..";
/// As long as clocks may differ.
const LEEWAY_S: u64 = 5;

fn trust_with(settings: &Settings, revoked: &str) -> Trust {
    let mut keys = Keys::default();
    keys.add(&"hs256:/k".parse().expect("a file"), SECRET, settings).expect("a key");
    let revocations = Arc::new(Revocations::parse(revoked).expect("a list"));
    Trust { keys: Arc::new(keys), revocations, ..Trust::default() }
}

fn trust() -> Trust {
    trust_with(&Settings::default(), "")
}

fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET).expect("a key");
    encode(&Header::new(Algorithm::HS256), claims, &key).expect("a token")
}

fn connect(claims: Value) -> Result<ConnectionToken, TokenError> {
    verify_connection(&trust(), &sign(&claims), NOW_S).result
}

fn subscribe(claims: Value) -> Result<SubscriptionToken, SubscriptionTokenError> {
    verify_subscription(&trust(), &sign(&claims), NOW_S, "chat:a", "42", "c1").result
}

fn bytes(text: &str) -> Option<Box<[u8]>> {
    Some(text.as_bytes().into())
}

#[test]
fn a_token_may_say_nothing_or_much() {
    let nobody = connect(json!({})).expect("a token");
    let expected = ConnectionToken {
        user: "".into(),
        token_id: None,
        expires_s: NEVER_S,
        info: None,
        channels: BTreeMap::new(),
        meta: None,
    };
    assert_eq!(nobody, expected);
    let token = connect(json!({
        "sub": "42", "jti": "t", "exp": NOW_S + 60, "nbf": NOW_S, "iat": NOW_S, "iss": "x",
        "info": { "name": "A" }, "meta": [1], "other": {}, "channels": ["a", "b"],
        "subs": {
            "b": {
                "info": 1, "b64data": "AP8=",
                "override": { "presence": { "value": true }, "join_leave": {} },
            },
            "c": { "data": null, "b64info": "YQ==", "override": null },
        },
    }));
    let token = token.expect("a token");
    assert_eq!((&*token.user, token.token_id.as_deref()), ("42", Some("t")));
    assert_eq!(token.expires_s, NOW_S + 60 + LEEWAY_S);
    assert_eq!((token.info, token.meta), (bytes(r#"{"name":"A"}"#), bytes("[1]")));
    let overrides =
        Overrides { presence: Some(true), join_leave: Some(false), ..Overrides::default() };
    let b = Grant { info: bytes("1"), data: Some([0, 255].into()), overrides };
    let c = Grant { info: bytes("a"), ..Grant::default() };
    let expected = [("a", Grant::default()), ("b", b), ("c", c)];
    assert!(token.channels.iter().map(|(name, it)| (&**name, it.clone())).eq(expected));
}

/// As `tests/config/centrifuge-python.toml` has it for a suite whose secret is `secret`.
#[test]
fn a_short_secret_may_be_padded() {
    let padded = include_bytes!("../../../tests/config/centrifuge-python.secret");
    let mut keys = Keys::default();
    let file = "hs256:/k".parse().expect("a file");
    keys.add(&file, padded, &Settings::default()).expect("a key");
    let trust = Trust { keys: Arc::new(keys), ..Trust::default() };
    // HMAC with SHA-256 of {"typ":"JWT","alg":"HS256"} and {"sub":"42"}, by the short one.
    let token = "eyJ0eXAiOiAiSldUIiwgImFsZyI6ICJIUzI1NiJ9.eyJzdWIiOiAiNDIifQ.FDUYizcJqU\
        44z5SdeiLAV-3IBnhX9ahHaLD6AWEJAEc";
    let token = verify_connection(&trust, token, NOW_S).result.expect("a token");
    assert_eq!(&*token.user, "42");
}

#[test]
fn times_end_the_token_and_the_session() {
    for (claims, expected) in [
        (json!({ "exp": NOW_S - LEEWAY_S }), Err(TokenError::Expired)),
        (json!({ "exp": NOW_S - LEEWAY_S + 1 }), Ok(NOW_S + 1)),
        (json!({ "exp": 1_800_000_009.5 }), Ok(NOW_S + 9 + LEEWAY_S)),
        (json!({ "exp": 0 }), Err(TokenError::Expired)),
        (json!({ "exp": NOW_S - 60, "expire_at": 0 }), Err(TokenError::Expired)),
        (json!({ "exp": NOW_S + 60, "expire_at": 0 }), Ok(NEVER_S)),
        (json!({ "exp": NOW_S + 60, "expire_at": NOW_S + 9 }), Ok(NOW_S + 9)),
        (json!({ "expire_at": NOW_S + 9 }), Ok(NOW_S + 9)),
        (json!({ "expire_at": NOW_S }), Err(TokenError::Expired)),
        (json!({ "nbf": NOW_S + LEEWAY_S }), Ok(NEVER_S)),
        (json!({ "nbf": NOW_S + LEEWAY_S + 1 }), Err(TokenError::Invalid(TokenFault::NotYetValid))),
    ] {
        let seen = connect(claims.clone()).map(|token| token.expires_s);
        assert_eq!(seen, expected, "{claims}");
    }
}

#[test]
fn what_is_there_and_wrong_makes_a_token_void() {
    for claims in [
        json!({ "exp": "1" }),
        json!({ "exp": null }),
        json!({ "expire_at": -1 }),
        json!({ "sub": 42 }),
        json!({ "sub": "a".repeat(256) }),
        json!({ "jti": "" }),
        json!({ "channel": "a" }),
        json!({ "channels": "a" }),
        json!({ "channels": [1] }),
        json!({ "subs": ["a"] }),
        json!({ "subs": { "a": 1 } }),
        json!({ "subs": { "a": { "b64data": "?" } } }),
        json!({ "subs": { "a": { "override": { "presence": true } } } }),
        json!({ "b64info": "YQ" }),
    ] {
        let seen = connect(claims.clone());
        assert_eq!(seen, Err(TokenError::Invalid(TokenFault::Claims)), "{claims}");
    }
}

#[test]
fn issuers_audiences_keys_and_revocations_count_here_too() {
    let settings = Settings {
        jwt_issuer: Some("me".parse().expect("a name")),
        jwt_audiences: vec!["chat".parse().expect("a name")],
        ..Settings::default()
    };
    let trust = trust_with(&settings, "user 13\ntoken t9\n");
    let fault = |claims: Value| {
        let seen = verify_connection(&trust, &sign(&claims), NOW_S);
        assert!(seen.cost > 0);
        seen.result.err()
    };
    let invalid = |fault| Some(TokenError::Invalid(fault));
    assert_eq!(fault(json!({ "iss": "me", "aud": ["chat", "b"] })), None);
    assert_eq!(fault(json!({ "aud": "chat" })), invalid(TokenFault::Issuer));
    assert_eq!(fault(json!({ "iss": "me", "aud": "b" })), invalid(TokenFault::Audience));
    let of = |sub: &str, jti: &str| json!({ "iss": "me", "aud": "chat", "sub": sub, "jti": jti });
    assert_eq!(fault(of("13", "t1")), invalid(TokenFault::Revoked));
    assert_eq!(fault(of("42", "t9")), invalid(TokenFault::Revoked));
    assert_eq!(fault(of("42", "t1")), None);

    let none = Trust::default();
    let seen = verify_connection(&none, &sign(&json!({})), NOW_S).result;
    assert_eq!(seen, Err(TokenError::Invalid(TokenFault::UnknownKey)));
    let mut forged = sign(&json!({ "sub": "42" }));
    forged.replace_range(forged.len() - 4..forged.len() - 2, "AA");
    let seen = verify_connection(&self::trust(), &forged, NOW_S).result;
    assert_eq!(seen, Err(TokenError::Invalid(TokenFault::Signature)));
    for text in ["", "invalid_token", "a.b.c", ".."] {
        let seen = verify_connection(&self::trust(), text, NOW_S).result;
        assert_eq!(seen, Err(TokenError::Invalid(TokenFault::Malformed)), "{text}");
    }
}

#[test]
fn tokens_of_channels_are_for_one_channel_user_and_client() {
    let token = subscribe(json!({
        "sub": "42", "channel": "chat:a", "client": "c1", "exp": NOW_S + 60, "jti": "t",
        "info": {}, "data": [1], "override": { "force_recovery": { "value": false } },
    }));
    let overrides = Overrides { force_recovery: Some(false), ..Overrides::default() };
    let expected = SubscriptionToken {
        token_id: Some("t".into()),
        expires_s: NOW_S + 60 + LEEWAY_S,
        grant: Grant { info: bytes("{}"), data: bytes("[1]"), overrides },
    };
    assert_eq!(token, Ok(expected));
    let mismatch = Some(SubscriptionTokenError::Mismatch);
    let claims = Some(SubscriptionTokenError::Invalid(TokenFault::Claims));
    let expired = Some(SubscriptionTokenError::Expired);
    for (said, expected) in [
        (json!({ "sub": "42", "channel": "chat:a" }), None),
        (json!({ "sub": "42", "channel": "chat:b" }), mismatch),
        (json!({ "sub": "43", "channel": "chat:a" }), mismatch),
        (json!({ "channel": "chat:a" }), mismatch),
        (json!({ "sub": "42", "channel": "chat:a", "client": "c2" }), mismatch),
        (json!({ "sub": "42", "channel": "chat:b", "exp": NOW_S - 60 }), expired),
        (json!({ "sub": "42", "channel": "chat:a", "expire_at": NOW_S - 1 }), expired),
        (json!({ "sub": "42" }), claims),
        (json!({ "sub": "42", "channel": "" }), claims),
        (json!({ "sub": "42", "channel": "chat:a", "b64info": "?" }), claims),
    ] {
        assert_eq!(subscribe(said.clone()).err(), expected, "{said}");
    }
}

#[test]
fn what_remains_is_told_in_whole_seconds() {
    for (expires_s, expected) in [
        (NEVER_S, None),
        (NOW_S + 60, Some(60)),
        (NOW_S, Some(1)),
        (NOW_S - 9, Some(1)),
        (NOW_S + 366 * 24 * 3600, Some(365 * 24 * 3600)),
        (NEVER_S - 1, Some(365 * 24 * 3600)),
    ] {
        assert_eq!(remaining_s(expires_s, NOW_S), expected, "{expires_s}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,80}|[-_.a-zA-Z0-9]{0,80}") {
        prop_assert!(verify_connection(&trust(), &text, NOW_S).result.is_err());
    }

    #[test]
    fn no_claims_panic(
        name in "sub|exp|nbf|expire_at|info|b64info|channels|subs|meta|channel",
        value in "[-\\[\\]{}:,\"0-9a-z.]{0,12}|\"[a-zA-Z0-9+/=]{0,9}\"|-?[0-9]{1,22}",
    ) {
        if let Ok(value) = serde_json::from_str::<Value>(&value) {
            let _ = connect(json!({ &name: value.clone() }));
            let _ = subscribe(json!({ "channel": "chat:a", "sub": "42", name: value }));
        }
    }
}
