//! How an application says what it calls.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::call::{
    BATCH, BROADCAST, CHANNELS, DISCONNECT, HISTORY, HISTORY_REMOVE, INFO, METHODS, PRESENCE,
    PRESENCE_STATS, PUBLISH, REFRESH, RPC, SUBSCRIBE, UNSUBSCRIBE,
};
use super::fields::{Fields, Names};
use super::{
    Broadcast, COMMANDS_MAX, Call, Connections, Content, DisconnectCall, Fault, Glob, HistoryCall,
    Publish, RefreshCall, SubscribeCall, UnsubscribeCall,
};
use crate::realtime::protocol::codes::Disconnect;
use crate::realtime::tokens::Overrides;

impl Call {
    /// Reads the call of a method from its parameters, a JSON object.
    ///
    /// # Errors
    /// A method that nobody knows, a body that is not JSON, or parameters that mean nothing.
    pub fn parse(method: &str, body: &[u8]) -> Result<Self, Fault> {
        if !METHODS.contains(&method) && method != BATCH {
            return Err(Fault::MethodNotFound);
        }
        Self::read(method, text_of(body)?)
    }

    fn read(method: &str, text: &str) -> Result<Self, Fault> {
        let fields = |names| Fields::read(text, REQUEST, names);
        let channel = || fields(&["channel"])?.name("channel");
        Ok(match method {
            PUBLISH => Self::Publish(Publish::read(&fields(PUBLISH_FIELDS)?)?),
            BROADCAST => Self::Broadcast(Broadcast::read(&fields(PUBLISH_FIELDS)?)?),
            SUBSCRIBE => Self::Subscribe(SubscribeCall::read(&fields(CONNECTION_FIELDS)?)?.into()),
            UNSUBSCRIBE => Self::Unsubscribe(UnsubscribeCall::read(&fields(CONNECTION_FIELDS)?)?),
            DISCONNECT => Self::Disconnect(DisconnectCall::read(&fields(CONNECTION_FIELDS)?)?),
            REFRESH => Self::Refresh(RefreshCall::read(&fields(CONNECTION_FIELDS)?)?),
            PRESENCE => Self::Presence(channel()?),
            PRESENCE_STATS => Self::PresenceStats(channel()?),
            HISTORY => Self::History(HistoryCall::read(&fields(HISTORY_FIELDS)?)?),
            HISTORY_REMOVE => Self::HistoryRemove(channel()?),
            CHANNELS => Self::Channels(Glob::parse(&fields(&["pattern"])?.text("pattern")?)?),
            INFO => fields(&[]).map(|_| Self::Info)?,
            RPC => {
                let fields = fields(&["method", "params"])?;
                let params = fields.json("params").unwrap_or_default();
                Self::Rpc { method: fields.name("method")?, params }
            }
            BATCH => read_batch(&fields(&["commands", "parallel"])?)?,
            _ => return Err(Fault::MethodNotFound),
        })
    }
}

/// Reads the calls of a body that names their methods: one or more objects of `method` and
/// `params`, at most [`COMMANDS_MAX`], usually a line each. Each that is no call fails by itself.
///
/// # Errors
/// A body that is not JSON to its end, or that has no calls or too many; then none may be carried
/// out.
pub fn parse_lines(body: &[u8]) -> Result<Vec<Result<Call, Fault>>, Fault> {
    let mut calls = Vec::new();
    for line in serde_json::Deserializer::from_str(text_of(body)?).into_iter() {
        let line: &RawValue = line.map_err(|_| Fault::NotJson)?;
        if calls.len() >= COMMANDS_MAX {
            return Err(Fault::BadRequest {
                subject: "the body",
                must: "have at most 10000 lines",
            });
        }
        calls.push(read_line(line.get()));
    }
    if calls.is_empty() { Err(Fault::NotJson) } else { Ok(calls) }
}

fn read_line(line: &str) -> Result<Call, Fault> {
    let fields = Fields::read(line, "a line", &["method", "params"])?;
    let params = fields.value("params").map_or("{}", RawValue::get);
    Call::read(&fields.name("method")?, params)
}

fn read_batch(fields: &Fields<'_>) -> Result<Call, Fault> {
    let must = "be a list";
    let commands: Option<Vec<&RawValue>> = fields.get("commands", must)?;
    let commands = commands.ok_or(Fault::BadRequest { subject: "commands", must })?;
    if commands.len() > COMMANDS_MAX {
        let must = "have at most 10000 items";
        return Err(Fault::BadRequest { subject: "commands", must });
    }
    let calls = commands.into_iter().map(|command| read_command(command.get())).collect();
    Ok(Call::Batch { calls, may_be_parallel: fields.flag("parallel")? })
}

/// A command of a batch: an object whose field is named as the method.
fn read_command(command: &str) -> Result<Call, Fault> {
    let fields = Fields::read(command, COMMAND, METHODS)?;
    let params = |method: &&'static str| Some((*method, fields.value(method)?.get()));
    let mut given = METHODS.iter().filter_map(params);
    match (given.next(), given.next()) {
        (Some((method, params)), None) => Call::read(method, params),
        (None, _) => Err(Fault::MethodNotFound),
        (Some(_), Some(_)) => Err(Fault::BadRequest { subject: COMMAND, must: "be of one method" }),
    }
}

fn text_of(body: &[u8]) -> Result<&str, Fault> {
    simdutf8::basic::from_utf8(body).map_err(|_| Fault::NotJson)
}

impl Content {
    fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let data = fields.data("data", "b64data")?;
        Ok(Self {
            data: data.ok_or(Fault::BadRequest { subject: "data", must: "be given" })?,
            skip_history: fields.flag("skip_history")?,
            tags: fields.texts_by_name("tags")?,
            idempotency_key: fields.text("idempotency_key")?,
            delta: fields.flag("delta")?,
            version: fields.number("version")?,
            version_epoch: fields.text("version_epoch")?,
        })
    }
}

impl Publish {
    fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        Ok(Self { channel: fields.name("channel")?, content: Content::read(fields)? })
    }
}

impl Broadcast {
    fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let channels = fields.texts("channels")?;
        if channels.is_empty() {
            return Err(Fault::BadRequest { subject: "channels", must: "be given" });
        }
        Ok(Self { channels, content: Content::read(fields)? })
    }
}

impl Connections {
    fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let connections = Self {
            user: fields.text("user")?,
            client: fields.text("client")?,
            session: fields.text("session")?,
        };
        let named = [&connections.user, &connections.client, &connections.session];
        if named.iter().all(|name| name.is_empty()) {
            // It would mean everybody who has not said who they are.
            let must = "be given, or client or session";
            return Err(Fault::BadRequest { subject: "user", must });
        }
        Ok(connections)
    }
}

impl SubscribeCall {
    fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            connections: Connections::read(fields)?,
            channel: fields.name("channel")?,
            info: fields.data("info", "b64info")?,
            data: fields.data("data", "b64data")?,
            recover_since: fields.get("recover_since", POSITION)?,
            expire_at_seconds: fields.number("expire_at")?,
            overrides: Overrides::read(fields)?,
        })
    }
}

impl Overrides {
    /// What a field `override` says.
    pub(in crate::realtime) fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let Some(object) = fields.value("override") else { return Ok(Self::default()) };
        let options = Fields::read(object.get(), "override", OVERRIDE_FIELDS)?;
        let option = |name| {
            let Some(object) = options.value(name) else { return Ok(None) };
            let option = Fields::read(object.get(), name, &["value"])?;
            option.flag("value").map(Some)
        };
        Ok(Self {
            presence: option("presence")?,
            join_leave: option("join_leave")?,
            force_push_join_leave: option("force_push_join_leave")?,
            force_positioning: option("force_positioning")?,
            force_recovery: option("force_recovery")?,
        })
    }
}

impl UnsubscribeCall {
    fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        Ok(Self { connections: Connections::read(fields)?, channel: fields.name("channel")? })
    }
}

impl DisconnectCall {
    fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            connections: Connections::read(fields)?,
            whitelist: fields.texts("whitelist")?,
            disconnect: match fields.value("disconnect") {
                Some(object) => read_disconnect(object.get())?,
                None => Disconnect::FORCE_DISCONNECT,
            },
        })
    }
}

fn read_disconnect(object: &str) -> Result<Disconnect, Fault> {
    let fields = Fields::read(object, "disconnect", &["code", "reason"])?;
    let reason = fields.text("reason")?;
    if reason.len() > REASON_BYTES_MAX {
        return Err(Fault::BadRequest { subject: "reason", must: "have at most 123 bytes" });
    }
    match fields.number("code")? {
        // An object that says nothing is sent by libraries as if it had been left out.
        0 => Ok(Disconnect::FORCE_DISCONNECT),
        code @ 3000..=4999 => Ok(Disconnect { code, reason: Cow::Owned(reason) }),
        _ => Err(Fault::BadRequest { subject: "code", must: "be from 3000 to 4999" }),
    }
}

impl RefreshCall {
    fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            connections: Connections::read(fields)?,
            is_expired: fields.flag("expired")?,
            expire_at_seconds: fields.number("expire_at")?,
            info: fields.json("info"),
        })
    }
}

impl HistoryCall {
    fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            channel: fields.name("channel")?,
            limit: fields.number("limit")?,
            since: fields.get("since", POSITION)?,
            is_reverse: fields.flag("reverse")?,
        })
    }
}

/// Of calls that publish.
const PUBLISH_FIELDS: Names = &[
    "channel",
    "channels",
    "data",
    "b64data",
    "skip_history",
    "tags",
    "idempotency_key",
    "delta",
    "version",
    "version_epoch",
];
/// Of calls that are about connections.
const CONNECTION_FIELDS: Names = &[
    "user",
    "client",
    "session",
    "channel",
    "info",
    "b64info",
    "data",
    "b64data",
    "recover_since",
    "expire_at",
    "expired",
    "override",
    "whitelist",
    "disconnect",
];
const HISTORY_FIELDS: Names = &["channel", "limit", "since", "reverse"];
const OVERRIDE_FIELDS: Names =
    &["presence", "join_leave", "force_push_join_leave", "force_positioning", "force_recovery"];

const REQUEST: &str = "the request";
const COMMAND: &str = "a command";
const POSITION: &str = "be an object of offset and epoch";
/// What is left of the content of a close frame behind the code (RFC 6455 section 5.5).
const REASON_BYTES_MAX: usize = 123;

#[cfg(test)]
mod tests;
