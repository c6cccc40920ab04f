//! What one connection speaks at the moment, without socket and clock: bytes in, pieces of output
//! and decisions out.
//!
//! ```text
//! Preamble --header of a proxy--> Http --upgrade--> WebSocket
//!                                   |
//!                                   +----stream---> Stream
//! ```
//!
//! Each ends by itself: a request that is refused or not followed by another, a closing handshake,
//! the last chunk of a response. What has been taken from the receive buffer and is not used yet
//! (the head of a request, a message in pieces) belongs to the stage that will use it.

mod requests;
mod stream;

use crate::http::{
    Answered, Asked, Called, Conditions, Exchange, Posted, Refusal, Route, SessionAnswer,
    SessionRequest,
};
use crate::identity::Inquiry;
use crate::proxy_protocol::Preamble;
use crate::websocket::{self, Initiator, Pause, Piece, WebSocket};
use crate::wire::close::CloseCode;
pub use stream::Stream;

/// What decides about a connection besides its own bytes.
pub struct Rules<'a> {
    /// What decides about frames.
    pub websocket: websocket::Rules<'a>,
    /// What decides about requests.
    pub http: Conditions<'a>,
    /// Whether a WebSocket takes what has come in one piece with its request, or pauses before.
    pub goes_on_after_upgrade: bool,
}

/// What a connection wants done. Reused from call to call: drained by the caller after each.
#[derive(Debug, Default)]
pub struct Output {
    /// What is to be sent and published, and how the connection goes on.
    pub websocket: websocket::Output,
    /// The connection was upgraded.
    pub upgraded: Option<Upgraded>,
    /// The connection has become a stream.
    pub streamed: Option<Streamed>,
    /// A request was answered, and another may follow.
    pub answered: bool,
    /// What the last request was, if that is to be logged.
    pub asked: Option<Box<Asked>>,
    /// What is to be asked about a request, which waits for the answer.
    pub inquiry: Option<Box<Inquiry>>,
    /// What a request calls, which waits for what comes of it.
    pub called: Option<Box<Called>>,
    /// What a request wants of a session, which decides how it is answered.
    pub requested: Option<Box<SessionRequest>>,
    /// The shard that has the session that a request is for, which waits to go on there.
    pub owner: Option<usize>,
    /// A request was refused.
    pub refused: Option<Refusal>,
    /// Messages that requests have brought.
    pub posted: Vec<Posted>,
}

/// What began with an upgrade, and what ended.
#[derive(Debug)]
pub struct Upgraded {
    /// Where the WebSocket leads.
    pub route: Route,
    /// Whether the connection had been kept for a further request; this was that.
    pub was_kept_alive: bool,
}

/// What began with a stream, and what ended.
#[derive(Debug)]
pub struct Streamed {
    /// The name of the topic.
    pub topic: Box<str>,
    /// Whether the connection had been kept for a further request; this was that.
    pub was_kept_alive: bool,
}

/// The protocol that a connection speaks.
#[derive(Debug)]
pub enum Stage {
    /// A header by which a proxy tells who has connected to it; only where listeners expect one.
    Preamble(Preamble),
    /// Requests, each with its answer.
    Http(Exchange),
    /// Frames, after an upgrade.
    WebSocket(WebSocket),
    /// The lines of a response that goes on.
    Stream(Stream),
}

const _: () = assert!(size_of::<Stage>() <= 24);

impl Default for Stage {
    fn default() -> Self {
        Self::Http(Exchange::default())
    }
}

impl Stage {
    /// Requests of a connection that may call the API, and nothing else.
    pub fn for_calls() -> Self {
        Self::Http(Exchange::for_calls())
    }

    /// Takes bytes from the peer and returns how many of them were used: all, unless the output
    /// says that the connection pauses.
    pub fn receive(&mut self, input: &mut [u8], rules: &Rules<'_>, output: &mut Output) -> usize {
        match self {
            Self::Preamble(_) => {
                debug_assert!(false, "who connects is known before what they ask for");
                input.len()
            }
            Self::Http(exchange) => {
                let (consumed, next) = requests::receive(exchange, input, rules, output);
                let Some(next) = next else { return consumed };
                *self = next;
                self.receive_behind_request(input, consumed, rules, output)
            }
            Self::WebSocket(websocket) => {
                websocket.receive(input, 0, &rules.websocket, &mut output.websocket)
            }
            Self::Stream(stream) => {
                stream.discard(input.len(), &mut output.websocket);
                input.len()
            }
        }
    }

    /// Takes what follows the request that has made the connection what it is now.
    fn receive_behind_request(
        &mut self,
        input: &mut [u8],
        from: usize,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> usize {
        match self {
            Self::WebSocket(_) if from < input.len() && !rules.goes_on_after_upgrade => {
                output.websocket.paused = Some(Pause::Turn);
                from
            }
            Self::WebSocket(websocket) => {
                websocket.receive(input, from, &rules.websocket, &mut output.websocket)
            }
            Self::Preamble(_) | Self::Http(_) | Self::Stream(_) => {
                from + self.receive(&mut input[from..], rules, output)
            }
        }
    }

    /// Ends the connection in the way of its protocol; once the peer has answered, or needs not to,
    /// `finish` is set.
    pub fn close(&mut self, code: CloseCode, reason: &str, output: &mut Output) {
        match self {
            Self::Http(exchange) if exchange.is_ended() => {}
            Self::Http(exchange) => {
                exchange.end();
                output.websocket.finish = true;
            }
            Self::Preamble(_) => {
                self.end_preamble();
                output.websocket.finish = true;
            }
            Self::WebSocket(websocket) => websocket.close(code, reason, &mut output.websocket),
            Self::Stream(stream) => {
                stream.end(Initiator::Local, code, reason, &mut output.websocket)
            }
        }
    }

    /// Closes without waiting for anything and keeps nothing of what the peer has sent; not to be
    /// called within a reflected frame, which this would cut short.
    pub fn abandon(&mut self, code: CloseCode, reason: &str, output: &mut Output) {
        match self {
            Self::WebSocket(websocket) => websocket.abandon(code, reason, &mut output.websocket),
            Self::Preamble(_) | Self::Http(_) | Self::Stream(_) => self.close(code, reason, output),
        }
    }

    /// Refuses a request that could not be answered in time, because the peer has not sent all of
    /// it, or because it was put off here. A proxy that has not told who has
    /// connected gets no answer.
    pub fn time_out_request(&mut self, is_put_off: bool, retry_after_s: u8, output: &mut Output) {
        match self {
            Self::Http(exchange) if !exchange.is_ended() => {
                let (refusal, response) = exchange.time_out(is_put_off, retry_after_s);
                output.refused = Some(refusal);
                output.websocket.pieces.push(Piece::Response(response));
                output.websocket.finish = true;
            }
            Self::Preamble(_) => {
                self.end_preamble();
                output.refused = Some(Refusal::ProxyHeader);
                output.websocket.finish = true;
            }
            Self::Http(_) | Self::WebSocket(_) | Self::Stream(_) => {}
        }
    }

    fn end_preamble(&mut self) {
        let mut exchange = Exchange::default();
        exchange.end();
        *self = Self::Http(exchange);
    }

    /// The WebSocket, once the connection is one.
    pub fn websocket(&self) -> Option<&WebSocket> {
        match self {
            Self::WebSocket(websocket) => Some(websocket),
            Self::Preamble(_) | Self::Http(_) | Self::Stream(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn websocket_mut(&mut self) -> Option<&mut WebSocket> {
        match self {
            Self::WebSocket(websocket) => Some(websocket),
            Self::Preamble(_) | Self::Http(_) | Self::Stream(_) => None,
        }
    }

    /// The stream, once the connection is one.
    pub fn stream(&self) -> Option<&Stream> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Preamble(_) | Self::Http(_) | Self::WebSocket(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn stream_mut(&mut self) -> Option<&mut Stream> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Preamble(_) | Self::Http(_) | Self::WebSocket(_) => None,
        }
    }

    /// A call has been done: sends the response.
    pub fn finish_call(&mut self, status: u16, body: String, output: &mut Output) {
        let Self::Http(exchange) = self else { return };
        if let Some((response, keep_alive)) = exchange.finish_call(status, body) {
            requests::respond(exchange, response, keep_alive, output);
        }
    }

    /// A session has decided about a request: sends the response, and returns what has come of the
    /// next request.
    pub fn answer_session(
        &mut self,
        answer: SessionAnswer<'_>,
        retry_after_s: u8,
        output: &mut Output,
    ) -> Vec<u8> {
        let Self::Http(exchange) = self else { return Vec::new() };
        let Some(answered) = exchange.answer_session(answer, retry_after_s) else {
            return Vec::new();
        };
        let Answered { response, refusal, keep_alive, early } = answered;
        output.refused = refusal.or(output.refused);
        requests::respond(exchange, response, keep_alive, output);
        early
    }

    /// Sends frames of a session as parts of a response that goes on, and its end if they are the
    /// last.
    pub fn send_parts(
        &mut self,
        parts: impl IntoIterator<Item = Vec<u8>>,
        last: Option<&'static [u8]>,
        output: &mut Output,
    ) {
        let Self::Http(exchange) = self else { return };
        if let Some(beginning) = exchange.begin_stream() {
            output.websocket.pieces.push(Piece::Response(beginning));
        }
        let owned = |bytes| Piece::Owned { bytes, ends_frame: true };
        output.websocket.pieces.extend(parts.into_iter().map(owned));
        if let Some(last) = last {
            if !last.is_empty() {
                output.websocket.pieces.push(owned(last.to_vec()));
            }
            exchange.end();
            output.websocket.finish = true;
        }
    }

    /// Whether a session decides about a request, or the response to that goes on.
    pub fn is_of_session(&self) -> bool {
        matches!(self, Self::Http(exchange) if exchange.is_of_session())
    }

    /// The requests, for as long as the connection has not become something else.
    pub fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        match self {
            Self::Http(exchange) => Some(exchange),
            Self::Preamble(_) | Self::WebSocket(_) | Self::Stream(_) => None,
        }
    }

    /// Whether a request is waited for, or for the rest of one, or for what comes before it.
    pub fn is_request(&self) -> bool {
        match self {
            Self::Preamble(_) => true,
            Self::Http(exchange) => !exchange.is_ended(),
            Self::WebSocket(_) | Self::Stream(_) => false,
        }
    }

    /// Whether a request has begun that is not complete.
    pub fn has_partial_request(&self) -> bool {
        matches!(self, Self::Http(exchange) if exchange.has_partial_request())
    }

    /// Whether the connection is kept for another request, after one that was answered.
    pub fn is_kept_alive(&self) -> bool {
        matches!(self, Self::Http(exchange) if exchange.is_kept_alive())
    }

    /// Whether the body of a message is being received, or waits to be published.
    pub fn has_upload(&self) -> bool {
        matches!(self, Self::Http(exchange) if exchange.has_upload())
    }

    /// The topic of a message that was received by a request and waits to be published.
    pub fn blocked_topic(&self) -> Option<&str> {
        match self {
            Self::Http(exchange) => exchange.blocked_topic(),
            Self::Preamble(_) | Self::WebSocket(_) | Self::Stream(_) => None,
        }
    }

    /// Whether there is something to go on with that needs no input: a message that takes several
    /// ticks, or one that waits to be published, or a request that has waited for its judgement.
    pub fn can_go_on(&self) -> bool {
        match self {
            Self::Preamble(_) => false,
            Self::Http(exchange) => exchange.can_go_on(),
            Self::WebSocket(websocket) => websocket.is_recoding(),
            Self::Stream(_) => false,
        }
    }

    /// Whether messages flow, and no close has been asked for.
    pub fn is_open(&self) -> bool {
        self.is_open_websocket() || self.stream().is_some_and(Stream::is_open)
    }

    /// The same of a WebSocket alone, whose peer may send messages as well.
    pub fn is_open_websocket(&self) -> bool {
        self.websocket().is_some_and(WebSocket::is_open)
    }

    /// Whether the end of a WebSocket or of a stream has not been told of
    /// ([`websocket::Output::closed`]).
    pub fn owes_close(&self) -> bool {
        match self {
            Self::Preamble(_) | Self::Http(_) => false,
            Self::WebSocket(websocket) => !websocket.has_told_its_end(),
            Self::Stream(stream) => stream.is_open(),
        }
    }

    /// Whether we wait for the peer's close frame, or for the end of a frame of its own that ours
    /// must not interrupt: either may never come.
    pub fn is_closing(&self) -> bool {
        self.websocket().is_some_and(WebSocket::is_closing)
    }

    /// Whether nothing the peer sends matters any more.
    pub fn is_ended(&self) -> bool {
        match self {
            Self::Preamble(_) => false,
            Self::Http(exchange) => exchange.is_ended(),
            Self::WebSocket(websocket) => websocket.is_ended(),
            Self::Stream(stream) => !stream.is_open(),
        }
    }

    /// Bytes of requests and messages in pieces and of what inflates compressed ones; see
    /// [`WebSocket::held_bytes`].
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Preamble(preamble) => preamble.held_bytes(),
            Self::Http(exchange) => exchange.held_bytes(),
            Self::WebSocket(websocket) => websocket.held_bytes(),
            Self::Stream(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests;
