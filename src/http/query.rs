//! The query of a request target: names and values, percent-encoded as forms send them.

use std::borrow::Cow;

use super::refusal::{Refusal, Refused};

/// A query whose escapes are valid. Its length is bounded by that of the request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// Checks what follows the question mark of a target; empty when there is none.
    ///
    /// # Errors
    /// A percent sign without two hexadecimal digits, or bytes that are no UTF-8: wherever they
    /// are, because names that nobody knows are told from others by their decoded text alone.
    pub(super) fn parse(text: &'a str) -> Result<Self, Refused> {
        for (name, value) in pairs(text) {
            decode(name)?;
            decode(value)?;
        }
        Ok(Self(text))
    }

    /// The decoded value of a parameter: the last one of this name, and empty when it has none.
    pub(super) fn get(self, name: &str) -> Option<Cow<'a, str>> {
        self.all(name).last()
    }

    /// The decoded values of all parameters of this name, in their order.
    pub(super) fn all(self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        let is_named = move |encoded: &str| decode(encoded).is_ok_and(|decoded| decoded == name);
        let named = pairs(self.0).filter(move |(encoded, _)| is_named(encoded));
        named.filter_map(|(_, value)| decode(value).ok())
    }
}

/// RFC 3986 section 2.1; `None` when a percent sign is not followed by two hexadecimal digits.
pub(super) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            other => other,
        });
    }
    Some(decoded)
}

/// Names and values as they were sent.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// A name or a value, in which a plus sign is a space (WHATWG URL standard, section 5.1).
fn decode(text: &str) -> Result<Cow<'_, str>, Refused> {
    if !text.contains(['%', '+']) {
        return Ok(text.into());
    }
    let refused = |detail| Refused::new(Refusal::BadRequest, detail);
    let bytes = percent_decode(&text.replace('+', " ")).ok_or(refused(
        "The query has a percent sign without two hexadecimal digits; a percent sign itself is \
         written %25.",
    ))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| refused("The query is not valid UTF-8 when its escapes are decoded."))?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
        Query::parse(query).expect("valid escapes").get(name)
    }

    #[test]
    fn values_are_found_by_their_decoded_names() {
        for (query, expected) in [
            ("", None),
            ("mode", Some("")),
            ("mode=", Some("")),
            ("mode=stream", Some("stream")),
            ("a=b&mode=stream&&c", Some("stream")),
            ("mod%65=str%65am", Some("stream")),
            ("mode=a&mode=b", Some("b")),
            ("mode=a=b", Some("a=b")),
            ("mode=a+b%2Bc%26d%3d%25", Some("a b+c&d=%")),
            ("mode=%C3%A9", Some("\u{e9}")),
            ("Mode=stream&mode2=x&=mode", None),
        ] {
            assert_eq!(get(query, "mode").as_deref(), expected, "{query}");
        }
        assert_eq!(get("a+b=c", "a b").as_deref(), Some("c"));
    }

    #[test]
    fn what_is_malformed_is_refused_and_the_fix_named() {
        for (query, hint) in [
            ("a=%", "%25"),
            ("a=100%&mode=stream", "%25"),
            ("%4=a", "%25"),
            ("a=%zz", "%25"),
            ("a=%+1", "%25"),
            ("a=%FF", "UTF-8"),
            ("%C3=%A9", "UTF-8"),
        ] {
            let refused = Query::parse(query).expect_err(query);
            assert!(refused.detail.contains(hint), "{query}: {}", refused.detail);
            assert_eq!(refused.refusal, Refusal::BadRequest);
        }
    }

    proptest! {
        #[test]
        fn every_text_survives_its_encoding(name in "\\PC{0,20}", value in "\\PC{0,20}") {
            let encode = |text: &str| -> String {
                text.bytes().map(|byte| format!("%{byte:02X}")).collect()
            };
            let query = format!("x&{}={}&y=z", encode(&name), encode(&value));
            let expected = if name == "x" || name == "y" { None } else { Some(value.as_str()) };
            let found = get(&query, &name);
            prop_assert!(expected.is_none() || found.as_deref() == expected, "{query}");
        }
    }
}
