//! Streamed responses. They are members of topics and count as WebSockets do, but their peers say
//! nothing: whether one is still there shows in what it takes.
//!
//! Time goes in rounds. What has been sent nothing for one gets an empty line, so that proxies see
//! something at least every 15 s; and before that the kernel is asked whether the peer has taken
//! all that came before. A peer that takes nothing for the idle timeout is given up.

use super::Shard;
use super::connections::Marks;
use super::requests::Requests;
use crate::connection::{Stream, Streamed};
use crate::io::{Io, Key};
use crate::wire::close::CloseCode;

impl<I: Io> Shard<I> {
    /// A connection has become a stream.
    pub(super) fn streamed(&mut self, key: Key, streamed: &Streamed) {
        self.admit(key, streamed.was_kept_alive);
        self.join(key, &streamed.topic, false);
        self.stats().streams_begun.add(1);
        self.stats().streams_open.add(1);
        self.schedule_open(key);
    }

    /// A round is over: sees to it that something is sent in the next, and to a peer that takes
    /// nothing.
    pub(super) fn look_at_stream(&mut self, key: Key) {
        let (now, served, check) = (self.now, self.served, self.times.stream_check);
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.note_look(check, now, key.index);
        let has_sent = connection.has(Marks::HAS_SENT);
        connection.unmark(Marks::HAS_SENT);
        let sent_empty_line =
            connection.stage.stream_mut().is_some_and(Stream::take_sent_empty_line);
        if has_sent && !sent_empty_line {
            // Where much is sent, the kernel takes no more of it than the peer does.
            connection.last_active = served;
        }
        let is_sending = connection.requests.contains(Requests::SEND);
        if self.times.park_after.is_some() && !connection.has(Marks::PARKED) {
            self.park(key);
        }
        if is_sending && !has_sent && self.is_given_up(key) {
            return self.close(key, CloseCode::GOING_AWAY, "");
        }
        if !is_sending && !has_sent {
            self.measure(key);
        }
        self.schedule_open(key);
    }

    /// The kernel tells what the peer of a stream has not taken, of what was sent before the round
    /// that is over.
    pub(super) fn measured_stream(&mut self, key: Key, unread_bytes: Option<u32>) {
        let served = self.served;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if unread_bytes.unwrap_or(0) == 0 {
            connection.last_active = served;
        } else if self.is_given_up(key) {
            return self.close(key, CloseCode::GOING_AWAY, "");
        }
        self.command(key, |connection, output| {
            let may_send = !connection.requests.contains(Requests::SEND);
            if let Some(stream) = connection.stage.stream_mut().filter(|_| may_send) {
                stream.send_empty_line(&mut output.websocket);
            }
        });
    }

    /// The peer of a stream has closed its side: it wants no more, whoever ends it.
    pub(super) fn end_stream_by_peer(&mut self, key: Key) {
        self.command(key, |connection, output| {
            if let Some(stream) = connection.stage.stream_mut() {
                stream.end_by_peer(&mut output.websocket);
            }
        });
    }

    /// Whether the peer has shown no sign of life for as long as it may.
    fn is_given_up(&self, key: Key) -> bool {
        let silence = |last_active| self.served.saturating_sub(last_active);
        let silence = self.connections.get(key).map_or(0, |it| silence(it.last_active));
        self.times.idle_timeout.is_some_and(|timeout| silence >= timeout)
    }
}
