//! The channels that a run is about, where its connections are clients of the Centrifugo client
//! protocol v2.
//!
//! Each topic of the plan is a channel. Subscribers are dealt out over them evenly, each to as many
//! as are asked for; a channel is published to by one connection, so that its order is known.

use super::arguments::{Arguments, ContentName, ProtocolName, WorkloadName};
use super::plan::PlanError;

/// What clients subscribe and publish to.
#[derive(Clone, Debug)]
pub struct Channels {
    /// What is before the number of a topic in the name of its channel.
    before: String,
    /// What is behind it, if the name has one.
    behind: Option<String>,
    /// Channels of each client; none where clients publish alone.
    pub subscriptions: u32,
    /// Publications to each channel that its subscribers miss while they are away.
    pub missed: u32,
    /// The token of each client, or empty.
    pub token: String,
}

impl Channels {
    /// The channels that `arguments` ask for, if it is a run of this protocol.
    ///
    /// # Errors
    /// Options that do not go together.
    pub fn new(arguments: &Arguments, workload: WorkloadName) -> Result<Option<Self>, PlanError> {
        let given = [
            ("channel", arguments.channel.is_some()),
            ("subscriptions", arguments.subscriptions.is_some()),
            ("missed", arguments.missed.is_some()),
        ];
        if arguments.protocol == ProtocolName::Websocket {
            return match given.into_iter().find(|(_, is_given)| *is_given) {
                Some((option, _)) => Err(PlanError::of(option, "only for --protocol centrifugo")),
                None => Ok(None),
            };
        }
        use WorkloadName::{Broadcast, Connect, Idle, Slow, Storm};
        let subscribes = matches!(workload, Broadcast | Connect | Idle | Storm);
        let refused = [
            ("protocol", workload == Slow, "centrifugo has no workload slow"),
            ("content", arguments.content == ContentName::Json, "not with --protocol centrifugo"),
            ("unchecked", arguments.unchecked, "not with --protocol centrifugo"),
            ("subscriptions", arguments.subscriptions.is_some() && !subscribes, ONLY_SUBSCRIBERS),
            ("missed", arguments.missed.is_some() && workload != Storm, "only for storm"),
        ];
        if let Some((option, _, reason)) = refused.into_iter().find(|(_, is_given, _)| *is_given) {
            return Err(PlanError::of(option, reason));
        }
        let pattern = arguments.channel.as_deref().unwrap_or(CHANNEL);
        let topics = arguments.topics.unwrap_or(1);
        let (before, behind) = match pattern.split_once(TOPIC) {
            Some((before, behind)) => (before, Some(behind.to_owned())),
            None if topics == 1 => (pattern, None),
            None => return Err(PlanError::of("channel", "several --topics need {topic} in it")),
        };
        if pattern.is_empty() || pattern.contains(['"', '\\']) || pattern.contains(char::is_control)
        {
            let reason = "a name, without quotes, backslashes and control characters";
            return Err(PlanError::of("channel", reason));
        }
        let least = u32::from(matches!(workload, Broadcast | Storm));
        let subscriptions = arguments.subscriptions.unwrap_or(1);
        if subscriptions < least || subscriptions > topics {
            let reason = format!("from {least} to the {topics} --topics");
            return Err(PlanError::of("subscriptions", &reason));
        }
        Ok(Some(Self {
            before: before.to_owned(),
            behind,
            subscriptions: if subscribes { subscriptions } else { 0 },
            missed: if workload == Storm { arguments.missed.unwrap_or(MISSED) } else { 0 },
            token: arguments.token.clone().unwrap_or_default(),
        }))
    }

    /// The name of a topic's channel.
    pub fn name(&self, topic: u32) -> String {
        match &self.behind {
            Some(behind) => format!("{}{topic}{behind}", self.before),
            None => self.before.clone(),
        }
    }

    /// The topic whose channel this is.
    pub fn topic(&self, name: &str) -> Option<u32> {
        let rest = name.strip_prefix(&*self.before)?;
        let Some(behind) = &self.behind else { return rest.is_empty().then_some(0) };
        let number = rest.strip_suffix(&**behind)?;
        let is_plain = number == "0" || number.starts_with(|digit| ('1'..='9').contains(&digit));
        number.parse().ok().filter(|_| is_plain)
    }
}

const TOPIC: &str = "{topic}";
const CHANNEL: &str = "bench{topic}";
const MISSED: u32 = 10;
const ONLY_SUBSCRIBERS: &str = "only for broadcast, connect, storm, idle";

#[cfg(test)]
mod tests {
    use crate::bench::plan::tests::plan;

    #[test]
    fn names_lead_to_topics_and_back() {
        let line = "ws://127.0.0.1:1/ broadcast --protocol centrifugo --topics 200";
        for (pattern, name) in [("a:{topic}", "a:117"), ("{topic}", "117"), ("#{topic}b", "#117b")]
        {
            let plan = plan(&format!("{line} --channel {pattern}")).expect("valid");
            let channels = plan.channels.expect("there are some");
            assert_eq!((&*channels.name(117), channels.topic(name)), (name, Some(117)));
            for other in ["", "117c", "a:", "a:0117", "a:+117", "a:99999999999", "#b"] {
                assert_eq!(channels.topic(other), None, "{pattern} {other}");
            }
        }
        let one = plan("ws://127.0.0.1:1/ idle --protocol centrifugo --channel a").expect("valid");
        let channels = one.channels.expect("there is one");
        assert_eq!(
            (&*channels.name(0), channels.topic("a"), channels.topic("a0")),
            ("a", Some(0), None)
        );
    }

    #[test]
    fn what_makes_no_channels_is_refused() {
        for (line, part) in [
            ("broadcast --missed 5", "--missed: only for --protocol centrifugo"),
            ("echo --channel a", "--channel: only for --protocol centrifugo"),
            ("slow --protocol centrifugo", "--protocol: centrifugo has no workload slow"),
            ("echo --protocol centrifugo --subscriptions 1", "--subscriptions: only for broadcast"),
            ("idle --protocol centrifugo --missed 1", "--missed: only for storm"),
            ("storm --protocol centrifugo --subscriptions 0", "--subscriptions: from 1 to the 1"),
            ("storm --protocol centrifugo --subscriptions 2", "--subscriptions: from 1 to the 1"),
            ("echo --protocol centrifugo --content json", "--content: not with"),
            ("echo --protocol centrifugo --unchecked", "--unchecked: not with"),
            ("echo --protocol centrifugo --channel a\"b", "--channel: a name"),
            ("storm --protocol centrifugo --topics 2 --channel a", "--channel: several --topics"),
        ] {
            let said = plan(&format!("ws://127.0.0.1:1/ {line}")).expect_err(line);
            assert!(said.contains(part), "{line}: {said}");
        }
    }
}
