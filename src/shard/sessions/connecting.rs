//! The command that connects a session: who its user is, and what the server subscribes it to.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::{Shard, ticks_in};
use super::commands::{Outcome, told};
use super::home::QUESTION_BYTES;
use super::hooks::Heard;
use super::refreshing::session_ttl;
use super::subscribing::{Joining, Subscribing};
use super::{Sessions, drawn};
use crate::identity::{Identity, NEVER_S};
use crate::io::{Io, Key};
use crate::realtime::channels::{Asker, Wishes, features};
use crate::realtime::hooks::{Connected, Granted, Hook, connect_request, emulated_fields};
use crate::realtime::protocol::codes::{Disconnect, ErrorCode};
use crate::realtime::protocol::{
    Command, ConnectRequest, ConnectResult, Encoding, ReplyBody, StreamPosition,
};
use crate::realtime::session::{Phase, Refresh, Subscription, Traits};
use crate::realtime::tokens::{ConnectionToken, Grant, TokenError, verify_connection};

/// What is to be done before a session is connected.
pub(super) struct Connecting {
    /// The command that connects it, and its reply as far as it is known.
    id: u32,
    result: ConnectResult,
    /// What the server subscribes it to.
    wanted: VecDeque<Box<Subscribing>>,
    /// The subscriptions that can begin with the reply.
    ready: Vec<Joining>,
    /// Whether the last of those that were begun can neither begin nor be given up yet.
    is_asking: bool,
    /// Whether the next will be begun without anything more.
    goes_on: bool,
}

impl Sessions {
    /// The name of another session, as a UUID of version 4 looks (RFC 9562 section 5.4).
    pub(super) fn next_client(&mut self) -> Arc<str> {
        self.named += 1;
        let mut bytes = [0; 16];
        for (place, half) in bytes.chunks_exact_mut(8).enumerate() {
            half.copy_from_slice(&drawn(self.seed, (self.named, place)).to_be_bytes());
        }
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let digits = |range: std::ops::Range<usize>| -> String {
            bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let parts = [digits(0..4), digits(4..6), digits(6..8), digits(8..10), digits(10..16)];
        parts.join("-").into()
    }
}

impl<I: Io> Shard<I> {
    /// Connects a session.
    pub(super) fn connect(&mut self, key: Key, id: u32, request: ConnectRequest) -> Outcome {
        let effective = self.effective.clone();
        let settings = &effective.config.realtime;
        let now_s = self.seconds_of_day();
        let (token, data) = match self.credentials(key, &request, now_s) {
            Ok(credentials) => credentials,
            Err(Some(outcome)) => return outcome,
            Err(None) => {
                let connect = Some(Box::new(request));
                let again = Command { id, connect, ..Command::default() };
                return Outcome::AfterHook(Box::new(again));
            }
        };
        let is_refreshed = effective.config.hooks.refresh.is_some();
        let emulated = self.emulated_fields(&request);
        let Some(session) = self.sessions.get_mut(key.index) else { return Outcome::Nothing };
        session.phase = Phase::Connecting;
        session.user = (*token.user).into();
        session.info = told(token.info);
        session.expires_s = token.expires_s;
        session.refresh = if is_refreshed { Refresh::ByHook } else { Refresh::ByClient };
        session.set_meta(token.meta);
        session.add_told(emulated);
        let client = session.client.clone();
        let ttl = session_ttl(session, now_s);
        let result = ConnectResult {
            client: client.to_string(),
            version: crate::VERSION.to_owned(),
            expires: ttl.is_some(),
            ttl: ttl.unwrap_or(0),
            ping: settings.ping_interval.as_secs() as u32,
            pong: !settings.pong_timeout.is_zero(),
            data,
            ..ConnectResult::default()
        };
        let mut wanted: VecDeque<Box<Subscribing>> = VecDeque::new();
        let asker =
            Asker { user: &token.user, is_insecure: settings.is_insecure, is_subscribed: true };
        let personal = effective.channels.personal_channel(&token.user);
        // A token may name it as well, and then says more of it.
        let personal = personal.filter(|name| !token.channels.contains_key(name.as_str()));
        let personal = personal.map(|name| (name.into_boxed_str(), Grant::default()));
        for (channel, grant) in token.channels.into_iter().chain(personal) {
            let Ok(options) = effective.channels.options(&channel) else {
                return Outcome::error(ErrorCode::UnknownChannel);
            };
            let features = features(options, grant.overrides, &asker, Wishes::default());
            let traits = Traits::of(&features, options.has_history()) | Traits::SERVER_SIDE;
            let asked = request.subs.get(&*channel).filter(|it| it.recover);
            let since = asked
                .filter(|_| traits.contains(Traits::RECOVERABLE))
                .map(|it| StreamPosition { offset: it.offset, epoch: it.epoch.clone() });
            wanted.push_back(Box::new(Subscribing {
                client: client.clone(),
                id: None,
                subscription: Subscription {
                    channel: channel.into(),
                    traits,
                    filter: None,
                    info: told(grant.info),
                    expires_s: NEVER_S,
                },
                data: told(grant.data).to_vec(),
                since,
                rejects_unrecovered: false,
            }));
        }
        if wanted.len() > usize::from(settings.client_channels_most) {
            return Outcome::Disconnect(Disconnect::CHANNEL_LIMIT);
        }
        if !token.user.is_empty() || token.token_id.is_some() {
            // It may be exchanged for another before it expires.
            let user = (!token.user.is_empty()).then(|| (*token.user).into());
            let identity = Identity { user, token_id: token.token_id.clone(), expires_s: NEVER_S };
            self.peers.set_identity(key.index, Some(Box::new(identity)));
        }
        let connecting =
            Connecting { id, result, wanted, ready: Vec::new(), is_asking: false, goes_on: false };
        self.sessions.connecting.insert(key.index, connecting);
        self.go_on_connecting(key);
        Outcome::Waits
    }

    /// Whom the token of a request names, or a backend where there is none, or nobody where that
    /// is allowed; with data for the client. Otherwise how the command ends, unless it waits.
    fn credentials(
        &mut self,
        key: Key,
        request: &ConnectRequest,
        now_s: u64,
    ) -> Result<(ConnectionToken, Vec<u8>), Option<Outcome>> {
        let config = &self.effective.config;
        if request.token.is_empty() && config.hooks.connect.is_some() {
            return self.connection_granted(key, request);
        }
        let settings = &config.realtime;
        if request.token.is_empty() || settings.is_insecure {
            return match settings.may_be_anonymous || settings.is_insecure {
                true => Ok((ConnectionToken::anonymous(), Vec::new())),
                false => Err(Some(Outcome::Disconnect(Disconnect::BAD_REQUEST))),
            };
        }
        let verdict = verify_connection(&self.effective.trust, &request.token, now_s);
        self.turn.spend(verdict.cost);
        let token = verdict.result.map_err(|error| match error {
            TokenError::Expired => Outcome::error(ErrorCode::TokenExpired),
            TokenError::Invalid(_) => Outcome::Disconnect(Disconnect::INVALID_TOKEN),
        });
        Ok((token?, Vec::new()))
    }

    /// The same as a backend says.
    fn connection_granted(
        &mut self,
        key: Key,
        request: &ConnectRequest,
    ) -> Result<(ConnectionToken, Vec<u8>), Option<Outcome>> {
        let emulated = self.emulated_fields(request);
        if let Some(session) = self.sessions.get_mut(key.index) {
            session.add_told(emulated);
        }
        let heard = self.hear(key, Hook::Connect, |session, _| connect_request(session, request));
        let Connected { token, data } = match heard {
            Heard::Granted(Granted::Connect(connected)) => *connected,
            Heard::Granted(_) => return Err(Some(Outcome::error(ErrorCode::Internal))),
            Heard::Refused(outcome) => return Err(Some(outcome)),
            Heard::Asked => return Err(None),
        };
        let user = (!token.user.is_empty()).then(|| token.user.clone());
        let identity = Identity { user, token_id: None, expires_s: NEVER_S };
        if self.effective.trust.revocations.contain(&identity) {
            return Err(Some(Outcome::Disconnect(Disconnect::INVALID_TOKEN)));
        }
        if token.expires_s == 0 {
            return Err(Some(Outcome::error(ErrorCode::Expired)));
        }
        let speaks_json =
            self.sessions.get(key.index).is_some_and(|it| it.encoding == Encoding::Json);
        let data = if speaks_json { told(Some(data.into())).to_vec() } else { data };
        Ok((token, data))
    }

    /// What a client says in the place of fields of the upgrade that backends are told.
    fn emulated_fields(&self, request: &ConnectRequest) -> Vec<(Box<str>, Box<[u8]>)> {
        let told = &self.effective.config.hooks.emulated_fields;
        emulated_fields(request, |name| told.iter().any(|field| field.text() == name))
    }

    /// Makes the next subscriptions of a session that connects, one after the other, and answers it
    /// after the last.
    pub(super) fn go_on_connecting(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        session.is_waiting = true;
        loop {
            let Some(connecting) = self.sessions.connecting.get_mut(&key.index) else { return };
            connecting.goes_on = !connecting.is_asking;
            if connecting.is_asking {
                return;
            }
            let Some(next) = connecting.wanted.front() else { break };
            let channel = next.subscription.channel.clone();
            let reserved = self.reserve(&channel, QUESTION_BYTES);
            let Some(connecting) = self.sessions.connecting.get_mut(&key.index) else { return };
            let Some(reserved) = reserved else {
                connecting.goes_on = false;
                return self.try_again(key);
            };
            let Some(subscribing) = connecting.wanted.pop_front() else { break };
            connecting.is_asking = true;
            self.subscribe(key, subscribing, reserved);
        }
        let Some(connecting) = self.sessions.connecting.remove(&key.index) else { return };
        let ping_interval = self.effective.config.realtime.ping_interval;
        let ping_at = (!ping_interval.is_zero()).then(|| {
            // Spread over the second half of the interval, so that those who came together are not
            // asked together.
            let half = ticks_in(ping_interval / 2);
            let more = drawn(self.sessions.seed, (self.sessions.named, key.index));
            self.now + half + (more % u64::from(half.max(1))) as u32
        });
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        session.connected(ping_at);
        let Connecting { id, result, ready, .. } = connecting;
        self.reply(key, id, &ReplyBody::Connect(result));
        for joining in ready {
            let held = self.become_member(joining);
            self.queue_held(key, held);
        }
        self.schedule_open(key);
        self.resume_session(key);
    }

    /// Whether the reply that connects a session has not been sent.
    pub(super) fn is_connecting(&self, key: Key) -> bool {
        self.sessions.connecting.contains_key(&key.index)
    }

    /// One of the subscriptions that come with a session can begin.
    pub(super) fn add_to_connection(&mut self, joining: Joining) {
        let key = joining.key;
        let Some(connecting) = self.sessions.connecting.get_mut(&key.index) else {
            return self.give_up_joining(joining);
        };
        let channel = joining.subscribing.subscription.channel.to_string();
        let subs = &mut connecting.result.subs.get_or_insert_default().0;
        subs.insert(channel, joining.result.clone());
        connecting.ready.push(joining);
        connecting.is_asking = false;
        if !connecting.goes_on {
            self.go_on_connecting(key);
        }
    }

    /// A session cannot be connected.
    pub(super) fn refuse_connection(&mut self, key: Key, code: ErrorCode) {
        let Some(connecting) = self.forget_connecting(key) else {
            return self.disconnect(key, Disconnect::INTERNAL_SERVER_ERROR);
        };
        self.reply(key, connecting.id, &ReplyBody::Error(code.into()));
        self.refuse(key);
        self.resume_session(key);
    }

    /// Gives up what a session was to be subscribed to.
    pub(super) fn forget_connecting(&mut self, key: Key) -> Option<Connecting> {
        let mut connecting = self.sessions.connecting.remove(&key.index)?;
        for joining in connecting.ready.drain(..) {
            self.give_up_joining(joining);
        }
        Some(connecting)
    }
}
