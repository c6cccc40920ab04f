//! The echo in place: a client's frames become the server's within the receive buffer.

use std::ops::Range;

use super::budget::REFLECTED_COST;
use super::{Output, Piece, Rules};
use crate::config::MessageTypes;
use crate::wire::error::Violation;
use crate::wire::header::{FIN, HEADER_BYTES_MAX, Header, MASK_BYTES, MASKED, OpCode};
use crate::wire::mask::{self, MaskKey};
use crate::wire::utf8;

/// The stretch of the input that has been rewritten to what goes back. It starts where the first
/// server frame fits without moving its payload, and every further frame is moved down to its end:
/// a server header is four bytes shorter than the client's, so the end never meets unread input.
pub(super) struct Reflection {
    start: usize,
    end: usize,
}

impl Reflection {
    /// Nothing yet, of an input that is read from `at` on.
    pub(super) fn new(at: usize) -> Self {
        Self { start: at, end: at }
    }

    /// Hands over what there is, and starts anew behind it.
    pub(super) fn flush(&mut self, ends_frame: bool, output: &mut Output) {
        if self.end > self.start {
            let range = Range { start: self.start, end: self.end };
            output.pieces.push(Piece::Reflected { range, ends_frame });
        }
        self.start = self.end;
    }

    /// Appends the payload in `from`, unmasked.
    pub(super) fn append(&mut self, input: &mut [u8], from: Range<usize>, key: MaskKey) {
        self.begin(from.start);
        if self.end == from.start {
            mask::apply(&mut input[from.clone()], key);
        } else {
            mask::shift(input, from.clone(), self.end, key);
        }
        self.end += from.len();
    }

    /// Appends the server's header for a frame whose payload starts at `payload`.
    pub(super) fn append_header(&mut self, input: &mut [u8], header: &Header, payload: usize) {
        let mut encoded = [0; HEADER_BYTES_MAX];
        let bytes = header.encode(&mut encoded);
        self.begin(payload - bytes);
        input[self.end..self.end + bytes].copy_from_slice(&encoded[..bytes]);
        self.end += bytes;
    }

    /// Appends the whole messages that lie in `input` from `at` on, one behind the other; returns
    /// where it stopped, and counts them in `output`.
    ///
    /// Nearly every message of an echo passes through this loop and nothing else of the WebSocket:
    /// whatever is not whole, plain and within the rules stops it, and is looked at by those who
    /// know all of them.
    ///
    /// # Errors
    /// A text is not UTF-8; the messages before it are appended.
    pub(super) fn append_messages(
        &mut self,
        input: &mut [u8],
        mut at: usize,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> Result<usize, Violation> {
        let payload_bytes_max = rules.limits.message_bytes as usize;
        let accepted = first_bytes(rules.message_types);
        let (mut start, mut end, mut messages) = (self.start, self.end, 0);
        let mut result = Ok(());
        while let Some(message) = WholeMessage::decode(&input[at..])
            && accepted.contains(&message.first)
            && message.payload_bytes <= payload_bytes_max
        {
            if end == start {
                (start, end) = (at + MASK_BYTES, at + MASK_BYTES);
            }
            let payload = at + message.header_bytes;
            let text = message.write_server_header(input, at, end);
            at = payload + message.payload_bytes;
            mask::shift(input, payload..at, text, message.mask);
            let frame_end = text + message.payload_bytes;
            if message.first == TEXT && utf8::validate(&input[text..frame_end]).is_err() {
                result = Err(Violation::InvalidUtf8);
                break;
            }
            end = frame_end;
            messages += 1;
        }
        rules.budget.spend(messages as usize * REFLECTED_COST + end - self.end);
        (self.start, self.end) = (start, end);
        output.messages += messages;
        output.reflected_messages += messages;
        result.map(|()| at)
    }

    /// The first byte goes to `start`; later ones behind those before them.
    fn begin(&mut self, start: usize) {
        if self.start == self.end {
            (self.start, self.end) = (start, start);
        }
    }
}

/// A client's unfragmented frame of which every byte is here.
struct WholeMessage {
    first: u8,
    header_bytes: usize,
    payload_bytes: usize,
    mask: MaskKey,
}

impl WholeMessage {
    /// The frame at the start of `bytes`; `None` when it is not whole or something is wrong with
    /// its length.
    #[inline(always)]
    fn decode(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ..] = bytes else { return None };
        let (length_bytes, payload_bytes) = match second ^ MASKED {
            length @ ..=125 => (0, usize::from(length)),
            126 => (2, usize::from(u16::from_be_bytes(*bytes[2..].first_chunk()?))),
            127 => (8, usize::try_from(u64::from_be_bytes(*bytes[2..].first_chunk()?)).ok()?),
            _ => return None,
        };
        let header_bytes = 2 + length_bytes + MASK_BYTES;
        let is_minimal = Header::encoded_bytes(payload_bytes as u64, true) == header_bytes;
        let mask = MaskKey(*bytes.get(2 + length_bytes..)?.first_chunk()?);
        let is_whole = payload_bytes <= bytes.len() - header_bytes;
        (is_minimal && is_whole).then_some(Self { first, header_bytes, payload_bytes, mask })
    }

    /// Copies the header from `at` to `end`, without the mask; returns where the payload goes.
    #[inline(always)]
    fn write_server_header(&self, input: &mut [u8], at: usize, end: usize) -> usize {
        let header_bytes = self.header_bytes - MASK_BYTES;
        let second = input[at + 1] & !MASKED;
        if header_bytes > 2 {
            input.copy_within(at + 2..at + header_bytes, end + 2);
        }
        // Last, because they may lie where the length came from.
        input[end] = self.first;
        input[end + 1] = second;
        end + header_bytes
    }
}

/// The first bytes that frames of the accepted types have: the same twice when it is one type.
fn first_bytes(message_types: MessageTypes) -> [u8; 2] {
    match message_types {
        MessageTypes::Any => [TEXT, BINARY],
        MessageTypes::Text => [TEXT; 2],
        MessageTypes::Binary => [BINARY; 2],
    }
}

const TEXT: u8 = FIN | OpCode::Text as u8;
const BINARY: u8 = FIN | OpCode::Binary as u8;
