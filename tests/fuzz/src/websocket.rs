//! A whole WebSocket: any bytes after a request, in any pieces, have the outcome that a slow
//! reference derives from the bytes alone. With compression agreed on, which the reference does not
//! know, it is the outcome of the whole bytes that must not change.

use arbitrary::Unstructured;
use ringwire::config::MessageTypes;
use ringwire::wire::header::{Header, OpCode, Role};

use super::arrival::{Arrival, Compression, limits};
use super::client::request;
use super::harness::{Frame, Harness, Sending};
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
    if choice & 0x20 != 0 {
        let takeover = choice & 0x40 != 0;
        let compression =
            Some(Compression { takeover, parameters: PARAMETERS[choice as usize >> 7] });
        let cuts = places(cuts, script.len());
        let whole = Arrival { compression, message_types, ..Arrival::new(path, sending, &[]) };
        return compressed(whole, &cuts, pauses.into(), script);
    }
    let with_request = choice & 0x10 != 0;
    let input_bytes = script.len() + if with_request { request(path).len() } else { 0 };
    let cuts = places(cuts, input_bytes);
    let pauses = u64::from(pauses);
    let whole = Arrival { message_types, with_request, ..Arrival::new(path, sending, &[]) };
    let arrival = Arrival { cuts: &cuts, pauses, ..whole };
    let expected = expect(script, echo, &limits(), message_types);
    arrival.check(script, &expected);
    whole.check(script, &expected);
    if input_bytes <= BYTEWISE_BYTES_MOST {
        let cuts: Vec<_> = (0..input_bytes).collect();
        Arrival { cuts: &cuts, ..arrival }.check(script, &expected);
    }
}

/// What a peer has seen, and what was published.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// Of data frames, the part of one at the end included.
    data: Vec<u8>,
    published: Vec<Vec<u8>>,
    /// The messages of either, inflated.
    messages: Vec<(OpCode, Vec<u8>)>,
    pongs: Vec<Frame>,
    close: Option<Vec<u8>>,
}

/// The same outcome for any pieces; and the same messages whether they are returned or published,
/// by a server that refers to earlier ones or not.
fn compressed(whole: Arrival<'_>, cuts: &[usize], pauses: u64, script: &[u8]) {
    let expected = outcome(&whole, script);
    for (opcode, payload) in &expected.messages {
        assert!(*opcode != OpCode::Text || std::str::from_utf8(payload).is_ok());
        assert!(payload.len() <= limits().message_bytes as usize);
    }
    assert_eq!(outcome(&Arrival { cuts, pauses, ..whole }, script), expected);
    if script.len() <= BYTEWISE_BYTES_MOST {
        let cuts: Vec<_> = (0..script.len()).collect();
        assert_eq!(outcome(&Arrival { cuts: &cuts, pauses, ..whole }, script), expected);
    }
    let elsewhere = if whole.path == "/echo" { "/broadcast/t" } else { "/echo" };
    let compression = whole
        .compression
        .map(|agreed| Compression { parameters: "; server_no_context_takeover", ..agreed });
    for other in [Arrival { path: elsewhere, ..whole }, Arrival { compression, ..whole }] {
        let other = outcome(&other, script);
        assert_eq!(
            (other.messages, other.pongs, other.close),
            (expected.messages.clone(), expected.pongs.clone(), expected.close.clone())
        );
    }
}

fn outcome(arrival: &Arrival<'_>, script: &[u8]) -> Outcome {
    let mut harness = arrival.feed(script);
    let transcript = harness.transcript();
    assert_eq!(harness.stage.is_ended(), transcript.close.is_some());
    assert_eq!(harness.finished, transcript.close.is_some());
    let messages = match arrival.path {
        "/echo" => {
            assert!(harness.published.is_empty());
            transcript.messages
        }
        _ => {
            assert!(transcript.data.is_empty());
            harness.published.iter().map(|frame| published(frame)).collect()
        }
    };
    assert_eq!(harness.messages as usize, messages.len());
    let Harness { published, .. } = harness;
    let (data, pongs, close) = (transcript.data, transcript.controls, transcript.close);
    Outcome { data, published, messages, pongs, close }
}

/// The message of a frame that any subscriber could read.
fn published(frame: &[u8]) -> (OpCode, Vec<u8>) {
    let decoded = Header::decode(frame, Role::Client, 0).expect("a server's frame");
    let (header, start) = decoded.expect("a whole frame");
    assert!(header.fin && header.payload_bytes as usize == frame.len() - start);
    (header.opcode, frame[start..].to_vec())
}

/// What a client may add to its offer.
const PARAMETERS: [&str; 2] = ["", "; server_max_window_bits=9"];
/// Inputs up to this size arrive byte by byte as well; larger ones would take too long.
const BYTEWISE_BYTES_MOST: usize = 512;
