//! Client sessions: connections whose messages are commands of the realtime protocol
//! ([`crate::realtime`]), and what this shard keeps for the channels whose home it is.
//!
//! ```text
//! message --> commands --> one after the other --+--> reply, at once
//!                                                |
//!                            home of the channel +--> Ask, by mail --> Answer --> reply
//! ```
//!
//! The commands of a session are done in their order, each when the one before has been answered.
//! What concerns the history of a channel, or who is there, is asked of its *home*, the shard that
//! a hash of its name says (`sessions/home.rs`). Meanwhile nothing more is received of the session.
//!
//! Whoever subscribes gets what was published before from the history and what comes after from the
//! broadcast ring, with nothing lost or doubled in between. So the channel is held here before its
//! home is asked ([`crate::hub::topics`]); the home answers with how many messages it had sent to
//! its ring by then; and when this shard has read so far, the session becomes a member, and gets of
//! what was held all that came later (`sessions/subscribing.rs`).

mod aside;
mod asking;
mod calls;
mod commands;
mod connecting;
mod ending;
mod hand_over;
mod home;
mod hooks;
mod patterns;
mod refreshing;
mod replies;
mod rules;
mod states;
mod subscribing;
mod timing;

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::by_index;
use super::connections::Connection;
use super::pause::WaitsFor;
use super::pending::Pending;
use super::timers::Tick;
use super::{Shard, Shared};
use crate::config::Config;
use crate::identity::HeadFields;
use crate::io::{Io, Key};
use crate::realtime::home::Home;
use crate::realtime::protocol::codes::Disconnect;
use crate::realtime::protocol::{self, Encoding};
use crate::realtime::session::{Phase, Session};
use crate::wire::close::CloseCode;
use crate::wire::message::{DataMessage, MessageKind};
use aside::SetAside;
use calls::Calls;
use connecting::Connecting;
use hand_over::Histories;
pub use hand_over::{Handing, Heirs};
pub use home::{Answered, Ask};
use home::{Asked, Unsent};
use hooks::Hooks;
pub use hooks::{HOOKS_MOST, HookCall};
use replies::AtWork;
pub use rules::Rule;
pub use states::ChannelStates;
use states::States;
use subscribing::Joining;

/// The sessions of a shard, by the index of their connections, and the home of its channels.
pub(super) struct Sessions {
    by_index: Vec<Option<Box<Session>>>,
    /// What homes have been asked.
    asked: Pending<Asked>,
    /// Those who are about to become members of channels.
    joining: Vec<Joining>,
    /// Those who are about to be connected.
    connecting: HashMap<u32, Connecting>,
    /// Those whose commands are being done, one within the other.
    at_work: Vec<AtWork>,
    /// Sessions whose questions found no place.
    line: VecDeque<Key>,
    /// What homes are to be told, for which there was no place.
    unsent: VecDeque<Unsent>,
    /// What single sessions are to follow when they wait for nothing, in order.
    later: VecDeque<(Key, Arc<Rule>)>,
    /// When those go on.
    look_again_at: Option<Tick>,
    home: Home,
    /// What backends are asked.
    hooks: Hooks,
    /// What one is to be told.
    states: States,
    /// Whether that may change.
    histories: Histories,
    /// Those who are set aside in channels.
    aside: Vec<SetAside>,
    /// What applications call.
    calls: Calls,
    /// What the names of sessions are drawn from, and how many have been.
    seed: u64,
    named: u64,
}

impl Sessions {
    /// None yet, on the shard of this number.
    pub(super) fn new(number: usize, shared: &Shared, config: &Config) -> Self {
        let seed = drawn(shared.seed, number);
        let inherited = shared.heirs.take(number);
        let histories = match inherited {
            Some(_) => Histories::Moving { until: None },
            None => Histories::Here,
        };
        Self {
            by_index: Vec::new(),
            asked: Pending::new(ASKED_MOST),
            joining: Vec::new(),
            connecting: HashMap::new(),
            at_work: Vec::new(),
            line: VecDeque::new(),
            unsent: VecDeque::new(),
            later: VecDeque::new(),
            look_again_at: None,
            hooks: Hooks::default(),
            states: States::default(),
            home: inherited.unwrap_or_else(|| home(number, shared.seed, config)),
            histories,
            aside: Vec::new(),
            calls: Calls::default(),
            seed,
            named: 0,
        }
    }

    /// The session of the connection at `index`.
    pub(super) fn get(&self, index: u32) -> Option<&Session> {
        self.by_index.get(index as usize)?.as_deref()
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Session> {
        self.by_index.get_mut(index as usize)?.as_deref_mut()
    }

    /// When there is something to do next, whatever happens.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        let own = self.asked.next_tick().into_iter().chain(self.look_again_at);
        own.chain(self.hooks.next_tick()).min()
    }

    /// Whether there is something to go on with at once.
    pub(super) fn has_work(&self) -> bool {
        !self.calls.ready.is_empty() && self.look_again_at.is_none()
    }

    /// Whether the connection at `index` is one.
    pub(super) fn contains(&self, index: u32) -> bool {
        self.get(index).is_some()
    }
}

impl<I: Io> Shard<I> {
    /// What is under way for sessions and comes to an end whatever they do: questions, holds, and
    /// what waits for a place.
    pub fn sessions_under_way(&self) -> usize {
        let Sessions { asked, joining, connecting, line, unsent, later, hooks, .. } =
            &self.sessions;
        let asking = asked.len() + joining.len() + connecting.len() + hooks.len();
        asking + line.len() + unsent.len() + later.len() + self.topics.holds()
    }

    /// Subscriptions whose clients are known to be there, of the channels whose home this is.
    pub fn clients_present(&self) -> usize {
        self.sessions.home.clients_present()
    }

    /// A connection has become a session.
    pub(super) fn begin_session(&mut self, key: Key, kind: MessageKind, fields: HeadFields) {
        let encoding = match kind {
            MessageKind::Text => Encoding::Json,
            MessageKind::Binary => Encoding::Protobuf,
        };
        let connect_by = self.now + self.session_ticks(|it| it.stale_close_delay);
        let client = self.sessions.next_client();
        let mut session = Session::new(client, encoding, connect_by);
        session.tell(fields);
        *by_index::entry(&mut self.sessions.by_index, key.index) = Some(Box::new(session));
    }

    /// What holds up the input of a session: commands that have come and are not done.
    pub(super) fn obstacle_of_session(&self, key: Key) -> Option<WaitsFor> {
        let session = self.sessions.get(key.index)?;
        match (session.is_waiting, session.commands.is_empty()) {
            (true, _) => Some(WaitsFor::Home),
            (false, false) if self.has_replies_unread(key) => Some(WaitsFor::Peer),
            (false, false) => Some(WaitsFor::Turn),
            (false, true) => None,
        }
    }

    /// Whether a session does not read what it is answered.
    fn has_replies_unread(&self, key: Key) -> bool {
        let connection = self.connections.get(key);
        connection.is_some_and(|it| it.outbox.held_bytes() > self.backlog_bytes())
    }

    /// A message of a session has come.
    pub(super) fn converse(&mut self, key: Key, message: &DataMessage) {
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        if session.phase == Phase::Refused {
            return self.disconnect(key, Disconnect::BAD_REQUEST);
        }
        match protocol::decode(session.encoding, message.payload()) {
            Ok(commands) => session.add_commands(commands),
            Err(_) => return self.disconnect(key, Disconnect::BAD_REQUEST),
        }
        self.go_on_with_session(key);
    }

    /// Does the commands of a session as far as that is possible now. What is answered at once is
    /// followed by the next; nothing calls itself for that.
    pub(super) fn go_on_with_session(&mut self, key: Key) {
        if self.connections.get(key).is_none() || !self.begin_work(key) {
            return;
        }
        // One of them is done whatever the others have cost.
        let mut is_first = true;
        while self.may_do_next(key, std::mem::take(&mut is_first))
            && let Some(session) = self.sessions.get_mut(key.index)
            && let Some(command) = session.next_command()
        {
            if !self.do_command(key, command) {
                break;
            }
        }
        self.end_work(key);
        let is_open = self
            .connections
            .get(key)
            .is_some_and(|it| it.waits_for.is_none() && !it.ending.is_over());
        if is_open && let Some(obstacle) = self.obstacle_of_session(key) {
            self.pause(key, obstacle);
            self.settle(key);
        }
    }

    fn may_do_next(&mut self, key: Key, is_first: bool) -> bool {
        let is_waiting = self.sessions.get(key.index).is_none_or(|it| it.is_waiting);
        self.send_many_replies(key);
        !is_waiting && (is_first || !self.turn.is_spent()) && !self.has_replies_unread(key)
    }

    /// The answer that a session has waited for has come, and its reply is queued; or there may be
    /// a place for what it wants to ask.
    fn resume_session(&mut self, key: Key) {
        // Another may have come in the place of one that has gone.
        if self.connections.get(key).is_none() {
            return;
        }
        if self.is_connecting(key) {
            return self.go_on_connecting(key);
        }
        if let Some(session) = self.sessions.get_mut(key.index) {
            session.is_waiting = false;
        }
        if !self.resume_if(key, WaitsFor::Home, super::receive::SHARE_MOST) {
            self.go_on_with_session(key);
        }
    }

    /// Those whose commands wait for answers of homes.
    pub(super) fn waiting_for_home(&self) -> Vec<Key> {
        let waits = |it: &(Key, &Connection)| it.1.waits_for == Some(WaitsFor::Home);
        self.connections.iter().filter(waits).map(|(key, _)| key).collect()
    }

    /// Nothing matters any more that a session sends.
    fn refuse(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key.index) {
            session.commands = VecDeque::new();
            session.phase = Phase::Refused;
        }
    }

    /// Ends a session for a reason of its protocol.
    pub(super) fn disconnect(&mut self, key: Key, disconnect: Disconnect) {
        if !self.sessions.contains(key.index) {
            return;
        }
        self.send_replies(key);
        self.refuse(key);
        self.close(key, CloseCode(disconnect.code), &disconnect.reason);
    }
}

/// The home of channels on the shard of this number, of which nothing is kept yet.
fn home(number: usize, seed: u64, config: &Config) -> Home {
    let shards = config.engine.shards.max(1) as u64;
    let history_bytes = config.realtime.history_memory_bytes / shards;
    Home::new(history_bytes as usize, drawn(drawn(seed, number), EPOCHS))
}

/// The shard, of so many, that is the home of a channel.
fn home_of(channel: &str, seed: u64, shards: usize) -> usize {
    // The same for all shards, and known to nobody who would have all channels in one.
    (drawn(seed, channel) % shards.max(1) as u64) as usize
}

/// A number that follows from the seed and something else, and tells nobody what the others are who
/// does not know the seed.
fn drawn(seed: u64, of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, of).hash(&mut hasher);
    hasher.finish()
}

/// What epochs are drawn from, beside the names of sessions.
const EPOCHS: &str = "epochs";
/// What homes are asked by one shard at a time, each with a place in its inbox.
const ASKED_MOST: usize = if cfg!(debug_assertions) { 2 } else { 32 };
