//! Tokens of clients of channels: the one that they connect with, and those for single channels.
//!
//! Both are JSON Web Tokens (RFC 7519) by the keys that all tokens of the server are verified with.
//! Unlike those for other paths they may be without an end, and grant channels by claims of the
//! Centrifugo client protocol v2; what others grant (`ringwire`) is not looked for here.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::identity::{
    Identity, NAME_BYTES_MOST, NEVER_S, TokenFault, Trust, Verdict, lasts_until, some_seconds,
};

/// What the token says that somebody has connected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionToken {
    /// The name of the user (`sub`); empty for those who are nobody.
    pub user: Box<str>,
    /// The name of the token (`jti`), by which it can be revoked.
    pub token_id: Option<Box<str>>,
    /// When the connection has to show another one, in seconds since 1970; [`NEVER_S`] for never.
    pub expires_s: u64,
    /// What others are told of the connection: the text of `info`, which is JSON, or the bytes of
    /// `b64info`, which may be anything.
    pub info: Option<Box<[u8]>>,
    /// The channels that the server subscribes it to, by their names.
    pub channels: BTreeMap<Box<str>, Grant>,
    /// What the application has to say of the connection to itself, as JSON.
    pub meta: Option<Box<[u8]>>,
}

impl ConnectionToken {
    /// What holds for those who are nobody, and have no token.
    pub fn anonymous() -> Self {
        Self {
            user: Box::default(),
            token_id: None,
            expires_s: NEVER_S,
            info: None,
            channels: BTreeMap::new(),
            meta: None,
        }
    }
}

impl Default for SubscriptionToken {
    /// What holds for those who need no token.
    fn default() -> Self {
        Self { token_id: None, expires_s: NEVER_S, grant: Grant::default() }
    }
}

/// What a token says of the subscription to one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// What others are told of the subscription, as with connections.
    pub info: Option<Box<[u8]>>,
    /// What the subscriber is told with the answer: the text of `data`, or the bytes of `b64data`.
    pub data: Option<Box<[u8]>>,
    /// What holds instead of the options of the channel.
    pub overrides: Overrides,
}

/// What a token of a channel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionToken {
    /// The name of the token (`jti`), by which it can be revoked.
    pub token_id: Option<Box<str>>,
    /// When the subscription has to show another one, in seconds since 1970; [`NEVER_S`] for never.
    pub expires_s: u64,
    /// What holds for the subscription.
    pub grant: Grant,
}

/// Options of a channel that a token decides for one subscription; `None` leaves them as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "OverrideClaims")]
pub struct Overrides {
    /// Whether it is kept that the client has subscribed.
    pub presence: Option<bool>,
    /// Whether others are told that it has subscribed and leaves.
    pub join_leave: Option<bool>,
    /// Whether it is told of others without asking for that.
    pub force_push_join_leave: Option<bool>,
    /// Whether it recovers what it misses without asking for that.
    pub force_recovery: Option<bool>,
    /// Whether it is checked that it misses nothing without asking for that.
    pub force_positioning: Option<bool>,
}

/// Why somebody may not connect with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It was valid before: the client may fetch another one (error 109).
    Expired,
    /// It is not valid.
    Invalid(TokenFault),
}

/// Why somebody may not subscribe with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionTokenError {
    /// It was valid before: the client may fetch another one (error 109).
    Expired,
    /// It is not valid.
    Invalid(TokenFault),
    /// It is valid for another channel, user or client.
    Mismatch,
}

impl From<TokenFault> for TokenError {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Expired => Self::Expired,
            fault => Self::Invalid(fault),
        }
    }
}

impl From<TokenFault> for SubscriptionTokenError {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Expired => Self::Expired,
            fault => Self::Invalid(fault),
        }
    }
}

/// Verifies the token of somebody who connects, or who is connected and shows a new one, at a time
/// in seconds since 1970.
///
/// # Errors
/// It is expired or not valid; the token of a channel is not valid here.
pub fn verify_connection(
    trust: &Trust,
    token: &str,
    now_s: u64,
) -> Verdict<ConnectionToken, TokenError> {
    let Verdict { result, cost } = trust.claims::<ConnectionClaims>(token);
    let token = result.and_then(|claims| connection_token(trust, claims, now_s));
    Verdict { result: token.map_err(Into::into), cost }
}

/// Verifies the token of a channel, which a client shows to subscribe to it or to stay subscribed,
/// at a time in seconds since 1970; `user` is empty for those who are nobody.
///
/// # Errors
/// It is expired, not valid, or was made for another channel, user or client.
pub fn verify_subscription(
    trust: &Trust,
    token: &str,
    now_s: u64,
    channel: &str,
    user: &str,
    client: &str,
) -> Verdict<SubscriptionToken, SubscriptionTokenError> {
    let Verdict { result, cost } = trust.claims::<SubscriptionClaims>(token);
    let result = match result {
        Err(fault) => Err(fault.into()),
        Ok(claims) => {
            let is_its_client = claims.client.is_empty() || *claims.client == *client;
            let is_its = *claims.channel == *channel && *claims.sub == *user && is_its_client;
            match subscription_token(trust, claims, now_s) {
                Err(fault) => Err(fault.into()),
                Ok(_) if !is_its => Err(SubscriptionTokenError::Mismatch),
                Ok(token) => Ok(token),
            }
        }
    };
    Verdict { result, cost }
}

/// What a client is told of a time in seconds since 1970: the seconds until then, at least one and
/// 365 days at the most; `None` where it is never.
pub fn remaining_s(expires_s: u64, now_s: u64) -> Option<u32> {
    let seconds = expires_s.saturating_sub(now_s).clamp(1, u64::from(REMAINING_S_MOST));
    let seconds = u32::try_from(seconds).unwrap_or(REMAINING_S_MOST);
    (expires_s != NEVER_S).then_some(seconds)
}

/// The claims of a token to connect with. The library checks issuer and audience.
#[derive(Deserialize)]
struct ConnectionClaims {
    #[serde(default)]
    sub: Box<str>,
    #[serde(default)]
    jti: Option<Box<str>>,
    #[serde(default, deserialize_with = "some_seconds")]
    exp: Option<u64>,
    #[serde(default, deserialize_with = "some_seconds")]
    nbf: Option<u64>,
    #[serde(default, deserialize_with = "some_seconds")]
    expire_at: Option<u64>,
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    b64info: Option<Box<str>>,
    #[serde(default)]
    channels: Option<Vec<Box<str>>>,
    #[serde(default)]
    subs: Option<BTreeMap<Box<str>, GrantClaims>>,
    #[serde(default)]
    meta: Option<Box<RawValue>>,
    /// What makes it the token of a channel.
    #[serde(default)]
    channel: Box<str>,
}

#[derive(Deserialize)]
struct SubscriptionClaims {
    #[serde(default)]
    sub: Box<str>,
    #[serde(default)]
    jti: Option<Box<str>>,
    #[serde(default, deserialize_with = "some_seconds")]
    exp: Option<u64>,
    #[serde(default, deserialize_with = "some_seconds")]
    nbf: Option<u64>,
    #[serde(default, deserialize_with = "some_seconds")]
    expire_at: Option<u64>,
    channel: Box<str>,
    #[serde(default)]
    client: Box<str>,
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    b64info: Option<Box<str>>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    b64data: Option<Box<str>>,
    #[serde(default, rename = "override")]
    overrides: Option<Overrides>,
}

#[derive(Deserialize)]
struct GrantClaims {
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    b64info: Option<Box<str>>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    b64data: Option<Box<str>>,
    #[serde(default, rename = "override")]
    overrides: Option<Overrides>,
}

/// The same as [`Overrides`] as they are written: `{"presence":{"value":true}}`.
#[derive(Deserialize)]
struct OverrideClaims {
    presence: Option<Override>,
    join_leave: Option<Override>,
    force_push_join_leave: Option<Override>,
    force_recovery: Option<Override>,
    force_positioning: Option<Override>,
}

#[derive(Deserialize)]
struct Override {
    #[serde(default)]
    value: bool,
}

impl From<OverrideClaims> for Overrides {
    fn from(claims: OverrideClaims) -> Self {
        let value = |claim: Option<Override>| claim.map(|it| it.value);
        Self {
            presence: value(claims.presence),
            join_leave: value(claims.join_leave),
            force_push_join_leave: value(claims.force_push_join_leave),
            force_recovery: value(claims.force_recovery),
            force_positioning: value(claims.force_positioning),
        }
    }
}

fn connection_token(
    trust: &Trust,
    claims: ConnectionClaims,
    now_s: u64,
) -> Result<ConnectionToken, TokenFault> {
    let ConnectionClaims { sub: user, jti: token_id, .. } = claims;
    if !claims.channel.is_empty() {
        return Err(TokenFault::Claims);
    }
    let expires_s = session_ends(claims.exp, claims.nbf, claims.expire_at, now_s)?;
    check_names(trust, &user, token_id.as_deref())?;
    let named = claims.channels.unwrap_or_default().into_iter();
    let mut channels: BTreeMap<_, _> = named.map(|name| (name, Grant::default())).collect();
    for (channel, it) in claims.subs.unwrap_or_default() {
        channels.insert(channel, grant(it.info, it.b64info, it.data, it.b64data, it.overrides)?);
    }
    Ok(ConnectionToken {
        user,
        token_id,
        expires_s,
        info: content(claims.info, claims.b64info)?,
        channels,
        meta: content(claims.meta, None)?,
    })
}

fn subscription_token(
    trust: &Trust,
    claims: SubscriptionClaims,
    now_s: u64,
) -> Result<SubscriptionToken, TokenFault> {
    let SubscriptionClaims { info, b64info, data, b64data, overrides, .. } = claims;
    if claims.channel.is_empty() {
        return Err(TokenFault::Claims);
    }
    let expires_s = session_ends(claims.exp, claims.nbf, claims.expire_at, now_s)?;
    check_names(trust, &claims.sub, claims.jti.as_deref())?;
    let grant = grant(info, b64info, data, b64data, overrides)?;
    Ok(SubscriptionToken { token_id: claims.jti, expires_s, grant })
}

/// When what a token allows ends: with the token or, where that says otherwise (`expire_at`), then,
/// and 0 is never. The token has to hold now in any case.
fn session_ends(
    expires_s: Option<u64>,
    not_before_s: Option<u64>,
    ends_s: Option<u64>,
    now_s: u64,
) -> Result<u64, TokenFault> {
    let token_ends_s = lasts_until(expires_s, not_before_s, now_s)?;
    match ends_s {
        None => Ok(token_ends_s),
        Some(0) => Ok(NEVER_S),
        Some(ends_s) if ends_s <= now_s => Err(TokenFault::Expired),
        Some(ends_s) => Ok(ends_s),
    }
}

/// A user may be nobody here; names are otherwise as with all tokens, and may be revoked.
fn check_names(trust: &Trust, user: &str, token_id: Option<&str>) -> Result<(), TokenFault> {
    let is_name = |name: &str| (1..=NAME_BYTES_MOST).contains(&name.len());
    if ![(!user.is_empty()).then_some(user), token_id].into_iter().flatten().all(is_name) {
        return Err(TokenFault::Claims);
    }
    let identity = Identity {
        user: (!user.is_empty()).then(|| user.into()),
        token_id: token_id.map(Into::into),
        expires_s: NEVER_S,
    };
    match trust.revocations.contain(&identity) {
        true => Err(TokenFault::Revoked),
        false => Ok(()),
    }
}

fn grant(
    info: Option<Box<RawValue>>,
    encoded_info: Option<Box<str>>,
    data: Option<Box<RawValue>>,
    encoded_data: Option<Box<str>>,
    overrides: Option<Overrides>,
) -> Result<Grant, TokenFault> {
    Ok(Grant {
        info: content(info, encoded_info)?,
        data: content(data, encoded_data)?,
        overrides: overrides.unwrap_or_default(),
    })
}

/// A JSON text as it stands in the token or, where there is one, what is encoded in base64 (RFC
/// 4648 section 4), for clients that speak Protobuf.
fn content(
    json: Option<Box<RawValue>>,
    encoded: Option<Box<str>>,
) -> Result<Option<Box<[u8]>>, TokenFault> {
    match encoded.filter(|encoded| !encoded.is_empty()) {
        Some(encoded) => {
            let decoded = STANDARD.decode(encoded.as_bytes()).map_err(|_| TokenFault::Claims)?;
            Ok(Some(decoded.into()))
        }
        None => Ok(json.map(|json| json.get().as_bytes().into())),
    }
}

/// A year, in seconds.
const REMAINING_S_MOST: u32 = 365 * 24 * 3600;

#[cfg(test)]
mod tests;
