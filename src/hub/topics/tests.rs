//! Topics by themselves: who gets what, in rounds of one tick and of many.

use proptest::prelude::*;

use super::*;
use crate::hub::interest::InterestTable;
use crate::hub::run::{JOINED_BYTES_MAX, Share};
use crate::wire::frames::Excerpt;

fn alone() -> Topics {
    Topics::new(Interest::new(InterestTable::new(1)))
}

fn drained(topics: &mut Topics) -> Vec<(u32, Vec<u8>)> {
    let mut all = Vec::new();
    topics.drain(|members, runs| {
        for run in runs {
            for &member in members {
                let bytes = match run.share_of(member, None) {
                    Share::Whole(frames) => frames.bytes().to_vec(),
                    Share::Others(excerpts) => {
                        excerpts.iter().flat_map(Excerpt::bytes).copied().collect()
                    }
                };
                all.push((member, bytes));
            }
        }
        members.len()
    });
    all
}

fn publish(topics: &mut Topics, member: u32, frame: &[u8]) -> Published {
    topics.publish(member, frame.to_vec())
}

#[test]
fn a_tick_of_messages_is_one_run() {
    let mut topics = alone();
    topics.join(1, "a", false);
    topics.join(2, "a", true);
    topics.join(3, "b", false);
    publish(&mut topics, 1, b"x");
    publish(&mut topics, 2, b"yy");
    publish(&mut topics, 2, b"z");
    assert_eq!(topics.pending_bytes(), 4 + 2 * Run::SKIP_BYTES);
    assert_eq!(drained(&mut topics), [(1, b"xyyz".to_vec()), (2, b"x".to_vec())]);
    assert!(drained(&mut topics).is_empty());
    assert_eq!(topics.pending_bytes(), 0);
}

#[test]
fn big_messages_are_not_copied_together() {
    let mut topics = alone();
    topics.join(1, "a", false);
    topics.publish(1, vec![1; JOINED_BYTES_MAX]);
    topics.publish(1, vec![2; 10]);
    topics.publish(1, vec![3; 10]);
    let mut lengths = Vec::new();
    topics.drain(|_, runs| {
        let frames = runs.iter().map(|run| run.frames(None));
        lengths.extend(frames.map(|frames| (frames.bytes().len(), frames.messages())));
        1
    });
    assert_eq!(lengths, [(JOINED_BYTES_MAX, 1), (20, 2)]);
}

#[test]
fn a_topic_ends_with_its_last_member() {
    let [mut topics, mut others] = two_shards();
    others.join(1, "a", false);
    for member in 0..5 {
        topics.join(member, "a", false);
    }
    let Published::Everywhere(publication) = publish(&mut topics, 4, b"x") else {
        panic!("somebody is elsewhere")
    };
    for member in [2, 0, 4, 1, 3, 3] {
        topics.leave(member);
    }
    assert!(topics.is_empty() && drained(&mut topics).is_empty());
    assert_eq!(topics.pending_bytes(), 0);
    assert!(matches!(publish(&mut topics, 2, b"y"), Published::Nowhere));
    topics.receive(&publication);
    topics.join(9, "b", false);
    topics.receive(&publication);
    assert!(drained(&mut topics).is_empty());
    assert_eq!(topics.len(), 1);
}

#[test]
fn what_nobody_wants_elsewhere_stays_here() {
    let [mut topics, mut others] = two_shards();
    topics.join(1, "a", false);
    assert!(matches!(publish(&mut topics, 1, b"x"), Published::Here));
    others.join(7, "a", false);
    assert!(matches!(publish(&mut topics, 1, b"x"), Published::Everywhere(_)));
    others.join(7, "b", false);
    assert!(matches!(publish(&mut topics, 1, b"x"), Published::Here));
}

#[test]
fn a_topic_that_could_not_be_delivered_comes_again_behind_the_others() {
    let mut topics = alone();
    topics.join(1, "a", false);
    topics.join(2, "b", false);
    publish(&mut topics, 1, b"x");
    publish(&mut topics, 2, b"y");
    topics.drain(|members, _| usize::from(members != [1]));
    assert!(topics.has_pending());
    publish(&mut topics, 2, b"z");
    assert_eq!(drained(&mut topics), [(1, b"x".to_vec()), (2, b"z".to_vec())]);
    assert!(!topics.has_pending());
}

/// Each member gets everything that was published while it was there, once and in order, but
/// what came last when it left before its turn. It may get what was pending when it came.
fn serves_everybody_once(actions: Vec<(u8, u8)>) {
    let mut topics = alone();
    let (mut joined, mut got) = ([None; MEMBERS], vec![Vec::new(); MEMBERS]);
    let mut published = 0_u8;
    topics.join(KEEPER, "a", false);
    for (action, number) in actions {
        let member = usize::from(number) % MEMBERS;
        match action % 4 {
            0 if joined[member].is_none() => {
                topics.join(member as u32, "a", false);
                joined[member] = Some(published);
                got[member].clear();
            }
            0 => {
                topics.leave(member as u32);
                let since: u8 = joined[member].take().unwrap_or_default();
                let first = got[member].first().copied().unwrap_or(since);
                assert!(first <= since);
                assert!((first..).zip(&got[member]).all(|(expected, got)| expected == *got));
            }
            1 => {
                publish(&mut topics, KEEPER, &[published]);
                published += 1;
            }
            _ => topics.drain(|members, runs| {
                let served = members.len().min(usize::from(number % 5));
                deliver(&members[..served], runs, &mut got);
                served
            }),
        }
    }
    while topics.has_pending() {
        topics.drain(|members, runs| {
            let served = members.len().min(1);
            deliver(&members[..served], runs, &mut got);
            served
        });
    }
    assert_eq!(topics.pending_bytes(), 0);
    for (member, since) in joined.into_iter().enumerate() {
        let Some(since) = since else { continue };
        let first = got[member].first().map_or(since, |first| since.min(*first));
        assert_eq!(got[member], (first..published).collect::<Vec<_>>());
    }
}

fn deliver(members: &[u32], runs: &[Run], got: &mut [Vec<u8>]) {
    for &member in members {
        for run in runs {
            let Share::Whole(frames) = run.share_of(member, None) else { panic!("its own") };
            if let Some(got) = got.get_mut(member as usize) {
                got.extend(frames.bytes());
            }
        }
    }
}

proptest! {
    #[test]
    fn a_round_of_many_ticks_serves_everybody_once(
        actions in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..200),
    ) {
        serves_everybody_once(actions);
    }
}

#[test]
fn a_topic_that_has_its_share_pending_is_full_on_all_shards() {
    let [mut topics, mut others] = two_shards();
    topics.join(1, "a", false);
    others.join(1, "a", false);
    topics.join(2, "b", false);
    let frame = vec![0; PENDING_BYTES_MAX];
    topics.receive(&Publication { topic: "a".into(), frame: Arc::new(frame) });
    assert_eq!((topics.fullness(1), others.fullness(1)), (Fullness::Full, Fullness::Full));
    assert!(others.is_full_elsewhere_alone(1) && !topics.is_full_elsewhere_alone(1));
    assert_eq!(topics.fullness(2), Fullness::HasRoom, "another topic");
    for _ in 1..VERY_FULL_SHARES {
        let frame = Arc::new(vec![0; PENDING_BYTES_MAX]);
        topics.receive(&Publication { topic: "a".into(), frame });
    }
    assert_eq!((topics.fullness(1), others.fullness(1)), (Fullness::VeryFull, Fullness::VeryFull));
    drained(&mut topics);
    assert_eq!((topics.fullness(1), others.fullness(1)), (Fullness::HasRoom, Fullness::HasRoom));
}

#[test]
fn a_topic_that_ends_is_full_no_more() {
    let [mut topics, mut others] = two_shards();
    topics.join(1, "a", false);
    others.join(1, "a", false);
    let frame = vec![0; PENDING_BYTES_MAX];
    topics.receive(&Publication { topic: "a".into(), frame: Arc::new(frame) });
    topics.leave(1);
    assert_eq!(others.fullness(1), Fullness::HasRoom);
}

#[test]
fn a_full_topic_of_a_lone_shard_holds_back_nobody_elsewhere() {
    let mut topics = alone();
    topics.join(1, "a", false);
    topics.join(2, "b", false);
    publish(&mut topics, 1, &vec![0; PENDING_BYTES_MAX]);
    assert_eq!((topics.fullness(1), topics.fullness(2)), (Fullness::Full, Fullness::HasRoom));
    assert!(!topics.is_full_elsewhere_alone(2));
}

/// A number is given to another connection soon after its former one has ended.
#[test]
fn nobody_inherits_what_a_former_member_left_out() {
    let mut topics = alone();
    topics.join(1, "a", false);
    topics.join(2, "a", true);
    publish(&mut topics, 1, b"x");
    publish(&mut topics, 2, b"y");
    publish(&mut topics, 1, b"z");
    topics.leave(2);
    topics.join(2, "a", true);
    assert_eq!(drained(&mut topics), [(1, b"xyz".to_vec()), (2, b"xyz".to_vec())]);
}

/// Whoever comes first in a tick has most of what that can give: each must, some time.
#[test]
fn topics_that_are_served_in_part_take_turns_at_being_the_first() {
    let mut topics = alone();
    for member in 0..20 {
        topics.join(member, if member < 10 { "a" } else { "b" }, false);
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
        topics.join(member as u32, name, false);
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

const MEMBERS: usize = 8;
/// Publishes, and stays.
const KEEPER: u32 = 99;

fn two_shards() -> [Topics; 2] {
    let table = InterestTable::new(2);
    [table.clone(), table].map(|table| Topics::new(Interest::new(table)))
}
