//! The opening handshake from the client's side (RFC 6455 section 4.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::Response;
use sha1::{Digest, Sha1};

use super::failure::Fault;
use super::target::Target;
use crate::wire::deflate::negotiation::{self, SELF_CONTAINED_OFFER};

/// The requests of a run and the answer that each must get.
///
/// All connections send the same key. RFC 6455 wants a new one for each, so that no cache answers;
/// none is between a load generator and its server.
pub struct Handshake {
    requests: Vec<Vec<u8>>,
    accept: String,
    offer: Offer,
}

/// What a client asks for besides a WebSocket.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Whether messages are to be compressed, which the server must grant.
    pub compression: bool,
    /// Subprotocols, of which the server must choose one if there are any.
    pub subprotocols: Vec<String>,
    /// Further fields of the request, each a line without its end.
    pub fields: Vec<String>,
}

impl Handshake {
    /// Requests for each of the target's topics, with a key made of `seed`.
    pub fn new(target: &Target, topics: u32, offer: Offer, seed: u128) -> Self {
        let key = STANDARD.encode(seed.to_le_bytes());
        let accept = STANDARD.encode(Sha1::new().chain_update(&key).chain_update(GUID).finalize());
        let mut further = String::new();
        if offer.compression {
            further += &format!("Sec-WebSocket-Extensions: {SELF_CONTAINED_OFFER}\r\n");
        }
        if !offer.subprotocols.is_empty() {
            let names = offer.subprotocols.join(", ");
            further += &format!("Sec-WebSocket-Protocol: {names}\r\n");
        }
        offer.fields.iter().for_each(|field| further += &format!("{field}\r\n"));
        let request = |topic| {
            let (path, host) = (target.path_of(topic), &target.host);
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
                 Sec-WebSocket-Version: 13\r\n{further}\r\n"
            );
            request.into_bytes()
        };
        Self { requests: (0..topics.max(1)).map(request).collect(), accept, offer }
    }

    /// The request for a topic.
    pub fn request(&self, topic: u32) -> &[u8] {
        self.requests.get(topic as usize).map_or(&[], Vec::as_slice)
    }

    /// Checks the response at the start of `bytes` and returns its length, with that of the interim
    /// responses before it (RFC 9110 section 15.2); `None` when it is not complete yet.
    ///
    /// # Errors
    /// Why this response opens no WebSocket.
    pub fn check(&self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        check_response(bytes, |response, body| self.judge(response, body))
    }

    fn judge(&self, response: &Response<'_, '_>, body: &[u8]) -> Result<(), Fault> {
        let refused = |text: String| Err(Fault::Handshake(text));
        if response.code != Some(101) {
            return Err(refusal(response, body));
        }
        let field = |name: &str| {
            let mut found = response.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
            found.next().map(|field| String::from_utf8_lossy(field.value))
        };
        let has_token = |name: &str, token: &str| {
            let value = field(name).unwrap_or_default();
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
        };
        if !has_token("Upgrade", "websocket") || !has_token("Connection", "Upgrade") {
            return refused("status 101 without an upgrade to websocket".to_owned());
        }
        match field("Sec-WebSocket-Accept") {
            Some(accept) if accept.trim() == self.accept => {}
            Some(_) => return refused("the Sec-WebSocket-Accept field is wrong".to_owned()),
            None => return refused("the Sec-WebSocket-Accept field is missing".to_owned()),
        }
        let Offer { compression, subprotocols, .. } = &self.offer;
        let extensions = field("Sec-WebSocket-Extensions").unwrap_or_default();
        if *compression && negotiation::accepted(extensions.as_bytes()).is_none() {
            return refused(format!("compression is not granted as asked for: \"{extensions}\""));
        }
        let chosen = field("Sec-WebSocket-Protocol").unwrap_or_default();
        if !subprotocols.is_empty() && !subprotocols.iter().any(|name| *name == chosen.trim()) {
            let text = format!("none of the subprotocols that were asked for: \"{chosen}\"");
            return refused(text);
        }
        for (unasked, was_asked) in [
            ("Sec-WebSocket-Extensions", *compression),
            ("Sec-WebSocket-Protocol", !subprotocols.is_empty()),
        ] {
            if !was_asked && field(unasked).is_some_and(|value| !value.is_empty()) {
                return refused(format!("an answer to no {unasked} field of ours"));
            }
        }
        Ok(())
    }
}

/// Lets `judge` look at the response at the start of `bytes`, behind interim ones, and at what has
/// come of its body; returns the length of all heads, or `None` when the last is not complete yet.
///
/// # Errors
/// What is no response, too long, or wrong in the opinion of `judge`.
pub fn check_response(
    bytes: &[u8],
    judge: impl FnOnce(&Response<'_, '_>, &[u8]) -> Result<(), Fault>,
) -> Result<Option<usize>, Fault> {
    let mut start = 0;
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MOST];
        let mut response = Response::new(&mut fields);
        let length = match response.parse(&bytes[start..]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_MOST => {
                let text = format!("a response head of more than {HEAD_BYTES_MOST} bytes");
                return Err(Fault::Handshake(text));
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => {
                return Err(Fault::Handshake(format!("the response is no HTTP: {error}")));
            }
        };
        start += length;
        match response.code {
            Some(100 | 102..200) => {}
            _ => return judge(&response, &bytes[start..]).map(|()| Some(start)),
        }
    }
}

/// What a response says that refuses something.
pub fn refusal(response: &Response<'_, '_>, body: &[u8]) -> Fault {
    let (status, reason) = (response.code.unwrap_or(0), response.reason.unwrap_or_default());
    let body = String::from_utf8_lossy(body);
    let line = body.lines().next().unwrap_or_default();
    let line: String = line.chars().take(BODY_CHARACTERS).collect();
    let separator = if line.is_empty() { "" } else { ": " };
    Fault::Handshake(format!("refused with status {status} {reason}{separator}{line}"))
}

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const FIELDS_MOST: usize = 64;
const HEAD_BYTES_MOST: usize = 16 << 10;
/// Of a refusal's body, what is told.
const BODY_CHARACTERS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 6455 section 1.3 and its answer.
    const SEED: &[u8; 16] = b"the sample nonce";
    const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    #[test]
    fn compression_must_be_granted_without_context() {
        let target: Target = "ws://127.0.0.1:1/".parse().expect("a URL");
        let offer = Offer { compression: true, ..Offer::default() };
        let handshake = Handshake::new(&target, 1, offer, u128::from_le_bytes(*SEED));
        let request = str::from_utf8(handshake.request(0)).expect("ASCII");
        assert!(
            request.contains("\r\nSec-WebSocket-Extensions: permessage-deflate; "),
            "{request}"
        );
        let head = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        for (answer, is_granted) in [
            ("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n", true),
            ("Sec-WebSocket-Extensions: permessage-deflate\r\n", false),
            ("", false),
        ] {
            let response = format!("{head}{ACCEPT}{answer}\r\n");
            assert_eq!(handshake.check(response.as_bytes()).is_ok(), is_granted, "{answer}");
        }
    }

    #[test]
    fn one_of_the_subprotocols_must_be_chosen() {
        let target: Target = "ws://127.0.0.1:1/".parse().expect("a URL");
        let offer = Offer {
            subprotocols: vec!["chat".to_owned(), "other".to_owned()],
            fields: vec!["X-Trial: 1".to_owned()],
            ..Offer::default()
        };
        let handshake = Handshake::new(&target, 1, offer, u128::from_le_bytes(*SEED));
        let request = str::from_utf8(handshake.request(0)).expect("ASCII");
        let fields = "\r\nSec-WebSocket-Protocol: chat, other\r\nX-Trial: 1\r\n\r\n";
        assert!(request.ends_with(fields), "{request}");
        let head = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        for (answer, is_granted) in [
            ("Sec-WebSocket-Protocol: other\r\n", true),
            ("Sec-WebSocket-Protocol: chat, other\r\n", false),
            ("Sec-WebSocket-Protocol: third\r\n", false),
            ("", false),
        ] {
            let response = format!("{head}{ACCEPT}{answer}\r\n");
            assert_eq!(handshake.check(response.as_bytes()).is_ok(), is_granted, "{answer}");
        }
    }

    fn check(response: &str) -> Result<Option<usize>, String> {
        let target: Target = "ws://127.0.0.1:1/a{topic}".parse().expect("a URL");
        let handshake = Handshake::new(&target, 2, Offer::default(), u128::from_le_bytes(*SEED));
        let request = str::from_utf8(handshake.request(1)).expect("ASCII");
        assert!(request.starts_with("GET /a1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"), "{request}");
        assert!(request.contains("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{request}");
        handshake.check(response.as_bytes()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn an_upgrade_is_complete_with_its_last_byte() {
        let head = format!(
            "HTTP/1.1 101 x\r\nconnection: close, upgrade\r\nUPGRADE: WebSocket\r\n{ACCEPT}\r\n"
        );
        for cut in 0..head.len() {
            assert_eq!(check(&head[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(check(&format!("{head}more")), Ok(Some(head.len())));
    }

    #[test]
    fn interim_responses_are_skipped_within_bounds() {
        let upgrade =
            format!("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{ACCEPT}\r\n");
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let all = format!("{interim}{upgrade}");
        for cut in 0..all.len() {
            assert_eq!(check(&all[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(check(&format!("{all}more")), Ok(Some(all.len())));
        let refusal = check(&format!("{interim}HTTP/1.1 401 No\r\n\r\n")).expect_err("refused");
        assert!(refusal.contains("status 401"), "{refusal}");
        let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(HEAD_BYTES_MOST / 20);
        assert!(check(&endless).expect_err("endless").contains("more than"));
    }

    #[test]
    fn whatever_else_is_refused_says_why() {
        let upgrade = "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        for (response, part) in [
            (
                "HTTP/1.1 503 Busy\r\n\r\nfull, come back\nlater".into(),
                "status 503 Busy: full, come",
            ),
            ("SSH-2.0-OpenSSH_9\r\n\r\n".to_owned(), "no HTTP"),
            ("HTTP/1.1 101 x\r\n\r\n".into(), "without an upgrade"),
            (format!("{upgrade}\r\n"), "missing"),
            (format!("{upgrade}Sec-WebSocket-Accept: x\r\n\r\n"), "wrong"),
            (format!("{upgrade}{ACCEPT}Sec-WebSocket-Extensions: a\r\n\r\n"), "Extensions"),
            (format!("HTTP/1.1 101 {}", "x".repeat(HEAD_BYTES_MOST)), "more than"),
        ] {
            let fault = check(&response).expect_err(&response);
            assert!(fault.contains(part), "{fault}");
        }
    }
}
