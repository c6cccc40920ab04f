//! Connects every participant (shards, the control thread) to every other by broadcast rings, and
//! by mail to one of them (`mesh/mail.rs`).
//!
//! Nothing here blocks or wakes anybody: an endpoint says when its owner may block and whom the
//! owner has to wake, once a tick, so that the price of not losing a wake-up is one fence a tick
//! and not one a message.
//!
//! # Why no wake-up is lost
//! Two threads each write one thing and then read the other's (Dekker's pattern); a SeqCst fence
//! between the write and the read on both sides rules out that both read the old state.
//!
//! 1. A message. The publisher stores the ring's `tail`, fences in `take_wakeups`, reads
//!    `sleeping`. The reader stores `sleeping`, fences in `prepare_sleep`, reads `tail`. If the
//!    publisher's fence is first, the reader sees the message and stays awake; otherwise the
//!    publisher sees `sleeping` and wakes it.
//!    A letter is the same with `ready` of its slot in place of `tail`.
//! 2. Room. The reader stores its cursor, fences in `take_wakeups`, reads `waiting_for_room`,
//!    `sleeping` and the other readers' cursors. The publisher stores both flags, fences in
//!    `prepare_sleep`, reads all cursors. Of the readers that make room together, the one whose
//!    fence is last sees the room that all of them made; if the publisher's fence is still later,
//!    it sees the room itself and stays awake, otherwise that reader wakes it.
//!
//! `sleeping` changes by swap, so exactly one of several wakers wakes. One that comes too late to
//! find it set may rely on the other: the sleeper, once woken, goes through `prepare_sleep` before
//! it blocks again, and the argument starts anew. The owner swaps too, although storing would do:
//! each change then reads the one before, an order that a model checker can follow. Flags are
//! Relaxed everywhere: the fences order them, and what is in the slots is guarded by the ring.

use std::collections::VecDeque;
use std::iter;
use std::marker::PhantomData;
use std::mem;

#[cfg(ringwire_loom)]
use loom::sync;
#[cfg(not(ringwire_loom))]
use std::sync;

use sync::Arc;
use sync::atomic::{AtomicBool, Ordering, fence};

use super::inbox::{Address, Inbox};
use super::ring::{CachePadded, Producer, Reader, ring};

mod mail;
pub use mail::LETTER_BYTES_MAX;

/// Makes the endpoints of a full mesh that carries messages of type `T` to all, and letters of
/// type `L` to one.
pub struct Mesh<T, L>(PhantomData<(T, L)>);

impl<T: Send + Sync, L: Send> Mesh<T, L> {
    /// Connects `participants` endpoints, each with a ring of `slots` messages (rounded up to a
    /// power of two) that all the others read, and an inbox. An endpoint's number is its place in
    /// the vector.
    ///
    /// # Panics
    /// When memory for the slots cannot be allocated.
    #[expect(clippy::new_ret_no_self, reason = "the mesh is nothing but its endpoints")]
    pub fn new(participants: usize, slots: usize) -> Vec<Endpoint<T, L>> {
        let (inboxes, addresses) = mail::inboxes(participants);
        let mut endpoints: Vec<Endpoint<T, L>> = Vec::with_capacity(participants);
        let mut rings: Vec<Vec<Reader<T>>> = Vec::with_capacity(participants);
        for inbox in inboxes {
            let (producer, readers) = ring(slots, participants - 1);
            rings.push(readers);
            endpoints.push(Endpoint {
                producer,
                outstanding: Outstanding::default(),
                peers: Vec::with_capacity(participants - 1),
                flags: Arc::new(CachePadded(Flags::new())),
                published: false,
                drained: false,
                posted: false,
                wakeups: Vec::with_capacity(participants - 1),
                inbox,
                addresses: addresses.clone(),
            });
        }
        let flags: Vec<_> = endpoints.iter().map(|endpoint| endpoint.flags.clone()).collect();
        for (from, (readers, flags)) in rings.into_iter().zip(flags).enumerate() {
            let others = endpoints.iter_mut().enumerate().filter(|(number, _)| *number != from);
            for ((_, endpoint), reader) in others.zip(readers) {
                endpoint.peers.push(Peer {
                    number: from,
                    reader: Some(reader),
                    flags: flags.clone(),
                    drained: false,
                    posted: false,
                });
            }
        }
        endpoints
    }
}

/// One participant's end of a [`Mesh`]; moves to its thread and stays there.
///
/// A tick is: [`drain`](Self::drain) and [`publish`](Self::publish) in any order, then
/// [`take_wakeups`](Self::take_wakeups), then, if the thread would block,
/// [`prepare_sleep`](Self::prepare_sleep), and [`awake`](Self::awake) when it has blocked. An
/// endpoint that is no longer drained holds all others back: it must [`leave`](Self::leave).
pub struct Endpoint<T, L> {
    producer: Producer<T>,
    /// What the messages in it hold.
    outstanding: Outstanding,
    /// All other endpoints, by number.
    peers: Vec<Peer<T>>,
    flags: Arc<CachePadded<Flags>>,
    /// Whether something was published since the last `take_wakeups`.
    published: bool,
    /// Whether something was drained since the last `take_wakeups`.
    drained: bool,
    /// Whether a letter was sent since then.
    posted: bool,
    /// Endpoints whose `sleeping` this one has cleared and that its owner has not yet been told of.
    wakeups: Vec<usize>,
    inbox: Inbox<L>,
    /// The inboxes of all, by number.
    addresses: Vec<Address<L>>,
}

impl<T: Send + Sync, L: Send> Endpoint<T, L> {
    /// Sends `message` to all other endpoints; the owner delivers to its own side itself.
    ///
    /// Those asleep see it after the next [`take_wakeups`](Self::take_wakeups).
    ///
    /// # Errors
    /// Hands `message` back when the slowest endpoint is a whole ring behind, or so far behind that
    /// the messages it has not read hold [`OUTSTANDING_BYTES_MAX`]; `bytes` is what this one
    /// holds. From then on this endpoint counts as waiting for room, and is woken when there is
    /// some, until a message fits or `prepare_sleep` reports room.
    pub fn publish(&mut self, message: T, bytes: usize) -> Result<Published, T> {
        if self.outstanding.is_full() {
            self.reclaim();
        }
        let result = match self.outstanding.is_full() {
            true => Err(message),
            false => self.producer.push(message),
        };
        let waiting = result.is_err();
        if self.flags.waiting_for_room.load(Ordering::Relaxed) != waiting {
            self.flags.waiting_for_room.store(waiting, Ordering::Relaxed);
        }
        result?;
        self.outstanding.push(bytes);
        self.published = true;
        Ok(Published { room: self.producer.room() })
    }

    /// How many messages this endpoint has published.
    pub fn position(&self) -> u64 {
        self.producer.position()
    }

    /// How many messages of each participant this one has drained, or published, by number.
    pub fn positions(&self) -> Box<[u64]> {
        let mut positions: Box<[u64]> = vec![self.producer.position(); self.peers.len() + 1].into();
        for peer in &self.peers {
            positions[peer.number] = peer.reader.as_ref().map_or(0, Reader::position);
        }
        positions
    }

    /// Whether all others have drained as many of its messages, or have left.
    pub fn is_read_up_to(&self, position: u64) -> bool {
        self.producer.is_read_up_to(position)
    }

    /// Whether the next [`publish`](Self::publish) will succeed.
    pub fn has_room(&mut self) -> bool {
        if self.outstanding.is_full() {
            self.reclaim();
        }
        !self.outstanding.is_full() && self.producer.has_room()
    }

    /// Shows messages of all other endpoints to `visit`, with the number of the sender and how many
    /// it has sent before, and returns how many.
    ///
    /// At most `per_ring_limit` of each sender, in its order, and no more of it once `visit` has
    /// returned false; what is left keeps `prepare_sleep` from succeeding.
    pub fn drain(
        &mut self,
        per_ring_limit: usize,
        mut visit: impl FnMut(usize, u64, &T) -> bool,
    ) -> usize {
        let mut total = 0;
        for peer in &mut self.peers {
            let Some(reader) = &mut peer.reader else { continue };
            let visit = |position, message: &T| visit(peer.number, position, message);
            let count = reader.drain(per_ring_limit, visit);
            peer.drained |= count > 0;
            total += count;
        }
        self.drained |= total > 0;
        total
    }

    /// The endpoints to wake: those asleep that have been sent something, be it a letter, or whose
    /// full ring has room again.
    ///
    /// Call it once a tick, after draining and publishing. Each number is a debt: this endpoint
    /// alone has taken on to wake that one, so the owner retries until the wake-up is sent (or
    /// the other has left). What the iterator has not handed out when dropped comes again with
    /// the next call.
    pub fn take_wakeups(&mut self) -> impl Iterator<Item = usize> {
        let published = mem::take(&mut self.published);
        if mem::take(&mut self.drained) | mem::take(&mut self.posted) | published {
            // Pairs with the fence in `prepare_sleep`, and with this one of other readers of a
            // full ring.
            fence(Ordering::SeqCst);
            for peer in &mut self.peers {
                let drained = mem::take(&mut peer.drained);
                let posted = mem::take(&mut peer.posted);
                if peer.flags.sleeping.load(Ordering::Relaxed)
                    && (posted
                        || published && peer.flags.reads_rings()
                        || drained && peer.has_found_room())
                    && peer.flags.sleeping.swap(false, Ordering::Relaxed)
                {
                    self.wakeups.push(peer.number);
                }
            }
        }
        iter::from_fn(|| self.wakeups.pop())
    }

    /// Announces that the owner is about to block; true when it may, because whoever has
    /// something for it will wake it.
    ///
    /// False when there is something to do first: messages to drain, letters to read, room for a
    /// message that did not fit, or wake-ups not yet taken. Also drops this endpoint's messages
    /// that all others have read.
    pub fn prepare_sleep(&mut self) -> bool {
        self.reclaim();
        if self.published || self.drained || self.posted || !self.wakeups.is_empty() {
            return false;
        }
        self.flags.sleeping.swap(true, Ordering::Relaxed);
        // Pairs with the fences in `take_wakeups` and `leave` of every other endpoint.
        fence(Ordering::SeqCst);
        let found_room = self.flags.waiting_for_room.load(Ordering::Relaxed) && self.has_room();
        if found_room {
            self.flags.waiting_for_room.store(false, Ordering::Relaxed);
        }
        let has_mail = self.inbox.has_letter();
        let busy = found_room || has_mail || self.peers.iter().any(Peer::has_values);
        if busy {
            self.awake();
        }
        !busy
    }

    /// Says that the owner no longer blocks, whatever ended it, so that nobody spends a wake-up
    /// on it.
    pub fn awake(&mut self) {
        self.flags.sleeping.swap(false, Ordering::Relaxed);
    }

    /// Stops reading what is published, so that this endpoint holds no ring back and is not woken
    /// for that. It still gets letters.
    pub fn stop_reading_rings(&mut self) {
        self.flags.letters_alone.store(true, Ordering::Relaxed);
        for peer in &mut self.peers {
            peer.reader = None;
        }
    }

    /// Drops this endpoint's messages that all others have read, and returns how many are left.
    ///
    /// `prepare_sleep` does it too, but nobody wakes a sleeper for it: while it returns more than
    /// 0, an owner with large messages calls it from a timer.
    pub fn reclaim(&mut self) -> usize {
        let left = self.producer.reclaim();
        self.outstanding.settle(left);
        left
    }

    /// Leaves the mesh: holds nobody back any longer. Returns the endpoints to wake, as
    /// `take_wakeups` does.
    ///
    /// What it has published is still delivered; what it has not drained is not. Dropping an
    /// endpoint does the same, but wakes nobody who waits for the room.
    pub fn leave(mut self) -> Vec<usize> {
        let left: Vec<_> =
            self.peers.drain(..).map(|peer| (peer.number, peer.posted, peer.flags)).collect();
        // Pairs with the fence in `prepare_sleep`: the readers' cursors are gone before.
        fence(Ordering::SeqCst);
        let woken = left.into_iter().filter(|(_, posted, flags)| {
            let is_sent_to = *posted || self.published && flags.reads_rings();
            (is_sent_to || flags.waiting_for_room.load(Ordering::Relaxed))
                && flags.sleeping.swap(false, Ordering::Relaxed)
        });
        let mut wakeups = mem::take(&mut self.wakeups);
        wakeups.extend(woken.map(|(number, ..)| number));
        wakeups
    }
}

/// What [`Endpoint::publish`] has to say about a message that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// How many more messages surely fit; there may be more room, which [`Endpoint::has_room`]
    /// looks for.
    pub room: usize,
}

/// The sizes of the messages in a ring, oldest first: a ring is bounded in messages, and by this
/// in bytes.
#[derive(Default)]
struct Outstanding {
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Outstanding {
    fn push(&mut self, bytes: usize) {
        self.sizes.push_back(bytes);
        self.bytes += bytes;
    }

    /// Forgets all but the latest `left` messages.
    fn settle(&mut self, left: usize) {
        while self.sizes.len() > left {
            self.bytes -= self.sizes.pop_front().unwrap_or(0);
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= OUTSTANDING_BYTES_MAX
    }
}

/// Bytes in the unread messages of one endpoint at which it must wait: room for a few of the
/// largest default messages, and little against the memory of a machine with many shards.
pub const OUTSTANDING_BYTES_MAX: usize = 64 << 20;

/// Another endpoint, as seen from one.
struct Peer<T> {
    number: usize,
    /// Reads that endpoint's ring; absent when this one reads none.
    reader: Option<Reader<T>>,
    flags: Arc<CachePadded<Flags>>,
    /// Whether its ring was drained since the last `take_wakeups`.
    drained: bool,
    /// Whether a letter was sent to it since then.
    posted: bool,
}

impl<T: Send + Sync> Peer<T> {
    fn has_found_room(&self) -> bool {
        self.flags.waiting_for_room.load(Ordering::Relaxed)
            && self.reader.as_ref().is_some_and(Reader::ring_has_room)
    }

    fn has_values(&self) -> bool {
        self.reader.as_ref().is_some_and(Reader::has_values)
    }
}

/// What an endpoint tells all others about itself.
struct Flags {
    /// Set by the owner before it blocks; cleared by the owner or by whoever takes on to wake it.
    sleeping: AtomicBool,
    /// Set and cleared by the owner alone.
    waiting_for_room: AtomicBool,
    /// Set once by the owner, which reads no ring from then on. Whoever does not see it yet wakes
    /// the owner in vain.
    letters_alone: AtomicBool,
}

impl Flags {
    fn new() -> Self {
        Self {
            sleeping: AtomicBool::new(false),
            waiting_for_room: AtomicBool::new(false),
            letters_alone: AtomicBool::new(false),
        }
    }

    fn reads_rings(&self) -> bool {
        !self.letters_alone.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, ringwire_loom))]
mod loom_tests;
#[cfg(all(test, not(ringwire_loom)))]
mod tests;
