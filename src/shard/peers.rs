//! Who has connected, as far as it makes a difference, and whether they may.
//!
//! Whoever connects is judged when accepted; by a listener that expects PROXY headers, when that
//! has told who it is; and whoever a trusted proxy speaks for in a header of HTTP, at the upgrade.
//! Those who may not are reset, or refused where there is a request to answer.

mod identified;
mod seats;
mod visit;

use std::net::IpAddr;

use super::Shard;
use super::by_index;
use super::pending_input::Input;
use crate::admission::{Admission, Admitted, Arrival, Counted, Joined, Membership, Seat};
use crate::config::{ListenAddress, ListenerConfig, PeerAddress};
use crate::connection::Stage;
use crate::http::{Refusal, RetryAfter};
use crate::identity::Identity;
use crate::io::{Io, Key};
use crate::proxy_protocol::Preamble;
use crate::websocket::Initiator;
use crate::wire::close::CloseCode;
pub(super) use identified::Tokens;
use seats::Unseated;
use visit::Visit;

/// What is known of the peers of a shard's connections, by index; costs nothing where nobody asks.
#[derive(Debug)]
pub(super) struct Peers {
    by_index: Vec<Known>,
    /// Who they are, where tokens have said so.
    identities: Vec<Option<Box<Identity>>>,
    /// What they count as for their users, where that is limited.
    seats: Vec<Option<Seat>>,
    /// Those who count no more for that.
    pub(super) unseated: Unseated,
    /// When those who are refused may come back.
    pub(super) retry_after: RetryAfter,
}

/// All that is known of one.
#[derive(Debug, Default)]
pub(super) struct Peer {
    known: Known,
    identity: Option<Box<Identity>>,
    seat: Option<Seat>,
}

/// What is known of one but who it is.
#[derive(Debug, Default)]
struct Known {
    /// Whose connection it is, as far as it is known: where it comes from or, once a trusted proxy
    /// has said so, for whom.
    address: Option<PeerAddress>,
    /// Whether it is a proxy that is trusted to say for whom it asks.
    is_proxy: bool,
    /// Where the connection is counted, if it is.
    counted: Option<Counted>,
    /// What it counts as for its topic, if that is counted.
    membership: Option<Membership>,
    /// What the access log is to say of it, if that tells of it.
    visit: Option<Box<Visit>>,
}

impl Peer {
    /// Takes note of how its visit has ended, if the access log is to tell of one.
    pub(super) fn end_visit(&mut self, initiator: Initiator, code: CloseCode, reason: &str) {
        if let Some(visit) = &mut self.known.visit {
            visit.end(initiator, code, reason);
        }
    }

    /// Its connection is gone, and counts no more.
    pub(super) fn release(self, admission: &Admission) {
        self.known.counted.into_iter().for_each(|counted| admission.release(counted));
        self.known.membership.into_iter().for_each(|membership| admission.leave(membership));
    }
}

impl Peers {
    /// Nothing is known of anybody by the shard of this number.
    pub(super) fn new(number: usize) -> Self {
        let retry_after = RetryAfter::new(number as u32);
        let (by_index, identities, seats) = (Vec::new(), Vec::new(), Vec::new());
        Self { by_index, identities, seats, unseated: Unseated::default(), retry_after }
    }

    /// Whether the peer of the connection at `index` is a proxy that is trusted.
    pub(super) fn is_proxy(&self, index: u32) -> bool {
        self.by_index.get(index as usize).is_some_and(|peer| peer.is_proxy)
    }

    /// The address of the peer of the connection at `index`, if it is known.
    pub(super) fn address(&self, index: u32) -> Option<PeerAddress> {
        self.by_index.get(index as usize)?.address
    }

    /// Keeps whose connection the one at `index` is.
    pub(super) fn set_address(&mut self, index: u32, address: Option<PeerAddress>) {
        if address.is_some() {
            // One client has one address, whichever kind of socket it came by.
            self.at(index).address = address.map(PeerAddress::to_canonical);
        }
    }

    fn set_proxy(&mut self, index: u32, is_proxy: bool) {
        if is_proxy || self.by_index.len() > index as usize {
            self.at(index).is_proxy = is_proxy;
        }
    }

    /// Keeps where the connection at `index` is counted.
    pub(super) fn set_counted(&mut self, index: u32, counted: Option<Counted>) {
        if counted.is_some() {
            let before = std::mem::replace(&mut self.at(index).counted, counted);
            debug_assert!(before.is_none(), "a connection counts once");
        }
    }

    /// Keeps what the access log is to say of the connection at `index`.
    fn begin_visit(&mut self, index: u32, visit: Visit) {
        self.at(index).visit = Some(Box::new(visit));
    }

    /// What the access log is to say of the connection at `index`, if that tells of it.
    pub(super) fn visit(&self, index: u32) -> Option<&Visit> {
        self.by_index.get(index as usize)?.visit.as_deref()
    }

    /// The same, to be added to.
    pub(super) fn visit_mut(&mut self, index: u32) -> Option<&mut Visit> {
        self.by_index.get_mut(index as usize)?.visit.as_deref_mut()
    }

    fn set_membership(&mut self, index: u32, membership: Option<Membership>) {
        if membership.is_some() {
            let before = std::mem::replace(&mut self.at(index).membership, membership);
            debug_assert!(before.is_none(), "a connection is a member once");
        }
    }

    /// Takes out what is known of the peer of the connection at `index`.
    pub(super) fn take(&mut self, index: u32) -> Peer {
        let place = index as usize;
        Peer {
            known: self.by_index.get_mut(place).map(std::mem::take).unwrap_or_default(),
            identity: self.identities.get_mut(place).and_then(Option::take),
            seat: self.take_seat(index),
        }
    }

    /// Keeps what another shard has known of the peer of the connection at `index`.
    pub(super) fn put(&mut self, index: u32, Peer { known, identity, seat }: Peer) {
        self.set_identity(index, identity);
        self.set_seat(index, seat);
        self.set_address(index, known.address);
        self.set_proxy(index, known.is_proxy);
        self.set_counted(index, known.counted);
        if known.visit.is_some() {
            self.at(index).visit = known.visit;
        }
        self.set_membership(index, known.membership);
    }

    fn at(&mut self, index: u32) -> &mut Known {
        by_index::entry(&mut self.by_index, index)
    }
}

impl<I: Io> Shard<I> {
    /// Sees to it that a listener is accepted on, in the way that tells what has to be known; not
    /// when those who connect are for another server. One accept that goes on by itself is enough,
    /// but one that tells an address is for one connection, so several wait.
    pub(super) fn accept(&mut self, listener: u32) {
        if self.has_successor {
            return;
        }
        let tells_address = self.tells_address(listener);
        let wanted = if tells_address { ACCEPTS_WITH_ADDRESS } else { 1 };
        let under_way = &mut self.accepts[listener as usize];
        while *under_way < wanted {
            *under_way += 1;
            self.shared.stats.shard(self.number).accepts_waiting.add(1);
            match tells_address {
                true => self.io.accept_with_address(listener),
                false => self.io.accept(listener),
            }
        }
    }

    /// Ends all accepts. Others take their place, unless something stands against that.
    pub(super) fn cancel_accepts(&mut self) {
        (0..self.listeners()).for_each(|listener| self.io.cancel_accept(listener));
    }

    /// An accept has ended.
    pub(super) fn accept_ended(&mut self, listener: u32) {
        self.accepts[listener as usize] -= 1;
        self.stats().accepts_waiting.subtract(1);
    }

    /// Whether an accept is under way.
    pub(super) fn is_accepting(&self) -> bool {
        self.accepts.iter().any(|under_way| *under_way > 0)
    }

    /// How many sockets this shard accepts from; to [`Io`] each is a listener.
    pub(super) fn listeners(&self) -> u32 {
        self.listeners.len() as u32
    }

    pub(super) fn config_of(&self, listener: u32) -> &ListenerConfig {
        let (config, _) = self.effective.config.listener(self.place_of(listener));
        config
    }

    /// The place of a listener in the configuration.
    pub(super) fn place_of(&self, listener: u32) -> usize {
        self.listeners[listener as usize] as usize
    }

    fn tells_address(&self, listener: u32) -> bool {
        let rules = &self.effective.admission;
        match self.config_of(listener).address {
            ListenAddress::Tcp(_) => rules.needs_addresses(),
            ListenAddress::Unix(_) => rules.needs_credentials(),
            // It is either.
            ListenAddress::Activated(_) => rules.needs_addresses() || rules.needs_credentials(),
        }
    }

    /// A connection has been accepted: looks who it is.
    pub(super) fn arrived(&mut self, key: Key, listener: u32, address: Option<PeerAddress>) {
        let expects_preamble = self.config_of(listener).proxy;
        self.peers.set_address(key.index, address);
        if !self.effective.admission.is_needed() {
            debug_assert!(!expects_preamble, "whoever expects PROXY headers trusts somebody");
            return;
        }
        if address.is_none() && self.tells_address(listener) {
            // It was accepted when addresses did not matter yet.
            return;
        }
        let rules = &self.effective.admission;
        match self.shared.admission.arrive(rules, address, self.attendance.returned) {
            Ok(Arrival::Client(admitted)) if expects_preamble => {
                admitted.counted.into_iter().for_each(|it| self.shared.admission.release(it));
                self.turn_away(key, Refusal::UntrustedProxy);
            }
            Ok(Arrival::Client(admitted)) => {
                self.peers.set_proxy(key.index, false);
                self.note_admitted(key, admitted);
            }
            Ok(Arrival::Proxy) => {
                self.peers.set_proxy(key.index, true);
                if expects_preamble && let Some(connection) = self.connections.get_mut(key) {
                    connection.stage = Stage::Preamble(Preamble::default());
                }
            }
            Err(denial) => self.turn_away(key, denial.into()),
        }
    }

    /// Takes the header that comes first by some listeners. Whether that was all there is to do
    /// with the input.
    pub(super) fn take_preamble(&mut self, key: Key, input: &mut Input) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return true };
        let Stage::Preamble(preamble) = &mut connection.stage else { return false };
        let bytes = match input {
            Input::Buffer(slice) => &*self.io.bytes(slice),
            Input::Owned(bytes, start) => &bytes[*start..],
        };
        let length = bytes.len();
        match preamble.receive(bytes) {
            Ok(None) => true,
            Ok(Some((header, taken))) => {
                connection.stage = Stage::default();
                match input {
                    Input::Owned(_, start) => *start += taken,
                    Input::Buffer(slice) if taken < length => {
                        let rest = self.io.split(slice, taken..length);
                        self.io.release(std::mem::replace(slice, rest));
                    }
                    Input::Buffer(_) => {}
                }
                // Without a source it is a connection of the proxy's own.
                let may_stay =
                    header.source.is_none_or(|source| self.came_through_proxy(key, source));
                !may_stay || taken == length
            }
            Err(_) => {
                self.turn_away(key, Refusal::ProxyHeader);
                true
            }
        }
    }

    /// A proxy has told whose connection it passes on: the peer is that one now. Whether it may be.
    fn came_through_proxy(&mut self, key: Key, source: IpAddr) -> bool {
        let source = PeerAddress::Ip(source);
        let rules = &self.effective.admission;
        match self.shared.admission.arrive(rules, Some(source), self.attendance.returned) {
            Ok(Arrival::Proxy) => {
                self.peers.set_address(key.index, Some(source));
                true
            }
            Ok(Arrival::Client(admitted)) => {
                self.peers.set_address(key.index, Some(source));
                self.peers.set_proxy(key.index, false);
                self.note_admitted(key, admitted);
                true
            }
            Err(denial) => {
                self.turn_away(key, denial.into());
                false
            }
        }
    }

    /// A connection has been let in.
    pub(super) fn note_admitted(&mut self, key: Key, admitted: Admitted) {
        self.stats().addresses_untracked.add(admitted.is_untracked.into());
        self.peers.set_counted(key.index, admitted.counted);
    }

    /// There is room for a connection in its topic; it takes that if it `is_member` now.
    pub(super) fn note_joined(&mut self, key: Key, joined: Joined, is_member: bool) {
        let Joined { membership, is_untracked } = joined;
        match is_member {
            true => {
                self.stats().members_untracked.add(is_untracked.into());
                self.peers.set_membership(key.index, membership);
            }
            false => membership.into_iter().for_each(|it| self.shared.admission.leave(it)),
        }
    }

    /// The connection at `index` is gone, and counts no more.
    pub(super) fn forget_peer(&mut self, index: u32) {
        let peer = self.peers.take(index);
        self.part_with(peer);
    }

    /// A connection is gone, of which so much was known.
    pub(super) fn part_with(&mut self, mut peer: Peer) {
        if let Some(visit) = peer.known.visit.take() {
            let user = peer.identity.as_ref().and_then(|it| it.user.as_deref());
            self.log_end(peer.known.address, user, &visit);
        }
        peer.release(&self.shared.admission);
    }

    /// Resets whoever may not connect, before anything is said.
    pub(super) fn turn_away(&mut self, key: Key, refusal: Refusal) {
        self.stats().refuse(refusal);
        self.log_refusal(key, refusal, None);
        self.doom(key, true);
    }
}

/// Accepts that wait at a time where each tells an address: as many connections begin in a tick.
/// Few in debug builds, so that tests see more come than there are.
const ACCEPTS_WITH_ADDRESS: u32 = if cfg!(debug_assertions) { 2 } else { 16 };

const _: () = assert!(size_of::<Known>() <= 48);
