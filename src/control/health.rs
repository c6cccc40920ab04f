//! Which shards come round to their peers, told by the counters of their ticks.
//!
//! A shard without work sleeps, and its counter stands still just as that of one that hangs. So a
//! shard whose counter has stood still for some looks is woken, which costs it one tick, and only
//! one that does not move after that counts as stuck. It is looks that are counted and no time: a
//! process that was stopped, or a machine that was suspended, has not looked meanwhile.

use std::time::Duration;

/// What is known of each shard.
#[derive(Debug)]
pub(super) struct Health {
    shards: Vec<Pulse>,
}

/// What is known of one shard.
#[derive(Clone, Copy, Debug, Default)]
struct Pulse {
    /// Its ticks when last looked at.
    ticks: u64,
    /// Looks since they last moved.
    still: u32,
    /// Looks since it was woken for standing still.
    unanswered: Option<u32>,
    end: Option<End>,
}

/// How a shard's event loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was drained.
    Drained,
    /// The kernel refused to go on, or it panicked.
    Failed,
}

/// What is wrong with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ailment {
    /// It does not come round to its peers.
    Stuck,
    /// Its event loop has ended before its time.
    Failed,
}

impl Health {
    /// Shards that have not been looked at yet.
    pub(super) fn new(shards: usize) -> Self {
        Self { shards: vec![Pulse::default(); shards] }
    }

    /// Looks at the ticks of every shard; returns those that must be woken to tell whether they
    /// sleep or hang. To be called every [`LOOK_PERIOD`].
    pub(super) fn look(&mut self, ticks: impl Fn(usize) -> u64) -> Vec<usize> {
        let mut quiet = Vec::new();
        for (number, pulse) in self.shards.iter_mut().enumerate() {
            let before = std::mem::replace(&mut pulse.ticks, ticks(number));
            if pulse.ticks != before || pulse.end.is_some() {
                (pulse.still, pulse.unanswered) = (0, None);
                continue;
            }
            pulse.still = pulse.still.saturating_add(1);
            match &mut pulse.unanswered {
                Some(looks) => *looks = looks.saturating_add(1),
                None if pulse.still >= LOOKS_UNTIL_WOKEN => quiet.push(number),
                None => {}
            }
        }
        quiet
    }

    /// Notes that a shard has been woken, so that it must move now. One that could not be is named
    /// by the next look again.
    pub(super) fn woken(&mut self, shard: usize) {
        if let Some(pulse) = self.shards.get_mut(shard) {
            pulse.unanswered = Some(0);
        }
    }

    /// Notes that the event loop of a shard has ended; it ticks no more.
    pub(super) fn ended(&mut self, shard: usize, end: End) {
        if let Some(pulse) = self.shards.get_mut(shard) {
            pulse.end = Some(end);
        }
    }

    /// The shards that do not serve, by their numbers. One that was drained is no such.
    pub(super) fn ailing(&self) -> impl Iterator<Item = (usize, Ailment)> {
        self.shards.iter().enumerate().filter_map(|(number, pulse)| match pulse.end {
            Some(End::Failed) => Some((number, Ailment::Failed)),
            Some(End::Drained) => None,
            None => pulse
                .unanswered
                .is_some_and(|looks| looks >= LOOKS_UNTIL_STUCK)
                .then_some((number, Ailment::Stuck)),
        })
    }
}

/// Between two looks.
pub(super) const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Looks without a tick after which a shard is woken, and then those after which it is stuck:
/// [`STUCK_SECONDS`] in all.
const LOOKS_UNTIL_WOKEN: u32 = 5;
const LOOKS_UNTIL_STUCK: u32 = 5;
/// How long a shard may go without a tick.
pub(super) const STUCK_SECONDS: u64 =
    LOOK_PERIOD.as_secs() * (LOOKS_UNTIL_WOKEN + LOOKS_UNTIL_STUCK) as u64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Shards of which some answer when they are woken.
    struct Shards {
        health: Health,
        ticks: Vec<u64>,
        answers: Vec<bool>,
        wakes: usize,
    }

    impl Shards {
        fn new(answers: &[bool]) -> Self {
            let count = answers.len();
            let (ticks, answers) = (vec![0; count], answers.to_vec());
            Self { health: Health::new(count), ticks, answers, wakes: 0 }
        }

        fn look(&mut self, times: u32) {
            for _ in 0..times {
                for shard in self.health.look(|shard| self.ticks[shard]) {
                    self.wakes += 1;
                    self.health.woken(shard);
                    self.ticks[shard] += u64::from(self.answers[shard]);
                }
            }
        }

        fn ailing(&self) -> Vec<(usize, Ailment)> {
            self.health.ailing().collect()
        }
    }

    #[test]
    fn a_shard_that_sleeps_is_woken_now_and_then_and_one_that_hangs_is_named() {
        let mut shards = Shards::new(&[true, false, true]);
        shards.look(LOOKS_UNTIL_WOKEN + LOOKS_UNTIL_STUCK - 1);
        assert_eq!(shards.ailing(), []);
        shards.look(1);
        assert_eq!(shards.ailing(), [(1, Ailment::Stuck)]);
        shards.look(1000);
        assert_eq!(shards.ailing(), [(1, Ailment::Stuck)]);
        // The one that hangs is woken once: nothing piles up in its queue.
        let woken_of_two = 2 * 1010 / (LOOKS_UNTIL_WOKEN as usize + 1);
        assert!(shards.wakes.abs_diff(woken_of_two) <= 3, "{}", shards.wakes);
        shards.ticks[1] += 1;
        shards.look(1);
        assert_eq!(shards.ailing(), []);
    }

    #[test]
    fn a_shard_that_could_not_be_woken_is_not_stuck_for_that() {
        let mut health = Health::new(1);
        for look in 1..100 {
            let quiet = health.look(|_| 0);
            assert_eq!(quiet, if look < LOOKS_UNTIL_WOKEN { vec![] } else { vec![0] }, "{look}");
            assert_eq!(health.ailing().next(), None);
        }
    }

    #[test]
    fn a_shard_that_works_is_never_woken() {
        let mut health = Health::new(1);
        for ticks in 1..100 {
            assert!(health.look(|_| ticks).is_empty());
        }
    }

    #[test]
    fn a_drained_shard_has_ended_well_and_a_failed_one_has_not() {
        let mut shards = Shards::new(&[false, false]);
        shards.health.ended(0, End::Drained);
        shards.health.ended(1, End::Failed);
        assert_eq!(shards.ailing(), [(1, Ailment::Failed)]);
        shards.look(100);
        assert_eq!(shards.ailing(), [(1, Ailment::Failed)]);
        assert_eq!(shards.wakes, 0);
    }
}
