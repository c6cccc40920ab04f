//! How much may be published to each topic in a second, on all shards together.
//!
//! Whoever finds nothing left gets a place in the line of the topic, which says when its turn is.
//! What comes later goes behind all who have a place, wherever they are, so nobody is kept from
//! publishing by those who have more to say. Requests cannot wait: while there is a line, each
//! second message may be one of theirs.

use super::counts::{Counted, Counts, Limits, Standing};
use super::rate::Rate;

/// What has been published to all topics.
#[derive(Debug)]
pub(super) struct PublicationTable(Counts);

/// A place in the line of a topic. To be used, or to be given back.
#[derive(Debug)]
pub struct Place(Counted);

/// What somebody may publish to a topic.
#[derive(Debug)]
pub enum Allowance {
    /// So many messages now.
    Now {
        /// At least one.
        messages: u32,
        /// Whether they should count and do not, as other topics fill the table.
        is_untracked: bool,
    },
    /// Nothing yet.
    Later {
        /// When to ask again, in nanoseconds since the start of the process.
        at_ns: u64,
        /// What to ask with then; none where too many wait already.
        place: Option<Place>,
    },
}

/// A request has come too early: more is published than may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl PublicationTable {
    /// Nothing has been published to as many topics as may have members at a time.
    pub(super) fn new(capacity: usize) -> Self {
        Self(Counts::new(capacity))
    }

    /// Takes up to `most` messages of what may be published to the topic `name` now, at least one
    /// for a place whose time has come. The places of a topic are what counts for it.
    pub(super) fn take(
        &self,
        rate: Rate,
        name: &str,
        now_ns: u64,
        most: u32,
        place: Option<Place>,
    ) -> Allowance {
        enum Taken {
            Now(u32),
            Later { steps: u32, has_place: bool },
        }
        let room = |ahead: u32| rate.count().saturating_sub(ahead.into()).min(most.into()) as u32;
        let own = u32::from(place.is_some());
        let decide = |Standing { count, ahead }| {
            let others = count.saturating_sub(own);
            let messages = room(ahead + others).max(room(ahead).min(own));
            if messages > 0 {
                let after = Standing { count: others, ahead: ahead + messages };
                return Ok::<_, TooMany>((after, Taken::Now(messages)));
            }
            let before = if own > 0 { ahead } else { ahead + others };
            let count = (others + 1).min(u16::MAX.into());
            let steps = (u64::from(before) + 1).saturating_sub(rate.count()) as u32;
            let later = Taken::Later { steps, has_place: count > others };
            Ok((Standing { count, ahead }, later))
        };
        match self.0.change(limits(rate), name, now_ns, decide) {
            Ok(Some((_, Taken::Now(messages)))) => Allowance::Now { messages, is_untracked: false },
            Ok(Some((counted, Taken::Later { steps, has_place }))) => Allowance::Later {
                at_ns: now_ns.saturating_add(rate.span_ns(steps.into())),
                place: has_place.then_some(Place(counted)),
            },
            Ok(None) | Err(TooMany) => Allowance::Now { messages: most, is_untracked: true },
        }
    }

    /// Takes one message for somebody who does not wait; whether it should count and does not.
    pub(super) fn take_one(&self, rate: Rate, name: &str, now_ns: u64) -> Result<bool, TooMany> {
        let decide = |Standing { count, ahead }| {
            let is_second = (rate.steps(now_ns) + u64::from(ahead)).is_multiple_of(2);
            let may_be = rate.has_room(ahead.into()) && (count == 0 || is_second);
            may_be.then_some((Standing { count, ahead: ahead + 1 }, ())).ok_or(TooMany)
        };
        self.0.change(limits(rate), name, now_ns, decide).map(|counted| counted.is_none())
    }

    /// Gives back what was taken and not published.
    pub(super) fn give_back(&self, rate: Rate, name: &str, now_ns: u64, messages: u32) {
        let decide = |Standing { count, ahead }| {
            let after = Standing { count, ahead: ahead.saturating_sub(messages) };
            (ahead > 0).then_some((after, ())).ok_or(())
        };
        // Where nothing is ahead any more, there is nothing to give back.
        let _ = self.0.change(limits(rate), name, now_ns, decide);
    }

    /// Somebody does not wait any more.
    pub(super) fn leave(&self, Place(counted): Place) {
        self.0.release(counted);
    }

    /// How many have a place in the line of any topic.
    pub(super) fn waiting(&self) -> u64 {
        self.0.counted()
    }
}

fn limits(rate: Rate) -> Limits {
    Limits { count_most: None, rate: Some(rate) }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn table() -> PublicationTable {
        PublicationTable::new(100)
    }

    fn now(table: &PublicationTable, rate: u32, at_ns: u64, most: u32) -> Option<u32> {
        match table.take(Rate::per_second(rate), "a", at_ns, most, None) {
            Allowance::Now { messages, .. } => Some(messages),
            Allowance::Later { place, .. } => {
                place.into_iter().for_each(|place| table.leave(place));
                None
            }
        }
    }

    #[test]
    fn a_seconds_worth_may_come_at_once_and_what_is_not_used_is_given_back() {
        let table = table();
        assert_eq!(now(&table, 10, SECOND_NS, 8), Some(8));
        assert_eq!(now(&table, 10, SECOND_NS, 8), Some(2));
        assert_eq!(now(&table, 10, SECOND_NS, 8), None);
        table.give_back(Rate::per_second(10_u32), "a", SECOND_NS, 3);
        assert_eq!(now(&table, 10, SECOND_NS, 8), Some(3));
        assert_eq!(now(&table, 10, SECOND_NS + SECOND_NS / 2, 8), Some(5));
        assert_eq!(table.waiting(), 0);
    }

    #[test]
    fn whoever_waits_has_its_turn_before_those_who_come_later() {
        let (table, rate) = (table(), Rate::per_second(2_u32));
        assert_eq!(now(&table, 2, 0, 9), Some(2));
        let wait = || match table.take(rate, "a", 0, 9, None) {
            Allowance::Later { at_ns, place } => (at_ns, place),
            allowance => panic!("{allowance:?}"),
        };
        let (first, second) = (wait(), wait());
        assert_eq!((first.0, second.0), (SECOND_NS / 2, SECOND_NS));
        // There is one now, and it is spoken for.
        assert_eq!(now(&table, 2, SECOND_NS / 2, 9), None);
        let allowance = table.take(rate, "a", SECOND_NS / 2, 9, first.1);
        assert!(matches!(allowance, Allowance::Now { messages: 1, .. }), "{allowance:?}");
        table.leave(second.1.expect("a place"));
        assert_eq!(now(&table, 2, SECOND_NS, 9), Some(1), "nobody waits any more");
    }

    #[test]
    fn requests_get_each_second_message_while_others_wait() {
        let (table, rate) = (table(), Rate::per_second(1_u32));
        let mut place = None;
        let (mut posted, mut sent) = (0, 0);
        for second in 1..=100 {
            for _ in 0..5 {
                posted += u32::from(table.take_one(rate, "a", second * SECOND_NS).is_ok());
            }
            for _ in 0..2 {
                match table.take(rate, "a", second * SECOND_NS, 1, place.take()) {
                    Allowance::Now { messages, .. } => sent += messages,
                    Allowance::Later { place: held, .. } => place = held,
                }
            }
        }
        assert!(posted + sent >= 99, "{posted} and {sent}");
        assert!((45..=55).contains(&posted), "{posted} were posted, {sent} sent");
    }

    proptest! {
        /// Members who always have more to say share what there is, whoever asks first.
        #[test]
        fn nobody_gets_much_more_than_another_and_all_no_more_than_may_be(
            per_second in 1..30_u32,
            members in 2..6_usize,
            order in prop::collection::vec(0..6_usize, 400..800),
        ) {
            let (table, rate) = (table(), Rate::per_second(per_second));
            let mut line: Vec<Option<(u64, Option<Place>)>> = (0..members).map(|_| None).collect();
            let mut got = vec![0_u64; members];
            let mut last = VecDeque::new();
            let mut now_ns = 0;
            for number in order {
                now_ns += SECOND_NS / 10;
                // One asks first, then all whose time has come.
                let first = number % members;
                for member in std::iter::once(first).chain(0..members) {
                    while line[member].as_ref().is_none_or(|(at_ns, _)| *at_ns <= now_ns) {
                        let place = line[member].take().and_then(|(_, place)| place);
                        match table.take(rate, "a", now_ns, 1, place) {
                            Allowance::Now { messages, is_untracked } => {
                                prop_assert!(!is_untracked && messages == 1);
                                got[member] += 1;
                                last.push_back(now_ns);
                            }
                            Allowance::Later { at_ns, place } => {
                                line[member] = Some((at_ns, place));
                            }
                        }
                    }
                }
            }
            let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
            // A second's worth came at once, before anybody had to wait; and waits end with tenths
            // of a second, which suit some better than others.
            prop_assert!(*most <= 2 * least + u64::from(per_second) + 2, "{got:?}");
            let total: u64 = got.iter().sum();
            let allowed = u64::from(per_second) * (SECOND_NS + now_ns) / SECOND_NS;
            prop_assert!(total <= allowed, "{total} of {allowed}");
            for (place, &from_ns) in last.iter().enumerate() {
                let until = last.partition_point(|&at_ns| at_ns < from_ns + SECOND_NS);
                prop_assert!(until - place <= 2 * per_second as usize);
            }
        }
    }
}
