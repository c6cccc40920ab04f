//! What members of derived topics get, against what each would choose for itself.

use proptest::prelude::*;

use super::*;
use crate::hub::interest::InterestTable;
use crate::hub::topics::Subscription;
use crate::hub::topics::tests::{message, payloads};
use crate::realtime::filter::Filter;
use crate::realtime::topic;
use crate::wire::message::{DataMessage, MessageKind};

const FILTERS: [&str; 3] = [
    r#"{"key":"a","cmp":"eq","val":"x"}"#,
    r#"{"key":"b","cmp":"nex"}"#,
    r#"{"op":"and","nodes":[{"key":"a","cmp":"ex"},{"key":"b","cmp":"ex"}]}"#,
];
const CHANNEL: &str = "news";

/// The topic of a filter; that of the channel for none.
fn topic_of(filter: Option<usize>) -> String {
    let filter = filter.map(|it| Filter::read(FILTERS[it]).expect("a filter"));
    filter.map_or_else(|| topic::publications(CHANNEL), |it| topic::filtered(CHANNEL, &it))
}

fn wants(filter: Option<usize>, tags: &Tags) -> bool {
    filter.is_none_or(|it| Filter::read(FILTERS[it]).expect("a filter").matches(tags))
}

#[derive(Clone, Debug)]
enum Step {
    /// A member comes, who has chosen a filter or none.
    Join(Option<usize>),
    Leave(usize),
    /// The same by way of a hold, in which so much is published.
    Hold(Option<usize>, Vec<Tags>),
    Publish(Tags),
    /// Serves this many members of each topic.
    Deliver(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tags = || prop::collection::btree_map("[ab]", "[xy]", 0..3);
    let filter = || prop::option::of(0..FILTERS.len());
    let step = prop_oneof![
        filter().prop_map(Step::Join),
        (0..8usize).prop_map(Step::Leave),
        (filter(), prop::collection::vec(tags(), 0..3)).prop_map(|(it, tags)| Step::Hold(it, tags)),
        tags().prop_map(Step::Publish),
        tags().prop_map(Step::Publish),
        (0..4usize).prop_map(Step::Deliver),
    ];
    prop::collection::vec(step, 1..40)
}

/// One of two shards, on which something is published, and members of both.
struct World {
    here: Topics,
    there: Topics,
    sent: u64,
    members: Vec<Member>,
}

struct Member {
    is_here: bool,
    filter: Option<usize>,
    /// What it is to get, and what it has got.
    due: Vec<Vec<u8>>,
    got: Vec<Vec<u8>>,
    is_gone: bool,
}

impl World {
    fn new() -> Self {
        let table = InterestTable::new(2);
        let shard = || Topics::new(Interest::new(table.clone()));
        Self { here: shard(), there: shard(), sent: 0, members: Vec::new() }
    }

    /// The shard of a member, which is every other one's.
    fn shard(&mut self, member: usize) -> &mut Topics {
        if member.is_multiple_of(2) { &mut self.here } else { &mut self.there }
    }

    fn add(&mut self, filter: Option<usize>) -> usize {
        let is_here = self.members.len().is_multiple_of(2);
        let (due, got) = (Vec::new(), Vec::new());
        self.members.push(Member { is_here, filter, due, got, is_gone: false });
        self.members.len() - 1
    }

    fn publish(&mut self, tags: &Tags) {
        self.sent += 1;
        let payload = self.sent.to_string().into_bytes();
        let (message, tags) = (message(&payload), Arc::new(tags.clone()));
        let shared = message.clone().into_shared();
        let topic = topic::publications(CHANNEL);
        let mut publications = Vec::from_iter(self.here.publish_by_name(&topic, message));
        if self.here.has_derived() {
            let source = topic::filterable(CHANNEL);
            publications.extend(self.here.publish_to_derived(&source, &shared, Some(&tags)));
        }
        for (place, publication) in publications.iter().enumerate() {
            let before = self.here.published() - publications.len() as u64;
            self.there.receive(publication, 0, before + place as u64);
        }
        for member in self.members.iter_mut().filter(|it| !it.is_gone) {
            if wants(member.filter, &tags) {
                member.due.push(payload.clone());
            }
        }
    }

    fn deliver(&mut self, most: usize) {
        let Self { here, there, members, .. } = self;
        for topics in [here, there] {
            topics.drain(|of_topic, runs| {
                let served = most.min(of_topic.len());
                for run in runs {
                    for &member in &of_topic[..served] {
                        members[member as usize].got.extend(payloads(run, member));
                    }
                }
                served
            });
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join(filter) => {
                let member = self.add(filter);
                // As all who join a channel, by way of a hold.
                let joined = [Subscription { topic: topic_of(filter).into(), exclude_self: false }];
                let hold = self.shard(member).hold(&joined);
                let held = self.shard(member).settle_in(member as u32, &joined, hold, |_| 0);
                assert!(held.is_empty(), "nothing has been published");
            }
            Step::Hold(filter, published) => {
                let joined = [Subscription { topic: topic_of(filter).into(), exclude_self: false }];
                let member = self.add(filter);
                let hold = self.shard(member).hold(&joined);
                published.iter().for_each(|tags| self.publish(tags));
                let held = self.shard(member).settle_in(member as u32, &joined, hold, |_| 0);
                let held = held.iter().map(|it| it.payload().to_vec());
                self.members[member].got.extend(held);
            }
            Step::Leave(member) => {
                if self.members.get(member).is_some_and(|it| !it.is_gone) {
                    self.shard(member).leave_all(member as u32);
                    let gone = &mut self.members[member];
                    gone.is_gone = true;
                    // What it had not got by then it does not get.
                    assert!(gone.due.starts_with(&gone.got));
                }
            }
            Step::Publish(tags) => self.publish(&tags),
            Step::Deliver(most) => self.deliver(most),
        }
    }
}

proptest! {
    #[test]
    fn each_gets_what_passes_its_filter(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        while world.here.has_pending() || world.there.has_pending() {
            world.deliver(usize::MAX);
        }
        for member in world.members.iter().filter(|it| !it.is_gone) {
            prop_assert_eq!(&member.due, &member.got, "here: {}", member.is_here);
        }
        for member in 0..world.members.len() {
            world.shard(member).leave_all(member as u32);
        }
        for topics in [&world.here, &world.there] {
            prop_assert!(topics.is_empty() && !topics.has_derived());
            prop_assert_eq!(topics.pending_bytes(), 0);
        }
    }
}

#[test]
fn nothing_is_sent_where_nobody_has_a_filter_that_is_told_of_it() {
    let mut world = World::new();
    world.take(Step::Join(None));
    assert!(!world.here.has_derived() && !world.there.has_derived());
    world.take(Step::Join(Some(0)));
    assert!(world.here.has_derived() && world.there.has_derived());
    let shared = message(b"1").into_shared();
    let [other, news] = ["other", CHANNEL].map(topic::filterable);
    assert!(world.here.publish_to_derived(&other, &shared, None).is_none());
    assert!(world.here.publish_to_derived(&news, &shared, None).is_some());
    assert!(!world.there.has_pending(), "nobody has told it");
}

/// Members with equal filters share the bytes of what passes, and one check for all.
#[test]
fn equal_filters_share_what_passes() {
    let mut world = World::new();
    for _ in 0..6 {
        world.take(Step::Join(Some(0)));
    }
    let tags = |value: &str| Tags::from([("a".to_owned(), value.to_owned())]);
    for value in ["x", "y", "x"] {
        world.publish(&tags(value));
    }
    let mut calls = 0;
    world.here.drain(|members, runs| {
        calls += 1;
        assert_eq!((members.len(), runs.len()), (3, 1), "all in one topic");
        assert_eq!(payloads(&mut runs[0], members[0]), [b"1".to_vec(), b"3".to_vec()]);
        assert_eq!(runs[0].messages_len(), 2, "what does not pass is gone");
        members.len()
    });
    assert_eq!(calls, 1);
}

/// As long as there is nothing left of the tick, nothing is chosen.
#[test]
fn choosing_waits_for_its_turn() {
    use crate::hub::run::{Encoding, EncodingBudget};
    use crate::wire::deflate::codec::{Codec, Settings};
    let settings = Settings { level: 1, threshold_bytes: 1 << 20, message_bytes_max: 1 << 20 };
    let mut world = World::new();
    world.take(Step::Join(Some(1)));
    world.publish(&Tags::from([("b".to_owned(), "x".to_owned())]));
    for (joined_bytes, expected) in [(0, (false, 1)), (1, (true, 0))] {
        world.here.drain(|members, runs| {
            let mut budget = EncodingBudget { compressed_bytes: 0, joined_bytes };
            let codec = &mut Codec::new(settings);
            let is_encoded = runs[0].encode(Encoding::Plain, codec, &mut budget);
            assert_eq!((is_encoded, runs[0].messages_len()), expected);
            if is_encoded { members.len() } else { 0 }
        });
    }
    assert!(!world.here.has_pending());
}

fn matched(pattern: &str) -> [Subscription; 1] {
    [Subscription { topic: topic::matched(pattern).into(), exclude_self: false }]
}

/// Publishes to a channel on the first shard as a shard does.
fn publish_to(world: &mut World, channel: &str) {
    let push = format!(r#"{{"push":{{"channel":"{channel}","pub":{{"data":1}}}}}}"#);
    let message = DataMessage::new(MessageKind::Text, push.as_bytes()).into_shared();
    let source = topic::matched(channel);
    if let Some(publication) = world.here.publish_to_derived(&source, &message, None) {
        let position = world.here.published() - 1;
        world.there.receive(&publication, 0, position);
    }
}

/// For each who matches on either shard, whatever is matched elsewhere.
#[test]
fn patterns_get_what_matches_them_within_their_domain() {
    let patterns = ["news:*", "news:**", "**", "$news:*", "news:*", "chat:a*"];
    let mut world = World::new();
    for pattern in patterns {
        let member = world.add(None);
        let joined = matched(pattern);
        let hold = world.shard(member).hold(&joined);
        let held = world.shard(member).settle_in(member as u32, &joined, hold, |_| 0);
        assert!(held.is_empty());
    }
    for (channel, expected) in [
        ("news:a", &[0, 1, 4][..]),
        ("news:a/b", &[1]),
        ("plain", &[2]),
        ("$plain", &[]),
        ("$news:a", &[3]),
        ("chat:b", &[]),
        ("chat:ab", &[5]),
        ("chat:ab#42", &[]),
    ] {
        publish_to(&mut world, channel);
        world.deliver(usize::MAX);
        for (member, pattern) in patterns.iter().enumerate() {
            let got = std::mem::take(&mut world.members[member].got);
            assert_eq!(got.len(), usize::from(expected.contains(&member)), "{channel} {pattern}");
            for push in got {
                let push = String::from_utf8(push).expect("a text");
                let named = format!(r#""channel":"{pattern}","pub""#);
                let tag = format!(r#""tags":{{"channel":"{channel}"}}"#);
                assert!(push.contains(&named) && push.contains(&tag), "{push}");
            }
        }
    }
    let published = world.here.published();
    publish_to(&mut world, "other:a");
    assert_eq!(world.here.published(), published, "nobody there has a pattern in its domain");
    for member in 0..patterns.len() {
        world.shard(member).leave_all(member as u32);
    }
    assert!(world.here.is_empty() && !world.here.has_derived() && !world.there.has_derived());
}

#[test]
fn what_is_held_for_a_pattern_names_it() {
    let mut world = World::new();
    let joined = matched("news:*");
    let hold = world.there.hold(&joined);
    publish_to(&mut world, "news:a");
    let held = world.there.settle_in(1, &joined, hold, |_| 0);
    assert_eq!(held.len(), 1);
    assert!(str::from_utf8(held[0].payload()).is_ok_and(|it| it.contains("news:*")));
    assert!(world.there.has_room_for_pattern("news:*"));
}
