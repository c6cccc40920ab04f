//! A compressed message that takes several ticks: inflated, and for an echo compressed again, step
//! by step, so that it does not hold up the others.

use super::budget::{Budget, DEFLATED_BYTE_COST, INFLATED_BYTE_COST};
use crate::wire::deflate::codec::{Codec, Lease};
use crate::wire::deflate::{Deflater, Inflater, Inflating};
use crate::wire::error::Violation;
use crate::wire::header::OpCode;
use crate::wire::message::{GROWING_BYTES_MAX, reserve};

/// A message on its way.
#[derive(Debug)]
pub(super) struct Recoding {
    pub(super) opcode: OpCode,
    pub(super) stage: Stage,
    /// Its place among those that may take memory for several ticks; it waits for one without.
    pub(super) lease: Option<Lease>,
}

/// How far a message has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// To be inflated from the start as soon as it has a place.
    Waiting { compressed: Vec<u8> },
    Inflating {
        /// What a connection lends that keeps no state between messages.
        lent: Option<Box<Inflater>>,
        compressed: Vec<u8>,
        progress: Inflating,
        plain: Vec<u8>,
    },
    Deflating {
        /// The class of windows that a compressor is lent for, as soon as the message has a place;
        /// the connection's own is used without.
        class: Option<usize>,
        lent: Option<Box<Deflater>>,
        plain: Vec<u8>,
        /// Bytes that have been compressed.
        at: usize,
        packed: Vec<u8>,
    },
}

/// What comes next for a message.
pub(super) enum Step {
    /// More of the same, in a later tick.
    Later(Recoding),
    /// Nothing was done: others have all the places.
    NoPlace(Recoding),
    /// It is inflated.
    Inflated(Recoding, Vec<u8>),
    /// It is compressed: by a lent compressor of this class, or by the connection's own.
    Deflated { opcode: OpCode, class: Option<usize>, plain: Vec<u8>, packed: Vec<u8> },
}

impl Recoding {
    /// Memory that the message takes.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.stage {
            Stage::Waiting { compressed } => compressed.capacity(),
            Stage::Inflating { lent, compressed, plain, .. } => {
                let lent = lent.as_ref().map_or(0, |_| Inflater::HELD_BYTES);
                lent + compressed.capacity() + plain.len()
            }
            Stage::Deflating { lent, plain, packed, .. } => {
                let lent = lent.as_ref().map_or(0, |_| Deflater::HELD_BYTES);
                lent + plain.len() + packed.capacity()
            }
        }
    }

    /// Whether the connection's own compressor is within this message.
    pub(super) fn uses_own_deflater(&self) -> bool {
        matches!(self.stage, Stage::Deflating { class: None, .. })
    }

    /// Goes on as far as the budget allows.
    ///
    /// # Errors
    /// The message is no DEFLATE stream, or too big once inflated.
    pub(super) fn step(
        mut self,
        own: (Option<&mut Inflater>, Option<&mut Deflater>),
        codec: &mut Codec,
        budget: &Budget,
    ) -> Result<Step, Violation> {
        self.lease = self.lease.or_else(|| codec.lease());
        if self.lease.is_none() {
            return Ok(Step::NoPlace(self));
        }
        let Self { opcode, stage, lease } = self;
        match stage {
            Stage::Waiting { compressed } => {
                let (lent, progress) = (Some(Box::default()), codec.inflating(true));
                let stage = Stage::Inflating { lent, compressed, progress, plain: Vec::new() };
                Self { opcode, stage, lease }.step(own, codec, budget)
            }
            Stage::Inflating { mut lent, compressed, mut progress, mut plain } => {
                let Some(inflater) = lent.as_deref_mut().or(own.0) else {
                    debug_assert!(false, "a connection that lends no inflater has its own");
                    return Err(Violation::CorruptDeflate);
                };
                if plain.len() > GROWING_BYTES_MAX {
                    reserve(&mut plain, codec.message_bytes_max() + 1);
                }
                let before = plain.len();
                let step_bytes = step_bytes(budget, INFLATED_BYTE_COST);
                let result = inflater.step(&compressed, &mut progress, step_bytes, &mut plain);
                let is_whole = result.map_err(|error| codec.violation(error))?;
                budget.spend((plain.len() - before) * INFLATED_BYTE_COST);
                if is_whole {
                    let stage = Stage::Waiting { compressed: Vec::new() };
                    return Ok(Step::Inflated(Self { opcode, stage, lease }, plain));
                }
                let stage = Stage::Inflating { lent, compressed, progress, plain };
                Ok(Step::Later(Self { opcode, stage, lease }))
            }
            Stage::Deflating { class, mut lent, plain, mut at, mut packed } => {
                let shared = class
                    .map(|class| &mut **lent.get_or_insert_with(|| codec.lend_deflater(class)));
                let Some(deflater) = shared.or(own.1) else {
                    debug_assert!(false, "a connection that lends no compressor has its own");
                    return Err(Violation::CorruptDeflate);
                };
                let before = at;
                let step_bytes = step_bytes(budget, DEFLATED_BYTE_COST);
                let is_whole = deflater.step(&plain, &mut at, step_bytes, &mut packed);
                budget.spend((at - before) * DEFLATED_BYTE_COST);
                if !is_whole {
                    let stage = Stage::Deflating { class, lent, plain, at, packed };
                    return Ok(Step::Later(Self { opcode, stage, lease }));
                }
                if let Some((class, deflater)) = class.zip(lent) {
                    codec.return_deflater(class, deflater);
                }
                Ok(Step::Deflated { opcode, class, plain, packed })
            }
        }
    }
}

/// Bytes of a step: what is left of the budget, and enough to get on with.
pub(super) fn step_bytes(budget: &Budget, byte_cost: usize) -> usize {
    (budget.left() / byte_cost).max(STEP_BYTES_LEAST)
}

const STEP_BYTES_LEAST: usize = 4096;
