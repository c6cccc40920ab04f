//! How much each connection may send in a second, and what becomes of whoever sends more.
//!
//! No message is looked at for that. A connection takes its input within a [`Budget`], in which
//! whatever it sends has a price: what it has left of a second is one more bound of that budget,
//! and what it has used is charged behind. Whoever has nothing left waits, with what it has sent in
//! the kernel, or is closed. What has begun is finished, and owed.
//!
//! [`Budget`]: crate::websocket::Budget

use super::Shard;
use super::connections::Connection;
use super::pause::WaitsFor;
use super::timers::{TICK_MS, Tick, Wheel};
use super::topic_rate::TopicLine;
use crate::admission::{Rate, nanoseconds};
use crate::config::{Limits, OnRate};
use crate::io::{Io, Key};
use crate::websocket::MESSAGE_BYTES_LEAST;
use crate::wire::close::CloseCode;

/// The rates of connections; costs nothing while none is limited.
pub(super) struct Rates {
    message_rate: Option<Rate>,
    byte_rate: Option<Rate>,
    on_rate: OnRate,
    due: Vec<Due>,
    /// Those who wait for the rate of their topic.
    pub(super) topic_line: TopicLine,
    /// When those who wait may go on.
    wheel: Wheel,
}

/// When one more would be due if all came evenly (the generic cell rate algorithm), in nanoseconds
/// since the start of the process: it means the same on every shard and at every rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    message_ns: u64,
    byte_ns: u64,
}

impl Rates {
    /// With the limits that are set.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            message_rate: limits.message_rate.map(Rate::per_second),
            byte_rate: limits.byte_rate.map(Rate::per_second),
            on_rate: limits.on_rate,
            due: Vec::new(),
            topic_line: TopicLine::default(),
            wheel: Wheel::new(0),
        }
    }

    /// Changes the limits. What was sent before counts on, in time, unless there is none any more.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        let Self { message_rate, byte_rate, on_rate, .. } = Self::new(limits);
        (self.message_rate, self.byte_rate, self.on_rate) = (message_rate, byte_rate, on_rate);
        if !self.is_limited() {
            self.due = Vec::new();
        }
    }

    /// The next tick at which somebody may go on.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        self.wheel.next_tick()
    }

    /// When the connection at `index` may send more.
    pub(super) fn due(&self, index: u32) -> Due {
        self.due.get(index as usize).copied().unwrap_or_default()
    }

    /// Sets that, for one that comes to this place.
    pub(super) fn set_due(&mut self, index: u32, due: Due) {
        let place = index as usize;
        if place >= self.due.len() {
            if due == Due::default() || !self.is_limited() {
                return;
            }
            self.due.resize(place + 1, Due::default());
        }
        self.due[place] = due;
    }

    fn is_limited(&self) -> bool {
        self.message_rate.is_some() || self.byte_rate.is_some()
    }

    /// Units of a budget that the connection at `index` may have: whatever it does with them, it
    /// begins no more messages, and no more bytes, than it has left. Whoever is to be closed for
    /// more gets one more, to be seen to send it.
    fn units_most(&self, index: u32, now_ns: u64) -> u32 {
        let due = self.due(index);
        let excess = u64::from(self.on_rate == OnRate::Close);
        let messages = self.message_rate.map(|rate| {
            let messages = rate.room(due.message_ns, now_ns) + excess;
            (messages * u64::from(MESSAGE_BYTES_LEAST)).saturating_sub(1)
        });
        let bytes = self.byte_rate.map(|rate| rate.room(due.byte_ns, now_ns) + excess);
        let units = messages.into_iter().chain(bytes).min();
        units.map_or(u32::MAX, |units| u32::try_from(units).unwrap_or(u32::MAX))
    }

    /// Counts what the connection at `index` has sent, and tells which of its rates that exceeds.
    fn charge(&mut self, index: u32, now_ns: u64, messages: u32, bytes: u64) -> Option<String> {
        let mut due = self.due(index);
        let mut excess = None;
        if let Some(rate) = self.byte_rate {
            rate.charge(&mut due.byte_ns, now_ns, bytes);
            if rate.is_exceeded(due.byte_ns, now_ns) {
                excess = Some(format!("more than {} bytes per second", rate.count()));
            }
        }
        if let Some(rate) = self.message_rate {
            rate.charge(&mut due.message_ns, now_ns, messages.into());
            if rate.is_exceeded(due.message_ns, now_ns) {
                excess = Some(format!("more than {} messages per second", rate.count()));
            }
        }
        self.set_due(index, due);
        excess.filter(|_| self.on_rate == OnRate::Close)
    }

    /// The connection at `index` waits until it has something left of each, and its topic has.
    fn wait(&mut self, index: u32) {
        let due = self.due(index);
        let messages = self.message_rate.map(|rate| rate.next_ns(due.message_ns));
        let bytes = self.byte_rate.map(|rate| rate.next_ns(due.byte_ns));
        let topic = self.topic_line.at_ns(index);
        let next_ns = messages.into_iter().chain(bytes).chain(topic).max().unwrap_or(0);
        let tick = next_ns.div_ceil(TICK_MS * 1_000_000);
        self.wheel.schedule(index, u32::try_from(tick).unwrap_or(Tick::MAX - 1));
    }
}

impl<I: Io> Shard<I> {
    /// Units of a budget that a connection may have for the sake of its rates; none when it has to
    /// wait. What comes behind a request at once is charged alone.
    pub(super) fn units_most(&self, index: u32, connection: &Connection) -> u32 {
        match self.rates.is_limited() && connection.stage.is_open_websocket() {
            true => self.rates.units_most(index, nanoseconds(self.attendance.returned)),
            false => u32::MAX,
        }
    }

    /// A connection has sent so much; it may be closed for that.
    pub(super) fn charge_rates(&mut self, key: Key, messages: u32, bytes: usize) {
        if !self.rates.is_limited()
            || !self.connections.get(key).is_some_and(|it| it.stage.is_open_websocket())
        {
            return;
        }
        let now_ns = nanoseconds(self.attendance.returned);
        if let Some(reason) = self.rates.charge(key.index, now_ns, messages, bytes as u64) {
            self.stats().rate_closes.add(1);
            self.close(key, CloseCode::POLICY_VIOLATION, &reason);
        }
    }

    /// A connection waits until it may send more.
    pub(super) fn await_rate(&mut self, key: Key) {
        self.rates.wait(key.index);
        match self.rates.topic_line.at_ns(key.index) {
            Some(_) => self.stats().topic_rate_pauses.add(1),
            None => self.stats().rate_pauses.add(1),
        }
    }

    /// Gives those their turn who may send more.
    pub(super) fn resume_for_rate(&mut self) {
        let mut due = Vec::new();
        self.rates.wheel.advance(self.now, |index| due.push(index));
        for index in due {
            if let Some((key, _)) = self.connections.at(index) {
                self.end_wait_for_rate(key);
            }
        }
    }

    /// A connection that waits for its rate waits for its turn instead, and is listened to.
    pub(super) fn end_wait_for_rate(&mut self, key: Key) {
        let served = self.served;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.waits_for == Some(WaitsFor::Rate) {
            connection.waits_for = None;
            connection.last_active = served;
            self.wanted.note(key.index, served);
            self.pause(key, WaitsFor::Turn);
            if self.connections.get(key).is_some_and(|it| it.stage.is_open()) {
                self.schedule_open(key);
            }
        }
    }

    /// Those who wait for it.
    pub(super) fn waiting_for_rate(&self) -> Vec<Key> {
        let keys = self.connections.iter().map(|(key, _)| key);
        keys.filter(|key| self.rates.wheel.is_scheduled(key.index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn rates(change: impl FnOnce(&mut Limits)) -> Rates {
        let mut limits = Limits::default();
        change(&mut limits);
        Rates::new(&limits)
    }

    #[test]
    fn nothing_is_kept_while_nothing_is_limited() {
        let mut rates = rates(|_| ());
        rates.set_due(7, Due { message_ns: 1, byte_ns: 1 });
        assert!(rates.due.is_empty() && rates.next_tick().is_none());
        assert_eq!(rates.units_most(7, 0), u32::MAX);
    }

    #[test]
    fn a_seconds_worth_may_come_at_once_and_what_is_begun_is_owed() {
        let mut rates = rates(|limits| limits.byte_rate = Some(2048));
        assert_eq!(rates.units_most(0, SECOND_NS), 2048);
        assert_eq!(rates.charge(0, SECOND_NS, 1, 4096), None, "it is not to be closed");
        assert_eq!(rates.units_most(0, 2 * SECOND_NS), 0);
        assert_eq!(rates.units_most(0, 2 * SECOND_NS + SECOND_NS / 2), 1024);
        rates.wait(0);
        assert_eq!(rates.next_tick(), Some(21), "the first tick with some left");
    }

    #[test]
    fn whoever_is_to_be_closed_is_so_for_the_first_in_excess() {
        let mut rates = rates(|limits| {
            limits.message_rate = Some(2);
            limits.on_rate = OnRate::Close;
        });
        assert_eq!(rates.charge(0, 0, 2, 99), None);
        assert!(rates.units_most(0, 0) > 0);
        let reason = rates.charge(0, 0, 1, 9);
        assert_eq!(reason.as_deref(), Some("more than 2 messages per second"));
    }

    /// Thirty do not divide a second, and the thirtieth was too much.
    #[test]
    fn nobody_is_closed_for_a_seconds_worth() {
        for per_second in [3, 7, 30, 999] {
            let mut rates = rates(|limits| {
                limits.message_rate = Some(per_second);
                limits.on_rate = OnRate::Close;
            });
            for number in 0..per_second {
                assert_eq!(rates.charge(0, 0, 1, 9), None, "{number} of {per_second}");
            }
            assert!(rates.charge(0, 0, 1, 9).is_some(), "one more than {per_second}");
        }
    }

    #[test]
    fn what_was_sent_counts_on_at_another_rate() {
        let mut rates = rates(|limits| limits.message_rate = Some(10));
        rates.charge(0, 0, 10, 0);
        rates.set_limits(&Limits { message_rate: Some(100), ..Limits::default() });
        assert_eq!(rates.units_most(0, SECOND_NS / 2), 50 * MESSAGE_BYTES_LEAST - 1);
        rates.set_limits(&Limits::default());
        assert!(rates.due.is_empty());
    }
}
