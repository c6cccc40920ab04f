//! How many connections each address has, and how fast they come.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::counts::{Counted, Counts, Excess, Limits};
use super::rate::Rate;
use super::{Admitted, Denial};
use crate::config::Peers;

/// The connections of all addresses.
#[derive(Debug)]
pub(super) struct AddressTable(Counts);

/// What an address may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddressLimits {
    limits: Limits,
    /// Bits of an IPv6 address that count.
    ipv6_prefix: u8,
}

impl AddressLimits {
    /// What the configuration says; nothing if it limits nobody.
    pub(super) fn new(peers: &Peers) -> Option<Self> {
        let limits = Limits {
            count_most: peers.connections_per_address,
            rate: peers.connection_rate_per_address.map(Rate::per_second),
        };
        let is_limited = limits.count_most.is_some() || limits.rate.is_some();
        is_limited.then_some(Self { limits, ipv6_prefix: peers.limit_ipv6_prefix })
    }

    /// What those have in common who count as one.
    fn network(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let kept = u128::MAX << (128 - u32::from(self.ipv6_prefix));
                Ipv6Addr::from_bits(address.to_bits() & kept).into()
            }
            address => address,
        }
    }
}

impl AddressTable {
    /// A table that counts `capacity` connections of as many addresses with very few exceptions.
    pub(super) fn new(capacity: usize) -> Self {
        Self(Counts::new(capacity))
    }

    /// Counts a connection of `address` that begins `now`, unless it is one too many.
    pub(super) fn admit(
        &self,
        limits: AddressLimits,
        address: IpAddr,
        now: Duration,
    ) -> Result<Admitted, Denial> {
        match self.0.enter(limits.limits, &limits.network(address), now, true) {
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
        self.0.release(counted);
    }

    /// Connections that are counted for an address.
    pub(super) fn counted_for(&self, limits: AddressLimits, address: IpAddr) -> u32 {
        self.0.counted_for(&limits.network(address))
    }

    /// Connections that are counted.
    pub(super) fn counted(&self) -> u64 {
        self.0.counted()
    }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;

    /// One connection for each network of IPv6 of this size.
    fn limits(ipv6_prefix: u8) -> AddressLimits {
        AddressLimits::new(&Peers {
            connections_per_address: Some(1),
            limit_ipv6_prefix: ipv6_prefix,
            ..Peers::default()
        })
        .unwrap()
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one() {
        let (whole, table) = (AddressTable::new(100), AddressTable::new(100));
        let admit = |text: &str| table.admit(limits(64), text.parse().unwrap(), Duration::ZERO);
        assert!(admit("2001:db8:0:1::1").is_ok());
        assert_eq!(admit("2001:db8:0:1:ffff::2").unwrap_err(), Denial::AddressConnections);
        assert!(admit("2001:db8:0:2::1").is_ok());
        assert!(admit("192.0.2.1").is_ok());
        assert_eq!(admit("::ffff:192.0.2.1").unwrap_err(), Denial::AddressConnections);
        assert!(whole.admit(limits(128), "::1".parse().unwrap(), Duration::ZERO).is_ok());
        assert!(whole.admit(limits(128), "::2".parse().unwrap(), Duration::ZERO).is_ok());
    }
}
