//! Patterns of topics, by which grants and settings say what somebody may do.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::topic::Topic;
use crate::limits;

/// A pattern of topics. `*` stands for any characters within a segment, which ends at `/`, `:` or
/// `.`; `**` for any characters at all. Everything else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern(Box<str>);

impl TopicPattern {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a topic in which * is anything but / : and . and ** is \
         anything, such as news.* or chat:**";

    /// The pattern as it is written.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether the topic of this name is one of those. The time that it takes is bounded by the
    /// product of both lengths, whatever they are.
    pub fn matches(&self, topic: &str) -> bool {
        // Most of what can be told is told by the beginning.
        let literal_bytes = self.0.find(WILDCARD).unwrap_or(self.0.len());
        let (literal, pattern) = self.0.split_at(literal_bytes);
        let Some(rest) = topic.strip_prefix(literal) else { return false };
        if pattern.is_empty() || rest.len() > limits::TOPIC_BYTES_MOST {
            return pattern.is_empty() && rest.is_empty();
        }
        match_rest(pattern.as_bytes(), rest.as_bytes())
    }
}

/// Goes through the pattern once, with all places of the topic that it may have come to so far. So
/// no choice has to be taken back, of which there may be as many as there are ways to match.
fn match_rest(mut pattern: &[u8], topic: &[u8]) -> bool {
    let mut places = [false; limits::TOPIC_BYTES_MOST + 1];
    let places = &mut places[..=topic.len()];
    places[0] = true;
    while let Some((&byte, rest)) = pattern.split_first() {
        pattern = rest;
        if byte != b'*' {
            for place in (0..topic.len()).rev() {
                places[place + 1] = places[place] && topic[place] == byte;
            }
            places[0] = false;
            continue;
        }
        let crosses_segments = rest.first() == Some(&b'*');
        pattern = &rest[usize::from(crosses_segments)..];
        for place in 0..topic.len() {
            let may_pass = crosses_segments || !SEPARATORS.contains(&topic[place]);
            places[place + 1] |= places[place] && may_pass;
        }
    }
    places[topic.len()]
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", TopicPattern::GRAMMAR)]
pub struct TopicPatternError;

impl FromStr for TopicPattern {
    type Err = TopicPatternError;

    /// Reads what a topic may be called; three asterisks in a row mean nothing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_pattern = Topic::check(text).is_ok() && !text.contains("***");
        if is_pattern { Ok(Self(text.into())) } else { Err(TopicPatternError) }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

const WILDCARD: char = '*';
const SEPARATORS: [u8; 3] = *b"/:.";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        pattern.parse::<TopicPattern>().expect(pattern).matches(topic)
    }

    /// The definition, word by word, at whatever cost.
    fn matches_naively(pattern: &str, topic: &str) -> bool {
        let is_separator = |character: char| "/:.".contains(character);
        if let Some(rest) = pattern.strip_prefix("**") {
            let ends = topic.char_indices().map(|(at, _)| at).chain([topic.len()]);
            return ends.into_iter().any(|at| matches_naively(rest, &topic[at..]));
        }
        if let Some(rest) = pattern.strip_prefix('*') {
            let segment = topic.find(is_separator).unwrap_or(topic.len());
            let ends = topic.char_indices().map(|(at, _)| at).chain([topic.len()]);
            return ends.filter(|at| *at <= segment).any(|at| matches_naively(rest, &topic[at..]));
        }
        let mut characters = pattern.chars();
        match characters.next() {
            None => topic.is_empty(),
            Some(first) => topic
                .strip_prefix(first)
                .is_some_and(|rest| matches_naively(characters.as_str(), rest)),
        }
    }

    #[test]
    fn asterisks_stand_for_what_they_say() {
        for (pattern, topic, expected) in [
            ("news", "news", true),
            ("news", "new", false),
            ("news", "news2", false),
            ("news.*", "news.sport", true),
            ("news.*", "news.", true),
            ("news.*", "news", false),
            ("news.*", "news.sport.tennis", false),
            ("news.**", "news.sport/tennis", true),
            ("*", "a b", true),
            ("*", "a/b", false),
            ("*:*", "a:b", true),
            ("**", "a/b:c.d", true),
            ("**.log", "a/b.c.log", true),
            ("*.log", "a/b.log", false),
            ("a*c*e", "abcde", true),
            ("chat:*:in", "chat:caf\u{e9}:in", true),
            ("chat:*:in", "chat:a:b:in", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
            assert_eq!(matches_naively(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn what_no_topic_can_match_is_no_pattern() {
        let long = "a".repeat(256);
        for text in ["", &long, "a\nb", "a***"] {
            assert_eq!(text.parse::<TopicPattern>(), Err(TopicPatternError), "{text:?}");
        }
        assert!(!matches("**", &long));
    }

    /// This would take longer than anybody waits if each choice could be taken back.
    #[test]
    fn no_pattern_takes_long() {
        let (pattern, topic) = ("*a**b".repeat(50), "ab".repeat(127));
        assert!(matches(&pattern, &topic));
        assert!(!matches(&format!("{pattern}c"), &topic));
    }

    proptest! {
        #[test]
        fn patterns_match_by_their_definition(
            pattern in "([ab\u{e9}/:.]|\\*{1,2}){1,8}",
            topic in "[ab\u{e9}/:.]{1,10}",
        ) {
            if let Ok(parsed) = pattern.parse::<TopicPattern>() {
                prop_assert_eq!(parsed.matches(&topic), matches_naively(&pattern, &topic));
                prop_assert_eq!(parsed.to_string(), pattern);
            }
        }
    }
}
