//! The control thread of a simulated server: it drains, and orders shards to do something with
//! their connections. It sleeps as the real one does, so that a wake-up that is lost shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use ringwire::hub::mesh::Endpoint;
use ringwire::hub::{Departure, Message};
use ringwire::io::Key;
use ringwire::shard::mail::Letter;
use ringwire::shard::orders::top::{Measure, Subject};
use ringwire::shard::orders::{Errand, Farewell, OUTCOME_BYTES, Order, Outcome};
use ringwire::shard::pending::Pending;
use ringwire::shard::timers::Tick;
use ringwire::wire::close::CloseCode;

/// The control thread's end of the mesh.
pub struct Control {
    endpoint: Endpoint<Message, Letter>,
    /// The shards that orders went to.
    pending: Pending<usize>,
    /// The order that each shard has.
    orders: Vec<Option<Sent>>,
    is_asleep: bool,
}

/// An order that has not been answered.
struct Sent {
    errand: Errand,
    withdrawn: Arc<AtomicBool>,
}

impl Control {
    pub fn new(mut endpoint: Endpoint<Message, Letter>, shards: usize) -> Self {
        endpoint.stop_reading_rings();
        let orders = (0..shards).map(|_| None).collect();
        Self { endpoint, pending: Pending::new(shards), orders, is_asleep: false }
    }

    /// Tells all shards to drain.
    pub fn drain(&mut self) {
        assert!(
            self.endpoint.publish(Message::Drain(Departure::Stopped), 0).is_ok(),
            "no room for one message"
        );
        self.is_asleep = false;
    }

    /// Sends an order; false when the shard has one already, has no place for it, or takes none.
    pub fn order(&mut self, shard: usize, errand: Errand) -> bool {
        let own = self.orders.len();
        if self.orders[shard].is_some() {
            return false;
        }
        let Ok(answer) = self.endpoint.take_place(own, OUTCOME_BYTES) else { return false };
        let Ok(place) = self.endpoint.take_place(shard, errand.held_bytes()) else { return false };
        let Ok(key) = self.pending.insert(shard, Tick::MAX / 2) else { return false };
        let withdrawn = Arc::new(AtomicBool::new(false));
        self.orders[shard] = Some(Sent { errand: errand.clone(), withdrawn: withdrawn.clone() });
        let order = Order { errand, key, answer, withdrawn };
        self.endpoint.post(place, Letter::Order(Box::new(order)));
        self.is_asleep = false;
        true
    }

    /// Something that a shard may be ordered to do with its connections.
    pub fn draw(rng: &mut Rng, keys: &[Key]) -> Errand {
        let farewell = Farewell { code: CloseCode(ORDERED), reason: "by order".to_owned() };
        match (rng.u8(..8), rng.choice(keys)) {
            (0, _) => Errand::CloseTopic { topic: rng.u8(..2).to_string(), farewell },
            (1, _) => Errand::Release {
                count: rng.usize(1..6),
                window: Duration::from_millis(rng.u64(..3000)),
                seed: rng.u64(..),
            },
            (2 | 3, Some(&key)) => Errand::Close { key, farewell },
            (4, _) => Errand::Top {
                measure: rng.choice(MEASURES).expect("several"),
                subject: rng.choice(SUBJECTS).expect("several"),
                most: rng.usize(1..9),
            },
            _ => Errand::List { from: rng.u32(..8), most: rng.usize(1..9), user: None },
        }
    }

    /// Waits no more for what a shard was ordered.
    pub fn withdraw(&mut self, shard: usize) {
        if let Some(sent) = &self.orders[shard] {
            sent.withdrawn.store(true, Ordering::Relaxed);
        }
    }

    /// Takes the answers that have come, with the shards; each is one to what was ordered.
    pub fn hear(&mut self) -> Vec<(usize, Outcome)> {
        self.endpoint.awake();
        let mut heard = Vec::new();
        while let Some(letter) = self.endpoint.next_letter() {
            let Letter::Outcome(key, outcome) = letter else { panic!("no answer") };
            let shard = self.pending.end(key).expect("an answer to what was ordered");
            let sent = self.orders[shard].take().expect("one answer to each order");
            let was_withdrawn = sent.withdrawn.load(Ordering::Relaxed);
            let is_fitting = match (&*outcome, &sent.errand) {
                (Outcome::Draining, _) => true,
                (Outcome::Withdrawn, _) => was_withdrawn,
                (Outcome::Connections { connections, .. }, Errand::List { most, .. }) => {
                    connections.len() <= *most
                }
                (Outcome::Top(ranking), Errand::Top { most, .. }) => ranking.entries.len() <= *most,
                (Outcome::NotCharged, Errand::Top { measure, .. }) => {
                    matches!(measure, Measure::Bytes | Measure::Messages)
                }
                (Outcome::Closing(count), Errand::Release { count: most, .. }) => {
                    *count <= *most as u64
                }
                (Outcome::Closing(count), Errand::Close { .. }) => *count == 1,
                (Outcome::Closing(_), Errand::CloseTopic { .. })
                | (Outcome::Releasing, Errand::Release { .. })
                | (Outcome::Unknown | Outcome::NotOpen | Outcome::Moving, Errand::Close { .. }) => {
                    true
                }
                _ => false,
            };
            assert!(is_fitting, "{outcome:?} to {:?}", sent.errand);
            heard.push((shard, *outcome));
        }
        heard
    }

    /// Goes to sleep if it may, and tells whom to wake before.
    pub fn rest(&mut self) -> Vec<usize> {
        let wakeups = self.endpoint.take_wakeups().collect();
        self.is_asleep = self.endpoint.prepare_sleep();
        wakeups
    }

    /// Whether it waits to be woken.
    pub fn is_asleep(&self) -> bool {
        self.is_asleep
    }

    /// Whether a shard has not answered what it was ordered.
    pub fn is_owed_by(&self, shard: usize) -> bool {
        self.orders[shard].is_some()
    }
}

/// The code by which connections are closed by order.
pub const ORDERED: u16 = 4321;

const MEASURES: [Measure; 4] = [Measure::Bytes, Measure::Messages, Measure::Backlog, Measure::Idle];
const SUBJECTS: [Subject; 3] = [Subject::Connections, Subject::Topics, Subject::Shards];
