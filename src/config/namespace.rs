//! Namespaces: the channels whose names begin alike, and what holds for them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::channels::{ChannelDraft, ChannelOptions};
use super::entry::{Entry, EntryNotation, Fault, field};
use super::form::parsed;

/// The channels whose name begins with that of the namespace and a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// What is before the colon.
    pub name: NamespaceName,
    /// What holds for its channels.
    pub options: ChannelOptions,
}

/// The name of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceName(Box<str>);

impl NamespaceName {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a name of 1 to 64 letters, digits and -_. with or without \
         the colon behind it, such as chat:";

    /// The name, without the colon.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// The text is no name of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("allowed is {}", NamespaceName::GRAMMAR)]
pub struct NamespaceNameError;

impl FromStr for NamespaceName {
    type Err = NamespaceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_suffix(NAMESPACE_END).unwrap_or(text);
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        match (1..=NAME_BYTES_MOST).contains(&name.len()) && name.bytes().all(is_known) {
            true => Ok(Self(name.into())),
            false => Err(NamespaceNameError),
        }
    }
}

impl fmt::Display for NamespaceName {
    /// Writes the colon as well: so a name behind a comma is no option of the entry before it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{NAMESPACE_END}", self.0)
    }
}

impl Entry for Namespace {
    type Draft = ChannelDraft;

    fn notation() -> EntryNotation<ChannelDraft> {
        EntryNotation {
            head: vec![field("name", parsed(NamespaceName::GRAMMAR), |draft| &mut draft.name)],
            options: ChannelDraft::options(),
            allowed: NamespaceName::GRAMMAR,
        }
    }

    fn from_draft(mut draft: ChannelDraft) -> Result<Self, Fault> {
        match draft.name.take() {
            Some(name) => Ok(Self { name, options: ChannelOptions::from_fields(draft)? }),
            None => Err(Fault::Head(NamespaceName::GRAMMAR.to_owned())),
        }
    }

    fn to_draft(&self) -> ChannelDraft {
        ChannelDraft::of(Some(self.name.clone()), &self.options)
    }
}

/// What ends the name of a namespace in that of a channel.
pub const NAMESPACE_END: char = ':';
const NAME_BYTES_MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_have_their_colon() {
        for (text, name) in [("chat", "chat"), ("chat:", "chat"), ("A-1_b.c", "A-1_b.c")] {
            let read: NamespaceName = text.parse().expect(text);
            assert_eq!((read.text(), read.to_string()), (name, format!("{name}:")));
        }
        for text in ["", ":", "a::", "a b", "$a", "a#", "caf\u{e9}", &"a".repeat(65)] {
            assert_eq!(text.parse::<NamespaceName>(), Err(NamespaceNameError), "{text}");
        }
    }
}
