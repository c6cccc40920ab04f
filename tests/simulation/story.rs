//! Short stories: shards on kernels that do everything at once, and peers that do what a test says.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use ringwire::admission::Admission;
use ringwire::config::{Config, Engine, Limits};
use ringwire::hub::interest::InterestTable;
use ringwire::hub::mesh::Mesh;
use ringwire::identity::Trust;
use ringwire::memory::Memory;
use ringwire::shard::in_force::InForce;
use ringwire::shard::{Heirs, Shard, Shared};
use ringwire::stats::Stats;

use crate::control::Control;
use crate::decoder::{Decoder, Item};
use crate::frames;
use crate::invariants;
use crate::kernel::{Chaos, Kernel};
use crate::network::{End, Network, Read, SocketId};
use crate::secure::Security;

/// Shards on kernels that do everything at once, and peers that do what the story says.
pub struct Story {
    pub network: Rc<RefCell<Network>>,
    pub shared: Arc<Shared>,
    pub shards: Vec<Shard<Kernel>>,
    pub control: Control,
    pub rng: Rng,
    security: Option<Security>,
}

impl Story {
    pub fn new(shards: usize, change: impl FnOnce(&mut Config, &mut Chaos)) -> Self {
        let mut config = Config {
            engine: Engine {
                shards,
                broadcast_ring_slots: 2,
                park_after: None,
                ..Engine::default()
            },
            limits: Limits { backlog_bytes: 4096, shed: false, ..Limits::default() },
            ..Config::default()
        };
        let mut chaos = Chaos {
            ready: 100,
            short: 0,
            end: 0,
            again: 0,
            no_buffers: 0,
            no_memory: 0,
            late: 0,
            early: 0,
            socket_options: true,
            incremental: false,
            buffers: 32,
            buffer_bytes: 4096,
            slots: 32,
        };
        change(&mut config, &mut chaos);
        let security = Security::draw(STORY_SEED, &config);
        let certificates = security.as_ref().map(|it| it.certificates.clone());
        // A listener that redirects stands behind the one that serves.
        let listener = config.redirect_http.len() as u32;
        let network = Rc::new(RefCell::new(Network::new(shards)));
        let (stats, slots) = (Stats::new(shards), chaos.slots);
        let memory = Memory::default();
        let interest = InterestTable::new(shards);
        let admission = Admission::new(slots as usize * shards);
        let in_force = InForce::new(config, Trust::default(), certificates);
        let shared = Arc::new(Shared {
            admission,
            in_force,
            stats,
            memory,
            seed: 0,
            interest,
            slots,
            secure_port: 443,
            heirs: Heirs::default(),
        });
        let mut endpoints = Mesh::new(shards + 1, 2);
        let control = Control::new(endpoints.pop().expect("one more"), shards);
        let shard = |(number, endpoint)| {
            let rng = Rng::with_seed(1);
            let kernel = Kernel::new(number, network.clone(), chaos.clone(), rng);
            Shard::new(kernel, number, [listener].into(), endpoint, shared.clone())
        };
        let shards = endpoints.into_iter().enumerate().map(shard).collect();
        Self { network, shared, shards, control, rng: Rng::with_seed(2), security }
    }

    /// One tick of one shard; whether it goes on.
    pub fn tick(&mut self, shard: usize) -> bool {
        let now = Duration::from_millis(self.network.borrow().now_ms);
        let shard = &mut self.shards[shard];
        shard.submit(now).expect("never fails");
        shard.io().progress();
        let goes_on = shard.turn(now);
        invariants::check(shard, &self.shared.in_force.current().config, true);
        goes_on
    }

    /// Lets the kernel of a shard go on while that does not.
    pub fn progress(&mut self, shard: usize, times: u8) {
        (0..times).for_each(|_| self.shards[shard].io().progress());
    }

    /// Ticks until nothing happens by itself any more.
    pub fn settle(&mut self, shard: usize) {
        for _ in 0..100 {
            self.tick(shard);
        }
    }

    /// Lets time pass, with a tick for each step of the timers.
    pub fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / 100 {
            self.network.borrow_mut().now_ms += 100;
            for shard in 0..self.shards.len() {
                self.tick(shard);
            }
        }
    }

    pub fn connect(&mut self, shard: usize) -> SocketId {
        self.network.borrow_mut().connect(shard, (1 << 20, 4096))
    }

    /// A connection whose client is about to shake hands.
    pub fn begin_secured(&mut self, shard: usize) -> SocketId {
        let socket = self.connect(shard);
        let security = self.security.as_ref().expect("a listener with TLS");
        let end = security.client(Vec::new(), Rng::with_seed(3));
        self.network.borrow_mut().sockets[socket].secure(end);
        socket
    }

    /// A connection on which both have shaken hands.
    pub fn connect_secured(&mut self, shard: usize) -> SocketId {
        let socket = self.begin_secured(shard);
        for _ in 0..10 {
            self.network.borrow_mut().sockets[socket].pump();
            self.tick(shard);
        }
        socket
    }

    /// The same from an address.
    pub fn connect_from(&mut self, address: &str, shard: usize) -> SocketId {
        let address = address.parse().expect("an address");
        self.network.borrow_mut().connect_from(address, shard, (1 << 20, 4096))
    }

    /// Whether the server has reset a peer.
    pub fn is_reset(&self, socket: SocketId) -> bool {
        let mut network = self.network.borrow_mut();
        network.sockets[socket].client_read(usize::MAX) == Read::End(End::Reset)
    }

    /// Connections that are counted for an address.
    pub fn counted_for(&self, address: &str) -> u32 {
        let rules = &self.shared.in_force.current().admission;
        self.shared.admission.counted_for(rules, address.parse().expect("an address"))
    }

    /// Requests refused for a reason.
    pub fn refused(&self, reason: &str) -> u64 {
        let stats = self.shared.stats.to_json();
        stats["connections_refused"][reason].as_u64().expect("a reason")
    }

    pub fn write(&mut self, socket: SocketId, bytes: &[u8]) {
        let written = self.network.borrow_mut().sockets[socket].client_write(bytes);
        assert_eq!(written, bytes.len(), "there is room");
    }

    pub fn send(&mut self, socket: SocketId, opcode: u8, payload: &[u8]) {
        let frame = frames::frame(&mut self.rng, true, opcode, payload);
        self.write(socket, &frame);
    }

    /// A connection that has been upgraded.
    pub fn open(&mut self, shard: usize, path: &str) -> (SocketId, Decoder) {
        let socket = match self.security {
            Some(_) => self.connect_secured(shard),
            None => self.connect(shard),
        };
        let mut decoder = Decoder::default();
        let upgrade = frames::upgrade(&mut self.rng, path);
        self.write(socket, &upgrade);
        self.settle(shard);
        let items = self.read(socket, &mut decoder);
        assert_eq!(items, [Item::Response { status: 101, closes: false }]);
        (socket, decoder)
    }

    /// The same with an offer of compression that is agreed to.
    pub fn open_with_offer(
        &mut self,
        shard: usize,
        path: &str,
        offer: &str,
    ) -> (SocketId, Decoder) {
        let (socket, mut decoder) = (self.connect(shard), Decoder::default());
        let upgrade = frames::upgrade(&mut self.rng, path);
        self.write(socket, &frames::with_offer(upgrade, offer));
        decoder.expect_response(false);
        self.settle(shard);
        let items = self.read(socket, &mut decoder);
        assert_eq!(items, [Item::Response { status: 101, closes: false }]);
        assert!(decoder.agreement.is_some(), "compression was agreed on");
        (socket, decoder)
    }

    /// Bytes on their way to the server.
    pub fn waiting(&self, socket: SocketId) -> usize {
        self.network.borrow().sockets[socket].readable()
    }

    /// Bytes that the server has received from a peer.
    pub fn consumed(&self, socket: SocketId) -> u64 {
        self.network.borrow().sockets[socket].consumed
    }

    pub fn read(&mut self, socket: SocketId, decoder: &mut Decoder) -> Vec<Item> {
        let read = self.network.borrow_mut().sockets[socket].client_read(usize::MAX);
        if let Read::Bytes(bytes) = read {
            decoder.push(&bytes);
        }
        std::iter::from_fn(|| decoder.next()).collect()
    }

    /// Reads all that a shard has for a peer.
    pub fn read_all(&mut self, shard: usize, socket: SocketId, decoder: &mut Decoder) -> Vec<Item> {
        let mut items = Vec::new();
        for _ in 0..10 {
            self.settle(shard);
            items.extend(self.read(socket, decoder));
        }
        items
    }

    pub fn reset(&mut self, socket: SocketId) {
        self.network.borrow_mut().sockets[socket].client_reset(false);
    }

    pub fn drain(&mut self) {
        self.control.drain();
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.shared.stats.to_json()[name].as_u64().expect("a counter")
    }
}

/// What is random about TLS follows from it: AES-128.
const STORY_SEED: u64 = 3;
