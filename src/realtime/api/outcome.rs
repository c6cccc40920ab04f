//! What comes of a call, and how an application is told.
//!
//! What says nothing is left out, but for what the declarations of API libraries demand: lists,
//! objects and counts.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::realtime::protocol::codes::ErrorCode;
use crate::realtime::protocol::{ClientInfo, Publication, ReplyError, StreamPosition};

/// What comes of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Where the publication is in the history of its channel; nowhere where there is none, or
    /// where it was left out.
    Published(StreamPosition),
    /// For each channel of a broadcast, in their order, where the publication is or why it is not.
    Broadcast(Vec<Result<StreamPosition, ReplyError>>),
    /// It is done, and there is nothing to say.
    Done,
    /// The subscribers of a channel by the identifiers of their connections.
    Presence(BTreeMap<String, ClientInfo>),
    /// How many subscribers a channel has.
    PresenceStats {
        /// Their connections.
        client_count: u64,
        /// Different users among them.
        user_count: u64,
    },
    /// What was published to a channel.
    History {
        /// In the order that was asked for.
        publications: Vec<Publication>,
        /// Where the history ends.
        top: StreamPosition,
    },
    /// How many connections are subscribed, by the names of channels.
    Channels(BTreeMap<String, u64>),
    /// The servers.
    Info(Vec<Node>),
    /// What was answered; JSON, empty where there is nothing.
    Rpc(Vec<u8>),
    /// What comes of each call of a batch, in their order: the method, and an outcome that is none
    /// of a batch.
    Batch(Vec<(&'static str, Outcome)>),
    /// Why there is nothing.
    Error(ReplyError),
}

/// One of the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Identifies it until it ends.
    pub uid: String,
    /// What it is called.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// Connections.
    #[serde(rename = "num_clients")]
    pub client_count: u64,
    /// Different users among them.
    #[serde(rename = "num_users")]
    pub user_count: u64,
    /// Subscriptions of theirs.
    #[serde(rename = "num_subs")]
    pub subscription_count: u64,
    /// Channels with subscribers.
    #[serde(rename = "num_channels")]
    pub channel_count: u64,
    /// Since it has begun.
    #[serde(rename = "uptime")]
    pub uptime_seconds: u64,
}

impl From<ErrorCode> for Outcome {
    fn from(code: ErrorCode) -> Self {
        Self::Error(code.into())
    }
}

/// The status of the response to a call. Where `is_transport_mode`, which a request has asked for
/// or the configuration, it tells errors; else it is always 200.
pub fn status(outcome: &Outcome, is_transport_mode: bool) -> u16 {
    let Outcome::Error(error) = outcome else { return 200 };
    match error.code {
        _ if !is_transport_mode => 200,
        100 => 500,
        102 | 104 => 404,
        112 => 416,
        113 => 409,
        // Whatever else, errors of applications included, is for the caller to mend.
        _ => 400,
    }
}

/// The body of the response to a call: one line of JSON without a line feed. Where
/// `is_transport_mode`, an error is there by itself.
pub fn write(outcome: &Outcome, is_transport_mode: bool) -> Vec<u8> {
    match outcome {
        Outcome::Error(error) if is_transport_mode => to_json(&Failure::of(error)),
        // The only result that is not in a field of that name.
        Outcome::Batch(_) => to_json(&Body(outcome)),
        _ => to_json(&Reply::new(RESULT, outcome)),
    }
}

/// The body of the response to calls that came as lines: as many lines, and no line feed behind the
/// last one, which would be read as another one.
pub fn write_lines(outcomes: &[Outcome]) -> Vec<u8> {
    let lines: Vec<_> = outcomes.iter().map(|outcome| write(outcome, false)).collect();
    lines.join(&b'\n')
}

fn to_json(content: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let written = serde_json::to_writer(&mut out, content);
    debug_assert!(written.is_ok(), "memory takes all, and all names are texts");
    out
}

/// A result in a field, or in its place an error.
struct Reply<'a, T> {
    name: &'static str,
    result: Result<T, &'a ReplyError>,
}

impl<'a> Reply<'a, Body<'a>> {
    fn new(name: &'static str, outcome: &'a Outcome) -> Self {
        let result = match outcome {
            Outcome::Error(error) => Err(error),
            _ => Ok(Body(outcome)),
        };
        Self { name, result }
    }

    fn named((method, outcome): &'a (&'static str, Outcome)) -> Self {
        Self::new(method, outcome)
    }
}

impl<'a> Reply<'a, Position<'a>> {
    fn of_channel(result: &'a Result<StreamPosition, ReplyError>) -> Self {
        Self { name: RESULT, result: result.as_ref().map(Position::of) }
    }
}

impl<T: Serialize> Serialize for Reply<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.result {
            Ok(result) => to.collect_map([(self.name, result)]),
            Err(error) => to.collect_map([("error", Failure::of(error))]),
        }
    }
}

/// What is in the field of a result.
struct Body<'a>(&'a Outcome);

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Outcome::Published(position) => Position::of(position).serialize(to),
            Outcome::Broadcast(responses) => {
                let responses: Vec<_> = responses.iter().map(Reply::of_channel).collect();
                to.collect_map([("responses", responses)])
            }
            Outcome::Done => to.serialize_map(Some(0))?.end(),
            Outcome::Presence(clients) => {
                let client = |(id, info)| (id, Client::of(info));
                let clients: BTreeMap<&String, _> = clients.iter().map(client).collect();
                to.collect_map([("presence", clients)])
            }
            Outcome::PresenceStats { client_count, user_count } => {
                to.collect_map([("num_clients", client_count), ("num_users", user_count)])
            }
            Outcome::History { publications, top } => {
                let publications: Vec<_> = publications.iter().map(Published::of).collect();
                let mut object = to.serialize_map(Some(3))?;
                object.serialize_entry("publications", &publications)?;
                object.serialize_entry("offset", &top.offset)?;
                object.serialize_entry("epoch", &top.epoch)?;
                object.end()
            }
            Outcome::Channels(channels) => {
                let channel = |(name, count)| (name, BTreeMap::from([("num_clients", count)]));
                let channels: BTreeMap<&String, _> = channels.iter().map(channel).collect();
                to.collect_map([("channels", channels)])
            }
            Outcome::Info(nodes) => to.collect_map([("nodes", nodes)]),
            Outcome::Rpc(data) => to.collect_map(json(data).map(|data| ("data", data))),
            Outcome::Batch(replies) => {
                let replies: Vec<_> = replies.iter().map(Reply::named).collect();
                to.collect_map([("replies", replies)])
            }
            Outcome::Error(error) => Failure::of(error).serialize(to),
        }
    }
}

#[derive(Serialize)]
struct Failure<'a> {
    code: u32,
    message: &'a str,
}

impl<'a> Failure<'a> {
    fn of(error: &'a ReplyError) -> Self {
        Self { code: error.code, message: &error.message }
    }
}

#[derive(Serialize)]
struct Position<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    epoch: &'a str,
}

impl<'a> Position<'a> {
    fn of(position: &'a StreamPosition) -> Self {
        Self { offset: position.offset, epoch: &position.epoch }
    }
}

#[derive(Serialize)]
struct Client<'a> {
    user: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<Cow<'a, RawValue>>,
}

impl<'a> Client<'a> {
    /// What is not JSON about it has no place here, and is left out.
    fn of(info: &'a ClientInfo) -> Self {
        Self {
            user: &info.user,
            client: &info.client,
            conn_info: json(&info.conn_info),
            chan_info: json(&info.chan_info),
        }
    }
}

#[derive(Serialize)]
struct Published<'a> {
    /// `null` where it is not JSON.
    data: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Client<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: &'a BTreeMap<String, String>,
}

impl<'a> Published<'a> {
    fn of(publication: &'a Publication) -> Self {
        let data = json(&publication.data);
        let b64data = data.is_none().then(|| BASE64_STANDARD.encode(&publication.data));
        Self {
            data,
            b64data,
            info: publication.info.as_ref().map(Client::of),
            offset: publication.offset,
            tags: &publication.tags,
        }
    }
}

/// JSON as it was written but for line breaks, which would end the line of a response; nothing
/// where it is none.
fn json(data: &[u8]) -> Option<Cow<'_, RawValue>> {
    let text = simdutf8::basic::from_utf8(data).ok()?;
    let value: &RawValue = serde_json::from_str(text).ok()?;
    if !text.contains(LINE_BREAKS) {
        return Some(Cow::Borrowed(value));
    }
    // In JSON they can only be white space.
    RawValue::from_string(value.get().replace(LINE_BREAKS, "")).ok().map(Cow::Owned)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

const RESULT: &str = "result";
const LINE_BREAKS: [char; 2] = ['\n', '\r'];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn text(outcome: &Outcome) -> String {
        String::from_utf8(write(outcome, false)).expect("UTF-8")
    }

    fn position(offset: u64, epoch: &str) -> StreamPosition {
        StreamPosition { offset, epoch: epoch.to_owned() }
    }

    fn error() -> ReplyError {
        ErrorCode::UnknownChannel.into()
    }

    const ERROR: &str = r#"{"code":102,"message":"unknown channel"}"#;

    /// In the form that the API libraries of PyPI (`cent` 5.2.0) and npm (`cent.js` 6.1.0) expect.
    #[test]
    fn outcomes_are_told() {
        let info = ClientInfo {
            user: "u".to_owned(),
            client: "x".to_owned(),
            conn_info: b"{\"a\":\r\n1}".to_vec(),
            chan_info: b"\xFF".to_vec(),
        };
        let publication = Publication {
            data: b"[ 1,\n2 ]".to_vec(),
            offset: 7,
            info: Some(info.clone()),
            tags: [("k".to_owned(), "\n".to_owned())].into(),
            ..Publication::default()
        };
        let binary = Publication { data: vec![255, 254], ..Publication::default() };
        let client = r#"{"user":"u","client":"x","conn_info":{"a":1}}"#;
        let node = Node {
            uid: "1".to_owned(),
            name: "n".to_owned(),
            version: String::new(),
            client_count: 3,
            user_count: 2,
            subscription_count: 4,
            channel_count: 0,
            uptime_seconds: 60,
        };
        let publications = vec![publication, binary];
        for (outcome, expected) in [
            (Outcome::Published(position(0, "")), "{}".to_owned()),
            (Outcome::Published(position(4, "e\"")), r#"{"offset":4,"epoch":"e\""}"#.to_owned()),
            (
                Outcome::Broadcast(vec![Ok(position(1, "e")), Err(error()), Ok(position(0, ""))]),
                format!(
                    r#"{{"responses":[{},{{"error":{ERROR}}},{}]}}"#,
                    r#"{"result":{"offset":1,"epoch":"e"}}"#, r#"{"result":{}}"#
                ),
            ),
            (Outcome::Done, "{}".to_owned()),
            (Outcome::Presence(BTreeMap::new()), r#"{"presence":{}}"#.to_owned()),
            (
                Outcome::Presence([("x".to_owned(), info)].into()),
                format!(r#"{{"presence":{{"x":{client}}}}}"#),
            ),
            (
                Outcome::PresenceStats { client_count: 2, user_count: 0 },
                r#"{"num_clients":2,"num_users":0}"#.to_owned(),
            ),
            (
                Outcome::History { publications: Vec::new(), top: position(0, "e") },
                r#"{"publications":[],"offset":0,"epoch":"e"}"#.to_owned(),
            ),
            (
                Outcome::History { publications, top: position(7, "e") },
                format!(
                    r#"{{"publications":[{{"data":[ 1,2 ],"info":{client},"offset":7,{},{}],{}}}"#,
                    r#""tags":{"k":"\n"}}"#,
                    r#"{"data":null,"b64data":"//4="}"#,
                    r#""offset":7,"epoch":"e""#,
                ),
            ),
            (
                Outcome::Channels([("a".to_owned(), 1), ("b".to_owned(), 0)].into()),
                r#"{"channels":{"a":{"num_clients":1},"b":{"num_clients":0}}}"#.to_owned(),
            ),
            (
                Outcome::Info(vec![node]),
                format!(
                    r#"{{"nodes":[{{"uid":"1","name":"n","version":"","num_clients":3,{}]}}"#,
                    r#""num_users":2,"num_subs":4,"num_channels":0,"uptime":60}"#
                ),
            ),
            (Outcome::Rpc(b"[1]".to_vec()), r#"{"data":[1]}"#.to_owned()),
            (Outcome::Rpc(Vec::new()), "{}".to_owned()),
        ] {
            let written = text(&outcome);
            assert_eq!(written, format!(r#"{{"result":{expected}}}"#));
            assert!(serde_json::from_str::<Value>(&written).is_ok(), "{written}");
            assert_eq!(write(&outcome, true), written.as_bytes());
            assert_eq!((status(&outcome, false), status(&outcome, true)), (200, 200));
        }
    }

    #[test]
    fn errors_are_told_by_the_status_where_that_is_asked_for() {
        let outcome = Outcome::Error(error());
        assert_eq!(text(&outcome), format!(r#"{{"error":{ERROR}}}"#));
        assert_eq!(write(&outcome, true), ERROR.as_bytes());
        let cases = [(100, 500), (102, 404), (104, 404), (107, 400), (108, 400), (112, 416)];
        for (code, expected) in cases.into_iter().chain([(113, 409), (400, 400)]) {
            let outcome = Outcome::Error(ReplyError { code, ..error() });
            assert_eq!((status(&outcome, false), status(&outcome, true)), (200, expected));
        }
    }

    #[test]
    fn a_batch_has_a_reply_for_each_call() {
        let replies = vec![
            ("publish", Outcome::Published(position(1, "e"))),
            ("info", Outcome::Error(error())),
            ("refresh", Outcome::Done),
        ];
        let (batch, replies) = (Outcome::Batch(replies), r#""offset":1,"epoch":"e""#);
        let replies =
            format!(r#"[{{"publish":{{{replies}}}}},{{"error":{ERROR}}},{{"refresh":{{}}}}]"#);
        assert_eq!(text(&batch), format!(r#"{{"replies":{replies}}}"#));
        assert_eq!(write(&batch, true), write(&batch, false));
        assert_eq!(text(&Outcome::Batch(Vec::new())), r#"{"replies":[]}"#);
    }

    /// `cent.js` splits at line feeds and reads each part.
    #[test]
    fn there_are_as_many_lines_as_outcomes() {
        let outcomes = [Outcome::Rpc(b"{\n}".to_vec()), Outcome::Error(error()), Outcome::Done];
        let text = String::from_utf8(write_lines(&outcomes)).expect("UTF-8");
        let lines: Vec<Value> =
            text.split('\n').map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let error: Value = serde_json::from_str(ERROR).expect("JSON");
        let expected =
            [json!({"result": {"data": {}}}), json!({"error": error}), json!({"result": {}})];
        assert_eq!(lines, expected);
    }
}
