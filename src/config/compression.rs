//! How messages are compressed (RFC 7692).

use clap::ValueEnum;

use super::form::{choice, count, size};
use super::setting::{one, settings};
use crate::limits;

/// How messages are compressed (RFC 7692) for peers that offer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompressionMode {
    /// Not at all: offers are ignored.
    Off,
    /// Each message by itself, with one compressor for all connections of a shard.
    Shared,
    /// With reference to earlier messages, and memory for each connection that does so.
    Dedicated,
}

settings! {
    /// How messages are compressed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Compression at (|config| &mut config.compression) {
        under Compression {
            /// Whether, and whether messages may refer to earlier ones. Off when nobody asks for
            /// it: an echo in place costs some 30 ns a message, compression a thousand times that.
            pub mode: CompressionMode = CompressionMode::Off,
                as one(choice()),
                named "compression" "MODE",
                help "Compress messages (RFC 7692) for peers that offer it: each by itself, or in \
                      context";

            /// 0 (stored) to 9 (smallest).
            pub level: u8 = limits::COMPRESSION_LEVEL.default,
                as one(count(&limits::COMPRESSION_LEVEL)),
                named "compression-level" "LEVEL",
                help "How hard to compress: 0 stores, 9 is smallest and slowest";

            /// The largest window of the server, in bits of its size: 9 to 15.
            pub window_bits: u8 = limits::COMPRESSION_WINDOW_BITS.default,
                as one(count(&limits::COMPRESSION_WINDOW_BITS)),
                named "compression-window" "BITS",
                help "How far back compressed messages refer, in bits of the size";

            /// Payload bytes below which a message is sent plain.
            pub threshold_bytes: usize = limits::COMPRESSION_THRESHOLD_BYTES.default,
                as one(size(&limits::COMPRESSION_THRESHOLD_BYTES)),
                named "compression-threshold" "SIZE",
                help "Messages smaller than this are sent plain";
        }
    }
}
