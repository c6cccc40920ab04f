//! A message that is published by POST: what its head must say, and what its body becomes.

use super::body::{Body, Framing};
use super::call::{CallHead, Called};
use super::origin::{self, AllowedOrigin};
use super::refusal::{Refusal, Refused};
use super::request::{Field, Head};
use super::response::Response;
use super::route::authorize;
use super::sockjs::{Responding, SendHead, SessionRequest};
use super::{Policy, Serving};
use crate::authorization::Action;
use crate::config::{Authority, MessageTypes};
use crate::identity::Grants;
use crate::wire::header::Header;
use crate::wire::message::{DataMessage, MessageKind};
use crate::wire::utf8::Utf8Stream;

/// A message that a request has brought for the members of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Its name, which [`Permissions::authorize`] has let pass.
    ///
    /// [`Permissions::authorize`]: crate::authorization::Permissions::authorize
    pub topic: Box<str>,
    /// The message; UTF-8 if it is text.
    pub message: DataMessage,
}

/// What a body has become.
pub(super) enum Finished {
    Message(Posted),
    Call(Box<Called>),
    /// What is wanted of a session, and how that is answered.
    Session(Box<SessionRequest>, Box<Responding>),
    /// The body is none that this takes.
    Refused(Response),
}

/// A message to be published, or a call, whose body is still to come.
#[derive(Debug)]
pub(super) struct Upload {
    purpose: Purpose,
    kind: MessageKind,
    body: Body,
    /// The text so far.
    utf8: Utf8Stream,
    /// Whether the client waits for a word before it sends the body (RFC 9110 section 10.1.1).
    pub(super) expects_continue: bool,
    /// Whether another request may follow.
    pub(super) keep_alive: bool,
    /// Whose page may read the answer.
    pub(super) origin: AllowedOrigin,
}

/// What a body is for.
#[derive(Debug)]
enum Purpose {
    /// It is a message for this topic.
    Topic(Box<str>),
    /// It says what is called.
    Call(CallHead),
    /// It has messages for a session.
    Session(Box<SendHead>),
}

impl Upload {
    /// The body of a call, about whose head was decided.
    pub(super) fn of_call(
        head: CallHead,
        body: Body,
        expects_continue: bool,
        keep_alive: bool,
    ) -> Self {
        let origin = AllowedOrigin::NONE;
        Self::of(Purpose::Call(head), body, expects_continue, keep_alive, origin)
    }

    /// Messages for a session, about whose head was decided.
    pub(super) fn of_session(
        head: SendHead,
        body: Body,
        expects_continue: bool,
        keep_alive: bool,
        origin: AllowedOrigin,
    ) -> Self {
        Self::of(Purpose::Session(Box::new(head)), body, expects_continue, keep_alive, origin)
    }

    /// A body that is read later.
    fn of(
        purpose: Purpose,
        body: Body,
        expects_continue: bool,
        keep_alive: bool,
        origin: AllowedOrigin,
    ) -> Self {
        Self {
            purpose,
            kind: MessageKind::Binary,
            body,
            utf8: Utf8Stream::default(),
            expects_continue,
            keep_alive,
            origin,
        }
    }

    /// Decides about the head of a request to publish to `topic`, in the order in which a person
    /// looks for a mistake: topic, type, size, origin, and whether the server takes anything.
    pub(super) fn accept(
        head: &Head<'_>,
        topic: Box<str>,
        host: Option<Authority<'_>>,
        policy: &Policy,
        serving: Serving,
        granted: Option<&Grants>,
    ) -> Result<Self, Refused> {
        authorize(&policy.permissions, &topic, Action::Post, granted)?;
        let kind = kind(head, policy)?;
        let expects_continue = expects_continue(head)?;
        // The header of the message's frame will lie in front of the payload.
        let room = match head.body {
            Framing::Absent => Header::encoded_bytes(0, false),
            Framing::Length(bytes) => Header::encoded_bytes(bytes, false),
            Framing::Chunked => Header::encoded_bytes(u64::MAX, false),
        };
        let body = Body::new(head.body, room, policy.message_bytes)?;
        let origin = origin::check(&head.origin, host, policy)?;
        if let Some(refused) = serving.refused_body() {
            return Err(refused.readable_by(&origin));
        }
        let keep_alive = head.keep_alive && serving == Serving::Open;
        let utf8 = Utf8Stream::default();
        let purpose = Purpose::Topic(topic);
        Ok(Self { purpose, kind, body, utf8, expects_continue, keep_alive, origin })
    }

    /// The topic that the message is for, if it is one.
    pub(super) fn topic(&self) -> Option<&str> {
        match &self.purpose {
            Purpose::Topic(topic) => Some(topic),
            Purpose::Session(head) => head.topic(),
            Purpose::Call(_) => None,
        }
    }

    /// Takes what belongs to the body from the start of `input`, and returns how much that was.
    /// Text fails at its first bad byte.
    pub(super) fn receive(&mut self, input: &[u8]) -> Result<usize, Refused> {
        self.take(input).map_err(|refused| refused.readable_by(&self.origin))
    }

    fn take(&mut self, input: &[u8]) -> Result<usize, Refused> {
        let not_text = |_| Refused::new(Refusal::BadRequest, "The text is not valid UTF-8.");
        let before = self.body.content().len();
        let bytes = self.body.receive(input)?;
        if self.kind == MessageKind::Text {
            self.utf8.push(&self.body.content()[before..]).map_err(not_text)?;
            if self.body.is_complete() {
                std::mem::take(&mut self.utf8).finish().map_err(not_text)?;
            }
        }
        Ok(bytes)
    }

    /// Whether all of the body is here.
    pub(super) fn is_complete(&self) -> bool {
        self.body.is_complete()
    }

    /// Whether what comes next are chunks.
    pub(super) fn is_chunked(&self) -> bool {
        self.body.is_chunked()
    }

    /// Bytes of memory that it takes.
    pub(super) fn held_bytes(&self) -> usize {
        self.body.held_bytes()
    }

    /// The answer to a message that was published: it is on its way, and who gets it is not known
    /// here (RFC 9110 section 15.3.3).
    pub(super) fn accepted(&self) -> Response {
        self.origin.may_read(Response::text(202, "accepted\n"))
    }

    /// The refusal of a message of which its topic has had too many.
    pub(super) fn too_many(&self) -> Refused {
        let detail = "More is published to the topic than may be.";
        Refused::new(Refusal::TopicRate, detail).readable_by(&self.origin)
    }

    /// What it is, once all of its body is here.
    pub(super) fn finish(self) -> Finished {
        let (bytes, room) = self.body.into_bytes();
        match self.purpose {
            Purpose::Topic(topic) => {
                let message = DataMessage::in_place(self.kind, bytes, room);
                Finished::Message(Posted { topic, message })
            }
            Purpose::Call(CallHead { method, is_transport_mode }) => {
                Finished::Call(Box::new(Called { method, body: bytes, is_transport_mode }))
            }
            Purpose::Session(head) => match head.finish(&bytes) {
                Ok((request, responding)) => {
                    Finished::Session(Box::new(request), Box::new(responding))
                }
                Err(response) => Finished::Refused(response),
            },
        }
    }
}

/// Whether a client waits for a word before it sends the body (RFC 9110 section 10.1.1).
pub(super) fn expects_continue(head: &Head<'_>) -> Result<bool, Refused> {
    match head.expect {
        Field::Absent => Ok(false),
        Field::Once(expected) if expected.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Field::Once(_) | Field::Repeated => {
            let detail = "Only 100-continue may be expected.";
            Err(Refused::new(Refusal::ExpectationFailed, detail))
        }
    }
}

/// The kind of message that a body is, by its media type; what has none is bytes (RFC 9110 section
/// 8.3).
fn kind(head: &Head<'_>, policy: &Policy) -> Result<MessageKind, Refused> {
    let unsupported = |detail| Err(Refused::new(Refusal::UnsupportedMediaType, detail));
    if head.has_content_encoding {
        return unsupported("A body with a Content-Encoding is not taken.");
    }
    let media_type = match head.content_type {
        Field::Absent => b"application/octet-stream",
        Field::Once(media_type) => media_type,
        Field::Repeated => return unsupported("Content-Type appears more than once."),
    };
    let Some(kind) = media_type_kind(media_type) else {
        return unsupported(
            "Content-Type must be text/* or application/json in UTF-8 for a text message, \
             application/octet-stream for a binary one.",
        );
    };
    match (policy.message_types, kind) {
        (MessageTypes::Text, MessageKind::Binary) => unsupported("Only text messages are taken."),
        (MessageTypes::Binary, MessageKind::Text) => unsupported("Only binary messages are taken."),
        _ => Ok(kind),
    }
}

fn media_type_kind(value: &[u8]) -> Option<MessageKind> {
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let essence = parts.next()?.to_ascii_lowercase();
    if essence == b"application/octet-stream" {
        return Some(MessageKind::Binary);
    }
    let is_text = essence.starts_with(b"text/")
        || essence == b"application/json"
        || essence.ends_with(b"+json");
    let is_utf8 = parts.all(|parameter| {
        let (name, value) = match parameter.iter().position(|byte| *byte == b'=') {
            Some(place) => (&parameter[..place], &parameter[place + 1..]),
            None => (parameter, &b""[..]),
        };
        let charset = value.trim_ascii().to_ascii_lowercase();
        let charset =
            charset.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\"")).unwrap_or(&charset);
        !name.eq_ignore_ascii_case(b"charset") || matches!(charset, b"utf-8" | b"us-ascii")
    });
    (is_text && is_utf8).then_some(MessageKind::Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::TooMany;
    use crate::authorization::Permissions;
    use crate::config::{BroadcastAccess, Config};
    use crate::http::{Answer, Conditions, Exchange, Refusal};

    fn policy() -> Policy {
        let allow_origin = vec!["https://a.org".parse().unwrap()];
        Policy { message_bytes: 100, allow_origin, ..Policy::new(&Config::default()) }
    }

    fn ask(exchange: &mut Exchange, input: &[u8], serving: Serving, may_publish: bool) -> Answer {
        let policy = policy();
        let may_publish = |topic: &str| {
            assert_eq!(topic, "t", "the topic is the one in the path");
            may_publish
        };
        let conditions =
            Conditions { may_publish: &may_publish, ..Conditions::unlimited(&policy, serving) };
        exchange.receive(input, &conditions)
    }

    fn post(fields: &str, body: &str) -> String {
        format!("POST /broadcast/t HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
    }

    #[test]
    fn a_body_becomes_a_message() {
        for (fields, body, kind, payload) in [
            ("Content-Type: text/plain\r\nContent-Length: 2", "hi", MessageKind::Text, "hi"),
            ("Content-Length: 2", "hi", MessageKind::Binary, "hi"),
            ("Content-Type: application/json", "", MessageKind::Text, ""),
            ("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n", MessageKind::Binary, "hi"),
            ("Origin: https://a.org\r\nContent-Length: 2", "hi", MessageKind::Binary, "hi"),
            ("Expect: 100-continue\r\nContent-Length: 2", "hi", MessageKind::Binary, "hi"),
        ] {
            let text = post(fields, body);
            let next = format!("{text}GET /");
            let answer = ask(&mut Exchange::default(), next.as_bytes(), Serving::Open, true);
            let Answer::Publish { consumed, posted, response, keep_alive: true } = answer else {
                panic!("{text}: {answer:?}");
            };
            assert_eq!(consumed, text.len());
            assert!(response.starts_with(b"HTTP/1.1 202 Accepted\r\n"));
            let message = DataMessage::new(kind, payload.as_bytes());
            assert_eq!(posted, Posted { topic: "t".into(), message });
        }
    }

    #[test]
    fn a_topic_that_is_not_open_is_not_published_to() {
        for (broadcast, path, expected) in [
            (BroadcastAccess::Post, "t", None),
            (BroadcastAccess::Post, "%00", Some(Refusal::BadRequest)),
            (BroadcastAccess::None, "t", Some(Refusal::Forbidden)),
        ] {
            let policy =
                Policy { permissions: Permissions { broadcast, anonymous: None }, ..policy() };
            let conditions = Conditions::unlimited(&policy, Serving::Open);
            let text = post("Content-Length: 1", "x").replace("/t ", &format!("/{path} "));
            let answer = Exchange::default().receive(text.as_bytes(), &conditions);
            let refusal = match answer {
                Answer::Respond { refusal, .. } => refusal,
                answer => {
                    assert!(matches!(answer, Answer::Publish { .. }), "{answer:?}");
                    None
                }
            };
            assert_eq!(refusal, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_published_is_refused() {
        let long = "x".repeat(101);
        let chunks = format!("65\r\n{long}\r\n0\r\n\r\n");
        for (fields, body, refusal) in [
            ("Content-Type: image/png", "", Refusal::UnsupportedMediaType),
            ("Content-Encoding: gzip", "", Refusal::UnsupportedMediaType),
            ("Content-Length: 101", &*long, Refusal::BodyTooLarge),
            ("Transfer-Encoding: chunked", &*chunks, Refusal::BodyTooLarge),
            ("Transfer-Encoding: chunked", "x\r\n", Refusal::BadRequest),
            ("Transfer-Encoding: gzip", "", Refusal::UnknownTransferCoding),
            ("Content-Type: text/plain\r\nContent-Length: 1", "\u{ff}", Refusal::BadRequest),
            ("Expect: a-miracle", "", Refusal::ExpectationFailed),
            ("Origin: https://b.org", "", Refusal::Forbidden),
        ] {
            let text = post(fields, body);
            let answer = ask(&mut Exchange::default(), text.as_bytes(), Serving::Open, true);
            let Answer::Respond { keep_alive, refusal: Some(refused), .. } = answer else {
                panic!("{text}: {answer:?}");
            };
            assert_eq!(refused, refusal, "{text}");
            // A body that nobody has read must not be taken for a request.
            assert!(!keep_alive || body.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_full_server_publishes_and_one_that_is_short_or_stops_does_not() {
        let text = post("Content-Length: 2", "hi");
        for (serving, refusal) in [
            (Serving::Full, None),
            (Serving::ShortOfMemory, Some(Refusal::ShortOfMemory)),
            (Serving::Draining, Some(Refusal::Draining)),
        ] {
            match ask(&mut Exchange::default(), text.as_bytes(), serving, true) {
                Answer::Publish { keep_alive: false, .. } => assert_eq!(refusal, None),
                Answer::Respond { keep_alive: false, refusal: refused, .. } => {
                    assert_eq!(refused, refusal);
                }
                answer => panic!("{serving:?}: {answer:?}"),
            }
        }
    }

    #[test]
    fn a_client_that_keeps_its_body_back_is_told_to_send_it_once() {
        let mut exchange = Exchange::default();
        let head = post("Expect: 100-Continue\r\nContent-Length: 2", "");
        let answer = ask(&mut exchange, head.as_bytes(), Serving::Open, true);
        let response = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        assert_eq!(answer, Answer::Continue { consumed: head.len(), response });
        assert_eq!(ask(&mut exchange, b"h", Serving::Open, true), Answer::Incomplete);
        assert!(exchange.has_upload() && exchange.has_partial_request());
        let answer = ask(&mut exchange, b"i", Serving::Open, true);
        assert!(matches!(answer, Answer::Publish { consumed: 1, .. }), "{answer:?}");
        assert!(!exchange.has_partial_request());
    }

    #[test]
    fn a_message_waits_until_it_may_be_published() {
        let mut exchange = Exchange::default();
        let text = post("Content-Length: 2", "hi");
        let answer = ask(&mut exchange, text.as_bytes(), Serving::Open, false);
        assert_eq!(answer, Answer::Blocked { consumed: text.len() });
        assert_eq!(exchange.blocked_topic(), Some("t"));
        assert_eq!(ask(&mut exchange, b"", Serving::Open, false), Answer::Blocked { consumed: 0 });
        let answer = ask(&mut exchange, b"next", Serving::Open, true);
        assert!(matches!(answer, Answer::Publish { consumed: 0, .. }), "{answer:?}");
        ask(&mut exchange, text.as_bytes(), Serving::Open, false);
        let (refusal, response) = exchange.time_out(false, 7);
        assert_eq!(refusal, Refusal::Congested);
        assert!(response.starts_with(b"HTTP/1.1 503 ") && exchange.is_ended());
    }

    #[test]
    fn a_topic_that_has_had_too_many_takes_no_more_and_the_connection_stays() {
        let (policy, topics) = (policy(), std::cell::RefCell::new(Vec::new()));
        let take = |topic: &str| {
            topics.borrow_mut().push(topic.to_owned());
            Err(TooMany)
        };
        let unlimited = Conditions::unlimited(&policy, Serving::Open);
        let conditions = Conditions { take: &take, ..unlimited };
        let text = post("Origin: https://a.org\r\nContent-Length: 2", "hi");
        let answer = Exchange::default().receive(text.as_bytes(), &conditions);
        let Answer::Respond { consumed, response, keep_alive: true, refusal } = answer else {
            panic!("{answer:?}");
        };
        assert_eq!((consumed, refusal), (text.len(), Some(Refusal::TopicRate)));
        let response = String::from_utf8(response).unwrap();
        assert!(response.starts_with("HTTP/1.1 429 "), "{response}");
        for field in ["\r\nRetry-After: 5\r\n", "\r\nAccess-Control-Allow-Origin: "] {
            assert!(response.contains(field), "{response}");
        }
        assert_eq!(topics.into_inner(), ["t"], "it is asked once");
    }

    #[test]
    fn media_types_tell_text_from_bytes() {
        for (text, expected) in [
            ("text/plain", Some(MessageKind::Text)),
            ("Text/HTML; Charset=\"UTF-8\"", Some(MessageKind::Text)),
            ("text/plain;charset=us-ascii ; format=flowed", Some(MessageKind::Text)),
            ("application/json", Some(MessageKind::Text)),
            ("application/ld+json; profile=x", Some(MessageKind::Text)),
            ("application/octet-stream", Some(MessageKind::Binary)),
            ("text/plain; charset=iso-8859-1", None),
            ("application/x-www-form-urlencoded", None),
            ("image/png", None),
            ("text", None),
            ("", None),
        ] {
            assert_eq!(media_type_kind(text.as_bytes()), expected, "{text}");
        }
    }
}
