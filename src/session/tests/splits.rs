//! How input is split on its way must not matter: every split gives what the reference expects.

use proptest::prelude::*;
use proptest::sample::Index;

use super::client::{frame_with, served};
use super::harness::{Harness, Sending};
use super::reference::{Expected, expect};
use crate::config::{Limits, MessageTypes};
use crate::wire::close::CloseCode;
use crate::wire::header::OpCode;
use crate::wire::mask::MaskKey;

/// Feeds `script` cut at `cuts`, and checks all that the peer would see against `expected`.
fn check(script: &[u8], cuts: &[usize], path: &str, sending: Sending, expected: &Expected) {
    let mut harness = Harness::open(path, sending);
    harness.limits = limits();
    let mut from = 0;
    for &cut in cuts.iter().chain([&script.len()]) {
        harness.feed(&script[from..cut]);
        from = cut;
    }
    let case = (cuts, path, sending);
    let transcript = harness.transcript();
    assert_eq!(transcript.controls, expected.pongs, "{case:?}");
    assert_eq!(transcript.close_code().map(|code| code.0), expected.close.flatten(), "{case:?}");
    assert_eq!(transcript.close.is_some(), expected.close.is_some(), "{case:?}");
    assert_eq!(harness.session.is_ended(), expected.close.is_some(), "{case:?}");
    assert_eq!(harness.finished, expected.close.is_some(), "{case:?}");
    assert_eq!(harness.messages as usize, expected.messages.len(), "{case:?}");
    if path == "/echo" {
        assert!(transcript.data == expected.data, "{case:?}");
        assert_eq!(transcript.messages, expected.messages, "{case:?}");
        assert_eq!(harness.reflected_messages, harness.messages, "{case:?}");
        assert!(harness.published.is_empty());
    } else {
        let encode = |(opcode, payload): &(OpCode, Vec<u8>)| served(true, *opcode, payload);
        let frames: Vec<_> = expected.messages.iter().map(encode).collect();
        assert!(harness.published == frames, "{case:?}");
        assert!(transcript.data.is_empty(), "{case:?}");
    }
}

/// Low enough that scripts reach them, high enough that most do not.
fn limits() -> Limits {
    Limits { message_bytes: 70_000, message_fragments: 12, ..Limits::default() }
}

/// A piece of a script: one message, control frame or fault.
fn piece(large: bool) -> impl Strategy<Value = Vec<u8>> {
    let sizes = if large { 0..66_000_usize } else { 0..140 };
    let key = || any::<[u8; 4]>().prop_map(MaskKey);
    let controls =
        prop_oneof![
            (prop::collection::vec(any::<u8>(), 0..30), key())
                .prop_map(|(payload, key)| frame_with(true, OpCode::Ping, &payload, key)),
            key().prop_map(|key| frame_with(true, OpCode::Pong, b"unasked", key)),
        ];
    let text = prop_oneof!["\\PC{0,30}", "[ -~]{0,200}"].prop_map(String::into_bytes);
    let binary = (sizes, any::<u8>())
        .prop_map(|(bytes, seed)| (0..bytes).map(|i| seed.wrapping_add(i as u8 ^ 0x5a)).collect());
    let payload = prop_oneof![
        text.prop_map(|text| (OpCode::Text, text)),
        binary.prop_map(|bytes: Vec<u8>| (OpCode::Binary, bytes)),
    ];
    let cuts = prop::collection::vec(any::<Index>(), 0..4);
    let message = (payload, cuts, prop::option::of(controls.boxed()), key()).prop_map(
        |((opcode, payload), cuts, control, key)| {
            fragmented(opcode, &payload, &cuts, &control.unwrap_or_default(), key)
        },
    );
    prop_oneof![
        16 => message,
        1 => prop::collection::vec(any::<u8>(), 0..6),
        1 => (980_u16..1020, ".{0,4}", key()).prop_map(|(code, reason, key)| {
            let payload = [&CloseCode(code).0.to_be_bytes(), reason.as_bytes()].concat();
            frame_with(true, OpCode::Close, &payload, key)
        }),
        1 => key().prop_map(|key| frame_with(true, OpCode::Text, b"not \xe2\x28 text", key)),
        1 => key().prop_map(|key| frame_with(false, OpCode::Binary, b"left open", key)),
    ]
}

/// A message cut into frames, with `between` after each but the last.
fn fragmented(
    opcode: OpCode,
    payload: &[u8],
    cuts: &[Index],
    between: &[u8],
    key: MaskKey,
) -> Vec<u8> {
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
    ends.sort_unstable();
    let (mut bytes, mut from, mut opcode) = (Vec::new(), 0, opcode);
    for end in ends {
        bytes.extend(frame_with(false, opcode, &payload[from..end], key));
        bytes.extend(between);
        (from, opcode) = (end, OpCode::Continuation);
    }
    bytes.extend(frame_with(true, opcode, &payload[from..], key));
    bytes
}

fn script(large: bool) -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(piece(large), 1..7);
    // The last frame may never become whole.
    (pieces, prop::option::weighted(0.3, any::<Index>())).prop_map(|(pieces, end)| {
        let mut script = pieces.concat();
        let bytes = end.map_or(script.len(), |end| end.index(script.len() + 1));
        script.truncate(bytes);
        script
    })
}

fn cut(script: &[u8], cuts: &[Index]) -> Vec<usize> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(script.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_split_into_two_gives_what_the_reference_expects(script in script(false)) {
        for (path, echo) in [("/echo", true), ("/broadcast/t", false)] {
            let expected = expect(&script, echo, &limits(), MessageTypes::Any);
            for split in 0..=script.len() {
                check(&script, &[split], path, Sending::Eager, &expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_splits_give_what_the_reference_expects(
        script in script(false), cuts in prop::collection::vec(any::<Index>(), 0..40),
    ) {
        for (path, echo) in [("/echo", true), ("/broadcast/t", false)] {
            let expected = expect(&script, echo, &limits(), MessageTypes::Any);
            for sending in [Sending::Eager, Sending::Lazy] {
                check(&script, &cut(&script, &cuts), path, sending, &expected);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_give_what_the_reference_expects(
        script in prop::collection::vec(any::<u8>(), 0..300), cuts in any::<[Index; 3]>(),
    ) {
        let expected = expect(&script, true, &limits(), MessageTypes::Any);
        check(&script, &cut(&script, &cuts), "/echo", Sending::Eager, &expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn large_messages_give_what_the_reference_expects(
        script in script(true), cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        for (path, echo) in [("/echo", true), ("/broadcast/t", false)] {
            let expected = expect(&script, echo, &limits(), MessageTypes::Any);
            check(&script, &cut(&script, &cuts), path, Sending::Eager, &expected);
        }
    }

    #[test]
    fn one_byte_at_a_time_gives_what_the_reference_expects(script in script(false)) {
        for (path, echo) in [("/echo", true), ("/broadcast/t", false)] {
            let expected = expect(&script, echo, &limits(), MessageTypes::Any);
            let cuts: Vec<_> = (0..script.len()).collect();
            check(&script, &cuts, path, Sending::Eager, &expected);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_a_fresh_connection(
        inputs in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                Just(super::client::request("/echo")),
                Just(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            ],
            0..6,
        ),
    ) {
        let mut harness = Harness::new(Sending::Eager);
        for input in inputs {
            harness.feed(&input);
        }
    }
}
