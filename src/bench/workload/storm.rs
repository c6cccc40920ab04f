//! All connections drop at once and reconnect at once: how long until all are back?
//!
//! Or they reconnect as well-behaved clients do, each after a wait ([`Backoff`]).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Workload;
use super::backoff::Backoff;
use crate::bench::failure::Fault;
use crate::bench::links::{Flags, Links};
use crate::bench::plan::Plan;
use crate::bench::schedule::Stage;
use crate::wire::header::OpCode;

/// Latency counts from the drop to the server's response on the new connection.
pub struct Storm {
    /// Of each connection, from its drop until it is open again.
    absences: Vec<Option<Absence>>,
    absent: u32,
    rounds_begun: u32,
    backoff: Option<Backoff>,
    /// Who tries again, and when.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
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
    /// The connections of one thread, `count` of them.
    pub fn new(plan: &Plan, count: u32) -> Self {
        Self {
            absences: vec![None; count as usize],
            absent: 0,
            rounds_begun: 0,
            backoff: plan.backoff.then(Backoff::default),
            waiting: BinaryHeap::new(),
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
        for index in (0..links.count()).filter(|&index| links.is_open(index)).collect::<Vec<_>>() {
            let absence = Absence { dropped_ns: links.now_ns, round, attempts: 0 };
            self.absences[index as usize] = Some(absence);
            self.absent += 1;
            links.record.dropped(round);
            if self.backoff.is_some() {
                links.connections[index as usize].flags.insert(Flags::BACKS_OFF);
            }
            links.close(index);
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
        if let Some(absence) = self.absences[index as usize].take() {
            self.absent -= 1;
            links.messages += 1;
            links.connections[index as usize].flags.remove(Flags::BACKS_OFF);
            let Absence { dropped_ns, round, attempts } = absence;
            links.record.message(dropped_ns, links.now_ns, 0);
            links.record.came_back(round, attempts, links.now_ns - dropped_ns);
        }
    }

    fn message(
        &mut self,
        _links: &mut Links,
        _index: u32,
        _opcode: OpCode,
        _payload: &[u8],
    ) -> Result<(), Fault> {
        Ok(())
    }

    /// Whoever failed to come back tries again: that is what clients do.
    fn closed(&mut self, links: &mut Links, index: u32) {
        let Some(absence) = self.absences[index as usize] else { return };
        if links.stage() == Stage::Finished {
            return;
        }
        match &mut self.backoff {
            Some(backoff) => {
                let due_ns = links.now_ns + backoff.wait_ns(absence.attempts);
                self.waiting.push(Reverse((due_ns, index)));
            }
            None => self.reconnect(links, index),
        }
    }

    fn opens_all_at_once(&self) -> bool {
        self.rounds_begun > 0
    }

    fn tick(&mut self, links: &mut Links) -> Option<u64> {
        if self.round_ns(links, self.rounds_begun).is_some_and(|next_ns| next_ns <= links.now_ns) {
            self.drop_all(links);
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
        all_back || links.stage() == Stage::Finished
    }

    fn finish(&mut self, links: &mut Links) {
        // Who was told to stop early has not been given the time to come back.
        if links.is_interrupted {
            return;
        }
        for index in 0..links.count() {
            if let Some(absence) = self.absences[index as usize] {
                let waited_ns = links.now_ns - absence.dropped_ns;
                links.connections[index as usize].flags.remove(Flags::BACKS_OFF);
                links.fail(index, &Fault::TimedOut(waited_ns / 1_000_000));
            }
        }
    }
}
