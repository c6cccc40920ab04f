//! What a connection costs: memory follows the bytes received, the bytes moved are linear in them,
//! and a connection in the middle of nothing owns nothing.

use std::cell::RefCell;

use allocation_counter::measure;

use super::client::{KEY, frame_with, message, open};
use super::harness::{Harness, Sending, codec};
use crate::config::{Limits, MessageTypes};
use crate::websocket::{Budget, Mode, Output, Piece, Rules, WebSocket};
use crate::wire::deflate::codec::Codec;
use crate::wire::header::OpCode;

/// A WebSocket whose output is thrown away, so that only its own memory counts.
struct Bare {
    websocket: WebSocket,
    output: Output,
    limits: Limits,
    codec: RefCell<Codec>,
    /// Bytes of all that was to be sent or published.
    out_bytes: usize,
}

impl Bare {
    fn open(path: &str) -> Self {
        let mode = if path == "/echo" { Mode::Echo } else { Mode::Broadcast { may_publish: true } };
        Self {
            websocket: WebSocket::new(mode, None),
            output: Output::default(),
            limits: Limits::default(),
            codec: codec(&Limits::default()),
            out_bytes: 0,
        }
    }

    fn feed(&mut self, input: &mut [u8]) {
        let rules = Rules {
            limits: &self.limits,
            message_types: MessageTypes::Any,
            now_s: 0,
            codec: &self.codec,
            may_begin: true,
            budget: &Budget::unlimited(),
        };
        let consumed = self.websocket.receive(input, 0, &rules, &mut self.output);
        assert_eq!(consumed, input.len());
        for piece in self.output.pieces.drain(..) {
            self.out_bytes += match piece {
                Piece::Reflected { range, .. } => range.len(),
                Piece::Owned { bytes, .. } | Piece::Control(bytes) | Piece::Response(bytes) => {
                    bytes.len()
                }
            };
        }
        self.out_bytes += self.output.published.drain(..).map(|it| it.frame_bytes()).sum::<usize>();
    }
}

/// Bytes that were allocated in all, growth of a vector counted anew each time: no fewer than were
/// moved by growing.
fn allocated_bytes(act: impl FnOnce()) -> u64 {
    measure(act).bytes_total
}

const TARGETS: [(&str, OpCode); 4] = [
    ("/echo", OpCode::Text),
    ("/echo", OpCode::Binary),
    ("/broadcast/t", OpCode::Text),
    ("/broadcast/t", OpCode::Binary),
];

#[test]
fn one_byte_fragments_are_linear() {
    const COUNT: usize = 100_000;
    for (path, opcode) in TARGETS {
        for frames_per_input in [1, 5000] {
            let mut bare = Bare::open(path);
            let mut script = open(opcode, b"x");
            for _ in 2..COUNT {
                script.extend(open(OpCode::Continuation, b"x"));
            }
            script.extend(message(OpCode::Continuation, b"x"));
            let bytes = allocated_bytes(|| {
                script.chunks_mut(7 * frames_per_input).for_each(|input| bare.feed(input));
            });
            let case = (path, opcode, frames_per_input, bytes);
            assert!(bare.websocket.is_open() && bare.websocket.owns_nothing(), "{case:?}");
            assert!(bare.out_bytes >= COUNT, "{case:?}");
            // A doubling vector moves less than four times what it ends with.
            assert!(bytes < 6 * COUNT as u64, "{case:?}");
        }
    }
}

#[test]
fn a_large_message_is_linear_in_any_pieces() {
    const BYTES: usize = 16 << 20;
    let payload = vec![b'x'; BYTES];
    for (path, opcode) in TARGETS {
        let whole = message(opcode, &payload);
        let mut fragments = open(opcode, b"");
        for chunk in payload.chunks(4096) {
            fragments.extend(open(OpCode::Continuation, chunk));
        }
        fragments.extend(message(OpCode::Continuation, b""));
        for mut script in [whole, fragments] {
            let mut bare = Bare::open(path);
            let cost = measure(|| script.chunks_mut(64 << 10).for_each(|input| bare.feed(input)));
            let case = (path, opcode, cost);
            assert!(bare.out_bytes >= BYTES && bare.websocket.owns_nothing(), "{case:?}");
            if (path, opcode) == ("/echo", OpCode::Binary) {
                assert!(case.2.bytes_total < 64 << 10, "{case:?}");
            } else {
                assert!(case.2.bytes_total < 6 * BYTES as u64, "{case:?}");
                assert!(case.2.bytes_max < 4 * BYTES as u64, "{case:?}");
            }
        }
    }
}

#[test]
fn a_claimed_length_reserves_nothing() {
    for (path, opcode) in TARGETS {
        for fin in [true, false] {
            let mut bare = Bare::open(path);
            let claimed = frame_with(fin, opcode, &vec![b'x'; 16 << 20], KEY);
            let cost = measure(|| bare.feed(&mut claimed[..100].to_vec()));
            assert!(cost.bytes_max < 2000, "{path} {opcode:?} {cost:?}");
        }
    }
}

#[test]
fn a_quiet_websocket_owns_nothing() {
    let text = message(OpCode::Text, b"whole");
    for path in ["/echo", "/broadcast/t"] {
        let mut harness = Harness::open(path, Sending::Eager);
        assert!(harness.websocket().owns_nothing());
        for split in 0..text.len() {
            harness.feed(&text[..split]);
            harness.feed(&text[split..]);
            assert!(harness.websocket().owns_nothing(), "{path} {split}");
        }
        harness.feed(&open(OpCode::Binary, b"part"));
        assert!(!harness.websocket().owns_nothing());
        harness.feed(&message(OpCode::Continuation, b"part"));
        assert!(harness.websocket().owns_nothing());
        harness.feed(&[message(OpCode::Ping, b"?"), text.clone()].concat());
        assert!(harness.websocket().owns_nothing());
    }
}

#[test]
fn an_unfragmented_binary_echo_holds_nothing_of_its_payload() {
    let mut harness = Harness::open("/echo", Sending::Eager);
    let frame = message(OpCode::Binary, &[1; 500]);
    for split in 8..frame.len() {
        harness.feed(&frame[..split]);
        assert_eq!(harness.stage.held_bytes(), 0, "{split}");
        assert_eq!(harness.websocket().message_age_s(9), Some(2), "its time is known");
        harness.feed(&frame[split..]);
        assert!(harness.websocket().owns_nothing(), "{split}");
    }
    assert_eq!(harness.transcript().messages.len(), frame.len() - 8);
}

#[test]
fn whole_frames_in_place_allocate_nothing() {
    let mut bare = Bare::open("/echo");
    let frames = [message(OpCode::Text, b"text"), message(OpCode::Binary, &[1; 300])].concat();
    bare.feed(&mut frames.repeat(3));
    let mut input = frames.repeat(10);
    assert_eq!(allocated_bytes(|| bare.feed(&mut input)), 0);
}
