//! Who may do what: every transport and every service asks here before it joins a topic or
//! publishes to one, once, and remembers the answer.

use crate::config::{BroadcastAccess, Topic};

/// Topics with rules of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Those of `/broadcast/{topic}`.
    Broadcast,
}

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Get what is published.
    Subscribe,
    /// Say something to all subscribers, as one of them.
    Publish,
    /// The same by a request of its own, as applications do.
    Post,
}

/// The answer, with a sentence for the client where it is no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is allowed.
    Allowed,
    /// No topic can have this name.
    InvalidTopic(&'static str),
    /// Not here.
    Denied(&'static str),
}

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Who may use [`Namespace::Broadcast`].
    pub broadcast: BroadcastAccess,
}

impl Permissions {
    /// Whether a client may do this with the topic of this name, if a [`Topic`] can have it.
    pub fn authorize(&self, namespace: Namespace, topic: &str, action: Action) -> Decision {
        if let Err(error) = Topic::check(topic) {
            return Decision::InvalidTopic(error.detail());
        }
        let Namespace::Broadcast = namespace;
        match (self.broadcast, action) {
            (BroadcastAccess::Full, _)
            | (BroadcastAccess::Post, Action::Subscribe | Action::Post) => Decision::Allowed,
            (BroadcastAccess::Post, Action::Publish) => {
                Decision::Denied("Messages are published here by POST alone.")
            }
            (BroadcastAccess::None, _) => Decision::Denied("There are no open topics here."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(broadcast: BroadcastAccess, topic: &str, action: Action) -> Decision {
        Permissions { broadcast }.authorize(Namespace::Broadcast, topic, action)
    }

    #[test]
    fn names_that_no_topic_can_have() {
        let long = "x".repeat(256);
        for topic in ["", &long, "\0", "a\nb", "\u{7f}", "a\u{85}"] {
            for access in [BroadcastAccess::Full, BroadcastAccess::None] {
                let decision = decide(access, topic, Action::Subscribe);
                assert!(matches!(decision, Decision::InvalidTopic(_)), "{topic:?}: {decision:?}");
            }
        }
        for topic in ["a", " ", "/", "caf\u{e9}", &long[1..]] {
            assert_eq!(
                decide(BroadcastAccess::Full, topic, Action::Publish),
                Decision::Allowed,
                "{topic:?}"
            );
        }
    }

    #[test]
    fn access_says_who_may_do_what() {
        use Action::{Post, Publish, Subscribe};
        use BroadcastAccess::{Full, None};
        for (access, action, is_allowed) in [
            (Full, Subscribe, true),
            (Full, Publish, true),
            (Full, Post, true),
            (BroadcastAccess::Post, Subscribe, true),
            (BroadcastAccess::Post, Publish, false),
            (BroadcastAccess::Post, Post, true),
            (None, Subscribe, false),
            (None, Publish, false),
            (None, Post, false),
        ] {
            let decision = decide(access, "t", action);
            assert_eq!(decision == Decision::Allowed, is_allowed, "{access:?} {action:?}");
        }
    }
}
