//! What is published while all clients of a storm are away.
//!
//! > All threads drop their clients; then the publisher publishes, so that nobody gets any of it
//! > before its absence; and when all of that is acknowledged, clients come back.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::bench::content::{Content, Stamp};
use crate::bench::links::Links;
use crate::bench::plan::Plan;

/// How far all threads have come, over all rounds.
#[derive(Debug, Default)]
pub struct Interludes {
    /// Threads that have dropped their clients, each round anew.
    gone: AtomicU32,
    /// Rounds of which everything is published.
    published: AtomicU32,
}

impl Interludes {
    /// A thread has dropped its clients. Who is to publish is woken for it.
    pub fn clients_are_gone(&self, links: &mut Links) {
        // Partner: the load in `Publisher::tick`.
        self.gone.fetch_add(1, Ordering::Release);
        if links.lane() != PUBLISHER_LANE {
            links.wakeups.push(PUBLISHER_LANE as usize);
        }
    }

    /// Rounds of which everything is published, so that clients may come back.
    pub fn published(&self) -> u32 {
        // Partner: the store in `Publisher::answered`.
        self.published.load(Ordering::Acquire)
    }
}

/// The connection that publishes what others miss: the first of the run.
pub struct Publisher {
    content: Content,
    /// Publications of one round.
    each_round: u64,
    /// Of all rounds.
    due: u64,
    sent: u64,
    answered: u64,
}

impl Publisher {
    /// The publisher, if a thread has it.
    pub fn new(plan: &Plan, lane: u32) -> Option<Self> {
        let missed = plan.channels.as_ref().map_or(0, |channels| channels.missed);
        (missed > 0 && lane == PUBLISHER_LANE).then(|| Self {
            content: Content::new(plan),
            each_round: u64::from(missed) * u64::from(plan.topics),
            due: 0,
            sent: 0,
            answered: 0,
        })
    }

    /// Begins with the next round once all clients are gone, and goes on with it.
    pub fn tick(&mut self, links: &mut Links, interludes: &Interludes) {
        // Partner: the addition in `clients_are_gone`.
        let rounds = interludes.gone.load(Ordering::Acquire) / links.lanes();
        self.due = self.due.max(u64::from(rounds) * self.each_round);
        while self.sent < self.due && self.sent - self.answered < IN_FLIGHT && links.is_open(INDEX)
        {
            let topics = u64::from(links.plan().topics);
            let stream = (self.sent % topics) as u32;
            let stamp = Stamp { id: stream, sequence: self.sent / topics, time_ns: links.now_ns };
            links.send(INDEX, links.plan().topic_of(stream), &mut self.content, stamp);
            self.sent += 1;
        }
    }

    /// A publication is acknowledged. With the last one of a round clients may come back.
    pub fn answered(&mut self, links: &mut Links, interludes: &Interludes) {
        self.answered += 1;
        if self.answered.is_multiple_of(self.each_round) {
            let rounds = (self.answered / self.each_round) as u32;
            // Partner: the load in `Interludes::published`.
            interludes.published.store(rounds, Ordering::Release);
            links.wakeups.extend((0..links.lanes()).map(|lane| lane as usize).skip(1));
        }
    }
}

/// The thread and the place there of the first connection of the run.
const PUBLISHER_LANE: u32 = 0;
const INDEX: u32 = 0;
/// Publications that may wait for their acknowledgement.
const IN_FLIGHT: u64 = 256;
