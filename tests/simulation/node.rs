//! One shard of a world, and when it goes on.

use std::time::Duration;

use fastrand::Rng;
use ringwire::shard::Shard;

use crate::kernel::Kernel;
use crate::trace::trace;

/// One shard and when it goes on.
pub struct Node {
    /// Nothing once it has stopped.
    pub shard: Option<Shard<Kernel>>,
    state: State,
}

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There was nothing to do, and there will be nothing by itself.
    Idle,
    /// It did something, or will.
    Active,
    /// It acted on what has happened; whether it goes on.
    Turned { goes_on: bool },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Has queued requests.
    Awake,
    /// Waits for an event, or until then.
    Asleep(Option<u64>),
}

impl Node {
    pub fn new(shard: Shard<Kernel>) -> Self {
        Self { shard: Some(shard), state: State::Awake }
    }

    /// Lets the shard or its kernel go on; it may sleep on for a while unless it goes on `surely`.
    pub fn step(&mut self, now_ms: u64, surely: bool, rng: &mut Rng) -> Step {
        let now = Duration::from_millis(now_ms);
        let Some(shard) = &mut self.shard else { return Step::Idle };
        if self.state == State::Awake {
            shard.submit(now).expect("the simulated kernel never refuses");
            let wait = shard.io().wait();
            self.state = State::Asleep(wait.map(|wait| (now + wait).as_millis() as u64));
            return Step::Active;
        }
        // It may find out something that only another shard's kernel has to tell.
        let was_idle = shard.io().is_idle();
        shard.io().progress();
        let State::Asleep(until) = self.state else { return Step::Active };
        let is_due = until.is_some_and(|until| until <= now_ms);
        if !is_due && !shard.io().has_event() {
            // Whoever looks again at once waits for what other shards do.
            let is_looking = until.is_some_and(|until| until <= now_ms + LOOK_MS);
            let is_idle = !is_looking && was_idle && shard.io().is_idle();
            return if is_idle { Step::Idle } else { Step::Active };
        }
        if !surely && rng.bool() {
            return Step::Active;
        }
        trace!("{now:?}: a shard wakes");
        let goes_on = shard.turn(now);
        self.state = State::Awake;
        Step::Turned { goes_on }
    }

    /// Until when it sleeps, if it does and that is known.
    pub fn sleeps_until(&self) -> Option<u64> {
        match self.state {
            State::Asleep(until) if self.shard.is_some() => until,
            _ => None,
        }
    }
}

/// How long a shard sleeps that nobody wakes when it can go on.
const LOOK_MS: u64 = 1;
