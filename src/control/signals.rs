//! The signals that the control thread answers.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that stop the server, or have it read its settings again: SIGHUP, if they came from
/// a file. Without one it stops, as a terminal that is closed sends it; `nohup` lets a program
/// ignore it.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Unless it was ignored when the process began.
    hang_up: Option<Signal>,
}

impl StopSignals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: match is_ignored(SignalKind::hangup()) {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> io::Result<&'static str> {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => pending().await,
            }
        };
        let (signal, name) = tokio::select! {
            signal = self.terminate.recv() => (signal, "SIGTERM"),
            signal = self.interrupt.recv() => (signal, "SIGINT"),
            signal = hang_up => (signal, HANG_UP),
        };
        signal.map(|()| name).ok_or_else(no_more_signals)
    }
}

/// Whether whoever started the process had this signal ignored (proc_pid_status(5)).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

/// What is wrong when one cannot be waited for.
pub(super) fn no_more_signals() -> io::Error {
    io::Error::other("signals are not delivered any more")
}

/// The name of the signal of a terminal that is closed.
pub(super) const HANG_UP: &str = "SIGHUP";
