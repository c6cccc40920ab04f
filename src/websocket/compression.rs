//! Compressed messages of one connection: inflated whole, and answered in kind.

use std::borrow::Cow;

use super::budget::{DEFLATED_BYTE_COST, FRAME_COST, INFLATED_BYTE_COST, PUBLISHED_COST};
use super::message::Assembly;
use super::recoding::{Recoding, Stage, Step, step_bytes};
use super::{Mode, Output, Pause, Phase, Piece, Rules, WebSocket};
use crate::config::Limits;
use crate::wire::deflate::codec::{Codec, Lease, Unpacked, compressed_frame, window_class};
use crate::wire::deflate::negotiation::Agreement;
use crate::wire::deflate::{Deflater, WINDOW_BITS_LEAST, compressed_bytes_max};
use crate::wire::error::Violation;
use crate::wire::header::{Header, OpCode, RSV1};
use crate::wire::message::{DataMessage, MessageKind};
use crate::wire::utf8;

/// What the upgrade has settled: what messages are for, and how they are compressed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Upgrade(u8);

impl Upgrade {
    /// A route of this mode, with what was agreed on compression.
    pub(super) fn new(mode: Mode, compression: Option<Agreement>) -> Self {
        let mut bits = match mode {
            Mode::Echo => 0,
            Mode::Broadcast { may_publish: true } => Self::BROADCAST,
            Mode::Broadcast { may_publish: false } => Self::BROADCAST | Self::READ_ONLY,
            Mode::Session { kind: MessageKind::Text } => Self::READ_ONLY,
            Mode::Session { kind: MessageKind::Binary } => Self::READ_ONLY | Self::BINARY,
            Mode::SockJs { may_publish: true } => Self::BROADCAST | Self::SOCKJS,
            Mode::SockJs { may_publish: false } => Self::BROADCAST | Self::READ_ONLY | Self::SOCKJS,
        };
        let is_plain = bits & (Self::BINARY | Self::SOCKJS) != 0;
        debug_assert!(compression.is_none() || !is_plain, "one bit for both");
        if let Some(agreement) = compression {
            bits |= Self::COMPRESSED;
            bits |= if agreement.server_takeover { Self::SERVER_TAKEOVER } else { 0 };
            bits |= if agreement.client_takeover { Self::CLIENT_TAKEOVER } else { 0 };
            bits |= (agreement.server_window_bits - WINDOW_BITS_LEAST) << Self::WINDOW_SHIFT;
        }
        Self(bits)
    }

    /// Whether messages return to their sender.
    pub(super) fn is_echo(self) -> bool {
        self.0 & Self::SERVICE == 0
    }

    /// Whether the peer may not send messages.
    pub(super) fn is_read_only(self) -> bool {
        self.0 & Self::SERVICE == Self::BROADCAST | Self::READ_ONLY
    }

    /// What messages the server sends to a client session, if this is one.
    pub(super) fn session_kind(self) -> Option<MessageKind> {
        let is_binary = self.0 & (Self::COMPRESSED | Self::BINARY) == Self::BINARY;
        let kind = if is_binary { MessageKind::Binary } else { MessageKind::Text };
        (self.0 & Self::SERVICE == Self::READ_ONLY).then_some(kind)
    }

    /// Whether messages hold others, in frames of SockJS.
    pub(super) fn is_sockjs(self) -> bool {
        self.0 & (Self::COMPRESSED | Self::SOCKJS) == Self::SOCKJS
    }

    /// The RSV bits that a data message may begin with.
    pub(super) fn extension_bits(self) -> u8 {
        if self.0 & Self::COMPRESSED == 0 { 0 } else { RSV1 }
    }

    /// How far back the server's messages may refer, in bits; `None` without compression.
    pub(super) fn server_window_bits(self) -> Option<u8> {
        let is_compressed = self.0 & Self::COMPRESSED != 0;
        is_compressed.then_some((self.0 >> Self::WINDOW_SHIFT) + WINDOW_BITS_LEAST)
    }

    fn server_takes_over(self) -> bool {
        self.0 & Self::SERVER_TAKEOVER != 0
    }

    fn client_takes_over(self) -> bool {
        self.0 & Self::CLIENT_TAKEOVER != 0
    }

    const BROADCAST: u8 = 1;
    const COMPRESSED: u8 = 1 << 1;
    const SERVER_TAKEOVER: u8 = 1 << 2;
    const CLIENT_TAKEOVER: u8 = 1 << 3;
    /// Of a broadcast; alone it marks a client session.
    const READ_ONLY: u8 = 1 << 4;
    const SERVICE: u8 = Self::BROADCAST | Self::READ_ONLY;
    /// Of a session without compression, which needs no bits for a window.
    const BINARY: u8 = 1 << 5;
    /// The same of a broadcast or an echo.
    const SOCKJS: u8 = 1 << 6;
    /// Three bits hold 8 to 15.
    const WINDOW_SHIFT: u32 = 5;
}

impl WebSocket {
    /// How far back the server's messages may refer, in bits; `None` without compression.
    pub fn server_window_bits(&self) -> Option<u8> {
        self.upgrade.server_window_bits()
    }

    /// Gives back what compresses this connection's messages, and tells how many bytes that was:
    /// the next message refers to none before. What inflates the peer's messages stays, because
    /// they may refer to any.
    pub fn release_deflater(&mut self) -> usize {
        let is_busy = self.busy_deflater_bytes() > 0;
        let idle = self.cold.as_mut().filter(|_| !is_busy);
        let deflater = idle.and_then(|cold| cold.deflater.take());
        self.release_cold();
        deflater.map_or(0, |_| Deflater::HELD_BYTES)
    }

    /// What compresses this connection's messages, where one of them is within it.
    pub fn busy_deflater_bytes(&self) -> usize {
        let recoding = self.cold.as_ref().and_then(|cold| cold.recoding.as_ref());
        let is_busy = recoding.is_some_and(|recoding| recoding.uses_own_deflater());
        if is_busy { Deflater::HELD_BYTES } else { 0 }
    }

    /// Payload bytes that a frame may have.
    pub(super) fn frame_bytes_max(&self, header: &Header, limits: &Limits) -> u32 {
        let assembly = self.cold.as_ref().and_then(|cold| cold.assembly.as_ref());
        let is_compressed = header.rsv != 0 || assembly.is_some_and(Assembly::is_compressed);
        match is_compressed {
            true => compressed_bytes_max(limits.message_bytes),
            false => limits.message_bytes,
        }
    }

    /// Whether a compressed message is on its way that takes several ticks.
    pub fn is_recoding(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.recoding.is_some())
    }

    /// Inflates a message of which every byte is here, and does with it what the route is for; what
    /// the budget does not allow goes on with [`continue_recoding`](Self::continue_recoding).
    ///
    /// # Errors
    /// The message is no DEFLATE stream, too big once inflated, or text that is not UTF-8.
    pub(super) fn compressed_message(
        &mut self,
        opcode: OpCode,
        compressed: Cow<'_, [u8]>,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> Result<(), Violation> {
        let mut codec = rules.codec.borrow_mut();
        let own = match self.upgrade.client_takes_over() {
            true => Some(&mut **self.cold().inflater.get_or_insert_default()),
            false => None,
        };
        let is_own = own.is_some();
        let step_bytes = step_bytes(rules.budget, INFLATED_BYTE_COST);
        let (plain, progress) = match codec.inflate(own, &compressed, step_bytes)? {
            Unpacked::Whole(plain) => {
                let inflated_cost = plain.len() * INFLATED_BYTE_COST;
                rules.budget.spend(FRAME_COST + compressed.len() + inflated_cost);
                return self.inflated_message(opcode, plain, None, &mut codec, rules, output);
            }
            Unpacked::Part(plain, progress) => (plain, progress),
        };
        rules.budget.spend(plain.len() * INFLATED_BYTE_COST);
        let (lease, compressed) = (codec.lease(), compressed.into_owned());
        let stage = match (is_own, &lease) {
            (true, _) => Stage::Inflating { lent: None, compressed, progress, plain },
            (false, Some(_)) => {
                let lent = Some(codec.lend_inflater());
                Stage::Inflating { lent, compressed, progress, plain }
            }
            (false, None) => {
                codec.reset_inflater();
                codec.recycle(plain);
                Stage::Waiting { compressed }
            }
        };
        self.recode_later(Recoding { opcode, stage, lease }, rules, output);
        Ok(())
    }

    /// Nothing else is begun before the message has come to its end, in later ticks.
    fn recode_later(&mut self, recoding: Recoding, rules: &Rules<'_>, output: &mut Output) {
        self.cold().recoding = Some(Box::new(recoding));
        rules.budget.exhaust();
        output.paused = Some(Pause::Turn);
    }

    /// Goes on with a compressed message that takes several ticks.
    pub(super) fn continue_recoding(&mut self, rules: &Rules<'_>, output: &mut Output) {
        let Some(cold) = &mut self.cold else { return };
        let Some(recoding) = cold.recoding.take() else { return };
        if self.phase != Phase::Open {
            return;
        }
        let mut codec = rules.codec.borrow_mut();
        let own = (cold.inflater.as_deref_mut(), cold.deflater.as_deref_mut());
        let result = match recoding.step(own, &mut codec, rules.budget) {
            Ok(Step::Later(recoding)) => {
                self.recode_later(recoding, rules, output);
                Ok(())
            }
            Ok(Step::NoPlace(recoding)) => {
                rules.budget.spend(FRAME_COST);
                cold.recoding = Some(Box::new(recoding));
                output.paused = Some(Pause::Turn);
                Ok(())
            }
            Ok(Step::Inflated(Recoding { opcode, lease, .. }, plain)) => {
                self.inflated_message(opcode, plain, lease, &mut codec, rules, output)
            }
            Ok(Step::Deflated { opcode, class, plain, packed }) => {
                codec.compressed += 1;
                // A message in a context has to be sent as it is, because the next may refer to it.
                let bytes = match class.is_none() || packed.len() < plain.len() {
                    true => compressed_frame(opcode, &packed),
                    false => plain_frame(opcode, &plain),
                };
                echo(bytes, output);
                Ok(())
            }
            Err(violation) => Err(violation),
        };
        drop(codec);
        if let Err(violation) = result {
            self.fail(&violation, output);
        }
    }

    /// Publishes an inflated message, or answers in kind.
    fn inflated_message(
        &mut self,
        opcode: OpCode,
        plain: Vec<u8>,
        lease: Option<Lease>,
        codec: &mut Codec,
        rules: &Rules<'_>,
        output: &mut Output,
    ) -> Result<(), Violation> {
        if opcode == OpCode::Text {
            utf8::validate(&plain)?;
        }
        output.messages += 1;
        let window_bits = match self.upgrade.server_window_bits() {
            _ if !self.upgrade.is_echo() => {
                rules.budget.spend(PUBLISHED_COST + plain.len());
                output.published.push(DataMessage::new(MessageKind::of(opcode), &plain));
                codec.recycle(plain);
                return Ok(());
            }
            Some(window_bits) if codec.is_worth(&plain) => window_bits,
            _ => {
                echo(plain_frame(opcode, &plain), output);
                codec.recycle(plain);
                return Ok(());
            }
        };
        let is_own = self.upgrade.server_takes_over();
        if is_own {
            let new = || Box::new(codec.deflater(window_bits));
            self.cold().deflater.get_or_insert_with(new);
        }
        if plain.len() > step_bytes(rules.budget, DEFLATED_BYTE_COST) {
            let class = (!is_own).then(|| window_class(window_bits));
            let stage = Stage::Deflating { class, lent: None, plain, at: 0, packed: Vec::new() };
            self.recode_later(Recoding { opcode, stage, lease }, rules, output);
            return Ok(());
        }
        rules.budget.spend(plain.len() * DEFLATED_BYTE_COST);
        let bytes = match self.cold().deflater.as_mut().filter(|_| is_own) {
            Some(own) => {
                let mut packed = Vec::new();
                own.message(&plain, &mut packed);
                codec.compressed += 1;
                compressed_frame(opcode, &packed)
            }
            None => codec
                .frame_of_class(window_class(window_bits), opcode, &plain)
                .unwrap_or_else(|| plain_frame(opcode, &plain)),
        };
        echo(bytes, output);
        codec.recycle(plain);
        Ok(())
    }
}

/// Sends a message back.
fn echo(bytes: Vec<u8>, output: &mut Output) {
    output.reflected_messages += 1;
    output.pieces.push(Piece::Owned { bytes, ends_frame: true });
}

fn plain_frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    DataMessage::new(MessageKind::of(opcode), payload).into_frame()
}
