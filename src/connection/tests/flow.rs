//! Order and flow: what overtakes what, what waits for room, what crosses from input to input.

use proptest::prelude::*;
use proptest::sample::Index;

use super::client::{message, open, served};
use super::harness::{Harness, PING, Sending};
use crate::websocket::Heard;
use crate::wire::header::OpCode;

#[test]
fn a_pong_overtakes_queued_data_but_not_the_rest_of_a_frame_half_sent() {
    let frame = message(OpCode::Binary, b"half and half");
    let echo = served(true, OpCode::Binary, b"half and half");
    let (ping, pong) = (message(OpCode::Ping, b"?"), served(true, OpCode::Pong, b"?"));
    let text = message(OpCode::Text, b"queued");
    let later = served(true, OpCode::Text, b"queued");

    let mut half_sent = Harness::open("/echo", Sending::Eager);
    half_sent.feed(&frame[..10]);
    half_sent.feed(&[&frame[10..], &text, &ping].concat());
    let sent = half_sent.sent();
    let rest = sent.strip_prefix(&echo[..]).expect("the frame comes whole");
    assert!(rest == [&pong[..], &later].concat() || rest == [&later[..], &pong].concat());

    let mut queued = Harness::open("/echo", Sending::Lazy);
    queued.feed(&text);
    queued.feed(&ping);
    assert_eq!(queued.sent(), [pong, later].concat());
}

#[test]
fn our_ping_stays_out_of_a_frame_half_sent() {
    let mut harness = Harness::open("/echo", Sending::Eager);
    harness.feed(&open(OpCode::Binary, b"between"));
    harness.ping();
    let frame = message(OpCode::Continuation, b"within");
    harness.feed(&frame[..9]);
    harness.ping();
    harness.feed(&frame[9..]);
    let transcript = harness.transcript();
    assert_eq!(transcript.controls.len(), 1);
    assert_eq!(transcript.messages, [(OpCode::Binary, b"betweenwithin".to_vec())]);
}

#[test]
fn pings_and_pongs_are_heard_whatever_they_say() {
    for chunk_bytes in [1, 7, 1000] {
        let mut harness = Harness::open("/echo", Sending::Eager);
        let script = [
            message(OpCode::Ping, b"p"),
            message(OpCode::Pong, PING),
            message(OpCode::Pong, b""),
            message(OpCode::Pong, &[b'x'; 125]),
            message(OpCode::Text, b"no pong"),
        ];
        script.concat().chunks(chunk_bytes).for_each(|chunk| harness.feed(chunk));
        assert_eq!(harness.heard, Heard { pings: 1, pongs: 3, answer: Some(*PING) });
    }
}

#[test]
fn a_control_frame_is_carried_over_inputs() {
    let payload: Vec<u8> = (0..125).collect();
    let ping = message(OpCode::Ping, &payload);
    let text = message(OpCode::Text, b"behind");
    for chunk_bytes in 1..ping.len() {
        let mut harness = Harness::open("/echo", Sending::Eager);
        let script = [&ping[..], &ping, &text].concat();
        script.chunks(chunk_bytes).for_each(|chunk| harness.feed(chunk));
        let pong = served(true, OpCode::Pong, &payload);
        let echo = served(true, OpCode::Text, b"behind");
        assert_eq!(harness.sent(), [&pong[..], &pong, &echo].concat(), "{chunk_bytes}");
        assert!(harness.websocket().owns_nothing());
    }
}

#[test]
fn a_burst_goes_back_as_one_piece() {
    let burst: Vec<u8> = (0..100_u8)
        .flat_map(|i| message(if i % 2 == 0 { OpCode::Text } else { OpCode::Binary }, &[i]))
        .collect();
    let mut harness = Harness::open("/echo", Sending::Eager);
    let mut pieces = 0;
    harness.command(|stage, output| {
        let rules = crate::websocket::Rules {
            limits: &crate::config::Limits::default(),
            message_types: crate::config::MessageTypes::Any,
            now_s: 0,
            codec: &super::harness::codec(&crate::config::Limits::default()),
            may_begin: true,
            budget: &crate::websocket::Budget::unlimited(),
        };
        let websocket = stage.websocket_mut().expect("an upgraded connection");
        websocket.receive(&mut burst.clone(), 0, &rules, &mut output.websocket);
        pieces = std::mem::take(&mut output.websocket.pieces).len();
    });
    assert_eq!((pieces, harness.reflected_messages), (1, 100));
}

#[test]
fn a_publisher_pauses_between_frames_alone() {
    let mut harness = Harness::open("/broadcast/t", Sending::Eager);
    let frame = message(OpCode::Text, b"one frame");
    harness.feed(&frame[..8]);
    harness.may_begin = false;
    harness.feed(&[&frame[8..], &frame].concat());
    assert!(harness.paused && harness.has_stash());
    assert_eq!(harness.published.len(), 1);
    harness.feed(&frame[..7]);
    harness.resume();
    assert!(harness.paused && harness.published.len() == 1);
    harness.may_begin = true;
    harness.resume();
    harness.feed(&frame[7..]);
    assert_eq!(harness.published, vec![served(true, OpCode::Text, b"one frame"); 3]);
    assert!(harness.websocket().owns_nothing());
}

proptest! {
    #[test]
    fn paused_publishers_lose_and_double_nothing(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 1..20),
        fragments in any::<u32>(),
        cuts in prop::collection::vec(any::<Index>(), 0..10),
        rooms in prop::collection::vec(any::<bool>(), 0..20),
    ) {
        let mut script = Vec::new();
        for (place, payload) in payloads.iter().enumerate() {
            if fragments >> place & 1 == 1 {
                let (head, tail) = payload.split_at(payload.len() / 2);
                script.extend(open(OpCode::Binary, head));
                script.extend(message(OpCode::Ping, b""));
                script.extend(message(OpCode::Continuation, tail));
            } else {
                script.extend(message(OpCode::Binary, payload));
            }
        }
        let mut harness = Harness::open("/broadcast/t", Sending::Eager);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(script.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(script.len());
        let (mut from, mut rooms) = (0, rooms.into_iter());
        for cut in cuts {
            harness.may_begin = rooms.next().unwrap_or(true);
            harness.feed(&script[from..cut]);
            from = cut;
            if let Some(room) = rooms.next() {
                harness.may_begin = room;
                harness.resume();
            }
        }
        harness.may_begin = true;
        harness.resume();
        let expected: Vec<_> =
            payloads.iter().map(|payload| served(true, OpCode::Binary, payload)).collect();
        prop_assert_eq!(&harness.published, &expected);
        prop_assert!(harness.websocket().owns_nothing() && !harness.paused);
    }
}
