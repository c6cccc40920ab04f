//! TLS against the library's: whatever a client sends, in whatever pieces, a session makes of it what
//! rustls makes of the same bytes under the same keys, and rustls reads what the session answers.

use std::io::Read;
use std::sync::{Arc, LazyLock, Mutex};

use arbitrary::Unstructured;
use aws_lc_rs::{aead, hkdf};
use ringwire::tls::session::{Handshake, Received};
use ringwire::tls::{Certificates, Failure, Session};
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, Error, KeyLog, ServerConfig, ServerConnection};

use super::seeded_tls;

/// `data` chooses a handshake and, mostly, what a client sends behind it.
pub fn check(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(choice) = input.arbitrary::<u8>() else { return };
    let _ = match usize::from(choice) {
        choice @ 0..4 => shake_hands(&TRANSCRIPTS[choice], &mut input),
        choice => exchange(&TRANSCRIPTS[choice % 3], &mut input),
    };
}

/// A client's part of a handshake, changed here and there: the same comes of it in any pieces.
fn shake_hands(transcript: &Transcript, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut bytes = transcript.flights.clone();
    for _ in 0..input.int_in_range(0..=8)? {
        let place = usize::from(input.arbitrary::<u16>()?) % (bytes.len() + 1);
        match input.int_in_range(0..=3)? {
            0 => bytes.truncate(place),
            1 => drop(bytes.splice(place..place, input.arbitrary::<[u8; 3]>()?)),
            _ => bytes[place..].iter_mut().take(1).for_each(|it| *it ^= byte(input)),
        }
    }
    bytes.extend_from_slice(input.bytes(input.len())?);
    let run = |piece_bytes| {
        let mut server = Server::new(transcript);
        server.take(&bytes, piece_bytes);
        server.outcome
    };
    let whole = run(usize::MAX);
    for piece_bytes in [1, 5, 100] {
        assert_eq!(run(piece_bytes), whole, "in pieces of {piece_bytes}");
    }
    Ok(())
}

/// The next byte, and at the end one that still changes what it is applied to.
fn byte(input: &mut Unstructured<'_>) -> u8 {
    input.arbitrary().unwrap_or(1)
}

/// Records of all kinds behind a handshake, and what the server says between them.
fn exchange(transcript: &Transcript, input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let mut script = Script::default();
    script.draw(transcript, input);
    let run = |pieces: &[usize]| {
        let mut server = Server::new(transcript);
        server.take(&transcript.flights, usize::MAX);
        let mut sizes = pieces.iter().copied().cycle();
        for step in &script.steps {
            match step {
                Step::Take(bytes) => {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let size = sizes.next().unwrap_or(1).clamp(1, rest.len());
                        server.take(&rest[..size], usize::MAX);
                        rest = &rest[size..];
                    }
                }
                Step::Reply(bytes) => server.say(&vec![*bytes as u8; *bytes]),
                Step::Rest => server.session.rest(),
            }
        }
        server.end();
        server.outcome
    };
    let whole = run(&[usize::MAX]);
    for pieces in [&[1][..], &script.pieces] {
        let outcome = run(pieces);
        assert!(outcome == whole, "in {pieces:?}: {outcome:?}, whole: {whole:?}");
    }
    script.compare(&whole, &theirs(transcript, &script.stream()));
    hear(transcript, &whole);
    Ok(())
}

/// What happens to a server behind its handshake.
#[derive(Default)]
struct Script {
    steps: Vec<Step>,
    /// Into what its bytes are cut.
    pieces: Vec<usize>,
    /// Records that carry no data, alerts that only warn, and messages that take another key.
    fruitless: usize,
    warnings: usize,
    updates: usize,
    /// Whether an alert calls the end of a client fatal, which is heeded as if it did not.
    has_fatal_cancellation: bool,
    /// Whether a message is cut: one that may not come is refused with its first byte, and not with
    /// its last.
    has_part_of_message: bool,
}

enum Step {
    Take(Vec<u8>),
    Reply(usize),
    Rest,
}

impl Script {
    fn draw(&mut self, transcript: &Transcript, input: &mut Unstructured<'_>) {
        let mut sealer = Sealer::new(transcript);
        self.pieces = vec![1 + usize::from(byte(input)), 1 + 40 * usize::from(byte(input))];
        while let Ok(choice) = input.int_in_range(0..=11) {
            if input.is_empty() || self.steps.len() > STEPS_MOST {
                break;
            }
            self.draw_step(choice, &mut sealer, input);
        }
        // The last record becomes whole, or it could not be told what each would make of it.
        let missing = missing_bytes(&self.stream());
        self.steps.push(Step::Take(vec![0; missing]));
    }

    fn draw_step(&mut self, choice: u8, sealer: &mut Sealer, input: &mut Unstructured<'_>) {
        let small = usize::from(byte(input));
        match choice {
            0..=2 => self.take(sealer.seal(DATA, &vec![choice; small], 0)),
            3 => {
                // About as long as a record may be, or somewhat longer.
                let content = vec![3; 16_384 - 128 + small];
                self.take(sealer.seal(DATA, &content, usize::from(byte(input))));
            }
            4 | 5 => {
                let kind = [DATA, ALERT, HANDSHAKE, 20, 0, 99][usize::from(choice) % 2 + small % 5];
                let content = input.bytes(input.len().min(small % 8)).unwrap_or_default();
                self.count(kind, content);
                self.take(sealer.seal(kind, content, small));
            }
            6 => {
                self.updates += 1;
                self.fruitless += 1;
                self.take(sealer.seal(HANDSHAKE, &[24, 0, 0, 1, (small % 2) as u8], 0));
                sealer.take_next_key();
            }
            7 => self.steps.push(Step::Reply(small * small)),
            8 => self.steps.push(Step::Rest),
            9 => {
                if let Some(Step::Take(bytes)) = self.steps.last_mut() {
                    let place = small % bytes.len().max(1);
                    bytes[place..].iter_mut().take(1).for_each(|it| *it ^= byte(input));
                }
            }
            10 => {
                if let Some(Step::Take(bytes)) = self.steps.last_mut() {
                    bytes.truncate(small);
                }
            }
            _ => {
                let bytes = input.bytes(input.len().min(small % 16)).unwrap_or_default();
                self.take(bytes.to_vec());
            }
        }
    }

    fn take(&mut self, bytes: Vec<u8>) {
        self.steps.push(Step::Take(bytes));
    }

    fn count(&mut self, kind: u8, content: &[u8]) {
        self.fruitless += usize::from(kind != DATA || content.is_empty());
        self.warnings += usize::from(kind == ALERT && content.first() == Some(&1));
        self.updates += usize::from(kind == HANDSHAKE);
        let is_whole = content.first_chunk().is_some_and(|&[_, high, middle, low]| {
            content.len() >= 4 + u32::from_be_bytes([0, high, middle, low]) as usize
        });
        self.has_part_of_message |= kind == HANDSHAKE && !is_whole;
        self.has_fatal_cancellation |= kind == ALERT && content.get(1) == Some(&90);
    }

    fn stream(&self) -> Vec<u8> {
        let taken = self.steps.iter().filter_map(|step| match step {
            Step::Take(bytes) => Some(&bytes[..]),
            Step::Reply(_) | Step::Rest => None,
        });
        taken.collect::<Vec<_>>().concat()
    }

    /// Both carry the same, and end alike unless only one has a limit or an opinion of its own.
    fn compare(&self, ours: &Outcome, theirs: &Theirs) {
        let is_lenient = self.warnings > 4 || self.updates > 32 || self.has_fatal_cancellation;
        let is_strict = self.fruitless > 32 || self.has_part_of_message;
        let may_differ = is_lenient || is_strict;
        let (ours_failed, theirs_failed) = (ours.failure.is_some(), theirs.error.is_some());
        let is_alike = ours_failed == theirs_failed && ours.is_ended == theirs.is_ended;
        let is_understood = is_lenient && theirs_failed || is_strict && ours_failed;
        assert!(is_alike || is_understood, "{:?} {}, but {theirs:?}", ours.failure, ours.is_ended);
        let (own, other) = (&ours.opened, &theirs.opened);
        let common = own.len().min(other.len());
        let is_same = own == other || may_differ && own[..common] == other[..common];
        assert!(is_same, "{} bytes, but {}", own.len(), other.len());
    }
}

/// How many bytes are missing of the last record.
fn missing_bytes(mut stream: &[u8]) -> usize {
    while let Some(&[_, _, _, high, low]) = stream.first_chunk() {
        let record_bytes = HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
        match stream.split_at_checked(record_bytes) {
            Some((_, rest)) => stream = rest,
            None => return record_bytes - stream.len(),
        }
    }
    // A head of zeros is a record without a body.
    if stream.is_empty() { 0 } else { HEAD_BYTES - stream.len() }
}

/// A server and what came of all that it was sent.
struct Server {
    session: Session,
    outcome: Outcome,
}

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    opened: Vec<u8>,
    sealed: Vec<u8>,
    /// What the server has said.
    said: Vec<u8>,
    handshake: Option<Handshake>,
    is_ended: bool,
    failure: Option<Failure>,
}

impl Server {
    fn new(transcript: &Transcript) -> Self {
        seeded_tls::seed(OF_SERVER);
        let session = Session::new(transcript.prepared.server().clone()).expect("a session");
        Self { session, outcome: Outcome::default() }
    }

    fn take(&mut self, bytes: &[u8], piece_bytes: usize) {
        for piece in bytes.to_vec().chunks_mut(piece_bytes) {
            let Outcome { opened, sealed, .. } = &mut self.outcome;
            let received = self.session.receive(piece, opened, sealed);
            let Received { opened: range, handshake, is_ended, failure, client } = received;
            assert!(client.is_none(), "clients have shown no certificate");
            opened.extend_from_slice(&piece[range]);
            self.outcome.handshake = self.outcome.handshake.or(handshake);
            self.outcome.is_ended |= is_ended;
            self.outcome.failure = self.outcome.failure.or(failure);
            assert!(self.session.held_bytes() <= 2 * (HEAD_BYTES + 16_384 + 256));
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        if self.outcome.failure.is_none() {
            self.outcome.said.extend_from_slice(bytes);
            self.session.seal(bytes, &mut self.outcome.sealed);
        }
    }

    fn end(&mut self) {
        self.session.close(&mut self.outcome.sealed);
    }
}

/// The same connection at the other end: rustls reads all that the server has sealed.
fn hear(transcript: &Transcript, outcome: &Outcome) {
    let (mut client, mut heard) = (transcript.client(), Vec::new());
    client.write_tls(&mut Vec::new()).expect("a vector");
    let (is_ended, error) = feed(&mut client, &outcome.sealed, &mut heard);
    assert!(heard == outcome.said, "{} bytes heard of {}", heard.len(), outcome.said.len());
    match (outcome.failure, error) {
        (None, None) => assert!(is_ended, "its end is said"),
        (Some(Failure::Alert), None) => {}
        (Some(failure), Some(Error::AlertReceived(_))) => assert!(failure != Failure::Alert),
        (failure, error) => panic!("{failure:?}, but {error:?}"),
    }
}

#[derive(Debug)]
struct Theirs {
    opened: Vec<u8>,
    is_ended: bool,
    error: Option<Error>,
}

/// What rustls makes of the bytes that a client sends behind a handshake.
fn theirs(transcript: &Transcript, stream: &[u8]) -> Theirs {
    seeded_tls::seed(OF_SERVER);
    let server = ServerConnection::new(transcript.server.clone()).expect("a server");
    let (mut server, mut opened) = (server.into(), Vec::new());
    let (_, error) = feed(&mut server, &transcript.flights, &mut opened);
    assert_eq!(error, None);
    let (is_ended, error) = feed(&mut server, stream, &mut opened);
    Theirs { opened, is_ended, error }
}

/// Gives one end what the other has sent: whether that has ended, and what is wrong.
fn feed(
    end: &mut rustls::Connection,
    mut bytes: &[u8],
    opened: &mut Vec<u8>,
) -> (bool, Option<Error>) {
    let mut has_closed = false;
    while !bytes.is_empty() && !has_closed {
        if end.read_tls(&mut bytes).is_err() {
            return (false, Some(Error::General("too much for a message".into())));
        }
        let result = end.process_new_packets();
        let _ = end.reader().read_to_end(opened);
        match result {
            Ok(state) => has_closed = state.peer_has_closed(),
            Err(error) => return (false, Some(error)),
        }
    }
    (has_closed, None)
}

/// A handshake that is always the same.
struct Transcript {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    /// The server's configuration as sessions need it.
    prepared: Certificates,
    /// All that the client sends for it.
    flights: Vec<u8>,
    suite: Suite,
    /// What protects what the client sends behind it.
    secret: Vec<u8>,
}

/// Three of TLS 1.3, then one of TLS 1.2.
static TRANSCRIPTS: LazyLock<[Transcript; 4]> = LazyLock::new(|| {
    let transcript = |suite| {
        let version = if matches!(suite, Suite::Earlier) { &TLS12 } else { &TLS13 };
        let (mut client, server) = seeded_tls::configs(version, suite.name());
        let secrets = Arc::new(Told::default());
        // Whoever remembers earlier handshakes shakes hands in another way.
        (client.key_log, client.resumption) = (secrets.clone(), Resumption::disabled());
        let prepared = Certificates::from(server.clone());
        let (client, server) = (Arc::new(client), Arc::new(server));
        let (flights, secret) = (Vec::new(), Vec::new());
        let mut made = Transcript { client, server, prepared, flights, suite, secret };
        made.record();
        made.secret = secrets.0.lock().expect("no panic").clone();
        made
    };
    [Suite::Aes128, Suite::Aes256, Suite::ChaCha20, Suite::Earlier].map(transcript)
});

impl Transcript {
    /// Lets both ends shake hands, as long as the client has something to say.
    fn record(&mut self) {
        let (mut client, mut server) = (self.client(), Server::new(self));
        loop {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).expect("a vector");
            }
            if bytes.is_empty() {
                break;
            }
            let heard = server.outcome.sealed.len();
            server.take(&bytes, usize::MAX);
            self.flights.extend(bytes);
            let answer = &server.outcome.sealed[heard..];
            assert_eq!(feed(&mut client, answer, &mut Vec::new()), (false, None));
        }
        assert!(server.outcome.handshake.is_some() && !client.is_handshaking());
    }

    /// The client, which has something to say.
    fn client(&self) -> rustls::Connection {
        seeded_tls::seed(OF_CLIENT);
        let client = ClientConnection::new(self.client.clone(), seeded_tls::name());
        client.expect("a client").into()
    }
}

#[derive(Clone, Copy)]
enum Suite {
    Aes128,
    Aes256,
    ChaCha20,
    /// One of TLS 1.2.
    Earlier,
}

impl Suite {
    fn name(self) -> &'static str {
        match self {
            Self::Aes128 => "AES_128",
            Self::Aes256 => "AES_256",
            Self::ChaCha20 => "CHACHA20",
            Self::Earlier => "ECDHE",
        }
    }

    fn algorithms(self) -> (&'static aead::Algorithm, hkdf::Algorithm) {
        match self {
            Self::Aes128 | Self::Earlier => (&aead::AES_128_GCM, hkdf::HKDF_SHA256),
            Self::Aes256 => (&aead::AES_256_GCM, hkdf::HKDF_SHA384),
            Self::ChaCha20 => (&aead::CHACHA20_POLY1305, hkdf::HKDF_SHA256),
        }
    }
}

/// The secret of the client's side, as the library tells it.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<u8>>);

impl KeyLog for Told {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if label == "CLIENT_TRAFFIC_SECRET_0" {
            *self.0.lock().expect("no panic") = secret.to_vec();
        }
    }
}

/// Seals whatever it is told to, by the letter of RFC 8446 sections 5.2 and 7.
struct Sealer {
    suite: Suite,
    secret: Vec<u8>,
    sequence: u64,
}

impl Sealer {
    fn new(transcript: &Transcript) -> Self {
        Self { suite: transcript.suite, secret: transcript.secret.clone(), sequence: 0 }
    }

    fn seal(&mut self, kind: u8, content: &[u8], padding_bytes: usize) -> Vec<u8> {
        let (algorithm, _) = self.suite.algorithms();
        let key = self.expand("key", algorithm.key_len());
        let mut nonce: [u8; aead::NONCE_LEN] = self.expand("iv", 12).try_into().expect("12 bytes");
        for (place, byte) in self.sequence.to_be_bytes().into_iter().enumerate() {
            nonce[4 + place] ^= byte;
        }
        self.sequence += 1;
        let mut body = [content, &[kind], &vec![0; padding_bytes]].concat();
        let [high, low] = ((body.len() + algorithm.tag_len()) as u16).to_be_bytes();
        let head = [DATA, 3, 3, high, low];
        let key = aead::UnboundKey::new(algorithm, &key).expect("a key");
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        aead::LessSafeKey::new(key)
            .seal_in_place_append_tag(nonce, aead::Aad::from(head), &mut body)
            .expect("no record is too long");
        [&head[..], &body].concat()
    }

    fn take_next_key(&mut self) {
        (self.secret, self.sequence) = (self.expand("traffic upd", self.secret.len()), 0);
    }

    fn expand(&self, label: &str, bytes: usize) -> Vec<u8> {
        struct Bytes(usize);
        impl hkdf::KeyType for Bytes {
            fn len(&self) -> usize {
                self.0
            }
        }
        let label = format!("tls13 {label}");
        let info = [&[0, bytes as u8, label.len() as u8], label.as_bytes(), &[0]].concat();
        let secret = hkdf::Prk::new_less_safe(self.suite.algorithms().1, &self.secret);
        let mut filled = vec![0; bytes];
        let info = [&info[..]];
        secret.expand(&info, Bytes(bytes)).and_then(|it| it.fill(&mut filled)).expect("so many");
        filled
    }
}

const OF_CLIENT: u64 = 1;
const OF_SERVER: u64 = 2;
const STEPS_MOST: usize = 200;
const HEAD_BYTES: usize = 5;
// Types of content (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
