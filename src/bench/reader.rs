//! Bytes from a server to messages and control frames.
//!
//! A frame that is whole in what was received is read where it lies. Only what straddles receives,
//! or is a fragment, is copied, and then a connection owns memory until its message is complete.
//! Text fails at its first byte that is not UTF-8 (RFC 6455 section 8.1).

use super::failure::Fault;
use crate::wire::error::Violation;
use crate::wire::header::{HEADER_BYTES_MAX, Header, OpCode, Role};
use crate::wire::utf8::{self, Utf8Stream};

/// What a server sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A whole data message.
    Message(OpCode, &'a [u8]),
    /// The same, to be inflated and, if it is text, checked then.
    Compressed(OpCode, &'a [u8]),
    /// To be answered with the same payload.
    Ping(&'a [u8]),
    /// An answer to a ping, or unasked.
    Pong,
    /// The payload of a close frame.
    Close(&'a [u8]),
}

/// What is there of a frame and of a fragmented message, or of a response's head.
#[derive(Debug, Default)]
pub struct Partial {
    /// Bytes of a frame that is not whole.
    pub bytes: Vec<u8>,
    message: Vec<u8>,
    opcode: Option<OpCode>,
    /// Whether the open message is compressed.
    compressed: bool,
    /// Of the text message that is open or in `bytes`.
    utf8: Utf8Stream,
}

impl Partial {
    /// The beginning of something.
    pub fn starting_with(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.opcode.is_none()
    }

    /// Checks the next part of the payload of a frame, if it is text.
    fn check_text(&mut self, header: &Header, part: &[u8]) -> Result<(), Fault> {
        let is_text = match header.opcode {
            OpCode::Text => self.opcode.is_none() && header.rsv == 0,
            OpCode::Continuation => self.opcode == Some(OpCode::Text) && !self.compressed,
            _ => false,
        };
        if is_text {
            self.utf8.push(part).map_err(Violation::from)?;
        }
        Ok(())
    }

    /// Checks that a message does not end within a character.
    fn end_text(&mut self) -> Result<(), Fault> {
        Ok(std::mem::take(&mut self.utf8).finish().map_err(Violation::from)?)
    }

    /// Takes whole frames, whose text has been checked, and puts fragments together.
    fn frame(
        &mut self,
        header: &Header,
        payload: &[u8],
        take: &mut impl FnMut(Incoming<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        match header.opcode {
            OpCode::Ping => return take(Incoming::Ping(payload)),
            OpCode::Pong => return take(Incoming::Pong),
            OpCode::Close => return take(Incoming::Close(payload)),
            OpCode::Continuation if self.opcode.is_none() => {
                return Err(Violation::ContinuationWithoutStart.into());
            }
            OpCode::Continuation => {}
            OpCode::Text | OpCode::Binary if self.opcode.is_some() => {
                return Err(Violation::DataInsideFragmented.into());
            }
            opcode if header.fin => {
                self.end_text()?;
                return take(message(opcode, header.rsv != 0, payload));
            }
            opcode => (self.opcode, self.compressed) = (Some(opcode), header.rsv != 0),
        }
        if self.message.len().saturating_add(payload.len()) > MESSAGE_BYTES_MOST {
            return Err(Fault::TooBig { limit: MESSAGE_BYTES_MOST });
        }
        self.message.extend_from_slice(payload);
        match self.opcode {
            Some(opcode) if header.fin => {
                self.opcode = None;
                self.end_text()?;
                let bytes = std::mem::take(&mut self.message);
                take(message(opcode, self.compressed, &bytes))
            }
            _ => Ok(()),
        }
    }

    /// Completes the frame in `bytes` from `input` and returns what is left of it.
    fn complete<'a>(
        &mut self,
        mut input: &'a [u8],
        extension_bits: u8,
        take: &mut impl FnMut(Incoming<'_>) -> Result<(), Fault>,
    ) -> Result<&'a [u8], Fault> {
        let (header, header_bytes) = loop {
            if let Some(decoded) = Header::decode(&self.bytes, Role::Client, extension_bits)? {
                break decoded;
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(input) };
            self.bytes.push(byte);
            input = rest;
        };
        let whole = header_bytes + payload_bytes(&header)?;
        let missing = whole.saturating_sub(self.bytes.len());
        let (now, rest) = input.split_at(missing.min(input.len()));
        self.check_text(&header, now)?;
        self.bytes.extend_from_slice(now);
        if self.bytes.len() == whole {
            let mut frame = std::mem::take(&mut self.bytes);
            self.frame(&header, &frame[header_bytes..], take)?;
            if frame.capacity() <= KEPT_BYTES_MOST {
                frame.clear();
                self.bytes = frame;
            }
        }
        Ok(rest)
    }
}

fn message(opcode: OpCode, compressed: bool, payload: &[u8]) -> Incoming<'_> {
    match compressed {
        true => Incoming::Compressed(opcode, payload),
        false => Incoming::Message(opcode, payload),
    }
}

/// Reads all of `input`; what is not whole stays in `partial`. `extension_bits` are the RSV bits
/// that messages may begin with.
///
/// # Errors
/// What the server did wrong, or what `take` says is wrong.
pub fn read(
    mut input: &[u8],
    extension_bits: u8,
    partial: &mut Option<Box<Partial>>,
    mut take: impl FnMut(Incoming<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    while !input.is_empty() {
        if let Some(open) = partial {
            if open.bytes.is_empty()
                && let Some((header, start, end)) = whole_frame(input, extension_bits)?
            {
                open.check_text(&header, &input[start..end])?;
                open.frame(&header, &input[start..end], &mut take)?;
                input = &input[end..];
            } else {
                input = open.complete(input, extension_bits, &mut take)?;
            }
            if open.is_empty() {
                *partial = None;
            }
            continue;
        }
        match whole_frame(input, extension_bits)? {
            Some((
                Header { fin: true, rsv, opcode: opcode @ (OpCode::Text | OpCode::Binary), .. },
                start,
                end,
            )) => {
                let payload = &input[start..end];
                if opcode == OpCode::Text && rsv == 0 {
                    utf8::validate(payload).map_err(Violation::from)?;
                }
                take(message(opcode, rsv != 0, payload))?;
                input = &input[end..];
            }
            Some((header, start, end)) => {
                let mut fragments = Partial::default();
                fragments.check_text(&header, &input[start..end])?;
                fragments.frame(&header, &input[start..end], &mut take)?;
                input = &input[end..];
                if !fragments.is_empty() {
                    *partial = Some(Box::new(fragments));
                }
            }
            None => *partial = Some(Box::default()),
        }
    }
    Ok(())
}

/// The header at the start of `input` and where its payload is, when all of it is there.
fn whole_frame(input: &[u8], extension_bits: u8) -> Result<Option<(Header, usize, usize)>, Fault> {
    let decoded = Header::decode(input, Role::Client, extension_bits)?;
    let Some((header, start)) = decoded else { return Ok(None) };
    let end = start + payload_bytes(&header)?;
    Ok((end <= input.len()).then_some((header, start, end)))
}

fn payload_bytes(header: &Header) -> Result<usize, Fault> {
    let bytes = usize::try_from(header.payload_bytes).unwrap_or(usize::MAX);
    if bytes > MESSAGE_BYTES_MOST {
        return Err(Fault::TooBig { limit: MESSAGE_BYTES_MOST });
    }
    Ok(bytes)
}

/// Twice the largest message of ours: whatever is larger is not one.
pub const MESSAGE_BYTES_MOST: usize = 128 << 20;
/// Buffers larger than this are not kept for the next frame.
const KEPT_BYTES_MOST: usize = 2 << 20;
const _: () = assert!(HEADER_BYTES_MAX < KEPT_BYTES_MOST);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::header::RSV1;

    /// Everything that comes out, as text, when the input comes in pieces of `piece` bytes.
    fn read_in_pieces(input: &[u8], piece: usize) -> Result<Vec<String>, Fault> {
        let (mut partial, mut seen) = (None, Vec::new());
        for piece in input.chunks(piece) {
            read(piece, RSV1, &mut partial, |incoming| {
                seen.push(match incoming {
                    Incoming::Message(opcode, payload) => format!("{opcode:?} {}", payload.len()),
                    Incoming::Compressed(opcode, payload) => {
                        format!("compressed {opcode:?} {}", payload.len())
                    }
                    other => format!("{other:?}"),
                });
                Ok(())
            })?;
        }
        assert!(partial.is_none(), "{partial:?}");
        Ok(seen)
    }

    fn frame(fin: bool, opcode: OpCode, payload_bytes: usize) -> Vec<u8> {
        let header = Header { fin, ..Header::message(opcode, payload_bytes as u64) };
        let mut encoded = [0; HEADER_BYTES_MAX];
        let length = header.encode(&mut encoded);
        [&encoded[..length], &vec![b'x'; payload_bytes]].concat()
    }

    fn compressed(mut frame: Vec<u8>) -> Vec<u8> {
        frame[0] |= RSV1;
        frame
    }

    #[test]
    fn the_pieces_make_no_difference() {
        let input = [
            frame(true, OpCode::Text, 5),
            frame(false, OpCode::Binary, 300),
            frame(true, OpCode::Ping, 1),
            frame(false, OpCode::Continuation, 0),
            frame(true, OpCode::Continuation, 7),
            frame(true, OpCode::Binary, 70_000),
            frame(true, OpCode::Pong, 2),
            compressed(frame(true, OpCode::Text, 9)),
            compressed(frame(false, OpCode::Binary, 8)),
            frame(true, OpCode::Continuation, 1),
            frame(true, OpCode::Close, 2),
        ]
        .concat();
        let whole = read_in_pieces(&input, input.len()).expect("valid");
        assert_eq!(
            whole,
            [
                "Text 5",
                "Ping([120])",
                "Binary 307",
                "Binary 70000",
                "Pong",
                "compressed Text 9",
                "compressed Binary 9",
                "Close([120, 120])"
            ]
        );
        for piece in [1, 2, 3, 7, 64, 301, 4096] {
            assert_eq!(read_in_pieces(&input, piece).expect("valid"), whole, "{piece}");
        }
    }

    #[test]
    fn text_fails_at_its_first_bad_byte() {
        // Of a frame whose end never comes.
        let mut begun = vec![0x81, 126, 0, 200];
        begun.extend_from_slice("\u{20ac}\u{20ac}".as_bytes());
        for piece in [1, 3, 10] {
            let mut partial = None;
            let mut take = |piece: &[u8]| read(piece, 0, &mut partial, |_| Ok(()));
            for piece in begun.chunks(piece) {
                assert_eq!(take(piece), Ok(()));
            }
            assert_eq!(take(b"\xff"), Err(Violation::InvalidUtf8.into()));
        }
    }

    #[test]
    fn faults_are_told_however_they_arrive() {
        let masked = vec![0x82, 0x81, 0, 0, 0, 0, 0];
        let huge = vec![0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        let text = |fin, opcode: OpCode, payload: &[u8]| {
            let mut bytes = frame(fin, opcode, payload.len());
            let start = bytes.len() - payload.len();
            bytes[start..].copy_from_slice(payload);
            bytes
        };
        let latin = text(true, OpCode::Text, b"caf\xe9 au lait");
        let cut = [text(false, OpCode::Text, b"\xe2\x82"), text(true, OpCode::Continuation, b"")];
        let overlong =
            [text(false, OpCode::Text, b"a\xe2"), text(true, OpCode::Continuation, b"(")];
        let loose = frame(true, OpCode::Continuation, 1);
        let inside = [frame(false, OpCode::Text, 1), frame(true, OpCode::Text, 1)].concat();
        for (input, fault) in [
            (masked, Fault::Violation(Violation::MaskedFrame)),
            (latin, Fault::Violation(Violation::InvalidUtf8)),
            (cut.concat(), Fault::Violation(Violation::InvalidUtf8)),
            (overlong.concat(), Fault::Violation(Violation::InvalidUtf8)),
            (huge, Fault::TooBig { limit: MESSAGE_BYTES_MOST }),
            (loose, Fault::Violation(Violation::ContinuationWithoutStart)),
            (inside, Fault::Violation(Violation::DataInsideFragmented)),
        ] {
            for piece in [1, input.len()] {
                assert_eq!(read_in_pieces(&input, piece), Err(fault.clone()));
            }
        }
    }
}
