//! The log: lines on standard error, so that standard output stays free for what was asked for. No
//! thread waits for a line to be written, nor fails when it cannot be.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::sync::{Mutex, PoisonError};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

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
    let log = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Human => {
            log.with(lines.with_ansi(is_colourful()).with_target(false)).init();
        }
        LogFormat::Json => log.with(lines.json().flatten_event(true)).init(),
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
