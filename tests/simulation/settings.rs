//! The configuration and the machine of one run, drawn from the seed.

use std::time::Duration;

use fastrand::Rng;
use ringwire::config::{
    Compression, CompressionMode, Config, Engine, Limits, MessageTypes, SlowConsumer,
};

use crate::kernel::Chaos;

/// What a run takes place in.
#[derive(Clone, Debug)]
pub struct Settings {
    pub config: Config,
    pub chaos: Chaos,
    pub clients: usize,
    /// Bytes that fit between client and server, for each direction.
    pub to_server_bytes: usize,
    pub to_client_bytes: usize,
    /// When the server is told to stop, should it still run.
    pub drain_in_round: u32,
    /// Whether it is told to stop before the clients are told to leave.
    pub drains_early: bool,
    /// When the clock jumps; never is zero.
    pub jump_in_round: u32,
    pub jump_ms: u64,
    /// Likelihood that memory is measured in a round, in percent.
    pub measurements: u8,
    /// Likelihood that a connection is to move to another shard after a turn, in percent.
    pub moves: u8,
    /// Likelihood that the same settings are put in force again before a round, in percent.
    pub reloads: u8,
    /// Likelihood that a shard is ordered something after a round, in percent.
    pub orders: u8,
    /// Deadlines that pass in silence before the next bursts.
    pub rests: u8,
}

impl Settings {
    pub fn draw(rng: &mut Rng) -> Self {
        let slots = if rng.u8(..6) == 0 { rng.u32(2..8) } else { 32 };
        Self {
            config: config(rng),
            chaos: chaos(rng, slots),
            clients: rng.usize(1..10),
            to_server_bytes: 1 << rng.u8(6..14),
            to_client_bytes: 1 << rng.u8(6..14),
            drain_in_round: if rng.u8(..6) == 0 { rng.u32(1..400) } else { 0 },
            drains_early: rng.bool(),
            jump_in_round: if rng.u8(..8) == 0 { rng.u32(1..300) } else { 0 },
            jump_ms: rng.u64(..300_000),
            measurements: 0,
            moves: 0,
            reloads: 0,
            orders: 0,
            rests: rng.u8(..6),
        }
    }
}

fn config(rng: &mut Rng) -> Config {
    let types = [MessageTypes::Any, MessageTypes::Any, MessageTypes::Text, MessageTypes::Binary];
    let policies = [
        SlowConsumer::Disconnect,
        SlowConsumer::DropNewest,
        SlowConsumer::DropOldest,
        SlowConsumer::Latest,
    ];
    Config {
        message_types: *rng.choice(&types).expect("some"),
        slow_consumer: *rng.choice(&policies).expect("some"),
        limits: Limits {
            connections: if rng.u8(..8) == 0 { Some(rng.usize(1..6)) } else { None },
            message_bytes: *rng.choice(&[300, 2000, 70_000]).expect("some"),
            message_fragments: 40,
            control_frames_per_second: 1_000_000,
            handshake_timeout: seconds(rng.u64(5..10)),
            idle_timeout: if rng.u8(..6) == 0 { None } else { Some(seconds(rng.u64(4..20))) },
            close_timeout: seconds(rng.u64(2..6)),
            lifetime: if rng.u8(..8) == 0 { Some(seconds(rng.u64(1..30))) } else { None },
            backlog_bytes: 256 << rng.u8(..9),
            ..Limits::default()
        },
        engine: Engine {
            shards: rng.usize(1..4),
            park_after: if rng.bool() {
                Some(Duration::from_millis(rng.u64(50..3000)))
            } else {
                None
            },
            broadcast_ring_slots: 1 << rng.u8(1..7),
            ..Engine::default()
        },
        drain: seconds(rng.u64(..10)),
        compression: compression(rng),
        ..Config::default()
    }
}

/// Drawn aside, so that all else stays as it is without compression.
fn compression(rng: &Rng) -> Compression {
    let mut aside = Rng::with_seed(!rng.get_seed());
    let modes = [CompressionMode::Off, CompressionMode::Shared, CompressionMode::Dedicated];
    Compression {
        mode: *aside.choice(&modes).expect("some"),
        level: aside.u8(..=9),
        window_bits: aside.u8(9..=15),
        threshold_bytes: *aside.choice(&[0, 20, 200]).expect("some"),
    }
}

fn chaos(rng: &mut Rng, slots: u32) -> Chaos {
    let mut sometimes = |most: u8| if rng.bool() { rng.u8(..most) } else { 0 };
    let (short, end, again) = (sometimes(100), sometimes(40), sometimes(40));
    let late = sometimes(60);
    let (no_buffers, no_memory, early) = (sometimes(20), sometimes(30), sometimes(30));
    Chaos {
        ready: rng.u8(20..=100),
        short,
        end,
        again,
        no_buffers,
        no_memory,
        late,
        early,
        socket_options: rng.u8(..4) > 0,
        incremental: rng.bool(),
        buffers: 1 << rng.u8(..5),
        buffer_bytes: 32 << rng.u8(..8),
        slots,
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
