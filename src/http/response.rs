//! Response heads and bodies as bytes; whoever answers says what, this says how it is framed.

use std::borrow::Cow;

/// A response that is not an upgrade.
#[derive(Debug)]
pub(super) struct Response {
    status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    upgrade: bool,
    body: Cow<'static, str>,
}

impl Response {
    /// A response with a body of the given media type.
    pub(super) fn new(
        status: u16,
        content_type: &'static str,
        body: impl Into<Cow<'static, str>>,
    ) -> Self {
        // No response is the same a moment later, and none may be taken for another type than it
        // says.
        let headers = vec![
            ("Content-Type", content_type.into()),
            ("Cache-Control", "no-store".into()),
            ("X-Content-Type-Options", "nosniff".into()),
        ];
        Self { status, headers, upgrade: false, body: body.into() }
    }

    /// A response with a text body.
    pub(super) fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// Adds a header field; neither part may hold bytes of a peer.
    pub(super) fn header(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Says that the resource speaks WebSocket; `Connection` then lists `Upgrade` (RFC 9110 section
    /// 7.8).
    pub(super) fn upgrade(mut self) -> Self {
        self.upgrade = true;
        self.header("Upgrade", "websocket")
    }

    /// Tells the client in how many seconds to come back (RFC 9110 section 10.2.3).
    pub(super) fn retry_later(self, after_s: u8) -> Self {
        self.header("Retry-After", after_s.to_string())
    }

    /// The bytes to send; the answer to HEAD has the same head and no body (RFC 9110 section
    /// 9.3.2).
    pub(super) fn encode(&self, keep_alive: bool, head_only: bool) -> Vec<u8> {
        // Named even where it is the default of HTTP/1.1, because HTTP/1.0 clients need it.
        let persistence = if keep_alive { "keep-alive" } else { "close" };
        let upgrade = if self.upgrade { "Upgrade, " } else { "" };
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        for (name, value) in &self.headers {
            text.extend([*name, ": ", value, "\r\n"]);
        }
        let length = self.body.len().to_string();
        text.extend(["Content-Length: ", &length, "\r\n"]);
        text.extend(["Connection: ", upgrade, persistence, "\r\n\r\n"]);
        if !head_only {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

/// RFC 9110 section 15 and RFC 6585 section 5; RFC 9112 section 4 allows an empty phrase.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Refusal;

    #[test]
    fn a_response_is_framed() {
        let response = Response::text(200, "ok\n").header("Allow", "GET");
        let bytes = response.encode(true, false);
        let expected = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nAllow: GET\r\n\
            Content-Length: 3\r\nConnection: keep-alive\r\n\r\nok\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn head_keeps_the_length_and_drops_the_body() {
        let response = Response::text(200, "ok\n");
        let (get, head) = (response.encode(true, false), response.encode(true, true));
        assert_eq!([&head[..], b"ok\n"].concat(), get);
    }

    #[test]
    fn upgrade_is_a_connection_option() {
        let bytes = Response::text(426, "").upgrade().encode(false, false);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("Upgrade: websocket\r\n"));
        assert!(text.contains("Connection: Upgrade, close\r\n"));
    }

    #[test]
    fn every_refusal_has_a_phrase() {
        for refusal in Refusal::ALL {
            assert_ne!(reason_phrase(refusal.status()), "", "{refusal:?}");
        }
    }
}
