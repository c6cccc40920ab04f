//! Topics by themselves: who gets what, in rounds of one tick and of many.

use std::rc::Rc;

use proptest::prelude::*;

use super::fullness::{PENDING_BYTES_MAX, VERY_FULL_SHARES};
use super::*;
use crate::hub::interest::InterestTable;
use crate::hub::run::{Encoding, EncodingBudget, JOINED_BYTES_MAX, Share};
use crate::wire::deflate::codec::{Codec, Settings};
use crate::wire::frames::{Excerpt, Frames};
use crate::wire::header::{Header, Role};
use crate::wire::message::MessageKind;

fn alone() -> Topics {
    Topics::new(Interest::new(InterestTable::new(1)))
}

fn drained(topics: &mut Topics) -> Vec<(u32, Vec<u8>)> {
    let mut all = Vec::new();
    topics.drain(|members, runs| {
        for run in runs {
            for &member in members {
                all.push((member, payloads(run, member).concat()));
            }
        }
        members.len()
    });
    all
}

/// What a member is told by a run.
pub(super) fn payloads(run: &mut Run, member: u32) -> Vec<Vec<u8>> {
    let frames = plain(run);
    let bytes = match run.share_of(member, &frames) {
        Share::Whole(frames) => frames.bytes().to_vec(),
        Share::Others(excerpts) => excerpts.iter().flat_map(Excerpt::bytes).copied().collect(),
    };
    let (mut payloads, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((header, start)) = Header::decode(rest, Role::Client, 0).expect("frames") {
        let (frame, next) = rest.split_at(start + header.payload_bytes as usize);
        payloads.push(frame[start..].to_vec());
        rest = next;
    }
    payloads
}

fn plain(run: &mut Run) -> Rc<Frames> {
    let settings = Settings { level: 1, threshold_bytes: 1 << 20, message_bytes_max: 1 << 20 };
    let mut budget = EncodingBudget { compressed_bytes: 0, joined_bytes: usize::MAX };
    assert!(run.encode(Encoding::Plain, &mut Codec::new(settings), &mut budget));
    run.encoded(Encoding::Plain).expect("made").clone()
}

pub(super) fn message(payload: &[u8]) -> DataMessage {
    DataMessage::new(MessageKind::Binary, payload)
}

/// Makes `member` a subscriber that gets everything.
fn join(topics: &mut Topics, member: u32, name: &str) -> TopicId {
    topics.join(member, name, false).expect("it has joined few")
}

/// Publishes to the only topic of `member`.
fn publish(topics: &mut Topics, member: u32, payload: &[u8]) -> Option<Publication> {
    let topic = topic_of(topics, member);
    topics.publish(topic, Some(member), message(payload))
}

fn topic_of(topics: &Topics, member: u32) -> TopicId {
    topics.of(member).next().expect("it has joined one")
}

fn fullness(topics: &Topics, member: u32) -> Fullness {
    topics.fullness(topic_of(topics, member))
}

fn publication(topic: &str, payload: &[u8]) -> Publication {
    let message = message(payload).into_shared();
    Publication { topic: topic.into(), message, tags: None, at_us: 0 }
}

#[test]
fn a_tick_of_messages_is_one_run() {
    let mut topics = alone();
    join(&mut topics, 1, "a");
    topics.join(2, "a", true).expect("its first");
    join(&mut topics, 3, "b");
    publish(&mut topics, 1, b"x");
    publish(&mut topics, 2, b"yy");
    publish(&mut topics, 2, b"z");
    let frames_bytes = 3 + 4 + 3;
    assert_eq!(topics.pending_bytes(), frames_bytes + 3 * Run::MESSAGE_BYTES + 2 * Run::SKIP_BYTES);
    assert_eq!(drained(&mut topics), [(1, b"xyyz".to_vec()), (2, b"x".to_vec())]);
    assert!(drained(&mut topics).is_empty());
    assert_eq!(topics.pending_bytes(), 0);
}

#[test]
fn the_longest_wait_until_all_have_it_is_told() {
    let mut topics = alone();
    topics.set_clock(u32::MAX - 9);
    join(&mut topics, 1, "a");
    join(&mut topics, 2, "a");
    join(&mut topics, 3, "b");
    let late = Publication { at_us: u32::MAX - 29, ..publication("a", b"from elsewhere") };
    topics.receive(&late, 1, 0);
    publish(&mut topics, 1, b"later");
    publish(&mut topics, 3, b"to itself");
    // The clock wraps. One of two has it, and then the other.
    topics.set_clock(10);
    assert_eq!(topics.drain(|_, _| 1), Some(20), "of the other topic");
    publish(&mut topics, 1, b"not waited for");
    topics.set_clock(20);
    assert_eq!(topics.drain(|members, _| members.len()), Some(50));
    assert_eq!(topics.drain(|members, _| members.len()), Some(10));
    assert_eq!(topics.drain(|members, _| members.len()), None);
}

#[test]
fn big_messages_are_not_copied_together() {
    let mut topics = alone();
    join(&mut topics, 1, "a");
    publish(&mut topics, 1, &[1; JOINED_BYTES_MAX]);
    publish(&mut topics, 1, &[2; 10]);
    publish(&mut topics, 1, &[3; 10]);
    let mut lengths = Vec::new();
    topics.drain(|_, runs| {
        let frames = runs.iter_mut().map(plain);
        lengths.extend(frames.map(|frames| (frames.bytes().len(), frames.messages())));
        1
    });
    assert_eq!(lengths, [(10 + JOINED_BYTES_MAX, 1), (2 * (2 + 10), 2)]);
}

#[test]
fn a_topic_ends_with_its_last_member() {
    let [mut topics, mut others] = two_shards();
    join(&mut others, 1, "a");
    for member in 0..5 {
        join(&mut topics, member, "a");
    }
    let publication = publish(&mut topics, 4, b"x").expect("somebody is elsewhere");
    for member in [2, 0, 4, 1, 3, 3] {
        topics.leave_all(member);
    }
    assert!(topics.is_empty() && drained(&mut topics).is_empty());
    assert_eq!(topics.pending_bytes(), 0);
    assert_eq!(topics.of(2).next(), None);
    topics.receive(&publication, 1, 0);
    join(&mut topics, 9, "b");
    topics.receive(&publication, 1, 0);
    assert!(drained(&mut topics).is_empty());
    assert_eq!(topics.len(), 1);
}

#[test]
fn what_nobody_wants_elsewhere_stays_here() {
    let [mut topics, mut others] = two_shards();
    join(&mut topics, 1, "a");
    assert!(publish(&mut topics, 1, b"x").is_none());
    let topic = join(&mut others, 7, "a");
    assert!(publish(&mut topics, 1, b"x").is_some());
    join(&mut others, 7, "b");
    others.leave(7, topic);
    assert!(publish(&mut topics, 1, b"x").is_none());
}

#[test]
fn whoever_has_not_joined_publishes_as_well() {
    let [mut topics, mut others] = two_shards();
    let here = join(&mut topics, 1, "a");
    join(&mut others, 2, "b");
    assert!(topics.publish(here, Some(5), message(b"x")).is_none());
    assert!(topics.publish_by_name("a", message(b"y")).is_none());
    assert_eq!(drained(&mut topics), [(1, b"xy".to_vec())]);
    let publication = topics.publish_by_name("b", message(b"z")).expect("wanted elsewhere");
    others.receive(&publication, 1, 0);
    assert_eq!(drained(&mut others), [(2, b"z".to_vec())]);
    assert!(topics.publish_by_name("nobody's", message(b"z")).is_none());
    assert!(!topics.has_pending() && topics.pending_bytes() == 0);
}

#[test]
fn a_member_gets_what_is_published_to_each_of_its_topics() {
    let mut topics = alone();
    let [a, b] = ["a", "b"].map(|name| topics.join(1, name, name == "b").expect("few"));
    join(&mut topics, 2, "b");
    assert_eq!(topics.of(1).collect::<Vec<_>>(), [b, a]);
    topics.publish(a, Some(1), message(b"its own"));
    topics.publish(b, Some(1), message(b"for others"));
    assert_eq!(
        drained(&mut topics),
        [(1, b"its own".to_vec()), (1, Vec::new()), (2, b"for others".to_vec())]
    );
    topics.leave(1, a);
    assert_eq!((topics.len(), topics.of(1).collect::<Vec<_>>()), (1, vec![b]));
    topics.publish(a, None, message(b"to nobody"));
    topics.publish(b, None, message(b"x"));
    assert_eq!(drained(&mut topics), [(1, b"x".to_vec()), (2, b"x".to_vec())]);
}

/// Joining again changes what the member wants, and does not bring it everything twice.
#[test]
fn a_member_joins_a_topic_once() {
    let mut topics = alone();
    let topic = join(&mut topics, 1, "a");
    assert_eq!(topics.join(1, "a", true), Ok(topic));
    publish(&mut topics, 1, b"own");
    topics.publish(topic, None, message(b"x"));
    assert_eq!(drained(&mut topics), [(1, b"x".to_vec())]);
}

#[test]
fn a_connection_joins_so_many_topics_and_no_more() {
    let mut topics = alone();
    for number in 0..SUBSCRIPTIONS_MOST {
        join(&mut topics, 1, &number.to_string());
    }
    assert_eq!(topics.join(1, "one more", false), Err(TooManySubscriptions));
    assert_eq!(topics.len(), SUBSCRIPTIONS_MOST);
    join(&mut topics, 1, "5");
    let latest = topic_of(&topics, 1);
    topics.leave(1, latest);
    join(&mut topics, 1, "one more");
    topics.leave_all(1);
    assert!(topics.is_empty());
}

#[test]
fn a_topic_that_could_not_be_delivered_comes_again_behind_the_others() {
    let mut topics = alone();
    join(&mut topics, 1, "a");
    join(&mut topics, 2, "b");
    publish(&mut topics, 1, b"x");
    publish(&mut topics, 2, b"y");
    topics.drain(|members, _| usize::from(members != [1]));
    assert!(topics.has_pending());
    publish(&mut topics, 2, b"z");
    assert_eq!(drained(&mut topics), [(1, b"x".to_vec()), (2, b"z".to_vec())]);
    assert!(!topics.has_pending());
}

/// What a simple-minded server remembers of a member that has joined a topic.
#[derive(Clone, Debug)]
struct Expected {
    /// The number of the first message that it surely gets.
    since: u8,
    /// What it does not get because it published it itself.
    excluded: Vec<u8>,
    got: Vec<u8>,
}

impl Expected {
    /// It has got what was published since it came, once and in order, and perhaps what was
    /// pending then.
    fn check(&self, published: u8, is_all: bool) {
        let first = self.got.first().map_or(self.since, |first| self.since.min(*first));
        let owed: Vec<_> =
            (first..published).filter(|number| !self.excluded.contains(number)).collect();
        assert!(owed.starts_with(&self.got), "{:?} of {owed:?}", self.got);
        assert!(!is_all || owed == self.got, "{:?} of {owed:?}", self.got);
    }
}

/// Each member gets everything that was published to a topic while it was there, once and in
/// order, but its own if it wants that left out, and what came last when it left before its turn.
/// It may get what was pending when it came.
fn serves_everybody_once(actions: Vec<(u8, u8, u8)>) {
    let mut topics = alone();
    let mut expected = vec![[const { None::<Expected> }; NAMES.len()]; MEMBERS];
    let mut published = [0_u8; NAMES.len()];
    let ids: Vec<_> = NAMES.iter().map(|name| join(&mut topics, KEEPER, name)).collect();
    for (action, number, which) in actions {
        let member = usize::from(number) % MEMBERS;
        let topic = usize::from(which) % NAMES.len();
        match action % 6 {
            0 if expected[member][topic].is_none() => {
                let joined = topics.join(member as u32, NAMES[topic], member < EXCLUDING);
                assert_eq!(joined, Ok(ids[topic]));
                let since = published[topic];
                expected[member][topic] =
                    Some(Expected { since, excluded: Vec::new(), got: Vec::new() });
            }
            0 => {
                topics.leave(member as u32, ids[topic]);
                let left = expected[member][topic].take().expect("it has joined");
                left.check(published[topic], false);
            }
            1 if which == 0 => {
                topics.leave_all(member as u32);
                for (topic, left) in expected[member].iter_mut().enumerate() {
                    left.take().into_iter().for_each(|left| left.check(published[topic], false));
                }
            }
            1 | 2 => {
                let message = message(&[topic as u8, published[topic]]);
                match number % 3 {
                    0 => topics.publish(ids[topic], Some(member as u32), message),
                    1 => topics.publish(ids[topic], Some(KEEPER), message),
                    _ => topics.publish_by_name(NAMES[topic], message),
                };
                let publisher = expected[member][topic].as_mut();
                if let Some(publisher) = publisher.filter(|_| number % 3 == 0 && member < EXCLUDING)
                {
                    publisher.excluded.push(published[topic]);
                }
                published[topic] += 1;
            }
            _ => {
                topics.drain(|members, runs| {
                    let served = members.len().min(usize::from(number % 5));
                    deliver(&members[..served], runs, &mut expected);
                    served
                });
            }
        }
    }
    while topics.has_pending() {
        topics.drain(|members, runs| {
            let served = members.len().min(1);
            deliver(&members[..served], runs, &mut expected);
            served
        });
    }
    assert_eq!(topics.pending_bytes(), 0);
    for (member, expected) in expected.iter().enumerate() {
        for (topic, joined) in expected.iter().enumerate() {
            joined.iter().for_each(|joined| joined.check(published[topic], true));
        }
        topics.leave_all(member as u32);
    }
    topics.leave_all(KEEPER);
    assert!(topics.is_empty());
}

fn deliver(members: &[u32], runs: &mut [Run], expected: &mut [[Option<Expected>; NAMES.len()]]) {
    for &member in members {
        for message in runs.iter_mut().flat_map(|run| payloads(run, member)) {
            let Some(joined) = expected.get_mut(member as usize) else { continue };
            let joined = joined[usize::from(message[0])].as_mut();
            joined.expect("it has joined the topic").got.push(message[1]);
        }
    }
}

proptest! {
    #[test]
    fn a_round_of_many_ticks_serves_everybody_once(
        actions in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 0..200),
    ) {
        serves_everybody_once(actions);
    }
}

#[test]
fn a_topic_that_has_its_share_pending_is_full_on_all_shards() {
    let [mut topics, mut others] = two_shards();
    join(&mut topics, 1, "a");
    join(&mut others, 1, "a");
    join(&mut topics, 2, "b");
    topics.receive(&publication("a", &[0; PENDING_BYTES_MAX]), 1, 0);
    assert_eq!((fullness(&topics, 1), fullness(&others, 1)), (Fullness::Full, Fullness::Full));
    let is_held_back = |topics: &Topics| topics.is_full_elsewhere_alone(topic_of(topics, 1));
    assert!(is_held_back(&others) && !is_held_back(&topics));
    assert_eq!(fullness(&topics, 2), Fullness::HasRoom, "another topic");
    for _ in 1..VERY_FULL_SHARES {
        topics.receive(&publication("a", &[0; PENDING_BYTES_MAX]), 1, 0);
    }
    assert_eq!(
        (fullness(&topics, 1), fullness(&others, 1)),
        (Fullness::VeryFull, Fullness::VeryFull)
    );
    drained(&mut topics);
    assert_eq!(
        (fullness(&topics, 1), fullness(&others, 1)),
        (Fullness::HasRoom, Fullness::HasRoom)
    );
}

#[test]
fn a_topic_that_ends_is_full_no_more() {
    let [mut topics, mut others] = two_shards();
    join(&mut topics, 1, "a");
    join(&mut others, 1, "a");
    topics.receive(&publication("a", &[0; PENDING_BYTES_MAX]), 1, 0);
    topics.leave_all(1);
    assert_eq!(fullness(&others, 1), Fullness::HasRoom);
}

#[test]
fn a_full_topic_of_a_lone_shard_holds_back_nobody_elsewhere() {
    let mut topics = alone();
    join(&mut topics, 1, "a");
    join(&mut topics, 2, "b");
    publish(&mut topics, 1, &vec![0; PENDING_BYTES_MAX]);
    assert_eq!((fullness(&topics, 1), fullness(&topics, 2)), (Fullness::Full, Fullness::HasRoom));
    assert!(!topics.is_full_elsewhere_alone(topic_of(&topics, 2)));
}

/// A number is given to another connection soon after its former one has ended.
#[test]
fn nobody_inherits_what_a_former_member_left_out() {
    let mut topics = alone();
    join(&mut topics, 1, "a");
    topics.join(2, "a", true).expect("its first");
    publish(&mut topics, 1, b"x");
    publish(&mut topics, 2, b"y");
    publish(&mut topics, 1, b"z");
    topics.leave_all(2);
    topics.join(2, "a", true).expect("its first");
    assert_eq!(drained(&mut topics), [(1, b"xyz".to_vec()), (2, b"xyz".to_vec())]);
}

/// Whoever comes first in a tick has most of what that can give: each must, some time.
#[test]
fn topics_that_are_served_in_part_take_turns_at_being_the_first() {
    let mut topics = alone();
    for member in 0..20 {
        join(&mut topics, member, if member < 10 { "a" } else { "b" });
    }
    publish(&mut topics, 0, b"x");
    publish(&mut topics, 10, b"x");
    let mut firsts = Vec::new();
    for _ in 0..4 {
        let mut is_first = true;
        topics.drain(|members, _| {
            if std::mem::take(&mut is_first) {
                firsts.push(members[0] / 10);
            }
            1
        });
    }
    assert_eq!(firsts, [0, 1, 0, 1]);
}

/// Topics that cannot be delivered in one tick take turns, whoever is the first.
#[test]
fn a_topic_that_was_served_comes_after_those_that_were_not() {
    let mut topics = alone();
    for (member, name) in ["a", "a", "b", "b", "c", "c"].iter().enumerate() {
        join(&mut topics, member as u32, name);
    }
    for member in [0, 2, 4] {
        publish(&mut topics, member, b"x");
    }
    let mut order: Vec<u32> = Vec::new();
    while topics.has_pending() {
        let mut room = 1;
        topics.drain(|members, _| {
            order.extend(members.first().copied().filter(|_| room > 0));
            std::mem::take(&mut room)
        });
    }
    assert_eq!(order, [0, 2, 4, 1, 3, 5]);
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const MEMBERS: usize = 8;
/// So many of them do not want what they publish themselves.
const EXCLUDING: usize = 3;
/// Publishes, and stays.
const KEEPER: u32 = 99;

fn two_shards() -> [Topics; 2] {
    let table = InterestTable::new(2);
    [table.clone(), table].map(|table| Topics::new(Interest::new(table)))
}
