//! What an application can call.

use std::collections::BTreeMap;

use super::{Fault, Glob};
use crate::realtime::protocol::StreamPosition;
use crate::realtime::protocol::codes::Disconnect;
use crate::realtime::tokens::Overrides;

/// A call. Names of channels are not checked but for being there where there is only one.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Publishes to a channel.
    Publish(Publish),
    /// Publishes the same to several channels.
    Broadcast(Broadcast),
    /// Subscribes connections to a channel.
    Subscribe(Box<SubscribeCall>),
    /// Ends subscriptions.
    Unsubscribe(UnsubscribeCall),
    /// Ends connections.
    Disconnect(DisconnectCall),
    /// Changes when connections expire.
    Refresh(RefreshCall),
    /// Asks who is subscribed to the channel of this name.
    Presence(String),
    /// Asks how many are subscribed to the channel of this name.
    PresenceStats(String),
    /// Asks what was published to a channel.
    History(HistoryCall),
    /// Forgets what was published to the channel of this name.
    HistoryRemove(String),
    /// Asks for the channels with subscribers whose names match.
    Channels(Glob),
    /// Asks what servers there are.
    Info,
    /// Calls something of the server itself.
    Rpc {
        /// What to call; not empty.
        method: String,
        /// JSON; empty where there is none.
        params: Vec<u8>,
    },
    /// Several calls, none of which is a batch; each that is none fails by itself.
    Batch {
        /// At most [`COMMANDS_MAX`](super::COMMANDS_MAX).
        calls: Vec<Result<Call, Fault>>,
        /// Whether a call need not wait for the one before.
        may_be_parallel: bool,
    },
}

/// What an application publishes or attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// JSON as it was written, or what was decoded from base64; never empty.
    pub bytes: Vec<u8>,
    /// Whether it is a JSON value, which can be sent to clients that speak JSON.
    pub is_json: bool,
}

/// A publication and how to treat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What is published.
    pub data: Data,
    /// Whether the history shall not have it.
    pub skip_history: bool,
    /// What it is filtered by.
    pub tags: BTreeMap<String, String>,
    /// A repeat with the same key gets the first result and publishes nothing; empty where there
    /// is none.
    pub idempotency_key: String,
    /// Whether subscribers that can may get what has changed since the publication before.
    pub delta: bool,
    /// Nothing is published unless it is above that of the publication before; 0 where there is
    /// none.
    pub version: u64,
    /// Versions of different epochs cannot be compared.
    pub version_epoch: String,
}

/// See [`Call::Publish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Not empty.
    pub channel: String,
    /// What to publish.
    pub content: Content,
}

/// See [`Call::Broadcast`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// At least one and at most [`NAMES_MAX`](super::NAMES_MAX), among which may be empty and equal
    /// ones: each has a response of its own.
    pub channels: Vec<String>,
    /// What to publish to each.
    pub content: Content,
}

/// Which connections are meant: those that have all that is not empty. At least one is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Of this user; where it is empty, of clients that have not said who they are.
    pub user: String,
    /// With this identifier.
    pub client: String,
    /// Of this session.
    pub session: String,
}

/// See [`Call::Subscribe`].
#[derive(Clone, Debug, PartialEq)]
pub struct SubscribeCall {
    /// Who is subscribed.
    pub connections: Connections,
    /// Not empty.
    pub channel: String,
    /// What others are told of the subscriber.
    pub info: Option<Data>,
    /// What the subscriber is told.
    pub data: Option<Data>,
    /// From where on publications are sent that were before the subscription.
    pub recover_since: Option<StreamPosition>,
    /// When the subscription ends, in seconds since 1970; 0 where it does not.
    pub expire_at_seconds: i64,
    /// In what the subscription differs from what is configured for the channel.
    pub overrides: Overrides,
}

/// See [`Call::Unsubscribe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubscribeCall {
    /// Whose subscriptions end.
    pub connections: Connections,
    /// Not empty.
    pub channel: String,
}

/// See [`Call::Disconnect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisconnectCall {
    /// Which ones end.
    pub connections: Connections,
    /// The identifiers of clients that are spared; at most [`NAMES_MAX`](super::NAMES_MAX).
    pub whitelist: Vec<String>,
    /// What they are told: a code from 3000 to 4999 and a reason that fits into a close frame.
    pub disconnect: Disconnect,
}

/// See [`Call::Refresh`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshCall {
    /// Which ones are changed.
    pub connections: Connections,
    /// Whether they expire now.
    pub is_expired: bool,
    /// When they expire, in seconds since 1970; 0 where they do not.
    pub expire_at_seconds: i64,
    /// JSON: what others are told of them from now on; nothing where that stays.
    pub info: Option<Vec<u8>>,
}

/// See [`Call::History`].
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryCall {
    /// Not empty.
    pub channel: String,
    /// How many publications at most; with 0 only the position is asked for, and below that as many
    /// as may be.
    pub limit: i32,
    /// Only those behind this position, or before it where `is_reverse`.
    pub since: Option<StreamPosition>,
    /// Whether the newest come first.
    pub is_reverse: bool,
}

impl Call {
    /// The method, by which the reply is named in a batch.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Publish(_) => PUBLISH,
            Self::Broadcast(_) => BROADCAST,
            Self::Subscribe(_) => SUBSCRIBE,
            Self::Unsubscribe(_) => UNSUBSCRIBE,
            Self::Disconnect(_) => DISCONNECT,
            Self::Refresh(_) => REFRESH,
            Self::Presence(_) => PRESENCE,
            Self::PresenceStats(_) => PRESENCE_STATS,
            Self::History(_) => HISTORY,
            Self::HistoryRemove(_) => HISTORY_REMOVE,
            Self::Channels(_) => CHANNELS,
            Self::Info => INFO,
            Self::Rpc { .. } => RPC,
            Self::Batch { .. } => BATCH,
        }
    }
}

pub(super) const PUBLISH: &str = "publish";
pub(super) const BROADCAST: &str = "broadcast";
pub(super) const SUBSCRIBE: &str = "subscribe";
pub(super) const UNSUBSCRIBE: &str = "unsubscribe";
pub(super) const DISCONNECT: &str = "disconnect";
pub(super) const REFRESH: &str = "refresh";
pub(super) const PRESENCE: &str = "presence";
pub(super) const PRESENCE_STATS: &str = "presence_stats";
pub(super) const HISTORY: &str = "history";
pub(super) const HISTORY_REMOVE: &str = "history_remove";
pub(super) const CHANNELS: &str = "channels";
pub(super) const INFO: &str = "info";
pub(super) const RPC: &str = "rpc";
pub(super) const BATCH: &str = "batch";

/// All that can be in a batch.
pub(super) const METHODS: &[&str] = &[
    PUBLISH,
    BROADCAST,
    SUBSCRIBE,
    UNSUBSCRIBE,
    DISCONNECT,
    REFRESH,
    PRESENCE,
    PRESENCE_STATS,
    HISTORY,
    HISTORY_REMOVE,
    CHANNELS,
    INFO,
    RPC,
];
