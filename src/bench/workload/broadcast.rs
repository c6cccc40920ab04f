//! Publishers and subscribers: when does a message reach each of them, and does every one?
//!
//! Without a rate a publisher sends its next burst when all subscribers of its topic have the last.
//! That takes a count that all threads keep together, and a wake-up for the publisher's thread.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Workload;
use super::order::{Arrival, Order};
use super::pacer::Pacer;
use crate::bench::arguments::WorkloadName;
use crate::bench::content::{Content, Stamp};
use crate::bench::failure::Fault;
use crate::bench::links::Links;
use crate::bench::plan::Plan;
use crate::bench::schedule::Stage;
use crate::wire::header::OpCode;

/// What has been sent and delivered, kept by all threads together.
pub struct Deliveries {
    streams: Vec<Deliverable>,
    /// Subscribers of each topic that read.
    readers: Vec<AtomicU64>,
    /// Whether a publisher ever got a message of its own, and one of another publisher. Some
    /// servers leave the sender out, others send publishers nothing; what they do they must do for
    /// every message. No partners: each is used by itself.
    copies_own: AtomicBool,
    copies_others: AtomicBool,
}

/// One stream's messages. The orderings have no partners: each number is used by itself, and a
/// stale one delays a burst until the next wake-up or tick.
#[derive(Default)]
struct Deliverable {
    sent: AtomicU64,
    expected: AtomicU64,
    delivered: AtomicU64,
}

impl Deliverable {
    fn is_complete(&self) -> bool {
        self.delivered.load(Ordering::SeqCst) >= self.expected.load(Ordering::SeqCst)
    }
}

impl Deliveries {
    /// Nothing sent yet.
    pub fn new(plan: &Plan) -> Self {
        Self {
            streams: (0..plan.streams()).map(|_| Deliverable::default()).collect(),
            readers: (0..plan.topics).map(|_| AtomicU64::new(0)).collect(),
            copies_own: AtomicBool::new(false),
            copies_others: AtomicBool::new(false),
        }
    }

    /// Whether messages come back to connections that publish: their own, or those of others.
    fn copies(&self, own: bool) -> &AtomicBool {
        if own { &self.copies_own } else { &self.copies_others }
    }

    fn are_complete(&self) -> bool {
        self.streams.iter().all(Deliverable::is_complete)
    }
}

/// One connection that publishes.
struct Publisher {
    index: u32,
    /// Its number in the run, which is its place among the publishers too.
    number: u32,
    /// The stream that it has published to last.
    stream: u32,
    pacer: Pacer,
    sent_ns: u64,
}

/// The publishers and subscribers of one thread.
pub struct Broadcast {
    content: Content,
    deliveries: Arc<Deliveries>,
    publishers: Vec<Publisher>,
    /// What each connection has seen of each stream of its topics.
    orders: Vec<Order>,
    streams_of_topic: usize,
    /// Which stream of a publisher comes next, where it has several.
    random: RandomState,
    /// Whether each connection is among its topic's readers.
    is_counted: Vec<bool>,
    /// Deliveries of this tick, by stream, and which streams have some.
    fresh: Vec<u64>,
    touched: Vec<u32>,
    last_message_ns: u64,
    has_slowed: bool,
    has_resumed: bool,
}

impl Broadcast {
    /// The publishers and subscribers among `links`.
    pub fn new(links: &Links, deliveries: Arc<Deliveries>) -> Self {
        let plan = links.plan();
        let publisher = |index| {
            let number = links.id(index);
            let is_one = number < plan.publishers;
            let pacer = Pacer::default();
            is_one.then_some(Publisher { index, number, stream: number, pacer, sent_ns: 0 })
        };
        let publishers: Vec<_> = (0..links.count()).map_while(publisher).collect();
        let streams_of_topic = plan.streams().div_ceil(plan.topics) as usize;
        let subscriptions = links.count() as usize * plan.subscriptions() as usize;
        let orders = subscriptions * streams_of_topic;
        Self {
            content: Content::new(plan),
            deliveries,
            publishers,
            orders: (0..orders).map(|_| Order::default()).collect(),
            streams_of_topic,
            random: RandomState::default(),
            is_counted: vec![false; links.count() as usize],
            fresh: vec![0; plan.streams() as usize],
            touched: Vec::new(),
            last_message_ns: 0,
            has_slowed: false,
            has_resumed: false,
        }
    }

    /// Whether a connection subscribes and is to get everything.
    fn is_reader(&self, links: &Links, index: u32) -> bool {
        index as usize >= self.publishers.len() && !links.plan().is_slow(links.id(index))
    }

    /// Counts a connection among the readers of its topics, or with a step of -1 not any more.
    fn count_reader(&self, links: &Links, index: u32, step: u64) {
        let plan = links.plan();
        for place in 0..plan.subscriptions() {
            let topic = plan.topic_at(links.id(index), place);
            // It wraps around, so that the largest number takes one away.
            self.deliveries.readers[topic as usize].fetch_add(step, Ordering::SeqCst);
        }
    }

    /// Whether a connection publishes.
    fn publishes(&self, index: u32) -> bool {
        (index as usize) < self.publishers.len()
    }

    /// The place among `orders` of a stream of a connection's topics.
    fn order(&self, plan: &Plan, index: u32, id: u32, stream: u32) -> Option<usize> {
        let subscription = plan.subscription(id, plan.topic_of(stream))?;
        let first = (index * plan.subscriptions() + subscription) as usize * self.streams_of_topic;
        Some(first + (stream / plan.topics) as usize)
    }

    /// How many messages a stream has, and how many of them a connection of its topic has not got.
    fn sent_and_lost(&self, links: &Links, index: u32, stream: u32) -> (u64, u64) {
        let sent = self.deliveries.streams[stream as usize].sent.load(Ordering::SeqCst);
        let order = self.order(links.plan(), index, links.id(index), stream);
        (sent, order.map_or(0, |place| self.orders[place].lost(sent)))
    }

    /// The same for what must come back to the open publishers of this thread.
    fn copies(&self, links: &Links) -> impl Iterator<Item = (u64, u64)> {
        let open = (0..self.publishers.len() as u32).filter(|&index| links.is_open(index));
        open.flat_map(move |index| {
            let (plan, id) = (links.plan(), links.id(index));
            let copied = plan.streams_of(plan.topic(id)).filter(move |&stream| {
                let is_own = plan.publisher_of(stream) == id;
                self.deliveries.copies(is_own).load(Ordering::Relaxed)
            });
            copied.map(move |stream| self.sent_and_lost(links, index, stream))
        })
    }

    fn copies_lost(&self, links: &Links) -> u64 {
        self.copies(links).map(|(_, lost)| lost).sum()
    }

    fn burst(&mut self, links: &mut Links, place: usize, due_ns: u64) {
        let publisher = &mut self.publishers[place];
        let index = publisher.index;
        publisher.sent_ns = links.now_ns;
        let plan = links.plan().clone();
        let streams = plan.streams().saturating_sub(publisher.number).div_ceil(plan.publishers);
        if streams > 1 {
            let sent = links.record.counters.messages_sent;
            let which = (self.random.hash_one(sent) % u64::from(streams)) as u32;
            publisher.stream = publisher.number + which * plan.publishers;
        }
        let stream = publisher.stream;
        let (burst, topic) = (u64::from(plan.burst), plan.topic_of(stream));
        let shared = &self.deliveries.streams[stream as usize];
        let first = shared.sent.load(Ordering::SeqCst);
        let readers = self.deliveries.readers[topic as usize].load(Ordering::SeqCst);
        // Expected before sent: a subscriber's thread must not see a delivery too many.
        shared.expected.fetch_add(burst * readers, Ordering::SeqCst);
        shared.sent.store(first + burst, Ordering::SeqCst);
        for sequence in first..first + burst {
            let stamp = Stamp { id: stream, sequence, time_ns: due_ns };
            links.send(index, topic, &mut self.content, stamp);
        }
    }

    /// Sends what is due, or the next burst when the last one has arrived everywhere.
    fn publish(&mut self, links: &mut Links) -> Option<u64> {
        let moments = links.moments?;
        let plan = links.plan().clone();
        let mut next_ns = u64::MAX;
        for place in 0..self.publishers.len() {
            if !links.is_open(self.publishers[place].index) {
                continue;
            }
            if plan.rates.is_empty() {
                next_ns = next_ns.min(self.publish_when_delivered(links, place));
                continue;
            }
            while let Some(due_ns) = self.publishers[place].pacer.due(&plan, moments, links.now_ns)
            {
                links.record.lateness(due_ns, links.now_ns - due_ns);
                self.burst(links, place, due_ns);
            }
            next_ns = next_ns.min(self.publishers[place].pacer.next_ns());
        }
        Some(next_ns.min(moments.until_ns + TAIL_NS))
    }

    fn publish_when_delivered(&mut self, links: &mut Links, place: usize) -> u64 {
        let shared = &self.deliveries.streams[self.publishers[place].stream as usize];
        let timeout_ns = links.plan().timeout.as_nanos() as u64;
        let stall_ns = timeout_ns.min(STALL_LEAST_NS.max(timeout_ns / 10));
        let until_ns = self.publishers[place].sent_ns + stall_ns;
        if !shared.is_complete() {
            if links.now_ns < until_ns {
                return until_ns;
            }
            // What has not come by now is waited for no longer.
            links.record.counters.bursts_stalled += 1;
            let delivered = shared.delivered.load(Ordering::SeqCst);
            shared.expected.store(delivered, Ordering::SeqCst);
        }
        self.burst(links, place, links.now_ns);
        links.now_ns + stall_ns
    }

    /// Adds this tick's deliveries to those of all threads.
    fn share_deliveries(&mut self, links: &mut Links) {
        for stream in self.touched.drain(..) {
            let fresh = std::mem::take(&mut self.fresh[stream as usize]);
            let shared = &self.deliveries.streams[stream as usize];
            shared.delivered.fetch_add(fresh, Ordering::SeqCst);
            let lane = links.plan().publisher_of(stream) % links.lanes();
            if lane != links.lane() && shared.is_complete() {
                links.wakeups.push(lane as usize);
            }
        }
    }

    /// In the second part some stop reading; when it is over they read on, to learn their fate.
    fn slow_down(&mut self, links: &mut Links) {
        let Some(moments) = links.moments.filter(|_| links.plan().workload == WorkloadName::Slow)
        else {
            return;
        };
        let slow_ns = moments.from_ns + links.plan().duration.as_nanos() as u64;
        let is_over = links.stage() == Stage::Finished;
        let pauses = !self.has_slowed && !is_over && links.now_ns >= slow_ns;
        let resumes = self.has_slowed && !self.has_resumed && is_over;
        self.has_slowed |= pauses;
        self.has_resumed |= resumes;
        for index in 0..links.count() {
            if (pauses || resumes) && links.is_open(index) && links.plan().is_slow(links.id(index))
            {
                links.pause(index, !is_over);
            }
        }
    }
}

impl Broadcast {
    /// The stamp of a message without one: the next of the only publisher, from now.
    fn assumed(
        &self,
        links: &Links,
        index: u32,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<Stamp, Fault> {
        // Its publisher is the only one, so a connection has one order.
        let sequence = self.orders.get(index as usize).map_or(0, Order::next);
        let stamp = Stamp { id: 0, sequence, time_ns: links.now_ns };
        self.content.check(opcode, payload, stamp)?;
        Ok(stamp)
    }
}

impl Workload for Broadcast {
    fn opened(&mut self, links: &mut Links, index: u32) {
        if self.is_reader(links, index) {
            self.count_reader(links, index, 1);
            self.is_counted[index as usize] = true;
        }
        if links.plan().park {
            links.park(index);
        }
    }

    fn begin(&mut self, links: &mut Links) {
        let Some(moments) = links.moments else { return };
        let plan = links.plan();
        let publishers = f64::from(plan.publishers);
        let share = 1.0 / (publishers * f64::from(plan.burst));
        for publisher in &mut self.publishers {
            let phase = f64::from(publisher.number) / publishers;
            publisher.pacer = Pacer::new(plan, moments, share, phase);
        }
    }

    fn message(
        &mut self,
        links: &mut Links,
        index: u32,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<(), Fault> {
        let stamp = match links.plan().unchecked {
            true => self.assumed(links, index, opcode, payload)?,
            false => self.content.read(opcode, payload)?,
        };
        let plan = links.plan();
        let id = links.id(index);
        let place = (stamp.id < plan.streams()).then(|| self.order(plan, index, id, stamp.id));
        let Some(place) = place.flatten() else {
            return Err(Fault::UnknownPublisher { id: stamp.id });
        };
        self.last_message_ns = links.now_ns;
        let arrival = self.orders[place].arrived(stamp.sequence);
        if self.publishes(index) {
            let is_own = plan.publisher_of(stamp.id) == id;
            links.record.counters.messages_to_publishers += 1;
            let copies = self.deliveries.copies(is_own);
            // Written once, so that threads do not take the line from each other all the time.
            if !copies.load(Ordering::Relaxed) {
                copies.store(true, Ordering::Relaxed);
            }
        }
        match arrival {
            Arrival::InOrder | Arrival::AfterGap => {}
            Arrival::Late => links.record.counters.reordered += 1,
            Arrival::Again => {
                links.record.counters.duplicated += 1;
                return Ok(());
            }
        }
        if !self.is_reader(links, index) {
            return Ok(());
        }
        let fresh = &mut self.fresh[stamp.id as usize];
        if *fresh == 0 {
            self.touched.push(stamp.id);
        }
        *fresh += 1;
        links.messages += 1;
        links.record.count(links.now_ns, payload.len());
        match links.plan().rates.is_empty() {
            true => links.record.wait(stamp.time_ns, links.now_ns),
            // A rate goes on meanwhile: the messages due later show the stall.
            false => {
                let waited_ns = links.now_ns.saturating_sub(stamp.time_ns);
                links.record.latency(stamp.time_ns, waited_ns);
            }
        }
        Ok(())
    }

    fn closed(&mut self, links: &mut Links, index: u32) {
        if std::mem::take(&mut self.is_counted[index as usize]) {
            self.count_reader(links, index, u64::MAX);
        }
    }

    fn forgives(&self, links: &Links, index: u32) -> bool {
        self.has_slowed && links.plan().is_slow(links.id(index))
    }

    fn tick(&mut self, links: &mut Links) -> Option<u64> {
        self.share_deliveries(links);
        self.slow_down(links);
        if links.stage() == Stage::Finished {
            return Some(links.now_ns + TAIL_NS);
        }
        self.publish(links)
    }

    fn is_done(&self, links: &Links) -> bool {
        let Some(moments) = links.moments.filter(|_| links.stage() == Stage::Finished) else {
            return false;
        };
        let waits_for_cuts = self.has_slowed && !links.is_interrupted;
        let pause_ns = if waits_for_cuts { SLOW_PAUSE_NS } else { TAIL_NS };
        if links.now_ns < moments.until_ns + pause_ns {
            return false;
        }
        // Long waits are for a machine that stalls: what comes at last is late, and not lost.
        let timeout_ns = links.timeout().as_nanos() as u64;
        let quiet_ns = self.last_message_ns.max(moments.until_ns) + timeout_ns / 2;
        let are_complete = self.deliveries.are_complete() && self.copies_lost(links) == 0;
        are_complete || links.now_ns >= quiet_ns || links.waited_long_enough()
    }

    fn finish(&mut self, links: &mut Links) {
        let plan = links.plan().clone();
        for index in self.publishers.len() as u32..links.count() {
            if !self.is_reader(links, index) || !links.is_open(index) {
                continue;
            }
            for place in 0..plan.subscriptions() {
                for stream in plan.streams_of(plan.topic_at(links.id(index), place)) {
                    let (sent, lost) = self.sent_and_lost(links, index, stream);
                    links.record.counters.deliveries_expected += sent;
                    links.record.counters.lost += lost;
                }
            }
        }
        links.record.counters.copies_expected = self.copies(links).map(|(sent, _)| sent).sum();
        links.record.counters.lost += self.copies_lost(links);
    }
}

/// After this, or a tenth of the timeout when that is longer, a burst is not waited for any more: a
/// million deliveries take a while.
const STALL_LEAST_NS: u64 = 1_000_000_000;
/// From the end until it is certain that the server has cut, or kept, those who do not read.
const SLOW_PAUSE_NS: u64 = 5_000_000_000;
/// Between two looks at whether the last messages have come, and for threads' clocks to agree.
const TAIL_NS: u64 = 10_000_000;
