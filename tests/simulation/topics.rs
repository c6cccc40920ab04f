//! Topics that are full, and as many topics as there may be.

use fastrand::Rng;
use ringwire::config::Config;

use crate::client::{Client, Context};
use crate::decoder::{Decoder, Item};
use crate::frames;
use crate::network::{Network, SocketId};
use crate::plan::Service;
use crate::story::Story;

/// Draws limits for the server.
pub fn settings(rng: &mut Rng, config: &mut Config) {
    if rng.u8(..6) == 0 {
        config.limits.topic_members = Some(rng.u16(1..4));
    }
    if rng.u8(..6) == 0 {
        config.limits.topics = Some(rng.usize(1..3));
    }
}

/// Whether somebody may be refused for the sake of these.
pub fn are_limited(config: &Config) -> bool {
    config.limits.topic_members.is_some() || config.limits.topics.is_some()
}

/// No topic has more members than it may, as far as clients and the network can tell, and there are
/// no more topics.
pub fn check_limits(clients: &[Client], network: &Network, context: &Context) {
    let limits = &context.config_at_start.limits;
    if !are_limited(&context.config_at_start) {
        return;
    }
    let admission = &context.shared.admission;
    for topic in 0..2 {
        let is_member = |client: &&Client| {
            let is_held = client.socket.is_some_and(|it| !network.sockets[it].is_left());
            let is_of_it = match client.plan.service {
                Service::Topic { topic: own, .. } | Service::Stream { topic: own, .. } => {
                    own == topic
                }
                _ => false,
            };
            client.upgraded && is_held && is_of_it
        };
        let served = clients.iter().filter(is_member).count() as u32;
        let counted = admission.members_of(&topic.to_string());
        assert!(served <= counted, "{served} members of topic {topic}, {counted} are counted");
        let most = limits.topic_members.map_or(u32::MAX, u32::from);
        assert!(counted <= most, "{counted} members of topic {topic}, at most {most}");
    }
    let (topics, _) = admission.topics_and_members();
    assert!(limits.topics.is_none_or(|most| topics <= most as u64), "{topics} topics");
}

fn story(change: impl FnOnce(&mut Config)) -> Story {
    Story::new(2, |config, _| change(config))
}

fn settle(story: &mut Story) {
    for _ in 0..20 {
        (0..story.shards.len()).for_each(|shard| {
            story.tick(shard);
        });
    }
}

/// Asks for a topic on a shard, as a WebSocket or as a stream, and tells the status.
fn ask(story: &mut Story, shard: usize, request: &[u8]) -> (SocketId, Option<u16>) {
    let (socket, mut decoder) = (story.connect(shard), Decoder::default());
    story.write(socket, request);
    settle(story);
    let status = match story.read(socket, &mut decoder).first() {
        Some(Item::Response { status, .. }) => Some(*status),
        _ => None,
    };
    (socket, status)
}

fn join(story: &mut Story, shard: usize, path: &str) -> (SocketId, Option<u16>) {
    let request = frames::upgrade(&mut story.rng, path);
    ask(story, shard, &request)
}

#[test]
fn a_topic_has_no_more_members_than_it_may_on_all_shards_together() {
    let mut story = story(|config| config.limits.topic_members = Some(2));
    let (first, status) = join(&mut story, 0, "/broadcast/0");
    assert_eq!(status, Some(101));
    assert_eq!(ask(&mut story, 1, &frames::stream(0, "1.1")).1, Some(200));
    assert_eq!(join(&mut story, 1, "/broadcast/0").1, Some(503));
    assert_eq!(ask(&mut story, 0, &frames::stream(0, "1.1")).1, Some(503));
    assert_eq!(story.refused("topic_full"), 2);
    assert_eq!(join(&mut story, 0, "/broadcast/1").1, Some(101), "another has its own");
    // One moves to the other shard, and counts once.
    let mut keys = story.shards[0].connections().iter();
    let is_open = |connection: &ringwire::shard::connections::Connection| {
        connection.stage.is_open_websocket()
    };
    let key = keys.find(|(_, it)| is_open(it)).expect("the first").0;
    drop(keys);
    assert!(story.shards[0].move_to(key, 1));
    settle(&mut story);
    assert_eq!(story.counter("connections_moved"), 1);
    assert_eq!(story.shared.admission.members_of("0"), 2);
    assert_eq!(join(&mut story, 0, "/broadcast/0").1, Some(503));
    story.reset(first);
    settle(&mut story);
    assert_eq!(story.shared.admission.members_of("0"), 1);
    assert_eq!(join(&mut story, 0, "/broadcast/0").1, Some(101));
}

#[test]
fn no_topic_begins_when_there_are_as_many_as_may_be() {
    let mut story = story(|config| config.limits.topics = Some(1));
    let (first, status) = join(&mut story, 0, "/broadcast/0");
    assert_eq!(status, Some(101));
    assert_eq!(join(&mut story, 1, "/broadcast/1").1, Some(503));
    assert_eq!(join(&mut story, 1, "/broadcast/0").1, Some(101), "it has begun");
    assert_eq!(join(&mut story, 1, "/echo").1, Some(101), "no topic");
    assert_eq!(story.refused("topics_full"), 1);
    // What is published to no one begins nothing.
    let post = frames::post(&mut story.rng, 1, &(1, b"x".to_vec()));
    assert_eq!(ask(&mut story, 0, &post).1, Some(202));
    assert_eq!(story.shared.admission.topics_and_members(), (1, 2));
    story.reset(first);
    settle(&mut story);
    assert_eq!(story.shared.admission.topics_and_members(), (1, 1));
}

#[test]
fn whoever_is_refused_for_its_address_is_no_member() {
    let mut story = story(|config| {
        config.limits.topic_members = Some(9);
        config.peers.trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        config.peers.connections_per_address = Some(1);
    });
    for status in [101, 429] {
        let socket = story.connect_from("10.0.0.1", 0);
        let request = frames::upgrade(&mut story.rng, "/broadcast/0");
        let text = String::from_utf8(request).expect("a request is text");
        let field = "\r\nX-Forwarded-For: 192.0.2.1\r\n";
        story.write(socket, text.replacen("\r\n", field, 1).as_bytes());
        settle(&mut story);
        let items = story.read(socket, &mut Decoder::default());
        assert!(matches!(items[0], Item::Response { status: it, .. } if it == status), "{items:?}");
        assert_eq!(story.shared.admission.members_of("0"), 1);
    }
}
