//! What a server says by the protocol of channels, as far as it matters here. Fields that are not
//! known are passed over.

use std::borrow::Cow;

use serde::Deserialize;

use crate::bench::failure::Fault;

/// A line of a frame.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reply<'a> {
    /// The command that it answers; 0 of a push and of a ping.
    pub id: u32,
    /// Why that failed.
    #[serde(borrow)]
    pub error: Option<Refusal<'a>>,
    /// What nobody has asked for.
    #[serde(borrow)]
    pub push: Option<Push<'a>>,
    /// Of the command of this name.
    #[serde(borrow)]
    pub connect: Option<Connected<'a>>,
    /// Of the command of this name.
    #[serde(borrow)]
    pub subscribe: Option<Subscribed<'a>>,
}

/// An error, or the end of a subscription or connection.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Refusal<'a> {
    /// For programs.
    pub code: u32,
    /// For people, of an error.
    #[serde(borrow)]
    pub message: Cow<'a, str>,
    /// For people, of an end.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
}

/// The beginning of a session.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Connected<'a> {
    /// Identifies the client.
    #[serde(borrow)]
    pub client: Cow<'a, str>,
    /// Whether pings are to be answered.
    pub pong: bool,
}

/// The beginning of a subscription.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Subscribed<'a> {
    /// Whether what is missed can be recovered.
    pub recoverable: bool,
    /// Whether the server looks at what is missed.
    pub positioned: bool,
    /// Whether `publications` are all that was missed.
    pub recovered: bool,
    /// The epoch of the channel.
    #[serde(borrow)]
    pub epoch: Cow<'a, str>,
    /// The offset of its last publication.
    pub offset: u64,
    /// What was missed.
    #[serde(borrow)]
    pub publications: Vec<Publication<'a>>,
}

/// What nobody has asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Push<'a> {
    /// The channel that it is about.
    #[serde(borrow)]
    pub channel: Cow<'a, str>,
    /// Something was published.
    #[serde(borrow, rename = "pub")]
    pub publication: Option<Publication<'a>>,
    /// The subscription is over.
    #[serde(borrow)]
    pub unsubscribe: Option<Refusal<'a>>,
    /// The connection is over.
    #[serde(borrow)]
    pub disconnect: Option<Refusal<'a>>,
}

/// What was published.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Publication<'a> {
    /// Its place in the channel; 0 where nothing is kept of it.
    pub offset: u64,
    /// The message: ours are strings, without anything that is escaped.
    #[serde(borrow)]
    pub data: Cow<'a, str>,
}

impl<'a> Reply<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &'a [u8]) -> Result<Self, Fault> {
        serde_json::from_slice(line).map_err(|error| {
            let begun = String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES)]);
            Fault::Session(format!("no reply, and nothing published by us: {error}: {begun}"))
        })
    }

    /// Whether it is a ping.
    pub fn is_ping(&self) -> bool {
        self.id == 0 && self.push.is_none() && self.error.is_none()
    }
}

/// What is told of something that cannot be read.
const SHOWN_BYTES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_read_and_the_rest_passed_over() {
        let line = br#"{"push":{"channel":"a","pub":{"data":"b","info":{"user":"c"},"offset":7}}}"#;
        let push = Reply::parse(line).expect("valid").push.expect("a push");
        let publication = push.publication.expect("a publication");
        assert_eq!((&*push.channel, &*publication.data, publication.offset), ("a", "b", 7));
        let line = br#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","recovered":true,
            "publications":[{"data":"x","offset":3},{"data":"y","offset":4}],"offset":4}}"#;
        let reply = Reply::parse(line).expect("valid");
        let subscribed = reply.subscribe.expect("a result");
        assert!(subscribed.recoverable && subscribed.recovered && !subscribed.positioned);
        assert_eq!((&*subscribed.epoch, subscribed.publications.len()), ("e", 2));
        assert!(Reply::parse(b"{}").expect("valid").is_ping());
        let line = br#"{"id":1,"error":{"code":103,"message":"permission denied"}}"#;
        let error = Reply::parse(line).expect("valid").error.expect("an error");
        assert_eq!((error.code, &*error.message), (103, "permission denied"));
    }

    #[test]
    fn what_is_no_reply_is_shown() {
        for line in ["", "17", "hello", r#"{"push":{"channel":"a","pub":{"data":{"a":1}}}}"#] {
            let said = Reply::parse(line.as_bytes()).expect_err(line).to_string();
            assert!(said.contains("no reply") && said.ends_with(line), "{line}: {said}");
        }
    }
}
