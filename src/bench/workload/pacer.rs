//! When messages of a fixed or stepped rate are due, whether the server keeps up or not.

use crate::bench::plan::Plan;
use crate::bench::schedule::Moments;

/// One sender's share of a rate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacer {
    /// The share of the plan's rate, above 0.
    share: f64,
    /// When the next message is due; a fraction, so that rounding does not add up.
    next_ns: f64,
}

impl Pacer {
    /// A sender with this share of the rate, `phase` (0 to 1) of a period behind the first.
    pub fn new(plan: &Plan, moments: Moments, share: f64, phase: f64) -> Self {
        let mut pacer = Self { share, next_ns: moments.begin_ns as f64 };
        pacer.next_ns += phase * pacer.period_ns(plan, moments);
        pacer
    }

    /// When the message was due that is to be sent now, if there is one.
    pub fn due(&mut self, plan: &Plan, moments: Moments, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns as u64;
        if due_ns > now_ns || due_ns >= moments.until_ns {
            return None;
        }
        self.next_ns += self.period_ns(plan, moments);
        Some(due_ns)
    }

    /// When the next message is due.
    pub fn next_ns(&self) -> u64 {
        self.next_ns as u64
    }

    fn period_ns(&self, plan: &Plan, moments: Moments) -> f64 {
        let since_ns = (self.next_ns as u64).saturating_sub(moments.from_ns);
        let step = u128::from(since_ns) / plan.duration.as_nanos().max(1);
        let last = plan.rates.len().saturating_sub(1);
        let rate = plan.rates.get((step as usize).min(last)).copied().unwrap_or(1);
        1e9 / (f64::from(rate) * self.share)
    }
}
