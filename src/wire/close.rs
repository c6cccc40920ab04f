//! The payload of a close frame: its code must be one that may be sent, its reason must be UTF-8.

use super::error::Violation;

/// The status code of a close frame (RFC 6455 section 7.4 and the IANA registry it founds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// 1000: the purpose is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a server stops, or a browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a message type that this endpoint does not accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: a close frame without a code; never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a close frame; never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: content that contradicts the message type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a policy of this endpoint forbids what the peer did.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: a client misses an extension in the server's handshake.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: an unexpected condition in the server.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded, the client should come back later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid answer from its upstream server (IANA registry).
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 3000: the client has to show who it is, or that again (IANA registry).
    pub const UNAUTHORIZED: Self = Self(3000);
    /// 3003: the client may not do what it asks for (IANA registry).
    pub const FORBIDDEN: Self = Self(3003);
    /// 4001: the user of the client has as many other connections as one may; to connect again
    /// would close one of those. Of a range in which each server gives its own meanings (RFC 6455
    /// section 7.4.2).
    pub const REPLACED: Self = Self(4001);

    /// Whether a close frame may carry this code.
    ///
    /// 1004 is reserved, 1005, 1006 and 1015 are for local use only, the other codes below 3000
    /// are unassigned (RFC 6455 section 7.4); 3000-4999 belong to libraries and applications.
    pub const fn is_valid_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// Whether a server may close with this code: any that is valid on the wire but 1010, by which
    /// a client misses an extension.
    pub fn may_be_sent_by_server(self) -> bool {
        self.is_valid_on_wire() && self != Self::MANDATORY_EXTENSION
    }
}

/// What a close frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosePayload<'a> {
    /// The code, absent when the payload is empty.
    pub code: Option<CloseCode>,
    /// The reason, often empty.
    pub reason: &'a str,
}

impl<'a> ClosePayload<'a> {
    /// Reads an unmasked close payload (RFC 6455 section 5.5.1).
    ///
    /// # Errors
    /// A payload of one byte, a code that may not be sent, or a reason that is not UTF-8.
    pub fn parse(payload: &'a [u8]) -> Result<Self, Violation> {
        let Some((&code, reason)) = payload.split_first_chunk() else {
            return match payload {
                [] => Ok(Self { code: None, reason: "" }),
                _ => Err(Violation::ClosePayloadOneByte),
            };
        };
        let code = CloseCode(u16::from_be_bytes(code));
        if !code.is_valid_on_wire() {
            return Err(Violation::InvalidCloseCode { code: code.0 });
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Violation::InvalidUtf8)?;
        Ok(Self { code: Some(code), reason })
    }
}

/// Bytes that a control frame leaves for the reason of a close (RFC 6455 section 5.5).
pub const REASON_BYTES_MAX: usize = 123;

#[cfg(test)]
mod tests {
    use super::{CloseCode, ClosePayload};
    use crate::wire::error::Violation;

    #[test]
    fn every_code_is_judged_as_the_registry_says() {
        for code in 0..=u16::MAX {
            let reserved = [1004, 1005, 1006, 1015].contains(&code);
            let valid = (1000..1015).contains(&code) && !reserved || (3000..5000).contains(&code);
            assert_eq!(CloseCode(code).is_valid_on_wire(), valid, "{code}");
            let of_server = valid && code != 1010;
            assert_eq!(CloseCode(code).may_be_sent_by_server(), of_server, "{code}");
        }
    }

    #[test]
    fn an_empty_payload_has_no_code() {
        assert_eq!(ClosePayload::parse(b""), Ok(ClosePayload { code: None, reason: "" }));
    }

    #[test]
    fn code_and_reason_are_read() {
        let bare = ClosePayload { code: Some(CloseCode::NORMAL), reason: "" };
        assert_eq!(ClosePayload::parse(b"\x03\xe8"), Ok(bare));
        let spoken = ClosePayload { code: Some(CloseCode(4999)), reason: "bye" };
        assert_eq!(ClosePayload::parse(b"\x13\x87bye"), Ok(spoken));
    }

    #[test]
    fn faults_are_named() {
        let parse = |payload| ClosePayload::parse(payload).unwrap_err();
        assert_eq!(parse(b"\x03"), Violation::ClosePayloadOneByte);
        assert_eq!(parse(b"\x03\xed"), Violation::InvalidCloseCode { code: 1005 });
        assert_eq!(parse(b"\x03\xe8\xff"), Violation::InvalidUtf8);
        assert_eq!(parse(b"\x03\xe8\xe2\x82"), Violation::InvalidUtf8);
    }
}
