//! The load generator: `ringwire bench`.
//!
//! It is a client of any RFC 6455 server. It uses the frame codec and the ring as the server does,
//! but nothing of the server above them.
//!
//! > Arguments become a plan; each thread runs a lane, which is a ring with connections and a
//! > workload that says what they do; a schedule tells all of them what time it is in the run; what
//! > they recorded is summed up and reported.
//!
//! What connections say is a message of the workload or, where they are clients of channels, a
//! command that publishes it (`session.rs`); a workload sees either as it is published and got.
//!
//! A search for a server's capacity is many such runs, at the rates that [`search`] names. A signal
//! moves the end of a run to the present, and what follows is as always.
//!
//! Threads are pinned and hold as many connections as a ring's table of registered files takes;
//! when there are more connections, there are more threads than were asked for. Sockets go straight
//! into that table, so a million of them need no privilege.

pub mod arguments;
mod capacity;
mod channels;
mod content;
mod environment;
mod failure;
mod handshake;
mod interruption;
mod lane;
mod links;
mod plan;
mod process;
mod progress;
mod proxy;
mod reader;
mod receive;
mod record;
mod report;
mod requests;
mod run;
mod schedule;
mod search;
mod secure;
mod session;
mod sources;
mod target;
mod topics;
mod values;
mod way;
mod workload;

use std::io;

pub use arguments::Arguments;
pub use plan::PlanError;
pub use report::{OutputError, Verdict};
pub use run::RunError;

/// The client's side of the protocol without the ring, for a program that a test suite judges.
pub mod client {
    pub use super::content::append_frame;
    pub use super::failure::Fault;
    pub use super::handshake::{Handshake, Offer};
    pub use super::reader::{Incoming, Partial, read};
    pub use super::target::Target;
}

use interruption::Interruption;
use plan::{Goal, Plan};
use progress::ProgressLine;
use report::Report;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The options make no run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The run could not be made.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The signals that end a run early cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    /// The result could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Runs what `arguments` ask for and writes the results. SIGINT and SIGTERM end the run early, with
/// its results so far; a second one ends the process.
///
/// # Errors
/// A [`BenchError`]; that the server failed the run is no error but a [`Verdict`].
pub fn run(arguments: &Arguments) -> Result<Verdict, BenchError> {
    let goal = Goal::new(arguments)?;
    let plan = Plan::new(arguments)?;
    report::check_outputs(arguments)?;
    let interruption = Interruption::catch().map_err(BenchError::Signals)?;
    if let Some(goal) = goal {
        let capacity = capacity::measure(arguments, &plan, goal, &interruption)?;
        let report = Report::of_capacity(arguments, &capacity);
        report.deliver(arguments, &capacity.run)?;
        return Ok(report.verdict());
    }
    let mut line = ProgressLine::new(&plan);
    let watch = &mut |stage, totals| line.show(stage, totals);
    let run = run::execute(plan, arguments.server_pid, &interruption, watch)?;
    line.clear();
    let report = Report::new(arguments, &run);
    report.deliver(arguments, &run)?;
    Ok(report.verdict())
}
