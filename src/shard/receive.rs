//! Bytes from a peer: to its session, and what the session makes of them to outbox and hub.

use super::connections::{Connection, Flags};
use super::{Shard, ticks_in, with_rules};
use crate::http::Route;
use crate::io::{BufferSlice, Errno, Io, Key, Segment};
use crate::session::{Initiator, Output, Piece};
use crate::wire::close::CloseCode;

/// Where input lies.
enum Input {
    Buffer(BufferSlice),
    Owned(Vec<u8>),
}

impl<I: Io> Shard<I> {
    /// A receive brought bytes, the end of the stream, or an error.
    pub(super) fn received(
        &mut self,
        key: Key,
        result: Result<Option<BufferSlice>, Errno>,
        more: bool,
    ) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else {
            if let Ok(Some(slice)) = result {
                self.io.release(slice);
            }
            return;
        };
        if !more {
            connection.flags.remove(Flags::RECEIVING | Flags::RECEIVE_CANCELLED);
        }
        match result {
            Ok(Some(slice)) => {
                connection.last_active = now;
                connection.flags.remove(Flags::PARKED | Flags::PINGED);
                let doomed = connection.flags.contains(Flags::DOOMED);
                self.stats().bytes_in.add(u64::from(slice.len()));
                match doomed {
                    true => self.io.release(slice),
                    false => self.feed(key, Input::Buffer(slice)),
                }
            }
            Ok(None) => self.peer_finished(key),
            Err(libc::ECANCELED) => {}
            Err(libc::ENOBUFS) => self.starve(key),
            Err(_) => self.doom(key, false),
        }
        self.settle(key);
    }

    /// A parked connection has something to receive.
    pub(super) fn readable(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.flags.remove(Flags::POLLING | Flags::PARKED);
            if connection.session.is_open() && !connection.flags.contains(Flags::DOOMED) {
                self.schedule_open(key);
            }
            self.settle(key);
        }
    }

    /// Receives again what a session could not take.
    pub(super) fn resume(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.flags.contains(Flags::DOOMED) {
            return self.settle(key);
        }
        connection.flags.remove(Flags::PAUSED);
        let stash = connection.session.take_stash();
        if !stash.is_empty() {
            self.feed(key, Input::Owned(stash));
            self.end_of_input(key);
        }
        self.settle(key);
    }

    /// Lets the session take the input, and does what it wants done.
    fn feed(&mut self, key: Key, mut input: Input) {
        let mut output = std::mem::take(&mut self.output);
        loop {
            let serving = self.serving_if_asked(key);
            let (ring_is_full, is_short_of_memory) = (self.is_ring_full(), self.is_short_of_memory);
            let backlog_bytes = self.backlog_bytes();
            let Some(connection) = self.connections.get_mut(key) else { break };
            let may_begin = connection.outbox.bytes() <= backlog_bytes
                && !(ring_is_full && connection.flags.contains(Flags::SUBSCRIBED));
            let bytes = match &mut input {
                Input::Buffer(slice) => self.io.bytes(slice),
                Input::Owned(bytes) => bytes,
            };
            if connection.session.has_stash() {
                // What arrives while the session pauses goes behind what it has not taken.
                connection.session.stash(bytes);
                break;
            }
            if is_short_of_memory && connection.session.is_open() {
                connection.session.stash(bytes);
                connection.flags.insert(Flags::PAUSED);
                self.wait_for_room(key);
                break;
            }
            let consumed =
                with_rules(&self.shared, &self.codec, serving, self.now, may_begin, |rules| {
                    connection.session.receive(bytes, rules, &mut output)
                });
            if output.paused {
                connection.session.stash(&bytes[consumed..]);
                connection.flags.insert(Flags::PAUSED);
            }
            self.apply(key, &input, &mut output);
            match output.leftover.take() {
                Some(leftover) => {
                    self.release(std::mem::replace(&mut input, Input::Owned(leftover)))
                }
                None => break,
            }
        }
        self.release(input);
        self.output = output;
    }

    fn release(&mut self, input: Input) {
        if let Input::Buffer(slice) = input {
            self.io.release(slice);
        }
    }

    /// What only a request needs to know is found out only for a request.
    fn serving_if_asked(&mut self, key: Key) -> crate::http::Serving {
        match self.connections.get_mut(key) {
            Some(connection) if connection.session.is_request() => self.serving(),
            _ => crate::http::Serving::Open,
        }
    }

    /// Lets a session act on its own, and does what it wants done.
    pub(super) fn command(&mut self, key: Key, act: impl FnOnce(&mut Connection, &mut Output)) {
        let mut output = std::mem::take(&mut self.output);
        if let Some(connection) = self.connections.get_mut(key) {
            act(connection, &mut output);
            self.apply(key, &Input::Owned(Vec::new()), &mut output);
        }
        self.output = output;
    }

    fn apply(&mut self, key: Key, input: &Input, output: &mut Output) {
        let stats = self.shared.stats.shard(self.number);
        stats.messages_in.add(u64::from(std::mem::take(&mut output.messages)));
        stats.messages_out.add(u64::from(std::mem::take(&mut output.reflected_messages)));
        if let Some(reason) = output.refused.take() {
            stats.refuse(reason);
        }
        if let Some(route) = output.upgraded.take() {
            self.upgraded(key, route);
        }
        self.queue_pieces(key, input, output);
        self.expect_next_request(key);
        for frame in output.published.drain(..) {
            self.publish(key, frame);
        }
        if let Some((initiator, code)) = output.closed.take() {
            self.count_close(key, initiator, code);
            self.schedule_close(key);
        }
        if std::mem::take(&mut output.finish) {
            self.finish(key);
        }
        if std::mem::take(&mut output.paused) {
            self.wait_for_room(key);
        }
    }

    fn queue_pieces(&mut self, key: Key, input: &Input, output: &mut Output) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if output.pieces.is_empty() {
            return;
        }
        // A receive buffer may only wait for a send that cannot wait itself; see `flush`.
        let may_lend = !connection.flags.contains(Flags::SENDING);
        for piece in output.pieces.drain(..) {
            match piece {
                Piece::Control(frame) => {
                    let mid_frame = connection.flags.contains(Flags::MID_FRAME);
                    connection.outbox.push_control(Segment::control(frame), mid_frame);
                }
                Piece::Response(bytes) => connection.outbox.push(Segment::control(bytes)),
                Piece::Owned { bytes, ends_frame } => {
                    connection.outbox.push(Segment::owned(bytes, ends_frame));
                }
                Piece::Reflected { range, ends_frame } => {
                    let segment = match input {
                        Input::Buffer(slice) => {
                            let part = self.io.split(slice, range);
                            let lent = Segment::Buffer { slice: part, ends_frame };
                            if may_lend { lent } else { super::send::detached(&mut self.io, lent) }
                        }
                        Input::Owned(bytes) => Segment::owned(bytes[range].to_vec(), ends_frame),
                    };
                    connection.outbox.push(segment);
                }
            }
        }
        self.mark_dirty(key);
    }

    /// An answered peer that keeps its connection has as long for the next request.
    fn expect_next_request(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.session.is_request()
            && connection.flags.contains(Flags::DIRTY)
        {
            connection.flags.insert(Flags::ANSWERED);
            let timeout = self.shared.config.limits.handshake_timeout;
            self.wheel.schedule(key.index, self.now + ticks_in(timeout));
        }
    }

    fn upgraded(&mut self, key: Key, route: Route) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.flags.insert(Flags::WEBSOCKET);
        if let Route::Broadcast { topic, exclude_self } = route {
            connection.flags.insert(Flags::SUBSCRIBED);
            self.topics.join(key.index, &topic, exclude_self);
        }
        if let Some(lifetime) = self.shared.config.limits.lifetime {
            self.lifetimes.set(key.index, self.now + ticks_in(lifetime));
        }
        self.stats().upgrades.add(1);
        self.stats().websockets_open.add(1);
        self.schedule_open(key);
    }

    /// The peer will send no more.
    fn peer_finished(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.flags.insert(Flags::PEER_FINISHED);
        self.end_of_input(key);
    }

    /// Ends our side as well, once the session has taken everything that came before the FIN.
    fn end_of_input(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.flags.contains(Flags::PEER_FINISHED)
            && !connection.session.has_stash()
        {
            self.count_close(key, Initiator::Remote, CloseCode::ABNORMAL);
            self.finish(key);
        }
    }

    /// No receive buffer was free: the receive starts again after the next sends have completed.
    fn starve(&mut self, key: Key) {
        self.stats().buffers_exhausted.add(1);
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.flags.contains(Flags::STARVED)
        {
            connection.flags.insert(Flags::STARVED);
            self.starved.push(key);
        }
    }

    /// Starts the receives that found no buffer in the last tick.
    pub(super) fn feed_starved(&mut self) {
        for key in std::mem::take(&mut self.starved) {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.flags.remove(Flags::STARVED);
                self.settle(key);
            }
        }
    }
}
