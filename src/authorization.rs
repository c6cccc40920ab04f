//! Who may do what: every transport and every service asks here before it joins a topic or
//! publishes to one, once, and remembers the answer.

use crate::config::{BroadcastAccess, Config, Topic};
use crate::identity::{Grants, Right};

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
    /// Not here, whoever asks.
    Denied(&'static str),
    /// Not without a token.
    Unidentified,
    /// Not with this one.
    NotGranted,
}

/// What the operator allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Who may use [`Namespace::Broadcast`], at the most.
    pub broadcast: BroadcastAccess,
    /// What everybody may do, also without a token; nothing where nobody needs one, as all may do
    /// everything then.
    pub anonymous: Option<Grants>,
}

impl Permissions {
    /// Takes the settings from the configuration.
    pub fn new(config: &Config) -> Self {
        let identity = &config.identity;
        let anonymous = || Grants {
            subscribe: identity.anonymous_subscribe.clone(),
            publish: identity.anonymous_publish.clone(),
        };
        let anonymous = config.asks_who_somebody_is().then(anonymous);
        Self { broadcast: config.broadcast_access, anonymous }
    }

    /// Whether it makes a difference who somebody is.
    pub fn depend_on_identity(&self) -> bool {
        self.anonymous.is_some()
    }

    /// Whether a client may do this with the topic of this name, if a [`Topic`] can have it.
    /// `granted` is what its token grants, if it has a valid one.
    pub fn authorize(
        &self,
        namespace: Namespace,
        topic: &str,
        action: Action,
        granted: Option<&Grants>,
    ) -> Decision {
        if let Err(error) = Topic::check(topic) {
            return Decision::InvalidTopic(error.detail());
        }
        let Namespace::Broadcast = namespace;
        match (self.broadcast, action) {
            (BroadcastAccess::Full, _)
            | (BroadcastAccess::Post, Action::Subscribe | Action::Post) => {}
            (BroadcastAccess::Post, Action::Publish) => {
                return Decision::Denied("Messages are published here by POST alone.");
            }
            (BroadcastAccess::None, _) => {
                return Decision::Denied("There are no open topics here.");
            }
        }
        let Some(anonymous) = &self.anonymous else { return Decision::Allowed };
        let right = match action {
            Action::Subscribe => Right::Subscribe,
            Action::Publish | Action::Post => Right::Publish,
        };
        match granted {
            _ if anonymous.allow(right, topic) => Decision::Allowed,
            None => Decision::Unidentified,
            Some(granted) if granted.allow(right, topic) => Decision::Allowed,
            Some(_) => Decision::NotGranted,
        }
    }

    /// Whether a client may have its messages returned: whoever has a token, and all where
    /// everybody may do something.
    pub fn authorize_echo(&self, granted: Option<&Grants>) -> Decision {
        match (&self.anonymous, granted) {
            (Some(anonymous), None) if anonymous.is_empty() => Decision::Unidentified,
            _ => Decision::Allowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(broadcast: BroadcastAccess, topic: &str, action: Action) -> Decision {
        let permissions = Permissions { broadcast, anonymous: None };
        permissions.authorize(Namespace::Broadcast, topic, action, None)
    }

    fn grants(subscribe: &str, publish: &str) -> Grants {
        let patterns = |text: &str| text.split_whitespace().map(|it| it.parse().unwrap()).collect();
        Grants { subscribe: patterns(subscribe), publish: patterns(publish) }
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

    #[test]
    fn tokens_add_to_what_everybody_may_do() {
        use Action::{Post, Publish, Subscribe};
        use Decision::{Allowed, NotGranted, Unidentified};
        let permissions = Permissions {
            broadcast: BroadcastAccess::Full,
            anonymous: Some(grants("public.*", "")),
        };
        let token = grants("news", "public.wall");
        for (topic, action, without, with) in [
            ("public.a", Subscribe, Allowed, Allowed),
            ("public.a", Post, Unidentified, NotGranted),
            ("public.wall", Publish, Unidentified, Allowed),
            ("public.wall", Post, Unidentified, Allowed),
            ("news", Subscribe, Unidentified, Allowed),
            ("news", Publish, Unidentified, NotGranted),
            ("other", Subscribe, Unidentified, NotGranted),
        ] {
            for (granted, expected) in [(None, without), (Some(&token), with)] {
                let decision = permissions.authorize(Namespace::Broadcast, topic, action, granted);
                assert_eq!(decision, expected, "{topic} {action:?} {granted:?}");
            }
        }
        let closed = Permissions { broadcast: BroadcastAccess::None, ..permissions.clone() };
        let decision = closed.authorize(Namespace::Broadcast, "news", Subscribe, Some(&token));
        assert!(matches!(decision, Decision::Denied(_)), "a grant is no more than that");
    }

    #[test]
    fn echoes_are_for_those_who_are_let_in_at_all() {
        for (anonymous, without) in [
            (None, Decision::Allowed),
            (Some(grants("", "")), Decision::Unidentified),
            (Some(grants("a", "")), Decision::Allowed),
            (Some(grants("", "a")), Decision::Allowed),
        ] {
            let permissions = Permissions { broadcast: BroadcastAccess::Full, anonymous };
            assert_eq!(permissions.authorize_echo(None), without);
            assert_eq!(permissions.authorize_echo(Some(&Grants::default())), Decision::Allowed);
        }
    }
}
