//! Opening handshakes: each connection opens, closes, and opens again; or all open once and stay;
//! or they open at a rate, whether the server keeps up or not.

use std::collections::VecDeque;

use super::Workload;
use super::pacer::Pacer;
use crate::bench::arguments::Close;
use crate::bench::failure::Fault;
use crate::bench::links::Links;
use crate::bench::plan::Plan;
use crate::bench::schedule::Stage;
use crate::wire::header::OpCode;

/// Latency counts from the start of the TCP handshake to the server's response; at a rate from the
/// moment at which the handshake was due.
pub struct Connect {
    /// Whether the present tenant of each place got its response.
    was_opened: Vec<bool>,
    /// Places that are still in use or will be.
    active: u32,
    arrivals: Option<Arrivals>,
}

/// Handshakes that begin at a rate, each in a free place.
struct Arrivals {
    pacer: Pacer,
    share: f64,
    phase: f64,
    free: Vec<u32>,
    /// When those were due that wait for a place.
    waiting_ns: VecDeque<u64>,
    /// When the present tenant of each place was due.
    due_ns: Vec<u64>,
}

impl Arrivals {
    fn new(plan: &Plan, lane: u32, lanes: u32, count: u32) -> Self {
        Self {
            pacer: Pacer::default(),
            share: f64::from(count) / f64::from(plan.connections),
            phase: f64::from(lane) / f64::from(lanes),
            free: (0..count).collect(),
            waiting_ns: VecDeque::new(),
            due_ns: vec![0; count as usize],
        }
    }
}

impl Connect {
    /// The connections of thread `lane`, `count` of them.
    pub fn new(plan: &Plan, lane: u32, lanes: u32, count: u32) -> Self {
        let has_rate = !plan.rates.is_empty();
        Self {
            was_opened: vec![false; count as usize],
            active: count,
            arrivals: has_rate.then(|| Arrivals::new(plan, lane, lanes, count)),
        }
    }
}

impl Workload for Connect {
    fn begin(&mut self, links: &mut Links) {
        match (&mut self.arrivals, links.moments) {
            (Some(arrivals), Some(moments)) => {
                let Arrivals { share, phase, .. } = *arrivals;
                arrivals.pacer = Pacer::new(links.plan(), moments, share, phase);
            }
            (Some(_), None) => {}
            (None, _) => links.to_open.extend(0..links.count()),
        }
    }

    fn opened(&mut self, links: &mut Links, index: u32) {
        self.was_opened[index as usize] = true;
        let since_ns = match &self.arrivals {
            Some(arrivals) => arrivals.due_ns[index as usize],
            None => links.connections[index as usize].since_ns,
        };
        links.messages += 1;
        links.record.message(since_ns, links.now_ns, 0);
        match links.plan().close {
            Close::None => links.park(index),
            Close::Handshake | Close::Reset => links.close(index),
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

    /// A place whose connection failed stays empty, as a server that refuses is not to be hammered;
    /// at a rate it is for whoever comes next.
    fn closed(&mut self, links: &mut Links, index: u32) {
        let was_opened = std::mem::take(&mut self.was_opened[index as usize]);
        if let Some(arrivals) = &mut self.arrivals {
            // The next to come is another client.
            return arrivals.free.push(index);
        }
        let goes_on = was_opened && links.plan().close != Close::None;
        if goes_on && links.stage() < Stage::Finished {
            links.to_open.push_back(index);
        } else {
            self.active -= 1;
        }
    }

    fn opens_all_at_once(&self) -> bool {
        self.arrivals.is_some()
    }

    fn tick(&mut self, links: &mut Links) -> Option<u64> {
        if links.is_interrupted && links.stage() == Stage::Finished {
            links.to_open.clear();
        }
        let (arrivals, moments) = (self.arrivals.as_mut()?, links.moments?);
        let plan = links.plan().clone();
        while let Some(due_ns) = arrivals.pacer.due(&plan, moments, links.now_ns) {
            arrivals.waiting_ns.push_back(due_ns);
        }
        if links.stage() == Stage::Finished {
            links.record.counters.unanswered += arrivals.waiting_ns.len() as u64;
            arrivals.waiting_ns.clear();
        }
        // Whoever has waited for a place for as long as for an answer has given up.
        let timeout_ns = links.timeout().as_nanos() as u64;
        while let Some(due_ns) = arrivals.waiting_ns.front()
            && due_ns + timeout_ns < links.now_ns
        {
            arrivals.waiting_ns.pop_front();
            links.record.counters.unanswered += 1;
        }
        while !arrivals.waiting_ns.is_empty()
            && let Some(index) = arrivals.free.pop()
            && let Some(due_ns) = arrivals.waiting_ns.pop_front()
        {
            arrivals.due_ns[index as usize] = due_ns;
            links.to_open.push_back(index);
        }
        (arrivals.pacer.next_ns() < moments.until_ns).then(|| arrivals.pacer.next_ns())
    }

    fn is_done(&self, links: &Links) -> bool {
        let nothing_to_open = links.to_open.is_empty() && links.in_transit == 0;
        if let Some(arrivals) = &self.arrivals {
            let is_over = links.stage() == Stage::Finished && nothing_to_open;
            return is_over && arrivals.free.len() == links.count() as usize;
        }
        match links.plan().close {
            Close::None if links.is_interrupted => links.in_transit == 0,
            Close::None => links.settled == links.count(),
            _ => self.active == 0 || (links.stage() == Stage::Finished && nothing_to_open),
        }
    }
}
