//! The server under test: started as a process of its own, observed from outside only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{env, fs, thread};

use serde_json::Value;

use crate::HANG;
use crate::peer::Peer;

/// A running `ringwire`; dropping it kills the process.
pub struct Server {
    child: Child,
    output: Arc<Mutex<String>>,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Server {
    /// Starts with one loopback listener on a free port and waits until it is announced.
    pub fn start(shards: usize, flags: &[&str]) -> Self {
        Self::start_on(&["127.0.0.1:0"], shards, flags)
    }

    /// The program alone, with an admin listener of its own unless a flag says otherwise; the
    /// settings of the person who runs the tests do not reach it.
    pub fn command() -> Command {
        let binary = env::var("RINGWIRE_TEST_BINARY")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_ringwire").to_owned());
        let mut command = Command::new(binary);
        Self::set_environment(&mut command);
        command
    }

    /// The same settings for a command that ends in the program.
    pub fn set_environment(command: &mut Command) {
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("RINGWIRE_")) {
            command.env_remove(name);
        }
        command.env(ADMIN_VARIABLE, "127.0.0.1:0");
    }

    /// Starts with these listeners and waits until all TCP ones are announced.
    pub fn start_on(listeners: &[&str], shards: usize, flags: &[&str]) -> Self {
        Self::start_as(Self::command(), listeners, shards, flags)
    }

    /// The same with a command that ends in the program itself.
    pub fn start_as(
        mut command: Command,
        listeners: &[&str],
        shards: usize,
        flags: &[&str],
    ) -> Self {
        command.arg("--shards").arg(shards.to_string());
        for listener in listeners {
            command.args(["--listen", listener]);
        }
        if !flags.contains(&"--drain") {
            // Peers that are still there at the end of a test answer nothing.
            command.args(["--drain", DRAIN]);
        }
        if !flags.contains(&"--shed") {
            // A slow machine has too much to do all the time.
            command.args(["--shed", "false"]);
        }
        command.args(flags).stdin(Stdio::null());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let output = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().expect("stdout is piped"), &output);
        collect(child.stderr.take().expect("stderr is piped"), &output);
        let mut server = Self { child, output, addresses: Vec::new(), admin: None };
        let tcp = listeners.iter().filter(|listener| !listener.starts_with("unix:")).count();
        wait_until("the listeners are announced", || {
            let output = server.output();
            server.addresses = announced(&output, &["listening on ws://", "listening on wss://"]);
            server.admin = announced(&output, &["admin on http://"]).first().copied();
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("the server ended at once with {status}:\n{}", server.output());
            }
            server.addresses.len() >= tcp && output.contains("kernel abilities ")
        });
        server
    }

    /// The address of the first TCP listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The addresses of all TCP listeners, in the order announced.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the listener that sends whoever comes to https.
    pub fn redirecting(&self) -> SocketAddr {
        announced(&self.output(), &["redirecting on http://"])[0]
    }

    /// The address of the listener of the API.
    pub fn api(&self) -> SocketAddr {
        announced(&self.output(), &["api on http://"])[0]
    }

    /// The address of the admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("an admin listener was announced")
    }

    /// Whether no admin listener was announced.
    pub fn finds_no_admin(&self) -> bool {
        self.admin.is_none()
    }

    /// The WebSocket URL of a path that starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address())
    }

    /// All that the server has written so far, standard output and error together.
    pub fn output(&self) -> String {
        self.output.lock().expect("no thread panics with it").clone()
    }

    /// A file of the process below `/proc`, such as `maps`.
    pub fn process_path(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, named as `kill` names it: `TERM`, `INT`, `USR1`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .expect("sh runs");
        assert!(status.success(), "cannot send SIG{name} to the server");
    }

    /// Sets how many descriptors the process may have, its soft limit.
    pub fn allow_descriptors(&self, number: u32) {
        let status = Command::new("prlimit")
            .args([format!("--pid={}", self.child.id()), format!("--nofile={number}:")])
            .status()
            .expect("prlimit, of util-linux, runs");
        assert!(status.success(), "cannot limit the descriptors of the server");
    }

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server ends", || {
            status = self.child.try_wait().expect("the server is our child");
            status.is_some()
        });
        status.expect("waited for")
    }

    /// Stops with SIGTERM and expects a clean exit.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert!(status.success(), "the server ended with {status}:\n{}", self.output());
    }

    /// The counters as they are now, by GET /stats of the admin listener.
    pub fn stats(&self) -> Stats {
        let response = Peer::connect(self.admin()).get("/stats");
        assert_eq!(response.status, 200, "GET /stats");
        Stats(serde_json::from_slice(&response.body).expect("/stats is JSON"))
    }

    /// The answer to a plain GET, unless the connection ends before it.
    pub fn ask(&self, path: &str) -> Option<String> {
        ask(self.address(), path)
    }

    /// The same from the admin listener.
    pub fn ask_admin(&self, path: &str) -> Option<String> {
        ask(self.admin(), path)
    }

    /// Resident memory of the process.
    pub fn resident_bytes(&self) -> u64 {
        self.memory_bytes("VmRSS:")
    }

    /// The most memory that has been resident since the start.
    pub fn peak_resident_bytes(&self) -> u64 {
        self.memory_bytes("VmHWM:")
    }

    fn memory_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(self.process_path("status")).expect("the server runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("proc(5)");
        let kibibytes =
            line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        kibibytes.expect("a number") * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("output of the server:\n{}", self.output());
        }
    }
}

/// The counters of one moment. The names of the JSON keys are here and nowhere else.
pub struct Stats(Value);

impl Stats {
    /// Any counter, by its key.
    pub fn of(&self, key: &str) -> u64 {
        self.count(&[key])
    }

    /// Connections open now.
    pub fn connections_open(&self) -> u64 {
        self.count(&["connections_open"])
    }

    /// Connections accepted since the start.
    pub fn connections_accepted(&self) -> u64 {
        self.count(&["connections_accepted"])
    }

    /// Connections taken over by one shard from another.
    pub fn connections_moved(&self) -> u64 {
        self.count(&["connections_moved"])
    }

    /// Refused connections and requests of all reasons.
    pub fn connections_refused(&self) -> u64 {
        let reasons = self.0["connections_refused"].as_object().expect("an object by reason");
        reasons.values().map(|count| count.as_u64().expect("a count")).sum()
    }

    /// Refused connections and requests of one reason, such as `misdirected`.
    pub fn refused(&self, reason: &str) -> u64 {
        self.count(&["connections_refused", reason])
    }

    /// Bytes received.
    pub fn bytes_in(&self) -> u64 {
        self.count(&["bytes_in"])
    }

    /// Messages received.
    pub fn messages_in(&self) -> u64 {
        self.count(&["messages_in"])
    }

    /// Messages sent.
    pub fn messages_out(&self) -> u64 {
        self.count(&["messages_out"])
    }

    /// Messages published to a topic.
    pub fn broadcasts(&self) -> u64 {
        self.count(&["broadcasts"])
    }

    /// Messages handed to a subscriber.
    pub fn deliveries(&self) -> u64 {
        self.count(&["deliveries"])
    }

    /// Messages compressed.
    pub fn compressions(&self) -> u64 {
        self.count(&["compressions"])
    }

    /// Compressed messages received.
    pub fn inflations(&self) -> u64 {
        self.count(&["inflations"])
    }

    /// Messages dropped by the policy: `drop_newest`, `drop_oldest`, `latest`, `disconnect`.
    pub fn dropped(&self, policy: &str) -> u64 {
        self.count(&["dropped", policy])
    }

    /// Closing handshakes begun by `local` or `remote` with this registered code; none yet is 0.
    pub fn closes(&self, initiator: &str, code: u16) -> u64 {
        self.0["closes"][initiator][code.to_string()].as_u64().unwrap_or(0)
    }

    /// Closing handshakes and ends without one, whoever began them.
    pub fn closes_of_all(&self) -> u64 {
        let initiators = self.0["closes"].as_object().expect("an object by initiator").values();
        let codes = initiators.flat_map(|codes| codes.as_object().expect("by code").values());
        codes.map(|count| count.as_u64().expect("a count")).sum()
    }

    /// WebSockets that have been opened.
    pub fn upgrades(&self) -> u64 {
        self.count(&["upgrades"])
    }

    /// Plain connections that are kept for further requests.
    pub fn plain_kept_alive(&self) -> u64 {
        self.count(&["plain_kept_alive"])
    }

    /// WebSockets open now.
    pub fn websockets_open(&self) -> u64 {
        self.count(&["websockets_open"])
    }

    /// Streams open now.
    pub fn streams_open(&self) -> u64 {
        self.count(&["streams_open"])
    }

    /// Times connections were not read from because of their rates.
    pub fn rate_pauses(&self) -> u64 {
        self.count(&["rate_pauses"])
    }

    /// The same because of the rates of their topics.
    pub fn topic_rate_pauses(&self) -> u64 {
        self.count(&["topic_rate_pauses"])
    }

    /// Connections closed because of their rates.
    pub fn rate_closes(&self) -> u64 {
        self.count(&["rate_closes"])
    }

    /// Messages that did not reach another server.
    pub fn relay_lost(&self) -> u64 {
        self.count(&["relay_lost"])
    }

    /// Messages that streams were not sent, because they are no line.
    pub fn lines_left_out(&self) -> u64 {
        self.count(&["lines_left_out"])
    }

    /// Times that idle connections were parked.
    pub fn parked(&self) -> u64 {
        self.count(&["parked"])
    }

    /// Times that a connection was not read from because it did not read, or memory was short.
    pub fn receives_paused(&self) -> u64 {
        self.count(&["receives_paused"])
    }

    /// Connections closed because memory was short.
    pub fn connections_shed(&self) -> u64 {
        self.count(&["connections_shed"])
    }

    /// Connections closed so that their clients connect again.
    pub fn connections_released(&self) -> u64 {
        self.count(&["connections_released"])
    }

    /// How short memory is: `calm`, `refuse` or `shed`.
    pub fn memory_pressure(&self) -> &str {
        self.0["memory"]["pressure"].as_str().expect("a word")
    }

    /// The same counters for each shard.
    pub fn shards(&self) -> Vec<Stats> {
        let shards = self.0["shards"].as_array().expect("an array of shards");
        shards.iter().cloned().map(Stats).collect()
    }

    fn count(&self, path: &[&str]) -> u64 {
        let value = path.iter().fold(&self.0, |value, key| &value[key]);
        value.as_u64().unwrap_or_else(|| panic!("/stats has no count {path:?}: {}", self.0))
    }
}

fn ask(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(HANG)).expect("SO_RCVTIMEO");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Polls a condition until it holds; panics when that hangs.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < HANG, "waited in vain until {what}");
        thread::sleep(POLL);
    }
}

/// A path for a Unix socket that no other test uses.
pub fn socket_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()))
}

fn collect(stream: impl Read + Send + 'static, output: &Arc<Mutex<String>>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut output = output.lock().expect("no thread panics with it");
            output.push_str(&line);
            output.push('\n');
        }
    });
}

/// The addresses in those lines of the start text that begin in one of these ways.
fn announced(output: &str, beginnings: &[&str]) -> Vec<SocketAddr> {
    let rest = |line| beginnings.iter().find_map(|beginning| str::strip_prefix(line, beginning));
    let urls = output.lines().filter_map(rest);
    urls.filter_map(|rest| {
        let end =
            rest.find(|character: char| character.is_whitespace() || "/\",".contains(character));
        rest[..end.unwrap_or(rest.len())].parse().ok()
    })
    .collect()
}

/// Where the admin listener is, by the environment, so that a flag may say otherwise.
pub const ADMIN_VARIABLE: &str = "RINGWIRE_ADMIN";
const POLL: std::time::Duration = std::time::Duration::from_millis(10);
/// The drain window of a server whose test says nothing of one.
const DRAIN: &str = "1s";
