//! Shards with too much to do: what they leave undone, in which order, and that it ends.

use std::time::Duration;

use ringwire::identity::Trust;

use crate::decoder::{Decoder, Item};
use crate::frames::{self, TEXT};
use crate::kernel::Chaos;
use crate::network::SocketId;
use crate::story::Story;

/// One shard that sheds, and closes idle connections if told to.
fn story(shed_idle: Option<Duration>) -> Story {
    Story::new(1, |config, chaos: &mut Chaos| {
        config.limits.shed = true;
        config.limits.shed_idle = shed_idle;
        config.limits.ping_interval = None;
        config.limits.idle_timeout = None;
        chaos.slots = 64;
    })
}

/// Lets so many windows pass in which the thread never sleeps and each tick is longer than what may
/// stand.
fn press(story: &mut Story, windows: u32) {
    step(story, 101);
    story.shards[0].io().is_busy = true;
    for _ in 0..windows * WINDOW_TICKS {
        step(story, 7);
    }
    story.shards[0].io().is_busy = false;
}

/// A tick after some milliseconds.
fn step(story: &mut Story, ms: u64) {
    story.network.borrow_mut().now_ms += ms;
    story.tick(0);
}

/// Ticks in which no time passes.
fn settle(story: &mut Story) {
    for _ in 0..4 {
        story.tick(0);
    }
}

fn level(story: &Story) -> u64 {
    story.counter("overload_level")
}

/// Lets windows of a tenth of a second pass in which the shard sleeps.
fn relax(story: &mut Story, windows: u32) {
    for _ in 0..windows {
        step(story, 101);
    }
}

fn upgrade(story: &mut Story, socket: SocketId) {
    let upgrade = frames::upgrade(&mut story.rng, "/echo");
    story.write(socket, &upgrade);
}

fn status(story: &mut Story, socket: SocketId) -> Option<u16> {
    match story.read(socket, &mut Decoder::default()).first() {
        Some(Item::Response { status, .. }) => Some(*status),
        _ => None,
    }
}

#[test]
fn a_burst_or_one_long_tick_is_no_overload() {
    let mut story = story(None);
    step(&mut story, 101);
    story.shards[0].io().is_busy = true;
    (1..WINDOW_TICKS).for_each(|_| step(&mut story, 7));
    story.shards[0].io().is_busy = false;
    assert_eq!(level(&story), 0, "shorter than a window");
    step(&mut story, 101);
    story.shards[0].io().is_busy = true;
    (0..3).for_each(|_| step(&mut story, 250));
    story.shards[0].io().is_busy = false;
    assert_eq!(level(&story), 0, "long ticks that nobody had to wait behind");
    story.pass(Duration::from_secs(3));
    assert_eq!(level(&story), 0, "it has slept");
}

#[test]
fn requests_wait_then_upgrades_are_refused_then_nobody_is_accepted_and_all_of_it_ends() {
    let mut story = story(None);
    let (busy, mut decoder) = story.open(0, "/echo");
    press(&mut story, 1);
    assert_eq!(level(&story), 1);
    // Two in each tick, in debug builds, in the order in which they came.
    let crowd: Vec<_> = (0..5).map(|_| story.connect(0)).collect();
    story.tick(0);
    crowd.iter().for_each(|socket| upgrade(&mut story, *socket));
    let now = Duration::from_millis(story.network.borrow().now_ms);
    story.shards[0].submit(now).expect("never fails");
    story.progress(0, 10);
    let mut served = Vec::new();
    for _ in 0..6 {
        story.tick(0);
        let statuses = crowd.iter().map(|socket| status(&mut story, *socket));
        served.push(statuses.collect::<Vec<_>>().iter().flatten().count());
    }
    assert_eq!(served.iter().sum::<usize>(), 5, "{served:?}");
    assert!(served.iter().all(|count| *count <= 2), "{served:?}");
    assert!(story.counter("requests_deferred") > 0);
    press(&mut story, 1);
    assert_eq!(level(&story), 2);
    let late = story.connect(0);
    story.tick(0);
    upgrade(&mut story, late);
    settle(&mut story);
    assert_eq!(status(&mut story, late), Some(503));
    assert_eq!(story.refused("overloaded"), 1);
    press(&mut story, 1);
    assert_eq!((level(&story), story.counter("accepting_paused")), (3, 1));
    let accepted = story.counter("connections_accepted");
    let unseen = story.connect(0);
    press(&mut story, 1);
    assert_eq!(story.counter("connections_accepted"), accepted);
    // Who is connected is served as before.
    story.send(busy, TEXT, b"still here");
    settle(&mut story);
    assert_eq!(
        story.read(busy, &mut decoder),
        [Item::Message { opcode: TEXT, payload: b"still here".into() }]
    );
    relax(&mut story, 12);
    assert_eq!(level(&story), 0);
    upgrade(&mut story, unseen);
    settle(&mut story);
    assert_eq!(status(&mut story, unseen), Some(101));
}

/// Connections with requests that have arrived, more than a tick takes up.
fn crowd(story: &mut Story) -> Vec<SocketId> {
    press(story, 1);
    assert_eq!(level(story), 1);
    let crowd: Vec<_> = (0..9).map(|_| story.connect(0)).collect();
    (0..20).for_each(|_| _ = story.tick(0));
    crowd.iter().for_each(|socket| upgrade(story, *socket));
    let now = Duration::from_millis(story.network.borrow().now_ms);
    story.shards[0].submit(now).expect("never fails");
    story.progress(0, 10);
    story.shards[0].turn(now);
    assert!(story.counter("requests_deferred") > 3);
    crowd
}

#[test]
fn whoever_was_put_off_gets_an_answer_when_the_server_drains() {
    let mut story = story(None);
    let crowd = crowd(&mut story);
    story.drain();
    (0..20).for_each(|_| _ = story.tick(0));
    for socket in crowd {
        assert!(matches!(status(&mut story, socket), Some(101 | 503)));
    }
}

#[test]
fn whoever_was_put_off_for_too_long_is_told_so() {
    let mut story = story(None);
    let crowd = crowd(&mut story);
    // No tick meanwhile.
    story.network.borrow_mut().now_ms += 60_000;
    story.shards[0].io().is_busy = true;
    let late: Vec<_> =
        crowd.into_iter().filter(|socket| status(&mut story, *socket).is_none()).collect();
    assert!(!late.is_empty());
    (0..20).for_each(|_| _ = story.tick(0));
    let statuses: Vec<_> = late.into_iter().map(|socket| status(&mut story, socket)).collect();
    assert!(statuses.iter().all(|it| matches!(it, Some(101 | 503))), "{statuses:?}");
}

#[test]
fn idle_connections_are_closed_when_nothing_else_helps_and_busy_ones_are_not() {
    let mut story = story(Some(Duration::from_secs(2)));
    let sockets: Vec<_> = (0..3).map(|_| story.open(0, "/echo").0).collect();
    story.pass(Duration::from_secs(4));
    assert_eq!(story.counter("idle_connections_shed"), 0);
    story.send(sockets[1], TEXT, b"busy");
    settle(&mut story);
    press(&mut story, 4);
    assert_eq!(story.counter("idle_connections_shed"), 2);
    let closes = story.shared.stats.to_json()["closes"]["local"]["1013"].as_u64();
    assert_eq!(closes, Some(2));
}

#[test]
fn nothing_is_shed_unless_that_is_wanted() {
    let mut story = story(None);
    let mut config = story.shared.in_force.current().config.clone();
    press(&mut story, 3);
    assert_eq!(level(&story), 3);
    config.limits.shed = false;
    story.shared.in_force.replace(config, Trust::default(), None);
    press(&mut story, 2);
    assert_eq!(level(&story), 0);
    let socket = story.connect(0);
    upgrade(&mut story, socket);
    settle(&mut story);
    assert_eq!(status(&mut story, socket), Some(101));
}

/// Ticks of a window, which is a tenth of a second.
const WINDOW_TICKS: u32 = 15;
