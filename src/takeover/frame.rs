//! What the two servers of a hand-over say to each other, as bytes: a length, a kind, and what
//! belongs to the kind.
//!
//! ```text
//! +----------------+---------+---------------------------------------------------+
//! | length: 4, big | kind: 1 | of a message: its opcode 1, topic's length 1,     |
//! | endian, of all |         | topic, payload; of an offer and what has many     |
//! | that follows   |         | values: JSON; of histories a message of Protobuf  |
//! |                |         | (`histories`); of others what little there is     |
//! +----------------+---------+---------------------------------------------------+
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Topic;
use crate::io::inheritance::Purpose;
use crate::limits;
use crate::wire::message::{DataMessage, MessageKind, SharedMessage};

/// One thing said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Both, first: the version of what follows.
    Hello(u32),
    /// The server that is there: what it listens on; the sockets come with it and behind it.
    Offer(Vec<Offered>),
    /// The same: this many sockets come with this.
    Sockets(u8),
    /// The same: it hands nothing over, and why.
    Refusal(String),
    /// The newcomer: the places in the offer of what it has taken. It wants messages from now on.
    Taken(Vec<usize>),
    /// The server that is there: it passes on messages from now on.
    Relaying,
    /// The newcomer: all its shards accept.
    Ready,
    /// The server that was there: it accepts nothing any more.
    Yielded,
    /// Both: what was published to a topic.
    Message(Relayed),
    /// The server that is there, before it relays: a [piece](super::histories::pieces) of what it
    /// keeps of channels.
    History(Vec<u8>),
}

/// A listener that is offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// Who connects there.
    pub purpose: Purpose,
    /// The address as the settings name it.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// How many sockets it has.
    pub sockets: usize,
}

/// A message on its way to the other server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The name of its topic.
    pub topic: Box<str>,
    /// What it says.
    pub message: SharedMessage,
}

/// Bytes that are no frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// It would be longer than any of its kind.
    #[error("a frame of kind {kind} has {bytes} bytes")]
    TooLong {
        /// What it claims to be.
        kind: u8,
        /// What it claims to hold.
        bytes: usize,
    },
    /// There is no such kind.
    #[error("there is no frame of kind {0}")]
    Kind(u8),
    /// What it holds is not what its kind says.
    #[error("a frame of kind {0} holds something else")]
    Content(u8),
}

impl Frame {
    /// The bytes of it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH_BYTES];
        let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
        match self {
            Self::Hello(version) => {
                bytes.push(HELLO);
                bytes.extend_from_slice(MAGIC);
                bytes.extend_from_slice(&version.to_be_bytes());
            }
            Self::Offer(listeners) => {
                bytes.push(OFFER);
                bytes.extend(json(serde_json::to_vec(listeners)));
            }
            Self::Sockets(count) => bytes.extend([SOCKETS, *count]),
            Self::Refusal(reason) => {
                bytes.push(REFUSAL);
                bytes.extend(json(serde_json::to_vec(reason)));
            }
            Self::Taken(places) => {
                bytes.push(TAKEN);
                bytes.extend(json(serde_json::to_vec(places)));
            }
            Self::Relaying => bytes.push(RELAYING),
            Self::Ready => bytes.push(READY),
            Self::Yielded => bytes.push(YIELDED),
            Self::Message(Relayed { topic, message }) => {
                let payload = message.payload();
                bytes.reserve_exact(2 + topic.len() + payload.len());
                let kind = message.kind().opcode() as u8;
                bytes.extend([MESSAGE, kind, topic.len() as u8]);
                bytes.extend_from_slice(topic.as_bytes());
                bytes.extend_from_slice(payload);
            }
            Self::History(piece) => {
                bytes.push(HISTORY);
                bytes.extend_from_slice(piece);
            }
        }
        let length = (bytes.len() - LENGTH_BYTES) as u32;
        bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        bytes
    }

    /// The first frame of `bytes` and its length, as soon as all of it is there.
    ///
    /// # Errors
    /// What is wrong with it, as soon as that can be known.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some(&kind) = rest.first() else { return Ok(None) };
        let most = match kind {
            MESSAGE => MESSAGE_BYTES_MAX,
            HISTORY => 1 + HISTORY_BYTES_MAX,
            HELLO..MESSAGE => OTHER_BYTES_MAX,
            _ => return Err(FrameError::Kind(kind)),
        };
        if length > most {
            return Err(FrameError::TooLong { kind, bytes: length });
        }
        if length == 0 {
            return Err(FrameError::Content(kind));
        }
        let Some(content) = rest.get(1..length) else { return Ok(None) };
        let frame = Self::of(kind, content).ok_or(FrameError::Content(kind))?;
        Ok(Some((frame, LENGTH_BYTES + length)))
    }

    fn of(kind: u8, content: &[u8]) -> Option<Self> {
        match kind {
            HELLO => {
                let version = content.strip_prefix(MAGIC)?.try_into().ok()?;
                Some(Self::Hello(u32::from_be_bytes(version)))
            }
            OFFER => from_json(content).map(Self::Offer),
            SOCKETS => match content {
                [count] => Some(Self::Sockets(*count)),
                _ => None,
            },
            REFUSAL => from_json(content).map(Self::Refusal),
            TAKEN => from_json(content).map(Self::Taken),
            MESSAGE => Relayed::of(content).map(Self::Message),
            HISTORY => Some(Self::History(content.to_vec())),
            _ if !content.is_empty() => None,
            RELAYING => Some(Self::Relaying),
            READY => Some(Self::Ready),
            YIELDED => Some(Self::Yielded),
            _ => None,
        }
    }
}

impl Relayed {
    fn of(content: &[u8]) -> Option<Self> {
        let (&[kind, topic_bytes], rest) = content.split_first_chunk()?;
        let (topic, payload) = rest.split_at_checked(topic_bytes.into())?;
        let topic = std::str::from_utf8(topic).ok()?;
        Topic::check(topic).ok()?;
        let kinds = [MessageKind::Text, MessageKind::Binary];
        let kind = kinds.into_iter().find(|known| known.opcode() as u8 == kind)?;
        if kind == MessageKind::Text && std::str::from_utf8(payload).is_err() {
            return None;
        }
        let message = DataMessage::new(kind, payload).into_shared();
        Some(Self { topic: topic.into(), message })
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// The version of all this. Whoever changes a frame or their order counts it up.
pub const VERSION: u32 = 2;
/// What tells a server of this kind from whatever else may listen there.
const MAGIC: &[u8] = b"ringwire takeover ";

const LENGTH_BYTES: usize = 4;
const HELLO: u8 = 1;
const OFFER: u8 = 2;
const SOCKETS: u8 = 3;
const REFUSAL: u8 = 4;
const TAKEN: u8 = 5;
const RELAYING: u8 = 6;
const READY: u8 = 7;
const YIELDED: u8 = 8;
const MESSAGE: u8 = 9;
const HISTORY: u8 = 10;

/// The longest message with its topic and what tells about it.
const MESSAGE_BYTES_MAX: usize = 3 + limits::TOPIC_BYTES_MOST + limits::MESSAGE_BYTES.most as usize;
/// The longest piece of histories: one publication, with what is known of it.
pub const HISTORY_BYTES_MAX: usize = limits::MESSAGE_BYTES.most as usize + OTHER_BYTES_MAX;
/// The longest of all others: an offer of thousands of listeners.
const OTHER_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relayed(topic: &str, kind: MessageKind, payload: &[u8]) -> Frame {
        let message = DataMessage::new(kind, payload).into_shared();
        Frame::Message(Relayed { topic: topic.into(), message })
    }

    fn frames() -> Vec<Frame> {
        let offered = Offered {
            purpose: Purpose::Administration,
            name: "systemd:a".into(),
            address: "[::1]:7071".into(),
            sockets: 3,
        };
        vec![
            Frame::Hello(VERSION),
            Frame::Offer(vec![offered.clone(), Offered { purpose: Purpose::Service, ..offered }]),
            Frame::Sockets(253),
            Frame::Refusal("no \"reason\"".into()),
            Frame::Taken(vec![0, 7]),
            Frame::Relaying,
            Frame::Ready,
            Frame::Yielded,
            relayed("a", MessageKind::Text, "\u{e4}".as_bytes()),
            relayed(&"t".repeat(255), MessageKind::Binary, &[0xff; 70_000]),
            relayed("a", MessageKind::Binary, b""),
            Frame::History(Vec::new()),
            Frame::History(vec![7; 70_000]),
        ]
    }

    #[test]
    fn what_was_said_is_understood_as_soon_as_all_of_it_is_there() {
        for frame in frames() {
            let bytes = frame.encode();
            for end in (0..bytes.len()).step_by(bytes.len().div_ceil(64)) {
                assert_eq!(Frame::decode(&bytes[..end]), Ok(None), "{frame:?}");
            }
            let followed = [&bytes[..], b"more"].concat();
            assert_eq!(Frame::decode(&followed), Ok(Some((frame, bytes.len()))));
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_before_it_has_come() {
        let header = |length: u32, kind: u8| [&length.to_be_bytes()[..], &[kind]].concat();
        let refusal = |bytes: &[u8]| Frame::decode(bytes).unwrap_err();
        assert_eq!(refusal(&header(1, 0)), FrameError::Kind(0));
        assert_eq!(refusal(&header(1, 11)), FrameError::Kind(11));
        assert_eq!(refusal(&header(0, READY)), FrameError::Content(READY));
        let too_long = FrameError::TooLong { kind: OFFER, bytes: u32::MAX as usize };
        assert_eq!(refusal(&header(u32::MAX, OFFER)), too_long);
        let of = |kind: u8, content: &[u8]| {
            [&header(content.len() as u32 + 1, kind)[..], content].concat()
        };
        for (kind, content) in [
            (HELLO, &b"ringwire takeoverX\0\0\0\x01"[..]),
            (HELLO, b"ringwire takeover \0\0\0"),
            (OFFER, b"[{}]"),
            (SOCKETS, b""),
            (READY, b"x"),
            (MESSAGE, b"\x01"),
            (MESSAGE, b"\x01\x02a"),
            (MESSAGE, b"\x01\x00text"),
            (MESSAGE, b"\x01\x01\ntext"),
            (MESSAGE, b"\x08\x01atext"),
            (MESSAGE, b"\x01\x01a\xff"),
        ] {
            assert_eq!(refusal(&of(kind, content)), FrameError::Content(kind), "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, kind in 0..=11_u8, has_length: bool) {
            let _ = Frame::decode(&bytes);
            if has_length && bytes.len() > LENGTH_BYTES {
                let length = (bytes.len() - LENGTH_BYTES) as u32;
                bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
                bytes[LENGTH_BYTES] = kind;
            }
            if let Ok(Some((frame, length))) = Frame::decode(&bytes) {
                prop_assert!(length <= bytes.len());
                let again = frame.encode();
                prop_assert_eq!(Frame::decode(&again), Ok(Some((frame, again.len()))));
            }
        }
    }
}
