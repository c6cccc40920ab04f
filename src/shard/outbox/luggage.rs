//! What waits in an outbox while its connection moves to another shard: in memory that another
//! thread may own. What shards share anyway goes along as it is, and the rest is copied.

use std::rc::Rc;

use super::Outbox;
use crate::io::Segment;
use crate::wire::frames::Frames;

/// All that an outbox holds, between two sends.
#[derive(Debug, Default)]
pub struct Luggage {
    committed: Option<Parcel>,
    /// Control frames and responses, then the queue.
    waiting: Vec<Parcel>,
    is_mid_frame: bool,
}

/// A segment without a reference that only its thread may count.
#[derive(Debug)]
enum Parcel {
    Published { frames: Frames, offset: u32 },
    Owned { bytes: Vec<u8>, offset: u32, ends_frame: bool, control: bool },
}

impl Outbox {
    /// Takes out everything. No send is in flight, and nothing lies in a receive buffer
    /// ([`detach`](Self::detach)).
    pub fn pack(&mut self) -> Luggage {
        let first = self.first.take();
        let Some(behind) = self.behind.take() else {
            let waiting = first.into_iter().map(Parcel::of_waiting).collect();
            return Luggage { waiting, ..Luggage::default() };
        };
        debug_assert!(first.is_none() && behind.in_flight_bytes == 0 && behind.lent == 0);
        let waiting = behind.controls.into_iter().chain(behind.queue);
        Luggage {
            committed: behind.committed.map(Parcel::of_committed),
            waiting: waiting.map(Parcel::of_waiting).collect(),
            is_mid_frame: behind.is_mid_frame,
        }
    }

    /// An outbox that goes on where the one was that has been packed. As nobody knows here how long
    /// things have waited, all count as if they had been published in this `generation`.
    pub fn unpack(luggage: Luggage, generation: u32) -> Self {
        let mut outbox = Self::default();
        if luggage.committed.is_some() || luggage.is_mid_frame {
            let behind = outbox.behind.get_or_insert_default();
            behind.is_mid_frame = luggage.is_mid_frame;
            if let Some(segment) = luggage.committed.map(Segment::from) {
                behind.count_in(&segment);
                behind.committed = Some(segment);
            }
        }
        for parcel in luggage.waiting {
            outbox.push_published(parcel.into(), generation);
        }
        outbox
    }
}

impl Parcel {
    /// Of a segment that begins with a message, if it is one that was published.
    fn of_waiting(segment: Segment) -> Self {
        match segment {
            Segment::Shared { frames, offset: 0 } => {
                Self::Published { frames: Rc::unwrap_or_clone(frames), offset: 0 }
            }
            Segment::Excerpt(excerpt) => {
                Self::Published { frames: excerpt.into_frames(), offset: 0 }
            }
            segment => Self::of_committed(segment),
        }
    }

    /// Of a segment that may begin anywhere: it is never dropped, so nobody counts its messages.
    fn of_committed(segment: Segment) -> Self {
        match segment {
            Segment::Owned { bytes, offset, ends_frame, control } => {
                Self::Owned { bytes: *bytes, offset, ends_frame, control }
            }
            Segment::Shared { frames, offset } if frames.messages() == 1 => {
                Self::Published { frames: Rc::unwrap_or_clone(frames), offset }
            }
            Segment::Shared { frames, offset } => Self::copied(&frames.bytes()[offset as usize..]),
            Segment::Excerpt(excerpt) => Self::copied(excerpt.bytes()),
            Segment::Buffer { .. } => {
                debug_assert!(false, "receive buffers stay where they are");
                Self::copied(&[])
            }
        }
    }

    fn copied(bytes: &[u8]) -> Self {
        Self::Owned { bytes: bytes.to_vec(), offset: 0, ends_frame: true, control: false }
    }
}

impl From<Parcel> for Segment {
    fn from(parcel: Parcel) -> Self {
        match parcel {
            Parcel::Published { frames, offset } => {
                Self::Shared { frames: Rc::new(frames), offset }
            }
            Parcel::Owned { bytes, offset, ends_frame, control } => {
                Self::Owned { bytes: Box::new(bytes), offset, ends_frame, control }
            }
        }
    }
}
