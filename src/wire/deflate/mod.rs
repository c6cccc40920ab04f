//! permessage-deflate (RFC 7692): what is negotiated, and messages to compressed ones and back.
//!
//! A compressed message is a raw DEFLATE stream without the empty block that a flush ends with
//! (RFC 7692 section 7.2.1). With *context takeover* a message may refer to those before it, and
//! whoever compresses or inflates it owns a window for each connection; without, one compressor
//! and one inflater serve all connections in turn ([`codec::Codec`]).

pub mod codec;
pub mod negotiation;

use std::fmt;

use flate2::{
    Compress, Compression, Decompress, DecompressError, FlushCompress, FlushDecompress, Status,
};
use thiserror::Error;

/// Compresses messages of one window size.
pub struct Deflater {
    stream: Compress,
}

impl Deflater {
    /// What one takes at most, measured (`results/compression-library.md`).
    pub const HELD_BYTES: usize = 416_000;

    /// A compressor of `level` 0 (stored) to 9 (smallest) whose matches reach back `window_bits`
    /// bits, 8 to 15.
    ///
    /// zlib has no window of 8 bits. The one of 9 is used instead: its matches end 262 bytes short
    /// of the window, and 250 bytes are within 256, so a peer with the smaller window can read it.
    pub fn new(level: u8, window_bits: u8) -> Self {
        let window_bits = window_bits.clamp(WINDOW_BITS_LEAST_OF_ZLIB, WINDOW_BITS_MOST);
        let level = Compression::new(u32::from(level.min(LEVEL_MOST)));
        Self { stream: Compress::new_with_window_bits(level, false, window_bits) }
    }

    /// Appends the compressed `message` to `out`; the next one may refer to it.
    pub fn message(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        while !self.step(message, &mut at, usize::MAX, out) {}
    }

    /// Compresses at most `bytes_max` further bytes of `message`, of which `at` have been taken;
    /// true when all of it is in `out`. No other message may be compressed between two steps.
    pub fn step(
        &mut self,
        message: &[u8],
        at: &mut usize,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        if message.is_empty() {
            // A flush without input would write nothing the second time (RFC 7692 section 7.2.3.6).
            out.push(EMPTY_MESSAGE);
            return true;
        }
        let end = message.len().min(at.saturating_add(bytes_max));
        let is_last = end == message.len();
        let flush = if is_last { FlushCompress::Sync } else { FlushCompress::None };
        out.reserve((end - *at) / 2 + FLUSH_BYTES_MOST);
        loop {
            let before = self.stream.total_in();
            // Neither fails: the parameters are in range and the output has room.
            let status = self.stream.compress_vec(&message[*at..end], out, flush);
            debug_assert!(matches!(status, Ok(Status::Ok | Status::BufError)), "{status:?}");
            *at += (self.stream.total_in() - before) as usize;
            if *at == end && out.len() < out.capacity() {
                break;
            }
            out.reserve((end - *at) / 2 + FLUSH_BYTES_MOST);
        }
        if is_last {
            debug_assert!(out.ends_with(&TAIL));
            out.truncate(out.len() - TAIL.len());
        }
        is_last
    }

    /// Forgets all messages so far: the next refers to none of them.
    pub fn reset(&mut self) {
        self.stream.reset();
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Deflater")
    }
}

/// Why a message cannot be inflated.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InflateError {
    /// It is no DEFLATE stream, or refers to what was never there.
    #[error("not a DEFLATE stream")]
    Corrupt,
    /// It becomes larger than allowed.
    #[error("inflates to more than allowed")]
    TooBig,
}

/// Inflates messages of any window size.
pub struct Inflater {
    stream: Decompress,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { stream: Decompress::new_with_window_bits(false, WINDOW_BITS_MOST) }
    }
}

impl Inflater {
    /// What one takes, measured (`results/compression-library.md`).
    pub const HELD_BYTES: usize = 54_000;

    /// Appends the inflated `message` to `out`, which grows by at most `bytes_max` and a byte, and
    /// with what comes out, whatever the message promises.
    ///
    /// # Errors
    /// The message is corrupt or too big; the inflater must be reset before it is used again.
    pub fn message(
        &mut self,
        message: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        let mut progress = Inflating::new(out.len().saturating_add(bytes_max), false);
        self.step(message, &mut progress, usize::MAX, out).map(|_| ())
    }

    /// The same for a message that refers to no other, and forgets it. That it ends where a block
    /// ends can be seen only when nothing is to follow: a truncated one is corrupt.
    ///
    /// # Errors
    /// The message is corrupt or too big.
    pub fn lone_message(
        &mut self,
        message: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), InflateError> {
        let mut progress = Inflating::new(out.len().saturating_add(bytes_max), true);
        self.step(message, &mut progress, usize::MAX, out).map(|_| ())
    }

    /// Goes on with a message, by about `step_bytes` of what it inflates to; true when it is whole.
    /// No other message may be inflated between two steps.
    ///
    /// # Errors
    /// The message is corrupt or too big; the inflater must be reset before it is used again, which
    /// has been done if the message refers to no other.
    pub fn step(
        &mut self,
        message: &[u8],
        progress: &mut Inflating,
        step_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, InflateError> {
        let result = self.step_on(message, progress, step_bytes, out);
        if progress.is_lone && result != Ok(false) {
            self.reset();
        }
        result
    }

    fn step_on(
        &mut self,
        message: &[u8],
        progress: &mut Inflating,
        step_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, InflateError> {
        let bytes_max = progress.bytes_max;
        let limits = OutputLimits { end: bytes_max, pause: out.len().saturating_add(step_bytes) };
        if message.is_empty() && !progress.is_lone {
            return Ok(true);
        }
        while progress.read < message.len() || progress.is_paused {
            let rest = &message[progress.read..];
            let Inflated { read, ended, paused } = self.inflate(rest, limits, out)?;
            progress.read += read;
            progress.is_paused = paused;
            if paused {
                return Ok(false);
            }
            if read == 0 && !ended && !rest.is_empty() {
                return Err(InflateError::Corrupt);
            }
            if ended {
                // Whatever follows a final block is a stream of its own, mostly the empty block
                // that makes room for the tail (RFC 7692 section 7.2.3.5).
                self.reset();
                progress.final_blocks += 1;
                if progress.final_blocks > FINAL_BLOCKS_MAX {
                    return Err(InflateError::Corrupt);
                }
                progress.ends_finally = progress.read == message.len();
            }
        }
        let to_the_end = OutputLimits { end: bytes_max, pause: usize::MAX };
        if !progress.ends_finally && !message.is_empty() {
            self.inflate(&TAIL, to_the_end, out)?;
        }
        if progress.is_lone {
            let bytes = out.len();
            let last = self.inflate(&FINAL_BLOCK, to_the_end, out)?;
            // Within a block the end would be read as more of its content.
            if !last.ended || out.len() != bytes {
                return Err(InflateError::Corrupt);
            }
        }
        Ok(true)
    }

    /// Forgets all messages so far.
    pub fn reset(&mut self) {
        self.stream.reset(false);
    }

    /// Takes all of `input` up to a final block, or until the limits are reached.
    fn inflate(
        &mut self,
        input: &[u8],
        limits: OutputLimits,
        out: &mut Vec<u8>,
    ) -> Result<Inflated, InflateError> {
        let OutputLimits { end, pause } = limits;
        let mut read = 0;
        loop {
            if out.len() >= pause {
                return Ok(Inflated { read, ended: false, paused: true });
            }
            if out.len() == out.capacity() {
                // Doubling keeps the copying linear; a byte more than allowed shows the excess.
                let room = out.len().max(4 * input.len()).max(CHUNK_BYTES_LEAST);
                out.reserve_exact(room.min((end + 1).saturating_sub(out.len())).max(1));
            }
            let before = self.stream.total_in();
            let (status, has_room) = self.fill(&input[read..], pause - out.len(), out);
            read += (self.stream.total_in() - before) as usize;
            // The size comes first: a corrupt stream may have exceeded the limit before its fault.
            if out.len() > end {
                return Err(InflateError::TooBig);
            }
            match status.map_err(|_| InflateError::Corrupt)? {
                Status::StreamEnd => return Ok(Inflated { read, ended: true, paused: false }),
                // With room to spare everything that can come out has come out.
                _ if has_room => return Ok(Inflated { read, ended: false, paused: false }),
                _ => {}
            }
        }
    }

    /// Inflates once into the room that `out` has, at most `bytes_max`; tells whether some of that
    /// is left.
    fn fill(
        &mut self,
        input: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> (Result<Status, DecompressError>, bool) {
        let start = out.len();
        if out.capacity() - start <= bytes_max {
            let status = self.stream.decompress_vec(input, out, FlushDecompress::None);
            return (status, out.len() < out.capacity());
        }
        out.resize(start + bytes_max, 0);
        let before = self.stream.total_out();
        let status = self.stream.decompress(input, &mut out[start..], FlushDecompress::None);
        let bytes = (self.stream.total_out() - before) as usize;
        out.truncate(start + bytes);
        (status, bytes < bytes_max)
    }
}

/// How far a message has been inflated.
#[derive(Debug)]
pub struct Inflating {
    /// Bytes of output, at most.
    bytes_max: usize,
    /// Whether it refers to no other message.
    is_lone: bool,
    /// Bytes of it that have been read.
    read: usize,
    final_blocks: usize,
    /// Whether it ends with a final block.
    ends_finally: bool,
    /// Whether the last step left something that needs no more input to come out.
    is_paused: bool,
}

impl Inflating {
    /// A message of which nothing has been read, and whose output may be filled up to `bytes_max`
    /// bytes.
    pub fn new(bytes_max: usize, is_lone: bool) -> Self {
        let (read, final_blocks) = (0, 0);
        Self { bytes_max, is_lone, read, final_blocks, ends_finally: false, is_paused: false }
    }
}

/// Where inflating ends.
#[derive(Clone, Copy)]
struct OutputLimits {
    /// More bytes than this are too many.
    end: usize,
    /// With this many, the rest has to wait.
    pause: usize,
}

/// What came of inflating.
struct Inflated {
    /// Bytes of the input that were taken.
    read: usize,
    /// Whether there was a final block.
    ended: bool,
    /// Whether the rest has to wait.
    paused: bool,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Inflater")
    }
}

/// Bytes that a message of at most `bytes` may have when compressed, by the worst of compressors:
/// nine bits a byte, and what blocks and their ends take (zlib's `deflateBound`).
pub const fn compressed_bytes_max(bytes: u32) -> u32 {
    bytes.saturating_add(bytes / 8 + bytes / 64 + 64)
}

/// The least window that may be negotiated, in bits of its size (RFC 7692 section 7.1.2).
pub const WINDOW_BITS_LEAST: u8 = 8;
/// The largest window of DEFLATE.
pub const WINDOW_BITS_MOST: u8 = 15;
/// The least window that zlib compresses with.
pub const WINDOW_BITS_LEAST_OF_ZLIB: u8 = 9;
/// The slowest and smallest level.
pub const LEVEL_MOST: u8 = 9;

/// What a flush ends with and a message leaves out (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// An empty block that is the last (RFC 1951 section 3.2.6).
const FINAL_BLOCK: [u8; 2] = [0x03, 0x00];
/// An empty message (RFC 7692 section 7.2.3.6).
const EMPTY_MESSAGE: u8 = 0x00;
/// More than the block headers of a flush.
const FLUSH_BYTES_MOST: usize = 64;
/// Room that is made at first, and at least.
const CHUNK_BYTES_LEAST: usize = 1024;
/// Final blocks of a message. One is usual, each costs a reset, and as they may take two bytes
/// each, they would make a message dear.
const FINAL_BLOCKS_MAX: usize = 256;

#[cfg(test)]
mod tests;
