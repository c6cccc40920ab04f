//! `ringwire bench URL capacity`: the highest load at which the latency holds and nothing is lost.
//!
//! Each trial is a whole run of an open loop at one rate, with connections of its own, so what a
//! trial above the knee has left behind does not burden the next one. [`Search`] says which rates.

use std::time::Duration;

use super::BenchError;
use super::arguments::Arguments;
use super::interruption::Interruption;
use super::plan::{Goal, Plan};
use super::progress::ProgressLine;
use super::report;
use super::run::{self, Run};
use super::search::{Search, Trial};

/// What one trial has shown.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was tried.
    pub trial: Trial,
    /// Measured time.
    pub seconds: f64,
    /// 99 of 100 messages took no longer, in nanoseconds.
    pub p99_ns: u64,
    /// Why the rate did not hold; `None` when it did.
    pub reason: Option<String>,
    /// What was wrong with the generator meanwhile.
    pub generator: Vec<String>,
}

/// What a search has found.
#[derive(Debug)]
pub struct Capacity {
    /// What had to hold.
    pub goal: Goal,
    /// Confirmed messages per second, one for each round, in ascending order.
    pub rates: Vec<u32>,
    /// All trials.
    pub outcomes: Vec<Outcome>,
    /// The last run that confirmed a rate, or the last of all when there is none.
    pub run: Run,
    /// Whether every round came to its end.
    pub is_complete: bool,
}

impl Capacity {
    /// The median of the rounds (of two in the middle the lower one), if a rate was confirmed at
    /// all.
    pub fn rate(&self) -> Option<u32> {
        self.rates.get(self.rates.len().saturating_sub(1) / 2).copied()
    }

    /// The lowest rate beyond the median at which the generator itself was doubtful, and why: what
    /// ended the ramp may have been this program.
    pub fn generator_limit(&self) -> Option<&Outcome> {
        let rate = self.rate().unwrap_or(u32::MAX);
        let doubtful = self.outcomes.iter().filter(|outcome| {
            let is_near = f64::from(outcome.trial.rate) <= f64::from(rate) * NEAR;
            outcome.reason.is_some() && is_near && !outcome.generator.is_empty()
        });
        doubtful.min_by_key(|outcome| outcome.trial.rate)
    }
}

/// Searches; bounded by the trials of the goal.
///
/// # Errors
/// When a run could not be made.
pub fn measure(
    arguments: &Arguments,
    plan: &Plan,
    goal: Goal,
    interruption: &Interruption,
) -> Result<Capacity, BenchError> {
    let first = plan.rates.first().copied().unwrap_or(1);
    let mut search = Search::new(first, goal.rounds);
    let mut outcomes = Vec::new();
    let (mut last, mut confirming) = (None, None);
    while let Some(trial) = search.next().filter(|_| outcomes.len() < goal.trials as usize) {
        let longer = if trial.confirms { CONFIRMATION } else { 1 };
        let duration = plan.duration.saturating_mul(longer);
        let step = Plan { rates: vec![trial.rate], duration, ..plan.clone() };
        let mut line = ProgressLine::new(&step);
        let watch = &mut |stage, totals| line.show(stage, totals);
        let run = run::execute(step, arguments.server_pid, interruption, watch)?;
        line.clear();
        if run.signal.is_some() {
            // A trial that was cut short says nothing about its rate.
            last = Some(run);
            break;
        }
        let outcome = judge(trial, &goal, &run);
        let holds = outcome.reason.is_none();
        outcomes.push(outcome);
        search.tell(holds);
        let kept = if trial.confirms && holds { &mut confirming } else { &mut last };
        *kept = Some(run);
    }
    let signal = last.as_ref().and_then(|run| run.signal);
    let is_complete = search.next().is_none();
    let mut rates = search.confirmed().to_vec();
    rates.sort_unstable();
    let run = confirming.or(last).map(|run| Run { signal, ..run });
    // There is a run: the goal allows at least one trial, and a search begins with one.
    let Some(run) = run else { unreachable!("a search without a trial") };
    Ok(Capacity { goal, rates, outcomes, run, is_complete })
}

fn judge(trial: Trial, goal: &Goal, run: &Run) -> Outcome {
    let latency = run.record.sum(0..run.record.intervals.len()).latency;
    let p99_ns = latency.value_at_quantile(0.99);
    let counters = &run.record.counters;
    let limit_ns = goal.p99.as_nanos() as u64;
    let failure = run.record.failures.by_frequency().into_iter().next();
    let wrongs = [
        ("lost", counters.lost),
        ("duplicated", counters.duplicated),
        ("reordered", counters.reordered),
        ("unanswered", counters.unanswered),
    ];
    let wrong = wrongs.into_iter().find(|(_, count)| *count > 0);
    let reason = if let Some((phase, error, kind)) = failure {
        Some(format!("{} x {phase}: {error}", kind.count))
    } else if let Some((name, count)) = wrong {
        Some(format!("{count} messages {name}"))
    } else if latency.is_empty() {
        Some("no message came".to_owned())
    } else if p99_ns > limit_ns {
        Some(format!("p99 above {:?}", goal.p99))
    } else {
        None
    };
    let mut generator = report::generator_warnings(run);
    let late = Duration::from_nanos(run.record.lateness.value_at_quantile(0.99));
    if late > goal.p99 / 2 && generator.is_empty() {
        generator.push(format!(
            "THE GENERATOR SENDS LATE: p99 is {late:.1?} after the intended moment, which is more \
             than half of what --p99 allows."
        ));
    }
    Outcome { trial, seconds: run.measured.as_secs_f64(), p99_ns, reason, generator }
}

/// A confirmation takes this many times as long as another trial.
const CONFIRMATION: u32 = 3;
/// Failures up to this many times the rate that was found have to do with its being the highest.
const NEAR: f64 = 1.3;
