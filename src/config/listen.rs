//! Where connections are accepted.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::limits;

/// Where a listener accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address, IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix stream socket, written `unix:PATH`.
    Unix(PathBuf),
}

/// A text that is no listen address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", ListenAddress::GRAMMAR)]
pub struct ListenAddressError;

impl ListenAddress {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "IP:PORT such as 127.0.0.1:7071 or [::1]:7071, or unix:PATH";
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    /// Reads `IP:PORT`, `[IPv6]:PORT` or `unix:PATH`. Names are refused: what they resolve to may
    /// change between two starts.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) if is_socket_path(path) => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(ListenAddressError),
            None => text.parse().map(Self::Tcp).map_err(|_| ListenAddressError),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

fn is_socket_path(path: &str) -> bool {
    !path.is_empty() && path.len() <= limits::UNIX_PATH_BYTES_MOST && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_were_written() {
        for text in ["127.0.0.1:7071", "[::1]:7071", "0.0.0.0:0", "unix:/run/ringwire.sock"] {
            let address: ListenAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn names_and_half_addresses_are_refused() {
        let long = format!("unix:/{}", "x".repeat(limits::UNIX_PATH_BYTES_MOST));
        for text in ["localhost:7071", "127.0.0.1", "::1:7071", ":7071", "unix:", "", &long] {
            assert_eq!(text.parse::<ListenAddress>(), Err(ListenAddressError), "{text}");
        }
    }
}
