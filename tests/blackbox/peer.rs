//! A raw peer: a plain socket plus just enough HTTP and framing to break every rule on purpose.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, SockRef, Socket, Type};

use crate::HANG;

/// One end of a connection to the server, below any WebSocket library.
pub struct Peer<S = TcpStream> {
    stream: S,
    received: Vec<u8>,
    /// Whether compression was agreed on.
    compression: bool,
}

/// A response as received.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Content, as long as Content-Length says.
    pub body: Vec<u8>,
}

/// A frame as received from the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// The FIN bit.
    pub fin: bool,
    /// The opcode, one of the constants below.
    pub opcode: u8,
    /// The RSV1 bit, which marks compressed messages (RFC 7692 section 6).
    pub compressed: bool,
    /// The payload.
    pub payload: Vec<u8>,
}

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The FIN bit in the first byte of a frame.
pub const FIN: u8 = 0x80;

/// The bit of compressed messages in the first byte of a frame.
pub const RSV1: u8 = 0x40;

/// The key and its answer that RFC 6455 section 1.3 shows.
pub const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl Peer<TcpStream> {
    /// Connects and sends nothing.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        Self::with_stream(stream)
    }

    /// Connects with a receive buffer that holds next to nothing, so that not reading is felt.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER_NARROW_BYTES).expect("SO_RCVBUF");
        socket.connect(&address.into()).expect("the server accepts");
        Self::with_stream(socket.into())
    }

    /// Connects and asks for an upgrade with some more fields, which may be refused.
    pub fn try_upgrade(address: SocketAddr, path: &str, fields: &str) -> (Self, Response) {
        let mut peer = Self::connect(address);
        peer.send(&upgrade_request(path, fields));
        let response = peer.read_response();
        (peer, response)
    }

    /// The status that a message of one byte gets which is published with some more fields.
    pub fn post(address: SocketAddr, topic: &str, fields: &str) -> u16 {
        let mut peer = Self::connect(address);
        let head = format!("POST /broadcast/{topic} HTTP/1.1\r\nHost: localhost\r\n{fields}");
        peer.send(format!("{head}Content-Length: 1\r\n\r\nx").as_bytes());
        peer.read_response().status
    }

    /// Connects and upgrades on a path that starts with a slash.
    pub fn upgrade(address: SocketAddr, path: &str) -> Self {
        Self::connect(address).upgraded(path)
    }

    /// The socket, for a thread that writes while this one reads.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("descriptors are left")
    }

    /// Says that nothing more will be sent, and still reads.
    pub fn shut_down_writing(&self) {
        self.stream.shutdown(Shutdown::Write).expect("still connected");
    }

    /// Ends with a TCP reset instead of a FIN.
    pub fn reset(self) {
        let linger = Some(std::time::Duration::ZERO);
        SockRef::from(&self.stream).set_linger(linger).expect("SO_LINGER");
    }

    /// The error that the socket has met since it was last asked (`SO_ERROR`).
    pub fn error(&self) -> Option<ErrorKind> {
        self.stream.take_error().expect("an open socket").map(|error| error.kind())
    }

    /// Whether something has arrived that was not read yet.
    pub fn has_input(&self) -> bool {
        self.stream.set_nonblocking(true).expect("fcntl");
        let has_input = self.stream.peek(&mut [0]).is_ok();
        self.stream.set_nonblocking(false).expect("fcntl");
        has_input || !self.received.is_empty()
    }

    /// Whether the server ends the connection, in whatever way, instead of sending anything.
    pub fn is_turned_away(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// A peer on a stream that is connected.
    pub fn with_stream(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(HANG)).expect("SO_RCVTIMEO");
        stream.set_write_timeout(Some(HANG)).expect("SO_SNDTIMEO");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, received: Vec::new(), compression: false }
    }
}

impl Peer<UnixStream> {
    /// Connects to a Unix socket and sends nothing.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(HANG))?;
        Ok(Self { stream, received: Vec::new(), compression: false })
    }
}

impl<S: Read + Write> Peer<S> {
    /// A peer on whatever carries bytes both ways.
    pub fn over(stream: S) -> Self {
        Self { stream, received: Vec::new(), compression: false }
    }

    /// What carries its bytes.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Upgrades on a path that starts with a slash.
    pub fn upgraded(mut self, path: &str) -> Self {
        self.send(&upgrade_request(path, ""));
        let response = self.read_response();
        assert_eq!(response.status, 101, "upgrade of {path}: {response:?}");
        self
    }

    /// Upgrades with an offer of compression, which the server must accept; returns its answer.
    pub fn upgraded_with(mut self, path: &str, offer: &str) -> (Self, String) {
        let field = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        self.send(&upgrade_request(path, &field));
        let response = self.read_response();
        assert_eq!(response.status, 101, "upgrade of {path}: {response:?}");
        let answer = response.header("sec-websocket-extensions").expect("an agreement");
        self.compression = true;
        (self, answer.to_owned())
    }

    /// Sends bytes as they are; the server must still take them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server still reads");
    }

    /// Sends bytes that the server may refuse to take because it has already failed the connection.
    pub fn send_unheard(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a masked frame with FIN.
    pub fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.send(&frame(FIN | opcode, payload));
    }

    /// Sends a close frame with a code.
    pub fn send_close(&mut self, code: u16) {
        self.send_frame(CLOSE, &code.to_be_bytes());
    }

    /// Requests a path and reads the answer.
    pub fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        self.read_response()
    }

    /// Reads a whole response.
    pub fn read_response(&mut self) -> Response {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut fields);
            let status = head.parse(&self.received).expect("the response is HTTP");
            let httparse::Status::Complete(head_bytes) = status else {
                assert!(self.fill(), "the connection ended inside a response head");
                continue;
            };
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("an ASCII value");
            let pairs = head.headers.iter();
            let mut response = Response {
                status: head.code.expect("parsed"),
                headers: pairs.map(|h| (h.name.to_ascii_lowercase(), text(h.value))).collect(),
                body: Vec::new(),
            };
            let length = response.header("content-length").map(str::to_owned);
            let body_bytes = length.map_or(0, |length| length.parse().expect("a length"));
            self.received.drain(..head_bytes);
            self.fill_to(body_bytes);
            response.body = self.received.drain(..body_bytes).collect();
            return response;
        }
    }

    /// Reads one chunk of a streamed response, the last one being empty, or `None` when the
    /// connection ends before it begins.
    pub fn read_chunk(&mut self) -> Option<Vec<u8>> {
        loop {
            if self.received.is_empty() && !self.fill() {
                return None;
            }
            let parsed = httparse::parse_chunk_size(&self.received).expect("a length");
            let httparse::Status::Complete((start, bytes)) = parsed else {
                self.fill_to(self.received.len() + 1);
                continue;
            };
            let end = start + usize::try_from(bytes).expect("a length that memory holds");
            self.fill_to(end + 2);
            let chunk = self.received[start..end].to_vec();
            assert_eq!(&self.received[end..end + 2], b"\r\n", "CR LF behind a chunk");
            self.received.drain(..end + 2);
            return Some(chunk);
        }
    }

    /// Reads one frame and holds the server to RFC 6455 section 5.1: its frames have no mask.
    pub fn read_frame(&mut self) -> Frame {
        self.try_read_frame().expect("a frame, not the end of the connection")
    }

    /// Reads one frame, or `None` when the connection ends before it begins.
    pub fn try_read_frame(&mut self) -> Option<Frame> {
        if self.received.is_empty() && !self.fill() {
            return None;
        }
        self.fill_to(2);
        let (first, second) = (self.received[0], self.received[1]);
        let allowed = if self.compression { RSV1 } else { 0 };
        assert_eq!(first & 0x70 & !allowed, 0, "reserved bits in a frame of the server");
        assert_eq!(second & 0x80, 0, "a masked frame from the server");
        let (length_bytes, mut payload_bytes) = match second {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        self.fill_to(2 + length_bytes);
        for byte in &self.received[2..2 + length_bytes] {
            payload_bytes = payload_bytes << 8 | u64::from(*byte);
        }
        let begin = 2 + length_bytes;
        let end = begin + usize::try_from(payload_bytes).expect("a length that memory holds");
        self.fill_to(end);
        let payload = self.received[begin..end].to_vec();
        self.received.drain(..end);
        let (fin, compressed) = (first & FIN != 0, first & RSV1 != 0);
        Some(Frame { fin, opcode: first & 0x0f, compressed, payload })
    }

    /// Reads a frame and checks all of it. Pings that nobody asks for are answered: on a slow machine
    /// a test may take longer than the interval between them.
    pub fn expect(&mut self, opcode: u8, payload: &[u8]) {
        let frame = loop {
            let frame = self.read_frame();
            if frame.opcode != PING || opcode == PING {
                break frame;
            }
            self.send_frame(PONG, &frame.payload);
        };
        assert_eq!((frame.fin, frame.opcode), (true, opcode), "kind of {frame:.60?}");
        assert!(frame.payload == payload, "payload of {} bytes differs", frame.payload.len());
    }

    /// Reads up to the close frame and returns its code and reason; data before it is skipped.
    pub fn read_close(&mut self) -> (u16, String) {
        loop {
            let frame = self.read_frame();
            if frame.opcode == CLOSE {
                return close_payload(&frame.payload);
            }
        }
    }

    /// Expects the end of the connection by FIN, with nothing before it.
    pub fn expect_end(&mut self) {
        let frame = self.try_read_frame();
        assert!(frame.is_none(), "the connection goes on with {frame:?}");
    }

    /// Expects the end by FIN or, as after input that nobody read, by a reset.
    pub fn expect_end_or_reset(&mut self) {
        assert!(self.received.is_empty(), "unread bytes: {:?}", self.received);
        match self.receive(&mut [0; 64]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the connection goes on: {other:?}"),
        }
    }

    fn fill_to(&mut self, bytes: usize) {
        while self.received.len() < bytes {
            assert!(self.fill(), "the connection ended inside a frame or a response");
        }
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 64 * 1024];
        let bytes = self.receive(&mut chunk).expect("the server answers in time");
        self.received.extend_from_slice(&chunk[..bytes]);
        bytes > 0
    }

    /// One read. A socket with a timeout is interrupted when its process is stopped and continued
    /// (signal(7)), as machines that are shared do to theirs; that ends no wait.
    fn receive(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Response {
    /// The value of a header field by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// A masked frame whose first byte is given, so that it may be wrong.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The header of a masked frame alone, for a payload that follows in parts or never.
pub fn header(first: u8, payload_bytes: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload_bytes {
        0..=125 => bytes.push(0x80 | payload_bytes as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((payload_bytes as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(payload_bytes.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// An upgrade request with further complete header lines.
pub fn upgrade_request(path: &str, lines: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {SAMPLE_KEY}\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
    .into_bytes()
}

/// The code and the reason of a close frame; 1005 when it has none (RFC 6455 section 7.1.5).
pub fn close_payload(payload: &[u8]) -> (u16, String) {
    match payload {
        [] => (1005, String::new()),
        [high, low, reason @ ..] => {
            let reason = String::from_utf8(reason.to_vec()).expect("the reason is UTF-8");
            (u16::from_be_bytes([*high, *low]), reason)
        }
        _ => panic!("a close payload of one byte from the server"),
    }
}

/// Any key will do; this one changes every byte.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The kernel doubles it and has a minimum of about this.
const RECEIVE_BUFFER_NARROW_BYTES: usize = 2048;
