//! Tokens of every algorithm, and everything that can be wrong with them and with keys.

use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::{Identity as Settings, KeyFile};

const NOW_S: u64 = 1_800_000_000;
const SECRET: &[u8] = b"a secret of 64 bytes, which is as many as HMAC with SHA-512 wants";
const RSA: &str = include_str!("../../../tests/keys/rsa.pem");
const P256: &str = include_str!("../../../tests/keys/p256.pem");
const P384: &str = include_str!("../../../tests/keys/p384.pem");
const ED25519: &str = include_str!("../../../tests/keys/ed25519.pem");
const RSA_PRIVATE: &str = include_str!("../../../tests/keys/rsa.private.pem");
const P256_PRIVATE: &str = include_str!("../../../tests/keys/p256.private.pem");
const P384_PRIVATE: &str = include_str!("../../../tests/keys/p384.private.pem");
const ED25519_PRIVATE: &str = include_str!("../../../tests/keys/ed25519.private.pem");

fn key_file(text: &str) -> KeyFile {
    text.parse().expect("a file")
}

fn load(files: &[(&str, &[u8])], settings: &Settings) -> Result<Keys, KeyFault> {
    let mut keys = Keys::default();
    files.iter().try_for_each(|(name, text)| keys.add(&key_file(name), text, settings))?;
    Ok(keys)
}

fn keys(files: &[(&str, &[u8])]) -> Keys {
    load(files, &Settings::default()).expect("keys")
}

fn signing_key(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(P256_PRIVATE.as_bytes()).unwrap(),
        Algorithm::ES384 => EncodingKey::from_ec_pem(P384_PRIVATE.as_bytes()).unwrap(),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(ED25519_PRIVATE.as_bytes()).unwrap(),
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            EncodingKey::from_secret(SECRET).unwrap()
        }
        _ => EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).unwrap(),
    }
}

fn secret_key(secret: &[u8]) -> EncodingKey {
    EncodingKey::from_secret(secret).expect("a secret")
}

fn sign_with(header: &Header, claims: &Value) -> String {
    encode(header, claims, &signing_key(header.alg)).expect("a token")
}

fn sign(algorithm: Algorithm, claims: &Value) -> String {
    sign_with(&Header::new(algorithm), claims)
}

fn fault_of(keys: &Keys, token: &str) -> Option<TokenFault> {
    keys.verify(token, NOW_S).result.err()
}

fn claims() -> Value {
    json!({ "sub": "user", "jti": "token", "exp": NOW_S + 60, "ringwire": { "publish": ["a.*"] } })
}

#[test]
fn both_lists_of_algorithms_have_one_order() {
    for (place, (ours_of, theirs_of)) in ALGORITHMS.into_iter().enumerate() {
        assert_eq!(ours_of as usize, place);
        assert_eq!((theirs(ours_of), ours(theirs_of)), (theirs_of, ours_of));
        assert_eq!(format!("{theirs_of:?}").to_lowercase(), ours_of.name());
    }
}

#[test]
fn every_algorithm_verifies_what_its_key_has_signed_and_nothing_else() {
    let files: [(&str, &[u8]); 12] = [
        ("hs256:/k", SECRET),
        ("hs384:/k", SECRET),
        ("hs512:/k", SECRET),
        ("/k", RSA.as_bytes()),
        ("rs384:/k", RSA.as_bytes()),
        ("rs512:/k", RSA.as_bytes()),
        ("ps256:/k", RSA.as_bytes()),
        ("ps384:/k", RSA.as_bytes()),
        ("ps512:/k", RSA.as_bytes()),
        ("/k", P256.as_bytes()),
        ("es384:/k", P384.as_bytes()),
        ("/k", ED25519.as_bytes()),
    ];
    let expected = Credentials {
        identity: Identity {
            user: Some("user".into()),
            token_id: Some("token".into()),
            expires_s: NOW_S + 65,
        },
        grants: Grants { subscribe: Vec::new(), publish: vec!["a.*".parse().unwrap()] },
    };
    let all = keys(&files);
    for ((_, algorithm), file) in ALGORITHMS.into_iter().zip(files) {
        let token = sign(algorithm, &claims());
        let verdict = keys(&[file]).verify(&token, NOW_S);
        assert_eq!(verdict.result, Ok(expected.clone()), "{algorithm:?}");
        assert!(verdict.cost > READING_COST);
        assert_eq!(all.verify(&token, NOW_S).result, Ok(expected.clone()), "{algorithm:?}");
        for (_, other) in ALGORITHMS.into_iter().filter(|&(_, other)| other != algorithm) {
            let token = sign(other, &claims());
            let verdict = keys(&[file]).verify(&token, NOW_S);
            assert_eq!(verdict.result, Err(TokenFault::UnknownKey), "{algorithm:?} {other:?}");
            assert_eq!(verdict.cost, READING_COST, "nothing was verified");
        }
    }
}

/// A public key is known to all: whoever signs with its text must not be believed (RFC 8725 section
/// 2.1).
#[test]
fn a_public_key_is_no_secret() {
    let header = Header::new(Algorithm::HS256);
    let forged = encode(&header, &claims(), &secret_key(RSA.as_bytes())).unwrap();
    assert_eq!(fault_of(&keys(&[("/k", RSA.as_bytes())]), &forged), Some(TokenFault::UnknownKey));
    assert_eq!(
        load(&[("hs256:/k", RSA.as_bytes())], &Settings::default()),
        Err(KeyFault::NoSecret)
    );
}

#[test]
fn a_token_without_a_signature_or_of_another_type_is_none() {
    let keys = keys(&[("hs256:/k", SECRET)]);
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for (header, fault) in [
        (json!({ "alg": "none" }), TokenFault::Malformed),
        (json!({ "alg": "HS999" }), TokenFault::Malformed),
        (json!({ "typ": "JWT" }), TokenFault::Malformed),
        (json!({ "alg": "HS256" }), TokenFault::Signature),
    ] {
        let token = format!("{}.{}.", part(header.clone()), part(claims()));
        assert_eq!(fault_of(&keys, &token), Some(fault), "{header}");
    }
    for (kind, is_known) in [
        (None, true),
        (Some("JWT"), true),
        (Some("at+JWT"), true),
        (Some("application/at+jwt"), true),
        (Some("logout+jwt"), false),
        (Some("dpop+jwt"), false),
        (Some(""), false),
    ] {
        let header = Header { typ: kind.map(str::to_owned), ..Header::new(Algorithm::HS256) };
        let token = sign_with(&header, &claims());
        assert_eq!(fault_of(&keys, &token).is_none(), is_known, "{kind:?}");
    }
    let critical = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
    let token = sign_with(&critical, &claims());
    assert_eq!(fault_of(&keys, &token), Some(TokenFault::Malformed));
}

#[test]
fn a_changed_token_is_not_believed() {
    let keys = keys(&[("/k", P256.as_bytes())]);
    let token = sign(Algorithm::ES256, &claims());
    assert_eq!(fault_of(&keys, &token), None);
    for place in 0..token.len() {
        for flip in [1, 2, 0x20] {
            let mut bytes = token.clone().into_bytes();
            bytes[place] ^= flip;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            // The last characters have bits that mean nothing, and are refused where these are set.
            assert!(fault_of(&keys, &changed).is_some(), "{place} {flip}");
        }
    }
}

#[test]
fn times_are_compared_with_the_time_that_is_told() {
    let keys = keys(&[("hs256:/k", SECRET)]);
    for (expires, not_before, expected) in [
        (json!(NOW_S + 1), json!(NOW_S), None),
        (json!(NOW_S as f64 + 1.5), json!(NOW_S as f64 - 0.5), None),
        (json!(NOW_S - LEEWAY_S + 1), json!(NOW_S + LEEWAY_S), None),
        (json!(NOW_S - LEEWAY_S), json!(0), Some(TokenFault::Expired)),
        (json!(0), json!(0), Some(TokenFault::Expired)),
        (json!(NOW_S + 99), json!(NOW_S + LEEWAY_S + 1), Some(TokenFault::NotYetValid)),
        (json!("soon"), json!(0), Some(TokenFault::Claims)),
        (json!(NOW_S + 1), json!("now"), Some(TokenFault::Claims)),
    ] {
        let claims = json!({ "exp": expires, "nbf": not_before });
        assert_eq!(fault_of(&keys, &sign(Algorithm::HS256, &claims)), expected, "{claims}");
    }
    let long = sign(Algorithm::HS256, &json!({ "exp": NOW_S + 1, "sub": "x".repeat(256) }));
    assert_eq!(fault_of(&keys, &long), Some(TokenFault::Claims), "names are told and kept");
    let endless = sign(Algorithm::HS256, &json!({ "sub": "u" }));
    assert_eq!(fault_of(&keys, &endless), Some(TokenFault::Claims), "it has to expire");
    let late = sign(Algorithm::HS256, &json!({ "exp": 9_007_199_254_740_991_u64 }));
    assert_eq!(fault_of(&keys, &late), None);
}

/// No list could revoke a name that is empty, and all who have it would be one user.
#[test]
fn names_are_neither_empty_nor_long() {
    let keys = keys(&[("/k", ED25519.as_bytes())]);
    for (name, expected) in [
        (String::new(), Some(TokenFault::Claims)),
        ("x".repeat(NAME_BYTES_MOST + 1), Some(TokenFault::Claims)),
        ("x".repeat(NAME_BYTES_MOST), None),
    ] {
        for claim in ["sub", "jti"] {
            let mut claims = claims();
            claims[claim] = json!(name);
            let token = sign(Algorithm::EdDSA, &claims);
            assert_eq!(fault_of(&keys, &token), expected, "{claim} {name:?}");
        }
    }
}

#[test]
fn certificates_name_users_who_can_be_named() {
    for name in ["", "a\nb", "a\u{9b}", &"x".repeat(NAME_BYTES_MOST + 1)] {
        assert_eq!(Identity::certified(name, 1), None, "{name:?}");
    }
    let identity = Identity::certified("Ann Lee", NOW_S).expect("a name");
    assert_eq!(identity.user.as_deref(), Some("Ann Lee"));
    let mut trust = crate::identity::Trust::default();
    let list = crate::identity::UserGrants::parse("publish a Ann Lee\nsubscribe b *");
    trust.user_grants = std::sync::Arc::new(list.expect("a list"));
    let grants = trust.vouch(&identity, NOW_S - 1).result.expect("it holds").grants;
    assert_eq!((grants.publish.len(), grants.subscribe.len()), (1, 1));
    assert_eq!(trust.vouch(&identity, NOW_S).result.err(), Some(TokenFault::Expired));
    let list = crate::identity::Revocations::parse("user Ann Lee");
    trust.revocations = std::sync::Arc::new(list.expect("a list"));
    assert_eq!(trust.vouch(&identity, NOW_S - 1).result.err(), Some(TokenFault::Revoked));
}

#[test]
fn issuer_and_audience_are_demanded_once_they_are_set() {
    let settings = Settings {
        jwt_issuer: Some("https://a.org".parse().unwrap()),
        jwt_audiences: vec!["us".parse().unwrap(), "them".parse().unwrap()],
        ..Settings::default()
    };
    let strict = load(&[("hs256:/k", SECRET)], &settings).expect("keys");
    let lax = keys(&[("hs256:/k", SECRET)]);
    let base = || json!({ "exp": NOW_S + 1, "iss": "https://a.org", "aud": "us" });
    for (claim, value, by_strict) in [
        ("other", json!(1), None),
        ("aud", json!(["x", "them"]), None),
        ("aud", json!(["x"]), Some(TokenFault::Audience)),
        ("aud", json!("x"), Some(TokenFault::Audience)),
        ("aud", json!(5), Some(TokenFault::Audience)),
        ("aud", json!(null), Some(TokenFault::Audience)),
        ("iss", json!("https://b.org"), Some(TokenFault::Issuer)),
        ("iss", json!(null), Some(TokenFault::Issuer)),
        ("iss", json!({}), Some(TokenFault::Issuer)),
    ] {
        let mut claims = base();
        claims[claim] = value;
        let token = sign(Algorithm::HS256, &claims);
        assert_eq!(fault_of(&strict, &token), by_strict, "{claims}");
    }
    // Whoever does not know by which name it is meant is not meant (RFC 7519 section 4.1.3).
    assert_eq!(fault_of(&lax, &sign(Algorithm::HS256, &base())), Some(TokenFault::Audience));
    let for_all = json!({ "exp": NOW_S + 1, "iss": "anybody" });
    assert_eq!(fault_of(&lax, &sign(Algorithm::HS256, &for_all)), None);
}

fn octets(id: &str, secret: &[u8]) -> Value {
    let value = URL_SAFE_NO_PAD.encode(secret);
    json!({ "kty": "oct", "kid": id, "alg": "HS256", "k": value })
}

#[test]
fn the_name_of_a_key_chooses_among_those_that_are_trusted() {
    let other = [b'x'; 32];
    let set = json!({ "keys": [octets("a", SECRET), octets("b", &other)] }).to_string();
    let set_alone = keys(&[("/k", set.as_bytes())]);
    let with_nameless = keys(&[("/k", set.as_bytes()), ("hs256:/l", SECRET)]);
    let named = |id: Option<&str>| {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(Algorithm::HS256) };
        sign_with(&header, &claims())
    };
    for (id, by_set, by_all) in [
        (Some("a"), None, None),
        (Some("b"), Some(TokenFault::Signature), Some(TokenFault::Signature)),
        (Some("c"), Some(TokenFault::UnknownKey), None),
        (None, None, None),
    ] {
        assert_eq!(fault_of(&set_alone, &named(id)), by_set, "{id:?}");
        assert_eq!(fault_of(&with_nameless, &named(id)), by_all, "{id:?}");
    }
    // A key that comes along proves nothing.
    let theirs: Jwk = serde_json::from_value(octets("mine", &other)).unwrap();
    let mut header = Header { jwk: Some(theirs), ..Header::new(Algorithm::HS256) };
    header.jku = Some("http://127.0.0.1/keys".to_owned());
    header.x5u = Some("http://127.0.0.1/certificate".to_owned());
    let forged = encode(&header, &claims(), &secret_key(&[b'y'; 32])).unwrap();
    assert_eq!(fault_of(&set_alone, &forged), Some(TokenFault::Signature));
}

#[test]
fn nobody_has_many_keys_tried() {
    let key = |number: u8| octets(&number.to_string(), &[number; 32]);
    let set = json!({ "keys": (0..6).map(key).collect::<Vec<_>>() }).to_string();
    let keys = keys(&[("/k", set.as_bytes())]);
    let verdict = keys.verify(&sign(Algorithm::HS256, &claims()), NOW_S);
    assert_eq!(verdict.result, Err(TokenFault::UnknownKey));
    assert_eq!(verdict.cost, READING_COST);
}

#[test]
fn sets_have_keys_of_all_kinds_and_some_that_are_left_out() {
    let public = [
        (Algorithm::RS256, signing_key(Algorithm::RS256)),
        (Algorithm::ES256, signing_key(Algorithm::ES256)),
        (Algorithm::ES384, signing_key(Algorithm::ES384)),
    ];
    for (algorithm, key) in public {
        let jwk = Jwk::from_encoding_key(&key, algorithm).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        for named in [true, false] {
            if !named {
                jwk.as_object_mut().expect("an object").remove("alg");
            }
            let set = json!({ "keys": [
                { "kty": "future" },
                { "kty": "OKP", "crv": "X25519", "x": "AA" },
                { "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA" },
                { "kty": "RSA", "alg": "RSA-OAEP", "n": "AA", "e": "AQAB" },
                { "kty": "RSA", "use": "enc", "n": "AA", "e": "AQAB" },
                { "kty": "oct", "k": "AA" },
                jwk,
            ] })
            .to_string();
            let keys = keys(&[("/k", set.as_bytes())]);
            assert_eq!(keys.len(), 1);
            assert_eq!(fault_of(&keys, &sign(algorithm, &claims())), None, "{algorithm:?}");
        }
    }
}

#[test]
fn files_that_give_no_key_are_told_apart() {
    let set = |keys: Value| json!({ "keys": keys }).to_string().into_bytes();
    let short_rsa = json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" });
    let mut private = octets("a", SECRET);
    private["d"] = json!("AA");
    let two = [P256, P384].concat();
    for (name, text, fault) in [
        ("/k", b"nothing".to_vec(), KeyFault::Unknown),
        ("/k", SECRET.to_vec(), KeyFault::Unknown),
        ("/k", b"{}".to_vec(), KeyFault::Unknown),
        ("rs256:/k", b"nothing".to_vec(), KeyFault::Unknown),
        ("/k", RSA_PRIVATE.into(), KeyFault::Private),
        ("/k", set(json!([private])), KeyFault::Private),
        ("hs256:/k", P256.into(), KeyFault::NoSecret),
        ("hs256:/k", set(json!([])), KeyFault::NoSecret),
        ("hs256:/k", b"short\n".to_vec(), KeyFault::ShortSecret { bytes: 5, least: 32 }),
        ("hs512:/k", vec![b'x'; 63], KeyFault::ShortSecret { bytes: 63, least: 64 }),
        ("/k", set(json!([octets("a", b"short")])), KeyFault::ShortSecret { bytes: 5, least: 32 }),
        ("/k", set(json!([short_rsa])), KeyFault::ShortRsa),
        ("/k", b"-----BEGIN PUBLIC KEY-----\nAA==".to_vec(), KeyFault::Unreadable),
        ("/k", two.into(), KeyFault::Unreadable),
        ("/k", P256.replace("PUBLIC KEY", "CERTIFICATE").into(), KeyFault::Unreadable),
        ("es384:/k", P256.into(), KeyFault::Unsuitable(TokenAlgorithm::Es384)),
        ("es256:/k", RSA.into(), KeyFault::Unsuitable(TokenAlgorithm::Es256)),
        ("eddsa:/k", P256.into(), KeyFault::Unsuitable(TokenAlgorithm::Eddsa)),
        ("es256:/k", set(json!([octets("a", SECRET)])), KeyFault::AlgorithmOfSet),
        ("/k", set(json!([])), KeyFault::EmptySet),
        (
            "/k",
            set(json!((0..65).map(|it| octets(&it.to_string(), SECRET)).collect::<Vec<_>>())),
            KeyFault::TooMany,
        ),
    ] {
        let found = load(&[(name, &text)], &Settings::default());
        assert_eq!(found, Err(fault), "{name} {}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_secret_ends_before_the_end_of_its_line() {
    for (end, is_same) in [("\n", true), ("\r\n", true), ("", true), ("\n\n", false), (" ", false)]
    {
        let text = [SECRET, end.as_bytes()].concat();
        let keys = keys(&[("hs256:/k", &text)]);
        assert_eq!(fault_of(&keys, &sign(Algorithm::HS256, &claims())).is_none(), is_same);
    }
    // What is no text has no lines.
    let bytes = [&[0xff; 32][..], b"\n"].concat();
    let token = encode(&Header::new(Algorithm::HS256), &claims(), &secret_key(&bytes)).unwrap();
    assert_eq!(fault_of(&keys(&[("hs256:/k", &bytes)]), &token), None);
}

#[test]
fn the_same_files_give_the_same_keys() {
    let with = |text: &str| keys(&[("/k", text.as_bytes()), ("hs256:/k", SECRET)]);
    assert_eq!(with(RSA), with(RSA));
    assert_ne!(with(RSA), with(P256));
    assert_ne!(with(RSA), keys(&[("/k", RSA.as_bytes())]));
    let settings = Settings { jwt_issuer: Some("a".parse().unwrap()), ..Settings::default() };
    assert_ne!(load(&[("/k", RSA.as_bytes())], &settings), Ok(keys(&[("/k", RSA.as_bytes())])));
}

proptest! {
    #[test]
    fn no_text_is_taken_for_a_token(text in "\\PC{0,60}(\\.\\PC{0,60}){0,3}") {
        let keys = keys(&[("hs256:/k", SECRET), ("/l", P256.as_bytes())]);
        prop_assert!(keys.verify(&text, NOW_S).result.is_err());
    }
}
