//! Why something fails or ends, in the numbers and words that client libraries know.

use std::borrow::Cow;

use super::{DisconnectPush, ReplyError, UnsubscribePush};

/// Why a command has failed. Applications have errors of their own, from 400 to 1999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// A fault of the server.
    Internal = 100,
    /// The client must say who it is.
    Unauthorized = 101,
    /// The channel's namespace is not configured.
    UnknownChannel = 102,
    /// The client may not do this.
    PermissionDenied = 103,
    /// There is no such method to call.
    MethodNotFound = 104,
    /// The client is subscribed to this channel.
    AlreadySubscribed = 105,
    /// The client has more of something than it may have.
    LimitExceeded = 106,
    /// The request means nothing.
    BadRequest = 107,
    /// The server, or the namespace of the channel, does not do this.
    NotAvailable = 108,
    /// The token has expired; the client fetches a new one.
    TokenExpired = 109,
    /// What the token has allowed is over.
    Expired = 110,
    /// Later it may work.
    TooManyRequests = 111,
    /// What was published since the position is not all there any more.
    UnrecoverablePosition = 112,
}

impl ErrorCode {
    /// The number.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The words.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::Unauthorized => "unauthorized",
            Self::UnknownChannel => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::MethodNotFound => "method not found",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TokenExpired => "token expired",
            Self::Expired => "expired",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
        }
    }

    /// Whether the same command may succeed later, so that clients try again.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests)
    }
}

impl From<ErrorCode> for ReplyError {
    fn from(code: ErrorCode) -> Self {
        Self {
            code: code.code(),
            message: code.message().to_owned(),
            temporary: code.is_temporary(),
        }
    }
}

/// Why a connection ends: the code and the reason of the close frame. Applications have codes of
/// their own, from 4000 to 4999.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// A close code of RFC 6455 section 7.4.2.
    pub code: u16,
    /// At most 123 bytes, so that it fits into the frame.
    pub reason: Cow<'static, str>,
}

impl Disconnect {
    /// The client has closed it; this is never sent.
    pub const CONNECTION_CLOSED: Self = Self::new(3000, "connection closed");
    /// The server ends, and another one will take over.
    pub const SHUTDOWN: Self = Self::new(3001, "shutdown");
    /// A fault of the server.
    pub const INTERNAL_SERVER_ERROR: Self = Self::new(3004, "internal server error");
    /// The token has expired, and no new one has come.
    pub const CONNECTION_EXPIRED: Self = Self::new(3005, "connection expired");
    /// The token of a subscription that the server has made has expired.
    pub const SUBSCRIPTION_EXPIRED: Self = Self::new(3006, "subscription expired");
    /// The client does not read as fast as there is something to send.
    pub const SLOW: Self = Self::new(3008, "slow");
    /// The server could not send.
    pub const WRITE_ERROR: Self = Self::new(3009, "write error");
    /// The client has missed something of a subscription that the server has made.
    pub const INSUFFICIENT_STATE: Self = Self::new(3010, "insufficient state");
    /// The server wants the client to connect again.
    pub const FORCE_RECONNECT: Self = Self::new(3011, "force reconnect");
    /// A ping was not answered in time.
    pub const NO_PONG: Self = Self::new(3012, "no pong");
    /// The client sends faster than it may.
    pub const TOO_MANY_REQUESTS: Self = Self::new(3013, "too many requests");
    /// What the client knows counts no more.
    pub const STATE_INVALIDATED: Self = Self::new(3014, "state invalidated");
    /// No new token would help.
    pub const INVALID_TOKEN: Self = Self::new(3500, "invalid token");
    /// The client breaks the protocol.
    pub const BAD_REQUEST: Self = Self::new(3501, "bad request");
    /// The client has not said who it is in time.
    pub const STALE: Self = Self::new(3502, "stale");
    /// The server wants the client to stay away.
    pub const FORCE_DISCONNECT: Self = Self::new(3503, "force disconnect");
    /// There are as many connections as there may be.
    pub const CONNECTION_LIMIT: Self = Self::new(3504, "connection limit");
    /// The client has as many channels as it may have.
    pub const CHANNEL_LIMIT: Self = Self::new(3505, "channel limit");
    /// What is published cannot be said in the encoding of the client.
    pub const INAPPROPRIATE_PROTOCOL: Self = Self::new(3506, "inappropriate protocol");
    /// The client may not be here.
    pub const PERMISSION_DENIED: Self = Self::new(3507, "permission denied");
    /// The server does not do what the client has sent, which has no reply.
    pub const NOT_AVAILABLE: Self = Self::new(3508, "not available");
    /// The client has made more mistakes than it may.
    pub const TOO_MANY_ERRORS: Self = Self::new(3509, "too many errors");

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// Whether client libraries connect again. They do not from 3500 to 3999 and from 4500 to 4999.
    pub fn may_reconnect(&self) -> bool {
        !matches!(self.code, 3500..=3999 | 4500..=4999)
    }

    /// The push for those who get no close frame.
    pub fn push(&self) -> DisconnectPush {
        DisconnectPush {
            code: self.code.into(),
            reason: self.reason.clone().into_owned(),
            reconnect: self.may_reconnect(),
        }
    }
}

/// Why a subscription ends that the client has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// From 2500 on client libraries subscribe again.
    pub code: u32,
    /// For people.
    pub reason: &'static str,
}

impl Unsubscribe {
    /// The application wants it so.
    pub const SERVER: Self = Self { code: 2000, reason: "server unsubscribe" };
    /// The client has missed something, and can get it by recovery.
    pub const INSUFFICIENT_STATE: Self = Self { code: 2500, reason: "insufficient state" };
    /// The token has expired, and no new one has come.
    pub const SUBSCRIPTION_EXPIRED: Self = Self { code: 2501, reason: "subscription expired" };
    /// What the client knows, its token and position, counts no more.
    pub const STATE_INVALIDATED: Self = Self { code: 2502, reason: "state invalidated" };

    /// What the client is told.
    pub fn push(self) -> UnsubscribePush {
        UnsubscribePush { code: self.code, reason: self.reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_whether_to_try_again() {
        let error = ReplyError::from(ErrorCode::TooManyRequests);
        let message = "too many requests".to_owned();
        assert_eq!(error, ReplyError { code: 111, message, temporary: true });
        let error = ReplyError::from(ErrorCode::PermissionDenied);
        let message = "permission denied".to_owned();
        assert_eq!(error, ReplyError { code: 103, message, temporary: false });
        assert_eq!(ErrorCode::UnrecoverablePosition.code(), 112);
    }

    #[test]
    fn the_code_says_whether_to_connect_again() {
        for (code, may_reconnect) in [
            (1000, true),
            (3001, true),
            (3499, true),
            (3500, false),
            (3999, false),
            (4000, true),
            (4499, true),
            (4500, false),
            (4999, false),
            (5000, true),
        ] {
            assert_eq!(Disconnect::new(code, "").may_reconnect(), may_reconnect, "{code}");
        }
        let push = Disconnect::INVALID_TOKEN.push();
        let reason = "invalid token".to_owned();
        assert_eq!(push, DisconnectPush { code: 3500, reason, reconnect: false });
        let push = Unsubscribe::INSUFFICIENT_STATE.push();
        let reason = "insufficient state".to_owned();
        assert_eq!(push, UnsubscribePush { code: 2500, reason });
    }
}
