//! Pointers to a value within a JSON text (RFC 6901).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A pointer to a value below the whole text, such as `/message/id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPointer(Box<str>);

impl JsonPointer {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a JSON pointer such as /id or /message/id, of at most 255 \
         bytes, with ~1 for a slash and ~0 for a tilde in a name";

    /// The names of members, and indexes of elements, from the outermost to the innermost.
    pub fn steps(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.0.split('/').skip(1).map(|step| match step.contains('~') {
            true => Cow::Owned(step.replace("~1", "/").replace("~0", "~")),
            false => Cow::Borrowed(step),
        })
    }
}

/// The text is no such pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", JsonPointer::GRAMMAR)]
pub struct JsonPointerError;

impl FromStr for JsonPointer {
    type Err = JsonPointerError;

    /// Reads a pointer of RFC 6901 section 3, but for the empty one, which is the whole text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let escapes = text.split('~').skip(1);
        let is_escaped = escapes.into_iter().all(|rest| rest.starts_with(['0', '1']));
        let is_short = (1..=BYTES_MOST).contains(&text.len());
        match text.starts_with('/') && is_escaped && is_short {
            true => Ok(Self(text.into())),
            false => Err(JsonPointerError),
        }
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

const BYTES_MOST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_lead_from_the_outermost_to_the_innermost() {
        for (text, steps) in [
            ("/", &[""][..]),
            ("/id", &["id"]),
            ("/a/0/b c", &["a", "0", "b c"]),
            ("/a~1b/~01//", &["a/b", "~1", "", ""]),
        ] {
            let pointer: JsonPointer = text.parse().expect(text);
            assert_eq!(pointer.steps().collect::<Vec<_>>(), steps, "{text}");
            assert_eq!(pointer.to_string(), text);
        }
        for text in ["", "id", "/~", "/a~2", "off", &format!("/{}", "a".repeat(255))] {
            assert_eq!(text.parse::<JsonPointer>(), Err(JsonPointerError), "{text}");
        }
    }
}
