//! What is kept of channels goes to the successor of a server.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::channels::{ANYBODY, CONFIGURATION, Session, publish, server_command};
use crate::foreign_clients::{Client, program, tools};
use crate::server::{Server, wait_until};
use crate::takeover::{GREETING, HELLO, Path, RELAYING, TAKEN, frame};

fn start(path: &Path, shards: usize) -> Server {
    let flags = ["--config", CONFIGURATION, "--takeover", path.text(), "--drain", "500ms"];
    let flags = [&flags[..], ANYBODY].concat();
    Server::start_as(server_command(), &["127.0.0.1:0"], shards, &flags)
}

/// Comes back to a channel from a position.
fn resume(session: &mut Session, channel: &str, offset: u64, epoch: &Value) -> Value {
    let request = json!({
        "channel": channel, "recover": true, "recoverable": true, "offset": offset, "epoch": epoch,
    });
    let reply = session.ask(&json!({ "id": 2, "subscribe": request }));
    assert!(reply["subscribe"].is_object(), "{reply}");
    reply["subscribe"].clone()
}

/// The offset of what was published last.
fn top(session: &mut Session, channel: &str) -> Value {
    let reply = session.ask(&json!({ "id": 2, "history": { "channel": channel } }));
    reply["history"]["offset"].clone()
}

#[test]
fn a_successor_goes_on_with_all_that_is_kept_whatever_its_number_of_shards() {
    for (before, after) in [(1, 3), (3, 1), (2, 2)] {
        let path = Path::new(&format!("histories-{before}-{after}"));
        let mut old = start(&path, before);
        let mut session = Session::connected(&old);
        let mut epochs = BTreeMap::new();
        for number in 0..40 {
            let channel = format!("channel-{number}");
            session.subscribe(&channel);
            for value in 1..=number {
                session.publish(&channel, &json!(value));
            }
            let history = json!({ "id": 2, "history": { "channel": channel } });
            let epoch = session.ask(&history)["history"]["epoch"].clone();
            assert!(epoch.is_string(), "{epoch}");
            epochs.insert(channel, epoch);
        }
        let new = start(&path, after);
        session.expect_close(3001, "a server that has a successor drains");
        assert!(old.wait().success(), "{}", old.output());
        let mut session = Session::connected(&new);
        for (number, (channel, epoch)) in (0_u64..).zip(&epochs) {
            let kept: u64 = channel["channel-".len()..].parse().expect("a number");
            let since = kept.min(number % 5);
            let resumed = resume(&mut session, channel, since, epoch);
            assert!(resumed["recovered"].as_bool().unwrap_or(false), "{resumed}");
            assert_eq!(&resumed["epoch"], epoch);
            let come = resumed["publications"].as_array().cloned().unwrap_or_default();
            let told = |it: &Value| (it["offset"].clone(), it["data"].clone());
            let come: Vec<_> = come.iter().map(told).collect();
            let expected = (since + 1..=kept).map(|it| (json!(it), json!(it)));
            assert_eq!(come, expected.collect::<Vec<_>>());
            session.publish(channel, &json!("next"));
            assert_eq!(top(&mut session, channel), kept + 1);
        }
        new.stop();
    }
}

/// A newcomer of our own that takes over, up to the word that what is published is relayed.
fn newcomer(path: &Path) -> UnixStream {
    let mut newcomer = path.knock();
    newcomer.write_all(&frame(HELLO, GREETING)).expect("it reads");
    newcomer.write_all(&frame(TAKEN, b"[]")).expect("it reads");
    let (mut heard, relaying) = (Vec::new(), frame(RELAYING, b""));
    while !heard.ends_with(&relaying) {
        let mut byte = [0];
        newcomer.read_exact(&mut byte).expect("it goes on");
        heard.extend(byte);
    }
    newcomer
}

/// What is published waits until it is known who goes on.
#[test]
fn a_newcomer_that_fails_when_it_has_the_histories_leaves_them_as_they_were() {
    let path = Path::new("histories-failure");
    let old = start(&path, 2);
    let mut session = Session::connected(&old);
    session.subscribe("a");
    Session::connected(&old).publish("a", &json!(1));
    let newcomer = newcomer(&path);
    let mut others: Vec<_> = (0..4).map(|_| Session::connected(&old)).collect();
    for (number, other) in others.iter_mut().enumerate() {
        other.send(&[publish(3, "a", &json!(number + 2)), publish(4, "plain:a", &json!(0))]);
    }
    // What nothing is kept of is published all the same.
    let mut bystander = Session::connected(&old);
    bystander.publish("plain:b", &json!(0));
    drop(newcomer);
    for other in &mut others {
        for _ in 0..2 {
            let reply = other.reply();
            assert_eq!(reply["publish"], json!({}), "{reply}");
        }
    }
    let come: Vec<_> = (0..5).map(|_| session.push("pub")["offset"].clone()).collect();
    assert_eq!(come, [1, 2, 3, 4, 5]);
    // And one that does not fail has all of that.
    let new = start(&path, 1);
    session.expect_close(3001, "a server that has a successor drains");
    drop(old);
    let mut session = Session::connected(&new);
    session.publish("a", &json!(6));
    assert_eq!(top(&mut session, "a"), 6);
    new.stop();
}

/// Nobody waits for longer than it may: a newcomer that hangs holds up nothing but for a while.
#[test]
fn who_publishes_while_a_newcomer_hangs_is_told_to_try_again() {
    let path = Path::new("histories-hang");
    let old = start(&path, 2);
    let mut session = Session::connected(&old);
    session.publish("a", &json!(1));
    let newcomer = newcomer(&path);
    let reply = session.ask(&publish(3, "a", &json!(2)));
    assert_eq!(
        (&reply["error"]["code"], &reply["error"]["temporary"]),
        (&json!(100), &json!(true))
    );
    assert_eq!(top(&mut session, "a"), 1);
    drop(newcomer);
    wait_until("it goes on", || session.ask(&publish(3, "a", &json!(2)))["publish"].is_object());
    drop(old);
}

#[test]
fn the_javascript_library_loses_nothing_when_servers_succeed_each_other() {
    let Some(tools) = tools() else { return };
    for encoding in ["json", "protobuf"] {
        let path = Path::new(&format!("histories-{encoding}"));
        let mut server = start(&path, 2);
        let mut command = Command::new("node");
        command.env("NODE_PATH", tools.join("node/node_modules"));
        command.arg(program("centrifuge_takeover.js")).args([&server.url(""), encoding]);
        let client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut client = Client(client.expect("node runs"));
        let mut lines = BufReader::new(client.0.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next().expect("a line").expect("text"), "ready");
        for shards in [1, 3] {
            let next = start(&path, shards);
            assert!(server.wait().success(), "{}", server.output());
            server = next;
            wait_until("it can be succeeded", || {
                server.output().contains("the predecessor has ended")
            });
        }
        // It ends with its input.
        drop(client.0.stdin.take());
        let mut status = None;
        wait_until("the client ends", || {
            status = client.0.try_wait().expect("the client is our child");
            status.is_some()
        });
        assert!(status.is_some_and(|status| status.success()), "{encoding}");
        server.stop();
    }
}
