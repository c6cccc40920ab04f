//! Masking, frame headers and UTF-8.

use std::hint::black_box;

use ringwire::wire::header::{HEADER_BYTES_MAX, Header, OpCode, Role};
use ringwire::wire::mask::{self, MaskKey};
use ringwire::wire::utf8::{self, Utf8Stream};

use super::{Case, pattern, size_name, text};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for bytes in UNMASK_BYTES {
        let name = size_name(bytes);
        cases.push(unmask(format!("unmask/{name}"), bytes, mask::apply));
        cases.push(unmask(format!("unmask-naive/{name}"), bytes, naive));
        cases.push(shift(format!("unmask-shift/{name}"), bytes));
    }
    for payload_bytes in HEADER_PAYLOAD_BYTES {
        let name = size_name(payload_bytes);
        cases.push(decode_header(format!("decode-header/{name}"), payload_bytes));
        cases.push(encode_header(format!("encode-header/{name}"), payload_bytes));
    }
    for payload_bytes in [20, 1024] {
        cases.push(decode_burst(payload_bytes));
    }
    for bytes in UTF8_BYTES {
        let name = size_name(bytes);
        cases.push(validate(format!("utf8-ascii/{name}"), text(bytes, true)));
        cases.push(validate(format!("utf8-mixed/{name}"), text(bytes, false)));
        cases.push(validate_in_chunks(format!("utf8-chunks/{name}"), text(bytes, false)));
    }
    cases
}

/// The loop of RFC 6455 section 5.3.
fn naive(payload: &mut [u8], key: MaskKey) {
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= key.0[index % 4];
    }
}

fn unmask(name: String, bytes: usize, apply: fn(&mut [u8], MaskKey)) -> Case {
    let repeats = repeats(bytes);
    let prepare = move || -> super::Prepared {
        let mut buffer = pattern(bytes + CACHE_LINE_BYTES);
        Box::new(move || {
            let payload = &mut from_cache_line(&mut buffer)[..bytes];
            for _ in 0..repeats {
                apply(black_box(payload), black_box(KEY));
            }
        })
    };
    Case::new(name, repeats, prepare).through(repeats * bytes)
}

/// What an echo does to every frame of a burst but the first.
fn shift(name: String, bytes: usize) -> Case {
    let repeats = repeats(bytes);
    let prepare = move || -> super::Prepared {
        let mut buffer = pattern(bytes + SHIFT_BYTES + CACHE_LINE_BYTES);
        Box::new(move || {
            let buffer = from_cache_line(&mut buffer);
            for _ in 0..repeats {
                let from = SHIFT_BYTES..SHIFT_BYTES + bytes;
                mask::shift(black_box(buffer), from, 0, black_box(KEY));
            }
        })
    };
    Case::new(name, repeats, prepare).through(repeats * bytes)
}

/// The same alignment in every run: kernels for long payloads align their stores.
fn from_cache_line(buffer: &mut [u8]) -> &mut [u8] {
    let skipped_bytes = buffer.as_ptr().align_offset(CACHE_LINE_BYTES);
    &mut buffer[skipped_bytes..]
}

fn decode_header(name: String, payload_bytes: usize) -> Case {
    Case::new(name, REPEATS, move || {
        let header = masked_header(payload_bytes);
        Box::new(move || {
            for _ in 0..REPEATS {
                let _ = black_box(Header::decode(black_box(&header), Role::Server, 0));
            }
        })
    })
}

fn encode_header(name: String, payload_bytes: usize) -> Case {
    Case::new(name, REPEATS, move || {
        let header = Header::message(OpCode::Binary, payload_bytes as u64);
        let mut encoded = [0; HEADER_BYTES_MAX];
        Box::new(move || {
            for _ in 0..REPEATS {
                black_box(black_box(&header).encode(black_box(&mut encoded)));
            }
        })
    })
}

/// Finds all frames of a burst.
fn decode_burst(payload_bytes: usize) -> Case {
    let mut frame = masked_header(payload_bytes);
    frame.extend(pattern(payload_bytes));
    let burst = frame.repeat(BURST);
    let name = format!("decode-burst/{}-x{BURST}", size_name(payload_bytes));
    Case::new(name, BURST, move || {
        let burst = burst.clone();
        Box::new(move || {
            let mut rest = black_box(&burst[..]);
            while let Ok(Some((header, bytes))) = Header::decode(rest, Role::Server, 0) {
                rest = &rest[bytes + header.payload_bytes as usize..];
            }
            assert!(black_box(rest).is_empty());
        })
    })
}

fn validate(name: String, text: Vec<u8>) -> Case {
    let (repeats, bytes) = (repeats(text.len()), text.len());
    let prepare = move || -> super::Prepared {
        let text = text.clone();
        Box::new(move || {
            for _ in 0..repeats {
                assert!(utf8::validate(black_box(&text)).is_ok());
            }
        })
    };
    Case::new(name, repeats, prepare).through(repeats * bytes)
}

/// Text that arrives in pieces which end within characters.
fn validate_in_chunks(name: String, text: Vec<u8>) -> Case {
    let bytes = text.len();
    let prepare = move || -> super::Prepared {
        let text = text.clone();
        Box::new(move || {
            let mut stream = Utf8Stream::default();
            for chunk in black_box(&text).chunks(CHUNK_BYTES) {
                assert!(stream.push(chunk).is_ok());
            }
            assert!(stream.finish().is_ok());
        })
    };
    Case::new(name, 1, prepare).through(bytes)
}

fn masked_header(payload_bytes: usize) -> Vec<u8> {
    let message = Header::message(OpCode::Binary, payload_bytes as u64);
    let mut encoded = [0; HEADER_BYTES_MAX];
    let bytes = Header { mask: Some(KEY), ..message }.encode(&mut encoded);
    encoded[..bytes].to_vec()
}

/// Short work is repeated, so that the call that measures it does not count.
fn repeats(bytes: usize) -> usize {
    (REPEATS * 64 / bytes).clamp(1, REPEATS)
}

const UNMASK_BYTES: [usize; 8] = [8, 20, 64, 125, 1 << 10, 16 << 10, 64 << 10, 1 << 20];
const HEADER_PAYLOAD_BYTES: [usize; 3] = [20, 1 << 10, 64 << 10];
const UTF8_BYTES: [usize; 4] = [20, 125, 1 << 10, 64 << 10];
const KEY: MaskKey = MaskKey([0x37, 0xfa, 0x21, 0x3d]);
const REPEATS: usize = 256;
const BURST: usize = 32;
/// By this much a server's header is shorter than a client's.
const SHIFT_BYTES: usize = 4;
const CHUNK_BYTES: usize = 997;
const CACHE_LINE_BYTES: usize = 64;
