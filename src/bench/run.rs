//! A run from start to end: threads, moments, samples of the server, and the sum of it all.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::arguments::WorkloadName;
use super::handshake::Handshake;
use super::interruption::Interruption;
use super::lane::{Lane, Outcome, Shared};
use super::links::{Links, connections_of};
use super::plan::Plan;
use super::process::{CoreShare, Sample};
use super::record::{Interval, Record};
use super::schedule::{Progress, Schedule, Stage, Totals};
use super::workload::{Broadcast, Common, Connect, Echo, Idle, Rate, Storm};
use crate::io::probe::{Abilities, Ability, Refusal};
use crate::io::{Ring, RingOptions};

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel does not let us.
    #[error(transparent)]
    Kernel(#[from] Refusal),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A thread's event loop failed.
    #[error("thread {lane} failed: {error}")]
    Lane {
        /// The number of the thread, from zero.
        lane: usize,
        /// What the kernel answered.
        error: io::Error,
    },
    /// The server's process cannot be sampled.
    #[error("--server-pid {pid}: cannot sample a process of this number: {error}")]
    Server {
        /// The process asked for.
        pid: u32,
        /// What the kernel answered.
        error: io::Error,
    },
    /// A core that this process may not use.
    #[error("--cores {core}: this process may run on {allowed}")]
    Core {
        /// The core asked for.
        core: usize,
        /// The cores there are.
        allowed: String,
    },
}

/// What the server's process looked like.
#[derive(Clone, Copy, Debug)]
pub struct ServerSamples {
    /// Which process.
    pub pid: u32,
    /// Before the first connection.
    pub before: Sample,
    /// When all connections were open.
    pub connected: Sample,
    /// When the measurement began.
    pub from: Sample,
    /// When it ended.
    pub until: Sample,
}

/// One thread of the generator.
#[derive(Clone, Copy, Debug)]
pub struct ThreadShare {
    /// The core it was pinned to.
    pub core: Option<usize>,
    /// What it had of that core while it measured.
    pub share: Option<CoreShare>,
}

/// A run that has ended.
#[derive(Debug)]
pub struct Run {
    /// What was done.
    pub plan: Arc<Plan>,
    /// When, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Seconds from the first connection attempt until all were open or had failed.
    pub connect_seconds: f64,
    /// Connections that were open then.
    pub connected: u64,
    /// What was measured.
    pub record: Record,
    /// The server's process, if one was named.
    pub server: Option<ServerSamples>,
    /// The generator's threads.
    pub threads: Vec<ThreadShare>,
    /// Abilities of the kernel.
    pub abilities: Abilities,
    /// Measured time; less than planned when the run was interrupted.
    pub measured: Duration,
    /// The signal that interrupted it.
    pub signal: Option<u8>,
}

/// One of the measured parts of a run.
pub struct Step {
    /// Its place in the plan.
    pub number: usize,
    /// What it saw.
    pub sum: Interval,
    /// Measured time.
    pub seconds: f64,
}

impl Run {
    /// The measured parts of the plan's duration, as far as the run came.
    pub fn steps(&self) -> Vec<Step> {
        let steps = self.plan.steps();
        let each = self.record.intervals.len() / steps;
        let step = |number: usize| {
            let before = self.plan.duration.saturating_mul(number as u32);
            let measured = self.measured.saturating_sub(before).min(self.plan.duration);
            Step {
                number,
                sum: self.record.sum(number * each..(number + 1) * each),
                seconds: measured.as_secs_f64(),
            }
        };
        (0..steps).map(step).filter(|step| step.seconds > 0.0).collect()
    }

    /// The intervals that were measured, all of them unless the run was interrupted.
    pub fn intervals(&self) -> &[Interval] {
        let interval_ns = u128::from(self.record.interval_ns());
        let count = self.measured.as_nanos().div_ceil(interval_ns) as usize;
        &self.record.intervals[..count.min(self.record.intervals.len())]
    }
}

/// Makes a run; `watch` is called about ten times a second.
///
/// # Errors
/// A [`RunError`]; what the server did wrong is in the record.
pub fn execute(
    plan: Plan,
    server_pid: Option<u32>,
    interruption: &Interruption,
    watch: &mut dyn FnMut(Stage, Totals),
) -> Result<Run, RunError> {
    let abilities = Abilities::probe()?;
    let plan = Arc::new(plan);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let lanes = lanes(&plan);
    let offer = plan.way.offer.clone();
    let handshake = Handshake::new(&plan.target, plan.paths(), offer, now.as_nanos());
    let shared = Arc::new(Shared {
        schedule: Schedule::default(),
        progress: (0..lanes).map(|_| Progress::default()).collect(),
        handshake,
        plan: plan.clone(),
    });
    let sample = || match server_pid {
        Some(pid) => Sample::take(pid).map(Some).map_err(|error| RunError::Server { pid, error }),
        None => Ok(None),
    };
    let before = sample()?;
    let cores = cores(&plan)?;
    let threads = start(&shared, lanes, &cores, abilities)?;
    let connected = wait_for_connections(&shared, interruption, watch);
    let connect_seconds = shared.schedule.now_ns() as f64 / 1e9;
    let at_connected = sample()?;
    let nothing_open = connected == 0 && !plan.connects_while_measured();
    if nothing_open || shared.schedule.is_interrupted() {
        shared.schedule.begin(Duration::ZERO, Duration::ZERO);
    } else {
        shared.schedule.begin(plan.warmup, plan.measured());
    }
    let (from, until) = wait_for_end(&shared, interruption, watch, &sample);
    let moments = shared.schedule.moments();
    let measured_ns = moments.map_or(0, |moments| moments.until_ns - moments.from_ns);
    shared.schedule.allow_close();
    let mut record = Record::new(plan.intervals());
    let mut shares = Vec::new();
    for (lane, thread) in threads.into_iter().enumerate() {
        let outcome = match thread.join() {
            Ok(outcome) => outcome.map_err(|error| RunError::Lane { lane, error })?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        record.merge(outcome.record);
        let core = cores.get(lane % cores.len().max(1)).map(|core| core.id);
        shares.push(ThreadShare { core, share: outcome.own_share });
    }
    let server = match (server_pid, before, at_connected, from?, until?) {
        (Some(pid), Some(before), Some(connected), Some(from), Some(until)) => {
            Some(ServerSamples { pid, before, connected, from, until })
        }
        _ => None,
    };
    Ok(Run {
        plan,
        started_unix_ms: now.as_millis() as u64,
        connect_seconds,
        connected,
        record,
        server,
        threads: shares,
        abilities,
        measured: Duration::from_nanos(measured_ns),
        signal: interruption.signal().filter(|_| shared.schedule.is_interrupted()),
    })
}

/// Threads that the plan needs: no ring's table takes more files than a process may open.
fn lanes(plan: &Plan) -> u32 {
    let limit = rlimit::increase_nofile_limit(SLOTS_MOST).unwrap_or(SLOTS_DEFAULT);
    let slots = u32::try_from(limit.min(SLOTS_MOST)).unwrap_or(1).max(1);
    plan.connections.div_ceil(slots).max(plan.threads)
}

fn cores(plan: &Plan) -> Result<Vec<core_affinity::CoreId>, RunError> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    if plan.cores.is_empty() {
        return Ok(allowed.into_iter().rev().collect());
    }
    let find = |&core: &usize| {
        let names = || allowed.iter().map(|core| core.id.to_string()).collect::<Vec<_>>();
        let found = allowed.iter().find(|allowed| allowed.id == core).copied();
        found.ok_or_else(|| RunError::Core { core, allowed: names().join(", ") })
    };
    plan.cores.iter().map(find).collect()
}

type Thread = JoinHandle<io::Result<Outcome>>;

fn start(
    shared: &Arc<Shared>,
    lanes: u32,
    cores: &[core_affinity::CoreId],
    abilities: Abilities,
) -> Result<Vec<Thread>, RunError> {
    let common = Arc::new(Common::new(&shared.plan));
    let (ready, is_ready) = channel();
    let mut threads = Vec::new();
    let mut neighbours = Vec::new();
    for lane in 0..lanes {
        let core = cores.get(lane as usize % cores.len().max(1)).copied();
        let (give, given) = channel();
        let (shared, common, ready) = (shared.clone(), common.clone(), ready.clone());
        let body = move || {
            let result = run_lane(lane, lanes, core, abilities, &shared, &common, &ready, &given);
            shared.progress[lane as usize].has_ended.store(true, Ordering::Relaxed);
            result
        };
        let name = format!("bench-{lane}");
        let thread = std::thread::Builder::new().name(name).spawn(body);
        threads.push(thread.map_err(RunError::Thread)?);
        neighbours.push(give);
    }
    let mut rings = vec![-1; lanes as usize];
    for (lane, ring) in is_ready.iter().take(lanes as usize) {
        rings[lane as usize] = ring?;
    }
    for neighbour in neighbours {
        // A thread that has ended meanwhile tells why when it is joined.
        let _ = neighbour.send(rings.clone());
    }
    Ok(threads)
}

#[expect(clippy::too_many_arguments, reason = "everything that a thread starts with")]
fn run_lane(
    lane: u32,
    lanes: u32,
    core: Option<core_affinity::CoreId>,
    abilities: Abilities,
    shared: &Arc<Shared>,
    common: &Common,
    ready: &Sender<(u32, Result<RawFd, Refusal>)>,
    given: &Receiver<Vec<RawFd>>,
) -> io::Result<Outcome> {
    if let Some(core) = core {
        core_affinity::set_for_current(core);
    }
    let plan = &shared.plan;
    let count = connections_of(plan, lane, lanes);
    let mut ring = match Ring::new(&ring_options(plan, abilities, count)) {
        Ok(ring) => ring,
        Err(refusal) => {
            let _ = ready.send((lane, Err(refusal)));
            return Err(io::ErrorKind::Other.into());
        }
    };
    let _ = ready.send((lane, Ok(ring.descriptor())));
    // Without neighbours the start has failed elsewhere.
    let Ok(rings) = given.recv() else { return Err(io::ErrorKind::Other.into()) };
    ring.join(rings);
    let links = Links::new(plan.clone(), lane, lanes);
    let shared = shared.clone();
    match plan.workload {
        WorkloadName::Echo => Lane::new(ring, links, Echo::new(&shared.plan, count), shared).run(),
        // A search is made of runs at a rate.
        WorkloadName::Rate | WorkloadName::Capacity => {
            Lane::new(ring, links, Rate::new(&shared.plan, lane, lanes, count), shared).run()
        }
        WorkloadName::Broadcast | WorkloadName::Slow => {
            let broadcast = Broadcast::new(&links, common.deliveries.clone());
            Lane::new(ring, links, broadcast, shared).run()
        }
        WorkloadName::Connect => {
            let connect = Connect::new(&shared.plan, lane, lanes, count);
            Lane::new(ring, links, connect, shared).run()
        }
        WorkloadName::Storm => {
            let storm = Storm::new(&links, common.interludes.clone());
            Lane::new(ring, links, storm, shared).run()
        }
        WorkloadName::Idle => Lane::new(ring, links, Idle, shared).run(),
    }
}

/// Few buffers stay in the processor's cache, so there are as few as the traffic allows; a table of
/// idle connections needs hardly any.
fn ring_options(plan: &Plan, abilities: Abilities, count: u32) -> RingOptions {
    let is_large = plan.sizes.most() >= 16 << 10;
    let is_quiet = plan.publishers == 0 && matches!(plan.workload, WorkloadName::Idle);
    let (buffers, bytes) = match abilities.has(Ability::IncrementalBuffers) {
        _ if is_quiet => (16, 16 << 10),
        true if is_large => (64, 64 << 10),
        true => (16, 64 << 10),
        // Each receive takes a whole buffer.
        false if is_large => (64, 64 << 10),
        false => (1024, 4 << 10),
    };
    RingOptions {
        abilities,
        slots: count.max(1),
        receive_buffers: buffers,
        receive_buffer_bytes: bytes,
        batch_wait_us: None,
    }
}

/// Waits until every connection is open or has failed, and returns how many are open.
fn wait_for_connections(
    shared: &Shared,
    interruption: &Interruption,
    watch: &mut dyn FnMut(Stage, Totals),
) -> u64 {
    if shared.plan.connects_while_measured() {
        return 0;
    }
    loop {
        let totals = Totals::of(&shared.progress);
        watch(Stage::Connecting, totals);
        let has_ended = any(shared, |progress| progress.has_ended.load(Ordering::Relaxed));
        if interruption.signal().is_some() {
            shared.schedule.interrupt();
            return totals.open;
        }
        if totals.settled >= u64::from(shared.plan.connections) || has_ended {
            if shared.plan.publishers > 0 {
                // Some servers subscribe a connection only after they answered it.
                std::thread::sleep(SUBSCRIBE_PAUSE);
            }
            return totals.open;
        }
        std::thread::sleep(WATCH_PAUSE.min(Duration::from_millis(5)));
    }
}

type Sampled = Result<Option<Sample>, RunError>;

/// Waits until every thread is done, and samples the server at both ends of the measured part.
fn wait_for_end(
    shared: &Shared,
    interruption: &Interruption,
    watch: &mut dyn FnMut(Stage, Totals),
    sample: &dyn Fn() -> Sampled,
) -> (Sampled, Sampled) {
    let (mut from, mut until) = (None, None);
    loop {
        if interruption.signal().is_some() && !shared.schedule.is_interrupted() {
            shared.schedule.interrupt();
        }
        let now_ns = shared.schedule.now_ns();
        let Some(moments) = shared.schedule.moments() else { return (Ok(None), Ok(None)) };
        let is_done =
            |p: &Progress| p.is_done.load(Ordering::Relaxed) || p.has_ended.load(Ordering::Relaxed);
        let all_done = shared.progress.iter().all(is_done);
        if from.is_none() && (now_ns >= moments.from_ns || all_done) {
            from = Some(sample());
        }
        if until.is_none() && (now_ns >= moments.until_ns || all_done) {
            until = Some(sample());
        }
        if all_done {
            return (from.unwrap_or(Ok(None)), until.unwrap_or(Ok(None)));
        }
        watch(moments.stage(now_ns), Totals::of(&shared.progress));
        let to_moment = moments.next(now_ns).map_or(u64::MAX, |moment| moment - now_ns);
        std::thread::sleep(WATCH_PAUSE.min(Duration::from_nanos(to_moment)));
    }
}

fn any(shared: &Shared, is: impl Fn(&Progress) -> bool) -> bool {
    shared.progress.iter().any(is)
}

/// Slots that a ring's table may hold whatever the limit: `IORING_MAX_FIXED_FILES`, kernel 5.13.
const SLOTS_MOST: u64 = 1 << 20;
/// Slots when the limit cannot be read.
const SLOTS_DEFAULT: u64 = 1024;
const WATCH_PAUSE: Duration = Duration::from_millis(20);
const SUBSCRIBE_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};

    use super::*;
    use crate::bench::plan::tests::plan;

    /// A port where nobody listens.
    fn deserted() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound")
    }

    /// The failures of three connections to a server that has these addresses.
    fn failures(addresses: &[SocketAddr]) -> Vec<(String, u64)> {
        let line = "ws://127.0.0.1:1/ echo --connections 3 --threads 2 --duration 100ms";
        let mut plan = plan(line).expect("valid");
        plan.way.addresses = addresses.iter().map(|&address| address.into()).collect();
        let run = execute(plan, None, &Interruption::default(), &mut |_, _| ()).expect("a run");
        let kinds = run.record.failures.by_frequency();
        kinds.iter().map(|(phase, error, kind)| (format!("{phase}: {error}"), kind.count)).collect()
    }

    #[test]
    fn the_next_address_is_tried_until_one_takes_the_connection() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.expect("a connection").write_all(b"HTTP/1.1 418 Found\r\n\r\n");
            }
        });
        let found = failures(&[deserted(), deserted(), address]);
        assert_eq!(found, [("handshake: refused with status 418 Found".to_owned(), 3)]);
        let refused = failures(&[deserted(), deserted()]);
        assert_eq!((refused.len(), refused[0].1), (1, 3), "{refused:?}");
        assert!(refused[0].0.starts_with("connect: "), "{refused:?}");
    }
}
