//! The page at `/`, which draws what the other routes tell. It loads nothing but its own style and
//! script, and asks nobody but the server that sent it.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::answer::answer;

/// The routes of the page and of its parts.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(page))
        .route("/page.css", get(|| part("text/css; charset=utf-8", STYLE)))
        .route("/page.js", get(|| part("text/javascript; charset=utf-8", SCRIPT)))
}

async fn page() -> Response {
    let fields: [(HeaderName, &str); 2] =
        [(CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer")];
    (fields, answer(StatusCode::OK, "text/html; charset=utf-8", PAGE)).into_response()
}

async fn part(content_type: &'static str, text: &'static str) -> Response {
    answer(StatusCode::OK, content_type, text)
}

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Only what comes from here, nothing inline, and in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_small_and_name_nothing_outside() {
        assert!(PAGE.len() + STYLE.len() + SCRIPT.len() <= 40 << 10);
        for text in [PAGE, STYLE, SCRIPT] {
            assert!(text.is_ascii());
            for outside in ["//cdn", "http:", "https:", "@import", "url(", "wss:"] {
                assert!(!text.contains(outside), "{outside}");
            }
        }
    }

    #[test]
    fn nothing_is_inline_and_no_text_becomes_markup() {
        for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!PAGE.contains(inline), "{inline}");
        }
        assert_eq!(PAGE.matches("<script").count(), PAGE.matches("<script src=").count());
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!SCRIPT.contains(markup), "{markup}");
        }
    }

    #[test]
    fn what_the_script_looks_for_is_there() {
        for rest in SCRIPT.split("find(\"").skip(1) {
            let id = rest.split('"').next().unwrap();
            assert_eq!(PAGE.matches(&format!("id=\"{id}\"")).count(), 1, "{id}");
        }
    }
}
