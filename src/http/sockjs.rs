//! SockJS below a mount: which request gets what, and how it is answered.
//!
//! What concerns a session is decided by the shard that has it. A request that comes to another is
//! told so when its head is there ([`Answer::Elsewhere`]), and is looked at anew where it goes on.
//!
//! [`Answer::Elsewhere`]: super::Answer::Elsewhere

mod responding;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use super::body::{Body, Framing};
use super::conditions::Conditions;
use super::decision::Decision;
use super::origin::{self, AllowedOrigin};
use super::publish::{Upload, expects_continue};
use super::query::Query;
use super::refusal::{Refusal, Refused};
use super::request::{Field, Head, Method};
use super::response::Response;
use super::route::{Endpoint, Route};
use super::{Policy, Serving};
use crate::config::{Authority, MessageTypes, Mount, SockJs};
use crate::identity::Grants;
use crate::sockjs::message::{self, MessageError};
use crate::sockjs::path::{Resource, SendForm};
use crate::sockjs::transport::{Transport, check_callback, iframe_page};
use crate::wire::line::LineFraming;
pub use responding::{Answered, SessionAnswer};
pub(super) use responding::{ELSEWHERE, Responding};

/// Names a session on all shards: a keyed hash of where it is and of its name, which is a secret.
pub type SessionKey = u128;

/// What a request wants of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRequest {
    /// The session.
    pub session: SessionKey,
    /// What it is for, should it begin.
    pub route: Route,
    /// What is wanted.
    pub wish: Wish,
}

impl SessionRequest {
    /// Takes its messages behind the first, of what may be published to their topic.
    pub(super) fn takes_more(&self, conditions: &Conditions<'_>) -> bool {
        let Wish::Send(messages) = &self.wish else { return true };
        let take = |topic: &str| (1..messages.len()).all(|_| (conditions.take)(topic).is_ok());
        self.route.topic().is_none_or(take)
    }
}

/// What may be wanted of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Frames, which begins the session if there is none.
    Receive(Box<Reception>),
    /// That it gets these messages.
    Send(Vec<String>),
}

/// How frames are wanted, and what holds for the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reception {
    /// How they are sent.
    pub transport: Transport,
    /// The function of the page that is called with each, where one is.
    pub callback: Box<str>,
    /// How the response is framed if it goes on.
    pub framing: LineFraming,
    /// Bytes of frames behind which it ends.
    pub response_bytes: usize,
    /// How often the session says that it is there.
    pub heartbeat: Duration,
    /// How long it waits for its client.
    pub disconnect_delay: Duration,
}

/// Something below the path of a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Below {
    /// The place of the mount among those of the policy.
    mount: usize,
    /// The path of the mount as it was asked for, and what follows it.
    base: Box<str>,
    rest: Box<str>,
    endpoint: Endpoint,
}

impl Below {
    /// Finds the mount below which `path` lies, or which it is: that with the longest path.
    pub(super) fn find(path: &str, mounts: &[Mount]) -> Result<Option<Self>, Refused> {
        let with_sockjs = mounts.iter().enumerate().filter(|(_, mount)| mount.sockjs.is_some());
        let matching = with_sockjs
            .filter_map(|(place, mount)| Some((place, mount, mount.path.parts(path)?)))
            .reduce(|first, other| if other.2.1.len() < first.2.1.len() { other } else { first });
        let Some((place, mount, (segment, rest))) = matching else { return Ok(None) };
        let base = &path[..path.len() - rest.len()];
        let endpoint = Endpoint::of(&mount.service, segment)?;
        Ok(Some(Self { mount: place, base: base.into(), rest: rest.into(), endpoint }))
    }

    /// What an upgrade of it is, if it can be upgraded.
    pub(super) fn upgraded(&self, policy: &Policy) -> Option<Endpoint> {
        let has_websocket = self.options(policy).is_some_and(|options| options.has_websocket);
        match Resource::of(&self.rest)? {
            Resource::Greeting if self.rest.is_empty() => Some(self.endpoint.clone()),
            Resource::RawWebSocket if has_websocket => Some(self.endpoint.clone()),
            Resource::WebSocket
                if has_websocket && policy.message_types != MessageTypes::Binary =>
            {
                Some(Endpoint::SockJs(Box::new(self.endpoint.clone())))
            }
            _ => None,
        }
    }

    fn options<'p>(&self, policy: &'p Policy) -> Option<&'p SockJs> {
        policy.mounts.get(self.mount)?.sockjs.as_deref()
    }
}

/// A request for something below a mount.
pub(super) struct Request<'r, 'h> {
    pub(super) below: &'r Below,
    pub(super) head: &'r Head<'h>,
    pub(super) query: &'r str,
    /// What it was sent to.
    pub(super) host: Option<Authority<'h>>,
    pub(super) conditions: &'r Conditions<'r>,
    /// What the token of the client grants.
    pub(super) granted: &'r dyn Fn() -> Result<Option<Grants>, Refused>,
}

impl Request<'_, '_> {
    /// Decides about a request that upgrades to nothing.
    pub(super) fn decide(&self) -> Result<Decision, Refused> {
        let policy = self.conditions.policy;
        let (Some(resource), Some(options)) =
            (Resource::of(&self.below.rest), self.below.options(policy))
        else {
            return Err(not_found());
        };
        // Those are not asked for by scripts, so nobody tells whose page it is.
        let is_open = policy.allow_origin.is_empty() && !policy.checks_passwords;
        let methods = match resource {
            Resource::Greeting | Resource::Iframe => "GET, HEAD",
            Resource::Info => "GET, HEAD, OPTIONS",
            Resource::RawWebSocket | Resource::WebSocket => "GET",
            Resource::Receive(_, transport) if !transport.is_posted() => "GET",
            Resource::Receive(..) | Resource::Send(..) => "POST, OPTIONS",
        };
        let method = match self.head.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Options => "OPTIONS",
            Method::Other => "",
        };
        let is_off = match resource {
            Resource::Iframe => !is_open,
            Resource::Receive(_, transport) => transport.has_callback() && !is_open,
            Resource::Send(_, form) => form == SendForm::Jsonp && !is_open,
            Resource::RawWebSocket | Resource::WebSocket => !options.has_websocket,
            Resource::Greeting | Resource::Info => false,
        };
        // Its messages are texts.
        if is_off || policy.message_types == MessageTypes::Binary {
            return Err(not_found());
        }
        if !methods.split(", ").any(|allowed| allowed == method) {
            return Ok(Decision::Serve(Response::bare(405).header("Allow", methods)));
        }
        if self.head.method == Method::Options {
            return self.preflight(methods, options).map(Decision::Serve);
        }
        match resource {
            Resource::Greeting => {
                let response = Response::new(200, PLAIN, "Welcome to SockJS!\n");
                Ok(Decision::Serve(response))
            }
            Resource::Iframe => Ok(Decision::Serve(self.iframe(options))),
            Resource::Info => self.info(options).map(Decision::Serve),
            Resource::RawWebSocket | Resource::WebSocket => {
                Err(Refused::new(Refusal::BadRequest, "Not a valid websocket request."))
            }
            Resource::Receive(session, transport) => self.receive(session, transport, options),
            Resource::Send(session, form) => self.send(session, form, options),
        }
    }

    /// Whether another request may follow. Who polls a full server comes again.
    fn keeps_alive(&self) -> bool {
        self.head.keep_alive && self.conditions.serving != Serving::Draining
    }

    fn origin(&self) -> Result<AllowedOrigin, Refused> {
        origin::check(&self.head.origin, self.host, self.conditions.policy)
    }

    /// What a page may ask for; the answer may be kept for long.
    fn preflight(&self, methods: &'static str, options: &SockJs) -> Result<Response, Refused> {
        let response = self.origin()?.shares(Response::empty(204));
        let response = response
            .cached(CACHED)
            .header("Expires", NEVER)
            .header("Access-Control-Allow-Methods", methods)
            .header("Access-Control-Max-Age", YEAR_SECONDS);
        let wanted = visible(&self.head.requested_headers).filter(|it| !it.is_empty());
        let response = match wanted {
            Some(headers) => response.header("Access-Control-Allow-Headers", headers.to_owned()),
            None => response,
        };
        Ok(self.with_cookie(response, options))
    }

    fn iframe(&self, options: &SockJs) -> Response {
        let page = iframe_page(options.client_url.as_str());
        let tag = format!("\"{:016x}\"", sum(page.as_bytes()));
        let is_known = matches!(self.head.if_none_match, Field::Once(it) if it == tag.as_bytes());
        let response = match is_known {
            true => Response::empty(304),
            false => Response::new(200, "text/html; charset=UTF-8", page),
        };
        response.cached(CACHED).header("Expires", NEVER).header("ETag", tag)
    }

    fn info(&self, options: &SockJs) -> Result<Response, Refused> {
        // It is to differ each time, so that clients can draw numbers by it.
        let entropy = RandomState::new().build_hasher().finish() as u32;
        let body = format!(
            "{{\"websocket\":{},\"origins\":[\"*:*\"],\"cookie_needed\":{},\"entropy\":{entropy}}}",
            options.has_websocket, options.has_cookie,
        );
        let response = Response::new(200, "application/json; charset=UTF-8", body);
        Ok(self.origin()?.shares(response.cached(NOT_CACHED)))
    }

    fn receive(
        &self,
        session: &str,
        transport: Transport,
        options: &SockJs,
    ) -> Result<Decision, Refused> {
        let query = Query::parse(self.query);
        let callback = match (transport.has_callback(), &query) {
            (false, _) => Ok(None),
            (true, Ok(query)) => {
                let name = query.get("c").or_else(|| query.get("callback"));
                check_callback(name.as_deref()).map(|name| Some(Box::from(name)))
            }
            // What is no query names no function.
            (true, Err(_)) => check_callback(Some("%")).map(|_| None),
        };
        let callback = match callback {
            Ok(callback) => callback.unwrap_or_default(),
            Err(text) => {
                let response = Response::new(500, PLAIN, text).cached(NOT_CACHED);
                return Ok(Decision::Serve(response));
            }
        };
        if self.head.body != Framing::Absent {
            let detail = "A request for frames has no body.";
            return Err(Refused::new(Refusal::BadRequest, detail));
        }
        let route = self.route()?;
        let origin = self.origin()?;
        let (session, elsewhere) = (self.conditions.owner)(&self.below.base, session);
        if let Some(shard) = elsewhere {
            return Ok(Decision::Elsewhere(shard));
        }
        let framing = match self.head.http_11 {
            true => LineFraming::Chunked,
            false => LineFraming::Bare,
        };
        let response = match transport.is_streaming() {
            // Proxies keep back what they take for the beginning of a whole response.
            true => Response::endless(transport.content_type(), framing)
                .header("X-Accel-Buffering", "no"),
            false => Response::new(200, transport.content_type(), ""),
        };
        let response = self.with_cookie(origin.shares(response.cached(NOT_CACHED)), options);
        let SockJs { response_bytes, heartbeat, disconnect_delay, .. } = *options;
        let reception =
            Reception { transport, callback, framing, response_bytes, heartbeat, disconnect_delay };
        let responding = Responding {
            response,
            keep_alive: self.keeps_alive() && !transport.is_streaming(),
            reception: Some(Box::new(reception.clone())),
            has_begun: false,
            early: Vec::new(),
        };
        let wish = Wish::Receive(Box::new(reception));
        Ok(Decision::Session(Box::new(SessionRequest { session, route, wish }), responding))
    }

    fn send(&self, session: &str, form: SendForm, options: &SockJs) -> Result<Decision, Refused> {
        let route = self.route()?;
        if matches!(route, Route::Broadcast { may_publish: false, .. }) {
            let detail = "The topic may not be published to.";
            return Err(Refused::new(Refusal::Forbidden, detail));
        }
        let expects_continue = expects_continue(self.head)?;
        let body = Body::new(self.head.body, 0, self.conditions.policy.message_bytes)?;
        let origin = self.origin()?;
        let (session, elsewhere) = (self.conditions.owner)(&self.below.base, session);
        if let Some(shard) = elsewhere {
            return Ok(Decision::Elsewhere(shard));
        }
        if self.conditions.serving == Serving::ShortOfMemory
            && let Some(refused) = self.conditions.serving.refused()
        {
            return Err(refused.readable_by(&origin));
        }
        let response = match form {
            // Firefox wants a type of what is not there.
            SendForm::Xhr => Response::empty(204).header("Content-Type", PLAIN),
            // Konqueror does not like that nothing is there.
            SendForm::Jsonp => Response::new(200, PLAIN, "ok"),
        };
        let response = self.with_cookie(origin.shares(response.cached(NOT_CACHED)), options);
        let keep_alive = self.keeps_alive();
        let responding = Responding {
            response,
            keep_alive,
            reception: None,
            has_begun: false,
            early: Vec::new(),
        };
        let is_form = matches!(self.head.content_type, Field::Once(it) if is_of_form(it));
        let head = SendHead { is_form, session, route, responding };
        let upload = Upload::of_session(head, body, expects_continue, keep_alive, origin);
        Ok(Decision::Receive(upload))
    }

    /// What the session is for, as far as the client may have it.
    fn route(&self) -> Result<Route, Refused> {
        let policy = self.conditions.policy;
        // The query is what pages add to all their requests, and says nothing of topics.
        let granted = (self.granted)()?;
        self.below.endpoint.clone().route("", policy.root, &policy.permissions, granted.as_ref())
    }

    /// A cookie by which proxies send all requests of a client to one server: the one it has, or
    /// any.
    fn with_cookie(&self, response: Response, options: &SockJs) -> Response {
        if !options.has_cookie {
            return response;
        }
        let pairs = self.head.cookies.iter().flat_map(|list| list.split(|byte| *byte == b';'));
        let known = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(COOKIE)).next();
        let is_plain = |value: &&[u8]| {
            let is_octet = |byte: &u8| byte.is_ascii_graphic() && !b"\",;\\".contains(byte);
            !value.is_empty() && value.iter().all(is_octet)
        };
        let value = known.filter(is_plain).and_then(|it| str::from_utf8(it).ok());
        let value = value.unwrap_or("dummy");
        response.header("Set-Cookie", format!("JSESSIONID={value}; path=/"))
    }
}

/// What the head of a request with messages says.
#[derive(Debug)]
pub(super) struct SendHead {
    /// Whether they are a field of a form.
    is_form: bool,
    session: SessionKey,
    route: Route,
    responding: Responding,
}

impl SendHead {
    /// The topic that the messages are for, if they are for one.
    pub(super) fn topic(&self) -> Option<&str> {
        match &self.route {
            Route::Broadcast { topic, .. } => Some(topic),
            _ => None,
        }
    }

    /// The request with its messages, or the response to a body that has none.
    pub(super) fn finish(self, body: &[u8]) -> Result<(SessionRequest, Responding), Response> {
        let messages = match self.is_form {
            true => of_form(body),
            false => message::of_body(body),
        };
        let Self { session, route, responding, .. } = self;
        match messages {
            Ok(messages) => {
                let wish = Wish::Send(messages);
                Ok((SessionRequest { session, route, wish }, responding))
            }
            Err(error) => Err(responding.response.say(500, PLAIN, error.to_string())),
        }
    }
}

fn of_form(body: &[u8]) -> Result<Vec<String>, MessageError> {
    let text = str::from_utf8(body).map_err(|_| MessageError::Broken)?;
    let form = Query::parse(text).map_err(|_| MessageError::Broken)?;
    message::of_body(form.get("d").unwrap_or_default().as_bytes())
}

fn is_of_form(media_type: &[u8]) -> bool {
    let essence = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

fn not_found() -> Refused {
    Refused::new(Refusal::NotFound, "There is nothing here of SockJS.")
}

/// A field that can be repeated in a response.
fn visible<'h>(field: &Field<'h>) -> Option<&'h str> {
    let Field::Once(value) = field else { return None };
    let is_visible = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    str::from_utf8(value).ok().filter(|it| it.as_bytes().iter().all(is_visible))
}

/// A checksum by which a page is told from another (FNV-1a).
fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

const PLAIN: &str = "text/plain; charset=UTF-8";
/// How the cookie of sessions begins.
const COOKIE: &[u8] = b"JSESSIONID=";
/// What keeps a response out of all caches, as the protocol has it.
const NOT_CACHED: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";
/// What keeps one there for a year.
const CACHED: &str = "public, max-age=31536000";
const YEAR_SECONDS: &str = "31536000";
/// When a page that may be kept is out of date: for those who do not know `Cache-Control`.
const NEVER: &str = "Thu, 31 Dec 2099 23:59:59 GMT";
