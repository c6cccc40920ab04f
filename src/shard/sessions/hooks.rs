//! Backends that are asked about sessions: by the control thread, as a shard waits for nobody.
//!
//! A command that a backend decides about is done twice: at first that is asked, and the session
//! waits; then, with the answer, it is done as if it had just come. What is asked goes to the
//! control thread by mail; its answer comes when there is a place for it, as so many places could
//! not be kept free meanwhile. What finds no turn waits in a line, for no longer than an answer may
//! take. What is asked ends once: by its answer, or by its deadline, and then it has failed. An
//! answer that comes later meets nobody, and one for a session that has gone is dropped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::super::mail::Letter;
use super::super::pending::{Pending, PendingKey};
use super::super::timers::Tick;
use super::super::{Shard, ticks_in};
use super::commands::Outcome;
use crate::hub::inbox::NoPlace;
use crate::hub::mesh::LETTER_BYTES_MAX;
use crate::identity::HeadFields;
use crate::io::{Io, Key};
use crate::realtime::hooks::{Answer, Granted, Hook, rpc_request};
use crate::realtime::protocol::codes::ErrorCode;
use crate::realtime::protocol::{Command, Encoding, ReplyBody, RpcRequest, RpcResult};
use crate::realtime::session::Session;

/// What the control thread is to ask a backend.
pub struct HookCall {
    /// The shard that wants to know it, and by what that knows the answer.
    pub shard: usize,
    /// The same.
    pub key: PendingKey,
    /// Which backend.
    pub hook: Hook,
    /// What it is told of the upgrade.
    pub fields: HeadFields,
    /// What it is asked, as JSON.
    pub body: Vec<u8>,
}

/// What a shard has backends asked.
pub(super) struct Hooks {
    pending: Pending<Asked>,
    /// What waits for that.
    line: VecDeque<Waiting>,
    line_bytes: usize,
    /// What has been answered to commands, by the index of their sessions, until they are done.
    answers: HashMap<u32, Answer>,
    /// When the line goes on although no answer has come: there was no place in the mail.
    retry_at: Option<Tick>,
}

/// What waits for an answer.
struct Asked {
    key: Key,
    purpose: Purpose,
}

/// What becomes of an answer.
pub(super) enum Purpose {
    /// The first of the session's commands is done with it.
    Command,
    /// The session goes on, or not.
    Refresh,
    /// The subscription to this channel does.
    SubRefresh(Arc<str>),
}

/// What has not been asked yet.
struct Waiting {
    by: Tick,
    asked: Asked,
    hook: Hook,
    body: Vec<u8>,
}

/// What has become of something that is to be asked.
enum Sent {
    Yes,
    /// There is no place.
    Later(Waiting),
    /// There will be none.
    Never(Asked),
}

/// What a command is to do where a backend decides about it.
pub(super) enum Heard {
    /// It is granted.
    Granted(Granted),
    /// It ends so.
    Refused(Outcome),
    /// To wait, and to be done again: the backend is asked.
    Asked,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            pending: Pending::new(HOOKS_MOST),
            line: VecDeque::new(),
            line_bytes: 0,
            answers: HashMap::new(),
            retry_at: None,
        }
    }
}

impl Hooks {
    /// What is under way and comes to an end whatever sessions do.
    pub(super) fn len(&self) -> usize {
        self.pending.len() + self.line.len()
    }

    /// When there is something to do next, whatever happens.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        let first = self.line.front().map(|waiting| waiting.by);
        [self.pending.next_tick(), first, self.retry_at].into_iter().flatten().min()
    }

    /// The session at `index` has gone, or its command is done: what was answered is of no use.
    pub(super) fn forget_answer(&mut self, index: u32) {
        if !self.answers.is_empty() {
            self.answers.remove(&index);
        }
    }

    /// The command has to be done once more, with what was answered.
    pub(super) fn keep(&mut self, key: Key, granted: Option<Granted>) {
        self.answers.extend(granted.map(|granted| (key.index, Answer::Granted(granted))));
    }

    fn has_turn(&self) -> bool {
        self.pending.len() < HOOKS_MOST && self.retry_at.is_none()
    }

    /// Lets something wait for its turn, unless too much does.
    fn push(&mut self, waiting: Waiting) -> bool {
        let bytes = self.line_bytes + waiting.body.len();
        let has_room = self.line.len() < LINE_MOST && bytes <= LINE_BYTES_MOST;
        if has_room {
            self.line_bytes = bytes;
            self.line.push_back(waiting);
        }
        has_room
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.line.pop_front()?;
        self.line_bytes -= waiting.body.len();
        Some(waiting)
    }

    fn put_back(&mut self, waiting: Waiting) {
        self.line_bytes += waiting.body.len();
        self.line.push_front(waiting);
    }
}

impl<I: Io> Shard<I> {
    /// What a backend says to the command of a session that is being done. Where it has said
    /// nothing yet, it is asked what `write` makes of the session.
    pub(super) fn hear(
        &mut self,
        key: Key,
        hook: Hook,
        write: impl FnOnce(&Session, bool) -> Vec<u8>,
    ) -> Heard {
        let answer = match self.sessions.hooks.answers.remove(&key.index) {
            Some(answer) => answer,
            None => {
                let includes_meta = self.effective.config.hooks.includes_meta;
                let Some(session) = self.sessions.get_mut(key.index) else {
                    return Heard::Refused(Outcome::Nothing);
                };
                session.is_waiting = true;
                let body = write(session, includes_meta);
                if self.ask_hook(key, Purpose::Command, hook, body) {
                    return Heard::Asked;
                }
                if let Some(session) = self.sessions.get_mut(key.index) {
                    session.is_waiting = false;
                }
                Answer::Failed
            }
        };
        match answer {
            Answer::Granted(granted) => Heard::Granted(granted),
            Answer::Error(error) => Heard::Refused(Outcome::reply(ReplyBody::Error(error))),
            Answer::Disconnect(disconnect) => Heard::Refused(Outcome::Disconnect(disconnect)),
            Answer::Failed => Heard::Refused(Outcome::error(ErrorCode::Internal)),
        }
    }

    /// Asks a backend, now or in its turn; false if it cannot be.
    pub(super) fn ask_hook(
        &mut self,
        key: Key,
        purpose: Purpose,
        hook: Hook,
        body: Vec<u8>,
    ) -> bool {
        let by = self.now + ticks_in(self.effective.config.hooks.timeout).max(1);
        let waiting = Waiting { by, asked: Asked { key, purpose }, hook, body };
        let hooks = &self.sessions.hooks;
        let has_asked = if hooks.line.is_empty() && hooks.has_turn() {
            match self.send_hook(waiting) {
                Sent::Yes => true,
                Sent::Later(waiting) => {
                    self.sessions.hooks.retry_at = Some(self.now + 1);
                    self.sessions.hooks.push(waiting)
                }
                Sent::Never(_) => false,
            }
        } else {
            self.sessions.hooks.push(waiting)
        };
        self.stats().hooks_given_up.add(u64::from(!has_asked));
        has_asked
    }

    fn send_hook(&mut self, waiting: Waiting) -> Sent {
        let session = self.sessions.get(waiting.asked.key.index);
        let told = session.and_then(|session| session.told.as_ref());
        let fields = told.map_or_else(HeadFields::default, |told| told.fields.clone());
        let field_bytes: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = size_of::<HookCall>() + waiting.body.len() + field_bytes;
        let bytes = bytes.min(LETTER_BYTES_MAX as usize / 4) as u32;
        match self.endpoint.take_place(self.shared.stats.shards(), bytes) {
            Ok(place) => {
                let wait = self.effective.config.hooks.timeout + SLACK;
                let Waiting { asked, hook, body, .. } = waiting;
                match self.sessions.hooks.pending.insert(asked, self.now + ticks_in(wait)) {
                    Ok(key) => {
                        let call = HookCall { shard: self.number, key, hook, fields, body };
                        self.endpoint.post(place, Letter::HookCall(Box::new(call)));
                        Sent::Yes
                    }
                    Err(asked) => {
                        debug_assert!(false, "there is room");
                        Sent::Never(asked)
                    }
                }
            }
            Err(NoPlace::Full) => Sent::Later(waiting),
            // This shard, or the whole server, is about to end.
            Err(NoPlace::Closed) => Sent::Never(waiting.asked),
        }
    }

    /// Backends have answered; perhaps too late.
    pub(in crate::shard) fn take_hook_answers(&mut self, answers: Vec<(PendingKey, Answer)>) {
        for (key, answer) in answers {
            if let Some(asked) = self.sessions.hooks.pending.end(key) {
                self.hook_answered(asked, answer);
            }
        }
        self.send_waiting_hooks();
    }

    /// What there is to do in each tick: what has waited for too long, and whose turn it is.
    pub(super) fn go_on_with_hooks(&mut self) {
        for asked in self.sessions.hooks.pending.expire(self.now) {
            self.hook_failed(asked);
        }
        let now = self.now;
        self.sessions.hooks.retry_at.take_if(|at| *at <= now);
        while self.sessions.hooks.line.front().is_some_and(|waiting| waiting.by <= now)
            && let Some(waiting) = self.sessions.hooks.pop()
        {
            self.hook_failed(waiting.asked);
        }
        self.send_waiting_hooks();
    }

    fn send_waiting_hooks(&mut self) {
        while self.sessions.hooks.has_turn()
            && let Some(waiting) = self.sessions.hooks.pop()
        {
            if self.connections.get(waiting.asked.key).is_none() {
                continue;
            }
            match self.send_hook(waiting) {
                Sent::Yes => {}
                Sent::Later(waiting) => {
                    // Nobody tells when there is a place.
                    self.sessions.hooks.put_back(waiting);
                    self.sessions.hooks.retry_at = Some(self.now + 1);
                }
                Sent::Never(asked) => self.hook_failed(asked),
            }
        }
    }

    fn hook_failed(&mut self, asked: Asked) {
        self.stats().hooks_given_up.add(1);
        self.hook_answered(asked, Answer::Failed);
    }

    /// Acts on an answer.
    fn hook_answered(&mut self, asked: Asked, answer: Answer) {
        let Asked { key, purpose } = asked;
        if self.connections.get(key).is_none() || !self.sessions.contains(key.index) {
            return;
        }
        match purpose {
            Purpose::Command => {
                self.sessions.hooks.answers.insert(key.index, answer);
                self.resume_session(key);
            }
            Purpose::Refresh => self.connection_refreshed(key, answer),
            Purpose::SubRefresh(channel) => self.subscription_refreshed(key, &channel, answer),
        }
        self.settle(key);
    }

    /// A client calls something that the application has.
    pub(super) fn call_by_command(&mut self, key: Key, id: u32, request: RpcRequest) -> Outcome {
        if self.effective.config.hooks.rpc.is_none() {
            return Outcome::error(ErrorCode::NotAvailable);
        }
        let heard = self.hear(key, Hook::Rpc, |session, includes_meta| {
            rpc_request(session, includes_meta, &request.method, &request.data)
        });
        let (data, is_json) = match heard {
            Heard::Granted(Granted::Rpc { data, is_json }) => (data, is_json),
            Heard::Granted(_) => return Outcome::error(ErrorCode::Internal),
            Heard::Refused(outcome) => return outcome,
            Heard::Asked => {
                let again = Command { id, rpc: Some(request), ..Command::default() };
                return Outcome::AfterHook(Box::new(again));
            }
        };
        let speaks_json =
            self.sessions.get(key.index).is_some_and(|it| it.encoding == Encoding::Json);
        match speaks_json && !is_json {
            // It cannot be told.
            true => Outcome::error(ErrorCode::Internal),
            false => Outcome::reply(ReplyBody::Rpc(RpcResult { data })),
        }
    }
}

/// What backends are asked by one shard at a time. Few in debug builds, so that tests see some
/// wait.
pub const HOOKS_MOST: usize = if cfg!(debug_assertions) { 2 } else { 64 };
/// What waits for its turn, in number and in bytes: as much as that is soon asked, and clients come
/// again for what is more.
const LINE_MOST: usize = 1024;
const LINE_BYTES_MOST: usize = 8 << 20;
/// What mail may take beyond the time that an answer may take.
const SLACK: Duration = Duration::from_millis(500);
