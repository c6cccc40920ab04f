//! What the admin listener answers with, and how it reads what it is told.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

/// A line of text.
pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    answer(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// A JSON value.
pub(super) fn value(status: StatusCode, value: &Value) -> Response {
    answer(status, "application/json", format!("{value}\n"))
}

/// Why a request is refused, or could not be done: the status, and what is wrong in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) error: Cow<'static, str>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: impl Into<Cow<'static, str>>) -> Self {
        Self { status, error: error.into() }
    }

    /// What the request says cannot be.
    pub(super) fn bad(error: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        value(self.status, &json!({ "error": self.error }))
    }
}

/// No answer is the same a moment later, and none may be taken for another type than it says.
pub(super) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl IntoResponse,
) -> Response {
    let fields: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, fields, body).into_response()
}

/// The body of a request; where there is none, an object without fields, so that those which it
/// needs are missed by name.
///
/// # Errors
/// The refusal of a body that is no such thing; it names the field.
pub(super) async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Refused> {
    let reading = to_bytes(request.into_body(), BODY_BYTES_MAX);
    let Ok(body) = timeout(BODY_TIMEOUT, reading).await else {
        return Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time."));
    };
    let Ok(body) = body else {
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."));
    };
    let text = if body.is_empty() { b"{}" } else { &body[..] };
    serde_json::from_slice(text)
        .map_err(|error| Refused::bad(format!("The body is not what this request takes: {error}.")))
}

/// The largest body of a request.
const BODY_BYTES_MAX: usize = 4096;
/// How long the body of a request may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
