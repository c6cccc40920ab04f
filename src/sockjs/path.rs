//! What a path below a base names.

use super::transport::Transport;

/// What there is below a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'p> {
    /// The base itself, which says only that it is there.
    Greeting,
    /// What a client asks before everything else.
    Info,
    /// The page that does requests for pages of another origin.
    Iframe,
    /// A WebSocket without frames of this protocol.
    RawWebSocket,
    /// A WebSocket with them.
    WebSocket,
    /// Frames of a session.
    Receive(&'p str, Transport),
    /// Messages for a session.
    Send(&'p str, SendForm),
}

/// How messages for a session are sent, and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendForm {
    /// By a script, as a body of JSON.
    Xhr,
    /// By a form, of which a field has the same.
    Jsonp,
}

impl<'p> Resource<'p> {
    /// What `rest` names, which follows the base in a path.
    pub fn of(rest: &'p str) -> Option<Self> {
        let Some(below) = rest.strip_prefix('/') else {
            return rest.is_empty().then_some(Self::Greeting);
        };
        match below {
            "" => return Some(Self::Greeting),
            "info" | "info/" => return Some(Self::Info),
            "websocket" | "websocket/" => return Some(Self::RawWebSocket),
            _ if is_iframe(below.strip_suffix('/').unwrap_or(below)) => return Some(Self::Iframe),
            _ => {}
        }
        let mut segments = below.strip_suffix('/').unwrap_or(below).split('/');
        let server = segments.next().filter(|it| is_name(it));
        let session = segments.next().filter(|it| is_name(it) && it.len() <= SESSION_BYTES_MAX);
        let (Some(_), Some(session), Some(last), None) =
            (server, session, segments.next(), segments.next())
        else {
            return None;
        };
        Some(match last {
            "websocket" => Self::WebSocket,
            "xhr" => Self::Receive(session, Transport::Xhr),
            "xhr_streaming" => Self::Receive(session, Transport::XhrStreaming),
            "eventsource" => Self::Receive(session, Transport::EventSource),
            "htmlfile" => Self::Receive(session, Transport::HtmlFile),
            "jsonp" => Self::Receive(session, Transport::Jsonp),
            "xhr_send" => Self::Send(session, SendForm::Xhr),
            "jsonp_send" => Self::Send(session, SendForm::Jsonp),
            _ => return None,
        })
    }
}

/// The name of a server or of a session, as it stands in a path.
fn is_name(segment: &str) -> bool {
    !segment.is_empty() && !segment.contains('.')
}

/// `iframe.html`, or the same with a version, so that each is kept apart by caches.
fn is_iframe(name: &str) -> bool {
    let version = name.strip_prefix("iframe").and_then(|it| it.strip_suffix(".html"));
    let is_versioned = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_')
    };
    version.is_some_and(|version| version.bytes().all(is_versioned))
}

/// Bytes that the name of a session may have in a path.
const SESSION_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is() {
        use Resource::{Greeting, Iframe, Info, RawWebSocket, Receive, Send, WebSocket};
        for (rest, expected) in [
            ("", Greeting),
            ("/", Greeting),
            ("/info", Info),
            ("/websocket", RawWebSocket),
            ("/iframe.html", Iframe),
            ("/iframe-a.html", Iframe),
            ("/iframe-0.1.2.html", Iframe),
            ("/iframe-0.1.2abc-dirty.2144.html", Iframe),
            ("/0/0/websocket", WebSocket),
            ("/000/abc/xhr", Receive("abc", Transport::Xhr)),
            ("/_/-/xhr_streaming", Receive("-", Transport::XhrStreaming)),
            ("/%20/a%20b/eventsource", Receive("a%20b", Transport::EventSource)),
            ("/a/a/htmlfile", Receive("a", Transport::HtmlFile)),
            ("/a/a/jsonp/", Receive("a", Transport::Jsonp)),
            ("/999/abc/xhr_send", Send("abc", SendForm::Xhr)),
            ("/a/b/jsonp_send", Send("b", SendForm::Jsonp)),
        ] {
            assert_eq!(Resource::of(rest), Some(expected), "{rest}");
        }
    }

    #[test]
    fn what_there_is_not() {
        let long = format!("/0/{}/xhr", "s".repeat(256));
        for rest in [
            "//",
            "/a",
            "/a.html",
            "/a/a",
            "/a/a/",
            "a",
            "/iframe.htm",
            "/iframe",
            "/IFRAME.HTML",
            "/IFRAME",
            "/iframe.HTML",
            "/iframe.xml",
            "/iframe-/.html",
            "//a/xhr",
            "/a//xhr",
            "/a./a/xhr",
            "/a/a./xhr",
            "/./a/xhr",
            "/a/../xhr",
            "//xhr",
            "///xhr",
            "////xhr",
            "/a/a/xhrx",
            "/a/a/XHR",
            "/a/a/xhr//",
            "/a/a/a/xhr",
            "/Info",
            &long,
        ] {
            assert_eq!(Resource::of(rest), None, "{rest}");
        }
    }
}
