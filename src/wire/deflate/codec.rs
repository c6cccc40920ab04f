//! The compressors and the inflater that all connections of an event loop share.
//!
//! A connection without context takeover needs one only while a message is at hand, so it lends
//! nothing and owns nothing. Compressors are made at first use, one for each window size.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    Deflater, InflateError, Inflater, Inflating, WINDOW_BITS_LEAST_OF_ZLIB, WINDOW_BITS_MOST,
};
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
    inflater: Box<Inflater>,
    deflaters: [Option<Box<Deflater>>; WINDOW_CLASSES],
    /// Kept for their capacity.
    plain: Vec<u8>,
    packed: Vec<u8>,
    /// Messages that are at hand for several ticks.
    leases: Arc<AtomicUsize>,
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
            inflater: Box::default(),
            deflaters: Default::default(),
            plain: Vec::new(),
            packed: Vec::new(),
            leases: Arc::default(),
            compressed: 0,
            inflated: 0,
        }
    }

    /// A compressor for a connection of its own.
    pub fn deflater(&self, window_bits: u8) -> Deflater {
        Deflater::new(self.settings.level, window_bits)
    }

    /// Inflates a message with the connection's `own` inflater, or with the shared one, as far as
    /// `step_bytes` of output allow. [`recycle`](Self::recycle) takes the memory back.
    ///
    /// # Errors
    /// The message is no DEFLATE stream, or too big once inflated.
    pub fn inflate(
        &mut self,
        own: Option<&mut Inflater>,
        message: &[u8],
        step_bytes: usize,
    ) -> Result<Unpacked, Violation> {
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let mut progress = self.inflating(own.is_none());
        let inflater = own.unwrap_or(&mut self.inflater);
        let result = inflater.step(message, &mut progress, step_bytes, &mut plain);
        self.inflated += 1;
        match result {
            Ok(true) => Ok(Unpacked::Whole(plain)),
            Ok(false) => Ok(Unpacked::Part(plain, progress)),
            Err(error) => Err(self.violation(error)),
        }
    }

    /// Nothing of a message that refers to no other if it `is_lone`.
    pub fn inflating(&self, is_lone: bool) -> Inflating {
        Inflating::new(self.settings.message_bytes_max as usize, is_lone)
    }

    /// What the peer did wrong whose message cannot be inflated.
    pub fn violation(&self, error: InflateError) -> Violation {
        match error {
            InflateError::Corrupt => Violation::CorruptDeflate,
            InflateError::TooBig => {
                Violation::MessageTooBig { limit: self.settings.message_bytes_max.into() }
            }
        }
    }

    /// Lends the shared inflater with the state that it has, for a message that goes on later; it
    /// is replaced. [`Lease`] bounds how many are lent.
    pub fn lend_inflater(&mut self) -> Box<Inflater> {
        std::mem::take(&mut self.inflater)
    }

    /// Forgets what the shared inflater has begun.
    pub fn reset_inflater(&mut self) {
        self.inflater.reset();
    }

    /// A place among the messages that are inflated or compressed over several ticks, if one is
    /// free.
    pub fn lease(&self) -> Option<Lease> {
        // Relaxed, as in `drop`: a connection may take its lease to another thread, and nothing is
        // published along with the count.
        (self.leases.load(Ordering::Relaxed) < LEASES_MAX).then(|| {
            self.leases.fetch_add(1, Ordering::Relaxed);
            Lease(self.leases.clone())
        })
    }

    /// Takes back what a message was inflated to, for the next.
    pub fn recycle(&mut self, plain: Vec<u8>) {
        if plain.capacity() <= KEPT_BYTES_MOST {
            self.plain = plain;
        }
    }

    /// Lends the compressor that peers of a class share, for a message that is compressed step by
    /// step; [`return_deflater`](Self::return_deflater) takes it back.
    pub fn lend_deflater(&mut self, class: usize) -> Box<Deflater> {
        let lent = self.deflaters.get_mut(class).and_then(Option::take);
        lent.unwrap_or_else(|| Box::new(self.deflater(class as u8 + WINDOW_BITS_LEAST_OF_ZLIB)))
    }

    /// Takes back the compressor of a class, whatever it has begun.
    pub fn return_deflater(&mut self, class: usize, mut deflater: Box<Deflater>) {
        deflater.reset();
        if let Some(place) = self.deflaters.get_mut(class) {
            *place = Some(deflater);
        }
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
        let mut deflater = self.lend_deflater(class);
        let mut packed = std::mem::take(&mut self.packed);
        packed.clear();
        deflater.message(payload, &mut packed);
        self.return_deflater(class, deflater);
        self.compressed += 1;
        let frame = (packed.len() < payload.len()).then(|| compressed_frame(opcode, &packed));
        if packed.capacity() <= KEPT_BYTES_MOST {
            self.packed = packed;
        }
        frame
    }

    /// Payload bytes of an inflated message, at most.
    pub fn message_bytes_max(&self) -> usize {
        self.settings.message_bytes_max as usize
    }

    /// Changes that for messages that begin from now on.
    pub fn set_message_bytes_max(&mut self, bytes: u32) {
        self.settings.message_bytes_max = bytes;
    }

    /// Whether a message is long enough to be compressed.
    pub fn is_worth(&self, payload: &[u8]) -> bool {
        payload.len() >= self.settings.threshold_bytes
    }
}

/// A compressed message as a server frame.
pub fn compressed_frame(opcode: OpCode, packed: &[u8]) -> Vec<u8> {
    let header = Header { rsv: RSV1, ..Header::message(opcode, packed.len() as u64) };
    let mut encoded = [0; HEADER_BYTES_MAX];
    let bytes = header.encode(&mut encoded);
    [&encoded[..bytes], packed].concat()
}

/// What has come of a message.
#[derive(Debug)]
pub enum Unpacked {
    /// All of it.
    Whole(Vec<u8>),
    /// A part, and how to go on.
    Part(Vec<u8>, Inflating),
}

/// A place among the messages that take several ticks; given back when dropped.
#[derive(Debug)]
pub struct Lease(Arc<AtomicUsize>);

impl Drop for Lease {
    fn drop(&mut self) {
        // Relaxed: see `Codec::lease`.
        self.0.fetch_sub(1, Ordering::Relaxed);
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

/// Messages that may be inflated or compressed over several ticks at a time. Each holds what comes
/// out of it, and a compressor of its own: the others wait with the little that they have.
const LEASES_MAX: usize = 4;
/// Buffers larger than this are not kept for the next message.
const KEPT_BYTES_MOST: usize = 1 << 20;
