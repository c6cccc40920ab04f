//! What waits to be sent on one connection, in order, while one send is in flight.
//!
//! One segment lies inline; only a connection that falls behind, or sends a frame in parts, owns
//! more. Then what waits is of three kinds, sent in this order:
//!
//! * the *committed* segment, of which the kernel has taken a part: never dropped, never overtaken;
//! * control frames and responses, which go ahead of data but never into the middle of a frame;
//! * the *queue* of data, of which policies may drop published messages.

pub mod luggage;
mod recent;

use std::collections::VecDeque;

use crate::io::{BufferSlice, Outgoing, SEND_BYTES_MAX, Segment};
use crate::wire::header::OpCode;
use recent::Recent;

/// The segments that wait for the send in flight.
///
/// Invariant: with `behind` there, `first` is empty and everything waits there.
#[derive(Debug, Default)]
pub struct Outbox {
    first: Option<Segment>,
    behind: Option<Box<Behind>>,
}

const _: () = assert!(size_of::<Outbox>() == 24);

/// What a connection owns whose peer is behind, or within a frame.
#[derive(Debug, Default)]
struct Behind {
    committed: Option<Segment>,
    controls: VecDeque<Segment>,
    queue: VecDeque<Segment>,
    /// Bytes of all that waits.
    bytes: usize,
    /// Memory that it takes.
    held_bytes: usize,
    /// Segments of the queue that lie in receive buffers.
    lent: usize,
    /// Bytes of the send in flight, and the memory that it takes.
    in_flight_bytes: usize,
    in_flight_held_bytes: usize,
    /// Whether what was taken ends within a frame, whose rest is, or will be, the queue's front.
    is_mid_frame: bool,
    /// The same before the send in flight was taken, should nothing of it be sent.
    was_mid_frame: bool,
    /// Whether the send in flight begins with the committed segment.
    was_committed: bool,
    recent: Recent,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_none() && self.behind.as_ref().is_none_or(|behind| behind.bytes == 0)
    }

    /// Bytes that wait, and those in flight unless they are few.
    pub fn bytes(&self) -> usize {
        let behind = self.behind.as_ref().map_or(0, |behind| behind.bytes + behind.in_flight_bytes);
        self.first.as_ref().map_or(0, Segment::len) + behind
    }

    /// Memory that all this takes.
    pub fn held_bytes(&self) -> usize {
        let behind = self.behind.as_ref();
        self.first.as_ref().map_or(0, Segment::held_bytes)
            + behind.map_or(0, |behind| behind.held_bytes + behind.in_flight_held_bytes)
    }

    /// Memory of what has waited for its turn since before the `generation` before this one. What
    /// is committed has had its turn, and a lone segment never waits that long.
    pub fn lag_bytes(&self, generation: u32) -> usize {
        self.behind.as_ref().map_or(0, |behind| {
            // The oldest leave first, so what waits longest is all that is not recent.
            let committed_bytes = behind.committed.as_ref().map_or(0, Segment::held_bytes);
            let waiting_bytes = behind.held_bytes - committed_bytes;
            waiting_bytes.saturating_sub(behind.recent.bytes(generation))
        })
    }

    /// Whether what was taken so far ends within a frame.
    pub fn is_mid_frame(&self) -> bool {
        let is_within = |behind: &Behind| behind.committed.is_some() || behind.is_mid_frame;
        self.behind.as_deref().is_some_and(is_within)
    }

    /// Appends a segment; a response goes ahead of data that no peer could understand before it.
    pub fn push(&mut self, segment: Segment) {
        match &mut self.behind {
            Some(behind) => behind.push(segment),
            None if self.first.is_none() => self.first = Some(segment),
            None => self.fall_behind().push(segment),
        }
    }

    /// Appends messages that were published in this `generation`.
    pub fn push_published(&mut self, segment: Segment, generation: u32) {
        if self.behind.is_none() {
            if self.first.is_none() {
                self.first = Some(segment);
                return;
            }
            // What lay inline has waited no longer than this, as far as anybody knows.
            let behind = self.fall_behind();
            behind.recent.add(behind.held_bytes, generation);
        }
        let behind = self.fall_behind();
        behind.recent.add(segment.held_bytes(), generation);
        behind.push(segment);
    }

    /// Queues a control frame: ahead of data, behind other control frames, and never within a
    /// frame.
    ///
    /// When very many wait, a pong takes the place of the one before it: only the most recent ping
    /// has to be answered (RFC 6455 section 5.5.3), and a peer that does not read must not fill
    /// memory with pings.
    pub fn push_control(&mut self, frame: Segment) {
        if self.first.is_none() && self.behind.is_none() {
            self.first = Some(frame);
            return;
        }
        let behind = self.fall_behind();
        if behind.controls.len() >= CONTROLS_MAX
            && is_pong(&frame)
            && let Some(last) = behind.controls.back_mut().filter(|last| is_pong(last))
        {
            behind.bytes = behind.bytes - last.len() + frame.len();
            behind.held_bytes = behind.held_bytes - last.held_bytes() + frame.held_bytes();
            *last = frame;
            return;
        }
        behind.push(frame);
    }

    /// Takes as much as one send may carry.
    pub fn take(&mut self) -> Option<Outgoing> {
        if let Some(segment) = self.first.take() {
            debug_assert!(self.behind.is_none());
            let is_lent = matches!(segment, Segment::Buffer { .. });
            if !segment.ends_frame() || !is_lent && segment.len() >= LARGE_BYTES {
                let behind = self.behind.get_or_insert_default();
                behind.is_mid_frame = !segment.ends_frame();
                (behind.in_flight_bytes, behind.in_flight_held_bytes) =
                    (segment.len(), segment.held_bytes());
            }
            return Some(Outgoing::One(segment));
        }
        self.behind.as_mut()?.take()
    }

    /// Takes note that all of the send in flight has been sent.
    pub fn sent_whole(&mut self) {
        if let Some(behind) = &mut self.behind {
            (behind.in_flight_bytes, behind.in_flight_held_bytes) = (0, 0);
            self.catch_up();
        }
    }

    /// Takes back a send of which the kernel took only `sent` bytes. What lies in receive buffers
    /// is handed to `copy`, which must return the same bytes without one; buffers of which
    /// everything was sent are handed to `release`.
    pub fn sent_in_part(
        &mut self,
        outgoing: Outgoing,
        mut sent: usize,
        mut copy: impl FnMut(Segment) -> Segment,
        mut release: impl FnMut(BufferSlice),
    ) {
        debug_assert!(sent < outgoing.len());
        let lone = match &outgoing {
            Outgoing::One(_) => sent == 0 && self.behind.is_none() && self.first.is_none(),
            Outgoing::Many(_) => false,
        };
        let segments = match outgoing {
            Outgoing::One(segment) if lone => {
                // Nothing has happened.
                return self.first = Some(copy(segment));
            }
            Outgoing::One(segment) => vec![segment],
            Outgoing::Many(segments) => segments,
        };
        let behind = self.fall_behind();
        (behind.in_flight_bytes, behind.in_flight_held_bytes) = (0, 0);
        behind.is_mid_frame = behind.was_mid_frame;
        let mut is_committed = std::mem::take(&mut behind.was_committed);
        let mut unsent = Vec::with_capacity(segments.len());
        for mut segment in segments {
            let taken = sent.min(segment.len());
            sent -= taken;
            segment.advance(taken);
            is_committed |= taken > 0;
            if segment.is_empty() {
                behind.is_mid_frame = !segment.ends_frame();
                is_committed = false;
                if let Segment::Buffer { slice, .. } = segment {
                    release(slice);
                }
                continue;
            }
            let segment = copy(segment);
            debug_assert!(!matches!(segment, Segment::Buffer { .. }));
            if std::mem::take(&mut is_committed) {
                behind.count_in(&segment);
                behind.is_mid_frame = !segment.ends_frame();
                behind.committed = Some(segment);
            } else {
                unsent.push(segment);
            }
        }
        for segment in unsent.into_iter().rev() {
            behind.count_in(&segment);
            match is_control(&segment) {
                true => behind.controls.push_front(segment),
                false => behind.queue.push_front(segment),
            }
        }
    }

    /// Drops published messages, oldest first, until what waits takes at most `held_bytes`; returns
    /// how many were dropped.
    pub fn drop_oldest(&mut self, held_bytes: usize) -> u64 {
        self.behind.as_mut().map_or(0, |behind| behind.drop_oldest(held_bytes))
    }

    /// The same, newest first.
    pub fn drop_newest(&mut self, held_bytes: usize) -> u64 {
        self.behind.as_mut().map_or(0, |behind| behind.drop_newest(held_bytes))
    }

    /// Drops all published messages of which nothing has been sent; returns how many.
    pub fn drop_all(&mut self) -> u64 {
        let first = self.first.take_if(|first| first.messages() > 0);
        let behind = self.drop_oldest(0);
        behind + first.map_or(0, |first| u64::from(first.messages()))
    }

    /// Drops all data of which nothing has been sent, and returns how many published messages were
    /// among it; receive buffers are given back through `release`. A frame that has been sent in
    /// part stays whole.
    pub fn drop_unsent(&mut self, mut release: impl FnMut(BufferSlice)) -> u64 {
        let mut dropped = 0;
        let mut drop = |segment: Segment| {
            dropped += u64::from(segment.messages());
            if let Segment::Buffer { slice, .. } = segment {
                release(slice);
            }
        };
        self.first.take_if(|first| !is_control(first)).into_iter().for_each(&mut drop);
        if let Some(behind) = &mut self.behind {
            let ends_frame = |segment: &Segment| segment.ends_frame();
            let stays = match behind.is_mid_frame {
                true => behind
                    .queue
                    .iter()
                    .position(ends_frame)
                    .map_or(behind.queue.len(), |end| end + 1),
                false => 0,
            };
            for segment in behind.queue.split_off(stays) {
                behind.count_out(&segment);
                drop(segment);
            }
        }
        dropped
    }

    /// Drops everything; receive buffers are given back through `release`.
    pub fn clear(&mut self, mut release: impl FnMut(BufferSlice)) {
        let queue = self.behind.take().map(|behind| behind.queue).unwrap_or_default();
        for segment in self.first.take().into_iter().chain(queue) {
            if let Segment::Buffer { slice, .. } = segment {
                release(slice);
            }
        }
    }

    /// Replaces receive buffers by copies, which may wait for the peer as long as it takes.
    ///
    /// Costs no more than what was pushed since the last call: receive buffers are queued only in
    /// the tick in which they are taken or copied.
    pub fn detach(&mut self, mut copy: impl FnMut(Segment) -> Segment) {
        if let Some(first @ Segment::Buffer { .. }) =
            self.first.take_if(|first| matches!(first, Segment::Buffer { .. }))
        {
            self.first = Some(copy(first));
        }
        let Some(behind) = self.behind.as_mut().filter(|behind| behind.lent > 0) else { return };
        let (mut left, mut place) = (behind.lent, behind.queue.len());
        while left > 0 {
            place -= 1;
            left -= usize::from(matches!(behind.queue[place], Segment::Buffer { .. }));
        }
        for segment in behind.queue.split_off(place) {
            behind.count_out(&segment);
            let is_lent = matches!(segment, Segment::Buffer { .. });
            behind.push(if is_lent { copy(segment) } else { segment });
        }
        debug_assert_eq!(behind.lent, 0);
    }

    /// Moves what lies inline to where more can wait.
    fn fall_behind(&mut self) -> &mut Behind {
        let behind = self.behind.get_or_insert_default();
        if let Some(first) = self.first.take() {
            behind.queue.reserve(QUEUE_LEAST);
            behind.push(first);
        }
        behind
    }

    /// A connection with nothing waiting owns nothing.
    fn catch_up(&mut self) {
        if self.behind.as_ref().is_some_and(|behind| behind.bytes == 0 && !behind.is_mid_frame) {
            self.behind = None;
        }
    }
}

impl Behind {
    fn count_in(&mut self, segment: &Segment) {
        self.bytes += segment.len();
        self.held_bytes += segment.held_bytes();
        self.lent += usize::from(matches!(segment, Segment::Buffer { .. }));
    }

    fn count_out(&mut self, segment: &Segment) {
        self.bytes -= segment.len();
        self.held_bytes -= segment.held_bytes();
        self.lent -= usize::from(matches!(segment, Segment::Buffer { .. }));
    }

    /// Appends a segment to its list; small pieces of the connection's own are joined, because a
    /// vector for each would take many times what it holds. Only what ends a frame is joined to
    /// what does, and nothing while control frames wait: they could not go in between.
    fn push(&mut self, segment: Segment) {
        self.count_in(&segment);
        match segment {
            Segment::Owned { control: true, .. } => self.controls.push_back(segment),
            Segment::Owned { ref bytes, offset: 0, ends_frame, .. } => {
                if !self.joins(bytes, ends_frame) {
                    self.queue.push_back(segment);
                }
            }
            _ => self.queue.push_back(segment),
        }
    }

    /// Appends bytes that have been counted to the last segment, if that is small and of the same
    /// kind.
    fn joins(&mut self, bytes: &Vec<u8>, ends_frame: bool) -> bool {
        let may_join = self.controls.is_empty();
        let Some(Segment::Owned { bytes: last, ends_frame: last_ends_frame, .. }) =
            self.queue.back_mut().filter(|_| may_join)
        else {
            return false;
        };
        let fits = last.len() + bytes.len() <= JOINED_BYTES_MAX;
        if !fits || !ends_frame && *last_ends_frame {
            return false;
        }
        let capacity = last.capacity();
        last.extend_from_slice(bytes);
        *last_ends_frame = ends_frame;
        let counted = Segment::owned_held_bytes(bytes.capacity());
        self.held_bytes = self.held_bytes - counted + last.capacity() - capacity;
        true
    }

    fn drop_oldest(&mut self, held_bytes: usize) -> u64 {
        let (mut dropped, mut place) = (0, 0);
        // What no policy may drop are a few frames of the server's own: walking past them is cheap.
        while self.held_bytes > held_bytes
            && let Some(segment) = self.queue.get(place)
        {
            if segment.messages() == 0 {
                place += 1;
            } else if let Some(segment) = self.queue.remove(place) {
                self.count_out(&segment);
                dropped += u64::from(segment.messages());
            }
        }
        dropped
    }

    fn drop_newest(&mut self, held_bytes: usize) -> u64 {
        let mut dropped = 0;
        while self.held_bytes > held_bytes
            && let Some(segment) = self.queue.pop_back_if(|segment| segment.messages() > 0)
        {
            self.count_out(&segment);
            self.recent.forget(segment.held_bytes());
            dropped += u64::from(segment.messages());
        }
        dropped
    }

    fn take(&mut self) -> Option<Outgoing> {
        self.was_mid_frame = self.is_mid_frame;
        self.was_committed = self.committed.is_some();
        let is_data_alone = !self.was_committed && self.controls.is_empty();
        let mut segments = match is_data_alone {
            true if self.queue.len() <= VECTORS_MAX && self.bytes <= SEND_BYTES_MAX => {
                // Everything leaves, in the memory that it lies in.
                (self.in_flight_bytes, self.in_flight_held_bytes) = (self.bytes, self.held_bytes);
                (self.bytes, self.held_bytes, self.lent) = (0, 0, 0);
                Vec::from(std::mem::take(&mut self.queue))
            }
            true => self.take_queued(VECTORS_MAX, SEND_BYTES_MAX, false),
            false => self.take_in_order(),
        };
        self.is_mid_frame = !segments.last()?.ends_frame();
        Some(match segments.len() {
            1 => Outgoing::One(segments.remove(0)),
            _ => Outgoing::Many(segments),
        })
    }

    /// Takes what is committed, the rest of the frame that has begun, control frames, and the
    /// queue.
    fn take_in_order(&mut self) -> Vec<Segment> {
        let mut segments: Vec<_> = self.committed.take().into_iter().collect();
        segments.iter().for_each(|segment| self.count_as_taken(segment));
        if self.is_mid_frame {
            segments.extend(self.take_queued(VECTORS_MAX, SEND_BYTES_MAX, true));
        }
        if segments.last().map_or(self.is_mid_frame, |last| !last.ends_frame()) {
            return segments;
        }
        let count = self.controls.len().min(VECTORS_MAX.saturating_sub(segments.len()));
        for _ in 0..count {
            let Some(frame) = self.controls.pop_front() else { break };
            self.count_as_taken(&frame);
            segments.push(frame);
        }
        if self.controls.is_empty() {
            let count = VECTORS_MAX.saturating_sub(segments.len());
            let most = SEND_BYTES_MAX.saturating_sub(self.in_flight_bytes);
            segments.extend(self.take_queued(count, most, false));
        }
        segments
    }

    fn count_as_taken(&mut self, segment: &Segment) {
        self.count_out(segment);
        self.in_flight_bytes += segment.len();
        self.in_flight_held_bytes += segment.held_bytes();
    }

    /// Takes at most `count` segments from the queue, and no more once they hold `bytes`; with
    /// `within` no more than what ends the frame that has begun.
    fn take_queued(&mut self, count: usize, bytes: usize, within: bool) -> Vec<Segment> {
        let (mut taken, mut taken_bytes) = (0, 0);
        while taken < count && taken_bytes < bytes && taken < self.queue.len() {
            let segment = &self.queue[taken];
            taken += 1;
            taken_bytes += segment.len();
            if within && segment.ends_frame() {
                break;
            }
        }
        let taken: Vec<_> = self.queue.drain(..taken).collect();
        taken.iter().for_each(|segment| self.count_as_taken(segment));
        taken
    }
}

/// Whether a segment is a control frame or a response.
fn is_control(segment: &Segment) -> bool {
    matches!(segment, Segment::Owned { control: true, .. })
}

/// Whether a control frame is a pong.
fn is_pong(segment: &Segment) -> bool {
    const FIRST_BYTE: u8 = 0x80 | OpCode::Pong as u8;
    matches!(segment, Segment::Owned { bytes, .. } if bytes.first() == Some(&FIRST_BYTE))
}

/// Segments of one vectored send: enough to make a crossing cheap, far below `IOV_MAX`.
const VECTORS_MAX: usize = 64;
/// Segments that there is room for as soon as there are two.
const QUEUE_LEAST: usize = 8;
/// What a single segment must hold to be counted while it is in flight.
const LARGE_BYTES: usize = 16 * 1024;
/// Bytes up to which small pieces are joined.
const JOINED_BYTES_MAX: usize = 16 * 1024;
/// Control frames that wait before pongs replace each other: more than come in one second.
const CONTROLS_MAX: usize = 1024;

#[cfg(test)]
mod tests;
