//! Topics and deliveries across shards; sees no socket and no clock, so it can be tested alone.

pub mod inbox;
pub mod interest;
pub mod mesh;
pub mod relay;
pub mod ring;
pub mod run;
pub mod topics;

use topics::Publication;

/// What the participants of the mesh tell all others.
#[derive(Clone, Debug)]
pub enum Message {
    /// A message for the subscribers of a topic.
    Publish(Publication),
    /// Close all connections and end.
    Drain(Departure),
}

/// Why a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It was told to.
    Stopped,
    /// Another server goes on with its listeners: this one accepts nothing any more.
    Succeeded,
}
