//! The connections of one thread, as its workload sees them: whom to open, send to and close.
//!
//! Nothing here touches the ring. What a workload asks for is queued, and the lane carries it out
//! when the tick's events have been handled, so a burst leaves as one send.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bitflags::bitflags;

use super::arguments::Close;
use super::content::append_frame;
use super::failure::{Fault, Phase};
use super::plan::Plan;
use super::reader::Partial;
use super::record::Record;
use super::schedule::{Moments, Stage};
use super::secure::Secure;
use super::session::Sessions;
use crate::io::{Key, Outgoing, Segment};
use crate::tls::Client;
use crate::wire::deflate::Inflater;
use crate::wire::frames::Frames;
use crate::wire::header::OpCode;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// There is none.
    #[default]
    Free,
    /// The kernel connects it.
    Connecting,
    /// A proxy has been asked for a tunnel.
    Tunneling,
    /// TLS has begun.
    Securing,
    /// The request is sent, the response has not come.
    Handshaking,
    /// It is a WebSocket; the session of the protocol within has been asked for.
    Joining,
    /// Messages go both ways.
    Open,
    /// A close frame is sent.
    Closing,
    /// Given up; requests are being ended so that the slot can be freed.
    Ending,
}

bitflags! {
    /// Requests under way, and what else is true of a connection.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u16 {
        /// A connect is under way.
        const CONNECTING = 1;
        /// A receive is armed.
        const RECEIVING = 1 << 1;
        /// A poll is armed.
        const POLLING = 1 << 2;
        /// A send is under way.
        const SENDING = 1 << 3;
        /// A shutdown is under way.
        const SHUTTING_DOWN = 1 << 4;
        /// The slot is being freed.
        const FREEING = 1 << 5;
        /// The armed receive is being cancelled.
        const CANCELLING = 1 << 6;
        /// All requests have been told to end.
        const WOUND_UP = 1 << 7;
        /// Waits on a poll while it is quiet.
        const PARKED = 1 << 8;
        /// Is not read from.
        const PAUSED = 1 << 9;
        /// Listed as having something to send.
        const DIRTY = 1 << 10;
        /// The server's close frame has come.
        const CLOSE_RECEIVED = 1 << 11;
        /// Its first attempt has ended, well or not.
        const SETTLED = 1 << 12;
        /// Is being given up to be opened at the server's next address.
        const TRIES_NEXT = 1 << 13;
        /// Comes back after a wait whenever an attempt fails, which is no failure of the run.
        const BACKS_OFF = 1 << 14;
    }
}

impl Flags {
    /// Requests that must end before the slot is freed.
    pub const REQUESTS: Self = Self::CONNECTING
        .union(Self::RECEIVING)
        .union(Self::POLLING)
        .union(Self::SENDING)
        .union(Self::SHUTTING_DOWN);
}

/// One connection.
#[derive(Debug, Default)]
pub struct Connection {
    /// When its state began, in nanoseconds of the run.
    pub since_ns: u64,
    /// What is to be sent and has not been handed to the kernel.
    pub pending: Option<Outgoing>,
    /// What is there of a frame that is not whole.
    pub partial: Option<Box<Partial>>,
    /// Tenants of this place before.
    pub generation: u32,
    /// Requests and marks.
    pub flags: Flags,
    /// How far it has come.
    pub state: State,
    /// Which of the server's addresses it connects to.
    pub address: u8,
}

const _: () = assert!(size_of::<Connection>() <= 56);

/// The connections of one thread, its record and its time.
pub struct Links {
    /// By their number in this thread, which is also their slot.
    pub connections: Vec<Connection>,
    /// What is measured.
    pub record: Record,
    /// The present tick's time in nanoseconds of the run. It is read once a tick, after the wait:
    /// a latency is too long by the time that the tick's earlier work takes, never too short.
    pub now_ns: u64,
    /// The moments of the run, once they are fixed.
    pub moments: Option<Moments>,
    /// Whether the run ends early.
    pub is_interrupted: bool,
    /// Connections open now.
    pub open: u32,
    /// Slots that are not free.
    pub occupied: u32,
    /// Connections whose first attempt has ended.
    pub settled: u32,
    /// What throughput counts, in all.
    pub messages: u64,
    /// Connections that are being opened or closed and have a deadline.
    pub in_transit: u32,
    /// To be opened, in this order.
    pub to_open: VecDeque<u32>,
    /// To be given up.
    pub to_end: Vec<u32>,
    /// With something to send.
    pub dirty: Vec<u32>,
    /// To read from again, or not any more.
    pub to_adjust: Vec<u32>,
    /// Other threads to wake.
    pub wakeups: Vec<usize>,
    /// Inflates for all connections in turn, and the memory it does it in.
    pub inflater: Inflater,
    /// See `inflater`.
    pub inflated: Vec<u8>,
    /// Who begins TLS, if that is what the server speaks.
    pub client: Option<Client>,
    /// What each connection has for that; empty where there is none.
    pub secured: Vec<Option<Box<Secure>>>,
    /// What each connection is as a client of channels, if that is the protocol.
    pub sessions: Option<Sessions>,
    /// Scratch: what has been opened and not looked at yet.
    pub opened: Vec<u8>,
    /// Buffers for what is to be sent.
    #[expect(clippy::vec_box, reason = "a segment takes the box")]
    pub spare: Vec<Box<Vec<u8>>>,
    plan: Arc<Plan>,
    lane: u32,
    lanes: u32,
}

impl Links {
    /// The connections of thread `lane` of `lanes`, all to be opened.
    pub fn new(plan: Arc<Plan>, lane: u32, lanes: u32) -> Self {
        let count = connections_of(&plan, lane, lanes);
        let client = plan.way.client.as_ref().map(|client| match plan.way.resumes {
            // A ticket for each, so that all may come back at once.
            true => client.resuming(count as usize),
            false => client.clone(),
        });
        let secured = if client.is_some() { count } else { 0 };
        Self {
            connections: (0..count).map(|_| Connection::default()).collect(),
            record: Record::new(plan.intervals()),
            now_ns: 0,
            moments: None,
            is_interrupted: false,
            open: 0,
            occupied: 0,
            settled: 0,
            messages: 0,
            in_transit: 0,
            to_open: if plan.connects_while_measured() {
                VecDeque::new()
            } else {
                (0..count).collect()
            },
            to_end: Vec::new(),
            dirty: Vec::new(),
            to_adjust: Vec::new(),
            wakeups: Vec::new(),
            inflater: Inflater::default(),
            inflated: Vec::new(),
            client,
            secured: (0..secured).map(|_| None).collect(),
            sessions: plan.channels.as_ref().map(|_| Sessions::new(&plan, count)),
            opened: Vec::new(),
            spare: Vec::new(),
            plan,
            lane,
            lanes,
        }
    }

    /// The longest wait for an answer: the plan's timeout, and less once the run ends early.
    pub fn timeout(&self) -> Duration {
        match self.is_interrupted {
            true => self.plan.timeout.min(INTERRUPTED_TIMEOUT),
            false => self.plan.timeout,
        }
    }

    /// Whether the run is over, and so is the wait for the last answers.
    pub fn waited_long_enough(&self) -> bool {
        let timeout_ns = self.timeout().as_nanos() as u64;
        self.moments.is_some_and(|moments| self.now_ns >= moments.until_ns + timeout_ns)
    }

    /// The run's plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The number of this thread.
    pub fn lane(&self) -> u32 {
        self.lane
    }

    /// The threads of the run.
    pub fn lanes(&self) -> u32 {
        self.lanes
    }

    /// Connections of this thread.
    pub fn count(&self) -> u32 {
        self.connections.len() as u32
    }

    /// The number of a connection in the whole run.
    pub fn id(&self, index: u32) -> u32 {
        index * self.lanes + self.lane
    }

    /// The part of the run that the present tick lies in.
    pub fn stage(&self) -> Stage {
        self.moments.map_or(Stage::Connecting, |moments| moments.stage(self.now_ns))
    }

    /// Whether messages can be sent.
    pub fn is_open(&self, index: u32) -> bool {
        self.connections[index as usize].state == State::Open
    }

    /// The key of a connection's present tenant.
    pub fn key(&self, index: u32) -> Key {
        Key { index, generation: self.connections[index as usize].generation }
    }

    /// The connection that `key` means, unless its place has another tenant.
    pub fn live(&mut self, key: Key) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(key.index as usize)?;
        (connection.generation == key.generation).then_some(connection)
    }

    /// Has what waits for a connection sent at the end of the tick.
    pub fn mark_dirty(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !connection.flags.contains(Flags::DIRTY) {
            connection.flags.insert(Flags::DIRTY);
            self.dirty.push(index);
        }
    }

    /// Where to append frames for a connection; they leave at the end of the tick.
    pub fn out(&mut self, index: u32) -> &mut Vec<u8> {
        self.mark_dirty(index);
        let connection = &mut self.connections[index as usize];
        let mut fresh = || Segment::Owned {
            bytes: self.spare.pop().unwrap_or_default(),
            offset: 0,
            ends_frame: true,
            control: false,
        };
        let pending = connection.pending.get_or_insert_with(|| Outgoing::One(fresh()));
        let last = match pending {
            Outgoing::One(segment) => segment,
            Outgoing::Many(segments) => {
                if !matches!(segments.last(), Some(Segment::Owned { .. })) {
                    segments.push(fresh());
                }
                segments.last_mut().expect("one has just been pushed")
            }
        };
        match last {
            Segment::Owned { bytes, .. } => bytes,
            _ => unreachable!("a single segment is made above, and is an owned one"),
        }
    }

    /// Sends `frames` after what [`Links::out`] has.
    pub fn out_shared(&mut self, index: u32, frames: Rc<Frames>) {
        let connection = &mut self.connections[index as usize];
        let shared = Segment::Shared { frames, offset: 0 };
        connection.pending = Some(match connection.pending.take() {
            None => Outgoing::Many(vec![shared]),
            Some(Outgoing::One(first)) => Outgoing::Many(vec![first, shared]),
            Some(Outgoing::Many(mut segments)) => {
                segments.push(shared);
                Outgoing::Many(segments)
            }
        });
    }

    /// Takes back what has been sent.
    pub fn recycle(&mut self, outgoing: Outgoing) {
        let segments = match outgoing {
            Outgoing::One(segment) => return self.recycle_segment(segment),
            Outgoing::Many(segments) => segments,
        };
        for segment in segments {
            self.recycle_segment(segment);
        }
    }

    /// Ends a connection as the plan says, with a close frame or without.
    pub fn close(&mut self, index: u32) {
        match self.plan.close {
            Close::Reset => self.drop_connection(index),
            Close::Handshake | Close::None => {
                if self.is_open(index) {
                    append_frame(self.out(index), OpCode::Close, &NORMAL);
                    self.set_state(index, State::Closing);
                }
            }
        }
    }

    /// Notes a failure and gives the connection up.
    pub fn fail(&mut self, index: u32, fault: &Fault) {
        let phase = match self.connections[index as usize].state {
            State::Free | State::Connecting => Phase::Connect,
            State::Tunneling => Phase::Proxy,
            State::Securing => Phase::Tls,
            State::Handshaking => Phase::Handshake,
            State::Joining => Phase::Session,
            State::Open => Phase::Open,
            State::Closing | State::Ending => Phase::Close,
        };
        let is_attempt = phase < Phase::Open;
        match is_attempt && self.connections[index as usize].flags.contains(Flags::BACKS_OFF) {
            true => self.record.failed_attempts.add(self.id(index), phase, fault),
            false => self.record.failures.add(self.id(index), phase, fault),
        }
        self.drop_connection(index);
    }

    /// Gives a connection up without a word.
    pub fn drop_connection(&mut self, index: u32) {
        if !matches!(self.connections[index as usize].state, State::Free | State::Ending) {
            self.set_state(index, State::Ending);
            self.to_end.push(index);
        }
    }

    /// Stops or resumes reading from a connection.
    pub fn pause(&mut self, index: u32, paused: bool) {
        self.connections[index as usize].flags.set(Flags::PAUSED, paused);
        self.to_adjust.push(index);
    }

    /// Lets a connection wait on a poll while it is quiet.
    pub fn park(&mut self, index: u32) {
        self.connections[index as usize].flags.insert(Flags::PARKED);
        self.to_adjust.push(index);
    }

    /// Moves a connection on within its opening, whose beginning is kept.
    pub fn go_on(&mut self, index: u32, state: State) {
        let since_ns = self.connections[index as usize].since_ns;
        self.set_state(index, state);
        self.connections[index as usize].since_ns = since_ns;
    }

    /// Moves a connection on, and keeps the counts of all.
    pub fn set_state(&mut self, index: u32, state: State) {
        let now_ns = self.now_ns;
        let connection = &mut self.connections[index as usize];
        let before = std::mem::replace(&mut connection.state, state);
        connection.since_ns = now_ns;
        if matches!(state, State::Open | State::Ending)
            && !connection.flags.intersects(Flags::SETTLED | Flags::TRIES_NEXT)
        {
            connection.flags.insert(Flags::SETTLED);
            self.settled += 1;
        }
        self.occupied += u32::from(before == State::Free);
        self.open += u32::from(state == State::Open);
        self.open -= u32::from(before == State::Open);
        self.in_transit += u32::from(state.is_transit());
        self.in_transit -= u32::from(before.is_transit());
    }

    fn recycle_segment(&mut self, segment: Segment) {
        if let Segment::Owned { mut bytes, .. } = segment
            && self.spare.len() < SPARE_MOST
            && bytes.capacity() <= SPARE_BYTES_MOST
        {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

impl State {
    /// Whether it is on its way to be open.
    pub fn is_opening(self) -> bool {
        use State::{Connecting, Handshaking, Joining, Securing, Tunneling};
        matches!(self, Connecting | Tunneling | Securing | Handshaking | Joining)
    }

    /// Whether it must end within the plan's timeout.
    pub fn is_transit(self) -> bool {
        self.is_opening() || self == Self::Closing
    }
}

/// Connections that thread `lane` of `lanes` holds: they are dealt out one by one.
pub fn connections_of(plan: &Plan, lane: u32, lanes: u32) -> u32 {
    plan.connections / lanes + u32::from(lane < plan.connections % lanes)
}

/// The payload of a close frame with code 1000.
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
/// Who interrupts a run does not wait for long.
const INTERRUPTED_TIMEOUT: Duration = Duration::from_secs(1);
/// Buffers kept, and how large they may be.
const SPARE_MOST: usize = 8192;
const SPARE_BYTES_MOST: usize = 64 << 10;
