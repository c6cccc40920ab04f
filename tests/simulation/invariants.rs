//! What must hold for every connection after every turn of the event loop.

use ringwire::config::Config;
use ringwire::shard::Shard;
use ringwire::shard::connections::{Connection, Flags};

use crate::kernel::Kernel;

/// Checks all connections of a shard; `pages` tells whether clients ask for pages.
pub fn check(shard: &mut Shard<Kernel>, config: &Config, pages: bool) {
    check_lists(shard);
    check_kept_alive(shard);
    let connections: Vec<_> = shard.connections().iter().map(|(key, _)| key).collect();
    for key in connections {
        let under_way = shard.io().contract.flags(key);
        let chaos = &shard.io().chaos;
        let buffers = usize::from(chaos.buffers) * chaos.buffer_bytes as usize;
        let connection = shard.connections().iter().find(|(other, _)| *other == key);
        let (_, connection) = connection.expect("listed above");
        let has_pending_input = shard.has_pending_input(key);
        let may_wait = connection.flags.intersects(Flags::AWAITS);
        assert!(may_wait || !has_pending_input, "input forgotten: {}", summary(connection));
        check_requests(connection, under_way);
        check_progress(connection);
        let pages = if pages { PAGES_BYTES } else { 0 };
        check_memory(connection, buffers + pages, config);
    }
}

/// Whoever waits for its turn, for room, for memory or for a buffer is on the one list that brings
/// it back.
fn check_lists(shard: &Shard<Kernel>) {
    for (flag, listed) in shard.waiting_lists() {
        for (key, connection) in shard.connections().iter() {
            let times = listed.iter().filter(|other| **other == key).count();
            let waits = connection.flags.contains(flag);
            assert!(
                !waits || times == 1,
                "listed {times} times for {flag:?}: {}",
                summary(connection)
            );
        }
    }
}

/// As many are counted among those that are kept for a further request as there are.
fn check_kept_alive(shard: &Shard<Kernel>) {
    let connections = shard.connections().iter();
    let kept = connections.filter(|(_, connection)| connection.stage.is_kept_alive()).count();
    assert_eq!(shard.stats().plain_kept_alive.value(), kept as u64, "kept for a further request");
}

/// The flags say what is under way.
fn check_requests(connection: &Connection, under_way: Flags) {
    let flags = connection.flags & Flags::UNDER_WAY;
    assert_eq!(flags, under_way & Flags::UNDER_WAY, "flags and requests: {}", summary(connection));
}

/// Something will happen next, whatever the peer does.
fn check_progress(connection: &Connection) {
    let flags = connection.flags;
    let waits_for_peer = flags.intersects(Flags::RECEIVING | Flags::POLLING | Flags::STARVED);
    assert!(!flags.contains(Flags::DIRTY), "not flushed: {}", summary(connection));
    if flags.contains(Flags::DOOMED) {
        assert!(flags.intersects(Flags::UNDER_WAY), "never closed: {}", summary(connection));
        return;
    }
    let is_sending = flags.contains(Flags::SENDING);
    assert!(is_sending || connection.outbox.is_empty(), "not sent: {}", summary(connection));
    assert!(
        waits_for_peer || flags.intersects(Flags::AWAITS | Flags::PEER_FINISHED),
        "not received from: {}",
        summary(connection)
    );
    let reasons = (flags & Flags::AWAITS).bits().count_ones();
    assert!(reasons <= 1, "waits for one thing: {}", summary(connection));
    assert!(
        is_sending || !flags.contains(Flags::AWAITS_PEER),
        "no send will end the wait: {}",
        summary(connection)
    );
}

/// What waits for a peer is bounded.
fn check_memory(connection: &Connection, received: usize, config: &Config) {
    let limits = &config.limits;
    // A send in flight counts with its leftover, and one receive of everything comes on top, as
    // does what was received until the receive ended.
    let message = limits.message_bytes as usize + received;
    let most = limits.backlog_bytes + 2 * message + received + SMALL_BYTES;
    let bytes = connection.outbox.bytes();
    assert!(bytes <= most, "{bytes} bytes wait, at most {most}: {}", summary(connection));
}

/// What tells a connection's state, without the bytes that it holds.
fn summary(connection: &Connection) -> String {
    let Connection { slot, generation, flags, outbox, .. } = connection;
    format!("slot {slot}.{generation}, {flags:?}, {} bytes queued", outbox.bytes())
}

/// Control frames and headers.
const SMALL_BYTES: usize = 4096;
/// Answers to the pipelined requests of one receive.
const PAGES_BYTES: usize = 17 * 16 * 1024;
