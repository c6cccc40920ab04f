//! Channels for clients that speak the Centrifugo client protocol v2, so that it works with
//! Centrifugo client libraries: what they say and are told, and what they get of a channel.
//!
//! Nothing here reads a socket or a clock.

pub mod api;
pub mod channels;
pub mod delta;
pub mod filter;
pub mod home;
pub mod hooks;
pub mod log;
pub mod patterns;
pub mod pointed;
pub mod presence;
pub mod protocol;
pub mod publication;
pub mod session;
pub mod tokens;
pub mod topic;
