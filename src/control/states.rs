//! What happens to channels, told to the backend of `--hook-state-url`: one request after the
//! other, so that it hears of each channel in order.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::requester::{Requester, Terms};
use super::standing::Standing;
use crate::config::HttpUrl;
use crate::realtime::home::StateEvent;
use crate::shard::ChannelStates;
use crate::shard::in_force::Effective;
use crate::stats::Counter;
use crate::stats::family::Family;

/// What has become of what was to be told.
#[derive(Debug, Default)]
pub(super) struct StateEnds {
    told: Counter,
    failed: Counter,
    lost: Counter,
}

impl StateEnds {
    /// The same for a monitoring system.
    pub(super) fn family(&self) -> Family {
        let help = "First and last subscribers of channels that --hook-state-url was told of, \
                    those that it did not take, and those lost for want of room.";
        let counts = [
            ("told", self.told.value()),
            ("failed", self.failed.value()),
            ("lost", self.lost.value()),
        ];
        Family::by_reason("channel_events", help, counts)
    }
}

/// Tells the backend for as long as the server runs.
pub(super) async fn tell(standing: Arc<Standing>, mut states: mpsc::Receiver<ChannelStates>) {
    let requester = Requester::new(standing.clone());
    let ends = &standing.states;
    while let Some(first) = states.recv().await {
        let now_ms = now_ms(&standing);
        let mut events: Vec<_> = first.events.iter().map(|it| event(it, now_ms)).collect();
        ends.lost.add(first.lost);
        while events.len() < EVENTS_AT_ONCE
            && let Ok(more) = states.try_recv()
        {
            events.extend(more.events.iter().map(|it| event(it, now_ms)));
            ends.lost.add(more.lost);
        }
        let count = events.len() as u64;
        if count == 0 {
            continue;
        }
        let body = json!({ "events": events }).to_string();
        let counter = match tell_at_last(&standing, &requester, &body).await {
            true => &ends.told,
            false => &ends.failed,
        };
        counter.add(count);
    }
}

/// Tells it as often as it takes, but not for ever; whether the backend has taken it.
async fn tell_at_last(standing: &Standing, requester: &Requester, body: &str) -> bool {
    for (place, pause) in PAUSES.into_iter().enumerate() {
        let settings = standing.shared.in_force.current();
        let Some(url) = &settings.config.hooks.state else { return false };
        let error = match tell_once(requester, url, body, &settings).await {
            Ok(()) => return true,
            Err(error) => error,
        };
        let is_last = place + 1 == PAUSES.len();
        tracing::warn!(%url, is_last, "nobody is told of first and last subscribers: {error}");
        if !is_last {
            sleep(pause).await;
        }
    }
    false
}

async fn tell_once(
    requester: &Requester,
    url: &HttpUrl,
    body: &str,
    settings: &Effective,
) -> Result<(), String> {
    let terms = Terms {
        number: settings.number,
        kept_most: 1,
        // Who hears of something twice knows no less.
        may_repeat: true,
        body_bytes_most: BODY_BYTES_MOST,
    };
    let make = || {
        Request::post(url.target())
            .header(HOST, url.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("ringwire/", env!("CARGO_PKG_VERSION")))
            .body(Body::from(body.to_owned()))
    };
    let limit = settings.config.hooks.timeout;
    let answer = timeout(limit, requester.send(url, make, terms)).await;
    let (head, body) = match answer {
        Err(_) => return Err(format!("no answer within {limit:?}")),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(answer)) => answer,
    };
    if head.status != StatusCode::OK {
        return Err(format!("the answer has status {}", head.status));
    }
    let answer: Option<Value> = serde_json::from_slice(&body).ok();
    match answer.is_some_and(|answer| answer["result"].is_object()) {
        true => Ok(()),
        false => Err("the answer has no result".to_owned()),
    }
}

fn event(event: &StateEvent, now_ms: u64) -> Value {
    let kind = if event.is_occupied { "occupied" } else { "vacated" };
    json!({ "time_ms": now_ms, "channel": &*event.channel, "type": kind })
}

fn now_ms(standing: &Standing) -> u64 {
    let stats = &standing.shared.stats;
    stats.seconds_of_day(stats.start().elapsed()) * 1000
}

/// Before it is tried again; after the last there is no other time.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::ZERO];
/// What one request tells, about.
const EVENTS_AT_ONCE: usize = 1024;
/// Bytes of an answer.
const BODY_BYTES_MOST: usize = 64 << 10;
/// Letters of shards that wait to be told.
pub(super) const STATES_MOST: usize = 64;
