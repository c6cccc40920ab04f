//! Settings that change while the server runs: all of a file or nothing of it, told to whoever
//! asked, and met by those who are connected.

use std::fs;
use std::path::PathBuf;

use crate::peer::{Peer, upgrade_request};
use crate::server::{Server, socket_path, wait_until};

/// A server with a file that can be changed.
struct Configured {
    server: Server,
    file: SettingsFile,
}

impl Configured {
    fn start(name: &str, shards: usize, settings: &str) -> Self {
        let file = SettingsFile::new(name, settings);
        let flags = ["--config", file.path()];
        Self { server: Server::start(shards, &flags), file }
    }

    /// Asks for a reload: the status, and what is said.
    fn reload(&self) -> (u16, String) {
        reload(&self.server)
    }
}

/// A file that goes with the test.
struct SettingsFile(PathBuf);

impl SettingsFile {
    fn new(name: &str, settings: &str) -> Self {
        let file = Self(socket_path(name).with_extension("toml"));
        file.write(settings);
        file
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    fn write(&self, settings: &str) {
        fs::write(&self.0, settings).expect("the file can be written");
    }

    fn remove(&self) {
        fs::remove_file(&self.0).expect("it is there");
    }
}

impl Drop for SettingsFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const TEXT: u8 = 1;

fn reload(server: &Server) -> (u16, String) {
    let mut admin = Peer::connect(server.admin());
    admin.send(
        b"POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
          Content-Length: 2\r\n\r\n{}",
    );
    let response = admin.read_response();
    (response.status, String::from_utf8(response.body).expect("text").trim_end().to_owned())
}

fn is_accepted(server: &Server, origin: &str) -> bool {
    let mut peer = Peer::connect(server.address());
    peer.send(&upgrade_request("/echo", &format!("Origin: {origin}\r\n")));
    peer.read_response().status == 101
}

#[test]
fn a_traffic_budget_is_told_as_it_is_now() {
    let server = Configured::start("budget", 1, "traffic-budget = \"1MiB\"");
    let told = |budget: &str| {
        let line = format!("\nringwire_traffic_budget_bytes {budget}\n");
        server.server.ask_admin("/metrics").expect("an answer").contains(&line)
    };
    assert!(told("1048576.0"));
    server.file.write("traffic-budget = \"2MiB\"");
    assert_eq!(server.reload().0, 200);
    assert!(told("2097152.0"));
}

#[test]
fn the_level_of_the_log_changes_with_the_file() {
    let server = Configured::start("level", 1, "log-level = \"warn\"");
    server.file.write("log-level = \"debug\"");
    assert_eq!(server.reload(), (200, r#"{"changed":["log-level"]}"#.to_owned()));
    wait_until("it is told", || server.server.output().contains("another level of the log"));
    // Another reload changes nothing, whatever somebody has said meanwhile.
    assert_eq!(server.reload(), (200, r#"{"changed":[]}"#.to_owned()));
}

#[test]
fn who_may_connect_changes_with_the_file() {
    let server = Configured::start("networks", 2, "");
    let is_let_in = || {
        let mut peer = Peer::connect(server.server.address());
        peer.send_unheard(&upgrade_request("/echo", ""));
        !peer.is_turned_away()
    };
    assert!(is_let_in());
    server.file.write("deny-network = [\"127.0.0.0/8\"]");
    assert_eq!(server.reload().0, 200);
    wait_until("nobody is let in", || !is_let_in());
    server.file.write("");
    assert_eq!(server.reload().0, 200);
    wait_until("all are let in", is_let_in);
}

#[test]
fn a_changed_file_holds_for_those_who_come_and_those_who_are_there() {
    for shards in [1, 2] {
        let name = format!("reload-{shards}");
        let it = Configured::start(&name, shards, "max-message = \"1KiB\"\n");
        let mut peers: Vec<_> =
            (0..4).map(|_| Peer::upgrade(it.server.address(), "/echo")).collect();
        for peer in &mut peers {
            peer.send_frame(TEXT, &[b'x'; 1024]);
            peer.expect(TEXT, &[b'x'; 1024]);
        }
        it.file.write("max-message = \"100\"\nallow-origin = [\"https://a.example\"]\n");
        assert_eq!(it.reload(), (200, r#"{"changed":["allow-origin","max-message"]}"#.to_owned()));
        assert_eq!(it.reload(), (200, r#"{"changed":[]}"#.to_owned()));
        for mut peer in peers {
            // A shard takes the settings with its next tick, before it receives anything.
            peer.send_frame(TEXT, &[b'x'; 1024]);
            assert_eq!(peer.read_close().0, 1009);
        }
        assert!(is_accepted(&it.server, "https://a.example"));
        assert!(!is_accepted(&it.server, "https://b.example"));
    }
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_is_told() {
    let it = Configured::start("reload-wrong", 1, "max-message = \"1KiB\"\n");
    let mut peer = Peer::upgrade(it.server.address(), "/echo");
    let cases = [
        ("max-message = \"100\"\nidle-timeout = \"soon\"\n", "idle-timeout"),
        ("max-message = \"100\"\nmax-massage = \"1KiB\"\n", "max-message"),
        ("max-message = \"100\"\ncompression = \"shared\"\n", "restart"),
        ("max-message = \"100\"\nreceive-buffers = 64\n", "receive-buffers"),
        ("max-message = \"100\"\nmax-memory = \"1MiB\"\n", "max-memory"),
        ("max-message = \"100\"\nbroken", "toml"),
    ];
    for (place, (settings, names)) in cases.into_iter().enumerate() {
        it.file.write(settings);
        let (status, text) = it.reload();
        assert_eq!(status, 422, "{settings}: {text}");
        assert!(text.contains(names), "{settings}: {text}");
        let times = |text: &str| it.server.output().matches(text).count();
        wait_until("the log tells", || times("settings stay as they are") > place);
        peer.send_frame(TEXT, &[b'x'; 1024]);
        peer.expect(TEXT, &[b'x'; 1024]);
    }
    it.file.remove();
    assert_eq!(it.reload().0, 422);
    it.file.write("");
    assert_eq!(it.reload(), (200, r#"{"changed":["max-message"]}"#.to_owned()));
    it.server.stop();
}

#[test]
fn a_flag_still_wins_over_the_file() {
    let file = SettingsFile::new("reload-flag", "");
    let server = Server::start(1, &["--config", file.path(), "--max-message", "200"]);
    file.write("max-message = \"100\"\n");
    assert_eq!(reload(&server), (200, r#"{"changed":[]}"#.to_owned()));
    server.stop();
}

#[test]
fn a_hang_up_reloads_where_there_is_a_file() {
    let it = Configured::start("reload-signal", 2, "");
    it.file.write("idle-timeout = \"1s\"\n");
    let mut peer = Peer::upgrade(it.server.address(), "/echo");
    it.server.signal("HUP");
    assert_eq!(peer.read_close().0, 1001, "the connection that was open meets the new limit");
    wait_until("the log tells of it", || it.server.output().contains("settings reloaded"));
    it.file.write("idle-timeout = \"never\"\n");
    it.server.signal("HUP");
    wait_until("the log tells of it", || it.server.output().contains("settings stay as they are"));
    it.server.stop();
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let server = Server::start(1, &[]);
    let (status, text) = reload(&server);
    assert_eq!(status, 409);
    assert!(text.contains("--config FILE"), "{text}");
    server.stop();
}
