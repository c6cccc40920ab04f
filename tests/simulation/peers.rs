//! Where clients come from, directly or by a proxy, and whether the server lets in the right ones.

use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use ringwire::config::{Config, UserLimit};

use crate::client::{Client, Context};
use crate::network::Network;
use crate::users;

/// How a client reaches the server, and what the server must make of it.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The address of the client itself.
    pub address: IpAddr,
    way: Way,
    /// As whom it asks.
    pub user: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    /// By a trusted proxy that tells the address in a request.
    Forwarded,
    /// By a trusted proxy that tells the address before everything else.
    Preamble,
    /// By such a proxy, as a connection of its own.
    Local,
    /// By such a proxy, which sends no valid header.
    Broken,
}

impl Origin {
    /// Draws limits and networks for the server.
    pub fn settings(rng: &mut Rng, config: &mut Config) {
        if rng.u8(..3) > 0 {
            return;
        }
        let peers = &mut config.peers;
        peers.trusted_proxies = vec!["10.0.0.0/8".parse().expect("a network")];
        if rng.u8(..4) > 0 {
            peers.connections_per_address = Some(rng.u16(1..4));
        }
        if rng.u8(..4) == 0 {
            peers.connection_rate_per_address = Some(rng.u32(1..4));
        }
        if rng.u8(..8) == 0 {
            peers.connection_rate = Some(rng.u32(1..6));
        }
        if rng.u8(..4) == 0 {
            peers.deny_networks = vec![address(2).to_string().parse().expect("a network")];
        }
        config.listen[0].proxy = rng.u8(..3) == 0;
    }

    /// Draws a client.
    pub fn draw(rng: &mut Rng, config: &Config) -> Self {
        let way = match rng.u8(..20) {
            _ if config.peers.trusted_proxies.is_empty() => Way::Direct,
            0 => Way::Direct,
            1 if config.listen[0].proxy => Way::Broken,
            2 if config.listen[0].proxy => Way::Local,
            _ if config.listen[0].proxy => Way::Preamble,
            1..8 => Way::Forwarded,
            _ => Way::Direct,
        };
        Self { address: address(rng.u8(..3)), way, user: None }
    }

    /// The same as somebody.
    pub fn of_user(self, user: Option<u8>) -> Self {
        Self { user, ..self }
    }

    /// The address that the server's kernel sees.
    pub fn socket_address(&self) -> IpAddr {
        match self.way {
            Way::Direct => self.address,
            _ => Ipv4Addr::new(10, 0, 0, 1).into(),
        }
    }

    /// What the proxy sends first.
    pub fn preamble(&self, rng: &mut Rng) -> Vec<u8> {
        let Self { address, way, .. } = self;
        match (way, address) {
            (Way::Preamble, IpAddr::V4(address)) if rng.bool() => {
                let more: Vec<u8> = (0..rng.usize(..40)).map(|_| rng.u8(..)).collect();
                let bytes = (12 + more.len() as u16).to_be_bytes();
                let ends = [&address.octets()[..], &[10, 0, 0, 1, 0, 1, 0, 2]].concat();
                [SIGNATURE, &[0x21, 0x11], &bytes, &ends, &more].concat()
            }
            (Way::Preamble, address) => {
                format!("PROXY TCP4 {address} 10.0.0.1 1 2\r\n").into_bytes()
            }
            (Way::Local, _) if rng.bool() => b"PROXY UNKNOWN\r\n".to_vec(),
            (Way::Local, _) => [SIGNATURE, &[0x20, 0, 0, 0]].concat(),
            (Way::Broken, _) => b"PROXY TCP4 nobody\r\n".to_vec(),
            (Way::Direct | Way::Forwarded, _) => Vec::new(),
        }
    }

    /// An upgrade as the proxy passes it on, with what says as whom it asks.
    pub fn pass_on(&self, upgrade: Vec<u8>) -> Vec<u8> {
        if self.way != Way::Forwarded && self.user.is_none() {
            return upgrade;
        }
        let text = String::from_utf8(upgrade).expect("a request is text");
        let (line, fields) = text.split_once("\r\n").expect("a request line");
        let forwarded = match self.way {
            Way::Forwarded => {
                format!("X-Forwarded-For: 192.0.2.99, {}, 10.0.0.7\r\n", self.address)
            }
            _ => String::new(),
        };
        let token = self.user.map(users::field).unwrap_or_default();
        format!("{line}\r\n{forwarded}{token}{fields}").into_bytes()
    }

    /// Whether it counts for its address.
    fn is_counted(&self) -> bool {
        !matches!(self.way, Way::Local | Way::Broken)
    }

    /// Whether it must not be served, whatever else happens.
    pub fn is_unwelcome(&self, config: &Config) -> bool {
        let denied = &config.peers.deny_networks;
        let is_denied = denied.iter().any(|network| network.range().contains(&self.address));
        let is_untrusted = config.listen[0].proxy && self.way == Way::Direct;
        is_untrusted || self.way == Way::Broken || is_denied && self.is_counted()
    }

    /// Whether it may be refused, by a status or a reset: a limit may have been reached.
    pub fn may_be_refused(&self, context: &Context) -> bool {
        let config = &context.config_at_start;
        let peers = &config.peers;
        let others = context.origins.iter().filter(|other| other.address == self.address);
        let may_be_full = peers
            .connections_per_address
            .is_some_and(|most| others.count() > usize::from(most) && self.is_counted());
        // Trusted proxies on their own are let in at any rate, and ask as often as they like.
        let may_be_fast = peers.connection_rate.is_some()
            || peers.connection_rate_per_address.is_some() && self.is_counted();
        self.is_unwelcome(config) || may_be_full || may_be_fast
    }

    /// Whether another connection of its user may take its place.
    pub fn may_be_replaced(&self, context: &Context) -> bool {
        self.user.is_some() && context.config_at_start.identity.user_limit == UserLimit::Newest
    }

    /// Whether this status may refuse an upgrade of its.
    pub fn may_get(&self, status: u16, context: &Context) -> bool {
        let config = &context.config_at_start;
        match status {
            403 => self.way == Way::Forwarded && self.is_unwelcome(config),
            429 => {
                let stays = config.identity.user_limit;
                let may_be_too_many = self.user.is_some() && stays == UserLimit::Oldest;
                may_be_too_many || self.way == Way::Forwarded && self.may_be_refused(context)
            }
            503 => self.way != Way::Direct && config.peers.connection_rate.is_some(),
            _ => false,
        }
    }
}

/// No address has more connections than it may, as far as clients and the network can tell.
pub fn check_limits(clients: &[Client], network: &Network, context: &Context) {
    let Some(most) = context.config_at_start.peers.connections_per_address else { return };
    for address in (0..3).map(address) {
        let is_served = |client: &&Client| {
            let is_held = client.socket.is_some_and(|it| !network.sockets[it].is_closed());
            let origin = &context.origins[client.number];
            // Whoever has finished may be gone from the shard that had them last, and still be
            // held by one that they have left.
            let is_open = client.upgraded && is_held && !client.has_finished;
            is_open && origin.address == address && origin.is_counted()
        };
        let served = clients.iter().filter(is_served).count();
        assert!(served <= most.into(), "{served} connections of {address}, at most {most}");
        let counted = context
            .shared
            .admission
            .counted_for(&context.shared.in_force.current().admission, address);
        assert!(served as u32 <= counted && counted <= most.into(), "{counted} of {address}");
    }
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 1 + number).into()
}

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
