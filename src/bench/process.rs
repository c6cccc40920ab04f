//! What /proc tells about a process: processor time, context switches, memory.

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::schedule::Stage;

/// One look at a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Processor time of all its threads so far, in nanoseconds.
    pub cpu_ns: u64,
    /// Times that a thread gave up its core to wait.
    pub voluntary_switches: u64,
    /// Times that a thread was taken off its core.
    pub involuntary_switches: u64,
    /// Resident bytes.
    pub resident_bytes: u64,
    /// Resident bytes, shared pages divided by their users.
    pub proportional_bytes: u64,
    /// Kernel slab memory of the whole system, in bytes.
    pub system_slab_bytes: u64,
    /// Available memory of the whole system, in bytes.
    pub system_available_bytes: u64,
}

impl Sample {
    /// Looks at process `pid`.
    ///
    /// # Errors
    /// When there is no such process, or it may not be looked at.
    pub fn take(pid: u32) -> std::io::Result<Self> {
        let process = format!("/proc/{pid}");
        let status = fs::read_to_string(format!("{process}/status"))?;
        let rollup = fs::read_to_string(format!("{process}/smaps_rollup")).unwrap_or_default();
        let system = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let mut sample = Self {
            resident_bytes: kilobytes(&status, "VmRSS:"),
            proportional_bytes: kilobytes(&rollup, "Pss:"),
            system_slab_bytes: kilobytes(&system, "Slab:"),
            system_available_bytes: kilobytes(&system, "MemAvailable:"),
            ..Self::default()
        };
        for thread in fs::read_dir(format!("{process}/task"))?.flatten() {
            sample.add_thread(&thread.path());
        }
        Ok(sample)
    }

    /// A thread that has ended meanwhile adds nothing.
    fn add_thread(&mut self, thread: &Path) {
        let read = |name| fs::read_to_string(thread.join(name)).unwrap_or_default();
        let status = read("status");
        self.cpu_ns += first_number(&read("schedstat"));
        self.voluntary_switches += number(&status, "voluntary_ctxt_switches:");
        self.involuntary_switches += number(&status, "nonvoluntary_ctxt_switches:");
    }
}

/// What a thread had of its core, as shares of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CoreShare {
    /// It ran.
    pub ran: f64,
    /// It was ready to run, but the core ran something else.
    pub waited: f64,
}

/// The calling thread's processor time in the measured part of a run.
#[derive(Debug, Default)]
pub struct ThreadTime {
    from: Option<(OwnTime, Instant)>,
    share: Option<CoreShare>,
}

impl ThreadTime {
    /// Looks at the clocks when a part begins.
    pub fn follow(&mut self, stage: Stage) {
        match (stage, &self.from) {
            (Stage::Measuring, None) => self.from = Some((OwnTime::now(), Instant::now())),
            (Stage::Finished, Some((from, start))) if self.share.is_none() => {
                let wall_ns = start.elapsed().as_nanos().max(1) as f64;
                let now = OwnTime::now();
                self.share = Some(CoreShare {
                    ran: now.ran_ns.saturating_sub(from.ran_ns) as f64 / wall_ns,
                    waited: now.waited_ns.saturating_sub(from.waited_ns) as f64 / wall_ns,
                });
            }
            _ => {}
        }
    }

    /// The shares, once the part is over.
    pub fn share(&self) -> Option<CoreShare> {
        self.share
    }
}

/// The first two numbers of `schedstat`.
#[derive(Debug)]
struct OwnTime {
    ran_ns: u64,
    waited_ns: u64,
}

impl OwnTime {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let waited = text.split_once(' ').map_or(0, |(_, rest)| first_number(rest));
        Self { ran_ns: first_number(&text), waited_ns: waited }
    }
}

fn first_number(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The number in the line that starts with `name`.
fn number(text: &str, name: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(name)).map_or(0, first_number)
}

fn kilobytes(text: &str, name: &str) -> u64 {
    number(text, name) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_time_and_memory() {
        let sample = Sample::take(std::process::id()).expect("this process is there");
        assert!(sample.resident_bytes > 100_000 && sample.system_available_bytes > 0);
        assert!(Sample::take(u32::MAX).is_err());
    }

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let status = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t9\nVmRSS:\t 5 kB\n";
        assert_eq!(number(status, "voluntary_ctxt_switches:"), 9);
        assert_eq!(kilobytes(status, "VmRSS:"), 5120);
        assert_eq!(number(status, "Pss:"), 0);
    }
}
