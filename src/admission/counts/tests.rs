//! The table against a list that is counted by hand, and what it does when it is full.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use proptest::prelude::*;

use super::*;

fn table(count_most: Option<u16>, rate: Option<u32>, buckets: usize) -> Limited {
    let limits = Limits { count_most, rate: rate.map(Rate::per_second) };
    Limited::new(limits, buckets)
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn limits_may_change_while_something_counts() {
    let mut table = table(Some(2), None, 1);
    let first = table.enter(&1, ms(0), true).unwrap().counted.unwrap();
    let second = table.enter(&1, ms(0), true).unwrap().counted.unwrap();
    table.limits = Limits { count_most: Some(3), rate: None };
    let third = table.enter(&1, ms(0), true).unwrap().counted.unwrap();
    table.limits = Limits { count_most: Some(1), rate: Some(Rate::per_second(5_u32)) };
    table.release(first);
    assert_eq!(table.enter(&1, ms(0), true).unwrap_err(), Excess::Count);
    table.limits.count_most = None;
    assert!(table.enter(&1, ms(0), true).unwrap().counted.is_none());
    table.release(second);
    table.release(third);
    assert_eq!(table.counted(), 0);
}

#[test]
fn a_full_bucket_lets_in_and_does_not_count() {
    let table = table(Some(1), None, 1);
    let mut counted: Vec<_> = (0..BUCKET_PLACES as u32)
        .map(|number| table.enter(&number, ms(0), true).unwrap().counted.unwrap())
        .collect();
    for _ in 0..3 {
        let admitted = table.enter(&99, ms(0), true).unwrap();
        assert!(admitted.is_untracked && admitted.counted.is_none());
    }
    assert!(table.enter(&3, ms(0), true).is_err());
    table.release(counted.swap_remove(3));
    assert!(table.enter(&99, ms(0), true).unwrap().counted.is_some());
    assert_eq!(table.counted(), BUCKET_PLACES as u64);
}

#[test]
fn what_matters_least_makes_room() {
    let table = table(Some(9), Some(10), 1);
    // All have come a moment ago, the first of them earliest.
    for number in 0..BUCKET_PLACES as u32 {
        let counted = table.enter(&number, ms(100 + 20 * u64::from(number)), true).unwrap();
        table.release(counted.counted.unwrap());
    }
    assert!(!table.enter(&50, ms(250), true).unwrap().is_untracked);
    let words = look(&table.buckets[0].0).map(Entry::from);
    let (_, first) = table.place(&0);
    assert!(words.iter().all(|entry| entry.tag != first.get()));
}

#[test]
fn an_entry_of_long_ago_is_not_taken_for_one_to_come() {
    let table = table(None, Some(10_000), 1);
    for _ in 0..10_000 {
        assert!(table.enter(&1, ms(5), true).is_ok());
    }
    assert_eq!(table.enter(&1, ms(5), true).unwrap_err(), Excess::Rate);
    // Half of the steps until they wrap, and all but a few.
    for seconds in [800, 1670] {
        assert!(table.enter(&1, Duration::from_secs(seconds), true).is_ok());
    }
}

/// Each shard reads the clock once in a tick, and a second's worth was let in twice.
#[test]
fn a_shard_whose_clock_was_read_earlier_lets_in_no_more() {
    let table = table(None, Some(4), 1);
    for _ in 0..4 {
        assert!(table.enter(&1, ms(10_000), true).is_ok());
    }
    assert_eq!(table.enter(&1, ms(9_999), true).unwrap_err(), Excess::Rate);
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
                let key = rng.u32(..12);
                if held.len() < 4 && rng.bool() {
                    held.extend(table.enter(&key, ms(0), true).ok().and_then(|it| it.counted));
                } else if let Some(counted) = held.pop() {
                    table.release(counted);
                }
                assert!(table.counted_for(&key) <= 3);
            }
            held.into_iter().for_each(|counted| {
                table.release(counted);
            });
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
        // For each key, when the next is due, in thousandths of a step.
        let mut due: HashMap<u32, u64> = HashMap::new();
        let mut now_ms = 0;
        for (number, comes, gap_ms) in steps {
            now_ms += gap_ms;
            let open = open.entry(number).or_default();
            if !comes {
                open.pop().into_iter().for_each(|counted| {
                table.release(counted);
            });
                continue;
            }
            let result = table.enter(&number, ms(now_ms), true);
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
                Err(Excess::Count) => prop_assert!(is_full),
                Err(excess) => prop_assert!(excess == Excess::Rate && is_fast),
            }
            prop_assert_eq!(table.counted_for(&number), open.len() as u32);
        }
    }
}

#[test]
fn the_first_and_the_last_of_a_key_are_told_and_the_first_may_be_held_off() {
    let table = table(Some(9), None, 1);
    assert_eq!(table.enter("a", ms(0), false).unwrap_err(), Excess::Begin);
    let first = table.enter("a", ms(0), true).unwrap();
    let second = table.enter("a", ms(0), false).unwrap();
    assert!(first.is_first && !second.is_first);
    assert!(!table.release(first.counted.unwrap()));
    assert!(table.release(second.counted.unwrap()));
    assert_eq!(table.enter("a", ms(0), false).unwrap_err(), Excess::Begin);
}
