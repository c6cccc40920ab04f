//! Where the server is: `ws://host:port/path`, the same with `wss` for TLS, or
//! `ws+unix:PATH:/route` for a Unix socket.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use socket2::SockAddr;

/// A server and the resource asked of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL as given.
    pub url: String,
    /// Where the server listens.
    pub endpoint: Endpoint,
    /// Whether it speaks TLS.
    pub is_secure: bool,
    /// The `Host` field of a request.
    pub host: String,
    /// Path and query; `{topic}` in it stands for the number of a topic.
    pub path: String,
}

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host, an IPv6 address in brackets, and a port.
    Tcp(String, u16),
    /// The path of a socket.
    Unix(String),
}

impl Target {
    /// The path of a topic.
    pub fn path_of(&self, topic: u32) -> String {
        self.path.replace(TOPIC, &topic.to_string())
    }

    /// Whether topics have different paths.
    pub fn names_topic(&self) -> bool {
        self.path.contains(TOPIC)
    }

    fn tcp(url: &str, rest: &str, is_secure: bool) -> Result<Self, String> {
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(end) if rest[end..].starts_with('/') => (&rest[..end], rest[end..].to_owned()),
            Some(end) => (&rest[..end], format!("/{}", &rest[end..])),
            None => (rest, "/".to_owned()),
        };
        let default = if is_secure { DEFAULT_SECURE_PORT } else { DEFAULT_PORT };
        if authority.contains('@') {
            return Err("a ws URL has no user name or password (RFC 6455 section 3)".to_owned());
        }
        let (name, port) = split_authority(authority, default)?;
        // RFC 6455 section 4.1, item 4 of the request: the default port is not named.
        let host = if port == default { name.to_owned() } else { format!("{name}:{port}") };
        let endpoint = Endpoint::Tcp(name.to_owned(), port);
        Ok(Self { url: url.to_owned(), endpoint, is_secure, host, path })
    }

    fn unix(url: &str, rest: &str) -> Result<Self, String> {
        let (file, path) = match rest.split_once(":/") {
            Some((file, path)) => (file, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        if file.is_empty() {
            return Err(format!("no path of a socket before the route; {ALLOWED}"));
        }
        let (endpoint, host) = (Endpoint::Unix(file.to_owned()), "localhost".to_owned());
        Ok(Self { url: url.to_owned(), endpoint, is_secure: false, host, path })
    }
}

impl Endpoint {
    /// The addresses behind it, at least one: a connection tries one after the other.
    ///
    /// # Errors
    /// Why there is none.
    pub fn addresses(&self) -> Result<Vec<SockAddr>, String> {
        let (name, port) = match self {
            Self::Tcp(name, port) => (name, *port),
            Self::Unix(file) => {
                let refused = |error| format!("{file:?} is no path of a socket: {error}");
                return Ok(vec![SockAddr::unix(file).map_err(refused)?]);
            }
        };
        let refused = |error| format!("{name}:{port} has no address: {error}");
        let mut addresses: Vec<SocketAddr> =
            (without_brackets(name), port).to_socket_addrs().map_err(refused)?.collect();
        if addresses.is_empty() {
            return Err(format!("{name}:{port} has no address"));
        }
        // A name often has an IPv6 address as well; most servers under test listen on IPv4.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        addresses.truncate(ADDRESSES_MOST);
        Ok(addresses.into_iter().map(SockAddr::from).collect())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let target = if let Some(rest) = after_scheme(url, "ws://") {
            Self::tcp(url, rest, false)?
        } else if let Some(rest) = after_scheme(url, "wss://") {
            Self::tcp(url, rest, true)?
        } else if let Some(rest) = after_scheme(url, "ws+unix:") {
            Self::unix(url, rest)?
        } else {
            return Err(ALLOWED.to_owned());
        };
        check_path(&target.path)?;
        Ok(target)
    }
}

/// An IPv6 address as it stands outside of URLs.
pub fn without_brackets(name: &str) -> &str {
    name.trim_start_matches('[').trim_end_matches(']')
}

/// What follows the scheme, which is read without regard to case (RFC 3986 section 3.1).
pub fn after_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (start, rest) = url.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// The host, with its brackets if it has any, and the port.
///
/// # Errors
/// What is allowed, when `authority` is something else.
pub fn split_authority(authority: &str, default_port: u16) -> Result<(&str, u16), String> {
    let (name, port) = match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => {
            (&authority[..colon], &authority[colon + 1..])
        }
        _ => (authority, ""),
    };
    if let Some(inner) = name.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
        if address.is_none() {
            return Err(format!("{name} is no IPv6 address in brackets, such as [::1]"));
        }
    } else if name.contains(':') {
        return Err(unbracketed(authority, name, port));
    } else if name.is_empty() {
        return Err("no host before the port or the path".to_owned());
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        let allowed = "letters, digits, '-', '.' and '_'; other names have a form xn--...";
        return Err(format!("{name:?} is no host name: {allowed}"));
    }
    match port {
        "" => Ok((name, default_port)),
        _ if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            let number = port.parse().ok().filter(|&port: &u16| port != 0);
            let refused = || format!("port {port} does not exist: a port from 1 to 65535");
            Ok((name, number.ok_or_else(refused)?))
        }
        _ => Err(format!("{port:?} is no port: a port from 1 to 65535")),
    }
}

/// Says how an IPv6 address is written in a URL (RFC 3986 section 3.2.2).
fn unbracketed(authority: &str, name: &str, port: &str) -> String {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let written = match (is_address(name), is_address(authority)) {
        (true, true) => format!("//[{name}]:{port} or //[{authority}]"),
        (true, false) => format!("//[{name}]:{port}"),
        (false, true) => format!("//[{authority}]"),
        (false, false) => return format!("{authority} is neither host nor host:port"),
    };
    format!("an IPv6 address stands in brackets: {written}")
}

fn check_path(path: &str) -> Result<(), String> {
    if path.contains('#') {
        let fix = "leave out what follows #, or write %23 where # is meant";
        return Err(format!("a ws URL has no fragment (RFC 6455 section 3): {fix}"));
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a path of printable ASCII; percent-encode the rest, such as %20".to_owned());
    }
    let is_encoded = |part: &str| {
        part.get(..2).is_some_and(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    match path.split('%').skip(1).all(is_encoded) {
        true => Ok(()),
        false => Err("a % in a path begins a code of two digits; write %25 for itself".to_owned()),
    }
}

const ALLOWED: &str = "ws://host:port/path, wss://host:port/path or ws+unix:PATH:/route";
const TOPIC: &str = "{topic}";
/// Addresses of one name that are tried.
const ADDRESSES_MOST: usize = 16;
/// RFC 6455 section 3.
const DEFAULT_PORT: u16 = 80;
const DEFAULT_SECURE_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_address_host_and_path() {
        let target: Target = "ws://127.0.0.1:7071/echo?a=b".parse().expect("a URL");
        assert_eq!(target.endpoint.addresses(), Ok(vec![address("127.0.0.1:7071")]));
        assert_eq!((&*target.host, &*target.path), ("127.0.0.1:7071", "/echo?a=b"));
        let target: Target = "ws://[::1]".parse().expect("a URL");
        assert_eq!(target.endpoint.addresses(), Ok(vec![address("[::1]:80")]));
        assert_eq!((&*target.host, &*target.path), ("[::1]", "/"));
        let target: Target = "ws://127.0.0.1?x={topic}".parse().expect("a URL");
        assert_eq!((&*target.path_of(3), target.names_topic()), ("/?x=3", true));
        let target: Target = "ws+unix:/run/a.sock:/echo".parse().expect("a URL");
        assert_eq!(target.path, "/echo");
        let addresses = target.endpoint.addresses().expect("a path");
        assert_eq!(addresses[0].as_pathname(), Some("/run/a.sock".as_ref()));
    }

    #[test]
    fn tls_has_a_scheme_and_a_default_port() {
        let secure: Target = "wss://example.org/chat".parse().expect("a URL");
        assert_eq!(secure.endpoint, Endpoint::Tcp("example.org".to_owned(), 443));
        assert_eq!((&*secure.host, secure.is_secure), ("example.org", true));
        let other: Target = "WSS://example.org:80".parse().expect("a URL");
        assert_eq!(other.host, "example.org:80");
    }

    #[test]
    fn schemes_have_no_case_and_default_ports_no_name() {
        for url in ["WS://127.0.0.1:80/a%20b", "wS://127.0.0.1:/a%20b"] {
            let target: Target = url.parse().expect(url);
            assert_eq!((&*target.host, &*target.path), ("127.0.0.1", "/a%20b"), "{url}");
        }
        let target: Target = "WS+Unix:/run/a.sock:/echo".parse().expect("a URL");
        assert_eq!(target.path, "/echo");
    }

    #[test]
    fn other_texts_are_refused_with_the_fix() {
        for (wrong, fix) in [
            ("", "ws://host:port/path"),
            ("ws:/", "ws://host:port/path"),
            ("http://a/", "ws://host:port/path"),
            ("wss://", "no host"),
            ("ws://", "no host"),
            ("ws://:7071/", "no host"),
            ("ws://?a", "no host"),
            ("ws+unix:", "no path of a socket"),
            ("ws+unix::/echo", "no path of a socket"),
            ("ws://127.0.0.1/a b", "%20"),
            ("ws://127.0.0.1/a%2", "%25"),
            ("ws://127.0.0.1/%zz", "%25"),
            ("ws://127.0.0.1/a#b", "fragment"),
            ("ws://127.0.0.1#b", "fragment"),
            ("ws+unix:/a:/b#c", "fragment"),
            ("ws://me:secret@127.0.0.1/", "user name"),
            ("ws://127.0.0.1:0/", "from 1 to 65535"),
            ("ws://127.0.0.1:65536/", "from 1 to 65535"),
            ("ws://127.0.0.1:+80/", "from 1 to 65535"),
            ("ws://127.0.0.1:x/", "from 1 to 65535"),
            ("ws://::1:7071/", "//[::1]:7071"),
            ("ws://::1", "//[::1]"),
            ("ws://a:b:7071/", "neither host nor host:port"),
            ("ws://[::1/", "in brackets"),
            ("ws://[127.0.0.1]:80/", "in brackets"),
            ("ws://[::1%25lo]:80/", "in brackets"),
            ("ws://local%68ost/", "no host name"),
            ("ws://127.0.0.1\r\nX: y/", "host"),
            ("ws://{topic}/", "no host name"),
        ] {
            let said = wrong.parse::<Target>().expect_err(wrong);
            assert!(said.contains(fix), "{wrong}: {said}");
        }
    }

    fn address(text: &str) -> SockAddr {
        text.parse::<SocketAddr>().expect("an address").into()
    }
}
