//! What a token claims, read strictly: what is there and wrong makes the whole token void.

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::{Map, Value};

use super::grants::Grants;
use crate::config::TopicPattern;

/// The claims that matter here (RFC 7519 section 4.1) and one of our own; others may be there. The
/// library checks issuer and audience.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(deserialize_with = "seconds")]
    pub(super) exp: u64,
    #[serde(default, deserialize_with = "some_seconds")]
    pub(super) nbf: Option<u64>,
    #[serde(default)]
    pub(super) sub: Option<Box<str>>,
    #[serde(default)]
    pub(super) jti: Option<Box<str>>,
    /// Patterns of topics by right. A map by itself, as a struct could be read from an array.
    #[serde(default)]
    ringwire: Map<String, Value>,
    /// The same in the words of RFC 9396, among those of other types.
    #[serde(default)]
    authorization_details: Vec<Map<String, Value>>,
}

impl Claims {
    /// What is granted; nothing where one of the patterns is none, or what would grant it is not
    /// understood: it might be less than it seems.
    pub(super) fn grants(&self) -> Option<Grants> {
        let mut grants = grants(&self.ringwire)?;
        for detail in &self.authorization_details {
            if detail.get("type")?.as_str()? != DETAIL_TYPE {
                continue;
            }
            if detail.keys().any(|field| !DETAIL_FIELDS.contains(&field.as_str())) {
                return None;
            }
            let topics = patterns(detail.get("topics")?)?;
            for action in detail.get("actions")?.as_array()? {
                match action.as_str()? {
                    PUBLISH => grants.publish.extend_from_slice(&topics),
                    SUBSCRIBE => grants.subscribe.extend_from_slice(&topics),
                    _ => return None,
                }
            }
        }
        Some(grants)
    }
}

/// What is granted by patterns of topics by right; nothing where one of them is none.
pub(super) fn grants(rights: &Map<String, Value>) -> Option<Grants> {
    let of_right = |right| rights.get(right).map_or(Some(Vec::new()), patterns);
    Some(Grants { publish: of_right(PUBLISH)?, subscribe: of_right(SUBSCRIBE)? })
}

fn patterns(list: &Value) -> Option<Vec<TopicPattern>> {
    list.as_array()?.iter().map(pattern).collect()
}

fn pattern(value: &Value) -> Option<TopicPattern> {
    value.as_str()?.parse().ok()
}

/// A `NumericDate`: seconds since 1970, perhaps with a fraction (RFC 7519 section 2), which is left
/// out.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_f64().filter(|seconds| (0.0..SECONDS_MOST).contains(seconds));
    number
        .as_u64()
        .filter(|seconds| (*seconds as f64) < SECONDS_MOST)
        .or(whole.map(|seconds| seconds as u64))
        .ok_or_else(|| D::Error::custom("no time since 1970"))
}

/// The same where it may be absent, and means something where it is there.
///
/// # Errors
/// It is there and is no time since 1970.
pub fn some_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    seconds(deserializer).map(Some)
}

const PUBLISH: &str = "publish";
const SUBSCRIBE: &str = "subscribe";
/// The type of those details that are for this server, and all fields of theirs.
const DETAIL_TYPE: &str = "ringwire";
const DETAIL_FIELDS: [&str; 3] = ["type", "actions", "topics"];
/// Beyond it a double is no whole number any more, and no year that anybody means.
const SECONDS_MOST: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Claims> {
        serde_json::from_str(text).ok()
    }

    #[test]
    fn claims_are_read_or_void() {
        let claims = read(
            r#"{"exp":12.9,"nbf":3,"sub":"u","jti":"t","other":[1],
                "ringwire":{"publish":["a"],"subscribe":["b.*","**"],"later":1}}"#,
        )
        .expect("claims");
        assert_eq!((claims.exp, claims.nbf), (12, Some(3)));
        assert_eq!((claims.sub.as_deref(), claims.jti.as_deref()), (Some("u"), Some("t")));
        let grants = claims.grants().expect("patterns");
        assert_eq!((grants.publish.len(), grants.subscribe.len()), (1, 2));
        assert!(read(r#"{"exp":1}"#).is_some_and(|it| it.grants().is_some_and(|it| it.is_empty())));
        for text in [
            "{}",
            r#"{"exp":"1"}"#,
            r#"{"exp":-1}"#,
            r#"{"exp":1e300}"#,
            r#"{"exp":18446744073709551615}"#,
            r#"{"exp":null}"#,
            r#"{"exp":1,"nbf":"2"}"#,
            r#"{"exp":1,"sub":["a"]}"#,
            r#"{"exp":1,"jti":2}"#,
            r#"{"exp":1,"ringwire":[]}"#,
            r#"{"exp":1,"ringwire":null}"#,
            r#"{"exp":1,"exp":2}"#,
        ] {
            assert!(read(text).is_none(), "{text}");
        }
        let of_details = |details: &str| {
            let text = format!(
                r#"{{"exp":1,"ringwire":{{"publish":["a"]}},"authorization_details":{details}}}"#
            );
            read(&text).and_then(|claims| claims.grants())
        };
        let grants = of_details(
            r#"[{"type":"other","locations":1},
                {"type":"ringwire","actions":["subscribe","publish"],"topics":["b.*"]},
                {"type":"ringwire","actions":["subscribe"],"topics":["c","d"]},
                {"type":"ringwire","actions":[],"topics":["e"]}]"#,
        );
        let grants = grants.expect("patterns");
        assert_eq!((grants.publish.len(), grants.subscribe.len()), (2, 3));
        for details in [
            "null",
            "{}",
            "[1]",
            "[{}]",
            r#"[{"type":1}]"#,
            r#"[{"type":"ringwire"}]"#,
            r#"[{"type":"ringwire","actions":["publish"]}]"#,
            r#"[{"type":"ringwire","topics":["a"]}]"#,
            r#"[{"type":"ringwire","actions":["publish"],"topics":["a***"]}]"#,
            r#"[{"type":"ringwire","actions":["publish"],"topics":"a"}]"#,
            r#"[{"type":"ringwire","actions":["delete"],"topics":["a"]}]"#,
            r#"[{"type":"ringwire","actions":["publish"],"topics":["a"],"locations":["b"]}]"#,
        ] {
            assert!(of_details(details).is_none(), "{details}");
        }
        for granted in [r#""a""#, "null", r#"["a***"]"#, r#"["a",1]"#, r#"{"a":1}"#] {
            for right in ["publish", "subscribe"] {
                let text = format!(r#"{{"exp":1,"ringwire":{{"{right}":{granted}}}}}"#);
                assert!(read(&text).expect("claims").grants().is_none(), "{text}");
            }
        }
    }
}
