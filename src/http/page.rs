//! The page at `/`: explains the server and lets a person try it, in one file that loads nothing
//! else.

use super::response::Response;

/// The page, allowed to run its own script and to open WebSockets, and nothing more.
pub(super) fn response() -> Response {
    let security_policy = format!(
        "default-src 'none'; script-src '{SCRIPT_HASH}'; style-src '{STYLE_HASH}'; img-src data:; \
         connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Response::new(200, "text/html; charset=utf-8", PAGE)
        .header("Content-Security-Policy", security_policy)
        .header("Referrer-Policy", "no-referrer")
}

const PAGE: &str = include_str!("page.html");
/// What the browser must find between the tags (CSP level 3, section 2.3.1); a test says when they
/// are stale.
const SCRIPT_HASH: &str = "sha256-eyDtZ5FOrrxzdrYas8Ky/O5Gt8ztGd+HJhuCr0TSbcQ=";
const STYLE_HASH: &str = "sha256-dDK+vRLczTBKRQu2bbogJmR1g0PHTrmpr8gePvcJrHk=";

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn between(start: &str, end: &str) -> &'static str {
        let (_, rest) = PAGE.split_once(start).unwrap();
        rest.split_once(end).unwrap().0
    }

    /// By the program of coreutils, which spares the crate a dependency for one test.
    fn hash(text: &str) -> String {
        let mut child = Command::new("sha256sum")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sha256sum is installed");
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let digits = output.split_whitespace().next().unwrap().as_bytes();
        let digest = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
        format!("sha256-{}", STANDARD.encode(digest.collect::<Vec<_>>()))
    }

    #[test]
    fn the_hashes_are_those_of_the_page() {
        assert_eq!(SCRIPT_HASH, hash(between("<script>", "</script>")));
        assert_eq!(STYLE_HASH, hash(between("<style>", "</style>")));
    }

    #[test]
    fn the_page_loads_nothing_and_has_the_elements_that_tests_drive() {
        assert!(PAGE.is_ascii());
        for external in ["src=", "http://", "https://", "@import", "url(", " style=", " onclick="] {
            assert!(!PAGE.contains(external), "{external}");
        }
        for id in [
            "route",
            "topic",
            "exclude",
            "token",
            "connect",
            "disconnect",
            "message",
            "send",
            "log",
            "status",
        ] {
            assert_eq!(PAGE.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        }
    }
}
