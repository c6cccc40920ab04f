//! `/broadcast`: who receives what, and in which order, over one and several shards.
//!
//! A connection is a member by the time that its upgrade is answered; these tests rely on that.

use std::collections::HashMap;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::SHARD_COUNTS;
use crate::client::{Client, close, connect, next, send};
use crate::server::Server;

#[tokio::test]
async fn every_subscriber_sees_each_publisher_in_order_without_gap() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--max-backlog", "16MiB"]);
        let mut members = Vec::new();
        for _ in 0..MEMBERS {
            members.push(connect(&server.url("/broadcast/order")).await);
        }
        settle(&mut members).await;
        let tasks = members.into_iter().enumerate().map(|(number, member)| {
            tokio::spawn(async move {
                let (mut sink, mut stream) = member.split();
                let publisher = tokio::spawn(async move {
                    if number < PUBLISHERS {
                        for index in 0..MESSAGES {
                            let message = Message::text(format!("{number} {index}"));
                            sink.send(message).await.expect("the server reads");
                        }
                    }
                    sink
                });
                let mut next_index = [0; PUBLISHERS];
                for _ in 0..PUBLISHERS * MESSAGES {
                    let message = stream.next().await.expect("a message").expect("no fault");
                    let (publisher, index) = parse(&message);
                    assert_eq!(index, next_index[publisher], "of publisher {publisher}");
                    next_index[publisher] += 1;
                }
                publisher.await.expect("all sent").reunite(stream).expect("one pair")
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            close(task.await.expect("a member")).await;
        }
        let stats = server.stats();
        let (broadcasts, marks) = ((PUBLISHERS * MESSAGES) as u64, MEMBERS as u64);
        assert_eq!(stats.broadcasts(), broadcasts + marks);
        assert!(stats.deliveries() >= broadcasts * MEMBERS as u64);
        for policy in ["drop_newest", "drop_oldest", "latest", "disconnect"] {
            assert_eq!(stats.dropped(policy), 0, "{policy}");
        }
        server.stop();
    }
}

#[tokio::test]
async fn text_stays_text_binary_stays_binary_and_large_stays_whole() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--max-backlog", "32MiB"]);
        let mut members = Vec::new();
        for _ in 0..4 {
            members.push(connect(&server.url("/broadcast/kinds")).await);
        }
        settle(&mut members).await;
        for size in [0, 1, 125, 126, 65_535, 65_536, 4 << 20] {
            for message in [Message::text("x".repeat(size)), Message::binary(vec![7; size])] {
                send(&mut members[0], message.clone()).await;
                for member in &mut members {
                    assert!(next(member).await == message, "{size} bytes, {shards} shards");
                }
            }
        }
        server.stop();
    }
}

#[tokio::test]
async fn exclude_self_spares_the_sender_alone() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &[]);
        let mut quiet = connect(&server.url("/broadcast/room?exclude_self=true")).await;
        let mut loud = connect(&server.url("/broadcast/room?exclude_self=false")).await;
        let mut plain = connect(&server.url("/broadcast/room")).await;
        send(&mut quiet, Message::text("from quiet")).await;
        for member in [&mut loud, &mut plain] {
            assert_eq!(next(member).await, Message::text("from quiet"));
        }
        send(&mut loud, Message::text("from loud")).await;
        for member in [&mut quiet, &mut loud, &mut plain] {
            assert_eq!(next(member).await, Message::text("from loud"));
        }
        server.stop();
    }
}

#[tokio::test]
async fn topics_are_separate_and_the_bare_route_is_default() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--root", "broadcast"]);
        let mut bare = connect(&server.url("/broadcast")).await;
        let mut named = connect(&server.url("/broadcast/default")).await;
        let mut root = connect(&server.url("/")).await;
        let mut other = connect(&server.url("/broadcast/other")).await;
        let mut encoded = connect(&server.url("/broadcast/%6fther")).await;
        send(&mut bare, Message::text("to default")).await;
        send(&mut other, Message::text("to other")).await;
        for member in [&mut bare, &mut named, &mut root] {
            assert_eq!(next(member).await, Message::text("to default"));
        }
        for member in [&mut other, &mut encoded] {
            assert_eq!(next(member).await, Message::text("to other"));
        }
        // Nothing else was under way: what each sees next is what is sent next.
        send(&mut root, Message::text("default again")).await;
        send(&mut encoded, Message::text("other again")).await;
        assert_eq!(next(&mut bare).await, Message::text("default again"));
        assert_eq!(next(&mut other).await, Message::text("other again"));
        server.stop();
    }
}

#[tokio::test]
async fn members_may_join_and_leave_while_messages_flow() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &["--max-backlog", "16MiB"]);
        let mut publisher = connect(&server.url("/broadcast/flow?exclude_self=true")).await;
        let mut witness = connect(&server.url("/broadcast/flow")).await;
        for round in 0..20 {
            let mut guest = connect(&server.url("/broadcast/flow")).await;
            for index in 0..50 {
                let text = format!("{round} {index}");
                send(&mut publisher, Message::text(text.clone())).await;
                assert_eq!(next(&mut witness).await, Message::text(text));
            }
            // A guest sees one unbroken run that ends with the newest message; its shard may still
            // be on its way through the round before.
            let first = parse(&next(&mut guest).await);
            for number in first.0 * 50 + first.1 + 1..(round + 1) * 50 {
                let text = format!("{} {}", number / 50, number % 50);
                assert_eq!(next(&mut guest).await, Message::text(text));
            }
            if round % 2 == 0 {
                close(guest).await;
            }
        }
        server.stop();
    }
}

/// Publishes one mark by each member and waits until each has seen all of them.
async fn settle(members: &mut [Client]) {
    let count = members.len();
    for (number, member) in members.iter_mut().enumerate() {
        send(member, Message::binary(vec![number as u8])).await;
    }
    for member in members {
        let mut seen = HashMap::new();
        while seen.len() < count {
            let message = next(member).await;
            assert!(seen.insert(message.into_data(), ()).is_none(), "a mark came twice");
        }
    }
}

fn parse(message: &Message) -> (usize, usize) {
    let text = message.to_text().expect("text");
    let (publisher, index) = text.split_once(' ').expect("two numbers");
    (publisher.parse().expect("a number"), index.parse().expect("a number"))
}

const MEMBERS: usize = 12;
const PUBLISHERS: usize = 4;
const MESSAGES: usize = 400;
