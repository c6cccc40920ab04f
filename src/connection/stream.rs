//! A response that goes on: the messages of a topic as lines, until one of both ends has enough.

use crate::websocket::{Closed, Initiator, Output, Piece};
use crate::wire::close::CloseCode;
use crate::wire::line::LineFraming;

/// The state of a streamed response whose head has been queued.
#[derive(Debug)]
pub struct Stream {
    framing: LineFraming,
    is_ended: bool,
    /// Whether an empty line has been queued that nobody has asked about.
    sent_empty_line: bool,
    /// Bytes that the peer has sent meanwhile.
    received_bytes: u32,
}

impl Stream {
    /// A stream that has just begun.
    pub(super) fn new(framing: LineFraming) -> Self {
        Self { framing, is_ended: false, sent_empty_line: false, received_bytes: 0 }
    }

    /// How the lines are framed.
    pub fn framing(&self) -> LineFraming {
        self.framing
    }

    /// Whether messages flow.
    pub fn is_open(&self) -> bool {
        !self.is_ended
    }

    /// Takes note that the peer has sent so many bytes, which mean nothing: it has been told that
    /// the connection ends with this response. Who sends much is cut off.
    pub(super) fn discard(&mut self, bytes: usize, output: &mut Output) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.received_bytes = self.received_bytes.saturating_add(bytes);
        if self.received_bytes > RECEIVED_BYTES_MAX {
            let reason = "a stream takes nothing";
            self.end(Initiator::Local, CloseCode::POLICY_VIOLATION, reason, output);
        }
    }

    /// Sends an empty line, for proxies in between that wait for something, and to see whether the
    /// peer takes it.
    pub fn send_empty_line(&mut self, output: &mut Output) {
        if self.is_open() {
            self.sent_empty_line = true;
            let bytes = self.framing.empty_line();
            output.pieces.push(Piece::Owned { bytes, ends_frame: true });
        }
    }

    /// Whether an empty line has been sent since this was asked last.
    pub fn take_sent_empty_line(&mut self) -> bool {
        std::mem::take(&mut self.sent_empty_line)
    }

    /// Ends the stream because the peer has closed its side.
    pub fn end_by_peer(&mut self, output: &mut Output) {
        self.end(Initiator::Remote, CloseCode::NORMAL, "", output);
    }

    /// Ends the stream, after what is queued. The response is complete unless `code` says that
    /// something went wrong: a stream that is cut off lacks what tells its end (RFC 9112 section
    /// 8), so that its client knows.
    pub(super) fn end(
        &mut self,
        initiator: Initiator,
        code: CloseCode,
        reason: &str,
        output: &mut Output,
    ) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let last = self.framing.last();
        let is_cut_off = matches!(code, CloseCode::POLICY_VIOLATION | CloseCode::TRY_AGAIN_LATER);
        if !is_cut_off && !last.is_empty() {
            output.pieces.push(Piece::Owned { bytes: last.to_vec(), ends_frame: true });
        }
        output.closed = Some(Closed { initiator, code, reason: reason.into() });
        output.finish = true;
    }
}

/// What a peer may send while it is sent a stream: more than a few requests that came too early.
const RECEIVED_BYTES_MAX: u32 = 64 << 10;
