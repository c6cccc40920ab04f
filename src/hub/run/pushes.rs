//! The messages of a run as client sessions get them whose encoding is binary.
//!
//! What is published to a channel is a push in JSON, which is a text as it stands. Sessions of the
//! other encoding get the same push in that, made once for all of them.

use std::rc::Rc;

use crate::realtime::protocol::{transcode_delta_push, transcode_push};
use crate::wire::frames::Frames;
use crate::wire::message::{DataMessage, MessageKind, SharedMessage};

/// The frames of these messages; one that is no push is left out.
pub(super) fn binary<'m>(
    messages: impl Iterator<Item = &'m SharedMessage>,
    are_deltas: bool,
) -> Rc<Frames> {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for message in messages {
        let push = match message.kind() {
            MessageKind::Text if are_deltas => transcode_delta_push(message.payload()),
            MessageKind::Text => transcode_push(message.payload()),
            MessageKind::Binary => Some(message.payload().to_vec()),
        };
        debug_assert!(push.is_some(), "sessions are members of channels alone");
        if let Some(push) = push {
            bytes.extend_from_slice(&DataMessage::new(MessageKind::Binary, &push).into_frame());
            ends.push(bytes.len() as u32);
        }
    }
    Rc::new(Frames::joined(bytes, ends))
}
