//! What is logged to standard error, and how.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::form::choice;
use super::setting::{one, settings};

/// The least severe log lines that are written; see RFC 5424 section 6.2.1 for the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// What ends the program.
    Error,
    /// Also what an operator should look at.
    Warn,
    /// Also start, stop and drain.
    Info,
    /// Also what helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Human,
    /// One JSON object per line.
    Json,
}

settings! {
    /// What is logged to standard error, and how.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Logs at (|config| &mut config.logs) {
        under Logs {
            /// Lines less severe than this are not written.
            pub level: LogLevel = LogLevel::Info,
                as one(choice()),
                named "log-level" "LEVEL",
                help "Least severe lines written to standard error; `info` is start, stop and \
                      drain",
                live;

            /// How a line is written.
            pub format: LogFormat = LogFormat::Human,
                as one(choice()),
                named "log-format" "FORMAT",
                help "Log lines for a person, or one JSON object each";
        }
    }
}
