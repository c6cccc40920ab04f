//! What a service manager sees: the messages that it is sent, and that the sockets that it has
//! opened are used.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};

use crate::SHARD_COUNTS;
use crate::peer::{Peer, TEXT};
use crate::process::begin_to_hang;
use crate::server::{Server, socket_path, wait_until};

/// A service manager that keeps all that it is told.
struct Manager {
    path: PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn new(name: &str) -> Self {
        let path = socket_path(name);
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a free path");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                kept.lock().expect("no panic").extend(text.lines().map(str::to_owned));
            }
        });
        Self { path, lines }
    }

    /// The program, told where this one listens.
    fn command(&self) -> Command {
        let mut command = Server::command();
        command.env("NOTIFY_SOCKET", &self.path);
        command
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }

    fn heard(&self, line: &str) -> usize {
        self.lines().iter().filter(|other| *other == line).count()
    }

    fn wait_for(&self, line: &str) {
        wait_until(&format!("the manager hears {line:?}"), || self.heard(line) > 0);
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// An address that was free a moment ago: whoever is told of readiness, and by nothing else, has to
/// know it before.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound")
}

#[test]
fn readiness_is_told_once_whoever_connects_is_served() {
    for shards in SHARD_COUNTS {
        let manager = Manager::new(&format!("ready-{shards}"));
        let address = free_address();
        let mut command = manager.command();
        command.args(["--listen", &address.to_string(), "--shards", &shards.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = command.spawn().expect("the server starts");
        manager.wait_for("READY=1");
        let mut peers: Vec<_> = (0..20).map(|_| Peer::upgrade(address, "/echo")).collect();
        for peer in &mut peers {
            peer.send_frame(TEXT, b"served");
            peer.expect(TEXT, b"served");
        }
        manager.wait_for("STATUS=20 WebSockets open");
        server.kill().expect("our child");
        server.wait().expect("our child");
        assert_eq!(manager.heard("READY=1"), 1);
        assert_eq!(manager.heard("STOPPING=1"), 0);
    }
}

#[test]
fn a_server_that_does_not_start_is_never_ready() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let manager = Manager::new("never-ready");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = manager.command().args(["--listen", &address]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(manager.heard("READY=1"), 0);
}

#[test]
fn a_stop_is_told_with_the_time_that_it_may_take() {
    let manager = Manager::new("stopping");
    let flags = ["--drain", "2s", "--close-timeout", "3s"];
    let mut server = Server::start_as(manager.command(), &["127.0.0.1:0"], 2, &flags);
    let mut peer = Peer::upgrade(server.address(), "/echo");
    manager.wait_for("STATUS=1 WebSockets open");
    server.signal("TERM");
    manager.wait_for("STOPPING=1");
    manager.wait_for("STATUS=1 WebSockets open; draining");
    assert_eq!(manager.heard("EXTEND_TIMEOUT_USEC=10000000"), 1, "{:?}", manager.lines());
    assert_eq!(peer.read_close().0, 1001);
    drop(peer);
    assert!(server.wait().success());
    assert_eq!(manager.heard("STOPPING=1"), 1);
}

#[test]
fn the_watchdog_is_fed_while_every_shard_ticks_and_not_while_one_hangs() {
    const FED: &str = "WATCHDOG=1";
    let manager = Manager::new("watchdog");
    let mut command = manager.command();
    command.env("WATCHDOG_USEC", "200000");
    // It is watched without an admin listener as well.
    let server = Server::start_as(command, &["127.0.0.1:0"], 2, &["--admin", "off"]);
    manager.wait_for(FED);
    let hung = begin_to_hang(&server, 1);
    manager.wait_for("STATUS=0 WebSockets open; shard 1 has not ticked for 10 s");
    let fed = manager.heard(FED);
    // Ten times as long as between two feedings.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(manager.heard(FED), fed);
    drop(hung);
    wait_until("it is fed again", || manager.heard(FED) > fed);
    server.stop();
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end_whatever_comes_of_it() {
    let manager = Manager::new("reloading");
    let file = socket_path("reloading").with_extension("toml");
    fs::write(&file, "").expect("the file can be written");
    let flags = ["--config", file.to_str().expect("UTF-8")];
    let server = Server::start_as(manager.command(), &["127.0.0.1:0"], 1, &flags);
    manager.wait_for("READY=1");
    for (settings, reloads) in [("idle-timeout = \"1m\"\n", 1), ("idle-timeout = \"never\"\n", 2)] {
        fs::write(&file, settings).expect("the file can be written");
        server.signal("HUP");
        wait_until("it serves again", || manager.heard("READY=1") == reloads + 1);
        assert_eq!(manager.heard("RELOADING=1"), reloads);
        let lines = manager.lines();
        let begin = lines.iter().rposition(|line| line == "RELOADING=1").expect("heard");
        let time = lines[begin + 1].strip_prefix("MONOTONIC_USEC=").expect("the time follows");
        assert!(time.parse::<u64>().expect("a number") > 0);
        assert!(lines[begin..].contains(&"READY=1".to_owned()));
    }
    server.stop();
    fs::remove_file(&file).expect("ours");
}

#[test]
fn without_a_watchdog_nobody_feeds_it() {
    let manager = Manager::new("no-watchdog");
    let server = Server::start_as(manager.command(), &["127.0.0.1:0"], 1, &[]);
    let _peer = Peer::upgrade(server.address(), "/echo");
    manager.wait_for("STATUS=1 WebSockets open");
    server.stop();
    assert_eq!(manager.heard("WATCHDOG=1"), 0);
}

#[test]
fn one_that_cannot_be_reached_keeps_nobody_from_serving() {
    let mut command = Server::command();
    command.env("NOTIFY_SOCKET", socket_path("nobody-there"));
    let server = Server::start_as(command, &["127.0.0.1:0"], 1, &[]);
    assert!(server.output().contains("the service manager cannot be reached"));
    Peer::upgrade(server.address(), "/echo");
    server.stop();
}

/// The program with these sockets, as if socket units had opened them.
fn activated(sockets: Vec<(&str, OwnedFd)>) -> Command {
    let (names, sockets): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(Server::command().get_program());
    Server::set_environment(&mut command);
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let mapping = |(parent_fd, child_fd)| FdMapping { parent_fd, child_fd };
    let mappings = sockets.into_iter().zip(3..).map(mapping).collect();
    command.fd_mappings(mappings).expect("each once");
    command
}

#[test]
fn sockets_of_the_service_manager_are_used_in_the_place_of_addresses() {
    for shards in SHARD_COUNTS {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("it is bound");
        let path = socket_path(&format!("activated-{shards}"));
        let _ = fs::remove_file(&path);
        let unix = UnixListener::bind(&path).expect("a free path");
        let admin = TcpListener::bind("127.0.0.1:0").expect("a port");
        let admin_address = admin.local_addr().expect("it is bound");
        // Who comes before the server waits for it.
        let early = Peer::connect(address);
        let command = activated(vec![
            ("ringwire.socket", tcp.into()),
            ("local", unix.into()),
            ("admin", admin.into()),
        ]);
        let flags = ["--listen", "systemd:local", "--admin", "systemd:admin"];
        let server = Server::start_as(command, &["systemd:ringwire.socket"], shards, &flags);
        assert_eq!(server.address(), address);
        assert_eq!(server.admin(), admin_address);
        let told = format!("listening on ws+unix:{}\n", path.display());
        assert!(server.output().contains(&told), "{}", server.output());
        let mut peers: Vec<_> = (0..40).map(|_| Peer::upgrade(address, "/broadcast/all")).collect();
        peers.push(early.upgraded("/broadcast/all"));
        let mut local = Peer::connect_unix(&path).expect("it listens").upgraded("/broadcast/all");
        local.send_frame(TEXT, b"to all");
        local.expect(TEXT, b"to all");
        for peer in &mut peers {
            peer.expect(TEXT, b"to all");
        }
        // One queue, from which the shards accept in turn.
        let stats = server.stats();
        assert_eq!(stats.websockets_open(), 42);
        assert!(stats.shards().iter().all(|shard| shard.websockets_open() > 0));
        server.stop();
        // It is the service manager's, and stays.
        assert!(path.exists());
        fs::remove_file(&path).expect("ours");
    }
}

#[test]
fn addresses_are_limited_by_the_sockets_of_the_service_manager_too() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("it is bound");
    let command = activated(vec![("web", tcp.into())]);
    let flags = ["--max-connections-per-address", "1"];
    let server = Server::start_as(command, &["systemd:web"], 1, &flags);
    let _first = Peer::upgrade(address, "/echo");
    let mut second = Peer::connect(address);
    second.expect_end_or_reset();
    assert_eq!(server.stats().connections_refused(), 1);
    server.stop();
}

#[test]
fn sockets_that_do_not_fit_the_settings_are_refused_with_the_fix() {
    let tcp = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a port"));
    let refusal = |mut command: Command, flags: &[&str]| {
        let output = command.args(["--shards", "2"]).args(flags).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    };
    let flags = ["--listen", "systemd:web"];
    let said = refusal(activated(vec![("wob", tcp())]), &flags);
    assert!(said.contains("cannot listen on systemd:web") && said.contains("wob"), "{said}");
    let said = refusal(Server::command(), &flags);
    assert!(said.contains("enable the socket unit"), "{said}");
    let said = refusal(activated(vec![("web", tcp()), ("more", tcp())]), &flags);
    assert!(said.contains(r#"["more"], which no --listen"#), "{said}");
    let mut contradictory = activated(vec![("web", tcp())]);
    contradictory.env("LISTEN_FDNAMES", "web:more");
    let said = refusal(contradictory, &flags);
    assert!(said.contains("LISTEN_FDNAMES"), "{said}");
    let mut missing = activated(vec![("web", tcp())]);
    missing.env("LISTEN_FDS", "60000").env_remove("LISTEN_FDNAMES");
    let said = refusal(missing, &flags);
    assert!(said.contains("LISTEN_FDS"), "{said}");
}
