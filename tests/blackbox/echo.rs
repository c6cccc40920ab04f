//! `/echo` returns every message as it came, in order, whatever its size and timing.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use crate::SHARD_COUNTS;
use crate::client::{close, connect, next, send};
use crate::peer::{BINARY, FIN, PING, PONG, Peer, TEXT, frame};
use crate::server::Server;

#[tokio::test]
async fn text_and_binary_of_every_length_encoding_return() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &[]);
        let mut client = connect(&server.url("/echo")).await;
        for size in SIZES {
            for message in [Message::text(letters(size)), Message::binary(bytes(size))] {
                send(&mut client, message.clone()).await;
                let answer = next(&mut client).await;
                assert!(answer == message, "{size} bytes do not return, {shards} shards");
            }
        }
        close(client).await;
        server.stop();
    }
}

#[tokio::test]
async fn the_root_route_is_echo_by_default() {
    let server = Server::start(1, &[]);
    let mut client = connect(&server.url("/")).await;
    let other = connect(&server.url("/")).await;
    send(&mut client, Message::text("root")).await;
    assert_eq!(next(&mut client).await, Message::text("root"));
    close(client).await;
    close(other).await;
    server.stop();
}

#[tokio::test]
async fn many_clients_with_many_messages_in_flight_each_keep_their_order() {
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &[]);
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let url = server.url("/echo");
            clients.push(tokio::spawn(async move {
                let (mut sink, mut stream) = connect(&url).await.split();
                let sender = tokio::spawn(async move {
                    for index in 0..MESSAGES {
                        sink.feed(Message::text(sized(number, index)))
                            .await
                            .expect("the server reads");
                    }
                    sink.flush().await.expect("the server reads");
                    sink
                });
                for index in 0..MESSAGES {
                    let message = stream.next().await.expect("a message").expect("no fault");
                    assert_eq!(message, Message::text(sized(number, index)));
                }
                close(sender.await.expect("all sent").reunite(stream).expect("one pair")).await;
            }));
        }
        for client in clients {
            client.await.expect("a client");
        }
        let stats = server.stats();
        assert_eq!(stats.messages_in(), (CLIENTS * MESSAGES) as u64);
        assert_eq!(stats.messages_out(), (CLIENTS * MESSAGES) as u64);
        assert_eq!(stats.shards().len(), shards);
        let sum: u64 = stats.shards().iter().map(|shard| shard.messages_in()).sum();
        assert_eq!(sum, stats.messages_in(), "the totals are the sums of the shards");
        server.stop();
    }
}

#[test]
fn a_burst_in_one_write_returns_in_order_with_pings_between() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let mut burst = Vec::new();
    for index in 0..1000 {
        burst.extend(frame(FIN | TEXT, format!("message {index}").as_bytes()));
        if index % 100 == 0 {
            burst.extend(frame(FIN | PING, &[index as u8]));
        }
    }
    peer.send(&burst);
    let (mut texts, mut pongs) = (0, 0);
    while texts < 1000 || pongs < 10 {
        let answer = peer.read_frame();
        match answer.opcode {
            TEXT => {
                assert_eq!(answer.payload, format!("message {texts}").as_bytes());
                texts += 1;
            }
            PONG => {
                assert_eq!(answer.payload, [(pongs * 100) as u8]);
                pongs += 1;
            }
            _ => panic!("unexpected {answer:?}"),
        }
    }
    server.stop();
}

#[test]
fn frames_that_arrive_byte_by_byte_return_whole() {
    let server = Server::start(1, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    for payload in [bytes(5), bytes(126)] {
        for byte in frame(FIN | BINARY, &payload) {
            peer.send(&[byte]);
        }
        peer.expect(BINARY, &payload);
    }
    server.stop();
}

#[test]
fn sixteen_mebibytes_return_to_a_peer_that_reads_only_afterwards() {
    let server = Server::start(2, &[]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let payload = bytes(16 << 20);
    peer.send_frame(BINARY, &payload);
    peer.expect(BINARY, &payload);
    server.stop();
}

/// A text that says who sent it and as which, of changing length.
fn sized(number: usize, index: usize) -> String {
    format!("{number}/{index}/{}", "x".repeat(index * 37 % 1500))
}

fn letters(size: usize) -> String {
    // Two bytes each, so that buffers and vectors split characters.
    let mut text = "\u{e9}".repeat(size / 2);
    text.extend((size % 2 == 1).then_some('.'));
    text
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8).collect()
}

/// Around each change of the length encoding, around one buffer, and at the message limit.
const SIZES: [usize; 11] =
    [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 16 << 20];
const CLIENTS: usize = 12;
const MESSAGES: usize = 300;
