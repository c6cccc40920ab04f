//! TLS without socket and clock: bytes of the network in, bytes of the application out, and back.
//!
//! Handshakes, and all of TLS 1.2, are rustls' ([`session`]). Behind a handshake of TLS 1.3 the
//! records are our own (`records.rs`): opened where they lie, sealed straight into what is sent,
//! and kept in less than 200 bytes while a connection rests. What a server needs before anybody
//! connects (certificates, keys, whom clients may be vouched for by) is read from files and checked
//! as a whole ([`certificates`]). The load generator is a [`client`].

pub mod certificates;
pub mod client;
mod client_name;
mod keys;
mod records;
mod secrets;
pub mod session;
mod tickets;

pub use certificates::{Certificates, CertificatesError};
pub use client::Client;
pub use client_name::client_name;
pub use session::{Failure, Session};
