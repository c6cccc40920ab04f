//! Channels, by commands that a library would not send, or not so.

use std::collections::VecDeque;
use std::process::Command;
use std::slice;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::SHARD_COUNTS;
use crate::peer::{BINARY, CLOSE, Peer, TEXT, close_payload};
use crate::server::{Server, wait_until};

/// What the tests of channels expect of a server.
pub const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/channels.toml");
pub const ANYBODY: &[&str] = &["--client-allow-anonymous", "true"];

/// A server with that.
pub fn serve(shards: usize, flags: &[&str]) -> Server {
    let all = [&["--config", CONFIGURATION], flags].concat();
    Server::start_as(server_command(), &["127.0.0.1:0"], shards, &all)
}

/// The configurations name their keys from the root of the repository.
pub fn server_command() -> Command {
    let mut command = Server::command();
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

pub fn token(claims: &Value) -> String {
    let key = EncodingKey::from_secret(b"secret");
    encode(&Header::new(Algorithm::HS256), claims, &key.expect("a key")).expect("a token")
}

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A client of channels that says what it is told to say.
pub struct Session {
    peer: Peer,
    /// Messages that have come and were not asked for yet.
    come: VecDeque<Value>,
}

impl Session {
    /// One that has not connected.
    pub fn open(server: &Server) -> Self {
        Self::with(Peer::connect(server.address()))
    }

    pub fn with(peer: Peer) -> Self {
        Self::of(peer.upgraded("/connection/websocket"))
    }

    /// One whose request has been answered.
    pub fn of(peer: Peer) -> Self {
        Self { peer, come: VecDeque::new() }
    }

    pub fn connected(server: &Server) -> Self {
        Self::open(server).connect(&json!({}))
    }

    pub fn with_token(server: &Server, claims: &Value) -> Self {
        Self::open(server).connect(&json!({ "token": token(claims) }))
    }

    pub fn connect(mut self, request: &Value) -> Self {
        let reply = self.ask(&json!({ "id": 1, "connect": request }));
        assert!(reply["connect"]["client"].is_string(), "{reply}");
        self
    }

    /// Sends several commands in one frame.
    pub fn send(&mut self, commands: &[Value]) {
        let lines: Vec<_> = commands.iter().map(Value::to_string).collect();
        self.peer.send_frame(TEXT, lines.join("\n").as_bytes());
    }

    /// The next message, or the code of the close frame.
    pub fn next(&mut self) -> Result<Value, u16> {
        while self.come.is_empty() {
            let frame = self.peer.read_frame();
            match frame.opcode {
                TEXT => {
                    let text = str::from_utf8(&frame.payload).expect("UTF-8");
                    let messages = text.lines().map(serde_json::from_str);
                    self.come.extend(messages.map(|it| it.expect("JSON")));
                }
                CLOSE => return Err(close_payload(&frame.payload).0),
                opcode => panic!("nothing of the kind {opcode} is expected"),
            }
        }
        Ok(self.come.pop_front().expect("one has come"))
    }

    /// The next message that is not about something that was published, nor a ping.
    pub fn reply(&mut self) -> Value {
        loop {
            let message = self.next().expect("a reply, not the end");
            if message["id"].is_u64() {
                return message;
            }
        }
    }

    /// The next push of this kind.
    pub fn push(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().expect("a push, not the end");
            if message["push"].get(kind).is_some() {
                return message["push"][kind].clone();
            }
        }
    }

    pub fn ask(&mut self, command: &Value) -> Value {
        self.send(slice::from_ref(command));
        let reply = self.reply();
        assert_eq!(reply["id"], command["id"], "{reply}");
        reply
    }

    /// The code of the error that a command is answered with; 0 for none.
    pub fn code_of(&mut self, command: &Value) -> u64 {
        self.ask(command)["error"]["code"].as_u64().unwrap_or(0)
    }

    pub fn subscribe(&mut self, channel: &str) -> Value {
        let reply = self.ask(&subscribe(2, channel));
        assert!(reply["subscribe"].is_object(), "{reply}");
        reply["subscribe"].clone()
    }

    pub fn publish(&mut self, channel: &str, data: &Value) {
        let reply = self.ask(&publish(3, channel, data));
        assert!(reply["publish"].is_object(), "{reply}");
    }

    pub fn expect_close(&mut self, code: u16, why: &str) {
        loop {
            if let Err(closed) = self.next() {
                return assert_eq!(closed, code, "{why}");
            }
        }
    }
}

pub fn subscribe(id: u32, channel: &str) -> Value {
    json!({ "id": id, "subscribe": { "channel": channel } })
}

pub fn publish(id: u32, channel: &str, data: &Value) -> Value {
    json!({ "id": id, "publish": { "channel": channel, "data": data } })
}

fn history(id: u32, channel: &str, limit: i32) -> Value {
    json!({ "id": id, "history": { "channel": channel, "limit": limit } })
}

#[test]
fn what_breaks_the_protocol_ends_the_session() {
    let server = serve(2, &[&["--max-message", "64KiB"], ANYBODY].concat());
    let many = vec!["{\"id\":2,\"ping\":{}}"; 1001].join("\n");
    let large = "x".repeat((64 << 10) + 1);
    for (is_connected, frame, code) in [
        (false, "{}", 3501),
        (false, "", 3501),
        (false, "garbage", 3501),
        (false, "{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}", 3501),
        (false, "{\"connect\":{}}", 3501),
        (true, "{}", 3501),
        (true, "", 3501),
        (true, "garbage", 3501),
        (true, "{\"id\":2}", 3501),
        (true, "[]", 3501),
        (true, "{\"id\":2,\"connect\":{}}", 3501),
        (true, "{\"subscribe\":{\"channel\":\"a\"}}", 3501),
        (true, "{\"id\":2,\"subscribe\":{}}", 3501),
        (true, "{\"id\":2,\"unsubscribe\":{}}", 3501),
        (true, "{\"id\":2,\"history\":{}}", 3501),
        (true, "{\"id\":2,\"presence\":{}}", 3501),
        (true, "{\"id\":2,\"publish\":{\"channel\":\"a\"}}", 3501),
        (true, "{\"id\":2,\"publish\":{\"channel\":\"a\",\"data\":{]}}", 3501),
        (true, "{\"id\":2,\"refresh\":{}}", 3501),
        (true, "{\"send\":{\"data\":{}}}", 3508),
        (true, &many, 3501),
        (true, &large, 1009),
    ] {
        let mut bystander = Session::connected(&server);
        let mut session = match is_connected {
            true => Session::connected(&server),
            false => Session::open(&server),
        };
        session.peer.send_frame(TEXT, frame.as_bytes());
        session.expect_close(code, frame);
        bystander.subscribe("a");
    }
    server.stop();
}

/// What came before it in the frame is answered.
#[test]
fn replies_precede_the_end() {
    let server = serve(1, ANYBODY);
    let mut session = Session::connected(&server);
    let send = json!({ "send": {} });
    session.send(&[subscribe(2, "a"), history(3, "a", 0), send, subscribe(4, "b")]);
    assert_eq!(session.reply()["id"], 2);
    assert_eq!(session.reply()["id"], 3);
    session.expect_close(3508, "there is nobody to send to");
    server.stop();
}

#[test]
fn whoever_does_not_connect_or_answer_is_closed() {
    let flags = ["--client-stale-close-delay", "100ms", "--client-ping-interval", "1s"];
    let timeout = ["--client-pong-timeout", "100ms"];
    let server = serve(2, &[&flags[..], &timeout, ANYBODY].concat());
    let mut silent = Session::open(&server);
    silent.expect_close(3502, "it has not connected");
    let mut deaf = Session::open(&server);
    let connect = json!({ "id": 1, "connect": {} });
    deaf.send(&[connect]);
    deaf.expect_close(3012, "it has answered no ping");
    server.stop();
}

#[test]
fn a_ping_is_answered_once() {
    let flags = ["--client-ping-interval", "2s", "--client-pong-timeout", "1900ms"];
    let server = serve(1, &[&flags[..], ANYBODY].concat());
    let mut session = Session::connected(&server);
    assert_eq!(session.next(), Ok(json!({})));
    session.send(&[json!({}), json!({})]);
    session.expect_close(3501, "it has answered twice");
    server.stop();
}

#[test]
fn commands_that_cannot_be_done_are_refused() {
    for shards in SHARD_COUNTS {
        let flags = ["--client-channel-limit", "3"];
        let server = serve(shards, &[&flags[..], ANYBODY].concat());
        let mut session = Session::connected(&server);
        session.subscribe("a");
        session.subscribe("plain:b");
        let epoch = session.ask(&history(2, "a", 0))["history"]["epoch"].clone();
        let since = |offset: u64, epoch: &Value| json!({ "offset": offset, "epoch": epoch });
        let of_a = |since: Value| json!({ "history": { "channel": "a", "since": since } });
        let begin = since(0, &epoch);
        let long = "x".repeat(256);
        for (command, code) in [
            (json!({ "subscribe": { "channel": "a" } }), 105),
            (json!({ "subscribe": { "channel": "nowhere:a" } }), 102),
            (json!({ "subscribe": { "channel": "$a" } }), 103),
            (json!({ "subscribe": { "channel": "closed:a" } }), 103),
            (json!({ "subscribe": { "channel": "closed:a#b" } }), 103),
            (json!({ "subscribe": { "channel": "b", "token": "a.b.c" } }), 103),
            (json!({ "subscribe": { "channel": "caf\u{e9}" } }), 107),
            (json!({ "subscribe": { "channel": long } }), 107),
            (json!({ "subscribe": { "channel": "c", "type": 1 } }), 103),
            (
                json!({ "subscribe": { "channel": "c", "recover": true, "recoverable": true,
                    "epoch": "other", "flag": 2 } }),
                112,
            ),
            (json!({ "unsubscribe": { "channel": "c" } }), 0),
            (json!({ "publish": { "channel": "nowhere:a", "data": 1 } }), 102),
            (json!({ "publish": { "channel": "closed:a", "data": 1 } }), 103),
            (json!({ "publish": { "channel": "a", "data": 1, "type": 1 } }), 108),
            (json!({ "history": { "channel": "plain:b" } }), 108),
            (json!({ "history": { "channel": "nowhere:b" } }), 102),
            (of_a(begin.clone()), 0),
            (json!({ "history": { "channel": "a", "since": begin, "reverse": true } }), 107),
            (of_a(since(1, &json!("x"))), 112),
            (json!({ "presence": { "channel": "plain:b" } }), 108),
            (json!({ "presence_stats": { "channel": "plain:b" } }), 108),
            (json!({ "sub_refresh": { "channel": "c", "token": "t" } }), 103),
            (json!({ "sub_refresh": { "channel": "a" } }), 107),
            (json!({ "ping": {} }), 108),
            (json!({ "rpc": { "method": "m", "data": 1 } }), 108),
            (json!({ "subscribe": { "channel": "c" } }), 0),
            (json!({ "subscribe": { "channel": "d" } }), 106),
            (json!({ "unsubscribe": { "channel": "c" } }), 0),
            (json!({ "subscribe": { "channel": "d" } }), 0),
        ] {
            let mut with_id = command.clone();
            with_id["id"] = json!(9);
            assert_eq!(session.code_of(&with_id), code, "{command} on {shards} shards");
        }
        server.stop();
    }
}

/// An encoding in which data can be anything: those who speak JSON could not be told.
#[test]
fn data_that_is_no_json_is_refused() {
    let server = serve(2, ANYBODY);
    let path = "/connection/websocket?format=protobuf";
    let mut peer = Peer::upgrade(server.address(), path);
    peer.send_frame(BINARY, b"\x04\x08\x01\x22\x00");
    assert_eq!(peer.read_frame().opcode, BINARY);
    // Publish to the channel `a`.
    for (data, field) in [(&b"\xff"[..], 2), (b"{", 2), (b"\"\xff\"", 2), (b"{\n\"a\":\r\n1}", 8)] {
        let content = [&b"\x0a\x01a\x12"[..], &[data.len() as u8], data].concat();
        let command = [&b"\x08\x02\x3a"[..], &[content.len() as u8], &content].concat();
        peer.send_frame(BINARY, &[&[command.len() as u8], &command[..]].concat());
        let reply = peer.read_frame().payload;
        assert_eq!((reply[1], reply[2], reply[3] >> 3), (8, 2, field), "{data:?}: {reply:?}");
    }
    // A line feed would be the end of a message.
    let mut reader = Session::connected(&server);
    let publications = reader.ask(&history(2, "a", -1))["history"]["publications"].clone();
    assert_eq!(publications[0]["data"], json!({ "a": 1 }));
    server.stop();
}

#[test]
fn tokens_that_do_not_hold_end_what_they_are_for() {
    let server = serve(2, &[]);
    let lasting = |user: &str| json!({ "sub": user, "exp": now_s() + 3600 });
    let for_channel = |user: &str, channel: &str, seconds: i64| {
        let exp = now_s().saturating_add_signed(seconds);
        token(&json!({ "sub": user, "channel": channel, "exp": exp }))
    };
    let refresh = |token: String| json!({ "id": 4, "refresh": { "token": token } });
    let of_channel =
        |token: String| json!({ "id": 4, "subscribe": { "channel": "$a", "token": token } });
    let again =
        |token: String| json!({ "id": 5, "sub_refresh": { "channel": "$a", "token": token } });
    let mut session = Session::with_token(&server, &lasting("ann"));
    let reply = session.ask(&refresh(token(&lasting("ann"))));
    assert_eq!(reply["refresh"]["expires"], true);
    assert_eq!(session.code_of(&of_channel(for_channel("ann", "$a", -60))), 109);
    assert_eq!(session.code_of(&of_channel(for_channel("ann", "$a", 60))), 0);
    assert_eq!(session.code_of(&again(for_channel("ann", "$a", 60))), 0);
    // One that has expired is no licence for ever.
    assert_eq!(session.code_of(&again(for_channel("ann", "$a", -60))), 109);

    for (command, code) in [
        (refresh(token(&lasting("bob"))), 3500),
        (refresh("a.b.c".to_owned()), 3500),
        (refresh(token(&json!({ "sub": "ann", "exp": now_s() - 60 }))), 3005),
        (refresh(for_channel("ann", "$a", 60)), 3500),
        (of_channel(for_channel("bob", "$a", 60)), 3500),
        (of_channel(for_channel("ann", "$b", 60)), 3500),
        (json!({ "id": 2, "connect": { "token": token(&lasting("ann")) } }), 3501),
    ] {
        let mut session = Session::with_token(&server, &lasting("ann"));
        session.send(slice::from_ref(&command));
        session.expect_close(code, &command.to_string());
    }
    for (token, code) in [(String::new(), 3501), (for_channel("ann", "a", 60), 3500)] {
        let mut session = Session::open(&server);
        session.send(&[json!({ "id": 1, "connect": { "token": token } })]);
        session.expect_close(code, "who it is is not known");
    }
    server.stop();
}

/// The rest of its frame, as libraries send it, is as if it had not come.
#[test]
fn whoever_is_not_let_in_is_told_why() {
    let server = serve(2, &[]);
    for claims in [
        json!({ "sub": "ann", "exp": now_s() - 60 }),
        json!({ "sub": "ann", "channels": ["a", "nowhere:b"] }),
    ] {
        let mut session = Session::open(&server);
        let connect = json!({ "id": 1, "connect": { "token": token(&claims) } });
        session.send(&[connect.clone(), subscribe(2, "a"), subscribe(3, "b")]);
        let code = if claims["exp"].is_u64() { 109 } else { 102 };
        assert_eq!(session.reply()["error"]["code"], code);
        assert!(!session.peer.has_input());
        session.send(&[connect]);
        session.expect_close(3501, "it has been told");
    }
    server.stop();
}

/// More than a thread has memory for if each were done within the one before.
#[test]
fn a_frame_of_a_thousand_commands_is_answered_in_order() {
    for shards in SHARD_COUNTS {
        let server = serve(shards, ANYBODY);
        let mut session = Session::connected(&server);
        session.publish("a", &json!(1));
        let commands: Vec<_> = (0..1000)
            .map(|number| match number % 5 {
                0 => history(number + 1, "a", 1),
                1 => json!({ "id": number + 1, "presence_stats": { "channel": "b" } }),
                2 => publish(number + 1, "c", &json!(number)),
                3 => publish(number + 1, "nowhere:c", &json!(number)),
                _ => json!({ "id": number + 1, "unsubscribe": { "channel": "c" } }),
            })
            .collect();
        session.send(&commands);
        for number in 1..=1000 {
            assert_eq!(session.reply()["id"], number, "{shards} shards");
        }
        server.stop();
    }
}

#[test]
fn all_who_come_at_once_are_let_in() {
    const SESSIONS: usize = 40;
    let server = serve(2, &[]);
    let mut sessions: Vec<_> = (0..SESSIONS).map(|_| Session::open(&server)).collect();
    for (number, session) in sessions.iter_mut().enumerate() {
        let channels = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let claims = json!({ "sub": format!("user-{number}"), "channels": channels });
        session.send(&[json!({ "id": 1, "connect": { "token": token(&claims) } })]);
    }
    for (number, session) in sessions.iter_mut().enumerate() {
        let reply = session.reply();
        let subscriptions = reply["connect"]["subs"].as_object().expect("subscriptions");
        assert_eq!(subscriptions.len(), 9, "{reply}");
        assert!(subscriptions.contains_key(&format!("#user-{number}")), "{reply}");
    }
    server.stop();
}

/// What the server subscribes it to counts as well.
#[test]
fn nobody_has_more_channels_than_allowed() {
    let server = serve(1, &[]);
    let with_channels = |count: usize| {
        let channels: Vec<_> = (0..count).map(|number| format!("plain:{number}")).collect();
        token(&json!({ "sub": "ann", "channels": channels }))
    };
    let connect = |count| json!({ "id": 1, "connect": { "token": with_channels(count) } });
    // With that of its user.
    let mut session = Session::open(&server);
    let reply = session.ask(&connect(127));
    assert_eq!(reply["connect"]["subs"].as_object().expect("subscriptions").len(), 128);
    assert_eq!(session.code_of(&subscribe(2, "plain:more")), 106);
    for count in [128, 2000] {
        let mut session = Session::open(&server);
        session.send(&[connect(count)]);
        session.expect_close(3505, "its token names too many");
    }
    server.stop();
}

#[test]
fn all_of_many_subscriptions_get_all_that_there_is() {
    for shards in SHARD_COUNTS {
        let server = serve(shards, ANYBODY);
        let mut session = Session::connected(&server);
        let mut publisher = Session::connected(&server);
        let names: Vec<_> = (0..128).map(|number| format!("channel-{number}")).collect();
        for name in &names {
            let wishes = json!({ "channel": name, "join_leave": true });
            assert_eq!(session.code_of(&json!({ "id": 2, "subscribe": wishes })), 0);
        }
        for name in &names {
            publisher.publish(name, &json!(name));
            assert_eq!(session.push("pub")["data"], json!(name));
        }
        publisher.subscribe("channel-127");
        session.push("join");
        server.stop();
    }
}

/// Answers to those who have gone are nothing to those who come in their places.
#[test]
fn sessions_that_go_while_they_are_answered_harm_nobody() {
    let server = serve(2, ANYBODY);
    let mut watcher = Session::connected(&server);
    for round in 0..40 {
        let mut going: Vec<_> = (0..8).map(|_| Session::connected(&server)).collect();
        for (number, session) in going.iter_mut().enumerate() {
            let channel = |it: usize| format!("{round}-{}", (it + number) % 8);
            let some = (0..8).map(|it| subscribe(it + 2, &channel(it as usize)));
            let more = (10..200).map(|it| history(it, &channel(it as usize), 0));
            session.send(&some.chain(more).collect::<Vec<_>>());
        }
        for session in going {
            session.peer.reset();
        }
        let mut staying: Vec<_> = (0..8).map(|_| Session::connected(&server)).collect();
        let commands: Vec<_> = (2..60).map(|it| history(it, &format!("{round}-{it}"), 0)).collect();
        for session in &mut staying {
            session.send(&commands);
        }
        for session in &mut staying {
            for id in 2..60 {
                assert_eq!(session.reply()["id"], id);
            }
        }
    }
    wait_until("nobody else is there", || server.stats().websockets_open() == 1);
    for channel in 0..8 {
        let channel = format!("39-{channel}");
        let command = json!({ "id": 2, "presence_stats": { "channel": channel } });
        wait_until("all have left", || {
            watcher.ask(&command)["presence_stats"].as_object().expect("counts").is_empty()
        });
    }
    server.stop();
}

/// Whoever leaves and comes back is there, however much there is to be told.
#[test]
fn presence_is_exact_after_much_coming_and_going() {
    let server = serve(2, ANYBODY);
    let mut sessions: Vec<_> = (0..10).map(|_| Session::connected(&server)).collect();
    let mut commands = Vec::new();
    for round in 0..40 {
        for channel in ["a", "b", "c", "d"] {
            if round > 0 {
                commands.push(json!({ "id": 2, "unsubscribe": { "channel": channel } }));
            }
            commands.push(subscribe(2, channel));
        }
    }
    for session in &mut sessions {
        session.send(&commands);
    }
    for session in &mut sessions {
        for _ in &commands {
            assert!(session.reply().get("error").is_none());
        }
    }
    let mut watcher = Session::connected(&server);
    for channel in ["a", "b", "c", "d"] {
        let reply = watcher.ask(&json!({ "id": 2, "presence_stats": { "channel": channel } }));
        assert_eq!(reply["presence_stats"]["num_clients"], 10, "{channel}");
    }
    server.stop();
}

/// What is answered and not read is bounded, as what is sent back by an echo is.
#[test]
fn whoever_asks_and_does_not_read_is_answered_no_further() {
    for shards in SHARD_COUNTS {
        let flags = ["--max-backlog", "64KiB"];
        let server = serve(shards, &[&flags[..], ANYBODY].concat());
        let mut publisher = Session::connected(&server);
        let text = json!("x".repeat(30_000));
        for _ in 0..100 {
            publisher.publish("a", &text);
        }
        let mut session = Session::with(Peer::connect_narrow(server.address())).connect(&json!({}));
        session.send(&(2..1000).map(|id| history(id, "a", -1)).collect::<Vec<_>>());
        wait_until("it is not read from", || server.stats().receives_paused() > 0);
        // 3 MB for each of them would be 3 GB.
        publisher.publish("a", &text);
        assert!(server.peak_resident_bytes() < 300 << 20, "{}", server.peak_resident_bytes());
        for id in 2..20 {
            assert_eq!(session.reply()["id"], id);
        }
        server.stop();
    }
}

/// It is told that it has missed something, or is closed; nobody else is kept waiting.
#[test]
fn whoever_does_not_read_what_is_published_costs_nobody_else() {
    for (channel, end) in [("a", Ok(2500)), ("plain:a", Err(3008))] {
        let server = serve(2, &[&["--max-backlog", "64KiB"], ANYBODY].concat());
        let [mut publisher, mut reader] = [(); 2].map(|()| Session::connected(&server));
        reader.subscribe(channel);
        let mut deaf = Session::with(Peer::connect_narrow(server.address())).connect(&json!({}));
        let wishes = json!({ "channel": channel, "recoverable": true, "positioned": true });
        deaf.ask(&json!({ "id": 2, "subscribe": wishes }));
        let text = "x".repeat(30_000);
        let slow = || server.stats().dropped("disconnect");
        let mut published = 0;
        while slow() == 0 {
            assert!(published < 10_000, "it is never slow");
            published += 1;
            publisher.publish(channel, &json!([published, text]));
            assert_eq!(reader.push("pub")["data"][0], published);
        }
        let mut got = 0;
        let ended = loop {
            match deaf.next() {
                Err(code) => break Err(code),
                Ok(message) if message["push"]["unsubscribe"].is_object() => {
                    break Ok(message["push"]["unsubscribe"]["code"].as_u64().expect("a code"));
                }
                Ok(message) if message["push"]["pub"].is_object() => {
                    got += 1;
                    assert_eq!(message["push"]["pub"]["data"][0], got, "what it gets has no gap");
                }
                Ok(_) => {}
            }
        };
        assert_eq!(ended, end);
        if ended.is_ok() {
            let all = deaf.ask(&history(3, channel, 0));
            assert_eq!(all["history"]["offset"], published);
        }
        server.stop();
    }
}

#[test]
fn publications_come_once_and_in_order_wherever_their_home_is() {
    for shards in SHARD_COUNTS {
        let server = serve(shards, ANYBODY);
        let mut sessions: Vec<_> = (0..6).map(|_| Session::connected(&server)).collect();
        let channels: Vec<_> = (0..6).map(|number| format!("channel-{number}")).collect();
        thread::scope(|scope| {
            for (number, session) in sessions.iter_mut().enumerate() {
                let channels = &channels;
                scope.spawn(move || {
                    // Half of them come while there is much going on.
                    for round in 0..50 {
                        for channel in channels {
                            session.publish(channel, &json!([number, round]));
                        }
                        if round == number * 8 {
                            let commands = channels.iter().map(|it| recover(it, session_offset(0)));
                            session.send(&commands.collect::<Vec<_>>());
                            for _ in channels {
                                session.reply();
                            }
                        }
                    }
                });
            }
        });
        let mut late = Session::connected(&server);
        for channel in &channels {
            let reply = late.ask(&recover(channel, session_offset(0)));
            let result = &reply["subscribe"];
            assert_eq!(result["recovered"], true, "{channel}");
            let publications = result["publications"].as_array().expect("all");
            let offsets: Vec<_> = publications.iter().map(|it| it["offset"].as_u64()).collect();
            assert_eq!(offsets, (1..=300).map(Some).collect::<Vec<_>>());
            for number in 0..6 {
                let of_one = publications.iter().filter(|it| it["data"][0] == number);
                let rounds: Vec<_> = of_one.map(|it| it["data"][1].as_u64()).collect();
                assert_eq!(rounds, (0..50).map(Some).collect::<Vec<_>>());
            }
        }
        server.stop();
    }
}

/// However large they are, there is a place for them in the mail to another shard.
#[test]
fn large_publications_come_to_their_homes() {
    let server = serve(2, ANYBODY);
    let mut publisher = Session::connected(&server);
    let mut reader = Session::connected(&server);
    for (number, bytes) in [100_000, 250_000, 300_000, 2_000_000].into_iter().enumerate() {
        for channel in ["a", "b", "c", "d"] {
            let data = json!("x".repeat(bytes));
            if number == 0 {
                reader.subscribe(channel);
            }
            publisher.publish(channel, &data);
            assert_eq!(reader.push("pub")["data"], data, "{bytes} bytes");
        }
    }
    server.stop();
}

fn session_offset(offset: u64) -> Value {
    json!({ "offset": offset, "epoch": "" })
}

fn recover(channel: &str, since: Value) -> Value {
    json!({ "id": 7, "subscribe": { "channel": channel, "recover": true, "recoverable": true,
        "offset": since["offset"], "epoch": since["epoch"] } })
}

#[test]
fn channels_are_at_mounts_too() {
    let server = serve(2, &["--mount", "/ws=realtime", "--client-allow-anonymous", "true"]);
    let connected = |path: &str| {
        let peer = Peer::connect(server.address()).upgraded(path);
        Session { peer, come: VecDeque::new() }.connect(&json!({}))
    };
    let (mut one, mut other) = (connected("/ws"), connected("/connection/websocket"));
    one.subscribe("plain:a");
    other.publish("plain:a", &json!({ "a": 1 }));
    assert_eq!(one.push("pub")["data"], json!({ "a": 1 }));
    server.stop();
}

/// With and without a history, and whichever connection of the user it is.
#[test]
fn what_has_the_id_of_something_before_is_acknowledged_and_not_published() {
    for shards in SHARD_COUNTS {
        let options = "id_from=/id,allow_publish_for_client,allow_subscribe_for_client";
        let kept = format!("kept:,history_size=9,history_ttl=1m,{options}");
        let passed = format!("passed:,{options}");
        let server = serve(shards, &["--namespace", &kept, "--namespace", &passed]);
        let claims = |user: &str| json!({ "sub": user });
        let mut reader = Session::with_token(&server, &claims("reader"));
        for channel in ["kept:a", "passed:a"] {
            reader.subscribe(channel);
            for user in ["ann", "ann", "bob"] {
                let mut session = Session::with_token(&server, &claims(user));
                session.publish(channel, &json!({ "id": 1, "by": user }));
                session.publish(channel, &json!({ "id": 1, "by": "again" }));
                session.publish(channel, &json!({ "id": "1", "by": user }));
                let long = json!({ "id": "x".repeat(256) });
                assert_eq!(session.code_of(&publish(3, channel, &long)), 107);
            }
            let mut session = Session::with_token(&server, &claims("ann"));
            session.publish(channel, &json!("without"));
            session.publish(channel, &json!("without"));
            let come: Vec<_> = (0..6).map(|_| reader.push("pub")["data"].clone()).collect();
            let expected = ["ann", "ann", "bob", "bob"].map(|it| json!(it));
            assert_eq!(come.iter().map(|it| it["by"].clone()).collect::<Vec<_>>()[..4], expected);
            assert_eq!(come[4..], [json!("without"), json!("without")]);
        }
        server.stop();
    }
}

/// It loses nothing else, and nobody waits for it.
#[test]
fn a_slow_reader_has_the_latest_value_of_each_key() {
    for shards in SHARD_COUNTS {
        let options = "slow=latest,key_from=/key,history_size=9,history_ttl=1m,\
                       allow_positioning,allow_publish_for_client,allow_subscribe_for_client";
        let options = format!("ticker:,{options}");
        let flags = ["--namespace", &options, "--max-backlog", "64KiB"];
        let server = serve(shards, &flags);
        let claims = json!({ "sub": "ann" });
        let mut reader = Session::with_token(&server, &claims);
        let mut bystander = Session::with_token(&server, &claims);
        let mut publisher = Session::with_token(&server, &claims);
        for session in [&mut reader, &mut bystander] {
            let request = json!({ "channel": "ticker:a", "positioned": true });
            session.ask(&json!({ "id": 2, "subscribe": request }));
        }
        let (mut published, text) = (0, "x".repeat(20_000));
        let mut publish_one = |bystander: &mut Session| {
            published += 1;
            let data = json!({ "key": published % 3, "number": published, "text": text });
            publisher.publish("ticker:a", &data);
            assert_eq!(bystander.push("pub")["data"]["number"], published);
            published
        };
        // More than the kernel holds for somebody who does not read.
        wait_until("the reader is set aside", || {
            (0..10).for_each(|_| {
                publish_one(&mut bystander);
            });
            server.stats().of("sessions_set_aside") > 0
        });
        let last = (0..30).map(|_| publish_one(&mut bystander)).last().expect("some");
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            let push = reader.push("pub");
            assert_eq!(push["offset"], push["data"]["number"]);
            numbers.push(push["data"]["number"].as_u64().expect("a number"));
        }
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        assert_eq!(numbers[numbers.len() - 3..], [last - 2, last - 1, last]);
        assert!(numbers.len() < last as usize - 10, "{} of {last}", numbers.len());
        // And then all again.
        let next = publish_one(&mut bystander);
        assert_eq!(reader.push("pub")["data"]["number"], next);
        server.stop();
    }
}
