//! Mounts: further paths and the services that answer there.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error;

use super::entry::{Entry, EntryNotation, Fault, field};
use super::form::{boolean, choice, count, duration, parsed, size};
use super::sockjs::{CloseReason, ScriptUrl, SockJs};
use super::topic::Topic;
use crate::limits;

/// A path and what an upgrade of it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is.
    pub path: MountPath,
    /// What it does with messages.
    pub service: Service,
    /// How SockJS is spoken below the path, where it is.
    pub sockjs: Option<Box<SockJs>>,
}

impl Mount {
    /// Services below which SockJS is spoken although nobody has mounted them. What has the same
    /// path is found before.
    pub fn built_in() -> Vec<Self> {
        let broadcast = Service::Broadcast { topic: None, exclude_self: false };
        let services = [("/sockjs/echo", Service::Echo), ("/sockjs/broadcast/{topic}", broadcast)];
        let sockjs = || Some(Box::default());
        let mounts = services.into_iter().filter_map(|(path, service)| {
            path.parse().ok().map(|path| Self { path, service, sockjs: sockjs() })
        });
        mounts.collect()
    }
}

/// What a mount does with messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// Every message returns to its sender.
    Echo,
    /// Every message goes to all connections of a topic, which is the one of that name below
    /// `/broadcast/` as well.
    Broadcast {
        /// The topic; `None` exactly when the path names it.
        topic: Option<Topic>,
        /// Whether senders do not get their own messages when the query does not say.
        exclude_self: bool,
    },
    /// Every message has commands for channels, as on `/connection/websocket`.
    Realtime,
    /// Whoever connects is closed.
    Close {
        /// With this code,
        code: u16,
        /// and for this reason.
        reason: CloseReason,
    },
}

impl Service {
    /// The name by which the setting knows it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Broadcast { .. } => "broadcast",
            Self::Realtime => "realtime",
            Self::Close { .. } => "close",
        }
    }
}

/// The path of a mount: one path, or all with one more segment, which is the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPath {
    /// The whole path, or what stands before the topic, with the slash.
    fixed: String,
    takes_topic: bool,
}

impl MountPath {
    /// What may be written, for the help and for refusals.
    pub const GRAMMAR: &'static str = "a path such as /chat, or /rooms/{topic} with the topic as \
         its last segment, of letters, digits and -._~!$&'()*+,;=:@";

    /// Whether `path`, as it stands in a request, is this one; then with the segment that is the
    /// topic, percent-encoded, where this path takes one.
    pub fn matches<'p>(&self, path: &'p str) -> Option<Option<&'p str>> {
        match self.takes_topic {
            false => (path == self.fixed).then_some(None),
            true => {
                let segment = path.strip_prefix(&*self.fixed)?;
                (!segment.contains('/')).then_some(Some(segment))
            }
        }
    }

    /// What `path` has behind this one, and the segment that is the topic, where this path takes
    /// one: nothing, or more with a slash before.
    pub fn parts<'p>(&self, path: &'p str) -> Option<(Option<&'p str>, &'p str)> {
        let behind = path.strip_prefix(&*self.fixed)?;
        if !self.takes_topic {
            return (behind.is_empty() || behind.starts_with('/')).then_some((None, behind));
        }
        let (segment, rest) = behind.split_at(behind.find('/').unwrap_or(behind.len()));
        (!segment.is_empty()).then_some((Some(segment), rest))
    }

    /// Whether the last segment is the topic.
    pub fn takes_topic(&self) -> bool {
        self.takes_topic
    }

    /// Whether some request could mean this path as well as the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.takes_topic, other.takes_topic) {
            (true, true) | (false, false) => self.fixed == other.fixed,
            (true, false) => self.matches(&other.fixed).is_some(),
            (false, true) => other.matches(&self.fixed).is_some(),
        }
    }
}

/// A text that is no path of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not {}", MountPath::GRAMMAR)]
pub struct MountPathError;

impl FromStr for MountPath {
    type Err = MountPathError;

    /// Reads a path of RFC 3986 section 3.3 that needs no percent-encoding. The last segment may be
    /// empty, as in `/chat/`; `.` and `..` never arrive, as clients resolve them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (fixed, takes_topic) = match text.strip_suffix(TOPIC_SEGMENT) {
            Some(fixed) if fixed.ends_with('/') => (fixed, true),
            Some(_) => return Err(MountPathError),
            None => (text, false),
        };
        let segments = fixed.strip_prefix('/').ok_or(MountPathError)?;
        let mut named = segments.strip_suffix('/').unwrap_or(segments).split('/');
        match segments.is_empty() || named.all(is_segment) {
            true => Ok(Self { fixed: fixed.to_owned(), takes_topic }),
            false => Err(MountPathError),
        }
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.fixed)?;
        formatter.write_str(if self.takes_topic { TOPIC_SEGMENT } else { "" })
    }
}

fn is_segment(segment: &str) -> bool {
    let is_path_byte = |byte: u8| byte.is_ascii_alphanumeric() || PUNCTUATION.contains(&byte);
    !["", ".", ".."].contains(&segment) && segment.bytes().all(is_path_byte)
}

/// A mount as it is read.
#[derive(Default)]
pub(super) struct MountDraft {
    path: Option<MountPath>,
    service: Option<ServiceName>,
    topic: Option<Topic>,
    exclude_self: Option<bool>,
    code: Option<u16>,
    reason: Option<CloseReason>,
    sockjs: Option<bool>,
    websocket: Option<bool>,
    cookie: Option<bool>,
    response_limit: Option<usize>,
    heartbeat: Option<Duration>,
    disconnect_delay: Option<Duration>,
    client_url: Option<ScriptUrl>,
}

/// The services by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ServiceName {
    Echo,
    Broadcast,
    Realtime,
    Close,
}

impl MountDraft {
    /// What it says of SockJS.
    fn sockjs(&self) -> Result<Option<Box<SockJs>>, Fault> {
        let is_said = self.websocket.is_some()
            || self.cookie.is_some()
            || self.response_limit.is_some()
            || self.heartbeat.is_some()
            || self.disconnect_delay.is_some()
            || self.client_url.is_some();
        if self.sockjs != Some(true) {
            let text = "websocket, cookie, response_limit, heartbeat, disconnect_delay and \
                        client_url are of SockJS: allowed are they with sockjs = true";
            return if is_said { Err(Fault::Contradiction(text.to_owned())) } else { Ok(None) };
        }
        let default = SockJs::default();
        Ok(Some(Box::new(SockJs {
            has_websocket: self.websocket.unwrap_or(default.has_websocket),
            has_cookie: self.cookie.unwrap_or(default.has_cookie),
            response_bytes: self.response_limit.unwrap_or(default.response_bytes),
            heartbeat: self.heartbeat.unwrap_or(default.heartbeat),
            disconnect_delay: self.disconnect_delay.unwrap_or(default.disconnect_delay),
            client_url: self.client_url.clone().unwrap_or(default.client_url),
        })))
    }

    /// A draft that says this of SockJS.
    fn of_sockjs(sockjs: Option<&SockJs>) -> Self {
        let Some(sockjs) = sockjs else { return Self::default() };
        let default = SockJs::default();
        let SockJs { has_websocket, has_cookie, response_bytes, heartbeat, .. } = *sockjs;
        let delay = sockjs.disconnect_delay;
        let url = &sockjs.client_url;
        Self {
            sockjs: Some(true),
            websocket: (has_websocket != default.has_websocket).then_some(has_websocket),
            cookie: (has_cookie != default.has_cookie).then_some(has_cookie),
            response_limit: (response_bytes != default.response_bytes).then_some(response_bytes),
            heartbeat: (heartbeat != default.heartbeat).then_some(heartbeat),
            disconnect_delay: (delay != default.disconnect_delay).then_some(delay),
            client_url: (*url != default.client_url).then(|| url.clone()),
            ..Self::default()
        }
    }
}

impl Entry for Mount {
    type Draft = MountDraft;

    fn notation() -> EntryNotation<MountDraft> {
        EntryNotation {
            head: vec![
                field("path", parsed(MountPath::GRAMMAR), |draft| &mut draft.path),
                field("service", choice(), |draft| &mut draft.service),
            ],
            options: vec![
                field("topic", parsed(Topic::GRAMMAR), |draft| &mut draft.topic),
                field("exclude_self", boolean(), |draft| &mut draft.exclude_self),
                field("code", count(&limits::CLOSE_CODE), |draft| &mut draft.code),
                field("reason", parsed(CloseReason::GRAMMAR), |draft| &mut draft.reason),
                field("sockjs", boolean(), |draft| &mut draft.sockjs),
                field("websocket", boolean(), |draft| &mut draft.websocket),
                field("cookie", boolean(), |draft| &mut draft.cookie),
                field("response_limit", size(&limits::SOCKJS_RESPONSE_BYTES), |draft| {
                    &mut draft.response_limit
                }),
                field("heartbeat", duration(&limits::SOCKJS_HEARTBEAT), |draft| {
                    &mut draft.heartbeat
                }),
                field("disconnect_delay", duration(&limits::SOCKJS_DISCONNECT_DELAY), |draft| {
                    &mut draft.disconnect_delay
                }),
                field("client_url", parsed(ScriptUrl::GRAMMAR), |draft| &mut draft.client_url),
            ],
            allowed: "PATH=SERVICE such as /chat=broadcast,topic=lobby",
        }
    }

    fn from_draft(draft: MountDraft) -> Result<Self, Fault> {
        let sockjs = draft.sockjs()?;
        let MountDraft {
            path: Some(path),
            service: Some(service),
            topic,
            exclude_self,
            code,
            reason,
            ..
        } = draft
        else {
            return Err(Fault::Head(Self::notation().allowed.to_owned()));
        };
        let contradiction = |text: String| Err(Fault::Contradiction(text));
        if service != ServiceName::Close && (code.is_some() || reason.is_some()) {
            let text = "code and reason are of an end: allowed are they with close alone";
            return contradiction(text.to_owned());
        }
        if service == ServiceName::Realtime && sockjs.is_some() {
            let text = "realtime with sockjs: allowed is sockjs with echo, broadcast or close";
            return contradiction(text.to_owned());
        }
        let knows_topics = topic.is_some() || exclude_self.is_some() || path.takes_topic();
        let service = match service {
            ServiceName::Echo | ServiceName::Realtime | ServiceName::Close if knows_topics => {
                return contradiction(format!(
                    "{} knows no topics: allowed are topic, exclude_self and {TOPIC_SEGMENT} with \
                     broadcast alone",
                    match service {
                        ServiceName::Realtime => "realtime",
                        ServiceName::Close => "close",
                        ServiceName::Echo | ServiceName::Broadcast => "echo",
                    },
                ));
            }
            ServiceName::Echo => Service::Echo,
            ServiceName::Realtime => Service::Realtime,
            ServiceName::Close => {
                let code = code.unwrap_or(limits::CLOSE_CODE.default);
                Service::Close { code, reason: reason.unwrap_or_default() }
            }
            ServiceName::Broadcast => match (path.takes_topic(), &topic) {
                (true, Some(topic)) => {
                    return contradiction(format!(
                        "topic = {topic:?} with {path}: allowed is one of them, as both name the \
                         topic"
                    ));
                }
                (false, None) => {
                    return contradiction(format!(
                        "{path} names no topic: allowed is broadcast with topic=TOPIC, or with a \
                         path that ends in /{TOPIC_SEGMENT}"
                    ));
                }
                _ => Service::Broadcast { topic, exclude_self: exclude_self.unwrap_or(false) },
            },
        };
        Ok(Self { path, service, sockjs })
    }

    fn to_draft(&self) -> MountDraft {
        let path = Some(self.path.clone());
        let draft = MountDraft { path, ..MountDraft::of_sockjs(self.sockjs.as_deref()) };
        match &self.service {
            Service::Echo => MountDraft { service: Some(ServiceName::Echo), ..draft },
            Service::Realtime => MountDraft { service: Some(ServiceName::Realtime), ..draft },
            Service::Broadcast { topic, exclude_self } => MountDraft {
                service: Some(ServiceName::Broadcast),
                topic: topic.clone(),
                exclude_self: exclude_self.then_some(true),
                ..draft
            },
            Service::Close { code, reason } => MountDraft {
                service: Some(ServiceName::Close),
                code: (*code != limits::CLOSE_CODE.default).then_some(*code),
                reason: (*reason != CloseReason::default()).then(|| reason.clone()),
                ..draft
            },
        }
    }
}

/// The paths that the server has without a mount, which none may take.
pub const BUILT_IN_PATHS: [&str; 5] =
    ["/", "/echo", "/broadcast", "/broadcast/{topic}", "/healthz"];

const TOPIC_SEGMENT: &str = "{topic}";
/// Unreserved characters, sub-delimiters, colon and at sign, beside letters and digits.
const PUNCTUATION: &[u8] = b"-._~!$&'()*+,;=:@";

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> MountPath {
        text.parse().expect(text)
    }

    #[test]
    fn paths_read_back_as_they_were_written() {
        for text in ["/", "/a", "/a/", "/a/b.c", "/a=b,c;d", "/{topic}", "/a/{topic}"] {
            assert_eq!(path(text).to_string(), text);
        }
        for text in [
            "",
            "a",
            "a/b",
            "//",
            "/a//",
            "/a//b",
            "/.",
            "/a/../b",
            "/a b",
            "/a%20",
            "/a?b",
            "/a#b",
            "/{x}",
            "/a{topic}",
            "/{topic}/a",
            "/{topic}/{topic}",
            "/caf\u{e9}",
            "{topic}",
        ] {
            assert_eq!(text.parse::<MountPath>(), Err(MountPathError), "{text}");
        }
    }

    #[test]
    fn paths_match_whole_or_with_one_more_segment() {
        assert_eq!(path("/a").matches("/a"), Some(None));
        assert_eq!(path("/a/{topic}").matches("/a/b"), Some(Some("b")));
        assert_eq!(path("/a/{topic}").matches("/a/"), Some(Some("")));
        for (pattern, other) in [("/a", "/a/"), ("/a", "/A"), ("/a/{topic}", "/a")] {
            assert_eq!(path(pattern).matches(other), None, "{pattern} {other}");
        }
        assert_eq!(path("/a/{topic}").matches("/a/b/c"), None);
    }

    #[test]
    fn what_lies_below_a_path_is_told_from_its_topic() {
        for (pattern, other, expected) in [
            ("/a", "/a", Some((None, ""))),
            ("/a", "/a/", Some((None, "/"))),
            ("/a", "/a/b/c", Some((None, "/b/c"))),
            ("/a", "/ab", None),
            ("/a/{topic}", "/a/t", Some((Some("t"), ""))),
            ("/a/{topic}", "/a/t/b", Some((Some("t"), "/b"))),
            ("/a/{topic}", "/a//b", None),
            ("/a/{topic}", "/a", None),
        ] {
            assert_eq!(path(pattern).parts(other), expected, "{pattern} {other}");
        }
        assert_eq!(Mount::built_in().len(), 2, "their paths are some");
    }

    #[test]
    fn paths_overlap_where_a_request_could_mean_both() {
        for (one, other, expected) in [
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a/b", "/a/{topic}", true),
            ("/a/b/c", "/a/{topic}", false),
            ("/a/{topic}", "/a/{topic}", true),
            ("/a/{topic}", "/b/{topic}", false),
            ("/{topic}", "/a", true),
            ("/{topic}", "/a/{topic}", false),
        ] {
            assert_eq!(path(one).overlaps(&path(other)), expected, "{one} {other}");
            assert_eq!(path(other).overlaps(&path(one)), expected, "{other} {one}");
        }
    }
}
