//! Where a set of keys is to be had.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::authority::Authority;

/// The URL of a JWK set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySetUrl {
    authority: Box<str>,
    target: Box<str>,
}

impl KeySetUrl {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str =
        "http://HOST[:PORT]/PATH, for a server or a proxy that nobody can come in between";

    /// What `Host` says in a request for it.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path, and a query if there is one.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Host, without the brackets of an IPv6 address, and port.
    pub fn address(&self) -> (&str, u16) {
        let Some(Authority { host, port }) = Authority::parse(&self.authority) else {
            debug_assert!(false, "it was read before");
            return ("", 0);
        };
        (host.trim_start_matches('[').trim_end_matches(']'), port.unwrap_or(HTTP_PORT))
    }
}

/// The text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", KeySetUrl::GRAMMAR)]
pub struct KeySetUrlError;

impl FromStr for KeySetUrl {
    type Err = KeySetUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(SCHEME).ok_or(KeySetUrlError)?;
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        match Authority::parse(authority) {
            Some(_) if is_visible && target.starts_with('/') => {
                Ok(Self { authority: authority.into(), target: target.into() })
            }
            _ => Err(KeySetUrlError),
        }
    }
}

impl fmt::Display for KeySetUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{SCHEME}{}{}", self.authority, self.target)
    }
}

const SCHEME: &str = "http://";
const HTTP_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, address, target) in [
            ("http://a.org/keys", ("a.org", 80), "/keys"),
            ("http://a.org:8080/keys?a=b", ("a.org", 8080), "/keys?a=b"),
            ("http://[::1]:81/", ("::1", 81), "/"),
        ] {
            let url: KeySetUrl = text.parse().expect(text);
            assert_eq!((url.address(), url.target(), &*url.to_string()), (address, target, text));
        }
        for text in [
            "",
            "https://a.org/keys",
            "http://a.org",
            "http:///keys",
            "http://user@a.org/keys",
            "http://a.org/keys#1",
            "http://a.org/a b",
            "http://a.org:0x50/",
        ] {
            assert_eq!(text.parse::<KeySetUrl>(), Err(KeySetUrlError), "{text}");
        }
    }
}
