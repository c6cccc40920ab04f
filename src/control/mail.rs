//! The control thread's part of the mesh: it tells all shards, orders single ones to do something
//! and hears what has become of that.
//!
//! No wake-up is lost in the way that holds for every participant (see `hub::mesh`): whoever is
//! about to wait says so, and looks once more before it does.
//!
//! A shard gets one order at a time, and the place of its answer is taken before. So a shard that
//! hangs holds one place here, whatever is asked of it. What waits for an answer ends by that or by
//! its deadline, which withdraws the order; an answer that comes later meets nobody.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::{self, sleep};

use super::consultations::{Asked, Judged};
use super::hooks::{HookAnswered, HookAsked};
use super::states::STATES_MOST;
use crate::hub::inbox::NoPlace;
use crate::hub::mesh::Endpoint;
use crate::hub::{Departure, Message};
use crate::io::waker::{Bell, Waker};
use crate::realtime::hooks::Answer as HookAnswer;
use crate::shard::inquiries::INQUIRIES_MOST;
use crate::shard::mail::Letter;
use crate::shard::orders::{Errand, OUTCOME_BYTES, Order, Outcome};
use crate::shard::pending::{Pending, PendingKey};
use crate::shard::timers::{TICK_MS, Tick};
use crate::shard::{ChannelStates, HOOKS_MOST};

/// What the control thread and the shards say to each other.
pub(super) struct Mail {
    endpoint: Endpoint<Message, Letter>,
    waker: Waker,
    questions: mpsc::Receiver<Question>,
    /// What waits for an answer, or for its order to be sent.
    pending: Pending<Waiting>,
    unsent: VecDeque<Unsent>,
    /// What the ring has had no room for: few, as [`is_full`](Self::is_full) holds back others.
    unpublished: VecDeque<(Message, usize)>,
    /// Where inquiries of the shards go.
    asked: mpsc::Sender<Asked>,
    /// The same for those that show a password.
    logins: mpsc::Sender<Asked>,
    /// What comes of them.
    judged: mpsc::Receiver<Judged>,
    /// Where hooks of sessions go.
    hooks: mpsc::Sender<HookAsked>,
    /// What is answered to them.
    answered: mpsc::Receiver<HookAnswered>,
    /// What has happened to channels, and how much of that had no room.
    states: mpsc::Sender<ChannelStates>,
    states_lost: u64,
    /// The same by shards, until there is a place for it: no more than shards have asked.
    untold: Vec<Vec<(PendingKey, HookAnswer)>>,
    /// The order that each shard has not answered, be anybody waiting for that or not.
    orders: Vec<Option<PendingKey>>,
    start: Instant,
}

/// Where the shards can be asked, by any task of this thread.
#[derive(Clone)]
pub(super) struct Dispatch(mpsc::Sender<Question>);

/// What the shards want asked, and where what was said goes.
pub(super) struct Consultations {
    pub(super) asked: mpsc::Receiver<Asked>,
    /// Those that show a password.
    pub(super) logins: mpsc::Receiver<Asked>,
    pub(super) judged: mpsc::Sender<Judged>,
    /// Hooks of sessions.
    pub(super) hooks: mpsc::Receiver<HookAsked>,
    /// Where their answers go.
    pub(super) answered: mpsc::Sender<HookAnswered>,
    /// What has happened to channels.
    pub(super) states: mpsc::Receiver<ChannelStates>,
}

/// What a shard will have to say.
pub(super) struct Answer(oneshot::Receiver<Result<Outcome, NoAnswer>>);

/// An errand for a shard, and who wants to know what becomes of it.
struct Question {
    shard: usize,
    errand: Errand,
    answer: oneshot::Sender<Result<Outcome, NoAnswer>>,
}

/// Why a shard has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It did not within [`ANSWER_TIMEOUT`].
    Late,
    /// It takes no orders any more.
    Gone,
}

struct Waiting {
    answer: oneshot::Sender<Result<Outcome, NoAnswer>>,
    withdrawn: Arc<AtomicBool>,
}

/// An order that has not been sent, because its shard has one, or for want of a place.
struct Unsent {
    key: PendingKey,
    shard: usize,
    errand: Errand,
    withdrawn: Arc<AtomicBool>,
}

impl Mail {
    /// Mail by `endpoint` with so many `shards`, which `waker` wakes; where to ask them, and what
    /// they want asked.
    pub(super) fn new(
        mut endpoint: Endpoint<Message, Letter>,
        waker: Waker,
        shards: usize,
    ) -> (Self, Dispatch, Consultations) {
        endpoint.stop_reading_rings();
        let (asking, questions) = mpsc::channel(QUESTIONS_WAITING);
        // There is room for all that are under way.
        let inquiries = shards * INQUIRIES_MOST;
        let (asked, to_ask) = mpsc::channel(inquiries);
        let (logins, to_check) = mpsc::channel(inquiries);
        let (has_judged, judged) = mpsc::channel(inquiries);
        let hooks = shards * HOOKS_MOST;
        let (has_hooks, hooks_to_ask) = mpsc::channel(hooks);
        let (has_states, states) = mpsc::channel(STATES_MOST);
        let (has_answered, answered) = mpsc::channel(hooks);
        let mail = Self {
            endpoint,
            waker,
            questions,
            pending: Pending::new(QUESTIONS_MOST),
            unsent: VecDeque::new(),
            unpublished: VecDeque::new(),
            asked,
            logins,
            judged,
            hooks: has_hooks,
            answered,
            states: has_states,
            states_lost: 0,
            untold: (0..shards).map(|_| Vec::new()).collect(),
            orders: vec![None; shards],
            start: Instant::now(),
        };
        let consultations = Consultations {
            asked: to_ask,
            logins: to_check,
            judged: has_judged,
            hooks: hooks_to_ask,
            answered: has_answered,
            states,
        };
        (mail, Dispatch(asking), consultations)
    }

    /// The bell that shards ring; see [`Waker::bell`].
    ///
    /// # Errors
    /// When there cannot be one.
    pub(super) fn bell(&self) -> io::Result<Bell> {
        self.waker.bell()
    }

    /// Tells all shards to drain.
    pub(super) fn publish_drain(&mut self, departure: Departure) {
        self.publish(Message::Drain(departure), 0);
        // All of them, not only those who wait for a message: a shard that has failed could wake
        // nobody who waits for it.
        self.endpoint.take_wakeups().for_each(drop);
        self.wake_all();
    }

    /// Tells all shards something that holds so many bytes, as soon as the ring has room.
    pub(super) fn publish(&mut self, message: Message, bytes: usize) {
        self.unpublished.push_back((message, bytes));
        self.publish_waiting();
    }

    /// Whether something waits for room in the ring.
    pub(super) fn is_full(&self) -> bool {
        !self.unpublished.is_empty()
    }

    fn publish_waiting(&mut self) {
        while let Some((message, bytes)) = self.unpublished.pop_front() {
            if let Err(message) = self.endpoint.publish(message, bytes) {
                self.unpublished.push_front((message, bytes));
                return;
            }
        }
    }

    /// Wakes all shards.
    pub(super) fn wake_all(&mut self) {
        (0..self.orders.len()).for_each(|shard| self.waker.wake(shard));
    }

    /// Wakes one shard; whether the kernel had the memory to tell it. Otherwise it is told later.
    pub(super) fn wake(&mut self, shard: usize) -> bool {
        self.waker.wake(shard);
        !self.waker.owes_to(shard)
    }

    /// Sends the wake-ups that are still owed, as nobody will do so later.
    pub(super) fn settle(&mut self) {
        self.waker.settle();
    }

    /// Waits until there is something to [go on](Self::go_on) with.
    ///
    /// # Errors
    /// When it cannot be told.
    pub(super) async fn wait(&mut self, bell: &Bell) -> io::Result<()> {
        if !self.endpoint.prepare_sleep() {
            // The other tasks of this thread have their turn.
            yield_now().await;
            return Ok(());
        }
        let has_room = self.pending.len() < QUESTIONS_MOST;
        let pause = self.pause();
        tokio::select! {
            result = bell.rings() => result,
            Some(question) = self.questions.recv(), if has_room => {
                self.take_question(question);
                Ok(())
            }
            Some(judged) = self.judged.recv() => {
                self.tell(judged);
                Ok(())
            }
            Some(answered) = self.answered.recv() => {
                self.note_answer(answered);
                Ok(())
            }
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => Ok(()),
        }
    }

    /// Does what can be done now: takes letters, ends what has waited for long enough, and sends
    /// what is to be sent.
    pub(super) fn go_on(&mut self) {
        self.endpoint.awake();
        self.waker.go_on();
        for _ in 0..LETTERS_AT_ONCE {
            let Some(letter) = self.endpoint.next_letter() else { break };
            match letter {
                Letter::Outcome(key, outcome) => self.take_outcome(key, *outcome),
                Letter::Consultation(consultation) => {
                    let asked = Asked { consultation: *consultation, since: time::Instant::now() };
                    // A place that is dropped is free again, and the shard waits for no longer than
                    // it would anyhow.
                    let shows_password = asked.consultation.inquiry.login.is_some();
                    let to = if shows_password { &self.logins } else { &self.asked };
                    let _ = to.try_send(asked);
                }
                Letter::HookCall(call) => {
                    // There is room for all that shards may have asked. What they have given up may
                    // be under way still, and then nobody waits for this either for long.
                    let since = time::Instant::now();
                    let _ = self.hooks.try_send(HookAsked { call: *call, since });
                }
                Letter::ChannelStates(states) => self.pass_on(*states),
                _ => debug_assert!(false, "nothing else is sent to the control thread"),
            }
        }
        while let Ok(judged) = self.judged.try_recv() {
            self.tell(judged);
        }
        while let Ok(answered) = self.answered.try_recv() {
            self.note_answer(answered);
        }
        self.tell_answers();
        for Waiting { answer, withdrawn } in self.pending.expire(self.now()) {
            // Relaxed: nothing is published along with it.
            withdrawn.store(true, Ordering::Relaxed);
            let _ = answer.send(Err(NoAnswer::Late));
        }
        for unsent in std::mem::take(&mut self.unsent) {
            self.send(unsent);
        }
        self.publish_waiting();
        let waker = &mut self.waker;
        self.endpoint.take_wakeups().for_each(|shard| waker.wake(shard));
    }

    fn take_outcome(&mut self, key: PendingKey, outcome: Outcome) {
        for order in self.orders.iter_mut().filter(|order| **order == Some(key)) {
            *order = None;
        }
        if let Some(Waiting { answer, .. }) = self.pending.end(key) {
            // Whoever has asked may have gone.
            let _ = answer.send(Ok(outcome));
        }
    }

    /// Tells a shard what was said about one of its requests.
    fn tell(&mut self, judged: Judged) {
        let Judged { place, key, judgement } = judged;
        self.endpoint.post(place, Letter::Judgement(key, Box::new(judgement)));
    }

    fn pass_on(&mut self, mut states: ChannelStates) {
        states.lost += std::mem::take(&mut self.states_lost);
        if let Err(unsent) = self.states.try_send(states) {
            let ChannelStates { events, lost } = unsent.into_inner();
            self.states_lost = lost + events.len() as u64;
        }
    }

    fn note_answer(&mut self, HookAnswered { shard, key, answer }: HookAnswered) {
        self.untold[shard].push((key, answer));
    }

    /// Tells each shard what was answered to its hooks, if it has a place for that.
    fn tell_answers(&mut self) {
        for shard in 0..self.untold.len() {
            if self.untold[shard].is_empty() {
                continue;
            }
            match self.endpoint.take_place(shard, HOOK_ANSWERS_BYTES) {
                Ok(place) => {
                    let answers = std::mem::take(&mut self.untold[shard]);
                    self.endpoint.post(place, Letter::HookAnswers(answers));
                }
                Err(NoPlace::Full) => {}
                Err(NoPlace::Closed) => self.untold[shard].clear(),
            }
        }
    }

    fn take_question(&mut self, question: Question) {
        let Question { shard, errand, answer } = question;
        let withdrawn = Arc::new(AtomicBool::new(false));
        let waiting = Waiting { answer, withdrawn: withdrawn.clone() };
        let deadline = self.now() + ANSWER_TICKS;
        let Ok(key) = self.pending.insert(waiting, deadline) else {
            debug_assert!(false, "there is room, or nothing is taken");
            return;
        };
        self.unsent.push_back(Unsent { key, shard, errand, withdrawn });
    }

    /// Sends an order, or keeps it for later.
    fn send(&mut self, unsent: Unsent) {
        let Unsent { key, shard, errand, withdrawn } = unsent;
        if withdrawn.load(Ordering::Relaxed) {
            return;
        }
        let bytes = size_of::<Order>() as u32 + errand.held_bytes();
        match self.endpoint.take_place(shard, bytes) {
            Err(NoPlace::Closed) => {
                if let Some(Waiting { answer, .. }) = self.pending.end(key) {
                    let _ = answer.send(Err(NoAnswer::Gone));
                }
            }
            Ok(place)
                if self.orders[shard].is_none()
                    && let Ok(answer) = self.endpoint.take_place(self.own(), OUTCOME_BYTES) =>
            {
                self.orders[shard] = Some(key);
                let order = Order { errand, key, answer, withdrawn };
                self.endpoint.post(place, Letter::Order(Box::new(order)));
            }
            Ok(_) | Err(NoPlace::Full) => {
                self.unsent.push_back(Unsent { key, shard, errand, withdrawn });
            }
        }
    }

    /// The number of the control thread among the participants of the mesh: the last.
    fn own(&self) -> usize {
        self.orders.len()
    }

    /// How long to wait at the most, for deadlines and for what could not be sent.
    fn pause(&mut self) -> Option<Duration> {
        // Nobody tells that all have read what was published, which is freed then.
        let holds_messages = self.endpoint.reclaim() > 0;
        let has_untold = self.untold.iter().any(|answers| !answers.is_empty());
        let must_retry =
            self.waker.owes() || !self.unsent.is_empty() || holds_messages || has_untold;
        let retry = must_retry.then_some(RETRY_PAUSE);
        let deadline = self.pending.next_tick().map(|tick| {
            let until = Duration::from_millis((u64::from(tick) + 1) * TICK_MS);
            until.saturating_sub(self.start.elapsed())
        });
        retry.into_iter().chain(deadline).min()
    }

    fn now(&self) -> Tick {
        (self.start.elapsed().as_millis() / u128::from(TICK_MS)) as Tick
    }
}

impl Dispatch {
    /// Has a shard run an errand.
    pub(super) async fn ask(&self, shard: usize, errand: Errand) -> Answer {
        let (answer, answered) = oneshot::channel();
        // Where nobody takes the question, because the control thread ends, it is dropped.
        let _ = self.0.send(Question { shard, errand, answer }).await;
        Answer(answered)
    }
}

impl Answer {
    /// Waits for it, for [`ANSWER_TIMEOUT`] at the most.
    ///
    /// # Errors
    /// When the shard gives none.
    pub(super) async fn outcome(self) -> Result<Outcome, NoAnswer> {
        self.0.await.unwrap_or(Err(NoAnswer::Gone))
    }
}

/// Questions that wait for their answers at a time; more have to be asked later. Each call asks a
/// shard one at a time, and the calls are bounded by `CALLS_MOST` of the admin listener.
const QUESTIONS_MOST: usize = 1024;
/// Those that were asked and not yet taken.
const QUESTIONS_WAITING: usize = 16;
/// What the answers to hooks count in a letter, whatever they hold: that is bounded by how many a
/// shard waits for.
const HOOK_ANSWERS_BYTES: u32 = 16 << 10;
/// How long an answer is waited for, and the same in ticks.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TICKS: Tick = (ANSWER_TIMEOUT.as_millis() as u64 / TICK_MS) as Tick;
/// Letters taken before others have their turn.
const LETTERS_AT_ONCE: usize = 32;
/// Before what found no place, or no memory, is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
