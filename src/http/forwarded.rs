//! For whom a proxy asks: `X-Forwarded-For`, or `Forwarded` (RFC 7239).
//!
//! Each proxy adds the address that has connected to it at the right end of the list; what stands
//! further left came with the request, and anybody may have written it. So the list is read from
//! the right, for as long as whoever added an entry is trusted.

use std::net::{IpAddr, Ipv6Addr};

use super::request::Head;
use crate::admission::Access;
use crate::config::{ForwardedHeader, PeerAddress};

/// The client for whom a trusted proxy asks: the first address from the right that is not trusted
/// itself. Where all are, or one cannot be read, the last that could; `None` when there is none.
pub(super) fn client(head: &Head<'_>, field: ForwardedHeader, access: &Access) -> Option<IpAddr> {
    let (values, address): (_, fn(&str) -> Option<IpAddr>) = match field {
        ForwardedHeader::XForwardedFor => (&head.x_forwarded_for, node),
        ForwardedHeader::Forwarded => (&head.forwarded, forwarded_for),
    };
    let mut last = None;
    // Several fields are one list (RFC 9110 section 5.3).
    for element in values.iter().rev().flat_map(|value| elements_from_right(value)) {
        let Some(found) = str::from_utf8(element).ok().and_then(address) else { break };
        last = Some(found);
        if !access.trusts(last.map(PeerAddress::Ip)) {
            break;
        }
    }
    last
}

/// The elements of a list, last first, empty ones left out. Quotes are counted from the right as
/// well: one that is never closed is the work of whoever wrote further left.
fn elements_from_right(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    list.rsplit(move |byte| {
        is_quoted ^= *byte == b'"';
        *byte == b',' && !is_quoted
    })
    .map(<[u8]>::trim_ascii)
    .filter(|element| !element.is_empty())
}

/// The address in one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.trim_ascii().split_once('=')?;
        if name.eq_ignore_ascii_case("for") {
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let is_first = found.replace(node(quoted.unwrap_or(value))?).is_none();
            is_first.then_some(())?;
        }
    }
    found
}

/// An address, in brackets or not, and perhaps its port (RFC 7239 section 6). Names, `unknown` and
/// whatever else hides an address are none.
fn node(text: &str) -> Option<IpAddr> {
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let port = port.strip_prefix(':').map_or(port.is_empty(), is_port);
            IpAddr::V6(address.parse::<Ipv6Addr>().ok().filter(|_| port)?)
        }
        None => match text.parse() {
            Ok(address) => address,
            // A port behind an address of IPv6 without brackets could not be told from it.
            Err(_) => {
                let (address, port) = text.rsplit_once(':')?;
                IpAddr::V4(address.parse().ok().filter(|_| is_port(port))?)
            }
        },
    };
    Some(address.to_canonical())
}

/// A number, or a name that hides one.
fn is_port(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Peers;
    use proptest::prelude::*;

    /// The client of a request with these fields, where 10.0.0.0/8 and fd00::/8 are trusted.
    fn client_of(field: ForwardedHeader, fields: &str) -> Option<String> {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let peers = Peers { trusted_proxies: trusted.to_vec(), ..Peers::default() };
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let (head, _) = Head::parse(text.as_bytes(), 4096, 20).unwrap().unwrap();
        client(&head, field, &Access::new(&peers)).map(|address| address.to_string())
    }

    fn x_forwarded_for(list: &str) -> Option<String> {
        client_of(ForwardedHeader::XForwardedFor, &format!("X-Forwarded-For: {list}\r\n"))
    }

    fn forwarded(list: &str) -> Option<String> {
        client_of(ForwardedHeader::Forwarded, &format!("Forwarded: {list}\r\n"))
    }

    #[test]
    fn the_first_from_the_right_that_is_not_trusted_is_the_client() {
        for (list, client) in [
            ("192.0.2.1", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1", "192.0.2.1"),
            ("198.51.100.9, 192.0.2.1, 10.0.0.7, fd00::1", "192.0.2.1"),
            ("10.0.0.9, 10.0.0.8", "10.0.0.9"),
            ("192.0.2.1,,10.0.0.8, ,", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, ::ffff:10.0.0.1", "192.0.2.1"),
        ] {
            assert_eq!(x_forwarded_for(list).as_deref(), Some(client), "{list}");
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_walk_at_the_last_trusted_hop() {
        for list in
            ["unknown", "192.0.2.1, _hidden", "", "evil\"", "192.0.2.1:", "[::1", "[::1]x", "1.2.3"]
        {
            assert_eq!(x_forwarded_for(list), None, "{list}");
            let list = format!("{list}, 10.0.0.1");
            assert_eq!(x_forwarded_for(&list).as_deref(), Some("10.0.0.1"), "{list}");
        }
        assert_eq!(x_forwarded_for("\u{e9}, 10.0.0.2").as_deref(), Some("10.0.0.2"));
    }

    #[test]
    fn several_fields_are_one_list_and_the_other_header_does_not_count() {
        let fields = "X-Forwarded-For: 198.51.100.1\r\nForwarded: for=203.0.113.1\r\n\
                      x-forwarded-for: 192.0.2.1, 10.0.0.1\r\nX-FORWARDED-FOR: 10.0.0.2\r\n";
        let of = |field| client_of(field, fields);
        assert_eq!(of(ForwardedHeader::XForwardedFor).as_deref(), Some("192.0.2.1"));
        assert_eq!(of(ForwardedHeader::Forwarded).as_deref(), Some("203.0.113.1"));
        assert_eq!(client_of(ForwardedHeader::XForwardedFor, "Forwarded: for=1.2.3.4\r\n"), None);
    }

    #[test]
    fn forwarded_elements_are_read_as_rfc_7239_writes_them() {
        for (list, client) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("proto=https; FOR=\"192.0.2.43:_port\"", "192.0.2.43"),
            ("for=192.0.2.43, for=\"[fd00::17]\"", "192.0.2.43"),
            // Whoever left a quote open does not hide what the proxy has added.
            ("for=\", for=192.0.2.43", "192.0.2.43"),
            ("for=\"x, for=192.0.2.43, for=10.0.0.1", "192.0.2.43"),
            ("by=\"a,b\";for=192.0.2.43, for=10.0.0.1", "192.0.2.43"),
        ] {
            assert_eq!(forwarded(list).as_deref(), Some(client), "{list}");
        }
        for list in [
            "for=unknown",
            "for=_gazonk",
            "by=192.0.2.43",
            "192.0.2.43",
            "for=192.0.2.43;for=192.0.2.44",
            "for=\"192.0.2.43",
        ] {
            assert_eq!(forwarded(list), None, "{list}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_client_writes_the_entry_of_the_proxy_counts(
            written in "[ -~]{0,40}",
            last in 1..255_u8,
        ) {
            let client = format!("192.0.2.{last}");
            prop_assert_eq!(x_forwarded_for(&format!("{written}, {client}")), Some(client.clone()));
            let list = format!("{written}, for={client};proto=http, for=10.0.0.1");
            prop_assert_eq!(forwarded(&list), Some(client));
        }
    }
}
