//! The routes of the admin listener and what each answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;
use tokio::time::timeout;

use super::closed::{self, Filter};
use super::guard::{Refused, check_change, check_host};
use super::report::{Pace, Report};
use crate::control::metrics::{Format, Metrics};
use crate::control::standing::Standing;
use crate::settings::ReloadError;

/// A check of the guard.
type Check = fn(&Uri, &HeaderMap) -> Result<(), Refused>;

/// What the routes answer from.
struct Desk {
    standing: Arc<Standing>,
    report: Report,
    metrics: Metrics,
    /// The metrics in each format.
    texts: [Report; 2],
    closed: Pace,
}

/// All routes. `checks_host` is for listeners that a browser can reach.
pub(super) fn router(standing: Arc<Standing>, checks_host: bool) -> Router {
    let router = Router::new()
        .route("/stats", get(stats))
        .route("/metrics", get(metrics))
        .route("/closed", get(closed))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/drain", changing(drain))
        .route("/reload", changing(reload))
        .fallback(|| async { plain(StatusCode::NOT_FOUND, ROUTES) })
        .method_not_allowed_fallback(|| async {
            plain(StatusCode::METHOD_NOT_ALLOWED, "This route takes other methods.")
        })
        .with_state(Arc::new(Desk {
            metrics: Metrics::new(standing.clone()),
            standing,
            report: Report::default(),
            texts: Default::default(),
            closed: Pace::default(),
        }));
    match checks_host {
        true => router.layer(from_fn(|request, next| guarded(check_host, request, next))),
        false => router,
    }
}

/// A route that changes something.
fn changing<H, T>(handler: H) -> MethodRouter<Arc<Desk>>
where
    H: Handler<T, Arc<Desk>>,
    T: 'static,
{
    post(handler).route_layer(from_fn(|request, next| guarded(check_change, request, next)))
}

/// Lets pass what a check of the guard lets pass.
async fn guarded(check: Check, request: Request, next: Next) -> Response {
    match check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, text)) => plain(status, text),
    }
}

async fn stats(State(desk): State<Arc<Desk>>) -> Response {
    let text = desk.report.text(|| desk.standing.report()).await;
    answer(StatusCode::OK, "application/json", text)
}

async fn metrics(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response {
    let format = Format::preferred(&headers);
    let text = desk.texts[format as usize].text(|| desk.metrics.text(format)).await;
    answer(StatusCode::OK, format.content_type(), text)
}

async fn closed(State(desk): State<Arc<Desk>>, uri: Uri) -> Response {
    let filter = match Filter::parse(&uri) {
        Ok(filter) => filter,
        Err(fault) => return plain(StatusCode::BAD_REQUEST, &fault),
    };
    desk.closed.wait().await;
    let standing = &desk.standing;
    let text = closed::report(&standing.shared.stats, standing.started_at, &filter);
    answer(StatusCode::OK, "application/json", text)
}

async fn health(State(desk): State<Arc<Desk>>) -> Response {
    verdict(desk.standing.illness(), "ok")
}

async fn readiness(State(desk): State<Arc<Desk>>) -> Response {
    verdict(desk.standing.unreadiness(), "ready")
}

/// What may be said of a request that takes nothing: a mistake is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn drain(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    if let Err(refusal) = nothing(request).await {
        return refusal;
    }
    desk.standing.ask_for_drain();
    plain(StatusCode::ACCEPTED, "draining")
}

async fn reload(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    if let Err(refusal) = nothing(request).await {
        return refusal;
    }
    match desk.standing.reload() {
        Ok(changed) => {
            let text = serde_json::json!({ "changed": changed }).to_string();
            answer(StatusCode::OK, "application/json", text)
        }
        Err(error @ ReloadError::NoFile) => plain(StatusCode::CONFLICT, &error.to_string()),
        Err(error) => plain(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

/// Reads the body of a request that takes nothing.
async fn nothing(request: Request) -> Result<(), Response> {
    let body = match timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return Err(plain(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."));
        }
        Err(_) => {
            return Err(plain(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."));
        }
    };
    match body.is_empty() || serde_json::from_slice::<Nothing>(&body).is_ok() {
        true => Ok(()),
        false => Err(plain(StatusCode::BAD_REQUEST, "The body is nothing, or {}.")),
    }
}

/// 503 with what is wrong, or 200.
fn verdict(fault: Option<String>, well: &str) -> Response {
    match fault {
        Some(fault) => plain(StatusCode::SERVICE_UNAVAILABLE, &fault),
        None => plain(StatusCode::OK, well),
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// No answer is the same a moment later, and none may be taken for another type than it says.
fn answer(status: StatusCode, content_type: &'static str, body: impl IntoResponse) -> Response {
    let fields: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, fields, body).into_response()
}

const ROUTES: &str = "Not found. The routes are GET /metrics, /stats, /closed, /healthz and \
                      /readyz, and POST /drain and /reload.";
/// The largest body of a request.
const BODY_BYTES_MAX: usize = 4096;
/// How long the body of a request may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
