//! Passwords that requests show, checked against the list of `--basic-users`.
//!
//! To check one takes a core for tens of milliseconds by intent. So neither a shard nor the control
//! thread does that but a few threads beside, of low priority, and what was right is remembered for
//! a while: whoever comes back costs next to nothing. What was wrong is not, so that guesses stay
//! as slow as they are meant to be and push nothing out.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::SystemRandom;
use rustix::process::nice;
use tokio::sync::mpsc;

use super::consultations::{Asked, Judged};
use super::standing::Standing;
use crate::identity::{
    Credentials, Denial, Grants, Identity, Judgement, Login, NEVER_S, PasswordVerdict, Passwords,
};
use crate::shard::inquiries::INQUIRIES_MOST;
use crate::stats::family::{Family, Kind, Unit};
use crate::stats::{Counter, Histogram};

/// How passwords have fared.
#[derive(Debug, Default)]
pub(super) struct LoginEnds {
    right: Counter,
    remembered: Counter,
    wrong: Counter,
    unknown_user: Counter,
    late: Counter,
    time: Histogram<8>,
}

impl LoginEnds {
    /// The same for a monitoring system.
    pub(super) fn families(&self) -> [Family; 2] {
        let help =
            "Passwords that were shown, by what came of them; late ones had no turn in time.";
        let family = Family::by_reason(
            "passwords",
            help,
            [
                ("right", self.right.value()),
                ("remembered", self.remembered.value()),
                ("wrong", self.wrong.value()),
                ("unknown_user", self.unknown_user.value()),
                ("late", self.late.value()),
            ],
        );
        let help = "How long a thread has taken to check a password.";
        let name = "password_check_duration";
        let time = Family::new(name, Kind::Histogram, Some(Unit::Seconds), help)
            .with_counts(Vec::new(), self.time.counts());
        [family, time]
    }
}

/// Whoever has passwords checked.
pub(super) struct Logins {
    standing: Arc<Standing>,
    key: hmac::Key,
    remembered: Remembered,
    /// Those whose turn has not come.
    waiting: VecDeque<Asked>,
    waiting_most: usize,
    judged: mpsc::Sender<Judged>,
    under_way: usize,
    threads: Threads,
    checked: mpsc::Receiver<Checked>,
}

/// The threads that check; there are none before they are needed.
struct Threads {
    most: usize,
    jobs: Option<SyncSender<Job>>,
    checked: mpsc::Sender<Checked>,
}

struct Job {
    asked: Asked,
    login: Login,
    passwords: Arc<Passwords>,
}

struct Checked {
    job: Job,
    verdict: PasswordVerdict,
    took: Duration,
}

impl Logins {
    /// Has as many threads as suit so many shards, and tells `judged` what comes of each.
    ///
    /// # Errors
    /// When there is no random number.
    pub(super) fn new(
        standing: Arc<Standing>,
        judged: mpsc::Sender<Judged>,
    ) -> Result<Self, Unspecified> {
        let shards = standing.shared.stats.shards();
        let most = (shards / SHARDS_A_THREAD).clamp(1, THREADS_MOST);
        let (has_checked, checked) = mpsc::channel(most);
        Ok(Self {
            standing,
            key: hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())?,
            remembered: Remembered::default(),
            waiting: VecDeque::new(),
            waiting_most: shards * INQUIRIES_MOST,
            judged,
            under_way: 0,
            threads: Threads { most, jobs: None, checked: has_checked },
            checked,
        })
    }

    /// Has passwords checked for as long as the server runs.
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Asked>) {
        loop {
            tokio::select! {
                asked = asked.recv() => match asked {
                    Some(asked) => self.take(asked).await,
                    None => return,
                },
                Some(checked) = self.checked.recv() => self.take_verdict(checked).await,
            }
            while self.under_way < self.threads.most
                && let Some(asked) = self.waiting.pop_front()
            {
                self.check(asked).await;
            }
        }
    }

    /// Lets somebody wait, unless that one is remembered.
    async fn take(&mut self, asked: Asked) {
        if let Some(asked) = self.answer_remembered(asked).await {
            while let Some(late) = self.waiting.pop_front_if(|asked| is_late(asked, &self.standing))
            {
                self.standing.logins.late.add(1);
                self.answer(late, Judgement::Unknown).await;
            }
            match self.waiting.len() < self.waiting_most {
                true => self.waiting.push_back(asked),
                // The shards have given up some of those that wait.
                false => self.answer(asked, Judgement::Unknown).await,
            }
        }
    }

    /// Begins to check a password, unless nobody waits for that any more.
    async fn check(&mut self, asked: Asked) {
        let settings = self.standing.shared.in_force.current();
        if is_late(&asked, &self.standing) {
            self.standing.logins.late.add(1);
            return self.answer(asked, Judgement::Unknown).await;
        }
        // Somebody else may have shown the same meanwhile.
        let Some(mut asked) = self.answer_remembered(asked).await else { return };
        let login = asked.consultation.inquiry.login.take();
        let is_taken = settings.config.identity.basic_users.is_some();
        let Some(login) = login.filter(|_| is_taken) else {
            return self.answer(asked, Judgement::Unknown).await;
        };
        let passwords = settings.trust.passwords.clone();
        let sent = match self.threads.jobs() {
            Ok(jobs) => jobs.try_send(Job { asked, login, passwords }),
            Err(error) => {
                tracing::warn!(%error, "no password can be checked: there is no thread for it");
                return self.answer(asked, Judgement::Unknown).await;
            }
        };
        match sent {
            Ok(()) => self.under_way += 1,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                debug_assert!(false, "they have no more to do than they are");
                self.answer(job.asked, Judgement::Unknown).await;
            }
        }
    }

    async fn take_verdict(&mut self, checked: Checked) {
        let Checked { job: Job { asked, login, passwords }, verdict, took } = checked;
        self.under_way -= 1;
        let ends = &self.standing.logins;
        ends.time.observe(took.as_micros() as u64);
        let (counter, judgement) = match verdict {
            PasswordVerdict::Right => (&ends.right, consent(&login)),
            PasswordVerdict::Wrong => (&ends.wrong, Judgement::Denied(Denial::default())),
            PasswordVerdict::UnknownUser => {
                (&ends.unknown_user, Judgement::Denied(Denial::default()))
            }
        };
        counter.add(1);
        if verdict == PasswordVerdict::Right
            && let Some(tag) = self.tag(&login, &passwords)
        {
            self.remembered.add(tag, Instant::now());
        }
        self.answer(asked, judgement).await;
    }

    /// Answers somebody whose password is known to be right, and gives back anybody else.
    async fn answer_remembered(&mut self, asked: Asked) -> Option<Asked> {
        let settings = self.standing.shared.in_force.current();
        let login = asked.consultation.inquiry.login.as_ref();
        let known = login.filter(|login| {
            let tag = self.tag(login, &settings.trust.passwords);
            tag.is_some_and(|tag| self.remembered.has(&tag, Instant::now()))
        });
        let Some(login) = known else { return Some(asked) };
        let judgement = consent(login);
        self.standing.logins.remembered.add(1);
        self.answer(asked, judgement).await;
        None
    }

    /// What stands for a password and the hash that it was checked against, so that it is not that
    /// of another list; nothing where the user has none.
    fn tag(&self, login: &Login, passwords: &Passwords) -> Option<Tag> {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [login.user(), passwords.hash_of(login.user())?, login.password()] {
            context.update(&part.len().to_le_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().try_into().ok()
    }

    async fn answer(&self, asked: Asked, judgement: Judgement) {
        let consultation = asked.consultation;
        let judged = Judged { place: consultation.answer, key: consultation.key, judgement };
        // Where nobody takes it, because the control thread ends, it is dropped.
        let _ = self.judged.send(judged).await;
    }
}

/// Whether nobody waits for an answer any more.
fn is_late(asked: &Asked, standing: &Standing) -> bool {
    let settings = standing.shared.in_force.current();
    asked.since.elapsed() >= settings.config.backend.timeout
}

/// Whoever has shown the right password. What that one may do is told by another list.
fn consent(login: &Login) -> Judgement {
    let user = Some(login.user().into());
    let identity = Identity { user, token_id: None, expires_s: NEVER_S };
    Judgement::Allowed(Credentials { identity, grants: Grants::default() })
}

impl Threads {
    /// Where they get passwords to check, no more at a time than they are.
    fn jobs(&mut self) -> io::Result<&SyncSender<Job>> {
        let jobs = match self.jobs.take() {
            Some(jobs) => jobs,
            None => self.spawn()?,
        };
        Ok(self.jobs.insert(jobs))
    }

    /// Starts them: all, or as many as there can be.
    fn spawn(&mut self) -> io::Result<SyncSender<Job>> {
        let (sender, jobs) = sync_channel(self.most);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..self.most {
            let (jobs, checked) = (jobs.clone(), self.checked.clone());
            let builder = thread::Builder::new().name("passwords".to_owned());
            match builder.spawn(move || check_passwords(&jobs, &checked)) {
                Ok(_) => {}
                Err(error) if number == 0 => return Err(error),
                Err(_) => {
                    self.most = number;
                    break;
                }
            }
        }
        Ok(sender)
    }
}

/// Checks one password after the other, until nobody has any more.
fn check_passwords(jobs: &Mutex<Receiver<Job>>, checked: &mpsc::Sender<Checked>) {
    // The shards come first. Where that is not possible it is not needed, either.
    let _ = nice(NICE);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let begun = Instant::now();
        let verdict = job.passwords.check(&job.login);
        let took = begun.elapsed();
        if checked.blocking_send(Checked { job, verdict, took }).is_err() {
            return;
        }
    }
}

type Tag = [u8; 32];

/// What stands for passwords that were right, until when. All are remembered for as long, so those
/// that are first are over first.
#[derive(Default)]
struct Remembered {
    until: HashMap<Tag, Instant>,
    order: VecDeque<Tag>,
}

impl Remembered {
    fn has(&self, tag: &Tag, now: Instant) -> bool {
        self.until.get(tag).is_some_and(|until| now < *until)
    }

    fn add(&mut self, tag: Tag, now: Instant) {
        while let Some(first) = self.order.front() {
            let is_over = !self.has(first, now);
            if !is_over && self.order.len() < REMEMBERED_MOST {
                break;
            }
            self.until.remove(first);
            self.order.pop_front();
        }
        if self.until.insert(tag, now + REMEMBERED_FOR).is_none() {
            self.order.push_back(tag);
        }
    }
}

/// For so many shards there is one thread that checks passwords.
const SHARDS_A_THREAD: usize = 4;
/// And no more than these.
const THREADS_MOST: usize = 4;
/// By how much their priority is lower (setpriority(2)).
const NICE: i32 = 10;
/// How long a password is known to be right.
const REMEMBERED_FOR: Duration = Duration::from_secs(5 * 60);
/// Passwords that are remembered, about 100 bytes each.
const REMEMBERED_MOST: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_in_time_and_number() {
        let tag = |number: usize| {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&number.to_le_bytes());
            tag
        };
        let (mut remembered, begin) = (Remembered::default(), Instant::now());
        let one = Duration::from_millis(1);
        remembered.add(tag(0), begin);
        assert!(remembered.has(&tag(0), begin + REMEMBERED_FOR - one));
        assert!(!remembered.has(&tag(0), begin + REMEMBERED_FOR));
        assert!(!remembered.has(&tag(1), begin));
        // Whoever comes later takes the place of those who are over.
        remembered.add(tag(1), begin + REMEMBERED_FOR);
        assert_eq!((remembered.until.len(), remembered.order.len()), (1, 1));
        let later = begin + REMEMBERED_FOR + one;
        (2..REMEMBERED_MOST + 2).for_each(|number| remembered.add(tag(number), later));
        assert_eq!(
            (remembered.until.len(), remembered.order.len()),
            (REMEMBERED_MOST, REMEMBERED_MOST)
        );
        assert!(!remembered.has(&tag(1), later) && remembered.has(&tag(2), later));
        // Twice the same at once is one.
        remembered.add(tag(REMEMBERED_MOST + 1), later + one);
        assert_eq!(remembered.until.len(), remembered.order.len());
    }
}
