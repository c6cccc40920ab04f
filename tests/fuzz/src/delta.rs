//! Deltas: what they make of a source, and that whatever is none does no harm.

use ringwire::realtime::delta::{OUTPUT_BYTES_MAX, OVERHEAD_BYTES, apply, create};

use super::places;

/// The first two bytes say where the source ends in what follows, and the target begins.
pub fn check(data: &[u8]) {
    let Some((choice, payloads)) = data.split_first_chunk::<2>() else { return };
    let [end] = places([u16::from_le_bytes(*choice)], payloads.len());
    let (source, target) = payloads.split_at(end);
    let is_text = [source, target].iter().all(|payload| std::str::from_utf8(payload).is_ok());
    let delta = create(source, target, is_text);
    assert!(delta.len() <= target.len() + OVERHEAD_BYTES);
    assert!(!is_text || std::str::from_utf8(&delta).is_ok(), "half a character");
    assert_eq!(apply(source, &delta).as_deref(), Some(target));
    // Nothing says that this was a delta.
    if let Some(made) = apply(source, target) {
        assert!(made.len() <= OUTPUT_BYTES_MAX);
    }
}
