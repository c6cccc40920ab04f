//! Which web pages may connect: without this check any page a person visits could talk to a server
//! that only that person's browser can reach (RFC 6455 section 10.2).

use std::str::FromStr;

use super::authority::Authority;

/// One entry of the list of allowed origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

impl OriginPattern {
    /// Whether the value of an `Origin` field (RFC 6454 section 7) is allowed by this pattern.
    ///
    /// Scheme and host compare without regard to case, and a default port equals its absence.
    /// What is no single origin, such as `null`, is never allowed.
    pub fn matches(&self, origin: &str) -> bool {
        let Ok(origin) = Origin::parse(origin) else {
            return false;
        };
        match &self.0 {
            Pattern::Exact(allowed) => *allowed == origin,
            Pattern::Subdomains(suffix) => {
                origin.host.strip_suffix(suffix.as_str()).is_some_and(|label| !label.is_empty())
            }
        }
    }
}

impl FromStr for OriginPattern {
    type Err = OriginPatternError;

    /// Reads `scheme://host[:port]`, or `*.example.org` for any subdomain with any scheme and port.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pattern = match text.strip_prefix('*') {
            Some(suffix) => subdomains(suffix),
            None if text.contains('*') => Err("a wildcard stands alone before the first dot"),
            None => Origin::parse(text).map(Pattern::Exact),
        };
        pattern.map(Self).map_err(|reason| OriginPatternError { pattern: text.to_owned(), reason })
    }
}

/// Why an entry of the list of allowed origins is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{pattern}` is not an origin: {reason}; allowed are `scheme://host[:port]` and `*.example.org`"
)]
pub struct OriginPatternError {
    pattern: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(Origin),
    /// The suffix with its leading dot, in lower case.
    Subdomains(String),
}

/// Scheme, host and port (RFC 6454 section 4), normalised so that equality is sameness.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, authority) = text.split_once("://").ok_or("it has no `scheme://`")?;
        let scheme = scheme.to_ascii_lowercase();
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        {
            return Err("the scheme is not a name");
        }
        if authority.contains(['/', '?', '#', '@']) {
            return Err("an origin is only scheme, host and port, without a path or a final `/`");
        }
        let Authority { host, port } =
            Authority::parse(authority).ok_or("the host or the port is not valid")?;
        let port = port.or(match scheme.as_str() {
            "http" | "ws" => Some(80),
            "https" | "wss" => Some(443),
            _ => None,
        });
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port })
    }
}

fn subdomains(suffix: &str) -> Result<Pattern, &'static str> {
    if suffix.is_empty() {
        return Err("to allow every origin, leave the list empty");
    }
    let domain = suffix.strip_prefix('.').ok_or("a wildcard is followed by a dot")?;
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    if !domain.split('.').all(is_label) {
        return Err("a wildcard is followed by a domain name alone, any scheme and port match");
    }
    Ok(Pattern::Subdomains(suffix.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> OriginPattern {
        text.parse().unwrap()
    }

    #[test]
    fn exact_origins_compare_scheme_host_and_port() {
        let allowed = pattern("https://Example.org");
        assert!(allowed.matches("https://example.org"));
        assert!(allowed.matches("HTTPS://EXAMPLE.ORG:443"));
        for other in
            ["http://example.org", "https://example.org:444", "https://a.example.org", "null", ""]
        {
            assert!(!allowed.matches(other), "{other}");
        }
        assert!(pattern("http://localhost:3000").matches("http://localhost:3000"));
        assert!(pattern("http://[::1]:80").matches("http://[::1]"));
        assert!(pattern("chrome-extension://abc").matches("chrome-extension://abc"));
    }

    #[test]
    fn wildcards_match_subdomains_alone() {
        let allowed = pattern("*.Example.org");
        for origin in ["https://a.example.org", "http://a.b.EXAMPLE.org:8080"] {
            assert!(allowed.matches(origin), "{origin}");
        }
        for origin in
            ["https://example.org", "https://badexample.org", "https://a.example.org.evil", "null"]
        {
            assert!(!allowed.matches(origin), "{origin}");
        }
    }

    #[test]
    fn a_list_of_origins_is_not_an_origin() {
        assert!(!pattern("*.example.org").matches("https://evil.net https://a.example.org"));
    }

    #[test]
    fn unusable_patterns_say_why() {
        for (text, reason) in [
            ("*", "leave the list empty"),
            ("*example.org", "followed by a dot"),
            ("*.", "domain name alone"),
            ("*.example.org:80", "domain name alone"),
            ("https://*.example.org", "wildcard stands alone"),
            ("example.org", "no `scheme://`"),
            ("https://example.org/", "without a path"),
            ("https://", "not valid"),
            ("1http://a", "not a name"),
        ] {
            let error = text.parse::<OriginPattern>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(text), "{error}");
        }
    }
}
