//! What the control thread knows of the server and those who ask may hear: whether its shards are
//! alive, and whether an upgrade would be accepted; and what they may ask for: that it drains.

mod trust;

use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::capacity::Capacity;
use super::certificates;
use super::consultations::Ends;
use super::health::{Ailment, End, Health, STUCK_SECONDS};
use super::hooks::HookEnds;
use super::logins::LoginEnds;
use super::states::StateEnds;
use crate::config::AccessLog;
use crate::identity::Trust;
use crate::logging;
use crate::memory::{Pressure, Usage, require_spare};
use crate::output::ACCESS_LOG;
use crate::service_manager::ServiceManager;
use crate::settings::{Change, Layers, ReloadError};
use crate::shard::Shared;
use crate::shard::overload::Level;
use crate::tls::Certificates;
use trust::Learned;
pub(super) use trust::RevokeError;

/// The state of the server as the control thread sees it.
pub(super) struct Standing {
    manager: Arc<ServiceManager>,
    pub(super) shared: Arc<Shared>,
    layers: Layers,
    known: Mutex<Known>,
    capacity: Mutex<Capacity>,
    learned: Learned,
    /// How requests have fared about which somebody was asked.
    pub(super) consulted: Ends,
    /// How hooks have.
    pub(super) hooks: HookEnds,
    /// What has become of what a backend was to be told of channels.
    pub(super) states: StateEnds,
    /// How passwords have fared.
    pub(super) logins: LoginEnds,
    drain: Notify,
    settings: Notify,
}

struct Known {
    health: Health,
    is_draining: bool,
}

impl Standing {
    pub(super) fn new(manager: Arc<ServiceManager>, shared: Arc<Shared>, layers: Layers) -> Self {
        let health = Health::new(shared.stats.shards());
        let known = Mutex::new(Known { health, is_draining: false });
        let (drain, settings) = (Notify::new(), Notify::new());
        let (capacity, learned) = (Mutex::default(), Learned::default());
        let (consulted, hooks) = (Ends::default(), HookEnds::default());
        let (logins, states) = (LoginEnds::default(), StateEnds::default());
        Self {
            manager,
            shared,
            layers,
            known,
            capacity,
            learned,
            consulted,
            hooks,
            states,
            logins,
            drain,
            settings,
        }
    }

    /// All counters, what the access log has lost and the state of memory, as JSON.
    pub(super) fn report(&self) -> String {
        let mut report = self.shared.report();
        report["access_log_lost"] = ACCESS_LOG.lost().into();
        report.to_string()
    }

    /// Takes a sample of how much of each resource is in use.
    pub(super) fn sample_capacity(&self) {
        self.capacity().sample(self.shared.stats.start().elapsed(), &self.shared);
    }

    /// What is left of each resource, as JSON.
    pub(super) fn capacity_report(&self) -> String {
        self.capacity().report(&self.shared).to_string()
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.shared.stats.shards()
    }

    /// The open WebSockets of each shard.
    pub(super) fn websockets_open(&self) -> Vec<u64> {
        let open = |shard| self.shared.stats.shard(shard).websockets_open.value();
        (0..self.shards()).map(open).collect()
    }

    /// Asks for a drain, as SIGTERM does. One more request for it changes nothing.
    pub(super) fn ask_for_drain(&self) {
        self.drain.notify_one();
    }

    /// Waits until somebody asks for a drain.
    pub(super) async fn is_asked_to_drain(&self) {
        self.drain.notified().await;
    }

    /// Whether there are files of settings, keys or certificates that may be read again.
    pub(super) fn has_files(&self) -> bool {
        self.layers.have_file()
            || self.asks_who_somebody_is()
            || self.shared.in_force.current().certificates.is_some()
    }

    /// Reads certificates and what belongs to them again, if a file has changed.
    ///
    /// # Errors
    /// What is wrong with them, and nothing has changed.
    pub(super) fn renew_certificates(&self) -> Result<(), ReloadError> {
        let current = self.shared.in_force.current();
        let certificates = certificates::in_force_next(&current.config.tls, &current)?;
        if certificates::are_renewed(&certificates, &current) {
            self.put_files_in_force(current.trust.clone(), certificates);
        }
        Ok(())
    }

    /// Puts in force what files and requests say, beside the settings that are.
    fn put_files_in_force(&self, trust: Trust, certificates: Option<Arc<Certificates>>) {
        let config = self.shared.in_force.current().config.clone();
        self.shared.in_force.replace(config, trust, certificates);
        self.settings.notify_one();
    }

    /// Opens the access log anew, and reads the settings again, and the files that they name: all
    /// of them hold from now on, or none has changed. Returns the keys of those that have.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn reload(&self) -> Result<Vec<&'static str>, ReloadError> {
        // A service that stops does not become ready again.
        let is_draining = self.is_draining();
        if !is_draining {
            self.manager.reloads();
        }
        ACCESS_LOG.reopen();
        let result = match self.put_in_force() {
            // That the log has been opened anew was enough.
            Err(ReloadError::NoFile) if self.has_access_log() => Ok(Vec::new()),
            result => result,
        };
        if !is_draining {
            self.manager.serves();
        }
        match &result {
            Ok(keys) => tracing::info!(changed = keys.join(","), "settings reloaded"),
            Err(error) => tracing::error!("settings stay as they are: {error}"),
        }
        result
    }

    /// Whether there is a file or socket that the access log goes to.
    pub(super) fn has_access_log(&self) -> bool {
        self.shared.in_force.current().config.logs.access != AccessLog::Off
    }

    fn put_in_force(&self) -> Result<Vec<&'static str>, ReloadError> {
        let current = self.shared.in_force.current();
        let change = match self.layers.reload(&current.config) {
            // What the flags name may say something else.
            Err(ReloadError::NoFile) if self.has_files() => {
                Change { config: current.config.clone(), keys: Vec::new() }
            }
            change => change?,
        };
        let Change { config, mut keys } = change;
        let certificates = certificates::in_force_next(&config.tls, &current)?;
        if certificates::are_renewed(&certificates, &current) {
            keys.extend((config.tls == current.config.tls).then_some("tls-cert"));
        }
        let trust = self.trust_by(&config)?;
        // The files may say something else, although the settings name the same.
        for (key, has_changed) in [
            ("jwt-key", trust.keys != current.trust.keys),
            ("basic-users", trust.passwords != current.trust.passwords),
            ("user-grants", trust.user_grants != current.trust.user_grants),
            ("revoked", trust.revocations != current.trust.revocations),
        ] {
            if has_changed && !keys.contains(&key) {
                keys.push(key);
            }
        }
        require_spare(config.limits.memory_bytes)
            .map_err(|error| ReloadError::Unfit(error.to_string()))?;
        if config.logs.level != current.config.logs.level {
            logging::set_level(config.logs.level)
                .map_err(|error| ReloadError::Unfit(error.to_string()))?;
        }
        if !keys.is_empty() {
            self.shared.in_force.replace(config, trust, certificates);
            self.settings.notify_one();
        }
        Ok(keys)
    }

    /// Waits until other settings are in force.
    pub(super) async fn have_settings_changed(&self) {
        self.settings.notified().await;
    }

    /// Notes that the server drains; whether it did already.
    pub(super) fn begin_to_drain(&self) -> bool {
        std::mem::replace(&mut self.known().is_draining, true)
    }

    /// Looks at the ticks of every shard; returns those that must be woken to tell whether they
    /// sleep or hang. Tells the log who has come to hang and who goes on.
    pub(super) fn look(&self) -> Vec<usize> {
        let mut known = self.known();
        let before: Vec<_> = known.health.ailing().collect();
        let quiet = known.health.look(|shard| self.shared.stats.shard(shard).ticks.value());
        let after: Vec<_> = known.health.ailing().collect();
        for &(shard, _) in after.iter().filter(|ailing| !before.contains(ailing)) {
            tracing::error!(shard, "the shard has not ticked for {STUCK_SECONDS} s");
        }
        for &(shard, _) in before.iter().filter(|ailing| !after.contains(ailing)) {
            tracing::info!(shard, "the shard ticks again");
        }
        quiet
    }

    /// Notes that a shard has been woken, so that it must tick now.
    pub(super) fn woken(&self, shard: usize) {
        self.known().health.woken(shard);
    }

    /// Notes that the event loop of a shard has ended.
    pub(super) fn ended(&self, shard: usize, end: End) {
        self.known().health.ended(shard, end);
    }

    /// Whether the server drains.
    pub(super) fn is_draining(&self) -> bool {
        self.known().is_draining
    }

    /// How many shards do not tick, and the event loops of how many have failed.
    pub(super) fn ailing_shards(&self) -> (usize, usize) {
        let known = self.known();
        let with = |ailment| known.health.ailing().filter(move |&(_, other)| other == ailment);
        (with(Ailment::Stuck).count(), with(Ailment::Failed).count())
    }

    /// What is wrong with the shards, in words; `None` when nothing is.
    pub(super) fn illness(&self) -> Option<String> {
        let known = self.known();
        let with = |ailment| known.health.ailing().filter(move |&(_, other)| other == ailment);
        let numbers = |ailment| with(ailment).map(|(shard, _)| shard).collect::<Vec<_>>();
        let stuck = numbers(Ailment::Stuck);
        let failed = numbers(Ailment::Failed);
        joined([
            (!stuck.is_empty())
                .then(|| format!("{} not ticked for {STUCK_SECONDS} s", have(&stuck))),
            (!failed.is_empty()).then(|| format!("{} failed", have(&failed))),
        ])
    }

    /// Whether a shard does not come round to its peers.
    pub(super) fn hangs(&self) -> bool {
        self.known().health.ailing().any(|(_, ailment)| ailment == Ailment::Stuck)
    }

    /// How the server fares, in a line for people.
    pub(super) fn summary(&self) -> String {
        let open = self.shared.stats.websockets_open();
        let trouble = self.unreadiness().map_or_else(String::new, |text| format!("; {text}"));
        format!("{open} WebSockets open{trouble}")
    }

    /// Why an upgrade would be refused now, or might be on some shard, in words; `None` when it
    /// would be accepted.
    pub(super) fn unreadiness(&self) -> Option<String> {
        let illness = self.illness();
        let is_draining = self.is_draining().then(|| "draining".to_owned());
        let keys = self.lack_of_keys();
        joined([is_draining, illness, keys, self.fullness(), self.shortage(), self.overload()])
    }

    fn fullness(&self) -> Option<String> {
        let shared = &self.shared;
        let limit = shared.in_force.current().config.limits.connections;
        if shared.has_reached(limit) {
            let open = shared.stats.websockets_and_streams_open();
            return Some(format!(
                "full: {open} WebSockets and streams are open, and --max-connections is {}",
                limit.unwrap_or_default(),
            ));
        }
        let full = (0..shared.stats.shards()).filter(|&shard| shared.is_full(shard));
        let full: Vec<_> = full.collect();
        let capacity = shared.capacity();
        let places = "WebSockets, all that RLIMIT_NOFILE lets it";
        (!full.is_empty()).then(|| format!("full: {} {capacity} {places}", have(&full)))
    }

    fn shortage(&self) -> Option<String> {
        let memory = &self.shared.memory;
        let Usage { used_bytes, limit_bytes } = memory.usage();
        (memory.signal().pressure() >= Pressure::Refuse)
            .then(|| format!("short of memory: {used_bytes} of {limit_bytes} bytes are in use"))
    }

    fn overload(&self) -> Option<String> {
        let refuses = |shard: &usize| {
            self.shared.stats.shard(*shard).overload_level.value() >= Level::NoUpgrades as u64
        };
        let overloaded: Vec<_> = (0..self.shards()).filter(refuses).collect();
        (!overloaded.is_empty())
            .then(|| format!("overloaded: {} too much to do", have(&overloaded)))
    }

    fn capacity(&self) -> MutexGuard<'_, Capacity> {
        // No panic leaves it half changed.
        self.capacity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // No panic leaves it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// "shard 1 has", "shards 1, 2 have".
fn have(shards: &[usize]) -> String {
    match shards {
        [shard] => format!("shard {shard} has"),
        shards => format!("shards {} have", list(shards)),
    }
}

fn list(items: &[impl Display]) -> String {
    let mut text = String::new();
    for (place, item) in items.iter().enumerate() {
        let separator = if place > 0 { ", " } else { "" };
        let _ = write!(text, "{separator}{item}");
    }
    text
}

fn joined<const N: usize>(reasons: [Option<String>; N]) -> Option<String> {
    let reasons: Vec<_> = reasons.into_iter().flatten().collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
