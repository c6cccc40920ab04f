//! Sends whoever has come without TLS to where it is spoken.

use super::Policy;
use super::decision::check_host;
use super::refusal::{Refusal, Refused};
use super::request::Head;
use super::response::Response;
use super::route::{HEALTH, split};

/// The port of `https` where none is named (RFC 9110 section 4.2.2).
pub const HTTPS_PORT: u16 = 443;

/// The same by https, at the host that the request is for and this `port`: 308, so that clients
/// keep method and body (RFC 9110 section 15.4.9). `None` for health, which whoever watches this
/// listener asks for as well.
pub(super) fn response(
    head: &Head<'_>,
    port: u16,
    policy: &Policy,
) -> Result<Option<Response>, Refused> {
    let (authority, path_and_query) = split(head.target)?;
    if path_and_query.split('?').next() == Some(HEALTH) {
        return Ok(None);
    }
    let host = authority.or(head.host);
    check_host(host, policy)?;
    let Some(host) = host.map(|it| it.host) else {
        let detail = "A request without Host cannot be sent to https.";
        return Err(Refused::new(Refusal::MissingHost, detail));
    };
    let port = if port == HTTPS_PORT { String::new() } else { format!(":{port}") };
    let slash = if path_and_query.starts_with('/') { "" } else { "/" };
    let location = format!("https://{host}{port}{slash}{path_and_query}");
    Ok(Some(Response::text(308, "This is served by https.\n").header("Location", location)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::http::{Answer, Conditions, Exchange, Serving};

    fn answer(request: &str, port: u16, policy: &Policy) -> String {
        let unlimited = Conditions::unlimited(policy, Serving::Open);
        let conditions = Conditions { redirects_to: Some(port), ..unlimited };
        match Exchange::default().receive(request.as_bytes(), &conditions) {
            Answer::Respond { response, .. } => String::from_utf8(response).expect("ASCII"),
            other => panic!("{request}: {other:?}"),
        }
    }

    #[test]
    fn everything_is_sent_to_the_same_by_https() {
        let policy = Policy::new(&Config::default());
        for (first_line, host, port, location) in [
            ("GET / HTTP/1.1", "example.org", 443, "https://example.org/"),
            ("GET /a%20b?c=d HTTP/1.1", "example.org:80", 443, "https://example.org/a%20b?c=d"),
            ("GET //evil.example HTTP/1.1", "a", 7443, "https://a:7443//evil.example"),
            ("POST /broadcast/a HTTP/1.1", "[::1]:80", 8443, "https://[::1]:8443/broadcast/a"),
            ("DELETE /nowhere HTTP/1.1", "a", 443, "https://a/nowhere"),
            ("GET http://b:80?x HTTP/1.1", "a", 443, "https://b/?x"),
            ("GET /healthzz HTTP/1.0", "a", 443, "https://a/healthzz"),
        ] {
            let said = answer(&format!("{first_line}\r\nHost: {host}\r\n\r\n"), port, &policy);
            assert!(said.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"), "{said}");
            assert!(said.contains(&format!("\r\nLocation: {location}\r\n")), "{location}: {said}");
        }
    }

    #[test]
    fn upgrades_are_sent_there_too_and_health_is_told() {
        let policy = Policy::new(&Config::default());
        let upgrade = "GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert!(answer(upgrade, 443, &policy).starts_with("HTTP/1.1 308 "));
        for request in
            ["GET /healthz HTTP/1.0\r\n\r\n", "GET /healthz?a HTTP/1.1\r\nHost: a\r\n\r\n"]
        {
            assert!(answer(request, 443, &policy).starts_with("HTTP/1.1 200 "), "{request}");
        }
    }

    #[test]
    fn who_does_not_say_for_whom_cannot_be_sent_on() {
        let mut policy = Policy::new(&Config::default());
        for request in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(answer(request, 443, &policy).starts_with("HTTP/1.1 400 "), "{request}");
        }
        policy.allow_host = vec!["example.org".parse().expect("a host")];
        let other = answer("GET / HTTP/1.1\r\nHost: other.org\r\n\r\n", 443, &policy);
        assert!(other.starts_with("HTTP/1.1 421 "), "{other}");
    }
}
