//! Who may connect, how many and how fast, and whose word on that is taken.

use clap::ValueEnum;

use super::form::{boolean, choice, count, parsed};
use super::network::{Network, TrustedProxy};
use super::setting::{list, one, settings};
use crate::limits;

/// The field of a request in which proxies say for whom they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`: a list of addresses.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// How an upgrade is refused that may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RefuseWith {
    /// With the status of HTTP, and `Retry-After`.
    Status,
    /// With a WebSocket that is closed at once: scripts in browsers see code and reason of a close,
    /// and nothing of a status.
    Close,
}

settings! {
    /// Who may connect, how many and how fast.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Peers at (|config| &mut config.peers) {
        under Peers {
            /// Proxies that say who connects by them.
            pub trusted_proxies: Vec<TrustedProxy> = Vec::new(),
                as list(parsed(TrustedProxy::GRAMMAR)).default_in_words("none"),
                named "trusted-proxy" "NETWORK",
                help "Believe what proxies in this network say of their clients' addresses; may be \
                      repeated",
                live;

            /// Where they say so.
            pub forwarded_header: ForwardedHeader = ForwardedHeader::XForwardedFor,
                as one(choice()),
                named "forwarded-header" "HEADER",
                help "The header in which trusted proxies name the client",
                live;

            /// Networks that may connect; empty is all.
            pub allow_networks: Vec<Network> = Vec::new(),
                as list(parsed(Network::GRAMMAR)).default_in_words("every network"),
                named "allow-network" "NETWORK",
                help "Accept clients from this network alone; may be repeated",
                live;

            /// Networks that may not.
            pub deny_networks: Vec<Network> = Vec::new(),
                as list(parsed(Network::GRAMMAR)).default_in_words("none"),
                named "deny-network" "NETWORK",
                help "Reset connections from this network, also where it is allowed, and answer \
                      403 behind a trusted proxy; may be repeated",
                live;

            /// Open connections of one address.
            pub connections_per_address: Option<u16> = limits::CONNECTIONS_PER_ADDRESS.default,
                as one(count(&limits::CONNECTIONS_PER_ADDRESS).or_off()),
                named "max-connections-per-address" "COUNT",
                help "Open connections of one address; more are reset, or answered 429 behind a \
                      trusted proxy",
                live;

            /// Connections that begin in one second.
            pub connection_rate: Option<u32> = limits::CONNECTION_RATE.default,
                as one(count(&limits::CONNECTION_RATE).or_off()),
                named "connection-rate" "COUNT",
                help "New connections per second of all addresses; more are reset, or answered 503 \
                      behind a trusted proxy",
                live;

            /// The same of one address.
            pub connection_rate_per_address: Option<u32> =
                    limits::CONNECTION_RATE_PER_ADDRESS.default,
                as one(count(&limits::CONNECTION_RATE_PER_ADDRESS).or_off()),
                named "connection-rate-per-address" "COUNT",
                help "New connections per second of one address; more are reset, or answered 429 \
                      behind a trusted proxy",
                live;

            /// Bits of an IPv6 address that tell one client from another.
            pub limit_ipv6_prefix: u8 = limits::LIMIT_IPV6_PREFIX.default,
                as one(count(&limits::LIMIT_IPV6_PREFIX)),
                named "limit-ipv6-prefix" "BITS",
                help "IPv6 addresses that share these first bits count as one",
                live;

            /// Whether the address of each peer is asked for, also where no limit needs it.
            pub addresses: bool = false,
                as one(boolean()),
                named "peer-addresses" "BOOLEAN",
                help "Know the address of every peer, for /connections and /closed, also where no \
                      limit needs it; costs an accept for each connection",
                live;

            /// How upgrades are refused that may succeed later.
            pub refuse_with: RefuseWith = RefuseWith::Status,
                as one(choice()),
                named "refuse-with" "ANSWER",
                help "Refuse for the moment, or for want of a token, with a status, or with a \
                      WebSocket closed with 1013, 3000 or 3003, which scripts in browsers can see",
                live;
        }
    }
}
