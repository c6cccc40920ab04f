//! What the access log says of connections: who came and was let in or refused, and, when they have
//! gone, how long they stayed and what they received and sent.
//!
//! Nothing is kept, and nothing is looked at, of connections that are not logged.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde::Serialize;

use crate::config::{AccessLog, PeerAddress};
use crate::http::{Asked, Refusal};
use crate::io::{Io, Key};
use crate::output::{self, ACCESS_LOG};
use crate::shard::Shard;
use crate::shard::orders::top::{Direction, Traffic};
use crate::stats::in_seconds;
use crate::websocket::Initiator;
use crate::wire::close::CloseCode;

/// A WebSocket or a stream that is logged.
#[derive(Debug)]
pub(in crate::shard) struct Visit {
    /// The name that the connection had when it was let in, and when that was.
    connection: String,
    began: Duration,
    asked: Box<Asked>,
    topic: Option<Arc<str>>,
    received: Traffic,
    sent: Traffic,
    end: Option<End>,
}

/// How it has ended.
#[derive(Debug)]
struct End {
    initiator: Initiator,
    code: CloseCode,
    reason: Box<str>,
}

impl Visit {
    /// Takes note of what it has received or sent.
    pub(in crate::shard) fn charge(&mut self, direction: Direction, traffic: Traffic) {
        let sum = match direction {
            Direction::Received => &mut self.received,
            Direction::Sent => &mut self.sent,
        };
        sum.bytes += traffic.bytes;
        sum.messages += traffic.messages;
    }

    /// Takes note of how it has ended.
    pub(in crate::shard) fn end(&mut self, initiator: Initiator, code: CloseCode, reason: &str) {
        self.end = Some(End { initiator, code, reason: reason.into() });
    }

    /// The path that it asked for.
    pub(in crate::shard) fn path(&self) -> &str {
        &self.asked.path
    }

    /// Bytes that it has received and sent.
    pub(in crate::shard) fn bytes(&self) -> (u64, u64) {
        (self.received.bytes, self.sent.bytes)
    }
}

/// One line, without what is not known.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    time_s: f64,
    event: &'static str,
    connection: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<PeerAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    stay: Option<Stay<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// What is known of a visit that is over.
#[derive(Debug, Serialize)]
struct Stay<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    initiator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    duration_s: f64,
    received_bytes: u64,
    sent_bytes: u64,
    received_messages: u64,
    sent_messages: u64,
}

impl<'a> Line<'a> {
    fn asked(self, asked: Option<&'a Asked>) -> Self {
        let Some(Asked { host, path, user_agent }) = asked else { return self };
        let (host, user_agent) = (host.as_deref(), user_agent.as_deref());
        Self { host, path: Some(path), user_agent, ..self }
    }

    fn write(&self) {
        let Ok(line) = serde_json::to_string(self) else {
            debug_assert!(false, "a line is made of texts and numbers");
            return;
        };
        let line = output::without_controls(&line) + "\n";
        ACCESS_LOG.write(line.into_bytes());
    }
}

impl<I: Io> Shard<I> {
    /// Whether the access log tells of a connection: the same each time that it is asked.
    pub(in crate::shard) fn is_logged(&self, key: Key) -> bool {
        let logs = &self.effective.config.logs;
        logs.access != AccessLog::Off
            && logs.access_sample.includes(DRAW.hash_one((self.number, key)))
    }

    /// Tells that a connection has been let in, if what it has `asked` was taken note of.
    pub(in crate::shard) fn begin_visit(&mut self, key: Key, asked: Option<Box<Asked>>) {
        let Some(asked) = asked else { return };
        let stage = self.connections.get(key).map(|connection| &connection.stage);
        let is_stream = stage.is_some_and(|stage| stage.stream().is_some());
        let visit = Visit {
            connection: key.name(self.number),
            began: self.clock(),
            asked,
            topic: self.topic_shown(key),
            received: Traffic::default(),
            sent: Traffic::default(),
            end: None,
        };
        Line {
            time_s: self.seconds_since_1970(),
            event: "open",
            connection: &visit.connection,
            address: self.peers.address(key.index),
            user: self.peers.user(key.index),
            topic: visit.topic.as_deref(),
            status: Some(if is_stream { OK } else { SWITCHING_PROTOCOLS }),
            ..Line::default()
        }
        .asked(Some(&visit.asked))
        .write();
        self.peers.begin_visit(key.index, visit);
    }

    /// Tells of a connection that is turned away, or of a request that is refused.
    pub(in crate::shard) fn log_refusal(&self, key: Key, refusal: Refusal, asked: Option<&Asked>) {
        if !self.is_logged(key) {
            return;
        }
        Line {
            time_s: self.seconds_since_1970(),
            event: "refused",
            connection: &key.name(self.number),
            address: self.peers.address(key.index),
            status: Some(refusal.status()),
            reason: Some(refusal.name()),
            ..Line::default()
        }
        .asked(asked)
        .write();
    }

    /// Tells of a visit that is over.
    pub(in crate::shard) fn log_end(
        &self,
        address: Option<PeerAddress>,
        user: Option<&str>,
        visit: &Visit,
    ) {
        let Visit { connection, began, asked, topic, received, sent, end } = visit;
        let stay = Stay {
            initiator: end.as_ref().map(|end| end.initiator.name()),
            code: end.as_ref().map(|end| end.code.0),
            duration_s: in_seconds(self.clock().saturating_sub(*began)),
            received_bytes: received.bytes,
            sent_bytes: sent.bytes,
            received_messages: received.messages,
            sent_messages: sent.messages,
        };
        Line {
            time_s: self.seconds_since_1970(),
            event: "close",
            connection,
            address,
            user,
            topic: topic.as_deref(),
            stay: Some(stay),
            reason: end.as_ref().map(|end| &*end.reason),
            ..Line::default()
        }
        .asked(Some(asked))
        .write();
    }

    fn seconds_since_1970(&self) -> f64 {
        in_seconds(self.shared.stats.started_at() + self.clock())
    }
}

/// Draws which connections are logged; another with each start.
static DRAW: LazyLock<RandomState> = LazyLock::new(RandomState::new);
const SWITCHING_PROTOCOLS: u16 = 101;
const OK: u16 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known_and_nothing_else() {
        let asked = Asked { host: None, path: "/echo".into(), user_agent: Some("a\"b".into()) };
        let line = Line { time_s: 1.5, event: "refused", connection: "0-1-2", ..Line::default() };
        let text = serde_json::to_string(&line.asked(Some(&asked))).unwrap();
        let expected = concat!(
            r#"{"time_s":1.5,"event":"refused","connection":"0-1-2","path":"/echo","#,
            r#""user_agent":"a\"b"}"#,
        );
        assert_eq!(text, expected);
    }
}
