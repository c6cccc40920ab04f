//! What requests publish, by the name of a topic: it reaches every member on every shard.

use std::time::Duration;

use ringwire::config::BroadcastAccess;
use ringwire::wire::message::{DataMessage, MessageKind};

use crate::decoder::{Decoder, Item};
use crate::frames::{BINARY, CLOSE, TEXT};
use crate::story::Story;

fn message(payload: &[u8]) -> Item {
    Item::Message { opcode: TEXT, payload: payload.to_vec() }
}

/// Members here, there, on both shards and nowhere; more than the broadcast ring has room for.
#[test]
fn a_name_suffices_to_publish() {
    let mut story = Story::new(2, |_, _| {});
    let (here, mut here_reads) = story.open(0, "/broadcast/here");
    let (there, mut there_reads) = story.open(1, "/broadcast/there");
    let mut both =
        [0, 1].map(|shard| (shard, story.open(shard, "/broadcast/both?exclude_self=true")));
    let (publisher, mut answers) = (story.connect(0), Decoder::default());
    for number in [&b"1"[..], b"2", b"3", b"4", b"5"] {
        for topic in ["here", "there", "both", "nowhere"] {
            let head =
                format!("POST /broadcast/{topic} HTTP/1.1\r\nHost: a\r\nContent-Type: text/a\r\n");
            let request = [head.as_bytes(), b"Content-Length: 1\r\n\r\n", number].concat();
            story.write(publisher, &request);
        }
    }
    let mut accepted = 0;
    for _ in 0..10 {
        story.settle(0);
        story.settle(1);
        let items = story.read(publisher, &mut answers);
        accepted += items.len();
        let is_accepted = |item: &Item| matches!(item, Item::Response { status: 202, .. });
        assert!(items.iter().all(is_accepted), "{items:?}");
    }
    assert_eq!(accepted, 20);
    let expected = [&b"1"[..], b"2", b"3", b"4", b"5"].map(message);
    assert_eq!(story.read(here, &mut here_reads), expected);
    assert_eq!(story.read(there, &mut there_reads), expected);
    for (shard, (socket, decoder)) in &mut both {
        assert_eq!(story.read(*socket, decoder), expected, "on shard {shard}");
    }
    assert_eq!((story.counter("broadcasts"), story.counter("deliveries")), (20, 20));
}

/// Topics that clients only read: what is posted arrives, and who sends a message is closed.
#[test]
fn topics_that_clients_only_read_are_fed_by_post() {
    let mut story = Story::new(1, |config, _| config.broadcast_access = BroadcastAccess::Post);
    let (reader, mut reads) = story.open(0, "/broadcast/news");
    let (intruder, mut told) = story.open(0, "/broadcast/news");
    story.shards[0].publish_by_name("news", DataMessage::new(MessageKind::Text, b"1"));
    story.settle(0);
    story.send(intruder, TEXT, b"not news");
    story.settle(0);
    let (poster, mut answers) = (story.connect(0), Decoder::default());
    story.write(poster, b"POST /broadcast/news HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
    story.settle(0);
    let accepted = Item::Response { status: 202, closes: false };
    assert_eq!(story.read(poster, &mut answers), [accepted]);
    story.shards[0].publish_by_name("news", DataMessage::new(MessageKind::Text, b"2"));
    story.settle(0);
    let posted = Item::Message { opcode: BINARY, payload: b"x".to_vec() };
    assert_eq!(story.read(reader, &mut reads), [message(b"1"), posted, message(b"2")]);
    let payload = [&1008_u16.to_be_bytes()[..], b"publishing is not allowed here"].concat();
    let close = Item::Control { opcode: CLOSE, payload };
    assert_eq!(story.read(intruder, &mut told), [message(b"1"), close]);
    assert_eq!((story.counter("broadcasts"), story.counter("messages_in")), (3, 1));
}

/// A place in the table has another tenant: how long the one before might stay does not count for
/// it.
#[test]
fn a_body_has_its_time_whoever_was_in_its_place_before() {
    let mut story = Story::new(1, |_, _| {});
    let (earlier, mut answers) = (story.connect(0), Decoder::default());
    story.write(earlier, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    story.settle(0);
    let answer = story.read(earlier, &mut answers);
    assert!(matches!(answer[..], [Item::Response { closes: false, .. }]), "{answer:?}");
    story.pass(Duration::from_secs(400));
    assert_eq!(story.counter("connections_open"), 0);
    let (poster, mut answers) = (story.connect(0), Decoder::default());
    story.write(poster, b"POST /broadcast/news HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
    story.settle(0);
    story.pass(Duration::from_secs(1));
    story.write(poster, b"y");
    story.settle(0);
    let accepted = Item::Response { status: 202, closes: false };
    assert_eq!(story.read(poster, &mut answers), [accepted]);
}
