//! What a shard tells of itself beyond plain counts: how long its ticks, deliveries, pings and
//! connections take, what waits for its peers, and how connections ended.
//!
//! None of it reads a clock or does anything for a message: a tick knows when it began and when it
//! ends, and connections are looked at few at a time.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::Shard;
use super::connections::Connection;
use super::orders::top::Charges;
use super::timers::Tick;
use crate::config::Config;
use crate::io::{Io, Key};
use crate::stats::close_records::CloseRecord;
use crate::websocket::{Heard, Initiator, PingPayload};
use crate::wire::close::CloseCode;

/// What is being measured.
pub(super) struct Measures {
    /// Whether a tick has begun whose end is not known yet.
    is_in_tick: bool,
    /// How long, until this tick began, the message had waited that waited longest of those that
    /// the last subscriber of this shard got in this tick.
    delivered_after_us: Option<u32>,
    /// The tick in which connections were last looked at.
    looked: Tick,
    look: Look,
    /// When each connection was upgraded, by its index.
    opened: Vec<Tick>,
    /// What has just been dropped of the backlog of the connection that is being ended.
    pub(super) dropped_bytes: usize,
    /// What connections receive and send, if they are charged with it.
    pub(super) charges: Option<Box<Charges>>,
    /// Ends that somebody who was reading has kept out of the counters.
    close_records: VecDeque<Arc<CloseRecord>>,
}

/// A look at what waits for all connections, one after the other.
#[derive(Default)]
struct Look {
    /// The index to go on with.
    next: usize,
    backlogged: u64,
    backlog_bytes: u64,
}

impl Measures {
    /// For up to `capacity` connections: address space, of which only used entries cost memory.
    pub(super) fn new(capacity: usize, config: &Config) -> Self {
        let charges = config.metrics.top.then(|| Box::new(Charges::new(Duration::ZERO)));
        Self {
            charges,
            is_in_tick: false,
            delivered_after_us: None,
            looked: 0,
            look: Look::default(),
            opened: Vec::with_capacity(capacity),
            dropped_bytes: 0,
            close_records: VecDeque::new(),
        }
    }

    /// Charges connections from now on, or no more.
    pub(super) fn heed(&mut self, config: &Config, now: Duration) {
        if config.metrics.top != self.charges.is_some() {
            self.charges = config.metrics.top.then(|| Box::new(Charges::new(now)));
        }
    }

    /// Takes note of a delivery that has come to its end.
    pub(super) fn delivered(&mut self, after_us: Option<u32>) {
        self.delivered_after_us = self.delivered_after_us.max(after_us);
    }

    /// Takes note of when the WebSocket at `index` was opened.
    pub(super) fn opened(&mut self, index: u32, at: Tick) {
        let place = index as usize;
        if place >= self.opened.len() {
            self.opened.resize(place + 1, at);
        }
        self.opened[place] = at;
    }

    /// For how long the WebSocket at `index` has been open.
    pub(super) fn age(&self, index: u32, now: Tick) -> Tick {
        self.opened.get(index as usize).map_or(0, |opened| now.saturating_sub(*opened))
    }
}

impl<I: Io> Shard<I> {
    /// Counts the messages that have been compressed and inflated in this tick.
    pub(super) fn count_compression(&mut self) {
        let codec = self.codec.get_mut();
        let counts = (std::mem::take(&mut codec.compressed), std::mem::take(&mut codec.inflated));
        self.stats().compressions.add(counts.0);
        self.stats().inflations.add(counts.1);
    }

    /// The time since the start at which this tick began.
    pub(super) fn clock(&self) -> Duration {
        self.attendance.returned
    }

    /// A tick begins.
    pub(super) fn begin_to_measure(&mut self) {
        self.measures.is_in_tick = true;
        self.topics.set_clock(self.clock().as_micros() as u32);
    }

    /// A tick ends: what it has queued is about to be given to the kernel.
    pub(super) fn measure_tick(&mut self, now: Duration) {
        if !std::mem::take(&mut self.measures.is_in_tick) {
            return;
        }
        let duration_us = now.saturating_sub(self.clock()).as_micros() as u64;
        let delivered_after_us = self.measures.delivered_after_us.take();
        let stats = self.stats();
        stats.tick_duration.observe(duration_us);
        if let Some(after_us) = delivered_after_us {
            stats.delivery_duration.observe(u64::from(after_us) + duration_us);
        }
    }

    /// Ten times a second, looks at what waits for some of the connections; once for all, tells.
    pub(super) fn look_at_backlogs(&mut self) {
        if self.measures.looked == self.now {
            return;
        }
        self.measures.looked = self.now;
        let stats = self.shared.stats.shard(self.number);
        if !self.measures.close_records.is_empty() {
            stats.close_records.add(&mut self.measures.close_records);
        }
        let (look, places) = (&mut self.measures.look, self.connections.places());
        let end = places.min(look.next + LOOKED_AT_LEAST.max(places / LOOKS_MOST));
        for index in look.next..end {
            if let Some((_, connection)) = self.connections.at(index as u32) {
                let bytes = connection.outbox.bytes() as u64;
                look.backlogged += u64::from(bytes > 0);
                look.backlog_bytes += bytes;
            }
        }
        look.next = end;
        if end == places {
            let Look { backlogged, backlog_bytes, .. } = std::mem::take(look);
            stats.backlogged.set(backlogged);
            stats.backlog_bytes.set(backlog_bytes);
            stats.backlog_peak.note(self.attendance.returned, backlog_bytes);
        }
    }

    /// Takes note of how many connections hold a slot, when there are more or soon fewer.
    pub(super) fn note_connections(&self) {
        self.stats().connections_peak.note(self.clock(), self.connections.len() as u64);
    }

    /// Counts pings and pongs, and the time since the ping that a pong answers.
    pub(super) fn heard(&self, heard: Heard) {
        let stats = self.stats();
        stats.pings_in.add(heard.pings.into());
        stats.pongs_in.add(heard.pongs.into());
        if let Some(duration_us) = heard.answer.and_then(|pong| since_ping(&pong, self.clock())) {
            stats.ping_round_trip.observe(duration_us);
        }
    }

    /// The shard has failed: every WebSocket ends by that, and every visit.
    pub(super) fn note_failure(&mut self) {
        for key in self.connections.keys() {
            if self.connections.get(key).is_some_and(Connection::owes_close) {
                self.note_close(key, Initiator::Local, CloseCode::ABNORMAL, SHARD_FAILED);
            }
            self.forget_peer(key.index);
        }
    }

    /// Counts the end of a WebSocket and takes note of how it came, once and before it leaves its
    /// topic. `reason` is that of the close frame, or says what has happened where there is none.
    pub(super) fn note_close(
        &mut self,
        key: Key,
        initiator: Initiator,
        code: CloseCode,
        reason: &str,
    ) {
        let stats = self.shared.stats.shard(self.number);
        stats.close(initiator, code);
        let age = Duration::from_millis(
            u64::from(self.measures.age(key.index, self.now)) * super::TICK_MS,
        );
        stats.websocket_duration.observe(age.as_micros() as u64);
        let waiting_bytes = self.connections.get(key).map_or(0, |it| it.outbox.bytes());
        let backlog_bytes = waiting_bytes + self.measures.dropped_bytes;
        let topic = self.topic_shown(key);
        if let Some(visit) = self.peers.visit_mut(key.index) {
            visit.end(initiator, code, reason);
        }
        let visit = self.peers.visit(key.index);
        self.measures.close_records.push_back(Arc::new(CloseRecord {
            at: self.clock(),
            topic,
            address: self.peers.address(key.index),
            user: self.peers.user(key.index).map(Box::from),
            path: visit.map(|visit| visit.path().into()),
            bytes: visit.map(|visit| visit.bytes()),
            code,
            reason: reason[..reason.floor_char_boundary(REASON_BYTES_MAX)].into(),
            initiator,
            age,
            backlog_bytes,
        }));
        stats.close_records.add(&mut self.measures.close_records);
    }
}

/// What a ping says that is sent now: the time in microseconds, and a mark that no peer can make,
/// so that a pong which nobody asked for is known. Nothing has to be kept until the pong comes.
pub(super) fn ping_payload(now: Duration) -> PingPayload {
    let sent_us = now.as_micros() as u64;
    let mut payload = PingPayload::default();
    let (time, mark) = payload.split_at_mut(size_of::<u64>());
    time.copy_from_slice(&sent_us.to_be_bytes());
    mark.copy_from_slice(&MARK.hash_one(sent_us).to_be_bytes());
    payload
}

/// Microseconds since the ping that this is the pong of was sent; `None` if it is that of none. One
/// that a peer repeats counts again, which [`Limits::control_frames_per_second`] bounds.
///
/// [`Limits::control_frames_per_second`]: crate::config::Limits::control_frames_per_second
fn since_ping(pong: &PingPayload, now: Duration) -> Option<u64> {
    let sent_us = u64::from_be_bytes(*pong.first_chunk()?);
    let sent = Duration::from_micros(sent_us);
    let since = now.checked_sub(sent).filter(|_| *pong == ping_payload(sent))?;
    Some(since.as_micros() as u64)
}

/// One for the whole process, as a pong may come to another shard than the ping went out from.
static MARK: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Connections that are looked at in a tenth of a second: so many, or as many as let all have their
/// turn within so many looks. Few in debug builds, so that tests see a look take several ticks.
const LOOKED_AT_LEAST: usize = if cfg!(debug_assertions) { 4 } else { 1024 };
const LOOKS_MOST: usize = 64;
/// Why those end whose shard cannot go on.
pub(super) const SHARD_FAILED: &str = "the shard has failed";
/// Bytes of a reason that are kept: what a close frame can carry.
const REASON_BYTES_MAX: usize = crate::wire::close::REASON_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sent_answers_a_ping() {
        let sent = Duration::from_micros(12_345_678);
        let ping = ping_payload(sent);
        let now = sent + Duration::from_micros(250);
        assert_eq!(since_ping(&ping, now), Some(250));
        assert_eq!(since_ping(&ping, sent), Some(0));
        assert_eq!(since_ping(&ping, Duration::ZERO), None, "it comes before its ping");
        for place in 0..ping.len() {
            let mut forged = ping;
            forged[place] ^= 1;
            assert_eq!(since_ping(&forged, now), None, "byte {place}");
        }
        assert_eq!(since_ping(&PingPayload::default(), now), None);
    }
}
