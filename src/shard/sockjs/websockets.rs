//! WebSockets that speak SockJS: connections as others, but for their frames.

use crate::io::{Io, Key};
use crate::shard::Shard;
use crate::shard::connections::Marks;
use crate::sockjs::transport::message_of;
use crate::sockjs::{frame, message};
use crate::websocket::{Piece, WebSocket};
use crate::wire::close::CloseCode;
use crate::wire::message::{DataMessage, MessageKind};

impl<I: Io> Shard<I> {
    /// Whether a connection is a WebSocket that speaks SockJS, and whether its messages return.
    pub(in crate::shard) fn speaks_sockjs(&self, key: Key) -> (bool, bool) {
        let Some(connection) = self.connections.get(key) else { return (false, false) };
        let speaks = connection.stage.websocket().is_some_and(WebSocket::is_sockjs);
        (speaks, speaks && !connection.has(Marks::SUBSCRIBED))
    }

    /// A message of a WebSocket that speaks SockJS has come.
    pub(in crate::shard) fn take_sockjs_frame(&mut self, key: Key, frame: &DataMessage) {
        let Ok(messages) = message::of_frame(frame.payload()) else {
            return self.command(key, |connection, output| {
                if let Some(websocket) = connection.stage.websocket_mut() {
                    websocket.fail_framing(&mut output.websocket);
                }
            });
        };
        let is_member = self.connections.get(key).is_some_and(|it| it.has(Marks::SUBSCRIBED));
        // The frame has been counted as one.
        let more = messages.len().saturating_sub(1);
        if is_member && !(0..more).all(|_| self.may_publish_another(key)) {
            let reason = "more is published to the topic than may be";
            return self.close(key, CloseCode::TRY_AGAIN_LATER, reason);
        }
        self.charge_rates(key, more as u32, 0);
        for message in messages {
            if is_member {
                self.publish(key, DataMessage::new(MessageKind::Text, message.as_bytes()));
                continue;
            }
            let mut frame = String::new();
            frame::push_of_message(&message, &mut frame);
            self.send_sockjs_frame(key, &frame);
        }
    }

    /// Takes one more message of what may be published to the topic of a connection.
    fn may_publish_another(&self, key: Key) -> bool {
        let topic = self.broadcast_topic(key).and_then(|topic| self.topics.name(topic));
        let Some((rate, topic)) = self.effective.admission.topic_rate().zip(topic) else {
            return true;
        };
        self.shared.admission.take_one(rate, &topic, self.attendance.returned).is_ok()
    }

    /// Sends a frame as a message of a WebSocket.
    fn send_sockjs_frame(&mut self, key: Key, frame: &str) {
        let bytes = message_of(frame);
        self.stats().echo_messages_out.add(1);
        self.command(key, |_, output| {
            output.websocket.pieces.push(Piece::Owned { bytes, ends_frame: true });
        });
    }
}
