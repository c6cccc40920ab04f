//! How a connection is named to whoever runs the server: by its shard, its place there and which of
//! the place's tenants it is. A connection that moves to another shard gets another name.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::io::Key;

/// The name of a connection, such as `1-204-7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionId {
    pub(super) shard: usize,
    pub(super) key: Key,
}

/// The text names no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an id is three numbers, such as 1-204-7: see GET /connections")]
pub(super) struct NoConnectionId;

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.key.name(self.shard))
    }
}

impl FromStr for ConnectionId {
    type Err = NoConnectionId;

    fn from_str(text: &str) -> Result<Self, NoConnectionId> {
        let numbers: Option<Vec<u32>> = text.split('-').map(number).collect();
        match numbers.as_deref() {
            Some(&[shard, index, generation]) if generation < Key::GENERATIONS => {
                Ok(Self { shard: shard as usize, key: Key { index, generation } })
            }
            _ => Err(NoConnectionId),
        }
    }
}

/// A number as it is printed, so that a connection has one name.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number: &u32| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read(shard: u16, index: u32, generation in 0..Key::GENERATIONS) {
            let id = ConnectionId { shard: shard.into(), key: Key { index, generation } };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in
            ["", "1", "1-2", "1-2-3-4", "1-2-", "-1-2", "1-2-+3", "01-2-3", "1-2-16777216", "a-b-c"]
        {
            assert_eq!(text.parse::<ConnectionId>(), Err(NoConnectionId), "{text}");
        }
    }
}
