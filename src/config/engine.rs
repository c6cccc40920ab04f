//! How a shard uses its io_uring.

use std::thread;
use std::time::Duration;

use super::ability::Ability;
use super::form::{boolean, choice, count, duration, power_of_two, size};
use super::setting::{list, one, settings};
use crate::limits;

settings! {
    /// How a shard uses its io_uring.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Engine at (|config| &mut config.engine) {
        under Engine {
            /// Event loops, one thread each.
            pub shards: usize = available_cores().clamp(limits::SHARDS.least, limits::SHARDS.most),
                as one(count(&limits::SHARDS)).default_in_words("available cores"),
                named "shards" "COUNT",
                help "Event loops, a thread each; more than the cores hold more connections";

            /// Whether shard threads are pinned to cores, round robin.
            pub pin: bool = true,
                as one(boolean()),
                named "pin" "BOOLEAN",
                help "Pin each shard's thread to a core";

            /// Whether the soft `RLIMIT_NOFILE` is raised to the hard one at the start.
            pub raise_nofile: bool = true,
                as one(boolean()),
                named "raise-nofile" "BOOLEAN",
                help "Raise the soft RLIMIT_NOFILE, which bounds a shard's connections, to the \
                      hard one";

            /// Receive buffers of a shard, a power of two up to 32,768.
            pub receive_buffers: u16 = limits::RECEIVE_BUFFERS.default,
                as one(power_of_two(count(&limits::RECEIVE_BUFFERS))),
                named "receive-buffers" "COUNT",
                help "Receive buffers of a shard, shared by its connections";

            /// Bytes of one receive buffer.
            pub receive_buffer_bytes: u32 = limits::RECEIVE_BUFFER_BYTES.default,
                as one(power_of_two(size(&limits::RECEIVE_BUFFER_BYTES))),
                named "receive-buffer-size" "SIZE",
                help "Size of one receive buffer";

            /// Slots of a shard's broadcast ring, a power of two.
            pub broadcast_ring_slots: usize = limits::BROADCAST_RING_SLOTS.default,
                as one(power_of_two(count(&limits::BROADCAST_RING_SLOTS))),
                named "broadcast-ring" "COUNT",
                help "Messages in flight between shards, per shard; a full ring slows its \
                      publishers";

            /// Without traffic for this long, a connection waits on a one-shot poll; `None` is
            /// never.
            pub park_after: Option<Duration> = limits::PARK_AFTER.default,
                as one(duration(&limits::PARK_AFTER).or_off()),
                named "park-after" "TIME",
                help "Quiet time after which a connection gives its kernel memory back",
                live;

            /// Microseconds for which completions are gathered before a shard wakes for them,
            /// which saves CPU time at the price of that much latency; `None` wakes it for each.
            pub batch_wait_us: Option<u32> = limits::BATCH_WAIT_US.default,
                as one(count(&limits::BATCH_WAIT_US).or_off()),
                named "batch-wait-us" "COUNT",
                help "Microseconds to gather messages before waking for them: less CPU, more \
                      latency";

            /// Whether a shard with nothing to do looks for completions again and again instead of
            /// sleeping, which saves the time of waking at the price of a whole core.
            pub busy_poll: bool = false,
                as one(boolean()),
                named "busy-poll" "BOOLEAN",
                help "Spin instead of sleeping: less latency, for a whole core per shard at all \
                      times, also while nothing happens";

            /// Optional kernel abilities not to use even when present.
            pub disabled_abilities: Vec<Ability> = Vec::new(),
                as list(choice::<Ability>()).default_in_words("none"),
                named "disable" "ABILITY",
                help "Do not use this kernel ability even when it is present; may be repeated";
        }
    }
}

fn available_cores() -> usize {
    thread::available_parallelism().map_or(limits::SHARDS.default, usize::from)
}
