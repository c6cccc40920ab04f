//! The end of a shard: readiness first, then every connection in its turn, then the slots. One that
//! has a successor ends its accepts first, and whoever it has accepted until then it serves.

use super::ending::Ending;
use super::timers::Tick;
use super::{RunState, Shard, ticks_in};
use crate::hub::Departure;
use crate::io::{Io, Key};

impl<I: Io> Shard<I> {
    /// Begins to end, unless that has begun; and leaves the listeners to a successor, if there is
    /// one, even if it has.
    pub(super) fn depart(&mut self, departure: Departure) {
        if departure == Departure::Succeeded {
            self.has_successor = true;
            self.leave_histories();
            self.listeners_waiting.clear();
            self.cancel_accepts();
        }
        self.begin_drain();
        self.stop_listening();
    }

    /// Gives up the listeners when the last accept has ended.
    pub(super) fn stop_listening(&mut self) {
        if self.has_successor && !self.is_accepting() {
            self.io.stop_listening();
        }
    }

    /// A connection that was accepted by a server with a successor has become a WebSocket or a
    /// stream: it is sent there soon.
    pub(super) fn send_to_successor(&mut self, key: Key) {
        if self.has_successor {
            self.wheel.schedule(key.index, self.now + 1);
        }
    }

    /// Stops welcoming upgrades and gives each WebSocket and stream its moment within the drain
    /// window.
    fn begin_drain(&mut self) {
        if self.run_state != RunState::Serving {
            return;
        }
        // Those that are on their way here still come.
        self.endpoint.close_inbox();
        self.orders.stop_releasing();
        self.drain_sockjs();
        let window = ticks_in(self.effective.config.drain).max(WINDOW_LEAST);
        self.run_state = RunState::Draining { deadline: self.now + window };
        let keys = self.connections.keys();
        // The last fifth of the window is for the peers' answers.
        let spread = u64::from(window) * 4 / 5;
        let count = keys.len().max(1) as u64;
        for (turn, key) in keys.into_iter().enumerate() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            // Whoever is ending already has a deadline of its own.
            let is_ending = connection.ending != Ending::Open;
            if connection.stage.is_open() && !is_ending {
                let delay = (spread * turn as u64 / count) as Tick;
                self.wheel.schedule(key.index, self.now + delay);
            }
        }
        // What a shard that has failed was sent is never answered.
        self.moves.end_by(self.now);
        self.check_drained(self.now + window);
    }

    /// Begins the end when no WebSocket or stream is left and every answer has been taken, or the
    /// window has passed.
    pub(super) fn check_drained(&mut self, deadline: Tick) {
        let owes_answers = || {
            self.connections.iter().any(|(_, connection)| {
                let is_owed = connection.has_output()
                    || connection.stage.has_upload()
                    || connection.is_put_off();
                is_owed && !connection.ending.is_over()
            })
        };
        let has_members = self.stats().websockets_and_streams_open() > 0 || self.is_moving();
        // Nobody is turned away who came before the successor was there.
        let is_asked = || {
            let mut connections = self.connections.iter();
            connections.any(|(_, it)| it.stage.is_request() && !it.stage.is_kept_alive())
        };
        let has_arrivals = self.has_successor && (self.is_accepting() || is_asked());
        let must_wait = has_members || has_arrivals || owes_answers();
        if must_wait && self.now < deadline {
            return;
        }
        self.run_state = RunState::Ending;
        self.listeners_waiting.clear();
        self.cancel_accepts();
        self.end_connections();
    }

    /// Gives up on all connections, those that were accepted meanwhile included; stops when the
    /// last slot is free and the others have, or cannot want, all that was published here.
    pub(super) fn end_connections(&mut self) {
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let reset = connection.stage.websocket().is_some();
            if !reset {
                self.say_goodbye(key);
            }
            self.doom(key, reset);
        }
        if self.connections.is_empty() && self.overflow.is_empty() && !self.is_moving() {
            self.run_state = RunState::Stopped;
        }
    }
}

/// The shortest drain window: everybody is told, and has a moment to answer.
const WINDOW_LEAST: Tick = 3;
