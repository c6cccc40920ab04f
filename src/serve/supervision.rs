//! The threads of the server and their ends. A server that has lost a shard would go on to accept
//! its share of connections nowhere, so the first failure ends it: told at once, in good order for
//! everybody else, and with an exit status after which a supervisor starts it anew.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::thread;

use super::ServeError;

/// What a thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The event loop of this number.
    Shard(usize),
    /// The control plane.
    Control,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shard(number) => write!(formatter, "shard-{number}"),
            Self::Control => formatter.write_str("control"),
        }
    }
}

/// What a thread tells when it ends, however it does.
pub(super) type Ended = (Part, Result<(), ServeError>);

/// Starts a thread that tells `ended` its end.
///
/// # Errors
/// When there can be no further thread.
pub(super) fn spawn(
    part: Part,
    ended: &Sender<Ended>,
    body: impl FnOnce() -> Result<(), ServeError> + Send + 'static,
) -> Result<(), ServeError> {
    let ended = ended.clone();
    let supervised = move || {
        // What a panic left half done is never looked at again.
        let result = catch_unwind(AssertUnwindSafe(body));
        let result = result.unwrap_or(Err(ServeError::Panic(part)));
        // Nobody listens when the start has failed elsewhere.
        let _ = ended.send((part, result));
    };
    let thread = thread::Builder::new().name(part.to_string());
    thread.spawn(supervised).map(drop).map_err(ServeError::Thread)
}

/// Waits until all `shards` have ended. Calls `tell` with each part that ends and whether it has
/// failed, which is logged at once and for which the others must be drained.
///
/// # Errors
/// The first failure.
pub(super) fn wait(
    mut shards: usize,
    ended: &Receiver<Ended>,
    tell: impl Fn(Part, bool),
) -> Result<(), ServeError> {
    let mut outcome = Ok(());
    while shards > 0 {
        // The caller holds a sender, so there is always somebody to wait for.
        let Ok((part, result)) = ended.recv() else { break };
        shards -= usize::from(part != Part::Control);
        let has_failed = result.is_err();
        if let Err(error) = result {
            tracing::error!(%error, "draining after a failure");
            outcome = outcome.and(Err(error));
        }
        tell(part, has_failed);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::channel;

    use super::*;

    fn failure(number: usize) -> Result<(), ServeError> {
        Err(ServeError::Shard { number, error: io::Error::from_raw_os_error(libc::ENOMEM) })
    }

    #[test]
    fn whichever_thread_fails_the_others_are_drained_and_the_failure_is_returned() {
        for failing in [Part::Shard(0), Part::Shard(2), Part::Control] {
            let (ended, has_ended) = channel();
            let mut stops = Vec::new();
            for number in 0..3 {
                let (stop, is_stopped) = channel();
                stops.push(stop);
                spawn(Part::Shard(number), &ended, move || {
                    // Serves until it is drained.
                    let _: Result<(), _> = is_stopped.recv();
                    Ok(())
                })
                .unwrap();
            }
            spawn(failing, &ended, || failure(7)).unwrap();
            // A shard that fails is one of those that are waited for.
            let shards = if failing == Part::Control { 3 } else { 4 };
            let tell = |_, has_failed| {
                if has_failed {
                    stops.iter().for_each(|stop| stop.send(()).unwrap());
                }
            };
            let error = wait(shards, &has_ended, tell).unwrap_err();
            assert!(matches!(error, ServeError::Shard { number: 7, .. }), "{error}");
        }
    }

    #[test]
    fn the_first_failure_counts_and_a_panic_is_one() {
        let (ended, has_ended) = channel();
        spawn(Part::Shard(1), &ended, || panic!("on purpose")).unwrap();
        let first = has_ended.recv().unwrap();
        assert!(matches!(first, (Part::Shard(1), Err(ServeError::Panic(Part::Shard(1))))));
        ended.send(first).unwrap();
        ended.send((Part::Control, failure(3))).unwrap();
        ended.send((Part::Shard(0), Ok(()))).unwrap();
        let error = wait(2, &has_ended, |_, _| ()).unwrap_err();
        assert_eq!(error.to_string(), "shard-1 panicked, which is a fault of this program");
    }

    #[test]
    fn a_server_without_failures_ends_well() {
        let (ended, has_ended) = channel();
        for number in 0..3 {
            ended.send((Part::Shard(number), Ok(()))).unwrap();
        }
        wait(3, &has_ended, |_, has_failed| assert!(!has_failed)).unwrap();
    }
}
