//! The control plane: a thread of its own on `tokio-uring`, which answers signals, watches memory
//! and serves the admin listener. It talks to the shards through the mesh, as they do among
//! themselves, and never touches a connection of theirs.

mod admin;
mod capacity;
mod certificates;
mod connector;
mod consultations;
mod health;
mod histories;
mod hooks;
mod key_set;
mod logins;
mod mail;
mod metrics;
mod requester;
mod signals;
mod standing;
mod states;
mod takeover;

use std::fs::File;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use admin::AdminSocket;
pub use health::End;
pub use takeover::{Door, Takeover};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_uring::Runtime;

use capacity::SAMPLE_PERIOD;
use certificates::{RENEWAL_PERIOD, Renewals};
use consultations::Consultant;
use health::LOOK_PERIOD;
use histories::Histories;
use hooks::HookAsker;
use logins::Logins;
use mail::{Consultations, Dispatch, Mail};
use signals::{HANG_UP, StopSignals, no_more_signals};
use standing::Standing;
use takeover::{Request, Succession};

use crate::config::Config;
use crate::hub::mesh::Endpoint;
use crate::hub::topics::Publication;
use crate::hub::{Departure, Message};
use crate::io::waker::Waker;
use crate::memory::{Meter, Pressure, Usage, allocator};
use crate::output::{self, ACCESS_LOG, STANDARD_OUTPUT};
use crate::service_manager::ServiceManager;
use crate::settings::Layers;
use crate::shard::Shared;
use crate::shard::mail::Letter;
use crate::takeover::frame::Relayed;

/// The control thread's own part of the mesh.
pub struct Control {
    mail: Mail,
    dispatch: Dispatch,
    /// What the shards want asked, until somebody asks.
    consultations: Option<Consultations>,
    meter: Meter,
    /// When the last line about memory was logged.
    logged: Option<Instant>,
    /// Since when WebSockets have been refused.
    refusing_since: Option<Instant>,
    /// When shards were last asked to give back what they do not need.
    reminded: Option<Instant>,
    /// The ends of the shards' event loops, with their numbers. One that has failed asks for the
    /// end of the server.
    ends: mpsc::Receiver<(usize, End)>,
    manager: Arc<ServiceManager>,
    /// What it was told last of how the server fares.
    told: String,
    standing: Arc<Standing>,
    shared: Arc<Shared>,
    /// The task that accepts connections of the admin listener.
    admin: Option<AbortHandle>,
}

impl Control {
    /// A control plane that speaks through `endpoint`, wakes shards with `waker`, watches `meter`,
    /// drains when `ends` tells of a failure, tells `manager` how the server fares, and reads
    /// `layers` again when that is asked for.
    pub fn new(
        endpoint: Endpoint<Message, Letter>,
        waker: Waker,
        meter: Meter,
        ends: mpsc::Receiver<(usize, End)>,
        manager: Arc<ServiceManager>,
        shared: Arc<Shared>,
        layers: Layers,
    ) -> Self {
        let (mail, dispatch, consultations) = Mail::new(endpoint, waker, shared.stats.shards());
        let (logged, reminded, refusing_since) = (None, None, None);
        let standing = Arc::new(Standing::new(manager.clone(), shared.clone(), layers));
        let told = String::new();
        Self {
            mail,
            dispatch,
            consultations: Some(consultations),
            meter,
            logged,
            refusing_since,
            reminded,
            ends,
            manager,
            told,
            standing,
            shared,
            admin: None,
        }
    }

    /// Sees that there are descriptors for what [`run`](Self::run) needs, parts of which panic
    /// without, and for so many connections to the admin listener.
    ///
    /// # Errors
    /// When there are not.
    pub fn require_descriptors(admin_connections: usize) -> io::Result<()> {
        let open = |_| File::open("/dev/null");
        let needed = DESCRIPTORS + admin_connections;
        (0..needed).map(open).collect::<io::Result<Vec<_>>>().map(drop)
    }

    /// Answers signals until the process ends: SIGTERM, SIGINT and, unless it was ignored from the
    /// beginning, SIGHUP drain it, and a second one ends it at once, but SIGHUP has a server with a
    /// file of settings read them again, and one with an access log open that anew; SIGUSR1 prints
    /// the counters on standard output. Where memory has a limit, measures it again and again.
    /// Where there is an admin listener, serves it; where there is a service manager, tells it how
    /// the server fares. For either, watches that every shard ticks.
    ///
    /// # Errors
    /// When the signals cannot be caught, or come no more, or shards could not wake this thread, or
    /// the predecessor does not say before [`ready`](Self::run) that it passes on messages.
    /// The server, which nobody could stop then, drains as this is dropped.
    pub fn run(
        mut self,
        mut admin: Option<AdminSocket>,
        takeover: Option<Takeover>,
        ready: impl FnOnce(),
    ) -> io::Result<()> {
        let runtime = Runtime::new(&tokio_uring::builder())?;
        runtime.block_on(async move {
            let mut stops = StopSignals::new()?;
            let mut snapshot = signal(SignalKind::user_defined1())?;
            let bell = self.mail.bell()?;
            let mut pause = self.watch_memory();
            let watches_health = admin.is_some() || self.manager.is_there();
            let mut watchdog = self.manager.feeding_period().map(every);
            let mut status = self.manager.is_there().then(|| every(STATUS_PERIOD));
            let mut requests = None;
            let mut succession = None;
            if let Some(takeover) = takeover {
                let standing = self.standing.clone();
                let histories = Histories::new(self.dispatch.clone(), standing.clone());
                let (mut task, requested) = Succession::new(takeover, standing, histories)?;
                task.prepare().await.map_err(|error| {
                    io::Error::other(format!("the server to take over from: {error}"))
                })?;
                (requests, succession) = (Some(requested), Some(task));
            }
            let is_asked = admin.is_some();
            if !succession.as_ref().is_some_and(Succession::has_predecessor) {
                self.serve_admin(&mut admin)?;
            }
            let (mut look, mut sample) = (every(LOOK_PERIOD), every(SAMPLE_PERIOD));
            ready();
            if let Some(task) = succession {
                spawn_local(task.run());
            }
            let (mut renewal, mut renewals) = (every(RENEWAL_PERIOD), Renewals::default());
            spawn_local(key_set::keep(self.standing.clone()));
            if let Some(consultations) = self.consultations.take() {
                let Consultations { asked, logins, judged, hooks, answered, states } =
                    consultations;
                let checks = Logins::new(self.standing.clone(), judged.clone());
                spawn_local(checks.map_err(io::Error::other)?.run(logins));
                spawn_local(Consultant::new(self.standing.clone()).run(asked, judged));
                spawn_local(HookAsker::new(self.standing.clone()).run(hooks, answered));
                spawn_local(states::tell(self.standing.clone(), states));
            }
            let standing = self.standing.clone();
            let shared = self.shared.clone();
            let memory = &shared.memory;
            let mut is_asked_to_stop = false;
            loop {
                self.mail.go_on();
                let may_publish = !self.mail.is_full();
                tokio::select! {
                    result = self.mail.wait(&bell) => result?,
                    signal = snapshot.recv() => {
                        signal.ok_or_else(no_more_signals)?;
                         STANDARD_OUTPUT.write(format!("{}\n", standing.report()).into_bytes());
                    }
                    Some((shard, end)) = self.ends.recv() => {
                        self.standing.ended(shard, end);
                        if end == End::Failed {
                            self.drain();
                        }
                    }
                    () = standing.have_settings_changed() => pause = self.heed_settings(),
                    () = standing.is_asked_to_drain() => self.drain_for("POST /drain"),
                    request = next(&mut requests), if may_publish => match request {
                        Request::WakeAll => self.mail.wake_all(),
                        Request::Publish(relayed) => self.publish(relayed),
                        Request::TakeOver => {
                            self.serve_admin(&mut admin)?;
                            self.manager.takes_over();
                        }
                        Request::Yield(begun) => {
                            self.yield_to_successor();
                            let _ = begun.send(());
                        }
                    },
                    _ = look.tick() => {
                        self.shared.stats.look_at_clock();
                        if watches_health {
                            self.look_at_shards();
                        }
                    }
                    _ = sample.tick(), if is_asked => standing.sample_capacity(),
                    _ = renewal.tick() => renewals.look(&standing),
                    () = due(&mut status) => self.tell_how_the_server_fares(),
                    () = due(&mut watchdog) => self.feed_watchdog(),
                    () = memory.is_to_be_given_back() => allocator::give_back(),
                    name = stops.next() => {
                        let name = name?;
                        if name == HANG_UP && standing.has_files() {
                            // The log has told what is wrong.
                            let _ = standing.reload();
                            continue;
                        }
                        if name == HANG_UP && standing.has_access_log() {
                            ACCESS_LOG.reopen();
                            continue;
                        }
                        if std::mem::replace(&mut is_asked_to_stop, true) {
                            tracing::warn!(signal = name, "second signal: ending at once");
                            output::flush();
                            std::process::exit(ENDED_AT_ONCE);
                        }
                        self.drain_for(name);
                    }
                    () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {
                        pause = self.watch_memory();
                    }
                }
            }
        })
    }

    /// Begins to serve the admin listener, if there is one.
    fn serve_admin(&mut self, admin: &mut Option<AdminSocket>) -> io::Result<()> {
        if let Some(admin) = admin.take() {
            let task = admin.serve(self.standing.clone(), self.dispatch.clone())?;
            self.admin = Some(task);
        }
        Ok(())
    }

    /// Publishes what the other server of a hand-over has passed on.
    fn publish(&mut self, Relayed { topic, message }: Relayed) {
        let bytes = message.frame_bytes();
        let at_us = self.shared.stats.start().elapsed().as_micros() as u32;
        let publication = Publication { topic: topic.into(), message, tags: None, at_us };
        self.mail.publish(Message::Publish(publication), bytes);
    }

    /// Another server goes on with the listeners: accepts nothing any more, and drains unless that
    /// has begun.
    fn yield_to_successor(&mut self) {
        self.manager.falls_silent();
        if let Some(admin) = self.admin.take() {
            admin.abort();
        }
        self.tell_of_drain("successor");
        self.standing.begin_to_drain();
        self.mail.publish_drain(Departure::Succeeded);
    }

    /// Drains, and tells the log who has asked for it.
    fn drain_for(&mut self, who: &str) {
        self.tell_of_drain(who);
        self.drain();
    }

    fn tell_of_drain(&self, by: &str) {
        let window = self.shared.in_force.current().config.drain;
        let open = self.shared.stats.websockets_and_streams_open();
        tracing::info!(by, ?window, open, "draining");
    }

    fn drain(&mut self) {
        if self.standing.begin_to_drain() {
            return;
        }
        let Config { drain, limits, .. } = &self.shared.in_force.current().config;
        self.manager.stops(*drain + limits.close_timeout + STOP_MARGIN, &self.standing.summary());
        self.mail.publish_drain(Departure::Stopped);
    }

    /// Other settings are in force: tells the shards, and measures by the limit of memory that
    /// holds now; returns when to do so again.
    fn heed_settings(&mut self) -> Option<Duration> {
        let limit_bytes = self.shared.in_force.current().config.limits.memory_bytes;
        self.meter.limit_resident(limit_bytes);
        self.mail.wake_all();
        self.watch_memory()
    }

    /// Wakes the shards that have not ticked for a while: those that sleep will.
    fn look_at_shards(&mut self) {
        for shard in self.standing.look() {
            if self.mail.wake(shard) {
                self.standing.woken(shard);
            }
        }
    }

    /// Tells the service manager what has changed since it was told last.
    fn tell_how_the_server_fares(&mut self) {
        let summary = self.standing.summary();
        if summary != self.told {
            self.manager.fares(&summary);
            self.told = summary;
        }
    }

    /// Keeps the service manager from ending the process, but not while a shard hangs: to start
    /// anew is all that helps then. A shard that has failed has the others drain.
    fn feed_watchdog(&self) {
        if !self.standing.hangs() {
            self.manager.feed_watchdog();
        }
    }

    /// Measures memory and tells the shards what they have to know; returns when to do so again:
    /// never when there can be no limit.
    fn watch_memory(&mut self) -> Option<Duration> {
        let before = self.shared.memory.signal().pressure();
        if before > Pressure::Calm {
            allocator::give_back();
        }
        let usages = match self.meter.measure() {
            Ok(usages) => usages,
            Err(error) => {
                if self.may_log() {
                    tracing::warn!(%error, "memory cannot be measured; what was last known holds");
                }
                return Some(PAUSE);
            }
        };
        // A limit may have been lifted, and then nothing is short.
        let usage = Usage::tightest(&usages).unwrap_or_default();
        let has_refused_long =
            self.refusing_since.is_some_and(|since| since.elapsed() >= REFUSED_AT_MOST);
        let is_news = match has_refused_long {
            true => self.shared.memory.tell_of_standing_refusal(usage),
            false => self.shared.memory.tell(usage),
        };
        match self.shared.memory.signal().pressure() {
            Pressure::Calm => self.refusing_since = None,
            Pressure::Refuse | Pressure::Shed => {
                self.refusing_since.get_or_insert_with(Instant::now);
            }
        }
        let must_remind = usage.reaches(WORTH_A_REMINDER_PERCENT)
            && self.reminded.is_none_or(|at| at.elapsed() >= BETWEEN_REMINDERS);
        if !is_news && must_remind {
            self.shared.memory.remind();
            self.reminded = Some(Instant::now());
        }
        if is_news || must_remind {
            let after = self.shared.memory.signal().pressure();
            if before != after && self.may_log() {
                let (used, limit) = (usage.used_bytes, usage.limit_bytes);
                tracing::warn!(used, limit, pressure = after.name(), "memory");
            }
            self.mail.wake_all();
        }
        let Some(spare_bytes) = usages.iter().map(|usage| usage.spare_bytes()).min() else {
            return (!self.meter.is_empty()).then_some(PAUSE_UNLIMITED);
        };
        Some(match self.shared.memory.signal().pressure() {
            Pressure::Shed => PAUSE,
            Pressure::Refuse | Pressure::Calm => {
                self.time_to_fill(spare_bytes).clamp(PAUSE_CLOSE, PAUSE)
            }
        })
    }

    /// Whether a line about memory is due; under attack there would be many in a second.
    fn may_log(&mut self) -> bool {
        let is_due = self.logged.is_none_or(|at| at.elapsed() >= BETWEEN_LOGS);
        if is_due {
            self.logged = Some(Instant::now());
        }
        is_due
    }

    /// How long the shards need at least to fill so much memory.
    fn time_to_fill(&self, bytes: u64) -> Duration {
        let shards = self.shared.stats.shards().max(1) as u64;
        Duration::from_micros(bytes / (shards * FILLED_BYTES_PER_MICROSECOND))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.drain();
        self.mail.settle();
    }
}

/// Ticks with this period; those that are missed are not made up for.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Waits for the next tick, for ever where there is none.
async fn due(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => pending().await,
    }
}

/// The next request of a hand-over, for ever where there can be none.
async fn next(requests: &mut Option<mpsc::Receiver<Request>>) -> Request {
    match requests {
        Some(requests) => match requests.recv().await {
            Some(request) => request,
            None => pending().await,
        },
        None => pending().await,
    }
}

/// Descriptors of the control thread: two rings, one of them twice, an epoll with its wake-up, a
/// pair of sockets for signals, files that tell how much memory is in use, and what a hand-over
/// takes: a listener, a connection and a file; with some to spare.
const DESCRIPTORS: usize = 20;
/// The exit status after a second signal.
const ENDED_AT_ONCE: i32 = 1;
/// Between two looks at what the service manager is to be told.
const STATUS_PERIOD: Duration = Duration::from_secs(2);
/// What a drain may take beyond its window and the last close, on a busy machine.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// How long WebSockets are refused before whoever holds the most makes room for them.
const REFUSED_AT_MOST: Duration = Duration::from_secs(5);
/// Between two measurements: long enough for what was shed to be given back.
const PAUSE: Duration = Duration::from_millis(100);
/// The same when the limit is near and nothing is shed yet: peers may be quick.
const PAUSE_CLOSE: Duration = Duration::from_millis(5);
/// The same while nothing has a limit: a control group may be given one.
const PAUSE_UNLIMITED: Duration = Duration::from_secs(1);
/// What peers on the same machine can fill in a shard; above what was ever seen.
const FILLED_BYTES_PER_MICROSECOND: u64 = 2000;
/// Under attack the pressure may rise and fall many times a second.
const BETWEEN_LOGS: Duration = Duration::from_secs(1);
/// Only the thread that freed memory can give its pages back, so every shard is asked to, again and
/// again: memory that nobody uses must not count as used for ever.
const BETWEEN_REMINDERS: Duration = Duration::from_secs(1);
const WORTH_A_REMINDER_PERCENT: u64 = 50;
