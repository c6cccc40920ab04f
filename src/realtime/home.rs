//! The home of channels: what is published there in an order, what is kept of it, and who is there.
//!
//! Each channel that keeps something has one home among the shards, which a hash of its name says;
//! all others ask it. An answer names what is to be announced to subscribers with it, in the order
//! in which that has to be published.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::api::Glob;
use super::filter::Tags;
use super::log::{
    AppendOptions, Appended, Head, HistoryRules, Log, Position, ReadError, ReadRequest, Recovered,
    RecoveryMode,
};
use super::presence::{Presence, PresenceStats};
use super::protocol::codes::ErrorCode;
use super::protocol::{self, Encoding, Push, StreamPosition, encode_push};
use super::publication::{ClientInfo, Publication};
use super::{delta, topic};
use crate::config::{self, ChannelOptions};

/// What a home is asked, about one channel.
#[derive(Debug)]
pub enum Question {
    /// Somebody subscribes.
    Subscribe {
        /// Who it is.
        info: ClientInfo,
        /// Up to where it has got what was published, if it wants the rest.
        since: Option<StreamPosition>,
        /// Whether it is one of those who are there.
        is_present: bool,
        /// Whether others are told.
        is_announced: bool,
        /// Whether it gets differences, of which the first cannot be one.
        wants_deltas: bool,
    },
    /// A subscription has ended. Nobody waits for an answer.
    Leave {
        /// Whose it was.
        client: Arc<str>,
        /// Whether others are told.
        is_announced: bool,
    },
    /// Something is published.
    Publish {
        /// What it is; its offset is given here.
        publication: Publication,
        /// By what a repetition is known; empty where it is not.
        idempotency_key: Box<str>,
        /// Nothing is published unless it is above that of the one before; 0 for none.
        version: u64,
        /// Versions of others cannot be compared.
        version_epoch: Box<str>,
        /// Whether it is not to be kept.
        skips_history: bool,
        /// Whether it may be told by what it changes, as all may where the options say so.
        wants_delta: bool,
    },
    /// Who is there.
    Presence,
    /// How many are.
    PresenceStats,
    /// What was published.
    History {
        /// From where on.
        since: Option<StreamPosition>,
        /// How much is wanted at the most; all that there is if it is negative.
        limit: i32,
        /// Whether the newest come first.
        is_reverse: bool,
    },
    /// What was published is to be forgotten.
    RemoveHistory,
    /// What is there on a shard; no question about one channel.
    Census {
        /// Channels of these names.
        channels: Option<Glob>,
    },
}

/// What it answers.
#[derive(Debug)]
pub enum Answer {
    /// Somebody has subscribed.
    Subscribed {
        /// Where the stream stands, or where the subscriber stood if that is recovered.
        position: Head,
        /// Whether it gets all that it has missed.
        is_recovered: bool,
        /// What that is.
        publications: Vec<Arc<Publication>>,
    },
    /// It is published, and has this place.
    Published(Head),
    /// Those who are there.
    Presence(Vec<Arc<ClientInfo>>),
    /// How many they are.
    PresenceStats(PresenceStats),
    /// What was published.
    History {
        /// All that was asked for, as far as it is kept.
        publications: Vec<Arc<Publication>>,
        /// Where the stream stands.
        position: Head,
    },
    /// What is there.
    Census(Box<Census>),
    /// It is done.
    Done,
    /// It cannot be done.
    Refused(ErrorCode),
}

/// What is there on some shards.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Names the process.
    pub process: String,
    /// Sessions.
    pub clients: u64,
    /// Their users, by hash.
    pub users: HashSet<u64>,
    /// What they have subscribed to.
    pub subscriptions: u64,
    /// How many have subscribed to each channel.
    pub channels: BTreeMap<String, u64>,
    /// Seconds since the process began.
    pub uptime_s: u64,
}

impl Census {
    /// Adds what is there on another shard of the process.
    pub fn add(&mut self, other: Self) {
        (self.process, self.uptime_s) = (other.process, other.uptime_s);
        self.clients += other.clients;
        self.users.extend(other.users);
        self.subscriptions += other.subscriptions;
        for (channel, members) in other.channels {
            *self.channels.entry(channel).or_default() += members;
        }
    }
}

/// Something that members of a topic are to get.
#[derive(Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The name of the topic.
    pub topic: String,
    /// What they get, as a push in JSON; nothing where that cannot say it.
    pub push: Vec<u8>,
    /// By what those choose it who do not want all, if it is a publication.
    pub tags: Option<Tags>,
}

/// That a channel has got its first subscriber, or lost its last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateEvent {
    /// The channel.
    pub channel: Arc<str>,
    /// Whether somebody is there now.
    pub is_occupied: bool,
}

/// The channels whose home is one shard.
#[derive(Debug)]
pub struct Home {
    log: Log,
    presence: Presence,
    /// What has happened to channels that a backend hears of.
    events: Vec<StateEvent>,
}

impl Home {
    /// Nothing is kept yet, and no more than so many bytes of history will be.
    pub fn new(history_bytes: usize, seed: u64) -> Self {
        let (log, presence) = (Log::new(history_bytes, seed), Presence::new(history_bytes, 0));
        Self { log, presence, events: Vec::new() }
    }

    /// What has happened since this was asked last.
    pub fn take_events(&mut self) -> Vec<StateEvent> {
        std::mem::take(&mut self.events)
    }

    /// Forgets what has had its time, some of it in each call.
    pub fn advance(&mut self, now_ms: u64) {
        self.log.advance(now_ms, FORGOTTEN_AT_ONCE);
    }

    /// Its histories, to be handed over, or gone on with.
    pub fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Subscriptions whose clients are known to be there, of all channels.
    pub fn clients_present(&self) -> usize {
        self.presence.len()
    }

    /// Answers a question about a channel with these options, where clients may have so many
    /// publications at once. What is to be announced is shown to `announce`, in order.
    pub fn answer(
        &mut self,
        channel: &Arc<str>,
        options: &ChannelOptions,
        limits: Limits,
        question: Question,
        now_ms: u64,
        announce: &mut impl FnMut(Announcement),
    ) -> Answer {
        let rules = rules(options);
        match question {
            Question::Subscribe { info, since, is_present, is_announced, wants_deltas } => {
                let answer = self.subscribe(channel, options, limits, since, now_ms);
                if wants_deltas {
                    self.log.tell_next_in_full(channel);
                }
                if is_present {
                    let Ok(joined) = self.presence.join(channel, Arc::new(info.clone())) else {
                        return Answer::Refused(ErrorCode::LimitExceeded);
                    };
                    if joined.is_first && options.state_proxy_enabled {
                        let channel = channel.clone();
                        self.events.push(StateEvent { channel, is_occupied: true });
                    }
                    if joined.is_new && is_announced {
                        let push = Push::join((&info).into());
                        announce(Announcement::new(topic::joins(channel), channel, &push));
                    }
                }
                answer
            }
            Question::Leave { client, is_announced } => {
                let Some(left) = self.presence.leave(channel, &client, now_ms) else {
                    return Answer::Done;
                };
                if left.is_last && options.state_proxy_enabled {
                    let channel = channel.clone();
                    self.events.push(StateEvent { channel, is_occupied: false });
                }
                if is_announced {
                    let push = Push::leave((&*left.info).into());
                    announce(Announcement::new(topic::joins(channel), channel, &push));
                }
                Answer::Done
            }
            Question::Publish {
                publication,
                idempotency_key,
                version,
                version_epoch,
                skips_history,
                wants_delta,
            } => {
                let key = (!idempotency_key.is_empty()).then_some(&*idempotency_key);
                let version_epoch = &*version_epoch;
                let append = AppendOptions { idempotency_key: key, version, version_epoch };
                let rules = if skips_history { HistoryRules { size: 0, ..rules } } else { rules };
                match self.log.append(channel, publication, &rules, now_ms, append) {
                    Ok(Appended { offset, epoch, publication, previous }) => {
                        if let Some(publication) = publication {
                            if options.allowed_delta_types.is_some() {
                                let may_be_delta = options.delta_publish || wants_delta;
                                let previous = previous.filter(|_| may_be_delta);
                                let publication = delta_of(&publication, previous.as_deref());
                                let push = Push::Publication(publication);
                                announce(Announcement::new(topic::deltas(channel), channel, &push));
                            }
                            let mut publication = protocol::Publication::from(&*publication);
                            if offset == 1 {
                                // Those who have subscribed before there was anything learn it.
                                epoch.as_str().clone_into(&mut publication.epoch);
                            }
                            announce(Announcement::publication(channel, publication));
                        }
                        Answer::Published(Head { offset, epoch })
                    }
                    Err(_) => Answer::Refused(ErrorCode::Internal),
                }
            }
            Question::Presence | Question::PresenceStats if !options.presence => {
                Answer::Refused(ErrorCode::NotAvailable)
            }
            Question::Presence => {
                Answer::Presence(self.presence.clients(channel).cloned().collect())
            }
            Question::PresenceStats => Answer::PresenceStats(self.presence.stats(channel)),
            Question::History { .. } if !options.has_history() => {
                Answer::Refused(ErrorCode::NotAvailable)
            }
            Question::History { since, limit, is_reverse } => {
                let since = since.as_ref().map(position);
                let request = ReadRequest { since, limit: limit.into(), is_reverse };
                match self.log.read(channel, request, limits.history, &rules, now_ms) {
                    Ok(read) => Answer::History {
                        publications: within_bounds(read.publications, limits.bytes),
                        position: Head { offset: read.offset, epoch: read.epoch },
                    },
                    Err(ReadError::Unrecoverable) => {
                        Answer::Refused(ErrorCode::UnrecoverablePosition)
                    }
                    Err(ReadError::BadRequest) => Answer::Refused(ErrorCode::BadRequest),
                }
            }
            Question::Census { .. } => {
                debug_assert!(false, "a shard answers that");
                Answer::Refused(ErrorCode::Internal)
            }
            Question::RemoveHistory => {
                self.log.remove_history(channel);
                Answer::Done
            }
        }
    }

    fn subscribe(
        &mut self,
        channel: &Arc<str>,
        options: &ChannelOptions,
        limits: Limits,
        since: Option<StreamPosition>,
        now_ms: u64,
    ) -> Answer {
        let rules = rules(options);
        let Some(since) = since.filter(|_| rules.has_history()) else {
            let position = match rules.has_history() {
                true => self.log.position(channel, &rules, now_ms),
                false => Head { offset: 0, epoch: super::log::Epoch::NONE },
            };
            return Answer::Subscribed { position, is_recovered: false, publications: Vec::new() };
        };
        let mode = match options.force_recovery_mode {
            config::RecoveryMode::Stream => RecoveryMode::Stream,
            config::RecoveryMode::Cache => RecoveryMode::Cache,
        };
        let since = position(&since);
        let recovered = self.log.recover(channel, since, limits.recovery, mode, &rules, now_ms);
        let Recovered { is_recovered, publications, offset, epoch } = recovered;
        if bytes(&publications) > limits.bytes {
            // It would be more than waits for anybody else; the history has it, page by page.
            let position = self.log.position(channel, &rules, now_ms);
            return Answer::Subscribed { position, is_recovered: false, publications: Vec::new() };
        }
        Answer::Subscribed { position: Head { offset, epoch }, is_recovered, publications }
    }
}

impl Question {
    /// Memory that it takes beside itself.
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Subscribe { info, since, .. } => {
                info.held_bytes() + since.as_ref().map_or(0, |it| it.epoch.len())
            }
            Self::Publish { publication, idempotency_key, version_epoch, .. } => {
                publication.held_bytes() + idempotency_key.len() + version_epoch.len()
            }
            Self::History { since, .. } => since.as_ref().map_or(0, |it| it.epoch.len()),
            Self::Leave { .. }
            | Self::Presence
            | Self::PresenceStats
            | Self::RemoveHistory
            | Self::Census { .. } => 0,
        }
    }
}

impl Announcement {
    /// Something that was published to a channel.
    pub fn publication(channel: &str, publication: protocol::Publication) -> Self {
        let tags = Some(publication.tags.clone());
        let push = Push::Publication(publication);
        Self { tags, ..Self::new(topic::publications(channel), channel, &push) }
    }

    fn new(topic: String, channel: &str, push: &Push) -> Self {
        let mut bytes = Vec::new();
        encode_push(Encoding::Json, channel, push, &mut bytes);
        Self { topic, push: bytes, tags: None }
    }
}

/// How much clients may have at once: so many publications.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the history.
    pub history: usize,
    /// When they come back.
    pub recovery: usize,
    /// Bytes of all of them.
    pub bytes: usize,
}

/// A publication for those who get differences: what has changed since the one before, where that
/// is shorter. Either is a text in JSON.
fn delta_of(publication: &Publication, previous: Option<&Publication>) -> protocol::Publication {
    let full = publication.in_full();
    let text = |it: &Publication| it.is_json;
    let Some(previous) = previous.filter(|it| text(it) && text(publication)) else { return full };
    let delta = delta::create(&previous.data, &publication.data, true);
    match str::from_utf8(&delta) {
        Ok(text) if delta.len() < publication.data.len() => {
            let mut data = Vec::new();
            protocol::write_string(text, &mut data);
            protocol::Publication { data, delta: true, ..full }
        }
        _ => full,
    }
}

fn rules(options: &ChannelOptions) -> HistoryRules {
    let milliseconds = |time: std::time::Duration| time.as_millis() as u64;
    HistoryRules {
        size: options.history_size as usize,
        ttl_ms: milliseconds(options.history_ttl),
        meta_ttl_ms: milliseconds(options.history_meta_ttl),
    }
}

fn position(known: &StreamPosition) -> Position<'_> {
    Position { offset: known.offset, epoch: &known.epoch }
}

fn bytes(publications: &[Arc<Publication>]) -> usize {
    publications.iter().map(|it| it.data.len()).sum()
}

/// As many of these as an answer may have, and one at least: whoever asks goes on behind the last.
fn within_bounds(
    mut publications: Vec<Arc<Publication>>,
    bytes_most: usize,
) -> Vec<Arc<Publication>> {
    let mut bytes = 0;
    let fits = |it: &&Arc<Publication>| {
        bytes += it.data.len();
        bytes <= bytes_most
    };
    let fitting = publications.iter().take_while(fits).count();
    publications.truncate(fitting.max(1));
    publications
}

/// Streams that are looked at in one call.
const FORGOTTEN_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_so_many_bytes_or_one_publication() {
        let of = |bytes: usize| {
            Arc::new(Publication { data: vec![b' '; bytes].into(), ..Publication::default() })
        };
        assert_eq!(within_bounds(vec![of(33), of(33), of(33), of(33)], 100).len(), 3);
        assert_eq!(within_bounds(vec![of(200), of(1)], 100).len(), 1);
        assert!(within_bounds(Vec::new(), 100).is_empty());
    }
}
