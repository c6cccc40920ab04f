//! What one subscriber has seen of one publisher: loss, duplicates, and order.

/// How a message arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is the next one.
    InOrder,
    /// It is new, but those before it have not come.
    AfterGap,
    /// It came after a later one.
    Late,
    /// It came before.
    Again,
}

/// The sequence that one subscriber sees of one publisher.
#[derive(Debug, Default)]
pub struct Order {
    next: u64,
    /// Sequences below `next` that have not come; boxed because there is hardly ever one.
    missing: Option<Box<Missing>>,
}

#[derive(Debug, Default)]
struct Missing {
    known: Vec<u64>,
    /// Further ones that are only counted.
    uncounted: u64,
}

impl Order {
    /// Takes note of message `sequence`.
    pub fn arrived(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            let gap = self.next..sequence;
            self.next = sequence.saturating_add(1);
            if gap.is_empty() {
                return Arrival::InOrder;
            }
            let missing = self.missing.get_or_insert_default();
            let kept = MISSING_MOST.saturating_sub(missing.known.len()) as u64;
            let gaps = gap.end - gap.start;
            missing.uncounted += gaps.saturating_sub(kept);
            missing.known.extend(gap.take(kept as usize));
            return Arrival::AfterGap;
        }
        let missing = self.missing.as_mut();
        let place = missing.as_ref().and_then(|m| m.known.iter().position(|&s| s == sequence));
        match (missing, place) {
            (Some(missing), Some(place)) => {
                missing.known.swap_remove(place);
                Arrival::Late
            }
            _ => Arrival::Again,
        }
    }

    /// How many of `sent` messages never came.
    pub fn lost(&self, sent: u64) -> u64 {
        let missing = self.missing.as_ref();
        let between = missing.map_or(0, |m| m.known.len() as u64 + m.uncounted);
        between + sent.saturating_sub(self.next)
    }
}

/// Missing messages that are told from duplicates when they come late.
const MISSING_MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disorder_has_its_name() {
        let mut order = Order::default();
        assert_eq!(order.arrived(0), Arrival::InOrder);
        assert_eq!(order.arrived(0), Arrival::Again);
        assert_eq!(order.arrived(3), Arrival::AfterGap);
        assert_eq!(order.lost(4), 2);
        assert_eq!(order.arrived(2), Arrival::Late);
        assert_eq!(order.arrived(2), Arrival::Again);
        assert_eq!(order.arrived(4), Arrival::InOrder);
        assert_eq!(order.lost(7), 3);
    }

    #[test]
    fn a_hostile_sequence_costs_no_memory() {
        let mut order = Order::default();
        assert_eq!(order.arrived(u64::MAX), Arrival::AfterGap);
        assert_eq!(order.arrived(5), Arrival::Late);
        assert_eq!(order.arrived(1 << 30), Arrival::Again);
        assert_eq!(order.lost(0), u64::MAX - 1);
    }
}
