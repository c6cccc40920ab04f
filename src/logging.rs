//! The log: lines on standard error, so that standard output stays free for what was asked for. No
//! thread waits for a line to be written, nor fails when it cannot be.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, registry, reload};

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
    let (filter, handle) = reload::Layer::new(filter(level));
    match format {
        LogFormat::Human => {
            let lines = lines.with_ansi(is_colourful()).with_target(false);
            registry().with(lines.with_filter(filter)).with(counted()).init();
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            registry().with(lines.with_filter(filter)).with(counted()).init();
        }
    }
    *LEVEL.lock().unwrap_or_else(PoisonError::into_inner) = Some((level, handle));
    panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => tracing::error!(%backtrace, "{panic}"),
            _ => tracing::error!("{panic}"),
        }
        output::flush();
    }));
}

/// Writes lines of this level and more severe ones from now on; returns what the level was before.
///
/// # Errors
/// When the process has no log, or its filter cannot be changed.
pub fn set_level(level: LogLevel) -> Result<LogLevel, LogLevelError> {
    let mut present = LEVEL.lock().unwrap_or_else(PoisonError::into_inner);
    let (now, handle) = present.as_mut().ok_or(LogLevelError::NoLog)?;
    let (before, from, to) = (*now, filter(*now), filter(level));
    // Whoever reads the log has to know why there will be fewer lines, or more.
    let tell = || tracing::warn!(%from, %to, "another level of the log from now on");
    if to < from {
        tell();
    }
    handle.reload(to)?;
    *now = level;
    if to >= from {
        tell();
    }
    Ok(before)
}

/// Why the level of the log cannot be changed.
#[derive(Debug, Error)]
pub enum LogLevelError {
    /// There is none.
    #[error("this process has no log")]
    NoLog,
    /// The filter is gone, or was left by a panic.
    #[error("the filter of the log cannot be changed: {0}")]
    Filter(#[from] reload::Error),
}

/// The level of the log, and what changes it.
static LEVEL: Mutex<Option<(LogLevel, reload::Handle<LevelFilter, Registry>)>> = Mutex::new(None);
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

fn counted<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Counts.with_filter(LevelFilter::WARN)
}

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
