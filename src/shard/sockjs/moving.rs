//! Requests for sessions of other shards, which move there with their connections.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::http::SessionKey;
use crate::io::{Io, Key};
use crate::shard::connections::Connection;
use crate::shard::ending::Ending;
use crate::shard::pause::WaitsFor;
use crate::shard::{RunState, Shard};

/// Connections that are to move, and the shards that they are to move to.
#[derive(Default)]
pub(in crate::shard) struct Moving {
    line: VecDeque<(Key, usize)>,
}

impl Moving {
    /// Whether some wait for a place.
    pub(in crate::shard) fn has_waiting(&self) -> bool {
        !self.line.is_empty()
    }
}

impl<I: Io> Shard<I> {
    /// A request waits to go on with the shard that has its session.
    pub(in crate::shard) fn await_owner(&mut self, key: Key) {
        let Some(shard) = self.output.owner.take() else {
            debug_assert!(false, "it is known which shard has the session");
            return;
        };
        self.sockjs.moving.line.push_back((key, shard));
    }

    /// Moves those who can, each in its turn. Who cannot at all is told so.
    pub(super) fn move_to_owners(&mut self) {
        for _ in 0..self.sockjs.moving.line.len() {
            let Some((key, shard)) = self.sockjs.moving.line.pop_front() else { return };
            let Some(connection) = self.connections.get(key) else { continue };
            if connection.waits_for != Some(WaitsFor::Owner) || connection.ending.has_begun() {
                continue;
            }
            if connection.ending == Ending::Leaving || self.move_to(key, shard) {
                // Until it has left it may stay after all.
                self.sockjs.moving.line.push_back((key, shard));
            } else if self.run_state != RunState::Serving || !self.io.can_hand_over() {
                self.refuse_to_move(key);
            } else {
                self.sockjs.moving.line.push_back((key, shard));
            }
        }
    }

    /// Those whose requests are to go on with other shards.
    pub(in crate::shard) fn waiting_for_owners(&self) -> Vec<Key> {
        let waits = |it: &(Key, &Connection)| it.1.waits_for == Some(WaitsFor::Owner);
        self.connections.iter().filter(waits).map(|(key, _)| key).collect()
    }

    /// Which session one of this name is below a base, and which other shard has it.
    pub(in crate::shard) fn owner_of_sessions(
        &self,
    ) -> impl Fn(&str, &str) -> (SessionKey, Option<usize>) + use<I> {
        let (seed, number) = (self.shared.seed, self.number);
        let shards = self.effective.config.engine.shards;
        move |base, name| owner(seed, shards, number, base, name)
    }

    fn refuse_to_move(&mut self, key: Key) {
        let retry_after_s = self.peers.retry_after.next_s();
        self.command(key, |connection, output| {
            connection.waits_for = None;
            connection.stage.time_out_request(true, retry_after_s, output);
        });
        self.settle(key);
    }
}

/// Which session one of this name is below a base, and the shard that has it, unless that is this
/// one. Nobody who does not know the seed can tell one or the other.
fn owner(
    seed: u64,
    shards: usize,
    number: usize,
    base: &str,
    name: &str,
) -> (SessionKey, Option<usize>) {
    let hash = |half: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, "sockjs", half, base, name).hash(&mut hasher);
        hasher.finish()
    };
    let (high, low) = (hash(0), hash(1));
    let owner = (high % shards.max(1) as u64) as usize;
    (u128::from(high) << 64 | u128::from(low), (owner != number).then_some(owner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_one_of_its_base_and_has_one_owner() {
        let (key, shard) = owner(1, 4, 0, "/a", "s");
        let home = shard.unwrap_or(0);
        for number in 0..4 {
            let elsewhere = (number != home).then_some(home);
            assert_eq!(owner(1, 4, number, "/a", "s"), (key, elsewhere));
        }
        for (seed, base, name) in [(2, "/a", "s"), (1, "/b", "s"), (1, "/a", "t"), (1, "/as", "")] {
            assert_ne!(owner(seed, 4, 0, base, name).0, key, "{seed} {base} {name}");
        }
    }
}
