//! Messages that are sent together.

use super::{
    Command, Encoding, Push, ReplyBody, encode_command, encode_ping, encode_push, encode_reply,
};

/// The content of one WebSocket message: a text in JSON, binary in Protobuf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    encoding: Encoding,
    bytes: Vec<u8>,
}

impl Frame {
    /// A frame without messages, which must not be sent.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, bytes: Vec::new() }
    }

    /// Adds a command of a client.
    pub fn command(&mut self, command: &Command) {
        let encoding = self.encoding;
        encode_command(encoding, command, self.next());
    }

    /// Adds the reply to the command `id`.
    pub fn reply(&mut self, id: u32, body: &ReplyBody) {
        let encoding = self.encoding;
        encode_reply(encoding, id, body, self.next());
    }

    /// Adds a push; `channel` is empty where it is about the connection.
    pub fn push(&mut self, channel: &str, push: &Push) {
        let encoding = self.encoding;
        encode_push(encoding, channel, push, self.next());
    }

    /// Adds a ping of the server, or the pong of a client.
    pub fn ping(&mut self) {
        let encoding = self.encoding;
        encode_ping(encoding, self.next());
    }

    /// Adds a message that has been encoded alone, in the encoding of this frame.
    pub fn encoded(&mut self, message: &[u8]) {
        self.next().extend_from_slice(message);
    }

    /// Takes the messages out.
    pub fn take(&mut self) -> Self {
        Self { encoding: self.encoding, bytes: std::mem::take(&mut self.bytes) }
    }

    /// Whether it has no messages.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How long it is.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What is to be sent.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Where the next message goes.
    fn next(&mut self) -> &mut Vec<u8> {
        if self.encoding == Encoding::Json && !self.bytes.is_empty() {
            self.bytes.push(b'\n');
        }
        &mut self.bytes
    }
}
