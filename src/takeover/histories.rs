//! The histories of channels on their way to a successor: what the log of each home tells, cut into
//! pieces that fit frames, and put together again.

use std::sync::Arc;

use prost::Message;

use super::frame::HISTORY_BYTES_MAX;
use crate::realtime::log::{Epoch, Head, KeyRecord, Part, StreamRecord};
use crate::realtime::protocol;
use crate::realtime::publication::{ClientInfo, Publication};

/// What one frame says, as a message of Protobuf.
#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<StreamPiece>,
    #[prost(message, repeated, tag = "2")]
    keys: Vec<Key>,
}

/// A stream, or more publications of the one before.
#[derive(Clone, PartialEq, Message)]
struct StreamPiece {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(string, tag = "2")]
    epoch: String,
    #[prost(uint64, tag = "3")]
    offset: u64,
    #[prost(uint64, tag = "4")]
    list_left_ms: u64,
    #[prost(uint64, tag = "5")]
    left_ms: u64,
    #[prost(uint64, tag = "6")]
    version: u64,
    #[prost(string, tag = "7")]
    version_epoch: String,
    #[prost(bool, tag = "8")]
    is_passed: bool,
    #[prost(message, repeated, tag = "9")]
    publications: Vec<protocol::Publication>,
    /// Whether nothing but the publications says anything.
    #[prost(bool, tag = "10")]
    is_continued: bool,
}

/// An idempotency key.
#[derive(Clone, PartialEq, Message)]
struct Key {
    #[prost(string, tag = "1")]
    channel: String,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(string, tag = "3")]
    epoch: String,
    #[prost(uint64, tag = "4")]
    offset: u64,
    #[prost(uint64, tag = "5")]
    left_ms: u64,
}

/// What a part of a log says, in pieces of [`PIECE_BYTES`] each, or of one publication.
pub fn pieces(part: Part) -> impl Iterator<Item = Vec<u8>> {
    let streams = part.streams.into_iter().flat_map(stream_pieces);
    let keys = part.keys.into_iter().map(key_piece);
    let mut small = streams.chain(keys).peekable();
    std::iter::from_fn(move || {
        let mut piece = small.next()?;
        let mut bytes = piece.encoded_len();
        let mut fits = |next: &Piece| {
            bytes += next.encoded_len();
            bytes <= PIECE_BYTES
        };
        while let Some(next) = small.next_if(&mut fits) {
            piece.streams.extend(next.streams);
            piece.keys.extend(next.keys);
        }
        Some(piece.encode_to_vec())
    })
}

/// A stream without publications, and each of those alone.
fn stream_pieces(stream: StreamRecord) -> impl Iterator<Item = Piece> {
    let head = StreamPiece {
        channel: stream.channel.as_ref().to_owned(),
        epoch: stream.head.epoch.as_str().to_owned(),
        offset: stream.head.offset,
        list_left_ms: stream.list_left_ms,
        left_ms: stream.left_ms,
        version: stream.version,
        version_epoch: stream.version_epoch.into(),
        is_passed: stream.is_passed,
        ..StreamPiece::default()
    };
    let continued = |publication: Arc<Publication>| StreamPiece {
        publications: vec![publication.as_ref().into()],
        is_continued: true,
        ..StreamPiece::default()
    };
    let publications = stream.publications.into_iter().map(continued);
    let pieces = std::iter::once(head).chain(publications);
    let pieces = pieces.map(|it| Piece { streams: vec![it], keys: Vec::new() });
    // Without one that no frame holds, those before it are not the end of the stream any more.
    pieces.filter(|it| it.encoded_len() <= HISTORY_BYTES_MAX)
}

fn key_piece(record: KeyRecord) -> Piece {
    let KeyRecord { channel, key, head, left_ms } = record;
    let epoch = head.epoch.as_str().to_owned();
    let (channel, key) = (channel.into(), key.into());
    Piece {
        keys: vec![Key { channel, key, epoch, offset: head.offset, left_ms }],
        ..Piece::default()
    }
}

/// Puts together what comes in pieces.
#[derive(Debug, Default)]
pub struct Assembly {
    /// The stream of which more may come.
    open: Option<StreamRecord>,
}

impl Assembly {
    /// Takes a piece; returns what is complete with it, or nothing if it is none.
    pub fn take(&mut self, piece: &[u8]) -> Option<Part> {
        let Piece { streams, keys } = Piece::decode(piece).ok()?;
        let mut part = Part::default();
        for stream in streams {
            if !stream.is_continued {
                let StreamPiece { channel, epoch, offset, list_left_ms, left_ms, .. } = &stream;
                let next = StreamRecord {
                    channel: channel.as_str().into(),
                    head: Head { offset: *offset, epoch: Epoch::from_text(epoch)? },
                    publications: Vec::new(),
                    list_left_ms: *list_left_ms,
                    left_ms: *left_ms,
                    version: stream.version,
                    version_epoch: stream.version_epoch.as_str().into(),
                    is_passed: stream.is_passed,
                };
                part.streams.extend(self.open.replace(next));
            }
            let publications = stream.publications.into_iter().map(|it| Arc::new(publication(it)));
            self.open.as_mut()?.publications.extend(publications);
        }
        for Key { channel, key, epoch, offset, left_ms } in keys {
            let head = Head { offset, epoch: Epoch::from_text(&epoch)? };
            part.keys.push(KeyRecord { channel: channel.into(), key: key.into(), head, left_ms });
        }
        Some(part)
    }

    /// The last stream: no more of it comes.
    pub fn rest(&mut self) -> Part {
        let streams = self.open.take().into_iter().collect();
        Part { streams, is_last: true, ..Part::default() }
    }
}

fn publication(told: protocol::Publication) -> Publication {
    let info = told.info.map(|info| {
        Arc::new(ClientInfo {
            user: info.user.into(),
            client: info.client.into(),
            conn_info: info.conn_info.into(),
            chan_info: info.chan_info.into(),
        })
    });
    Publication {
        offset: told.offset,
        time_ms: told.time as u64,
        is_json: protocol::is_json(&told.data),
        data: told.data.into(),
        info,
        tags: told.tags,
    }
}

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(offset: u64) -> Head {
        Head { offset, epoch: Epoch::from_text("abcdefgh").unwrap() }
    }

    fn stream(channel: &str, sizes: &[usize]) -> StreamRecord {
        let publication = |(place, size): (usize, &usize)| {
            let info = ClientInfo {
                user: "user".into(),
                client: "client".into(),
                conn_info: b"{}"[..].into(),
                chan_info: b"1"[..].into(),
            };
            Arc::new(Publication {
                offset: place as u64 + 1,
                time_ms: 17,
                data: vec![b'7'; size + 1].into(),
                is_json: true,
                info: (place % 2 == 0).then(|| Arc::new(info)),
                tags: [("a".to_owned(), "b".to_owned())].into(),
            })
        };
        StreamRecord {
            channel: channel.into(),
            head: head(sizes.len() as u64),
            publications: sizes.iter().enumerate().map(publication).collect(),
            list_left_ms: 5,
            left_ms: 6,
            version: 7,
            version_epoch: "v".into(),
            is_passed: sizes.len() == 1,
        }
    }

    fn assembled(pieces: impl IntoIterator<Item = Vec<u8>>) -> Option<Part> {
        let (mut assembly, mut whole) = (Assembly::default(), Part::default());
        for piece in pieces {
            let part = assembly.take(&piece)?;
            whole.streams.extend(part.streams);
            whole.keys.extend(part.keys);
        }
        whole.streams.extend(assembly.rest().streams);
        Some(whole)
    }

    proptest! {
        #[test]
        fn what_is_told_in_pieces_is_the_same_afterwards(
            streams in prop::collection::vec(
                prop::collection::vec(prop_oneof![8 => 0..99usize, 1 => 0..300_000usize], 0..9),
                0..9,
            ),
            keys in 0..9u64,
        ) {
            let named = |(number, sizes): (usize, &Vec<usize>)| stream(&number.to_string(), sizes);
            let streams: Vec<_> = streams.iter().enumerate().map(named).collect();
            let key = |number: u64| KeyRecord {
                channel: "a:b".into(),
                key: number.to_string().into(),
                head: head(number),
                left_ms: number,
            };
            let part = Part { streams, keys: (0..keys).map(key).collect(), is_last: false };
            let pieces: Vec<_> = pieces(part.clone()).collect();
            let bound = PIECE_BYTES.max(300_000 + 999);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= bound));
            prop_assert_eq!(assembled(pieces), Some(part));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut assembly = Assembly::default();
            let _ = assembly.take(&bytes);
            assembly.rest();
        }
    }

    #[test]
    fn a_piece_that_continues_nothing_is_none() {
        let all: Vec<_> =
            pieces(Part { streams: vec![stream("a", &[1])], ..Part::default() }).collect();
        assert!(assembled(all.clone()).is_some());
        let continued = stream_pieces(stream("a", &[1])).nth(1).unwrap().encode_to_vec();
        assert_eq!(assembled([continued]), None);
        assert_eq!(assembled([b"\xff".to_vec()]), None);
    }
}
