//! Byte scripts through the public interface of a connection, against what RFC 6455 says and a slow
//! reference that sees everything at once. `tests/fuzz` runs some of these files as well.

mod arrival;
mod client;
mod closing;
mod compression;
mod cost;
mod flow;
mod handshake;
mod harness;
mod reference;
mod rules;
mod splits;
mod streams;
