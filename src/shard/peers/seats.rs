//! The seats of connections among those of their users (`admission/users.rs`): taken when a
//! connection becomes something that lasts, carried along when it moves, and given back when its
//! end begins.
//!
//! Whoever loses the seat to another is closed by its own shard, which hears of that by a letter.
//! One that is on its way between two shards hears of it where it arrives.

use std::collections::VecDeque;
use std::time::Duration;

use super::Peers;
use crate::admission::{Seat, UserLimits, Whereabouts};
use crate::hub::inbox::NoPlace;
use crate::io::{Io, Key};
use crate::shard::Shard;
use crate::shard::by_index;
use crate::shard::connections::Connection;
use crate::shard::mail::Letter;
use crate::shard::timers::TICK_MS;
use crate::wire::close::CloseCode;

/// Connections that have lost their seats and may not have heard of it: as many as have come.
#[derive(Debug, Default)]
pub(in crate::shard) struct Unseated {
    own: VecDeque<Key>,
    /// Those of other shards, with the numbers of these.
    others: Vec<(usize, Vec<Key>)>,
}

impl Unseated {
    /// Whether there are some to be closed here.
    pub(in crate::shard) fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// Whether other shards have no room for letters, of which nobody tells when there is some.
    pub(in crate::shard) fn awaits_room(&self) -> bool {
        !self.others.is_empty()
    }

    /// Takes note of those that another shard tells of.
    pub(in crate::shard) fn note(&mut self, keys: Vec<Key>) {
        self.own.extend(keys);
    }
}

impl Peers {
    fn seat(&self, index: u32) -> Option<&Seat> {
        self.seats.get(index as usize)?.as_ref()
    }

    pub(super) fn set_seat(&mut self, index: u32, seat: Option<Seat>) {
        if seat.is_some() {
            let before = std::mem::replace(by_index::entry(&mut self.seats, index), seat);
            debug_assert!(before.is_none(), "a connection has one seat");
        }
    }

    /// The connection at `index` counts for its user no more.
    pub(in crate::shard) fn give_up_seat(&mut self, index: u32) {
        self.take_seat(index);
    }

    pub(super) fn take_seat(&mut self, index: u32) -> Option<Seat> {
        self.seats.get_mut(index as usize)?.take()
    }
}

impl<I: Io> Shard<I> {
    /// Where others find a connection of this shard.
    pub(in crate::shard) fn whereabouts(&self, key: Key) -> Whereabouts {
        Whereabouts { shard: self.number, key }
    }

    /// Has an open connection count for its user, which it may not have done so far, and close
    /// others in its favour; or closes it, if another has its seat.
    pub(in crate::shard) fn keep_to_user_limit(&mut self, key: Key) {
        let Some(limits) = self.effective.admission.users() else {
            return self.peers.give_up_seat(key.index);
        };
        if !self.connections.get(key).is_some_and(Connection::can_be_closed) {
            return;
        }
        match self.peers.seat(key.index) {
            Some(seat) if seat.note_place(self.whereabouts(key)) => {}
            Some(_) => return self.close_if_unseated(key),
            None => {
                let Some(user) = self.peers.user(key.index) else { return };
                let age_ms = u64::from(self.measures.age(key.index, self.now)) * TICK_MS;
                let age = Duration::from_millis(age_ms);
                let since = self.attendance.returned.saturating_sub(age);
                let seat = self.shared.admission.seat_earlier(user, self.whereabouts(key), since);
                self.peers.set_seat(key.index, Some(seat));
            }
        }
        self.unseat_surplus(key.index, limits);
    }

    /// Keeps the seat that was `reserved` for a connection that has come, or takes one.
    pub(super) fn take_a_seat(&mut self, key: Key, reserved: Option<Seat>) {
        let Some(limits) = self.effective.admission.users() else { return };
        let Some(user) = self.peers.user(key.index) else { return };
        let now = self.attendance.returned;
        let new_seat = || self.shared.admission.seat(user, self.whereabouts(key), now);
        let seat = reserved.unwrap_or_else(new_seat);
        self.peers.set_seat(key.index, Some(seat));
        self.unseat_surplus(key.index, limits);
    }

    /// Takes the seats of those of a user who are too many. They are closed within this tick, or
    /// when their shards hear of it.
    fn unseat_surplus(&mut self, index: u32, limits: UserLimits) {
        let Some(seat) = self.peers.seat(index) else { return };
        let surplus = seat.unseat_surplus(limits);
        for Whereabouts { shard, key } in surplus {
            let Unseated { own, others } = &mut self.peers.unseated;
            if shard == self.number {
                own.push_back(key);
            } else if let Some((_, keys)) = others.iter_mut().find(|(other, _)| *other == shard) {
                keys.push(key);
            } else {
                others.push((shard, vec![key]));
            }
        }
    }

    /// Closes those of this shard who have lost their seats, as many as a tick may, and tells other
    /// shards of theirs.
    pub(in crate::shard) fn close_unseated(&mut self) {
        for _ in 0..CLOSED_PER_TICK {
            let Some(key) = self.peers.unseated.own.pop_front() else { break };
            self.close_if_unseated(key);
        }
        let endpoint = &mut self.endpoint;
        self.peers.unseated.others.retain_mut(|(shard, keys)| {
            let rest = keys.split_off(keys.len().min(KEYS_PER_LETTER));
            match endpoint.take_place(*shard, size_of_val(&keys[..]) as u32) {
                Ok(place) => {
                    let told = std::mem::replace(keys, rest);
                    endpoint.post(place, Letter::Unseated(told));
                }
                // It ends, and closes all that it has.
                Err(NoPlace::Closed) => keys.clear(),
                Err(NoPlace::Full) => keys.extend(rest),
            }
            !keys.is_empty()
        });
    }

    fn close_if_unseated(&mut self, key: Key) {
        let at = self.whereabouts(key);
        let is_open = self.connections.get(key).is_some_and(Connection::can_be_closed);
        if is_open && self.peers.seat(key.index).is_some_and(|seat| !seat.note_place(at)) {
            self.stats().connections_replaced.add(1);
            self.close(key, CloseCode::REPLACED, "replaced by another connection of the user");
            self.settle(key);
        }
    }
}

/// Connections that are closed for this in one tick: about a millisecond. Few in debug builds, so
/// that tests see it take several.
const CLOSED_PER_TICK: usize = if cfg!(debug_assertions) { 2 } else { 128 };
/// As many as are closed in a tick.
const KEYS_PER_LETTER: usize = CLOSED_PER_TICK;
