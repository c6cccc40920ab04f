//! What a client sends: masked frames, right or wrong on purpose.

use ringwire::wire::close::CloseCode;
use ringwire::wire::header::{HEADER_BYTES_MAX, Header, OpCode};
use ringwire::wire::mask::MaskKey;

/// The key of frames that need no particular one.
pub(super) const KEY: MaskKey = MaskKey([0x37, 0xfa, 0x21, 0x3d]);

/// A masked frame.
pub(super) fn frame_with(fin: bool, opcode: OpCode, payload: &[u8], key: MaskKey) -> Vec<u8> {
    let mut encoded = [0; HEADER_BYTES_MAX];
    let payload_bytes = payload.len() as u64;
    let header = Header { fin, rsv: 0, opcode, mask: Some(key), payload_bytes };
    let bytes = header.encode(&mut encoded);
    let masked = payload.iter().enumerate().map(|(index, byte)| byte ^ key.0[index % 4]);
    encoded[..bytes].iter().copied().chain(masked).collect()
}

/// A masked frame that is all of its message.
pub(super) fn message(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    frame_with(true, opcode, payload, KEY)
}

/// A masked frame that leaves its message open.
pub(super) fn open(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    frame_with(false, opcode, payload, KEY)
}

/// A masked close frame.
pub(super) fn close(code: CloseCode, reason: &[u8]) -> Vec<u8> {
    message(OpCode::Close, &[&code.0.to_be_bytes(), reason].concat())
}

/// An unmasked frame, as the server sends it.
pub(super) fn served(fin: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut encoded = [0; HEADER_BYTES_MAX];
    let payload_bytes = payload.len() as u64;
    let bytes = Header { fin, ..Header::message(opcode, payload_bytes) }.encode(&mut encoded);
    [&encoded[..bytes], payload].concat()
}

/// An upgrade of `path`.
pub(super) fn request(path: &str) -> Vec<u8> {
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    text.into_bytes()
}

/// The answer to [`request`].
pub(super) const RESPONSE: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
