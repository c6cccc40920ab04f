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

mod commands;
mod connecting;
mod ending;
mod home;
mod subscribing;
mod timing;

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::by_index;
use super::connections::Connection;
use super::pause::WaitsFor;
use super::pending::Pending;
use super::timers::Tick;
use super::{Shard, Shared};
use crate::config::Config;
use crate::io::{Io, Key, Segment};
use crate::realtime::home::Home;
use crate::realtime::protocol::codes::Disconnect;
use crate::realtime::protocol::{self, Encoding, Frame, Push, ReplyBody};
use crate::realtime::session::{Phase, Session};
use crate::wire::close::CloseCode;
use crate::wire::message::{DataMessage, MessageKind};
use connecting::Connecting;
pub use home::{Answered, Ask};
use home::{Asked, Unsent};
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
    /// Sessions whose questions found no place.
    line: VecDeque<Key>,
    /// What homes are to be told, for which there was no place.
    unsent: VecDeque<Unsent>,
    /// When those go on.
    look_again_at: Option<Tick>,
    home: Home,
    /// What the names of sessions are drawn from, and how many have been.
    seed: u64,
    named: u64,
}

impl Sessions {
    /// None yet, on the shard of this number.
    pub(super) fn new(number: usize, shared: &Shared, config: &Config) -> Self {
        let seed = drawn(shared.seed, number);
        let history_bytes =
            config.realtime.history_memory_bytes / config.engine.shards.max(1) as u64;
        Self {
            by_index: Vec::new(),
            asked: Pending::new(ASKED_MOST),
            joining: Vec::new(),
            connecting: HashMap::new(),
            line: VecDeque::new(),
            unsent: VecDeque::new(),
            look_again_at: None,
            home: Home::new(history_bytes as usize, drawn(seed, EPOCHS)),
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
        self.asked.next_tick().into_iter().chain(self.look_again_at).min()
    }

    /// Whether the connection at `index` is one.
    pub(super) fn contains(&self, index: u32) -> bool {
        self.get(index).is_some()
    }
}

impl<I: Io> Shard<I> {
    /// A connection has become a session.
    pub(super) fn begin_session(&mut self, key: Key, kind: MessageKind) {
        let encoding = match kind {
            MessageKind::Text => Encoding::Json,
            MessageKind::Binary => Encoding::Protobuf,
        };
        let connect_by = self.now + self.session_ticks(|it| it.stale_close_delay);
        let client = self.sessions.next_client();
        let session = Session::new(client, encoding, connect_by);
        *by_index::entry(&mut self.sessions.by_index, key.index) = Some(Box::new(session));
    }

    /// What holds up the input of a session: commands that have come and are not done.
    pub(super) fn obstacle_of_session(&self, key: Key) -> Option<WaitsFor> {
        let session = self.sessions.get(key.index)?;
        match (session.is_waiting, session.commands.is_empty()) {
            (true, _) => Some(WaitsFor::Home),
            (false, false) => Some(WaitsFor::Turn),
            (false, true) => None,
        }
    }

    /// A message of a session has come.
    pub(super) fn converse(&mut self, key: Key, message: &DataMessage) {
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        if session.phase == Phase::Refused {
            return self.disconnect(key, Disconnect::BAD_REQUEST);
        }
        match protocol::decode(session.encoding, message.payload()) {
            Ok(commands) => session.commands.extend(commands),
            Err(_) => return self.disconnect(key, Disconnect::BAD_REQUEST),
        }
        self.go_on_with_session(key);
    }

    /// Does the commands of a session as far as that is possible now.
    pub(super) fn go_on_with_session(&mut self, key: Key) {
        let Some(encoding) = self.sessions.get(key.index).map(|it| it.encoding) else { return };
        let mut replies = Frame::new(encoding);
        while let Some(session) = self.sessions.get_mut(key.index)
            && !session.is_waiting
            && let Some(command) = session.commands.pop_front()
        {
            if !self.do_command(key, command, &mut replies) {
                break;
            }
        }
        self.send_frame(key, replies);
        let is_open = self
            .connections
            .get(key)
            .is_some_and(|it| it.waits_for.is_none() && !it.ending.is_over());
        if is_open && let Some(obstacle) = self.obstacle_of_session(key) {
            self.pause(key, obstacle);
            self.settle(key);
        }
    }

    /// The answer that a session has waited for has come, and its reply is queued.
    fn resume_session(&mut self, key: Key) {
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

    /// Queues the messages of a frame for a session.
    fn send_frame(&mut self, key: Key, frame: Frame) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(kind) = connection.stage.websocket().and_then(|it| it.session_kind()) else {
            return;
        };
        if frame.is_empty() || !connection.stage.is_open() {
            return;
        }
        let bytes = DataMessage::new(kind, &frame.into_bytes()).into_frame();
        connection.outbox.push(Segment::owned(bytes, true));
        self.mark_dirty(key);
    }

    fn reply(&mut self, key: Key, id: u32, body: &ReplyBody) {
        let Some(session) = self.sessions.get(key.index) else { return };
        let mut frame = Frame::new(session.encoding);
        frame.reply(id, body);
        self.send_frame(key, frame);
    }

    fn push(&mut self, key: Key, channel: &str, push: &Push) {
        let Some(session) = self.sessions.get(key.index) else { return };
        let mut frame = Frame::new(session.encoding);
        frame.push(channel, push);
        self.send_frame(key, frame);
    }

    /// Ends a session for a reason of its protocol.
    pub(super) fn disconnect(&mut self, key: Key, disconnect: Disconnect) {
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        session.commands.clear();
        session.phase = Phase::Refused;
        self.close(key, CloseCode(disconnect.code), &disconnect.reason);
    }
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
