//! The last ends of WebSockets as JSON, newest first, and which of them are wanted.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use serde::{Deserialize, Serialize};

use super::answer::Refused;
use crate::config::PeerAddress;
use crate::output;
use crate::stats::close_records::{CLOSE_RECORDS_MOST, CloseRecord};
use crate::stats::{Stats, in_seconds};
use crate::websocket::Initiator;

/// Which ends are wanted: those for which all that is said holds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    code: Option<u16>,
    topic: Option<String>,
    address: Option<PeerAddress>,
    initiator: Option<String>,
    /// Seconds since 1970.
    since: Option<f64>,
    limit: Option<usize>,
}

impl Filter {
    /// What the query of a request says.
    ///
    /// # Errors
    /// What is wrong with it, and what it may say.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Refused> {
        let refused = |fault: String| Refused::bad(format!("{fault}: {GRAMMAR}"));
        let Query(filter) =
            Query::<Self>::try_from_uri(uri).map_err(|error| refused(error.body_text()))?;
        if filter.limit.is_some_and(|limit| !(1..=CLOSE_RECORDS_MOST).contains(&limit)) {
            return Err(refused("limit is out of range".to_owned()));
        }
        if filter.since.is_some_and(|since| !since.is_finite() || since < 0.0) {
            return Err(refused("since is no time".to_owned()));
        }
        let is_known = |name: &String| Initiator::ALL.iter().any(|known| known.name() == name);
        if !filter.initiator.as_ref().is_none_or(is_known) {
            return Err(refused("initiator is neither".to_owned()));
        }
        Ok(filter)
    }

    fn admits(&self, record: &CloseRecord, time_s: f64) -> bool {
        let (topic, initiator) = (self.topic.as_deref(), self.initiator.as_deref());
        self.code.is_none_or(|code| record.code.0 == code)
            && self.address.is_none_or(|it| record.address == Some(it.to_canonical()))
            && topic.is_none_or(|topic| record.topic.as_deref() == Some(topic))
            && initiator.is_none_or(|initiator| record.initiator.name() == initiator)
            && self.since.is_none_or(|since| time_s >= since)
    }
}

/// One end as it is told.
#[derive(Serialize)]
struct Told<'a> {
    time_s: f64,
    shard: usize,
    service: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<PeerAddress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_bytes: Option<u64>,
    initiator: &'static str,
    code: u16,
    reason: &'a str,
    age_s: f64,
    backlog_bytes: usize,
}

/// The wanted of the last ends, as JSON. The clocks of the shards began at `start`, a time since
/// 1970.
pub(super) fn report(stats: &Stats, start: Duration, filter: &Filter) -> String {
    let shards = stats.of_shards().iter().enumerate();
    let mut records: Vec<(usize, Arc<CloseRecord>)> = shards
        .flat_map(|(shard, stats)| {
            stats.close_records.last().into_iter().rev().map(move |record| (shard, record))
        })
        .collect();
    // Stable: those of one tick stay in their order.
    records.sort_by_key(|(_, record)| Reverse(record.at));
    let told = records.iter().filter_map(|(shard, record)| {
        let time_s = in_seconds(start + record.at);
        filter.admits(record, time_s).then(|| Told {
            time_s,
            shard: *shard,
            service: if record.topic.is_some() { "broadcast" } else { "echo" },
            topic: record.topic.as_deref(),
            address: record.address,
            user: record.user.as_deref(),
            path: record.path.as_deref(),
            received_bytes: record.bytes.map(|(received, _)| received),
            sent_bytes: record.bytes.map(|(_, sent)| sent),
            initiator: record.initiator.name(),
            code: record.code.0,
            reason: &record.reason,
            age_s: in_seconds(record.age),
            backlog_bytes: record.backlog_bytes,
        })
    });
    let told: Vec<_> = told.take(filter.limit.unwrap_or(LIMIT)).collect();
    output::without_controls(&serde_json::json!({ "closed": told }).to_string())
}

const GRAMMAR: &str = "allowed are code=NUMBER, topic=NAME, address=IP, initiator=local or \
     remote, since=SECONDS since 1970, and limit=1 to 10000";
/// Ends that are told when nobody says how many.
const LIMIT: usize = 100;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::wire::close::CloseCode;

    fn stats() -> Stats {
        let stats = Stats::new(2);
        let topics = [None, Some("news"), Some("a b")];
        for number in 0..6 {
            let initiator = Initiator::ALL[number / 3];
            let record = CloseRecord {
                at: Duration::from_millis(1500 * number as u64),
                topic: topics[number % 3].map(Into::into),
                address: (number > 3)
                    .then(|| std::net::IpAddr::from([192, 0, 2, number as u8]).into()),
                user: (number > 3).then(|| "alice".into()),
                path: (number > 3).then(|| "/a".into()),
                bytes: (number > 3).then_some((70, 80)),
                code: CloseCode(1000 + number as u16),
                reason: "over".into(),
                initiator,
                age: Duration::from_millis(250),
                backlog_bytes: 7,
            };
            let mut waiting = VecDeque::from([Arc::new(record)]);
            stats.shard(number % 2).close_records.add(&mut waiting);
        }
        stats
    }

    fn codes(query: &str) -> Result<Vec<u64>, Refused> {
        let filter = Filter::parse(&format!("/closed{query}").parse().unwrap())?;
        let text = report(&stats(), Duration::from_secs(100), &filter);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let closed = json["closed"].as_array().unwrap().iter();
        Ok(closed.map(|record| record["code"].as_u64().unwrap()).collect())
    }

    #[test]
    fn the_wanted_ends_of_all_shards_are_told_newest_first() {
        for (query, expected) in [
            ("", &[1005, 1004, 1003, 1002, 1001, 1000][..]),
            ("?limit=2", &[1005, 1004]),
            ("?code=1003", &[1003]),
            ("?topic=news", &[1004, 1001]),
            ("?topic=a+b&initiator=local", &[1002]),
            ("?topic=a%20b&initiator=remote", &[1005]),
            ("?since=104.5", &[1005, 1004, 1003]),
            ("?topic=nobody%27s", &[]),
            ("?address=192.0.2.4", &[1004]),
            ("?address=%3A%3Affff%3A192.0.2.4", &[1004]),
        ] {
            assert_eq!(codes(query).unwrap(), expected, "{query}");
        }
    }

    #[test]
    fn a_query_that_cannot_be_meant_is_refused_with_what_can() {
        for query in [
            "?limit=0",
            "?limit=10001",
            "?limit=-1",
            "?code=x",
            "?code=70000",
            "?initiator=me",
            "?since=yesterday",
            "?since=nan",
            "?since=inf",
            "?since=1e999",
            "?since=-1",
            "?address=nowhere",
            "?unknown=1",
            "?code=1&code=2",
        ] {
            let said = codes(query).unwrap_err().error;
            assert!(said.contains("limit=1 to 10000"), "{query}: {said}");
        }
        assert!(GRAMMAR.contains(&CLOSE_RECORDS_MOST.to_string()));
    }

    #[test]
    fn an_end_is_told_whole() {
        let filter = Filter { code: Some(1004), ..Filter::default() };
        let text = report(&stats(), Duration::from_secs(100), &filter);
        let expected = serde_json::json!({ "closed": [{
            "time_s": 106.0, "shard": 0, "service": "broadcast", "topic": "news",
            "address": "192.0.2.4", "user": "alice", "path": "/a",
            "received_bytes": 70, "sent_bytes": 80,
            "initiator": "remote", "code": 1004, "reason": "over", "age_s": 0.25,
            "backlog_bytes": 7,
        }] });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    }
}
