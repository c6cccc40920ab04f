//! Round trips, the examples of RFC 7692, streams that are not what they say, and bombs.

use proptest::prelude::*;

mod strict;

use super::*;
use strict::{Refused, Strict};

/// Text that compresses, with matches at any distance.
fn payloads() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(
        prop_oneof![
            4 => "[a-d]{1,12}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..300),
            1 => (any::<u8>(), 1..700_usize).prop_map(|(byte, count)| vec![byte; count]),
        ],
        0..60,
    );
    words.prop_map(|words| words.concat())
}

fn deflated(level: u8, window_bits: u8, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new(level, window_bits).message(message, &mut out);
    out
}

fn inflated(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    Inflater::default().lone_message(message, bytes_max, &mut out).map(|()| out)
}

/// Inflates with a window of exactly 2 to the `window_bits` bytes.
fn inflated_strictly(messages: &[Vec<u8>], window_bits: u8) -> Result<Vec<Vec<u8>>, Refused> {
    let mut strict = Strict::new(window_bits);
    messages.iter().map(|message| strict.message(&[message, &TAIL[..]].concat())).collect()
}

proptest! {
    #[test]
    fn messages_in_context_come_back(
        level in 0..=9_u8,
        window_bits in 8..=15_u8,
        messages in prop::collection::vec(payloads(), 1..6),
    ) {
        let (mut deflater, mut inflater) = (Deflater::new(level, window_bits), Inflater::default());
        let mut all = Vec::new();
        for message in &messages {
            let (mut packed, mut plain) = (Vec::new(), vec![1, 2, 3]);
            deflater.message(message, &mut packed);
            inflater.message(&packed, message.len(), &mut plain).unwrap();
            prop_assert_eq!(&plain[3..], &message[..]);
            all.push(packed);
        }
        prop_assert_eq!(inflated_strictly(&all, window_bits), Ok(messages));
    }

    #[test]
    fn messages_by_themselves_come_back(
        level in 0..=9_u8,
        messages in prop::collection::vec(payloads(), 1..4),
    ) {
        let (mut deflater, mut inflater) = (Deflater::new(level, 15), Inflater::default());
        for message in messages {
            let (mut packed, mut plain) = (Vec::new(), Vec::new());
            deflater.message(&message, &mut packed);
            deflater.reset();
            prop_assert_eq!(&packed, &deflated(level, 15, &message));
            inflater.lone_message(&packed, message.len(), &mut plain).unwrap();
            prop_assert_eq!(&plain, &message);
            if let Some(less) = message.len().checked_sub(1) {
                prop_assert_eq!(inflated(&packed, less), Err(InflateError::TooBig));
                let cut = &packed[..packed.len() - 1];
                prop_assert!(cut.is_empty() || inflated(cut, message.len()) != Ok(message));
            }
        }
    }

    #[test]
    fn any_bytes_end_within_the_bound(input in any::<Vec<u8>>(), bytes_max in 0..5000_usize) {
        let (mut out, mut inflater) = (Vec::new(), Inflater::default());
        for _ in 0..2 {
            let _ = inflater.message(&input, bytes_max, &mut out);
            prop_assert!(out.len() <= 2 * (bytes_max + 1));
            prop_assert!(out.capacity() <= 4 * bytes_max + 2048);
        }
        inflater.reset();
        let _ = inflater.lone_message(&input, bytes_max, &mut out);
        let hello = deflated(1, 15, b"hello");
        out.clear();
        prop_assert_eq!(inflater.lone_message(&hello, 5, &mut out), Ok(()));
    }
}

#[test]
fn a_window_of_8_bits_reads_what_that_of_9_writes() {
    // Each match that the window of 9 allows lies 3 to 250 bytes back; repeat blocks at all of
    // these distances and at some that only larger windows reach.
    for level in 0..=9 {
        for distance in 1..600_usize {
            let block: Vec<u8> = (0..distance).map(|i| (i * i * 7 + i / 3) as u8).collect();
            let message = vec![block.repeat(1 + 1500 / distance)];
            let packed = vec![deflated(level, 8, &message[0])];
            assert_eq!(inflated_strictly(&packed, 8), Ok(message), "{level} {distance}");
        }
    }
}

#[test]
fn a_larger_window_is_seen_by_the_strict_reader() {
    let block: Vec<u8> = (0..400_u32).map(|i| (i * i * 7 + i / 3) as u8).collect();
    let packed = deflated(6, 10, &block.repeat(3));
    assert_eq!(inflated_strictly(std::slice::from_ref(&packed), 8), Err(Refused::BeyondWindow));
    assert_eq!(inflated_strictly(&[packed], 10), Ok(vec![block.repeat(3)]));
}

#[test]
fn the_examples_of_rfc_7692_section_7_2_3() {
    let mut inflater = Inflater::default();
    let mut read = |bytes: &[u8]| {
        let mut out = Vec::new();
        inflater.message(bytes, 100, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    let hello = Ok("Hello".to_owned());
    // 7.2.3.1, and 7.2.3.2 where the second refers to the first.
    assert_eq!(read(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), hello);
    assert_eq!(read(&[0xf2, 0x00, 0x11, 0x00, 0x00]), hello);
    // 7.2.3.3, not compressed.
    assert_eq!(read(b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), hello);
    // 7.2.3.4, a final block, with and without the block that makes room for the tail.
    assert_eq!(read(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00]), hello);
    assert_eq!(read(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), hello);
    // 7.2.3.5, two blocks.
    assert_eq!(
        read(&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00]),
        hello
    );
    // 7.2.3.6, empty.
    assert_eq!(read(&[0x00]), Ok(String::new()));
    assert_eq!(read(&[]), Ok(String::new()));
    assert_eq!(deflated(6, 15, b""), [0x00]);
}

#[test]
fn what_is_no_stream_is_corrupt() {
    for bad in [
        &[0xff_u8][..],
        &[0x07, 0x00],
        &[0x00, 0x05, 0x00, 0xfa, 0xfe, 1, 2, 3, 4, 5, 0x00],
        // A match before the beginning.
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        // Ends within a block.
        &[0xf2, 0x48, 0xcd],
    ] {
        assert_eq!(inflated(bad, 100), Err(InflateError::Corrupt), "{bad:x?}");
    }
    let blocks = |count: usize| [0x03, 0x00].repeat(count);
    assert_eq!(inflated(&blocks(FINAL_BLOCKS_MAX), 100), Ok(Vec::new()));
    assert_eq!(inflated(&blocks(FINAL_BLOCKS_MAX + 1), 100), Err(InflateError::Corrupt));
}

#[test]
fn a_bomb_costs_no_more_than_the_bound() {
    const BOUND: usize = 1 << 20;
    let zeros = vec![0; 64 << 20];
    let bomb = deflated(9, 15, &zeros);
    assert!(bomb.len() < zeros.len() / 900);
    let mut out = Vec::new();
    let result = Inflater::default().lone_message(&bomb, BOUND, &mut out);
    assert_eq!((result, out.len()), (Err(InflateError::TooBig), BOUND + 1));
    assert!(out.capacity() <= BOUND + 1, "{}", out.capacity());
    assert_eq!(inflated(&bomb, zeros.len()).as_deref(), Ok(&zeros[..]));
}

#[test]
fn empty_blocks_are_read_once() {
    // Four bytes are an empty stored block behind a byte boundary: 2 MiB of them become nothing.
    let blocks = [&[0x00, 0x00, 0x00, 0xff, 0xff].repeat(400_000)[..], &[0x00]].concat();
    assert_eq!(inflated(&blocks, 0), Ok(Vec::new()));
}
