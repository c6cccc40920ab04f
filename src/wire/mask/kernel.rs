//! The unmasking algorithm, written once over the vectors of every instruction set.
#![allow(unsafe_code)]

use std::array;

use super::MaskKey;

/// Unmasks `bytes` bytes from the first pointer to the second.
///
/// # Safety
/// The source is valid for reads and the target for writes of that many bytes; the target does not
/// overlap the source, or starts at or below it. `bytes` is at least [`SHORT_BYTES`], and the
/// processor has the instructions that the kernel is named for.
pub(super) type Kernel = unsafe fn(*const u8, *mut u8, usize, MaskKey);

/// A vector register as the kernels need it.
///
/// # Safety
/// `BYTES` is the size of the type, a power of two and a multiple of 4; `load` and `store` touch
/// exactly that many bytes.
pub(super) unsafe trait Vector: Copy {
    /// Bytes of the vector.
    const BYTES: usize;

    /// The key repeated over the vector.
    ///
    /// # Safety
    /// The processor has the vector's instruction set.
    unsafe fn splat(key: MaskKey) -> Self;

    /// # Safety
    /// The processor has the vector's instruction set; `source` is valid for reads of `BYTES`, at
    /// any alignment.
    unsafe fn load(source: *const u8) -> Self;

    /// # Safety
    /// The processor has the vector's instruction set.
    unsafe fn xor(self, other: Self) -> Self;

    /// # Safety
    /// The processor has the vector's instruction set; `target` is valid for writes of `BYTES`, at
    /// any alignment.
    unsafe fn store(self, target: *mut u8);
}

// SAFETY: the size is that of four bytes, and reads and writes are of the type.
unsafe impl Vector for u32 {
    const BYTES: usize = 4;

    #[inline(always)]
    unsafe fn splat(key: MaskKey) -> Self {
        Self::from_ne_bytes(key.0)
    }

    #[inline(always)]
    unsafe fn load(source: *const u8) -> Self {
        // SAFETY: the caller vouches for the source.
        unsafe { source.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self ^ other
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut u8) {
        // SAFETY: the caller vouches for the target.
        unsafe { target.cast::<Self>().write_unaligned(self) }
    }
}

// SAFETY: the size is that of the words (1, 2 or 4 here), and reads and writes are of the type.
unsafe impl<const WORDS: usize> Vector for [u64; WORDS] {
    const BYTES: usize = 8 * WORDS;

    #[inline(always)]
    unsafe fn splat(key: MaskKey) -> Self {
        let word = u64::from(u32::from_ne_bytes(key.0));
        [word << 32 | word; WORDS]
    }

    #[inline(always)]
    unsafe fn load(source: *const u8) -> Self {
        // SAFETY: the caller vouches for the source.
        unsafe { source.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        array::from_fn(|word| self[word] ^ other[word])
    }

    #[inline(always)]
    unsafe fn store(self, target: *mut u8) {
        // SAFETY: the caller vouches for the target.
        unsafe { target.cast::<Self>().write_unaligned(self) }
    }
}

/// The kernel for one vector type: whole vectors at aligned targets, and one unaligned vector at
/// either end that overlaps them. The ends are loaded first and stored last, so that overlapping
/// in place does not unmask a byte twice.
///
/// # Safety
/// As for [`Kernel`], and `V` is at most [`SHORT_BYTES`] wide.
#[inline(always)]
pub(super) unsafe fn unmask<V: Vector>(
    source: *const u8,
    target: *mut u8,
    bytes: usize,
    key: MaskKey,
) {
    const { assert!(V::BYTES <= SHORT_BYTES && V::BYTES.is_power_of_two()) };
    // Aligning the target only: stores that cross a cache line cost more than loads that do.
    let mut done = target.addr().wrapping_neg() % V::BYTES;
    // SAFETY: all places are within `bytes`: the ends because a vector is not longer than that, the
    // vectors between them by the loop conditions. A store touches only places of the source that
    // have been loaded, as the target is not above the source. The caller vouches for the rest.
    unsafe {
        let first = V::load(source);
        let last = V::load(source.add(bytes - V::BYTES));
        let key_inside = V::splat(key.rotated(done));
        while bytes - done >= 4 * V::BYTES {
            let (source, target) = (source.add(done), target.add(done));
            let a = V::load(source);
            let b = V::load(source.add(V::BYTES));
            let c = V::load(source.add(2 * V::BYTES));
            let d = V::load(source.add(3 * V::BYTES));
            a.xor(key_inside).store(target);
            b.xor(key_inside).store(target.add(V::BYTES));
            c.xor(key_inside).store(target.add(2 * V::BYTES));
            d.xor(key_inside).store(target.add(3 * V::BYTES));
            done += 4 * V::BYTES;
        }
        while bytes - done >= V::BYTES {
            V::load(source.add(done)).xor(key_inside).store(target.add(done));
            done += V::BYTES;
        }
        first.xor(V::splat(key)).store(target);
        let key_last = V::splat(key.rotated(bytes - V::BYTES));
        last.xor(key_last).store(target.add(bytes - V::BYTES));
    }
}

/// Unmasks fewer than [`SHORT_BYTES`] without a loop or a call: two overlapping words of the
/// largest size that fits.
///
/// # Safety
/// As for [`Kernel`] but for `bytes`, which is below [`SHORT_BYTES`].
#[inline]
pub(super) unsafe fn unmask_short(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    // SAFETY: each arm's word fits `bytes`, and two cover it; the caller vouches for the rest.
    unsafe {
        match bytes {
            16..32 => unmask_ends::<[u64; 2]>(source, target, bytes, key),
            32.. => unmask_ends::<[u64; 4]>(source, target, bytes, key),
            8..16 => unmask_ends::<[u64; 1]>(source, target, bytes, key),
            4..8 => unmask_ends::<u32>(source, target, bytes, key),
            0..4 => unmask_bytes(source, target, bytes, key),
        }
    }
}

/// Unmasks one to two vectors' worth of bytes.
///
/// # Safety
/// As for [`Kernel`] but for `bytes`, which is from `V::BYTES` to `2 * V::BYTES`.
#[inline(always)]
unsafe fn unmask_ends<V: Vector>(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    let tail = bytes - V::BYTES;
    // SAFETY: both vectors are within `bytes` and loaded before any store; the caller vouches for
    // the rest.
    unsafe {
        let first = V::load(source);
        let last = V::load(source.add(tail));
        first.xor(V::splat(key)).store(target);
        last.xor(V::splat(key.rotated(tail))).store(target.add(tail));
    }
}

/// Unmasks up to three bytes.
///
/// # Safety
/// As for [`Kernel`] but for `bytes`, which is below 4.
#[inline(always)]
unsafe fn unmask_bytes(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    for (index, key_byte) in key.0.into_iter().enumerate().take(bytes) {
        // SAFETY: the index is below `bytes`; ascending order loads each byte before the store that
        // could overwrite it; the caller vouches for the rest.
        unsafe { target.add(index).write(source.add(index).read() ^ key_byte) };
    }
}

/// Payloads below this take the inlined path; no vector is wider.
pub(super) const SHORT_BYTES: usize = 64;
