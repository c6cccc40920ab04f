//! Epochs: which life of a stream an offset belongs to.

use std::fmt;

/// Eight letters that tell one life of a stream from every other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch([u8; LETTERS]);

impl Epoch {
    /// That of a channel of which nothing is kept; its text is empty.
    pub const NONE: Self = Self([0; LETTERS]);

    /// As clients see it.
    pub fn as_str(&self) -> &str {
        if *self == Self::NONE {
            return "";
        }
        // Letters are ASCII, so this never is the default.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The epoch of a text that [`as_str`](Self::as_str) has made.
    pub fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::NONE);
        }
        let letters: [u8; LETTERS] = text.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_alphabetic).then_some(Self(letters))
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Epoch({})", self.as_str())
    }
}

/// Draws epochs: numbers of `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators", OOPSLA 2014). They need to differ, and need not be secret.
#[derive(Debug)]
pub(super) struct Epochs {
    state: u64,
}

impl Epochs {
    /// Equal seeds draw equal epochs, so every process, and every shard of it, needs its own.
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next one.
    pub(super) fn draw(&mut self) -> Epoch {
        let mut letters = [0; LETTERS];
        let mut number = self.number();
        for letter in &mut letters {
            *letter = ALPHABET[(number % ALPHABET.len() as u64) as usize];
            number /= ALPHABET.len() as u64;
        }
        Epoch(letters)
    }

    fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

const LETTERS: usize = 8;
const ALPHABET: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn epochs_are_letters_and_differ() {
        let mut epochs = Epochs::new(7);
        let drawn: HashSet<Epoch> = (0..10_000).map(|_| epochs.draw()).collect();
        assert_eq!(drawn.len(), 10_000);
        for epoch in drawn {
            assert!(epoch.as_str().len() == 8 && epoch != Epoch::NONE);
            assert_eq!(Epoch::from_text(epoch.as_str()), Some(epoch));
        }
        assert_eq!((Epoch::NONE.as_str(), Epoch::from_text("")), ("", Some(Epoch::NONE)));
        assert!(Epoch::from_text("abc").is_none() && Epoch::from_text("abcdefg1").is_none());
        assert_eq!(Epochs::new(1).draw(), Epochs::new(1).draw());
    }
}
