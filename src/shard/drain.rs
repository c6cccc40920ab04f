//! The end of a shard: readiness first, then every connection in its turn, then the slots.

use super::ending::Ending;
use super::timers::Tick;
use super::{RunState, Shard, ticks_in};
use crate::io::Io;

impl<I: Io> Shard<I> {
    /// Stops welcoming upgrades and gives each WebSocket and stream its moment within the drain
    /// window.
    pub(super) fn begin_drain(&mut self) {
        if self.run_state != RunState::Serving {
            return;
        }
        // Those that are on their way here still come.
        self.endpoint.close_inbox();
        self.orders.stop_releasing();
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
                let is_owed = connection.has_output() || connection.stage.has_upload();
                is_owed && !connection.ending.is_over()
            })
        };
        let has_members = self.stats().websockets_and_streams_open() > 0 || self.is_moving();
        let must_wait = has_members || owes_answers();
        if must_wait && self.now < deadline {
            return;
        }
        self.run_state = RunState::Ending;
        self.listeners_waiting.clear();
        for listener in 0..self.listeners {
            self.io.cancel_accept(listener);
        }
        self.end_connections();
    }

    /// Gives up on all connections, those that were accepted meanwhile included; stops when the
    /// last slot is free and the others have, or cannot want, all that was published here.
    pub(super) fn end_connections(&mut self) {
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let reset = connection.stage.websocket().is_some();
            self.doom(key, reset);
        }
        if self.connections.is_empty() && self.overflow.is_empty() && !self.is_moving() {
            self.run_state = RunState::Stopped;
        }
    }
}

/// The shortest drain window: everybody is told, and has a moment to answer.
const WINDOW_LEAST: Tick = 3;
