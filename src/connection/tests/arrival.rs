//! A script of frames that arrives in pieces, and all that its sender then sees held against what
//! the reference expects.

use super::client::{request, served};
use super::harness::{Harness, Sending, codec};
use super::reference::Expected;
use ringwire::config::{Limits, MessageTypes};
use ringwire::wire::header::OpCode;

/// How a script reaches a WebSocket: whatever is said here must make no difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    /// The route: `/echo` returns messages, others publish them.
    pub(super) path: &'a str,
    /// What was agreed on compression, before the script and whatever `with_request` says.
    pub(super) compression: Option<Compression>,
    pub(super) message_types: MessageTypes,
    /// Where the bytes are cut, in ascending order.
    pub(super) cuts: &'a [usize],
    pub(super) sending: Sending,
    /// For each piece a bit, the lowest for the first: nothing may begin while it arrives.
    pub(super) pauses: u64,
    /// Whether the request is part of the bytes that are cut, or has been answered before.
    pub(super) with_request: bool,
}

/// An agreement on compression.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compression {
    /// Whether the server's terms let messages refer to earlier ones.
    pub(super) takeover: bool,
    /// What the client adds to its offer, each with a semicolon before.
    pub(super) parameters: &'static str,
}

impl<'a> Arrival<'a> {
    /// On an open connection that accepts everything and never has to pause.
    pub(super) fn new(path: &'a str, sending: Sending, cuts: &'a [usize]) -> Self {
        let message_types = MessageTypes::Any;
        let (compression, pauses, with_request) = (None, 0, false);
        Self { path, compression, message_types, cuts, sending, pauses, with_request }
    }

    /// Feeds the script, and checks everything that the peer would see.
    pub(super) fn check(&self, script: &[u8], expected: &Expected) {
        let mut harness = self.feed(script);
        let transcript = harness.transcript();
        assert_eq!(transcript.controls, expected.pongs, "{self:?}");
        assert_eq!(
            transcript.close_code().map(|code| code.0),
            expected.close.flatten(),
            "{self:?}"
        );
        assert_eq!(transcript.close.is_some(), expected.close.is_some(), "{self:?}");
        assert_eq!(harness.stage.is_ended(), expected.close.is_some(), "{self:?}");
        assert_eq!(harness.finished, expected.close.is_some(), "{self:?}");
        assert_eq!(harness.messages as usize, expected.messages.len(), "{self:?}");
        if self.path == "/echo" {
            assert!(transcript.data == expected.data, "{self:?}");
            assert_eq!(transcript.messages, expected.messages, "{self:?}");
            assert_eq!(harness.reflected_messages, harness.messages, "{self:?}");
            assert!(harness.published.is_empty());
        } else {
            let encode = |(opcode, payload): &(OpCode, Vec<u8>)| served(true, *opcode, payload);
            let frames: Vec<_> = expected.messages.iter().map(encode).collect();
            assert!(harness.published == frames, "{self:?}");
            assert!(transcript.data.is_empty(), "{self:?}");
        }
    }

    /// The connection after all of the script.
    pub(super) fn feed(&self, script: &[u8]) -> Harness {
        let (path, sending) = (self.path, self.sending);
        let (mut harness, input) = match self.compression {
            Some(Compression { takeover, parameters }) => {
                (Harness::compressed(path, sending, takeover, parameters), script.to_vec())
            }
            None if self.with_request => (Harness::new(sending), [&request(path), script].concat()),
            None => (Harness::open(path, sending), script.to_vec()),
        };
        harness.limits = limits();
        harness.codec = codec(&harness.limits);
        harness.message_types = self.message_types;
        // How much a turn allows must not matter either.
        let chance = self.cuts.len() + self.cuts.iter().sum::<usize>();
        harness.budget = BUDGETS[chance % BUDGETS.len()];
        let (mut from, mut pauses) = (0, self.pauses);
        for &cut in self.cuts.iter().chain([&input.len()]) {
            harness.may_begin = pauses & 1 == 0;
            pauses >>= 1;
            if harness.may_begin && harness.has_stash() {
                harness.resume();
            }
            harness.feed(&input[from..cut]);
            from = cut;
        }
        harness.may_begin = true;
        if harness.has_stash() {
            harness.resume();
        }
        harness
    }
}

/// From a frame at a time to everything at once.
const BUDGETS: [u32; 5] = [u32::MAX, 1, 700, 20_000, 200_000];

/// Low enough that scripts reach them, high enough that most do not. Control frames are not
/// counted, because how many there may be depends on the time in which they come.
pub(super) fn limits() -> Limits {
    Limits {
        message_bytes: 70_000,
        message_fragments: 12,
        control_frames_per_second: u32::MAX,
        ..Limits::default()
    }
}
