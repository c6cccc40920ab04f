//! What is kept of channels, on its way from one process to the next.
//!
//! It is to change in one of them at a time, and nothing that was acknowledged may be lost. So
//! first no shard asks a home any more to change something; when all have said so, each home is
//! sealed, and told part by part. From then on until it is known which process goes on, whoever
//! publishes or subscribes waits, for [`WAIT`] at the most. A successor begins like that as well.
//!
//! The wait ends by one word of the control thread: [`Handing::GoOn`], in whichever process goes on
//! with the histories. A process that has a successor learns it with the order to drain, and sends
//! there whoever wants to change something; what is kept can still be read.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::timers::Tick;
use super::super::{Shard, Shared, ticks_in};
use super::calls::{Progress, Step};
use super::commands::Outcome;
use super::home::Reserved;
use super::{home, home_of};
use crate::config::Config;
use crate::io::Io;
use crate::realtime::home::Home;
use crate::realtime::log::Part;
use crate::realtime::protocol::codes::{Disconnect, ErrorCode};

/// What a shard is to do about a hand-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handing {
    /// Nothing that is kept is changed from here any more.
    Hold,
    /// The home is sealed. All that it keeps is told, from its beginning on.
    Begin,
    /// The next of it.
    Next,
    /// The home is sealed no more, as this process goes on with what it keeps.
    Unseal,
    /// All homes are: what is kept may be changed from here again.
    GoOn,
}

/// Where histories may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Histories {
    /// In this process.
    Here,
    /// That is not known yet.
    Moving {
        /// How long those wait who want to, as soon as somebody does.
        until: Option<Tick>,
    },
    /// In another.
    Elsewhere,
}

/// What becomes of somebody who wants to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It may.
    Now,
    /// It has to wait.
    Later,
    /// It has waited for long enough.
    Never,
    /// It has to come to another process.
    Elsewhere,
}

impl Change {
    /// What becomes of a step of a call that may not change it now.
    pub(super) fn progress(self, step: Step) -> Progress {
        match self {
            Self::Now | Self::Later => Progress::Again(step),
            Self::Never | Self::Elsewhere => Progress::Done(ErrorCode::Internal.into()),
        }
    }
}

impl<I: Io> Shard<I> {
    /// Does what a hand-over demands.
    pub(in crate::shard) fn hand_over_histories(&mut self, handing: Handing) -> Part {
        let now_ms = self.clock().as_millis() as u64;
        let log = self.sessions.home.log();
        match handing {
            Handing::Hold => self.sessions.histories = Histories::Moving { until: None },
            Handing::Begin => log.seal(),
            Handing::Next => return log.next_part(TOLD_AT_ONCE, now_ms),
            Handing::Unseal => log.unseal(),
            Handing::GoOn => self.sessions.histories = Histories::Here,
        }
        Part::default()
    }

    /// Another process goes on.
    pub(in crate::shard) fn leave_histories(&mut self) {
        self.sessions.home.log().seal();
        self.sessions.histories = Histories::Elsewhere;
    }

    /// The places for a question by which a command changes what is kept of a channel; none while
    /// it has to wait.
    ///
    /// # Errors
    /// What becomes of a command that does not wait any more.
    pub(super) fn reserve_to_change(
        &mut self,
        channel: &str,
        bytes: usize,
    ) -> Result<Option<Reserved>, Outcome> {
        match self.may_change_history() {
            Change::Now => Ok(self.reserve(channel, bytes)),
            Change::Later => Ok(None),
            Change::Never => Err(Outcome::error(ErrorCode::Internal)),
            Change::Elsewhere => Err(Outcome::Disconnect(Disconnect::SHUTDOWN)),
        }
    }

    /// Whether something may be changed of what is kept of a channel.
    pub(super) fn may_change_history(&mut self) -> Change {
        let now = self.now;
        match &mut self.sessions.histories {
            Histories::Here => Change::Now,
            Histories::Elsewhere => Change::Elsewhere,
            Histories::Moving { until } => match *until.get_or_insert(now + ticks_in(WAIT)) > now {
                true => Change::Later,
                false => Change::Never,
            },
        }
    }
}

/// Homes that go on with what a predecessor has kept, until their shards begin.
#[derive(Debug, Default)]
pub struct Heirs(Mutex<HashMap<usize, Home>>);

impl Heirs {
    /// Nothing is kept yet, on any shard.
    pub fn begin(&self, seed: u64, config: &Config) {
        let homes = (0..config.engine.shards).map(|number| (number, home(number, seed, config)));
        self.homes().extend(homes);
    }

    /// Goes on with part of what was kept.
    pub fn take_part(&self, part: Part, shared: &Shared, now_ms: u64) {
        let (mut homes, shards) = (self.homes(), shared.stats.shards());
        let of = |channel: &str| home_of(channel, shared.seed, shards);
        for stream in part.streams {
            if let Some(home) = homes.get_mut(&of(&stream.channel)) {
                home.log().import(stream, now_ms);
            }
        }
        for key in part.keys {
            if let Some(home) = homes.get_mut(&of(&key.channel)) {
                home.log().import_key(&key, now_ms);
            }
        }
    }

    /// The home of a shard, which begins with it.
    pub(super) fn take(&self, number: usize) -> Option<Home> {
        self.homes().remove(&number)
    }

    fn homes(&self) -> MutexGuard<'_, HashMap<usize, Home>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long somebody waits who wants to change something, at the most: less than client libraries
/// wait for an answer.
const WAIT: Duration = Duration::from_secs(3);
/// Memory of what a home tells at once, about: a stream at least. Little in debug builds, so that
/// tests see several parts.
const TOLD_AT_ONCE: usize = if cfg!(debug_assertions) { 1 << 10 } else { 1 << 20 };
