//! How far the end of a connection has come on its shard.
//!
//! ```text
//! Open --> Finishing --> Finished       each of these --> Doomed --> ShutDown
//!  | ^         ^------------/                               ^
//!  v |          the last send was short                     |
//! Leaving --------------------------------------------------/
//! ```
//!
//! It goes on, and back in two cases alone: a last send was short, so that no end of the stream
//! followed it, and a connection that was to move to another shard stays. That the peer has ended
//! its side is another matter (`Marks::PEER_FINISHED`), and so is the closing handshake of a
//! WebSocket.

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It goes on.
    #[default]
    Open,
    /// After what is queued, no more will be sent.
    Finishing,
    /// Our FIN is out, or follows the send in flight.
    Finished,
    /// On its way to another shard (`shard/moves.rs`): nothing else is begun with it, and unless it
    /// stays it is closed here when nothing is under way.
    Leaving,
    /// Given up, or gone to another shard: it is closed as soon as nothing is under way.
    Doomed,
    /// Both directions have been, or are being, shut down as well, to end what waits for the peer.
    ShutDown,
}

impl Ending {
    /// Nothing will be sent after what is queued.
    pub fn finish(&mut self) {
        debug_assert!(!self.is_over(), "nothing is sent any more");
        *self = Self::Finishing.max(*self);
    }

    /// The end of the stream is sent, alone or behind the send that starts now.
    pub fn send_end(&mut self) {
        debug_assert_eq!(*self, Self::Finishing, "the end is sent once");
        *self = Self::Finished;
    }

    /// A send was short: what was to be the last was not, and no end of the stream followed it.
    pub fn take_back_end(&mut self) {
        if *self == Self::Finished {
            *self = Self::Finishing;
        }
    }

    /// It is to go to another shard.
    pub fn leave(&mut self) {
        debug_assert_eq!(*self, Self::Open, "what ends does not move");
        *self = Self::Leaving;
    }

    /// It does not go after all.
    pub fn stay(&mut self) {
        debug_assert_eq!(*self, Self::Leaving, "it was to leave");
        *self = Self::Open;
    }

    /// It is given up, or has left.
    pub fn doom(&mut self) {
        debug_assert!(*self < Self::Doomed, "once");
        *self = Self::Doomed;
    }

    /// What waits for the peer is ended by force.
    pub fn shut_down(&mut self) {
        debug_assert_eq!(*self, Self::Doomed, "what is given up, and once");
        *self = Self::ShutDown;
    }

    /// Whether the end has begun; leaving for another shard is none.
    pub fn has_begun(self) -> bool {
        !matches!(self, Self::Open | Self::Leaving)
    }

    /// Whether no more will be sent after what is queued, or the end of the stream has been.
    pub fn is_finishing(self) -> bool {
        matches!(self, Self::Finishing | Self::Finished)
    }

    /// Whether nothing is begun with the connection here any more: it leaves, or is given up.
    pub fn is_over(self) -> bool {
        self >= Self::Leaving
    }
}
