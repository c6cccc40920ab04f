//! RFC 6455, RFC 7692 and the lines of a streamed response as pure functions over bytes: no socket,
//! no clock, so that a test of a rule is a call.

pub mod close;
pub mod deflate;
pub mod error;
pub mod frames;
pub mod header;
pub mod line;
pub mod mask;
pub mod message;
pub mod utf8;
