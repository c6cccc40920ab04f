//! Names with a grammar of the web's own: origins and subprotocols.

/// An origin as browsers send it (RFC 6454 section 6.2), or all hosts below a domain; lower case,
/// as both scheme and host are compared that way.
pub(super) fn origin(text: &str) -> Option<String> {
    let is_host = |host: &str| {
        !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_graphic() && !b"*/@?#".contains(&byte))
    };
    let accepted = match (text.strip_prefix("*."), text.split_once("://")) {
        (Some(domain), _) => is_host(domain) && !domain.contains(':'),
        (None, Some((scheme, host))) => is_host(host) && is_scheme(scheme),
        (None, None) => text == OPAQUE_ORIGIN,
    };
    accepted.then(|| text.to_ascii_lowercase())
}

/// A subprotocol name, which is a token (RFC 6455 section 4.1, RFC 9110 section 5.6.2).
pub(super) fn token(text: &str) -> Option<String> {
    let accepted = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || TOKEN_PUNCTUATION.contains(&byte));
    accepted.then(|| text.to_owned())
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// What a sandboxed or local page sends (RFC 6454 section 7.1).
const OPAQUE_ORIGIN: &str = "null";
const TOKEN_PUNCTUATION: &[u8] = b"!#$%&'*+-.^_`|~";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact_or_below_a_domain() {
        for good in ["https://example.org", "http://[::1]:8080", "*.example.org", "null"] {
            assert_eq!(origin(good).as_deref(), Some(good));
        }
        assert_eq!(origin("HTTPS://Example.ORG").as_deref(), Some("https://example.org"));
        for bad in ["", "*", "*.", "example.org", "https://", "https://a/", "https://*.a", "://a"] {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn subprotocols_are_tokens() {
        assert_eq!(token("chat.v1").as_deref(), Some("chat.v1"));
        for bad in ["", "a b", "a,b", "a/b", "\u{e9}"] {
            assert_eq!(token(bad), None, "{bad}");
        }
    }
}
