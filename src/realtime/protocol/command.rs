//! What a client sends: commands, each with one request.
//!
//! Fields are left out that belong to what this server never agrees to, such as dictionaries for
//! compression; a client may send them, and they are ignored.

use std::collections::BTreeMap;

use super::message::messages;

messages! {
    /// A command. With neither `id` nor request it is a *pong*, the answer to a ping.
    pub struct Command {
        /// Repeated in the reply; 0 where there is none: of a pong and of `send`.
        #[prost(uint32, tag = "1")]
        pub id: u32,
        /// Must be the first of a connection.
        #[prost(message, optional, boxed, tag = "4")]
        pub connect: Option<Box<ConnectRequest>>,
        /// Asks for the publications of a channel.
        #[prost(message, optional, boxed, tag = "5")]
        pub subscribe: Option<Box<SubscribeRequest>>,
        /// Asks for no more of them.
        #[prost(message, optional, tag = "6")]
        pub unsubscribe: Option<UnsubscribeRequest>,
        /// Publishes to a channel.
        #[prost(message, optional, tag = "7")]
        pub publish: Option<PublishRequest>,
        /// Asks who is subscribed to a channel.
        #[prost(message, optional, tag = "8")]
        pub presence: Option<PresenceRequest>,
        /// Asks how many are subscribed to a channel.
        #[prost(message, optional, tag = "9")]
        pub presence_stats: Option<PresenceStatsRequest>,
        /// Asks for what has been published to a channel.
        #[prost(message, optional, tag = "10")]
        pub history: Option<HistoryRequest>,
        /// A ping of a client, which this version of the protocol does not have.
        #[prost(message, optional, tag = "11")]
        pub ping: Option<PingRequest>,
        /// A message for the application, without a reply.
        #[prost(message, optional, tag = "12")]
        pub send: Option<SendRequest>,
        /// A call of the application.
        #[prost(message, optional, tag = "13")]
        pub rpc: Option<RpcRequest>,
        /// A new token of the connection.
        #[prost(message, optional, tag = "14")]
        pub refresh: Option<RefreshRequest>,
        /// A new token of a subscription.
        #[prost(message, optional, tag = "15")]
        pub sub_refresh: Option<SubRefreshRequest>,
    }

    /// Who connects.
    pub struct ConnectRequest {
        /// A JSON Web Token, or empty.
        #[prost(string, tag = "1")]
        pub token: String,
        /// For the application.
        #[prost(bytes = "vec", tag = "2")]
        pub data: Vec<u8>,
        /// What the client knows of subscriptions that the server has made, by channel.
        #[prost(btree_map = "string, message", tag = "3")]
        pub subs: BTreeMap<String, SubscribeRequest>,
        /// The name of the client's program or library.
        #[prost(string, tag = "4")]
        pub name: String,
        /// The version of it.
        #[prost(string, tag = "5")]
        pub version: String,
        /// In the place of header fields, which pages cannot set for a WebSocket.
        #[prost(btree_map = "string, string", tag = "6")]
        pub headers: BTreeMap<String, String>,
        /// Features that the client has, as bits.
        #[prost(int64, tag = "7")]
        pub flag: i64,
    }

    /// Which publications of a channel a client wants.
    pub struct SubscribeRequest {
        /// The channel; empty in `ConnectRequest::subs`.
        #[prost(string, tag = "1")]
        pub channel: String,
        /// A JSON Web Token, or empty.
        #[prost(string, tag = "2")]
        pub token: String,
        /// Whether it also wants what was published since `offset` of `epoch`.
        #[prost(bool, tag = "3")]
        pub recover: bool,
        /// The epoch of the last publication that it has got.
        #[prost(string, tag = "6")]
        pub epoch: String,
        /// The offset of that.
        #[prost(uint64, tag = "7")]
        pub offset: u64,
        /// For the application.
        #[prost(bytes = "vec", tag = "8")]
        pub data: Vec<u8>,
        /// Whether it wants to be told when it has missed something.
        #[prost(bool, tag = "9")]
        pub positioned: bool,
        /// Whether it wants to be able to recover.
        #[prost(bool, tag = "10")]
        pub recoverable: bool,
        /// Whether it wants to be told who joins and leaves.
        #[prost(bool, tag = "11")]
        pub join_leave: bool,
        /// The format in which it understands deltas, or empty.
        #[prost(string, tag = "12")]
        pub delta: String,
        /// Which publications it wants, by their tags.
        #[prost(message, optional, tag = "13")]
        pub tf: Option<FilterNode>,
        /// Bits: [`FLAG_COMPACTION`](Self::FLAG_COMPACTION),
        /// [`FLAG_REJECT_UNRECOVERED`](Self::FLAG_REJECT_UNRECOVERED).
        #[prost(int64, tag = "14")]
        pub flag: i64,
        /// The kind of subscription: 0 for streams, the only one here.
        #[prost(int32, tag = "15")]
        pub r#type: i32,
    }

    /// A node of a tag filter: a comparison, or others that are joined.
    pub struct FilterNode {
        /// Empty for a comparison, or `and`, `or`, `not`.
        #[prost(string, tag = "1")]
        pub op: String,
        /// The tag that is compared.
        #[prost(string, tag = "2")]
        pub key: String,
        /// How it is compared.
        #[prost(string, tag = "3")]
        pub cmp: String,
        /// What it is compared with, if with one value.
        #[prost(string, tag = "4")]
        pub val: String,
        /// What it is compared with, if with several.
        #[prost(string, repeated, tag = "5")]
        pub vals: Vec<String>,
        /// What is joined. Both encodings bound the depth: a deeper tree is
        /// [malformed](super::Malformed).
        #[prost(message, repeated, tag = "6")]
        pub nodes: Vec<FilterNode>,
    }

    /// Ends a subscription.
    pub struct UnsubscribeRequest {
        /// The channel.
        #[prost(string, tag = "1")]
        pub channel: String,
    }

    /// A publication of a client.
    pub struct PublishRequest {
        /// The channel.
        #[prost(string, tag = "1")]
        pub channel: String,
        /// What is published.
        #[prost(bytes = "vec", tag = "2")]
        pub data: Vec<u8>,
        /// The kind of publication: 0 for streams, the only one here.
        #[prost(int32, tag = "3")]
        pub r#type: i32,
    }

    /// Asks who is subscribed.
    pub struct PresenceRequest {
        /// The channel.
        #[prost(string, tag = "1")]
        pub channel: String,
    }

    /// Asks how many are subscribed.
    pub struct PresenceStatsRequest {
        /// The channel.
        #[prost(string, tag = "1")]
        pub channel: String,
    }

    /// Asks for publications of the past.
    pub struct HistoryRequest {
        /// The channel.
        #[prost(string, tag = "1")]
        pub channel: String,
        /// The most publications that are wanted; 0 for the position alone, negative for as many as
        /// the server gives.
        #[prost(int32, tag = "7")]
        pub limit: i32,
        /// Only those behind this position, or before it where `reverse` is set.
        #[prost(message, optional, tag = "8")]
        pub since: Option<StreamPosition>,
        /// Whether the newest come first.
        #[prost(bool, tag = "9")]
        pub reverse: bool,
    }

    /// A place in the stream of a channel.
    pub struct StreamPosition {
        /// The offset of a publication.
        #[prost(uint64, tag = "1")]
        pub offset: u64,
        /// The epoch in which it counts.
        #[prost(string, tag = "2")]
        pub epoch: String,
    }

    /// A ping of a client.
    pub struct PingRequest {}

    /// A message for the application.
    pub struct SendRequest {
        /// The message.
        #[prost(bytes = "vec", tag = "1")]
        pub data: Vec<u8>,
    }

    /// A call of the application.
    pub struct RpcRequest {
        /// For the method.
        #[prost(bytes = "vec", tag = "1")]
        pub data: Vec<u8>,
        /// Which method; may be empty.
        #[prost(string, tag = "2")]
        pub method: String,
    }

    /// A new token of the connection.
    pub struct RefreshRequest {
        /// A JSON Web Token.
        #[prost(string, tag = "1")]
        pub token: String,
    }

    /// A new token of a subscription.
    pub struct SubRefreshRequest {
        /// The channel.
        #[prost(string, tag = "1")]
        pub channel: String,
        /// A JSON Web Token.
        #[prost(string, tag = "2")]
        pub token: String,
        /// The kind of subscription: 0 for streams, the only one here.
        #[prost(int32, tag = "3")]
        pub r#type: i32,
    }
}

impl SubscribeRequest {
    /// The client understands pushes that have a number in the place of the channel's name.
    pub const FLAG_COMPACTION: i64 = 1;
    /// The client wants an error where it cannot recover all that it has missed.
    pub const FLAG_REJECT_UNRECOVERED: i64 = 2;
}

impl Command {
    /// Whether the command says nothing, as the answer to a ping does.
    pub fn is_pong(&self) -> bool {
        *self == Self::default()
    }

    /// What the command asks for: the first of its requests in the order of the schema, as it
    /// should have one; nothing where it has none.
    pub fn request(self) -> Option<Request> {
        self.connect
            .map(Request::Connect)
            .or(self.subscribe.map(Request::Subscribe))
            .or(self.unsubscribe.map(Request::Unsubscribe))
            .or(self.publish.map(Request::Publish))
            .or(self.presence.map(Request::Presence))
            .or(self.presence_stats.map(Request::PresenceStats))
            .or(self.history.map(Request::History))
            .or(self.ping.map(Request::Ping))
            .or(self.send.map(Request::Send))
            .or(self.rpc.map(Request::Rpc))
            .or(self.refresh.map(Request::Refresh))
            .or(self.sub_refresh.map(Request::SubRefresh))
    }
}

/// The request of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Who connects.
    Connect(Box<ConnectRequest>),
    /// Which publications of a channel are wanted.
    Subscribe(Box<SubscribeRequest>),
    /// Ends a subscription.
    Unsubscribe(UnsubscribeRequest),
    /// A publication.
    Publish(PublishRequest),
    /// Who is subscribed?
    Presence(PresenceRequest),
    /// How many are subscribed?
    PresenceStats(PresenceStatsRequest),
    /// What was published?
    History(HistoryRequest),
    /// A ping of a client, which is [not available](super::codes::ErrorCode::NotAvailable).
    Ping(PingRequest),
    /// A message for the application; the only request without a reply.
    Send(SendRequest),
    /// A call of the application.
    Rpc(RpcRequest),
    /// A new token of the connection.
    Refresh(RefreshRequest),
    /// A new token of a subscription.
    SubRefresh(SubRefreshRequest),
}
