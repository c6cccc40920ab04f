//! What clients send: strings in an array of JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

/// Why something is no messages; the texts are those that clients of the protocol know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// There is nothing, or no array of strings.
    #[error("Payload expected.")]
    Missing,
    /// It is no JSON.
    #[error("Broken JSON encoding.")]
    Broken,
    /// There are more than are taken at once.
    #[error("More than {MESSAGES_MOST} messages at once.")]
    TooMany,
}

/// The messages of a body: an array of strings.
///
/// # Errors
/// It is none.
pub fn of_body(body: &[u8]) -> Result<Vec<String>, MessageError> {
    if body.is_empty() {
        return Err(MessageError::Missing);
    }
    let text = str::from_utf8(body).map_err(|_| MessageError::Broken)?;
    let (mut json, mut has_too_many) = (serde_json::Deserializer::from_str(text), false);
    let messages = Messages { has_too_many: &mut has_too_many }.deserialize(&mut json);
    match messages.and_then(|messages| json.end().map(|()| messages)) {
        Ok(messages) => Ok(messages),
        Err(_) if has_too_many => Err(MessageError::TooMany),
        Err(_) => Err(error(text)),
    }
}

/// The messages of a frame of a WebSocket: an array of strings, one string alone, or nothing.
///
/// # Errors
/// It is none of those.
pub fn of_frame(frame: &[u8]) -> Result<Vec<String>, MessageError> {
    let text = str::from_utf8(frame).map_err(|_| MessageError::Broken)?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.trim_ascii_start().starts_with('"') {
        let Text(message) = serde_json::from_str(text).map_err(|_| error(text))?;
        return Ok(vec![message]);
    }
    of_body(frame)
}

fn error(text: &str) -> MessageError {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => MessageError::Missing,
        Err(_) => MessageError::Broken,
    }
}

/// An array of strings, as many as are taken at once: each costs time, however short it is.
struct Messages<'m> {
    has_too_many: &'m mut bool,
}

impl<'de> DeserializeSeed<'de> for Messages<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Messages<'_> {
    type Value = Vec<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut strings: A) -> Result<Vec<String>, A::Error> {
        let mut messages = Vec::new();
        while let Some(Text(text)) = strings.next_element()? {
            if messages.len() == MESSAGES_MOST {
                *self.has_too_many = true;
                return Err(Error::custom("too many"));
            }
            messages.push(text);
        }
        Ok(messages)
    }
}

/// A string of JSON. Half of a surrogate pair, which a script may send and no text can hold,
/// becomes a replacement character.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            // Half of a pair is told as three bytes: the first is where no text goes on.
            if chunk.invalid().first() == Some(&SURROGATE) {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Ok(Text(text))
    }
}

/// Messages that are taken at once: what a client has queued while one request was under way.
pub const MESSAGES_MOST: usize = 4096;
/// How the three bytes of half a surrogate pair begin.
const SURROGATE: u8 = 0xed;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bodies_are_arrays_of_strings() {
        for (body, expected) in [
            (r#"["a"]"#, Ok(vec!["a"])),
            (r#" [ "a" , "\u0062" ] "#, Ok(vec!["a", "b"])),
            ("[]", Ok(vec![])),
            (r#"["\ud83d\ude00"]"#, Ok(vec!["\u{1f600}"])),
            (r#"["x\ud83dy","\ude00"]"#, Ok(vec!["x\u{fffd}y", "\u{fffd}"])),
            ("[\"\u{ffff}\"]", Ok(vec!["\u{ffff}"])),
            ("", Err(MessageError::Missing)),
            (r#""a""#, Err(MessageError::Missing)),
            ("{}", Err(MessageError::Missing)),
            ("[1]", Err(MessageError::Missing)),
            (r#"[["a"]]"#, Err(MessageError::Missing)),
            ("[\"a", Err(MessageError::Broken)),
            (r#"["a"]["#, Err(MessageError::Broken)),
            ("x", Err(MessageError::Broken)),
        ] {
            let expected = expected.map(|it| it.into_iter().map(str::to_owned).collect());
            assert_eq!(of_body(body.as_bytes()), expected, "{body}");
        }
        assert_eq!(of_body(b"[\"\xff\"]"), Err(MessageError::Broken));
    }

    #[test]
    fn frames_may_be_one_string_or_nothing() {
        for (frame, expected) in [
            ("", Ok(vec![])),
            ("[]", Ok(vec![])),
            (r#""a""#, Ok(vec!["a"])),
            (r#""\ud800""#, Ok(vec!["\u{fffd}"])),
            (r#"["a","b"]"#, Ok(vec!["a", "b"])),
            ("1", Err(MessageError::Missing)),
            ("[\"a", Err(MessageError::Broken)),
        ] {
            let expected = expected.map(|it| it.into_iter().map(str::to_owned).collect());
            assert_eq!(of_frame(frame.as_bytes()), expected, "{frame}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(of_body(deep.as_bytes()), Err(MessageError::Broken), "its depth is bounded");
    }

    #[test]
    fn so_many_are_taken_at_once() {
        let body = |count: usize| format!("[{}]", vec!["\"\""; count].join(","));
        assert_eq!(of_body(body(MESSAGES_MOST).as_bytes()).map(|it| it.len()), Ok(MESSAGES_MOST));
        for count in [MESSAGES_MOST + 1, 1_000_000] {
            assert_eq!(of_body(body(count).as_bytes()), Err(MessageError::TooMany));
            assert_eq!(of_frame(body(count).as_bytes()), Err(MessageError::TooMany));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_arrives_however_it_is_escaped(texts: Vec<String>, escapes: bool) {
            let write = |text: &String| match escapes {
                true => {
                    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
                    format!("\"{}\"", units.collect::<String>())
                }
                false => serde_json::to_string(text).unwrap(),
            };
            let body = format!("[{}]", texts.iter().map(write).collect::<Vec<_>>().join(","));
            prop_assert_eq!(of_body(body.as_bytes()), Ok(texts.clone()));
            prop_assert_eq!(of_frame(body.as_bytes()), Ok(texts));
        }

        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let (body, frame) = (of_body(&bytes), of_frame(&bytes));
            prop_assert!(body.is_err() || body == frame);
        }
    }
}
