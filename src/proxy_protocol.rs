//! The PROXY protocol, versions 1 and 2: the header by which a proxy that passes on a stream says
//! who has connected to it (HAProxy, `doc/proxy-protocol.txt`).
//!
//! A header is the first thing on a connection, before anything that the client has sent. It is
//! never looked for where it has not been agreed on: any client could send one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who has connected to the proxy. `None` when it does not say so: for a connection of its own,
    /// such as a health check, or for a client without an address.
    pub source: Option<IpAddr>,
    /// Its length.
    pub bytes: usize,
}

/// The first bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY header")]
pub struct Malformed;

/// What there is of a header; owns nothing before its first byte.
#[derive(Debug, Default)]
pub struct Preamble {
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Partial(Vec<u8>);

impl Preamble {
    /// Takes bytes from the start of `input`: all of them while the header is incomplete (`None`),
    /// else as many as are returned with it, which are its last ones.
    ///
    /// # Errors
    /// What came is no header, or a longer one than is taken ([`BYTES_MOST`]).
    pub fn receive(&mut self, input: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
        let Some(partial) = &mut self.partial else {
            // What comes in one piece is looked at where it lies.
            let header = parse(input)?;
            if header.is_none() && !input.is_empty() {
                self.partial = Some(Box::new(Partial(input.to_vec())));
            }
            return Ok(header.map(|header| (header, header.bytes)));
        };
        let Partial(carried) = &mut **partial;
        let before = carried.len();
        debug_assert!(before < BYTES_MOST, "no header is longer");
        carried.extend_from_slice(&input[..input.len().min(BYTES_MOST - before)]);
        let Some(header) = parse(carried)? else { return Ok(None) };
        debug_assert!(header.bytes > before, "what came before was incomplete");
        self.partial = None;
        Ok(Some((header, header.bytes - before)))
    }

    /// Bytes of memory that it takes.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.0.capacity())
    }
}

/// Reads the header at the start of `input`; `None` when it is not complete yet.
///
/// # Errors
/// No bytes that could follow make it a header.
pub fn parse(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let begins = |signature: &[u8]| {
        let common = signature.len().min(input.len());
        input[..common] == signature[..common]
    };
    if begins(SIGNATURE) {
        parse_binary(input)
    } else if begins(TEXT_PREFIX) {
        parse_text(input)
    } else {
        Err(Malformed)
    }
}

/// Version 1 (section 2.1): one line.
fn parse_text(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let window = &input[..input.len().min(TEXT_BYTES_MOST)];
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if window.len() < TEXT_BYTES_MOST { Ok(None) } else { Err(Malformed) };
    };
    match window.get(end..end + 2) {
        Some(b"\r\n") => {}
        None if window[end] == b'\r' && window.len() < TEXT_BYTES_MOST => return Ok(None),
        _ => return Err(Malformed),
    }
    let line = str::from_utf8(&window[TEXT_PREFIX.len()..end]).map_err(|_| Malformed)?;
    Ok(Some(Header { source: text_source(line)?, bytes: end + 2 }))
}

/// What follows `PROXY `: protocol, two addresses and two ports, with a space between each.
fn text_source(line: &str) -> Result<Option<IpAddr>, Malformed> {
    let (protocol, rest) = line.split_once(' ').unwrap_or((line, ""));
    if protocol == "UNKNOWN" {
        // Whatever else the line says is to be ignored.
        return Ok(None);
    }
    let parts: Vec<&str> = rest.split(' ').collect();
    let &[source, destination, source_port, destination_port] = &parts[..] else {
        return Err(Malformed);
    };
    if ![source_port, destination_port].into_iter().all(is_port) {
        return Err(Malformed);
    }
    let address = |text: &str| match protocol {
        "TCP4" => text.parse().map(IpAddr::V4).map_err(|_| Malformed),
        "TCP6" => text.parse().map(IpAddr::V6).map_err(|_| Malformed),
        _ => Err(Malformed),
    };
    address(destination)?;
    Ok(Some(address(source)?.to_canonical()))
}

/// A decimal number of 16 bits without leading zeros.
fn is_port(text: &str) -> bool {
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    !has_leading_zero
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && text.parse::<u16>().is_ok()
}

/// Version 2 (section 2.2): signature, command, family, length, addresses, and what else the proxy
/// tells (TLVs), which nobody here asks for.
fn parse_binary(input: &[u8]) -> Result<Option<Header>, Malformed> {
    let field = |at: usize| input.get(SIGNATURE.len() + at).copied();
    let Some(command) = field(0) else { return Ok(None) };
    if !matches!(command, LOCAL | PROXY) {
        return Err(Malformed);
    }
    let Some(protocol) = field(1) else { return Ok(None) };
    let (family, transport) = (protocol >> 4, protocol & 0xf);
    // What a proxy says of a connection of its own is to be ignored, the family included.
    if command == PROXY && (family > UNIX || transport > DATAGRAM) {
        return Err(Malformed);
    }
    let (Some(high), Some(low)) = (field(2), field(3)) else { return Ok(None) };
    let bytes = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    let least = match (command, family) {
        (PROXY, INET) => INET_BYTES,
        (PROXY, INET6) => INET6_BYTES,
        (PROXY, UNIX) => UNIX_BYTES,
        _ => 0,
    };
    if bytes > BYTES_MOST || bytes < FIXED_BYTES + least {
        return Err(Malformed);
    }
    let Some(block) = input.get(FIXED_BYTES..bytes) else { return Ok(None) };
    // The source comes first. What came as datagrams is nothing that a stream could carry.
    let source = match (command, family, transport) {
        (PROXY, INET, STREAM) => {
            block.first_chunk().map(|octets: &[u8; 4]| IpAddr::V4(Ipv4Addr::from(*octets)))
        }
        (PROXY, INET6, STREAM) => {
            block.first_chunk().map(|octets: &[u8; 16]| IpAddr::V6(Ipv6Addr::from(*octets)))
        }
        _ => None,
    };
    Ok(Some(Header { source: source.map(|address| address.to_canonical()), bytes }))
}

/// Bytes of a header at the most: what a proxy tells beside the addresses, such as certificates,
/// may be long, and is kept until the header ends.
pub const BYTES_MOST: usize = 4096;

const TEXT_PREFIX: &[u8] = b"PROXY ";
/// Bytes of a line at the most, its end included.
const TEXT_BYTES_MOST: usize = 107;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED_BYTES: usize = 16;
/// Version and command: a connection of the proxy's own, or one that it passes on.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const INET: u8 = 1;
const INET6: u8 = 2;
const UNIX: u8 = 3;
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;
/// Bytes of both addresses and ports, by family.
const INET_BYTES: usize = 12;
const INET6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(line: &str) -> Result<Option<Header>, Malformed> {
        parse(line.as_bytes())
    }

    fn whole(bytes: &[u8]) -> Option<IpAddr> {
        let header = parse(bytes).unwrap().unwrap();
        assert_eq!(header.bytes, bytes.len());
        header.source
    }

    /// A header of version 2 with the length that its block has.
    fn binary(command: u8, protocol: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, protocol], &length, block].concat()
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_longest_lines_of_the_specification_are_read() {
        for (line, source) in [
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535", address("255.255.255.255")),
            (
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
                address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ),
            (
                "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
                None,
            ),
            ("PROXY UNKNOWN", None),
            ("PROXY TCP4 10.0.0.1 10.0.0.2 0 80", address("10.0.0.1")),
            ("PROXY TCP6 ::ffff:10.0.0.1 ::1 1 2", address("10.0.0.1")),
        ] {
            let line = format!("{line}\r\n");
            assert!(line.len() <= TEXT_BYTES_MOST);
            assert_eq!(whole(line.as_bytes()), source, "{line}");
            let header = text(&format!("{line}GET / HTTP/1.1\r\n")).unwrap().unwrap();
            assert_eq!((header.bytes, header.source), (line.len(), source));
        }
    }

    #[test]
    fn lines_that_the_specification_does_not_have_are_refused() {
        for line in [
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 2 \r\n",
            "PROXY TCP4  10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY TCP4 10.0.0.01 10.0.0.2 1 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 01 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 +1 2\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2 1 65536\r\n",
            "PROXY TCP4 10.0.0.1 10.0.0.2  2\r\n",
            "PROXY TCP4 ::1 ::2 1 2\r\n",
            "PROXY TCP6 10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY UDP4 10.0.0.1 10.0.0.2 1 2\r\n",
            "PROXY TCP4\r\n",
            "PROXY \r\n",
            "PROXY TCP4 10.0.0.1\r10.0.0.2 1 2\r\n",
            "proxy TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
            "GET / HTTP/1.1\r\n",
            "PROXY\r\n",
        ] {
            assert_eq!(text(line), Err(Malformed), "{line}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(200));
        for length in 0..long.len() {
            let expected = if length < TEXT_BYTES_MOST { Ok(None) } else { Err(Malformed) };
            assert_eq!(text(&long[..length]), expected, "{length}");
        }
    }

    #[test]
    fn binary_headers_tell_the_source_of_streams_alone() {
        let inet = [10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2];
        let mut inet6 = [0; INET6_BYTES];
        inet6[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        let mut mapped = [0; INET6_BYTES];
        mapped[..16].copy_from_slice(&"::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets());
        let with_more = [&inet[..], &[4, 0, 2, 7, 7]].concat();
        for (command, protocol, block, source) in [
            (PROXY, 0x11, &inet[..], address("10.0.0.1")),
            (PROXY, 0x11, &with_more, address("10.0.0.1")),
            (PROXY, 0x21, &inet6, address("2001:db8::1")),
            (PROXY, 0x21, &mapped, address("10.0.0.1")),
            (PROXY, 0x12, &inet, None),
            (PROXY, 0x31, &[0; UNIX_BYTES], None),
            (PROXY, 0x00, &[], None),
            (PROXY, 0x00, &inet, None),
            (LOCAL, 0x00, &[], None),
            (LOCAL, 0x11, &inet, None),
            (LOCAL, 0xff, &[], None),
        ] {
            assert_eq!(whole(&binary(command, protocol, block)), source, "{command} {protocol}");
        }
        assert_eq!(whole(&binary(LOCAL, 0, &[0; BYTES_MOST - FIXED_BYTES])), None);
    }

    #[test]
    fn binary_headers_that_make_no_sense_are_refused() {
        for (command, protocol, block) in [
            (0x11, 0x11, &[0; 12][..]),
            (0x22, 0x11, &[0; 12]),
            (PROXY, 0x41, &[0; 12]),
            (PROXY, 0x13, &[0; 12]),
            (PROXY, 0x11, &[0; 11]),
            (PROXY, 0x21, &[0; 35]),
            (PROXY, 0x31, &[0; 215]),
            (LOCAL, 0, &[0; BYTES_MOST - FIXED_BYTES + 1]),
        ] {
            assert_eq!(parse(&binary(command, protocol, block)), Err(Malformed), "{command:#x}");
        }
        for end in 1..SIGNATURE.len() {
            assert_eq!(parse(&[&SIGNATURE[..end], b"x"].concat()), Err(Malformed));
        }
    }

    /// Headers, those with a mistake, and other bytes.
    fn inputs() -> impl Strategy<Value = Vec<u8>> {
        let block = prop::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            any::<Vec<u8>>(),
            "PROXY (TCP4|TCP6|UNKNOWN)( [0-9.:]{0,9}){0,4}\r\n.{0,9}".prop_map(String::into_bytes),
            (0x1f..0x23_u8, any::<u8>(), block, any::<Vec<u8>>()).prop_map(
                |(command, family, block, rest)| {
                    [binary(command, family & 0x33, &block), rest].concat()
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn a_header_is_the_same_however_it_arrives(input in inputs(), step in 1..9_usize) {
            let expected = parse(&input);
            let (mut preamble, mut taken, mut found) = (Preamble::default(), 0, Ok(None));
            for piece in input.chunks(step) {
                found = preamble.receive(piece);
                match found {
                    Ok(None) => taken += piece.len(),
                    Ok(Some((_, bytes))) => {
                        taken += bytes;
                        break;
                    }
                    Err(_) => break,
                }
            }
            prop_assert!(preamble.held_bytes() <= 2 * BYTES_MOST);
            let found = found.map(|header| header.map(|(header, _)| header));
            prop_assert_eq!(found, expected);
            if let Ok(Some(header)) = expected {
                prop_assert_eq!(taken, header.bytes);
            }
        }
    }
}
