//! What holds for a channel, and who may do what with it.
//!
//! A name is ASCII. `NAME:` at its beginning is the namespace whose options hold; `$` before that
//! has everybody show a token of the channel; and what follows the last `#` lists the users for
//! whom it is, with commas between them.

use std::collections::HashMap;

use super::patterns::{self, is_pattern};
use super::protocol::codes::ErrorCode;
use super::tokens::Overrides;
use crate::config::{ChannelOptions, DataFormat, NAMESPACE_END, Realtime};

/// All channels that there may be, by their options.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    unnamed: ChannelOptions,
    namespaces: HashMap<Box<str>, ChannelOptions>,
    /// Bytes of the name of a channel at the most.
    bytes_most: usize,
    /// What precedes the user in the name of a personal channel; `None` where there are none.
    personal_prefix: Option<String>,
}

/// Why somebody may not do something with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no such namespace.
    UnknownChannel,
    /// Somebody else may, or with a token.
    PermissionDenied,
    /// No channel can have this name, or its publications not this data.
    BadRequest,
    /// The options of the channel have no such thing.
    NotAvailable,
}

impl From<Denied> for ErrorCode {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::UnknownChannel => Self::UnknownChannel,
            Denied::PermissionDenied => Self::PermissionDenied,
            Denied::BadRequest => Self::BadRequest,
            Denied::NotAvailable => Self::NotAvailable,
        }
    }
}

impl Channels {
    /// The channels of these settings.
    pub fn new(settings: &Realtime) -> Self {
        let namespaces = settings.namespaces.iter();
        let prefix = || match &settings.personal_namespace {
            Some(name) => format!("{}{NAMESPACE_END}{USERS_BEGIN}", name.text()),
            None => USERS_BEGIN.to_string(),
        };
        Self {
            unnamed: settings.channels.clone(),
            namespaces: namespaces.map(|it| (it.name.text().into(), it.options.clone())).collect(),
            bytes_most: usize::from(settings.channel_bytes_most),
            personal_prefix: settings.has_personal_channels.then(prefix),
        }
    }

    /// What holds for a channel.
    ///
    /// # Errors
    /// [`Denied::UnknownChannel`] where its namespace is not in the settings, and
    /// [`Denied::BadRequest`] where the name is empty, too long, that of a pattern, or not of
    /// visible ASCII and spaces.
    pub fn options(&self, channel: &str) -> Result<&ChannelOptions, Denied> {
        if is_pattern(channel) { Err(Denied::BadRequest) } else { self.options_of_any(channel) }
    }

    /// What holds for a pattern, which is within one namespace.
    ///
    /// # Errors
    /// As those of channels, and [`Denied::BadRequest`] for what is no pattern.
    pub fn options_of_pattern(&self, pattern: &str) -> Result<&ChannelOptions, Denied> {
        if patterns::is_valid(pattern) && is_pattern(pattern) {
            self.options_of_any(pattern)
        } else {
            Err(Denied::BadRequest)
        }
    }

    fn options_of_any(&self, channel: &str) -> Result<&ChannelOptions, Denied> {
        if !(1..=self.bytes_most).contains(&channel.len()) {
            return Err(Denied::BadRequest);
        }
        let options = match namespace(channel) {
            None => &self.unnamed,
            Some(name) => self.namespaces.get(name).ok_or(Denied::UnknownChannel)?,
        };
        match channel.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            true => Ok(options),
            false => Err(Denied::BadRequest),
        }
    }

    /// The channel of one user alone, to which a connection of that user is subscribed; `None`
    /// where there are none, for those who are nobody (an empty `user`), and for a user whose name
    /// would list several users or none.
    pub fn personal_channel(&self, user: &str) -> Option<String> {
        let prefix = self.personal_prefix.as_ref()?;
        if user.is_empty() || user.contains([USERS_BEGIN, USERS_SEPARATE]) {
            return None;
        }
        let channel = format!("{prefix}{user}");
        self.options(&channel).is_ok().then_some(channel)
    }
}

/// The namespace that a channel is in, if its name has one.
pub fn namespace(channel: &str) -> Option<&str> {
    let name = channel.strip_prefix(TOKEN_BEGINS).unwrap_or(channel);
    name.split_once(NAMESPACE_END).map(|(namespace, _)| namespace)
}

/// What a channel, or a pattern, shares with all of its namespace: how their names begin. Those
/// that need a token are apart from those that do not.
pub fn domain(channel: &str) -> &str {
    channel.find(NAMESPACE_END).map_or("", |end| &channel[..=end])
}

/// Whether nobody subscribes to this channel without a token of it.
pub fn is_token_required(channel: &str) -> bool {
    channel.starts_with(TOKEN_BEGINS)
}

/// The users whom the name of a channel lists, if it lists users.
pub fn user_limited(channel: &str) -> Option<impl Iterator<Item = &str>> {
    let (_, users) = channel.rsplit_once(USERS_BEGIN)?;
    Some(users.split(USERS_SEPARATE).filter(|user| !user.is_empty()))
}

/// Who wants to do something with a channel.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The name of the user; empty for those who are nobody.
    pub user: &'a str,
    /// Whether everybody may do everything.
    pub is_insecure: bool,
    /// Whether the connection has subscribed to the channel.
    pub is_subscribed: bool,
}

impl Asker<'_> {
    /// Whether options allow something, which they do for users, for subscribers and, where it is
    /// allowed to one of those, for the nameless among them.
    fn has(&self, to_users: bool, to_subscribers: bool, to_nameless: bool) -> bool {
        let may_one = to_users || (to_subscribers && self.is_subscribed);
        self.is_insecure || (may_one && (!self.user.is_empty() || to_nameless))
    }

    fn may_read_history(&self, options: &ChannelOptions) -> bool {
        self.has(
            options.allow_history_for_client,
            options.allow_history_for_subscriber,
            options.allow_history_for_anonymous,
        )
    }

    fn may_see_presence(&self, options: &ChannelOptions) -> bool {
        self.has(
            options.allow_presence_for_client,
            options.allow_presence_for_subscriber,
            options.allow_presence_for_anonymous,
        )
    }
}

/// Whether a backend decides who may subscribe to a channel with these options, of those who have
/// no token of it. A channel that lists users is for those alone, whatever a backend would say.
pub fn asks_who_may_subscribe(options: &ChannelOptions, channel: &str) -> bool {
    options.subscribe_proxy_enabled
        && !is_token_required(channel)
        && user_limited(channel).is_none()
}

/// Whether somebody may subscribe to a channel with these options; `has_token` says that a valid
/// token of this channel was shown.
///
/// A channel that lists users is for those alone, and only where the options allow it; that every
/// user may subscribe does not concern it.
///
/// # Errors
/// [`Denied::PermissionDenied`].
pub fn may_subscribe(
    options: &ChannelOptions,
    channel: &str,
    asker: &Asker<'_>,
    has_token: bool,
) -> Result<(), Denied> {
    let is_allowed = match user_limited(channel) {
        _ if has_token => true,
        _ if is_token_required(channel) => false,
        _ if asker.is_insecure => true,
        Some(mut users) => {
            options.allow_user_limited_channels && users.any(|user| user == asker.user)
        }
        None => {
            options.allow_subscribe_for_client
                && (!asker.user.is_empty() || options.allow_subscribe_for_anonymous)
        }
    };
    permitted(is_allowed)
}

/// Whether somebody may subscribe to a pattern of channels with these options, and so to all of
/// them that it matches; `has_token` says that a valid token of the pattern as it is written was
/// shown. Channels that list users, or need a token, are matched by those patterns alone that say
/// so, and these need a token themselves.
///
/// # Errors
/// [`Denied::PermissionDenied`].
pub fn may_subscribe_to_pattern(
    options: &ChannelOptions,
    pattern: &str,
    asker: &Asker<'_>,
    has_token: bool,
) -> Result<(), Denied> {
    let is_for_few = is_token_required(pattern) || user_limited(pattern).is_some();
    let is_named = !asker.user.is_empty() || options.allow_subscribe_for_anonymous;
    let may_all = asker.is_insecure || options.allow_wildcard_subscribe && is_named;
    permitted(has_token || !is_for_few && may_all)
}

/// What the data of a publication is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    Empty,
    /// A JSON text.
    Json,
    /// Anything else.
    Other,
}

/// Whether this may be published to a channel with these options, whoever does it.
///
/// # Errors
/// [`Denied::BadRequest`] for data that is empty or has another format than the options demand.
pub fn fits(options: &ChannelOptions, data: Data) -> Result<(), Denied> {
    let is_json_missing = options.publication_data_format == DataFormat::Json && data != Data::Json;
    match data == Data::Empty || is_json_missing {
        true => Err(Denied::BadRequest),
        false => Ok(()),
    }
}

/// Whether somebody may publish this to a channel with these options.
///
/// # Errors
/// [`Denied::BadRequest`] for data that is empty or has another format than the options demand,
/// [`Denied::PermissionDenied`].
pub fn may_publish(options: &ChannelOptions, asker: &Asker<'_>, data: Data) -> Result<(), Denied> {
    fits(options, data)?;
    permitted(asker.has(
        options.allow_publish_for_client,
        options.allow_publish_for_subscriber,
        options.allow_publish_for_anonymous,
    ))
}

/// Whether somebody may ask who has subscribed to a channel with these options, or how many have.
///
/// # Errors
/// [`Denied::NotAvailable`] where that is not kept, [`Denied::PermissionDenied`].
pub fn may_see_presence(options: &ChannelOptions, asker: &Asker<'_>) -> Result<(), Denied> {
    match options.presence {
        true => permitted(asker.may_see_presence(options)),
        false => Err(Denied::NotAvailable),
    }
}

/// Whether somebody may ask what has been published to a channel with these options.
///
/// # Errors
/// [`Denied::NotAvailable`] where nothing is kept, [`Denied::PermissionDenied`].
pub fn may_read_history(options: &ChannelOptions, asker: &Asker<'_>) -> Result<(), Denied> {
    match options.has_history() {
        true => permitted(asker.may_read_history(options)),
        false => Err(Denied::NotAvailable),
    }
}

fn permitted(is_allowed: bool) -> Result<(), Denied> {
    if is_allowed { Ok(()) } else { Err(Denied::PermissionDenied) }
}

/// What a client asks for with its subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// That it is checked that nothing is missed.
    pub positioned: bool,
    /// That what is missed can be recovered.
    pub recoverable: bool,
    /// To be told who subscribes and who leaves.
    pub join_leave: bool,
}

/// What a subscription has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Whether its client is among those who have subscribed, for those who ask.
    pub has_presence: bool,
    /// Whether the others are told that its client has subscribed and leaves.
    pub is_announced: bool,
    /// Whether its client is told of others.
    pub hears_of_others: bool,
    /// Whether it is checked that nothing is missed.
    pub is_positioned: bool,
    /// Whether what is missed can be recovered.
    pub is_recoverable: bool,
}

/// What somebody who may subscribe gets of what was asked for, by the options of the channel and
/// what the token says instead. What is not allowed is left out, and nobody is told.
pub fn features(
    options: &ChannelOptions,
    overrides: Overrides,
    asker: &Asker<'_>,
    wishes: Wishes,
) -> Features {
    let subscriber = Asker { is_subscribed: true, ..*asker };
    let may_read_history = subscriber.may_read_history(options);
    let is_announced = overrides.join_leave.unwrap_or(options.join_leave);
    let hears_anyway = overrides.force_push_join_leave.unwrap_or(options.force_push_join_leave);
    let may_hear = options.join_leave && subscriber.may_see_presence(options);
    let is_recoverable = overrides.force_recovery.unwrap_or(options.force_recovery)
        || (wishes.recoverable && (options.allow_recovery || may_read_history));
    let is_positioned = overrides.force_positioning.unwrap_or(options.force_positioning)
        || (wishes.positioned && (options.allow_positioning || may_read_history));
    // Without a history there are no offsets to check, nor anything to recover.
    let has_history = options.has_history();
    Features {
        has_presence: overrides.presence.unwrap_or(options.presence),
        is_announced,
        hears_of_others: hears_anyway || (wishes.join_leave && may_hear),
        is_positioned: has_history && (is_positioned || is_recoverable),
        is_recoverable: has_history && is_recoverable,
    }
}

/// What has everybody show a token, at the beginning of the name of a channel.
const TOKEN_BEGINS: char = '$';
/// Behind the last of these the name of a channel lists users.
const USERS_BEGIN: char = '#';
const USERS_SEPARATE: char = ',';

#[cfg(test)]
mod tests;
