//! What is due in a session: to connect, pings and their answers, and what expires.

use std::time::Duration;

use super::super::timers::Tick;
use super::super::{Shard, ticks_in};
use crate::config::Realtime;
use crate::identity::NEVER_S;
use crate::io::{Io, Key};
use crate::realtime::protocol::codes::{Disconnect, Unsubscribe};
use crate::realtime::session::{Refresh, Traits};

impl<I: Io> Shard<I> {
    pub(super) fn session_ticks(&self, time: impl Fn(&Realtime) -> Duration) -> Tick {
        ticks_in(time(&self.effective.config.realtime))
    }

    /// Ticks until something is due in a session.
    pub(in crate::shard) fn session_left(&self, key: Key) -> Option<Tick> {
        let session = self.sessions.get(key.index)?;
        let settings = &self.effective.config.realtime;
        let expires_s = session.next_expiry_s(
            settings.expired_close_delay.as_secs(),
            settings.expired_sub_close_delay.as_secs(),
        );
        let expiry = (expires_s != NEVER_S).then(|| self.ticks_until(expires_s));
        let own = session.next_tick().map(|at| at.saturating_sub(self.now));
        own.into_iter().chain(expiry).min()
    }

    /// Something is due in a session.
    pub(in crate::shard) fn session_due(&mut self, key: Key) {
        let (now, now_s) = (self.now, self.seconds_of_day());
        let settings = self.effective.config.realtime.clone();
        let Some(session) = self.sessions.get_mut(key.index) else { return };
        if session.is_overdue(now) && session.is_waiting {
            // Nothing is received of it while it waits for others, so it is not to blame.
            let more = match session.has_connected() {
                true => settings.pong_timeout,
                false => settings.stale_close_delay,
            };
            session.answer_later(now + ticks_in(more));
        } else if session.is_overdue(now) {
            let is_connected = session.has_answered();
            let disconnect = if is_connected { Disconnect::NO_PONG } else { Disconnect::STALE };
            return self.disconnect(key, disconnect);
        }
        let is_over = |at: u64, delay: Duration| at.saturating_add(delay.as_secs()) <= now_s;
        let is_asked_about = match session.refresh {
            Refresh::ByClient if is_over(session.expires_s, settings.expired_close_delay) => {
                return self.disconnect(key, Disconnect::CONNECTION_EXPIRED);
            }
            Refresh::ByHook => session.expires_s <= now_s,
            Refresh::ByClient | Refresh::Asked => false,
        };
        let expired = session.subscriptions.iter().filter(|it| match it.traits {
            traits if traits.contains(Traits::REFRESHING) => false,
            traits if traits.contains(Traits::REFRESHED_BY_HOOK) => it.expires_s <= now_s,
            _ => is_over(it.expires_s, settings.expired_sub_close_delay),
        });
        let expired: Vec<_> = expired.map(|it| (it.channel.clone(), it.traits)).collect();
        if session.is_ping_due(now) {
            let next = now + ticks_in(settings.ping_interval);
            session.pinged(next, now + ticks_in(settings.pong_timeout));
            self.ping(key);
            self.stats().pings_out.add(1);
        }
        if is_asked_about {
            self.ask_about_session(key);
        }
        for (channel, traits) in expired {
            if traits.contains(Traits::REFRESHED_BY_HOOK) {
                self.ask_about_subscription(key, &channel);
                continue;
            }
            if traits.contains(Traits::SERVER_SIDE) {
                return self.disconnect(key, Disconnect::SUBSCRIPTION_EXPIRED);
            }
            self.end_subscription(key, &channel, Unsubscribe::SUBSCRIPTION_EXPIRED);
        }
        self.schedule_open(key);
    }
}
