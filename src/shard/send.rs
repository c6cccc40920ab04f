//! Bytes to a peer: one send in flight, everything that piles up meanwhile leaves with the next.

use std::cell::RefCell;

use super::Shard;
use super::connections::{Connection, Marks};
use super::ending::Ending;
use super::orders::top::{Direction, Traffic};
use super::requests::Requests;
use crate::io::{Errno, Io, Key, Outgoing, SEND_BYTES_MAX, Segment};

impl<I: Io> Shard<I> {
    /// Lists a connection for the end of the tick.
    pub(super) fn mark_dirty(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.has(Marks::DIRTY)
        {
            connection.mark(Marks::DIRTY);
            self.dirty.push(key.index);
        }
    }

    /// Starts a send on every listed connection that has none in flight. Those with much to send
    /// take turns: what a tick sends for them is bounded, and the rest goes on in the next.
    pub(super) fn flush(&mut self) {
        let mut large_bytes_left = LARGE_BYTES_PER_TICK;
        let mut left = Vec::new();
        let mut dirty = std::mem::take(&mut self.dirty);
        for index in dirty.drain(..) {
            let Some((key, connection)) = self.connections.at(index) else { continue };
            let may_send =
                !connection.requests.contains(Requests::SEND) && !connection.ending.is_over();
            let bytes = connection.outbox.bytes();
            if may_send && bytes > LARGE_BYTES {
                if large_bytes_left == 0 {
                    left.push(index);
                    continue;
                }
                large_bytes_left = large_bytes_left.saturating_sub(bytes.min(SEND_BYTES_MAX));
            }
            connection.unmark(Marks::DIRTY);
            if !may_send {
                continue;
            }
            if connection.has(Marks::SECURED) {
                self.send_sealed(key);
                continue;
            }
            match connection.outbox.take() {
                Some(outgoing) => {
                    if !outgoing.holds_buffer() {
                        // It may wait for the peer, and so may what did not fit into it.
                        connection.outbox.detach(|segment| detached(&mut self.io, segment));
                    }
                    connection.send(&mut self.io, key, outgoing);
                    if connection.waits_for.is_some() {
                        self.settle(key);
                    }
                }
                None => self.settle(key),
            }
        }
        // Settling marks nobody.
        debug_assert!(self.dirty.is_empty());
        for &index in &left {
            // Receive buffers do not wait for a turn.
            if let Some((_, connection)) = self.connections.at(index) {
                connection.outbox.detach(|segment| detached(&mut self.io, segment));
            }
        }
        // Who waits is first in the next tick; the other list is kept for its capacity.
        self.dirty = if left.is_empty() { dirty } else { left };
    }

    /// A send completed: in full, short, or not at all.
    pub(super) fn sent(&mut self, key: Key, result: Result<usize, Errno>, outgoing: Outgoing) {
        let sent = match result {
            Ok(sent) => sent,
            // A send that must not wait found the socket full.
            Err(libc::EAGAIN) => 0,
            Err(_) => {
                release_outgoing(&mut self.io, outgoing);
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.requests.end(Requests::SEND);
                }
                self.doom(key, false);
                // Should it have been given up before, this send may have been what it waited for.
                return self.settle(key);
            }
        };
        let bytes = sent as u64;
        self.stats().bytes_out.add(bytes);
        self.charge(key, Direction::Sent, Traffic { bytes, messages: 0 });
        let (now, served) = (self.now, self.served);
        let Some(connection) = self.connections.get_mut(key) else {
            return release_outgoing(&mut self.io, outgoing);
        };
        connection.requests.end(Requests::SEND);
        connection.mark(Marks::HAS_SENT);
        let is_awaited = connection.has(Marks::BACKED_UP) || connection.ending.is_finishing();
        if sent > 0 && is_awaited {
            // Whoever is busy with a long message cannot answer a ping, or a close, behind it.
            connection.last_active = served;
            self.trim.note_freed(sent, now);
        }
        connection.set_mark(Marks::BACKED_UP, sent < outgoing.len().min(SEND_BYTES_MAX));
        if sent < outgoing.len() {
            connection.ending.take_back_end();
        }
        if connection.ending.is_over() && connection.ending != Ending::Leaving {
            release_outgoing(&mut self.io, outgoing);
            return self.settle(key);
        }
        if sent == outgoing.len() {
            connection.outbox.sent_whole();
            release_outgoing(&mut self.io, outgoing);
        } else {
            self.put_back(key, sent, outgoing);
        }
        self.continue_sending(key);
    }

    /// What the kernel did not take waits for the peer: in memory of its own, because receive
    /// buffers must not depend on whether a peer reads.
    fn put_back(&mut self, key: Key, sent: usize, outgoing: Outgoing) {
        let Self { connections, io, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        if connection.has(Marks::SECURED) {
            return self.put_back_sealed(key, sent, outgoing);
        }
        connection.outbox.detach(|segment| detached(io, segment));
        let io = RefCell::new(io);
        connection.outbox.sent_in_part(
            outgoing,
            sent,
            |segment| detached(*io.borrow_mut(), segment),
            |slice| io.borrow_mut().release(slice),
        );
    }

    /// After a completed send: the next one, and whatever waited for the backlog to shrink.
    fn continue_sending(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.has_output() {
            self.mark_dirty(key);
        }
        self.go_on_for_session(key);
        if !self.resume_for_peer(key) {
            self.settle(key);
        }
    }
}

impl Connection {
    /// Starts a send; should it be the last, the end of the stream goes with it.
    pub(super) fn send<I: Io>(&mut self, io: &mut I, key: Key, outgoing: Outgoing) {
        let is_last = self.ending == Ending::Finishing
            && !self.requests.contains(Requests::FINISH)
            && !self.has(Marks::PEER_FINISHED)
            && self.outbox.is_empty()
            && outgoing.len() <= SEND_BYTES_MAX
            && !outgoing.holds_buffer();
        self.requests.begin(Requests::SEND);
        if is_last {
            self.ending.send_end();
            self.requests.begin(Requests::FINISH);
            io.send_last(key, self.slot(), outgoing);
        } else {
            io.send(key, self.slot(), outgoing);
        }
    }
}

/// Gives back the receive buffers of what has been sent, or is not to be.
pub(super) fn release_outgoing<I: Io>(io: &mut I, outgoing: Outgoing) {
    let mut release = |segment| {
        if let Segment::Buffer { slice, .. } = segment {
            io.release(slice);
        }
    };
    match outgoing {
        Outgoing::One(segment) => release(segment),
        Outgoing::Many(segments) => segments.into_iter().for_each(release),
    }
}

/// The same bytes, without a receive buffer.
pub(super) fn detached<I: Io>(io: &mut I, segment: Segment) -> Segment {
    match segment {
        Segment::Buffer { slice, ends_frame } => {
            let bytes = io.bytes(&slice).to_vec();
            io.release(slice);
            Segment::owned(bytes, ends_frame)
        }
        segment => segment,
    }
}

/// Whoever has more to send waits for its turn.
pub(super) const LARGE_BYTES: usize = 128 << 10;
/// Bytes that a tick sends for those who have much to send, about: a millisecond of copying.
const LARGE_BYTES_PER_TICK: usize = 2 << 20;
