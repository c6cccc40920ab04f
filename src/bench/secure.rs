//! TLS between the socket and everything else: what arrives is opened before anything else looks at
//! it, and what leaves is sealed when its send begins. Before that there may be a tunnel.

use super::failure::Fault;
use super::handshake::Handshake;
use super::lane::Shared;
use super::links::{Links, State};
use super::proxy;
use super::reader::Partial;
use super::workload::Workload;
use crate::io::{Outgoing, Segment};
use crate::tls::Session;
use crate::tls::session::Received;

/// The state of one connection.
pub struct Secure {
    session: Session,
    /// What the protocol itself has to say.
    sealed: Vec<u8>,
    /// When the present part of its beginning began, in nanoseconds of the run: TLS or the upgrade.
    since_ns: u64,
}

impl Links {
    /// Speaks first on a connection that leads to the server: TLS, if that is what it speaks.
    pub fn introduce(&mut self, handshake: &Handshake, index: u32) {
        let Some(client) = &self.client else { return self.ask(handshake, index) };
        let mut sealed = Vec::new();
        match client.begin(&mut sealed) {
            Ok(session) => {
                let began_ns = self.connections[index as usize].since_ns;
                self.record.tls.connected(self.now_ns - began_ns);
                let secure = Secure { session, sealed, since_ns: self.now_ns };
                self.secured[index as usize] = Some(Box::new(secure));
                self.go_on(index, State::Securing);
                self.mark_dirty(index);
            }
            Err(error) => self.fail(index, &Fault::Tls(error.to_string())),
        }
    }

    /// Takes what a connection received, and tells whether its peer has ended it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn arrived<W: Workload>(
        &mut self,
        workload: &mut W,
        shared: &Shared,
        index: u32,
        input: &mut [u8],
    ) -> Result<bool, Fault> {
        let handshake = &shared.handshake;
        if self.connections[index as usize].state == State::Tunneling {
            return self.tunnel_answered(handshake, index, input).map(|()| false);
        }
        let Some(Some(secure)) = self.secured.get_mut(index as usize) else {
            return self.take(workload, handshake, index, input).map(|()| false);
        };
        let mut opened = std::mem::take(&mut self.opened);
        let Received { opened: range, handshake: done, is_ended, failure, .. } =
            secure.session.receive(input, &mut opened, &mut secure.sealed);
        opened.extend_from_slice(&input[range]);
        if is_ended {
            secure.session.close(&mut secure.sealed);
        }
        let has_answer = !secure.sealed.is_empty();
        let error = failure.and_then(|_| secure.session.error()).map(ToString::to_string);
        // What is measured is there when it is open, not when it has arrived.
        self.now_ns = shared.schedule.now_ns();
        if let Some(done) = done {
            self.record.tls.secured(done, secure.session.suite(), self.now_ns - secure.since_ns);
            secure.since_ns = self.now_ns;
            self.ask(handshake, index);
        }
        if has_answer {
            self.mark_dirty(index);
        }
        let taken = match opened.is_empty() {
            true => Ok(()),
            false => self.take(workload, handshake, index, &opened),
        };
        opened.clear();
        opened.shrink_to(OPENED_KEPT_BYTES);
        self.opened = opened;
        taken?;
        error.map_or(Ok(is_ended), |error| Err(Fault::Tls(error)))
    }

    /// Whether a connection speaks TLS.
    pub fn is_secured(&self, index: u32) -> bool {
        self.secured.get(index as usize).is_some_and(Option::is_some)
    }

    /// Counts the upgrade of a connection that speaks TLS.
    pub fn note_upgrade(&mut self, index: u32) {
        if let Some(Some(secure)) = self.secured.get(index as usize) {
            self.record.tls.upgraded(self.now_ns - secure.since_ns);
        }
    }

    /// What a connection's next send takes, sealed if it speaks TLS.
    pub fn next_outgoing(&mut self, index: u32) -> Option<Outgoing> {
        let pending = self.connections[index as usize].pending.take();
        let Some(Some(secure)) = self.secured.get_mut(index as usize) else { return pending };
        if pending.is_none() && secure.sealed.is_empty() {
            return None;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.append(&mut secure.sealed);
        secure.sealed = Vec::new();
        if let Some(outgoing) = pending {
            for segment in outgoing.segments() {
                secure.session.seal(segment.bytes().unwrap_or_default(), &mut bytes);
            }
            self.recycle(outgoing);
        }
        Some(Outgoing::One(Segment::Owned { bytes, offset: 0, ends_frame: true, control: false }))
    }

    /// Forgets what a connection had for TLS.
    pub fn forget_session(&mut self, index: u32) {
        if let Some(secure) = self.secured.get_mut(index as usize) {
            *secure = None;
        }
    }

    fn tunnel_answered(
        &mut self,
        handshake: &Handshake,
        index: u32,
        input: &[u8],
    ) -> Result<(), Fault> {
        let connection = &mut self.connections[index as usize];
        let mut head = connection.partial.take().map_or(Vec::new(), |partial| partial.bytes);
        head.extend_from_slice(input);
        match proxy::check(&head)? {
            None => connection.partial = Some(Box::new(Partial::starting_with(&head))),
            Some(length) if length < head.len() => {
                let text = "the server spoke before it was asked, through the tunnel";
                return Err(Fault::Handshake(text.to_owned()));
            }
            Some(_) => self.introduce(handshake, index),
        }
        Ok(())
    }

    /// Asks the server for a WebSocket.
    fn ask(&mut self, handshake: &Handshake, index: u32) {
        self.go_on(index, State::Handshaking);
        let topic = self.plan().topic(self.id(index)) % self.plan().paths();
        self.out(index).extend_from_slice(handshake.request(topic));
    }
}

/// What is kept for what is opened next.
const OPENED_KEPT_BYTES: usize = 256 << 10;
