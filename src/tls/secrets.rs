//! The secrets that a handshake leads to, as rustls tells them: through what is meant for logs of
//! keys, on the thread and within the call that has made them.

use std::cell::RefCell;

use rustls::KeyLog;
use zeroize::Zeroizing;

/// The secrets of both directions, of TLS 1.3.
#[derive(Default)]
pub(super) struct Secrets {
    /// What protects what the client sends.
    pub(super) client: Zeroizing<Vec<u8>>,
    /// What protects what the server sends.
    pub(super) server: Zeroizing<Vec<u8>>,
}

/// Keeps the secrets of the handshake that this thread has just gone on with.
#[derive(Debug)]
pub(super) struct Capture;

thread_local! {
    static CAPTURED: RefCell<Option<Box<Secrets>>> = const { RefCell::new(None) };
}

impl Capture {
    /// Takes out what the last call has made.
    pub(super) fn take() -> Option<Box<Secrets>> {
        CAPTURED.take()
    }
}

impl KeyLog for Capture {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        CAPTURED.with_borrow_mut(|captured| {
            let secrets = captured.get_or_insert_default();
            match label {
                CLIENT => secrets.client = Zeroizing::new(secret.to_vec()),
                SERVER => secrets.server = Zeroizing::new(secret.to_vec()),
                _ => {}
            }
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT | SERVER)
    }
}

const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";
