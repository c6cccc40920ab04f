//! Ringwire: a WebSocket echo, broadcast and pub/sub server on io_uring.

pub mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod http;
pub mod hub;
pub mod io;
pub mod limits;
pub mod logging;
pub mod serve;
pub mod session;
pub mod settings;
pub mod shard;
pub mod stats;
pub mod wire;

/// The version of this build, as `--version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
