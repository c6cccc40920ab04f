//! A small obvious decoder of what the server sends: HTTP responses, and frames after a 101.
//! It shares no code with the server, and panics at whatever a server must not send.

use std::collections::VecDeque;

use crate::compression::Agreement;
use crate::frames::RSV1;

/// Something whole that the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Response {
        status: u16,
        closes: bool,
    },
    Message {
        opcode: u8,
        payload: Vec<u8>,
    },
    Control {
        opcode: u8,
        payload: Vec<u8>,
    },
    /// A line of a streamed response, without its line feed.
    Line(Vec<u8>),
    /// The end of a streamed response that comes in chunks.
    LastChunk,
}

/// Bytes from the server, as far as they have arrived.
#[derive(Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Whether frames follow.
    upgraded: bool,
    /// Whether the lines of a response follow, and then whether in chunks.
    stream: Option<bool>,
    has_ended: bool,
    /// For each request under way, whether it was a HEAD: its answer has no body.
    heads: VecDeque<bool>,
    /// The fragmented message under way, and whether it is compressed.
    partial: Option<(u8, bool, Vec<u8>)>,
    /// What was agreed on compression.
    pub agreement: Option<Agreement>,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether the beginning of something has arrived.
    pub fn is_within(&self) -> bool {
        !self.bytes.is_empty() || self.partial.is_some()
    }

    /// Takes note of a request, whose answer comes after those before.
    pub fn expect_response(&mut self, head: bool) {
        self.heads.push_back(head);
    }

    pub fn next(&mut self) -> Option<Item> {
        if let Some(is_chunked) = self.stream {
            return self.line(is_chunked);
        }
        if !self.upgraded {
            return self.response();
        }
        loop {
            let (fin, compressed, opcode, payload) = self.frame()?;
            if opcode >= 8 {
                assert!(fin && payload.len() <= 125, "a control frame too long or fragmented");
                return Some(Item::Control { opcode, payload });
            }
            if opcode == 0 {
                let (.., partial) = self.partial.as_mut().expect("a continuation has a start");
                partial.extend(payload);
            } else {
                let former = self.partial.replace((opcode, compressed, payload));
                assert!(former.is_none(), "a message within a message");
            }
            if fin && let Some((opcode, compressed, mut payload)) = self.partial.take() {
                if compressed {
                    let agreement = self.agreement.as_mut().expect("checked with the frame");
                    payload = agreement.inflated(&payload);
                }
                let is_text = opcode == 1;
                assert!(!is_text || std::str::from_utf8(&payload).is_ok(), "text is UTF-8");
                return Some(Item::Message { opcode, payload });
            }
        }
    }

    fn response(&mut self) -> Option<Item> {
        let end = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.bytes[..end]).expect("a head is ASCII");
        let field = |name: &str| {
            let line = head.lines().find(|line| line.starts_with(name))?;
            line.split_once(": ").map(|(_, value)| value)
        };
        let status: u16 = head["HTTP/1.1 ".len()..][..3].parse().expect("a status");
        let closes = field("Connection").is_some_and(|value| value.ends_with("close"));
        let length = field("Content-Length").map_or(0, |value| value.parse().expect("a number"));
        let is_chunked = field("Transfer-Encoding") == Some("chunked");
        let is_stream = status == 200 && field("Content-Length").is_none();
        assert!(is_stream || !is_chunked, "only streams come in chunks");
        // A refusal of a peer that made no whole request answers none that is expected.
        let is_head = self.heads.front().copied().unwrap_or(false);
        let stream = (is_stream && !is_head).then_some(is_chunked);
        let body: usize = if is_head || status == 101 { 0 } else { length };
        if self.bytes.len() < end + body {
            return None;
        }
        self.agreement = field("Sec-WebSocket-Extensions").map(Agreement::new);
        self.heads.pop_front();
        self.bytes.drain(..end + body);
        self.upgraded = status == 101;
        self.stream = stream;
        Some(Item::Response { status, closes })
    }

    /// The next line of a stream: one to each chunk, whose length is told in the shortest way.
    fn line(&mut self, is_chunked: bool) -> Option<Item> {
        assert!(!self.has_ended || self.bytes.is_empty(), "something follows the last chunk");
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        if !is_chunked {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            return Some(Item::Line(line[..end].to_vec()));
        }
        let digits = self.bytes[..end].strip_suffix(b"\r").expect("CR LF behind a length");
        let digits = std::str::from_utf8(digits).expect("a length");
        let length = usize::from_str_radix(digits, 16).expect("a length");
        assert_eq!(format!("{length:x}"), digits);
        let start = end + 1;
        let chunk = self.bytes.get(start..start + length + 2)?.to_vec();
        let chunk = chunk.strip_suffix(b"\r\n").expect("CR LF behind a chunk");
        self.bytes.drain(..start + length + 2);
        if chunk.is_empty() {
            self.has_ended = true;
            return Some(Item::LastChunk);
        }
        let line = chunk.strip_suffix(b"\n").expect("a chunk is a line");
        assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "a chunk is one line");
        Some(Item::Line(line.to_vec()))
    }

    /// FIN, RSV1, opcode and payload of the next frame.
    fn frame(&mut self) -> Option<(bool, bool, u8, Vec<u8>)> {
        let [first, second, ..] = self.bytes[..] else { return None };
        let may_compress = self.agreement.is_some() && matches!(first & 0xf, 1 | 2);
        let reserved = if may_compress { 0x30 } else { 0x70 };
        assert_eq!(first & reserved, 0, "reserved bits are set: {first:#x}");
        assert!(matches!(first & 0xf, 0..=2 | 8..=10), "opcode {}", first & 0xf);
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (start, length) = match second {
            126 => (4, u64::from(u16::from_be_bytes(self.bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, u64::from_be_bytes(self.bytes.get(2..10)?.try_into().ok()?)),
            short => (2, u64::from(short)),
        };
        let least = [(2, 0), (4, 126), (10, 65536)].into_iter().find(|(bytes, _)| *bytes == start);
        assert!(least.is_some_and(|(_, least)| length >= least), "length is not minimal");
        let end = start + length as usize;
        let payload = self.bytes.get(start..end)?.to_vec();
        self.bytes.drain(..end);
        Some((first & 0x80 != 0, first & RSV1 != 0, first & 0xf, payload))
    }
}
