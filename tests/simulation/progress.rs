//! What a simulated kernel does with its requests when it gets a chance.

use fastrand::Rng;
use ringwire::io::{Event, Key, Outgoing, Segment};

use crate::buffers::Buffers;
use crate::contract::Kind;
use crate::kernel::{Accept, Armed, Finish, Kernel, Tenant};
use crate::network::{End, HandOver};

impl Kernel {
    /// Completes some of the requests that can complete.
    pub fn progress(&mut self) {
        for place in (0..self.late.len()).rev() {
            if self.likely(self.chaos.ready) {
                let event = self.late.swap_remove(place);
                self.completions.push_back(event);
            }
        }
        for slot in std::mem::take(&mut self.fresh) {
            if self.can_complete(slot, Kind::Receive) && self.likely(self.chaos.ready) {
                self.complete(slot, Kind::Receive);
            }
        }
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        self.rng.shuffle(&mut order);
        for slot in order {
            let mut kinds = Kind::ALL;
            self.rng.shuffle(&mut kinds);
            for kind in kinds {
                if self.can_complete(slot, kind) && self.likely(self.chaos.ready) {
                    self.complete(slot, kind);
                }
            }
        }
        if self.can_accept() && self.likely(self.chaos.ready) {
            self.complete_accept();
        }
        if self.is_given_socket() && self.likely(self.chaos.ready) {
            self.adopt();
        }
        if self.is_woken() && self.likely(self.chaos.ready) {
            self.network.borrow_mut().wakes[self.number] -= 1;
            self.completions.push_back(Event::Woken);
        }
    }

    /// Whether there is an event for the shard.
    pub fn has_event(&self) -> bool {
        !self.completions.is_empty()
    }

    /// Whether nothing happens until a peer or the shard does something.
    pub fn is_idle(&self) -> bool {
        let can_complete = |slot| Kind::ALL.iter().any(|&kind| self.can_complete(slot, kind));
        !self.has_event()
            && self.late.is_empty()
            && !self.is_woken()
            && !self.is_given_socket()
            && !self.can_accept()
            && !(0..self.slots.len()).any(can_complete)
    }

    /// What must hold when all connections are gone.
    pub fn check_end(&self) {
        assert!(self.slots.iter().all(Option::is_none), "a slot leaks");
        assert!(self.contract.is_empty(), "a request leaks");
        assert!(self.buffers.are_all_back(), "a receive buffer leaks");
    }

    fn likely(&mut self, percent: u8) -> bool {
        self.rng.u8(..100) < percent
    }

    fn is_woken(&self) -> bool {
        self.network.borrow().wakes[self.number] > 0
    }

    fn is_given_socket(&self) -> bool {
        !self.network.borrow().handed_over[self.number].is_empty()
    }

    /// Puts a socket that another shard hands over into a slot, if there is one.
    fn adopt(&mut self) {
        let network = self.network.clone();
        let mut network = network.borrow_mut();
        let Some(handed_over) = network.handed_over[self.number].pop_front() else { return };
        let HandOver { from, key, ticket, socket } = handed_over;
        let free = self.slots.iter().position(Option::is_none);
        let result = match free {
            None => Err(libc::ENFILE),
            Some(_) if self.likely(self.chaos.no_memory) => Err(libc::ENOMEM),
            Some(slot) => {
                let holders_before = network.sockets[socket].share();
                self.slots[slot] = Some(Tenant { holders_before, ..Tenant::new(socket) });
                let event = Event::Adopted { ticket, slot: slot as u32 };
                // The letter may be there before it.
                match self.likely(self.chaos.late) {
                    true => self.late.push(event),
                    false => self.completions.push_back(event),
                }
                Ok(())
            }
        };
        network.handed_over_results[from].push((key, result));
    }

    /// What became of a socket that was handed over, as soon as it is known.
    fn handed_over_result(&self, key: Key) -> Option<usize> {
        let results = &self.network.borrow().handed_over_results[self.number];
        results.iter().position(|(handed_over, _)| *handed_over == key)
    }

    fn can_accept(&self) -> bool {
        let waits = || !self.network.borrow().backlogs[self.number].is_empty();
        let is_armed = self.accept == Accept::Armed || self.accepts_with_address > 0;
        let is_cancelled = self.accept == Accept::Cancelled || self.accepts_cancelled > 0;
        is_cancelled || is_armed && waits()
    }

    fn can_complete(&self, slot: usize, kind: Kind) -> bool {
        let Some(tenant) = &self.slots[slot] else { return false };
        if self.held.contains(&kind) {
            return false;
        }
        let network = self.network.borrow();
        let socket = &network.sockets[tenant.socket];
        let is_readable = socket.readable() > 0 || socket.read_end().is_some();
        match kind {
            Kind::Receive => tenant.receive.is_some_and(|of| of.cancelled || is_readable),
            Kind::Poll => tenant.poll.is_some_and(|of| of.cancelled || is_readable),
            Kind::Send => tenant.send.as_ref().is_some_and(|outgoing| {
                outgoing.holds_buffer() || socket.writable() > 0 || socket.is_broken()
            }),
            Kind::Finish => {
                matches!(tenant.finish, Some(Finish::Due | Finish::Cancelled))
            }
            Kind::Shutdown => tenant.shutdown,
            Kind::Reset => tenant.reset,
            Kind::Look => tenant.look,
            Kind::Measure => tenant.measure,
            Kind::HandOver => tenant.key.is_some_and(|key| self.handed_over_result(key).is_some()),
            Kind::Close => tenant.close,
        }
    }

    fn complete(&mut self, slot: usize, kind: Kind) {
        let Some(mut tenant) = self.slots[slot].take() else { return };
        let Some(key) = tenant.key else { unreachable!("a request names its connection") };
        let event = match kind {
            Kind::Receive => self.complete_receive(&mut tenant, key),
            Kind::Poll => {
                tenant.poll = None;
                Event::Readable { key }
            }
            Kind::Send => {
                let event = self.complete_send(&mut tenant, key);
                // A later send does not mend what the last one has broken off.
                if let Some(finish @ Finish::AwaitsSend) = &mut tenant.finish
                    && let Event::Sent { result, outgoing, .. } = &event
                {
                    let is_whole = *result == Ok(outgoing.len());
                    *finish = if is_whole { Finish::Due } else { Finish::Cancelled };
                }
                event
            }
            Kind::Finish => {
                if tenant.finish.take() == Some(Finish::Due) {
                    self.network.borrow_mut().sockets[tenant.socket].finish();
                }
                Event::Finished { key }
            }
            Kind::Shutdown => {
                tenant.shutdown = false;
                self.network.borrow_mut().sockets[tenant.socket].shut_down();
                Event::ShutDown { key }
            }
            Kind::Reset => {
                tenant.reset = false;
                self.network.borrow_mut().sockets[tenant.socket].lingers_not = true;
                Event::ResetArmed { key }
            }
            Kind::Look => {
                tenant.look = false;
                let network = self.network.borrow();
                let socket = &network.sockets[tenant.socket];
                let has_input = socket.readable() > 0 || socket.read_end().is_some();
                Event::Looked { key, has_input }
            }
            Kind::Measure => {
                tenant.measure = false;
                // As far as the kernel has that request.
                let knows = self.chaos.socket_options;
                let unread = self.network.borrow().sockets[tenant.socket].unread();
                Event::Measured { key, unread_bytes: knows.then_some(unread as u32) }
            }
            Kind::HandOver => {
                let Some(place) = self.handed_over_result(key) else { unreachable!("it is known") };
                let results = &mut self.network.borrow_mut().handed_over_results[self.number];
                let (_, result) = results.swap_remove(place);
                Event::HandedOver { key, result }
            }
            Kind::Close => {
                let overtakes = self.rng.bool();
                let socket = &mut self.network.borrow_mut().sockets[tenant.socket];
                socket.leave(tenant.holders_before);
                socket.server_close(overtakes);
                self.completions.push_back(Event::Closed { key });
                return;
            }
        };
        self.slots[slot] = Some(tenant);
        // What a socket delivers stays in order, and so does the end of its slot.
        if kind != Kind::Receive && self.likely(self.chaos.late) {
            self.late.push(event);
        } else {
            self.completions.push_back(event);
        }
    }

    fn complete_receive(&mut self, tenant: &mut Tenant, key: Key) -> Event {
        let network = self.network.clone();
        let mut network = network.borrow_mut();
        let socket = &mut network.sockets[tenant.socket];
        let receive = tenant.receive.take();
        let is_cancelled = receive.is_some_and(|of| of.cancelled);
        let is_last = is_cancelled || receive.is_some_and(|of| of.once);
        let readable = socket.readable();
        let failed = |errno| Event::Received { key, result: Err(errno), more: false };
        let is_readable = readable > 0 || socket.read_end().is_some();
        if is_cancelled && (!is_readable || self.rng.bool()) {
            return failed(libc::ECANCELED);
        }
        if readable == 0 {
            if socket.read_end() == Some(End::Reset) {
                socket.report_reset();
                return failed(libc::ECONNRESET);
            }
            return Event::Received { key, result: Ok(None), more: false };
        }
        if self.buffers.is_empty() || self.likely(self.chaos.no_buffers) {
            return failed(libc::ENOBUFS);
        }
        let count = shortened(&mut self.rng, readable, self.chaos.short);
        let slice = self.buffers.lend(count, |bytes| socket.receive(bytes));
        // A cancelled receive may still bring something, but does not go on.
        let more = !is_last && !self.likely(self.chaos.end);
        if more {
            tenant.receive = Some(Armed { cancelled: false, once: false });
        }
        Event::Received { key, result: Ok(slice), more }
    }

    fn complete_send(&mut self, tenant: &mut Tenant, key: Key) -> Event {
        let Some(outgoing) = tenant.send.take() else { unreachable!("a send completes") };
        let network = self.network.clone();
        let mut network = network.borrow_mut();
        let socket = &mut network.sockets[tenant.socket];
        if let Some(errno) = socket.write_error() {
            return Event::Sent { key, result: Err(errno), outgoing };
        }
        let room = socket.writable();
        let refuses = room == 0 || self.likely(self.chaos.again);
        if outgoing.holds_buffer() && refuses {
            return Event::Sent { key, result: Err(libc::EAGAIN), outgoing };
        }
        let count = outgoing.len().min(room);
        let count = shortened(&mut self.rng, count, self.chaos.short);
        let bytes = contents(&mut self.buffers, &outgoing);
        socket.send(bytes.into_iter().take(count));
        Event::Sent { key, result: Ok(count), outgoing }
    }

    fn complete_accept(&mut self) {
        let failed = |kernel: &mut Self, errno| {
            kernel.end_accept();
            let result = Err(errno);
            let event = Event::Accepted { listener: 0, result, address: None, more: false };
            kernel.completions.push_back(event);
        };
        if self.accept == Accept::Cancelled || self.accepts_cancelled > 0 {
            return failed(self, libc::ECANCELED);
        }
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            // The connection is accepted before there turns out to be no slot for it, and is lost.
            let network = self.network.clone();
            let mut network = network.borrow_mut();
            if let Some(socket) = network.backlogs[self.number].pop_front() {
                network.sockets[socket].server_close(true);
            }
            return failed(self, libc::ENFILE);
        };
        if self.likely(self.chaos.no_memory) {
            return failed(self, libc::ENOMEM);
        }
        let Some(socket) = self.network.borrow_mut().backlogs[self.number].pop_front() else {
            return;
        };
        self.slots[slot] = Some(Tenant::new(socket));
        self.accepted += 1;
        let tells_address = self.accepts_with_address > 0;
        let more = !tells_address && !self.likely(self.chaos.end);
        if !more {
            self.end_accept();
        }
        let address = self.network.borrow().sockets[socket].address;
        let address = tells_address.then_some(address);
        let event = Event::Accepted { listener: 0, result: Ok(slot as u32), address, more };
        self.completions.push_back(event);
    }

    /// The accept that has completed goes on no more.
    fn end_accept(&mut self) {
        match (self.accept, self.accepts_cancelled) {
            (Accept::Cancelled, _) => self.accept = Accept::Idle,
            (_, 1..) => self.accepts_cancelled -= 1,
            (Accept::Armed, 0) => self.accept = Accept::Idle,
            (Accept::Idle, 0) => self.accepts_with_address -= 1,
        }
    }
}

/// All of `count`, or by chance less, but something.
fn shortened(rng: &mut Rng, count: usize, percent: u8) -> usize {
    if rng.u8(..100) < percent { rng.usize(1..=count) } else { count }
}

/// The bytes of a send as they are now.
fn contents(buffers: &mut Buffers, outgoing: &Outgoing) -> Vec<u8> {
    let segments = match outgoing {
        Outgoing::One(segment) => std::slice::from_ref(segment),
        Outgoing::Many(segments) => segments,
    };
    let mut bytes = Vec::with_capacity(outgoing.len());
    for segment in segments {
        match segment {
            Segment::Buffer { slice, .. } => bytes.extend_from_slice(buffers.bytes(slice)),
            Segment::Shared { frames, offset } => {
                bytes.extend_from_slice(&frames.bytes()[*offset as usize..]);
            }
            Segment::Excerpt(excerpt) => bytes.extend_from_slice(excerpt.bytes()),
            Segment::Owned { bytes: owned, offset, .. } => {
                bytes.extend_from_slice(&owned[*offset as usize..]);
            }
        }
    }
    bytes
}
