//! Hooks of client sessions, passed on to the backends that the settings name for them.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::requester::{RequestError, Requester, Terms, do_in_turn};
use super::standing::Standing;
use crate::config::{Hooks, HttpUrl};
use crate::realtime::api::Fault;
use crate::realtime::hooks::{Answer, Hook, read};
use crate::shard::HookCall;
use crate::shard::in_force::Effective;
use crate::shard::pending::PendingKey;
use crate::stats::family::{Family, Kind, Unit};
use crate::stats::{Counter, Histogram};

/// A hook that is to be asked, and since when it is.
pub(super) struct HookAsked {
    pub(super) call: HookCall,
    pub(super) since: Instant,
}

/// What was answered, and which shard has asked by which key.
pub(super) struct HookAnswered {
    pub(super) shard: usize,
    pub(super) key: PendingKey,
    pub(super) answer: Answer,
}

/// How hooks have ended, by their numbers.
#[derive(Debug, Default)]
pub(super) struct HookEnds([EndsOfOne; Hook::ALL.len()]);

#[derive(Debug, Default)]
struct EndsOfOne {
    granted: Counter,
    error: Counter,
    disconnect: Counter,
    failed: Counter,
    late: Counter,
    time: Histogram<8>,
}

impl HookEnds {
    /// The same for a monitoring system.
    pub(super) fn families(&self) -> [Family; 2] {
        let help = "Answers to hooks of channels, and requests that have failed or came to no end.";
        let mut counts = Family::new("hook_requests", Kind::Counter, None, help);
        let help = "How long hooks of channels have taken to answer, or to fail.";
        let name = "hook_request_duration";
        let mut times = Family::new(name, Kind::Histogram, Some(Unit::Seconds), help);
        for (hook, ends) in Hook::ALL.into_iter().zip(&self.0) {
            let label = || ("hook", hook.name().to_owned());
            for (reason, counter) in [
                ("granted", &ends.granted),
                ("error", &ends.error),
                ("disconnect", &ends.disconnect),
                ("failed", &ends.failed),
                ("late", &ends.late),
            ] {
                let labels = [label(), ("reason", reason.to_owned())];
                counts = counts.with(labels, counter.value() as f64);
            }
            times = times.with_counts(vec![label()], ends.time.counts());
        }
        [counts, times]
    }
}

/// Whoever asks backends.
pub(super) struct HookAsker {
    standing: Arc<Standing>,
    requester: Requester,
    /// When the log was last told of a failure.
    logged: Cell<Option<Instant>>,
}

/// Why nothing is known.
#[derive(Debug, Error)]
enum HookError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer means nothing: {0}")]
    Answer(#[from] Fault),
}

impl HookAsker {
    pub(super) fn new(standing: Arc<Standing>) -> Rc<Self> {
        let requester = Requester::new(standing.clone());
        Rc::new(Self { standing, requester, logged: Cell::new(None) })
    }

    /// Asks for as long as the server runs.
    pub(super) async fn run(
        self: Rc<Self>,
        asked: mpsc::Receiver<HookAsked>,
        answered: mpsc::Sender<HookAnswered>,
    ) {
        let most = || self.settings().config.hooks.connections;
        do_in_turn(asked, most, |HookAsked { call, since }| {
            let (own, answered) = (self.clone(), answered.clone());
            async move {
                let answer = own.ask(&call, since).await;
                let HookCall { shard, key, .. } = call;
                // Where nobody takes it, because the control thread ends, it is dropped.
                let _ = answered.send(HookAnswered { shard, key, answer }).await;
            }
        })
        .await;
    }

    fn settings(&self) -> Arc<Effective> {
        self.standing.shared.in_force.current()
    }

    /// What the backend says; nobody waits for it any more when it is late.
    async fn ask(&self, call: &HookCall, since: Instant) -> Answer {
        let settings = self.settings();
        let hooks = &settings.config.hooks;
        let Some(url) = url(hooks, call.hook) else { return Answer::Failed };
        let left = hooks.timeout.saturating_sub(since.elapsed());
        let begun = Instant::now();
        let answer = timeout(left, self.send(url, call, &settings)).await;
        let ends = &self.standing.hooks.0[call.hook as usize];
        ends.time.observe(begun.elapsed().as_micros() as u64);
        let counter = match &answer {
            Ok(Ok(Answer::Granted(_))) => &ends.granted,
            Ok(Ok(Answer::Error(_))) => &ends.error,
            Ok(Ok(Answer::Disconnect(_))) => &ends.disconnect,
            Ok(Ok(Answer::Failed) | Err(_)) => &ends.failed,
            Err(_) => &ends.late,
        };
        counter.add(1);
        match answer {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => self.log(call.hook, url, &error.to_string()),
            Err(_) => self.log(call.hook, url, &format!("no answer within {:?}", hooks.timeout)),
        }
        Answer::Failed
    }

    async fn send(
        &self,
        url: &HttpUrl,
        call: &HookCall,
        settings: &Effective,
    ) -> Result<Answer, HookError> {
        let terms = Terms {
            number: settings.number,
            kept_most: settings.config.hooks.connections,
            may_repeat: call.hook.is_question(),
            body_bytes_most: BODY_BYTES_MOST,
        };
        let (head, body) = self.requester.send(url, || request(url, call), terms).await?;
        if head.status != StatusCode::OK {
            return Err(HookError::Status(head.status));
        }
        let stats = &self.standing.shared.stats;
        Ok(read(call.hook, &body, stats.seconds_of_day(stats.start().elapsed()))?)
    }

    /// Tells the log of a failure now and then: all requests fail together.
    fn log(&self, hook: Hook, url: &HttpUrl, error: &str) {
        if self.logged.get().is_none_or(|at| at.elapsed() >= BETWEEN_LOGS) {
            self.logged.set(Some(Instant::now()));
            tracing::warn!(hook = hook.name(), %url, "a hook has failed: {error}");
        }
    }
}

/// Who is asked.
fn url(hooks: &Hooks, hook: Hook) -> Option<&HttpUrl> {
    match hook {
        Hook::Connect => hooks.connect.as_ref(),
        Hook::Refresh => hooks.refresh.as_ref(),
        Hook::Subscribe => hooks.subscribe.as_ref(),
        Hook::Publish => hooks.publish.as_ref(),
        Hook::SubRefresh => hooks.sub_refresh.as_ref(),
        Hook::Rpc => hooks.rpc.as_ref(),
    }
}

fn request(url: &HttpUrl, call: &HookCall) -> Result<Request<Body>, hyper::http::Error> {
    let mut request = Request::post(url.target())
        .header(HOST, url.authority())
        .header(CONTENT_TYPE, "application/json");
    let mut names_client = false;
    for (name, value) in call.fields.iter() {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        // What is sent is ours, whatever the client has sent.
        if name != CONTENT_TYPE {
            names_client |= name == USER_AGENT;
            request = request.header(name, HeaderValue::from_bytes(value)?);
        }
    }
    if !names_client {
        request = request.header(USER_AGENT, concat!("ringwire/", env!("CARGO_PKG_VERSION")));
    }
    request.body(Body::from(call.body.clone()))
}

/// Bytes of an answer.
const BODY_BYTES_MOST: usize = 256 << 10;
/// Between two lines of the log about failures.
const BETWEEN_LOGS: Duration = Duration::from_secs(5);
