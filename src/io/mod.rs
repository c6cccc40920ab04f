//! The only place that names io_uring.
//!
//! [`Io`] is what an event loop needs of a kernel: requests go in, are submitted together once a
//! tick, and come back as [`Event`]s. [`Ring`] is the real one; tests plug in a simulated one.
//!
//! > The tick: reap all completions, act on each, queue requests, submit once with the wait.

mod accept;
pub mod activation;
mod buffers;
mod connect;
mod enter;
mod half_close;
pub mod inheritance;
pub mod listener;
mod message;
pub mod probe;
mod queues;
mod ring;
mod send;
mod sleeps;
mod socket_option;
mod token;
pub mod waker;

use std::ops::Range;
use std::time::Duration;

use crate::config::PeerAddress;
pub use buffers::BufferSlice;
pub use connect::bind_source;
pub use ring::{Ring, RingOptions};
pub use send::{Outgoing, SEND_BYTES_MAX, Segment};
pub use token::{Key, Ticket};

/// A connection's place in the ring's table of registered files (a direct descriptor): not a file
/// descriptor of the process, so `RLIMIT_NOFILE` bounds the table of a ring, not their sum.
pub type Slot = u32;

/// Slots of a table at the most: `IORING_MAX_FIXED_FILES`, kernel 5.13.
pub const SLOTS_MAX: u32 = 1 << 20;

/// The error number of a failed request.
pub type Errno = i32;

/// The result of a completion.
fn check(result: i32) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| -result)
}

/// One completed request.
#[derive(Debug)]
pub enum Event {
    /// A listener accepted a connection into a slot, or could not.
    Accepted {
        /// Which listener, by its number at set-up.
        listener: u32,
        /// The new connection's slot.
        result: Result<Slot, Errno>,
        /// The address of its peer, where the accept was to tell it.
        address: Option<PeerAddress>,
        /// Whether the multishot accept goes on.
        more: bool,
    },
    /// Bytes arrived: `Ok(None)` is the end of the stream.
    Received {
        /// Whose.
        key: Key,
        /// The bytes; release the slice when done.
        result: Result<Option<BufferSlice>, Errno>,
        /// Whether the multishot receive goes on.
        more: bool,
    },
    /// A parked connection has something to receive, or its poll was cancelled.
    Readable {
        /// Whose.
        key: Key,
    },
    /// A send completed, perhaps short.
    Sent {
        /// Whose.
        key: Key,
        /// Bytes the kernel took.
        result: Result<usize, Errno>,
        /// What was to be sent, given back.
        outgoing: Outgoing,
    },
    /// The end of the stream was sent, or not, when the last send before it was not whole.
    Finished {
        /// Whose.
        key: Key,
    },
    /// Both directions are shut down.
    ShutDown {
        /// Whose.
        key: Key,
    },
    /// The socket is set to reset its peer when it is closed, or could not be.
    ResetArmed {
        /// Whose.
        key: Key,
    },
    /// Whether there is something to receive, be it the end of the stream or an error.
    Looked {
        /// Whose.
        key: Key,
        /// Whether there is.
        has_input: bool,
    },
    /// How much of what was sent the peer has not acknowledged.
    Measured {
        /// Whose.
        key: Key,
        /// Bytes; `None` when the kernel does not tell.
        unread_bytes: Option<u32>,
    },
    /// The socket has been handed over to another ring, or could not be and is where it was.
    HandedOver {
        /// Whose.
        key: Key,
        /// `ENFILE` when no slot is free there, `EBADFD` when the ring is gone; `EOVERFLOW` when it
        /// was handed over and the other ring could not be told.
        result: Result<(), Errno>,
    },
    /// Another ring has handed over a socket; it is in a slot of this one.
    Adopted {
        /// By which the other ring names it as well.
        ticket: Ticket,
        /// Its slot here.
        slot: Slot,
    },
    /// The slot is free again.
    Closed {
        /// Whose it was.
        key: Key,
    },
    /// Another thread wants attention.
    Woken,
}

/// The kernel, as an event loop sees it.
///
/// Requests are queued, not made: they start with the next [`Io::submit`]. At most one request of
/// each kind may be under way for a connection; every one of them ends in an event.
pub trait Io {
    /// Accepts connections on `listener` until cancelled, out of slots, or, where other shards
    /// accept from the same queue, until the first.
    fn accept(&mut self, listener: u32);
    /// Accepts one connection on `listener` and tells who has connected; several may wait.
    fn accept_with_address(&mut self, listener: u32);
    /// Ends all accepts on `listener`.
    fn cancel_accept(&mut self, listener: u32);
    /// Closes this loop's copies of its listeners, on which no accept is under way nor will be;
    /// what waits in their queues is for whoever else has them.
    fn stop_listening(&mut self);
    /// Receives again and again into buffers the kernel chooses.
    fn receive(&mut self, key: Key, slot: Slot);
    /// Receives once, into one buffer; in all else as [`Io::receive`].
    fn receive_once(&mut self, key: Key, slot: Slot);
    /// Ends a receive: its last event has `more` unset.
    fn cancel_receive(&mut self, key: Key);
    /// Waits, once, until there is something to receive; costs the kernel less than a receive.
    fn poll(&mut self, key: Key, slot: Slot);
    /// Asks whether there is something to receive, and receives nothing.
    fn look(&mut self, key: Key, slot: Slot);
    /// Asks how much of what was sent the peer has not acknowledged (kernel 6.7).
    fn measure(&mut self, key: Key, slot: Slot);
    /// Ends a poll.
    fn cancel_poll(&mut self, key: Key);
    /// Sends at most [`SEND_BYTES_MAX`]; a payload that holds a receive buffer is never left
    /// waiting for the peer.
    fn send(&mut self, key: Key, slot: Slot, outgoing: Outgoing);
    /// Sends what is the last and shuts down the sending side behind it, so that the end of the
    /// stream travels in the same packet. When the send is short or fails, the side stays open.
    /// Ends in two events. The payload holds no receive buffer, and fits into one send.
    fn send_last(&mut self, key: Key, slot: Slot, outgoing: Outgoing);
    /// Shuts down the sending side: the peer is told the end of the stream.
    fn finish(&mut self, key: Key, slot: Slot);
    /// Shuts down both directions: what waits for the peer ends.
    fn shutdown(&mut self, key: Key, slot: Slot);
    /// Makes the coming close reset the peer; false when the kernel cannot.
    fn arm_reset(&mut self, key: Key, slot: Slot) -> bool;
    /// Hands the socket over to the ring of another participant of the mesh, in whose events it is
    /// [`Event::Adopted`] with this `ticket` (kernel 6.0). Nothing else may be under way for the
    /// connection. The slot keeps the socket as well until it is closed.
    fn hand_over(&mut self, key: Key, slot: Slot, participant: usize, ticket: Ticket);
    /// Whether the kernel can do that.
    fn can_hand_over(&self) -> bool;
    /// Closes the socket, unless another ring has it as well, and frees the slot.
    fn close(&mut self, key: Key, slot: Slot);
    /// Wakes the event loop of another participant of the mesh.
    fn wake(&mut self, participant: usize);

    /// The bytes of a received slice. The ring panics when the slice is not its own.
    fn bytes(&mut self, slice: &BufferSlice) -> &mut [u8];
    /// A further slice within `slice`.
    fn split(&mut self, slice: &BufferSlice, range: Range<usize>) -> BufferSlice;
    /// Receive buffers that the kernel may fill, with those that it gets with the next submit.
    fn free_receive_buffers(&self) -> usize;
    /// Gives a slice back.
    fn release(&mut self, slice: BufferSlice);

    /// Starts what is queued and waits for an event: not at all with `Some(0)`, without end with
    /// `None`. Then takes all events that are there.
    ///
    /// # Errors
    /// When the kernel refuses to go on, which only a bug or lack of memory brings about.
    fn submit(&mut self, wait: Option<Duration>) -> std::io::Result<()>;
    /// Whether the thread has had nothing to do since last asked: it has waited for something.
    fn has_slept(&mut self) -> bool;
    /// The next event taken.
    fn next_event(&mut self) -> Option<Event>;
}
