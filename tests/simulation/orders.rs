//! What the control thread orders: everybody whom it concerns, nobody else, not all in one tick,
//! and one answer whatever happens meanwhile.

use std::time::Duration;

use ringwire::identity::Trust;
use ringwire::io::Key;
use ringwire::shard::orders::top::{Measure, Ranking, Subject, Traffic};
use ringwire::shard::orders::{Errand, Farewell, Listed, Outcome};
use ringwire::wire::close::CloseCode;

use crate::decoder::{Decoder, Item};
use crate::frames::{CLOSE, TEXT};
use crate::network::SocketId;
use crate::story::Story;

fn farewell() -> Farewell {
    Farewell { code: CloseCode(4321), reason: "by order".to_owned() }
}

fn close_topic(topic: &str) -> Errand {
    Errand::CloseTopic { topic: topic.to_owned(), farewell: farewell() }
}

fn release(count: usize, window: Duration) -> Errand {
    Errand::Release { count, window, seed: 5 }
}

/// The close frame that a farewell makes.
fn close_frame(Farewell { code, reason }: Farewell) -> Item {
    Item::Control { opcode: CLOSE, payload: [&code.0.to_be_bytes(), reason.as_bytes()].concat() }
}

/// Orders a shard to do something, and ticks until the answer is there; how many ticks that took.
fn run(story: &mut Story, errand: Errand) -> (Outcome, usize) {
    assert!(story.control.order(0, errand), "there is a place");
    for ticks in 1..1000 {
        story.tick(0);
        if let Some((shard, outcome)) = story.control.hear().pop() {
            assert_eq!(shard, 0);
            return (outcome, ticks);
        }
    }
    panic!("no answer");
}

fn listed(story: &mut Story, from: u32, most: usize) -> (Vec<Listed>, Option<u32>) {
    match run(story, Errand::List { from, most, user: None }).0 {
        Outcome::Connections { connections, next } => (connections, next),
        outcome => panic!("{outcome:?}"),
    }
}

fn is_closed(story: &mut Story, (socket, decoder): &mut (SocketId, Decoder)) -> bool {
    let items = story.read(*socket, decoder);
    assert!(items.is_empty() || items == [close_frame(farewell())], "{items:?}");
    !items.is_empty()
}

fn top(story: &mut Story, measure: Measure, subject: Subject) -> Ranking {
    match run(story, Errand::Top { measure, subject, most: 3 }).0 {
        Outcome::Top(ranking) => ranking,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn those_who_receive_and_send_the_most_of_late_are_told_while_that_is_wanted() {
    let mut story = Story::new(1, |config, _| config.metrics.top = true);
    let paths = ["/broadcast/a", "/broadcast/b", "/broadcast/b", "/broadcast/b", "/echo"];
    let mut peers = paths.map(|path| story.open(0, path));
    story.pass(Duration::from_secs(11));
    for _ in 0..3 {
        story.send(peers[2].0, TEXT, &[b'x'; 100]);
        for (socket, decoder) in &mut peers {
            story.read_all(0, *socket, decoder);
        }
    }
    story.send(peers[4].0, TEXT, b"echo");
    story.settle(0);
    let ranking = top(&mut story, Measure::Messages, Subject::Connections);
    let told: Vec<_> = ranking.entries.iter().map(|it| it.traffic.unwrap().messages).collect();
    assert_eq!((told, ranking.unlisted_most), (vec![6, 3, 3], 2));
    assert!(ranking.entries.iter().all(|it| it.topic.as_deref() == Some("b")));
    let ranking = top(&mut story, Measure::Bytes, Subject::Topics);
    // Each frame to the server has a mask of 4 bytes.
    let traffic = Traffic { bytes: 3 * 106 + 9 * 102, messages: 12 };
    let told: Vec<_> = ranking.entries.iter().map(|it| (it.topic.as_deref(), it.traffic)).collect();
    assert_eq!(told, [(Some("b"), Some(traffic))]);
    let ranking = top(&mut story, Measure::Messages, Subject::Shards);
    assert_eq!(ranking.traffic.map(|it| it.messages), Some(14));
    // Long ago it counts no more, and when nobody counts that is told.
    story.pass(Duration::from_secs(11));
    assert!(top(&mut story, Measure::Messages, Subject::Connections).entries.is_empty());
    let mut config = story.shared.in_force.current().config.clone();
    config.metrics.top = false;
    story.shared.in_force.replace(config, Trust::default(), None);
    let errand = Errand::Top { measure: Measure::Bytes, subject: Subject::Topics, most: 3 };
    assert_eq!(run(&mut story, errand).0, Outcome::NotCharged);
}

#[test]
fn whoever_does_not_read_and_whoever_is_silent_is_told_without_being_charged() {
    let mut story = Story::new(1, |_, _| {});
    let mut peers: Vec<_> = (0..6).map(|_| story.open(0, "/broadcast/a")).collect();
    story.pass(Duration::from_secs(10));
    for _ in 0..60 {
        story.send(peers[2].0, TEXT, &[b'x'; 1000]);
        story.settle(0);
        for (number, (socket, decoder)) in peers.iter_mut().enumerate() {
            if number != 4 {
                story.read(*socket, decoder);
            }
        }
    }
    story.settle(0);
    let ranking = top(&mut story, Measure::Backlog, Subject::Connections);
    let [entry] = &*ranking.entries else { panic!("{ranking:?}") };
    assert!(entry.backlog_bytes > 40_000 && entry.traffic.is_none(), "{entry:?}");
    assert_eq!(ranking.backlog_bytes, entry.backlog_bytes);
    let of_topics = top(&mut story, Measure::Backlog, Subject::Topics);
    let told: Vec<_> = of_topics.entries.iter().map(|it| it.topic.as_deref()).collect();
    assert_eq!(told, [Some("a")]);
    assert_eq!(of_topics.entries[0].backlog_bytes, entry.backlog_bytes);
    let ranking = top(&mut story, Measure::Idle, Subject::Connections);
    let silences: Vec<_> = ranking.entries.iter().map(|it| it.silent).collect();
    assert!(silences.len() == 3 && silences.is_sorted_by(|one, other| one >= other));
    assert!(silences[2] >= Duration::from_secs(10), "{silences:?}");
}

#[test]
fn a_large_topic_is_closed_in_several_ticks_and_no_other() {
    let mut story = Story::new(1, |_, chaos| chaos.slots = 64);
    let mut peers: Vec<_> = (0..40)
        .map(|number| story.open(0, if number % 4 == 0 { "/broadcast/b" } else { "/broadcast/a" }))
        .collect();
    assert!(story.control.order(0, close_topic("a")));
    let mut most_in_a_tick = 0;
    let mut closed = [false; 40];
    let outcome = loop {
        let mut now = 0;
        story.tick(0);
        for (number, peer) in peers.iter_mut().enumerate() {
            let is_closed = is_closed(&mut story, peer);
            now += usize::from(is_closed);
            closed[number] |= is_closed;
        }
        most_in_a_tick = most_in_a_tick.max(now);
        if let Some((_, outcome)) = story.control.hear().pop() {
            break outcome;
        }
    };
    assert_eq!(outcome, Outcome::Closing(30));
    assert!(most_in_a_tick <= 4, "{most_in_a_tick} in one tick");
    story.settle(0);
    for (number, peer) in peers.iter_mut().enumerate() {
        closed[number] |= is_closed(&mut story, peer);
        assert_eq!(closed[number], number % 4 != 0, "{number}");
    }
    // Those of the other topic hear each other, and who joins the first anew is let in.
    let (socket, _) = peers[0];
    story.send(socket, TEXT, b"still here");
    story.settle(0);
    let message = Item::Message { opcode: TEXT, payload: b"still here".to_vec() };
    assert_eq!(story.read(peers[4].0, &mut peers[4].1), [message]);
    story.open(0, "/broadcast/a");
    assert_eq!(run(&mut story, close_topic("a")).0, Outcome::Closing(1));
    assert_eq!(run(&mut story, close_topic("none")).0, Outcome::Closing(0));
}

#[test]
fn an_order_that_is_withdrawn_leaves_the_others() {
    let mut story = Story::new(1, |_, _| ());
    let mut peers: Vec<_> = (0..20).map(|_| story.open(0, "/broadcast/a")).collect();
    assert!(story.control.order(0, close_topic("a")));
    story.tick(0);
    story.control.withdraw(0);
    story.settle(0);
    assert_eq!(story.control.hear(), [(0, Outcome::Withdrawn)]);
    let closed = peers.iter_mut().filter_map(|peer| is_closed(&mut story, peer).then_some(()));
    let closed = closed.count();
    assert!((1..10).contains(&closed), "{closed} of 20 are closed");
    assert_eq!(run(&mut story, close_topic("a")).0, Outcome::Closing(20 - closed as u64));
}

#[test]
fn one_connection_is_closed_by_its_name() {
    let mut story = Story::new(2, |_, _| ());
    let mut peers = [story.open(0, "/echo"), story.open(0, "/echo")];
    let request = story.connect(0);
    story.settle(0);
    let keys = story.shards[0].connections().keys();
    let close = |key| Errand::Close { key, farewell: farewell() };
    assert_eq!(run(&mut story, close(keys[0])).0, Outcome::Closing(1));
    story.settle(0);
    assert!(is_closed(&mut story, &mut peers[0]) && !is_closed(&mut story, &mut peers[1]));
    assert_eq!(run(&mut story, close(keys[0])).0, Outcome::NotOpen, "it ends already");
    assert_eq!(run(&mut story, close(keys[2])).0, Outcome::NotOpen, "it is a request");
    story.reset(request);
    story.settle(0);
    assert_eq!(run(&mut story, close(keys[2])).0, Outcome::Unknown);
    let other = Key { generation: keys[1].generation + 1, ..keys[1] };
    assert_eq!(run(&mut story, close(other)).0, Outcome::Unknown, "another tenant");
    // While it moves nobody closes it, and then it has another name.
    assert!(story.shards[0].move_to(keys[1], 1));
    assert!(story.control.order(0, close(keys[1])));
    let mut heard = Vec::new();
    for _ in 0..20 {
        story.tick(0);
        story.tick(1);
        heard.extend(story.control.hear());
    }
    assert!(matches!(heard[..], [(0, Outcome::Moving | Outcome::NotOpen)]), "{heard:?}");
    assert_eq!(run(&mut story, close(keys[1])).0, Outcome::Unknown);
    assert_eq!(story.shards[1].connections().keys().len(), 1);
    assert!(!is_closed(&mut story, &mut peers[1]));
}

#[test]
fn pages_tell_of_every_connection_once() {
    let mut story = Story::new(1, |_, chaos| chaos.slots = 64);
    for number in 0..30 {
        story.open(0, ["/echo", "/broadcast/topic"][number % 2]);
    }
    story.connect(0);
    story.settle(0);
    story.pass(Duration::from_secs(1));
    let (all, next) = listed(&mut story, 0, 1000);
    assert_eq!((all.len(), next), (31, None));
    let mut paged = Vec::new();
    let mut from = Some(0);
    while let Some(begin) = from {
        let (page, next) = listed(&mut story, begin, 7);
        assert!(page.len() == 7 || next.is_none(), "{} and {next:?}", page.len());
        paged.extend(page);
        from = next;
    }
    assert_eq!(paged, all);
    let (echo, member, request) = (&all[0], &all[1], &all[30]);
    assert_eq!((echo.service, echo.topics.len(), echo.state), (Some("echo"), 0, "open"));
    assert_eq!((member.service, &*member.topics[0]), (Some("broadcast"), "topic"));
    assert_eq!((request.service, request.state), (None, "request"));
    assert_eq!((echo.waits_for, echo.backlog_bytes), (None, 0));
    assert!(all.iter().all(|it| it.silent >= Duration::from_millis(900)), "{all:?}");
}

#[test]
fn an_answer_holds_no_more_than_its_place() {
    let mut story = Story::new(1, |_, chaos| chaos.slots = 80);
    let topic = "a".repeat(255);
    (0..64).for_each(|_| drop(story.open(0, &format!("/broadcast/{topic}"))));
    let (page, next) = listed(&mut story, 0, 1000);
    assert!(page.len() < 64 && next == Some(page.len() as u32), "{} and {next:?}", page.len());
    let (rest, next) = listed(&mut story, page.len() as u32, 1000);
    assert!(!rest.is_empty() && (page.len() + rest.len() == 64) == next.is_none());
}

#[test]
fn the_idlest_are_sent_away_one_by_one() {
    let mut story = Story::new(1, |_, _| ());
    let mut peers: Vec<_> = (0..12).map(|_| story.open(0, "/echo")).collect();
    for (socket, _) in &peers[6..] {
        story.pass(Duration::from_secs(1));
        story.send(*socket, TEXT, b"x");
    }
    story.settle(0);
    for (socket, decoder) in &mut peers {
        story.read(*socket, decoder);
    }
    let window = Duration::from_secs(20);
    assert_eq!(run(&mut story, release(8, window)).0, Outcome::Closing(8));
    assert_eq!(run(&mut story, release(1, window)).0, Outcome::Releasing);
    let told = close_frame(Farewell {
        code: CloseCode::SERVICE_RESTART,
        reason: "please connect again".into(),
    });
    let mut moments = Vec::new();
    for second in 0..=20 {
        story.pass(Duration::from_secs(1));
        for (number, (socket, decoder)) in peers.iter_mut().enumerate() {
            match &story.read(*socket, decoder)[..] {
                [] => {}
                [item] if *item == told => moments.push((second, number)),
                items => panic!("{items:?}"),
            }
        }
    }
    let mut numbers: Vec<_> = moments.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>(), "the idlest, and no other");
    assert_eq!(story.counter("connections_released"), 8);
    let mut seconds: Vec<_> = moments.iter().map(|(second, _)| *second).collect();
    seconds.dedup();
    assert!(seconds.len() >= 4, "spread over the window: {seconds:?}");
    assert_eq!(run(&mut story, release(100, Duration::ZERO)).0, Outcome::Closing(4));
    story.pass(Duration::from_secs(1));
    assert_eq!(story.counter("connections_released"), 12);
}

#[test]
fn whoever_drains_follows_no_orders() {
    let mut story = Story::new(1, |_, _| ());
    let mut peers: Vec<_> = (0..20).map(|_| story.open(0, "/broadcast/a")).collect();
    assert_eq!(run(&mut story, release(20, Duration::from_secs(3600))).0, Outcome::Closing(20));
    assert!(story.control.order(0, close_topic("a")));
    story.tick(0);
    story.drain();
    story.tick(0);
    assert_eq!(story.control.hear(), [(0, Outcome::Draining)]);
    assert!(!story.control.order(0, close_topic("a")), "its inbox is closed");
    for (socket, decoder) in &mut peers {
        story.reset(*socket);
        story.read(*socket, decoder);
    }
    assert!((0..1000).any(|_| !story.tick(0)), "it ends");
    assert_eq!(story.counter("connections_released"), 0);
}
