//! Sessions that read more slowly than is published, in channels that say that the latest values
//! are enough: each is set aside when much waits for it, and comes back when it has read that.

use std::sync::Arc;

use super::super::Shard;
use crate::config::SlowReader;
use crate::hub::run::Run;
use crate::hub::topics::Aside;
use crate::io::{Io, Key};
use crate::realtime::protocol::codes::Unsubscribe;
use crate::realtime::topic;

/// A session that is no member of a channel for a while.
pub(super) struct SetAside {
    key: Key,
    channel: Arc<str>,
    aside: Aside,
}

impl<I: Io> Shard<I> {
    /// Much waits for a session.
    pub(in crate::shard) fn set_aside(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key.index) else { return };
        let effective = self.effective.clone();
        let mut set_aside = Vec::new();
        for subscription in &session.subscriptions {
            let Ok(options) = effective.channels.options(&subscription.channel) else { continue };
            if options.slow != SlowReader::Latest {
                continue;
            }
            let name = topic::publications(&subscription.channel);
            let aside = self.topics.set_aside(key.index, &name, options.key_from.as_ref());
            let channel = subscription.channel.clone();
            set_aside.extend(aside.map(|aside| SetAside { key, channel, aside }));
        }
        if !set_aside.is_empty() {
            self.stats().sessions_set_aside.add(set_aside.len() as u64);
            self.sessions.aside.extend(set_aside);
            self.sessions.look_again_at.get_or_insert(self.now + 1);
        }
    }

    /// Makes those members again who have read what they were sent.
    pub(super) fn bring_back(&mut self) {
        if self.sessions.aside.is_empty() {
            return;
        }
        let most = self.backlog_bytes() / BACK_AT;
        for SetAside { key, channel, aside } in std::mem::take(&mut self.sessions.aside) {
            let Some(connection) = self.connections.get(key) else {
                self.topics.give_up(aside);
                continue;
            };
            if connection.outbox.bytes() > most {
                self.sessions.aside.push(SetAside { key, channel, aside });
                continue;
            }
            // With as much more it has no more than half of what may wait for it.
            match self.topics.come_back(key.index, aside, most) {
                Ok((missed, still)) => {
                    let still = still.map(|aside| SetAside { key, channel, aside });
                    self.sessions.aside.extend(still);
                    let missed = missed.into_iter().map(|message| Run::new(message, None));
                    self.queue_held(key, missed.collect());
                    self.settle(key);
                }
                Err(_) => self.end_subscription(key, &channel, Unsubscribe::INSUFFICIENT_STATE),
            }
        }
        if !self.sessions.aside.is_empty() {
            self.sessions.look_again_at.get_or_insert(self.now + 1);
        }
    }

    /// A session does not come back to a channel, or to any.
    pub(super) fn give_up_aside(&mut self, key: Key, channel: Option<&str>) {
        let is_meant = |it: &mut SetAside| {
            it.key == key && channel.is_none_or(|channel| *it.channel == *channel)
        };
        let gone: Vec<_> = self.sessions.aside.extract_if(.., is_meant).collect();
        gone.into_iter().for_each(|it| self.topics.give_up(it.aside));
    }
}

/// A session comes back when this part of what may wait for it waits.
const BACK_AT: usize = 4;
