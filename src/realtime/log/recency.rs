//! Which of the entries of a table was used least recently: a list through their places.

/// Places of a table, ordered by their last use. Every operation takes constant time.
#[derive(Debug)]
pub(super) struct Recency {
    links: Vec<Link>,
    oldest: u32,
    newest: u32,
}

/// The neighbours of a place, or [`NONE`].
#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
}

impl Recency {
    /// No place yet.
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), oldest: NONE, newest: NONE }
    }

    /// A place that is not in the list is used, and becomes the newest.
    pub(super) fn insert(&mut self, place: u32) {
        let end = place as usize + 1;
        if self.links.len() < end {
            self.links.resize(end, Link { older: NONE, newer: NONE });
        }
        self.links[place as usize] = Link { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = place,
            newest => self.links[newest as usize].newer = place,
        }
        self.newest = place;
    }

    /// A place that is in the list leaves it.
    pub(super) fn remove(&mut self, place: u32) {
        let Link { older, newer } = self.links[place as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
    }

    /// A place that is in the list is used.
    pub(super) fn touch(&mut self, place: u32) {
        if self.newest != place {
            self.remove(place);
            self.insert(place);
        }
    }

    /// The place that has not been used for longest.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The place that was used next after another one that is in the list.
    pub(super) fn newer(&self, place: u32) -> Option<u32> {
        let newer = self.links[place as usize].newer;
        (newer != NONE).then_some(newer)
    }
}

const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::iter::successors;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_use(
            uses in prop::collection::vec((0..8u32, any::<bool>()), 0..99),
        ) {
            let (mut recency, mut naive) = (Recency::new(), Vec::<u32>::new());
            for (place, is_removed) in uses {
                let is_there = naive.contains(&place);
                naive.retain(|other| *other != place);
                match (is_there, is_removed) {
                    (true, true) => recency.remove(place),
                    (true, false) => recency.touch(place),
                    (false, _) => recency.insert(place),
                }
                if !(is_there && is_removed) {
                    naive.push(place);
                }
                prop_assert_eq!(recency.oldest(), naive.first().copied());
                let order = successors(recency.oldest(), |place| recency.newer(*place));
                prop_assert_eq!(order.collect::<Vec<_>>(), naive.clone());
            }
        }
    }
}
