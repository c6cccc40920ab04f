//! The settings that hold at the moment, for all threads: each takes them once when they change,
//! and reads its own copy on the path of a message.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Shard;
use super::ending::Ending;
use super::times::Times;
use crate::admission;
use crate::config::Config;
use crate::http::Policy;
use crate::identity::Trust;
use crate::io::Io;
use crate::realtime::channels::Channels;
use crate::tls::Certificates;

/// One whole set of settings; what hangs together changes together.
#[derive(Debug)]
pub struct Effective {
    /// How many sets there were before.
    pub number: u32,
    /// Every setting.
    pub config: Config,
    /// Those that decide about requests, as requests are compared with them.
    pub policy: Policy,
    /// Those that decide who may connect.
    pub admission: admission::Rules,
    /// Those of channels, by their names.
    pub channels: Channels,
    /// What decides about tokens, as the files had it that the settings name.
    pub trust: Trust,
    /// What TLS listeners need, where there are some.
    pub certificates: Option<Arc<Certificates>>,
}

impl Effective {
    fn new(
        number: u32,
        config: Config,
        trust: Trust,
        certificates: Option<Arc<Certificates>>,
    ) -> Self {
        let policy = Policy::new(&config);
        let admission = admission::Rules::new(&config);
        let channels = Channels::new(&config.realtime);
        Self { number, config, policy, admission, channels, trust, certificates }
    }
}

/// The set that is in force.
#[derive(Debug)]
pub struct InForce {
    /// The number of `current`, to be looked at without the lock.
    number: AtomicU32,
    current: Mutex<Arc<Effective>>,
}

impl InForce {
    /// The settings at the start, with what they name.
    pub fn new(config: Config, trust: Trust, certificates: Option<Arc<Certificates>>) -> Self {
        let current = Mutex::new(Arc::new(Effective::new(0, config, trust, certificates)));
        Self { number: AtomicU32::new(0), current }
    }

    /// The set that is in force.
    pub fn current(&self) -> Arc<Effective> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether another set than `known` is in force.
    #[inline]
    pub fn is_newer_than(&self, known: &Effective) -> bool {
        // Relaxed: whoever sees the number takes the lock under which it was stored.
        self.number.load(Ordering::Relaxed) != known.number
    }

    /// Puts `config` and what it names in force. Whoever sleeps has to be woken to take it.
    pub fn replace(&self, config: Config, trust: Trust, certificates: Option<Arc<Certificates>>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let number = current.number.wrapping_add(1);
        *current = Arc::new(Effective::new(number, config, trust, certificates));
        // Relaxed: see `is_newer_than`.
        self.number.store(number, Ordering::Relaxed);
    }
}

impl<I: Io> Shard<I> {
    /// Takes new settings when there are some. Limits hold at the next occasion of each connection;
    /// the deadlines of all are set anew, some in each tick.
    pub(super) fn heed_settings(&mut self) {
        if self.shared.in_force.is_newer_than(&self.effective) {
            let told_addresses = self.effective.admission.needs_addresses();
            self.effective = self.shared.in_force.current();
            if self.effective.admission.needs_addresses() != told_addresses {
                // They tell addresses from now on, or do not any more.
                self.cancel_accepts();
            }
            let config = &self.effective.config;
            self.times = Times::new(config);
            self.wanted.set_limits(&config.limits);
            self.rates.set_limits(&config.limits);
            self.codec.get_mut().set_message_bytes_max(config.limits.message_bytes);
            self.measures.heed(config, self.attendance.returned);
            // It goes on from where it is, and round: whoever changes settings all the time must
            // not keep it at the beginning.
            let next = self.to_reschedule.map_or(0, |(next, _)| next);
            self.to_reschedule = Some((next, self.connections.places() as u32));
        }
        if let Some((next, left)) = self.to_reschedule {
            self.reschedule_from(next, left);
        }
    }

    fn reschedule_from(&mut self, mut next: u32, left: u32) {
        let now = left.min(RESCHEDULED_PER_TICK);
        for _ in 0..now {
            let index = next;
            next = if next + 1 < self.connections.places() as u32 { next + 1 } else { 0 };
            let Some((key, connection)) = self.connections.at(index) else { continue };
            if connection.stage.is_open() && connection.ending == Ending::Open {
                self.wanted.note_first(index, self.served);
                // What it has waited for may be another rate now.
                self.leave_topic_line(index);
                self.end_wait_for_rate(key);
                self.schedule_open(key);
                self.close_if_revoked(key);
                self.keep_to_user_limit(key);
            }
        }
        self.to_reschedule = (left > now).then_some((next, left - now));
    }
}

/// Deadlines that are set anew in one tick after a change of settings: some tens of microseconds.
/// Few in debug builds, so that tests see it take several.
const RESCHEDULED_PER_TICK: u32 = if cfg!(debug_assertions) { 2 } else { 1024 };
