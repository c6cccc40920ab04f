//! Who publishes and subscribes to what.
//!
//! Publishers and subscribers are spread over the topics. What one publisher sends to one topic is
//! a *stream*, in which order and loss can be told: each publisher has one or, where there are more
//! topics than publishers, several.

use super::plan::Plan;

impl Plan {
    /// Topics that have paths of their own.
    pub fn paths(&self) -> u32 {
        if self.channels.is_some() { 1 } else { self.topics }
    }

    /// The topic of a connection, the first if it has several; publishers and subscribers are each
    /// spread evenly.
    pub fn topic(&self, id: u32) -> u32 {
        self.topic_at(id, 0)
    }

    /// Topics of each connection that subscribes.
    pub fn subscriptions(&self) -> u32 {
        self.channels.as_ref().map_or(1, |channels| channels.subscriptions)
    }

    /// The topic of one of a connection's subscriptions: they are as far apart as they can be.
    pub fn topic_at(&self, id: u32, place: u32) -> u32 {
        let first = id.checked_sub(self.publishers).unwrap_or(id);
        let step = self.topics / self.subscriptions().max(1);
        ((u64::from(first) + u64::from(place) * u64::from(step)) % u64::from(self.topics)) as u32
    }

    /// Which of a connection's subscriptions is that of a topic.
    pub fn subscription(&self, id: u32, topic: u32) -> Option<u32> {
        let behind = (topic + self.topics).checked_sub(self.topic(id))? % self.topics;
        let place = behind / (self.topics / self.subscriptions().max(1));
        (place < self.subscriptions() && self.topic_at(id, place) == topic).then_some(place)
    }

    /// Sequences of messages, each of one publisher to one topic.
    pub fn streams(&self) -> u32 {
        if self.publishers > 0 { self.publishers.max(self.topics) } else { 0 }
    }

    /// The streams of a topic.
    pub fn streams_of(&self, topic: u32) -> impl Iterator<Item = u32> + use<> {
        (topic..self.streams()).step_by(self.topics as usize)
    }

    /// The publisher of a stream, by its place among them.
    pub fn publisher_of(&self, stream: u32) -> u32 {
        stream % self.publishers.max(1)
    }

    /// The topic of a stream.
    pub fn topic_of(&self, stream: u32) -> u32 {
        stream % self.topics
    }
}

#[cfg(test)]
mod tests {
    use crate::bench::plan::tests::plan;

    #[test]
    fn roles_are_spread_over_topics() {
        let line = "ws://127.0.0.1:1/{topic} slow --publishers 4 --subscribers 100 --topics 2";
        let plan = plan(&format!("{line} --slow-share 25%")).expect("valid");
        assert_eq!(plan.streams_of(1).collect::<Vec<_>>(), [1, 3]);
        assert_eq!([plan.topic(3), plan.topic(4), plan.topic(5)], [1, 0, 1]);
        assert_eq!((0..plan.connections).filter(|&id| plan.is_slow(id)).count(), 25);
        assert_eq!((0..4).filter(|&id| plan.is_slow(id)).count(), 0);
    }

    #[test]
    fn subscriptions_are_spread_evenly_and_found_again() {
        let line = "ws://127.0.0.1:1/ broadcast --protocol centrifugo --publishers 3";
        for (topics, subscriptions) in [(1, 1), (7, 1), (7, 3), (12, 5), (10, 10)] {
            let counts = format!("--topics {topics} --subscriptions {subscriptions}");
            let plan = plan(&format!("{line} {counts} --subscribers {topics}")).expect("valid");
            let mut members = vec![0; topics as usize];
            for id in 3..3 + topics {
                let mut held = 0;
                for topic in 0..topics {
                    let Some(place) = plan.subscription(id, topic) else { continue };
                    assert_eq!(plan.topic_at(id, place), topic, "{counts} {id}");
                    held += 1;
                    members[topic as usize] += 1;
                }
                assert_eq!(held, subscriptions, "{counts} {id}");
            }
            assert!(members.iter().all(|&count| count == subscriptions), "{counts}: {members:?}");
        }
    }
}
