//! What is published to the topics of sessions.

use super::{Entry, SLOW_CODE, SLOW_REASON, Served, SockJsSessions};
use crate::config::SlowConsumer;
use crate::hub::run::{Encoding, Run};
use crate::io::{Io, Key};
use crate::shard::Shard;
use crate::sockjs::transport::Form;
use crate::stats::ShardStats;

/// How a member of a topic gets what is published.
pub(in crate::shard) enum Way {
    /// It is a connection, which gets it as it always does.
    Connection,
    /// It is a session whose receiver gets it as it is made for all.
    Stream(Key, Encoding),
    /// It is a session in which it waits.
    Session,
}

impl SockJsSessions {
    /// How a member gets what is published.
    pub(in crate::shard) fn way_to(&self, member: u32) -> Way {
        let Some(place) = member.checked_sub(self.first_member) else { return Way::Connection };
        let Some(entry) = self.sessions.get(place as usize) else { return Way::Session };
        match entry.session.shares() {
            Some((key, transport)) => {
                Way::Stream(key, Encoding::SockJs(Form::Part(transport, entry.framing)))
            }
            None => Way::Session,
        }
    }

    /// The receiver of a session has been sent so many bytes of what is made for all. If its
    /// response has had as many as it may, that ends later in the tick.
    pub(in crate::shard) fn note_shared(&mut self, member: u32, receiver: Key, bytes: usize) {
        let Some(place) = member.checked_sub(self.first_member) else { return };
        if let Some(entry) = self.sessions.get_mut(place as usize)
            && entry.session.note_shared(bytes)
        {
            self.sated.push((receiver, entry.transport, entry.framing));
        }
    }

    /// Keeps runs for a session, which have been encoded as literals, as far as the policy for
    /// those who read too slowly allows.
    pub(in crate::shard) fn keep(
        &mut self,
        member: u32,
        runs: &[Run],
        bytes_most: usize,
        policy: SlowConsumer,
        stats: &ShardStats,
    ) {
        let Some(place) = member.checked_sub(self.first_member) else { return };
        let Some(entry) = self.sessions.get_mut(place as usize) else { return };
        let (mut kept, mut dropped) = (0, 0);
        for run in runs {
            let Some(frames) = run.encoded(Encoding::SockJs(Form::Literal)) else { continue };
            stats.lines_left_out.add((run.messages_len() - frames.messages()).into());
            let excerpts = run.share_of(member, frames).into_excerpts();
            // They were made as texts.
            let literals = excerpts.iter().flat_map(|excerpt| excerpt.each());
            for literal in literals.filter_map(|it| str::from_utf8(it).ok()) {
                let is_full = entry.session.push(literal, bytes_most).is_err();
                kept += u64::from(!is_full);
                if is_full {
                    dropped += entry.give_way_to(literal, bytes_most, policy);
                }
            }
        }
        stats.deliveries.add(kept);
        stats.drop_messages(policy, dropped);
        self.ready.push(place);
    }
}

impl Entry {
    /// Does with a message that finds no room as the policy says, and tells how many were dropped
    /// for it, or that itself.
    fn give_way_to(&mut self, literal: &str, bytes_most: usize, policy: SlowConsumer) -> u64 {
        match policy {
            SlowConsumer::DropNewest => 1,
            SlowConsumer::Latest => {
                let dropped = self.session.drop_all() as u64;
                dropped + u64::from(self.session.push(literal, bytes_most).is_err())
            }
            SlowConsumer::DropOldest => {
                let mut dropped = 0;
                while self.session.push(literal, bytes_most).is_err() && self.session.drop_oldest()
                {
                    dropped += 1;
                }
                dropped
            }
            SlowConsumer::Disconnect => {
                let dropped = self.session.drop_all() as u64;
                self.session.close(SLOW_CODE, SLOW_REASON);
                dropped + 1
            }
        }
    }
}

impl<I: Io> Shard<I> {
    /// Tells those who wait what their sessions have got, and ends responses that have had enough.
    pub(in crate::shard) fn serve_ready_sessions(&mut self) {
        for (key, transport, framing) in std::mem::take(&mut self.sockjs.sated) {
            self.detach(key);
            self.say_frames(key, transport, framing, Served { frames: Vec::new(), ends: true });
        }
        for place in std::mem::take(&mut self.sockjs.ready) {
            let entry = self.sockjs.sessions.get(place as usize);
            if entry.is_some_and(|entry| entry.session.is_closed()) {
                self.leave_topics(place);
            }
            self.serve_session(place);
        }
    }
}
