//! Every reason to refuse a request, named once: the response, the counters and the tests all speak
//! from this list.

use super::origin::AllowedOrigin;
use super::response::Response;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The head is not HTTP/1.0 or 1.1, or the handshake breaks RFC 6455 section 4.2.1: 400.
    BadRequest,
    /// `Host` is absent or empty (RFC 9112 section 3.2): 400.
    MissingHost,
    /// `Sec-WebSocket-Key` is absent, repeated or not 16 bytes in base64: 400.
    BadKey,
    /// A subprotocol is required, and none that is spoken here was offered: 400.
    NoSubprotocol,
    /// The origin is not allowed (RFC 6455 section 10.2), or the topic not open to clients: 403.
    Forbidden,
    /// No such path: 404.
    NotFound,
    /// A method that the path does not have: 405 with `Allow`.
    MethodNotAllowed,
    /// The deadline passed before the request was complete: 408.
    Timeout,
    /// The body has more bytes than a message may have: 413.
    BodyTooLarge,
    /// The request line alone exceeds the limit: 414.
    UriTooLong,
    /// The body is neither text nor binary as `Content-Type` tells, or is encoded: 415.
    UnsupportedMediaType,
    /// `Expect` asks for something else than `100-continue`: 417 (RFC 9110 section 10.1.1).
    ExpectationFailed,
    /// The request is for a host that is not answered for: 421 (RFC 9110 section 15.5.20).
    Misdirected,
    /// A WebSocket route without a request to upgrade: 426 with `Upgrade` (RFC 9110 section
    /// 15.5.22).
    UpgradeRequired,
    /// Another protocol version: 426 with `Sec-WebSocket-Version` (RFC 6455 section 4.4).
    VersionUnsupported,
    /// The head has too many bytes or fields: 431 (RFC 6585 section 5).
    HeadTooLarge,
    /// The body has a transfer coding other than `chunked`: 501 (RFC 9112 section 6.1).
    UnknownTransferCoding,
    /// The limit of connections is reached: 503 with `Retry-After`.
    Full,
    /// Memory is short: 503 with `Retry-After`.
    ShortOfMemory,
    /// A message waited too long for a topic that takes no more: 503 with `Retry-After`.
    Congested,
    /// The server is stopping: 503 with `Retry-After`.
    Draining,
}

impl Refusal {
    /// All reasons, in the order of their discriminants: `Refusal::ALL[r as usize] == r`.
    pub const ALL: [Self; 21] = [
        Self::BadRequest,
        Self::MissingHost,
        Self::BadKey,
        Self::NoSubprotocol,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::BodyTooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::ExpectationFailed,
        Self::Misdirected,
        Self::UpgradeRequired,
        Self::VersionUnsupported,
        Self::HeadTooLarge,
        Self::UnknownTransferCoding,
        Self::Full,
        Self::ShortOfMemory,
        Self::Congested,
        Self::Draining,
    ];

    /// The reason as a key of the counters, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::MissingHost => "missing_host",
            Self::BadKey => "bad_key",
            Self::NoSubprotocol => "no_subprotocol",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::ExpectationFailed => "expectation_failed",
            Self::Misdirected => "misdirected",
            Self::UpgradeRequired => "upgrade_required",
            Self::VersionUnsupported => "version_unsupported",
            Self::HeadTooLarge => "head_too_large",
            Self::UnknownTransferCoding => "unknown_transfer_coding",
            Self::Full => "full",
            Self::ShortOfMemory => "short_of_memory",
            Self::Congested => "congested",
            Self::Draining => "draining",
        }
    }

    /// The HTTP status code (RFC 9110 section 15).
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::MissingHost | Self::BadKey | Self::NoSubprotocol => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::BodyTooLarge => 413,
            Self::UriTooLong => 414,
            Self::UnsupportedMediaType => 415,
            Self::ExpectationFailed => 417,
            Self::Misdirected => 421,
            Self::UpgradeRequired | Self::VersionUnsupported => 426,
            Self::HeadTooLarge => 431,
            Self::UnknownTransferCoding => 501,
            Self::Full | Self::ShortOfMemory | Self::Congested | Self::Draining => 503,
        }
    }

    /// Whether the connection can serve the next request: after these the request was understood to
    /// its last byte.
    pub(super) const fn allows_keep_alive(self) -> bool {
        matches!(self.status(), 403 | 404 | 405 | 415 | 417 | 421 | 426)
    }
}

/// A refusal with the sentence that tells the peer what to change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) detail: &'static str,
    /// The methods that the path has, told to whoever has used another.
    allow: &'static str,
    /// Whose page may read it.
    origin: AllowedOrigin,
}

impl Refused {
    pub(super) const fn new(refusal: Refusal, detail: &'static str) -> Self {
        Self { refusal, detail, allow: "", origin: AllowedOrigin::NONE }
    }

    /// A method that the path does not have; `allow` lists those that it has.
    pub(super) const fn method(detail: &'static str, allow: &'static str) -> Self {
        let refusal = Refusal::MethodNotAllowed;
        Self { refusal, detail, allow, origin: AllowedOrigin::NONE }
    }

    /// The same for a page whose origin has been let pass.
    pub(super) fn readable_by(self, origin: &AllowedOrigin) -> Self {
        Self { origin: origin.clone(), ..self }
    }

    pub(super) fn response(&self) -> Response {
        let text = format!("{} {}\n", self.refusal.status(), self.detail);
        let response = self.origin.may_read(Response::text(self.refusal.status(), text));
        match self.refusal {
            Refusal::MethodNotAllowed => response.header("Allow", self.allow),
            Refusal::UpgradeRequired => response.upgrade(),
            Refusal::VersionUnsupported => response.upgrade().header("Sec-WebSocket-Version", "13"),
            Refusal::Full | Refusal::ShortOfMemory | Refusal::Congested | Refusal::Draining => {
                response.retry_later()
            }
            _ => response,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_list_is_complete_ordered_and_distinct() {
        for (position, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, position);
            let snake_case = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(refusal.name().chars().all(snake_case), "{}", refusal.name());
        }
        let names: HashSet<_> = Refusal::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Refusal::ALL.len());
    }
}
