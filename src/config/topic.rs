//! The name of a topic of broadcasts.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::limits;

/// The name of a topic: 1 to 255 bytes of UTF-8 without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic(Box<str>);

impl Topic {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a topic of 1 to 255 bytes without control characters";

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether a topic may have this name.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(name: &str) -> Result<(), TopicError> {
        match name.len() {
            0 => Err(TopicError::Empty),
            bytes if bytes > limits::TOPIC_BYTES_MOST => Err(TopicError::TooLong),
            _ if name.contains(char::is_control) => Err(TopicError::ControlCharacter),
            _ => Ok(()),
        }
    }
}

/// Why a text is no topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}", self.detail())]
pub enum TopicError {
    /// It has no byte.
    Empty,
    /// It has more than 255 bytes.
    TooLong,
    /// It has a control character.
    ControlCharacter,
}

impl TopicError {
    /// The sentence for whoever named the topic.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Empty => "The topic is empty.",
            Self::TooLong => "The topic is longer than 255 bytes.",
            Self::ControlCharacter => "The topic has a control character.",
        }
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::check(name)?;
        Ok(Self(name.into()))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_short_and_can_be_printed() {
        let longest = "a".repeat(limits::TOPIC_BYTES_MOST);
        for name in ["a", "a b,c=d", "caf\u{e9}/\u{1f600}", &longest] {
            assert_eq!(name.parse::<Topic>().expect(name).name(), name);
        }
        for (name, error) in [
            ("", TopicError::Empty),
            (&*format!("{longest}a"), TopicError::TooLong),
            ("a\nb", TopicError::ControlCharacter),
            ("\u{85}", TopicError::ControlCharacter),
        ] {
            assert_eq!(name.parse::<Topic>(), Err(error), "{name:?}");
        }
    }
}
