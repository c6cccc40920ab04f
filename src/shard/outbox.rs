//! What waits to be sent on one connection, in order, while one send is in flight.
//!
//! One segment lies inline; only a connection that falls behind owns a queue.

use std::collections::VecDeque;

use crate::io::{BufferSlice, Outgoing, Segment};
use crate::wire::header::OpCode;

/// The segments that wait for the send in flight.
///
/// Invariant: without `first` there is nothing in `rest`'s queue.
#[derive(Debug, Default)]
pub struct Outbox {
    first: Option<Segment>,
    rest: Option<Box<Rest>>,
}

const _: () = assert!(size_of::<Outbox>() == 24);

#[derive(Debug, Default)]
struct Rest {
    queue: VecDeque<Segment>,
    /// Bytes in the queue.
    bytes: usize,
    /// Bytes that a vectored send took from here and the kernel has not confirmed.
    in_flight_bytes: usize,
    /// The same of a single segment, which is let out of the backlog, if it is large.
    lone_bytes: usize,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Bytes that wait or were taken by a vectored send still in flight.
    pub fn bytes(&self) -> usize {
        let rest = self.rest.as_ref().map_or(0, |rest| rest.bytes + rest.in_flight_bytes);
        self.first.as_ref().map_or(0, Segment::len) + rest
    }

    /// Bytes in memory: those that wait, and those in flight unless they are few.
    pub fn held_bytes(&self) -> usize {
        self.bytes() + self.rest.as_ref().map_or(0, |rest| rest.lone_bytes)
    }

    /// Appends a segment.
    pub fn push(&mut self, segment: Segment) {
        if self.first.is_none() {
            self.first = Some(segment);
            return;
        }
        let rest = self.rest.get_or_insert_default();
        rest.bytes += segment.len();
        rest.queue.push_back(segment);
    }

    /// Inserts a control frame ahead of queued data, but behind other control frames and never
    /// within a frame: `mid_frame` tells whether what was taken before ends within one.
    ///
    /// When very many wait, a pong takes the place of the one before it: only the most recent ping
    /// has to be answered (RFC 6455 section 5.5.3), and a peer that does not read must not fill
    /// memory with pings.
    pub fn push_control(&mut self, frame: Segment, mid_frame: bool) {
        let mut place = 0;
        let segments = || self.first.iter().chain(self.rest.iter().flat_map(|rest| &rest.queue));
        if mid_frame {
            place = segments().position(Segment::ends_frame).map_or(usize::MAX, |end| end + 1);
        }
        let controls = segments().skip(place).take_while(is_control).count();
        place = place.saturating_add(controls);
        if controls >= CONTROLS_MAX && is_pong(&frame) && self.is_pong_at(place - 1) {
            return self.replace(place - 1, frame);
        }
        let first = match (place, self.first.is_none()) {
            (_, true) => return self.push(frame),
            (0, _) => self.first.replace(frame),
            _ => Some(frame),
        };
        let Some(segment) = first else { return };
        let rest = self.rest.get_or_insert_default();
        rest.bytes += segment.len();
        let place = place.saturating_sub(1).min(rest.queue.len());
        rest.queue.insert(place, segment);
    }

    /// Takes as much as one send may carry.
    pub fn take(&mut self) -> Option<Outgoing> {
        let first = self.first.take()?;
        let Some(rest) = self.rest.as_deref_mut().filter(|rest| !rest.queue.is_empty()) else {
            if first.len() >= LARGE_BYTES {
                self.rest.get_or_insert_default().lone_bytes = first.len();
            }
            return Some(Outgoing::One(first));
        };
        let count = rest.queue.len().min(VECTORS_MAX - 1);
        let first_bytes = first.len();
        let mut segments = Vec::with_capacity(count + 1);
        segments.push(first);
        segments.extend(rest.queue.drain(..count));
        let queued_bytes: usize = segments[1..].iter().map(Segment::len).sum();
        rest.bytes -= queued_bytes;
        rest.in_flight_bytes = first_bytes + queued_bytes;
        self.refill();
        Some(Outgoing::Many(segments))
    }

    /// Takes note that the send in flight completed; what it left over is put back in front.
    pub fn complete(&mut self, leftover: impl DoubleEndedIterator<Item = Segment>) {
        if let Some(rest) = &mut self.rest {
            (rest.in_flight_bytes, rest.lone_bytes) = (0, 0);
        }
        let mut leftover = leftover.rev().peekable();
        // Control frames queued meanwhile would be overtaken by later ones if they stayed behind
        // the data that comes back.
        let comes_between = leftover.peek().is_some_and(|last| !is_control(&last));
        let controls = if comes_between { self.take_controls() } else { Vec::new() };
        for segment in leftover {
            if let Some(second) = self.first.replace(segment) {
                let rest = self.rest.get_or_insert_default();
                rest.bytes += second.len();
                rest.queue.push_front(second);
            }
        }
        for frame in controls {
            self.push_control(frame, true);
        }
        if self.rest.as_ref().is_some_and(|rest| rest.queue.is_empty()) {
            self.rest = None;
        }
    }

    /// Drops shared messages, oldest first, until at most `bytes` wait; returns how many messages.
    /// With `mid_frame` the first segment has been sent in part and stays.
    pub fn drop_messages(&mut self, bytes: usize, mid_frame: bool) -> u64 {
        let mut excess = self.bytes().saturating_sub(bytes);
        if excess == 0 {
            return 0;
        }
        let mut dropped = 0;
        let mut gives_way = |segment: &Segment| {
            let gives_way = excess > 0 && matches!(segment, Segment::Shared { .. });
            if gives_way {
                excess = excess.saturating_sub(segment.len());
                dropped += messages(segment);
            }
            gives_way
        };
        if !mid_frame && self.first.as_ref().is_some_and(&mut gives_way) {
            self.first = None;
        }
        if let Some(rest) = self.rest.as_deref_mut() {
            rest.queue.retain(|segment| {
                let stays = !gives_way(segment);
                rest.bytes -= if stays { 0 } else { segment.len() };
                stays
            });
        }
        self.refill();
        dropped
    }

    /// Drops everything of which nothing has been sent, and returns how many shared messages were
    /// among it; receive buffers are given back through `release`. With `mid_frame` the first
    /// frame has been sent in part and stays.
    pub fn drop_unsent(&mut self, mid_frame: bool, mut release: impl FnMut(BufferSlice)) -> u64 {
        let mut segments: Vec<_> = self.first.take().into_iter().collect();
        if let Some(rest) = self.rest.as_deref_mut() {
            rest.bytes = 0;
            segments.extend(std::mem::take(&mut rest.queue));
        }
        let (mut stays, mut dropped) = (mid_frame, 0);
        for segment in segments {
            if stays {
                stays = !segment.ends_frame();
                self.push(segment);
                continue;
            }
            dropped += messages(&segment);
            if let Segment::Buffer { slice, .. } = segment {
                release(slice);
            }
        }
        dropped
    }

    /// Drops everything; receive buffers are given back through `release`.
    pub fn clear(&mut self, mut release: impl FnMut(BufferSlice)) {
        let rest = self.rest.take().map(|rest| rest.queue).unwrap_or_default();
        for segment in self.first.take().into_iter().chain(rest) {
            if let Segment::Buffer { slice, .. } = segment {
                release(slice);
            }
        }
    }

    /// Replaces receive buffers by copies, which may wait for the peer as long as it takes.
    pub fn detach(&mut self, mut copy: impl FnMut(Segment) -> Segment) {
        let rest = self.rest.iter_mut().flat_map(|rest| &mut rest.queue);
        for segment in self.first.iter_mut().chain(rest) {
            if matches!(segment, Segment::Buffer { .. }) {
                let lent = std::mem::replace(segment, Segment::owned(Vec::new(), true));
                *segment = copy(lent);
            }
        }
    }

    /// Takes out the control frames: they lie together, in front or behind the first frame's end.
    fn take_controls(&mut self) -> Vec<Segment> {
        let mut controls: Vec<_> =
            self.first.take_if(|first| is_control(&&*first)).into_iter().collect();
        let Some(rest) = self.rest.as_deref_mut() else { return controls };
        let start = match &self.first {
            Some(first) if !first.ends_frame() => {
                let end = rest.queue.iter().position(Segment::ends_frame);
                end.map_or(rest.queue.len(), |end| end + 1)
            }
            _ => 0,
        };
        let count = rest.queue.iter().skip(start).take_while(is_control).count();
        let queued = rest.queue.drain(start..start + count);
        controls.extend(queued.inspect(|frame| rest.bytes -= frame.len()));
        self.refill();
        controls
    }

    fn is_pong_at(&self, place: usize) -> bool {
        match place.checked_sub(1) {
            None => self.first.as_ref().is_some_and(is_pong),
            Some(place) => {
                self.rest.as_ref().and_then(|rest| rest.queue.get(place)).is_some_and(is_pong)
            }
        }
    }

    fn replace(&mut self, place: usize, segment: Segment) {
        let Some(place) = place.checked_sub(1) else {
            self.first = Some(segment);
            return;
        };
        let rest = self.rest.get_or_insert_default();
        if let Some(replaced) = rest.queue.get_mut(place) {
            rest.bytes = rest.bytes - replaced.len() + segment.len();
            *replaced = segment;
        }
    }

    fn refill(&mut self) {
        if self.first.is_none()
            && let Some(rest) = &mut self.rest
            && let Some(segment) = rest.queue.pop_front()
        {
            rest.bytes -= segment.len();
            self.first = Some(segment);
        }
    }
}

fn is_control(segment: &&Segment) -> bool {
    matches!(segment, Segment::Owned { control: true, .. })
}

/// Whether a segment is a pong of which nothing has been sent.
fn is_pong(segment: &Segment) -> bool {
    const FIRST_BYTE: u8 = 0x80 | OpCode::Pong as u8;
    matches!(segment, Segment::Owned { bytes, offset: 0, control: true, .. }
        if bytes.first() == Some(&FIRST_BYTE))
}

/// Messages in a segment that no policy has touched yet.
fn messages(segment: &Segment) -> u64 {
    match segment {
        Segment::Shared { frames, offset: 0 } => u64::from(frames.messages()),
        Segment::Shared { .. } => 1,
        Segment::Buffer { .. } | Segment::Owned { .. } => 0,
    }
}

/// Segments of one vectored send: enough to make a crossing cheap, far below `IOV_MAX`.
const VECTORS_MAX: usize = 64;
/// What a single segment must hold to be counted while it is in flight.
const LARGE_BYTES: usize = 16 * 1024;
/// Control frames that wait before pongs replace each other: more than come in one second.
const CONTROLS_MAX: usize = 1024;

#[cfg(test)]
mod tests;
