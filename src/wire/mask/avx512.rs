//! Unmasking with 512-bit AVX-512 vectors (the foundation subset suffices).
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_storeu_si512, _mm512_xor_si512,
};

use super::MaskKey;
use super::kernel::{self, Vector};

// SAFETY: the size is 64 bytes, and the intrinsics read and write the whole vector.
unsafe impl Vector for __m512i {
    const BYTES: usize = 64;

    #[inline(always)]
    unsafe fn splat(key: MaskKey) -> Self {
        // SAFETY: the caller vouches for AVX-512F.
        unsafe { _mm512_set1_epi32(i32::from_ne_bytes(key.0)) }
    }

    #[inline(always)]
    unsafe fn load(source: *const u8) -> Self {
        // SAFETY: the caller vouches for AVX-512F and the source; alignment is not required.
        unsafe { _mm512_loadu_si512(source.cast()) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: the caller vouches for AVX-512F.
        unsafe { _mm512_xor_si512(self, other) }
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut u8) {
        // SAFETY: the caller vouches for AVX-512F and the target; alignment is not required.
        unsafe { _mm512_storeu_si512(target.cast(), self) }
    }
}

/// # Safety
/// As for [`kernel::Kernel`]; the processor has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn unmask(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    // SAFETY: passed on from the caller.
    unsafe { kernel::unmask::<__m512i>(source, target, bytes, key) }
}
