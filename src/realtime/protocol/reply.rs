//! What a server answers: replies, each with the result of a command or an error.

use std::collections::BTreeMap;

use super::message::{Content, messages};
use super::push::{ClientInfo, Publication, PushMessage};
use super::subscriptions::Subscriptions;

messages! {
    /// What a server sends, as it is read. With no field at all it is a ping.
    pub struct Reply {
        /// The `id` of the command; 0 with a push.
        #[prost(uint32, tag = "1")]
        pub id: u32,
        /// Why there is no result.
        #[prost(message, optional, tag = "2")]
        pub error: Option<ReplyError>,
        /// What no command has asked for.
        #[prost(message, optional, tag = "4")]
        pub push: Option<PushMessage>,
        /// Of `connect`.
        #[prost(message, optional, tag = "5")]
        pub connect: Option<ConnectResult>,
        /// Of `subscribe`.
        #[prost(message, optional, tag = "6")]
        pub subscribe: Option<SubscribeResult>,
        /// Of `unsubscribe`.
        #[prost(message, optional, tag = "7")]
        pub unsubscribe: Option<Empty>,
        /// Of `publish`.
        #[prost(message, optional, tag = "8")]
        pub publish: Option<Empty>,
        /// Of `presence`.
        #[prost(message, optional, tag = "9")]
        pub presence: Option<PresenceResult>,
        /// Of `presence_stats`.
        #[prost(message, optional, tag = "10")]
        pub presence_stats: Option<PresenceStatsResult>,
        /// Of `history`.
        #[prost(message, optional, tag = "11")]
        pub history: Option<HistoryResult>,
        /// Of `rpc`.
        #[prost(message, optional, tag = "13")]
        pub rpc: Option<RpcResult>,
        /// Of `refresh`.
        #[prost(message, optional, tag = "14")]
        pub refresh: Option<RefreshResult>,
        /// Of `sub_refresh`.
        #[prost(message, optional, tag = "15")]
        pub sub_refresh: Option<SubRefreshResult>,
    }

    /// Why a command has failed. [`ErrorCode`](super::codes::ErrorCode) has those of the protocol;
    /// applications use 400 to 1999.
    pub struct ReplyError {
        /// What programs go by.
        #[prost(uint32, tag = "1")]
        pub code: u32,
        /// For people.
        #[prost(string, tag = "2")]
        pub message: String,
        /// Whether the client should try again.
        #[prost(bool, tag = "3")]
        pub temporary: bool,
    }

    /// A result that says no more than that it is one.
    pub struct Empty {}

    /// The connection is accepted.
    pub struct ConnectResult {
        /// Identifies the connection among all.
        #[prost(string, tag = "1")]
        pub client: String,
        /// The version of the server.
        #[prost(string, tag = "2")]
        pub version: String,
        /// Whether the client must send a new token in time.
        #[prost(bool, tag = "3")]
        pub expires: bool,
        /// Seconds until then.
        #[prost(uint32, tag = "4")]
        pub ttl: u32,
        /// Of the application.
        #[prost(bytes = "vec", tag = "5")]
        pub data: Vec<u8>,
        /// Subscriptions that the server has made, by channel.
        #[prost(oneof = "Subscriptions", tags = "6")]
        pub subs: Option<Subscriptions>,
        /// Seconds between pings.
        #[prost(uint32, tag = "7")]
        pub ping: u32,
        /// Whether pings must be answered.
        #[prost(bool, tag = "8")]
        pub pong: bool,
        /// Identifies an emulated connection, for the requests that carry its commands.
        #[prost(string, tag = "9")]
        pub session: String,
        /// Where these requests must go.
        #[prost(string, tag = "10")]
        pub node: String,
        /// Milliseconds since 1970.
        #[prost(int64, tag = "11")]
        pub time: i64,
    }

    /// The subscription is made.
    pub struct SubscribeResult {
        /// Whether the client must send a new token in time.
        #[prost(bool, tag = "1")]
        pub expires: bool,
        /// Seconds until then.
        #[prost(uint32, tag = "2")]
        pub ttl: u32,
        /// Whether the client can recover what it has missed.
        #[prost(bool, tag = "3")]
        pub recoverable: bool,
        /// The epoch of the stream.
        #[prost(string, tag = "6")]
        pub epoch: String,
        /// What the client has missed; in order and all of it, or nothing.
        #[prost(message, repeated, tag = "7")]
        pub publications: Vec<Publication>,
        /// Whether `publications` is all that it has missed.
        #[prost(bool, tag = "8")]
        pub recovered: bool,
        /// The offset from which it goes on, before `publications`.
        #[prost(uint64, tag = "9")]
        pub offset: u64,
        /// Whether it is told when it has missed something.
        #[prost(bool, tag = "10")]
        pub positioned: bool,
        /// Of the application.
        #[prost(bytes = "vec", tag = "11")]
        pub data: Vec<u8>,
        /// Whether there was an attempt to recover.
        #[prost(bool, tag = "12")]
        pub was_recovering: bool,
        /// Whether publications may be deltas.
        #[prost(bool, tag = "13")]
        pub delta: bool,
    }

    /// Who is subscribed.
    pub struct PresenceResult {
        /// By the identifier of the connection.
        #[prost(btree_map = "string, message", tag = "1")]
        pub presence: BTreeMap<String, ClientInfo>,
    }

    /// How many are subscribed.
    pub struct PresenceStatsResult {
        /// Connections.
        #[prost(uint32, tag = "1")]
        pub num_clients: u32,
        /// Different users among them.
        #[prost(uint32, tag = "2")]
        pub num_users: u32,
    }

    /// What was published.
    pub struct HistoryResult {
        /// In the order that was asked for.
        #[prost(message, repeated, tag = "1")]
        pub publications: Vec<Publication>,
        /// The epoch of the stream.
        #[prost(string, tag = "2")]
        pub epoch: String,
        /// The offset of its last publication.
        #[prost(uint64, tag = "3")]
        pub offset: u64,
    }

    /// What the application has answered.
    pub struct RpcResult {
        /// The answer.
        #[prost(bytes = "vec", tag = "1")]
        pub data: Vec<u8>,
    }

    /// The connection goes on.
    pub struct RefreshResult {
        /// As in [`ConnectResult::client`].
        #[prost(string, tag = "1")]
        pub client: String,
        /// As in [`ConnectResult::version`].
        #[prost(string, tag = "2")]
        pub version: String,
        /// Whether the client must send a new token in time.
        #[prost(bool, tag = "3")]
        pub expires: bool,
        /// Seconds until then.
        #[prost(uint32, tag = "4")]
        pub ttl: u32,
    }

    /// The subscription goes on.
    pub struct SubRefreshResult {
        /// Whether the client must send a new token in time.
        #[prost(bool, tag = "1")]
        pub expires: bool,
        /// Seconds until then.
        #[prost(uint32, tag = "2")]
        pub ttl: u32,
    }
}

/// What a reply says, as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyBody {
    /// Why there is no result.
    Error(ReplyError),
    /// Of `connect`.
    Connect(ConnectResult),
    /// Of `subscribe`.
    Subscribe(SubscribeResult),
    /// Of `unsubscribe`, which says no more.
    Unsubscribe,
    /// Of `publish`, which says no more.
    Publish,
    /// Of `presence`.
    Presence(PresenceResult),
    /// Of `presence_stats`.
    PresenceStats(PresenceStatsResult),
    /// Of `history`.
    History(HistoryResult),
    /// Of `rpc`.
    Rpc(RpcResult),
    /// Of `refresh`.
    Refresh(RefreshResult),
    /// Of `sub_refresh`.
    SubRefresh(SubRefreshResult),
}

impl ReplyBody {
    /// The field of [`Reply`] that it is in: name, number and content.
    pub(super) fn part(&self) -> (&'static str, u32, &dyn Content) {
        match self {
            Self::Error(error) => ("error", 2, error),
            Self::Connect(result) => ("connect", 5, result),
            Self::Subscribe(result) => ("subscribe", 6, result),
            Self::Unsubscribe => ("unsubscribe", 7, &Empty {}),
            Self::Publish => ("publish", 8, &Empty {}),
            Self::Presence(result) => ("presence", 9, result),
            Self::PresenceStats(result) => ("presence_stats", 10, result),
            Self::History(result) => ("history", 11, result),
            Self::Rpc(result) => ("rpc", 13, result),
            Self::Refresh(result) => ("refresh", 14, result),
            Self::SubRefresh(result) => ("sub_refresh", 15, result),
        }
    }
}
