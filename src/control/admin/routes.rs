//! The routes of the admin listener and what each answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Deserialize;
use serde_json::json;

use super::answer::{Refused, answer, body, plain, value};
use super::calls::Calls;
use super::closed::{self, Filter};
use super::connections;
use super::guard::{check_change, check_host};
use super::page;
use super::report::{Pace, Report};
use super::top;
use crate::config::LogLevel;
use crate::control::metrics::{Format, Metrics};
use crate::control::standing::{RevokeError, Standing};
use crate::identity::{RevocationFault, Revoked};
use crate::logging;
use crate::settings::ReloadError;

/// A check of the guard.
type Check = fn(&Uri, &HeaderMap) -> Result<(), Refused>;

/// What the routes answer from.
pub(super) struct Desk {
    pub(super) standing: Arc<Standing>,
    pub(super) calls: Calls,
    report: Report,
    metrics: Metrics,
    /// The metrics in each format.
    texts: [Report; 2],
    closed: Pace,
}

/// All routes. `checks_host` is for listeners that a browser can reach.
pub(super) fn router(standing: Arc<Standing>, calls: Calls, checks_host: bool) -> Router {
    let router = page::routes()
        .route("/stats", get(stats))
        .route("/metrics", get(metrics))
        .route("/closed", get(closed))
        .route("/capacity", get(capacity))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/connections", get(connections::list))
        .route("/top", get(top::list))
        .route("/drain", changing(drain))
        .route("/reload", changing(reload))
        .route("/log-level", changing(log_level))
        .route("/revoke", changing(revoke))
        .route("/topics/close", changing(connections::close_topic))
        .route("/connections/close", changing(connections::close))
        .route("/connections/release", changing(connections::release))
        .fallback(|| async { Refused::new(StatusCode::NOT_FOUND, ROUTES) })
        .method_not_allowed_fallback(|| async {
            Refused::new(StatusCode::METHOD_NOT_ALLOWED, "This route takes other methods.")
        })
        .with_state(Arc::new(Desk {
            metrics: Metrics::new(standing.clone()),
            standing,
            calls,
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
        Err(refused) => refused.into_response(),
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

async fn closed(State(desk): State<Arc<Desk>>, uri: Uri) -> Result<Response, Refused> {
    let filter = Filter::parse(&uri)?;
    desk.closed.wait().await;
    let stats = &desk.standing.shared.stats;
    let text = closed::report(stats, stats.started_at(), &filter);
    Ok(answer(StatusCode::OK, "application/json", text))
}

async fn capacity(State(desk): State<Arc<Desk>>) -> Response {
    answer(StatusCode::OK, "application/json", desk.standing.capacity_report())
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

async fn drain(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Refused> {
    let Nothing {} = body(request).await?;
    desk.standing.ask_for_drain();
    Ok(plain(StatusCode::ACCEPTED, "draining"))
}

/// What is logged from now on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    level: LogLevel,
}

async fn log_level(request: Request) -> Result<Response, Refused> {
    let Log { level } = body(request).await?;
    let before = logging::set_level(level)
        .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(value(StatusCode::OK, &json!({ "level": level, "before": before })))
}

async fn reload(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Refused> {
    let Nothing {} = body(request).await?;
    let changed = desk.standing.reload().map_err(|error| {
        let status = match error {
            ReloadError::NoFile => StatusCode::CONFLICT,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Refused::new(status, error.to_string())
    })?;
    Ok(value(StatusCode::OK, &json!({ "changed": changed })))
}

/// What is revoked: exactly one of both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    user: Option<Box<str>>,
    token: Option<Box<str>>,
}

async fn revoke(State(desk): State<Arc<Desk>>, request: Request) -> Result<Response, Refused> {
    let revoked = match body(request).await? {
        Revocation { user: Some(user), token: None } => Revoked::User(user),
        Revocation { user: None, token: Some(id) } => Revoked::Token(id),
        _ => return Err(Refused::bad("Allowed is either a user or a token, by its `jti`.")),
    };
    if !desk.standing.asks_who_somebody_is() {
        let error = "Nobody is asked who they are: start the server with --jwt-key, --jwt-jwks, \
                     --basic-users, --tls-client-user or --auth-url.";
        return Err(Refused::new(StatusCode::CONFLICT, error));
    }
    tracing::info!(?revoked, "revoked by request");
    match desk.standing.revoke(revoked) {
        Ok(()) => Ok(plain(StatusCode::ACCEPTED, "revoked")),
        Err(RevokeError::Fault(fault @ RevocationFault::Name)) => {
            Err(Refused::bad(format!("The request {fault}.")))
        }
        Err(RevokeError::Fault(fault)) => {
            Err(Refused::new(StatusCode::INSUFFICIENT_STORAGE, format!("The list {fault}.")))
        }
        Err(error @ RevokeError::Unwritten { .. }) => {
            let error = format!("Revoked until the process ends, not for good: {error}.");
            Err(Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error))
        }
    }
}

/// 503 with what is wrong, or 200.
fn verdict(fault: Option<String>, well: &str) -> Response {
    match fault {
        Some(fault) => plain(StatusCode::SERVICE_UNAVAILABLE, &fault),
        None => plain(StatusCode::OK, well),
    }
}

const ROUTES: &str = "Not found. The routes are GET / (a page), /metrics, /stats, /closed, \
                      /capacity, /healthz, /readyz, /connections and /top, and POST /drain, \
                      /reload, /revoke, /log-level, /topics/close, /connections/close and \
                      /connections/release.";
