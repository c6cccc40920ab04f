//! The page of the admin listener: what it consists of, what a browser is told to let it do, and
//! that it shows what happens.

use std::process::Command;

use crate::admin::{HOST, ask, text};
use crate::foreign_clients::{expect_success_with, program, tools};
use crate::peer::{CLOSE, Peer};
use crate::server::Server;

const PARTS: [(&str, &str); 3] = [
    ("/", "text/html; charset=utf-8"),
    ("/page.css", "text/css; charset=utf-8"),
    ("/page.js", "text/javascript; charset=utf-8"),
];

#[test]
fn the_page_is_whole_small_and_kept_to_its_own_server() {
    let server = Server::start(1, &[]);
    let mut size = 0;
    for (path, content_type) in PARTS {
        let response = ask(server.admin(), &format!("GET {path}"), &[HOST], "");
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.header("content-type"), Some(content_type));
        assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.header("access-control-allow-origin"), None);
        for outside in ["http://", "https://", "ws://", "wss://", "@import", "url("] {
            assert!(!text(&response).contains(outside), "{path} names {outside}");
        }
        size += response.body.len();
    }
    assert!(size <= 40 << 10, "{size} bytes");

    let page = ask(server.admin(), "GET /", &[HOST], "");
    let policy = page.header("content-security-policy").expect("a policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.split("; ").any(|other| other == part), "{part} is not in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    // All that the page loads is a part of it.
    for loaded in ["src=\"", "href=\""] {
        for rest in text(&page).split(loaded).skip(1) {
            let name = rest.split('"').next().expect("never empty");
            let is_part = PARTS.iter().any(|(path, _)| path.trim_start_matches('/') == name);
            assert!(is_part || name == "data:,", "{name}");
        }
    }
    assert_eq!(ask(server.admin(), "GET /", &["Host: evil.example"], "").status, 421);
    assert_eq!(ask(server.admin(), "POST /", &[HOST], "").status, 405);
    server.stop();
}

#[test]
fn chromium_shows_what_happens_on_the_admin_page() {
    let Some(tools) = tools() else { return };
    let server = Server::start(2, &["--max-message", "1KiB"]);
    // An end that would be markup if it were taken for any.
    let mut peer = Peer::upgrade(server.address(), "/echo");
    let reason = b"<img src=x onerror=alert(1)>";
    peer.send_frame(CLOSE, &[&4001_u16.to_be_bytes()[..], reason].concat());
    peer.read_close();
    let mut command = Command::new("node");
    command.env("NODE_PATH", tools.join("node/node_modules")).arg(program("admin_page.js"));
    command.args([format!("http://{}/", server.admin()), server.url("/echo")]);
    expect_success_with(command, server, "the page of the admin listener");
}
