//! What went wrong, for which connection, and in which phase of its life.

use std::collections::BTreeMap;
use std::fmt;

use crate::wire::deflate::InflateError;
use crate::wire::error::Violation;
use crate::wire::header::OpCode;

/// Why a connection failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A system call or request failed.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Io(i32),
    /// The server's response does not open a WebSocket.
    #[error("{0}")]
    Handshake(String),
    /// TLS has failed.
    #[error("{0}")]
    Tls(String),
    /// The protocol of channels has failed, or the server refuses something by it.
    #[error("{0}")]
    Session(String),
    /// The server ended the stream without a close frame.
    #[error("the server ended the connection without a close frame")]
    EndOfStream,
    /// The server sent a close frame that nobody asked for.
    #[error("closed by the server with {}{}", .code.map_or("no code".into(), |c| c.to_string()),
        if .reason.is_empty() { String::new() } else { format!(" ({reason})") })]
    Closed {
        /// The code, if there was one.
        code: Option<u16>,
        /// The reason, perhaps empty.
        reason: String,
    },
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// The server sent a compressed message that cannot be inflated.
    #[error("a compressed message cannot be inflated: {0}")]
    Inflate(#[from] InflateError),
    /// The server sent more than any message asked for.
    #[error("a message of more than {limit} bytes")]
    TooBig {
        /// Bytes that a message may have.
        limit: usize,
    },
    /// Nothing happened in time.
    #[error("no answer within {0} ms")]
    TimedOut(u64),
    /// A message that nobody asked for.
    #[error("a message of {bytes} bytes that nobody asked for")]
    Unasked {
        /// Its size.
        bytes: usize,
    },
    /// The other type of message came.
    #[error("wrong content: a {found:?} message instead of a {expected:?} one")]
    WrongType {
        /// What was sent.
        expected: OpCode,
        /// What came.
        found: OpCode,
    },
    /// A message of another size came.
    #[error("wrong content: message {sequence} has {found} bytes instead of {expected}")]
    WrongLength {
        /// Which message was expected.
        sequence: u64,
        /// Bytes sent.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// A message with other bytes came.
    #[error("wrong content: message {sequence} differs from byte {at} on{}", describe(.found))]
    WrongContent {
        /// Which message was expected.
        sequence: u64,
        /// The first byte that differs.
        at: usize,
        /// Whose message it is and which, if it says so itself.
        found: Option<(u32, u64)>,
    },
    /// A message too short to say what it is.
    #[error("wrong content: {bytes} bytes are too few for one of our messages")]
    NoStamp {
        /// Its size.
        bytes: usize,
    },
    /// A message of a publisher that there is not.
    #[error("wrong content: a message of connection {id}, which publishes nothing here")]
    UnknownPublisher {
        /// The sender it names.
        id: u32,
    },
}

fn describe(found: &Option<(u32, u64)>) -> String {
    found.map_or(String::new(), |(id, sequence)| {
        format!(" (it says that it is message {sequence} of connection {id})")
    })
}

/// The part of a connection's life in which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Making the socket and the TCP handshake.
    Connect,
    /// Asking a proxy for a tunnel.
    Proxy,
    /// Agreeing on keys.
    Tls,
    /// Request and response.
    Handshake,
    /// Connecting and subscribing by the protocol of channels.
    Session,
    /// Exchanging messages.
    Open,
    /// From our close frame to the end.
    Close,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Session => "session",
            Self::Open => "open",
            Self::Close => "close",
        })
    }
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureKind {
    /// How many failures there were.
    pub count: u64,
    /// The first connection that it happened to.
    pub first_connection: u32,
}

/// All failures, by phase and error; the memory is bounded.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    kinds: BTreeMap<(Phase, String), FailureKind>,
    total: u64,
}

impl Failures {
    /// Takes note of one.
    pub fn add(&mut self, connection: u32, phase: Phase, fault: &Fault) {
        self.insert(
            phase,
            fault.to_string(),
            FailureKind { count: 1, first_connection: connection },
        );
    }

    /// Takes over another's.
    pub fn merge(&mut self, other: Self) {
        for ((phase, text), kind) in other.kinds {
            self.insert(phase, text, kind);
        }
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// All kinds, the most frequent first.
    pub fn by_frequency(&self) -> Vec<(Phase, &str, &FailureKind)> {
        let mut kinds: Vec<_> =
            self.kinds.iter().map(|((phase, text), kind)| (*phase, &**text, kind)).collect();
        kinds.sort_by_key(|(.., kind)| std::cmp::Reverse(kind.count));
        kinds
    }

    fn insert(&mut self, phase: Phase, text: String, kind: FailureKind) {
        self.total += kind.count;
        let full = self.kinds.len() >= KINDS_MOST;
        let key = (phase, text);
        match self.kinds.get_mut(&key) {
            Some(known) => {
                known.count += kind.count;
                known.first_connection = known.first_connection.min(kind.first_connection);
            }
            None if full => {
                let rest = self.kinds.entry((phase, OTHERS.to_owned()));
                rest.or_insert(FailureKind { count: 0, ..kind }).count += kind.count;
            }
            None => {
                self.kinds.insert(key, kind);
            }
        }
    }
}

/// Kinds told apart: errors with numbers in their text could be many.
const KINDS_MOST: usize = 64;
const OTHERS: &str = "further kinds of failure";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind_within_bounds() {
        let mut failures = Failures::default();
        for sequence in 0..1000 {
            let fault = Fault::WrongLength { sequence, expected: 1, found: 2 };
            failures.add(sequence as u32, Phase::Open, &fault);
        }
        let mut others = Failures::default();
        for connection in [9, 4, 7] {
            others.add(connection, Phase::Connect, &Fault::Io(libc::ECONNREFUSED));
        }
        others.merge(failures);
        assert_eq!(others.total(), 1003);
        let kinds = others.by_frequency();
        assert!(kinds.len() <= KINDS_MOST + 1);
        assert_eq!(kinds[0].1, OTHERS);
        assert_eq!(
            (kinds[1].0, kinds[1].2.count, kinds[1].2.first_connection),
            (Phase::Connect, 3, 4)
        );
        assert!(kinds[1].1.contains("refused"), "{}", kinds[1].1);
    }
}
