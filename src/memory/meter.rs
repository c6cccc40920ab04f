//! Measures what the process holds against each limit that it knows of.

use std::path::Path;
use std::{fs, io};

use super::REFUSE_PERCENT;
use super::cgroup::Group;

/// A measurement against its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes that may be in use.
    pub limit_bytes: u64,
}

impl Usage {
    /// Whether at least this part of the limit is used; never without a limit.
    pub fn reaches(self, percent: u64) -> bool {
        let (used, limit) = (u128::from(self.used_bytes), u128::from(self.limit_bytes));
        limit > 0 && used * 100 >= limit * u128::from(percent)
    }

    /// Bytes that may still be taken before new WebSockets are refused.
    pub fn spare_bytes(self) -> u64 {
        (self.limit_bytes / 100 * REFUSE_PERCENT).saturating_sub(self.used_bytes)
    }

    /// The usage that is the closest to its limit.
    pub fn tightest(usages: &[Self]) -> Option<Self> {
        usages.iter().copied().reduce(|tightest, other| {
            if other.is_tighter_than(tightest) { other } else { tightest }
        })
    }

    /// Whether more of the limit is used than of the other's.
    fn is_tighter_than(self, other: Self) -> bool {
        let part = |own: Self, of: Self| u128::from(own.used_bytes) * u128::from(of.limit_bytes);
        part(self, other) > part(other, self)
    }
}

/// A limit of the resident set that leaves nothing to serve with.
#[derive(Debug, thiserror::Error)]
#[error(
    "max-memory = {limit_bytes} bytes: {used_bytes} are in use already, and from 85 % on \
     WebSockets are refused; allow more, or take fewer shards"
)]
pub struct NothingSpare {
    used_bytes: u64,
    limit_bytes: u64,
}

/// What to measure.
#[derive(Debug)]
pub struct Meter {
    /// The limit of the resident set.
    resident_bytes_max: Option<u64>,
    /// Control groups that this process is in, down to the root.
    groups: Vec<Group>,
}

impl Meter {
    /// A meter of the resident set against `resident_bytes_max`, and of the control groups of this
    /// process against theirs.
    pub fn new(resident_bytes_max: Option<u64>) -> Self {
        Self { resident_bytes_max, groups: Group::of_this_process() }
    }

    /// Whether there is nothing that could ever have a limit.
    pub fn is_empty(&self) -> bool {
        self.resident_bytes_max.is_none() && self.groups.is_empty()
    }

    /// The usage of each limit. A group's limit counts as it is at this moment.
    ///
    /// # Errors
    /// When the files of the kernel cannot be read: no descriptor may be free.
    pub fn measure(&self) -> io::Result<Vec<Usage>> {
        let resident = resident_usage(self.resident_bytes_max).transpose();
        let groups = self.groups.iter().filter_map(|group| group.usage().transpose());
        resident.into_iter().chain(groups).collect()
    }

    /// Measures the resident set against another limit from now on.
    pub fn limit_resident(&mut self, resident_bytes_max: Option<u64>) {
        self.resident_bytes_max = resident_bytes_max;
    }
}

/// Sees that a limit of the resident set leaves something to serve with. What cannot be measured
/// now is measured again and again later.
///
/// # Errors
/// It does not.
pub fn require_spare(resident_bytes_max: Option<u64>) -> Result<(), NothingSpare> {
    match resident_usage(resident_bytes_max) {
        Ok(Some(usage @ Usage { used_bytes, limit_bytes })) if usage.spare_bytes() == 0 => {
            Err(NothingSpare { used_bytes, limit_bytes })
        }
        _ => Ok(()),
    }
}

/// The resident set against its limit, when it has one.
fn resident_usage(resident_bytes_max: Option<u64>) -> io::Result<Option<Usage>> {
    let Some(limit_bytes) = resident_bytes_max else { return Ok(None) };
    let status = fs::read_to_string(Path::new("/proc/self/status"))?;
    Ok(resident_bytes(&status).map(|used_bytes| Usage { used_bytes, limit_bytes }))
}

/// The resident set as proc_pid_status(5) gives it.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_found_among_the_other_lines() {
        let status = "Name:\tringwire\nVmHWM:\t  999 kB\nVmRSS:\t    1234 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(resident_bytes(status), Some(1234 * 1024));
        for broken in ["", "VmRSS:\n", "VmRSS:\t12\n", "VmRSS:\tx kB\n"] {
            assert_eq!(resident_bytes(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_process_measures_itself() {
        let usages = Meter::new(Some(1 << 40)).measure().expect("files of the kernel");
        let usage = usages[0];
        assert!(usage.used_bytes > 100_000 && usage.limit_bytes > usage.used_bytes, "{usage:?}");
    }

    #[test]
    fn the_tightest_limit_counts() {
        let usage = |used_bytes, limit_bytes| Usage { used_bytes, limit_bytes };
        assert!(usage(9, 10).is_tighter_than(usage(80, 100)));
        assert!(!usage(80, 100).is_tighter_than(usage(9, 10)));
        assert!(!usage(8, 10).is_tighter_than(usage(80, 100)));
        let usages = [usage(8, 10), usage(9, 10), usage(80, 100)];
        assert_eq!(Usage::tightest(&usages), Some(usage(9, 10)));
        assert_eq!(Usage::tightest(&[]), None);
        assert!(usage(u64::MAX, u64::MAX).is_tighter_than(usage(u64::MAX - 1, u64::MAX)));
    }

    #[test]
    fn what_is_left_ends_where_upgrades_are_refused() {
        for (used_bytes, spare_bytes) in [(0, 850), (849, 1), (850, 0), (2000, 0)] {
            let usage = Usage { used_bytes, limit_bytes: 1000 };
            assert_eq!(usage.spare_bytes(), spare_bytes);
        }
    }

    #[test]
    fn no_limit_is_never_reached() {
        assert!(!Usage::default().reaches(0));
        let full = Usage { used_bytes: u64::MAX, limit_bytes: u64::MAX };
        assert!(full.reaches(100) && !full.reaches(101));
    }
}
