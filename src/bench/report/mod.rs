//! What a run has shown: a verdict, a table, JSON, a log of histograms, a plot.

mod hdr;
mod json;
mod plot;
mod table;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::arguments::{Arguments, Close, WorkloadName};
use super::process::CoreShare;
use super::run::Run;

/// Whether the server did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did, or what it did not was allowed.
    Passed,
    /// It did not.
    Failed,
}

/// Why a result could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", .path.display())]
pub struct OutputError {
    path: PathBuf,
    error: io::Error,
}

/// A run's results.
pub struct Report {
    json: Value,
    table: String,
    warnings: Vec<String>,
    verdict: Verdict,
}

impl Report {
    /// Sums up `run`.
    pub fn new(arguments: &Arguments, run: &Run) -> Self {
        let verdict = verdict(arguments, run);
        let warnings = warnings(run);
        Self {
            json: json::render(run, verdict, &warnings),
            table: table::render(run),
            warnings,
            verdict,
        }
    }

    /// Whether the server did what it should.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Prints the table and the warnings to standard output.
    ///
    /// # Errors
    /// When it cannot be written to; a reader that has seen enough is no error.
    pub fn print_table(&self) -> Result<(), OutputError> {
        let mut text = self.table.clone();
        for warning in &self.warnings {
            text.push_str(&format!("\n!!! {warning}\n"));
        }
        if self.verdict == Verdict::Failed {
            text.push_str("\nFAILED\n");
        }
        print(text.as_bytes())
    }

    /// Prints the JSON to standard output.
    ///
    /// # Errors
    /// When it cannot be written to; a reader that has seen enough is no error.
    pub fn print_json(&self) -> Result<(), OutputError> {
        print(format!("{:#}\n", self.json).as_bytes())
    }

    /// Prints the warnings to standard error.
    pub fn print_warnings(&self) {
        for warning in &self.warnings {
            eprintln!("!!! {warning}");
        }
    }

    /// Writes the files that were asked for.
    ///
    /// # Errors
    /// The file that could not be written.
    pub fn write_files(&self, arguments: &Arguments, run: &Run) -> Result<(), OutputError> {
        if let Some(path) = arguments.json.as_deref().filter(|path| *path != Path::new("-")) {
            write(path, |file| writeln!(file, "{:#}", self.json))?;
        }
        if let Some(path) = &arguments.hdr {
            write(path, |file| hdr::write(file, run))?;
        }
        if let Some(path) = &arguments.plot {
            let failed = |error| OutputError { path: path.clone(), error };
            plot::draw(path, run).map_err(failed)?;
        }
        Ok(())
    }
}

/// Makes sure before the run that its results can be written after it.
///
/// # Errors
/// The file that cannot be written, or a plot of an unknown kind.
pub fn check_outputs(arguments: &Arguments) -> Result<(), OutputError> {
    if let Some(path) = &arguments.plot {
        plot::check_kind(path).map_err(|error| OutputError { path: path.clone(), error })?;
    }
    let json = arguments.json.as_ref().filter(|path| *path != Path::new("-"));
    for path in json.into_iter().chain(&arguments.hdr).chain(&arguments.plot) {
        let failed = |error| OutputError { path: path.clone(), error };
        File::options().create(true).append(true).open(path).map_err(failed)?;
    }
    Ok(())
}

/// What the run showed to be wrong decides, unless it was allowed.
fn verdict(arguments: &Arguments, run: &Run) -> Verdict {
    let counters = &run.record.counters;
    let disorder =
        counters.lost + counters.duplicated + counters.reordered + counters.bursts_stalled;
    let nothing_open = run.connected == 0 && !run.plan.connects_while_measured();
    let failed = run.record.failures.total() > 0 || nothing_open;
    if (failed && !arguments.allow_failures) || (disorder > 0 && !arguments.allow_loss) {
        return Verdict::Failed;
    }
    Verdict::Passed
}

/// What makes the figures doubtful.
fn warnings(run: &Run) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut by_core: Vec<(Option<usize>, CoreShare)> = Vec::new();
    for thread in &run.threads {
        let share = thread.share.unwrap_or_default();
        match by_core.iter_mut().find(|(core, _)| *core == thread.core && core.is_some()) {
            Some((_, sum)) => {
                sum.ran += share.ran;
                // Threads of one core wait for each other.
                sum.waited = 0.0;
            }
            None => by_core.push((thread.core, share)),
        }
    }
    for (core, share) in by_core {
        let core = core.map_or("its core".to_owned(), |core| format!("core {core}"));
        // Who polls is always busy; whether it keeps up, its lateness tells.
        if share.ran > BUSY_SHARE && !run.plan.busy_poll {
            warnings.push(format!(
                "THE GENERATOR IS THE BOTTLENECK: it used {:.0} % of {core}. The server can do \
                 more than these figures show; use more --threads or --cores.",
                share.ran * 100.0
            ));
        } else if share.waited > WAITED_SHARE {
            warnings.push(format!(
                "THE GENERATOR WAS KEPT WAITING: for {:.0} % of the time {core} ran something \
                 else. Latencies include that; use other --cores or a quieter machine.",
                share.waited * 100.0
            ));
        }
    }
    let counters = &run.record.counters;
    if counters.lost > 0 && counters.lost == counters.deliveries_expected {
        warnings.push(
            "NOTHING WAS DELIVERED: no subscriber got a message. Does the path broadcast?"
                .to_owned(),
        );
    }
    let late_ns = run.record.lateness.value_at_quantile(0.99);
    if late_ns > LATE_NS {
        warnings.push(format!(
            "THE GENERATOR SENDS LATE: p99 is {:.1} ms after the intended moment, which the \
             latencies include.",
            late_ns as f64 / 1e6
        ));
    }
    warnings
}

/// The time that throughput is counted over, in seconds: all of the measured part, or until
/// everybody was (back) there where the run ends with that.
fn counted_seconds(run: &Run) -> f64 {
    let ends_early = run.plan.workload == WorkloadName::Storm
        || (run.plan.workload == WorkloadName::Connect && run.plan.close == Close::None);
    match ends_early {
        true => run.record.seconds_to_last(),
        false => run.plan.measured().as_secs_f64(),
    }
}

/// Whether a message count is a count of handshakes.
fn counts_handshakes(run: &Run) -> bool {
    matches!(run.plan.workload, WorkloadName::Connect | WorkloadName::Storm)
}

fn print(text: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(OutputError { path: "standard output".into(), error })
        }
        _ => Ok(()),
    }
}

fn write(
    path: &Path,
    render: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), OutputError> {
    let result = File::create(path).and_then(|file| {
        let mut file = BufWriter::new(file);
        render(&mut file)?;
        file.flush()
    });
    result.map_err(|error| OutputError { path: path.to_owned(), error })
}

/// Above this share of its core, the generator itself may be what limits.
const BUSY_SHARE: f64 = 0.9;
/// Above this share of the time, somebody else's work is part of what was measured.
const WAITED_SHARE: f64 = 0.1;
/// A send this late, 1 ms, distorts latencies.
const LATE_NS: u64 = 1_000_000;
