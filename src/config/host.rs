//! Which names the server answers to. A page of a foreign name that is made to resolve to this
//! server (DNS rebinding) still sends the foreign name as `Host`, and is told apart by it.

use std::fmt;
use std::str::FromStr;

use super::authority::{Authority, Subdomains, canonical_host};

/// One entry of the list of hosts answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// A host in its canonical spelling, with any port when none is given.
    Exact { host: String, port: Option<u16> },
    /// With any port.
    Subdomains(Subdomains),
}

impl HostPattern {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a host or host:port such as example.org, 10.0.0.1:7071 or \
         [::1], or *.example.org for all hosts below a domain";

    /// Whether this pattern names `host`, whose absent port is the default of HTTP or, behind a
    /// proxy, of HTTPS.
    pub fn matches(&self, host: Authority<'_>) -> bool {
        match &self.0 {
            Pattern::Exact { host: name, port } => {
                host.host.eq_ignore_ascii_case(name)
                    && port.is_none_or(|port| match host.port {
                        Some(other) => other == port,
                        None => [80, 443].contains(&port),
                    })
            }
            Pattern::Subdomains(subdomains) => subdomains.contain(host.host),
        }
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    /// Reads `host[:port]` or `*.example.org`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(subdomains) = Subdomains::parse(text) {
            return Ok(Self(Pattern::Subdomains(subdomains)));
        }
        let Authority { host, port } = Authority::parse(text).ok_or(HostPatternError)?;
        let host = canonical_host(host).ok_or(HostPatternError)?;
        Ok(Self(Pattern::Exact { host, port }))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Exact { host, port: Some(port) } => write!(formatter, "{host}:{port}"),
            Pattern::Exact { host, port: None } => formatter.write_str(host),
            Pattern::Subdomains(subdomains) => subdomains.fmt(formatter),
        }
    }
}

/// A text that is no pattern of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {}", HostPattern::GRAMMAR)]
pub struct HostPatternError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_by_name_and_by_port_where_one_is_given() {
        let matches = |pattern: &str, host: &str| {
            pattern.parse::<HostPattern>().unwrap().matches(Authority::parse(host).unwrap())
        };
        for (pattern, host) in [
            ("Example.org", "example.ORG"),
            ("example.org", "example.org:7071"),
            ("example.org:7071", "example.org:7071"),
            ("example.org:443", "example.org"),
            ("[0::1]", "[::1]:7071"),
            ("127.0.0.1", "127.0.0.1:1"),
            ("*.example.org", "a.b.Example.org:9"),
        ] {
            assert!(matches(pattern, host), "{pattern} {host}");
        }
        for (pattern, host) in [
            ("example.org", "a.example.org"),
            ("example.org:7071", "example.org"),
            ("example.org:7071", "example.org:7072"),
            ("*.example.org", "example.org"),
            ("*.example.org", "badexample.org"),
        ] {
            assert!(!matches(pattern, host), "{pattern} {host}");
        }
    }

    #[test]
    fn patterns_are_shown_in_one_spelling_and_others_are_refused() {
        for text in ["example.org", "10.0.0.1:7071", "[::1]:80", "*.example.org"] {
            let pattern: HostPattern = text.to_uppercase().parse().unwrap();
            assert_eq!(pattern.to_string(), text);
        }
        for text in ["", "*", "*.", "*.a:80", "http://a", "a/", "a:99999", "a!b", "[::g]", "a b"] {
            assert_eq!(text.parse::<HostPattern>(), Err(HostPatternError), "{text}");
        }
    }
}
