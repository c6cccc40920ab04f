//! Who may use the topics of `/broadcast/{topic}`.

use clap::ValueEnum;

/// Who may use the topics of `/broadcast/{topic}`, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BroadcastAccess {
    /// Everybody subscribes and publishes.
    Full,
    /// WebSockets subscribe, and a message closes them with 1008; what they get comes by POST.
    Post,
    /// Nobody: requests are answered 403.
    None,
}
