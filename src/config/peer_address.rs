//! Who is at the other end of a connection: an address of IPv4 or IPv6, or a user of this machine.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// From this address.
    Ip(IpAddr),
    /// By a Unix socket, from a process of this user and group.
    Unix(Credentials),
}

/// Whose process has connected by a Unix socket (unix(7), `SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its effective user.
    pub user_id: u32,
    /// Its effective group.
    pub group_id: u32,
}

impl PeerAddress {
    /// The address, if it has one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unix(_) => None,
        }
    }

    /// One client has one address, whichever kind of socket it came by: IPv4 within IPv6 is IPv4.
    pub fn to_canonical(self) -> Self {
        match self {
            Self::Ip(address) => Self::Ip(address.to_canonical()),
            Self::Unix(_) => self,
        }
    }
}

impl From<IpAddr> for PeerAddress {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(formatter),
            Self::Unix(Credentials { user_id, group_id }) => {
                write!(formatter, "unix:uid={user_id},gid={group_id}")
            }
        }
    }
}

/// A text that tells no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address such as 192.0.2.1, 2001:db8::1 or unix:uid=33,gid=33")]
pub struct PeerAddressError;

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(peer) = text.strip_prefix("unix:uid=") else {
            return text.parse().map(Self::Ip).map_err(|_| PeerAddressError);
        };
        let (user_id, group_id) = peer.split_once(",gid=").ok_or(PeerAddressError)?;
        let number = |text: &str| text.parse().map_err(|_| PeerAddressError);
        Ok(Self::Unix(Credentials { user_id: number(user_id)?, group_id: number(group_id)? }))
    }
}

impl Serialize for PeerAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PeerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_read_as_it_is_told() {
        for text in ["192.0.2.1", "2001:db8::1", "unix:uid=33,gid=0", "unix:uid=4294967295,gid=7"] {
            let peer: PeerAddress = text.parse().expect(text);
            assert_eq!(peer.to_string(), text);
            assert_eq!(serde_json::to_value(peer).unwrap(), text);
            assert_eq!(serde_json::from_value::<PeerAddress>(text.into()).unwrap(), peer);
        }
        for text in ["", "unix", "unix:", "unix:uid=", "unix:uid=1", "unix:uid=1,gid=-1", "1.2.3"] {
            assert_eq!(text.parse::<PeerAddress>(), Err(PeerAddressError), "{text}");
        }
        let mapped: PeerAddress = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(mapped.to_canonical().to_string(), "192.0.2.1");
    }
}
