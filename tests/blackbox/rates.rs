//! How much a connection may send, and how many may belong to a topic.

use std::time::{Duration, Instant};

use crate::SHARD_COUNTS;
use crate::peer::{BINARY, FIN, Peer, TEXT, frame, upgrade_request};
use crate::server::{Server, wait_until};

#[test]
fn more_messages_than_may_come_are_answered_later() {
    let server = Server::start(1, &["--message-rate", "10"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let began = Instant::now();
    peer.send(&frame(FIN | TEXT, b"x").repeat(30));
    (0..30).for_each(|_| peer.expect(TEXT, b"x"));
    // However slow the machine is, it cannot be faster than this.
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    assert!(server.stats().rate_pauses() > 0);
    server.stop();
}

#[test]
fn more_bytes_than_may_come_are_answered_later() {
    let server = Server::start(1, &["--byte-rate", "64KiB", "--receive-buffer-size", "4KiB"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let began = Instant::now();
    // A frame is as long as a buffer.
    let message = vec![7; 4088];
    peer.send(&frame(FIN | BINARY, &message).repeat(40));
    (0..40).for_each(|_| peer.expect(BINARY, &message));
    assert!(began.elapsed() >= Duration::from_millis(1000), "{:?}", began.elapsed());
    server.stop();
}

#[test]
fn whoever_exceeds_a_rate_is_closed_where_that_is_asked_for() {
    let server = Server::start(1, &["--message-rate", "10", "--on-rate", "close"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    peer.send(&frame(FIN | TEXT, b"x").repeat(100));
    let mut echoes = 0;
    let close = loop {
        let frame = peer.read_frame();
        if frame.opcode != TEXT {
            break crate::peer::close_payload(&frame.payload);
        }
        echoes += 1;
    };
    assert_eq!(close, (1008, "more than 10 messages per second".to_owned()));
    assert!(echoes >= 10, "{echoes}");
    assert_eq!(server.stats().rate_closes(), 1);
    server.stop();
}

#[test]
fn a_topic_gets_what_it_may_and_the_rest_later() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--topic-rate", "10"]);
        let mut peers: Vec<_> =
            (0..4).map(|_| Peer::upgrade(server.address(), "/broadcast/a")).collect();
        let began = Instant::now();
        for peer in &mut peers[1..] {
            peer.send(&frame(FIN | TEXT, b"x").repeat(8));
        }
        (0..24).for_each(|_| peers[0].expect(TEXT, b"x"));
        assert!(began.elapsed() >= Duration::from_millis(1300), "{:?}", began.elapsed());
        assert!(server.stats().topic_rate_pauses() > 0);
        // Nothing is left now, and whoever posts is told so.
        let post = b"POST /broadcast/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
        let mut poster = Peer::connect(server.address());
        let refused = (0..1000).find_map(|_| {
            poster.send(post);
            Some(poster.read_response()).filter(|response| response.status != 202)
        });
        let refused = refused.expect("sooner or later it is too much");
        assert_eq!(refused.status, 429);
        let retry_after_s: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((5..=30).contains(&retry_after_s));
        assert_eq!(server.stats().refused("topic_rate"), 1);
        server.stop();
    }
}

#[test]
fn a_full_topic_takes_no_more_members() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--max-topic-members", "3"]);
        let mut members: Vec<_> =
            (0..3).map(|_| Peer::upgrade(server.address(), "/broadcast/a")).collect();
        let ask = |path: &str| {
            let mut peer = Peer::connect(server.address());
            peer.send(&upgrade_request(path, ""));
            peer.read_response()
        };
        let refused = ask("/broadcast/a");
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some());
        assert_eq!(server.stats().refused("topic_full"), 1);
        assert_eq!(ask("/broadcast/b").status, 101);
        drop(members.pop());
        wait_until("one more has room", || ask("/broadcast/a").status == 101);
        server.stop();
    }
}

#[test]
fn no_more_topics_begin_than_may_be() {
    let flags = ["--max-topics", "1", "--refuse-with", "close"];
    let server = Server::start(2, &flags);
    let _first = Peer::upgrade(server.address(), "/broadcast/a");
    let _second = Peer::upgrade(server.address(), "/broadcast/a");
    let mut late = Peer::upgrade(server.address(), "/broadcast/b");
    assert_eq!(late.read_close().0, 1013);
    assert_eq!(server.stats().refused("topics_full"), 1);
    server.stop();
}
