//! Calls as applications send them, and what is refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::realtime::api::{Data, NAMES_MAX};
use crate::realtime::protocol::StreamPosition;

fn parse(method: &str, body: &str) -> Result<Call, Fault> {
    Call::parse(method, body.as_bytes())
}

fn refused(method: &str, body: &str) -> String {
    parse(method, body).expect_err(body).to_string()
}

fn data(text: &str) -> Data {
    Data { bytes: text.as_bytes().to_vec(), is_json: true }
}

fn content(text: &str) -> Content {
    Content {
        data: data(text),
        skip_history: false,
        tags: [].into(),
        idempotency_key: String::new(),
        delta: false,
        version: 0,
        version_epoch: String::new(),
    }
}

/// What the API libraries of PyPI (`cent` 5.2.0) and npm (`cent.js` 6.1.0) send.
#[test]
fn libraries_are_understood() {
    let user = |user: &str, client: &str, session: &str| Connections {
        user: user.to_owned(),
        client: client.to_owned(),
        session: session.to_owned(),
    };
    let channel = || "c".to_owned();
    let cases = [
        (
            PUBLISH,
            r#"{"channel": "c", "data": {"a": [1, null]}, "skip_history": true,
                "tags": {"k": "v"}, "idempotency_key": "i", "delta": true,
                "version": 18446744073709551615, "version_epoch": "e", "later": {}}"#,
            Call::Publish(Publish {
                channel: channel(),
                content: Content {
                    skip_history: true,
                    tags: [("k".to_owned(), "v".to_owned())].into(),
                    idempotency_key: "i".to_owned(),
                    delta: true,
                    version: u64::MAX,
                    version_epoch: "e".to_owned(),
                    ..content(r#"{"a": [1, null]}"#)
                },
            }),
        ),
        (
            BROADCAST,
            r#"{"channels":["c","d",""],"data":0,"tags":null}"#,
            Call::Broadcast(Broadcast {
                channels: vec![channel(), "d".to_owned(), String::new()],
                content: content("0"),
            }),
        ),
        (
            SUBSCRIBE,
            r#"{"user":"u","channel":"c","info":{"n":1},"client":"x","session":"s","data":2,
                "recover_since":{"offset":5,"epoch":"e"},"expire_at":60,
                "override":{"presence":{"value":true},"force_recovery":{"value":false},
                    "join_leave":null,"force_positioning":{}}}"#,
            Call::Subscribe(Box::new(SubscribeCall {
                connections: user("u", "x", "s"),
                channel: channel(),
                info: Some(data(r#"{"n":1}"#)),
                data: Some(data("2")),
                recover_since: Some(StreamPosition { offset: 5, epoch: "e".to_owned() }),
                expire_at_seconds: 60,
                overrides: Overrides {
                    presence: Some(true),
                    force_recovery: Some(false),
                    force_positioning: Some(false),
                    ..Overrides::default()
                },
            })),
        ),
        (
            UNSUBSCRIBE,
            r#"{"user":"","channel":"c","client":"x"}"#,
            Call::Unsubscribe(UnsubscribeCall {
                connections: user("", "x", ""),
                channel: channel(),
            }),
        ),
        (
            DISCONNECT,
            r#"{"user":"u","whitelist":["x"],"disconnect":{"code":4000,"reason":"bye"}}"#,
            Call::Disconnect(DisconnectCall {
                connections: user("u", "", ""),
                whitelist: vec!["x".to_owned()],
                disconnect: Disconnect { code: 4000, reason: "bye".into() },
            }),
        ),
        (
            REFRESH,
            r#"{"user":"u","expired":true,"expire_at":1700000000,"info":null}"#,
            Call::Refresh(RefreshCall {
                connections: user("u", "", ""),
                is_expired: true,
                expire_at_seconds: 1_700_000_000,
                info: None,
            }),
        ),
        (PRESENCE, r#"{"channel":"c"}"#, Call::Presence(channel())),
        (PRESENCE_STATS, r#"{"channel":"c"}"#, Call::PresenceStats(channel())),
        (
            HISTORY,
            r#"{"channel":"c","limit":-1,"since":{"epoch":"e"},"reverse":true}"#,
            Call::History(HistoryCall {
                channel: channel(),
                limit: -1,
                since: Some(StreamPosition { offset: 0, epoch: "e".to_owned() }),
                is_reverse: true,
            }),
        ),
        (HISTORY_REMOVE, r#"{"channel":"c"}"#, Call::HistoryRemove(channel())),
        (CHANNELS, "{}", Call::Channels(Glob::parse("*").expect("a pattern"))),
        (INFO, "{}", Call::Info),
        (
            RPC,
            r#"{"method":"m","params":{"method":"n"}}"#,
            Call::Rpc { method: "m".to_owned(), params: br#"{"method":"n"}"#.to_vec() },
        ),
    ];
    let methods: Vec<_> = cases.iter().map(|(method, ..)| *method).collect();
    assert_eq!(methods, METHODS, "each has an example");
    for (method, body, call) in cases {
        assert_eq!(call.method(), method);
        assert_eq!(parse(method, body), Ok(call.clone()), "{body}");
        let batch = format!(r#"{{"commands":[{{"{method}":{body}}}],"parallel":false}}"#);
        let calls = vec![Ok(call)];
        assert_eq!(parse(BATCH, &batch), Ok(Call::Batch { calls, may_be_parallel: false }));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let long = json!({"user": "u", "disconnect": {"code": 4000, "reason": "r".repeat(124)}});
    let many = json!({"channels": vec!["c"; NAMES_MAX + 1], "data": 1});
    for (method, body, subject) in [
        (PUBLISH, r#"{"data":1}"#, "channel"),
        (PUBLISH, r#"{"channel":"","data":1}"#, "channel"),
        (PUBLISH, r#"{"channel":5,"data":1}"#, "channel"),
        (PUBLISH, r#"{"channel":"c"}"#, "data"),
        (PUBLISH, r#"{"channel":"c","data":null}"#, "data"),
        (PUBLISH, r#"{"channel":"c","b64data":"*"}"#, "b64data"),
        (PUBLISH, r#"{"channel":"c","data":1,"tags":{"a":1}}"#, "tags"),
        (PUBLISH, r#"{"channel":"c","data":1,"version":-1}"#, "version"),
        (PUBLISH, r#"{"channel":"c","data":1,"delta":1}"#, "delta"),
        (BROADCAST, r#"{"channel":"c","data":1}"#, "channels"),
        (BROADCAST, r#"{"channels":"c","data":1}"#, "channels"),
        (BROADCAST, &many.to_string(), "channels"),
        (SUBSCRIBE, r#"{"channel":"c"}"#, "user"),
        (SUBSCRIBE, r#"{"user":"u","channel":"c","override":[]}"#, "override"),
        (SUBSCRIBE, r#"{"user":"u","channel":"c","override":{"presence":true}}"#, "presence"),
        (SUBSCRIBE, r#"{"user":"u","channel":"c","recover_since":1}"#, "recover_since"),
        (UNSUBSCRIBE, r#"{"user":"u"}"#, "channel"),
        (DISCONNECT, r#"{"user":""}"#, "user"),
        (DISCONNECT, r#"{"user":"u","disconnect":{"code":1000}}"#, "code"),
        (DISCONNECT, r#"{"user":"u","disconnect":{"code":70000}}"#, "code"),
        (DISCONNECT, &long.to_string(), "reason"),
        (HISTORY, r#"{"channel":"c","limit":1.5}"#, "limit"),
        (HISTORY, r#"{"channel":"c","since":[1,"e"]}"#, "since"),
        (CHANNELS, r#"{"pattern":"{a,b}"}"#, "pattern"),
        (RPC, r#"{"params":{}}"#, "method"),
        (BATCH, "{}", "commands"),
        (BATCH, r#"{"commands":[],"parallel":"yes"}"#, "parallel"),
        (INFO, "[]", REQUEST),
    ] {
        let sentence = refused(method, body);
        let expected = format!("bad request: {subject} must ");
        assert!(sentence.starts_with(&expected), "{method} {body}: {sentence}");
    }
    for body in ["", "{", "{}}", "nothing"] {
        assert_eq!(parse(INFO, body), Err(Fault::NotJson), "{body}");
    }
    assert_eq!(Call::parse(INFO, b"{\"a\":\"\xFF\"}"), Err(Fault::NotJson));
    for method in ["", "Publish", "publish ", "health"] {
        assert_eq!(parse(method, "{"), Err(Fault::MethodNotFound), "{method}");
    }
}

#[test]
fn a_disconnect_that_says_nothing_is_the_usual_one() {
    for body in [r#"{"user":"u"}"#, r#"{"user":"u","disconnect":{"code":0,"reason":""}}"#] {
        let Ok(Call::Disconnect(call)) = parse(DISCONNECT, body) else { panic!("{body}") };
        assert_eq!(call.disconnect, Disconnect::FORCE_DISCONNECT);
    }
}

#[test]
fn each_command_of_a_batch_fails_by_itself() {
    let body = r#"{"commands":[{"info":{}},{"publish":{"channel":"c"}},{"batch":{}},{},5,
        {"info":{},"rpc":{}},{"info":null,"presence":{"channel":"c"}}],"parallel":true}"#;
    let command = |must| Err(Fault::BadRequest { subject: COMMAND, must });
    let calls = vec![
        Ok(Call::Info),
        Err(Fault::BadRequest { subject: "data", must: "be given" }),
        Err(Fault::MethodNotFound),
        Err(Fault::MethodNotFound),
        command("be an object"),
        command("be of one method"),
        Ok(Call::Presence("c".to_owned())),
    ];
    assert_eq!(parse(BATCH, body), Ok(Call::Batch { calls, may_be_parallel: true }));
    let many = json!({"commands": vec![json!({"info": {}}); COMMANDS_MAX + 1]});
    assert!(refused(BATCH, &many.to_string()).contains("commands"));
}

#[test]
fn lines_are_calls() {
    let body = "{\"method\":\"info\"}\n\
        {\"method\":\"presence\",\"params\":{\"channel\":\"c\"}}\r\n\
        {\"method\":\"other\",\"params\":{}} {\"params\":{}} [1]\n";
    let calls = parse_lines(body.as_bytes()).expect("JSON");
    let bad = |subject, must| Err(Fault::BadRequest { subject, must });
    let expected = [
        Ok(Call::Info),
        Ok(Call::Presence("c".to_owned())),
        Err(Fault::MethodNotFound),
        bad("method", "be given"),
        bad("a line", "be an object"),
    ];
    assert_eq!(calls, expected);
    for body in ["", "\n", "{\"method\":\"info\"}\n{", "{\"method\":\"info\"}\n\u{1}"] {
        assert_eq!(parse_lines(body.as_bytes()), Err(Fault::NotJson), "{body}");
    }
    let many = "{}\n".repeat(COMMANDS_MAX + 1);
    assert!(matches!(parse_lines(many.as_bytes()), Err(Fault::BadRequest { .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_a_call_or_a_fault(
        method in 0..METHODS.len(),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        drop(Call::parse(METHODS[method], &body));
        drop(parse_lines(&body));
    }

    #[test]
    fn any_value_in_any_field_is_a_call_or_a_fault(
        field in 0..CONNECTION_FIELDS.len(),
        value in prop_oneof![
            "null|true|-?[1-9][0-9]{0,24}",
            "\"[a-z=]{0,5}\"",
            r#"\["a"\]|\{"value":1\}|\{\}"#,
        ],
    ) {
        let body = format!(r#"{{"user":"u","channel":"c","{}":{value}}}"#,
            CONNECTION_FIELDS[field]);
        for method in METHODS {
            let fault = parse(method, &body).err();
            prop_assert!(fault != Some(Fault::NotJson));
        }
    }

    #[test]
    fn data_comes_as_it_was_written(data in "[ -~]{0,40}", is_binary: bool) {
        use base64::Engine;
        let body = match is_binary {
            true => json!({"channel": "c",
                "b64data": base64::prelude::BASE64_STANDARD.encode(&data)}),
            false => json!({"channel": "c", "data": data}),
        };
        let call = parse(PUBLISH, &body.to_string());
        if is_binary && data.is_empty() {
            prop_assert!(call.is_err());
        } else if let Ok(Call::Publish(publish)) = call {
            let expected = if is_binary { data } else { json!(data).to_string() };
            prop_assert_eq!(publish.content.data.bytes, expected.into_bytes());
        } else {
            prop_assert!(false, "{:?}", call);
        }
    }
}
