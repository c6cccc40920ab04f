//! One thread of the load generator: a ring, its connections, and what they do.
//!
//! > Each tick takes all completions, lets the workload act, carries out what it asked for, and
//! > submits once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::arguments::Close;
use super::failure::Fault;
use super::handshake::Handshake;
use super::links::{Flags, Links, State};
use super::plan::Plan;
use super::process::{CoreShare, ThreadTime};
use super::record::Record;
use super::schedule::{Progress, Schedule, Stage};
use super::workload::Workload;
use crate::io::{Event, Io, Ring};

/// What all threads of a run share.
pub struct Shared {
    /// What to do.
    pub plan: Arc<Plan>,
    /// When to do it.
    pub schedule: Schedule,
    /// How far each thread has come.
    pub progress: Vec<Progress>,
    /// Requests and the answer to expect.
    pub handshake: Handshake,
}

/// What a thread leaves behind.
pub struct Outcome {
    /// What it measured.
    pub record: Record,
    /// Its own use of its core while it measured.
    pub own_share: Option<CoreShare>,
}

/// One thread's event loop.
pub struct Lane<W> {
    pub(super) ring: Ring,
    pub(super) links: Links,
    pub(super) workload: W,
    pub(super) shared: Arc<Shared>,
    /// The ring's numbers of the server's addresses.
    pub(super) peers: Vec<usize>,
    /// The address that took the last connection, where the next one begins.
    pub(super) address: u8,
    next_sweep_ns: u64,
    next_action_ns: Option<u64>,
    /// Connections whose receive found no buffer.
    pub(super) starved: Vec<u32>,
    own_time: ThreadTime,
    has_begun: bool,
    is_done: bool,
    pub(super) is_closing: bool,
}

impl<W: Workload> Lane<W> {
    /// A thread's event loop over `ring`.
    pub fn new(mut ring: Ring, links: Links, workload: W, shared: Arc<Shared>) -> Self {
        let addresses = shared.plan.way.addresses.iter();
        let peers = addresses.map(|address| ring.add_peer(address.clone())).collect();
        Self {
            ring,
            links,
            workload,
            shared,
            peers,
            address: 0,
            next_sweep_ns: 0,
            next_action_ns: None,
            starved: Vec::new(),
            own_time: ThreadTime::default(),
            has_begun: false,
            is_done: false,
            is_closing: false,
        }
    }

    /// Runs until the workload is done and all connections are closed.
    ///
    /// # Errors
    /// When the kernel refuses to go on.
    pub fn run(mut self) -> io::Result<Outcome> {
        let mut closing_since_ns = u64::MAX;
        loop {
            self.tick()?;
            if self.is_closing {
                closing_since_ns = closing_since_ns.min(self.links.now_ns);
                let longest_ns = self.links.timeout().as_nanos() as u64 + CLOSE_GRACE_NS;
                if self.links.occupied == 0 || self.links.now_ns >= closing_since_ns + longest_ns {
                    break;
                }
            }
        }
        Ok(Outcome { record: self.links.record, own_share: self.own_time.share() })
    }

    fn tick(&mut self) -> io::Result<()> {
        let wait = self.wait();
        self.ring.submit(wait)?;
        self.links.now_ns = self.shared.schedule.now_ns();
        self.feed_starved();
        self.follow_schedule();
        while let Some(event) = self.ring.next_event() {
            self.handle(event);
        }
        while let Some((key, result)) = self.ring.next_connected() {
            self.connected(key, result);
        }
        if self.has_begun && !self.is_done {
            self.next_action_ns = self.workload.tick(&mut self.links);
            if self.workload.is_done(&self.links) {
                self.is_done = true;
                self.own_time.follow(Stage::Finished);
                self.links.record.counters.open_at_end = self.links.open.into();
                self.workload.finish(&mut self.links);
            }
        }
        if self.is_done && !self.is_closing && self.shared.schedule.may_close() {
            self.is_closing = true;
            self.close_all();
        }
        self.sweep();
        self.carry_out();
        self.publish_progress();
        Ok(())
    }

    /// How long the next submit may wait.
    fn wait(&self) -> Option<Duration> {
        let now_ns = self.shared.schedule.now_ns();
        let can_open = !self.links.to_open.is_empty() && self.may_open();
        let is_polling = self.shared.plan.busy_poll && self.has_begun && !self.is_done;
        if !self.starved.is_empty() || can_open || is_polling {
            return Some(Duration::ZERO);
        }
        let looks_often = !self.has_begun || self.is_done || self.links.in_transit > 0;
        let longest = if looks_often { LOOK_OFTEN_NS } else { LOOK_NS };
        let mut until_ns = now_ns + longest;
        if let Some(moment) = self.links.moments.and_then(|moments| moments.next(now_ns)) {
            until_ns = until_ns.min(moment);
        }
        if let Some(action_ns) = self.next_action_ns.filter(|_| !self.is_done) {
            until_ns = until_ns.min(action_ns);
        }
        Some(Duration::from_nanos(until_ns.saturating_sub(now_ns)))
    }

    fn follow_schedule(&mut self) {
        if self.links.moments.is_none() {
            let Some(moments) = self.shared.schedule.moments() else { return };
            self.links.moments = Some(moments);
            self.links.record.start(moments);
        }
        if !self.links.is_interrupted && self.shared.schedule.is_interrupted() {
            self.links.is_interrupted = true;
            if let Some(moments) = self.shared.schedule.moments() {
                self.links.moments = Some(moments);
                self.links.record.end(moments);
            }
        }
        self.own_time.follow(self.links.stage());
        if !self.has_begun {
            self.has_begun = true;
            self.workload.begin(&mut self.links);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Received { key, result, more } => self.received(key, result, more),
            Event::Sent { key, result, outgoing } => self.sent(key, result, outgoing),
            Event::Readable { key } => self.request_ended(key, Flags::POLLING),
            Event::ShutDown { key } => self.request_ended(key, Flags::SHUTTING_DOWN),
            Event::Closed { key } => self.freed(key),
            Event::Accepted { .. }
            | Event::Finished { .. }
            | Event::ResetArmed { .. }
            | Event::Looked { .. }
            | Event::Measured { .. }
            | Event::HandedOver { .. }
            | Event::Adopted { .. }
            | Event::Woken => {}
        }
    }

    fn feed_starved(&mut self) {
        for index in std::mem::take(&mut self.starved) {
            self.adjust(index);
        }
    }

    /// Does what the workload asked for.
    fn carry_out(&mut self) {
        while let Some(index) = self.links.to_open.front().copied().filter(|_| self.may_open()) {
            self.links.to_open.pop_front();
            self.open(index);
        }
        for index in std::mem::take(&mut self.links.to_adjust) {
            self.adjust(index);
        }
        let mut dirty = std::mem::take(&mut self.links.dirty);
        for index in dirty.drain(..) {
            self.links.connections[index as usize].flags.remove(Flags::DIRTY);
            self.flush(index);
        }
        self.links.dirty = dirty;
        for index in std::mem::take(&mut self.links.to_end) {
            self.wind_up(index);
        }
        for participant in std::mem::take(&mut self.links.wakeups) {
            self.ring.wake(participant);
        }
    }

    fn may_open(&self) -> bool {
        // Many threads together must not keep a server busy for longer than it waits for a request.
        let share = (OPENING_MOST / self.links.lanes()).max(OPENING_LEAST);
        let at_once = if self.workload.opens_all_at_once() { u32::MAX } else { share };
        self.links.in_transit < at_once
    }

    /// Gives up what has not been opened or closed in time.
    fn sweep(&mut self) {
        let now_ns = self.links.now_ns;
        if self.links.in_transit == 0 || now_ns < self.next_sweep_ns {
            return;
        }
        self.next_sweep_ns = now_ns + SWEEP_NS;
        let timeout = self.links.timeout();
        for index in 0..self.links.count() {
            let connection = &self.links.connections[index as usize];
            let is_late = connection.since_ns + timeout.as_nanos() as u64 <= now_ns;
            if !connection.state.is_transit() || !is_late {
                continue;
            }
            if connection.state == State::Closing {
                self.links.record.counters.closed_otherwise += 1;
            }
            // Who answered our close frame, but leaves the stream open, has done what it must.
            let fault = Fault::TimedOut(timeout.as_millis() as u64);
            match connection.state {
                State::Connecting => self.connect_failed(index, &fault),
                _ if connection.flags.contains(Flags::CLOSE_RECEIVED) => {
                    self.links.drop_connection(index);
                }
                _ => self.links.fail(index, &fault),
            }
        }
    }

    fn close_all(&mut self) {
        self.links.to_open.clear();
        for index in 0..self.links.count() {
            let connection = &mut self.links.connections[index as usize];
            match connection.state {
                State::Open => {
                    if connection.flags.contains(Flags::PAUSED) {
                        self.links.pause(index, false);
                    }
                    self.links.close(index);
                    let reset = self.shared.plan.close == Close::Reset;
                    self.links.record.counters.closed_otherwise += u64::from(reset);
                    self.links.to_adjust.push(index);
                }
                state if state.is_opening() => self.links.drop_connection(index),
                _ => {}
            }
        }
    }

    fn publish_progress(&self) {
        // No partners: these numbers are for show, or lead to a look at the schedule.
        let progress = &self.shared.progress[self.links.lane() as usize];
        progress.messages.store(self.links.messages, Ordering::Relaxed);
        progress.open.store(self.links.open, Ordering::Relaxed);
        progress.settled.store(self.links.settled, Ordering::Relaxed);
        progress.failures.store(self.links.record.failures.total(), Ordering::Relaxed);
        progress.is_done.store(self.is_done, Ordering::Relaxed);
    }
}

/// Connections that all threads together open or close at the same time.
const OPENING_MOST: u32 = 1024;
/// Those that one thread may at least.
const OPENING_LEAST: u32 = 8;
/// Between two looks for what is late.
const SWEEP_NS: u64 = 50_000_000;
/// The longest wait, while something may have to be done that no completion tells.
const LOOK_OFTEN_NS: u64 = 10_000_000;
/// The longest wait.
const LOOK_NS: u64 = 100_000_000;
/// After the timeout of closing connections, until they are left behind.
const CLOSE_GRACE_NS: u64 = 500_000_000;
