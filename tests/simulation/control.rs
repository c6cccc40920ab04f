//! The control thread of a simulated server: it drains, orders shards to do something with their
//! connections, and answers what they want asked about requests. It sleeps as the real one does, so that a wake-up that is lost shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use ringwire::hub::mesh::Endpoint;
use ringwire::hub::{Departure, Message};
use ringwire::identity::{Credentials, Denial, Grants, Identity, Judgement, NEVER_S};
use ringwire::io::Key;
use ringwire::shard::inquiries::Consultation;
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
    /// What is to be asked about requests.
    consultations: Vec<Consultation>,
    /// What is answered when everything else has come to rest.
    late: Vec<Consultation>,
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
        let (consultations, late) = (Vec::new(), Vec::new());
        let pending = Pending::new(shards);
        Self { endpoint, pending, orders, consultations, late, is_asleep: false }
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
            let (key, outcome) = match letter {
                Letter::Outcome(key, outcome) => (key, outcome),
                Letter::Consultation(consultation) => {
                    self.consultations.push(*consultation);
                    continue;
                }
                _ => panic!("no answer, and nothing to be asked"),
            };
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

    /// What is to be asked, the oldest first.
    pub fn consultations(&mut self) -> &mut Vec<Consultation> {
        &mut self.consultations
    }

    /// Tells a shard what was said about a request of its own.
    pub fn answer(&mut self, consultation: Consultation, judgement: Judgement) {
        let Consultation { key, answer, .. } = consultation;
        self.endpoint.post(answer, Letter::Judgement(key, Box::new(judgement)));
        self.is_asleep = false;
    }

    /// Answers one of the consultations in some way, or puts it off, or never answers; false when
    /// there is none.
    pub fn consult(&mut self, rng: &mut Rng) -> bool {
        if self.consultations.is_empty() {
            return false;
        }
        let place = rng.usize(..self.consultations.len());
        let consultation = self.consultations.swap_remove(place);
        let judgement = match rng.u8(..16) {
            0 => Judgement::Unknown,
            1 | 2 => Judgement::Denied(Denial { is_forbidden: rng.bool(), challenge: None }),
            3 => {
                self.late.push(consultation);
                return true;
            }
            // The place of the answer is free again.
            4 => return true,
            _ => consent_to(None),
        };
        self.answer(consultation, judgement);
        true
    }

    /// Answers what has been put off; false when nothing has.
    pub fn answer_late(&mut self) -> bool {
        let late = std::mem::take(&mut self.late);
        let is_any = !late.is_empty();
        late.into_iter().for_each(|consultation| self.answer(consultation, consent_to(None)));
        is_any
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

/// Everything is granted to the user `u`, for ever.
pub fn consent() -> Judgement {
    consent_to(Some("u"))
}

fn consent_to(user: Option<&str>) -> Judgement {
    let identity = Identity { user: user.map(Into::into), token_id: None, expires_s: NEVER_S };
    Judgement::Allowed(Credentials { identity, grants: Grants::all() })
}

/// The code by which connections are closed by order.
pub const ORDERED: u16 = 4321;

const MEASURES: [Measure; 4] = [Measure::Bytes, Measure::Messages, Measure::Backlog, Measure::Idle];
const SUBJECTS: [Subject; 3] = [Subject::Connections, Subject::Topics, Subject::Shards];
