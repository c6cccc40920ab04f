//! Frames of the realtime protocol in both encodings: what is read is written and read again
//! without a difference, and so are replies.

use ringwire::realtime::filter::Filter;
use ringwire::realtime::protocol::{
    COMMANDS_MAX, Command, Encoding, Frame, Malformed, Reply, Request, decode, decode_replies,
    is_json, push_by_pattern, transcode_delta_push, transcode_push,
};

/// All of `data` is a frame, in one encoding and then in the other.
pub fn check(data: &[u8]) {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        match decode(encoding, data) {
            Ok(commands) => commands_return(encoding, commands),
            Err(Malformed::Empty) => assert!(data.iter().all(u8::is_ascii_whitespace)),
            Err(malformed) => assert!(!matches!(malformed, Malformed::Filter(_))),
        }
        if let Ok(replies) = decode_replies(encoding, data) {
            assert!(!replies.is_empty());
        }
    }
    if let Some(transcoded) = transcode_push(data) {
        let of_json = decode_replies(Encoding::Json, data).expect("it has been read");
        let of_protobuf = decode_replies(Encoding::Protobuf, &transcoded);
        assert_eq!(of_protobuf.as_ref(), Ok(&of_json));
        assert!(matches!(&of_json[..], [Reply { push: Some(_), .. }]));
    }
    if let Some(transcoded) = transcode_delta_push(data) {
        assert!(decode_replies(Encoding::Protobuf, &transcoded).is_ok());
    }
    if let Some(named) = push_by_pattern(data, "a:*") {
        let replies = decode_replies(Encoding::Json, &named).expect("a push");
        assert!(matches!(&replies[..], [Reply { push: Some(it), .. }] if it.channel == "a:*"));
    }
}

fn commands_return(encoding: Encoding, commands: Vec<Command>) {
    assert!((1..=COMMANDS_MAX).contains(&commands.len()));
    let protobuf = written(Encoding::Protobuf, &commands);
    assert_eq!(decode(Encoding::Protobuf, &protobuf).as_ref(), Ok(&commands));
    if encoding == Encoding::Json {
        // Line breaks of data are not written, so the first time may differ from the second.
        let json = written(Encoding::Json, &commands);
        assert_eq!(json.iter().filter(|&&byte| byte == b'\n').count(), commands.len() - 1);
        let again = decode(Encoding::Json, &json).expect("what was read");
        assert_eq!(written(Encoding::Json, &again), json);
    }
    for command in commands {
        let is_pong = command.is_pong();
        match command.request() {
            Some(Request::Subscribe(subscribe)) => {
                assert!(!is_pong);
                if let Some(Ok(filter)) = subscribe.tf.as_ref().map(Filter::new) {
                    filter.matches(&Default::default());
                }
            }
            Some(Request::Publish(publish)) if encoding == Encoding::Json => {
                assert!(publish.data.is_empty() || is_json(&publish.data));
            }
            request => assert!(!is_pong || request.is_none()),
        }
    }
}

fn written(encoding: Encoding, commands: &[Command]) -> Vec<u8> {
    let mut frame = Frame::new(encoding);
    for command in commands {
        frame.command(command);
    }
    frame.into_bytes()
}
