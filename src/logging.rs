//! The log: lines on standard error, so that standard output stays free for what was asked for. No
//! thread waits for a line to be written, nor fails when it cannot be.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic;

use tracing::level_filters::LevelFilter;

use crate::config::{LogFormat, LogLevel};
use crate::output::{self, STANDARD_ERROR};

/// Starts the log of this process, in which a panic is a line as well. Colours appear on a terminal
/// alone, and not when `NO_COLOR` is set (<https://no-color.org>).
///
/// # Panics
/// When the process already has a log.
pub fn init(level: LogLevel, format: LogFormat) {
    let lines = tracing_subscriber::fmt()
        .with_writer(|| Line)
        .with_max_level(filter(level))
        // It would tell on standard error that standard error cannot be written, and panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Human => lines.with_ansi(is_colourful()).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
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
