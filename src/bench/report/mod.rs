//! What a run has shown: a verdict, a table, JSON, a log of histograms, a plot.

mod capacity;
mod hdr;
mod json;
mod plot;
mod table;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::arguments::{Arguments, Close, WorkloadName};
use super::interruption::exit_status;
use super::process::CoreShare;
use super::run::Run;

/// Whether the server did what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It did, or what it did not was allowed.
    Passed,
    /// It did not.
    Failed,
    /// A signal ended the run before that could be said.
    Interrupted {
        /// The number of the signal (signal(7)).
        signal: u8,
    },
}

impl Verdict {
    /// The exit status of a process that has come to this verdict.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Interrupted { signal } => exit_status(signal),
        }
    }
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

    /// Writes the files that were asked for, and prints the table, or the JSON if that is what was
    /// asked for. Whatever cannot be written does not keep the rest from being written.
    ///
    /// # Errors
    /// The first of what could not be written.
    pub fn deliver(&self, arguments: &Arguments, run: &Run) -> Result<(), OutputError> {
        let written = self.write_files(arguments, run);
        if arguments.json.as_deref() != Some(Path::new(STANDARD_OUTPUT)) {
            return written.and(self.print_table());
        }
        self.print_warnings();
        written.and(self.print_json())
    }

    fn print_table(&self) -> Result<(), OutputError> {
        let mut text = self.table.clone();
        for warning in &self.warnings {
            text.push_str(&format!("\n!!! {warning}\n"));
        }
        if self.verdict == Verdict::Failed {
            text.push_str("\nFAILED\n");
        }
        print(text.as_bytes())
    }

    fn print_json(&self) -> Result<(), OutputError> {
        print(format!("{:#}\n", self.json).as_bytes())
    }

    /// To standard error; where that takes nothing, the warnings are in the JSON still.
    fn print_warnings(&self) {
        for warning in &self.warnings {
            let _ = writeln!(io::stderr(), "!!! {warning}");
        }
    }

    fn write_files(&self, arguments: &Arguments, run: &Run) -> Result<(), OutputError> {
        let json = file(arguments.json.as_ref())
            .map_or(Ok(()), |path| write(path, |file| writeln!(file, "{:#}", self.json)));
        let hdr = arguments
            .hdr
            .as_deref()
            .map_or(Ok(()), |path| write(path, |file| hdr::write(file, run)));
        let plot = arguments.plot.as_deref().map_or(Ok(()), |path| {
            let failed = |error| OutputError { path: path.to_owned(), error };
            plot::draw(path, run).map_err(failed)
        });
        json.and(hdr).and(plot)
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
    let json = file(arguments.json.as_ref());
    let paths = [json, arguments.hdr.as_deref(), arguments.plot.as_deref()];
    let paths: Vec<&Path> = paths.into_iter().flatten().collect();
    for (place, &path) in paths.iter().enumerate() {
        let failed = |error| OutputError { path: path.to_owned(), error };
        if paths[..place].contains(&path) {
            return Err(failed(io::Error::other("named for two results; give each its own file")));
        }
        File::options().create(true).append(true).open(path).map_err(failed)?;
    }
    Ok(())
}

/// The file that `--json` names, if it names one.
fn file(json: Option<&PathBuf>) -> Option<&Path> {
    json.map(PathBuf::as_path).filter(|path| *path != Path::new(STANDARD_OUTPUT))
}

/// What the run showed to be wrong decides, unless it was allowed.
fn verdict(arguments: &Arguments, run: &Run) -> Verdict {
    if let Some(signal) = run.signal {
        return Verdict::Interrupted { signal };
    }
    let counters = &run.record.counters;
    let disorder = counters.lost
        + counters.duplicated
        + counters.reordered
        + counters.offset_gaps
        + counters.offsets_repeated
        + counters.bursts_stalled;
    let nothing_open = run.connected == 0 && !run.plan.connects_while_measured();
    let failed = run.record.failures.total() > 0 || nothing_open;
    if (failed && !arguments.allow_failures) || (disorder > 0 && !arguments.allow_loss) {
        return Verdict::Failed;
    }
    Verdict::Passed
}

/// What makes the figures doubtful.
fn warnings(run: &Run) -> Vec<String> {
    let mut warnings = generator_warnings(run);
    let counters = &run.record.counters;
    if counters.lost > 0 && counters.lost == counters.deliveries_expected {
        warnings.push(
            "NOTHING WAS DELIVERED: no subscriber got a message. Does the path broadcast?"
                .to_owned(),
        );
    }
    if let Some(signal) = run.signal {
        let measured = run.measured.as_secs_f64();
        let planned = run.plan.measured().as_secs_f64();
        let interrupted = interrupted(signal);
        warnings.push(format!("{interrupted}: {measured:.1} s of {planned:.1} s were measured."));
    }
    warnings
}

/// Says which signal ended the run.
fn interrupted(signal: u8) -> String {
    let name = if i32::from(signal) == libc::SIGINT { "SIGINT" } else { "SIGTERM" };
    format!("INTERRUPTED by {name}")
}

/// What was wrong with the generator itself.
pub fn generator_warnings(run: &Run) -> Vec<String> {
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
        // A thread that polls always shows 100 % CPU; its send lateness tells whether it keeps up.
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
        false => run.measured.as_secs_f64(),
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

/// What `--json` names when it names no file.
pub const STANDARD_OUTPUT: &str = "-";
/// Above this share of its core, the generator itself may be what limits.
const BUSY_SHARE: f64 = 0.9;
/// Above this share of the time, somebody else's work is part of what was measured.
const WAITED_SHARE: f64 = 0.1;
/// A send this late, 1 ms, distorts latencies.
const LATE_NS: u64 = 1_000_000;
