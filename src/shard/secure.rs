//! Connections over TLS: what arrives is opened before anything else looks at it, and what leaves
//! is sealed last.
//!
//! What is sealed has its place in the order of records, so it can be neither dropped nor
//! overtaken. So nothing is sealed before the kernel can take it: one send is in flight, of
//! [`SEALED_MOST`] bytes or a little more, and everything else waits in the outbox as it does for
//! others, where policies reach it.
//!
//! A handshake takes as long as some tens of messages. A tick does a few; the others wait for their
//! turn ([`WaitsFor::Handshake`]) with what they have sent, which is not opened before.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::Shard;
use super::by_index;
use super::connections::Marks;
use super::ending::Ending;
use super::overload::Level;
use super::pause::WaitsFor;
use super::pending_input::Input;
use super::receive::SHARE_MOST;
use super::requests::Requests;
use super::send::{detached, release_outgoing};
use crate::config::{ListenerRole, Tls};
use crate::connection::Stage;
use crate::http::Refusal;
use crate::io::{BufferSlice, Io, Key, Outgoing, Segment};
use crate::memory::Pressure;
use crate::stats::ShardStats;
use crate::tls::session::{Handshake, Received};
use crate::tls::{Failure, Session};
use crate::websocket::Initiator;
use crate::wire::close::CloseCode;

/// The TLS connections of a shard, by their index; where there is none it costs nothing.
#[derive(Debug, Default)]
pub(super) struct Secured {
    by_index: Vec<Option<Box<Secure>>>,
    /// Those whose handshakes wait, in the order in which they came.
    waiting: VecDeque<Key>,
    /// Handshakes that this tick may still go on with.
    handshakes_left: usize,
    /// Scratch, kept for its capacity.
    opened: Vec<u8>,
}

/// The state of one.
#[derive(Debug)]
pub(super) struct Secure {
    session: Session,
    /// Records that the kernel has not taken yet.
    sealed: Vec<u8>,
    failure: Option<Failure>,
}

impl Secured {
    /// Takes out the state of the connection at `index`.
    pub(super) fn take(&mut self, index: u32) -> Option<Box<Secure>> {
        self.by_index.get_mut(index as usize)?.take()
    }

    /// Keeps the state of a connection that another shard has had.
    pub(super) fn put(&mut self, index: u32, secure: Option<Box<Secure>>) {
        if secure.is_some() {
            *self.at(index) = secure;
        }
    }

    /// Bytes that go along with the connection at `index` when it moves.
    pub(super) fn held_bytes(&self, index: u32) -> usize {
        self.get(index).map_or(0, |_| SESSION_BYTES + self.waiting_bytes(index))
    }

    /// Bytes of memory that wait for the connection at `index`: records of which a part has come or
    /// gone.
    pub(super) fn waiting_bytes(&self, index: u32) -> usize {
        self.get(index).map_or(0, |secure| secure.session.held_bytes() + secure.sealed.capacity())
    }

    /// Whether handshakes wait for their turn.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Those whose handshakes wait.
    pub(super) fn waiting(&self) -> Vec<Key> {
        self.waiting.iter().copied().collect()
    }

    /// The connection at `index` is silent, and keeps no more than it has to.
    pub(super) fn rest(&mut self, index: u32) {
        if let Some(secure) = self.get_mut(index) {
            secure.session.rest();
        }
    }

    fn get(&self, index: u32) -> Option<&Secure> {
        self.by_index.get(index as usize)?.as_deref()
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Secure> {
        self.by_index.get_mut(index as usize)?.as_deref_mut()
    }

    fn at(&mut self, index: u32) -> &mut Option<Box<Secure>> {
        by_index::entry(&mut self.by_index, index)
    }

    fn may_shake_hands(&mut self) -> bool {
        let may = self.handshakes_left > 0 && self.waiting.is_empty();
        self.handshakes_left -= usize::from(may);
        may
    }
}

impl Secure {
    /// Seals what is first in the outgoing bytes, and tells how many of them that was.
    fn seal<I: Io>(&mut self, io: &mut I, outgoing: &Outgoing, room: usize) -> usize {
        let segments = outgoing.segments();
        let (mut left, mut joined) = (room, Vec::new());
        for segment in segments {
            let bytes = match segment {
                Segment::Buffer { slice, .. } => &*io.bytes(slice),
                segment => segment.bytes().unwrap_or_default(),
            };
            let part = &bytes[..bytes.len().min(left)];
            left -= part.len();
            // Small ones share a record, large ones are not copied.
            if joined.len() + part.len() > JOINED_BYTES_MOST {
                self.session.seal(&joined, &mut self.sealed);
                joined.clear();
            }
            if segments.len() == 1 || part.len() > JOINED_BYTES_MOST {
                self.session.seal(part, &mut self.sealed);
            } else {
                joined.extend_from_slice(part);
            }
            if left == 0 {
                break;
            }
        }
        self.session.seal(&joined, &mut self.sealed);
        room - left
    }
}

impl<I: Io> Shard<I> {
    /// Takes note that a connection is to speak TLS, or to be sent where that is spoken, or may
    /// call the API alone, if its listener says so.
    pub(super) fn note_listener(&mut self, key: Key, listener: u32) {
        let (config, role) = self.effective.config.listener(self.place_of(listener));
        if let Some(connection) = self.connections.get_mut(key) {
            connection.set_mark(Marks::SECURED, config.tls);
            connection.set_mark(Marks::REDIRECTED, role == ListenerRole::Redirect);
            if role == ListenerRole::Api {
                connection.stage = Stage::for_calls();
            }
        }
    }

    /// Whether what arrives for a connection still belongs to its handshake.
    pub(super) fn is_shaking_hands(&self, key: Key) -> bool {
        self.connections.get(key).is_some_and(|it| it.has(Marks::SECURED))
            && self.secured.get(key.index).is_none_or(|secure| secure.session.is_handshaking())
    }

    /// Opens what has arrived, and lets the connection take it.
    pub(super) fn feed_secured(&mut self, key: Key, mut input: Input, share: usize) {
        let Some(connection) = self.connections.get(key) else { return self.release(input) };
        let is_preamble = matches!(connection.stage, Stage::Preamble(_));
        if is_preamble && self.take_preamble(key, &mut input) {
            return self.release(input);
        }
        let is_shaking_hands = self.is_shaking_hands(key);
        if is_shaking_hands && !self.begins_step(key, &mut input) {
            return self.release(input);
        }
        let mut opened = std::mem::take(&mut self.secured.opened);
        let range = self.open(key, &mut input, &mut opened);
        if is_shaking_hands && self.is_shaking_hands(key) && !self.has_answer(key) {
            // A part of a message is no step, and takes no turn.
            self.secured.handshakes_left += 1;
        }
        if !opened.is_empty() {
            let mut before = Input::Owned(std::mem::take(&mut opened), 0);
            self.take_in(key, &mut before, share);
            if let Input::Owned(bytes, _) = before {
                opened = bytes;
            }
        }
        if opened.capacity() <= OPENED_KEPT_BYTES {
            opened.clear();
            self.secured.opened = opened;
        }
        if !range.is_empty() {
            self.narrow(&mut input, range);
            self.take_in(key, &mut input, share);
        }
        self.release(input);
        self.end_of_input(key);
    }

    /// Whether a handshake may go on with this input now. If not, it is kept until it may, or
    /// nothing can come of it.
    fn begins_step(&mut self, key: Key, input: &mut Input) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let (ending, waits) = (connection.ending, connection.waits_for.is_some());
        let is_first = self.secured.get(key.index).is_none();
        if ending != Ending::Open {
            // Its turn came too late, and is for others.
            self.end_of_input(key);
        } else if is_first && self.memory_signal.pressure() > Pressure::Calm {
            // A handshake takes more memory than all that comes behind it.
            self.turn_away(key, Refusal::ShortOfMemory);
        } else if !waits && self.secured.may_shake_hands() {
            return true;
        } else {
            self.keep_input(key, input, 0);
            if !waits {
                self.pause(key, WaitsFor::Handshake);
            }
        }
        false
    }

    fn has_answer(&self, key: Key) -> bool {
        self.connections.get(key).is_some_and(|it| it.has(Marks::SEALED))
    }

    /// What a connection that is about to leave has been sent.
    pub(super) fn opened(&mut self, key: Key, slice: BufferSlice) -> Vec<u8> {
        let is_secured = self.connections.get(key).is_some_and(|it| it.has(Marks::SECURED));
        let mut input = Input::Buffer(slice);
        let mut opened = Vec::new();
        let range = match (&input, is_secured) {
            (Input::Buffer(slice), false) => 0..slice.len() as usize,
            _ => self.open(key, &mut input, &mut opened),
        };
        if let Input::Buffer(slice) = &input {
            opened.extend_from_slice(&self.io.bytes(slice)[range]);
        }
        self.release(input);
        opened
    }

    /// Leaves only this part of the input.
    fn narrow(&mut self, input: &mut Input, range: Range<usize>) {
        match input {
            Input::Buffer(slice) => {
                let part = self.io.split(slice, range);
                self.io.release(std::mem::replace(slice, part));
            }
            Input::Owned(bytes, start) => {
                bytes.truncate(*start + range.end);
                *start += range.start;
            }
        }
    }

    /// Opens what has arrived: what it carries lies in a range of the input then, behind what is
    /// appended to `opened`.
    fn open(&mut self, key: Key, input: &mut Input, opened: &mut Vec<u8>) -> Range<usize> {
        let served = self.served;
        let Some(connection) = self.connections.get_mut(key) else { return 0..0 };
        let entry = self.secured.at(key.index);
        if entry.is_none() {
            // Whoever connects and says nothing costs nothing.
            let config = self.effective.certificates.as_ref().map(|it| it.server().clone());
            *entry = config.and_then(|config| Some(Box::new(Secure::new(config)?)));
        }
        let Some(secure) = entry else {
            debug_assert!(false, "a listener with TLS has certificates");
            self.doom(key, true);
            return 0..0;
        };
        let bytes = match input {
            Input::Buffer(slice) => self.io.bytes(slice),
            Input::Owned(bytes, start) => &mut bytes[*start..],
        };
        let sealed_before = secure.sealed.len();
        let Received { opened: range, handshake, client, is_ended, failure } =
            secure.session.receive(bytes, opened, &mut secure.sealed);
        let has_answer = secure.sealed.len() > sealed_before;
        let has_come = !opened.is_empty() || !range.is_empty() || has_answer;
        if has_come && connection.stage.is_open_websocket() {
            // A record that is not whole is no sign of life: it may never become that.
            connection.last_active = served;
        }
        if is_ended {
            connection.mark(Marks::PEER_FINISHED);
        }
        secure.failure = secure.failure.or(failure);
        let stats = self.shared.stats.shard(self.number);
        if let Some(handshake) = handshake {
            count(stats, handshake);
            self.trim.note_freed(SESSION_BYTES, self.now);
        }
        failure.into_iter().for_each(|failure| count_failure(stats, failure));
        if has_answer {
            connection.mark(Marks::SEALED);
            self.mark_dirty(key);
        }
        if let Some(certificate) = client {
            self.note_certificate(key, &certificate);
        }
        range
    }

    /// Bytes that are sealed for a connection and that the kernel does not have yet; `None` without
    /// TLS.
    pub fn sealed_bytes(&self, key: Key) -> Option<usize> {
        self.connections.get(key)?;
        self.secured.get(key.index).map(|secure| secure.sealed.len())
    }

    /// Ends a connection whose session has failed, once what says so has left. Whether it has.
    pub(super) fn end_failed_session(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let has_failed = connection.has(Marks::SECURED)
            && self.secured.get(key.index).is_some_and(|secure| secure.failure.is_some());
        // One that leaves fails where it goes on.
        if has_failed && connection.ending == Ending::Open {
            if connection.owes_close() {
                let reason = "TLS has failed";
                self.note_close(key, Initiator::Remote, CloseCode::ABNORMAL, reason);
            }
            self.finish(key);
        }
        has_failed
    }

    /// Tells a peer that is about to be given up, and is owed nothing, that no more comes: as far
    /// as its socket takes that at once.
    pub(super) fn say_goodbye(&mut self, key: Key) {
        let Self { connections, secured, io, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        let Some(secure) = secured.get_mut(key.index) else { return };
        if connection.ending.is_over() || connection.has_output() {
            return;
        }
        secure.session.close(&mut secure.sealed);
        if !secure.sealed.is_empty() {
            let sealed = Segment::control(std::mem::take(&mut secure.sealed));
            connection.send(io, key, Outgoing::One(sealed));
        }
    }

    /// Seals what waits for a peer, as far as one send takes it, and starts that send.
    pub(super) fn send_sealed(&mut self, key: Key) {
        let Self { connections, secured, io, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        debug_assert!(!connection.requests.contains(Requests::SEND), "one at a time");
        connection.unmark(Marks::SEALED);
        let secure = secured.get_mut(key.index);
        let can_seal = |it: &Secure| {
            it.failure.is_none() && !it.session.is_handshaking() && !it.session.has_closed()
        };
        let Some(secure) = secure else {
            // It ends before its peer has said anything.
            connection.outbox.clear(|slice| io.release(slice));
            return self.settle(key);
        };
        if !can_seal(secure) {
            connection.outbox.clear(|slice| io.release(slice));
        }
        while secure.sealed.len() < SEALED_MOST
            && let Some(outgoing) = connection.outbox.take()
        {
            let taken = secure.seal(io, &outgoing, SEALED_MOST - secure.sealed.len());
            if taken == outgoing.len() {
                connection.outbox.sent_whole();
                release_outgoing(io, outgoing);
                continue;
            }
            let io = RefCell::new(&mut *io);
            connection.outbox.detach(|segment| detached(*io.borrow_mut(), segment));
            connection.outbox.sent_in_part(
                outgoing,
                taken,
                |segment| detached(*io.borrow_mut(), segment),
                |slice| io.borrow_mut().release(slice),
            );
            break;
        }
        // What is left waits for the peer.
        connection.outbox.detach(|segment| detached(io, segment));
        if connection.ending == Ending::Finishing && connection.outbox.is_empty() {
            secure.session.close(&mut secure.sealed);
        }
        if secure.sealed.is_empty() {
            return self.settle(key);
        }
        if connection.has(Marks::PARKED) && !connection.has(Marks::HAS_SENT) {
            // A ping, or the first message for long. Whoever gets more of them is spared the work.
            secure.session.rest_after_send();
        }
        let sealed = Segment::control(std::mem::take(&mut secure.sealed));
        connection.send(io, key, Outgoing::One(sealed));
        if connection.waits_for.is_some() {
            self.settle(key);
        }
    }

    /// Keeps what the kernel did not take of a send.
    pub(super) fn put_back_sealed(&mut self, key: Key, sent: usize, outgoing: Outgoing) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(secure) = self.secured.get_mut(key.index) else { return };
        let Outgoing::One(mut segment) = outgoing else {
            debug_assert!(false, "records are sent as one segment");
            return;
        };
        segment.advance(sent);
        let mut left = segment.bytes().unwrap_or_default().to_vec();
        left.append(&mut secure.sealed);
        secure.sealed = left;
        connection.mark(Marks::SEALED);
    }

    /// A handshake waits until those before it have gone on.
    pub(super) fn await_handshake_turn(&mut self, key: Key) {
        self.secured.waiting.push_back(key);
        self.stats().tls_handshakes_deferred.add(1);
    }

    /// Lets handshakes go on, in the order in which they came, as many as a tick takes.
    pub(super) fn resume_handshakes(&mut self) {
        self.secured.handshakes_left = match self.overload.level() {
            Level::None => HANDSHAKES_PER_TICK,
            Level::FewRequests | Level::NoUpgrades | Level::NoAccepts => HANDSHAKES_LEAST,
        };
        let mut line = std::mem::take(&mut self.secured.waiting);
        while self.secured.handshakes_left > 0
            && let Some(key) = line.pop_front()
        {
            self.resume_if(key, WaitsFor::Handshake, SHARE_MOST);
        }
        // Whoever has to wait anew waits behind those who have waited longer.
        line.append(&mut self.secured.waiting);
        self.secured.waiting = line;
    }
}

impl Secure {
    fn new(config: Arc<rustls::ServerConfig>) -> Option<Self> {
        let session = Session::new(config).inspect_err(|error| tracing::error!(%error, "TLS"));
        Some(Self { session: session.ok()?, sealed: Vec::new(), failure: None })
    }
}

/// Adds to a response what is said over TLS alone (RFC 6797 section 7.2).
pub(super) fn add_fields(response: &mut Vec<u8>, settings: &Tls) {
    let first_line = response.windows(2).position(|pair| pair == b"\r\n");
    if let Some((max_age, end)) = settings.strict_transport.zip(first_line) {
        let field = format!("Strict-Transport-Security: max-age={}\r\n", max_age.as_secs());
        response.splice(end + 2..end + 2, field.into_bytes());
    }
}

fn count(stats: &ShardStats, Handshake { is_latest, is_resumed }: Handshake) {
    match (is_latest, is_resumed) {
        (true, false) => stats.tls_1_3_handshakes.add(1),
        (true, true) => stats.tls_1_3_resumptions.add(1),
        (false, false) => stats.tls_1_2_handshakes.add(1),
        (false, true) => stats.tls_1_2_resumptions.add(1),
    }
}

fn count_failure(stats: &ShardStats, failure: Failure) {
    let counter = match failure {
        Failure::Incompatible => &stats.tls_incompatible,
        Failure::Certificate => &stats.tls_certificate_refused,
        Failure::Alert => &stats.tls_alerts,
        Failure::Decryption => &stats.tls_decryption_failed,
        Failure::Protocol => &stats.tls_protocol_broken,
    };
    counter.add(1);
}

/// Bytes that share a record although they lie apart: those that one record carries.
const JOINED_BYTES_MOST: usize = 16 << 10;
/// Bytes of the application that are sealed for one send.
const SEALED_MOST: usize = 64 << 10;
/// Handshakes that a tick goes on with: about a millisecond (100 us each, measured with ECDSA).
/// Few in debug builds, so that tests see some wait.
const HANDSHAKES_PER_TICK: usize = if cfg!(debug_assertions) { 2 } else { 8 };
/// The same while there is too much to do.
const HANDSHAKES_LEAST: usize = 2;
/// What a session takes, about.
const SESSION_BYTES: usize = 8 << 10;
/// What is kept for what is opened next.
const OPENED_KEPT_BYTES: usize = 256 << 10;
