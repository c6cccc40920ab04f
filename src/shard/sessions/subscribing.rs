//! From the wish to subscribe to the first message: see the head of `sessions.rs`.

use std::sync::Arc;

use super::super::Shard;
use super::super::deliver::{count_delivered, queue_alone};
use super::home::{Answered, Purpose, Reserved};
use super::refreshing::subscription_ttl;
use crate::hub::run::Run;
use crate::hub::topics::{self, HoldId};
use crate::io::{Io, Key};
use crate::realtime::home::{Answer, Question};
use crate::realtime::log::Head;
use crate::realtime::patterns::is_pattern;
use crate::realtime::protocol::codes::{ErrorCode, Unsubscribe};
use crate::realtime::protocol::{
    Encoding, Push, ReplyBody, StreamPosition, SubscribePush, SubscribeResult,
};
use crate::realtime::publication::Publication;
use crate::realtime::session::{Subscription, Traits};
use crate::realtime::topic;

/// A subscription that is to begin.
#[derive(Debug)]
pub(super) struct Subscribing {
    /// Whose it is.
    pub(super) client: Arc<str>,
    /// The command that it answers; none where it is one of those that come with a connection, or
    /// that the server makes later.
    pub(super) id: Option<u32>,
    pub(super) subscription: Subscription,
    /// Data for the subscriber, as JSON.
    pub(super) data: Vec<u8>,
    /// Up to where it has got what was published, if it wants the rest.
    pub(super) since: Option<StreamPosition>,
    /// Whether it would rather not subscribe than have lost something.
    pub(super) rejects_unrecovered: bool,
}

/// One that has been answered, and becomes a member when this shard has read as far as its home had
/// written by then.
pub(super) struct Joining {
    pub(super) key: Key,
    pub(super) subscribing: Box<Subscribing>,
    hold: HoldId,
    home: usize,
    position: u64,
    pub(super) result: SubscribeResult,
}

impl<I: Io> Shard<I> {
    /// Begins a subscription; `reserved` is for the question to the home of its channel.
    pub(super) fn subscribe(
        &mut self,
        key: Key,
        subscribing: Box<Subscribing>,
        reserved: Reserved,
    ) {
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        session.is_waiting = true;
        let channel = subscribing.subscription.channel.clone();
        let info = session.info_in(&subscribing.subscription);
        let hold = self.topics.hold(&topics_of(&subscribing.subscription));
        if subscribing.subscription.traits.contains(Traits::KNOWN_AT_HOME) {
            let traits = subscribing.subscription.traits;
            let question = Question::Subscribe {
                info,
                since: subscribing.since.clone(),
                is_present: traits.intersects(Traits::PRESENT | Traits::ANNOUNCED),
                is_announced: traits.contains(Traits::ANNOUNCED),
                wants_deltas: traits.contains(Traits::DELTA),
            };
            let purpose = Purpose::Subscribe { subscribing, hold };
            return self.ask(key, &channel, question, purpose, reserved);
        }
        let (home, position) = (self.number, self.topics.published());
        let ttl = subscription_ttl(&subscribing.subscription, self.seconds_of_day());
        let result = SubscribeResult {
            expires: ttl.is_some(),
            ttl: ttl.unwrap_or(0),
            data: subscribing.data.clone(),
            ..SubscribeResult::default()
        };
        self.sessions.joining.push(Joining { key, subscribing, hold, home, position, result });
        self.join_those_who_may();
    }

    /// The home of a channel has answered to somebody who subscribes.
    pub(super) fn subscription_answered(
        &mut self,
        key: Key,
        subscribing: Box<Subscribing>,
        hold: HoldId,
        answered: Answered,
    ) {
        let Answered { answer, position } = answered;
        let channel = subscribing.subscription.channel.clone();
        let (home, now_s) = (self.home_of(&channel), self.seconds_of_day());
        let code = match answer {
            Answer::Subscribed { is_recovered: false, .. } if subscribing.rejects_unrecovered => {
                ErrorCode::UnrecoverablePosition
            }
            Answer::Subscribed { position: at, is_recovered, publications }
                if self.is_session(key, &subscribing.client) =>
            {
                let encoding = self.sessions.get(key.index).map(|it| it.encoding);
                let is_json = encoding == Some(Encoding::Json);
                let recovered = is_recovered.then_some(&publications[..]);
                let result = result_of(&subscribing, at, recovered, is_json, now_s);
                let joining = Joining { key, subscribing, hold, home, position, result };
                self.sessions.joining.push(joining);
                return self.join_those_who_may();
            }
            Answer::Refused(code) => code,
            _ => ErrorCode::Internal,
        };
        self.topics.release(hold);
        // It may have been counted among those who are there.
        self.leave_home(&subscribing.client, &subscribing.subscription);
        self.subscription_failed(key, &subscribing, code);
    }

    /// Makes those members for whom this shard has read far enough.
    pub(super) fn join_those_who_may(&mut self) {
        if self.sessions.joining.is_empty() {
            return;
        }
        let positions = self.positions();
        let may_join = |it: &mut Joining| {
            it.home == self.number || positions.get(it.home).is_none_or(|read| *read >= it.position)
        };
        let ready: Vec<_> = self.sessions.joining.extract_if(.., may_join).collect();
        for joining in ready {
            self.joined(joining);
        }
    }

    fn joined(&mut self, joining: Joining) {
        let key = joining.key;
        if !self.is_session(key, &joining.subscribing.client) {
            return self.give_up_joining(joining);
        }
        if self.is_connecting(key) {
            // It becomes a member with all others, so that nothing comes before the reply.
            return self.add_to_connection(joining);
        }
        let channel = joining.subscribing.subscription.channel.clone();
        let (id, result) = (joining.subscribing.id, joining.result.clone());
        let held = self.become_member(joining);
        match id {
            Some(id) => self.reply(key, id, &ReplyBody::Subscribe(result)),
            None => self.push(key, &channel, &Push::Subscribe(push_of(result))),
        }
        self.queue_held(key, held);
        self.schedule_open(key);
        self.resume_session(key);
    }

    /// Somebody who was to become a member has gone.
    pub(super) fn give_up_joining(&mut self, joining: Joining) {
        let Joining { subscribing, hold, .. } = joining;
        self.topics.release(hold);
        self.leave_home(&subscribing.client, &subscribing.subscription);
    }

    /// Makes a session a member of a channel; returns what was published since its home answered.
    pub(super) fn become_member(&mut self, joining: Joining) -> Vec<Run> {
        let Joining { key, subscribing, hold, home, position, .. } = joining;
        let (own, subscription) = (self.number, subscribing.subscription);
        let topics = topics_of(&subscription);
        let are_deltas = subscription.traits.contains(Traits::DELTA);
        let held = self.topics.settle_in(key.index, &topics, hold, |shard| match shard {
            Some(shard) if shard == home => position,
            None if home == own => position,
            // What others publish to a channel, its home does not know of.
            _ => 0,
        });
        if let Some(session) = self.sessions.get_mut(key.index) {
            session.subscriptions.push(subscription);
        }
        let alone = |message| {
            let mut run = Run::new(message, None);
            if are_deltas {
                run.set_are_deltas();
            }
            run
        };
        held.into_iter().map(alone).collect()
    }

    fn subscription_failed(&mut self, key: Key, subscribing: &Subscribing, code: ErrorCode) {
        if !self.is_session(key, &subscribing.client) {
            return;
        }
        match subscribing.id {
            Some(id) => self.reply(key, id, &ReplyBody::Error(code.into())),
            // A session that the server could not subscribe has to come again.
            None => return self.refuse_connection(key, code),
        }
        self.resume_session(key);
    }

    /// Whether a session of this name is there.
    fn is_session(&self, key: Key, client: &Arc<str>) -> bool {
        self.connections.get(key).is_some()
            && self.sessions.get(key.index).is_some_and(|it| it.client == *client)
    }

    pub(super) fn queue_held(&mut self, key: Key, held: Vec<Run>) {
        let has_held = !held.is_empty();
        if has_held {
            self.send_replies(key);
        }
        let Self { connections, generation, codec, shared, number, .. } = self;
        let Some(connection) = connections.get_mut(key) else { return };
        let stats = shared.stats.shard(*number);
        for mut run in held {
            let codec = codec.get_mut();
            let messages = queue_alone(&mut run, key.index, connection, codec, generation.number());
            count_delivered(messages, stats);
        }
        if has_held {
            self.mark_dirty(key);
        }
    }

    /// Ends a subscription, and tells its session why.
    pub(super) fn end_subscription(&mut self, key: Key, channel: &str, why: Unsubscribe) {
        if self.unsubscribe_session(key, channel) {
            self.push(key, channel, &Push::Unsubscribe(why.push()));
        }
    }

    /// Ends a subscription; whether there was one.
    pub(super) fn unsubscribe_session(&mut self, key: Key, channel: &str) -> bool {
        let Some(session) = self.sessions.get_mut(key.index) else { return false };
        let client = session.client.clone();
        let Some(subscription) = session.unsubscribe(channel) else { return false };
        self.give_up_aside(key, Some(channel));
        for topics::Subscription { topic, .. } in topics_of(&subscription) {
            self.topics.leave_by_name(key.index, &topic);
        }
        self.leave_home(&client, &subscription);
        true
    }

    /// Tells the home of a channel that a subscription has ended.
    pub(super) fn leave_home(&mut self, client: &Arc<str>, subscription: &Subscription) {
        if subscription.traits.contains(Traits::KNOWN_AT_HOME) {
            let is_announced = subscription.traits.contains(Traits::ANNOUNCED);
            let question = Question::Leave { client: client.clone(), is_announced };
            self.tell_home(&subscription.channel, question);
        }
    }
}

/// What a subscriber is told when its home has answered.
fn result_of(
    subscribing: &Subscribing,
    at: Head,
    recovered: Option<&[Arc<Publication>]>,
    is_json: bool,
    now_s: u64,
) -> SubscribeResult {
    let Subscription { traits, ref filter, .. } = subscribing.subscription;
    let ttl = subscription_ttl(&subscribing.subscription, now_s);
    let publications = recovered.unwrap_or_default();
    let is_kept = traits.intersects(Traits::POSITIONED | Traits::RECOVERABLE);
    let passes = |it: &&Arc<Publication>| filter.as_ref().is_none_or(|by| by.matches(&it.tags));
    let wanted = publications.iter().filter(passes);
    // Of differences the data is a text in JSON, which has the bytes.
    let wanted = wanted.map(|it| match is_json && traits.contains(Traits::DELTA) {
        true => it.in_full(),
        false => it.as_ref().into(),
    });
    let wanted: Vec<_> = wanted.collect();
    // Clients go on from the last that they get. One that gets none need not be shown all of them
    // again when it comes the next time.
    let last = publications.last().filter(|_| wanted.is_empty());
    let offset = last.map_or(at.offset, |last| last.offset);
    SubscribeResult {
        expires: ttl.is_some(),
        ttl: ttl.unwrap_or(0),
        data: subscribing.data.clone(),
        recoverable: traits.contains(Traits::RECOVERABLE),
        positioned: traits.contains(Traits::POSITIONED),
        epoch: if is_kept { at.epoch.as_str().to_owned() } else { String::new() },
        offset: if is_kept { offset } else { 0 },
        publications: wanted,
        recovered: recovered.is_some(),
        was_recovering: subscribing.since.is_some(),
        delta: traits.contains(Traits::DELTA),
    }
}

/// The same for one that the server has made later.
fn push_of(result: SubscribeResult) -> SubscribePush {
    let SubscribeResult { recoverable, epoch, offset, positioned, data, .. } = result;
    SubscribePush { recoverable, epoch, offset, positioned, data }
}

/// The topics by which a subscription gets what it is to get.
fn topics_of(subscription: &Subscription) -> Vec<topics::Subscription> {
    let Subscription { channel, traits, filter, .. } = subscription;
    let mut names = vec![match filter {
        Some(filter) => topic::filtered(channel, filter),
        None if is_pattern(channel) => topic::matched(channel),
        None if traits.contains(Traits::DELTA) => topic::deltas(channel),
        None => topic::publications(channel),
    }];
    if traits.contains(Traits::JOIN_LEAVE) {
        names.push(topic::joins(channel));
    }
    let named = |name: String| topics::Subscription { topic: name.into(), exclude_self: false };
    names.into_iter().map(named).collect()
}
