//! Headers against a reference reader that is written for clearness, prefix by prefix.

mod reference;

use proptest::prelude::*;

use super::*;
use reference::{can_become_good, reference};

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Server), Just(Role::Client)]
}

fn extension_bits() -> impl Strategy<Value = u8> {
    (0_u8..8).prop_map(|bits| bits << 4)
}

/// Bytes of a whole header; lengths begin with zeros more often than chance has it.
fn header_bytes() -> impl Strategy<Value = [u8; HEADER_BYTES_MAX]> {
    let first = prop_oneof![
        any::<u8>(),
        prop::sample::select(&[0x01_u8, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a, 0xc1]),
    ];
    let second = prop_oneof![any::<u8>(), prop::sample::select(&[126_u8, 127, 254, 255])];
    (first, second, any::<[u8; 12]>(), 0_usize..9).prop_map(|(first, second, rest, zeros)| {
        let mut bytes = [0; HEADER_BYTES_MAX];
        bytes[0] = first;
        bytes[1] = second;
        bytes[2 + zeros..].copy_from_slice(&rest[zeros..]);
        bytes
    })
}

/// Headers that a correct peer may send to an endpoint of the role, with their extension bits.
fn headers(role: Role) -> impl Strategy<Value = (Header, u8)> {
    let kind = prop_oneof![
        (any::<bool>(), extension_bits(), prop::sample::select(&[OpCode::Text, OpCode::Binary])),
        (any::<bool>(), Just(0), Just(OpCode::Continuation)),
        (Just(true), Just(0), prop::sample::select(&[OpCode::Close, OpCode::Ping, OpCode::Pong])),
    ];
    let length = prop_oneof![
        0_u64..=125,
        126_u64..=0xffff,
        0x1_0000_u64..=i64::MAX as u64,
        prop::sample::select(&[0_u64, 125, 126, 0xffff, 0x1_0000, i64::MAX as u64]),
    ];
    (kind, length, any::<[u8; 4]>(), extension_bits()).prop_map(
        move |((fin, rsv, opcode), length, key, more_bits)| {
            let payload_bytes = if opcode.is_control() { length % 126 } else { length };
            let mask = (role == Role::Server).then_some(MaskKey(key));
            (Header { fin, rsv, opcode, mask, payload_bytes }, rsv | more_bits)
        },
    )
}

fn roles_and_headers() -> impl Strategy<Value = (Role, (Header, u8))> {
    roles().prop_flat_map(|role| (Just(role), headers(role)))
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded((role, (header, extension_bits)) in roles_and_headers()) {
        let mut bytes = [0; HEADER_BYTES_MAX];
        let used = header.encode(&mut bytes);
        let masked = header.mask.is_some();
        prop_assert_eq!(used, Header::encoded_bytes(header.payload_bytes, masked));
        let decoded = Header::decode(&bytes[..used], role, extension_bits);
        prop_assert_eq!(decoded, Ok(Some((header, used))));
        for prefix in 0..used {
            let decoded = Header::decode(&bytes[..prefix], role, extension_bits);
            prop_assert_eq!(decoded, Ok(None));
        }
    }

    #[test]
    fn decoding_agrees_with_the_reference_at_the_first_byte_that_decides(
        bytes in header_bytes(), role in roles(), extension_bits in extension_bits(),
    ) {
        let expected = reference(bytes, role, extension_bits);
        prop_assert_eq!(Header::decode(&bytes, role, extension_bits), expected);
        for prefix in 0..HEADER_BYTES_MAX {
            match Header::decode(&bytes[..prefix], role, extension_bits) {
                Ok(None) => prop_assert!(
                    can_become_good(&bytes[..prefix], role, extension_bits),
                    "{:02x?} is bad, whatever follows", &bytes[..prefix]
                ),
                decided => prop_assert_eq!(decided, expected),
            }
        }
    }

    #[test]
    fn close_frames_keep_as_much_of_the_reason_as_fits(reason in "\\PC{0,150}") {
        let frame = close_frame(CloseCode::GOING_AWAY, &reason);
        prop_assert_eq!(frame[0], 0x88);
        prop_assert_eq!(usize::from(frame[1]), frame.len() - 2);
        prop_assert_eq!(&frame[2..4], [0x03, 0xe9]);
        let kept = std::str::from_utf8(&frame[4..]).expect("a whole number of characters");
        prop_assert!(reason.starts_with(kept) && kept.len() <= REASON_BYTES_MAX);
        let cut = reason[kept.len()..].chars().next().map_or(usize::MAX, char::len_utf8);
        prop_assert!(kept.len().saturating_add(cut) > REASON_BYTES_MAX);
    }
}

#[test]
fn examples_of_the_rfc() {
    let decode = |bytes, role| Header::decode(bytes, role, 0).unwrap().unwrap();
    let (hello, used) = decode(b"\x81\x05Hello", Role::Client);
    assert_eq!((hello.opcode, hello.payload_bytes, hello.mask, used), (OpCode::Text, 5, None, 2));
    let (hello, used) = decode(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", Role::Server);
    assert_eq!((hello.mask, used), (Some(MaskKey([0x37, 0xfa, 0x21, 0x3d])), 6));
    let (fragment, _) = decode(b"\x01\x03Hel", Role::Client);
    assert!(!fragment.fin);
    let (large, used) = decode(b"\x82\x7f\0\0\0\0\0\x01\0\0", Role::Client);
    assert_eq!((large.payload_bytes, used), (65_536, 10));
}

#[test]
fn one_byte_is_enough_to_fail() {
    let decode = |byte| Header::decode(&[byte], Role::Server, RSV1).unwrap_err();
    assert_eq!(decode(0x83), Violation::ReservedOpCode { opcode: 3 });
    assert_eq!(decode(0xa1), Violation::ReservedBits);
    assert_eq!(decode(0xc0), Violation::ReservedBits);
    assert_eq!(decode(0x09), Violation::ControlFragmented);
}

#[test]
fn a_pong_frame_carries_its_payload() {
    assert_eq!(control_frame(OpCode::Pong, b"abc"), b"\x8a\x03abc");
    assert_eq!(control_frame(OpCode::Close, b""), b"\x88\x00");
}
