//! The greatest value of the last minute, for whoever looks once in a while. It is kept by time and
//! not until it is read, so that several who look see the same.

use std::time::Duration;

use super::Counter;

/// The greatest value within each of the last stretches of [`STRETCH`].
#[derive(Debug, Default)]
pub struct Peak {
    stretches: [Stretch; STRETCHES],
}

#[derive(Debug, Default)]
struct Stretch {
    /// Which one it is: its number since the start, from 1 on; 0 is none yet.
    number: Counter,
    greatest: Counter,
}

impl Peak {
    /// Takes note of a value at this time since the start; only the owning shard may call this.
    pub fn note(&self, now: Duration, value: u64) {
        let number = number(now);
        let stretch = &self.stretches[number as usize % STRETCHES];
        // Whoever reads between the two takes the value for one of another stretch, or for none:
        // the next look sees it right.
        if stretch.number.value() != number {
            stretch.greatest.set(value);
            stretch.number.set(number);
        } else if value > stretch.greatest.value() {
            stretch.greatest.set(value);
        }
    }

    /// The greatest value noted within the last [`MINUTE`] before `now`, and up to a stretch
    /// longer; zero when none was.
    pub fn greatest(&self, now: Duration) -> u64 {
        let oldest = number(now).saturating_sub(STRETCHES as u64 - 1);
        let recent = self.stretches.iter().filter(|it| it.number.value() >= oldest.max(1));
        recent.map(|stretch| stretch.greatest.value()).max().unwrap_or(0)
    }
}

fn number(now: Duration) -> u64 {
    now.as_secs() / STRETCH.as_secs() + 1
}

/// For how long a value is remembered at least.
pub const MINUTE: Duration = Duration::from_secs(60);
const STRETCH: Duration = Duration::from_secs(10);
const STRETCHES: usize = (MINUTE.as_secs() / STRETCH.as_secs()) as usize + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_remembered_for_a_minute() {
        let peak = Peak::default();
        let at = Duration::from_secs;
        assert_eq!(peak.greatest(at(0)), 0);
        peak.note(at(3), 7);
        peak.note(at(4), 5);
        peak.note(at(25), 6);
        assert_eq!(peak.greatest(at(4)), 7);
        assert_eq!(peak.greatest(at(63)), 7);
        assert_eq!(peak.greatest(at(70)), 6, "the first is too long ago");
        assert_eq!(peak.greatest(at(85)), 6);
        assert_eq!(peak.greatest(at(90)), 0);
        // The place of the first is used again.
        peak.note(at(74), 2);
        assert_eq!(peak.greatest(at(90)), 2);
    }
}
