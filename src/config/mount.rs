//! Mounts: further paths and the services that answer there.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use thiserror::Error;

use super::entry::{Entry, EntryNotation, Fault, field};
use super::form::{boolean, choice, parsed};
use super::topic::Topic;

/// A path and what an upgrade of it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is.
    pub path: MountPath,
    /// What it does with messages.
    pub service: Service,
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
}

impl Service {
    /// The name by which the setting knows it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Broadcast { .. } => "broadcast",
            Self::Realtime => "realtime",
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
}

/// The services by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ServiceName {
    Echo,
    Broadcast,
    Realtime,
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
            ],
            allowed: "PATH=SERVICE such as /chat=broadcast,topic=lobby",
        }
    }

    fn from_draft(draft: MountDraft) -> Result<Self, Fault> {
        let MountDraft { path: Some(path), service: Some(service), topic, exclude_self } = draft
        else {
            return Err(Fault::Head(Self::notation().allowed.to_owned()));
        };
        let contradiction = |text: String| Err(Fault::Contradiction(text));
        let service = match service {
            ServiceName::Echo | ServiceName::Realtime
                if topic.is_some() || exclude_self.is_some() || path.takes_topic() =>
            {
                let name = if service == ServiceName::Echo { "echo" } else { "realtime" };
                return contradiction(format!(
                    "{name} knows no topics: allowed are topic, exclude_self and {TOPIC_SEGMENT} \
                     with broadcast alone"
                ));
            }
            ServiceName::Echo => Service::Echo,
            ServiceName::Realtime => Service::Realtime,
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
        Ok(Self { path, service })
    }

    fn to_draft(&self) -> MountDraft {
        let path = Some(self.path.clone());
        match &self.service {
            Service::Echo => {
                MountDraft { path, service: Some(ServiceName::Echo), ..MountDraft::default() }
            }
            Service::Realtime => {
                MountDraft { path, service: Some(ServiceName::Realtime), ..MountDraft::default() }
            }
            Service::Broadcast { topic, exclude_self } => MountDraft {
                path,
                service: Some(ServiceName::Broadcast),
                topic: topic.clone(),
                exclude_self: exclude_self.then_some(true),
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
