//! Connections that wait for the same thing, in the order in which they are served.

use std::collections::VecDeque;

use crate::io::Key;

/// A line of connections, those first that wait longest. Whoever sends much stands apart from the
/// others, and both sides are served by turns: a few small messages do not wait behind many large
/// ones, and many small ones do not keep those out.
#[derive(Debug, Default)]
pub(super) struct Line {
    light: VecDeque<Key>,
    heavy: VecDeque<Key>,
    heavy_is_next: bool,
}

impl Line {
    /// Adds a connection behind those of its side.
    pub(super) fn push(&mut self, key: Key, is_heavy: bool) {
        self.side(is_heavy).push_back(key);
    }

    /// Adds a connection as the very next, because its turn came to nothing.
    pub(super) fn push_front(&mut self, key: Key, is_heavy: bool) {
        self.heavy_is_next = is_heavy;
        self.side(is_heavy).push_front(key);
    }

    /// Takes out the next to be served.
    pub(super) fn pop(&mut self) -> Option<Key> {
        let is_heavy = self.heavy_is_next && !self.heavy.is_empty() || self.light.is_empty();
        self.heavy_is_next = !is_heavy;
        self.side(is_heavy).pop_front()
    }

    /// Adds those of another line, each behind those of its side.
    pub(super) fn append(&mut self, later: &mut Line) {
        self.light.append(&mut later.light);
        self.heavy.append(&mut later.heavy);
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.light.len() + self.heavy.len()
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.light.is_empty() && self.heavy.is_empty()
    }

    /// Those who wait.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.light.iter().chain(&self.heavy).copied().collect()
    }

    fn side(&mut self, is_heavy: bool) -> &mut VecDeque<Key> {
        if is_heavy { &mut self.heavy } else { &mut self.light }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_are_served_by_turns() {
        let key = |index| Key { index, generation: 0 };
        let mut line = Line::default();
        for index in 0..3 {
            line.push(key(index), true);
        }
        line.push(key(10), false);
        line.push(key(11), false);
        line.push_front(key(9), false);
        assert_eq!((line.len(), line.keys().len()), (6, 6));
        let first = line.pop().expect("somebody waits");
        line.push_front(first, false);
        let order: Vec<_> = std::iter::from_fn(|| line.pop()).map(|key| key.index).collect();
        assert_eq!(order, [9, 0, 10, 1, 11, 2]);
        assert!(line.is_empty());
    }
}
