//! What a JSON pointer names within the data of a publication.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::JsonPointer;

/// The text or the number to which the steps of a [pointer](JsonPointer) lead in `json`; nothing
/// where that is something else, or nothing. A text is told without its quotes, and a number as it
/// is written.
pub fn pointed_at<'j, 's>(
    json: &'j [u8],
    steps: impl Iterator<Item = Cow<'s, str>>,
) -> Option<Pointed<'j>> {
    let steps: Vec<_> = steps.collect();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let value = Steps(&steps).deserialize(&mut reader).ok()??.get();
    match value.as_bytes().first()? {
        b'"' => serde_json::from_str(value).ok().map(Pointed::Text),
        b'-' | b'0'..=b'9' => Some(Pointed::Number(value)),
        _ => None,
    }
}

/// By what a repetition is known of something that a user publishes: the id that its data has,
/// which is no other user's. Empty where it has none.
///
/// # Errors
/// The id is longer than [`ID_BYTES_MOST`].
pub fn idempotency_key(
    json: &[u8],
    id_from: Option<&JsonPointer>,
    user: &str,
) -> Result<Box<str>, IdTooLong> {
    let Some(id) = id_from.and_then(|it| pointed_at(json, it.steps())) else {
        return Ok(Box::default());
    };
    // A number and a text that looks like it are different.
    let id = match &id {
        Pointed::Text(Text(text)) => format!("\"{text}"),
        Pointed::Number(number) => (*number).to_owned(),
    };
    match id.len() > ID_BYTES_MOST {
        true => Err(IdTooLong),
        // Nor is it a key of an application.
        false => Ok(format!("\u{1}{}:{user}{id}", user.len()).into()),
    }
}

/// An id that is not to be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id has at most {ID_BYTES_MOST} bytes")]
pub struct IdTooLong;

/// The longest id of a publication.
pub const ID_BYTES_MOST: usize = 255;

/// A value that names something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pointed<'j> {
    /// A text.
    Text(Text<'j>),
    /// A number, as it is written.
    Number(&'j str),
}

/// A text, which is borrowed where nothing in it was escaped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Text<'j>(#[serde(borrow)] pub Cow<'j, str>);

/// The way to a value: what is left of it.
#[derive(Clone, Copy)]
struct Steps<'s>(&'s [Cow<'s, str>]);

impl<'j> DeserializeSeed<'j> for Steps<'_> {
    type Value = Option<&'j RawValue>;

    fn deserialize<D: Deserializer<'j>>(self, from: D) -> Result<Self::Value, D::Error> {
        match self.0 {
            [] => serde::Deserialize::deserialize(from).map(Some),
            _ => from.deserialize_any(self),
        }
    }
}

impl<'j> Visitor<'j> for Steps<'_> {
    type Value = Option<&'j RawValue>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let [step, rest @ ..] = self.0 else { return Ok(None) };
        let mut found = None;
        while let Some(Text(name)) = map.next_key()? {
            if name == *step {
                // The last of those that have the same name, as for most readers.
                found = map.next_value_seed(Steps(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'j>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let [step, rest @ ..] = self.0 else { return Ok(None) };
        // No leading zeros (RFC 6901 section 4).
        let index = step.parse().ok().filter(|index: &usize| index.to_string() == **step);
        let (mut found, mut place) = (None, 0);
        loop {
            if index == Some(place) {
                let Some(value) = sequence.next_element_seed(Steps(rest))? else { break };
                found = value;
            } else if sequence.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
            place += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn told(json: &str, pointer: &str) -> Option<String> {
        let pointer: JsonPointer = pointer.parse().expect("a pointer");
        pointed_at(json.as_bytes(), pointer.steps()).map(|it| match it {
            Pointed::Text(Text(text)) => format!("text {text}"),
            Pointed::Number(number) => format!("number {number}"),
        })
    }

    #[test]
    fn texts_and_numbers_are_found_and_nothing_else() {
        for (json, pointer, expected) in [
            (r#"{"id":"a"}"#, "/id", Some("text a")),
            (r#"{"id":"\u0061\n"}"#, "/id", Some("text a\n")),
            (
                r#" { "a" : [ 0 , { "b" : -1.50e3 } ] , "c" : null } "#,
                "/a/1/b",
                Some("number -1.50e3"),
            ),
            (r#"{"id":1,"id":2}"#, "/id", Some("number 2")),
            (r#"{"":7}"#, "/", Some("number 7")),
            (r#"{"a/b":{"~":"x"}}"#, "/a~1b/~0", Some("text x")),
            (r#"[1,2]"#, "/1", Some("number 2")),
            (r#"[1,2]"#, "/01", None),
            (r#"[1,2]"#, "/-", None),
            (r#"[1,2]"#, "/2", None),
            (r#"{"id":true}"#, "/id", None),
            (r#"{"id":null}"#, "/id", None),
            (r#"{"id":{}}"#, "/id", None),
            (r#"{"id":"a"}"#, "/id/0", None),
            ("3", "/id", None),
            (r#"{"id":"a""#, "/id", None),
        ] {
            assert_eq!(told(json, pointer).as_deref(), expected, "{json} {pointer}");
        }
    }

    #[test]
    fn ids_of_users_differ_and_are_short() {
        let pointer = "/id".parse().expect("a pointer");
        let key = |json: &str, user| idempotency_key(json.as_bytes(), Some(&pointer), user);
        let texts = [(r#"{"id":"1"}"#, "a"), (r#"{"id":1}"#, "a"), (r#"{"id":1}"#, "b")];
        let more = [(r#"{"id":"b"}"#, "a"), (r#"{"id":""}"#, "ab"), (r#"{"id":1}"#, "")];
        let keys = texts.into_iter().chain(more).map(|(json, user)| key(json, user));
        let keys: std::collections::BTreeSet<_> = keys.map(|it| it.expect("short")).collect();
        assert_eq!(keys.len(), 6);
        assert_eq!(key(r#"{"id":"\u0031"}"#, "a"), key(r#"{"id":"1"}"#, "a"));
        assert_eq!(key(r#"{"id":{}}"#, "a"), Ok(Box::default()));
        assert_eq!(idempotency_key(b"{}", None, "a"), Ok(Box::default()));
        assert!(key(&format!(r#"{{"id":"{}"}}"#, "x".repeat(254)), "a").is_ok());
        assert_eq!(key(&format!(r#"{{"id":"{}"}}"#, "x".repeat(255)), "a"), Err(IdTooLong));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\\u{e4}]{0,3}".prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[ab/~]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_a_library_finds(value in values(), pointer in "(/([ab01]|~0|~1){0,2}){1,3}") {
            let expected = value.pointer(&pointer).and_then(|it| match it {
                Value::String(text) => Some(format!("text {text}")),
                Value::Number(number) => Some(format!("number {number}")),
                _ => None,
            });
            prop_assert_eq!(told(&value.to_string(), &pointer), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let pointer: JsonPointer = "/a/0".parse().expect("a pointer");
            pointed_at(&bytes, pointer.steps());
        }
    }
}
