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
use crate::config::Config;

/// The members of all topics.
#[derive(Debug)]
pub(super) struct TopicTable {
    members: Counts,
    has_limit: bool,
    /// Topics with members, and those that are about to have one.
    topics: AtomicU64,
    topics_most: u64,
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
    /// What the configuration says, for a server of at most `capacity` connections; nothing where
    /// it limits neither.
    pub(super) fn new(config: &Config, capacity: usize) -> Option<Self> {
        let (members_most, topics_most) = (config.limits.topic_members, config.limits.topics);
        if members_most.is_none() && topics_most.is_none() {
            return None;
        }
        let limits = Limits { count_most: members_most.or(Some(u16::MAX)), rate: None };
        Some(Self {
            members: Counts::new(limits, capacity),
            has_limit: members_most.is_some(),
            topics: AtomicU64::new(0),
            topics_most: topics_most.map_or(u64::MAX, |most| most as u64),
        })
    }

    /// Counts one more member of the topic `name`, unless it is one too many.
    pub(super) fn join(&self, name: &str) -> Result<Joined, JoinDenial> {
        match self.members.enter(name, Duration::ZERO, false) {
            Err(Excess::Begin) => self.begin(name),
            Ok(entered) => Ok(Joined {
                membership: entered.counted.map(Membership),
                is_untracked: entered.is_untracked,
            }),
            Err(Excess::Count | Excess::Rate) => self.excess(),
        }
    }

    /// The same where the topic has had no members a moment ago. It takes its place among the
    /// topics before, so that there are never too many; if another has begun it meanwhile, that
    /// place is given back.
    fn begin(&self, name: &str) -> Result<Joined, JoinDenial> {
        let grow = |topics| (topics < self.topics_most).then_some(topics + 1);
        // No partner: nothing is published along with the number.
        if self.topics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_err() {
            return Err(JoinDenial::TopicsFull);
        }
        let entered = self.members.enter(name, Duration::ZERO, true);
        if !entered.as_ref().is_ok_and(|entered| entered.is_first) {
            self.end();
        }
        match entered {
            Ok(entered) => Ok(Joined {
                membership: entered.counted.map(Membership),
                is_untracked: entered.is_untracked,
            }),
            Err(_) => self.excess(),
        }
    }

    /// One more than may be counted: too many, or just too many to count.
    fn excess(&self) -> Result<Joined, JoinDenial> {
        match self.has_limit {
            true => Err(JoinDenial::TopicFull),
            false => Ok(Joined { membership: None, is_untracked: true }),
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

    fn table(members: Option<u16>, topics: Option<usize>) -> TopicTable {
        let mut config = Config::default();
        (config.limits.topic_members, config.limits.topics) = (members, topics);
        TopicTable::new(&config, 100).unwrap()
    }

    fn join(table: &TopicTable, name: &str) -> Result<Membership, JoinDenial> {
        table.join(name).map(|joined| joined.membership.unwrap())
    }

    #[test]
    fn nothing_is_counted_while_nothing_is_limited() {
        assert!(TopicTable::new(&Config::default(), 100).is_none());
    }

    #[test]
    fn a_topic_has_as_many_members_as_it_may_and_others_have_their_own() {
        let table = table(Some(2), None);
        let first = join(&table, "a").unwrap();
        let second = join(&table, "a").unwrap();
        assert_eq!(join(&table, "a").unwrap_err(), JoinDenial::TopicFull);
        let other = join(&table, "b").unwrap();
        table.leave(first);
        let third = join(&table, "a").unwrap();
        assert_eq!((table.members_of("a"), table.counted()), (2, (2, 3)));
        [second, third, other].into_iter().for_each(|member| table.leave(member));
        assert_eq!(table.counted(), (0, 0));
    }

    #[test]
    fn no_topic_begins_when_there_are_as_many_as_may_be() {
        let table = table(None, Some(1));
        let first = join(&table, "a").unwrap();
        let second = join(&table, "a").unwrap();
        assert_eq!(join(&table, "b").unwrap_err(), JoinDenial::TopicsFull);
        table.leave(first);
        assert_eq!(join(&table, "b").unwrap_err(), JoinDenial::TopicsFull);
        table.leave(second);
        let other = join(&table, "b").unwrap();
        assert_eq!(join(&table, "a").unwrap_err(), JoinDenial::TopicsFull);
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
            let mut config = Config::default();
            config.limits.topics = Some(1);
            let table = Arc::new(TopicTable::new(&config, 1).unwrap());
            let other = table.clone();
            let thread = thread::spawn(move || {
                if let Ok(joined) = other.join("a") {
                    joined.membership.into_iter().for_each(|member| other.leave(member));
                }
            });
            let joined = table.join("a");
            thread.join().unwrap();
            if let Ok(joined) = joined {
                assert_eq!(table.counted(), (1, 1));
                joined.membership.into_iter().for_each(|member| table.leave(member));
            }
            assert_eq!(table.counted(), (0, 0));
        });
    }
}
