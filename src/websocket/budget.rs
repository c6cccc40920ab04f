//! What a WebSocket may do before others have their turn.

use std::cell::Cell;

/// Work that a WebSocket may still do in this tick. A unit is about the time that a byte of a large
/// message takes, a quarter of a nanosecond; costs are rounded so that they need no calibration.
#[derive(Debug)]
pub struct Budget(Cell<u64>);

impl Budget {
    /// So many units.
    pub fn new(units: u32) -> Self {
        Self(Cell::new(units.into()))
    }

    /// More than anything can cost.
    pub fn unlimited() -> Self {
        Self(Cell::new(u64::MAX))
    }

    /// Takes `units` away; what is begun is finished, so they may be more than are left.
    pub fn spend(&self, units: usize) {
        self.0.set(self.0.get().saturating_sub(units as u64));
    }

    /// Takes all that is left away.
    pub fn exhaust(&self) {
        self.0.set(0);
    }

    /// Units that are left.
    pub fn left(&self) -> usize {
        self.0.get() as usize
    }

    /// Whether nothing more may be begun.
    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }
}

/// Bytes of the shortest data frame of a client: its header, which has a mask. Every byte of a
/// message costs at least one unit, however it is treated, and so does every one of its header; so
/// one unit less than these for each of so many messages lets at most as many begin.
pub const MESSAGE_BYTES_LEAST: u32 = 6;

/// Units of a message that goes back from where it lies, beside its bytes: 10 ns.
pub(super) const REFLECTED_COST: usize = 32;
/// Units of a frame that is looked at one by one, beside its bytes.
pub(super) const FRAME_COST: usize = 128;
/// Units of a message that is encoded and published, beside its bytes: 150 ns.
pub const PUBLISHED_COST: usize = 512;
/// Units of a byte that comes out of an inflater.
pub(super) const INFLATED_BYTE_COST: usize = 4;
/// Units of a byte that goes into a compressor.
pub(super) const DEFLATED_BYTE_COST: usize = 16;
