//! One WebSocket: frames in, pieces of output and decisions out. No socket, no clock.
//!
//! ```text
//! Open --we close--> Closing --peer's close--> Ended
//!   |                                            ^
//!   +-- peer closes, or violates the protocol ---+
//! ```
//!
//! Input is rewritten where it lies: an echo route turns the client's frames into the server's
//! within the receive buffer, and names the bytes to send back as [`Piece::Reflected`]. A binary
//! frame that spans several buffers is reflected part by part as it arrives (cut-through), so it
//! costs no memory for its payload; text waits until all of it is known to be UTF-8.

mod budget;
mod compression;
mod frames;
mod message;
mod recoding;
mod reflection;

use std::cell::RefCell;
use std::ops::Range;

use crate::config::{Limits, MessageTypes};
use crate::sockjs::frame;
use crate::sockjs::transport::message_of;
use crate::wire::close::CloseCode;
use crate::wire::deflate::codec::Codec;
use crate::wire::deflate::negotiation::Agreement;
use crate::wire::deflate::{Deflater, Inflater};
use crate::wire::error::Violation;
use crate::wire::header::{OpCode, close_frame, control_frame};
use crate::wire::mask::MaskKey;
use crate::wire::message::{DataMessage, MessageKind};
pub use budget::{Budget, MESSAGE_BYTES_LEAST, PUBLISHED_COST};
use compression::Upgrade;
use message::Assembly;
use recoding::Recoding;

/// What decides about a WebSocket besides its own bytes.
pub struct Rules<'a> {
    /// Bounds on the peer.
    pub limits: &'a Limits,
    /// Message types accepted.
    pub message_types: MessageTypes,
    /// Seconds on any clock, for the rate of control frames; may wrap.
    pub now_s: u16,
    /// What compresses and inflates for connections that keep nothing between messages.
    pub codec: &'a RefCell<Codec>,
    /// Whether a frame may begin a message, or the WebSocket must pause: nothing more can be
    /// published, or the peer does not read what is queued for it.
    pub may_begin: bool,
    /// What the WebSocket may do before others have their turn.
    pub budget: &'a Budget,
}

/// Why a WebSocket takes no more of its input for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Nothing may begin ([`Rules::may_begin`]), or many answers wait to be read.
    Room,
    /// The budget is spent: it goes on in a later tick, whatever its peer does.
    Turn,
    /// Somebody is asked whether a request is granted.
    Judgement,
    /// A request is for a session that another shard has.
    Owner,
    /// What a request calls is being done.
    Call,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// This server.
    Local,
    /// The peer.
    Remote,
}

impl Initiator {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Local, Self::Remote];

    /// Its name as counters and reports tell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// How a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Who ended it.
    pub initiator: Initiator,
    /// The code of the first close frame.
    pub code: CloseCode,
    /// Its reason.
    pub reason: Box<str>,
}

/// Pings and pongs that came from the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Pings.
    pub pings: u32,
    /// Pongs.
    pub pongs: u32,
    /// The payload of the last pong that is as long as that of a ping from here.
    pub answer: Option<PingPayload>,
}

/// What a ping from here says. A pong says the same (RFC 6455 section 5.5.3), and so does one that
/// nobody asked for, if the peer likes.
pub type PingPayload = [u8; 16];

/// Something to send, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A range of the input, which now holds what to send.
    Reflected {
        /// Where in the input.
        range: Range<usize>,
        /// Whether a frame ends with the last byte.
        ends_frame: bool,
    },
    /// Bytes of their own.
    Owned {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether a frame ends with the last byte.
        ends_frame: bool,
    },
    /// A ping or pong, which goes ahead of queued data.
    Control(Vec<u8>),
    /// A response to a request, which nothing goes ahead of.
    Response(Vec<u8>),
}

/// What a WebSocket wants done. Reused from call to call: drained by the caller after each.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent.
    pub pieces: Vec<Piece>,
    /// Messages for others.
    pub published: Vec<DataMessage>,
    /// The close handshake began, or the protocol was violated.
    pub closed: Option<Closed>,
    /// Pings and pongs that came.
    pub heard: Heard,
    /// After what is queued: no more to send.
    pub finish: bool,
    /// What was not used is to be received again later; and this is why.
    pub paused: Option<Pause>,
    /// A message began that takes memory until it is whole.
    pub message_began: bool,
    /// The peer sent a message and may only subscribe.
    pub is_unauthorized: bool,
    /// Data messages completed by the input.
    pub messages: u32,
    /// Data messages among `pieces`.
    pub reflected_messages: u32,
}

impl Closed {
    fn new(initiator: Initiator, code: CloseCode, reason: &str) -> Self {
        Self { initiator, code, reason: reason.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Ended,
}

/// What messages are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every message returns to its sender.
    Echo,
    /// Every message goes to the members of a topic.
    Broadcast {
        /// Without this a message is a violation, and the peer only gets those of others.
        may_publish: bool,
    },
    /// Every message holds commands of a client session.
    Session {
        /// What the messages of the server are.
        kind: MessageKind,
    },
    /// Every message holds others, in frames of SockJS.
    SockJs {
        /// As of a broadcast.
        may_publish: bool,
    },
}

/// What happens to the payload of the frame in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    Reflect,
    Assemble,
    Discard,
}

/// The state of one connection's protocol; 24 bytes while nothing is in pieces.
#[derive(Debug)]
pub struct WebSocket {
    /// Payload bytes of the frame in progress that are still to come.
    remaining: u32,
    /// The key for the next of them.
    mask: MaskKey,
    /// When control frames were last counted from zero.
    control_window_s: u16,
    control_frames: u16,
    phase: Phase,
    upgrade: Upgrade,
    treatment: Treatment,
    /// Whether the frame in progress is the last of its message.
    fin: bool,
    cold: Option<Box<Cold>>,
}

const _: () = assert!(size_of::<WebSocket>() <= 24);

/// What only a connection in the middle of something needs.
#[derive(Debug, Default)]
struct Cold {
    /// An incomplete frame header or control frame.
    carry: Vec<u8>,
    /// The fragmented or straddling message in progress.
    assembly: Option<Assembly>,
    /// When a message began that is one frame and goes back part by part.
    reflecting_since_s: Option<u16>,
    /// A compressed message that takes several ticks.
    recoding: Option<Box<Recoding>>,
    /// A close that waits for the end of the frame being sent, and its reason.
    pending_close: Option<(CloseCode, String)>,
    /// Inflates what refers to the peer's earlier messages.
    inflater: Option<Box<Inflater>>,
    /// Compresses with reference to earlier messages.
    deflater: Option<Box<Deflater>>,
}

impl WebSocket {
    /// A WebSocket that has just been upgraded, with what was agreed on compression.
    pub fn new(mode: Mode, compression: Option<Agreement>) -> Self {
        Self {
            remaining: 0,
            mask: MaskKey::default(),
            control_window_s: 0,
            control_frames: 0,
            phase: Phase::Open,
            upgrade: Upgrade::new(mode, compression),
            treatment: Treatment::Discard,
            fin: true,
            cold: None,
        }
    }

    /// Takes `input[from..]` from the peer and returns up to where it was used: to its end, unless
    /// `output` says that the WebSocket pauses.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        from: usize,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> usize {
        if self.is_recoding() {
            self.continue_recoding(rules, output);
            if output.paused.is_some() {
                self.release_cold();
                return from;
            }
        }
        let consumed = match self.phase {
            Phase::Open | Phase::Closing => self.receive_frames(input, from, rules, output),
            Phase::Ended => input.len(),
        };
        self.release_cold();
        consumed
    }

    /// Begins the closing handshake; once the peer has answered, `output.finish` is set.
    pub fn close(&mut self, code: CloseCode, reason: &str, output: &mut Output) {
        match self.phase {
            Phase::Open if self.is_mid_reflection() => {
                // Nothing may interrupt the frame that is being sent.
                self.cold().pending_close = Some((code, reason.to_owned()));
            }
            Phase::Open => {
                self.phase = Phase::Closing;
                output.closed = Some(Closed::new(Initiator::Local, code, reason));
                if self.is_sockjs() {
                    let bytes = message_of(&frame::of_close(code.0, reason));
                    output.pieces.push(Piece::Owned { bytes, ends_frame: true });
                }
                let bytes = close_frame(code, reason);
                output.pieces.push(Piece::Owned { bytes, ends_frame: true });
            }
            Phase::Closing | Phase::Ended => {}
        }
    }

    /// Closes without waiting for the answer and keeps nothing of what the peer has sent; not
    /// to be called within a reflected frame, which this would cut short.
    pub fn abandon(&mut self, code: CloseCode, reason: &str, output: &mut Output) {
        self.close(code, reason, output);
        self.end(output);
    }

    /// Ends it because a message holds no others, although it should.
    pub fn fail_framing(&mut self, output: &mut Output) {
        self.fail(&Violation::BrokenFraming, output);
    }

    /// Sends a ping, unless a frame is half sent or the connection is not open; tells whether.
    pub fn ping(&mut self, payload: &PingPayload, output: &mut Output) -> bool {
        let may_send = self.phase == Phase::Open && !self.is_mid_reflection();
        if may_send {
            output.pieces.push(Piece::Control(control_frame(OpCode::Ping, payload)));
        }
        may_send
    }

    /// What its messages are for, as mounts name it.
    pub fn service(&self) -> &'static str {
        match self.session_kind() {
            Some(_) => "channels",
            None if self.is_sockjs() => "sockjs",
            None if self.upgrade.is_echo() => "echo",
            None => "broadcast",
        }
    }

    /// What messages the server sends to a client session, if this is one.
    pub fn session_kind(&self) -> Option<MessageKind> {
        self.upgrade.session_kind()
    }

    /// Whether its messages hold others, in frames of SockJS.
    pub fn is_sockjs(&self) -> bool {
        self.upgrade.is_sockjs()
    }

    /// Whether messages flow, and no close has been asked for.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open && !self.has_pending_close()
    }

    /// Whether we wait for the peer's close frame, or for the end of a frame of its own that ours
    /// must not interrupt: either may never come.
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::Closing || self.has_pending_close()
    }

    /// Whether our close frame waits for the end of a frame that the peer has begun.
    pub fn has_pending_close(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.pending_close.is_some())
    }

    /// Whether its end has begun, by a close frame or a violation: [`Output::closed`] has told so.
    pub fn has_told_its_end(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Whether nothing the peer sends matters any more.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether the peer has sent part of a message. A message that has begun is accepted to its end
    /// even if much is queued for the peer, because it may send all of a message before it reads
    /// the first byte of the echo. Only while connections are shed the shard does not pass it on.
    fn is_mid_message(&self) -> bool {
        self.remaining > 0 || self.cold.as_ref().is_some_and(|cold| cold.assembly.is_some())
    }

    /// Whether its messages are published.
    pub fn may_publish(&self) -> bool {
        !self.upgrade.is_echo() && !self.upgrade.is_read_only()
    }

    /// Whether a message has begun that has not been published, or sent back.
    pub fn has_begun_message(&self) -> bool {
        self.is_mid_message() || self.is_recoding()
    }

    /// Whether it takes no memory but its own entry, because it is in the middle of nothing.
    pub fn owns_nothing(&self) -> bool {
        self.cold.is_none()
    }

    /// Bytes of messages in pieces and of what inflates compressed ones. Not counted is what can be
    /// had without closing the connection ([`release_deflater`](Self::release_deflater)).
    pub fn held_bytes(&self) -> usize {
        self.cold.as_ref().map_or(0, |cold| {
            let assembly = cold.assembly.as_ref().map_or(0, Assembly::held_bytes);
            let inflater = cold.inflater.as_ref().map_or(0, |_| Inflater::HELD_BYTES);
            let recoding = cold.recoding.as_ref().map_or(0, |recoding| recoding.held_bytes());
            cold.carry.capacity() + assembly + inflater + recoding
        })
    }

    /// Seconds since the message began that has not ended; `now_s` as in [`Rules::now_s`].
    pub fn message_age_s(&self, now_s: u16) -> Option<u16> {
        let cold = self.cold.as_ref()?;
        let since_s = cold.assembly.as_ref().map(Assembly::since_s).or(cold.reflecting_since_s)?;
        Some(now_s.wrapping_sub(since_s))
    }

    /// Sets what was counted by the clock of [`Rules::now_s`] forward by so many seconds, which may
    /// wrap: the clock of the shard that this connection has moved to is ahead by that.
    pub fn set_clock_forward(&mut self, seconds: u16) {
        self.control_window_s = self.control_window_s.wrapping_add(seconds);
        if let Some(cold) = &mut self.cold {
            if let Some(assembly) = &mut cold.assembly {
                assembly.set_clock_forward(seconds);
            }
            if let Some(since_s) = &mut cold.reflecting_since_s {
                *since_s = since_s.wrapping_add(seconds);
            }
        }
    }

    fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    fn release_cold(&mut self) {
        if let Some(cold) = &self.cold
            && cold.carry.is_empty()
            && cold.assembly.is_none()
            && cold.reflecting_since_s.is_none()
            && cold.recoding.is_none()
            && cold.pending_close.is_none()
            && cold.inflater.is_none()
            && cold.deflater.is_none()
        {
            self.cold = None;
        }
    }

    /// Whether part of a frame has been sent back whose rest has not arrived.
    pub fn is_mid_reflection(&self) -> bool {
        self.remaining > 0 && self.treatment == Treatment::Reflect
    }
}
