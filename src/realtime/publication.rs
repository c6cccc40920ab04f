//! What is published to a channel, and by whom: shared by all that keep, encode and deliver it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::protocol;

/// A client of a channel, as others see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// Who it is; empty for an anonymous one.
    pub user: Arc<str>,
    /// The id of its connection, which no other has.
    pub client: Arc<str>,
    /// What the application says of the connection; empty where it says nothing.
    pub conn_info: Arc<[u8]>,
    /// What the application says of it in this channel; empty where it says nothing.
    pub chan_info: Arc<[u8]>,
}

impl ClientInfo {
    /// Memory that it takes, as if it shared nothing.
    pub fn held_bytes(&self) -> usize {
        let texts = self.user.len() + self.client.len();
        size_of::<Self>() + texts + self.conn_info.len() + self.chan_info.len() + 5 * ARC_BYTES
    }
}

/// A message of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// Its place in the stream of its channel, given by the log: at least 1, or 0 where nothing is
    /// kept of the channel. Only the log computes with it.
    pub offset: u64,
    /// When it was published, in milliseconds since 1970; 0 where that is not told.
    pub time_ms: u64,
    /// What was published.
    pub data: Arc<[u8]>,
    /// Whether the data is known to be JSON, and with that UTF-8.
    pub is_json: bool,
    /// The client that published it; none where the application did.
    pub info: Option<Arc<ClientInfo>>,
    /// What the application says of it, for filters among others.
    pub tags: BTreeMap<String, String>,
}

impl Publication {
    /// Memory that it takes, as if it shared nothing.
    pub fn held_bytes(&self) -> usize {
        let info = self.info.as_ref().map_or(0, |info| info.held_bytes());
        let tags = self.tags.iter().map(|(name, value)| name.len() + value.len() + TAG_BYTES);
        size_of::<Self>() + self.data.len() + 2 * ARC_BYTES + info + tags.sum::<usize>()
    }
}

impl From<&ClientInfo> for protocol::ClientInfo {
    fn from(info: &ClientInfo) -> Self {
        Self {
            user: info.user.to_string(),
            client: info.client.to_string(),
            conn_info: info.conn_info.to_vec(),
            chan_info: info.chan_info.to_vec(),
        }
    }
}

impl From<&Publication> for protocol::Publication {
    fn from(publication: &Publication) -> Self {
        Self {
            data: publication.data.to_vec(),
            info: publication.info.as_deref().map(Into::into),
            offset: publication.offset,
            tags: publication.tags.clone(),
            time: publication.time_ms as i64,
            ..Self::default()
        }
    }
}

impl Publication {
    /// The same for those who get differences, to whom data is always a text in JSON.
    pub fn in_full(&self) -> protocol::Publication {
        let mut data = Vec::new();
        protocol::write_string(&String::from_utf8_lossy(&self.data), &mut data);
        protocol::Publication { data, ..self.into() }
    }
}

/// The counters of an `Arc`, and what the allocator rounds up.
const ARC_BYTES: usize = 24;
/// What a tag takes in its map beside its texts.
const TAG_BYTES: usize = 64;
