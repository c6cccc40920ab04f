//! Patterns of channels: a tree of them, by which all that match a name are found in one walk.
//!
//! A pattern is the name of a channel with `*` in it, which stands for any characters but `/`, `:`
//! and `.`, or `**`, which stands for any at all, none included. Neither stands for `#`, nor for
//! `$` at the beginning of a name: channels that list users, or need a token, have patterns that
//! say so, and these need a token themselves.

use slab::Slab;

/// Whether a name is that of a pattern, and no channel's.
pub fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

/// Whether a pattern means something: three asterisks in a row do not.
pub fn is_valid(pattern: &str) -> bool {
    !pattern.contains("***")
}

/// Patterns, and what each stands for, such as the place of something in a table.
#[derive(Debug)]
pub struct Patterns {
    nodes: Slab<Node>,
    root: usize,
    weight: usize,
    /// For each node, in which step of a walk it was entered last.
    entered: Vec<u64>,
    steps: u64,
}

/// What has been read of one or more patterns.
#[derive(Debug)]
struct Node {
    loops: Loops,
    /// What may follow, by the byte that is read.
    next: Vec<(u8, usize)>,
    /// Where `*` and `**` lead to, without anything being read.
    segment: Option<usize>,
    anything: Option<usize>,
    /// What the pattern stands for that ends here.
    value: Option<u32>,
}

/// What may be read any number of times at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loops {
    Never,
    Segment,
    Anything,
}

/// One step along a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    Segment,
    Anything,
}

impl Default for Patterns {
    fn default() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::new(Loops::Never));
        Self { nodes, root, weight: 0, entered: vec![0], steps: 0 }
    }
}

impl Patterns {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Whether another pattern may come, so that a walk stays short.
    pub fn has_room_for(&self, pattern: &str) -> bool {
        self.weight + weight(pattern) <= WEIGHT_MOST
    }

    /// Adds a pattern that is not there.
    pub fn insert(&mut self, pattern: &str, value: u32) {
        debug_assert!(is_valid(pattern));
        let mut node = self.root;
        for part in parts(pattern) {
            node = match self.nodes[node].follow(part) {
                Some(next) => next,
                None => self.grow(node, part),
            };
        }
        debug_assert_eq!(self.nodes[node].value, None, "each pattern is there once");
        self.nodes[node].value = Some(value);
        self.weight += weight(pattern);
    }

    fn grow(&mut self, from: usize, part: Part) -> usize {
        let new = self.nodes.insert(Node::new(part.loops()));
        if self.entered.len() <= new {
            self.entered.resize(new + 1, 0);
        }
        // Whoever had this place before may have been entered in this step.
        self.entered[new] = 0;
        let node = &mut self.nodes[from];
        match part {
            Part::Byte(byte) => node.next.push((byte, new)),
            Part::Segment => node.segment = Some(new),
            Part::Anything => node.anything = Some(new),
        }
        new
    }

    /// Takes out a pattern that is there.
    pub fn remove(&mut self, pattern: &str) {
        let mut way = Vec::with_capacity(pattern.len());
        let mut node = self.root;
        for part in parts(pattern) {
            let Some(next) = self.nodes[node].follow(part) else { return };
            way.push((node, part));
            node = next;
        }
        if self.nodes[node].value.take().is_some() {
            self.weight -= weight(pattern);
        }
        while self.nodes[node].is_unused()
            && let Some((before, part)) = way.pop()
        {
            self.nodes.remove(node);
            self.nodes[before].forget(part);
            node = before;
        }
    }

    /// What the patterns stand for that match a name, in no order, and each once.
    pub fn matching(&mut self, name: &str) -> Vec<u32> {
        let (mut now, mut next) = (Vec::new(), Vec::new());
        self.steps += 1;
        self.enter(self.root, &mut now);
        for (place, &byte) in name.as_bytes().iter().enumerate() {
            self.steps += 1;
            for &node in &now {
                let Node { loops, next: after, .. } = &self.nodes[node];
                let may_stay = loops.may_pass(byte, place);
                let follows = after.iter().find(|(wanted, _)| *wanted == byte);
                let follows = follows.map(|(_, node)| *node);
                if may_stay {
                    self.enter(node, &mut next);
                }
                if let Some(follows) = follows {
                    self.enter(follows, &mut next);
                }
            }
            now.clear();
            std::mem::swap(&mut now, &mut next);
            if now.is_empty() {
                break;
            }
        }
        now.iter().filter_map(|node| self.nodes[*node].value).collect()
    }

    /// Comes to a node, and to where asterisks lead from there.
    fn enter(&mut self, node: usize, entered: &mut Vec<usize>) {
        if std::mem::replace(&mut self.entered[node], self.steps) == self.steps {
            return;
        }
        entered.push(node);
        let Node { segment, anything, .. } = self.nodes[node];
        // Asterisks do not follow each other, so this goes no deeper.
        for next in segment.into_iter().chain(anything) {
            self.enter(next, entered);
        }
    }
}

impl Node {
    fn new(loops: Loops) -> Self {
        Self { loops, next: Vec::new(), segment: None, anything: None, value: None }
    }

    fn follow(&self, part: Part) -> Option<usize> {
        match part {
            Part::Byte(byte) => {
                self.next.iter().find(|(wanted, _)| *wanted == byte).map(|(_, node)| *node)
            }
            Part::Segment => self.segment,
            Part::Anything => self.anything,
        }
    }

    fn forget(&mut self, part: Part) {
        match part {
            Part::Byte(byte) => self.next.retain(|(wanted, _)| *wanted != byte),
            Part::Segment => self.segment = None,
            Part::Anything => self.anything = None,
        }
    }

    fn is_unused(&self) -> bool {
        let leads_nowhere = self.segment.is_none() && self.anything.is_none();
        self.value.is_none() && self.next.is_empty() && leads_nowhere
    }
}

impl Loops {
    fn may_pass(self, byte: u8, place: usize) -> bool {
        let stands_for_itself = byte == b'#' || place == 0 && byte == b'$';
        match self {
            Self::Never => false,
            Self::Segment => !stands_for_itself && !SEPARATORS.contains(&byte),
            Self::Anything => !stands_for_itself,
        }
    }
}

impl Part {
    fn loops(self) -> Loops {
        match self {
            Self::Byte(_) => Loops::Never,
            Self::Segment => Loops::Segment,
            Self::Anything => Loops::Anything,
        }
    }
}

fn parts(pattern: &str) -> impl Iterator<Item = Part> {
    let mut rest = pattern.as_bytes();
    std::iter::from_fn(move || {
        let (part, bytes) = match rest {
            [] => return None,
            [b'*', b'*', ..] => (Part::Anything, 2),
            [b'*', ..] => (Part::Segment, 1),
            [byte, ..] => (Part::Byte(*byte), 1),
        };
        rest = &rest[bytes..];
        Some(part)
    })
}

/// How much a pattern may prolong each step of a walk: by what is behind its first asterisks, which
/// may be come to at any byte of a name. One that ends there is come to at one byte alone.
fn weight(pattern: &str) -> usize {
    let behind = pattern.find('*').map_or("", |at| &pattern[at..]);
    if matches!(behind, "*" | "**") { 0 } else { behind.len() }
}

/// What all patterns may weigh together.
const WEIGHT_MOST: usize = 4 << 10;
const SEPARATORS: [u8; 3] = *b"/:.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word, at whatever cost.
    fn matches_naively(pattern: &str, name: &str, place: usize) -> bool {
        let stands = |byte: u8, place| byte != b'#' && (place > 0 || byte != b'$');
        let (rest, crosses) = match pattern.strip_prefix("**") {
            Some(rest) => (rest, true),
            None => match pattern.strip_prefix('*') {
                Some(rest) => (rest, false),
                None => {
                    let (Some(wanted), Some(byte)) =
                        (pattern.chars().next(), name[place..].chars().next())
                    else {
                        return pattern.is_empty() && place == name.len();
                    };
                    return wanted == byte && matches_naively(&pattern[1..], name, place + 1);
                }
            },
        };
        let may_pass = |at: usize| {
            let byte = name.as_bytes()[at];
            stands(byte, at) && (crosses || !b"/:.".contains(&byte))
        };
        (place..=name.len())
            .any(|end| (place..end).all(may_pass) && matches_naively(rest, name, end))
    }

    fn matches(pattern: &str, name: &str) -> bool {
        let mut patterns = Patterns::default();
        patterns.insert(pattern, 1);
        !patterns.matching(name).is_empty()
    }

    #[test]
    fn asterisks_stand_for_what_they_say() {
        for (pattern, name, expected) in [
            ("news:*", "news:sport", true),
            ("news:*", "news:", true),
            ("news:*", "news:sport/tennis", false),
            ("news:**", "news:sport/tennis", true),
            ("news:*/tennis", "news:sport/tennis", true),
            ("a*c*e", "abcde", true),
            ("**", "anything at.all", true),
            ("**", "$secret", false),
            ("*secret", "$secret", false),
            ("$*", "$secret", true),
            ("a*", "a$b", true),
            ("dialog:**", "dialog:a#1,2", false),
            ("dialog:*#*", "dialog:a#1,2", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
            assert_eq!(matches_naively(pattern, name, 0), expected, "{pattern} {name}");
        }
        assert!(is_pattern("a*") && !is_pattern("a") && is_valid("a**b*") && !is_valid("a***"));
    }

    #[test]
    fn what_a_walk_may_cost_is_bounded() {
        let mut patterns = Patterns::default();
        for number in 0..10_000 {
            // They are told apart before their asterisks.
            let pattern = format!("room/{number}/**");
            assert!(patterns.has_room_for(&pattern));
            patterns.insert(&pattern, number);
        }
        assert_eq!(patterns.matching("room/77/a/b"), [77]);
        let long = format!("**{}", "a".repeat(200));
        let mut added = Vec::new();
        while let pattern = format!("{long}{}", added.len())
            && patterns.has_room_for(&pattern)
        {
            patterns.insert(&pattern, 0);
            added.push(pattern);
        }
        assert_eq!(added.len(), 20);
        patterns.remove(&added[0]);
        assert!(patterns.has_room_for(&long));
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_matches(
            given in prop::collection::vec(("([ab$#/]|\\*{1,2}){1,8}", any::<bool>()), 1..12),
            names in prop::collection::vec("[ab$#/:]{1,8}", 1..6),
        ) {
            let (mut patterns, mut all) = (Patterns::default(), BTreeMap::new());
            for (number, (pattern, stays)) in given.iter().enumerate() {
                if !is_valid(pattern) || all.contains_key(pattern) {
                    continue;
                }
                patterns.insert(pattern, number as u32);
                all.insert(pattern.clone(), (number as u32, *stays));
                for name in &names {
                    let mut found = patterns.matching(name);
                    found.sort_unstable();
                    let matching = |(pattern, (value, _)): (&String, &(u32, bool))| {
                        matches_naively(pattern, name, 0).then_some(*value)
                    };
                    let mut expected: Vec<u32> = all.iter().filter_map(matching).collect();
                    expected.sort_unstable();
                    prop_assert_eq!(found, expected, "{}", name);
                }
                if !stays {
                    patterns.remove(pattern);
                    all.remove(pattern);
                }
            }
            for pattern in all.keys() {
                patterns.remove(pattern);
            }
            prop_assert!(patterns.is_empty() && patterns.weight == 0);
        }
    }
}
