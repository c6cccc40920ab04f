//! What is asked of somebody else who knows who may do what, and what that one says.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::{Map, Value};

use super::claims::{grants, some_seconds};
use super::grants::Grants;
use super::login::Login;
use super::token::{Credentials, Identity, NAME_BYTES_MOST, NEVER_S, is_name};

/// Fields of a request's head, with names in lower case, in their order.
pub type HeadFields = Arc<[(Box<str>, Box<[u8]>)]>;

/// A request of which somebody else is to say whether it is granted, and to whom.
/// Where it shows a password, whose that is matters and nothing else, and the rest is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inquiry {
    /// The method of the request.
    pub method: Box<str>,
    /// What it is for, with the query.
    pub target: Box<str>,
    /// Whom it is sent to, as far as it says that.
    pub host: Option<Box<str>>,
    /// The address of whoever asks, if it is known.
    pub client: Option<IpAddr>,
    /// Whether it came by TLS.
    pub is_secure: bool,
    /// Fields of its head, with names in lower case, in their order.
    pub fields: Vec<(Box<str>, Box<[u8]>)>,
    /// A password that is to be checked.
    pub login: Option<Login>,
}

impl Inquiry {
    /// Memory that it holds beside itself.
    pub fn held_bytes(&self) -> usize {
        let fields = self.fields.iter().map(|(name, value)| name.len() + value.len());
        let host_bytes = self.host.as_ref().map_or(0, |host| host.len());
        let login_bytes = self.login.as_ref().map_or(0, Login::held_bytes);
        self.method.len()
            + login_bytes
            + self.target.len()
            + host_bytes
            + fields.sum::<usize>()
            + self.fields.len() * size_of::<(Box<str>, Box<[u8]>)>()
    }
}

/// What somebody says who was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is granted to this one.
    Allowed(Credentials),
    /// It is not.
    Denied(Denial),
    /// Nothing, or nothing that can be understood.
    Unknown,
}

/// Why a request is not granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denial {
    /// Whether it is not for whoever has asked. Otherwise they have not shown who they are.
    pub is_forbidden: bool,
    /// How they may show that (RFC 9110 section 11.6.1), if that was said.
    pub challenge: Option<Box<str>>,
}

impl Judgement {
    /// What JSON says that comes with a consent: the claims of a token, which all may be absent.
    /// What somebody may do is what `ringwire` grants or, without it, everything: what was asked
    /// for has been allowed.
    pub fn of_claims(text: &[u8], now_s: u64) -> Self {
        // An object, as a structure could be read from an array as well.
        let object = serde_json::from_slice::<Map<String, Value>>(text);
        let claims = object.and_then(|object| serde_json::from_value(Value::Object(object)));
        let credentials = claims.ok().and_then(|claims: Consent| {
            let granted = match &claims.ringwire {
                None => Grants::all(),
                Some(rights) => grants(rights)?,
            };
            credentials(claims.sub, claims.jti, claims.exp, granted, now_s)
        });
        credentials.map_or(Self::Unknown, Self::Allowed)
    }

    /// What fields of a head say that comes with a consent, in the same way.
    pub fn of_fields(fields: &AnswerFields<'_>, now_s: u64) -> Self {
        let patterns = |list: Option<&str>| {
            let list = list.unwrap_or_default().split(',').map(str::trim);
            list.filter(|pattern| !pattern.is_empty())
                .map(|it| it.parse().ok())
                .collect::<Option<Vec<_>>>()
        };
        let granted = match (fields.subscribe, fields.publish) {
            (None, None) => Some(Grants::all()),
            (subscribe, publish) => patterns(subscribe)
                .zip(patterns(publish))
                .map(|(subscribe, publish)| Grants { subscribe, publish }),
        };
        let expires_s = match fields.expires_in_s {
            None => Some(None),
            Some(text) => text.parse().ok().map(|seconds: u64| Some(now_s.saturating_add(seconds))),
        };
        let credentials = granted.zip(expires_s).and_then(|(granted, expires_s)| {
            credentials(fields.user.map(Box::from), None, expires_s, granted, now_s)
        });
        credentials.map_or(Self::Unknown, Self::Allowed)
    }
}

/// What fields of a head say, each as it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerFields<'a> {
    /// The name of the user.
    pub user: Option<&'a str>,
    /// Patterns of topics, with commas between them.
    pub subscribe: Option<&'a str>,
    /// The same.
    pub publish: Option<&'a str>,
    /// For how many seconds it holds.
    pub expires_in_s: Option<&'a str>,
}

#[derive(Deserialize)]
struct Consent {
    #[serde(default, deserialize_with = "some_seconds")]
    exp: Option<u64>,
    #[serde(default)]
    sub: Option<Box<str>>,
    #[serde(default)]
    jti: Option<Box<str>>,
    #[serde(default, deserialize_with = "some_rights")]
    ringwire: Option<Map<String, Value>>,
}

/// What is there is an object: `null` grants nothing, and must not grant everything.
fn some_rights<'de, D>(deserializer: D) -> Result<Option<Map<String, Value>>, D::Error>
where
    D: Deserializer<'de>,
{
    Map::deserialize(deserializer).map(Some)
}

/// Nothing where something is longer than it may be, or was over before it has begun.
fn credentials(
    user: Option<Box<str>>,
    token_id: Option<Box<str>>,
    expires_s: Option<u64>,
    grants: Grants,
    now_s: u64,
) -> Option<Credentials> {
    let expires_s = expires_s.unwrap_or(NEVER_S);
    let are_names = [&user, &token_id].into_iter().flatten().all(|name| is_name(name));
    let fits = are_names && grants.held_bytes() <= GRANTS_BYTES_MOST;
    let identity = Identity { user, token_id, expires_s };
    (fits && now_s < expires_s).then_some(Credentials { identity, grants })
}

/// Memory of all patterns of a consent. A connection has one topic, and whoever is asked knows it.
const GRANTS_BYTES_MOST: usize = 2048;
/// Bytes of a challenge that is passed on.
pub const CHALLENGE_BYTES_MOST: usize = 512;
/// Memory that a judgement holds at the most.
pub const JUDGEMENT_BYTES: u32 = 4096;

const _: () = assert!(
    size_of::<Judgement>() + 2 * NAME_BYTES_MOST + GRANTS_BYTES_MOST <= JUDGEMENT_BYTES as usize
);
const _: () = assert!(size_of::<Judgement>() + CHALLENGE_BYTES_MOST <= JUDGEMENT_BYTES as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Right;

    fn allowed(judgement: Judgement) -> Credentials {
        match judgement {
            Judgement::Allowed(credentials) => credentials,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_consent_in_json_may_say_everything_or_nothing() {
        let nothing = allowed(Judgement::of_claims(b"{}", 5));
        assert_eq!(nothing.grants, Grants::all());
        assert_eq!(nothing.identity, Identity { user: None, token_id: None, expires_s: NEVER_S });
        let text = br#"{"sub":"u","jti":"t","exp":9,"more":1,"ringwire":{"subscribe":["a.*"]}}"#;
        let all = allowed(Judgement::of_claims(text, 8));
        assert_eq!(all.identity.user.as_deref(), Some("u"));
        assert_eq!((all.identity.token_id.as_deref(), all.identity.expires_s), (Some("t"), 9));
        assert!(all.grants.allow(Right::Subscribe, "a.b"));
        assert!(!all.grants.allow(Right::Publish, "a.b"));
        let long = format!(r#"{{"sub":"{}"}}"#, "x".repeat(256));
        let many = format!(r#"{{"ringwire":{{"publish":["{}"]}}}}"#, "x\",\"".repeat(200));
        for text in [
            "",
            "[]",
            "null",
            r#"{"exp":8}"#,
            r#"{"exp":"9"}"#,
            r#"{"sub":""}"#,
            r#"{"sub":1}"#,
            r#"{"ringwire":null}"#,
            r#"{"ringwire":[]}"#,
            r#"{"ringwire":{"publish":"a"}}"#,
            &long,
            &many,
        ] {
            assert_eq!(Judgement::of_claims(text.as_bytes(), 8), Judgement::Unknown, "{text}");
        }
    }

    #[test]
    fn a_consent_in_fields_says_the_same() {
        let nothing = AnswerFields::default();
        assert_eq!(allowed(Judgement::of_fields(&nothing, 5)).grants, Grants::all());
        let fields = AnswerFields {
            user: Some("u"),
            subscribe: Some("a.*, b"),
            publish: None,
            expires_in_s: Some("10"),
        };
        let credentials = allowed(Judgement::of_fields(&fields, 5));
        assert_eq!(credentials.identity.expires_s, 15);
        assert!(credentials.grants.allow(Right::Subscribe, "b"));
        assert!(credentials.grants.publish.is_empty());
        let none = AnswerFields { publish: Some(""), ..nothing };
        assert!(allowed(Judgement::of_fields(&none, 5)).grants.is_empty());
        for wrong in [
            AnswerFields { user: Some(""), ..nothing },
            AnswerFields { subscribe: Some("a***"), ..nothing },
            AnswerFields { expires_in_s: Some("0"), ..nothing },
            AnswerFields { expires_in_s: Some("soon"), ..nothing },
        ] {
            assert_eq!(Judgement::of_fields(&wrong, 5), Judgement::Unknown, "{wrong:?}");
        }
    }
}
