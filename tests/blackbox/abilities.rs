//! Every optional kernel ability may be missing: the server says so and works without it. Where it
//! is in use, the process shows it.

use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::peer::{BINARY, Peer, TEXT};
use crate::server::{Server, wait_until};

const ABILITIES: [&str; 7] = [
    "registered-ring",
    "hand-over",
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

        // One that never closes its socket, so that the last means are needed. They may come before
        // this thread has read the answer, so the counters tell.
        peer.send_close(1000);
        wait_until("all are gone", || server.stats().connections_open() == 0);
        assert_eq!(server.stats().closes("remote", 1000), 1);
        server.stop();
    }
}

#[test]
fn shards_enter_their_rings_by_index_and_wait_for_batches() {
    const REGISTERED_RING: u64 = 1 << 4; // IORING_ENTER_REGISTERED_RING
    for disabled in ["", "registered-ring"] {
        let server = start(2, disabled, &[]);
        let is_in_use = is_in_use(&server, "registered-ring");
        for Enter { completions, flags } in idle_shards(&server, 2) {
            assert_eq!(flags & REGISTERED_RING != 0, is_in_use, "{disabled}: {flags:#x}");
            assert_eq!(completions, 1);
        }
        server.stop();
    }
    if kernel_has("min-wait") {
        let server = start(2, "", &["--batch-wait-us", "200"]);
        assert!(idle_shards(&server, 2).iter().all(|enter| enter.completions > 1));
        server.stop();
    }
}

#[test]
fn rings_without_an_array_of_indices_map_less_memory() {
    const SHARDS: usize = 3;
    // A ring of 2048 requests, with 4 bytes for each: whole pages.
    const ARRAYS_BYTES: u64 = SHARDS as u64 * 2048 * 4;
    let [with, without] = ["", "no-sqarray"].map(|disabled| {
        let server = start(SHARDS, disabled, &[]);
        let found = (is_in_use(&server, "no-sqarray"), ring_bytes(&server));
        server.stop();
        found
    });
    assert!(!without.0);
    assert_eq!(without.1 - with.1, if with.0 { ARRAYS_BYTES } else { 0 });
}

#[test]
fn streams_end_without_worker_threads_where_descriptors_are_installed() {
    for disabled in ["", "descriptor-install"] {
        let server = start(1, disabled, &[]);
        let mut peer = Peer::upgrade(server.address(), "/echo");
        peer.send_close(1000);
        assert_eq!(peer.read_close().0, 1000);
        peer.expect_end();
        let workers =
            task_files(&server, "comm").iter().filter(|n| n.starts_with("iou-wrk")).count();
        assert_eq!(workers == 0, is_in_use(&server, "descriptor-install"), "{workers} workers");
        server.stop();
    }
}

#[test]
fn silent_peers_are_reset_where_socket_options_can_be_set() {
    for disabled in ["", "socket-options"] {
        let server = start(1, disabled, &["--close-timeout", "100ms"]);
        let mut peer = Peer::upgrade(server.address(), "/echo");
        peer.send_close(1000);
        assert_eq!(peer.read_close().0, 1000);
        peer.expect_end();
        // The peer keeps its side open until the server is done with it.
        wait_until("the connection is gone", || server.stats().connections_open() == 0);
        let is_reset = || peer.error().is_some_and(|kind| kind == ErrorKind::BrokenPipe);
        if is_in_use(&server, "socket-options") {
            wait_until("the reset arrives", is_reset);
        } else {
            assert!(!is_reset());
        }
        server.stop();
    }
}

#[test]
fn a_batch_wait_makes_small_batches_wait() {
    const WAIT: Duration = Duration::from_millis(20);
    const ROUNDS: u32 = 10;
    if !kernel_has("min-wait") {
        return;
    }
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

fn start(shards: usize, disabled: &str, flags: &[&str]) -> Server {
    let mut all = flags.to_vec();
    if !disabled.is_empty() {
        all.extend(["--disable", disabled]);
    }
    Server::start(shards, &all)
}

/// Whether a server uses an ability when it may.
fn kernel_has(ability: &str) -> bool {
    let server = start(1, "", &[]);
    let is_in_use = is_in_use(&server, ability);
    server.stop();
    is_in_use
}

/// Whether the server says that it uses an ability.
fn is_in_use(server: &Server, ability: &str) -> bool {
    wait_until("the abilities are told", || server.output().contains("missing: "));
    let output = server.output();
    let (_, told) = output.split_once("in use: ").expect("told");
    told.split(';').next().is_some_and(|used| used.split(", ").any(|name| name == ability))
}

/// A call of `io_uring_enter(2)` in which a thread waits.
struct Enter {
    completions: u64,
    flags: u64,
}

/// How the shards wait, when all of them do.
fn idle_shards(server: &Server, shards: usize) -> Vec<Enter> {
    const IO_URING_ENTER: &str = "426"; // the same on every architecture
    let mut found = Vec::new();
    wait_until("all shards wait", || {
        let calls = task_files(server, "syscall");
        found = calls
            .iter()
            .filter_map(|call| {
                let mut words = call.split_whitespace();
                (words.next()? == IO_URING_ENTER).then_some(())?;
                let arguments: Vec<u64> = words.filter_map(hexadecimal).collect();
                Some(Enter { completions: arguments[2], flags: arguments[3] })
            })
            .collect();
        found.len() == shards
    });
    found
}

/// The memory of all rings that the process has mapped.
fn ring_bytes(server: &Server) -> u64 {
    let maps = fs::read_to_string(server.process_path("maps")).expect("the server runs");
    let rings = maps.lines().filter(|line| line.ends_with("anon_inode:[io_uring]"));
    rings
        .map(|line| {
            let (begin, rest) = line.split_once('-').expect("a range of addresses");
            let end = rest.split(' ').next().expect("never empty");
            hexadecimal(end).expect("an address") - hexadecimal(begin).expect("an address")
        })
        .sum()
}

/// A file of each thread of the process.
fn task_files(server: &Server, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(server.process_path("task")).expect("the server runs");
    // A thread may end meanwhile.
    let paths = tasks.map_while(Result::ok).map(|task| task.path().join(name));
    paths.filter_map(|path| fs::read_to_string(path).ok()).collect()
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word.trim_start_matches("0x"), 16).ok()
}
