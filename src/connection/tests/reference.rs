//! A slow echo and broadcast, written from RFC 6455 rule by rule: it sees all input at once, keeps
//! every message whole and encodes it anew.

use super::client::served;
use super::harness::Frame;
use ringwire::config::{Limits, MessageTypes};
use ringwire::wire::header::OpCode;

/// What the whole input must have led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// Bytes of data frames, the part of one at the end included.
    pub(super) data: Vec<u8>,
    pub(super) pongs: Vec<Frame>,
    pub(super) messages: Vec<(OpCode, Vec<u8>)>,
    /// The code that the close frame carries; `Some(None)` is a close frame without one.
    pub(super) close: Option<Option<u16>>,
}

/// Why the connection fails: a close code.
type Failure = u16;

struct ClientFrame<'a> {
    fin: bool,
    opcode: u8,
    claimed: u64,
    /// What there is of the payload, unmasked.
    payload: Vec<u8>,
    rest: &'a [u8],
}

/// The message in progress.
struct Open {
    opcode: u8,
    claimed: u64,
    frames: u32,
    payload: Vec<u8>,
}

/// What a server does with the whole of `input`; `echo` reflects, otherwise messages are published.
pub(super) fn expect(
    input: &[u8],
    echo: bool,
    limits: &Limits,
    message_types: MessageTypes,
) -> Expected {
    let mut reference =
        Reference { echo, limits, message_types, open: None, expected: Expected::default() };
    if let Err(code) = reference.receive(input) {
        reference.expected.close = Some(Some(code));
    }
    reference.expected
}

struct Reference<'a> {
    echo: bool,
    limits: &'a Limits,
    message_types: MessageTypes,
    open: Option<Open>,
    expected: Expected,
}

impl Reference<'_> {
    fn receive(&mut self, mut input: &[u8]) -> Result<(), Failure> {
        while self.expected.close.is_none() {
            let Some(frame) = read_frame(input)? else { break };
            input = frame.rest;
            let is_whole = frame.payload.len() as u64 == frame.claimed;
            match frame.opcode {
                0..=2 => self.data(&frame, is_whole)?,
                _ if !is_whole => break,
                8 => self.close(&frame.payload)?,
                9 => {
                    let payload = frame.payload;
                    self.expected.pongs.push(Frame { fin: true, opcode: OpCode::Pong, payload });
                }
                _ => {}
            }
            if !is_whole {
                break;
            }
        }
        Ok(())
    }

    fn data(&mut self, frame: &ClientFrame<'_>, is_whole: bool) -> Result<(), Failure> {
        match (frame.opcode, &self.open) {
            (0, None) | (1 | 2, Some(_)) => return Err(1002),
            _ => {}
        }
        let refused = match self.message_types {
            MessageTypes::Any => 0,
            MessageTypes::Text => 2,
            MessageTypes::Binary => 1,
        };
        if frame.opcode != 0 && frame.opcode == refused {
            return Err(1003);
        }
        let mut open = self.open.take().unwrap_or(Open {
            opcode: frame.opcode,
            claimed: 0,
            frames: 0,
            payload: Vec::new(),
        });
        open.claimed = open.claimed.saturating_add(frame.claimed);
        open.frames += 1;
        if open.claimed > self.limits.message_bytes.into() {
            return Err(1009);
        }
        if open.frames > self.limits.message_fragments {
            return Err(1008);
        }
        open.payload.extend(&frame.payload);
        let is_text = open.opcode == 1;
        if self.echo && !is_text {
            self.reflect(frame);
        }
        let is_complete = is_whole && frame.fin;
        if is_text && let Err(error) = std::str::from_utf8(&open.payload) {
            // An incomplete character at the end may go on, unless the message is over.
            if error.error_len().is_some() || is_complete {
                return Err(1007);
            }
        }
        if is_complete {
            self.complete(open);
        } else {
            self.open = Some(open);
        }
        Ok(())
    }

    /// Binary frames go back as they came, even the part of one that is there.
    fn reflect(&mut self, frame: &ClientFrame<'_>) {
        let opcode = if frame.opcode == 0 { OpCode::Continuation } else { OpCode::Binary };
        let whole = vec![0; frame.claimed as usize];
        let mut bytes = served(frame.fin, opcode, &whole);
        bytes.truncate(bytes.len() - whole.len());
        self.expected.data.extend(bytes);
        self.expected.data.extend(&frame.payload);
    }

    fn complete(&mut self, open: Open) {
        let opcode = if open.opcode == 1 { OpCode::Text } else { OpCode::Binary };
        if self.echo && opcode == OpCode::Text {
            self.expected.data.extend(served(true, opcode, &open.payload));
        }
        self.expected.messages.push((opcode, open.payload));
    }

    fn close(&mut self, payload: &[u8]) -> Result<(), Failure> {
        let code = match payload {
            [] => None,
            [_] => return Err(1002),
            [high, low, reason @ ..] => {
                let code = u16::from(*high) << 8 | u16::from(*low);
                if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    return Err(1002);
                }
                std::str::from_utf8(reason).map_err(|_| 1007_u16)?;
                Some(code)
            }
        };
        self.expected.close = Some(code);
        Ok(())
    }
}

/// The frame at the start, `None` when there is too little of its header.
fn read_frame(input: &[u8]) -> Result<Option<ClientFrame<'_>>, Failure> {
    let Some(&first) = input.first() else { return Ok(None) };
    let (fin, opcode) = (first >= 128, first % 16);
    let is_control = opcode >= 8;
    if first / 16 % 8 != 0 || !matches!(opcode, 0..=2 | 8..=10) || is_control && !fin {
        return Err(1002);
    }
    let Some(&second) = input.get(1) else { return Ok(None) };
    let short = second % 128;
    if second < 128 || is_control && short > 125 {
        return Err(1002);
    }
    let extended: &[u8] = match short {
        126 => input.get(2..4).unwrap_or(&[]),
        127 => &input[2..input.len().min(10)],
        _ => &[],
    };
    let number = extended.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let claimed = match (short, extended.len()) {
        (126, 2) if number < 126 => return Err(1002),
        (127, 1..) if extended[0] >= 128 => return Err(1002),
        (127, 6..) if extended[..6] == [0; 6] => return Err(1002),
        (126, 2) | (127, 8) => number,
        (126 | 127, _) => return Ok(None),
        _ => u64::from(short),
    };
    let key_at = 2 + extended.len();
    let Some(key) = input.get(key_at..key_at + 4) else { return Ok(None) };
    let after = &input[key_at + 4..];
    let here = usize::try_from(claimed).unwrap_or(usize::MAX).min(after.len());
    let (masked, rest) = after.split_at(here);
    let payload = masked.iter().enumerate().map(|(index, byte)| byte ^ key[index % 4]).collect();
    Ok(Some(ClientFrame { fin, opcode, claimed, payload, rest }))
}
