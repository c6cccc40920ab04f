//! The compressors and the inflater that all connections of an event loop share.
//!
//! A connection without context takeover needs one only while a message is at hand, so it lends
//! nothing and owns nothing. Compressors are made at first use, one for each window size.

use super::{Deflater, InflateError, Inflater, WINDOW_BITS_LEAST_OF_ZLIB, WINDOW_BITS_MOST};
use crate::wire::error::Violation;
use crate::wire::header::{HEADER_BYTES_MAX, Header, OpCode, RSV1};

/// How messages are compressed, and how large they may become when inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// 0 (stored) to 9 (smallest).
    pub level: u8,
    /// Payload bytes below which a message is sent plain.
    pub threshold_bytes: usize,
    /// Payload bytes of an inflated message, at most.
    pub message_bytes_max: u32,
}

/// Compresses and inflates for connections in turn.
#[derive(Debug)]
pub struct Codec {
    settings: Settings,
    inflater: Inflater,
    deflaters: [Option<Box<Deflater>>; WINDOW_CLASSES],
    /// Kept for their capacity.
    plain: Vec<u8>,
    packed: Vec<u8>,
    /// Messages compressed since the owner last counted.
    pub compressed: u64,
    /// Messages inflated since the owner last counted.
    pub inflated: u64,
}

impl Codec {
    /// A codec that has made nothing yet but what it inflates with.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            inflater: Inflater::default(),
            deflaters: Default::default(),
            plain: Vec::new(),
            packed: Vec::new(),
            compressed: 0,
            inflated: 0,
        }
    }

    /// A compressor for a connection of its own.
    pub fn deflater(&self, window_bits: u8) -> Deflater {
        Deflater::new(self.settings.level, window_bits)
    }

    /// Inflates a whole message with the connection's `own` inflater, or with the shared one.
    /// [`recycle`](Self::recycle) takes the memory back.
    ///
    /// # Errors
    /// The message is no DEFLATE stream, or too big once inflated.
    pub fn inflate(
        &mut self,
        own: Option<&mut Inflater>,
        message: &[u8],
    ) -> Result<Vec<u8>, Violation> {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let limit = self.settings.message_bytes_max;
        let result = match own {
            Some(own) => own.message(message, limit as usize, &mut plain),
            None => self.inflater.lone_message(message, limit as usize, &mut plain),
        };
        self.inflated += 1;
        match result {
            Ok(()) => Ok(plain),
            Err(InflateError::Corrupt) => Err(Violation::CorruptDeflate),
            Err(InflateError::TooBig) => Err(Violation::MessageTooBig { limit: limit.into() }),
        }
    }

    /// Takes back what a message was inflated to, for the next.
    pub fn recycle(&mut self, plain: Vec<u8>) {
        if plain.capacity() <= KEPT_BYTES_MOST {
            self.plain = plain;
        }
    }

    /// A message as a compressed server frame that refers to earlier ones of `own`; `None` when it
    /// is too short to be worth it.
    pub fn frame_in_context(
        &mut self,
        own: &mut Deflater,
        opcode: OpCode,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        if !self.is_worth(payload) {
            return None;
        }
        self.compressed += 1;
        self.packed.clear();
        own.message(payload, &mut self.packed);
        Some(self.take_packed(opcode))
    }

    /// A message as a compressed server frame that stands for itself, for peers whose windows are
    /// of this [class](window_class); `None` when it is too short to be worth it, or would not
    /// become shorter.
    pub fn frame_of_class(
        &mut self,
        class: usize,
        opcode: OpCode,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        if !self.is_worth(payload) {
            return None;
        }
        self.compressed += 1;
        let (level, window_bits) = (self.settings.level, class as u8 + WINDOW_BITS_LEAST_OF_ZLIB);
        let new = || Box::new(Deflater::new(level, window_bits));
        let deflater = self.deflaters.get_mut(class)?.get_or_insert_with(new);
        self.packed.clear();
        deflater.message(payload, &mut self.packed);
        deflater.reset();
        let is_shorter = self.packed.len() < payload.len();
        is_shorter.then(|| self.take_packed(opcode))
    }

    fn is_worth(&self, payload: &[u8]) -> bool {
        payload.len() >= self.settings.threshold_bytes
    }

    fn take_packed(&mut self, opcode: OpCode) -> Vec<u8> {
        let header = Header { rsv: RSV1, ..Header::message(opcode, self.packed.len() as u64) };
        let mut encoded = [0; HEADER_BYTES_MAX];
        let bytes = header.encode(&mut encoded);
        let frame = [&encoded[..bytes], &self.packed].concat();
        if self.packed.capacity() > KEPT_BYTES_MOST {
            self.packed = Vec::new();
        }
        frame
    }
}

/// The class of windows, from 0, that a peer's window of this many bits belongs to: peers of one
/// class can all read what is compressed for it.
pub fn window_class(window_bits: u8) -> usize {
    let bits = window_bits.clamp(WINDOW_BITS_LEAST_OF_ZLIB, WINDOW_BITS_MOST);
    usize::from(bits - WINDOW_BITS_LEAST_OF_ZLIB)
}

/// Windows that compressors differ by.
pub const WINDOW_CLASSES: usize = (WINDOW_BITS_MOST - WINDOW_BITS_LEAST_OF_ZLIB + 1) as usize;

/// Buffers larger than this are not kept for the next message.
const KEPT_BYTES_MOST: usize = 1 << 20;
