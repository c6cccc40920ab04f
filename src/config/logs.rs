//! What is logged, where, and how.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::access_log::{AccessLog, Share};
use super::form::{choice, parsed};
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
    /// What is logged, where, and how.
    #[derive(Clone, Debug, PartialEq, Eq)]
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

            /// Where a line goes for each connection that is let in, refused, or gone.
            pub access: AccessLog = AccessLog::Off,
                as one(parsed(AccessLog::GRAMMAR)),
                named "access-log" "PATH",
                help "Write a JSON line for each WebSocket and stream that begins or ends, and \
                      each request refused, to a file or unix:PATH; off writes none";

            /// Of how many connections it tells.
            pub access_sample: Share = Share::WHOLE,
                as one(parsed(Share::GRAMMAR)),
                named "access-log-sample" "SHARE",
                help "The share of connections that the access log tells of, from 0 to 1",
                live;
        }
    }
}
