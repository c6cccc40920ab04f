//! The line that shows how a run is going, on a terminal only.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::Plan;
use super::schedule::{Stage, Totals};

/// Current rate, connections and failures on standard error; nothing when that is no terminal.
pub struct ProgressLine {
    bar: ProgressBar,
    connections: u32,
    measured: Duration,
    /// What the rate counts from.
    before: Option<(Instant, u64)>,
    rate: f64,
}

impl ProgressLine {
    /// A line for a run that has not begun.
    pub fn new(plan: &Plan) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner:.cyan} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        let measured = plan.measured();
        Self { bar, connections: plan.connections, measured, before: None, rate: 0.0 }
    }

    /// Shows where the run is.
    pub fn show(&mut self, stage: Stage, totals: Totals) {
        if self.bar.is_hidden() {
            return;
        }
        let now = Instant::now();
        let (then, messages) = *self.before.get_or_insert((now, totals.messages));
        let elapsed = now.duration_since(then);
        if elapsed >= REFRESH {
            let fresh = totals.messages.saturating_sub(messages);
            self.rate = fresh as f64 / elapsed.as_secs_f64();
            self.before = Some((now, totals.messages));
        }
        let what = match stage {
            Stage::Connecting => "connecting".to_owned(),
            Stage::Warmup => "warming up".to_owned(),
            Stage::Measuring => format!("measuring {:.1?}", self.measured),
            Stage::Finished => "finishing".to_owned(),
        };
        let (open, failures) = (totals.open, totals.failures);
        let all = self.connections;
        self.bar.set_message(format!(
            "{what}: {open} of {all} connections, {:.0} messages/s, {failures} failures",
            self.rate
        ));
        self.bar.tick();
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

const REFRESH: Duration = Duration::from_millis(200);
