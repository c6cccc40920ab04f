//! A simulated kernel: the requests of one shard. What becomes of them, and when, the dice decide.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use ringwire::io::{BufferSlice, Event, Io, Key, Outgoing, Segment, Slot, Ticket};
use ringwire::shard::requests::Requests;

use crate::buffers::Buffers;
use crate::contract::{Contract, Kind};
use crate::network::{HandOver, Network, SocketId};
use crate::trace::trace;

/// How badly a kernel behaves; all likelihoods in percent.
#[derive(Clone, Debug)]
pub struct Chaos {
    /// That a request completes when it could.
    pub ready: u8,
    /// That a send or a receive takes less than it could.
    pub short: u8,
    /// That a multishot request ends, though nothing is wrong.
    pub end: u8,
    /// That a send which must not wait fails with `EAGAIN`, though there is room.
    pub again: u8,
    /// That a receive fails with `ENOBUFS`, though there is a buffer.
    pub no_buffers: u8,
    /// That an accept fails for lack of memory.
    pub no_memory: u8,
    /// That the event of a request comes long after its effect.
    pub late: u8,
    /// That a request starts before the submit, as if the queue were full.
    pub early: u8,
    /// Whether the kernel has the socket option that resets a peer.
    pub socket_options: bool,
    /// Whether buffers are filled piece by piece.
    pub incremental: bool,
    pub buffers: u16,
    pub buffer_bytes: u32,
    pub slots: u32,
}

/// The kernel below one shard.
pub struct Kernel {
    pub(crate) number: usize,
    pub(crate) network: Rc<RefCell<Network>>,
    pub(crate) rng: Rng,
    pub(crate) chaos: Chaos,
    pub(crate) buffers: Buffers,
    pub(crate) slots: Vec<Option<Tenant>>,
    /// The multishot accept of the one listener, and whether accepts are cancelled.
    pub(crate) accept: Accept,
    /// Accepts that wait for one connection each.
    pub(crate) accepts_with_address: u32,
    /// Those of them that were cancelled and have not ended yet; others may begin meanwhile.
    pub(crate) accepts_cancelled: u32,
    pub(crate) completions: VecDeque<Event>,
    /// Events of requests that have completed, but are not told of yet.
    pub(crate) late: Vec<Event>,
    /// Slots whose receives started with the last submit: they are tried first, in their order.
    pub(crate) fresh: Vec<usize>,
    /// Kinds that do not complete until they are let go on.
    pub(crate) held: Vec<Kind>,
    pub(crate) contract: Contract,
    queued: VecDeque<Request>,
    participants: usize,
    /// The wait of the last submit.
    wait: Option<Duration>,
    /// Connections accepted.
    pub accepted: u64,
    /// Whether the shard is to believe that its thread never sleeps.
    pub is_busy: bool,
}

/// Whether connections are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    Idle,
    Armed,
    Cancelled,
}

/// A multishot or one-shot request that waits for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Armed {
    pub cancelled: bool,
    /// Whether a receive brings one buffer and ends.
    pub once: bool,
}

/// How far the end of a stream behind a last send has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    AwaitsSend,
    Due,
    Cancelled,
}

/// What holds a slot, and what has been started on it.
pub struct Tenant {
    pub socket: SocketId,
    /// How many slots had held the socket before.
    pub holders_before: u32,
    pub key: Option<Key>,
    pub receive: Option<Armed>,
    pub poll: Option<Armed>,
    pub send: Option<Outgoing>,
    pub finish: Option<Finish>,
    pub shutdown: bool,
    pub reset: bool,
    pub look: bool,
    pub measure: bool,
    pub close: bool,
}

impl Tenant {
    /// A socket for which nothing has been asked yet.
    pub fn new(socket: SocketId) -> Self {
        Self {
            socket,
            holders_before: 0,
            key: None,
            receive: None,
            poll: None,
            send: None,
            finish: None,
            shutdown: false,
            reset: false,
            look: false,
            measure: false,
            close: false,
        }
    }
}

enum Request {
    Accept,
    AcceptWithAddress,
    CancelAccept,
    CancelReceive(Key),
    CancelPoll(Key),
    Send(Key, Slot, Outgoing),
    SendLast(Key, Slot, Outgoing),
    Other(Kind, Key, Slot),
    ReceiveOnce(Key, Slot),
    HandOver(Key, Slot, usize, Ticket),
    Wake(usize),
}

impl Kernel {
    pub fn new(number: usize, network: Rc<RefCell<Network>>, chaos: Chaos, rng: Rng) -> Self {
        let participants = network.borrow().wakes.len();
        Self {
            number,
            network,
            rng,
            buffers: Buffers::new(chaos.buffers, chaos.buffer_bytes, chaos.incremental),
            slots: (0..chaos.slots).map(|_| None).collect(),
            accept: Accept::Idle,
            accepts_with_address: 0,
            accepts_cancelled: 0,
            queued: VecDeque::new(),
            completions: VecDeque::new(),
            late: Vec::new(),
            fresh: Vec::new(),
            held: Vec::new(),
            contract: Contract::default(),
            participants,
            wait: Some(Duration::ZERO),
            accepted: 0,
            is_busy: false,
            chaos,
        }
    }

    /// How long the shard's last submit waits for an event.
    pub fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Requests of this kind complete no more until [`Kernel::let_go`].
    pub fn hold(&mut self, kind: Kind) {
        self.held.push(kind);
    }

    /// Requests of all kinds complete again.
    pub fn let_go(&mut self) {
        self.held.clear();
    }

    /// Bytes of a send that the kernel has and its peer has not.
    pub fn sending(&self, key: Key) -> usize {
        let mut tenants = self.slots.iter().flatten();
        let tenant = tenants.find(|tenant| tenant.key == Some(key));
        tenant.and_then(|tenant| tenant.send.as_ref()).map_or(0, Outgoing::len)
    }

    /// Whether the sending side of a connection has ended.
    pub fn has_finished(&self, key: Key) -> bool {
        let mut tenants = self.slots.iter().flatten();
        let tenant = tenants.find(|tenant| tenant.key == Some(key));
        tenant.is_some_and(|tenant| self.network.borrow().sockets[tenant.socket].has_finished())
    }

    fn queue(&mut self, request: Request) {
        self.queued.push_back(request);
        if self.rng.u8(..100) < self.chaos.early {
            self.start();
        }
    }

    fn start(&mut self) {
        self.buffers.publish();
        while let Some(request) = self.queued.pop_front() {
            match request {
                Request::Accept => {
                    assert_eq!(self.accept, Accept::Idle, "accept while another is under way");
                    self.accept = Accept::Armed;
                }
                Request::AcceptWithAddress => {
                    assert_ne!(self.accept, Accept::Armed, "accept while another goes on");
                    self.accepts_with_address += 1;
                }
                Request::CancelAccept => {
                    self.accepts_cancelled += std::mem::take(&mut self.accepts_with_address);
                    if self.accept == Accept::Armed {
                        self.accept = Accept::Cancelled;
                    }
                }
                Request::CancelReceive(key) => {
                    if let Some(receive) = self.of(key).and_then(|of| of.receive.as_mut()) {
                        receive.cancelled = true;
                    }
                }
                Request::CancelPoll(key) => {
                    if let Some(poll) = self.of(key).and_then(|of| of.poll.as_mut()) {
                        poll.cancelled = true;
                    }
                }
                Request::Send(key, slot, outgoing) => self.tenant(key, slot).send = Some(outgoing),
                Request::SendLast(key, slot, outgoing) => {
                    let tenant = self.tenant(key, slot);
                    tenant.send = Some(outgoing);
                    tenant.finish = Some(Finish::AwaitsSend);
                }
                Request::Other(kind, key, slot) => {
                    self.tenant(key, slot).arm(kind);
                    if kind == Kind::Receive {
                        self.fresh.push(slot as usize);
                    }
                }
                Request::ReceiveOnce(key, slot) => {
                    let receive = Armed { cancelled: false, once: true };
                    self.tenant(key, slot).receive = Some(receive);
                    self.fresh.push(slot as usize);
                }
                Request::HandOver(key, slot, participant, ticket) => {
                    let (from, socket) = (self.number, self.tenant(key, slot).socket);
                    let handed_over = HandOver { from, key, ticket, socket };
                    self.network.borrow_mut().handed_over[participant].push_back(handed_over);
                }
                Request::Wake(participant) => self.network.borrow_mut().wakes[participant] += 1,
            }
        }
    }

    fn of(&mut self, key: Key) -> Option<&mut Tenant> {
        self.slots.iter_mut().flatten().find(|tenant| tenant.key == Some(key))
    }

    fn tenant(&mut self, key: Key, slot: Slot) -> &mut Tenant {
        let tenant = self.slots[slot as usize].as_mut().expect("a request names a used slot");
        assert_eq!(*tenant.key.get_or_insert(key), key, "a request names its own slot");
        tenant
    }

    /// Slices that the shard holds: neither waiting to be handed over nor given back with a send.
    fn slices_held(&self) -> usize {
        let waiting = self.completions.iter().chain(&self.late).map(|event| match event {
            Event::Received { result: Ok(Some(_)), .. } => 1,
            Event::Sent { outgoing, .. } => lent_segments(outgoing),
            _ => 0,
        });
        let queued = self.queued.iter().map(|request| match request {
            Request::Send(_, _, outgoing) | Request::SendLast(_, _, outgoing) => {
                lent_segments(outgoing)
            }
            _ => 0,
        });
        let sends = self.slots.iter().flatten().filter_map(|tenant| tenant.send.as_ref());
        let elsewhere: usize = waiting.chain(queued).chain(sends.map(lent_segments)).sum();
        self.buffers.live_slices() - elsewhere
    }

    /// A receive buffer must not depend on whether a peer reads: it lies in a send that cannot wait,
    /// or waits for one.
    fn check_lending(&self) {
        let sends_lent = self
            .slots
            .iter()
            .flatten()
            .any(|tenant| tenant.send.as_ref().is_some_and(Outgoing::holds_buffer));
        let completed = self.completions.iter().chain(&self.late).any(|event| match event {
            Event::Sent { outgoing, .. } => outgoing.holds_buffer(),
            _ => false,
        });
        let held = self.slices_held();
        assert!(held == 0 || sends_lent || completed, "{held} slices wait for a peer");
    }
}

impl Tenant {
    fn arm(&mut self, kind: Kind) {
        let armed = Some(Armed { cancelled: false, once: false });
        match kind {
            Kind::Receive => self.receive = armed,
            Kind::Poll => self.poll = armed,
            Kind::Finish => self.finish = Some(Finish::Due),
            Kind::Shutdown => self.shutdown = true,
            Kind::Reset => self.reset = true,
            Kind::Look => self.look = true,
            Kind::Measure => self.measure = true,
            Kind::Close => self.close = true,
            Kind::Send | Kind::HandOver => unreachable!("a request of its own"),
        }
    }
}

impl Io for Kernel {
    fn accept(&mut self, listener: u32) {
        assert_eq!(listener, 0, "there is one listener");
        self.queue(Request::Accept);
    }

    fn accept_with_address(&mut self, listener: u32) {
        assert_eq!(listener, 0, "there is one listener");
        self.queue(Request::AcceptWithAddress);
    }

    fn cancel_accept(&mut self, listener: u32) {
        assert_eq!(listener, 0, "there is one listener");
        self.queue(Request::CancelAccept);
    }

    fn stop_listening(&mut self) {}

    fn receive(&mut self, key: Key, slot: Slot) {
        self.contract.begin(key, Kind::Receive);
        self.queue(Request::Other(Kind::Receive, key, slot));
    }

    fn receive_once(&mut self, key: Key, slot: Slot) {
        self.contract.begin(key, Kind::Receive);
        self.queue(Request::ReceiveOnce(key, slot));
    }

    fn look(&mut self, key: Key, slot: Slot) {
        self.contract.begin(key, Kind::Look);
        self.queue(Request::Other(Kind::Look, key, slot));
    }

    fn measure(&mut self, key: Key, slot: Slot) {
        self.contract.begin(key, Kind::Measure);
        self.queue(Request::Other(Kind::Measure, key, slot));
    }

    fn free_receive_buffers(&self) -> usize {
        self.buffers.free()
    }

    fn cancel_receive(&mut self, key: Key) {
        self.queue(Request::CancelReceive(key));
    }

    fn poll(&mut self, key: Key, slot: Slot) {
        self.contract.begin(key, Kind::Poll);
        self.queue(Request::Other(Kind::Poll, key, slot));
    }

    fn cancel_poll(&mut self, key: Key) {
        self.queue(Request::CancelPoll(key));
    }

    fn send(&mut self, key: Key, slot: Slot, outgoing: Outgoing) {
        assert!(!outgoing.is_empty(), "an empty send");
        self.contract.begin(key, Kind::Send);
        self.queue(Request::Send(key, slot, outgoing));
    }

    fn send_last(&mut self, key: Key, slot: Slot, outgoing: Outgoing) {
        assert!(!outgoing.is_empty(), "an empty send");
        assert!(!outgoing.holds_buffer(), "a last send may wait for its peer");
        self.contract.begin(key, Kind::Send);
        self.contract.begin(key, Kind::Finish);
        self.queue(Request::SendLast(key, slot, outgoing));
    }

    fn finish(&mut self, key: Key, slot: Slot) {
        self.contract.begin(key, Kind::Finish);
        self.queue(Request::Other(Kind::Finish, key, slot));
    }

    fn shutdown(&mut self, key: Key, slot: Slot) {
        self.contract.begin(key, Kind::Shutdown);
        self.queue(Request::Other(Kind::Shutdown, key, slot));
    }

    fn arm_reset(&mut self, key: Key, slot: Slot) -> bool {
        if self.chaos.socket_options {
            self.contract.begin(key, Kind::Reset);
            self.queue(Request::Other(Kind::Reset, key, slot));
        }
        self.chaos.socket_options
    }

    fn hand_over(&mut self, key: Key, slot: Slot, participant: usize, ticket: Ticket) {
        self.contract.begin(key, Kind::HandOver);
        let requests = self.contract.requests(key);
        assert_eq!(requests, Requests::HAND_OVER, "nothing else is under way");
        self.queue(Request::HandOver(key, slot, participant, ticket));
    }

    fn can_hand_over(&self) -> bool {
        true
    }

    fn close(&mut self, key: Key, slot: Slot) {
        self.contract.begin(key, Kind::Close);
        self.queue(Request::Other(Kind::Close, key, slot));
    }

    fn wake(&mut self, participant: usize) {
        assert!(participant < self.participants, "nobody to wake at {participant}");
        self.queue(Request::Wake(participant));
    }

    fn bytes(&mut self, slice: &BufferSlice) -> &mut [u8] {
        self.buffers.bytes(slice)
    }

    fn split(&mut self, slice: &BufferSlice, range: Range<usize>) -> BufferSlice {
        self.buffers.split(slice, range)
    }

    fn release(&mut self, slice: BufferSlice) {
        self.buffers.release(&slice);
    }

    fn submit(&mut self, wait: Option<Duration>) -> std::io::Result<()> {
        self.start();
        self.check_lending();
        self.wait = wait;
        Ok(())
    }

    fn has_slept(&mut self) -> bool {
        !self.is_busy
    }

    fn next_event(&mut self) -> Option<Event> {
        let event = self.completions.pop_front()?;
        trace!("  shard {}: {}", self.number, brief(&event));
        match &event {
            Event::Received { key, more: false, .. } => self.contract.end(*key, Kind::Receive),
            Event::Readable { key } => self.contract.end(*key, Kind::Poll),
            Event::Sent { key, .. } => self.contract.end(*key, Kind::Send),
            Event::Finished { key } => self.contract.end(*key, Kind::Finish),
            Event::ShutDown { key } => self.contract.end(*key, Kind::Shutdown),
            Event::ResetArmed { key } => self.contract.end(*key, Kind::Reset),
            Event::Looked { key, .. } => self.contract.end(*key, Kind::Look),
            Event::Measured { key, .. } => self.contract.end(*key, Kind::Measure),
            Event::HandedOver { key, .. } => self.contract.end(*key, Kind::HandOver),
            Event::Closed { key } => self.contract.end(*key, Kind::Close),
            Event::Received { .. }
            | Event::Accepted { .. }
            | Event::Adopted { .. }
            | Event::Woken => {}
        }
        Some(event)
    }
}

/// An event without the bytes.
fn brief(event: &Event) -> String {
    match event {
        Event::Sent { key, result, outgoing } => {
            format!("Sent {key:?} {result:?} of {}", outgoing.len())
        }
        event => format!("{event:?}"),
    }
}

/// Segments of a send that hold a receive buffer.
fn lent_segments(outgoing: &Outgoing) -> usize {
    let is_lent = |segment: &&Segment| matches!(segment, Segment::Buffer { .. });
    match outgoing {
        Outgoing::One(segment) => usize::from(is_lent(&segment)),
        Outgoing::Many(segments) => segments.iter().filter(is_lent).count(),
    }
}
