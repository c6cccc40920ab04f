//! Frame headers read rule after rule, for clearness alone.

use ringwire::wire::error::Violation;
use ringwire::wire::header::{HEADER_BYTES_MAX, Header, OpCode, Role};
use ringwire::wire::mask::MaskKey;

/// What the decoder answers.
pub(super) type Decoded = Result<Option<(Header, usize)>, Violation>;

/// Reads a header of which all 14 bytes are present, rule after rule.
pub(super) fn reference(bytes: [u8; HEADER_BYTES_MAX], role: Role, extension_bits: u8) -> Decoded {
    let [fin, rsv1, rsv2, rsv3] = [7, 6, 5, 4].map(|bit| bytes[0] >> bit & 1 == 1);
    let opcode = match bytes[0] % 16 {
        0 => OpCode::Continuation,
        1 => OpCode::Text,
        2 => OpCode::Binary,
        8 => OpCode::Close,
        9 => OpCode::Ping,
        10 => OpCode::Pong,
        opcode => return Err(Violation::ReservedOpCode { opcode }),
    };
    let is_control = matches!(opcode, OpCode::Close | OpCode::Ping | OpCode::Pong);
    let allowed = match opcode {
        OpCode::Text | OpCode::Binary => extension_bits,
        _ => 0,
    };
    let rsv = u8::from(rsv1) * 64 + u8::from(rsv2) * 32 + u8::from(rsv3) * 16;
    if rsv | allowed != allowed {
        return Err(Violation::ReservedBits);
    }
    if is_control && !fin {
        return Err(Violation::ControlFragmented);
    }
    let masked = bytes[1] >= 128;
    if role == Role::Server && !masked {
        return Err(Violation::UnmaskedFrame);
    }
    if role == Role::Client && masked {
        return Err(Violation::MaskedFrame);
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let (payload_bytes, minimum, mut used) = match bytes[1] % 128 {
        126.. if is_control => return Err(Violation::ControlTooLong),
        126 => (number(&bytes[2..4]), 126, 4),
        127 => (number(&bytes[2..10]), 65_536, 10),
        length => (u64::from(length), 0, 2),
    };
    if payload_bytes > i64::MAX as u64 {
        return Err(Violation::LengthOver63Bits);
    }
    if payload_bytes < minimum {
        return Err(Violation::LengthNotMinimal);
    }
    let mut mask = None;
    if masked {
        mask = Some(MaskKey([bytes[used], bytes[used + 1], bytes[used + 2], bytes[used + 3]]));
        used += 4;
    }
    Ok(Some((Header { fin, rsv, opcode, mask, payload_bytes }, used)))
}

/// Whether some bytes after `prefix` make it a good header.
pub(super) fn can_become_good(prefix: &[u8], role: Role, extension_bits: u8) -> bool {
    [0x00, 0x01, 0x7f, 0x80, 0x81].iter().any(|fill| {
        let mut bytes = [*fill; HEADER_BYTES_MAX];
        bytes[..prefix.len()].copy_from_slice(prefix);
        matches!(reference(bytes, role, extension_bits), Ok(Some(_)))
    })
}
