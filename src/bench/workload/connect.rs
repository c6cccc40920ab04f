//! Opening handshakes: each connection opens, closes, and opens again; or all open once and stay.

use super::Workload;
use crate::bench::arguments::Close;
use crate::bench::failure::Fault;
use crate::bench::links::Links;
use crate::bench::schedule::Stage;
use crate::wire::header::OpCode;

/// Latency counts from the start of the TCP handshake to the server's response.
pub struct Connect {
    /// Whether the present tenant of each place got its response.
    was_opened: Vec<bool>,
    /// Places that are still in use or will be.
    active: u32,
}

impl Connect {
    /// The connections of one thread, `count` of them.
    pub fn new(count: u32) -> Self {
        Self { was_opened: vec![false; count as usize], active: count }
    }
}

impl Workload for Connect {
    fn begin(&mut self, links: &mut Links) {
        links.to_open.extend(0..links.count());
    }

    fn opened(&mut self, links: &mut Links, index: u32) {
        self.was_opened[index as usize] = true;
        let since_ns = links.connections[index as usize].since_ns;
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

    /// A place whose connection failed stays empty: a server that refuses is not to be hammered.
    fn closed(&mut self, links: &mut Links, index: u32) {
        let was_opened = std::mem::take(&mut self.was_opened[index as usize]);
        let goes_on = was_opened && links.plan().close != Close::None;
        if goes_on && links.stage() < Stage::Finished {
            links.to_open.push_back(index);
        } else {
            self.active -= 1;
        }
    }

    fn tick(&mut self, links: &mut Links) -> Option<u64> {
        if links.is_interrupted && links.stage() == Stage::Finished {
            links.to_open.clear();
        }
        None
    }

    fn is_done(&self, links: &Links) -> bool {
        let nothing_to_open = links.to_open.is_empty() && links.in_transit == 0;
        match links.plan().close {
            Close::None if links.is_interrupted => links.in_transit == 0,
            Close::None => links.settled == links.count(),
            _ => self.active == 0 || (links.stage() == Stage::Finished && nothing_to_open),
        }
    }
}
