//! Unmasking by 64-bit words, for processors without a backend of their own.
#![allow(unsafe_code)]

use super::{MaskKey, kernel};

/// # Safety
/// As for [`kernel::Kernel`]; every processor has the instructions.
pub(super) unsafe fn unmask(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    // SAFETY: passed on from the caller.
    unsafe { kernel::unmask::<[u64; 1]>(source, target, bytes, key) }
}
