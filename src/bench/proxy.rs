//! The way through a proxy: a tunnel by HTTP CONNECT (RFC 9110 section 9.3.6).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::failure::Fault;
use super::handshake::{check_response, refusal};
use super::target::{Endpoint, after_scheme, split_authority};

/// A proxy, and who may use it.
#[derive(Clone)]
pub struct Proxy {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What the field `Proxy-Authorization` says (RFC 7617), if there is to be one.
    credentials: Option<String>,
}

impl Proxy {
    /// What asks the proxy for a tunnel to a host and port.
    pub fn request(&self, host: &str, port: u16) -> Vec<u8> {
        let credentials = self.credentials.as_ref();
        let field =
            credentials.map_or(String::new(), |it| format!("Proxy-Authorization: Basic {it}\r\n"));
        let authority = format!("{host}:{port}");
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{field}\r\n").into_bytes()
    }
}

/// Checks a proxy's answer and returns its length; `None` when it is not complete yet.
///
/// # Errors
/// Why there is no tunnel.
pub fn check(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    check_response(bytes, |response, body| match response.code {
        Some(200..300) => Ok(()),
        _ => Err(refusal(response, body)),
    })
}

impl FromStr for Proxy {
    type Err = String;

    /// Reads `http://[user:password@]host:port`. User and password stand as they are, up to the
    /// last `@` and the first `:`.
    fn from_str(url: &str) -> Result<Self, String> {
        let rest = after_scheme(url, "http://").ok_or(ALLOWED)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) if user.contains(':') => {
                (Some(STANDARD.encode(user)), authority)
            }
            Some(_) => return Err(ALLOWED.to_owned()),
            None => (None, rest),
        };
        let (host, port) = split_authority(authority, DEFAULT_PORT)?;
        Ok(Self { endpoint: Endpoint::Tcp(host.to_owned(), port), credentials })
    }
}

impl fmt::Debug for Proxy {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.endpoint).finish()
    }
}

const ALLOWED: &str = "http://host:port or http://user:password@host:port";
/// RFC 9110 section 4.2.1.
const DEFAULT_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_asked_for_with_the_password_and_shown_without() {
        let proxy: Proxy = "http://me:a:b@c@[::1]:3128/".parse().expect("a proxy");
        assert_eq!(proxy.endpoint, Endpoint::Tcp("[::1]".to_owned(), 3128));
        let request = String::from_utf8(proxy.request("example.org", 443)).expect("ASCII");
        let fields = "Proxy-Authorization: Basic bWU6YTpiQGM=\r\n";
        let begin = "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n";
        assert_eq!(request, format!("{begin}{fields}\r\n"));
        assert!(!format!("{proxy:?}").contains("a:b"), "{proxy:?}");
        let plain: Proxy = "HTTP://proxy".parse().expect("a proxy");
        assert!(!plain.request("a", 1).windows(5).any(|part| part == b"Basic"));
        for wrong in ["", "proxy:1", "https://proxy:1", "http://me@proxy:1", "http://proxy:x"] {
            assert!(wrong.parse::<Proxy>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_success_opens_a_tunnel() {
        let answer = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n";
        for cut in 0..answer.len() {
            assert_eq!(check(&answer[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(check(answer), Ok(Some(answer.len())));
        let refused = check(b"HTTP/1.1 407 Who\r\n\r\nnot you").expect_err("refused");
        assert_eq!(refused.to_string(), "refused with status 407 Who: not you");
    }
}
