//! How long each case is timed.

use std::time::Duration;

use criterion::Criterion;

/// A second for each case, which tells differences of some percent.
pub fn configuration() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}
