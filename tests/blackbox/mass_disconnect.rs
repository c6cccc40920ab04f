//! Ten thousand connections reset at once: nobody else notices, and everything is given back.

use std::fs;

use crate::peer::{Peer, TEXT};
use crate::server::{Server, wait_until};

#[test]
fn ten_thousand_resets_at_once_block_nobody_and_leave_nothing() {
    for shards in [2, 5] {
        let server = Server::start(shards, &[]);
        let count = connections();
        let mut witness = Peer::upgrade(server.address(), "/broadcast/crowd?exclude_self=true");
        let idle = server.stats().connections_open();
        let peers: Vec<_> = (0..count)
            .map(|number| {
                let path = if number % 2 == 0 { "/echo" } else { "/broadcast/crowd" };
                Peer::upgrade(server.address(), path)
            })
            .collect();
        assert_eq!(server.stats().connections_open(), idle + count as u64);
        // Deliveries to half of them are under way while they go.
        for _ in 0..10 {
            witness.send_frame(TEXT, &[b'x'; 1000]);
        }
        peers.into_iter().for_each(Peer::reset);
        witness.send_frame(TEXT, b"anybody?");
        let mut newcomer = Peer::upgrade(server.address(), "/echo");
        newcomer.send_frame(TEXT, b"served");
        newcomer.expect(TEXT, b"served");
        drop(newcomer);
        wait_until("all are gone", || server.stats().connections_open() == idle);
        assert!(server.stats().connections_accepted() > count as u64);
        // The same slots serve the next crowd.
        let mut again: Vec<_> =
            (0..100).map(|_| Peer::upgrade(server.address(), "/broadcast/crowd")).collect();
        witness.send_frame(TEXT, b"a new crowd");
        for peer in &mut again {
            peer.expect(TEXT, b"a new crowd");
        }
        server.stop();
    }
}

/// 10,000, or what the descriptor limit of this process leaves beside the other tests.
fn connections() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").expect("/proc is mounted");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit");
    let soft = line.split_whitespace().nth(3).and_then(|number| number.parse::<usize>().ok());
    soft.map_or(CONNECTIONS, |soft| CONNECTIONS.min(soft / 2))
}

const CONNECTIONS: usize = 10_000;
