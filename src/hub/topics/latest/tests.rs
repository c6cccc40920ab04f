//! Whoever is set aside gets of each key the latest, in order and once, whatever happens meanwhile.

use proptest::prelude::*;

use super::*;
use crate::hub::interest::{Interest, InterestTable};
use crate::hub::topics::tests::payloads;
use crate::wire::message::{DataMessage, MessageKind};

#[derive(Clone, Debug)]
enum Step {
    Publish {
        key: u8,
    },
    /// So many members are served at the most.
    Deliver {
        members: usize,
    },
    SetAside {
        member: u32,
    },
    ComeBack {
        member: u32,
        bytes: usize,
    },
    GiveUp {
        member: u32,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = || 0..MEMBERS;
    let step = prop_oneof![
        6 => (0..4u8).prop_map(|key| Step::Publish { key }),
        4 => (0..5usize).prop_map(|members| Step::Deliver { members }),
        3 => member().prop_map(|member| Step::SetAside { member }),
        3 => (member(), 0..200usize)
            .prop_map(|(member, bytes)| Step::ComeBack { member, bytes }),
        1 => member().prop_map(|member| Step::GiveUp { member }),
    ];
    prop::collection::vec(step, 0..80)
}

fn push(key: u8, number: usize) -> DataMessage {
    let push = format!(r#"{{"push":{{"pub":{{"data":{{"k":{key},"n":{number}}}}}}}}}"#);
    DataMessage::new(MessageKind::Text, push.as_bytes())
}

/// The key and the number of a push.
fn told(payload: &[u8]) -> (u64, usize) {
    let push: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
    let data = &push["push"]["pub"]["data"];
    (data["k"].as_u64().expect("a key"), data["n"].as_u64().expect("a number") as usize)
}

fn deliver(topics: &mut Topics, mut most: usize, got: &mut [Vec<(u64, usize)>]) {
    topics.drain(|members, runs| {
        let served = members.len().min(most);
        most -= served;
        for run in runs {
            for &member in &members[..served] {
                got[member as usize].extend(payloads(run, member).iter().map(|it| told(it)));
            }
        }
        served
    });
}

proptest! {
    #[test]
    fn the_latest_of_each_key_is_had_once_and_in_order(steps in steps()) {
        let key_from: JsonPointer = "/k".parse().expect("a pointer");
        let mut topics = Topics::new(Interest::new(InterestTable::new(1)));
        let mut aside: Vec<Option<Aside>> = (0..MEMBERS).map(|_| None).collect();
        let mut got = vec![Vec::new(); MEMBERS as usize];
        let mut published = Vec::new();
        let mut was_aside = [false; MEMBERS as usize];
        let mut gone = [false; MEMBERS as usize];
        for member in 0..MEMBERS {
            topics.join(member, "t", false).expect("one topic");
        }
        for step in steps {
            match step {
                Step::Publish { key } => {
                    topics.publish_by_name("t", push(key, published.len()));
                    published.push((u64::from(key), published.len()));
                }
                Step::Deliver { members } => deliver(&mut topics, members, &mut got),
                Step::SetAside { member } => {
                    let place = member as usize;
                    if let Some(it) = topics.set_aside(member, "t", Some(&key_from)) {
                        prop_assert!(aside[place].replace(it).is_none());
                        was_aside[place] = true;
                    }
                }
                Step::ComeBack { member, bytes } => {
                    if let Some(it) = aside[member as usize].take() {
                        let (missed, still) = topics.come_back(member, it, bytes).expect("few");
                        got[member as usize].extend(missed.iter().map(|it| told(it.payload())));
                        aside[member as usize] = still;
                    }
                }
                Step::GiveUp { member } => {
                    if let Some(it) = aside[member as usize].take() {
                        topics.give_up(it);
                        gone[member as usize] = true;
                    }
                }
            }
        }
        for (member, it) in (0..).zip(&mut aside) {
            while let Some(back) = it.take() {
                let (missed, still) = topics.come_back(member, back, 99).expect("few keys");
                got[member as usize].extend(missed.iter().map(|it| told(it.payload())));
                *it = still;
            }
        }
        while topics.has_pending() {
            deliver(&mut topics, 100, &mut got);
        }
        for (member, got) in got.iter().enumerate() {
            prop_assert!(got.is_sorted_by(|one, next| one.1 < next.1), "{:?}", got);
            if gone[member] {
                continue;
            }
            if !was_aside[member] {
                prop_assert_eq!(got, &published);
            }
            for key in 0..4 {
                let last = |all: &[(u64, usize)]| all.iter().rfind(|it| it.0 == key).copied();
                prop_assert_eq!(last(got), last(&published));
            }
        }
        topics.leave_all(0);
        (1..MEMBERS).for_each(|member| topics.leave_all(member));
        prop_assert!(topics.is_empty());
    }
}

#[test]
fn there_are_so_many_keys_and_no_more() {
    let mut topics = Topics::new(Interest::new(InterestTable::new(1)));
    let publish = |topics: &mut Topics, key: usize| {
        let push = format!(r#"{{"push":{{"pub":{{"data":{{}},"tags":{{"key":"{key}"}}}}}}}}"#);
        topics.publish_by_name("t", DataMessage::new(MessageKind::Text, push.as_bytes()));
    };
    topics.join(1, "t", false).expect("one topic");
    for (keys, is_kept) in [(KEYS_MOST, true), (KEYS_MOST + 1, false)] {
        let aside = topics.set_aside(1, "t", None).expect("a member");
        (0..keys).for_each(|key| publish(&mut topics, key));
        (0..keys).for_each(|key| publish(&mut topics, key));
        match topics.come_back(1, aside, usize::MAX) {
            Ok((missed, _)) => assert!(is_kept && missed.len() == keys),
            Err(TooManyKeys) => assert!(!is_kept),
        }
        topics.drain(|members, _| members.len());
    }
    assert!(topics.is_empty());
}

#[test]
fn publications_without_a_key_have_the_same() {
    let none: JsonPointer = "/x".parse().expect("a pointer");
    assert_eq!(key_of(push(1, 1).payload(), Some(&none)), key_of(b"no push", None));
    let one: JsonPointer = "/k".parse().expect("a pointer");
    assert_eq!(&*key_of(push(1, 1).payload(), Some(&one)), "1");
}

const MEMBERS: u32 = 4;
