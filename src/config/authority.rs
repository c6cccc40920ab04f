//! Host and port as they stand in `Host`, in `Origin` and in the settings that allow them: read in
//! one place, so that all agree on what is valid and what is the same.

use std::fmt;
use std::net::Ipv6Addr;

/// A host with an optional port (RFC 3986 section 3.2, without user information).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name or an address, an IPv6 one with its brackets; never empty.
    pub host: &'a str,
    /// `None` when absent or empty.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host[:port]`; `None` when the host is empty or either part has a byte it may not
    /// have.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = if text.starts_with('[') {
            let (host, port) = text.split_at(text.find(']')?.checked_add(1)?);
            let address = host.get(1..host.len().checked_sub(1)?)?;
            let valid = |b: u8| b.is_ascii_alphanumeric() || b":.".contains(&b);
            if address.is_empty() || !address.bytes().all(valid) {
                return None;
            }
            (host, port)
        } else {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            if host.is_empty() || !host.bytes().all(is_host_byte) {
                return None;
            }
            (host, port)
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            Some(_) => return None,
        };
        Some(Self { host, port })
    }
}

/// The host of a setting in the one spelling that browsers send: a name or an IPv4 address in lower
/// case, or an IPv6 address in brackets (RFC 5952); `None` for what no page is ever loaded from.
pub(super) fn canonical_host(host: &str) -> Option<String> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().ok().map(|address| format!("[{address}]")),
        None => host.split('.').all(is_label).then(|| host.to_ascii_lowercase()),
    }
}

/// The names below a domain, written `*.example.org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subdomains {
    /// The domain with a leading dot, in lower case.
    suffix: String,
}

impl Subdomains {
    /// Reads `*.` and a domain name; `None` for anything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let suffix = text.strip_prefix('*').filter(|suffix| suffix.starts_with('.'))?;
        let is_name = suffix.split('.').skip(1).all(is_label);
        is_name.then(|| Self { suffix: suffix.to_ascii_lowercase() })
    }

    /// Whether `host` is below the domain, at any depth.
    pub(super) fn contain(&self, host: &str) -> bool {
        let label = host.len().checked_sub(self.suffix.len()).filter(|&label| label > 0);
        let end = label.and_then(|label| host.get(label..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(&self.suffix))
    }
}

impl fmt::Display for Subdomains {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "*{}", self.suffix)
    }
}

/// Whether `text` may stand between the dots of a name; underscores do occur.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Bytes of a registered name: unreserved, percent and sub-delimiters (RFC 3986 section 3.2.2).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ports() {
        let read = |text| Authority::parse(text).map(|a| (a.host, a.port));
        assert_eq!(read("example.org"), Some(("example.org", None)));
        assert_eq!(read("example.org:"), Some(("example.org", None)));
        assert_eq!(read("example.org:8080"), Some(("example.org", Some(8080))));
        assert_eq!(read("127.0.0.1:1"), Some(("127.0.0.1", Some(1))));
        assert_eq!(read("[::1]:7071"), Some(("[::1]", Some(7071))));
        assert_eq!(read("[::1]"), Some(("[::1]", None)));
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "", ":80", "a b", "a/b", "user@a", "a:b", "a:65536", "a:+1", "a:1:2", "[]", "[::1",
            "[::1]x", "[a]b:1", "a?b", "a, b", "\u{e9}",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    #[test]
    fn hosts_have_one_spelling() {
        for (text, canonical) in
            [("Example.ORG", "example.org"), ("10.0.0.1", "10.0.0.1"), ("[0:0::1]", "[::1]")]
        {
            assert_eq!(canonical_host(text).as_deref(), Some(canonical));
        }
        for text in ["", ".", "a..b", "a.", "a!b", "*", "[::1", "[a]", "[]", "a:80"] {
            assert_eq!(canonical_host(text), None, "{text}");
        }
    }
}
