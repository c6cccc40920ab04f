//! Response heads and bodies as bytes; whoever answers says what, this says how it is framed.

use std::borrow::Cow;

use crate::wire::line::LineFraming;

/// A response that is not an upgrade.
#[derive(Debug)]
pub(super) struct Response {
    status: u16,
    headers: Vec<(&'static str, Cow<'static, str>)>,
    upgrade: bool,
    content: Content,
}

/// What follows the head.
#[derive(Debug)]
enum Content {
    /// Nothing, and no word about it (RFC 9110 section 8.6).
    None,
    Whole(Cow<'static, str>),
    /// Lines, until the server or the client ends them.
    Endless(LineFraming),
}

impl Response {
    /// A response with a body of the given media type.
    pub(super) fn new(
        status: u16,
        content_type: &'static str,
        body: impl Into<Cow<'static, str>>,
    ) -> Self {
        let headers = vec![(CONTENT_TYPE, content_type.into()), NOT_STORED, NOT_SNIFFED];
        Self { status, headers, upgrade: false, content: Content::Whole(body.into()) }
    }

    /// A response of a status that has no content, such as 204.
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: vec![NOT_STORED], upgrade: false, content: Content::None }
    }

    /// A response without content, and with nothing said of what that would be.
    pub(super) fn bare(status: u16) -> Self {
        Self {
            status,
            headers: vec![NOT_STORED],
            upgrade: false,
            content: Content::Whole("".into()),
        }
    }

    /// A response whose content comes by and by, as lines.
    pub(super) fn endless(content_type: &'static str, framing: LineFraming) -> Self {
        Self { content: Content::Endless(framing), ..Self::new(200, content_type, "") }
    }

    /// A response with a text body.
    pub(super) fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// A response with a body of JSON.
    pub(super) fn json(status: u16, body: String) -> Self {
        Self::new(status, "application/json", body)
    }

    /// The same with another word about caches.
    pub(super) fn cached(mut self, cache_control: &'static str) -> Self {
        let header = self.headers.iter_mut().find(|(name, _)| *name == NOT_STORED.0);
        if let Some((_, value)) = header {
            *value = cache_control.into();
        }
        self
    }

    /// The same with another body.
    pub(super) fn with_body(self, body: String) -> Self {
        Self { content: Content::Whole(body.into()), ..self }
    }

    /// The same fields with another status and body.
    pub(super) fn say(mut self, status: u16, content_type: &'static str, body: String) -> Self {
        self.headers.retain(|(name, _)| *name != CONTENT_TYPE);
        self.headers.push((CONTENT_TYPE, content_type.into()));
        Self { status, ..self.with_body(body) }
    }

    /// Adds a header field. What comes from a peer must be visible ASCII: the end of a line would
    /// begin another field.
    pub(super) fn header(
        mut self,
        name: &'static str,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        let value = value.into();
        debug_assert!(value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{name}");
        self.headers.push((name, value));
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

    /// The bytes to send, or those that begin it; the answer to HEAD has the same head and no body
    /// (RFC 9110 section 9.3.2).
    pub(super) fn encode(&self, keep_alive: bool, head_only: bool) -> Vec<u8> {
        // Named even where it is the default of HTTP/1.1, because HTTP/1.0 clients need it.
        let persistence = if keep_alive { "keep-alive" } else { "close" };
        let upgrade = if self.upgrade { "Upgrade, " } else { "" };
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        for (name, value) in &self.headers {
            text.extend([*name, ": ", value, "\r\n"]);
        }
        match &self.content {
            Content::Whole(body) => {
                text.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
            }
            Content::Endless(LineFraming::Chunked) => {
                text.push_str("Transfer-Encoding: chunked\r\n");
            }
            Content::Endless(LineFraming::Bare) | Content::None => {}
        }
        text.extend(["Connection: ", upgrade, persistence, "\r\n\r\n"]);
        match &self.content {
            Content::Whole(body) if !head_only => text.push_str(body),
            Content::Whole(_) | Content::Endless(_) | Content::None => {}
        }
        text.into_bytes()
    }
}

/// RFC 9110 section 15 and RFC 6585 section 5; RFC 9112 section 4 allows an empty phrase.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
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
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "",
    }
}

const CONTENT_TYPE: &str = "Content-Type";
/// No response is the same a moment later.
const NOT_STORED: (&str, Cow<'static, str>) = ("Cache-Control", Cow::Borrowed("no-store"));
/// None may be taken for another type than it says.
const NOT_SNIFFED: (&str, Cow<'static, str>) = ("X-Content-Type-Options", Cow::Borrowed("nosniff"));

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
