//! What a backend answers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Answer, Connected, Granted, Hook, Refreshed, Replacement, end_s};
use crate::identity::NAME_BYTES_MOST;
use crate::realtime::api::{Fault, Fields};
use crate::realtime::protocol::ReplyError;
use crate::realtime::protocol::codes::Disconnect;
use crate::realtime::tokens::{ConnectionToken, Grant, Overrides, SubscriptionToken};

/// Reads what was answered to a hook, at a time in seconds since 1970.
///
/// # Errors
/// It is not JSON, has none of `result`, `error` and `disconnect`, or something that means nothing.
pub fn read(hook: Hook, body: &[u8], now_s: u64) -> Result<Answer, Fault> {
    let text = simdutf8::basic::from_utf8(body).map_err(|_| Fault::NotJson)?;
    let fields = Fields::read(text, "the answer", &["result", "error", "disconnect"])?;
    if let Some(object) = fields.value("disconnect") {
        return read_disconnect(object.get()).map(Answer::Disconnect);
    }
    if let Some(object) = fields.value("error") {
        return read_error(object.get()).map(Answer::Error);
    }
    let must = "have a result, an error or a disconnect";
    let result = fields.value("result");
    let result = result.ok_or(Fault::BadRequest { subject: "the answer", must })?.get();
    Ok(Answer::Granted(match hook {
        Hook::Connect => Granted::Connect(Box::new(read_connected(result, now_s)?)),
        Hook::Refresh | Hook::SubRefresh => Granted::Refresh(read_refreshed(result, now_s)?),
        Hook::Subscribe => Granted::Subscribe(Box::new(read_subscribed(result, now_s)?)),
        Hook::Publish => Granted::Publish(Box::new(read_replacement(result)?)),
        Hook::Rpc => {
            let fields = Fields::read(result, RESULT, &["data", "b64data"])?;
            let data = fields.data("data", "b64data")?;
            let is_json = data.as_ref().is_none_or(|data| data.is_json);
            Granted::Rpc { data: data.map_or_else(Vec::new, |data| data.bytes), is_json }
        }
    }))
}

fn read_disconnect(object: &str) -> Result<Disconnect, Fault> {
    let fields = Fields::read(object, "disconnect", &["code", "reason"])?;
    let code = fields.number("code")?;
    if !(3000..=4999).contains(&code) {
        return Err(Fault::BadRequest { subject: "code", must: "be from 4000 to 4999" });
    }
    let reason = shortened(fields.text("reason")?, REASON_BYTES_MOST);
    Ok(Disconnect { code, reason: Cow::Owned(reason) })
}

fn read_error(object: &str) -> Result<ReplyError, Fault> {
    let fields = Fields::read(object, "error", &["code", "message", "temporary"])?;
    let code = fields.number("code")?;
    if !(100..=1999).contains(&code) {
        return Err(Fault::BadRequest { subject: "code", must: "be from 400 to 1999" });
    }
    let message = shortened(fields.text("message")?, MESSAGE_BYTES_MOST);
    Ok(ReplyError { code, message, temporary: fields.flag("temporary")? })
}

fn read_connected(result: &str, now_s: u64) -> Result<Connected, Fault> {
    let fields = Fields::read(result, RESULT, CONNECT_FIELDS)?;
    let user: Option<Box<str>> = fields.get("user", "be a text")?;
    let must = "be given, if only as an empty text for those who are nobody";
    let user = user.ok_or(Fault::BadRequest { subject: "user", must })?;
    if user.len() > NAME_BYTES_MOST {
        return Err(Fault::BadRequest { subject: "user", must: "have at most 255 bytes" });
    }
    let named = fields.texts("channels")?.into_iter();
    let mut channels: BTreeMap<Box<str>, Grant> =
        named.map(|channel| (channel.into(), Grant::default())).collect();
    let must = "be an object whose values are objects";
    let subs: Option<BTreeMap<Box<str>, Box<serde_json::value::RawValue>>> =
        fields.get("subs", must)?;
    for (channel, options) in subs.unwrap_or_default() {
        channels.insert(channel, read_grant(&Fields::read(options.get(), "subs", GRANT_FIELDS)?)?);
    }
    Ok(Connected {
        token: ConnectionToken {
            user,
            token_id: None,
            expires_s: end_s(fields.number("expire_at")?, now_s),
            info: content(&fields, "info", "b64info")?,
            channels,
            meta: fields.json("meta").map(Into::into),
        },
        data: content(&fields, "data", "b64data")?.unwrap_or_default().into(),
    })
}

fn read_refreshed(result: &str, now_s: u64) -> Result<Refreshed, Fault> {
    let fields = Fields::read(result, RESULT, REFRESH_FIELDS)?;
    let expires_s = match fields.flag("expired")? {
        true => 0,
        false => end_s(fields.number("expire_at")?, now_s),
    };
    let info = content(&fields, "info", "b64info")?;
    Ok(Refreshed { expires_s, info, meta: fields.json("meta").map(Into::into) })
}

fn read_subscribed(result: &str, now_s: u64) -> Result<SubscriptionToken, Fault> {
    let fields = Fields::read(result, RESULT, GRANT_FIELDS)?;
    let expires_s = end_s(fields.number("expire_at")?, now_s);
    Ok(SubscriptionToken { token_id: None, expires_s, grant: read_grant(&fields)? })
}

fn read_grant(fields: &Fields<'_>) -> Result<Grant, Fault> {
    Ok(Grant {
        info: content(fields, "info", "b64info")?,
        data: content(fields, "data", "b64data")?,
        overrides: Overrides::read(fields)?,
    })
}

fn read_replacement(result: &str) -> Result<Replacement, Fault> {
    let fields = Fields::read(result, RESULT, PUBLISH_FIELDS)?;
    let data = fields.data("data", "b64data")?;
    if data.as_ref().is_some_and(|data| !data.is_json) {
        // Those could not be told who speak JSON.
        return Err(Fault::BadRequest { subject: "b64data", must: "be JSON" });
    }
    Ok(Replacement {
        data: data.map(|data| data.bytes),
        skips_history: fields.flag("skip_history")?,
        tags: fields.texts_by_name("tags")?,
        idempotency_key: fields.text("idempotency_key")?.into(),
        wants_delta: fields.flag("delta")?,
        version: fields.number("version")?,
        version_epoch: fields.text("version_epoch")?.into(),
    })
}

/// JSON of one field, or what another has in base64.
fn content(
    fields: &Fields<'_>,
    json: &'static str,
    base64: &'static str,
) -> Result<Option<Box<[u8]>>, Fault> {
    Ok(fields.data(json, base64)?.map(|data| data.bytes.into()))
}

/// As much of a text as fits, in whole characters.
fn shortened(mut text: String, bytes_most: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_most));
    text
}

const RESULT: &str = "result";
const CONNECT_FIELDS: &[&str] =
    &["user", "expire_at", "info", "b64info", "data", "b64data", "channels", "subs", "meta"];
const REFRESH_FIELDS: &[&str] = &["expired", "expire_at", "info", "b64info", "meta"];
const GRANT_FIELDS: &[&str] = &["expire_at", "info", "b64info", "data", "b64data", "override"];
const PUBLISH_FIELDS: &[&str] = &[
    "data",
    "b64data",
    "skip_history",
    "tags",
    "idempotency_key",
    "delta",
    "version",
    "version_epoch",
];
/// What is left of the content of a close frame behind the code (RFC 6455 section 5.5).
const REASON_BYTES_MOST: usize = 123;
/// Bytes of what a client is told of an error.
const MESSAGE_BYTES_MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::NEVER_S;

    fn granted(hook: Hook, result: &str) -> Granted {
        let body = format!(r#"{{"result":{result}}}"#);
        match read(hook, body.as_bytes(), 100) {
            Ok(Answer::Granted(granted)) => granted,
            other => panic!("{result}: {other:?}"),
        }
    }

    #[test]
    fn who_connects_is_what_a_token_would_say() {
        let result = r#"{"user":"u","expire_at":200,"info":{"a":1},"b64data":"MQ==",
            "channels":["a"],"subs":{"b":{"data":2,"override":{"presence":{"value":true}}}},
            "meta":{"m":1},"more":[]}"#;
        let Granted::Connect(connected) = granted(Hook::Connect, result) else {
            panic!("who connects")
        };
        let token = &connected.token;
        assert_eq!((&*token.user, token.expires_s, &*connected.data), ("u", 200, &b"1"[..]));
        assert_eq!(token.info.as_deref(), Some(&br#"{"a":1}"#[..]));
        assert_eq!(token.meta.as_deref(), Some(&br#"{"m":1}"#[..]));
        assert_eq!(token.channels.len(), 2);
        assert_eq!(token.channels["b"].overrides.presence, Some(true));
        assert_eq!(token.channels["b"].data.as_deref(), Some(&b"2"[..]));
        let Granted::Connect(nobody) = granted(Hook::Connect, r#"{"user":""}"#) else {
            panic!("who connects")
        };
        assert_eq!((&*nobody.token.user, nobody.token.expires_s), ("", NEVER_S));
    }

    #[test]
    fn what_goes_on_does_so_until_it_is_said_or_not_at_all() {
        for (result, expires_s) in [
            ("{}", NEVER_S),
            (r#"{"expire_at":101}"#, 101),
            (r#"{"expire_at":100}"#, 0),
            (r#"{"expire_at":-1}"#, 0),
            (r#"{"expired":true,"expire_at":500}"#, 0),
        ] {
            let refreshed = Refreshed { expires_s, info: None, meta: None };
            assert_eq!(granted(Hook::Refresh, result), Granted::Refresh(refreshed), "{result}");
        }
        let Granted::Subscribe(token) =
            granted(Hook::Subscribe, r#"{"expire_at":150,"info":1,"data":[]}"#)
        else {
            panic!("a subscription")
        };
        assert_eq!((token.expires_s, token.grant.info.as_deref()), (150, Some(&b"1"[..])));
    }

    #[test]
    fn what_is_published_may_be_replaced() {
        let same = Granted::Publish(Box::default());
        assert_eq!(granted(Hook::Publish, "{}"), same);
        let result = r#"{"data":{"a":1},"skip_history":true,"tags":{"b":"c"},"version":7}"#;
        let replacement = Replacement {
            data: Some(br#"{"a":1}"#.to_vec()),
            skips_history: true,
            tags: BTreeMap::from([("b".to_owned(), "c".to_owned())]),
            version: 7,
            ..Replacement::default()
        };
        assert_eq!(granted(Hook::Publish, result), Granted::Publish(Box::new(replacement)));
        assert_eq!(
            granted(Hook::Rpc, r#"{"data":null}"#),
            Granted::Rpc { data: Vec::new(), is_json: true }
        );
        let binary = Granted::Rpc { data: vec![255, 254], is_json: false };
        assert_eq!(granted(Hook::Rpc, r#"{"b64data":"//4="}"#), binary);
    }

    #[test]
    fn a_disconnect_counts_before_an_error_and_that_before_a_result() {
        let both = br#"{"result":{"user":"u"},"error":{"code":400,"message":"m"}}"#;
        let error = ReplyError { code: 400, message: "m".to_owned(), temporary: false };
        assert_eq!(read(Hook::Connect, both, 0), Ok(Answer::Error(error)));
        let all = br#"{"error":{"code":400},"disconnect":{"code":4500,"reason":"r"},"result":{}}"#;
        let disconnect = Disconnect { code: 4500, reason: Cow::Borrowed("r") };
        assert_eq!(read(Hook::Connect, all, 0), Ok(Answer::Disconnect(disconnect)));
        let long =
            format!(r#"{{"disconnect":{{"code":4000,"reason":"{}"}}}}"#, "\u{e9}".repeat(99));
        let Ok(Answer::Disconnect(disconnect)) = read(Hook::Rpc, long.as_bytes(), 0) else {
            panic!("it is the end")
        };
        assert_eq!(disconnect.reason.len(), 122, "whole characters that fit into a close frame");
    }

    #[test]
    fn what_means_nothing_is_no_answer() {
        let long = format!(r#"{{"result":{{"user":"{}"}}}}"#, "x".repeat(256));
        for body in [
            "",
            "<html>",
            "[]",
            "null",
            "{}",
            r#"{"result":null}"#,
            r#"{"result":[]}"#,
            r#"{"result":{}}"#,
            r#"{"result":{"user":1}}"#,
            r#"{"result":{"user":"u","expire_at":"soon"}}"#,
            r#"{"result":{"user":"u","b64info":"?"}}"#,
            r#"{"result":{"user":"u","subs":{"a":1}}}"#,
            r#"{"result":{"user":"u"}} x"#,
            r#"{"error":{}}"#,
            r#"{"error":{"code":2000}}"#,
            r#"{"error":{"code":99}}"#,
            r#"{"error":"no"}"#,
            r#"{"disconnect":{"code":1000}}"#,
            r#"{"disconnect":{"code":5000}}"#,
            r#"{"disconnect":{}}"#,
            &long,
        ] {
            assert!(read(Hook::Connect, body.as_bytes(), 0).is_err(), "{body}");
        }
        for body in [r#"{"result":{"b64data":"//4="}}"#, r#"{"result":{"tags":["a"]}}"#] {
            assert!(read(Hook::Publish, body.as_bytes(), 0).is_err(), "{body}");
        }
        assert!(read(Hook::Connect, b"\xff", 0).is_err());
    }
}
