//! How SockJS is spoken below a mount.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::limits;

/// What a mount says of SockJS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SockJs {
    /// Whether a WebSocket may be one of its transports.
    pub has_websocket: bool,
    /// Whether a cookie is set by which proxies find the server of a session again.
    pub has_cookie: bool,
    /// Bytes of frames behind which a response that goes on ends.
    pub response_bytes: usize,
    /// Time after which a response that goes on, or waits, is told that the session is there.
    pub heartbeat: Duration,
    /// Time for which a session waits for its client.
    pub disconnect_delay: Duration,
    /// Where the script of the client is, which pages of other origins need.
    pub client_url: ScriptUrl,
}

impl Default for SockJs {
    fn default() -> Self {
        Self {
            has_websocket: true,
            has_cookie: false,
            response_bytes: limits::SOCKJS_RESPONSE_BYTES.default,
            heartbeat: limits::SOCKJS_HEARTBEAT.default,
            disconnect_delay: limits::SOCKJS_DISCONNECT_DELAY.default,
            client_url: ScriptUrl::default(),
        }
    }
}

/// Where a page finds a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptUrl(String);

impl ScriptUrl {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str =
        "a path such as /sockjs.min.js, or a URL with http:// or https://";

    /// The URL, which can stand in an attribute of a page.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ScriptUrl {
    fn default() -> Self {
        Self("https://cdn.jsdelivr.net/npm/sockjs-client@1/dist/sockjs.min.js".to_owned())
    }
}

/// A text that is no URL of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", ScriptUrl::GRAMMAR)]
pub struct ScriptUrlError;

impl FromStr for ScriptUrl {
    type Err = ScriptUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begins = ["/", "http://", "https://"].iter().any(|begin| text.starts_with(begin));
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"&'<>\\".contains(&byte);
        match begins && text.bytes().all(is_plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(ScriptUrlError),
        }
    }
}

impl fmt::Display for ScriptUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why a WebSocket is closed, as its peer is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseReason(String);

impl CloseReason {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a text of at most 123 bytes without control characters";

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", CloseReason::GRAMMAR)]
pub struct CloseReasonError;

impl FromStr for CloseReason {
    type Err = CloseReasonError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What a close frame may have beside its code (RFC 6455 section 5.5).
        match text.len() <= 123 && !text.contains(char::is_control) {
            true => Ok(Self(text.to_owned())),
            false => Err(CloseReasonError),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_named_by_what_a_page_can_hold() {
        for text in ["/sockjs.js", "http://a/b?c=d", "https://a.org/x@1/y.js"] {
            assert_eq!(text.parse::<ScriptUrl>().unwrap().as_str(), text);
        }
        for text in ["", "sockjs.js", "ftp://a/b", "/a b", "/a\"", "/<", "javascript:x", "/\u{e9}"]
        {
            assert_eq!(text.parse::<ScriptUrl>(), Err(ScriptUrlError), "{text}");
        }
        let default = ScriptUrl::default();
        assert_eq!(default.to_string().parse(), Ok(default));
    }

    #[test]
    fn reasons_fit_a_close_frame() {
        assert_eq!("Go away!".parse::<CloseReason>().unwrap().as_str(), "Go away!");
        for text in ["a\n", &"x".repeat(124)] {
            assert_eq!(text.parse::<CloseReason>(), Err(CloseReasonError), "{text}");
        }
    }
}
