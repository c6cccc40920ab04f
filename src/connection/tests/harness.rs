//! A WebSocket with what an event loop does around it: input in pieces, a queue that control frames
//! jump, a stash while there is no room to publish.

use std::cell::RefCell;

use super::client::{RESPONSE, request};
use ringwire::config::{Config, Limits, MessageTypes};
use ringwire::connection::{Output, Rules, Stage};
use ringwire::http::{Conditions, Policy, Posted, Refusal, Route, Serving};
use ringwire::websocket::{
    self, Budget, Closed, Heard, Initiator, Pause, Piece, PingPayload, WebSocket,
};
use ringwire::wire::close::CloseCode;
use ringwire::wire::deflate::Inflater;
use ringwire::wire::deflate::codec::{Codec, Settings};
use ringwire::wire::deflate::negotiation::Terms;
use ringwire::wire::header::{Header, OpCode, RSV1, Role};
use ringwire::wire::message::DataMessage;

/// When queued bytes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// After each input: the peer reads at once.
    Eager,
    /// Not before the end: everything is queued together.
    Lazy,
}

/// What an event loop lends to its WebSockets.
pub(super) fn codec(limits: &Limits) -> RefCell<Codec> {
    RefCell::new(Codec::new(Settings {
        level: 1,
        threshold_bytes: 16,
        message_bytes_max: limits.message_bytes,
    }))
}

struct Queued {
    bytes: Vec<u8>,
    ends_frame: bool,
    control: bool,
}

/// One connection.
pub(super) struct Harness {
    pub(super) stage: Stage,
    pub(super) limits: Limits,
    pub(super) message_types: MessageTypes,
    pub(super) policy: Policy,
    pub(super) now_s: u16,
    pub(super) codec: RefCell<Codec>,
    pub(super) may_begin: bool,
    /// What each turn allows; whatever is left goes on in the next one at once.
    pub(super) budget: u32,
    pub(super) published: Vec<Vec<u8>>,
    pub(super) closed: Option<(Initiator, CloseCode)>,
    /// Pings and pongs, and the last answer to a ping from here.
    pub(super) heard: Heard,
    pub(super) upgraded: Option<Route>,
    pub(super) streamed: Option<Box<str>>,
    pub(super) refused: Vec<Refusal>,
    pub(super) posted: Vec<Posted>,
    pub(super) finished: bool,
    pub(super) paused: bool,
    pub(super) messages: u32,
    pub(super) reflected_messages: u32,
    /// Input that waits while the connection pauses.
    stash: Vec<u8>,
    sending: Sending,
    queue: Vec<Queued>,
    mid_frame: bool,
    sent: Vec<u8>,
}

impl Harness {
    /// A connection that has sent nothing yet.
    pub(super) fn new(sending: Sending) -> Self {
        Self {
            stage: Stage::default(),
            stash: Vec::new(),
            limits: Limits { request_head_bytes: 1024, ..Limits::default() },
            message_types: MessageTypes::Any,
            policy: Policy {
                message_bytes: 1000,
                request_head_bytes: 1024,
                request_headers: 16,
                ..Policy::new(&Config::default())
            },
            now_s: 7,
            codec: codec(&Limits::default()),
            may_begin: true,
            budget: u32::MAX,
            published: Vec::new(),
            closed: None,
            heard: Heard::default(),
            upgraded: None,
            streamed: None,
            refused: Vec::new(),
            posted: Vec::new(),
            finished: false,
            paused: false,
            messages: 0,
            reflected_messages: 0,
            sending,
            queue: Vec::new(),
            mid_frame: false,
            sent: Vec::new(),
        }
    }

    /// A connection that was upgraded to `path`; the response is not among what it has sent.
    pub(super) fn open(path: &str, sending: Sending) -> Self {
        let mut harness = Self::new(sending);
        harness.feed(&request(path));
        harness.leave();
        assert_eq!(std::mem::take(&mut harness.sent), RESPONSE);
        assert!(harness.stage.is_open());
        harness
    }

    /// A connection that agreed on compression with a client that offered these `parameters`;
    /// with `takeover` both ends may refer to earlier messages. The response is not among what it
    /// has sent.
    pub(super) fn compressed(
        path: &str,
        sending: Sending,
        takeover: bool,
        parameters: &str,
    ) -> Self {
        let mut harness = Self::new(sending);
        let terms = Terms { server_takeover: takeover, client_takeover: takeover, window_bits: 15 };
        harness.policy.compression = Some(terms);
        let mut request = request(path);
        request.truncate(request.len() - 2);
        let field = format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n\r\n");
        request.extend(field.into_bytes());
        harness.feed(&request);
        let response = String::from_utf8(harness.take_sent()).expect("ASCII");
        assert!(response.contains("Sec-WebSocket-Extensions: permessage-deflate"), "{response}");
        harness
    }

    /// Receives one input, as an event loop does.
    pub(super) fn feed(&mut self, input: &[u8]) {
        let mut input = input.to_vec();
        loop {
            if self.has_stash() {
                return self.stash.extend_from_slice(&input);
            }
            let mut output = Output::default();
            let budget = Budget::new(self.budget);
            let rules = Rules {
                websocket: websocket::Rules {
                    limits: &self.limits,
                    message_types: self.message_types,
                    now_s: self.now_s,
                    codec: &self.codec,
                    may_begin: self.may_begin,
                    budget: &budget,
                },
                http: Conditions {
                    redirects_to: None,
                    may_publish: &|_| self.may_begin,
                    ..Conditions::unlimited(&self.policy, Serving::Open)
                },
                goes_on_after_upgrade: true,
            };
            let consumed = self.stage.receive(&mut input, &rules, &mut output);
            assert!(consumed <= input.len());
            let pause = output.websocket.paused.take();
            assert!(consumed == input.len() || pause.is_some());
            self.stash.extend_from_slice(&input[consumed..]);
            self.apply(&input, output);
            match pause {
                None => break,
                Some(Pause::Room) => {
                    self.paused = true;
                    break;
                }
                Some(Pause::Turn) => input = std::mem::take(&mut self.stash),
                Some(Pause::Judgement | Pause::Call | Pause::Owner) => {
                    panic!("nobody is to be asked")
                }
            }
        }
        if self.sending == Sending::Eager {
            self.leave();
        }
    }

    /// Whether input waits.
    pub(super) fn has_stash(&self) -> bool {
        !self.stash.is_empty()
    }

    /// The WebSocket that the connection has become.
    pub(super) fn websocket(&self) -> &WebSocket {
        self.stage.websocket().expect("an upgraded connection")
    }

    /// The same, to be changed.
    pub(super) fn websocket_mut(&mut self) -> &mut WebSocket {
        self.stage.websocket_mut().expect("an upgraded connection")
    }

    /// Sends a ping.
    pub(super) fn ping(&mut self) {
        let ping = |stage: &mut Stage, output: &mut Output| {
            let websocket = stage.websocket_mut().expect("an upgraded connection");
            websocket.ping(PING, &mut output.websocket);
        };
        self.command(ping);
    }

    /// Goes on with what waited for room.
    pub(super) fn resume(&mut self) {
        self.paused = false;
        let stash = std::mem::take(&mut self.stash);
        self.feed(&stash);
    }

    /// Lets the connection act on its own.
    pub(super) fn command(&mut self, act: impl FnOnce(&mut Stage, &mut Output)) {
        let mut output = Output::default();
        act(&mut self.stage, &mut output);
        self.apply(&[], output);
        if self.sending == Sending::Eager {
            self.leave();
        }
    }

    /// Everything sent, queued bytes included.
    pub(super) fn sent(&mut self) -> Vec<u8> {
        self.leave();
        self.sent.clone()
    }

    /// Everything sent since this was asked last.
    pub(super) fn take_sent(&mut self) -> Vec<u8> {
        self.leave();
        std::mem::take(&mut self.sent)
    }

    /// The frames sent, after the response to an upgrade if that was asked for here; panics unless
    /// they are what a server may send.
    pub(super) fn transcript(&mut self) -> Transcript {
        let sent = self.sent();
        let extension_bits =
            self.stage.websocket().and_then(WebSocket::server_window_bits).map_or(0, |_| RSV1);
        Transcript::read(sent.strip_prefix(RESPONSE).unwrap_or(&sent), extension_bits)
    }

    fn apply(&mut self, input: &[u8], output: Output) {
        let mut end = 0;
        let Output { websocket: output, upgraded, streamed, refused, posted, .. } = output;
        for piece in output.pieces {
            match piece {
                Piece::Reflected { range, ends_frame } => {
                    assert!(end <= range.start && range.start < range.end, "{end} {range:?}");
                    end = range.end;
                    let bytes = input[range].to_vec();
                    self.queue.push(Queued { bytes, ends_frame, control: false });
                }
                Piece::Owned { bytes, ends_frame } => {
                    assert!(!bytes.is_empty());
                    self.queue.push(Queued { bytes, ends_frame, control: false });
                }
                Piece::Response(bytes) => {
                    self.queue.push(Queued { bytes, ends_frame: true, control: true });
                }
                Piece::Control(bytes) => self.queue_control(bytes),
            }
        }
        assert!(!(self.finished && output.finish) || output.closed.is_none());
        self.heard.pings += output.heard.pings;
        self.heard.pongs += output.heard.pongs;
        self.heard.answer = output.heard.answer.or(self.heard.answer);
        if let Some(Closed { initiator, code, .. }) = output.closed {
            assert_eq!(self.closed, None, "a connection is closed once");
            self.closed = Some((initiator, code));
        }
        self.finished |= output.finish;
        self.upgraded = upgraded.map(|upgraded| upgraded.route).or(self.upgraded.take());
        self.streamed = streamed.map(|streamed| streamed.topic).or(self.streamed.take());
        self.refused.extend(refused);
        self.posted.extend(posted);
        self.published.extend(output.published.into_iter().map(DataMessage::into_frame));
        self.messages += output.messages;
        self.reflected_messages += output.reflected_messages;
    }

    /// Ahead of all data, behind other control frames, and never within a frame.
    fn queue_control(&mut self, bytes: Vec<u8>) {
        let frame_end = self.queue.iter().position(|queued| queued.ends_frame);
        let first = match (self.mid_frame, frame_end) {
            (false, _) => 0,
            (true, Some(end)) => end + 1,
            (true, None) => panic!("a control frame within a frame"),
        };
        let controls = self.queue[first..].iter().take_while(|queued| queued.control).count();
        let control = Queued { bytes, ends_frame: true, control: true };
        self.queue.insert(first + controls, control);
    }

    fn leave(&mut self) {
        for queued in self.queue.drain(..) {
            self.mid_frame = !queued.ends_frame;
            self.sent.extend(queued.bytes);
        }
    }
}

/// One frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) fin: bool,
    pub(super) opcode: OpCode,
    pub(super) payload: Vec<u8>,
}

/// What a peer would have read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Transcript {
    /// The bytes of data frames, as they came, the part of one at the end included.
    pub(super) data: Vec<u8>,
    /// Pongs and pings, as they came: they may overtake data, so a split moves them among it.
    pub(super) controls: Vec<Frame>,
    /// All whole data messages, inflated.
    pub(super) messages: Vec<(OpCode, Vec<u8>)>,
    /// The payload of the close frame.
    pub(super) close: Option<Vec<u8>>,
}

/// A message of the server that is being read.
struct Message {
    opcode: OpCode,
    payload: Vec<u8>,
    compressed: bool,
}

impl Message {
    /// What it says to a client that remembers all before.
    fn plain(self, inflater: &mut Inflater) -> Vec<u8> {
        if !self.compressed {
            return self.payload;
        }
        let (mut plain, bytes_max) = (Vec::new(), Limits::default().message_bytes as usize);
        inflater.message(&self.payload, bytes_max, &mut plain).expect("a compressed message");
        plain
    }
}

impl Transcript {
    fn read(mut bytes: &[u8], extension_bits: u8) -> Self {
        let mut transcript = Self::default();
        let (mut open, mut inflater) = (None::<Message>, Inflater::default());
        while let Some((header, header_bytes)) =
            Header::decode(bytes, Role::Client, extension_bits).expect("a server's frame")
        {
            assert_eq!(transcript.close, None, "a frame after the close frame");
            let end = header_bytes + header.payload_bytes as usize;
            let Some(payload) = bytes.get(header_bytes..end) else { break };
            let (whole, rest) = bytes.split_at(end);
            let (fin, opcode, payload) = (header.fin, header.opcode, payload.to_vec());
            bytes = rest;
            if !opcode.is_control() {
                transcript.data.extend(whole);
            }
            match opcode {
                OpCode::Ping | OpCode::Pong => {
                    transcript.controls.push(Frame { fin, opcode, payload });
                    continue;
                }
                OpCode::Close => transcript.close = Some(payload),
                OpCode::Text | OpCode::Binary => {
                    assert!(open.is_none(), "a message within a message");
                    open = Some(Message { opcode, payload, compressed: header.rsv == RSV1 });
                }
                OpCode::Continuation => {
                    open.as_mut().expect("a message to continue").payload.extend(payload);
                }
            }
            if fin && !opcode.is_control() {
                let message = open.take().expect("an open message");
                transcript.messages.push((message.opcode, message.plain(&mut inflater)));
            }
        }
        assert!(transcript.close.is_none() || bytes.is_empty(), "bytes after the close frame");
        transcript.data.extend(bytes);
        transcript
    }

    /// The code of the close frame.
    pub(super) fn close_code(&self) -> Option<CloseCode> {
        let payload = self.close.as_ref()?;
        payload.first_chunk().map(|code| CloseCode(u16::from_be_bytes(*code)))
    }
}

/// What pings from here say.
pub(super) const PING: &PingPayload = b"as long as it is";
