//! One event loop: a thread's connections, timers and topics over one [`Io`].
//!
//! > Each tick takes all completions, acts on every one, delivers what was published, sends what
//! > was queued, moves the clock, and submits once. Nothing here calls back from a completion.
//!
//! The loop knows no socket and reads no clock, so tests run it unchanged on a simulated kernel.

pub mod connections;
mod deliver;
mod drain;
mod lifecycle;
pub mod outbox;
mod receive;
mod send;
mod shed;
pub mod timers;
mod trim;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use connections::{Connections, Flags};
use lifecycle::Lifetimes;
use timers::{TICK_MS, Tick, Wheel};
use trim::Trim;

use crate::config::Config;
use crate::http::{Policy, Serving};
use crate::hub::Message;
use crate::hub::mesh::Endpoint;
use crate::hub::topics::{Publication, Topics};
use crate::io::{Event, Io, Key};
use crate::memory::{Memory, Pressure, Signal};
use crate::session::{Output, Rules};
use crate::stats::{ShardStats, Stats};
use crate::wire::deflate::codec::{self, Codec};

/// What all shards of a process share.
pub struct Shared {
    /// The effective configuration.
    pub config: Config,
    /// Decisions about requests.
    pub policy: Policy,
    /// All counters.
    pub stats: Stats,
    /// How short memory is.
    pub memory: Memory,
    /// Slots of each shard's table of registered files.
    pub slots: u32,
}

impl Shared {
    /// Connections that one shard serves: all slots but those kept free to refuse the others.
    pub fn capacity(&self) -> usize {
        self.slots.saturating_sub(slots_for_refusals(self.slots)) as usize
    }

    /// All counters and the state of memory, as JSON.
    pub fn report(&self) -> serde_json::Value {
        let mut report = self.stats.to_json();
        report["memory"] = self.memory.to_json();
        report
    }
}

/// Slots that serve only to tell peers "503" when all others are taken.
fn slots_for_refusals(slots: u32) -> u32 {
    (slots / 8).min(64)
}

/// How far the end of the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    Draining {
        deadline: Tick,
    },
    /// No WebSocket is left, or none may stay: accepting ends, and so does every connection.
    Ending,
    Stopped,
}

/// One event loop.
pub struct Shard<I: Io> {
    io: I,
    number: usize,
    listeners: u32,
    shared: Arc<Shared>,
    endpoint: Endpoint<Message>,
    connections: Connections,
    wheel: Wheel,
    lifetimes: Lifetimes,
    topics: Topics,
    /// Compresses and inflates for all connections that keep nothing between messages.
    codec: RefCell<Codec>,
    stage: Stage,
    now: Tick,
    /// Connections with something to send.
    dirty: Vec<u32>,
    /// Connections whose receive found no buffer.
    starved: Vec<Key>,
    /// Connections that wait for room in the broadcast ring, or for memory.
    waiting: Vec<Key>,
    /// Publications that the full ring has not taken yet.
    overflow: VecDeque<Publication>,
    /// Listeners to accept on again when a slot is free.
    listeners_waiting: Vec<u32>,
    /// When to do so at the latest.
    accept_again_at: Tick,
    /// What this shard was last told about memory.
    memory_signal: Signal,
    /// Whether nothing is taken from WebSockets: memory is short, and some hold much of it.
    is_short_of_memory: bool,
    trim: Trim,
    /// Scratch, kept for its capacity.
    output: Output,
    expired: Vec<u32>,
}

impl<I: Io> Shard<I> {
    /// A shard that accepts on `listeners` listeners of its `io`.
    pub fn new(
        mut io: I,
        number: usize,
        listeners: u32,
        endpoint: Endpoint<Message>,
        shared: Arc<Shared>,
    ) -> Self {
        for listener in 0..listeners {
            io.accept(listener);
        }
        let slots = shared.slots as usize;
        Self {
            io,
            number,
            listeners,
            endpoint,
            connections: Connections::new(slots),
            wheel: Wheel::new(slots),
            lifetimes: Lifetimes::default(),
            topics: Topics::default(),
            codec: RefCell::new(codec(&shared.config)),
            stage: Stage::Serving,
            now: 0,
            dirty: Vec::new(),
            starved: Vec::new(),
            waiting: Vec::new(),
            overflow: VecDeque::new(),
            listeners_waiting: Vec::new(),
            accept_again_at: 0,
            memory_signal: Signal::default(),
            is_short_of_memory: false,
            trim: Trim::new(number),
            output: Output::default(),
            expired: Vec::new(),
            shared,
        }
    }

    /// Runs until drained; `clock` tells the time since the shard's start.
    ///
    /// # Errors
    /// When the kernel refuses to go on.
    pub fn run(mut self, clock: impl Fn() -> Duration) -> std::io::Result<()> {
        loop {
            self.submit(clock())?;
            if !self.turn(clock()) {
                return self.leave();
            }
        }
    }

    /// The first half of a tick: starts what the last one queued, and waits for completions, a
    /// wake-up or a deadline.
    ///
    /// # Errors
    /// When the kernel refuses to go on.
    pub fn submit(&mut self, now: Duration) -> std::io::Result<()> {
        let wait = self.wait(now);
        self.io.submit(wait)
    }

    /// The second half: acts on everything that has happened; false when there is nothing left to
    /// do.
    pub fn turn(&mut self, now: Duration) -> bool {
        self.endpoint.awake();
        self.now = tick_of(now);
        self.heed_memory();
        let mut completions = 0;
        self.feed_starved();
        while let Some(event) = self.io.next_event() {
            completions += 1;
            self.handle(event);
        }
        self.handle_messages();
        self.resume_waiting();
        self.advance_timers();
        self.deliver();
        self.flush();
        for participant in self.endpoint.take_wakeups() {
            self.shared.stats.shard(self.number).wakes.add(1);
            self.io.wake(participant);
        }
        self.trim_when_due();
        self.count_compression();
        self.stats().ticks.add(1);
        self.stats().completions.add(completions);
        self.stage != Stage::Stopped
    }

    /// Leaves the mesh and wakes those who wait for it.
    ///
    /// # Errors
    /// When the kernel refuses to go on.
    pub fn leave(mut self) -> std::io::Result<()> {
        for participant in self.endpoint.leave() {
            self.io.wake(participant);
        }
        self.io.submit(Some(Duration::ZERO))
    }

    /// The counters of this shard.
    pub fn stats(&self) -> &ShardStats {
        self.shared.stats.shard(self.number)
    }

    /// The connections that hold a slot.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The simulated or real kernel below.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }

    /// How long the next submit may wait for a completion.
    fn wait(&mut self, now: Duration) -> Option<Duration> {
        let must_look_again = !self.starved.is_empty();
        if must_look_again || !self.endpoint.prepare_sleep() {
            return Some(Duration::ZERO);
        }
        let looks_each_tick = !self.listeners_waiting.is_empty() || self.stage != Stage::Serving;
        let next = match looks_each_tick {
            true => Some(self.now + 1),
            false => [self.wheel.next_tick(), self.trim.due()].into_iter().flatten().min(),
        };
        let until = Duration::from_millis(u64::from(next?) * TICK_MS);
        // Never zero: the deadline is a tick ahead, and a wait of nothing would spin until then.
        Some(until.saturating_sub(now).max(Duration::from_millis(1)))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Accepted { listener, result, more } => self.accepted(listener, result, more),
            Event::Received { key, result, more } => self.received(key, result, more),
            Event::Readable { key } => self.readable(key),
            Event::Sent { key, result, outgoing } => self.sent(key, result, outgoing),
            Event::Finished { key } => self.request_ended(key, Flags::ENDING_STREAM),
            Event::ShutDown { key } => self.request_ended(key, Flags::SHUTTING_DOWN),
            Event::ResetArmed { key } => self.request_ended(key, Flags::ARMING_RESET),
            Event::Closed { key } => self.slot_closed(key),
            Event::Woken => {}
        }
    }

    fn handle_messages(&mut self) {
        let mut drain = false;
        let topics = &mut self.topics;
        self.endpoint.drain(MESSAGES_PER_TICK, |_, message| match message {
            Message::Publish(publication) => topics.receive(publication),
            Message::Drain => drain = true,
        });
        if drain {
            self.begin_drain();
        }
    }

    fn count_compression(&mut self) {
        let codec = self.codec.get_mut();
        let counts = (std::mem::take(&mut codec.compressed), std::mem::take(&mut codec.inflated));
        self.stats().compressions.add(counts.0);
        self.stats().inflations.add(counts.1);
    }

    fn serving(&self) -> Serving {
        let limit = self.shared.config.limits.connections;
        let own = self.stats().websockets_open.value();
        if self.stage != Stage::Serving {
            Serving::Draining
        } else if own >= self.shared.capacity() as u64
            || limit.is_some_and(|limit| self.shared.stats.websockets_open() >= limit as u64)
        {
            Serving::Full
        } else if self.memory_signal.pressure() >= Pressure::Refuse {
            Serving::ShortOfMemory
        } else {
            Serving::Open
        }
    }
}

fn codec(config: &Config) -> Codec {
    Codec::new(codec::Settings {
        level: config.compression.level,
        threshold_bytes: config.compression.threshold_bytes,
        message_bytes_max: config.limits.message_bytes,
    })
}

/// Calls `receive` with the rules that hold for this shard now.
fn with_rules<R>(
    shared: &Shared,
    codec: &RefCell<Codec>,
    serving: Serving,
    now: Tick,
    may_begin: bool,
    receive: impl FnOnce(&Rules<'_>) -> R,
) -> R {
    receive(&Rules {
        limits: &shared.config.limits,
        message_types: shared.config.message_types,
        policy: &shared.policy,
        serving,
        stats: &|| shared.report().to_string(),
        now_s: (u64::from(now) * TICK_MS / 1000) as u16,
        codec,
        may_begin,
    })
}

/// The tick that `time` lies in.
fn tick_of(time: Duration) -> Tick {
    (time.as_millis() / u128::from(TICK_MS)) as Tick
}

/// Ticks that cover `duration`, at least one.
fn ticks_in(duration: Duration) -> Tick {
    duration.as_millis().div_ceil(u128::from(TICK_MS)).clamp(1, u128::from(Tick::MAX / 2)) as Tick
}

/// Messages taken from each other shard in one tick, so that none starves this shard's own peers.
const MESSAGES_PER_TICK: usize = 256;
