//! The kernel abilities that the server uses where it finds them, and that can be disabled.

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// An optional ability: used when the kernel has it, done without otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// The ring is entered by its registered index, which saves a look-up each time (kernel 5.18).
    RegisteredRing,
    /// A socket in the table of one ring is put into that of another, so that a connection can move
    /// to another shard (kernel 6.0).
    HandOver,
    /// No indirection array in the submission queue (kernel 6.6).
    NoSqArray,
    /// `setsockopt` through the ring, which resets a peer that does not finish closing (kernel
    /// 6.7).
    SocketOptions,
    /// A descriptor of the process for a direct one, which ends a stream without a worker thread
    /// (kernel 6.8).
    DescriptorInstall,
    /// Receive buffers that are filled piece by piece (kernel 6.12).
    IncrementalBuffers,
    /// Waiting for a batch of completions with an upper bound in time (kernel 6.12).
    MinWait,
}

impl Ability {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] = [
        Self::RegisteredRing,
        Self::HandOver,
        Self::NoSqArray,
        Self::SocketOptions,
        Self::DescriptorInstall,
        Self::IncrementalBuffers,
        Self::MinWait,
    ];

    /// The name that the start line prints and `--disable` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::RegisteredRing => "registered-ring",
            Self::HandOver => "hand-over",
            Self::NoSqArray => "no-sqarray",
            Self::SocketOptions => "socket-options",
            Self::DescriptorInstall => "descriptor-install",
            Self::IncrementalBuffers => "incremental-buffers",
            Self::MinWait => "min-wait",
        }
    }

    /// The kernel that brought it.
    pub fn since(self) -> &'static str {
        match self {
            Self::RegisteredRing => "5.18",
            Self::HandOver => "6.0",
            Self::NoSqArray => "6.6",
            Self::SocketOptions => "6.7",
            Self::DescriptorInstall => "6.8",
            Self::IncrementalBuffers | Self::MinWait => "6.12",
        }
    }
}

impl ValueEnum for Ability {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}
