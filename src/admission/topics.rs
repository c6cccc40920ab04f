//! How many members each topic has on all shards together, and how many topics have some.
//!
//! Topics live on each shard for itself; here they are counts by a keyed hash of their names, asked
//! when somebody joins and when a member is gone. A topic to which requests publish, and which has
//! no member, is none.

use std::time::Duration;

#[cfg(ringwire_loom)]
use loom::sync;
#[cfg(not(ringwire_loom))]
use std::sync;

use sync::atomic::{AtomicU64, Ordering};

use super::counts::{Counted, Counts, Excess, Limits};
use crate::config;

/// The members of all topics.
#[derive(Debug)]
pub(super) struct TopicTable {
    members: Counts,
    /// Topics with members, and those that are about to have one.
    topics: AtomicU64,
}

/// How many members a topic may have, and how many topics there may be that have some.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicLimits {
    members_most: Option<u16>,
    topics_most: Option<usize>,
}

impl TopicLimits {
    /// What the configuration says; nothing where it limits neither.
    pub(super) fn new(config: &config::Limits) -> Option<Self> {
        let limits = Self { members_most: config.topic_members, topics_most: config.topics };
        (limits.members_most.is_some() || limits.topics_most.is_some()).then_some(limits)
    }

    fn of_each(self) -> Limits {
        Limits { count_most: self.members_most.or(Some(u16::MAX)), rate: None }
    }

    /// One more than may be counted: too many, or just too many to count.
    fn excess(self) -> Result<Joined, JoinDenial> {
        match self.members_most {
            Some(_) => Err(JoinDenial::TopicFull),
            None => Ok(Joined { membership: None, is_untracked: true }),
        }
    }
}

/// Why somebody may not join a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinDenial {
    /// The topic has as many members as it may.
    TopicFull,
    /// It has none, and there are as many topics with members as there may be.
    TopicsFull,
}

/// A member that counts for its topic. To be given back, once.
#[derive(Debug)]
pub struct Membership(Counted);

/// A member that may be.
#[derive(Debug, Default)]
pub struct Joined {
    /// Where it is counted, if it is.
    pub membership: Option<Membership>,
    /// Whether it should be counted and is not, as others fill the table.
    pub is_untracked: bool,
}

impl TopicTable {
    /// Nobody is a member, of a server of at most `capacity` connections.
    pub(super) fn new(capacity: usize) -> Self {
        Self { members: Counts::new(capacity), topics: AtomicU64::new(0) }
    }

    /// Counts one more member of the topic `name`, unless it is one too many.
    pub(super) fn join(&self, limits: TopicLimits, name: &str) -> Result<Joined, JoinDenial> {
        match self.members.enter(limits.of_each(), name, Duration::ZERO, false) {
            Err(Excess::Begin) => self.begin(limits, name),
            Ok(entered) => Ok(Joined {
                membership: entered.counted.map(Membership),
                is_untracked: entered.is_untracked,
            }),
            Err(Excess::Count | Excess::Rate) => limits.excess(),
        }
    }

    /// The same where the topic has had no members a moment ago. It takes its place among the
    /// topics before, so that there are never too many; if another has begun it meanwhile, that
    /// place is given back.
    fn begin(&self, limits: TopicLimits, name: &str) -> Result<Joined, JoinDenial> {
        let topics_most = limits.topics_most.map_or(u64::MAX, |most| most as u64);
        let grow = |topics| (topics < topics_most).then_some(topics + 1);
        // No partner: nothing is published along with the number.
        if self.topics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
            return Err(JoinDenial::TopicsFull);
        }
        let entered = self.members.enter(limits.of_each(), name, Duration::ZERO, true);
        if !entered.as_ref().is_ok_and(|entered| entered.is_first) {
            self.end();
        }
        match entered {
            Ok(entered) => Ok(Joined {
                membership: entered.counted.map(Membership),
                is_untracked: entered.is_untracked,
            }),
            Err(_) => limits.excess(),
        }
    }

    /// A member is gone.
    pub(super) fn leave(&self, Membership(counted): Membership) {
        if self.members.release(counted) {
            self.end();
        }
    }

    /// A topic has no members any more.
    fn end(&self) {
        // No partner: see `begin`.
        let before = self.topics.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a topic ends once");
    }

    /// Members of a topic that are counted.
    pub(super) fn members_of(&self, name: &str) -> u32 {
        self.members.counted_for(name)
    }

    /// Topics that have members, and all of these.
    pub(super) fn counted(&self) -> (u64, u64) {
        // No partner: it is told as it was at some moment.
        (self.topics.load(Ordering::Relaxed), self.members.counted())
    }
}

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;

    fn limits(topic_members: Option<u16>, topics: Option<usize>) -> Option<TopicLimits> {
        TopicLimits::new(&config::Limits { topic_members, topics, ..config::Limits::default() })
    }

    #[test]
    fn nothing_is_counted_while_nothing_is_limited() {
        assert!(limits(None, None).is_none());
    }

    #[test]
    fn a_topic_has_as_many_members_as_it_may_and_others_have_their_own() {
        let (table, limits) = (TopicTable::new(100), limits(Some(2), None).unwrap());
        let join = |name| table.join(limits, name).map(|joined| joined.membership.unwrap());
        let first = join("a").unwrap();
        let second = join("a").unwrap();
        assert_eq!(join("a").unwrap_err(), JoinDenial::TopicFull);
        let other = join("b").unwrap();
        table.leave(first);
        let third = join("a").unwrap();
        assert_eq!((table.members_of("a"), table.counted()), (2, (2, 3)));
        [second, third, other].into_iter().for_each(|member| table.leave(member));
        assert_eq!(table.counted(), (0, 0));
    }

    #[test]
    fn no_topic_begins_when_there_are_as_many_as_may_be() {
        let (table, limits) = (TopicTable::new(100), limits(None, Some(1)).unwrap());
        let join = |name| table.join(limits, name).map(|joined| joined.membership.unwrap());
        let first = join("a").unwrap();
        let second = join("a").unwrap();
        assert_eq!(join("b").unwrap_err(), JoinDenial::TopicsFull);
        table.leave(first);
        assert_eq!(join("b").unwrap_err(), JoinDenial::TopicsFull);
        table.leave(second);
        let other = join("b").unwrap();
        assert_eq!(join("a").unwrap_err(), JoinDenial::TopicsFull);
        table.leave(other);
        assert_eq!(table.counted(), (0, 0));
    }
}

/// Every interleaving of two who join and leave.
///
/// Run by `RUSTFLAGS="--cfg ringwire_loom" cargo test --release --lib admission`.
#[cfg(all(test, ringwire_loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn the_only_topic_is_counted_once_and_ends_once() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let limits = TopicLimits { members_most: None, topics_most: Some(1) };
            let table = Arc::new(TopicTable::new(1));
            let other = table.clone();
            let thread = thread::spawn(move || {
                if let Ok(joined) = other.join(limits, "a") {
                    joined.membership.into_iter().for_each(|member| other.leave(member));
                }
            });
            let joined = table.join(limits, "a");
            thread.join().unwrap();
            if let Ok(joined) = joined {
                assert_eq!(table.counted(), (1, 1));
                joined.membership.into_iter().for_each(|member| table.leave(member));
            }
            assert_eq!(table.counted(), (0, 0));
        });
    }
}
