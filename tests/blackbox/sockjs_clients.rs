//! npm `sockjs-client` in Node and in headless Chromium, over each transport that it has there.

use std::process::Command;

use crate::foreign_clients::{expect_success_with, program, tools};
use crate::server::Server;

fn expect_all_transports(shards: usize, kind: &str) {
    let Some(tools) = tools() else { return };
    let server = Server::start(shards, &["--config", "tests/config/sockjs-protocol.toml"]);
    let mut command = Command::new("node");
    command.env("NODE_PATH", tools.join("node/node_modules"));
    command.arg(program("sockjs.js")).args([&server.url("").replace("ws:", "http:"), kind]);
    expect_success_with(command, server, &format!("{shards} shards, {kind}"));
}

#[test]
fn the_client_in_node() {
    expect_all_transports(1, "node");
    expect_all_transports(3, "node");
}

#[test]
fn the_client_in_chromium() {
    expect_all_transports(2, "chromium");
}
