//! Where the server is: `ws://host:port/path`, or `ws+unix:PATH:/route` for a Unix socket.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use socket2::SockAddr;

/// A server and the resource asked of it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL as given.
    pub url: String,
    /// The peer of every connection.
    pub address: SockAddr,
    /// The `Host` field of a request.
    pub host: String,
    /// Path and query; `{topic}` in it stands for the number of a topic.
    pub path: String,
}

impl Target {
    /// Whether the server is on this machine, at an IPv4 address of 127.0.0.0/8.
    pub fn is_ipv4_loopback(&self) -> bool {
        self.address.as_socket_ipv4().is_some_and(|address| address.ip().is_loopback())
    }

    /// The path of a topic.
    pub fn path_of(&self, topic: u32) -> String {
        self.path.replace(TOPIC, &topic.to_string())
    }

    /// Whether topics have different paths.
    pub fn names_topic(&self) -> bool {
        self.path.contains(TOPIC)
    }

    fn tcp(url: &str, rest: &str) -> Result<Self, String> {
        let (authority, path) = match rest.find(['/', '?']) {
            Some(end) if rest[end..].starts_with('/') => (&rest[..end], rest[end..].to_owned()),
            Some(end) => (&rest[..end], format!("/{}", &rest[end..])),
            None => (rest, "/".to_owned()),
        };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let address = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        let refused = |error: std::io::Error| format!("{authority} has no address: {error}");
        let addresses: Vec<SocketAddr> = address.to_socket_addrs().map_err(refused)?.collect();
        // A name often has an IPv6 address as well; most servers under test listen on IPv4.
        let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        let Some(&address) = first else { return Err(format!("{authority} has no address")) };
        let host = authority.to_owned();
        Ok(Self { url: url.to_owned(), address: address.into(), host, path })
    }

    fn unix(url: &str, rest: &str) -> Result<Self, String> {
        let (file, path) = match rest.split_once(":/") {
            Some((file, path)) => (file, format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        let refused = |error: std::io::Error| format!("{file:?} is no path of a socket: {error}");
        let address = SockAddr::unix(file).map_err(refused)?;
        Ok(Self { url: url.to_owned(), address, host: "localhost".to_owned(), path })
    }
}

impl FromStr for Target {
    type Err = String;

    /// Reads a URL and resolves its host.
    fn from_str(url: &str) -> Result<Self, String> {
        let target = match (url.strip_prefix("ws://"), url.strip_prefix("ws+unix:")) {
            (Some(rest), _) if !rest.is_empty() => Self::tcp(url, rest)?,
            (_, Some(rest)) if !rest.is_empty() => Self::unix(url, rest)?,
            _ => return Err(ALLOWED.to_owned()),
        };
        match target.path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            true => Ok(target),
            false => Err("a path of printable ASCII without a fragment".to_owned()),
        }
    }
}

const ALLOWED: &str = "ws://host:port/path or ws+unix:PATH:/route; there is no TLS, so no wss://";
const TOPIC: &str = "{topic}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_address_host_and_path() {
        let target: Target = "ws://127.0.0.1:7071/echo?a=b".parse().expect("a URL");
        assert_eq!(target.address.as_socket(), Some("127.0.0.1:7071".parse().expect("valid")));
        assert_eq!((&*target.host, &*target.path), ("127.0.0.1:7071", "/echo?a=b"));
        assert!(target.is_ipv4_loopback());
        let target: Target = "ws://[::1]".parse().expect("a URL");
        assert_eq!(target.address.as_socket(), Some("[::1]:80".parse().expect("valid")));
        assert_eq!((&*target.host, &*target.path), ("[::1]", "/"));
        let target: Target = "ws://127.0.0.1?x={topic}".parse().expect("a URL");
        assert_eq!((&*target.path_of(3), target.names_topic()), ("/?x=3", true));
        let target: Target = "ws+unix:/run/a.sock:/echo".parse().expect("a URL");
        assert_eq!(target.path, "/echo");
        assert_eq!(target.address.as_pathname(), Some("/run/a.sock".as_ref()));
    }

    #[test]
    fn other_texts_are_refused() {
        for wrong in ["", "ws://", "http://a/", "ws+unix:", "ws://127.0.0.1/a b", "ws://:x/"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
