//! The end of a session: what it was subscribed to hears of it, and what waits for it is given up.

use super::super::Shard;
use crate::config::SlowReader;
use crate::io::{Io, Key};
use crate::realtime::protocol::codes::{Disconnect, Unsubscribe};
use crate::realtime::session::{Subscription, Traits};
use crate::wire::close::CloseCode;

impl<I: Io> Shard<I> {
    /// Ends the session of a connection that is being closed, if it is one.
    pub(in crate::shard) fn end_session(&mut self, key: Key) {
        let entry = self.sessions.by_index.get_mut(key.index as usize);
        let Some(session) = entry.and_then(Option::take) else { return };
        self.topics.leave_all(key.index);
        self.give_up_aside(key, None);
        self.forget_connecting(key);
        self.sessions.hooks.forget_answer(key.index);
        let of_it = |it: &mut super::Joining| it.key == key;
        let joining: Vec<_> = self.sessions.joining.extract_if(.., of_it).collect();
        for joining in joining {
            self.give_up_joining(joining);
        }
        for subscription in &session.subscriptions {
            self.leave_home(&session.client, subscription);
        }
    }

    /// A session does not read what is published. What must not be lost is taken from it, to be
    /// had when it comes back; if there is nothing of that kind, it ends.
    pub(in crate::shard) fn hold_back_slow_session(&mut self, key: Key) {
        self.drop_backlog(key);
        self.measures.dropped_bytes = 0;
        let Some(session) = self.sessions.get(key.index) else { return };
        let slow = |it: &Subscription| {
            let options = self.effective.channels.options(&it.channel);
            options.map_or(SlowReader::Resume, |options| options.slow)
        };
        let is_to_end = session.subscriptions.iter().any(|it| slow(it) == SlowReader::Disconnect);
        let lost = session
            .subscriptions
            .iter()
            .filter(|it| it.traits.contains(Traits::POSITIONED) || slow(it) == SlowReader::Latest);
        let lost: Vec<_> = lost.map(|it| (it.channel.clone(), it.traits)).collect();
        if is_to_end || lost.is_empty() {
            return self.disconnect(key, Disconnect::SLOW);
        }
        for (channel, traits) in lost {
            if traits.contains(Traits::SERVER_SIDE) {
                return self.disconnect(key, Disconnect::INSUFFICIENT_STATE);
            }
            self.end_subscription(key, &channel, Unsubscribe::INSUFFICIENT_STATE);
        }
        self.settle(key);
    }

    /// What a session is told where a WebSocket would be closed with this code.
    pub(in crate::shard) fn code_for_session(&self, key: Key, code: CloseCode) -> CloseCode {
        if !self.sessions.contains(key.index) {
            return code;
        }
        let disconnect = match code {
            CloseCode::GOING_AWAY | CloseCode::SERVICE_RESTART => Disconnect::SHUTDOWN,
            CloseCode::TRY_AGAIN_LATER => Disconnect::FORCE_RECONNECT,
            CloseCode::UNAUTHORIZED => Disconnect::INVALID_TOKEN,
            CloseCode::REPLACED => Disconnect::CONNECTION_LIMIT,
            _ => return code,
        };
        CloseCode(disconnect.code)
    }
}
