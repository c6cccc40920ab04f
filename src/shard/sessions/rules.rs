//! What applications want done with sessions, wherever those are: each shard is told, and does it
//! with those that are meant.

use std::sync::Arc;

use super::super::Shard;
use super::commands::told;
use super::home::QUESTION_BYTES;
use super::refreshing::session_ttl;
use super::subscribing::Subscribing;
use crate::config::ChannelOptions;
use crate::identity::NEVER_S;
use crate::io::{Io, Key};
use crate::realtime::api::{Connections, Data, DisconnectCall, RefreshCall, SubscribeCall};
use crate::realtime::channels::{Asker, Wishes, features};
use crate::realtime::protocol::codes::{Disconnect, Unsubscribe};
use crate::realtime::protocol::{Push, RefreshPush};
use crate::realtime::session::{Phase, Session, Subscription, Traits};

/// What is to be done, and with whom.
#[derive(Debug)]
pub struct Rule {
    /// Which sessions are meant.
    pub(super) connections: Connections,
    /// What is to be done with them.
    pub(super) act: Act,
}

#[derive(Debug)]
pub(super) enum Act {
    Subscribe(Box<SubscribeCall>),
    Unsubscribe { channel: String },
    Disconnect(DisconnectCall),
    Refresh(RefreshCall),
}

impl Rule {
    fn means(&self, session: &Session) -> bool {
        let Connections { user, client, session: named } = &self.connections;
        let spared = match &self.act {
            Act::Disconnect(call) => &call.whitelist[..],
            Act::Subscribe(_) | Act::Unsubscribe { .. } | Act::Refresh(_) => &[],
        };
        // Sessions that have a WebSocket have no other name.
        let may_be_connecting = matches!(self.act, Act::Disconnect(_));
        let is_meant = (session.phase == Phase::Connected
            || may_be_connecting && session.phase == Phase::Connecting)
            && (user.is_empty() || **user == *session.user)
            && (client.is_empty() || **client == *session.client)
            && named.is_empty();
        is_meant && !spared.iter().any(|it| **it == *session.client)
    }
}

impl<I: Io> Shard<I> {
    /// Does what a rule says with the sessions of this shard.
    pub(in crate::shard) fn follow_rule(&mut self, rule: &Arc<Rule>) {
        let keys: Vec<Key> = self
            .connections
            .iter()
            .map(|(key, _)| key)
            .filter(|key| self.sessions.get(key.index).is_some_and(|it| rule.means(it)))
            .collect();
        for key in keys {
            self.follow_rule_alone(key, rule);
        }
    }

    /// Does what a rule says with one session. Subscriptions have an order: what concerns them
    /// waits for what the session waits for.
    pub(super) fn follow_rule_alone(&mut self, key: Key, rule: &Arc<Rule>) {
        if self.connections.get(key).is_none() {
            return;
        }
        let Some(session) = self.sessions.get(key.index) else { return };
        let waits = session.is_waiting || self.follows_later(key);
        match &rule.act {
            Act::Subscribe(_) | Act::Unsubscribe { .. } if waits => {
                return self.follow_later(key, rule.clone());
            }
            Act::Subscribe(call) => self.subscribe_by_rule(key, call, rule),
            Act::Unsubscribe { channel } => {
                self.end_subscription(key, channel, Unsubscribe::SERVER);
            }
            Act::Disconnect(call) => self.disconnect(key, call.disconnect.clone()),
            Act::Refresh(call) => self.refresh_by_rule(key, call),
        }
        self.settle(key);
    }

    fn subscribe_by_rule(&mut self, key: Key, call: &SubscribeCall, rule: &Arc<Rule>) {
        let effective = self.effective.clone();
        let Ok(options) = effective.channels.options(&call.channel) else { return };
        let Some(session) = self.sessions.get(key.index) else { return };
        if session.subscription(&call.channel).is_some() {
            return;
        }
        let most = usize::from(effective.config.realtime.client_channels_most);
        if session.subscriptions.len() >= most {
            return self.disconnect(key, Disconnect::CHANNEL_LIMIT);
        }
        let subscribing = subscribing(session, call, options);
        match self.reserve(&call.channel, QUESTION_BYTES) {
            Some(reserved) => self.subscribe(key, Box::new(subscribing), reserved),
            None => self.follow_later(key, rule.clone()),
        }
    }

    fn refresh_by_rule(&mut self, key: Key, call: &RefreshCall) {
        let now_s = self.seconds_of_day();
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        if call.is_expired {
            return self.disconnect(key, Disconnect::CONNECTION_EXPIRED);
        }
        if let Some(info) = &call.info {
            session.info = told(Some(info.clone().into()));
        }
        session.expires_s = end_s(call.expire_at_seconds);
        let ttl = session_ttl(session, now_s);
        let push = RefreshPush { expires: ttl.is_some(), ttl: ttl.unwrap_or(0) };
        self.push(key, "", &Push::Refresh(push));
        self.schedule_open(key);
    }
}

fn subscribing(session: &Session, call: &SubscribeCall, options: &ChannelOptions) -> Subscribing {
    let asker = Asker { user: &session.user, is_insecure: false, is_subscribed: true };
    let features = features(options, call.overrides, &asker, Wishes::default());
    let traits = Traits::of(&features, options.has_history()) | Traits::SERVER_SIDE;
    let content = |data: &Option<Data>| told(data.as_ref().map(|data| data.bytes.clone().into()));
    Subscribing {
        client: session.client.clone(),
        id: None,
        subscription: Subscription {
            channel: call.channel.as_str().into(),
            traits,
            filter: None,
            info: content(&call.info),
            expires_s: end_s(call.expire_at_seconds),
        },
        data: content(&call.data).to_vec(),
        since: call.recover_since.clone().filter(|_| traits.contains(Traits::RECOVERABLE)),
        rejects_unrecovered: false,
    }
}

/// When something ends that applications say, to whom 0 is never.
fn end_s(expire_at_seconds: i64) -> u64 {
    match u64::try_from(expire_at_seconds) {
        Ok(0) | Err(_) => NEVER_S,
        Ok(seconds) => seconds,
    }
}
