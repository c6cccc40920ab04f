//! Connections spread again when a shard has many more than its share, because the others have lost
//! theirs: it moves some to shards that have fewer than theirs, those first whose peers are silent.
//!
//! Nobody is woken for it: a shard that has nothing to do is not too full. It looks once a second,
//! begins when it is well above its share and goes on until it is there; whoever gets some stays
//! below its own. So nothing goes back and forth.

use super::timers::Tick;
use super::{RunState, Shard};
use crate::io::{Io, Key};

/// How far the spreading of one shard's connections has come.
#[derive(Default)]
pub(super) struct Balance {
    /// When to look again, unless some are to move now.
    due: Tick,
    /// Whether this shard is moving connections until it has no more than its share.
    is_above: bool,
    /// The place of the connection to look at next.
    next_index: u32,
    /// Places looked at since one was found that can move.
    vain: usize,
    /// Whether those are moved as well whose peers are not silent, because all others have gone.
    takes_busy: bool,
    /// Whether one of those that were moved has arrived: the others are moved one at a time until
    /// then, as a shard that hangs takes none in and has ever fewer itself.
    has_arrived: bool,
}

/// Where connections are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Surplus {
    to: usize,
    count: u64,
}

impl<I: Io> Shard<I> {
    /// Moves some connections when this shard has more than its share.
    pub(super) fn balance(&mut self) {
        let is_due = self.balance.is_above || self.now >= self.balance.due;
        if !is_due || self.run_state != RunState::Serving || !self.io.can_hand_over() {
            return;
        }
        let shards = 0..self.effective.config.engine.shards;
        let counts = || {
            let count = |number| self.shared.stats.shard(number).connections_open.value();
            shards.clone().map(count)
        };
        // Those on their way from here still count here.
        let surplus = surplus(counts, self.number, self.balance.is_above);
        self.balance.is_above = surplus.is_some();
        self.balance.due = self.now + LOOK_EVERY;
        let Some(Surplus { to, count }) = surplus else {
            (self.balance.has_arrived, self.balance.takes_busy) = (false, false);
            return;
        };
        let under_way = self.moves.under_way() as u64;
        let at_once = match self.balance.has_arrived {
            true => MOVED_PER_TICK,
            false => 1_u64.saturating_sub(under_way),
        };
        let most = count.saturating_sub(under_way).min(at_once);
        let mut moved = 0;
        for _ in 0..LOOKED_AT_PER_TICK {
            if moved == most {
                return;
            }
            let Some(key) = self.next_candidate() else { continue };
            if !self.move_to(key, to) {
                // As many as may are on their way, or on their way there.
                return;
            }
            (moved, self.balance.vain) = (moved + 1, 0);
        }
        if self.balance.vain > self.connections.places() {
            // None can move: those who are busy may, and after them all may another time.
            self.balance.is_above = !self.balance.takes_busy;
            (self.balance.takes_busy, self.balance.vain) = (!self.balance.takes_busy, 0);
        }
    }

    /// Notes that a connection which was moved goes on elsewhere, or that one has been lost.
    pub(super) fn note_arrival(&mut self, has_arrived: bool) {
        self.balance.has_arrived = has_arrived;
    }

    /// The connection in the next place, if there is one that may move.
    fn next_candidate(&mut self) -> Option<Key> {
        let index = self.balance.next_index;
        let is_last = index as usize + 1 >= self.connections.places();
        self.balance.next_index = if is_last { 0 } else { index + 1 };
        self.balance.vain += 1;
        let served = self.served;
        let (key, _) = self.connections.at(index)?;
        let connection = self.connections.get(key)?;
        let silence = served.saturating_sub(connection.last_active);
        let is_wanted = silence >= IDLE_LEAST || self.balance.takes_busy;
        (is_wanted && self.may_move(key, connection)).then_some(key)
    }
}

/// How many connections the shard `own` is to move, and where: to the one that has the fewest. With
/// `is_above` it goes on down to its share, otherwise it begins when it is well above.
fn surplus<C: Iterator<Item = u64>>(
    counts: impl Fn() -> C,
    own: usize,
    is_above: bool,
) -> Option<Surplus> {
    let shards = counts().count() as u64;
    let share = counts().sum::<u64>().div_ceil(shards.max(1));
    let margin = if is_above { 0 } else { share / 4 + MARGIN_LEAST };
    let has = counts().nth(own)?;
    if has <= share + margin {
        return None;
    }
    let (to, fewest) = counts().enumerate().min_by_key(|(_, count)| *count)?;
    // Others that have too many see the same gap, and all shall not fill it.
    let givers = counts().filter(|count| *count > share).count() as u64;
    let gap = share.saturating_sub(fewest) / givers.max(1);
    let count = (has - share).min(gap.max(1));
    (fewest < share).then_some(Surplus { to, count })
}

/// How often a shard compares itself with the others: a second.
const LOOK_EVERY: Tick = 10;
/// How long a peer must have been silent to be moved before others: a second.
const IDLE_LEAST: Tick = 10;
/// Connections that a shard has beyond its share and a quarter of it when it begins to move some.
const MARGIN_LEAST: u64 = 16;
/// Moves begun in one tick: some 20 us each.
const MOVED_PER_TICK: u64 = 8;
/// Places looked at in one tick for connections that can move.
const LOOKED_AT_PER_TICK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: &[u64], own: usize, is_above: bool) -> Option<Surplus> {
        surplus(|| counts.iter().copied(), own, is_above)
    }

    #[test]
    fn a_shard_begins_well_above_its_share_and_ends_there() {
        assert_eq!(of(&[120, 80], 0, false), None, "within the margin");
        assert_eq!(of(&[142, 58], 0, false), Some(Surplus { to: 1, count: 42 }));
        assert_eq!(of(&[101, 99], 0, true), Some(Surplus { to: 1, count: 1 }));
        assert_eq!(of(&[100, 100], 0, true), None);
        assert_eq!(of(&[17, 0], 0, false), None, "few are never worth it");
        assert_eq!(of(&[58, 142], 0, true), None, "it has the fewest itself");
    }

    #[test]
    fn several_that_have_too_many_share_the_gap() {
        assert_eq!(of(&[300, 300, 300, 0], 1, false), Some(Surplus { to: 3, count: 75 }));
    }

    /// Every shard moves what it thinks right on what it sees, all at once: the counts settle.
    #[test]
    fn nothing_goes_back_and_forth() {
        let mut random = fastrand::Rng::with_seed(7);
        for shards in [2, 3, 5, 108] {
            for _ in 0..50 {
                let mut counts: Vec<u64> = (0..shards).map(|_| random.u64(..3000)).collect();
                let (mut above, mut rounds) = (vec![false; shards], 0);
                loop {
                    let seen = counts.clone();
                    let mut has_moved = false;
                    for own in 0..shards {
                        let surplus = of(&seen, own, above[own]);
                        above[own] = surplus.is_some();
                        if let Some(Surplus { to, count }) = surplus {
                            let count = count.min(MOVED_PER_TICK);
                            (counts[own], counts[to]) = (counts[own] - count, counts[to] + count);
                            has_moved = true;
                        }
                    }
                    if !has_moved {
                        break;
                    }
                    rounds += 1;
                    assert!(rounds < 20_000, "{shards} shards never settle: {counts:?}");
                }
                let share = counts.iter().sum::<u64>() / shards as u64;
                let most = share + share / 4 + MARGIN_LEAST + 1;
                assert!(counts.iter().all(|count| *count <= most), "{counts:?}");
            }
        }
    }
}
