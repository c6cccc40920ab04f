//! Unmasking with 256-bit AVX2 vectors.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_xor_si256,
};

use super::MaskKey;
use super::kernel::{self, Vector};

// SAFETY: the size is 32 bytes, and the intrinsics read and write the whole vector.
unsafe impl Vector for __m256i {
    const BYTES: usize = 32;

    #[inline(always)]
    unsafe fn splat(key: MaskKey) -> Self {
        // SAFETY: the caller vouches for AVX2.
        unsafe { _mm256_set1_epi32(i32::from_ne_bytes(key.0)) }
    }

    #[inline(always)]
    unsafe fn load(source: *const u8) -> Self {
        // SAFETY: the caller vouches for AVX2 and the source; alignment is not required.
        unsafe { _mm256_loadu_si256(source.cast()) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller vouches for AVX2.
        unsafe { _mm256_xor_si256(self, other) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut u8) {
        // SAFETY: the caller vouches for AVX2 and the target; alignment is not required.
        unsafe { _mm256_storeu_si256(target.cast(), self) }
    }
}

/// # Safety
/// As for [`kernel::Kernel`]; the processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn unmask(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    // SAFETY: passed on from the caller.
    unsafe { kernel::unmask::<__m256i>(source, target, bytes, key) }
}
