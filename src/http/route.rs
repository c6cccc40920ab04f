//! What a request target names.

use super::query::{Query, percent_decode};
use super::refusal::{Refusal, Refused};
use super::sockjs::Below;
use crate::authorization::{Action, Decision, Namespace, Permissions};
use crate::config::{Authority, Mount, Root, Service};
use crate::identity::{Grants, HeadFields};
use crate::wire::message::MessageKind;

/// What an upgraded connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Every message returns to its sender.
    Echo,
    /// Every message goes to all connections of the topic.
    Broadcast {
        /// Its name, which [`Permissions::authorize`] has let pass.
        topic: Box<str>,
        /// Whether the client may publish as well.
        may_publish: bool,
        /// Whether the sender does not get its own messages.
        exclude_self: bool,
    },
    /// Every message holds commands of a client session.
    Session {
        /// What the messages of the server are: text for JSON, binary for Protobuf.
        kind: MessageKind,
        /// Fields of its request that backends are told.
        fields: HeadFields,
    },
    /// Whoever connects is closed.
    Close {
        /// With this code,
        code: u16,
        /// and for this reason.
        reason: Box<str>,
    },
    /// The same as another, in frames of SockJS.
    SockJs(Box<Route>),
}

impl Route {
    /// With which code and reason everybody is closed, if they are.
    pub fn closes(&self) -> Option<(u16, &str)> {
        match self {
            Self::Close { code, reason } => Some((*code, reason)),
            Self::SockJs(route) => route.closes(),
            Self::Echo | Self::Broadcast { .. } | Self::Session { .. } => None,
        }
    }

    /// The topic that is joined.
    pub(super) fn topic(&self) -> Option<&str> {
        match self {
            Self::Broadcast { topic, .. } => Some(topic),
            Self::Echo | Self::Session { .. } | Self::Close { .. } | Self::SockJs(_) => None,
        }
    }
}

/// A path that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    WebSocket(Endpoint),
    Health,
    /// The API, and the method that the path names.
    Api(Option<Box<str>>),
    /// Something of SockJS.
    SockJs(Below),
}

/// A path that a client may upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Root,
    Echo,
    Broadcast {
        topic: Box<str>,
        /// Whether senders do not get their own messages when the query does not say.
        exclude_self: bool,
    },
    /// Where client sessions begin.
    Session,
    /// Where everybody is closed.
    Close {
        code: u16,
        reason: Box<str>,
    },
    /// The same as another, in frames of SockJS.
    SockJs(Box<Endpoint>),
}

impl Endpoint {
    /// What an upgrade with this query means.
    pub(super) fn route(
        self,
        query: &str,
        root: Root,
        permissions: &Permissions,
        granted: Option<&Grants>,
    ) -> Result<Route, Refused> {
        let (topic, default) = match (self, root) {
            (Self::Echo, _) | (Self::Root, Root::Echo) => {
                return judge(permissions.authorize_echo(granted)).map(|()| Route::Echo);
            }
            (Self::Session, _) => return session(query, None),
            (Self::Close { code, reason }, _) => return Ok(Route::Close { code, reason }),
            (Self::SockJs(endpoint), _) => {
                let route = endpoint.route(query, root, permissions, granted)?;
                return Ok(Route::SockJs(Box::new(route)));
            }
            (Self::Root, Root::Broadcast) => (DEFAULT_TOPIC.into(), false),
            (Self::Broadcast { topic, exclude_self }, _) => (topic, exclude_self),
        };
        authorize(permissions, &topic, Action::Subscribe, granted)?;
        let may_publish = authorize(permissions, &topic, Action::Publish, granted).is_ok();
        let exclude_self = exclude_self(Query::parse(query)?)?.unwrap_or(default);
        Ok(Route::Broadcast { topic, may_publish, exclude_self })
    }

    /// The topic that a path names, with nothing said of the sender.
    fn broadcast(segment: &str) -> Result<Self, Refused> {
        Ok(Self::Broadcast { topic: topic(segment)?, exclude_self: false })
    }

    /// What `path` is among `mounts`: the one of exactly this path, else the one that takes its
    /// last segment for a topic.
    fn mounted(path: &str, mounts: &[Mount]) -> Result<Option<Self>, Refused> {
        let matching =
            || mounts.iter().filter_map(|mount| Some((mount, mount.path.matches(path)?)));
        let exact = matching().find(|(mount, _)| !mount.path.takes_topic());
        let Some((mount, segment)) = exact.or_else(|| matching().next()) else { return Ok(None) };
        Self::of(&mount.service, segment).map(Some)
    }

    /// What a service is whose path names this topic.
    pub(super) fn of(service: &Service, segment: Option<&str>) -> Result<Self, Refused> {
        match service {
            Service::Echo => Ok(Self::Echo),
            Service::Realtime => Ok(Self::Session),
            Service::Broadcast { topic: fixed, exclude_self } => {
                let topic = match (fixed, segment) {
                    (Some(fixed), _) => fixed.name().into(),
                    (None, segment) => topic(segment.unwrap_or_default())?,
                };
                Ok(Self::Broadcast { topic, exclude_self: *exclude_self })
            }
            Service::Close { code, reason } => {
                Ok(Self::Close { code: *code, reason: reason.as_str().into() })
            }
        }
    }
}

/// Lets pass what a client may do with the topic of this name, whose token has `granted` so much.
pub(super) fn authorize(
    permissions: &Permissions,
    topic: &str,
    action: Action,
    granted: Option<&Grants>,
) -> Result<(), Refused> {
    judge(permissions.authorize(Namespace::Broadcast, topic, action, granted))
}

fn judge(decision: Decision) -> Result<(), Refused> {
    let (refusal, detail) = match decision {
        Decision::Allowed => return Ok(()),
        Decision::InvalidTopic(detail) => (Refusal::BadRequest, detail),
        Decision::Denied(detail) => (Refusal::Forbidden, detail),
        Decision::Unidentified => (Refusal::Unidentified, "This takes a token."),
        Decision::NotGranted => (Refusal::NotGranted, "The token does not grant this."),
    };
    Err(Refused::new(refusal, detail))
}

/// A request target taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved<'a> {
    /// The path it names.
    pub(super) target: Target,
    /// Empty when absent.
    pub(super) query: &'a str,
    /// Where an absolute URL points, which then counts instead of `Host` (RFC 9112 section 3.2.2).
    pub(super) authority: Option<Authority<'a>>,
}

/// The path that tells of health.
pub(super) const HEALTH: &str = "/healthz";

fn is_method(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The API, where its body names a method, and below which paths do.
const API: &str = "/api";
const API_METHODS: &str = "/api/";
/// The path of client sessions, where the libraries look for it.
pub(super) const SESSION: &str = "/connection/websocket";
/// The subprotocols of client sessions, by what their messages are: JSON is meant without any.
pub(super) const SESSION_BINARY: &str = "centrifuge-protobuf";
pub(super) const SESSION_TEXT: &str = "centrifuge-json";
/// The same in a query.
const BINARY_FORMAT: &str = "protobuf";

/// Finds what a request target names, built in or mounted: a path or, as proxies send it, an
/// absolute URL (RFC 9112 section 3.2).
pub(super) fn resolve<'t>(
    target: &'t str,
    mounts: &[Mount],
    has_channels: bool,
    has_api: bool,
) -> Result<Resolved<'t>, Refused> {
    let (authority, path_and_query) = split(target)?;
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let target = match path {
        "" | "/" => Target::WebSocket(Endpoint::Root),
        "/echo" => Target::WebSocket(Endpoint::Echo),
        "/broadcast" => Target::WebSocket(Endpoint::broadcast(DEFAULT_TOPIC)?),
        HEALTH => Target::Health,
        SESSION if has_channels => Target::WebSocket(Endpoint::Session),
        API if has_api => Target::Api(None),
        _ if has_api && path.strip_prefix(API_METHODS).is_some_and(is_method) => {
            Target::Api(path.strip_prefix(API_METHODS).map(Into::into))
        }
        // What lies deeper is no topic, and may be mounted.
        _ => match path.strip_prefix("/broadcast/").filter(|rest| !rest.contains('/')) {
            Some(segment) => Target::WebSocket(Endpoint::broadcast(segment)?),
            None => match Below::find(path, mounts)? {
                Some(below) => Target::SockJs(below),
                None => match Endpoint::mounted(path, mounts)? {
                    Some(endpoint) => Target::WebSocket(endpoint),
                    None => return Err(Refused::new(Refusal::NotFound, ROUTES)),
                },
            },
        },
    };
    Ok(Resolved { target, query, authority })
}

/// The authority in a request target, if any, and what follows it.
pub(super) fn split(target: &str) -> Result<(Option<Authority<'_>>, &str), Refused> {
    let bad_request = |detail| Refused::new(Refusal::BadRequest, detail);
    if !target.is_ascii() || target.contains('#') {
        return Err(bad_request(
            "The request target has a character that must be percent-encoded.",
        ));
    }
    take_apart(target).ok_or(bad_request("The request target is not a path."))
}

fn take_apart(target: &str) -> Option<(Option<Authority<'_>>, &str)> {
    if target.starts_with('/') {
        return Some((None, target));
    }
    let (scheme, rest) = target.split_once("://")?;
    let known = ["http", "https", "ws", "wss"];
    if !known.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return None;
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Some((Some(Authority::parse(authority)?), rest))
}

fn topic(segment: &str) -> Result<Box<str>, Refused> {
    let bad_request = |detail| Refused::new(Refusal::BadRequest, detail);
    if segment.is_empty() || segment.contains('/') {
        return Err(Refused::new(
            Refusal::NotFound,
            "A topic is one path segment, as in /broadcast/{topic}.",
        ));
    }
    let decoded = percent_decode(segment)
        .ok_or(bad_request("The topic has a percent sign without two hexadecimal digits."))?;
    let topic =
        String::from_utf8(decoded).map_err(|_| bad_request("The topic is not valid UTF-8."))?;
    Ok(topic.into_boxed_str())
}

/// A client session, whose encoding the `subprotocol` says, or the query.
pub(super) fn session(query: &str, subprotocol: Option<&str>) -> Result<Route, Refused> {
    let query = Query::parse(query)?;
    let is_asked_for = |name: &&str| query.get(name).is_some_and(|format| format == BINARY_FORMAT);
    let is_binary = match subprotocol {
        Some(chosen) => chosen == SESSION_BINARY,
        None => ["format", "cf_protocol"].iter().any(is_asked_for),
    };
    let kind = if is_binary { MessageKind::Binary } else { MessageKind::Text };
    Ok(Route::Session { kind, fields: HeadFields::default() })
}

/// What the query says of the sender's own messages.
pub(super) fn exclude_self(query: Query<'_>) -> Result<Option<bool>, Refused> {
    let value = query.get("exclude_self").map(|value| value.parse());
    value
        .transpose()
        .map_err(|_| Refused::new(Refusal::BadRequest, "exclude_self is either true or false."))
}

/// Where `/broadcast` alone leads.
const DEFAULT_TOPIC: &str = "default";
const ROUTES: &str =
    "Not found. Built in are /, /echo, /broadcast, /broadcast/{topic} and /healthz.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::entry::Written;
    use crate::config::{BUILT_IN_PATHS, BroadcastAccess, Config, declarations};

    fn broadcast(topic: &str) -> Target {
        Target::WebSocket(Endpoint::Broadcast { topic: topic.into(), exclude_self: false })
    }

    fn resolve(target: &str) -> Result<Resolved<'_>, Refused> {
        super::resolve(target, &[], false, false)
    }

    fn mounts(texts: &[&str]) -> Vec<Mount> {
        let texts: Vec<_> = texts.iter().map(|&text| Written::Text(text.to_owned())).collect();
        let settings = declarations();
        let mount = settings.iter().find(|setting| setting.key == "mount").unwrap();
        let mut config = Config::default();
        mount.value.write(&mut config, &texts).unwrap();
        config.mounts
    }

    #[test]
    fn built_in_paths_are_those_that_exist() {
        for path in BUILT_IN_PATHS {
            assert!(resolve(&path.replace("{topic}", "a")).is_ok(), "{path}");
        }
    }

    #[test]
    fn mounts_are_found_by_their_path() {
        let mounts = mounts(&[
            "/rooms/{topic}=broadcast,exclude_self",
            "/rooms/lobby=broadcast,topic=caf\u{e9} /",
            "/a=b=echo",
            "/ws/=echo",
            "/broadcast/deeper/{topic}=broadcast",
        ]);
        let route = |target: &str| match super::resolve(target, &mounts, false, false) {
            Ok(Resolved { target: Target::WebSocket(endpoint), query, .. }) => endpoint
                .route(query, Root::Echo, &FULL, None)
                .map_err(|refused| refused.refusal.status()),
            Ok(other) => panic!("{target}: {other:?}"),
            Err(refused) => Err(refused.refusal.status()),
        };
        let broadcast = |topic: &str, exclude_self| {
            Ok(Route::Broadcast { topic: topic.into(), may_publish: true, exclude_self })
        };
        for (target, expected) in [
            ("/rooms/a", broadcast("a", true)),
            ("/rooms/%61?x", broadcast("a", true)),
            ("/rooms/a?exclude_self=false", broadcast("a", false)),
            ("/rooms/lobby", broadcast("caf\u{e9} /", false)),
            ("/rooms/lobby?exclude_self=true", broadcast("caf\u{e9} /", true)),
            ("/rooms/lobb%79", broadcast("lobby", true)),
            ("http://a/a=b", Ok(Route::Echo)),
            ("/ws/", Ok(Route::Echo)),
            ("/broadcast/deeper/a", broadcast("a", false)),
            ("/broadcast/deeper", broadcast("deeper", false)),
            ("/broadcast/other/a", Err(404)),
            ("/echo", Ok(Route::Echo)),
            ("/rooms/a?exclude_self=1", Err(400)),
            ("/rooms/%00", Err(400)),
            ("/rooms/", Err(404)),
            ("/rooms", Err(404)),
            ("/rooms/a/b", Err(404)),
            ("/ws", Err(404)),
            ("/a", Err(404)),
        ] {
            assert_eq!(route(target), expected, "{target}");
        }
    }

    #[test]
    fn known_targets() {
        for (target, expected) in [
            ("/", (Target::WebSocket(Endpoint::Root), "")),
            ("/?a=b", (Target::WebSocket(Endpoint::Root), "a=b")),
            ("/echo", (Target::WebSocket(Endpoint::Echo), "")),
            ("/echo?", (Target::WebSocket(Endpoint::Echo), "")),
            ("/healthz?probe", (Target::Health, "probe")),
            ("/broadcast", (broadcast("default"), "")),
            ("/broadcast?x", (broadcast("default"), "x")),
            ("/broadcast/room?x?y", (broadcast("room"), "x?y")),
            ("/broadcast/caf%C3%A9%2f%20+", (broadcast("caf\u{e9}/ +"), "")),
            ("http://example.org", (Target::WebSocket(Endpoint::Root), "")),
            ("http://example.org?x=/", (Target::WebSocket(Endpoint::Root), "x=/")),
            ("WS://example.org:80/echo?x", (Target::WebSocket(Endpoint::Echo), "x")),
        ] {
            let Resolved { target: found, query, authority } = resolve(target).unwrap();
            assert_eq!((found, query), expected, "{target}");
            assert_eq!(authority.is_some(), !target.starts_with('/'), "{target}");
        }
    }

    #[test]
    fn unknown_and_malformed_targets() {
        for (target, status) in [
            ("/nothing", 404),
            ("/stats", 404),
            ("/Echo", 404),
            ("/echo/", 404),
            ("//echo", 404),
            ("/broadcast/", 404),
            ("/broadcast/a/b", 404),
            ("/broadcast/%", 400),
            ("/broadcast/%4", 400),
            ("/broadcast/%zz", 400),
            ("/broadcast/%+1", 400),
            ("/broadcast/%FF", 400),
            ("/broadcast/\u{e9}", 400),
            ("/echo#part", 400),
            ("*", 400),
            ("example.org:80", 400),
            ("http:///echo", 400),
            ("http://a b/echo", 400),
            ("http://user@a/echo", 400),
            ("ftp://example.org/echo", 400),
        ] {
            assert_eq!(resolve(target).unwrap_err().refusal.status(), status, "{target}");
        }
    }

    const FULL: Permissions = Permissions { broadcast: BroadcastAccess::Full, anonymous: None };

    /// What an upgrade to `target` leads to.
    fn upgrade(target: &str, broadcast: BroadcastAccess) -> Result<Route, Refusal> {
        let Target::WebSocket(endpoint) = resolve(target).unwrap().target else {
            panic!("{target} is no WebSocket route")
        };
        let route =
            endpoint.route("", Root::Echo, &Permissions { broadcast, anonymous: None }, None);
        route.map_err(|refused| refused.refusal)
    }

    #[test]
    fn topics_are_looked_at_after_decoding() {
        let longest = format!("/broadcast/{}", "%41".repeat(255));
        let topic = "A".repeat(255).into();
        let expected = Route::Broadcast { topic, may_publish: true, exclude_self: false };
        assert_eq!(upgrade(&longest, BroadcastAccess::Full), Ok(expected));
        let too_long = format!("{longest}%41");
        for target in [&too_long, "/broadcast/%00", "/broadcast/%C2%85"] {
            assert_eq!(upgrade(target, BroadcastAccess::Full), Err(Refusal::BadRequest));
        }
    }

    #[test]
    fn access_decides_who_may_join_and_who_may_publish() {
        let topic: Box<str> = "t".into();
        let route = |may_publish| {
            Ok(Route::Broadcast { topic: topic.clone(), may_publish, exclude_self: false })
        };
        for (access, expected) in [
            (BroadcastAccess::Full, route(true)),
            (BroadcastAccess::Post, route(false)),
            (BroadcastAccess::None, Err(Refusal::Forbidden)),
        ] {
            assert_eq!(upgrade("/broadcast/t", access), expected);
            assert_eq!(upgrade("/echo", access), Ok(Route::Echo));
        }
    }

    #[test]
    fn exclude_self_is_true_or_false() {
        let route = |query| Endpoint::broadcast("t").unwrap().route(query, Root::Echo, &FULL, None);
        let topic: Box<str> = "t".into();
        let expected = |exclude_self| {
            Ok(Route::Broadcast { topic: topic.clone(), may_publish: true, exclude_self })
        };
        assert_eq!(route(""), expected(false));
        assert_eq!(route("exclude_self=false"), expected(false));
        assert_eq!(route("a=b&exclude_self=true&&c"), expected(true));
        assert_eq!(route("exclude_selfish=1"), expected(false));
        for query in ["exclude_self", "exclude_self=", "exclude_self=1", "exclude_self=TRUE"] {
            assert_eq!(route(query).unwrap_err().refusal, Refusal::BadRequest, "{query}");
        }
    }

    #[test]
    fn the_root_is_configured() {
        let route = |query, root| Endpoint::Root.route(query, root, &FULL, None);
        assert_eq!(route("", Root::Echo), Ok(Route::Echo));
        let topic = "default".into();
        let expected = Route::Broadcast { topic, may_publish: true, exclude_self: true };
        assert_eq!(route("exclude_self=true", Root::Broadcast), Ok(expected));
    }
}
