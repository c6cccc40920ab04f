//! A message on its way from who has published it to the topic that it is for.

use std::sync::Arc;

use crate::realtime::filter::Tags;
use crate::wire::message::SharedMessage;

/// One message on its way to the subscribers of a topic.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The topic's name.
    pub topic: Arc<str>,
    /// What it says.
    pub message: SharedMessage,
    /// What is said of it to those who have filters; nothing where nothing is.
    pub tags: Option<Arc<Tags>>,
    /// When it came, by the clock of [`Topics::set_clock`](super::Topics::set_clock).
    pub at_us: u32,
}

/// Where a message was published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// On which other shard, if not here.
    pub(super) shard: Option<usize>,
    /// How many messages that one had sent to the others before; none if they did not get this.
    pub(super) position: Option<u64>,
}
