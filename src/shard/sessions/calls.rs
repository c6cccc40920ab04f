//! Calls of applications: each is done step by step, where a step may wait for the home of a
//! channel or for each shard in turn, and is answered when the last has been done.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::super::Shard;
use super::super::pause::WaitsFor;
use super::super::receive::SHARE_MOST;
use super::hand_over::Change;
use super::home::{Purpose, QUESTION_BYTES};
use super::rules::{Act, Rule};
use crate::http::Called;
use crate::io::{Io, Key};
use crate::realtime::api::{self, Call, Content, Fault, Glob, HistoryCall, Node, Outcome, Publish};
use crate::realtime::home::{Answer, Census, Question};
use crate::realtime::protocol::codes::ErrorCode;
use crate::realtime::protocol::{Publication, ReplyError, StreamPosition};
use crate::realtime::{publication, topic};

/// A call that is being done for a connection.
pub(super) struct Calling {
    key: Key,
    is_transport_mode: bool,
    /// The status of the response, where what was called is known to be wrong.
    status: Option<u16>,
    /// What is being done, each within the one before.
    levels: Vec<Level>,
}

/// Steps that are done one after the other.
pub(super) struct Level {
    kind: Kind,
    todo: VecDeque<Step>,
    /// What each has come to, by its method.
    done: Vec<(&'static str, Outcome)>,
    /// The method of the step that waits for an answer.
    waiting: &'static str,
}

/// What becomes of all that they come to.
enum Kind {
    /// The only outcome is the answer.
    One,
    /// Each is a line of the answer.
    Lines,
    /// Each is a part of the answer.
    Batch,
    /// Each is where something was published.
    Broadcast,
    /// Each is what a shard has said of all that is there.
    Gather { is_info: bool, found: Census },
}

pub(super) enum Step {
    Call(Call),
    Fault(Fault),
    /// A part of a broadcast.
    Publish(String, Arc<Content>),
    /// A shard is asked what is there, of channels whose names match.
    Ask(usize, Option<Glob>),
}

/// What has come of a step.
pub(super) enum Progress {
    Done(Outcome),
    Waits,
    /// It could not be done for want of a place, and has to be done again.
    Again(Step),
    /// It consists of others.
    Within(Level),
}

/// The calls of a shard, by the index of their connections.
#[derive(Default)]
pub(super) struct Calls {
    by_index: HashMap<u32, Calling>,
    /// Those that can go on.
    pub(super) ready: VecDeque<Key>,
}

impl Level {
    fn new(kind: Kind, todo: impl IntoIterator<Item = Step>) -> Self {
        Self { kind, todo: todo.into_iter().collect(), done: Vec::new(), waiting: "" }
    }

    fn of_calls(kind: Kind, calls: Vec<Result<Call, Fault>>) -> Self {
        Self::new(kind, calls.into_iter().map(|call| call.map_or_else(Step::Fault, Step::Call)))
    }

    /// What it comes to as a step of another.
    fn outcome(self) -> (&'static str, Outcome) {
        match self.kind {
            Kind::Batch | Kind::Lines | Kind::One => (BATCH, Outcome::Batch(self.done)),
            Kind::Broadcast => {
                let positions = self.done.into_iter().map(|(_, outcome)| position(outcome));
                (BROADCAST, Outcome::Broadcast(positions.collect()))
            }
            Kind::Gather { is_info: false, found } => (CHANNELS, Outcome::Channels(found.channels)),
            Kind::Gather { is_info: true, found } => (INFO, Outcome::Info(vec![node(&found)])),
        }
    }
}

impl<I: Io> Shard<I> {
    /// A request calls something; it is begun in the same tick.
    pub(in crate::shard) fn begin_call(&mut self, key: Key) {
        let Some(called) = self.output.called.take() else { return };
        let Called { method, body, is_transport_mode } = *called;
        let (kind, calls) = match &method {
            Some(method) => (Kind::One, Call::parse(method, &body).map(|call| vec![Ok(call)])),
            None => (Kind::Lines, api::parse_lines(&body)),
        };
        let (level, status) = match calls {
            Ok(calls) => (Level::of_calls(kind, calls), None),
            Err(fault) => {
                let level = Level::new(Kind::One, [Step::Fault(fault)]);
                (level, Some(fault.status(is_transport_mode)))
            }
        };
        // From here on it is not the client that takes its time.
        self.expect_end_of_upload(key);
        self.stats().api_calls.add(1);
        let calling = Calling { key, is_transport_mode, status, levels: vec![level] };
        self.sessions.calls.by_index.insert(key.index, calling);
        self.sessions.calls.ready.push_back(key);
    }

    /// Goes on with those calls that can.
    pub(super) fn go_on_with_calls(&mut self) {
        for _ in 0..self.sessions.calls.ready.len() {
            let Some(key) = self.sessions.calls.ready.pop_front() else { return };
            self.go_on_with_call(key);
        }
    }

    /// What a call has waited for has come.
    pub(super) fn call_answered(&mut self, key: Key, answer: Answer) {
        let Some(calling) = self.sessions.calls.by_index.get_mut(&key.index) else { return };
        let Some(level) = calling.levels.last_mut().filter(|_| calling.key == key) else { return };
        match (&mut level.kind, answer) {
            (Kind::Gather { found, .. }, Answer::Census(census)) => found.add(*census),
            (_, answer) => level.done.push((level.waiting, outcome_of(answer))),
        }
        self.sessions.calls.ready.push_back(key);
    }

    /// The connection that has called has gone.
    pub(in crate::shard) fn forget_call(&mut self, key: Key) {
        if self.sessions.calls.by_index.get(&key.index).is_some_and(|it| it.key == key) {
            self.sessions.calls.by_index.remove(&key.index);
        }
    }

    fn go_on_with_call(&mut self, key: Key) {
        let calls = &mut self.sessions.calls.by_index;
        if calls.get(&key.index).is_none_or(|it| it.key != key) {
            return;
        }
        let Some(mut calling) = calls.remove(&key.index) else { return };
        if self.connections.get(key).is_none_or(|it| it.ending.has_begun()) {
            // It was given up, or has been answered that it takes too long.
            self.resume_if(key, WaitsFor::Home, SHARE_MOST);
            return;
        }
        for _ in 0..STEPS_PER_TICK {
            let Some(level) = calling.levels.last_mut() else { return };
            let Some(step) = level.todo.pop_front() else {
                let Some(level) = calling.levels.pop() else { return };
                match calling.levels.last_mut() {
                    Some(above) => above.done.push(level.outcome()),
                    None => return self.answer_call(&calling, level),
                }
                continue;
            };
            let method = method_of(&step);
            // An answer may come before this returns, and then meets the call.
            level.waiting = method;
            self.sessions.calls.by_index.insert(key.index, calling);
            let progress = self.do_step(key, step);
            if matches!(progress, Progress::Waits) {
                // It has been answered at once if it can go on already.
                if self.sessions.calls.ready.back() != Some(&key) {
                    return;
                }
                self.sessions.calls.ready.pop_back();
            }
            let Some(again) = self.sessions.calls.by_index.remove(&key.index) else { return };
            calling = again;
            let Some(level) = calling.levels.last_mut() else { return };
            match progress {
                Progress::Done(outcome) => level.done.push((method, outcome)),
                Progress::Within(within) => calling.levels.push(within),
                Progress::Again(step) => {
                    level.todo.push_front(step);
                    // Nobody tells when there is a place.
                    self.sessions.look_again_at.get_or_insert(self.now + 1);
                    break;
                }
                Progress::Waits => {}
            }
        }
        // It goes on in the next tick: others have their turn.
        self.sessions.calls.by_index.insert(key.index, calling);
        self.sessions.calls.ready.push_back(key);
    }

    fn do_step(&mut self, key: Key, step: Step) -> Progress {
        let is_rule = matches!(
            step,
            Step::Call(
                Call::Subscribe(_) | Call::Unsubscribe(_) | Call::Disconnect(_) | Call::Refresh(_)
            )
        );
        if is_rule && !self.sessions.unsent.is_empty() {
            // Other shards have not been told of those before.
            return Progress::Again(step);
        }
        let call = match step {
            Step::Call(call) => call,
            Step::Publish(channel, content) => {
                return self.publish_by_call(key, Publish { channel, content: (*content).clone() });
            }
            Step::Fault(fault) => return Progress::Done(fault.into()),
            Step::Ask(shard, glob) => return self.ask_shard(key, shard, glob),
        };
        match call {
            Call::Publish(publish) => self.publish_by_call(key, publish),
            Call::Broadcast(broadcast) => {
                let content = Arc::new(broadcast.content);
                let steps = broadcast.channels.into_iter();
                let steps = steps.map(|channel| Step::Publish(channel, content.clone()));
                Progress::Within(Level::new(Kind::Broadcast, steps))
            }
            Call::Batch { calls, .. } => Progress::Within(Level::of_calls(Kind::Batch, calls)),
            Call::Presence(channel) => {
                self.ask_by_call(key, channel, Question::Presence, Call::Presence)
            }
            Call::PresenceStats(channel) => {
                self.ask_by_call(key, channel, Question::PresenceStats, Call::PresenceStats)
            }
            Call::History(call) => {
                let HistoryCall { channel, limit, since, is_reverse } = call.clone();
                let question = Question::History { since, limit, is_reverse };
                self.ask_by_call(key, channel, question, |_| Call::History(call))
            }
            Call::HistoryRemove(channel) => {
                let change = self.may_change_history();
                if change != Change::Now {
                    return change.progress(Step::Call(Call::HistoryRemove(channel)));
                }
                self.ask_by_call(key, channel, Question::RemoveHistory, Call::HistoryRemove)
            }
            Call::Channels(glob) => self.gather(false, Some(glob)),
            Call::Info => self.gather(true, None),
            Call::Subscribe(call) => {
                let (connections, channel) = (call.connections.clone(), call.channel.clone());
                match self.effective.channels.options(&channel) {
                    Ok(_) => self.rule(Rule { connections, act: Act::Subscribe(call) }),
                    Err(denied) => Progress::Done(ErrorCode::from(denied).into()),
                }
            }
            Call::Unsubscribe(call) => {
                let act = Act::Unsubscribe { channel: call.channel };
                self.rule(Rule { connections: call.connections, act })
            }
            Call::Disconnect(call) => {
                let connections = call.connections.clone();
                self.rule(Rule { connections, act: Act::Disconnect(call) })
            }
            Call::Refresh(call) => {
                let connections = call.connections.clone();
                self.rule(Rule { connections, act: Act::Refresh(call) })
            }
            // Whatever an application would have called, there is none here.
            Call::Rpc { .. } => Progress::Done(ErrorCode::MethodNotFound.into()),
        }
    }

    fn rule(&mut self, rule: Rule) -> Progress {
        self.tell_all(&Arc::new(rule));
        Progress::Done(Outcome::Done)
    }

    fn gather(&self, is_info: bool, glob: Option<Glob>) -> Progress {
        let shards = 0..self.shared.stats.shards();
        let steps = shards.map(|shard| Step::Ask(shard, glob.clone()));
        Progress::Within(Level::new(Kind::Gather { is_info, found: Census::default() }, steps))
    }

    fn ask_shard(&mut self, key: Key, shard: usize, glob: Option<Glob>) -> Progress {
        let Some(reserved) = self.reserve_at(shard, QUESTION_BYTES) else {
            return Progress::Again(Step::Ask(shard, glob));
        };
        let question = Question::Census { channels: glob };
        self.ask(key, &Arc::from(""), question, Purpose::Call, reserved);
        Progress::Waits
    }

    fn ask_by_call(
        &mut self,
        key: Key,
        channel: String,
        question: Question,
        again: impl FnOnce(String) -> Call,
    ) -> Progress {
        if let Err(denied) = self.effective.channels.options(&channel) {
            return Progress::Done(ErrorCode::from(denied).into());
        }
        let Some(reserved) = self.reserve(&channel, QUESTION_BYTES) else {
            return Progress::Again(Step::Call(again(channel)));
        };
        self.ask(key, &channel.into(), question, Purpose::Call, reserved);
        Progress::Waits
    }

    fn publish_by_call(&mut self, key: Key, publish: Publish) -> Progress {
        let effective = self.effective.clone();
        let options = match effective.channels.options(&publish.channel) {
            Ok(options) => options,
            Err(denied) => return Progress::Done(ErrorCode::from(denied).into()),
        };
        if !publish.content.data.is_json {
            // Those could not be told who speak JSON.
            return Progress::Done(ErrorCode::BadRequest.into());
        }
        if !self.has_room_in(key, &publish.channel, options) {
            return Progress::Again(Step::Call(Call::Publish(publish)));
        }
        let is_kept = options.has_history() && !publish.content.skip_history;
        if !is_kept
            && publish.content.idempotency_key.is_empty()
            && options.allowed_delta_types.is_none()
        {
            let Content { data, tags, .. } = publish.content;
            let publication = Publication { data: data.bytes, tags, ..Publication::default() };
            self.publish_to_channel(&publish.channel, publication);
            return Progress::Done(Outcome::Published(StreamPosition::default()));
        }
        let change = self.may_change_history();
        if change != Change::Now {
            return change.progress(Step::Call(Call::Publish(publish)));
        }
        let bytes = QUESTION_BYTES + publish.content.data.bytes.len();
        let Some(reserved) = self.reserve(&publish.channel, bytes) else {
            return Progress::Again(Step::Call(Call::Publish(publish)));
        };
        let Publish { channel, content } = publish;
        let question = Question::Publish {
            publication: publication::Publication {
                data: content.data.bytes.into(),
                is_json: true,
                tags: content.tags,
                ..publication::Publication::default()
            },
            idempotency_key: content.idempotency_key.into(),
            version: content.version,
            version_epoch: content.version_epoch.into(),
            skips_history: content.skip_history,
            wants_delta: content.delta,
        };
        self.ask(key, &channel.into(), question, Purpose::Call, reserved);
        Progress::Waits
    }

    fn answer_call(&mut self, calling: &Calling, level: Level) {
        let Calling { key, is_transport_mode, .. } = *calling;
        let (status, body) = match level.kind {
            Kind::Lines => {
                let outcomes: Vec<_> = level.done.into_iter().map(|(_, it)| it).collect();
                (200, api::write_lines(&outcomes))
            }
            _ => match level.done.into_iter().next() {
                Some((_, outcome)) => {
                    let status = api::status(&outcome, is_transport_mode);
                    (status, api::write(&outcome, is_transport_mode))
                }
                None => (400, Vec::new()),
            },
        };
        let status = calling.status.unwrap_or(status);
        // All of it was made here of texts.
        let body = String::from_utf8(body).unwrap_or_default();
        self.command(key, |connection, output| connection.stage.finish_call(status, body, output));
        self.resume_if(key, WaitsFor::Home, SHARE_MOST);
        self.settle(key);
    }
}

fn method_of(step: &Step) -> &'static str {
    match step {
        Step::Call(call) => call.method(),
        Step::Publish(..) => PUBLISH,
        Step::Fault(_) | Step::Ask(..) => "",
    }
}

fn position(outcome: Outcome) -> Result<StreamPosition, ReplyError> {
    match outcome {
        Outcome::Published(position) => Ok(position),
        Outcome::Error(error) => Err(error),
        _ => Err(ErrorCode::Internal.into()),
    }
}

/// What the answer of a home is to an application.
fn outcome_of(answer: Answer) -> Outcome {
    match answer {
        Answer::Published(head) => Outcome::Published(StreamPosition {
            offset: head.offset,
            epoch: head.epoch.as_str().to_owned(),
        }),
        Answer::Presence(clients) => Outcome::Presence(
            clients.iter().map(|it| (it.client.to_string(), it.as_ref().into())).collect(),
        ),
        Answer::PresenceStats(stats) => Outcome::PresenceStats {
            client_count: stats.clients as u64,
            user_count: stats.users as u64,
        },
        Answer::History { publications, position } => Outcome::History {
            publications: publications.iter().map(|it| it.as_ref().into()).collect(),
            top: StreamPosition {
                offset: position.offset,
                epoch: position.epoch.as_str().to_owned(),
            },
        },
        Answer::Done => Outcome::Done,
        Answer::Refused(code) => code.into(),
        Answer::Subscribed { .. } | Answer::Census(_) => ErrorCode::Internal.into(),
    }
}

fn node(found: &Census) -> Node {
    Node {
        uid: found.process.clone(),
        name: "ringwire".to_owned(),
        version: crate::VERSION.to_owned(),
        client_count: found.clients,
        user_count: found.users.len() as u64,
        subscription_count: found.subscriptions,
        channel_count: found.channels.len() as u64,
        uptime_seconds: found.uptime_s,
    }
}

impl<I: Io> Shard<I> {
    /// What is there on this shard, of channels whose names match.
    pub(super) fn census(&self, glob: Option<&Glob>) -> Census {
        let mut channels = BTreeMap::new();
        for (name, members) in self.topics.names_and_members() {
            let channel = topic::channel_of(&name);
            if let Some(channel) = channel.filter(|it| glob.is_none_or(|glob| glob.matches(it))) {
                *channels.entry(channel.to_owned()).or_default() += members as u64;
            }
        }
        let sessions = || self.sessions.by_index.iter().flatten();
        let users: HashSet<_> =
            sessions().map(|it| super::drawn(self.shared.seed, &*it.user)).collect();
        Census {
            process: format!("{:016x}", super::drawn(self.shared.seed, "process")),
            clients: sessions().count() as u64,
            subscriptions: sessions().map(|it| it.subscriptions.len() as u64).sum(),
            users,
            channels,
            uptime_s: self.clock().as_secs(),
        }
    }
}

const PUBLISH: &str = "publish";
const BATCH: &str = "batch";
const BROADCAST: &str = "broadcast";
const CHANNELS: &str = "channels";
const INFO: &str = "info";
/// Steps of one call that are done in a tick.
const STEPS_PER_TICK: usize = if cfg!(debug_assertions) { 2 } else { 64 };
