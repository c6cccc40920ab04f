//! Who those are that have shown a token: it is verified here, within what a tick may take, and
//! what it says of its holder is kept until it expires.
//!
//! Nothing is kept of a token itself, nor of what it grants: a connection has one topic, and what
//! it may do there is decided when it joins.

use std::time::Duration;

use super::Peers;
use crate::admission::{self, Admission, Rules, Seat, Whereabouts};
use crate::config::Config;
use crate::identity::{Denial, Grants, Identity, Judgement, TokenFault, Trust, Verdict};
use crate::io::{Io, Key};
use crate::shard::Shard;
use crate::shard::by_index;
use crate::shard::connections::Connection;
use crate::shard::timers::{TICK_MS, Tick};
use crate::stats::ShardStats;
use crate::tls::client_name;
use crate::websocket::Budget;
use crate::wire::close::CloseCode;

/// What has become of the token of the last of some requests, and of all.
#[derive(Debug, Default)]
pub(in crate::shard) struct Tokens {
    /// Who has shown it, if it was valid.
    pub(in crate::shard) identity: Option<Identity>,
    /// What all have cost, in units of a budget.
    pub(in crate::shard) cost: usize,
    /// What was reserved for the connection among those of its user.
    seat: Option<Seat>,
}

impl Tokens {
    /// Another request comes: what an earlier one has shown says nothing of it.
    fn begin(&mut self) {
        (self.identity, self.seat) = (None, None);
    }

    /// Makes room for the connection `at` there among those of its user, if it has one.
    pub(in crate::shard) fn reserve(
        &mut self,
        admission: &Admission,
        rules: &Rules,
        at: Whereabouts,
        now: Duration,
    ) -> Result<(), admission::Denial> {
        if let Some(user) = self.identity.as_ref().and_then(|it| it.user.as_deref()) {
            self.seat = admission.reserve(rules, user, at, now)?;
        }
        Ok(())
    }

    /// Verifies the token of a request, or without one looks whom the certificate of its client
    /// names, and tells what that grants.
    pub(in crate::shard) fn verify(
        &mut self,
        token: Option<&str>,
        certified: Option<&Identity>,
        trust: &Trust,
        now_s: u64,
        (stats, budget): (&ShardStats, &Budget),
    ) -> Option<Grants> {
        self.begin();
        let Verdict { result, cost } = match token {
            Some(token) => trust.verify(token, now_s),
            None => trust.vouch(certified?, now_s),
        };
        self.cost += cost;
        budget.spend(cost);
        match result {
            Ok(credentials) => {
                self.identity = Some(credentials.identity);
                Some(credentials.grants)
            }
            Err(fault) => {
                count(fault, stats);
                // Neither the token nor a part of it: whoever reads the log could use it.
                tracing::debug!(reason = fault.name(), "a token is not valid");
                None
            }
        }
    }

    /// Takes note of what was said of whoever has sent a request. A user who has been revoked is
    /// not let in, and has to show anew who they are.
    pub(in crate::shard) fn heed(
        &mut self,
        judgement: Judgement,
        trust: &Trust,
        stats: &ShardStats,
    ) -> Judgement {
        self.begin();
        let Judgement::Allowed(credentials) = judgement else { return judgement };
        match trust.granting(credentials) {
            Ok(credentials) => {
                self.identity = Some(credentials.identity.clone());
                Judgement::Allowed(credentials)
            }
            Err(fault) => {
                count(fault, stats);
                Judgement::Denied(Denial::default())
            }
        }
    }
}

fn count(fault: TokenFault, stats: &ShardStats) {
    let counter = match fault {
        TokenFault::Malformed => &stats.tokens_malformed,
        TokenFault::UnknownKey => &stats.tokens_unknown_key,
        TokenFault::Signature => &stats.tokens_signature,
        TokenFault::Expired => &stats.tokens_expired,
        TokenFault::NotYetValid => &stats.tokens_not_yet_valid,
        TokenFault::Issuer => &stats.tokens_issuer,
        TokenFault::Audience => &stats.tokens_audience,
        TokenFault::Claims => &stats.tokens_claims,
        TokenFault::Revoked => &stats.tokens_revoked,
    };
    counter.add(1);
}

impl Peers {
    /// Who the peer of the connection at `index` is, if a token or a certificate has said so.
    pub(in crate::shard) fn identity(&self, index: u32) -> Option<&Identity> {
        self.identities.get(index as usize)?.as_deref()
    }

    /// Who that is as far as its certificate says so, where that counts: before the connection has
    /// become something that lasts, only that can have said it.
    pub(in crate::shard) fn certified(&self, index: u32, config: &Config) -> Option<&Identity> {
        self.identity(index).filter(|_| config.identity.takes_certificates())
    }

    /// The name of the user at `index`, if a token or a certificate has told it.
    pub(in crate::shard) fn user(&self, index: u32) -> Option<&str> {
        self.identity(index)?.user.as_deref()
    }

    /// Keeps who the peer of the connection at `index` is.
    pub(in crate::shard) fn set_identity(&mut self, index: u32, identity: Option<Box<Identity>>) {
        if identity.is_some() {
            *by_index::entry(&mut self.identities, index) = identity;
        }
    }
}

impl<I: Io> Shard<I> {
    /// Takes note of the certificate that a client has shown.
    pub(in crate::shard) fn note_certificate(&mut self, key: Key, certificate: &[u8]) {
        let name = client_name(certificate, self.effective.config.identity.certificate_user);
        let identity = name.and_then(|(user, until_s)| Identity::certified(&user, until_s));
        self.peers.set_identity(key.index, identity.map(Box::new));
    }

    /// Takes note of what the requests of a connection have shown, and keeps who its peer is if it
    /// has become something that lasts.
    pub(in crate::shard) fn note_tokens(&mut self, key: Key, tokens: Tokens, lasts: bool) {
        self.overload.spend_on_tokens(tokens.cost);
        if lasts {
            self.peers.set_identity(key.index, tokens.identity.map(Box::new));
            self.take_a_seat(key, tokens.seat);
        }
    }

    /// Ticks until the token of a connection expires, if it has one and ends with that. The clock
    /// may be set meanwhile: so this is asked again with every other deadline.
    pub(in crate::shard) fn token_left(&self, key: Key) -> Option<Tick> {
        let identity = self.peers.identity(key.index)?;
        if self.effective.config.identity.jwt_keep_open {
            return None;
        }
        Some(self.ticks_until(identity.expires_s))
    }

    /// The time of day, in seconds since 1970.
    pub(in crate::shard) fn seconds_of_day(&self) -> u64 {
        self.shared.stats.seconds_of_day(self.clock())
    }

    /// Ticks until a time of day, in seconds since 1970; none when that has passed.
    pub(in crate::shard) fn ticks_until(&self, at_s: u64) -> Tick {
        let ticks = at_s.saturating_sub(self.seconds_of_day()).saturating_mul(1000 / TICK_MS);
        ticks.min(u64::from(TICKS_MOST)) as Tick
    }

    /// Closes a connection whose token has expired.
    pub(in crate::shard) fn close_expired(&mut self, key: Key) {
        self.stats().tokens_outlived.add(1);
        self.close(key, CloseCode::UNAUTHORIZED, "token expired");
    }

    /// Closes a connection whose token has been revoked since it was let in.
    pub(in crate::shard) fn close_if_revoked(&mut self, key: Key) {
        let revocations = &self.effective.trust.revocations;
        let is_revoked = |identity| revocations.contain(identity);
        let is_open = self.connections.get(key).is_some_and(Connection::can_be_closed);
        if is_open && self.peers.identity(key.index).is_some_and(is_revoked) {
            self.stats().connections_revoked.add(1);
            self.close(key, CloseCode::UNAUTHORIZED, "token revoked");
            self.settle(key);
        }
    }
}

/// Three years, so that the wheel can count them; then it is looked at again.
const TICKS_MOST: Tick = 1 << 30;
