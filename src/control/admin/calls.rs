//! Asks shards on behalf of requests, a bounded number at a time, and says what was wrong with
//! those that did not do what they were asked.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::answer::{Refused, value};
use crate::control::mail::{ANSWER_TIMEOUT, Dispatch, NoAnswer};
use crate::shard::orders::{Errand, Outcome};

/// Where requests ask the shards.
pub(super) struct Calls {
    dispatch: Dispatch,
    shards: usize,
    free: Semaphore,
}

/// One call, for as long as it asks.
pub(super) struct Call<'a> {
    calls: &'a Calls,
    _permit: SemaphorePermit<'a>,
}

impl Calls {
    /// Calls to so many shards by way of `dispatch`.
    pub(super) fn new(dispatch: Dispatch, shards: usize) -> Self {
        Self { dispatch, shards, free: Semaphore::new(CALLS_MOST) }
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.shards
    }

    /// Begins a call.
    ///
    /// # Errors
    /// The refusal of one too many.
    pub(super) fn begin(&self) -> Result<Call<'_>, Refused> {
        match self.free.try_acquire() {
            Ok(permit) => Ok(Call { calls: self, _permit: permit }),
            Err(_) => Err(Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{CALLS_MOST} calls wait for shards already; try again."),
            )),
        }
    }
}

impl Call<'_> {
    /// Has one shard run an errand.
    ///
    /// # Errors
    /// What was wrong with it.
    pub(super) async fn ask(&self, shard: usize, errand: Errand) -> Result<Outcome, Refused> {
        judge(shard, self.calls.dispatch.ask(shard, errand).await.outcome().await)
    }

    /// Has several shards run errands at the same time, and tells the sum of what they are closing
    /// and the part of each, under this `name`; and what was wrong with whom. Answers with `status`
    /// where nothing was.
    pub(super) async fn sum(
        &self,
        errands: impl IntoIterator<Item = (usize, Errand)>,
        status: StatusCode,
        name: &str,
    ) -> (u64, Response) {
        let mut answers = Vec::new();
        for (shard, errand) in errands {
            answers.push((shard, self.calls.dispatch.ask(shard, errand).await));
        }
        let (mut sum, mut parts, mut faults) = (0, Vec::new(), Vec::new());
        for (shard, answer) in answers {
            let mut part = Map::from_iter([("shard".to_owned(), json!(shard))]);
            match judge(shard, answer.outcome().await) {
                Ok(outcome) => {
                    let count = if let Outcome::Closing(count) = outcome { count } else { 0 };
                    sum += count;
                    part.insert(name.to_owned(), json!(count));
                }
                Err(fault) => {
                    part.insert("error".to_owned(), json!(fault.error));
                    faults.push(fault);
                }
            }
            parts.push(Value::Object(part));
        }
        let mut body = json!({ "shards": parts });
        body[name] = json!(sum);
        let Some(worst) = faults.iter().map(|fault| fault.status).max() else {
            return (sum, value(status, &body));
        };
        let errors: Vec<_> = faults.into_iter().map(|fault| fault.error).collect();
        body["error"] = json!(errors.join("; "));
        (sum, value(worst, &body))
    }
}

/// The outcome of what a shard was asked, or what was wrong with it.
fn judge(shard: usize, answer: Result<Outcome, NoAnswer>) -> Result<Outcome, Refused> {
    let fault = |status, text: &str| Refused::new(status, format!("shard {shard} {text}"));
    let seconds = ANSWER_TIMEOUT.as_secs();
    match answer {
        Err(NoAnswer::Late) | Ok(Outcome::Withdrawn) => Err(fault(
            StatusCode::GATEWAY_TIMEOUT,
            &format!("has not answered for {seconds} s; what it has not done by now is left"),
        )),
        Err(NoAnswer::Gone) => Err(fault(
            StatusCode::SERVICE_UNAVAILABLE,
            "takes no orders any more: it drains, or has failed",
        )),
        Ok(Outcome::Draining) => Err(fault(
            StatusCode::SERVICE_UNAVAILABLE,
            "drains, which closes all of its connections",
        )),
        Ok(Outcome::Releasing) => Err(fault(
            StatusCode::CONFLICT,
            "is sending connections away already; try again when those are gone",
        )),
        Ok(outcome) => Ok(outcome),
    }
}

/// Calls that ask shards at a time.
const CALLS_MOST: usize = 8;
