//! When a shard was there to hear its peers, and when not.

use std::time::Duration;

use super::timers::TICK_MS;

/// Time in which a shard did not come round to its peers: a tick that took long, or a process that
/// was stopped. Nobody's silence counts then, because nobody was listened to.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// When the shard last turned to its peers, when it left them to wait, and for how long.
    pub(super) returned: Duration,
    left: Duration,
    wait: Option<Duration>,
    absent: Duration,
}

impl Attendance {
    /// Turns from the peers, to wait for `wait`; for ever if that is none.
    pub(super) fn leaves(&mut self, now: Duration, wait: Option<Duration>) {
        (self.left, self.wait) = (now, wait);
    }

    /// The time missed in all until `now`.
    pub(super) fn returns(&mut self, now: Duration) -> Duration {
        let away = now.saturating_sub(self.left);
        let late = away.saturating_sub(self.wait.unwrap_or(away));
        let missed = late + self.left.saturating_sub(self.returned);
        if missed > ATTENDED {
            self.absent += missed;
        }
        self.returned = now;
        self.absent
    }
}

/// Being away for less is no absence.
const ATTENDED: Duration = Duration::from_millis(TICK_MS);
