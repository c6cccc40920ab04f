//! RFC 7692 through a WebSocket: RSV1, fragments, empty messages, limits, and answers in kind.

use proptest::prelude::*;

use super::client::{KEY, close, frame_with, message, open};
use super::harness::{Harness, Sending};
use crate::config::Limits;
use crate::wire::close::CloseCode;
use crate::wire::deflate::{Deflater, Inflater};
use crate::wire::header::{Header, OpCode, RSV1, RSV2, Role};

const PATHS: [&str; 2] = ["/echo", "/broadcast/t"];

/// A connection that offered compression with `parameters`.
fn connect(path: &str, takeover: bool, parameters: &str) -> Harness {
    Harness::compressed(path, Sending::Eager, takeover, parameters)
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    Deflater::new(6, 15).message(payload, &mut packed);
    packed
}

/// Sets RSV1 in the first frame.
fn marked(mut frame: Vec<u8>) -> Vec<u8> {
    frame[0] |= RSV1;
    frame
}

fn compressed(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    marked(message(opcode, &deflated(payload)))
}

/// The messages in what the server sent, and whether each came compressed.
fn read(mut bytes: &[u8], takeover: bool) -> Vec<(OpCode, Vec<u8>, bool)> {
    let (mut messages, mut inflater) = (Vec::new(), Inflater::default());
    while let Some((header, start)) = Header::decode(bytes, Role::Client, RSV1).unwrap() {
        let (frame, rest) = bytes.split_at(start + header.payload_bytes as usize);
        bytes = rest;
        assert!(header.fin, "one frame each");
        let mut payload = frame[start..].to_vec();
        if header.rsv == RSV1 {
            payload.clear();
            match takeover {
                true => inflater.message(&frame[start..], 1 << 24, &mut payload).unwrap(),
                false => inflater.lone_message(&frame[start..], 1 << 24, &mut payload).unwrap(),
            }
        }
        messages.push((header.opcode, payload, header.rsv == RSV1));
    }
    messages
}

fn close_code(harness: &mut Harness) -> Option<CloseCode> {
    harness.transcript().close_code()
}

const LONG: &[u8] = b"a message that is worth it, a message that is worth it, a message";

#[test]
fn messages_are_answered_in_kind() {
    for takeover in [false, true] {
        let mut harness = connect("/echo", takeover, "");
        let mut expected = Vec::new();
        for (payload, comes_compressed, goes_compressed) in [
            (LONG, true, true),
            (LONG, false, false),
            (b"short", true, false),
            (b"", true, false),
            (b"", false, false),
        ] {
            for opcode in [OpCode::Text, OpCode::Binary] {
                harness.feed(&match comes_compressed {
                    true => compressed(opcode, payload),
                    false => message(opcode, payload),
                });
                expected.push((opcode, payload.to_vec(), goes_compressed));
            }
        }
        assert_eq!(read(&harness.sent(), takeover), expected);
        assert_eq!((harness.messages, harness.reflected_messages), (10, 10));
    }
}

#[test]
fn what_is_published_is_plain_and_checked() {
    let mut harness = connect("/broadcast/t", true, "");
    harness.feed(&[compressed(OpCode::Text, LONG), message(OpCode::Binary, b"x")].concat());
    let published = harness.published.concat();
    assert_eq!(
        read(&published, false),
        [(OpCode::Text, LONG.to_vec(), false), (OpCode::Binary, b"x".to_vec(), false)]
    );
    assert!(!harness.websocket().owns_nothing());
    assert_eq!(harness.websocket_mut().release_deflater(), 0);
}

#[test]
fn the_context_is_kept_where_agreed_and_nothing_without() {
    for (parameters, takeover, keeps_inflater, keeps_deflater) in [
        ("", false, false, false),
        ("", true, true, true),
        ("; client_no_context_takeover", true, false, true),
        ("; server_no_context_takeover", true, true, false),
        ("; server_no_context_takeover; client_no_context_takeover", true, false, false),
    ] {
        let mut harness = connect("/echo", takeover, parameters);
        assert!(harness.websocket().owns_nothing());
        let mut deflater = Deflater::new(6, 15);
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let mut packed = Vec::new();
            deflater.message(LONG, &mut packed);
            if !keeps_inflater {
                deflater.reset();
            }
            sizes.push(packed.len());
            harness.feed(&marked(message(OpCode::Text, &packed)));
        }
        assert_eq!(sizes[1] < sizes[0], keeps_inflater);
        let sent = harness.sent();
        let echoes = read(&sent, keeps_deflater);
        assert_eq!(echoes, vec![(OpCode::Text, LONG.to_vec(), true); 3], "{parameters}");
        assert_eq!(harness.stage.held_bytes() > 0, keeps_inflater);
        assert_eq!(harness.websocket_mut().release_deflater() > 0, keeps_deflater);
        assert_eq!(harness.websocket().owns_nothing(), !keeps_inflater);
        harness.feed(&compressed(OpCode::Text, LONG));
        assert_eq!(read(&harness.sent(), keeps_deflater).len(), 4);
        harness.feed(&close(CloseCode::NORMAL, b""));
        assert!(harness.websocket().owns_nothing());
    }
}

#[test]
fn rsv1_is_for_the_first_frame_of_data_alone() {
    for path in PATHS {
        for bad in [
            marked(message(OpCode::Ping, b"")),
            marked(message(OpCode::Close, b"")),
            [open(OpCode::Text, b""), marked(message(OpCode::Continuation, b""))].concat(),
            [marked(open(OpCode::Text, b"")), marked(message(OpCode::Continuation, b"\0"))]
                .concat(),
            {
                let mut frame = compressed(OpCode::Text, LONG);
                frame[0] |= RSV2;
                frame
            },
        ] {
            let mut harness = connect(path, true, "");
            harness.feed(&bad);
            assert_eq!(close_code(&mut harness), Some(CloseCode::PROTOCOL_ERROR), "{bad:x?}");
        }
        let mut harness = Harness::open(path, Sending::Eager);
        harness.feed(&compressed(OpCode::Text, LONG));
        assert_eq!(close_code(&mut harness), Some(CloseCode::PROTOCOL_ERROR));
    }
}

#[test]
fn what_cannot_be_inflated_or_is_no_text_closes_with_1007() {
    for path in PATHS {
        for bad in [
            marked(message(OpCode::Binary, &[0xff, 0xff])),
            compressed(OpCode::Text, &[0xff; 40]),
            [
                marked(open(OpCode::Text, &deflated(b"\xe2\x82"))),
                message(OpCode::Continuation, b""),
            ]
            .concat(),
        ] {
            for takeover in [false, true] {
                let mut harness = connect(path, takeover, "");
                harness.feed(&bad);
                let code = close_code(&mut harness);
                assert_eq!(code, Some(CloseCode::INVALID_PAYLOAD), "{bad:x?}");
                assert!(harness.websocket().owns_nothing());
            }
        }
        let mut harness = connect(path, false, "");
        harness.feed(&compressed(OpCode::Binary, &[0xff; 40]));
        assert!(harness.stage.is_open());
    }
}

#[test]
fn what_does_not_compress_may_be_as_large_as_what_does() {
    let limit = 100_000;
    let mut payload = vec![0; limit];
    payload.iter_mut().fold(1_u32, |state, byte| {
        *byte = (state >> 24) as u8;
        state.wrapping_mul(0x01e3_5fa5).wrapping_add(1)
    });
    let packed = deflated(&payload);
    assert!(packed.len() > limit);
    for path in PATHS {
        for frames in [
            marked(message(OpCode::Binary, &packed)),
            [marked(open(OpCode::Binary, b"")), message(OpCode::Continuation, &packed)].concat(),
        ] {
            let mut harness = connect(path, false, "");
            harness.limits.message_bytes = limit as u32;
            harness.feed(&frames);
            assert!(harness.stage.is_open(), "{path}");
            assert_eq!(harness.messages, 1);
        }
    }
}

#[test]
fn the_limit_holds_before_and_after_inflating() {
    let limit = Limits::default().message_bytes as usize;
    let bomb = compressed(OpCode::Binary, &vec![0; limit + 1]);
    let largest = compressed(OpCode::Binary, &vec![0; limit]);
    for path in PATHS {
        let mut harness = connect(path, false, "");
        harness.feed(&largest);
        assert!(harness.stage.is_open());
        assert_eq!(harness.messages, 1);
        harness.take_sent();
        harness.feed(&bomb);
        assert_eq!(close_code(&mut harness), Some(CloseCode::MESSAGE_TOO_BIG));

        let mut harness = connect(path, false, "");
        harness.limits.message_bytes = 100;
        harness.feed(&marked(open(OpCode::Binary, &[0; 100])));
        assert!(harness.stage.is_open());
        harness.feed(&open(OpCode::Continuation, &[0; 100]));
        assert_eq!(close_code(&mut harness), Some(CloseCode::MESSAGE_TOO_BIG));
    }
}

proptest! {
    #[test]
    fn fragments_and_splits_make_no_difference(
        payloads in prop::collection::vec((any::<bool>(), any::<bool>(), "[ab]{0,80}"), 1..6),
        cuts in prop::collection::vec(0..40_usize, 0..4),
        piece in 1..60_usize,
        takeover: bool,
    ) {
        let mut harness = connect("/echo", takeover, "");
        let (mut script, mut expected) = (Vec::new(), Vec::new());
        let mut deflater = Deflater::new(1, 15);
        for (is_compressed, is_text, payload) in &payloads {
            let opcode = if *is_text { OpCode::Text } else { OpCode::Binary };
            let mut bytes = payload.clone().into_bytes();
            expected.push((opcode, bytes.clone()));
            if *is_compressed {
                let mut packed = Vec::new();
                deflater.message(&bytes, &mut packed);
                if !takeover {
                    deflater.reset();
                }
                bytes = packed;
            }
            let (mut rest, mut first, start) = (&bytes[..], opcode, script.len());
            // What is plain and binary goes back in the fragments it came in.
            for cut in cuts.iter().filter(|_| *is_compressed || *is_text) {
                let (part, left) = rest.split_at(rest.len().min(*cut));
                script.extend(frame_with(false, first, part, KEY));
                script.extend(message(OpCode::Ping, b"between"));
                (rest, first) = (left, OpCode::Continuation);
            }
            script.extend(frame_with(true, first, rest, KEY));
            script[start] |= if *is_compressed { RSV1 } else { 0 };
        }
        script.chunks(piece).for_each(|input| harness.feed(input));
        let sent = read(&harness.sent(), takeover);
        let messages = sent.into_iter().filter(|(opcode, ..)| !opcode.is_control());
        let messages: Vec<_> = messages.map(|(opcode, payload, _)| (opcode, payload)).collect();
        prop_assert_eq!(messages, expected);
    }
}
