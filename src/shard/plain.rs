//! Plain HTTP connections that are kept for further requests: bounded in number of requests and in
//! age, and the first to go when room is short.

use std::collections::VecDeque;
use std::time::Duration;

use super::connections::Flags;
use super::{Shard, ticks_in};
use crate::io::{Io, Key};
use crate::wire::close::CloseCode;

impl<I: Io> Shard<I> {
    /// An answered peer that keeps its connection has as long for the next request as it had for
    /// the first.
    pub(super) fn keep_for_next_request(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !connection.session.is_request() || !connection.flags.contains(Flags::DIRTY) {
            return;
        }
        let is_first = !connection.flags.contains(Flags::ANSWERED);
        connection.flags.insert(Flags::ANSWERED);
        if !connection.flags.contains(Flags::KEPT_ALIVE) {
            connection.flags.insert(Flags::KEPT_ALIVE);
            self.kept_alive.push(key);
        }
        if is_first {
            self.lifetimes.set(key.index, Some(self.now + ticks_in(PLAIN_LIFETIME)));
        }
        self.keep_within_limit();
        let timeout = self.now + ticks_in(self.shared.config.limits.handshake_timeout);
        let end = self.lifetimes.end_of(key.index).map_or(timeout, |end| end.min(timeout));
        self.wheel.schedule(key.index, end);
    }

    /// Closes plain connections that wait for a request, those first that were kept first, until
    /// `count` slots more will be free.
    pub(super) fn close_kept_alive(&mut self, mut count: usize) {
        for _ in 0..self.kept_alive.listed.len() {
            if count == 0 {
                return;
            }
            let Some(key) = self.kept_alive.listed.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if !connection.flags.contains(Flags::KEPT_ALIVE) {
                continue;
            }
            let is_busy = connection.flags.intersects(Flags::SENDING | Flags::DIRTY)
                || connection.session.has_partial_request();
            if is_busy {
                self.kept_alive.listed.push_back(key);
                continue;
            }
            count -= 1;
            self.command(key, |connection, output| {
                connection.session.close(CloseCode::GOING_AWAY, "", output);
            });
            self.settle(key);
        }
    }

    /// The connection ends, or becomes a WebSocket: no further request is waited for.
    pub(super) fn keep_no_longer(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.flags.contains(Flags::KEPT_ALIVE)
        {
            connection.flags.remove(Flags::KEPT_ALIVE);
            self.kept_alive.open -= 1;
        }
    }

    /// WebSockets and the plain connections of this shard together stay within
    /// `--max-connections`, as far as closing plain ones can bring that about.
    fn keep_within_limit(&mut self) {
        if let Some(limit) = self.shared.config.limits.connections {
            let open = self.shared.stats.websockets_open() as usize + self.kept_alive.open;
            self.close_kept_alive(open.saturating_sub(limit));
        }
    }

    /// Makes room when nearly all slots are taken.
    pub(super) fn keep_slots_free(&mut self) {
        let capacity = self.shared.capacity();
        let excess = self.connections.len().saturating_sub(capacity);
        if excess > 0 {
            self.close_kept_alive(excess);
        }
    }
}

/// Plain connections that were kept for further requests.
#[derive(Default)]
pub(super) struct KeptAlive {
    /// By the time at which they were kept; some have ended since.
    listed: VecDeque<Key>,
    /// Those that have not.
    open: usize,
}

impl KeptAlive {
    fn push(&mut self, key: Key) {
        self.listed.push_back(key);
        self.open += 1;
    }
}

/// How long a plain connection may be used.
const PLAIN_LIFETIME: Duration = Duration::from_secs(300);
