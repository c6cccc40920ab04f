//! The admin listener: what it tells, whom it obeys, and that nobody can exhaust it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use crate::peer::{Peer, Response};
use crate::process::{hang, limited};
use crate::server::{ADMIN_VARIABLE, Server, socket_path, wait_until};

/// The answer to a request with these lines after the first, `Host` among them.
pub fn ask(address: SocketAddr, line: &str, fields: &[&str], body: &str) -> Response {
    ask_on(&mut Peer::connect(address), line, fields, body)
}

fn ask_on<S: Read + Write>(
    peer: &mut Peer<S>,
    line: &str,
    fields: &[&str],
    body: &str,
) -> Response {
    let length = format!("Content-Length: {}", body.len());
    let line = format!("{line} HTTP/1.1");
    let lines = [&[line.as_str(), &length][..], fields, &["", ""]].concat();
    peer.send(format!("{}{body}", lines.join("\r\n")).as_bytes());
    peer.read_response()
}

/// The body of an answer, as text.
pub fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).expect("text").trim_end()
}

/// For whom requests are.
pub const HOST: &str = "Host: 127.0.0.1";
/// What requests that change something need.
pub const JSON: &str = "Content-Type: application/json";

#[test]
fn no_web_page_can_drain_the_server_or_read_from_it() {
    let server = Server::start(1, &[]);
    let own = format!("Host: {}", server.admin());
    let own_origin = format!("Origin: http://{}", server.admin());
    let rebound = "Host: evil.example";
    let cases: [(&str, &[&str], u16); 18] = [
        ("GET /stats", &[rebound], 421),
        ("GET /healthz", &[rebound], 421),
        ("GET /readyz", &["Host: localhost.evil.example:7072"], 421),
        ("GET /nowhere", &[rebound], 421),
        ("GET http://evil.example/stats", &[HOST], 421),
        ("POST /drain", &[rebound, JSON], 421),
        ("GET /stats", &[], 400),
        ("GET /stats", &[HOST, HOST], 400),
        ("POST /drain", &[HOST, JSON, "Origin: https://evil.example"], 403),
        ("POST /drain", &[HOST, JSON, "Origin: null"], 403),
        // The page that the public listener serves is of another origin.
        ("POST /drain", &["Host: localhost:7072", JSON, "Origin: http://localhost:7071"], 403),
        ("POST /drain", &[HOST, JSON, "Sec-Fetch-Site: same-site"], 403),
        ("POST /drain", &[HOST, JSON, "Sec-Fetch-Site: cross-site"], 403),
        ("POST /drain", &[&own, JSON, &own_origin, "Sec-Fetch-Site: cross-site"], 403),
        ("POST /drain", &[HOST], 415),
        ("POST /drain", &[HOST, "Content-Type: text/plain"], 415),
        ("POST /drain", &[&own, &own_origin, "Content-Type: multipart/form-data"], 415),
        ("OPTIONS /drain", &[HOST, "Origin: https://evil.example"], 405),
    ];
    for (line, fields, status) in cases {
        let response = ask(server.admin(), line, fields, "");
        assert_eq!(response.status, status, "{line} {fields:?}: {}", text(&response));
        assert_eq!(response.header("access-control-allow-origin"), None);
        assert!(!response.body.is_empty(), "{line} {fields:?} is not told why");
    }
    assert_eq!(ask(server.admin(), "GET /readyz", &[HOST], "").status, 200);
    let fields = [&own, JSON, &own_origin, "Sec-Fetch-Site: same-origin"];
    assert_eq!(ask(server.admin(), "POST /drain", &fields, "").status, 202);
}

#[test]
fn what_is_wrong_is_told() {
    let server = Server::start(1, &[]);
    let large = format!("{{{}}}", " ".repeat(5000));
    let many = ["X: y"; 100];
    let cases: [(&str, &[&str], &str, u16); 8] = [
        ("GET /page", &[HOST], "", 404),
        ("GET /metric", &[HOST], "", 404),
        ("POST /stats", &[HOST, JSON], "{}", 405),
        ("GET /drain", &[HOST], "", 405),
        ("POST /drain", &[HOST, JSON], "{", 400),
        ("POST /drain", &[HOST, JSON], r#"{"window": "1s"}"#, 400),
        ("POST /drain", &[HOST, JSON], &large, 413),
        ("GET /stats", &[&[HOST], &many[..]].concat(), "", 431),
    ];
    for (line, fields, body, status) in cases {
        let response = ask(server.admin(), line, fields, body);
        assert_eq!(response.status, status, "{line}: {}", text(&response));
    }
    let response = ask(server.admin(), "GET /drain", &[HOST], "");
    assert_eq!(response.header("allow"), Some("POST"));
    // A long head is refused before it is whole.
    let mut peer = Peer::connect(server.admin());
    peer.send_unheard(&[b"GET /stats HTTP/1.1\r\nX: ", &b"y".repeat(1 << 20)[..]].concat());
    assert_eq!(peer.read_response().status, 431);
    server.stop();
}

#[test]
fn a_request_drains_as_a_signal_does() {
    let mut server = Server::start(2, &["--drain", "500ms"]);
    let mut peers: Vec<_> = (0..8).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    let mut admin = Peer::connect(server.admin());
    assert_eq!(text(&admin.get("/readyz")), "ready");
    for body in ["", "{}"] {
        let response = ask_on(&mut admin, "POST /drain", &[HOST, JSON], body);
        assert_eq!((response.status, text(&response)), (202, "draining"));
        let response = admin.get("/readyz");
        assert_eq!((response.status, text(&response)), (503, "draining"));
        // A server that drains is alive.
        assert_eq!(admin.get("/healthz").status, 200);
    }
    for peer in &mut peers {
        assert_eq!(peer.read_close().0, 1001);
    }
    drop(peers);
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.output().contains("draining by=\"POST /drain\""), "{}", server.output());
}

#[test]
fn the_default_address_may_be_taken() {
    let start = || {
        let mut command = Server::command();
        command.env_remove(ADMIN_VARIABLE);
        Server::start_as(command, &["127.0.0.1:0"], 1, &[])
    };
    let servers = [start(), start()];
    // Somebody else may have it, and then neither of these does.
    let without: Vec<_> = servers.iter().filter(|s| s.finds_no_admin()).collect();
    assert!(!without.is_empty(), "one address, two listeners");
    for server in &without {
        let output = server.output();
        let line = output.lines().find(|line| line.contains("127.0.0.1:7072")).expect("told");
        assert!(line.contains("WARN") && line.contains("choose another --admin"), "{line}");
    }
    servers.into_iter().for_each(Server::stop);
}

#[test]
fn an_address_that_was_asked_for_must_be_had() {
    let server = Server::start(1, &[]);
    let taken = server.admin().to_string();
    let mut by_flag = Server::command();
    by_flag.args(["--admin", &taken]);
    let mut by_environment = Server::command();
    by_environment.env(ADMIN_VARIABLE, &taken);
    for command in [&mut by_flag, &mut by_environment] {
        command.args(["--listen", "127.0.0.1:0", "--shards", "1"]).stdin(Stdio::null());
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&taken) && said.contains("choose another --admin"), "{said}");
    }
    server.stop();
}

#[test]
fn a_server_may_have_none() {
    let server = Server::start(1, &["--admin", "off"]);
    assert!(server.finds_no_admin());
    assert!(!server.output().contains("WARN"), "{}", server.output());
    server.stop();
}

#[test]
fn a_unix_socket_needs_no_host_and_goes_with_the_server() {
    let path = socket_path("admin");
    let address = format!("unix:{}", path.display());
    // A server that was killed has left its file.
    let mut killed = Server::start(1, &["--admin", &address]);
    killed.signal("KILL");
    killed.wait();
    assert!(path.exists());
    let mut server = Server::start(1, &["--admin", &address]);
    assert!(server.output().contains(&format!("admin on http+unix:{}\n", path.display())));
    let mut admin = Peer::connect_unix(&path).expect("it listens");
    for host in [&[][..], &["Host: evil.example"]] {
        let response = ask_on(&mut admin, "GET /healthz", host, "");
        assert_eq!((response.status, text(&response)), (200, "ok"));
    }
    assert_eq!(ask_on(&mut admin, "POST /drain", &[], "").status, 415);
    let foreign = [JSON, "Origin: http://evil.example"];
    assert_eq!(ask_on(&mut admin, "POST /drain", &foreign, "").status, 403);
    assert_eq!(ask_on(&mut admin, "POST /drain", &[JSON], "").status, 202);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!path.exists());
}

/// The exit status of `ringwire health`, and what it prints.
fn ask_by_command(arguments: &[&str]) -> (Option<i32>, String) {
    ask_by(Server::command().env_remove(ADMIN_VARIABLE), arguments)
}

fn ask_by(command: &mut Command, arguments: &[&str]) -> (Option<i32>, String) {
    said_by(command.arg("health").args(arguments))
}

/// The exit status of a command, and what it prints.
fn said_by(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().expect("it runs");
    let texts = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(texts).expect("text"))
}

#[test]
fn a_command_asks_for_those_without_an_http_client() {
    let path = socket_path("asked");
    let at_path = format!("unix:{}", path.display());
    let file = path.with_extension("toml");
    fs::write(&file, format!("admin = \"{at_path}\"\n")).expect("the file can be written");
    let file = file.to_str().expect("UTF-8");
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", &at_path] {
        let mut server = Server::start(2, &["--admin", address, "--drain", "1h"]);
        let address = match address.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", server.admin().port()),
            None => address.to_owned(),
        };
        assert_eq!(ask_by_command(&[&address]), (Some(0), "ok\n".to_owned()));
        assert_eq!(ask_by_command(&[&address, "--ready"]), (Some(0), "ready\n".to_owned()));
        let mut command = Server::command();
        let asked = ask_by(command.env(ADMIN_VARIABLE, &address), &[]);
        assert_eq!(asked, (Some(0), "ok\n".to_owned()));
        if address == at_path {
            assert_eq!(ask_by_command(&["--config", file]), (Some(0), "ok\n".to_owned()));
        }
        let peer = Peer::upgrade(server.address(), "/echo");
        server.signal("TERM");
        wait_until("it drains", || ask_by_command(&[&address, "--ready"]).0 == Some(1));
        assert_eq!(ask_by_command(&[&address]), (Some(0), "ok\n".to_owned()));
        let asked = ask_by_command(&[&address, "--ready"]);
        assert_eq!(asked, (Some(1), "draining\n".to_owned()));
        drop(peer);
        assert!(server.wait().success());
        let (status, said) = ask_by_command(&[&address]);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("does not answer"), "{said}");
    }
    fs::remove_file(file).expect("ours");
}

#[test]
fn a_command_that_asks_believes_no_other_service_and_waits_for_none() {
    let server = Server::start(1, &[]);
    // The public listener knows /healthz as well, but not whether every shard is ready.
    let (status, said) = ask_by_command(&[&server.address().to_string(), "--ready"]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("no admin listener"), "{said}");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("it is bound").to_string();
    let (status, said) = ask_by_command(&[&address]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("timed out"), "{said}");
    assert_eq!(ask_by_command(&["localhost"]).0, Some(2));
    let mut command = Server::command();
    assert_eq!(ask_by(command.env(ADMIN_VARIABLE, "off"), &[]).0, Some(1));
    server.stop();
}

#[test]
fn readiness_follows_the_room_there_is() {
    let server = Server::start(2, &["--max-connections", "2"]);
    let ready = || ask(server.admin(), "GET /readyz", &[HOST], "");
    assert_eq!(ready().status, 200);
    let peers: Vec<_> = (0..2).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    let told = "full: 2 WebSockets and streams are open, and --max-connections is 2";
    assert_eq!((ready().status, text(&ready())), (503, told));
    assert_eq!(ask(server.admin(), "GET /healthz", &[HOST], "").status, 200);
    drop(peers);
    wait_until("there is room", || ready().status == 200);
    server.stop();

    let server = Server::start_as(limited(100, 100), &["127.0.0.1:0"], 1, &[]);
    let _peers: Vec<_> = (0..88).map(|_| Peer::upgrade(server.address(), "/echo")).collect();
    let response = ask(server.admin(), "GET /readyz", &[HOST], "");
    let told = "full: shard 0 has 88 WebSockets, all that RLIMIT_NOFILE lets it";
    assert_eq!((response.status, text(&response)), (503, told));
    server.stop();
}

#[test]
fn nobody_takes_all_connections_or_descriptors() {
    let server = Server::start(1, &[]);
    let descriptors = || fs::read_dir(server.process_path("fd")).expect("it runs").count();
    assert_eq!(ask(server.admin(), "GET /healthz", &[HOST], "").status, 200);
    let before = descriptors();
    let mut greedy = Vec::new();
    for _ in 0..300 {
        let mut peer = Peer::connect(server.admin());
        peer.send(b"GET /healthz HTTP/1.1\r\n");
        greedy.push(peer);
        if greedy.len() % 50 == 0 {
            assert_eq!(ask(server.admin(), "GET /healthz", &[HOST], "").status, 200);
            assert!(descriptors() <= before + 64, "{} of {before}", descriptors());
        }
    }
    // The oldest have made room, the newest are still served.
    greedy.remove(0).expect_end_or_reset();
    let mut newest = greedy.pop().expect("many");
    newest.send(format!("{HOST}\r\n\r\n").as_bytes());
    assert_eq!(newest.read_response().status, 200);
    server.stop();
}

#[test]
fn whoever_is_slow_or_silent_is_cut_off() {
    let server = Server::start(1, &[]);
    let connect = || Peer::connect(server.admin());
    let (mut silent, mut slow, mut half) = (connect(), connect(), connect());
    assert_eq!(silent.get("/healthz").status, 200);
    slow.send(b"GET /healthz HTTP/1.1\r\nHost: 127.");
    half.send(
        format!("POST /drain HTTP/1.1\r\n{HOST}\r\n{JSON}\r\nContent-Length: 2\r\n\r\n{{")
            .as_bytes(),
    );
    assert_eq!(half.read_response().status, 408);
    for peer in [&mut silent, &mut slow] {
        peer.expect_end_or_reset();
    }
    server.stop();
}

#[test]
fn a_shard_that_hangs_is_named_and_one_that_sleeps_is_not() {
    let server = Server::start(3, &[]);
    let health = || ask(server.admin(), "GET /healthz", &[HOST], "");
    let hung = hang(&server, 1);
    assert_eq!(text(&health()), "shard 1 has not ticked for 10 s");
    let asked = ask_by_command(&[&server.admin().to_string()]);
    assert_eq!(asked, (Some(1), "shard 1 has not ticked for 10 s\n".to_owned()));
    let ready = ask(server.admin(), "GET /readyz", &[HOST], "");
    assert_eq!((ready.status, text(&ready)), (503, "shard 1 has not ticked for 10 s"));
    drop(hung);
    wait_until("the shard is back", || health().status == 200);
    server.stop();
}

#[test]
fn the_log_tells_more_and_less_while_the_server_runs() {
    let server = Server::start(1, &["--log-format", "json"]);
    let set = |level: &str| {
        let body = format!(r#"{{"level": "{level}"}}"#);
        let response = ask(server.admin(), "POST /log-level", &[HOST, JSON], &body);
        (response.status, text(&response).to_owned())
    };
    let changed =
        |level: &str, before: &str| (200, format!(r#"{{"before":"{before}","level":"{level}"}}"#));
    // What is no request is told at the level of debugging.
    let disturb = || {
        let mut peer = Peer::connect(server.admin());
        peer.send(b"no request\r\n\r\n");
        peer.read_response();
        drop(peer);
        // Handled in the order in which they come.
        assert_eq!(Peer::connect(server.admin()).get("/healthz").status, 200);
    };
    let told = || server.output().matches("an admin connection failed").count();
    disturb();
    assert_eq!(told(), 0);
    assert_eq!(set("debug"), changed("debug", "info"));
    wait_until("the change is told", || server.output().contains("another level of the log"));
    disturb();
    wait_until("it is told", || told() == 1);
    assert_eq!(set("warn"), changed("warn", "debug"));
    disturb();
    assert_eq!(set("info"), changed("info", "warn"));
    let quiet = "\"to\":\"warn\"";
    wait_until("the last change is told", || {
        server.output().matches("\"to\":\"info\"").count() == 1
    });
    assert!(server.output().contains(quiet), "{}", server.output());
    assert_eq!(told(), 1);
    let (status, told) = set("loud");
    assert!(status == 400 && told.contains("`error`, `warn`, `info`, `debug`, `trace`"), "{told}");
    server.stop();
}

/// The exit status of `ringwire top` without a terminal, and what it prints.
fn top(arguments: &[&str]) -> (Option<i32>, String) {
    said_by(Server::command().arg("top").args(arguments))
}

#[test]
fn top_prints_what_is_true_now_where_there_is_no_terminal() {
    let path = socket_path("top");
    let unix = format!("unix:{}", path.display());
    for admin in ["127.0.0.1:0", &unix] {
        let mut server = Server::start(2, &["--admin", admin]);
        let address = if admin == unix { unix.clone() } else { server.admin().to_string() };
        let mut peer = Peer::upgrade(server.address(), "/broadcast/news");
        peer.send_close(4001);
        peer.read_close();
        drop(peer);
        let _open = Peer::upgrade(server.address(), "/echo");
        wait_until("one is open", || top(&[&address]).1.contains("\nWebSockets 1 of"));
        for arguments in [&[address.as_str()][..], &[&address, "--once"]] {
            let (status, said) = top(arguments);
            assert_eq!(status, Some(0), "{said}");
            for part in [
                "ready",
                "WebSockets 1 of",
                "Shards",
                "slots of fullest shard",
                "4001",
                "broadcast news",
            ] {
                assert!(said.contains(part), "{part} is not in {said}");
            }
            assert!(said.lines().any(|line| line.starts_with("1 ")), "no second shard: {said}");
            assert!(!said.contains('\u{1b}'), "{said}");
        }
        server.signal("KILL");
        server.wait();
        let (status, said) = top(&[&address]);
        assert!(status == Some(1) && said.contains("does not answer"), "{said}");
    }
    let (status, said) = top(&["systemd:admin"]);
    assert!(status == Some(1) && said.contains("ringwire top ADDRESS"), "{said}");
}
