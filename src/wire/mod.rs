//! RFC 6455 and RFC 7692 as pure functions over bytes: no socket, no clock, so that a test of a
//! rule is a call.

pub mod close;
pub mod deflate;
pub mod error;
pub mod frames;
pub mod header;
pub mod mask;
pub mod message;
pub mod utf8;
