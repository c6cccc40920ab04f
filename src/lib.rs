//! Ringwire: a WebSocket echo, broadcast and pub/sub server on io_uring.

pub mod config;
pub mod hub;
