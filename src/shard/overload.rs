//! Too much to do: a shard that does not come to rest for lack of time, and what it leaves undone
//! then, so that those who are connected are served as before.
//!
//! The signal is the standing delay: how long what arrives waits at the least before the event loop
//! takes it up. A loop that has slept within the last 100 ms had nothing to do at that moment, so
//! nothing stands. One that has not takes up with each tick what arrived during the tick before,
//! and the shortest of these ticks is the delay (after CoDel, RFC 8289 section 4). A burst passes;
//! what stands does not.
//!
//! | level | what is left undone |
//! |---|---|
//! | 1 | requests, beyond a few in each tick: handshakes take turns |
//! | 2 | upgrades, which are answered 503 with `Retry-After` |
//! | 3 | accepting: whoever connects waits in the kernel; with `--shed-idle` idle ones are closed |
//!
//! Each window with too much delay is a level up, and a few calm ones are a level down.

use std::collections::VecDeque;
use std::time::Duration;

use super::ending::Ending;
use super::pause::WaitsFor;
use super::receive::SHARE_MOST;
use super::ticks_in;
use super::{RunState, Shard};
use crate::http::Serving;
use crate::io::{Io, Key};
use crate::memory::Pressure;
use crate::wire::close::CloseCode;

/// How much a shard has to leave undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Requests beyond a few in each tick.
    FewRequests,
    /// Upgrades.
    NoUpgrades,
    /// Accepting.
    NoAccepts,
}

impl Level {
    fn up(self) -> Self {
        match self {
            Self::None => Self::FewRequests,
            Self::FewRequests => Self::NoUpgrades,
            Self::NoUpgrades | Self::NoAccepts => Self::NoAccepts,
        }
    }

    fn down(self) -> Self {
        match self {
            Self::None | Self::FewRequests => Self::None,
            Self::NoUpgrades => Self::FewRequests,
            Self::NoAccepts => Self::NoUpgrades,
        }
    }
}

/// The delay that stands, measured from tick to tick.
#[derive(Debug, Default)]
struct StandingDelay {
    window_began: Duration,
    last_tick: Duration,
    ticks: u32,
    least: Option<Duration>,
}

impl StandingDelay {
    /// A tick begins. At the end of a window tells what stood in it: nothing if the thread
    /// `has_slept` since it was last asked, or was away for most of it: one long tick is no queue.
    fn tick(&mut self, now: Duration, has_slept: impl FnOnce() -> bool) -> Option<Duration> {
        let since_last = now.saturating_sub(self.last_tick);
        self.last_tick = now;
        let least = self.least.map_or(since_last, |least| least.min(since_last));
        self.least = Some(least);
        self.ticks += 1;
        if now.saturating_sub(self.window_began) < WINDOW {
            return None;
        }
        self.window_began = now;
        self.least = None;
        let ticks = std::mem::take(&mut self.ticks);
        let stands = !has_slept() && ticks >= TICKS_LEAST;
        Some(if stands { least } else { Duration::ZERO })
    }
}

/// What a shard knows of its load.
#[derive(Debug, Default)]
pub(super) struct Overload {
    delay: StandingDelay,
    level: Level,
    calm_windows: u32,
    /// Requests that may still be taken up in this tick.
    requests_left: usize,
    /// What may still be spent on tokens in this tick, in units of a budget.
    token_units_left: usize,
    /// Connections whose requests wait.
    waiting: VecDeque<Key>,
    /// The place to go on with when idle connections are looked for.
    next_place: usize,
}

impl Overload {
    /// How much is left undone.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Whether ticks must go on although nothing happens, so that the level comes down.
    pub(super) fn is_active(&self) -> bool {
        self.level > Level::None
    }

    /// Those whose requests wait.
    pub(super) fn waiting(&self) -> Vec<Key> {
        self.waiting.iter().copied().collect()
    }

    /// Whether requests wait to be taken up.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes note of what tokens have cost.
    pub(super) fn spend_on_tokens(&mut self, units: usize) {
        self.token_units_left = self.token_units_left.saturating_sub(units);
    }

    /// Whether no request may be taken up in this tick any more: a crowd that comes at once, with
    /// tokens to be verified, must not hold up those who are connected.
    fn has_done_enough(&self) -> bool {
        self.token_units_left == 0 || self.is_active() && self.requests_left == 0
    }

    /// A window is over in which this delay stood.
    fn note(&mut self, standing: Duration) {
        if standing > DELAY_MOST {
            self.calm_windows = 0;
            self.level = self.level.up();
        } else if standing > DELAY_CALM {
            self.calm_windows = 0;
        } else {
            self.calm_windows += 1;
            // Those who wait are let in before all others are.
            let may_end = self.level > Level::FewRequests || self.waiting.is_empty();
            if self.calm_windows >= CALM_WINDOWS && may_end {
                self.calm_windows = 0;
                self.level = self.level.down();
            }
        }
    }
}

impl<I: Io> Shard<I> {
    /// Measures the delay, and leaves undone what it asks for.
    pub(super) fn heed_load(&mut self) {
        let (now, io) = (self.attendance.returned, &mut self.io);
        self.overload.requests_left = REQUESTS_PER_TICK;
        self.overload.token_units_left = TOKEN_UNITS_PER_TICK;
        let Some(standing) = self.overload.delay.tick(now, || io.has_slept()) else { return };
        let is_shedding = self.effective.config.limits.shed;
        let before = self.overload.level;
        match is_shedding {
            true => self.overload.note(standing),
            false => self.overload.level = Level::None,
        }
        let level = self.overload.level;
        let stats = self.stats();
        stats.standing_delay_us.set(standing.as_micros() as u64);
        stats.overload_level.set(level as u64);
        if level == Level::NoAccepts {
            if before != level {
                stats.accepting_paused.add(1);
                self.cancel_accepts();
            }
            self.close_idle();
        } else if before == Level::NoAccepts {
            self.accept_again();
        }
    }

    /// What upgrades are met with now.
    pub(super) fn serving(&self) -> Serving {
        let limit = self.effective.config.limits.connections;
        if self.run_state != RunState::Serving && !self.has_successor {
            Serving::Draining
        } else if self.shared.is_full(self.number) || self.shared.has_reached(limit) {
            Serving::Full
        } else if self.memory_signal.pressure() >= Pressure::Refuse {
            Serving::ShortOfMemory
        } else if self.overload.level() >= Level::NoUpgrades {
            Serving::Overloaded
        } else {
            Serving::Open
        }
    }

    /// Whether a request may be taken up in this tick; if so, it is one of the few.
    pub(super) fn may_take_request(&mut self) -> bool {
        let overload = &mut self.overload;
        let may = !overload.has_done_enough() && overload.waiting.is_empty();
        overload.requests_left -= usize::from(may && overload.is_active());
        may
    }

    /// A request waits until those before it have been taken up.
    pub(super) fn await_request_turn(&mut self, key: Key) {
        self.overload.waiting.push_back(key);
        self.stats().requests_deferred.add(1);
    }

    /// Lets requests be taken up, in the order in which they came, as many as a tick takes.
    pub(super) fn resume_requests(&mut self) {
        let mut line = std::mem::take(&mut self.overload.waiting);
        while !self.overload.has_done_enough()
            && let Some(key) = line.pop_front()
        {
            self.resume_if(key, WaitsFor::Request, SHARE_MOST);
        }
        // Whoever has to wait anew waits behind those who have waited longer.
        line.append(&mut self.overload.waiting);
        self.overload.waiting = line;
    }

    /// Closes some of those to and from whom no message has gone for the time of `--shed-idle`.
    fn close_idle(&mut self) {
        let Some(timeout) = self.effective.config.limits.shed_idle.map(ticks_in) else { return };
        let places = self.connections.places();
        let mut closed = 0;
        for _ in 0..places.min(LOOKED_AT_MOST) {
            if closed == CLOSED_MOST {
                return;
            }
            let place = self.overload.next_place % places;
            self.overload.next_place = place + 1;
            let Some((key, connection)) = self.connections.at(place as u32) else { continue };
            let silence = self.wanted.silence(key.index, self.served);
            let is_idle = connection.stage.is_open_websocket()
                && connection.ending == Ending::Open
                && !connection.is_held_up()
                && !connection.has_output()
                && silence >= timeout;
            if is_idle {
                closed += 1;
                self.stats().idle_connections_shed.add(1);
                self.close(key, CloseCode::TRY_AGAIN_LATER, "server is overloaded");
                self.settle(key);
            }
        }
    }
}

/// For so long at the least a delay is looked for that stands (RFC 8289 section 4.2).
const WINDOW: Duration = Duration::from_millis(100);
/// Ticks of a window from which something can be told.
const TICKS_LEAST: u32 = 3;
/// What may stand: the target of CoDel, beyond which those who are connected notice.
const DELAY_MOST: Duration = Duration::from_millis(5);
/// What lets the level come down.
const DELAY_CALM: Duration = Duration::from_micros(2500);
/// Calm windows for each level down: recovery from the highest takes a second.
const CALM_WINDOWS: u32 = 3;
/// Requests that are taken up in a tick of a shard with too much to do: about a millisecond. Few in
/// debug builds, so that tests see some wait.
const REQUESTS_PER_TICK: usize = if cfg!(debug_assertions) { 2 } else { 32 };
/// What is spent on tokens in a tick before other requests wait, in units of a budget: about a
/// millisecond. Little in debug builds, so that tests see some wait.
const TOKEN_UNITS_PER_TICK: usize = if cfg!(debug_assertions) { 1 } else { 4 << 20 };
/// Connections that are looked at in a window to find idle ones, and the most that are closed.
const LOOKED_AT_MOST: usize = 4096;
const CLOSED_MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Ticks of one length until a window is over.
    fn window(delay: &mut StandingDelay, length: Duration, has_slept: bool) -> Duration {
        loop {
            let now = delay.last_tick + length;
            if let Some(standing) = delay.tick(now, || has_slept) {
                return standing;
            }
        }
    }

    #[test]
    fn the_shortest_tick_stands_unless_the_thread_has_slept() {
        let mut delay = StandingDelay::default();
        assert_eq!(window(&mut delay, 7 * MILLISECOND, false), 7 * MILLISECOND);
        assert_eq!(window(&mut delay, 7 * MILLISECOND, true), Duration::ZERO);
        assert_eq!(window(&mut delay, MILLISECOND, false), MILLISECOND);
        assert_eq!(window(&mut delay, 30 * MILLISECOND, false), 30 * MILLISECOND);
        assert_eq!(window(&mut delay, 300 * MILLISECOND, false), Duration::ZERO, "one tick");
        // One short tick among long ones.
        assert_eq!(delay.tick(delay.last_tick + MILLISECOND, || false), None);
        assert_eq!(window(&mut delay, 30 * MILLISECOND, false), MILLISECOND);
    }

    #[test]
    fn levels_go_up_with_each_bad_window_and_down_with_some_calm_ones() {
        let mut overload = Overload::default();
        let mut levels = Vec::new();
        for standing in [6, 6, 6, 6, 4, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0] {
            overload.note(standing * MILLISECOND);
            levels.push(overload.level as u8);
        }
        assert_eq!(levels, [1, 2, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 0]);
    }

    #[test]
    fn the_last_level_stays_while_requests_wait() {
        let mut overload = Overload { level: Level::FewRequests, ..Overload::default() };
        overload.waiting.push_back(Key { index: 0, generation: 0 });
        (0..10).for_each(|_| overload.note(Duration::ZERO));
        assert_eq!(overload.level, Level::FewRequests);
        overload.waiting.clear();
        overload.note(Duration::ZERO);
        assert_eq!(overload.level, Level::None);
    }
}
