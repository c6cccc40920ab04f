//! The records of TLS 1.3 behind the handshake (RFC 8446 section 5), opened where they lie.
//!
//! What a connection must keep are two secrets and two numbers. Keys follow from the secrets (RFC
//! 8446 section 7.3); they are made when they are needed and forgotten when the connection rests.
//! Who rests and is sent something now and then keeps the key for that, but not the tables that a
//! cipher makes of it.

use std::ops::Range;

use aws_lc_rs::aead::{Aad, LessSafeKey, MAX_TAG_LEN};
use zeroize::Zeroizing;

use super::Failure;
use super::keys::{Keys, SECRET_BYTES_MOST, Suite};

/// One direction of a connection.
struct Direction {
    secret: Zeroizing<[u8; SECRET_BYTES_MOST]>,
    /// The number of the next record under this secret.
    sequence: u64,
}

/// What follows from the secret of a direction.
struct Derived {
    keys: Keys,
    /// Made of the key when it is needed.
    cipher: Option<LessSafeKey>,
}

/// What has arrived of something that is not whole.
#[derive(Default)]
struct Partial {
    record: Vec<u8>,
    /// A message about the handshake that was cut into records.
    message: Vec<u8>,
}

/// The records of one connection, both ways.
pub(super) struct Records {
    receive: Direction,
    send: Direction,
    derived: Option<Box<[Option<Derived>; 2]>>,
    partial: Option<Box<Partial>>,
    /// Records under one key after which another is taken.
    records_most: u64,
    suite: Suite,
    /// Records that brought nothing, but for those that data has made up for.
    fruitless: u8,
    /// Bytes of data that have made up for none yet.
    data_bytes: u16,
    /// Whether the peer has asked for another key of ours, which comes before the next data: so one
    /// that asks again and again, and does not read, costs nothing.
    owes_update: bool,
}

/// What a record has brought.
enum Content {
    /// Data of the application, at this place of the record.
    Data(Range<usize>),
    /// Something between the two ends.
    Nothing,
    /// The peer's word that it sends no more.
    End,
}

/// What came of bytes that were received.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Where in the input data lies, but for what was appended to a vector because its record had
    /// begun before.
    pub(super) range: Range<usize>,
    pub(super) is_ended: bool,
    pub(super) failure: Option<Failure>,
}

/// What is wrong, for us and for the peer.
struct Wrong {
    failure: Failure,
    /// What the peer is told (RFC 8446 section 6.2); nothing where it is the one who has told.
    alert: Option<u8>,
}

impl Wrong {
    fn protocol(alert: u8) -> Self {
        Self { failure: Failure::Protocol, alert: Some(alert) }
    }
}

impl Records {
    /// Records behind a handshake that has led to these secrets, where so many records have been
    /// sent already; another key is taken after `records_most` under one.
    pub(super) fn new(
        suite: Suite,
        [receive, send]: [&[u8]; 2],
        [received, sent]: [u64; 2],
        records_most: u64,
    ) -> Self {
        let direction = |secret: &[u8], sequence| {
            let mut kept = Zeroizing::new([0; SECRET_BYTES_MOST]);
            kept[..secret.len()].copy_from_slice(secret);
            Direction { secret: kept, sequence }
        };
        debug_assert!(receive.len() == suite.secret_bytes() && send.len() == receive.len());
        Self {
            receive: direction(receive, received),
            send: direction(send, sent),
            derived: None,
            partial: None,
            records_most,
            suite,
            fruitless: 0,
            data_bytes: 0,
            owes_update: false,
        }
    }

    /// Opens the records in `input`: what they carry lies behind one another in a range of it
    /// then. What a record carries that had begun before is appended to `opened`, and comes before.
    /// What is wrong with them is told in what is appended to `sealed`.
    pub(super) fn open(
        &mut self,
        input: &mut [u8],
        opened: &mut Vec<u8>,
        sealed: &mut Vec<u8>,
    ) -> Opened {
        let mut result = Opened::default();
        if let Err(wrong) = self.open_all(input, opened, &mut result) {
            if let Some(alert) = wrong.alert {
                self.seal_record(ALERT, &[FATAL, alert], sealed);
            }
            self.partial = None;
            result.failure = Some(wrong.failure);
        }
        result
    }

    fn open_all(
        &mut self,
        input: &mut [u8],
        opened: &mut Vec<u8>,
        result: &mut Opened,
    ) -> Result<(), Wrong> {
        let mut start = self.complete_record(input)?;
        if let Some(mut record) = self.take_complete()? {
            match self.open_record(&mut record)? {
                Content::Data(range) => opened.extend_from_slice(&record[range]),
                Content::Nothing => {}
                Content::End => result.is_ended = true,
            }
        }
        let range = &mut result.range;
        *range = start..start;
        while !result.is_ended
            && let Some(length) = record_bytes(&input[start..])?
            && length <= input.len() - start
        {
            match self.open_record(&mut input[start..start + length])? {
                Content::Data(data) => {
                    let data = start + data.start..start + data.end;
                    match range.start == range.end {
                        true => *range = data,
                        false => {
                            let end = range.end;
                            range.end += data.len();
                            input.copy_within(data, end);
                        }
                    }
                }
                Content::Nothing => {}
                Content::End => result.is_ended = true,
            }
            start += length;
        }
        if !result.is_ended && start < input.len() {
            self.keep(&input[start..]);
        }
        Ok(())
    }

    /// Appends what belongs to a record that has begun before, and tells how much that was.
    fn complete_record(&mut self, input: &[u8]) -> Result<usize, Wrong> {
        let Some(record) = self.partial.as_mut().map(|partial| &mut partial.record) else {
            return Ok(0);
        };
        if record.is_empty() {
            return Ok(0);
        }
        let mut taken = 0;
        // First its head, which tells how long it is.
        for wanted in [Some(HEAD_BYTES), None] {
            let wanted = wanted.map_or_else(|| record_bytes(record), |it| Ok(Some(it)))?;
            let missing = wanted.map_or(0, |wanted| wanted.saturating_sub(record.len()));
            let part = &input[taken..][..missing.min(input.len() - taken)];
            record.extend_from_slice(part);
            taken += part.len();
        }
        Ok(taken)
    }

    /// Takes out the record that had begun before, if it is whole now.
    fn take_complete(&mut self) -> Result<Option<Vec<u8>>, Wrong> {
        let Some(partial) = &mut self.partial else { return Ok(None) };
        let is_whole = record_bytes(&partial.record)? == Some(partial.record.len());
        let record = is_whole.then(|| std::mem::take(&mut partial.record));
        if is_whole && partial.message.is_empty() {
            self.partial = None;
        }
        Ok(record)
    }

    /// Keeps the beginning of a record. There is no room for the rest of it before that is here: a
    /// head alone must not cost what a record does.
    fn keep(&mut self, bytes: &[u8]) {
        let partial = self.partial.get_or_insert_default();
        debug_assert!(partial.record.is_empty(), "one record is not whole, the last");
        partial.record.extend_from_slice(bytes);
    }

    /// Bytes of memory that an incomplete record takes.
    pub(super) fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.record.capacity())
    }

    /// Opens a whole record.
    fn open_record(&mut self, record: &mut [u8]) -> Result<Content, Wrong> {
        let (head, body) = record.split_at_mut(HEAD_BYTES);
        let sequence = self.receive.sequence;
        let wrong = Wrong { failure: Failure::Decryption, alert: Some(BAD_RECORD_MAC) };
        let (keys, cipher) = self.keys(RECEIVE);
        let opened = cipher.open_in_place(keys.nonce(sequence), Aad::from(&*head), body);
        let inner = opened.map_err(|_| wrong)?;
        if inner.len() > DATA_BYTES_MOST + 1 {
            return Err(Wrong::protocol(RECORD_OVERFLOW));
        }
        self.receive.sequence += 1;
        // Padding is of zeros, behind the type.
        let Some(end) = inner.iter().rposition(|byte| *byte != 0) else {
            return Err(Wrong::protocol(UNEXPECTED_MESSAGE));
        };
        let (content, kind) = (&inner[..end], inner[end]);
        let is_cut = self.partial.as_ref().is_some_and(|partial| !partial.message.is_empty());
        if kind != DATA || content.is_empty() {
            self.fruitless += 1;
            if self.fruitless > FRUITLESS_MOST {
                return Err(Wrong::protocol(UNEXPECTED_MESSAGE));
            }
        }
        match kind {
            // Nothing may come between the parts of a message (RFC 8446 section 5.1).
            DATA | ALERT if is_cut => Err(Wrong::protocol(UNEXPECTED_MESSAGE)),
            DATA => {
                let range = HEAD_BYTES..HEAD_BYTES + content.len();
                let bytes = usize::from(self.data_bytes) + content.len();
                let made_up_for = (bytes / BYTES_FOR_FRUITLESS).min(usize::from(u8::MAX)) as u8;
                self.fruitless = self.fruitless.saturating_sub(made_up_for);
                self.data_bytes = (bytes % BYTES_FOR_FRUITLESS) as u16;
                Ok(Content::Data(range))
            }
            ALERT => heed_alert(content),
            HANDSHAKE => {
                let content = content.to_vec();
                self.heed_message(&content)
            }
            _ => Err(Wrong::protocol(UNEXPECTED_MESSAGE)),
        }
    }

    /// Heeds a message about the handshake. Of a client only one may come: it takes another key
    /// (RFC 8446 section 4.6.3).
    fn heed_message(&mut self, content: &[u8]) -> Result<Content, Wrong> {
        if content.is_empty() {
            return Err(Wrong::protocol(UNEXPECTED_MESSAGE));
        }
        let partial = self.partial.get_or_insert_default();
        partial.message.extend_from_slice(content);
        let message = &partial.message;
        if message[0] != KEY_UPDATE[0] {
            return Err(Wrong::protocol(UNEXPECTED_MESSAGE));
        }
        let known = message.len().min(KEY_UPDATE.len() - 1);
        if message[..known] != KEY_UPDATE[..known] {
            return Err(Wrong::protocol(DECODE_ERROR));
        }
        if message.len() < KEY_UPDATE.len() {
            return Ok(Content::Nothing);
        }
        if message.len() > KEY_UPDATE.len() {
            // What follows would be under a key that has passed.
            return Err(Wrong::protocol(UNEXPECTED_MESSAGE));
        }
        let is_requested = match message[KEY_UPDATE.len() - 1] {
            NOT_REQUESTED => false,
            REQUESTED => true,
            _ => return Err(Wrong::protocol(ILLEGAL_PARAMETER)),
        };
        self.partial = None;
        self.take_next_key(RECEIVE);
        self.owes_update |= is_requested;
        Ok(Content::Nothing)
    }

    /// Appends the records that carry `bytes` to `sealed`.
    pub(super) fn seal(&mut self, bytes: &[u8], sealed: &mut Vec<u8>) {
        for part in bytes.chunks(DATA_BYTES_MOST) {
            self.seal_record(DATA, part, sealed);
        }
    }

    /// Appends the record that says that nothing more will be sent.
    pub(super) fn close(&mut self, sealed: &mut Vec<u8>) {
        self.seal_record(ALERT, &[WARNING, CLOSE_NOTIFY], sealed);
    }

    fn seal_record(&mut self, kind: u8, content: &[u8], sealed: &mut Vec<u8>) {
        let is_worn = self.send.sequence >= self.records_most;
        if kind != HANDSHAKE && (is_worn || self.owes_update) {
            self.update(sealed);
        }
        let body_bytes = content.len() + 1 + self.suite.aead().tag_len();
        let [high, low] = (body_bytes as u16).to_be_bytes();
        let head = [DATA, 3, 3, high, low];
        sealed.reserve(HEAD_BYTES + body_bytes);
        sealed.extend_from_slice(&head);
        let start = sealed.len();
        sealed.resize(start + body_bytes, 0);
        let (body, rest) = sealed[start..].split_at_mut(content.len());
        let sequence = self.send.sequence;
        let (keys, cipher) = self.keys(SEND);
        let is_sealed = cipher.seal_out_of_place_scatter(
            keys.nonce(sequence),
            Aad::from(head),
            content,
            body,
            &[kind],
            rest,
        );
        assert!(is_sealed.is_ok(), "a record is as long as it says");
        self.send.sequence += 1;
    }

    /// Says that another key is taken, and takes it.
    fn update(&mut self, sealed: &mut Vec<u8>) {
        self.seal_record(HANDSHAKE, &KEY_UPDATE, sealed);
        self.take_next_key(SEND);
        self.owes_update = false;
    }

    fn take_next_key(&mut self, way: usize) {
        let (suite, bytes) = (self.suite, self.suite.secret_bytes());
        let direction = if way == SEND { &mut self.send } else { &mut self.receive };
        let mut next = Zeroizing::new([0; SECRET_BYTES_MOST]);
        suite.expand(&direction.secret[..bytes], b"traffic upd", &mut next[..bytes]);
        (direction.secret, direction.sequence) = (next, 0);
        if let Some(derived) = &mut self.derived {
            derived[way] = None;
        }
    }

    /// Takes another key after fewer records.
    #[cfg(test)]
    pub(super) fn limit(&mut self, records_most: u64) {
        self.records_most = records_most;
    }

    /// The name of cipher and hash in the registry.
    pub(super) fn suite(&self) -> &'static str {
        self.suite.name()
    }

    /// Forgets what can be made again.
    pub(super) fn rest(&mut self) {
        self.derived = None;
    }

    /// The same, but for the key under which more is sent, as that is likely.
    pub(super) fn rest_after_send(&mut self) {
        if let Some([receive, send]) = self.derived.as_deref_mut() {
            *receive = None;
            if let Some(send) = send {
                send.cipher = None;
            }
        }
    }

    fn keys(&mut self, way: usize) -> (&Keys, &LessSafeKey) {
        let (suite, bytes) = (self.suite, self.suite.secret_bytes());
        let direction = if way == SEND { &self.send } else { &self.receive };
        let derived = self.derived.get_or_insert_default();
        let Derived { keys, cipher } = derived[way].get_or_insert_with(|| Derived {
            keys: Keys::new(suite, &direction.secret[..bytes]),
            cipher: None,
        });
        (keys, cipher.get_or_insert_with(|| keys.cipher(suite)))
    }
}

impl std::fmt::Debug for Records {
    /// Tells no secrets.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers = (self.receive.sequence, self.send.sequence);
        write!(formatter, "Records {:?} {numbers:?}", self.suite)
    }
}

/// Bytes of the record that begins here, once its head is whole.
fn record_bytes(record: &[u8]) -> Result<Option<usize>, Wrong> {
    let Some(&[kind, _, _, high, low]) = record.first_chunk() else { return Ok(None) };
    let body_bytes = usize::from(u16::from_be_bytes([high, low]));
    match body_bytes {
        // Everything is protected now, and what the handshake allows beside it has passed. Whoever
        // speaks no TLS any more is told so, instead of being waited for.
        _ if kind != DATA => Err(Wrong::protocol(UNEXPECTED_MESSAGE)),
        0..=MAX_TAG_LEN => Err(Wrong::protocol(DECODE_ERROR)),
        _ if body_bytes > DATA_BYTES_MOST + EXPANSION_MOST => Err(Wrong::protocol(RECORD_OVERFLOW)),
        _ => Ok(Some(HEAD_BYTES + body_bytes)),
    }
}

/// Heeds what the peer says is wrong, or over (RFC 8446 section 6).
fn heed_alert(content: &[u8]) -> Result<Content, Wrong> {
    match content {
        [_, CLOSE_NOTIFY] => Ok(Content::End),
        // Its end follows.
        [_, USER_CANCELED] => Ok(Content::Nothing),
        [_, _] => Err(Wrong { failure: Failure::Alert, alert: None }),
        _ => Err(Wrong::protocol(DECODE_ERROR)),
    }
}

/// Records under one key, at most (RFC 8446 section 5.5 allows some more with AES-GCM).
pub(super) const RECORDS_MOST: u64 = 1 << 24;
/// Records that bring nothing, each of which costs as much as many small messages: so many, and one
/// for so many bytes of data.
const FRUITLESS_MOST: u8 = 32;
const BYTES_FOR_FRUITLESS: usize = 256;
const HEAD_BYTES: usize = 5;
/// Bytes of data in one record.
pub(super) const DATA_BYTES_MOST: usize = 1 << 14;
/// Bytes that protection and padding may add to those.
const EXPANSION_MOST: usize = 256;

const RECEIVE: usize = 0;
const SEND: usize = 1;

// Types of content (RFC 8446 section 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// The message that takes another key, and asks for none of the peer's.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, NOT_REQUESTED];
const NOT_REQUESTED: u8 = 0;
const REQUESTED: u8 = 1;

// Alerts (RFC 8446 section 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const USER_CANCELED: u8 = 90;

#[cfg(test)]
mod tests;
