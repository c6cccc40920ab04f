//! Hooks: what a backend is asked about clients of channels, and what it answers, in the way of the
//! proxy of Centrifugo, for which there are libraries for backends.
//!
//! A request is a JSON object that says who is asked about, and what they want. An answer is a JSON
//! object as well, which has one of `result`, `error` and `disconnect`. What has none of them, or
//! one that means nothing, is no answer: nobody is let in by mistake.

mod answer;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::protocol::{ConnectRequest, Encoding, is_json, write_string};
use super::session::Session;
use super::tokens::{ConnectionToken, SubscriptionToken};
use crate::identity::NEVER_S;

pub use answer::read;

/// What a backend may be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Who connects without a token.
    Connect,
    /// Whether a connection goes on whose time is over.
    Refresh,
    /// Whether a client may subscribe to a channel.
    Subscribe,
    /// Whether a client may publish to a channel, and what.
    Publish,
    /// Whether a subscription goes on whose time is over.
    SubRefresh,
    /// What a call of a client comes to.
    Rpc,
}

impl Hook {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::Refresh, Self::Subscribe, Self::Publish, Self::SubRefresh, Self::Rpc];

    /// Its name, as in the options and in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refresh => "refresh",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
            Self::SubRefresh => "sub_refresh",
            Self::Rpc => "rpc",
        }
    }

    /// Whether it is only a question, which may be asked twice.
    pub fn is_question(self) -> bool {
        match self {
            Self::Connect | Self::Refresh | Self::Subscribe | Self::SubRefresh => true,
            Self::Publish | Self::Rpc => false,
        }
    }
}

/// What a backend says.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It may be, in this way.
    Granted(Granted),
    /// It may not be, and the client is told why.
    Error(super::protocol::ReplyError),
    /// It may not be, and the connection ends.
    Disconnect(super::protocol::codes::Disconnect),
    /// Nothing has been said in time, or nothing that can be understood.
    Failed,
}

/// What is granted.
#[derive(Clone, Debug, PartialEq)]
pub enum Granted {
    /// To whoever connects.
    Connect(Box<Connected>),
    /// To a connection, or to a subscription.
    Refresh(Refreshed),
    /// To whoever subscribes: as much as a token of the channel would.
    Subscribe(Box<SubscriptionToken>),
    /// To whoever publishes.
    Publish(Box<Replacement>),
    /// To a call.
    Rpc {
        /// The answer.
        data: Vec<u8>,
        /// Whether that is JSON.
        is_json: bool,
    },
}

/// Who has connected.
#[derive(Clone, Debug, PartialEq)]
pub struct Connected {
    /// As much as a token would say.
    pub token: ConnectionToken,
    /// Data for the client.
    pub data: Vec<u8>,
}

/// How something goes on whose time was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// When its time is over again, in seconds since 1970: [`NEVER_S`] for never, 0 for now.
    pub expires_s: u64,
    /// What others are told of it from now on, if that changes.
    pub info: Option<Box<[u8]>>,
    /// What the application has to say of the connection to itself, if that changes.
    pub meta: Option<Box<[u8]>>,
}

/// What is published, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replacement {
    /// In the place of what the client has sent.
    pub data: Option<Vec<u8>>,
    /// Whether it is not to be kept.
    pub skips_history: bool,
    /// What it is tagged with.
    pub tags: std::collections::BTreeMap<String, String>,
    /// By what a repetition is known; empty where it is not.
    pub idempotency_key: Box<str>,
    /// Whether it may be told by what it changes.
    pub wants_delta: bool,
    /// Nothing is published unless it is above that of the one before; 0 for none.
    pub version: u64,
    /// Versions of others cannot be compared.
    pub version_epoch: Box<str>,
}

/// A request that is being written.
struct Writer(Vec<u8>);

impl Writer {
    /// One about a session; its user is known unless it connects.
    fn about(session: &Session, is_binary: bool) -> Self {
        let mut writer = Self(vec![b'{']);
        writer.text("client", &session.client);
        writer.text("transport", TRANSPORT);
        let protocol = match session.encoding {
            Encoding::Json => "json",
            Encoding::Protobuf => "protobuf",
        };
        writer.text("protocol", protocol);
        writer.text("encoding", if is_binary { "binary" } else { "json" });
        writer
    }

    /// The same of one that has connected, with what the application has to say of it.
    fn about_user(session: &Session, is_binary: bool, includes_meta: bool) -> Self {
        let mut writer = Self::about(session, is_binary);
        writer.text("user", &session.user);
        if let Some(meta) = session.meta().filter(|_| includes_meta) {
            writer.json("meta", meta);
        }
        writer
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        write_string(name, &mut self.0);
        self.0.push(b':');
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        write_string(text, &mut self.0);
    }

    fn text_unless_empty(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.text(name, text);
        }
    }

    fn json(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.0.extend_from_slice(json);
    }

    /// Data of a client, as JSON or, where it is none, in base64 (RFC 4648 section 4).
    fn data(&mut self, data: &[u8]) {
        if is_binary(data) {
            self.text("b64data", &BASE64_STANDARD.encode(data));
        } else if !data.is_empty() {
            self.json("data", data);
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

fn is_binary(data: &[u8]) -> bool {
    !data.is_empty() && !is_json(data)
}

/// What a client says in the place of fields of the upgrade, with names in lower case: each that
/// `is_told` once, as others would, and no more of it than a server takes in a head.
pub fn emulated_fields(
    request: &ConnectRequest,
    is_told: impl Fn(&str) -> bool,
) -> Vec<(Box<str>, Box<[u8]>)> {
    let mut fields: Vec<(Box<str>, Box<[u8]>)> = Vec::new();
    for (name, value) in &request.headers {
        let name = name.to_ascii_lowercase();
        let is_value = value.len() <= EMULATED_BYTES_MOST
            && value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let is_known = fields.iter().any(|(other, _)| **other == *name);
        if is_value && !is_known && is_told(&name) {
            fields.push((name.into(), value.as_bytes().into()));
        }
    }
    fields
}

/// Asks who somebody is that connects.
pub fn connect_request(session: &Session, request: &ConnectRequest) -> Vec<u8> {
    let mut writer = Writer::about(session, is_binary(&request.data));
    writer.data(&request.data);
    writer.text_unless_empty("name", &request.name);
    writer.text_unless_empty("version", &request.version);
    if !request.subs.is_empty() {
        writer.name("channels");
        for (place, channel) in request.subs.keys().enumerate() {
            writer.0.push(if place == 0 { b'[' } else { b',' });
            write_string(channel, &mut writer.0);
        }
        writer.0.push(b']');
    }
    writer.end()
}

/// Asks whether a connection goes on.
pub fn refresh_request(session: &Session, includes_meta: bool) -> Vec<u8> {
    Writer::about_user(session, false, includes_meta).end()
}

/// Asks whether a client may subscribe to a channel, or publish that to it.
pub fn channel_request(
    session: &Session,
    includes_meta: bool,
    channel: &str,
    data: &[u8],
) -> Vec<u8> {
    let mut writer = Writer::about_user(session, is_binary(data), includes_meta);
    writer.text("channel", channel);
    writer.data(data);
    writer.end()
}

/// Asks what a call comes to.
pub fn rpc_request(session: &Session, includes_meta: bool, method: &str, data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::about_user(session, is_binary(data), includes_meta);
    writer.text("method", method);
    writer.data(data);
    writer.end()
}

/// When something ends that a backend says, to which 0 is never; 0 where it has ended before.
fn end_s(expire_at_seconds: i64, now_s: u64) -> u64 {
    match u64::try_from(expire_at_seconds) {
        Ok(0) => NEVER_S,
        Ok(seconds) if seconds > now_s => seconds,
        Ok(_) | Err(_) => 0,
    }
}

/// How sessions are connected.
const TRANSPORT: &str = "websocket";
/// Bytes of what a client says in the place of one field: sessions keep it.
const EMULATED_BYTES_MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say_as_fields_is_bounded() {
        let long = "x".repeat(EMULATED_BYTES_MOST + 1);
        let headers = [
            ("COOKIE", "a"),
            ("Cookie", "b"),
            ("cookie", "c"),
            ("other", "d"),
            ("x-line", "e\r\nf: g"),
            ("x-long", &long),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let request = ConnectRequest { headers: headers.into(), ..ConnectRequest::default() };
        let fields = emulated_fields(&request, |name| name != "other");
        let expected: Vec<(Box<str>, Box<[u8]>)> = vec![("cookie".into(), (*b"a").into())];
        assert_eq!(fields, expected);
    }
}
