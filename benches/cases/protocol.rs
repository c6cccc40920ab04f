//! The opening handshake, and a WebSocket that echoes or publishes what it receives.

use std::cell::RefCell;
use std::hint::black_box;

use ringwire::config::Config;
use ringwire::http::{Conditions, Exchange, Policy, Serving};
use ringwire::websocket::{Budget, Mode, Output, Rules, WebSocket};
use ringwire::wire::deflate::codec::{Codec, Settings};
use ringwire::wire::header::{HEADER_BYTES_MAX, Header, OpCode};
use ringwire::wire::mask::{self, MaskKey};

use super::{Case, Prepared, pattern, size_name, text};

pub(super) fn cases() -> Vec<Case> {
    let mut cases =
        vec![handshake("handshake/library", LIBRARY), handshake("handshake/browser", BROWSER)];
    for (payload_bytes, frames) in [(20, 1), (20, 32), (1024, 32), (64 << 10, 1)] {
        let binary = Burst { opcode: OpCode::Binary, payload_bytes, frames };
        let text = Burst { opcode: OpCode::Text, ..binary };
        cases.push(receive("echo-binary", Mode::Echo, binary));
        cases.push(receive("echo-text", Mode::Echo, text));
        cases.push(receive("publish-binary", Mode::Broadcast { may_publish: true }, binary));
    }
    let large = Burst { opcode: OpCode::Binary, payload_bytes: 1 << 20, frames: 1 };
    cases.push(receive("echo-binary", Mode::Echo, large));
    cases.push(receive("echo-text", Mode::Echo, Burst { opcode: OpCode::Text, ..large }));
    cases
}

/// Equal frames that arrive together.
#[derive(Clone, Copy)]
struct Burst {
    opcode: OpCode,
    payload_bytes: usize,
    frames: usize,
}

impl Burst {
    fn encode(self) -> Vec<u8> {
        let message = Header::message(self.opcode, self.payload_bytes as u64);
        let mut header = [0; HEADER_BYTES_MAX];
        let header_bytes = Header { mask: Some(KEY), ..message }.encode(&mut header);
        let mut payload = match self.opcode {
            OpCode::Text => text(self.payload_bytes, false),
            _ => pattern(self.payload_bytes),
        };
        mask::apply(&mut payload, KEY);
        [&header[..header_bytes], &payload].concat().repeat(self.frames)
    }
}

fn handshake(name: &str, request: &'static str) -> Case {
    Case::new(name, 1, move || {
        let policy = policy();
        Box::new(move || {
            let conditions = Conditions::unlimited(&policy, Serving::Open);
            let mut exchange = Exchange::default();
            black_box(exchange.receive(black_box(request.as_bytes()), &conditions));
        })
    })
}

/// A burst through an open WebSocket, in pieces of a receive buffer's size.
fn receive(kind: &str, mode: Mode, burst: Burst) -> Case {
    let name = format!("{kind}/{}-x{}", size_name(burst.payload_bytes), burst.frames);
    let input = burst.encode();
    let bytes = input.len();
    let prepare = move || -> Prepared {
        let (config, codec) = (Config::default(), codec());
        let (mut websocket, mut output) = (WebSocket::new(mode, None), Output::default());
        let mut input = input.clone();
        // A shard hands the same output to every receive, so there is room in it.
        output.pieces.reserve(1);
        Box::new(move || {
            with_rules(&config, &codec, |rules| {
                for received in black_box(&mut input).chunks_mut(RECEIVE_BUFFER_BYTES) {
                    let consumed = websocket.receive(received, 0, rules, &mut output);
                    assert_eq!(consumed, received.len());
                    black_box(&output);
                    output.pieces.clear();
                    output.published.clear();
                }
            });
            assert!(websocket.is_open());
        })
    };
    Case::new(name, burst.frames, prepare).through(bytes)
}

fn policy() -> Policy {
    Policy::new(&Config::default())
}

fn codec() -> RefCell<Codec> {
    RefCell::new(Codec::new(Settings {
        level: 1,
        threshold_bytes: 128,
        message_bytes_max: Config::default().limits.message_bytes,
    }))
}

fn with_rules(config: &Config, codec: &RefCell<Codec>, act: impl FnOnce(&Rules<'_>)) {
    act(&Rules {
        limits: &config.limits,
        message_types: config.message_types,
        now_s: 0,
        codec,
        may_begin: true,
        budget: &Budget::unlimited(),
    });
}

const KEY: MaskKey = MaskKey([0x37, 0xfa, 0x21, 0x3d]);
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

const LIBRARY: &str = "GET /echo HTTP/1.1\r\nHost: 127.0.0.1:7071\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const BROWSER: &str = "GET /echo HTTP/1.1\r\nHost: 127.0.0.1:7071\r\nConnection: Upgrade\r\n\
    Pragma: no-cache\r\nCache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/138.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\nOrigin: http://127.0.0.1:7071\r\n\
    Sec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-US,en;q=0.9\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
