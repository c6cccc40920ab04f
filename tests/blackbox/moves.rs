//! Connections spread again when the others of all shards but one have gone, and nobody notices:
//! whatever a peer was in the middle of goes on where it was.

use crate::peer::{BINARY, Peer, TEXT, frame};
use crate::server::{Server, wait_until};

#[test]
fn a_shard_that_is_much_fuller_than_the_others_gives_some_away() {
    let server = Server::start(2, &["--park-after", "200ms"]);
    let mut peers = uneven_peers(&server, || Peer::upgrade(server.address(), "/echo"));
    // Every third is in the middle of a text, and every third has just been parked.
    for (number, peer) in peers.iter_mut().enumerate().filter(|(number, _)| number % 3 == 0) {
        let (first, _) = cut(number);
        peer.send(&first);
    }
    wait_until("the shards have about as many", || {
        // A shard that has nothing to do is left alone.
        echo(&mut peers[1], b"anything");
        many_have_moved(&server)
    });
    for (number, peer) in peers.iter_mut().enumerate() {
        if number % 3 == 0 {
            let (_, rest) = cut(number);
            peer.send(&rest);
            peer.expect(TEXT, text(number).as_bytes());
        }
        echo(peer, format!("and this from {number}").as_bytes());
    }
    let counts: Vec<_> = server.stats().shards().iter().map(|it| it.websockets_open()).collect();
    assert_eq!(counts.iter().sum::<u64>(), PEERS as u64);
    assert!(counts.iter().all(|&count| count >= (PEERS / 4) as u64), "{counts:?}");
    for peer in &mut peers {
        peer.send_close(1000);
        assert_eq!(peer.read_close().0, 1000);
        peer.expect_end();
    }
    wait_until("all are counted", || server.stats().websockets_open() == 0);
    server.stop();
}

#[test]
fn connections_stay_where_sockets_cannot_be_handed_over() {
    let server = Server::start(2, &["--disable", "hand-over"]);
    let mut peers = uneven_peers(&server, || Peer::upgrade(server.address(), "/echo"));
    let full = server.stats().shards().iter().map(|it| it.websockets_open()).max();
    for _ in 0..150 {
        echo(&mut peers[1], b"anything");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!((server.stats().connections_moved(), full), (0, Some(PEERS as u64)));
    for (number, peer) in peers.iter_mut().enumerate() {
        echo(peer, format!("and this from {number}").as_bytes());
    }
    server.stop();
}

/// Members of a topic that is busy: two of them publish all the time, and may be moved as well.
#[test]
fn members_of_a_busy_topic_get_every_message_once_and_in_order_wherever_they_are() {
    let server = Server::start(2, &[]);
    let path = "/broadcast/busy?exclude_self=true";
    let mut peers = uneven_peers(&server, || Peer::upgrade(server.address(), path));
    let mut poster = Peer::connect(server.address());
    let mut published = 0;
    wait_until("the shards have about as many", || {
        for publisher in &mut peers[..PUBLISHERS] {
            publisher.send_frame(TEXT, published.to_string().as_bytes());
        }
        let length = published.to_string().len();
        let head = "POST /broadcast/busy HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n";
        poster.send(format!("{head}Content-Length: {length}\r\n\r\n{published}").as_bytes());
        assert_eq!(poster.read_response().status, 202);
        published += 1;
        many_have_moved(&server)
    });
    // Each publisher counts, so those that a member has not heard of are behind.
    for (number, peer) in peers.iter_mut().enumerate() {
        let others = if number < PUBLISHERS { PUBLISHERS - 1 } else { PUBLISHERS };
        let mut counts = vec![0; published];
        for _ in 0..published * (others + 1) {
            let frame = peer.read_frame();
            let index: usize = std::str::from_utf8(&frame.payload).unwrap().parse().unwrap();
            // Of each publisher it is the next: as many have said the number before, or more.
            assert!(index == 0 || counts[index - 1] > counts[index], "{index} out of order");
            counts[index] += 1;
        }
        assert!(counts.iter().all(|&count| count == others + 1), "{counts:?}");
        assert!(!peer.has_input(), "nothing comes twice");
    }
    server.stop();
}

#[test]
fn plain_connections_go_on_within_their_requests() {
    const REQUEST: &[u8] =
        b"POST /broadcast/a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let server = Server::start(2, &["--handshake-timeout", "60s"]);
    let opened = std::cell::Cell::new(0);
    let mut peers = uneven_peers(&server, || {
        let mut peer = Peer::connect(server.address());
        peer.send(&REQUEST[..20]);
        opened.set(opened.get() + 1);
        wait_until("it is accepted", || server.stats().connections_accepted() == opened.get());
        peer
    });
    wait_until("the shards have about as many", || {
        // A shard that has nothing to do is left alone.
        peers[1].send(&REQUEST[20..]);
        assert_eq!(peers[1].read_response().status, 202);
        peers[1].send(&REQUEST[..20]);
        many_have_moved(&server)
    });
    for peer in &mut peers {
        peer.send(&REQUEST[20..]);
        assert_eq!(peer.read_response().status, 202);
        assert_eq!(peer.get("/healthz").status, 200);
    }
    assert_eq!(server.stats().plain_kept_alive(), PEERS as u64);
    server.stop();
}

pub fn many_have_moved(server: &Server) -> bool {
    server.stats().connections_moved() >= (PEERS / 4) as u64
}

/// Peers that are all on one of the two shards.
pub fn uneven_peers<S>(server: &Server, mut open: impl FnMut() -> Peer<S>) -> Vec<Peer<S>> {
    let mut accepted = vec![0; 2];
    let mut by_shard = [Vec::new(), Vec::new()];
    while by_shard.iter().all(|peers| peers.len() < PEERS) {
        let peer = open();
        let shards = server.stats().shards();
        let now: Vec<_> = shards.iter().map(|it| it.connections_accepted()).collect();
        let shard = (0..2).find(|&shard| now[shard] > accepted[shard]).expect("it is on one");
        accepted = now;
        by_shard[shard].push(peer);
    }
    by_shard.into_iter().find(|peers| peers.len() == PEERS).expect("the loop saw to it")
}

fn echo(peer: &mut Peer, payload: &[u8]) {
    peer.send_frame(BINARY, payload);
    peer.expect(BINARY, payload);
}

fn text(number: usize) -> String {
    format!("the text of peer {number} ").repeat(number % 5 + 1)
}

/// The frame of a text, in two parts.
fn cut(number: usize) -> (Vec<u8>, Vec<u8>) {
    const FIN: u8 = 0x80;
    let mut first = frame(FIN | TEXT, text(number).as_bytes());
    let rest = first.split_off(first.len() / 2 - number % 4);
    (first, rest)
}

/// Members that publish.
const PUBLISHERS: usize = 2;
/// Connections on the shard that has them all: well above the half.
const PEERS: usize = 90;
