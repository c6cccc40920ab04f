//! What the server says, as client libraries expect it.

use std::collections::BTreeMap;

use super::super::codes::{Disconnect, ErrorCode, Unsubscribe};
use super::super::*;

fn reply(id: u32, body: &ReplyBody) -> String {
    let mut out = Vec::new();
    encode_reply(Encoding::Json, id, body, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

fn push(channel: &str, push: &Push) -> String {
    let mut out = Vec::new();
    encode_push(Encoding::Json, channel, push, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

fn info() -> ClientInfo {
    ClientInfo {
        user: "42".to_owned(),
        client: "id".to_owned(),
        conn_info: br#"{"a":1}"#.to_vec(),
        chan_info: Vec::new(),
    }
}

fn publication() -> Publication {
    Publication {
        data: b"{\"text\":\r\n \"a\\nb\"}\n".to_vec(),
        info: Some(info()),
        offset: 1,
        tags: BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]),
        delta: true,
        ..Publication::default()
    }
}

#[test]
fn replies_in_json() {
    let subscribed = SubscribeResult {
        recoverable: true,
        epoch: "abcd".to_owned(),
        publications: vec![Publication { data: b"1".to_vec(), offset: 3, ..Default::default() }],
        recovered: true,
        offset: 2,
        positioned: true,
        was_recovering: true,
        ..SubscribeResult::default()
    };
    let connected = ConnectResult {
        client: "id".to_owned(),
        version: "1".to_owned(),
        expires: true,
        ttl: 60,
        data: b"[]".to_vec(),
        subs: Some(Subscriptions(
            ["d", "c"].map(|name| (name.to_owned(), SubscribeResult::default())).into(),
        )),
        ping: 25,
        pong: true,
        ..ConnectResult::default()
    };
    let history =
        HistoryResult { publications: vec![publication()], epoch: "abcd".to_owned(), offset: 1 };
    let refreshed =
        RefreshResult { client: "id".to_owned(), version: "1".to_owned(), expires: true, ttl: 9 };
    let presence = PresenceResult { presence: BTreeMap::from([("id".to_owned(), info())]) };
    let empty = SubscribeResult::default();
    for (body, expected) in [
        (
            ReplyBody::Error(ErrorCode::Internal.into()),
            r#""error":{"code":100,"message":"internal server error","temporary":true}"#,
        ),
        (
            ReplyBody::Error(ErrorCode::AlreadySubscribed.into()),
            r#""error":{"code":105,"message":"already subscribed"}"#,
        ),
        (
            ReplyBody::Connect(connected),
            concat!(
                r#""connect":{"client":"id","version":"1","expires":true,"ttl":60,"data":[],"#,
                r#""subs":{"c":{},"d":{}},"ping":25,"pong":true}"#
            ),
        ),
        (
            ReplyBody::Subscribe(subscribed),
            concat!(
                r#""subscribe":{"recoverable":true,"epoch":"abcd","#,
                r#""publications":[{"data":1,"offset":3}],"recovered":true,"offset":2,"#,
                r#""positioned":true,"was_recovering":true}"#
            ),
        ),
        (ReplyBody::Subscribe(empty), r#""subscribe":{}"#),
        (ReplyBody::Unsubscribe, r#""unsubscribe":{}"#),
        (ReplyBody::Publish, r#""publish":{}"#),
        (
            ReplyBody::Presence(presence),
            r#""presence":{"presence":{"id":{"user":"42","client":"id","conn_info":{"a":1}}}}"#,
        ),
        (
            ReplyBody::PresenceStats(PresenceStatsResult { num_clients: 2, num_users: 1 }),
            r#""presence_stats":{"num_clients":2,"num_users":1}"#,
        ),
        (
            ReplyBody::History(history),
            concat!(
                r#""history":{"publications":[{"data":{"text": "a\nb"},"#,
                r#""info":{"user":"42","client":"id","conn_info":{"a":1}},"offset":1,"#,
                r#""tags":{"a":"1","b":"2"},"delta":true}],"epoch":"abcd","offset":1}"#
            ),
        ),
        (ReplyBody::Rpc(RpcResult { data: b"null".to_vec() }), r#""rpc":{"data":null}"#),
        (
            ReplyBody::Refresh(refreshed),
            r#""refresh":{"client":"id","version":"1","expires":true,"ttl":9}"#,
        ),
        (
            ReplyBody::SubRefresh(SubRefreshResult { expires: true, ttl: 9 }),
            r#""sub_refresh":{"expires":true,"ttl":9}"#,
        ),
    ] {
        assert_eq!(reply(7, &body), format!(r#"{{"id":7,{expected}}}"#));
    }
}

#[test]
fn pushes_in_json() {
    let subscribe = SubscribePush {
        recoverable: true,
        epoch: "abcd".to_owned(),
        offset: 5,
        positioned: true,
        data: b"{}".to_vec(),
    };
    let connect = ConnectPush { client: "id".to_owned(), ping: 25, ..ConnectPush::default() };
    for (channel, pushed, expected) in [
        (
            "c",
            Push::Publication(publication()),
            concat!(
                r#""channel":"c","pub":{"data":{"text": "a\nb"},"#,
                r#""info":{"user":"42","client":"id","conn_info":{"a":1}},"offset":1,"#,
                r#""tags":{"a":"1","b":"2"},"delta":true}"#
            ),
        ),
        (
            "c\"",
            Push::Publication(Publication { data: b"0".to_vec(), ..Publication::default() }),
            r#""channel":"c\"","pub":{"data":0}"#,
        ),
        (
            "c",
            Push::join(info()),
            r#""channel":"c","join":{"info":{"user":"42","client":"id","conn_info":{"a":1}}}"#,
        ),
        (
            "c",
            Push::leave(ClientInfo { client: "id".to_owned(), ..ClientInfo::default() }),
            r#""channel":"c","leave":{"info":{"client":"id"}}"#,
        ),
        (
            "c",
            Push::Unsubscribe(Unsubscribe::INSUFFICIENT_STATE.push()),
            r#""channel":"c","unsubscribe":{"code":2500,"reason":"insufficient state"}"#,
        ),
        ("", Push::Message(MessagePush { data: b"[1]".to_vec() }), r#""message":{"data":[1]}"#),
        (
            "c",
            Push::Subscribe(subscribe),
            concat!(
                r#""channel":"c","subscribe":{"recoverable":true,"epoch":"abcd","offset":5,"#,
                r#""positioned":true,"data":{}}"#
            ),
        ),
        ("", Push::Connect(connect), r#""connect":{"client":"id","ping":25}"#),
        (
            "",
            Push::Disconnect(Disconnect::SHUTDOWN.push()),
            r#""disconnect":{"code":3001,"reason":"shutdown","reconnect":true}"#,
        ),
        (
            "",
            Push::Refresh(RefreshPush { expires: true, ttl: 9 }),
            r#""refresh":{"expires":true,"ttl":9}"#,
        ),
    ] {
        assert_eq!(push(channel, &pushed), format!(r#"{{"push":{{{expected}}}}}"#));
    }
}

#[test]
fn messages_in_protobuf() {
    let mut frame = Frame::new(Encoding::Protobuf);
    frame.reply(2, &ReplyBody::Unsubscribe);
    frame.ping();
    frame.push("ch", &Push::Message(MessagePush { data: b"\x00\xff".to_vec() }));
    frame.encoded(b"\x02\x08\x01");
    let expected: &[u8] = &[
        // A reply: id 2, unsubscribe {}.
        4, 0x08, 2, 0x3a, 0, // A ping.
        0, // A push: channel "ch", message { data }.
        12, 0x22, 10, 0x12, 2, b'c', b'h', 0x42, 4, 0x0a, 2, 0x00, 0xff, // As it was given.
        2, 0x08, 1,
    ];
    assert_eq!(frame.bytes(), expected.len());
    assert_eq!(frame.into_bytes(), expected);
}

#[test]
fn messages_of_a_frame_are_lines() {
    let mut frame = Frame::new(Encoding::Json);
    assert!(frame.is_empty());
    frame.reply(2, &ReplyBody::Publish);
    frame.ping();
    frame.encoded(br#"{"push":{}}"#);
    frame.command(&Command::default());
    assert!(!frame.is_empty());
    let expected = b"{\"id\":2,\"publish\":{}}\n{}\n{\"push\":{}}\n{}";
    assert_eq!(frame.into_bytes(), expected);
}

#[test]
fn an_offset_may_be_beyond_what_a_double_can_tell_apart() {
    let publication = Publication { offset: u64::MAX, ..Publication::default() };
    let json = push("c", &Push::Publication(publication));
    assert_eq!(json, r#"{"push":{"channel":"c","pub":{"offset":18446744073709551615}}}"#);
    assert!(transcode_push(json.as_bytes()).is_some());
}

/// The JavaScript library fails at an entry of a map without a value.
#[test]
fn subscriptions_that_say_nothing_are_there_in_protobuf() {
    let subs = Subscriptions([("c".to_owned(), SubscribeResult::default())].into());
    let connected = ConnectResult { subs: Some(subs), ..ConnectResult::default() };
    let mut out = Vec::new();
    encode_reply(Encoding::Protobuf, 1, &ReplyBody::Connect(connected), &mut out);
    assert_eq!(out, b"\x0b\x08\x01\x2a\x07\x32\x05\x0a\x01c\x12\x00");
}
