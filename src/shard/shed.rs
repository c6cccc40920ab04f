//! Shedding load when memory is short. From the first threshold on nobody may have a backlog; from
//! the second on the connections that hold the most memory are closed. Until none is left that
//! holds much, no input is read from any WebSocket, not even the rest of a message: many messages
//! that grow at once could take in more between two measurements than closing gives back.

use std::cmp::Reverse;

use super::Shard;
use super::connections::Connection;
use crate::config::SlowConsumer;
use crate::io::{Io, Key};
use crate::memory::{Pressure, allocator};
use crate::websocket::WebSocket;
use crate::wire::close::CloseCode;

impl<I: Io> Shard<I> {
    /// Does what the last measurement of memory asks for; once for each.
    pub(super) fn heed_memory(&mut self) {
        let signal = self.shared.memory.signal();
        if signal == self.memory_signal {
            return;
        }
        self.memory_signal = signal;
        let was_short = self.is_short_of_memory;
        self.is_short_of_memory = signal.pressure() == Pressure::Shed && self.shed();
        allocator::give_back();
        if was_short && !self.is_short_of_memory {
            self.resume_for_memory();
        }
    }

    /// Bytes that may wait for a peer until it has to read to be read from: when memory is short,
    /// none.
    pub(super) fn backlog_bytes(&self) -> usize {
        match self.memory_signal.pressure() {
            Pressure::Calm => self.effective.config.limits.backlog_bytes,
            Pressure::Refuse | Pressure::Shed => 0,
        }
    }

    /// Gives back compressors, which costs nobody more than a worse ratio, and then closes the
    /// connections that hold the most, until this shard's share of what is to be given back has
    /// been found; false when nobody holds anything worth it, so that waiting for it would be in
    /// vain.
    fn shed(&mut self) -> bool {
        let shards = self.effective.config.engine.shards as u64;
        let share = self.shared.memory.excess_bytes().div_ceil(shards.max(1));
        let connections = self.connections.iter_mut();
        let mut found: u64 = connections.map(|it| it.release_deflater() as u64).sum();
        let held = self.connections.iter().map(|(key, connection)| {
            let sealed_bytes = match connection.ending.is_over() {
                true => 0,
                false => self.secured.waiting_bytes(key.index),
            };
            (held_bytes(connection) + sealed_bytes, key)
        });
        let mut holders: Vec<_> =
            held.filter(|(bytes, _)| *bytes >= WORTH_SHEDDING_BYTES).collect();
        holders.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let has_found_some = found > 0 || !holders.is_empty();
        for &(bytes, key) in &holders {
            if found >= share {
                break;
            }
            found += bytes as u64;
            self.shed_connection(key);
        }
        has_found_some
    }

    /// Closes with 1013 and drops what is queued; a reset for whoever has been told before and
    /// still holds memory, or cannot be told because a frame to it is half sent.
    fn shed_connection(&mut self, key: Key) {
        let Self { connections, io, shared, number, ledger, pending_input, measures, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        let stats = shared.stats.shard(*number);
        stats.connections_shed.add(1);
        let websocket = connection.stage.websocket();
        let is_mid_reflection = websocket.is_some_and(WebSocket::is_mid_reflection);
        if !connection.stage.is_open() || is_mid_reflection {
            return self.doom(key, true);
        }
        let backlog_bytes = connection.outbox.bytes();
        let dropped = connection.outbox.drop_unsent(|slice| io.release(slice));
        measures.dropped_bytes = backlog_bytes - connection.outbox.bytes();
        stats.drop_messages(SlowConsumer::Disconnect, dropped);
        ledger.dropped(key, dropped);
        connection.waits_for = None;
        pending_input.forget(key.index);
        self.command(key, |connection, output| {
            let reason = "server is short of memory";
            connection.stage.abandon(CloseCode::TRY_AGAIN_LATER, reason, output);
        });
        self.measures.dropped_bytes = 0;
        self.settle(key);
    }
}

/// Bytes that a connection holds beyond its own entry; shared messages count for each.
pub(super) fn held_bytes(connection: &Connection) -> usize {
    match connection.ending.is_over() {
        true => 0,
        false => connection.outbox.held_bytes() + connection.stage.held_bytes(),
    }
}

/// Connections that hold less are not closed: a thousand of them would have to go for a megabyte.
const WORTH_SHEDDING_BYTES: usize = 1024;
