//! What a server sends, as the load generator reads it: any bytes have the same outcome in any
//! pieces, and what comes out of them is what a client may take for a message.

use arbitrary::Unstructured;
use ringwire::bench::client::{Fault, Incoming, read};
use ringwire::wire::header::OpCode;

use super::places;

/// The first 12 bytes say where the rest is cut.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(cuts) = input.arbitrary::<[u16; 6]>() else { return };
    let bytes = input.take_rest();
    let whole = outcome(bytes, &[]);
    for taken in &whole.0 {
        judge(taken);
    }
    assert_eq!(outcome(bytes, &places(cuts, bytes.len())), whole);
    if bytes.len() <= BYTEWISE_BYTES_MOST {
        let cuts: Vec<_> = (0..bytes.len()).collect();
        assert_eq!(outcome(bytes, &cuts), whole);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Message(OpCode, Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Vec<u8>),
}

/// All that was taken until the first fault, and the fault.
fn outcome(bytes: &[u8], cuts: &[usize]) -> (Vec<Taken>, Result<(), Fault>) {
    let (mut partial, mut taken, mut from) = (None, Vec::new(), 0);
    for &end in cuts.iter().chain([&bytes.len()]) {
        let read = read(&bytes[from..end], 0, &mut partial, |incoming| {
            taken.push(match incoming {
                Incoming::Message(opcode, payload) => Taken::Message(opcode, payload.to_vec()),
                Incoming::Ping(payload) => Taken::Ping(payload.to_vec()),
                Incoming::Pong => Taken::Pong,
                Incoming::Close(payload) => Taken::Close(payload.to_vec()),
                Incoming::Compressed(..) => panic!("compression was not agreed on"),
            });
            Ok(())
        });
        if read.is_err() {
            return (taken, read);
        }
        from = end;
    }
    (taken, Ok(()))
}

fn judge(taken: &Taken) {
    match taken {
        Taken::Message(OpCode::Text, payload) => assert!(std::str::from_utf8(payload).is_ok()),
        Taken::Message(opcode, _) => assert_eq!(*opcode, OpCode::Binary),
        Taken::Ping(payload) | Taken::Close(payload) => assert!(payload.len() <= 125),
        Taken::Pong => {}
    }
}

/// Inputs up to this size arrive byte by byte as well; larger ones would take too long.
const BYTEWISE_BYTES_MOST: usize = 512;
