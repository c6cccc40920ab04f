//! The first subscriber of a channel, and the end of its last: what the home of a channel has the
//! control thread tell a backend, in the order in which it happens.

use std::collections::VecDeque;

use super::super::Shard;
use super::super::mail::Letter;
use crate::hub::inbox::NoPlace;
use crate::io::Io;
use crate::realtime::home::StateEvent;

/// What a backend is to be told.
pub struct ChannelStates {
    /// What has happened to channels, in its order.
    pub events: Vec<StateEvent>,
    /// How many were forgotten before these, for want of room.
    pub lost: u64,
}

/// What the control thread has not been told yet.
#[derive(Default)]
pub(super) struct States {
    events: VecDeque<StateEvent>,
    lost: u64,
}

impl States {
    /// Keeps what has happened, if there is room.
    pub(super) fn note(&mut self, events: Vec<StateEvent>) {
        let room = EVENTS_MOST - self.events.len();
        self.lost += events.len().saturating_sub(room) as u64;
        self.events.extend(events.into_iter().take(room));
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.lost == 0
    }
}

impl<I: Io> Shard<I> {
    /// Something may have happened to a channel whose home this is.
    pub(super) fn note_states(&mut self) {
        let events = self.sessions.home.take_events();
        if !events.is_empty() {
            self.sessions.states.note(events);
            // Together with what else happens until then.
            self.sessions.look_again_at.get_or_insert(self.now + 1);
        }
    }

    /// Tells the control thread what has happened, as far as it has a place for that.
    pub(super) fn send_states(&mut self) {
        while !self.sessions.states.is_empty() {
            let states = &mut self.sessions.states;
            let next = states.events.iter().take(EVENTS_AT_ONCE);
            let bytes: usize = next.map(|it| size_of::<StateEvent>() + it.channel.len()).sum();
            match self.endpoint.take_place(self.shared.stats.shards(), bytes as u32) {
                Ok(place) => {
                    let count = states.events.len().min(EVENTS_AT_ONCE);
                    let events = states.events.drain(..count).collect();
                    let lost = std::mem::take(&mut states.lost);
                    let states = Box::new(ChannelStates { events, lost });
                    self.endpoint.post(place, Letter::ChannelStates(states));
                }
                Err(NoPlace::Full) => {
                    // Nobody tells when there is one.
                    self.sessions.look_again_at.get_or_insert(self.now + 1);
                    return;
                }
                // The server is about to end.
                Err(NoPlace::Closed) => *states = States::default(),
            }
        }
    }
}

/// What waits to be told.
const EVENTS_MOST: usize = 8192;
/// What one letter tells.
const EVENTS_AT_ONCE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted() {
        let mut states = States::default();
        let event =
            |number: usize| StateEvent { channel: number.to_string().into(), is_occupied: true };
        states.note((0..EVENTS_MOST - 1).map(event).collect());
        assert_eq!((states.events.len(), states.lost), (EVENTS_MOST - 1, 0));
        states.note((0..3).map(event).collect());
        assert_eq!((states.events.len(), states.lost), (EVENTS_MOST, 2));
        assert_eq!(states.events.back(), Some(&event(0)), "the first of them had room");
        states.note(vec![event(1)]);
        assert_eq!(states.lost, 3);
    }
}
