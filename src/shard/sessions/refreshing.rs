//! How sessions and subscriptions go on when their time is over: by another token, or as a backend
//! says.

use std::sync::Arc;

use super::super::Shard;
use super::commands::{Outcome, told};
use super::hooks::Purpose;
use crate::io::{Io, Key};
use crate::realtime::hooks::{Answer, Granted, Hook, Refreshed, channel_request, refresh_request};
use crate::realtime::protocol::codes::{Disconnect, ErrorCode, Unsubscribe};
use crate::realtime::protocol::{
    RefreshRequest, RefreshResult, ReplyBody, SubRefreshRequest, SubRefreshResult,
};
use crate::realtime::session::{Refresh, Session, Subscription, Traits};
use crate::realtime::tokens::{TokenError, remaining_s, verify_connection};

impl<I: Io> Shard<I> {
    pub(super) fn refresh(&mut self, key: Key, request: &RefreshRequest) -> Outcome {
        if request.token.is_empty() {
            return Outcome::Disconnect(Disconnect::BAD_REQUEST);
        }
        let now_s = self.seconds_of_day();
        let verdict = verify_connection(&self.effective.trust, &request.token, now_s);
        self.turn.spend(verdict.cost);
        let Some(session) = self.sessions.get_mut(key.index) else { return Outcome::Nothing };
        let token = match verdict.result {
            Ok(token) => token,
            Err(TokenError::Expired) => {
                return Outcome::Disconnect(Disconnect::CONNECTION_EXPIRED);
            }
            Err(TokenError::Invalid(_)) => return Outcome::Disconnect(Disconnect::INVALID_TOKEN),
        };
        if *token.user != *session.user {
            return Outcome::Disconnect(Disconnect::INVALID_TOKEN);
        }
        session.expires_s = token.expires_s;
        let ttl = session_ttl(session, now_s);
        let result = RefreshResult {
            client: session.client.to_string(),
            version: crate::VERSION.to_owned(),
            expires: ttl.is_some(),
            ttl: ttl.unwrap_or(0),
        };
        self.schedule_open(key);
        Outcome::reply(ReplyBody::Refresh(result))
    }

    pub(super) fn refresh_subscription(
        &mut self,
        key: Key,
        request: &SubRefreshRequest,
    ) -> Outcome {
        if request.channel.is_empty() {
            return Outcome::Disconnect(Disconnect::BAD_REQUEST);
        }
        let now_s = self.seconds_of_day();
        let Some(session) = self.sessions.get(key.index) else { return Outcome::Nothing };
        if session.subscription(&request.channel).is_none() {
            return Outcome::error(ErrorCode::PermissionDenied);
        }
        let token = match self.subscription_token(session, &request.channel, &request.token) {
            Ok(Some(token)) => token,
            Ok(None) => return Outcome::error(ErrorCode::BadRequest),
            // With one that has expired the subscription must not last for ever.
            Err(Outcome::Reply(body)) if *body == denied() => {
                return Outcome::Disconnect(Disconnect::INVALID_TOKEN);
            }
            Err(outcome) => return outcome,
        };
        let mut ttl = None;
        if let Some(session) = self.sessions.get_mut(key.index)
            && let Some(subscription) = session.subscription_mut(&request.channel)
        {
            subscription.expires_s = token.expires_s;
            ttl = subscription_ttl(subscription, now_s);
        }
        let result = SubRefreshResult { expires: ttl.is_some(), ttl: ttl.unwrap_or(0) };
        self.schedule_open(key);
        Outcome::reply(ReplyBody::SubRefresh(result))
    }

    /// Asks whether a session goes on whose time is over.
    pub(super) fn ask_about_session(&mut self, key: Key) {
        let includes_meta = self.effective.config.hooks.includes_meta;
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        session.refresh = Refresh::Asked;
        let body = refresh_request(session, includes_meta);
        if !self.ask_hook(key, Purpose::Refresh, Hook::Refresh, body) {
            self.connection_refreshed(key, Answer::Failed);
        }
    }

    /// Asks whether a subscription goes on whose time is over.
    pub(super) fn ask_about_subscription(&mut self, key: Key, channel: &Arc<str>) {
        let includes_meta = self.effective.config.hooks.includes_meta;
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        let Some(subscription) = session.subscription_mut(channel) else { return };
        subscription.traits.insert(Traits::REFRESHING);
        let body = channel_request(session, includes_meta, channel, &[]);
        let purpose = Purpose::SubRefresh(channel.clone());
        if !self.ask_hook(key, purpose, Hook::SubRefresh, body) {
            self.subscription_refreshed(key, channel, Answer::Failed);
        }
    }

    /// A backend has said whether a session goes on.
    pub(super) fn connection_refreshed(&mut self, key: Key, answer: Answer) {
        let Some(refreshed) = self.refreshed(key, answer) else { return };
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        if refreshed.expires_s == 0 {
            return self.disconnect(key, Disconnect::CONNECTION_EXPIRED);
        }
        session.refresh = Refresh::ByHook;
        session.expires_s = refreshed.expires_s;
        session.set_meta(refreshed.meta);
        if refreshed.info.is_some() {
            session.info = told(refreshed.info);
        }
        self.schedule_open(key);
    }

    /// A backend has said whether a subscription goes on.
    pub(super) fn subscription_refreshed(&mut self, key: Key, channel: &str, answer: Answer) {
        let Some(refreshed) = self.refreshed(key, answer) else { return };
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        // It may have ended meanwhile, and another begun.
        let is_asked = |it: &&mut Subscription| it.traits.contains(Traits::REFRESHING);
        let Some(subscription) = session.subscription_mut(channel).filter(is_asked) else { return };
        if refreshed.expires_s == 0 {
            return self.end_subscription(key, channel, Unsubscribe::SUBSCRIPTION_EXPIRED);
        }
        subscription.traits.remove(Traits::REFRESHING);
        subscription.expires_s = refreshed.expires_s;
        if refreshed.info.is_some() {
            subscription.info = told(refreshed.info);
        }
        self.schedule_open(key);
    }

    /// How something goes on, unless the session ends. Nobody goes because a backend cannot be
    /// asked: it is soon asked again.
    fn refreshed(&mut self, key: Key, answer: Answer) -> Option<Refreshed> {
        let until = |expires_s| Some(Refreshed { expires_s, info: None, meta: None });
        match answer {
            Answer::Granted(Granted::Refresh(refreshed)) => Some(refreshed),
            Answer::Error(_) => until(0),
            Answer::Disconnect(disconnect) => {
                self.disconnect(key, disconnect);
                None
            }
            Answer::Failed | Answer::Granted(_) => until(self.seconds_of_day() + ASKED_AGAIN_S),
        }
    }
}

/// In how many seconds a client has to show another token; never where a backend is asked.
pub(super) fn session_ttl(session: &Session, now_s: u64) -> Option<u32> {
    match session.refresh {
        Refresh::ByClient => remaining_s(session.expires_s, now_s),
        Refresh::ByHook | Refresh::Asked => None,
    }
}

/// The same for a subscription.
pub(super) fn subscription_ttl(subscription: &Subscription, now_s: u64) -> Option<u32> {
    match subscription.traits.contains(Traits::REFRESHED_BY_HOOK) {
        true => None,
        false => remaining_s(subscription.expires_s, now_s),
    }
}

fn denied() -> ReplyBody {
    ReplyBody::Error(ErrorCode::PermissionDenied.into())
}

/// When a backend is asked again that has not answered whether something goes on, in seconds.
const ASKED_AGAIN_S: u64 = 60;
