//! What a server says at one time, asked by way of its admin listener.

use std::io;
use std::time::Instant;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::metrics::Metrics;
use crate::admin_client::{self, Reply};
use crate::config::ListenAddress;

/// All answers.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) metrics: Metrics,
    /// Why the server is not ready, if it is not.
    pub(super) unreadiness: Option<String>,
    pub(super) closed: Vec<Closed>,
    /// The connections that take the most, or why they are not told.
    pub(super) top: Result<Vec<Entry>, String>,
    /// What is left of each resource; nothing where the server does not tell.
    pub(super) resources: Vec<Resource>,
}

/// An end of a WebSocket.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Closed {
    pub(super) time_s: f64,
    pub(super) service: String,
    pub(super) topic: Option<String>,
    pub(super) initiator: String,
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) age_s: f64,
}

/// A connection among those that take the most.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) connection: Option<String>,
    pub(super) topic: Option<String>,
    pub(super) address: Option<String>,
    pub(super) bytes: Option<f64>,
    pub(super) messages: Option<f64>,
    pub(super) backlog_bytes: Option<f64>,
}

/// A resource, how much of it is used, and how that goes.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Resource {
    pub(super) name: String,
    pub(super) used: f64,
    pub(super) limit: f64,
    pub(super) left: f64,
    pub(super) growth_per_second: Option<f64>,
    pub(super) used_up_in_seconds: Option<f64>,
}

impl Snapshot {
    /// Asks for everything.
    ///
    /// # Errors
    /// When the server is not reached, or what answers is no admin listener.
    pub(super) fn take(address: &ListenAddress) -> io::Result<Self> {
        let reply = admin_client::get(address, "/metrics")?;
        let metrics = Metrics::parse(&reply.text);
        if reply.status != 200 || metrics.sum(TICKS, &[]).is_none() {
            return Err(strange("it answers what no admin listener would"));
        }
        let at = Instant::now();
        let readiness = admin_client::get(address, "/readyz")?;
        let ends: Ends = read(&admin_client::get(address, "/closed?limit=50")?)?;
        let reply = admin_client::get(address, "/top?by=bytes&limit=20")?;
        let top = match reply.status {
            200 => Ok(read::<Top>(&reply)?.entries),
            404 => Err("This server does not tell.".to_owned()),
            _ => Err(read::<Refused>(&reply).map_or(reply.text, |refused| refused.error)),
        };
        let reply = admin_client::get(address, "/capacity")?;
        let resources = match reply.status {
            200 => read::<Capacity>(&reply)?.resources,
            _ => Vec::new(),
        };
        Ok(Self {
            at,
            metrics,
            unreadiness: (readiness.status != 200).then_some(readiness.text),
            closed: ends.closed,
            top,
            resources,
        })
    }
}

#[derive(Deserialize)]
struct Ends {
    closed: Vec<Closed>,
}

#[derive(Deserialize)]
struct Top {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Capacity {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

fn read<T: DeserializeOwned>(reply: &Reply) -> io::Result<T> {
    serde_json::from_str(&reply.text).map_err(|error| strange(&error.to_string()))
}

fn strange(error: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What every server counts, on each shard.
pub(super) const TICKS: &str = "ringwire_ticks_total";
