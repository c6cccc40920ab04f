//! Connections spread again when the others of all shards but one have gone, and nobody notices:
//! whatever a peer was in the middle of goes on where it was.

use crate::peer::{BINARY, Peer, TEXT, frame};
use crate::server::{Server, wait_until};

#[test]
fn a_shard_that_is_much_fuller_than_the_others_gives_some_away() {
    let server = Server::start(2, &["--park-after", "200ms"]);
    let mut peers = uneven_peers(&server);
    let moved = |server: &Server| server.stats().connections_moved();
    // Every third is in the middle of a text, and every third has just been parked.
    for (number, peer) in peers.iter_mut().enumerate().filter(|(number, _)| number % 3 == 0) {
        let (first, _) = cut(number);
        peer.send(&first);
    }
    wait_until("the shards have about as many", || {
        // A shard that has nothing to do is left alone.
        echo(&mut peers[1], b"anything");
        moved(&server) >= (PEERS / 4) as u64
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
    let mut peers = uneven_peers(&server);
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

/// Open WebSockets, all on one of the two shards.
fn uneven_peers(server: &Server) -> Vec<Peer> {
    let mut upgrades = vec![0; 2];
    let mut by_shard = [Vec::new(), Vec::new()];
    while by_shard.iter().all(|peers| peers.len() < PEERS) {
        let peer = Peer::upgrade(server.address(), "/echo");
        let now: Vec<_> = server.stats().shards().iter().map(|it| it.upgrades()).collect();
        let shard = (0..2).find(|&shard| now[shard] > upgrades[shard]).expect("it is on one");
        upgrades = now;
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

/// Connections on the shard that has them all: well above the half.
const PEERS: usize = 90;
