//! The keys by which applications may call the API.

use thiserror::Error;

/// Keys, one of which a call has to have.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ApiKeys(Vec<Box<[u8]>>);

/// What is wrong with a list of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ApiKeyFault {
    /// A key that anybody could try out.
    #[error(
        "has a line {0} that is no key: allowed are {KEY_BYTES_LEAST} and more visible characters"
    )]
    NoKey(usize),
    /// Nobody could call.
    #[error("has no key")]
    Empty,
}

impl std::fmt::Debug for ApiKeys {
    /// Tells no keys.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} keys", self.0.len())
    }
}

impl ApiKeys {
    /// Reads a list of keys, a line each. Empty lines and those that begin with `#` are left out.
    ///
    /// # Errors
    /// A line that is no key, or no line.
    pub fn parse(text: &str) -> Result<Self, ApiKeyFault> {
        let lines = text.lines().map(str::trim).enumerate();
        let mut keys = Vec::new();
        for (place, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let is_key =
                line.len() >= KEY_BYTES_LEAST && line.bytes().all(|it| it.is_ascii_graphic());
            if !is_key {
                return Err(ApiKeyFault::NoKey(place + 1));
            }
            keys.push(line.as_bytes().into());
        }
        if keys.is_empty() { Err(ApiKeyFault::Empty) } else { Ok(Self(keys)) }
    }

    /// The keys.
    pub fn keys(&self) -> &[Box<[u8]>] {
        &self.0
    }
}

/// A key that is tried out at any speed is not found within a lifetime.
const KEY_BYTES_LEAST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_key() {
        let keys = ApiKeys::parse("# of the shop\nabcdefgh\n\n  12345678-x \n").expect("keys");
        assert_eq!(keys.keys(), [Box::from(*b"abcdefgh") as Box<[u8]>, Box::from(*b"12345678-x")]);
        for (text, fault) in [
            ("", ApiKeyFault::Empty),
            ("# nothing\n", ApiKeyFault::Empty),
            ("abcdefgh\nshort\n", ApiKeyFault::NoKey(2)),
            ("two words here\n", ApiKeyFault::NoKey(1)),
        ] {
            assert_eq!(ApiKeys::parse(text), Err(fault), "{text}");
        }
    }
}
