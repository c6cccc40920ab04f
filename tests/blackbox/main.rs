//! Black-box tests: the real binary over real sockets, and clients that share no code with it.
//!
//! One crate for all of them, so that one build and one link serve every behaviour. Deadlines here
//! only keep a hang from lasting for ever; no test depends on how fast the machine is.

mod abilities;
mod access_log;
mod admin;
mod admin_page;
mod api;
#[path = "../authority/mod.rs"]
mod authority;
mod broadcast;
mod channel_libraries;
mod channels;
mod client;
mod closing;
mod compression;
mod deltas;
mod drain;
mod echo;
mod foreign_clients;
mod fragments;
mod framing;
mod handshake;
mod histories;
mod hooks;
mod hostile;
mod judgements;
mod mass_disconnect;
mod metrics;
mod mounts;
mod moves;
mod orders;
mod output;
mod passwords;
mod peer;
mod peers;
mod process;
mod publishing;
mod rates;
mod reload;
mod server;
mod service_manager;
mod slow_consumers;
mod sockjs;
mod sockjs_clients;
mod streams;
mod takeover;
mod timers;
mod tls;
mod tokens;
mod users;

use std::time::Duration;

/// Every behaviour that depends on where a connection lives is tested with these.
const SHARD_COUNTS: [usize; 3] = [1, 2, 5];

/// After this long, something hangs: far more than any step needs on a busy machine.
const HANG: Duration = Duration::from_secs(60);
