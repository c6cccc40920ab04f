//! Frames from the client: each is checked, then reflected, assembled, published or discarded.

use std::borrow::Cow;

use super::budget::{FRAME_COST, PUBLISHED_COST};
use super::message::Assembly;
use super::reflection::Reflection;
use super::{Closed, Cold, Initiator, Output, Pause, Phase, Piece, Rules, Treatment, WebSocket};
use crate::config::MessageTypes;
use crate::wire::close::{CloseCode, ClosePayload};
use crate::wire::error::Violation;
use crate::wire::header::{HEADER_BYTES_MAX, Header, OpCode, Role, close_frame, control_frame};
use crate::wire::mask::{self, MaskKey};
use crate::wire::message::{DataMessage, MessageKind};
use crate::wire::utf8;

/// The next frame of the input.
enum Found {
    /// A control frame with all of its payload.
    Control { opcode: OpCode, payload: ControlPayload, next: usize },
    /// The header of a data frame.
    Data(FoundData),
}

/// The header of a data frame as it was found in the input.
struct FoundData {
    header: Header,
    /// Where the payload starts.
    payload: usize,
    /// Whether the header began in an earlier input.
    carried: bool,
}

/// The unmasked payload of a control frame.
struct ControlPayload {
    bytes: [u8; CONTROL_BYTES_MAX],
    len: usize,
}

impl ControlPayload {
    fn unmask(masked: &[u8], key: Option<MaskKey>) -> Self {
        let mut payload = Self { bytes: [0; CONTROL_BYTES_MAX], len: masked.len() };
        payload.bytes[..payload.len].copy_from_slice(masked);
        mask::apply(&mut payload.bytes[..payload.len], key.unwrap_or_default());
        payload
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl WebSocket {
    /// Takes frames from `input[from..]`; returns how far it got.
    pub(super) fn receive_frames(
        &mut self,
        input: &mut [u8],
        from: usize,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> usize {
        let mut reflection = Reflection::new(from);
        let mut at = from;
        while at < input.len() && self.phase != Phase::Ended {
            if rules.budget.is_spent() {
                output.paused = Some(Pause::Turn);
                break;
            }
            if !rules.may_begin && !self.is_mid_message() {
                output.paused = Some(Pause::Room);
                break;
            }
            match self.step(input, at, &mut reflection, rules, output) {
                Ok(next) => at = next,
                Err(violation) => {
                    reflection.flush(true, output);
                    self.fail(&violation, output);
                }
            }
        }
        reflection.flush(!self.is_mid_reflection(), output);
        if output.paused.is_some() { at } else { input.len() }
    }

    /// A run of whole echoes, and one frame of another kind or the part of one that is there;
    /// returns where the next begins.
    fn step(
        &mut self,
        input: &mut [u8],
        mut at: usize,
        reflection: &mut Reflection,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> Result<usize, Violation> {
        if self.remaining > 0 {
            return self.continue_frame(input, at, reflection, rules, output);
        }
        if self.reflects_messages() {
            // A later tick goes on where the budget ends.
            let end = input.len().min(at.saturating_add(rules.budget.left()));
            let next = reflection.append_messages(&mut input[..end], at, rules, output)?;
            if next == input.len() {
                return Ok(next);
            }
            at = next;
        }
        match self.find_frame(input, at)? {
            None => Ok(input.len()),
            Some(Found::Data(found)) => self.data_frame(input, &found, reflection, rules, output),
            Some(Found::Control { opcode, payload, next }) => {
                rules.budget.spend(FRAME_COST);
                self.count_control_frame(rules)?;
                match opcode {
                    OpCode::Ping => {
                        output.heard.pings += 1;
                        if self.phase == Phase::Open {
                            // A pong goes ahead of queued data, but not into a frame half sent:
                            // its rest must be queued before.
                            reflection.flush(true, output);
                            let pong = control_frame(OpCode::Pong, payload.as_slice());
                            output.pieces.push(Piece::Control(pong));
                        }
                    }
                    OpCode::Pong => {
                        output.heard.pongs += 1;
                        if let Ok(payload) = payload.as_slice().try_into() {
                            output.heard.answer = Some(payload);
                        }
                    }
                    OpCode::Close => {
                        let close = ClosePayload::parse(payload.as_slice())?;
                        reflection.flush(true, output);
                        self.peer_closes(&close, output);
                    }
                    _ => {}
                }
                Ok(next)
            }
        }
    }

    /// The frame at `at`, or `None` after carrying over what there is of it.
    fn find_frame(&mut self, input: &[u8], at: usize) -> Result<Option<Found>, Violation> {
        let fresh = &input[at..];
        if self.cold.as_ref().is_none_or(|cold| cold.carry.is_empty()) {
            let found = decode_frame(fresh, 0, at, self.upgrade.extension_bits())?;
            if found.is_none() {
                self.cold().carry.extend_from_slice(fresh);
            }
            return Ok(found);
        }
        let mut carry = std::mem::take(&mut self.cold().carry);
        let carried = carry.len();
        let room = CARRY_BYTES_MAX.saturating_sub(carried);
        carry.extend_from_slice(&fresh[..room.min(fresh.len())]);
        let found = decode_frame(&carry, carried, at, self.upgrade.extension_bits())?;
        if found.is_none() {
            self.cold().carry = carry;
        }
        Ok(found)
    }

    fn peer_closes(&mut self, close: &ClosePayload<'_>, output: &mut Output) {
        if self.phase == Phase::Open {
            let bytes = match close.code {
                Some(code) => close_frame(code, ""),
                None => control_frame(OpCode::Close, b""),
            };
            output.pieces.push(Piece::Owned { bytes, ends_frame: true });
            let code = close.code.unwrap_or(CloseCode::NO_STATUS);
            output.closed = Some(Closed::new(Initiator::Remote, code, close.reason));
        }
        self.end(output);
    }

    fn count_control_frame(&mut self, rules: &Rules<'_>) -> Result<(), Violation> {
        if self.control_window_s != rules.now_s {
            (self.control_window_s, self.control_frames) = (rules.now_s, 0);
        }
        self.control_frames = self.control_frames.saturating_add(1);
        let limit = rules.limits.control_frames_per_second;
        if u32::from(self.control_frames) > limit {
            return Err(Violation::TooManyControlFrames { limit_per_second: limit });
        }
        Ok(())
    }

    /// Begins a data frame and takes what there is of its payload.
    fn data_frame(
        &mut self,
        input: &mut [u8],
        found: &FoundData,
        reflection: &mut Reflection,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> Result<usize, Violation> {
        let FoundData { header, payload, carried } = found;
        let key = header.mask.unwrap_or_default();
        let is_here = input.len() - payload >= header.payload_bytes as usize;
        self.check_message(header, rules)?;
        let is_whole = is_here && header.fin && !self.has_assembly();
        let end = payload + header.payload_bytes as usize;
        if is_whole && header.rsv != 0 && self.phase == Phase::Open {
            let compressed = &mut input[*payload..end];
            mask::apply(compressed, key);
            reflection.flush(true, output);
            let compressed = Cow::Borrowed(&*compressed);
            self.compressed_message(header.opcode, compressed, rules, output)?;
            return Ok(end);
        }
        if is_whole && !self.upgrade.is_echo() && self.phase == Phase::Open {
            let kind = MessageKind::of(header.opcode);
            let message = DataMessage::unmasked(kind, &input[*payload..end], key);
            if kind == MessageKind::Text {
                utf8::validate(message.payload()).map_err(|_| Violation::InvalidUtf8)?;
            }
            output.published.push(message);
            rules.budget.spend(PUBLISHED_COST + end - payload);
            output.messages += 1;
            return Ok(end);
        }
        self.treatment = self.begin_treatment(header, rules, output)?;
        self.fin = header.fin;
        self.mask = key;
        self.remaining = header.payload_bytes as u32;
        if self.treatment == Treatment::Reflect {
            let server_header = Header { mask: None, ..*header };
            if *carried {
                let mut encoded = [0; HEADER_BYTES_MAX];
                let bytes = server_header.encode(&mut encoded);
                let bytes = encoded[..bytes].to_vec();
                output.pieces.push(Piece::Owned { bytes, ends_frame: self.remaining == 0 });
            } else {
                reflection.append_header(input, &server_header, *payload);
            }
        }
        let next = self.continue_frame(input, *payload, reflection, rules, output)?;
        if self.remaining > 0 && !self.has_assembly() {
            self.cold().reflecting_since_s = Some(rules.now_s);
            output.message_began = true;
        }
        Ok(next)
    }

    /// Holds the rules of fragmentation and the limits that a header alone can break.
    fn check_message(&self, header: &Header, rules: &Rules<'_>) -> Result<(), Violation> {
        match (header.opcode, self.has_assembly()) {
            (OpCode::Continuation, false) => return Err(Violation::ContinuationWithoutStart),
            (OpCode::Text | OpCode::Binary, true) => return Err(Violation::DataInsideFragmented),
            _ => {}
        }
        if self.upgrade.is_read_only() {
            return Err(Violation::PublishingNotAllowed);
        }
        let accepted = match rules.message_types {
            MessageTypes::Any => true,
            MessageTypes::Text => header.opcode != OpCode::Binary,
            MessageTypes::Binary => header.opcode != OpCode::Text,
        };
        if !accepted {
            return Err(Violation::MessageTypeNotAccepted);
        }
        if header.payload_bytes > u64::from(self.frame_bytes_max(header, rules.limits)) {
            return Err(Violation::MessageTooBig { limit: rules.limits.message_bytes.into() });
        }
        Ok(())
    }

    /// Decides what becomes of the frame's payload; starts or continues a message in pieces.
    fn begin_treatment(
        &mut self,
        header: &Header,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> Result<Treatment, Violation> {
        let is_echo = self.upgrade.is_echo();
        let reflects = is_echo && header.opcode == OpCode::Binary && header.rsv == 0;
        let is_open = self.phase == Phase::Open;
        if reflects && header.fin && is_open {
            return Ok(Treatment::Reflect);
        }
        let now_s = rules.now_s;
        output.message_began |= !self.has_assembly();
        let new = || Assembly::new(header, reflects, now_s);
        let assembly = self.cold().assembly.get_or_insert_with(new);
        assembly.begin_frame(header.payload_bytes, header.fin, rules.limits)?;
        Ok(match (is_open, assembly.is_reflected()) {
            (false, _) => Treatment::Discard,
            (true, true) => Treatment::Reflect,
            (true, false) => Treatment::Assemble,
        })
    }

    /// Takes what there is of the payload in progress; ends the frame with its last byte.
    fn continue_frame(
        &mut self,
        input: &mut [u8],
        at: usize,
        reflection: &mut Reflection,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> Result<usize, Violation> {
        let bytes = (self.remaining as usize).min(input.len() - at);
        let next = at + bytes;
        rules.budget.spend(FRAME_COST + bytes);
        match self.treatment {
            Treatment::Reflect if bytes > 0 => reflection.append(input, at..next, self.mask),
            Treatment::Assemble => {
                let key = self.mask;
                if let Some(assembly) = &mut self.cold().assembly {
                    assembly.append(&input[at..next], key)?;
                }
            }
            Treatment::Reflect | Treatment::Discard => {}
        }
        self.mask = self.mask.rotated(bytes);
        self.remaining -= bytes as u32;
        if self.remaining == 0 {
            self.end_frame(reflection, rules, output)?;
        }
        Ok(next)
    }

    fn end_frame(
        &mut self,
        reflection: &mut Reflection,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> Result<(), Violation> {
        if self.fin {
            let assembly = self.cold.as_mut().and_then(|cold| cold.assembly.take());
            match (self.treatment, assembly) {
                (Treatment::Reflect, _) => {
                    output.messages += 1;
                    output.reflected_messages += 1;
                }
                (Treatment::Assemble, Some(assembly))
                    if self.phase == Phase::Open && assembly.is_compressed() =>
                {
                    reflection.flush(true, output);
                    let (opcode, compressed) = assembly.into_compressed();
                    self.compressed_message(opcode, Cow::Owned(compressed), rules, output)?;
                }
                (Treatment::Assemble, Some(assembly)) if self.phase == Phase::Open => {
                    let message = assembly.finish()?;
                    rules.budget.spend(PUBLISHED_COST);
                    output.messages += 1;
                    self.deliver(message, reflection, output);
                }
                _ => {}
            }
        }
        let pending = self.cold.as_mut().and_then(|cold| {
            cold.reflecting_since_s = None;
            cold.pending_close.take()
        });
        if let Some((code, reason)) = pending {
            reflection.flush(true, output);
            self.close(code, &reason, output);
        }
        Ok(())
    }

    fn deliver(&mut self, message: DataMessage, reflection: &mut Reflection, output: &mut Output) {
        if self.upgrade.is_echo() {
            reflection.flush(true, output);
            output.reflected_messages += 1;
            let bytes = message.into_frame();
            output.pieces.push(Piece::Owned { bytes, ends_frame: true });
        } else {
            output.published.push(message);
        }
    }

    pub(super) fn fail(&mut self, violation: &Violation, output: &mut Output) {
        if self.phase == Phase::Open {
            output.is_unauthorized |= *violation == Violation::PublishingNotAllowed;
            let code = violation.close_code();
            let reason = violation.to_string();
            output.closed = Some(Closed::new(Initiator::Local, code, &reason));
            let bytes = close_frame(code, &reason);
            output.pieces.push(Piece::Owned { bytes, ends_frame: true });
        }
        self.end(output);
    }

    /// Nothing the peer sends matters any more, so nothing of it is kept.
    pub(super) fn end(&mut self, output: &mut Output) {
        self.phase = Phase::Ended;
        self.remaining = 0;
        self.cold = None;
        output.finish = true;
    }

    /// Whether a whole message would go back as it is: the echo is open and nothing is in pieces.
    fn reflects_messages(&self) -> bool {
        let in_pieces = |cold: &Cold| !cold.carry.is_empty() || cold.assembly.is_some();
        let is_echo = self.phase == Phase::Open && self.upgrade.is_echo();
        is_echo && !self.cold.as_deref().is_some_and(in_pieces)
    }

    fn has_assembly(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.assembly.is_some())
    }
}

/// The frame at the start of `bytes`, of which the first `carried` came before `at`.
fn decode_frame(
    bytes: &[u8],
    carried: usize,
    at: usize,
    extension_bits: u8,
) -> Result<Option<Found>, Violation> {
    let decoded = Header::decode(bytes, Role::Server, extension_bits)?;
    let Some((header, header_bytes)) = decoded else { return Ok(None) };
    // A carried part was no complete header, or no complete control frame: it ends before this
    // does.
    let position = |end: usize| at + end - carried;
    if !header.opcode.is_control() {
        let payload = position(header_bytes);
        return Ok(Some(Found::Data(FoundData { header, payload, carried: carried > 0 })));
    }
    let end = header_bytes + header.payload_bytes as usize;
    Ok(bytes.get(header_bytes..end).map(|masked| Found::Control {
        opcode: header.opcode,
        payload: ControlPayload::unmask(masked, header.mask),
        next: position(end),
    }))
}

/// Payload bytes of a control frame, at most (RFC 6455 section 5.5).
const CONTROL_BYTES_MAX: usize = 125;
/// What is ever carried: the largest header or the largest control frame.
const CARRY_BYTES_MAX: usize = HEADER_BYTES_MAX + CONTROL_BYTES_MAX;
