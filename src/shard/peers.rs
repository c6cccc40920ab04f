//! Who has connected, as far as it makes a difference, and whether they may.
//!
//! Whoever connects is judged when accepted; by a listener that expects PROXY headers, when that
//! has told who it is; and whoever a trusted proxy speaks for in a header of HTTP, at the upgrade.
//! Those who may not are reset, or refused where there is a request to answer.

use std::net::IpAddr;

use super::Shard;
use super::receive::Input;
use crate::admission::{Admission, Admitted, Arrival, Counted, Joined, Membership};
use crate::config::ListenAddress;
use crate::connection::Stage;
use crate::http::{Refusal, RetryAfter};
use crate::io::{Io, Key};
use crate::proxy_protocol::Preamble;

/// What is known of the peers of a shard's connections, by index; costs nothing where nobody asks.
#[derive(Debug)]
pub(super) struct Peers {
    by_index: Vec<Peer>,
    /// When those who are refused may come back.
    pub(super) retry_after: RetryAfter,
}

/// What is known of one.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Whether it is a proxy that is trusted to say for whom it asks.
    is_proxy: bool,
    /// Where the connection is counted, if it is.
    counted: Option<Counted>,
    /// What it counts as for its topic, if that is counted.
    membership: Option<Membership>,
}

impl Peer {
    /// Its connection is gone, and counts no more.
    pub(super) fn release(self, admission: &Admission) {
        self.counted.into_iter().for_each(|counted| admission.release(counted));
        self.membership.into_iter().for_each(|membership| admission.leave(membership));
    }
}

impl Peers {
    /// Nothing is known of anybody by the shard of this number.
    pub(super) fn new(number: usize) -> Self {
        Self { by_index: Vec::new(), retry_after: RetryAfter::new(number as u32) }
    }

    /// Whether the peer of the connection at `index` is a proxy that is trusted.
    pub(super) fn is_proxy(&self, index: u32) -> bool {
        self.by_index.get(index as usize).is_some_and(|peer| peer.is_proxy)
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

    fn set_membership(&mut self, index: u32, membership: Option<Membership>) {
        if membership.is_some() {
            let before = std::mem::replace(&mut self.at(index).membership, membership);
            debug_assert!(before.is_none(), "a connection is a member once");
        }
    }

    /// Takes out what is known of the peer of the connection at `index`.
    pub(super) fn take(&mut self, index: u32) -> Peer {
        self.by_index.get_mut(index as usize).map(std::mem::take).unwrap_or_default()
    }

    /// Keeps what another shard has known of the peer of the connection at `index`.
    pub(super) fn put(&mut self, index: u32, peer: Peer) {
        self.set_proxy(index, peer.is_proxy);
        self.set_counted(index, peer.counted);
        self.set_membership(index, peer.membership);
    }

    fn at(&mut self, index: u32) -> &mut Peer {
        let place = index as usize;
        if place >= self.by_index.len() {
            self.by_index.resize_with(place + 1, Peer::default);
        }
        &mut self.by_index[place]
    }
}

impl<I: Io> Shard<I> {
    /// Accepts on a listener, in the way that tells what has to be known.
    pub(super) fn accept(&mut self, listener: u32) {
        match self.tells_address(listener) {
            true => self.io.accept_with_address(listener),
            false => self.io.accept(listener),
        }
    }

    /// Accepts on all listeners. One that goes on by itself is enough for each, but an accept that
    /// tells an address is for one connection, so several wait.
    pub(super) fn begin_to_accept(&mut self) {
        for listener in 0..self.listeners {
            let accepts = if self.tells_address(listener) { ACCEPTS_WITH_ADDRESS } else { 1 };
            (0..accepts).for_each(|_| self.accept(listener));
        }
    }

    fn tells_address(&self, listener: u32) -> bool {
        let config = &self.effective.config.listen[listener as usize];
        self.shared.admission.needs_addresses() && matches!(config.address, ListenAddress::Tcp(_))
    }

    /// A connection has been accepted: looks who it is.
    pub(super) fn arrived(&mut self, key: Key, listener: u32, address: Option<IpAddr>) {
        let expects_preamble = self.effective.config.listen[listener as usize].proxy;
        if !self.shared.admission.is_needed() {
            debug_assert!(!expects_preamble, "whoever expects PROXY headers trusts somebody");
            return;
        }
        match self.shared.admission.arrive(address, self.attendance.returned) {
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
        match self.shared.admission.arrive(Some(source), self.attendance.returned) {
            Ok(Arrival::Proxy) => true,
            Ok(Arrival::Client(admitted)) => {
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
        self.peers.take(index).release(&self.shared.admission);
    }

    /// Resets whoever may not connect, before anything is said.
    fn turn_away(&mut self, key: Key, refusal: Refusal) {
        self.stats().refuse(refusal);
        self.doom(key, true);
    }
}

/// Accepts that wait at a time where each tells an address: as many connections begin in a tick.
/// Few in debug builds, so that tests see more come than there are.
const ACCEPTS_WITH_ADDRESS: usize = if cfg!(debug_assertions) { 2 } else { 16 };
