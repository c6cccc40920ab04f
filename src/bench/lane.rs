//! One thread of the load generator: a ring, its connections, and what they do.
//!
//! > Each tick takes all completions, lets the workload act, carries out what it asked for, and
//! > submits once.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::arguments::Close;
use super::failure::Fault;
use super::handshake::Handshake;
use super::links::{Flags, Links, State};
use super::plan::Plan;
use super::process::ThreadTime;
use super::record::Record;
use super::schedule::{Progress, Schedule, Stage};
use super::workload::Workload;
use crate::io::{BufferSlice, Errno, Event, Io, Key, Outgoing, Ring, bind_source};

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
    /// The share of one core that it used itself while it measured.
    pub own_share: Option<f64>,
}

/// One thread's event loop.
pub struct Lane<W> {
    pub(super) ring: Ring,
    pub(super) links: Links,
    pub(super) workload: W,
    pub(super) shared: Arc<Shared>,
    peer: usize,
    next_sweep_ns: u64,
    next_action_ns: Option<u64>,
    /// Connections whose receive found no buffer.
    pub(super) starved: Vec<u32>,
    own_time: ThreadTime,
    has_begun: bool,
    is_done: bool,
    is_closing: bool,
}

impl<W: Workload> Lane<W> {
    /// A thread's event loop over `ring`.
    pub fn new(mut ring: Ring, links: Links, workload: W, shared: Arc<Shared>) -> Self {
        let peer = ring.add_peer(shared.plan.target.address.clone());
        Self {
            ring,
            links,
            workload,
            shared,
            peer,
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
        let end_of_close = self.shared.plan.timeout.as_nanos() as u64 + CLOSE_GRACE_NS;
        let mut close_until_ns = u64::MAX;
        loop {
            self.tick()?;
            if self.is_closing {
                close_until_ns = close_until_ns.min(self.links.now_ns + end_of_close);
                let has_closed = self.links.connections.iter().all(|c| c.state == State::Free);
                if has_closed || self.links.now_ns >= close_until_ns {
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
        if !self.starved.is_empty() || can_open {
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
            Event::Accepted { .. } | Event::ResetArmed { .. } | Event::Woken => {}
        }
    }

    fn received(&mut self, key: Key, result: Result<Option<BufferSlice>, Errno>, more: bool) {
        let Some(connection) = self.links.live(key) else {
            if let Ok(Some(slice)) = result {
                self.ring.release(slice);
            }
            return;
        };
        if !more {
            connection.flags.remove(Flags::RECEIVING | Flags::CANCELLING);
        }
        match result {
            Ok(Some(slice)) => {
                let bytes = self.ring.bytes(&slice);
                let handshake = &self.shared.handshake;
                let taken = self.links.take(&mut self.workload, handshake, key.index, bytes);
                if let Err(fault) = taken {
                    self.links.fault(&self.workload, key.index, &fault);
                }
                self.ring.release(slice);
            }
            Ok(None) => self.links.end_of_stream(&self.workload, key.index),
            Err(libc::ENOBUFS) => {
                self.starved.push(key.index);
                return;
            }
            Err(libc::ECANCELED) => {}
            Err(errno) => self.links.fault(&self.workload, key.index, &Fault::Io(errno)),
        }
        self.adjust(key.index);
    }

    fn sent(&mut self, key: Key, result: Result<usize, Errno>, mut outgoing: Outgoing) {
        let Some(connection) = self.links.live(key) else {
            return self.links.recycle(outgoing);
        };
        connection.flags.remove(Flags::SENDING);
        match result {
            Ok(bytes) if bytes < outgoing.len() && connection.state != State::Ending => {
                advance(&mut outgoing, bytes);
                connection.flags.insert(Flags::SENDING);
                self.ring.send(key, key.index, outgoing);
            }
            Ok(_) => {
                self.links.recycle(outgoing);
                self.flush(key.index);
            }
            Err(errno) => {
                self.links.recycle(outgoing);
                let reads = Flags::RECEIVING | Flags::POLLING;
                let connection = &self.links.connections[key.index as usize];
                // What the server said last is still to be received, and tells more.
                if !connection.flags.intersects(reads) {
                    self.links.fault(&self.workload, key.index, &Fault::Io(errno));
                }
            }
        }
        self.wind_up(key.index);
    }

    fn request_ended(&mut self, key: Key, request: Flags) {
        if let Some(connection) = self.links.live(key) {
            connection.flags.remove(request);
            let is_readable = request == Flags::POLLING;
            if is_readable && connection.state != State::Ending {
                connection.flags.insert(Flags::RECEIVING);
                self.ring.receive(key, key.index);
            }
            self.wind_up(key.index);
        }
    }

    fn freed(&mut self, key: Key) {
        let Some(connection) = self.links.live(key) else { return };
        let settled = connection.flags & Flags::SETTLED;
        let generation = (connection.generation + 1) % Key::GENERATIONS;
        *connection = super::links::Connection { generation, flags: settled, ..Default::default() };
        if !self.is_closing {
            self.workload.closed(&mut self.links, key.index);
        }
    }

    fn connected(&mut self, key: Key, result: Result<(), Errno>) {
        let Some(connection) = self.links.live(key) else { return };
        connection.flags.remove(Flags::CONNECTING);
        match result {
            _ if connection.state == State::Ending => {}
            Ok(()) => {
                // The wait for the handshake goes on: it began with the connect.
                let since_ns = connection.since_ns;
                connection.flags.insert(Flags::RECEIVING);
                self.ring.receive(key, key.index);
                self.links.set_state(key.index, State::Handshaking);
                self.links.connections[key.index as usize].since_ns = since_ns;
                let topic = self.shared.plan.topic(self.links.id(key.index));
                let request = self.shared.handshake.request(topic);
                self.links.out(key.index).extend_from_slice(request);
            }
            Err(errno) => self.links.fail(key.index, &Fault::Io(errno)),
        }
        self.wind_up(key.index);
    }

    /// Makes a connection's requests what its state and marks want.
    pub(super) fn adjust(&mut self, index: u32) {
        let key = self.links.key(index);
        let connection = &mut self.links.connections[index as usize];
        let flags = connection.flags;
        match connection.state {
            State::Ending => return self.wind_up(index),
            State::Free | State::Connecting => return,
            State::Handshaking | State::Open | State::Closing => {}
        }
        let is_parked = flags.contains(Flags::PARKED) && connection.state == State::Open;
        let wants_quiet = is_parked || flags.contains(Flags::PAUSED);
        if flags.contains(Flags::RECEIVING) {
            if wants_quiet && !flags.contains(Flags::CANCELLING) {
                connection.flags.insert(Flags::CANCELLING);
                self.ring.cancel_receive(key);
            }
        } else if flags.contains(Flags::PAUSED) || flags.contains(Flags::POLLING) {
        } else if is_parked {
            connection.flags.insert(Flags::POLLING);
            self.ring.poll(key, index);
        } else {
            connection.flags.insert(Flags::RECEIVING);
            self.ring.receive(key, index);
        }
    }

    /// Ends the requests of a connection that was given up, and frees its slot after the last.
    pub(super) fn wind_up(&mut self, index: u32) {
        let key = self.links.key(index);
        let connection = &mut self.links.connections[index as usize];
        if connection.state != State::Ending || connection.flags.contains(Flags::FREEING) {
            return;
        }
        let flags = connection.flags;
        if !flags.contains(Flags::WOUND_UP) {
            connection.flags.insert(Flags::WOUND_UP);
            if flags.contains(Flags::CONNECTING) {
                self.ring.cancel_connect(key);
            }
            if flags.contains(Flags::RECEIVING) && !flags.contains(Flags::CANCELLING) {
                self.ring.cancel_receive(key);
            }
            if flags.contains(Flags::POLLING) {
                self.ring.cancel_poll(key);
            }
            if flags.contains(Flags::SENDING) {
                connection.flags.insert(Flags::SHUTTING_DOWN);
                self.ring.shutdown(key, index, true);
            }
        }
        if !connection.flags.intersects(Flags::REQUESTS) {
            connection.flags.insert(Flags::FREEING);
            self.ring.close(key, index);
        }
    }

    fn flush(&mut self, index: u32) {
        let key = self.links.key(index);
        let connection = &mut self.links.connections[index as usize];
        if connection.flags.contains(Flags::SENDING) || connection.state == State::Ending {
            return;
        }
        connection.flags.remove(Flags::DIRTY);
        if let Some(outgoing) = connection.pending.take() {
            connection.flags.insert(Flags::SENDING);
            self.ring.send(key, index, outgoing);
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
        let at_once = if self.workload.opens_all_at_once() { u32::MAX } else { OPENING_MOST };
        self.links.in_transit < at_once
    }

    fn open(&mut self, index: u32) {
        if self.links.connections[index as usize].state != State::Free {
            return;
        }
        self.links.set_state(index, State::Connecting);
        let key = self.links.key(index);
        let socket = socket(&self.shared.plan, self.links.id(index));
        match socket.and_then(|socket| self.ring.adopt(index, socket)) {
            Ok(()) => {
                self.links.connections[index as usize].flags.insert(Flags::CONNECTING);
                self.ring.connect(key, index, self.peer);
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                self.links.fail(index, &Fault::Io(errno));
            }
        }
    }

    /// Gives up what has not been opened or closed in time.
    fn sweep(&mut self) {
        let now_ns = self.links.now_ns;
        if self.links.in_transit == 0 || now_ns < self.next_sweep_ns {
            return;
        }
        self.next_sweep_ns = now_ns + SWEEP_NS;
        let timeout = self.shared.plan.timeout;
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
            match connection.flags.contains(Flags::CLOSE_RECEIVED) {
                true => self.links.drop_connection(index),
                false => self.links.fail(index, &Fault::TimedOut(timeout.as_millis() as u64)),
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
                State::Connecting | State::Handshaking => self.links.drop_connection(index),
                State::Free | State::Closing | State::Ending => {}
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

/// A blocking socket: the ring waits by itself, and would not for a non-blocking one.
fn socket(plan: &Plan, id: u32) -> io::Result<OwnedFd> {
    let address = &plan.target.address;
    let socket = Socket::new(address.domain(), Type::STREAM.cloexec(), None)?;
    if address.domain() == Domain::UNIX {
        return Ok(socket.into());
    }
    socket.set_tcp_nodelay(true)?;
    if plan.close == Close::Reset {
        socket.set_linger(Some(Duration::ZERO))?;
    }
    if let Some(source) = plan.sources.of(id) {
        bind_source(&socket, source)?;
    }
    Ok(socket.into())
}

/// Drops the first bytes of what a send took in part.
fn advance(outgoing: &mut Outgoing, mut sent: usize) {
    match outgoing {
        Outgoing::One(segment) => segment.advance(sent),
        Outgoing::Many(segments) => {
            let mut whole = 0;
            while let Some(segment) = segments.get_mut(whole).filter(|_| sent > 0) {
                let bytes = segment.len().min(sent);
                segment.advance(bytes);
                sent -= bytes;
                whole += usize::from(segment.is_empty());
            }
            segments.drain(..whole);
        }
    }
}

/// Connections that one thread opens or closes at the same time.
const OPENING_MOST: u32 = 512;
/// Between two looks for what is late.
const SWEEP_NS: u64 = 50_000_000;
/// The longest wait, while something may have to be done that no completion tells.
const LOOK_OFTEN_NS: u64 = 10_000_000;
/// The longest wait.
const LOOK_NS: u64 = 100_000_000;
/// After the timeout of closing connections, until they are left behind.
const CLOSE_GRACE_NS: u64 = 500_000_000;
