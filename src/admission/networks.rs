//! Lists of networks, and what they say of an address.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Network, PeerAddress, Peers, TrustedProxy};

/// A set of addresses.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    /// In ascending order, none within another.
    ranges: Vec<IpNet>,
}

impl Networks {
    /// Whether `address` is one of them; IPv4 within IPv6 is IPv4.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let end = self.ranges.partition_point(|range| range.network() <= address);
        end > 0 && self.ranges[end - 1].contains(&address)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<N: IntoIterator<Item = Network>>(networks: N) -> Self {
        let ranges: Vec<_> = networks.into_iter().map(Network::range).collect();
        let mut ranges = IpNet::aggregate(&ranges);
        ranges.sort_unstable();
        Self { ranges }
    }
}

/// Which addresses may connect, and which may speak for others.
#[derive(Clone, Debug, Default)]
pub struct Access {
    allowed: Networks,
    denied: Networks,
    trusted: Networks,
    /// What is trusted of those who connect by a Unix socket.
    trusted_unix: Vec<TrustedProxy>,
}

impl Access {
    /// Takes the lists from the configuration.
    pub fn new(peers: &Peers) -> Self {
        let trusted = |proxy: &TrustedProxy| match proxy {
            TrustedProxy::Network(network) => Some(*network),
            TrustedProxy::Unix | TrustedProxy::UnixUser(_) | TrustedProxy::UnixGroup(_) => None,
        };
        Self {
            allowed: peers.allow_networks.iter().copied().collect(),
            denied: peers.deny_networks.iter().copied().collect(),
            trusted: peers.trusted_proxies.iter().filter_map(trusted).collect(),
            trusted_unix: peers.trusted_proxies.iter().copied().filter(|it| it.is_unix()).collect(),
        }
    }

    /// Whether addresses make no difference.
    pub fn is_open(&self) -> bool {
        [&self.allowed, &self.denied, &self.trusted].iter().all(|networks| networks.is_empty())
    }

    /// Whether a peer with this address, or by a Unix socket, may connect. A proxy that is trusted
    /// needs not be allowed.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address else { return true };
        let is_allowed = self.allowed.is_empty()
            || self.allowed.contain(address)
            || self.trusted.contain(address);
        is_allowed && !self.denied.contain(address)
    }

    /// Whether a peer with this address, or by a Unix socket of which no more is known, is believed
    /// what it says of others.
    pub fn trusts(&self, peer: Option<PeerAddress>) -> bool {
        if let Some(PeerAddress::Ip(address)) = peer {
            return self.trusted.contain(address);
        }
        self.trusted_unix.iter().any(|trusted| match (trusted, peer) {
            (TrustedProxy::Unix, _) => true,
            (TrustedProxy::UnixUser(user), Some(PeerAddress::Unix(it))) => it.user_id == *user,
            (TrustedProxy::UnixGroup(group), Some(PeerAddress::Unix(it))) => it.group_id == *group,
            _ => false,
        })
    }

    /// Whether any who connect by a Unix socket are.
    pub fn trusts_unix(&self) -> bool {
        !self.trusted_unix.is_empty()
    }

    /// Whether it makes a difference who connects by a Unix socket.
    pub fn asks_for_credentials(&self) -> bool {
        self.trusted_unix.iter().any(|trusted| *trusted != TrustedProxy::Unix)
    }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    #[test]
    fn families_are_told_apart_and_ipv4_within_ipv6_is_ipv4() {
        let networks = networks(&["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32", "::/128"]);
        for address in ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "2001:db8::1", "::"] {
            assert!(networks.contain(address.parse().unwrap()), "{address}");
        }
        for address in ["9.255.255.255", "11.0.0.0", "2001:db9::", "::1", "::a00:1"] {
            assert!(!networks.contain(address.parse().unwrap()), "{address}");
        }
        assert!(!Networks::default().contain("::".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_set_has_what_its_networks_have(
            ranges in prop::collection::vec((any::<u8>(), any::<bool>(), 0..=8_u8), 0..9),
            last in any::<u8>(),
        ) {
            // Few addresses, so that networks lie within and beside each other.
            let address = |last: u8, is_v6: bool| match is_v6 {
                true => IpAddr::from([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]),
                false => IpAddr::from([10, 0, 0, last]),
            };
            let network = |&(last, is_v6, bits): &(u8, bool, u8)| {
                let prefix = if is_v6 { 120 } else { 24 } + bits;
                IpNet::new_assert(address(last, is_v6), prefix).trunc()
            };
            let ranges: Vec<IpNet> = ranges.iter().map(network).collect();
            let parsed = ranges.iter().map(|range| range.to_string().parse::<Network>().unwrap());
            let networks: Networks = parsed.collect();
            for address in [address(last, true), address(last, false)] {
                let expected = ranges.iter().any(|range| range.contains(&address));
                prop_assert_eq!(networks.contain(address), expected);
            }
        }
    }
}
