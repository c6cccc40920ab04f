//! What the floor knows of a connection: how many bytes came, and what has to go out.

use ringwire::io::{Io, Outgoing, Segment, Slot};

use crate::frame::ConstantFrames;

/// One connection.
pub struct Connection {
    /// Its place in the ring's table of registered files.
    pub slot: Slot,
    /// The request head so far; `None` once the connection is upgraded.
    pub request: Option<Vec<u8>>,
    /// Bytes of frames received.
    pub received_bytes: u64,
    /// Whole constant frames to send after what is queued.
    pub owed_frames: u32,
    /// To be sent first.
    queue: Vec<Segment>,
    /// Whether a receive is under way.
    pub receiving: bool,
    /// Whether a send is under way.
    pub sending: bool,
    /// Whether the connection ends as soon as nothing is under way.
    pub doomed: bool,
    /// Whether the slot is being closed.
    pub closing: bool,
    /// Whether it is listed to be sent to.
    pub dirty: bool,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(slot: Slot) -> Self {
        Self {
            slot,
            request: Some(Vec::new()),
            received_bytes: 0,
            owed_frames: 0,
            queue: Vec::new(),
            receiving: false,
            sending: false,
            doomed: false,
            closing: false,
            dirty: false,
        }
    }

    /// Queues a segment.
    pub fn push(&mut self, segment: Segment) {
        self.queue.push(segment);
    }

    /// What the next send carries.
    pub fn take(&mut self, constant: &ConstantFrames) -> Option<Outgoing> {
        if let Some(only) = self.queue.pop() {
            if self.queue.is_empty() {
                return Some(Outgoing::One(only));
            }
            self.queue.push(only);
            let rest = self.queue.split_off(self.queue.len().min(VECTORS_MAX));
            return Some(Outgoing::Many(std::mem::replace(&mut self.queue, rest)));
        }
        if self.owed_frames == 0 {
            return None;
        }
        let (segment, frames) = constant.segment(self.owed_frames);
        self.owed_frames -= frames;
        Some(Outgoing::One(segment))
    }

    /// Whether something waits to be sent.
    pub fn has_output(&self) -> bool {
        self.owed_frames > 0 || !self.queue.is_empty()
    }

    /// Queues again, ahead of the rest, what the kernel did not take, in memory of its own.
    pub fn put_back(&mut self, io: &mut impl Io, mut sent: usize, outgoing: Outgoing) {
        let segments = match outgoing {
            Outgoing::One(segment) => vec![segment],
            Outgoing::Many(segments) => segments,
        };
        let mut leftover = Vec::new();
        for mut segment in segments {
            let taken = sent.min(segment.len());
            sent -= taken;
            segment.advance(taken);
            let is_left = !segment.is_empty();
            let detached = detached(io, segment);
            if is_left {
                leftover.push(detached);
            }
        }
        let queue = std::mem::take(&mut self.queue);
        leftover.extend(queue.into_iter().map(|segment| detached(io, segment)));
        self.queue = leftover;
    }

    /// Drops everything that waits.
    pub fn clear(&mut self, io: &mut impl Io) {
        self.owed_frames = 0;
        for segment in self.queue.drain(..) {
            release(io, segment);
        }
    }
}

/// The same bytes without a receive buffer: those must not wait for a peer to read.
pub fn detached(io: &mut impl Io, segment: Segment) -> Segment {
    match segment {
        Segment::Buffer { slice, ends_frame } => {
            let bytes = io.bytes(&slice).to_vec();
            io.release(slice);
            Segment::owned(bytes, ends_frame)
        }
        segment => segment,
    }
}

/// Gives back the receive buffers of what has been sent.
pub fn release_all(io: &mut impl Io, outgoing: Outgoing) {
    match outgoing {
        Outgoing::One(segment) => release(io, segment),
        Outgoing::Many(segments) => segments.into_iter().for_each(|segment| release(io, segment)),
    }
}

fn release(io: &mut impl Io, segment: Segment) {
    if let Segment::Buffer { slice, .. } = segment {
        io.release(slice);
    }
}

/// Segments of one vectored send, as many as the server's.
const VECTORS_MAX: usize = 64;
