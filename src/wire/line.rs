//! Messages as lines of a response that has no end of its own: one message, one line.

use super::message::{MessageKind, SharedMessage};

/// How the lines of a response are framed, so that its end can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFraming {
    /// Each line is a chunk (RFC 9112 section 7.1).
    Chunked,
    /// Each line is sent as it is, for HTTP/1.0: the response ends with the connection.
    Bare,
}

impl LineFraming {
    /// Appends what goes before a line of so many bytes, its line feed not counted.
    pub fn begin(self, line_bytes: usize, bytes: &mut Vec<u8>) {
        if self == Self::Chunked {
            bytes.extend_from_slice(format!("{:x}\r\n", line_bytes + 1).as_bytes());
        }
    }

    /// Appends the line feed, and what goes behind it.
    pub fn end(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(match self {
            Self::Chunked => b"\n\r\n",
            Self::Bare => b"\n",
        });
    }

    /// An empty line, which says nothing but that the response goes on.
    pub fn empty_line(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.begin(0, &mut bytes);
        self.end(&mut bytes);
        bytes
    }

    /// What tells that the response is complete: nothing, where only the end of the connection
    /// could.
    pub fn last(self) -> &'static [u8] {
        match self {
            Self::Chunked => b"0\r\n\r\n",
            Self::Bare => b"",
        }
    }
}

/// What a message says as a line, without a line break at its end; `None` of a binary one. It is no
/// line after all if another line break is in it ([`has_line_break`]).
pub fn text(message: &SharedMessage) -> Option<&[u8]> {
    let payload = message.payload();
    let line = payload.strip_suffix(b"\n").unwrap_or(payload);
    (message.kind() == MessageKind::Text).then(|| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Whether readers would take a part of a line for the end of it.
pub fn has_line_break(part: &[u8]) -> bool {
    part.contains(&b'\n') || part.contains(&b'\r')
}

/// What framing adds to a line, at the most.
pub const FRAMING_BYTES_MAX: usize = 8 + 2 + 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::DataMessage;

    #[test]
    fn a_line_is_a_chunk() {
        for (framing, line, expected) in [
            (LineFraming::Chunked, &b"hello"[..], &b"6\r\nhello\n\r\n"[..]),
            (LineFraming::Chunked, &[b'x'; 15], b"10\r\nxxxxxxxxxxxxxxx\n\r\n"),
            (LineFraming::Bare, b"hello", b"hello\n"),
        ] {
            let mut bytes = Vec::new();
            framing.begin(line.len(), &mut bytes);
            bytes.extend_from_slice(line);
            framing.end(&mut bytes);
            assert_eq!(bytes, expected);
        }
        assert_eq!(LineFraming::Chunked.empty_line(), b"1\r\n\n\r\n");
        assert_eq!(LineFraming::Bare.empty_line(), b"\n");
        let mut longest = Vec::new();
        LineFraming::Chunked.begin(u32::MAX as usize - 1, &mut longest);
        LineFraming::Chunked.end(&mut longest);
        assert_eq!(longest.len(), FRAMING_BYTES_MAX);
    }

    #[test]
    fn one_line_break_at_the_end_belongs_to_the_line() {
        for (payload, expected, is_line) in [
            ("", "", true),
            ("a", "a", true),
            ("a\n", "a", true),
            ("a\r\n", "a", true),
            ("\n", "", true),
            ("a\r", "a", true),
            ("a\n\n", "a\n", false),
            ("a\nb", "a\nb", false),
            ("a\rb\n", "a\rb", false),
            ("\u{2028}\u{85}\u{b}", "\u{2028}\u{85}\u{b}", true),
        ] {
            let message = DataMessage::new(MessageKind::Text, payload.as_bytes()).into_shared();
            let line = text(&message).expect("it is text");
            assert_eq!(
                (line, has_line_break(line)),
                (expected.as_bytes(), !is_line),
                "{payload:?}"
            );
        }
        let binary = DataMessage::new(MessageKind::Binary, b"a").into_shared();
        assert_eq!(text(&binary), None);
    }
}
