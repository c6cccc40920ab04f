//! The messages of the Centrifugo client protocol v2 as functions over bytes, in both encodings.
//!
//! A WebSocket message of this protocol is a *frame*: one or more commands from a client, or
//! replies and pushes from the server. In JSON they are joined by line feeds, and what the schema
//! calls bytes is a JSON value of its own. In Protobuf each is preceded by its length as a varint,
//! and bytes are just that.
//!
//! One struct for each message serves both encodings. The Protobuf side comes from its `prost`
//! attributes, which are the schema; the JSON side from the names of its fields ([`message`]).

pub mod codes;
mod command;
mod frame;
mod json;
mod message;
mod push;
mod reply;
mod subscriptions;
#[cfg(test)]
mod tests;

use prost::Message;
use serde::Deserialize;
use thiserror::Error;

pub use command::{
    Command, ConnectRequest, FilterNode, HistoryRequest, PingRequest, PresenceRequest,
    PresenceStatsRequest, PublishRequest, RefreshRequest, Request, RpcRequest, SendRequest,
    StreamPosition, SubRefreshRequest, SubscribeRequest, UnsubscribeRequest,
};
pub use frame::Frame;
pub use json::{is_json, write_string};
pub use push::{
    ClientInfo, ConnectPush, DisconnectPush, InfoPush, MessagePush, Publication, Push, PushMessage,
    RefreshPush, SubscribePush, UnsubscribePush,
};
pub use reply::{
    ConnectResult, Empty, HistoryResult, PresenceResult, PresenceStatsResult, RefreshResult, Reply,
    ReplyBody, ReplyError, RpcResult, SubRefreshResult, SubscribeResult,
};
pub use subscriptions::Subscriptions;

use json::Object;
use message::{Content, part_bytes, write_length, write_part};

/// How the messages of a connection are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// Text, joined by line feeds.
    Json,
    /// Binary, each message behind its length.
    Protobuf,
}

/// What is wrong with the bytes of a peer; its connection is closed as
/// [a bad request](codes::Disconnect::BAD_REQUEST).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// A frame must have a command.
    #[error("the frame has no command")]
    Empty,
    /// A frame of a client has at most [`COMMANDS_MAX`].
    #[error("the frame has more than {COMMANDS_MAX} commands")]
    TooManyCommands,
    /// Not JSON, a field of another type than it must have, or nested too deeply.
    #[error("the frame is no JSON of this protocol")]
    Json,
    /// Cut off, a field of another type than it must have, no UTF-8, or nested too deeply.
    #[error("the frame is no Protobuf of this protocol")]
    Protobuf,
    /// A tag filter that means nothing; what is wrong with it.
    #[error("the tag filter is wrong: {0}")]
    Filter(&'static str),
}

/// Reads a frame of a client: at least one command, at most [`COMMANDS_MAX`].
///
/// Unknown fields are ignored, whatever is in them. In JSON `null` is the same as absence, but for
/// `data`, which keeps the bytes of any value as they came; of fields that are named twice the last
/// counts. White space between commands is ignored, a line feed behind the last one included.
///
/// # Errors
/// Bytes that are no such frame.
pub fn decode(encoding: Encoding, frame: &[u8]) -> Result<Vec<Command>, Malformed> {
    decode_messages(encoding, frame, COMMANDS_MAX)
}

/// Reads a frame of a server, as [`decode`] does that of a client, with any number of replies.
///
/// # Errors
/// Bytes that are no such frame.
pub fn decode_replies(encoding: Encoding, frame: &[u8]) -> Result<Vec<Reply>, Malformed> {
    decode_messages(encoding, frame, usize::MAX)
}

fn decode_messages<M>(encoding: Encoding, frame: &[u8], most: usize) -> Result<Vec<M>, Malformed>
where
    M: Message + Default + for<'de> Deserialize<'de>,
{
    let mut messages = Vec::new();
    let mut take = |message| {
        if messages.len() == most {
            return Err(Malformed::TooManyCommands);
        }
        messages.push(message);
        Ok(())
    };
    match encoding {
        Encoding::Json => {
            for message in serde_json::Deserializer::from_slice(frame).into_iter() {
                take(message.map_err(|_| Malformed::Json)?)?;
            }
        }
        Encoding::Protobuf => {
            let mut rest = frame;
            while !rest.is_empty() {
                let message = M::decode_length_delimited(&mut rest);
                take(message.map_err(|_| Malformed::Protobuf)?)?;
            }
        }
    }
    if messages.is_empty() { Err(Malformed::Empty) } else { Ok(messages) }
}

/// Appends a command, as a client sends it; in Protobuf behind its length.
pub fn encode_command(encoding: Encoding, command: &Command, out: &mut Vec<u8>) {
    encode(encoding, command, out);
}

/// Appends the reply to the command `id`; in Protobuf behind its length. For JSON, whatever is
/// bytes in it must be [JSON](is_json).
pub fn encode_reply(encoding: Encoding, id: u32, body: &ReplyBody, out: &mut Vec<u8>) {
    let (name, tag, content) = body.part();
    match encoding {
        Encoding::Json => {
            let mut reply = Object::begin(out);
            reply.field("id", &id);
            reply.content(name, content);
            reply.end();
        }
        Encoding::Protobuf => {
            let id_bytes = prost::encoding::uint32::encoded_len(1, &id);
            let id_bytes = if id == 0 { 0 } else { id_bytes };
            write_length(id_bytes + part_bytes(tag, content.protobuf_bytes()), out);
            if id != 0 {
                prost::encoding::uint32::encode(1, &id, out);
            }
            write_part(tag, content, out);
        }
    }
}

/// Appends a push; in Protobuf behind its length. `channel` is empty where the push is about the
/// connection. For JSON, whatever is bytes in it must be [JSON](is_json); its line breaks are left
/// out.
pub fn encode_push(encoding: Encoding, channel: &str, push: &Push, out: &mut Vec<u8>) {
    let (name, tag, content) = push.part();
    match encoding {
        Encoding::Json => {
            let mut reply = Object::begin(out);
            let mut pushed = reply.object("push");
            if !channel.is_empty() {
                pushed.string("channel", channel);
            }
            pushed.content(name, content);
            pushed.end();
            reply.end();
        }
        Encoding::Protobuf => {
            let channel_bytes =
                if channel.is_empty() { 0 } else { part_bytes(CHANNEL_TAG, channel.len()) };
            let push_bytes = channel_bytes + part_bytes(tag, content.protobuf_bytes());
            write_length(part_bytes(PUSH_TAG, push_bytes), out);
            message::write_head(PUSH_TAG, push_bytes, out);
            if !channel.is_empty() {
                message::write_head(CHANNEL_TAG, channel.len(), out);
                out.extend_from_slice(channel.as_bytes());
            }
            write_part(tag, content, out);
        }
    }
}

/// Appends a ping of the server: a reply that says nothing. A client answers with a command that
/// says nothing, which is the same bytes.
pub fn encode_ping(encoding: Encoding, out: &mut Vec<u8>) {
    encode(encoding, &Empty {}, out);
}

/// The same push in Protobuf, behind its length, of what [`encode_push`] has made in JSON; nothing
/// of anything else. Data stays the bytes that it has in JSON.
pub fn transcode_push(json_push: &[u8]) -> Option<Vec<u8>> {
    let reply: Reply = serde_json::from_slice(json_push).ok()?;
    reply.push.as_ref()?;
    Some(reply.encode_length_delimited_to_vec())
}

/// The same of a push of differences, or of what came in full among those: in JSON its data is a
/// text that has the bytes, in Protobuf it is these.
pub fn transcode_delta_push(json_push: &[u8]) -> Option<Vec<u8>> {
    let mut reply: Reply = serde_json::from_slice(json_push).ok()?;
    if let Some(publication) = &mut reply.push.as_mut()?.r#pub {
        let text: String = serde_json::from_slice(&publication.data).ok()?;
        publication.data = text.into_bytes();
    }
    Some(reply.encode_length_delimited_to_vec())
}

/// A filter as JSON, with what says nothing left out.
pub fn filter_text(filter: &FilterNode) -> String {
    let mut out = Vec::new();
    Object::write(filter, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// What those get of a push that [`encode_push`] has made in JSON of a publication who have
/// subscribed to a pattern: the push names the pattern, and the publication its channel, also in a
/// tag, as most libraries show nothing else. Offsets are left out: they are those of one channel.
pub fn push_by_pattern(json_push: &[u8], pattern: &str) -> Option<Vec<u8>> {
    let reply: Reply = serde_json::from_slice(json_push).ok()?;
    let PushMessage { channel, r#pub: Some(publication), .. } = reply.push? else { return None };
    let mut tags = publication.tags;
    tags.insert(CHANNEL_TAG_NAME.to_owned(), channel.clone());
    let publication = Publication { channel, tags, offset: 0, epoch: String::new(), ..publication };
    let mut out = Vec::new();
    encode_push(Encoding::Json, pattern, &Push::Publication(publication), &mut out);
    Some(out)
}

fn encode(encoding: Encoding, content: &impl Content, out: &mut Vec<u8>) {
    match encoding {
        Encoding::Json => Object::write(content, out),
        Encoding::Protobuf => {
            write_length(content.protobuf_bytes(), out);
            content.write_protobuf(out);
        }
    }
}

/// The most commands that a client may put into one frame. Its libraries put as many there as there
/// are channels to subscribe to.
pub const COMMANDS_MAX: usize = 1_000;

/// The tag that names the channel of a publication to those who have a pattern of it.
const CHANNEL_TAG_NAME: &str = "channel";
/// The field of a reply that has a push.
const PUSH_TAG: u32 = 4;
/// The field of a push that names the channel.
const CHANNEL_TAG: u32 = 2;
