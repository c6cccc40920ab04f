//! Short stories of sessions, each the shortest that shows a failure.

use ringwire::config::{Config, Namespace, Realtime};
use ringwire::realtime::protocol::{
    self, COMMANDS_MAX, Command, Encoding, Frame, HistoryRequest, PublishRequest, Reply,
    SubscribeRequest, UnsubscribeRequest,
};

use super::kept;
use crate::decoder::{Decoder, Item};
use crate::frames::TEXT;
use crate::network::SocketId;
use crate::story::Story;

fn story(shards: usize, change: impl FnOnce(&mut Config)) -> Story {
    Story::new(shards, |config, _| {
        let name = "kept".parse().expect("a name");
        let namespaces = vec![Namespace { name, options: kept(10_000) }];
        config.realtime =
            Realtime { is_on: true, is_insecure: true, namespaces, ..Realtime::default() };
        change(config);
    })
}

/// A session on a shard, as it is when it has been connected.
fn connected(story: &mut Story, shard: usize) -> (SocketId, Decoder) {
    let (socket, mut decoder) = story.open(shard, "/connection/websocket");
    send(story, socket, &[Command { connect: Some(Box::default()), ..Command::default() }]);
    let replies = replies(story, socket, &mut decoder);
    assert!(replies[0].connect.is_some(), "{replies:?}");
    (socket, decoder)
}

/// Sends commands in one frame, with the numbers from one on.
fn send(story: &mut Story, socket: SocketId, commands: &[Command]) {
    let mut frame = Frame::new(Encoding::Json);
    for (number, command) in (1..).zip(commands) {
        frame.command(&Command { id: number, ..command.clone() });
    }
    story.send(socket, TEXT, &frame.into_bytes());
}

/// What a session is told, while all shards go on.
fn replies(story: &mut Story, socket: SocketId, decoder: &mut Decoder) -> Vec<Reply> {
    let mut replies = Vec::new();
    for _ in 0..30 {
        for _ in 0..10 {
            (0..story.shards.len()).for_each(|shard| {
                story.tick(shard);
            });
        }
        for item in story.read(socket, decoder) {
            let Item::Message { payload, .. } = item else { panic!("{item:?}") };
            replies.extend(protocol::decode_replies(Encoding::Json, &payload).expect("replies"));
        }
    }
    replies
}

fn publish(channel: &str) -> Command {
    let request = PublishRequest { channel: channel.to_owned(), data: b"{}".to_vec(), r#type: 0 };
    Command { publish: Some(request), ..Command::default() }
}

/// What could be answered at once was answered behind what another command had to wait for.
#[test]
fn replies_come_in_the_order_of_commands_wherever_the_home_is() {
    let mut story = story(2, |_| {});
    let (socket, mut decoder) = connected(&mut story, 0);
    let mut commands = Vec::new();
    for number in 0..8 {
        let channel = format!("kept:{number}");
        let unsubscribe = UnsubscribeRequest { channel: channel.clone() };
        let subscribe = SubscribeRequest { channel: channel.clone(), ..Default::default() };
        commands.push(Command { unsubscribe: Some(unsubscribe), ..Command::default() });
        commands.push(Command { subscribe: Some(Box::new(subscribe)), ..Command::default() });
        commands.push(publish(&channel));
    }
    send(&mut story, socket, &commands);
    let replies = replies(&mut story, socket, &mut decoder);
    let ids: Vec<u32> = replies.iter().map(|reply| reply.id).filter(|id| *id > 0).collect();
    assert_eq!(ids, (1..=commands.len() as u32).collect::<Vec<_>>());
    let pushed = replies.iter().filter(|reply| reply.push.is_some()).count();
    assert_eq!(pushed, 8, "each publication comes back");
}

/// Each command that was answered at once called the next: a long frame used up the stack.
#[test]
fn a_frame_of_as_many_commands_as_there_may_be_is_answered_whole() {
    let mut story = story(1, |_| {});
    let (socket, mut decoder) = connected(&mut story, 0);
    send(&mut story, socket, &vec![publish("kept:a"); COMMANDS_MAX]);
    let replies = replies(&mut story, socket, &mut decoder);
    let ids: Vec<u32> = replies.iter().map(|reply| reply.id).collect();
    assert_eq!(ids, (1..=COMMANDS_MAX as u32).collect::<Vec<_>>());
}

/// All commands of a frame were done at once, whatever their answers took.
#[test]
fn who_does_not_read_gets_no_more_answers_than_may_wait() {
    let mut story = story(1, |_| {});
    let (socket, mut decoder) = connected(&mut story, 0);
    send(&mut story, socket, &vec![publish("kept:a"); 50]);
    assert_eq!(replies(&mut story, socket, &mut decoder).len(), 50);
    let request = HistoryRequest { channel: "kept:a".to_owned(), limit: -1, ..Default::default() };
    let command = Command { history: Some(request), ..Command::default() };
    send(&mut story, socket, &vec![command; 100]);
    story.settle(0);
    let waits = story.shards[0].connections().iter().map(|(_, it)| it.outbox.bytes()).max();
    assert!(waits.is_some_and(|bytes| bytes < 40_000), "{waits:?} bytes wait");
    let replies = replies_of_all(&mut story, socket, &mut decoder, 100);
    assert_eq!(replies.len(), 100, "and all when it reads");
}

fn replies_of_all(
    story: &mut Story,
    socket: SocketId,
    decoder: &mut Decoder,
    most: usize,
) -> Vec<Reply> {
    let mut all = Vec::new();
    for _ in 0..40 {
        all.extend(replies(story, socket, decoder));
        if all.len() >= most {
            break;
        }
    }
    all
}
