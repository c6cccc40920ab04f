//! Fan-out: what was published goes to every subscriber's outbox, within its bounds.

use super::Shard;
use super::connections::{Connection, Marks};
use super::orders::top::{Direction, Traffic};
use super::requests::Requests;
use super::send::LARGE_BYTES;
use super::sockjs::Way;
use super::timers::Tick;
use crate::config::SlowConsumer;
use crate::connection::Stage;
use crate::hub::run::{Encoding, EncodingBudget, Run, Share, latest};
use crate::io::{Io, Key, SEND_BYTES_MAX, Segment};
use crate::sockjs::transport::Form;
use crate::stats::ShardStats;
use crate::wire::close::CloseCode;
use crate::wire::deflate::codec::{Codec, window_class};
use crate::wire::message::MessageKind;

/// Counts time in stretches for telling slow subscribers from bursts.
///
/// A burst is more than most sockets take at once, so a queue alone says nothing about its reader.
/// A subscriber counts as slow for what has waited longer than the stretch before the present one,
/// that is for 100 ms at least; or, when very much is published, for so many bytes of it.
#[derive(Debug, Default)]
pub(super) struct Generation {
    number: u32,
    began: Tick,
    published_bytes: usize,
}

impl Generation {
    /// The generation of what was published last.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The generation of what is published now.
    fn advance(&mut self, now: Tick, backlog_bytes: usize) -> u32 {
        let ticks = now.saturating_sub(self.began);
        let most = (4 * backlog_bytes).clamp(GENERATION_BYTES_LEAST, GENERATION_BYTES_MOST);
        if ticks > 0 || self.published_bytes >= most {
            // Nothing is recent after a longer silence.
            self.number = self.number.wrapping_add(ticks.clamp(1, 2));
            (self.began, self.published_bytes) = (now, 0);
        }
        self.number
    }
}

impl<I: Io> Shard<I> {
    /// Queues what was published for its subscribers, for as many of each topic as a tick may
    /// serve; the next goes on with the others. What has to be encoded before, and would take too
    /// long, holds up its own topic alone, and so does a member that has had no turn to send.
    pub(super) fn deliver(&mut self) {
        if !self.topics.has_pending() {
            return;
        }
        let is_charged = self.is_charging();
        let backlog_bytes = self.effective.config.limits.backlog_bytes;
        let generation = self.generation.advance(self.now, backlog_bytes);
        let Self {
            topics,
            connections,
            dirty,
            shared,
            effective,
            number,
            codec,
            trim,
            now,
            sockjs,
            ..
        } = self;
        let (published_bytes, ledger) = (&mut self.generation.published_bytes, &mut self.ledger);
        let (served, wanted) = (self.served, &mut self.wanted);
        let codec = codec.get_mut();
        let stats = shared.stats.shard(*number);
        let bounds = Bounds { backlog_bytes, policy: effective.config.slow_consumer, generation };
        let mut budget = EncodingBudget {
            compressed_bytes: COMPRESSED_BYTES_PER_TICK,
            joined_bytes: JOINED_BYTES_PER_TICK,
        };
        let mut delivered = 0;
        let (mut too_slow, mut behind, mut charges) = (Vec::new(), Vec::new(), Vec::new());
        let delivered_after_us = topics.drain(|members, runs| {
            if delivered >= 2 * DELIVERED_PER_TICK {
                return 0;
            }
            let end = delivered.max(DELIVERED_PER_TICK - DELIVERED_LEAST) + DELIVERED_LEAST;
            let bytes: usize = runs.iter().map(Run::bytes).sum();
            let mut encoded = None;
            for (place, &member) in members.iter().enumerate() {
                let way = sockjs.way_to(member);
                let index =
                    if let Way::Stream(receiver, _) = way { receiver.index } else { member };
                if let Way::Session = way {
                    let literals = Encoding::SockJs(Form::Literal);
                    let mut is_encoded = |run: &mut Run| run.encode(literals, codec, &mut budget);
                    if delivered >= end || !runs.iter_mut().all(&mut is_encoded) {
                        return place;
                    }
                    delivered += QUEUED_COST + bytes;
                    sockjs.keep(member, runs, backlog_bytes, bounds.policy, stats);
                    continue;
                }
                let Some((key, connection)) = connections.at(index) else { continue };
                let encoding = match way {
                    Way::Stream(_, encoding) => encoding,
                    _ => encoding_for(connection),
                };
                let mut is_encoded = |run: &mut Run| run.encode(encoding, codec, &mut budget);
                if delivered >= end
                    || awaits_its_turn(connection)
                    || encoded != Some(encoding) && !runs.iter_mut().all(&mut is_encoded)
                {
                    return place;
                }
                if encoded != Some(encoding) && runs.iter().all(Run::is_empty) {
                    break;
                }
                encoded = Some(encoding);
                delivered += match connection.requests.contains(Requests::SEND) {
                    true => QUEUED_COST,
                    false => SENT_COST + bytes.min(SEND_BYTES_MAX),
                };
                let (before, mut shared_bytes) = (stats.deliveries.value(), 0);
                for run in &*runs {
                    let Some(frames) = run.encoded(encoding) else {
                        debug_assert!(false, "all runs have been encoded");
                        continue;
                    };
                    if let Encoding::Lines(_) | Encoding::SockJs(_) = encoding {
                        stats.lines_left_out.add((run.messages_len() - frames.messages()).into());
                    }
                    if frames.messages() == 0 {
                        continue;
                    }
                    let share = run.share_of(member, frames);
                    shared_bytes += share.bytes();
                    let admitted = bounds.admit(connection, share, stats);
                    ledger.dropped(key, admitted.dropped);
                    if admitted.is_too_slow {
                        too_slow.push(key);
                        break;
                    }
                }
                if bounds.is_behind(connection) {
                    behind.push(key);
                }
                if is_charged {
                    charges.push((key, stats.deliveries.value() - before));
                }
                wanted.note(index, served);
                if !connection.has(Marks::DIRTY) {
                    connection.mark(Marks::DIRTY);
                    dirty.push(index);
                }
                if let Way::Stream(receiver, _) = way {
                    sockjs.note_shared(member, receiver, shared_bytes);
                }
            }
            *published_bytes += runs.iter().map(Run::held_bytes).sum::<usize>();
            // Freed when the last subscriber has read it, soon for most.
            trim.note_freed(bytes, *now);
            members.len()
        });
        self.measures.delivered(delivered_after_us);
        for (key, messages) in charges {
            self.charge(key, Direction::Sent, Traffic { bytes: 0, messages });
        }
        for key in too_slow {
            self.disconnect_slow_consumer(key);
        }
        behind.into_iter().for_each(|key| self.set_aside(key));
    }

    /// Drops all that waits for a peer that is too slow and may be dropped.
    pub(super) fn drop_backlog(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let backlog_bytes = connection.outbox.bytes();
        let dropped = connection.outbox.drop_all();
        // As long as it is closed for that, it is known how much it was.
        self.measures.dropped_bytes = backlog_bytes - connection.outbox.bytes();
        self.ledger.dropped(key, dropped);
        self.stats().drop_messages(SlowConsumer::Disconnect, dropped);
    }

    fn disconnect_slow_consumer(&mut self, key: Key) {
        if self.sessions.contains(key.index) {
            return self.hold_back_slow_session(key);
        }
        if self.cut_off_session_of(key) {
            return self.settle(key);
        }
        self.drop_backlog(key);
        self.command(key, |connection, output| {
            let reason = "slow consumer: backlog limit reached";
            connection.stage.close(CloseCode::TRY_AGAIN_LATER, reason, output);
        });
        self.measures.dropped_bytes = 0;
        self.resume_what_is_closing(key);
        self.settle(key);
    }
}

/// Whether a connection waits for its turn to send much (`flush`), although its peer reads. Those
/// who have to wait for their peers hold up nobody, nor do those who are about to leave.
fn awaits_its_turn(connection: &Connection) -> bool {
    !connection.requests.contains(Requests::SEND)
        && !connection.has(Marks::BACKED_UP)
        && !connection.ending.is_over()
        && connection.outbox.bytes() > LARGE_BYTES
}

/// How a connection gets what is published.
fn encoding_for(connection: &Connection) -> Encoding {
    let window_bits = match &connection.stage {
        Stage::Stream(stream) => return Encoding::Lines(stream.framing()),
        Stage::WebSocket(websocket) if websocket.session_kind() == Some(MessageKind::Binary) => {
            return Encoding::BinaryPushes;
        }
        Stage::WebSocket(websocket) if websocket.is_sockjs() => {
            return Encoding::SockJs(Form::WebSocket);
        }
        Stage::WebSocket(websocket) => websocket.server_window_bits(),
        Stage::Preamble(_) | Stage::Http(_) => None,
    };
    window_bits.map_or(Encoding::Plain, |bits| Encoding::Compressed(window_class(bits)))
}

/// How much may wait for one subscriber, and what gives way beyond that.
struct Bounds {
    backlog_bytes: usize,
    policy: SlowConsumer,
    generation: u32,
}

/// What became of a subscriber's share of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Admitted {
    /// Messages that a policy dropped, of this share or of those before.
    dropped: u64,
    /// Whether the subscriber is to be cut off.
    is_too_slow: bool,
}

impl Bounds {
    /// Whether so much waits for a session that it may be set aside, before it is too slow.
    fn is_behind(&self, connection: &Connection) -> bool {
        connection.outbox.bytes() > self.backlog_bytes / 2
            && connection.stage.websocket().is_some_and(|it| it.session_kind().is_some())
    }

    /// Queues a share for a subscriber; when that is slow, as far as its policy allows.
    fn admit(&self, connection: &mut Connection, share: Share<'_>, stats: &ShardStats) -> Admitted {
        let outbox = &mut connection.outbox;
        let lag_bytes = outbox.lag_bytes(self.generation);
        let is_slow = match self.policy {
            // What is kept fills the backlog nearly; the next message would be beyond it.
            SlowConsumer::DropNewest if lag_bytes > self.backlog_bytes / 2 => {
                lag_bytes + share.held_bytes() > self.backlog_bytes
            }
            _ => lag_bytes > self.backlog_bytes,
        };
        let mut dropped = 0;
        let is_session = connection.stage.websocket().is_some_and(|it| it.session_kind().is_some());
        // What a session must not lose it is not to lose without a word.
        let policy = if is_session { SlowConsumer::Disconnect } else { self.policy };
        match policy {
            // Whoever is about to leave is not sent anything for a moment, which is not its fault.
            _ if !is_slow || connection.ending.is_over() => {}
            SlowConsumer::DropOldest => dropped = outbox.drop_oldest(self.backlog_bytes),
            SlowConsumer::Disconnect | SlowConsumer::DropNewest => {
                dropped = share.messages();
                if dropped > 0 && policy == SlowConsumer::DropNewest {
                    dropped += outbox.drop_newest(self.backlog_bytes);
                }
                stats.drop_messages(policy, dropped);
                let is_too_slow = policy == SlowConsumer::Disconnect && dropped > 0;
                return Admitted { dropped, is_too_slow };
            }
            SlowConsumer::Latest => {
                let messages = share.messages();
                if let Some(excerpt) = latest(&share) {
                    dropped = outbox.drop_all() + messages - 1;
                    outbox.push_published(Segment::Excerpt(Box::new(excerpt)), self.generation);
                    count_delivered(1, stats);
                }
                stats.drop_messages(self.policy, dropped);
                return Admitted { dropped, is_too_slow: false };
            }
        }
        stats.drop_messages(self.policy, dropped);
        count_delivered(share.messages(), stats);
        queue_share(connection, share, self.generation);
        Admitted { dropped, is_too_slow: false }
    }
}

/// Queues a run for one member alone, and tells how many messages that is; no policy keeps any from
/// it. As nobody else may want it so, it is encoded in the way that takes no time.
pub(super) fn queue_alone(
    run: &mut Run,
    member: u32,
    connection: &mut Connection,
    codec: &mut Codec,
    generation: u32,
) -> u64 {
    let mut budget = EncodingBudget { compressed_bytes: 0, joined_bytes: usize::MAX };
    let encoding = match encoding_for(connection) {
        Encoding::Compressed(_) => Encoding::Plain,
        encoding => encoding,
    };
    let is_encoded = run.encode(encoding, codec, &mut budget);
    debug_assert!(is_encoded, "nothing bounds what is joined");
    let Some(frames) = run.encoded(encoding) else { return 0 };
    let share = run.share_of(member, frames);
    let messages = share.messages();
    queue_share(connection, share, generation);
    messages
}

fn queue_share(connection: &mut Connection, share: Share<'_>, generation: u32) {
    match share {
        Share::Whole(frames) => {
            let segment = Segment::Shared { frames: frames.clone(), offset: 0 };
            connection.outbox.push_published(segment, generation);
        }
        Share::Others(excerpts) => {
            for excerpt in excerpts {
                let segment = Segment::Excerpt(Box::new(excerpt));
                connection.outbox.push_published(segment, generation);
            }
        }
    }
}

pub(super) fn count_delivered(messages: u64, stats: &ShardStats) {
    stats.deliveries.add(messages);
}

/// Memory of what is published within a stretch of time after which the next begins: four times
/// what may wait for one subscriber, within these bounds.
const GENERATION_BYTES_LEAST: usize = 1 << 20;
const GENERATION_BYTES_MOST: usize = 4 << 20;
/// What a tick delivers, about, in bytes that members are sent and what else that costs: half a
/// millisecond to a millisecond. Little in debug builds, so that tests see rounds of many ticks.
const DELIVERED_PER_TICK: usize = if cfg!(debug_assertions) { 4 << 10 } else { 2 << 20 };
/// What a topic is delivered of it when others have used it up.
const DELIVERED_LEAST: usize = DELIVERED_PER_TICK / 32;
/// What a send costs beside its bytes.
const SENT_COST: usize = 8 << 10;
/// What it costs to queue something behind a send that is under way.
const QUEUED_COST: usize = 512;
/// Bytes compressed for subscribers in one tick, about: a millisecond at the default level.
const COMPRESSED_BYTES_PER_TICK: usize = 256 << 10;
/// Bytes of messages copied together in one tick, about: a millisecond. Few in debug builds, so
/// that tests see some wait.
const JOINED_BYTES_PER_TICK: usize = if cfg!(debug_assertions) { 4 << 10 } else { 8 << 20 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_last_a_tick_or_so_many_bytes() {
        let mut generation = Generation::default();
        let first = generation.advance(5, 1 << 20);
        generation.published_bytes = GENERATION_BYTES_MOST - 1;
        assert_eq!(generation.advance(5, 1 << 20), first);
        assert_eq!(generation.advance(5, 1000), first + 1, "much was published");
        assert_eq!(generation.advance(6, 1000), first + 2, "time has passed");
        assert_eq!(generation.advance(100, 1000), first + 4, "nothing is recent any more");
    }
}
