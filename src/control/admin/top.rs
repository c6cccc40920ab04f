//! Who takes the most at the moment, as JSON: connections of all shards together, topics by what
//! they take on all shards, and the shards themselves.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Refused, value};
use super::connection_id::ConnectionId;
use super::routes::Desk;
use crate::shard::orders::top::{Measure, Ranking, Subject, TOP_MOST, Traffic};
use crate::shard::orders::{Errand, Outcome};
use crate::stats::in_seconds;

/// What is asked for.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Wanted {
    by: Measure,
    #[serde(default)]
    of: Subject,
    #[serde(default = "limit_default")]
    limit: usize,
}

fn limit_default() -> usize {
    LIMIT_DEFAULT
}

impl Wanted {
    /// What the query of a request says; an error is a text for whoever asks.
    fn parse(uri: &Uri) -> Result<Self, String> {
        let refused = |fault: &str| format!("{fault}: {GRAMMAR}");
        let Query(wanted) =
            Query::<Self>::try_from_uri(uri).map_err(|error| refused(&error.body_text()))?;
        if !(1..=TOP_MOST).contains(&wanted.limit) {
            return Err(refused("limit is out of range"));
        }
        if wanted.by == Measure::Idle && wanted.of != Subject::Connections {
            return Err(refused("only connections are idle"));
        }
        Ok(wanted)
    }
}

/// Those who take the most now.
pub(super) async fn list(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Refused> {
    let wanted = Wanted::parse(&uri).map_err(Refused::bad)?;
    let Wanted { by, of, limit } = wanted;
    let call = desk.calls.begin()?;
    // A topic may be among the first of all and behind others on each shard.
    let most = if of == Subject::Topics { TOP_MOST } else { limit };
    let mut rankings = Vec::new();
    for shard in 0..desk.calls.shards() {
        let errand = Errand::Top { measure: by, subject: of, most };
        match call.ask(shard, errand).await? {
            Outcome::Top(ranking) => rankings.push(ranking),
            Outcome::NotCharged => return Err(Refused::new(StatusCode::CONFLICT, NOT_CHARGED)),
            _ => debug_assert!(false, "an errand has the outcome of its kind"),
        }
    }
    Ok(value(StatusCode::OK, &report(&wanted, &rankings)))
}

/// What the shards have told, put together.
fn report(&Wanted { by, of, limit }: &Wanted, rankings: &[Ranking]) -> Value {
    let mut entries = match of {
        Subject::Connections => connections(by, rankings),
        Subject::Topics => topics(by, rankings),
        Subject::Shards => shards(by, rankings),
    };
    entries.sort_by_key(|(amount, _)| Reverse(*amount));
    let entries: Vec<_> = entries.into_iter().take(limit).map(|(_, entry)| entry).collect();
    let window = rankings.iter().filter_map(|ranking| ranking.window).max();
    let window_seconds = window.map(|window| window.as_secs_f64());
    json!({ "by": by, "of": of, "window_seconds": window_seconds, "entries": entries })
}

/// Entries by what they take.
type Entries = Vec<(u64, Value)>;

fn connections(by: Measure, rankings: &[Ranking]) -> Entries {
    let mut entries = Vec::new();
    for (shard, ranking) in rankings.iter().enumerate() {
        for ranked in &ranking.entries {
            let Some(key) = ranked.key else { continue };
            let amount = match by {
                Measure::Idle => ranked.silent.as_millis() as u64,
                by => amount(by, ranked.traffic, ranked.backlog_bytes),
            };
            let entry = json!({
                "connection": ConnectionId { shard, key }.to_string(),
                "shard": shard,
                "topic": ranked.topic.as_deref(),
                "address": ranked.address,
                "bytes": ranked.traffic.map(|traffic| traffic.bytes),
                "messages": ranked.traffic.map(|traffic| traffic.messages),
                "error": ranking.shortfall,
                "backlog_bytes": ranked.backlog_bytes,
                "idle_seconds": in_seconds(ranked.silent),
            });
            entries.push((amount, entry));
        }
    }
    entries
}

/// A topic may be among the first of one shard and not of another: what it takes there is unknown,
/// and no more than that of those who are.
fn topics(by: Measure, rankings: &[Ranking]) -> Entries {
    let unlisted = |ranking: &Ranking| ranking.shortfall + ranking.unlisted_most;
    let error_most: u64 = rankings.iter().map(unlisted).sum();
    let mut sums: HashMap<&Arc<str>, (Option<Traffic>, u64, u64)> = HashMap::new();
    for ranking in rankings {
        for ranked in &ranking.entries {
            let Some(topic) = &ranked.topic else { continue };
            let (traffic, backlog_bytes, error) =
                sums.entry(topic).or_insert((None, 0, error_most));
            if let Some(more) = ranked.traffic {
                let sum = traffic.get_or_insert_default();
                sum.bytes += more.bytes;
                sum.messages += more.messages;
            }
            *backlog_bytes += ranked.backlog_bytes;
            *error -= ranking.unlisted_most;
        }
    }
    let entries = sums.into_iter().map(|(topic, (traffic, backlog_bytes, error))| {
        let entry = json!({
            "topic": **topic,
            "bytes": traffic.map(|traffic| traffic.bytes),
            "messages": traffic.map(|traffic| traffic.messages),
            "error": error,
            "backlog_bytes": (by == Measure::Backlog).then_some(backlog_bytes),
        });
        (amount(by, traffic, backlog_bytes), entry)
    });
    entries.collect()
}

fn shards(by: Measure, rankings: &[Ranking]) -> Entries {
    let of_shards = rankings.iter().enumerate().map(|(shard, ranking)| {
        let entry = json!({
            "shard": shard,
            "bytes": ranking.traffic.map(|traffic| traffic.bytes),
            "messages": ranking.traffic.map(|traffic| traffic.messages),
            "error": 0,
            "backlog_bytes": (by == Measure::Backlog).then_some(ranking.backlog_bytes),
        });
        (amount(by, ranking.traffic, ranking.backlog_bytes), entry)
    });
    of_shards.collect()
}

fn amount(by: Measure, traffic: Option<Traffic>, backlog_bytes: u64) -> u64 {
    match by {
        Measure::Bytes => traffic.unwrap_or_default().bytes,
        Measure::Messages => traffic.unwrap_or_default().messages,
        Measure::Backlog | Measure::Idle => backlog_bytes,
    }
}

const GRAMMAR: &str = "by is bytes, messages, backlog or idle, of is connections, topics or \
     shards, and limit 1 to 40";
const NOT_CHARGED: &str = "Nobody is charged with what it takes: start the server with --top \
                           true, or let its file say top = true and reload.";
/// Entries that are told when nobody says how many.
const LIMIT_DEFAULT: usize = 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::io::Key;
    use crate::shard::orders::top::Ranked;

    fn wanted(query: &str) -> Result<Wanted, String> {
        Wanted::parse(&format!("/top?{query}").parse().unwrap())
    }

    #[test]
    fn a_query_that_cannot_be_meant_is_refused_with_what_can() {
        let expected = Wanted { by: Measure::Idle, of: Subject::Connections, limit: 10 };
        assert_eq!(wanted("by=idle"), Ok(expected));
        let expected = Wanted { by: Measure::Bytes, of: Subject::Topics, limit: 40 };
        assert_eq!(wanted("of=topics&by=bytes&limit=40"), Ok(expected));
        for query in ["", "by=size", "by=bytes&limit=0", "by=bytes&limit=41", "by=idle&of=shards"] {
            let told = wanted(query).unwrap_err();
            assert!(told.contains("by is bytes") && told.contains("1 to 40"), "{query}: {told}");
        }
        assert!(GRAMMAR.ends_with(&TOP_MOST.to_string()));
    }

    fn ranking(entries: Vec<Ranked>, unlisted_most: u64) -> Ranking {
        let traffic = Some(Traffic { bytes: 1000, messages: 10 });
        let window = Some(Duration::from_secs(7));
        Ranking { entries, shortfall: 3, unlisted_most, traffic, window, ..Ranking::default() }
    }

    fn topic(name: &str, bytes: u64) -> Ranked {
        let traffic = Some(Traffic { bytes, messages: 1 });
        Ranked { topic: Some(name.into()), traffic, ..Ranked::default() }
    }

    #[test]
    fn a_topic_takes_what_it_takes_on_all_shards_and_what_is_unknown_is_told() {
        let rankings = [
            ranking(vec![topic("a", 50), topic("b", 40)], 20),
            ranking(vec![topic("b", 30), topic("c", 10)], 5),
        ];
        let report = report(&wanted("by=bytes&of=topics&limit=2").unwrap(), &rankings);
        let entry = |topic, bytes, messages, error| {
            json!({
                "topic": topic, "bytes": bytes, "messages": messages, "error": error,
                "backlog_bytes": null,
            })
        };
        let entries = [entry("b", 70, 2, 6), entry("a", 50, 1, 11)];
        let expected = json!({
            "by": "bytes", "of": "topics", "window_seconds": 7.0, "entries": entries,
        });
        assert_eq!(report, expected);
    }

    #[test]
    fn connections_and_shards_are_told_whole() {
        let ranked = Ranked {
            key: Some(Key { index: 4, generation: 2 }),
            address: Some("192.0.2.1".parse().unwrap()),
            backlog_bytes: 9,
            silent: Duration::from_millis(1500),
            ..topic("a", 50)
        };
        let rankings = [ranking(Vec::new(), 0), ranking(vec![ranked], 0)];
        let told = report(&wanted("by=bytes").unwrap(), &rankings);
        let expected = json!([{
            "connection": "1-4-2", "shard": 1, "topic": "a", "address": "192.0.2.1", "bytes": 50,
            "messages": 1, "error": 3, "backlog_bytes": 9, "idle_seconds": 1.5,
        }]);
        assert_eq!(told["entries"], expected);
        let told = report(&wanted("by=messages&of=shards&limit=1").unwrap(), &rankings);
        let expected = json!([{
            "shard": 0, "bytes": 1000, "messages": 10, "error": 0, "backlog_bytes": null,
        }]);
        assert_eq!(told["entries"], expected);
    }
}
