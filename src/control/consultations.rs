//! Inquiries of the shards about requests, passed on to the backend of `--auth-url`.
//!
//! So many are under way at a time, by connections that are kept for the next; others wait for
//! those before them, for no longer than the answer itself may take.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use hyper::header::{
    CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ToStrError, USER_AGENT,
    WWW_AUTHENTICATE,
};
use hyper::{Request, StatusCode};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::requester::{RequestError, Requester, Terms, do_in_turn};
use super::standing::Standing;
use crate::config::HttpUrl;
use crate::hub::inbox::Place;
use crate::identity::{AnswerFields, CHALLENGE_BYTES_MOST, Denial, Inquiry, Judgement};
use crate::shard::in_force::Effective;
use crate::shard::inquiries::Consultation;
use crate::shard::mail::Letter;
use crate::shard::pending::PendingKey;
use crate::stats::family::{Family, Kind, Unit};
use crate::stats::{Counter, Histogram};

/// A consultation that is to take place, and since when it is.
pub(super) struct Asked {
    pub(super) consultation: Consultation,
    pub(super) since: Instant,
}

/// What has been said, and to whom that is to be told.
pub(super) struct Judged {
    pub(super) place: Place<Letter>,
    pub(super) key: PendingKey,
    pub(super) judgement: Judgement,
}

/// How consultations have ended.
#[derive(Debug, Default)]
pub(super) struct Ends {
    allowed: Counter,
    denied: Counter,
    failed: Counter,
    late: Counter,
    time: Histogram<8>,
}

impl Ends {
    /// The same for a monitoring system.
    pub(super) fn families(&self) -> [Family; 2] {
        let help = "Answers of --auth-url, and requests to it that have failed or came to no end.";
        let family = Family::by_reason(
            "auth_requests",
            help,
            [
                ("allowed", self.allowed.value()),
                ("denied", self.denied.value()),
                ("failed", self.failed.value()),
                ("late", self.late.value()),
            ],
        );
        let help = "How long --auth-url has taken to answer, or to fail.";
        let time = Family::new("auth_request_duration", Kind::Histogram, Some(Unit::Seconds), help)
            .with_counts(Vec::new(), self.time.counts());
        [family, time]
    }
}

/// Whoever asks the backend.
pub(super) struct Consultant {
    standing: Arc<Standing>,
    requester: Requester,
    /// When the log was last told of a failure.
    logged: Cell<Option<Instant>>,
}

/// Why nothing is known.
#[derive(Debug, Error)]
enum ConsultError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer has a field that is no text: {0}")]
    Field(#[from] ToStrError),
    #[error("the answer allows what was asked for and says of whom in a way that is not known")]
    Unknown,
}

impl Consultant {
    pub(super) fn new(standing: Arc<Standing>) -> Rc<Self> {
        let requester = Requester::new(standing.clone());
        Rc::new(Self { standing, requester, logged: Cell::new(None) })
    }

    /// Asks for as long as the server runs.
    pub(super) async fn run(
        self: Rc<Self>,
        asked: mpsc::Receiver<Asked>,
        judged: mpsc::Sender<Judged>,
    ) {
        let most = || self.settings().config.backend.connections;
        do_in_turn(asked, most, |Asked { consultation, since }| {
            let (own, judged) = (self.clone(), judged.clone());
            async move {
                let Consultation { key, inquiry, answer: place } = consultation;
                let judgement = own.consult(&inquiry, since).await;
                // Where nobody takes it, because the control thread ends, it is dropped.
                let _ = judged.send(Judged { place, key, judgement }).await;
            }
        })
        .await;
    }

    fn settings(&self) -> Arc<Effective> {
        self.standing.shared.in_force.current()
    }

    /// What the backend says; nobody waits for it any more when it is late.
    async fn consult(&self, inquiry: &Inquiry, since: Instant) -> Judgement {
        let settings = self.settings();
        let backend = &settings.config.backend;
        let Some(url) = &backend.url else { return Judgement::Unknown };
        let left = backend.timeout.saturating_sub(since.elapsed());
        let begun = Instant::now();
        let answer = timeout(left, self.ask(url, inquiry, &settings)).await;
        let ends = &self.standing.consulted;
        ends.time.observe(begun.elapsed().as_micros() as u64);
        let counter = match &answer {
            Ok(Ok(Judgement::Allowed(_))) => &ends.allowed,
            Ok(Ok(Judgement::Denied(_))) => &ends.denied,
            Ok(Ok(Judgement::Unknown) | Err(_)) => &ends.failed,
            Err(_) => &ends.late,
        };
        counter.add(1);
        match answer {
            Ok(Ok(judgement)) => return judgement,
            Ok(Err(error)) => self.log(url, &error.to_string()),
            Err(_) => self.log(url, &format!("no answer within {:?}", backend.timeout)),
        }
        Judgement::Unknown
    }

    async fn ask(
        &self,
        url: &HttpUrl,
        inquiry: &Inquiry,
        settings: &Effective,
    ) -> Result<Judgement, ConsultError> {
        let terms = Terms {
            number: settings.number,
            kept_most: settings.config.backend.connections,
            may_repeat: true,
            body_bytes_most: BODY_BYTES_MOST,
        };
        let (head, body) = self.requester.send(url, || request(url, inquiry), terms).await?;
        let stats = &self.standing.shared.stats;
        let now_s = stats.seconds_of_day(stats.start().elapsed());
        read(head.status, &head.headers, &body, now_s)
    }

    /// Tells the log of a failure now and then: all requests fail together.
    fn log(&self, url: &HttpUrl, error: &str) {
        if self.logged.get().is_none_or(|at| at.elapsed() >= BETWEEN_LOGS) {
            self.logged.set(Some(Instant::now()));
            tracing::warn!(%url, "nobody is let in: {error}");
        }
    }
}

/// What is asked, in the way of `auth_request` of nginx, `ForwardAuth` of Traefik and
/// `forward_auth` of Caddy.
fn request(url: &HttpUrl, inquiry: &Inquiry) -> Result<Request<Body>, hyper::http::Error> {
    let scheme = if inquiry.is_secure { "https" } else { "http" };
    let mut request = Request::get(url.target())
        .header(HOST, url.authority())
        .header(USER_AGENT, concat!("ringwire/", env!("CARGO_PKG_VERSION")))
        .header("x-forwarded-method", &*inquiry.method)
        .header("x-forwarded-proto", scheme)
        .header("x-forwarded-uri", HeaderValue::from_bytes(inquiry.target.as_bytes())?);
    if let Some(host) = &inquiry.host {
        request = request.header("x-forwarded-host", &**host);
    }
    if let Some(client) = inquiry.client {
        request = request.header("x-forwarded-for", client.to_string());
    }
    for (name, value) in &inquiry.fields {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        let value = HeaderValue::from_bytes(value)?;
        match request.headers_mut().filter(|_| name == USER_AGENT) {
            // That of the client stands for ours.
            Some(headers) => drop(headers.insert(name, value)),
            None => request = request.header(name, value),
        }
    }
    request.body(Body::empty())
}

fn read(
    status: StatusCode,
    headers: &HeaderMap,
    body: &Bytes,
    now_s: u64,
) -> Result<Judgement, ConsultError> {
    let list = |name: &HeaderName| {
        let values: Result<Vec<_>, _> =
            headers.get_all(name).iter().map(HeaderValue::to_str).collect();
        values.map(|values| (!values.is_empty()).then(|| values.join(", ")))
    };
    if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
        let challenge = list(&WWW_AUTHENTICATE)?.filter(|it| {
            it.len() <= CHALLENGE_BYTES_MOST && it.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        });
        let is_forbidden = status == StatusCode::FORBIDDEN;
        let challenge = challenge.filter(|_| !is_forbidden).map(String::into_boxed_str);
        return Ok(Judgement::Denied(Denial { is_forbidden, challenge }));
    }
    if !status.is_success() {
        return Err(ConsultError::Status(status));
    }
    let media_type = list(&CONTENT_TYPE)?.unwrap_or_default().to_ascii_lowercase();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let judgement = if media_type == "application/json" || media_type.ends_with("+json") {
        Judgement::of_claims(body, now_s)
    } else {
        let (user, subscribe) = (list(&USER)?, list(&SUBSCRIBE)?);
        let (publish, expires_in_s) = (list(&PUBLISH)?, list(&EXPIRES_IN)?);
        let fields = AnswerFields {
            user: user.as_deref(),
            subscribe: subscribe.as_deref(),
            publish: publish.as_deref(),
            expires_in_s: expires_in_s.as_deref(),
        };
        Judgement::of_fields(&fields, now_s)
    };
    match judgement {
        Judgement::Unknown => Err(ConsultError::Unknown),
        judgement => Ok(judgement),
    }
}

const USER: HeaderName = HeaderName::from_static("x-ringwire-user");
const SUBSCRIBE: HeaderName = HeaderName::from_static("x-ringwire-subscribe");
const PUBLISH: HeaderName = HeaderName::from_static("x-ringwire-publish");
const EXPIRES_IN: HeaderName = HeaderName::from_static("x-ringwire-expires-in");
/// Bytes of an answer's body: pages that say why somebody is denied are read to their end, so that
/// the connection can be kept.
const BODY_BYTES_MOST: usize = 64 << 10;
/// Between two lines of the log about failures.
const BETWEEN_LOGS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Right;

    fn answer(status: u16, fields: &[(&'static str, &str)], body: &str) -> Option<Judgement> {
        let fields = fields.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        });
        let headers: HeaderMap = HeaderMap::from_iter(fields);
        let body = Bytes::copy_from_slice(body.as_bytes());
        read(StatusCode::from_u16(status).expect("a status"), &headers, &body, 10).ok()
    }

    #[test]
    fn answers_are_understood_or_nobody_is_let_in() {
        let denied = |is_forbidden, challenge: Option<&str>| {
            let challenge = challenge.map(Box::from);
            Some(Judgement::Denied(Denial { is_forbidden, challenge }))
        };
        let challenge = [("www-authenticate", "Basic realm=\"a\"")];
        assert_eq!(answer(401, &challenge, "why"), denied(false, Some("Basic realm=\"a\"")));
        assert_eq!(answer(401, &[], ""), denied(false, None));
        assert_eq!(answer(403, &challenge, ""), denied(true, None));
        let long = "x".repeat(CHALLENGE_BYTES_MOST + 1);
        assert_eq!(answer(401, &[("www-authenticate", &long)], ""), denied(false, None));
        for status in [100, 302, 404, 407, 500, 503] {
            assert_eq!(answer(status, &[], ""), None, "{status}");
        }
        let json = [("content-type", "Application/JSON; charset=utf-8")];
        let Some(Judgement::Allowed(it)) = answer(200, &json, r#"{"sub":"u","exp":11}"#) else {
            panic!("it is allowed");
        };
        assert_eq!((it.identity.user.as_deref(), it.identity.expires_s), (Some("u"), 11));
        assert_eq!(answer(200, &json, "<html>"), None);
        let fields = [("x-ringwire-user", "u"), ("x-ringwire-publish", "a")];
        let Some(Judgement::Allowed(it)) = answer(204, &fields, "") else {
            panic!("it is allowed");
        };
        assert!(it.grants.allow(Right::Publish, "a") && !it.grants.allow(Right::Subscribe, "a"));
        assert_eq!(answer(204, &[("x-ringwire-expires-in", "-1")], ""), None);
    }

    #[test]
    fn the_backend_is_told_of_the_request_and_nothing_that_it_could_mistake() {
        let inquiry = Inquiry {
            method: "GET".into(),
            target: "/broadcast/a?b".into(),
            host: Some("c.org:81".into()),
            client: Some([192, 0, 2, 1].into()),
            is_secure: true,
            fields: vec![("cookie".into(), (*b"a=\xff").into()), ("cookie".into(), (*b"d").into())],
            login: None,
        };
        let url = "http://b.org:80/check?x".parse().expect("a URL");
        let request = request(&url, &inquiry).expect("a request");
        assert_eq!((request.method().as_str(), request.uri().path()), ("GET", "/check"));
        for (name, value) in [
            ("host", &b"b.org:80"[..]),
            ("x-forwarded-method", b"GET"),
            ("x-forwarded-proto", b"https"),
            ("x-forwarded-host", b"c.org:81"),
            ("x-forwarded-uri", b"/broadcast/a?b"),
            ("x-forwarded-for", b"192.0.2.1"),
            ("cookie", b"a=\xff"),
        ] {
            assert_eq!(request.headers()[name].as_bytes(), value, "{name}");
        }
        assert_eq!(request.headers().get_all("cookie").iter().count(), 2);
    }
}
