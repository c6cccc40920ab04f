//! UTF-8 checked while it arrives, so that an invalid text message fails at its first bad byte.

use thiserror::Error;

/// Text that is not UTF-8, or that ends inside a character.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("invalid UTF-8")]
pub struct InvalidUtf8;

/// The state between two chunks of one text message: the bytes of a character not yet complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8Stream {
    incomplete: [u8; CHARACTER_BYTES_MAX],
    incomplete_bytes: u8,
}

impl Utf8Stream {
    /// Checks the next chunk of the message; a character may go on in the chunk after it.
    ///
    /// # Errors
    /// The chunk holds a byte that no continuation of the text so far can make valid
    /// (RFC 6455 section 8.1). The stream must not be used after that.
    #[inline]
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), InvalidUtf8> {
        if self.incomplete_bytes == 0 && is_short_ascii(chunk) {
            return Ok(());
        }
        self.push_any(chunk)
    }

    /// Ends the message.
    ///
    /// # Errors
    /// The last character is incomplete.
    #[inline]
    pub fn finish(self) -> Result<(), InvalidUtf8> {
        match self.incomplete_bytes {
            0 => Ok(()),
            _ => Err(InvalidUtf8),
        }
    }

    fn push_any(&mut self, chunk: &[u8]) -> Result<(), InvalidUtf8> {
        let rest = self.complete_character(chunk)?;
        match simdutf8::compat::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(error) => {
                // An incomplete tail is at most three bytes, of a chunk that follows a boundary.
                for &byte in rest.iter().skip(error.valid_up_to()) {
                    self.keep(byte)?;
                }
                Ok(())
            }
        }
    }

    /// Feeds the incomplete character from the chunk; what is left starts on a boundary.
    fn complete_character<'a>(&mut self, mut chunk: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        while self.incomplete_bytes != 0 {
            let Some((&byte, rest)) = chunk.split_first() else {
                break;
            };
            chunk = rest;
            self.keep(byte)?;
            let kept = self.incomplete.get(..usize::from(self.incomplete_bytes)).unwrap_or(&[]);
            match std::str::from_utf8(kept) {
                Ok(_) => self.incomplete_bytes = 0,
                Err(error) if error.error_len().is_some() => return Err(InvalidUtf8),
                Err(_) => {}
            }
        }
        Ok(chunk)
    }

    fn keep(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let slot = self.incomplete.get_mut(usize::from(self.incomplete_bytes));
        *slot.ok_or(InvalidUtf8)? = byte;
        self.incomplete_bytes += 1;
        Ok(())
    }
}

/// Checks a whole message.
///
/// # Errors
/// The message holds an invalid byte or ends inside a character.
#[inline]
pub fn validate(message: &[u8]) -> Result<(), InvalidUtf8> {
    if is_short_ascii(message) {
        return Ok(());
    }
    simdutf8::basic::from_utf8(message).map(|_| ()).map_err(|_| InvalidUtf8)
}

/// Whether the word-wise ASCII test settles a chunk, as it does for most small messages.
#[inline]
fn is_short_ascii(chunk: &[u8]) -> bool {
    chunk.len() < SHORT_BYTES && chunk.is_ascii()
}

/// Bytes of the longest character (RFC 3629 section 3).
const CHARACTER_BYTES_MAX: usize = 4;

/// From here on `simdutf8` uses vectors, with an ASCII path of its own.
const SHORT_BYTES: usize = 64;

const _: () = assert!(size_of::<Utf8Stream>() <= 8);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{InvalidUtf8, Utf8Stream, validate};

    fn stream(chunks: &[&[u8]]) -> Result<(), InvalidUtf8> {
        let mut stream = Utf8Stream::default();
        for chunk in chunks {
            stream.push(chunk)?;
        }
        stream.finish()
    }

    /// The number of bytes after which no continuation can make the text valid, as std sees it.
    fn bytes_until_invalid(text: &[u8]) -> Option<usize> {
        let is_invalid =
            |prefix| std::str::from_utf8(prefix).is_err_and(|error| error.error_len().is_some());
        (1..=text.len()).find(|&bytes| is_invalid(&text[..bytes]))
    }

    /// Valid text, noise and damaged characters in turns: pure noise fails at once.
    fn almost_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => "\\PC{0,24}".prop_map(String::into_bytes),
            4 => "[ -~]{0,90}".prop_map(String::into_bytes),
            2 => any::<char>().prop_map(|character| character.to_string().into_bytes()),
            1 => prop::collection::vec(0x80_u8.., 0..4),
            1 => any::<char>().prop_map(|character| {
                let mut bytes = character.to_string().into_bytes();
                bytes.pop();
                bytes
            }),
        ];
        prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn every_split_point_gives_the_answer_of_std(text in almost_text()) {
            let expected = std::str::from_utf8(&text).map(|_| ()).map_err(|_| InvalidUtf8);
            prop_assert_eq!(validate(&text), expected);
            for split in 0..=text.len() {
                let (head, tail) = text.split_at(split);
                prop_assert_eq!(stream(&[head, tail]), expected, "split at {}", split);
                prop_assert_eq!(stream(&[head, &[], tail]), expected, "split at {}", split);
            }
        }

        #[test]
        fn every_chunk_size_gives_the_answer_of_std(text in almost_text(), size in 1_usize..9) {
            let expected = std::str::from_utf8(&text).map(|_| ()).map_err(|_| InvalidUtf8);
            let chunks: Vec<_> = text.chunks(size).collect();
            prop_assert_eq!(stream(&chunks), expected);
        }

        #[test]
        fn the_first_bad_byte_fails_wherever_the_text_is_split(text in almost_text()) {
            let until_invalid = bytes_until_invalid(&text);
            for split in 0..=text.len() {
                let (head, tail) = text.split_at(split);
                let mut stream = Utf8Stream::default();
                let expected = until_invalid.is_some_and(|bytes| bytes <= split);
                prop_assert_eq!(stream.push(head).is_err(), expected, "split at {}", split);
                if !expected {
                    let failed = tail.iter().position(|byte| stream.push(&[*byte]).is_err());
                    let failed = failed.map(|index| split + index + 1);
                    prop_assert_eq!(failed, until_invalid, "split at {}", split);
                }
            }
        }
    }

    #[test]
    fn a_surrogate_fails_at_its_second_byte() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"text \xed"), Ok(()));
        assert_eq!(stream.push(b"\xa0"), Err(InvalidUtf8));
    }

    #[test]
    fn a_code_point_over_the_last_fails_at_its_second_byte() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"\xf4"), Ok(()));
        assert_eq!(stream.push(b"\x90"), Err(InvalidUtf8));
    }

    #[test]
    fn a_character_may_arrive_in_four_chunks() {
        assert_eq!(stream(&[b"\xf0", b"\x9f", b"\x8e", b"\x89"]), Ok(()));
        assert_eq!(stream(&[b"\xf0", b"\x9f", b"\x8e"]), Err(InvalidUtf8));
    }
}
