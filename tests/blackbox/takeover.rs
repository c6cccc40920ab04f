//! Restart without losing the port: a newcomer takes over the listeners of the server that is
//! there, and both pass on what is published until that one has drained.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::thread;

use crate::HANG;
use crate::peer::{self, CLOSE, Peer, TEXT, close_payload};
use crate::server::{Server, socket_path, wait_until};

/// A path by which servers find each other.
pub struct Path(PathBuf);

impl Path {
    pub fn new(name: &str) -> Self {
        let path = socket_path(&format!("takeover-{name}"));
        let _ = fs::remove_file(&path);
        Self(path)
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    /// A server that is found there, or takes over from the one that is.
    fn start(&self, listeners: &[&str], shards: usize, drain: &str) -> Server {
        Server::start_on(listeners, shards, &["--takeover", self.text(), "--drain", drain])
    }

    /// What becomes of a newcomer that cannot take over.
    fn refuses(&self, command: &mut std::process::Command, listener: &str) -> String {
        command.args(["--takeover", self.text(), "--listen", listener, "--shards", "1"]);
        let Output { status, stderr, .. } =
            command.stdin(Stdio::null()).output().expect("the program runs");
        assert_eq!(status.code(), Some(1));
        String::from_utf8(stderr).expect("UTF-8")
    }

    /// Whoever connects there as a newcomer would.
    pub fn knock(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.0).expect("somebody listens");
        stream.set_read_timeout(Some(HANG)).expect("SO_RCVTIMEO");
        stream
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 1).to_be_bytes()[..], &[kind], content].concat()
}

pub const HELLO: u8 = 1;
pub const TAKEN: u8 = 5;
pub const RELAYING: u8 = 6;
pub const GREETING: &[u8] = b"ringwire takeover \0\0\0\x02";

#[test]
fn a_successor_serves_by_the_same_sockets_whatever_its_number_of_shards() {
    for (before, after) in [(1, 1), (2, 5), (5, 2)] {
        let path = Path::new(&format!("shards-{before}-{after}"));
        let unix = socket_path(&format!("takeover-listener-{before}-{after}"));
        let _ = fs::remove_file(&unix);
        let listeners = ["127.0.0.1:0", &format!("unix:{}", unix.display())];
        let mut old = path.start(&listeners, before, "1s");
        let inode = fs::metadata(&unix).expect("the socket file").ino();
        assert_eq!(fs::metadata(&path.0).expect("it").permissions().mode() & 0o777, 0o600);
        let mut tcp_peer = Peer::upgrade(old.address(), "/echo");
        let mut unix_peer = Peer::connect_unix(&unix).expect("it listens").upgraded("/echo");
        let new = path.start(&listeners, after, "1s");
        assert_eq!((new.address(), new.admin()), (old.address(), old.admin()));
        for (code, reason) in [tcp_peer.read_close(), unix_peer.read_close()] {
            assert_eq!((code, reason.as_str()), (1012, "service restart"));
        }
        tcp_peer.send_close(1012);
        unix_peer.send_close(1012);
        assert!(old.wait().success(), "{}", old.output());
        assert_eq!(fs::metadata(&unix).expect("it stays").ino(), inode);
        // As many as would meet a queue that nobody accepts from.
        for number in 0..20 {
            let mut peer = Peer::upgrade(new.address(), "/echo");
            let text = format!("message {number}");
            peer.send_frame(TEXT, text.as_bytes());
            peer.expect(TEXT, text.as_bytes());
            let mut peer = Peer::connect_unix(&unix).expect("it listens").upgraded("/echo");
            peer.send_frame(TEXT, text.as_bytes());
            peer.expect(TEXT, text.as_bytes());
        }
        assert!(new.ask_admin("/readyz").expect("an answer").starts_with("HTTP/1.1 200"));
        new.stop();
        assert!(!unix.exists() && !path.0.exists(), "the last one tidies up");
    }
}

#[test]
fn each_successor_can_be_succeeded() {
    let path = Path::new("chain");
    let mut server = path.start(&["127.0.0.1:0"], 2, "1s");
    for _ in 0..3 {
        let mut peer = Peer::upgrade(server.address(), "/echo");
        let next = path.start(&["127.0.0.1:0"], 2, "1s");
        assert_eq!(peer.read_close().0, 1012);
        peer.send_close(1012);
        assert!(server.wait().success(), "{}", server.output());
        wait_until("it can be succeeded", || {
            next.output().contains("the predecessor has ended") && path.0.exists()
        });
        server = next;
    }
    server.stop();
}

/// A message was passed on before the newcomer had been told that messages would be.
#[test]
fn a_server_that_never_ceases_to_publish_can_be_succeeded() {
    let path = Path::new("flood");
    let mut server = path.start(&["127.0.0.1:0"], 2, "1s");
    for _ in 0..4 {
        let publisher = Peer::upgrade(server.address(), "/broadcast/flood?exclude_self=true");
        let mut writer = publisher.writer();
        // Until it is closed.
        let publishing = thread::spawn(move || {
            let burst = peer::frame(0x80 | TEXT, b"without end").repeat(64);
            while writer.write_all(&burst).is_ok() {}
        });
        let next = path.start(&["127.0.0.1:0"], 2, "1s");
        wait_until("it has taken over", || next.output().contains("taken over"));
        assert!(server.wait().success(), "{}", server.output());
        publishing.join().expect("no panic");
        wait_until("it can be succeeded", || path.0.exists());
        server = next;
    }
    server.stop();
}

#[test]
fn addresses_that_only_one_has_are_bound_and_closed() {
    let path = Path::new("addresses");
    let gone = socket_path("takeover-gone");
    let come = socket_path("takeover-come");
    let unix = |path: &PathBuf| format!("unix:{}", path.display());
    let mut old = path.start(&["127.0.0.1:0", &unix(&gone)], 1, "1s");
    let new = path.start(&["127.0.0.1:0", &unix(&come)], 1, "1s");
    assert!(old.wait().success(), "{}", old.output());
    assert!(!gone.exists());
    Peer::connect_unix(&come).expect("it listens").upgraded("/echo");
    new.stop();
}

#[test]
fn what_is_published_in_one_reaches_the_members_of_both_once() {
    for shards in [1, 3] {
        let path = Path::new(&format!("relay-{shards}"));
        let old = path.start(&["127.0.0.1:0"], shards, "1h");
        // Those that are told to go in the first moments are not those that stay for long.
        let mut staying: Vec<_> =
            (0..20).map(|_| Peer::upgrade(old.address(), "/broadcast/news")).collect();
        let new = path.start(&["127.0.0.1:0"], shards, "1s");
        wait_until("it has taken over", || new.output().contains("taken over"));
        let mut member = Peer::upgrade(new.address(), "/broadcast/news");
        assert_eq!(new.stats().websockets_open(), 1);
        for number in 0..50 {
            let text = format!("from the successor {number}");
            member.send_frame(TEXT, text.as_bytes());
            member.expect(TEXT, text.as_bytes());
        }
        let mut speaker = staying.pop().expect("one of twenty");
        for number in 0..50 {
            let text = format!("from the predecessor {number}");
            speaker.send_frame(TEXT, text.as_bytes());
            member.expect(TEXT, text.as_bytes());
        }
        let mut told = 0;
        staying.push(speaker);
        for peer in &mut staying {
            // Those of one server come in their order; of two, in any.
            let mut next = [0, 0];
            while next != [50, 50] {
                let frame = peer.read_frame();
                if frame.opcode == CLOSE {
                    assert_eq!(close_payload(&frame.payload).0, 1012);
                    told += 1;
                    break;
                }
                let text = String::from_utf8(frame.payload).expect("UTF-8");
                let from = usize::from(text.starts_with("from the successor"));
                assert!(text.ends_with(&format!(" {}", next[from])), "{text} after {next:?}");
                next[from] += 1;
            }
        }
        assert!(told < staying.len(), "nobody has stayed");
        // The next newcomer has to wait for the end of the first server.
        let refused = path.refuses(&mut Server::command(), "127.0.0.1:0");
        assert!(refused.contains("has not ended yet"), "{refused}");
        drop(old);
        member.send_frame(TEXT, b"alone");
        member.expect(TEXT, b"alone");
        new.stop();
    }
}

#[test]
fn a_newcomer_that_fails_leaves_all_as_it_was() {
    let path = Path::new("failure");
    let old = path.start(&["127.0.0.1:0"], 2, "1s");
    let mut peer = Peer::upgrade(old.address(), "/echo");
    // One that cannot bind what it wants besides.
    let taken = UnixListener::bind(socket_path("takeover-taken")).expect("a free path");
    let unix = format!("unix:{}", socket_path("takeover-taken").display());
    let refused = path.refuses(&mut Server::command(), &unix);
    assert!(refused.contains("another process listens there"), "{refused}");
    drop(taken);
    // One that hears the offer and goes, and one that goes when it has taken all.
    for last in [frame(HELLO, GREETING), [frame(HELLO, GREETING), frame(5, b"[0]")].concat()] {
        let mut newcomer = path.knock();
        newcomer.write_all(&last).expect("it reads");
        newcomer.read_exact(&mut [0; 64]).expect("a greeting and an offer");
    }
    wait_until("all of that is forgotten", || {
        old.output().matches("a newcomer has not taken over").count() == 3
    });
    peer.send_frame(TEXT, b"as before");
    peer.expect(TEXT, b"as before");
    for _ in 0..20 {
        Peer::upgrade(old.address(), "/echo");
    }
    // And one that does not fail is served all the same.
    let new = path.start(&["127.0.0.1:0"], 2, "1s");
    assert_eq!(peer.read_close().0, 1012);
    drop(old);
    new.stop();
    let _ = fs::remove_file(socket_path("takeover-taken"));
}

/// The newcomer had taken the file for its own, and removed it.
#[test]
fn a_newcomer_that_fails_leaves_the_file_of_a_unix_listener() {
    let path = Path::new("file");
    let file = socket_path("takeover-file-listener");
    let listener = format!("unix:{}", file.display());
    let old = path.start(&["127.0.0.1:0", &listener], 1, "1s");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = taken.local_addr().expect("bound").to_string();
    let mut command = Server::command();
    command.args(["--listen", &listener]);
    assert!(path.refuses(&mut command, &busy).contains(&busy));
    assert!(Peer::connect_unix(&file).is_ok());
    let new = path.start(&["127.0.0.1:0", &listener], 2, "1s");
    wait_until("it has taken over", || new.output().contains("taken over"));
    assert!(Peer::connect_unix(&file).is_ok());
    new.stop();
    assert!(!file.exists(), "it goes with the last");
    drop(old);
}

/// What waited for it was forgotten and not counted.
#[test]
fn what_a_newcomer_does_not_take_any_more_is_lost_and_counted() {
    let path = Path::new("lost");
    let old = path.start(&["127.0.0.1:0"], 2, "1s");
    let mut newcomer = path.knock();
    newcomer.write_all(&frame(HELLO, GREETING)).expect("it reads");
    newcomer.write_all(&frame(TAKEN, b"[]")).expect("it reads");
    let (mut heard, relaying) = (Vec::new(), frame(RELAYING, b""));
    while !heard.ends_with(&relaying) {
        let mut byte = [0];
        newcomer.read_exact(&mut byte).expect("it goes on");
        heard.extend(byte);
    }
    let mut peer = Peer::upgrade(old.address(), "/broadcast/news");
    // More than a socket takes for somebody who does not read.
    (0..40).for_each(|_| peer.send_frame(TEXT, &[b'x'; 100_000]));
    (0..40).for_each(|_| peer.expect(TEXT, &[b'x'; 100_000]));
    assert_eq!(old.stats().relay_lost(), 0);
    drop(newcomer);
    wait_until("it is counted", || old.stats().relay_lost() > 0);
    assert!(old.stats().relay_lost() <= 40);
    old.stop();
}

#[test]
fn who_speaks_differently_is_refused() {
    let path = Path::new("format");
    let old = path.start(&["127.0.0.1:0"], 1, "1s");
    let mut other = path.knock();
    other.write_all(&frame(HELLO, b"ringwire takeover \0\0\0\x01")).expect("it reads");
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).expect("an answer");
    assert!(String::from_utf8_lossy(&answer).contains("version 1"), "{answer:?}");
    let mut foreign = path.knock();
    foreign.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
    let _ = foreign.read_to_end(&mut answer);
    wait_until("both are refused", || {
        old.output().matches("a newcomer has not taken over").count() == 2
    });
    Peer::upgrade(old.address(), "/echo");
    old.stop();
    // The same the other way round.
    let listener = UnixListener::bind(&path.0).expect("the server has removed its file");
    let foreign = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a newcomer");
        stream.write_all(b"220 ready\r\n").expect("it reads");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let refused = path.refuses(&mut Server::command(), "127.0.0.1:0");
    assert!(refused.contains("cannot take over from the server at"), "{refused}");
    foreign.join().expect("no panic");
}

/// Needs root, who may become another.
#[test]
fn another_user_is_refused() {
    let path = Path::new("user");
    let listener = UnixListener::bind(&path.0).expect("a free path");
    if fs::metadata(&path.0).expect("it").uid() != 0 {
        return;
    }
    drop(listener);
    let old = path.start(&["127.0.0.1:0"], 1, "1s");
    let mut command = Server::command();
    let refused = path.refuses(command.uid(NOBODY), "127.0.0.1:0");
    assert!(refused.contains("ermission denied"), "{refused}");
    // Should the file let it in, the server does not.
    fs::set_permissions(&path.0, fs::Permissions::from_mode(0o666)).expect("it is ours");
    let mut command = Server::command();
    let refused = path.refuses(command.uid(NOBODY), "127.0.0.1:0");
    assert!(refused.contains("it belongs to user 0"), "{refused}");
    Peer::upgrade(old.address(), "/echo");
    old.stop();
}

#[test]
fn a_file_that_was_left_behind_is_replaced() {
    let path = Path::new("stale");
    drop(UnixListener::bind(&path.0).expect("a free path"));
    let old = path.start(&["127.0.0.1:0"], 1, "1s");
    drop(old);
    assert!(path.0.exists(), "who is killed removes nothing");
    path.start(&["127.0.0.1:0"], 1, "1s").stop();
    assert!(!path.0.exists());
}

#[test]
fn a_server_that_drains_can_be_succeeded() {
    let path = Path::new("draining");
    let mut old = path.start(&["127.0.0.1:0"], 2, "1h");
    let _members: Vec<_> = (0..20).map(|_| Peer::upgrade(old.address(), "/echo")).collect();
    old.signal("TERM");
    wait_until("it drains", || old.output().contains("draining"));
    let new = path.start(&["127.0.0.1:0"], 2, "1s");
    wait_until("it has taken over", || new.output().contains("taken over"));
    for _ in 0..20 {
        Peer::upgrade(new.address(), "/echo");
    }
    assert_eq!(new.stats().upgrades(), 20);
    old.signal("TERM");
    old.wait();
    new.stop();
}

const NOBODY: u32 = 65534;
