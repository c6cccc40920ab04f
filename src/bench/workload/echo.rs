//! Closed loop: send, wait for the echo, send again.

use super::Workload;
use crate::bench::content::{Content, Stamp};
use crate::bench::failure::Fault;
use crate::bench::links::Links;
use crate::bench::plan::Plan;
use crate::bench::schedule::Stage;
use crate::wire::header::OpCode;

/// Sends a burst whenever there is room for one among the messages that may be on their way.
pub struct Echo {
    content: Content,
    in_flight: u32,
    burst: u32,
    /// Messages sent and received, for each connection.
    progress: Vec<(u64, u64)>,
    /// When the messages on their way were sent: `in_flight` for each connection.
    times_ns: Vec<u64>,
    outstanding: u64,
}

impl Echo {
    /// The connections of one thread, `count` of them.
    pub fn new(plan: &Plan, count: u32) -> Self {
        Self {
            content: Content::new(plan),
            in_flight: plan.in_flight,
            burst: plan.burst,
            progress: vec![(0, 0); count as usize],
            times_ns: vec![0; count as usize * plan.in_flight as usize],
            outstanding: 0,
        }
    }

    fn send(&mut self, links: &mut Links, index: u32) {
        let id = links.id(index);
        for _ in 0..self.burst {
            let sequence = self.progress[index as usize].0;
            self.progress[index as usize].0 += 1;
            let place = self.place(index, sequence);
            self.times_ns[place] = links.now_ns;
            let stamp = Stamp { id, sequence, time_ns: links.now_ns };
            links.send(index, links.plan().topic(id), &mut self.content, stamp);
        }
        self.outstanding += u64::from(self.burst);
    }

    /// The oldest message on its way has its answer.
    fn completed(&mut self, links: &mut Links, index: u32, time_ns: u64, bytes: usize) {
        self.progress[index as usize].1 += 1;
        self.outstanding -= 1;
        links.messages += 1;
        links.record.message(time_ns, links.now_ns, bytes);
        if self.has_room(index) && links.stage() < Stage::Finished {
            self.send(links, index);
        }
    }

    fn has_room(&self, index: u32) -> bool {
        let (sent, received) = self.progress[index as usize];
        sent - received + u64::from(self.burst) <= u64::from(self.in_flight)
    }

    fn place(&self, index: u32, sequence: u64) -> usize {
        let in_flight = self.in_flight as usize;
        index as usize * in_flight + (sequence % in_flight as u64) as usize
    }
}

impl Workload for Echo {
    fn begin(&mut self, links: &mut Links) {
        for index in 0..links.count() {
            while links.is_open(index) && self.has_room(index) {
                self.send(links, index);
            }
        }
    }

    fn message(
        &mut self,
        links: &mut Links,
        index: u32,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<(), Fault> {
        let (sent, received) = self.progress[index as usize];
        if received == sent {
            return Err(Fault::Unasked { bytes: payload.len() });
        }
        let time_ns = self.times_ns[self.place(index, received)];
        let stamp = Stamp { id: links.id(index), sequence: received, time_ns };
        self.content.check(opcode, payload, stamp)?;
        self.completed(links, index, time_ns, payload.len());
        Ok(())
    }

    fn answered(&mut self, links: &mut Links, index: u32) -> Result<(), Fault> {
        let (_, answered) = self.progress[index as usize];
        let time_ns = self.times_ns[self.place(index, answered)];
        let bytes = self.content.bytes(links.id(index), answered);
        self.completed(links, index, time_ns, bytes);
        Ok(())
    }

    fn closed(&mut self, _links: &mut Links, index: u32) {
        let (sent, received) = &mut self.progress[index as usize];
        self.outstanding -= *sent - *received;
        *received = *sent;
    }

    fn tick(&mut self, links: &mut Links) -> Option<u64> {
        let end_ns = links.moments?.until_ns + links.timeout().as_nanos() as u64;
        Some(end_ns)
    }

    fn is_done(&self, links: &Links) -> bool {
        links.stage() == Stage::Finished && (self.outstanding == 0 || links.waited_long_enough())
    }

    fn finish(&mut self, links: &mut Links) {
        for index in 0..links.count() {
            let (sent, received) = self.progress[index as usize];
            if received < sent && links.is_open(index) {
                links.record.counters.unanswered += sent - received;
                let waited = Fault::TimedOut(links.timeout().as_millis() as u64);
                links.fail(index, &waited);
            }
        }
    }
}
