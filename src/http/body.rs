//! The body of a request, however its bytes arrive (RFC 9112 sections 6 and 7).

use super::refusal::{Refusal, Refused};
use crate::wire::message::{GROWING_BYTES_MAX, reserve};

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Absent,
    /// By `Content-Length`, which is not zero.
    Length(u64),
    /// By a last chunk of no bytes.
    Chunked,
}

/// A body of which bytes are still to come, or all are here.
#[derive(Debug)]
pub(super) struct Body {
    expected: Expected,
    /// Bytes that whoever wants the content needs in front of it, then the content.
    bytes: Vec<u8>,
    room: usize,
    content_bytes_max: usize,
    /// What there is of a line between chunks.
    line: Vec<u8>,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Content of which so many bytes are left.
    Content(u64),
    /// The line that says how long a chunk is.
    ChunkSize,
    /// A chunk of which so many bytes are left.
    Chunk(u64),
    /// The line's end behind a chunk.
    ChunkEnd,
    /// Fields behind the last chunk, so many bytes of which have been read.
    Trailers(usize),
    /// Another request.
    Nothing,
}

impl Expected {
    /// What comes after so many bytes of content or of a chunk.
    fn after(self, bytes: u64) -> Self {
        match self {
            Self::Content(left) if left == bytes => Self::Nothing,
            Self::Content(left) => Self::Content(left - bytes),
            Self::Chunk(left) if left == bytes => Self::ChunkEnd,
            Self::Chunk(left) => Self::Chunk(left - bytes),
            other => other,
        }
    }
}

impl Body {
    /// A body of which nothing has arrived; its content will lie behind `room` bytes of zeros.
    ///
    /// # Errors
    /// When it says that it has more than `content_bytes_max` bytes.
    pub(super) fn new(
        framing: Framing,
        room: usize,
        content_bytes_max: usize,
    ) -> Result<Self, Refused> {
        let (expected, content_bytes_max) = match framing {
            Framing::Absent => (Expected::Nothing, 0),
            Framing::Length(bytes) => match usize::try_from(bytes) {
                Ok(length) if length <= content_bytes_max => (Expected::Content(bytes), length),
                _ => return Err(too_large()),
            },
            Framing::Chunked => (Expected::ChunkSize, content_bytes_max),
        };
        Ok(Self { expected, bytes: vec![0; room], room, content_bytes_max, line: Vec::new() })
    }

    /// Takes what belongs to the body from the start of `input`, and returns how much that was.
    ///
    /// # Errors
    /// When it is larger than allowed, or its chunks are not as RFC 9112 section 7.1 says.
    pub(super) fn receive(&mut self, input: &[u8]) -> Result<usize, Refused> {
        let mut at = 0;
        while at < input.len() && !self.is_complete() {
            let rest = &input[at..];
            at += match self.expected {
                Expected::Content(left) | Expected::Chunk(left) => {
                    let bytes = self.append(rest, left);
                    self.expected = self.expected.after(bytes as u64);
                    bytes
                }
                _ => self.receive_line(rest)?,
            };
        }
        Ok(at)
    }

    /// Whether all of it is here.
    pub(super) fn is_complete(&self) -> bool {
        self.expected == Expected::Nothing
    }

    /// Whether it comes in chunks, of which each costs time however short it is.
    pub(super) fn is_chunked(&self) -> bool {
        !matches!(self.expected, Expected::Content(_) | Expected::Nothing)
    }

    /// What is here of the content.
    pub(super) fn content(&self) -> &[u8] {
        &self.bytes[self.room..]
    }

    /// All of it, behind so many bytes of room.
    pub(super) fn into_bytes(self) -> (Vec<u8>, usize) {
        debug_assert!(self.is_complete(), "there is more to come");
        (self.bytes, self.room)
    }

    /// Bytes of memory that it takes; room that was only reserved costs nothing.
    pub(super) fn held_bytes(&self) -> usize {
        let is_reserved = self.bytes.len() > GROWING_BYTES_MAX;
        let bytes = if is_reserved { self.bytes.len() } else { self.bytes.capacity() };
        bytes + self.line.capacity()
    }

    fn append(&mut self, input: &[u8], left: u64) -> usize {
        if self.bytes.len() > GROWING_BYTES_MAX {
            reserve(&mut self.bytes, self.room + self.content_bytes_max);
        }
        let bytes = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        self.bytes.extend_from_slice(&input[..bytes]);
        bytes
    }

    /// Takes a line between chunks, or what there is of it.
    fn receive_line(&mut self, input: &[u8]) -> Result<usize, Refused> {
        let end = input.iter().position(|byte| *byte == b'\n').map(|place| place + 1);
        let bytes = end.unwrap_or(input.len());
        if self.line.len() + bytes > LINE_BYTES_MAX {
            return Err(malformed("A line between chunks is too long."));
        }
        if end.is_none() || !self.line.is_empty() {
            self.line.extend_from_slice(&input[..bytes]);
        }
        if end.is_some() {
            let mut line = std::mem::take(&mut self.line);
            self.end_line(if line.is_empty() { &input[..bytes] } else { &line })?;
            line.clear();
            self.line = line;
        }
        Ok(bytes)
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), Refused> {
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return Err(malformed("A line between chunks does not end with CR LF."));
        };
        // What another reader takes for the end of a line hides a request (RFC 9112 section 2.2).
        if text.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(malformed("A line between chunks has a control character."));
        }
        self.expected = match self.expected {
            Expected::ChunkEnd if line == b"\r\n" => Expected::ChunkSize,
            Expected::ChunkSize => match chunk_bytes(line)? {
                0 => Expected::Trailers(0),
                bytes => {
                    let room = self.content_bytes_max - self.content().len();
                    if bytes > room as u64 {
                        return Err(too_large());
                    }
                    Expected::Chunk(bytes)
                }
            },
            Expected::Trailers(_) if line == b"\r\n" => Expected::Nothing,
            // Their meaning would have to be known before the body (RFC 9110 section 6.5.1).
            Expected::Trailers(before) if before + line.len() <= TRAILER_BYTES_MAX => {
                Expected::Trailers(before + line.len())
            }
            Expected::Trailers(_) => {
                let detail = "The fields behind the last chunk are too large.";
                return Err(Refused::new(Refusal::HeadTooLarge, detail));
            }
            _ => return Err(malformed("A chunk is longer than it says.")),
        };
        Ok(())
    }
}

/// The length of a chunk; what extensions say is ignored (RFC 9112 section 7.1.1). Read strictly:
/// a length that another reader understands otherwise hides a request.
fn chunk_bytes(line: &[u8]) -> Result<u64, Refused> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let blanks = rest.iter().take_while(|byte| is_blank(byte)).count();
    let is_followed_well = rest == b"\r\n" || rest[blanks..].starts_with(b";");
    let bytes = str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    bytes
        .filter(|_| is_followed_well)
        .ok_or(malformed("The length of a chunk is not a hexadecimal number."))
}

fn malformed(detail: &'static str) -> Refused {
    Refused::new(Refusal::BadRequest, detail)
}

fn too_large() -> Refused {
    let detail = "The body is larger than --max-message allows.";
    Refused::new(Refusal::BodyTooLarge, detail)
}

/// Bytes of a line between chunks, extensions included.
const LINE_BYTES_MAX: usize = 1024;
/// Bytes of all fields behind the last chunk.
const TRAILER_BYTES_MAX: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Receives all input, cut at `cuts`; the content, how much of the input was used, or why it
    /// was refused.
    fn receive(
        framing: Framing,
        input: &[u8],
        cuts: &[usize],
    ) -> Result<(Option<Vec<u8>>, usize), Refusal> {
        let mut body = Body::new(framing, 3, 1000).map_err(|refused| refused.refusal)?;
        let mut used = 0;
        for end in cuts.iter().copied().chain([input.len()]) {
            if used < end {
                used += body.receive(&input[used..end]).map_err(|refused| refused.refusal)?;
            }
        }
        let content = body.is_complete().then(|| {
            let (bytes, room) = body.into_bytes();
            bytes[room..].to_vec()
        });
        Ok((content, used))
    }

    fn chunked(chunks: &[&[u8]]) -> Vec<u8> {
        let mut encoded = Vec::new();
        for chunk in chunks {
            encoded.extend(format!("{:x};name=\"value\"\r\n", chunk.len()).into_bytes());
            encoded.extend([chunk, &b"\r\n"[..]].concat());
        }
        encoded.extend(b"0\r\nX-Trailer: ignored\r\n\r\n");
        encoded
    }

    #[test]
    fn what_follows_a_body_is_left() {
        for (framing, input, content) in [
            (Framing::Absent, &b"GET"[..], &b""[..]),
            (Framing::Length(3), b"abcGET", b"abc"),
            (Framing::Chunked, b"1\r\na\r\n0\r\n\r\nGET", b"a"),
        ] {
            let (received, used) = receive(framing, input, &[]).unwrap();
            assert_eq!(received.as_deref(), Some(content));
            assert_eq!(&input[used..], b"GET");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let long_line = format!("1;{}\r\n", "x".repeat(2000));
        let long_trailer = format!("0\r\n{}", "a: b\r\n".repeat(2000));
        for (input, refusal) in [
            ("x\r\n", Refusal::BadRequest),
            ("\r\n", Refusal::BadRequest),
            ("1\na", Refusal::BadRequest),
            ("-1\r\n", Refusal::BadRequest),
            ("0x1\r\na\r\n", Refusal::BadRequest),
            (";x\r\n", Refusal::BadRequest),
            ("1\r;x\r\na\r\n", Refusal::BadRequest),
            ("1;\x0b\r\na\r\n", Refusal::BadRequest),
            ("0\r\na: \rb\r\n\r\n", Refusal::BadRequest),
            ("1 \r\na\r\n", Refusal::BadRequest),
            ("ffffffffffffffffff\r\n", Refusal::BadRequest),
            ("2\r\nabc\r\n", Refusal::BadRequest),
            ("2\r\nab\n0\r\n\r\n", Refusal::BadRequest),
            (&long_line, Refusal::BadRequest),
            (&long_trailer, Refusal::HeadTooLarge),
            ("3e9\r\n", Refusal::BodyTooLarge),
            ("ffffffffffffffff\r\n", Refusal::BodyTooLarge),
        ] {
            let refused = receive(Framing::Chunked, input.as_bytes(), &[]);
            assert_eq!(refused, Err(refusal), "{input:.40}");
        }
        let by_and_by = [&b"3e0\r\n"[..], &[b'x'; 0x3e0], b"\r\n9\r\n"].concat();
        assert_eq!(receive(Framing::Chunked, &by_and_by, &[]), Err(Refusal::BodyTooLarge));
        assert_eq!(receive(Framing::Length(1001), b"", &[]), Err(Refusal::BodyTooLarge));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            mut cuts in prop::collection::vec(0_usize..400, 0..8),
        ) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let content = chunks.concat();
            cuts.sort_unstable();
            let bodies = [
                (Framing::Chunked, chunked(&chunks)),
                (Framing::Length(content.len() as u64), content.clone()),
            ];
            for (framing, input) in bodies {
                if input.is_empty() {
                    continue;
                }
                let cuts: Vec<_> = cuts.iter().map(|cut| *cut.min(&input.len())).collect();
                let expected = Ok((Some(content.clone()), input.len()));
                prop_assert_eq!(receive(framing, &input, &cuts), expected);
            }
        }

        #[test]
        fn no_input_makes_a_difference_in_pieces(
            input in prop::collection::vec(
                prop::sample::select(b"0123af;\r\n\r\n\r\n xX".to_vec()), 0..80,
            ),
        ) {
            let bytewise: Vec<_> = (0..input.len()).collect();
            let whole = receive(Framing::Chunked, &input, &[]);
            prop_assert_eq!(receive(Framing::Chunked, &input, &bytewise), whole);
        }
    }
}
