//! What clients send: requests, masked frames, messages whose content tells who sent them, and
//! every way to break the protocol with the code that answers it.

use fastrand::Rng;
use ringwire::config::{Limits, MessageTypes};

use crate::compression::Agreement;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
/// In the first byte of a compressed message.
pub const RSV1: u8 = 0x40;

/// A masked frame.
pub fn frame(rng: &mut Rng, fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![u8::from(fin) << 7 | opcode];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let key = rng.u32(..).to_be_bytes();
    bytes.extend(key);
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// The payload of a close frame.
pub fn close_payload(code: Option<u16>, reason: &str) -> Vec<u8> {
    match code {
        Some(code) => [&code.to_be_bytes(), reason.as_bytes()].concat(),
        None => Vec::new(),
    }
}

/// Valid UTF-8 of at most `bytes`, characters of every length mixed.
pub fn text(rng: &mut Rng, bytes: usize) -> Vec<u8> {
    let mut text = String::new();
    while text.len() < bytes {
        let room = bytes - text.len();
        let next =
            *rng.choice(&['a', 'z', '\u{e9}', '\u{7ff}', '\u{20ac}', '\u{1f389}']).unwrap_or(&'a');
        text.push(if next.len_utf8() <= room { next } else { '.' });
    }
    text.into_bytes()
}

/// A payload size: mostly small, sometimes at a boundary of the length encoding, sometimes large.
pub fn size(rng: &mut Rng, bytes_max: usize) -> usize {
    let size = match rng.u8(..20) {
        0 => rng.usize(..=bytes_max),
        1 => 125 + rng.usize(..3),
        2 => 65535 + rng.usize(..2),
        3 => 0,
        4..8 => rng.usize(..600),
        _ => rng.usize(..60),
    };
    size.min(bytes_max)
}

/// A message of a random type among those accepted.
pub fn message(rng: &mut Rng, types: MessageTypes, bytes: usize) -> (u8, Vec<u8>) {
    let is_text = match types {
        MessageTypes::Any => rng.bool(),
        MessageTypes::Text => true,
        MessageTypes::Binary => false,
    };
    match is_text {
        true => (TEXT, text(rng, bytes)),
        false => (BINARY, (0..bytes).map(|_| rng.u8(..)).collect()),
    }
}

/// The message `number` of `publisher`: whoever receives it can make it again to compare.
pub fn publication(
    publisher: usize,
    number: u32,
    types: MessageTypes,
    most: usize,
) -> (u8, Vec<u8>) {
    let mut rng = Rng::with_seed((publisher as u64) << 32 | u64::from(number));
    let size = size(&mut rng, most);
    let (opcode, filler) = message(&mut rng, types, size);
    // Some texts are a line with its end, and some are two lines.
    let (between, end) = match number % 8 {
        _ if opcode == BINARY => ("", ""),
        1 => ("", "\n"),
        3 => ("", "\r\n"),
        5 => ("\n", ""),
        7 => ("\r", ""),
        _ => ("", ""),
    };
    let prefix = format!("{publisher}.{number}.{between}");
    (opcode, [prefix.as_bytes(), &filler, end.as_bytes()].concat())
}

/// What a message is to whoever gets lines; nothing if it is none.
pub fn line((opcode, payload): &(u8, Vec<u8>)) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(payload).ok().filter(|_| *opcode == TEXT)?;
    let text = text.strip_suffix("\n").unwrap_or(text);
    let text = text.strip_suffix("\r").unwrap_or(text);
    (!text.contains(['\r', '\n'])).then(|| text.as_bytes().to_vec())
}

/// Who published a message, and which of its messages it is.
pub fn origin(payload: &[u8]) -> (usize, u32) {
    let mut parts = payload.splitn(3, |byte| *byte == b'.');
    let mut number = || -> Option<u32> { std::str::from_utf8(parts.next()?).ok()?.parse().ok() };
    let (publisher, number) = (number().expect("a publisher"), number().expect("a number"));
    (publisher as usize, number)
}

/// The frames of a message: one or several, with control frames between them if there are some.
pub fn message_frames(
    rng: &mut Rng,
    (opcode, payload): (u8, &[u8]),
    fragments: usize,
    mut between: impl FnMut(&mut Rng) -> Vec<u8>,
) -> Vec<u8> {
    let mut cuts: Vec<usize> = (1..fragments).map(|_| rng.usize(..=payload.len())).collect();
    cuts.sort_unstable();
    cuts.push(payload.len());
    let (mut bytes, mut from) = (Vec::new(), 0);
    for (place, &cut) in cuts.iter().enumerate() {
        let (opcode, fin) = (if place == 0 { opcode } else { 0 }, place + 1 == cuts.len());
        bytes.extend(frame(rng, fin, opcode, &payload[from..cut]));
        if !fin {
            bytes.extend(between(rng));
        }
        from = cut;
    }
    bytes
}

/// A breach of the protocol, and the code of the close frame that answers it.
pub fn violation(rng: &mut Rng, limits: &Limits, types: MessageTypes) -> (Vec<u8>, u16) {
    let opcode = if types == MessageTypes::Binary { BINARY } else { TEXT };
    let kinds = if types == MessageTypes::Binary { 16 } else { 18 };
    match rng.u8(..kinds) {
        0 => (vec![0x80 | opcode, 0x01, b'x'], 1002),
        1 => (vec![0xa0 | opcode, 0x80, 0, 0, 0, 0], 1002),
        2 => (vec![0x83 + rng.u8(..5), 0x80], 1002),
        3 => (frame(rng, false, PING, b"x"), 1002),
        4 => (vec![0x89, 0xfe, 0, 126], 1002),
        5 => (vec![0x80 | opcode, 0xfe, 0, 125], 1002),
        6 => (vec![0x80 | opcode, 0xff, 0, 0, 0, 0, 0, 0, 255, 255], 1002),
        7 => (vec![0x80 | opcode, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
        8 => (frame(rng, true, 0, b"x"), 1002),
        9 => ([frame(rng, false, opcode, b"x"), frame(rng, true, opcode, b"y")].concat(), 1002),
        10 => (frame(rng, true, CLOSE, b"\x03"), 1002),
        11 => {
            let code = *rng.choice(&[0, 999, 1004, 1005, 1006, 1015, 2999, 5000]).unwrap_or(&0);
            (frame(rng, true, CLOSE, &close_payload(Some(code), "")), 1002)
        }
        12 => (frame(rng, true, CLOSE, b"\x03\xe8\xff"), 1007),
        13 => {
            let bytes = u64::from(limits.message_bytes) + 1;
            let length = match u16::try_from(bytes) {
                Ok(bytes) => [&[0xfe][..], &bytes.to_be_bytes()].concat(),
                Err(_) => [&[0xff][..], &bytes.to_be_bytes()].concat(),
            };
            ([&[0x80 | opcode][..], &length, &[1, 2, 3, 4]].concat(), 1009)
        }
        14 => {
            let first = frame(rng, false, opcode, b"");
            let more = (0..limits.message_fragments).map(|_| frame(rng, false, 0, b""));
            ([first].into_iter().chain(more.collect::<Vec<_>>()).flatten().collect(), 1008)
        }
        15 => match types {
            MessageTypes::Any => (vec![0x8b + rng.u8(..5), 0x80], 1002),
            MessageTypes::Text => (frame(rng, true, BINARY, b""), 1003),
            MessageTypes::Binary => (frame(rng, true, TEXT, b""), 1003),
        },
        16 => (frame(rng, true, TEXT, b"caf\xc3\x28"), 1007),
        _ => ([frame(rng, false, TEXT, b"\xe2"), frame(rng, false, 0, b"\x28")].concat(), 1007),
    }
}

/// The request for an upgrade.
pub fn upgrade(rng: &mut Rng, path: &str) -> Vec<u8> {
    let mut fields = [
        "Host: a",
        "Upgrade: WebSocket",
        "connection: keep-alive, Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    rng.shuffle(&mut fields);
    format!("GET {path} HTTP/1.1\r\n{}\r\n\r\n", fields.join("\r\n")).into_bytes()
}

/// The request for a stream.
pub fn stream(topic: u8, version: &str) -> Vec<u8> {
    let target = format!("/broadcast/{topic}?mode=stream");
    format!("GET {target} HTTP/{version}\r\nHost: a\r\n\r\n").into_bytes()
}

/// The same request with an offer of extensions.
pub fn with_offer(mut request: Vec<u8>, offer: &str) -> Vec<u8> {
    request.truncate(request.len() - 2);
    request.extend(format!("Sec-WebSocket-Extensions: {offer}\r\n\r\n").into_bytes());
    request
}

/// A request to publish a message, whose body has its length told in one way or the other.
pub fn post(rng: &mut Rng, topic: u8, (opcode, payload): &(u8, Vec<u8>)) -> Vec<u8> {
    let media_type = if *opcode == TEXT { "text/plain" } else { "application/octet-stream" };
    let head =
        format!("POST /broadcast/{topic} HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\n");
    if rng.bool() {
        let head = format!("{head}Content-Length: {}\r\n\r\n", payload.len());
        return [head.as_bytes(), payload].concat();
    }
    let mut request = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    let chunk_bytes = 1 << rng.u8(0..12);
    for chunk in payload.chunks(chunk_bytes) {
        request.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        request.extend([chunk, b"\r\n"].concat());
    }
    request.extend(b"0\r\n\r\n");
    request
}

/// A plain request, the status of its answer, and whether it is a HEAD. None of them ends the
/// connection.
pub const REQUESTS: [(&str, u16, bool); 5] = [
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, false),
    ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200, true),
    ("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200, false),
    ("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, false),
    ("GET /echo HTTP/1.1\r\nHost: a\r\n\r\n", 426, false),
];

/// A message as a client compresses it that keeps no context.
pub fn deflated(message: &[u8]) -> Vec<u8> {
    Agreement::new("permessage-deflate; client_no_context_takeover")
        .deflated(message, usize::MAX)
        .expect("any size will do")
}
