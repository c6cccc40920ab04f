//! PROXY headers: the same however they arrive, and accepted only if a slow reading of the
//! specification finds the same source in them.

use std::net::IpAddr;

use ringwire::proxy_protocol::{BYTES_MOST, Header, Malformed, Preamble, parse};

/// All of `data` is what arrives first on a connection.
pub fn check(data: &[u8]) {
    let whole = parse(data);
    let pieces = |size| arrive(data.chunks(size));
    for size in [1, 7, 4096] {
        assert_eq!(pieces(size), whole, "{}", data.escape_ascii());
    }
    match whole {
        Ok(Some(Header { source, bytes })) => {
            assert!(bytes <= data.len() && bytes <= BYTES_MOST);
            let header = &data[..bytes];
            let expected = if header.starts_with(b"PROXY ") { line(header) } else { block(header) };
            assert_eq!(expected, Some(source), "{}", header.escape_ascii());
            // What follows is the client's, and may be anything.
            assert_eq!(parse(header), whole);
        }
        Ok(None) => assert!(data.len() < BYTES_MOST),
        Err(Malformed) => {}
    }
}

fn arrive<'d>(pieces: impl Iterator<Item = &'d [u8]>) -> Result<Option<Header>, Malformed> {
    let mut preamble = Preamble::default();
    let mut before = 0;
    for piece in pieces {
        if let Some((header, taken)) = preamble.receive(piece)? {
            assert_eq!(before + taken, header.bytes);
            return Ok(Some(header));
        }
        before += piece.len();
        assert!(preamble.held_bytes() <= 2 * BYTES_MOST);
    }
    Ok(None)
}

/// The source in a line of version 1; `None` if it is none.
fn line(header: &[u8]) -> Option<Option<IpAddr>> {
    let text = std::str::from_utf8(header).ok()?;
    let line = text.strip_suffix("\r\n").filter(|line| line.len() <= 105)?;
    let words: Vec<&str> = line.split(' ').collect();
    if words[1] == "UNKNOWN" {
        return Some(None);
    }
    let (source, destination): (IpAddr, IpAddr) =
        (words.get(2)?.parse().ok()?, words.get(3)?.parse().ok()?);
    let of_family = |address: IpAddr| match words[1] {
        "TCP4" => address.is_ipv4(),
        "TCP6" => address.is_ipv6(),
        _ => false,
    };
    let is_port = |word: &&str| word.parse::<u16>().is_ok_and(|port| port.to_string() == **word);
    let is_line = words.len() == 6
        && of_family(source)
        && of_family(destination)
        && words[4..].iter().all(is_port);
    is_line.then(|| Some(source.to_canonical()))
}

/// The source in a header of version 2; `None` if it is none.
fn block(header: &[u8]) -> Option<Option<IpAddr>> {
    let block = header.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n")?;
    let (fixed, block) = block.split_at_checked(4)?;
    if usize::from(fixed[2]) * 256 + usize::from(fixed[3]) != block.len() {
        return None;
    }
    let address = |bytes: &[u8]| -> Option<IpAddr> {
        match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            _ => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        }
    };
    match (fixed[0], fixed[1]) {
        (0x20, _) => Some(None),
        (0x21, 0x11) if block.len() >= 12 => Some(address(&block[..4])),
        (0x21, 0x21) if block.len() >= 36 => Some(address(&block[..16])),
        (0x21, 0x10 | 0x12) if block.len() >= 12 => Some(None),
        (0x21, 0x20 | 0x22) if block.len() >= 36 => Some(None),
        (0x21, 0x30..=0x32) if block.len() >= 216 => Some(None),
        (0x21, 0x00..=0x02) => Some(None),
        _ => None,
    }
}
