//! Where the admin listener is, and whether the server may do without it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use super::{ListenAddress, ListenAddressError};

/// Where the admin listener is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// At [`Admin::AUTO`], or nowhere where that cannot be: what nobody asked for must not keep a
    /// second server from starting.
    #[default]
    Auto,
    /// Nowhere.
    Off,
    /// Here, and the server does not start without it.
    At(ListenAddress),
}

impl Admin {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "auto (127.0.0.1:7072 unless that is taken), an IP:PORT such \
         as 127.0.0.1:7072 or [::1]:7072, unix:PATH, systemd:NAME for a socket unit, or off";

    /// Loopback only, as whoever reaches it may drain the server.
    pub const AUTO: ListenAddress =
        ListenAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7072));
}

impl FromStr for Admin {
    type Err = ListenAddressError;

    /// Reads `auto`, `off` or an address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            AUTO => Ok(Self::Auto),
            OFF => Ok(Self::Off),
            address => address.parse().map(Self::At),
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str(AUTO),
            Self::Off => formatter.write_str(OFF),
            Self::At(address) => address.fmt(formatter),
        }
    }
}

const AUTO: &str = "auto";
const OFF: &str = "off";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        for text in ["auto", "127.0.0.1:7072", "[::1]:0", "unix:/run/a.sock", "systemd:a", "off"] {
            assert_eq!(text.parse::<Admin>().unwrap().to_string(), text);
        }
        assert_eq!(Admin::AUTO.to_string(), "127.0.0.1:7072");
        assert!(Admin::GRAMMAR.contains(&Admin::AUTO.to_string()));
        for text in ["", "OFF", "localhost:7072", "7072", "unix:", "127.0.0.1"] {
            assert_eq!(text.parse::<Admin>(), Err(ListenAddressError), "{text}");
        }
    }
}
