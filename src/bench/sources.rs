//! Local addresses that connections start from.
//!
//! A pair of source and destination has about 28,000 ephemeral ports, so very many connections to
//! one server need several source addresses. On loopback all of 127.0.0.0/8 is ours to take.

use std::net::Ipv4Addr;

/// Source addresses; connections take them in turn. Empty leaves the choice to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<Ipv4Addr>);

impl Sources {
    /// Reads addresses and ranges of addresses: `127.0.0.1-127.0.0.9,10.0.0.7`.
    ///
    /// # Errors
    /// What is allowed, when `text` is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = || ALLOWED.to_owned();
        let mut addresses = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: Ipv4Addr = first.parse().map_err(|_| refused())?;
            let last: Ipv4Addr = last.parse().map_err(|_| refused())?;
            let range = first.to_bits()..=last.to_bits();
            let count = u64::from(last.to_bits()).checked_sub(u64::from(first.to_bits()));
            if count.is_none_or(|count| count + addresses.len() as u64 >= ADDRESSES_MOST) {
                return Err(refused());
            }
            addresses.extend(range.map(Ipv4Addr::from_bits));
        }
        Ok(Self(addresses))
    }

    /// Enough addresses of 127.0.0.0/8 for `connections` to one loopback server; none when the
    /// kernel's own choice has ports enough.
    pub fn loopback(connections: u32) -> Self {
        let count = connections.div_ceil(PORTS);
        if count <= 1 {
            return Self::default();
        }
        // The last byte is never 0 or 255, which look like networks and broadcasts.
        let address = |place: u32| {
            let (high, low) = (place / 254, place % 254 + 1);
            Ipv4Addr::new(127, (high >> 8) as u8, high as u8, low as u8)
        };
        Self((0..count).map(address).collect())
    }

    /// The address that connection number `id` starts from.
    pub fn of(&self, id: u32) -> Option<Ipv4Addr> {
        self.0.get(id as usize % self.0.len().max(1)).copied()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

const ALLOWED: &str = "IPv4 addresses and ranges FIRST-LAST, at most 65536 addresses";
const ADDRESSES_MOST: u64 = 65_536;
/// Connections from one address. The kernel's default range has 28,232 ephemeral ports, of which it
/// tries the even ones first; once these are taken, each connect searches through all of them.
const PORTS: u32 = 12_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        let sources = Sources::parse("127.0.0.254-127.0.1.1,10.0.0.7").expect("valid");
        assert_eq!(sources.count(), 5);
        assert_eq!(sources.of(3), Some(Ipv4Addr::new(127, 0, 1, 1)));
        assert_eq!(sources.of(9), Some(Ipv4Addr::new(10, 0, 0, 7)));
        for wrong in ["", "a", "127.0.0.2-127.0.0.1", "0.0.0.0-255.255.255.255", "::1"] {
            assert!(Sources::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn loopback_has_addresses_for_millions() {
        assert_eq!(Sources::loopback(12_000), Sources::default());
        assert_eq!(Sources::loopback(12_001).count(), 2);
        let many = Sources::loopback(300_000_000);
        let mut seen = std::collections::HashSet::new();
        for id in 0..many.count() as u32 {
            let address = many.of(id).expect("there are addresses");
            assert!(address.is_loopback() && seen.insert(address), "{address}");
            assert!(!matches!(address.octets()[3], 0 | 255));
        }
    }
}
