//! The event loop: the server's tick with nothing between a receive and the sends it causes.

use std::io;
use std::time::Duration;

use ringwire::http::{Answer, Conditions, Exchange, Policy, Serving};
use ringwire::io::{BufferSlice, Errno, Event, Io, Key, Outgoing, Ring, Segment, Slot};
use slab::Slab;

use crate::connections::{Connection, detached, release_all};
use crate::frame::{ConstantFrames, FrameSize};
use crate::published::Published;
use crate::{Mode, Options, Reply};

/// One event loop over one ring.
pub struct Reactor {
    ring: Ring,
    policy: Policy,
    mode: Mode,
    reply: Reply,
    size: FrameSize,
    constant: ConstantFrames,
    connections: Slab<Connection>,
    /// Connections with something to send.
    dirty: Vec<u32>,
    /// Connections whose receive found no buffer.
    starved: Vec<Key>,
    /// Frames received in this tick that go to everybody.
    received: u32,
    published: Published,
}

impl Reactor {
    /// A loop that accepts on the first listener of `ring`.
    pub fn new(mut ring: Ring, policy: Policy, published: Published, options: &Options) -> Self {
        ring.accept(LISTENER);
        Self {
            ring,
            policy,
            mode: options.mode,
            reply: options.reply,
            size: options.frame,
            constant: ConstantFrames::new(options.frame),
            connections: Slab::new(),
            dirty: Vec::new(),
            starved: Vec::new(),
            received: 0,
            published,
        }
    }

    /// Runs until the kernel refuses to go on.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            // The server's wait has an end as well, that of its next timer.
            let wait = if self.starved.is_empty() { WAIT } else { Duration::ZERO };
            self.ring.submit(Some(wait))?;
            for key in std::mem::take(&mut self.starved) {
                self.settle(key);
            }
            while let Some(event) = self.ring.next_event() {
                self.handle(event);
            }
            self.fan_out();
            self.flush();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Accepted { result, more, .. } => self.accepted(result, more),
            Event::Received { key, result, more } => self.received(key, result, more),
            Event::Sent { key, result, outgoing } => self.sent(key, result, outgoing),
            Event::Closed { key } => {
                self.connections.try_remove(key.index as usize);
            }
            Event::Readable { .. }
            | Event::Finished { .. }
            | Event::ShutDown { .. }
            | Event::ResetArmed { .. }
            | Event::Looked { .. }
            | Event::Measured { .. }
            | Event::HandedOver { .. }
            | Event::Adopted { .. }
            | Event::Woken => {}
        }
    }

    fn accepted(&mut self, result: Result<Slot, Errno>, more: bool) {
        if let Ok(slot) = result {
            let index = self.connections.insert(Connection::new(slot)) as u32;
            self.settle(Key { index, generation: 0 });
        }
        if !more {
            self.ring.accept(LISTENER);
        }
    }

    fn received(&mut self, key: Key, result: Result<Option<BufferSlice>, Errno>, more: bool) {
        let Some(connection) = self.connections.get_mut(key.index as usize) else { return };
        connection.receiving = more;
        match result {
            Ok(Some(slice)) if connection.doomed => self.ring.release(slice),
            Ok(Some(slice)) if connection.request.is_some() => self.handshake(key, slice),
            Ok(Some(slice)) => self.frames(key, slice),
            Err(libc::ENOBUFS) => return self.starved.push(key),
            Ok(None) | Err(_) => return self.doom(key),
        }
        if !more {
            self.settle(key);
        }
    }

    /// Answers the request once it is complete; bytes after it count as frames.
    fn handshake(&mut self, key: Key, slice: BufferSlice) {
        let Some(connection) = self.connections.get_mut(key.index as usize) else { return };
        let Some(request) = &mut connection.request else { return };
        request.extend_from_slice(self.ring.bytes(&slice));
        self.ring.release(slice);
        let conditions = Conditions {
            may_publish: &|_| false,
            ..Conditions::unlimited(&self.policy, Serving::Open)
        };
        let (consumed, response) = match Exchange::default().receive(request, &conditions) {
            Answer::Incomplete => return,
            Answer::Upgrade { consumed, response, .. } => (consumed, response),
            _ => return self.doom(key),
        };
        let early_bytes = request.len() - consumed;
        connection.request = None;
        connection.push(Segment::owned(response, true));
        let frames = self.count(key, early_bytes);
        self.owe(key, frames);
        self.mark_dirty(key);
    }

    fn frames(&mut self, key: Key, slice: BufferSlice) {
        if self.reply == Reply::Received {
            return self.reflect(key, slice);
        }
        let frames = self.count(key, slice.len() as usize);
        self.ring.release(slice);
        if frames > 0 {
            self.owe(key, frames);
        }
    }

    /// Counts received bytes; returns the frames that they complete.
    fn count(&mut self, key: Key, bytes: usize) -> u32 {
        let Some(connection) = self.connections.get_mut(key.index as usize) else { return 0 };
        let frame_bytes = self.size.client_bytes() as u64;
        let before = connection.received_bytes / frame_bytes;
        connection.received_bytes += bytes as u64;
        (connection.received_bytes / frame_bytes - before) as u32
    }

    fn owe(&mut self, key: Key, frames: u32) {
        if self.mode == Mode::FanOut {
            self.received += frames;
        } else if let Some(connection) = self.connections.get_mut(key.index as usize) {
            connection.owed_frames += frames;
            self.mark_dirty(key);
        }
    }

    /// Sends back from the buffer itself as many bytes as are owed for it.
    fn reflect(&mut self, key: Key, slice: BufferSlice) {
        let Some(connection) = self.connections.get_mut(key.index as usize) else { return };
        let start = self.size.owed_bytes(connection.received_bytes);
        connection.received_bytes += u64::from(slice.len());
        let owed = (self.size.owed_bytes(connection.received_bytes) - start) as usize;
        if owed > 0 {
            let part = self.ring.split(&slice, 0..owed);
            self.size.stamp(self.ring.bytes(&part), start);
            let lent = Segment::Buffer { slice: part, ends_frame: true };
            connection.push(match connection.sending {
                true => detached(&mut self.ring, lent),
                false => lent,
            });
            self.mark_dirty(key);
        }
        self.ring.release(slice);
    }

    fn mark_dirty(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key.index as usize)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(key.index);
        }
    }

    /// Owes everybody what anybody has sent.
    fn fan_out(&mut self) {
        let received = std::mem::take(&mut self.received);
        if received > 0 {
            self.published.publish(received);
            for shard in self.published.others() {
                self.ring.wake(shard);
            }
        }
        let published = received + self.published.take();
        if published == 0 {
            return;
        }
        for (index, connection) in &mut self.connections {
            if connection.request.is_some() || connection.doomed {
                continue;
            }
            connection.owed_frames += published;
            if !connection.dirty {
                connection.dirty = true;
                self.dirty.push(index as u32);
            }
        }
    }

    fn flush(&mut self) {
        for index in self.dirty.drain(..) {
            let Some(connection) = self.connections.get_mut(index as usize) else { continue };
            connection.dirty = false;
            if connection.sending || connection.doomed {
                continue;
            }
            if let Some(outgoing) = connection.take(&self.constant) {
                connection.sending = true;
                self.ring.send(Key { index, generation: 0 }, connection.slot, outgoing);
            }
        }
    }

    fn sent(&mut self, key: Key, result: Result<usize, Errno>, outgoing: Outgoing) {
        let Some(connection) = self.connections.get_mut(key.index as usize) else { return };
        connection.sending = false;
        let sent = match result {
            Ok(sent) => sent,
            // A send from a receive buffer found the socket full.
            Err(libc::EAGAIN) => 0,
            Err(_) => {
                release_all(&mut self.ring, outgoing);
                return self.doom(key);
            }
        };
        if connection.doomed {
            release_all(&mut self.ring, outgoing);
            return self.settle(key);
        }
        if sent == outgoing.len() {
            release_all(&mut self.ring, outgoing);
        } else {
            connection.put_back(&mut self.ring, sent, outgoing);
        }
        if connection.has_output() {
            self.mark_dirty(key);
        }
    }

    /// Ends a connection.
    fn doom(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key.index as usize) else { return };
        if !connection.doomed {
            connection.doomed = true;
            connection.clear(&mut self.ring);
            if connection.receiving {
                self.ring.cancel_receive(key);
            }
        }
        self.settle(key);
    }

    /// Receives, or closes when nothing is under way any more.
    fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key.index as usize) else { return };
        if !connection.doomed {
            if !connection.receiving {
                connection.receiving = true;
                self.ring.receive(key, connection.slot);
            }
        } else if !connection.receiving && !connection.sending && !connection.closing {
            connection.closing = true;
            self.ring.close(key, connection.slot);
        }
    }
}

/// The one listener.
const LISTENER: u32 = 0;
/// How long a tick without events lasts.
const WAIT: Duration = Duration::from_secs(1);
