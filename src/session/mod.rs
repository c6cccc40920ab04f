//! One connection's protocol: bytes in, pieces of output and decisions out. No socket, no clock.
//!
//! ```text
//! Request --upgrade--> Open --we close--> Closing --peer's close--> Ended
//!    |                  |                                             ^
//!    +-- refused -------+-- peer closes, or violates the protocol ----+
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
use crate::http::{Answer, Policy, Refusal, Route, Serving, answer};
use crate::wire::close::CloseCode;
use crate::wire::deflate::codec::Codec;
use crate::wire::deflate::{Deflater, Inflater};
use crate::wire::header::{OpCode, close_frame, control_frame};
use crate::wire::mask::MaskKey;
pub use budget::Budget;
use budget::REQUEST_COST;
use compression::Upgrade;
use message::Assembly;
use recoding::Recoding;

/// What decides about a connection besides its own bytes.
pub struct Rules<'a> {
    /// Bounds on the peer.
    pub limits: &'a Limits,
    /// Message types accepted.
    pub message_types: MessageTypes,
    /// Decisions about requests.
    pub policy: &'a Policy,
    /// Whether upgrades are welcome.
    pub serving: Serving,
    /// Renders the counters for `/stats`.
    pub stats: &'a dyn Fn() -> String,
    /// Seconds on any clock, for the rate of control frames; may wrap.
    pub now_s: u16,
    /// What compresses and inflates for connections that keep nothing between messages.
    pub codec: &'a RefCell<Codec>,
    /// Whether a frame may begin a message, or the session must pause: nothing more can be
    /// published, or the peer does not read what is queued for it.
    pub may_begin: bool,
    /// What the session may do before others have their turn.
    pub budget: &'a Budget,
}

/// Why a session takes no more of its input for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Nothing may begin ([`Rules::may_begin`]), or many answers wait to be read.
    Room,
    /// The budget is spent: it goes on in a later tick, whatever its peer does.
    Turn,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// This server.
    Local,
    /// The peer.
    Remote,
}

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

/// What a session wants done. Reused from call to call: drained by the caller after each.
#[derive(Debug, Default)]
pub struct Output {
    /// To be sent.
    pub pieces: Vec<Piece>,
    /// Encoded frames for the connection's topic.
    pub published: Vec<Vec<u8>>,
    /// The connection was upgraded to this route.
    pub upgraded: Option<Route>,
    /// A request was refused.
    pub refused: Option<Refusal>,
    /// The close handshake began, or the protocol was violated.
    pub closed: Option<(Initiator, CloseCode)>,
    /// After what is queued: no more to send.
    pub finish: bool,
    /// Input to be received next, instead of what follows `consumed`.
    pub leftover: Option<Vec<u8>>,
    /// What follows `consumed` is to be received again later; and this is why.
    pub paused: Option<Pause>,
    /// A message began that takes memory until it is whole.
    pub message_began: bool,
    /// Data messages completed by the input.
    pub messages: u32,
    /// Data messages among `pieces`.
    pub reflected_messages: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Request,
    Open,
    Closing,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Echo,
    Broadcast,
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
pub struct Session {
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

const _: () = assert!(size_of::<Session>() <= 24);

/// What only a connection in the middle of something needs.
#[derive(Debug, Default)]
struct Cold {
    /// An incomplete request head, frame header or control frame.
    carry: Vec<u8>,
    /// The fragmented or straddling message in progress.
    assembly: Option<Assembly>,
    /// When a message began that is one frame and goes back part by part.
    reflecting_since_s: Option<u16>,
    /// Input that has to wait, from this place on.
    stash: Vec<u8>,
    stash_start: usize,
    /// A compressed message that takes several ticks.
    recoding: Option<Box<Recoding>>,
    /// A close that waits for the end of the frame being sent, and its reason.
    pending_close: Option<(CloseCode, String)>,
    /// Inflates what refers to the peer's earlier messages.
    inflater: Option<Box<Inflater>>,
    /// Compresses with reference to earlier messages.
    deflater: Option<Box<Deflater>>,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            remaining: 0,
            mask: MaskKey::default(),
            control_window_s: 0,
            control_frames: 0,
            phase: Phase::Request,
            upgrade: Upgrade::default(),
            treatment: Treatment::Discard,
            fin: true,
            cold: None,
        }
    }
}

impl Session {
    /// Takes bytes from the peer and returns how many of them were used: all, unless `output` says
    /// otherwise (`leftover`, `paused`).
    pub fn receive(&mut self, input: &mut [u8], rules: &Rules<'_>, output: &mut Output) -> usize {
        let mut consumed = 0;
        if self.phase == Phase::Request || self.is_recoding() {
            match self.phase {
                Phase::Request => consumed = self.receive_requests(input, rules, output),
                _ => self.continue_recoding(rules, output),
            }
            if output.leftover.is_some() || output.paused.is_some() {
                self.release_cold();
                return consumed;
            }
        }
        if self.phase == Phase::Open || self.phase == Phase::Closing {
            consumed = self.receive_frames(input, consumed, rules, output);
        } else {
            consumed = input.len();
        }
        self.release_cold();
        consumed
    }

    /// Begins the closing handshake; once the peer has answered, `output.finish` is set.
    pub fn close(&mut self, code: CloseCode, reason: &str, output: &mut Output) {
        match self.phase {
            Phase::Request => {
                self.phase = Phase::Ended;
                output.finish = true;
            }
            Phase::Open if self.is_mid_reflection() => {
                // Nothing may interrupt the frame that is being sent.
                self.cold().pending_close = Some((code, reason.to_owned()));
            }
            Phase::Open => {
                self.phase = Phase::Closing;
                output.closed = Some((Initiator::Local, code));
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

    /// Refuses a peer that did not send its request in time.
    pub fn time_out_request(&mut self, output: &mut Output) {
        if self.phase == Phase::Request {
            self.phase = Phase::Ended;
            output.refused = Some(Refusal::Timeout);
            output.pieces.push(Piece::Response(crate::http::timeout_response()));
            output.finish = true;
        }
    }

    /// Sends a ping, unless a frame is half sent or the connection is not open.
    pub fn ping(&mut self, output: &mut Output) {
        if self.phase == Phase::Open && !self.is_mid_reflection() {
            output.pieces.push(Piece::Control(control_frame(OpCode::Ping, b"")));
        }
    }

    /// Whether the request has not been upgraded yet.
    pub fn is_request(&self) -> bool {
        self.phase == Phase::Request
    }

    /// Whether an idle connection would be within a request head.
    pub fn has_partial_request(&self) -> bool {
        self.phase == Phase::Request && self.cold.is_some()
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

    /// Whether nothing the peer sends matters any more.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether the peer has sent part of a message: its end is let in whatever is queued, because a
    /// peer may send the whole of a message before it reads the first byte of its echo. Only while
    /// connections are shed the shard does not bring it here.
    fn is_mid_message(&self) -> bool {
        self.remaining > 0 || self.cold.as_ref().is_some_and(|cold| cold.assembly.is_some())
    }

    /// Bytes of messages in pieces and of what inflates compressed ones. Not counted are input that
    /// has to wait, a few receive buffers at the most, and what can be had without closing the
    /// connection ([`release_deflater`](Self::release_deflater)).
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

    /// Keeps input that has to wait, behind what waits already.
    pub fn stash(&mut self, input: &[u8]) {
        if !input.is_empty() {
            self.cold().stash.extend_from_slice(input);
        }
    }

    /// Keeps what follows the first `consumed` bytes of the stash that was taken.
    pub fn put_back_stash(&mut self, stash: Vec<u8>, consumed: usize) {
        if consumed < stash.len() {
            let cold = self.cold();
            debug_assert!(cold.stash.is_empty(), "the stash was taken");
            (cold.stash, cold.stash_start) = (stash, consumed);
        }
    }

    /// Whether input waits.
    pub fn has_stash(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| !cold.stash.is_empty())
    }

    /// Takes out the input that waited, and where in it that starts.
    pub fn take_stash(&mut self) -> (Vec<u8>, usize) {
        let Some(cold) = &mut self.cold else { return (Vec::new(), 0) };
        let stash = (std::mem::take(&mut cold.stash), std::mem::take(&mut cold.stash_start));
        self.release_cold();
        stash
    }

    fn receive_requests(
        &mut self,
        input: &mut [u8],
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> usize {
        let mut carry = match &mut self.cold {
            Some(cold) => std::mem::take(&mut cold.carry),
            None => Vec::new(),
        };
        if carry.is_empty() {
            return self.answer_requests(input, rules, output);
        }
        carry.extend_from_slice(input);
        // A head ends with a line, so only a line's end, or the limit, makes it worth another look.
        if !input.contains(&b'\n') && carry.len() < rules.limits.request_head_bytes {
            self.cold().carry = carry;
            return input.len();
        }
        let consumed = self.answer_requests(&mut carry, rules, output);
        if output.paused.is_some() {
            self.stash(&carry[consumed..]);
        } else if consumed < carry.len() && self.phase == Phase::Open {
            output.leftover = Some(carry.split_off(consumed));
        }
        input.len()
    }

    /// Answers the requests in `input`, up to an upgrade; keeps an incomplete one.
    fn answer_requests(
        &mut self,
        input: &mut [u8],
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> usize {
        let mut consumed = 0;
        while consumed < input.len() && self.phase == Phase::Request {
            if output.pieces.len() >= ANSWERS_MAX || !rules.may_begin {
                output.paused = Some(Pause::Room);
                break;
            }
            if rules.budget.is_spent() {
                output.paused = Some(Pause::Turn);
                break;
            }
            rules.budget.spend(REQUEST_COST);
            match answer(&input[consumed..], rules.policy, rules.serving, rules.stats) {
                Answer::Incomplete => {
                    self.cold().carry.extend_from_slice(&input[consumed..]);
                    return input.len();
                }
                Answer::Upgrade { consumed: head, route, response, compression } => {
                    consumed += head;
                    self.phase = Phase::Open;
                    let mode = match route {
                        Route::Echo => Mode::Echo,
                        Route::Broadcast { .. } => Mode::Broadcast,
                    };
                    self.upgrade = Upgrade::new(mode, compression);
                    output.upgraded = Some(route);
                    output.pieces.push(Piece::Response(response));
                }
                Answer::Respond { consumed: head, response, keep_alive, refusal } => {
                    consumed += head;
                    output.refused = refusal.or(output.refused);
                    output.pieces.push(Piece::Response(response));
                    if !keep_alive {
                        self.phase = Phase::Ended;
                        output.finish = true;
                    }
                }
            }
        }
        consumed
    }

    fn cold(&mut self) -> &mut Cold {
        self.cold.get_or_insert_default()
    }

    fn release_cold(&mut self) {
        if let Some(cold) = &self.cold
            && cold.carry.is_empty()
            && cold.assembly.is_none()
            && cold.reflecting_since_s.is_none()
            && cold.stash.is_empty()
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

/// Pipelined requests answered before the peer has to read some of the answers.
const ANSWERS_MAX: usize = 16;

#[cfg(test)]
mod tests;
