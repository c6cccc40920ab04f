//! What a session is told: replies and pushes, in the order in which they are made.
//!
//! While its commands are being done, what they bring is gathered in one frame.

use super::super::Shard;
use crate::io::{Io, Key, Segment};
use crate::realtime::protocol::{Frame, Push, ReplyBody};
use crate::wire::message::DataMessage;

/// A session whose commands are being done.
pub(super) struct AtWork {
    index: u32,
    /// What they have brought, and is not queued.
    replies: Frame,
}

impl<I: Io> Shard<I> {
    /// Begins to do the commands of a session; false if that is being done already.
    pub(super) fn begin_work(&mut self, key: Key) -> bool {
        let Some(session) = self.sessions.get(key.index) else { return false };
        let replies = Frame::new(session.encoding);
        if self.sessions.at_work.iter().any(|it| it.index == key.index) {
            return false;
        }
        self.sessions.at_work.push(AtWork { index: key.index, replies });
        true
    }

    /// Ends that.
    pub(super) fn end_work(&mut self, key: Key) {
        self.send_replies(key);
        self.sessions.at_work.retain(|it| it.index != key.index);
    }

    pub(super) fn reply(&mut self, key: Key, id: u32, body: &ReplyBody) {
        self.say(key, |frame| frame.reply(id, body));
    }

    pub(super) fn push(&mut self, key: Key, channel: &str, push: &Push) {
        self.say(key, |frame| frame.push(channel, push));
    }

    pub(super) fn ping(&mut self, key: Key) {
        self.say(key, Frame::ping);
    }

    fn say(&mut self, key: Key, write: impl FnOnce(&mut Frame)) {
        if self.connections.get(key).is_none() {
            return;
        }
        if let Some(at_work) = self.sessions.at_work.iter_mut().find(|it| it.index == key.index) {
            return write(&mut at_work.replies);
        }
        let Some(session) = self.sessions.get(key.index) else { return };
        let mut frame = Frame::new(session.encoding);
        write(&mut frame);
        self.send_frame(key, frame);
    }

    /// Queues what has been gathered, so that something else can follow it.
    pub(super) fn send_replies(&mut self, key: Key) {
        let of_it = |it: &&mut AtWork| it.index == key.index;
        if let Some(at_work) = self.sessions.at_work.iter_mut().find(of_it) {
            let frame = at_work.replies.take();
            self.send_frame(key, frame);
        }
    }

    /// The same if it is much.
    pub(super) fn send_many_replies(&mut self, key: Key) {
        let mut at_work = self.sessions.at_work.iter();
        if at_work.any(|it| it.index == key.index && it.replies.bytes() > REPLIES_BYTES_MOST) {
            self.send_replies(key);
        }
    }

    /// Queues the messages of a frame for a session.
    fn send_frame(&mut self, key: Key, frame: Frame) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(kind) = connection.stage.websocket().and_then(|it| it.session_kind()) else {
            return;
        };
        if frame.is_empty() || !connection.stage.is_open() {
            return;
        }
        let bytes = DataMessage::new(kind, &frame.into_bytes()).into_frame();
        connection.outbox.push(Segment::owned(bytes, true));
        self.mark_dirty(key);
    }
}

/// Bytes that are gathered before they are queued.
const REPLIES_BYTES_MOST: usize = 16 << 10;
