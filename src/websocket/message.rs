//! A message in pieces: fragmented, or straddling receive buffers.

use crate::config::Limits;
use crate::wire::deflate::compressed_bytes_max;
use crate::wire::error::Violation;
use crate::wire::header::{Header, OpCode};
use crate::wire::mask::{self, MaskKey};
use crate::wire::message::{DataMessage, GROWING_BYTES_MAX, MessageKind, reserve};
use crate::wire::utf8::Utf8Stream;

/// What has arrived of a message that is not complete; grows with the bytes received, whatever
/// length a header claims.
#[derive(Debug)]
pub(super) struct Assembly {
    opcode: OpCode,
    /// Whether frames are reflected as they come, and nothing is kept here.
    reflected: bool,
    /// Whether what is kept has to be inflated, and says nothing before.
    compressed: bool,
    /// Room for the server's header, then the payload.
    bytes: Vec<u8>,
    header_room: usize,
    utf8: Utf8Stream,
    payload_bytes: u64,
    fragments: u32,
    /// Payload bytes at most, once there are many: what the header claims, or what is allowed.
    bytes_expected: usize,
    /// When it began, in seconds that may wrap.
    began_s: u16,
}

impl Assembly {
    /// A message that starts with `first`.
    pub(super) fn new(first: &Header, reflected: bool, now_s: u16) -> Self {
        // An unfragmented message tells its length, so its header has its final place at once.
        let header_room = match (first.rsv, first.fin) {
            (0, true) => Header::encoded_bytes(first.payload_bytes, false),
            (0, false) => 10,
            _ => 0,
        };
        Self {
            opcode: first.opcode,
            reflected,
            compressed: first.rsv != 0,
            bytes: Vec::new(),
            header_room,
            utf8: Utf8Stream::default(),
            payload_bytes: 0,
            fragments: 0,
            bytes_expected: 0,
            began_s: now_s,
        }
    }

    /// Whether frames are reflected as they come.
    pub(super) fn is_reflected(&self) -> bool {
        self.reflected
    }

    /// When the message began.
    pub(super) fn since_s(&self) -> u16 {
        self.began_s
    }

    /// Sets the time at which the message began forward by so many seconds, which may wrap.
    pub(super) fn set_clock_forward(&mut self, seconds: u16) {
        self.began_s = self.began_s.wrapping_add(seconds);
    }

    /// Bytes that the message takes; room that was only reserved costs nothing.
    pub(super) fn held_bytes(&self) -> usize {
        if self.bytes.len() > GROWING_BYTES_MAX { self.bytes.len() } else { self.bytes.capacity() }
    }

    /// Whether the message is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// The whole of a compressed message, and what it will be.
    pub(super) fn into_compressed(self) -> (OpCode, Vec<u8>) {
        (self.opcode, self.bytes)
    }

    /// Takes note of a frame of `payload_bytes`.
    pub(super) fn begin_frame(
        &mut self,
        payload_bytes: u64,
        fin: bool,
        limits: &Limits,
    ) -> Result<(), Violation> {
        let (bytes, fragments) = (limits.message_bytes, limits.message_fragments);
        let bytes_max = if self.compressed { compressed_bytes_max(bytes) } else { bytes };
        self.payload_bytes = self.payload_bytes.saturating_add(payload_bytes);
        self.fragments += 1;
        let is_whole = self.fragments == 1 && fin;
        self.bytes_expected = if is_whole { payload_bytes as usize } else { bytes_max as usize };
        if self.payload_bytes > u64::from(bytes_max) {
            return Err(Violation::MessageTooBig { limit: bytes.into() });
        }
        if self.fragments > fragments {
            return Err(Violation::TooManyFragments { limit: fragments });
        }
        Ok(())
    }

    /// Takes masked payload; text fails at its first bad byte.
    pub(super) fn append(&mut self, payload: &[u8], key: MaskKey) -> Result<(), Violation> {
        if self.bytes.is_empty() {
            self.bytes.reserve(self.header_room + payload.len());
            self.bytes.resize(self.header_room, 0);
        } else if self.bytes.len() > GROWING_BYTES_MAX {
            reserve(&mut self.bytes, self.header_room + self.bytes_expected);
        }
        let start = self.bytes.len();
        mask::append(&mut self.bytes, payload, key);
        if self.opcode == OpCode::Text && !self.compressed {
            self.utf8.push(&self.bytes[start..]).map_err(|_| Violation::InvalidUtf8)?;
        }
        Ok(())
    }

    /// The whole message.
    pub(super) fn finish(mut self) -> Result<DataMessage, Violation> {
        if self.opcode == OpCode::Text {
            self.utf8.finish().map_err(|_| Violation::InvalidUtf8)?;
        }
        if self.bytes.is_empty() {
            self.bytes.resize(self.header_room, 0);
        }
        let kind = MessageKind::of(self.opcode);
        Ok(DataMessage::in_place(kind, self.bytes, self.header_room))
    }
}
