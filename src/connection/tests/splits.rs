//! How input is split on its way must not matter: every split gives what the reference expects.

use proptest::prelude::*;
use proptest::sample::Index;

use super::arrival::{Arrival, limits};
use super::client::frame_with;
use super::harness::{Harness, Sending};
use super::reference::expect;
use crate::config::MessageTypes;
use crate::wire::close::CloseCode;
use crate::wire::header::OpCode;
use crate::wire::mask::MaskKey;

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
                Arrival::new(path, Sending::Eager, &[split]).check(&script, &expected);
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
                Arrival::new(path, sending, &cut(&script, &cuts)).check(&script, &expected);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_give_what_the_reference_expects(
        script in prop::collection::vec(any::<u8>(), 0..300), cuts in any::<[Index; 3]>(),
    ) {
        let expected = expect(&script, true, &limits(), MessageTypes::Any);
        Arrival::new("/echo", Sending::Eager, &cut(&script, &cuts)).check(&script, &expected);
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
            Arrival::new(path, Sending::Eager, &cut(&script, &cuts)).check(&script, &expected);
        }
    }

    #[test]
    fn one_byte_at_a_time_gives_what_the_reference_expects(script in script(false)) {
        for (path, echo) in [("/echo", true), ("/broadcast/t", false)] {
            let expected = expect(&script, echo, &limits(), MessageTypes::Any);
            let cuts: Vec<_> = (0..script.len()).collect();
            Arrival::new(path, Sending::Eager, &cuts).check(&script, &expected);
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
