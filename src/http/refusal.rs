//! Every reason to refuse a request, named once: the response, the counters and the tests all speak
//! from this list.

use super::basic;
use super::origin::AllowedOrigin;
use super::policy::Policy;
use super::response::Response;
use crate::admission::{Denial, JoinDenial};
use crate::identity::Denial as Denied;
use crate::wire::close::CloseCode;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The head is not HTTP/1.0 or 1.1, or the handshake breaks RFC 6455 section 4.2.1: 400.
    BadRequest,
    /// What must be a PROXY header is none, or did not come in time: the connection ends without an
    /// answer, and 400 stands for that.
    ProxyHeader,
    /// `Host` is absent or empty (RFC 9112 section 3.2): 400.
    MissingHost,
    /// `Sec-WebSocket-Key` is absent, repeated or not 16 bytes in base64: 400.
    BadKey,
    /// A subprotocol is required, and none that is spoken here was offered: 400.
    NoSubprotocol,
    /// There is no token, and it takes one: 401 with `WWW-Authenticate` (RFC 6750 section 3).
    Unidentified,
    /// A call of the API without one of its keys: 401.
    NoApiKey,
    /// The token is not valid: the same with `invalid_token` (RFC 6750 section 3.1).
    InvalidToken,
    /// The token does not grant what was asked for: 403 with `insufficient_scope`.
    NotGranted,
    /// Somebody who was asked does not grant it: 403.
    Denied,
    /// The origin is not allowed (RFC 6455 section 10.2), or the topic not open to clients: 403.
    Forbidden,
    /// Whoever must be a proxy is not trusted: the connection is reset, and 403 stands for that.
    UntrustedProxy,
    /// The network of the client may not connect: 403, or a reset when it is known before.
    NetworkDenied,
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
    /// The address of the client has as many connections as it may: 429 with `Retry-After` (RFC
    /// 6585 section 4), or a reset when it is known before.
    AddressConnections,
    /// The address of the client began too many within the last second: the same.
    AddressRate,
    /// The user has as many connections as one may: 429 with `Retry-After`.
    UserConnections,
    /// More is published to the topic than may be: 429 with `Retry-After`.
    TopicRate,
    /// The head has too many bytes or fields: 431 (RFC 6585 section 5).
    HeadTooLarge,
    /// The body has a transfer coding other than `chunked`: 501 (RFC 9112 section 6.1).
    UnknownTransferCoding,
    /// The limit of connections is reached: 503 with `Retry-After`.
    Full,
    /// The topic has as many members as it may: 503 with `Retry-After`.
    TopicFull,
    /// There are as many topics as there may be: 503 with `Retry-After`.
    TopicsFull,
    /// All together began too many within the last second: 503 with `Retry-After`, or a reset when
    /// there is no request yet.
    ConnectionRate,
    /// Memory is short: 503 with `Retry-After`.
    ShortOfMemory,
    /// There is too much to do: 503 with `Retry-After`.
    Overloaded,
    /// Nobody says whether it is granted: 503 with `Retry-After`.
    Unjudged,
    /// A message waited too long for a topic that takes no more: 503 with `Retry-After`.
    Congested,
    /// The server is stopping: 503 with `Retry-After`.
    Draining,
}

impl Refusal {
    /// All reasons, in the order of their discriminants: `Refusal::ALL[r as usize] == r`.
    pub const ALL: [Self; 38] = [
        Self::BadRequest,
        Self::ProxyHeader,
        Self::MissingHost,
        Self::BadKey,
        Self::NoSubprotocol,
        Self::Unidentified,
        Self::NoApiKey,
        Self::InvalidToken,
        Self::NotGranted,
        Self::Denied,
        Self::Forbidden,
        Self::UntrustedProxy,
        Self::NetworkDenied,
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
        Self::AddressConnections,
        Self::AddressRate,
        Self::UserConnections,
        Self::TopicRate,
        Self::HeadTooLarge,
        Self::UnknownTransferCoding,
        Self::Full,
        Self::TopicFull,
        Self::TopicsFull,
        Self::ConnectionRate,
        Self::ShortOfMemory,
        Self::Overloaded,
        Self::Unjudged,
        Self::Congested,
        Self::Draining,
    ];

    /// The reason as a key of the counters, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::ProxyHeader => "proxy_header",
            Self::MissingHost => "missing_host",
            Self::BadKey => "bad_key",
            Self::NoSubprotocol => "no_subprotocol",
            Self::Unidentified => "unidentified",
            Self::NoApiKey => "no_api_key",
            Self::InvalidToken => "invalid_token",
            Self::NotGranted => "not_granted",
            Self::Denied => "denied",
            Self::Forbidden => "forbidden",
            Self::UntrustedProxy => "untrusted_proxy",
            Self::NetworkDenied => "network_denied",
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
            Self::AddressConnections => "address_connections",
            Self::AddressRate => "address_rate",
            Self::UserConnections => "user_connections",
            Self::TopicRate => "topic_rate",
            Self::HeadTooLarge => "head_too_large",
            Self::UnknownTransferCoding => "unknown_transfer_coding",
            Self::Full => "full",
            Self::TopicFull => "topic_full",
            Self::TopicsFull => "topics_full",
            Self::ConnectionRate => "connection_rate",
            Self::ShortOfMemory => "short_of_memory",
            Self::Overloaded => "overloaded",
            Self::Unjudged => "unjudged",
            Self::Congested => "congested",
            Self::Draining => "draining",
        }
    }

    /// The HTTP status code (RFC 9110 section 15).
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest
            | Self::ProxyHeader
            | Self::MissingHost
            | Self::BadKey
            | Self::NoSubprotocol => 400,
            Self::Unidentified | Self::NoApiKey | Self::InvalidToken => 401,
            Self::NotGranted
            | Self::Denied
            | Self::Forbidden
            | Self::UntrustedProxy
            | Self::NetworkDenied => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::BodyTooLarge => 413,
            Self::UriTooLong => 414,
            Self::UnsupportedMediaType => 415,
            Self::ExpectationFailed => 417,
            Self::Misdirected => 421,
            Self::UpgradeRequired | Self::VersionUnsupported => 426,
            Self::AddressConnections
            | Self::AddressRate
            | Self::UserConnections
            | Self::TopicRate => 429,
            Self::HeadTooLarge => 431,
            Self::UnknownTransferCoding => 501,
            Self::Full
            | Self::TopicFull
            | Self::TopicsFull
            | Self::ConnectionRate
            | Self::ShortOfMemory
            | Self::Overloaded
            | Self::Unjudged
            | Self::Congested
            | Self::Draining => 503,
        }
    }

    /// Whether the same request may be welcome a while later.
    pub(super) const fn is_temporary(self) -> bool {
        matches!(self.status(), 429 | 503)
    }

    /// The code of a close that stands for the response, where one does: of those who are refused
    /// for the moment, or for who they are (IANA registry).
    pub(super) const fn close_code(self) -> Option<CloseCode> {
        match self {
            Self::Unidentified | Self::InvalidToken => Some(CloseCode::UNAUTHORIZED),
            Self::NotGranted | Self::Denied => Some(CloseCode::FORBIDDEN),
            _ if self.is_temporary() => Some(CloseCode::TRY_AGAIN_LATER),
            _ => None,
        }
    }

    /// Whether somebody else might get another answer.
    pub(super) const fn depends_on_identity(self) -> bool {
        self.challenge().is_some() || matches!(self, Self::Denied | Self::Unjudged)
    }

    /// What `WWW-Authenticate` says, where the answer depends on who asks.
    const fn challenge(self) -> Option<&'static str> {
        match self {
            Self::Unidentified => Some("Bearer realm=\"ringwire\""),
            Self::InvalidToken => Some("Bearer realm=\"ringwire\", error=\"invalid_token\""),
            Self::NotGranted => Some("Bearer realm=\"ringwire\", error=\"insufficient_scope\""),
            _ => None,
        }
    }

    /// Whether the connection can serve the next request: after these the request was understood to
    /// its last byte.
    pub(super) const fn allows_keep_alive(self) -> bool {
        matches!(self.status(), 401 | 403 | 404 | 405 | 415 | 417 | 421 | 426 | 429)
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Network => Self::NetworkDenied,
            Denial::AddressConnections => Self::AddressConnections,
            Denial::AddressRate => Self::AddressRate,
            Denial::Rate => Self::ConnectionRate,
            Denial::UserConnections => Self::UserConnections,
        }
    }
}

/// How many seconds later those who are refused for the moment may come back: another number for
/// each, so that a crowd does not come back together.
#[derive(Debug)]
pub struct RetryAfter(u32);

impl RetryAfter {
    /// Numbers in an order that depends on `seed`.
    pub fn new(seed: u32) -> Self {
        Self(seed)
    }

    /// Seconds for the next one.
    pub fn next_s(&mut self) -> u8 {
        // Steps of the golden ratio spread over the whole range (2^32 divided by it).
        self.0 = self.0.wrapping_add(0x9e37_79b9);
        let span = u64::from(RETRY_AFTER_MOST_S - RETRY_AFTER_LEAST_S) + 1;
        RETRY_AFTER_LEAST_S + ((u64::from(self.0) * span) >> 32) as u8
    }
}

/// Long enough to spare a full server, short enough for a rolling restart.
const RETRY_AFTER_LEAST_S: u8 = 5;
const RETRY_AFTER_MOST_S: u8 = 30;

/// A refusal with the sentence that tells the peer what to change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    pub(super) detail: &'static str,
    /// The methods that the path has, told to whoever has used another.
    allow: &'static str,
    /// How somebody may show who they are, where that is not by a token alone or was said by
    /// whoever has been asked.
    challenge: Option<Box<str>>,
    /// Whose page may read it.
    origin: AllowedOrigin,
}

impl Refused {
    pub(super) const fn new(refusal: Refusal, detail: &'static str) -> Self {
        Self { refusal, detail, allow: "", challenge: None, origin: AllowedOrigin::NONE }
    }

    /// A method that the path does not have; `allow` lists those that it has.
    pub(super) const fn method(detail: &'static str, allow: &'static str) -> Self {
        let refusal = Refusal::MethodNotAllowed;
        Self { refusal, detail, allow, challenge: None, origin: AllowedOrigin::NONE }
    }

    /// The same for a page whose origin has been let pass.
    pub(super) fn readable_by(self, origin: &AllowedOrigin) -> Self {
        Self { origin: origin.clone(), ..self }
    }

    /// The same, asking for a password where one would do.
    pub(super) fn challenged_by(self, policy: &Policy) -> Self {
        let is_asked = policy.checks_passwords && self.refusal.status() == 401;
        if !is_asked || self.challenge.is_some() {
            return self;
        }
        let takes_tokens = policy.verifies_tokens || policy.asks_with.is_some();
        let of_tokens = self.refusal.challenge().filter(|_| takes_tokens);
        let challenges: Vec<_> = of_tokens.into_iter().chain([basic::CHALLENGE]).collect();
        Self { challenge: Some(challenges.join(", ").into()), ..self }
    }

    /// Whoever was asked does not grant it.
    pub(super) fn judged(denial: Denied) -> Self {
        let refused = match denial.is_forbidden {
            true => Self::new(Refusal::Denied, "You may not do this."),
            false => Self::new(Refusal::Unidentified, "It is not known who you are."),
        };
        Self { challenge: denial.challenge, ..refused }
    }

    /// A client that another speaks for is not let in.
    pub(super) fn denied(denial: Denial) -> Self {
        let detail = match denial {
            Denial::Network => "Your network may not connect.",
            Denial::AddressConnections => "Your address has as many connections as it may.",
            Denial::AddressRate => "Your address connects too often.",
            Denial::Rate => "Too many connect at the moment.",
            Denial::UserConnections => "Your user has as many connections as one may.",
        };
        Self::new(denial.into(), detail)
    }

    /// Somebody may not become a member of a topic.
    pub(super) fn no_member(denial: JoinDenial) -> Self {
        let (refusal, detail) = match denial {
            JoinDenial::TopicFull => {
                (Refusal::TopicFull, "The topic has as many members as it may.")
            }
            JoinDenial::TopicsFull => {
                (Refusal::TopicsFull, "There are as many topics as there may be.")
            }
        };
        Self::new(refusal, detail)
    }

    /// The response; who is refused for the moment may come back after so many seconds.
    pub(super) fn response(&self, retry_after_s: u8) -> Response {
        let text = format!("{} {}\n", self.refusal.status(), self.detail);
        let response = self.origin.may_read(Response::text(self.refusal.status(), text));
        let response = match self.challenge.as_deref().or(self.refusal.challenge()) {
            Some(challenge) => response.header("WWW-Authenticate", challenge.to_owned()),
            None => response,
        };
        match self.refusal {
            Refusal::MethodNotAllowed => response.header("Allow", self.allow),
            Refusal::UpgradeRequired => response.upgrade(),
            Refusal::VersionUnsupported => response.upgrade().header("Sec-WebSocket-Version", "13"),
            refusal if refusal.is_temporary() => response.retry_later(retry_after_s),
            _ => response,
        }
    }

    /// What the reason of a close says instead of the response.
    pub(super) fn reason(&self, retry_after_s: u8) -> String {
        let sentence = self.detail.trim_end_matches('.');
        match self.refusal.is_temporary() {
            true => format!("{sentence}; come back in {retry_after_s} s"),
            false => sentence.to_owned(),
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

    #[test]
    fn those_who_are_refused_together_come_back_one_after_the_other() {
        let mut retry_after = RetryAfter::new(0);
        let mut crowd = [0; RETRY_AFTER_MOST_S as usize + 1];
        (0..2600).for_each(|_| crowd[usize::from(retry_after.next_s())] += 1);
        let (early, rest) = crowd.split_at(RETRY_AFTER_LEAST_S.into());
        assert!(early.iter().all(|count| *count == 0));
        assert!(rest.iter().all(|count| (95..105).contains(count)), "{rest:?}");
    }
}
