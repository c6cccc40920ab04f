//! What waits to be sent on one connection, in order, while one send is in flight.
//!
//! One segment lies inline; only a connection that falls behind owns a queue.

use std::collections::VecDeque;

use crate::io::{BufferSlice, Outgoing, Segment};

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
    pub fn push_control(&mut self, frame: Segment, mid_frame: bool) {
        let mut place = 0;
        let segments = || self.first.iter().chain(self.rest.iter().flat_map(|rest| &rest.queue));
        if mid_frame {
            place = segments().position(Segment::ends_frame).map_or(usize::MAX, |end| end + 1);
        }
        let control = segments().skip(place).take_while(|segment| is_control(segment));
        place = place.saturating_add(control.count());
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

    /// Takes note that the send in flight completed; what it left over is put back in front, with
    /// its first segment sent in part.
    pub fn complete(&mut self, leftover: impl DoubleEndedIterator<Item = Segment>) {
        if let Some(rest) = &mut self.rest {
            rest.in_flight_bytes = 0;
        }
        let mut leftover = leftover.rev().peekable();
        // Control frames keep their place ahead of data, and with it their order.
        let waiting = if leftover.peek().is_some() { self.take_control() } else { Vec::new() };
        for segment in leftover {
            if let Some(second) = self.first.replace(segment) {
                let rest = self.rest.get_or_insert_default();
                rest.bytes += second.len();
                rest.queue.push_front(second);
            }
        }
        for frame in waiting {
            self.push_control(frame, true);
        }
        if self.rest.as_ref().is_some_and(|rest| rest.queue.is_empty()) {
            self.rest = None;
        }
    }

    /// Takes out the control frames that wait.
    fn take_control(&mut self) -> Vec<Segment> {
        let mut taken = Vec::new();
        if let Some(rest) = &mut self.rest
            && rest.queue.iter().any(is_control)
        {
            let queue = std::mem::take(&mut rest.queue);
            for segment in queue {
                match is_control(&segment) {
                    true => taken.push(segment),
                    false => rest.queue.push_back(segment),
                }
            }
            rest.bytes -= taken.iter().map(Segment::len).sum::<usize>();
        }
        if self.first.as_ref().is_some_and(is_control) {
            taken.extend(self.first.take());
            taken.rotate_right(1);
            self.refill();
        }
        taken
    }

    /// Drops shared messages, oldest first, until at most `bytes` wait; returns how many messages.
    /// With `mid_frame` the first segment has been sent in part and stays.
    pub fn drop_messages(&mut self, bytes: usize, mid_frame: bool) -> u64 {
        let mut excess = self.bytes().saturating_sub(bytes);
        let mut dropped = 0;
        let mut drops = |segment: &Segment| {
            let drops = excess > 0 && matches!(segment, Segment::Shared { .. });
            if drops {
                excess = excess.saturating_sub(segment.len());
                dropped += messages(segment);
            }
            drops
        };
        if !mid_frame && self.first.as_ref().is_some_and(&mut drops) {
            self.first = None;
        }
        if let Some(Rest { queue, bytes, .. }) = self.rest.as_deref_mut() {
            queue.retain(|segment| {
                let drops = drops(segment);
                *bytes -= if drops { segment.len() } else { 0 };
                !drops
            });
        }
        self.refill();
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

fn is_control(segment: &Segment) -> bool {
    matches!(segment, Segment::Owned { control: true, .. })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frames::Frames;
    use std::rc::Rc;
    use std::sync::Arc;

    fn shared(byte: u8) -> Segment {
        let frames = Rc::new(Frames::one(Arc::new(vec![byte; 10])));
        Segment::Shared { frames, offset: 0 }
    }

    /// The first byte of each segment, in order.
    fn content(outbox: &mut Outbox) -> Vec<u8> {
        let segments = match outbox.take() {
            None => Vec::new(),
            Some(Outgoing::One(segment)) => vec![segment],
            Some(Outgoing::Many(segments)) => segments,
        };
        let first_byte = |segment: &Segment| match segment {
            Segment::Shared { frames, .. } => frames.bytes()[0],
            Segment::Owned { bytes, .. } => bytes[0],
            Segment::Buffer { .. } => 0,
        };
        segments.iter().map(first_byte).collect()
    }

    #[test]
    fn the_oldest_messages_are_dropped_first() {
        for (room, expected) in [(30, &[1, 2, 3][..]), (29, &[2, 3]), (10, &[3]), (9, &[])] {
            let mut outbox = Outbox::default();
            (1..=3).for_each(|byte| outbox.push(shared(byte)));
            assert_eq!(outbox.drop_messages(room, false), 3 - expected.len() as u64);
            assert_eq!(outbox.bytes(), 10 * expected.len());
            assert_eq!(content(&mut outbox), expected);
        }
    }

    #[test]
    fn what_is_half_sent_or_no_message_is_not_dropped() {
        let mut outbox = Outbox::default();
        outbox.push(shared(1));
        outbox.push(Segment::owned(vec![2], true));
        outbox.push(shared(3));
        outbox.push_control(Segment::control(vec![4]), true);
        assert_eq!(outbox.drop_messages(0, true), 1);
        assert_eq!(content(&mut outbox), [1, 4, 2]);
    }
}
