//! The table against a list that is counted by hand, and what it does when it is full.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use super::*;

fn table(connections: Option<u16>, rate: Option<u32>, buckets: usize) -> Limited {
    let peers = Peers {
        connections_per_address: connections,
        connection_rate_per_address: rate,
        ..Peers::default()
    };
    Limited::new(&peers, buckets)
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn addresses_of_one_network_of_ipv6_are_one() {
    let table = table(Some(1), None, 1 << 10);
    let admit = |text: &str| table.admit(text.parse().unwrap(), ms(0));
    assert!(admit("2001:db8:0:1::1").is_ok());
    assert_eq!(admit("2001:db8:0:1:ffff::2").unwrap_err(), Denial::AddressConnections);
    assert!(admit("2001:db8:0:2::1").is_ok());
    assert!(admit("192.0.2.1").is_ok());
    assert_eq!(admit("::ffff:192.0.2.1").unwrap_err(), Denial::AddressConnections);
    let whole = Limited::new(
        &Peers { connections_per_address: Some(1), limit_ipv6_prefix: 128, ..Peers::default() },
        1 << 10,
    );
    assert!(whole.admit("::1".parse().unwrap(), ms(0)).is_ok());
    assert!(whole.admit("::2".parse().unwrap(), ms(0)).is_ok());
}

#[test]
fn limits_may_change_while_connections_are_counted() {
    let mut table = table(Some(2), None, 1);
    let first = table.admit(address(1), ms(0)).unwrap().counted.unwrap();
    let second = table.admit(address(1), ms(0)).unwrap().counted.unwrap();
    let limits = |connections_per_address, connection_rate_per_address, limit_ipv6_prefix| {
        let peers = Peers {
            connections_per_address,
            connection_rate_per_address,
            limit_ipv6_prefix,
            ..Peers::default()
        };
        AddressLimits::new(&peers).unwrap()
    };
    table.limits = limits(Some(3), None, 48);
    let third = table.admit(address(1), ms(0)).unwrap().counted.unwrap();
    table.limits = limits(Some(1), Some(5), 48);
    table.release(first);
    assert_eq!(table.admit(address(1), ms(0)).unwrap_err(), Denial::AddressConnections);
    table.limits = limits(None, Some(5), 128);
    assert!(table.admit(address(1), ms(0)).unwrap().counted.is_none());
    table.release(second);
    table.release(third);
    assert_eq!(table.counted(), 0);
}

#[test]
fn a_full_bucket_lets_in_and_does_not_count() {
    let table = table(Some(1), None, 1);
    let mut counted: Vec<_> = (0..BUCKET_PLACES as u32)
        .map(|number| table.admit(address(number), ms(0)).unwrap().counted.unwrap())
        .collect();
    for _ in 0..3 {
        let admitted = table.admit(address(99), ms(0)).unwrap();
        assert!(admitted.is_untracked && admitted.counted.is_none());
    }
    assert!(table.admit(address(3), ms(0)).is_err());
    table.release(counted.swap_remove(3));
    assert!(table.admit(address(99), ms(0)).unwrap().counted.is_some());
    assert_eq!(table.counted(), BUCKET_PLACES as u64);
}

#[test]
fn what_matters_least_makes_room() {
    let table = table(Some(9), Some(10), 1);
    // All have come a moment ago, the first of them earliest.
    for number in 0..BUCKET_PLACES as u32 {
        let counted = table.admit(address(number), ms(100 + 20 * u64::from(number))).unwrap();
        table.release(counted.counted.unwrap());
    }
    assert!(!table.admit(address(50), ms(250)).unwrap().is_untracked);
    let words = look(&table.table.buckets[0].0).map(Entry::from);
    let (_, first) = table.table.place(address(0), 64);
    assert!(words.iter().all(|entry| entry.tag != first.get()));
}

#[test]
fn an_entry_of_long_ago_is_not_taken_for_one_to_come() {
    let table = table(None, Some(10_000), 1);
    for _ in 0..10_000 {
        assert!(table.admit(address(1), ms(5)).is_ok());
    }
    assert_eq!(table.admit(address(1), ms(5)).unwrap_err(), Denial::AddressRate);
    // Half of the steps until they wrap, and all but a few.
    for seconds in [800, 1670] {
        assert!(table.admit(address(1), Duration::from_secs(seconds)).is_ok());
    }
}

#[test]
fn threads_count_together() {
    const THREADS: usize = 4;
    let table = Arc::new(table(Some(3), None, 1));
    let work = |seed: u64| {
        let table = table.clone();
        move || {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut held = Vec::new();
            for _ in 0..20_000 {
                let address = address(rng.u32(..12));
                if held.len() < 4 && rng.bool() {
                    held.extend(table.admit(address, ms(0)).ok().and_then(|it| it.counted));
                } else if let Some(counted) = held.pop() {
                    table.release(counted);
                }
                assert!(table.counted_for(address) <= 3);
            }
            held.into_iter().for_each(|counted| table.release(counted));
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|seed| thread::spawn(work(seed as u64))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(table.counted(), 0);
}

proptest! {
    #[test]
    fn the_table_counts_as_a_list_does(
        steps in prop::collection::vec((0..6_u32, any::<bool>(), 0..300_u64), 1..200),
        most in prop::option::of(1..4_u16),
        per_second in prop::option::of(1..9_u32),
    ) {
        let table = table(most, per_second, 1 << 10);
        let mut open: HashMap<u32, Vec<Counted>> = HashMap::new();
        // For each address, when the next is due, in thousandths of a step.
        let mut due: HashMap<u32, u64> = HashMap::new();
        let mut now_ms = 0;
        for (number, comes, gap_ms) in steps {
            now_ms += gap_ms;
            let open = open.entry(number).or_default();
            if !comes {
                open.pop().into_iter().for_each(|counted| table.release(counted));
                continue;
            }
            let result = table.admit(address(number), ms(now_ms));
            let steps = now_ms * u64::from(per_second.unwrap_or(0)) / 1000;
            let due = due.entry(number).or_default();
            *due = (*due).max(steps);
            let is_full = most.is_some_and(|most| open.len() >= usize::from(most));
            let is_fast = per_second.is_some_and(|rate| *due - steps >= u64::from(rate));
            match result {
                Ok(admitted) => {
                    prop_assert!(!is_full && !is_fast && !admitted.is_untracked);
                    prop_assert_eq!(admitted.counted.is_some(), most.is_some());
                    open.extend(admitted.counted);
                    *due += u64::from(per_second.is_some());
                }
                Err(Denial::AddressConnections) => prop_assert!(is_full),
                Err(denial) => prop_assert!(denial == Denial::AddressRate && is_fast),
            }
            prop_assert_eq!(table.counted_for(address(number)), open.len() as u32);
        }
    }
}
