//! Patterns by which an application asks for some of all channels.

use super::Fault;

/// A pattern of the names of channels: `*` stands for any characters, none included, `?` for one
/// character, and everything else for itself; so does what follows a backslash.
///
/// Brackets and braces are refused, as they mean something in the patterns that others have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
    /// How many characters a name has at least that matches.
    chars_min: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Any characters; never follows another one of these.
    Any,
    /// One character.
    One,
    /// This character.
    Is(char),
}

impl Glob {
    /// Reads a pattern; an empty one is for all names.
    ///
    /// # Errors
    /// Brackets or braces without a backslash before them, or a backslash at the end.
    pub fn parse(pattern: &str) -> Result<Self, Fault> {
        let mut parts = Vec::new();
        let mut rest = pattern.chars();
        while let Some(character) = rest.next() {
            let part = match character {
                '*' => Part::Any,
                '?' => Part::One,
                '\\' => Part::Is(rest.next().ok_or(UNKNOWN)?),
                '[' | ']' | '{' | '}' => return Err(UNKNOWN),
                other => Part::Is(other),
            };
            if (part, parts.last()) != (Part::Any, Some(&Part::Any)) {
                parts.push(part);
            }
        }
        if parts.is_empty() {
            parts.push(Part::Any);
        }
        let chars_min = parts.iter().filter(|part| **part != Part::Any).count();
        Ok(Self { parts, chars_min })
    }

    /// Whether a name matches. The time that it takes is bounded by the square of the length of the
    /// name, whatever the pattern, and is about that length for usual ones.
    pub fn matches(&self, name: &str) -> bool {
        if self.chars_min > name.chars().count() {
            return false;
        }
        let mut rest = name;
        let mut place = 0;
        // The last `Any`: the place behind it, and what follows what it stands for so far. Only
        // this one need ever stand for more, as the ones before it have left the most to the rest.
        let mut any: Option<(usize, &str)> = None;
        loop {
            let mut after = rest.chars();
            let next = after.next();
            match (self.parts.get(place), next) {
                (Some(Part::Any), _) => {
                    place += 1;
                    any = Some((place, rest));
                    continue;
                }
                (None, None) => return true,
                (Some(Part::One), Some(_)) => {
                    place += 1;
                    rest = after.as_str();
                    continue;
                }
                (Some(Part::Is(expected)), Some(found)) if *expected == found => {
                    place += 1;
                    rest = after.as_str();
                    continue;
                }
                _ => {}
            }
            let Some((behind, from)) = any else { return false };
            let mut more = from.chars();
            if more.next().is_none() {
                return false;
            }
            any = Some((behind, more.as_str()));
            (place, rest) = (behind, more.as_str());
        }
    }
}

const UNKNOWN: Fault = Fault::BadRequest {
    subject: "pattern",
    must: "have no special characters but * and ?, or a backslash before them",
};

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern).expect(pattern).matches(name)
    }

    #[test]
    fn patterns_match_names() {
        for (pattern, name, expected) in [
            ("", "", true),
            ("", "a", true),
            ("*", "", true),
            ("**", "news:a.b/c", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("?", "", false),
            ("?", "\u{e9}", true),
            ("??", "\u{e9}", false),
            ("news:*", "news:sport", true),
            ("news:*", "new:sport", false),
            ("*:*:z", "a:b:c:z", true),
            ("*ab", "aab", true),
            ("*aab", "aaab", true),
            ("a*b*c", "abcbc", true),
            ("a*b*c", "abcb", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("\\{a\\}", "{a}", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for pattern in ["[ab]", "a]", "{a,b}", "}", "a\\"] {
            assert_eq!(Glob::parse(pattern), Err(UNKNOWN), "{pattern}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        let name = "a".repeat(255);
        for pattern in ["*a".repeat(200) + "b", "*?a".repeat(100_000), "a*".repeat(120) + "b"] {
            let glob = Glob::parse(&pattern).expect("a pattern");
            let begin = Instant::now();
            assert!(!glob.matches(&name));
            assert!(begin.elapsed() < Duration::from_millis(100), "{pattern}");
        }
    }

    /// By the definition, with all ways to match.
    fn naive(pattern: &[char], name: &[char]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some(('*', rest)) => (0..=name.len()).any(|skip| naive(rest, &name[skip..])),
            Some((first, rest)) => name.split_first().is_some_and(|(found, name)| {
                (*first == '?' || first == found) && naive(rest, name)
            }),
        }
    }

    proptest! {
        #[test]
        fn it_is_as_by_the_definition(pattern in "[ab*?]{1,9}", name in "[ab]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = naive(&chars(&pattern), &chars(&name));
            prop_assert_eq!(matches(&pattern, &name), expected);
        }

        #[test]
        fn any_name_is_matched_by_itself(name in "\\PC{1,20}") {
            let escaped: String = name.chars().flat_map(|it| ['\\', it]).collect();
            prop_assert!(matches(&escaped, &name));
        }
    }
}
