//! How many connections each address has, and how fast they come.

use std::net::IpAddr;
use std::time::Duration;

use super::counts::{Counted, Counts, Excess, Limits};
use super::rate::Rate;
use super::{Admitted, Denial};
use crate::config::Peers;

/// The connections of all addresses.
#[derive(Debug)]
pub(super) struct AddressTable {
    counts: Counts,
    /// Bits of an IPv6 address that count.
    ipv6_prefix: u8,
}

impl AddressTable {
    /// A table that counts `capacity` connections of as many addresses with very few exceptions.
    pub(super) fn new(peers: &Peers, capacity: usize) -> Self {
        let limits = Limits {
            count_most: peers.connections_per_address,
            rate: peers.connection_rate_per_address.map(Rate::per_second),
        };
        Self { counts: Counts::new(limits, capacity), ipv6_prefix: peers.limit_ipv6_prefix }
    }

    /// Counts a connection of `address` that begins `now`, unless it is one too many.
    pub(super) fn admit(&self, address: IpAddr, now: Duration) -> Result<Admitted, Denial> {
        match self.counts.enter(&self.network(address), now, true) {
            Ok(entered) => {
                let (counted, is_untracked) = (entered.counted, entered.is_untracked);
                Ok(Admitted { counted, is_untracked })
            }
            Err(Excess::Rate) => Err(Denial::AddressRate),
            Err(Excess::Count | Excess::Begin) => Err(Denial::AddressConnections),
        }
    }

    /// A connection has ended.
    pub(super) fn release(&self, counted: Counted) {
        self.counts.release(counted);
    }

    /// Connections that are counted for an address.
    pub(super) fn counted_for(&self, address: IpAddr) -> u32 {
        self.counts.counted_for(&self.network(address))
    }

    /// Connections that are counted.
    pub(super) fn counted(&self) -> u64 {
        self.counts.counted()
    }

    /// What those have in common who count as one.
    fn network(&self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let kept = u128::MAX << (128 - u32::from(self.ipv6_prefix));
                std::net::Ipv6Addr::from_bits(address.to_bits() & kept).into()
            }
            address => address,
        }
    }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;

    fn table(ipv6_prefix: u8) -> AddressTable {
        let peers = Peers {
            connections_per_address: Some(1),
            limit_ipv6_prefix: ipv6_prefix,
            ..Peers::default()
        };
        AddressTable::new(&peers, 100)
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one() {
        let whole = table(128);
        let table = table(64);
        let admit = |text: &str| table.admit(text.parse().unwrap(), Duration::ZERO);
        assert!(admit("2001:db8:0:1::1").is_ok());
        assert_eq!(admit("2001:db8:0:1:ffff::2").unwrap_err(), Denial::AddressConnections);
        assert!(admit("2001:db8:0:2::1").is_ok());
        assert!(admit("192.0.2.1").is_ok());
        assert_eq!(admit("::ffff:192.0.2.1").unwrap_err(), Denial::AddressConnections);
        assert!(whole.admit("::1".parse().unwrap(), Duration::ZERO).is_ok());
        assert!(whole.admit("::2".parse().unwrap(), Duration::ZERO).is_ok());
    }
}
