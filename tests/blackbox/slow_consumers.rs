//! A subscriber that really stops reading: each policy, and what the others see of it (nothing).
//!
//! The publisher goes on batch by batch, each after the healthy subscriber has confirmed the one
//! before. So progress itself shows that nobody waits for the slow one, without looking at a clock.

use crate::SHARD_COUNTS;
use crate::peer::{CLOSE, FIN, PING, PONG, Peer, TEXT, close_payload, frame};
use crate::server::{Server, wait_until};

#[test]
fn disconnect_closes_with_1013_and_a_reason() {
    for shards in SHARD_COUNTS {
        let mut scene = Scene::set(shards, "disconnect");
        scene.publish_until_dropped();
        let Scene { server, mut slow, published, .. } = scene;
        let mut numbers = Vec::new();
        let (code, reason) = loop {
            let frame = slow.read_frame();
            match frame.opcode {
                TEXT => numbers.push(number(&frame.payload)),
                PONG => {}
                CLOSE => break close_payload(&frame.payload),
                _ => panic!("unexpected {frame:.60?}"),
            }
        };
        assert_eq!(code, 1013);
        assert!(!reason.is_empty());
        assert!(numbers.iter().copied().eq(0..numbers.len()), "what came before has no gap");
        assert!(numbers.len() < published);
        slow.send_close(1013);
        slow.expect_end_or_reset();
        let stats = server.stats();
        assert_eq!(stats.closes("local", 1013), 1);
        assert!(stats.dropped("disconnect") > 0);
        server.stop();
    }
}

#[test]
fn drop_newest_keeps_what_was_queued_first() {
    for shards in SHARD_COUNTS {
        let mut scene = Scene::set(shards, "drop-newest");
        scene.publish_until_dropped();
        let (numbers, dropped) = scene.resume("drop_newest");
        let kept = numbers.len();
        assert_eq!(kept as u64 + dropped, scene.published as u64, "dropped and counted");
        assert!(numbers.is_sorted_by(|a, b| a < b), "what remains is in order");
        assert_eq!(numbers.first(), Some(&0), "the oldest is there");
        // Where the kernel has taken something after all, a later one may have found room.
        let in_a_row = numbers.iter().zip(0..).take_while(|(number, place)| *number == place);
        assert!(in_a_row.count() * 10 >= kept * 9, "what came first is kept: {numbers:?}");
        scene.publish_and_receive();
        scene.server.stop();
    }
}

#[test]
fn drop_oldest_keeps_what_was_queued_last() {
    for shards in SHARD_COUNTS {
        let mut scene = Scene::set(shards, "drop-oldest");
        scene.publish_until_dropped();
        let (numbers, dropped) = scene.resume("drop_oldest");
        assert_eq!(numbers.len() as u64 + dropped, scene.published as u64, "dropped and counted");
        assert!(numbers.is_sorted_by(|a, b| a < b), "what remains is in order");
        assert_eq!(numbers.last(), Some(&(scene.published - 1)), "the newest is there");
        scene.publish_and_receive();
        scene.server.stop();
    }
}

#[test]
fn latest_keeps_the_arriving_message_alone() {
    for shards in SHARD_COUNTS {
        let mut scene = Scene::set(shards, "latest");
        scene.publish_until_dropped();
        let (numbers, dropped) = scene.resume("latest");
        assert_eq!(numbers.len() as u64 + dropped, scene.published as u64, "dropped and counted");
        assert!(numbers.is_sorted_by(|a, b| a < b), "what remains is in order");
        assert_eq!(numbers.last(), Some(&(scene.published - 1)), "the newest is there");
        scene.publish_and_receive();
        scene.server.stop();
    }
}

#[test]
fn an_echo_client_that_does_not_read_is_throttled_and_loses_nothing() {
    let server = Server::start(1, &[]);
    let before = server.peak_resident_bytes();
    let mut client = Peer::connect_narrow(server.address()).upgraded("/echo");
    let mut writer = client.writer();
    let sender = std::thread::spawn(move || {
        use std::io::Write;
        for number in 0..ECHOES {
            writer.write_all(&frame(FIN | TEXT, &sized(number)))?;
        }
        std::io::Result::Ok(())
    });
    // Both socket buffers and the backlog are full.
    wait_until("the server stops reading", || server.stats().receives_paused() > 0);
    assert!(server.stats().messages_in() < ECHOES as u64, "all is taken, so nobody was throttled");
    for number in 0..ECHOES {
        client.expect(TEXT, &sized(number));
    }
    sender.join().expect("no panic").expect("all is sent");
    let grown = server.peak_resident_bytes() - before;
    assert!(grown < RESIDENT_GROWTH_BYTES, "{} KiB more were resident", grown / 1024);
    server.stop();
}

/// A topic with one publisher, one healthy subscriber and one that does not read.
struct Scene {
    server: Server,
    publisher: Peer,
    healthy: Peer,
    slow: Peer,
    policy: &'static str,
    published: usize,
}

impl Scene {
    fn set(shards: usize, policy: &'static str) -> Self {
        let flags = ["--slow-consumer", policy, "--max-backlog", "1MiB", "--close-timeout", "60s"];
        let server = Server::start(shards, &flags);
        let slow = Peer::connect_narrow(server.address()).upgraded("/broadcast/slow");
        Self {
            publisher: Peer::upgrade(server.address(), "/broadcast/slow?exclude_self=true"),
            healthy: Peer::upgrade(server.address(), "/broadcast/slow"),
            slow,
            server,
            policy,
            published: 0,
        }
    }

    /// Publishes until the slow one has lost messages, and as much again; memory stays bounded.
    fn publish_until_dropped(&mut self) {
        let key = self.policy.replace('-', "_");
        let before = self.server.resident_bytes();
        while self.server.stats().dropped(&key) == 0 {
            assert!(self.published < MESSAGES_MAX, "nothing is ever dropped");
            (0..BATCHES_BETWEEN_LOOKS).for_each(|_| self.publish_batch());
        }
        // Its queue is full now, and its ping must pass all the same.
        self.slow.send_unheard(&frame(FIN | PING, PING_PAYLOAD));
        for _ in 0..self.published / BATCH {
            self.publish_batch();
        }
        let grown = self.server.resident_bytes().saturating_sub(before);
        assert!(grown < RESIDENT_GROWTH_BYTES, "{} KiB more are resident", grown / 1024);
    }

    fn publish_batch(&mut self) {
        for number in self.published..self.published + BATCH {
            self.publisher.send_frame(TEXT, &sized(number));
        }
        for number in self.published..self.published + BATCH {
            self.healthy.expect(TEXT, &sized(number));
        }
        self.published += BATCH;
    }

    /// Lets the slow one read all that there is for it; its numbers and the count of those dropped.
    fn resume(&mut self, key: &str) -> (Vec<usize>, u64) {
        // Its shard may still be on its way through the ring.
        let delivered = 2 * self.published as u64;
        wait_until("the slow one's shard has taken all", || {
            let stats = self.server.stats();
            stats.deliveries() + stats.dropped(key) >= delivered
        });
        self.slow.send_frame(PING, b"end");
        let (mut numbers, mut ponged, mut ended) = (Vec::new(), false, false);
        let mut dropped = self.server.stats().dropped(key);
        // The second pong may overtake messages, so it alone does not say that all has come.
        while !(ended && numbers.len() as u64 + dropped >= delivered / 2) {
            if ended && !self.slow.has_input() {
                dropped = self.server.stats().dropped(key);
                continue;
            }
            let frame = self.slow.read_frame();
            match (frame.opcode, &frame.payload[..]) {
                (TEXT, payload) => numbers.push(number(payload)),
                (PONG, b"end") => ended = true,
                (PONG, PING_PAYLOAD) => ponged = true,
                _ => panic!("unexpected {frame:.60?}"),
            }
        }
        assert!(ponged, "the ping of the time without reading was answered");
        (numbers, self.server.stats().dropped(key))
    }

    /// Once it reads again, the slow one is a subscriber as any other.
    fn publish_and_receive(&mut self) {
        let first = self.published;
        self.publish_batch();
        for number in first..self.published {
            self.slow.expect(TEXT, &sized(number));
        }
    }
}

fn sized(number: usize) -> Vec<u8> {
    let mut payload = format!("{number:>8}").into_bytes();
    payload.resize(MESSAGE_BYTES, b'.');
    payload
}

fn number(payload: &[u8]) -> usize {
    assert_eq!(payload.len(), MESSAGE_BYTES);
    let digits = std::str::from_utf8(&payload[..8]).expect("ASCII");
    digits.trim().parse().expect("a number")
}

const PING_PAYLOAD: &[u8] = b"while not reading";
const MESSAGE_BYTES: usize = 16 * 1024;
/// Half of the backlog, so that the healthy one cannot become slow itself.
const BATCH: usize = 32;
/// So much is published between two looks at the counters that some of it is no longer new.
const BATCHES_BETWEEN_LOOKS: usize = 16;
/// 256 MiB: no kernel buffers as much for one socket.
const MESSAGES_MAX: usize = 16 * 1024;
/// What the server may take for a backlog of 1 MiB, rings and receive buffers included.
const RESIDENT_GROWTH_BYTES: u64 = 24 << 20;
/// 64 MiB.
const ECHOES: usize = 4096;
