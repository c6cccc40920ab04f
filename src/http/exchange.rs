//! The requests of one connection, one after the other, however their bytes arrive.

use super::asked::Asked;
use super::asking::{Asking, UNJUDGED, inquiry, session_fields};
use super::body::Framing;
use super::call;
use super::conditions::Conditions;
use super::decision::{self, Decision};
use super::origin::AllowedOrigin;
use super::publish::{Finished, Upload};
use super::refusal::{Refusal, Refused};
use super::request::{Head, Method};
use super::sockjs::{Answered, ELSEWHERE, Responding, SessionAnswer, SessionRequest};
use super::stream::Stream;
use super::{Answer, Route, Serving};
use crate::admission::TooMany;
use crate::identity::{Inquiry, Judgement};

/// Where a connection is among its requests; owns nothing between two of them.
#[derive(Debug, Default)]
pub struct Exchange {
    partial: Option<Box<Partial>>,
    /// Whether nothing the peer sends matters any more.
    is_ended: bool,
    /// Whether the connection is kept for another request, after one that was answered.
    is_kept_alive: bool,
    /// Whether its requests may be calls of the API, and nothing else.
    is_for_calls: bool,
}

/// What there is of an incomplete request; boxed, because an idle connection has none.
#[derive(Debug)]
enum Partial {
    Head(Vec<u8>),
    /// A whole head, about which somebody is asked.
    Asked(Vec<u8>),
    Body(Upload),
    /// A call that is being done, and whether another request may follow.
    Called {
        keep_alive: bool,
    },
    /// A whole head, with which another shard is to go on.
    Elsewhere(Vec<u8>),
    /// A request about which a session decides.
    Session(Box<Responding>),
}

impl Exchange {
    /// Requests that may be calls of the API, and nothing else.
    pub fn for_calls() -> Self {
        Self { is_for_calls: true, ..Self::default() }
    }

    /// Takes bytes from the start of `input`: all of them when the answer is
    /// [`Answer::Incomplete`], else those that it says. Every input gets an answer, and how the
    /// bytes were split on their way does not change it.
    pub fn receive(&mut self, input: &[u8], conditions: &Conditions<'_>) -> Answer {
        debug_assert!(!self.is_ended, "nobody asks any more");
        match self.partial.take().map(|partial| *partial) {
            None => self.receive_head(Vec::new(), input, conditions),
            Some(Partial::Head(head)) => self.receive_head(head, input, conditions),
            Some(Partial::Asked(head) | Partial::Elsewhere(head)) => {
                let said = (conditions.judge)();
                let heading = Heading::decide(&head, conditions, said, self.is_for_calls);
                let carried = head.len();
                self.heed(heading, head, carried, input, conditions)
            }
            Some(Partial::Body(upload)) => self.receive_body(upload, input, 0, conditions),
            Some(Partial::Session(mut responding)) => {
                responding.keep(input);
                self.keep(Partial::Session(responding), Answer::Incomplete)
            }
            Some(called @ Partial::Called { .. }) => {
                debug_assert!(false, "nothing is received while a call is done");
                self.keep(called, Answer::Incomplete)
            }
        }
    }

    /// Refuses a request that is not answered in time, and ends: 408 if the peer has not sent all
    /// of it (RFC 9110 section 15.5.9), 503 if it `is_put_off` for those before it, or waits for a
    /// topic that takes no more, or for somebody to say whether it is granted.
    pub fn time_out(&mut self, is_put_off: bool, retry_after_s: u8) -> (Refusal, Vec<u8>) {
        let refused = match self.blocked_topic() {
            None if self.awaits_judgement() => Refused::new(Refusal::Unjudged, UNJUDGED),
            None if self.is_elsewhere() => Refused::new(Refusal::Overloaded, ELSEWHERE),
            None if is_put_off => Refused::new(Refusal::Overloaded, "The server is overloaded."),
            None => Refused::new(Refusal::Timeout, "The request did not arrive in time."),
            Some(_) => Refused::new(Refusal::Congested, "The topic takes no more for now."),
        };
        let origin = self.upload().map_or(AllowedOrigin::NONE, |upload| upload.origin.clone());
        let refused = refused.readable_by(&origin);
        self.end();
        (refused.refusal, refused.response(retry_after_s).encode(false, false))
    }

    /// A call has been done: its response, and whether another request may follow; nothing where
    /// none is being done any more.
    pub fn finish_call(&mut self, status: u16, body: String) -> Option<(Vec<u8>, bool)> {
        match self.partial.as_deref() {
            Some(&Partial::Called { keep_alive }) => {
                self.partial = None;
                Some((call::response(status, body, keep_alive), keep_alive))
            }
            _ => None,
        }
    }

    /// Whether a session decides about a request, or the response to that goes on.
    pub fn is_of_session(&self) -> bool {
        matches!(self.partial.as_deref(), Some(Partial::Session(_)))
    }

    /// Begins the response to a request about which a session decides, and which goes on: what is
    /// sent before the first frame.
    pub fn begin_stream(&mut self) -> Option<Vec<u8>> {
        match self.partial.as_deref_mut() {
            Some(Partial::Session(responding)) if responding.is_streaming() => responding.begin(),
            _ => None,
        }
    }

    /// A session has decided about a request: what is sent.
    pub fn answer_session(
        &mut self,
        answer: SessionAnswer<'_>,
        retry_after_s: u8,
    ) -> Option<Answered> {
        match self.partial.take().map(|partial| *partial) {
            Some(Partial::Session(responding)) => Some(responding.answer(answer, retry_after_s)),
            other => {
                self.partial = other.map(Box::new);
                None
            }
        }
    }

    /// Ends it: whatever the peer sends from now on is of no interest.
    pub fn end(&mut self) {
        (self.partial, self.is_ended) = (None, true);
    }

    /// Notes that the connection is kept for another request; false if it was before.
    pub fn keep_alive(&mut self) -> bool {
        debug_assert!(!self.is_ended, "no request is waited for");
        !std::mem::replace(&mut self.is_kept_alive, true)
    }

    /// Notes that no other request is waited for; false if none was.
    pub fn keep_no_longer(&mut self) -> bool {
        std::mem::take(&mut self.is_kept_alive)
    }

    /// Whether the connection is kept for another request, after one that was answered.
    pub fn is_kept_alive(&self) -> bool {
        self.is_kept_alive
    }

    /// Whether nothing the peer sends matters any more.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Whether a request has begun that is not answered.
    pub fn has_partial_request(&self) -> bool {
        self.partial.is_some()
    }

    /// Whether the body of a message is being received, or waits to be published.
    pub fn has_upload(&self) -> bool {
        self.upload().is_some()
    }

    /// The topic of a message of which all is here, and which waits to be published.
    pub fn blocked_topic(&self) -> Option<&str> {
        self.upload().filter(|upload| upload.is_complete()).and_then(Upload::topic)
    }

    /// Whether somebody is asked whether the request is granted.
    pub fn awaits_judgement(&self) -> bool {
        matches!(self.partial.as_deref(), Some(Partial::Asked(_)))
    }

    /// Whether it may go on without any more input: when it has waited for something.
    pub fn can_go_on(&self) -> bool {
        self.blocked_topic().is_some() || self.awaits_judgement() || self.is_elsewhere()
    }

    /// Whether another shard is to go on with the request.
    fn is_elsewhere(&self) -> bool {
        matches!(self.partial.as_deref(), Some(Partial::Elsewhere(_)))
    }

    /// Whether what comes next are chunks of a body.
    pub fn is_chunked(&self) -> bool {
        self.upload().is_some_and(|upload| upload.is_chunked())
    }

    /// Bytes of memory that an incomplete request takes.
    pub fn held_bytes(&self) -> usize {
        match self.partial.as_deref() {
            None | Some(Partial::Called { .. }) => 0,
            Some(Partial::Head(head) | Partial::Asked(head) | Partial::Elsewhere(head)) => {
                head.capacity()
            }
            Some(Partial::Session(responding)) => responding.held_bytes(),
            Some(Partial::Body(upload)) => upload.held_bytes(),
        }
    }

    fn upload(&self) -> Option<&Upload> {
        match self.partial.as_deref() {
            Some(Partial::Body(upload)) => Some(upload),
            _ => None,
        }
    }

    /// Goes on with the `head` of which so much has come before.
    fn receive_head(
        &mut self,
        mut head: Vec<u8>,
        input: &[u8],
        conditions: &Conditions<'_>,
    ) -> Answer {
        let carried = head.len();
        if carried > 0 {
            let limit = conditions.policy.request_head_bytes;
            let fresh = &input[..limit.saturating_sub(carried).min(input.len())];
            head.extend_from_slice(fresh);
            // A head ends with a line, so only a line's end, or the limit, makes it worth another
            // look.
            if !fresh.contains(&b'\n') && head.len() < limit {
                return self.keep(Partial::Head(head), Answer::Incomplete);
            }
        }
        // What comes in one piece is looked at where it lies.
        let whole = if carried == 0 { input } else { &head };
        let heading = Heading::decide(whole, conditions, None, self.is_for_calls);
        self.heed(heading, head, carried, input, conditions)
    }

    /// Does what follows from a `head`, of which so much was `carried` over from earlier input.
    fn heed(
        &mut self,
        heading: Heading,
        mut head: Vec<u8>,
        carried: usize,
        input: &[u8],
        conditions: &Conditions<'_>,
    ) -> Answer {
        match heading {
            Heading::Incomplete => {
                let head = if carried == 0 { input.to_vec() } else { head };
                self.keep(Partial::Head(head), Answer::Incomplete)
            }
            Heading::Answered(answer) => answer.without(carried),
            Heading::Upload(upload, head_bytes) => {
                self.begin_body(*upload, input, head_bytes - carried, conditions)
            }
            Heading::Asked(inquiry, head_bytes) => {
                if carried == 0 {
                    head = input[..head_bytes].to_vec();
                }
                head.truncate(head_bytes);
                let answer = Answer::Ask { consumed: head_bytes - carried, inquiry };
                self.keep(Partial::Asked(head), answer)
            }
            Heading::Elsewhere(shard, head_bytes) => {
                if carried == 0 {
                    head = input[..head_bytes].to_vec();
                }
                head.truncate(head_bytes);
                let answer = Answer::Elsewhere { consumed: head_bytes - carried, shard };
                self.keep(Partial::Elsewhere(head), answer)
            }
            Heading::Session(request, responding, head_bytes) => {
                let answer = Answer::Session { consumed: head_bytes - carried, request };
                self.keep(Partial::Session(responding), answer)
            }
        }
    }

    /// Keeps what there is of a request, until there is more to say than `answer`.
    fn keep(&mut self, partial: Partial, answer: Answer) -> Answer {
        self.partial = Some(Box::new(partial));
        answer
    }

    /// Goes on behind the head of an upload, which ends at `at`.
    fn begin_body(
        &mut self,
        mut upload: Upload,
        input: &[u8],
        at: usize,
        conditions: &Conditions<'_>,
    ) -> Answer {
        // Who has begun to send does not wait for a word.
        let waits = std::mem::take(&mut upload.expects_continue) && at == input.len();
        if waits && !upload.is_complete() {
            let answer = Answer::Continue { consumed: at, response: CONTINUE.to_vec() };
            return self.keep(Partial::Body(upload), answer);
        }
        self.receive_body(upload, input, at, conditions)
    }

    /// Takes the body of an upload from `at` on.
    fn receive_body(
        &mut self,
        mut upload: Upload,
        input: &[u8],
        at: usize,
        conditions: &Conditions<'_>,
    ) -> Answer {
        let consumed = match upload.receive(&input[at..]) {
            Ok(bytes) => at + bytes,
            Err(refused) => return refuse(&refused, input.len(), conditions),
        };
        if !upload.is_complete() {
            return self.keep(Partial::Body(upload), Answer::Incomplete);
        }
        let topic = upload.topic();
        if topic.is_some_and(|topic| !(conditions.may_publish)(topic)) {
            return self.keep(Partial::Body(upload), Answer::Blocked { consumed });
        }
        let keep_alive = upload.keep_alive && conditions.serving == Serving::Open;
        if let Some(Err(TooMany)) = topic.map(|topic| (conditions.take)(topic)) {
            return refuse_one(&upload.too_many(), consumed, keep_alive, conditions);
        }
        let (response, too_many) = (upload.accepted(), upload.too_many());
        match upload.finish() {
            Finished::Message(posted) => {
                let response = response.encode(keep_alive, false);
                Answer::Publish { consumed, posted, response, keep_alive }
            }
            Finished::Call(called) => {
                self.keep(Partial::Called { keep_alive }, Answer::Call { consumed, called })
            }
            Finished::Session(request, _) if !request.takes_more(conditions) => {
                refuse_one(&too_many, consumed, keep_alive, conditions)
            }
            Finished::Session(request, responding) => {
                self.keep(Partial::Session(responding), Answer::Session { consumed, request })
            }
            Finished::Refused(response) => {
                let response = response.encode(keep_alive, false);
                let refusal = Some(Refusal::BadRequest);
                Answer::Respond { consumed, response, keep_alive, refusal }
            }
        }
    }
}

/// What the head of a request leads to.
enum Heading {
    Incomplete,
    Answered(Answer),
    /// A body, behind a head of so many bytes.
    Upload(Box<Upload>, usize),
    /// What somebody is to be asked about it. The head has so many bytes.
    Asked(Box<Inquiry>, usize),
    /// The shard that is to go on with it. The head has so many bytes.
    Elsewhere(usize, usize),
    /// What is wanted of a session, and how that is answered. The head has so many bytes.
    Session(Box<SessionRequest>, Box<Responding>, usize),
}

impl Heading {
    /// Decides about the request at the start of `input`, about which perhaps something was said.
    fn decide(
        input: &[u8],
        conditions: &Conditions<'_>,
        said: Option<Judgement>,
        is_for_calls: bool,
    ) -> Self {
        let Conditions { policy, serving, .. } = *conditions;
        let parsed = Head::parse(input, policy.request_head_bytes, policy.request_headers);
        let (head, consumed) = match parsed {
            Ok(Some(complete)) => complete,
            Ok(None) => return Self::Incomplete,
            Err(refused) => return Self::Answered(refuse(&refused, input.len(), conditions)),
        };
        if let Some(note) = conditions.note {
            note(Asked::of(&head));
        }
        let asking = Asking::with(said);
        let (response, refusal) = match decision::decide(&head, conditions, &asking, is_for_calls) {
            Ok(Decision::Upgrade { mut route, response, compression }) => {
                if let Route::Session { fields, .. } = &mut route {
                    *fields = session_fields(&input[..consumed], policy);
                }
                let answer = Answer::Upgrade { consumed, route, response, compression };
                return Self::Answered(answer);
            }
            Ok(Decision::Stream(Stream { topic, response, framing })) => {
                let response = response.encode(false, false);
                return Self::Answered(Answer::Stream { consumed, topic, response, framing });
            }
            Ok(Decision::Close { response, refusal }) => {
                let refusal = Some(refusal);
                let answer = Answer::Respond { consumed, response, keep_alive: false, refusal };
                return Self::Answered(answer);
            }
            Ok(Decision::Receive(upload)) => return Self::Upload(Box::new(upload), consumed),
            Ok(Decision::Ask(client)) => {
                let of_request = || inquiry(&input[..consumed], head.host, client, policy);
                let inquiry = asking.about_password().unwrap_or_else(of_request);
                return Self::Asked(Box::new(inquiry), consumed);
            }
            Ok(Decision::Elsewhere(shard)) => return Self::Elsewhere(shard, consumed),
            Ok(Decision::Session(request, responding)) => {
                return Self::Session(request, Box::new(responding), consumed);
            }
            Ok(Decision::Serve(response)) => (response, None),
            Err(refused) => (refused.response(conditions.retry_after_s), Some(refused.refusal)),
        };
        // A server that has no room or wants to stop does not keep connections for requests that
        // may never come; and a body that nobody reads must not be taken for the next request.
        let keep_alive = head.keep_alive
            && head.body == Framing::Absent
            && serving == Serving::Open
            && refusal.is_none_or(Refusal::allows_keep_alive);
        let response = response.encode(keep_alive, head.method == Method::Head);
        Self::Answered(Answer::Respond { consumed, response, keep_alive, refusal })
    }
}

/// Refuses a request that was understood to its end.
fn refuse_one(
    refused: &Refused,
    consumed: usize,
    keep_alive: bool,
    conditions: &Conditions<'_>,
) -> Answer {
    let response = refused.response(conditions.retry_after_s).encode(keep_alive, false);
    Answer::Respond { consumed, response, keep_alive, refusal: Some(refused.refusal) }
}

/// Refuses what cannot be understood to its end: nothing that follows is looked at.
fn refuse(refused: &Refused, consumed: usize, conditions: &Conditions<'_>) -> Answer {
    let response = refused.response(conditions.retry_after_s).encode(false, false);
    Answer::Respond { consumed, response, keep_alive: false, refusal: Some(refused.refusal) }
}

/// Tells a client to send its body (RFC 9110 section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
