//! SIGINT and SIGTERM: the first ends a run early, with its results so far; the second ends the
//! process at once.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Whether a signal has asked for the end.
#[derive(Clone, Debug, Default)]
pub struct Interruption {
    /// The signal's number, or 0.
    number: Arc<AtomicU8>,
}

impl Interruption {
    /// Catches the signals from now on, on a thread that lives as long as the process.
    ///
    /// # Errors
    /// When they cannot be caught.
    pub fn catch() -> io::Result<Self> {
        let interruption = Self::default();
        let number = interruption.number.clone();
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let (mut interrupt, mut terminate) = {
            let _entered = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let body = async move {
            loop {
                let caught = tokio::select! {
                    _ = interrupt.recv() => libc::SIGINT as u8,
                    _ = terminate.recv() => libc::SIGTERM as u8,
                };
                // No partner: nothing is published along with the number.
                if number.swap(caught, Ordering::Relaxed) != 0 {
                    process::exit(exit_status(caught).into());
                }
            }
        };
        let thread = thread::Builder::new().name("bench-signals".to_owned());
        thread.spawn(move || runtime.block_on(body))?;
        Ok(interruption)
    }

    /// The number of the signal that came.
    pub fn signal(&self) -> Option<u8> {
        // No partner: nothing is published along with it.
        Some(self.number.load(Ordering::Relaxed)).filter(|&number| number != 0)
    }
}

/// The exit status of who was ended by signal `number`, as shells count it.
pub fn exit_status(number: u8) -> u8 {
    128 + number
}
