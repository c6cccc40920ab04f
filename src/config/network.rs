//! Networks of addresses, and which of them are proxies whose word is taken.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

/// A network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "an address or a network ADDRESS/PREFIX such as 10.0.0.1, \
         10.0.0.0/8 or 2001:db8::/32, with no bits behind the prefix and no IPv4 within IPv6";

    /// The addresses that it has.
    pub fn range(self) -> IpNet {
        self.0
    }
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", Network::GRAMMAR)]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    /// Reads an address, or an address and the length of its prefix. Bits behind the prefix are
    /// refused, as a prefix that is too short is a mistake that lets in too many; and what can
    /// never match is, as peers of IPv4 are compared as such.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range: IpNet = match text.parse::<IpAddr>() {
            Ok(address) => address.into(),
            Err(_) => text.parse().map_err(|_| NetworkError)?,
        };
        let is_mapped = range.addr().to_canonical().is_ipv4() && range.addr().is_ipv6();
        (range == range.trunc() && !is_mapped).then_some(Self(range)).ok_or(NetworkError)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(formatter),
            false => self.0.fmt(formatter),
        }
    }
}

/// Whose word on the addresses of others is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Whoever connects by a Unix socket.
    Unix,
    /// Whoever connects by a Unix socket from a process of this user.
    UnixUser(u32),
    /// The same of this group, the effective one of the process.
    UnixGroup(u32),
    /// Whoever connects from there.
    Network(Network),
}

impl TrustedProxy {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "an address or a network ADDRESS/PREFIX such as 10.0.0.1, \
         10.0.0.0/8 or 2001:db8::/32, or unix for whoever connects by a Unix socket, or \
         unix:uid=NUMBER or unix:gid=NUMBER for processes of this user or group (id -u NAME tells \
         a number)";

    /// Whether it is said of those who connect by a Unix socket.
    pub fn is_unix(self) -> bool {
        !matches!(self, Self::Network(_))
    }
}

impl FromStr for TrustedProxy {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            UNIX => Ok(Self::Unix),
            text => match (text.strip_prefix(UNIX_USER), text.strip_prefix(UNIX_GROUP)) {
                (Some(user), _) => user.parse().map(Self::UnixUser).map_err(|_| NetworkError),
                (_, Some(group)) => group.parse().map(Self::UnixGroup).map_err(|_| NetworkError),
                (None, None) => text.parse().map(Self::Network),
            },
        }
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix => formatter.write_str(UNIX),
            Self::UnixUser(user) => write!(formatter, "{UNIX_USER}{user}"),
            Self::UnixGroup(group) => write!(formatter, "{UNIX_GROUP}{group}"),
            Self::Network(network) => network.fmt(formatter),
        }
    }
}

const UNIX: &str = "unix";
const UNIX_USER: &str = "unix:uid=";
const UNIX_GROUP: &str = "unix:gid=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_shown_in_one_spelling() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("::1/128", "::1"),
        ] {
            let network: Network = text.parse().expect(text);
            assert_eq!(network.to_string(), shown);
            assert_eq!(shown.parse(), Ok(network));
        }
        for (text, proxy) in [
            ("unix", TrustedProxy::Unix),
            ("unix:uid=33", TrustedProxy::UnixUser(33)),
            ("unix:gid=0", TrustedProxy::UnixGroup(0)),
        ] {
            assert_eq!(text.parse(), Ok(proxy));
            assert_eq!(proxy.to_string(), text);
        }
        for text in ["unix:", "unix:uid=", "unix:uid=root", "unix:gid=-1", "unix:33"] {
            assert_eq!(text.parse::<TrustedProxy>(), Err(NetworkError), "{text}");
        }
        assert_eq!("::1".parse::<TrustedProxy>().map(|it| it.to_string()), Ok("::1".to_owned()));
    }

    #[test]
    fn what_is_no_network_or_a_likely_mistake_is_refused() {
        for text in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0/8",
            "::ffff:10.0.0.1",
            "::ffff:10.0.0.0/104",
            "[::1]",
            "fe80::1%eth0",
            "localhost",
            "unix:",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
            assert_eq!(text.parse::<TrustedProxy>(), Err(NetworkError), "{text}");
        }
    }
}
