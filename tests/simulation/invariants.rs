//! What must hold for every connection after every turn of the event loop.

use ringwire::config::Config;
use ringwire::io::Key;
use ringwire::shard::Shard;
use ringwire::shard::connections::{Connection, Marks};
use ringwire::shard::ending::Ending;
use ringwire::shard::pause::WaitsFor;
use ringwire::shard::requests::Requests;

use crate::kernel::Kernel;

/// Checks all connections of a shard; `pages` tells whether clients ask for pages.
pub fn check(shard: &mut Shard<Kernel>, config: &Config, pages: bool) {
    check_lists(shard);
    check_kept_alive(shard);
    let connections: Vec<_> = shard.connections().iter().map(|(key, _)| key).collect();
    for key in connections {
        let under_way = shard.io().contract.requests(key);
        let chaos = &shard.io().chaos;
        let buffers = usize::from(chaos.buffers) * chaos.buffer_bytes as usize;
        let has_finished = shard.io().has_finished(key);
        let sealed = shard.sealed_bytes(key);
        let sealed_ahead = sealed.map_or(0, |bytes| bytes + shard.io().sending(key));
        assert!(sealed_ahead <= SEALED_MOST, "{sealed_ahead} bytes are sealed ahead");
        let connection = shard.connections().get(key).expect("listed above");
        let has_pending_input = shard.has_pending_input(key);
        let waits = connection.waits_for.is_some();
        let is_leaving = connection.ending == Ending::Leaving;
        assert!(
            waits || is_leaving || !has_pending_input,
            "input forgotten: {}",
            summary(connection)
        );
        check_requests(connection, under_way);
        check_ending(connection, has_finished);
        if !is_leaving {
            check_progress(connection);
        }
        let pages = if pages { PAGES_BYTES } else { 0 };
        // What has come while a request was judged is answered at once.
        let kept = if config.backend.url.is_some() { buffers } else { 0 };
        check_memory(connection, buffers + kept + pages, config);
    }
}

/// Whoever waits for its turn, for room, for memory or for a buffer is on the one list that brings
/// it back.
fn check_lists(shard: &Shard<Kernel>) {
    let (lists, starved) = (shard.waiting_lists(), shard.starved());
    for (key, connection) in shard.connections().iter() {
        let times = |listed: &[Key]| listed.iter().filter(|other| **other == key).count();
        for (reason, listed) in &lists {
            let (waits, times) = (connection.waits_for == Some(*reason), times(listed));
            let summary = summary(connection);
            assert!(!waits || times == 1, "listed {times} times for {reason:?}: {summary}");
        }
        let times = times(&starved);
        let is_once = !connection.has(Marks::STARVED) || times == 1;
        assert!(is_once, "listed {times} times for a buffer: {}", summary(connection));
    }
}

/// As many are counted among those that are kept for a further request as there are.
fn check_kept_alive(shard: &Shard<Kernel>) {
    let connections = shard.connections().iter();
    let kept = connections.filter(|(_, connection)| connection.stage.is_kept_alive()).count();
    assert_eq!(shard.stats().plain_kept_alive.value(), kept as u64, "kept for a further request");
}

/// What the connection notes is what is under way.
fn check_requests(connection: &Connection, under_way: Requests) {
    let noted = connection.requests - Requests::RECEIVE_CANCELLED;
    assert_eq!(noted, under_way, "requests: {}", summary(connection));
    let is_cancelled = connection.requests.contains(Requests::RECEIVE_CANCELLED);
    let is_receiving = connection.requests.contains(Requests::RECEIVE);
    assert!(is_receiving || !is_cancelled, "nothing is cancelled: {}", summary(connection));
}

/// How far the end has come is what the peer has been told of it, but for what is on its way.
fn check_ending(connection: &Connection, has_finished: bool) {
    let requests = connection.requests;
    match connection.ending {
        Ending::Open | Ending::Finishing | Ending::Leaving => {
            assert!(!has_finished, "the peer was told the end: {}", summary(connection));
        }
        Ending::Finished => {
            let is_on_its_way = requests.intersects(Requests::SEND | Requests::FINISH);
            assert!(has_finished || is_on_its_way, "no end was told: {}", summary(connection));
        }
        Ending::Doomed | Ending::ShutDown => {}
    }
}

/// Something will happen next, whatever the peer does.
fn check_progress(connection: &Connection) {
    let requests = connection.requests;
    assert!(!connection.has(Marks::DIRTY), "not flushed: {}", summary(connection));
    if connection.ending.is_over() {
        assert!(requests.is_any_under_way(), "never closed: {}", summary(connection));
        return;
    }
    let is_sending = requests.contains(Requests::SEND);
    assert!(is_sending || connection.outbox.is_empty(), "not sent: {}", summary(connection));
    let waits_for_peer = requests.intersects(Requests::RECEIVE | Requests::POLL);
    assert!(
        waits_for_peer || connection.is_held_up() || connection.has(Marks::PEER_FINISHED),
        "not received from: {}",
        summary(connection)
    );
    assert!(
        is_sending || connection.waits_for != Some(WaitsFor::Peer),
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
    let Connection { requests, waits_for, ending, outbox, .. } = connection;
    let (slot, marks, bytes) = (connection.slot(), connection.marks(), outbox.bytes());
    format!("slot {slot}, {requests:?}, {waits_for:?}, {ending:?}, {marks:?}, {bytes} bytes queued")
}

/// 64 KiB, and what records add to those.
const SEALED_MOST: usize = (64 << 10) + 1024;
/// Control frames and headers.
const SMALL_BYTES: usize = 4096;
/// Answers to the pipelined requests of one receive.
const PAGES_BYTES: usize = 17 * 16 * 1024;
