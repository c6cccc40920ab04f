//! Frame headers in both directions, and the small frames that a server makes itself.

use super::close::{CloseCode, REASON_BYTES_MAX};
use super::error::Violation;
use super::mask::MaskKey;

/// Which end of the connection this endpoint is: it decides who masks (RFC 6455 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Receives masked frames, sends unmasked ones.
    Server,
    /// Receives unmasked frames, sends masked ones.
    Client,
}

/// What a frame is (RFC 6455 section 5.2), numbered as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpCode {
    /// A further fragment of the open message.
    Continuation = 0x0,
    /// The first frame of a text message.
    Text = 0x1,
    /// The first frame of a binary message.
    Binary = 0x2,
    /// Starts or answers the closing handshake.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or comes unasked.
    Pong = 0xa,
}

impl OpCode {
    /// Whether frames of this kind are small, unfragmented, and may interrupt a message
    /// (RFC 6455 section 5.5).
    #[inline]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    #[inline]
    const fn decode(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            opcode => return Err(Violation::ReservedOpCode { opcode }),
        })
    }
}

/// A frame header (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether this frame ends its message.
    pub fin: bool,
    /// The reserved bits in their place on the wire: [`RSV1`], [`RSV2`], [`RSV3`].
    pub rsv: u8,
    /// The kind of frame.
    pub opcode: OpCode,
    /// The key that masks the payload; `None` when it is not masked.
    pub mask: Option<MaskKey>,
    /// Bytes of payload after the header, at most 2^63 - 1.
    pub payload_bytes: u64,
}

impl Header {
    /// The header of a whole message from a server: unfragmented, unmasked.
    #[inline]
    pub const fn message(opcode: OpCode, payload_bytes: u64) -> Self {
        Self { fin: true, rsv: 0, opcode, mask: None, payload_bytes }
    }

    /// Reads the header at the start of `bytes`, and returns it with its own length in bytes;
    /// `None` when more bytes are needed to judge it.
    ///
    /// `extension_bits` are the RSV bits that negotiated extensions define. They are accepted on
    /// the first frame of a data message only (RFC 7692 section 6.1).
    ///
    /// # Errors
    /// What the header alone shows to be wrong, as soon as the bytes present decide it.
    #[inline]
    pub fn decode(
        bytes: &[u8],
        role: Role,
        extension_bits: u8,
    ) -> Result<Option<(Self, usize)>, Violation> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let (fin, rsv) = (first & FIN != 0, first & RSV_BITS);
        let opcode = OpCode::decode(first & OPCODE_BITS)?;
        check_first_byte(fin, rsv, opcode, extension_bits)?;

        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        let masked = second & MASKED != 0;
        check_mask(masked, role)?;
        let length = second & LENGTH_BITS;
        if length > LENGTH_7_MAX && opcode.is_control() {
            return Err(Violation::ControlTooLong);
        }
        let (payload_bytes, rest) = match length {
            LENGTH_16 => match decode_length_16(rest)? {
                Some(decoded) => decoded,
                None => return Ok(None),
            },
            LENGTH_64 => match decode_length_64(rest)? {
                Some(decoded) => decoded,
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };

        let mask = match (masked, rest.first_chunk()) {
            (false, _) => None,
            (true, Some(&key)) => Some(MaskKey(key)),
            (true, None) => return Ok(None),
        };
        let header = Self { fin, rsv, opcode, mask, payload_bytes };
        Ok(Some((header, Self::encoded_bytes(payload_bytes, masked))))
    }

    /// Writes the header to the start of `out` and returns its length in bytes.
    ///
    /// The length encoding is minimal. Nothing is checked: RSV bits, opcode, FIN and the 63-bit
    /// limit of `payload_bytes` are the caller's to respect.
    #[inline]
    pub fn encode(&self, out: &mut [u8; HEADER_BYTES_MAX]) -> usize {
        let fin = if self.fin { FIN } else { 0 };
        out[0] = fin | self.rsv & RSV_BITS | self.opcode as u8;
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        match self.payload_bytes {
            length @ 0..=125 => out[1] = masked | length as u8,
            length @ 126..=0xffff => {
                out[1] = masked | LENGTH_16;
                out[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                out[1] = masked | LENGTH_64;
                out[2..10].copy_from_slice(&length.to_be_bytes());
            }
        }
        let bytes = Self::encoded_bytes(self.payload_bytes, self.mask.is_some());
        if let Some(MaskKey(key)) = self.mask {
            out[bytes - MASK_BYTES..bytes].copy_from_slice(&key);
        }
        bytes
    }

    /// The length in bytes of a header for a payload of `payload_bytes`: 2 to 14.
    #[inline]
    pub const fn encoded_bytes(payload_bytes: u64, masked: bool) -> usize {
        let bytes = match payload_bytes {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        if masked { bytes + MASK_BYTES } else { bytes }
    }
}

/// A whole unmasked control frame, as a server sends it (RFC 6455 section 5.5).
///
/// # Panics
/// `opcode` is not that of a control frame, or `payload` is longer than 125 bytes. A payload that
/// [`Header::decode`] let pass in a control frame never is.
pub fn control_frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    assert!(opcode.is_control() && payload.len() <= usize::from(LENGTH_7_MAX));
    let mut frame = Vec::with_capacity(2 + payload.len());
    frame.extend_from_slice(&[FIN | opcode as u8, payload.len() as u8]);
    frame.extend_from_slice(payload);
    frame
}

/// A whole unmasked close frame, as a server sends it (RFC 6455 section 5.5.1).
///
/// The reason is cut before the character that would pass its 123rd byte. A close frame without a
/// code is `control_frame(OpCode::Close, &[])`.
pub fn close_frame(code: CloseCode, reason: &str) -> Vec<u8> {
    let mut reason_bytes = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(reason_bytes) {
        reason_bytes -= 1;
    }
    let mut payload = Vec::with_capacity(2 + reason_bytes);
    payload.extend_from_slice(&code.0.to_be_bytes());
    payload.extend_from_slice(&reason.as_bytes()[..reason_bytes]);
    control_frame(OpCode::Close, &payload)
}

#[inline]
fn check_first_byte(
    fin: bool,
    rsv: u8,
    opcode: OpCode,
    extension_bits: u8,
) -> Result<(), Violation> {
    let starts_message = matches!(opcode, OpCode::Text | OpCode::Binary);
    if rsv != 0 && (!starts_message || rsv & !extension_bits != 0) {
        return Err(Violation::ReservedBits);
    }
    if !fin && opcode.is_control() {
        return Err(Violation::ControlFragmented);
    }
    Ok(())
}

#[inline]
fn check_mask(masked: bool, role: Role) -> Result<(), Violation> {
    match (role, masked) {
        (Role::Server, false) => Err(Violation::UnmaskedFrame),
        (Role::Client, true) => Err(Violation::MaskedFrame),
        _ => Ok(()),
    }
}

/// The length and the bytes after it; `None` when more are needed.
#[inline]
fn decode_length_16(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    let Some((&length, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    match u16::from_be_bytes(length) {
        0..=125 => Err(Violation::LengthNotMinimal),
        length => Ok(Some((u64::from(length), rest))),
    }
}

/// The length and the bytes after it; `None` when more are needed. The first byte alone can show
/// that the length is too large, the first six that 16 bits would have held it.
#[inline]
fn decode_length_64(bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    if bytes.first().is_some_and(|&first| first & 0x80 != 0) {
        return Err(Violation::LengthOver63Bits);
    }
    if bytes.starts_with(&[0; 6]) {
        return Err(Violation::LengthNotMinimal);
    }
    let decoded = bytes.split_first_chunk();
    Ok(decoded.map(|(&length, rest)| (u64::from_be_bytes(length), rest)))
}

/// The longest header: two bytes, 64 bits of length, the masking key.
pub const HEADER_BYTES_MAX: usize = 14;

/// The first reserved bit, "compressed" in permessage-deflate (RFC 7692 section 6).
pub const RSV1: u8 = 0x40;

/// The second reserved bit.
pub const RSV2: u8 = 0x20;

/// The third reserved bit.
pub const RSV3: u8 = 0x10;

/// In the first byte: the frame ends its message.
pub(crate) const FIN: u8 = 0x80;
const RSV_BITS: u8 = RSV1 | RSV2 | RSV3;
const OPCODE_BITS: u8 = 0x0f;
/// In the second byte: the payload is masked.
pub(crate) const MASKED: u8 = 0x80;
const LENGTH_BITS: u8 = 0x7f;

/// The largest length that the second byte holds itself, and the limit of control frames.
const LENGTH_7_MAX: u8 = 125;

/// In the second byte: the length follows in 16 bits.
const LENGTH_16: u8 = 126;

/// In the second byte: the length follows in 64 bits.
const LENGTH_64: u8 = 127;

/// Bytes of the masking key.
pub(crate) const MASK_BYTES: usize = 4;

#[cfg(test)]
mod tests;
