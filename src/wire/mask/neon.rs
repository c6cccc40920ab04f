//! Unmasking with 128-bit NEON vectors, which the AArch64 targets with an operating system have.
#![allow(unsafe_code)]

use std::arch::aarch64::{
    uint8x16_t, vdupq_n_u32, veorq_u8, vld1q_u8, vreinterpretq_u8_u32, vst1q_u8,
};

use super::MaskKey;
use super::kernel::{self, Vector};

// SAFETY: the size is 16 bytes, and the intrinsics read and write the whole vector.
unsafe impl Vector for uint8x16_t {
    const BYTES: usize = 16;

    #[inline(always)]
    unsafe fn splat(key: MaskKey) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { vreinterpretq_u8_u32(vdupq_n_u32(u32::from_ne_bytes(key.0))) }
    }

    #[inline(always)]
    unsafe fn load(source: *const u8) -> Self {
        // SAFETY: the caller vouches for NEON and the source; alignment is not required.
        unsafe { vld1q_u8(source) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller vouches for NEON.
        unsafe { veorq_u8(self, other) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut u8) {
        // SAFETY: the caller vouches for NEON and the target; alignment is not required.
        unsafe { vst1q_u8(target, self) }
    }
}

/// # Safety
/// As for [`kernel::Kernel`]; the processor has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn unmask(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    // SAFETY: passed on from the caller.
    unsafe { kernel::unmask::<uint8x16_t>(source, target, bytes, key) }
}
