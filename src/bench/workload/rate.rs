//! Open loop: send when messages are due, whether echoes come or not.
//!
//! Latency counts from the moment at which a message was due, so a server (or a generator) that
//! stalls pays for every message that it kept waiting: no coordinated omission.

use std::collections::VecDeque;

use super::Workload;
use super::pacer::Pacer;
use crate::bench::content::{Content, Stamp};
use crate::bench::failure::Fault;
use crate::bench::links::Links;
use crate::bench::plan::Plan;
use crate::bench::schedule::Stage;
use crate::wire::header::OpCode;

/// Connections take the messages in turn.
pub struct Rate {
    content: Content,
    pacer: Pacer,
    share: f64,
    phase: f64,
    turn: u32,
    connections: Vec<Progress>,
    outstanding: u64,
}

#[derive(Clone, Default)]
struct Progress {
    received: u64,
    /// When the messages on their way were due.
    due_ns: VecDeque<u64>,
}

impl Rate {
    /// The connections of thread `lane`, `count` of them.
    pub fn new(plan: &Plan, lane: u32, lanes: u32, count: u32) -> Self {
        Self {
            content: Content::new(plan),
            pacer: Pacer::default(),
            share: f64::from(count) / f64::from(plan.connections),
            phase: f64::from(lane) / f64::from(lanes),
            turn: 0,
            connections: vec![Progress::default(); count as usize],
            outstanding: 0,
        }
    }

    fn send(&mut self, links: &mut Links, due_ns: u64) {
        let count = links.count();
        let open = (0..count).map(|step| (self.turn + step) % count).find(|&i| links.is_open(i));
        let Some(index) = open else { return };
        self.turn = (index + 1) % count;
        let progress = &mut self.connections[index as usize];
        let sequence = progress.received + progress.due_ns.len() as u64;
        progress.due_ns.push_back(due_ns);
        let stamp = Stamp { id: links.id(index), sequence, time_ns: due_ns };
        let topic = links.plan().topic(stamp.id);
        links.send(index, topic, &mut self.content, stamp);
        self.outstanding += 1;
        links.record.lateness(due_ns, links.now_ns - due_ns);
    }

    /// The oldest message on its way has its answer.
    fn completed(&mut self, links: &mut Links, index: u32, due_ns: u64, bytes: usize) {
        let progress = &mut self.connections[index as usize];
        progress.due_ns.pop_front();
        progress.received += 1;
        self.outstanding -= 1;
        links.messages += 1;
        links.record.count(links.now_ns, bytes);
        links.record.latency(due_ns, links.now_ns - due_ns);
    }
}

impl Workload for Rate {
    fn begin(&mut self, links: &mut Links) {
        if let Some(moments) = links.moments {
            self.pacer = Pacer::new(links.plan(), moments, self.share, self.phase);
        }
    }

    fn message(
        &mut self,
        links: &mut Links,
        index: u32,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<(), Fault> {
        let progress = &mut self.connections[index as usize];
        let Some(&due_ns) = progress.due_ns.front() else {
            return Err(Fault::Unasked { bytes: payload.len() });
        };
        let stamp = Stamp { id: links.id(index), sequence: progress.received, time_ns: due_ns };
        self.content.check(opcode, payload, stamp)?;
        self.completed(links, index, due_ns, payload.len());
        Ok(())
    }

    fn answered(&mut self, links: &mut Links, index: u32) -> Result<(), Fault> {
        let progress = &self.connections[index as usize];
        if let Some(&due_ns) = progress.due_ns.front() {
            let bytes = self.content.bytes(links.id(index), progress.received);
            self.completed(links, index, due_ns, bytes);
        }
        Ok(())
    }

    fn closed(&mut self, _links: &mut Links, index: u32) {
        let progress = &mut self.connections[index as usize];
        self.outstanding -= progress.due_ns.len() as u64;
        progress.due_ns.clear();
    }

    fn tick(&mut self, links: &mut Links) -> Option<u64> {
        let moments = links.moments?;
        let plan = links.plan().clone();
        while let Some(due_ns) = self.pacer.due(&plan, moments, links.now_ns) {
            self.send(links, due_ns);
        }
        let next_ns = self.pacer.next_ns();
        Some(if next_ns < moments.until_ns { next_ns } else { moments.until_ns + TAIL_NS })
    }

    fn is_done(&self, links: &Links) -> bool {
        links.stage() == Stage::Finished && (self.outstanding == 0 || links.waited_long_enough())
    }

    fn finish(&mut self, links: &mut Links) {
        for index in 0..links.count() {
            let unanswered = self.connections[index as usize].due_ns.len() as u64;
            if unanswered > 0 && links.is_open(index) {
                links.record.counters.unanswered += unanswered;
                let waited = Fault::TimedOut(links.timeout().as_millis() as u64);
                links.fail(index, &waited);
            }
        }
    }
}

/// Between two looks at whether the last echoes have come.
const TAIL_NS: u64 = 10_000_000;
