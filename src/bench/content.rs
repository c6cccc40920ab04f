//! What messages say: who sent them, which one it is, when it was due, and a fixed pattern.
//!
//! A message starts with a stamp of 120 bits, which is 15 bytes of binary or 20 characters of text,
//! and goes on with a pattern that both ends know, so a wrong message is seen by comparing. Shorter
//! messages hold as much of the stamp as fits, the low bits of the sequence first.
//!
//! Frames are masked with one fixed key per run. RFC 6455 section 5.3 wants keys that a script in a
//! browser cannot foresee; no proxy is to be protected from a load generator, and a fixed key lets
//! the pattern be masked once.

use std::rc::Rc;
use std::sync::Arc;

use super::arguments::ContentName;
use super::failure::Fault;
use super::plan::Plan;
use crate::wire::deflate::{Deflater, WINDOW_BITS_MOST};
use crate::wire::frames::Frames;
use crate::wire::header::{HEADER_BYTES_MAX, Header, OpCode, RSV1};
use crate::wire::mask::{self, MaskKey};

/// Who sent a message, which of its sender's it is, and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The sending connection or, where messages are published, their stream; 24 bits.
    pub id: u32,
    /// Its place among the messages of that, 40 bits.
    pub sequence: u64,
    /// When it was due, in nanoseconds of the run, 54 bits (208 days).
    pub time_ns: u64,
}

/// Makes and checks messages.
pub struct Content {
    opcode: OpCode,
    cycle: Vec<u32>,
    /// As long as the largest message.
    pattern: Vec<u8>,
    /// The pattern masked as it stands after a whole stamp.
    masked: Vec<u8>,
    /// The same for every size whose pattern is sent by reference.
    tails: Vec<(u32, Rc<Frames>)>,
    /// Whether any content of the right length will do.
    unchecked: bool,
    /// Compresses what is sent.
    deflater: Option<Deflater>,
}

impl Content {
    /// The messages of a plan.
    pub fn new(plan: &Plan) -> Self {
        let Plan { sizes, text, content, unchecked, .. } = plan;
        let opcode = if *text { OpCode::Text } else { OpCode::Binary };
        let pattern = match content {
            ContentName::Random => pattern(sizes.most(), *text),
            ContentName::Json => readings(sizes.most()),
        };
        let stamp_bytes = stamp_bytes(opcode);
        let mut masked = pattern.clone();
        if let Some(tail) = masked.get_mut(stamp_bytes..) {
            mask::apply(tail, KEY.rotated(stamp_bytes));
        }
        let tail = |&(bytes, _): &(usize, u32)| {
            let tail = masked.get(stamp_bytes..bytes).unwrap_or_default();
            (bytes as u32, Rc::new(Frames::one(Arc::new(tail.to_vec()))))
        };
        let tails = sizes.parts.iter().filter(|part| part.0 >= BY_REFERENCE_BYTES).map(tail);
        Self {
            opcode,
            cycle: sizes.cycle(),
            tails: tails.collect(),
            pattern,
            masked,
            unchecked: *unchecked,
            deflater: plan
                .way
                .offer
                .compression
                .then(|| Deflater::new(DEFLATE_LEVEL, WINDOW_BITS_MOST)),
        }
    }

    /// Payload bytes of a message.
    pub fn bytes(&self, id: u32, sequence: u64) -> usize {
        // Connections start at different places of the cycle, so that they do not march in step.
        let place = (sequence + u64::from(id)) % self.cycle.len().max(1) as u64;
        self.cycle.get(place as usize).copied().unwrap_or(0) as usize
    }

    /// Appends a masked frame to `out`. What it returns is the rest of the frame, to be sent after
    /// `out` by reference.
    pub fn frame(&mut self, out: &mut Vec<u8>, stamp: Stamp) -> Option<Rc<Frames>> {
        if self.deflater.is_some() {
            self.compressed_frame(out, stamp);
            return None;
        }
        let bytes = self.bytes(stamp.id, stamp.sequence);
        let mut header = [0; HEADER_BYTES_MAX];
        let mask = Some(KEY);
        let frame = Header { mask, ..Header::message(self.opcode, bytes as u64) };
        let header_bytes = frame.encode(&mut header);
        out.extend_from_slice(&header[..header_bytes]);
        let (encoded, stamp_bytes) = encode(stamp, self.opcode);
        let stamp_bytes = stamp_bytes.min(bytes);
        mask::append(out, &encoded[..stamp_bytes], KEY);
        if let Some((_, tail)) = self.tails.iter().find(|tail| tail.0 as usize == bytes) {
            return Some(tail.clone());
        }
        out.extend_from_slice(&self.masked[stamp_bytes..bytes]);
        None
    }

    /// Appends a message without its frame.
    pub fn payload(&self, out: &mut Vec<u8>, stamp: Stamp) {
        let bytes = self.bytes(stamp.id, stamp.sequence);
        let (encoded, stamp_bytes) = encode(stamp, self.opcode);
        let stamp_bytes = stamp_bytes.min(bytes);
        out.extend_from_slice(&encoded[..stamp_bytes]);
        out.extend_from_slice(&self.pattern[stamp_bytes..bytes]);
    }

    fn compressed_frame(&mut self, out: &mut Vec<u8>, stamp: Stamp) {
        let bytes = self.bytes(stamp.id, stamp.sequence);
        let (mut message, mut packed) = (Vec::with_capacity(bytes), Vec::new());
        self.payload(&mut message, stamp);
        let Some(deflater) = &mut self.deflater else { return };
        deflater.message(&message, &mut packed);
        deflater.reset();
        let mut header = [0; HEADER_BYTES_MAX];
        let message = Header::message(self.opcode, packed.len() as u64);
        let header_bytes = Header { rsv: RSV1, mask: Some(KEY), ..message }.encode(&mut header);
        out.extend_from_slice(&header[..header_bytes]);
        mask::append(out, &packed, KEY);
    }

    /// Checks that a message is exactly the one with this stamp.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, opcode: OpCode, payload: &[u8], stamp: Stamp) -> Result<(), Fault> {
        let bytes = self.bytes(stamp.id, stamp.sequence);
        if self.unchecked && payload.len() == bytes {
            return Ok(());
        }
        let (encoded, stamp_bytes) = encode(stamp, self.opcode);
        let stamp_bytes = stamp_bytes.min(bytes);
        if payload.len() == bytes
            && opcode == self.opcode
            && payload[..stamp_bytes] == encoded[..stamp_bytes]
            && payload[stamp_bytes..] == self.pattern[stamp_bytes..bytes]
        {
            return Ok(());
        }
        Err(self.difference(opcode, payload, stamp))
    }

    /// Reads the stamp of a message and checks all the rest of it.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn read(&self, opcode: OpCode, payload: &[u8]) -> Result<Stamp, Fault> {
        let stamp = decode(payload, self.opcode).ok_or(Fault::NoStamp { bytes: payload.len() })?;
        self.check(opcode, payload, stamp)?;
        Ok(stamp)
    }

    /// Out of line: it is not needed until something is wrong.
    #[cold]
    fn difference(&self, opcode: OpCode, payload: &[u8], stamp: Stamp) -> Fault {
        let bytes = self.bytes(stamp.id, stamp.sequence);
        if opcode != self.opcode {
            return Fault::WrongType { expected: self.opcode, found: opcode };
        }
        if payload.len() != bytes {
            let expected = bytes;
            return Fault::WrongLength { sequence: stamp.sequence, expected, found: payload.len() };
        }
        let (encoded, stamp_bytes) = encode(stamp, self.opcode);
        let expected =
            encoded[..stamp_bytes.min(bytes)].iter().chain(self.pattern.iter().skip(stamp_bytes));
        let at = payload.iter().zip(expected).position(|(found, expected)| found != expected);
        Fault::WrongContent {
            sequence: stamp.sequence,
            at: at.unwrap_or(bytes),
            found: decode(payload, self.opcode).map(|found| (found.id, found.sequence)),
        }
    }
}

/// Bytes of a whole stamp in messages of this type.
pub fn stamp_bytes(opcode: OpCode) -> usize {
    if opcode == OpCode::Text { TEXT_STAMP_BYTES } else { BINARY_STAMP_BYTES }
}

/// Appends a masked frame that is all of its message.
pub fn append_frame(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    let mut header = [0; HEADER_BYTES_MAX];
    let frame = Header { mask: Some(KEY), ..Header::message(opcode, payload.len() as u64) };
    let header_bytes = frame.encode(&mut header);
    out.extend_from_slice(&header[..header_bytes]);
    mask::append(out, payload, KEY);
}

fn encode(stamp: Stamp, opcode: OpCode) -> ([u8; TEXT_STAMP_BYTES], usize) {
    let mut encoded = [0; TEXT_STAMP_BYTES];
    if opcode == OpCode::Text {
        let mut put = |range: std::ops::Range<usize>, mut value: u64| {
            for byte in &mut encoded[range] {
                *byte = ALPHABET[(value & 63) as usize];
                value >>= 6;
            }
        };
        put(0..7, stamp.sequence);
        put(7..11, stamp.id.into());
        put(11..20, stamp.time_ns);
        (encoded, TEXT_STAMP_BYTES)
    } else {
        encoded[..5].copy_from_slice(&stamp.sequence.to_le_bytes()[..5]);
        encoded[5..8].copy_from_slice(&stamp.id.to_le_bytes()[..3]);
        encoded[8..15].copy_from_slice(&stamp.time_ns.to_le_bytes()[..7]);
        (encoded, BINARY_STAMP_BYTES)
    }
}

fn decode(payload: &[u8], opcode: OpCode) -> Option<Stamp> {
    let field = |start: usize, end: usize| -> Option<u64> {
        let bytes = payload.get(start..end)?;
        if opcode != OpCode::Text {
            return Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)));
        }
        bytes.iter().rev().try_fold(0, |value, byte| {
            let digit = ALPHABET.iter().position(|known| known == byte)?;
            Some(value << 6 | digit as u64)
        })
    };
    let (sequence, id, time_ns) = match opcode {
        OpCode::Text => (field(0, 7)?, field(7, 11)?, field(11, 20)?),
        _ => (field(0, 5)?, field(5, 8)?, field(8, 15)?),
    };
    Some(Stamp { id: id as u32, sequence, time_ns })
}

/// Bytes without an obvious order: any printable ones for text, any at all for binary.
fn pattern(bytes: usize, text: bool) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let byte = (state >> 32) as u8;
        if text { ALPHABET[usize::from(byte) & 63] } else { byte }
    };
    (0..bytes).map(|_| next()).collect()
}

/// Readings of sensors as JSON, without an end.
fn readings(bytes: usize) -> Vec<u8> {
    let numbers = pattern(bytes / 2 + 16, false);
    let mut text = Vec::with_capacity(bytes + 128);
    for number in numbers.chunks_exact(6).cycle() {
        if text.len() >= bytes {
            break;
        }
        let [sensor, site, high, low, state, third] = [0, 1, 2, 3, 4, 5].map(|i| number[i]);
        let state = ["ok", "ok", "ok", "late", "failed"][usize::from(state) % 5];
        let line = format!(
            "{{\"sensor\":\"unit-{sensor:03}\",\"site\":{},\"time\":17{high:03}{low:03}{third:03},\
             \"value\":{high}.{low:03},\"state\":\"{state}\"}},",
            site % 16
        );
        text.extend_from_slice(line.as_bytes());
    }
    text.truncate(bytes);
    text
}

/// How hard sent messages are compressed: the generator should not be what is measured.
const DEFLATE_LEVEL: u8 = 1;
/// The key of every frame.
const KEY: MaskKey = MaskKey([0x52, 0x57, 0xa9, 0x3c]);
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BINARY_STAMP_BYTES: usize = 15;
const TEXT_STAMP_BYTES: usize = 20;
/// From this size on, copying the pattern costs more than a second vector in the send.
const BY_REFERENCE_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::tests::plan;
    use crate::wire::deflate::Inflater;
    use crate::wire::header::Role;

    const STAMP: Stamp = Stamp { id: 0x12_3456, sequence: 0xab_cdef_0123, time_ns: 1 << 53 | 77 };

    fn content(options: &str) -> Content {
        Content::new(&plan(&format!("ws://127.0.0.1:1/ echo {options}")).expect("options"))
    }

    fn payload(content: &mut Content, stamp: Stamp) -> (OpCode, Vec<u8>) {
        let mut frame = Vec::new();
        if let Some(tail) = content.frame(&mut frame, stamp) {
            frame.extend_from_slice(tail.bytes());
        }
        let decoded = Header::decode(&frame, Role::Server, RSV1).expect("valid");
        let (header, at) = decoded.expect("whole");
        let mut payload = frame.split_off(at);
        assert_eq!(payload.len() as u64, header.payload_bytes);
        mask::apply(&mut payload, header.mask.expect("masked"));
        if header.rsv == RSV1 {
            let packed = std::mem::take(&mut payload);
            Inflater::default().lone_message(&packed, 2 << 20, &mut payload).expect("compressed");
        }
        (header.opcode, payload)
    }

    #[test]
    fn what_is_sent_is_what_is_checked() {
        for kind in ["", "--text", "--content json", "--compression", "--compression --text"] {
            for size in ["0", "1", "14", "15", "20", "21", "126", "64KiB", "1MiB", "20:1,64KiB:2"] {
                let mut content = content(&format!("{kind} --size {size}"));
                for sequence in 0..3 {
                    let stamp = Stamp { sequence, ..STAMP };
                    let (opcode, payload) = payload(&mut content, stamp);
                    content.check(opcode, &payload, stamp).expect("the same");
                    assert!(str::from_utf8(&payload).is_ok() || opcode == OpCode::Binary);
                    if payload.len() >= stamp_bytes(opcode) {
                        assert_eq!(content.read(opcode, &payload), Ok(stamp));
                    }
                }
            }
        }
    }

    #[test]
    fn every_changed_byte_is_seen() {
        for kind in ["", "--text", "--content json"] {
            let mut content = content(&format!("{kind} --size 40"));
            let (opcode, payload) = payload(&mut content, STAMP);
            for at in 0..payload.len() {
                let mut wrong = payload.clone();
                wrong[at] ^= 1;
                let fault = content.check(opcode, &wrong, STAMP).expect_err("a byte differs");
                assert!(matches!(fault, Fault::WrongContent { at: found, .. } if found == at));
            }
            let short = content.check(opcode, &payload[1..], STAMP);
            assert!(matches!(short, Err(Fault::WrongLength { expected: 40, found: 39, .. })));
            let other = content.check(OpCode::Continuation, &payload, STAMP);
            assert!(matches!(other, Err(Fault::WrongType { .. })));
            assert_eq!(content.read(opcode, &payload[..9]), Err(Fault::NoStamp { bytes: 9 }));
        }
    }
}
