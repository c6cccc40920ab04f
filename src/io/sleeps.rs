//! Whether a thread has had nothing to do.

use nix::sys::resource::{UsageWho, getrusage};

/// How often the thread had waited when that was last asked for; nothing if it never was.
#[derive(Debug, Default)]
pub(super) struct Sleeps(Option<i64>);

impl Sleeps {
    /// Whether the calling thread has waited for something since the last call. Its ring waits
    /// inside of a system call that does other work as well, so that the time spent there tells
    /// nothing; but who waits is switched away by its own will (`getrusage(2)`, `ru_nvcsw`). If the
    /// kernel does not tell, it has: nobody is to be turned away for that.
    pub(super) fn has_slept(&mut self) -> bool {
        let usage = getrusage(UsageWho::RUSAGE_THREAD);
        let waits = usage.map(|usage| usage.voluntary_context_switches()).ok();
        let before = std::mem::replace(&mut self.0, waits);
        waits.is_none() || waits != before
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wait_is_seen_once() {
        let mut sleeps = Sleeps::default();
        sleeps.has_slept();
        std::thread::sleep(Duration::from_millis(1));
        assert!(sleeps.has_slept());
        // Another thread's waits are none of this one's.
        let mut other = Sleeps::default();
        std::thread::spawn(move || std::thread::sleep(Duration::from_millis(1))).join().unwrap();
        other.has_slept();
        assert!((0..1000).any(|_| !other.has_slept()), "no two calls without a wait between");
    }
}
