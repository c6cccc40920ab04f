//! All connections drop at once and reconnect at once: how long until all are back?
//!
//! Or they reconnect as well-behaved clients do, each after a wait ([`Backoff`]). Clients of
//! channels have missed something meanwhile ([`Interludes`]), and are back when they have got that.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Workload;
use super::backoff::Backoff;
use super::interlude::{Interludes, Publisher};
use crate::bench::content::Content;
use crate::bench::failure::Fault;
use crate::bench::links::{Flags, Links};
use crate::bench::schedule::Stage;
use crate::wire::header::OpCode;

/// Latency counts from the drop to the server's response on the new connection; where something is
/// missed, from the moment at which all of it is there until it has been recovered.
pub struct Storm {
    /// Of each connection, from its drop until it is open again.
    absences: Vec<Option<Absence>>,
    absent: u32,
    rounds_begun: u32,
    backoff: Option<Backoff>,
    /// Who tries again, and when.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
    content: Content,
    interludes: Arc<Interludes>,
    publisher: Option<Publisher>,
    /// Publications that each client misses in a round.
    missed: u64,
    /// What each client has recovered in all rounds.
    recovered: Vec<u64>,
    /// Who comes back when everything is published.
    held: Vec<u32>,
}

/// A connection that is not back yet.
#[derive(Clone, Copy, Debug)]
struct Absence {
    dropped_ns: u64,
    round: u32,
    /// Attempts to come back so far.
    attempts: u32,
}

impl Storm {
    /// The connections among `links`.
    pub fn new(links: &Links, interludes: Arc<Interludes>) -> Self {
        let (plan, count) = (links.plan(), links.count());
        let missed = plan.channels.as_ref().map_or(0, |channels| channels.missed);
        Self {
            absences: vec![None; count as usize],
            absent: 0,
            rounds_begun: 0,
            backoff: plan.backoff.then(Backoff::default),
            waiting: BinaryHeap::new(),
            content: Content::new(plan),
            interludes,
            publisher: Publisher::new(plan, links.lane()),
            missed: u64::from(missed) * u64::from(plan.subscriptions()),
            recovered: vec![0; count as usize],
            held: Vec::new(),
        }
    }

    /// When a round begins, unless all have or the run ends before it.
    fn round_ns(&self, links: &Links, round: u32) -> Option<u64> {
        let moments = links.moments?;
        let rounds = links.plan().rounds;
        let each_ns = links.plan().measured().as_nanos() as u64 / u64::from(rounds);
        let begin_ns = moments.from_ns + each_ns * u64::from(round);
        (round < rounds && begin_ns < moments.until_ns).then_some(begin_ns)
    }

    fn drop_all(&mut self, links: &mut Links) {
        let round = self.rounds_begun;
        self.rounds_begun += 1;
        let clients = self.clients(links).filter(|&index| links.is_open(index));
        for index in clients.collect::<Vec<_>>() {
            let absence = Absence { dropped_ns: links.now_ns, round, attempts: 0 };
            self.absences[index as usize] = Some(absence);
            self.absent += 1;
            links.record.dropped(round);
            if self.backoff.is_some() {
                links.connections[index as usize].flags.insert(Flags::BACKS_OFF);
            }
            links.close(index);
        }
        if self.missed > 0 {
            self.interludes.clients_are_gone(links);
        }
    }

    /// The connections that are dropped: all but the publisher.
    fn clients(&self, links: &Links) -> std::ops::Range<u32> {
        u32::from(self.publisher.is_some())..links.count()
    }

    /// Whether a client that was dropped in this round must not come back yet.
    fn is_held(&self, round: u32) -> bool {
        self.missed > 0 && self.interludes.published() <= round
    }

    /// Lets those come back for whom everything is published.
    fn release(&mut self, links: &mut Links) {
        for index in std::mem::take(&mut self.held) {
            let Some(absence) = &mut self.absences[index as usize] else { continue };
            absence.dropped_ns = links.now_ns;
            self.come_back(links, index);
        }
    }

    /// Has a client come back, or be held up until it may.
    fn come_back(&mut self, links: &mut Links, index: u32) {
        let Some(absence) = self.absences[index as usize] else { return };
        if self.is_held(absence.round) {
            return self.held.push(index);
        }
        match &mut self.backoff {
            Some(backoff) => {
                let due_ns = links.now_ns + backoff.wait_ns(absence.attempts);
                self.waiting.push(Reverse((due_ns, index)));
            }
            None => self.reconnect(links, index),
        }
    }

    fn reconnect(&mut self, links: &mut Links, index: u32) {
        if let Some(absence) = &mut self.absences[index as usize] {
            absence.attempts += 1;
            links.to_open.push_back(index);
        }
    }
}

impl Workload for Storm {
    fn opened(&mut self, links: &mut Links, index: u32) {
        if let Some(absence) = self.absences[index as usize] {
            let (expected, recovered) =
                (self.missed * u64::from(absence.round + 1), self.recovered[index as usize]);
            self.absences[index as usize] = None;
            self.absent -= 1;
            if recovered < expected {
                // What is gone stays gone: it does not try again.
                let text = format!("{recovered} of {expected} missed publications were recovered");
                return links.fail(index, &Fault::Session(text));
            }
            links.messages += 1;
            links.connections[index as usize].flags.remove(Flags::BACKS_OFF);
            let Absence { dropped_ns, round, attempts } = absence;
            links.record.message(dropped_ns, links.now_ns, 0);
            links.record.came_back(round, attempts, links.now_ns - dropped_ns);
        }
    }

    fn message(
        &mut self,
        links: &mut Links,
        index: u32,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<(), Fault> {
        if links.plan().channels.is_some() {
            self.content.read(opcode, payload)?;
            self.recovered[index as usize] += 1;
        }
        Ok(())
    }

    fn answered(&mut self, links: &mut Links, _index: u32) -> Result<(), Fault> {
        if let Some(publisher) = &mut self.publisher {
            publisher.answered(links, &self.interludes);
        }
        Ok(())
    }

    /// Whoever failed to come back tries again: that is what clients do.
    fn closed(&mut self, links: &mut Links, index: u32) {
        if links.stage() < Stage::Finished {
            self.come_back(links, index);
        }
    }

    fn opens_all_at_once(&self) -> bool {
        self.rounds_begun > 0
    }

    fn tick(&mut self, links: &mut Links) -> Option<u64> {
        if self.round_ns(links, self.rounds_begun).is_some_and(|next_ns| next_ns <= links.now_ns) {
            self.drop_all(links);
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.tick(links, &self.interludes);
        }
        if !self.held.is_empty() && !self.is_held(self.rounds_begun.saturating_sub(1)) {
            self.release(links);
        }
        while let Some(&Reverse((due_ns, index))) = self.waiting.peek()
            && due_ns <= links.now_ns
        {
            self.waiting.pop();
            self.reconnect(links, index);
        }
        let due_ns = self.waiting.peek().map(|Reverse((due_ns, _))| *due_ns);
        self.round_ns(links, self.rounds_begun).into_iter().chain(due_ns).min()
    }

    fn is_done(&self, links: &Links) -> bool {
        let all_back = self.rounds_begun == links.plan().rounds && self.absent == 0;
        let all_published = self.missed == 0 || self.interludes.published() == self.rounds_begun;
        all_back && all_published || links.stage() == Stage::Finished
    }

    fn finish(&mut self, links: &mut Links) {
        // Who was told to stop early has not been given the time to come back.
        if links.is_interrupted {
            return;
        }
        for index in self.clients(links) {
            if links.is_open(index) {
                let expected = self.missed * u64::from(self.interludes.published());
                let lost = expected.saturating_sub(self.recovered[index as usize]);
                links.record.counters.deliveries_expected += expected;
                links.record.counters.lost += lost;
            }
            if let Some(absence) = self.absences[index as usize] {
                let waited_ns = links.now_ns - absence.dropped_ns;
                links.connections[index as usize].flags.remove(Flags::BACKS_OFF);
                links.fail(index, &Fault::TimedOut(waited_ns / 1_000_000));
            }
        }
    }
}
