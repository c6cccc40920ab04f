//! Unmasking with 128-bit SSE2 vectors, which every x86-64 processor has.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, _mm_loadu_si128, _mm_set1_epi32, _mm_storeu_si128, _mm_xor_si128,
};

use super::MaskKey;
use super::kernel::{self, Vector};

// SAFETY: the size is 16 bytes, and the intrinsics read and write the whole vector.
unsafe impl Vector for __m128i {
    const BYTES: usize = 16;

    #[inline(always)]
    unsafe fn splat(key: MaskKey) -> Self {
        // SAFETY: the caller vouches for SSE2.
        unsafe { _mm_set1_epi32(i32::from_ne_bytes(key.0)) }
    }

    #[inline(always)]
    unsafe fn load(source: *const u8) -> Self {
        // SAFETY: the caller vouches for SSE2 and the source; alignment is not required.
        unsafe { _mm_loadu_si128(source.cast()) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller vouches for SSE2.
        unsafe { _mm_xor_si128(self, other) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut u8) {
        // SAFETY: the caller vouches for SSE2 and the target; alignment is not required.
        unsafe { _mm_storeu_si128(target.cast(), self) }
    }
}

/// # Safety
/// As for [`kernel::Kernel`]; the processor has SSE2.
#[target_feature(enable = "sse2")]
pub(super) unsafe fn unmask(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    // SAFETY: passed on from the caller.
    unsafe { kernel::unmask::<__m128i>(source, target, bytes, key) }
}
