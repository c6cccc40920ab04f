//! Host and port as they stand in `Host` and `Origin`: read in one place, so that both agree on
//! what is valid.

/// A host with an optional port (RFC 3986 section 3.2, without user information).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// A name or an address, an IPv6 one with its brackets; never empty.
    pub(super) host: &'a str,
    /// `None` when absent or empty.
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads `host[:port]`; `None` when the host is empty or either part has a byte it may not
    /// have.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
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
}
