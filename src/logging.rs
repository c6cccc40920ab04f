//! The log: lines on standard error, so that standard output stays free for what was asked for. No
//! thread waits for a line to be written, nor fails when it cannot be.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::{LogFormat, LogLevel};
use crate::output::{self, STANDARD_ERROR};

/// Starts the log of this process, in which a panic is a line as well. Colours appear on a terminal
/// alone, and not when `NO_COLOR` is set (<https://no-color.org>).
///
/// # Panics
/// When the process already has a log.
pub fn init(level: LogLevel, format: LogFormat) {
    let lines = fmt::layer()
        .with_writer(|| Line)
        // It would tell on standard error that standard error cannot be written, and panic.
        .log_internal_errors(false);
    let counts = registry().with(Counts.with_filter(LevelFilter::WARN));
    match format {
        LogFormat::Human => {
            let lines = lines.with_ansi(is_colourful()).with_target(false);
            counts.with(lines.with_filter(filter(level))).init();
        }
        LogFormat::Json => {
            counts.with(lines.json().flatten_event(true).with_filter(filter(level))).init();
        }
    }
    panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => tracing::error!(%backtrace, "{panic}"),
            _ => tracing::error!("{panic}"),
        }
        output::flush();
    }));
}

/// Warnings logged since the start, whether or not they were written.
pub fn warnings() -> u64 {
    // No partner: a number of its own.
    WARNINGS.load(Ordering::Relaxed)
}

/// The same of errors.
pub fn errors() -> u64 {
    ERRORS.load(Ordering::Relaxed)
}

/// Counts what an operator should look at.
struct Counts;

impl<S: Subscriber> Layer<S> for Counts {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let count = match *event.metadata().level() {
            Level::ERROR => &ERRORS,
            _ => &WARNINGS,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

static WARNINGS: AtomicU64 = AtomicU64::new(0);
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// Takes a line of the log, which is handed over whole.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        STANDARD_ERROR.write(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_colourful() -> bool {
    let is_forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !is_forbidden
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
