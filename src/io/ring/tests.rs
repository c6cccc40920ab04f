//! The real ring over loopback connections, once with all that this kernel can do and once with
//! nothing optional. The peers are plain blocking sockets.

mod abilities;
mod accept;
mod failure;
mod hand_over;
mod lifecycle;
mod receive;
mod send;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use super::*;
use crate::io::Errno;
use crate::io::half_close::INSTALLED_MAX;
use crate::io::listener::ListeningSocket;
use crate::io::waker::Waker;
use crate::wire::frames::Frames;

const BUFFER_BYTES: u32 = 4096;

/// A ring that accepts, and what came from it.
struct Rig {
    ring: Ring,
    address: SocketAddr,
    next_index: u32,
}

/// One accepted connection and its peer.
struct Connection {
    key: Key,
    slot: Slot,
    peer: TcpStream,
}

impl Rig {
    fn new(abilities: Abilities, slots: u32, receive_buffers: u16) -> Self {
        Self::with(&RingOptions {
            abilities,
            slots,
            receive_buffers,
            receive_buffer_bytes: BUFFER_BYTES,
            batch_wait_us: None,
        })
    }

    fn with(options: &RingOptions) -> Self {
        let mut ring = Ring::new(options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        ring.listen(vec![ListeningSocket::own(listener)]);
        ring.accept(0);
        Self { ring, address, next_index: 0 }
    }

    /// The next event; that none comes within seconds is a failure.
    fn next(&mut self) -> Event {
        for _ in 0..10 {
            if let Some(event) = self.ring.next_event() {
                return event;
            }
            self.ring.submit(Some(Duration::from_secs(2))).unwrap();
        }
        panic!("no event came");
    }

    /// Starts what is queued, and finds that nothing has completed.
    fn expect_nothing(&mut self) {
        for _ in 0..3 {
            self.ring.submit(Some(Duration::ZERO)).unwrap();
            if let Some(event) = self.ring.next_event() {
                panic!("unexpected {event:?}");
            }
        }
    }

    fn connect(&mut self) -> Connection {
        let peer = TcpStream::connect(self.address).unwrap();
        peer.set_nodelay(true).unwrap();
        let slot = match self.next() {
            Event::Accepted { listener: 0, result: Ok(slot), more: true, .. } => slot,
            event => panic!("unexpected {event:?}"),
        };
        let key = Key { index: self.next_index, generation: 5 };
        self.next_index += 1;
        Connection { key, slot, peer }
    }

    fn receive(&mut self, connection: &Connection) {
        self.ring.receive(connection.key, connection.slot);
    }

    /// The next event, which is a receive of `connection`.
    fn received(&mut self, connection: &Connection) -> (Result<Option<BufferSlice>, Errno>, bool) {
        match self.next() {
            Event::Received { key, result, more } if key == connection.key => (result, more),
            event => panic!("unexpected {event:?}"),
        }
    }

    /// Sends, and waits for the completion.
    fn send(&mut self, to: &Connection, outgoing: Outgoing) -> (Result<usize, Errno>, Outgoing) {
        self.ring.send(to.key, to.slot, outgoing);
        self.sent(to)
    }

    fn sent(&mut self, to: &Connection) -> (Result<usize, Errno>, Outgoing) {
        match self.next() {
            Event::Sent { key, result, outgoing } if key == to.key => (result, outgoing),
            event => panic!("unexpected {event:?}"),
        }
    }

    fn close(&mut self, connection: &Connection) {
        self.ring.close(connection.key, connection.slot);
        match self.next() {
            Event::Closed { key } if key == connection.key => {}
            event => panic!("unexpected {event:?}"),
        }
    }

    /// Receives until `bytes` have come, releasing at once.
    fn read(&mut self, connection: &Connection, bytes: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < bytes {
            let (Ok(Some(slice)), _) = self.received(connection) else { panic!("no bytes") };
            read.extend_from_slice(self.ring.bytes(&slice));
            self.ring.release(slice);
        }
        read
    }

    /// Shuts both directions down, and tells how the receive ended.
    fn shut_down(&mut self, connection: &Connection) -> Result<(), Errno> {
        self.ring.shutdown(connection.key, connection.slot);
        let (mut end, mut is_done) = (None, false);
        while end.is_none() || !is_done {
            match self.next() {
                Event::Received { key, result, more: false } if key == connection.key => {
                    end = Some(result.map(|slice| assert_eq!(slice, None)));
                }
                Event::ShutDown { key } if key == connection.key => is_done = true,
                event => panic!("unexpected {event:?}"),
            }
        }
        end.expect("the loop waited for it")
    }

    /// Sends, and tells how much found room; `None` when the kernel keeps the send.
    fn fill(&mut self, to: &Connection, bytes: &[u8]) -> Option<usize> {
        self.ring.send(to.key, to.slot, Outgoing::One(owned(bytes)));
        self.ring.submit(Some(Duration::from_millis(50))).unwrap();
        match self.ring.next_event()? {
            Event::Sent { key, result, .. } if key == to.key => Some(result.unwrap()),
            event => panic!("unexpected {event:?}"),
        }
    }
}

/// What this kernel can do, and nothing optional.
fn kernels() -> [Abilities; 2] {
    [Abilities::probe().expect("io_uring is what this crate is for"), Abilities::default()]
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index.wrapping_mul(0x9e37_79b1) >> 11) as u8).collect()
}

fn owned(bytes: &[u8]) -> Segment {
    Segment::owned(bytes.to_vec(), true)
}

fn shared(bytes: &[u8], offset: u32) -> Segment {
    Segment::Shared { frames: Rc::new(Frames::one(Arc::new(bytes.to_vec()))), offset }
}

fn lent(slice: BufferSlice) -> Segment {
    Segment::Buffer { slice, ends_frame: true }
}

fn read_exactly(peer: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    peer.read_exact(&mut read).unwrap();
    read
}
