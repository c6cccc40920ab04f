//! Clients nobody here wrote: Node `ws`, Python `websockets` and `tlslite-ng`, headless Chromium, each
//! driven by a program in tests/clients that checks content, order and close codes; `curl` and
//! `openssl`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs, io};

use crate::SHARD_COUNTS;
use crate::authority::Authority;
use crate::peer::{BINARY, Peer, TEXT};
use crate::server::{Server, wait_until};

#[test]
fn node_ws() {
    let Some(tools) = tools() else { return };
    for (shards, compression) in cases() {
        let mut command = Command::new("node");
        command.env("NODE_PATH", tools.join("node/node_modules")).arg(program("node_ws.js"));
        expect_success(command, shards, compression);
    }
}

#[test]
fn python_websockets() {
    let Some(tools) = tools() else { return };
    for (shards, compression) in cases() {
        let mut command = Command::new(tools.join("python/bin/python"));
        command.arg(program("python_websockets.py"));
        expect_success(command, shards, compression);
    }
}

#[test]
fn chromium_on_the_page() {
    let Some(tools) = tools() else { return };
    for (shards, compression) in cases() {
        let mut command = Command::new("node");
        command.env("NODE_PATH", tools.join("node/node_modules")).arg(program("chromium.js"));
        expect_success(command, shards, compression);
    }
}

#[test]
fn clients_come_by_tls_as_well() {
    let Some(tools) = tools() else { return };
    for name in ["node_ws.js", "chromium.js"] {
        let mut command = Command::new("node");
        command.env("NODE_PATH", tools.join("node/node_modules")).arg(program(name));
        expect_success_over_tls(command);
    }
    let mut command = Command::new(tools.join("python/bin/python"));
    command.arg(program("python_websockets.py"));
    expect_success_over_tls(command);
}

/// Each breach has its alert, which is written down there, and hurts nobody else.
#[test]
fn tlslite_breaks_the_rules_of_tls() {
    let Some(tools) = tools() else { return };
    let authority = Authority::new("breaches");
    let server = authority.serve(2, &[]);
    let mut command = Command::new(tools.join("python/bin/python"));
    command.arg(program("tls_misbehaviour.py"));
    command.args(["127.0.0.1", &server.address().port().to_string()]);
    expect_success_with(command, server, "which breaks rules");
}

/// `K` asks for another key of the server's as well, `k` takes one alone.
#[test]
fn openssl_takes_other_keys() {
    if tools().is_none() {
        return;
    }
    let authority = Authority::new("other-keys");
    let server = authority.serve(1, &[]);
    let line = format!(
        "exec timeout 60 openssl s_client -tls1_3 -connect {} -CAfile {} 2>&1",
        server.address(),
        authority.path("ca.pem")
    );
    let client = Command::new("sh")
        .args(["-c", &line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("openssl");
    let mut client = Client(client);
    let mut input = client.0.stdin.take().expect("piped");
    let output = client.0.stdout.take().expect("piped");
    let mut lines = BufReader::new(output).lines().map(|line| line.expect("text"));
    let mut ask = |what: &str, answer: &str| {
        input.write_all(what.as_bytes()).expect("it reads");
        assert!(lines.any(|line| line.starts_with(answer)), "no {answer} for {what}");
    };
    const REQUEST: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for key in ["K\n", "k\n", "K\n"] {
        ask(REQUEST, "HTTP/1.1 200");
        ask(key, "KEYUPDATE");
    }
    ask(REQUEST, "HTTP/1.1 200");
    drop(client);
    server.stop();
}

#[test]
fn python_http_client() {
    let Some(tools) = tools() else { return };
    for shards in SHARD_COUNTS {
        let mut command = Command::new(tools.join("python/bin/python"));
        command.arg(program("python_streams.py"));
        expect_success(command, shards, "off");
    }
}

/// A stream that the server ends in good order is complete to curl; one that is cut off, because
/// nobody reads what curl writes, is not.
#[test]
fn curl_streams() {
    if tools().is_none() {
        return;
    }
    for (version, is_read, status) in
        [("--http1.1", true, 0), ("--http1.0", true, 0), ("--http1.1", false, PARTIAL_FILE)]
    {
        let mut server = Server::start(2, &["--max-backlog", "64KiB"]);
        let mut curl = Command::new("curl")
            .args(["--silent", "--no-buffer", "--noproxy", "*", version])
            .arg(format!("http://{}/broadcast/news?mode=stream", server.address()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map(Client)
            .expect("curl runs");
        wait_until("curl listens", || server.stats().streams_open() == 1);
        let mut lines = BufReader::new(curl.0.stdout.take().expect("a pipe")).lines();
        let mut next_line = || loop {
            let line = lines.next().transpose().expect("curl writes text");
            if line.as_deref() != Some("") {
                return line;
            }
        };
        let mut publisher = Peer::upgrade(server.address(), "/broadcast/news?exclude_self=true");
        let mut number = 0;
        let goes_on = |number| match is_read {
            true => number < 100,
            false => server.stats().closes("local", 1013) == 0,
        };
        while goes_on(number) {
            assert!(number < 16_000, "nobody is cut off");
            let text = format!("{number} {}", "x".repeat(16_000));
            publisher.send_frame(TEXT, text.as_bytes());
            if is_read {
                assert_eq!(next_line(), Some(text));
            }
            number += 1;
        }
        if is_read {
            server.signal("TERM");
        }
        while let Some(line) = next_line() {
            assert!(!is_read && line.len() > 16_000, "{line:.20}");
        }
        assert_eq!(curl.0.wait().expect("curl ends").code(), Some(status), "{version}");
        match is_read {
            true => assert!(server.wait().success()),
            false => server.stop(),
        }
    }
}

#[test]
fn curl_publishes() {
    if tools().is_none() {
        return;
    }
    let server = Server::start(2, &[]);
    let url = format!("http://{}/broadcast/news", server.address());
    let mut member = Peer::upgrade(server.address(), "/broadcast/news");
    // So large that curl asks whether it may send it, unless it sends chunks.
    let large = "x".repeat(2 << 20);
    for (arguments, body, opcode) in [
        (&["-H", "Content-Type: text/plain", "--data-binary", "@-"][..], "hello", TEXT),
        (&["--json", "@-"], "{\"a\": 1}", TEXT),
        (&["-H", "Content-Type:", "--data-binary", "@-"], &large, BINARY),
        (&["-X", "POST", "-T", "-"], &large, BINARY),
    ] {
        let mut curl = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--noproxy", "*"])
            .args(arguments)
            .arg(&url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl runs");
        let mut input = curl.stdin.take().expect("a pipe");
        input.write_all(body.as_bytes()).expect("curl reads");
        drop(input);
        let output = curl.wait_with_output().expect("curl ends");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert_eq!(output.stdout, b"accepted\n");
        member.expect(opcode, body.as_bytes());
    }
    server.stop();
}

#[test]
fn curl_closes_a_topic_and_python_websockets_is_told() {
    const MEMBERS: u64 = 20;
    let Some(tools) = tools() else { return };
    for shards in SHARD_COUNTS {
        let server = Server::start(shards, &[]);
        let mut members = Command::new(tools.join("python/bin/python"));
        members.arg(program("closed_by_order.py")).arg(server.url("/broadcast/news"));
        members.args([&MEMBERS.to_string(), "4001", "closed for today"]);
        let mut members = Client(members.stdin(Stdio::null()).spawn().expect("python runs"));
        wait_until("all are members", || server.stats().websockets_open() == MEMBERS);
        let order = r#"{"topic": "news", "code": 4001, "reason": "closed for today"}"#;
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail-with-body", "--noproxy", "*"])
            .args(["--json", order, &format!("http://{}/topics/close", server.admin())])
            .output()
            .expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("\"closing\":20"), "{output:?}");
        let mut status = None;
        wait_until("all are told", || {
            status = members.0.try_wait().expect("the client is our child");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{shards} shards");
        server.stop();
    }
}

/// How curl ends when a response is not complete.
const PARTIAL_FILE: i32 = 18;

/// Numbers of shards, and ways to compress.
fn cases() -> impl Iterator<Item = (usize, &'static str)> {
    let plain = SHARD_COUNTS.into_iter().map(|shards| (shards, "off"));
    plain.chain(["shared", "dedicated"].map(|mode| (2, mode)))
}

/// Runs a client against a server of its own; it gets the URL and how the server compresses, and
/// says what is wrong.
fn expect_success(mut command: Command, shards: usize, compression: &str) {
    let flags = ["--subprotocol", "chat", "--max-message", "1MiB", "--compression", compression];
    let server = Server::start(shards, &flags);
    command.args([&server.url(""), compression]);
    expect_success_with(command, server, &format!("{shards} shards, {compression}"));
}

/// The same over TLS, with a certificate whose issuer the client is told of.
fn expect_success_over_tls(mut command: Command) {
    let authority = Authority::new("foreign");
    let flags = ["--subprotocol", "chat", "--max-message", "1MiB"];
    let server = authority.serve(2, &flags);
    let certificate = authority.path("ca.pem");
    command.env("NODE_EXTRA_CA_CERTS", &certificate).env("SSL_CERT_FILE", &certificate);
    command.args([&format!("wss://localhost:{}", server.address().port()), "off"]);
    expect_success_with(command, server, "over TLS");
}

/// Runs a client against `server`, which stops behind it; `situation` is what a failure says.
/// Returns what the client has said.
pub fn expect_success_with(mut command: Command, server: Server, situation: &str) -> String {
    let log = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("client-{}.log", server.address().port()));
    let output = fs::File::create(&log).expect("the directory for test files");
    let client = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("descriptors are left"))
        .stderr(output)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut client = Client(client);
    let mut status = None;
    wait_until("the client ends", || {
        status = client.0.try_wait().expect("the client is our child");
        status.is_some()
    });
    let said = fs::read_to_string(&log).expect("its output");
    assert!(status.is_some_and(|status| status.success()), "{command:?}, {situation}:\n{said}");
    fs::remove_file(&log).expect("its output");
    server.stop();
    said
}

/// A client that hangs must not outlive its test.
pub struct Client(pub Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where scripts/test has installed the clients.
pub fn tools() -> Option<PathBuf> {
    let tools = env::var_os("RINGWIRE_TEST_TOOLS").map(PathBuf::from);
    if tools.is_none() {
        // Past the capture of the test runner, which would hide it.
        let text =
            "\nSKIPPED: foreign clients need RINGWIRE_TEST_TOOLS; run scripts/test instead\n";
        io::stderr().write_all(text.as_bytes()).expect("standard error");
    }
    tools
}

/// A client below `tests/clients`.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}
