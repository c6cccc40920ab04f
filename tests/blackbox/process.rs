//! The process around the service: its descriptors, its socket files, restarts, and the failure of
//! a part of it.

use std::ffi::OsString;
use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::HANG;
use crate::access_log::LogFile;
use crate::peer::{Peer, TEXT};
use crate::server::{Server, socket_path, wait_until};

#[test]
fn a_server_that_was_killed_is_replaced_at_once() {
    let path = socket_path("killed");
    let unix = format!("unix:{}", path.display());
    let mut address = "127.0.0.1:0".to_owned();
    for _ in 0..20 {
        let mut server = Server::start_on(&[&address, &unix], 2, &[]);
        address = server.address().to_string();
        // Work in flight keeps the dead process's rings a little longer.
        let _peers: Vec<_> = (0..8).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
        server.signal("KILL");
        assert!(!server.wait().success());
    }
    fs::remove_file(&path).expect("the last one was killed");
}

#[test]
fn shards_spin_when_they_are_told_to_and_sleep_otherwise() {
    for shards in [1, 2] {
        let spinning = Server::start(shards, &["--busy-poll", "true"]);
        let sleeping = Server::start(shards, &[]);
        for server in [&spinning, &sleeping] {
            let mut members: Vec<_> =
                (0..6).map(|_| Peer::upgrade(server.address(), "/broadcast/a")).collect();
            members[0].send_frame(TEXT, b"to all");
            members.iter_mut().for_each(|member| member.expect(TEXT, b"to all"));
        }
        // While one of them uses half a second of CPU time with nothing to do, however long that
        // takes here, the other uses next to nothing.
        let before = [cpu_time_ms(&spinning), cpu_time_ms(&sleeping)];
        wait_until("the spinning one has spun", || cpu_time_ms(&spinning) >= before[0] + 500);
        let used_ms = cpu_time_ms(&sleeping) - before[1];
        assert!(used_ms < 250, "{used_ms} ms");
        sleeping.stop();
        spinning.stop();
    }
}

/// User and system time of a server so far, from `stat` (proc_pid_stat(5)), in ticks of 10 ms.
fn cpu_time_ms(server: &Server) -> u64 {
    let stat = fs::read_to_string(server.process_path("stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let times = fields.split_whitespace().skip(11).take(2);
    times.map(|ticks| ticks.parse::<u64>().expect("a number") * 10).sum()
}

#[test]
fn an_address_that_stays_in_use_is_refused() {
    let server = Server::start(1, &[]);
    let output = Server::command()
        .args(["--listen", &server.address().to_string(), "--shards", "1"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another process listens there"), "{said}");
    server.stop();
}

#[test]
fn a_stopping_server_leaves_the_socket_file_of_its_successor() {
    let path = socket_path("successor");
    let listener = format!("unix:{}", path.display());
    let first = Server::start_on(&["127.0.0.1:0", &listener], 1, &[]);
    fs::remove_file(&path).expect("the file of the first");
    let second = Server::start_on(&["127.0.0.1:0", &listener], 1, &[]);
    first.stop();
    let mut peer = Peer::connect_unix(&path).expect("the second listens").upgraded("/echo");
    peer.send_frame(TEXT, b"still here");
    peer.expect(TEXT, b"still here");
    drop(peer);
    second.stop();
    assert!(!path.exists());
}

#[test]
fn a_unix_listener_gives_every_shard_its_share() {
    const SHARDS: usize = 4;
    const CONNECTIONS: usize = 200;
    let path = socket_path("spread");
    let listener = format!("unix:{}", path.display());
    let server = Server::start_on(&["127.0.0.1:0", &listener], SHARDS, &[]);
    let connect = || Peer::connect_unix(&path).expect("the server accepts");
    let check = |least: usize| {
        let open: Vec<_> = server.stats().shards().iter().map(|s| s.websockets_open()).collect();
        assert!(open.iter().all(|&open| open >= least as u64), "{open:?}");
        assert_eq!(open.iter().sum::<u64>(), CONNECTIONS as u64);
    };
    // Each is served before the next one comes, so the shards take turns.
    let peers: Vec<_> = (0..CONNECTIONS).map(|_| connect().upgraded("/echo")).collect();
    check(CONNECTIONS / SHARDS / 2);
    drop(peers);
    wait_until("all are gone", || server.stats().websockets_open() == 0);
    // As fast as they can: whoever is awake gets more, within bounds.
    let peers: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
    let _peers: Vec<_> = peers.into_iter().map(|peer| peer.upgraded("/echo")).collect();
    check(CONNECTIONS / SHARDS / 4);
    server.stop();
}

/// A program with these limits of open files, soft and hard.
pub fn limited(soft: u32, hard: u32) -> Command {
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={soft}:{hard}")).arg(Server::command().get_program());
    Server::set_environment(&mut command);
    command
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_unless_forbidden() {
    let server = Server::start_as(limited(64, 700), &["127.0.0.1:0"], 1, &[]);
    let line =
        "1 shards of 636 connections each: 636 in all (RLIMIT_NOFILE is 700, raised from 64)";
    assert!(server.output().contains(line), "{}", server.output());
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert!(line.split_whitespace().nth(3) == Some("700"), "{line}");
    let _peers: Vec<_> = (0..100).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    server.stop();

    let flags = ["--raise-nofile", "false"];
    let server = Server::start_as(limited(64, 700), &["127.0.0.1:0"], 1, &flags);
    assert!(server.output().contains("(RLIMIT_NOFILE is 64)"), "{}", server.output());
    server.stop();
}

#[test]
fn too_few_descriptors_are_an_error_that_names_the_limit() {
    for limit in (6..=64).step_by(2).chain([61, 63, 65]) {
        let output = limited(limit, limit)
            .args(["--listen", "127.0.0.1:0", "--shards", "28", "--receive-buffers", "1"])
            .stdin(Stdio::null())
            .output()
            .expect("prlimit, of util-linux, runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{limit}: {said}");
        assert!(said.contains("RLIMIT_NOFILE") && said.contains("shards"), "{limit}: {said}");
        assert!(!said.contains("panicked"), "{limit}: {said}");
    }
}

#[test]
fn a_shard_that_fails_is_told_at_once_and_the_others_drain() {
    for failing in [0, 1] {
        let log = LogFile::new("access-failed");
        let flags = ["--drain", "1h", "--log-format", "json", "--access-log", log.path()];
        let mut server = Server::start(2, &flags);
        let mut peers = Vec::new();
        wait_until("both shards have connections", || {
            peers.push(Peer::upgrade(server.address(), "/broadcast/topic"));
            server.stats().shards().iter().all(|shard| shard.websockets_open() > 0)
        });
        fail(&server, failing);
        let failed = format!("shard {failing} failed");
        wait_until("the failure is logged", || server.output().contains(&failed));
        wait_until("the other shard answers, and is not healthy", || {
            server.ask("/healthz").is_some_and(|health| health.starts_with("HTTP/1.1 503 "))
        });
        wait_until("the admin listener tells who has failed", || {
            let health = server.ask_admin("/healthz").expect("it answers");
            let told = format!("\r\n\r\nshard {failing} has failed\n");
            health.starts_with("HTTP/1.1 503 ") && health.ends_with(&told)
        });
        let stats = server.ask_admin("/stats").expect("it answers");
        let (_, stats) = stats.split_once("\r\n\r\n").expect("a body");
        let stats: Value = serde_json::from_str(stats).expect("JSON");
        let dead = &stats["shards"][failing];
        assert_eq!((&dead["connections_open"], &dead["websockets_open"]), (&0.into(), &0.into()));
        let cut = dead["closes"]["local"]["1006"].as_u64().expect("a number");
        assert!(cut > 0, "{dead}");
        // Those of the failed shard are cut, the others closed when they are gone.
        let visits = peers.len();
        drop(peers);
        assert_eq!(server.wait().code(), Some(1), "{}", server.output());
        let lines = log.lines(2 * visits);
        let of_failed = lines.iter().filter(|line| line["reason"] == "the shard has failed");
        assert_eq!(of_failed.count() as u64, cut, "{lines:?}");
        assert!(server.output().contains(&format!("error: {failed}")), "{}", server.output());
    }
}

/// A shard that hangs in the kernel until this is dropped, or for longer than anybody waits.
pub struct Hung(Child);

/// Lets a shard hang when it next waits for something to do, and waits until it is missed.
pub fn hang(server: &Server, shard: usize) -> Hung {
    let hung = begin_to_hang(server, shard);
    wait_until("the shard is missed", || {
        server.ask_admin("/healthz").is_some_and(|health| health.starts_with("HTTP/1.1 503 "))
    });
    hung
}

/// Lets a shard hang when it next waits for something to do.
pub fn begin_to_hang(server: &Server, shard: usize) -> Hung {
    let strace = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "trace=io_uring_enter", "-e"])
        .arg(format!("inject=io_uring_enter:delay_enter={}", 2 * HANG.as_micros()))
        .arg("-p")
        .arg(thread_of_shard(server, shard))
        .stdin(Stdio::null())
        .spawn()
        .expect("strace runs");
    Hung(strace)
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_that_may_not_use_io_uring_says_what_forbids_it() {
    for (answer, name) in [(EPERM, "Operation not permitted"), (ENOSYS, "Function not implemented")]
    {
        let output = Command::new("python3")
            .args(["-c", FILTER, &answer.to_string()])
            .arg(Server::command().get_program())
            .stdin(Stdio::null())
            .output()
            .expect("python3 runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("a seccomp filter") && said.contains(name), "{said}");
    }
}

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
/// Runs a program for which io_uring_setup(2), the call 425 of every architecture, fails with an
/// error number: a filter of three instructions (seccomp(2)).
const FILTER: &str = r#"
import ctypes, os, struct, sys
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
filters = b"".join(struct.pack("HBBI", *instruction) for instruction in (
    (LOAD, 0, 0, 0), (EQUALS, 0, 1, 425),
    (RETURN, 0, 0, 0x00050000 | int(sys.argv[1])), (RETURN, 0, 0, 0x7fff0000)))
buffer = ctypes.create_string_buffer(filters)
program = struct.pack("HP", len(filters) // 8, ctypes.addressof(buffer))
prctl = ctypes.CDLL(None, use_errno=True).prctl
arguments = (ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
assert prctl(38, *arguments) == 0, "PR_SET_NO_NEW_PRIVS"
assert prctl(22, ctypes.c_ulong(2), ctypes.c_char_p(program)) == 0, "PR_SET_SECCOMP"
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// The number of a shard's thread.
fn thread_of_shard(server: &Server, shard: usize) -> OsString {
    let tasks = fs::read_dir(server.process_path("task")).expect("it runs");
    let mut threads = tasks.map(|task| task.expect("a thread").path());
    let name = format!("shard-{shard}\n");
    let thread = threads
        .find(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm == name))
        .expect("the shard has a thread");
    thread.file_name().expect("a number").to_owned()
}

/// Lets the kernel refuse every further system call of one shard's event loop.
fn fail(server: &Server, shard: usize) {
    let mut strace = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", "trace=io_uring_enter"])
        .args(["-e", "inject=io_uring_enter:error=ENOMEM", "-p"])
        .arg(thread_of_shard(server, shard))
        .stdin(Stdio::null())
        .spawn()
        .expect("strace runs");
    // It ends with the thread that it watches.
    std::thread::spawn(move || strace.wait());
}
