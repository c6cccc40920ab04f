//! What is written and read, byte by byte, and what must hold for any message.

mod any;
mod exact;

use proptest::prelude::*;

use super::*;
use any::{any_command, any_push, any_reply_body};

const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

fn json(frame: &str) -> Result<Vec<Command>, Malformed> {
    decode(Encoding::Json, frame.as_bytes())
}

#[test]
fn commands_are_read_as_libraries_write_them() {
    let commands = json(concat!(
        r#"{"connect":{"token":"t","data":{"a": [1, 2]},"name":"js","flag":1},"id":1}"#,
        "\n",
        r#"{"subscribe":{"channel":"c","recover":true,"epoch":"e","offset":7,"flag":1},"id":2}"#,
        "\n{}\n",
    ))
    .expect("three commands");
    let [connect, subscribe, pong] = <[Command; 3]>::try_from(commands).expect("three");
    assert!(pong.is_pong() && pong.request().is_none() && !connect.is_pong());
    assert_eq!((connect.id, subscribe.id), (1, 2));
    let expected = ConnectRequest {
        token: "t".to_owned(),
        data: br#"{"a": [1, 2]}"#.to_vec(),
        name: "js".to_owned(),
        flag: 1,
        ..ConnectRequest::default()
    };
    assert_eq!(connect.request(), Some(Request::Connect(Box::new(expected))));
    let expected = SubscribeRequest {
        channel: "c".to_owned(),
        recover: true,
        epoch: "e".to_owned(),
        offset: 7,
        flag: SubscribeRequest::FLAG_COMPACTION,
        ..SubscribeRequest::default()
    };
    assert_eq!(subscribe.request(), Some(Request::Subscribe(Box::new(expected))));
}

#[test]
fn null_is_absence_but_for_data() {
    let nothing = r#"{"id":null,"connect":null,"subscribe":null,"send":null}"#;
    assert_eq!(json(nothing), Ok(vec![Command::default()]));
    let empty = r#"{"connect":{"token":null,"data":null,"subs":null,"headers":null,"flag":null}}"#;
    let connect = ConnectRequest { data: b"null".to_vec(), ..ConnectRequest::default() };
    let command = Command { connect: Some(Box::new(connect)), ..Command::default() };
    assert_eq!(json(empty), Ok(vec![command]));
    let filter = r#"{"subscribe":{"tf":{"op":null,"vals":null,"nodes":null},"recover":null}}"#;
    let tf = Some(FilterNode::default());
    let subscribe = SubscribeRequest { tf, ..SubscribeRequest::default() };
    let command = Command { subscribe: Some(Box::new(subscribe)), ..Command::default() };
    assert_eq!(json(filter), Ok(vec![command]));
}

#[test]
fn data_keeps_its_bytes() {
    for data in [
        "null",
        "1.000",
        "-0",
        r#""\u00e9\ud800 \/""#,
        "{\"a\" :\t[ ],\r\n\"a\":1e400}",
        "12345678901234567890123456789",
    ] {
        for (left, right) in [("", ""), (" ", "\n ")] {
            let frame = format!(r#"{{"id":1,"publish":{{"data":{left}{data}{right}}}}}"#);
            let commands = json(&frame).expect("a command");
            let publish = commands[0].publish.clone().expect("it publishes");
            assert_eq!(publish.data, data.as_bytes());
            assert!(is_json(&publish.data));
        }
    }
    for data in ["", " ", "{", "{}{}", "'a'", "\"\n\"", "\"\u{1}\"", "nul", "01"] {
        assert!(!is_json(data.as_bytes()), "{data:?}");
    }
    assert!(!is_json(b"\"\xff\""), "JSON is UTF-8");
}

#[test]
fn of_names_that_are_repeated_the_last_counts() {
    let commands = json(r#"{"id":1,"id":2,"send":{"data":1,"data":[]},"\u0069d":3}"#);
    let send = Some(SendRequest { data: b"[]".to_vec() });
    assert_eq!(commands, Ok(vec![Command { id: 3, send, ..Command::default() }]));
}

#[test]
fn unknown_fields_are_ignored() {
    let frame = r#"{"id":1,"x":{"id":[{}]},"presence":{"channel":"c","y":"\n","z":null},"dict":9}"#;
    let presence = PresenceRequest { channel: "c".to_owned() };
    let expected = Command { id: 1, presence: Some(presence), ..Command::default() };
    assert_eq!(json(frame), Ok(vec![expected.clone()]));
    // Field 100 as bytes, 101 as a varint, 102 as eight bytes, 103 as four.
    let mut command = expected.encode_to_vec();
    command.extend_from_slice(b"\xa2\x06\x02xy\xa8\x06\x96\x01\xb1\x0612345678\xbd\x061234");
    command.insert(0, command.len() as u8);
    assert_eq!(decode(Encoding::Protobuf, &command), Ok(vec![expected]));
}

#[test]
fn the_first_request_in_the_order_of_the_schema_counts() {
    let frame = r#"{"sub_refresh":{},"rpc":{"method":"m"},"history":{"channel":"c"}}"#;
    let command = json(frame).expect("a command").remove(0);
    let history = HistoryRequest { channel: "c".to_owned(), ..HistoryRequest::default() };
    assert_eq!(command.request(), Some(Request::History(history)));
}

#[test]
fn malformed_frames_are_refused() {
    for frame in ["", "\n", " \n\n "] {
        assert_eq!(json(frame), Err(Malformed::Empty), "{frame:?}");
    }
    for frame in [
        "{",
        "}",
        "null",
        "1",
        "\"a\"",
        "[]",
        "[1]",
        "{}\n[]",
        "{}\nx",
        "{},{}",
        "\u{feff}{}",
        r#"{"id":-1}"#,
        r#"{"id":1.5}"#,
        r#"{"id":4294967296}"#,
        r#"{"id":"1"}"#,
        r#"{"connect":[]}"#,
        r#"{"connect":["token"]}"#,
        r#"{"connect":{"token":1}}"#,
        r#"{"connect":{"data":}}"#,
        r#"{"connect":{"data":{]}}"#,
        r#"{"connect":{"headers":{"a":1}}}"#,
        r#"{"connect":{"subs":{"a":[]}}}"#,
        r#"{"subscribe":{"channel":"\ud800"}}"#,
        r#"{"subscribe":{"tf":{"vals":[1]}}}"#,
        r#"{"history":{"limit":2147483648}}"#,
    ] {
        assert_eq!(json(frame), Err(Malformed::Json), "{frame}");
    }
    let invalid = b"{\"subscribe\":{\"channel\":\"\xff\"}}";
    assert_eq!(decode(Encoding::Json, invalid), Err(Malformed::Json));
    assert_eq!(decode(Encoding::Json, b"{\"send\":{\"data\":\"\xff\"}}"), Err(Malformed::Json));

    assert_eq!(decode(Encoding::Protobuf, b""), Err(Malformed::Empty));
    for frame in [
        &b"\x01"[..],
        b"\x02\x08",
        b"\x01\x08",
        // A length of eleven bytes, one beyond all memory, one that goes beyond its message.
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x08\x01",
        b"\x04\x3a\x05\x0a\x00",
        // Field 0, a wrong type of a field, an end of a group, a channel that is not UTF-8.
        b"\x02\x00\x01",
        b"\x02\x0a\x00",
        b"\x01\x0c",
        b"\x05\x32\x03\x0a\x01\xff",
    ] {
        assert_eq!(decode(Encoding::Protobuf, frame), Err(Malformed::Protobuf), "{frame:?}");
    }
}

#[test]
fn a_frame_has_so_many_commands_at_most() {
    for (encoding, pong) in [(Encoding::Json, &b"{}\n"[..]), (Encoding::Protobuf, &[0])] {
        let commands = decode(encoding, &pong.repeat(COMMANDS_MAX));
        assert_eq!(commands.map(|commands| commands.len()), Ok(COMMANDS_MAX));
        let more = pong.repeat(COMMANDS_MAX + 1);
        assert_eq!(decode(encoding, &more), Err(Malformed::TooManyCommands));
        assert_eq!(decode_replies(encoding, &more).map(|replies| replies.len()), Ok(1_001));
    }
}

#[test]
fn depth_is_bounded() {
    let open = "[".repeat(65_536);
    assert_eq!(json(&open), Err(Malformed::Json));
    assert_eq!(json(&format!(r#"{{"connect":{{"data":{open}"#)), Err(Malformed::Json));
    assert_eq!(json(&format!(r#"{{"other":{open}"#)), Err(Malformed::Json));
    let nodes = r#"{"nodes":["#.repeat(6_000);
    assert_eq!(json(&format!(r#"{{"subscribe":{{"tf":{nodes}"#)), Err(Malformed::Json));
    // Data is passed on, and what is unknown is passed over, without going into it.
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert!(is_json(deep.as_bytes()));
    assert!(json(&format!(r#"{{"send":{{"data":{deep}}},"other":{deep}}}"#)).is_ok());

    let nested = |depth| {
        let node = (0..depth).fold(FilterNode::default(), |node, _| FilterNode {
            nodes: vec![node],
            ..FilterNode::default()
        });
        let subscribe = SubscribeRequest { tf: Some(node), ..SubscribeRequest::default() };
        let command = Command { subscribe: Some(Box::new(subscribe)), ..Command::default() };
        ENCODINGS.map(|encoding| {
            let mut frame = Vec::new();
            encode_command(encoding, &command, &mut frame);
            decode(encoding, &frame)
        })
    };
    assert!(nested(50).iter().all(Result::is_ok));
    assert_eq!(nested(150), [Err(Malformed::Json), Err(Malformed::Protobuf)]);
}

#[test]
fn a_publication_names_its_channel_where_the_push_names_a_pattern() {
    let publication = Publication {
        data: b"{\"a\":1}".to_vec(),
        offset: 7,
        epoch: "xyz".to_owned(),
        tags: [("channel", "app"), ("b", "c")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
        ..Publication::default()
    };
    let mut push = Vec::new();
    encode_push(Encoding::Json, "news:a", &Push::Publication(publication), &mut push);
    let push = push_by_pattern(&push, "news:*").expect("a publication");
    let expected = concat!(
        r#"{"push":{"channel":"news:*","pub":{"data":{"a":1},"#,
        r#""tags":{"b":"c","channel":"news:a"},"channel":"news:a"}}}"#
    );
    assert_eq!(str::from_utf8(&push), Ok(expected));
    assert_eq!(push_by_pattern(b"{}", "news:*"), None);
}

#[test]
fn differences_are_texts_in_json_and_bytes_in_protobuf() {
    let push = |encoding, data: &[u8]| {
        let publication =
            Publication { data: data.to_vec(), offset: 2, delta: true, ..Publication::default() };
        let mut out = Vec::new();
        encode_push(encoding, "a", &Push::Publication(publication), &mut out);
        out
    };
    let json = push(Encoding::Json, br#""{\"a\":1}\n\u00e9""#);
    let protobuf = push(Encoding::Protobuf, "{\"a\":1}\n\u{e9}".as_bytes());
    assert_eq!(transcode_delta_push(&json), Some(protobuf));
    assert_eq!(transcode_delta_push(&push(Encoding::Json, b"1")), None, "no text");
    let mut join = Vec::new();
    encode_push(Encoding::Json, "a", &Push::join(ClientInfo::default()), &mut join);
    assert_eq!(transcode_delta_push(&join), transcode_push(&join));
}

#[test]
fn only_pushes_are_transcoded() {
    for other in ["", "{}", "null", "x", r#"{"id":1,"publish":{}}"#, r#"{"push":null}"#] {
        assert_eq!(transcode_push(other.as_bytes()), None, "{other}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn commands_return(commands in prop::collection::vec(any_command(), 1..4)) {
        for encoding in ENCODINGS {
            let mut frame = Frame::new(encoding);
            for command in &commands {
                frame.command(command);
            }
            prop_assert_eq!(decode(encoding, &frame.into_bytes()), Ok(commands.clone()));
        }
    }

    #[test]
    fn replies_return(replies in prop::collection::vec((any::<u32>(), any_reply_body()), 1..4)) {
        let frames = ENCODINGS.map(|encoding| {
            let mut frame = Frame::new(encoding);
            for (id, body) in &replies {
                frame.reply(*id, body);
            }
            decode_replies(encoding, &frame.into_bytes()).expect("a frame")
        });
        prop_assert_eq!(&frames[0], &frames[1]);
        for (reply, (id, body)) in frames[0].iter().zip(&replies) {
            prop_assert_eq!((reply.id, any::body(reply)), (*id, Some(body.clone())));
        }
    }

    #[test]
    fn pushes_return_and_are_transcoded(channel in "[a-z:#$\u{e9}\"]{0,8}", push in any_push()) {
        let frames = ENCODINGS.map(|encoding| {
            let mut frame = Frame::new(encoding);
            frame.push(&channel, &push);
            frame.into_bytes()
        });
        prop_assert_eq!(transcode_push(&frames[0]), Some(frames[1].clone()));
        for (encoding, frame) in ENCODINGS.into_iter().zip(&frames) {
            let reply = decode_replies(encoding, frame).expect("a frame").remove(0);
            let pushed = reply.push.expect("a push");
            prop_assert_eq!((&pushed.channel, any::push(&pushed)), (&channel, Some(push.clone())));
        }
    }

    #[test]
    fn what_is_cut_off_is_malformed_or_less(
        commands in prop::collection::vec(any_command(), 1..4),
    ) {
        for encoding in ENCODINGS {
            let mut frame = Frame::new(encoding);
            for command in &commands {
                frame.command(command);
            }
            let frame = frame.into_bytes();
            for end in 0..frame.len() {
                if let Ok(read) = decode(encoding, &frame[..end]) {
                    prop_assert!(read.len() <= commands.len());
                    prop_assert_eq!(&read[..], &commands[..read.len()]);
                    prop_assert!(read.len() < commands.len() || encoding == Encoding::Json);
                }
            }
        }
    }

    #[test]
    fn strings_are_those_of_serde(text in any::<String>()) {
        let mut written = Vec::new();
        write_string(&text, &mut written);
        let read: String = serde_json::from_slice(&written).expect("a string");
        prop_assert_eq!(read, text);
        prop_assert!(!written.contains(&b'\n'));
    }
}
