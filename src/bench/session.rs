//! What a connection is by the protocol of channels (the Centrifugo client protocol v2, in JSON).
//!
//! > A client connects and subscribes with its first frame. Once all of that is answered it is open
//! > to the workload, which publishes by commands, and gets what was published.
//!
//! Offsets are looked at here: in a channel that has them each publication must have the next one,
//! also over an absence.

mod reply;

use super::content::{Content, Stamp, append_frame};
use super::failure::Fault;
use super::links::{Links, State};
use super::plan::Plan;
use super::workload::Workload;
use crate::wire::header::OpCode;
use reply::{Publication, Push, Reply, Subscribed};

/// The clients of one thread.
pub struct Sessions {
    clients: Vec<Client>,
    /// The offset of the last publication of each subscription, if it has one.
    offsets: Vec<Option<u64>>,
    /// The epoch of each topic, once it is known.
    epochs: Vec<Option<Box<str>>>,
    subscriptions: u32,
    /// Whether clients ask for what they have missed when they come back.
    recovers: bool,
    /// Scratch: the command that is being written.
    command: Vec<u8>,
}

/// One client.
#[derive(Clone, Copy, Debug, Default)]
struct Client {
    /// The id of the next command.
    next: u32,
    /// That of the oldest one that has not been answered.
    due: u32,
    /// Whether the server wants its pings answered.
    answers_pings: bool,
}

impl Sessions {
    /// The clients of a thread, `count` of them.
    pub fn new(plan: &Plan, count: u32) -> Self {
        let subscriptions = plan.subscriptions();
        Self {
            clients: vec![Client::default(); count as usize],
            offsets: vec![None; count as usize * subscriptions as usize],
            epochs: vec![None; plan.topics as usize],
            subscriptions,
            recovers: plan.channels.as_ref().is_some_and(|channels| channels.missed > 0),
            command: Vec::new(),
        }
    }

    fn offset(&mut self, index: u32, place: u32) -> &mut Option<u64> {
        &mut self.offsets[index as usize * self.subscriptions as usize + place as usize]
    }
}

impl Links {
    /// Asks for the session and all subscriptions of a connection that has become a WebSocket.
    pub fn begin_session(&mut self, index: u32) {
        self.go_on(index, State::Joining);
        let (plan, id) = (self.plan().clone(), self.id(index));
        let (Some(channels), Some(sessions)) = (&plan.channels, &mut self.sessions) else { return };
        let mut text = connect(&channels.token);
        let count = if id < plan.publishers { 0 } else { sessions.subscriptions };
        let mut frames = Vec::new();
        for place in 0..count {
            let topic = plan.topic_at(id, place);
            let position = sessions.offset(index, place).filter(|_| sessions.recovers);
            let epoch = sessions.epochs[topic as usize].as_deref().unwrap_or_default();
            let position = position.map(|offset| (offset, epoch));
            if text.len() > FRAME_BYTES {
                frames.push(std::mem::take(&mut text));
            }
            let separator = if text.is_empty() { "" } else { "\n" };
            let command = subscribe(FIRST_ID + 1 + place, &channels.name(topic), position);
            text += separator;
            text += &command;
            if position.is_none() {
                *sessions.offset(index, place) = None;
            }
        }
        frames.push(text);
        let next = FIRST_ID + 1 + count;
        sessions.clients[index as usize] = Client { next, due: FIRST_ID, answers_pings: false };
        for frame in frames {
            append_frame(self.out(index), OpCode::Text, frame.as_bytes());
        }
    }

    /// Sends a message of the workload, by a frame of its own or as a command that publishes it.
    pub fn send(&mut self, index: u32, topic: u32, content: &mut Content, stamp: Stamp) {
        self.record.counters.messages_sent += 1;
        let plan = self.plan().clone();
        let (Some(channels), Some(sessions)) = (&plan.channels, &mut self.sessions) else {
            if let Some(tail) = content.frame(self.out(index), stamp) {
                self.out_shared(index, tail);
            }
            return;
        };
        let client = &mut sessions.clients[index as usize];
        let mut command = std::mem::take(&mut sessions.command);
        let channel = channels.name(topic);
        let head = format!("{{\"id\":{},\"publish\":{{\"channel\":\"{channel}\"", client.next);
        command.extend_from_slice(head.as_bytes());
        command.extend_from_slice(b",\"data\":\"");
        content.payload(&mut command, stamp);
        command.extend_from_slice(b"\"}}");
        client.next = following(client.next);
        append_frame(self.out(index), OpCode::Text, &command);
        command.clear();
        if let Some(sessions) = &mut self.sessions {
            sessions.command = command;
        }
    }

    /// Takes a frame of the server: replies, pushes, pings.
    ///
    /// # Errors
    /// What is wrong with it, what it refuses, or what is wrong in the opinion of the workload.
    pub fn session_frame<W: Workload>(
        &mut self,
        workload: &mut W,
        index: u32,
        frame: &[u8],
    ) -> Result<(), Fault> {
        for line in frame.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match self.connections[index as usize].state {
                State::Open | State::Joining => self.session_line(workload, index, line)?,
                // The workload has closed it.
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn session_line<W: Workload>(
        &mut self,
        workload: &mut W,
        index: u32,
        line: &[u8],
    ) -> Result<(), Fault> {
        let reply = Reply::parse(line)?;
        if let Some(push) = &reply.push {
            return self.session_push(workload, index, push);
        }
        let Some(sessions) = &mut self.sessions else { return Ok(()) };
        let client = &mut sessions.clients[index as usize];
        if reply.is_ping() {
            if client.answers_pings {
                append_frame(self.out(index), OpCode::Text, b"{}");
                self.record.counters.pings_answered += 1;
            }
            return Ok(());
        }
        if client.due == client.next || reply.id != client.due {
            let text = match client.due == client.next {
                true => format!("a reply to command {}, which nobody asked for", reply.id),
                false => format!("a reply to command {} instead of {}", reply.id, client.due),
            };
            return Err(Fault::Session(text));
        }
        client.due = following(client.due);
        let is_first = reply.id == FIRST_ID;
        let is_joining = self.connections[index as usize].state == State::Joining;
        let what = match is_joining {
            true if is_first => "connect",
            true => "subscribe",
            false => "publish",
        };
        if let Some(error) = &reply.error {
            let text = format!("refused to {what}: {} ({})", error.code, error.message);
            return Err(Fault::Session(text));
        }
        if !is_joining {
            return workload.answered(self, index);
        }
        if is_first {
            let connected = reply.connect.unwrap_or_default();
            if connected.client.is_empty() {
                let text = "connected without an id: does the path speak this protocol?";
                return Err(Fault::Session(text.to_owned()));
            }
            client.answers_pings = connected.pong;
        }
        let is_last = client.due == client.next;
        if !is_first {
            let place = reply.id - FIRST_ID - 1;
            let subscribed = reply.subscribe.unwrap_or_default();
            self.subscribed(workload, index, place, &subscribed)?;
        }
        if is_last {
            self.set_opened(workload, index);
        }
        Ok(())
    }

    /// A subscription has been answered, perhaps with what was missed.
    fn subscribed<W: Workload>(
        &mut self,
        workload: &mut W,
        index: u32,
        place: u32,
        subscribed: &Subscribed<'_>,
    ) -> Result<(), Fault> {
        let topic = self.plan().topic_at(self.id(index), place);
        let Some(sessions) = &mut self.sessions else { return Ok(()) };
        let known = *sessions.offset(index, place);
        let begins = known.is_none();
        if !begins && !subscribed.recovered {
            // Whoever tries again begins anew.
            *sessions.offset(index, place) = None;
            let text = "what was missed is not recovered".to_owned();
            return Err(Fault::Session(text));
        }
        if sessions.recovers && !subscribed.recoverable {
            let text = "nothing can be recovered: the channel keeps no history, or not for us";
            return Err(Fault::Session(text.to_owned()));
        }
        if begins && (subscribed.positioned || subscribed.recoverable) {
            *sessions.offset(index, place) = Some(subscribed.offset);
        }
        if !subscribed.epoch.is_empty() {
            let epoch = &mut sessions.epochs[topic as usize];
            if epoch.as_deref().is_some_and(|known| *known != *subscribed.epoch) {
                let text = "the channel has begun anew (another epoch)".to_owned();
                return Err(Fault::Session(text));
            }
            *epoch = Some(subscribed.epoch.as_ref().into());
        }
        for publication in &subscribed.publications {
            self.record.counters.recovered += 1;
            self.published(workload, index, place, publication)?;
        }
        Ok(())
    }

    fn session_push<W: Workload>(
        &mut self,
        workload: &mut W,
        index: u32,
        push: &Push<'_>,
    ) -> Result<(), Fault> {
        if let Some(end) = &push.unsubscribe {
            let text = format!("unsubscribed by the server with {} ({})", end.code, end.reason);
            return Err(Fault::Session(text));
        }
        if let Some(end) = &push.disconnect {
            let text = format!("disconnected by the server with {} ({})", end.code, end.reason);
            return Err(Fault::Session(text));
        }
        // Who joins and leaves is nothing to us.
        let Some(publication) = &push.publication else { return Ok(()) };
        let plan = self.plan();
        let topic = plan.channels.as_ref().and_then(|channels| channels.topic(&push.channel));
        let place = topic
            .filter(|&topic| topic < plan.topics)
            .and_then(|topic| plan.subscription(self.id(index), topic));
        let Some(place) = place else {
            let text = format!("a publication of {}, which is not subscribed to", push.channel);
            return Err(Fault::Session(text));
        };
        self.published(workload, index, place, publication)
    }

    fn published<W: Workload>(
        &mut self,
        workload: &mut W,
        index: u32,
        place: u32,
        publication: &Publication<'_>,
    ) -> Result<(), Fault> {
        let Some(sessions) = &mut self.sessions else { return Ok(()) };
        let last = sessions.offset(index, place);
        let offset = publication.offset;
        // Nothing is numbered where nothing is kept.
        if offset > 0 {
            let counters = &mut self.record.counters;
            match *last {
                Some(last) if offset <= last => counters.offsets_repeated += 1,
                Some(last) if offset > last + 1 => counters.offset_gaps += 1,
                _ => {}
            }
            *last = Some(last.map_or(offset, |last| last.max(offset)));
        }
        workload.message(self, index, OpCode::Text, publication.data.as_bytes())
    }
}

/// The id behind this one; 0 is none.
fn following(id: u32) -> u32 {
    id.wrapping_add(1).max(FIRST_ID)
}

fn connect(token: &str) -> String {
    let token = serde_json::Value::from(token);
    format!("{{\"id\":{FIRST_ID},\"connect\":{{\"token\":{token},\"name\":\"ringwire-bench\"}}}}")
}

fn subscribe(id: u32, channel: &str, position: Option<(u64, &str)>) -> String {
    let recovery = position.map_or(String::new(), |(offset, epoch)| {
        let epoch = serde_json::Value::from(epoch);
        format!(",\"recover\":true,\"offset\":{offset},\"epoch\":{epoch}")
    });
    format!(
        "{{\"id\":{id},\"subscribe\":{{\"channel\":\"{channel}\",\"recoverable\":true{recovery}}}}}"
    )
}

/// The id of the command that connects.
const FIRST_ID: u32 = 1;
/// From this size on, what a client asks for at first goes on in another frame.
const FRAME_BYTES: usize = 16 << 10;
