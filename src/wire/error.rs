//! What a peer did wrong, one variant for each fault, so that close frames and counters agree.

use thiserror::Error;

use super::close::CloseCode;
use super::utf8::InvalidUtf8;

/// A fault of the peer that fails the connection (RFC 6455 section 7.1.7).
///
/// The message of each variant fits the reason of a close frame.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Violation {
    /// A client sent a frame without a mask (RFC 6455 section 5.1).
    #[error("frame is not masked")]
    UnmaskedFrame,
    /// A server sent a frame with a mask (RFC 6455 section 5.1).
    #[error("frame is masked")]
    MaskedFrame,
    /// An RSV bit that no negotiated extension defines for this frame (RFC 6455 section 5.2).
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode without a meaning: 3-7 or 11-15 (RFC 6455 section 5.2).
    #[error("opcode {opcode} is reserved")]
    ReservedOpCode {
        /// The opcode received.
        opcode: u8,
    },
    /// A close, ping or pong frame of more than 125 payload bytes (RFC 6455 section 5.5).
    #[error("control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A close, ping or pong frame without FIN (RFC 6455 section 5.5).
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// A payload length in more bytes than it needs (RFC 6455 section 5.2).
    #[error("payload length is not minimally encoded")]
    LengthNotMinimal,
    /// A payload length with the most significant of its 64 bits set (RFC 6455 section 5.2).
    #[error("payload length exceeds 63 bits")]
    LengthOver63Bits,
    /// A continuation frame while no message is open (RFC 6455 section 5.4).
    #[error("continuation frame without a message to continue")]
    ContinuationWithoutStart,
    /// A text or binary frame while a message is open (RFC 6455 section 5.4).
    #[error("new data frame inside a fragmented message")]
    DataInsideFragmented,
    /// A text message or a close reason that is not UTF-8 (RFC 6455 section 8.1).
    #[error("text is not valid UTF-8")]
    InvalidUtf8,
    /// A close payload too short for its code (RFC 6455 section 5.5.1).
    #[error("close payload of one byte")]
    ClosePayloadOneByte,
    /// A close code that may not appear in a frame (RFC 6455 section 7.4).
    #[error("close code {code} is invalid")]
    InvalidCloseCode {
        /// The code received.
        code: u16,
    },
    /// A compressed message that cannot be inflated (RFC 7692 section 7.2.2).
    #[error("compressed message is not a DEFLATE stream")]
    CorruptDeflate,
    /// A message over the configured size, compressed or inflated.
    #[error("message is larger than {limit} bytes")]
    MessageTooBig {
        /// Payload bytes allowed in a message.
        limit: u64,
    },
    /// A message in more frames than configured.
    #[error("message has more than {limit} fragments")]
    TooManyFragments {
        /// Frames allowed in a message.
        limit: u32,
    },
    /// More control frames than configured.
    #[error("more than {limit_per_second} control frames per second")]
    TooManyControlFrames {
        /// Control frames allowed in one second.
        limit_per_second: u32,
    },
    /// A text or binary message where the configuration takes only the other.
    #[error("message type is not accepted")]
    MessageTypeNotAccepted,
    /// A message that should hold others, in a frame of SockJS, and does not.
    #[error("message is no frame of SockJS")]
    BrokenFraming,
    /// A message of a client that may only subscribe.
    #[error("publishing is not allowed here")]
    PublishingNotAllowed,
}

impl Violation {
    /// The code that the close frame answering this fault carries (RFC 6455 section 7.4.1).
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::ReservedBits
            | Self::ReservedOpCode { .. }
            | Self::ControlTooLong
            | Self::ControlFragmented
            | Self::LengthNotMinimal
            | Self::LengthOver63Bits
            | Self::ContinuationWithoutStart
            | Self::DataInsideFragmented
            | Self::ClosePayloadOneByte
            | Self::InvalidCloseCode { .. } => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 | Self::CorruptDeflate | Self::BrokenFraming => {
                CloseCode::INVALID_PAYLOAD
            }
            Self::MessageTooBig { .. } => CloseCode::MESSAGE_TOO_BIG,
            Self::TooManyFragments { .. }
            | Self::TooManyControlFrames { .. }
            | Self::PublishingNotAllowed => CloseCode::POLICY_VIOLATION,
            Self::MessageTypeNotAccepted => CloseCode::UNSUPPORTED_DATA,
        }
    }
}

impl From<InvalidUtf8> for Violation {
    fn from(_: InvalidUtf8) -> Self {
        Self::InvalidUtf8
    }
}

#[cfg(test)]
mod tests {
    use super::Violation;
    use crate::wire::close::{CloseCode, REASON_BYTES_MAX};

    #[test]
    fn close_codes_follow_the_kind_of_fault() {
        let cases = [
            (Violation::UnmaskedFrame, CloseCode::PROTOCOL_ERROR),
            (Violation::InvalidCloseCode { code: 1005 }, CloseCode::PROTOCOL_ERROR),
            (Violation::InvalidUtf8, CloseCode::INVALID_PAYLOAD),
            (Violation::CorruptDeflate, CloseCode::INVALID_PAYLOAD),
            (Violation::BrokenFraming, CloseCode::INVALID_PAYLOAD),
            (Violation::MessageTooBig { limit: 1 }, CloseCode::MESSAGE_TOO_BIG),
            (Violation::TooManyFragments { limit: 1 }, CloseCode::POLICY_VIOLATION),
            (Violation::TooManyControlFrames { limit_per_second: 1 }, CloseCode::POLICY_VIOLATION),
            (Violation::PublishingNotAllowed, CloseCode::POLICY_VIOLATION),
            (Violation::MessageTypeNotAccepted, CloseCode::UNSUPPORTED_DATA),
        ];
        for (violation, code) in cases {
            assert_eq!(violation.close_code(), code, "{violation}");
            assert!(code.is_valid_on_wire(), "{violation}");
        }
    }

    #[test]
    fn the_longest_messages_fit_a_close_reason() {
        for violation in [
            Violation::ContinuationWithoutStart,
            Violation::MessageTooBig { limit: u64::MAX },
            Violation::TooManyFragments { limit: u32::MAX },
            Violation::TooManyControlFrames { limit_per_second: u32::MAX },
        ] {
            assert!(violation.to_string().len() <= REASON_BYTES_MAX, "{violation}");
        }
    }
}
