//! The times that the deadlines of connections follow from, each measured by its own clock: silence
//! in time that the shard was there to hear, ages by the plain clock.

use std::time::Duration;

use super::ticks_in;
use super::timers::{TICK_MS, Tick};
use crate::config::{Config, Limits};

/// The times that decide about open WebSockets and streams, in ticks.
#[derive(Clone, Debug)]
pub(super) struct Times {
    pub(super) park_after: Option<Tick>,
    pub(super) ping_check: Option<SilenceCheck>,
    pub(super) stream_check: SilenceCheck,
    pub(super) idle_timeout: Option<Tick>,
    pub(super) message_timeout: Option<Tick>,
}

impl Times {
    /// What the configuration says.
    pub(super) fn new(config: &Config) -> Self {
        let limits = &config.limits;
        // Whoever is closed for its silence has been asked before.
        let idle_half = limits.idle_timeout.map(|timeout| timeout / 2);
        let ping_after = match (limits.ping_interval, idle_half) {
            (Some(interval), Some(half)) => Some(interval.min(half)),
            (interval, half) => interval.or(half),
        };
        // Whoever is held to a rate has the time that the largest message takes at it as well.
        let seconds = |rate| u64::from(limits.message_bytes).div_ceil(rate);
        let at_rate = Duration::from_secs(limits.byte_rate.map_or(0, seconds));
        Self {
            park_after: config.engine.park_after.map(ticks_in),
            ping_check: ping_after.map(SilenceCheck::new),
            stream_check: SilenceCheck::new(STREAM_SILENCE_MOST),
            idle_timeout: limits.idle_timeout.map(ticks_in),
            message_timeout: limits.message_timeout.map(|timeout| ticks_in(timeout + at_rate)),
        }
    }

    /// How often silence is looked for, if it is, towards a stream or else a WebSocket.
    pub(super) fn silence_check(&self, is_stream: bool) -> Option<SilenceCheck> {
        if is_stream { Some(self.stream_check) } else { self.ping_check }
    }
}

/// How often silence is looked for: twice within the time after which it is broken, by a ping or by
/// an empty line.
#[derive(Clone, Copy, Debug)]
pub(super) struct SilenceCheck {
    pub(super) period: Tick,
}

impl SilenceCheck {
    /// For no more than this much silence. Rounded down: a ping must not be late for the idle
    /// timeout.
    fn new(silence_most: Duration) -> Self {
        let period = silence_most.as_millis() / 2 / u128::from(TICK_MS);
        Self { period: period.clamp(1, u128::from(Tick::MAX / 4)) as Tick }
    }

    /// The number of the round that `now` lies in for the connection at `index`: rounds begin at
    /// other times for each, so that not all are sent something at once.
    pub(super) fn round(self, now: Tick, index: u32) -> Tick {
        (now + self.phase(index)) / self.period
    }

    /// Ticks until the next round begins.
    pub(super) fn left(self, now: Tick, index: u32) -> Tick {
        self.period - (now + self.phase(index)) % self.period
    }

    fn phase(self, index: u32) -> Tick {
        // A multiplier that spreads neighbours (2^32 divided by the golden ratio).
        index.wrapping_mul(0x9e37_79b1) % self.period
    }
}

/// When a data message last went from or to each WebSocket; costs nothing unless silence of this
/// kind matters.
pub(super) struct Wanted {
    timeout: Option<Tick>,
    /// Whether it is taken note of, for the timeout or to shed those that are idle.
    is_noted: bool,
    since: Vec<Tick>,
}

impl Wanted {
    /// With the limits that are set.
    pub(super) fn new(limits: &Limits) -> Self {
        let timeout = limits.message_idle_timeout;
        let is_noted = timeout.is_some() || limits.shed_idle.is_some();
        Self { timeout: timeout.map(ticks_in), is_noted, since: Vec::new() }
    }

    /// Changes the limits. What was not noted while there was none is not known.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        let Self { timeout, is_noted, .. } = Self::new(limits);
        if !self.is_noted || !is_noted {
            self.since = Vec::new();
        }
        (self.timeout, self.is_noted) = (timeout, is_noted);
    }

    /// Counts from now on for a WebSocket of which nothing is known.
    pub(super) fn note_first(&mut self, index: u32, served: Tick) {
        if self.since.get(index as usize).is_none_or(|since| *since == UNKNOWN) {
            self.note(index, served);
        }
    }

    /// A message has gone either way.
    pub(super) fn note(&mut self, index: u32, served: Tick) {
        if self.is_noted {
            let place = index as usize;
            if place >= self.since.len() {
                self.since.resize(place + 1, UNKNOWN);
            }
            self.since[place] = served;
        }
    }

    /// For how long no message has gone from or to the WebSocket at `index`; nothing where that is
    /// not limited.
    pub(super) fn silence(&self, index: u32, served: Tick) -> Tick {
        self.since(index).map_or(0, |since| served.saturating_sub(since))
    }

    /// Ticks until the WebSocket at `index` is wanted no more.
    pub(super) fn left(&self, index: u32, served: Tick) -> Option<Tick> {
        let since = self.since(index)?;
        self.timeout.map(|timeout| timeout.saturating_sub(served.saturating_sub(since)))
    }

    fn since(&self, index: u32) -> Option<Tick> {
        self.since.get(index as usize).copied().filter(|since| *since != UNKNOWN)
    }
}

/// Nothing is known of a place.
const UNKNOWN: Tick = Tick::MAX;

/// When connections reach their maximum lifetime; costs nothing when there is none.
#[derive(Default)]
pub(super) struct Lifetimes {
    ends: Vec<Tick>,
}

impl Lifetimes {
    /// Sets or clears the end of the connection at `index`.
    pub(super) fn set(&mut self, index: u32, end: Option<Tick>) {
        let place = index as usize;
        if place < self.ends.len() {
            self.ends[place] = end.unwrap_or(Tick::MAX);
        } else if let Some(end) = end {
            self.ends.resize(place, Tick::MAX);
            self.ends.push(end);
        }
    }

    /// The end of the connection at `index`, if there is one.
    pub(super) fn end_of(&self, index: u32) -> Option<Tick> {
        self.ends.get(index as usize).copied().filter(|end| *end < Tick::MAX)
    }
}

/// A stream is silent for no longer: proxies cut what says nothing for 30 s.
const STREAM_SILENCE_MOST: Duration = Duration::from_secs(15);
