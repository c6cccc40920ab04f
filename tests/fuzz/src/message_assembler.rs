//! Valid messages in any fragments, with control frames between them and in any pieces, come out
//! whole: the content is any, and so is where it is cut. A server reads them, and so does a client.

use arbitrary::{Result, Unstructured};
use ringwire::bench::client::{Incoming, read};
use ringwire::wire::header::OpCode;
use ringwire::wire::mask::MaskKey;

use super::arrival::Arrival;
use super::client::{frame_with, served};
use super::harness::{Frame, Sending};
use super::places;
use super::reference::Expected;

/// What a client says: messages, each in its fragments, and the pings among them.
#[derive(Default)]
struct Script {
    bytes: Vec<u8>,
    /// The same frames as a server sends them.
    served: Vec<u8>,
    expected: Expected,
}

/// The first bytes say how the script arrives, the others what it is.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let _too_few_bytes = run(&mut input);
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let (choice, pauses, cuts): (u8, u8, [u16; 6]) = input.arbitrary()?;
    let echo = choice & 1 == 0;
    let mut script = Script::default();
    for _ in 0..MESSAGES_MOST {
        if input.is_empty() {
            break;
        }
        script.message(input, echo)?;
    }
    let path = if echo { "/echo" } else { "/broadcast/t" };
    let sending = if choice & 2 == 0 { Sending::Eager } else { Sending::Lazy };
    script.read_as_client(&places(cuts, script.served.len()));
    let cuts = places(cuts, script.bytes.len());
    let whole = Arrival::new(path, sending, &[]);
    whole.check(&script.bytes, &script.expected);
    let pauses = u64::from(pauses);
    Arrival { cuts: &cuts, pauses, ..whole }.check(&script.bytes, &script.expected);
    Ok(())
}

impl Script {
    fn message(&mut self, input: &mut Unstructured<'_>, echo: bool) -> Result<()> {
        let (choice, length, key, cuts): (u8, u8, [u8; 4], [u16; 3]) = input.arbitrary()?;
        let some = input.bytes(usize::from(length).min(input.len()))?;
        // Lengths of all three encodings out of few bytes.
        let times = [1, 1, 4, 300][usize::from(choice >> 6)];
        let (opcode, payload) = if choice & 1 == 0 {
            (OpCode::Binary, some.repeat(times))
        } else {
            (OpCode::Text, String::from_utf8_lossy(some).repeat(times).into_bytes())
        };
        if payload.len() > super::arrival::limits().message_bytes as usize {
            return Ok(());
        }
        let places = places(cuts, payload.len());
        let cuts = &places[..usize::from(choice >> 1 & 3)];
        let ping = (choice & 8 != 0).then_some(&some[..some.len().min(125)]);
        self.fragments(opcode, &payload, cuts, ping, MaskKey(key), echo);
        self.expected.messages.push((opcode, payload));
        Ok(())
    }

    fn fragments(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        cuts: &[usize],
        ping: Option<&[u8]>,
        key: MaskKey,
        echo: bool,
    ) {
        let (mut from, mut fragment_opcode) = (0, opcode);
        for (number, &end) in cuts.iter().chain([&payload.len()]).enumerate() {
            let (fin, fragment) = (number == cuts.len(), &payload[from..end]);
            self.bytes.extend(frame_with(fin, fragment_opcode, fragment, key));
            let frame = served(fin, fragment_opcode, fragment);
            self.served.extend(&frame);
            if echo && opcode == OpCode::Binary {
                self.expected.data.extend(frame);
            }
            if let Some(ping) = ping {
                self.bytes.extend(frame_with(true, OpCode::Ping, ping, key));
                self.served.extend(served(true, OpCode::Ping, ping));
                let payload = ping.to_vec();
                self.expected.pongs.push(Frame { fin: true, opcode: OpCode::Pong, payload });
            }
            (from, fragment_opcode) = (end, OpCode::Continuation);
        }
        if echo && opcode == OpCode::Text {
            self.expected.data.extend(served(true, opcode, payload));
        }
    }

    fn read_as_client(&self, cuts: &[usize]) {
        let (mut partial, mut messages, mut pings, mut from) = (None, Vec::new(), Vec::new(), 0);
        for &end in cuts.iter().chain([&self.served.len()]) {
            let take = |incoming: Incoming<'_>| {
                match incoming {
                    Incoming::Message(opcode, payload) => messages.push((opcode, payload.to_vec())),
                    Incoming::Ping(payload) => pings.push(payload.to_vec()),
                    other => panic!("{other:?}"),
                }
                Ok(())
            };
            read(&self.served[from..end], 0, &mut partial, take).expect("valid frames");
            from = end;
        }
        assert!(messages == self.expected.messages && partial.is_none());
        assert!(pings.iter().eq(self.expected.pongs.iter().map(|pong| &pong.payload)));
    }
}

const MESSAGES_MOST: usize = 8;
