//! The latencies of each interval as an HdrHistogram log, which the HdrHistogram tools read.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::bench::run::Run;

/// Writes the log; values are nanoseconds, the maximum is told in milliseconds.
///
/// # Errors
/// When `out` takes no more.
pub fn write(out: &mut impl Write, run: &Run) -> io::Result<()> {
    let started = UNIX_EPOCH + Duration::from_millis(run.started_unix_ms);
    let failed = |error: &dyn std::fmt::Debug| io::Error::other(format!("{error:?}"));
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(&format!("ringwire {} bench {}", crate::VERSION, run.plan.target.url))
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1e6)
        .begin_log_with(out, &mut serializer)?;
    let each = Duration::from_nanos(run.record.interval_ns());
    for (number, interval) in run.intervals().iter().enumerate() {
        let start = each.saturating_mul(number as u32);
        log.write_histogram(&interval.latency, start, each, None)
            .map_err(|error| failed(&error))?;
    }
    Ok(())
}
