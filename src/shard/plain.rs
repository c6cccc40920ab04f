//! Plain HTTP connections that are kept for further requests: bounded in number of requests and in
//! age, and the first to go when room is short.

use std::time::Duration;

use super::connections::Marks;
use super::requests::Requests;
use super::timers::Tick;
use super::{Shard, ticks_in};
use crate::io::{Io, Key};

impl<I: Io> Shard<I> {
    /// An answered peer that keeps its connection has as long for the next request as it had for
    /// the first.
    pub(super) fn keep_for_next_request(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(exchange) = connection.stage.exchange_mut().filter(|it| !it.is_ended()) else {
            // What followed was no request that another may follow.
            return;
        };
        let has_upload = exchange.has_upload();
        if exchange.keep_alive() {
            self.list_kept_alive(key);
            self.lifetimes.set(key.index, Some(self.now + ticks_in(PLAIN_LIFETIME)));
        }
        if has_upload {
            // The next request has begun, and its body has a deadline of its own.
            return;
        }
        let timeout = ticks_in(self.effective.config.limits.handshake_timeout);
        self.schedule_request(key, timeout);
    }

    /// A body has as long to arrive as a message in pieces.
    pub(super) fn expect_end_of_upload(&mut self, key: Key) {
        let timeout = self.times.message_timeout.unwrap_or(ticks_in(PLAIN_LIFETIME));
        self.schedule_request(key, timeout);
    }

    /// The end of a request has to be here in time, and within the lifetime of the connection.
    fn schedule_request(&mut self, key: Key, timeout: Tick) {
        let deadline = self.now + timeout;
        let end = self.lifetimes.end_of(key.index).map_or(deadline, |end| end.min(deadline));
        self.wheel.schedule(key.index, end);
    }

    /// Closes plain connections that wait for a request, those first that were kept first, until
    /// `count` slots more will be free.
    pub(super) fn close_kept_alive(&mut self, mut count: usize) {
        for _ in 0..self.kept_alive.len().min(LOOKED_AT_MOST) {
            if count == 0 {
                return;
            }
            let Some(key) = self.kept_alive.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if !connection.stage.is_kept_alive() {
                continue;
            }
            let is_busy = connection.requests.contains(Requests::SEND)
                || connection.has(Marks::DIRTY)
                || connection.is_put_off()
                || connection.stage.has_partial_request();
            if is_busy {
                self.kept_alive.push_back(key);
                continue;
            }
            count -= 1;
            // Its slot is wanted now, and it owes nobody anything (RFC 9112 section 9.5).
            self.say_goodbye(key);
            self.doom(key, false);
            self.settle(key);
        }
    }

    /// The connection ends: no further request is waited for.
    pub(super) fn keep_no_longer(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Some(exchange) = connection.stage.exchange_mut()
            && exchange.keep_no_longer()
        {
            self.stats().plain_kept_alive.subtract(1);
        }
    }

    /// Lists a connection among those that are kept.
    pub(super) fn list_kept_alive(&mut self, key: Key) {
        let open = self.stats().plain_kept_alive.value() as usize;
        let Self { kept_alive, connections, .. } = self;
        if kept_alive.len() > 2 * open + LOOKED_AT_MOST {
            // Most have ended since.
            kept_alive.retain(|&listed| {
                let tenant = connections.get(listed);
                tenant.is_some_and(|connection| connection.stage.is_kept_alive())
            });
        }
        kept_alive.push_back(key);
        self.stats().plain_kept_alive.add(1);
    }

    /// WebSockets, streams and kept plain connections together stay within `--max-connections`, as
    /// far as closing those of this shard can bring that about. Called every tick, because the
    /// others may be anywhere.
    pub(super) fn keep_within_limit(&mut self) {
        let Some(limit) = self.limit_to_keep() else { return };
        let stats = &self.shared.stats;
        let open = (stats.websockets_and_streams_open() + stats.plain_kept_alive()) as usize;
        self.close_kept_alive(open.saturating_sub(limit));
    }

    /// The limit for the sake of which this shard may have to close a plain connection, whenever
    /// any shard upgrades another.
    pub(super) fn limit_to_keep(&self) -> Option<usize> {
        let has_some = self.stats().plain_kept_alive.value() > 0;
        self.effective.config.limits.connections.filter(|_| has_some)
    }

    /// Makes room for the connection that was accepted, when nearly all slots are taken.
    pub(super) fn keep_slots_free(&mut self) {
        if self.connections.len() > self.shared.capacity() {
            self.close_kept_alive(1);
        }
    }
}

/// Connections that are looked at to find one that may be closed; those at work go to the end.
const LOOKED_AT_MOST: usize = 64;
/// How long a plain connection may be used.
const PLAIN_LIFETIME: Duration = Duration::from_secs(300);
