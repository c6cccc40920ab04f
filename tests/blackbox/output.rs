//! Output that nobody takes: the log and the counters may be lost, the service goes on.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use crate::peer::{Peer, TEXT};
use crate::server::{Server, wait_until};

/// A server whose two streams the test holds itself; dropping it kills the process.
struct Streams {
    child: Child,
    address: std::net::SocketAddr,
    output: Option<BufReader<ChildStdout>>,
}

impl Streams {
    fn start(flags: &[&str], error: Stdio) -> Self {
        let mut child = Server::command()
            .args(["--listen", "127.0.0.1:0", "--shards", "2"])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(error)
            .spawn()
            .expect("the server starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("a start line");
        let url = line.trim().strip_prefix("listening on ws://").expect("the address");
        let address = url.trim_end_matches('/').parse().expect("an address");
        // Under 64 KiB, so the server has written them already or never waits for the reader.
        for _ in 0..3 {
            output.read_line(&mut line).expect("a start line");
        }
        Self { child, address, output: Some(output) }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("sh runs").success());
    }

    fn still_serves(&self) {
        let mut peer = Peer::upgrade(self.address, "/echo");
        peer.send_frame(TEXT, b"still serving");
        peer.expect(TEXT, b"still serving");
    }

    fn end(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut status = None;
        wait_until("the server ends", || {
            status = self.child.try_wait().expect("the server is our child");
            status.is_some()
        });
        status.expect("waited for")
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    for format in ["human", "json"] {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let flags = ["--log-level", "debug", "--log-format", format, "--drain", "1s"];
        let mut server = Streams::start(&flags, full.into());
        server.still_serves();
        assert!(server.end().success());

        let mut server = Streams::start(&flags, Stdio::piped());
        drop(server.child.stderr.take());
        server.still_serves();
        assert!(server.end().success());
    }
}

#[test]
fn counters_for_a_closed_output_stop_nothing() {
    let mut server = Streams::start(&["--drain", "1s"], Stdio::null());
    drop(server.output.take());
    for _ in 0..3 {
        server.signal("USR1");
        server.still_serves();
    }
    assert!(server.end().success());
}

#[test]
fn counters_that_nobody_reads_do_not_keep_the_server_from_stopping() {
    let mut server = Streams::start(&["--drain", "1s"], Stdio::null());
    // Far more than a pipe holds, 64 KiB, also where some signals fall together.
    for _ in 0..200 {
        server.signal("USR1");
        server.still_serves();
    }
    assert!(server.end().success());
}

#[test]
fn commands_tell_by_their_status_that_nobody_can_read() {
    for (arguments, status) in
        [(&["man"][..], 1), (&["config"], 1), (&["config", "--shards", "none"], 2)]
    {
        let full = || OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let mut command = Server::command();
        command.args(arguments).stdout(full()).stderr(full());
        assert_eq!(command.status().expect("it runs").code(), Some(status), "{arguments:?}");
    }
}
