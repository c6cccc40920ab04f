//! Worlds of client sessions: shards on simulated kernels that are homes of channels, and clients
//! that subscribe, publish, break off and come back, in any order.
//!
//! What holds is told from the side of the clients, by the offsets of what they get
//! (`subscription.rs`), and when all is at rest.

mod client;
mod replies;
mod stories;
mod subscription;
mod truth;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ringwire::admission::Admission;
use ringwire::config::{ChannelOptions, Config, MessageTypes, Namespace, Realtime};
use ringwire::hub::interest::InterestTable;
use ringwire::hub::mesh::Mesh;
use ringwire::identity::Trust;
use ringwire::memory::Memory;
use ringwire::shard::in_force::InForce;
use ringwire::shard::{Heirs, Shard, Shared};
use ringwire::stats::Stats;

use crate::control::Control;
use crate::invariants;
use crate::kernel::Kernel;
use crate::network::Network;
use crate::node::{Node, Step};
use crate::settings::Settings;
use crate::trace::trace;
use client::{Client, Context};
use subscription::{Subscription, hears_of_others};
use truth::Truth;

/// Everything of one run with sessions.
pub struct SessionWorld {
    rng: Rng,
    network: Rc<RefCell<Network>>,
    nodes: Vec<Node>,
    control: Control,
    clients: Vec<Client>,
    context: Context,
    shared: Arc<Shared>,
    config: Config,
    now_ms: u64,
    /// A shard that gets nothing done, and for how many rounds.
    stalled: (usize, u32),
    /// How often everything is to come to rest before the clients leave.
    bursts: u8,
    is_draining: bool,
    has_left: bool,
}

impl SessionWorld {
    /// Draws a world.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed.rotate_left(20));
        let Settings { config: drawn, mut chaos, to_server_bytes, to_client_bytes, .. } =
            Settings::draw(&mut rng);
        chaos.slots = 32;
        let keeps_all = rng.bool();
        let config = config(&mut rng, drawn, keeps_all);
        trace!("{config:?}");
        let shards = config.engine.shards;
        let network = Rc::new(RefCell::new(Network::new(shards)));
        let shared = Arc::new(Shared {
            admission: Admission::new(chaos.slots as usize * shards),
            stats: Stats::new(shards),
            memory: Memory::default(),
            seed,
            interest: InterestTable::new(shards),
            slots: chaos.slots,
            in_force: InForce::new(config.clone(), Trust::default(), None),
            secure_port: 443,
            heirs: Heirs::default(),
        });
        let mut endpoints = Mesh::new(shards + 1, config.engine.broadcast_ring_slots);
        let control = Control::new(endpoints.pop().expect("one more than shards"), shards);
        let nodes = endpoints.into_iter().enumerate().map(|(number, endpoint)| {
            let kernel = Kernel::new(number, network.clone(), chaos.clone(), rng.fork());
            Node::new(Shard::new(kernel, number, [0].into(), endpoint, shared.clone()))
        });
        let nodes = nodes.collect();
        let clients = (0..rng.usize(2..6)).map(|number| Client::new(number, rng.fork())).collect();
        let context = Context {
            shards,
            capacities: (to_server_bytes, to_client_bytes),
            message_bytes: config.limits.message_bytes as usize,
            keeps_all,
            may_be_slow: config.limits.backlog_bytes < AMPLE_BYTES,
            truth: Truth::default(),
        };
        Self {
            bursts: rng.u8(..3),
            rng,
            network,
            nodes,
            control,
            clients,
            context,
            shared,
            config,
            now_ms: 0,
            stalled: (0, 0),
            is_draining: false,
            has_left: false,
        }
    }

    /// Runs to the end; panics when something does not hold.
    pub fn run(mut self) {
        let mut rounds = 0;
        while self.nodes.iter().any(|node| node.shard.is_some()) {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "no end");
            if self.go_on() {
                self.rest();
            }
        }
        let stats = self.shared.stats.to_json();
        assert_eq!(stats["connections_open"].as_u64(), Some(0), "connections leak");
        assert_eq!(stats["websockets_open"].as_u64(), Some(0), "WebSockets leak");
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
            if !everybody && self.rng.bool() {
                is_idle = false;
                continue;
            }
            let mut network = self.network.borrow_mut();
            is_idle &= !self.clients[number].step(&mut network, &mut self.context);
        }
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.rng.shuffle(&mut order);
        self.stalled.1 = self.stalled.1.saturating_sub(1);
        if self.rng.u8(..100) == 0 {
            self.stalled = (self.rng.usize(..self.nodes.len()), self.rng.u32(..100));
        }
        for number in order {
            is_idle &= match self.stalled {
                (stalled, 1..) if stalled == number => false,
                _ => !self.step_node(number, everybody),
            };
        }
        is_idle
    }

    fn advance(&mut self, ms: u64) {
        self.now_ms += ms;
        self.network.borrow_mut().now_ms = self.now_ms;
    }

    fn step_node(&mut self, number: usize, surely: bool) -> bool {
        let node = &mut self.nodes[number];
        match node.step(self.now_ms, surely, &mut self.rng) {
            Step::Idle => return false,
            Step::Active => {}
            Step::Turned { goes_on } => {
                let shard = node.shard.as_mut().expect("it has turned");
                invariants::check(shard, &self.config, true);
                if !goes_on && let Some(mut shard) = node.shard.take() {
                    shard.io().check_end();
                    shard.leave().expect("the simulated kernel never refuses");
                    self.network.borrow_mut().close_listener(number);
                }
            }
        }
        true
    }

    /// All is quiet: checks that nothing is owed, and begins what comes next.
    fn rest(&mut self) {
        if self.is_draining {
            assert!(self.skip_to_deadline(), "stuck in the drain");
            return;
        }
        let mut shards = self.nodes.iter().filter_map(|node| node.shard.as_ref());
        if shards.any(|shard| shard.sessions_under_way() > 0) {
            assert!(self.skip_to_deadline(), "an answer never comes");
            return;
        }
        if self.clients.iter().any(Client::is_new) {
            // Accepts go on after a while where there was no memory for one.
            assert!(self.skip_to_deadline(), "somebody is never welcomed");
            return;
        }
        trace!("{} ms: at rest", self.now_ms);
        for client in &self.clients {
            client.check_rest(&self.context);
        }
        self.check_who_is_there();
        if self.has_left {
            return self.drain();
        }
        if self.bursts > 0 {
            self.bursts -= 1;
            self.clients.iter_mut().for_each(Client::begin_burst);
            return;
        }
        self.has_left = true;
        let mut network = self.network.borrow_mut();
        self.clients.iter_mut().for_each(|client| client.leave(&mut network));
    }

    /// Everybody knows of all others who have come and gone since the last rest; and as many are
    /// there as say so.
    fn check_who_is_there(&mut self) {
        let mut names: Vec<_> =
            self.clients.iter().map(|it| it.name().map(str::to_owned)).collect();
        let mut present = 0;
        for channel in subscription::CHANNELS.iter().filter(|channel| hears_of_others(channel)) {
            let mut there = BTreeSet::new();
            for (client, name) in self.clients.iter_mut().zip(&mut names) {
                let subscriptions = client.subscriptions();
                if subscriptions.is_some_and(|it| it.contains_key(*channel)) {
                    there.extend(name.clone());
                }
            }
            present += there.len();
            for (client, name) in self.clients.iter_mut().zip(&names) {
                let Some(subscriptions) = client.subscriptions() else { continue };
                let Some(subscription) = subscriptions.get_mut(*channel) else { continue };
                check_heard(subscription, name.as_deref().expect("connected"), &there);
                subscription.at_rest = Some(there.clone());
            }
        }
        let shards = self.nodes.iter().filter_map(|node| node.shard.as_ref());
        let counted: usize = shards.map(|shard| shard.clients_present()).sum();
        assert_eq!(counted, present, "clients that homes know to be there");
    }

    /// Lets the time pass until a shard has something to do; false when none ever will.
    fn skip_to_deadline(&mut self) -> bool {
        let Some(next) = self.nodes.iter().filter_map(Node::sleeps_until).min() else {
            return false;
        };
        self.advance(next.saturating_sub(self.now_ms));
        true
    }

    fn drain(&mut self) {
        trace!("{} ms: drain", self.now_ms);
        self.is_draining = true;
        self.control.drain();
        for participant in self.control.rest() {
            self.network.borrow_mut().wakes[participant] += 1;
        }
    }
}

/// A client of this name has heard that it has come, of those who are there now only that they have
/// come, of others only that they have gone, and of everybody who came or went since the last rest.
fn check_heard(subscription: &Subscription, name: &str, there: &BTreeSet<String>) {
    let heard = &subscription.heard;
    assert_eq!(heard.get(name), Some(&true), "{name} has not heard of itself");
    for (other, is_there) in heard {
        assert_eq!(*is_there, there.contains(other), "{name} believes that of {other}");
    }
    if let Some(before) = &subscription.at_rest {
        for other in before.symmetric_difference(there) {
            assert!(heard.contains_key(other), "{name} has not heard of {other}");
        }
    }
}

/// What the server is told in such a world.
fn config(rng: &mut Rng, drawn: Config, keeps_all: bool) -> Config {
    let mut config = drawn;
    config.message_types = MessageTypes::Any;
    config.limits.connections = None;
    config.limits.lifetime = None;
    // Longer than it takes until those are asked for a pong who say nothing.
    config.limits.idle_timeout = Some(Duration::from_secs(60));
    config.limits.shed = false;
    config.engine.shards = rng.usize(1..5);
    config.limits.message_bytes = *rng.choice(&[1000, 20_000]).expect("some");
    if rng.bool() {
        config.limits.backlog_bytes = AMPLE_BYTES;
    }
    let kept = kept(if keeps_all { 10_000 } else { rng.u32(1..8) });
    let full = ChannelOptions {
        presence: true,
        join_leave: true,
        force_push_join_leave: true,
        ..kept.clone()
    };
    let namespace =
        |name: &str, options| Namespace { name: name.parse().expect("a name"), options };
    config.realtime = Realtime {
        is_on: true,
        is_insecure: true,
        namespaces: vec![
            namespace("plain", ChannelOptions::default()),
            namespace("kept", kept),
            namespace("full", full),
        ],
        ..Realtime::default()
    };
    config
}

/// Options of channels that keep so many publications, and that subscribers recover from.
fn kept(history_size: u32) -> ChannelOptions {
    ChannelOptions {
        history_size,
        history_ttl: Duration::from_secs(100_000),
        history_meta_ttl: Duration::from_secs(1_000_000),
        force_recovery: true,
        force_positioning: true,
        ..ChannelOptions::default()
    }
}

/// So much may wait for a client that none is too slow.
const AMPLE_BYTES: usize = 4 << 20;
/// Far more than any run needs.
const ROUNDS_MAX: u32 = 50_000;
