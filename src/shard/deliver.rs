//! Fan-out: what was published goes to every subscriber's outbox, within its bounds.

use std::rc::Rc;

use super::Shard;
use super::connections::{Connection, Flags};
use crate::config::SlowConsumer;
use crate::hub::Message;
use crate::hub::run::Run;
use crate::io::{Io, Key, Segment};
use crate::stats::ShardStats;
use crate::wire::close::CloseCode;
use crate::wire::deflate::codec::window_class;
use crate::wire::frames::Frames;

impl<I: Io> Shard<I> {
    /// Publishes a frame of `key`: to this shard at the end of the tick, to the others by the ring.
    pub(super) fn publish(&mut self, key: Key, frame: Vec<u8>) {
        let Some(publication) = self.topics.publish(key.index, frame) else { return };
        self.stats().broadcasts.add(1);
        if self.shared.config.engine.shards == 1 {
            return;
        }
        self.overflow.push_back(publication);
        self.drain_overflow();
    }

    /// Whether publishers must wait until other shards have read more.
    pub(super) fn is_ring_full(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Notes that a session paused: for the ring, for memory, or until its peer has read enough.
    pub(super) fn wait_for_room(&mut self, key: Key) {
        let (is_ring_full, is_short_of_memory) = (self.is_ring_full(), self.is_short_of_memory);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_sending = connection.flags.contains(Flags::SENDING) || !connection.outbox.is_empty();
        let awaits_ring = is_ring_full && connection.flags.contains(Flags::SUBSCRIBED);
        let awaits_room = awaits_ring || is_short_of_memory;
        // The ring may have taken everything since the session paused for it; without a send that
        // ends, only the list brings it back.
        if !awaits_room && is_sending {
            self.stats().receives_paused.add(1);
        } else if !connection.flags.contains(Flags::AWAITS_ROOM) {
            connection.flags.insert(Flags::AWAITS_ROOM);
            self.waiting.push(key);
            match is_short_of_memory {
                true => self.stats().receives_paused.add(1),
                false => self.stats().ring_full.add(1),
            }
        }
    }

    /// Lets whoever waits go on when the ring has taken everything and memory suffices.
    pub(super) fn resume_waiting(&mut self) {
        self.drain_overflow();
        if !self.overflow.is_empty() || self.is_short_of_memory || self.waiting.is_empty() {
            return;
        }
        self.resume_all_waiting();
    }

    /// Lets everybody who waits try to go on. Whoever finds the ring full again waits again, behind
    /// the others.
    pub(super) fn resume_all_waiting(&mut self) {
        for key in std::mem::take(&mut self.waiting) {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.flags.remove(Flags::AWAITS_ROOM);
            }
            self.resume(key);
        }
    }

    fn drain_overflow(&mut self) {
        while let Some(publication) = self.overflow.pop_front() {
            let bytes = publication.frame.len();
            if let Err(Message::Publish(publication)) =
                self.endpoint.publish(Message::Publish(publication), bytes)
            {
                self.overflow.push_front(publication);
                return;
            }
        }
    }

    /// Queues everything published since the last tick for its subscribers.
    pub(super) fn deliver(&mut self) {
        let Self { topics, connections, dirty, shared, number, codec, trim, now, .. } = self;
        let codec = codec.get_mut();
        let stats = shared.stats.shard(*number);
        let bounds = Bounds {
            backlog_bytes: shared.config.limits.backlog_bytes,
            policy: shared.config.slow_consumer,
        };
        let mut too_slow = Vec::new();
        topics.drain(|members, runs| {
            for run in &*runs {
                // Freed when the last subscriber has read it, soon for most.
                trim.note_freed(run.frames(None).bytes().len(), *now);
            }
            for &member in members {
                let Some((key, connection)) = connections.at(member) else { continue };
                let class = connection.session.server_window_bits().map(window_class);
                for run in runs.iter_mut() {
                    if let Some(class) = class {
                        run.compress(class, codec);
                    }
                    if !bounds.admit(connection, member, run, class, stats) {
                        too_slow.push(key);
                        break;
                    }
                }
                if !connection.flags.contains(Flags::DIRTY) {
                    connection.flags.insert(Flags::DIRTY);
                    dirty.push(member);
                }
            }
        });
        for key in too_slow {
            self.disconnect_slow_consumer(key);
        }
    }

    fn disconnect_slow_consumer(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mid_frame = connection.flags.contains(Flags::MID_FRAME);
        let dropped = connection.outbox.drop_messages(0, mid_frame);
        self.stats().drop_messages(SlowConsumer::Disconnect, dropped);
        self.command(key, |connection, output| {
            let reason = "slow consumer: backlog limit reached";
            connection.session.close(CloseCode::TRY_AGAIN_LATER, reason, output);
        });
        self.settle(key);
    }
}

/// How much may wait for one subscriber, and what gives way beyond that.
struct Bounds {
    backlog_bytes: usize,
    policy: SlowConsumer,
}

impl Bounds {
    /// Queues a run for a subscriber as far as its bounds allow; false when it is to be cut off.
    fn admit(
        &self,
        connection: &mut Connection,
        member: u32,
        run: &Run,
        class: Option<usize>,
        stats: &ShardStats,
    ) -> bool {
        let frames = run.frames(class);
        let (segment, messages) = match run.excerpt(member, class) {
            None => (shared(frames, 0), frames.messages()),
            Some((_, 0)) => return true,
            Some((bytes, messages)) => (Segment::owned(bytes, true), messages),
        };
        let messages = u64::from(messages);
        let outbox = &mut connection.outbox;
        let waiting = outbox.bytes();
        // Whoever has nothing waiting gets the message, however big it is.
        let mut fits = waiting == 0 || waiting + segment.len() <= self.backlog_bytes;
        let mid_frame = connection.flags.contains(Flags::MID_FRAME);
        match self.policy {
            _ if fits => {}
            SlowConsumer::Disconnect => {
                stats.drop_messages(self.policy, messages);
                return false;
            }
            SlowConsumer::DropNewest => {}
            SlowConsumer::DropOldest => {
                let room = self.backlog_bytes.saturating_sub(segment.len());
                stats.drop_messages(self.policy, outbox.drop_messages(room, mid_frame));
                fits = outbox.bytes() <= room;
            }
            SlowConsumer::Latest => {
                let dropped = outbox.drop_messages(0, mid_frame);
                stats.drop_messages(self.policy, dropped + messages - 1);
                outbox.push(match segment {
                    Segment::Shared { .. } => shared(frames, frames.last_offset()),
                    own => own,
                });
                stats.deliveries.add(1);
                stats.messages_out.add(1);
                return true;
            }
        }
        if fits {
            outbox.push(segment);
            stats.deliveries.add(messages);
            stats.messages_out.add(messages);
        } else {
            stats.drop_messages(self.policy, messages);
        }
        true
    }
}

fn shared(frames: &Rc<Frames>, offset: u32) -> Segment {
    Segment::Shared { frames: frames.clone(), offset }
}
