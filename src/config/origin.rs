//! Which web pages may connect: without this check any page a person visits could talk to a server
//! that only that person's browser can reach (RFC 6455 section 10.2).

use std::fmt;
use std::str::FromStr;

use super::authority::{Authority, Subdomains, canonical_host};

/// One entry of the list of allowed origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// Its scheme and host in lower case.
    Exact { scheme: String, host: String, port: Option<u16> },
    /// With any scheme and port.
    Subdomains(Subdomains),
}

impl OriginPattern {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "an origin scheme://host[:port] such as https://example.org, \
         or *.example.org for all hosts below a domain; no path and never null";

    /// Whether this pattern allows `origin`.
    pub fn matches(&self, origin: &Origin<'_>) -> bool {
        match &self.0 {
            Pattern::Exact { scheme, host, port } => {
                origin.scheme.eq_ignore_ascii_case(scheme)
                    && origin.host.eq_ignore_ascii_case(host)
                    && origin.port == *port
            }
            Pattern::Subdomains(subdomains) => subdomains.contain(origin.host),
        }
    }
}

impl FromStr for OriginPattern {
    type Err = OriginPatternError;

    /// Reads `scheme://host[:port]`, or `*.example.org` for any subdomain with any scheme and port.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(subdomains) = Subdomains::parse(text) {
            return Ok(Self(Pattern::Subdomains(subdomains)));
        }
        let origin = Origin::parse(text).ok_or(OriginPatternError)?;
        Ok(Self(Pattern::Exact {
            scheme: origin.scheme.to_ascii_lowercase(),
            host: canonical_host(origin.host).ok_or(OriginPatternError)?,
            port: origin.port,
        }))
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Exact { scheme, host, port } => {
                write!(formatter, "{scheme}://{host}")?;
                match port.filter(|_| *port != default_port(scheme)) {
                    Some(port) => write!(formatter, ":{port}"),
                    None => Ok(()),
                }
            }
            Pattern::Subdomains(subdomains) => subdomains.fmt(formatter),
        }
    }
}

/// A text that is no pattern of origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {}", OriginPattern::GRAMMAR)]
pub struct OriginPatternError;

/// Scheme, host and port (RFC 6454 section 4), as an `Origin` field names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// The default of the scheme when absent, if it has one.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    /// Reads the value of an `Origin` field; `None` for what is no single origin, such as `null`.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let Authority { host, port } = Authority::parse(authority)?;
        is_scheme.then(|| Self { scheme, host, port: port.or(default_port(scheme)) })
    }

    /// Whether a page of this origin was loaded from the server that `host` names, by HTTP or, from
    /// a proxy before it, by HTTPS.
    pub fn is_of(&self, host: Authority<'_>) -> bool {
        ["http", "https"].iter().any(|scheme| self.scheme.eq_ignore_ascii_case(scheme))
            && self.host.eq_ignore_ascii_case(host.host)
            && self.port == host.port.or(default_port(self.scheme))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    let ports = [("http", 80), ("ws", 80), ("https", 443), ("wss", 443)];
    let known = ports.into_iter().find(|(known, _)| scheme.eq_ignore_ascii_case(known));
    known.map(|(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, origin: &str) -> bool {
        let pattern: OriginPattern = pattern.parse().unwrap();
        Origin::parse(origin).is_some_and(|origin| pattern.matches(&origin))
    }

    #[test]
    fn exact_origins_compare_scheme_host_and_port() {
        let allowed = "https://Example.org";
        assert!(matches(allowed, "https://example.org"));
        assert!(matches(allowed, "HTTPS://EXAMPLE.ORG:443"));
        for other in
            ["http://example.org", "https://example.org:444", "https://a.example.org", "null", ""]
        {
            assert!(!matches(allowed, other), "{other}");
        }
        assert!(matches("http://localhost:3000", "http://localhost:3000"));
        assert!(matches("http://[0::1]:80", "http://[::1]"));
        assert!(matches("chrome-extension://abc", "chrome-extension://abc"));
    }

    #[test]
    fn wildcards_match_subdomains_alone() {
        let allowed = "*.Example.org";
        for origin in ["https://a.example.org", "http://a.b.EXAMPLE.org:8080"] {
            assert!(matches(allowed, origin), "{origin}");
        }
        for origin in [
            "https://example.org",
            "https://.example.org.evil",
            "https://badexample.org",
            "https://a.example.org.evil",
            "null",
            "https://evil.net https://a.example.org",
        ] {
            assert!(!matches(allowed, origin), "{origin}");
        }
    }

    #[test]
    fn patterns_are_shown_in_one_spelling() {
        for (text, shown) in [
            ("HTTPS://Example.org:443", "https://example.org"),
            ("http://a:81", "http://a:81"),
            ("ws://[0:0::1]:80", "ws://[::1]"),
            ("*.Example.org", "*.example.org"),
        ] {
            let pattern: OriginPattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), shown);
            assert_eq!(shown.parse(), Ok(pattern));
        }
    }

    #[test]
    fn what_can_never_match_is_refused() {
        for text in [
            "",
            "*",
            "*example.org",
            "*.",
            "*.example.org:80",
            "*.a!b",
            "https://*.example.org",
            "null",
            "example.org",
            "https://example.org/",
            "https://user@example.org",
            "https://a:99999",
            "https://a!b",
            "https://a..b",
            "https://[::g]",
            "https://",
            "://a",
            "1http://a",
        ] {
            assert_eq!(text.parse::<OriginPattern>(), Err(OriginPatternError), "{text}");
        }
    }

    #[test]
    fn a_page_of_the_server_itself_is_known_by_host_and_port() {
        let is_own = |origin: &str, host: &str| {
            Origin::parse(origin).unwrap().is_of(Authority::parse(host).unwrap())
        };
        for (origin, host) in [
            ("http://localhost:7071", "LOCALHOST:7071"),
            ("http://a.org", "a.org"),
            ("https://a.org", "a.org"),
            ("https://a.org:443", "a.org"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert!(is_own(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://localhost:7071", "localhost"),
            ("http://localhost", "localhost:7071"),
            ("https://a.org", "a.org:80"),
            ("http://b.org", "a.org"),
            ("ws://a.org", "a.org"),
        ] {
            assert!(!is_own(origin, host), "{origin} {host}");
        }
    }
}
