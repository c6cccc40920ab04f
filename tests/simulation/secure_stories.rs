//! TLS: what chance rarely brings about.

use std::time::Duration;

use ringwire::config::Config;

use crate::contract::Kind;
use crate::decoder::{Decoder, Item};
use crate::frames::{self, BINARY, CLOSE};
use crate::network::{End, Read, SocketId};
use crate::story::Story;

fn story(shards: usize, change: impl FnOnce(&mut Config)) -> Story {
    Story::new(shards, |config, _| {
        config.listen[0].tls = true;
        change(config);
    })
}

fn settle(story: &mut Story) {
    for _ in 0..30 {
        for shard in 0..story.shards.len() {
            story.tick(shard);
        }
    }
}

fn echo(payload: &[u8]) -> Item {
    Item::Message { opcode: BINARY, payload: payload.to_vec() }
}

/// Lets no more than so many bytes of a client go out, or all.
fn hold_back_behind(story: &mut Story, socket: SocketId, bytes: Option<u64>) {
    let mut network = story.network.borrow_mut();
    let socket = &mut network.sockets[socket];
    socket.with_secure(|end, socket| {
        end.hold_back_behind(bytes);
        end.pump(socket)
    });
}

/// Moves the only connection of a shard.
fn move_only(story: &mut Story, from: usize, to: usize) {
    let key = story.shards[from].connections().keys()[0];
    assert!(story.shards[from].move_to(key, to), "it may move");
    settle(story);
    assert_eq!(story.shards[to].connections().len(), 1, "it has moved");
}

#[test]
fn a_record_goes_along_wherever_it_is_cut() {
    let mut story = story(2, |config| config.engine.park_after = Some(Duration::from_secs(1)));
    let (socket, mut decoder) = story.open(0, "/echo");
    for (round, cut) in (0..60).step_by(3).enumerate() {
        let (from, to) = (round % 2, 1 - round % 2);
        hold_back_behind(&mut story, socket, Some(cut));
        let payload = [round as u8; 30];
        story.send(socket, BINARY, &payload);
        settle(&mut story);
        if round % 3 == 0 {
            // Half a record is no reason to stay awake.
            story.pass(Duration::from_secs(3));
        }
        move_only(&mut story, from, to);
        hold_back_behind(&mut story, socket, None);
        settle(&mut story);
        assert_eq!(story.read(socket, &mut decoder), [echo(&payload)], "cut at {cut}");
    }
}

/// Bytes of a record that never becomes whole are no sign of life.
#[test]
fn whoever_never_ends_a_record_is_closed_for_its_silence() {
    let mut story = story(1, |config| {
        config.limits.idle_timeout = Some(Duration::from_secs(20));
    });
    let (socket, mut decoder) = story.open(0, "/echo");
    hold_back_behind(&mut story, socket, Some(10));
    story.send(socket, BINARY, &[0; 1000]);
    let mut items = Vec::new();
    for second in 0..22 {
        story.pass(Duration::from_secs(1));
        hold_back_behind(&mut story, socket, Some(1));
        let read = story.read(socket, &mut decoder);
        assert!(second > 18 || read.iter().all(|item| !is_close(item)), "in second {second}");
        items.extend(read);
    }
    assert!(items.iter().any(is_close), "{items:?}");
}

fn is_close(item: &Item) -> bool {
    matches!(item, Item::Control { opcode: CLOSE, .. })
}

/// Whoever reads slowly has most of what waits unsealed; that is looked at in each tick.
#[test]
fn little_is_sealed_ahead_of_a_slow_reader() {
    let mut story = story(1, |config| config.limits.backlog_bytes = 4 << 20);
    let (socket, mut decoder) = story.open(0, "/broadcast/a");
    let (member, mut reads) = story.open(0, "/broadcast/a?exclude_self=true");
    let payloads: Vec<_> = (0..40).map(|number| vec![number; 30_000]).collect();
    for payload in &payloads {
        story.send(member, BINARY, payload);
        settle(&mut story);
    }
    assert_eq!(story.read(member, &mut reads), []);
    let mut items = Vec::new();
    while items.len() < payloads.len() {
        items.extend(story.read(socket, &mut decoder));
        for _ in 0..3 {
            story.tick(0);
        }
    }
    assert!(items.iter().eq(&payloads.iter().map(|it| echo(it)).collect::<Vec<_>>()));
}

#[test]
fn a_stream_that_is_cut_off_within_a_record_ends() {
    let mut story = story(1, |_| ());
    let (socket, mut decoder) = story.open(0, "/echo");
    story.send(socket, BINARY, b"whole");
    hold_back_behind(&mut story, socket, Some(20));
    story.send(socket, BINARY, b"cut");
    story.network.borrow_mut().sockets[socket].finish_raw();
    story.settle(0);
    assert_eq!(story.read(socket, &mut decoder), [echo(b"whole")]);
    assert_eq!(story.counter("connections_open"), 0);
}

/// A request by a listener that sends everybody to https, cut anywhere and moved.
#[test]
fn whoever_comes_without_tls_is_sent_to_it_wherever_it_goes_on() {
    const REQUEST: &[u8] = b"GET /news HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut story = story(2, |config| {
        config.redirect_http = vec![config.listen[0].address.clone().into()];
    });
    for cut in (0..REQUEST.len()).step_by(4) {
        let (socket, mut decoder) = (story.connect(0), Decoder::default());
        [false, false].into_iter().for_each(|head| decoder.expect_response(head));
        let (first, rest) = REQUEST.split_at(cut);
        story.write(socket, first);
        settle(&mut story);
        move_only(&mut story, 0, 1);
        let upgrade = frames::upgrade(&mut story.rng, "/echo");
        story.write(socket, &[rest, &upgrade].concat());
        settle(&mut story);
        let statuses = story.read(socket, &mut decoder).into_iter().map(|item| match item {
            Item::Response { status, .. } => status,
            item => panic!("{item:?}"),
        });
        assert_eq!(statuses.collect::<Vec<_>>(), [308, 308], "cut at {cut}");
        story.reset(socket);
        settle(&mut story);
    }
    assert_eq!(story.counter("upgrades"), 0);
}

/// Who asks for a page and stays.
fn keep_alive(story: &mut Story) -> SocketId {
    let socket = story.connect_secured(0);
    story.write(socket, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    settle(story);
    socket
}

/// Whether a connection has ended, and then whether TLS has said so.
fn was_told_end(story: &Story, socket: SocketId) -> Option<bool> {
    let mut network = story.network.borrow_mut();
    let socket = &mut network.sockets[socket];
    while let Read::Bytes(_) = socket.client_read(usize::MAX) {}
    let has_ended = matches!(socket.client_read(1), Read::End(End::Finished));
    has_ended.then(|| socket.with_secure(|end, _| end.was_told_end()))?
}

#[test]
fn whoever_is_kept_for_a_request_is_told_when_its_slot_is_wanted() {
    let mut story = story(1, |_| ());
    let first = keep_alive(&mut story);
    assert_eq!(was_told_end(&story, first), None, "it is kept");
    // What is sent goes out before what is begun behind it.
    story.shards[0].io().hold(Kind::Shutdown);
    for _ in 0..32 {
        story.connect(0);
        settle(&mut story);
    }
    story.shards[0].io().let_go();
    settle(&mut story);
    assert_eq!(was_told_end(&story, first), Some(true));
}

#[test]
fn whoever_is_kept_for_a_request_is_told_at_the_end_of_a_drain() {
    let mut story = story(1, |_| ());
    let (kept, silent) = (keep_alive(&mut story), story.connect_secured(0));
    story.shards[0].io().hold(Kind::Shutdown);
    story.drain();
    story.network.borrow_mut().wakes[0] += 1;
    settle(&mut story);
    story.shards[0].io().let_go();
    settle(&mut story);
    assert_eq!([kept, silent].map(|it| was_told_end(&story, it)), [Some(true); 2]);
}

/// Only a few go on in each tick, in which whoever is connected is served as before.
#[test]
fn handshakes_of_a_crowd_take_turns() {
    const CROWD: usize = 12;
    let mut story = story(1, |_| ());
    let (bystander, mut decoder) = story.open(0, "/echo");
    let crowd: Vec<_> = (0..CROWD).map(|_| story.begin_secured(0)).collect();
    story.settle(0);
    // Some have a ticket of those before them.
    let count = |story: &Story| {
        let counters = ["tls_1_3_handshakes", "tls_1_3_resumptions"];
        counters.map(|name| story.counter(name)).iter().sum::<u64>()
    };
    let mut done = vec![count(&story)];
    for _ in 0..4 * CROWD {
        for socket in &crowd {
            story.network.borrow_mut().sockets[*socket].pump();
        }
        story.send(bystander, BINARY, b"meanwhile");
        story.tick(0);
        done.push(count(&story));
    }
    assert_eq!(done.last(), Some(&(CROWD as u64 + 1)), "all are done");
    assert!(done.windows(2).all(|pair| pair[1] - pair[0] <= 2), "a few in each tick: {done:?}");
    assert!(story.counter("tls_handshakes_deferred") > 0);
    let heard = story.read_all(0, bystander, &mut decoder).len();
    assert!(heard >= 4 * CROWD - 1, "{heard} of {}", 4 * CROWD);
}
