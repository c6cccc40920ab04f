//! The opening handshake of RFC 6455 section 4.2, for a head that asks for WebSocket.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

use super::bearer;
use super::body::Framing;
use super::origin;
use super::policy::Policy;
use super::refusal::{Refusal, Refused};
use super::request::{Field, Head, elements};
use super::route::{Route, SESSION_BINARY, SESSION_TEXT};
use crate::config::{Authority, Subprotocol};
use crate::wire::deflate::negotiation::{self, Agreement, Terms};
use crate::wire::message::MessageKind;

/// Checks everything that RFC 6455 section 4.2.1 asks of the client and returns the 101 response,
/// and what was agreed on compression.
///
/// The version comes before the key, because clients of another version need not have one. A
/// route whose messages go to many never lets the server's refer to earlier ones. `host` is what
/// the request was sent to.
pub(super) fn accept(
    head: &Head<'_>,
    host: Option<Authority<'_>>,
    policy: &Policy,
    route: &Route,
) -> Result<(Vec<u8>, Option<Agreement>), Refused> {
    let bad_request = |detail| Err(Refused::new(Refusal::BadRequest, detail));
    if !head.connection_upgrade {
        return bad_request("Upgrade without Connection: Upgrade; does a proxy remove it?");
    }
    if head.body != Framing::Absent {
        return bad_request("A request to upgrade has no body.");
    }
    match head.version {
        Field::Once(b"13") => {}
        Field::Repeated => return bad_request("Sec-WebSocket-Version appears more than once."),
        Field::Absent | Field::Once(_) => {
            let detail = "Only version 13 of the WebSocket protocol is spoken here.";
            return Err(Refused::new(Refusal::VersionUnsupported, detail));
        }
    }
    let key = key(&head.key)?;
    origin::check(&head.origin, host, policy)?;
    // Its own protocol is all that is spoken there.
    let is_session = matches!(route, Route::Session { .. } | Route::SockJs(_));
    let subprotocol = match route {
        Route::Session { .. } => session_subprotocol(head),
        Route::SockJs(_) => None,
        _ => subprotocol(head, policy),
    };
    if !is_session
        && subprotocol.is_none()
        && policy.permissions.depend_on_identity()
        && bearer::is_offered(head)
    {
        let detail = "A browser gives up unless one subprotocol is chosen: offer one that is \
                      spoken here beside the token.";
        return Err(Refused::new(Refusal::NoSubprotocol, detail));
    }
    if !is_session && subprotocol.is_none() && policy.subprotocol_required {
        let detail = "Sec-WebSocket-Protocol must offer a subprotocol that is spoken here.";
        return Err(Refused::new(Refusal::NoSubprotocol, detail));
    }

    let accept = BASE64.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    let mut response = String::with_capacity(192);
    response.push_str("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n");
    response.extend(["Connection: Upgrade\r\nSec-WebSocket-Accept: ", &accept, "\r\n"]);
    if let Some(subprotocol) = subprotocol {
        response.extend(["Sec-WebSocket-Protocol: ", subprotocol, "\r\n"]);
    }
    let is_plain =
        matches!(route, Route::Session { kind: MessageKind::Binary, .. } | Route::SockJs(_));
    let agreed = policy.compression.filter(|_| !is_plain).and_then(|terms| {
        let server_takeover = terms.server_takeover && *route == Route::Echo;
        let terms = Terms { server_takeover, ..terms };
        negotiation::accept(head.extensions.iter().copied(), &terms)
    });
    if let Some((_, answer)) = &agreed {
        response.extend(["Sec-WebSocket-Extensions: ", answer, "\r\n"]);
    }
    response.push_str("\r\n");
    Ok((response.into_bytes(), agreed.map(|(agreement, _)| agreement)))
}

/// The key as sent, since its text is what the answer proves to have seen.
fn key<'a>(field: &Field<'a>) -> Result<&'a [u8], Refused> {
    let bad_key = |detail| Err(Refused::new(Refusal::BadKey, detail));
    match field {
        Field::Absent => bad_key("The Sec-WebSocket-Key header is missing."),
        Field::Repeated => bad_key("Sec-WebSocket-Key appears more than once."),
        Field::Once(text) => match BASE64.decode(text) {
            Ok(nonce) if nonce.len() == KEY_BYTES => Ok(text),
            _ => bad_key("Sec-WebSocket-Key is not 16 bytes in base64."),
        },
    }
}

/// The first of the client's list that we speak; names are case-sensitive (RFC 6455 section
/// 11.3.4).
fn subprotocol<'p>(head: &Head<'_>, policy: &'p Policy) -> Option<&'p str> {
    head.protocols.iter().flat_map(|list| elements(list)).find_map(|wanted| {
        let mut names = policy.subprotocols.iter().map(Subprotocol::name);
        names.find(|ours| ours.as_bytes() == wanted)
    })
}

/// The first of the client's list that client sessions speak.
pub(super) fn session_subprotocol(head: &Head<'_>) -> Option<&'static str> {
    head.protocols.iter().flat_map(|list| elements(list)).find_map(|wanted| {
        let mut names = [SESSION_BINARY, SESSION_TEXT].into_iter();
        names.find(|ours| ours.as_bytes() == wanted)
    })
}

/// Padding is required, but bits that no byte uses may be set (RFC 4648 section 3.5): some clients
/// draw 22 characters at random.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Bytes of a decoded `Sec-WebSocket-Key` (RFC 6455 section 4.1).
const KEY_BYTES: usize = 16;
/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const CONNECTION: &str = "Connection: Upgrade\r\n";

    fn policy(origins: &[&str], subprotocols: &[&str]) -> Policy {
        Policy {
            allow_origin: origins.iter().map(|o| o.parse().unwrap()).collect(),
            subprotocols: subprotocols.iter().map(|p| p.parse().unwrap()).collect(),
            ..Policy::new(&Config::default())
        }
    }

    fn try_accept(fields: &[&str], policy: &Policy) -> Result<String, Refused> {
        let fields = fields.concat();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n{fields}\r\n");
        let (head, _) = Head::parse(text.as_bytes(), 8192, 64).unwrap().unwrap();
        let accepted = accept(&head, head.host, policy, &Route::Echo);
        accepted.map(|(response, _)| String::from_utf8(response).unwrap())
    }

    fn refusal(fields: &[&str], policy: &Policy) -> Refusal {
        try_accept(fields, policy).unwrap_err().refusal
    }

    #[test]
    fn the_sample_of_rfc_6455_section_1_3() {
        let response = try_accept(&[CONNECTION, VERSION, KEY], &policy(&[], &[])).unwrap();
        let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert_eq!(response, expected);
    }

    #[test]
    fn keys_are_sixteen_bytes_in_base64_once() {
        let policy = policy(&[], &[]);
        let with = |key: &str| try_accept(&[CONNECTION, VERSION, key], &policy);
        assert!(with("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB==\r\n").is_ok());
        for key in [
            "",
            "Sec-WebSocket-Key:\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n",
            "Sec-WebSocket-Key: SGVsbG8sIHdvcmxkIQ==\r\n",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA\r\n",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n",
            &[KEY, KEY].concat(),
        ] {
            assert_eq!(with(key).unwrap_err().refusal, Refusal::BadKey, "{key}");
        }
    }

    #[test]
    fn only_version_13() {
        let policy = policy(&[], &[]);
        for (version, expected) in [
            ("", Refusal::VersionUnsupported),
            ("Sec-WebSocket-Version: 8\r\n", Refusal::VersionUnsupported),
            ("Sec-WebSocket-Version: 013\r\n", Refusal::VersionUnsupported),
            ("Sec-WebSocket-Version: 13, 8\r\n", Refusal::VersionUnsupported),
            (&[VERSION, VERSION].concat(), Refusal::BadRequest),
        ] {
            assert_eq!(refusal(&[CONNECTION, version, KEY], &policy), expected, "{version}");
        }
    }

    #[test]
    fn the_connection_header_and_the_absence_of_a_body_are_required() {
        let policy = policy(&[], &[]);
        assert_eq!(refusal(&[VERSION, KEY], &policy), Refusal::BadRequest);
        let body = "Content-Length: 1\r\n";
        assert_eq!(refusal(&[CONNECTION, VERSION, KEY, body], &policy), Refusal::BadRequest);
    }

    #[test]
    fn origins_are_checked_when_there_is_a_list() {
        let fields = |origin| [CONNECTION, VERSION, KEY, origin];
        let (open, listed) = (policy(&[], &[]), policy(&["https://a.org", "*.b.org"], &[]));
        let evil = "Origin: https://evil.net\r\n";
        assert!(try_accept(&fields(evil), &open).is_ok());
        for origin in [
            "",
            "Origin: https://A.org\r\n",
            "Origin: http://x.b.org:1\r\n",
            // The host of these requests.
            "Origin: http://a\r\n",
            "Origin: https://A\r\n",
        ] {
            assert!(try_accept(&fields(origin), &listed).is_ok(), "{origin}");
        }
        for origin in [
            evil,
            "Origin: http://a:7071\r\n",
            "Origin: null\r\n",
            "Origin:\r\n",
            "Origin: \u{e9}\r\n",
        ] {
            assert_eq!(refusal(&fields(origin), &listed), Refusal::Forbidden, "{origin}");
        }
        assert_eq!(refusal(&fields(&[evil, evil].concat()), &open), Refusal::BadRequest);
    }

    #[test]
    fn the_first_subprotocol_of_the_client_that_we_speak() {
        let policy = policy(&[], &["chat", "superchat"]);
        for (field, expected) in [
            ("", None),
            ("Sec-WebSocket-Protocol: other, Chat\r\n", None),
            ("Sec-WebSocket-Protocol: ,other , superchat,chat\r\n", Some("superchat")),
            ("Sec-WebSocket-Protocol: x\r\nsec-websocket-protocol: chat\r\n", Some("chat")),
        ] {
            let response = try_accept(&[CONNECTION, VERSION, KEY, field], &policy).unwrap();
            let chosen =
                response.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
            assert_eq!(chosen, expected, "{field}");
        }
    }

    #[test]
    fn a_required_subprotocol_must_be_offered() {
        let policy = Policy { subprotocol_required: true, ..policy(&[], &["chat"]) };
        for field in ["", "Sec-WebSocket-Protocol: other, Chat\r\n", "Sec-WebSocket-Protocol:\r\n"]
        {
            let refusal = refusal(&[CONNECTION, VERSION, KEY, field], &policy);
            assert_eq!(refusal, Refusal::NoSubprotocol, "{field}");
        }
        let offer = "Sec-WebSocket-Protocol: other, chat\r\n";
        assert!(try_accept(&[CONNECTION, VERSION, KEY, offer], &policy).is_ok());
    }

    #[test]
    fn extensions_are_ignored_without_compression() {
        let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        let response = try_accept(&[CONNECTION, VERSION, KEY, offer], &policy(&[], &[])).unwrap();
        assert!(!response.contains("Extensions"));
    }

    #[test]
    fn context_takeover_is_agreed_on_where_messages_go_to_one() {
        let terms = Terms { server_takeover: true, client_takeover: true, window_bits: 15 };
        let policy = Policy { compression: Some(terms), ..policy(&[], &[]) };
        let text = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n{CONNECTION}{VERSION}{KEY}\
             Sec-WebSocket-Extensions: other\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n\r\n"
        );
        let (head, _) = Head::parse(text.as_bytes(), 8192, 64).unwrap().unwrap();
        let topic = Route::Broadcast { topic: "t".into(), may_publish: true, exclude_self: false };
        for (route, server_takeover, expected) in [
            (Route::Echo, true, "permessage-deflate; server_max_window_bits=10\r\n\r\n"),
            (
                topic,
                false,
                "permessage-deflate; server_no_context_takeover; \
                 server_max_window_bits=10\r\n\r\n",
            ),
        ] {
            let (response, agreement) = accept(&head, head.host, &policy, &route).unwrap();
            let response = String::from_utf8(response).unwrap();
            let (_, answer) = response.split_once("Sec-WebSocket-Extensions: ").unwrap();
            assert_eq!(answer, expected);
            assert_eq!(agreement.unwrap().server_takeover, server_takeover);
        }
    }
}
