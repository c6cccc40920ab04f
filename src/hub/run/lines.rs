//! The messages of a run as lines, made over several ticks where that takes long.

use std::rc::Rc;

use crate::wire::frames::Frames;
use crate::wire::line::{FRAMING_BYTES_MAX, LineFraming, has_line_break, text};
use crate::wire::message::SharedMessage;

/// The lines of a run in one framing. Messages that are no line are left out.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) framing: LineFraming,
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// The place of the message that comes next, and how much of its line has been taken.
    next: usize,
    taken_bytes: usize,
    frames: Option<Rc<Frames>>,
}

impl Lines {
    /// None yet.
    pub(super) fn new(framing: LineFraming) -> Self {
        let (bytes, ends) = (Vec::new(), Vec::new());
        Self { framing, bytes, ends, next: 0, taken_bytes: 0, frames: None }
    }

    /// All lines, once they have been made.
    pub(super) fn frames(&self) -> Option<&Rc<Frames>> {
        self.frames.as_ref()
    }

    /// Goes on to make lines of these messages, which are the same each time, for as many bytes as
    /// are left; whether all have been made.
    pub(super) fn add<'m>(
        &mut self,
        messages: impl Iterator<Item = &'m SharedMessage> + Clone,
        bytes_left: &mut usize,
    ) -> bool {
        if self.frames.is_some() {
            return true;
        }
        if self.bytes.capacity() == 0 {
            let most = messages.clone().filter_map(text).map(|it| it.len() + FRAMING_BYTES_MAX);
            self.bytes.reserve_exact(most.sum());
        }
        for message in messages.skip(self.next) {
            if let Some(line) = text(message)
                && !self.take(line, bytes_left)
            {
                return false;
            }
            (self.next, self.taken_bytes) = (self.next + 1, 0);
        }
        let (bytes, ends) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.ends));
        self.frames = Some(Rc::new(Frames::joined(bytes, ends)));
        true
    }

    /// Goes on with a line; whether it is at its end, or proves to be none.
    fn take(&mut self, line: &[u8], bytes_left: &mut usize) -> bool {
        if *bytes_left == 0 {
            return false;
        }
        if self.taken_bytes == 0 {
            self.framing.begin(line.len(), &mut self.bytes);
        }
        let rest = &line[self.taken_bytes..];
        let part = &rest[..rest.len().min(*bytes_left)];
        *bytes_left -= part.len();
        if has_line_break(part) {
            self.bytes.truncate(self.ends.last().map_or(0, |&end| end as usize));
            return true;
        }
        self.bytes.extend_from_slice(part);
        self.taken_bytes += part.len();
        if part.len() < rest.len() {
            return false;
        }
        self.framing.end(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
        true
    }
}
