//! Where each user is connected, on all shards together, so that nobody has more connections than
//! one user may.
//!
//! Asked when somebody connects, and told when that has moved or ended; never on the path of a
//! message. So it may have locks, each for a part of the users, and it has no more entries than
//! there are connections: whoever holds a *seat* counts, and gives it back by dropping it, however
//! the connection ends and on whichever thread.
//!
//! Whoever has to go loses the seat at once, under the lock under which the newcomer gets one, and
//! hears of it later: a connection that moves meanwhile sees when it arrives that it has none.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Denial;
use crate::config::{Identity, UserLimit};
use crate::io::Key;

/// Where a connection is: its shard, and its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The number of the shard.
    pub shard: usize,
    /// The name of the connection within that.
    pub key: Key,
}

/// How many connections a user may have, and who goes where there would be more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserLimits {
    most: u16,
    stays: UserLimit,
}

/// The users that are connected.
#[derive(Debug)]
pub(super) struct UserTable {
    hasher: RandomState,
    parts: Box<[Mutex<Part>]>,
}

#[derive(Debug, Default)]
struct Part {
    /// Never without a seat; the oldest first.
    users: HashMap<Arc<str>, Vec<Entry>>,
    /// The number of the next seat.
    next_number: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    since: Duration,
    at: Whereabouts,
}

/// That a connection counts for its user, until this is dropped.
#[derive(Debug)]
pub struct Seat {
    table: Arc<UserTable>,
    user: Arc<str>,
    number: u64,
}

impl UserLimits {
    /// What the configuration says, if it limits them.
    pub(super) fn new(config: &Identity) -> Option<Self> {
        let stays = config.user_limit;
        config.connections_per_user.map(|most| Self { most, stays })
    }
}

impl UserTable {
    /// Nobody is connected.
    pub(super) fn new() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), parts }
    }

    /// Gives a seat to a newcomer where the oldest stay; where the newest do it gets one when it is
    /// connected, as somebody else loses theirs by that.
    pub(super) fn reserve(
        table: &Arc<Self>,
        limits: UserLimits,
        user: &str,
        at: Whereabouts,
        now: Duration,
    ) -> Result<Option<Seat>, Denial> {
        if limits.stays == UserLimit::Newest {
            return Ok(None);
        }
        let mut part = table.part(user);
        let seated = part.users.get(user).map_or(0, Vec::len);
        match seated < usize::from(limits.most) {
            true => Ok(Some(part.seat_last(table, user, at, now))),
            false => Err(Denial::UserConnections),
        }
    }

    /// Gives a seat to a newcomer, however many there are.
    pub(super) fn seat(table: &Arc<Self>, user: &str, at: Whereabouts, now: Duration) -> Seat {
        table.part(user).seat_last(table, user, at, now)
    }

    /// The same for whoever is connected since then and did not count.
    pub(super) fn seat_earlier(
        table: &Arc<Self>,
        user: &str,
        at: Whereabouts,
        since: Duration,
    ) -> Seat {
        table.part(user).seat(table, user, at, since)
    }

    /// Takes the seats of those who are too many of a user, and tells where they are.
    fn unseat(&self, limits: UserLimits, user: &str) -> Vec<Whereabouts> {
        let mut part = self.part(user);
        let Some(seated) = part.users.get_mut(user) else { return Vec::new() };
        let (most, count) = (usize::from(limits.most), seated.len());
        let surplus = match limits.stays {
            UserLimit::Newest => 0..count.saturating_sub(most),
            UserLimit::Oldest => most.min(count)..count,
        };
        seated.drain(surplus).map(|entry| entry.at).collect()
    }

    /// The seats of a user.
    pub(super) fn seated(&self, user: &str) -> usize {
        self.part(user).users.get(user).map_or(0, Vec::len)
    }

    /// Users who have a seat, and their seats.
    pub(super) fn counted(&self) -> (u64, u64) {
        let parts = self.parts.iter().map(lock);
        let counts = parts.map(|part| {
            let seats: usize = part.users.values().map(Vec::len).sum();
            (part.users.len() as u64, seats as u64)
        });
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    }

    fn part(&self, user: &str) -> MutexGuard<'_, Part> {
        lock(&self.parts[self.hasher.hash_one(user) as usize % PARTS])
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Part {
    /// The shards do not read the clock at the same time, and the last who comes is the newest.
    fn seat_last(
        &mut self,
        table: &Arc<UserTable>,
        user: &str,
        at: Whereabouts,
        now: Duration,
    ) -> Seat {
        let last = self.users.get(user).and_then(|seated| seated.last());
        let since = last.map_or(now, |last| last.since.max(now));
        self.seat(table, user, at, since)
    }

    fn seat(
        &mut self,
        table: &Arc<UserTable>,
        user: &str,
        at: Whereabouts,
        since: Duration,
    ) -> Seat {
        let user = match self.users.get_key_value(user) {
            Some((user, _)) => user.clone(),
            None => Arc::from(user),
        };
        let number = self.next_number;
        self.next_number += 1;
        let seated = self.users.entry(user.clone()).or_default();
        let place = seated.partition_point(|entry| entry.since <= since);
        seated.insert(place, Entry { number, since, at });
        Seat { table: table.clone(), user, number }
    }
}

impl Seat {
    /// Takes note of where its connection is now; whether it still counts.
    pub fn note_place(&self, at: Whereabouts) -> bool {
        let mut part = self.table.part(&self.user);
        let seated = part.users.get_mut(&self.user).into_iter().flatten();
        let entry = seated.into_iter().find(|entry| entry.number == self.number);
        entry.map(|entry| entry.at = at).is_some()
    }

    /// Takes the seats of those of its user who are too many, perhaps this one too, and tells where
    /// they are.
    pub fn unseat_surplus(&self, limits: UserLimits) -> Vec<Whereabouts> {
        self.table.unseat(limits, &self.user)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut part = self.table.part(&self.user);
        if let Some(seated) = part.users.get_mut(&self.user) {
            seated.retain(|entry| entry.number != self.number);
            if seated.is_empty() {
                part.users.remove(&self.user);
            }
        }
    }
}

/// Parts with a lock of their own: more than there are shards that come at once.
const PARTS: usize = 256;

#[cfg(all(test, not(ringwire_loom)))]
mod tests {
    use super::*;

    fn limits(most: u16, stays: UserLimit) -> UserLimits {
        UserLimits { most, stays }
    }

    fn at(index: u32) -> Whereabouts {
        Whereabouts { shard: 0, key: Key { index, generation: 1 } }
    }

    fn table() -> Arc<UserTable> {
        Arc::new(UserTable::new())
    }

    #[test]
    fn the_newest_take_the_seats_of_the_oldest() {
        let (table, limits) = (table(), limits(2, UserLimit::Newest));
        let come = |index, second| {
            let since = Duration::from_secs(second);
            let reserved = UserTable::reserve(&table, limits, "a", at(index), since);
            assert!(reserved.expect("nobody is refused").is_none());
            let seat = UserTable::seat_earlier(&table, "a", at(index), since);
            let unseated = seat.unseat_surplus(limits);
            (seat, unseated)
        };
        let (first, none) = come(1, 5);
        assert_eq!((first.note_place(at(1)), none), (true, vec![]));
        let (second, none) = come(2, 3);
        assert_eq!(none, []);
        let (third, unseated) = come(3, 6);
        assert_eq!(unseated, [at(2)], "it is connected for the longest");
        assert!(!second.note_place(at(9)) && first.note_place(at(7)));
        assert_eq!(come(4, 7).1, [at(7)], "where it has moved to");
        assert_eq!((table.seated("a"), table.counted()), (1, (1, 1)), "the fourth has gone");
        drop((first, second));
        assert_eq!(table.seated("a"), 1, "those have none to give back");
        // One whose shard has looked at the clock before.
        let fourth = UserTable::seat(&table, "a", at(4), Duration::ZERO);
        assert_eq!(fourth.unseat_surplus(limits), []);
        let fifth = UserTable::seat(&table, "a", at(5), Duration::ZERO);
        assert_eq!(fifth.unseat_surplus(limits), [at(3)]);
        drop((third, fourth, fifth));
        assert_eq!(table.counted(), (0, 0));
        assert!(table.parts.iter().all(|part| lock(part).users.is_empty()));
    }

    #[test]
    fn the_oldest_keep_their_seats() {
        let (table, limits) = (table(), limits(1, UserLimit::Oldest));
        let come = |user| UserTable::reserve(&table, limits, user, at(1), Duration::ZERO);
        let first = come("a").expect("the first").expect("a seat");
        let other = come("b").expect("another user").expect("a seat");
        assert_eq!(come("a").expect_err("one too many"), Denial::UserConnections);
        drop(first);
        let second = come("a").expect("the only one").expect("a seat");
        // Those who were there before there was a limit.
        let later = UserTable::seat(&table, "a", at(2), Duration::from_secs(1));
        assert_eq!(later.unseat_surplus(limits), [at(2)]);
        assert!(second.note_place(at(1)) && other.unseat_surplus(limits).is_empty());
    }

    #[test]
    fn threads_that_come_at_once_are_never_too_many() {
        let (table, limits) = (table(), limits(3, UserLimit::Oldest));
        std::thread::scope(|scope| {
            for shard in 0..4 {
                let table = &table;
                scope.spawn(move || {
                    for index in 0..500 {
                        let place = Whereabouts { shard, ..at(index) };
                        let now = Duration::ZERO;
                        let seat = UserTable::reserve(table, limits, "a", place, now);
                        assert!(table.seated("a") <= 3);
                        drop(seat);
                    }
                });
            }
        });
        assert_eq!(table.counted(), (0, 0));
    }
}
