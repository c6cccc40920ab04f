//! Members move between shards while these publish, read and deliver in any order: each gets every
//! message once, and those of one shard in its order.

use proptest::prelude::*;

use super::*;
use crate::hub::interest::{Interest, InterestTable};
use crate::hub::topics::Publication;
use crate::hub::topics::tests::{message, payloads};

#[derive(Clone, Debug)]
enum Step {
    /// A member publishes, or nobody who has joined.
    Publish {
        shard: usize,
        member: Option<usize>,
        topic: usize,
    },
    /// A shard takes in so many messages of another.
    Read {
        shard: usize,
        from: usize,
        count: usize,
    },
    /// A shard delivers to so many members of each topic.
    Deliver {
        shard: usize,
        most: usize,
    },
    BeginMove {
        member: usize,
        to: usize,
    },
    /// The member leaves, if its shard has read enough.
    Leave {
        member: usize,
    },
    /// It does not.
    Stay {
        member: usize,
    },
    /// It joins, if its new shard has read enough.
    Arrive {
        member: usize,
    },
}

const SHARDS: usize = 3;
const MEMBERS: usize = 4;
const TOPICS: [&str; 2] = ["a", "b"];

fn step() -> impl Strategy<Value = Step> {
    let (shard, member) = (|| 0..SHARDS, || 0..MEMBERS);
    prop_oneof![
        6 => (shard(), prop::option::of(member()), 0..TOPICS.len())
            .prop_map(|(shard, member, topic)| Step::Publish { shard, member, topic }),
        6 => (shard(), shard(), 1..4_usize)
            .prop_map(|(shard, from, count)| Step::Read { shard, from, count }),
        4 => (shard(), 0..5_usize).prop_map(|(shard, most)| Step::Deliver { shard, most }),
        3 => (member(), shard()).prop_map(|(member, to)| Step::BeginMove { member, to }),
        3 => member().prop_map(|member| Step::Leave { member }),
        1 => member().prop_map(|member| Step::Stay { member }),
        3 => member().prop_map(|member| Step::Arrive { member }),
    ]
}

struct Shard {
    topics: Topics,
    /// What it has published for others, and how much it has read of each.
    ring: Vec<Publication>,
    read: [usize; SHARDS],
}

enum Place {
    Here,
    /// Topics are held on another shard, which had read so far then.
    Moving {
        to: usize,
        hold: HoldId,
        held_from: [u64; SHARDS],
    },
    /// It has left, with what it has joined and how far its shard had read.
    Away {
        to: usize,
        hold: HoldId,
        subscriptions: Vec<Subscription>,
        positions: [u64; SHARDS],
    },
}

struct Member {
    shard: usize,
    place: Place,
    joined: Vec<usize>,
    exclude_self: bool,
    /// The numbers of the messages that it got.
    got: Vec<u16>,
}

struct Published {
    shard: usize,
    topic: usize,
    member: Option<usize>,
}

struct World {
    shards: Vec<Shard>,
    members: Vec<Member>,
    published: Vec<Published>,
}

fn numbers(run: &mut Run, member: usize) -> Vec<u16> {
    let number = |payload: Vec<u8>| u16::from_le_bytes([payload[0], payload[1]]);
    payloads(run, member as u32).into_iter().map(number).collect()
}

impl World {
    fn new() -> Self {
        let table = InterestTable::new(SHARDS);
        let mut shards: Vec<_> = (0..SHARDS)
            .map(|_| Shard {
                topics: Topics::new(Interest::new(table.clone())),
                ring: Vec::new(),
                read: [0; SHARDS],
            })
            .collect();
        let members = (0..MEMBERS).map(|number| {
            let (shard, exclude_self) = (number % SHARDS, number % 2 == 0);
            let joined = if number == 0 { vec![0, 1] } else { vec![number % 2] };
            for &topic in &joined {
                let joins = shards[shard].topics.join(number as u32, TOPICS[topic], exclude_self);
                assert!(joins.is_ok());
            }
            Member { shard, place: Place::Here, joined, exclude_self, got: Vec::new() }
        });
        let members = members.collect();
        Self { shards, members, published: Vec::new() }
    }

    fn positions(&self, shard: usize) -> [u64; SHARDS] {
        let Shard { ring, read, topics } = &self.shards[shard];
        let mut positions = read.map(|read| read as u64);
        positions[shard] = topics.published();
        assert_eq!(positions[shard], ring.len() as u64);
        positions
    }

    /// Whether a shard has read as far in the rings of the others.
    fn has_read(&self, shard: usize, positions: &[u64; SHARDS]) -> bool {
        let own = self.positions(shard);
        (0..SHARDS).all(|of| of == shard || own[of] >= positions[of])
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { shard, member, topic } => self.publish(shard, member, topic),
            Step::Read { shard, from, count } => self.read(shard, from, count),
            Step::Deliver { shard, most } => self.deliver(shard, most),
            Step::BeginMove { member, to } => {
                let Member { shard, place, .. } = &self.members[member];
                if matches!(place, Place::Here) && *shard != to {
                    let subscriptions = self.shards[*shard].topics.subscriptions(member as u32);
                    let hold = self.shards[to].topics.hold(&subscriptions);
                    let held_from = self.positions(to);
                    self.members[member].place = Place::Moving { to, hold, held_from };
                }
            }
            Step::Leave { member } => self.leave(member),
            Step::Stay { member } => {
                if let Place::Moving { to, hold, .. } = self.members[member].place {
                    self.shards[to].topics.release(hold);
                    self.members[member].place = Place::Here;
                }
            }
            Step::Arrive { member } => self.arrive(member),
        }
    }

    fn publish(&mut self, shard: usize, member: Option<usize>, topic: usize) {
        let member = member.filter(|&member| {
            let Member { shard: of, place, joined, .. } = &self.members[member];
            !matches!(place, Place::Away { .. }) && *of == shard && joined.contains(&topic)
        });
        let number = self.published.len() as u16;
        self.published.push(Published { shard, topic, member });
        let Shard { topics, ring, .. } = &mut self.shards[shard];
        let message = message(&number.to_le_bytes());
        let publication = match member {
            Some(member) => {
                let exclude_self = self.members[member].exclude_self;
                let id = topics.join(member as u32, TOPICS[topic], exclude_self);
                let id = id.expect("it has joined");
                topics.publish(id, Some(member as u32), message)
            }
            None => topics.publish_by_name(TOPICS[topic], message),
        };
        ring.extend(publication);
    }

    fn read(&mut self, shard: usize, from: usize, count: usize) {
        if shard == from {
            return;
        }
        let ring = self.shards[from].ring.clone();
        let Shard { topics, read, .. } = &mut self.shards[shard];
        for publication in ring.iter().skip(read[from]).take(count) {
            topics.receive(publication, from, read[from] as u64);
            read[from] += 1;
        }
    }

    fn deliver(&mut self, shard: usize, most: usize) {
        let members = &mut self.members;
        self.shards[shard].topics.drain(|of_topic, runs| {
            let served = of_topic.len().min(most);
            for &member in &of_topic[..served] {
                for run in &mut *runs {
                    members[member as usize].got.extend(numbers(run, member as usize));
                }
            }
            served
        });
    }

    fn leave(&mut self, number: usize) {
        let Member { shard, place: Place::Moving { to, hold, held_from }, .. } =
            self.members[number]
        else {
            return;
        };
        if !self.has_read(shard, &held_from) {
            return;
        }
        let member = &mut self.members[number];
        let topics = &mut self.shards[shard].topics;
        let subscriptions =
            topics.take_out(number as u32, |run| member.got.extend(numbers(run, number)));
        assert_eq!(subscriptions.len(), member.joined.len());
        assert!(topics.subscriptions(number as u32).is_empty());
        let positions = self.positions(shard);
        self.members[number].place = Place::Away { to, hold, subscriptions, positions };
    }

    fn arrive(&mut self, number: usize) {
        let Place::Away { to, hold, ref subscriptions, positions } = self.members[number].place
        else {
            return;
        };
        if !self.has_read(to, &positions) {
            return;
        }
        let subscriptions = subscriptions.clone();
        let of = |shard: Option<usize>| positions[shard.unwrap_or(to)];
        let topics = &mut self.shards[to].topics;
        let held = topics.settle_in(number as u32, &subscriptions, hold, of);
        assert_eq!(topics.subscriptions(number as u32), subscriptions);
        let member = &mut self.members[number];
        let number = |payload: &[u8]| u16::from_le_bytes([payload[0], payload[1]]);
        member.got.extend(held.iter().map(|message| number(message.payload())));
        (member.shard, member.place) = (to, Place::Here);
    }

    /// Everybody reads and delivers all there is, and whoever has left arrives.
    fn finish(&mut self) {
        for number in 0..MEMBERS {
            for shard in 0..SHARDS {
                (0..SHARDS).for_each(|from| self.read(shard, from, usize::MAX));
            }
            self.step(&Step::Stay { member: number });
            self.arrive(number);
        }
        for _ in 0..3 {
            (0..SHARDS).for_each(|shard| self.deliver(shard, usize::MAX));
        }
    }

    fn check(&self) {
        for (number, member) in self.members.iter().enumerate() {
            for shard in 0..SHARDS {
                let is_owed = |published: &Published| {
                    let is_own = published.member == Some(number) && member.exclude_self;
                    member.joined.contains(&published.topic) && !is_own
                };
                let owed: Vec<u16> = (0..)
                    .zip(&self.published)
                    .filter(|(_, published)| published.shard == shard && is_owed(published))
                    .map(|(message, _)| message)
                    .collect();
                let of_shard = |message: &u16| self.published[usize::from(*message)].shard == shard;
                for topic in 0..TOPICS.len() {
                    let of_topic =
                        |message: &u16| self.published[usize::from(*message)].topic == topic;
                    let got = member.got.iter().copied().filter(of_shard).filter(of_topic);
                    let owed = owed.iter().copied().filter(of_topic);
                    assert_eq!(
                        got.collect::<Vec<_>>(),
                        owed.collect::<Vec<_>>(),
                        "member {number}, from shard {shard}"
                    );
                }
            }
        }
        for shard in &self.shards {
            assert_eq!((shard.topics.pending_bytes(), shard.topics.holds.len()), (0, 0));
            assert!(shard.topics.topics.iter().all(|(_, topic)| topic.held_bytes == 0));
        }
        let here: Vec<_> = (0..SHARDS)
            .map(|shard| {
                let topics = self.members.iter().filter(|member| member.shard == shard);
                let mut topics: Vec<_> = topics.flat_map(|member| &member.joined).collect();
                topics.sort_unstable();
                topics.dedup();
                topics.len()
            })
            .collect();
        let lens: Vec<_> = self.shards.iter().map(|shard| shard.topics.len()).collect();
        assert_eq!(lens, here, "a topic ends with its last member");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_member_that_moves_gets_every_message_once(steps in prop::collection::vec(step(), 0..200)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.step(step));
        world.finish();
        world.check();
    }
}

/// What is held bounds publishers as what waits for a delivery does.
#[test]
fn a_topic_is_full_of_what_is_held() {
    use super::super::fullness::PENDING_BYTES_MAX;
    use crate::hub::interest::Fullness;
    let mut topics = Topics::new(Interest::new(InterestTable::new(2)));
    let subscription = Subscription { topic: "a".into(), exclude_self: false };
    let hold = topics.hold(&[subscription]);
    for _ in 0..16 * PENDING_BYTES_MAX / 1000 {
        topics.publish_by_name("a", message(&[0; 1000]));
        topics.drain(|members, _| members.len());
    }
    assert_eq!(topics.pending_bytes(), 0, "nobody has joined");
    assert_eq!(topics.fullness_by_name("a"), Fullness::VeryFull);
    topics.release(hold);
    assert_eq!((topics.fullness_by_name("a"), topics.len()), (Fullness::HasRoom, 0));
}
