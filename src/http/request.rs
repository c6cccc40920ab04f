//! A request head reduced to what decisions need, or the reason why it is none.

use httparse::{EMPTY_HEADER, Error, Status};

use super::body::Framing;
use super::refusal::{Refusal, Refused};
use crate::config::Authority;

/// What a complete and well-formed request head says.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) method: Method,
    pub(super) target: &'a str,
    /// What `Host` says; absent from HTTP/1.0 clients alone.
    pub(super) host: Option<Authority<'a>>,
    /// HTTP/1.1; otherwise 1.0.
    pub(super) http_11: bool,
    /// How long the body is that follows.
    pub(super) body: Framing,
    /// Whether the client wants the connection to stay (RFC 9112 section 9.3).
    pub(super) keep_alive: bool,
    /// `Connection` lists `upgrade`.
    pub(super) connection_upgrade: bool,
    /// `Upgrade` lists `websocket`.
    pub(super) upgrade_websocket: bool,
    pub(super) version: Field<'a>,
    pub(super) key: Field<'a>,
    pub(super) origin: Field<'a>,
    pub(super) authorization: Field<'a>,
    /// The key of a call of the API, and how errors of that are told.
    pub(super) api_key: Field<'a>,
    pub(super) error_mode: Field<'a>,
    /// Values of `Cookie`, each a list.
    pub(super) cookies: Vec<&'a [u8]>,
    pub(super) content_type: Field<'a>,
    /// The content is compressed or otherwise encoded.
    pub(super) has_content_encoding: bool,
    pub(super) expect: Field<'a>,
    /// `Access-Control-Request-Headers`.
    pub(super) requested_headers: Field<'a>,
    pub(super) if_none_match: Field<'a>,
    /// Values of `Sec-WebSocket-Protocol`, each a list.
    pub(super) protocols: Vec<&'a [u8]>,
    /// Values of `Sec-WebSocket-Extensions`, each a list.
    pub(super) extensions: Vec<&'a [u8]>,
    /// Values of `X-Forwarded-For`, each a list.
    pub(super) x_forwarded_for: Vec<&'a [u8]>,
    /// Values of `Forwarded`, each a list.
    pub(super) forwarded: Vec<&'a [u8]>,
    /// What the client calls itself.
    pub(super) user_agent: Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    /// Reads a head of at most `head_bytes` bytes and `header_count` fields from the start of
    /// `input`.
    ///
    /// Returns it with its length, or `None` when it is not complete yet. The answer does not
    /// depend on how much of what follows the head has arrived.
    pub(super) fn parse(
        input: &'a [u8],
        head_bytes: usize,
        header_count: usize,
    ) -> Result<Option<(Self, usize)>, Refused> {
        let window = input.get(..head_bytes).unwrap_or(input);
        let mut few = [EMPTY_HEADER; USUAL_HEADERS];
        let mut many;
        let headers = match few.get_mut(..header_count) {
            Some(few) => few,
            None => {
                many = vec![EMPTY_HEADER; header_count];
                many.as_mut_slice()
            }
        };
        let mut request = httparse::Request::new(headers);
        match request.parse(window).map_err(refused)? {
            Status::Complete(length) => Ok(Some((Self::collect(&request)?, length))),
            Status::Partial if window.len() < head_bytes => Ok(None),
            Status::Partial => Err(too_large(window)),
        }
    }

    fn collect(request: &httparse::Request<'_, 'a>) -> Result<Self, Refused> {
        let http_11 = request.version == Some(1);
        let mut head = Self {
            method: Method::from(request.method.unwrap_or_default()),
            target: request.path.unwrap_or_default(),
            host: None,
            http_11,
            body: Framing::Absent,
            keep_alive: http_11,
            connection_upgrade: false,
            upgrade_websocket: false,
            version: Field::Absent,
            key: Field::Absent,
            origin: Field::Absent,
            authorization: Field::Absent,
            api_key: Field::Absent,
            error_mode: Field::Absent,
            cookies: Vec::new(),
            content_type: Field::Absent,
            has_content_encoding: false,
            expect: Field::Absent,
            requested_headers: Field::Absent,
            if_none_match: Field::Absent,
            protocols: Vec::new(),
            extensions: Vec::new(),
            x_forwarded_for: Vec::new(),
            forwarded: Vec::new(),
            user_agent: None,
        };
        let mut host = Field::Absent;
        let (mut length, mut coding) = (Field::Absent, Field::Absent);
        let mut close = false;
        for header in request.headers.iter() {
            let (name, value) = (header.name, header.value.trim_ascii());
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("Host") {
                host.add(value);
            } else if is("Connection") {
                head.connection_upgrade |= lists(value, "upgrade");
                head.keep_alive |= lists(value, "keep-alive");
                close |= lists(value, "close");
            } else if is("Upgrade") {
                head.upgrade_websocket |= lists(value, "websocket");
            } else if is("Sec-WebSocket-Key") {
                head.key.add(value);
            } else if is("Sec-WebSocket-Version") {
                head.version.add(value);
            } else if is("Sec-WebSocket-Protocol") {
                head.protocols.push(value);
            } else if is("Sec-WebSocket-Extensions") {
                head.extensions.push(value);
            } else if is("Origin") {
                head.origin.add(value);
            } else if is("Authorization") {
                head.authorization.add(value);
            } else if is("X-API-Key") {
                head.api_key.add(value);
            } else if is("X-Centrifugo-Error-Mode") {
                head.error_mode.add(value);
            } else if is("Cookie") {
                head.cookies.push(value);
            } else if is("Content-Length") {
                length.add(value);
            } else if is("Transfer-Encoding") {
                coding.add(value);
            } else if is("Content-Type") {
                head.content_type.add(value);
            } else if is("Content-Encoding") {
                head.has_content_encoding |= !value.eq_ignore_ascii_case(b"identity");
            } else if is("Expect") && http_11 {
                head.expect.add(value);
            } else if is("Access-Control-Request-Headers") {
                head.requested_headers.add(value);
            } else if is("If-None-Match") {
                head.if_none_match.add(value);
            } else if is("X-Forwarded-For") {
                head.x_forwarded_for.push(value);
            } else if is("User-Agent") {
                head.user_agent = Some(value);
            } else if is("Forwarded") {
                head.forwarded.push(value);
            }
        }
        head.host = authority(&host, http_11)?;
        head.body = framing(&length, &coding, http_11)?;
        head.keep_alive &= !close;
        Ok(head)
    }
}

/// The methods that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Post,
    Options,
    Other,
}

impl From<&str> for Method {
    /// Methods are case-sensitive (RFC 9110 section 9.1).
    fn from(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

/// A header field that may appear once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field<'a> {
    Absent,
    Once(&'a [u8]),
    Repeated,
}

impl<'a> Field<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }
}

/// The elements of a comma-separated list, empty ones left out (RFC 9110 section 5.6.1).
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

fn lists(value: &[u8], token: &str) -> bool {
    elements(value).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// RFC 9112 section 3.2.
fn authority<'a>(host: &Field<'a>, http_11: bool) -> Result<Option<Authority<'a>>, Refused> {
    match host {
        Field::Absent if !http_11 => Ok(None),
        Field::Absent | Field::Once([]) => {
            Err(Refused::new(Refusal::MissingHost, "The Host header is missing."))
        }
        Field::Once(value) => match str::from_utf8(value).ok().and_then(Authority::parse) {
            Some(authority) => Ok(Some(authority)),
            None => Err(Refused::new(Refusal::BadRequest, "The Host header is not host[:port].")),
        },
        Field::Repeated => {
            Err(Refused::new(Refusal::BadRequest, "The Host header appears more than once."))
        }
    }
}

/// RFC 9112 sections 6.1 and 6.3: a length that is told in two ways may mean two requests to two
/// readers.
fn framing(length: &Field<'_>, coding: &Field<'_>, http_11: bool) -> Result<Framing, Refused> {
    let bad_request = |detail| Err(Refused::new(Refusal::BadRequest, detail));
    match (length, coding) {
        (Field::Absent, Field::Absent) => Ok(Framing::Absent),
        (_, Field::Absent) => content_length(length),
        (_, Field::Once(_) | Field::Repeated) if !http_11 => {
            bad_request("Transfer-Encoding is not part of HTTP/1.0.")
        }
        (Field::Absent, Field::Once(coding)) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Framing::Chunked)
        }
        (Field::Absent, Field::Once(_) | Field::Repeated) => Err(Refused::new(
            Refusal::UnknownTransferCoding,
            "The only transfer coding that is understood is chunked.",
        )),
        _ => bad_request("Both Content-Length and Transfer-Encoding are given."),
    }
}

/// What is beyond a number's range is beyond every limit as well.
fn content_length(length: &Field<'_>) -> Result<Framing, Refused> {
    let digits = match length {
        Field::Once(digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            digits
        }
        _ => {
            return Err(Refused::new(Refusal::BadRequest, "Content-Length is not one number."));
        }
    };
    let add =
        |bytes: u64, digit: &u8| bytes.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Ok(match digits.iter().fold(0, add) {
        0 => Framing::Absent,
        bytes => Framing::Length(bytes),
    })
}

fn refused(error: Error) -> Refused {
    let detail = match error {
        Error::TooManyHeaders => {
            return Refused::new(Refusal::HeadTooLarge, "The request has too many header fields.");
        }
        Error::HeaderName => "A header field has an invalid name.",
        Error::HeaderValue => "A header field has an invalid value.",
        Error::NewLine => "A line of the request head does not end with CR LF.",
        Error::Version => "The request is not HTTP/1.0 or HTTP/1.1.",
        Error::Status | Error::Token => "This is not an HTTP/1.1 request.",
    };
    Refused::new(Refusal::BadRequest, detail)
}

/// Which part of an incomplete head fills the window; empty lines may precede it (RFC 9112 section
/// 2.2).
fn too_large(window: &[u8]) -> Refused {
    let mut rest = window.iter().skip_while(|b| matches!(b, b'\r' | b'\n'));
    if rest.any(|b| *b == b'\n') {
        Refused::new(Refusal::HeadTooLarge, "The request head is too large.")
    } else {
        Refused::new(Refusal::UriTooLong, "The request line is too long.")
    }
}

/// Heads with at most this many fields allowed are read without touching the heap.
const USUAL_HEADERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(Head<'_>, usize)>, Refused> {
        Head::parse(text.as_bytes(), 512, 8)
    }

    fn head(text: &str) -> Head<'_> {
        parse(text).unwrap().unwrap().0
    }

    fn refusal(input: &[u8]) -> Refusal {
        Head::parse(input, 512, 8).unwrap_err().refusal
    }

    #[test]
    fn names_and_tokens_ignore_case_and_lists_span_fields() {
        let head = head(
            "GET / HTTP/1.1\r\nhOST: a\r\nconnection: foo\r\nCONNECTION: bar , , UPGRADE\r\n\
             upgrade: h2c,\r\nUpgrade: \tWebSocket \r\n\r\n",
        );
        assert!(head.connection_upgrade && head.upgrade_websocket && head.keep_alive);
    }

    #[test]
    fn a_token_is_not_a_substring() {
        let head = head(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrades\r\nUpgrade: websocket2\r\n\r\n",
        );
        assert!(!head.connection_upgrade && !head.upgrade_websocket);
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        for (version, connection, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: keep-alive, Close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.1", "Content-Length: 00\r\n", true),
        ] {
            let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
            assert_eq!(head(&text).keep_alive, expected, "{text}");
        }
    }

    #[test]
    fn host_is_required_once_and_valid() {
        assert!(parse("GET / HTTP/1.0\r\n\r\n").is_ok());
        for (fields, expected) in [
            ("", Refusal::MissingHost),
            ("Host:\r\n", Refusal::MissingHost),
            ("Host: a\r\nhost: a\r\n", Refusal::BadRequest),
            ("Host: a b\r\n", Refusal::BadRequest),
            ("Host: http://a/\r\n", Refusal::BadRequest),
            ("Host: \u{e9}\r\n", Refusal::BadRequest),
        ] {
            let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(refusal(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_length_of_a_body_is_told_in_one_way() {
        for (fields, expected) in [
            ("", Framing::Absent),
            ("Content-Length: 00\r\n", Framing::Absent),
            ("Content-Length: 3\r\n", Framing::Length(3)),
            ("Content-Length: 99999999999999999999999\r\n", Framing::Length(u64::MAX)),
            ("Transfer-Encoding: Chunked\r\n", Framing::Chunked),
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            assert_eq!(head(&text).body, expected, "{text}");
        }
        for (version, fields, expected) in [
            ("1.1", "Transfer-Encoding: gzip, chunked", Refusal::UnknownTransferCoding),
            ("1.1", "Transfer-Encoding: identity", Refusal::UnknownTransferCoding),
            (
                "1.1",
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Refusal::UnknownTransferCoding,
            ),
            ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 3", Refusal::BadRequest),
            ("1.0", "Transfer-Encoding: chunked", Refusal::BadRequest),
        ] {
            let text = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n\r\n");
            assert_eq!(refusal(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn content_length_is_one_number() {
        for fields in [
            "Content-Length: x",
            "Content-Length:",
            "Content-Length: -1",
            "Content-Length: 1\r\nContent-Length: 1",
        ] {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
            assert_eq!(refusal(text.as_bytes()), Refusal::BadRequest, "{text}");
        }
    }

    #[test]
    fn what_is_not_http_fails_at_its_first_bytes() {
        let client_hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00];
        let masked_text_frame = [0x81, 0x85, 1, 2, 3, 4];
        let garbage: [&[u8]; 7] = [
            &client_hello,
            &client_hello[..1],
            &masked_text_frame,
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"PRI * HTTP/2.0\r\n",
            b"GET  / HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\n Host: a",
        ];
        for input in garbage {
            assert_eq!(refusal(input), Refusal::BadRequest, "{input:?}");
        }
    }

    #[test]
    fn the_size_limit_holds_for_every_amount_of_input() {
        let filler = |count: usize| "a".repeat(count);
        let line = format!("GET /{} HTTP/1.1\r\n", filler(600));
        let fields = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", filler(600));
        for (text, expected) in [(line, Refusal::UriTooLong), (fields, Refusal::HeadTooLarge)] {
            for length in 0..=text.len() {
                let result = Head::parse(&text.as_bytes()[..length], 512, 8);
                match result {
                    Ok(None) => assert!(length < 512, "{length}"),
                    Ok(Some(_)) => panic!("accepted at {length}"),
                    Err(refused) => {
                        assert!(length >= 512 && refused.refusal == expected, "{length}")
                    }
                }
            }
        }
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_read() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let length = text.len();
        assert!(matches!(Head::parse(text.as_bytes(), length, 8), Ok(Some((_, n))) if n == length));
        assert_eq!(
            Head::parse(text.as_bytes(), length - 1, 8).unwrap_err().refusal,
            Refusal::HeadTooLarge
        );
    }

    #[test]
    fn the_field_limit_holds_below_and_above_the_usual_number() {
        for limit in [1, 64, 65, 1024] {
            let text = |count: usize| {
                let fields = "X: y\r\n".repeat(count - 1);
                format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
            };
            assert!(matches!(Head::parse(text(limit).as_bytes(), 65_536, limit), Ok(Some(_))));
            let refused = Head::parse(text(limit + 1).as_bytes(), 65_536, limit).unwrap_err();
            assert_eq!(refused.refusal, Refusal::HeadTooLarge);
        }
    }

    #[test]
    fn empty_lines_before_the_request_are_skipped() {
        let text = "\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n";
        let (head, length) = parse(text).unwrap().unwrap();
        assert_eq!((head.target, head.method, length), ("/x", Method::Get, text.len()));
    }
}
