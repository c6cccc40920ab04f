//! What every process tells under the names that client libraries of Prometheus have agreed on, and
//! what the threads of the shards use of their cores; all of it read from proc(5).

use procfs::process::{LimitValue, Process, Stat};
use procfs::{ProcResult, boot_time_secs, page_size, ticks_per_second};

use crate::stats::family::{Family, Kind, Unit};

/// The process. What cannot be read, for want of a descriptor perhaps, is left out.
pub(super) fn families() -> Vec<Family> {
    let gauge =
        |name, unit, help, value| Family::new(name, Kind::Gauge, unit, help).with([], value);
    let mut families = Vec::new();
    let Ok(process) = Process::myself() else { return families };
    if let Ok(stat) = process.stat() {
        families.push(
            Family::new("process_cpu", Kind::Counter, Some(Unit::Seconds), "CPU time spent.")
                .with([], cpu_seconds(&stat)),
        );
        let (resident, size) = (stat.rss.saturating_mul(page_size()), stat.vsize);
        let help = "Resident memory.";
        families.push(gauge("process_resident_memory", Some(Unit::Bytes), help, resident as f64));
        let help = "Virtual memory.";
        families.push(gauge("process_virtual_memory", Some(Unit::Bytes), help, size as f64));
        if let Ok(booted) = boot_time_secs() {
            let started = booted as f64 + seconds(stat.starttime);
            let help = "When the process started, in seconds since 1970.";
            families.push(gauge("process_start_time", Some(Unit::Seconds), help, started));
        }
    }
    if let Ok(open) = process.fd_count() {
        families.push(gauge("process_open_fds", None, "Open file descriptors.", open as f64));
    }
    if let Ok(limits) = process.limits() {
        let most = match limits.max_open_files.soft_limit {
            LimitValue::Value(most) => most as f64,
            LimitValue::Unlimited => f64::INFINITY,
        };
        families.push(gauge("process_max_fds", None, "File descriptors that may be open.", most));
    }
    families
}

/// What each shard's thread uses; nothing when that cannot be read.
pub(super) fn shards() -> Option<Family> {
    let help = "CPU time that the thread of a shard has spent.";
    let family = Family::new("shard_cpu", Kind::Counter, Some(Unit::Seconds), help);
    let mut times = shard_times().ok()?;
    times.sort_unstable_by_key(|(shard, _)| *shard);
    let of_shards = times.into_iter();
    Some(
        of_shards.fold(family, |family, (shard, time)| {
            family.with([("shard", shard.to_string())], time)
        }),
    )
}

/// CPU seconds that the thread of each shard has spent.
pub(in crate::control) fn shard_times() -> ProcResult<Vec<(usize, f64)>> {
    // A thread may end between being named and being read.
    let stats = Process::myself()?.tasks()?.filter_map(|task| task.ok()?.stat().ok());
    let of_shard = |stat: Stat| {
        let shard = stat.comm.strip_prefix("shard-")?.parse().ok()?;
        Some((shard, cpu_seconds(&stat)))
    };
    Ok(stats.filter_map(of_shard).collect())
}

fn cpu_seconds(stat: &Stat) -> f64 {
    seconds(stat.utime + stat.stime)
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::family::Value;

    #[test]
    fn this_process_tells_what_every_process_tells() {
        let families = families();
        let names: Vec<_> = families.iter().map(|family| family.name).collect();
        let expected = [
            "process_cpu",
            "process_resident_memory",
            "process_virtual_memory",
            "process_start_time",
            "process_open_fds",
            "process_max_fds",
        ];
        assert_eq!(names, expected);
        for family in families {
            let Value::Number(value) = family.samples[0].value else { panic!("a number") };
            assert!(value > 0.0 || family.name == "process_cpu", "{} is {value}", family.name);
        }
    }

    #[test]
    fn threads_of_shards_are_known_by_their_names() {
        let (stop, is_stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("shard-1023".to_owned());
        let thread = thread.spawn(move || is_stopped.recv()).expect("a thread");
        let has_it = || shard_times().unwrap().iter().any(|(shard, _)| *shard == 1023);
        // A thread names itself after it has begun.
        while !has_it() {
            std::thread::yield_now();
        }
        drop(stop);
        assert!(thread.join().is_ok());
    }
}
