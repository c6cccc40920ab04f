//! What a completion tells about its origin: the 64 bits of `user_data`.
//!
//! ```text
//! 63      56 55            32 31             0
//! +---------+----------------+---------------+
//! |  verb   |   generation   |     index     |
//! +---------+----------------+---------------+
//! ```
//!
//! The index names an entry of a slab, the generation tells its successive tenants apart, so that a
//! late completion of a dead connection can never touch the one that took its place.

/// A connection of one shard: where it lives, and which tenant of that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Entry of the connection slab.
    pub index: u32,
    /// Tenant of that entry, below [`Key::GENERATIONS`].
    pub generation: u32,
}

impl Key {
    /// How the connection is named to whoever runs the server, such as `1-204-7`: by its shard, its
    /// place there and which of the place's tenants it is.
    pub fn name(self, shard: usize) -> String {
        format!("{shard}-{}-{}", self.index, self.generation)
    }

    /// Generations wrap here: 24 bits.
    pub const GENERATIONS: u32 = 1 << 24;
}

/// A socket on its way from one ring to another: both know it by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The participant of the mesh that hands it over, below [`Key::GENERATIONS`].
    pub from: u32,
    /// Tells it from the others of that participant.
    pub serial: u32,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verb {
    Accept = 1,
    Receive,
    Poll,
    Send,
    Finish,
    Shutdown,
    Install,
    Reset,
    Close,
    Cancel,
    Wake,
    Connect,
    Look,
    Measure,
    HandOver,
    Adopt,
}

impl Verb {
    fn from_bits(bits: u8) -> Option<Self> {
        const ALL: [Verb; 16] = [
            Verb::Accept,
            Verb::Receive,
            Verb::Poll,
            Verb::Send,
            Verb::Finish,
            Verb::Shutdown,
            Verb::Install,
            Verb::Reset,
            Verb::Close,
            Verb::Cancel,
            Verb::Wake,
            Verb::Connect,
            Verb::Look,
            Verb::Measure,
            Verb::HandOver,
            Verb::Adopt,
        ];
        ALL.get(usize::from(bits.wrapping_sub(1))).copied()
    }
}

/// A verb and whom it concerns, as it travels through the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) verb: Verb,
    pub(super) key: Key,
}

impl Token {
    /// A token of `verb` for the connection `key`.
    pub(super) fn new(verb: Verb, key: Key) -> Self {
        Self { verb, key }
    }

    /// A token that names an entry of another table than the connections.
    pub(super) fn indexed(verb: Verb, index: u32) -> Self {
        Self { verb, key: Key { index, generation: 0 } }
    }

    pub(super) fn to_bits(self) -> u64 {
        debug_assert!(self.key.generation < Key::GENERATIONS);
        (self.verb as u64) << 56 | u64::from(self.key.generation) << 32 | u64::from(self.key.index)
    }

    /// The token in `bits`; `None` when no request of ours carried them.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let verb = Verb::from_bits((bits >> 56) as u8)?;
        let generation = (bits >> 32) as u32 % Key::GENERATIONS;
        Some(Self { verb, key: Key { index: bits as u32, generation } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_survives_the_kernel() {
        for bits in 0..=u8::MAX {
            let Some(verb) = Verb::from_bits(bits) else { continue };
            assert_eq!(verb as u8, bits);
            let key = Key { index: u32::MAX - 7, generation: Key::GENERATIONS - 1 };
            let token = Token::new(verb, key);
            assert_eq!(Token::from_bits(token.to_bits()), Some(token));
        }
        assert_eq!(Token::from_bits(0), None);
        assert_eq!(Token::from_bits(u64::MAX), None);
    }
}
