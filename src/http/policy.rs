//! What the listener accepts, in the form in which requests are compared with it.

use super::refusal::{Refusal, Refused};
use crate::admission::Access;
use crate::authorization::Permissions;
use crate::config::{
    CompressionMode, Config, CookieName, FieldName, ForwardedHeader, HostPattern, MessageTypes,
    Mount, OriginPattern, RefuseWith, Root, Subprotocol,
};
use crate::wire::deflate::negotiation::Terms;

/// The settings that decide about a request.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What an upgrade of `/` means.
    pub root: Root,
    /// What clients may do with topics.
    pub permissions: Permissions,
    /// Whether tokens are verified here.
    pub verifies_tokens: bool,
    /// Whether passwords are taken.
    pub checks_passwords: bool,
    /// Whether somebody else is asked about requests without a token, and which fields of theirs
    /// are told besides those that always are.
    pub asks_with: Option<Vec<FieldName>>,
    /// The cookie that may hold a token.
    pub token_cookie: Option<CookieName>,
    /// Whether the query may hold one.
    pub token_in_query: bool,
    /// Paths with a service beside those that are built in, none of them twice.
    pub mounts: Vec<Mount>,
    /// Hosts that are answered for; empty is all. Health is told whatever the host.
    pub allow_host: Vec<HostPattern>,
    /// Origins that may upgrade; empty allows all, but where passwords are taken. Pages of the
    /// server itself and requests without `Origin` are always allowed.
    pub allow_origin: Vec<OriginPattern>,
    /// Whether client sessions may begin.
    pub has_channels: bool,
    /// Fields of a client session's request that backends are told.
    pub session_fields: Vec<FieldName>,
    /// Whether applications may call the API by listeners that are not for it alone.
    pub has_api: bool,
    /// Subprotocols spoken (RFC 6455 section 1.9).
    pub subprotocols: Vec<Subprotocol>,
    /// Whether an upgrade must offer one of them.
    pub subprotocol_required: bool,
    /// What offers of compression are answered with; `None` ignores them.
    pub compression: Option<Terms>,
    /// The kinds of messages that are taken.
    pub message_types: MessageTypes,
    /// Most bytes of a message, and so of a body.
    pub message_bytes: usize,
    /// Most bytes of a request head, request line included.
    pub request_head_bytes: usize,
    /// Most header fields of a request.
    pub request_headers: usize,
    /// Which clients may ask by a proxy, and which proxies speak for them.
    pub access: Access,
    /// Where those say for whom.
    pub forwarded_header: ForwardedHeader,
    /// How upgrades are refused that may succeed later.
    pub refuse_with: RefuseWith,
}

impl Policy {
    /// Takes the settings from the configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            root: config.root,
            permissions: Permissions::new(config),
            verifies_tokens: config.identity.has_keys(),
            checks_passwords: config.identity.basic_users.is_some(),
            asks_with: config.backend.url.as_ref().map(|_| config.backend.fields.clone()),
            token_cookie: config.identity.jwt_cookie.clone(),
            token_in_query: config.identity.jwt_query,
            mounts: config.mounts.iter().cloned().chain(Mount::built_in()).collect(),
            allow_host: config.allow_host.clone(),
            allow_origin: config.allow_origin.clone(),
            has_channels: config.realtime.is_on,
            session_fields: config.hooks.fields.clone(),
            has_api: config.realtime.is_on
                && config.realtime.api_key.is_some()
                && config.api.is_empty(),
            subprotocols: config.subprotocols.clone(),
            subprotocol_required: config.subprotocol_required,
            compression: terms(config),
            message_types: config.message_types,
            message_bytes: config.limits.message_bytes as usize,
            request_head_bytes: config.limits.request_head_bytes,
            request_headers: config.limits.request_headers,
            access: Access::new(&config.peers),
            forwarded_header: config.peers.forwarded_header,
            refuse_with: config.peers.refuse_with,
        }
    }
}

fn terms(config: &Config) -> Option<Terms> {
    let takeover = match config.compression.mode {
        CompressionMode::Off => return None,
        CompressionMode::Shared => false,
        CompressionMode::Dedicated => true,
    };
    let window_bits = config.compression.window_bits;
    Some(Terms { server_takeover: takeover, client_takeover: takeover, window_bits })
}

/// Whether new WebSocket connections are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// They are taken.
    Open,
    /// The limit of connections is reached.
    Full,
    /// Memory is short.
    ShortOfMemory,
    /// There is too much to do.
    Overloaded,
    /// The server is stopping.
    Draining,
}

impl Serving {
    /// What is said to whoever asks for more than plain answers, unless that is welcome.
    pub(super) fn refused(self) -> Option<Refused> {
        match self {
            Self::Open => None,
            Self::Full => Some(Refused::new(Refusal::Full, "The server is full.")),
            Self::ShortOfMemory => {
                Some(Refused::new(Refusal::ShortOfMemory, "The server is short of memory."))
            }
            Self::Overloaded => {
                Some(Refused::new(Refusal::Overloaded, "The server is overloaded."))
            }
            Self::Draining => Some(Refused::new(Refusal::Draining, "The server is stopping.")),
        }
    }

    /// The same to whoever sends a body: a full server has no room for another WebSocket, which
    /// that does not become.
    pub(super) fn refused_body(self) -> Option<Refused> {
        self.refused().filter(|_| self != Self::Full)
    }
}
