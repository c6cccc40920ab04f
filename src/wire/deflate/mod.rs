//! permessage-deflate (RFC 7692): what is negotiated, and messages to compressed ones and back.
//!
//! A compressed message is a raw DEFLATE stream without the empty block that a flush ends with
//! (RFC 7692 section 7.2.1). With *context takeover* a message may refer to those before it, and
//! whoever compresses or inflates it owns a window for each connection; without, one compressor
//! and one inflater serve all connections in turn ([`codec::Codec`]).

pub mod codec;
pub mod negotiation;

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
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
        if message.is_empty() {
            // A flush without input would write nothing the second time (RFC 7692 section 7.2.3.6).
            return out.push(EMPTY_MESSAGE);
        }
        let mut rest = message;
        out.reserve(message.len() / 2 + FLUSH_BYTES_MOST);
        loop {
            let before = self.stream.total_in();
            // Neither fails: the parameters are in range and the output has room.
            let status = self.stream.compress_vec(rest, out, FlushCompress::Sync);
            debug_assert!(matches!(status, Ok(Status::Ok | Status::BufError)), "{status:?}");
            rest = &rest[(self.stream.total_in() - before) as usize..];
            if rest.is_empty() && out.len() < out.capacity() {
                break;
            }
            out.reserve(rest.len() / 2 + FLUSH_BYTES_MOST);
        }
        debug_assert!(out.ends_with(&TAIL));
        out.truncate(out.len() - TAIL.len());
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
        if message.is_empty() {
            return Ok(());
        }
        let end = out.len().saturating_add(bytes_max);
        let mut final_blocks = 0;
        let mut rest = message;
        while !rest.is_empty() {
            let (read, ended) = self.inflate(rest, end, out)?;
            rest = &rest[read..];
            if read == 0 && !ended {
                return Err(InflateError::Corrupt);
            }
            if ended {
                // Whatever follows a final block is a stream of its own, mostly the empty block
                // that makes room for the tail (RFC 7692 section 7.2.3.5).
                self.reset();
                final_blocks += 1;
                if final_blocks > FINAL_BLOCKS_MAX {
                    return Err(InflateError::Corrupt);
                }
                if rest.is_empty() {
                    return Ok(());
                }
            }
        }
        self.inflate(&TAIL, end, out)?;
        Ok(())
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
        let end = out.len().saturating_add(bytes_max);
        let inflated = self.message(message, bytes_max, out).and_then(|()| {
            let bytes = out.len();
            let (_, ended) = self.inflate(&FINAL_BLOCK, end, out)?;
            // Within a block the end would be read as more of its content.
            if ended && out.len() == bytes { Ok(()) } else { Err(InflateError::Corrupt) }
        });
        self.reset();
        inflated
    }

    /// Forgets all messages so far.
    pub fn reset(&mut self) {
        self.stream.reset(false);
    }

    /// Takes all of `input` up to a final block; returns how much, and whether there was one.
    fn inflate(
        &mut self,
        input: &[u8],
        end: usize,
        out: &mut Vec<u8>,
    ) -> Result<(usize, bool), InflateError> {
        let mut read = 0;
        loop {
            if out.len() == out.capacity() {
                // Doubling keeps the copying linear; a byte more than allowed shows the excess.
                let room = out.len().max(4 * input.len()).max(CHUNK_BYTES_LEAST);
                out.reserve_exact(room.min((end + 1).saturating_sub(out.len())).max(1));
            }
            let before = self.stream.total_in();
            let status = self.stream.decompress_vec(&input[read..], out, FlushDecompress::None);
            read += (self.stream.total_in() - before) as usize;
            // First of all: what is corrupt may have become too big before.
            if out.len() > end {
                return Err(InflateError::TooBig);
            }
            match status.map_err(|_| InflateError::Corrupt)? {
                Status::StreamEnd => return Ok((read, true)),
                // With room to spare everything that can come out has come out.
                _ if out.len() < out.capacity() => return Ok((read, false)),
                _ => {}
            }
        }
    }
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
