//! The access log: who came and was let in or refused, and how long those who were let in stayed.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use serde_json::{Value, json};

use crate::peer::{Peer, upgrade_request};
use crate::server::{Server, socket_path, wait_until};

const TEXT: u8 = 1;

/// A file of a test, which goes with it.
pub struct LogFile(PathBuf);

impl LogFile {
    pub fn new(name: &str) -> Self {
        Self(socket_path(name).with_extension("log"))
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    /// The lines, once there are as many.
    pub fn lines(&self, count: usize) -> Vec<Value> {
        let read = || fs::read_to_string(&self.0).unwrap_or_default();
        wait_until("the lines are written", || read().lines().count() >= count);
        read().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn every_visit_and_every_refusal_has_its_lines() {
    for shards in [1, 2] {
        let log = LogFile::new("access");
        let flags = ["--access-log", log.path(), "--peer-addresses", "true"];
        let server = Server::start(shards, &flags);
        let mut peer = Peer::connect(server.address());
        peer.send(&upgrade_request("/broadcast/news?exclude_self=false", "User-Agent: tester\r\n"));
        assert_eq!(peer.read_response().status, 101);
        for _ in 0..3 {
            peer.send_frame(TEXT, &[b'x'; 100]);
            peer.expect(TEXT, &[b'x'; 100]);
        }
        peer.send_close(4321);
        peer.read_close();
        peer.expect_end();
        assert_eq!(Peer::connect(server.address()).get("/nowhere").status, 404);
        let lines = log.lines(3);
        assert_eq!(lines.len(), 3, "{lines:?}");
        let line = |event: &str| {
            let line = lines.iter().find(|line| line["event"] == event);
            line.unwrap_or_else(|| panic!("{event} in {lines:?}"))
        };
        let (open, close, refused) = (line("open"), line("close"), line("refused"));
        assert_eq!(open["connection"], close["connection"]);
        assert_eq!((&open["status"], &open["user_agent"]), (&json!(101), &json!("tester")));
        for line in [open, close] {
            assert_eq!(line["address"], "127.0.0.1");
            assert_eq!(
                (&line["path"], &line["topic"]),
                (&json!("/broadcast/news"), &json!("news"))
            );
            assert!(line["time_s"].as_f64().is_some_and(|time_s| time_s > 1e9), "{line}");
        }
        assert_eq!((&close["code"], &close["initiator"]), (&json!(4321), &json!("remote")));
        assert_eq!((&close["received_messages"], &close["sent_messages"]), (&json!(3), &json!(3)));
        // Three frames with masks and a close frame with a code.
        assert_eq!(close["received_bytes"], 3 * 106 + 8);
        assert!(close["sent_bytes"].as_u64().is_some_and(|bytes| bytes > 3 * 102), "{close}");
        assert!(close["duration_s"].is_f64());
        assert_eq!((&refused["status"], &refused["reason"]), (&json!(404), &json!("not_found")));
        assert_eq!(refused["path"], "/nowhere");
        let closed = server.ask_admin("/closed").expect("an answer");
        assert!(closed.contains(r#""path":"/broadcast/news""#), "{closed}");
        assert!(closed.contains(r#""received_bytes":326"#), "{closed}");
        server.stop();
    }
}

#[test]
fn a_log_that_was_rotated_is_opened_anew_and_the_server_goes_on() {
    let log = LogFile::new("rotated");
    let server = Server::start(1, &["--access-log", log.path()]);
    let visit = || drop(Peer::upgrade(server.address(), "/echo"));
    visit();
    log.lines(2);
    let renamed = LogFile(log.0.with_extension("log.1"));
    fs::rename(&log.0, &renamed.0).expect("it is there");
    server.signal("HUP");
    let mut visits = 1;
    wait_until("it is opened anew", || {
        visit();
        visits += 1;
        log.0.exists()
    });
    wait_until("all are told", || {
        let count = |log: &LogFile| fs::read_to_string(&log.0).unwrap_or_default().lines().count();
        count(&log) + count(&renamed) == 2 * visits
    });
    assert!(
        server
            .ask_admin("/metrics")
            .is_some_and(|it| { it.contains("\nringwire_access_log_lost_total 0.0\n") })
    );
    server.stop();
}

#[test]
fn a_share_of_the_connections_is_told_of() {
    let log = LogFile::new("sampled");
    let flags = ["--access-log", log.path(), "--access-log-sample", "0.5"];
    let server = Server::start(1, &flags);
    let peers: Vec<_> = (0..100).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    drop(peers);
    wait_until("all have gone", || server.stats().connections_open() == 0);
    server.stop();
    let lines = log.lines(2);
    // Whoever is told of when it comes is told of when it goes. Hardly ever are fewer than 15 of a
    // hundred drawn, or more than 85: once in 10^13 times.
    let opened = lines.iter().filter(|line| line["event"] == "open").count();
    assert_eq!(lines.len(), 2 * opened);
    assert!((15..=85).contains(&opened), "{opened}");
}

#[test]
fn whoever_listens_on_a_socket_gets_the_lines() {
    let path = socket_path("access-socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let reader = thread::spawn(move || {
        // The server looks whether somebody listens before it starts.
        let streams = listener.incoming().filter_map(Result::ok).skip(1);
        let mut lines = streams.flat_map(|stream| BufReader::new(stream).lines());
        lines.next().expect("a line").expect("text")
    });
    let server = Server::start(1, &["--access-log", &format!("unix:{}", path.display())]);
    let _peer = Peer::upgrade(server.address(), "/echo");
    let line: Value = serde_json::from_str(&reader.join().expect("no panic")).expect("JSON");
    assert_eq!((&line["event"], &line["path"]), (&json!("open"), &json!("/echo")));
    server.stop();
    let _ = fs::remove_file(path);
}

#[test]
fn a_log_that_cannot_be_written_keeps_the_server_from_starting() {
    for place in ["/nowhere/access.log", "unix:/nowhere/access.sock"] {
        let mut command = Server::command();
        command.args(["--listen", "127.0.0.1:0", "--admin", "off", "--access-log", place]);
        let output = command.output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(told.contains("cannot write the access log to") && told.contains(place), "{told}");
        assert!(!Path::new("/nowhere").exists());
    }
}
