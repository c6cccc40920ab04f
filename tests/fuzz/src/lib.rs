//! What must hold for any input. Each module has a `check` over bytes that panics where something
//! does not hold: libFuzzer looks for such bytes, and `tests/corpora.rs` replays what it found.

pub mod client_reader;
pub mod close_payload;
pub mod config_file;
pub mod deflate;
pub mod delta;
pub mod frame_decoder;
pub mod message_assembler;
pub mod proxy_protocol;
pub mod realtime_commands;
pub mod records;
pub mod request_head;
pub mod websocket;

// References and harnesses that unit tests use as well; they use more of them.
#[allow(dead_code)]
#[path = "../../../src/connection/tests/arrival.rs"]
mod arrival;
#[allow(dead_code)]
#[path = "../../../src/connection/tests/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../../../src/connection/tests/harness.rs"]
mod harness;
#[path = "../../../src/wire/header/tests/reference.rs"]
mod header_reference;
#[path = "../../../src/connection/tests/reference.rs"]
mod reference;
#[path = "../../seeded_tls/mod.rs"]
mod seeded_tls;
#[path = "../../../src/wire/deflate/tests/strict.rs"]
mod strict;

/// A target's name and its check.
pub type Target = (&'static str, fn(&[u8]));

/// All targets; the names are those of the modules, of the programs and of the corpora.
pub const TARGETS: [Target; 12] = [
    ("client_reader", client_reader::check),
    ("close_payload", close_payload::check),
    ("config_file", config_file::check),
    ("deflate", deflate::check),
    ("delta", delta::check),
    ("frame_decoder", frame_decoder::check),
    ("message_assembler", message_assembler::check),
    ("proxy_protocol", proxy_protocol::check),
    ("realtime_commands", realtime_commands::check),
    ("records", records::check),
    ("request_head", request_head::check),
    ("websocket", websocket::check),
];

/// Puts numbers that mean places in ascending order within `0..=bytes`.
fn places<const COUNT: usize>(choices: [u16; COUNT], bytes: usize) -> [usize; COUNT] {
    let mut places = choices.map(|choice| usize::from(choice) % (bytes + 1));
    places.sort_unstable();
    places
}
