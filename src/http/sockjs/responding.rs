//! How a request is answered about which a session decides.

use super::{PLAIN, Reception};
use crate::admission::JoinDenial;
use crate::http::Serving;
use crate::http::refusal::{Refusal, Refused};
use crate::http::response::Response;
use crate::sockjs::transport::chunk;

/// What comes of a request about which a session decides.
#[derive(Debug)]
pub enum SessionAnswer<'a> {
    /// One frame, and the response is whole.
    Frame(&'a str),
    /// The messages are on their way.
    Sent,
    /// There is no such session, and only one that wants frames begins one.
    Unknown,
    /// None begins now.
    NotServed(Serving),
    /// None begins, as its topic takes no more members.
    NoMember(JoinDenial),
}

/// The answer to a request about which a session has decided.
#[derive(Debug)]
pub struct Answered {
    /// The whole response.
    pub response: Vec<u8>,
    /// Why the session was refused, if it was.
    pub refusal: Option<Refusal>,
    /// Whether another request may follow,
    pub keep_alive: bool,
    /// and what has come of it already.
    pub early: Vec<u8>,
}

/// A request about which a session decides, as far as its answer is known before.
#[derive(Debug)]
pub(in crate::http) struct Responding {
    pub(super) response: Response,
    /// Whether another request may follow.
    pub(super) keep_alive: bool,
    /// How frames are sent; `None` where messages have come.
    pub(super) reception: Option<Box<Reception>>,
    /// Whether the head of a response that goes on has been sent.
    pub(super) has_begun: bool,
    /// What has come meanwhile of the next request.
    pub(super) early: Vec<u8>,
}

impl Responding {
    /// Whether frames are to follow one another.
    pub(in crate::http) fn is_streaming(&self) -> bool {
        self.reception.as_ref().is_some_and(|it| it.transport.is_streaming())
    }

    /// Keeps what follows, unless nothing may or it is too much for somebody who waits.
    pub(in crate::http) fn keep(&mut self, input: &[u8]) {
        if self.keep_alive && self.early.len() + input.len() <= EARLY_BYTES_MAX {
            self.early.extend_from_slice(input);
        } else {
            (self.keep_alive, self.early) = (false, Vec::new());
        }
    }

    /// Bytes of memory that it takes.
    pub(in crate::http) fn held_bytes(&self) -> usize {
        self.early.capacity()
    }

    /// What begins a response that goes on; nothing if it has begun.
    pub(in crate::http) fn begin(&mut self) -> Option<Vec<u8>> {
        let reception = self.reception.as_ref().filter(|_| !self.has_begun)?;
        self.has_begun = true;
        let mut bytes = self.response.encode(false, false);
        let prelude = reception.transport.prelude(&reception.callback);
        bytes.extend(chunk(&prelude, reception.framing));
        Some(bytes)
    }

    /// What is sent.
    pub(in crate::http) fn answer(self, answer: SessionAnswer<'_>, retry_after_s: u8) -> Answered {
        let Self { response, keep_alive, reception, early, .. } = self;
        let (response, refusal) = match answer {
            SessionAnswer::Sent => (response, None),
            SessionAnswer::Frame(frame) => {
                let mut body = String::new();
                if let Some(reception) = reception {
                    reception.transport.push(frame, &reception.callback, &mut body);
                }
                (response.with_body(body), None)
            }
            SessionAnswer::Unknown => {
                let text = "There is no such session, or it has ended.\n";
                (response.say(404, PLAIN, text.to_owned()), Some(Refusal::NotFound))
            }
            SessionAnswer::NotServed(serving) => {
                refused(response, serving.refused(), retry_after_s)
            }
            SessionAnswer::NoMember(denial) => {
                refused(response, Some(Refused::no_member(denial)), retry_after_s)
            }
        };
        let response = response.encode(keep_alive, false);
        Answered { response, refusal, keep_alive, early }
    }
}

/// A response that refuses, for those who may read the other.
fn refused(
    response: Response,
    refused: Option<Refused>,
    retry_after_s: u8,
) -> (Response, Option<Refusal>) {
    let refused =
        refused.unwrap_or(Refused::new(Refusal::Overloaded, "The server takes no session now."));
    let text = format!("{}\n", refused.detail);
    let response = response.say(refused.refusal.status(), PLAIN, text);
    (response.retry_later(retry_after_s), Some(refused.refusal))
}

/// What may come of further requests while one waits for a frame.
const EARLY_BYTES_MAX: usize = 16 << 10;
/// What is said to a request that could not go on where its session is.
pub(in crate::http) const ELSEWHERE: &str = "The session is on another shard, where its connection \
     could not move: that takes the ability hand-over, or one shard.";
