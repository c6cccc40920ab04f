//! How frames are sent as parts of responses.

use super::frame::{self, HEARTBEAT};
use crate::wire::line::LineFraming;
use crate::wire::message::{DataMessage, MessageKind};

/// How a session gets its frames by requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One response, one frame.
    Xhr,
    /// Frames as lines.
    XhrStreaming,
    /// Frames as events.
    EventSource,
    /// Frames as scripts of a page that is never whole.
    HtmlFile,
    /// One script, one frame.
    Jsonp,
}

impl Transport {
    /// Whether a response goes on behind its first frame.
    pub fn is_streaming(self) -> bool {
        matches!(self, Self::XhrStreaming | Self::EventSource | Self::HtmlFile)
    }

    /// Whether requests are made by a script, which may be of a page of another origin, and not by
    /// an element of a page.
    pub fn is_posted(self) -> bool {
        matches!(self, Self::Xhr | Self::XhrStreaming)
    }

    /// Whether a function of the page is called, which its request names.
    pub fn has_callback(self) -> bool {
        matches!(self, Self::HtmlFile | Self::Jsonp)
    }

    /// The type of its responses.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Xhr | Self::XhrStreaming | Self::Jsonp => "application/javascript; charset=UTF-8",
            // Old browsers refuse it with a charset.
            Self::EventSource => "text/event-stream",
            Self::HtmlFile => "text/html; charset=UTF-8",
        }
    }

    /// What goes before the first frame: browsers show a response to its page only when they have
    /// got so much of it.
    pub fn prelude(self, callback: &str) -> String {
        match self {
            Self::Xhr | Self::Jsonp => String::new(),
            Self::XhrStreaming => HEARTBEAT.repeat(XHR_PRELUDE_BYTES) + "\n",
            Self::EventSource => "\r\n".to_owned(),
            Self::HtmlFile => {
                let page = HTML_HEAD.replace("{callback}", callback);
                format!("{page:<HTML_HEAD_BYTES$}\r\n\r\n")
            }
        }
    }

    /// Appends a frame as part of a response.
    pub fn push(self, frame: &str, callback: &str, part: &mut String) {
        match self {
            Self::Xhr | Self::XhrStreaming => part.extend([frame, "\n"]),
            Self::EventSource => {
                part.push_str("data: ");
                // Clients decode it as a part of a URL.
                frame.split('%').enumerate().for_each(|(number, plain)| {
                    part.push_str(if number > 0 { "%25" } else { "" });
                    part.push_str(plain);
                });
                part.push_str("\r\n\r\n");
            }
            Self::HtmlFile => {
                part.push_str("<script>\np(");
                push_script_string(frame, part);
                part.push_str(");\n</script>\r\n");
            }
            Self::Jsonp => {
                // What comes first keeps the response from being taken for a program of another
                // kind, which the name of the function could begin.
                part.extend(["/**/", callback, "("]);
                push_script_string(frame, part);
                part.push_str(");\r\n");
            }
        }
    }

    /// A part of a response that goes on, in the framing of that.
    pub fn part(self, frame: &str, framing: LineFraming) -> Vec<u8> {
        let mut part = String::new();
        self.push(frame, "", &mut part);
        chunk(&part, framing)
    }
}

/// How members of a topic get what is published there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Each message is one of a WebSocket, with a frame in it.
    WebSocket,
    /// Each is a frame, as part of a response that goes on.
    Part(Transport, LineFraming),
    /// Each is a literal, which waits to become part of a frame.
    Literal,
}

impl Form {
    /// Appends a message in this form.
    pub fn push(self, text: &str, bytes: &mut Vec<u8>) {
        let mut frame = String::new();
        match self {
            Self::Literal => {
                frame::push_literal(text, &mut frame);
                bytes.extend_from_slice(frame.as_bytes());
            }
            Self::WebSocket => {
                frame::push_of_message(text, &mut frame);
                bytes.extend(message_of(&frame));
            }
            Self::Part(transport, framing) => {
                frame::push_of_message(text, &mut frame);
                bytes.extend(transport.part(&frame, framing));
            }
        }
    }
}

/// A frame as a message of a WebSocket.
pub fn message_of(frame: &str) -> Vec<u8> {
    DataMessage::new(MessageKind::Text, frame.as_bytes()).into_frame()
}

/// A part of a response in the framing of that: each is a chunk of its own (RFC 9112 section 7.1).
pub fn chunk(part: &str, framing: LineFraming) -> Vec<u8> {
    match framing {
        LineFraming::Chunked => format!("{:x}\r\n{part}\r\n", part.len()).into_bytes(),
        LineFraming::Bare => part.as_bytes().to_vec(),
    }
}

/// Appends a frame as a string of a script within a page, out of which nothing in it may lead.
/// Characters that a frame does not have need no escape.
fn push_script_string(frame: &str, script: &mut String) {
    script.push('"');
    for character in frame.chars() {
        match character {
            '"' => script.push_str("\\\""),
            '\\' => script.push_str("\\\\"),
            '<' => script.push_str("\\u003c"),
            other => script.push(other),
        }
    }
    script.push('"');
}

/// The name of a function, or why it is not taken, in texts that clients of the protocol know.
pub fn check_callback(name: Option<&str>) -> Result<&str, &'static str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match name {
        None | Some("") => Err("\"callback\" parameter required"),
        Some(name) if name.len() <= CALLBACK_BYTES_MAX && name.bytes().all(is_name) => Ok(name),
        Some(_) => Err("invalid \"callback\" parameter"),
    }
}

/// The page that does requests for those of another origin, with the script of the client.
pub fn iframe_page(client_url: &str) -> String {
    IFRAME.replace("{client_url}", client_url)
}

/// What Internet Explorer and Android need to see before they show any of a response.
const XHR_PRELUDE_BYTES: usize = 2048;
/// What Internet Explorer needs of a page.
const HTML_HEAD_BYTES: usize = 1024;
/// What the name of a function may have: longer ones could be programs.
const CALLBACK_BYTES_MAX: usize = 32;

/// The beginning of the page whose scripts are frames, as the protocol has it.
const HTML_HEAD: &str = r#"<!doctype html>
<html><head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
</head><body><h2>Don't panic!</h2>
  <script>
    document.domain = document.domain;
    var c = parent.{callback};
    c.start();
    function p(d) {c.message(d);};
    window.onload = function() {c.stop();};
  </script>"#;

/// The page for other origins, as the protocol has it.
const IFRAME: &str = r#"<!DOCTYPE html>
<html>
<head>
  <meta http-equiv="X-UA-Compatible" content="IE=edge" />
  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />
  <script src="{client_url}"></script>
  <script>
    document.domain = document.domain;
    SockJS.bootstrap_iframe();
  </script>
</head>
<body>
  <h2>Don't panic!</h2>
  <p>This is a SockJS hidden iframe. It's used for cross domain magic.</p>
</body>
</html>"#;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(transport: Transport, frame: &str) -> String {
        let mut part = String::new();
        transport.push(frame, "cb", &mut part);
        part
    }

    #[test]
    fn frames_are_parts_of_responses() {
        for (transport, frame, expected) in [
            (Transport::Xhr, "o", "o\n"),
            (Transport::XhrStreaming, "a[\"x\"]", "a[\"x\"]\n"),
            (Transport::EventSource, "a[\"100%\"]", "data: a[\"100%25\"]\r\n\r\n"),
            (
                Transport::HtmlFile,
                "a[\"</script>\\n\"]",
                "<script>\np(\"a[\\\"\\u003c/script>\\\\n\\\"]\");\n</script>\r\n",
            ),
            (Transport::Jsonp, "a[\"x\"]", "/**/cb(\"a[\\\"x\\\"]\");\r\n"),
        ] {
            assert_eq!(part(transport, frame), expected, "{transport:?}");
        }
    }

    #[test]
    fn messages_have_the_form_of_those_who_get_them() {
        let streaming = |framing| Form::Part(Transport::XhrStreaming, framing);
        for (form, expected) in [
            (Form::Literal, "\"0123456789\""),
            (Form::WebSocket, "\u{81}\u{f}a[\"0123456789\"]"),
            (streaming(LineFraming::Chunked), "10\r\na[\"0123456789\"]\n\r\n"),
            (streaming(LineFraming::Bare), "a[\"0123456789\"]\n"),
        ] {
            let mut bytes = Vec::new();
            form.push("0123456789", &mut bytes);
            let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
            assert_eq!(text, expected, "{form:?}");
        }
    }

    #[test]
    fn preludes_are_as_long_as_browsers_need() {
        let prelude = Transport::XhrStreaming.prelude("");
        assert_eq!((prelude.len(), prelude.trim_matches('h')), (2049, "\n"));
        assert_eq!(Transport::EventSource.prelude(""), "\r\n");
        let page = Transport::HtmlFile.prelude("a.b");
        assert!(page.len() > 1024 && page.ends_with(" \r\n\r\n"), "{page}");
        assert!(page.contains("parent.a.b;\n") && page.trim_end().ends_with("</script>"));
    }

    #[test]
    fn a_callback_is_a_short_name() {
        assert_eq!(check_callback(Some("_jp.a-1")), Ok("_jp.a-1"));
        for name in [None, Some("")] {
            assert_eq!(check_callback(name), Err("\"callback\" parameter required"));
        }
        for name in [" ", "*", "abc(", "\u{e9}", "a\n", &"a".repeat(33)] {
            let error = Err("invalid \"callback\" parameter");
            assert_eq!(check_callback(Some(name)), error, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_a_browser_makes_of_a_part_is_the_frame(text: String) {
            let mut frame = String::new();
            frame::push_of_message(&text, &mut frame);
            for (transport, before, after) in [
                (Transport::HtmlFile, "<script>\np(", ");\n</script>\r\n"),
                (Transport::Jsonp, "/**/cb(", ");\r\n"),
            ] {
                let part = part(transport, &frame);
                let string = part.strip_prefix(before).unwrap().strip_suffix(after).unwrap();
                prop_assert!(!string.contains('<'));
                prop_assert_eq!(&serde_json::from_str::<String>(string).unwrap(), &frame);
            }
            let event = part(Transport::EventSource, &frame);
            let data = event.strip_prefix("data: ").unwrap().strip_suffix("\r\n\r\n").unwrap();
            prop_assert!(!data.contains(['\r', '\n', '\0']));
            prop_assert_eq!(data.replace("%25", "%"), frame.replace("%25", "%"));
        }
    }
}
