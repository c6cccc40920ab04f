//! What the kernel has been asked for on behalf of a connection, in the terms of [`Io`].
//!
//! [`Io`]: crate::io::Io

use bitflags::bitflags;

bitflags! {
    /// The requests that are under way: at most one of each kind, and each ends in an event.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Requests: u16 {
        /// A receive, multishot or of one buffer.
        const RECEIVE = 1;
        /// That has been asked to end.
        const RECEIVE_CANCELLED = 1 << 1;
        /// A one-shot poll.
        const POLL = 1 << 2;
        /// A send.
        const SEND = 1 << 3;
        /// The end of the sending side, behind the last send or alone.
        const FINISH = 1 << 4;
        /// The end of both directions.
        const SHUTDOWN = 1 << 5;
        /// The socket option that makes the close reset the peer.
        const RESET = 1 << 6;
        /// The look for something that has arrived.
        const LOOK = 1 << 7;
        /// The question how much the peer has not taken yet.
        const MEASURE = 1 << 8;
        /// The hand-over of the socket to another shard.
        const HAND_OVER = 1 << 9;
        /// The close of the slot.
        const CLOSE = 1 << 10;
    }
}

impl Requests {
    /// Takes note of requests that are made now.
    pub fn begin(&mut self, requests: Self) {
        debug_assert!(!self.intersects(requests), "one of each kind at a time");
        self.insert(requests);
    }

    /// Takes note of the last event of a request.
    pub fn end(&mut self, request: Self) {
        debug_assert!(self.intersects(request), "only what was begun ends");
        self.remove(request);
    }

    /// Whether one has not ended, and so the slot must not be closed.
    pub fn is_any_under_way(self) -> bool {
        !self.is_empty()
    }
}
