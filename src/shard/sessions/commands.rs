//! What each command of a session does.

use std::sync::Arc;

use super::super::Shard;
use super::home::{Purpose, QUESTION_BYTES, Reserved};
use super::hooks::Heard;
use super::subscribing::Subscribing;
use crate::config::{ChannelOptions, DeltaType};
use crate::io::{Io, Key};
use crate::realtime::channels::{
    Asker, Data, Wishes, asks_who_may_subscribe, features, fits, may_publish, may_see_presence,
    may_subscribe,
};
use crate::realtime::filter::Filter;
use crate::realtime::home::{Announcement, Question};
use crate::realtime::hooks::{Granted, Hook, Replacement, channel_request};
use crate::realtime::patterns::is_pattern;
use crate::realtime::pointed::idempotency_key;
use crate::realtime::protocol::codes::{Disconnect, ErrorCode};
use crate::realtime::protocol::{
    self, Command, Publication, PublishRequest, ReplyBody, Request, StreamPosition,
    SubscribeRequest, UnsubscribeRequest,
};
use crate::realtime::session::{Phase, Session, Subscription, Traits};
use crate::realtime::tokens::{SubscriptionToken, SubscriptionTokenError, verify_subscription};
use crate::realtime::{publication, topic};

/// How a command ends.
pub(super) enum Outcome {
    /// With this reply, now.
    Reply(Box<ReplyBody>),
    /// With none.
    Nothing,
    /// Its reply comes later, and the commands behind it wait for that.
    Waits,
    /// It cannot be done now, for want of a place, and is done again when there may be one.
    Again(Box<Command>),
    /// The same, while the topic that it is for has too much to deliver.
    Later(Box<Command>),
    /// A backend is asked about it, with whose answer it is done again.
    AfterHook(Box<Command>),
    /// The session ends.
    Disconnect(Disconnect),
}

impl Outcome {
    pub(super) fn reply(body: ReplyBody) -> Self {
        Self::Reply(Box::new(body))
    }

    pub(super) fn error(code: impl Into<ErrorCode>) -> Self {
        Self::reply(ReplyBody::Error(code.into().into()))
    }
}

impl<I: Io> Shard<I> {
    /// Does one command; false if it cannot be done now.
    pub(super) fn do_command(&mut self, key: Key, command: Command) -> bool {
        let Some(session) = self.sessions.get(key.index) else { return false };
        let (id, phase) = (command.id, session.phase);
        let outcome = match (phase, command.request()) {
            (Phase::Fresh, Some(Request::Connect(request))) if id > 0 => {
                self.connect(key, id, *request)
            }
            (Phase::Connected, Some(request)) => self.do_request(key, id, request),
            (Phase::Connected, None) if id == 0 && self.has_answered_ping(key) => Outcome::Nothing,
            _ => Outcome::Disconnect(Disconnect::BAD_REQUEST),
        };
        let is_done =
            !matches!(outcome, Outcome::Again(_) | Outcome::Later(_) | Outcome::AfterHook(_));
        if is_done {
            self.sessions.hooks.forget_answer(key.index);
        }
        match outcome {
            Outcome::Reply(body) => {
                self.reply(key, id, &body);
                if phase == Phase::Fresh {
                    // It was not connected.
                    self.refuse(key);
                }
            }
            Outcome::Nothing | Outcome::Waits => {}
            Outcome::Again(command) => {
                self.put_back_command(key, *command);
                self.try_again(key);
            }
            Outcome::AfterHook(command) => self.put_back_command(key, *command),
            Outcome::Later(command) => {
                self.put_back_command(key, *command);
                return false;
            }
            Outcome::Disconnect(disconnect) => self.disconnect(key, disconnect),
        }
        true
    }

    fn put_back_command(&mut self, key: Key, command: Command) {
        if let Some(session) = self.sessions.get_mut(key.index) {
            session.commands.push_front(command);
        }
    }

    fn has_answered_ping(&mut self, key: Key) -> bool {
        self.sessions.get_mut(key.index).is_some_and(|session| session.has_answered())
    }

    fn do_request(&mut self, key: Key, id: u32, request: Request) -> Outcome {
        if id == 0 && !matches!(request, Request::Send(_)) {
            return Outcome::Disconnect(Disconnect::BAD_REQUEST);
        }
        match request {
            Request::Connect(_) => Outcome::Disconnect(Disconnect::BAD_REQUEST),
            Request::Subscribe(request) => self.subscribe_by_command(key, id, request),
            Request::Unsubscribe(request) => self.unsubscribe_by_command(key, &request),
            Request::Publish(request) => self.publish_by_command(key, id, request),
            Request::Presence(request) => {
                let again = |channel| Command {
                    id,
                    presence: Some(protocol::PresenceRequest { channel }),
                    ..Command::default()
                };
                self.ask_by_command(
                    key,
                    id,
                    request.channel,
                    may_see_presence,
                    Question::Presence,
                    again,
                )
            }
            Request::PresenceStats(request) => {
                let again = |channel| Command {
                    id,
                    presence_stats: Some(protocol::PresenceStatsRequest { channel }),
                    ..Command::default()
                };
                self.ask_by_command(
                    key,
                    id,
                    request.channel,
                    may_see_presence,
                    Question::PresenceStats,
                    again,
                )
            }
            Request::History(request) => self.history_by_command(key, id, request),
            Request::Refresh(request) => self.refresh(key, &request),
            Request::SubRefresh(request) => self.refresh_subscription(key, &request),
            Request::Rpc(request) => self.call_by_command(key, id, request),
            // Whatever an application would do with these, there is none here.
            Request::Ping(_) => Outcome::error(ErrorCode::NotAvailable),
            Request::Send(_) => Outcome::Disconnect(Disconnect::NOT_AVAILABLE),
        }
    }

    /// Who a session is to those who decide what it may do with a channel.
    pub(super) fn asker<'s>(&self, session: &'s Session, channel: &str) -> Asker<'s> {
        Asker {
            user: &session.user,
            is_insecure: self.effective.config.realtime.is_insecure,
            is_subscribed: session.subscription(channel).is_some(),
        }
    }

    fn subscribe_by_command(
        &mut self,
        key: Key,
        id: u32,
        request: Box<SubscribeRequest>,
    ) -> Outcome {
        let effective = self.effective.clone();
        let settings = &effective.config.realtime;
        let Some(session) = self.sessions.get(key.index) else { return Outcome::Nothing };
        if request.channel.is_empty() {
            return Outcome::Disconnect(Disconnect::BAD_REQUEST);
        }
        if session.subscription(&request.channel).is_some() {
            return Outcome::error(ErrorCode::AlreadySubscribed);
        }
        if session.subscriptions.len() >= usize::from(settings.client_channels_most) {
            return Outcome::error(ErrorCode::LimitExceeded);
        }
        if is_pattern(&request.channel) {
            return self.subscribe_to_pattern(key, id, *request);
        }
        let options = match effective.channels.options(&request.channel) {
            Ok(options) => options,
            Err(denied) => return Outcome::error(denied),
        };
        if request.r#type != 0 {
            return Outcome::error(ErrorCode::PermissionDenied);
        }
        let filter = match request.tf.as_ref().map(Filter::new) {
            None => None,
            // A difference would be to something that has not passed.
            Some(Ok(filter)) if options.allow_tags_filter && request.delta.is_empty() => {
                Some(Arc::new(filter))
            }
            Some(_) => return Outcome::error(ErrorCode::BadRequest),
        };
        let token = match self.subscription_token(session, &request.channel, &request.token) {
            Ok(token) => token,
            Err(outcome) => return outcome,
        };
        let is_asked = token.is_none() && asks_who_may_subscribe(options, &request.channel);
        let token = match is_asked {
            false => token,
            true => match self.subscription_granted(key, &request) {
                Ok(token) => Some(token),
                Err(Some(outcome)) => return outcome,
                Err(None) => {
                    let again = Command { id, subscribe: Some(request), ..Command::default() };
                    return Outcome::AfterHook(Box::new(again));
                }
            },
        };
        let Some(session) = self.sessions.get(key.index) else { return Outcome::Nothing };
        let asker = self.asker(session, &request.channel);
        if let Err(denied) = may_subscribe(options, &request.channel, &asker, token.is_some()) {
            return Outcome::error(denied);
        }
        let token = token.unwrap_or_default();
        let wishes = Wishes {
            positioned: request.positioned,
            recoverable: request.recoverable,
            join_leave: request.join_leave,
        };
        let features = features(options, token.grant.overrides, &asker, wishes);
        let mut traits = Traits::of(&features, options.has_history());
        let may_be_delta = options.allowed_delta_types == Some(DeltaType::Fossil)
            && traits.contains(Traits::POSITIONED);
        traits.set(Traits::DELTA, may_be_delta && request.delta == DELTA_FOSSIL);
        let is_refreshed =
            options.sub_refresh_proxy_enabled && effective.config.hooks.sub_refresh.is_some();
        traits.set(Traits::REFRESHED_BY_HOOK, is_refreshed);
        let client = session.client.clone();
        let reserved = match options.has_history() {
            true => self.reserve_to_change(&request.channel, QUESTION_BYTES),
            false => Ok(self.reserve(&request.channel, QUESTION_BYTES)),
        };
        let Some(reserved) = (match reserved {
            Ok(reserved) => reserved,
            Err(outcome) => return outcome,
        }) else {
            let granted = is_asked.then(|| Granted::Subscribe(Box::new(token)));
            self.sessions.hooks.keep(key, granted);
            let again = Command { id, subscribe: Some(request), ..Command::default() };
            return Outcome::Again(Box::new(again));
        };
        let since = request.recover && traits.contains(Traits::RECOVERABLE);
        let SubscribeRequest { channel, offset, epoch, flag, .. } = *request;
        let subscribing = Subscribing {
            client,
            id: Some(id),
            subscription: Subscription {
                channel: channel.into(),
                traits,
                filter,
                info: told(token.grant.info),
                expires_s: token.expires_s,
            },
            data: told(token.grant.data).to_vec(),
            since: since.then_some(StreamPosition { offset, epoch }),
            rejects_unrecovered: flag & SubscribeRequest::FLAG_REJECT_UNRECOVERED != 0,
        };
        self.subscribe(key, Box::new(subscribing), reserved);
        Outcome::Waits
    }

    /// What a backend grants to somebody who subscribes; how the command ends otherwise, unless it
    /// waits for that.
    fn subscription_granted(
        &mut self,
        key: Key,
        request: &SubscribeRequest,
    ) -> Result<SubscriptionToken, Option<Outcome>> {
        let heard = self.hear(key, Hook::Subscribe, |session, includes_meta| {
            channel_request(session, includes_meta, &request.channel, &request.data)
        });
        match heard {
            Heard::Granted(Granted::Subscribe(token)) if token.expires_s == 0 => {
                Err(Some(Outcome::error(ErrorCode::Expired)))
            }
            Heard::Granted(Granted::Subscribe(token)) => Ok(*token),
            Heard::Granted(_) => Err(Some(Outcome::error(ErrorCode::Internal))),
            Heard::Refused(outcome) => Err(Some(outcome)),
            Heard::Asked => Err(None),
        }
    }

    /// What the token of a channel says, if there is one.
    pub(super) fn subscription_token(
        &self,
        session: &Session,
        channel: &str,
        token: &str,
    ) -> Result<Option<SubscriptionToken>, Outcome> {
        if token.is_empty() {
            return Ok(None);
        }
        let (trust, now_s) = (&self.effective.trust, self.seconds_of_day());
        let (user, client) = (&session.user, &session.client);
        let verdict = verify_subscription(trust, token, now_s, channel, user, client);
        self.turn.spend(verdict.cost);
        verdict.result.map(Some).map_err(|error| match error {
            SubscriptionTokenError::Expired => Outcome::error(ErrorCode::TokenExpired),
            SubscriptionTokenError::Invalid(_) => Outcome::error(ErrorCode::PermissionDenied),
            SubscriptionTokenError::Mismatch => Outcome::Disconnect(Disconnect::INVALID_TOKEN),
        })
    }

    fn unsubscribe_by_command(&mut self, key: Key, request: &UnsubscribeRequest) -> Outcome {
        if request.channel.is_empty() {
            return Outcome::Disconnect(Disconnect::BAD_REQUEST);
        }
        let session = self.sessions.get(key.index);
        let subscription = session.and_then(|it| it.subscription(&request.channel));
        if subscription.is_some_and(|it| it.traits.contains(Traits::SERVER_SIDE)) {
            return Outcome::error(ErrorCode::PermissionDenied);
        }
        self.unsubscribe_session(key, &request.channel);
        Outcome::reply(ReplyBody::Unsubscribe)
    }

    fn publish_by_command(&mut self, key: Key, id: u32, request: PublishRequest) -> Outcome {
        let effective = self.effective.clone();
        if request.channel.is_empty() || request.data.is_empty() {
            return Outcome::Disconnect(Disconnect::BAD_REQUEST);
        }
        if request.r#type != 0 {
            return Outcome::error(ErrorCode::NotAvailable);
        }
        let options = match effective.channels.options(&request.channel) {
            Ok(options) => options,
            Err(denied) => return Outcome::error(denied),
        };
        let Some(session) = self.sessions.get(key.index) else { return Outcome::Nothing };
        let asker = self.asker(session, &request.channel);
        let is_json = protocol::is_json(&request.data);
        let data = if is_json { Data::Json } else { Data::Other };
        let is_asked = options.publish_proxy_enabled;
        let may = match is_asked {
            true => fits(options, data),
            false => may_publish(options, &asker, data),
        };
        if let Err(denied) = may {
            return Outcome::error(denied);
        }
        if !is_json {
            // Those could not be told who speak JSON.
            return Outcome::error(ErrorCode::BadRequest);
        }
        let mut replacement = Box::<Replacement>::default();
        if is_asked {
            let heard = self.hear(key, Hook::Publish, |session, includes_meta| {
                channel_request(session, includes_meta, &request.channel, &request.data)
            });
            replacement = match heard {
                Heard::Granted(Granted::Publish(replacement)) => replacement,
                Heard::Granted(_) => return Outcome::error(ErrorCode::Internal),
                Heard::Refused(outcome) => return outcome,
                Heard::Asked => {
                    let again = Command { id, publish: Some(request), ..Command::default() };
                    return Outcome::AfterHook(Box::new(again));
                }
            };
        }
        if !self.has_room_in(key, &request.channel, options) {
            self.sessions.hooks.keep(key, is_asked.then_some(Granted::Publish(replacement)));
            let later = Command { id, publish: Some(request), ..Command::default() };
            return Outcome::Later(Box::new(later));
        }
        let Some(session) = self.sessions.get(key.index) else { return Outcome::Nothing };
        let info = session.publisher_in(&request.channel);
        if replacement.idempotency_key.is_empty() {
            let id_from = options.id_from.as_ref();
            let Ok(of_id) = idempotency_key(&request.data, id_from, &info.user) else {
                return Outcome::error(ErrorCode::BadRequest);
            };
            replacement.idempotency_key = of_id;
        }
        if !options.has_history() && replacement.idempotency_key.is_empty() {
            let publication = Publication {
                data: replacement.data.unwrap_or(request.data),
                info: Some(protocol::ClientInfo::from(&info)),
                tags: replacement.tags,
                ..Publication::default()
            };
            self.publish_to_channel(&request.channel, publication);
            return Outcome::reply(ReplyBody::Publish);
        }
        let data_bytes = replacement.data.as_ref().map_or(request.data.len(), Vec::len);
        let reserved = self.reserve_to_change(&request.channel, QUESTION_BYTES + data_bytes);
        let Some(reserved) = (match reserved {
            Ok(reserved) => reserved,
            Err(outcome) => return outcome,
        }) else {
            self.sessions.hooks.keep(key, is_asked.then_some(Granted::Publish(replacement)));
            let again = Command { id, publish: Some(request), ..Command::default() };
            return Outcome::Again(Box::new(again));
        };
        let publication = publication::Publication {
            data: replacement.data.unwrap_or(request.data).into(),
            is_json: true,
            info: Some(Arc::new(info)),
            tags: replacement.tags,
            ..publication::Publication::default()
        };
        let question = Question::Publish {
            publication,
            idempotency_key: replacement.idempotency_key,
            version: replacement.version,
            version_epoch: replacement.version_epoch,
            skips_history: replacement.skips_history,
            wants_delta: replacement.wants_delta,
        };
        self.wait_for_reply(key, id, request.channel.into(), question, reserved);
        Outcome::Waits
    }

    /// Whether what is to be published to a channel need not wait for its subscribers.
    pub(super) fn has_room_in(&self, key: Key, channel: &str, options: &ChannelOptions) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let has_room = |topic: &str| self.topics.fullness_by_name(topic) < connection.too_full();
        let have_derived_room = || {
            let sources = [topic::filterable(channel), topic::matched(channel)];
            let fullness = sources.map(|it| self.topics.fullness_of_derived(&it));
            fullness.into_iter().all(|it| it < connection.too_full())
        };
        self.overflow.is_empty()
            && has_room(&topic::publications(channel))
            && (!self.topics.has_derived() || have_derived_room())
            && (options.allowed_delta_types.is_none() || has_room(&topic::deltas(channel)))
    }

    /// Publishes to a channel of which nothing is kept.
    pub(super) fn publish_to_channel(&mut self, channel: &str, publication: Publication) {
        self.announce(Announcement::publication(channel, publication));
    }

    pub(super) fn wait_for_reply(
        &mut self,
        key: Key,
        id: u32,
        channel: Arc<str>,
        question: Question,
        reserved: Reserved,
    ) {
        if let Some(session) = self.sessions.get_mut(key.index) {
            session.is_waiting = true;
        }
        self.ask(key, &channel, question, Purpose::Reply { id }, reserved);
    }
}

/// What a token has to say to clients, as far as all of them can be told.
pub(super) fn told(content: Option<Box<[u8]>>) -> Arc<[u8]> {
    content.filter(|it| protocol::is_json(it)).map_or_else(Arc::default, Arc::from)
}

/// The one kind of differences that there is.
const DELTA_FOSSIL: &str = "fossil";
