//! Channels by client libraries that nobody here wrote.

use std::io::{BufRead, BufReader};
use std::process::{self, Command, Stdio};

use crate::channels::{CONFIGURATION, serve, server_command};
use crate::foreign_clients::{Client, expect_success_with, program, tools};
use crate::server::{Server, wait_until};

#[test]
fn the_javascript_library_has_all_it_can_do() {
    let Some(tools) = tools() else { return };
    for (shards, encoding) in [(1, "json"), (2, "json"), (1, "protobuf"), (2, "protobuf")] {
        let flags = ["--max-backlog", "64KiB", "--client-ping-interval", "2s"];
        let timeout = ["--client-pong-timeout", "1900ms"];
        let server = serve(shards, &[&flags[..], &timeout].concat());
        let mut command = Command::new("node");
        command.env("NODE_PATH", tools.join("node/node_modules"));
        command.arg(program("centrifuge_channels.js")).args([&server.url(""), encoding]);
        expect_success_with(command, server, &format!("{shards} shards, {encoding}"));
    }
}

#[test]
fn the_javascript_library_comes_back_to_a_server_that_was_started_again() {
    let Some(tools) = tools() else { return };
    for encoding in ["json", "protobuf"] {
        // Not of those ports that the kernel gives to clients: one that tries to connect while
        // nobody listens might get this one, and meet itself.
        let address = format!("127.0.77.1:{}", 20_000 + process::id() % 10_000);
        let flags = ["--config", CONFIGURATION];
        let mut server = Server::start_as(server_command(), &[&address], 2, &flags);
        let mut command = Command::new("node");
        command.env("NODE_PATH", tools.join("node/node_modules"));
        command.arg(program("centrifuge_channels.js"));
        command.args([&server.url(""), encoding, "restart"]);
        let client = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut client = Client(client.expect("node runs"));
        let mut lines = BufReader::new(client.0.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next().expect("a line").expect("text"), "subscribed");
        server.signal("TERM");
        assert!(server.wait().success());
        let server = Server::start_as(server_command(), &[&address], 2, &flags);
        let mut status = None;
        wait_until("the client ends", || {
            status = client.0.try_wait().expect("the client is our child");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{encoding}");
        server.stop();
    }
}

#[test]
fn the_page_resumes_a_channel() {
    let Some(tools) = tools() else { return };
    let kept = "history_size=10,history_ttl=10m,force_recovery";
    let flags = ["--realtime", "true", "--client-insecure", "true", "--channels", kept];
    let server = Server::start_as(server_command(), &["127.0.0.1:0"], 2, &flags);
    let mut command = Command::new("node");
    command.env("NODE_PATH", tools.join("node/node_modules"));
    command.arg(program("chromium_channels.js")).arg(server.url(""));
    expect_success_with(command, server, "channels on the page");
}

/// The tests that PyPI's centrifuge-python brings along, as they are.
#[test]
fn the_tests_of_the_python_library_pass() {
    let Some(tools) = tools() else { return };
    let flags = ["--config", "tests/config/centrifuge-python.toml"];
    let server = Server::start_as(server_command(), &["127.0.0.1:8000"], 2, &flags);
    let mut python = Command::new(tools.join("python/bin/python"));
    python.args(["-m", "unittest", "-v", "tests.test_client"]);
    python.current_dir(tools.join("centrifuge-python"));
    let said = expect_success_with(python, server, "its own tests");
    assert!(said.contains("\nRan 62 tests in ") && said.ends_with("\nOK\n"), "{said}");
}
