//! Commands that ask what is kept of a channel, or who is there.

use super::super::Shard;
use super::commands::Outcome;
use super::home::QUESTION_BYTES;
use crate::config::ChannelOptions;
use crate::io::{Io, Key};
use crate::realtime::channels::{Asker, Denied, may_read_history};
use crate::realtime::home::Question;
use crate::realtime::patterns::is_pattern;
use crate::realtime::protocol::codes::{Disconnect, ErrorCode};
use crate::realtime::protocol::{Command, HistoryRequest};

impl<I: Io> Shard<I> {
    /// Asks the home of a channel something that a session may know.
    pub(super) fn ask_by_command(
        &mut self,
        key: Key,
        id: u32,
        channel: String,
        may: impl Fn(&ChannelOptions, &Asker<'_>) -> Result<(), Denied>,
        question: Question,
        again: impl FnOnce(String) -> Command,
    ) -> Outcome {
        if channel.is_empty() {
            return Outcome::Disconnect(Disconnect::BAD_REQUEST);
        }
        if is_pattern(&channel) {
            return Outcome::error(ErrorCode::NotAvailable);
        }
        let effective = self.effective.clone();
        let options = match effective.channels.options(&channel) {
            Ok(options) => options,
            Err(denied) => return Outcome::error(denied),
        };
        let Some(session) = self.sessions.get(key.index) else { return Outcome::Nothing };
        if let Err(denied) = may(options, &self.asker(session, &channel)) {
            return Outcome::error(denied);
        }
        let Some(reserved) = self.reserve(&channel, QUESTION_BYTES) else {
            return Outcome::Again(Box::new(again(channel)));
        };
        self.wait_for_reply(key, id, channel.into(), question, reserved);
        Outcome::Waits
    }

    pub(super) fn history_by_command(
        &mut self,
        key: Key,
        id: u32,
        request: HistoryRequest,
    ) -> Outcome {
        let question = Question::History {
            since: request.since.clone(),
            limit: request.limit,
            is_reverse: request.reverse,
        };
        let channel = request.channel.clone();
        let again = |_| Command { id, history: Some(request), ..Command::default() };
        self.ask_by_command(key, id, channel, may_read_history, question, again)
    }
}
