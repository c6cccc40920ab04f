//! Every optional kernel ability may be missing: the server says so and works without it.

use std::time::{Duration, Instant};

use crate::peer::{BINARY, Peer, TEXT};
use crate::server::{Server, wait_until};

const ABILITIES: [&str; 6] = [
    "registered-ring",
    "no-sqarray",
    "socket-options",
    "descriptor-install",
    "incremental-buffers",
    "min-wait",
];

#[test]
fn the_server_works_without_any_one_ability_and_without_all() {
    let all = ABILITIES.join(",");
    for disabled in ABILITIES.iter().copied().chain([all.as_str()]) {
        // Few small buffers, so that a large message needs them again and again.
        let flags = ["--disable", disabled, "--receive-buffers", "4", "--close-timeout", "200ms"];
        let server = Server::start(2, &flags);
        wait_until("the abilities are told", || server.output().contains("missing: "));
        let output = server.output();
        let missing = output.rsplit("missing: ").next().unwrap_or_default();
        assert!(disabled.split(',').all(|name| missing.contains(name)), "{output}");

        let mut peer = Peer::upgrade(server.address(), "/echo");
        let payload: Vec<u8> = (0..1_000_000_u32).map(|index| (index % 251) as u8).collect();
        peer.send_frame(BINARY, &payload);
        peer.expect(BINARY, &payload);
        let text = "x".repeat(200_000);
        peer.send_frame(TEXT, text.as_bytes());
        peer.expect(TEXT, text.as_bytes());

        let mut members: Vec<Peer> =
            (0..8).map(|_| Peer::upgrade(server.address(), "/broadcast/a")).collect();
        members[0].send_frame(TEXT, b"for all");
        members.iter_mut().for_each(|member| member.expect(TEXT, b"for all"));
        drop(members);

        // One that never answers the close, so that the last means are needed.
        peer.send_close(1000);
        assert_eq!(peer.read_close().0, 1000);
        wait_until("all are gone but the one that asks", || server.stats().connections_open() == 1);
        server.stop();
    }
}

#[test]
fn a_batch_wait_makes_small_batches_wait() {
    const WAIT: Duration = Duration::from_millis(20);
    const ROUNDS: u32 = 10;
    let server = Server::start(1, &["--batch-wait-us", "20000"]);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let start = Instant::now();
    for _ in 0..ROUNDS {
        peer.send_frame(BINARY, b"x");
        peer.expect(BINARY, b"x");
    }
    // Each echo but the first waits for others that do not come; the machine can only add to that.
    let least = WAIT * (ROUNDS - 1) / 2;
    assert!(start.elapsed() >= least, "{ROUNDS} echoes took {:?}", start.elapsed());
    server.stop();
}

#[test]
fn a_batch_wait_is_refused_where_the_kernel_cannot() {
    let mut command = Server::command();
    command.args(["--listen", "127.0.0.1:0", "--batch-wait-us", "200", "--disable", "min-wait"]);
    let output = command.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("min-wait"), "{said}");
    assert!(said.contains("leave out --batch-wait-us"), "{said}");
}
