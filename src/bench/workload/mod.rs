//! What connections do, one file for each kind.

mod backoff;
mod broadcast;
mod connect;
mod echo;
mod idle;
mod interlude;
mod order;
mod pacer;
mod rate;
mod storm;

use std::sync::Arc;

use super::failure::Fault;
use super::links::Links;
use super::plan::Plan;
use crate::wire::header::OpCode;

pub use broadcast::{Broadcast, Deliveries};
pub use connect::Connect;
pub use echo::Echo;
pub use idle::Idle;
pub use interlude::Interludes;
pub use rate::Rate;
pub use storm::Storm;

/// What the workloads of all threads keep together.
pub struct Common {
    /// Of broadcasts.
    pub deliveries: Arc<Deliveries>,
    /// Of storms.
    pub interludes: Arc<Interludes>,
}

impl Common {
    /// Nothing has happened yet.
    pub fn new(plan: &Plan) -> Self {
        Self {
            deliveries: Arc::new(Deliveries::new(plan)),
            interludes: Arc::new(Interludes::default()),
        }
    }
}

/// What the connections of one thread do.
///
/// > A connection opens; once all threads' connections are open the workload begins; messages come
/// > and ticks pass; when the measured time is over and nothing is outstanding, it is done.
pub trait Workload {
    /// The handshake of a connection is complete.
    fn opened(&mut self, _links: &mut Links, _index: u32) {}

    /// All connections of the run are open, or have failed.
    fn begin(&mut self, _links: &mut Links) {}

    /// A message came.
    ///
    /// # Errors
    /// What is wrong with it; the connection fails.
    fn message(
        &mut self,
        links: &mut Links,
        index: u32,
        opcode: OpCode,
        payload: &[u8],
    ) -> Result<(), Fault>;

    /// A message that was [published](Links::send) to a channel has been acknowledged; they are in
    /// the order in which they were sent.
    ///
    /// # Errors
    /// What is wrong with that; the connection fails.
    fn answered(&mut self, _links: &mut Links, _index: u32) -> Result<(), Fault> {
        Ok(())
    }

    /// A connection has ended and its place is free.
    fn closed(&mut self, _links: &mut Links, _index: u32) {}

    /// Whether the server may end this connection without failing the run.
    fn forgives(&self, _links: &Links, _index: u32) -> bool {
        false
    }

    /// Whether connections are opened without regard to how many are being opened already.
    fn opens_all_at_once(&self) -> bool {
        false
    }

    /// Events have been handled; the answer is the next moment to act at.
    fn tick(&mut self, links: &mut Links) -> Option<u64>;

    /// Whether nothing is left to do; asked once the workload has begun.
    fn is_done(&self, links: &Links) -> bool;

    /// It is done: what remains to be counted?
    fn finish(&mut self, _links: &mut Links) {}
}
