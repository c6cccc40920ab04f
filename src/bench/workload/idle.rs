//! Connections that do nothing but answer pings: how many stay, and what do they cost?

use super::Workload;
use crate::bench::failure::Fault;
use crate::bench::links::Links;
use crate::bench::schedule::Stage;
use crate::wire::header::OpCode;

/// They wait on a poll, which costs the kernel less than a receive.
pub struct Idle;

impl Workload for Idle {
    fn opened(&mut self, links: &mut Links, index: u32) {
        links.park(index);
    }

    /// Whatever the server has to say is welcome.
    fn message(
        &mut self,
        links: &mut Links,
        _index: u32,
        _opcode: OpCode,
        payload: &[u8],
    ) -> Result<(), Fault> {
        links.messages += 1;
        links.record.count(links.now_ns, payload.len());
        Ok(())
    }

    fn tick(&mut self, _links: &mut Links) -> Option<u64> {
        None
    }

    fn is_done(&self, links: &Links) -> bool {
        links.stage() == Stage::Finished
    }
}
