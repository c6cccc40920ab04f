//! Streams of topics: what their clients get, what ends them, and how they are told apart from the
//! dead.

use std::time::Duration;

use ringwire::config::SlowConsumer;
use ringwire::memory::Usage;

use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, TEXT};
use crate::network::{Read, SocketId};
use crate::story::Story;

/// A stream of `/broadcast/0` whose head has been read.
fn open(story: &mut Story, shard: usize, version: &str) -> (SocketId, Decoder) {
    let (socket, mut decoder) = (story.connect(shard), Decoder::default());
    story.write(socket, &frames::stream(0, version));
    story.settle(shard);
    let items = story.read(socket, &mut decoder);
    assert_eq!(items, [Item::Response { status: 200, closes: true }]);
    (socket, decoder)
}

fn line(text: &str) -> Item {
    Item::Line(text.as_bytes().to_vec())
}

/// Whether the server has ended the connection, all of which has been read; then the peer does the
/// same.
fn has_ended(story: &mut Story, socket: SocketId) -> bool {
    let read = story.network.borrow_mut().sockets[socket].client_read(1);
    story.network.borrow_mut().sockets[socket].client_finish();
    story.settle(0);
    matches!(read, Read::End(_))
}

fn closes(story: &Story, initiator: &str, code: &str) -> u64 {
    story.shared.stats.to_json()["closes"][initiator][code].as_u64().unwrap_or(0)
}

#[test]
fn members_on_every_shard_get_each_text_as_a_line() {
    let mut story = Story::new(2, |config, _| config.limits.backlog_bytes = 1 << 20);
    let mut streams: Vec<_> = [(0, "1.1"), (1, "1.1"), (1, "1.0"), (0, "1.1")]
        .map(|(shard, version)| (shard, open(&mut story, shard, version)))
        .into();
    assert_eq!((story.counter("streams_open"), story.counter("websockets_open")), (4, 0));
    let (publisher, mut decoder) = story.open(0, "/broadcast/0");
    // Some of it takes several ticks to be made into lines.
    let long = "x".repeat(20_000);
    for (opcode, text) in [
        (TEXT, "one"),
        (TEXT, "two\n"),
        (BINARY, "binary"),
        (TEXT, "not\nthree"),
        (TEXT, &*long),
        (TEXT, "not\rfour"),
        (TEXT, "caf\u{e9}"),
    ] {
        story.send(publisher, opcode, text.as_bytes());
    }
    for _ in 0..3 {
        (0..2).for_each(|shard| story.settle(shard));
    }
    let frames = story.read_all(0, publisher, &mut decoder);
    assert_eq!(frames.len(), 7, "frames say everything");
    for (shard, (socket, decoder)) in &mut streams {
        let items = story.read_all(*shard, *socket, decoder);
        assert_eq!(items, [line("one"), line("two"), line(&long), line("caf\u{e9}")]);
    }
    assert_eq!(story.counter("lines_left_out"), 4 * 3);
    assert_eq!(story.counter("deliveries"), 7 + 4 * 4);
}

#[test]
fn what_a_peer_sends_meanwhile_is_not_served_and_too_much_ends_the_stream() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, mut decoder) = open(&mut story, 0, "1.1");
    story.write(socket, frames::REQUESTS[0].0.as_bytes());
    story.settle(0);
    assert_eq!(story.read(socket, &mut decoder), []);
    for _ in 0..66 {
        story.write(socket, &[b'x'; 1000]);
        story.settle(0);
    }
    assert_eq!(story.read(socket, &mut decoder), []);
    assert!(has_ended(&mut story, socket), "and no last chunk");
    assert_eq!((closes(&story, "local", "1008"), story.waiting(socket)), (1, 0));
    assert_eq!(story.counter("streams_open"), 0);
}

#[test]
fn a_peer_that_closes_its_side_ends_its_stream() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, mut decoder) = open(&mut story, 0, "1.1");
    let (publisher, _) = story.open(0, "/broadcast/0?exclude_self=true");
    // More than fits between server and client: the end comes behind what waits.
    let text = "x".repeat(1500);
    for _ in 0..4 {
        story.send(publisher, TEXT, text.as_bytes());
        story.settle(0);
    }
    story.network.borrow_mut().sockets[socket].client_finish();
    story.settle(0);
    let items = story.read_all(0, socket, &mut decoder);
    let lines = std::iter::repeat_n(line(&text), 4);
    assert_eq!(items, lines.chain([Item::LastChunk]).collect::<Vec<_>>());
    assert!(has_ended(&mut story, socket));
    assert_eq!(closes(&story, "remote", "1000"), 1);
    let (socket, _) = open(&mut story, 0, "1.1");
    story.reset(socket);
    story.settle(0);
    assert_eq!((closes(&story, "remote", "1006"), story.counter("connections_open")), (1, 1));
}

/// However quiet its topic is, a stream says something at least every 15 s; streams do so at times
/// of their own, and none is closed for the silence of its peer.
#[test]
fn silence_is_broken_and_closes_nobody_who_reads() {
    let mut story = Story::new(1, |config, _| {
        config.limits.idle_timeout = Some(Duration::from_secs(20));
        config.engine.park_after = Some(Duration::from_secs(1));
    });
    let mut streams: Vec<_> =
        ["1.1", "1.0", "1.1"].iter().map(|version| open(&mut story, 0, version)).collect();
    let mut times = vec![Vec::new(); streams.len()];
    for tenth in 0..1200 {
        story.pass(Duration::from_millis(100));
        for (number, (socket, decoder)) in streams.iter_mut().enumerate() {
            for item in story.read(*socket, decoder) {
                assert_eq!(item, line(""));
                times[number].push(tenth);
            }
        }
    }
    for times in &times {
        let first = *times.first().expect("an empty line");
        let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(first <= 152 && gaps.iter().all(|gap| *gap == 150), "{first} {gaps:?}");
    }
    assert!(times[0][0] != times[1][0] && times[1][0] != times[2][0], "{times:?}");
    assert_eq!(story.counter("streams_open"), 3);
    assert!(story.counter("parked") >= 3);
}

#[test]
fn a_topic_that_speaks_needs_no_empty_lines() {
    let mut story = Story::new(1, |_, _| {});
    let (socket, mut decoder) = open(&mut story, 0, "1.1");
    let (publisher, mut own) = story.open(0, "/broadcast/0");
    for _ in 0..30 {
        story.send(publisher, TEXT, b"tick");
        story.pass(Duration::from_secs(2));
        story.read(publisher, &mut own);
        assert_eq!(story.read(socket, &mut decoder), [line("tick")]);
    }
}

/// A peer that takes nothing more is found out, whether its topic is silent or busy.
#[test]
fn whoever_takes_nothing_is_given_up() {
    for is_busy in [false, true] {
        let mut story = Story::new(1, |config, _| {
            config.limits.idle_timeout = Some(Duration::from_secs(20));
            config.slow_consumer = SlowConsumer::Latest;
        });
        let (reader, mut decoder) = open(&mut story, 0, "1.1");
        open(&mut story, 0, "1.1");
        let (publisher, mut own) = story.open(0, "/broadcast/0");
        for _ in 0..60 {
            // What is no line sends a stream nothing.
            let opcode = if is_busy { TEXT } else { BINARY };
            story.send(publisher, opcode, &[b'x'; 2000]);
            story.pass(Duration::from_secs(1));
            story.read(publisher, &mut own);
            story.read(reader, &mut decoder);
        }
        assert_eq!(closes(&story, "local", "1001"), 1, "busy: {is_busy}");
        assert_eq!((story.counter("streams_open"), story.counter("connections_open")), (1, 2));
    }
}

/// A slow consumer that is cut off gets whole lines and no last chunk; where messages are dropped
/// instead, lines stay whole as well.
#[test]
fn policies_for_slow_consumers_keep_lines_whole() {
    for policy in [
        SlowConsumer::Disconnect,
        SlowConsumer::DropOldest,
        SlowConsumer::DropNewest,
        SlowConsumer::Latest,
    ] {
        let mut story = Story::new(1, |config, _| config.slow_consumer = policy);
        let (slow, mut decoder) = open(&mut story, 0, "1.1");
        let (publisher, mut own) = story.open(0, "/broadcast/0");
        const MESSAGES: usize = 60;
        for number in 0..MESSAGES {
            let text = format!("{number} {}", "x".repeat(500));
            story.send(publisher, TEXT, text.as_bytes());
            story.pass(Duration::from_millis(200));
            story.read(publisher, &mut own);
            if closes(&story, "local", "1013") > 0 {
                break;
            }
        }
        let items = story.read_all(0, slow, &mut decoder);
        let dropped: u64 = story.shared.stats.to_json()["dropped"]
            .as_object()
            .expect("by policy")
            .values()
            .filter_map(serde_json::Value::as_u64)
            .sum();
        assert!(dropped > 0 && !items.is_empty(), "{policy:?}");
        let mut next = 0;
        for item in &items {
            let Item::Line(line) = item else { panic!("{policy:?}: {item:?}") };
            let text = std::str::from_utf8(line).expect("text");
            let (number, filler) = text.split_once(' ').expect("a number");
            let number: usize = number.parse().expect("a number");
            assert!(number >= next && filler.len() == 500, "{policy:?}");
            next = number + 1;
        }
        let is_cut = policy == SlowConsumer::Disconnect;
        assert_eq!(closes(&story, "local", "1013"), u64::from(is_cut));
        assert!(is_cut || items.len() as u64 + dropped == MESSAGES as u64, "{policy:?}");
        assert!(!decoder.is_within(), "{policy:?}");
        assert_eq!(has_ended(&mut story, slow), is_cut, "{policy:?}");
    }
}

#[test]
fn the_last_chunk_comes_at_the_end_of_a_lifetime_and_of_the_server() {
    let mut story = Story::new(1, |config, _| {
        config.limits.lifetime = Some(Duration::from_secs(5));
        config.drain = Duration::from_secs(2);
    });
    let (socket, mut decoder) = open(&mut story, 0, "1.1");
    story.pass(Duration::from_secs(6));
    assert_eq!(story.read(socket, &mut decoder), [Item::LastChunk]);
    assert!(has_ended(&mut story, socket));
    let (socket, mut decoder) = open(&mut story, 0, "1.1");
    story.drain();
    story.pass(Duration::from_secs(1));
    let late = story.connect(0);
    story.write(late, &frames::stream(0, "1.1"));
    story.pass(Duration::from_secs(1));
    assert_eq!(story.read(socket, &mut decoder), [Item::LastChunk]);
    let refused = Item::Response { status: 503, closes: true };
    assert_eq!(story.read(late, &mut Decoder::default()), [refused]);
    assert_eq!(closes(&story, "local", "1001"), 2);
}

#[test]
fn streams_take_the_place_of_websockets() {
    let mut story = Story::new(1, |config, _| config.limits.connections = Some(1));
    let (stream, _) = open(&mut story, 0, "1.1");
    let refused = Item::Response { status: 503, closes: true };
    for request in [frames::stream(0, "1.1"), frames::upgrade(&mut story.rng, "/echo")] {
        let other = story.connect(0);
        story.write(other, &request);
        story.settle(0);
        assert_eq!(story.read(other, &mut Decoder::default()), std::slice::from_ref(&refused));
    }
    story.reset(stream);
    story.settle(0);
    story.open(0, "/echo");
    let other = story.connect(0);
    story.write(other, &frames::stream(0, "1.1"));
    story.settle(0);
    assert_eq!(story.read(other, &mut Decoder::default()), [refused]);
}

#[test]
fn the_stream_that_holds_much_is_cut_off_when_memory_is_short() {
    let mut story = Story::new(1, |config, _| config.limits.backlog_bytes = 1 << 20);
    let (slow, mut decoder) = open(&mut story, 0, "1.1");
    let (publisher, mut own) = story.open(0, "/broadcast/0");
    for _ in 0..20 {
        story.send(publisher, TEXT, &[b'x'; 1000]);
        story.settle(0);
        story.read(publisher, &mut own);
    }
    assert!(story.shared.memory.tell(Usage { used_bytes: 99, limit_bytes: 100 }));
    story.settle(0);
    let items = story.read_all(0, slow, &mut decoder);
    assert!(items.iter().all(|item| matches!(item, Item::Line(_))), "no last chunk");
    assert!(!decoder.is_within() && has_ended(&mut story, slow));
    assert_eq!((closes(&story, "local", "1013"), story.counter("connections_shed")), (1, 1));
}
