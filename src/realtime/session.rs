//! One client session: who it is, what it has subscribed to, and what it waits for. No socket; time
//! is an argument, in ticks of any length.

use std::collections::VecDeque;
use std::sync::Arc;

use bitflags::bitflags;

use super::channels::Features;
use super::filter::Filter;
use super::protocol::{Command, Encoding};
use super::publication::ClientInfo;
use crate::identity::{HeadFields, NEVER_S};

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its first command has not come, which has to connect it.
    Fresh,
    /// That command has come, and is not answered.
    Connecting,
    /// It may do everything that it is allowed to.
    Connected,
    /// It was not let in, and nothing it sends matters.
    Refused,
}

/// How a session goes on when its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Its client shows another token.
    ByClient,
    /// A backend is asked.
    ByHook,
    /// It has been asked, and has not answered.
    Asked,
}

bitflags! {
    /// What a subscription has been granted, and what it is.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Traits: u16 {
        /// The server has made it, so only the server ends it.
        const SERVER_SIDE = 1;
        /// Nothing of it may be lost without its client being told.
        const POSITIONED = 1 << 1;
        /// What it has missed may be had when it comes back.
        const RECOVERABLE = 1 << 2;
        /// It hears who comes and goes.
        const JOIN_LEAVE = 1 << 3;
        /// It gets differences to what was published before.
        const DELTA = 1 << 4;
        /// The home of the channel is asked.
        const KNOWN_AT_HOME = 1 << 5;
        /// It is kept there who it is.
        const PRESENT = 1 << 6;
        /// Others are told that it has come and goes.
        const ANNOUNCED = 1 << 7;
        /// A backend is asked whether it goes on when its time is over, instead of its client.
        const REFRESHED_BY_HOOK = 1 << 8;
        /// That is being asked.
        const REFRESHING = 1 << 9;
    }
}

impl Traits {
    /// What follows from what was granted in a channel that has a history, or has none.
    pub fn of(features: &Features, has_history: bool) -> Self {
        let mut traits = Self::empty();
        traits.set(Self::POSITIONED, features.is_positioned);
        traits.set(Self::RECOVERABLE, features.is_recoverable);
        traits.set(Self::JOIN_LEAVE, features.hears_of_others);
        traits.set(Self::PRESENT, features.has_presence);
        traits.set(Self::ANNOUNCED, features.is_announced);
        let is_known = features.has_presence || features.is_announced || has_history;
        traits.set(Self::KNOWN_AT_HOME, is_known);
        traits
    }
}

/// A channel that a session has subscribed to.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Its name.
    pub channel: Arc<str>,
    /// What was granted.
    pub traits: Traits,
    /// Which publications it wants, if it does not want all.
    pub filter: Option<Arc<Filter>>,
    /// What a token says of the subscriber there, as JSON; empty for nothing.
    pub info: Arc<[u8]>,
    /// When it ends unless it is refreshed, in seconds since 1970; [`NEVER_S`] for never.
    pub expires_s: u64,
}

/// What a session has beside, for those who are asked about it.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Fields of the upgrade, and those that its client has said instead.
    pub fields: HeadFields,
    /// What the application has to say of it to itself, as JSON.
    pub meta: Option<Box<[u8]>>,
}

/// The state of one session.
#[derive(Debug)]
pub struct Session {
    /// Its name among all sessions.
    pub client: Arc<str>,
    /// Who its user is; empty for anonymous ones.
    pub user: Arc<str>,
    /// What a token says of its user, as JSON; empty for nothing.
    pub info: Arc<[u8]>,
    /// How its messages are encoded.
    pub encoding: Encoding,
    /// How far it has come.
    pub phase: Phase,
    /// When the token ends by which it was let in, in seconds since 1970; [`NEVER_S`] for never.
    pub expires_s: u64,
    /// What it has subscribed to, in no order.
    pub subscriptions: Vec<Subscription>,
    /// Commands that have come and wait for those before them.
    pub commands: VecDeque<Command>,
    /// Whether the command before those waits for an answer from elsewhere.
    pub is_waiting: bool,
    /// Whether a backend is asked if it goes on when its time is over, and whether that is being
    /// done.
    pub refresh: Refresh,
    /// What backends are told of it, if there is anything.
    pub told: Option<Box<Told>>,
    /// When it has to have connected, or to have answered a ping.
    answer_by: Option<u32>,
    /// When the next ping is due.
    ping_at: Option<u32>,
}

impl Session {
    /// A session that has to connect by this tick.
    pub fn new(client: Arc<str>, encoding: Encoding, connect_by: u32) -> Self {
        Self {
            client,
            user: Arc::default(),
            info: Arc::default(),
            encoding,
            phase: Phase::Fresh,
            expires_s: NEVER_S,
            subscriptions: Vec::new(),
            commands: VecDeque::new(),
            is_waiting: false,
            refresh: Refresh::ByClient,
            told: None,
            answer_by: Some(connect_by),
            ping_at: None,
        }
    }

    /// Commands have come, which follow those before them.
    pub fn add_commands(&mut self, commands: Vec<Command>) {
        match self.commands.is_empty() {
            true => self.commands = commands.into(),
            false => self.commands.extend(commands),
        }
    }

    /// The next command to be done. With the last one goes the room for them: a session that is
    /// idle keeps none, however many it began with.
    pub fn next_command(&mut self) -> Option<Command> {
        let command = self.commands.pop_front();
        if self.commands.is_empty() {
            self.commands = VecDeque::new();
        }
        command
    }

    /// Backends are told these fields of it.
    pub fn tell(&mut self, fields: HeadFields) {
        if !fields.is_empty() {
            self.told.get_or_insert_default().fields = fields;
        }
    }

    /// The same of others, unless it has fields of these names.
    pub fn add_told(&mut self, fields: Vec<(Box<str>, Box<[u8]>)>) {
        let known = self.told.as_ref().map(|told| told.fields.clone()).unwrap_or_default();
        let is_new = |name: &str| !known.iter().any(|(other, _)| **other == *name);
        let fresh: Vec<_> = fields.into_iter().filter(|(name, _)| is_new(name)).collect();
        if !fresh.is_empty() {
            self.tell(known.iter().cloned().chain(fresh).collect());
        }
    }

    /// What the application has to say of it to itself, as JSON.
    pub fn meta(&self) -> Option<&[u8]> {
        self.told.as_ref()?.meta.as_deref()
    }

    /// The same from now on.
    pub fn set_meta(&mut self, meta: Option<Box<[u8]>>) {
        if meta.is_some() {
            self.told.get_or_insert_default().meta = meta;
        }
    }

    /// It has until this tick for what it owes, as it was not heard meanwhile.
    pub fn answer_later(&mut self, by: u32) {
        self.answer_by = Some(by);
    }

    /// It has connected; the first ping is due then, if there are any.
    pub fn connected(&mut self, ping_at: Option<u32>) {
        self.phase = Phase::Connected;
        (self.answer_by, self.ping_at) = (None, ping_at);
    }

    /// Whether it has connected.
    pub fn has_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// A ping is sent: the next is due at one tick, and an answer to this one until the other.
    pub fn pinged(&mut self, next_at: u32, answer_by: u32) {
        (self.ping_at, self.answer_by) = (Some(next_at), Some(answer_by));
    }

    /// The answer to a ping has come; whether there was one to answer.
    pub fn has_answered(&mut self) -> bool {
        self.phase == Phase::Connected && self.answer_by.take().is_some()
    }

    /// Whether what it owes has not come in time.
    pub fn is_overdue(&self, now: u32) -> bool {
        self.answer_by.is_some_and(|by| by <= now)
    }

    /// Whether a ping is due.
    pub fn is_ping_due(&self, now: u32) -> bool {
        self.ping_at.is_some_and(|at| at <= now)
    }

    /// The next tick at which something is due, but for what expires by the time of day.
    pub fn next_tick(&self) -> Option<u32> {
        self.answer_by.into_iter().chain(self.ping_at).min()
    }

    /// The next second since 1970 at which something expires that has not been refreshed by then:
    /// the session after one delay, and subscriptions after another, but what a backend is asked
    /// about at once; [`NEVER_S`] for never.
    pub fn next_expiry_s(&self, delay_s: u64, subscription_delay_s: u64) -> u64 {
        let own = match self.refresh {
            Refresh::ByClient => self.expires_s.saturating_add(delay_s),
            Refresh::ByHook => self.expires_s,
            Refresh::Asked => NEVER_S,
        };
        let of_subscription = |it: &Subscription| match it.traits {
            traits if traits.contains(Traits::REFRESHING) => NEVER_S,
            traits if traits.contains(Traits::REFRESHED_BY_HOOK) => it.expires_s,
            _ => it.expires_s.saturating_add(subscription_delay_s),
        };
        self.subscriptions.iter().map(of_subscription).fold(own, u64::min)
    }

    /// Its subscription to a channel.
    pub fn subscription(&self, channel: &str) -> Option<&Subscription> {
        self.subscriptions.iter().find(|it| &*it.channel == channel)
    }

    /// The same, to be changed.
    pub fn subscription_mut(&mut self, channel: &str) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|it| &*it.channel == channel)
    }

    /// Ends its subscription to a channel, and tells what that was.
    pub fn unsubscribe(&mut self, channel: &str) -> Option<Subscription> {
        let place = self.subscriptions.iter().position(|it| &*it.channel == channel)?;
        Some(self.subscriptions.swap_remove(place))
    }

    /// Itself as others see it who share a subscription of it.
    pub fn info_in(&self, subscription: &Subscription) -> ClientInfo {
        self.info_with(subscription.info.clone())
    }

    /// The same where it publishes to a channel, to which it need not have subscribed.
    pub fn publisher_in(&self, channel: &str) -> ClientInfo {
        let subscription = self.subscription(channel);
        self.info_with(subscription.map_or_else(Arc::default, |it| it.info.clone()))
    }

    fn info_with(&self, chan_info: Arc<[u8]>) -> ClientInfo {
        let (user, client) = (self.user.clone(), self.client.clone());
        ClientInfo { user, client, conn_info: self.info.clone(), chan_info }
    }
}
