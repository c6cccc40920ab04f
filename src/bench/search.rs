//! Which rates to try, and in which order, to find the highest one that a server holds.
//!
//! > A ramp grows until a rate fails; halving the gap finds the knee; a longer trial confirms it.
//! > Then the whole search begins again, a little below, because one answer is no measurement.
//!
//! No clock and no socket here: each trial's outcome is told from outside.

/// What to try next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Messages per second.
    pub rate: u32,
    /// Whether the answer of this round is to be confirmed, which takes longer.
    pub confirms: bool,
}

/// A search, round by round.
#[derive(Debug)]
pub struct Search {
    /// Where this round begins.
    first: u32,
    /// The factor from one rate of the ramp to the next.
    growth: f64,
    /// The highest rate of this round that held, and the lowest that did not.
    held: Option<u32>,
    failed: Option<u32>,
    /// The last trial failed, and its rate gets a second chance: anything can hiccup once.
    retries: bool,
    /// The rate that is being confirmed.
    candidate: Option<u32>,
    /// Candidates of this round that were not.
    refuted: i32,
    rounds: usize,
    confirmed: Vec<u32>,
    is_hopeless: bool,
}

impl Search {
    /// A search of this many rounds, from `first` messages per second.
    pub fn new(first: u32, rounds: u32) -> Self {
        Self {
            first: first.clamp(1, RATE_MOST),
            growth: GROWTH_FIRST,
            held: None,
            failed: None,
            retries: false,
            candidate: None,
            refuted: 0,
            rounds: rounds as usize,
            confirmed: Vec::new(),
            is_hopeless: false,
        }
    }

    /// The next trial; `None` when the search is over.
    pub fn next(&self) -> Option<Trial> {
        if self.is_hopeless || self.confirmed.len() >= self.rounds {
            return None;
        }
        if let Some(rate) = self.candidate {
            return Some(Trial { rate, confirms: true });
        }
        let rate = match (self.held, self.failed) {
            (None, None) => self.first,
            (None, Some(failed)) => failed / 2,
            (Some(held), None) => grown(held, self.growth),
            (Some(held), Some(failed)) => middle(held, failed),
        };
        Some(Trial { rate, confirms: false })
    }

    /// Takes the outcome of the trial that [`Search::next`] named.
    pub fn tell(&mut self, holds: bool) {
        let Some(Trial { rate, confirms }) = self.next() else { return };
        if confirms {
            return self.tell_confirmation(rate, holds);
        }
        if !holds && !std::mem::replace(&mut self.retries, true) {
            return;
        }
        self.retries = false;
        if holds {
            self.held = Some(rate);
        } else {
            self.failed = Some(rate);
            self.is_hopeless = rate == 1;
        }
        if let Some(held) = self.held {
            let is_narrow = self.failed.is_some_and(|failed| is_narrow(held, failed));
            if is_narrow || held == RATE_MOST {
                self.candidate = Some(held);
            }
        }
    }

    /// The rate of each round that was confirmed.
    pub fn confirmed(&self) -> &[u32] {
        &self.confirmed
    }

    fn tell_confirmation(&mut self, rate: u32, holds: bool) {
        if !holds {
            // Longer and longer steps: short trials can be far too hopeful.
            self.refuted += 1;
            let factor = PRECISION.powi(self.refuted).min(GROWTH_AGAIN);
            let lower = (f64::from(rate) / factor) as u32;
            self.candidate = Some(lower.max(1));
            self.is_hopeless = rate == 1;
            return;
        }
        self.confirmed.push(rate);
        (self.candidate, self.held, self.failed) = (None, None, None);
        self.refuted = 0;
        self.first = ((f64::from(rate) * AGAIN_FROM) as u32).max(1);
        self.growth = GROWTH_AGAIN;
    }
}

fn grown(rate: u32, factor: f64) -> u32 {
    // At least one more; the cast saturates.
    ((f64::from(rate) * factor).ceil() as u32).max(rate.saturating_add(1)).min(RATE_MOST)
}

/// The geometric mean, strictly between two rates that are not narrow.
fn middle(held: u32, failed: u32) -> u32 {
    let mean = (f64::from(held) * f64::from(failed)).sqrt() as u32;
    mean.clamp(held + 1, failed - 1)
}

fn is_narrow(held: u32, failed: u32) -> bool {
    failed <= held + 1 || f64::from(failed) <= f64::from(held) * PRECISION
}

/// The greatest rate that `--rate` takes.
pub const RATE_MOST: u32 = 100_000_000;
/// The ramp of the first round, which knows nothing, and of those after it.
const GROWTH_FIRST: f64 = 2.0;
const GROWTH_AGAIN: f64 = 1.25;
/// Where a further round begins, as a part of what the last one found.
const AGAIN_FROM: f64 = 0.7;
/// How near the lowest rate that fails comes to the highest that holds.
const PRECISION: f64 = 1.05;

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches among servers that hold what `holds` says; the trials it took.
    fn search(first: u32, rounds: u32, mut holds: impl FnMut(Trial) -> bool) -> (Search, u32) {
        let mut search = Search::new(first, rounds);
        let mut trials = 0;
        while let Some(trial) = search.next() {
            trials += 1;
            assert!(trials < 1000, "endless: {search:?}");
            assert!((1..=RATE_MOST).contains(&trial.rate), "{search:?}");
            search.tell(holds(trial));
        }
        (search, trials)
    }

    #[test]
    fn the_knee_is_found_from_below_and_from_above() {
        for capacity in [1, 2, 3, 7, 100, 999, 41_000, 2_000_000, 90_000_000] {
            for first in [1, 1000, 50_000_000] {
                let (search, trials) = search(first, 3, |trial| trial.rate <= capacity);
                assert_eq!(search.confirmed().len(), 3);
                for &rate in search.confirmed() {
                    let nearest = f64::from(capacity) / PRECISION;
                    assert!(rate <= capacity && f64::from(rate) >= nearest - 1.0, "{search:?}");
                }
                assert!(trials <= 80, "{trials} for {capacity} from {first}");
            }
        }
        assert_eq!(search(1000, 2, |_| true).0.confirmed(), [RATE_MOST; 2]);
    }

    #[test]
    fn who_holds_nothing_is_given_up() {
        let (search, trials) = search(1000, 3, |_| false);
        assert!(search.confirmed().is_empty() && trials < 30, "{search:?}");
    }

    #[test]
    fn one_hiccup_is_forgiven_and_a_long_trial_is_not() {
        let mut trials = 0;
        let hiccups = |trial: Trial| {
            trials += 1;
            trial.rate <= 10_000 && (trials != 3 || trial.confirms)
        };
        let (found, _) = search(1000, 1, hiccups);
        assert!(found.confirmed()[0] > 9_000, "{found:?}");
        let (found, _) = search(1000, 1, |t| t.rate <= if t.confirms { 8_000 } else { 10_000 });
        assert!((6_400..=8_000).contains(&found.confirmed()[0]), "{found:?}");
        let (_, trials) = search(1000, 1, |t| t.rate <= if t.confirms { 100 } else { 10_000 });
        assert!(trials < 50, "{trials}");
    }
}
