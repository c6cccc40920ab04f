//! The log: lines on standard error, so that standard output stays free for what was asked for.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

use crate::config::{LogFormat, LogLevel};

/// Starts the log of this process. Colours appear on a terminal alone, and not when `NO_COLOR`
/// is set (<https://no-color.org>).
///
/// # Panics
/// When the process already has a log.
pub fn init(level: LogLevel, format: LogFormat) {
    let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(filter(level));
    match format {
        LogFormat::Human => lines.with_ansi(is_colourful()).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
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
