//! Where something is to be asked for by HTTP.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::authority::Authority;

/// The URL of something that this server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    is_secure: bool,
    authority: Box<str>,
    target: Box<str>,
}

impl HttpUrl {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "https://HOST[:PORT]/PATH, or http:// for a server or a \
         proxy that nobody can come in between";

    /// Whether it is asked for by TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

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
        let usual_port = if self.is_secure { HTTPS_PORT } else { HTTP_PORT };
        (host.trim_start_matches('[').trim_end_matches(']'), port.unwrap_or(usual_port))
    }
}

/// The text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", HttpUrl::GRAMMAR)]
pub struct HttpUrlError;

impl FromStr for HttpUrl {
    type Err = HttpUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let secure = text.strip_prefix(HTTPS_SCHEME);
        let is_secure = secure.is_some();
        let rest = secure.or_else(|| text.strip_prefix(HTTP_SCHEME)).ok_or(HttpUrlError)?;
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        match Authority::parse(authority) {
            Some(_) if is_visible && target.starts_with('/') => {
                Ok(Self { is_secure, authority: authority.into(), target: target.into() })
            }
            _ => Err(HttpUrlError),
        }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { HTTPS_SCHEME } else { HTTP_SCHEME };
        write!(formatter, "{scheme}{}{}", self.authority, self.target)
    }
}

const HTTP_SCHEME: &str = "http://";
const HTTPS_SCHEME: &str = "https://";
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, address, target) in [
            ("http://a.org/keys", ("a.org", 80), "/keys"),
            ("http://a.org:8080/keys?a=b", ("a.org", 8080), "/keys?a=b"),
            ("http://[::1]:81/", ("::1", 81), "/"),
            ("https://a.org/keys", ("a.org", 443), "/keys"),
            ("https://a.org:8443/", ("a.org", 8443), "/"),
        ] {
            let url: HttpUrl = text.parse().expect(text);
            assert_eq!((url.address(), url.target(), &*url.to_string()), (address, target, text));
            assert_eq!(url.is_secure(), text.starts_with("https"));
        }
        for text in [
            "",
            "ftp://a.org/keys",
            "http://a.org",
            "http:///keys",
            "http://user@a.org/keys",
            "http://a.org/keys#1",
            "http://a.org/a b",
            "http://a.org:0x50/",
        ] {
            assert_eq!(text.parse::<HttpUrl>(), Err(HttpUrlError), "{text}");
        }
    }
}
