//! A data message on its way to others: what it says, with the frame that most of them get it in.

use std::borrow::Borrow;
use std::sync::Arc;

use super::header::{HEADER_BYTES_MAX, Header, OpCode};
use super::mask::{self, MaskKey};

/// What a data message is (RFC 6455 section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    /// What a message is whose first frame has this opcode.
    #[inline]
    pub fn of(opcode: OpCode) -> Self {
        debug_assert!(matches!(opcode, OpCode::Text | OpCode::Binary));
        match opcode {
            OpCode::Text => Self::Text,
            _ => Self::Binary,
        }
    }

    /// The opcode of its frame.
    pub const fn opcode(self) -> OpCode {
        match self {
            Self::Text => OpCode::Text,
            Self::Binary => OpCode::Binary,
        }
    }
}

/// A whole message. The payload lies behind its header, so that the frame of a server costs those
/// who want it nothing; who wants another encoding takes the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataMessage<F = Vec<u8>> {
    frame: F,
    header_bytes: u8,
    kind: MessageKind,
}

/// A message that many connections share.
pub type SharedMessage = DataMessage<Arc<Vec<u8>>>;

impl DataMessage {
    /// A message with a copy of this payload; of a text the caller knows that it is UTF-8.
    pub fn new(kind: MessageKind, payload: &[u8]) -> Self {
        let mut message = Self::with_header(kind, payload.len());
        message.frame.extend_from_slice(payload);
        message
    }

    /// The same of a payload that is masked with `key`.
    #[inline]
    pub fn unmasked(kind: MessageKind, masked: &[u8], key: MaskKey) -> Self {
        let mut message = Self::with_header(kind, masked.len());
        mask::append(&mut message.frame, masked, key);
        message
    }

    /// A message without its payload of so many bytes, with room for that.
    #[inline]
    fn with_header(kind: MessageKind, payload_bytes: usize) -> Self {
        let mut encoded = [0; HEADER_BYTES_MAX];
        let header = Header::message(kind.opcode(), payload_bytes as u64);
        let header_bytes = header.encode(&mut encoded);
        let mut frame = Vec::with_capacity(header_bytes + payload_bytes);
        frame.extend_from_slice(&encoded[..header_bytes]);
        Self { frame, header_bytes: header_bytes as u8, kind }
    }

    /// A message whose payload lies behind `room` bytes, which are enough for any header.
    pub fn in_place(kind: MessageKind, mut bytes: Vec<u8>, room: usize) -> Self {
        let header = Header::message(kind.opcode(), (bytes.len() - room) as u64);
        let mut encoded = [0; HEADER_BYTES_MAX];
        let header_bytes = header.encode(&mut encoded);
        bytes.drain(..room - header_bytes);
        bytes[..header_bytes].copy_from_slice(&encoded[..header_bytes]);
        Self { frame: bytes, header_bytes: header_bytes as u8, kind }
    }

    /// The server's frame, for one connection alone.
    pub fn into_frame(self) -> Vec<u8> {
        self.frame
    }

    /// The same to be shared.
    pub fn into_shared(self) -> SharedMessage {
        let Self { frame, header_bytes, kind } = self;
        DataMessage { frame: Arc::new(frame), header_bytes, kind }
    }
}

impl<F: Borrow<Vec<u8>>> DataMessage<F> {
    /// Text or binary.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// What it says.
    pub fn payload(&self) -> &[u8] {
        &self.frame.borrow()[usize::from(self.header_bytes)..]
    }

    /// The whole of it as an uncompressed frame of a server.
    pub fn frame(&self) -> &F {
        &self.frame
    }

    /// Bytes of the frame.
    pub fn frame_bytes(&self) -> usize {
        self.frame.borrow().len()
    }
}

const _: () = assert!(size_of::<SharedMessage>() == 16);

/// Takes room for all of a large message at once: address space, of which only what is used costs
/// memory, where growing would copy megabytes within one tick. Where that much is not to be had,
/// the message grows as it comes.
pub fn reserve(bytes: &mut Vec<u8>, most: usize) {
    if most <= RESERVED_BYTES_MAX && bytes.capacity() < most {
        let _ = bytes.try_reserve_exact(most - bytes.len());
    }
}

/// Messages grow by doubling until they are larger: a peer has to send this much before it takes
/// address space that it does not use.
pub const GROWING_BYTES_MAX: usize = 256 << 10;
/// No more address space than this is reserved for one message.
const RESERVED_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header::Role;

    #[test]
    fn the_frame_is_that_of_a_server_and_holds_the_payload() {
        for bytes in [0, 1, 125, 126, 65535, 65536] {
            let payload: Vec<u8> = (0..bytes).map(|index: u32| (index / 3) as u8).collect();
            for kind in [MessageKind::Text, MessageKind::Binary] {
                let made = DataMessage::new(kind, &payload);
                let room = HEADER_BYTES_MAX - 4;
                let key = MaskKey([1, 2, 3, 4]);
                let mut masked = payload.clone();
                mask::apply(&mut masked, key);
                assert_eq!(made, DataMessage::unmasked(kind, &masked, key));
                let bytes = [vec![0xff; room], payload.clone()].concat();
                assert_eq!(made, DataMessage::in_place(kind, bytes, room));
                let shared = made.clone().into_shared();
                assert_eq!((shared.kind(), shared.payload()), (kind, &payload[..]));
                let frame = made.into_frame();
                let (header, start) = Header::decode(&frame, Role::Client, 0).unwrap().unwrap();
                assert_eq!(header, Header::message(kind.opcode(), payload.len() as u64));
                assert_eq!((&frame[start..], shared.frame_bytes()), (&payload[..], frame.len()));
                assert_eq!(MessageKind::of(header.opcode), kind);
            }
        }
    }
}
