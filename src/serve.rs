//! Starts the shards, each on its own pinned thread, and waits until they have drained.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::RawFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use core_affinity::CoreId;
use rlimit::Resource;
use tokio::sync::mpsc;

use supervision::Ended;
pub use supervision::Part;

use crate::admission::Admission;
use crate::config::{Admin, Config, ListenAddress, ListenerRole, SocketPath};
use crate::control::{AdminSocket, Control, Door, End, Takeover};
use crate::http::HTTPS_PORT;
use crate::hub::Message;
use crate::hub::interest::InterestTable;
use crate::hub::mesh::{Endpoint, Mesh};
use crate::hub::relay::Relay;
use crate::io::activation::{ActivatedSockets, ActivationError};
use crate::io::inheritance::Purpose;
use crate::io::listener::{ListenError, Listener, ListeningSocket, OpenSockets};
use crate::io::probe::{Abilities, Ability, Refusal};
use crate::io::waker::Waker;
use crate::io::{Ring, RingOptions, SLOTS_MAX};
use crate::memory::{Memory, Meter, NothingSpare, require_spare};
use crate::output::{self, AccessLogError, STANDARD_OUTPUT};
use crate::service_manager::ServiceManager;
use crate::settings::{Layers, TrustFileError, read_trust};
use crate::shard::in_force::InForce;
use crate::shard::mail::Letter;
use crate::shard::{Heirs, Shard, Shared};
use crate::stats::Stats;
use crate::takeover::{Predecessor, TakeoverError};
use crate::tls::{Certificates, CertificatesError, client};

mod supervision;

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The kernel does not let us.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// An address is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What the service manager hands over is not what the settings say.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// The server that is there cannot be succeeded.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// No descriptor is left for what a successor is to get.
    #[error(
        "no descriptors are left for the copies of listening sockets that --takeover hands over \
         ({0}): raise RLIMIT_NOFILE (`ulimit -n`, `LimitNOFILE=` of systemd), or start fewer \
         --shards"
    )]
    Heritage(std::io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A shard's event loop failed.
    #[error("shard {number} failed: {error}")]
    Shard {
        /// Which.
        number: usize,
        /// Why.
        error: std::io::Error,
    },
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Credentials(#[from] CertificatesError),
    /// Tokens could not be verified.
    #[error(transparent)]
    TrustFile(#[from] TrustFileError),
    /// The access log cannot be written.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The memory that may be used is gone before anybody connects.
    #[error(transparent)]
    Memory(#[from] NothingSpare),
    /// No descriptor is left for the control plane.
    #[error(
        "no descriptors are left for the control thread ({error}): RLIMIT_NOFILE is {limit}, and \
         each shard takes one for its ring and one for each listener, and the admin listener up to \
         {admin_connections}; raise it (`ulimit -n`, `LimitNOFILE=` of systemd), start fewer \
         --shards, or take --admin off"
    )]
    Descriptors {
        /// The soft limit.
        limit: u32,
        /// Descriptors for connections to the admin listener.
        admin_connections: usize,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// The control plane failed.
    #[error("the control thread failed: {0}")]
    Control(std::io::Error),
    /// A thread panicked, which the log has told more of.
    #[error("{0} panicked, which is a fault of this program")]
    Panic(Part),
}

/// What a shard needs that other shards make.
struct Neighbours {
    endpoint: Endpoint<Message, Letter>,
    rings: Vec<RawFd>,
}

/// What a shard's thread tells once: that its ring is set up, or why not.
type Ready = (usize, Result<RawFd, Refusal>);

/// Runs the server until a signal has drained it, or the failure of one of its threads. `layers`
/// are where `config` came from, to be read again when that is asked for.
///
/// # Errors
/// A [`ServeError`] that names the cause and, where there is one, the fix.
pub fn run(config: Config, layers: Layers) -> Result<(), ServeError> {
    let trust = read_trust(&config)?;
    output::open_access_log(&config.logs.access)?;
    let certificates = Certificates::load(&config.tls, SystemTime::now())?;
    if let Some(file) = &config.backend.authorities {
        client::for_requests(Some(file.path()))?;
    }
    if certificates.is_some() && !config.serving_listeners().any(|listener| listener.tls) {
        tracing::warn!("no listener has the option tls, so nobody is shown the certificate");
    }
    if config.identity.basic_users.is_some() {
        for listener in config.listen.iter().filter(|it| !it.tls && it.address.is_reachable()) {
            let listener = &listener.address;
            tracing::warn!(%listener, "passwords come here without TLS, for all to read");
        }
    }
    let descriptors = Descriptors::limit(config.engine.raise_nofile);
    let abilities = abilities(&config)?;
    let shards = config.engine.shards;
    let manager = Arc::new(ServiceManager::of_this_process());
    let mut open = OpenSockets { activated: ActivatedSockets::take()?, ..OpenSockets::default() };
    let mut predecessor = None;
    if let Some(path) = &config.takeover
        && let Some((found, inheritance)) = Predecessor::at(path.path())?
    {
        (predecessor, open.inheritance) = (Some(found), inheritance);
    }
    let mut listeners = Vec::new();
    for address in config.listeners() {
        listeners.push(Listener::bind(address, shards, &mut open)?);
    }
    let secure_port = secure_port(&config, &listeners);
    let mut admin = admin_listener(&config.admin, &mut open)?;
    open.activated.require_all_taken()?;
    let predecessor = predecessor.map(|it| (it, open.inheritance.taken()));
    let has_predecessor = predecessor.is_some();
    if has_predecessor {
        manager.falls_silent();
    }
    let takeover = takeover(&config, &listeners, admin.as_ref(), predecessor)?;
    let door = takeover.as_ref().map(|takeover| takeover.door.clone());
    let meter = Meter::new(config.limits.memory_bytes);
    let (stats, memory) = (Stats::new(shards), Memory::default());
    let (slots, interest) = (descriptors.slots(), InterestTable::new(shards));
    let admission = Admission::new(slots as usize * shards);
    let in_force = InForce::new(config, trust, certificates.map(Arc::new));
    let seed = RandomState::new().hash_one(slots);
    let heirs = Heirs::default();
    let shared =
        Shared { admission, stats, memory, seed, interest, slots, in_force, secure_port, heirs };
    let shared = Arc::new(shared);
    let effective = shared.in_force.current();
    let config = &effective.config;
    let (ready, is_ready) = channel();
    let (ended, has_ended) = channel();
    let threads = start_threads(&shared, abilities, &mut listeners, &ready, &ended)?;
    let mut rings = gather_rings(shards, &is_ready)?;
    require_spare(config.limits.memory_bytes)?;
    let mut endpoints = Mesh::new(shards + 1, config.engine.broadcast_ring_slots);
    let admin_connections = admin.as_ref().map_or(0, |_| descriptors.admin_connections());
    Control::require_descriptors(admin_connections).map_err(|error| ServeError::Descriptors {
        limit: descriptors.now,
        admin_connections,
        error,
    })?;
    // Each shard ends once.
    let (ends, has_ends) = mpsc::channel(shards);
    if let Some(endpoint) = endpoints.pop() {
        let waker = Waker::new(&rings).map_err(ServeError::Control)?;
        // By its place in the mesh, the last, shards wake the control thread.
        rings.push(waker.descriptor());
        let control =
            Control::new(endpoint, waker, meter, has_ends, manager.clone(), shared.clone(), layers);
        let socket = admin.as_mut().and_then(|listener| {
            let socket = listener.take_socket()?;
            Some(AdminSocket::new(socket.into(), &listener.address, admin_connections))
        });
        start_control(control, socket, takeover, &ended, &has_ended)?;
    }
    for (neighbours, endpoint) in threads.into_iter().zip(endpoints) {
        // A thread that has ended meanwhile has told why.
        let _ = neighbours.send(Neighbours { endpoint, rings: rings.clone() });
    }
    announce(&listeners, admin.as_ref(), &shared, abilities, descriptors);
    if !has_predecessor {
        manager.serves();
    }
    let result = supervision::wait(shards, &has_ended, |part, has_failed| {
        if let Part::Shard(shard) = part {
            let end = if has_failed { End::Failed } else { End::Drained };
            // A control thread that has failed has drained all by that.
            let _ = ends.try_send((shard, end));
        }
    });
    settle_relay(shared.interest.relay());
    // Its file goes, unless a successor has one there.
    drop(door.and_then(|door| door.lock().unwrap_or_else(PoisonError::into_inner).take()));
    tracing::info!("stopped");
    result
}

/// What it takes to be succeeded, where that is wanted. The listener for newcomers is bound at once
/// where no predecessor has it.
fn takeover(
    config: &Config,
    listeners: &[Listener],
    admin: Option<&Listener>,
    predecessor: Option<(Predecessor, Vec<usize>)>,
) -> Result<Option<Takeover>, ServeError> {
    let Some(path) = config.takeover.as_ref().map(SocketPath::path) else { return Ok(None) };
    let bound = match predecessor {
        Some(_) => None,
        None => Some(Listener::bind_takeover(path)?),
    };
    let named = config.listeners().zip(listeners);
    let mut heritage = named
        .map(|(named, it)| it.heritage(Purpose::Service, named.address.clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(ServeError::Heritage)?;
    if let Some(admin) = admin {
        let name = match &config.admin {
            Admin::At(address) => address.clone(),
            Admin::Auto | Admin::Off => Admin::AUTO,
        };
        let admin = admin.heritage(Purpose::Administration, name).map_err(ServeError::Heritage)?;
        heritage.push(admin);
    }
    let (path, door) = (path.to_owned(), Door::new(Mutex::new(bound)));
    Ok(Some(Takeover { path, door, heritage, predecessor }))
}

/// The port by which the first listener with TLS is reached, or else that of https.
fn secure_port(config: &Config, listeners: &[Listener]) -> u16 {
    let mut secured = config.listen.iter().zip(listeners).filter(|(config, _)| config.tls);
    let port = secured.find_map(|(_, listener)| match &listener.address {
        ListenAddress::Tcp(address) => Some(address.port()),
        ListenAddress::Unix(_) | ListenAddress::Activated(_) => None,
    });
    port.unwrap_or(HTTPS_PORT)
}

/// Waits until a successor has been passed all that was published here, if it listens.
fn settle_relay(relay: &Relay) {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    while relay.is_on() && !relay.is_settled() && Instant::now() < deadline {
        thread::sleep(SETTLE_PAUSE);
    }
}

/// The admin listener. Without one that nobody has asked for the server starts all the same: a
/// second server on the machine finds the default address taken.
fn admin_listener(admin: &Admin, open: &mut OpenSockets) -> Result<Option<Listener>, ListenError> {
    match admin {
        Admin::Off => Ok(None),
        Admin::At(address) => Listener::bind_admin(&address.clone().into(), open).map(Some),
        Admin::Auto => Ok(Listener::bind_admin(&Admin::AUTO.into(), open)
            .inspect_err(|error| {
                tracing::warn!("{error}: there is no admin listener; --admin off expects none");
            })
            .ok()),
    }
}

fn abilities(config: &Config) -> Result<Abilities, Refusal> {
    let disabled = &config.engine.disabled_abilities;
    let is_disabled = |ability: &Ability| disabled.contains(ability);
    let found = Abilities::probe()?;
    let used = Ability::ALL.into_iter().filter(is_disabled).fold(found, Abilities::without);
    match config.engine.batch_wait_us {
        Some(_) if !used.has(Ability::MinWait) => Err(Refusal::NoBatchWait),
        _ => Ok(used),
    }
}

fn start_threads(
    shared: &Arc<Shared>,
    abilities: Abilities,
    listeners: &mut [Listener],
    ready: &Sender<Ready>,
    ended: &Sender<Ended>,
) -> Result<Vec<Sender<Neighbours>>, ServeError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let effective = shared.in_force.current();
    let engine = &effective.config.engine;
    let options = RingOptions {
        abilities,
        slots: shared.slots,
        receive_buffers: engine.receive_buffers,
        receive_buffer_bytes: engine.receive_buffer_bytes,
        batch_wait_us: engine.batch_wait_us,
    };
    (0..engine.shards)
        .map(|number| {
            let mut sockets = Vec::new();
            for (listener, place) in listeners.iter_mut().zip(0..) {
                let share = listener.take_share(engine.shards - number);
                sockets.extend(share.into_iter().map(|socket| (place, socket)));
            }
            let core = if engine.pin { cores.get(number % cores.len().max(1)) } else { None };
            let (core, options) = (core.copied(), options.clone());
            let (neighbours, given) = channel();
            let (shared, ready) = (shared.clone(), ready.clone());
            supervision::spawn(Part::Shard(number), ended, move || {
                run_shard(number, core, &options, sockets, shared, &ready, &given)
            })?;
            Ok(neighbours)
        })
        .collect()
}

fn run_shard(
    number: usize,
    core: Option<CoreId>,
    options: &RingOptions,
    sockets: Vec<(u32, ListeningSocket)>,
    shared: Arc<Shared>,
    ready: &Sender<Ready>,
    given: &Receiver<Neighbours>,
) -> Result<(), ServeError> {
    if let Some(core) = core
        && !core_affinity::set_for_current(core)
    {
        tracing::warn!(shard = number, core = core.id, "cannot pin the shard to its core");
    }
    let (listeners, sockets): (Vec<_>, _) = sockets.into_iter().unzip();
    let mut ring = match Ring::new(options) {
        Ok(ring) => ring,
        Err(refusal) => {
            let _ = ready.send((number, Err(refusal)));
            return Ok(());
        }
    };
    ring.listen(sockets);
    let _ = ready.send((number, Ok(ring.descriptor())));
    // Without neighbours the start has failed elsewhere.
    let Ok(Neighbours { endpoint, rings }) = given.recv() else { return Ok(()) };
    ring.join(rings);
    let start = shared.stats.start();
    Shard::new(ring, number, listeners.into(), endpoint, shared)
        .run(|| start.elapsed())
        .map_err(|error| ServeError::Shard { number, error })
}

fn gather_rings(shards: usize, ready: &Receiver<Ready>) -> Result<Vec<RawFd>, Refusal> {
    let mut rings = vec![-1; shards];
    for (number, ring) in ready.iter().take(shards) {
        rings[number] = ring?;
    }
    Ok(rings)
}

/// Starts the control thread and waits until it catches signals. It ends with the process.
fn start_control(
    control: Control,
    admin: Option<AdminSocket>,
    takeover: Option<Takeover>,
    ended: &Sender<Ended>,
    has_ended: &Receiver<Ended>,
) -> Result<(), ServeError> {
    let (ready, is_ready) = channel();
    supervision::spawn(Part::Control, ended, move || {
        let result = control.run(admin, takeover, move || {
            let _ = ready.send(());
        });
        result.map_err(ServeError::Control)
    })?;
    // The shards wait for their neighbours, so if anybody has ended, it is the control thread.
    is_ready.recv().or_else(|_| has_ended.recv().map_or(Ok(()), |(_, result)| result))
}

/// Tells on standard output where the server listens and what it can hold.
fn announce(
    listeners: &[Listener],
    admin: Option<&Listener>,
    shared: &Shared,
    abilities: Abilities,
    descriptors: Descriptors,
) {
    let shards = shared.stats.shards();
    let capacity = shared.capacity() * shards;
    let mut lines = String::new();
    let effective = shared.in_force.current();
    for (place, listener) in listeners.iter().enumerate() {
        let (config, role) = effective.config.listener(place);
        let (verb, scheme) = match (role, config.tls) {
            (ListenerRole::Redirect, _) => ("redirecting", "http"),
            (ListenerRole::Api, false) => ("api", "http"),
            (ListenerRole::Api, true) => ("api", "https"),
            (ListenerRole::Service, true) => ("listening", "wss"),
            (ListenerRole::Service, false) => ("listening", "ws"),
        };
        lines.push_str(&format!("{verb} on {}\n", url(scheme, &listener.address)));
    }
    if let Some(listener) = admin {
        lines.push_str(&format!("admin on {}\n", url("http", &listener.address)));
    }
    lines.push_str(&format!(
        "{shards} shards of {} connections each: {capacity} in all ({descriptors})\n",
        shared.capacity(),
    ));
    lines.push_str(&format!("kernel abilities {abilities}\n"));
    STANDARD_OUTPUT.write(lines.into_bytes());
    tracing::info!(shards, capacity, "serving");
}

/// The URL of what listens on `address`.
fn url(scheme: &str, address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => format!("{scheme}://{address}/"),
        ListenAddress::Unix(path) => format!("{scheme}+unix:{}", path.display()),
        // A listener knows the address of what it was given.
        ListenAddress::Activated(_) => address.to_string(),
    }
}

/// The soft limit of open files, which is also the most a ring's table of registered files may
/// hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptors {
    before: u32,
    now: u32,
}

impl Descriptors {
    /// The limit, first raised to the hard one if it may be: the soft one is low for the sake of
    /// programs that use `select`, which fails with larger numbers (systemd, "File Descriptor
    /// Limits").
    fn limit(may_raise: bool) -> Self {
        let narrow = |limit: u64| u32::try_from(limit).unwrap_or(u32::MAX);
        let Ok((soft, hard)) = Resource::NOFILE.get() else {
            return Self { before: SLOTS_DEFAULT, now: SLOTS_DEFAULT };
        };
        let before = narrow(soft);
        if !may_raise || soft >= hard {
            return Self { before, now: before };
        }
        match Resource::NOFILE.set(hard, hard) {
            Ok(()) => Self { before, now: narrow(hard) },
            Err(error) => {
                tracing::warn!(soft, hard, %error, "RLIMIT_NOFILE cannot be raised");
                Self { before, now: before }
            }
        }
    }

    /// Connections that the admin listener may hold: few where descriptors are.
    fn admin_connections(self) -> usize {
        (self.now / 8).clamp(1, ADMIN_CONNECTIONS_MAX) as usize
    }

    /// Slots of a ring's table.
    fn slots(self) -> u32 {
        self.now.min(SLOTS_MAX)
    }
}

impl fmt::Display for Descriptors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RLIMIT_NOFILE is {}", self.now)?;
        match self.before == self.now {
            true => Ok(()),
            false => write!(formatter, ", raised from {}", self.before),
        }
    }
}

/// Connections to the admin listener, whatever the limit: more than scrapers and probes need.
const ADMIN_CONNECTIONS_MAX: u32 = 64;
/// How long a successor may take to listen to what was published at the end, and how long between
/// two looks.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
const SETTLE_PAUSE: Duration = Duration::from_millis(5);
/// Slots when the limit cannot be read.
const SLOTS_DEFAULT: u32 = 1024;
