//! A whole session: any bytes after a request, in any pieces, have the outcome that a slow
//! reference derives from the bytes alone.

use arbitrary::Unstructured;
use ringwire::config::MessageTypes;

use super::arrival::{Arrival, limits};
use super::client::request;
use super::harness::Sending;
use super::places;
use super::reference::expect;

/// The first 14 bytes say how the rest arrives.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok((choice, pauses, cuts)) = input.arbitrary::<(u8, u8, [u16; 6])>() else { return };
    let script = input.take_rest();
    let (path, echo) = if choice & 1 == 0 { ("/echo", true) } else { ("/broadcast/t", false) };
    let sending = if choice & 2 == 0 { Sending::Eager } else { Sending::Lazy };
    let message_types = match choice >> 2 & 3 {
        0 | 1 => MessageTypes::Any,
        2 => MessageTypes::Text,
        _ => MessageTypes::Binary,
    };
    let with_request = choice & 0x10 != 0;
    let input_bytes = script.len() + if with_request { request(path).len() } else { 0 };
    let cuts = places(cuts, input_bytes);
    let pauses = u64::from(pauses);
    let arrival = Arrival { path, message_types, cuts: &cuts, sending, pauses, with_request };
    let expected = expect(script, echo, &limits(), message_types);
    arrival.check(script, &expected);
    Arrival { cuts: &[], pauses: 0, ..arrival }.check(script, &expected);
    if input_bytes <= BYTEWISE_BYTES_MOST {
        let cuts: Vec<_> = (0..input_bytes).collect();
        Arrival { cuts: &cuts, ..arrival }.check(script, &expected);
    }
}

/// Inputs up to this size arrive byte by byte as well; larger ones would take too long.
const BYTEWISE_BYTES_MOST: usize = 512;
