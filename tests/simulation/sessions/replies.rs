//! What a model client makes of what it is told: each reply answers the oldest command, and fits
//! what the client knows.

use std::collections::BTreeMap;

use ringwire::realtime::protocol::codes::{ErrorCode, Unsubscribe};
use ringwire::realtime::protocol::{
    HistoryResult, Publication, PushMessage, Reply, ReplyError, StreamPosition,
};

use super::client::{Asked, Context, Visit};
use super::subscription::Subscription;
use super::truth::Position;

impl Visit {
    /// The oldest command has been answered.
    pub fn answered(
        &mut self,
        reply: Reply,
        context: &mut Context,
        known: &mut BTreeMap<String, Position>,
    ) {
        let (id, asked) = self.asked.pop_front().expect("nothing was asked");
        assert_eq!(reply.id, id, "replies come in the order of the commands: {asked:?}");
        if let Some(error) = &reply.error {
            return self.refused(&asked, error);
        }
        match asked {
            Asked::Connect => {
                self.name = Some(reply.connect.expect("a connection").client);
            }
            Asked::Subscribe { channel, since } => {
                let result = reply.subscribe.expect("a subscription");
                let is_known = since.as_ref().is_some_and(|it| !it.epoch.is_empty());
                let may_lose = !context.keeps_all || !is_known || !result.was_recovering;
                assert!(result.recovered || may_lose, "{channel}: {since:?}, {result:?}");
                let truth = &mut context.truth;
                let subscription = Subscription::new(&channel, &result, since.as_ref(), truth);
                let before = self.subscriptions.insert(channel.clone(), subscription);
                assert!(before.is_none(), "{channel}: subscribed twice");
                self.left.remove(&channel);
            }
            Asked::Unsubscribe(channel) => {
                reply.unsubscribe.expect("an end");
                self.ended(&channel, known);
                self.left.insert(channel);
            }
            Asked::Publish(channel) => {
                reply.publish.expect("a publication");
                context.truth.accept(&channel);
            }
            Asked::Presence(channel) => {
                let presence = reply.presence.expect("who is there").presence;
                let name = self.name.as_deref().expect("connected");
                let is_there = presence.contains_key(name);
                assert!(
                    is_there || !self.subscriptions.contains_key(&channel),
                    "{channel}: absent"
                );
                assert!(!is_there || !self.left.contains(&channel), "{channel}: present");
            }
            Asked::PresenceStats(channel) => {
                let clients = reply.presence_stats.expect("how many").num_clients;
                assert!(clients > 0 || !self.subscriptions.contains_key(&channel), "{channel}");
            }
            Asked::History { channel, since, limit, is_reverse } => {
                let result = reply.history.expect("a history");
                check_history(&channel, since.as_ref(), limit, is_reverse, &result);
                context.truth.reach(&channel, &result.epoch, result.offset);
                for publication in &result.publications {
                    context.truth.see(&channel, &result.epoch, publication);
                }
            }
        }
    }

    fn refused(&self, asked: &Asked, error: &ReplyError) {
        let is_due = match asked {
            Asked::Subscribe { channel, .. } => {
                error.code == ErrorCode::AlreadySubscribed.code()
                    && self.subscriptions.contains_key(channel)
            }
            Asked::History { since: Some(since), is_reverse, .. } => {
                let is_before_all = *is_reverse && since.offset == 0;
                error.code == ErrorCode::UnrecoverablePosition.code()
                    || error.code == ErrorCode::BadRequest.code() && is_before_all
            }
            _ => false,
        };
        assert!(is_due, "{asked:?} is refused: {error:?}");
    }

    /// Something has come that was not asked for.
    pub fn hear(
        &mut self,
        push: PushMessage,
        context: &mut Context,
        known: &mut BTreeMap<String, Position>,
    ) {
        let channel = push.channel;
        let Some(subscription) = self.subscriptions.get_mut(&channel) else {
            panic!("{channel} is told to somebody who has not subscribed");
        };
        if let Some(publication) = push.r#pub {
            subscription.take(&channel, &publication, &mut context.truth);
        } else if let Some(join) = push.join {
            subscription.hear(&channel, &join.info.expect("who").client, true);
        } else if let Some(leave) = push.leave {
            subscription.hear(&channel, &leave.info.expect("who").client, false);
        } else if let Some(end) = push.unsubscribe {
            assert_eq!(end.code, Unsubscribe::INSUFFICIENT_STATE.push().code);
            assert!(context.may_be_slow, "{channel} ends");
            self.ended(&channel, known);
        } else {
            panic!("{channel}: what is this?");
        }
    }

    /// A subscription has ended; what it missed from then on it may recover.
    fn ended(&mut self, channel: &str, known: &mut BTreeMap<String, Position>) {
        let subscription = self.subscriptions.remove(channel);
        if let Some(position) = subscription.and_then(|it| it.position) {
            known.insert(channel.to_owned(), position);
        }
    }
}

/// What was published is told in its order, without a gap, and no more than was asked for.
fn check_history(
    channel: &str,
    since: Option<&StreamPosition>,
    limit: i32,
    is_reverse: bool,
    result: &HistoryResult,
) {
    let mut offsets: Vec<_> = result.publications.iter().map(|it| it.offset).collect();
    assert!(limit < 0 || offsets.len() <= limit as usize, "{channel}: {offsets:?}");
    if is_reverse {
        offsets.reverse();
    }
    let is_whole = offsets.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    assert!(is_whole, "{channel}: {offsets:?}");
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return };
    assert!(*last <= result.offset, "{channel}: {offsets:?} up to {}", result.offset);
    match since {
        Some(since) if !is_reverse => assert!(*first > since.offset, "{channel}: {offsets:?}"),
        None if is_reverse => assert_eq!(*last, result.offset, "{channel}"),
        _ => {}
    }
    let is_same = |pair: &[Publication]| pair[0].data == pair[1].data;
    assert!(!result.publications.windows(2).any(is_same), "{channel}: the same twice");
}
