//! Requests and their bodies, from their bytes to the decisions about them: the same however they
//! arrive, within bounds, and upgraded only if a slow reading of RFC 6455 section 4.2.1 agrees.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringwire::authorization::Permissions;
use ringwire::config::{BroadcastAccess, Config, Mount, Root, Service};
use ringwire::http::{Answer, Conditions, Exchange, Policy, Route, Serving, Wish};
use ringwire::wire::deflate::negotiation::Terms;
use ringwire::wire::line::LineFraming;
use sha1::{Digest, Sha1};

/// The first byte says which limits hold and whether the server is open, the rest is the input.
pub fn check(data: &[u8]) {
    let Some((&choice, input)) = data.split_first() else { return };
    let input = &input[..input.len().min(INPUT_BYTES_MOST)];
    let serving = match choice & 0xf {
        1 => Serving::Full,
        2 => Serving::Draining,
        _ => Serving::Open,
    };
    let policy = Policy {
        compression: Some(Terms { server_takeover: true, client_takeover: true, window_bits: 15 }),
        root: if choice & 0x10 == 0 { Root::Echo } else { Root::Broadcast },
        permissions: Permissions {
            broadcast: match choice & 0x80 {
                0 => BroadcastAccess::Full,
                _ => BroadcastAccess::None,
            },
            anonymous: None,
        },
        mounts: mounts(),
        allow_origin: vec![ORIGIN.parse().expect("an origin")],
        subprotocols: vec!["chat".parse().expect("a token")],
        request_head_bytes: if choice & 0x20 == 0 { 512 } else { 64 },
        request_headers: if choice & 0x40 == 0 { 16 } else { 3 },
        message_bytes: MESSAGE_BYTES,
        ..Policy::new(&Config::default())
    };
    let conditions = Conditions::unlimited(&policy, serving);
    let ask = |input: &[u8]| Exchange::default().receive(input, &conditions);
    let whole = ask(input);
    judge(input, &policy, serving, &whole);
    if let Some(early) = (0..input.len()).map(|end| ask(&input[..end])).find(is_decided) {
        agree(input, &early, &whole);
    }
    let pieces = (0..input.len()).map(|place| &input[place..=place]);
    let bytewise = answers(pieces, &conditions);
    let whole = answers([input].into_iter(), &conditions);
    let (same, missing) = whole.split_at(bytewise.len().min(whole.len()));
    assert_eq!(bytewise, same, "{}", input.escape_ascii());
    // An incomplete head is not looked at again before its next line: that it is none is told then.
    let is_refusal = |answer: &Answer| matches!(answer, Answer::Respond { keep_alive: false, .. });
    assert!(missing.len() <= 1 && missing.iter().all(is_refusal), "{missing:?}");
}

/// All answers to what arrives in these pieces, up to an upgrade or the end of the connection; what
/// a client is told to go on with depends on how much it has sent by then.
fn answers<'i>(pieces: impl Iterator<Item = &'i [u8]>, conditions: &Conditions<'_>) -> Vec<Answer> {
    let (mut exchange, mut answers) = (Exchange::default(), Vec::new());
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            let mut answer = exchange.receive(&piece[at..], conditions);
            match &mut answer {
                Answer::Incomplete => break,
                Answer::Blocked { .. } | Answer::Ask { .. } => panic!("everything is allowed"),
                Answer::Call { .. } => panic!("there is no API"),
                Answer::Continue { consumed, .. } => {
                    at += *consumed;
                    continue;
                }
                Answer::Elsewhere { .. } => panic!("there is one shard"),
                Answer::Upgrade { consumed, .. }
                | Answer::Session { consumed, .. }
                | Answer::Stream { consumed, .. }
                | Answer::Publish { consumed, .. }
                | Answer::Respond { consumed, .. } => at += std::mem::take(consumed),
            }
            let goes_on = matches!(
                answer,
                Answer::Publish { keep_alive: true, .. } | Answer::Respond { keep_alive: true, .. }
            );
            answers.push(answer);
            if !goes_on {
                return answers;
            }
        }
    }
    answers
}

/// One path, and one that takes its topic from the request.
fn mounts() -> Vec<Mount> {
    let rooms = Service::Broadcast { topic: None, exclude_self: true };
    [("/a", Service::Echo), ("/rooms/{topic}", rooms)]
        .map(|(path, service)| {
            let sockjs = Some(Box::default());
            Mount { path: path.parse().expect("a path"), service, sockjs }
        })
        .to_vec()
}

fn is_decided(answer: &Answer) -> bool {
    !matches!(answer, Answer::Incomplete | Answer::Continue { .. })
}

/// Whether the first decision about a part of the input is the one about all of it. How much is
/// consumed means nothing when nothing may follow.
fn agree(input: &[u8], early: &Answer, whole: &Answer) {
    match (early, whole) {
        (
            Answer::Respond { response, keep_alive: false, refusal, .. },
            Answer::Respond { response: other, keep_alive: false, refusal: reason, .. },
        ) => assert_eq!((response, refusal), (other, reason), "{}", input.escape_ascii()),
        _ => assert_eq!(early, whole, "{}", input.escape_ascii()),
    }
}

fn judge(input: &[u8], policy: &Policy, serving: Serving, answer: &Answer) {
    match answer {
        // A body may have any length, and come in any chunks.
        Answer::Incomplete | Answer::Continue { .. } => {
            assert!(input.len() < policy.request_head_bytes || input.contains(&b'\n'));
        }
        Answer::Blocked { .. } | Answer::Ask { .. } => panic!("everything is allowed"),
        Answer::Call { .. } => panic!("there is no API"),
        Answer::Elsewhere { .. } => panic!("there is one shard"),
        Answer::Session { consumed, request } => {
            assert!(*consumed <= input.len());
            let head = String::from_utf8_lossy(&input[..*consumed]);
            let line = head.trim_start_matches(['\r', '\n']).lines().next().expect("a line");
            let path = line.split(' ').nth(1).expect("a path").split('?').next();
            let last = path.and_then(|path| path.trim_end_matches('/').rsplit('/').next());
            let is_send = last.is_some_and(|last| last.ends_with("_send"));
            assert_eq!(matches!(request.wish, Wish::Send(_)), is_send, "{line}");
            if let Route::Broadcast { topic, .. } = &request.route {
                assert!(is_topic(topic, policy), "{topic}");
            }
        }
        Answer::Publish { consumed, posted, response, .. } => {
            assert!(*consumed <= input.len() && posted.message.payload().len() <= MESSAGE_BYTES);
            assert!(response.starts_with(b"HTTP/1.1 202 "));
        }
        Answer::Upgrade { consumed, response, route, .. } => {
            let head = String::from_utf8_lossy(&input[..*consumed]);
            if let Route::Broadcast { topic, may_publish, exclude_self } = route {
                assert!(*may_publish && is_topic(topic, policy));
                let told = parameter(&head, "exclude_self");
                let is_as_told = told.is_none_or(|told| told == exclude_self.to_string());
                assert!(is_as_told, "{head}");
            }
            assert!(*consumed <= policy.request_head_bytes && serving == Serving::Open);
            let response = std::str::from_utf8(response).expect("ASCII");
            assert!(response.starts_with("HTTP/1.1 101 ") && response.ends_with("\r\n\r\n"));
            assert_eq!(response.matches("\r\n\r\n").count(), 1, "{response}");
            let key = upgrade_key(&input[..*consumed]).expect("a handshake of RFC 6455");
            let accept =
                STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
            assert!(response.contains(&format!("\r\nSec-WebSocket-Accept: {accept}\r\n")));
        }
        Answer::Stream { consumed, topic, response, framing } => {
            assert!(*consumed <= policy.request_head_bytes && serving == Serving::Open);
            assert!(is_topic(topic, policy), "{topic}");
            let head = String::from_utf8_lossy(&input[..*consumed]);
            let head = head.trim_start_matches(['\r', '\n']);
            let line = head.lines().next().expect("a line");
            assert!(
                line.starts_with("GET ") && parameter(head, "mode").as_deref() == Some("stream")
            );
            let is_new = line.ends_with(" HTTP/1.1");
            assert!(!is_new || !lists(head, "upgrade", "websocket"), "{head}");
            assert!(
                fields(head, "content-length").iter().all(|it| it.trim_matches('0').is_empty())
            );
            assert!(fields(head, "transfer-encoding").is_empty(), "{head}");
            let origins = fields(head, "origin");
            assert!(origins.iter().all(|origin| is_allowed(origin, &host_of(head))), "{head}");
            let (begun, body) = split_head(response);
            assert!(begun.starts_with("HTTP/1.1 200 ") && body.is_empty());
            assert_eq!(fields(begun, "access-control-allow-origin"), origins);
            let coding = fields(begun, "transfer-encoding").concat();
            assert_eq!((coding == "chunked", *framing == LineFraming::Chunked), (is_new, is_new));
        }
        Answer::Respond { consumed, response, keep_alive, refusal } => {
            assert!(*consumed <= input.len());
            assert!(!keep_alive || *consumed <= policy.request_head_bytes);
            let (head, body) = split_head(response);
            let status = head["HTTP/1.1 ".len()..].split(' ').next().expect("a status");
            let expected = refusal.map(|refusal| refusal.status().to_string());
            assert!(expected.is_none_or(|expected| status == expected), "{head}");
            let length = fields(head, "content-length");
            // What has no end, or no content, has no length.
            let is_head = input.trim_ascii_start().starts_with(b"HEAD ");
            if ["204", "304"].contains(&status) || is_head && length.is_empty() {
                return assert!(body.is_empty() && length.is_empty(), "{head}");
            }
            let length: usize = length.concat().parse().expect("a length");
            assert!(body.is_empty() || body.len() == length, "{head}");
        }
    }
}

fn split_head(response: &[u8]) -> (&str, &[u8]) {
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    (std::str::from_utf8(&response[..end]).expect("ASCII"), &response[end + 4..])
}

/// The key of a request that a server may accept; `None` is any other request.
fn upgrade_key(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let head = head.trim_start_matches(['\r', '\n']);
    let once = |name| match &*fields(head, name) {
        [value] => Some(value.clone()),
        _ => None,
    };
    let line = head.lines().next()?;
    let key = once("sec-websocket-key")?;
    let is_handshake = line.starts_with("GET ")
        && line.ends_with(" HTTP/1.1")
        && once("host").is_some_and(|host| !host.is_empty())
        && lists(head, "upgrade", "websocket")
        && lists(head, "connection", "upgrade")
        && once("sec-websocket-version")? == "13"
        && is_nonce(&key)
        && fields(head, "origin").iter().all(|origin| is_allowed(origin, &host_of(head)));
    is_handshake.then_some(key)
}

fn is_topic(name: &str, policy: &Policy) -> bool {
    let is_name = (1..=255).contains(&name.len()) && !name.contains(char::is_control);
    is_name && policy.permissions.broadcast == BroadcastAccess::Full
}

/// The last value of a parameter of the query, read letter by letter.
fn parameter(head: &str, name: &str) -> Option<String> {
    let target = head.trim_start_matches(['\r', '\n']).split(' ').nth(1)?;
    let (_, query) = target.split_once('?')?;
    let (mut names, mut is_value) = (vec![[Vec::new(), Vec::new()]], false);
    let mut letters = query.bytes();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            b'&' => {
                names.push([Vec::new(), Vec::new()]);
                is_value = false;
                continue;
            }
            b'=' if !is_value => {
                is_value = true;
                continue;
            }
            b'+' => b' ',
            b'%' => {
                let digits = [letters.next(), letters.next()].map(|it| it.expect("a digit"));
                let digits = std::str::from_utf8(&digits).expect("digits").to_owned();
                assert!(!digits.starts_with('+'), "{head}");
                u8::from_str_radix(&digits, 16).expect("an escape that was let pass")
            }
            other => other,
        };
        names.last_mut().expect("there is one")[usize::from(is_value)].push(letter);
    }
    let text = |bytes| String::from_utf8(bytes).expect("what was let pass");
    let pairs = names.into_iter().map(|[name, value]| (text(name), text(value)));
    pairs.rev().find(|(found, _)| found == name).map(|(_, value)| value)
}

/// Whether a list that may be in several fields has an element.
fn lists(head: &str, name: &str, token: &str) -> bool {
    let values = fields(head, name).join(",");
    values.split(',').any(|element| element.trim().eq_ignore_ascii_case(token))
}

/// Whether a key is 16 bytes in base64; bits that no byte uses may be anything.
fn is_nonce(key: &str) -> bool {
    let digits = key.strip_suffix("==").unwrap_or_default();
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    digits.len() == 22 && digits.bytes().all(is_digit)
}

/// Whether a page of `origin` is allowed by the list, or is one of the server itself.
fn is_allowed(origin: &str, host: &str) -> bool {
    let origin = origin.to_ascii_lowercase();
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let authority = with_port(authority, default);
    (scheme, &*authority) == ("https", "a.org:443") || authority == with_port(host, default)
}

/// What the request was sent to: the authority of an absolute URL, else `Host`.
fn host_of(head: &str) -> String {
    let target = head.split(' ').nth(1).unwrap_or_default();
    let authority = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => {
            rest.split(['/', '?']).next().unwrap_or_default().to_owned()
        }
        _ => fields(head, "host").concat(),
    };
    authority.to_ascii_lowercase()
}

/// An authority whose port is written, and in one way.
fn with_port(authority: &str, default: &str) -> String {
    let end = authority.rfind(']').unwrap_or(0);
    match authority[end..].find(':') {
        Some(colon) => {
            let (host, port) = authority.split_at(end + colon);
            let port = port[1..].trim_start_matches('0');
            format!("{host}:{}", if authority.ends_with(':') { default } else { port })
        }
        None => format!("{authority}:{default}"),
    }
}

/// The values of all fields called `name`.
fn fields(head: &str, name: &str) -> Vec<String> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim_ascii().to_owned()).collect()
}

/// Every prefix is tried, so larger inputs would take too long.
const INPUT_BYTES_MOST: usize = 700;
/// Bytes of a body, at the most.
const MESSAGE_BYTES: usize = 100;
const ORIGIN: &str = "https://a.org";
/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
