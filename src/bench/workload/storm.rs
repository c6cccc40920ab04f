//! All connections drop at once and reconnect at once: how long until all are back?

use super::Workload;
use crate::bench::failure::Fault;
use crate::bench::links::Links;
use crate::bench::schedule::Stage;
use crate::wire::header::OpCode;

/// Latency counts from the drop to the server's response on the new connection.
pub struct Storm {
    /// When each connection was dropped; 0 while it is open.
    dropped_ns: Vec<u64>,
    waiting: u32,
    rounds_begun: u32,
}

impl Storm {
    /// The connections of one thread, `count` of them.
    pub fn new(count: u32) -> Self {
        Self { dropped_ns: vec![0; count as usize], waiting: 0, rounds_begun: 0 }
    }

    fn round_ns(&self, links: &Links, round: u32) -> Option<u64> {
        let moments = links.moments?;
        let rounds = u64::from(links.plan().rounds);
        (u64::from(round) < rounds).then(|| {
            let measured_ns = moments.until_ns.saturating_sub(moments.from_ns);
            moments.from_ns + measured_ns / rounds * u64::from(round)
        })
    }

    fn drop_all(&mut self, links: &mut Links) {
        for index in 0..links.count() {
            if links.is_open(index) {
                self.dropped_ns[index as usize] = links.now_ns.max(1);
                self.waiting += 1;
                links.close(index);
            }
        }
    }
}

impl Workload for Storm {
    fn opened(&mut self, links: &mut Links, index: u32) {
        let dropped_ns = std::mem::take(&mut self.dropped_ns[index as usize]);
        if dropped_ns != 0 {
            self.waiting -= 1;
            links.messages += 1;
            links.record.message(dropped_ns, links.now_ns, 0);
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
        if self.dropped_ns[index as usize] != 0 && links.stage() < Stage::Finished {
            links.to_open.push_back(index);
        }
    }

    fn opens_all_at_once(&self) -> bool {
        self.rounds_begun > 0
    }

    fn tick(&mut self, links: &mut Links) -> Option<u64> {
        let next_ns = self.round_ns(links, self.rounds_begun)?;
        if links.now_ns < next_ns {
            return Some(next_ns);
        }
        self.rounds_begun += 1;
        self.drop_all(links);
        self.round_ns(links, self.rounds_begun)
    }

    fn is_done(&self, links: &Links) -> bool {
        let all_back = self.rounds_begun == links.plan().rounds && self.waiting == 0;
        all_back || links.stage() == Stage::Finished
    }

    fn finish(&mut self, links: &mut Links) {
        for index in 0..links.count() {
            if self.dropped_ns[index as usize] != 0 {
                let waited_ns = links.now_ns - self.dropped_ns[index as usize];
                links.fail(index, &Fault::TimedOut(waited_ns / 1_000_000));
            }
        }
    }
}
