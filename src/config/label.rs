//! A label that all metrics of a server carry.

use std::fmt;
use std::str::FromStr;

/// A name and a value by which the metrics of one server are told from those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    name: String,
    value: String,
}

impl Label {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "NAME=VALUE, such as region=eu: a name of up to 64 letters, \
         digits and _ that begins with neither a digit nor __ and is none that metrics have \
         themselves, and a value of 1 to 128 characters, none of them a comma or of control";

    /// Names that metrics have themselves, here or by their formats.
    pub const TAKEN: [&'static str; 14] = [
        "ailment",
        "certificate",
        "code",
        "hook",
        "initiator",
        "kind",
        "le",
        "level",
        "policy",
        "quantile",
        "reason",
        "service",
        "shard",
        "version",
    ];

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name and value.
    pub fn into_parts(self) -> (String, String) {
        (self.name, self.value)
    }
}

impl FromStr for Label {
    type Err = LabelError;

    /// Reads a name as Prometheus takes it and a value of its own.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or(LabelError)?;
        let is_name = name.len() <= NAME_BYTES_MAX
            && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !name.starts_with("__")
            && !Self::TAKEN.contains(&name);
        let is_value = (1..=VALUE_CHARACTERS_MAX).contains(&value.chars().count())
            && !value.contains(|character: char| character.is_control() || character == ',');
        match is_name && is_value {
            true => Ok(Self { name: name.to_owned(), value: value.to_owned() }),
            false => Err(LabelError),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.name, self.value)
    }
}

/// A text that is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {}", Label::GRAMMAR)]
pub struct LabelError;

const NAME_BYTES_MAX: usize = 64;
const VALUE_CHARACTERS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_prometheus_takes() {
        for text in ["region=eu", "_a1=x=y z", "A=\u{e9}", "instance=10.0.0.1:7071", "a=\"\\"] {
            let label: Label = text.parse().unwrap();
            assert_eq!(label.to_string(), text);
        }
        let label: Label = "a=b=c".parse().unwrap();
        assert_eq!(label.into_parts(), ("a".to_owned(), "b=c".to_owned()));
        let (long_name, long_value) = ("n".repeat(65), "v".repeat(129));
        for text in [
            "",
            "a",
            "=b",
            "a=",
            "1a=b",
            "__a=b",
            "a-b=c",
            "\u{e9}=b",
            "shard=1",
            "le=1",
            "a=b\nc",
            "a=b,c",
            &format!("{long_name}=v"),
            &format!("a={long_value}"),
        ] {
            assert_eq!(text.parse::<Label>(), Err(LabelError), "{text}");
        }
    }
}
