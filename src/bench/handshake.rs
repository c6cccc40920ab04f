//! The opening handshake from the client's side (RFC 6455 section 4.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
    /// Whether compression was asked for, and must be granted.
    compression: bool,
}

impl Handshake {
    /// Requests for each of the target's topics, with a key made of `seed`, that ask for
    /// compression or not.
    pub fn new(target: &Target, topics: u32, compression: bool, seed: u128) -> Self {
        let offer = match compression {
            true => format!("Sec-WebSocket-Extensions: {SELF_CONTAINED_OFFER}\r\n"),
            false => String::new(),
        };
        let key = STANDARD.encode(seed.to_le_bytes());
        let accept = STANDARD.encode(Sha1::new().chain_update(&key).chain_update(GUID).finalize());
        let request = |topic| {
            let (path, host) = (target.path_of(topic), &target.host);
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
                 Sec-WebSocket-Version: 13\r\n{offer}\r\n"
            );
            request.into_bytes()
        };
        Self { requests: (0..topics.max(1)).map(request).collect(), accept, compression }
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
        let mut start = 0;
        loop {
            match self.check_one(&bytes[start..])? {
                None if bytes.len() > HEAD_BYTES_MOST => {
                    let text = format!("a response head of more than {HEAD_BYTES_MOST} bytes");
                    return Err(Fault::Handshake(text));
                }
                None => return Ok(None),
                Some(Response::Interim(length)) => start += length,
                Some(Response::Upgrade(length)) => return Ok(Some(start + length)),
            }
        }
    }

    fn check_one(&self, bytes: &[u8]) -> Result<Option<Response>, Fault> {
        let refused = |text: String| Err(Fault::Handshake(text));
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MOST];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return refused(format!("the response is no HTTP: {error}")),
        };
        let status = response.code.unwrap_or(0);
        if (100..200).contains(&status) && status != 101 {
            return Ok(Some(Response::Interim(length)));
        }
        if status != 101 {
            let body = String::from_utf8_lossy(&bytes[length..]);
            let line = body.lines().next().unwrap_or_default();
            let line: String = line.chars().take(BODY_CHARACTERS).collect();
            let reason = response.reason.unwrap_or_default();
            let separator = if line.is_empty() { "" } else { ": " };
            return refused(format!("refused with status {status} {reason}{separator}{line}"));
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
        let extensions = field("Sec-WebSocket-Extensions").unwrap_or_default();
        if self.compression && negotiation::accepted(extensions.as_bytes()).is_none() {
            return refused(format!("compression is not granted as asked for: \"{extensions}\""));
        }
        for unasked in ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"] {
            let was_asked = self.compression && unasked == "Sec-WebSocket-Extensions";
            if !was_asked && field(unasked).is_some_and(|value| !value.is_empty()) {
                return refused(format!("an answer to no {unasked} field of ours"));
            }
        }
        Ok(Some(Response::Upgrade(length)))
    }
}

/// A complete response that refuses nothing, and its bytes.
enum Response {
    /// Another one follows.
    Interim(usize),
    /// The WebSocket is open.
    Upgrade(usize),
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
        let handshake = Handshake::new(&target, 1, true, u128::from_le_bytes(*SEED));
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

    fn check(response: &str) -> Result<Option<usize>, String> {
        let target: Target = "ws://127.0.0.1:1/a{topic}".parse().expect("a URL");
        let handshake = Handshake::new(&target, 2, false, u128::from_le_bytes(*SEED));
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
