//! Frame headers in both roles: decoded as the reference reads them, as soon as it can be known,
//! and encoded to the bytes they came from.

use super::header_reference::{can_become_good, reference};
use ringwire::wire::header::{HEADER_BYTES_MAX, Header, Role};

/// The first byte says which RSV bits are negotiated, the rest is a header, filled up with zeros.
pub fn check(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else { return };
    let extension_bits = choice & 0x70;
    let mut bytes = [0; HEADER_BYTES_MAX];
    let given = data.len().min(HEADER_BYTES_MAX);
    bytes[..given].copy_from_slice(&data[..given]);
    for role in [Role::Server, Role::Client] {
        decode(bytes, role, extension_bits);
    }
}

fn decode(bytes: [u8; HEADER_BYTES_MAX], role: Role, extension_bits: u8) {
    let expected = reference(bytes, role, extension_bits);
    assert_eq!(Header::decode(&bytes, role, extension_bits), expected);
    for prefix in 0..HEADER_BYTES_MAX {
        match Header::decode(&bytes[..prefix], role, extension_bits) {
            Ok(None) => assert!(can_become_good(&bytes[..prefix], role, extension_bits)),
            decided => assert_eq!(decided, expected, "after {prefix} bytes"),
        }
    }
    if let Ok(Some((header, used))) = expected {
        let mut encoded = [0; HEADER_BYTES_MAX];
        assert_eq!(header.encode(&mut encoded), used);
        assert_eq!(encoded[..used], bytes[..used]);
        let is_masked = header.mask.is_some();
        assert_eq!(Header::encoded_bytes(header.payload_bytes, is_masked), used);
    }
}
