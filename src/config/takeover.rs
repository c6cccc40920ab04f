//! Where a server may be succeeded by another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::ListenAddress;

/// The path of a Unix socket, from the root on: two servers find it, wherever each was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPath(PathBuf);

/// A text that is no path of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", SocketPath::GRAMMAR)]
pub struct SocketPathError;

impl SocketPath {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a path that begins with /, of up to 107 bytes";

    /// The path itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for SocketPath {
    type Err = SocketPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match format!("unix:{text}").parse() {
            Ok(ListenAddress::Unix(path)) if path.is_absolute() => Ok(Self(path)),
            _ => Err(SocketPathError),
        }
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let path: SocketPath = "/run/ringwire/takeover.sock".parse().unwrap();
        assert_eq!(path.to_string(), "/run/ringwire/takeover.sock");
        for text in ["", "a.sock", "a\0b", &format!("/{}", "x".repeat(107))] {
            assert_eq!(text.parse::<SocketPath>(), Err(SocketPathError), "{text}");
        }
    }
}
