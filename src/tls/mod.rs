//! TLS without socket and clock: bytes of the network in, bytes of the application out, and back.
//!
//! Handshakes and what TLS 1.2 protects are rustls' ([`session`]), the only library that this
//! module names beside the one that reads certificates. What a server needs before anybody connects
//! (certificates, keys, whom clients may be vouched for by) is read from files and checked as a
//! whole ([`credentials`]). The load generator is a [`client`].

pub mod client;
pub mod credentials;
pub mod session;
mod tickets;

pub use client::Client;
pub use credentials::{Credentials, CredentialsError};
pub use session::{Failure, Session};
