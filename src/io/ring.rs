//! One io_uring: requests in, events out.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::ops::Range;
use std::os::fd::RawFd;
use std::ptr;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed};
use io_uring::{IoUring, Submitter, cqueue, opcode, squeue};

use super::accept::{Accepts, Outcome};
use super::buffers::{BufferSlice, ReceiveBuffers};
use super::connect::Connects;
use super::enter::{Wait, keep_time_exactly};
use super::half_close::{HalfCloses, Installed};
use super::listener::ListeningSocket;
use super::message::{self, MESSAGE};
use super::probe::{Abilities, Ability, Refusal};
use super::queues::Queues;
use super::send::{InFlight, Outgoing, SEND_BYTES_MAX, Segment, Sending, Vectors, address};
use super::sleeps::Sleeps;
use super::token::{Key, Token, Verb};
use super::{Event, Io, Slot, Ticket, check, socket_option};

/// What a ring is made with.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// Optional abilities to use.
    pub abilities: Abilities,
    /// Slots of the registered-file table, at most `RLIMIT_NOFILE`.
    pub slots: u32,
    /// Receive buffers, a power of two up to 32,768.
    pub receive_buffers: u16,
    /// Bytes of a receive buffer.
    pub receive_buffer_bytes: u32,
    /// Microseconds to gather completions before a wait ends for fewer than a batch of them; needs
    /// [`Ability::MinWait`].
    pub batch_wait_us: Option<u32>,
}

/// The io_uring of one thread.
pub struct Ring {
    queues: Queues,
    buffers: ReceiveBuffers,
    in_flight: InFlight,
    /// Receives that have been queued and not ended.
    receives: usize,
    accepts: Accepts,
    sleeps: Sleeps,
    pub(super) connects: Connects,
    half_closes: HalfCloses,
    listeners: Vec<ListeningSocket>,
    /// The rings of the mesh's participants, for wake-ups.
    participants: Vec<RawFd>,
    socket_options: bool,
    can_hand_over: bool,
    batch_wait_us: Option<u32>,
    receive_buffer_bytes: u32,
    /// Where looking for input puts the byte that it finds and leaves.
    peeked: Box<[u8; 1]>,
}

impl Ring {
    /// Sets up a ring for the calling thread, which alone may use it.
    ///
    /// # Errors
    /// A [`Refusal`] that names the cause and the fix.
    pub fn new(options: &RingOptions) -> Result<Self, Refusal> {
        keep_time_exactly();
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES);
        if options.abilities.has(Ability::NoSqArray) {
            builder.setup_no_sqarray();
        }
        let ring = builder.build(SUBMISSION_ENTRIES).map_err(Refusal::from_setup)?;
        let queues = Queues::new(ring, options.abilities.has(Ability::RegisteredRing))
            .map_err(Refusal::from_setup)?;
        queues.submitter().register_files_sparse(options.slots).map_err(Refusal::from_setup)?;
        let buffers = ReceiveBuffers::register(
            &queues.submitter(),
            options.receive_buffers,
            options.receive_buffer_bytes,
            options.abilities.has(Ability::IncrementalBuffers),
        )
        .map_err(Refusal::from_setup)?;
        Ok(Self {
            queues,
            buffers,
            in_flight: InFlight::default(),
            receives: 0,
            accepts: Accepts::default(),
            sleeps: Sleeps::default(),
            connects: Connects::default(),
            half_closes: HalfCloses::new(options.abilities.has(Ability::DescriptorInstall)),
            listeners: Vec::new(),
            participants: Vec::new(),
            socket_options: options.abilities.has(Ability::SocketOptions),
            can_hand_over: options.abilities.has(Ability::HandOver),
            batch_wait_us: options.batch_wait_us,
            receive_buffer_bytes: options.receive_buffer_bytes,
            peeked: Box::new([0]),
        })
    }

    /// The descriptor by which other rings wake this one.
    pub fn descriptor(&self) -> RawFd {
        self.queues.descriptor()
    }

    /// Takes the listeners; [`Io::accept`] names them by their place.
    pub fn listen(&mut self, listeners: Vec<ListeningSocket>) {
        self.listeners = listeners;
    }

    /// Takes the descriptors of the rings of all participants, the control thread's last;
    /// [`Io::wake`] names them by their place.
    pub fn join(&mut self, participants: Vec<RawFd>) {
        self.participants = participants;
    }

    /// Sends that the kernel has not completed.
    pub fn sends_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn submitter(&self) -> Submitter<'_> {
        self.queues.submitter()
    }

    /// Queues one request, making room first when the queue is full. A ring that has failed drops
    /// it: the coming submit returns the error.
    pub(super) fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: whatever an entry points to lives until its completion: receive buffers, sends in
        // flight and addresses of peers to come, which `drop` waits for; addresses to connect to,
        // which the kernel copies when it is entered, and which live as long as the ring; constants
        // for ever.
        while !unsafe { self.queues.push(&entry) } && self.make_room(1) {}
    }

    /// Makes room for `entries` requests that must be submitted together, because they are linked:
    /// submits without waiting when there is none. False when the ring has failed.
    fn make_room(&mut self, entries: usize) -> bool {
        self.buffers.publish();
        self.queues.make_room(entries)
    }

    pub(super) fn cancel(&mut self, token: Token) {
        let builder = CancelBuilder::user_data(token.to_bits());
        let cancel = Token::indexed(Verb::Cancel, 0).to_bits();
        self.push(
            opcode::AsyncCancel2::new(builder)
                .build()
                .user_data(cancel)
                .flags(squeue::Flags::SKIP_SUCCESS),
        );
    }

    /// Takes the payload into keeping and makes the request that sends it.
    fn sending(
        &mut self,
        key: Key,
        slot: Slot,
        outgoing: Outgoing,
        further_flags: i32,
    ) -> squeue::Entry {
        let flags = libc::MSG_NOSIGNAL | further_flags;
        let (vectors, entry) = match &outgoing {
            Outgoing::One(segment) => {
                let (base, len) = address(&self.buffers, segment);
                let len = len.min(SEND_BYTES_MAX) as u32;
                let send = opcode::Send::new(Fixed(slot), base, len).flags(flags);
                (None, send.build())
            }
            Outgoing::Many(segments) => {
                let (vectors, entry) = self.vectored(slot, segments, flags);
                (Some(vectors), entry)
            }
        };
        let index = self.in_flight.insert(Sending { key, outgoing, vectors });
        entry.user_data(Token::indexed(Verb::Send, index).to_bits())
    }

    fn vectored(&mut self, slot: Slot, segments: &[Segment], flags: i32) -> SendVectors {
        let mut vectors = self.in_flight.vectors();
        let mut room = SEND_BYTES_MAX;
        let header = vectors.fill(segments.iter().map(|segment| {
            let (base, len) = address(&self.buffers, segment);
            let len = len.min(room);
            room -= len;
            libc::iovec { iov_base: base.cast_mut().cast(), iov_len: len }
        }));
        let entry = opcode::SendMsg::new(Fixed(slot), header).flags(flags as u32).build();
        (vectors, entry)
    }

    fn decode(&mut self, entry: &cqueue::Entry) -> Option<Event> {
        let Token { verb, key } = Token::from_bits(entry.user_data())?;
        let (result, flags) = (entry.result(), entry.flags());
        let more = cqueue::more(flags);
        Some(match verb {
            Verb::Accept => match self.accepts.complete(key, result) {
                Outcome::Accepted(result, address) => {
                    Event::Accepted { listener: key.index, result, address, more }
                }
                Outcome::Next(request) => return self.go_on(request),
            },
            Verb::Receive => {
                self.receives -= usize::from(!more);
                let result = self.buffers.received(result, flags);
                Event::Received { key, result, more }
            }
            Verb::Poll => Event::Readable { key },
            Verb::Send => {
                let (key, outgoing) = self.in_flight.remove(key.index)?;
                Event::Sent { key, result: check(result), outgoing }
            }
            Verb::Install => match self.half_closes.installed(key.index, result)? {
                Installed::Ended(key) => Event::Finished { key },
                Installed::Instead(request) => return self.go_on(request),
            },
            Verb::Finish => Event::Finished { key },
            Verb::Shutdown => Event::ShutDown { key },
            Verb::Reset => Event::ResetArmed { key },
            Verb::Close => Event::Closed { key },
            Verb::Wake if key.generation == MESSAGE => Event::Woken,
            Verb::Wake => {
                // Only a failed wake-up completes. It is owed, unless its target has ended.
                if matches!(check(result), Err(libc::ENOMEM | libc::EAGAIN | libc::EOVERFLOW)) {
                    self.wake(key.index as usize);
                }
                return None;
            }
            Verb::Connect => {
                self.connects.complete(key, check(result).map(|_| ()));
                return None;
            }
            Verb::Cancel => return None,
            Verb::Measure => {
                let unread_bytes = check(result).ok().and_then(|bytes| u32::try_from(bytes).ok());
                Event::Measured { key, unread_bytes }
            }
            Verb::HandOver => Event::HandedOver { key, result: check(result).map(drop) },
            Verb::Adopt => {
                let slot = check(result).ok()? as Slot;
                Event::Adopted { ticket: message::ticket(key), slot }
            }
            Verb::Look => Event::Looked { key, has_input: check(result) != Err(libc::EAGAIN) },
        })
    }

    /// A completion is only a step on the way to an event: this request is the next.
    fn go_on(&mut self, request: squeue::Entry) -> Option<Event> {
        self.push(request);
        None
    }

    /// What ends a wait: a completion, or with `batch_wait_us` a batch of them: then fewer end it
    /// only when that time is over, and when there are none by then, the next one does at once.
    fn wait_for(&self, timeout: Option<Duration>) -> Wait {
        let (completions, batch_us) = match self.batch_wait_us {
            None => (1, 0),
            Some(batch_us) => (BATCH_COMPLETIONS, batch_us),
        };
        Wait { completions, batch_us, timeout }
    }

    /// Ends all requests that name memory, and waits until the kernel has let go of it.
    ///
    /// # Errors
    /// When the kernel refuses, or has not let go in time.
    fn end_requests(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + END_TIMEOUT;
        while self.in_flight.len() + self.receives + self.accepts.len() > 0 {
            // What is queued has been counted, so it must be submitted to complete.
            self.queues.submit(None)?;
            self.queues.cancel_all(END_TIMEOUT)?;
            let wait = Wait { completions: 1, batch_us: 0, timeout: Some(END_PAUSE) };
            self.queues.submit(Some(wait))?;
            while self.next_event().is_some() {}
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

impl Drop for Ring {
    /// Closing a ring ends its requests some time later, in the background. So they are ended
    /// before, and what the kernel may still use is not freed.
    fn drop(&mut self) {
        match self.end_requests() {
            // SAFETY: this ring registered them, and no receive is under way.
            Ok(()) => unsafe { self.buffers.unregister(&self.queues.submitter()) },
            Err(error) => {
                tracing::warn!(%error, "requests go on after their ring: their memory is leaked");
                mem::forget((mem::take(&mut self.in_flight), mem::take(&mut self.accepts)));
            }
        }
    }
}

/// The vectors of a send and the request that points to them.
type SendVectors = (Vectors, squeue::Entry);

impl Io for Ring {
    fn accept(&mut self, listener: u32) {
        let entry = Accepts::unaddressed(listener, &self.listeners[listener as usize]);
        self.push(entry);
    }

    fn accept_with_address(&mut self, listener: u32) {
        let entry = self.accepts.addressed(listener, &self.listeners[listener as usize]);
        self.push(entry);
    }

    fn cancel_accept(&mut self, listener: u32) {
        for token in self.accepts.tokens(listener) {
            self.cancel(token);
        }
    }

    fn stop_listening(&mut self) {
        self.listeners.clear();
    }

    fn receive(&mut self, key: Key, slot: Slot) {
        self.receives += 1;
        let entry = opcode::RecvMulti::new(Fixed(slot), ReceiveBuffers::GROUP).build();
        self.push(entry.user_data(Token::new(Verb::Receive, key).to_bits()));
    }

    fn receive_once(&mut self, key: Key, slot: Slot) {
        self.receives += 1;
        let most = self.receive_buffer_bytes;
        let entry = opcode::Recv::new(Fixed(slot), ptr::null_mut(), most)
            .buf_group(ReceiveBuffers::GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry.user_data(Token::new(Verb::Receive, key).to_bits()));
    }

    fn look(&mut self, key: Key, slot: Slot) {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let entry =
            opcode::Recv::new(Fixed(slot), self.peeked.as_mut_ptr(), 1).flags(flags).build();
        self.push(entry.user_data(Token::new(Verb::Look, key).to_bits()));
    }

    fn measure(&mut self, key: Key, slot: Slot) {
        let entry = opcode::UringCmd16::new(Fixed(slot), socket_option::URING_SIOCOUTQ).build();
        self.push(entry.user_data(Token::new(Verb::Measure, key).to_bits()));
    }

    fn free_receive_buffers(&self) -> usize {
        self.buffers.free()
    }

    fn cancel_receive(&mut self, key: Key) {
        self.cancel(Token::new(Verb::Receive, key));
    }

    fn poll(&mut self, key: Key, slot: Slot) {
        const EVENTS: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
        let entry = opcode::PollAdd::new(Fixed(slot), EVENTS).build();
        self.push(entry.user_data(Token::new(Verb::Poll, key).to_bits()));
    }

    fn cancel_poll(&mut self, key: Key) {
        self.cancel(Token::new(Verb::Poll, key));
    }

    fn send(&mut self, key: Key, slot: Slot, outgoing: Outgoing) {
        let wait = if outgoing.holds_buffer() { libc::MSG_DONTWAIT } else { 0 };
        let entry = self.sending(key, slot, outgoing, wait);
        self.push(entry);
    }

    fn send_last(&mut self, key: Key, slot: Slot, outgoing: Outgoing) {
        debug_assert!(!outgoing.holds_buffer());
        // MSG_MORE holds the bytes back for the FIN; with MSG_WAITALL a short send breaks the link.
        let entry = self.sending(key, slot, outgoing, libc::MSG_MORE | libc::MSG_WAITALL);
        let finish = self.half_closes.begin(key, slot);
        self.make_room(2);
        self.push(entry.flags(squeue::Flags::IO_LINK));
        self.push(finish);
    }

    fn finish(&mut self, key: Key, slot: Slot) {
        let entry = self.half_closes.begin(key, slot);
        self.push(entry);
    }

    fn shutdown(&mut self, key: Key, slot: Slot) {
        let entry = opcode::Shutdown::new(Fixed(slot), libc::SHUT_RDWR).build();
        self.push(entry.user_data(Token::new(Verb::Shutdown, key).to_bits()));
    }

    fn arm_reset(&mut self, key: Key, slot: Slot) -> bool {
        if !self.socket_options {
            return false;
        }
        static LINGER: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let entry = opcode::SetSockOpt::new(
            Fixed(slot),
            libc::SOL_SOCKET as u32,
            libc::SO_LINGER as u32,
            (&raw const LINGER).cast(),
            size_of::<libc::linger>() as u32,
        )
        .build();
        self.push(entry.user_data(Token::new(Verb::Reset, key).to_bits()));
        true
    }

    fn hand_over(&mut self, key: Key, slot: Slot, participant: usize, ticket: Ticket) {
        debug_assert!(self.can_hand_over);
        let entry = message::hand_over(slot, self.participants[participant], ticket);
        self.push(entry.user_data(Token::new(Verb::HandOver, key).to_bits()));
    }

    fn can_hand_over(&self) -> bool {
        self.can_hand_over
    }

    fn close(&mut self, key: Key, slot: Slot) {
        let entry = opcode::Close::new(Fixed(slot)).build();
        self.push(entry.user_data(Token::new(Verb::Close, key).to_bits()));
    }

    fn wake(&mut self, participant: usize) {
        let entry = message::wake(self.participants[participant]);
        let own = Token::indexed(Verb::Wake, participant as u32).to_bits();
        self.push(entry.user_data(own).flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn bytes(&mut self, slice: &BufferSlice) -> &mut [u8] {
        self.buffers.bytes(slice)
    }

    fn split(&mut self, slice: &BufferSlice, range: Range<usize>) -> BufferSlice {
        self.buffers.split(slice, range)
    }

    fn release(&mut self, slice: BufferSlice) {
        self.buffers.release(slice);
    }

    fn submit(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.buffers.publish();
        let is_waiting = wait != Some(Duration::ZERO);
        self.queues.submit(is_waiting.then(|| self.wait_for(wait)))
    }

    fn has_slept(&mut self) -> bool {
        self.sleeps.has_slept()
    }

    fn next_event(&mut self) -> Option<Event> {
        while let Some(entry) = self.queues.next() {
            if let Some(event) = self.decode(&entry) {
                return Some(event);
            }
        }
        None
    }
}

/// Requests queued in one tick before the queue is submitted early: a fan-out in one enter.
const SUBMISSION_ENTRIES: u32 = 2048;
/// Completions that the kernel keeps for us without falling back to its overflow list.
const COMPLETION_ENTRIES: u32 = 8192;
/// Completions that end a wait however short it was: as many as make a crossing cheap.
const BATCH_COMPLETIONS: u32 = 64;
/// How long the end of a ring waits for its requests, and how long it waits each time it looks.
const END_TIMEOUT: Duration = Duration::from_secs(2);
const END_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
