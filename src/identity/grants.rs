//! What somebody may do with which topics. Grants add up, and nothing takes one back.

use crate::config::TopicPattern;

/// What may be granted for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// To get what is published.
    Subscribe,
    /// To publish.
    Publish,
}

/// The topics for which each right is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Those that may be subscribed to.
    pub subscribe: Vec<TopicPattern>,
    /// Those that may be published to.
    pub publish: Vec<TopicPattern>,
}

impl Grants {
    /// Every right for every topic.
    pub fn all() -> Self {
        let all = || EVERY_TOPIC.parse().into_iter().collect();
        Self { subscribe: all(), publish: all() }
    }

    /// Memory that the patterns take.
    pub fn held_bytes(&self) -> usize {
        let patterns = self.subscribe.iter().chain(&self.publish);
        patterns.map(|it| size_of::<TopicPattern>() + it.text().len()).sum()
    }

    /// Whether this right is granted for the topic of this name.
    pub fn allow(&self, right: Right, topic: &str) -> bool {
        let patterns = match right {
            Right::Subscribe => &self.subscribe,
            Right::Publish => &self.publish,
        };
        patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Adds what others grant.
    pub(super) fn extend(&mut self, other: &Self) {
        self.subscribe.extend(other.subscribe.iter().cloned());
        self.publish.extend(other.publish.iter().cloned());
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.publish.is_empty()
    }
}

const EVERY_TOPIC: &str = "**";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_granted_one_by_one() {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let grants = Grants { subscribe: patterns(&["news.*", "a"]), publish: patterns(&["a"]) };
        for (topic, subscribe, publish) in
            [("news.sport", true, false), ("a", true, true), ("b", false, false)]
        {
            assert_eq!(grants.allow(Right::Subscribe, topic), subscribe, "{topic}");
            assert_eq!(grants.allow(Right::Publish, topic), publish, "{topic}");
        }
        assert!(Grants::default().is_empty() && !grants.is_empty());
        assert!(Grants::all().allow(Right::Subscribe, "a/b:c.d"));
        assert!(Grants::all().allow(Right::Publish, "*"));
        assert_eq!(Grants::all().held_bytes(), 2 * (size_of::<TopicPattern>() + 2));
    }
}
