//! Questions to the homes of channels, and their answers.
//!
//! A question to another shard goes by mail with the place of its answer; one to this shard is
//! answered at once. A question that finds no place waits with the session that asks, in a line;
//! what a home has to be told, and nobody waits for, is kept until there is a place.

use std::sync::Arc;
use std::time::Duration;

use super::super::mail::Letter;
use super::super::pending::PendingKey;
use super::super::{Shard, ticks_in};
use super::rules::Rule;
use super::subscribing::Subscribing;
use super::{ASKED_MOST, home_of};
use crate::hub::inbox::{NoPlace, Place};
use crate::hub::mesh::LETTER_BYTES_MAX;
use crate::hub::topics::HoldId;
use crate::io::{Io, Key};
use crate::realtime::home::{Announcement, Answer, Limits, Question};
use crate::realtime::protocol::codes::ErrorCode;
use crate::realtime::protocol::{HistoryResult, PresenceResult, PresenceStatsResult, ReplyBody};
use crate::realtime::topic;
use crate::wire::message::{DataMessage, MessageKind};

/// A question on its way to the home of a channel.
pub struct Ask {
    channel: Arc<str>,
    question: Question,
    /// Where the answer goes, and by what it is known there; nothing where nobody waits for it.
    answer: Option<(PendingKey, Place<Letter>)>,
}

/// An answer on its way back.
pub struct Answered {
    pub(super) answer: Answer,
    /// How many messages the home had sent to its broadcast ring by then.
    pub(super) position: u64,
}

impl Answered {
    /// No answer has come.
    fn unknown() -> Self {
        Self { answer: Answer::Refused(ErrorCode::Internal), position: 0 }
    }
}

/// What waits for an answer.
pub(super) struct Asked {
    pub(super) key: Key,
    pub(super) purpose: Purpose,
}

/// What becomes of an answer.
pub(super) enum Purpose {
    /// It is the reply to a command.
    Reply { id: u32 },
    /// It is for a call.
    Call,
    /// It begins a subscription.
    Subscribe { subscribing: Box<Subscribing>, hold: HoldId },
}

/// Something that a home has to be told, for which there was no place.
pub(super) struct Unsent {
    to: usize,
    letter: Unanswered,
}

/// What nobody waits for an answer to.
enum Unanswered {
    Ask(Arc<str>, Question),
    Rule(Arc<Rule>),
}

/// Where a question can go.
pub(super) enum Reserved {
    /// This shard is the home.
    Here,
    /// Another is, and both have a place.
    There { question: Place<Letter>, answer: Place<Letter> },
    /// That shard, or this, is about to end.
    Nowhere,
}

impl<I: Io> Shard<I> {
    /// The shard that is the home of a channel.
    pub(super) fn home_of(&self, channel: &str) -> usize {
        home_of(channel, self.shared.seed, self.shared.stats.shards())
    }

    /// Takes the places for a question of so many bytes about a channel, and for its answer; none
    /// where there are none now.
    pub(super) fn reserve(&self, channel: &str, bytes: usize) -> Option<Reserved> {
        self.reserve_at(self.home_of(channel), bytes)
    }

    /// The same for a question to a shard.
    pub(super) fn reserve_at(&self, home: usize, bytes: usize) -> Option<Reserved> {
        if home == self.number {
            return Some(Reserved::Here);
        }
        // What a home is told of those who have left must not be overtaken.
        if self.sessions.asked.len() >= ASKED_MOST || !self.sessions.unsent.is_empty() {
            return None;
        }
        let places = self.endpoint.take_place(self.number, ANSWER_BYTES).and_then(|answer| {
            let question = self.endpoint.take_place(home, bytes.min(QUESTION_BYTES_MOST) as u32)?;
            Ok(Reserved::There { question, answer })
        });
        match places {
            Ok(reserved) => Some(reserved),
            Err(NoPlace::Full) => None,
            Err(NoPlace::Closed) => Some(Reserved::Nowhere),
        }
    }

    /// Asks the home of a channel. What the answer is for happens perhaps before this returns.
    pub(super) fn ask(
        &mut self,
        key: Key,
        channel: &Arc<str>,
        question: Question,
        purpose: Purpose,
        reserved: Reserved,
    ) {
        let asked = Asked { key, purpose };
        match reserved {
            Reserved::Here => {
                let answered = self.answer_here(channel, question);
                self.answered(asked, answered);
            }
            Reserved::Nowhere => self.answered(asked, Answered::unknown()),
            Reserved::There { question: place, answer } => {
                let deadline = self.now + ticks_in(ANSWER_TIMEOUT);
                match self.sessions.asked.insert(asked, deadline) {
                    Ok(asked) => {
                        let answer = Some((asked, answer));
                        let ask = Ask { channel: channel.clone(), question, answer };
                        self.endpoint.post(place, Letter::Ask(Box::new(ask)));
                    }
                    Err(asked) => {
                        debug_assert!(false, "there was room when it was reserved");
                        self.answered(asked, Answered::unknown());
                    }
                }
            }
        }
    }

    /// Tells the home of a channel something, sooner or later.
    pub(super) fn tell_home(&mut self, channel: &Arc<str>, question: Question) {
        let home = self.home_of(channel);
        if home == self.number {
            self.answer_here(channel, question);
        } else {
            let letter = Unanswered::Ask(channel.clone(), question);
            self.sessions.unsent.push_back(Unsent { to: home, letter });
            self.send_unsent();
        }
    }

    /// Tells all shards a rule, this one at once.
    pub(super) fn tell_all(&mut self, rule: &Arc<Rule>) {
        for to in (0..self.shared.stats.shards()).filter(|to| *to != self.number) {
            let letter = Unanswered::Rule(rule.clone());
            self.sessions.unsent.push_back(Unsent { to, letter });
        }
        self.send_unsent();
        self.follow_rule(rule);
    }

    /// Has a session follow a rule in a later tick.
    pub(super) fn follow_later(&mut self, key: Key, rule: Arc<Rule>) {
        self.sessions.later.push_back((key, rule));
        self.sessions.look_again_at.get_or_insert(self.now + 1);
    }

    /// Whether a session has something to follow later, behind which everything else has to wait.
    pub(super) fn follows_later(&self, key: Key) -> bool {
        self.sessions.later.iter().any(|(later, _)| *later == key)
    }

    fn send_unsent(&mut self) {
        while let Some(Unsent { to, letter }) = self.sessions.unsent.pop_front() {
            let bytes = match &letter {
                Unanswered::Ask(_, question) => question.held_bytes(),
                Unanswered::Rule(_) => 0,
            };
            match self.endpoint.take_place(to, bytes as u32) {
                Ok(place) => {
                    let letter = match letter {
                        Unanswered::Ask(channel, question) => {
                            Letter::Ask(Box::new(Ask { channel, question, answer: None }))
                        }
                        Unanswered::Rule(rule) => Letter::Rule(rule),
                    };
                    self.endpoint.post(place, letter);
                }
                Err(NoPlace::Closed) => {}
                Err(NoPlace::Full) => {
                    // Nobody tells when there is one.
                    self.sessions.unsent.push_front(Unsent { to, letter });
                    self.sessions.look_again_at = Some(self.now + 1);
                    return;
                }
            }
        }
    }

    /// Another shard asks.
    pub(in crate::shard) fn take_ask(&mut self, ask: Ask) {
        let Ask { channel, question, answer } = ask;
        let answered = self.answer_here(&channel, question);
        if let Some((asked, place)) = answer {
            self.endpoint.post(place, Letter::Answered(asked, Box::new(answered)));
        }
    }

    /// The home of a channel has answered; perhaps too late.
    pub(in crate::shard) fn take_answer(&mut self, asked: PendingKey, answered: Answered) {
        if let Some(asked) = self.sessions.asked.end(asked) {
            self.answered(asked, answered);
        }
    }

    /// Answers as the home of a channel, and publishes what that brings.
    pub(super) fn answer_here(&mut self, channel: &Arc<str>, question: Question) -> Answered {
        let effective = self.effective.clone();
        let settings = &effective.config.realtime;
        let limits = Limits {
            history: settings.history_publications_most as usize,
            recovery: settings.recovery_publications_most as usize,
            bytes: (effective.config.limits.message_bytes as usize).max(ANSWER_BYTES_LEAST),
        };
        let now_ms = self.clock().as_millis() as u64;
        let mut announced = Vec::new();
        // What is published with the answer comes behind the position that it tells.
        let position = self.topics.published();
        if let Question::Census { channels } = &question {
            let answer = Answer::Census(Box::new(self.census(channels.as_ref())));
            return Answered { answer, position: 0 };
        }
        let answer = match effective.channels.options(channel) {
            Ok(options) => {
                let announce = &mut |it| announced.push(it);
                self.sessions.home.answer(channel, options, limits, question, now_ms, announce)
            }
            Err(denied) => Answer::Refused(denied.into()),
        };
        announced.into_iter().for_each(|it| self.announce(it));
        self.note_states();
        Answered { answer, position }
    }

    /// Publishes something that members of a channel are to get.
    pub(super) fn announce(&mut self, Announcement { topic, push, tags }: Announcement) {
        let message = DataMessage::new(MessageKind::Text, &push);
        if self.topics.has_derived()
            && let Some(tags) = tags
            && let Some(channel) = topic::channel_of(&topic)
        {
            let tags = (!tags.is_empty()).then(|| Arc::new(tags));
            let message = message.clone().into_shared();
            self.publish_to_derived(&topic::filterable(channel), &message, tags.as_ref());
            self.publish_to_derived(&topic::matched(channel), &message, None);
        }
        self.publish_by_name(&topic, message);
    }

    /// Acts on an answer.
    fn answered(&mut self, asked: Asked, answered: Answered) {
        let Asked { key, purpose } = asked;
        match purpose {
            Purpose::Reply { id } => {
                let body = reply_of(answered.answer);
                self.reply(key, id, &body);
                self.resume_session(key);
            }
            Purpose::Call => self.call_answered(key, answered.answer),
            Purpose::Subscribe { subscribing, hold } => {
                self.subscription_answered(key, subscribing, hold, answered);
            }
        }
    }

    /// What there is to do in each tick: answers that have not come, places to try for again, and
    /// those who are about to become members.
    pub(in crate::shard) fn go_on_with_sessions(&mut self) {
        if !self.effective.config.realtime.is_on {
            return;
        }
        for asked in self.sessions.asked.expire(self.now) {
            self.answered(asked, Answered::unknown());
        }
        let free = ASKED_MOST.saturating_sub(self.sessions.asked.len());
        let mut next = free.min(self.sessions.line.len());
        if self.sessions.look_again_at.is_some_and(|tick| tick <= self.now) {
            self.sessions.look_again_at = None;
            for (key, rule) in std::mem::take(&mut self.sessions.later) {
                self.follow_rule_alone(key, &rule);
            }
            self.bring_back();
            next = self.sessions.line.len();
        }
        self.send_unsent();
        for _ in 0..next {
            let Some(key) = self.sessions.line.pop_front() else { break };
            self.resume_session(key);
        }
        self.send_states();
        self.go_on_with_hooks();
        self.join_those_who_may();
        self.go_on_with_calls();
        self.sessions.home.advance(self.clock().as_millis() as u64);
    }

    /// The command of a session has to be done again when there may be a place.
    pub(super) fn try_again(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key.index) {
            session.is_waiting = true;
        }
        self.sessions.line.push_back(key);
        self.sessions.look_again_at.get_or_insert(self.now + 1);
    }
}

/// The reply that an answer makes.
fn reply_of(answer: Answer) -> ReplyBody {
    match answer {
        Answer::Published(_) => ReplyBody::Publish,
        Answer::Presence(clients) => ReplyBody::Presence(PresenceResult {
            presence: clients
                .into_iter()
                .map(|it| (it.client.to_string(), (&*it).into()))
                .collect(),
        }),
        Answer::PresenceStats(stats) => ReplyBody::PresenceStats(PresenceStatsResult {
            num_clients: stats.clients as u32,
            num_users: stats.users as u32,
        }),
        Answer::History { publications, position } => ReplyBody::History(HistoryResult {
            publications: publications.iter().map(|it| it.as_ref().into()).collect(),
            epoch: position.epoch.as_str().to_owned(),
            offset: position.offset,
        }),
        Answer::Refused(code) => ReplyBody::Error(code.into()),
        Answer::Done | Answer::Subscribed { .. } | Answer::Census(_) => {
            debug_assert!(false, "no command waits for this");
            ReplyBody::Error(ErrorCode::Internal.into())
        }
    }
}

/// What a question holds beside what is published with it, at the most.
pub(super) const QUESTION_BYTES: usize = 4 << 10;
/// What a question counts at the most, so that there is a place for the largest too; its session
/// has it in memory anyway.
const QUESTION_BYTES_MOST: usize = LETTER_BYTES_MAX as usize / 4;
/// What an answer may hold: publications are shared, and count where they are kept.
const ANSWER_BYTES: u32 = 4 << 10;
/// Bytes of publications that an answer may have however small messages have to be.
const ANSWER_BYTES_LEAST: usize = 1 << 20;
/// How long a home may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
