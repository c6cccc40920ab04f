//! Requests about which somebody else is asked: by the control thread, as a shard waits for nobody.
//!
//! A request that is to be asked about waits in a line until there is room for another inquiry, and
//! is decided on once more then, which makes the inquiry. That goes to the control thread by mail,
//! with the place of its answer; meanwhile the input of the connection waits, and nothing is
//! received. What is asked ends once: by its answer, or by its deadline, after which nobody knows.
//! Then the request is decided on for the last time. Whoever waits for longer than a request may
//! take is refused as others are, and an answer that comes later meets nobody.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::connections::{Connection, Marks};
use super::mail::Letter;
use super::pause::WaitsFor;
use super::pending::{Pending, PendingKey};
use super::receive::SHARE_MOST;
use super::timers::Tick;
use super::{Shard, ticks_in};
use crate::config::PeerAddress;
use crate::hub::inbox::{NoPlace, Place};
use crate::identity::{Inquiry, JUDGEMENT_BYTES, Judgement};
use crate::io::{Io, Key};

/// What the control thread is to ask, with the place of the answer.
pub struct Consultation {
    /// By which the shard knows the answer.
    pub key: PendingKey,
    /// What is asked.
    pub inquiry: Inquiry,
    /// Where the answer goes; it was taken for [`JUDGEMENT_BYTES`].
    pub answer: Place<Letter>,
}

/// What a shard has others asked.
pub(super) struct Inquiries {
    /// Connections about whose requests somebody is asked.
    pending: Pending<Key>,
    /// Those that wait for that.
    line: VecDeque<Key>,
    /// Those whose answers have come.
    judged: VecDeque<Key>,
    /// What the answers are, until the requests are decided on.
    judgements: HashMap<Key, Judgement>,
    /// When those that wait go on although no answer has come: there was no place for an inquiry.
    look_again_at: Option<Tick>,
}

impl Default for Inquiries {
    fn default() -> Self {
        Self {
            pending: Pending::new(INQUIRIES_MOST),
            line: VecDeque::new(),
            judged: VecDeque::new(),
            judgements: HashMap::new(),
            look_again_at: None,
        }
    }
}

impl Inquiries {
    /// Takes what was said about the request of a connection, which may be gone.
    pub(super) fn judgement_of(&mut self, key: Key) -> Option<Judgement> {
        // Mostly there is none, and most connections are no requests.
        if self.judgements.is_empty() { None } else { self.judgements.remove(&key) }
    }

    /// Keeps it after all if nobody has looked at it, as the request has to wait once more.
    pub(super) fn put_back(&mut self, key: Key, judgement: Option<Judgement>) {
        self.judgements.extend(judgement.map(|judgement| (key, judgement)));
    }

    /// Whether there is something to go on with at once.
    pub(super) fn has_work(&self) -> bool {
        !self.judged.is_empty() || self.may_ask() && !self.line.is_empty()
    }

    /// When there is something to do next, whatever happens.
    pub(super) fn next_tick(&self) -> Option<Tick> {
        self.pending.next_tick().into_iter().chain(self.look_again_at).min()
    }

    fn may_ask(&self) -> bool {
        self.pending.len() < INQUIRIES_MOST && self.look_again_at.is_none()
    }
}

impl<I: Io> Shard<I> {
    /// A request waits for a judgement: asks for it, or has it wait until that can be done.
    pub(super) fn await_judgement(&mut self, key: Key) {
        let inquiry = self.output.inquiry.take();
        match inquiry {
            Some(inquiry) if self.inquiries.may_ask() => self.inquire(key, *inquiry),
            _ => {
                self.inquiries.line.push_back(key);
                self.forget_who_has_gone();
            }
        }
    }

    /// Those who have gone meanwhile are in the line no more than those who are there: with nobody
    /// to answer, it would grow for ever.
    fn forget_who_has_gone(&mut self) {
        if self.inquiries.line.len() > 2 * self.connections.len() {
            let mut line = std::mem::take(&mut self.inquiries.line);
            line.retain(|key| self.awaits_judgement(*key));
            self.inquiries.line = line;
        }
    }

    fn inquire(&mut self, key: Key, mut inquiry: Inquiry) {
        let address = self.peers.address(key.index);
        inquiry.client = inquiry.client.or(address.and_then(PeerAddress::ip));
        inquiry.is_secure = self.connections.get(key).is_some_and(|it| it.has(Marks::SECURED));
        let bytes = size_of::<Consultation>() + inquiry.held_bytes();
        let control = self.shared.stats.shards();
        let places = self
            .endpoint
            .take_place(self.number, JUDGEMENT_BYTES)
            .and_then(|answer| Ok((answer, self.endpoint.take_place(control, bytes as u32)?)));
        match places {
            Ok((answer, place)) => {
                let wait = self.effective.config.backend.timeout + SLACK;
                let Ok(key) = self.inquiries.pending.insert(key, self.now + ticks_in(wait)) else {
                    debug_assert!(false, "there is room");
                    return;
                };
                let consultation = Consultation { key, inquiry, answer };
                self.endpoint.post(place, Letter::Consultation(Box::new(consultation)));
                self.stats().inquiries.add(1);
            }
            // Nobody tells when there is a place.
            Err(NoPlace::Full) => {
                self.inquiries.line.push_front(key);
                self.inquiries.look_again_at = Some(self.now + 1);
            }
            // This shard, or the whole server, is about to end.
            Err(NoPlace::Closed) => self.judge(key, Judgement::Unknown),
        }
    }

    /// An answer has come; perhaps too late.
    pub(super) fn take_judgement(&mut self, key: PendingKey, judgement: Judgement) {
        if let Some(key) = self.inquiries.pending.end(key) {
            self.judge(key, judgement);
        }
    }

    fn judge(&mut self, key: Key, judgement: Judgement) {
        if self.awaits_judgement(key) {
            self.inquiries.judgements.insert(key, judgement);
            self.inquiries.judged.push_back(key);
        }
    }

    /// Whether a request of this connection waits for a judgement.
    pub(super) fn awaits_judgement(&self, key: Key) -> bool {
        let waits = |it: &Connection| it.waits_for == Some(WaitsFor::Judgement);
        self.connections.get(key).is_some_and(waits)
    }

    /// Lets the requests go on that have been judged, and then as many others be asked about as
    /// there is room for.
    pub(super) fn go_on_with_inquiries(&mut self) {
        for key in self.inquiries.pending.expire(self.now) {
            self.judge(key, Judgement::Unknown);
        }
        if self.inquiries.look_again_at.is_some_and(|tick| tick <= self.now) {
            self.inquiries.look_again_at = None;
        }
        for _ in 0..self.inquiries.judged.len() {
            let Some(key) = self.inquiries.judged.pop_front() else { break };
            self.resume_if(key, WaitsFor::Judgement, SHARE_MOST);
        }
        for _ in 0..INQUIRIES_MOST {
            if !self.inquiries.may_ask() {
                return;
            }
            let Some(key) = self.inquiries.line.pop_front() else { return };
            self.resume_if(key, WaitsFor::Judgement, SHARE_MOST);
        }
    }

    /// Those who wait for judgements, once for each reason.
    pub(super) fn waiting_for_judgement(&self) -> Vec<Key> {
        let Inquiries { pending, line, judged, .. } = &self.inquiries;
        let waits = |key: &Key| self.awaits_judgement(*key);
        let asked = pending.values().chain(line).chain(judged);
        asked.copied().filter(waits).collect()
    }
}

/// Inquiries of a shard at a time: each holds a place of its inbox, most of which are for others.
/// Few in debug builds, so that tests see some wait.
pub const INQUIRIES_MOST: usize = if cfg!(debug_assertions) { 2 } else { 16 };
/// What mail may take beyond the time that an answer may take.
const SLACK: Duration = Duration::from_millis(500);
