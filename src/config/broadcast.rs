//! What clients may do with the topics of `/broadcast/{topic}`.

use clap::ValueEnum;

/// What clients may do with the topics of `/broadcast/{topic}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BroadcastAccess {
    /// Subscribe and publish.
    Full,
    /// Subscribe; a message closes the connection with 1008.
    ReadOnly,
    /// Nothing: the upgrade is answered 403.
    None,
}
