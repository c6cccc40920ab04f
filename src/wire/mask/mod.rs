//! Unmasking, the one thing a server must do to every byte it receives (RFC 6455 section 5.3).
//!
//! In place, moving down and appending are one forward pass each, and all three are the same
//! kernel: it loads before it stores, so its target may be the source, overlap it from below, or
//! lie elsewhere.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod sse2;

use std::ops::Range;
use std::sync::LazyLock;

use kernel::{Kernel, SHORT_BYTES, unmask_short};

/// The masking key of a frame; payload byte `i` is combined with key byte `i % 4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskKey(pub [u8; 4]);

impl MaskKey {
    /// The key as it applies to a payload from its byte `bytes` on, so that a payload can go on in
    /// another buffer.
    #[inline]
    pub const fn rotated(self, bytes: usize) -> Self {
        // Little-endian words rotate right as arrays rotate left, whatever the processor's order.
        let word = u32::from_le_bytes(self.0);
        Self(word.rotate_right(8 * (bytes % 4) as u32).to_le_bytes())
    }
}

/// Unmasks (or masks, it is the same) a payload in place.
#[inline]
pub fn apply(payload: &mut [u8], key: MaskKey) {
    let start = payload.as_mut_ptr();
    // SAFETY: source and target are the same exclusively borrowed slice.
    unsafe { unmask(start, start, payload.len(), key) }
}

/// Moves the payload at `from` down so that it starts at `to`, and unmasks it in the same pass.
///
/// Bytes outside the target stay as they are, also those of `from` that the payload left.
///
/// # Panics
/// `from` is not a range of `buffer`, or `to` is after its start.
#[inline]
pub fn shift(buffer: &mut [u8], from: Range<usize>, to: usize, key: MaskKey) {
    assert!(to <= from.start && from.start <= from.end && from.end <= buffer.len());
    let start = buffer.as_mut_ptr();
    // SAFETY: the assertion puts source and target, which is not above it, inside the exclusively
    // borrowed buffer.
    unsafe { unmask(start.add(from.start), start.add(to), from.len(), key) }
}

/// Unmasks a payload while copying it to the end of `target`.
#[inline]
pub fn append(target: &mut Vec<u8>, payload: &[u8], key: MaskKey) {
    target.reserve(payload.len());
    let spare = target.spare_capacity_mut().as_mut_ptr().cast::<u8>();
    // SAFETY: `reserve` made room for the payload, which is borrowed and so lies elsewhere.
    unsafe { unmask(payload.as_ptr(), spare, payload.len(), key) };
    // SAFETY: these bytes are within the capacity and have just been written. The sum cannot
    // overflow because `reserve` computed it.
    unsafe { target.set_len(target.len() + payload.len()) };
}

/// The instruction set that large payloads use on this processor.
pub fn backend() -> &'static str {
    BACKEND.name
}

/// One instruction set's kernel.
#[derive(Clone, Copy)]
struct Backend {
    name: &'static str,
    kernel: Kernel,
}

/// Takes the short path inline, because most messages are small.
///
/// # Safety
/// As for [`Kernel`], with any number of bytes.
#[inline]
unsafe fn unmask(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    // SAFETY: passed on from the caller, with the number of bytes that each function takes.
    unsafe {
        if bytes < SHORT_BYTES {
            unmask_short(source, target, bytes, key)
        } else {
            unmask_long(source, target, bytes, key)
        }
    }
}

/// The only dispatch, out of line so that its set-up does not burden the short path.
///
/// # Safety
/// As for [`Kernel`].
#[inline(never)]
unsafe fn unmask_long(source: *const u8, target: *mut u8, bytes: usize, key: MaskKey) {
    // SAFETY: passed on from the caller, and the processor has the backend's instructions.
    unsafe { (BACKEND.kernel)(source, target, bytes, key) }
}

/// The backends that this processor can run, best first; the last one runs everywhere.
fn available() -> impl Iterator<Item = Backend> {
    let candidates: Vec<(bool, &'static str, Kernel)> = vec![
        #[cfg(target_arch = "x86_64")]
        (is_x86_feature_detected!("avx512f"), "avx512", avx512::unmask as Kernel),
        #[cfg(target_arch = "x86_64")]
        (is_x86_feature_detected!("avx2"), "avx2", avx2::unmask),
        #[cfg(target_arch = "x86_64")]
        (true, "sse2", sse2::unmask),
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        (true, "neon", neon::unmask),
        (true, "portable", portable::unmask),
    ];
    let present = candidates.into_iter().filter(|(is_present, ..)| *is_present);
    present.map(|(_, name, kernel)| Backend { name, kernel })
}

static BACKEND: LazyLock<Backend> =
    LazyLock::new(|| available().next().expect("the portable backend is always available"));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: MaskKey = MaskKey([0x37, 0xfa, 0x21, 0x3d]);
    const GUARD: u8 = 0xa5;

    /// The loop of RFC 6455 section 5.3.
    fn naive(payload: &[u8], key: MaskKey) -> Vec<u8> {
        payload.iter().enumerate().map(|(index, byte)| byte ^ key.0[index % 4]).collect()
    }

    /// Bytes without a short period, so that a wrong place or rotation shows.
    fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| (index.wrapping_mul(0x9e37_79b1) >> 11) as u8).collect()
    }

    /// A buffer that starts at a multiple of 64, the widest vector.
    #[repr(align(64))]
    struct Aligned([u8; 512]);

    /// What `unmask` does when this backend is the one chosen.
    unsafe fn run(backend: Backend, source: *const u8, target: *mut u8, bytes: usize) {
        let kernel = if bytes < SHORT_BYTES { unmask_short } else { backend.kernel };
        // SAFETY: passed on from the caller, and only available backends are passed.
        unsafe { kernel(source, target, bytes, KEY) }
    }

    #[test]
    fn every_backend_shifts_at_every_alignment_length_and_distance() {
        let masked = pattern(300);
        let plain = naive(&masked, KEY);
        for backend in available() {
            for (alignment, distance) in (0..64).flat_map(|a| (0..80).map(move |d| (a, d))) {
                for bytes in 0..300 {
                    let mut buffer = Aligned([GUARD; 512]);
                    let from = alignment + distance;
                    buffer.0[from..from + bytes].copy_from_slice(&masked[..bytes]);
                    let mut expected = Aligned(buffer.0);
                    expected.0[alignment..alignment + bytes].copy_from_slice(&plain[..bytes]);
                    let start = buffer.0.as_mut_ptr();
                    // SAFETY: 63 + 79 + 299 bytes are within the buffer.
                    unsafe { run(backend, start.add(from), start.add(alignment), bytes) };
                    let case = (backend.name, alignment, distance, bytes);
                    assert!(buffer.0 == expected.0, "{case:?}");
                }
            }
        }
    }

    #[test]
    fn every_backend_copies_at_every_alignment_and_length() {
        let masked = pattern(300);
        let plain = naive(&masked, KEY);
        for backend in available() {
            for alignment in 0..64 {
                let mut source = Aligned([0; 512]);
                source.0[alignment..][..300].copy_from_slice(&masked);
                for bytes in 0..300 {
                    let to = (alignment * 5 + bytes) % 64;
                    let mut target = Aligned([GUARD; 512]);
                    let start = target.0.as_mut_ptr();
                    // SAFETY: 63 + 299 bytes are within both buffers.
                    unsafe { run(backend, source.0[alignment..].as_ptr(), start.add(to), bytes) };
                    let case = (backend.name, alignment, to, bytes);
                    assert_eq!(target.0[to..to + bytes], plain[..bytes], "{case:?}");
                    assert_eq!(target.0[..to], [GUARD; 64][..to], "{case:?}");
                    assert_eq!(target.0[to + bytes..], [GUARD; 512][to + bytes..], "{case:?}");
                }
            }
        }
    }

    #[test]
    fn all_lengths_around_the_short_path_agree_with_the_naive_loop() {
        for bytes in 0..300 {
            let masked = pattern(bytes);
            let plain = naive(&masked, KEY);
            let mut applied = masked.clone();
            apply(&mut applied, KEY);
            assert_eq!(applied, plain, "{bytes}");
            let mut appended = b"kept".to_vec();
            append(&mut appended, &masked, KEY);
            assert_eq!(appended, [b"kept", &plain[..]].concat(), "{bytes}");
            let mut shifted = [b"kept....", &masked[..], b"kept"].concat();
            shift(&mut shifted, 8..8 + bytes, 4, KEY);
            assert_eq!(shifted[..4 + bytes], [b"kept", &plain[..]].concat(), "{bytes}");
            assert_eq!(shifted[8 + bytes..], *b"kept", "{bytes}");
        }
    }

    #[test]
    #[should_panic]
    fn shifting_up_is_a_bug() {
        shift(&mut [0; 8], 2..4, 3, KEY);
    }

    #[test]
    #[should_panic]
    fn shifting_from_outside_the_buffer_is_a_bug() {
        shift(&mut [0; 8], 2..9, 0, KEY);
    }

    proptest! {
        #[test]
        fn large_payloads_agree_with_the_naive_loop(
            bytes in 0_usize..20_000, start in 0_usize..200, distance in 0_usize..5_000,
            key in any::<[u8; 4]>().prop_map(MaskKey),
        ) {
            let masked = pattern(bytes);
            let plain = naive(&masked, key);
            let mut buffer = vec![GUARD; start + distance + bytes];
            buffer[start + distance..].copy_from_slice(&masked);
            let mut appended = buffer[..start].to_vec();
            append(&mut appended, &buffer[start + distance..], key);
            prop_assert!(appended[start..] == plain);
            shift(&mut buffer, start + distance..start + distance + bytes, start, key);
            prop_assert!(buffer[start..start + bytes] == plain);
            prop_assert!(buffer[..start].iter().all(|byte| *byte == GUARD));
            apply(&mut buffer[start..start + bytes], key);
            prop_assert!(buffer[start..start + bytes] == masked);
        }

        #[test]
        fn a_payload_split_anywhere_goes_on_with_the_rotated_key(
            bytes in 0_usize..500, split in any::<prop::sample::Index>(), key in any::<[u8; 4]>(),
        ) {
            let (key, masked) = (MaskKey(key), pattern(bytes));
            let split = split.index(bytes + 1);
            let mut plain = Vec::new();
            append(&mut plain, &masked[..split], key);
            append(&mut plain, &masked[split..], key.rotated(split));
            prop_assert_eq!(plain, naive(&masked, key));
        }
    }

    #[test]
    fn rotation_moves_to_the_next_key_byte() {
        assert_eq!(MaskKey([1, 2, 3, 4]).rotated(1), MaskKey([2, 3, 4, 1]));
        assert_eq!(MaskKey([1, 2, 3, 4]).rotated(usize::MAX), MaskKey([4, 1, 2, 3]));
        assert_eq!(KEY.rotated(3).rotated(5), KEY);
    }
}
