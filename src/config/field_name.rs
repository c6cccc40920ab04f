//! The name of a header field that is passed on.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The name of a header field, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(Box<str>);

impl FieldName {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "the name of a header field of requests, such as X-Api-Key, \
         but none that belongs to a single connection or that proxies set, such as Upgrade or \
         X-Forwarded-For";

    /// The name.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The text is no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", FieldName::GRAMMAR)]
pub struct FieldNameError;

impl FromStr for FieldName {
    type Err = FieldNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let name = text.to_ascii_lowercase();
        let is_ours = OURS.contains(&&*name) || name.starts_with("x-forwarded-");
        match !text.is_empty() && text.bytes().all(is_token) && !is_ours {
            true => Ok(Self(name.into())),
            false => Err(FieldNameError),
        }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Fields that frame a message or belong to one connection (RFC 9110 section 7.6.1), and those that
/// are always set here.
const OURS: [&str; 12] = [
    "accept",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_that_may_be_passed_on() {
        assert_eq!("X-Api-Key".parse::<FieldName>().unwrap().text(), "x-api-key");
        for text in ["", "a b", "a:", "Host", "X-Forwarded-For", "connection", "caf\u{e9}"] {
            assert_eq!(text.parse::<FieldName>(), Err(FieldNameError), "{text:?}");
        }
    }
}
