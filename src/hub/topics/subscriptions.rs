//! What each connection has joined, and where it stands among the members of each topic.
//!
//! Twelve bytes a subscription, in one list for each connection, and four for the start of that
//! list. Starts lie in pages that exist only where a connection has joined something, so one
//! without a subscription costs nothing.

/// The subscriptions of all connections of a shard. A connection is named by its index.
#[derive(Debug)]
pub(super) struct Subscriptions {
    pages: Vec<Option<Box<Page>>>,
    entries: Vec<Entry>,
    /// The first entry that is free; each names the next.
    free: u32,
}

/// Where the lists of neighbouring connections start.
type Page = [u32; PAGE_LEN];

#[derive(Clone, Copy, Debug)]
struct Entry {
    topic: u32,
    /// Its place among the members of the topic, and [`EXCLUDES_SELF`].
    place: u32,
    /// The next subscription of the same connection.
    next: u32,
}

const _: () = assert!(size_of::<Entry>() == 12);

/// Names a subscription for as long as it lasts.
pub(super) type Number = u32;

impl Subscriptions {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { pages: Vec::new(), entries: Vec::new(), free: NONE }
    }

    /// The subscriptions of `member`, the latest first, each with its topic.
    pub(super) fn of(&self, member: u32) -> impl Iterator<Item = (Number, u32)> {
        let mut number = self.first(member);
        std::iter::from_fn(move || {
            let entry = self.entries.get(number as usize)?;
            let found = (number, entry.topic);
            number = entry.next;
            Some(found)
        })
    }

    /// Adds a subscription of `member`, at the end of the topic's members or wherever it stands.
    pub(super) fn add(&mut self, member: u32, topic: u32, place: u32) -> Number {
        debug_assert!(place < EXCLUDES_SELF);
        let entry = Entry { topic, place, next: self.first(member) };
        let number = match self.entries.get_mut(self.free as usize) {
            Some(free) => {
                let number = std::mem::replace(&mut self.free, free.next);
                *free = entry;
                number
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        self.set_first(member, number);
        number
    }

    /// Ends a subscription of `member`; returns its place among the members of the topic.
    pub(super) fn remove(&mut self, member: u32, number: Number) -> u32 {
        let Entry { place, next, .. } = self.entries[number as usize];
        let mut numbers = self.of(member).map(|(before, _)| before);
        let before = numbers.find(|before| self.entries[*before as usize].next == number);
        drop(numbers);
        match before {
            Some(before) => self.entries[before as usize].next = next,
            None => self.set_first(member, next),
        }
        self.entries[number as usize].next = std::mem::replace(&mut self.free, number);
        place & !EXCLUDES_SELF
    }

    /// Takes note that a subscription has another place among the members of its topic.
    pub(super) fn set_place(&mut self, number: Number, place: u32) {
        let entry = &mut self.entries[number as usize];
        entry.place = entry.place & EXCLUDES_SELF | place;
    }

    /// The place of a subscription among the members of its topic.
    pub(super) fn place(&self, number: Number) -> u32 {
        self.entries[number as usize].place & !EXCLUDES_SELF
    }

    /// Whether the member does not want what it publishes itself.
    pub(super) fn excludes_self(&self, number: Number) -> bool {
        self.entries[number as usize].place & EXCLUDES_SELF != 0
    }

    /// Says whether the member wants what it publishes itself.
    pub(super) fn set_excludes_self(&mut self, number: Number, excludes_self: bool) {
        let entry = &mut self.entries[number as usize];
        entry.place = entry.place & !EXCLUDES_SELF | if excludes_self { EXCLUDES_SELF } else { 0 };
    }

    fn first(&self, member: u32) -> u32 {
        let (page, place) = page_and_place(member);
        let page = self.pages.get(page).and_then(Option::as_deref);
        page.map_or(NONE, |page| page[place])
    }

    fn set_first(&mut self, member: u32, number: u32) {
        let (page, place) = page_and_place(member);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let starts = self.pages[page].get_or_insert_with(|| Box::new([NONE; PAGE_LEN]));
        starts[place] = number;
        if number == NONE && starts.iter().all(|&start| start == NONE) {
            self.pages[page] = None;
        }
    }
}

fn page_and_place(member: u32) -> (usize, usize) {
    (member as usize / PAGE_LEN, member as usize % PAGE_LEN)
}

/// Names no subscription.
const NONE: u32 = u32::MAX;
/// In a place: the member does not want what it publishes itself.
const EXCLUDES_SELF: u32 = 1 << 31;
/// Connections whose lists start in one page, of 256 bytes.
const PAGE_LEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn topics_of(subscriptions: &Subscriptions, member: u32) -> Vec<u32> {
        subscriptions.of(member).map(|(_, topic)| topic).collect()
    }

    #[test]
    fn each_connection_has_a_list_of_its_own() {
        let mut subscriptions = Subscriptions::new();
        let numbers: Vec<_> = (0..4).map(|topic| subscriptions.add(7, topic, 10 + topic)).collect();
        subscriptions.add(8, 3, 20);
        assert_eq!(topics_of(&subscriptions, 7), [3, 2, 1, 0]);
        for (number, left) in [(2, vec![3, 1, 0]), (0, vec![3, 1]), (3, vec![1]), (1, vec![])] {
            assert_eq!(subscriptions.remove(7, numbers[number]), 10 + number as u32);
            assert_eq!(topics_of(&subscriptions, 7), left);
        }
        assert_eq!(topics_of(&subscriptions, 8), [3]);
        assert!(topics_of(&subscriptions, 1 << 20).is_empty());
    }

    #[test]
    fn what_is_left_out_stays_when_the_place_changes() {
        let mut subscriptions = Subscriptions::new();
        let number = subscriptions.add(1, 5, 9);
        assert!(!subscriptions.excludes_self(number));
        subscriptions.set_excludes_self(number, true);
        subscriptions.set_place(number, 4);
        assert!(subscriptions.excludes_self(number));
        assert_eq!(subscriptions.remove(1, number), 4);
        let next = subscriptions.add(1, 5, 0);
        assert_eq!((next, subscriptions.excludes_self(next)), (number, false));
    }

    #[test]
    fn memory_is_that_of_those_who_have_joined_something() {
        let mut subscriptions = Subscriptions::new();
        let far = 100 * PAGE_LEN as u32;
        let number = subscriptions.add(far, 0, 0);
        let pages = |subscriptions: &Subscriptions| subscriptions.pages.iter().flatten().count();
        assert_eq!(pages(&subscriptions), 1);
        subscriptions.remove(far, number);
        assert_eq!(pages(&subscriptions), 0);
        for round in 0..10 {
            let numbers: Vec<_> = (0..50).map(|topic| subscriptions.add(round, topic, 0)).collect();
            for number in numbers {
                subscriptions.remove(round, number);
            }
        }
        assert_eq!(subscriptions.entries.len(), 50, "free entries are used again");
    }
}
