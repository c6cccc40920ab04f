//! permessage-deflate: what is agreed on is within the terms and is what the answer says, whatever
//! is inflated stays within its bound, and messages come back.

use arbitrary::{Result, Unstructured};
use ringwire::wire::deflate::negotiation::{Terms, accept, accepted};
use ringwire::wire::deflate::{Deflater, InflateError, Inflater, compressed_bytes_max};

use super::places;
use super::strict::Strict;

/// The first byte says which of the three is tried with the others.
pub fn check(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    let input = Unstructured::new(rest);
    let _too_few_bytes = match choice % 3 {
        0 => negotiate(input),
        1 => inflate(input),
        _ => round_trip(input),
    };
}

/// The values of the fields are separated by line feeds, which no value has.
fn negotiate(mut input: Unstructured<'_>) -> Result<()> {
    let (server_takeover, client_takeover) = input.arbitrary()?;
    let terms =
        Terms { server_takeover, client_takeover, window_bits: input.int_in_range(9..=15)? };
    let text = input.take_rest();
    let agreed = accept(text.split(|byte| *byte == b'\n'), &terms);
    // Fields of one name are one list (RFC 9110 section 5.3).
    let joined: Vec<_> =
        text.iter().map(|byte| if *byte == b'\n' { b',' } else { *byte }).collect();
    assert_eq!(accept([&joined[..]], &terms), agreed);
    if let Some(agreement) = accepted(text) {
        assert!(!agreement.server_takeover);
        assert!((8..=15).contains(&agreement.server_window_bits));
        assert!((8..=15).contains(&agreement.client_window_bits));
    }
    let Some((agreement, answer)) = agreed else { return Ok(()) };
    assert!(terms.server_takeover || !agreement.server_takeover);
    assert!(terms.client_takeover || !agreement.client_takeover);
    assert!((8..=terms.window_bits).contains(&agreement.server_window_bits));
    assert!((8..=15).contains(&agreement.client_window_bits));
    // A client that has not named this parameter need not know it (RFC 7692 section 7.1.2.2).
    let names = |parameter| text.to_ascii_lowercase().windows(22).any(|bytes| bytes == parameter);
    assert!(!answer.contains("client_max_window_bits") || names(b"client_max_window_bits"));
    let anything = Terms { server_takeover: true, client_takeover: true, window_bits: 15 };
    assert_eq!(accept([answer.as_bytes()], &anything), Some((agreement, answer.clone())));
    let expected = (!agreement.server_takeover).then_some(agreement);
    assert_eq!(accepted(answer.as_bytes()), expected, "{answer}");
    Ok(())
}

/// Any bytes, cut into messages of one connection, and each of them by itself.
fn inflate(mut input: Unstructured<'_>) -> Result<()> {
    let (bytes_max, cuts): (u16, [u16; 3]) = input.arbitrary()?;
    let (bytes_max, text) = (usize::from(bytes_max), input.take_rest());
    let cuts = places(cuts, text.len());
    let (mut own, mut shared) = (Inflater::default(), Inflater::default());
    let (mut from, mut is_fresh) = (0, true);
    for end in cuts.into_iter().chain([text.len()]) {
        let message = &text[from..end];
        let first = inflated(bytes_max, |out| own.message(message, bytes_max, out));
        // What was before makes no difference to a message by itself.
        let lone = inflated(bytes_max, |out| shared.lone_message(message, bytes_max, out));
        let mut fresh = Inflater::default();
        assert_eq!(inflated(bytes_max, |out| fresh.lone_message(message, bytes_max, out)), lone);
        // It means the same to those who remember others, while there are none. Later ones may go
        // on with a block that was cut off, which not even `lone_message` always sees: the bits
        // that end the stream may end the block as well.
        assert!(!is_fresh || lone.is_err() || first == lone);
        is_fresh = first.is_err();
        if first.is_err() {
            own.reset();
        }
        from = end;
    }
    Ok(())
}

fn inflated(
    bytes_max: usize,
    inflate: impl FnOnce(&mut Vec<u8>) -> std::result::Result<(), InflateError>,
) -> std::result::Result<Vec<u8>, InflateError> {
    let mut out = Vec::new();
    let result = inflate(&mut out);
    assert!(out.len() <= bytes_max + 1, "{} bytes", out.len());
    assert_eq!(out.len() > bytes_max, result == Err(InflateError::TooBig));
    result.map(|()| out)
}

/// Messages of one sender, all levels and windows, with its context taken over or not.
fn round_trip(mut input: Unstructured<'_>) -> Result<()> {
    let (level, window_bits) = (input.int_in_range(0..=9)?, input.int_in_range(8..=15)?);
    let takeover = input.arbitrary()?;
    let (mut deflater, mut inflater) = (Deflater::new(level, window_bits), Inflater::default());
    let mut strict = Strict::new(window_bits);
    for _ in 0..MESSAGES_MOST {
        if input.is_empty() {
            break;
        }
        let (length, times): (u8, u8) = input.arbitrary()?;
        let some = input.bytes(usize::from(length).min(input.len()))?;
        let message = some.repeat([1, 1, 7, 60][usize::from(times % 4)]);
        let mut packed = Vec::new();
        deflater.message(&message, &mut packed);
        assert!(packed.len() <= compressed_bytes_max(message.len() as u32) as usize);
        let bytes = message.len();
        if takeover {
            assert_eq!(
                inflated(bytes, |out| inflater.message(&packed, bytes, out)),
                Ok(message.clone())
            );
        } else {
            deflater.reset();
            strict = Strict::new(window_bits);
            let plain = inflated(bytes, |out| inflater.lone_message(&packed, bytes, out));
            assert!(plain == Ok(message.clone()));
            if let Some(less) = bytes.checked_sub(1) {
                let excess = inflated(less, |out| inflater.lone_message(&packed, less, out));
                assert_eq!(excess, Err(InflateError::TooBig));
            }
        }
        packed.extend([0x00, 0x00, 0xff, 0xff]);
        assert!(strict.message(&packed) == Ok(message), "not for a window of {window_bits} bits");
    }
    Ok(())
}

const MESSAGES_MOST: usize = 8;
