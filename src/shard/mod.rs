//! One event loop: a thread's connections, timers and topics over one [`Io`].
//!
//! > Each tick takes all completions, acts on every one and on the deadlines that have passed,
//! > delivers what was published, sends what was queued, and submits once. Nothing here calls back
//! > from a completion.
//!
//! The loop knows no socket and reads no clock, so tests run it unchanged on a simulated kernel.

mod attendance;
mod balance;
mod by_index;
pub mod connections;
mod deadlines;
mod deliver;
mod drain;
pub mod ending;
pub mod in_force;
pub mod inquiries;
mod ledger;
mod lifecycle;
mod line;
pub mod mail;
mod measure;
pub mod moves;
pub mod orders;
pub mod outbox;
pub mod overload;
pub mod pause;
mod peers;
pub mod pending;
mod pending_input;
mod plain;
mod publish;
mod rates;
mod receive;
mod release;
pub mod requests;
mod secure;
mod send;
mod sessions;
mod shed;
mod sockjs;
mod streams;
pub mod timers;
mod times;
mod topic_rate;
mod trim;

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use attendance::Attendance;
use balance::Balance;
use connections::Connections;
use deliver::Generation;
use in_force::{Effective, InForce};
use inquiries::Inquiries;
use ledger::Ledger;
use line::Line;
use mail::Letter;
use measure::Measures;
use moves::Moves;
use orders::Orders;
use overload::Overload;
use peers::Peers;
use pending_input::PendingInput;
use rates::Rates;
use requests::Requests;
use secure::Secured;
use sessions::Sessions;
pub use sessions::{ChannelStates, HOOKS_MOST, Handing, Heirs, HookCall};
use sockjs::SockJsSessions;
use timers::{TICK_MS, Tick, Wheel};
use times::{Lifetimes, Times, Wanted};
use trim::Trim;

use crate::admission::Admission;
use crate::config::Config;
use crate::connection::Output;
use crate::hub::Message;
use crate::hub::interest::{Interest, InterestTable};
use crate::hub::mesh::Endpoint;
use crate::hub::topics::{Publication, Topics};
use crate::io::{Event, Io, Key};
use crate::memory::{Memory, Signal};
use crate::stats::{ShardStats, Stats};
use crate::websocket::{Budget, Initiator};
use crate::wire::close::CloseCode;
use crate::wire::deflate::codec::{self, Codec};

/// What all shards of a process share.
pub struct Shared {
    /// The settings, some of which change while the server runs.
    pub in_force: InForce,
    /// Who may connect, and who is connected.
    pub admission: Admission,
    /// All counters.
    pub stats: Stats,
    /// How short memory is.
    pub memory: Memory,
    /// What is drawn by chance follows from this, such as where the homes of channels are.
    pub seed: u64,
    /// Which topics have members on which shards.
    pub interest: Arc<InterestTable>,
    /// Slots of each shard's table of registered files.
    pub slots: u32,
    /// The port at which those find TLS who are sent there.
    pub secure_port: u16,
    /// What shards begin with that a predecessor has kept.
    pub heirs: Heirs,
}

impl Shared {
    /// Connections that one shard serves: all slots but those kept free to refuse the others.
    pub fn capacity(&self) -> usize {
        self.slots.saturating_sub(slots_for_refusals(self.slots)) as usize
    }

    /// Whether so many WebSockets and streams are open in the whole process as may be, if `limit`
    /// is the most.
    pub fn has_reached(&self, limit: Option<usize>) -> bool {
        limit.is_some_and(|limit| self.stats.websockets_and_streams_open() >= limit as u64)
    }

    /// Whether one shard has so many WebSockets and streams open as it can.
    pub fn is_full(&self, shard: usize) -> bool {
        self.stats.shard(shard).websockets_and_streams_open() >= self.capacity() as u64
    }

    /// All counters and the state of memory, as JSON.
    pub fn report(&self) -> serde_json::Value {
        let mut report = self.stats.to_json();
        report["relay_lost"] = self.interest.relay().lost().into();
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
enum RunState {
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
    /// Which listener of the settings each socket that it accepts from belongs to.
    listeners: Box<[u32]>,
    shared: Arc<Shared>,
    /// The settings that this shard goes by.
    effective: Arc<Effective>,
    /// After a change of settings: the place of the connection that meets them next, and how many
    /// more are to.
    to_reschedule: Option<(u32, u32)>,
    endpoint: Endpoint<Message, Letter>,
    connections: Connections,
    wheel: Wheel,
    /// Connections whose deadlines have passed and that have not been looked at yet.
    expired: VecDeque<u32>,
    times: Times,
    lifetimes: Lifetimes,
    wanted: Wanted,
    rates: Rates,
    peers: Peers,
    secured: Secured,
    sessions: Sessions,
    sockjs: SockJsSessions,
    topics: Topics,
    generation: Generation,
    /// Compresses and inflates for all connections that keep nothing between messages.
    codec: RefCell<Codec>,
    run_state: RunState,
    /// Whether another server goes on with the listeners, and this one accepts nothing any more.
    has_successor: bool,
    now: Tick,
    /// The same without the time in which this shard did not come round to its peers.
    served: Tick,
    attendance: Attendance,
    /// What is left of this tick for WebSockets.
    turn: Budget,
    /// What was received from connections that pause.
    pending_input: PendingInput,
    /// Connections with something to send.
    dirty: Vec<u32>,
    /// Connections whose receive found no buffer.
    starved: Line,
    /// Those whose receives were started again in the last tick.
    granted: Vec<Key>,
    /// Connections that wait for room in the broadcast ring.
    waiting_for_ring: Line,
    /// Connections that wait for memory.
    waiting_for_memory: Vec<Key>,
    /// Connections that have had their share of a tick.
    waiting_for_turn: Line,
    /// How many of them wait for the sake of a topic that is full on another shard.
    held_back: usize,
    /// What peers that are being closed had not taken when last asked, by their index.
    unread: HashMap<u32, u32>,
    /// Plain HTTP connections that were kept for another request, by the time of that; some have
    /// ended since.
    kept_alive: VecDeque<Key>,
    /// Publications that the full ring has not taken yet.
    overflow: VecDeque<Publication>,
    /// Accepts that are under way on each listener.
    accepts: Vec<u32>,
    /// Listeners to accept on again when a slot is free.
    listeners_waiting: Vec<u32>,
    /// When to do so at the latest.
    accept_again_at: Tick,
    /// What this shard was last told about memory.
    memory_signal: Signal,
    /// Whether nothing is taken from WebSockets: memory is short, and some hold much of it.
    is_short_of_memory: bool,
    moves: Moves,
    orders: Orders,
    inquiries: Inquiries,
    balance: Balance,
    overload: Overload,
    trim: Trim,
    ledger: Ledger,
    measures: Measures,
    /// Scratch, kept for its capacity.
    output: Output,
}

impl<I: Io> Shard<I> {
    /// A shard that accepts on the sockets of its `io`, each of which belongs to one of the
    /// `listeners` of the settings.
    pub fn new(
        io: I,
        number: usize,
        listeners: Box<[u32]>,
        endpoint: Endpoint<Message, Letter>,
        shared: Arc<Shared>,
    ) -> Self {
        let (slots, accepts) = (shared.slots as usize, vec![0; listeners.len()]);
        let effective = shared.in_force.current();
        let config = &effective.config;
        let mut shard = Self {
            io,
            number,
            listeners,
            endpoint,
            connections: Connections::new(slots),
            wheel: Wheel::new(slots),
            times: Times::new(config),
            lifetimes: Lifetimes::default(),
            wanted: Wanted::new(&config.limits),
            rates: Rates::new(&config.limits),
            peers: Peers::new(number),
            secured: Secured::default(),
            sessions: Sessions::new(number, &shared, config),
            sockjs: SockJsSessions::new(shared.slots),
            topics: Topics::new(Interest::new(shared.interest.clone())),
            generation: Generation::default(),
            codec: RefCell::new(codec(config)),
            run_state: RunState::Serving,
            has_successor: false,
            now: 0,
            served: 0,
            attendance: Attendance::default(),
            turn: Budget::new(TURN),
            pending_input: PendingInput::default(),
            dirty: Vec::new(),
            starved: Line::default(),
            granted: Vec::new(),
            waiting_for_ring: Line::default(),
            waiting_for_memory: Vec::new(),
            waiting_for_turn: Line::default(),
            held_back: 0,
            unread: HashMap::new(),
            kept_alive: VecDeque::new(),
            overflow: VecDeque::new(),
            accepts,
            listeners_waiting: Vec::new(),
            accept_again_at: 0,
            memory_signal: Signal::default(),
            is_short_of_memory: false,
            moves: Moves::new(),
            orders: Orders::default(),
            inquiries: Inquiries::default(),
            balance: Balance::default(),
            overload: Overload::default(),
            trim: Trim::new(number),
            ledger: Ledger::default(),
            measures: Measures::new(slots, config),
            output: Output::default(),
            expired: VecDeque::new(),
            to_reschedule: None,
            effective,
            shared,
        };
        (0..shard.listeners()).for_each(|listener| shard.accept(listener));
        shard
    }

    /// Runs until drained; `clock` tells the time since the start, which is one for all shards.
    ///
    /// # Errors
    /// When the kernel refuses to go on.
    pub fn run(mut self, clock: impl Fn() -> Duration) -> std::io::Result<()> {
        loop {
            if let Err(error) = self.submit(clock()) {
                self.fail();
                return Err(error);
            }
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
        self.measure_tick(now);
        let wait = self.wait(now);
        self.attendance.leaves(now, wait);
        self.io.submit(wait)
    }

    /// The second half: acts on everything that has happened; false when there is nothing left to
    /// do.
    pub fn turn(&mut self, now: Duration) -> bool {
        self.endpoint.awake();
        self.now = tick_of(now);
        self.served = tick_of(now.saturating_sub(self.attendance.returns(now)));
        self.turn = Budget::new(TURN);
        self.begin_to_measure();
        self.heed_memory();
        self.heed_settings();
        self.heed_load();
        self.resume_handshakes();
        let mut completions = 0;
        while let Some(event) = self.io.next_event() {
            completions += 1;
            self.handle(event);
        }
        self.feed_starved();
        self.resume_for_rate();
        self.resume_requests();
        self.resume_whose_turn_it_is();
        self.resume_for_ring();
        self.handle_messages();
        self.handle_mail();
        self.go_on_with_inquiries();
        self.go_on_with_sessions();
        self.go_on_with_sockjs();
        self.continue_arriving();
        self.continue_leaving();
        self.follow_orders();
        self.close_unseated();
        self.keep_within_limit();
        self.advance_timers();
        self.deliver();
        self.serve_ready_sessions();
        self.flush();
        for participant in self.endpoint.take_wakeups() {
            self.shared.stats.shard(self.number).wakes.add(1);
            self.io.wake(participant);
        }
        self.balance();
        self.trim_when_due();
        self.count_compression();
        self.look_at_backlogs();
        self.stats().ticks.add(1);
        self.stats().completions.add(completions);
        self.run_state != RunState::Stopped
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

    /// The kernel refuses to go on: the connections are lost, and no other shard may wait for what
    /// this one reads. Its ring cannot wake anybody any more, so whoever hears of the failure must
    /// wake all shards.
    fn fail(mut self) {
        self.note_failure();
        let lost = self.forget_arriving();
        let stats = self.stats();
        (0..lost).for_each(|_| stats.close(Initiator::Local, CloseCode::ABNORMAL));
        stats.clear_gauges();
        self.endpoint.leave();
    }

    /// The counters of this shard.
    pub fn stats(&self) -> &ShardStats {
        self.shared.stats.shard(self.number)
    }

    /// The connections that hold a slot.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Messages that policies kept from a subscriber; known in debug builds alone.
    pub fn dropped_messages(&self, key: Key) -> u64 {
        self.ledger.of(key)
    }

    /// The simulated or real kernel below.
    pub fn io(&mut self) -> &mut I {
        &mut self.io
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Accepted { listener, result, address, more } => {
                self.accepted(listener, result, address, more);
            }
            Event::Received { key, result, more } => self.received(key, result, more),
            Event::Readable { key } => self.readable(key),
            Event::Sent { key, result, outgoing } => self.sent(key, result, outgoing),
            Event::Finished { key } => self.request_ended(key, Requests::FINISH),
            Event::ShutDown { key } => self.request_ended(key, Requests::SHUTDOWN),
            Event::ResetArmed { key } => self.request_ended(key, Requests::RESET),
            Event::Looked { key, has_input } => self.looked(key, has_input),
            Event::Measured { key, unread_bytes } => self.measured(key, unread_bytes),
            Event::HandedOver { key, result } => self.handed_over(key, result),
            Event::Adopted { ticket, slot } => self.adopted(ticket, slot),
            Event::Closed { key } => self.slot_closed(key),
            Event::Woken => {}
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

/// The tick that `time` lies in.
fn tick_of(time: Duration) -> Tick {
    (time.as_millis() / u128::from(TICK_MS)) as Tick
}

/// Ticks after which `duration` has surely passed: one more than it takes, because what is counted
/// from began within a tick.
fn ticks_in(duration: Duration) -> Tick {
    let ticks = duration.as_millis().div_ceil(u128::from(TICK_MS)) + 1;
    ticks.min(u128::from(Tick::MAX / 2)) as Tick
}

/// Seconds of a clock that wraps, for what a WebSocket counts by the second.
fn seconds(now: Tick) -> u16 {
    (u64::from(now) * TICK_MS / 1000) as u16
}

fn ticks_of_seconds(seconds: u16) -> Tick {
    (u64::from(seconds) * 1000 / TICK_MS) as Tick
}

/// What WebSockets may do in a tick beyond the least share of each, in units of a [`Budget`]: about
/// a millisecond.
const TURN: u32 = 4 << 20;
