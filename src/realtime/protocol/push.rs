//! What a server sends without having been asked: pushes, of a channel or of the connection.

use std::collections::BTreeMap;

use super::message::{Content, messages};
use super::reply::SubscribeResult;

messages! {
    /// A push, as it is read.
    pub struct PushMessage {
        /// The channel; empty where it is about the connection.
        #[prost(string, tag = "2")]
        pub channel: String,
        /// A publication.
        #[prost(message, optional, tag = "4")]
        pub r#pub: Option<Publication>,
        /// Somebody has subscribed.
        #[prost(message, optional, tag = "5")]
        pub join: Option<InfoPush>,
        /// Somebody is not subscribed any more.
        #[prost(message, optional, tag = "6")]
        pub leave: Option<InfoPush>,
        /// The subscription is over.
        #[prost(message, optional, tag = "7")]
        pub unsubscribe: Option<UnsubscribePush>,
        /// A message of the application.
        #[prost(message, optional, tag = "8")]
        pub message: Option<MessagePush>,
        /// The server has made a subscription.
        #[prost(message, optional, tag = "9")]
        pub subscribe: Option<SubscribePush>,
        /// The connection is accepted.
        #[prost(message, optional, tag = "10")]
        pub connect: Option<ConnectPush>,
        /// The connection is over.
        #[prost(message, optional, tag = "11")]
        pub disconnect: Option<DisconnectPush>,
        /// The connection expires at another time.
        #[prost(message, optional, tag = "12")]
        pub refresh: Option<RefreshPush>,
    }

    /// What was published to a channel.
    pub struct Publication {
        /// What was published: in JSON a value of it.
        #[prost(bytes = "vec", tag = "4")]
        pub data: Vec<u8>,
        /// The client that has published it; nothing where it was the application.
        #[prost(message, optional, tag = "5")]
        pub info: Option<ClientInfo>,
        /// Its place in the stream of its channel; 0 where there is none.
        #[prost(uint64, tag = "6")]
        pub offset: u64,
        /// What it is filtered by.
        #[prost(btree_map = "string, string", tag = "7")]
        pub tags: BTreeMap<String, String>,
        /// Whether `data` is what has changed since the publication before.
        #[prost(bool, tag = "8")]
        pub delta: bool,
        /// Milliseconds since 1970.
        #[prost(int64, tag = "9")]
        pub time: i64,
        /// The channel, where the push names a pattern in its place.
        #[prost(string, tag = "10")]
        pub channel: String,
        /// What it is the latest value of.
        #[prost(string, tag = "11")]
        pub key: String,
        /// Whether there is no value any more.
        #[prost(bool, tag = "12")]
        pub removed: bool,
        /// What values are ordered by.
        #[prost(sint64, tag = "13")]
        pub score: i64,
        /// The epoch in which the offset counts, at least with the first publication of it.
        #[prost(string, tag = "14")]
        pub epoch: String,
        /// The version that the application has given.
        #[prost(uint64, tag = "16")]
        pub version: u64,
    }

    /// What others are told of a client.
    pub struct ClientInfo {
        /// Who it is; empty where that is unknown.
        #[prost(string, tag = "1")]
        pub user: String,
        /// Identifies the connection.
        #[prost(string, tag = "2")]
        pub client: String,
        /// What the application says of the connection.
        #[prost(bytes = "vec", tag = "3")]
        pub conn_info: Vec<u8>,
        /// What the application says of the subscription.
        #[prost(bytes = "vec", tag = "4")]
        pub chan_info: Vec<u8>,
    }

    /// Who has joined or left.
    pub struct InfoPush {
        /// The client.
        #[prost(message, optional, tag = "1")]
        pub info: Option<ClientInfo>,
    }

    /// Why a subscription is over; [`codes::Unsubscribe`](super::codes::Unsubscribe) has those of
    /// the protocol.
    pub struct UnsubscribePush {
        /// From 2500 on the client subscribes again.
        #[prost(uint32, tag = "2")]
        pub code: u32,
        /// For people.
        #[prost(string, tag = "3")]
        pub reason: String,
    }

    /// A subscription that the server has made.
    pub struct SubscribePush {
        /// Whether the client can recover what it has missed.
        #[prost(bool, tag = "1")]
        pub recoverable: bool,
        /// The epoch of the stream.
        #[prost(string, tag = "4")]
        pub epoch: String,
        /// The offset from which the client goes on.
        #[prost(uint64, tag = "5")]
        pub offset: u64,
        /// Whether it is told when it has missed something.
        #[prost(bool, tag = "6")]
        pub positioned: bool,
        /// Of the application.
        #[prost(bytes = "vec", tag = "7")]
        pub data: Vec<u8>,
    }

    /// A message of the application.
    pub struct MessagePush {
        /// The message.
        #[prost(bytes = "vec", tag = "1")]
        pub data: Vec<u8>,
    }

    /// The connection is accepted, as those are told who cannot ask.
    pub struct ConnectPush {
        /// Identifies the connection among all.
        #[prost(string, tag = "1")]
        pub client: String,
        /// The version of the server.
        #[prost(string, tag = "2")]
        pub version: String,
        /// Of the application.
        #[prost(bytes = "vec", tag = "3")]
        pub data: Vec<u8>,
        /// Subscriptions that the server has made, by channel.
        #[prost(btree_map = "string, message", tag = "4")]
        pub subs: BTreeMap<String, SubscribeResult>,
        /// Whether the connection expires.
        #[prost(bool, tag = "5")]
        pub expires: bool,
        /// Seconds until then.
        #[prost(uint32, tag = "6")]
        pub ttl: u32,
        /// Seconds between pings.
        #[prost(uint32, tag = "7")]
        pub ping: u32,
        /// Whether pings must be answered.
        #[prost(bool, tag = "8")]
        pub pong: bool,
        /// Identifies an emulated connection.
        #[prost(string, tag = "9")]
        pub session: String,
        /// Where its requests must go.
        #[prost(string, tag = "10")]
        pub node: String,
        /// Milliseconds since 1970.
        #[prost(int64, tag = "11")]
        pub time: i64,
    }

    /// Why the connection is over, as those are told who get no close frame;
    /// [`codes::Disconnect`](super::codes::Disconnect) has those of the protocol.
    pub struct DisconnectPush {
        /// Whether the client should come back follows from it.
        #[prost(uint32, tag = "1")]
        pub code: u32,
        /// For people.
        #[prost(string, tag = "2")]
        pub reason: String,
        /// Whether the client should come back; later clients go by the code.
        #[prost(bool, tag = "3")]
        pub reconnect: bool,
    }

    /// The connection expires at another time.
    pub struct RefreshPush {
        /// Whether it expires.
        #[prost(bool, tag = "1")]
        pub expires: bool,
        /// Seconds until then.
        #[prost(uint32, tag = "2")]
        pub ttl: u32,
    }
}

/// What a push says, as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Push {
    /// A publication.
    Publication(Publication),
    /// Somebody has subscribed.
    Join(InfoPush),
    /// Somebody is not subscribed any more.
    Leave(InfoPush),
    /// The subscription is over.
    Unsubscribe(UnsubscribePush),
    /// A message of the application.
    Message(MessagePush),
    /// The server has made a subscription.
    Subscribe(SubscribePush),
    /// The connection is accepted.
    Connect(ConnectPush),
    /// The connection is over.
    Disconnect(DisconnectPush),
    /// The connection expires at another time.
    Refresh(RefreshPush),
}

impl Push {
    /// Somebody has subscribed.
    pub fn join(info: ClientInfo) -> Self {
        Self::Join(InfoPush { info: Some(info) })
    }

    /// Somebody is not subscribed any more.
    pub fn leave(info: ClientInfo) -> Self {
        Self::Leave(InfoPush { info: Some(info) })
    }

    /// The field of [`PushMessage`] that it is in: name, number and content.
    pub(super) fn part(&self) -> (&'static str, u32, &dyn Content) {
        match self {
            Self::Publication(publication) => ("pub", 4, publication),
            Self::Join(info) => ("join", 5, info),
            Self::Leave(info) => ("leave", 6, info),
            Self::Unsubscribe(push) => ("unsubscribe", 7, push),
            Self::Message(push) => ("message", 8, push),
            Self::Subscribe(push) => ("subscribe", 9, push),
            Self::Connect(push) => ("connect", 10, push),
            Self::Disconnect(push) => ("disconnect", 11, push),
            Self::Refresh(push) => ("refresh", 12, push),
        }
    }
}
