//! Backends that decide about clients of channels: what they are asked, what their answers mean,
//! and what happens when they give none.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::SHARD_COUNTS;
use crate::channels::{Session, now_s, publish, server_command, subscribe, token};
use crate::foreign_clients::{expect_success_with, program, tools};
use crate::peer::Peer;
use crate::server::{Server, wait_until};

/// What the backend was asked: the path, the fields by their names in lower case, and the body.
type Asked = (String, HashMap<String, String>, Value);

/// A backend that answers what the data of the question wants it to or, where there are none, what
/// it was told for the path.
#[derive(Clone)]
struct Backend {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<HashMap<String, Value>>>,
    /// Whether those are answered that want to wait.
    is_open: Arc<(Mutex<bool>, Condvar)>,
}

impl Backend {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let backend =
            Self { url, asked: Arc::default(), answers: Arc::default(), is_open: Arc::default() };
        let own = backend.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = own.clone();
                thread::spawn(move || own.serve(stream));
            }
        });
        backend
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if line == "\r\n" => break,
                    Ok(_) => lines.push(line.trim_end().to_owned()),
                }
            }
            let fields: HashMap<_, _> = lines[1..]
                .iter()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let mut body = vec![0; fields["content-length"].parse().expect("a length")];
            reader.read_exact(&mut body).expect("a body");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            let path = lines[0].strip_prefix("POST ").expect("a POST").split(' ').next();
            let path = path.expect("a path").to_owned();
            let told = self.answers.lock().expect("no panic").get(&path).cloned();
            let answer = body["data"].get("say").cloned().or(told).unwrap_or(Value::Null);
            self.asked.lock().expect("no panic").push((path, fields, body));
            let text = match answer.as_str() {
                Some("hang") => {
                    let (is_open, has_changed) = &*self.is_open;
                    let is_open = is_open.lock().expect("no panic");
                    drop(has_changed.wait_while(is_open, |is_open| !*is_open));
                    response("200", "{}")
                }
                Some("hang-up") => return,
                Some("error") => response("500", r#"{"result":{"user":"u"}}"#),
                Some("moved") => response("302", ""),
                Some("garbage") => response("200", "<html>"),
                Some("huge") => response("200", &format!("\"{}\"", "x".repeat(300 << 10))),
                _ => response("200", &answer.to_string()),
            };
            if reader.get_mut().write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn tell(&self, path: &str, answer: Value) {
        self.answers.lock().expect("no panic").insert(path.to_owned(), answer);
    }

    /// Answers those who have waited.
    fn open(&self) {
        *self.is_open.0.lock().expect("no panic") = true;
        self.is_open.1.notify_all();
    }

    fn asked_at(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|it| it.0 == path).cloned().collect()
    }

    /// A server that asks it everything.
    fn server(&self, shards: usize, flags: &[&str]) -> Server {
        let url = |name: &str| format!("{}/{name}", self.url);
        let urls = [
            ("--hook-connect-url", url("connect")),
            ("--hook-refresh-url", url("refresh")),
            ("--hook-subscribe-url", url("subscribe")),
            ("--hook-publish-url", url("publish")),
            ("--hook-sub-refresh-url", url("sub_refresh")),
            ("--hook-rpc-url", url("rpc")),
            ("--hook-state-url", url("state")),
        ];
        let mut all = vec![
            "--realtime",
            "true",
            "--jwt-key",
            "hs256:./tests/config/centrifuge-python.secret",
            "--hook-forward-header",
            "Cookie,X-Kept",
            "--hook-emulated-header",
            "Authorization,Cookie",
            "--hook-include-meta",
            "true",
            "--channels",
            "allow_subscribe_for_client,allow_publish_for_subscriber",
            "--namespace",
            "asked,subscribe_proxy_enabled,publish_proxy_enabled,sub_refresh_proxy_enabled,\
             allow_user_limited_channels",
            "--namespace",
            "told,state_proxy_enabled,presence,allow_subscribe_for_client",
            "--namespace",
            "kept,publish_proxy_enabled,history_size=9,history_ttl=60s,\
             allow_subscribe_for_client,allow_history_for_client",
        ];
        all.extend(urls.iter().flat_map(|(flag, url)| [*flag, url.as_str()]));
        all.extend(flags);
        Server::start_as(server_command(), &["127.0.0.1:0"], shards, &all)
    }
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn connect(server: &Server, say: &Value) -> Value {
    Session::open(server).ask(&json!({ "id": 1, "connect": { "data": { "say": say } } }))
}

fn user(name: &str) -> Value {
    json!({ "data": { "say": { "result": { "user": name, "meta": { "of": name } } } } })
}

fn subscribe_with(channel: &str, say: &Value) -> Value {
    json!({ "id": 2, "subscribe": { "channel": channel, "data": { "say": say } } })
}

fn rpc(id: u32, say: &Value) -> Value {
    json!({ "id": id, "rpc": { "method": "m", "data": { "say": say } } })
}

fn metric(server: &Server, line: &str) -> bool {
    let metrics = server.ask_admin("/metrics").expect("an answer");
    metrics.lines().any(|other| other.starts_with(line))
}

#[test]
fn a_backend_says_who_connects() {
    for shards in SHARD_COUNTS {
        let backend = Backend::start();
        let server = backend.server(shards, &[]);
        let say = json!({ "result": {
            "user": "ann", "expire_at": now_s() + 100, "info": { "name": "Ann" },
            "data": { "hello": 1 }, "channels": ["news"],
            "subs": { "wall": { "data": [2], "info": 3 } }, "meta": { "secret": true },
        } });
        let fields = "Cookie: session=1\r\nX-Kept: k\r\nX-Other: no\r\n";
        let (peer, _) = Peer::try_upgrade(server.address(), "/connection/websocket", fields);
        let mut session = Session::of(peer);
        let reply = session.ask(&json!({ "id": 1, "connect": {
            "data": { "say": say }, "name": "js", "version": "5",
            "headers": { "authorization": "Token t", "cookie": "forged", "x-kept": "forged" },
            "subs": { "old": { "recover": true } },
        } }));
        let result = &reply["connect"];
        assert_eq!(result["data"], json!({ "hello": 1 }), "{reply}");
        assert_eq!(result["subs"]["wall"]["data"], json!([2]));
        assert!(result["subs"].get("news").is_some());
        // The backend is asked again, not the client.
        assert!(result.get("expires").is_none() && result.get("ttl").is_none());
        let (_, told, body) = backend.asked_at("/connect").remove(0);
        for (name, value) in [
            ("cookie", "session=1"),
            ("x-kept", "k"),
            ("authorization", "Token t"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!told.contains_key("x-other"));
        for (name, value) in [
            ("client", result["client"].clone()),
            ("transport", json!("websocket")),
            ("protocol", json!("json")),
            ("encoding", json!("json")),
            ("name", json!("js")),
            ("version", json!("5")),
            ("channels", json!(["old"])),
        ] {
            assert_eq!(body[name], value, "{name} in {body}");
        }
        // Others see who it is, and later hooks are told of it what was said.
        let mut other = Session::open(&server).connect(&user("bob"));
        other.subscribe("wall");
        session.publish("wall", &json!(1));
        let info = other.push("pub")["info"].clone();
        assert_eq!((&info["user"], &info["conn_info"]), (&json!("ann"), &json!({ "name": "Ann" })));
        assert_eq!(info["chan_info"], json!(3));
        let reply = session.ask(&rpc(5, &json!({ "result": { "data": { "pong": 1 } } })));
        assert_eq!(reply, json!({ "id": 5, "rpc": { "data": { "pong": 1 } } }));
        let (_, told, body) = backend.asked_at("/rpc").remove(0);
        assert_eq!((&body["user"], &body["method"]), (&json!("ann"), &json!("m")));
        assert_eq!(body["meta"], json!({ "secret": true }));
        assert_eq!(told.get("cookie").map(String::as_str), Some("session=1"));
        server.stop();
    }
}

#[test]
fn a_backend_keeps_out_whom_it_wants_to() {
    let backend = Backend::start();
    let server = backend.server(2, &["--hook-timeout", "300ms"]);
    let reply = connect(&server, &json!({ "error": { "code": 1000, "message": "no" } }));
    assert_eq!(reply["error"], json!({ "code": 1000, "message": "no" }));
    let mut session = Session::open(&server);
    let say = json!({ "disconnect": { "code": 4501, "reason": "away" } });
    session.send(&[json!({ "id": 1, "connect": { "data": { "say": say } } })]);
    session.expect_close(4501, "away");
    // Whatever else it says lets nobody in.
    for say in [
        json!("error"),
        json!("moved"),
        json!("garbage"),
        json!("huge"),
        json!("hang-up"),
        json!("hang"),
        json!({}),
        json!({ "result": {} }),
        json!({ "result": { "user": 1 } }),
        json!({ "error": { "code": 7 } }),
    ] {
        let reply = connect(&server, &say);
        assert_eq!(reply["error"]["code"], 100, "{say}");
        assert_eq!(reply["error"]["temporary"], true, "{say}");
    }
    let past = json!({ "result": { "user": "u", "expire_at": 1 } });
    assert_eq!(connect(&server, &past)["error"]["code"], 110);
    let unknown = json!({ "result": { "user": "u", "channels": ["nowhere:a"] } });
    assert_eq!(connect(&server, &unknown)["error"]["code"], 102);
    // Whoever has a token is not asked about.
    let before = backend.asked_at("/connect").len();
    Session::with_token(&server, &json!({ "sub": "u" }));
    assert_eq!(backend.asked_at("/connect").len(), before);
    for line in [
        "ringwire_hook_requests_total{hook=\"connect\",reason=\"granted\"} 2",
        "ringwire_hook_requests_total{hook=\"connect\",reason=\"error\"} 1",
        "ringwire_hook_requests_total{hook=\"connect\",reason=\"disconnect\"} 1",
        "ringwire_hook_requests_total{hook=\"connect\",reason=\"failed\"} 9",
        "ringwire_hook_requests_total{hook=\"connect\",reason=\"late\"} 1",
        "ringwire_hook_request_duration_seconds_count{hook=\"connect\"} 14",
    ] {
        assert!(metric(&server, line), "{line}");
    }
    assert!(server.output().contains("a hook has failed"));
    backend.open();
    server.stop();
    // Nobody is there at all.
    let nowhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", nowhere.local_addr().expect("bound"));
    drop(nowhere);
    let flags = ["--realtime", "true", "--hook-connect-url", &url];
    let server = Server::start(1, &flags);
    assert_eq!(connect(&server, &json!(null))["error"]["code"], 100);
    server.stop();
}

#[test]
fn a_backend_says_who_may_subscribe_and_publish() {
    for shards in SHARD_COUNTS {
        let backend = Backend::start();
        let server = backend.server(shards, &["--hook-timeout", "500ms"]);
        let mut ann = Session::open(&server).connect(&user("ann"));
        let say = json!({ "result": { "info": { "i": 1 }, "data": { "d": 2 } } });
        let reply = ann.ask(&subscribe_with("asked:a", &say));
        assert_eq!(reply["subscribe"]["data"], json!({ "d": 2 }), "{reply}");
        let (_, _, body) = backend.asked_at("/subscribe").remove(0);
        assert_eq!((&body["user"], &body["channel"]), (&json!("ann"), &json!("asked:a")));
        assert_eq!(body["meta"], json!({ "of": "ann" }));
        for (say, code) in [
            (json!({ "error": { "code": 403, "message": "no" } }), 403),
            (json!({ "result": { "expire_at": 1 } }), 110),
            (json!("garbage"), 100),
            (json!({}), 100),
            (json!("hang"), 100),
        ] {
            assert_eq!(ann.code_of(&subscribe_with("asked:b", &say)), code, "{say}");
        }
        // It is not asked about channels of users, nor about those that need a token, nor where
        // somebody has one.
        let before = backend.asked_at("/subscribe").len();
        let yes = json!({ "result": {} });
        assert_eq!(ann.code_of(&subscribe_with("asked:c#bob", &yes)), 103);
        assert_eq!(ann.code_of(&subscribe_with("asked:c#ann", &yes)), 0);
        assert_eq!(ann.code_of(&subscribe_with("$asked:c", &yes)), 103);
        let shown = token(&json!({ "sub": "ann", "channel": "asked:d" }));
        let request = json!({ "channel": "asked:d", "token": shown });
        assert_eq!(ann.code_of(&json!({ "id": 2, "subscribe": request })), 0);
        assert_eq!(backend.asked_at("/subscribe").len(), before);
        // What is published is what it says, wherever that is kept.
        let mut bob = Session::open(&server).connect(&user("bob"));
        for (channel, say) in [("asked:a", yes.clone()), ("kept:a", Value::Null)] {
            assert_eq!(bob.code_of(&subscribe_with(channel, &say)), 0, "{channel}");
            let say = json!({ "result": { "data": { "new": channel }, "tags": { "t": "v" } } });
            ann.publish(channel, &json!({ "say": say }));
            let publication = bob.push("pub");
            assert_eq!(publication["data"], json!({ "new": channel }));
            assert_eq!(publication["tags"], json!({ "t": "v" }));
            assert_eq!(publication["info"]["user"], "ann");
            ann.publish(channel, &json!({ "say": { "result": {} } }));
            assert_eq!(bob.push("pub")["data"], json!({ "say": { "result": {} } }));
        }
        ann.publish("kept:a", &json!({ "say": { "result": { "skip_history": true } } }));
        bob.push("pub");
        let history = bob.ask(&json!({ "id": 9, "history": { "channel": "kept:a", "limit": -1 } }));
        assert_eq!(history["history"]["publications"].as_array().map(Vec::len), Some(2));
        for (say, code) in [
            (json!({ "error": { "code": 999, "message": "no" } }), 999),
            (json!("error"), 100),
            (json!({ "result": { "b64data": "//4=" } }), 100),
        ] {
            let command = publish(3, "asked:a", &json!({ "say": say }));
            assert_eq!(ann.code_of(&command), code, "{say}");
        }
        let say = json!({ "disconnect": { "code": 4000, "reason": "r" } });
        ann.send(&[publish(3, "asked:a", &json!({ "say": say }))]);
        ann.expect_close(4000, "r");
        bob.send(&[subscribe_with("asked:e", &say)]);
        bob.expect_close(4000, "r");
        backend.open();
        server.stop();
    }
}

/// Those that wait for a turn have one, and the commands of each are answered in their order.
#[test]
fn many_wait_for_a_backend_and_all_are_answered_in_order() {
    for shards in [1, 3] {
        let backend = Backend::start();
        let server = backend.server(shards, &["--hook-timeout", "50s", "--hook-connections", "2"]);
        let mut sessions: Vec<_> =
            (0..20).map(|_| Session::open(&server).connect(&user("u"))).collect();
        let answers = |id: u32| json!({ "result": { "data": id } });
        for session in &mut sessions {
            let calls: Vec<_> = (10..30).map(|id| rpc(id, &answers(id))).collect();
            session.send(&calls);
        }
        for session in &mut sessions {
            for id in 10..30 {
                assert_eq!(session.reply(), json!({ "id": id, "rpc": { "data": id } }));
            }
        }
        server.stop();
    }
}

#[test]
fn a_backend_that_hangs_holds_up_nobody_else_and_is_given_up() {
    let backend = Backend::start();
    let server = backend.server(1, &["--hook-timeout", "400ms"]);
    let mut bystander = Session::open(&server).connect(&user("b"));
    bystander.subscribe("news");
    let mut waiting: Vec<_> = (0..6).map(|_| Session::open(&server).connect(&user("w"))).collect();
    for session in &mut waiting {
        session.send(&[rpc(5, &json!("hang")), subscribe(6, "news")]);
    }
    wait_until("it is asked", || !backend.asked_at("/rpc").is_empty());
    bystander.publish("news", &json!(1));
    assert_eq!(bystander.push("pub")["data"], 1);
    for session in &mut waiting {
        // Those that have had no turn are given up as well.
        assert_eq!(session.reply()["error"]["code"], 100);
        assert!(session.reply()["subscribe"].is_object());
    }
    backend.open();
    server.stop();
}

#[test]
fn sessions_that_end_while_a_backend_is_asked_harm_nobody() {
    let backend = Backend::start();
    let server = backend.server(2, &["--hook-timeout", "20s"]);
    for _ in 0..4 {
        let mut session = Session::open(&server).connect(&user("u"));
        session.send(&[rpc(5, &json!("hang"))]);
        let mut connecting = Session::open(&server);
        connecting.send(&[json!({ "id": 1, "connect": { "data": { "say": "hang" } } })]);
    }
    // Nothing is received of those who wait, so the answers find nobody.
    backend.open();
    wait_until("they have gone", || server.stats().websockets_open() == 0);
    let mut session = Session::open(&server).connect(&user("u"));
    assert_eq!(session.code_of(&rpc(5, &json!({ "result": {} }))), 0);
    server.stop();
    // A drain waits for no backend.
    let backend = Backend::start();
    let server = backend.server(2, &["--hook-timeout", "50s", "--drain", "0s"]);
    let mut session = Session::open(&server).connect(&user("u"));
    session.send(&[rpc(5, &json!("hang"))]);
    wait_until("it is asked", || !backend.asked_at("/rpc").is_empty());
    server.signal("TERM");
    session.expect_close(3001, "a drain");
    drop(session);
    server.stop();
    backend.open();
}

#[test]
fn a_backend_says_what_goes_on() {
    let backend = Backend::start();
    let server = backend.server(2, &[]);
    let result = |more: u64| json!({ "result": { "expire_at": now_s() + more } });
    backend.tell("/refresh", result(1000));
    backend.tell("/sub_refresh", result(1000));
    let connect = |more: u64| {
        let result = json!({ "user": "ann", "expire_at": now_s() + more });
        Session::open(&server).connect(&json!({ "data": { "say": { "result": result } } }))
    };
    let mut session = connect(2);
    let reply = session.ask(&subscribe_with("asked:a", &result(2)));
    assert!(reply["subscribe"].get("expires").is_none(), "the client has nothing to do: {reply}");
    wait_until("it is asked", || {
        !backend.asked_at("/refresh").is_empty() && !backend.asked_at("/sub_refresh").is_empty()
    });
    let (_, _, body) = backend.asked_at("/sub_refresh").remove(0);
    assert_eq!((&body["user"], &body["channel"]), (&json!("ann"), &json!("asked:a")));
    assert_eq!(backend.asked_at("/refresh").remove(0).2["user"], "ann");
    session.publish("asked:a", &json!({ "say": { "result": {} } }));
    session.push("pub");
    assert_eq!(backend.asked_at("/refresh").len(), 1, "it has been told until when");
    // Not answered, everything goes on for a while.
    backend.tell("/refresh", json!("error"));
    let mut lucky = connect(2);
    wait_until("it is asked", || backend.asked_at("/refresh").len() == 2);
    assert_eq!(lucky.code_of(&rpc(5, &json!({ "result": {} }))), 0);
    // And nothing does that is over.
    backend.tell("/refresh", json!({ "result": { "expired": true } }));
    backend.tell("/sub_refresh", json!({ "result": { "expired": true } }));
    connect(1).expect_close(3005, "it is over");
    assert_eq!(session.code_of(&subscribe_with("asked:b", &result(1))), 0);
    assert_eq!(session.push("unsubscribe")["code"], 2501);
    server.stop();
}

/// It hears of each channel in order, also when it has to be told again.
#[test]
fn a_backend_hears_of_first_and_last_subscribers() {
    for shards in SHARD_COUNTS {
        let backend = Backend::start();
        backend.tell("/state", json!("error"));
        let server = backend.server(shards, &[]);
        let mut sessions: Vec<_> =
            (0..3).map(|_| Session::open(&server).connect(&user("u"))).collect();
        for session in &mut sessions {
            session.subscribe("told:a");
        }
        wait_until("it was told in vain", || !backend.asked_at("/state").is_empty());
        backend.tell("/state", json!({ "result": {} }));
        // The first was not the last.
        let unsubscribe = json!({ "id": 7, "unsubscribe": { "channel": "told:a" } });
        sessions[0].ask(&unsubscribe);
        sessions.truncate(1);
        let known = |channel: &str| -> Vec<Value> {
            let bodies = backend.asked_at("/state").into_iter().map(|it| it.2);
            let events = bodies.flat_map(|body| body["events"].as_array().cloned());
            let mut events: Vec<Value> =
                events.flatten().filter(|it| it["channel"] == channel).collect();
            events.dedup_by_key(|it| it["type"].clone());
            assert!(events.iter().all(|it| it["time_ms"].as_u64() > Some(1_600_000_000_000)));
            events.into_iter().map(|it| it["type"].clone()).collect()
        };
        wait_until("it is told", || known("told:a").len() == 2);
        assert_eq!(known("told:a"), ["occupied", "vacated"]);
        sessions[0].subscribe("told:b");
        sessions[0].subscribe("news");
        sessions.clear();
        wait_until("it is told", || known("told:b").len() == 2);
        assert_eq!(known("told:b"), ["occupied", "vacated"]);
        assert!(known("news").is_empty());
        wait_until("it is counted", || {
            metric(&server, "ringwire_channel_events_total{reason=\"told\"} 4")
        });
        server.stop();
    }
}

#[test]
fn the_javascript_library_needs_no_token_where_a_backend_decides() {
    let Some(tools) = tools() else { return };
    for encoding in ["json", "protobuf"] {
        let backend = Backend::start();
        backend.tell("/connect", json!({ "result": { "user": "ann", "data": { "a": 1 } } }));
        backend.tell("/rpc", json!({ "result": { "b64data": "//4=" } }));
        let server = backend.server(2, &[]);
        let mut command = Command::new("node");
        command.env("NODE_PATH", tools.join("node/node_modules"));
        command.arg(program("centrifuge_hooks.js")).args([&server.url(""), encoding]);
        expect_success_with(command, server, encoding);
    }
}
