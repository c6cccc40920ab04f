//! The contract of `Io`, checked: one request of each kind at a time, and none on a closed slot.

use std::collections::HashMap;

use ringwire::io::Key;
use ringwire::shard::requests::Requests;

/// A kind of request that ends in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Receive,
    Poll,
    Send,
    Finish,
    Shutdown,
    Reset,
    Look,
    Measure,
    HandOver,
    Close,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Receive,
        Self::Poll,
        Self::Send,
        Self::Finish,
        Self::Shutdown,
        Self::Reset,
        Self::Look,
        Self::Measure,
        Self::HandOver,
        Self::Close,
    ];

    /// What a connection notes of such a request while it is under way.
    fn request(self) -> Requests {
        match self {
            Self::Receive => Requests::RECEIVE,
            Self::Poll => Requests::POLL,
            Self::Send => Requests::SEND,
            Self::Finish => Requests::FINISH,
            Self::Shutdown => Requests::SHUTDOWN,
            Self::Reset => Requests::RESET,
            Self::Look => Requests::LOOK,
            Self::Measure => Requests::MEASURE,
            Self::HandOver => Requests::HAND_OVER,
            Self::Close => Requests::CLOSE,
        }
    }
}

/// What is under way, from the request to the moment its last event is taken.
#[derive(Default)]
pub struct Contract {
    // Looked up, never walked through: its order is not reproducible.
    under_way: HashMap<Key, Vec<Kind>>,
}

impl Contract {
    /// Takes note of a request.
    pub fn begin(&mut self, key: Key, kind: Kind) {
        let under_way = self.under_way.entry(key).or_default();
        assert!(!under_way.contains(&Kind::Close), "{kind:?} of {key:?} after its close");
        assert!(!under_way.contains(&kind), "{kind:?} of {key:?} while another is under way");
        assert!(
            kind != Kind::Close || under_way.is_empty(),
            "close of {key:?} during {under_way:?}"
        );
        under_way.push(kind);
    }

    /// Takes note of a last event.
    pub fn end(&mut self, key: Key, kind: Kind) {
        let under_way = self.under_way.get_mut(&key).expect("only what was begun ends");
        under_way.retain(|other| *other != kind);
        if under_way.is_empty() {
            self.under_way.remove(&key);
        }
    }

    /// What a connection should have noted.
    pub fn requests(&self, key: Key) -> Requests {
        let under_way = self.under_way.get(&key);
        under_way.into_iter().flatten().map(|kind| kind.request()).collect()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}
