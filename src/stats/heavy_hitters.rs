//! Who takes the most of something, told with so many counters however many take some.
//!
//! The counters of Misra and Gries ("Finding repeated elements", Science of Computer Programming 2,
//! 1982), which lose many at a time (Anderson et al., "A high-performance algorithm for identifying
//! frequent items in data streams", IMC 2017): so adding takes the same time on average, whoever
//! adds what.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Amounts by item. With `most` counters, whoever has taken more than the total divided by
/// `most + 1` has one.
#[derive(Clone, Debug)]
pub struct HeavyHitters<K> {
    most: usize,
    counters: HashMap<K, u64>,
    total: u64,
    shortfall: u64,
}

impl<K: Hash + Eq> HeavyHitters<K> {
    /// None yet; between `most` and twice as many will have a counter.
    pub fn new(most: usize) -> Self {
        Self { most, counters: HashMap::new(), total: 0, shortfall: 0 }
    }

    /// `item` takes `amount` more.
    pub fn add(&mut self, item: K, amount: u64) {
        if amount == 0 {
            return;
        }
        self.total = self.total.saturating_add(amount);
        let counter = self.counters.entry(item).or_default();
        *counter = counter.saturating_add(amount);
        if self.counters.len() > 2 * self.most {
            self.forget_the_least();
        }
    }

    /// What an item has taken, at least; it may be more by no more than the
    /// [shortfall](Self::shortfall).
    pub fn of<Q: Hash + Eq + ?Sized>(&self, item: &Q) -> u64
    where
        K: Borrow<Q>,
    {
        self.counters.get(item).copied().unwrap_or_default()
    }

    /// Those that have a counter, in no order.
    pub fn items(&self) -> impl Iterator<Item = &K> {
        self.counters.keys()
    }

    /// What all have taken together.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// By how much each counter may be too low: at most the total divided by `most + 1`.
    pub fn shortfall(&self) -> u64 {
        self.shortfall
    }

    /// Takes from each counter what the first has that is not among the greatest, and forgets those
    /// that have nothing left. Each time `most + 1` lose as much, which bounds the shortfall.
    fn forget_the_least(&mut self) {
        let mut amounts: Vec<u64> = self.counters.values().copied().collect();
        let (_, &mut loss, _) =
            amounts.select_nth_unstable_by(self.most, |one, other| other.cmp(one));
        self.counters.retain(|_, amount| {
            *amount = amount.saturating_sub(loss);
            *amount > 0
        });
        self.shortfall += loss;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whoever_takes_much_is_there_and_no_counter_is_far_off(
            taken in prop::collection::vec((0..40u8, 0..100u64), 0..400),
            most in 1..9usize,
        ) {
            let (mut hitters, mut exact) = (HeavyHitters::new(most), HashMap::<u8, u64>::new());
            for (item, amount) in taken {
                hitters.add(item, amount);
                *exact.entry(item).or_default() += amount;
                prop_assert!(hitters.items().count() <= 2 * most);
            }
            let total: u64 = exact.values().sum();
            prop_assert_eq!(hitters.total(), total);
            prop_assert!(hitters.shortfall() <= total / (most as u64 + 1));
            for (item, amount) in exact {
                let counted = hitters.of(&item);
                prop_assert!(counted <= amount && amount <= counted + hitters.shortfall());
                prop_assert!(amount <= total / (most as u64 + 1) || counted > 0);
            }
        }
    }

    #[test]
    fn nothing_is_lost_while_there_are_few() {
        let mut hitters = HeavyHitters::new(2);
        for item in 0..4 {
            hitters.add(item, 10 * (item + 1));
        }
        assert_eq!((hitters.shortfall(), hitters.of(&0)), (0, 10));
        hitters.add(4, 1);
        assert_eq!((hitters.shortfall(), hitters.of(&3), hitters.of(&0)), (20, 20, 0));
    }
}
