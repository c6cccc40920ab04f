//! Compressed messages of one connection: inflated whole, and answered in kind.

use super::message::Assembly;
use super::{Mode, Output, Piece, Rules, Session};
use crate::config::Limits;
use crate::wire::deflate::codec::{Codec, window_class};
use crate::wire::deflate::negotiation::Agreement;
use crate::wire::deflate::{Deflater, WINDOW_BITS_LEAST, compressed_bytes_max};
use crate::wire::error::Violation;
use crate::wire::header::{HEADER_BYTES_MAX, Header, OpCode, RSV1};
use crate::wire::utf8;

/// What the upgrade has settled: what messages are for, and how they are compressed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Upgrade(u8);

impl Upgrade {
    /// A route of this mode, with what was agreed on compression.
    pub(super) fn new(mode: Mode, compression: Option<Agreement>) -> Self {
        let mut bits = match mode {
            Mode::Echo => 0,
            Mode::Broadcast => Self::BROADCAST,
        };
        if let Some(agreement) = compression {
            bits |= Self::COMPRESSED;
            bits |= if agreement.server_takeover { Self::SERVER_TAKEOVER } else { 0 };
            bits |= if agreement.client_takeover { Self::CLIENT_TAKEOVER } else { 0 };
            bits |= (agreement.server_window_bits - WINDOW_BITS_LEAST) << Self::WINDOW_SHIFT;
        }
        Self(bits)
    }

    pub(super) fn mode(self) -> Mode {
        if self.0 & Self::BROADCAST == 0 { Mode::Echo } else { Mode::Broadcast }
    }

    /// The RSV bits that a data message may begin with.
    pub(super) fn extension_bits(self) -> u8 {
        if self.0 & Self::COMPRESSED == 0 { 0 } else { RSV1 }
    }

    /// How far back the server's messages may refer, in bits; `None` without compression.
    pub(super) fn server_window_bits(self) -> Option<u8> {
        let is_compressed = self.0 & Self::COMPRESSED != 0;
        is_compressed.then_some((self.0 >> Self::WINDOW_SHIFT) + WINDOW_BITS_LEAST)
    }

    fn server_takes_over(self) -> bool {
        self.0 & Self::SERVER_TAKEOVER != 0
    }

    fn client_takes_over(self) -> bool {
        self.0 & Self::CLIENT_TAKEOVER != 0
    }

    const BROADCAST: u8 = 1;
    const COMPRESSED: u8 = 1 << 1;
    const SERVER_TAKEOVER: u8 = 1 << 2;
    const CLIENT_TAKEOVER: u8 = 1 << 3;
    /// Three bits hold 8 to 15.
    const WINDOW_SHIFT: u32 = 5;
}

impl Session {
    /// How far back the server's messages may refer, in bits; `None` without compression.
    pub fn server_window_bits(&self) -> Option<u8> {
        self.upgrade.server_window_bits()
    }

    /// Gives back what compresses this connection's messages, and tells how many bytes that was:
    /// the next message refers to none before. What inflates the peer's messages stays, because
    /// they may refer to any.
    pub fn release_deflater(&mut self) -> usize {
        let deflater = self.cold.as_mut().and_then(|cold| cold.deflater.take());
        self.release_cold();
        deflater.map_or(0, |_| Deflater::HELD_BYTES)
    }

    /// Payload bytes that a frame may have.
    pub(super) fn frame_bytes_max(&self, header: &Header, limits: &Limits) -> u32 {
        let assembly = self.cold.as_ref().and_then(|cold| cold.assembly.as_ref());
        let is_compressed = header.rsv != 0 || assembly.is_some_and(Assembly::is_compressed);
        match is_compressed {
            true => compressed_bytes_max(limits.message_bytes),
            false => limits.message_bytes,
        }
    }

    /// Inflates a whole message and does with it what the route is for.
    ///
    /// # Errors
    /// The message is no DEFLATE stream, too big once inflated, or text that is not UTF-8.
    pub(super) fn compressed_message(
        &mut self,
        opcode: OpCode,
        compressed: &[u8],
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> Result<(), Violation> {
        let mut codec = rules.codec.borrow_mut();
        let own = match self.upgrade.client_takes_over() {
            true => Some(&mut **self.cold().inflater.get_or_insert_default()),
            false => None,
        };
        let message = codec.inflate(own, compressed)?;
        if opcode == OpCode::Text {
            utf8::validate(&message)?;
        }
        output.messages += 1;
        match (self.upgrade.mode(), self.upgrade.server_window_bits()) {
            (Mode::Broadcast, _) => output.published.push(plain_frame(opcode, &message)),
            (Mode::Echo, bits) => {
                let frame = self.compressed_frame(&mut codec, bits, opcode, &message);
                let bytes = frame.unwrap_or_else(|| plain_frame(opcode, &message));
                output.reflected_messages += 1;
                output.pieces.push(Piece::Owned { bytes, ends_frame: true });
            }
        }
        codec.recycle(message);
        Ok(())
    }

    fn compressed_frame(
        &mut self,
        codec: &mut Codec,
        window_bits: Option<u8>,
        opcode: OpCode,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let window_bits = window_bits?;
        if self.upgrade.server_takes_over() {
            let new = || Box::new(codec.deflater(window_bits));
            let own = self.cold().deflater.get_or_insert_with(new);
            codec.frame_in_context(own, opcode, message)
        } else {
            codec.frame_of_class(window_class(window_bits), opcode, message)
        }
    }
}

fn plain_frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut encoded = [0; HEADER_BYTES_MAX];
    let bytes = Header::message(opcode, payload.len() as u64).encode(&mut encoded);
    [&encoded[..bytes], payload].concat()
}
