//! A model client: carries out its plan, and remembers what the server owes it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fastrand::Rng;
use ringwire::config::Config;
use ringwire::shard::Shared;

use crate::decoder::Decoder;
use crate::frames::{self, CLOSE, PING, RSV1};
use crate::network::{End, Network, Read, SocketId};
use crate::peers::Origin;
use crate::plan::{Ending, Plan, Reading, Service};
use crate::secure::Security;
use crate::trace::trace;

/// What clients know of the world around them.
pub struct Context {
    pub shared: Arc<Shared>,
    pub now_ms: u64,
    /// Whether all members of topics are there, so that nobody misses a message.
    pub may_publish: bool,
    /// Whether clients that stayed shall close now.
    pub shall_leave: bool,
    /// When the server was told to stop.
    pub draining_since: Option<u64>,
    /// Whether the clock has jumped, so that any deadline may have passed.
    pub has_jumped: bool,
    /// Whether more clients come than there is room for.
    pub may_be_full: bool,
    /// Whether shards have had too much to do.
    pub was_overloaded: bool,
    /// Whether the server has been told that memory is short: it may have refused or closed anybody.
    pub was_short_of_memory: bool,
    /// Whether shards were ordered to close connections: it may have been anybody's.
    pub may_be_ordered_away: bool,
    /// Bytes of the largest filler of each client.
    pub bytes_max: Vec<usize>,
    /// The topic of each client.
    pub topics: Vec<Option<u8>>,
    /// Where each client comes from.
    pub origins: Vec<Origin>,
    /// The settings at the start; some have changed since.
    pub config_at_start: Config,
}

impl Context {
    /// Whether anybody may have been refused for want of memory or time.
    pub fn is_pressed(&self) -> bool {
        self.was_short_of_memory || self.was_overloaded
    }

    /// Whether somebody is asked about requests.
    pub fn is_judged(&self) -> bool {
        self.config_at_start.backend.url.is_some()
    }

    /// The message `number` of a publisher.
    pub fn publication(&self, publisher: usize, number: u32) -> (u8, Vec<u8>) {
        let types = self.shared.in_force.current().config.message_types;
        frames::publication(publisher, number, types, self.bytes_max[publisher])
    }
}

/// One client.
pub struct Client {
    pub number: usize,
    pub plan: Plan,
    pub socket: Option<SocketId>,
    pub rng: Rng,
    pub decoder: Decoder,
    /// Since when a part of something has been there.
    pub within_since_ms: Option<u64>,
    /// Bytes to be written.
    pub out: VecDeque<u8>,
    /// Bytes ever put into `out`.
    queued: u64,
    pub connected_ms: u64,
    pub written_ms: u64,
    /// When the end of the connection was begun by the client.
    pub ending_ms: Option<u64>,
    messages_left: u32,
    published: u32,
    /// Requests to publish that the server has accepted.
    pub accepted: u32,
    pub upgraded: bool,
    /// Whether it was upgraded before anything was published.
    pub is_full_member: bool,
    /// Whether the server ends the connection after a response.
    pub is_refused: bool,
    /// Whether it was refused on a connection that stays open.
    pub gives_up: bool,
    /// Statuses of the responses to come.
    pub statuses: VecDeque<u16>,
    /// Messages that will come back.
    pub echoes: VecDeque<(u8, Vec<u8>)>,
    pub pongs: VecDeque<Vec<u8>>,
    /// Where in the stream each publication ends.
    pub publication_ends: Vec<u64>,
    /// For each publisher, messages received and the number of the latest.
    pub received: BTreeMap<usize, (u32, u32)>,
    /// The payload of our close frame.
    pub close_sent: Option<Vec<u8>>,
    pub close_received: Option<Vec<u8>>,
    /// Whether the server closed of its own accord.
    pub was_closed: bool,
    /// The code that answers what we did wrong; zero when any will do.
    pub violation: Option<u16>,
    pub has_finished: bool,
    /// Whether it is silent for ever.
    pub has_vanished: bool,
    pub end: Option<Option<End>>,
    /// Whether TLS has said that the server ends, where it is spoken.
    pub was_told_end: Option<bool>,
}

impl Client {
    pub fn new(number: usize, plan: Plan, rng: Rng) -> Self {
        Self {
            number,
            messages_left: plan.messages,
            plan,
            socket: None,
            rng,
            decoder: Decoder::default(),
            within_since_ms: None,
            out: VecDeque::new(),
            queued: 0,
            connected_ms: 0,
            written_ms: 0,
            ending_ms: None,
            published: 0,
            accepted: 0,
            upgraded: false,
            is_full_member: false,
            is_refused: false,
            gives_up: false,
            statuses: VecDeque::new(),
            echoes: VecDeque::new(),
            pongs: VecDeque::new(),
            publication_ends: Vec::new(),
            received: BTreeMap::new(),
            close_sent: None,
            close_received: None,
            was_closed: false,
            violation: None,
            has_finished: false,
            has_vanished: false,
            end: None,
            was_told_end: None,
        }
    }

    /// Whether nothing is to be expected of it any more.
    pub fn is_gone(&self) -> bool {
        let never_looks = self.plan.reading == Reading::Never && self.messages_left == 0;
        self.end.is_some() || self.has_vanished || never_looks
    }

    /// Whether messages may flow in both directions.
    pub fn is_open(&self) -> bool {
        self.upgraded
            && self.close_sent.is_none()
            && self.close_received.is_none()
            && self.violation.is_none()
            && !self.has_finished
            && !self.is_refused
            && self.end.is_none()
    }

    /// Connects, and asks for what the plan says.
    pub fn connect(
        &mut self,
        network: &mut Network,
        capacities: (usize, usize),
        origin: &Origin,
        security: Option<&Security>,
        now_ms: u64,
    ) {
        let address = origin.socket_address().into();
        self.socket = Some(network.connect_from(address, self.plan.shard, capacities));
        (self.connected_ms, self.written_ms) = (now_ms, now_ms);
        // Drawn aside, so that all else stays as it is without.
        let mut aside = Rng::with_seed(!self.rng.get_seed());
        let preamble = origin.preamble(&mut aside);
        match security {
            None => self.queue(&preamble),
            Some(security) => {
                let mut end = security.client(preamble, aside.fork());
                match self.plan.service {
                    Service::Noise if aside.bool() => end.deafen(),
                    // Within its handshake, or soon behind it.
                    Service::Loris if aside.bool() => {
                        end.hold_back_behind(Some(aside.u64(1..1000)));
                    }
                    _ => {}
                }
                network.sockets[self.socket.expect("just made")].secure(end);
            }
        }
        for _ in 0..self.plan.requests {
            let request = self.rng.choice(&frames::REQUESTS).expect("there are some");
            self.request(request.0.as_bytes(), request.1, request.2);
        }
        let path = match &self.plan.service {
            Service::Echo => "/echo".to_owned(),
            Service::Topic { topic, exclude_self } => {
                format!(
                    "/broadcast/{topic}{}",
                    if *exclude_self { "?exclude_self=true" } else { "" }
                )
            }
            Service::Stream { topic, version } => {
                let request = origin.pass_on(frames::stream(*topic, version));
                self.request(&request, 200, false);
                // A request that comes too early is not served.
                let early = if self.plan.pipelined { frames::REQUESTS[0].0 } else { "" };
                return self.queue(early.as_bytes());
            }
            Service::Http | Service::Post { .. } => return,
            Service::Noise => {
                let noise: Vec<u8> = (0..self.rng.usize(1..300)).map(|_| self.rng.u8(..)).collect();
                return self.queue(&noise);
            }
            Service::Loris => return self.queue(b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgr"),
        };
        let mut upgrade = frames::upgrade(&mut self.rng, &path);
        if let Some(offer) = self.plan.offer {
            upgrade = frames::with_offer(upgrade, offer);
        }
        self.request(&origin.pass_on(upgrade), 101, false);
    }

    /// Does what it can; false when there was nothing to do and will be nothing by itself.
    pub fn step(&mut self, network: &mut Network, context: &Context) -> bool {
        let Some(socket) = self.socket else { return false };
        if self.end.is_some() || self.has_vanished {
            return false;
        }
        if matches!(self.plan.ending, Ending::Reset | Ending::Vanish) {
            if self.rng.u8(..50) == 0 {
                self.leave_abruptly(network, socket);
            }
            self.act(network, socket, context);
            return true;
        }
        self.act(network, socket, context)
    }

    /// Has more to send after everything had come to rest.
    pub fn begin_burst(&mut self) -> bool {
        let posts = matches!(self.plan.service, Service::Post { .. })
            && !self.is_refused
            && !self.has_finished
            && self.end.is_none();
        if self.plan.bursts == 0 || !self.is_open() && !posts {
            return false;
        }
        self.plan.bursts -= 1;
        self.messages_left += self.rng.u32(1..10);
        true
    }

    /// Begins the closing handshake.
    pub fn close(&mut self, payload: Vec<u8>, now_ms: u64) {
        let frame = frames::frame(&mut self.rng, true, CLOSE, &payload);
        self.queue(&frame);
        self.close_sent = Some(payload);
        self.ending_ms.get_or_insert(now_ms);
    }

    pub fn queue(&mut self, bytes: &[u8]) {
        self.out.extend(bytes);
        self.queued += bytes.len() as u64;
    }

    fn request(&mut self, bytes: &[u8], status: u16, head: bool) {
        self.queue(bytes);
        self.decoder.expect_response(head);
        self.statuses.push_back(status);
    }

    /// Refused on a connection that stays open: ends it, whatever the server makes of frames that
    /// were sent already.
    pub fn give_up(&mut self) {
        self.gives_up = true;
        self.violation = Some(0);
        self.out.clear();
        self.statuses.clear();
        self.echoes.clear();
        self.pongs.clear();
    }

    fn leave_abruptly(&mut self, network: &mut Network, socket: SocketId) {
        trace!("client {}: {:?}", self.number, self.plan.ending);
        match self.plan.ending {
            Ending::Vanish => self.has_vanished = true,
            _ => {
                network.sockets[socket].client_reset(self.rng.bool());
                self.end = Some(None);
            }
        }
    }

    fn act(&mut self, network: &mut Network, socket: SocketId, context: &Context) -> bool {
        if self.end.is_some() || self.has_vanished {
            return true;
        }
        self.is_full_member |= self.upgraded && !context.may_publish;
        let mut is_active = network.sockets[socket].pump();
        is_active |= self.read(network, socket, context);
        if self.end.is_none() {
            is_active |= self.produce(context);
            is_active |= self.write(network, socket);
            is_active |= self.conclude(network, socket, context);
        }
        is_active
    }

    fn read(&mut self, network: &mut Network, socket: SocketId, context: &Context) -> bool {
        let most = match self.plan.reading {
            Reading::Prompt => 1 << self.rng.u8(4..15),
            Reading::Slow => self.rng.usize(1..300),
            Reading::Never => return false,
        };
        match network.sockets[socket].client_read(most) {
            Read::Nothing => return false,
            Read::Bytes(bytes) => {
                self.decoder.push(&bytes);
                while let Some(item) = self.decoder.next() {
                    self.take(item, context);
                    self.within_since_ms = None;
                }
                let since_ms = self.within_since_ms.unwrap_or(context.now_ms);
                self.within_since_ms = self.decoder.is_within().then_some(since_ms);
            }
            Read::End(end) => {
                trace!("client {}: sees the end {end:?}", self.number);
                let socket = &mut network.sockets[socket];
                socket.client_finish();
                self.was_told_end = socket.with_secure(|end, _| end.was_told_end());
                self.end = Some(Some(end));
                self.judge(end, context);
            }
        }
        true
    }

    fn produce(&mut self, context: &Context) -> bool {
        if let Service::Post { topic } = self.plan.service {
            return self.post(topic, context);
        }
        let is_ready = self.is_open()
            || (self.plan.pipelined
                && !self.upgraded
                && !self.is_refused
                && !self.gives_up
                && !self.has_finished);
        let is_member = self.plan.is_member();
        let has_frames = is_member || self.plan.service == Service::Echo;
        let may = !is_member || context.may_publish;
        if !is_ready || !has_frames || !may || self.messages_left == 0 || self.out.len() > 4000 {
            return false;
        }
        self.messages_left -= 1;
        let types = context.shared.in_force.current().config.message_types;
        let (opcode, payload) = match is_member {
            true => {
                let number = self.published;
                self.published += 1;
                frames::publication(self.number, number, types, self.plan.bytes_max)
            }
            false => {
                let size = frames::size(&mut self.rng, self.plan.bytes_max);
                frames::message(&mut self.rng, types, size)
            }
        };
        let fragments = self.rng.usize(1..=self.plan.fragments_max);
        let (pings, pongs) = (self.plan.pings, &mut self.pongs);
        let mut ping = |rng: &mut Rng| match rng.u8(..100) < pings {
            true => {
                let size = frames::size(rng, 125);
                let payload: Vec<u8> = (0..size).map(|_| rng.u8(..)).collect();
                let frame = frames::frame(rng, true, PING, &payload);
                pongs.push_back(payload);
                frame
            }
            false => Vec::new(),
        };
        let mut bytes = ping(&mut self.rng);
        let first = bytes.len();
        let most = context.shared.in_force.current().config.limits.message_bytes as usize;
        let packed = match &mut self.decoder.agreement {
            Some(agreement) if self.rng.bool() => agreement.deflated(&payload, most),
            _ => None,
        };
        let message = (opcode, packed.as_deref().unwrap_or(&payload));
        bytes.extend(frames::message_frames(&mut self.rng, message, fragments, &mut ping));
        bytes[first] |= if packed.is_some() { RSV1 } else { 0 };
        let end = self.queued + bytes.len() as u64;
        bytes.extend(ping(&mut self.rng));
        self.queue(&bytes);
        match is_member {
            true => self.publication_ends.push(end),
            false => self.echoes.push_back((opcode, payload)),
        }
        true
    }

    fn post(&mut self, topic: u8, context: &Context) -> bool {
        let is_ready = !self.is_refused && !self.has_finished && context.may_publish;
        if !is_ready || self.messages_left == 0 || self.out.len() > 4000 {
            return false;
        }
        self.messages_left -= 1;
        let types = context.shared.in_force.current().config.message_types;
        let most = self.plan.bytes_max;
        let message = frames::publication(self.number, self.published, types, most);
        self.published += 1;
        let request = frames::post(&mut self.rng, topic, &message);
        self.request(&request, 202, false);
        true
    }

    fn write(&mut self, network: &mut Network, socket: SocketId) -> bool {
        if self.out.is_empty() || self.has_finished {
            return false;
        }
        let most = self.rng.usize(1..=self.plan.write_bytes_max).min(self.out.len());
        let bytes: Vec<u8> = self.out.range(..most).copied().collect();
        let written = network.sockets[socket].client_write(&bytes);
        self.out.drain(..written);
        if written > 0 {
            self.written_ms = network.now_ms;
        }
        written > 0
    }

    /// Ends as planned when all is sent.
    fn conclude(&mut self, network: &mut Network, socket: SocketId, context: &Context) -> bool {
        let is_done = self.messages_left == 0 && self.plan.bursts == 0 && self.out.is_empty();
        let is_web_socket = self.plan.is_member() || self.plan.service == Service::Echo;
        let ending = match self.plan.ending {
            Ending::Stay if context.shall_leave => Ending::Close,
            Ending::Close | Ending::Violate if !is_web_socket => Ending::HalfClose,
            ending => ending,
        };
        let may_end = if is_web_socket { self.is_open() } else { !self.has_finished };
        if self.gives_up && !self.has_finished {
            network.sockets[socket].client_finish();
            (self.has_finished, self.ending_ms) = (true, Some(context.now_ms));
            return true;
        }
        let subscribes = self.plan.is_member() || self.plan.is_stream();
        let waits = subscribes && !context.may_publish && !context.shall_leave;
        if !is_done || !may_end || waits || self.is_refused {
            return false;
        }
        match ending {
            Ending::Close if is_web_socket => {
                let code = *self.rng.choice(&CLOSE_CODES).expect("there are some");
                let reason = if code.is_some() && self.rng.bool() { "bye" } else { "" };
                self.close(frames::close_payload(code, reason), context.now_ms);
            }
            Ending::Close | Ending::HalfClose => {
                network.sockets[socket].client_finish();
                self.has_finished = true;
                self.ending_ms = Some(context.now_ms);
            }
            Ending::Violate => {
                let effective = context.shared.in_force.current();
                let config = &effective.config;
                let types = config.message_types;
                let (bytes, code) = frames::violation(&mut self.rng, &config.limits, types);
                self.queue(&bytes);
                (self.violation, self.ending_ms) = (Some(code), Some(context.now_ms));
            }
            Ending::Noise if self.violation.is_none() => {
                let noise: Vec<u8> = (0..self.rng.usize(1..200)).map(|_| self.rng.u8(..)).collect();
                let secured = network.sockets[socket].with_secure(|end, _| end.break_in(&noise));
                if secured.is_none() {
                    self.queue(&noise);
                }
                (self.violation, self.ending_ms) = (Some(0), Some(context.now_ms));
            }
            Ending::Noise | Ending::Stay | Ending::Reset | Ending::Vanish => return false,
        }
        trace!("client {}: {ending:?}", self.number);
        true
    }
}

/// What clients close with; without a code the payload is empty.
const CLOSE_CODES: [Option<u16>; 7] =
    [None, Some(1000), Some(1008), Some(1011), Some(3000), Some(4000), Some(4999)];
