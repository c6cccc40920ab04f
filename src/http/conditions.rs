//! What a request may find besides the settings: what its shard knows, asked for only where it
//! makes a difference.

use std::net::IpAddr;

use super::asked::Asked;
use super::sockjs::SessionKey;
use super::{Policy, Serving};
use crate::admission::{Denial, JoinDenial, TooMany};
use crate::identity::{Grants, Judgement};

/// What a request may find besides the settings.
pub struct Conditions<'a> {
    /// The settings that decide.
    pub policy: &'a Policy,
    /// Whether upgrades are welcome.
    pub serving: Serving,
    /// Whether a message for this topic may be published now, or has to wait for others.
    pub may_publish: &'a dyn Fn(&str) -> bool,
    /// Takes a message of what may be published to this topic in a second; asked once for each,
    /// when nothing else stands in its way.
    pub take: &'a dyn Fn(&str) -> Result<(), TooMany>,
    /// Whether whoever asks is a proxy that is trusted to say for whom.
    pub is_trusted_proxy: bool,
    /// Lets in the client of such a proxy, as far as its address is known, for an upgrade that is
    /// otherwise right; asked at most once before that upgrade is answered.
    pub admit: &'a dyn Fn(Option<IpAddr>) -> Result<(), Denial>,
    /// Makes room for a member of this topic, for an upgrade or a stream that is otherwise right;
    /// asked at most once, and the room is given back unless that begins.
    pub join: &'a dyn Fn(&str) -> Result<(), JoinDenial>,
    /// Makes room for one more connection of the user whose token was verified last, for an upgrade
    /// or a stream that is otherwise right; given back unless that begins.
    pub reserve: &'a dyn Fn() -> Result<(), Denial>,
    /// Verifies the token that a request has, or without one the certificate of its client, and
    /// tells what that grants; nothing for one that is not valid. Asked at most once for each
    /// request.
    pub verify: &'a dyn Fn(Option<&str>) -> Option<Grants>,
    /// Takes what was said about the request that waits for that, if it has been.
    pub judge: &'a dyn Fn() -> Option<Judgement>,
    /// Whether one of these is a key of the API: what the fields `X-API-Key` and `Authorization`
    /// have, and the query.
    pub may_call: MayCall<'a>,
    /// Which session one of this name is below this base, and which other shard has it, if another
    /// does.
    pub owner: Owner<'a>,
    /// The port to which everybody is sent, for the same by https; `None` where requests are
    /// answered.
    pub redirects_to: Option<u16>,
    /// When those who are refused for the moment may come back.
    pub retry_after_s: u8,
    /// Takes note of each request, if it is to be logged.
    pub note: Option<&'a dyn Fn(Asked)>,
}

impl<'a> Conditions<'a> {
    /// Conditions under which nothing stands in the way but the settings and how welcome upgrades
    /// are.
    pub fn unlimited(policy: &'a Policy, serving: Serving) -> Self {
        Self {
            policy,
            serving,
            may_publish: &|_| true,
            take: &|_| Ok(()),
            is_trusted_proxy: false,
            admit: &|_| Ok(()),
            join: &|_| Ok(()),
            reserve: &|| Ok(()),
            verify: &|_| None,
            judge: &|| None,
            may_call: &|_, _, _| false,
            owner: &|_, _| (0, None),
            redirects_to: None,
            retry_after_s: 5,
            note: None,
        }
    }
}

/// Where a session is: see [`Conditions::owner`].
pub type Owner<'a> = &'a dyn Fn(&str, &str) -> (SessionKey, Option<usize>);

/// Whether a call has a key: see [`Conditions::may_call`].
pub type MayCall<'a> = &'a dyn Fn(Option<&[u8]>, Option<&[u8]>, Option<&str>) -> bool;
