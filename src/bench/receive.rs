//! Bytes from the server: to the handshake, to frames, to the workload.

use super::content::append_frame;
use super::failure::Fault;
use super::handshake::Handshake;
use super::links::{Flags, Links, State};
use super::reader::{self, Incoming, Partial};
use super::workload::Workload;
use crate::wire::close::ClosePayload;
use crate::wire::error::Violation;
use crate::wire::header::{OpCode, RSV1};
use crate::wire::utf8;

impl Links {
    /// Takes bytes that a connection received.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn take<W: Workload>(
        &mut self,
        workload: &mut W,
        handshake: &Handshake,
        index: u32,
        input: &[u8],
    ) -> Result<(), Fault> {
        let connection = &mut self.connections[index as usize];
        let mut partial = connection.partial.take();
        let mut begun;
        let mut input = input;
        if connection.state == State::Handshaking {
            if let Some(head) = partial.take() {
                begun = head.bytes;
                begun.extend_from_slice(input);
                input = &begun;
            }
            let Some(length) = handshake.check(input)? else {
                let begun = Partial::starting_with(input);
                self.connections[index as usize].partial = Some(Box::new(begun));
                return Ok(());
            };
            input = &input[length..];
            self.record.counters.handshakes += 1;
            self.upgraded(workload, index);
        }
        let bits = if self.plan().way.offer.compression { RSV1 } else { 0 };
        reader::read(input, bits, &mut partial, |incoming| {
            self.incoming(workload, index, incoming)
        })?;
        self.connections[index as usize].partial = partial;
        Ok(())
    }

    /// Takes the end of the stream.
    pub fn end_of_stream<W: Workload>(&mut self, workload: &W, index: u32) {
        let connection = &self.connections[index as usize];
        let is_answered = connection.flags.contains(Flags::CLOSE_RECEIVED);
        match connection.state {
            State::Closing if is_answered => {
                self.record.counters.closed_cleanly += 1;
                self.drop_connection(index);
            }
            State::Securing => {
                let text = "the server ended the connection within the TLS handshake";
                self.fail(index, &Fault::Tls(text.to_owned()));
            }
            State::Tunneling | State::Handshaking => {
                let begun = connection.partial.as_ref().map_or(0, |partial| partial.bytes.len());
                let text = format!("the stream ended after {begun} bytes of the response");
                self.fail(index, &Fault::Handshake(text));
            }
            State::Closing | State::Open | State::Joining => {
                self.fault(workload, index, &Fault::EndOfStream)
            }
            State::Free | State::Connecting | State::Ending => {}
        }
    }

    /// Takes a fault of the server, or one that was to be expected.
    pub fn fault<W: Workload>(&mut self, workload: &W, index: u32, fault: &Fault) {
        match self.connections[index as usize].state {
            State::Free | State::Ending => {}
            _ if workload.forgives(self, index) => {
                self.record.counters.slow_cut += 1;
                self.drop_connection(index);
            }
            State::Closing => {
                self.record.counters.closed_otherwise += 1;
                self.fail(index, fault);
            }
            _ => self.fail(index, fault),
        }
    }

    /// It is a WebSocket. Where that carries a session, this begins.
    fn upgraded<W: Workload>(&mut self, workload: &mut W, index: u32) {
        self.note_upgrade(index);
        match self.sessions.is_some() {
            true => self.begin_session(index),
            false => self.set_opened(workload, index),
        }
    }

    /// The workload sees the connect's beginning as the state's.
    pub(super) fn set_opened<W: Workload>(&mut self, workload: &mut W, index: u32) {
        self.go_on(index, State::Open);
        workload.opened(self, index);
    }

    fn incoming<W: Workload>(
        &mut self,
        workload: &mut W,
        index: u32,
        incoming: Incoming<'_>,
    ) -> Result<(), Fault> {
        let state = self.connections[index as usize].state;
        match incoming {
            _ if !matches!(state, State::Open | State::Joining | State::Closing) => Ok(()),
            Incoming::Message(opcode, payload) => {
                let counters = &mut self.record.counters;
                counters.messages_received += 1;
                counters.bytes_received += payload.len() as u64;
                // What was on its way when we closed says nothing any more.
                if state == State::Closing {
                    return Ok(());
                }
                match self.sessions.is_some() {
                    true => self.session_frame(workload, index, payload),
                    false => workload.message(self, index, opcode, payload),
                }
            }
            Incoming::Compressed(opcode, payload) => {
                let mut message = std::mem::take(&mut self.inflated);
                message.clear();
                let limit = reader::MESSAGE_BYTES_MOST;
                self.inflater.lone_message(payload, limit, &mut message)?;
                if opcode == OpCode::Text {
                    utf8::validate(&message).map_err(Violation::from)?;
                }
                self.record.counters.messages_compressed += 1;
                let taken = self.incoming(workload, index, Incoming::Message(opcode, &message));
                self.inflated = message;
                taken
            }
            Incoming::Ping(payload) => {
                if state != State::Closing {
                    append_frame(self.out(index), OpCode::Pong, payload);
                    self.record.counters.pings_answered += 1;
                }
                Ok(())
            }
            Incoming::Pong => Ok(()),
            Incoming::Close(payload) => {
                let close = ClosePayload::parse(payload)?;
                if state == State::Closing {
                    let connection = &mut self.connections[index as usize];
                    connection.flags.insert(Flags::CLOSE_RECEIVED);
                    return Ok(());
                }
                let code = close.code.map(|code| code.0);
                Err(Fault::Closed { code, reason: close.reason.to_owned() })
            }
        }
    }
}
