//! The effective configuration: every setting declared once, as a typed field with its default, its
//! names, how it is written and what it means. The flag, the environment variable, the key of the
//! file, the help, the manual, the completions and `ringwire config` are all made from that.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;

use form::{boolean, choice, duration, parsed};
use setting::{entries, list, one, settings};

use crate::limits as bounds;

mod ability;
mod access_log;
mod admin;
mod authority;
mod backend;
mod broadcast;
mod channels;
mod compression;
mod engine;
pub mod entry;
mod field_name;
mod file_path;
mod form;
mod hooks;
mod host;
mod http_url;
mod identity;
mod json_pointer;
mod key_file;
mod label;
mod limits;
mod listen;
mod logs;
mod metrics;
mod mount;
mod namespace;
mod network;
mod origin;
mod peer_address;
mod peers;
mod realtime;
mod setting;
mod similar;
mod sockjs;
mod subprotocol;
mod takeover;
mod tls;
mod topic;
mod topic_pattern;

pub use ability::Ability;
pub use access_log::{AccessLog, AccessLogError, Share, ShareError};
pub use admin::Admin;
pub use authority::Authority;
pub use backend::Backend;
pub use broadcast::BroadcastAccess;
pub use channels::{ChannelOptions, DataFormat, DeltaType, RecoveryMode, SlowReader};
pub use compression::{Compression, CompressionMode};
pub use engine::Engine;
pub use field_name::{FieldName, FieldNameError};
pub use file_path::{FilePath, FilePathError};
pub use hooks::Hooks;
pub use host::{HostPattern, HostPatternError};
pub use http_url::{HttpUrl, HttpUrlError};
pub use identity::{CertificateUser, Identity, UserLimit};
pub use json_pointer::{JsonPointer, JsonPointerError};
pub use key_file::{
    CookieName, CookieNameError, KeyFile, KeyFileError, TokenAlgorithm, TokenName, TokenNameError,
};
pub use label::{Label, LabelError};
pub use limits::{Limits, OnRate};
pub use listen::{
    ListenAddress, ListenAddressError, ListenerConfig, ListenerRole, SocketMode, SocketModeError,
};
pub use logs::{LogFormat, LogLevel, Logs};
pub use metrics::Metrics;
pub use mount::{BUILT_IN_PATHS, Mount, MountPath, MountPathError, Service};
pub use namespace::{NAMESPACE_END, Namespace, NamespaceName, NamespaceNameError};
pub use network::{Network, NetworkError, TrustedProxy};
pub use origin::{Origin, OriginPattern, OriginPatternError};
pub use peer_address::{Credentials, PeerAddress};
pub use peers::{ForwardedHeader, Peers, RefuseWith};
pub use realtime::Realtime;
pub use setting::{Heading, Refusal, Setting, Shape, Value};
pub use similar::closest;
pub use sockjs::{CloseReason, CloseReasonError, ScriptUrl, ScriptUrlError, SockJs};
pub use subprotocol::{Subprotocol, SubprotocolError};
pub use takeover::{SocketPath, SocketPathError};
pub use tls::{ClientAuthentication, Tls, TlsVersion};
pub use topic::{Topic, TopicError};
pub use topic_pattern::{TopicPattern, TopicPatternError};

/// What an upgrade of `/` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Root {
    /// Every message returns to its sender.
    Echo,
    /// Every message goes to all connections of the topic `default`.
    Broadcast,
}

/// Which message types a connection may send; others are closed with 1003 (RFC 6455 section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MessageTypes {
    /// Text and binary.
    Any,
    /// Text alone.
    Text,
    /// Binary alone.
    Binary,
}

/// What happens to a subscriber whose backlog is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SlowConsumer {
    /// Close with 1013 and a reason.
    Disconnect,
    /// Keep the backlog, drop the arriving message.
    DropNewest,
    /// Drop the oldest queued messages to make room.
    DropOldest,
    /// Drop the whole queue and keep the arriving message alone.
    Latest,
}

settings! {
    /// Everything `ringwire serve` needs to know.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Config at (|config| config) {
        under Listeners {
            /// Listeners, at least one.
            pub listen: Vec<ListenerConfig> =
                    vec![ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 7071))).into()],
                as entries::<ListenerConfig>().at_least_one(),
                named "listen" "ADDRESS[,OPTION...]",
                help "Accept connections on IP:PORT, [IPv6]:PORT, unix:PATH, or systemd:NAME, \
                      which is what a socket unit has opened; may be repeated";

            /// Listeners that send whoever comes to the first one with TLS.
            pub redirect_http: Vec<ListenerConfig> = Vec::new(),
                as entries::<ListenerConfig>().default_in_words("none"),
                named "redirect-http" "ADDRESS[,OPTION...]",
                help "Answer requests without TLS here with 308 to the same at https, by the port \
                      of the first listener with the option tls; may be repeated";

            /// Listeners of the API, which is at no other then.
            pub api: Vec<ListenerConfig> = Vec::new(),
                as entries::<ListenerConfig>().default_in_words("none"),
                named "api" "ADDRESS[,OPTION...]",
                help "Take calls of the API here, and at no other listener; needs --api-key; may \
                      be repeated";

            /// Where the process tells of itself and is told to stop.
            pub admin: Admin = Admin::default(),
                as one(parsed(Admin::GRAMMAR)),
                named "admin" "ADDRESS",
                help "Tell counters, health and readiness, and take requests to drain, on IP:PORT \
                      or unix:PATH; off is nowhere, auto is 127.0.0.1:7072 unless that is taken";
        }
        under WebSocket {
            /// Paths with a service, beside those that are built in.
            pub mounts: Vec<Mount> = Vec::new(),
                as entries::<Mount>().in_file("mounts").default_in_words("none"),
                named "mount" "PATH=SERVICE[,OPTION...]",
                help "Serve `echo`, `broadcast` or `close` on a further path; one that ends in \
                      {topic} takes the topic from there; with sockjs=true below it as well; \
                      may be repeated",
                live;

            /// What `/` means to an upgrade.
            pub root: Root = Root::Echo,
                as one(choice()),
                named "root" "ROUTE",
                help "What / does with messages: return them, or send them to the topic `default`",
                live;

            /// Who may use the topics of `/broadcast/{topic}`.
            pub broadcast_access: BroadcastAccess = BroadcastAccess::Full,
                as one(choice()),
                named "broadcast-access" "ACCESS",
                help "Who may use /broadcast: all, WebSockets to subscribe (a message closes with \
                      1008) and POST to publish, or nobody (403)",
                live;

            /// Hosts answered for: exact, with or without a port, or `*.example.org`; empty is
            /// all.
            pub allow_host: Vec<HostPattern> = Vec::new(),
                as list(parsed(HostPattern::GRAMMAR)).default_in_words("every host"),
                named "allow-host" "HOST",
                help "Answer requests for this host alone, exact or *.example.org, others with \
                      421; may be repeated",
                live;

            /// Allowed origins: exact (`https://example.org`) or `*.example.org`; empty allows
            /// all.
            pub allow_origin: Vec<OriginPattern> = Vec::new(),
                as list(parsed(OriginPattern::GRAMMAR)).default_in_words("every origin"),
                named "allow-origin" "ORIGIN",
                help "Accept pages of this origin alone, exact or *.example.org, and the server's \
                      own; may be repeated",
                live;

            /// Subprotocols spoken.
            pub subprotocols: Vec<Subprotocol> = Vec::new(),
                as list(parsed(Subprotocol::GRAMMAR)).default_in_words("none"),
                named "subprotocol" "NAME",
                help "Subprotocol spoken; the client's first that is listed is chosen; may be \
                      repeated",
                live;

            /// Whether an upgrade must offer one of them.
            pub subprotocol_required: bool = false,
                as one(boolean()),
                named "subprotocol-required" "BOOLEAN",
                help "Refuse upgrades that offer none of the subprotocols spoken with 400",
                live;

            /// Message types accepted.
            pub message_types: MessageTypes = MessageTypes::Any,
                as one(choice()),
                named "message-types" "TYPES",
                help "Message types accepted; others close the connection with 1003",
                live;
        }
        under SlowConsumers {
            /// Policy for slow consumers.
            pub slow_consumer: SlowConsumer = SlowConsumer::Disconnect,
                as one(choice()),
                named "slow-consumer" "POLICY",
                help "On a full backlog: close with 1013, drop the new message, the oldest, or \
                      the queue",
                live;
        }
        under Stop {
            /// Window over which a stop closes the connections.
            pub drain: Duration = bounds::DRAIN.default,
                as one(duration(&bounds::DRAIN)),
                named "drain" "TIME",
                help "On SIGTERM, SIGINT or SIGHUP, spread the closing of all connections over \
                      this time",
                live;

            /// Where a server that is to succeed this one finds it, and this one the server that it
            /// succeeds.
            pub takeover: Option<SocketPath> = None,
                as one(parsed(SocketPath::GRAMMAR).or_off()),
                named "takeover" "PATH",
                help "Take over the listeners of the server that is found by this socket, if there \
                      is one, and hand them over to the next in the same way";
        }
        /// Encryption.
        pub tls: Tls,
        /// Compression.
        pub compression: Compression,
        /// Bounds on what one peer may cost.
        pub limits: Limits,
        /// Who may connect, how many and how fast.
        pub peers: Peers,
        /// Who may do what.
        pub identity: Identity,
        /// Who is asked for that.
        pub backend: Backend,
        /// Channels and their clients.
        pub realtime: Realtime,
        /// Who is asked about those.
        pub hooks: Hooks,
        /// The event loops.
        pub engine: Engine,
        /// The log.
        pub logs: Logs,
        /// What a monitoring system is told.
        pub metrics: Metrics,
    }
}

impl Config {
    /// All listeners but that for administration, in the order of their places: those that serve,
    /// then those that send elsewhere, then those of the API.
    pub fn listeners(&self) -> impl Iterator<Item = &ListenerConfig> {
        self.listen.iter().chain(&self.redirect_http).chain(&self.api)
    }

    /// Those by which something is served, in the same order.
    pub fn serving_listeners(&self) -> impl Iterator<Item = &ListenerConfig> {
        self.listen.iter().chain(&self.api)
    }

    /// Whether it makes a difference who somebody is.
    pub fn asks_who_somebody_is(&self) -> bool {
        let identity = &self.identity;
        identity.has_keys()
            || identity.takes_certificates()
            || identity.basic_users.is_some()
            || self.backend.url.is_some()
    }

    /// The listener in a place, which there is, and what it is for.
    pub fn listener(&self, place: usize) -> (&ListenerConfig, ListenerRole) {
        let Some(place) = place.checked_sub(self.listen.len()) else {
            return (&self.listen[place], ListenerRole::Service);
        };
        match place.checked_sub(self.redirect_http.len()) {
            None => (&self.redirect_http[place], ListenerRole::Redirect),
            Some(place) => (&self.api[place], ListenerRole::Api),
        }
    }
}

/// All settings in the order in which they are shown.
pub fn declarations() -> Vec<Setting> {
    let mut settings = Vec::new();
    Config::declare(&mut settings);
    settings.sort_by_key(|setting| setting.heading);
    settings
}
