//! The messages of a run as members get them that speak SockJS.

use std::rc::Rc;

use crate::sockjs::transport::Form;
use crate::wire::frames::Frames;
use crate::wire::message::{MessageKind, SharedMessage};

/// The messages of a run in one form. Binary ones are left out: no frame can hold them.
#[derive(Debug)]
pub(super) struct SockJsFrames {
    pub(super) form: Form,
    pub(super) frames: Rc<Frames>,
}

impl SockJsFrames {
    /// These messages in that form.
    pub(super) fn new<'m>(form: Form, messages: impl Iterator<Item = &'m SharedMessage>) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for message in messages {
            // Texts have been checked when they came.
            if message.kind() == MessageKind::Text
                && let Ok(text) = str::from_utf8(message.payload())
            {
                form.push(text, &mut bytes);
                ends.push(bytes.len() as u32);
            }
        }
        Self { form, frames: Rc::new(Frames::joined(bytes, ends)) }
    }
}
