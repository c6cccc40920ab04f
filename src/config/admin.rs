//! Where the admin listener is, and whether the server may do without it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::{ListenAddress, ListenAddressError};

/// Where the admin listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Nowhere, written `off`.
    Off,
    /// Here, or nowhere where that cannot be: what nobody asked for must not keep a server from
    /// starting. Only the default is this.
    IfFree(ListenAddress),
    /// Here, and the server does not start without it.
    At(ListenAddress),
}

impl Admin {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str =
        "IP:PORT such as 127.0.0.1:7072 or [::1]:7072, unix:PATH, or off";

    /// The address, unless there is none.
    pub fn address(&self) -> Option<&ListenAddress> {
        match self {
            Self::Off => None,
            Self::IfFree(address) | Self::At(address) => Some(address),
        }
    }
}

impl Default for Admin {
    /// Loopback only, as whoever reaches it may drain the server.
    fn default() -> Self {
        Self::IfFree(ListenAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 7072))))
    }
}

impl FromStr for Admin {
    type Err = ListenAddressError;

    /// Reads `off` or an address; whoever writes one wants it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            OFF => Ok(Self::Off),
            address => address.parse().map(Self::At),
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            Some(address) => address.fmt(formatter),
            None => formatter.write_str(OFF),
        }
    }
}

const OFF: &str = "off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_wanted_and_the_default_is_not() {
        for text in ["127.0.0.1:7072", "[::1]:0", "unix:/run/admin.sock", "off"] {
            let admin: Admin = text.parse().unwrap();
            assert_eq!(admin.to_string(), text);
            assert!(!matches!(admin, Admin::IfFree(_)), "{text}");
        }
        assert!(matches!(Admin::default(), Admin::IfFree(_)));
        assert_eq!(Admin::default().to_string(), "127.0.0.1:7072");
        for text in ["", "OFF", "localhost:7072", "7072", "unix:", "127.0.0.1"] {
            assert_eq!(text.parse::<Admin>(), Err(ListenAddressError), "{text}");
        }
    }
}
