//! The control plane: a thread of its own on `tokio-uring`, which answers signals. It talks to the
//! shards through the mesh, as they do among themselves, and never touches a connection.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::hub::Message;
use crate::hub::mesh::Endpoint;
use crate::io::waker::Waker;
use crate::shard::Shared;

/// The control thread's own part of the mesh.
pub struct Control {
    endpoint: Endpoint<Message>,
    waker: Waker,
    shared: Arc<Shared>,
}

impl Control {
    /// A control plane that speaks through `endpoint` and wakes shards with `waker`.
    pub fn new(mut endpoint: Endpoint<Message>, waker: Waker, shared: Arc<Shared>) -> Self {
        endpoint.stop_reading();
        Self { endpoint, waker, shared }
    }

    /// Answers signals until the process ends: SIGTERM and SIGINT drain it, and a second one ends
    /// it at once; SIGUSR1 prints the counters on standard output.
    ///
    /// # Errors
    /// When the signals cannot be caught.
    pub fn run(mut self, ready: impl FnOnce()) -> std::io::Result<()> {
        tokio_uring::start(async move {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut snapshot = signal(SignalKind::user_defined1())?;
            ready();
            let mut draining = false;
            loop {
                tokio::select! {
                    _ = snapshot.recv() => println!("{}", self.shared.stats.to_json()),
                    name = stop_signal(&mut terminate, &mut interrupt) => {
                        if std::mem::replace(&mut draining, true) {
                            tracing::warn!(signal = name, "second signal: ending at once");
                            std::process::exit(ENDED_AT_ONCE);
                        }
                        let window = self.shared.config.drain;
                        let open = self.shared.stats.websockets_open();
                        tracing::info!(signal = name, ?window, open, "draining");
                        self.drain();
                    }
                }
            }
        })
    }

    fn drain(&mut self) {
        // The control thread sends nothing else, so its ring has room for this.
        if self.endpoint.publish(Message::Drain, 0).is_err() {
            tracing::warn!("the shards do not read their messages");
        }
        for participant in self.endpoint.take_wakeups() {
            self.waker.wake(participant);
        }
    }
}

async fn stop_signal(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// The exit status after a second signal.
const ENDED_AT_ONCE: i32 = 1;
