//! One run of the whole: shards on simulated kernels, clients, and a scheduler that lets them go on
//! in any order; what is drawn from the seed decides everything.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use fastrand::Rng;
use ringwire::admission::Admission;
use ringwire::config::{AccessLog, SlowConsumer};
use ringwire::hub::interest::InterestTable;
use ringwire::hub::mesh::Mesh;
use ringwire::memory::{Memory, Pressure, Usage};
use ringwire::shard::in_force::InForce;
use ringwire::shard::orders::Errand;
use ringwire::shard::{Heirs, Shard, Shared};
use ringwire::stats::Stats;

use crate::client::{Client, Context};
use crate::control::Control;
use crate::frames;
use crate::inquiries;
use crate::invariants;
use crate::kernel::Kernel;
use crate::network::Network;
use crate::node::{Node, Step};
use crate::peers::{self, Origin};
use crate::plan::{Plan, Reading, Service};
use crate::rates;
use crate::secure::Security;
use crate::settings::Settings;
use crate::topics;
use crate::trace::trace;
use crate::users;

/// Everything of one run.
pub struct World {
    rng: Rng,
    /// What decides about memory.
    memory_rng: Rng,
    /// What decides about moves to other shards.
    moves_rng: Rng,
    /// What decides about reloads.
    reloads_rng: Rng,
    /// What decides about load, and how long the shards still have too much to do.
    load_rng: Rng,
    busy_rounds: u32,
    network: Rc<RefCell<Network>>,
    nodes: Vec<Node>,
    /// What decides about orders.
    orders_rng: Rng,
    /// What decides about whoever is asked about requests.
    inquiries_rng: Rng,
    control: Control,
    clients: Vec<Client>,
    context: Context,
    settings: Settings,
    /// What listeners and clients speak TLS with, in a run with TLS.
    security: Option<Security>,
    round: u32,
    /// Deadlines skipped to since the clients were told to leave.
    skips: u32,
    /// Connections that all kernels accepted.
    accepted: u64,
}

impl World {
    /// Draws a world.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut settings = Settings::draw(&mut rng);
        // Drawn apart, so that what seeds have found stays with them.
        let mut memory_rng = Rng::with_seed(!seed);
        if memory_rng.u8(..6) == 0 {
            settings.measurements = memory_rng.u8(1..40);
        }
        let mut moves_rng = Rng::with_seed(seed.rotate_left(32));
        if moves_rng.bool() {
            settings.moves = moves_rng.u8(1..100);
        }
        let mut reloads_rng = Rng::with_seed(seed.rotate_left(16));
        if reloads_rng.u8(..4) == 0 {
            settings.reloads = reloads_rng.u8(1..20);
        }
        let mut orders_rng = Rng::with_seed(!seed.rotate_left(16));
        if orders_rng.u8(..4) == 0 {
            settings.orders = orders_rng.u8(1..10);
        }
        let mut load_rng = Rng::with_seed(seed.rotate_left(24));
        settings.config.limits.shed = load_rng.u8(..4) == 0;
        settings.config.metrics.top = load_rng.bool();
        settings.config.peers.addresses = load_rng.u8(..4) == 0;
        if load_rng.u8(..4) == 0 {
            // Nothing in this process opens it.
            settings.config.logs.access = AccessLog::File("/dev/null".into());
        }
        let mut rates_rng = Rng::with_seed(seed.rotate_left(40));
        rates::settings(&mut rates_rng, &mut settings.config);
        topics::settings(&mut rates_rng, &mut settings.config);
        let mut peers_rng = Rng::with_seed(seed.rotate_left(48));
        Origin::settings(&mut peers_rng, &mut settings.config);
        let mut users_rng = Rng::with_seed(seed.rotate_left(8));
        users::settings(&mut users_rng, &mut settings.config);
        let mut tls_rng = Rng::with_seed(seed.rotate_left(56));
        settings.config.listen[0].tls = tls_rng.u8(..4) == 0;
        let security = Security::draw(tls_rng.u64(..), &settings.config);
        let certificates = security.as_ref().map(|it| it.certificates.clone());
        let mut inquiries_rng = Rng::with_seed(seed.rotate_left(12));
        if inquiries_rng.u8(..4) == 0 {
            settings.config.backend.url = Some("http://backend/".parse().expect("a URL"));
        }
        let shards = settings.config.engine.shards;
        let network = Rc::new(RefCell::new(Network::new(shards)));
        let capacity = settings.chaos.slots as usize * shards;
        let shared = Arc::new(Shared {
            admission: Admission::new(capacity),
            stats: Stats::new(shards),
            memory: Memory::default(),
            seed: 0,
            interest: InterestTable::new(shards),
            slots: settings.chaos.slots,
            in_force: InForce::new(
                settings.config.clone(),
                users::trusted(&settings.config),
                certificates,
            ),
            secure_port: 443,
            heirs: Heirs::default(),
        });
        let ring_slots = settings.config.engine.broadcast_ring_slots;
        let mut endpoints = Mesh::new(shards + 1, ring_slots);
        let control = Control::new(endpoints.pop().expect("one more than shards"), shards);
        let nodes = endpoints.into_iter().enumerate().map(|(number, endpoint)| {
            let kernel = Kernel::new(number, network.clone(), settings.chaos.clone(), rng.fork());
            Node::new(Shard::new(kernel, number, [0].into(), endpoint, shared.clone()))
        });
        let nodes = nodes.collect();
        let bytes_max = settings.config.limits.message_bytes as usize - PREFIX_BYTES_MAX;
        let clients: Vec<_> = (0..settings.clients)
            .map(|number| {
                let plan = Plan::draw(&mut rng, shards, bytes_max);
                trace!("client {number}: {plan:?}");
                Client::new(number, plan, rng.fork())
            })
            .collect();
        let room = settings.config.limits.connections.unwrap_or(usize::MAX).min(shared.capacity());
        // Whoever moves counts on both shards for a moment.
        let most = clients.len() * if settings.moves > 0 { 2 } else { 1 };
        let context = Context {
            may_be_full: most > room || topics::are_limited(&settings.config),
            was_short_of_memory: false,
            was_overloaded: false,
            may_be_ordered_away: false,
            bytes_max: clients.iter().map(|client| client.plan.bytes_max).collect(),
            topics: clients.iter().map(|client| topic(&client.plan)).collect(),
            origins: clients
                .iter()
                .map(|_| {
                    let user = users::draw(&mut users_rng, &settings.config);
                    Origin::draw(&mut peers_rng, &settings.config).of_user(user)
                })
                .collect(),
            config_at_start: settings.config.clone(),
            shared,
            now_ms: 0,
            may_publish: false,
            shall_leave: false,
            draining_since: None,
            has_jumped: false,
        };
        trace!("{settings:?}");
        Self {
            rng,
            memory_rng,
            moves_rng,
            reloads_rng,
            load_rng,
            busy_rounds: 0,
            orders_rng,
            inquiries_rng,
            network,
            nodes,
            control,
            clients,
            context,
            settings,
            security,
            round: 0,
            skips: 0,
            accepted: 0,
        }
    }

    /// Runs to the end; panics when an invariant does not hold.
    pub fn run(mut self) {
        while self.nodes.iter().any(|node| node.shard.is_some()) {
            self.round += 1;
            assert!(self.round < ROUNDS_MAX, "no end");
            if self.round == self.settings.drain_in_round {
                self.drain();
            }
            if self.round == self.settings.jump_in_round {
                self.context.has_jumped = true;
                self.advance(self.settings.jump_ms);
            }
            let is_measured = self.memory_rng.u8(..100) < self.settings.measurements;
            if is_measured && self.round < CHANGING_ROUNDS {
                let used_bytes = self.memory_rng.u64(..LIMIT_BYTES + LIMIT_BYTES / 5);
                self.measure(used_bytes);
            }
            let is_reloaded = self.reloads_rng.u8(..100) < self.settings.reloads;
            if is_reloaded && self.round < CHANGING_ROUNDS {
                self.reload();
            }
            self.load();
            if self.go_on() {
                self.rest();
            }
        }
        self.check_end();
    }

    /// Puts the same settings in force again: every deadline is set anew, and nobody notices.
    fn reload(&mut self) {
        let trust = users::trusted(&self.settings.config);
        let certificates = self.security.as_ref().map(|it| it.certificates.clone());
        let config = self.settings.config.clone();
        self.context.shared.in_force.replace(config, trust, certificates);
        self.network.borrow_mut().wakes.iter_mut().for_each(|wakes| *wakes += 1);
    }

    /// Now and then the shards have too much to do for a while: time passes between their ticks, and
    /// their threads never sleep.
    fn load(&mut self) {
        self.busy_rounds = self.busy_rounds.saturating_sub(1);
        if self.settings.config.limits.shed && self.round < CHANGING_ROUNDS {
            if self.load_rng.u8(..50) == 0 {
                trace!("{} ms: too much to do", self.context.now_ms);
                self.context.was_overloaded = true;
                self.busy_rounds = self.load_rng.u32(10..200);
            }
            if self.busy_rounds > 0 {
                let ms = self.load_rng.u64(6..12);
                self.advance(ms);
            }
        }
        let is_busy = self.busy_rounds > 0;
        self.nodes
            .iter_mut()
            .filter_map(|node| node.shard.as_mut())
            .for_each(|shard| shard.io().is_busy = is_busy);
    }

    /// One round; true when everything has come to rest.
    fn go_on(&mut self) -> bool {
        let everybody = self.rng.u8(..4) == 0;
        let ms = self.rng.u64(..3);
        self.advance(ms);
        let mut is_idle = true;
        let mut order: Vec<usize> = (0..self.clients.len()).collect();
        self.rng.shuffle(&mut order);
        for number in order {
            is_idle &= (everybody || self.rng.bool()) && !self.step_client(number);
        }
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.rng.shuffle(&mut order);
        for number in order {
            is_idle &= !self.step_node(number, everybody);
        }
        is_idle &= !self.step_control(everybody);
        let is_waiting = |client: &Client| {
            let subscribes = client.plan.is_member() || client.plan.is_stream();
            subscribes
                && !client.upgraded
                && !client.is_refused
                && !client.has_finished
                && !client.is_gone()
        };
        self.context.may_publish |= !self.clients.iter().any(is_waiting);
        is_idle
    }

    fn advance(&mut self, ms: u64) {
        self.context.now_ms += ms;
        self.network.borrow_mut().now_ms = self.context.now_ms;
    }

    /// Whether the client did something or will.
    fn step_client(&mut self, number: usize) -> bool {
        let client = &mut self.clients[number];
        let mut network = self.network.borrow_mut();
        if client.socket.is_some() {
            return client.step(&mut network, &self.context);
        }
        if client.plan.start > self.round {
            return true;
        }
        if self.nodes[client.plan.shard].shard.is_none() {
            client.has_vanished = true;
            return false;
        }
        let capacities = (self.settings.to_server_bytes, self.settings.to_client_bytes);
        let origin = &self.context.origins[number];
        let security = self.security.as_ref();
        client.connect(&mut network, capacities, origin, security, self.context.now_ms);
        true
    }

    /// Whether the shard or its kernel did something or could.
    fn step_node(&mut self, number: usize, surely: bool) -> bool {
        let node = &mut self.nodes[number];
        match node.step(self.context.now_ms, surely, &mut self.rng) {
            Step::Idle => return false,
            Step::Active => {}
            Step::Turned { goes_on } => {
                let asks = self.clients.iter().any(|client| client.plan.requests > 0);
                let shard = node.shard.as_mut().expect("it has turned");
                invariants::check(shard, &self.settings.config, asks);
                peers::check_limits(&self.clients, &self.network.borrow(), &self.context);
                topics::check_limits(&self.clients, &self.network.borrow(), &self.context);
                users::check_limits(&self.context);
                match goes_on {
                    true => self.move_one(number),
                    false => self.stop(number),
                }
            }
        }
        true
    }

    /// Whether the control thread did something or could: it orders something now and then, waits
    /// no more for some of that, and hears of it only when it is woken.
    fn step_control(&mut self, surely: bool) -> bool {
        let rng = &mut self.orders_rng;
        if rng.u8(..100) < self.settings.orders && self.round < CHANGING_ROUNDS {
            let number = rng.usize(..self.nodes.len());
            let shard = self.nodes[number].shard.as_ref();
            let keys = shard.map(|shard| shard.connections().keys()).unwrap_or_default();
            let errand = Control::draw(rng, &keys);
            trace!("shard {number} is ordered to {errand:?}");
            let closes = !matches!(errand, Errand::List { .. });
            let is_sent = self.control.order(number, errand);
            self.context.may_be_ordered_away |= is_sent && closes;
            if rng.u8(..8) == 0 {
                self.control.withdraw(number);
            }
        }
        if self.inquiries_rng.u8(..3) == 0 && self.control.consult(&mut self.inquiries_rng) {
            trace!("somebody has been asked about a request");
        }
        let is_woken = self.network.borrow().wakes[self.nodes.len()] > 0;
        if self.control.is_asleep() && !is_woken {
            return !self.control.consultations().is_empty();
        }
        if surely || self.orders_rng.bool() {
            self.network.borrow_mut().wakes[self.nodes.len()] = 0;
            for (shard, outcome) in self.control.hear() {
                trace!("shard {shard} answers {outcome:?}");
            }
            for participant in self.control.rest() {
                self.network.borrow_mut().wakes[participant] += 1;
            }
        }
        true
    }

    /// Wants a connection of a shard to go on with another, at any point of its life.
    fn move_one(&mut self, number: usize) {
        let to = self.moves_rng.usize(..self.nodes.len());
        let is_due = self.moves_rng.u8(..100) < self.settings.moves;
        let Some(shard) = self.nodes[number].shard.as_mut().filter(|_| is_due) else { return };
        let keys = shard.connections().keys();
        let Some(&key) = self.moves_rng.choice(&keys) else { return };
        if shard.move_to(key, to) {
            trace!("shard {number}: {key:?} is to go on with shard {to}");
        }
    }

    fn stop(&mut self, number: usize) {
        trace!("shard {number} stops");
        let Some(mut shard) = self.nodes[number].shard.take() else { return };
        shard.io().check_end();
        self.accepted += shard.io().accepted;
        shard.leave().expect("the simulated kernel never refuses");
        self.network.borrow_mut().close_listener(number);
    }

    /// All is quiet: checks that nothing is owed, and begins what comes next.
    fn rest(&mut self) {
        if self.context.shared.memory.signal().pressure() > Pressure::Calm {
            return self.measure(0);
        }
        let shards = self.nodes.iter().filter_map(|node| node.shard.as_ref());
        if shards.map(|shard| shard.stats().overload_level.value()).any(|level| level > 0) {
            // Those who wait are let in, and the level comes down.
            self.busy_rounds = 0;
            self.skip_to_deadline();
            return;
        }
        if self.control.answer_late() {
            return;
        }
        let mut shards = self.nodes.iter().filter_map(|node| node.shard.as_ref());
        if shards.any(|shard| rates::is_waiting(shard) || inquiries::is_waiting(shard)) {
            self.skip_to_deadline();
            return;
        }
        trace!("{} ms: at rest", self.context.now_ms);
        for client in &self.clients {
            client.check_rest(&self.network.borrow());
        }
        for number in 0..self.nodes.len() {
            assert!(!self.control.is_owed_by(number), "shard {number} owes an answer");
        }
        users::check_rest(&self.clients, &self.context);
        self.check_deliveries();
        if !self.context.may_publish {
            self.context.may_publish = true;
            return;
        }
        let is_draining = self.context.draining_since.is_some();
        if self.settings.rests > 0 && !is_draining {
            self.settings.rests -= 1;
            self.skip_to_deadline();
            return;
        }
        let bursts = self.clients.iter_mut().map(Client::begin_burst);
        if bursts.fold(false, |any, burst| any | burst) {
            self.settings.rests = self.rng.u8(..3);
            return;
        }
        if !self.context.shall_leave {
            self.context.shall_leave = true;
            self.clients.iter_mut().for_each(|client| client.plan.bursts = 0);
            if self.settings.drains_early && !is_draining {
                self.drain();
            }
            return;
        }
        // An old kernel does not tell what a peer has not taken: there TCP alone finds out that the
        // peer of a stream has vanished, after a quarter of an hour.
        let finds_all = self.settings.chaos.socket_options
            || !self.clients.iter().any(|client| client.plan.is_stream());
        let must_end = self.settings.config.limits.idle_timeout.is_some() && finds_all;
        self.skips += 1;
        let is_settled = !must_end && !is_draining && self.skips > SKIPS_MAX;
        if is_settled || !self.skip_to_deadline() {
            assert!(!is_draining, "stuck in the drain");
            let open = self.total("connections_open");
            assert!(open == 0 || !must_end, "{open} connections stay for ever");
            self.drain();
        }
    }

    /// Lets the time pass until a shard has something to do; false when none ever will.
    fn skip_to_deadline(&mut self) -> bool {
        let Some(next) = self.nodes.iter().filter_map(Node::sleeps_until).min() else {
            return false;
        };
        self.advance(next.saturating_sub(self.context.now_ms));
        true
    }

    /// Tells all shards how much memory is used, as the control thread does.
    fn measure(&mut self, used_bytes: u64) {
        let memory = &self.context.shared.memory;
        if memory.tell(Usage { used_bytes, limit_bytes: LIMIT_BYTES }) {
            let pressure = memory.signal().pressure();
            trace!("{} ms: memory is {pressure:?}", self.context.now_ms);
            self.context.was_short_of_memory |= pressure > Pressure::Calm;
            self.network.borrow_mut().wakes.iter_mut().for_each(|wakes| *wakes += 1);
        }
    }

    fn drain(&mut self) {
        if self.context.draining_since.is_some() {
            return;
        }
        trace!("{} ms: drain", self.context.now_ms);
        self.context.draining_since = Some(self.context.now_ms);
        self.control.drain();
        for participant in self.control.rest() {
            self.network.borrow_mut().wakes[participant] += 1;
        }
    }

    /// Every member has got every message of its topic but those that a policy dropped: exactly as
    /// many are missing as were counted for it.
    fn check_deliveries(&mut self) {
        for number in 0..self.clients.len() {
            if !is_reliable(&self.clients[number]) {
                continue;
            }
            let member = &self.clients[number];
            let (topic, exclude_self) = match member.plan.service {
                Service::Topic { topic, exclude_self } => (topic, exclude_self),
                Service::Stream { topic, .. } => (topic, false),
                _ => continue,
            };
            let (mut missing, mut is_certain) = (0, true);
            for publisher in &self.clients {
                let is_own = publisher.number == member.number;
                let is_other_topic = self.context.topics[publisher.number] != Some(topic);
                if is_other_topic || is_own && exclude_self {
                    continue;
                }
                let Some(owed) = self.published(publisher) else {
                    is_certain = false;
                    continue;
                };
                // Whoever gets lines is owed no others.
                let publication = |number| self.context.publication(publisher.number, number);
                let is_owed = |number: &u32| {
                    !member.plan.is_stream() || frames::line(&publication(*number)).is_some()
                };
                let owed = (0..owed).filter(is_owed).count() as u32;
                let got = member.received.get(&publisher.number).map_or(0, |(count, _)| *count);
                assert!(
                    owed >= got,
                    "client {number}: {got} of {owed} messages of {}",
                    publisher.number
                );
                missing += u64::from(owed - got);
            }
            let Some(dropped) = self.dropped(number) else { continue };
            let policy = self.settings.config.slow_consumer;
            assert!(
                missing <= dropped && (missing == dropped || !is_certain),
                "client {number}: {missing} messages are missing, {dropped} dropped",
            );
            assert!(dropped == 0 || policy != SlowConsumer::Disconnect, "and is still there");
        }
    }

    /// Messages that policies kept from a client, as far as the shard that has it can still tell.
    fn dropped(&mut self, number: usize) -> Option<u64> {
        let socket = self.clients[number].socket?;
        self.nodes.iter_mut().filter_map(|node| node.shard.as_mut()).find_map(|shard| {
            let mut tenants = shard.io().slots.iter().flatten();
            let key = tenants.find(|tenant| tenant.socket == socket)?.key?;
            Some(shard.dropped_messages(key))
        })
    }

    /// Messages of a client that the server must have published, where that is certain.
    fn published(&self, publisher: &Client) -> Option<u32> {
        if matches!(publisher.plan.service, Service::Post { .. }) {
            // What is not answered may have been published, unless an answer was the last.
            let is_certain = publisher.statuses.is_empty() && !publisher.has_vanished;
            let was_reset = publisher.end == Some(None);
            return (is_certain && !was_reset).then_some(publisher.accepted);
        }
        // Who does not read is paused, with messages received that are published later or never.
        let never_looks = publisher.plan.reading == Reading::Never || publisher.has_vanished;
        let was_cut_off = publisher.end.is_some()
            && publisher.close_received.is_none()
            && !publisher.has_finished;
        let is_uncertain = publisher.was_closed
            || was_cut_off
            || never_looks
            || self.context.has_jumped
            || !publisher.upgraded;
        if is_uncertain {
            return None;
        }
        let consumed = self.network.borrow().sockets[publisher.socket?].consumed_by_application();
        let ends = publisher.publication_ends.iter();
        Some(ends.filter(|end| **end <= consumed).count() as u32)
    }

    fn total(&self, counter: &str) -> u64 {
        self.context.shared.stats.to_json()[counter].as_u64().expect("a counter")
    }

    /// What must hold when all shards have stopped.
    fn check_end(&mut self) {
        self.control.hear();
        for number in 0..self.nodes.len() {
            assert!(!self.control.is_owed_by(number), "shard {number} owes an answer");
        }
        assert_eq!(self.total("connections_open"), 0, "connections leak");
        assert_eq!(self.total("websockets_open"), 0, "WebSockets leak");
        assert_eq!(self.total("streams_open"), 0, "streams leak");
        let counted = self.context.shared.admission.counted();
        assert_eq!(counted, 0, "connections count for an address and are gone");
        let counted = self.context.shared.admission.topics_and_members();
        assert_eq!(counted, (0, 0), "members count for a topic and are gone");
        let counted = self.context.shared.admission.users_and_seats();
        assert_eq!(counted, (0, 0), "connections count for a user and are gone");
        let waiting = self.context.shared.admission.waiting_to_publish();
        assert_eq!(waiting, 0, "some wait to publish and are gone");
        assert_eq!(self.total("connections_accepted"), self.accepted, "accepts");
        let stats = self.context.shared.stats.to_json();
        let closes = stats["closes"].as_object().expect("by initiator").values();
        let closes = closes.flat_map(|codes| codes.as_object().expect("by code").values());
        let closes: u64 = closes.filter_map(|count| count.as_u64()).sum();
        let begun = self.total("upgrades") + self.total("streams_begun");
        assert_eq!(closes, begun, "every WebSocket and every stream ends once");
        for shard in self.context.shared.stats.of_shards() {
            let told = shard.close_records.last().len() as u64;
            assert_eq!(told, shard.websocket_duration.counts().count(), "each end is told");
        }
        let network = self.network.borrow();
        let consumed: u64 = network.sockets.iter().map(|socket| socket.consumed).sum();
        assert_eq!(self.total("bytes_in"), consumed, "bytes received");
        let produced: u64 = network.sockets.iter().map(|socket| socket.produced).sum();
        assert_eq!(self.total("bytes_out"), produced, "bytes sent");
    }
}

/// Whether everything published reaches this client, and it tells.
fn is_reliable(client: &Client) -> bool {
    client.is_full_member
        && client.is_open()
        && !client.is_gone()
        && client.plan.reading != Reading::Never
}

fn topic(plan: &Plan) -> Option<u8> {
    match plan.service {
        Service::Topic { topic, .. } | Service::Post { topic } => Some(topic),
        _ => None,
    }
}

/// What the content of a publication takes besides its filler.
const PREFIX_BYTES_MAX: usize = 16;
/// After this many rounds memory and settings stay as they are; only at rest does time pass in leaps.
const CHANGING_ROUNDS: u32 = 1000;
/// What the process may use; what it uses is drawn.
const LIMIT_BYTES: u64 = 200_000;
/// Without an idle timeout some connections stay for ever; then this is enough.
const SKIPS_MAX: u32 = 100;
/// Far more than any run needs.
const ROUNDS_MAX: u32 = 100_000;
