//! A model client of the protocol: it asks for what it likes, breaks off when it likes, comes back
//! for what it has missed, and holds all that it is told against what it knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fastrand::Rng;
use ringwire::realtime::protocol::codes::Disconnect;
use ringwire::realtime::protocol::{
    self, Command, Encoding, Frame, HistoryRequest, PresenceRequest, PresenceStatsRequest,
    PublishRequest, Reply, StreamPosition, SubscribeRequest, UnsubscribeRequest,
};

use super::subscription::{self, CHANNELS, Subscription, has_history, hears_of_others};
use super::truth::{Position, Truth};
use crate::decoder::{Decoder, Item};
use crate::frames::{self, CLOSE, TEXT};
use crate::network::{Network, Read, SocketId};
use crate::trace::trace;

/// What clients know of the world around them.
pub struct Context {
    pub shards: usize,
    /// Bytes that fit between client and server, for each direction.
    pub capacities: (usize, usize),
    /// Bytes that a message may have.
    pub message_bytes: usize,
    /// Whether the histories keep all that is published, so that whoever comes back gets it.
    pub keeps_all: bool,
    /// Whether so little may wait for a client that it may be too slow.
    pub may_be_slow: bool,
    pub truth: Truth,
}

/// One client.
pub struct Client {
    number: usize,
    rng: Rng,
    visit: Option<Visit>,
    visits: u32,
    /// Rounds until it comes again.
    away: u32,
    /// What it is yet to do.
    actions: u32,
    published: u32,
    /// How far it had got in channels whose subscriptions have ended.
    known: BTreeMap<String, Position>,
    /// Whether it comes no more.
    is_leaving: bool,
    /// Whose sending it has ended, and not the whole connection.
    half_closed: Option<SocketId>,
}

/// One connection of a client.
pub struct Visit {
    socket: SocketId,
    decoder: Decoder,
    out: VecDeque<u8>,
    /// Rounds in which it does not read.
    deaf: u32,
    /// Its name as a session, when it is one.
    pub name: Option<String>,
    next_id: u32,
    /// What has been asked and not answered, in order.
    pub asked: VecDeque<(u32, Asked)>,
    pub subscriptions: BTreeMap<String, Subscription>,
    /// Channels whose subscriptions it has ended itself.
    pub left: BTreeSet<String>,
}

/// What a command asks for.
#[derive(Clone, Debug)]
pub enum Asked {
    Connect,
    Subscribe { channel: String, since: Option<StreamPosition> },
    Unsubscribe(String),
    Publish(String),
    Presence(String),
    PresenceStats(String),
    History { channel: String, since: Option<StreamPosition>, limit: i32, is_reverse: bool },
}

impl Client {
    pub fn new(number: usize, mut rng: Rng) -> Self {
        Self {
            number,
            visit: None,
            visits: 0,
            away: rng.u32(..50),
            actions: rng.u32(5..30),
            rng,
            published: 0,
            known: BTreeMap::new(),
            is_leaving: false,
            half_closed: None,
        }
    }

    /// Its name as a session, if it is one.
    pub fn name(&self) -> Option<&str> {
        self.visit.as_ref()?.name.as_deref()
    }

    /// What it has subscribed to.
    pub fn subscriptions(&mut self) -> Option<&mut BTreeMap<String, Subscription>> {
        Some(&mut self.visit.as_mut()?.subscriptions)
    }

    /// Does what it can; false when there was nothing to do and will be nothing by itself.
    pub fn step(&mut self, network: &mut Network, context: &mut Context) -> bool {
        if self.visit.is_none() {
            if self.is_leaving {
                return false;
            }
            self.away = self.away.saturating_sub(1);
            if self.away == 0 {
                self.come(network, context);
            }
            return true;
        }
        let mut is_active = self.read(network, context);
        is_active |= self.act(network, context);
        is_active | self.write(network)
    }

    /// Has more to do after everything had come to rest.
    pub fn begin_burst(&mut self) {
        self.actions = self.rng.u32(5..30);
    }

    /// Goes, and comes no more.
    pub fn leave(&mut self, network: &mut Network) {
        self.is_leaving = true;
        self.break_off(network);
        self.break_half_off(network);
    }

    /// Whether it waits to be welcomed.
    pub fn is_new(&self) -> bool {
        self.visit.as_ref().is_some_and(|visit| visit.name.is_none())
    }

    /// Nothing is owed to it.
    pub fn check_rest(&self, context: &Context) {
        let Some(visit) = &self.visit else { return };
        assert!(visit.asked.is_empty(), "client {}: {:?}", self.number, visit.asked);
        for (channel, subscription) in &visit.subscriptions {
            if let Some(Position { epoch, offset }) = &subscription.position {
                let head = context.truth.head(channel, epoch);
                assert_eq!(*offset, head, "client {}: {channel} has come further", self.number);
                if context.keeps_all {
                    context.truth.check_published(channel);
                }
            }
        }
    }

    fn come(&mut self, network: &mut Network, context: &Context) {
        self.break_half_off(network);
        self.visits += 1;
        let shard = self.rng.usize(..context.shards);
        let mut visit = Visit {
            socket: network.connect(shard, context.capacities),
            decoder: Decoder::default(),
            out: frames::upgrade(&mut self.rng, "/connection/websocket").into(),
            deaf: 0,
            name: None,
            next_id: 0,
            asked: VecDeque::new(),
            subscriptions: BTreeMap::new(),
            left: BTreeSet::new(),
        };
        visit.decoder.expect_response(false);
        trace!("client {} comes to shard {shard}", self.number);
        let mut frame = Frame::new(Encoding::Json);
        let connect = Command { connect: Some(Box::default()), ..Command::default() };
        visit.ask(&mut frame, Asked::Connect, connect);
        for (channel, position) in &self.known {
            if self.rng.u8(..4) > 0 {
                visit.subscribe(&mut frame, channel, Some(position));
            }
        }
        visit.send(frame, &mut self.rng);
        self.visit = Some(visit);
    }

    /// Ends the connection as it is.
    fn break_off(&mut self, network: &mut Network) {
        let Some(visit) = self.visit.take() else { return };
        trace!("client {} breaks off", self.number);
        match self.rng.bool() {
            true => network.sockets[visit.socket].client_reset(self.rng.bool()),
            false => {
                network.sockets[visit.socket].client_finish();
                self.half_closed = Some(visit.socket);
            }
        }
        for (channel, subscription) in visit.subscriptions {
            if let Some(position) = subscription.position {
                self.known.insert(channel, position);
            }
        }
        self.away = if self.rng.bool() { 1 } else { self.rng.u32(1..60) };
    }

    fn break_half_off(&mut self, network: &mut Network) {
        if let Some(socket) = self.half_closed.take() {
            network.sockets[socket].client_reset(false);
        }
    }

    fn read(&mut self, network: &mut Network, context: &mut Context) -> bool {
        let Some(visit) = &mut self.visit else { return false };
        if visit.deaf > 0 {
            visit.deaf -= 1;
            return true;
        }
        let most = if self.rng.bool() { self.rng.usize(1..300) } else { 1 << 14 };
        match network.sockets[visit.socket].client_read(most) {
            Read::Nothing => return false,
            Read::End(_) => {
                trace!("client {} sees the end", self.number);
                assert!(context.may_be_slow, "client {} is cut off", self.number);
                self.break_off(network);
            }
            Read::Bytes(bytes) => {
                visit.decoder.push(&bytes);
                while let Some(item) = self.visit.as_mut().and_then(|it| it.decoder.next()) {
                    self.take(item, network, context);
                }
            }
        }
        true
    }

    fn take(&mut self, item: Item, network: &mut Network, context: &mut Context) {
        match item {
            Item::Response { status, .. } => assert_eq!(status, 101),
            Item::Message { opcode, payload } => {
                assert_eq!(opcode, TEXT);
                let replies = protocol::decode_replies(Encoding::Json, &payload);
                for reply in replies.expect("replies") {
                    self.heed(reply, context);
                }
            }
            Item::Control { opcode: CLOSE, payload } => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                trace!("client {} is closed with {code}", self.number);
                assert!(context.may_be_slow, "client {}: {code}", self.number);
                let expected = [Disconnect::SLOW.code, Disconnect::NO_PONG.code];
                assert!(expected.contains(&code), "client {}: {code}", self.number);
                self.break_off(network);
            }
            Item::Control { .. } => {}
            item => panic!("{item:?} to a session"),
        }
    }

    fn heed(&mut self, reply: Reply, context: &mut Context) {
        trace!("client {}: {reply:?}", self.number);
        let Some(visit) = &mut self.visit else { return };
        if reply == Reply::default() {
            let mut frame = Frame::new(Encoding::Json);
            frame.ping();
            return visit.send(frame, &mut self.rng);
        }
        match reply.push.clone() {
            Some(push) => visit.hear(push, context, &mut self.known),
            None => visit.answered(reply, context, &mut self.known),
        }
    }

    /// Does something that it likes.
    fn act(&mut self, network: &mut Network, context: &mut Context) -> bool {
        let Some(visit) = &mut self.visit else { return false };
        if self.actions == 0 || visit.out.len() > 4000 || visit.name.is_none() {
            return false;
        }
        self.actions -= 1;
        match self.rng.u8(..20) {
            0 => self.break_off(network),
            1 => visit.deaf = self.rng.u32(1..200),
            _ => {
                let commands = if self.rng.u8(..8) == 0 { 30 } else { self.rng.u32(1..5) };
                let mut frame = Frame::new(Encoding::Json);
                for _ in 0..commands {
                    self.ask(&mut frame, context);
                }
                if let Some(visit) = &mut self.visit {
                    visit.send(frame, &mut self.rng);
                }
            }
        }
        true
    }

    /// Puts one command more into a frame, if there is room.
    fn ask(&mut self, frame: &mut Frame, context: &mut Context) {
        let Some(visit) = &mut self.visit else { return };
        let filler = if self.rng.u8(..4) == 0 { self.rng.usize(..300) } else { 0 };
        if frame.bytes() + filler + COMMAND_BYTES > context.message_bytes {
            return;
        }
        let channel = *self.rng.choice(&CHANNELS).expect("some");
        let name = channel.to_owned();
        let known = |visit: &Visit, known: &BTreeMap<String, Position>| {
            let current = visit.subscriptions.get(channel).and_then(|it| it.position.clone());
            current.or_else(|| known.get(channel).cloned())
        };
        match self.rng.u8(..16) {
            0..4 => {
                let since = known(visit, &self.known).filter(|_| self.rng.bool());
                visit.subscribe(frame, channel, since.as_ref());
            }
            4..6 => {
                let request = UnsubscribeRequest { channel: name.clone() };
                let command = Command { unsubscribe: Some(request), ..Command::default() };
                visit.ask(frame, Asked::Unsubscribe(name), command);
            }
            6 if hears_of_others(channel) => {
                let request = PresenceRequest { channel: name.clone() };
                let command = Command { presence: Some(request), ..Command::default() };
                visit.ask(frame, Asked::Presence(name), command);
            }
            7 if hears_of_others(channel) => {
                let request = PresenceStatsRequest { channel: name.clone() };
                let command = Command { presence_stats: Some(request), ..Command::default() };
                visit.ask(frame, Asked::PresenceStats(name), command);
            }
            8 if has_history(channel) => {
                let since = known(visit, &self.known).filter(|_| self.rng.bool());
                let since = since.map(|it| StreamPosition { offset: it.offset, epoch: it.epoch });
                let (limit, reverse) = (self.rng.i32(-1..5), self.rng.bool());
                let asked = Asked::History {
                    channel: name.clone(),
                    since: since.clone(),
                    limit,
                    is_reverse: reverse,
                };
                let request = HistoryRequest { channel: name, limit, since, reverse };
                let command = Command { history: Some(request), ..Command::default() };
                visit.ask(frame, asked, command);
            }
            _ => {
                self.published += 1;
                let (visits, number) = (self.visits, self.published);
                let data = subscription::content(self.number, visits, number, filler);
                let request = PublishRequest { channel: name.clone(), data, r#type: 0 };
                let command = Command { publish: Some(request), ..Command::default() };
                visit.ask(frame, Asked::Publish(name), command);
                context.truth.send(channel);
            }
        }
    }

    fn write(&mut self, network: &mut Network) -> bool {
        let Some(visit) = &mut self.visit else { return false };
        if visit.out.is_empty() {
            return false;
        }
        let most = self.rng.usize(1..2000).min(visit.out.len());
        let bytes: Vec<u8> = visit.out.range(..most).copied().collect();
        let written = network.sockets[visit.socket].client_write(&bytes);
        visit.out.drain(..written);
        written > 0
    }
}

impl Visit {
    fn send(&mut self, frame: Frame, rng: &mut Rng) {
        if !frame.is_empty() {
            self.out.extend(frames::frame(rng, true, TEXT, &frame.into_bytes()));
        }
    }

    fn ask(&mut self, frame: &mut Frame, asked: Asked, command: Command) {
        self.next_id += 1;
        frame.command(&Command { id: self.next_id, ..command });
        self.asked.push_back((self.next_id, asked));
    }

    fn subscribe(&mut self, frame: &mut Frame, channel: &str, since: Option<&Position>) {
        let since = since.map(|it| StreamPosition { offset: it.offset, epoch: it.epoch.clone() });
        let StreamPosition { offset, epoch } = since.clone().unwrap_or_default();
        let request = SubscribeRequest {
            channel: channel.to_owned(),
            recover: since.is_some(),
            offset,
            epoch,
            ..SubscribeRequest::default()
        };
        let command = Command { subscribe: Some(Box::new(request)), ..Command::default() };
        self.ask(frame, Asked::Subscribe { channel: channel.to_owned(), since }, command);
    }
}

/// What a command takes beside the filler of a publication, at the most.
const COMMAND_BYTES: usize = 160;
